"""mTCP's own experiment, by native programs: messages a connection, sizes, numbers of connections."""

from __future__ import annotations

from dataclasses import replace

from ..plan import Plan, Results, in_settings
from ..run import Case, Load, Server, in_pairs

# The lines of the experiment, and their ends, which is all that X and the quick plan have.
LINES = {
    "messages": ((1, 2, 4, 8, 16, 32, 64, 128), (1, 8, 128)),
    "size": ((64, 512, 2048, 8192), (64, 8192)),
    "connections": ((1, 8, 64, 512, 4096), (1, 64, 1024)),
}
TITLES = {
    "messages": "{} messages of 64 B a connection, 64 connections at once",
    "size": "echo of {} B, 64 connections",
    "connections": "echo of 64 B, {} connections",
}
ADDRESSES = 4
ECHO = Server("native")


def load_of(line: str, value: int) -> Load:
    """One point."""
    match line:
        case "messages":
            return Load(messages=value, spread=ADDRESSES)
        case "size":
            return Load(size=value)
    return Load(connections=value)


def cases(plan: Plan, letter: str) -> list[Case]:
    """All points of a setting."""
    ends = plan.quick or letter == "X"
    found = []
    for line, (all_values, end_values) in LINES.items():
        for value in end_values if ends else all_values:
            load, title = load_of(line, value), TITLES[line].format(f"{value:,}")
            name = f"{line}-{value}"
            saturates = load.connections > 1
            found.append(Case(name, title, letter, ECHO, plan.timed(load), plan.pairs, saturates=saturates))
    return found


def run(plan: Plan) -> Results:
    """All of them, each for less time than others: they are many."""
    short = replace(plan, measure_ms=max(200, plan.measure_ms // 2), warmup_ms=plan.warmup_ms // 2)
    return [in_pairs(case, say=plan.say) for case in in_settings(plan, lambda letter: cases(short, letter))]
