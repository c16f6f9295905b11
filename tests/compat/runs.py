"""One module on both stacks: what became of each test, how long it took, and what differs.

Used by the quick subset (test_cpython.py) and by the whole matrix (__main__.py).
"""

from __future__ import annotations

import contextlib
import json
import pathlib
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from support.netns import Netns
from support.programs import KERNEL, OURS, Programs

from compat import remote_hosts
from compat.matrix import Difference

HERE = pathlib.Path(__file__).resolve().parent
MODULE_SECONDS = 600
# Both ends of nearly every connection of these tests are in one process. Where a child connects to its parent, or the
# test to another host, only a device of the kernel's carries it.
MEMORY, LOOPBACK = ("--device", "memory"), ("--device", "xdp:lo")
ON_LOOPBACK = ("connection_fork", "connection_spawn", "test_timeout")


@dataclass(frozen=True)
class Job:
    """A module, the interpreter that runs it, and gevent's loop."""

    suite: str
    version: str
    module: str
    python: str = sys.executable
    loop: str = ""

    @property
    def label(self) -> str:
        """For a person."""
        return " ".join(word for word in (self.suite, self.version, self.loop, self.module) if word)

    @property
    def is_ours(self) -> bool:
        """A module of this folder's, on classes of CPython's."""
        return self.suite == "cpython" and (HERE / f"{self.module}.py").exists()

    @property
    def device(self) -> tuple[str, str]:
        """The launcher's option."""
        return LOOPBACK if self.module in ON_LOOPBACK else MEMORY

    def argv(self, out: pathlib.Path) -> list[str]:
        """What to run."""
        runner = str(HERE / "run_module.py")
        if self.suite == "gevent":
            return [runner, "script", f"gevent.tests.{self.module}", str(out)]
        return [runner, "suite", self.module if self.is_ours else f"test.{self.module}", str(out)]

    def environment(self) -> dict[str, str]:
        """What to set."""
        return {"GEVENT_LOOP": self.loop, "GEVENTTEST_USE_RESOURCES": "-network"} if self.loop else {}


@dataclass
class Run:
    """A module on one stack."""

    outcomes: dict[str, tuple[str, str]] = field(default_factory=dict)
    touched: set[str] = field(default_factory=set)
    seconds: float = 0
    cpu: float = 0
    packets: int = 0
    connections: int = 0
    sockets: dict[str, int] = field(default_factory=dict)
    connects: int = 0
    broken: str = ""

    def counts(self) -> dict[str, int]:
        """How many tests had which outcome."""
        return dict(sorted(Counter(outcome for outcome, _ in self.outcomes.values()).items()))


def parse(lines: str) -> Run:
    """What run_module.py wrote. A test that began and came to no end has the outcome ``hang``."""
    run, open_test, ended = Run(), "", False
    for text in lines.splitlines():
        line: dict[str, Any] = json.loads(text)
        if "start" in line:
            open_test = line["start"]
        elif "test" in line:
            open_test = ""
            run.outcomes[line["test"]] = (line["outcome"], line["detail"])
            if line["touched"]:
                run.touched.add(line["test"])
        else:
            ended = True
            run.seconds, run.cpu = line["seconds"], line["cpu"]
            run.packets, run.connections = line["packets"], line["connections"]
            run.sockets, run.connects = line["sockets"], line["connects"]
    if not ended:
        run.broken = open_test or "after the last test"
        if open_test:
            run.outcomes[open_test] = ("hang", "the process ended or was ended in this test")
    return run


def run_once(job: Job, stack: str, programs: Programs, ns: Netns, folder: pathlib.Path) -> Run:
    """The module on that stack, in a directory of its own."""
    cwd = pathlib.Path(tempfile.mkdtemp(prefix=f"{stack}-", dir=folder))
    out = cwd / "outcomes.jsonl"
    out.touch()
    program = programs.start(
        job.argv(out), stack=stack, ns=ns, options=job.device, cwd=str(cwd), python=job.python,
        environment=job.environment(),
    )  # fmt: skip
    try:
        status = str(program.wait(MODULE_SECONDS))
    except AssertionError:
        status = f"none within {MODULE_SECONDS} s"
        program.kill()
        return parse(out.read_text())
    run = parse(out.read_text())
    if run.broken:
        run.broken += f"; exit status {status}; {program.stderr()[-3000:]}"
    return run


def both(job: Job, programs: Programs, ns: Netns, folder: pathlib.Path) -> tuple[Run, Run]:
    """Plain, then ours."""
    with remote_hosts.standing(ns) if job.module == "test_timeout" else contextlib.nullcontext():
        return run_once(job, KERNEL, programs, ns, folder), run_once(job, OURS, programs, ns, folder)


def differing(plain: Run, ours: Run) -> dict[str, tuple[str, str, str]]:
    """Test: outcome on the kernel, on ours, and what the latter said."""
    found = {}
    for name in sorted(plain.outcomes.keys() | ours.outcomes.keys()):
        before = plain.outcomes.get(name, ("absent", ""))[0]
        now, detail = ours.outcomes.get(name, ("absent", ""))
        if before != now:
            found[name] = (before, now, detail)
    return found


def complaints(job: Job, plain: Run, ours: Run, listed: list[Difference]) -> list[str]:
    """What differs and is not listed as it is, and what is listed and does not differ."""
    differ = differing(plain, ours)
    known = {
        name: entry
        for name in plain.outcomes.keys() | ours.outcomes.keys()
        for entry in listed
        if entry.covers(name, job.version)
    }
    found = []
    for name, (before, now, detail) in differ.items():
        entry = known.get(name)
        if entry is None:
            found.append(f"{name}: {before} -> {now}\n{detail[-1500:]}")
        elif entry.patched not in ("any", now):
            found.append(f"{name}: listed as {entry.patched} but is {now}; correct differences.toml")
    for name, entry in known.items():
        if name not in differ and entry.patched != "any":
            found.append(f"{name}: listed, but plain Python has the same outcome; remove it")
    return found
