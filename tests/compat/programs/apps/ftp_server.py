"""An FTP server of pyftpdlib: ``ftp_server.py loop|threads DIRECTORY [CERTIFICATE KEY]``."""

import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer, ThreadedFTPServer

kind, directory, *certificate = sys.argv[1:]
handler = FTPHandler
if certificate:
    from pyftpdlib.handlers import TLS_FTPHandler

    handler = TLS_FTPHandler
    handler.certfile, handler.keyfile = certificate
    handler.tls_control_required = handler.tls_data_required = True
authorizer = DummyAuthorizer()
authorizer.add_user("user", "secret", directory, perm="elradfmw")
handler.authorizer = authorizer
{"loop": FTPServer, "threads": ThreadedFTPServer}[kind](("127.0.0.1", 8000), handler).serve_forever()
