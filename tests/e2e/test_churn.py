"""Connections opened and closed in a row: no memory, descriptor or port stays behind.

2,000 by default, 10,000 with --full.
"""

from __future__ import annotations

import socket

import pytest
from support.netns import Netns
from support.programs import OURS, Programs, wait_until

PORT = 8000
LO = ("--device", "xdp:lo", "--require")
GROWTH_LIMIT = 1.05


@pytest.fixture
def count(request: pytest.FixtureRequest) -> int:
    """How many connections."""
    return 10_000 if request.config.getoption("--full") else 2_000


def one_connection(ns_socket: socket.socket) -> None:
    """One message there and back; our side closes first."""
    with ns_socket as sock:
        sock.sendall(b"0123456789")
        assert sock.recv(100) == b"0123456789"


@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ["selectors_echo", "threading_echo"])
def test_accepted(programs: Programs, netns: Netns, stack: str, count: int, name: str) -> None:
    """Accepted connections; resident memory stays within 5 % over the second half."""
    server = programs.example(name, stack=stack, ns=netns, port=PORT, options=LO)
    one_connection(netns.connect(("127.0.0.1", PORT)))
    descriptors = server.descriptors()
    with netns.entered():
        for number in range(count):
            if number == count // 2:
                half = server.rss_bytes()
            sock = socket.create_connection(("127.0.0.1", PORT), timeout=10)
            one_connection(sock)
    assert server.rss_bytes() <= half * GROWTH_LIMIT, (half, server.rss_bytes())
    # Four threads' wake-ups are kept for the next ones that block.
    wait_until(lambda: server.descriptors() <= descriptors + 4, lambda: f"{server.descriptors()} descriptors are open")
    if stack == OURS:
        wait_until(
            lambda: not [c for c in server.listing()["connections"] if c["state"] != "TIME-WAIT"],
            lambda: str(server.listing()["connections"]),
        )


CONNECT_IN_A_ROW = """
import os, resource, socket, sys
port, count, first = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
def rss():
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1])
for number in range(count):
    if number == count // 2:
        half = rss()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sock.sendall(b"GET / HTTP/1.%d\\r\\n\\r\\n" % (first == "ours"))  # 1.1: the server keeps it open
        if first == "theirs":
            while sock.recv(1000):
                pass
        else:
            assert sock.recv(1000).startswith(b"HTTP/1.1 200")
print(half, rss(), len(os.listdir("/proc/self/fd")), flush=True)
"""


@pytest.mark.timeout(240)
@pytest.mark.parametrize("first", ["ours", "theirs"])
def test_connected(programs: Programs, netns: Netns, stack: str, count: int, first: str) -> None:
    """Connections made by our side under a limit of 256 descriptors, whichever side closes first."""
    programs.example("http_upload", ns=netns, port=PORT)
    argv = ["-c", CONNECT_IN_A_ROW, str(PORT), str(count), first]
    client = programs.start(argv, stack=stack, ns=netns, options=LO)
    assert client.wait(200) == 0, client.stderr()
    half, end, descriptors = (int(word) for word in client.stdout().split())
    assert end <= half * GROWTH_LIMIT, (half, end)
    assert descriptors < 64, descriptors


def test_port_is_free_again(programs: Programs, netns: Netns, stack: str) -> None:
    """After a normal end a stock program may bind the port, as after any other Python server."""
    server = programs.example("selectors_echo", stack=stack, ns=netns, port=PORT, options=LO)
    one_connection(netns.connect(("127.0.0.1", PORT)))
    server.stop()
    with netns.new_socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(("127.0.0.1", PORT))
        sock.listen()
