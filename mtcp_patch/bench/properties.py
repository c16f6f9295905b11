"""The goals that are no ratio of the table: what was measured for each, and whether it holds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from .figures import KERNEL, OURS, ratio, spread
from .goals import ROWS

Document = dict[str, Any]
Result = dict[str, Any]
Found = tuple[str, bool]

# Rows that are one message a connection, one connection, or HTTP are not "64 busy connections" of an echo.
BUSY_ECHOES = ("native", "selectors", "asyncio-protocol", "asyncio-streams", "gevent", "threading")
MOST_SLOWER = 0.95


@dataclass(frozen=True)
class Property:
    """A goal, and where what is measured for it is found."""

    title: str
    goal: str
    look: Callable[[Document], Iterator[Found]]


def section(document: Document, name: str) -> list[Result]:
    """What was measured by a sub-command."""
    found = document["sections"].get(name, {"results": []})["results"]
    return [result for result in found if "not_measured" not in result]


def case(document: Document, name: str, case_id: str, letter: str) -> list[Result]:
    """None or one."""
    return [r for r in section(document, name) if r["id"] == case_id and r["setting"] == letter]


def medians(result: Result, path: str) -> tuple[float, float] | None:
    """Ours and the kernel's."""
    ours, kernel = (spread(result["pairs"], stack, path) for stack in (OURS, KERNEL))
    return (ours.median, kernel.median) if ours and kernel else None


def tail_at_80(document: Document) -> Iterator[Found]:
    """In K beside the kernel's, in M beside our own median."""
    for server in ("selectors", "native"):
        for result in case(document, "latency", f"{server}-80", "K"):
            if found := medians(result, "latency_us/p99"):
                yield f"K, {server}: {found[0]:,.0f} µs, the kernel's {found[1]:,.0f}", found[0] <= found[1]
        for result in case(document, "latency", f"{server}-80", "M"):
            p99, p50 = medians(result, "latency_us/p99"), medians(result, "latency_us/p50")
            if p99 and p50:
                yield f"M, {server}: {p99[0]:,.0f} µs, {p99[0] / p50[0]:.1f} x p50", p99[0] <= 10 * p50[0]


def ping_pong(document: Document) -> Iterator[Found]:
    """One connection."""
    for server in ("selectors", "native"):
        for letter, share in (("K", 1.0), ("M", 0.25)):
            for result in case(document, "latency", f"{server}-ping-pong", letter):
                if found := medians(result, "latency_us/p50"):
                    text = f"{letter}, {server}: {found[0]:.1f} µs, the kernel's {found[1]:.1f}"
                    yield text, found[0] <= share * found[1]


def convoy(document: Document) -> Iterator[Found]:
    """Every number of connections, K and M."""
    for result in section(document, "convoy"):
        if found := medians(result, "latency_us/p99"):
            count = result["parameters"]["connections"]
            text = f"{result['setting']}, {count} connection{'s' * (count > 1)}: {found[0] / 1000:,.2f} ms, "
            yield text + f"the kernel's {found[1] / 1000:,.2f}", found[0] <= found[1] / 2


def bulk(document: Document) -> Iterator[Found]:
    """Every server and direction."""
    for result in section(document, "bulk"):
        by = ratio(result["pairs"], "gbit_s", more_is_better=True)
        found = medians(result, "gbit_s")
        if by and found:
            text = f"{result['setting']}, {result['title']}: {found[0]:.1f} / {found[1]:.1f}, {by.text(2)}"
            yield text, by.median >= (0.8 if result["setting"] == "K" else 1.5)


def idle_memory(document: Document) -> Iterator[Found]:
    """Of the engine at a million, and of a server's process at what it may open."""
    for result in section(document, "scale"):
        if result["id"] == "flows-1000000":
            each = max(run["bytes_each"] for run in result["runs"])
            yield f"engine, 1,000,000: {each:,.0f} bytes each", each <= 1024
    for result in section(document, "connections"):
        if "idle" in result:
            ours, kernel = (
                sorted(pair[stack][path] for pair in result["idle"])[len(result["idle"]) // 2]
                for stack, path in ((OURS, "server_bytes"), (KERNEL, "machine_bytes"))
            )
            text = f"server's process, {result['title']}: {ours:,.0f} bytes each (the machine with both ends the "
            yield text + f"kernel's: {kernel:,.0f})", ours <= 1024


def scale(document: Document) -> Iterator[Found]:
    """The most flows by the fewest."""
    runs = {result["id"]: result["runs"] for result in section(document, "scale")}
    few, many = runs.get("flows-1000"), runs.get("flows-1000000")
    if not few or not many:
        return
    for name, title in (("busy_few_ns", "64 pairs busy, the rest idle"), ("busy_all_ns", "all take part in turn")):
        low, high = (min(run[name] for run in found) for found in (few, many))
        yield f"{title}: {high:.0f} ÷ {low:.0f} ns, {high / low:.2f}", high / low <= 1.3


def syscalls(document: Document) -> Iterator[Found]:
    """Of the echoes with 64 connections."""
    for letter, most in (("K", 0.2), ("M", 0.01)):
        for row in ROWS:
            for result in case(document, "servers", row.id, letter) if row.id in BUSY_ECHOES else ():
                calls = result["syscalls"].get(OURS)
                if calls is not None:
                    kernel = result["syscalls"].get(KERNEL, 0.0)
                    yield f"{letter}, {row.id}: {calls:.3f}, the kernel's {kernel:.2f}", calls <= most


def never_slower(document: Document) -> Iterator[Found]:
    """Every case of K whose rate ours does not reach by more than the measure, worst first."""
    found = []
    for name in ("servers", "messages", "connections"):
        for result in section(document, name):
            by = ratio(result.get("pairs", []), "rate", more_is_better=True)
            if by and result["setting"] == "K":
                found.append((by.median, f"K, {result['title']}: rate {by.text(2)}"))
    slower = sorted(pair for pair in found if pair[0] < MOST_SLOWER)
    if found and not slower:
        yield f"all {len(found)} cases of K, least: {min(found)[1]}", True
    for _, text in slower:
        yield text, False


def startup(document: Document) -> Iterator[Found]:
    """The median of the pairs' differences."""
    for result in section(document, "startup"):
        added = sorted(pair[OURS]["ms"] - pair[KERNEL]["ms"] for pair in result["starts"])
        middle = added[len(added) // 2]
        yield f"{result['title']}: {middle:.1f} ms [{added[0]:.1f}–{added[-1]:.1f}]", middle <= 25


PROPERTIES = (
    Property("p99 of an echo at 80 % load", "K: not worse than the kernel's; M: ≤ 10 x p50", tail_at_80),
    Property("one connection, ping-pong p50", "K: not worse than the kernel's; M: ≤ ¼ of the kernel's", ping_pong),
    Property("p99 beside a CPU-bound Python thread", "≤ half the kernel's", convoy),
    Property("bulk, one connection, Gbit/s", "K: 0.8 of the kernel's, both ways; M: 1.5", bulk),
    Property("idle connection, resident memory at 1,000,000", "≤ 1 KiB each", idle_memory),
    Property("packet cost, 1,000,000 flows ÷ 1,000 flows", "≤ 1.3", scale),
    Property("system calls a request, 64 busy connections", "K: ≤ 0.2; M: ≤ 0.01", syscalls),
    Property("default settings, any load", "never slower than the kernel by more than 5 %", never_slower),
    Property("start-up over plain Python", "≤ 25 ms", startup),
)
