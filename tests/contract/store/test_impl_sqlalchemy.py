"""The SQL store on SQLite: its settings, its transactions, what is done when the database goes away."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sqlite3
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa
from sqlalchemy import event
from sqlalchemy.pool import QueuePool, StaticPool

from taskflowx import engines, exceptions, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import models
from taskflowx.persistence.backends import migrations, sql, sql_settings, sql_steps, sql_transactions
from taskflowx.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend
from tests.support import drivers

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
def path(tmp_path):
    """Give the path of a database that is not there yet."""
    return tmp_path / "runs.db"


@pytest.fixture
def make(path):
    """Give a function that makes back ends, which are closed at the end."""
    with contextlib.ExitStack() as stack:

        def made(**conf):
            engine = conf.pop("engine", None)
            backend = SQLAlchemyBackend({"connection": f"sqlite:///{path}", **conf}, engine)
            stack.callback(backend.close)
            return backend

        yield made


@pytest.fixture
def connection(make):
    """Give a connection to a database that has been made ready."""
    made = make().get_connection()
    made.upgrade()
    return made


def flow(*names):
    """Make the detail of a flow with some tasks that have succeeded."""
    made = models.FlowDetail("flow", "f")
    for name in names:
        detail = models.TaskDetail(name, name)
        detail.put("SUCCESS", name)
        made.add(detail)
    return made


def save(connection, *names):
    """Save a book with a flow with some tasks; returns the flow."""
    made = flow(*names)
    book = models.LogBook("book", "b")
    book.add(made)
    connection.save_logbook(book)
    return made


def raw(backend, statement, *given):
    """Return what the database itself answers."""
    with backend.engine.connect() as connection:
        result = connection.exec_driver_sql(statement, given)
        rows = [tuple(row) for row in result] if result.returns_rows else []
        connection.commit()
        return rows


# -- the configuration -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("address", [None, "", "no address", 7])
def test_what_is_no_address_is_refused(address):
    with pytest.raises(ValueError, match="'connection' must be an address such as 'sqlite:///path'"):
        SQLAlchemyBackend({"connection": address})


def test_a_database_that_is_none_of_ours_is_refused():
    with pytest.raises(ValueError, match="No store for databases of the kind 'oracle', only for: mariadb, mysql"):
        SQLAlchemyBackend({"connection": "oracle://host/db"})


@pytest.mark.parametrize("key", ["max_retries", "idle_timeout", "max_pool_size", "max_overflow", "pool_timeout"])
def test_a_number_that_is_none_is_refused(make, key):
    with pytest.raises(ValueError, match=f"'{key}' must be a whole number, not 'many'"):
        make(**{key: "many"})


@pytest.mark.parametrize(
    ("address", "there", "driver"),
    [
        ("postgresql://h/d", {"psycopg", "psycopg2"}, "postgresql+psycopg"),
        ("postgresql://h/d", {"psycopg2"}, "postgresql+psycopg2"),
        ("postgresql+psycopg2://h/d", {"psycopg"}, "postgresql+psycopg2"),
        ("mysql://h/d", {"pymysql", "MySQLdb"}, "mysql+pymysql"),
        ("mysql://h/d", {"MySQLdb"}, "mysql+mysqldb"),
        ("mariadb://h/d", {"pymysql"}, "mariadb+pymysql"),
        ("sqlite:///d", set(), "sqlite"),
    ],
)
def test_an_address_without_a_driver_gets_one_that_is_there(monkeypatch, address, there, driver):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else None)
    assert sql_settings.url_of(address).drivername == driver


@pytest.mark.parametrize(("kind", "extra"), [("postgresql", "postgresql"), ("mysql", "mysql"), ("mariadb", "mysql")])
def test_without_a_driver_it_says_what_to_install(monkeypatch, kind, extra):
    monkeypatch.setattr(importlib.util, "find_spec", lambda _: None)
    with pytest.raises(
        exceptions.NotFound,
        match=rf'^Could not find backend {kind}: it needs .*\nInstall it with: pip install "taskflowx\[{extra}\]"$',
    ):
        SQLAlchemyBackend({"connection": f"{kind}://h/d"})


def test_without_the_driver_that_the_address_names_it_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg2", None)
    with pytest.raises(exceptions.NotFound, match=r"^Could not find backend postgresql: it needs psycopg2\nInstall it"):
        SQLAlchemyBackend({"connection": "postgresql+psycopg2://h/d"})


def test_the_pool_is_set_as_the_settings_say(make):
    backend = make(max_pool_size="2", max_overflow=0, pool_timeout=1, idle_timeout=7)
    pool = backend.engine.pool
    assert isinstance(pool, QueuePool)
    assert (pool.size(), pool._max_overflow, pool.timeout(), pool._recycle) == (2, 0, 1, 7)
    assert make(engine_args={"pool_size": 3}).engine.pool.size() == 3


def test_a_pool_that_is_used_up_is_an_error_of_ours(make):
    backend = make(max_pool_size=1, max_overflow=0, pool_timeout=0)
    with (
        backend.engine.connect(),
        pytest.raises(exceptions.StorageFailure, match=r"^Failed getting logbook 'x'\n.*TimeoutError"),
    ):
        backend.get_connection().get_logbook("x")


def test_one_transaction_after_another_has_the_same_connection_without_asking_the_pool(connection):
    transactions, pool = connection.backend.transactions, connection.backend.engine.pool

    def used():
        return transactions.run("", drivers.connection_of)

    first = used()
    assert [used() for _ in range(3)] == [first] * 3
    assert pool.checkedout() == 1
    transactions.let_go()
    assert pool.checkedout() == 0


def test_a_connection_that_was_not_used_for_a_while_goes_back_to_the_pool_first(connection, monkeypatch):
    transactions, pool = connection.backend.transactions, connection.backend.engine.pool
    checked_out = []
    event.listen(pool, "checkout", lambda *_: checked_out.append(1))
    transactions.run("", lambda _: None)
    before = len(checked_out)
    transactions.run("", lambda _: None)
    assert len(checked_out) == before
    monkeypatch.setattr(sql_transactions, "_CACHED_FOR", -1.0)
    transactions.run("", lambda _: None)
    assert len(checked_out) == before + 1


def test_no_connection_is_kept_from_one_who_waits_for_it(connection):
    transactions, pool = connection.backend.transactions, connection.backend.engine.pool
    transactions.let_go()

    def while_another_one_asks(_):
        transactions._waiting += 1  # as it does in `_take`, in its thread

    transactions.run("", while_another_one_asks)
    assert pool.checkedout() == 0
    transactions._waiting -= 1


@pytest.mark.parametrize("rule", [{"checkout_ping": True}, {"max_pool_size": 1}, {"engine_args": {"pool_size": 1}}])
def test_who_sets_rules_for_the_pool_gets_each_connection_from_it(make, rule):
    backend = make(**rule)
    backend.get_connection().upgrade()
    assert list(backend.get_connection().get_logbooks()) == []
    assert backend.engine.pool.checkedout() == 0


def test_sqlite_is_set_up_to_keep_what_was_committed(connection):
    def settings(tx):
        return [tx.rows(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "foreign_keys")]

    transactions = connection.backend.transactions
    assert transactions.run("", settings) == ["wal", 2, 1]
    assert transactions.run("", lambda tx: tx.rows("PRAGMA busy_timeout")) == [(30_000,)]


def test_the_folder_of_a_database_must_be_there(tmp_path):
    backend = SQLAlchemyBackend({"connection": f"sqlite:///{tmp_path / 'no' / 'runs.db'}", "max_retries": 0})
    with pytest.raises(exceptions.StorageFailure, match=r"^Failed upgrading the database\n.*: unable to open"):
        backend.get_connection().upgrade()


def test_an_engine_of_the_caller_is_used_as_it_is_and_left_open(path):
    engine = sa.create_engine(f"sqlite:///{path}")
    backend = SQLAlchemyBackend({}, engine)
    connection = backend.get_connection()
    connection.upgrade()
    made = save(connection, "a")
    assert backend.engine is engine
    with engine.connect() as mine:
        assert mine.exec_driver_sql("PRAGMA journal_mode").scalar() == "delete"
        assert mine.exec_driver_sql("PRAGMA foreign_keys").scalar() == 0
        pool = engine.pool
        backend.close()
        assert engine.pool is pool
        assert mine.exec_driver_sql("SELECT count(*) FROM atomdetails").scalar() == 1
    connection.save_changes(made, made)
    raw(backend, "DELETE FROM flowdetails")
    with pytest.raises(exceptions.NotFound):  # though this database would take an atom without its flow
        connection.save_changes(made, made)
    engine.dispose()


# -- the tables ------------------------------------------------------------------------------------------------------


def test_the_tables_have_the_columns_that_the_statements_name(connection):
    inspector = sa.inspect(connection.backend.engine)
    for table in sql.TABLES:
        assert {column["name"] for column in inspector.get_columns(table.name)} == set(sql.names(table))
    assert {index["name"] for index in inspector.get_indexes("atomdetails")} == {"taskflowx_atomdetails_parent"}


def test_what_is_missing_is_said(make):
    backend = make()
    connection = backend.get_connection()
    with pytest.raises(
        exceptions.StorageFailure, match=r"^The database has no table 'logbooks', no table 'flowdetails'"
    ):
        connection.validate()
    for read in (lambda: list(connection.get_logbooks()), lambda: connection.get_atom_details("x")):
        with pytest.raises(
            exceptions.StorageFailure, match=r"it has no tables of this version, Connection\.upgrade\(\) makes"
        ):
            read()
    connection.upgrade()
    connection.validate()
    raw(backend, "ALTER TABLE atomdetails DROP COLUMN revert_results")
    with pytest.raises(
        exceptions.StorageFailure, match="no column 'revert_results' of table 'atomdetails'\nConnection"
    ):
        connection.validate()


def test_what_has_no_version_of_ours_is_not_valid_and_is_taken_over(make):
    backend = make()
    connection = backend.get_connection()
    connection.upgrade()
    save(connection, "a")
    raw(backend, f"DROP TABLE {migrations.VERSION_TABLE}")
    for table in ("flowdetails", "atomdetails"):
        raw(backend, f"DROP INDEX taskflowx_{table}_parent")
    with pytest.raises(exceptions.StorageFailure, match="no version 007 of the layout: it has none"):
        connection.validate()
    connection.upgrade()
    connection.validate()
    assert [detail.name for detail in connection.get_flow_details("f")] == ["a"]


def test_what_a_newer_version_has_upgraded_is_refused(make):
    backend = make()
    connection = backend.get_connection()
    connection.upgrade()
    raw(backend, "UPDATE taskflowx_version SET version_num = '999'")
    with pytest.raises(exceptions.StorageFailure, match="was it upgraded by a newer version of taskflowx"):
        connection.upgrade()
    with pytest.raises(exceptions.StorageFailure, match="of the layout: it has 999"):
        connection.validate()


def test_a_migration_that_fails_leaves_nothing(make, monkeypatch):
    backend = make()
    connection = backend.get_connection()
    with monkeypatch.context() as patch:
        patch.setattr(migrations.alembic.command, "upgrade", fail_half_way)
        with pytest.raises(exceptions.StorageFailure, match="Failed upgrading the database"):
            connection.upgrade()
    assert raw(backend, "SELECT name FROM sqlite_master") == []
    connection.upgrade()
    connection.validate()


def fail_half_way(config, _):
    """Make a table, and fail."""
    config.attributes["connection"].exec_driver_sql("CREATE TABLE logbooks (uuid TEXT)")
    config.attributes["connection"].exec_driver_sql("CREATE TABLE logbooks (uuid TEXT)")


UPGRADE = """
import sys
from taskflowx.persistence import backends
backend = backends.fetch(sys.argv[1])
connection = backend.get_connection()
sys.stdin.read()
connection.upgrade()
connection.validate()
backend.close()
"""


def test_processes_may_upgrade_at_once(path):
    command = [sys.executable, "-W", "error", "-c", UPGRADE, f"sqlite:///{path}"]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        process.stdin.close()
    assert [(process.wait(), process.stderr.read()) for process in processes] == [(0, b"")] * 4
    for process in processes:
        process.stderr.close()


def test_threads_may_upgrade_at_once(make):
    connections = [make().get_connection() for _ in range(4)]
    run_at_once(*(connection.upgrade for connection in connections))
    for connection in connections:
        connection.validate()
        assert list(connection.get_logbooks()) == []


def run_at_once(*calls):
    """Call each in a thread of its own; raises what one of them raises."""
    problems = []
    ready = threading.Barrier(len(calls))

    def work(call):
        ready.wait()
        try:
            call()
        except Exception as error:  # noqa: BLE001 - of whatever kind, it is raised below
            problems.append(error)

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if problems:
        raise problems[0]


# -- transactions ----------------------------------------------------------------------------------------------------


@pytest.fixture
def spoken(connection):
    """Give the statements that SQLite is told from now on, each by its first two words."""
    told: list[str] = []

    def listen(tx):
        drivers.connection_of(tx).set_trace_callback(lambda text: told.append(" ".join(text.split()[:2])))

    connection.backend.transactions.run("", listen)
    told.clear()
    return told


def test_a_step_is_one_transaction_with_a_statement_for_each_atom(connection, spoken):
    made = save(connection, "a", "b", "c")
    a, b, _ = made
    spoken.clear()
    connection.save_changes(made, [a, b])
    begun = ["BEGIN IMMEDIATE", "UPDATE flowdetails"]
    assert spoken == [*begun, "INSERT INTO", "INSERT INTO", "COMMIT"]
    spoken.clear()
    connection.backend.get_connection().save_changes(made, [a])
    assert spoken == ["BEGIN IMMEDIATE", "INSERT INTO", "COMMIT"]  # what the flow is has been written already
    spoken.clear()
    made.meta["new"] = 1
    connection.save_changes(made, [])
    assert spoken == [*begun, "COMMIT"]
    assert connection.get_flow_details("f").meta == {"new": 1}


def test_a_run_is_added_to_its_book_without_a_look_at_the_others(connection, spoken):
    book = models.LogBook("book", "b")
    for name in ("f", "g", "h"):
        added = models.FlowDetail(name, name)
        book.add(added)
        spoken.clear()
        connection.add_flow_details(book, added)
        assert spoken == ["BEGIN IMMEDIATE", "INSERT INTO", "INSERT INTO", "COMMIT"]
    assert [each.name for each in connection.get_logbook("b")] == ["f", "g", "h"]


def test_a_book_that_is_saved_again_writes_what_differs(connection, spoken):
    save(connection, "a", "b")
    book = connection.get_logbook("b")
    book.find("f").find("a").results = "new"
    spoken.clear()
    connection.save_logbook(book)
    writes = [words for words in spoken if not words.startswith(("SELECT", "BEGIN", "COMMIT"))]
    assert writes == ["INSERT INTO", "INSERT INTO", "UPDATE flowdetails", "INSERT INTO"]  # book, version, flow, atom
    spoken.clear()
    connection.save_logbook(book)
    assert [words for words in spoken if not words.startswith(("SELECT", "BEGIN", "COMMIT"))] == ["INSERT INTO"]


def test_a_database_without_versions_is_written_as_before(connection):
    raw(connection.backend, "DROP TABLE taskflowx_runs")  # as TaskFlow leaves it
    made = save(connection, "a")
    other = connection.get_flow_details("f")
    for detail in (made, other):
        detail.meta = {"by": "somebody"}
        connection.update_flow_details(detail)
        connection.update_atom_details(next(iter(detail)))
    made.state = "SUCCESS"
    book = models.LogBook("book", "b")
    book.add(made)
    connection.save_logbook(book)
    assert connection.get_flow_details("f").state == "SUCCESS"


def test_what_others_have_done_to_a_flow_is_written_over(connection):
    made = save(connection, "a")
    made.state = "RUNNING"
    connection.save_changes(made, made)
    other = connection.get_flow_details("f")
    other.state = "SUSPENDED"
    connection.update_flow_details(other)
    connection.save_changes(made, made)
    assert connection.get_flow_details("f").state == "RUNNING"
    book = models.LogBook("book", "b")
    book.add(other)
    connection.save_logbook(book)
    connection.save_changes(made, made)
    assert connection.get_flow_details("f").state == "RUNNING"


def test_the_changes_of_a_flow_that_was_removed_are_refused(connection):
    made = save(connection, "a")
    connection.save_changes(made, made)
    raw(connection.backend, "DELETE FROM atomdetails")  # by another process
    raw(connection.backend, "DELETE FROM flowdetails")
    with pytest.raises(exceptions.NotFound, match=r"^No flow details found with uuid 'f'$"):
        connection.save_changes(made, made)
    assert raw(connection.backend, "SELECT * FROM atomdetails") == []


def test_the_memory_of_what_was_written_is_bounded(connection, monkeypatch):
    monkeypatch.setattr(sql_steps, "MOST_WRITTEN", 2)
    book = models.LogBook("book")
    for name in "abcde":
        book.add(models.FlowDetail(name, name))
    connection.save_logbook(book)
    for detail in book:
        connection.save_changes(detail, [])
    assert len(connection.backend.written) <= 2


def test_times_tell_what_was_added_first(connection):
    names = [f"{n:03}" for n in range(300)]
    made = save(connection, *reversed(names))
    rows = raw(connection.backend, "SELECT name, created_at, updated_at FROM atomdetails ORDER BY created_at")
    assert [name for name, _, _ in rows] == names[::-1]
    assert {updated for _, _, updated in rows} == {None}
    connection.save_changes(made, [made.find("007")])
    ((created, updated),) = raw(
        connection.backend, "SELECT created_at, updated_at FROM atomdetails WHERE updated_at IS NOT NULL"
    )
    assert created < updated
    assert len(created) == len("2026-01-02 03:04:05.123456")


def test_rows_that_say_little_are_read(connection):
    save(connection)
    add = "INSERT INTO atomdetails (uuid, name, parent_uuid, atom_type, results, failure) VALUES (?, ?, 'f', ?, ?, ?)"
    raw(connection.backend, add, "x", "task", "TASK_DETAIL", "null", None)
    raw(connection.backend, add, "y", "retry", "RETRY_DETAIL", None, "null")
    task, retry = (connection.get_atom_details(uuid) for uuid in "xy")
    assert (task.results, task.failure, task.meta, task.intention, task.state) == (None, None, {}, "EXECUTE", None)
    assert (retry.results, retry.failure) == ([], None)
    raw(connection.backend, "INSERT INTO logbooks (uuid, name) VALUES ('z', 'book')")
    assert connection.get_logbook("z").updated_at is None
    raw(connection.backend, add, "w", "odd", "ODD", None, None)
    with pytest.raises(exceptions.StorageFailure, match="Cannot read the details of an atom"):
        connection.get_atom_details("w")
    raw(connection.backend, "UPDATE atomdetails SET results = '{' WHERE uuid = 'x'")
    with pytest.raises(exceptions.StorageFailure, match="it is no JSON"):
        connection.get_atom_details("x")


#: how a record may be damaged: the table, the record, the column, and what is there
DAMAGE = [
    ("atomdetails", "t", "results", "{"),
    ("atomdetails", "t", "meta", "{1}"),
    ("atomdetails", "t", "failure", "7"),
    ("atomdetails", "t", "failure", '{"no": "failure"}'),
    ("atomdetails", "t", "revert_failure", '["x"]'),
    ("atomdetails", "t", "atom_type", "ODD"),
    ("atomdetails", "t", "atom_type", None),
    ("atomdetails", "r", "results", '{"x": 1}'),
    ("atomdetails", "r", "results", "[[1]]"),
    ("atomdetails", "r", "results", '[[1, {"x": 2}]]'),
    ("atomdetails", "t", "name", b"\xff\xfe"),
    ("atomdetails", "t", "results", b"\xff"),
    ("flowdetails", "f", "meta", "nothing"),
    ("flowdetails", "f", "state", b"\xff"),
    ("flowdetails", "f", "name", b"\xff"),
    ("logbooks", "b", "meta", "{]"),
    ("logbooks", "b", "created_at", "yesterday"),
    ("logbooks", "b", "name", b"\xff"),
]


@pytest.mark.parametrize(("table", "uuid", "column", "value"), DAMAGE)
def test_a_damaged_record_is_named_and_does_not_hide_the_others(connection, caplog, table, uuid, column, value):
    for book_uuid, flow_uuids in (("b", ("f", "g")), ("c", ("h",))):
        book = models.LogBook(f"book {book_uuid}", book_uuid)
        for name in flow_uuids:
            made = models.FlowDetail(f"flow {name}", name)
            made.add(models.TaskDetail(f"task of {name}", "t" if name == "f" else f"t-{name}"))
            made.add(models.RetryDetail(f"retry of {name}", "r" if name == "f" else f"r-{name}"))
            book.add(made)
        connection.save_logbook(book)
    given = "CAST(? AS TEXT)" if isinstance(value, bytes) else "?"
    change = f"UPDATE {table} SET {column} = {given} WHERE uuid = ?"  # noqa: S608 - they are named above
    raw(connection.backend, change, value, uuid)
    if table == "logbooks":
        readers, listed = [lambda: connection.get_logbook("b")], ["c"]
    else:
        readers = [lambda: connection.get_flow_details("f"), lambda: connection.get_logbook("b")]
        listed = ["b", "c"]
        assert [each.uuid for each in connection.get_flows_for_book("b")] == ["g"]
    if table == "atomdetails":
        readers.append(lambda: connection.get_atom_details(uuid))
        assert connection.get_flow_details("f", lazy=True).uuid == "f"
    for read in readers:
        with pytest.raises(exceptions.StorageFailure, match=rf"Cannot read what is stored of \w+ '.*' \({uuid}\)"):
            read()
    caplog.clear()
    books = list(connection.get_logbooks())
    assert [book.uuid for book in books] == listed
    assert [[each.uuid for each in book] for book in books] == [["g"], ["h"]][-len(listed) :]
    (message,) = caplog.messages
    assert f"({uuid})" in message
    assert [book.uuid for book in connection.get_logbooks(lazy=True)] == listed


def test_a_database_that_another_process_holds_is_waited_for_and_no_longer(make, path):
    backend = make(connection=f"sqlite:///{path}?timeout=0.01")
    connection = backend.get_connection()
    connection.upgrade()
    made = save(connection, "a")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(exceptions.StorageFailure, match="OperationalError: database is locked") as raised:
            connection.save_changes(made, made)
        assert isinstance(raised.value.cause, sqlite3.OperationalError)
        assert len(connection.get_flow_details("f")) == 1  # who only reads does not wait
        other.execute("COMMIT")
    connection.save_changes(made, made)


def test_a_connection_may_be_used_by_many_threads(connection):
    details = [models.FlowDetail(f"f{n}", f"f{n}") for n in range(6)]
    book = models.LogBook("book", "b")
    for detail in details:
        book.add(detail)
        detail.add(models.TaskDetail("task", f"t-{detail.name}"))
    connection.save_logbook(book)

    def work(detail):
        (task,) = detail
        for turn in range(20):
            task.put("SUCCESS", turn)
            connection.save_changes(detail, [task])
            assert connection.get_atom_details(task.uuid).results == turn

    run_at_once(*(lambda detail=detail: work(detail) for detail in details))
    assert {task.results for detail in connection.get_logbook("b") for task in detail} == {19}


FORK = """
import os, sys
from taskflowx.persistence import backends
backend = backends.fetch(sys.argv[1])
connection = backend.get_connection()
flow = connection.get_flow_details("f")
a, b = flow
pool = backend.engine.pool
child = os.fork()
mine = a if child else b
mine.results = "parent" if child else "child"
connection.save_changes(flow, [mine])
assert (backend.engine.pool is pool) == bool(child)
if child:
    assert os.waitpid(child, 0)[1] == 0
    connection.save_changes(flow, [a])
    backend.close()
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_process_that_was_forked_does_not_use_its_parents_connections(connection, path):
    save(connection, "a", "b")
    # In an interpreter of its own: what other tests have imported may warn of any fork.
    subprocess.run([sys.executable, "-c", FORK, f"sqlite:///{path}"], check=True, timeout=50)
    assert [detail.results for detail in connection.get_flow_details("f")] == ["parent", "child"]


