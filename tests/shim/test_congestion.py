"""TCP_CONGESTION on both stacks: the kernel is the specification."""

from __future__ import annotations

import errno
import os
import socket
from pathlib import Path

import pytest

from .conftest import Sockets

TCP, CONGESTION = socket.IPPROTO_TCP, socket.TCP_CONGESTION
IPV4 = Path("/proc/sys/net/ipv4")
# tcp(7): without CAP_NET_ADMIN only these.
ALLOWED = (IPV4 / "tcp_allowed_congestion_control").read_bytes().split()
needs_cubic = pytest.mark.skipif(os.geteuid() != 0 and b"cubic" not in ALLOWED, reason="cubic is not allowed here")


def name(s: socket.socket) -> bytes:
    """The algorithm's name as getsockopt(2) has it: 16 bytes."""
    return s.getsockopt(TCP, CONGESTION, 16)


def padded(text: bytes) -> bytes:
    """What Linux answers for `text`."""
    return text.ljust(16, b"\0")


def choose(s: socket.socket, value: bytes) -> int:
    """Sets the algorithm; the errno of a failure."""
    try:
        s.setsockopt(TCP, CONGESTION, value)
    except OSError as error:
        return error.errno or -1
    return 0


@pytest.mark.parametrize("algorithm", [b"reno", pytest.param(b"cubic", marks=needs_cubic), b"reno\0trailing"])
def test_chosen_before_connecting(sockets: Sockets, algorithm: bytes) -> None:
    listener = sockets.listener()
    client = sockets.tcp()
    client.settimeout(10)
    assert choose(client, algorithm) == 0
    client.connect(listener.getsockname())
    assert name(client) == padded(algorithm.split(b"\0")[0])


@needs_cubic
def test_chosen_while_connected(sockets: Sockets) -> None:
    client, server = sockets.pair()
    for end in (client, server):
        for algorithm in (b"reno", b"cubic", b"reno"):
            assert choose(end, algorithm) == 0
            assert name(end) == padded(algorithm)
    client.sendall(b"x" * 100_000)
    received = 0
    while received < 100_000:
        received += len(server.recv(65536))


@needs_cubic
@pytest.mark.parametrize("after_listen", [False, True])
def test_inherited_from_the_listener(sockets: Sockets, after_listen: bool) -> None:
    listener = sockets.tcp()
    listener.bind(("127.0.0.1", 0))
    if not after_listen:
        listener.setsockopt(TCP, CONGESTION, b"reno")
    listener.listen()
    if after_listen:
        listener.setsockopt(TCP, CONGESTION, b"reno")
    assert name(listener) == padded(b"reno")
    client = sockets.tcp()
    client.settimeout(10)
    client.connect(listener.getsockname())
    listener.settimeout(10)
    server = sockets.keep(listener.accept()[0])
    assert name(server) == padded(b"reno")
    # The peer's choice is its own.
    assert choose(client, b"cubic") == 0
    assert (name(client), name(server)) == (padded(b"cubic"), padded(b"reno"))


def test_errors_and_short_buffers_are_the_kernels(stack: str, sockets: Sockets) -> None:
    for end in (sockets.tcp(), sockets.listener(), *sockets.pair()):
        assert choose(end, b"no_such_thing") == errno.ENOENT
        assert choose(end, b"x" * 40) == errno.ENOENT
        assert choose(end, b"\0") == errno.ENOENT
        assert choose(end, b"") == errno.EINVAL
        assert choose(end, b"reno") == 0
        assert end.getsockopt(TCP, CONGESTION, 3) == b"ren"
        assert end.getsockopt(TCP, CONGESTION, 100) == padded(b"reno")
        assert end.getsockopt(TCP, CONGESTION) == int.from_bytes(b"reno", "little")


def test_the_default_of_a_connection(stack: str, sockets: Sockets) -> None:
    client, _ = sockets.pair()
    default = (IPV4 / "tcp_congestion_control").read_bytes().strip()
    assert name(client) == padded(default if stack == "kernel" else b"cubic")
