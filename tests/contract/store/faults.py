"""Faults between a run and its store, each at the N-th chance; and what has to hold whichever it was.

A `Faults` counts what a store is asked to make lasting, and lets one of these fail. `suspended_and_resumed` and
`rolled_back` live through a run with it, as a program does that tries again when its store fails: they are the same for
every store. `Proxy` stands before a server; `SqliteCommits` is a driver's connection.
"""

from __future__ import annotations

import contextlib
import socket
import sqlite3
import threading
from collections import Counter

from taskflowx import engines, exceptions, states, task
from taskflowx.patterns import linear_flow
from tests.support import histories

TRIES = 3


class Faults:
    """Lets the N-th chance of a fault be one.

    :param lost: whether what is asked for is done all the same, and only the answer is lost
    """

    def __init__(self, lost):
        self.lost = lost
        self.seen = 0
        self._number = 0

    def arm(self, number):
        """Let the N-th chance from now on be a fault; 0 for none."""
        self._number, self.seen = number, 0

    def is_now(self):
        """Count a chance, and tell whether it is to be a fault."""
        self.seen += 1
        return self.seen == self._number


#: what is in what a client sends that may make something lasting: COMMIT, and a statement that needs none, in its own
#: words and by the name that it has once it is prepared, which others have, too
LASTING = (b"COMMIT", b"WITH a AS", b"_pg3_")


class Proxy(Faults):
    """Forwards connections to a server, and drops one at the N-th chance; or says nothing any more.

    :param host: of the server
    :param port: of the server
    """

    def __init__(self, host, port, lost=True):
        super().__init__(lost)
        self._target = host, port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        self._ends = [self._listening]
        self._silent = threading.Event()
        self._closed = threading.Event()
        threading.Thread(target=self._serve, daemon=True).start()

    def fall_silent(self):
        """Forward nothing any more, and answer nothing: neither here nor there is a connection closed."""
        self._silent.set()

    def speak_again(self):
        """Forward what is said on connections that are made from now on."""
        self._silent.clear()

    def close(self):
        """End all connections."""
        self._closed.set()
        self._silent.clear()
        for end in self._ends:
            _shut(end)

    def _serve(self):
        with contextlib.suppress(OSError):
            while not self._closed.is_set():
                client = self._listening.accept()[0]
                self._ends.append(client)
                if self._silent.is_set():
                    continue
                server = socket.create_connection(self._target)
                self._ends.append(server)
                dropped = threading.Event()
                for source, sink in ((client, server), (server, client)):
                    arguments = (source, sink, source is client, dropped)
                    threading.Thread(target=self._forward, args=arguments, daemon=True).start()

    def _forward(self, source, sink, asks, dropped):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if self._silent.is_set():
                    self._closed.wait()
                if asks and any(words in data for words in LASTING) and self.is_now():
                    dropped.set()
                    if not self.lost:
                        break
                if dropped.is_set() and not asks:
                    break
                sink.sendall(data)
        for end in (source, sink):
            _shut(end)


def _shut(end):
    with contextlib.suppress(OSError):
        end.shutdown(socket.SHUT_RDWR)
    end.close()


def sqlite_commits(faults):
    """Return a class of connections to SQLite whose COMMIT fails as it is told."""

    class Connection(sqlite3.Connection):
        def commit(self):
            now = self.in_transaction and faults.is_now()
            if now and not faults.lost:
                raise _disk_error()
            super().commit()
            if now:
                raise _disk_error()

    return Connection


def _disk_error():
    error = sqlite3.OperationalError("disk I/O error")
    error.sqlite_errorcode = sqlite3.SQLITE_IOERR
    return error


# -- what is lived through ---------------------------------------------------------------------------------------------


class Step(task.Task):
    """Notes what it does, and does what it is told."""

    def __init__(self, name, log, act=lambda: None):
        super().__init__(name)
        self.log, self.act = log, act

    def execute(self, start):
        self.log.append(self.name)
        self.act()
        return self.name

    def revert(self, **_):
        self.log.append(f"-{self.name}")


def insist(call, *, but=()):
    """Call something again while its store fails, some times; returns what it returns.

    :param but: an error that is as good as a result
    """
    for left in reversed(range(TRIES)):
        try:
            return call()
        except but:
            return None
        except exceptions.StorageFailure:
            if not left:
                raise
    raise AssertionError


def stored(backend, uuid):
    with contextlib.closing(backend.get_connection()) as connection:
        return connection.get_flow_details(uuid)


def check_history(backend, record, *, history=False, **_):
    """Check that the history of a run leads to its record, if it was kept."""
    entries = histories.kept(backend, record.uuid)
    assert (histories.complaints(entries, record) if history else entries) == []


def suspended_and_resumed(backend, faults, number, **options):
    """Run a flow to its middle and, from its record, to its end, with a fault at a chance; returns the chances seen.

    The run ends SUCCESS, also on record, and each task has been called once.
    """
    log = []

    def suspend():
        now["engine"].suspend()

    def load(**more):
        flow = linear_flow.Flow("f").add(Step("a", log), Step("b", log, suspend), Step("c", log), Step("d", log))
        now["engine"] = engines.load(flow, backend=backend, **more, **options)
        return now["engine"]

    now = {}
    faults.arm(number)
    engine = insist(lambda: load(store={"start": 1}))
    insist(engine.run)
    record = insist(lambda: stored(backend, engine.storage.flow_uuid))
    insist(insist(lambda: load(flow_detail=record)).run)
    seen = faults.seen
    faults.arm(0)
    record = stored(backend, engine.storage.flow_uuid)
    assert (record.state, log) == (states.SUCCESS, ["a", "b", "c", "d"])
    assert {atom.state for atom in record} == {states.SUCCESS}
    check_history(backend, record, **options)
    return seen


def rolled_back(backend, faults, number, **options):
    """Run a flow whose last task fails, with a fault at a chance; returns the chances seen.

    The run ends REVERTED, also on record, and each effect has been undone once, in the reverse order.
    """
    log = []

    def fail():
        raise ValueError("no")

    flow = linear_flow.Flow("f").add(Step("a", log), Step("b", log), Step("c", log, fail))
    faults.arm(number)
    engine = insist(lambda: engines.load(flow, store={"start": 1}, backend=backend, **options))
    insist(engine.run, but=ValueError)
    seen = faults.seen
    faults.arm(0)
    record = stored(backend, engine.storage.flow_uuid)
    effects = Counter(name.strip("-") for name in log)
    assert record.state == states.REVERTED
    assert {atom.state for atom in record if atom.name in effects} == {states.REVERTED}
    assert log[:6] == ["a", "b", "c", "-c", "-b", "-a"]
    check_history(backend, record, **options)
    return seen


LIVES = [suspended_and_resumed, rolled_back]


def at_each_chance(live, backend, faults, **options):
    """Live through a run with a fault at each chance, one after another; returns how many there were.

    :raises ExceptionGroup: of what was wrong, with the number of the chance as a note
    """
    wrong = []
    number, seen = 0, 1
    while number <= seen:
        number += 1
        try:
            seen = max(1, live(backend, faults, number, **options))
        except Exception as error:  # noqa: BLE001 - of whatever kind, it is wrong
            error.add_note(f"at chance {number}")
            wrong.append(error)
            seen = max(seen, number)
            if len(wrong) > 3:
                break
    if wrong:
        raise ExceptionGroup(f"{live.__name__}: {len(wrong)} of {number} chances", wrong)
    return number - 1
