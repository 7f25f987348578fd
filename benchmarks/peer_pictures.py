"""Pictures of how long tasks must be on each engine, made of what `benchmarks.against` keeps.

`python -m benchmarks.peer_pictures` makes them again from `results/peers.json`.
"""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")  # no window, whatever the settings of the machine say

from matplotlib import pyplot as plt, ticker
from matplotlib.patches import Patch

from benchmarks.pictures import BLUE, HALF, QUIET, RESULTS, SETTINGS, VERMILION, WIDTH, redraw, save

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

COLUMNS = 4  # of panels


def draw(document: dict[str, Any], folder: Path = RESULTS) -> list[Path]:
    """Draw all that a document has; returns the files."""
    sides = {name: facts for name, facts in document["sides"].items() if "metg" in facts}
    if not sides:
        return []
    with mpl.rc_context(SETTINGS):
        return [
            *save(_metg(sides), "peers-metg", folder),
            *save(_efficiency(sides), "peers-efficiency", folder),
        ]


def _metg(sides: dict[str, Any]) -> Figure:
    """Draw METG(50%) of each engine as a bar, the shortest first; where there is none, the reason."""
    order = sorted(sides, key=lambda name: _micros(sides[name]) or float("inf"), reverse=True)
    known = [micros for name in order if (micros := _micros(sides[name]))]
    least, most = min(known, default=1.0) / 2, max(known, default=10.0)
    made, axes = plt.subplots(figsize=(WIDTH, 0.27 * len(order) + 0.9))
    for place, name in enumerate(order):
        micros = _micros(sides[name])
        if micros is None:
            text = textwrap.shorten(f"not measured: {sides[name]['metg']['skipped']}", 90, placeholder=" ...")
            axes.annotate(text, (least, place), (3, 0), textcoords="offset points", va="center", color=QUIET)
            continue
        axes.barh(place, micros - least, left=least, color=_colour(name), height=0.7)
        less = "< " if "less than" in sides[name]["metg"]["label"] else ""
        text = f"{less}{length(micros)}"
        axes.annotate(text, (micros, place), (4, 0), textcoords="offset points", va="center")
    axes.set_yticks(range(len(order)), [_title(name, sides[name]) for name in order])
    axes.set_ylim(-0.7, len(order) - 0.3)
    axes.set_xlim(least, most * 3)
    _lengths(axes)
    axes.grid(axis="x")
    axes.set_xlabel("METG(50%): how long a task must be for half of the time to go into tasks; less is better")
    shown = [Patch(color=BLUE, label="taskflowx"), Patch(color=VERMILION, label="others")]
    axes.legend(handles=shown, loc="upper right", frameon=True, edgecolor="none", framealpha=1)
    return made


def _efficiency(sides: dict[str, Any]) -> Figure:
    """Draw the curve of each engine in a panel of its own, beside that of what it is compared with."""
    compared = {facts.get("ours") for facts in sides.values()}
    panels = sorted((name for name in sides if name not in compared), key=_is_ours)
    rows = -(-len(panels) // COLUMNS)
    columns = min(COLUMNS, len(panels))
    made, grid = plt.subplots(
        rows,
        columns,
        figsize=(WIDTH * columns / COLUMNS, 1.55 * rows + 0.7),
        sharex=True,
        sharey=True,
        squeeze=False,
        layout="constrained",
    )
    for axes, name in zip(grid.flat, panels, strict=False):
        facts = sides[name]
        axes.set_title(_title(name, facts), fontsize=8)
        axes.axhline(HALF, color=QUIET, linewidth=0.8)
        _curve(axes, facts.get("ours", ""), sides.get(facts.get("ours"), {}))
        _curve(axes, name, facts)
        if not facts["curve"]:
            text = "\n".join(textwrap.wrap(f"not measured: {facts['metg']['skipped']}", 30, max_lines=3))
            axes.text(0.05, 0.06, text, transform=axes.transAxes, fontsize=7, color=QUIET)
        axes.set_ylim(0, 1.05)
        axes.grid()
        _lengths(axes)
        axes.tick_params(labelsize=7, labelbottom=True)
    for axes in grid.flat[len(panels) :]:
        axes.set_visible(False)
    made.supxlabel("length of a task", fontsize=9)
    made.supylabel("efficiency", fontsize=9)
    shown = [
        plt.Line2D([], [], color=BLUE, marker="o", label="taskflowx, where tasks run in the same way"),
        plt.Line2D([], [], color=VERMILION, marker="D", label="the engine of the title"),
    ]
    made.legend(handles=shown, frameon=False, loc="outside upper center", ncols=2)
    return made


def _curve(axes: Axes, name: str, facts: dict[str, Any]) -> None:
    points = facts.get("curve", [])
    lengths = [point["seconds"] * 1e6 for point in points]
    axes.plot(
        lengths,
        [point["efficiency"] for point in points],
        color=_colour(name),
        marker="o" if _is_ours(name) else "D",
        markersize=2.5,
    )


def _micros(facts: dict[str, Any]) -> float | None:
    """Return METG(50%) in microseconds."""
    return facts["metg"]["value"] if facts["metg"]["skipped"] is None else None


def _is_ours(name: str) -> bool:
    return name.startswith("taskflowx")


def _colour(name: str) -> str:
    return BLUE if _is_ours(name) else VERMILION


def _title(name: str, facts: dict[str, Any]) -> str:
    return " ".join(filter(None, (name, facts.get("version"))))


def _lengths(axes: Axes) -> None:
    """Give the axis of lengths a logarithmic scale, and words that people know."""
    axes.set_xscale("log")
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda micros, _: length(micros)))
    axes.xaxis.set_minor_locator(ticker.NullLocator())


def length(micros: float) -> str:
    """Return a length of time with two digits that count."""
    for unit, of in (("s", 1e6), ("ms", 1e3)):
        if micros >= 0.995 * of:
            return f"{_two(micros / of)} {unit}"
    return f"{_two(micros)} µs"


def _two(value: float) -> str:
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


if __name__ == "__main__":
    redraw(draw, "peers.json")
