"""Documents that no machine has measured, for tests of what is made from one."""

from __future__ import annotations

from typing import Any

from mtcp_patch.bench import results

STAMP: dict[str, Any] = {
    "time": "2001-02-03 04:05:06 UTC", "commit": "0123456789ab", "build": "release", "cpu": "a processor", "cores": 2,
    "virtual_machine": True, "memory_gib": 8.0, "kernel": "6.6.6", "python": "3.11.7",
    "versions": {"mtcp_patch": "0.1.0"}, "congestion_control": "bbr", "load_average": 0.5, "busy_before": 0.01,
    "quick": False, "pairs": 5, "seconds": 1.0,
}  # fmt: skip


def run(server_us: float, *, core: float = 1.0, **more: Any) -> dict[str, Any]:
    """A run whose server needs so much a request and does nothing else."""
    latency = {"min": 1.0, "p50": 10.0, "p99": 20.0, "p99.9": 30.0, "max": 40.0}
    return {
        "units": 1000, "requests": 1000, "connections": 0, "bytes": 64_000, "seconds": 1.0,
        "rate": core * 1e6 / server_us, "gbit_s": 1.0, "server_us": server_us, "server_user_us": server_us / 4,
        "server_system_us": server_us * 3 / 4, "load_us": 5.0, "both_us": server_us + 5, "machine_us": server_us + 6,
        "server_core": core, "load_core": 0.9, "foreign": 0.0, "steal": 0.0, "switches": 0.01,
        "latency_us": latency, "carrier": "kernel", **more,
    }  # fmt: skip


def result(
    case_id: str, setting: str, ours: list[float], kernel: list[float], *, title: str = "a case", core: float = 1.0
) -> dict[str, Any]:
    """A case of as many pairs as there are numbers: the server's microseconds a request."""
    pairs = [{"ours": run(o, core=core), "kernel": run(k, core=core)} for o, k in zip(ours, kernel, strict=True)]
    return {
        "id": case_id, "title": title, "setting": setting, "parameters": {}, "saturates": True, "pairs": pairs,
        "syscalls": {"ours": 0.125, "kernel": 2.5},
    }  # fmt: skip


def not_measured(case_id: str, setting: str, why: str, *, title: str = "a case") -> dict[str, Any]:
    """A case without figures."""
    made = result(case_id, setting, [], [], title=title)
    return {**made, "syscalls": {}, "not_measured": why}


def document(**sections: list[dict[str, Any]]) -> results.Document:
    """Of sections by their names."""
    made = results.empty()
    for name, content in sections.items():
        made = results.merged(made, name, dict(STAMP), content)
    return made
