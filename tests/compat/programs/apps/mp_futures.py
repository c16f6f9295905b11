"""Workers of concurrent.futures as clients of a server in the parent: ``mp_futures.py METHOD``."""

import concurrent.futures
import http.server
import multiprocessing
import sys
import threading
import urllib.request

from content import BIG


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", str(len(BIG)))
        self.end_headers()
        self.wfile.write(BIG)

    def log_message(self, *_args):
        pass


def fetch(port):
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20) as reply:
        return reply.read() == BIG


def main():
    context = multiprocessing.get_context(sys.argv[1])
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        assert pool.submit(abs, -1).result(30) == 1  # the workers are there before the server's threads
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        assert all(pool.map(fetch, [server.server_port] * 8, timeout=40))
        server.shutdown()
    print("the same")


if __name__ == "__main__":
    main()
