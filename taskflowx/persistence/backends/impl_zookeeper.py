"""Runs kept in ZooKeeper, in the layout of `path_based`: a record is the data of a node, a link an empty node.

What a method writes is one transaction, unless it exceeds what the server takes in one request: then it is several, in
the order in which `path_based` writes, of which each may be the last. A record that exceeds it by itself is refused
before anything is sent.

What must stay true: kazoo's errors are translated here; the client is shared by all connections of a back end, and one
that the caller made is left as it is.
"""

from __future__ import annotations

import contextlib
import posixpath
import threading
import urllib.parse
from typing import TYPE_CHECKING, Any, ClassVar

from kazoo import client as kazoo_client, exceptions as kazoo_errors
from kazoo.handlers.threading import KazooTimeoutError
from kazoo.retry import KazooRetry

from taskflowx import exceptions
from taskflowx.persistence import owners, path_based

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import NoReturn

#: the oldest version of the server that has what is used here
MIN_ZK_VERSION = (3, 4, 0)

#: bytes that a server takes in one request unless it is told otherwise
JUTE_MAXBUFFER = 0xFFFFF

_HOSTS = "localhost:2181"
_CONNECTING = 15.0  # seconds
_OPERATION = 160  # bytes of an operation beside its path and data, and more
_RETRY = {"max_tries": 3, "delay": 0.1}

# What kazoo's client takes as it is, and TaskFlow lets through.
_PASSED_ON = ("read_only", "randomize_hosts", "use_ssl", "verify_certs", "keyfile", "keyfile_password", "certfile")


class ZkBackend(path_based.PathBasedBackend):
    """Keeps runs in ZooKeeper.

    :param conf: `hosts` says where it is, as text, as a list of `host:port`, or as a dict of host to port, and `path`
        where in it; both can stand in the `connection` too, as in `zookeeper://host:port/path`. `timeout` (seconds),
        `read_only`, `randomize_hosts`, `command_retry`, `connection_retry`, `handler`, `use_ssl`, `verify_certs`,
        `certfile`, `keyfile` and `keyfile_password` are given to kazoo's client. `check_compatible` false leaves out
        the check of the server's version. `jute_maxbuffer` is the server's setting of that name, where it has one
    :param client: used instead of a new one, and left open
    """

    DEFAULT_PATH: ClassVar[str] = "/taskflow"

    def __init__(self, conf: dict[str, Any] | None, client: kazoo_client.KazooClient | None = None) -> None:
        super().__init__(conf)
        self._path = posixpath.normpath(self._path)
        if not posixpath.isabs(self._path):
            msg = f"'path' must begin with '/', not {self._path!r}"
            raise ValueError(msg)
        self._owns_client = client is None
        self._client = make_client(self._conf) if client is None else client
        self._starting = threading.Lock()
        self._checked = False
        self.limit = int(self._conf.get("jute_maxbuffer") or JUTE_MAXBUFFER)

    def _usual_path(self) -> str:
        address = urllib.parse.urlsplit(str(self._conf.get("connection") or ""))
        path = urllib.parse.unquote(address.path) if address.netloc else ""
        return path if path.strip("/") else self.DEFAULT_PATH

    def get_connection(self) -> ZkConnection:
        """Return a new connection; the first one connects the client.

        :raises StorageFailure: when the server does not answer, or is too old
        """
        with self._starting, _translated(self._path):
            if not self._client.connected:
                self._client.start(timeout=float(self._conf.get("timeout") or _CONNECTING))
            if not self._checked:
                _check_version(self._client, self._conf)
                self._checked = True
        return ZkConnection(self, self._client, self._conf)

    def close(self) -> None:
        """Close the client, if it is not the caller's."""
        if not self._owns_client:
            return
        with self._starting, _translated(self._path):
            self._client.stop()
            self._client.close()


