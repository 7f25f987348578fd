"""Rows for runs whose record is kept in a database: beside the driver's own commits, beside memory, and a resume.

All sides of a figure write to the same disk, in a folder of the project. Flows are declared and compiled outside the
clock.
"""

from __future__ import annotations

import contextlib
import gc
import sqlite3
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks import beside, workloads
from benchmarks.harness import MICROSECONDS, ROOT, Figure, alone, an_atom, clock, compared, fresh, in_turn
from taskflowx import states
from taskflowx.persistence import backends, models
from taskflowx.persistence.backends import sql
from taskflowx.persistence.history import Entry, document as document_of
from tests.services import addresses

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Sizes
    from benchmarks.peers import Peer

ROWS_TOGETHER = 64

_COLUMNS = tuple(sql.names(sql.ATOMS))
_ROW = ("name", "p" * 36, "2026-01-01 00:00:00.000000", None, "TASK_DETAIL", "1.0", "SUCCESS", "EXECUTE", "{}", "1")


@contextlib.contextmanager
def folder() -> Iterator[str]:
    """Give a folder on the disk of the project."""
    (ROOT / "build").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / "build") as path:
        yield path


def run(connection: str, shape: str, atoms: int, **options: Any) -> float:
    """Return how many seconds the run of a flow takes, with its record in a store."""
    with backends.backend(connection) as backend:
        return workloads.seconds(shape, atoms, book=models.LogBook("book"), backend=backend, **options)


def commits_of(connection: str, shape: str, atoms: int, **options: Any) -> int:
    """Return how many commits a run makes."""
    count: list[int] = []
    with backends.backend(connection) as backend:
        flow = workloads.SHAPES[shape](atoms)
        engine = workloads.ready(flow, book=models.LogBook("book"), backend=backend, **options)
        journal = engine.storage.writes.journal
        commit = journal.commit

        def counted(details: Any) -> None:
            count.append(1)
            commit(details)

        journal.commit = counted
        engine.run()
    return len(count)


def raw(connection: str, together: int, atoms: int) -> float:
    """Return how many seconds the driver takes for as many rows as a flow has atoms, so many of them in one commit."""
    mark, driver = ("?", _sqlite) if connection.startswith("sqlite") else ("%s", _postgresql)
    columns = ", ".join(f"{name} text" for name in _COLUMNS[1:])
    values = ", ".join([mark] * len(_COLUMNS))
    put = f"insert into raw values ({values}) on conflict (uuid) do update set state = excluded.state"  # noqa: S608
    with driver(connection) as (begin, commit, cursor):
        begin()
        cursor.execute(f"create table if not exists raw (uuid varchar(64) primary key, {columns})")
        commit()

        def loop() -> None:
            for first in range(0, atoms, together):
                begin()
                numbers = range(first, min(first + together, atoms))
                rows = [(f"{number:036}", *_ROW, None, None, None) for number in numbers]
                if together == 1:
                    cursor.execute(put, rows[0])
                else:
                    cursor.executemany(put, rows)
                commit()

        return clock(loop)


@contextlib.contextmanager
def _sqlite(connection: str) -> Iterator[tuple[Callable[[], Any], Callable[[], Any], Any]]:
    file = connection.removeprefix("sqlite:///") + ".raw"
    with contextlib.closing(sqlite3.connect(file, isolation_level=None)) as made:
        made.execute("pragma journal_mode = wal")
        made.execute("pragma synchronous = full")
        yield lambda: made.execute("begin immediate"), lambda: made.execute("commit"), made.cursor()


@contextlib.contextmanager
def _postgresql(connection: str) -> Iterator[tuple[Callable[[], Any], Callable[[], Any], Any]]:
    import psycopg

    with contextlib.closing(psycopg.connect(connection.replace("+psycopg", ""))) as made:
        yield lambda: None, made.commit, made.cursor()


