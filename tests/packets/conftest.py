"""An echo server behind a veth pair, on both stacks, and a peer made of scapy packets.

A module's tests share one server for each stack and IP version; each test has source ports of its own, and after each
the server must still answer. A server that has died is replaced, so that one crash fails one test.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from support import need
from support.netns import Netns, make_veth
from support.programs import OURS, Program, Programs
from support.segments import Peer

PORT = 8000
OPTIONS = ("--device", "xdp:veth", "--require")


@dataclass
class Rig:
    """The two namespaces, the server in one, the peer in the other."""

    stack: str
    family: int
    example: str
    programs: Programs = field(default_factory=Programs)

    def __post_init__(self) -> None:
        self.namespaces: list[Netns] = []
        try:
            self.namespaces += [Netns("server"), Netns("peer")]
            wire = make_veth(*self.namespaces, client_addresses=False)
            host = wire.server4 if self.family == 4 else wire.server6
            self.server = self.programs.example(
                self.example, stack=self.stack, ns=wire.server, host=host, port=PORT, options=OPTIONS
            )
            self.peer = Peer(wire, self.family, PORT)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Ends the server and removes the namespaces."""
        self.programs.close()
        for ns in self.namespaces:
            ns.delete()

    def assert_answers(self) -> None:
        """The server is alive and well, and our stack carried what it should."""
        self.peer.drain()
        conversation = self.peer.open()
        if self.example == "selectors_echo":
            conversation.data(b"still there?")
            assert conversation.receive(12) == b"still there?"
            conversation.close()
        assert self.server.running(), self.server.stderr()
        assert "panic" not in self.server.stderr(), self.server.stderr()
        assert "Traceback" not in self.server.stderr(), self.server.stderr()
        if self.stack == OURS:
            assert self.server.listing()["counters"]["packets_in"] > 0, "our stack saw nothing of it"


@pytest.fixture(scope="module")
def rigs() -> Iterator[dict[tuple[str, int, str], Rig]]:
    """What the module's tests share."""
    made: dict[tuple[str, int, str], Rig] = {}
    yield made
    for rig in made.values():
        rig.close()


@pytest.fixture(params=[4, 6], ids=["ipv4", "ipv6"])
def family(request: pytest.FixtureRequest) -> int:
    """IP version."""
    version: int = request.param
    return version


@pytest.fixture
def example() -> str:
    """The server under test; a test that needs another one parametrises it."""
    return "selectors_echo"


@pytest.fixture
def rig(rigs: dict[tuple[str, int, str], Rig], stack: str, family: int, example: str) -> Iterator[Rig]:
    """One of the module's, alive."""
    need.root()
    need.tool("ip")
    need.module("scapy")
    key = stack, family, example
    if key in rigs and not rigs[key].server.running():
        rigs.pop(key).close()
    if key not in rigs:
        rigs[key] = Rig(stack, family, example)
    try:
        yield rigs[key]
        rigs[key].assert_answers()
    except BaseException:
        rigs.pop(key).close()  # the next test starts afresh
        raise


@pytest.fixture
def server(rig: Rig) -> Program:
    """The program under test."""
    return rig.server


@pytest.fixture
def peer(rig: Rig) -> Peer:
    """The hand-made peer, with a source port that no test before had."""
    rig.peer.drain()
    rig.peer.sport = next(rig.peer.ports)
    return rig.peer
