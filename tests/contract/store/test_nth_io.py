"""The N-th operation of a store fails once, for every N: a run ends right, and nothing that has ended is done again.

In a folder, calls of the operating system fail; of ZooKeeper, the connection is lost before a request is sent, or after
it was carried out.
"""

from __future__ import annotations

import collections
import contextlib
import errno
import os

import pytest
from kazoo import exceptions as kazoo_errors
from kazoo.client import KazooClient

from taskflowx import engines, exceptions, states, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models
from taskflowx.persistence.backends import impl_zookeeper
from tests.services import addresses
from tests.support import histories

CALLS = ("fsync", "replace", "write", "open", "mkdir", "unlink", "symlink", "chmod", "fchmod")
PARTS = 3  # of all N, so that each test has a few seconds
STRIDE = {False: PARTS, True: 4 * PARTS}  # with a history there are more of them, and some are tried


@pytest.fixture(autouse=True)
def no_pause(monkeypatch):
    monkeypatch.setattr("taskflowx.persistence.journal._pause", lambda seconds: None)


class Counter:
    """Counts operations; the one of the number `at` fails."""

    def __init__(self):
        self.at = 0
        self.count = 0

    def begin(self, at=0):
        self.at, self.count = at, 0

    def is_due(self):
        self.count += 1
        return self.count == self.at


class Step(task.Task):
    """Notes that it was executed and reverted."""

    def __init__(self, name, did, does=lambda: None, **kwargs):
        super().__init__(name, **kwargs)
        self.did, self.does = did, does

    def execute(self, **kwargs):
        self.did[self.name] += 1
        self.does()
        return [self.name, kwargs]

    def revert(self, **kwargs):
        self.did[f"-{self.name}"] += 1


def fail():
    raise ValueError("v")


def tried(call, *args, **kwargs):
    """Return what a call gives; an error of the store, of which there is one, is met by another attempt."""
    try:
        return call(*args, **kwargs)
    except exceptions.StorageFailure:
        return call(*args, **kwargs)


def read(backend, uuid):
    with contextlib.closing(backend.get_connection()) as connection:
        return connection.get_flow_details(uuid)


def agrees(backend, record, history=False):
    """Check that the history of a run leads to its record, if it was kept."""
    with contextlib.closing(backend.get_connection()) as connection:
        entries = tried(lambda: list(connection.get_history(record.uuid)))
    assert (histories.complaints(entries, record) if history else entries) == []


def upgrade(backend):
    with contextlib.closing(backend.get_connection()) as connection:
        connection.upgrade()


def live(backend, book, **options):
    """Let a store go through a whole life; says what is wrong at its end.

    :param options: those of the engines
    """
    did = collections.Counter()
    tried(upgrade, backend)

    def make(does=lambda: None):
        one, two = Step("one", did, does, requires=["start"], provides="x"), Step("two", did, requires=["x"])
        return linear_flow.Flow("goes on").add(one, two)

    def stop():
        engine.suspend()

    engine = tried(lambda: engines.load(make(stop), {"start": 1}, book=book, backend=backend, **options))
    tried(engine.run)
    uuid = engine.storage.flow_uuid
    tried(lambda: engines.load(make(), flow_detail=read(backend, uuid), backend=backend, **options).run())
    found = tried(read, backend, uuid)
    assert (found.state, {each.name: each.state for each in found}) == (
        states.SUCCESS,
        {"_TaskFlow_INJECTOR": states.SUCCESS, "one": states.SUCCESS, "two": states.SUCCESS},
    )
    assert next(each for each in found if each.name == "two").results[1] == {"x": ["one", {"start": 1}]}

    broken = linear_flow.Flow("is undone").add(Step("first", did), Step("last", did, fail))
    agrees(backend, found, **options)
    engine = tried(engines.load, broken, book=book, backend=backend, **options)
    with contextlib.suppress(ValueError):
        tried(engine.run)
    found = tried(read, backend, engine.storage.flow_uuid)
    assert (found.state, {each.state for each in found}) == (states.REVERTED, {states.REVERTED})
    agrees(backend, found, **options)
    assert did == dict.fromkeys(("one", "two", "first", "last", "-first", "-last"), 1)


@pytest.fixture
def steps(monkeypatch):
    """Give what lets one call of the operating system fail."""
    counter = Counter()
    counter.error = errno.EIO

    def guarded(name, real):
        def call(*args, **kwargs):
            if counter.is_due():
                raise OSError(counter.error, f"{os.strerror(counter.error)}, in os.{name}")
            return real(*args, **kwargs) if name != "fsync" else None  # no machine dies here

        return call

    for name in CALLS:
        monkeypatch.setattr(os, name, guarded(name, getattr(os, name)))
    return counter


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("history", [False, True])
def test_any_one_call_of_the_operating_system_may_fail(steps, tmp_path, part, history):
    number = part
    while steps.count >= number - part:
        number += STRIDE[history]
        steps.error = (errno.EIO, errno.ENOSPC)[number % 2]
        backend = backends.fetch({"connection": "dir", "path": str(tmp_path / str(number))})
        steps.begin(number)
        live(backend, models.LogBook("book"), history=history)
    assert number > 100


class Lossy:
    """A client of kazoo's whose connection is lost at a request, once it was done or before it is sent."""

    def __init__(self, client, counter, *, done):
        self.client, self.counter, self.done = client, counter, done

    def __getattr__(self, name):
        found = getattr(self.client, name)
        return self.guarded(found) if name.endswith("_async") else found

    def guarded(self, call):
        def ask(*args, **kwargs):
            if not self.counter.is_due():
                return call(*args, **kwargs)
            if self.done:
                with contextlib.suppress(kazoo_errors.KazooException):
                    call(*args, **kwargs).get(timeout=10)
            lost = self.client.handler.async_result()
            lost.set_exception(kazoo_errors.ConnectionLoss())
            return lost

        return ask

    def transaction(self):
        made = self.client.transaction()
        made.commit_async = self.guarded(made.commit_async)
        return made


@pytest.fixture(scope="module")
def client():
    """Give a client of a real server."""
    if reason := addresses.ZOOKEEPER.lacks():
        pytest.skip(reason)
    made = KazooClient(f"{addresses.ZOOKEEPER.host}:{addresses.ZOOKEEPER.port}")
    made.start()
    yield made
    made.stop()
    made.close()


@pytest.mark.timeout(120)
@pytest.mark.parametrize("part", range(PARTS))
@pytest.mark.parametrize("done", [False, True], ids=["before it is sent", "after it is done"])
@pytest.mark.parametrize("history", [False, True])
def test_the_connection_to_zookeeper_may_be_lost_at_any_request(client, done, part, history):
    counter, number = Counter(), part
    path = addresses.new_path().removeprefix(addresses.ZOOKEEPER.address)
    settings = {"check_compatible": False}
    while counter.count >= number - part:
        number += STRIDE[history]
        backend = impl_zookeeper.ZkBackend({**settings, "path": f"{path}/{number}"}, Lossy(client, counter, done=done))
        counter.begin(number)
        live(backend, models.LogBook("book"), history=history)
    assert number > 50
