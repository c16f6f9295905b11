"""Connections: how many a second, and what those that do nothing occupy.

Memory of the kernel's connections is not in any process: it is what the machine's MemAvailable loses, both ends of
them. Ours is that of the server's process, while the client's ends are the kernel's and the same for both.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from .. import checks, children, counters
from .. import run as running
from ..children import BenchError, native
from ..figures import KERNEL, OURS, rounded
from ..plan import Plan, Results, in_settings
from ..run import LOAD_SECONDS, PORT, Case, Load, Server, in_pairs, start_server
from ..settings import place
from ..stamp import LOAD_CORE

IDLE = (1_000, 100_000)
SPARE_DESCRIPTORS = 1_000
IDLE_SECONDS = 120.0
IDLE_TIMES = 2  # memory is the same each time
ADDRESSES = 4
RATE_SERVERS = (("native", Server("native")), ("selectors", Server("selectors_echo")))


def available_bytes() -> int:
    """Memory of the machine that could be had."""
    for line in Path("/proc/meminfo").read_text().splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    raise BenchError("/proc/meminfo without MemAvailable")


def rate_cases(plan: Plan, letter: str) -> list[Case]:
    """One message a connection, as many clients at once."""
    counts = (512,) if plan.quick else (1, 512)
    return [
        Case(
            f"rate-{name}-{count}", f"{name}, one message a connection, {count} at once", letter, server,
            plan.timed(Load(connections=count, messages=1, spread=ADDRESSES)), plan.pairs, saturates=count > 1,
        )
        for name, server in RATE_SERVERS
        for count in counts
    ]  # fmt: skip


def idle(stack: str, count: int) -> dict[str, float]:
    """Bytes a connection, of the server's process and of the machine."""
    case = Case("idle", "idle", "K", Server("native"), Load(mode="idle", connections=count, spread=ADDRESSES))
    with place("K", stack) as where:
        server = start_server(case, where)
        try:
            words = ("load", "--address", f"{where.host}:{PORT}", *case.load.words(), *where.load_words())
            options = {"core": LOAD_CORE, "namespace": where.load, "runtime_dir": running.RUNTIME_DIR.name}
            with children.child(native(*words), **options) as load:
                load.json_line(LOAD_SECONDS)
                resident, available = counters.resident_bytes(server.pid), available_bytes()
                load.go_on()
                told = load.json_line(IDLE_SECONDS)
                checks.carried(told["carrier"], where.carrier)
                resident = counters.resident_bytes(server.pid) - resident
                available -= available_bytes()
                load.go_on()
        finally:
            server.end()
    return {"server_bytes": resident / count, "machine_bytes": available / count}


def run(plan: Plan) -> Results:
    """In K: the table has the rates of 64 at once in all settings. Memory of a million is `scale`'s: a process may
    not open so many descriptors."""
    if "K" not in plan.settings:
        return []
    only_k = replace(plan, settings=("K",))
    results = [in_pairs(case, say=plan.say) for case in in_settings(only_k, lambda letter: rate_cases(plan, letter))]
    most = children.descriptor_limit() - SPARE_DESCRIPTORS
    for count in (min(count, most) for count in (IDLE[:1] if plan.quick else IDLE)):
        name = f"idle-{count}"
        if not plan.wants(name):
            continue
        result: dict[str, object] = {"id": name, "title": f"{count:,} idle connections", "count": count}
        try:
            pairs = [{stack: idle(stack, count) for stack in (OURS, KERNEL)} for _ in range(IDLE_TIMES)]
            result["idle"] = rounded(pairs)
            plan.say(f"{name:32} {pairs[0]}")
        except (BenchError, OSError) as error:
            result["not_measured"] = str(error)
        results.append(result)
    return results
