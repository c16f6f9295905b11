"""The page, docs/performance.md in the repository: made from the JSON alone, so that it can be made again anywhere."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from . import checks, plots, verdict
from .figures import KERNEL, OURS, Spread, ratio, spread
from .goals import ROWS
from .properties import PROPERTIES
from .results import BadResults
from .settings import SETTINGS

NAME = "performance.md"
REASONS = "performance.toml"
PLOTS = "performance"  # the folder of the plots, beside the page

HEAD = """# Performance

Made by `make bench` (`python -m mtcp_patch.bench --out docs`) from [performance.json](performance.json); not written by
hand. `python -m mtcp_patch.bench page --out docs` makes it again from the JSON.

Each figure is a median [least–most] of interleaved pairs of runs: ours, the kernel's, and the other way round. Each
run has fresh processes in a fresh network namespace, the server pinned to one core and the native load generator to
another; a warm-up comes first. Ratios are of the pairs, above 1 ours is better. CPU of a server is its process's, all
threads, to the nanosecond; its division into user and system is the kernel's, by ticks. The receiver's kernel work on
lo and veth runs in the sender's context, so both ends' CPU stands beside the server's. System calls were counted in
runs of their own, by the kernel's tracepoint.

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


def goals(document: Document, reasons: dict[str, str]) -> Iterator[str]:
    """The table to reach. `reasons`: by setting and id, why a goal is missed."""
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
                reason = reasons.get(f"{letter}/{row.id}")
                said.append(f"- {letter}, {row.title}: {why}{f'. {reason}' if reason else ''}")
        rows.append((row.title, *cells, row.ceiling))
    yield from table(("case", *SETTINGS, "ceiling (M)"), rows)
    if said:
        yield from said
        yield ""


def reasons_in(out: Path) -> dict[str, str]:
    """`performance.toml` beside the JSON, written by hand: ``[reasons]`` with ``"K/native" = "why, and the profile"``.

    BadResults for a key that is no line of the table: a reason that is shown nowhere is worse than none.
    """
    path = out / REASONS
    if not path.exists():
        return {}
    found: dict[str, str] = tomllib.loads(path.read_text()).get("reasons", {})
    unknown = found.keys() - {f"{letter}/{row.id}" for row in ROWS for letter in row.goals}
    if unknown:
        raise BadResults(f"{path}: no line of the table: {', '.join(sorted(unknown))}")
    return found


def both(result: Result, path: str, digits: int | None = None) -> str:
    """Ours and the kernel's."""
    found = [spread(result["pairs"], stack, path) for stack in (OURS, KERNEL)]
    return " / ".join("–" if s is None else median(s, digits) for s in found)


def median(value: Spread, digits: int | None = None) -> str:
    """Without the spread."""
    return value.text(digits).partition(" ")[0]


BULK = (
    ("Gbit/s", "gbit_s", None), ("server µs a MiB", "server_us", 0), ("user", "server_user_us", 0),
    ("system", "server_system_us", 0), ("both ends µs a MiB", "both_us", 0), ("switches a MiB", "switches", 2),
)  # fmt: skip
CONVOY = (
    ("requests/s", "rate", None), ("p50 µs", "latency_us/p50", 0), ("p99", "latency_us/p99", 0),
    ("p99.9", "latency_us/p99.9", 0), ("max", "latency_us/max", 0),
)  # fmt: skip
LATENCY = (
    ("requests/s", "rate", None), ("min µs", "latency_us/min", 0), ("p50", "latency_us/p50", 0),
    ("p99", "latency_us/p99", 0), ("p99.9", "latency_us/p99.9", 0), ("max", "latency_us/max", 0),
    ("server µs", "server_us", None), ("switches", "switches", 3),
)  # fmt: skip
DETAILS = (
    ("requests/s", "rate", None), ("server µs", "server_us", None), ("user", "server_user_us", None),
    ("system", "server_system_us", None), ("both ends µs", "both_us", None), ("machine µs", "machine_us", None),
    ("p50 µs", "latency_us/p50", 0), ("p99", "latency_us/p99", 0), ("p99.9", "latency_us/p99.9", 0),
    ("max", "latency_us/max", 0), ("switches", "switches", 3),
)  # fmt: skip


BY_CPU = ("ratio server CPU", "server_us", False)
BY_RATE = ("ratio rate", "rate", True)
BY_P50, BY_P99 = ("ratio p50", "latency_us/p50", False), ("ratio p99", "latency_us/p99", False)
# The ratios and the figures that mean something, where they are not those of most sections. The CPU of a server that
# computes besides is no request's.
COLUMNS = {
    "convoy": ((BY_P50, BY_P99), CONVOY),
    "latency": ((BY_P50, BY_P99, BY_CPU), LATENCY),
    "bulk": ((BY_RATE, BY_CPU), BULK),
}