def commits(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare a run with commits that the driver makes alone, and count how many it needs."""
    atoms = sizes.committed
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

                def address(database: str = database, path: str = path) -> str:
                    return new_file(path) if database == "sqlite" else addresses.new_database(addresses.POSTGRESQL)

                sides = in_turn(
                    sizes.turns,
                    lambda together=together, address=address: raw(address(), together, atoms),
                    lambda shape=shape, address=address, options=options: run(address(), shape, atoms, **options),
                    warm_up=not sizes.quick,
                )
                facts = an_atom(atoms) | {"unit": "µs a row ÷ an atom"}
                yield compared(label, sides, **facts, at_least=bound)
                each = commits_of(address(), shape, atoms, **options) / atoms
                most = None if sizes.quick else 1.01 if together == 1 else 1 / 16  # the run's own are in it
                yield alone(f"{label}, commits", [each], "an atom", atoms=atoms, at_most=most)


def processor(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare the processor time of a durable chain with that of its statements on the bare driver, without a disk."""
    atoms = sizes.committed
    facts = an_atom(atoms) | {"unit": "µs of processor time an atom"}
    for label, history, bound in (("", False, 2.0), (", with a history", True, 2.6)):
        with _in_memory() as path:
            turns = in_turn(
                sizes.turns,
                lambda path=path, history=history: _processor_seconds(
                    new_file(path), atoms, workloads.finish, history=history
                ),
                lambda path=path, history=history: _processor_seconds(
                    new_file(path), atoms, lambda engine: _bare_steps(engine, history=history)
                ),
                warm_up=not sizes.quick,
            )
        yield compared(f"linear, sqlite{label}", turns, **facts, at_most=None if sizes.quick else bound)


def processor_beside(peer: Peer) -> Callable[[Sizes, str], Iterator[Figure]]:
    """Return what compares the processor time of a durable chain with that of another engine, without a disk."""

    def measure(sizes: Sizes, shape: str) -> Iterator[Figure]:
        atoms = min(1000, sizes.chain)
        with _in_memory() as path:
            sides = (
                lambda: peer.seconds(atoms, f"{path}/{time.perf_counter_ns()}.theirs"),
                lambda: _processor_seconds(new_file(path), atoms, workloads.finish),
            )
            facts = an_atom(atoms) | {"unit": "µs of processor time a step"}
            yield beside.figure(peer, sizes, shape, sides, at_least=1.25, **facts)

    return measure


def _in_memory() -> tempfile.TemporaryDirectory[str]:
    """Return a folder on a disk in memory, where there is one."""
    memory = Path("/dev/shm")  # noqa: S108 - a folder of ours is made in it
    return tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None)


