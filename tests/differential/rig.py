"""Plays scripts to the target on one stack, side by side in steps, and notes the replies.

Every script has a port of the peer's to itself. In each step every script's segment is sent, or its call made; then all
replies of the next STEP_SECONDS belong to that step: longer than Linux delays an acknowledgment (0.2 s), and
well away from the half second in which both stacks answer one stray segment (tcp_invalid_ratelimit).
"""

from __future__ import annotations

import json
import select
import socket
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from support.netns import Netns, make_veth
from support.programs import OURS, Programs
from support.segments import ones_complement_sum

from .stimuli import Call, Script, Segment

TARGET = str(Path(__file__).with_name("target.py"))
PORT, FIRST_PORT = 8000, 20_000
OPTIONS = ("--device", "xdp:veth", "--require")
PEER = "10.77.0.9"
STEP_SECONDS = 0.27
ETH_P_ALL, SOL_PACKET, PACKET_IGNORE_OUTGOING, SO_RCVBUFFORCE = 3, 263, 23, 33
SYN, RST, ACK = 2, 4, 16


@dataclass(frozen=True)
class Reply:
    """A segment of the target; numbers relative to both initial ones."""

    flags: int
    seq: int
    ack: int
    payload: bytes
    closed: bool
    options: tuple[Any, ...]

    def __str__(self) -> str:
        flags = "".join(letter for bit, letter in enumerate("FSRPAU") if self.flags >> bit & 1)
        window = " win 0" if self.closed else ""
        return f"<{flags} {self.seq}:{self.seq + len(self.payload)} ack {self.ack}{window} {self.options}>"


@dataclass
class Account:
    """What happened to one script: for every step the replies and, for a call, its result."""

    replies: list[list[Reply]] = field(default_factory=list)
    results: list[list[Any] | None] = field(default_factory=list)


def options_of(segment: Segment, echo: int) -> bytes:
    """As Linux lays them out, more or less."""
    parts = b""
    if "mss" in segment.options:
        parts += struct.pack("!BBH", 2, 4, 1400)
    if "sackok" in segment.options:
        parts += b"\x01\x01\x04\x02"
    if "wscale" in segment.options:
        parts += b"\x01\x03\x03\x02"
    if segment.tsval is not None:
        parts += struct.pack("!BBBBII", 1, 1, 8, 10, segment.tsval, echo)
    return parts


def parse_options(data: bytes, isn: int) -> tuple[Any, ...]:
    """(kind, what matters), sorted: the value of the MSS, the echo of timestamps, blocks relative to `isn`."""
    found: list[Any] = []
    while data:
        if data[0] == 0:
            break
        if data[0] == 1:
            data = data[1:]
            continue
        kind, body = data[0], data[2 : data[1]]
        data = data[data[1] :]
        if kind == 8:
            found.append((kind, struct.unpack("!II", body)[1]))
        elif kind == 5:
            edges = struct.unpack(f"!{len(body) // 4}I", body)
            found.append((kind, tuple((edge - isn) % 2**32 for edge in edges)))
        elif kind == 3:
            found.append((kind,))
        else:
            found.append((kind, body))
    return tuple(sorted(found))


