"""Packets: the script's made into bytes, the stack's read from bytes. Scapy knows the headers and their checksums."""

from __future__ import annotations

import ipaddress
import logging
import re
from dataclasses import dataclass
from typing import Any

from . import syntax

logging.getLogger("scapy").setLevel(logging.ERROR)  # it warns of routes that it does not find; we never ask for one

from scapy.layers.inet import ICMP, IP, TCP, ICMPerror, IPerror, TCPerror  # noqa: E402, F401
from scapy.layers.inet6 import (  # noqa: E402
    ICMPv6DestUnreach,
    ICMPv6ND_RA,
    ICMPv6NDOptMTU,
    ICMPv6PacketTooBig,
    ICMPv6ParamProblem,
    ICMPv6TimeExceeded,
    IPv6,
)
from scapy.packet import Raw  # noqa: E402

ECN_OF_NAME = {"noecn": 0, "ect1": 1, "ect0": 2, "ce": 3}
FLAG_OF_LETTER = {"F": 1, "S": 2, "R": 4, "P": 8, ".": 16, "U": 32, "E": 64, "W": 128}
MODULUS = 1 << 32

# RFC 792, RFC 4443: type and code by packetdrill's names.
ICMP4_KINDS = {
    "echo_reply": 0,
    "unreachable": 3,
    "source_quench": 4,
    "redirect": 5,
    "echo_request": 8,
    "router_advertisement": 9,
    "router_solicitation": 10,
    "time_exceeded": 11,
    "parameter_problem": 12,
    "timestamp": 13,
    "timestamp_reply": 14,
    "timestamp_request": 13,
    "info_request": 15,
    "info_reply": 16,
    "information_request": 15,
    "information_reply": 16,
    "address_mask_request": 17,
    "address_mask_reply": 18,
}
ICMP4_CODES = {
    "net_unreachable": 0,
    "host_unreachable": 1,
    "protocol_unreachable": 2,
    "port_unreachable": 3,
    "frag_needed": 4,
    "source_route_failed": 5,
    "net_unknown": 6,
    "host_unknown": 7,
    "source_host_isolated": 8,
    "net_prohibited": 9,
    "host_prohibited": 10,
    "net_unreachable_for_tos": 11,
    "host_unreachable_for_tos": 12,
    "packet_filtered": 13,
    "precedence_violation": 14,
    "precedence_cutoff": 15,
    "ttl_exceeded_in_transit": 0,
    "fragment_reassembly_time_exceeded": 1,
    "frag_reass_exceeded": 1,
}
ICMP6_CODES = {
    "no_route": 0,
    "admin_prohibited": 1,
    "not_neighbour": 2,
    "address_unreachable": 3,
    "port_unreachable": 4,
    "exceeded_hop_limit": 0,
    "hop_limit_exceeded": 0,
    "exceeded_frag_time": 1,
    "erroneous_header_field": 0,
    "header_field": 0,
    "unknown_next_header": 1,
    "unknown_option": 2,
}
# What google's scripts call alike in both families.
ICMP6_ALIASES = {"net_unreachable": "no_route", "host_unreachable": "address_unreachable"}


class Unsupported(Exception):
    """What the script asks for and this runner or the stack does not have."""


@dataclass(frozen=True)
class Segment:
    """A TCP segment that left the stack, real numbers. `options` as the script writes them, padding left out."""

    at_us: int
    source: tuple[str, int]
    destination: tuple[str, int]
    flags: str
    seq: int
    ack: int
    window: int
    urgent: int
    payload_bytes: int
    options: tuple[tuple[Any, ...], ...]
    ecn: int
    hop_limit: int
    tos: int


def normal_flags(text: str) -> str:
    """The letters in one order; packetdrill's "-" is none."""
    return "".join(letter for letter in FLAG_OF_LETTER if letter in text)


def _option(name: Any, value: Any) -> tuple[Any, ...] | None:
    match name:
        case "NOP" | "EOL":
            return None
        case "MSS":
            return ("mss", value)
        case "WScale":
            return ("wscale", value)
        case "SAckOK":
            return ("sackOK",)
        case "SAck":
            return ("sack", *zip(value[::2], value[1::2], strict=True))
        case "Timestamp":
            return ("TS", *value)
        case _:
            return (str(name), value)


