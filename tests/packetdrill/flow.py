"""The connection under test: the script's sequence numbers and timestamps are relative, the stack's are its own.

As packetdrill maps them: the peer's initial sequence number is the script's; ours counts from the one that the stack
chose; the numbers of a segment with SYN are offset by what the script calls our initial number, others by the initial
number itself, so that the first byte is 1. A timestamp of ours that the script names stands for the real one.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from . import syntax
from .wire import MODULUS, Segment, Unsupported, known_options, normal_flags


class Failure(Exception):
    """The stack did something else than the script says."""


@dataclass
class Flow:
    """One 4-tuple. Initial sequence numbers real; `script_local_isn` is the script's name for ours."""

    local: tuple[str, int]
    remote: tuple[str, int]
    passive: bool
    local_isn: int = 0
    remote_isn: int = 0
    script_local_isn: int = 0
    #: A SYN of ours has shown `local_isn`.
    opened: bool = False
    #: The peer has sent a reset.
    reset: bool = False
    #: The script's TSval of ours -> the real one.
    timestamps: dict[int, int] = field(default_factory=dict)
    first_timestamp: tuple[int, int] | None = None

    def owns(self, segment: Segment) -> bool:
        """Whether a segment of the stack belongs to this connection."""
        return segment.source == self.local and segment.destination == self.remote

    def local_offset(self, syn: bool) -> int:
        """What turns the script's number of ours into the real one."""
        return self.local_isn - self.script_local_isn if syn else self.local_isn

    def remote_offset(self, syn: bool) -> int:
        """The same for the peer's numbers, which are the script's in a SYN."""
        return 0 if syn else self.remote_isn

    def inbound(self, packet: syntax.Tcp) -> tuple[tuple[int, int], tuple[tuple[Any, ...], ...]]:
        """Real sequence and acknowledgment number, and real options, of a script's segment to us."""
        syn = "S" in packet.flags
        acked = "." in packet.flags
        if packet.seq is None:
            raise Unsupported("an unknown sequence number in a segment to us")
        seq = packet.seq + (0 if packet.raw_seq else self.remote_offset(syn))
        ack = (packet.ack or 0) + self.local_offset(syn) if acked else 0
        options = []
        for option in known_options(packet.options or ()):
            match option:
                case ("sack", *blocks):
                    offset = self.local_offset(False)
                    option = ("sack", *(tuple((edge + offset) % MODULUS for edge in block) for block in blocks))
                case ("TS", val, ecr) if acked:
                    option = ("TS", val, self._real_timestamp(ecr))
            options.append(option)
        return (seq % MODULUS, ack % MODULUS), tuple(options)

    def _real_timestamp(self, ecr: int) -> int:
        if ecr in self.timestamps:
            return self.timestamps[ecr]
        if self.first_timestamp is None:
            return ecr
        script, real = self.first_timestamp
        return (real + ecr - script) % MODULUS

    def outbound(self, segment: Segment, expected: syntax.Tcp) -> syntax.Tcp:
        """A segment of the stack in the script's numbers."""
        syn = "S" in segment.flags
        if syn and not self.opened:
            self.opened = True
            self.local_isn = segment.seq
            self.script_local_isn = expected.seq or 0
        seq = segment.seq if expected.raw_seq else (segment.seq - self.local_offset(syn)) % MODULUS
        ack = (segment.ack - self.remote_offset(syn)) % MODULUS if "." in segment.flags else None
        options = []
        for option in segment.options:
            match option:
                case ("sack", *blocks):
                    offset = self.remote_offset(False)
                    option = ("sack", *(tuple((edge - offset) % MODULUS for edge in block) for block in blocks))
                case ("TS", val, ecr):
                    option = ("TS", self._script_timestamp(val, expected), ecr)
            options.append(option)
        return syntax.Tcp(
            segment.flags, seq, segment.payload_bytes, ack, segment.window, segment.urgent, tuple(options)
        )

    def _script_timestamp(self, val: int, expected: syntax.Tcp) -> int:
        if not expected.options:
            return val
        named = next((option for option in known_options(expected.options) if option[0] == "TS"), None)
        if named is None:
            return val
        self.timestamps[named[1]] = val
        if self.first_timestamp is None:
            self.first_timestamp = (named[1], val)
        script, real = self.first_timestamp
        return (val - real + script) % MODULUS


def show(packet: syntax.Tcp) -> str:
    """A segment as a script writes it."""
    first = "?" if packet.seq is None else packet.seq
    last = "?" if packet.seq is None else (packet.seq + packet.payload_bytes) % MODULUS
    text = f"{normal_flags(packet.flags) or '-'} {first}:{last}({packet.payload_bytes})"
    if packet.ack is not None:
        text += f" ack {packet.ack}"
    if packet.window is not None:
        text += f" win {packet.window}"
    if packet.urgent:
        text += f" urg {packet.urgent}"
    if packet.options is None:
        return text + " <...>"
    options = [option for option in packet.options if option[0] not in ("nop", "eol")]
    if options:
        words = [" ".join(f"{w[0]}:{w[1]}" if isinstance(w, tuple) else str(w) for w in option) for option in options]
        text += f" <{', '.join(words)}>"
    return text


def compare(expected: syntax.Tcp, actual: syntax.Tcp, timestamp_tolerance: int | None) -> list[str]:
    """The names of the fields that differ. TCP options as sets; `timestamp_tolerance` in ticks, None: not compared."""
    wrong = []
    if normal_flags(expected.flags) != normal_flags(actual.flags):
        wrong.append("flags")
    if expected.seq is not None and expected.seq % MODULUS != actual.seq:
        wrong.append("sequence number")
    if expected.payload_bytes != actual.payload_bytes:
        wrong.append("length")
    if "." in expected.flags and (expected.ack or 0) != actual.ack:
        wrong.append("acknowledgment")
    if expected.window is not None and expected.window != actual.window:
        wrong.append("window")
    if (expected.urgent or 0) != (actual.urgent or 0):
        wrong.append("urgent pointer")
    if expected.options is not None:
        wrong += _compare_options(known_options(expected.options), actual.options or (), timestamp_tolerance)
    return wrong


def _compare_options(
    expected: tuple[tuple[Any, ...], ...], actual: tuple[tuple[Any, ...], ...], tolerance: int | None
) -> list[str]:
    wanted = {option[0]: option[1:] for option in expected if option[0] not in ("nop", "eol")}
    found = {option[0]: option[1:] for option in actual}
    wrong = [f"option {name} missing" for name in wanted.keys() - found.keys()]
    wrong += [f"option {name} too many" for name in found.keys() - wanted.keys()]
    for name in wanted.keys() & found.keys():
        if name != "TS":
            if wanted[name] != found[name]:
                wrong.append(f"option {name}")
            continue
        (val, ecr), (real_val, real_ecr) = wanted[name], found[name]
        if ecr != real_ecr:
            wrong.append("option TS ecr")
        if tolerance is not None and abs(val - real_val) > tolerance:
            wrong.append("option TS val")
    return sorted(wrong)
