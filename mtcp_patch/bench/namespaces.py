"""Network namespaces of the bench: fresh for every run, gone after it.

A name carries the id and the start time of the process that made it: whoever comes next sees which ones a dead run
left behind, and removes only those. Needs root and iproute2.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import subprocess
from pathlib import Path

PREFIX = "mtcpb"
CLONE_NEWNET = 0x40000000
SECONDS = 30
# Server ports lie below: a port inside the range may be taken by a client's connection.
EPHEMERAL = (10_000, 65_535)
VETH_PREFIX = "10.98.0"
VETH_SERVER = f"{VETH_PREFIX}.8"  # the first of several
VETH_ADDRESSES = 4

_libc = ctypes.CDLL(None, use_errno=True)
_numbers = itertools.count(1)


def start_time(pid: int) -> str | None:
    """In clock ticks since boot; None when there is no such process."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return None


def ip(*words: str) -> None:
    """``ip WORDS``."""
    subprocess.run(["ip", *words], check=True, timeout=SECONDS)


def setns(path: str) -> None:
    """The calling thread enters the network namespace. (os.setns is of Python 3.12.)"""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        if _libc.setns(descriptor, CLONE_NEWNET) != 0:
            number = ctypes.get_errno()
            raise OSError(number, f"setns {path}: {os.strerror(number)}")
    finally:
        os.close(descriptor)


class Namespace:
    """One namespace with its lo up and the whole range of client ports."""

    def __init__(self) -> None:
        me = os.getpid()
        self.name = f"{PREFIX}-{me}-{start_time(me)}-{next(_numbers)}"
        ip("netns", "add", self.name)
        try:
            ip("-n", self.name, "link", "set", "lo", "up")
            self.sysctl("net.ipv4.ip_local_port_range", "{} {}".format(*EPHEMERAL))
        except BaseException:
            self.delete()
            raise

    @property
    def path(self) -> str:
        """What setns wants."""
        return f"/run/netns/{self.name}"

    @contextlib.contextmanager
    def entered(self):  # type: ignore[no-untyped-def]  # contextlib's own type is the right one
        """The calling thread is inside meanwhile."""
        outside = f"/proc/{os.getpid()}/ns/net"
        back = os.open(outside, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(self.path)
            try:
                yield
            finally:
                if _libc.setns(back, CLONE_NEWNET) != 0:
                    raise OSError(ctypes.get_errno(), "setns: the way back")
        finally:
            os.close(back)

    def sysctl(self, name: str, value: str | None = None) -> str:
        """Reads, or writes and reads, a net.* setting."""
        path = Path("/proc/sys") / name.replace(".", "/")
        with self.entered():
            if value is not None:
                path.write_text(value)
            return path.read_text().strip()

    def delete(self) -> None:
        """A second call does nothing. Processes inside keep it alive, so end them first."""
        if os.path.exists(self.path):
            ip("netns", "del", self.name)


def join(server: Namespace, load: Namespace) -> None:
    """A veth between two namespaces: ``va`` at the server's, with several addresses, and ``vb`` at the load's."""
    ip("-n", server.name, "link", "add", "va", "type", "veth", "peer", "name", "vb", "netns", load.name)
    addresses = [(server, "va", 8 + number) for number in range(VETH_ADDRESSES)]
    for namespace, name, host in (*addresses, (load, "vb", 2)):
        ip("-n", namespace.name, "addr", "add", f"{VETH_PREFIX}.{host}/24", "dev", name)
    ip("-n", server.name, "link", "set", "va", "up")
    ip("-n", load.name, "link", "set", "vb", "up")


def sweep() -> None:
    """Removes the namespaces of processes that are no more."""
    for path in Path("/run/netns").glob(f"{PREFIX}-*-*-*"):
        _, pid, started, _ = path.name.split("-")
        if start_time(int(pid)) != started:
            subprocess.run(["ip", "netns", "del", path.name], check=False, timeout=SECONDS, stderr=subprocess.DEVNULL)
