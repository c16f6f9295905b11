"""Makes docs/compatibility.md, docs/compatibility-tests.md and the compatibility tables of README.md.

    python scripts/compat_pages.py            # writes them
    python scripts/compat_pages.py --check    # says what is not current, and exits with 1

From tests/compat/matrix.toml (what is in the matrix), tests/compat/results/*.json (what `make matrix` saw),
tests/compat/differences.toml (why what differs does) and tests/compat/reasons.toml (why what is the same is not ok).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import compat_tests
import generated
from compat_tests import Record, text, title

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from compat import matrix, results  # noqa: E402

MARKS = ("<!-- compat: made by scripts/compat_pages.py -->", "<!-- end of compat -->")
VERDICTS = {"works": "works", "limits": "works, with limits", "fails": "does not work"}
STACKS = {"ours": "ours", "kernel": "the kernel's", "both": "both"}
OK = ("ok", "expected failure")


def number(counts: dict[str, int], *names: str) -> int:
    """How many tests had one of the outcomes."""
    return sum(counts.get(name, 0) for name in names)


def suites() -> list[Record]:
    """Every file of results, CPython's first, by version."""
    found = [results.read(file) for file in sorted(results.FOLDER.glob("*.json"))]
    found = [content for content in found if content.get("suite") in matrix.load().suites]
    return sorted(found, key=lambda c: (c["suite"], [int(n) for n in c["version"].split(".")], c["loop"]))


def module_row(name: str, record: Record) -> str:
    """One module on both stacks."""
    if "absent" in record:
        return f"| {name} | not in this version | | | | | | |"
    plain, ours = record["plain"], record["ours"]
    total = sum(ours["counts"].values())
    ratio = f"{ours['seconds'] / plain['seconds'] if plain['seconds'] > 0 else 1:.2f}"
    if results.is_slower(plain["seconds"], ours["seconds"]):
        ratio = f"**{ratio}**"
    return (
        f"| {name} | {number(plain['counts'], *OK)} / {number(plain['counts'], 'skip')} "
        f"| {number(ours['counts'], *OK)} / {number(ours['counts'], 'skip')} | {len(record['differs'])} "
        f"| {record['touched']} of {total} | {sockets(record)} "
        f"| {plain['seconds']:.1f} → {ours['seconds']:.1f} | {ratio} |"
    )


def sockets(record: Record) -> str:
    """What the tests make in their own process, on the kernel; accepted ones are made too."""
    if "sockets" not in record["plain"]:  # from a run before they were counted
        return "?"
    made = record["plain"]["sockets"]
    words = [f"{made[kind]} {kind}" for kind in ("TCP", "UDP", "AF_UNIX", "other") if kind in made]
    if connects := record["plain"]["connects"]:
        words[0] += f" ({connects} connect)"
    return ", ".join(words) or "none"


@dataclass
class Totals:
    """Of all modules that a suite ran."""

    modules: int
    tests: int
    touched: int
    differ: int
    connections: int
    packets: int
    plain: float
    ours: float


def totals(content: Record) -> Totals:
    """Sums over the modules that are there."""
    records = [record for record in content.get("modules", {}).values() if "absent" not in record]
    return Totals(
        modules=len(records),
        tests=sum(sum(record["ours"]["counts"].values()) for record in records),
        touched=sum(record["touched"] for record in records),
        differ=sum(len(record["differs"]) for record in records),
        connections=sum(record["ours"]["connections"] for record in records),
        packets=sum(record["ours"]["packets"] for record in records),
        plain=sum(record["plain"]["seconds"] for record in records),
        ours=sum(record["ours"]["seconds"] for record in records),
    )


def sentence(t: Totals) -> str:
    """The totals in words."""
    return (
        f"{t.modules} modules, {t.tests:,} tests, of which {t.touched:,} sent segments through the stack "
        f"({t.connections:,} ends of connections, {t.packets:,} segments); {t.differ} differ. "
        f"{t.plain:.0f} s on the kernel, {t.ours:.0f} s on ours ({t.ours / t.plain if t.plain else 1:.2f})."
    )


def suite_section(content: Record) -> list[str]:
    """The tables of one suite."""
    lines = [f"### {title(content)}", ""]
    if "absent" in content:
        return [*lines, f"Not run: {content['absent']}.", ""]
    order = matrix.load().suites[content["suite"]].modules
    lines += [sentence(totals(content)), ""]
    lines += ["| module | kernel: ok/skipped | ours: ok/skipped | differ | on the stack | sockets | seconds | ratio |"]
    lines += ["|---|---|---|---|---|---|---|---|"]
    lines += [module_row(name, content["modules"][name]) for name in order if name in content["modules"]]
    missing = [name for name in order if name not in content["modules"]]
    return [*lines, "", *([f"Not run yet: {', '.join(missing)}.", ""] if missing else [])]


def proof_section(contents: list[Record]) -> list[str]:
    """The modules that connect TCP, none of it through the stack of their own process."""
    lines = ["## TCP that the stack of the tests' own process did not carry", ""]
    lines += ["Of modules that connect TCP and show no segment.", "", "| module | where | connects | reason |"]
    lines += ["|---|---|---|---|"]
    for content, module, record in compat_tests.each_record(contents):
        if unproved(record):
            reason = matrix.reasons().of_module("kernel_tcp", module) or compat_tests.NO_REASON
            lines.append(f"| {module} | {title(content)} | {record['plain']['connects']} | {text(reason)} |")
    return [*lines, ""]


