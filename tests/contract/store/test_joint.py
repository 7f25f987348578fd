"""Tasks that write rows of their own in the transaction of their step: what they get, and what is refused."""

from __future__ import annotations

import contextlib
import threading
import time

import pytest
import sqlalchemy as sa
from sqlalchemy import orm

import taskflowx
from taskflowx import as_task, engines, exceptions, linear, retry, states, task, testing
from taskflowx._util import failpoints
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models, owners
from taskflowx.persistence.backends import sql_transactions
from tests.contract.store import faults
from tests.crash import ledger
from tests.services import addresses

SERVERS = {"postgresql": addresses.POSTGRESQL, "mariadb": addresses.MARIADB}


@pytest.fixture(params=["sqlite", *SERVERS])
def address(request, tmp_path):
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'runs.db'}"
    if reason := SERVERS[request.param].lacks():
        pytest.skip(reason)
    return addresses.new_database(SERVERS[request.param])


@pytest.fixture
def store(address):
    ledger.make_table(address)
    with backends.backend(address) as backend:
        yield backend


@pytest.fixture
def sqlite(tmp_path):
    address = f"sqlite:///{tmp_path / 'runs.db'}"
    ledger.make_table(address)
    with backends.backend(address) as backend:
        yield backend


def rows(backend):
    with backend.engine.connect() as connection:
        return sorted(connection.execute(sa.text("SELECT name FROM ledger")).scalars())


def enter(transaction, name):
    transaction.execute(sa.text("INSERT INTO ledger (name) VALUES (:n)"), {"n": name})


def recorded(backend, engine):
    with contextlib.closing(backend.get_connection()) as connection:
        return {one.name: one.state for one in connection.get_flow_details(engine.storage.flow_uuid)}


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_rows_are_there_once_the_task_has_succeeded(store, executor):
    @as_task(provides="id", rebind={"connection": "transaction"})
    def first(connection, name):
        enter(connection, name)
        return 17

    @as_task
    def second(id, transaction):
        enter(transaction, str(id))

    assert taskflowx.run(linear("f", first, second), {"name": "x"}, backend=store, executor=executor)["id"] == 17
    assert rows(store) == ["17", "x"]


def test_a_run_with_an_id_takes_one_too(store, tmp_path):
    @as_task
    def enters(transaction):
        enter(transaction, "x")

    for _ in range(2):
        taskflowx.run(linear("f", enters), backend=store, run_id="one")
    assert rows(store) == ["x"]
    with pytest.raises(exceptions.CompilationFailure, match="DirBackend has no transactions"):
        taskflowx.run(linear("f", enters), backend=f"dir://{tmp_path}/runs", run_id="one")


def test_rows_of_a_task_that_fails_are_rolled_back(store):
    @as_task
    def fails(transaction):
        enter(transaction, "x")
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        taskflowx.run(fails, backend=store)
    assert rows(store) == []


def test_a_revert_that_asks_writes_in_the_transaction_of_its_step(store):
    flow = linear_flow.Flow("f", retry.Times(2)).add(ledger.Enter("a"), ledger.Fail(1))
    engine = engines.load(flow, backend=store)
    engine.run()
    assert rows(store) == ["a"]
    flow = linear_flow.Flow("g").add(ledger.Enter("b"), ledger.Fail(ledger.ALWAYS))
    with pytest.raises(OSError, match="fail"):
        engines.load(flow, backend=store).run()
    assert rows(store) == ["a"]


@pytest.mark.parametrize("ends", ["commit", "rollback"])
def test_a_task_cannot_end_its_transaction(store, ends):
    refused = []

    @as_task
    def ends_it(transaction):
        enter(transaction, "x")
        with pytest.raises(exceptions.InvalidState, match="begin_nested") as caught:
            getattr(transaction, ends)()
        refused.append(caught)
        raise OSError("given up")

    with pytest.raises(OSError, match="given up"):
        taskflowx.run(ends_it, backend=store)
    assert refused
    assert rows(store) == []


