"""Median and spread, and ratios pair by pair."""

from __future__ import annotations

import pytest

from bench import made
from mtcp_patch.bench.figures import Spread, digits_for, get, ratio, rounded, spread


def test_a_spread_is_the_median_and_both_ends() -> None:
    found = Spread.of([3.0, 1.0, 2.0, 10.0, 2.5])
    assert found == Spread(2.5, 1.0, 10.0)
    assert found.text(1) == "2.5 [1.0–10.0]"


def test_of_no_values_there_is_no_spread() -> None:
    assert Spread.of([]) is None


@pytest.mark.parametrize(("value", "digits"), [(123456.0, 0), (42.0, 1), (4.2, 2), (0.42, 2), (0.042, 3), (0.0, 0)])
def test_three_digits_mean_something(value: float, digits: int) -> None:
    assert digits_for(value) == digits


def test_ratios_are_of_pairs_and_not_of_medians() -> None:
    # A machine that becomes three times as slow between the pairs changes no ratio, but every median.
    pairs = made.result("x", "K", [1, 2, 6], [2, 4, 12])["pairs"]
    assert ratio(pairs, "server_us") == Spread(2.0, 2.0, 2.0)
    assert ratio(pairs, "rate", more_is_better=True) == Spread(2.0, 2.0, 2.0)


def test_a_ratio_above_one_is_ours_whichever_way_is_better() -> None:
    pairs = made.result("x", "K", [4], [2])["pairs"]
    assert ratio(pairs, "server_us") == Spread(0.5, 0.5, 0.5)
    assert ratio(pairs, "rate", more_is_better=True) == Spread(0.5, 0.5, 0.5)


def test_figures_that_a_run_does_not_have_are_left_out() -> None:
    pairs = made.result("x", "K", [1, 2], [1, 2])["pairs"]
    pairs[0]["ours"]["latency_us"] = None
    assert get(pairs[0]["ours"], "latency_us/p99") is None
    assert spread(pairs, "ours", "latency_us/p99") == Spread(20.0, 20.0, 20.0)
    assert ratio(pairs, "nothing") is None


def test_five_digits_are_stored() -> None:
    assert rounded({"a": [1.23456789, 123456789], "b": "1.23456789"}) == {"a": [1.2346, 123456789], "b": "1.23456789"}
