"""What makes a figure void, and what is said beside one."""

from __future__ import annotations

from typing import Any

import pytest

from bench import made
from mtcp_patch.bench import checks, run, stamp
from mtcp_patch.bench.children import BenchError
from mtcp_patch.bench.counters import Core, Snapshot


class Range:
    """A namespace as far as the check looks."""

    def sysctl(self, name: str, value: str | None = None) -> str:
        assert name == "net.ipv4.ip_local_port_range"
        return "10000\t65535"


def test_a_server_port_in_the_ephemeral_range_is_refused() -> None:
    there: Any = Range()
    checks.port_is_outside(there, run.PORT)
    with pytest.raises(BenchError, match="ephemeral"):
        checks.port_is_outside(there, 10_000)


def test_a_run_that_went_by_another_stack_is_refused() -> None:
    checks.carried("xdp:vb", "xdp:vb")
    checks.carried("memory:123", "memory")
    with pytest.raises(BenchError, match="by kernel, not by memory"):
        checks.carried("kernel", "memory")


def test_a_server_whose_stack_saw_less_than_was_sent_is_refused() -> None:
    checks.served_by_ours({"bytes_in": 64, "bytes_out": 64}, {"bytes": 64})
    with pytest.raises(BenchError, match="the kernel served the rest"):
        checks.served_by_ours({"bytes_in": 0, "bytes_out": 6}, {"bytes": 64})


def test_remarks_name_idle_servers_few_pairs_and_busy_machines() -> None:
    five = [1.0] * 5
    assert checks.remarks(made.result("a", "K", five, five), quick=False) == []
    idle = checks.remarks(made.result("a", "K", five, five, core=0.5), quick=False)
    assert len(idle) == 2 and all("busy to 0.50" in said for said in idle)
    few = made.result("a", "K", [1.0], [1.0])
    assert checks.remarks(few, quick=False) == ["only 1 pairs"]
    assert checks.remarks(few, quick=True) == []
    few["pairs"][0]["ours"].update(foreign=0.2, steal=0.1)
    assert checks.remarks(few, quick=True) == [
        "ours: other work took 20% of both cores",
        "ours: the hypervisor took 10%",
    ]


@pytest.mark.parametrize("flag", [True, None])
def test_debug_builds_are_refused_and_those_that_do_not_say(monkeypatch: pytest.MonkeyPatch, flag: bool | None) -> None:
    native = pytest.importorskip("mtcp_patch.stack._native")
    if flag is None:
        monkeypatch.delattr(native, "DEBUG_BUILD")
    else:
        monkeypatch.setattr(native, "DEBUG_BUILD", flag)
    with pytest.raises(BenchError, match="debug build"):
        stamp.refuse_unfit()


def test_one_core_and_no_root_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    native = pytest.importorskip("mtcp_patch.stack._native")
    monkeypatch.setattr(native, "DEBUG_BUILD", False)
    monkeypatch.setattr("os.cpu_count", lambda: 1)
    with pytest.raises(BenchError, match="two cores"):
        stamp.refuse_unfit()
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(BenchError, match="root"):
        stamp.refuse_unfit()


def test_both_ends_and_the_machine_are_in_every_run() -> None:
    def snapshot(cpu: float, user: float, system: float, switches: int, busy: tuple[float, float]) -> Snapshot:
        return Snapshot(cpu, user, system, switches, [Core(b, 0.0, 10 + cpu) for b in busy])

    before = snapshot(1.0, 0.25, 0.75, 10, (5.0, 5.0))
    after = snapshot(2.0, 0.5, 1.5, 30, (5.9, 6.5))
    told = {
        "requests": 100, "connections": 0, "bytes": 6400, "seconds": 2.0, "cpu_seconds": 1.25, "latency_us": None,
        "carrier": "kernel",
    }  # fmt: skip
    found = run.figures_of(told, before, after)
    assert found["server_us"] == pytest.approx(10_000)
    assert found["server_user_us"] == pytest.approx(2_500)
    assert found["both_us"] == pytest.approx(22_500)
    assert found["machine_us"] == pytest.approx(24_000)
    assert found["foreign"] == pytest.approx((2.4 - 1.0 - 1.25) / 2)
    assert found["switches"] == pytest.approx(0.2)
    assert found["rate"] == pytest.approx(50)
