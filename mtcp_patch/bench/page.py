"""The page, docs/performance.md in the repository: made from the JSON alone, so that it can be made again anywhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import checks, verdict
from .figures import KERNEL, OURS, Spread, ratio, spread
from .goals import ROWS
from .settings import SETTINGS

NAME = "performance.md"
PLOTS = "performance"  # the folder of the plots, beside the page

HEAD = """# Performance

Made by `make bench` (`python -m mtcp_patch.bench --out docs`) from [performance.json](performance.json); not written by
hand. `python -m mtcp_patch.bench page --out docs` makes it again from the JSON.

Each figure is a median [least–most] of interleaved pairs of runs: ours, the kernel's, and the other way round. Each
run has fresh processes in a fresh network namespace, the server pinned to one core and the native load generator to
another; a warm-up comes first. Ratios are of the pairs, above 1 ours is better. CPU of a server is its process's, all
threads. The receiver's kernel work on lo and veth runs in the sender's context, so both ends' CPU stands beside the
server's.

- **K**: a stock kernel client reaches the server over lo (`xdp:lo`). The client's own receive work is part of both
  sides' figures, so native code cannot pass about 1.6.
- **X**: the far end is our native load over AF_XDP on a veth, for the kernel's server and for ours alike; CPU of the
  whole machine a request.
- **M**: both ends ours over `memory` between processes, against both ends the kernel's on lo; server CPU a request.
"""

Document = dict[str, Any]
Result = dict[str, Any]


def section(document: Document, name: str) -> list[Result]:
    """The results of a sub-command; none when it was not run."""
    found = document["sections"].get(name, {"results": []})["results"]
    assert isinstance(found, list)
    return found


def find(results: Sequence[Result], case_id: str, letter: str) -> Result | None:
    """A case in a setting."""
    return next((r for r in results if r["id"] == case_id and r.get("setting") == letter), None)


def cell(words: object) -> str:
    """Fit for a table."""
    return str(words).replace("|", "\\|").replace("\n", " ")


def table(head: Sequence[str], rows: Sequence[Sequence[object]]) -> Iterator[str]:
    """Markdown."""
    yield "| " + " | ".join(head) + " |"
    yield "|" + "---|" * len(head)
    for row in rows:
        yield "| " + " | ".join(cell(words) for words in row) + " |"
    yield ""


def environment(document: Document) -> Iterator[str]:
    """One line a section: sections may have been measured at different times."""
    stamps = {name: part["stamp"] for name, part in document["sections"].items()}
    if not stamps:
        yield "Nothing was measured yet."
        return
    one = next(iter(stamps.values()))
    versions = ", ".join(f"{name} {version}" for name, version in one["versions"].items())
    yield "## Environment"
    yield ""
    where = "virtual machine" if one["virtual_machine"] else "machine"
    yield (
        f"{one['cpu']}, {where} of {one['cores']} cores and {one['memory_gib']} GiB; Linux {one['kernel']} "
        f"({one['congestion_control']}); CPython {one['python']}; {versions}; {one['build']} build."
    )
    yield ""
    rows = [
        (
            name, s["time"], s["commit"] or "no checkout", f"{s['pairs']} x {s['seconds']:g} s",
            f"{s['load_average']:.2f}", f"{s['busy_before']:.0%}" + (" (busy)" if s["busy_before"] > 0.05 else ""),
            "quick: not for publishing" if s["quick"] else "",
        )
        for name, s in stamps.items()
    ]  # fmt: skip
    yield from table(("section", "measured", "commit", "pairs", "load average", "cores busy before", ""), rows)


def goals(document: Document) -> Iterator[str]:
    """The table to reach."""
    results = section(document, "servers")
    yield "## The table"
    yield ""
    yield "Kernel ÷ ours, of the goal; bold where it is reached. What is missing or lost stands below the table."
    yield ""
    rows, said = [], []
    for row in ROWS:
        cells = []
        for letter, goal in row.goals.items():
            found = verdict.of(find(results, row.id, letter), goal)
            cells.append(found.text())
            if not found.holds and found.what != verdict.NOT_RUN:
                why = f"not measured: {found.what}" if found.ratio is None else f"below the goal in {found.what}"
                said.append(f"- {letter}, {row.title}: {why}")
        rows.append((row.title, *cells, row.ceiling))
    yield from table(("case", *SETTINGS, "ceiling (M)"), rows)
    if said:
        yield from said
        yield ""


def both(result: Result, path: str, digits: int | None = None) -> str:
    """Ours and the kernel's."""
    found = [spread(result["pairs"], stack, path) for stack in (OURS, KERNEL)]
    return " / ".join("–" if s is None else median(s, digits) for s in found)


def median(value: Spread, digits: int | None = None) -> str:
    """Without the spread."""
    return value.text(digits).partition(" ")[0]


DETAILS = (
    ("requests/s", "rate", None), ("server µs", "server_us", None), ("user", "server_user_us", None),
    ("system", "server_system_us", None), ("both ends µs", "both_us", None), ("machine µs", "machine_us", None),
    ("p50 µs", "latency_us/p50", 0), ("p99", "latency_us/p99", 0), ("p99.9", "latency_us/p99.9", 0),
    ("max", "latency_us/max", 0), ("switches", "switches", 3),
)  # fmt: skip


def details(results: Sequence[Result]) -> Iterator[str]:
    """Every figure of the cases of one section: ours / the kernel's, medians; ratios with their spread."""
    head = ("case", "ratio server CPU", "ratio rate", *(name for name, _, _ in DETAILS), "syscalls")
    for letter, setting in SETTINGS.items():
        those = [r for r in results if r.get("setting") == letter]
        measured = [r for r in those if "not_measured" not in r]
        if not those:
            continue
        yield f"### {letter}: {setting.title}"
        yield ""
        rows = []
        for r in measured:
            ratios = (ratio(r["pairs"], "server_us"), ratio(r["pairs"], "rate", more_is_better=True))
            calls = " / ".join(f"{r['syscalls'][stack]:.3g}" for stack in (OURS, KERNEL) if stack in r["syscalls"])
            rows.append(
                (r["title"], *("–" if s is None else s.text(2) for s in ratios),
                 *(both(r, path, digits) for _, path, digits in DETAILS), calls)
            )  # fmt: skip
        if rows:
            yield "Medians, ours / the kernel's, for a request."
            yield ""
            yield from table(head, rows)
        for r in those:
            if "not_measured" in r:
                yield f"- {r['title']}: not measured: {cell(r['not_measured'].splitlines()[0])}"
            else:
                yield from (f"- {r['title']}: {said}" for said in checks.remarks(r, quick=r["stamp"]["quick"]))
        yield ""


def contents(document: Document) -> str:
    """The whole page."""
    lines = [HEAD]
    lines += environment(document)
    lines += goals(document)
    if section(document, "servers"):
        lines += ["## Servers", "", f"![ratios]({PLOTS}/servers.svg)", ""]
        lines += details(section(document, "servers"))
    return "\n".join(lines).rstrip() + "\n"


def write(document: Document, out: Path) -> None:
    """The page, and its plots where matplotlib is installed."""
    from . import plots

    out.mkdir(parents=True, exist_ok=True)
    plots.write(document, out / PLOTS)
    (out / NAME).write_text(contents(document))
