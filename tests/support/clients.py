"""Clients on the kernel: what a stock peer of the program under test does."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import socket
import threading
from collections.abc import Iterator

from support.netns import Netns

CHUNK_BYTES = 256 * 1024


def pattern(total_bytes: int) -> Iterator[bytes]:
    """Reproducible content, no block equal to the one before it."""
    sent, index = 0, 0
    while sent < total_bytes:
        block = hashlib.sha256(b"test" + index.to_bytes(8, "big")).digest() * (CHUNK_BYTES // 32)
        yield block[: total_bytes - sent]
        sent += len(block)
        index += 1


@contextlib.contextmanager
def http_connection(ns: Netns, address: tuple[str, int], timeout: float = 30) -> Iterator[http.client.HTTPConnection]:
    """http.client on a kernel socket inside ns."""
    connection = http.client.HTTPConnection("test", timeout=timeout)
    connection.sock = ns.connect(address, timeout)
    try:
        yield connection
    finally:
        connection.close()


def upload_matches(connection: http.client.HTTPConnection, total_bytes: int) -> bool:
    """Uploads to examples/http_upload.py; whether it received exactly what was sent."""
    digest = hashlib.sha256()

    def body() -> Iterator[bytes]:
        for block in pattern(total_bytes):
            digest.update(block)
            yield block

    connection.request("POST", "/", body=body(), headers={"Content-Length": str(total_bytes)})
    answer = json.loads(connection.getresponse().read())
    return bool(answer == {"bytes": total_bytes, "sha256": digest.hexdigest()})


def download_matches(connection: http.client.HTTPConnection, total_bytes: int) -> bool:
    """Downloads from examples/http_upload.py; whether exactly what it announced came."""
    connection.request("GET", f"/bytes/{total_bytes}")
    reply = connection.getresponse()
    digest, received = hashlib.sha256(), 0
    while chunk := reply.read(CHUNK_BYTES):
        digest.update(chunk)
        received += len(chunk)
    return received == total_bytes and digest.hexdigest() == reply.headers["X-SHA256"]


def receive_exactly(sock: socket.socket, count: int) -> bytes:
    """count bytes; fewer only when the peer ended before."""
    parts = []
    while count and (part := sock.recv(min(count, 65536))):
        parts.append(part)
        count -= len(part)
    return b"".join(parts)


def echo_matches(sock: socket.socket, data: bytes) -> bool:
    """Sends data to an echo server and compares; both directions flow at once, so no size deadlocks."""
    writer = threading.Thread(target=sock.sendall, args=(data,), daemon=True)
    writer.start()
    received = receive_exactly(sock, len(data))
    writer.join(10)
    return received == data
