"""What only a database server does: it has limits of its own, drops connections, and is used by many at once."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa

from taskflowx import exceptions
from taskflowx.persistence import backends, models
from taskflowx.persistence.backends import sql_units
from tests.services import addresses

SERVICES = [addresses.POSTGRESQL, addresses.MARIADB]


@pytest.fixture(params=SERVICES, ids=lambda service: service.name)
def service(request):
    """Give a server."""
    if reason := request.param.lacks():
        pytest.skip(reason)
    return request.param


@pytest.fixture
def address(service):
    """Give the address of an empty database."""
    return addresses.new_database(service)


@pytest.fixture
def make(address):
    """Give a function that makes connections, whose stores are closed at the end."""
    with contextlib.ExitStack() as stack:

        def made(**conf):
            backend = stack.enter_context(contextlib.closing(backends.fetch({"connection": address, **conf})))
            return backend.get_connection()

        yield made


@pytest.fixture
def connection(make):
    """Give a connection to a database that has been made ready."""
    made = make()
    made.upgrade()
    return made


def save(connection, *names):
    """Save a book with a flow with some tasks; returns the flow."""
    flow = models.FlowDetail("flow", "f")
    for name in names:
        flow.add(models.TaskDetail(name, f"uuid-{len(flow)}"))
    book = models.LogBook("book", "b")
    book.add(flow)
    connection.save_logbook(book)
    return flow


def drop_connections(address):
    """Let the server end every connection to a database but the one that asks for it."""
    engine = sa.create_engine(addresses.through(address), isolation_level="AUTOCOMMIT", poolclass=sa.NullPool)
    with engine.connect() as own:
        if engine.dialect.name == "postgresql":
            own.exec_driver_sql(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
            return
        others = "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
        for (number,) in own.exec_driver_sql(others).fetchall():
            own.exec_driver_sql(f"KILL {number}")


def test_connections_that_the_server_has_dropped_are_replaced(address, connection, monkeypatch):
    monkeypatch.setattr(sql_units, "_FIRST_WAIT", 0)
    made = save(connection, "a")
    (a,) = made
    for write in (
        lambda: connection.save_changes(made, [a]),
        lambda: connection.update_atom_details(a),
        lambda: connection.save_logbook(models.LogBook("other")),
        lambda: connection.destroy_logbook("b"),
    ):
        drop_connections(address)
        write()
    drop_connections(address)
    assert [book.name for book in connection.get_logbooks()] == ["other"]


def test_without_retries_a_dropped_connection_is_an_error_and_the_next_one_works(address, make):
    connection = make(max_retries=0)
    connection.upgrade()
    made = save(connection, "a")
    drop_connections(address)
    with pytest.raises(exceptions.StorageFailure, match=r"^Failed saving flow details with uuid 'f'\n"):
        connection.save_changes(made, made)
    connection.save_changes(made, made)


def test_a_connection_that_is_asked_first_whether_it_lives_is_replaced_at_once(address, make):
    connection = make(max_retries=0, checkout_ping=True)
    connection.upgrade()
    made = save(connection, "a")
    drop_connections(address)
    connection.save_changes(made, made)


def test_a_server_that_is_not_there_is_an_error(service, address):
    gone = sa.make_url(address).set(port=1).render_as_string(hide_password=False)
    with contextlib.closing(backends.fetch({"connection": gone, "max_retries": 0})) as backend:
        connection = backend.get_connection()
        for use in (connection.validate, connection.upgrade, lambda: connection.get_logbook("b")):
            with pytest.raises(exceptions.StorageFailure, match="OperationalError"):
                use()


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


def test_processes_may_upgrade_at_once(address):
    command = [sys.executable, "-W", "error", "-c", UPGRADE, address]
    processes = [subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(4)]
    for process in processes:
        process.stdin.close()
    assert [(process.wait(), process.stderr.read()) for process in processes] == [(0, b"")] * 4
    for process in processes:
        process.stderr.close()


def test_processes_that_add_the_same_book_at_once_leave_one(address, connection):
    second = connection.backend.get_connection()
    results = []

    def work(mine):
        try:
            save(mine, *(f"task {n}" for n in range(50)))
            results.append("saved")
        except exceptions.Duplicate:
            results.append("refused")

    threads = [threading.Thread(target=work, args=(mine,)) for mine in (connection, second)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert "saved" in results
    assert len(connection.get_flow_details("f")) == 50


def test_text_that_a_column_cannot_hold_is_refused_and_nothing_is_cut(connection):
    made = save(connection, "a")
    (a,) = made
    a.state = "x" * 256
    for write in (lambda: connection.save_changes(made, [a]), lambda: connection.update_atom_details(a)):
        with pytest.raises(exceptions.StorageFailure, match=r"(?i)too long"):
            write()
    assert connection.get_atom_details(a.uuid).state is None
    a.state, a.intention = "SUCCESS", "NONE OF THESE"
    with pytest.raises(exceptions.StorageFailure, match="intention"):
        connection.save_changes(made, [a])
    assert connection.get_atom_details(a.uuid).intention == "EXECUTE"


def test_large_values_are_stored_as_a_whole(connection):
    made = save(connection, *(f"task {n}" for n in range(20)))
    for n, detail in enumerate(made):
        detail.results = chr(ord("a") + n) * (70_000 * (n + 1)) + "\"\\'%s"
        detail.revert_results = ["y" * 70_000]
    made.meta = {"large": "z" * 70_000}
    connection.save_changes(made, made)
    read = connection.get_flow_details("f")
    assert [detail.results for detail in read] == [detail.results for detail in made]
    assert read.meta == made.meta


def test_what_exceeds_a_statement_of_mariadb_is_refused_before_it_is_sent(connection):
    if connection.backend.family != "mysql":
        pytest.skip("PostgreSQL takes a gigabyte")
    limit = connection.backend.units.run("", lambda unit: unit.rows("SELECT @@max_allowed_packet"))[0][0]
    made = save(connection, "small", "large")
    small, large = made
    small.results = 1
    for text in ("x" * limit, '"' * (limit // 3)):  # what has to be escaped counts twice
        large.results = text
        for write in (lambda: connection.save_changes(made, made), lambda: connection.update_atom_details(large)):
            with pytest.raises(exceptions.StorageFailure, match=r"^Cannot store 'large': with \d.*max_allowed_packet"):
                write()
        assert [detail.results for detail in connection.get_flow_details("f")] == [None, None]
    made.meta = {"m": "x" * limit}
    with pytest.raises(exceptions.StorageFailure, match=r"^Cannot store the metadata: with"):
        connection.save_changes(made, [])
    made.meta = {}
    large.results = "x" * (limit - 10_000)
    connection.save_changes(made, made)
    assert len(connection.get_atom_details(large.uuid).results) == limit - 10_000


def test_many_rows_go_in_few_statements(address, connection):
    if connection.backend.family != "mysql":
        pytest.skip("psycopg sends them without waiting for an answer to each")
    made = save(connection, *(f"task {n}" for n in range(64)))

    def questions(unit):
        return int(unit.rows("SHOW SESSION STATUS LIKE 'Questions'")[0][1])

    units = connection.backend.units
    connection.save_changes(made, made)
    before = units.run("", questions)
    idle = units.run("", questions) - before
    connection.save_changes(made, made)
    assert units.run("", questions) - before - 2 * idle <= 3  # one INSERT, the COMMIT, and what the driver asks


def test_psycopg2_can_be_used_as_well(service, address):
    if service is not addresses.POSTGRESQL:
        pytest.skip("it talks to PostgreSQL")
    pytest.importorskip("psycopg2")
    named = sa.make_url(address).set(drivername="postgresql+psycopg2").render_as_string(hide_password=False)
    with contextlib.closing(backends.fetch(named)) as backend:
        connection = backend.get_connection()
        connection.upgrade()
        connection.validate()
        made = save(connection, "a", "b")
        for detail in made:
            detail.put("SUCCESS", {"text": "ü%s"})
        connection.save_changes(made, made)
        assert [detail.results for detail in connection.get_flow_details("f")] == [{"text": "ü%s"}] * 2
        other = models.LogBook("other")
        other.add(models.FlowDetail("flow", "f"))
        with pytest.raises(exceptions.Duplicate):
            connection.save_logbook(other)
