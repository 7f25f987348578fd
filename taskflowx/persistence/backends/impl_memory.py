"""Runs kept in memory, for the lifetime of their `MemoryBackend`; and the tree of paths that they are kept in.

What must stay true: values that a run passes from one atom to the next are neither copied nor serialised here. The
store holds an engine's own record (`MemoryBackend.hold`), and the engine writes nothing more. All other callers pass
and get copies, as with any other store; a value that cannot be copied is shared.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import posixpath
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from taskflowx import exceptions, states
from taskflowx._util import arguments
from taskflowx.persistence import models, owners, path_based, path_tree, run_records
from taskflowx.types import tree

if TYPE_CHECKING:
    from taskflowx.persistence.history import Entry


class FakeInode(tree.Node):
    """A node of a `FakeFilesystem`; `metadata` has its `path`, its `value`, and for a link its `target`.

    :param item: its name
    :param path: its full path
    :param value: its value
    """

    def __init__(self, item: str, path: str, value: Any = None) -> None:
        super().__init__(item, path=path, value=value)


class FakeFilesystem:
    """A tree of paths, such as `/a/b`, that each hold a value.

    :param deep_copy: whether values are copied on writes and reads
    """

    root_path: ClassVar[str] = posixpath.sep

    def __init__(self, deep_copy: bool = True) -> None:
        self._copied: Callable[[Any], Any] = copy.deepcopy if deep_copy else lambda value: value
        self.clear()

    @classmethod
    def normpath(cls, path: str) -> str:
        """Return a path in its normal form.

        :raises ValueError: when it does not begin at the root
        """
        if not path:
            raise ValueError("This filesystem can only normalize paths that are not empty")
        if not path.startswith(cls.root_path):
            raise ValueError(
                f"This filesystem can only normalize paths that start with {cls.root_path}: '{path}' is not valid"
            )
        return cls.root_path + posixpath.normpath(path).lstrip(cls.root_path)  # two leading slashes would stay

    @staticmethod
    def split(p: str) -> tuple[str, str]:
        """Return a path up to its last part, and the last part."""
        return posixpath.split(p)

    @staticmethod
    def join(*pieces: str) -> str:
        """Join parts to a path."""
        return posixpath.sep.join(pieces)

    def ensure_path(self, path: str) -> None:
        """Make a path, and its missing parents."""
        path = self.normpath(path)
        missing = []
        while path not in self._inodes:
            missing.append(path)
            path = posixpath.dirname(path)
        for each in reversed(missing):
            self._put(each, None)

    def get(self, path: str, default: Any = None) -> Any:
        """Return the value at a path, following links, or a default if there is none."""
        try:
            return self[path]
        except exceptions.NotFound:
            return default

    def ls_r(self, path: str, absolute: bool = False) -> list[str]:
        """Return all paths below a path, level by level.

        :param absolute: whether they are absolute, and not relative to that path
        """
        inode = self._inode(path)
        top = inode.metadata["path"].rstrip(self.root_path) + self.root_path
        paths = [below.metadata["path"] for below in inode.bfs_iter()]
        return paths if absolute else [each.removeprefix(top) for each in paths]

    def ls(self, path: str, absolute: bool = False) -> list[str]:
        """Return the members right below a path.

        :param absolute: whether as paths, and not as names
        """
        return [below.metadata["path"] if absolute else below.item for below in self._inode(path)]

    def clear(self) -> None:
        """Remove everything."""
        self._root = FakeInode(self.root_path, self.root_path)
        self._inodes = {self.root_path: self._root}

    def delete(self, path: str, recursive: bool = False) -> None:
        """Remove a path; a link, but not its target.

        :param recursive: whether with everything below it
        :raises NotFound: when there is no such path
        :raises ValueError: when there is something below it, or it is the root
        """
        inode = self._inode(path)
        path = inode.metadata["path"]
        count = inode.child_count(only_direct=True)
        if count and not recursive:
            raise ValueError(f"Can not delete '{path}', it has {count} children")
        if inode is self._root:
            if not recursive:
                raise ValueError(f"Can not delete '{path}'")
            self.clear()
            return
        for each in [inode, *inode.bfs_iter()]:
            del self._inodes[each.metadata["path"]]
        inode.disassociate()

    def pformat(self) -> str:
        """Draw the tree."""
        return self._root.pformat(stringify_node=_shown)

    def symlink(self, src_path: str, dest_path: str) -> None:
        """Make a link.

        :param src_path: its target, which need not exist
        :param dest_path: its path
        """
        target = self.normpath(src_path)
        dest_path = self.normpath(dest_path)
        inode = self._inodes.get(dest_path) or self._put(dest_path, None)
        inode.metadata["target"] = target

    def __getitem__(self, path: str) -> Any:
        inode = self._inode(path)
        followed: list[str] = []
        while "target" in inode.metadata:
            target = inode.metadata["target"]
            if target in followed:
                raise ValueError(f"Recursive link following not allowed (loop {[*followed, target]} detected)")
            followed.append(target)
            inode = self._inode(target)
        return self._copied(inode.metadata["value"])

    def __setitem__(self, path: str, value: Any) -> None:
        self._put(self.normpath(path), self._copied(value))

    def __delitem__(self, path: str) -> None:
        self.delete(path, recursive=True)

    def _inode(self, path: str) -> FakeInode:
        path = self.normpath(path)
        try:
            return self._inodes[path]
        except KeyError:
            raise exceptions.NotFound(f"Path '{path}' not found") from None

    def _put(self, path: str, value: Any) -> FakeInode:
        """Put a value, uncopied, at a normalised path."""
        inode = self._inodes.get(path)
        if inode is not None:
            inode.metadata["value"] = value
            return inode
        above, name = posixpath.split(path)
        inode = FakeInode(name, path, value)
        self._inode(above).add(inode)
        self._inodes[path] = inode
        return inode


def _shown(inode: Any) -> str:
    target = inode.metadata.get("target")
    return str(inode.item) if target is None else f"{inode.item} (link to {target})"


class MemoryBackend(path_based.PathBasedBackend):
    """Keeps runs in memory; its connections share one store, and two backends share nothing.

    :param conf: with `deep_copy` false, the store shares values with its callers
    """

    SETTINGS: ClassVar[frozenset[str] | None] = frozenset({"path", "deep_copy"})
    DEFAULT_PATH: ClassVar[str] = posixpath.sep
    durable: ClassVar[bool] = False
    is_temporary = True

    def __init__(self, conf: dict[str, Any] | None = None) -> None:
        super().__init__(conf)
        self.deep_copy = arguments.to_bool("The setting 'deep_copy'", self._conf.get("deep_copy", True))
        self.memory = FakeFilesystem(deep_copy=self.deep_copy)
        self.lock = threading.RLock()
        self._held: dict[str, _Held] = {}
        self._claims: dict[str, owners.Claim] = {}
        #: uuid of a flow -> the history of a run that is not held any more
        self._histories: dict[str, list[Entry]] = {}
        #: uuid of a flow -> when it was stored first, in seconds since 1970; each is later than the one before
        self.made_at: dict[str, float] = {}
        #: uuid of a flow with a run id -> the runs of it that have begun
        self._turns: dict[str, _Turns] = {}
        self._numbers = itertools.count(1)  # of all flows: one that is removed and stored again has none of before
        self._made_last = 0.0
        #: uuid of a flow -> when it was written last, or a run of it began or ended, in seconds since 1970
        self.changed_at: dict[str, float] = {}

    def get_connection(self) -> Connection:
        return Connection(self)

    def note_made(self, flow_uuid: str) -> None:
        """Note that a flow is stored for the first time."""
        self._made_last = max(time.time(), self._made_last + 2e-6)
        self.made_at[flow_uuid] = self._made_last

    def note_changed(self, flow_uuid: str) -> None:
        """Note that a flow is written, or that it is left by a run, which writes nothing."""
        self.changed_at[flow_uuid] = max(time.time(), self.made_at.get(flow_uuid, 0.0))

    def turns_of(self, flow_uuid: str) -> int:
        """Return the number of the last run of a flow that `turn` was asked for; 0 for none."""
        turns = self._turns.get(flow_uuid)
        return 0 if turns is None else turns.begun

    @contextlib.contextmanager
    def running(self, flow_detail: models.FlowDetail) -> Iterator[None]:
        """Note when a run of a flow ends that is held: its changes are no writes."""
        try:
            yield
        finally:
            with self.lock:
                if flow_detail.uuid in self.made_at:
                    self.note_changed(flow_detail.uuid)

    @contextlib.contextmanager
    def turn(self, flow_detail: models.FlowDetail, seen: int) -> Iterator[int]:
        """Keep other engines from running a flow in the block, whose value is what `turns_of` returns from now on.

        :param flow_detail: held from now on
        :param seen: what `turns_of` returned when it was read or run last
        :raises OwnershipFailure: when another engine runs it, or has run it since
        """
        what = f"Flow '{flow_detail.name}' ({flow_detail.uuid})"
        with self.lock:
            turns = self._turns.setdefault(flow_detail.uuid, _Turns())
            if turns.running:
                raise exceptions.OwnershipFailure(f"{what} is being run by another engine of this process")
            if turns.begun != seen:
                raise exceptions.OwnershipFailure(
                    f"{what} has gone on since it was read here; nothing of it is run\nLoad an engine again"
                )
            turns.begun, turns.running = next(self._numbers), True
            self.hold(flow_detail)
        try:
            with self.running(flow_detail):
                yield turns.begun
        finally:
            turns.running = False

    def hold(self, flow_detail: models.FlowDetail) -> None:
        """Hold the detail of a flow itself: a change to it is stored at once.

        A later update from elsewhere replaces it.

        :param flow_detail: stored, in no book, if it is not stored yet
        """
        with self.lock:
            held = self._held.get(flow_detail.uuid)
            if held is not None and held.detail is flow_detail:
                held.placed.clear()  # place them again: another caller may have updated them
                return
            connection = self.get_connection()
            path = connection._join_path(connection.flow_path, flow_detail.uuid)
            connection._set_item(path, flow_detail, None)
            self._held[flow_detail.uuid] = _Held(flow_detail)


class _Turns:
    """The runs of a flow with a run id."""

    __slots__ = ("begun", "running")

    def __init__(self) -> None:
        self.begun = 0
        self.running = False


class _Held:
    """The detail of a flow that is held itself."""

    __slots__ = ("detail", "placed")

    def __init__(self, detail: models.FlowDetail) -> None:
        self.detail = detail
        self.placed: set[str] = set()  # uuids of its atoms that have been placed at their paths

    def version(self) -> int:
        """Return a number that differs, almost certainly, whenever something in the detail has changed."""
        facts: list[Any] = [self.detail.state, *self.detail.meta, *map(id, self.detail.meta.values())]
        for atom in self.detail:
            facts += (atom.name, atom.state, atom.intention, *atom.meta, *map(id, atom.meta.values()))
            facts += map(id, (atom.results, atom.failure, atom.revert_results, atom.revert_failure))
            if isinstance(atom, models.RetryDetail):
                facts += (len(failures) for _, failures in atom.results)
        return owners.version_of(hash(tuple(facts)))


class Connection(path_based.PathBasedConnection):
    """Reads and writes the details in a `MemoryBackend`, at the paths where other stores keep text."""

    _backend: MemoryBackend

    def __init__(self, backend: MemoryBackend) -> None:
        super().__init__(backend)
        self._memory = backend.memory
        self._held = backend._held
        self._claims = backend._claims

    def validate(self) -> None:
        """Do nothing: memory can always be used."""

    def save_changes(
        self,
        flow_detail: models.FlowDetail,
        atom_details: Iterable[models.AtomDetail],
        owner: owners.Owner | None = None,
        entries: Iterable[Entry] = (),
    ) -> None:
        """Hold the details themselves, see `MemoryBackend.hold`."""
        with self._backend.lock:
            self._get_item(self._place_of(self.flow_path, flow_detail.uuid))
            self._backend.hold(flow_detail)

    def get_history(self, flow_uuid: str, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        with self._backend.lock:
            held = self._held.get(flow_uuid)
            log = None if held is None else held.detail.log
            entries = self._backend._histories.get(flow_uuid, []) if log is None else log.entries()
        yield from entries[after:][:limit]

    def _join_path(self, *parts: str) -> str:
        return FakeFilesystem.normpath(FakeFilesystem.join(*parts))

    def _get_item(self, path: str) -> Any:
        if posixpath.dirname(path) == self.atom_path:
            for held in self._held.values():
                self._place_atoms(held)
        value = self._memory._inode(path).metadata["value"]
        if value is None:
            raise exceptions.NotFound(f"Path '{path}' not found")
        return value

    def _set_item(self, path: str, value: Any, transaction: Any) -> None:
        if path in self._memory._inodes and self._memory._inodes[path].metadata["value"] is value:
            return
        self._let_go(path)
        self._memory.ensure_path(path)
        self._memory._put(path, value)
        above, name = posixpath.split(path)
        if above == self.flow_path:
            if name not in self._backend.made_at:
                self._backend.note_made(name)
            self._backend.note_changed(name)

    def _del_tree(self, path: str, transaction: Any) -> None:
        self._let_go(path)
        if path == self.flow_path:
            self._held.clear()
            self._backend._histories.clear()
            self._backend.made_at.clear()
            self._backend.changed_at.clear()
            self._backend._turns.clear()
        elif path == self._run_path:
            self._claims.clear()
        above, name = posixpath.split(path)
        if above == self._run_path:
            self._claims.pop(name, None)
        elif above == self._history_path:
            self._backend._histories.pop(name, None)
        elif above == self.flow_path:
            self._backend.made_at.pop(name, None)
            self._backend.changed_at.pop(name, None)
            self._backend._turns.pop(name, None)
        if path in self._memory._inodes:
            self._memory.delete(path, recursive=True)

    def _get_children(self, path: str) -> list[str]:
        if held := self._held_at(path):
            self._place_atoms(held)
        return self._memory.ls(path)

    def _ensure_path(self, path: str) -> None:
        with self._backend.lock:
            self._memory.ensure_path(path)

    def _create_link(self, src_path: str, dest_path: str, transaction: Any) -> None:
        self._memory.ensure_path(posixpath.dirname(dest_path))
        self._memory.symlink(src_path, dest_path)

    def _transaction(self, path: str) -> AbstractContextManager[Any]:
        return self._backend.lock

    _reading = _transaction

    def _pack(self, detail: path_tree.Detail, place: path_tree.Place) -> Any:
        return _copy_of(detail, self._backend.deep_copy)

    def _unpack(self, kept: Any, load: Callable[[dict[str, Any]], Any]) -> tuple[Any, path_tree.Place]:
        # Children are listed in the order of insertion.
        return _copy_of(kept, self._backend.deep_copy), path_tree.Place(0)

    def _runs(self, names: list[str], *of_books: Any) -> Iterator[run_records.RunRow]:
        with self._backend.lock:
            yield from list(super()._runs(names, *of_books))

    def _run_items(self, names: list[str]) -> Iterator[tuple[str, Any, float | None]]:
        for name, item, _ in super()._run_items(names):
            yield name, item, self._backend.changed_at.get(name)

    def _live_claim(self, flow_uuid: str) -> owners.Claim | None:
        claim, held = self._get_claim(flow_uuid), self._held.get(flow_uuid)
        if claim is None or held is None or held.detail.state in (None, states.PENDING, *states.AT_REST):
            return claim
        return claim._replace(owner=owners.Owner().name, expires=time.time() + owners.LEASE)  # it runs in this process

    def _made_at(self, detail: models.FlowDetail, at: float) -> float:
        return self._backend.made_at[detail.uuid]

    def _get_claim(self, flow_uuid: str) -> owners.Claim | None:
        held = self._held.get(flow_uuid)
        if held is not None:  # it changes without a write: compute its version
            return owners.Claim(held.version(), None, 0.0)
        return self._claims.get(flow_uuid)

    def _set_claim(self, flow_uuid: str, claim: owners.Claim, transaction: Any) -> None:
        self._claims[flow_uuid] = claim

    def _is_held(self, detail: models.FlowDetail) -> bool:
        held = self._held.get(detail.uuid)
        return held is not None and held.detail is detail

    def _held_at(self, path: str) -> _Held | None:
        above, name = posixpath.split(path)
        return self._held.get(name) if above == self.flow_path else None

    def _let_go(self, path: str) -> None:
        """Stop holding a detail that another caller writes or removes."""
        if held := self._held_at(path):
            self._place_atoms(held)
            if held.detail.log is not None:
                self._backend._histories[held.detail.uuid] = held.detail.log.entries()
            del self._held[held.detail.uuid]

    def _place_atoms(self, held: _Held) -> None:
        """Place the new atoms of a held detail at their paths."""
        if len(held.placed) == len(held.detail):
            return
        flow_path = self._join_path(self.flow_path, held.detail.uuid)
        for detail in list(held.detail):
            if detail.uuid not in held.placed:
                held.placed.add(detail.uuid)
                path = self._join_path(self.atom_path, detail.uuid)
                self._create_link(path, self._join_path(flow_path, detail.uuid), None)
                self._memory.ensure_path(path)
                self._memory._put(path, detail)


def _copy_of(detail: Any, deep_copy: bool) -> Any:
    """Return a copy of a detail or of a book, without its content."""
    if not isinstance(detail, models.AtomDetail):
        made = detail.copy(retain_contents=False)
    else:
        made = detail.copy()
        if deep_copy:
            made.results, made.revert_results = _deep(made.results), _deep(made.revert_results)
    if deep_copy and made.meta:
        made.meta = _deep(made.meta)
    return made


def _deep(value: Any) -> Any:
    try:
        return copy.deepcopy(value)
    except Exception:  # noqa: BLE001 - a user's value may refuse in any way; then it is shared, as in a run
        return value
