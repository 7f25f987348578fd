"""The ZooKeeper store: its settings, what is sent in one request, and what kazoo's errors become."""

from __future__ import annotations

import functools
import logging

import pytest
from kazoo import exceptions as kazoo_errors
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KeeperState, ZnodeStat
from kazoo.retry import KazooRetry

from taskflowx import exceptions
from taskflowx.persistence import models
from taskflowx.persistence.backends import impl_zookeeper
from taskflowx.persistence.backends.impl_zookeeper import ZkBackend


class Answer:
    """What a request of kazoo's gives: the answer, or the error, can be had from it."""

    def __init__(self, call, *given):
        self.call, self.given = call, given

    def get(self, timeout):
        assert timeout > 0
        return self.call(*self.given)


class FakeClient:
    """Keeps nodes in a dict; `requests` has what each transaction did, `fails` the errors that it raises instead."""

    def __init__(self, version=(3, 8, 0)):
        self.nodes: dict[str, bytes] = {}
        self.requests: list[list[str]] = []
        self.fails: list[Exception] = []
        self.connected = False
        self.client_state = KeeperState.CLOSED
        self.version = version
        self.asked: list[str] = []
        for verb in ("exists", "get", "get_children", "ensure_path"):
            setattr(self, f"{verb}_async", functools.partial(Answer, getattr(self, verb)))

    def start(self, timeout):
        self._fail()
        self.connected, self.client_state = True, KeeperState.CONNECTED

    class handler:  # noqa: N801 - an attribute of kazoo's
        @staticmethod
        def sleep_func(seconds):
            pass

    def stop(self):
        self.connected, self.client_state = False, KeeperState.CLOSED

    def close(self):
        pass

    def server_version(self, retries):
        if isinstance(self.version, Exception):
            raise self.version
        return self.version

    def retry(self, call, *given):
        return call(*given)

    def exists(self, path):
        self._fail()
        self.asked.append(path)
        return ZnodeStat(*[0] * 11) if path in self.nodes else None

    def get(self, path):
        self._fail()
        if path not in self.nodes:
            raise kazoo_errors.NoNodeError
        return self.nodes[path], ZnodeStat(*[0] * 11)

    def get_children(self, path):
        self._fail()
        if path not in self.nodes:
            raise kazoo_errors.NoNodeError
        below = f"{path}/"
        return [name[len(below) :] for name in self.nodes if name.startswith(below) and "/" not in name[len(below) :]]

    def ensure_path(self, path):
        self._fail()
        for end in [at for at, letter in enumerate(path) if letter == "/"][1:]:
            self.nodes.setdefault(path[:end], b"")
        self.nodes.setdefault(path, b"")

    def transaction(self):
        return FakeTransaction(self)

    def _fail(self):
        if self.fails:
            raise self.fails.pop(0)


class FakeTransaction:
    """Does all that it was told, or nothing."""

    def __init__(self, client):
        self.client = client
        self.steps: list[tuple[str, str, bytes]] = []

    def commit_async(self):
        return Answer(self.commit)

    def create(self, path, data):
        self.steps.append(("create", path, data))

    def set_data(self, path, data, version=-1):
        self.steps.append(("set_data", path, data))

    def delete(self, path):
        self.steps.append(("delete", path, b""))

    def commit(self):
        self.client._fail()
        nodes = dict(self.client.nodes)
        for at, (verb, path, data) in enumerate(self.steps):
            if (verb == "create") == (path in nodes):
                problem = kazoo_errors.NodeExistsError() if verb == "create" else kazoo_errors.NoNodeError()
                before = [kazoo_errors.RolledBackError() for _ in range(at)]
                after = [kazoo_errors.RuntimeInconsistency() for _ in self.steps[at + 1 :]]
                return [*before, problem, *after]
            if verb == "delete":
                del nodes[path]
            else:
                nodes[path] = data
        self.client.nodes = nodes
        self.client.requests.append([f"{verb} {path}" for verb, path, _ in self.steps])
        return [True] * len(self.steps)


@pytest.fixture
def client():
    """Give a client that keeps its nodes."""
    return FakeClient()


@pytest.fixture
def connection(client):
    """Give a connection to a store that has been made ready."""
    made = ZkBackend({"path": "/t"}, client).get_connection()
    made.upgrade()
    return made


def save(connection, *names):
    """Save a book with a flow with some tasks; returns the flow."""
    flow = models.FlowDetail("flow", "f")
    for name in names:
        flow.add(models.TaskDetail(name, name))
    book = models.LogBook("book", "b")
    book.add(flow)
    connection.save_logbook(book)
    return flow


# -- the settings ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conf", "path"),
    [
        ({}, "/taskflow"),
        ({"path": "/a/b/"}, "/a/b"),
        ({"connection": "zookeeper"}, "/taskflow"),
        ({"connection": "zookeeper://h:1"}, "/taskflow"),
        ({"connection": "zookeeper://h:1/"}, "/taskflow"),
        ({"connection": "zookeeper://h:1/c/d"}, "/c/d"),
        ({"connection": "zookeeper://h:1/c", "path": "/p"}, "/p"),
    ],
)
def test_the_path_comes_from_the_settings(client, conf, path):
    assert ZkBackend(conf, client).path == path


