"""Plays scripts on both stacks and keeps only the differences that repeat."""

from __future__ import annotations

from dataclasses import dataclass, field

from support.programs import KERNEL, OURS

from .compare import Difference, compare
from .rig import play_on
from .stimuli import Script


@dataclass
class Outcome:
    """What came of many scripts."""

    differing: dict[int, list[Difference]] = field(default_factory=dict)
    explanations: set[str] = field(default_factory=set)
    unrepeated: set[int] = field(default_factory=set)


def run(seeds: list[int]) -> Outcome:
    """Both stacks, one after the other. What differs is played again: a difference that does not repeat came from
    the machine's scheduling, not from the protocol, and is only counted."""
    outcome = Outcome()
    first = _once(seeds, outcome)
    again = _once(sorted(first), outcome) if first else {}
    outcome.differing = again
    outcome.unrepeated = set(first) - set(again)
    return outcome


def _once(seeds: list[int], outcome: Outcome) -> dict[int, list[Difference]]:
    scripts = [Script(seed) for seed in seeds]
    kernel, ours = (play_on(stack, scripts) for stack in (KERNEL, OURS))
    differing = {}
    for script, theirs, mine in zip(scripts, kernel, ours, strict=True):
        found, used = compare(script, theirs, mine)
        outcome.explanations |= used
        if found:
            differing[script.seed] = found
    return differing


def report(differing: dict[int, list[Difference]]) -> str:
    """Each seed with its steps up to the first difference."""
    lines = []
    for seed, found in differing.items():
        lines.append(f"seed {seed} (python -m tests.differential --seeds {seed})")
        lines += [f"  {step}: {action}" for step, action in enumerate(Script(seed).steps[: found[0].step])]
        lines.append(f"  {found[0]}")
    return "\n".join(lines)
