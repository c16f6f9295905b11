"""matrix.toml is well-formed, its probes exist, and what it may not leave out is refused."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from typing import Any

import pytest

from compat import matrix, results
from compat.__main__ import how_many_more
from compat.runs import Run

ROW = {
    "name": "aiohttp",
    "version": "3.14.1",
    "what": "a server, by curl",
    "probe": "tests/compat/programs/test_x.py::test_y",
    "verdict": "works",
    "stack": "ours",
}


def document(**changes: Any) -> dict[str, Any]:
    """A document with one program; a change to None leaves the key out."""
    row = {key: value for key, value in (ROW | changes).items() if value is not None}
    return {"suite": [{"name": "cpython", "versions": ["3.11.7"], "modules": ["test_socket"]}], "program": [row]}


def test_the_file_obeys_its_schema() -> None:
    assert matrix.schema_errors(tomllib.loads((matrix.HERE / "matrix.toml").read_text())) == []


def test_every_probe_exists() -> None:
    loaded = matrix.load()
    missing = [f"{row.name}: {why}" for row in loaded.programs + loaded.launches
               if (why := matrix.missing_probe(row.probe))]  # fmt: skip
    assert not missing, missing


def test_the_pages_are_current() -> None:
    command = [sys.executable, "scripts/compat_pages.py", "--check"]
    result = subprocess.run(command, cwd=matrix.ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 0, result.stderr


def test_every_difference_seen_has_a_reason() -> None:
    """In every file of results; no "seen twice" without an entry in differences.toml."""
    listed = matrix.differences()
    bare = [
        f"{file.name}: {name}: {before} -> {now}"
        for file in results.FOLDER.glob("*.json")
        for content in [results.read(file)]
        for record in content.get("modules", {}).values()
        for name, (before, now, _detail) in record.get("differs", {}).items()
        if not any(entry.covers(name, content["version"]) and entry.patched in ("any", now) for entry in listed)
    ]
    assert not bare, bare


def test_every_test_that_is_not_ok_has_a_reason() -> None:
    """Skipped, or failing on the kernel as well: reasons.toml."""
    reasons = matrix.reasons()
    bare = [
        f"{file.name}: {name}: {said}"
        for file in results.FOLDER.glob("*.json")
        for record in results.read(file).get("modules", {}).values()
        for said, names in [*record.get("skipped", {}).items(), (None, record.get("not ok on either", []))]
        for name in names
        if (reasons.of_kernel(name) if said is None else reasons.of_skip(name, said)) is None
    ]
    assert not bare, bare


def test_every_unproved_module_has_a_reason() -> None:
    """TCP connected, and no segment through the stack."""
    reasons, bare = matrix.reasons(), []
    for file in results.FOLDER.glob("*.json"):
        for module, record in results.read(file).get("modules", {}).items():
            if "absent" in record:
                continue
            if record["plain"].get("connects") and not record["touched"]:
                bare += [f"{file.name}: {module} proves nothing"] * (reasons.of_module("kernel_tcp", module) is None)
    assert not bare, bare


def test_a_reason_says_more_than_that_it_happens() -> None:
    for kind in ("skip", "kernel", "slower", "kernel_tcp"):
        for entry in getattr(matrix.reasons(), kind):
            assert len(entry.reason) > 20 and "flaky" not in entry.reason, entry


def test_what_is_slow() -> None:
    """A short module is not: what our own modules take to load is no part of its tests."""
    assert results.is_slower(3.0, 3.7)
    assert not results.is_slower(3.0, 3.5)
    assert not results.is_slower(0.1, 0.5)


def finished(outcomes: dict[str, str], seconds: float) -> Run:
    """A run that came to its end."""
    return Run(outcomes={name: (outcome, "") for name, outcome in outcomes.items()}, seconds=seconds)


def test_each_stack_counts_with_its_best_time() -> None:
    ok = {"test_a": "ok"}
    runs = [(finished(ok, 3.0), finished(ok, 4.0)), (finished(ok, 2.0), finished(ok, 5.0))]
    kept = results.record(runs)
    assert (kept["plain"]["seconds"], kept["ours"]["seconds"], kept["runs"]) == (2.0, 4.0, 2)


def test_a_difference_is_one_that_comes_each_time() -> None:
    both = (finished({"test_a": "ok", "test_b": "ok"}, 1.0), finished({"test_a": "fail", "test_b": "fail"}, 1.0))
    again = (finished({"test_a": "ok", "test_b": "ok"}, 1.0), finished({"test_a": "fail", "test_b": "ok"}, 1.0))
    kept = results.record([both, again])
    assert (list(kept["differs"]), list(kept["once"])) == (["test_a"], ["test_b"])


def test_what_is_run_again() -> None:
    ok, failed = {"test_a": "ok"}, {"test_a": "fail"}
    assert how_many_more(finished(ok, 1.0), finished(ok, 1.1)) == 0
    assert how_many_more(finished(ok, 1.0), finished(ok, 2.0)) == 2
    assert how_many_more(finished(ok, 1.0), finished(failed, 1.0)) == 1
    assert how_many_more(Run(broken="test_a"), finished(ok, 1.0)) == 1


def test_no_row_stands_twice() -> None:
    loaded = matrix.load()
    counts = Counter((row.name, row.what) for row in loaded.programs + loaded.launches)
    assert [key for key, count in counts.items() if count > 1] == []


def test_a_good_row_is_accepted() -> None:
    assert matrix.schema_errors(document()) == []


@pytest.mark.parametrize(
    "changes",
    [
        {"version": None},
        {"version": ""},
        {"probe": None},
        {"probe": "by hand"},
        {"verdict": "mostly"},
        {"stack": "unknown"},
        {"verdict": "limits"},
        {"verdict": "fails"},
        {"stack": "kernel"},
        {"stack": "kernel", "reason": "it is flaky on slow machines"},
        {"stack": "kernel", "reason": "short"},
        {"whatever": "x"},
    ],
)
def test_a_bad_row_is_refused(changes: dict[str, Any]) -> None:
    """Without version, probe or reason; with a word that means nothing."""
    assert matrix.schema_errors(document(**changes))


def test_a_reason_makes_a_limit_acceptable() -> None:
    reason = "libuv makes its own system calls, which nothing in Python can see"
    assert matrix.schema_errors(document(verdict="limits", stack="kernel", reason=reason)) == []


def test_a_difference_covers_what_it_names() -> None:
    difference = matrix.Difference("test.test_x.*.test_y", "fail", "a reason", ["3.12", "3.13"])
    assert difference.covers("test.test_x.A.test_y", "3.12.1")
    assert not difference.covers("test.test_x.A.test_y", "3.11.7")
    assert not difference.covers("test.test_x.A.test_z", "3.12.1")
