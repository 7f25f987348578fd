"""Rows for runs by id: what it costs to start one, and what calls cost in a store that holds many of them.

The store lies on a memory disk where there is one, so that a commit costs its statements and no wait for a disk. A
store is filled by the bare driver with finished runs of one task, through the indexes and tables of the package.
"""

from __future__ import annotations

import contextlib
import datetime as dt
import json
import os
import sqlite3
import tempfile
import time
from typing import TYPE_CHECKING, Any

import taskflowx
from benchmarks.harness import ROOT, Figure, alone, compared
from taskflowx import runs, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, run_records

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Sizes
    from taskflowx.persistence.base import Backend

_IN_MEMORY = "/dev/shm"  # noqa: S108 - a folder in it is made for each store
_TASKS = 10
_FEW, _MANY = 10_000, 100_000  # runs in a store
_CALLS = 8  # of each kind, for each turn
_TOGETHER = 20_000  # rows in a transaction
_START = dt.datetime(2024, 1, 1)  # noqa: DTZ001 - as stores keep it


@contextlib.contextmanager
def store(many: int) -> Iterator[Backend]:
    """Give a SQLite store with so many finished runs in it."""
    (ROOT / "build").mkdir(exist_ok=True)
    where = _IN_MEMORY if os.access(_IN_MEMORY, os.W_OK) else ROOT / "build"
    with tempfile.TemporaryDirectory(dir=where) as path:
        address = f"sqlite:///{path}/runs.db"
        with backends.backend(address):
            pass
        fill(f"{path}/runs.db", many)
        with backends.backend(address) as backend:
            yield backend


def fill(path: str, many: int) -> None:
    """Put finished runs into the file of a store; one in a hundred has failed."""
    raw = sqlite3.connect(path)
    raw.execute("PRAGMA synchronous = OFF")
    raw.execute("PRAGMA cache_size = -500000")
    for first in range(0, many, _TOGETHER):
        numbers = range(first, min(first + _TOGETHER, many))
        with raw:
            for table, (columns, row_of) in _TABLES.items():
                marks = ", ".join("?" * len(columns.split()))
                put = f"INSERT INTO {table} ({', '.join(columns.split())}) VALUES ({marks})"  # noqa: S608 - no values
                raw.executemany(put, map(row_of, numbers))
    raw.execute("ANALYZE")
    raw.close()


def _facts(n: int) -> tuple[str, str, str, str, str]:
    """Return the uuids of the book and the flow of a run, when it was made, its state and its metadata."""
    at = (_START + dt.timedelta(seconds=n)).isoformat(" ", "microseconds")
    meta = json.dumps({"run": {"id": f"old-{n}"}})
    state = "SUCCESS" if n % 100 else "FAILURE"
    return run_records.book_uuid(f"old-{n}"), run_records.flow_uuid(f"old-{n}"), at, state, meta


def _book(n: int) -> tuple[Any, ...]:
    book, _, at, _, meta = _facts(n)
    return book, f"old-{n}", at, at, meta


def _flow(n: int) -> tuple[Any, ...]:
    book, flow, at, state, meta = _facts(n)
    return flow, f"flow-{n % 7}", book, at, at, state, meta


def _atom(n: int) -> tuple[Any, ...]:
    _, flow, at, _, _ = _facts(n)
    return f"atom-{n}", "a", flow, at, at, "TASK_DETAIL", "1.0", "SUCCESS", "EXECUTE", "{}", "1"


def _claim(n: int) -> tuple[Any, ...]:
    return _facts(n)[1], 3, "somebody", 0.0


_TABLES: dict[str, tuple[str, Callable[[int], tuple[Any, ...]]]] = {
    "logbooks": ("uuid name created_at updated_at meta", _book),
    "flowdetails": ("uuid name parent_uuid created_at updated_at state meta", _flow),
    "atomdetails": (
        "uuid name parent_uuid created_at updated_at atom_type version state intention meta results",
        _atom,
    ),
    "taskflowx_runs": ("flow_uuid version owner expires", _claim),
}


def flow_of(tasks: int) -> Any:
    """Return a chain of tasks that do nothing."""
    return linear_flow.Flow("flow").add(*(task.FunctorTask(int, name=f"t{n}", provides=f"v{n}") for n in range(tasks)))


def starts(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Measure what it costs to start a run by its id, by the store itself and by its address."""
    flow, values = flow_of(_TASKS), {"x": 1}
    with store(0) as backend:
        taskflowx.run(flow, values, backend=backend, run_id="finished")
        yield _milliseconds(
            sizes, "a finished run", lambda _: taskflowx.run(flow, values, backend=backend, run_id="finished"), 2.0
        )
        yield _milliseconds(
            sizes,
            f"a new run of {_TASKS} tasks",
            lambda n: taskflowx.load(flow, values, backend=backend, run_id=f"new-{n}"),
            2.0,
        )
        address = backend.engine.url.render_as_string()  # type: ignore[attr-defined]
        yield _milliseconds(
            sizes,
            "a finished run, by its address",
            lambda _: taskflowx.run(flow, values, backend=address, run_id="finished"),
        )


def in_a_large_store(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Measure calls in stores with many runs, and compare these with each other."""
    few, many = (_FEW // 10, _MANY // 20) if sizes.quick else (_FEW, _MANY)
    yield from beside_each_other(few, many, _CALLS * sizes.turns)


def beside_each_other(few: int, many: int, times: int) -> Iterator[Figure]:
    """Measure each call in two stores in turn.

    :param few: runs in the one, and `many` in the other
    """
    with store(few) as small, store(many) as large:
        of_small, of_large = _calls(small, few), _calls(large, many)
        for name, (call, most) in of_small.items():
            pairs = [(_taken(of_large[name][0], n), _taken(call, n)) for n in range(times + 2)][2:]
            yield alone(f"{name}, {few:,} runs", [1000 * each for _, each in pairs], "ms", at_most=most)
            yield compared(f"{name}, {many:,} ÷ {few:,} runs", pairs, "ms", factor=1000, at_most=1.2)


def _calls(backend: Backend, count: int) -> dict[str, tuple[Callable[[int], Any], float | None]]:
    """Return the calls that are measured in a store with so many runs, each with its bound in milliseconds."""
    flow, values, known = flow_of(_TASKS), {"x": 1}, runs.open(backend)
    middle = f"{(_START + dt.timedelta(seconds=count // 2)).isoformat()} x"
    return {
        "list the first page": (lambda _: known.list(), 10.0),
        "list a page in the middle": (lambda _: known.list(after=middle), 10.0),
        "list the failed ones": (lambda _: known.list(state="FAILURE"), 10.0),
        "list those of a flow": (lambda _: known.list(flow="flow-3"), 10.0),
        "get one": (lambda n: known.get(f"old-{n * 7}"), 10.0),
        "start one more": (lambda n: taskflowx.load(flow, values, backend=backend, run_id=f"new-{n}"), 10.0),
        "run one more": (lambda n: taskflowx.run(flow, values, backend=backend, run_id=f"more-{n}"), None),
        "delete one": (lambda n: known.delete(f"old-{n * 7}"), None),
    }


def _taken(call: Callable[[int], Any], n: int) -> float:
    began = time.perf_counter()
    call(n)
    return time.perf_counter() - began


def _milliseconds(sizes: Sizes, label: str, call: Callable[[int], Any], most: float | None = None) -> Figure:
    return alone(label, [1000 * _taken(call, n) for n in range(_CALLS * sizes.turns + 2)][2:], "ms", at_most=most)