def read(at_us: int, frame: bytes) -> Segment | None:
    """The segment in an IP packet; None when it is none."""
    packet = IP(frame) if frame[0] >> 4 == 4 else IPv6(frame)
    if TCP not in packet:
        return None
    tcp = packet[TCP]
    six = isinstance(packet, IPv6)
    tos = packet.tc if six else packet.tos
    options = tuple(found for found in (_option(*option) for option in tcp.options) if found is not None)
    bits = int(tcp.flags)
    flags = "".join(letter for letter, bit in FLAG_OF_LETTER.items() if bits & bit)
    size = (packet.plen + 40 if six else packet.len) - (len(bytes(packet)) - len(bytes(tcp)))
    return Segment(
        at_us,
        (packet.src, tcp.sport),
        (packet.dst, tcp.dport),
        flags,
        tcp.seq,
        tcp.ack,
        tcp.window,
        tcp.urgptr,
        size - tcp.dataofs * 4,
        options,
        tos & 3,
        packet.hlim if six else packet.ttl,
        tos,
    )


def ip_fields(words: tuple[str, ...]) -> dict[str, int]:
    """`(ttl 64)`, `[ect0]`, `(tos 0x20)` as numbers: ttl, ecn, tos. Raises Unsupported."""
    fields = {}
    rest = iter(word for word in words if word != ",")
    for word in rest:
        if word in ECN_OF_NAME:
            fields["ecn"] = ECN_OF_NAME[word]
        elif word in ("ttl", "hlim"):
            fields["ttl"] = int(next(rest), 0)
        elif word in ("tos", "class"):
            fields["tos"] = int(next(rest), 0)
        elif word == "ect01":
            fields["ect"] = 1
        else:
            raise Unsupported(f"the IP field {word!r}")
    return fields


def _ip(source: str, destination: str, fields: dict[str, int]) -> Any:
    tos = fields.get("tos", fields.get("ecn", 0))
    ttl = fields.get("ttl", 255)
    if ipaddress.ip_address(source).version == 4:
        return IP(src=source, dst=destination, tos=tos, ttl=ttl, flags="DF")
    return IPv6(src=source, dst=destination, tc=tos, hlim=ttl)


def known_options(options: tuple[tuple[Any, ...], ...]) -> tuple[tuple[Any, ...], ...]:
    """The script's options with numbers for words, `nop` and `eol` kept. Raises Unsupported for others."""
    made: list[tuple[Any, ...]] = []
    for name, *values in options:
        match name, values:
            case (("nop" | "eol" | "sackOK"), []):
                made.append((name,))
            case (("mss" | "wscale"), [value]):
                made.append((name, int(value)))
            case "sack", blocks if blocks and all(isinstance(block, tuple) for block in blocks):
                made.append((name, *blocks))
            case "TS", ["val", val, "ecr", ecr]:
                made.append((name, int(val), int(ecr)))
            case (("FO" | "FOEXP"), _):
                raise Unsupported("TCP Fast Open")
            case "md5", _:
                raise Unsupported("TCP MD5 signatures")
            case "ECN", _:
                raise Unsupported("AccECN")
            case _:
                raise Unsupported(f"the TCP option {name!r}")
    return tuple(made)


def _scapy_option(option: tuple[Any, ...]) -> tuple[str, Any]:
    match option:
        case ("nop",):
            return "NOP", None
        case ("eol",):
            return "EOL", None
        case ("sackOK",):
            return "SAckOK", b""
        case ("mss", value):
            return "MSS", value
        case ("wscale", value):
            return "WScale", value
        case ("TS", val, ecr):
            return "Timestamp", (val, ecr)
        case (_, *blocks):
            return "SAck", tuple(edge for block in blocks for edge in block)
    raise AssertionError(option)


