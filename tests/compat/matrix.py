"""Reads matrix.toml, the source of the compatibility pages, and differences.toml; both are checked here.

Used by the pages' generator (scripts/compat_pages.py), by ``make matrix`` (__main__.py) and by the tests.
"""

from __future__ import annotations

import fnmatch
import json
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import jsonschema

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


@dataclass(frozen=True)
class Suite:
    """Somebody else's tests."""

    name: str
    versions: list[str]
    modules: list[str]
    loops: list[str] = field(default_factory=list)
    shown: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Row:
    """A program, or a way to launch one."""

    name: str
    version: str
    what: str
    probe: str
    verdict: str
    stack: str
    reason: str = ""
    packages: list[str] = field(default_factory=list)
    debian: list[str] = field(default_factory=list)
    shown: bool = False


@dataclass(frozen=True)
class Matrix:
    """All of matrix.toml."""

    suites: dict[str, Suite]
    programs: list[Row]
    launches: list[Row]


@dataclass(frozen=True)
class Difference:
    """A test whose outcome on the stack is not the one on the kernel, or may be another."""

    test: str
    patched: str
    reason: str
    versions: list[str] = field(default_factory=list)

    def covers(self, test: str, version: str) -> bool:
        """Whether it is about that test of that version. ``*`` stands for anything; without versions it is all."""
        of_version = not self.versions or any(version.startswith(prefix) for prefix in self.versions)
        return of_version and fnmatch.fnmatchcase(test, self.test)


@dataclass(frozen=True)
class Reason:
    """Why something is as it is on both stacks, or takes longer on ours (reasons.toml)."""

    reason: str
    says: str = ""
    tests: str = "*"
    module: str = ""

    def covers(self, test: str, said: str = "") -> bool:
        """Whether it is about that test, skipped with those words (their beginning, or none at all)."""
        return (said.startswith(self.says) if self.says else not said) and fnmatch.fnmatchcase(test, self.tests)


@dataclass(frozen=True)
class Reasons:
    """All of reasons.toml, by what it explains."""

    skip: list[Reason]
    kernel: list[Reason]
    slower: list[Reason]
    kernel_tcp: list[Reason]

    def of_skip(self, test: str, said: str) -> str | None:
        """Why the test is skipped."""
        return next((entry.reason for entry in self.skip if entry.covers(test, said)), None)

    def of_kernel(self, test: str) -> str | None:
        """Why the test is not ok on the kernel either."""
        return next((entry.reason for entry in self.kernel if entry.covers(test)), None)

    def of_module(self, kind: str, module: str) -> str | None:
        """Why the module is ``slower``, or its TCP is ``kernel_tcp``."""
        entries: list[Reason] = getattr(self, kind)
        return next((entry.reason for entry in entries if entry.module == module), None)


def schema_errors(document: dict[str, Any]) -> list[str]:
    """Where a document is not as matrix.schema.json wants it."""
    schema = json.loads((HERE / "matrix.schema.json").read_text())
    errors = jsonschema.Draft202012Validator(schema).iter_errors(document)
    return [f"{'.'.join(map(str, error.absolute_path))}: {error.message}" for error in errors]


def load(path: Path = HERE / "matrix.toml") -> Matrix:
    """The matrix. ValueError says what is wrong with the file."""
    document = tomllib.loads(path.read_text())
    if errors := schema_errors(document):
        raise ValueError(f"{path.name}: " + "; ".join(errors))
    suites = {entry["name"]: Suite(**entry) for entry in document["suite"]}
    programs = [Row(**entry) for entry in document.get("program", [])]
    launches = [Row(**entry) for entry in document.get("launch", [])]
    return Matrix(suites, programs, launches)


def differences(path: Path = HERE / "differences.toml") -> list[Difference]:
    """The entries of differences.toml, in its order."""
    return [Difference(**entry) for entry in tomllib.loads(path.read_text()).get("difference", [])]


def reasons(path: Path = HERE / "reasons.toml") -> Reasons:
    """The entries of reasons.toml."""
    document = tomllib.loads(path.read_text())
    kinds = ("skip", "kernel", "slower", "kernel_tcp")
    return Reasons(*([Reason(**entry) for entry in document.get(kind, [])] for kind in kinds))


def missing_probe(probe: str) -> str | None:
    """What of ``path::test`` does not exist, None if all does."""
    path, _, names = probe.partition("::")
    file = ROOT / path
    if not file.is_file():
        return f"no file {path}"
    source = file.read_text()
    for name in names.partition("[")[0].split("::"):
        if not re.search(rf"^\s*(?:def|class) {re.escape(name)}\b", source, re.MULTILINE):
            return f"no {name} in {path}"
    return None


def minors(loaded: Matrix) -> list[str]:
    """The versions of CPython that are to be run, as 3.11."""
    return [".".join(version.split(".")[:2]) for version in loaded.suites["cpython"].versions]


def debian_packages(loaded: Matrix) -> set[str]:
    """What apt-get installs for the rows."""
    return {package for row in loaded.programs + loaded.launches for package in row.debian}
