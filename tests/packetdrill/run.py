"""One script from its first event to its last, in virtual time.

The order is the script's: each event waits for its time, timers run at theirs, and what the stack sends is queued
until the script expects it. A blocking call (`0...0.2 connect(…)`) is tried again after everything that happens, and
its end is measured. As in packetdrill, what leaves after the last expected packet is not looked at; that is said with
the result.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import os
import re
import socket
import sys
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mtcp_patch.stack import _native

from . import checks, constants, syntax, wire
from .calls import Attempt, Calls, WouldBlock
from .flow import Failure, Flow, compare, show
from .kernel_setup import (
    KernelSetup,
    are_neighbours_freebsd,
    is_early_freebsd,
    is_freebsd,
    is_kernel_tree,
    is_linux,
)
from .options import Options
from .presume import presume
from .wire import Segment, Unsupported

FIRST_REMOTE_PORT = 40_000

# Older scripts print with the statement of Python 2.
_PYTHON_2_PRINT = re.compile(r"^\s*print\s+(?!\()[^;\n]*$", re.MULTILINE)


@dataclass(frozen=True)
class Result:
    """`outcome`: pass, fail or unsupported; `detail`: why; `notes`: what was relaxed."""

    outcome: str
    detail: str = ""
    notes: tuple[str, ...] = ()


@dataclass
class Pending:
    """A system call that has begun and not returned."""

    event: syntax.Event
    call: syntax.Call
    attempt: Attempt
    end_us: int
    tolerance_us: int


@dataclass
class Run:
    """The state of one script."""

    path: Path
    #: The folder of scripts that it is one of.
    corpus: Path
    text: str
    script: syntax.Script
    options: Options
    notes: list[str] = field(default_factory=list)
    origin_us: int = 0
    last_us: int = 0
    flow: Flow | None = None
    #: The socket under test listens, or connects, and no packet has shown its other end.
    listening: bool = False
    connecting: bool = False
    ports: int = FIRST_REMOTE_PORT
    outbound: deque[Segment] = field(default_factory=deque)
    pending: Pending | None = None
    #: After the last byte of the peer, by the script's numbers.
    next_seq: int = 1
    #: What assertions have kept for later ones.
    kept: dict[str, Any] = field(default_factory=dict)
    #: The events that are still to come.
    rest: list[syntax.Event] = field(default_factory=list)
    host: Any = None
    calls: Any = None
    setup: Any = None

    def run(self) -> None:
        """Raises Failure or Unsupported with the reason."""
        for name, value in self.script.options:
            self.options.take(name, value)
        addresses = self.options.addresses()
        freebsd = is_freebsd(self.text)
        linux = not freebsd and is_linux(self.text)
        if not freebsd and not linux and are_neighbours_freebsd(self.path, self.corpus):
            freebsd = True
            self._note("FreeBSD, as the scripts around it")
        self.setup = KernelSetup(
            self.path.parent,
            freebsd,
            _native.VirtualHost.defaults(),
            linux,
            early_freebsd=is_early_freebsd(self.text),
            kernel_tree=is_kernel_tree(self.text),
        )
        self.calls = Calls(
            addresses, constants.Names(freebsd), lambda: int(self.host.now()), lambda fd: bool(self.host.is_pinned(fd))
        )
        try:
            for index, event in enumerate(self.script.events):
                self.rest = self.script.events[index + 1 :]
                try:
                    self._event(event)
                except (Failure, Unsupported) as error:
                    raise type(error)(f"line {event.line}: {error}") from error
            self._end_of_pending()
        finally:
            self.calls.close_all()
            for text in (*self.setup.relaxed, *self.calls.notes):
                self._note(text)
        if self.outbound:
            self.notes.append(f"{len(self.outbound)} packet(s) after the last expected one not looked at")
        if freebsd:
            self.notes.append("SO_RCVBUF and SO_SNDBUF halved: FreeBSD shows them undoubled")

    # --- time -------------------------------------------------------------------------------------------------------

    def _now(self) -> int:
        return int(self.host.now()) - self.origin_us

    def _start_host(self) -> None:
        local = self.calls.addresses.local.removeprefix("::ffff:")
        for note in presume(self.setup.settings, self.script, self.setup.freebsd):
            self._note(note)
        self.calls.congestion = self.setup.congestion
        self.host = _native.VirtualHost(self.setup.settings, [local], self.setup.mtu or self.options.mtu)
        # Not at 0: a clock that has run is what timers and timestamps meet.
        self.origin_us = 1_000_000
        self.host.advance(self.origin_us)

    def _collect(self) -> None:
        for at_us, frame in self.host.take():
            segment = wire.read(at_us - self.origin_us, frame)
            if segment is not None:
                self.outbound.append(segment)

    def _advance(self, until_us: int) -> None:
        """Moves the time, and lets a blocked call look after each timer."""
        if self.host is None:
            return
        target = until_us + self.origin_us
        while (due := self.host.next_timer()) is not None and due <= target:
            self.host.advance(max(due, self.host.now() + 1))
            self._poke()
        self.host.advance(target)
        self._poke()

    def _poke(self) -> None:
        self._collect()
        self._try_pending()

    def _try_pending(self) -> None:
        if self.pending is None:
            return
        waiting = self.pending
        try:
            outcome = self._outcome(waiting.attempt)
        except WouldBlock:
            return
        self.pending = None
        if not self.options.one_turn:
            self._collect()
        late = self._now() - waiting.end_us
        if abs(late) > waiting.tolerance_us:
            raise Failure(
                f"line {waiting.event.line}: {waiting.call.name}() returned at {_seconds(self._now())}, "
                f"expected at {_seconds(waiting.end_us)} (tolerance {waiting.tolerance_us} us)"
            )
        self._check(waiting.call, *outcome)

    def _end_of_pending(self) -> None:
        if self.pending is not None:
            waiting = self.pending
            self._advance(max(self._now(), waiting.end_us + waiting.tolerance_us))
            if self.pending is not None:
                raise Failure(f"line {waiting.event.line}: {waiting.call.name}() does not return")

    def _times(self, event: syntax.Event) -> tuple[int, int]:
        base = self.last_us if event.time.kind in ("relative", "relative_between") else 0
        if event.time.kind == "anytime":
            base = self._now() if self.host else self.last_us
        return base + event.time.start_us, base + event.time.end_us

    def _tolerance(self, start_us: int) -> int:
        return max(self.options.tolerance_us, int(self.options.tolerance_percent / 100 * (start_us - self.last_us)))

    # --- events -----------------------------------------------------------------------------------------------------

    def _event(self, event: syntax.Event) -> None:
        start, end = self._times(event)
        tolerance = self._tolerance(start)
        match event.action:
            case syntax.Packet(inbound=False) as packet:
                self._expect(event, packet, start, end, tolerance)
            case syntax.Packet() as packet:
                self._advance(start)
                self._inject(packet)
            case syntax.Call() as call:
                self._call(event, call, start, tolerance)
            case syntax.Command(text):
                self._advance(start)
                self._command(text)
            case syntax.Code(text):
                self._advance(start)
                self._code(text)
        anytime = event.time.kind == "anytime"
        self.last_us = self._now() if self.host and (anytime or start != end) else start

    def _call(self, event: syntax.Event, call: syntax.Call, start: int, tolerance: int) -> None:
        self._end_of_pending()
        if self.host is None:
            self._start_host()
        same_turn = self.options.one_turn and start == self._now()
        if not same_turn:
            self._advance(start)
        try:
            attempt = self.calls.attempt(call)
        except OSError as error:
            self._check(call, -1, error.errno or 0)
            return
        except TypeError as error:
            raise Unsupported(f"{call.name}() with these arguments ({error})") from error
        end = start if call.end_us is None else call.end_us + (self.last_us if event.time.kind == "relative" else 0)
        self.pending = Pending(event, call, attempt, end, tolerance)
        if self.options.one_turn:
            self._try_pending()
        else:
            self._poke()
        self._take_notice()
        if self.pending is not None and call.end_us is None:
            self._end_of_pending()

    def _outcome(self, attempt: Attempt) -> tuple[int, int]:
        try:
            result = attempt(), 0
        except (BlockingIOError, OSError) as error:
            result = -1, error.errno or 0
        finally:
            self._take_notice()
        return result

    def _take_notice(self) -> None:
        for what in self.calls.seen:
            self.listening = what == "listen"
            self.connecting = what == "connect"
            self.flow = None
        self.calls.seen.clear()

    def _check(self, call: syntax.Call, value: int, number: int) -> None:
        actual = f"{value} {errno.errorcode.get(number, number)}" if value < 0 else str(value)
        if call.result is not ...:
            expected = self.calls.number(call.result)
            wanted = getattr(errno, call.errno) if call.errno and hasattr(errno, call.errno) else 0
            if call.errno and not wanted:
                raise Unsupported(f"the error {call.errno}")
            if expected == value and (value >= 0 or not wanted or wanted == number):
                return
            text = f"{call.name}(): expected {expected}{' ' + call.errno if call.errno else ''}, actual {actual}"
            if "syscall" in self.options.non_fatal:
                self.notes.append(f"not fatal: {text}")
                return
            raise Failure(text)

    # --- packets ----------------------------------------------------------------------------------------------------

    def _new_passive_flow(self) -> Flow:
        self.ports += 1
        addresses = self.calls.addresses
        local = addresses.local.removeprefix("::ffff:")
        remote = addresses.remote.removeprefix("::ffff:")
        self.listening = False
        return Flow((local, addresses.bind_port), (remote, self.ports), passive=True)

    def _inject(self, packet: syntax.Packet) -> None:
        if self.host is None:
            self._start_host()
        self.host.inject(*(self._frame(part) for part in self._segmented(packet)))
        self._poke()

    def _segmented(self, packet: syntax.Packet) -> list[syntax.Packet]:
        """What GRO would have joined, which `--mss` tells. In order: as the segments that it was, in one batch, which
        is answered once. Else joined, because each of those would be answered by itself (RFC 5681 4.2)."""
        body, mss = packet.body, self.options.mss
        if not isinstance(body, syntax.Tcp) or body.payload_bytes == 0 or body.seq is None:
            return [packet]
        in_order, end = body.seq == self.next_seq, body.seq + body.payload_bytes
        self.next_seq = max(end, self.next_seq)
        if not in_order or not 0 < mss < body.payload_bytes:
            return [packet]
        parts = []
        for start in range(body.seq, end, mss):
            last = start + mss >= end
            part = dataclasses.replace(
                body,
                seq=start % wire.MODULUS,
                payload_bytes=min(mss, end - start),
                flags=body.flags if last else "".join(flag for flag in body.flags if flag not in "PF"),
            )
            parts.append(dataclasses.replace(packet, body=part))
        return parts

    def _frame(self, packet: syntax.Packet) -> bytes:
        fields = wire.ip_fields(packet.ip)
        match packet.body:
            case syntax.Udp():
                raise Unsupported("UDP packets")
            case syntax.Icmp() as message:
                if self.flow is None:
                    raise Unsupported("an ICMP message before there is a connection")
                seq = (message.seq or 0) + self.flow.local_isn
                return wire.make_icmp(message, self.flow.local, self.flow.remote, seq, fields)
        segment = packet.body
        if segment.encapsulation:
            raise Unsupported("TCP in UDP")
        opening = self.flow is None and not self.connecting
        if opening or (self.listening and self.flow is None):
            self.flow = self._new_passive_flow()
            self.flow.remote_isn = segment.seq or 0
        if self.flow is None:
            raise Unsupported("a packet for a connection that has sent nothing")
        if self.flow.passive and segment.flags == "S" and self.flow.reset:
            # What comes after a reset is a new connection, with initial numbers of its own.
            self.flow.opened, self.flow.reset, self.flow.remote_isn = False, False, segment.seq or 0
        self.flow.reset |= "R" in segment.flags
        if not self.flow.passive and "S" in segment.flags and "." in segment.flags:
            self.flow.remote_isn = segment.seq or 0
        elif not self.flow.passive and "S" in segment.flags and self.connecting:
            self.flow.remote_isn = segment.seq or 0  # a simultaneous open
        self.connecting = False
        numbers, options = self.flow.inbound(segment)
        remote = (self.flow.remote[0], segment.ports[0]) if segment.ports else self.flow.remote
        local = (self.flow.local[0], segment.ports[1]) if segment.ports else self.flow.local
        return wire.make_tcp(remote, local, segment, numbers, options, fields)

    def _next(self) -> Segment | None:
        """The oldest segment of the connection under test that the script has not seen."""
        while self.outbound:
            segment = self.outbound.popleft()
            if self.flow is None and self.connecting and segment.destination[1] == self.calls.addresses.connect_port:
                self.flow = Flow(segment.source, segment.destination, passive=False)
            if self.flow is not None and self.flow.owns(segment):
                return segment
            self.notes.append(f"a packet of another connection left aside ({segment.flags} to {segment.destination})")
        return None

    def _await(self, until_us: int) -> Segment | None:
        """The next segment, waiting for it until a time."""
        while True:
            found = self._next()
            if found is not None:
                return found
            now, due = self._now(), self.host.next_timer()
            if due is None or due - self.origin_us > until_us:
                self._advance(max(now, until_us))
                return self._next()
            self._advance(max(due - self.origin_us, now))

    def _expect(self, event: syntax.Event, packet: syntax.Packet, start: int, end: int, tolerance: int) -> None:
        if not isinstance(packet.body, syntax.Tcp):
            raise Unsupported("an outbound packet that is not TCP")
        if self.host is None:
            raise Failure("no packet can leave before a socket is made")
        expected = packet.body
        if expected.encapsulation:
            raise Unsupported("TCP in UDP")
        fields = wire.ip_fields(packet.ip)
        anytime = event.time.kind == "anytime"
        until = end + tolerance if not anytime else start + 3_600_000_000
        segment = self._await(until)
        if segment is None:
            raise Failure(f"expected {show(expected)}, actual no packet until {_seconds(self._now())}")
        assert self.flow is not None
        actual = self.flow.outbound(segment, expected)
        joined = False
        while actual.payload_bytes < expected.payload_bytes and not self.options.strict_segments:
            more = self._await(until)
            if more is None:
                break
            actual, segment, joined = self._join(actual, self.flow.outbound(more, expected)), more, True
        if joined and "P" in expected.flags and "P" not in actual.flags:
            # Linux sets PSH where a super-packet ends, which is within what a write left (RFC 9293 3.8.6.2.1: MAY)
            self._note("PSH in the middle of a write not expected: there are no super-packets here")
            actual = dataclasses.replace(actual, flags=actual.flags + "P")
        ticks = self.options.timestamp_tick_us
        wrong = compare(expected, actual, tolerance // ticks if ticks else None)
        wrong += [name for name, value in fields.items() if not _ip_agrees(name, value, segment)]
        if wrong:
            raise Failure(f"{', '.join(wrong)}: expected {show(expected)}, actual {show(actual)}")
        if not anytime and not start - tolerance <= segment.at_us <= end + tolerance:
            raise Failure(
                f"expected {show(expected)} at {_seconds(start)}{f'~{_seconds(end)}' if end != start else ''}, "
                f"actual at {_seconds(segment.at_us)} (tolerance {tolerance} us)"
            )

    def _note(self, text: str) -> None:
        if text not in self.notes:
            self.notes.append(text)

    def _join(self, first: syntax.Tcp, second: syntax.Tcp) -> syntax.Tcp:
        """Two segments as one larger one, as a device with segmentation offload would have carried them."""
        self._note("segments that follow one another compared as one")
        if first.seq is None or second.seq != (first.seq + first.payload_bytes) % wire.MODULUS:
            raise Failure(f"{show(second)} does not follow {show(first)}")
        if first.ack != second.ack:
            raise Failure(f"{show(second)} acknowledges other bytes than {show(first)}")
        flags = "".join(set(first.flags.replace("P", "")) | set(second.flags))
        return syntax.Tcp(
            flags,
            first.seq,
            first.payload_bytes + second.payload_bytes,
            second.ack,
            second.window,
            second.urgent,
            second.options,
        )

    # --- commands and assertions ------------------------------------------------------------------------------------

    def _command(self, text: str) -> None:
        before, mtu = dict(self.setup.settings), self.setup.mtu
        for part in self.setup.apply(text):
            if not self.calls.files.take(part.split()):
                self._check_command(part)
        self.calls.congestion = self.setup.congestion
        if self.host is not None and self.setup.mtu != mtu:
            raise Unsupported("another MTU while the host runs")
        if self.host is not None and self.setup.settings != before:
            self.host.configure(self.setup.settings)

    def _check_command(self, part: str) -> None:
        queue = re.fullmatch(r"tc qdisc (add|replace) dev \S+ root pfifo limit (\d+)", part)
        if queue and self.host is not None:
            self.host.refuse(queue[2] == "0")
            return
        if re.fullmatch(r"tc qdisc (del|delete) dev \S+ root", part):
            if self.host is not None:
                self.host.refuse(False)
            return
        sleep = re.fullmatch(r"sleep ([\d.]+)", part)
        if sleep:
            self._advance(self._now() + syntax.microseconds(sleep[1]))
            return
        if checks.check(part, running=self.host is not None):
            return
        if part.startswith("tcpdrop ") and self._only_closes_follow():
            self._note("tcpdrop left out: nothing is looked at after it")
            return
        raise Unsupported(f"the command {part.split()[0]!r}: {part}")

    def _only_closes_follow(self) -> bool:
        return all(
            isinstance(action, syntax.Command) or (isinstance(action, syntax.Call) and action.name == "close")
            for action in (event.action for event in self.rest)
        )

    def _code(self, text: str) -> None:
        handle = self.calls.subject
        if handle is None:
            raise Unsupported("an assertion before there is a socket")
        try:
            data = handle.sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        except OSError as error:
            raise Unsupported(f"TCP_INFO: {os.strerror(error.errno or 0)}") from error
        info = self.calls.names.info(constants.tcp_info(data))
        if self.flow is not None:
            info["local_isn"] = self.flow.local_isn
        names = self.kept | info
        code = _PYTHON_2_PRINT.sub("pass", re.sub(r"\\\n\s*", "", text))
        try:
            # what a script prints is none of our results
            with contextlib.redirect_stdout(sys.stderr):
                exec(code, {}, names)
        except AssertionError as error:
            shown = {name: names[name] for name in re.findall(r"tcpi_\w+", text) if name in names}
            raise Failure(f"%{{ {text.strip()} }}%: {shown} {error}") from error
        except NameError as error:
            raise Unsupported(f"tcp_info: {error}") from error
        except SyntaxError as error:
            raise Unsupported(f"%{{ {text.strip()} }}% is not Python: {error.msg}") from error
        self.kept = {name: value for name, value in names.items() if name not in info}


def _ip_agrees(name: str, value: int, segment: Segment) -> bool:
    match name:
        case "ecn":
            return segment.ecn == value
        case "ect":
            return segment.ecn in (1, 2)
        case "ttl":
            return segment.hop_limit == value
    return segment.tos == value


def _seconds(microseconds: int) -> str:
    return f"{microseconds / 1_000_000:.6f} s"


def run_file(path: Path, corpus: Path, overrides: dict[str, str]) -> Result:
    """Run one script of a folder of scripts.

    Of `#ifdef STANDARD` and `#ifdef FreeBSD` the standard's branch comes first, then FreeBSD's.
    """
    try:
        text = path.read_text(errors="replace")
    except OSError as error:
        return Result("unsupported", f"cannot be read: {error.strerror}")
    names = syntax.branches(text)
    choices: list[frozenset[str]] = [frozenset({name}) for name in ("STANDARD", "FreeBSD") if name in names] or [
        frozenset()
    ]
    results = [_run_text(path, corpus, text, choice, overrides) for choice in choices[:1]]
    for choice in choices[1:]:
        if results[-1].outcome == "pass":
            break
        results.append(_run_text(path, corpus, text, choice, overrides))
    last = results[-1]
    if last.outcome != "pass":
        if len(results) == 1:
            return last
        details = (f"{next(iter(choice))} branch: {each.detail}" for choice, each in zip(choices, results, strict=True))
        return Result(results[0].outcome, "; ".join(details), results[0].notes)
    if len(choices) > 1:
        chosen = next(iter(choices[len(results) - 1]))
        return Result("pass", last.detail, (*last.notes, f"of its #ifdef branches {chosen}"))
    return last


def _run_text(path: Path, corpus: Path, text: str, defined: frozenset[str], overrides: dict[str, str]) -> Result:
    options = Options()
    run = None
    try:
        for name, value in overrides.items():
            options.take(name, value)
        run = Run(path, corpus, text, syntax.parse(text, defined), options)
        run.run()
    except (syntax.SyntaxFault, Unsupported) as error:
        return Result("unsupported", str(error), tuple(run.notes) if run else ())
    except Failure as error:
        return Result("fail", str(error), tuple(run.notes) if run else ())
    return Result("pass", f"tolerance {options.tolerance_us} us", tuple(dict.fromkeys(run.notes)))
