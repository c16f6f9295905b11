"""Floods, one of each kind; a module of its own, so that its leftovers meet no other test's server.

After each the honest client of the fixture is served: rig.assert_answers() opens a connection and echoes. The engine's
own tests (shard/tests/attack.rs) count what cannot be seen from outside.
"""

from __future__ import annotations

import random

import pytest
from scapy.layers.inet import TCP
from support.programs import OURS, Program
from support.segments import ACK, FIN, PSH, RST, SYN, Peer

CLOSED_PORT = 8001
COUNT = 20_000
# Of the TCP header, from its start.
SPORT, SEQ, ACK_NUMBER = (0, 2), (4, 4), (8, 4)


def flood(peer: Peer, tcp: TCP, change: list[tuple[tuple[int, int], range]], payload: bytes = b"") -> None:
    """COUNT frames, as fast as the device takes them; in each the fields get random values of their ranges."""
    frame = bytearray(bytes(peer.packet(tcp, payload)))
    chance = random.Random(7)
    for number in range(COUNT):
        for (at, size), values in change:
            _patch(frame, peer.family, at, size, chance.choice(values))
        peer.sock.send(frame)
        if number % 500 == 0:
            peer.drain()
    peer.drain()


def _patch(frame: bytearray, family: int, at: int, size: int, value: int) -> None:
    """Sets a field and corrects the checksum incrementally (RFC 1624): packing each by scapy takes too long."""
    header = 14 + (20 if family == 4 else 40)
    at += header
    total = ~int.from_bytes(frame[header + 16 : header + 18], "big") & 0xFFFF
    new = (value % 256**size).to_bytes(size, "big")
    for word in range(0, size, 2):
        total += ~int.from_bytes(frame[at + word : at + word + 2], "big") & 0xFFFF
        total += int.from_bytes(new[word : word + 2], "big")
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    frame[at : at + size] = new
    frame[header + 16 : header + 18] = (~total & 0xFFFF).to_bytes(2, "big")


def test_syn_flood(peer: Peer, server: Program, stack: str) -> None:
    """SYNs that nobody completes: memory and table stay bounded, and the next clients are served, by cookies."""
    before = server.rss_bytes()
    # Ports below those of the clients that are served afterwards.
    tcp = TCP(sport=1, dport=peer.port, flags=SYN, seq=1, options=[("MSS", 1400)])
    flood(peer, tcp, [(SPORT, range(1, 19_000))])
    assert server.rss_bytes() - before < 64 << 20
    for _ in range(5):
        conversation = peer.open()
        conversation.data(b"anybody there?")
        assert conversation.receive(14) == b"anybody there?"
        conversation.close()
    if stack == OURS:
        listing = server.listing()
        half_open = [c for c in listing["connections"] if c["state"] == "SYN-RECV"]
        assert len(half_open) <= 4096, len(half_open)
        counters = listing["counters"]
        assert counters["syncookies_sent"] > 1000, counters
        assert counters["syncookies_received"] >= 5, counters


@pytest.mark.parametrize("flags", [ACK, RST, FIN | ACK, SYN | ACK], ids=["ack", "rst", "fin", "syn-ack"])
@pytest.mark.parametrize("closed", [False, True], ids=["listener", "closed port"])
def test_flood_of_strays(peer: Peer, server: Program, flags: int, closed: bool) -> None:
    """Segments of connections that never were: at most a reset each, and nothing is kept."""
    before = server.rss_bytes()
    tcp = TCP(sport=1, dport=CLOSED_PORT if closed else peer.port, flags=flags, seq=1, ack=1)
    anything = range(2**32)
    flood(peer, tcp, [(SPORT, range(1, 19_000)), (SEQ, anything), (ACK_NUMBER, anything)])
    assert server.rss_bytes() - before < 16 << 20


@pytest.mark.parametrize("flags", [ACK, RST, FIN | ACK, SYN, PSH | ACK], ids=["ack", "rst", "fin", "syn", "data"])
def test_flood_of_guesses(peer: Peer, server: Program, flags: int) -> None:
    """RFC 5961: a stranger who knows addresses and ports, but no numbers, does not end or poison a connection."""
    conversation = peer.open()
    before = server.rss_bytes()
    # Outside of the receive window, where all but a few guesses in a thousand are.
    tcp = TCP(sport=conversation.sport, dport=peer.port, flags=flags, seq=0, ack=0)
    elsewhere = range(conversation.snd_nxt + 2**24, conversation.snd_nxt + 2**31)
    flood(peer, tcp, [(SEQ, elsewhere), (ACK_NUMBER, range(2**32))], b"poison" if flags & PSH else b"")
    assert server.rss_bytes() - before < 16 << 20
    conversation.data(b"still ours")
    assert conversation.receive(10) == b"still ours"
    conversation.close()
