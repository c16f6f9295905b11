"""Every option of the table on our sockets and on the kernel's: the same answers and errnos, or a stated difference.

A value is set and read back on fresh, listening, connected and accepted sockets of both stacks. What may differ is
decided by the table's own word for an option: only `kernel` may be refused where the kernel takes it.
"""

from __future__ import annotations

import errno
import socket
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import KERNEL, OURS, Sockets

ROOT = Path(__file__).resolve().parents[2]
VALUES: list[int | bytes] = [
    0, 1, 2, 3, 100, 1100, 32768, 100_000, -1, 2**31 - 1, b"\1", b"\1\0\0\0\5\0\0\0",
    struct.pack("ll", 0, 0), struct.pack("ll", 1, 500_000), struct.pack("ll", 1, 10**6), struct.pack("ll", -1, 0),
]  # fmt: skip


def table() -> list[tuple[int, int, str, str, str]]:
    from mtcp_patch.stack import _native

    return _native.socket_options()


OPTIONS = {f"{label}": (level, number, word) for level, number, label, word, _ in table()}

# Answers that tell of a connection's traffic or of a buffer's size, which two stacks have in common only by chance.
OWN_NUMBERS = {
    "TCP_MAXSEG": "timestamps and the MTU of the path",
    "TCP_WINDOW_CLAMP": "the largest window that the buffer allows",
    "SO_RCVBUF": "tuned by itself until it is set",
    "SO_SNDBUF": "tuned by itself until it is set",
    "TCP_QUICKACK": "whether answers carried acknowledgments so far",
    "IPV6_PATHMTU": "the MTU of the path",
    "TCP_CC_INFO": "of the kernel's algorithm",
    "TCP_CONGESTION": "the system has another default than cubic",
    "SO_INCOMING_CPU": "no interrupt brought our packets",
    "SO_PEERSEC": "no security module",
    "IP_MULTICAST_TTL": "the kernel keeps the peer's TTL there",
    "IPV6_MULTICAST_HOPS": "the kernel keeps the peer's hop limit there",
    "IPV6_MULTICAST_IF": "the kernel keeps the interface of arrival there",
}
# Never the same twice.
OF_THE_MOMENT = {
    "TCP_INFO": "times, and of a listener the length of our accept queue",
    "TCP_TIMESTAMP": "a clock",
    "TCP_ZEROCOPY_RECEIVE": "takes its arguments in the buffer of the answer",
}


def tried(call: Callable[..., Any], *args: Any) -> Any:
    """What a call gives, or its errno."""
    try:
        return call(*args)
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, error.errno)


def both(body: Callable[[Sockets], Any]) -> tuple[Any, Any]:
    """What `body` gives on the kernel's sockets and on ours."""
    import mtcp_patch

    results = {}
    for stack in (KERNEL, OURS):
        if stack == OURS:
            mtcp_patch.install(device=["memory"])
        sockets = Sockets(stack)
        try:
            results[stack] = body(sockets)
        finally:
            sockets.close()
            if stack == OURS:
                mtcp_patch.uninstall()
    return results[KERNEL], results[OURS]


def subject(sockets: Sockets, state: str, family: int = socket.AF_INET) -> socket.socket:
    """A socket in `state`."""
    host = "::1" if family == socket.AF_INET6 else "127.0.0.1"
    if state == "fresh":
        return sockets.tcp(family)
    if state == "listening":
        return sockets.listener(host)
    client, server = sockets.pair(host)
    return client if state == "connected" else server


def set_and_read(sock: socket.socket, level: int, number: int, value: int | bytes) -> tuple[Any, Any]:
    """The outcome of setsockopt and what getsockopt gives after it."""
    taken = tried(sock.setsockopt, level, number, value)
    return taken, tried(sock.getsockopt, level, number, 64)


@pytest.mark.parametrize("state", ["fresh", "listening", "connected", "accepted"])
@pytest.mark.parametrize("name", OPTIONS)
def test_every_option_answers_as_the_kernels(name: str, state: str) -> None:
    level, number, word = OPTIONS[name]
    family = socket.AF_INET6 if level == socket.IPPROTO_IPV6 else socket.AF_INET

    def body(sockets: Sockets) -> Any:
        untouched = tried(subject(sockets, state, family).getsockopt, level, number, 64)
        return untouched, [set_and_read(subject(sockets, state, family), level, number, value) for value in VALUES]

    (kernel_before, kernel), (ours_before, ours) = both(body)
    own = name in OF_THE_MOMENT or (name in OWN_NUMBERS and state in ("connected", "accepted"))
    if not own:
        assert ours_before == kernel_before
    for value, theirs, mine in zip(VALUES, kernel, ours, strict=True):
        if word == "kernel" and state != "fresh" and theirs[0] is None:
            assert mine[0] in ("ENOPROTOOPT", "EINVAL"), f"accepted and ignored: {value!r}"
            continue
        assert mine[0] == theirs[0], f"setsockopt({value!r})"
        if not own:
            assert mine[1] == theirs[1], f"getsockopt after {value!r}"


def test_the_table_has_every_option_that_python_names() -> None:
    import importlib.util

    spec = importlib.util.spec_from_file_location("socket_options", ROOT / "scripts" / "socket_options.py")
    assert spec is not None and spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert script.unnamed(table()) == []


def test_the_document_is_current() -> None:
    done = subprocess.run([sys.executable, "scripts/socket_options.py", "--check"], cwd=ROOT, check=False, timeout=60)
    assert done.returncode == 0, "run scripts/socket_options.py"
