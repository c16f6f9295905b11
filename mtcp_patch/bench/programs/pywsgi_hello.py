"""gevent.pywsgi. `--nodelay`: with TCP_NODELAY, which accepted sockets inherit."""

import argparse

from gevent import socket
from gevent.pywsgi import WSGIServer

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=8000)
parser.add_argument("--nodelay", action="store_true")
args = parser.parse_args()


def application(environ, start_response):  # type: ignore[no-untyped-def]
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "12")])
    return [b"hello world\n"]


listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
if args.nodelay:
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
listener.bind((args.host, args.port))
listener.listen(4096)
WSGIServer(listener, application, log=None).serve_forever()
