"""gevent StreamServer: one greenlet a connection. Needs gevent."""

from __future__ import annotations

import argparse
import contextlib

from gevent import socket
from gevent.server import StreamServer


def echo(sock: socket.socket, address: object) -> None:
    """Sends everything back until the peer closes its direction; the server closes the socket."""
    try:
        while data := sock.recv(65536):
            sock.sendall(data)
    except ConnectionError:
        return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    server = StreamServer((args.host, args.port), echo, backlog=1024)
    server.start()
    print(f"listening on {args.host} port {server.server_port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how this program is meant to end
        server.serve_forever()


if __name__ == "__main__":
    main()
