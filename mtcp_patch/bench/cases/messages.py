"""mTCP's own experiment, by native programs: messages a connection, sizes, numbers of connections."""

from __future__ import annotations

from ..plan import Plan, Results, in_settings
from ..run import Case, Load, Server, in_pairs

MESSAGES = (1, 2, 4, 8, 16, 32, 64, 128)
SIZES = (64, 256, 1024, 4096, 8192)
CONNECTIONS = (1, 4, 16, 64, 256, 1024, 4096)
QUICK = {"messages": (1, 8, 128), "size": (64, 8192), "connections": (1, 64, 1024)}
ECHO = Server("native")


def loads(plan: Plan, letter: str) -> list[tuple[str, str, Load]]:
    """Id, title, load of every point. X is measured at the ends of each line only: its figures are the table's."""
    ends = plan.quick or letter == "X"
    messages = QUICK["messages"] if ends else MESSAGES
    sizes = QUICK["size"] if ends else SIZES
    connections = QUICK["connections"] if ends else CONNECTIONS
    points = [
        (f"messages-{n}", f"{n} messages of 64 B a connection", Load(messages=n, spread=4)) for n in messages
    ]  # fmt: skip
    points += [(f"size-{n}", f"echo of {n} B, 64 connections", Load(size=n)) for n in sizes]
    points += [
        (f"connections-{n}", f"echo of 64 B, {n} connections", Load(connections=n)) for n in connections
    ]  # fmt: skip
    return points


def cases(plan: Plan, letter: str) -> list[Case]:
    """All points of a setting."""
    return [
        Case(name, title, letter, ECHO, plan.timed(load), plan.pairs, saturates=load.connections > 1)
        for name, title, load in loads(plan, letter)
    ]


def run(plan: Plan) -> Results:
    """All of them, each for half the time: they are many."""
    from dataclasses import replace

    plan = replace(plan, measure_ms=max(200, plan.measure_ms // 2), warmup_ms=max(100, plan.warmup_ms // 2))
    return [in_pairs(case, say=plan.say) for case in in_settings(plan, lambda letter: cases(plan, letter))]
