"""Flame graphs of the hot paths: `make profile` leaves one page for each in `build/profile`.

A page opens in any browser; its timeline is the flame graph. Made with pyinstrument, which looks at the stack a few
thousand times a second and so changes little of what it measures.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import sys
from typing import TYPE_CHECKING, Any

from pyinstrument import Profiler

from benchmarks import durable, places, workloads
from benchmarks.harness import ROOT
from benchmarks.workloads import ready
from taskflowx.executors import processes
from taskflowx.persistence import backends, models

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FOLDER = ROOT / "build" / "profile"
ATOMS = 100_000
FEWER = 10_000  # where calls cross to other threads, processes or a disk
INTERVAL = 0.0002  # seconds between two looks
WORKERS = 2

#: a context that gets something ready, and gives what is to be looked at
Prepared = contextlib.AbstractContextManager["Callable[[], Any]"]


@contextlib.contextmanager
def _prepare() -> Iterator[Callable[[], Any]]:
    yield lambda: ready(workloads.SHAPES["layers"](ATOMS))


@contextlib.contextmanager
def _serial() -> Iterator[Callable[[], Any]]:
    yield ready(workloads.SHAPES["layers"](ATOMS)).run


@contextlib.contextmanager
def _heard() -> Iterator[Callable[[], Any]]:
    engine = ready(workloads.SHAPES["linear"](ATOMS))
    engine.atom_notifier.register("*", workloads.hear)
    yield engine.run


@contextlib.contextmanager
def _rollback() -> Iterator[Callable[[], Any]]:
    engine = ready(workloads.with_end(workloads.SHAPES["layers"](ATOMS), fails=True))

    def run() -> None:
        with contextlib.suppress(RuntimeError):
            engine.run()

    yield run


@contextlib.contextmanager
def _threads() -> Iterator[Callable[[], Any]]:
    yield ready(workloads.SHAPES["layers"](FEWER), executor="threads", max_workers=WORKERS).run


@contextlib.contextmanager
def _processes() -> Iterator[Callable[[], Any]]:
    with processes.ProcessPool(WORKERS) as pool:
        ready(workloads.SHAPES["layers"](WORKERS), executor=pool).run()  # so that the workers are there
        yield ready(workloads.SHAPES["layers"](FEWER), executor=pool).run


@contextlib.contextmanager
def _asyncio() -> Iterator[Callable[[], Any]]:
    engine = ready(places.many(places.Yield, FEWER), executor="asyncio")
    yield lambda: asyncio.run(engine.arun())


@contextlib.contextmanager
def _durable() -> Iterator[Callable[[], Any]]:
    with durable.folder() as path, backends.backend(f"sqlite:///{path}/runs.db") as backend:
        yield ready(workloads.SHAPES["linear"](FEWER), book=models.LogBook("book"), backend=backend).run


PATHS: dict[str, Callable[[], Prepared]] = {
    "prepare": _prepare,
    "serial": _serial,
    "heard": _heard,
    "rollback": _rollback,
    "threads": _threads,
    "processes": _processes,
    "asyncio": _asyncio,
    "durable": _durable,
}


def main(arguments: list[str] | None = None) -> int:
    """Look at the paths that the command line names, or at all of them; returns the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.flames", description="Make flame graphs of hot paths.")
    parser.add_argument("paths", nargs="*", metavar="PATH", help=f"some of {', '.join(PATHS)}; all by default")
    names = parser.parse_args(arguments).paths or list(PATHS)
    unknown = [name for name in names if name not in PATHS]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; the known ones are {', '.join(PATHS)}")
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name in names:
        with PATHS[name]() as run:
            profiler = Profiler(interval=INTERVAL, async_mode="disabled")
            with profiler:
                run()
        page = FOLDER / f"{name}.html"
        page.write_text(profiler.output_html(), encoding="utf-8")
        profiled = profiler.last_session
        seconds = profiled.duration if profiled is not None else 0.0
        print(f"{name:<10} {seconds:6.2f} s   {page}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
