"""Segments of an open connection: order, overlap, windows, ends, resets, urgent data."""

from __future__ import annotations

import itertools
import time
from typing import Any

import pytest
from support.segments import ACK, FIN, PSH, RST, SYN, URG, Conversation, Peer

BLOCK = b"0123456789ABCDEFGHIJ"


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))), ids=str)
def test_out_of_order(peer: Peer, order: tuple[int, ...]) -> None:
    """Three segments in each order arrive as one stream."""
    conversation = peer.open()
    for index in order:
        conversation.send(PSH | ACK, BLOCK[index * 5 : index * 5 + 5], offset=index * 5, advance=False)
    conversation.snd_nxt += 15
    conversation.expect_ack()
    conversation.peer.drain()
    conversation.data(b"!")
    assert conversation.receive(16) == BLOCK[:15] + b"!"
    conversation.close()


def test_gap_is_answered_by_a_duplicate_ack(peer: Peer) -> None:
    """RFC 9293 3.10.7.4 and RFC 5681 4.2: at once, naming what is missing."""
    conversation = peer.open()
    conversation.send(PSH | ACK, b"later", offset=100, advance=False)
    ack = conversation.expect(lambda t: int(t.flags) & ACK == ACK and not t.payload, "a duplicate ACK")
    assert ack.ack == conversation.snd_nxt % 2**32
    conversation.expect_none(lambda t: len(t.payload) > 0, "nothing is in order yet")
    conversation.data(b"x" * 100)
    conversation.snd_nxt += 5
    assert conversation.receive(105) == b"x" * 100 + b"later"
    conversation.close()


def test_overlaps(peer: Peer) -> None:
    """Repeated, partly old, partly new, covering and covered segments: every byte once."""
    conversation = peer.open()
    base = conversation.snd_nxt
    for start, end in ((10, 20), (5, 15), (12, 14), (0, 3), (0, 20), (3, 6), (19, 20), (0, 1)):
        conversation.send(PSH | ACK, BLOCK[start:end], seq=base + start, advance=False)
    conversation.snd_nxt = base + 20
    assert conversation.receive(20) == BLOCK
    conversation.send(PSH | ACK, BLOCK[15:] + b"more", seq=base + 15, advance=False)
    conversation.snd_nxt = base + 24
    assert conversation.receive(4) == b"more"
    conversation.close()


def test_first_copy_of_a_byte_stays(peer: Peer) -> None:
    """Overlapping data that differs: what was delivered is not changed, what comes is whole."""
    conversation = peer.open()
    conversation.data(b"aaaa")
    assert conversation.receive(4) == b"aaaa"
    conversation.send(PSH | ACK, b"bbbbcc", offset=-4, advance=False)
    conversation.snd_nxt += 2
    assert conversation.receive(2) == b"cc"
    conversation.close()


@pytest.mark.parametrize("beyond", [0, 1, 100_000, 2**31 - 10])
def test_beyond_the_window(peer: Peer, beyond: int) -> None:
    """Not accepted: answered by an ACK that still wants the same byte."""
    conversation = peer.open()
    scaled = 16 << 20  # more than any window that a server offers before it has been given data
    conversation.send(PSH | ACK, b"far away", offset=(scaled if beyond < 2**30 else 0) + beyond, advance=False)
    ack = conversation.expect(lambda t: bool(t.flags & ACK) and not t.payload, "an ACK")
    assert ack.ack == conversation.snd_nxt % 2**32
    conversation.data(b"near")
    assert conversation.receive(4) == b"near"
    conversation.close()


def test_old_data_is_acknowledged_again(peer: Peer) -> None:
    """A retransmission of what arrived: our ACK was lost."""
    conversation = peer.open()
    conversation.data(b"once")
    assert conversation.receive(4) == b"once"
    conversation.peer.drain()
    conversation.send(PSH | ACK, b"once", offset=-4, advance=False)
    conversation.expect_ack()
    conversation.expect_none(lambda t: len(t.payload) > 0, "it is not delivered twice")
    conversation.close()


def test_ack_of_what_was_never_sent(peer: Peer) -> None:
    """RFC 9293 3.10.7.4: an ACK, the segment is dropped."""
    conversation = peer.open()
    conversation.send(PSH | ACK, b"liar", ack=conversation.rcv_nxt + 5000, advance=False)
    conversation.expect_none(lambda t: len(t.payload) > 0 or bool(t.flags & RST), "it is dropped")
    conversation.data(b"true")
    assert conversation.receive(4) == b"true"
    conversation.close()


def test_zero_window(peer: Peer) -> None:
    """The peer closes its window: no more than a probe comes; it opens: everything comes."""
    conversation = peer.open(window=0)
    conversation.data(b"0123456789")
    conversation.expect_ack()
    conversation.expect_none(lambda t: len(t.payload) > 1, "the window is closed", seconds=0.6)
    conversation.window = 65535
    conversation.send(ACK)
    assert conversation.receive(10) == b"0123456789"
    conversation.close()


