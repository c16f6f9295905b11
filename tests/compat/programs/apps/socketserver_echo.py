"""A socketserver of the kind named, echoing lines."""

import socketserver
import sys


class Echo(socketserver.StreamRequestHandler):
    def handle(self):
        for line in self.rfile:
            self.wfile.write(line)


kind = getattr(socketserver, sys.argv[1])
kind.allow_reuse_address = True
with kind(("127.0.0.1", 8000), Echo) as server:
    server.serve_forever()
