"""A TCP peer made of scapy packets, on an address that no kernel owns.

It sits in the client's namespace of a veth pair. Its address is unknown to that kernel, which therefore neither
answers nor resets; the server's namespace knows its MAC address statically. Every segment from the server is checked
for its checksum as it is read.
"""

from __future__ import annotations

import contextlib
import itertools
import logging
import random
import select
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from support import need
from support.netns import Veth

logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns of routes that it does not find; we never ask for one

from scapy.layers.inet import IP, TCP  # noqa: E402
from scapy.layers.inet6 import IPv6  # noqa: E402
from scapy.layers.l2 import Ether  # noqa: E402
from scapy.packet import Raw  # noqa: E402

PACKET_IGNORE_OUTGOING = 23
SOL_PACKET = 263
SO_RCVBUFFORCE = 33
ETH_P_ALL = 3
EXPECT_SECONDS = 3.0
QUIET_SECONDS = 0.25
FIN, SYN, RST, PSH, ACK, URG = 1, 2, 4, 8, 16, 32
Options = list[tuple[str, Any]]


def ones_complement_sum(data: bytes) -> int:
    """RFC 1071; 0xFFFF over data that includes its own correct checksum."""
    total = sum(int.from_bytes(data[at : at + 2].ljust(2, b"\0"), "big") for at in range(0, len(data), 2))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total


