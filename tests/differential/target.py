"""The program that both stacks run: accepts everything, and does to its connections what it is told.

A line of standard input is a JSON list of [peer's port, call, argument]; the answer is one JSON list of results:
``["ok", ...]``, ``["error", NAME]`` or ``["none"]`` when no such connection has been accepted.
"""

from __future__ import annotations

import errno
import json
import select
import socket
import struct
import sys
import zlib
from typing import Any

LINGER_ZERO = struct.pack("ii", 1, 0)


def pattern(count: int) -> bytes:
    """What the program sends."""
    return bytes(at * 7 % 251 for at in range(count))


def call(connections: dict[int, socket.socket], port: int, name: str, argument: int) -> list[Any]:
    """One call on one connection."""
    connection = connections.get(port)
    if connection is None:
        return ["none"]
    try:
        if name == "recv":
            data = connection.recv(argument)
            return ["ok", len(data), zlib.crc32(data)]
        if name == "send":
            return ["ok", connection.send(pattern(argument))]
        if name == "shutdown":
            connection.shutdown(argument)
            return ["ok"]
        if name == "abort":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_ZERO)
        connections.pop(port).close()
    except OSError as error:
        return ["error", errno.errorcode.get(error.errno or 0, str(error))]
    return ["ok"]


def main() -> None:
    connections: dict[int, socket.socket] = {}
    with socket.create_server((sys.argv[1], int(sys.argv[2])), backlog=1024) as listener:
        listener.setblocking(False)
        while True:
            ready, _, _ = select.select([sys.stdin, listener], [], [])
            if listener in ready:
                try:
                    connection, address = listener.accept()
                except BlockingIOError:
                    continue
                connection.setblocking(False)
                # when a held back write leaves is a matter of probes and timers, not of replies
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                connections[address[1]] = connection
            if sys.stdin in ready:
                line = sys.stdin.readline()
                if not line:
                    return
                results = [call(connections, *order) for order in json.loads(line)]
                print(json.dumps(results), flush=True)


if __name__ == "__main__":
    main()
