"""Makes docs/compatibility.md and the compatibility tables of README.md.

    python scripts/compat_pages.py            # writes both
    python scripts/compat_pages.py --check    # says what is not current, and exits with 1

From tests/compat/matrix.toml (what is in the matrix), tests/compat/results/*.json (what `make matrix` saw) and
tests/compat/differences.toml (why what differs does).
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import generated

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from compat import matrix, results  # noqa: E402

MARKS = ("<!-- compat: made by scripts/compat_pages.py -->", "<!-- end of compat -->")
VERDICTS = {"works": "works", "limits": "works, with limits", "fails": "does not work"}
STACKS = {"ours": "ours", "kernel": "the kernel's", "both": "both"}
OK = ("ok", "expected failure")

Record = dict[str, Any]


def text(words: str) -> str:
    """Fit for a cell of a table."""
    return " ".join(words.split()).replace("|", "\\|").replace("<", "&lt;")


def number(counts: dict[str, int], *names: str) -> int:
    """How many tests had one of the outcomes."""
    return sum(counts.get(name, 0) for name in names)


def suites() -> list[Record]:
    """Every file of results, CPython's first, by version."""
    found = [results.read(file) for file in sorted(results.FOLDER.glob("*.json"))]
    found = [content for content in found if content.get("suite") in matrix.load().suites]
    return sorted(found, key=lambda c: (c["suite"], [int(n) for n in c["version"].split(".")], c["loop"]))


def title(content: Record) -> str:
    """Of one suite."""
    if content["suite"] == "gevent":
        return f"gevent {content['version']}, loop {content['loop']}"
    return f"CPython {content['version']}"


def module_row(name: str, record: Record) -> str:
    """One module on both stacks."""
    if "absent" in record:
        return f"| {name} | not in this version | | | | | |"
    plain, ours = record["plain"], record["ours"]
    total = sum(ours["counts"].values())
    ratio = ours["seconds"] / plain["seconds"] if plain["seconds"] > 0 else 1
    return (
        f"| {name} | {number(plain['counts'], *OK)} / {number(plain['counts'], 'skip')} "
        f"| {number(ours['counts'], *OK)} / {number(ours['counts'], 'skip')} | {len(record['differs'])} "
        f"| {record['touched']} of {total} | {plain['seconds']:.1f} → {ours['seconds']:.1f} | {ratio:.2f} |"
    )


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
    lines += ["| module | kernel: ok / skipped | ours: ok / skipped | differ | on the stack | seconds | ratio |"]
    lines += ["|---|---|---|---|---|---|---|"]
    lines += [module_row(name, content["modules"][name]) for name in order if name in content["modules"]]
    missing = [name for name in order if name not in content["modules"]]
    return [*lines, "", *([f"Not run yet: {', '.join(missing)}.", ""] if missing else [])]


def each_record(contents: list[Record]) -> list[tuple[Record, str, Record]]:
    """(suite, module, its record), without what is absent."""
    return [(c, m, r) for c in contents for m, r in sorted(c.get("modules", {}).items()) if "absent" not in r]


def where(contents: list[Record], key: str) -> dict[str, list[tuple[str, Any]]]:
    """Test: in which suites it stands under the key, and what stands there."""
    found: dict[str, list[tuple[str, Any]]] = {}
    for content, _module, record in each_record(contents):
        for name, value in record[key].items():
            found.setdefault(name, []).append((title(content), value))
    return dict(sorted(found.items()))


def differences_section(contents: list[Record]) -> list[str]:
    """Every test that differs, with its reason."""
    listed = matrix.differences()
    lines = ["## Tests that differ", "", "| test | kernel → ours | where | reason |", "|---|---|---|---|"]
    for name, places in where(contents, "differs").items():
        entry = next(
            (entry for entry in listed if any(entry.covers(name, p.split()[1].rstrip(",")) for p, _ in places)), None
        )
        outcomes = sorted({f"{value[0]} → {value[1]}" for _, value in places})
        reason = entry.reason if entry else "**no reason is known yet**"
        lines.append(f"| `{text(name)}` | {', '.join(outcomes)} | {'; '.join(p for p, _ in places)} | {text(reason)} |")
    lines += ["", "## Seen to differ in one run of two", "",
              "The same test had the same outcome on both stacks when its module was run again.", "",
              "| test | kernel → ours | where | what it said |", "|---|---|---|---|"]  # fmt: skip
    for name, places in where(contents, "once").items():
        value = places[0][1]
        said = text(value[2].strip().splitlines()[-1])[:150] if value[2].strip() else ""
        lines.append(f"| `{text(name)}` | {value[0]} → {value[1]} | {'; '.join(p for p, _ in places)} | {said} |")
    return [*lines, ""]


def both_section(contents: list[Record]) -> list[str]:
    """What fails on the kernel too, and what is skipped, in the suites' own words."""
    lines = ["## Tests that fail on the kernel as well", "", "| module | where | tests |", "|---|---|---|"]
    for content, module, record in each_record(contents):
        if names := record["not ok on either"]:
            lines.append(f"| {module} | {title(content)} | {', '.join(f'`{text(n)}`' for n in names)} |")
    lines += ["", "## Tests skipped on both, in the suites' own words", "", "| reason | tests |", "|---|---|"]
    reasons: dict[str, dict[str, list[str]]] = {}
    for content, module, record in each_record(contents):
        for reason, names in record["skipped"].items():
            reasons.setdefault(reason, {})[f"{title(content)} {module}"] = names
    for reason, places in sorted(reasons.items()):
        cells = [f"{place} ({len(names)})" for place, names in places.items()]
        lines.append(f"| {text(reason) or '(none given)'} | {', '.join(cells)} |")
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
        "`make matrix` ([results](../tests/compat/results)) and [differences.toml](../tests/compat/differences.toml).",
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
        "are here because interception must not change them. The machine had other work: read the times as ±30 %.",
        "",
    ]
    for content in contents:
        lines += suite_section(content)
    return "\n".join([*lines, *differences_section(contents), *both_section(contents)]).rstrip() + "\n"


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
        readme: generated.with_part(readme.read_text(), MARKS, readme_part(loaded, contents), "compat_pages"),
    }


if __name__ == "__main__":
    generated.main("compat_pages", __doc__, ROOT, wanted)
