"""SYN and what answers it."""

from __future__ import annotations

import itertools

import pytest
from scapy.layers.inet import TCP
from support.segments import ACK, FIN, PSH, RST, SYN, Peer

CLOSED_PORT = 8001
ALL_OPTIONS = [("MSS", 1400), ("SAckOK", b""), ("Timestamp", (1000, 0)), ("NOP", None), ("WScale", 7)]


def names(tcp: TCP) -> set[str]:
    """The names of the options present."""
    return {name for name, _ in tcp.options} - {"NOP", "EOL"}


def test_syn_ack_with_options(peer: Peer, family: int) -> None:
    """Acknowledges isn + 1; MSS of the interface; nothing that was not offered."""
    peer.segment(peer.sport, SYN, 0xFFFFFFFF, options=ALL_OPTIONS)  # the sequence space wraps inside the handshake
    reply = peer.expect(peer.sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK")
    assert reply.ack == 0
    assert dict(reply.options)["MSS"] == (1460 if family == 4 else 1440)
    assert "WScale" in names(reply), "window scaling was offered"
    assert reply.window > 0
    if "Timestamp" in names(reply):
        assert dict(reply.options)["Timestamp"][1] == 1000, "TSecr must echo TSval"


def test_syn_ack_without_options(peer: Peer) -> None:
    """RFC 7323 2.2 and RFC 2018 2: an option that was not in the SYN is not in the SYN-ACK."""
    peer.segment(peer.sport, SYN, 1)
    reply = peer.expect(peer.sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK")
    assert names(reply) <= {"MSS"}


def test_initial_sequence_numbers_differ(peer: Peer) -> None:
    """RFC 6528: not constant, not a counter that a peer can guess."""
    numbers = []
    for sport in itertools.islice(peer.ports, 8):
        peer.segment(sport, SYN, 1)
        numbers.append(peer.expect(sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK").seq)
    steps = {(b - a) % 2**32 for a, b in itertools.pairwise(numbers)}
    assert len(steps) == 7, numbers


def test_repeated_syn_gets_the_same_answer(peer: Peer) -> None:
    """The SYN-ACK was lost: the second one has the same sequence number."""
    seqs = set()
    for _ in range(3):
        peer.segment(peer.sport, SYN, 77)
        reply = peer.expect(peer.sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK")
        assert reply.ack == 78
        seqs.add(reply.seq)
    assert len(seqs) == 1, seqs


def test_syn_ack_is_retransmitted(peer: Peer) -> None:
    """No ACK comes: again after about a second."""
    peer.segment(peer.sport, SYN, 77)
    first = peer.expect(peer.sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK")
    again = peer.expect(peer.sport, lambda t: int(t.flags) == SYN | ACK, "the SYN-ACK again", seconds=5)
    assert again.seq == first.seq


def test_data_with_the_last_ack(peer: Peer) -> None:
    """The third segment of the handshake may carry data."""
    peer.segment(peer.sport, SYN, 77)
    reply = peer.expect(peer.sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK")
    peer.segment(peer.sport, PSH | ACK, 78, reply.seq + 1, b"at once")
    echo = peer.expect(peer.sport, lambda t: len(t.payload) > 0, "the echo")
    assert bytes(echo.payload) == b"at once"


def test_mss_is_obeyed(peer: Peer) -> None:
    """No segment is larger than what the SYN announced."""
    conversation = peer.open([("MSS", 536)])
    data = bytes(range(256)) * 12
    for start in range(0, len(data), 512):
        conversation.data(data[start : start + 512])
    largest: list[int] = []
    assert conversation.receive(len(data), largest=largest) == data
    assert max(largest) <= 536
    conversation.close()


@pytest.mark.parametrize("options", [[("MSS", 0)], [("MSS", 1)], [("MSS", 65535)], [("WScale", 255), ("MSS", 1400)]])
def test_absurd_offers(peer: Peer, options: list[tuple[str, int]]) -> None:
    """A connection comes about and carries data whatever a SYN claims (RFC 7323 2.3 caps the shift at 14)."""
    peer.segment(peer.sport, SYN, 77, options=options)
    reply = peer.expect(peer.sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK")
    peer.segment(peer.sport, PSH | ACK, 78, reply.seq + 1, b"abc")
    peer.expect(peer.sport, lambda t: len(t.payload) > 0, "the echo")


def test_unknown_options_are_skipped(peer: Peer) -> None:
    """An experimental kind between known ones."""
    peer.segment(peer.sport, SYN, 77, options=[(253, b"\x12\x34"), ("NOP", None), ("MSS", 536), (99, b"abc")])
    assert peer.expect(peer.sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK").ack == 78


def test_syn_to_a_closed_port(peer: Peer) -> None:
    """RFC 9293 3.10.7.1: RST, sequence number 0, acknowledging the SYN."""
    header = TCP(sport=peer.sport, dport=CLOSED_PORT, flags=SYN, seq=500)
    peer.send(peer.packet(header))
    reply = peer.expect(peer.sport, lambda t: t.sport == CLOSED_PORT, "an answer")
    assert int(reply.flags) == RST | ACK
    assert (reply.seq, reply.ack) == (0, 501)


@pytest.mark.parametrize("flags", [ACK, PSH | ACK, FIN | ACK, SYN | ACK])
def test_ack_without_a_connection(peer: Peer, flags: int) -> None:
    """To the listening port: RST with the sequence number that the ACK named, and nothing else in it."""
    peer.segment(peer.sport, flags, 900, 4242, b"x" if flags & PSH else b"")
    reply = peer.expect(peer.sport, lambda t: True, "an answer")
    assert int(reply.flags) == RST
    assert reply.seq == 4242


@pytest.mark.parametrize("flags", [RST, RST | ACK, SYN | RST, FIN, 0])
def test_no_answer(peer: Peer, flags: int) -> None:
    """A RST is never answered; nor is a segment of nothing, nor a bare FIN to a listener (as Linux)."""
    peer.segment(peer.sport, flags, 900, 4242)
    peer.expect_none(peer.sport, lambda t: True, "silence was expected")


def test_final_ack_of_a_wrong_number(peer: Peer) -> None:
    """An ACK that does not acknowledge our SYN: RST, and no connection (RFC 9293 3.10.7.4, SYN-RECEIVED)."""
    peer.segment(peer.sport, SYN, 77)
    reply = peer.expect(peer.sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK")
    peer.segment(peer.sport, ACK, 78, reply.seq + 1000)
    reset = peer.expect(peer.sport, lambda t: bool(t.flags & RST), "RST")
    assert reset.seq == (reply.seq + 1000) % 2**32


def test_rst_in_syn_received(peer: Peer) -> None:
    """The half-open connection goes; its ACK finds nothing any more."""
    peer.segment(peer.sport, SYN, 77)
    reply = peer.expect(peer.sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK")
    peer.segment(peer.sport, RST, 78)
    peer.segment(peer.sport, ACK, 78, reply.seq + 1)
    assert peer.expect(peer.sport, lambda t: bool(t.flags & RST), "RST").seq == (reply.seq + 1) % 2**32
