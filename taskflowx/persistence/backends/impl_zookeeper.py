"""Runs kept in ZooKeeper, in the layout of `path_based`: a record is the data of a node, a link an empty node.

A method's writes are one transaction, unless they exceed the server's maximum request: then they are several, in the
order of `path_based`, and a crash may come after each. A record that exceeds the maximum by itself is rejected before
anything is sent.

What must stay true: kazoo's errors are translated here; the client is shared by all connections of a back end, and a
client of the caller is left as it is. A started client reconnects by itself, also when its session has expired, so it
is never started again; no request is sent while it is disconnected, and the wait for an answer ends at the caller's
deadline: `Connection.deadline`, or `owners.LONGEST_WAIT`.
"""

from __future__ import annotations

import contextlib
import posixpath
import random
import sys
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, NoReturn, TypeVar

from kazoo import client as kazoo_client, exceptions as kazoo_errors
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.protocol.states import KeeperState
from kazoo.retry import KazooRetry
from kazoo.security import CREATOR_ALL_ACL

from taskflowx import exceptions
from taskflowx._util import arguments, forks
from taskflowx.persistence import codec, models, owners, path_based, path_tree

_R = TypeVar("_R")

#: the oldest supported version of the server
MIN_ZK_VERSION = (3, 4, 0)
#: the server's default maximum of a request in bytes
JUTE_MAXBUFFER = 0xFFFFF

_HOSTS = "localhost:2181"
_CONNECTING = 15.0  # seconds
_OPERATION = 160  # bytes of an operation beside its path and data, rounded up
_REQUEST = 1024  # bytes of a request beside its operations, rounded up
_LONGEST_NAME = 4096  # bytes; the server's only limit is that of a request
_RECORD = 8192  # bytes of a record beside one value, and of the request around it
_RETRY = {"max_tries": 3, "delay": 0.1}
_RECONNECT = {"max_tries": -1, "delay": 0.1, "max_delay": 1.0}
_AT_ONCE = 200  # requests that are sent before their answers are awaited
_AFTER_CONFLICTS = 20  # attempts at a transaction that has conflicts
_VICTIMS = (kazoo_errors.RolledBackError, kazoo_errors.RuntimeInconsistency)

# Options that are passed to kazoo's client, as TaskFlow does.
_FLAGS = ("read_only", "randomize_hosts", "use_ssl", "verify_certs", "check_hostname")
_PASSED_ON = ("keyfile", "keyfile_password", "certfile", "ca", "sasl_options", "handler")

# Characters that a node's name must not have: https://zookeeper.apache.org/doc/current/zookeeperProgrammers.html
_NOT_IN_NAMES = ((0x0, 0x1F), (0x7F, 0x9F), (0xD800, 0xF8FF), (0xFFF0, 0xFFFF))


