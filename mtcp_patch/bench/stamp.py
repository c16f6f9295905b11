"""On what a figure was measured, and whether it may be measured here at all."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from mtcp_patch import __version__

from . import counters
from .children import BenchError

SERVER_CORE, LOAD_CORE = 0, 1
LOOK_SECONDS = 0.5
# Other programs' share of the two cores above which the page says that the machine was busy.
BUSY_SHARE = 0.05
PACKAGES = ("gevent", "greenlet")


def refuse_unfit() -> None:
    """BenchError for a debug build, for one core, without root."""
    try:
        from mtcp_patch.stack import _native
    except ImportError as error:
        raise BenchError(f"the native module is not built: {error}; run `make build` first") from error
    if getattr(_native, "DEBUG_BUILD", True):
        raise BenchError("this is a debug build, whose figures mean nothing; run `make build` first")
    if (os.cpu_count() or 1) < 2:
        raise BenchError("two cores are needed: one for the server, one for the load")
    if os.geteuid() != 0:
        raise BenchError("root is needed, for network namespaces and XDP")


def busy_share(seconds: float = LOOK_SECONDS) -> float:
    """Of the two cores, now, while the bench itself does nothing. 0 to 1."""
    before = counters.cores()
    time.sleep(seconds)
    after = counters.cores()
    both = (SERVER_CORE, LOAD_CORE)
    busy = sum(after[core].busy - before[core].busy for core in both)
    total = sum(after[core].total - before[core].total for core in both)
    return busy / total if total else 0.0


def cpu_model() -> str:
    """As /proc/cpuinfo names it."""
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name.strip() == "model name":
            return value.strip()
    return platform.machine()


def commit() -> str | None:
    """Of the checkout that this package is in, with a mark when something was changed; None outside one."""
    here = Path(__file__).parent
    try:
        words = ["git", "-C", str(here), "describe", "--always", "--dirty", "--exclude=*", "--abbrev=12"]
        found = subprocess.run(words, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip()


def virtual_machine() -> str | None:
    """What systemd-detect-virt says, or the hypervisor flag of the processor."""
    if any("hypervisor" in line.split() for line in Path("/proc/cpuinfo").read_text().splitlines() if "flags" in line):
        return "yes"
    return None


def versions() -> dict[str, str]:
    """Of what runs besides Python."""
    found = {"mtcp_patch": __version__}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def take(*, quick: bool, pairs: int, seconds: float) -> dict[str, Any]:
    """The stamp of a section of the results."""
    with open("/proc/sys/net/ipv4/tcp_congestion_control", encoding="ascii") as file:
        congestion = file.read().strip()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "time": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "commit": commit(),
        "build": "release",
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "virtual_machine": virtual_machine() is not None,
        "memory_gib": round(memory / 2**30, 1),
        "kernel": platform.release(),
        "python": sys.version.split()[0],
        "versions": versions(),
        "congestion_control": congestion,
        "load_average": os.getloadavg()[0],
        "busy_before": busy_share(),
        "quick": quick,
        "pairs": pairs,
        "seconds": seconds,
    }