def test_a_path_has_to_begin_at_the_root(client):
    with pytest.raises(ValueError, match="'path' must begin with '/', not 'a/b'"):
        ZkBackend({"path": "a/b"}, client)


@pytest.mark.parametrize(
    ("conf", "hosts"),
    [
        ({}, [("localhost", 2181)]),
        ({"hosts": " h:1 "}, [("h", 1)]),
        ({"hosts": "h:1,i:2"}, [("h", 1), ("i", 2)]),
        ({"hosts": ["h:1", "i"]}, [("h", 1), ("i", 2181)]),
        ({"hosts": {"h": 1, "i": None}}, [("h", 1), ("i", 2181)]),
        ({"hostname": "h:1"}, [("h", 1)]),
        ({"hosts": "i:2", "hostname": "h:1"}, [("i", 2)]),
    ],
)
def test_hosts_are_taken_in_any_form(conf, hosts):
    assert impl_zookeeper.make_client(conf).hosts == hosts


def test_the_client_is_made_as_the_settings_say(monkeypatch):
    given = {}
    monkeypatch.setattr(impl_zookeeper.kazoo_client, "KazooClient", lambda **kwargs: given.update(kwargs))
    retry = KazooRetry(max_tries=5)
    settings = {"timeout": "3", "randomize_hosts": False, "read_only": True, "connection_retry": retry, "handler": "h"}
    impl_zookeeper.make_client({**settings, "command_retry": {"max_tries": 7}, "path": "/p", "unknown": 1})
    command_retry = given.pop("command_retry")
    assert command_retry.max_tries == 7
    assert given == {**settings, "hosts": "localhost:2181", "timeout": 3.0}
    given.clear()
    impl_zookeeper.make_client({})
    assert given["command_retry"].max_tries == 3
    assert given["randomize_hosts"] is False  # as TaskFlow says


@pytest.mark.parametrize("version", [(3, 4, 0), (3, 8, 0), kazoo_errors.KazooException("it does not tell")])
def test_a_server_that_is_new_enough_or_does_not_tell_is_taken(version):
    client = FakeClient(version)
    ZkBackend({}, client).get_connection()
    assert client.connected


def test_a_server_that_is_too_old_is_refused():
    client = FakeClient((3, 3, 6))
    with pytest.raises(exceptions.IncompatibleVersion, match=r"Incompatible zookeeper version 3\.3\.6 .* >= 3\.4\.0 "):
        ZkBackend({}, client).get_connection()
    ZkBackend({"check_compatible": False}, client).get_connection()


def test_a_client_of_the_caller_is_left_open(client):
    backend = ZkBackend({}, client)
    backend.get_connection().close()
    backend.close()
    assert client.connected


def test_a_server_that_does_not_answer_is_an_error(caplog):
    caplog.set_level(logging.CRITICAL, "kazoo")
    backend = ZkBackend({"hosts": "127.0.0.1:1", "timeout": 0.2})
    with pytest.raises(exceptions.StorageFailure, match=r"^Storage backend timeout") as raised:
        backend.get_connection()
    assert isinstance(raised.value.cause, KazooTimeoutError)
    backend.close()


# -- what is sent ----------------------------------------------------------------------------------------------------


def test_what_a_method_writes_is_one_request(client, connection):
    made = save(connection, "a", "b")
    assert [len(request) for request in client.requests] == [7]  # book, flow and its link, two atoms and their links
    a, _ = made
    client.requests.clear()
    client.asked.clear()
    a.put("SUCCESS", 1)
    new = models.TaskDetail("new", "n")
    made.add(new)
    made.state = "RUNNING"
    connection.save_changes(made, [a, new])
    assert [sorted(request) for request in client.requests] == [
        sorted(
            (
                "create /t/atom_details/n",
                "create /t/flow_details/f/n",
                "set_data /t/atom_details/a",
                "set_data /t/flow_details/f",
            )
        )
    ]
    assert client.asked == ["/t/flow_details/f/n"]  # what was read before is known
    client.requests.clear()
    connection.destroy_logbook("b")
    assert [len(request) for request in client.requests] == [9]
    assert sorted(client.nodes) == ["/t", "/t/atom_details", "/t/books", "/t/flow_details"]


def test_what_exceeds_a_request_is_sent_in_several(client):
    connection = ZkBackend({"path": "/t", "jute_maxbuffer": 10_000}, client).get_connection()
    connection.upgrade()
    made = save(connection, *(f"t{n}" for n in range(50)))
    assert len(client.requests) > 1
    assert connection.get_flow_details("f").find("t49").name == "t49"
    assert [detail.name for detail in connection.get_flow_details("f")] == [detail.name for detail in made]