class ZkBackend(path_based.PathBasedBackend):
    """Keeps runs in ZooKeeper.

    :param conf: `hosts` are the servers, as text, as a list of `host:port`, or as a dict of host to port, and `path`
        the path there; both can be given in the `connection` too, as in `zookeeper://host:port/path`. `timeout`
        (seconds), `read_only`, `randomize_hosts`, `command_retry`, `connection_retry`, `handler`, `use_ssl`,
        `verify_certs`, `certfile`, `keyfile`, `keyfile_password`, `ca`, `check_hostname`, `sasl_options` are passed to
        kazoo's client. `username` and `password`, which can be given in the `connection` too, are digest credentials;
        `auth_data` has others, pairs of scheme and credential. `default_acl` is the access control of new nodes, as
        kazoo's ACLs or `creator`: the holder of these credentials. `check_compatible` false skips the check of the
        server's version. `jute_maxbuffer` is the server's setting of that name, if changed there
    :param client: used instead of a new one, and left open
    :raises ValueError: when the servers are not clear, or the path does not begin with '/'
    """

    DEFAULT_PATH: ClassVar[str] = "/taskflow"
    SETTINGS: ClassVar[frozenset[str] | None] = frozenset(
        {
            *(*_FLAGS, *_PASSED_ON, "path", "hosts", "hostname", "port", "username", "password", "timeout"),
            *("command_retry", "connection_retry", "check_compatible", "jute_maxbuffer", "auth_data", "default_acl"),
        }
    )

    def __init__(self, conf: dict[str, Any] | None, client: kazoo_client.KazooClient | None = None) -> None:
        super().__init__(conf)
        self.path = posixpath.normpath(self.path)
        if not posixpath.isabs(self.path):
            raise ValueError(f"'path' must begin with '/', not {self.path!r}")
        self._owns_client = client is None
        if client is None:
            hosts, root = _hosts(self._conf.get("hosts") or self._conf.get("hostname"))
            self.path = posixpath.normpath(root + self.path)
            self._conf = {**self._conf, "hosts": hosts}
            client = make_client(self._conf)
        self._client, self._forks = client, forks.count
        self._starting = threading.Lock()
        self._checked = False
        self.limit = int(self._conf.get("jute_maxbuffer") or JUTE_MAXBUFFER)

    def _usual_path(self) -> str:
        address = str(self._conf.get("connection") or "").partition("?")[0]
        _, slashes, address = address.partition("://")
        path = urllib.parse.unquote(f"/{address.partition('/')[2]}") if slashes else ""
        return path if path.strip("/") else self.DEFAULT_PATH

    def get_connection(self) -> ZkConnection:
        """Return a new connection; the first one connects the client.

        :raises StorageFailure: when the server does not answer, or is too old
        """
        if sys.is_finalizing():  # the client's threads have ended, and to start one waits for ever
            raise exceptions.StorageFailure("ZooKeeper cannot be asked while Python ends", may_pass=False)
        if self._owns_client and self._forks != forks.count:  # the threads of that one are in the parent alone
            self._client, self._starting, self._forks = make_client(self._conf), threading.Lock(), forks.count
        with self._starting, _translated(self.path):
            if self._client.client_state == KeeperState.CLOSED:
                self._client.start(timeout=float(self._conf.get("timeout") or _CONNECTING))
            if self._client.connected and not self._checked:
                _check_version(self._client, self._conf)
                self._checked = True
        return ZkConnection(self, self._client, self._conf)

    def check_value(self, value: Any, what: str) -> None:
        if (size := self._size_of(codec.dumps(value, what))) > self.limit:
            raise _too_large(f"{what}, {size:,} bytes", self.limit - _RECORD)

    def _size_of(self, text: str) -> int:
        return len(text if self.seal is None else self.seal.close(text)) + _RECORD

    limits_records = True

    def check_record(self, atom_detail: models.AtomDetail) -> None:
        # Of a history a node has only the last attempts; the others are together in another node.
        if isinstance(atom_detail, models.RetryDetail) and len(atom_detail.results) > 3 * path_tree.CHUNK:
            whole, atom_detail = atom_detail, atom_detail.copy()
            atom_detail.results = whole.results[-3 * path_tree.CHUNK :]
        size = self._size_of(codec.dump_atom(atom_detail))
        if size > self.limit:
            raise _too_large(f"the record of atom '{atom_detail.name}', {size:,} bytes", self.limit - _RECORD)

    def close(self) -> None:
        """Close the client, if it is not the caller's."""
        if self._owns_client and self._forks == forks.count:  # else it is that of the parent
            with self._starting, _translated(self.path):
                self._client.stop()
                self._client.close()


