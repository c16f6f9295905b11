"""Runs one module of somebody else's tests and writes what became of each test, a line of JSON each.

    python run_module.py suite test.test_selectors out.jsonl     # a module of unittest classes, imported
    python run_module.py script gevent.tests.test__socket out.jsonl   # one that calls unittest.main() itself

Started under plain Python and under the launcher (runs.py does that); it knows of neither, but that it asks the stack
for its counters where there is one. The lines, in order:

    {"start": id}                             the test begins; a process that hangs or dies says so by its last line
    {"test": id, "outcome": o, "detail": text, "touched": n}
    {"end": true, "seconds": wall, "cpu": user and system, children too, "packets": n, "connections": n,
     "sockets": {kind: how many of it this process made}, "connects": how many connect() of TCP it called}

An outcome is ok, fail, error, skip, expected failure or unexpected success; a test with subtests has the worst of
theirs. ``touched`` is how many segments the stack of this process took or sent during the test.
"""

from __future__ import annotations

import faulthandler
import json
import os
import runpy
import sys
import time
import unittest
from collections import Counter
from collections.abc import Iterator
from typing import Any, TextIO

# Waits for ever for a peer on machines that have the vsock device and no hypervisor behind it, on either stack.
LEFT_OUT = ("VSOCK",)
TEST_SECONDS = 150  # the longest single test takes 30 on an idle machine

# Linux's numbers: the tests' modules are to be the first that import socket.
AF_UNIX, AF_INET, AF_INET6 = 1, 2, 10
SOCK_STREAM, SOCK_DGRAM, SOCK_TYPE_MASK = 1, 2, 0xF

RANK = ["ok", "expected failure", "skip", "unexpected success", "fail", "error"]


def counters() -> dict[str, int]:
    """The stack's own, empty on the kernel."""
    native = sys.modules.get("mtcp_patch.stack._native")
    if native is None:
        return {}
    found: dict[str, int] = json.loads(native.status_json())["counters"]
    return found


def packets(counts: dict[str, int]) -> int:
    """How many segments went either way."""
    return counts.get("packets_in", 0) + counts.get("packets_out", 0)


class Sockets:
    """What the process makes of sockets, by Python's own audit events: they come on either stack, and from all code."""

    def __init__(self) -> None:
        self.made: Counter[str] = Counter()
        self.connects = 0
        sys.addaudithook(self.heard)

    def heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        """A hook cannot be taken back, and must not raise: what it is told belongs to the tests."""
        if event == "socket.__new__":
            self.made[kind(*arguments[1:3])] += 1
        elif event == "socket.connect" and kind(arguments[0].family, arguments[0].type) == "TCP":
            self.connects += 1


def kind(family: int, type_: int) -> str:
    """TCP, UDP, AF_UNIX or "other"; socket(fileno=...) alone names no family and counts as other."""
    if family == AF_UNIX:
        return "AF_UNIX"
    if family in (AF_INET, AF_INET6):
        return {SOCK_STREAM: "TCP", SOCK_DGRAM: "UDP"}.get(type_ & SOCK_TYPE_MASK, "other")
    return "other"


