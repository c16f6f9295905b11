"""Runs one test module of CPython's ``test`` package and writes what became of each test.

    python run_module.py test.test_selectors out.json

Started under plain Python and under the launcher by test_cpython.py; it knows of neither. The JSON is an object of
test id -> [outcome, detail], outcome being ok, fail, error, skip, expected failure or unexpected success. A test with
subtests has the worst of their outcomes.
"""

from __future__ import annotations

import json
import sys
import unittest
from collections.abc import Iterator
from typing import Any

# Waits for ever for a peer on machines that have the vsock device and no hypervisor behind it, on either stack.
LEFT_OUT = ("VSOCK",)

RANK = ["ok", "expected failure", "skip", "unexpected success", "fail", "error"]


class Outcomes(unittest.TestResult):
    """Keeps the worst outcome of every test."""

    def __init__(self) -> None:
        super().__init__()
        self.outcomes: dict[str, tuple[str, str]] = {}

    def note(self, test: unittest.TestCase, outcome: str, detail: str = "") -> None:
        """An outcome counts if it is worse than what the test has."""
        name = test.id()
        known = self.outcomes.get(name, ("ok", ""))[0]
        if name not in self.outcomes or RANK.index(outcome) > RANK.index(known):
            self.outcomes[name] = (outcome, detail)

    def addSuccess(self, test: unittest.TestCase) -> None:
        self.note(test, "ok")

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        self.note(test, "error", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        self.note(test, "fail", self._exc_info_to_string(err, test))  # type: ignore[attr-defined]

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        self.note(test, "skip", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        self.note(test, "expected failure")

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        self.note(test, "unexpected success")

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        if err is not None:
            outcome = "fail" if issubclass(err[0], test.failureException) else "error"
            self.note(test, outcome, f"{subtest}: {self._exc_info_to_string(err, test)}")  # type: ignore[attr-defined]


def tests(suite: unittest.TestSuite) -> Iterator[unittest.TestCase | unittest.TestSuite]:
    """The suite's classes one by one, without those of LEFT_OUT; each still sets up its own fixtures."""
    for item in suite:
        if any(name in repr(item) for name in LEFT_OUT):
            if isinstance(item, unittest.TestSuite):
                yield from tests(item)
        else:
            yield item


def main() -> None:
    module, path = sys.argv[1:]
    outcomes = Outcomes()
    loaded = unittest.defaultTestLoader.loadTestsFromName(module)
    unittest.TestSuite(tests(loaded)).run(outcomes)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(outcomes.outcomes, file)


if __name__ == "__main__":
    main()
