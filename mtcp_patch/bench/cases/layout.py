"""unified, merged, split: mTCP's forms of who runs TCP."""

from __future__ import annotations

from ..plan import Plan, Results

# The layouts that the package has. With a second one this becomes a case for each against the first.
LAYOUTS = ("unified",)


def run(plan: Plan) -> Results:
    """Says that there is nothing to compare."""
    reason = f"the stack has one layout, {LAYOUTS[0]}; merged and split are not built"
    plan.say(f"layout: {reason}")
    return [{"id": "layouts", "title": "unified against merged and split", "not_measured": reason}]
