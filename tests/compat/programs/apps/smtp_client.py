"""smtplib: long messages."""

import smtplib

for _ in range(3):
    with smtplib.SMTP("127.0.0.1", 8000, timeout=20) as smtp:
        smtp.ehlo()
        smtp.mail("a@example.org")
        smtp.rcpt("b@example.org")
        code, text = smtp.data("\r\n".join(f"{n:060}" for n in range(5000)))
        assert code == 250 and text == b"310000 bytes from a@example.org for b@example.org", text
        assert not smtp.sendmail("a@example.org", ["c@example.org"], "Subject: x\n\nshort\n")
print("accepted")
