"""What the command line takes and refuses, and how the bench ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support import need
from support.programs import wait_until

from mtcp_patch.bench import __main__ as command
from mtcp_patch.bench.namespaces import PREFIX


@pytest.mark.parametrize("words", [["--pairs", "4"], ["nothing"], ["servers", "--setting", "Z"], ["--seconds", "0"]])
def test_what_would_make_no_figure_is_refused(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        command.parse(words)
    assert ended.value.code == 2
    assert "error:" in capsys.readouterr().err


def test_a_plan_is_what_was_asked_for() -> None:
    plan = command.plan_of(command.parse(["--setting", "K", "--row", "nat", "--seconds", "2"]))
    assert (plan.settings, plan.pairs, plan.measure_ms, plan.quick) == (("K",), 5, 2000, False)
    assert plan.wants("native") and not plan.wants("selectors")
    quick = command.plan_of(command.parse(["--quick"]))
    assert quick.quick and quick.pairs == 3 and quick.wants("selectors")


def of_process(pid: int) -> list[str]:
    """The namespaces that a bench made."""
    return [path.name for path in Path("/run/netns").glob(f"{PREFIX}-{pid}-*")]


def descendants(pid: int) -> list[int]:
    """Its living children."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_bench_leaves_no_process_and_no_namespace(number: int, tmp_path: Path) -> None:
    need.root()
    need.stack()
    from mtcp_patch.stack import _native

    if _native.DEBUG_BUILD or (os.cpu_count() or 1) < 2:
        need.skip("needs a release build and two cores")
    words = ["servers", "--setting", "K", "--row", "native", "--seconds", "30", "--out", str(tmp_path)]
    errors = tmp_path / "errors"
    with errors.open("wb") as file:
        bench = subprocess.Popen([sys.executable, "-m", "mtcp_patch.bench", *words], stderr=file, cwd="/")
    try:
        wait_until(lambda: len(descendants(bench.pid)) == 2, lambda: f"server and load run: {errors.read_text()}")
        children = descendants(bench.pid)
        assert of_process(bench.pid)
        bench.send_signal(number)
        assert bench.wait(30) == 130
        # One that was just being started dies with the bench, which is a moment later.
        wait_until(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], "its children are gone")
        assert not of_process(bench.pid)
    finally:
        bench.kill()
        bench.wait(10)


def test_a_killed_bench_takes_its_children_along_and_the_next_one_sweeps(tmp_path: Path) -> None:
    need.root()
    need.stack()
    from mtcp_patch.bench import namespaces
    from mtcp_patch.stack import _native

    if _native.DEBUG_BUILD or (os.cpu_count() or 1) < 2:
        need.skip("needs a release build and two cores")
    words = ["servers", "--setting", "K", "--row", "native", "--seconds", "30", "--out", str(tmp_path)]
    bench = subprocess.Popen([sys.executable, "-m", "mtcp_patch.bench", *words], stderr=subprocess.DEVNULL, cwd="/")
    try:
        wait_until(lambda: len(descendants(bench.pid)) == 2, "server and load run")
        children = descendants(bench.pid)
    finally:
        bench.kill()
        bench.wait(10)
    wait_until(lambda: not [pid for pid in children if Path(f"/proc/{pid}").exists()], "its children are gone")
    assert of_process(bench.pid)
    namespaces.sweep()
    assert not of_process(bench.pid)