def test_a_task_that_swallows_the_refusal_to_commit_can_write_no_more(store):
    @as_task
    def tries(transaction):
        enter(transaction, "x")
        with contextlib.suppress(exceptions.InvalidState):
            transaction.commit()
        enter(transaction, "y")

    with pytest.raises(sa.exc.PendingRollbackError):
        taskflowx.run(tries, backend=store)
    assert rows(store) == []


def test_a_statement_that_has_ended_the_transaction_fails_the_task(store):
    @as_task
    def ends_it(transaction):
        transaction.exec_driver_sql("ROLLBACK")
        enter(transaction, "x")

    with pytest.raises(exceptions.StorageFailure, match="is over, or spoiled"):
        taskflowx.run(ends_it, backend=store)
    assert rows(store) == []


def test_a_part_may_be_rolled_back_to_a_savepoint_and_sessions_join(store):
    class Base(orm.DeclarativeBase):
        pass

    class Entry(Base):
        __tablename__ = "ledger"
        name: orm.Mapped[str] = orm.mapped_column(sa.String(64), primary_key=True)

    @as_task
    def writes(transaction):
        with contextlib.suppress(sa.exc.DBAPIError), transaction.begin_nested():
            enter(transaction, "lost")
            transaction.execute(sa.text("INSERT INTO no_such_table VALUES (1)"))
        with orm.Session(bind=transaction) as mapped:
            mapped.add(Entry(name="kept"))
            mapped.commit()

    taskflowx.run(writes, backend=store)
    assert rows(store) == ["kept"]


def test_what_the_database_refuses_in_the_end_fails_the_task(store):
    """As rows that break a constraint which is checked at the end of a transaction do."""

    @as_task
    def spoils(transaction):
        with contextlib.suppress(sa.exc.DBAPIError):
            transaction.execute(sa.text("INSERT INTO no_such_table VALUES (1)"))
        enter(transaction, "x")

    if store.family != "postgresql":
        taskflowx.run(spoils, backend=store)
        assert rows(store) == ["x"]
        return
    with pytest.raises(sa.exc.InternalError):
        taskflowx.run(spoils, backend=store)

    with store.engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE other (name VARCHAR(9) UNIQUE DEFERRABLE INITIALLY DEFERRED)"))

    @as_task
    def twice(transaction):
        for _ in range(2):
            transaction.execute(sa.text("INSERT INTO other VALUES ('x')"))

    with pytest.raises(exceptions.StorageFailure, match="duplicate key"):
        taskflowx.run(twice, backend=store)
    with store.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT * FROM other")).all() == []


def test_a_value_of_that_name_goes_first_and_an_optional_one_is_not_given():
    @as_task(provides="got")
    def takes(transaction):
        return transaction

    @as_task(provides="other")
    def may_take(transaction=None):
        return transaction

    assert taskflowx.run(linear("f", takes), {"transaction": 5})["got"] == 5
    assert taskflowx.run(may_take)["other"] is None


def no_where(**options):
    @as_task
    def takes(transaction):
        raise AssertionError

    with pytest.raises(exceptions.CompilationFailure) as caught:
        taskflowx.run(linear("f", takes), **options)
    assert "'takes' takes 'transaction'" in str(caught.value)
    return str(caught.value)


def test_it_is_refused_before_the_run_where_there_is_none(sqlite, tmp_path):
    assert "lives in memory: use a SQL store" in no_where()
    assert "DirBackend has no transactions" in no_where(backend=f"dir://{tmp_path}")
    assert "makes calls in other processes: use 'serial'" in no_where(backend=sqlite, executor="processes")


def test_a_coroutine_function_is_refused(sqlite):
    @as_task
    async def takes(transaction):
        raise AssertionError

    with pytest.raises(exceptions.CompilationFailure, match="use a plain function"):
        taskflowx.run(takes, backend=sqlite, executor="asyncio")


def test_a_database_that_commits_each_statement_is_refused():
    if reason := addresses.POSTGRESQL.lacks():
        pytest.skip(reason)
    settings = {"connection": addresses.new_database(addresses.POSTGRESQL), "isolation_level": "AUTOCOMMIT"}
    with backends.backend(settings) as backend:
        assert "AUTOCOMMIT" in no_where(backend=backend)


