"""matrix.toml is well-formed, its probes exist, and what it may not leave out is refused."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections import Counter
from typing import Any

import pytest

from compat import matrix, results

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
