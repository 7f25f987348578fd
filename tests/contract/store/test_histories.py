"""Long histories of retries in durable stores: an attempt costs the same early and late, and none is ever missing."""

from __future__ import annotations

import contextlib
import json
import logging
import re

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, codec, models, owners, path_tree
from taskflowx.persistence.backends import sql_reader, sql_transaction
from taskflowx.types.failure import Failure
from tests.contract.store.stores import STORES

LONG = 4 * path_tree.CHUNK + 7


class PathLayout:
    """Where a store of paths has histories.

    :param settings: of the store
    """

    def __init__(self, settings):
        self.settings = settings

    def record(self, connection, uuid):
        """Return how many attempts the place where TaskFlow looks has, and how many it says are elsewhere."""
        path = f"{connection.atom_path}/{uuid}"
        record = json.loads(connection._get_item(path))
        return len(record["atom"]["results"]), record.get("past", 0)

    def beside(self, connection, uuid):
        """Return the numbers of what is kept beside a record."""
        return sorted(map(int, connection._names(f"{connection._attempt_path}/{uuid}")))

    def damage(self, connection, uuid, begin, text):
        """Put a text in the place of attempts; None removes them."""
        path = connection._chunk_path(uuid, begin)
        with connection._transaction(path) as transaction:
            if text is None:
                connection._del_tree(path, transaction)
            else:
                connection._set_item(path, text, transaction)

    def note_writes(self, connection, monkeypatch, note):
        """Have something called with each text that is written."""
        put = connection._set_item

        def set_item(path, value, transaction):
            note(value)
            put(path, value, transaction)

        monkeypatch.setattr(connection, "_set_item", set_item)

    def fail(self, patch, connection):
        """Let the next writes fail."""
        patch.setattr(type(connection), "_write_turn", lambda *given: (_ for _ in ()).throw(OSError("lost")))


class SqlLayout:
    """Where a SQL store has them.

    :param settings: of the store
    """

    def __init__(self, settings):
        self.settings = settings

    def record(self, connection, uuid):
        query = f"SELECT results, meta FROM atomdetails WHERE uuid = '{uuid}'"  # noqa: S608
        results, meta = self.query(connection, query)[0]
        results, meta = (json.loads(each) if isinstance(each, str) else each for each in (results, meta))
        return len(results), meta.get("taskflowx_attempts", 0)

    def beside(self, connection, uuid):
        query = f"SELECT number FROM taskflowx_attempts WHERE atom_uuid = '{uuid}' ORDER BY number"  # noqa: S608
        return [row[0] for row in self.query(connection, query)]

    def damage(self, connection, uuid, begin, text):
        where = f"WHERE atom_uuid = '{uuid}' AND number = {begin}"
        change = f"UPDATE taskflowx_attempts SET attempts = '{text}'"  # noqa: S608
        change = change if text is not None else "DELETE FROM taskflowx_attempts"
        self.query(connection, f"{change} {where}")

    def note_writes(self, connection, monkeypatch, note):
        def noting(real):
            def call(tx, statement, *given):
                for row in given[0] if real is many else [given]:
                    for each in row:
                        if isinstance(each, str):
                            note(each)
                return real(tx, statement, *given)

            return call

        run, many = sql_transaction.StoreTransaction.run, sql_transaction.StoreTransaction.many
        monkeypatch.setattr(sql_transaction.StoreTransaction, "run", noting(run))
        monkeypatch.setattr(sql_transaction.StoreTransaction, "many", noting(many))

    def fail(self, patch, connection):
        patch.setattr(sql_transaction.StoreTransaction, "commit", lambda _: (_ for _ in ()).throw(OSError("lost")))

    @staticmethod
    def query(connection, statement):
        with connection.backend.engine.begin() as raw:
            found = raw.exec_driver_sql(statement)
            return found.fetchall() if found.returns_rows else []


KEPT_IN = {
    "dir": PathLayout,
    "zookeeper": PathLayout,
    "sqlite": SqlLayout,
    "postgresql": SqlLayout,
    "mariadb": SqlLayout,
}


