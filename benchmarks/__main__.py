"""The command line: picks rows and shapes, prints each figure, and says whether its bound holds.

A run of everything, at full size, also leaves what it found in the folder `results`, for people, programs and pyperf.
Worker processes import this file again, so it does nothing unless it is the main program.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import sys
import time
from typing import TYPE_CHECKING

from benchmarks import record, workloads
from benchmarks.harness import EXECUTORS, FULL, QUICK, Figure, Sizes, machine
from benchmarks.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator

FEWEST, MOST = 100, 1_000_000  # atoms of a flow


def names_of(known: Collection[str]) -> Callable[[str], list[str]]:
    """Return what turns `a,b` into a list and refuses names that are not known."""

    def parse(text: str) -> list[str]:
        names = text.split(",")
        unknown = [name for name in names if name not in known]
        if unknown:
            raise argparse.ArgumentTypeError(f"unknown: {', '.join(unknown)}; the known ones are {', '.join(known)}")
        return names

    return parse


def sizes_of(text: str) -> list[int]:
    """Turn `100,10_000` into a list, and refuse what is no size."""
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or not all(FEWEST <= atoms <= MOST for atoms in sizes):
        raise argparse.ArgumentTypeError(f"sizes are whole numbers from {FEWEST} to {MOST:,}, such as 100,10_000")
    return sizes


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks", description="Measure, and print each figure as a ratio.")
    parser.add_argument("--quick", action="store_true", help="smaller flows and fewer turns: a minute for all rows")
    parser.add_argument("--only", type=names_of(ROWS), metavar="ROW,...", help="only these rows")
    parser.add_argument("--shape", type=names_of(workloads.SHAPES), metavar="SHAPE,...", help="only these shapes")
    parser.add_argument("--executor", type=names_of(EXECUTORS), metavar="NAME,...", help="only on these executors")
    parser.add_argument("--atoms", type=sizes_of, metavar="N,...", help="flows of these sizes, and no others")
    parser.add_argument("--list", action="store_true", help="list rows, shapes and executors, and measure nothing")
    parser.add_argument("--json", action="store_true", help="print one JSON document instead of tables")
    parser.add_argument("--pyperf", metavar="FILE", help="keep the seconds of both sides there, for python -m pyperf")
    parser.add_argument("--strict", action="store_true", help="exit with 1 unless every bound holds")
    return parser.parse_args(arguments)


def chosen(options: argparse.Namespace) -> Iterator[tuple[str, list[str]]]:
    """Iterate over the rows that are to be measured, each with its shapes."""
    for name in options.only or ROWS:
        row = ROWS[name]
        if options.executor is not None and not set(options.executor) & set(row.executors):
            continue
        if options.shape is None:
            yield name, list(row.shapes)
        elif shapes := [shape for shape in (*row.shapes, *row.further) if shape in options.shape]:
            yield name, shapes


def how_much(options: argparse.Namespace) -> list[Sizes]:
    """Return the sizes at which each row is measured, one after the other."""
    sizes = QUICK if options.quick else FULL
    if options.executor is not None:
        sizes = dataclasses.replace(sizes, executors=tuple(options.executor))
    return [sizes] if options.atoms is None else [sizes.of(atoms) for atoms in options.atoms]


def measure(options: argparse.Namespace) -> dict[str, list[Figure]]:
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
        for shape, sizes in itertools.product(shapes, how_much(options)):
            for figure in ROWS[name].measure(sizes, shape):
                taken.append(figure)
                show(figure.line())
    verdicts = [figure.holds for row in figures.values() for figure in row if figure.holds is not None]
    show(f"\n{sum(verdicts)} of {len(verdicts)} bounds hold")
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    options = parse(arguments)
    if options.list:
        for name, row in ROWS.items():
            print(f"{name:<16} {row.title}{''.join(f' [{shape}]' for shape in (*row.shapes, *row.further) if shape)}")
        return 0
    started = time.monotonic()
    figures = measure(options)
    seconds = round(time.monotonic() - started, 1)
    sizes = [dataclasses.asdict(each) for each in how_much(options)]
    made = record.document(figures, seconds=seconds, quick=options.quick, sizes=sizes)
    if options.json:
        print(json.dumps(made, indent=2, ensure_ascii=False))
    else:
        print("This took {} min {} s.".format(*divmod(round(seconds), 60)))
    if options.pyperf and (kept := record.suite(figures)) is not None:
        kept.dump(options.pyperf, replace=True)
    if not (options.quick or options.only or options.shape or options.executor or options.atoms):
        record.leave(record.FOLDER, made, figures)
    broken = any(figure.holds is False for row in figures.values() for figure in row)
    return int(options.strict and broken)


if __name__ == "__main__":
    sys.exit(main())
