"""Many half-open connections; a module of its own, so that its leftovers meet no other test's server."""

from __future__ import annotations

from scapy.layers.inet import TCP
from support.programs import OURS, Program
from support.segments import SYN, Peer


def test_syn_flood(peer: Peer, server: Program, stack: str) -> None:
    """20,000 SYNs that nobody completes: memory and table stay bounded, and the next honest client is served."""
    template = bytearray(bytes(peer.packet(TCP(sport=1, dport=peer.port, flags=SYN, seq=1, options=[("MSS", 1400)]))))
    before = server.rss_bytes()
    for number in range(20_000):
        _patch_source_port(template, 30_000 + number, peer.family)
        peer.sock.send(template)
        if number % 500 == 0:
            peer.drain()
    peer.drain()
    assert server.rss_bytes() - before < 64 << 20
    if stack == OURS:
        half_open = [c for c in server.listing()["connections"] if c["state"] == "SYN-RECV"]
        assert len(half_open) <= 8192, len(half_open)


def _patch_source_port(frame: bytearray, port: int, family: int) -> None:
    """Sets the port and corrects the checksum incrementally (RFC 1624): packing 20,000 by scapy takes too long."""
    at = 14 + (20 if family == 4 else 40)
    old = int.from_bytes(frame[at : at + 2], "big")
    checksum = int.from_bytes(frame[at + 16 : at + 18], "big")
    total = (~checksum & 0xFFFF) + (~old & 0xFFFF) + port
    total = (total & 0xFFFF) + (total >> 16)
    total = (total & 0xFFFF) + (total >> 16)
    frame[at : at + 2] = port.to_bytes(2, "big")
    frame[at + 16 : at + 18] = (~total & 0xFFFF).to_bytes(2, "big")