@pytest.fixture(params=[store for store in STORES if store.name in KEPT_IN], ids=lambda store: store.name)
def layout(request, tmp_path):
    if lacks := request.param.lacks():
        pytest.skip(lacks)
    settings = request.param.settings(tmp_path)
    if request.param.name == "dir":
        settings["sync"] = False
    return KEPT_IN[request.param.name](settings)


@pytest.fixture
def backend(layout):
    with backends.backend(layout.settings) as made:
        yield made


@contextlib.contextmanager
def another_process(layout):
    """Give a connection of a store of its own, which knows nothing of what others have written."""
    with backends.backend(layout.settings) as backend, contextlib.closing(backend.get_connection()) as made:
        yield made


@pytest.fixture
def connection(backend):
    with contextlib.closing(backend.get_connection()) as made:
        yield made


class Run:
    """A run of which each attempt is written in two steps, as an engine does it."""

    def __init__(self, connection, layout, uuid="f"):
        self.connection, self.layout, self.owner = connection, layout, owners.Owner()
        self.owner.running = True
        self.flow = models.FlowDetail("flow", uuid)
        self.retry = models.RetryDetail("r", f"{uuid}-r")
        self.flow.add(self.retry)
        book = models.LogBook("book", f"{uuid}-b")
        book.add(self.flow)
        connection.save_logbook(book)
        self.flow.state = states.RUNNING

    def attempt(self, count=1):
        for _ in range(count):
            number = len(self.retry.results)
            self.retry.put(states.SUCCESS, number)
            self.save()
            self.retry.last_failures["t"] = Failure.from_exception(ValueError(f"attempt {number} {'x' * 200}"))
            self.save()

    def save(self, *details):
        self.connection.save_changes(self.flow, details or [self.retry], self.owner)

    def end(self, state=states.SUCCESS):
        self.flow.state = state
        self.connection.save_changes(self.flow, [], self.owner)  # of which the retry is no part

    def check(self):
        """Check that what is stored is what is known here, wherever it is."""
        found = self.connection.get_flow_details(self.flow.uuid).find(self.retry.uuid)
        for other in (found, self.connection.get_atom_details(self.retry.uuid)):
            assert [value for value, _ in other.results] == [value for value, _ in self.retry.results]
            for (_, mine), (_, theirs) in zip(self.retry.results, other.results, strict=True):
                assert {name: str(each) for name, each in mine.items()} == {
                    name: str(each) for name, each in theirs.items()
                }

    def record(self):
        return self.layout.record(self.connection, self.retry.uuid)

    def beside(self):
        return self.layout.beside(self.connection, self.retry.uuid)


@pytest.fixture
def run(connection, layout):
    return Run(connection, layout)


def test_an_attempt_writes_as_much_late_as_early(run, layout, monkeypatch):
    written = []

    def note(text):
        written[-1] += len(text)

    layout.note_writes(run.connection, monkeypatch, note)
    for _ in range(LONG):
        written.append(0)
        run.attempt()
    chunk = path_tree.CHUNK
    early, late = sum(written[chunk : 3 * chunk]), sum(written[-2 * chunk :])
    assert late < 1.5 * early
    assert max(written[2 * chunk :]) < 2.5 * max(written[: 2 * chunk])
    run.check()


def test_when_a_run_is_at_rest_its_history_is_where_taskflow_looks(run):
    for state, count in (states.SUSPENDED, LONG), (states.FAILURE, 5), (states.SUCCESS, 70):
        run.flow.state = states.RUNNING
        run.attempt(count)
        assert run.record()[1] > 0
        assert sum(run.record()) == len(run.retry.results)
        run.end(state)
        assert run.record() == (len(run.retry.results), 0)
        assert run.beside() == []
        run.check()