class ZkConnection(path_based.PathBasedConnection):
    """Reads and writes nodes.

    :param backend: the store
    :param client: a client that has been started
    :param conf: the settings of the store
    """

    _backend: ZkBackend

    def __init__(self, backend: ZkBackend, client: kazoo_client.KazooClient, conf: dict[str, Any]) -> None:
        super().__init__(backend)
        self._client = client
        self._conf = conf
        # What this connection has learnt of nodes since its transaction began: path -> whether it is there.
        self._known: dict[str, bool] | None = None
        self._claimed = -1  # ZooKeeper's own version of the node of a claim when it was read, -1 if there was none

    def validate(self) -> None:
        """Check that the server answers and has the nodes under which records lie.

        :raises StorageFailure: when it does not
        """
        for path in (self._backend.path, self.book_path, self.flow_path, self.atom_path):
            with _translated(path):
                there = self._client.retry(self._client.exists, path)
            if not there:
                msg = f"Missing required path: {path}\nupgrade() makes it"
                raise exceptions.StorageFailure(msg)

    def _join_path(self, *parts: str) -> str:
        return posixpath.join(*parts)

    def _get_item(self, path: str) -> bytes:
        try:
            with _translated(path):
                data: bytes = self._client.retry(self._client.get, path)[0]
        except exceptions.NotFound:
            self._learn(path, there=False)
            raise
        self._learn(path, there=True)
        return data

    def _set_item(self, path: str, value: str, transaction: _Transaction) -> None:
        data = value.encode()
        if self._is_there(path):
            transaction.add("set_data", path, data)
        else:
            transaction.add("create", path, data)
            self._learn(path, there=True)

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

    def _get_children(self, path: str) -> list[str]:
        with _translated(path):
            names: list[str] = self._client.retry(self._client.get_children, path)
        return sorted(names)

    def _ensure_path(self, path: str) -> None:
        with _translated(path):
            self._client.ensure_path(path)

    def _get_claim(self, flow_uuid: str) -> owners.Claim | None:
        path = self._join_path(self._run_path, flow_uuid)
        try:
            with _translated(path):
                data, about = self._client.retry(self._client.get, path)
        except exceptions.NotFound:
            self._claimed = -1
            return None
        self._claimed = about.version
        return owners.Claim.from_json(data)

    def _set_claim(self, flow_uuid: str, claim: owners.Claim, transaction: _Transaction) -> None:
        path = self._join_path(self._run_path, flow_uuid)
        data = claim.to_json().encode()
        if self._claimed >= 0:
            transaction.add("set_data", path, data, version=self._claimed)
        else:
            self._ensure_path(self._run_path)
            transaction.add("create", path, data)

    @contextlib.contextmanager
    def _transaction(self, path: str) -> Iterator[_Transaction]:
        self._known = {}
        transaction = _Transaction(self._client, self._backend.limit)
        try:
            yield transaction
            transaction.commit()
        finally:
            self._known = None

    def _learn(self, path: str, *, there: bool) -> None:
        if self._known is not None:
            self._known[path] = there

    def _is_there(self, path: str) -> bool:
        if self._known is None or path not in self._known:
            with _translated(path):
                self._learn(path, there=self._client.retry(self._client.exists, path) is not None)
        return self._known is not None and self._known[path]


