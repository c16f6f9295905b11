"""http.server with HTTP/1.1: a file of 64 bytes a request, connections kept. `--nodelay`: with TCP_NODELAY."""

import argparse
import functools
import http.server
import pathlib
import tempfile

parser = argparse.ArgumentParser()
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=8000)
parser.add_argument("--nodelay", action="store_true")
args = parser.parse_args()


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = args.nodelay

    def log_message(self, format: str, *args: object) -> None:
        pass  # a line a request would cost more than the request


class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 4096


with tempfile.TemporaryDirectory() as folder:
    pathlib.Path(folder, "index.html").write_bytes(b"x" * 64)
    with Server((args.host, args.port), functools.partial(Handler, directory=folder)) as server:
        server.serve_forever()
