"""socket.create_connection: sends some bytes to an echo server, compares what comes back.

A second thread reads while the main one writes, so that no size fills both directions and stalls.
Exit status 1 when the bytes differ.
"""

from __future__ import annotations

import argparse
import hashlib
import socket
import sys
import threading

from http_upload import pattern, pattern_sha256


def main() -> int:
    parser = argparse.ArgumentParser(description="Client of an echo server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--bytes", type=int, default=1_000_000)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds (default 60)")
    args = parser.parse_args()
    digest = hashlib.sha256()

    with socket.create_connection((args.host, args.port), timeout=args.timeout) as sock:

        def receive() -> None:
            while data := sock.recv(65536):
                digest.update(data)

        reader = threading.Thread(target=receive, daemon=True)
        reader.start()
        for block in pattern(args.bytes):
            sock.sendall(block)
        sock.shutdown(socket.SHUT_WR)
        reader.join(args.timeout)
    same = digest.hexdigest() == pattern_sha256(args.bytes)
    print(f"{args.bytes} bytes sent, the echo is {'the same' if same else 'different'}")
    return 0 if same else 1


if __name__ == "__main__":
    sys.exit(main())
