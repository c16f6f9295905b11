"""The table: every server, unmodified, patched against plain, in the settings K, X and M."""

from __future__ import annotations

from ..goals import ROWS
from ..plan import Plan, Results, in_settings
from ..run import Case, in_pairs


def cases(plan: Plan, letter: str) -> list[Case]:
    """The rows of a setting."""
    return [
        Case(
            row.id,
            row.title,
            letter,
            row.server,
            plan.timed(row.load),
            plan.pairs,
            saturates=row.saturates,
            count_syscalls=True,
        )
        for row in ROWS
        if row.quick or not plan.quick
    ]


def run(plan: Plan) -> Results:
    """All of them."""
    return [in_pairs(case, say=plan.say) for case in in_settings(plan, lambda letter: cases(plan, letter))]
