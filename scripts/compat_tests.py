"""The page of tests that differ, fail or are skipped, each with its reason: a part of compat_pages.py.

One list, because a test that is not ok is one of three: it differs (differences.toml says why), or its outcome is the
same on both stacks and fails or is skipped there (reasons.toml says why), or it differed in one run of two.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "tests"))

from compat import matrix

NO_REASON = "**no reason is known yet**"

Record = dict[str, Any]


def text(words: str) -> str:
    """Fit for a cell of a table."""
    return " ".join(words.split()).replace("|", "\\|").replace("<", "&lt;")


def title(content: Record) -> str:
    """Of one suite."""
    if content["suite"] == "gevent":
        return f"gevent {content['version']}, loop {content['loop']}"
    return f"CPython {content['version']}"


def short(content: Record) -> str:
    """Of one suite, in a list of some."""
    return content["loop"] or content["version"]


def each_record(contents: list[Record]) -> list[tuple[Record, str, Record]]:
    """(suite, module, its record), without what is absent."""
    return [(c, m, r) for c in contents for m, r in sorted(c.get("modules", {}).items()) if "absent" not in r]


def entries(contents: list[Record]) -> dict[tuple[str, str, str], list[str]]:
    """(test, outcome, reason): where."""
    listed, reasons = matrix.differences(), matrix.reasons()
    found: dict[tuple[str, str, str], list[str]] = defaultdict(list)
    for content, _module, record in each_record(contents):
        where = short(content)
        for name, (before, now, _detail) in record["differs"].items():
            entry = next((entry for entry in listed if entry.covers(name, content["version"])), None)
            found[name, f"{before} → {now}", entry.reason if entry else NO_REASON].append(where)
        for name, (before, now, _detail) in record["once"].items():
            reason = reasons.of_kernel(name) or "the same on both stacks when the module was run again"
            found[name, f"{before} → {now}, in one run of two", reason].append(where)
        for name in record["not ok on either"]:
            found[name, "fails on both", reasons.of_kernel(name) or NO_REASON].append(where)
        for said, names in record["skipped"].items():
            for name in names:
                found[name, "skipped on both", reasons.of_skip(name, said) or NO_REASON].append(where)
    return found


def without_reason(contents: list[Record]) -> list[str]:
    """The tests that have none."""
    return sorted(name for name, _outcome, reason in entries(contents) if reason == NO_REASON)


def table(found: dict[tuple[str, str, str], list[str]]) -> list[str]:
    """A row a test."""
    lines = ["| test | kernel → ours | where | reason |", "|---|---|---|---|"]
    lines += [
        f"| `{text(name)}` | {outcome} | {', '.join(where)} | {text(reason)} |"
        for (name, outcome, reason), where in sorted(found.items())
    ]
    return [*lines, ""]


def page(contents: list[Record]) -> str:
    """docs/compatibility-tests.md."""
    lines = [
        "# Tests that differ, fail or are skipped",
        "",
        "Made by `python scripts/compat_pages.py` from what `make matrix` saw ([results](../tests/compat/results)),",
        "[differences.toml](../tests/compat/differences.toml) and [reasons.toml](../tests/compat/reasons.toml). Every",
        "other test of the suites in [compatibility.md](compatibility.md) passes on both stacks.",
        "",
    ]
    for suite, heading in (("cpython", "CPython"), ("gevent", "gevent")):
        found = entries([content for content in contents if content["suite"] == suite])
        differ = sum("→" in outcome and "in one run" not in outcome for _name, outcome, _reason in found)
        lines += [f"## {heading}", "", f"{len(found)} tests; {differ} of them differ.", "", *table(found)]
    return "\n".join(lines).rstrip() + "\n"
