"""One connection, 256 KiB a call: `--kind sink` reads all that comes, `--kind source` sends without end."""

import argparse
import socket

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=8000)
parser.add_argument("--kind", choices=("sink", "source"), default="sink")
args = parser.parse_args()

buffer = bytearray(256 * 1024)

with socket.create_server((args.host, args.port), backlog=16) as server:
    while True:
        sock, _ = server.accept()
        with sock:
            try:
                if args.kind == "sink":
                    while sock.recv_into(buffer):
                        pass
                else:
                    while True:
                        sock.sendall(buffer)
            except ConnectionError:
                pass