class Outcomes(unittest.TestResult):
    """Writes the worst outcome of every test."""

    def __init__(self, file: TextIO, module: str) -> None:
        super().__init__()
        self.file = file
        self.module = module
        self.worst: tuple[str, str] | None = None
        self.before = 0

    def line(self, **fields: Any) -> None:
        """One line, out at once: the process may not live to write another."""
        self.file.write(json.dumps(fields) + "\n")
        self.file.flush()

    def name(self, test: unittest.TestCase) -> str:
        """Its id, with the module's name also where the module was run as a script."""
        name = test.id()
        return f"{self.module}.{name.removeprefix('__main__.')}" if name.startswith("__main__.") else name

    def note(self, outcome: str, detail: str = "") -> None:
        """An outcome counts if it is worse than what the test has."""
        if self.worst is None or RANK.index(outcome) > RANK.index(self.worst[0]):
            self.worst = (outcome, detail)

    def startTest(self, test: unittest.TestCase) -> None:
        super().startTest(test)
        self.worst = None
        self.line(start=self.name(test))
        self.before = packets(counters())
        faulthandler.dump_traceback_later(TEST_SECONDS, exit=True)

    def stopTest(self, test: unittest.TestCase) -> None:
        faulthandler.cancel_dump_traceback_later()
        super().stopTest(test)
        outcome, detail = self.worst or ("ok", "")
        self.worst = None
        self.line(
            test=self.name(test), outcome=outcome, detail=detail, touched=max(0, packets(counters()) - self.before)
        )

    def of_test_or_fixture(self, test: Any, outcome: str, detail: str) -> None:
        """A fixture of a class or module is no test: nothing has started, and nothing will stop."""
        if isinstance(test, unittest.TestCase):
            self.note(outcome, detail)
        else:
            self.line(test=str(test), outcome=outcome, detail=detail, touched=0)

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.note("ok")

    def addError(self, test: Any, err: Any) -> None:
        self.of_test_or_fixture(test, "error", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self.note("fail", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addSkip(self, test: Any, reason: str) -> None:
        self.of_test_or_fixture(test, "skip", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self.note("expected failure")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.note("unexpected success")

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            outcome = "fail" if issubclass(err[0], test.failureException) else "error"
            self.note(outcome, f"{subtest}: {self._exc_info_to_string(err, test)}")  # type: ignore[attr-defined]

    # What gevent's own result class has besides, and its test cases call.
    def printErrors(self) -> None:
        """Nothing is printed here."""


def tests(suite: unittest.TestSuite) -> Iterator[unittest.TestCase | unittest.TestSuite]:
    """The suite's classes one by one, without those of LEFT_OUT; each still sets up its own fixtures."""
    for item in suite:
        if any(name in repr(item) for name in LEFT_OUT):
            if isinstance(item, unittest.TestSuite):
                yield from tests(item)
        else:
            yield item


def run_suite(module: str, outcomes: Outcomes) -> None:
    """The tests of an importable module."""
    loaded = unittest.defaultTestLoader.loadTestsFromName(module)
    unittest.TestSuite(tests(loaded)).run(outcomes)


def run_script(module: str, outcomes: Outcomes) -> None:
    """The tests that a module runs as a program (python -m), and its own exit status as one outcome more."""

    class Runner:
        """In place of unittest.TextTestRunner."""

        def __init__(self, *_arguments: Any, **_options: Any) -> None: ...

        def run(self, test: unittest.TestSuite) -> Outcomes:
            test(outcomes)
            return outcomes

    unittest.TextTestRunner = unittest.runner.TextTestRunner = Runner  # type: ignore[misc, assignment, attr-defined]
    sys.argv = [module]
    sys.path[0] = os.getcwd()
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code not in (None, 0, False):
            outcomes.line(test=f"{outcomes.module}.exit", outcome="fail", detail=f"exit status {end.code}", touched=0)
            return
    if outcomes.testsRun == 0:  # a program with checks of its own; it came to its end
        outcomes.line(test=f"{outcomes.module}.exit", outcome="ok", detail="", touched=packets(counters()))


def main() -> None:
    kind, what, path = sys.argv[1:]
    module = what if kind == "suite" else what.rpartition(".")[2]
    with open(path, "w", encoding="utf-8") as file:
        outcomes, sockets = Outcomes(file, module), Sockets()
        begin, used = time.monotonic(), os.times()
        (run_suite if kind == "suite" else run_script)(what, outcomes)
        seconds, now, counts = time.monotonic() - begin, os.times(), counters()
        outcomes.line(
            end=True,
            seconds=round(seconds, 3),
            cpu=round(sum(now[:4]) - sum(used[:4]), 3),
            packets=packets(counts),
            connections=counts.get("opened", 0) + counts.get("accepted", 0),
            sockets=dict(sockets.made),
            connects=sockets.connects,
        )


if __name__ == "__main__":
    main()
