"""Rows for runs whose record is kept in a database: what a commit costs beside the driver's own, and a resume.

All sides of a figure write to the same disk, in a folder of the project. Flows are declared and compiled outside the
clock.
"""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
import time
from typing import TYPE_CHECKING, Any

from benchmarks import peers, workloads
from benchmarks.harness import ROOT, Figure, clock, compared, fresh, in_turn
from taskflowx import engines
from taskflowx.persistence import backends, models
from taskflowx.persistence.backends import sql
from tests.services import addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Sizes

ATOMS = 2_000
ROWS_TOGETHER = 64
MICROSECONDS = 1e6

_COLUMNS = tuple(sql.names(sql.ATOMS))
_ROW = ("name", "p" * 36, "2026-01-01 00:00:00.000000", None, "TASK_DETAIL", "1.0", "SUCCESS", "EXECUTE", "{}", "1")


@contextlib.contextmanager
def folder() -> Iterator[str]:
    """Give a folder on the disk of the project."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as path:
        yield path


def run(connection: str, shape: str, count: list[int] | None = None, atoms: int = ATOMS, **options: Any) -> float:
    """Return how many seconds the run of a flow takes, with its record in a store.

    :param count: the number of commits of the run is added to it
    """
    with backends.backend(connection) as backend:
        engine = engines.load(workloads.SHAPES[shape](atoms), book=models.LogBook("book"), backend=backend, **options)
        engine.compile()
        engine.prepare()
        engine.validate()
        if count is not None:
            commit = engine.storage.commit

            def counted(details: Any) -> None:
                count.append(1)
                commit(details)

            engine.storage.commit = counted
        return clock(engine.run)


def raw(connection: str, together: int, atoms: int = ATOMS) -> float:
    """Return how many seconds the driver takes for as many rows as a flow has atoms, so many of them in one commit."""
    mark, driver = ("?", _sqlite(connection)) if connection.startswith("sqlite") else ("%s", _postgresql(connection))
    begin, commit, cursor = driver
    columns = ", ".join(f"{name} text" for name in _COLUMNS[1:])
    begin()
    cursor.execute(f"create table if not exists raw (uuid varchar(64) primary key, {columns})")
    commit()
    values = ", ".join([mark] * len(_COLUMNS))
    put = f"insert into raw values ({values}) on conflict (uuid) do update set state = excluded.state"  # noqa: S608

    def loop() -> None:
        for first in range(0, atoms, together):
            begin()
            rows = [(f"{number:036}", *_ROW, None, None, None) for number in range(first, min(first + together, atoms))]
            if together == 1:
                cursor.execute(put, rows[0])
            else:
                cursor.executemany(put, rows)
            commit()

    return clock(loop)


def _sqlite(connection: str) -> tuple[Callable[[], Any], Callable[[], Any], Any]:
    made = sqlite3.connect(connection.removeprefix("sqlite:///") + ".raw", isolation_level=None)
    made.execute("pragma journal_mode = wal")
    made.execute("pragma synchronous = full")
    return lambda: made.execute("begin immediate"), lambda: made.execute("commit"), made.cursor()


def _postgresql(connection: str) -> tuple[Callable[[], Any], Callable[[], Any], Any]:
    import psycopg

    made = psycopg.connect(connection.replace("+psycopg", ""))
    return lambda: None, made.commit, made.cursor()


def commits(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare a run with commits that the driver makes alone, and count how many it needs."""
    for database in ("sqlite", "postgresql"):
        lacks = addresses.POSTGRESQL.lacks() if database == "postgresql" else None
        for shape, together, bound, options in (
            ("linear", 1, 0.7, {}),
            ("unordered", ROWS_TOGETHER, 0.3, {"engine": "parallel", "executor": "threads", "max_workers": 2}),
        ):
            label = f"{shape}, {database}, {together} rows" if together > 1 else f"{shape}, {database}"
            if lacks:
                yield Figure(label, at_least=bound, skipped=lacks)
                continue
            with folder() as path:
                count: list[int] = []

                def address(database: str = database, path: str = path) -> str:
                    where = f"sqlite:///{path}/{time.perf_counter_ns()}.db"
                    return where if database == "sqlite" else addresses.new_database(addresses.POSTGRESQL)

                sides = in_turn(
                    sizes.turns,
                    lambda together=together, address=address: raw(address(), together),
                    lambda shape=shape, address=address, options=options: run(address(), shape, **options),
                )
                yield compared(
                    label, sides, "µs a row ÷ an atom", factor=MICROSECONDS / ATOMS, atoms=ATOMS, at_least=bound
                )
                run(address(), shape, count, **options)
                most = 1.01 if together == 1 else 1 / 16  # the run's own beginning and end are in it
                each = len(count) / ATOMS
                yield Figure(f"{label}, commits", each, each, each, 1, ATOMS, unit="an atom", at_most=most)


def against(peer: peers.Peer, bound: float, atoms: int) -> Callable[[Sizes, str], Iterator[Figure]]:
    """Return what compares another engine with us, running a chain, both with their record in SQLite."""

    def measure(sizes: Sizes, shape: str) -> Iterator[Figure]:
        reason = None if peer.installed else f"{peer.name} {peer.version} is not installed here; a full run installs it"
        if sizes.atoms and sizes.crossing > 1_000:  # not a quick one
            reason = peer.install()
        if reason is not None:
            yield Figure(shape, at_least=bound, skipped=reason)
            return
        with folder() as path:

            def theirs() -> float:
                return peer.seconds(atoms, f"{path}/{time.perf_counter_ns()}.theirs")

            def ours() -> float:
                return run(f"sqlite:///{path}/{time.perf_counter_ns()}.db", "linear", atoms=atoms)

            run(f"sqlite:///{path}/first.db", "linear", atoms=10)  # as the others do: what is imported is not counted
            try:
                sides = in_turn(sizes.few, theirs, ours, warm_up=False)
            except RuntimeError as error:
                yield Figure(shape, at_least=bound, skipped=str(error).splitlines()[-1])
                return
        yield compared(shape, sides, "ms an atom", factor=1e3 / atoms, atoms=atoms, at_least=bound)

    return measure


def resume(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Measure what it costs to read the record of a run, and to open it, when all of it has been done."""
    small, large = 10_000, 100_000 if sizes.crossing > 1_000 else 20_000
    taken = {}
    for atoms in (small, large):
        with folder() as path:
            connection = f"sqlite:///{path}/runs.db"
            fresh("finish", connection=connection, atoms=atoms)
            taken[atoms] = [fresh("resume", connection=connection, atoms=atoms) / atoms for _ in range(sizes.turns)]
    each = sorted(seconds * MICROSECONDS for seconds in taken[small])
    yield Figure("resume", each[len(each) // 2], each[0], each[-1], len(each), small, unit="µs an atom", at_most=30.0)
    pairs = list(zip(taken[large], taken[small], strict=True))
    yield compared(f"resume, {large:,} ÷ {small:,}", pairs, "µs an atom", factor=MICROSECONDS, atoms=large, at_most=1.5)