def with_history(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare a chain whose history is kept with one without, each step in a database before the next one."""
    atoms = sizes.committed
    for database in ("sqlite", "postgresql"):
        if lacks := addresses.POSTGRESQL.lacks() if database == "postgresql" else None:
            yield Figure(database, at_most=1.15, skipped=lacks)
            continue
        with folder() as path:

            def kept(history: bool, database: str = database, path: str = path) -> float:
                where = new_file(path) if database == "sqlite" else addresses.new_database(addresses.POSTGRESQL)
                return run(where, "linear", atoms, history=history)

            turns = in_turn(
                sizes.turns, lambda kept=kept: kept(True), lambda kept=kept: kept(False), warm_up=not sizes.quick
            )
        yield compared(database, turns, **an_atom(atoms), at_most=None if sizes.quick else 1.15)


def _processor_seconds(connection: str, atoms: int, steps: Callable[[Any], None], **options: Any) -> float:
    """Return how much processor time the steps of a run take that is stored and ready.

    :param steps: takes them, given the engine
    :param options: those of the engine
    """
    with backends.backend(connection) as backend:
        flow = workloads.SHAPES["linear"](atoms)
        engine = workloads.ready(flow, book=models.LogBook("book"), backend=backend, **options)
        gc.collect()
        before = time.process_time()
        steps(engine)
        return time.process_time() - before


def _bare_steps(engine: Any, *, history: bool) -> None:
    """Run what each step of a chain runs: its beginning, two atoms, the version of the run, and its end.

    :param history: whether a step has a document of its history, too
    """
    statements = sql.statements("sqlite")
    detail = engine.storage._flowdetail
    now, worker = time.time(), threading.current_thread().name
    time_of_row = "2026-01-01 00:00:00.000000"
    rows = [(time_of_row, "1.0", states.SUCCESS, states.EXECUTE, "{}", "1", atom.uuid) for atom in detail]
    name = next(iter(detail)).name
    ended = Entry(1, now, name, 1, states.RUNNING, states.SUCCESS, now, worker, None)
    begun = Entry(2, now, name, 1, states.PENDING, states.RUNNING, None, None, None)
    document = document_of([ended, begun])
    known = detail.revision
    with contextlib.closing(sqlite3.connect(engine.storage.backend.engine.url.database, isolation_level=None)) as made:
        for setting in ("journal_mode = wal", "synchronous = full", "wal_autocheckpoint = 250", "foreign_keys = on"):
            made.execute(f"pragma {setting}")
        for number in range(len(rows)):
            made.execute("begin immediate")
            made.executemany(statements.update_simple, rows[number : number + 2])
            if history:
                made.execute(statements.put_entries, (detail.uuid, 2 * number + 1, document))
            claim = (known + 1, "p" * 60, time.time() + 60)
            assert made.execute(statements.move_on, (*claim, detail.uuid, known)).rowcount == 1
            made.commit()
            known += 1


def new_file(folder: str) -> str:
    """Return the address of a database in a file that is not there yet."""
    return f"sqlite:///{folder}/{time.perf_counter_ns()}.db"


def against_memory(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare a run whose record is kept in SQLite, each step before the next one, with one that is kept in memory."""
    atoms = sizes.committed
    with folder() as path:
        turns = in_turn(
            sizes.rare,
            lambda: run(new_file(path), shape, atoms),
            lambda: workloads.seconds(shape, atoms),
            warm_up=False,
        )
    yield compared(shape, turns, **an_atom(atoms))


def against(peer: Peer, bound: float, atoms: int | None = None) -> Callable[[Sizes, str], Iterator[Figure]]:
    """Return what compares another engine with us, running a chain, both with their record in SQLite."""

    def measure(sizes: Sizes, shape: str) -> Iterator[Figure]:
        size = min(atoms or sizes.chain, sizes.chain)
        with folder() as path:
            run(new_file(path), "linear", 10)  # as the others do: what is imported is not counted
            sides = (
                lambda: peer.seconds(size, f"{path}/{time.perf_counter_ns()}.theirs"),
                lambda: run(new_file(path), "linear", size),
            )
            facts = {"unit": "ms an atom", "factor": 1e3 / size, "atoms": size}
            yield beside.figure(peer, sizes, shape, sides, at_least=bound, **facts)

    return measure


def resume(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Measure what it costs to read the record of a run, and to open it, when all of it has been done."""
    small, large = sizes.atoms, sizes.large
    taken = {}
    for atoms in dict.fromkeys((small, large)):
        with folder() as path:
            connection = f"sqlite:///{path}/runs.db"
            fresh("finish", connection=connection, atoms=atoms)
            taken[atoms] = [fresh("resume", connection=connection, atoms=atoms) / atoms for _ in range(sizes.turns)]
    micros = [seconds * MICROSECONDS for seconds in taken[small]]
    yield alone("resume", micros, "µs an atom", seconds=True, atoms=small, at_most=8.0)
    if large != small:
        pairs = list(zip(taken[large], taken[small], strict=True))
        label = f"resume, {large:,} ÷ {small:,}"
        yield compared(label, pairs, "µs an atom", factor=MICROSECONDS, atoms=large, at_most=1.5)