@dataclass
class Peer:
    """The hand-made host: sends frames, reads what the server answers."""

    veth: Veth
    family: int
    port: int
    seed: int = 1
    sport: int = 0
    ports: Any = field(default_factory=lambda: itertools.count(20_000))

    def __post_init__(self) -> None:
        self.random = random.Random(self.seed)
        self.address = "10.77.0.9" if self.family == 4 else "fd77::9"
        self.server = self.veth.server4 if self.family == 4 else self.veth.server6
        self.mac = self._mac_of(self.veth.client)
        self.server_mac = self._mac_of(self.veth.server)
        self.veth.server.ip(
            "neigh", "add", self.address, "lladdr", self.mac, "dev", self.veth.device, "nud", "permanent"
        )
        # whole checksums and no super-packets, so that what is read is what would be on a wire
        need.tool("ethtool")
        for setting in ("tx", "tso", "gso", "gro"):
            with contextlib.suppress(AssertionError):  # a veth without that feature has nothing to switch off
                self.veth.server.run("ethtool", "-K", self.veth.device, setting, "off")
        self.sock = self.veth.client.new_socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ETH_P_ALL))
        self.sock.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self.sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_RCVBUFFORCE if hasattr(socket, "SO_RCVBUFFORCE") else 33, 1 << 24
        )
        self.sock.bind((self.veth.device, ETH_P_ALL))

    def _mac_of(self, ns: Any) -> str:
        line = subprocess.run(
            ["ip", "-n", ns.name, "-o", "link", "show", "dev", self.veth.device],
            capture_output=True, text=True, check=True, timeout=10,
        ).stdout  # fmt: skip
        return line.split("link/ether ")[1].split()[0]

    def close(self) -> None:
        """Closes the raw socket."""
        self.sock.close()

    def packet(self, tcp: Any, payload: bytes = b"", **ip: Any) -> Any:
        """Ethernet and IP round a TCP header; scapy computes lengths and checksums that are not given."""
        network = IP if self.family == 4 else IPv6
        fields = {"src": self.address, "dst": self.server} | ip
        packet = Ether(src=self.mac, dst=self.server_mac) / network(**fields) / tcp
        return packet / Raw(payload) if payload else packet

    def send(self, packet: Any) -> None:
        """A scapy packet or bytes of a frame."""
        self.sock.send(bytes(packet))

    def segment(self, sport: int, flags: int, seq: int, ack: int = 0, payload: bytes = b"", **tcp: Any) -> None:
        """One segment; tcp may override any field of the header (dataofs, chksum, urgptr, options, window...)."""
        fields = {"window": 65535} | tcp
        header = TCP(
            sport=sport, dport=self.port, flags=flags, seq=seq % 2**32, ack=ack % 2**32, **fields
        )  # fmt: skip
        self.send(self.packet(header, payload))

    def read(self, seconds: float, sport: int | None = None) -> Any | None:
        """The next TCP segment of the server, to our port sport if given; None if none comes."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            if not select.select([self.sock], [], [], left)[0]:
                return None
            received = self.sock.recv(65536)
            if sport is not None and self._port_of(received) != sport:
                continue  # before scapy takes it apart: answers to a flood come faster than that
            frame = Ether(received)
            network = frame.getlayer(IP) or frame.getlayer(IPv6)
            if network is None or network.src != self.server or network.dst != self.address or TCP not in network:
                continue
            self._check(network)
            return network[TCP]
        return None

    def _port_of(self, frame: bytes) -> int:
        """The destination port, if it is TCP."""
        at = 14 + ((frame[14] & 15) * 4 if self.family == 4 else 40) + 2
        return int.from_bytes(frame[at : at + 2], "big")

    def _check(self, network: Any) -> None:
        """The checksums of IP and TCP as sent hold (RFC 1071)."""
        raw = bytes(network)
        if isinstance(network, IP):
            header, end = raw[: network.ihl * 4], network.len
            assert ones_complement_sum(header) == 0xFFFF, f"bad IP checksum: {network.summary()}"
        else:
            header, end = raw[:40], 40 + network.plen
        segment = raw[len(header) : end]
        addresses = header[12:20] if isinstance(network, IP) else header[8:40]
        pseudo = addresses + socket.IPPROTO_TCP.to_bytes(4, "big") + len(segment).to_bytes(4, "big")
        assert ones_complement_sum(pseudo + segment) == 0xFFFF, f"bad TCP checksum: {network.summary()}"

    def expect(self, sport: int, what: Callable[[Any], bool], why: str, seconds: float = EXPECT_SECONDS) -> Any:
        """The first segment to our port sport that what() accepts; others are passed over."""
        end = time.monotonic() + seconds
        seen = []
        while (left := end - time.monotonic()) > 0:
            tcp = self.read(left, sport)
            if tcp is None:
                break
            if tcp.dport == sport and what(tcp):
                return tcp
            seen.append(tcp.summary())
        raise AssertionError(f"expected {why}; the last of {len(seen)} others: {seen[-8:]}")

    def expect_none(
        self, sport: int, what: Callable[[Any], bool], why: str, seconds: float = QUIET_SECONDS
    ) -> None:  # fmt: skip
        """No segment to sport that what() accepts comes in the given time."""
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            tcp = self.read(left, sport)
            if tcp is not None and tcp.dport == sport and what(tcp):
                raise AssertionError(f"{why}, but {tcp.summary()} came")

    def drain(self) -> None:
        """Forgets what waits."""
        while select.select([self.sock], [], [], 0)[0]:
            self.sock.recv(65536)

    def open(self, options: Options | None = None, window: int = 65535) -> Conversation:
        """A handshake; options as scapy has them."""
        sport, isn = next(self.ports), self.random.randrange(2**32)
        given = [("MSS", 1400)] if options is None else options
        self.segment(sport, SYN, isn, options=given, window=window)
        reply = self.expect(sport, lambda t: int(t.flags) == SYN | ACK, "SYN-ACK")
        assert reply.ack == (isn + 1) % 2**32, (reply.ack, isn)
        conversation = Conversation(self, sport, isn + 1, reply.seq + 1, reply.window, window)
        conversation.send(ACK)
        return conversation


@dataclass
class Conversation:
    """One connection of the peer: RFC 9293's names, our side's view. Without window scaling on our side."""

    peer: Peer
    sport: int
    snd_nxt: int
    rcv_nxt: int
    snd_wnd: int
    window: int

    def send(self, flags: int, payload: bytes = b"", *, offset: int = 0, advance: bool = True, **tcp: Any) -> None:
        """A segment at snd_nxt + offset; advances snd_nxt by what it carries unless told not to."""
        fields = {"window": self.window} | tcp
        seq = fields.pop("seq", self.snd_nxt + offset)
        ack = fields.pop("ack", self.rcv_nxt if flags & ACK else 0)
        self.peer.segment(self.sport, flags, seq, ack, payload, **fields)
        if advance:
            self.snd_nxt += len(payload) + bool(flags & SYN) + bool(flags & FIN)

    def data(self, payload: bytes) -> None:
        """In order, pushed."""
        self.send(PSH | ACK, payload)

    def expect(self, what: Callable[[Any], bool], why: str, seconds: float = EXPECT_SECONDS) -> Any:
        """See Peer.expect."""
        return self.peer.expect(self.sport, what, why, seconds)

    def expect_none(self, what: Callable[[Any], bool], why: str, seconds: float = QUIET_SECONDS) -> None:
        """See Peer.expect_none."""
        self.peer.expect_none(self.sport, what, why, seconds)

    def expect_ack(self, number: int | None = None) -> Any:
        """An ACK of everything sent, or of the given sequence number."""
        wanted = (self.snd_nxt if number is None else number) % 2**32
        return self.expect(lambda t: bool(t.flags & ACK) and t.ack == wanted, f"an ACK of {wanted}")

    def receive(self, count: int, *, largest: list[int] | None = None) -> bytes:
        """count bytes in order, each segment acknowledged; largest collects the payload sizes seen."""
        received = b""
        while len(received) < count:
            tcp = self.expect(lambda t: len(t.payload) > 0 or bool(t.flags & (FIN | RST)), f"{count} bytes")
            assert not tcp.flags & RST, f"reset after {received!r}"
            payload = bytes(tcp.payload)
            assert payload, f"closed after {len(received)} of {count} bytes"
            if largest is not None:
                largest.append(len(payload))
            skip = (self.rcv_nxt - tcp.seq) % 2**32
            if skip >= 2**31:  # a gap: this peer keeps nothing, the server will send it again
                self.send(ACK)
                continue
            fresh = payload[skip:]
            received += fresh
            self.rcv_nxt += len(fresh)
            self.send(ACK)
        return received

    def expect_fin(self) -> Any:
        """The server's FIN, at rcv_nxt; counted but not acknowledged yet."""
        fin = self.expect(lambda t: bool(t.flags & FIN), "FIN")
        assert (fin.seq + len(fin.payload)) % 2**32 == self.rcv_nxt % 2**32
        self.rcv_nxt += 1
        return fin

    def close(self) -> None:
        """The orderly end, ours first."""
        self.send(FIN | ACK)
        self.expect_fin()
        self.send(ACK)