# -- a database that goes away ---------------------------------------------------------------------------------------


class Flaky(sqlite3.Connection):
    """Fails as it is told: `fails` maps what is done to the errors that it raises, one at a time."""

    fails: dict[str, list[Exception]]

    def commit(self):
        super().commit()
        self.fail("commit")

    def cursor(self, factory=None):
        self.fail("cursor")
        return super().cursor()

    def fail(self, what):
        if self.fails.get(what):
            raise self.fails[what].pop(0)


def gone():
    """Make the error of a connection that is lost."""
    return sqlite3.OperationalError("gone")


@pytest.fixture
def flaky(make, monkeypatch):
    """Give a function that makes a connection to a store that fails, and what it fails with."""
    monkeypatch.setattr(sql_transactions, "_FIRST_WAIT", 0)
    monkeypatch.setattr(Flaky, "fails", {}, raising=False)

    def made(**conf):
        backend = make(engine_args={"connect_args": {"factory": Flaky}}, **conf)
        backend.engine.dialect.is_disconnect = lambda error, *_: "gone" in str(error)
        connection = backend.get_connection()
        connection.upgrade()
        return connection, Flaky.fails

    return made


def test_a_transaction_is_run_again_when_the_database_was_lost(flaky):
    connection, fails = flaky()
    made = save(connection, "a")
    pool = connection.backend.engine.pool
    fails["cursor"] = [gone(), gone()]
    connection.save_changes(made, made)
    assert fails["cursor"] == []
    assert connection.backend.engine.pool is not pool  # the others that it held were as old
    fails["commit"] = [gone()]
    connection.save_changes(made, made)
    assert fails["commit"] == []


