"""Which of a case's figures its goal is held against, and whether it holds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .checks import SATURATED
from .figures import KERNEL, OURS, Spread, ratio, spread
from .goals import BY_RATE

# A ratio this far below the goal still counts as reached: it is the last digit of the goal.
LAST_DIGIT = 0.005
NOT_RUN = "not run"


@dataclass(frozen=True)
class Verdict:
    """One goal."""

    goal: float
    ratio: Spread | None
    # Which figures were divided; or why there are none.
    what: str

    @property
    def holds(self) -> bool | None:
        """None: not measured."""
        return None if self.ratio is None else self.ratio.median >= self.goal - LAST_DIGIT

    def text(self) -> str:
        """For a cell."""
        if self.ratio is None:
            return f"{'not run' if self.what == NOT_RUN else 'not measured'}, goal {self.goal:g}"
        return f"{'**' if self.holds else ''}{self.ratio.text(2)}{'**' if self.holds else ''} of {self.goal:g}"


def saturated(pairs: list[dict[str, Any]]) -> bool:
    """Whether the server's core was what limited both stacks."""
    found = [spread(pairs, stack, "server_core") for stack in (OURS, KERNEL)]
    return all(busy is not None and busy.median >= SATURATED for busy in found)


def ratio_of(result: dict[str, Any]) -> tuple[Spread | None, str]:
    """The ratio that the goals of the table speak of, and its name."""
    pairs = result["pairs"]
    rate = ratio(pairs, "rate", more_is_better=True)
    if result["id"] in BY_RATE:
        return rate, "requests a second"
    if result["setting"] == "X":
        return ratio(pairs, "machine_us"), "CPU of the machine a request"
    cpu = ratio(pairs, "server_us")
    if result["setting"] == "K" and cpu and rate and saturated(pairs) and rate.median < cpu.median:
        return rate, "requests a second"
    return cpu, "server CPU a request"


def of(result: dict[str, Any] | None, goal: float) -> Verdict:
    """The goal of one cell."""
    if result is None:
        return Verdict(goal, None, NOT_RUN)
    if "not_measured" in result:
        return Verdict(goal, None, result["not_measured"].splitlines()[0])
    return Verdict(goal, *ratio_of(result))