class ZkConnection(path_based.PathBasedConnection):
    """Reads and writes nodes.

    :param backend: the store
    :param client: a started client
    :param conf: the settings of the store
    """

    _backend: ZkBackend

    def __init__(self, backend: ZkBackend, client: kazoo_client.KazooClient, conf: dict[str, Any]) -> None:
        super().__init__(backend)
        self._client = client
        # The nodes that are known in the current transaction: path -> whether it exists.
        self._known: dict[str, bool] | None = None
        # ZooKeeper's own versions of the claim nodes that were read; -1 for none.
        self._claimed: dict[str, int] = {}

    def validate(self) -> None:
        for path in (self._backend.path, self.book_path, self.flow_path, self.atom_path):
            if not self._ask("exists", path):
                raise exceptions.StorageFailure(f"Missing required path: {path}\nupgrade() makes it")

    def _join_path(self, *parts: str) -> str:
        return posixpath.join(*parts)

    def _get_item(self, path: str) -> str:
        try:
            data: bytes = self._ask("get", path)[0]
        except exceptions.NotFound:
            self._learn(path, there=False)
            raise
        self._learn(path, there=True)
        return _text_of(path, data)

    def _set_item(self, path: str, value: str, transaction: _Transaction) -> None:
        data = value.encode()
        if self._is_there(path):
            transaction.add("set_data", path, data)
        else:
            transaction.add("create", path, data)
            self._learn(path, there=True)

    def _fits(self, path: str, packed: str) -> bool:
        return len(packed) + len(path) + _OPERATION + _REQUEST <= self._backend.limit

    def _write(self, changes: Any, transaction: _Transaction) -> None:
        for path in changes:
            above = posixpath.dirname(path)
            if posixpath.dirname(above) in (self._attempt_path, self._history_path) and not self._is_there(path):
                self._ensure_path(above)  # all other records are in paths that `upgrade` makes
        super()._write(changes, transaction)

    def _create_link(self, src_path: str, dest_path: str, transaction: _Transaction) -> None:
        if not self._is_there(dest_path):
            transaction.add("create", dest_path, b"")
            self._learn(dest_path, there=True)

    def _del_tree(self, path: str, transaction: _Transaction) -> None:
        try:
            children = self._get_children(path)
        except exceptions.NotFound:
            return
        for name in children:
            self._del_tree(self._join_path(path, name), transaction)
        transaction.add("delete", path)
        self._learn(path, there=False)

    def _run_items(self, names: list[str]) -> Iterator[tuple[str, Any, float | None]]:
        for begin in range(0, len(names), _AT_ONCE):
            some = names[begin : begin + _AT_ONCE]
            paths = [self._join_path(self.flow_path, name) for name in some]
            ends = time.monotonic() + self._seconds_left()
            with _translated(self.flow_path):
                answers = self._client.retry(self._several, ends, paths)
            for name, path, answer in zip(some, paths, answers, strict=True):
                if answer is not None:
                    with self._going_on():
                        yield name, _text_of(path, answer[0]), answer[1].mtime / 1000

    def _several(self, ends: float, paths: list[str]) -> list[Any]:
        """Return the data and the facts of several nodes, None for those that do not exist.

        :param ends: the deadline
        """
        self._await_client(ends)
        found: list[Any] = []
        for answer in [self._client.get_async(path) for path in paths]:
            try:
                found.append(answer.get(timeout=max(ends - time.monotonic(), 0.001)))
            except kazoo_errors.NoNodeError:
                found.append(None)
        return found

    def _get_children(self, path: str) -> list[str]:
        return sorted(self._ask("get_children", path))

    def _ensure_path(self, path: str) -> None:
        self._ask("ensure_path", path)

    def _check_name(self, name: str) -> None:
        wrong = [letter for letter in name if any(low <= ord(letter) <= high for low, high in _NOT_IN_NAMES)]
        if wrong:
            raise exceptions.Unstorable(f"The uuid {name!r} cannot be the name of a node, as it has {wrong[0]!r} in it")
        if len(name.encode()) > _LONGEST_NAME:
            msg = f"The uuid '{name[:80]}…' cannot be the name of a node: it has more than {_LONGEST_NAME} bytes"
            raise exceptions.Unstorable(msg)

    def _ask(self, verb: str, path: str) -> Any:
        """Send a request to the server, with retries after a lost answer, and return the answer."""
        ends = time.monotonic() + self._seconds_left()
        with _translated(path):
            return self._client.retry(self._once, ends, lambda: getattr(self._client, f"{verb}_async")(path))

    def _once(self, ends: float, send: Callable[[], Any]) -> Any:
        """Send a request when the client is connected, and return the answer.

        :param ends: its deadline
        :param send: sends it, and returns an asynchronous result
        :raises KazooTimeoutError: when the deadline has passed
        """
        self._await_client(ends)
        return send().get(timeout=max(ends - time.monotonic(), 0.001))

    def _await_client(self, ends: float) -> None:
        """Wait until the client is connected.

        :raises KazooTimeoutError: when the deadline has passed
        """
        client = self._client
        while not client.connected:
            # A disconnected client queues requests, and may send them long after the caller has given up.
            if client.client_state == KeeperState.CLOSED:
                raise kazoo_errors.ConnectionClosedError("The client was stopped, or has given up to connect")
            left = ends - time.monotonic()
            if left <= 0:
                raise KazooTimeoutError("ZooKeeper is not connected")
            client.handler.sleep_func(min(left, 0.02))

    def _get_claim(self, flow_uuid: str) -> owners.Claim | None:
        path = self._join_path(self._run_path, flow_uuid)
        try:
            data, about = self._ask("get", path)
        except exceptions.NotFound:
            self._claimed[flow_uuid] = -1
            return None
        self._claimed[flow_uuid] = about.version
        return self._to_claim(data, path)

    def _set_claim(self, flow_uuid: str, claim: owners.Claim, transaction: _Transaction) -> None:
        path = self._join_path(self._run_path, flow_uuid)
        data = claim.to_json().encode()
        version = self._claimed[flow_uuid]
        if version >= 0:
            transaction.add("set_data", path, data, version=version)
        else:
            self._ensure_path(self._run_path)
            transaction.add("create", path, data)

    def _pin_claim(self, flow_uuid: str, transaction: _Transaction) -> None:
        path, version = self._join_path(self._run_path, flow_uuid), self._claimed[flow_uuid]
        if version >= 0:
            transaction.add("check", path, version=version)
        else:
            self._ensure_path(self._run_path)
            transaction.add("create", path, b"")  # fails if there is one meanwhile, which no check tells
            transaction.add("delete", path)

    def _transact(self, path: str, change: Callable[[Any], _R]) -> _R:
        """Do as the base class does, with retries after a conflict: then everything is read again."""
        for _ in range(_AFTER_CONFLICTS - 1):
            try:
                return super()._transact(path, change)
            except _Conflict:
                threading.Event().wait(random.uniform(0, 0.05))
        return super()._transact(path, change)

    def _within(self, path: str, transaction: _Transaction) -> contextlib.AbstractContextManager[_Transaction]:
        return contextlib.nullcontext(transaction)

    @contextlib.contextmanager
    def _transaction(self, path: str) -> Iterator[_Transaction]:
        self._known = {}
        transaction = _Transaction(self._backend.limit)
        try:
            yield transaction
            for batch in filter(None, transaction.batches):
                self._commit(batch)
        finally:
            self._known = None
            self._claimed.clear()

    def _commit(self, batch: list[_Operation]) -> None:
        """Send operations as one request.

        :raises StorageFailure: when one has failed; then none is applied
        """
        request = self._client.transaction()
        for verb, path, data, version in batch:
            getattr(request, verb)(path, *data, **version)
        with _translated(batch[0][1]):
            results = self._once(time.monotonic() + self._seconds_left(), request.commit_async)
        for (_, path, _, _), result in zip(batch, results, strict=True):
            # kazoo returns errors as results. An operation that was rolled back is the victim of another one.
            if isinstance(result, Exception) and not isinstance(result, _VICTIMS):
                _raise(path, result)

    def _learn(self, path: str, *, there: bool) -> None:
        if self._known is not None:
            self._known[path] = there

    def _is_there(self, path: str) -> bool:
        if self._known is None or path not in self._known:
            self._learn(path, there=self._ask("exists", path) is not None)
        return self._known is not None and self._known[path]


