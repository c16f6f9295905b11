"""The page, from documents that no machine has measured: every figure of it is one of the document's."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import made
from mtcp_patch.bench import page, verdict
from mtcp_patch.bench.goals import ROWS

NATIVE = ROWS[0]


def native(setting: str, ours: float, kernel: float, *, core: float = 1.0) -> dict[str, object]:
    """The first row of the table, five equal pairs."""
    return made.result(NATIVE.id, setting, [ours] * 5, [kernel] * 5, title=NATIVE.title, core=core)


def line(text: str, begin: str) -> str:
    """The first line of the page that begins so."""
    return next(line for line in text.splitlines() if line.startswith(begin))


def test_a_goal_that_is_reached_is_bold_and_one_that_is_not_is_listed_below() -> None:
    document = made.document(servers=[native("K", 4, 6), native("M", 4, 6)])
    text = page.contents(document)
    row = line(text, f"| {NATIVE.title} |")
    assert "**1.50 [1.50–1.50]** of 1.5" in row
    assert "1.50 [1.50–1.50] of 20" in row
    assert "not run, goal 2" in row
    assert f"- M, {NATIVE.title}: below the goal in server CPU a request" in text


def test_what_was_not_measured_says_why() -> None:
    document = made.document(servers=[made.not_measured(NATIVE.id, "M", "no memory yet\nmore", title=NATIVE.title)])
    text = page.contents(document)
    assert "not measured, goal 20" in line(text, f"| {NATIVE.title} |")
    assert text.count("not measured: no memory yet") == 2
    assert "more" not in text.replace("and more", "")


def test_in_k_the_lower_ratio_counts_where_both_servers_were_busy() -> None:
    busy = native("K", 4, 8)
    for pair in busy["pairs"]:  # type: ignore[attr-defined]
        pair["ours"]["rate"] = pair["kernel"]["rate"]
    assert verdict.ratio_of(busy)[1] == "requests a second"
    idle = native("K", 4, 8, core=0.5)
    for pair in idle["pairs"]:  # type: ignore[attr-defined]
        pair["ours"]["rate"] = pair["kernel"]["rate"]
    found, what = verdict.ratio_of(idle)
    assert what == "server CPU a request"
    assert found is not None and found.median == 2.0


def test_in_x_the_whole_machine_counts() -> None:
    found, what = verdict.ratio_of(native("X", 4, 14))  # type: ignore[arg-type]
    assert what == "CPU of the machine a request"
    assert found is not None and found.median == 2.0  # 6 us of other work on both sides


def test_the_environment_and_every_section_are_stamped() -> None:
    text = page.contents(made.document(servers=[native("K", 4, 6)]))
    for stamped in ("a processor", "Linux 6.6.6", "CPython 3.11.7", "release build", "0123456789ab", "5 x 1 s"):
        assert stamped in text


def test_without_anything_measured_there_is_a_page_and_no_figure() -> None:
    text = page.contents({"format": 1, "sections": {}})
    assert "Nothing was measured yet." in text
    assert "[1" not in text


def test_the_same_document_makes_the_same_page_and_plots(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    document = made.document(servers=[native("K", 4, 6)])
    for name in ("one", "two"):
        page.write(document, tmp_path / name)
    files = sorted(path.relative_to(tmp_path / "one") for path in (tmp_path / "one").rglob("*") if path.is_file())
    assert {path.suffix for path in files} == {".md", ".svg"}
    for path in files:
        assert (tmp_path / "one" / path).read_bytes() == (tmp_path / "two" / path).read_bytes()
