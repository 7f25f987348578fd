"""Pictures of what a run of the benchmarks has found, as SVG and PNG, made of the document that it leaves behind.

`python -m benchmarks.pictures` makes them again from `results/latest.json`.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")  # no window, whatever the settings of the machine say

from matplotlib import pyplot as plt, ticker

from benchmarks.harness import MICROSECONDS, ROOT

if TYPE_CHECKING:
    from collections.abc import Callable

    from matplotlib.figure import Figure

RESULTS = ROOT / "benchmarks" / "results"
HALF = 0.5
WIDTH = 8  # inches of each picture
# Okabe and Ito's colours, which people who see fewer colours tell apart as well.
BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY = "#0072B2", "#D55E00", "#009E73", "#E69F00", "#CC79A7", "#56B4E9"
QUIET = "#6b7078"
OTHER = "other"
STYLES: dict[str, dict[str, Any]] = {
    "serial": {"color": QUIET, "marker": "s"},
    "asyncio": {"color": GREEN, "marker": "^"},
    "threads": {"color": BLUE, "marker": "o"},
    "processes": {"color": VERMILION, "marker": "D"},
    "linear": {"color": BLUE, "marker": "o"},
    "unordered": {"color": SKY, "marker": "^"},
    "layers": {"color": VERMILION, "marker": "D"},
    "graph": {"color": ORANGE, "marker": "v"},
    "OpenStack TaskFlow": {"color": "black", "marker": "x", "linestyle": "--"},
    OTHER: {"color": PURPLE, "marker": "."},
}
SETTINGS = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "lines.markersize": 4,
    "grid.color": "#e3e5e8",
    "grid.linewidth": 0.6,
    "axes.axisbelow": True,
    "svg.hashsalt": "x",
}


def draw(document: dict[str, Any], folder: Path = RESULTS) -> list[Path]:
    """Draw all that a document has; returns the files."""
    with mpl.rc_context(SETTINGS):
        made = {name: drawing(document) for name, drawing in PICTURES.items()}
        return [path for name, picture in made.items() if picture is not None for path in save(picture, name, folder)]


def save(picture: Figure, name: str, folder: Path) -> list[Path]:
    """Write a picture as SVG and PNG, the same each time; returns the files."""
    folder.mkdir(exist_ok=True)
    files = [folder / f"{name}.svg", folder / f"{name}.png"]
    picture.savefig(files[0], bbox_inches="tight", metadata={"Date": None})
    picture.savefig(files[1], bbox_inches="tight", dpi=150)
    plt.close(picture)
    return files


def _bounds(document: dict[str, Any]) -> Figure | None:
    """Draw how far each figure is from its bound: what is left of the line holds."""
    bars = []
    for row, facts in document["rows"].items():
        for figure in facts["figures"]:
            at_most, at_least = figure["at_most"], figure["at_least"]
            # Zero, be it the value or the bound, has no place on an axis of ratios.
            if figure["skipped"] is None and figure["holds"] is not None and figure["value"] and at_most != 0:
                share = figure["value"] / at_most if at_most is not None else at_least / figure["value"]
                label = row if figure["label"] in {"", row} else f"{row}: {figure['label']}"
                bars.append((label, share, figure["holds"]))
    if not bars:
        return None
    bars.reverse()
    labels, shares, hold = zip(*bars, strict=True)
    made, axes = plt.subplots(figsize=(WIDTH, 0.21 * len(bars) + 1))
    least = min(0.1, *shares) / 1.5
    axes.barh(
        range(len(bars)),
        [share - least for share in shares],
        left=least,
        color=[BLUE if holds else VERMILION for holds in hold],
        height=0.7,
    )
    axes.set_yticks(range(len(bars)), labels)
    axes.set_xscale("log")
    axes.set_xlim(least, max(1.0, *shares) * 1.5)
    axes.set_ylim(-0.7, len(bars) - 0.3)
    axes.axvline(1, color="black", linewidth=1)
    for place, share in enumerate(shares):
        axes.text(1.01, place, f"{share:.2f}", transform=axes.get_yaxis_transform(), va="center", fontsize=8)
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(_plain))
    axes.set_xlabel("share of the bound that is used up; what ends left of the line (blue) holds")
    return made


def _efficiency(document: dict[str, Any]) -> Figure | None:
    """Draw how efficient each executor is, by the length of a task."""
    curves = document.get("curves")
    if not curves:
        return None
    made, axes = plt.subplots(figsize=(WIDTH, 4))
    for label, points in curves.items():
        axes.plot(
            [point["seconds"] * MICROSECONDS for point in points],
            [point["efficiency"] for point in points],
            **{**_style(label), "linestyle": "--" if "one by one" in label else "-"},
            label=label,
        )
    axes.axhline(HALF, color="black", linewidth=0.8, label="half of the time")
    axes.set_ylim(0, 1.05)
    axes.set_ylabel("efficiency")
    _logarithmic(axes.xaxis, "length of a task (µs)")
    axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return made


def _growth(document: dict[str, Any]) -> Figure | None:
    """Draw what an atom costs in time and in memory, by the size of the flow."""
    growth = document.get("growth")
    if not growth:
        return None
    made, panels = plt.subplots(1, 2, figsize=(WIDTH, 3.8), layout="constrained")
    for axes, of, factor, title in (
        (panels[0], "seconds", MICROSECONDS, "µs an atom"),
        (panels[1], "bytes", 1 / 1024, "KB an atom"),
    ):
        for label, points in sorted(growth.items(), key=lambda item: list(STYLES).index(_name(item[0]))):
            known = sorted((point["atoms"], point[of] * factor) for point in points if point[of] > 0)
            axes.plot(*zip(*known, strict=True), **_style(label), label=label)
        _logarithmic(axes.xaxis, "atoms of the flow")
        axes.xaxis.set_major_formatter(ticker.LogFormatterMathtext())
        _logarithmic(axes.yaxis, title)
    made.legend(*panels[0].get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=5)
    return made


PICTURES = {"bounds": _bounds, "efficiency": _efficiency, "growth": _growth}


def _name(label: str) -> str:
    """Return what a label begins with; the last of `STYLES` for one that is not known."""
    return next((name for name in STYLES if label.startswith(name)), OTHER)


def _style(label: str) -> dict[str, Any]:
    """Return how a line is drawn; what begins with the same name has the same colour."""
    return STYLES[_name(label)]


def _logarithmic(axis: Any, label: str) -> None:
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_formatter(ticker.FuncFormatter(_plain))
    axis.set_minor_formatter(ticker.NullFormatter())
    axis.set_label_text(label)
    axis.grid(visible=True)


def _plain(value: float, _: object = None) -> str:
    """Write a number without an exponent."""
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"


def redraw(draw_it: Callable[[dict[str, Any]], list[Path]], name: str) -> None:
    """Draw what a document has that is named on the command line, or one of the results."""
    parser = argparse.ArgumentParser(description="Make pictures of the figures that a run has left behind.")
    parser.add_argument("document", nargs="?", type=Path, default=RESULTS / name, help="the file with the figures")
    for path in draw_it(json.loads(parser.parse_args().document.read_text(encoding="utf-8"))):
        print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)


if __name__ == "__main__":
    redraw(draw, "latest.json")