def test_the_record_can_be_read_and_written_by_other_threads_meanwhile(store):
    """A thread that writes to the record waits for the task where the store has one writer, and not for ever."""
    began, helped = threading.Event(), threading.Event()

    class Slow(task.Task):
        def execute(self, transaction):
            enter(transaction, "x")
            began.set()
            helper = threading.Thread(target=self.help)
            helper.start()
            helper.join()

        def help(self):
            assert engine.storage.get_flow_state() == states.RUNNING
            self.update_progress(0.5)
            helped.set()

    def annotate():
        began.wait()
        engine.storage.update_flow_metadata({"noted": True})

    engine = engines.load(linear_flow.Flow("f").add(Slow("slow")), backend=store)
    other = threading.Thread(target=annotate)
    other.start()
    engine.run()
    other.join()
    assert helped.is_set()
    assert rows(store) == ["x"]
    assert engine.storage.fetch_all() == {}
    with contextlib.closing(store.get_connection()) as connection:
        assert connection.get_flow_details(engine.storage.flow_uuid).meta["noted"] is True


def test_the_thread_of_the_task_is_refused_a_write_that_it_would_wait_for(sqlite):
    class Writes(task.Task):
        def execute(self, transaction):
            engine.storage.update_flow_metadata({"noted": True})

    engine = engines.load(linear_flow.Flow("f").add(Writes("writes")), backend=sqlite)
    with pytest.raises(exceptions.StorageFailure, match="while the `transaction` of a task is open"):
        engine.run()


def test_a_write_to_the_store_that_waits_for_the_task_itself_fails_the_task_alone(sqlite):
    """Its thread has the turn of the transaction, and not that of the write any more, when that has failed."""

    def writes(transaction):
        with contextlib.closing(sqlite.get_connection()) as connection:
            connection.deadline = time.monotonic() + 0.01
            connection.save_logbook(models.LogBook("another"))

    flow = linear_flow.Flow("f").add(ledger.Enter("a"), task.FunctorTask(writes, name="writes"))
    engine = engines.load(flow, backend=sqlite)
    with pytest.raises(exceptions.StorageFailure, match="locked"):
        engine.run()
    assert recorded(sqlite, engine) == {"a": states.REVERTED, "writes": states.REVERTED}
    assert rows(sqlite) == []


def test_time_that_a_test_moves_within_a_transaction_needs_no_lease(sqlite, caplog):
    clock = testing.VirtualClock()

    def takes_long(transaction):
        clock.advance(50)
        enter(transaction, "x")

    flow = linear_flow.Flow("f").add(task.FunctorTask(takes_long, name="long"))
    engines.load(flow, backend=sqlite, clock=clock).run()
    assert rows(sqlite) == ["x"]
    assert "Cannot renew the lease" not in caplog.text


def test_a_subscriber_writes_to_the_record_when_the_task_has_succeeded(sqlite):
    engine = engines.load(linear_flow.Flow("f").add(ledger.Enter("a")), backend=sqlite)
    engine.atom_notifier.register(
        states.SUCCESS, lambda *_: engine.storage.update_atom_metadata("a", {"seen": rows(sqlite)})
    )
    engine.run()
    with contextlib.closing(sqlite.get_connection()) as connection:
        [atom] = connection.get_flow_details(engine.storage.flow_uuid)
    assert atom.meta["seen"] == ["a"]


def test_a_run_that_was_taken_over_writes_no_rows(store, monkeypatch):
    class Loses(task.Task):
        def execute(self, transaction):
            enter(transaction, "x")
            if store.family != "sqlite":
                with backends.backend(store.engine.url.render_as_string(hide_password=False)) as other:
                    self.take(other)

        def take(self, other):
            monkeypatch.setattr(owners, "is_gone", lambda _: True)
            with contextlib.closing(other.get_connection()) as connection:
                detail = connection.get_flow_details(engine.storage.flow_uuid)
                connection.save_changes(detail, [], owners.Owner())

    if store.family == "sqlite":
        pytest.skip("nobody can take it over meanwhile: the database has one writer")
    engine = engines.load(linear_flow.Flow("f").add(Loses("loses")), backend=store)
    with pytest.raises(exceptions.OwnershipFailure):
        engine.run()
    assert rows(store) == []