def test_window_is_not_overrun(peer: Peer) -> None:
    """A window of 1,000: never more than that in flight."""
    conversation = peer.open(window=1000)
    start = conversation.rcv_nxt
    for _ in range(5):
        conversation.data(b"x" * 1000)
    end = time.monotonic() + 0.5
    highest = 0
    while time.monotonic() < end:
        tcp = peer.read(0.1)
        if tcp is not None and tcp.dport == conversation.sport:
            highest = max(highest, (tcp.seq + len(tcp.payload) - start) % 2**32)
    assert 0 < highest <= 1000
    # this peer acknowledges in order only; what was passed over above comes again
    conversation.window = 65535
    conversation.send(ACK)
    assert conversation.receive(5000) == b"x" * 5000
    conversation.close()


def test_lost_data_is_sent_again(peer: Peer) -> None:
    """The echo is not acknowledged: it comes again, the same bytes at the same place."""
    conversation = peer.open()
    conversation.data(b"hear me")
    first = conversation.expect(lambda t: len(t.payload) > 0, "the echo")
    again = conversation.expect(lambda t: len(t.payload) > 0, "the echo again")
    assert (again.seq, bytes(again.payload)) == (first.seq, bytes(first.payload))
    conversation.rcv_nxt += 7
    conversation.send(ACK)
    conversation.close()


def test_three_duplicate_acks(peer: Peer) -> None:
    """RFC 5681 3.2: the first segment comes again before its timer would have sent it."""
    conversation = peer.open([("MSS", 500)])
    data = bytes(range(200)) * 20
    for start in range(0, len(data), 500):
        conversation.data(data[start : start + 500])
    lost = conversation.expect(lambda t: len(t.payload) > 0, "the first segment")
    for _ in range(3):
        conversation.expect(lambda t: len(t.payload) > 0, "a later segment")
        conversation.send(ACK)
    again = conversation.expect(lambda t: len(t.payload) > 0 and t.seq == lost.seq, "the first one again")
    assert bytes(again.payload)[:500] == data[:500]
    assert conversation.rcv_nxt % 2**32 == lost.seq
    conversation.rcv_nxt += len(again.payload)
    conversation.send(ACK)
    rest = len(data) - len(again.payload)
    assert conversation.receive(rest) == data[-rest:]
    conversation.close()


# --- ends ----------------------------------------------------------------------------------------------------------


def assert_gone(conversation: Conversation) -> None:
    """A segment of the connection finds nothing: RST."""
    conversation.send(ACK, b"anybody?", advance=False)
    conversation.expect(lambda t: bool(t.flags & RST), "RST")


def test_peer_closes_first(peer: Peer) -> None:
    """FIN, its ACK, the server's FIN, our ACK; then the connection is gone without TIME-WAIT on the server."""
    conversation = peer.open()
    conversation.close()
    assert_gone(conversation)


def test_fin_with_data(peer: Peer) -> None:
    """The last data and the FIN in one segment: all of it comes back, then the server's FIN."""
    conversation = peer.open()
    conversation.send(PSH | FIN | ACK, b"goodbye")
    assert conversation.receive(7) == b"goodbye"
    fin = conversation.expect(lambda t: bool(t.flags & FIN), "FIN")
    assert fin.ack == conversation.snd_nxt % 2**32
    conversation.rcv_nxt += 1
    conversation.send(ACK)
    assert_gone(conversation)


def test_fin_before_the_data(peer: Peer) -> None:
    """Out of order: the FIN counts only when everything before it is there."""
    conversation = peer.open()
    conversation.send(FIN | ACK, offset=6, advance=False)
    conversation.expect_none(lambda t: bool(t.flags & FIN), "the stream has not ended yet")
    conversation.data(b"early?")
    conversation.snd_nxt += 1
    assert conversation.receive(6) == b"early?"
    fin = conversation.expect(lambda t: bool(t.flags & FIN), "FIN")
    assert (fin.seq + len(fin.payload)) % 2**32 == conversation.rcv_nxt % 2**32
    conversation.rcv_nxt += 1
    conversation.send(ACK)
    assert_gone(conversation)


def test_repeated_fin(peer: Peer) -> None:
    """The ACK of our FIN was lost: acknowledged again, nothing else."""
    conversation = peer.open()
    conversation.send(FIN | ACK)
    conversation.expect_fin()
    conversation.peer.drain()
    conversation.send(FIN | ACK, offset=-1, ack=conversation.rcv_nxt - 1, advance=False)
    conversation.expect_ack()
    conversation.send(ACK)
    assert_gone(conversation)


def test_data_after_our_fin_is_not_taken(peer: Peer) -> None:
    """What lies beyond the FIN does not exist."""
    conversation = peer.open()
    conversation.send(PSH | FIN | ACK, b"end")
    assert conversation.receive(3) == b"end"
    conversation.send(PSH | ACK, b"beyond", advance=False)
    conversation.expect_none(lambda t: b"beyond" in bytes(t.payload), "the stream has ended")


