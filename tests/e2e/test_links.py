"""Links other than a perfect one: loss, repetition, reordering, small MTUs, several queues, many transfers at once."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Iterator

import pytest
from support.clients import download_matches, echo_matches, http_connection, upload_matches
from support.netns import Netns, make_veth
from support.programs import OURS, Programs
from support.rough_link import Faults, RoughLink

PORT = 8000
LO = ("--device", "xdp:lo", "--require")
VETH = ("--device", "xdp:veth", "--require")

ROUGH = {
    "loss": Faults(lost=0.01),
    "much loss": Faults(lost=0.05),
    "reordering": Faults(reordered=0.1),
    "repetition": Faults(repeated=0.1),
    "all of it": Faults(lost=0.02, repeated=0.02, reordered=0.05, behind=8),
}


@pytest.fixture(params=ROUGH, ids=lambda name: str(name).replace(" ", "_"))
def rough(request: pytest.FixtureRequest, make_netns: Callable[[str], Netns]) -> Iterator[RoughLink]:
    """A link with faults."""
    link = RoughLink(make_netns("server"), make_netns("middle"), make_netns("client"), ROUGH[request.param])
    yield link
    link.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("version", [4, 6])
def test_rough_link(programs: Programs, rough: RoughLink, stack: str, version: int) -> None:
    """Every byte arrives, both ways, however the link treats the segments."""
    pair = rough.pair
    host = pair.server4 if version == 4 else pair.server6
    server = programs.example("http_upload", stack=stack, ns=pair.server, host=host, port=PORT, options=VETH)
    with http_connection(pair.client, (host, PORT), timeout=60) as connection:
        assert upload_matches(connection, 500_000)
        assert download_matches(connection, 500_000)
    assert rough.carried > 300
    if rough.faults.lost:
        assert rough.lost > 0
        if stack == OURS:
            assert server.listing()["counters"]["retransmits"] > 0


@pytest.mark.parametrize("mtu", [1280, 576, 9000])
def test_other_mtus(programs: Programs, make_netns: Callable[[str], Netns], stack: str, mtu: int) -> None:
    """The interface's MTU decides the segments; 9,000 is more than a frame buffer of ours takes in native mode."""
    pair = make_veth(make_netns("server"), make_netns("client"))
    for ns in (pair.server, pair.client):
        ns.ip("link", "set", "veth", "mtu", str(mtu))
    programs.example("http_upload", stack=stack, ns=pair.server, host=pair.server4, port=PORT, options=VETH)
    with http_connection(pair.client, (pair.server4, PORT)) as connection:
        assert upload_matches(connection, 3_000_000)
        assert download_matches(connection, 3_000_000)


def test_several_queues(programs: Programs, make_netns: Callable[[str], Netns], stack: str) -> None:
    """The peer's kernel spreads its flows over the queues as it likes; every one is served."""
    pair = make_veth(make_netns("server"), make_netns("client"), queues=2)
    programs.example("selectors_echo", stack=stack, ns=pair.server, host=pair.server4, port=PORT, options=VETH)
    socks = [pair.client.connect((pair.server4, PORT)) for _ in range(24)]
    for sock in socks:
        assert echo_matches(sock, bytes(range(256)) * 200)
        sock.close()


@pytest.mark.parametrize("name", ["http_upload", "gevent_wsgi"])
def test_many_transfers_at_once(programs: Programs, netns: Netns, stack: str, name: str) -> None:
    """Twelve uploads of 5 MB side by side."""
    server = programs.example(name, stack=stack, ns=netns, port=PORT, options=LO)
    body = bytes(range(256)) * 20_000
    command = [*netns.exec(), "curl", "-sS", "--max-time", "50", "-H", "Expect:", "--data-binary", "@-"]
    curls = [
        subprocess.Popen(
            [*command, "-o", "/dev/null", "-w", "%{http_code} %{size_upload}", f"http://127.0.0.1:{PORT}/"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        for _ in range(12)
    ]  # fmt: skip
    try:
        for curl in curls:
            assert curl.stdin is not None
            curl.stdin.write(body)
            curl.stdin.close()
        for curl in curls:
            assert curl.stdout is not None
            assert curl.stdout.read() == b"200 %d" % len(body)
    finally:
        for curl in curls:
            curl.kill()
            curl.wait(10)
            for pipe in (curl.stdin, curl.stdout):
                assert pipe is not None
                pipe.close()
    assert server.running(), server.stderr()


SEND_AND_LEAVE = """
import socket, sys
sock = socket.create_connection(("127.0.0.1", 8000), timeout=20)
sock.sendall(bytes(range(256)) * 8000)
"""


def test_what_was_sent_arrives_after_the_end(programs: Programs, netns: Netns, stack: str) -> None:
    """A program sends 2 MB and ends at once, without closing: the peer still receives all of it."""
    code = """
import socket
with socket.create_server(("127.0.0.1", 8000)) as listener:
    sock, _ = listener.accept()
    total = 0
    while data := sock.recv(65536):
        total += len(data)
    print(total, flush=True)
"""
    receiver = programs.start(["-c", code], ns=netns, port=PORT)
    sender = programs.start(["-c", SEND_AND_LEAVE], stack=stack, ns=netns, options=LO)
    assert sender.wait(20) == 0, sender.stderr()
    assert receiver.wait(20) == 0, receiver.stderr()
    assert receiver.stdout() == f"{256 * 8000}\n"