class Rig:
    """The target on one stack, and a raw socket opposite."""

    def __init__(self, stack: str) -> None:
        self.programs = Programs()
        self.namespaces: list[Netns] = []
        try:
            self.namespaces += [Netns("target"), Netns("stimuli")]
            self._wire(stack)
        except BaseException:
            self.close()
            raise

    def _wire(self, stack: str) -> None:
        wire = make_veth(*self.namespaces, client_addresses=False)
        for ns in self.namespaces:
            ns.run("ethtool", "-K", "veth", "tx", "off", "tso", "off", "gso", "off", "gro", "off", check=False)
        macs = [json.loads(ns.run("ip", "-j", "link", "show", "veth").stdout)[0]["address"] for ns in self.namespaces]
        wire.server.ip("neigh", "add", PEER, "lladdr", macs[1], "dev", "veth", "nud", "permanent")
        # Linux: one connection's oddity must not use up the challenges of the others (RFC 5961 7)
        wire.server.sysctl("net.ipv4.tcp_challenge_ack_limit", "2147483647")
        self._ether = bytes.fromhex((macs[0] + macs[1]).replace(":", "")) + b"\x08\x00"
        self._addresses = socket.inet_aton(PEER) + socket.inet_aton(wire.server4)
        self.program = self.programs.start(
            [TARGET, wire.server4, str(PORT)], stack=stack, ns=wire.server, options=OPTIONS if stack == OURS else (),
            port=PORT, stdin=-1,
        )  # fmt: skip
        self.sock = wire.client.new_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.sock.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 24)
        self.sock.bind(("veth", ETH_P_ALL))

    def close(self) -> None:
        """Ends the target and removes the namespaces."""
        if hasattr(self, "sock"):
            self.sock.close()
        self.programs.close()
        for ns in self.namespaces:
            ns.delete()

    def play(self, scripts: list[Script]) -> list[Account]:
        """All of them, in steps."""
        accounts = [Account() for _ in scripts]
        self._iss: list[int] = [0] * len(scripts)
        self._echo: list[int] = [0] * len(scripts)
        for step in range(max(len(script.steps) for script in scripts)):
            calls = []
            for index, script in enumerate(scripts):
                if step >= len(script.steps):
                    continue
                accounts[index].replies.append([])
                accounts[index].results.append(None)
                action = script.steps[step]
                if isinstance(action, Call):
                    calls.append((index, [FIRST_PORT + index, action.name, action.argument]))
                else:
                    self._send(index, script, action)
            for (index, _), result in zip(calls, self._tell([order for _, order in calls]), strict=True):
                accounts[index].results[step] = result
            for index, reply in self._collect(scripts):
                if step < len(accounts[index].replies):
                    accounts[index].replies[step].append(reply)
        return accounts

    def _tell(self, orders: list[list[Any]]) -> list[list[Any]]:
        if not orders:
            return []
        before = self.program.stdout().count("\n")
        pipe = self.program.process.stdin
        assert pipe is not None
        pipe.write(json.dumps(orders).encode() + b"\n")
        pipe.flush()
        end = time.monotonic() + 20
        while (output := self.program.stdout()).count("\n") == before:
            if time.monotonic() > end or not self.program.running():
                raise AssertionError(f"the target does not answer: {self.program.stderr()}")
            time.sleep(0.002)
        results: list[list[Any]] = json.loads(output.splitlines()[-1])
        return results

    def _send(self, index: int, script: Script, segment: Segment) -> None:
        options = options_of(segment, self._echo[index] if segment.flags & ACK else 0)
        seq = (script.isn + segment.seq) % 2**32
        ack = (self._iss[index] + segment.ack) % 2**32 if segment.flags & ACK else 0
        offset = (20 + len(options)) // 4 << 4
        tcp = struct.pack(
            "!HHIIBBHHH", FIRST_PORT + index, PORT, seq, ack, offset, segment.flags, segment.window, 0, 0
        )  # fmt: skip
        body = tcp + options + segment.payload
        pseudo = self._addresses + struct.pack("!HH", 6, len(body))
        checksum = 0xFFFF - ones_complement_sum(pseudo + body)
        body = body[:16] + struct.pack("!H", checksum) + body[18:]
        ip = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(body), 0, 0x4000, 64, 6, 0) + self._addresses
        ip = ip[:10] + struct.pack("!H", 0xFFFF - ones_complement_sum(ip)) + ip[12:]
        self.sock.send(self._ether + ip + body)

    def _collect(self, scripts: list[Script]) -> Iterator[tuple[int, Reply]]:
        """What comes until the step is over."""
        end = time.monotonic() + STEP_SECONDS
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.sock], [], [], left)[0]:
                return
            frame = self.sock.recv(65_536)
            if frame[12:14] != b"\x08\x00" or frame[23] != 6:
                continue
            total = int.from_bytes(frame[16:18], "big")
            tcp = frame[34 : 14 + total]
            _, port, seq, ack, offset, flags, window, _, _ = struct.unpack("!HHIIBBHHH", tcp[:20])
            index, head = port - FIRST_PORT, (offset >> 4) * 4
            if not 0 <= index < len(scripts):
                continue
            if flags & SYN:
                self._iss[index] = seq
            isn = scripts[index].isn
            relative_seq = (seq - self._iss[index]) % 2**32 if self._iss[index] else seq
            options = parse_options(tcp[20:head], isn)
            yield (
                index,
                Reply(flags, relative_seq, (ack - isn) % 2**32 if flags & ACK else 0, tcp[head:], window == 0, options),
            )


def play_on(stack: str, scripts: list[Script]) -> list[Account]:
    """All scripts on a target of their own."""
    rig = Rig(stack)
    try:
        return rig.play(scripts)
    finally:
        rig.close()
