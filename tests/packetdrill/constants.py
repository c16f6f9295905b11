"""Names in a script's arguments and assertions: Python's modules know most; both dialects' tcp_info is here."""

from __future__ import annotations

import errno
import os
import select
import socket
import struct
from dataclasses import dataclass
from typing import Any

from .syntax import Word
from .wire import Unsupported

# Linux's, where Python has no name.
EXTRA = {
    "SOL_TCP": socket.IPPROTO_TCP,
    "TCP_INQ": 36,
    "TCP_CM_INQ": 36,
    "SO_ZEROCOPY": 60,
    "SO_BUSY_POLL": 46,
    "SO_NOSIGPIPE": 0,
    "MSG_ZEROCOPY": 0x4000000,
    "MSG_FASTOPEN": 0x20000000,
    "MSG_EOR": socket.MSG_EOR,
    "MSG_MORE": 0x8000,
    "IPV6_TCLASS": 67,
    "SO_SNDBUFFORCE": 32,
    "SO_RCVBUFFORCE": 33,
    "TCP_REPAIR": 19,
    "SO_TIMESTAMPING": 37,
    "SO_MAX_PACING_RATE": 47,
    "SO_TXTIME": 61,
    "TCP_FASTOPEN_CONNECT": 30,
    "TCP_FASTOPEN_KEY": 33,
    "TCP_FASTOPEN_NO_COOKIE": 34,
    "TCP_MD5SIG": 14,
    "TCP_ULP": 31,
    "IP_MTU_DISCOVER": 10,
    "IP_PMTUDISC_DONT": 0,
    "IP_PMTUDISC_WANT": 1,
    "IP_PMTUDISC_DO": 2,
    "IP_FREEBIND": 15,
    "IPV6_MTU_DISCOVER": 23,
}

# RFC 2474, RFC 2597, RFC 3246, in their place in the TOS byte.
EXTRA |= {f"IPTOS_DSCP_CS{number}": number << 5 for number in range(8)}
EXTRA |= {f"IPTOS_DSCP_AF{row}{drop}": row << 5 | drop << 3 for row in range(1, 5) for drop in range(1, 4)}
EXTRA["IPTOS_DSCP_EF"] = 0xB8

# Options with which a socket of ours would be the kernel's, or that the runner cannot follow, and why.
NOT_OURS = {
    "TCP_FASTOPEN": "TCP Fast Open",
    "TCP_FASTOPEN_CONNECT": "TCP Fast Open",
    "TCP_FASTOPEN_KEY": "TCP Fast Open",
    "TCP_FASTOPEN_NO_COOKIE": "TCP Fast Open",
    "TCP_MD5SIG": "TCP MD5 signatures",
    "SO_ZEROCOPY": "zero copy",
    "SO_TIMESTAMPING": "timestamps of packets",
    "SO_MAX_PACING_RATE": "pacing",
    "SO_TXTIME": "pacing",
    "TCP_ULP": "protocols above TCP in the kernel",
}

#: Bytes of the timestamps option in every segment, with its padding (RFC 7323 appendix A).
TIMESTAMPS_BYTES = 12

# linux/tcp.h, struct tcp_info: eight bytes of bit fields and small numbers, then these.
_HEAD = "BBBBBBBB"
_U32 = [
    "rto",
    "ato",
    "snd_mss",
    "rcv_mss",
    "unacked",
    "sacked",
    "lost",
    "retrans",
    "fackets",
    "last_data_sent",
    "last_ack_sent",
    "last_data_recv",
    "last_ack_recv",
    "pmtu",
    "rcv_ssthresh",
    "rtt",
    "rttvar",
    "snd_ssthresh",
    "snd_cwnd",
    "advmss",
    "reordering",
    "rcv_rtt",
    "rcv_space",
    "total_retrans",
]
_REST = (
    ("pacing_rate max_pacing_rate bytes_acked bytes_received", "Q"),
    ("segs_out segs_in notsent_bytes min_rtt data_segs_in data_segs_out", "I"),
    ("delivery_rate busy_time rwnd_limited sndbuf_limited", "Q"),
    ("delivered delivered_ce", "I"),
    ("bytes_sent bytes_retrans", "Q"),
    ("dsack_dups reord_seen rcv_ooopack snd_wnd rcv_wnd rehash", "I"),
)

