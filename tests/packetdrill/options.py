"""What `--options` at the head of a script, or on the command line, say."""

from __future__ import annotations

import socket
from dataclasses import dataclass

from .calls import Addresses
from .wire import Unsupported

DEFAULT_TOLERANCE_US = 4000
DEFAULT_TOLERANCE_PERCENT = 12.5

# Options of packetdrill that concern its own process or a real device.
IGNORED_OPTIONS = {
    "code_command",
    "code_format",
    "code_sockopt",
    "gateway_ip",
    "netmask_ip",
    "speed",
    "debug",
    "verbose",
}
IGNORED_OPTIONS |= {"init_scripts", "dry_run", "define", "tcp_ts_ecr_scaled", "send_omit_free"}


@dataclass
class Options:
    """What `--options` at the head of a script (or the command line) say."""

    ip_version: str = "ipv4"
    local_ip: str | None = None
    remote_ip: str | None = None
    bind_port: int = 8080
    connect_port: int = 8080
    mtu: int = 1500
    #: Payload of the segments that a larger inbound packet is made of; 0: as it stands.
    mss: int = 0
    tolerance_us: int = DEFAULT_TOLERANCE_US
    tolerance_percent: float = DEFAULT_TOLERANCE_PERCENT
    timestamp_tick_us: int = 0
    strict_segments: bool = False
    #: Ours: calls of the same moment are one turn of the application, in which the stack does not act.
    one_turn: bool = False
    non_fatal: frozenset[str] = frozenset()

    def take(self, name: str, value: str) -> None:
        """One option. Raises Unsupported."""
        match name:
            case "ip_version":
                self.ip_version = value
            case "local_ip":
                self.local_ip = value.split("/")[0]
            case "remote_ip":
                self.remote_ip = value.split("/")[0]
            case "bind_port" | "connect_port" | "mtu" | "mss":
                setattr(self, name, int(value))
            case "tolerance_usecs":
                self.tolerance_us = int(value)
            case "tolerance_percent":
                self.tolerance_percent = float(value)
            case "tcp_ts_tick_usecs":
                self.timestamp_tick_us = int(value)
            case "strict_segments":
                self.strict_segments = True
            case "one_turn":
                self.one_turn = True
            case "non_fatal":
                self.non_fatal = frozenset(value.split(","))
            case _ if name not in IGNORED_OPTIONS:
                raise Unsupported(f"the option --{name}={value}")

    def addresses(self) -> Addresses:
        """The host's and the peer's address."""
        six = self.ip_version == "ipv6"
        local = self.local_ip or ("fd3d:fa7b:d17d::1" if six else "192.168.0.1")
        remote = self.remote_ip or ("2001:db8::1" if six else "192.0.2.1")
        if six != (":" in local) or six != (":" in remote):
            raise Unsupported(f"addresses of another family than --ip_version={self.ip_version}")
        mapped = self.ip_version == "ipv4-mapped-ipv6"
        family = socket.AF_INET6 if six or mapped else socket.AF_INET
        prefix = "::ffff:" if mapped else ""
        return Addresses(family, prefix + local, prefix + remote, self.bind_port, self.connect_port)
