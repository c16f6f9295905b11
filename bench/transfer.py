"""The two ends of a bulk transfer, on whichever stack runs them. bench/loss_grid.py starts them.

    python bench/transfer.py receive HOST PORT SECONDS   # listens, reads one connection for that long, then leaves
    python bench/transfer.py send HOST PORT [CONGESTION] # connects, sends until the other end has left

Each prints one JSON object. Times are those of CLOCK_MONOTONIC in seconds, which both ends share on one machine.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

CHUNK = 1 << 16
TIMEOUT_SECONDS = 30.0
LOOK_SECONDS = 0.05
# Descriptors of mtcp_patch's own stack have numbers from here on.
VIRTUAL = 1 << 30


def cpu_seconds() -> float:
    """Of this process, user and system."""
    times = os.times()
    return times.user + times.system


def receive(host: str, port: int, seconds: float) -> dict[str, object]:
    """Accepts one connection and reads it; its end before the time is up is an error."""
    buffer = bytearray(CHUNK)
    with socket.create_server((host, port)) as listener:
        listener.settimeout(TIMEOUT_SECONDS)
        connection, _ = listener.accept()
        with connection:
            started, cpu = time.monotonic(), cpu_seconds()
            connection.settimeout(LOOK_SECONDS)
            ours = connection.fileno() >= VIRTUAL
            total, now = 0, started
            while (now := time.monotonic()) < started + seconds:
                try:
                    count = connection.recv_into(buffer)
                except TimeoutError:  # nothing came: look at the clock
                    continue
                if count == 0:
                    raise SystemExit("transfer: the sender ended before the time was up")
                total += count
            return {"end": now, "bytes": total, "ours": ours, "cpu_seconds": cpu_seconds() - cpu}


def send(host: str, port: int, congestion: str | None) -> dict[str, object]:
    """Sends as fast as the stack takes it, until the receiver has left."""
    chunk = bytes(range(256)) * (CHUNK // 256)
    with socket.socket() as connection:
        if congestion is not None:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, congestion.encode())
        connection.settimeout(TIMEOUT_SECONDS)
        connection.connect((host, port))
        connected, cpu = time.monotonic(), cpu_seconds()
        ours = connection.fileno() >= VIRTUAL
        print(json.dumps({"connected": connected, "ours": ours}), flush=True)
        total = 0
        try:
            while True:
                total += connection.send(chunk)
        except ConnectionError:  # reset: the receiver left with data unread
            return {"bytes": total, "cpu_seconds": cpu_seconds() - cpu}


def main() -> None:
    match sys.argv[1:]:
        case ["receive", host, port, seconds]:
            print(json.dumps(receive(host, int(port), float(seconds))), flush=True)
        case ["send", host, port, *congestion] if len(congestion) < 2:
            print(json.dumps(send(host, int(port), next(iter(congestion), None))), flush=True)
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main()
