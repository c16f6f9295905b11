"""How much is measured: the whole, for publishing, and the quick one, for a look."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .run import Case, Load, say_on_stderr


@dataclass(frozen=True)
class Plan:
    """What the command line asked for."""

    quick: bool = False
    settings: Sequence[str] = ("K", "M", "X")
    # Only cases whose id begins with one of these; all when empty.
    rows: Sequence[str] = ()
    pairs: int = 5
    measure_ms: int = 1000
    warmup_ms: int = 300
    say: Callable[[str], None] = say_on_stderr

    def wants(self, case_id: str) -> bool:
        """Whether a case was asked for."""
        return not self.rows or any(case_id.startswith(row) for row in self.rows)

    def timed(self, load: Load) -> Load:
        """The load for as long as this plan measures."""
        return replace(load, measure_ms=self.measure_ms, warmup_ms=self.warmup_ms)


Results = list[dict[str, Any]]


def in_settings(plan: Plan, make: Callable[[str], Sequence[Case]]) -> Sequence[Case]:
    """The cases of every setting that was asked for, one setting after the other."""
    return [case for letter in plan.settings for case in make(letter) if plan.wants(case.id)]
