"""socketserver.ThreadingTCPServer: one thread a connection, blocking recv and sendall."""

from __future__ import annotations

import argparse
import contextlib
import socket
import socketserver


class Handler(socketserver.BaseRequestHandler):
    """Sends everything back until the peer closes its direction."""

    def handle(self) -> None:
        """A peer that resets ends its own thread, nothing else."""
        try:
            while data := self.request.recv(65536):
                self.request.sendall(data)
        except ConnectionError:
            return


class Server(socketserver.ThreadingTCPServer):
    """As the library has it, with a backlog for more than five clients at once."""

    allow_reuse_address = True
    daemon_threads = True
    request_queue_size = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    Server.address_family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    with Server((args.host, args.port), Handler) as server:
        print(f"listening on {args.host} port {server.server_address[1]}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how this program is meant to end
            server.serve_forever()


if __name__ == "__main__":
    main()