def test_what_exceeds_a_request_by_itself_is_refused_before_anything_is_sent(client, connection):
    made = save(connection, "small", "large")
    small, large = made
    before = dict(client.nodes)
    small.results, large.results = 1, "x" * 0xFFFFF
    with pytest.raises(exceptions.StorageFailure, match=r"^Cannot store 1,04\d,\d+ bytes at '/t/atom_details/large': "):
        connection.save_changes(made, made)
    assert client.nodes == before
    large.results = "x" * 1_000_000
    connection.save_changes(made, made)
    assert connection.get_atom_details("large").results == large.results


def test_a_value_is_checked_with_the_record_around_it(client):
    backend = ZkBackend({"path": "/t", "jute_maxbuffer": 50_000}, client)
    connection = backend.get_connection()
    connection.upgrade()
    made = save(connection, "a")
    (detail,) = made
    detail.results = "x" * 40_000
    backend.check_value(detail.results, "result of atom 'a'")
    connection.save_changes(made, made)
    for value in ("x" * 48_000, "ü" * 9_000):  # it is written as ASCII
        with pytest.raises(exceptions.Unstorable, match=r"^Cannot store result of atom 'a', \d+,\d+ bytes: ZooKeeper"):
            backend.check_value(value, "result of atom 'a'")
    with pytest.raises(exceptions.Unstorable, match="of type object"):
        backend.check_value(object(), "result of atom 'a'")


@pytest.mark.parametrize("uuid", ["a\ud800b", "a\x01b", "a\x85b", "a\uffffb", "x" * 5000], ids=ascii)
def test_a_uuid_that_is_no_name_of_a_node_is_refused(client, connection, uuid):
    before = dict(client.nodes)
    for call in (
        lambda: connection.save_logbook(models.LogBook("book", uuid)),
        lambda: connection.get_flow_details(uuid),
        lambda: connection.update_atom_details(models.TaskDetail("t", uuid), ignore_missing=True),
    ):
        with pytest.raises(exceptions.Unstorable, match="cannot be the name of a node") as caught:
            call()
        assert repr(uuid)[:8] in str(caught.value)
    assert client.nodes == before


def transact(connection, path, change):
    """Send a request that `change` makes, again when somebody else comes first."""
    connection._transact(path, change)


def test_what_somebody_else_has_changed_meanwhile_is_read_again(client, connection):
    made = save(connection, "a")
    calls = []

    def change(transaction):
        calls.append(connection._get_claim("f"))
        client.fails = [] if len(calls) > 2 else [kazoo_errors.BadVersionError()]
        transaction.add("set_data", "/t/flow_details/f", b"{}")

    transact(connection, "/t/flow_details/f", change)
    assert len(calls) == 3
    assert len(made) == 1


def test_who_never_comes_first_is_told_so(client, connection):
    calls = []

    def change(transaction):
        calls.append(1)
        client.fails = [kazoo_errors.BadVersionError()]
        transaction.add("set_data", "/t/books", b"")

    with pytest.raises(exceptions.StorageFailure, match="BadVersionError"):
        transact(connection, "/t/books", change)
    assert len(calls) == 20


def test_a_request_that_fails_leaves_nothing_and_is_an_error(client, connection):
    made = save(connection, "a")
    before = dict(client.nodes)

    def write(transaction):
        transaction.add("set_data", "/t/atom_details/a", b"new")
        transaction.add("create", "/t/books/b", b"")
        transaction.add("set_data", "/t/flow_details/f", b"new")

    with pytest.raises(exceptions.StorageFailure, match=r"^Storage backend duplicate node: /t/books/b"):
        transact(connection, "/t/books/b", write)
    assert client.nodes == before
    assert len(made) == 1


@pytest.mark.parametrize(
    ("error", "raised", "says"),
    [
        (kazoo_errors.NoNodeError(), exceptions.NotFound, "Storage backend node not found: /t"),
        (KazooTimeoutError(), exceptions.StorageFailure, "Storage backend timeout"),
        (kazoo_errors.SessionExpiredError(), exceptions.StorageFailure, "Storage backend session has expired"),
        (kazoo_errors.ConnectionLoss(), exceptions.StorageFailure, "Storage backend internal error at /t"),
        (kazoo_errors.NoAuthError(), exceptions.StorageFailure, "Storage backend internal error at /t.*: NoAuthError"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_errors_of_kazoo_become_ours(client, connection, error, raised, says):
    client.fails = [error, error]  # a run may have no version; its record must be there
    with pytest.raises(raised, match=f"^{says}") as caught:
        connection.get_flow_details("x")
    assert caught.value.cause is error
    client.fails = [error]
    with pytest.raises(raised):
        connection.upgrade()


def test_what_is_missing_is_said(client):
    connection = ZkBackend({"path": "/t"}, client).get_connection()
    with pytest.raises(exceptions.StorageFailure, match=r"^Missing required path: /t\nupgrade"):
        connection.validate()
    client.ensure_path("/t")
    with pytest.raises(exceptions.StorageFailure, match=r"^Missing required path: /t/books\n"):
        connection.validate()
    connection.upgrade()
    connection.validate()
