"""The tables of RFCs are current, complete, and give a reason wherever something is missing."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "scripts"))

import rfc_tables  # noqa: E402


def test_the_tables_are_current() -> None:
    command = [sys.executable, "scripts/rfc_tables.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 0, result.stderr


def test_every_requirement_is_listed() -> None:
    listed = tomllib.loads((ROOT / "docs/rfc9293.toml").read_text())
    assert list(listed) == [f"MUST-{n}" for n in range(1, 70)] + [f"SHLD-{n}" for n in range(1, 32)]


@pytest.mark.parametrize("table", ["rfc9293", "rfcs"])
def test_what_is_missing_has_its_reason(table: str) -> None:
    """A row that is not "obeyed" says why; one that is has a test or needs none."""
    found = rfc_tables.find_all()
    entries = tomllib.loads((ROOT / f"docs/{table}.toml").read_text())
    prefix = "RFC " if table == "rfcs" else ""
    states = {name: rfc_tables.state(entry, found.get(prefix + name, rfc_tables.Places()))
              for name, entry in entries.items()}  # fmt: skip
    bare = [f"{name}: {states[name]}" for name, entry in entries.items()
            if states[name] != "obeyed" and "absent" not in entry]  # fmt: skip
    assert not bare, "neither obeyed and tested nor explained: " + ", ".join(bare)


@pytest.mark.parametrize(
    ("path", "source", "expected"),
    [
        ("a.rs", "/// MUST-1.\n#[inline]\nfn f() {}\n", [("MUST-1", "a.rs: f", False)]),
        ("a.rs", "fn f() {\n    // MUST-2: so.\n    x();\n}\n", [("MUST-2", "a.rs: f", False)]),
        ("a.rs", "impl T {\n    // MUST-3.\n    fn g(&self) {}\n}\n", [("MUST-3", "a.rs: g", False)]),
        ("a.rs", "//! MUST-4\nuse x;\n", [("MUST-4", "a.rs", False)]),
        ("a.rs", "#[cfg(test)]\nmod t {\n    /// MUST-5\n    fn t() {}\n}\n", [("MUST-5", "a.rs: t", True)]),
        ("a.rs", "/// RFC 2018 4.\nfn f() {}\n", [("RFC 2018", "a.rs: f", False)]),
        ("tests/a.py", "# SHLD-6\ndef test_a():\n    pass\n", [("SHLD-6", "tests/a.py: test_a", True)]),
        ("a.rs", 'fn f() { g("MUST-7") }\n', []),
    ],
)  # fmt: skip
def test_where_a_name_stands(
    path: str, source: str, expected: list[tuple[str, str, bool]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / path).parent.mkdir(exist_ok=True)
    (tmp_path / path).write_text(source)
    monkeypatch.setattr(rfc_tables, "ROOT", tmp_path)
    assert sorted(rfc_tables.named(path)) == sorted(expected)
