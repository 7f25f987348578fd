"""The last entries of a history in a SQL store: beside the claim while the run is in progress, then in the table."""

from __future__ import annotations

import contextlib
import functools
import sqlite3
import sys
import threading

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, codec, history, models, owners
from taskflowx.persistence.backends import sql_tails
from tests.contract.store.stores import STORES
from tests.support import histories
from tests.support.histories import kept, record

SQL = [store for store in STORES if store.name in ("sqlite", "sqlite-memory", "postgresql", "mariadb")]
STEPS = 60


class Step(task.Task):
    def __init__(self, name, does=lambda: None):
        super().__init__(name)
        self.does = does

    def execute(self):
        self.does()


@pytest.fixture(params=SQL, ids=lambda store: store.name)
def backend(request, tmp_path):
    """Give a SQL store that is new and ready."""
    if reason := request.param.lacks():
        pytest.skip(reason)
    with backends.backend(request.param.settings(tmp_path)) as made:
        yield made


@pytest.fixture
def file(tmp_path):
    """Give the path of a SQLite store that is new and ready."""
    path = tmp_path / "runs.db"
    with backends.backend(f"sqlite:///{path}"):
        pass
    return path


def chain(*last):
    return linear_flow.Flow("chain").add(*(Step(f"t{number}") for number in range(STEPS)), *last)


def rows(backend, statement):
    with backend.engine.connect() as connection:
        return connection.exec_driver_sql(statement).fetchall()


def tails(backend):
    return [tail for (tail,) in rows(backend, "SELECT tail FROM taskflowx_runs")]


def documents(backend):
    return rows(backend, "SELECT number, entries FROM taskflowx_history ORDER BY number")


def test_a_run_in_progress_has_its_last_entries_beside_its_claim(backend):
    seen = {}

    def look():
        engine = seen["engine"]
        seen["stored"] = kept(backend, engine.storage.flow_uuid)
        seen["history"] = engine.history()
        if backend.transactions.in_memory:
            return  # its one connection is in use by the engine alone
        seen["tails"], seen["rows"] = tails(backend), len(documents(backend))

    seen["engine"] = engine = engines.load(chain(Step("last", look)), backend=backend, history=True)
    engine.run()
    assert seen["stored"] == seen["history"]
    assert seen["stored"][-1][2:6] == ("last", 1, "PENDING", "RUNNING")
    entries = kept(backend, engine.storage.flow_uuid)
    assert entries == engine.history()
    assert len(entries) == 2 * (STEPS + 1) + 2
    if "tails" in seen:
        (tail,) = seen["tails"]
        assert 0 < len(tail) <= sql_tails.MOST
        assert 1 < seen["rows"] < STEPS / 4
        assert tails(backend) == [None]


def test_a_history_with_a_tail_is_read_in_parts(backend):
    parts = []

    def look():
        uuid = engine.storage.flow_uuid
        whole = kept(backend, uuid)
        for after in (0, 1, len(whole) - 2, len(whole) - 1, len(whole)):
            parts.append((kept(backend, uuid, after=after), whole[after:]))
            parts.append((kept(backend, uuid, after=after, limit=2), whole[after:][:2]))

    engine = engines.load(chain(Step("last", look)), backend=backend, history=True)
    engine.run()
    assert [found for found, _ in parts] == [wanted for _, wanted in parts]


def test_who_takes_a_run_up_puts_its_tail_into_the_table(file, tmp_path):
    copy = tmp_path / "copy.db"

    def die():  # as by kill -9: what is in the file then is all that is left
        with contextlib.closing(sqlite3.connect(file)) as source, contextlib.closing(sqlite3.connect(copy)) as target:
            source.backup(target)
            target.execute("UPDATE taskflowx_runs SET expires = 1")
            target.commit()

    with backends.backend(f"sqlite:///{file}") as backend:
        engine = engines.load(chain(Step("last", die)), backend=backend, history=True)
        engine.run()
        uuid = engine.storage.flow_uuid
    with backends.backend(f"sqlite:///{copy}") as backend:
        (tail,) = tails(backend)
        assert tail
        before = kept(backend, uuid)
        stored = record(backend, uuid)
        ran = []
        again = engines.load(
            chain(Step("last", lambda: ran.append(kept(backend, uuid)))),
            flow_detail=stored,
            backend=backend,
            history=True,
        )
        again.run()
        entries = kept(backend, uuid)
        assert entries[: len(before)] == before
        assert ran[0][: len(before)] == before
        assert histories.complaints(entries, record(backend, uuid)) == []
        assert documents(backend)[-1][0] <= len(entries)


def test_a_step_that_is_repeated_replaces_its_entries_in_the_tail(file):
    """The entries of a write whose answer was lost may be others when it is repeated, with further transitions."""

    def entry(number, name):
        return history.Entry(number, 1.5, name, 1, states.PENDING, states.RUNNING, None, None, None)

    book, detail, owner = models.LogBook("book"), models.FlowDetail("flow", "f"), owners.Owner()
    detail.add(models.TaskDetail("task", "t", version="1.0"))
    book.add(detail)
    with backends.backend(f"sqlite:///{file}") as backend, contextlib.closing(backend.get_connection()) as connection:
        connection.save_logbook(book)
        owner.running, detail.state = True, states.RUNNING
        for names in ("a", "b", "cd"):
            first = "abcd".index(names[0]) + 1
            entries = [entry(number, name) for number, name in enumerate(names, first)]
            connection.save_changes(detail, list(detail), owner, entries)
        assert tails(backend)[0].startswith("2:")
        backend.tails.clear()  # nobody knows whether that was written
        entries = [entry(number, name) for number, name in enumerate("xcd", 3)]
        connection.save_changes(detail, list(detail), owner, entries)
        assert tails(backend) == [None]
        connection.save_changes(detail, list(detail), owner, [entry(6, "e")])
        assert tails(backend)[0].startswith("6:")
        found = [(one.number, one.atom) for one in connection.get_history("f")]
    assert found == list(enumerate("abxcde", 1))