class _Transaction:
    """What is to be written together.

    :param client: which sends it
    :param limit: bytes that the server takes in one request
    """

    def __init__(self, client: kazoo_client.KazooClient, limit: int) -> None:
        self._client = client
        self._room = limit - 1024
        self._batches: list[list[tuple[str, str, tuple[bytes, ...], dict[str, int]]]] = [[]]
        self._size = 0

    def add(self, verb: str, path: str, *data: bytes, **version: int) -> None:
        """Add an operation.

        :param verb: of kazoo's transaction
        :param version: that the node must have, if it is to have one
        :raises StorageFailure: when the server cannot take it
        """
        size = _OPERATION + len(path.encode()) + sum(map(len, data))
        if size > self._room:
            msg = (
                f"Cannot store {size:,} bytes at '{path}': ZooKeeper takes {self._room:,} in one request\n"
                "Keep large values elsewhere, or raise jute.maxbuffer on the servers and jute_maxbuffer here"
            )
            raise exceptions.Unstorable(msg)
        if self._size + size > self._room:
            self._batches.append([])
            self._size = 0
        self._size += size
        self._batches[-1].append((verb, path, data, version))

    def commit(self) -> None:
        """Send everything.

        :raises StorageFailure: when something was not done; then nothing of its request was
        """
        for batch in filter(None, self._batches):
            request = self._client.transaction()
            for verb, path, data, version in batch:
                getattr(request, verb)(path, *data, **version)
            with _translated(batch[0][1]):
                results = request.commit()
            for (_, path, _, _), result in zip(batch, results, strict=True):
                # kazoo gives errors as results. What was rolled back was because of another one.
                if isinstance(result, Exception) and not isinstance(
                    result, (kazoo_errors.RolledBackError, kazoo_errors.RuntimeInconsistency)
                ):
                    _raise(path, result)


def make_client(conf: dict[str, Any]) -> kazoo_client.KazooClient:
    """Make a client of kazoo's, which has not been started, from the settings of a store.

    :param conf: see `ZkBackend`
    """
    given = {"randomize_hosts": False, **{key: conf[key] for key in _PASSED_ON if key in conf}}
    for key in ("command_retry", "connection_retry"):
        retry = conf.get(key)
        given[key] = KazooRetry(**retry) if isinstance(retry, dict) else retry
    given["command_retry"] = given["command_retry"] or KazooRetry(**_RETRY)
    if conf.get("timeout"):
        given["timeout"] = float(conf["timeout"])
    if conf.get("handler") is not None:
        given["handler"] = conf["handler"]
    return kazoo_client.KazooClient(hosts=_hosts(conf.get("hosts") or conf.get("hostname")), **given)


def _hosts(given: Any) -> str:
    if isinstance(given, dict):
        return ",".join(f"{host}:{port}" if port else host for host, port in given.items())
    if isinstance(given, str) or given is None:
        return given.strip() if given else _HOSTS
    return ",".join(str(host) for host in given)


def _check_version(client: kazoo_client.KazooClient, conf: dict[str, Any]) -> None:
    """Refuse a server that is too old.

    :raises IncompatibleVersion: when it is
    """
    if not conf.get("check_compatible", True):
        return
    try:
        version = tuple(client.server_version(retries=0))
    except kazoo_errors.KazooException:
        return  # newer servers do not tell, unless they are told to
    if version < MIN_ZK_VERSION:
        needed, found = (".".join(map(str, each)) for each in (MIN_ZK_VERSION, version))
        msg = f"Incompatible zookeeper version {found} detected, zookeeper >= {needed} required"
        raise exceptions.IncompatibleVersion(msg)


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """Raise what kazoo raises as errors of ours.

    :param path: what it was asked for
    """
    try:
        yield
    except (kazoo_errors.KazooException, KazooTimeoutError) as error:
        _raise(path, error)


def _raise(path: str, error: Exception) -> NoReturn:
    if isinstance(error, kazoo_errors.NoNodeError):
        msg = f"Storage backend node not found: {path}"
        raise exceptions.NotFound(msg, error) from error
    if isinstance(error, KazooTimeoutError):
        msg = "Storage backend timeout"
    elif isinstance(error, kazoo_errors.SessionExpiredError):
        msg = "Storage backend session has expired"
    elif isinstance(error, kazoo_errors.NodeExistsError):
        msg = f"Storage backend duplicate node: {path}"
    else:
        msg = f"Storage backend internal error at {path}: {type(error).__name__} {error}".rstrip()
    raise exceptions.StorageFailure(msg, error) from error
