"""A run on a database server whose network is silent, that is away for a while, or that stands behind a pooler."""

from __future__ import annotations

import contextlib
import functools
import threading
import time

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from taskflowx import engines, exceptions, states
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models
from tests.contract.store import faults
from tests.services import addresses, private
from tests.support import drivers
from tests.support.flows import Notes

pytestmark = pytest.mark.timeout(150)  # a server that is started takes its time on a machine that is busy

SERVICES = [addresses.POSTGRESQL, addresses.MARIADB]
SLACK = 2.0  # seconds by which a time limit may be passed


@pytest.fixture(params=SERVICES, ids=lambda service: service.name)
def service(request):
    if reason := request.param.lacks():
        pytest.skip(reason)
    return request.param


@pytest.fixture
def proxy(service):
    """Give a proxy before the server."""
    with contextlib.closing(faults.Proxy(service.host, service.port)) as made:
        yield made


@pytest.fixture
def address(service, proxy):
    """Give the address of a new database behind the proxy."""
    url = sa.make_url(addresses.new_database(service)).set(port=proxy.port)
    if service is addresses.POSTGRESQL:
        url = url.update_query_dict({"sslmode": "disable"})
    return url.render_as_string(hide_password=False)


def timed(call):
    """Return the StorageFailure that a call raises, and after how many seconds."""
    began = time.monotonic()
    with pytest.raises(exceptions.StorageFailure) as raised:
        call()
    return raised.value, time.monotonic() - began


# -- silence -----------------------------------------------------------------------------------------------------------


def test_a_run_gives_up_in_time_when_the_network_falls_silent(address, proxy):
    log, began = [], []

    def fall_silent():
        proxy.fall_silent()
        began.append(time.monotonic())

    flow = linear_flow.Flow("f").add(Notes("a", log), Notes("b", log, fall_silent), Notes("c", log))
    with backends.backend(address) as backend:
        engine = engines.load(flow, backend=backend, commit_timeout=2)
        failure, _ = timed(engine.run)
        assert time.monotonic() - began[0] < 2 + SLACK
        assert "'b'" in str(failure)
        assert log == ["a", "b"]


def test_a_run_gives_up_in_time_when_it_has_to_connect_anew(address, proxy):
    """The answer of the server is lost with its connection, and the next one is taken, but nobody answers there."""
    log = []
    with backends.backend(address) as backend:
        engine = engines.load(linear_flow.Flow("f").add(Notes("a", log)), backend=backend, commit_timeout=1)
        backend.close()
        proxy.fall_silent()
        _, took = timed(engine.run)
    assert took < 1 + SLACK
    assert log == []


def test_what_is_no_run_gives_up_in_time_too(address, proxy):
    with backends.backend({"connection": address, "read_timeout": 0.5, "max_retries": 0}) as backend:
        connection = backend.get_connection()
        proxy.fall_silent()
        failure, took = timed(lambda: list(connection.get_logbooks()))
        assert took < 0.5 + SLACK
        assert "has not answered in time" in str(failure)
    with contextlib.closing(backends.fetch(f"{address}{'&' if '?' in address else '?'}connect_timeout=1")) as backend:
        backend.get_connection().deadline = None
        _, took = timed(functools.partial(backend.get_connection().validate, max_retries=0))
        assert took < 1 + SLACK


def test_a_connection_that_died_in_the_pool_is_not_waited_for_when_it_is_asked_first(address, proxy):
    settings = {"connection": address, "checkout_ping": True, "read_timeout": 0.5, "max_retries": 0}
    with backends.backend({**settings, "connect_timeout": 0.5}) as backend:
        connection = backend.get_connection()
        list(connection.get_logbooks())
        proxy.fall_silent()
        _, took = timed(lambda: list(connection.get_logbooks()))
        assert took < 1 + SLACK


def test_a_server_that_falls_silent_when_it_has_been_connected_to_is_not_waited_for(address, proxy):
    """What SQLAlchemy and we ask on a new connection is not answered."""
    for limits in ({"connect_timeout": 0.5}, {"read_timeout": 0.5}):
        with contextlib.closing(backends.fetch({"connection": address, "max_retries": 0, **limits})) as backend:
            event.listen(backend.engine, "connect", lambda *_: proxy.fall_silent(), insert=True)
            connection = backend.get_connection()
            connection.deadline = None if "connect_timeout" in limits else time.monotonic() + 0.5
            _, took = timed(lambda connection=connection: list(connection.get_logbooks()))
            assert took < 0.5 + SLACK
            proxy.speak_again()


def test_a_slow_server_is_waited_for(service):
    with backends.backend({"connection": addresses.new_database(service), "read_timeout": 5}) as backend:
        sleep = "SELECT pg_sleep(0.6)" if service is addresses.POSTGRESQL else "SELECT SLEEP(0.6)"

        def work(tx):
            for _ in range(2):
                tx.rows(sleep)

        backend.transactions.run("", work)
        backend.transactions.run("", lambda tx: tx.rows("SELECT 1"), deadline=time.monotonic() + 0.1)
        failure, took = timed(
            lambda: backend.transactions.run("", lambda tx: tx.rows(sleep), deadline=time.monotonic() + 0.1)
        )
        assert took < 0.6 + SLACK
        assert isinstance(failure.cause, TimeoutError)


