"""http.client: uploads a body of a given size and downloads one, over one kept-alive connection.

Talks to http_upload.py. Prints both hashes; exit status 1 when one of them is wrong.
"""

from __future__ import annotations

import argparse
import hashlib
import http.client
import json
import sys

from http_upload import CHUNK_BYTES, pattern, pattern_sha256


def upload(connection: http.client.HTTPConnection, total_bytes: int) -> str:
    """Streams total_bytes; returns the hash that the server computed."""
    length = {"Content-Length": str(total_bytes)}
    connection.request("POST", "/", body=pattern(total_bytes), headers=length)
    reply = connection.getresponse()
    answer = json.loads(reply.read())
    return str(answer["sha256"])


def download(connection: http.client.HTTPConnection, total_bytes: int) -> str:
    """Returns the hash of what came."""
    connection.request("GET", f"/bytes/{total_bytes}")
    reply = connection.getresponse()
    digest = hashlib.sha256()
    while chunk := reply.read(CHUNK_BYTES):
        digest.update(chunk)
    return digest.hexdigest()


def main() -> int:
    parser = argparse.ArgumentParser(description="Upload and download with http.client.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--bytes", type=int, default=1_000_000)
    parser.add_argument("--timeout", type=float, default=60.0, help="seconds (default 60)")
    args = parser.parse_args()
    connection = http.client.HTTPConnection(args.host, args.port, timeout=args.timeout)
    expected = pattern_sha256(args.bytes)
    up, down = upload(connection, args.bytes), download(connection, args.bytes)
    connection.close()
    print(f"up {args.bytes} bytes sha256 {up}\ndown {args.bytes} bytes sha256 {down}")
    return 0 if up == down == expected else 1


if __name__ == "__main__":
    sys.exit(main())
