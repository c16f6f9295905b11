"""The plots of the page, as SVG by matplotlib (`pip install mtcp-patch[bench]`). Made from the JSON alone."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .goals import ROWS
from .settings import SETTINGS
from .verdict import of

Document = dict[str, Any]

# The same text for the same figures: a page that is made again does not change.
STYLE: Any = {
    "svg.hashsalt": "mtcp_patch",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.grid": True,
    "grid.alpha": 0.3,
}
COLOURS = {"K": "#4477aa", "X": "#228833", "M": "#ee6677"}


def servers(document: Document, plt: Any) -> Any:
    """A bar a case and setting, a mark at its goal."""
    results = document["sections"]["servers"]["results"]
    figure, axes = plt.subplots(figsize=(9, 5.5))
    height = 0.8 / len(SETTINGS)
    for offset, letter in enumerate(SETTINGS):
        for number, row in enumerate(ROWS):
            result = next((r for r in results if r["id"] == row.id and r["setting"] == letter), None)
            found = of(result, row.goals[letter])
            y = number + (offset - 1) * height
            axes.plot([found.goal], [y], "|", color="black", markersize=9)
            if found.ratio is None:
                continue
            error = [[found.ratio.median - found.ratio.low], [found.ratio.high - found.ratio.median]]
            axes.barh(y, found.ratio.median, height, xerr=error, color=COLOURS[letter], error_kw={"elinewidth": 0.8})
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_yticks(range(len(ROWS)), [row.title for row in ROWS])
    axes.invert_yaxis()
    axes.set_xlabel("kernel ÷ ours; the mark is the goal")
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[letter]) for letter in SETTINGS]
    axes.legend(handles, [f"{s.letter}: {s.title}" for s in SETTINGS.values()], loc="lower right", fontsize=7)
    return figure


PLOTS: dict[str, Callable[[Document, Any], Any]] = {"servers": servers}


def write(document: Document, folder: Path) -> None:
    """Those whose section was measured. Without matplotlib the page keeps the plots that it has."""
    wanted = [name for name in PLOTS if document["sections"].get(name, {}).get("results")]
    try:
        import matplotlib
    except ImportError:
        print("bench: no plots: matplotlib is not installed (pip install 'mtcp-patch[bench]')", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot

    folder.mkdir(parents=True, exist_ok=True)
    with matplotlib.rc_context(STYLE):
        for name in wanted:
            figure = PLOTS[name](document, pyplot)
            figure.tight_layout()
            figure.savefig(folder / f"{name}.svg", metadata={"Date": None, "Creator": None})
            pyplot.close(figure)