@pytest.mark.parametrize("retries", [0, 2])
def test_a_database_that_stays_lost_is_an_error(flaky, retries):
    connection, fails = flaky(max_retries=retries)
    made = save(connection, "a")
    fails["cursor"] = [gone() for _ in range(10)]
    with pytest.raises(exceptions.StorageFailure, match=r"^Failed saving flow details with uuid 'f'\n.*Error: gone$"):
        connection.save_changes(made, made)
    assert len(fails["cursor"]) == 10 - 1 - retries
    fails.clear()
    connection.save_changes(made, made)


def test_a_deadlock_is_tried_again(flaky):
    connection, fails = flaky(max_retries=1)
    made = save(connection, "a")
    fails["cursor"] = [sqlite3.OperationalError(1213, "deadlock")]
    connection.save_changes(made, made)
    assert fails["cursor"] == []
    fails["cursor"] = [sqlite3.OperationalError(1, "anything else")]
    with pytest.raises(exceptions.StorageFailure, match="anything else"):
        connection.save_changes(made, made)


def test_what_may_have_been_done_is_not_done_again_if_that_would_fail(flaky):
    connection, fails = flaky()
    save(connection, "a")
    fails["commit"] = [gone()]
    with pytest.raises(exceptions.StorageFailure, match="Failed destroying logbook 'b'"):
        connection.destroy_logbook("b")
    with pytest.raises(exceptions.NotFound):
        connection.get_logbook("b")
    save(connection, "a")
    fails["cursor"] = [gone()]
    connection.destroy_logbook("b")  # it cannot have been done
    assert list(connection.get_logbooks()) == []


