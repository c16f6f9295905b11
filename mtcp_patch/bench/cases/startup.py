"""What the launcher adds to the start of an interpreter, and to the start of a server."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

from .. import run as running
from ..children import child, clean_environment, python
from ..figures import KERNEL, OURS, rounded
from ..plan import Plan, Results
from ..run import PORT
from ..settings import place
from ..stamp import SERVER_CORE

PATCHED = (sys.executable, "-m", "mtcp_patch", "--device", "memory")
WARM_UP = 2


def program_ms(source: str, stack: str) -> dict[str, float]:
    """From fork to exit of ``python -c SOURCE``, and its CPU time."""
    argv = [*(PATCHED if stack == OURS else (sys.executable,)), "-c", source]
    before = os.times()
    begun = time.monotonic()
    subprocess.run(
        argv, check=True, timeout=60, env=clean_environment(running.RUNTIME_DIR.name), cwd="/",
        preexec_fn=lambda: os.sched_setaffinity(0, {SERVER_CORE}),
    )  # fmt: skip
    ms = (time.monotonic() - begun) * 1e3
    after = os.times()
    cpu = after.children_user - before.children_user + after.children_system - before.children_system
    return {"ms": ms, "cpu_ms": cpu * 1e3}


def server_ms(stack: str) -> dict[str, float]:
    """From fork until the selectors echo listens, on xdp:lo."""
    with place("K", stack) as where:
        argv = python("selectors_echo", "--host", where.host, "--port", str(PORT), devices=where.server_devices)
        options = {"core": SERVER_CORE, "namespace": where.server, "runtime_dir": running.RUNTIME_DIR.name}
        begun = time.monotonic()
        with child(argv, **options) as server:
            server.wait_for(lambda: server.listens(PORT, ours=stack == OURS), "no listener")
            return {"ms": (time.monotonic() - begun) * 1e3}


WHAT: dict[str, tuple[str, Callable[[str], dict[str, float]]]] = {
    "empty": ("python -c pass", lambda stack: program_ms("pass", stack)),
    "socket": ("python -c 'import socket, selectors'", lambda stack: program_ms("import socket, selectors", stack)),
    "server": ("until the selectors echo listens, looked at every 10 ms", server_ms),
}


def run(plan: Plan) -> Results:
    """Pairs of starts, twice as many as of runs: they are short."""
    results: Results = []
    for name, (title, once) in WHAT.items():
        if not plan.wants(name):
            continue
        for _ in range(WARM_UP):
            once(OURS), once(KERNEL)
        pairs = []
        for number in range(plan.pairs * 2):
            order = (OURS, KERNEL) if number % 2 == 0 else (KERNEL, OURS)
            pairs.append({stack: once(stack) for stack in order})
        results.append({"id": name, "title": title, "starts": rounded(pairs)})
        added = sorted(pair[OURS]["ms"] - pair[KERNEL]["ms"] for pair in pairs)
        plan.say(f"{name:32} adds {added[len(added) // 2]:.1f} ms [{added[0]:.1f}-{added[-1]:.1f}]")
    return results