@pytest.mark.parametrize("count", [1, 7, 8, 64, 65, 96, 97])
def test_a_history_of_any_length_is_read_and_gone_on_with_by_another_process(layout, run, count):
    run.attempt(count)
    run.check()
    for ends in (False, True):
        with another_process(layout) as run.connection:
            if not ends:
                run.flow = run.connection.get_flow_details("f")
                run.flow.state = states.RUNNING
                run.owner.held = False
                run.retry = run.flow.find(run.retry.uuid)
                run.attempt(70)
            else:
                run.connection.get_flow_details("f")
                run.end()
                assert run.record() == (count + 70, 0)
            run.check()


def test_a_history_that_another_process_begins_anew_has_nothing_of_the_old_one(layout, run):
    run.attempt(LONG)
    with another_process(layout) as run.connection:
        run.flow = run.connection.get_flow_details("f")
        run.flow.state = states.RUNNING
        run.owner.held = False
        run.retry = run.flow.find(run.retry.uuid)
        run.retry.reset(states.PENDING)
        run.save()
        run.check()
        run.attempt(LONG)
        run.check()
        run.retry.reset(states.PENDING)
        run.attempt(3)
        run.end()
        run.check()
        if isinstance(layout, SqlLayout):  # elsewhere they lie there until the book goes
            assert run.beside() == []


def test_a_history_that_is_begun_anew_has_nothing_of_the_old_one(run):
    run.attempt(LONG)
    run.retry.reset(states.PENDING)
    run.save()
    run.check()
    run.attempt(3)
    run.check()
    run.attempt(LONG)
    run.retry.reset(states.PENDING)
    for number in range(LONG):  # as much at once
        run.retry.put(states.SUCCESS, -number)
    run.save()
    run.check()
    run.end()
    run.check()
    assert run.beside() == []


def test_writes_outside_of_runs_leave_a_whole_history(run):
    run.attempt(LONG)
    run.owner.running = False
    run.save()  # nobody runs it any more
    found = run.connection.get_flow_details("f")
    found.meta["m"] = 1
    run.connection.update_flow_details(found)
    run.retry.meta["m"] = 1
    run.connection.update_atom_details(run.retry)
    run.check()
    assert run.record() == (LONG, 0)


def test_a_write_that_fails_costs_no_attempt(run, layout, monkeypatch):
    run.attempt(LONG)
    for _ in range(34):
        run.retry.put(states.SUCCESS, len(run.retry.results))
        with monkeypatch.context() as patch:
            layout.fail(patch, run.connection)
            with pytest.raises(OSError, match="lost"):
                run.save()
        run.save()
        run.check()


def test_a_history_goes_with_its_book(run, layout):
    run.attempt(LONG)
    other = Run(run.connection, layout, "other")
    other.attempt(LONG)
    run.connection.destroy_logbook("f-b")
    assert run.beside() == []
    other.check()
    run.connection.clear_all()
    assert other.beside() == []


@pytest.mark.parametrize("kind", ["missing", "no json", "short", "of another kind"])
def test_attempts_that_are_damaged_are_named(run, layout, caplog, kind):
    run.attempt(LONG)
    connection = run.connection
    text = {"missing": None, "no json": "[", "short": "[]", "of another kind": "{}"}[kind]
    layout.damage(connection, run.retry.uuid, path_tree.CHUNK, text)
    for read in (lambda: connection.get_atom_details(run.retry.uuid), lambda: connection.get_flow_details("f")):
        with pytest.raises(
            codec.Unreadable, match=r"(atom_details/f-r' is damaged|of atom 'r' \(f-r\))(?s:.*)32|no JSON"
        ):
            read()
    caplog.set_level(logging.ERROR)
    assert [list(book) for book in connection.get_logbooks()] in ([], [[]])
    assert re.search(r"atom_details/f-r' is damaged|of atom 'r' \(f-r\)", caplog.text)


