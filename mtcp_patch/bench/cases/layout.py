"""unified, merged, split: who runs TCP. mTCP's two forms beside the one that is the default, each against the kernel.

A split TCP thread needs a core besides the server's and the load's. Where there are only two it shares the load's,
which the page says; `machine µs` is the column that counts it.
"""

from __future__ import annotations

from dataclasses import replace

from ..plan import Plan, Results, in_settings
from ..run import Case, Load, Server, in_pairs

LAYOUTS = ("unified", "merged", "split")
SERVERS = (("selectors", Server("selectors_echo")), ("native", Server("native")))


def cases(plan: Plan, letter: str) -> list[Case]:
    """Every layout of every server."""
    return [
        Case(
            f"{name}-{layout}",
            f"{name} echo, {layout}",
            letter,
            replace(server, layout=layout),
            plan.timed(Load()),
            plan.pairs,
            saturates=layout == LAYOUTS[0],
        )
        for name, server in (SERVERS[:1] if plan.quick else SERVERS)
        for layout in LAYOUTS
    ]


def run(plan: Plan) -> Results:
    """In K."""
    found = in_settings(plan, lambda letter: cases(plan, letter) if letter == "K" else [])
    return [in_pairs(case, say=plan.say) for case in found]