def details(name: str, results: Sequence[Result]) -> Iterator[str]:
    """Every figure of the cases of one section: ours / the kernel's, medians; ratios with their spread."""
    ratios, columns = COLUMNS.get(name, ((BY_CPU, BY_RATE), DETAILS))
    counted = any(r["syscalls"] for r in results)
    head = ["case", *(title for title, _, _ in ratios), *(title for title, _, _ in columns)]
    head += ["system calls"] if counted else []
    for letter, setting in SETTINGS.items():
        those = [r for r in results if r.get("setting") == letter]
        measured = [r for r in those if "not_measured" not in r]
        if not those:
            continue
        yield f"### {letter}: {setting.title}"
        yield ""
        rows = []
        for r in measured:
            found = [ratio(r["pairs"], path, more_is_better=more) for _, path, more in ratios]
            calls = " / ".join(f"{r['syscalls'][stack]:.3g}" for stack in (OURS, KERNEL) if stack in r["syscalls"])
            row = [r["title"], *("–" if s is None else s.text(2) for s in found)]
            row += [both(r, path, digits) for _, path, digits in columns]
            rows.append(row + ([calls] if counted else []))
        if rows:
            unit = "a MiB" if name == "bulk" else "a request"
            yield f"Medians, ours / the kernel's, of {unit}."
            yield ""
            yield from table(head, rows)
        said = list(remarks(those))
        if said:
            yield from [*said, ""]


def remarks(results: Sequence[Result]) -> Iterator[str]:
    """What must be said beside the figures, and why some are missing."""
    for r in results:
        if "not_measured" in r:
            yield f"- {r['title']}: not measured: {cell(r['not_measured'].splitlines()[0])}"
        else:
            yield from (f"- {r['title']}: {said}" for said in checks.remarks(r, quick=r["stamp"]["quick"]))


def properties(document: Document) -> Iterator[str]:
    """The other goals."""
    yield "## The other goals"
    yield ""
    yield "Bold where the goal holds; ours first. A goal is held in every line that it names."
    yield ""
    rows = []
    for one in PROPERTIES:
        found = [f"**{text}**" if holds else text for text, holds in one.look(document)]
        rows.append((one.title, one.goal, "<br>".join(found) or "not measured"))
    yield from table(("property", "goal", "measured"), rows)


def starts(results: Sequence[Result]) -> Iterator[str]:
    """`startup`: medians of both and of what is added."""
    rows = []
    for r in results:
        both_ms = [Spread.of(pair[stack]["ms"] for pair in r["starts"]) for stack in (OURS, KERNEL)]
        added = Spread.of(pair[OURS]["ms"] - pair[KERNEL]["ms"] for pair in r["starts"])
        rows.append((r["title"], *(s.text(1) for s in (*both_ms, added) if s)))
    yield from table(("start", "patched, ms", "plain, ms", "added, ms"), rows)


def flows(results: Sequence[Result]) -> Iterator[str]:
    """`scale`: the engine by itself."""
    yield "The engine by itself, both ends of every flow in one shard over its in-process device; CPU of the process."
    yield ""
    rows = []
    for r in results:
        if "not_measured" in r:
            rows.append((r["title"], f"not measured: {r['not_measured'].splitlines()[0]}", "", ""))
            continue
        some = (Spread.of(run[name] for run in r["runs"]) for name in ("busy_few_ns", "busy_all_ns", "bytes_each"))
        rows.append((r["title"], *(s.text(0) for s in some if s)))
    yield from table(("flows", "ns a packet, 64 pairs busy", "ns a packet, all in turn", "bytes a connection"), rows)


def idle(results: Sequence[Result]) -> Iterator[str]:
    """`connections`: memory of idle ones."""
    rows = []
    for r in results:
        if "not_measured" in r:
            rows.append((r["title"], f"not measured: {r['not_measured'].splitlines()[0]}", "", "", ""))
            continue
        spreads = [
            Spread.of(pair[stack][path] for pair in r["idle"])
            for stack in (OURS, KERNEL)
            for path in ("server_bytes", "machine_bytes")
        ]
        rows.append((r["title"], *(s.text(0) for s in spreads if s)))
    yield "Bytes a connection: resident memory of the server's process, and what the machine has less (both ends)."
    yield ""
    yield from table(("", "ours: server", "ours: machine", "kernel: server", "kernel: machine"), rows)


SPECIAL = {"startup": starts, "scale": flows}
SECTIONS = {
    "servers": "Servers",
    "startup": "Start-up",
    "convoy": "Beside a computing thread",
    "latency": "Latency under load",
    "messages": "Messages",
    "bulk": "Bulk",
    "connections": "Connections",
    "scale": "Scale",
    "layout": "Layouts",
}


def contents(document: Document, reasons: dict[str, str] | None = None) -> str:
    """The whole page."""
    lines = [HEAD, *environment(document), *goals(document, reasons or {}), *properties(document)]
    for name, title in SECTIONS.items():
        results = section(document, name)
        if not results:
            continue
        lines += [f"## {title}", ""]
        if name in plots.PLOTS:
            lines += [f"![{title}]({PLOTS}/{name}.svg)", ""]
        if name in SPECIAL:
            lines += SPECIAL[name](results)
            continue
        lines += details(name, [r for r in results if "pairs" in r])
        others = [r for r in results if "pairs" not in r]
        if name == "connections" and others:
            lines += idle(others)
        elif others:
            lines += [f"- {r['title']}: not measured: {r['not_measured'].splitlines()[0]}" for r in others] + [""]
    return "\n".join(lines).rstrip() + "\n"


def write(document: Document, out: Path) -> None:
    """The page, and its plots where matplotlib is installed."""
    out.mkdir(parents=True, exist_ok=True)
    plots.write(document, out / PLOTS)
    (out / NAME).write_text(contents(document, reasons_in(out)))
