"""Numbers of many runs as one: median and spread, and the ratio of pairs."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

Run = dict[str, Any]
OURS, KERNEL = "ours", "kernel"


@dataclass(frozen=True)
class Spread:
    """Median, least and most."""

    median: float
    low: float
    high: float

    @staticmethod
    def of(values: Iterable[float]) -> Spread | None:
        """None of no values."""
        numbers = list(values)
        return Spread(statistics.median(numbers), min(numbers), max(numbers)) if numbers else None

    def text(self, digits: int | None = None) -> str:
        """``median [least-most]``, with the digits given or three that mean something."""
        if digits is None:
            digits = digits_for(self.median)
        return f"{self.median:,.{digits}f} [{self.low:,.{digits}f}–{self.high:,.{digits}f}]"


def digits_for(value: float) -> int:
    """Decimals so that three digits mean something."""
    for digits, bound in ((0, 100), (1, 10), (2, 0.1)):
        if abs(value) >= bound:
            return digits
    return 3 if value else 0


def get(run: Run, path: str) -> float | None:
    """``latency_us.p99`` of a run; None where it has no such figure."""
    value: Any = run
    for name in path.split("/"):
        if not isinstance(value, dict) or value.get(name) is None:
            return None
        value = value[name]
    return float(value)


def values(pairs: Sequence[dict[str, Run]], stack: str, path: str) -> list[float]:
    """One figure of every run on a stack."""
    found = (get(pair[stack], path) for pair in pairs)
    return [value for value in found if value is not None]


def spread(pairs: Sequence[dict[str, Run]], stack: str, path: str) -> Spread | None:
    """Of one figure on a stack."""
    return Spread.of(values(pairs, stack, path))


def ratio(pairs: Sequence[dict[str, Run]], path: str, *, more_is_better: bool = False) -> Spread | None:
    """Of the pairs, each by itself; above 1 ours is better."""
    found = []
    for pair in pairs:
        ours, kernel = get(pair[OURS], path), get(pair[KERNEL], path)
        if ours and kernel:
            found.append(ours / kernel if more_is_better else kernel / ours)
    return Spread.of(found)


def rounded(value: Any) -> Any:
    """The same with five digits to every number: what a run's figures are worth, and less to store."""
    if isinstance(value, dict):
        return {name: rounded(part) for name, part in value.items()}
    if isinstance(value, list):
        return [rounded(part) for part in value]
    if isinstance(value, float):
        return float(f"{value:.5g}")
    return value
