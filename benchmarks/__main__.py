"""The command line: picks rows and shapes, prints each figure, and says whether its bound holds.

A run of everything, at full size, also leaves what it found in `results/latest.json`, and pictures of it beside that.
Worker processes import this file again, so it does nothing unless it is the main program.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import metg, workloads
from benchmarks.harness import FULL, QUICK, ROOT, Figure, Sizes, machine
from benchmarks.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

LATEST = ROOT / "benchmarks" / "results" / "latest.json"


def names_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """Return what turns `a,b` into a list and refuses names that are not known."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; the known ones are {', '.join(known)}")
        return names

    return parse


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure, and print each figure as a ratio.")
    parser.add_argument(
        "--quick", action="store_true", help="smaller flows and fewer turns: about two minutes for all rows"
    )
    parser.add_argument("--only", type=names_of(ROWS), metavar="ROW,...", help="only these rows")
    parser.add_argument("--shape", type=names_of(workloads.SHAPES), metavar="SHAPE,...", help="only these shapes")
    parser.add_argument("--list", action="store_true", help="list rows and shapes, and measure nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    parser.add_argument("--strict", action="store_true", help="exit with 1 unless every bound holds")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Iterate over the rows that are to be measured, each with its shapes."""
    for name in options.only or ROWS:
        shapes = [shape for shape in ROWS[name].shapes if options.shape is None or shape in options.shape]
        if shapes:
            yield name, shapes


def measure(options: argparse.Namespace, sizes: Sizes) -> dict[str, list[Figure]]:
    """Take all figures, by row, and print each one as soon as it is there."""

    def show(line: str) -> None:
        if not options.json:
            print(line, flush=True)

    show(", ".join(str(part) for part in machine().values()) + " processors")
    if options.quick:
        show("Quick: smaller flows and fewer turns. What is claimed is shown by a run without --quick.")
    figures: dict[str, list[Figure]] = {}
    for name, shapes in chosen(options):
        show(f"\n{name}: {ROWS[name].title}")
        taken = figures[name] = []
        for shape in shapes:
            for figure in ROWS[name].measure(sizes, shape):
                taken.append(figure)
                show(figure.line())
    verdicts = [figure.holds for row in figures.values() for figure in row if figure.holds is not None]
    show(f"\n{sum(verdicts)} of {len(verdicts)} bounds hold")
    return figures


def document(options: argparse.Namespace, sizes: Sizes, figures: dict[str, list[Figure]]) -> dict[str, Any]:
    """Return everything as values that JSON knows."""
    return {
        "made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        "quick": options.quick,
        "sizes": dataclasses.asdict(sizes),
        "rows": {
            name: {
                "title": ROWS[name].title,
                "figures": [{**dataclasses.asdict(figure), "holds": figure.holds} for figure in row],
            }
            for name, row in figures.items()
        },
        "curves": {label: [dataclasses.asdict(point) for point in points] for label, points in metg.CURVES.items()},
    }


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    options = parse(arguments)
    if options.list:
        for name, row in ROWS.items():
            print(f"{name:<16} {row.title}{''.join(f' [{shape}]' for shape in row.shapes if shape)}")
        return 0
    sizes = QUICK if options.quick else FULL
    figures = measure(options, sizes)
    made = json.dumps(document(options, sizes, figures), indent=2, ensure_ascii=False)
    if options.json:
        print(made)
    if not (options.quick or options.only or options.shape):
        LATEST.parent.mkdir(exist_ok=True)
        LATEST.write_text(made + "\n", encoding="utf-8")
        from benchmarks import pictures  # matplotlib takes its time, and other runs draw nothing

        pictures.draw(json.loads(made), LATEST.parent)
    broken = any(figure.holds is False for row in figures.values() for figure in row)
    return int(options.strict and broken)


if __name__ == "__main__":
    sys.exit(main())
