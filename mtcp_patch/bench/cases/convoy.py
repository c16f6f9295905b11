"""An echo whose process computes in another Python thread: what a request waits for the GIL."""

from __future__ import annotations

from ..plan import Plan, Results, in_settings
from ..run import Case, Load, Server, in_pairs


def cases(plan: Plan, letter: str) -> list[Case]:
    """One connection, where each wait for the GIL shows, and several."""
    counts = (1,) if plan.quick else (1, 16)
    return [
        Case(
            f"convoy-{count}", f"selectors echo beside a computing thread, {count} connection{'s' * (count > 1)}",
            letter, Server("convoy_echo"), plan.timed(Load(connections=count)), plan.pairs,
            saturates=False, distribution=True,
        )
        for count in counts
    ]  # fmt: skip


def run(plan: Plan) -> Results:
    """In K and M: what is measured is the server's process."""
    settings = [letter for letter in plan.settings if letter != "X"]
    found = (case for case in in_settings(plan, lambda letter: cases(plan, letter)) if case.setting in settings)
    return [in_pairs(case, say=plan.say) for case in found]
