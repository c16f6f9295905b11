"""Network namespaces of the tests: made, entered, deleted; none outlives its run.

A name carries the id and the start time of the test process, so the next run can tell which ones a dead run left
behind and sweeps only those. Every namespace has its own lo, so tests that attach XDP to lo can run side by side.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PREFIX = "mtcpt"
CLONE_NEWNET = 0x40000000
RUN_SECONDS = 30
TCP_LISTEN = "0A"  # of /proc/net/tcp

_libc = ctypes.CDLL(None, use_errno=True)
_count = itertools.count(1)


def _start_time(pid: int) -> str | None:
    """The process's start time in clock ticks since boot, None if there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def _setns(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")


class Netns:
    """One namespace with its lo up."""

    def __init__(self, label: str) -> None:
        me = os.getpid()
        self.name = f"{PREFIX}-{me}-{_start_time(me)}-{next(_count)}-{label}"
        subprocess.run(["ip", "netns", "add", self.name], check=True, timeout=RUN_SECONDS)
        self.ip("link", "set", "lo", "up")

    def exec(self) -> list[str]:
        """What to put before a command line to run it inside; the process keeps its id (ip execs it)."""
        return ["ip", "netns", "exec", self.name]

    def run(
        self, *argv: str, check: bool = True, timeout: float = RUN_SECONDS, **more: object
    ) -> subprocess.CompletedProcess[str]:
        """Runs a command inside to its end; timeout in seconds."""
        result = subprocess.run(  # type: ignore[call-overload]
            [*self.exec(), *argv], capture_output=True, text=True, timeout=timeout, **more
        )
        if check and result.returncode != 0:
            raise AssertionError(f"{argv} ended with {result.returncode}: {result.stdout}{result.stderr}")
        assert isinstance(result, subprocess.CompletedProcess)
        return result

    def ip(self, *argv: str) -> None:
        """``ip -n NAME ...``"""
        subprocess.run(["ip", "-n", self.name, *argv], check=True, timeout=RUN_SECONDS)

    @contextlib.contextmanager
    def entered(self) -> Iterator[None]:
        """The calling thread is inside; a socket made meanwhile stays inside for its life."""
        outside = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            inside = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
            try:
                _setns(inside)
            finally:
                os.close(inside)
            try:
                yield
            finally:
                _setns(outside)
        finally:
            os.close(outside)

    def new_socket(self, family: int = socket.AF_INET, kind: int = socket.SOCK_STREAM, proto: int = 0) -> socket.socket:
        """A kernel socket inside."""
        with self.entered():
            return socket.socket(family, kind, proto)

    def connect(self, address: tuple[str, int], timeout: float = 10, source: str | None = None) -> socket.socket:
        """A kernel TCP connection from inside; timeout in seconds, also of every later call."""
        sock = self.new_socket(socket.AF_INET6 if ":" in address[0] else socket.AF_INET)
        try:
            sock.settimeout(timeout)
            if source is not None:
                sock.bind((source, 0))
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def sysctl(self, name: str, value: str | None = None) -> str:
        """Reads, or writes and reads, a net.* setting of this namespace."""
        path = Path("/proc/sys") / name.replace(".", "/")
        with self.entered():
            if value is not None:
                path.write_text(value)
            return path.read_text().strip()

    def listens(self, port: int) -> bool:
        """Whether the kernel has a listener on the port in here."""
        with self.entered():
            tables = [Path(f"/proc/thread-self/net/{name}").read_text() for name in ("tcp", "tcp6")]
        rows = [line.split() for table in tables for line in table.splitlines()[1:]]
        return any(row[3] == TCP_LISTEN and int(row[1].rpartition(":")[2], 16) == port for row in rows)

    def pids(self) -> list[int]:
        """The processes inside."""
        output = subprocess.run(
            ["ip", "netns", "pids", self.name], capture_output=True, text=True, timeout=RUN_SECONDS, check=False
        ).stdout
        return [int(word) for word in output.split()]

    def delete(self) -> None:
        """Ends what still runs inside and removes the namespace; a second call does nothing."""
        if not os.path.exists(f"/run/netns/{self.name}"):
            return
        for pid in self.pids():
            if pid != os.getpid():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        subprocess.run(["ip", "netns", "del", self.name], check=True, timeout=RUN_SECONDS)


@dataclass(frozen=True)
class Veth:
    """Two namespaces joined by a veth pair; each end is called ``veth`` in its own namespace."""

    server: Netns
    client: Netns
    server4: str = "10.77.0.1"
    client4: str = "10.77.0.2"
    server6: str = "fd77::1"
    client6: str = "fd77::2"
    device: str = "veth"


def make_veth(server: Netns, client: Netns, *, client_addresses: bool = True, queues: int = 1) -> Veth:
    """Joins the two; without addresses on the client's side its kernel never answers for them."""
    pair = Veth(server, client)
    many = ["numrxqueues", str(queues), "numtxqueues", str(queues)]
    server.ip("link", "add", "veth", *many, "type", "veth", "peer", "name", "veth", "netns", client.name, *many)
    for ns in (server, client):
        ns.sysctl("net.ipv6.conf.veth.accept_dad", "0")
        ns.sysctl("net.ipv6.conf.veth.router_solicitations", "0")
    server.ip("addr", "add", f"{pair.server4}/24", "dev", "veth")
    server.ip("addr", "add", f"{pair.server6}/64", "dev", "veth", "nodad")
    if client_addresses:
        client.ip("addr", "add", f"{pair.client4}/24", "dev", "veth")
        client.ip("addr", "add", f"{pair.client6}/64", "dev", "veth", "nodad")
    for ns in (server, client):
        ns.ip("link", "set", "veth", "up")
    return pair


def join(ns: Netns, middle: Netns, name: str, address4: str, address6: str) -> None:
    """A veth pair from ``veth`` in one namespace to ``name``, without addresses, in the middle; frames as on a wire."""
    middle.ip("link", "add", name, "type", "veth", "peer", "name", "veth", "netns", ns.name)
    for where, interface in ((ns, "veth"), (middle, name)):
        where.sysctl(f"net.ipv6.conf.{interface}.accept_dad", "0")
        # frames as on a wire: whole checksums, none larger than the MTU
        where.run("ethtool", "-K", interface, "tx", "off", "tso", "off", "gso", "off", "gro", "off", check=False)
    middle.sysctl(f"net.ipv6.conf.{name}.disable_ipv6", "1")
    ns.ip("addr", "add", f"{address4}/24", "dev", "veth")
    ns.ip("addr", "add", f"{address6}/64", "dev", "veth", "nodad")
    ns.ip("link", "set", "veth", "up")
    middle.ip("link", "set", name, "up")


def sweep() -> list[str]:
    """Deletes the namespaces of runs that are dead; returns their names."""
    swept = []
    listing = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, timeout=RUN_SECONDS, check=False)
    for line in listing.stdout.splitlines():
        name = line.split()[0] if line.split() else ""
        parts = name.split("-")
        if len(parts) < 4 or parts[0] != PREFIX or not parts[1].isdecimal():
            continue
        if _start_time(int(parts[1])) != parts[2]:
            stale = Netns.__new__(Netns)
            stale.name = name
            stale.delete()
            swept.append(name)
    return swept