def test_a_run_with_many_attempts_ends_as_one_with_few(backend, connection):
    did = []

    class Flaky(task.Task):
        def execute(self, number):
            did.append(number)
            if number < 120:
                raise ValueError(number)

    flow = linear_flow.Flow("f", retry=retry.Times(1000, "again", provides="number")).add(Flaky("flaky"))
    engine = engines.load(flow, book=models.LogBook("b"), backend=backend)
    engine.run()
    assert did == list(range(1, 121))
    found = {each.name: each for each in connection.get_flow_details(engine.storage.flow_uuid)}
    assert [value for value, _ in found["again"].results] == did
    assert [str(failures["flaky"]) for _, failures in found["again"].results[:-1]] == [
        str(Failure.from_exception(ValueError(number))) for number in range(1, 120)
    ]


def test_a_history_that_zookeeper_cannot_hold_as_a_whole_stays_in_parts(backend, layout):
    if not hasattr(backend, "limit"):
        pytest.skip("others hold more")
    backend.limit = 40_000
    with contextlib.closing(backend.get_connection()) as connection:
        run = Run(connection, layout)
        run.attempt(LONG)
        run.end()
        assert run.record()[1] > 0
        run.check()
        run.flow.state = states.RUNNING
        run.attempt(3)
        run.check()


# -- in SQL stores -----------------------------------------------------------------------------------------------------


@pytest.fixture
def sql_run(run, layout):
    if not isinstance(layout, SqlLayout):
        pytest.skip("of SQL stores")
    return run


class Broken:
    """Counts what transactions ask of a database; the N-th is answered with an error, after it was done or instead."""

    def __init__(self, patch, *, done):
        self.seen = self.number = 0
        self.done, self.committed = done, False
        for name in ("run", "rows", "many", "commit"):
            patch.setattr(
                sql_transaction.StoreTransaction, name, self.guarded(getattr(sql_transaction.StoreTransaction, name))
            )

    def guarded(self, real):
        def call(*given):
            self.seen += 1
            if self.seen != self.number:
                return real(*given)
            if self.done:
                real(*given)
            self.committed = self.done and not given[1:]
            raise OSError("killed")

        return call


@pytest.mark.parametrize("done", [False, True], ids=["instead", "after it was done"])
@pytest.mark.parametrize("before", [64, 127])
def test_whatever_breaks_off_a_step_leaves_all_attempts(sql_run, layout, before, done, monkeypatch):
    run = sql_run
    run.attempt(before)
    with another_process(layout) as other, monkeypatch.context() as patch:
        broken = Broken(patch, done=done)

        def steps():
            yield lambda: run.retry.put(states.SUCCESS, before)
            yield lambda: run.retry.last_failures.update(t=Failure.from_exception(ValueError("v")))
            yield lambda: run.retry.put(states.SUCCESS, before + 1)
            yield lambda: setattr(run.flow, "state", states.FAILURE)

        count = before
        for change in steps():
            change()
            now, number = len(run.retry.results), 0
            while True:
                number += 1
                broken.seen, broken.number = 0, 0 if broken.committed else number
                try:
                    run.save()
                except OSError:
                    broken.number = 0
                else:
                    broken.number, broken.committed = 0, False
                    break
                found = other.get_flow_details("f").find(run.retry.uuid)
                assert [value for value, _ in found.results] in (list(range(count)), list(range(now)))
            assert number > 2
            run.check()
            count = now
        assert run.record() == (before + 2, 0)
        assert run.beside() == []


def test_attempts_that_were_put_into_the_row_by_another_one_are_not_counted_on(sql_run, layout):
    run = sql_run
    run.attempt(LONG)
    assert run.beside()
    with another_process(layout) as other:
        SqlLayout.query(other, "UPDATE taskflowx_runs SET expires = 1")  # it was asleep for a while
        found = other.get_atom_details(run.retry.uuid)
        found.meta["by"] = "another one"
        other.update_atom_details(found)
        assert run.beside() == []
    run.attempt()
    run.check()
    run.attempt(LONG)
    run.check()
    run.end()
    assert run.record() == (len(run.retry.results), 0)


