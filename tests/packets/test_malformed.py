"""Frames that lie: short, overlong, with wrong sums, lengths and offsets. They are dropped; nothing else happens."""

from __future__ import annotations

import random
import struct
from typing import Any

import pytest
from scapy.layers.inet import IP, TCP
from scapy.layers.inet6 import IPv6
from support.programs import OURS, Program
from support.segments import ACK, FIN, PSH, RST, SYN, URG, Conversation, Peer

FUZZ_FRAMES = 2_000


def syn(peer: Peer, **fields: Any) -> bytearray:
    """A good SYN, spoilt by fields."""
    return bytearray(bytes(peer.packet(TCP(sport=peer.sport, dport=peer.port, flags=SYN, seq=1, **fields))))


def no_answer(peer: Peer) -> None:
    """Nothing came back."""
    peer.expect_none(peer.sport, lambda t: True, "a malformed segment must be dropped")


def test_truncated_everywhere(peer: Peer) -> None:
    """A SYN cut off at every length that leaves an Ethernet header."""
    frame = syn(peer, options=[("MSS", 1400), ("Timestamp", (1, 0))])
    for length in range(14, len(frame)):
        peer.send(frame[:length])
    no_answer(peer)


def test_data_truncated_everywhere(peer: Peer) -> None:
    """A data segment of an open connection cut off at every length; then the whole one arrives."""
    conversation = peer.open()
    whole = bytes(
        peer.packet(
            TCP(sport=conversation.sport, dport=peer.port, flags=PSH | ACK, seq=conversation.snd_nxt % 2**32,
                ack=conversation.rcv_nxt % 2**32, window=65535), b"0123456789" * 4,
        )
    )  # fmt: skip
    for length in range(14, len(whole)):
        peer.send(whole[:length])
    conversation.expect_none(lambda t: len(t.payload) > 0, "nothing was complete")
    conversation.data(b"0123456789" * 4)
    assert conversation.receive(40) == b"0123456789" * 4
    conversation.close()


def test_bad_tcp_checksum(peer: Peer, server: Program, stack: str) -> None:
    """Dropped, and counted by its reason."""
    peer.send(syn(peer, chksum=0x1234))
    no_answer(peer)
    if stack == OURS:
        drops = server.listing()["counters"]["drops"]
        assert sum(drops.values()) >= 1, drops


def test_bad_checksum_of_data(peer: Peer) -> None:
    """Not acknowledged, not delivered; the good copy is."""
    conversation = peer.open()
    conversation.send(PSH | ACK, b"bad data", chksum=0x4321, advance=False)
    conversation.expect_none(lambda t: len(t.payload) > 0 or t.ack != conversation.snd_nxt % 2**32, "it was dropped")
    conversation.data(b"good one")
    assert conversation.receive(8) == b"good one"
    conversation.close()


@pytest.mark.parametrize("offset", [0, 1, 4, 15])
def test_bad_data_offset(peer: Peer, offset: int) -> None:
    """Below 5 words, or beyond the end of the segment."""
    peer.send(syn(peer, dataofs=offset))
    no_answer(peer)


OVERRUNNING = {
    "length beyond the header": b"\x02\x28\x05\x78",
    "kind without a length": b"\x01\x01\x01\x02",
    "length 0": b"\x02\x00\x05\x78",
    "length 1": b"\x02\x01\x05\x78",
    "unknown kind, length 0": b"\xfe\x00\x01\x01",
    "unknown kind, length 255": b"\xfe\xff\x01\x01",
    "sack of half a block": b"\x05\x06\x00\x00\x00\x00\x01\x01",
    "timestamp too short": b"\x08\x04\x00\x00",
}


