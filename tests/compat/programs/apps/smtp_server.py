"""An SMTP server of aiosmtpd, in its thread."""

import signal

from aiosmtpd.controller import Controller


class Handler:
    async def handle_DATA(self, server, session, envelope):
        size = len(envelope.content)
        return f"250 {size} bytes from {envelope.mail_from} for {','.join(envelope.rcpt_tos)}"


controller = Controller(Handler(), hostname="127.0.0.1", port=8000)
controller.start()
signal.pause()