@pytest.mark.parametrize("place", ["before commit", "in commit", "after commit"])
def test_an_interrupt_leaves_rows_and_record_as_one(store, address, place):
    """At each of these places of the step, and none is taken for another."""
    ran = []

    class Enters(ledger.Enter):
        def execute(self, transaction, idempotency_key):
            ran.append(self.name)
            name = super().execute(transaction, idempotency_key)
            failpoints.listen(interrupt)
            return name

    def interrupt(name):
        if name == place:
            failpoints.listen(None)
            raise KeyboardInterrupt

    engine = engines.load(linear_flow.Flow("f").add(Enters("a"), ledger.Enter("b")), backend=store)
    try:
        with pytest.raises(KeyboardInterrupt):
            engine.run()
    finally:
        failpoints.listen(None)
    ledger.check(address)
    Enters.execute = ledger.Enter.execute
    engine.run()
    ledger.check(address)
    assert rows(store) == ["a", "b"]
    assert recorded(store, engine) == {"a": states.SUCCESS, "b": states.SUCCESS}
    assert ran == ["a"]
    assert engine.storage.get("a") == "a"


# -- any one commit fails, or its answer is lost ----------------------------------------------------------------------


@pytest.fixture(params=["lost", "failed"])
def lost(request):
    return request.param == "lost"


@pytest.fixture(params=["sqlite", *SERVERS])
def failing(request, lost, tmp_path):
    """Give the settings of a store, what fails between us and it, and the address without that."""
    kind = request.param
    if kind == "sqlite":
        chances = faults.Faults(lost)
        address = f"sqlite:///{tmp_path}/runs.db"
        arguments = {"connect_args": {"factory": faults.sqlite_commits(chances)}}
        yield {"connection": address, "engine_args": arguments}, chances, address
        return
    service = SERVERS[kind]
    if reason := service.lacks():
        pytest.skip(reason)
    with contextlib.closing(faults.Proxy(service.host, service.port, lost)) as proxy:
        address = addresses.new_database(service)
        url = sa.make_url(address).set(port=proxy.port)
        if kind == "postgresql":
            url = url.update_query_dict({"sslmode": "disable"})  # the proxy has to see what is said
        yield {"connection": url.render_as_string(hide_password=False)}, proxy, address


@pytest.mark.timeout(300)
@pytest.mark.parametrize("make", ledger.FLOWS, ids=lambda make: make.__name__)
def test_rows_and_record_agree_whichever_commit_fails(failing, make, monkeypatch):
    monkeypatch.setattr(sql_transactions, "_FIRST_WAIT", 0)
    monkeypatch.setattr("taskflowx.persistence.journal._FIRST_PAUSE", 0)
    settings, chances, address = failing
    ledger.make_table(address)

    def live(backend, chances, number, **options):
        chances.arm(number)
        engine = faults.insist(lambda: engines.load(make(), backend=backend, **options))
        for _ in range(2):
            try:
                engine.run()
            except exceptions.StorageFailure:
                ledger.check(address)
                continue
            except (OSError, sa.exc.DBAPIError, exceptions.WrappedFailure):  # a statement of a task may be the one
                pass
            break
        seen = chances.seen
        chances.arm(0)
        ledger.check(address)
        assert engine.storage.get_flow_state() in (states.SUCCESS, states.REVERTED, states.FAILURE)
        return seen

    with backends.backend(settings) as backend:
        assert faults.at_each_chance(live, backend, chances) > 5


# -- with a history --------------------------------------------------------------------------------


def transitions(backend, engine):
    with contextlib.closing(backend.get_connection()) as connection:
        entries = list(connection.get_history(engine.storage.flow_uuid))
    assert [one.number for one in entries] == list(range(1, len(entries) + 1))
    return [(one.atom, one.old, one.new) for one in entries if one.atom is not None]


class Enters(task.Task):
    def execute(self, transaction):
        enter(transaction, self.name)

    def revert(self, transaction, **_):
        transaction.execute(sa.text("DELETE FROM ledger WHERE name = :n"), {"n": self.name})


