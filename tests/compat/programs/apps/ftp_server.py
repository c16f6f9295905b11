"""An FTP server of pyftpdlib: ``ftp_server.py loop|threads DIRECTORY``."""

import sys

from pyftpdlib.authorizers import DummyAuthorizer
from pyftpdlib.handlers import FTPHandler
from pyftpdlib.servers import FTPServer, ThreadedFTPServer

authorizer = DummyAuthorizer()
authorizer.add_user("user", "secret", sys.argv[2], perm="elradfmw")
FTPHandler.authorizer = authorizer
{"loop": FTPServer, "threads": ThreadedFTPServer}[sys.argv[1]](("127.0.0.1", 8000), FTPHandler).serve_forever()
