"""ftplib, active and passive, both ways: ``ftp_client.py [CERTIFICATE]``, with which it is FTP over TLS."""

import ftplib
import io
import os
import ssl
import sys

data = os.urandom(1_500_000)
if sys.argv[1:]:
    ftp = ftplib.FTP_TLS(timeout=20, context=ssl.create_default_context(cafile=sys.argv[1]))
else:
    ftp = ftplib.FTP(timeout=20)
with ftp:
    ftp.connect("localhost", 8000)
    ftp.login("user", "secret")
    if sys.argv[1:]:
        ftp.prot_p()
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