def test_a_pool_that_is_used_up_is_waited_for_until_the_deadline(service):
    address = addresses.new_database(service)
    with backends.backend({"connection": address, "max_pool_size": 1, "max_overflow": 0}) as backend:
        connection = backend.get_connection()
        with backend.engine.connect():
            connection.deadline = time.monotonic() + 0.3
            _, took = timed(lambda: list(connection.get_logbooks()))
        assert took < 0.3 + SLACK
        connection.deadline = None
        assert list(connection.get_logbooks()) == []


# -- a server that goes away -------------------------------------------------------------------------------------------


@pytest.fixture(params=private.SERVERS)
def server(request):
    """Give a server that may be stopped."""
    make, programs = private.SERVERS[request.param]
    if reason := private.lacks(*programs) or {one.name: one for one in SERVICES}[request.param].lacks():
        pytest.skip(reason)
    with make() as made:
        yield made


def test_what_was_not_saved_is_named_and_the_run_goes_on_when_the_server_is_back(server):
    log = []
    flow = linear_flow.Flow("f").add(Notes("a", log), Notes("b", log, server.stop), Notes("c", log))
    with backends.backend(server.address) as backend:
        engine = engines.load(flow, backend=backend, commit_timeout=0.5)
        failure, _ = timed(engine.run)
        assert "'b'" in str(failure)
        assert "run it again when the store is back" in str(failure)
        timed(engine.run)  # it is still away
        server.start()
        engine.run()
        assert log == ["a", "b", "c"]
        record = faults.stored(backend, engine.storage.flow_uuid)
        assert [atom.results for atom in record] == ["a", "b", "c"]
        assert record.state == states.SUCCESS


def test_a_server_that_is_back_in_time_is_not_noticed(server):
    log = []
    back = []

    def restart():
        server.stop()
        back.append(threading.Thread(target=server.start))
        back[0].start()

    flow = linear_flow.Flow("f").add(Notes("a", log), Notes("b", log, restart), Notes("c", log))
    with backends.backend(server.address) as backend:
        engine = engines.load(flow, backend=backend, commit_timeout=60)
        engine.run()
        back[0].join()
        assert log == ["a", "b", "c"]
        assert faults.stored(backend, engine.storage.flow_uuid).state == states.SUCCESS


# -- a pooler ----------------------------------------------------------------------------------------------------------


@pytest.fixture
def pooled():
    """Give the address of a new PostgreSQL database behind a pooler."""
    if reason := addresses.POSTGRESQL.lacks() or private.lacks("pgbouncer"):
        pytest.skip(reason)
    with private.pgbouncer(addresses.new_database(addresses.POSTGRESQL)) as made:
        yield made


@pytest.mark.parametrize("driver", ["psycopg", "psycopg2"])
def test_runs_work_behind_a_pooler_that_changes_connections(pooled, driver):
    pytest.importorskip(driver)
    address = sa.make_url(pooled).set(drivername=f"postgresql+{driver}").render_as_string(hide_password=False)
    problems = []

    def work(backend):
        try:
            for _ in range(2):
                flow = linear_flow.Flow("f").add(*(Notes(f"s{n}", []) for n in range(20)))
                engine = engines.load(flow, book=models.LogBook("b"), backend=backend)
                engine.run()
                assert faults.stored(backend, engine.storage.flow_uuid).state == states.SUCCESS
        except Exception as error:  # noqa: BLE001 - of whatever kind, it is a problem
            problems.append(error)

    with backends.backend(address) as backend:
        backend.get_connection().upgrade()
        threads = [threading.Thread(target=work, args=(backend,)) for _ in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert problems == []


def test_statements_are_prepared_where_no_pooler_is(pooled):
    pytest.importorskip("psycopg")
    for address, prepares in ((pooled, False), (addresses.new_database(addresses.POSTGRESQL), True)):
        with contextlib.closing(backends.fetch(address)) as backend:
            threshold = backend.transactions.run("", lambda tx: drivers.connection_of(tx).prepare_threshold)
            assert (threshold is not None) == prepares


def test_a_statement_that_a_pooler_has_broken_is_run_again():
    """What was prepared is gone on the server, or is there already, which a client that prepares cannot know."""
    if reason := addresses.POSTGRESQL.lacks():
        pytest.skip(reason)
    pytest.importorskip("psycopg")
    address = addresses.new_database(addresses.POSTGRESQL)
    with backends.backend(
        {"connection": address, "engine_args": {"connect_args": {"prepare_threshold": 0}}}
    ) as backend:
        connection = backend.get_connection()
        assert list(connection.get_logbooks()) == []
        backend.transactions.run("", lambda tx: drivers.connection_of(tx).pgconn.exec_(b"DEALLOCATE ALL"))
        assert list(connection.get_logbooks()) == []

        def collide(tx):
            for number in range(20):
                drivers.connection_of(tx).pgconn.exec_(b"PREPARE _pg3_%d AS SELECT 1" % number)

        backend.transactions.let_go()
        backend.engine.dispose()
        with contextlib.suppress(exceptions.StorageFailure):
            backend.transactions.run("", collide, max_retries=0)
        assert list(connection.get_logbooks()) == []