def test_a_transaction_that_is_broken_off_leaves_nothing(connection):
    save(connection, "a")

    def work(tx):
        tx.run("DELETE FROM atomdetails")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        connection.backend.transactions.run("", work)
    assert len(connection.get_flow_details("f")) == 1
    save(connection, "a")  # nothing is locked


def test_validate_tries_as_often_as_it_is_told(flaky):
    connection, fails = flaky()
    fails["cursor"] = [gone(), gone()]
    with pytest.raises(exceptions.StorageFailure, match="Failed validating the database"):
        connection.validate()
    assert fails["cursor"] == [fails["cursor"][0]]
    fails["cursor"] = [gone(), gone()]
    connection.validate(max_retries=2)


@pytest.mark.leaves("the captured log has the error of the disk, and that the connection")
def test_what_was_not_saved_is_named_and_the_run_goes_on_when_the_disk_has_room_again(make):
    backend, ran = make(engine_args={"poolclass": StaticPool}), []
    connection = backend.get_connection()
    connection.upgrade()

    def room(pages):
        backend.transactions.run("", lambda tx: tx.rows(f"PRAGMA max_page_count = {pages}"))

    class Step(task.Task):
        def execute(self):
            ran.append(self.name)
            if self.name == "b":
                room(1)  # no more pages than there are
            return self.name * 100_000

    flow = linear_flow.Flow("f").add(*(Step(name) for name in "abc"))
    engine = engines.load(flow, backend=backend, commit_timeout=0.2)
    for _ in range(2):
        with pytest.raises(exceptions.StorageFailure, match=r"(?s)'b'.*database or disk is full"):
            engine.run()
    room(1_000_000)
    engine.run()
    assert ran == ["a", "b", "c"]
    record = connection.get_flow_details(engine.storage.flow_uuid)
    assert record.state == "SUCCESS"
    assert [detail.results for detail in record] == [name * 100_000 for name in "abc"]
