"""An HTTP server for large bodies: POST or PUT hashes what arrives, GET /bytes/N sends N bytes.

Bodies are streamed in both directions, so 100 MB costs no more memory than one chunk.
The reply to an upload is a JSON object: {"bytes": N, "sha256": "..."}; a download carries its
hash in the X-SHA256 header, so that either side can compare.

Errors: 400 for a bad number, 404 for another path, 411 for a body without Content-Length.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import socket
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

CHUNK_BYTES = 256 * 1024
LIMIT_BYTES = 1 << 30


def pattern(total_bytes: int) -> Iterator[bytes]:
    """Yields total_bytes of reproducible content: no chunk equals the one before it."""
    sent, index = 0, 0
    while sent < total_bytes:
        block = hashlib.sha256(index.to_bytes(8, "big")).digest() * (CHUNK_BYTES // 32)
        yield block[: total_bytes - sent]
        sent += len(block)
        index += 1


def pattern_sha256(total_bytes: int) -> str:
    """The hash of what pattern() yields."""
    digest = hashlib.sha256()
    for block in pattern(total_bytes):
        digest.update(block)
    return digest.hexdigest()


class Handler(BaseHTTPRequestHandler):
    """Streams in and out; HTTP/1.1, so one connection may carry many requests."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """/bytes/N sends N bytes; / says hello."""
        if self.path == "/":
            self._reply(200, b"hello\n", "text/plain")
            return
        prefix, _, number = self.path.rpartition("/")
        if prefix != "/bytes":
            self.send_error(404)
            return
        if not number.isdecimal() or int(number) > LIMIT_BYTES:
            self.send_error(400, "not a number of bytes")
            return
        total = int(number)
        self.send_response(200)
        self.send_header("Content-Type", "application/octet-stream")
        self.send_header("Content-Length", str(total))
        self.send_header("X-SHA256", pattern_sha256(total))
        self.end_headers()
        for block in pattern(total):
            self.wfile.write(block)

    def do_POST(self) -> None:
        """Reads the body, never more than a chunk at a time, and answers with its hash."""
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal():
            self.send_error(411)
            return
        left = total = int(length)
        digest = hashlib.sha256()
        while left:
            chunk = self.rfile.read(min(left, CHUNK_BYTES))
            if not chunk:
                self.close_connection = True
                return  # the client vanished in the middle: nobody is there to answer
            digest.update(chunk)
            left -= len(chunk)
        body = json.dumps({"bytes": total, "sha256": digest.hexdigest()}).encode()
        self._reply(200, body, "application/json")

    do_PUT = do_POST

    def _reply(self, code: int, body: bytes, kind: str) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Silent: a log line a request would be most of the cost of a small one."""


class Server(ThreadingHTTPServer):
    """IPv4 or IPv6, as the host given on the command line has it."""

    request_queue_size = 1024
    daemon_threads = True


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
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
