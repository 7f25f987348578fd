"""Pictures of what a run of the benchmarks has found, as SVG and PNG, made of the document that it leaves behind.

`python -m benchmarks.pictures` makes them again from `results/latest.json`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import matplotlib as mpl

mpl.use("Agg")  # no window, whatever the settings of the machine say

from matplotlib import pyplot as plt, ticker

from benchmarks.harness import ROOT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

RESULTS = ROOT / "benchmarks" / "results"
HALF = 0.5
GOOD, BAD, QUIET = "#2a7f62", "#b3423a", "#8a8f98"


def draw(document: dict[str, Any], folder: Path = RESULTS) -> list[Path]:
    """Draw all that a document has; returns the files."""
    mpl.rcParams.update({"font.size": 9, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "x"})
    folder.mkdir(exist_ok=True)
    files = []
    for name, made in (("bounds", _bounds(document)), ("efficiency", _efficiency(document))):
        if made is None:
            continue
        for kind, options in (("svg", {"metadata": {"Date": None}}), ("png", {"dpi": 150})):
            path = folder / f"{name}.{kind}"
            made.savefig(path, bbox_inches="tight", **options)  # type: ignore[arg-type]
            files.append(path)
        plt.close(made)
    return files


def _bounds(document: dict[str, Any]) -> Figure | None:
    """Draw how far each figure is from its bound: what is left of the line holds."""
    bars = []
    for row, facts in document["rows"].items():
        for figure in facts["figures"]:
            if figure["skipped"] is None and figure["holds"] is not None and figure["value"]:
                at_most, at_least = figure["at_most"], figure["at_least"]
                share = figure["value"] / at_most if at_most is not None else at_least / figure["value"]
                bars.append((f"{row}: {figure['label']}", share, figure["holds"]))
    if not bars:
        return None
    bars.reverse()
    made, axes = plt.subplots(figsize=(8, 0.21 * len(bars) + 1))
    least = min(0.1, *(share for _, share, _ in bars)) / 1.5
    axes.barh(
        [label for label, _, _ in bars],
        [share - least for _, share, _ in bars],
        left=least,
        color=[GOOD if holds else BAD for _, _, holds in bars],
        height=0.7,
    )
    axes.set_xscale("log")
    axes.set_xlim(left=least)
    axes.set_ylim(-0.7, len(bars) - 0.3)
    axes.axvline(1, color="black", linewidth=1)
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda share, _: f"{share:g}"))
    axes.set_xlabel("share of the bound that is used up; what ends left of the line holds")
    return made


def _efficiency(document: dict[str, Any]) -> Figure | None:
    """Draw how efficient each executor is, by the length of a task."""
    curves = document.get("curves")
    if not curves:
        return None
    made, axes = plt.subplots(figsize=(7, 4))
    for label, points in curves.items():
        style = "--" if "one by one" in label else "-"
        axes.plot(
            [point["seconds"] * 1e6 for point in points],
            [point["efficiency"] for point in points],
            style,
            marker=".",
            label=label,
        )
    axes.axhline(HALF, color=QUIET, linewidth=1)
    axes.set_xscale("log")
    axes.set_ylim(0, 1.02)
    axes.xaxis.set_major_formatter(ticker.FuncFormatter(lambda micros, _: f"{micros:g}"))
    axes.set_xlabel("length of a task (µs)")
    axes.set_ylabel("efficiency")
    axes.legend(frameon=False, loc="lower right")
    return made


def main(arguments: list[str] | None = None) -> int:
    """Draw what a document has, `results/latest.json` by default; returns the exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    source = Path(given[0]) if given else RESULTS / "latest.json"
    for path in draw(json.loads(source.read_text(encoding="utf-8"))):
        print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
