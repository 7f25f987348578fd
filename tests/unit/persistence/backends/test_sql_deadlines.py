"""What is given up in time: a connection that is not made, an answer that does not come, a lock that others hold."""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import sys
import threading
import time

import pytest

from taskflowx import engines, exceptions, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models
from taskflowx.persistence.backends import sql_deadlines

SLACK = 2.0  # seconds by which a time limit may be passed on a machine that is busy


class Raw:
    """A driver's connection, of which only its socket is of interest."""

    def __init__(self, end):
        self._sock = end


@pytest.fixture
def ends():
    """Give two sockets that are connected."""
    one, other = socket.socketpair()
    with one, other:
        yield one, other


@pytest.fixture
def watch():
    return sql_deadlines.Watch()


def test_a_connection_whose_answer_does_not_come_is_cut(ends, watch):
    one, _ = ends
    watched = sql_deadlines.Watched(Raw(one), 0, time.monotonic() + 0.05)
    watch.enter(watched)
    assert one.recv(1) == b""  # it waits here
    assert not watch.leave(watched)


def test_a_connection_that_was_left_is_not_cut(ends, watch):
    one, other = ends
    left = sql_deadlines.Watched(Raw(one), 0, time.monotonic() + 0.01)
    watch.enter(left)
    assert watch.leave(left)
    with contextlib.ExitStack() as stack:
        mine, theirs = map(stack.enter_context, socket.socketpair())
        watched = sql_deadlines.Watched(Raw(mine), 0, time.monotonic() + 0.02)
        watch.enter(watched)
        assert theirs.recv(1) == b""  # it has been looked at what is watched, and the time of both was over
    other.send(b"x")
    assert one.recv(1) == b"x"


@pytest.mark.parametrize(("seconds", "left", "expected"), [(5, None, 5), (5, 1, 1), (1, 5, 1), (0, 5, 5)])
def test_a_statement_has_the_shorter_of_both_times(seconds, left, expected):
    now = time.monotonic()
    watched = sql_deadlines.Watched(None, seconds, None if left is None else now + left)
    assert watched.ends == pytest.approx(now + expected, abs=0.5)


def test_there_is_no_thread_when_there_is_nothing_to_watch(ends, watch, monkeypatch):
    monkeypatch.setattr(sql_deadlines, "_LOOKS_EVERY", 0.001)
    monkeypatch.setattr(sql_deadlines, "_LINGERS", 0.01)
    one, _ = ends
    for _ in range(3):
        before = {thread for thread in threading.enumerate() if thread.name == "taskflowx-database-watch"}
        watched = sql_deadlines.Watched(Raw(one), 0, time.monotonic() + 100)
        watch.enter(watched)
        (mine,) = [
            thread
            for thread in threading.enumerate()
            if thread.name == "taskflowx-database-watch" and thread not in before
        ]
        watch.leave(watched)
        mine.join(20)
        assert not mine.is_alive()


class Made:
    """A connection that tells whether it was closed."""

    def __init__(self):
        self.closed = threading.Event()

    def close(self):
        self.closed.set()


def test_a_connection_that_comes_too_late_is_closed():
    made, come = Made(), threading.Event()

    def connect():
        come.wait()
        return made

    with pytest.raises(TimeoutError):
        sql_deadlines.connect(connect, 0.01)
    come.set()
    assert made.closed.wait(20)


def test_a_connection_that_comes_in_time_is_given_and_its_error_raised():
    made = Made()
    assert sql_deadlines.connect(lambda: made, 60) is made
    assert not made.closed.is_set()
    with pytest.raises(ZeroDivisionError):
        sql_deadlines.connect(lambda: 1 / 0, 60)
    assert sql_deadlines.connect(threading.get_ident, 0) == threading.get_ident()


# -- SQLite ------------------------------------------------------------------------------------------------------------


@pytest.fixture
def path(tmp_path):
    return tmp_path / "runs.db"


@pytest.fixture
def backend(path):
    with backends.backend(f"sqlite:///{path}") as made:
        yield made


@contextlib.contextmanager
def locked(path):
    """Hold the lock of a database, as another process does."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        yield
        other.execute("COMMIT")


def test_another_process_is_not_waited_for_beyond_the_deadline(backend, path):
    connection = backend.get_connection()
    book = models.LogBook("b")
    with locked(path):
        for seconds in (0.2, 0.1):
            connection.deadline = time.monotonic() + seconds
            began = time.monotonic()
            with pytest.raises(exceptions.StorageFailure, match="database is locked"):
                connection.save_logbook(book)
            assert time.monotonic() - began < seconds + SLACK
    connection.deadline = None
    connection.save_logbook(book)
    assert backend.transactions.run("", lambda unit: unit.rows("PRAGMA busy_timeout")) == [(30_000,)]


def test_other_threads_are_not_waited_for_beyond_the_deadline(backend):
    connection = backend.get_connection()
    began, go_on = threading.Event(), threading.Event()

    def hold(_):
        began.set()
        go_on.wait()

    thread = threading.Thread(target=backend.transactions.run, args=("", hold))
    thread.start()
    began.wait()
    try:
        connection.deadline = time.monotonic() + 0.1
        with pytest.raises(exceptions.StorageFailure, match="other threads of this process have kept the database"):
            connection.save_logbook(models.LogBook("b"))
    finally:
        go_on.set()
        thread.join()
    connection.deadline = time.monotonic() + 10
    connection.save_logbook(models.LogBook("b"))


def test_a_run_gives_up_in_time_when_another_process_keeps_the_database(backend, path):
    ran = []

    class Step(task.Task):
        def execute(self):
            ran.append(self.name)
            if self.name == "b":
                stack.enter_context(locked(path))

    with contextlib.ExitStack() as stack:
        flow = linear_flow.Flow("f").add(*(Step(name) for name in "abc"))
        engine = engines.load(flow, backend=backend, commit_timeout=0.5)
        began = time.monotonic()
        with pytest.raises(exceptions.StorageFailure, match="'b'"):
            engine.run()
        assert time.monotonic() - began < 0.5 + 2 * SLACK
    engine.run()
    assert ran == ["a", "b", "c"]


def test_no_thread_is_started_while_python_ends_as_that_would_wait_for_ever(watch, monkeypatch):
    monkeypatch.setattr(sys, "is_finalizing", lambda: True)
    monkeypatch.setattr(threading.Thread, "start", lambda _: pytest.fail("a thread was started"))
    watched = sql_deadlines.Watched(None, 1.0, None)
    watch.enter(watched)
    assert watch.leave(watched)
    assert sql_deadlines.connect(lambda: "made", 5.0) == "made"
