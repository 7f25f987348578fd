"""Pickles calls for a worker of the cluster.

A large argument or atom is a *blob*: it is sent to the cluster once, by the digest of its pickle, and once to each
worker that needs it. So an argument of a hundred calls crosses the network once for each worker, and a value that a
task has changed meanwhile is another blob. Workers keep blobs pickled, as a task may change its arguments.
"""

from __future__ import annotations

import hashlib
import pickle
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx.executors import pickling

if TYPE_CHECKING:
    from taskflowx.executors import base

#: the size in bytes from which a part of a call is a blob
LARGE = 64 * 1024
#: the maximum size in bytes of cached blobs that no call needs: in the Dask scheduler for a run, and in each worker
KEPT = 256 * 1024 * 1024


#: the size in bytes of a piece of a blob, and the approximate size of other messages
PIECE = 4 * 1024 * 1024


class _Blob(NamedTuple):
    """Stands for a large part of a call."""

    digest: bytes


def is_pure(atom: Any) -> bool:
    """Tell whether a task may be repeated."""
    given = atom._tfx_pure
    return bool(atom.default_pure if given is None else given)


class Packer:
    """Packs the calls of one run, and tracks the blobs that the cluster has."""

    def __init__(self) -> None:
        #: digest -> size in bytes, and how many calls need it; least recently needed first
        self._known: OrderedDict[bytes, list[int]] = OrderedDict()
        self._size = 0
        self._needs: dict[int, tuple[bytes, ...]] = {}
        #: blobs to send with the next calls
        self.fresh: dict[bytes, bytes] = {}
        self._packed: dict[int, tuple[Any, Any]] = {}
        #: held while the needs are counted: one thread sends calls, and another one ends them
        self._counting = threading.Lock()

    def begin(self) -> None:
        """Start a batch of calls: within it one object is pickled once."""
        self._packed.clear()

    def pack(self, number: int, call: base.Call) -> tuple[bytes, tuple[bytes, ...]]:
        """Return a call as bytes, and the digests of the blobs that it needs.

        :raises Exception: when it cannot be pickled
        """
        kwargs, atom = call.kwargs, call.atom
        listened = getattr(atom, "_tfx_listened", None) is not None
        needs: dict[bytes, None] = {}
        if any(_seems_large(value) for value in kwargs.values()):
            kwargs = {
                name: self._apart(value, needs) if _seems_large(value) else value for name, value in kwargs.items()
            }
        body = pickling.dumps_afar((atom, call.verb, kwargs, listened))
        if len(body) >= LARGE:
            kwargs = {name: self._apart(value, needs) for name, value in kwargs.items()}
            body = pickling.dumps_afar((self._apart(atom, needs), call.verb, kwargs, listened))
        digests = tuple(needs)
        if digests:
            with self._counting:
                self._needs[number] = digests
                for digest in digests:
                    self._known[digest][1] += 1
        return body, digests

    def _apart(self, value: Any, needs: dict[bytes, None]) -> Any:
        """Return the placeholder of a value that turns out to be large."""
        if type(value) is _Blob:
            needs[value.digest] = None
            return value
        if (known := self._packed.get(id(value))) is not None:
            stands = known[1]
        else:
            body = pickling.dumps_afar(value)
            stands = value
            if len(body) >= LARGE:
                stands = _Blob(hashlib.blake2b(body, digest_size=20).digest())
                if stands.digest not in self._known:
                    self._known[stands.digest] = [len(body), 0]
                    self._size += len(body)
                    self.fresh[stands.digest] = body
            self._packed[id(value)] = value, stands  # with the value, so that its id is not reused
        if type(stands) is _Blob:
            needs[stands.digest] = None
        return stands

    def ended(self, number: int) -> None:
        """Record that a call needs its blobs no more."""
        if number in self._needs:
            with self._counting:
                for digest in self._needs.pop(number):
                    self._known[digest][1] -= 1
                    self._known.move_to_end(digest)

    def surplus(self) -> list[bytes]:
        """Return the digests that the cluster should forget."""
        forgotten: list[bytes] = []
        if self._size <= KEPT:
            return forgotten
        with self._counting:
            for digest, (size, calls) in list(self._known.items()):
                if self._size <= KEPT:
                    break
                if not calls and digest not in self.fresh:
                    del self._known[digest]
                    self._size -= size
                    forgotten.append(digest)
        return forgotten


def _seems_large(value: Any) -> bool:
    """Tell whether a value reports a large size by itself, so that it need not be pickled to measure it."""
    if isinstance(value, (str, bytes, bytearray)):
        return len(value) >= LARGE
    size = getattr(value, "nbytes", 0) if type(value).__module__ in _ARRAYS else 0
    return isinstance(size, int) and size >= LARGE


_ARRAYS = frozenset(("numpy", "cupy", "torch"))


def unpack(body: bytes, blob: Callable[[bytes], bytes]) -> tuple[Any, str, dict[str, Any], bool]:
    """Return the atom, the verb and the arguments of a call, and whether the atom has subscribers.

    :param blob: returns the bytes of a blob
    """
    atom, verb, kwargs, listened = pickle.loads(body)  # noqa: S301 - from the engine

    def whole(value: Any) -> Any:
        return pickle.loads(blob(value.digest)) if type(value) is _Blob else value  # noqa: S301

    return whole(atom), verb, {name: whole(value) for name, value in kwargs.items()}, listened


def upload(key: bytes, body: bytes, put: Callable[..., Any]) -> None:
    """Send a blob, piece by piece.

    :param put: makes the request `put` of the fence
    """
    for at in range(0, len(body), PIECE):
        put(key=key, at=at, piece=body[at : at + PIECE], size=len(body))


def download(key: bytes, get: Callable[..., tuple[bytes, int] | None]) -> bytes:
    """Receive a blob, piece by piece, and return it.

    :param get: makes the request `get` of the fence
    :raises KeyError: when the fence does not have it
    """
    body = bytearray()
    size = 1
    while len(body) < size:
        answer = get(key=key, at=len(body))
        if answer is None:
            raise KeyError(key.hex())
        piece, size = answer
        body += piece
    return bytes(body)


class Blobs:
    """The blobs that a worker process caches, up to a maximum size."""

    def __init__(self, room: int = KEPT) -> None:
        self._room = room
        self._kept: OrderedDict[bytes, bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def get(self, digests: Sequence[bytes], fetch: Callable[[bytes], bytes]) -> dict[bytes, bytes]:
        """Return blobs by their digests.

        :param fetch: returns a blob that is not cached
        """
        with self._lock:
            found = {digest: self._kept[digest] for digest in digests if digest in self._kept}
            for digest in found:
                self._kept.move_to_end(digest)
        for digest in digests:
            if digest not in found:
                found[digest] = fetch(digest)
                self._keep(digest, found[digest])
        return found

    def _keep(self, digest: bytes, body: bytes) -> None:
        with self._lock:
            if digest not in self._kept and len(body) <= self._room:
                self._kept[digest] = body
                self._size += len(body)
                while self._size > self._room:
                    self._size -= len(self._kept.popitem(last=False)[1])
