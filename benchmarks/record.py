"""What a run leaves behind: a document of all figures, the seconds of both sides for pyperf, and pictures."""

from __future__ import annotations

import dataclasses
import datetime as dt
import json
from typing import TYPE_CHECKING, Any

import pyperf

from benchmarks import growth, metg
from benchmarks.harness import ROOT, Figure, machine
from benchmarks.rows import ROWS

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FOLDER = ROOT / "benchmarks" / "results"
#: what pyperf finds out about the machine, and what is nobody's business or changes from value to value
_PRIVATE = ("hostname", "platform", "python_executable", "python_config_args", "boot_time")
_PASSING = ("date", "uptime", "load_avg_1min", "runnable_threads", "mem_max_rss")


def document(figures: dict[str, list[Figure]], **facts: Any) -> dict[str, Any]:
    """Return everything as values that JSON knows.

    :param figures: by row
    :param facts: what else there is to say about the run
    """
    return {
        "made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "machine": machine(),
        **facts,
        "rows": {
            name: {
                "title": ROWS[name].title,
                "figures": [{**dataclasses.asdict(figure), "holds": figure.holds} for figure in row],
            }
            for name, row in figures.items()
        },
        "curves": _points(metg.CURVES),
        "growth": _points(growth.POINTS),
    }


def _points(of: dict[str, list[Any]]) -> dict[str, list[dict[str, Any]]]:
    return {label: [dataclasses.asdict(point) for point in points] for label, points in of.items()}


def suite(figures: dict[str, list[Figure]]) -> pyperf.BenchmarkSuite | None:
    """Return one benchmark for each side of each figure that has seconds; None when there is none."""
    found = pyperf.Run([1.0], collect_metadata=True).get_metadata()
    known = {name: value for name, value in found.items() if name not in {*_PRIVATE, *_PASSING}}
    made = [
        pyperf.Benchmark([pyperf.Run(values, metadata={**known, "name": name}, collect_metadata=False)])
        for row, taken in figures.items()
        for figure in taken
        for name, values in _sides(row, figure)
        if min(values) > 0  # a difference may be less, where a machine is busy with something else
    ]
    return pyperf.BenchmarkSuite(made) if made else None


def _sides(row: str, figure: Figure) -> Iterator[tuple[str, tuple[float, ...]]]:
    parts = [row, figure.label]
    if figure.atoms and f"{figure.atoms:,}" not in figure.label:
        parts.append(f"{figure.atoms:,} atoms")
    for side, values in zip(ROWS[row].sides, figure.sides, strict=False):
        yield f"{', '.join(filter(None, parts))}: {side}", values


def leave(folder: Path, made: dict[str, Any], figures: dict[str, list[Figure]]) -> None:
    """Write all of it into a folder."""
    folder.mkdir(exist_ok=True, parents=True)
    text = json.dumps(made, indent=2, ensure_ascii=False)
    (folder / "latest.json").write_text(text + "\n", encoding="utf-8")
    kept = suite(figures)
    if kept is not None:
        kept.dump(str(folder / "pyperf.json"), replace=True)
    from benchmarks import pictures  # matplotlib takes its time, and other runs draw nothing

    pictures.draw(json.loads(text), folder)
