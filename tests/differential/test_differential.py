"""A hundred seeds; ``make differential`` runs more."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import need

from .compare import EXPLAINED
from .rig import parse_options
from .runs import report, run
from .stimuli import Script, Segment

DIFFERENCES = Path(__file__).resolve().parents[2] / "docs" / "differences.md"


@pytest.mark.timeout(120)
def test_both_stacks_answer_alike() -> None:
    need.root()
    need.stack()
    need.xdp()
    need.tool("ethtool")
    outcome = run(list(range(1, 101)))
    assert not outcome.differing, "\n" + report(outcome.differing)
    assert len(outcome.unrepeated) <= 10, f"too much of it is chance: seeds {sorted(outcome.unrepeated)}"


def test_every_explanation_is_written_down() -> None:
    text = DIFFERENCES.read_text()
    missing = [name for name in EXPLAINED if f"**{name}**" not in text]
    assert not missing, f"docs/differences.md does not explain {missing}"


def test_a_script_is_decided_by_its_seed() -> None:
    assert Script(7).steps == Script(7).steps
    assert Script(7).steps != Script(8).steps


def test_the_scripts_are_varied() -> None:
    """Every kind of segment occurs, or the comparison would say little."""
    segments = [step for seed in range(100) for step in Script(seed).steps if isinstance(step, Segment)]
    assert {segment.flags for segment in segments} >= {0, 2, 3, 4, 8, 11, 16, 17, 18, 24}
    assert any(segment.window == 0 for segment in segments)
    assert any(segment.tsval is None for segment in segments)
    assert any(segment.ack < 0 for segment in segments)


def test_options_are_read_as_a_set() -> None:
    data = b"\x02\x04\x05\x78\x01\x03\x03\x07\x05\x0a" + (105).to_bytes(4, "big") + (115).to_bytes(4, "big") + b"\0\xff"
    assert parse_options(data, isn=100) == ((2, b"\x05\x78"), (3,), (5, (5, 15)))
