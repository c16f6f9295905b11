"""The ports that connect() chooses (RFC 6056): the kernel's choice, because a kernel socket reserves each of them."""

from __future__ import annotations

import itertools
import json

import pytest
from support.netns import Netns
from support.programs import OURS, Programs

PORT = 8000
COUNT = 40

CONNECT = """
import errno, json, socket, sys
ports = []
for _ in range(int(sys.argv[2])):
    with socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=10) as sock:
        ports.append(sock.getsockname()[1])
        virtual = sock.fileno() >= 1 << 30
        with socket.socket() as other:
            try:
                other.bind(("127.0.0.1", ports[-1]))
                taken = False
            except OSError as error:
                taken = error.errno == errno.EADDRINUSE
        sock.sendall(b"?")
        assert sock.recv(1) == b"?"
with open("/proc/sys/net/ipv4/ip_local_port_range") as file:
    low, high = map(int, file.read().split())
print(json.dumps({"ports": ports, "virtual": virtual, "taken": taken, "low": low, "high": high}))
"""


@pytest.mark.timeout(120)
def test_a_stranger_cannot_foresee_the_next_port(programs: Programs, netns: Netns, stack: str) -> None:
    """RFC 6056 3.1: within the range, taken while it is used, and (ours: bind's choice) each at random."""
    programs.example("selectors_echo", ns=netns, port=PORT)
    argv = ["-c", CONNECT, str(PORT), str(COUNT)]
    client = programs.start(argv, stack=stack, ns=netns, options=("--device", "xdp:lo", "--require"))
    assert client.wait(60) == 0, client.stderr()
    said = json.loads(client.stdout())
    assert said["virtual"] == (stack == OURS)
    assert said["taken"], "another socket could bind the port"
    ports = said["ports"]
    assert all(said["low"] <= port <= said["high"] for port in ports)
    assert len(set(ports)) >= COUNT - 2, "a port came back at once"
    if stack == OURS:
        steps = [b - a for a, b in itertools.pairwise(ports)]
        assert len(set(steps)) > COUNT // 2, steps
        assert sum(abs(step) > 256 for step in steps) > COUNT // 2, steps
