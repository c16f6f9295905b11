"""One run, and interleaved pairs of runs.

A run: fresh namespaces, the server, the load; the load warms up (its first connection makes one exchange and closes,
for asyncio's sake) and stops; both ends' CPU and the cores are read; the load measures and stops; they are read again.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from . import checks, children, counters
from .children import BenchError, Child, native, python
from .figures import KERNEL, OURS, Run, ratio, rounded, spread
from .settings import Place, place
from .stamp import LOAD_CORE, SERVER_CORE

PORT = 7007
TCP_THREAD = "mtcp-tcp"
LOAD_SECONDS = 60.0


@dataclass(frozen=True)
class Load:
    """What the native load does; the words are those of `stack/bench/src/load`."""

    mode: str = "closed"
    connections: int = 64
    size: int = 64
    messages: int = 0
    http: bool = False
    rate: float = 0.0
    # Addresses that connections are spread over, so that a client of many does not run out of ports.
    spread: int = 1
    warmup_ms: int = 300
    measure_ms: int = 1000

    def words(self) -> list[str]:
        """The command line."""
        given = {
            "mode": self.mode, "connections": self.connections, "size": self.size, "messages": self.messages,
            "http": int(self.http), "spread": self.spread, "warmup": self.warmup_ms, "measure": self.measure_ms,
        }  # fmt: skip
        if self.rate:
            given["rate"] = self.rate
        return [word for name, value in given.items() for word in (f"--{name}", str(value))]


@dataclass(frozen=True)
class Server:
    """A program of `programs/` by its name, or ``native`` with what it does."""

    program: str
    words: tuple[str, ...] = ()
    # Of our stack, when it serves; the default when empty.
    layout: str = ""

    @property
    def is_native(self) -> bool:
        """No Python in its way."""
        return self.program == "native"

    def command(self, where: Place, host: str) -> list[str]:
        """Its command line."""
        if self.is_native:
            kind = self.words or ("echo",)
            return native("serve", "--kind", *kind, "--address", f"{host}:{PORT}", *where.server_words(self.layout))
        words = ("--host", host, "--port", str(PORT), *self.words)
        return python(self.program, *words, devices=where.server_devices, layout=self.layout)


@dataclass(frozen=True)
class Case:
    """What is measured in pairs."""

    id: str
    title: str
    setting: str
    server: Server
    load: Load
    # Between fewer than 5 pairs and more nobody may choose but --quick.
    pairs: int = 5
    sysctls: dict[str, str] = field(default_factory=dict)
    # A closed loop that is to keep the server's core busy: said on the page when it did not.
    saturates: bool = True
    # The whole distribution of the latencies is kept, for a plot; else its marks only.
    distribution: bool = False
    # Two more runs, in which the server's system calls are counted.
    count_syscalls: bool = False

    def parameters(self) -> dict[str, Any]:
        """For the JSON."""
        load = self.load
        return {
            "server": " ".join((self.server.program, *self.server.words)), "layout": self.server.layout,
            "mode": load.mode, "connections": load.connections, "size": load.size, "messages": load.messages,
            "http": load.http, "rate": load.rate, "seconds": load.measure_ms / 1000, "sysctls": dict(self.sysctls),
        }  # fmt: skip


def split_core() -> int:
    """Where a split TCP thread runs: not on the server's core, and on the load's only where there is no third."""
    return next((core for core in sorted(os.sched_getaffinity(0)) if core not in (SERVER_CORE, LOAD_CORE)), LOAD_CORE)


def start_server(case: Case, where: Place) -> Child:
    """Started and listening. For many client addresses it listens on all of them."""
    host = "0.0.0.0" if case.load.spread > 1 else where.host
    server = Child(
        case.server.command(where, host), core=SERVER_CORE, namespace=where.server, runtime_dir=RUNTIME_DIR.name
    )
    try:
        if case.server.is_native:
            server.line(children.READY_SECONDS)
        else:
            ours = where.server_devices is not None
            server.wait_for(lambda: server.listens(PORT, ours=ours), f"no listener at port {PORT}")
        if case.server.layout == "split" and where.server_devices is not None:
            server.move_thread(TCP_THREAD, split_core())
    except BaseException:
        server.end()
        raise
    return server


class _RuntimeDir:
    """Where control sockets are: both ends of a run share it. Made by `__main__`."""

    name = "/tmp"


RUNTIME_DIR = _RuntimeDir()


def measure(case: Case, stack: str, *, count_syscalls: bool = False) -> Run:
    """One run. With `count_syscalls` it is not for timing: only `syscalls` means something."""
    with place(case.setting, stack, case.sysctls) as where:
        checks.port_is_outside(where.server, PORT)
        server = start_server(case, where)
        try:
            words = ("load", "--address", f"{where.host}:{PORT}", *case.load.words(), *where.load_words())
            options = {"core": LOAD_CORE, "namespace": where.load, "runtime_dir": RUNTIME_DIR.name}
            with children.child(native(*words), **options) as load:
                return _measured(case, where, server, load, count_syscalls=count_syscalls)
        finally:
            server.end()


def _measured(case: Case, where: Place, server: Child, load: Child, *, count_syscalls: bool) -> Run:
    load.json_line(LOAD_SECONDS)
    counting = counters.Syscalls(server.pid) if count_syscalls else None
    try:
        load_before = counters.Snapshot.take(load.pid)
        before = counters.Snapshot.take(server.pid)
        calls = counting.read() if counting else 0
        load.go_on()
        told = load.json_line(LOAD_SECONDS)
        calls = counting.read() - calls if counting else 0
        after = counters.Snapshot.take(server.pid)
        load_after = counters.Snapshot.take(load.pid)
    finally:
        if counting:
            counting.close()
    if server.process.poll() is not None:
        raise server.fail("the server ended")
    checks.carried(told["carrier"], where.carrier)
    if told["latency_us"] and not case.distribution:
        del told["latency_us"]["shares"]
    run = figures_of(told, before, after)
    run["load_switches"] = (load_after.switches - load_before.switches) / run["units"]
    run["resident_bytes"] = counters.resident_bytes(server.pid)
    if where.server_devices is not None and not case.server.is_native:
        checks.served_by_ours(server.listing()["counters"], told)
    if counting:
        run["syscalls"] = calls / run["units"]
    load.go_on()
    return rounded(run)  # type: ignore[no-any-return]


def figures_of(told: dict[str, Any], before: counters.Snapshot, after: counters.Snapshot) -> Run:
    """The figures of a request; of a bulk transfer those of a MiB."""
    units = told["requests"] or told["bytes"] / 2**20
    seconds = told["seconds"]
    server = after.cpu_seconds - before.cpu_seconds
    user = after.user_seconds - before.user_seconds
    system = after.system_seconds - before.system_seconds
    share = user / (user + system) if user + system else 0.0
    cores = list(zip(before.cores, after.cores, strict=True))
    busy = [b.busy - a.busy for a, b in cores]
    machine = sum(busy)
    total = max(cores[0][1].total - cores[0][0].total, 1e-9)
    us = 1e6 / units
    return {
        "units": units, "requests": told["requests"], "connections": told["connections"], "bytes": told["bytes"],
        "seconds": seconds, "rate": units / seconds, "gbit_s": told["bytes"] * 8 / seconds / 1e9,
        "server_us": server * us, "server_user_us": server * share * us, "server_system_us": server * (1 - share) * us,
        "load_us": told["cpu_seconds"] * us, "both_us": (server + told["cpu_seconds"]) * us,
        "machine_us": machine * us, "server_core": busy[SERVER_CORE] / total, "load_core": busy[LOAD_CORE] / total,
        # What ran on the two cores besides the two ends, and what the hypervisor took.
        "foreign": max(0.0, machine - server - told["cpu_seconds"]) / (2 * total),
        "steal": sum(b.steal - a.steal for a, b in cores) / (len(cores) * total),
        "switches": (after.switches - before.switches) / units,
        "latency_us": told["latency_us"], "carrier": told["carrier"],
        **{name: told[name] for name in ("offered", "begun", "unanswered") if name in told},
    }  # fmt: skip


Say = Callable[[str], None]


def say_on_stderr(line: str) -> None:
    """Progress."""
    print(line, file=sys.stderr, flush=True)


def in_pairs(case: Case, *, stacks: Sequence[str] = (OURS, KERNEL), say: Say = say_on_stderr) -> dict[str, Any]:
    """The whole case, as it stands in the JSON. A case that cannot be measured says why, and the others go on."""
    result: dict[str, Any] = {
        "id": case.id, "title": case.title, "setting": case.setting, "parameters": case.parameters(),
        "saturates": case.saturates, "pairs": [], "syscalls": {},
    }  # fmt: skip
    try:
        for number in range(case.pairs):
            order = list(stacks) if number % 2 == 0 else list(reversed(stacks))
            runs = {stack: measure(case, stack) for stack in order}
            result["pairs"].append({stack: runs[stack] for stack in stacks})
        short = replace(case, load=replace(case.load, measure_ms=max(100, case.load.measure_ms // 4)))
        for stack in stacks if case.count_syscalls else ():
            result["syscalls"][stack] = measure(short, stack, count_syscalls=True)["syscalls"]
    except (BenchError, OSError) as error:
        result["not_measured"] = str(error)
    say(summary(result))
    return result


def summary(result: dict[str, Any]) -> str:
    """One line for whoever waits."""
    name = f"{result['setting']} {result['id']}"
    if "not_measured" in result:
        return f"{name:32} not measured: {result['not_measured'].splitlines()[0]}"
    pairs = result["pairs"]
    parts = []
    for stack in (OURS, KERNEL):
        cpu, rate = spread(pairs, stack, "server_us"), spread(pairs, stack, "rate")
        if cpu and rate:
            parts.append(f"{stack} {cpu.median:8.2f} us {rate.median:9,.0f}/s")
    by_cpu, by_rate = ratio(pairs, "server_us"), ratio(pairs, "rate", more_is_better=True)
    if by_cpu and by_rate:
        parts.append(f"ratio cpu {by_cpu.text(2)}, rate {by_rate.text(2)}")
    return f"{name:32} " + "   ".join(parts)
