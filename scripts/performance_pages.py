"""Makes docs/performance.md and the speed table of README.md from docs/performance.json, which `make bench` writes.

    python scripts/performance_pages.py            # writes both
    python scripts/performance_pages.py --check    # says what is not current, and exits with 1

The plots are drawn by `python -m mtcp_patch.bench page --out docs`, which needs matplotlib; this needs nothing.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import generated

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from mtcp_patch.bench import page, results, verdict  # noqa: E402
from mtcp_patch.bench.goals import ROWS  # noqa: E402
from mtcp_patch.bench.settings import SETTINGS  # noqa: E402

DOCS = ROOT / "docs"
MARKS = ("<!-- performance: made by scripts/performance_pages.py -->", "<!-- end of performance -->")


def ratio_cell(result: dict[str, Any] | None, goal: float) -> str:
    """Kernel ÷ ours, without the goal: that is the page's."""
    found = verdict.of(result, goal)
    return found.ratio.text(2) if found.ratio else "not measured"


def readme_part(document: results.Document) -> str:
    """The table: what K costs, and the three ratios."""
    measured = page.section(document, "servers")
    if not measured:
        return f"{MARKS[0]}\nNothing was measured yet: `make bench`.\n{MARKS[1]}"
    stamp = document["sections"]["servers"]["stamp"]
    where = "virtual machine" if stamp["virtual_machine"] else "machine"
    lines = [
        MARKS[0],
        f"{stamp['cores']}-core {where} ({stamp['cpu']}), Linux {stamp['kernel']}, CPython {stamp['python']}, "
        f"{stamp['build']} build {stamp['commit']}, {stamp['time'][:10]}; {stamp['pairs']} interleaved pairs of "
        f"{stamp['seconds']:g} s, median [least–most].",
        "",
        *page.table(
            ("server", "server µs a request in K, ours / kernel", "requests/s in K, ours / kernel", *SETTINGS),
            [
                (
                    row.title, *(cost(page.find(measured, row.id, "K"), path) for path in ("server_us", "rate")),
                    *(ratio_cell(page.find(measured, row.id, letter), goal) for letter, goal in row.goals.items()),
                )
                for row in ROWS
            ],
        ),
    ]  # fmt: skip
    return "\n".join([*lines[:-1], MARKS[1]])


def cost(result: dict[str, Any] | None, path: str) -> str:
    """Medians of both."""
    return "–" if result is None or "not_measured" in result else page.both(result, path)


def wanted() -> dict[Path, str]:
    """What the files should contain."""
    document = results.read(DOCS / results.NAME)
    readme = ROOT / "README.md"
    return {
        DOCS / page.NAME: page.contents(document, page.reasons_in(DOCS)),
        readme: generated.with_part(readme.read_text(), MARKS, readme_part(document), "performance_pages"),
    }


if __name__ == "__main__":
    generated.main("performance_pages", __doc__, ROOT, wanted)