def test_a_book_that_is_saved_puts_attempts_into_their_row(sql_run):
    run = sql_run
    run.attempt(LONG)
    run.owner.running = False
    run.save()
    book = run.connection.get_logbook("f-b")
    assert run.beside()
    run.connection.save_logbook(book)
    assert (run.record(), run.beside()) == ((LONG, 0), [])
    run.check()


def test_a_run_that_comes_to_rest_while_it_is_read_is_read_whole(sql_run, layout, monkeypatch):
    run = sql_run
    if "sqlite" in layout.settings["connection"]:
        pytest.skip("its readers see one state of all tables")
    run.attempt(LONG)
    with another_process(layout) as other:
        real = sql_reader.Reader.atom

        def atom(reader, tx, row):
            monkeypatch.undo()
            run.end()
            return real(reader, tx, row)

        monkeypatch.setattr(sql_reader.Reader, "atom", atom)
        found = other.get_atom_details(run.retry.uuid)
    assert [value for value, _ in found.results] == list(range(LONG))
    assert found.meta == {}


def test_a_layout_without_the_table_has_whole_histories(sql_run, layout):
    run = sql_run
    SqlLayout.query(run.connection, "DROP TABLE taskflowx_attempts")
    SqlLayout.query(run.connection, "UPDATE taskflowx_version SET version_num = '003'")
    with contextlib.closing(backends.fetch(layout.settings)) as backend:
        run.connection = backend.get_connection()
        run.attempt(70)
        assert run.record() == (70, 0)
        run.check()
        run.connection.upgrade()
        run.connection.validate()
        run.attempt()
        assert run.record()[1] > 0
        run.check()
        run.connection.destroy_logbook("f-b")
        assert run.beside() == []
        SqlLayout.query(run.connection, "DROP TABLE taskflowx_attempts")
    with contextlib.closing(backends.fetch(layout.settings)) as backend:
        other = Run(backend.get_connection(), layout, "other")
        other.attempt(70)
        other.end()
        other.owner.running = False
        other.connection.update_flow_details(other.flow)
        other.check()
        other.connection.destroy_logbook("other-b")
        other.connection.clear_all()


def test_short_histories_ask_nothing_more(sql_run, monkeypatch):
    run, said = sql_run, []
    real = sql_transaction.StoreTransaction.rows
    monkeypatch.setattr(
        sql_transaction.StoreTransaction,
        "rows",
        lambda tx, statement, *given: said.append(statement) or real(tx, statement, *given),
    )
    run.attempt(64)
    run.end()
    assert [statement for statement in said if "attempts" in statement] == []


def test_a_key_of_the_stores_own_is_refused_in_metadata(sql_run):
    sql_run.retry.meta["taskflowx_attempts"] = 64
    with pytest.raises(exceptions.Unstorable, match="metadata of retry 'r': the key 'taskflowx_attempts' is the store"):
        sql_run.attempt()


@pytest.mark.parametrize("mark", ['"x"', "-32", "33", "true", "1000000"])
def test_a_number_of_attempts_that_cannot_be_is_damage(sql_run, mark):
    sql_run.attempt(LONG)
    query = f"""UPDATE atomdetails SET meta = '{{"taskflowx_attempts":{mark}}}' WHERE uuid = 'f-r'"""  # noqa: S608
    SqlLayout.query(sql_run.connection, query.replace("%", "%%"))
    with pytest.raises(codec.Unreadable, match=r"of atom 'r' \(f-r\)"):
        sql_run.connection.get_atom_details("f-r")


def test_a_history_that_a_server_cannot_hold_as_a_whole_stays_in_parts(sql_run, backend):
    if backend.family != "mysql":
        pytest.skip("others hold any")
    run = sql_run
    run.attempt(3)
    column, _ = backend._limits()
    backend._column_limit = 40_000
    run.attempt(4 * path_tree.CHUNK)
    backend.check_record(run.retry)
    run.end()
    assert run.record()[1] > 0
    run.check()
    backend._column_limit = column
    run.end()
    assert run.record() == (len(run.retry.results), 0)
    run.check()
