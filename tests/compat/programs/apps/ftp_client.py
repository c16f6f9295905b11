"""ftplib, active and passive, both ways."""

import ftplib
import io
import os

data = os.urandom(1_500_000)
with ftplib.FTP(timeout=20) as ftp:
    ftp.connect("127.0.0.1", 8000)
    ftp.login("user", "secret")
    for passive in (True, False):
        ftp.set_pasv(passive)
        ftp.storbinary("STOR file", io.BytesIO(data))
        assert ftp.size("file") == len(data)
        back = io.BytesIO()
        ftp.retrbinary("RETR file", back.write)
        assert back.getvalue() == data
        assert [name for name, _ in ftp.mlsd()] == ["file"]
        assert ftp.nlst() == ["file"]
    ftp.quit()
print("the same")
