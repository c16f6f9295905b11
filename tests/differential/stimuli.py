"""Scripts from seeds: what a hand-made peer sends, and what the program is told to do, step by step.

Sequence numbers are relative: the peer's to its initial one, acknowledgments to the target's. A script never depends on
what the target answered, so both stacks meet exactly the same one; the little model here only keeps it interesting. It
acknowledges what the program sends before a retransmission timer expires and does not leave its window closed: what is
sent again, and when, is congestion control, which packet scripts and the loss grid are about.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass

FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
STEPS = 18
WRITES = 400  # most bytes that the program sends in one call
FAR = 1 << 30


@dataclass(frozen=True)
class Segment:
    """A segment of the peer. `tsval` is set when timestamps were offered; `options` are those of a SYN."""

    flags: int
    seq: int
    ack: int = 0
    payload: bytes = b""
    window: int = 30_000
    tsval: int | None = None
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        flags = "".join(letter for bit, letter in enumerate("FSRPAU") if self.flags >> bit & 1)
        end = self.seq + len(self.payload)
        return f"{flags} {self.seq}:{end} ack {self.ack} win {self.window} ts {self.tsval} {self.options}"


@dataclass(frozen=True)
class Call:
    """What the program is told to do."""

    name: str
    argument: int = 0


Step = Segment | Call


class Script:
    """The steps of one seed."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._random = random.Random(f"differential {seed}")
        self.isn = self._random.choice([self._random.randrange(2**32), 2**32 - 500])
        self._options = tuple(name for name in ("mss", "sackok", "ts", "wscale") if self._random.random() < 0.6)
        self._clock = 1_000_000
        self._nxt = 1  # what the target should expect next
        self._held: list[tuple[int, int]] = []  # what it should hold out of order
        self._written = 1  # the end of what the program has sent
        self._acked = 1
        self.fined = False
        self._owed = 0  # steps since something of the program's was left unacknowledged, or the window closed
        self.fin: int | None = None  # where the peer's own FIN is
        self.steps = list(self._make())

    def _segment(self, flags: int, seq: int, ack: int = 0, payload: bytes = b"", **more: int) -> Segment:
        offset = more.pop("ts", 0)
        tsval = self._clock + offset if "ts" in self._options else None
        options = self._options if flags & SYN else ()
        return Segment(flags, seq, ack if flags & ACK else 0, payload, tsval=tsval, options=options, **more)

    def _make(self) -> Iterator[Step]:
        choose = self._random
        if choose.random() < 0.2:
            yield self._odd_opening()
        yield self._segment(SYN, 0)
        if choose.random() < 0.2:
            yield self._in_syn_received()
        yield self._segment(ACK, 1, 1)
        kinds = [self._in_order, self._early, self._old, self._ack, self._control, self._call, self._strange]
        for _ in range(STEPS):
            self._clock += 150
            self._owed = self._owed + 1 if self._owed or self._acked < self._written else 0
            if self._owed > 2:
                self._owed = 0
                self._acked = self._written
                yield self._segment(ACK, self._nxt, self._acked)
            else:
                yield choose.choices(kinds, weights=[6, 4, 2, 4, 2, 6, 2])[0]()

    def _odd_opening(self) -> Segment:
        flags = self._random.choice([ACK, RST, SYN | FIN, SYN | RST, SYN | ACK, FIN, 0, FIN | ACK, RST | ACK])
        return self._segment(flags, 0, self._random.choice([0, 1, 77]))

    def _in_syn_received(self) -> Segment:
        flags, seq, ack = self._random.choice(
            [
                (SYN, 0, 0), (SYN, 5, 0), (ACK, 1, 2), (ACK, 1, 0), (RST, 2, 0), (ACK, FAR, 1), (SYN | ACK, 0, 1),
                (0, 1, 0),
            ]
        )  # fmt: skip
        return self._segment(flags, seq, ack)

    def _bytes(self, seq: int, count: int) -> bytes:
        return bytes((seq + at) % 253 for at in range(count))

    def _arrived(self, start: int, end: int) -> None:
        """Keeps the model: what is in order now."""
        self._held.append((start, end))
        for low, high in sorted(self._held):
            if low <= self._nxt < high:
                self._nxt = high
        if self._nxt == self.fin:
            self._nxt += 1
        self._held = [(low, high) for low, high in self._held if high > self._nxt]

    def _data(self, seq: int, count: int, flags: int = ACK | PSH) -> Segment:
        if self.fin is not None:  # nothing beyond the FIN: a peer that goes on is tested elsewhere
            seq = min(seq, self.fin - 1)
            count = min(count, self.fin - seq)
        self._arrived(seq, seq + count)
        return self._segment(flags, seq, self._acked, self._bytes(seq, count))

    def _in_order(self) -> Step:
        return self._data(
            self._nxt, self._random.choice([1, 10, 100, 536, 1000]), self._random.choice([ACK, ACK | PSH])
        )

    def _early(self) -> Step:
        return self._data(self._nxt + self._random.choice([1, 10, 600, 3000]), self._random.choice([1, 50, 700]))

    def _old(self) -> Step:
        back = min(self._random.choice([1, 5, 100, 700]), self._nxt - 1)
        return self._data(self._nxt - back, max(1, self._random.choice([back // 2, back, back + 20])))

    def _ack(self) -> Step:
        choose = self._random
        kind = choose.choice(["all", "all", "part", "repeat", "future", "past", "window", "shut"])
        if kind == "all":
            self._acked = self._written
        elif kind == "part":
            self._acked = choose.randint(self._acked, self._written)
        number = {"future": self._written + 1000, "past": self._acked - FAR}.get(kind, self._acked)
        window = {"window": 5000, "shut": 0}.get(kind, 30_000)
        if kind == "shut":
            if self._acked < self._written:
                return self._segment(ACK, self._nxt, self._acked)
            self._owed = 2
        return self._segment(ACK, self._nxt, number, window=window)

    def _control(self) -> Step:
        choose, nxt = self._random, self._nxt
        kind = choose.choice(["syn", "syn", "rst far", "rst near", "rst", "fin", "early fin", "synack", "fin far"])
        if kind in ("fin", "early fin") and self.fin is not None:
            kind = "rst near"
        if kind == "early fin":
            self.fin = max([nxt + 50, *(high for _, high in self._held)])
        if kind == "fin" and self._held:  # nor may it stand before what was sent
            kind = "rst near"
        if kind == "fin":
            payload = self._bytes(nxt, choose.choice([0, 30]))
            self.fin = nxt + len(payload)
            self._arrived(nxt, nxt + len(payload) + 1)
            return self._segment(FIN | ACK, nxt, self._acked, payload)
        places = {
            "syn": (SYN, choose.choice([0, nxt, nxt + 5, FAR])), "synack": (SYN | ACK, nxt),
            "rst far": (RST, nxt + FAR), "rst near": (RST, nxt + 7), "rst": (RST, nxt),
            "early fin": (FIN | ACK, self.fin or nxt), "fin far": (FIN | ACK, FAR),
        }  # fmt: skip
        flags, seq = places[kind]
        return self._segment(flags, seq, self._acked)

    def _strange(self) -> Step:
        choose = self._random
        kind = choose.choice(["no ack", "nothing", "beyond", "old time", "keepalive", "everything"])
        if kind == "no ack":
            return self._segment(PSH, self._nxt, 0, b"without")
        if kind == "nothing":
            return self._segment(0, self._nxt)
        if kind == "beyond":
            return self._segment(ACK, self._nxt + FAR, self._acked, b"beyond")
        if kind == "old time":
            return self._segment(ACK, self._nxt, self._acked, b"old", ts=-100_000)
        if kind == "keepalive":
            return self._segment(ACK, self._nxt - 1, self._acked, choose.choice([b"", b"\0"]))
        return self._segment(SYN | FIN | PSH, self._nxt)

    def _call(self) -> Step:
        name = self._random.choices(["recv", "send", "shutdown", "close", "abort"], weights=[6, 8, 1, 1, 1])[0]
        if name == "send" and not self.fined:
            count = self._random.randint(1, WRITES)
            self._written += count
            return Call(name, count)
        if name in ("shutdown", "close") and not self.fined:
            self.fined = True
            self._written += 1  # its FIN
        return Call(name, {"recv": 65_536, "shutdown": 1}.get(name, 0))
