"""The engine by itself: what a packet costs among 1,000 to 1,000,000 flows, and what an idle connection occupies."""

from __future__ import annotations

from .. import run as running
from ..children import BenchError, child, native
from ..figures import rounded
from ..plan import Plan, Results
from ..stamp import SERVER_CORE

FLOWS = (1_000, 10_000, 100_000, 1_000_000)
SECONDS = 120.0
RUNS = 2


def run(plan: Plan) -> Results:
    """Some times each: no kernel to compare with, and CPU time of a process that does nothing else."""
    results: Results = []
    for flows in FLOWS if not plan.quick else (FLOWS[0], FLOWS[-1]):
        result: dict[str, object] = {"id": f"flows-{flows}", "title": f"{flows:,} flows", "runs": []}
        try:
            runs = []
            for _ in range(1 if plan.quick else RUNS):
                argv = native("scale", "--flows", str(flows))
                options = {"core": SERVER_CORE, "namespace": None, "runtime_dir": running.RUNTIME_DIR.name}
                with child(argv, **options) as engine:
                    runs.append(rounded(engine.json_line(SECONDS)))
            result["runs"] = runs
            few, everyone = (min(r[name] for r in runs) for name in ("busy_few_ns", "busy_all_ns"))
            plan.say(f"{flows:>10,} flows: {few:.0f} ns a packet, {everyone:.0f} when all take part, "
                     f"{runs[0]['bytes_each']:.0f} bytes each")  # fmt: skip
        except BenchError as error:
            result["not_measured"] = str(error)
        results.append(result)
    return results