LINUX_STATES = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
]
# packetdrill's names on FreeBSD, by Linux's.
FREEBSD_STATES = {
    "TCPI_ESTABLISHED": "ESTABLISHED",
    "TCPI_SYN_SENT": "SYN_SENT",
    "TCPI_SYN_RECEIVED": "SYN_RECV",
    "TCPI_FIN_WAIT_1": "FIN_WAIT1",
    "TCPI_FIN_WAIT_2": "FIN_WAIT2",
    "TCPI_TIME_WAIT": "TIME_WAIT",
    "TCPI_CLOSED": "CLOSE",
    "TCPI_CLOSE_WAIT": "CLOSE_WAIT",
    "TCPI_LAST_ACK": "LAST_ACK",
    "TCPI_LISTEN": "LISTEN",
    "TCPI_CLOSING": "CLOSING",
}
# netinet/tcp_fsm.h.
FREEBSD_NUMBERS = {
    "CLOSE": 0,
    "LISTEN": 1,
    "SYN_SENT": 2,
    "SYN_RECV": 3,
    "ESTABLISHED": 4,
    "CLOSE_WAIT": 5,
    "FIN_WAIT1": 6,
    "CLOSING": 7,
    "LAST_ACK": 8,
    "FIN_WAIT2": 9,
    "TIME_WAIT": 10,
}
CA_STATES = ("Open", "Disorder", "CWR", "Recovery", "Loss")
INFO_OPTIONS = {"TIMESTAMPS": 1, "SACK": 2, "WSCALE": 4, "ECN": 8, "ECN_SEEN": 16, "SYN_DATA": 32}


@dataclass(frozen=True)
class Names:
    """What names mean in one script."""

    freebsd: bool

    def value(self, name: str) -> int:
        """A constant's number. Raises Unsupported for an unknown one."""
        if name in EXTRA:
            return EXTRA[name]
        for module in (socket, select, os, errno):
            found = getattr(module, name, None)
            if isinstance(found, int):
                return int(found)
        raise Unsupported(f"the name {name}")

    def option(self, level: Any, name: Any) -> tuple[int, int]:
        """Level and name of a socket option."""
        if not isinstance(level, Word) or not isinstance(name, Word):
            raise Unsupported("a socket option by number")
        return self.value(level.name), self.value(name.name)

    def seen(self, name: str, value: int) -> int:
        """An option's value as the script's system shows it: Linux shows a buffer doubled (socket(7))."""
        if self.freebsd and name in ("SO_RCVBUF", "SO_SNDBUF"):
            return value // 2
        return value

    def info(self, linux: dict[str, int]) -> dict[str, int]:
        """What `%{ }%` sees of `linux`, this system's way: FreeBSD numbers its states otherwise, and its congestion
        window is in bytes."""
        if not self.freebsd:
            return linux
        states = {number: FREEBSD_NUMBERS[name] for number, name in enumerate(LINUX_STATES, start=1)}
        shown = linux | {name: FREEBSD_NUMBERS[state] for name, state in FREEBSD_STATES.items()}
        shown["tcpi_state"] = states.get(linux["tcpi_state"], linux["tcpi_state"])
        if linux["tcpi_state"] == len(LINUX_STATES) + 1:  # TCP_NEW_SYN_RECV
            shown["tcpi_state"] = FREEBSD_NUMBERS["SYN_RECV"]
        for name in ("tcpi_snd_cwnd", "tcpi_snd_ssthresh"):
            shown[name] = linux[name] * linux["tcpi_snd_mss"]
        return shown

    def shown_mss(self, value: int, timestamps: bool) -> int:
        """TCP_MAXSEG of a connection: FreeBSD counts no options (its `t_maxseg`), Linux those of every segment."""
        return value + TIMESTAMPS_BYTES if self.freebsd and timestamps else value


def tcp_info(data: bytes) -> dict[str, int]:
    """What assertions can name: the fields of Linux's struct that `data` reaches, and the constants."""
    values = dict(zip(("state", "ca_state", "retransmits", "probes", "backoff", "options"), data, strict=False))
    values["snd_wscale"] = data[6] & 15
    values["rcv_wscale"] = data[6] >> 4
    at = struct.calcsize(_HEAD)
    for names, kind in ((" ".join(_U32), "I"), *_REST):
        for name in names.split():
            size = struct.calcsize(kind)
            if at + size > len(data):
                break
            values[name] = struct.unpack_from("=" + kind, data, at)[0]
            at += size
    named = {f"tcpi_{name}": value for name, value in values.items()}
    return named | constant_names()


def constant_names() -> dict[str, int]:
    """The constants of both dialects, by Linux's numbers."""
    states = {f"TCP_{name}": number for number, name in enumerate(LINUX_STATES, start=1)}
    states |= {name: states[f"TCP_{linux}"] for name, linux in FREEBSD_STATES.items()}
    states |= {f"TCP_CA_{name}": number for number, name in enumerate(CA_STATES)}
    states["TCP_INFINITE_SSTHRESH"] = 0x7FFFFFFF
    return states | {f"TCPI_OPT_{name}": bit for name, bit in INFO_OPTIONS.items()}