class Interrupt:
    """Raises KeyboardInterrupt at the N-th line that is run in some files."""

    FILES = ("engines/steps.py", "persistence/history.py", "persistence/journal.py", "backends/sql_steps.py")

    def __init__(self, number):
        self.left = number

    def __call__(self, frame, event, _):
        if event == "call":
            return self if frame.f_code.co_filename.endswith(self.FILES) else None
        if event == "line":
            self.left -= 1
            if self.left == 0:
                raise KeyboardInterrupt
        return self


@pytest.mark.parametrize("part", range(4))
def test_an_interrupt_at_any_line_of_a_step_loses_and_repeats_nothing(tmp_path, part):
    """Also between a commit and the note that it was made, when the next write has the same entries again."""
    number, wrong = part + 1, []
    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:
        while True:
            calls = []
            does = [functools.partial(calls.append, n) for n in range(4)]
            flow = linear_flow.Flow("f").add(*(Step(f"t{n}", does[n]) for n in range(4)))
            engine = engines.load(flow, backend=backend, history=True)
            engine.compile()
            engine.prepare()
            interrupt, kept_trace = Interrupt(number), sys.gettrace()
            sys.settrace(interrupt)
            try:
                with contextlib.suppress(KeyboardInterrupt):
                    engine.run()
            finally:
                sys.settrace(kept_trace)
            engine.run()
            uuid = engine.storage.flow_uuid
            found = histories.complaints(kept(backend, uuid), record(backend, uuid))
            if found or sorted(set(calls)) != [0, 1, 2, 3]:
                wrong.append((number, found, calls))
            if interrupt.left > 0:
                break
            number += 12
    assert number > 100
    assert wrong == []


def test_a_history_names_the_thread_of_each_call(file):
    """Also where threads follow each other whose ids are used again."""
    names = []
    flow = linear_flow.Flow("f").add(
        *(Step(f"t{n}", lambda: names.append(threading.current_thread().name)) for n in range(6))
    )
    with backends.backend(f"sqlite:///{file}") as backend:
        engine = engines.load(flow, backend=backend, history=True)
        steps, ended = engine.run_iter(), []
        while not ended:
            thread = threading.Thread(target=lambda: ended.extend([True] if next(steps, None) is None else []))
            thread.start()
            thread.join()
        told = [entry.worker for entry in engine.history() if entry.atom and entry.new == states.SUCCESS]
    assert told == names
    assert len(set(told)) > 1


def test_a_long_document_goes_into_the_table_at_once(backend):
    name = "n" * sql_tails.MOST if backend.family == "sqlite" else "n" * 250
    width = 1 if backend.family == "sqlite" else 12
    flow = linear_flow.Flow("chain").add(*(Step(f"{name[:-2]}{number:02}") for number in range(width)), Step("short"))
    engine = engines.load(flow, backend=backend, history=True)
    engine.run()
    uuid = engine.storage.flow_uuid
    assert histories.complaints(kept(backend, uuid), record(backend, uuid)) == []


@pytest.mark.parametrize("damage", ["", "x", "1", "1:[", "1:{}", "²:[]", ":[]"])
def test_a_damaged_tail_is_named_and_an_empty_one_is_none(file, damage):
    with backends.backend(f"sqlite:///{file}") as backend:
        engine = engines.load(chain(), backend=backend, history=True)
        engine.run()
        with contextlib.closing(sqlite3.connect(file)) as made:
            made.execute("UPDATE taskflowx_runs SET tail = ?", (damage,))
            made.commit()
        if not damage:
            assert kept(backend, engine.storage.flow_uuid) == engine.history()
            return
        with pytest.raises(codec.Unreadable, match=r"history|JSON"):
            kept(backend, engine.storage.flow_uuid)


def test_a_store_of_the_layout_before_is_read_and_has_to_be_upgraded_for_a_history(file):
    with contextlib.closing(sqlite3.connect(file)) as made:
        made.execute("ALTER TABLE taskflowx_runs DROP COLUMN tail")
        made.execute("UPDATE taskflowx_version SET version_num = '006'")
        made.execute("INSERT INTO taskflowx_history VALUES ('f', 1, '[[1.5,\"a\",1,null,\"RUNNING\"]]')")
        made.commit()
    with contextlib.closing(backends.fetch({"connection": f"sqlite:///{file}"})) as backend:
        connection = backend.get_connection()
        assert not connection.is_ready()
        assert [(one.at, one.atom) for one in connection.get_history("f")] == [(1.5, "a")]  # it counts in seconds
        without = engines.load(chain(), backend=backend)
        without.run()
        assert without.storage.get_flow_state() == states.SUCCESS
        book = models.LogBook("book")
        with pytest.raises(exceptions.StorageFailure, match=r"Connection.upgrade\(\)"):
            engines.load(chain(), backend=backend, book=book, history=True).run()
        connection.upgrade()
        connection.validate()
        engine = engines.load(chain(), backend=backend, history=True)
        engine.run()
        assert len(kept(backend, engine.storage.flow_uuid)) == 2 * STEPS + 2