class Breaks(task.Task):
    def execute(self):
        raise LookupError


def test_the_history_has_each_transition_once_and_in_the_same_transaction(store):
    flow = linear_flow.Flow("f").add(Enters("one"), Enters("two"), Breaks("three"))
    engine = engines.load(flow, backend=store, history=True)
    with pytest.raises(LookupError):
        engine.run()
    assert rows(store) == []
    assert transitions(store, engine) == [
        *[("one", "PENDING", "RUNNING"), ("one", "RUNNING", "SUCCESS")],
        *[("two", "PENDING", "RUNNING"), ("two", "RUNNING", "SUCCESS")],
        *[("three", "PENDING", "RUNNING"), ("three", "RUNNING", "FAILURE")],
        *[("three", "FAILURE", "REVERTING"), ("three", "REVERTING", "REVERTED")],
        *[("two", "SUCCESS", "REVERTING"), ("two", "REVERTING", "REVERTED")],
        *[("one", "SUCCESS", "REVERTING"), ("one", "REVERTING", "REVERTED")],
    ]
    assert transitions(store, engine) == [(e.atom, e.old, e.new) for e in engine.history() if e.atom is not None]


def test_a_commit_that_fails_leaves_no_transition(sqlite, monkeypatch):
    from taskflowx.persistence.backends import sql_joint

    flow = linear_flow.Flow("f").add(Enters("one"), task.FunctorTask(lambda: None, name="two"))
    engine = engines.load(flow, backend=sqlite, history=True)
    save = sql_joint.Joint.save
    left = [OSError("lost")]

    def fail(self, *given):
        if left:
            raise exceptions.StorageFailure("no room", left.pop())
        save(self, *given)

    monkeypatch.setattr(sql_joint.Joint, "save", fail)
    with pytest.raises(exceptions.StorageFailure):
        engine.run()
    assert ("one", "RUNNING", "SUCCESS") not in transitions(sqlite, engine)
    engine.run()
    assert rows(sqlite) == ["one"]
    assert transitions(sqlite, engine).count(("one", "RUNNING", "SUCCESS")) == 1


def test_a_commit_in_doubt_is_noted_once_when_it_is_known(sqlite, monkeypatch):
    from taskflowx.persistence.backends import sql_joint

    flow = linear_flow.Flow("f").add(Enters("one"), task.FunctorTask(lambda: None, name="two"))
    engine = engines.load(flow, backend=sqlite, history=True)
    save = sql_joint.Joint.save
    left = [sql_transactions.InDoubt("no answer", OSError("lost"))]

    def lose_the_answer(self, *given):
        save(self, *given)
        if left:
            raise left.pop()

    monkeypatch.setattr(sql_joint.Joint, "save", lose_the_answer)
    engine.run()
    assert rows(sqlite) == ["one"]
    assert transitions(sqlite, engine).count(("one", "RUNNING", "SUCCESS")) == 1
    assert transitions(sqlite, engine)[-1] == ("two", "RUNNING", "SUCCESS")


@pytest.mark.parametrize("where", ["before commit", "in commit", "after commit"])
def test_an_interrupt_around_the_commit_leaves_one_entry_for_each_state(sqlite, where):
    flow = linear_flow.Flow("f").add(Enters("one"), Enters("two"))
    for number in range(1, 12):
        engine = engines.load(flow, backend=sqlite, history=True)
        left = [number]

        def hit(name, left=left):
            if name == where:
                left[0] -= 1
                if left[0] == 0:
                    raise KeyboardInterrupt

        with sqlite.engine.begin() as raw:
            raw.execute(sa.text("DELETE FROM ledger"))
        failpoints.listen(hit)
        try:
            with contextlib.suppress(KeyboardInterrupt):
                engine.run()
        finally:
            failpoints.listen(None)
        for _ in range(3):
            if engine.storage.get_flow_state() != states.SUCCESS:
                engine.run()
        assert rows(sqlite) == ["one", "two"], number
        seen = transitions(sqlite, engine)
        assert [seen.count((name, "RUNNING", "SUCCESS")) for name in ("one", "two")] == [1, 1], (number, seen)
