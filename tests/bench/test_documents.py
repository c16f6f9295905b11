"""What is published is what was measured: page, README's table and plots come from docs/performance.json."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from mtcp_patch.bench import page, plots, results

ROOT = Path(__file__).resolve().parents[2]


def test_the_page_and_the_readme_are_current() -> None:
    command = [sys.executable, "scripts/performance_pages.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=False)
    assert result.returncode == 0, result.stderr


def test_no_quick_run_is_published_and_no_debug_build() -> None:
    document = results.read(ROOT / "docs" / results.NAME)
    for name, part in document["sections"].items():
        assert not part["stamp"]["quick"], f"{name}: measured with --quick"
        assert part["stamp"]["build"] == "release"
        assert all(not result["stamp"]["quick"] for result in part["results"]), name


def test_every_plot_of_a_measured_section_is_there() -> None:
    document = results.read(ROOT / "docs" / results.NAME)
    for name in plots.PLOTS.keys() & document["sections"].keys():
        assert (ROOT / "docs" / page.PLOTS / f"{name}.svg").exists(), name
