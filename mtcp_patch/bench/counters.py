"""What is read of a process and of the cores at both ends of a measured time."""

from __future__ import annotations

import ctypes
import os
import struct
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

CPUCLOCK_SCHED = 2
BUSY = (0, 1, 2, 5, 6, 7)  # of /proc/stat: user nice system, irq softirq steal; not idle, not iowait
STEAL = 7
TICK = 1 / os.sysconf("SC_CLK_TCK")

_libc = ctypes.CDLL(None, use_errno=True)


def cpu_seconds(pid: int) -> float:
    """User and system time of all threads, to the nanosecond: the process's POSIX CPU clock."""
    return time.clock_gettime((~pid << 3) | CPUCLOCK_SCHED)


@dataclass(frozen=True)
class Core:
    """Seconds of one core since the start of the machine."""

    busy: float
    steal: float
    total: float


def cores() -> list[Core]:
    """All cores."""
    found = []
    for line in Path("/proc/stat").read_text().splitlines():
        name, *words = line.split()
        if name.startswith("cpu") and name != "cpu":
            ticks = [int(word) * TICK for word in words[:8]]
            found.append(Core(sum(ticks[i] for i in BUSY), ticks[STEAL], sum(ticks)))
    return found


@dataclass(frozen=True)
class Snapshot:
    """Of a process and the cores."""

    cpu_seconds: float
    user_seconds: float
    system_seconds: float
    switches: int
    cores: list[Core]

    @staticmethod
    def take(pid: int) -> Snapshot:
        """Now. The division of the CPU time into user and system is the kernel's, by ticks."""
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        user, system = int(fields[11]) * TICK, int(fields[12]) * TICK
        return Snapshot(cpu_seconds(pid), user, system, context_switches(pid), cores())


def threads(pid: int) -> list[int]:
    """Their ids."""
    return [int(name) for name in os.listdir(f"/proc/{pid}/task")]


def context_switches(pid: int) -> int:
    """Of all threads that live, voluntary and not."""
    total = 0
    for thread in threads(pid):
        try:
            status = Path(f"/proc/{pid}/task/{thread}/status").read_text()
        except OSError:  # it has ended
            continue
        total += sum(int(line.split()[1]) for line in status.splitlines() if "ctxt_switches" in line)
    return total


def resident_bytes(pid: int) -> int:
    """Memory of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


PERF_TYPE_TRACEPOINT = 2
PERF_ATTR_SIZE = 64
INHERIT = 1 << 1
SYS_PERF_EVENT_OPEN = {"x86_64": 298, "aarch64": 241}
READ_ID = "cat {}/events/raw_syscalls/sys_enter/id"


def tracepoint() -> int:
    """The number of raw_syscalls:sys_enter; OSError when the kernel has none.

    Where tracefs is not mounted it is, for the moment, in a mount namespace that nobody else sees.
    """
    mounted = Path("/sys/kernel/tracing/events/raw_syscalls/sys_enter/id")
    if mounted.exists():
        return int(mounted.read_text())
    with tempfile.TemporaryDirectory() as place:
        script = f"mount -t tracefs none {place} && {READ_ID.format(place)}"
        found = subprocess.run(
            ["unshare", "-m", "sh", "-c", script], capture_output=True, text=True, timeout=10, check=False
        )
    if found.returncode != 0:
        raise OSError(f"no tracefs: {found.stderr.strip()}")
    return int(found.stdout)


class Syscalls:
    """Counts the system calls of a process, of threads to come too, from its making to `read`.

    Every call costs a little more while this is open: never in a run that is timed.
    """

    def __init__(self, pid: int) -> None:
        number = SYS_PERF_EVENT_OPEN.get(os.uname().machine)
        if number is None:
            raise OSError(f"system calls are not counted on {os.uname().machine}")
        attributes = struct.pack("IIQQQQQ", PERF_TYPE_TRACEPOINT, PERF_ATTR_SIZE, tracepoint(), 0, 0, 0, INHERIT)
        buffer = ctypes.create_string_buffer(attributes.ljust(PERF_ATTR_SIZE, b"\0"), PERF_ATTR_SIZE)
        self.descriptors: list[int] = []
        for thread in threads(pid):
            descriptor = _libc.syscall(number, buffer, thread, -1, -1, 0)
            if descriptor < 0:
                code = ctypes.get_errno()
                self.close()
                raise OSError(code, f"perf_event_open: {os.strerror(code)}")
            self.descriptors.append(descriptor)

    def read(self) -> int:
        """So far."""
        return sum(struct.unpack("Q", os.read(descriptor, 8))[0] for descriptor in self.descriptors)

    def close(self) -> None:
        """Stops counting."""
        for descriptor in self.descriptors:
            os.close(descriptor)
        self.descriptors.clear()
