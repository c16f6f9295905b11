"""urllib.request: fetches a page and prints the number of bytes and their hash.

Exit status 1, with the reason on stderr, when the server cannot be reached or refuses.
"""

from __future__ import annotations

import argparse
import hashlib
import sys
import urllib.error
import urllib.request

CHUNK_BYTES = 256 * 1024


def main() -> int:
    parser = argparse.ArgumentParser(description="Fetch a page with urllib.request.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--path", default="/")
    parser.add_argument("--timeout", type=float, default=30.0, help="seconds (default 30)")
    args = parser.parse_args()
    host = f"[{args.host}]" if ":" in args.host else args.host
    digest, total = hashlib.sha256(), 0
    # an opener without proxies: the environment's proxy is not for a server named by address
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{args.port}{args.path}", timeout=args.timeout) as reply:
            while chunk := reply.read(CHUNK_BYTES):
                digest.update(chunk)
                total += len(chunk)
            print(f"{reply.status} {total} bytes sha256 {digest.hexdigest()}")
    except (urllib.error.URLError, OSError) as error:
        print(f"client_urllib: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
