"""The page, from documents that no machine has measured: every figure of it is one of the document's."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

from bench import made
from mtcp_patch.bench import page, verdict
from mtcp_patch.bench.goals import ROWS
from mtcp_patch.bench.results import BadResults

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
    document = made.document(servers=[made.not_measured(NATIVE.id, "M", "no memory yet\ndetails", title=NATIVE.title)])
    text = page.contents(document)
    assert "not measured, goal 20" in line(text, f"| {NATIVE.title} |")
    assert text.count("not measured: no memory yet") == 2
    assert "details" not in text


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


def test_a_missed_goal_stands_beside_its_reason(tmp_path: Path) -> None:
    (tmp_path / page.REASONS).write_text('[reasons]\n"K/native" = "The client costs as much."\n')
    text = page.contents(made.document(servers=[native("K", 4, 5)]), page.reasons_in(tmp_path))
    assert "below the goal in server CPU a request. The client costs as much." in text
    (tmp_path / page.REASONS).write_text('[reasons]\n"K/nothing" = "?"\n')
    with pytest.raises(BadResults, match="K/nothing"):
        page.reasons_in(tmp_path)


def echo(case_id: str, setting: str, ours: float, kernel: float, **parameters: object) -> dict[str, object]:
    """Five equal pairs whose latencies are in the proportion of the server's time."""
    found = made.result(case_id, setting, [ours] * 5, [kernel] * 5, title=case_id)
    found["parameters"] = {"mode": "closed", "connections": 1, **parameters}
    for pair in found["pairs"]:
        for stack, us in (("ours", ours), ("kernel", kernel)):
            pair[stack]["latency_us"] = {"min": us, "p50": us, "p99": us * 8, "p99.9": us * 9, "max": us * 10}
            pair[stack]["gbit_s"] = 10 / us
    return found


def start(ours: float, kernel: float) -> dict[str, object]:
    """Of an interpreter, in milliseconds."""
    pairs = [{"ours": {"ms": ours}, "kernel": {"ms": kernel}}] * 3
    return {"id": "empty", "title": "python -c pass", "starts": pairs}


def flows(count: int, ns: float, each: float) -> dict[str, object]:
    """Of the engine."""
    runs = [{"flows": count, "busy_few_ns": ns, "busy_all_ns": 2 * ns, "bytes_each": each}]
    return {"id": f"flows-{count}", "title": f"{count:,} flows", "runs": runs}


IDLE_PAIR = {
    "ours": {"server_bytes": 900.0, "machine_bytes": 4000.0},
    "kernel": {"server_bytes": 100.0, "machine_bytes": 7000.0},
}


@pytest.fixture
def whole() -> dict[str, object]:
    """A document with every section."""
    return made.document(
        servers=[native("K", 4, 6)],
        startup=[start(30, 10)],
        convoy=[echo("convoy-1", "K", 2, 5)],
        latency=[echo("selectors-80", "K", 3, 2, mode="open"), echo("native-ping-pong", "M", 2, 9)],
        messages=[echo("connections-1", "K", 3, 2), echo("size-64", "M", 1, 4)],
        bulk=[echo("python-sink-default", "K", 2, 1, mode="send")],
        connections=[
            echo("rate-native-512", "K", 1, 2),
            {"id": "idle-1000", "title": "1,000 idle connections", "count": 1000, "idle": [IDLE_PAIR]},
        ],
        scale=[flows(1000, 200, 1000), flows(1_000_000, 300, 1100)],
        layout=[{"id": "layouts", "title": "layouts", "not_measured": "one layout"}],
    )


def test_every_property_is_held_against_its_goal(whole: dict[str, object]) -> None:
    text = page.contents(whole)
    held = {
        "p99 of an echo at 80 %": "| K, selectors: 24 µs, the kernel's 16 |",
        "one connection, ping-pong": "| **M, native: 2.0 µs, the kernel's 9.0** |",
        "p99 beside": "| **K, 1 connection: 0.02 ms, the kernel's 0.04** |",
        "bulk, one connection": "| K, python-sink-default: 5.0 / 10.0, 0.50 [0.50–0.50] |",
        "idle connection": "engine, 1,000,000: 1,100 bytes each<br>**server's process, 1,000 idle connections: 900",
        "packet cost": "64 pairs busy, the rest idle: 300 ÷ 200 ns, 1.50",
        "system calls": "| **K, native: 0.125, the kernel's 2.50** |",
        "default settings": "| K, connections-1: rate 0.67 [0.67–0.67] |",
        "start-up over": "| **python -c pass: 20.0 ms [20.0–20.0]** |",
    }
    for begin, wanted in held.items():
        assert wanted in line(text, f"| {begin}"), begin


def test_every_section_has_its_part_of_the_page(whole: dict[str, object], tmp_path: Path) -> None:
    page.write(whole, tmp_path)
    text = (tmp_path / page.NAME).read_text()
    for title in page.SECTIONS.values():
        assert f"## {title}" in text
    assert "- layouts: not measured: one layout" in text
    for word in text.split("]("):
        name = word.partition(")")[0]
        if name.endswith(".svg") and importlib.util.find_spec("matplotlib"):
            assert (tmp_path / name).exists()


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
