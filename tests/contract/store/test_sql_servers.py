"""What only a database server does: it has limits of its own, drops connections, and is used by many at once."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import threading

import pytest
import sqlalchemy as sa

from taskflowx import exceptions, states
from taskflowx.persistence import backends, models, owners
from taskflowx.persistence.backends import sql_transaction, sql_transactions
from tests.services import addresses
from tests.support import drivers

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
    monkeypatch.setattr(sql_transactions, "_FIRST_WAIT", 0)
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
    assert [detail.name for detail in connection.get_flow_details("f")] == [detail.name for detail in made]


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
    limit = connection.backend.transactions.run("", lambda tx: tx.rows("SELECT @@max_allowed_packet"))[0][0]
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

    def questions(tx):
        return int(tx.rows("SHOW SESSION STATUS LIKE 'Questions'")[0][1])

    transactions = connection.backend.transactions
    connection.save_changes(made, made)
    before = transactions.run("", questions)
    idle = transactions.run("", questions) - before
    connection.save_changes(made, made)
    assert transactions.run("", questions) - before - 2 * idle <= 3  # one INSERT, the COMMIT, and what the driver asks


def step(connection, value):
    """Write two steps of a run, of which the second one writes nothing of the flow itself; returns flow and owner."""
    flow, owner = save(connection, "a", "b"), owners.Owner()
    owner.running, flow.state = True, states.RUNNING
    for results in ("before", value):
        for atom in flow:
            atom.results = results
        connection.save_changes(flow, list(flow), owner)
    return flow, owner


def check_transactions(connection):
    """See that what fails half way leaves nothing."""

    def work(tx):
        tx.run("UPDATE atomdetails SET name = 'changed'")
        raise exceptions.NotFound("the other half")

    with pytest.raises(exceptions.NotFound):
        connection.backend.transactions.run("", work)
    assert [atom.name for atom in connection.get_flow_details("f")] == ["a", "b"]


def test_a_step_that_others_have_overtaken_leaves_nothing_and_what_follows_is_a_transaction_again(connection):
    flow, owner = step(connection, "mine")
    tx = connection.backend.transactions.run
    tx("", lambda tx: tx.run("UPDATE taskflowx_runs SET version = version + 1, owner = 'other'"))
    for atom in flow:
        atom.results = "late"
    with pytest.raises(exceptions.OwnershipFailure):
        connection.save_changes(flow, list(flow), owner)
    assert [atom.results for atom in connection.get_flow_details("f")] == ["mine", "mine"]
    check_transactions(connection)


def test_after_a_step_that_the_server_refuses_what_follows_is_a_transaction_again(connection):
    flow, owner = step(connection, "mine")
    never = "ALTER TABLE atomdetails ADD CONSTRAINT never CHECK (state <> 'REVERTED')"
    connection.backend.transactions.run("", lambda tx: tx.run(never))
    first, _ = flow
    first.state = states.REVERTED
    with pytest.raises(exceptions.Unstorable):
        connection.save_changes(flow, [first], owner)
    check_transactions(connection)
    first.state = states.SUCCESS
    connection.save_changes(flow, [first], owner)
    assert connection.get_atom_details(first.uuid).state == states.SUCCESS


def test_a_step_on_postgresql_is_one_statement_that_needs_no_commit(connection, monkeypatch):
    if connection.backend.family != "postgresql":
        pytest.skip("of PostgreSQL alone a statement may change two tables")
    flow, owner = step(connection, "mine")
    sent = []
    for name in ("run", "rows", "many"):
        method = getattr(sql_transaction.StoreTransaction, name)
        monkeypatch.setattr(
            sql_transaction.StoreTransaction,
            name,
            lambda tx, *given, m=method: (sent.append(given[0]), m(tx, *given))[1],
        )
    statuses = []
    commit = sql_transaction.StoreTransaction.commit

    def noted(tx):
        statuses.append(drivers.connection_of(tx).info.transaction_status.name)
        return commit(tx)

    monkeypatch.setattr(sql_transaction.StoreTransaction, "commit", noted)
    connection.save_changes(flow, list(flow), owner)
    assert (len(sent), statuses) == (1, ["IDLE"])


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
        connection.destroy_logbook("b")
        step(connection, "mine")
        assert [detail.results for detail in connection.get_flow_details("f")] == ["mine", "mine"]
        check_transactions(connection)


# -- names -------------------------------------------------------------------------------------------------------------

#: each differs from the others, however little
ALIKE = ["Order-A", "order-a", "order-a ", "order-\u00e1", "ORDER-A"]


def save_alike(connection):
    for name in ALIKE:
        flow = models.FlowDetail(name, name)
        flow.add(models.TaskDetail(name, name))
        book = models.LogBook(name, name)
        book.meta["name"] = flow.meta["name"] = name
        book.add(flow)
        connection.add_flow_details(book, flow)
        connection.save_changes(flow, list(flow), owners.Owner())


def check_alike(connection):
    assert sorted(book.uuid for book in connection.get_logbooks()) == sorted(ALIKE)
    for name in ALIKE:
        book = connection.get_logbook(name)
        assert [book.meta["name"], *(flow.meta["name"] for flow in book)] == [name, name]
        assert connection.get_atom_details(name).name == name
        assert owners.count_of(connection.get_flow_details(name).revision) == 1
    with pytest.raises(exceptions.NotFound):
        connection.get_logbook("Order-a")


def test_names_that_differ_little_are_different_names(connection):
    save_alike(connection)
    check_alike(connection)
    connection.destroy_logbook("order-a")
    assert len(list(connection.get_logbooks())) == len(ALIKE) - 1


LINK = "ALTER TABLE {} ADD FOREIGN KEY (parent_uuid) REFERENCES {} (uuid) ON DELETE CASCADE"


@pytest.mark.parametrize("cut_off", [False, True], ids=["whole", "after an upgrade that was cut off"])
def test_a_mariadb_store_of_before_compares_names_exactly_when_it_is_upgraded(make, cut_off):
    connection = make()
    if connection.backend.family != "mysql":
        pytest.skip("other databases have always done so")
    connection.upgrade()
    flow = save(connection, "a")
    connection.save_changes(flow, [], owners.Owner())
    usual = "CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci"
    with connection.backend.engine.connect() as raw:
        for statement in (
            "ALTER TABLE flowdetails DROP FOREIGN KEY flowdetails_ibfk_1",
            "ALTER TABLE atomdetails DROP FOREIGN KEY atomdetails_ibfk_1",
            *(f"ALTER TABLE {table} CONVERT TO {usual}" for table in ("logbooks", "flowdetails", "atomdetails")),
            f"ALTER TABLE taskflowx_runs CONVERT TO {usual}",
            *(() if cut_off else map(LINK.format, ("flowdetails", "atomdetails"), ("logbooks", "flowdetails"))),
            "UPDATE taskflowx_version SET version_num = '002'",
        ):
            raw.exec_driver_sql(statement)
        raw.commit()
    with pytest.raises(exceptions.StorageFailure, match="no version 007 of the layout"):
        connection.validate()
    connection.upgrade()
    connection.validate()
    assert connection.get_flow_details("f").revision == flow.revision
    inspector = sa.inspect(connection.backend.engine)
    for table, parent in (("flowdetails", "logbooks"), ("atomdetails", "flowdetails")):
        (key,) = inspector.get_foreign_keys(table)
        assert (key["referred_table"], key["options"]["ondelete"]) == (parent, "CASCADE")
    connection.destroy_logbook("b")
    save_alike(connection)
    check_alike(connection)


# -- what a server refuses ---------------------------------------------------------------------------------------------


def long_names(connection):
    """Give details that each have one name that is too long, and the words for it."""
    book, flow, atom = models.LogBook("b"), models.FlowDetail("f", "f"), models.TaskDetail("t")
    yield models.LogBook("n" * 256), "name 'nnn.*of book"
    yield models.LogBook("b", "u" * 65), "uuid 'uuu.*of book"
    for name, detail in (
        ("name 'nnn.*of flow", models.FlowDetail("n" * 256, "f")),
        ("uuid 'uuu", models.FlowDetail("f", "u" * 65)),
    ):
        other = models.LogBook("b")
        other.add(detail)
        yield other, name
    atom.version = "1." + "0" * 63
    flow.add(atom)
    book.add(flow)
    yield book, "version '1.000.*of atom 't'"


def test_names_that_are_too_long_are_refused_before_anything_is_written(connection):
    for book, words in long_names(connection):
        with pytest.raises(
            exceptions.Unstorable, match=rf"^Cannot store the {words}.* too long, with \d+ characters: .* \d+"
        ):
            connection.save_logbook(book)
    assert list(connection.get_logbooks()) == []


@pytest.mark.parametrize("name", ["caf\udce9", "a\0b", "x" * 255, "\U0001f388" * 255])
def test_a_name_is_kept_or_refused_with_itself(connection, name):
    try:
        flow = save(connection, name)
    except exceptions.Unstorable as refused:
        assert ascii(name)[:4] in str(refused)  # noqa: PT017 - either is right
        assert list(connection.get_logbooks()) == []
    else:
        assert [atom.name for atom in connection.get_flow_details(flow.uuid)] == [name]


VALUES = [
    float("nan"),
    {"a": [float("-inf")]},
    "\0",
    {"\0": "\ud800"},
    "NaN",
    ["Infinity", 1e308],
    2**4000,
    "x" * 1_000_000,
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_value_that_is_not_refused_when_it_is_checked_is_stored(connection, value):
    made = save(connection, "a")
    (a,) = made
    a.results = value
    try:
        connection.backend.check_value(value, "result of atom 'a'")
    except exceptions.Unstorable as refused:
        assert str(refused).startswith("Cannot store result of atom 'a': ")  # noqa: PT017 - either is right
        with pytest.raises(exceptions.Unstorable):
            connection.save_changes(made, [a])
    else:
        connection.save_changes(made, [a])
        assert repr(connection.get_atom_details(a.uuid).results) == repr(value)


def test_values_are_checked_without_asking_the_server_each_time(make, address, monkeypatch):
    connection = make()
    connection.upgrade()
    backend, asked = connection.backend, []
    run = backend.transactions.run
    monkeypatch.setattr(backend.transactions, "run", lambda *args, **more: asked.append(args) or run(*args, **more))
    for _ in range(3):
        backend.check_value("x" * 100_000, "a value")
    assert len(asked) <= 1


def test_what_does_not_fit_into_a_statement_or_a_column_is_refused_when_it_is_checked(connection):
    if connection.backend.family != "mysql":
        pytest.skip("PostgreSQL takes a gigabyte")
    limit = connection.backend.transactions.run("", lambda tx: tx.rows("SELECT @@max_allowed_packet"))[0][0]
    for value in ("x" * limit, '"' * (limit // 3)):
        with pytest.raises(exceptions.Unstorable, match="max_allowed_packet"):
            connection.backend.check_value(value, "a value")
    with connection.backend.engine.connect() as raw:  # as TaskFlow makes them
        raw.exec_driver_sql("ALTER TABLE atomdetails MODIFY results TEXT")
    with contextlib.closing(
        backends.fetch(connection.backend.engine.url.render_as_string(hide_password=False))
    ) as again:
        again.check_value("x" * 65_000, "a value")
        with pytest.raises(exceptions.Unstorable, match="its column in the database takes 65,535"):
            again.check_value("x" * 66_000, "a value")


def test_numbers_that_are_none_are_stored_in_columns_of_json(connection):
    made = save(connection, "a")
    (a,) = made
    a.results = {"loss": float("nan")}
    connection.save_changes(made, [a])
    assert repr(connection.get_atom_details(a.uuid).results) == "{'loss': nan}"


def test_errors_of_the_data_are_final_and_those_of_the_server_may_pass(connection):
    made = save(connection, "a")
    (a,) = made
    a.intention = "NONE OF THESE"
    with pytest.raises(exceptions.Unstorable) as raised:
        connection.save_changes(made, [a])
    assert not raised.value.may_pass
    transactions = connection.backend.transactions
    with pytest.raises(exceptions.StorageFailure) as raised:
        transactions.run("", lambda tx: tx.rows("SELECT nothing FROM atomdetails"))
    assert not raised.value.may_pass
    assert not isinstance(raised.value, exceptions.Unstorable)
    busy = "SET LOCAL statement_timeout = 50; SELECT pg_sleep(5)"
    if connection.backend.family == "mysql":
        tables = ", ".join(f"information_schema.columns {name}" for name in "abc")
        busy = f"SET STATEMENT max_statement_time = 0.05 FOR SELECT * FROM {tables}"  # noqa: S608 - as above
    with pytest.raises(exceptions.StorageFailure) as raised:
        transactions.run("", lambda tx: tx.rows(busy))
    assert raised.value.may_pass


def test_many_add_runs_to_one_book_that_is_not_there_yet(address, make):
    make().upgrade()
    command = [sys.executable, "-W", "error", "-c", ADD, address]
    processes = [subprocess.Popen([*command, str(n)], stdin=subprocess.PIPE, stderr=subprocess.PIPE) for n in range(4)]
    for process in processes:
        process.stdin.close()
    assert [(process.wait(), process.stderr.read()) for process in processes] == [(0, b"")] * 4
    for process in processes:
        process.stderr.close()
    assert len(make().get_logbook("b")) == 40


ADD = """
import sys
from taskflowx.persistence import backends, models
backend = backends.fetch(sys.argv[1])
connection = backend.get_connection()
sys.stdin.read()
for number in range(10):
    book, flow = models.LogBook("book", "b"), models.FlowDetail("flow", f"{sys.argv[2]}-{number}")
    book.add(flow)
    connection.add_flow_details(book, flow)
backend.close()
"""
