"""In PostgreSQL a change of a run is notified at the end of its transaction, to those alone who watch the run."""

from __future__ import annotations

import contextlib
import threading

import pytest
import sqlalchemy as sa

import taskflowx
from taskflowx import runs, states
from taskflowx.persistence import backends, run_records
from taskflowx.persistence.backends import sql
from tests.services import addresses

from .test_by_id import Held, flow_of

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.skipif(bool(addresses.POSTGRESQL.lacks()), reason="no PostgreSQL")
LONG = 30  # seconds: much more than a notification takes


@pytest.fixture(scope="module")
def backend():
    with backends.backend(addresses.new_database(addresses.POSTGRESQL)) as made:
        yield made


def uuid_of(run_id):
    return run_records.flow_uuid(run_id)


@contextlib.contextmanager
def listening(backend, run_id):
    with contextlib.closing(backend.get_connection()) as connection, connection.listening(uuid_of(run_id)) as changes:
        yield changes


def raw(backend):
    url = backend.engine.url.render_as_string(hide_password=False).replace("+psycopg", "")
    return psycopg.connect(url, autocommit=True)


def test_each_step_is_notified_at_once(backend):
    engine = taskflowx.load(flow_of([]), {"amount": 4}, backend=backend, run_id="steps")
    with listening(backend, "steps") as changes:
        steps = engine.run_iter()
        while next(steps) != "WAITING":
            pass
        assert changes.wait(LONG)
        for _ in steps:
            pass
        assert changes.wait(LONG)


def test_another_run_is_no_change_of_this_one(backend):
    with listening(backend, "mine") as changes, listening(backend, "other") as of_other:
        taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id="other")
        assert of_other.wait(LONG)
        assert not changes.wait(0.05)


def test_who_does_not_hold_the_lock_causes_no_notification(backend):
    with raw(backend) as one:
        one.execute(f"LISTEN {sql.CHANNEL}")
        taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id="unwatched")
        assert list(one.notifies(timeout=0.05)) == []
        with listening(backend, "watched"):
            taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id="watched")
            uuids = {each.payload for each in one.notifies(timeout=LONG, stop_after=1)}
        assert uuids == {uuid_of("watched")}


def test_the_lock_is_free_when_nobody_watches_any_more(backend):
    with listening(backend, "a"), raw(backend) as one:
        held = (  # in this database: other tests have others
            "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' "
            "AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
        )
        assert one.execute(held).fetchone()[0] == 1
    with raw(backend) as one:
        # the server frees it a moment after its client has closed the connection; a lock of ours waits for that
        one.execute(f"SELECT pg_advisory_lock({sql.LISTENING.format('%s')})", (uuid_of("a"),))
        assert one.execute(held).fetchone()[0] == 1


def test_a_watch_sees_a_change_without_a_look_each_second(backend):
    seen, ended = [], threading.Event()
    with Held(backend, "watched too") as held, runs.open(backend) as known:

        def watch():
            seen.extend(view.state for view in known.watch("watched too"))
            ended.set()

        thread = threading.Thread(target=watch)
        thread.start()
        held.go_on.set()
        assert ended.wait(LONG)
        thread.join(LONG)
    assert seen[-1] == states.SUCCESS


def test_a_driver_that_cannot_wait_is_looked_at(backend):
    class Dialect:
        loaded_dbapi = object()

    class Engine:
        dialect = Dialect()

    from taskflowx.persistence.backends import sql_listening

    with sql_listening.listening(Engine(), "x") as changes:
        assert changes is None


def test_a_server_that_refuses_to_listen_is_looked_at(backend, monkeypatch):
    monkeypatch.setattr(sql, "CHANNEL", "no channel")
    with listening(backend, "x") as changes:
        assert changes is None
    with backend.engine.connect() as connection:
        assert connection.execute(sa.text("SELECT 1")).scalar() == 1
