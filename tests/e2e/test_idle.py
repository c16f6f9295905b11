"""A server that has nothing to do uses no CPU: with and without open connections, in every kind of wait."""

from __future__ import annotations

import time

import pytest
from support import need
from support.netns import Netns
from support.programs import OURS, Programs

PORT = 8000
LO = ("--device", "xdp:lo")
IDLE_SECONDS = 2.0
SHARE_OF_A_CORE = 0.05


@pytest.mark.parametrize(
    "name", ["selectors_echo", "threading_echo", "asyncio_streams_echo", "gevent_echo", "http_upload"]
)
def test_idle_server(programs: Programs, netns: Netns, stack: str, name: str) -> None:
    """CPU time, not elapsed time, over two seconds with two open, silent connections."""
    if name.startswith("gevent"):
        need.module("gevent")
    server = programs.example(name, stack=stack, ns=netns, port=PORT, options=LO if stack == OURS else ())
    with netns.connect(("127.0.0.1", PORT)) as first, netns.connect(("127.0.0.1", PORT)) as second:
        if name != "http_upload":
            for sock in (first, second):
                sock.sendall(b"x")
                assert sock.recv(1) == b"x"
        time.sleep(0.3)  # delayed ACKs and the like are work, not idleness
        before = server.cpu_seconds()
        time.sleep(IDLE_SECONDS)
        used = server.cpu_seconds() - before
    assert used < IDLE_SECONDS * SHARE_OF_A_CORE, f"{used / IDLE_SECONDS:.1%} of a core while idle"
