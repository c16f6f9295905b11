"""The plots of the page, as SVG by matplotlib (`pip install mtcp-patch[bench]`). Made from the JSON alone."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .figures import KERNEL, OURS, spread
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
    axes.set_yticks(range(len(ROWS)), [textwrap.fill(row.title, 38) for row in ROWS])
    axes.invert_yaxis()
    axes.set_xlabel("kernel ÷ ours; the mark is the goal")
    handles = [plt.Rectangle((0, 0), 1, 1, color=COLOURS[letter]) for letter in SETTINGS]
    axes.legend(
        handles,
        [f"{s.letter}: {s.title}" for s in SETTINGS.values()],
        loc="lower right",
        bbox_to_anchor=(1, 1),
        fontsize=7,
    )
    return figure


def measured(document: Document, name: str) -> list[dict[str, Any]]:
    """The results of a section that have figures."""
    return [r for r in document["sections"][name]["results"] if "not_measured" not in r]


def curve(axes: Any, points: list[tuple[float, dict[str, Any]]], path: str, colour: str, label: str) -> None:
    """Both stacks over x: ours a full line, the kernel's a broken one, their spreads shaded."""
    for stack, style in ((OURS, "-"), (KERNEL, "--")):
        found = [(x, spread(result["pairs"], stack, path)) for x, result in sorted(points, key=lambda p: p[0])]
        some = [(x, s) for x, s in found if s is not None]
        xs = [x for x, _ in some]
        axes.plot(xs, [s.median for _, s in some], style, color=colour, marker=".", label=f"{label}, {stack}")
        axes.fill_between(xs, [s.low for _, s in some], [s.high for _, s in some], color=colour, alpha=0.12)


def latency(document: Document, plt: Any) -> Any:
    """p50 and p99 over the load, one panel a setting."""
    results = measured(document, "latency")
    letters = [letter for letter in SETTINGS if any(r["setting"] == letter for r in results)]
    figure, panels = plt.subplots(1, max(1, len(letters)), figsize=(9, 3.6), squeeze=False, sharey=True)
    for axes, letter in zip(panels[0], letters, strict=False):
        points = [
            (float(r["id"].rpartition("-")[2]), r)
            for r in results
            if r["setting"] == letter and r["id"].startswith("selectors-") and r["parameters"]["mode"] == "open"
        ]
        for path, colour in (("p50", "#4477aa"), ("p99", "#ee6677"), ("p99.9", "#ccbb44")):
            curve(axes, points, f"latency_us/{path}", colour, path)
        axes.set_title(f"{letter}: selectors echo")
        axes.set_xlabel("load, % of what the kernel's server reaches")
        axes.set_yscale("log")
    panels[0][0].set_ylabel("µs from when a request was due")
    if panels[0][0].get_legend_handles_labels()[0]:
        panels[0][0].legend(fontsize=7)
    return figure


MESSAGE_LINES = {"messages": "messages a connection", "size": "bytes a message", "connections": "connections"}


def messages(document: Document, plt: Any) -> Any:
    """mTCP's experiment: three lines, requests a second and server CPU."""
    results = measured(document, "messages")
    figure, panels = plt.subplots(2, len(MESSAGE_LINES), figsize=(9, 6), squeeze=False)
    for column, (line, title) in enumerate(MESSAGE_LINES.items()):
        for row, (path, label) in enumerate((("rate", "messages a second"), ("server_us", "server µs a message"))):
            axes = panels[row][column]
            for letter in SETTINGS:
                those = [r for r in results if r["setting"] == letter and r["id"].startswith(f"{line}-")]
                points = [(float(r["id"].rpartition("-")[2]), r) for r in those]
                if points:
                    curve(axes, points, path, COLOURS[letter], letter)
            axes.set_xscale("log", base=2)
            axes.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
            axes.set_ylim(bottom=0)
            if row:
                axes.set_xlabel(title)
            if not column:
                axes.set_ylabel(label)
    # X has no point in some lines: the panel with the most names has them all.
    most = max(panels[0], key=lambda axes: len(axes.get_legend_handles_labels()[0]))
    if most.get_legend_handles_labels()[0]:
        most.legend(fontsize=6)
    return figure


def scale(document: Document, plt: Any) -> Any:
    """Nanoseconds a packet over the number of flows."""
    results = measured(document, "scale")
    figure, axes = plt.subplots(figsize=(6, 3.2))
    for name, label in (("busy_few_ns", "64 pairs busy, the rest idle"), ("busy_all_ns", "all take part in turn")):
        points = [(run["flows"], run[name]) for r in results for run in r["runs"]]
        least = {x: min(y for other, y in points if other == x) for x, _ in sorted(points)}
        axes.plot(list(least), list(least.values()), marker=".", label=label)
    axes.set_xscale("log")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("flows in the engine")
    axes.set_ylabel("ns a packet")
    axes.legend(fontsize=7)
    return figure


PLOTS: dict[str, Callable[[Document, Any], Any]] = {
    "servers": servers,
    "latency": latency,
    "messages": messages,
    "scale": scale,
}


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
