"""A WSGI application on wsgiref.simple_server: GET says hello, POST returns its body."""

from __future__ import annotations

import argparse
import contextlib
import socket
from collections.abc import Iterable
from typing import TYPE_CHECKING
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIEnvironment


def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
    """The same application runs under gevent_wsgi.py."""
    body = b"hello\n"
    if environ["REQUEST_METHOD"] == "POST":
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]


class QuietHandler(WSGIRequestHandler):
    """Without a log line a request."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing is written."""


class Server(WSGIServer):
    """IPv4 or IPv6, as the host given on the command line has it."""

    request_queue_size = 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    Server.address_family = socket.AF_INET6 if ":" in args.host else socket.AF_INET
    with make_server(args.host, args.port, application, Server, QuietHandler) as server:
        print(f"listening on {args.host} port {server.server_port}", flush=True)
        with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how this program is meant to end
            server.serve_forever()


if __name__ == "__main__":
    main()