def unproved(record: Record) -> bool:
    """Whether its tests connect TCP without the stack."""
    return bool(record["plain"].get("connects") and not record["touched"])


def slower_section(contents: list[Record]) -> list[str]:
    """The modules over 1.2 times the kernel's time."""
    lines = [
        "## Modules that take longer",
        "",
        "| module | where | seconds, kernel → ours | reason |",
        "|---|---|---|---|",
    ]
    for content, module, record in compat_tests.each_record(contents):
        plain, ours = record["plain"]["seconds"], record["ours"]["seconds"]
        if results.is_slower(plain, ours):
            reason = matrix.reasons().of_module("slower", module) or compat_tests.NO_REASON
            lines.append(f"| {module} | {title(content)} | {plain:.1f} → {ours:.1f} | {text(reason)} |")
    return [*lines, ""]


def case(stack: str, kept: Record) -> str:
    """What became of a probe on one stack, and what ours carried meanwhile."""
    words = f"{stack}: {kept['outcome']}"
    if kept.get("segments") and stack == "ours":
        words += f" ({kept['connections']:,} connections, {kept['segments']:,} segments)"
    return words


def rows(entries: list[matrix.Row]) -> list[str]:
    """Programs, or ways to launch them."""
    lines = [
        "| program | version | what is run | stack | verdict | probe | last run |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in entries:
        file, _, test = row.probe.partition("::")
        verdict = VERDICTS[row.verdict] + (f": {text(row.reason)}" if row.reason else "")
        last = "; ".join(case(stack, kept) for stack, kept in results.cases(row).items()) or "not yet"
        cells = [text(row.name), row.version, text(row.what), STACKS[row.stack], verdict, f"[{test}](../{file})", last]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, ""]


def page(loaded: matrix.Matrix, contents: list[Record]) -> str:
    """docs/compatibility.md."""
    lines = [
        "# Compatibility",
        "",
        "Made by `python scripts/compat_pages.py` from [matrix.toml](../tests/compat/matrix.toml), the results of",
        "`make matrix` ([results](../tests/compat/results)). Every test that differs, fails or is skipped stands with",
        "its reason in [compatibility-tests.md](compatibility-tests.md).",
        "",
        "## Programs",
        "",
        "Each is started for real, on the kernel and on our stack; the probe checks the answers, and that our stack",
        "carried them.",
        "",
        *rows(loaded.programs),
        "## Ways to launch",
        "",
        *rows(loaded.launches),
        "## Suites",
        "",
        "Each module is run twice in one network namespace: under plain Python, then under `python -m mtcp_patch`. A",
        'module with a difference is run again. "On the stack" counts the tests during which the stack of their own',
        "process took or sent segments; the others prove nothing about TCP (mocks, AF_UNIX, UDP, argument checks) and",
        "are here because interception must not change them.",
        "",
        '"Sockets" is what the tests made in their own process on the kernel, by Python\'s audit events: it tells why',
        "a module shows no segment. The processes that a test starts are not counted. `test_selectors` has its sockets",
        "from `socketpair()`, which are AF_UNIX; `test_select` and `test_poll` wait for pipes. `selectors_over_tcp` is",
        "test_selectors with `socketpair` taken away, for which it then has pairs of TCP of its own.",
        "",
        "A ratio in bold is over 1.2 and more than 0.5 s, in the best of three runs on each stack.",
        "",
    ]
    for content in contents:
        lines += suite_section(content)
    return "\n".join([*lines, *proof_section(contents), *slower_section(contents)]).rstrip() + "\n"


def readme_part(loaded: matrix.Matrix, contents: list[Record]) -> str:
    """What stands between the marks of README.md."""
    lines = [MARKS[0]]
    shown = [row for row in loaded.programs if row.shown]
    if shown:
        lines += ["| program | version | what is run | stack |", "|---|---|---|---|"]
        for row in shown:
            reason = f": {text(row.reason)}" if row.reason else ""
            lines.append(f"| {text(row.name)} | {row.version} | {text(row.what)} | {STACKS[row.stack]}{reason} |")
        lines.append("")
    lines += ["| suite | tests | on the stack | differ | seconds, kernel → ours |", "|---|---|---|---|---|"]
    for content in contents:
        t = totals(content)
        if t.modules:
            seconds = f"{t.plain:.0f} → {t.ours:.0f}"
            lines.append(
                f"| {title(content)}, {t.modules} modules | {t.tests:,} | {t.touched:,} | {t.differ} | {seconds} |"
            )
        else:
            lines.append(f"| {title(content)} | not run: {text(content.get('absent', ''))} | | | |")
    return "\n".join([*lines, MARKS[1]])


def wanted() -> dict[Path, str]:
    """What the files should contain."""
    loaded, contents = matrix.load(), suites()
    readme = ROOT / "README.md"
    return {
        ROOT / "docs/compatibility.md": page(loaded, contents),
        ROOT / "docs/compatibility-tests.md": compat_tests.page(contents),
        readme: generated.with_part(readme.read_text(), MARKS, readme_part(loaded, contents), "compat_pages"),
    }


if __name__ == "__main__":
    generated.main("compat_pages", __doc__, ROOT, wanted)