def make_tcp(
    source: tuple[str, int],
    destination: tuple[str, int],
    segment: syntax.Tcp,
    numbers: tuple[int, int],
    options: tuple[tuple[Any, ...], ...],
    ip: dict[str, int],
) -> bytes:
    """The bytes of a segment: `numbers` are its real sequence and acknowledgment numbers."""
    tcp = TCP(
        sport=source[1],
        dport=destination[1],
        seq=numbers[0] % MODULUS,
        ack=numbers[1] % MODULUS,
        flags=sum(bit for letter, bit in FLAG_OF_LETTER.items() if letter in segment.flags),
        window=segment.window or 0,
        urgptr=segment.urgent or 0,
        options=[_scapy_option(option) for option in options],
    )
    packet = _ip(source[0], destination[0], ip) / tcp
    if segment.payload_bytes:
        packet /= Raw(bytes(segment.payload_bytes))
    return bytes(packet)


def make_icmp(
    message: syntax.Icmp, local: tuple[str, int], remote: tuple[str, int], seq: int, ip: dict[str, int]
) -> bytes:
    """The bytes of an ICMP error about the segment `seq` that `local` sent to `remote`."""
    words = list(message.words)
    mtu = 0
    if "mtu" in words:
        at = words.index("mtu")
        mtu = int(words[at + 1], 0)
        del words[at : at + 2]
    code = words[0] if words else None
    quoted = TCP(sport=local[1], dport=remote[1], seq=seq % MODULUS, flags="A")
    if ipaddress.ip_address(local[0]).version == 6:
        return _make_icmp6(message, local, remote, quoted, code, mtu, ip)
    kind = int(message.kind[5:]) if re.fullmatch(r"type_\d+", message.kind) else ICMP4_KINDS.get(message.kind)
    number = _code(code, ICMP4_CODES)
    if kind is None or number is None:
        raise Unsupported(f"the ICMP message {message.kind} {code or ''}")
    inner = IP(src=local[0], dst=remote[0], len=40 + message.payload_bytes, flags="DF") / quoted
    head = ICMP(type=kind, code=number, nexthopmtu=mtu) if mtu else ICMP(type=kind, code=number)
    return bytes(_ip(remote[0], local[0], ip) / head / Raw(bytes(inner)[:28]))


def _code(word: str | None, names: dict[str, int]) -> int | None:
    """The number of an ICMP code that may be a name, `code_7` or a number."""
    number = re.fullmatch(r"(?:code_)?(\d+)", word or "0")
    return int(number[1]) if number else names.get(word or "")


def _make_icmp6(
    message: syntax.Icmp,
    local: tuple[str, int],
    remote: tuple[str, int],
    quoted: Any,
    code: str | None,
    mtu: int,
    ip: dict[str, int],
) -> bytes:
    inner = IPv6(src=local[0], dst=remote[0], plen=20 + message.payload_bytes) / quoted
    code = ICMP6_ALIASES.get(code, code) if code else None
    number = _code(code, ICMP6_CODES)
    head: Any
    match message.kind:
        case "packet_too_big":
            head, number = ICMPv6PacketTooBig(mtu=mtu), 0
        case "unreachable" if code == "frag_needed":
            head, number = ICMPv6PacketTooBig(mtu=mtu), 0
        case "unreachable":
            head = ICMPv6DestUnreach()
        case "time_exceeded":
            head = ICMPv6TimeExceeded()
        case "parameter_problem":
            head = ICMPv6ParamProblem()
        case "router_advertisement":
            # RFC 4861 4.2, 4.6.4: a message of neighbour discovery, which quotes nothing.
            advertised = ICMPv6ND_RA() / ICMPv6NDOptMTU(mtu=mtu) if mtu else ICMPv6ND_RA()
            return bytes(_ip(remote[0], local[0], ip) / advertised)
        case _:
            raise Unsupported(f"the ICMPv6 message {message.kind}")
    if number is None:
        raise Unsupported(f"the ICMPv6 message {message.kind} {code}")
    head.code = number
    return bytes(_ip(remote[0], local[0], ip) / head / Raw(bytes(inner)))