def _text_of(path: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeError as error:
        raise codec.Unreadable(f"The node '{path}' is damaged, it is no text", error) from error


_Operation = tuple[str, str, tuple[bytes, ...], dict[str, int]]


class _Transaction:
    """The operations of a transaction.

    :param limit: the server's maximum request in bytes
    """

    def __init__(self, limit: int) -> None:
        self._room = limit - _REQUEST
        #: the requests, each a list of operations
        self.batches: list[list[_Operation]] = [[]]
        self._size = 0

    def add(self, verb: str, path: str, *data: bytes, **version: int) -> None:
        """Add an operation.

        :param verb: a method of kazoo's transaction
        :param version: the required version of the node, if any
        :raises Unstorable: when the server cannot take it
        """
        size = _OPERATION + len(path.encode()) + sum(map(len, data))
        if size > self._room:
            raise _too_large(f"{size:,} bytes at '{path}'", self._room)
        if self._size + size > self._room:
            self.batches.append([])
            self._size = 0
        self._size += size
        self.batches[-1].append((verb, path, data, version))


class _Conflict(exceptions.StorageFailure):
    """Another writer has changed a node since it was read."""


def _too_large(what: str, room: int) -> exceptions.Unstorable:
    return exceptions.Unstorable(
        f"Cannot store {what}: ZooKeeper takes {room:,} in one request\n"
        "Keep large values elsewhere, or raise jute.maxbuffer on the servers and jute_maxbuffer here"
    )


def make_client(conf: dict[str, Any]) -> kazoo_client.KazooClient:
    """Make a kazoo client, not started, from the settings of a store.

    :param conf: see `ZkBackend`
    :raises ValueError: when the servers are not clear
    """
    given: dict[str, Any] = {"randomize_hosts": False}
    given |= {key: arguments.to_bool(f"The setting '{key}'", conf[key]) for key in _FLAGS if key in conf}
    given |= {key: conf[key] for key in _PASSED_ON if conf.get(key) is not None}
    for key, usual in (("command_retry", _RETRY), ("connection_retry", _RECONNECT)):
        retry = conf.get(key) or usual
        given[key] = KazooRetry(**retry) if isinstance(retry, dict) else retry
    if conf.get("timeout"):
        given["timeout"] = float(conf["timeout"])
    auth = list(conf.get("auth_data") or ())
    if conf.get("username"):
        auth.append(("digest", f"{conf['username']}:{conf.get('password') or ''}"))
    if auth:
        given["auth_data"] = auth
    if conf.get("default_acl"):
        given["default_acl"] = CREATOR_ALL_ACL if conf["default_acl"] == "creator" else conf["default_acl"]
    hosts, root = _hosts(conf.get("hosts") or conf.get("hostname"))
    try:
        return kazoo_client.KazooClient(hosts=hosts + root, **given)
    except ValueError as error:
        raise ValueError(f"Cannot tell which servers of ZooKeeper '{hosts}' are: {error}") from error


def _hosts(given: Any) -> tuple[str, str]:
    """Return the servers, in kazoo's form, and the path after them, which is the prefix of all paths."""
    if isinstance(given, dict):
        hosts = ",".join(f"{host}:{port}" if port else host for host, port in given.items())
    elif isinstance(given, str) or given is None:
        hosts = given.strip() if given else _HOSTS
    else:
        hosts = ",".join(map(str, given)).replace(",/", "/")
    servers, slash, root = hosts.partition("/")
    return servers, f"{slash}{root}".rstrip("/")


def _check_version(client: kazoo_client.KazooClient, conf: dict[str, Any]) -> None:
    """Raise an error if the server is too old.

    :raises IncompatibleVersion: when it is
    """
    if not arguments.to_bool("The setting 'check_compatible'", conf.get("check_compatible", True)):
        return
    try:
        version = tuple(client.server_version(retries=0))
    except (kazoo_errors.KazooException, OSError):
        return  # newer servers report their version only if configured to
    if version < MIN_ZK_VERSION:
        needed, found = (".".join(map(str, each)) for each in (MIN_ZK_VERSION, version))
        msg = f"Incompatible zookeeper version {found} detected, zookeeper >= {needed} required"
        raise exceptions.IncompatibleVersion(msg)


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """Translate kazoo's errors into our own.

    :param path: the path of the request
    """
    try:
        yield
    except (kazoo_errors.KazooException, KazooTimeoutError, OSError) as error:
        _raise(path, error)


def _raise(path: str, error: Exception) -> NoReturn:
    if isinstance(error, kazoo_errors.NoNodeError):
        raise exceptions.NotFound(f"Storage backend node not found: {path}", error) from error
    kind: type[exceptions.StorageFailure] = exceptions.StorageFailure
    if isinstance(error, KazooTimeoutError):
        msg = f"Storage backend timeout at {path}"
    elif isinstance(error, kazoo_errors.SessionExpiredError):
        msg = "Storage backend session has expired"
    elif isinstance(error, kazoo_errors.NodeExistsError):
        kind, msg = _Conflict, f"Storage backend duplicate node: {path}"
    else:
        if isinstance(error, (kazoo_errors.BadVersionError, kazoo_errors.NotEmptyError)):
            kind = _Conflict
        msg = f"Storage backend internal error at {path}: {type(error).__name__} {error}".rstrip()
    raise kind(msg, error) from error
