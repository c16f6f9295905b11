"""An echo on socketserver.ThreadingTCPServer."""

import argparse
import socketserver

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=8000)
args = parser.parse_args()


class Handler(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        try:
            while data := self.request.recv(4096):
                self.request.sendall(data)
        except ConnectionError:
            pass


class Server(socketserver.ThreadingTCPServer):
    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 4096  # as shipped 5, with which clients wait seconds for lost SYNs


with Server((args.host, args.port), Handler) as server:
    server.serve_forever()