@pytest.mark.parametrize("name", OVERRUNNING)
def test_options_that_overrun(peer: Peer, name: str) -> None:
    """Whether such a SYN is dropped or answered without the option: no harm, and the answer is well formed."""
    raw = OVERRUNNING[name]
    frame = syn(peer)
    at = 14 + (20 if peer.family == 4 else 40)
    packet = peer.packet(TCP(sport=peer.sport, dport=peer.port, flags=SYN, seq=1, dataofs=5 + len(raw) // 4), raw)
    assert len(frame) + len(raw) == len(bytes(packet)), at
    peer.send(packet)
    reply = peer.read(0.3)
    assert reply is None or (int(reply.flags) == SYN | ACK and reply.ack == 2)


@pytest.mark.parametrize("family", [4], indirect=True, ids=["ipv4"])
@pytest.mark.parametrize(
    "fields",
    [{"len": 0}, {"len": 19}, {"len": 30}, {"len": 2000}, {"ihl": 0}, {"ihl": 4}, {"ihl": 15}, {"chksum": 1},
     {"version": 6}, {"version": 0}, {"flags": "MF"}, {"frag": 1}, {"frag": 8191}, {"ttl": 0}],
    ids=str,
)  # fmt: skip
def test_bad_ipv4_header(peer: Peer, fields: dict[str, Any]) -> None:
    """Lengths that contradict the frame, versions, a wrong sum, fragments."""
    peer.send(peer.packet(TCP(sport=peer.sport, dport=peer.port, flags=SYN, seq=1), **fields))
    if fields == {"ttl": 0}:  # for the last hop it does not matter; either way is right
        peer.read(0.2)
    else:
        no_answer(peer)


@pytest.mark.parametrize("family", [6], indirect=True, ids=["ipv6"])
@pytest.mark.parametrize("fields", [{"plen": 0}, {"plen": 19}, {"plen": 3000}, {"version": 4}, {"nh": 59}], ids=str)
def test_bad_ipv6_header(peer: Peer, fields: dict[str, Any]) -> None:
    """The same of IPv6."""
    peer.send(peer.packet(TCP(sport=peer.sport, dport=peer.port, flags=SYN, seq=1), **fields))
    no_answer(peer)


@pytest.mark.parametrize("family", [6], indirect=True, ids=["ipv6"])
def test_ipv6_extension_headers(peer: Peer) -> None:
    """A chain that is too long for its frame, one that does not end, and a good one."""
    from scapy.layers.inet6 import IPv6ExtHdrDestOpt, IPv6ExtHdrFragment, IPv6ExtHdrHopByHop
    from scapy.layers.l2 import Ether

    link = Ether(src=peer.mac, dst=peer.server_mac)
    network = IPv6(src=peer.address, dst=peer.server)
    tcp = TCP(sport=peer.sport, dport=peer.port, flags=SYN, seq=1)
    peer.send(link / network / IPv6ExtHdrDestOpt(len=200) / tcp)
    endless = network
    for _ in range(300):  # longer than the frame that carries it
        endless = endless / IPv6ExtHdrDestOpt()
    peer.send(bytes(link / endless / tcp)[:1500])
    peer.send(link / network / IPv6ExtHdrFragment(offset=100, m=1) / tcp)
    peer.send(link / network / IPv6ExtHdrHopByHop(len=100))
    no_answer(peer)
    peer.send(link / network / IPv6ExtHdrDestOpt() / tcp)
    assert peer.expect(peer.sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK").ack == 2


def test_padding_of_short_frames_is_not_data(peer: Peer) -> None:
    """Ethernet's minimum of 60 bytes: what follows the IP packet is nothing."""
    conversation = peer.open()
    for payload in (b"", b"abc"):
        packet = peer.packet(
            TCP(sport=conversation.sport, dport=peer.port, flags=PSH | ACK, seq=conversation.snd_nxt % 2**32,
                ack=conversation.rcv_nxt % 2**32, window=65535), payload,
        )  # fmt: skip
        peer.send(bytes(packet) + b"\xee" * 20)
        conversation.snd_nxt += len(payload)
    assert conversation.receive(3) == b"abc"
    conversation.expect_none(lambda t: len(t.payload) > 0, "padding is not data")
    conversation.close()


def test_land_attack(peer: Peer, server: Program, stack: str) -> None:
    """Source and destination the same, address and port: no connection with itself, no storm."""
    sent = server.listing()["counters"]["packets_out"] if stack == OURS else 0
    used = server.cpu_seconds()
    for _ in range(20):
        header = TCP(sport=peer.port, dport=peer.port, flags=SYN, seq=1)
        peer.send(peer.packet(header, src=peer.server))
    conversation = peer.open()
    conversation.data(b"x")
    assert conversation.receive(1) == b"x"
    conversation.close()
    if stack == OURS:
        assert server.listing()["counters"]["packets_out"] - sent < 100
    assert server.cpu_seconds() - used < 2


@pytest.mark.parametrize("source", ["broadcast", "multicast", "loopback"])
def test_impossible_sources(peer: Peer, source: str) -> None:
    """A SYN from an address that no host has is not answered."""
    addresses = {
        (4, "broadcast"): "255.255.255.255", (4, "multicast"): "224.0.0.1", (4, "loopback"): "127.0.0.1",
        (6, "broadcast"): "ff02::1", (6, "multicast"): "ff0e::1", (6, "loopback"): "::1",
    }  # fmt: skip
    header = TCP(sport=peer.sport, dport=peer.port, flags=SYN, seq=1)
    peer.send(peer.packet(header, src=addresses[peer.family, source]))
    peer.expect_none(peer.sport, lambda t: True, "nobody is there to be answered")


def mutate(generator: random.Random, frame: bytearray) -> bytes:
    """Flips, inserts, cuts or overwrites behind the Ethernet header."""
    for _ in range(generator.randrange(1, 4)):
        at = generator.randrange(14, len(frame))
        kind = generator.randrange(4)
        if kind == 0:
            frame[at] ^= 1 << generator.randrange(8)
        elif kind == 1:
            frame[at] = generator.randrange(256)
        elif kind == 2:
            frame[at:at] = generator.randbytes(generator.randrange(1, 20))
        elif len(frame) > 40:
            del frame[generator.randrange(20, len(frame)) :]
    return bytes(frame)


def good_frame(generator: random.Random, conversation: Conversation) -> bytearray:
    """A plausible segment of an open connection, its sums right, near its sequence numbers."""
    peer = conversation.peer
    flags = generator.choice([SYN, ACK, PSH | ACK, ACK | URG, FIN | ACK, SYN | ACK, RST, SYN | FIN, 0, 255])
    header = TCP(
        sport=conversation.sport, dport=peer.port, flags=flags,
        seq=(conversation.snd_nxt + generator.randrange(-70_000, 200_000)) % 2**32,
        ack=(conversation.rcv_nxt + generator.randrange(-70_000, 70_000)) % 2**32,
        window=generator.randrange(65536), urgptr=generator.randrange(65536),
        options=generator.choice([[], [("Timestamp", (1, 2))], [("SAck", (1, 9))], [("WScale", 20)], [("MSS", 3)]]),
    )  # fmt: skip
    return bytearray(bytes(peer.packet(header, generator.randbytes(generator.randrange(0, 100)))))


@pytest.mark.parametrize("seed", [1, 2])
def test_seeded_garbage(peer: Peer, seed: int) -> None:
    """Thousands of good and spoilt segments into open connections; whoever finds a crash has the seed."""
    generator = random.Random(seed)
    conversations = [peer.open() for _ in range(4)]
    for number in range(FUZZ_FRAMES):
        frame = good_frame(generator, generator.choice(conversations))
        if number % 2:
            peer.send(mutate(generator, frame)[:1500])
        else:
            peer.send(frame)
        if number % 200 == 0:
            peer.drain()


def test_icmp_errors_about_nothing(peer: Peer, server: Program) -> None:
    """Errors that quote connections which do not exist, and quotations that are cut off."""
    from scapy.layers.inet import ICMP
    from scapy.layers.inet6 import ICMPv6DestUnreach, ICMPv6PacketTooBig
    from scapy.layers.l2 import Ether

    link = Ether(src=peer.mac, dst=peer.server_mac)
    tcp = TCP(sport=peer.port, dport=peer.sport, flags=ACK, seq=5, ack=6)
    for cut in (0, 4, 8, 20, 28, 40):
        if peer.family == 4:
            quoted = bytes(IP(src=peer.server, dst=peer.address) / tcp)[:cut]
            for message in (ICMP(type=3, code=3), ICMP(type=3, code=4, nexthopmtu=0), ICMP(type=11, code=0)):
                peer.send(link / IP(src=peer.address, dst=peer.server) / message / quoted)
        else:
            quoted = bytes(IPv6(src=peer.server, dst=peer.address) / tcp)[:cut]
            for error in (ICMPv6DestUnreach(code=4), ICMPv6PacketTooBig(mtu=0)):
                peer.send(link / IPv6(src=peer.address, dst=peer.server) / error / quoted)
    peer.send(bytes(link)[:12] + struct.pack("!H", 0x86DD if peer.family == 6 else 0x0800))
    assert server.running()