REQUEST = b"GET / HTTP/1.0\r\n\r\n"


@pytest.mark.parametrize("example", ["http_upload"])
def test_server_closes_first(peer: Peer) -> None:
    """FIN-WAIT-1, FIN-WAIT-2, TIME-WAIT: a late repetition of our FIN is acknowledged in TIME-WAIT."""
    conversation = peer.open()
    conversation.data(REQUEST)
    fin = _read_to_fin(conversation)
    conversation.send(ACK)
    conversation.send(FIN | ACK)
    conversation.expect_ack()
    conversation.peer.drain()
    conversation.send(FIN | ACK, offset=-1, advance=False)
    conversation.expect_ack()
    assert fin


@pytest.mark.parametrize("example", ["http_upload"])
def test_both_close_at_once(peer: Peer) -> None:
    """Our FIN does not acknowledge the server's: CLOSING, then TIME-WAIT."""
    conversation = peer.open()
    conversation.data(REQUEST)
    _read_to_fin(conversation)
    conversation.send(FIN | ACK, ack=conversation.rcv_nxt - 1)
    conversation.expect_ack()
    conversation.send(ACK)
    conversation.expect_none(lambda t: bool(t.flags & RST), "the end is orderly")


@pytest.mark.parametrize("example", ["http_upload"])
def test_server_repeats_its_fin(peer: Peer) -> None:
    """It is not acknowledged: it comes again."""
    conversation = peer.open()
    conversation.data(REQUEST)
    fin = _read_to_fin(conversation)
    again = conversation.expect(lambda t: bool(t.flags & FIN), "the FIN again")
    assert (again.seq + len(again.payload)) % 2**32 == (fin.seq + len(fin.payload)) % 2**32
    conversation.send(FIN | ACK)
    conversation.expect_ack()


def _read_to_fin(conversation: Conversation) -> Any:
    """Reads the reply and acknowledges it, all but the FIN; returns the FIN's segment."""
    while True:
        tcp = conversation.expect(lambda t: len(t.payload) > 0 or bool(t.flags & FIN), "the reply")
        if tcp.seq == conversation.rcv_nxt % 2**32:
            conversation.rcv_nxt += len(tcp.payload)
            conversation.send(ACK)
        if tcp.flags & FIN:
            conversation.rcv_nxt += 1
            return tcp


# --- resets --------------------------------------------------------------------------------------------------------


def test_exact_reset(peer: Peer) -> None:
    """RFC 5961 3.2: at exactly rcv_nxt it ends the connection, without an answer."""
    conversation = peer.open()
    conversation.send(RST)
    conversation.expect_none(lambda t: True, "a RST is not answered")
    assert_gone(conversation)


@pytest.mark.parametrize("offset", [1, 1000, -1, -1000, 2**31 - 1, 2**31 + 5])
def test_reset_of_a_wrong_number(peer: Peer, offset: int) -> None:
    """RFC 5961 3.2: within the window at most a challenge ACK, outside nothing; the connection lives."""
    conversation = peer.open()
    conversation.send(RST, offset=offset, advance=False)
    conversation.expect_none(lambda t: int(t.flags) != ACK, "at most a challenge ACK")
    conversation.data(b"alive")
    assert conversation.receive(5) == b"alive"
    conversation.close()


@pytest.mark.parametrize("offset", [0, 500, -5000])
def test_syn_within_a_connection(peer: Peer, offset: int) -> None:
    """RFC 5961 4.2: a challenge ACK; the connection lives."""
    conversation = peer.open()
    conversation.send(SYN, offset=offset, advance=False)
    challenge = conversation.expect(lambda t: True, "a challenge ACK")
    assert int(challenge.flags) == ACK
    assert challenge.ack == conversation.snd_nxt % 2**32
    conversation.data(b"alive")
    assert conversation.receive(5) == b"alive"
    conversation.close()


def test_challenge_acks_are_bounded(peer: Peer) -> None:
    """RFC 5961 7: a flood of wrong resets is not answered one by one."""
    conversation = peer.open()
    for _ in range(500):
        conversation.send(RST, offset=10, advance=False)
    answers = 0
    while peer.read(0.3) is not None:
        answers += 1
    assert answers < 250, answers
    conversation.data(b"alive")
    assert conversation.receive(5) == b"alive"
    conversation.close()


# --- urgent --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pointer", [0, 1, 3, 10, 65535])
def test_urgent(peer: Peer, pointer: int) -> None:
    """Urgent data, in the stream or taken out of it (RFC 6093): the rest arrives and the connection goes on."""
    conversation = peer.open()
    conversation.send(PSH | ACK | URG, b"abcdef", urgptr=pointer)
    conversation.expect_ack()
    conversation.peer.drain()
    conversation.data(b"the tail of it" * 20)
    received = b""
    while not received.endswith(b"the tail of it"):
        received += conversation.receive(1)
    conversation.send(RST)
