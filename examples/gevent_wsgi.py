"""A WSGI application on gevent.pywsgi: GET says hello, POST returns its body. Needs gevent."""

from __future__ import annotations

import argparse
import contextlib

from gevent.pywsgi import WSGIServer
from wsgiref_app import application


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    args = parser.parse_args()
    server = WSGIServer((args.host, args.port), application, log=None, backlog=1024)
    server.start()
    print(f"listening on {args.host} port {server.server_port}", flush=True)
    with contextlib.suppress(KeyboardInterrupt):  # Ctrl-C is how this program is meant to end
        server.serve_forever()


if __name__ == "__main__":
    main()
