"""An echo on gevent's StreamServer."""

import argparse

from gevent import socket
from gevent.server import StreamServer

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=8000)
args = parser.parse_args()


def echo(sock: socket.socket, address: object) -> None:
    try:
        while data := sock.recv(4096):
            sock.sendall(data)
    except ConnectionError:
        pass
    sock.close()


StreamServer((args.host, args.port), echo, backlog=4096).serve_forever()
