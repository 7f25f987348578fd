"""Stores that lay records out as a tree of paths: memory, a folder, ZooKeeper.

    <path>/books/<uuid of a book>                            the record of the book
    <path>/books/<uuid of a book>/<uuid of a flow>           a link to the flow
    <path>/flow_details/<uuid of a flow>                     the record of the flow
    <path>/flow_details/<uuid of a flow>/<uuid of an atom>   a link to the atom
    <path>/atom_details/<uuid of an atom>                    the record of the atom
    <path>/taskflowx_runs/<uuid of a flow>                   how often the run was written, and who runs it now

This is TaskFlow's layout, but for the last line, and each can read what the other has written. One key is ours too:
`index`, the place of a record among its siblings, since a listing of paths has no order.

Everything but the handling of one path is here. What must stay true:

- All that is to be written is made and checked before the first of it is written, so a value that cannot be stored,
  or a detail of the wrong kind, leaves the store as it was.
- The version of a run is moved on before anything else of it is written, so what a writer that dies half way has
  written is known to those who read the run before.
- A link is written before the record that it leads to. So when a writer dies half way, what it leaves is reached
  from its book: a link without its record reads as not there, and is made good or removed by the next writer.
"""

from __future__ import annotations

import abc
import contextlib
import os
import time
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from taskflowx import exceptions
from taskflowx._util import arguments, failpoints
from taskflowx.persistence import base, codec, models, owners

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from contextlib import AbstractContextManager

_Detail = models.LogBook | models.FlowDetail | models.AtomDetail
_D = TypeVar("_D", models.LogBook, models.FlowDetail, models.AtomDetail)

#: where records lie that have no place of their own: those that TaskFlow wrote
_LAST = float("inf")


class PathBasedBackend(base.Backend, abc.ABC):
    """A store that lays its records out under one path.

    :param conf: `path` is where it keeps everything
    :raises ValueError: when there is no path
    """

    DEFAULT_PATH: ClassVar[str | None] = None

    def __init__(self, conf: dict[str, Any] | None) -> None:
        super().__init__(conf)
        path = self._conf.get("path") or self._usual_path()
        if path is not None:
            arguments.check_type("The setting 'path'", path, (str, bytes, os.PathLike), "a path")
        if not path:
            raise ValueError("Empty path is disallowed")
        self._path: str = path

    def _usual_path(self) -> str | None:
        """Return the path that is taken when the settings name none."""
        return self.DEFAULT_PATH

    @property
    def path(self) -> str:
        """Where this store keeps everything."""
        return self._path


class _Change(NamedTuple):
    """A record that is to be written."""

    link: str | None  # to be made before it, when the record is new in its parent
    kept: Any  # what `_pack` has made of it


_Changes = dict[str, _Change]  # by path, in the order in which they are to be written


class _Parent(NamedTuple):
    """What has links to records."""

    shelf: str  # where all of its kind are
    path: str
    links: frozenset[str]


class PathBasedConnection(base.Connection, abc.ABC):
    """A connection to a store that lays its records out under one path; drivers say how one path is handled.

    :param backend: the store
    """

    def __init__(self, backend: PathBasedBackend) -> None:
        self._backend = backend
        self._book_path = self._join_path(backend.path, "books")
        self._flow_path = self._join_path(backend.path, "flow_details")
        self._atom_path = self._join_path(backend.path, "atom_details")
        self._run_path = self._join_path(backend.path, "taskflowx_runs")

    @property
    def backend(self) -> Any:
        """The store that this connection is to."""
        return self._backend

    @property
    def book_path(self) -> str:
        """Where the books are."""
        return self._book_path

    @property
    def flow_path(self) -> str:
        """Where the details of flows are."""
        return self._flow_path

    @property
    def atom_path(self) -> str:
        """Where the details of atoms are."""
        return self._atom_path

    # -- what a driver does ------------------------------------------------------------------------

    @abc.abstractmethod
    def _join_path(self, *parts: str) -> str:
        """Join parts to a path."""

    @abc.abstractmethod
    def _get_item(self, path: str) -> Any:
        """Return what `_set_item` has put at a path.

        :raises NotFound: when there is nothing
        """

    @abc.abstractmethod
    def _set_item(self, path: str, value: Any, transaction: Any) -> None:
        """Put at a path what `_pack` has made of a record, and make what is missing of the path."""

    @abc.abstractmethod
    def _del_tree(self, path: str, transaction: Any) -> None:
        """Remove a path with all that is below it (links, not what they lead to), if there is any."""

    @abc.abstractmethod
    def _get_children(self, path: str) -> list[str]:
        """Return the names right below a path.

        :raises NotFound: when there is no such path
        """

    @abc.abstractmethod
    def _ensure_path(self, path: str) -> None:
        """Make what is missing of a path."""

    @abc.abstractmethod
    def _create_link(self, src_path: str, dest_path: str, transaction: Any) -> None:
        """Make `dest_path` a link to `src_path`, which need not be there yet; one that is there already is left."""

    def _transaction(self, path: str) -> AbstractContextManager[Any]:
        """Return a context in which what is at and below a path is written; gives what the writing methods are given.

        It may keep other writers and readers out, and write all or nothing.
        """
        return contextlib.nullcontext()

    def _reading(self, path: str) -> AbstractContextManager[Any]:
        """Return a context in which what is at and below a path is read; it may keep writers out."""
        return contextlib.nullcontext()

    def _pack(self, detail: _Detail, index: float) -> Any:
        """Return what is kept of a detail: JSON text, unless the driver keeps something else.

        :param index: its place among its siblings
        :raises StorageFailure: when a value in it cannot be stored
        """
        extras = {} if index == _LAST else {"index": index}
        if isinstance(detail, models.AtomDetail):
            return codec.dump_atom(detail, **extras)
        if isinstance(detail, models.FlowDetail):
            return codec.dump_flow(detail, **extras)
        return codec.dump_book(detail, **extras)

    def _unpack(self, kept: Any, load: Callable[[dict[str, Any]], _D]) -> tuple[_D, float]:
        """Return the detail of which `_pack` has made what is kept, and its place among its siblings.

        :param load: makes the detail of its record
        :raises StorageFailure: when it cannot be read
        """
        record = codec.loads(kept)
        detail = load(record)
        return detail, record.get("index", _LAST)

    def _get_claim(self, flow_uuid: str) -> owners.Claim | None:
        """Return how often a run was written, and by whom; None if it never was."""
        try:
            return owners.Claim.from_json(self._get_item(self._join_path(self._run_path, flow_uuid)))
        except exceptions.NotFound:
            return None

    def _set_claim(self, flow_uuid: str, claim: owners.Claim, transaction: Any) -> None:
        """Put what `_get_claim` returns; nothing is written when somebody else has put another one since it did."""
        self._set_item(self._join_path(self._run_path, flow_uuid), claim.to_json(), transaction)

    # -- reading -----------------------------------------------------------------------------------

    def get_logbooks(self, lazy: bool = False) -> Iterator[models.LogBook]:
        """Iterate over all books."""
        for book_uuid in self._names(self._book_path):
            with contextlib.suppress(exceptions.NotFound):  # removed since
                yield self.get_logbook(book_uuid, lazy)

    def get_logbook(self, book_uuid: str, lazy: bool = False) -> models.LogBook:
        """Return a book."""
        path = self._place_of(self._book_path, book_uuid)
        with self._reading(path):
            book, _ = self._unpack(self._get_item(path), codec.load_book)
            if lazy:
                return book
            updated_at = book.updated_at
            for flow_detail in self.get_flows_for_book(book_uuid):
                book.add(flow_detail)
        book.updated_at = updated_at  # to be read is no update
        return book

    def get_flows_for_book(self, book_uuid: str, lazy: bool = False) -> Iterator[models.FlowDetail]:
        """Iterate over the details of the flows in a book."""
        path = self._place_of(self._book_path, book_uuid)
        with self._reading(path):
            details = self._children(path, self._flow_path, codec.load_flow)
        for detail in details:
            if lazy:
                detail.revision = self._version_of(detail.uuid)
                yield detail
                continue
            with contextlib.suppress(exceptions.NotFound):  # removed since
                yield self.get_flow_details(detail.uuid)

    def get_flow_details(self, flow_uuid: str, lazy: bool = False) -> models.FlowDetail:
        """Return the detail of a flow."""
        path = self._place_of(self._flow_path, flow_uuid)
        with self._reading(path):
            version = self._version_of(flow_uuid)  # first: what is read after it may be newer, never older
            detail, _ = self._unpack(self._get_item(path), codec.load_flow)
            detail.revision = version
            if not lazy:
                self._add_atoms(detail)
        return detail

    def _version_of(self, flow_uuid: str) -> int:
        claim = self._get_claim(flow_uuid)
        return 0 if claim is None else claim.version

    def get_atoms_for_flow(self, flow_uuid: str) -> Iterator[models.AtomDetail]:
        """Iterate over the details of the atoms in a flow, in the order in which they were added."""
        path = self._place_of(self._flow_path, flow_uuid)
        with self._reading(path):
            details = self._children(path, self._atom_path, codec.load_atom)
        yield from details

    def get_atom_details(self, atom_uuid: str) -> models.AtomDetail:
        """Return the detail of an atom."""
        detail, _ = self._unpack(self._get_item(self._place_of(self._atom_path, atom_uuid)), codec.load_atom)
        return detail

    def _add_atoms(self, detail: models.FlowDetail) -> None:
        for atom_detail in self.get_atoms_for_flow(detail.uuid):
            detail.add(atom_detail)

    def _children(self, path: str, target: str, load: Callable[[dict[str, Any]], _D]) -> list[_D]:
        """Return the details that links below a path lead to, in the order of their places.

        :param target: where the details are
        """
        found: list[tuple[_D, float]] = []
        for name in self._get_children(path):
            with contextlib.suppress(exceptions.NotFound):  # a link whose record was not written
                found.append(self._unpack(self._get_item(self._join_path(target, name)), load))
        found.sort(key=lambda pair: pair[1])
        return [detail for detail, _ in found]

    def _names(self, path: str) -> list[str]:
        """Return the names right below a path, none if it is not there."""
        try:
            return self._get_children(path)
        except exceptions.NotFound:
            return []

    def _place_of(self, path: str, uuid: Any) -> str:
        """Return the path of a record.

        :raises StorageFailure: when the uuid would lead elsewhere
        """
        if not isinstance(uuid, str) or not uuid or "/" in uuid or "\0" in uuid or uuid in {".", ".."}:
            msg = f"A uuid is a name in the store and cannot be {uuid!r}: it is empty, '.' or '..', or has '/' in it"
            raise exceptions.Unstorable(msg)
        return self._join_path(path, uuid)

    # -- writing -----------------------------------------------------------------------------------

    def save_logbook(self, book: models.LogBook) -> models.LogBook:
        """Store a book with all that is in it, merged into what is stored of it.

        :raises Duplicate: when a detail in it is stored in another book or flow
        """
        arguments.check_like("book", book, ("uuid", "created_at"), "a LogBook")
        path = self._place_of(self._book_path, book.uuid)
        with self._transaction(path) as transaction:
            changes: _Changes = {}
            self._stage(changes, path, book, codec.load_book, insert=True)
            parent = self._parent_at(self._book_path, path)
            for index, detail in enumerate(book):
                self._stage_flow(changes, detail, insert=True, parent=parent, index=index)
            self._write(changes, transaction)
        return book

    def update_flow_details(self, flow_detail: models.FlowDetail, ignore_missing: bool = False) -> models.FlowDetail:
        """Merge a flow's detail into the stored one, and write the details of the atoms in it, new ones too.

        :param ignore_missing: whether it is stored, in no book, if it is not stored yet
        :raises Duplicate: when a detail in it is stored in another flow
        """
        arguments.check_like("flow_detail", flow_detail, ("uuid", "meta"), "a FlowDetail")
        with self._transaction(self._place_of(self._flow_path, flow_detail.uuid)) as transaction:
            changes: _Changes = {}
            stored = self._stage_flow(changes, flow_detail, insert=ignore_missing)
            self._write(changes, transaction)
        return stored

    def update_atom_details(self, atom_detail: models.AtomDetail, ignore_missing: bool = False) -> models.AtomDetail:
        """Merge an atom's detail into the stored one.

        :param ignore_missing: whether it is stored, in no flow, if it is not stored yet
        """
        arguments.check_like("atom_detail", atom_detail, ("uuid", "intention"), "a TaskDetail or RetryDetail")
        path = self._place_of(self._atom_path, atom_detail.uuid)
        with self._transaction(path) as transaction:
            changes: _Changes = {}
            stored = self._stage(changes, path, atom_detail, codec.load_atom, insert=ignore_missing)
            self._write(changes, transaction)
        return stored

    def save_changes(
        self,
        flow_detail: models.FlowDetail,
        atom_details: Iterable[models.AtomDetail],
        owner: owners.Owner | None = None,
    ) -> None:
        """Write what has changed in one step of a run; the flow after its atoms, as it may say that they are done."""
        flow_path = self._place_of(self._flow_path, flow_detail.uuid)
        claim = None
        with self._transaction(flow_path) as transaction:
            if owner is not None:
                claim = owner.checked(self._get_claim(flow_detail.uuid), flow_detail, time.time())
            of_flow: _Changes = {}
            self._stage(of_flow, flow_path, flow_detail, codec.load_flow)
            changes: _Changes = {}
            missing = []
            for detail in atom_details:
                path = self._place_of(self._atom_path, detail.uuid)
                try:
                    self._stage(changes, path, detail, codec.load_atom)
                except exceptions.NotFound:
                    missing.append((path, detail))
            places = {detail.uuid: index for index, detail in enumerate(flow_detail)} if missing else {}
            for path, detail in missing:
                link = self._join_path(flow_path, detail.uuid)
                changes[path] = _Change(link, self._pack(detail, places.get(detail.uuid, _LAST)))
            if claim is not None:
                self._set_claim(flow_detail.uuid, claim, transaction)
            self._write_turn(flow_path, changes | of_flow, transaction)
        if owner is not None and claim is not None:
            owner.took(claim, flow_detail)

    def renew(self, flow_uuid: str, owner: owners.Owner, expires: float) -> None:
        """Note that the owner of a run is alive; one that owns it no more changes nothing."""
        with self._transaction(self._place_of(self._flow_path, flow_uuid)) as transaction:
            claim = self._get_claim(flow_uuid)
            if claim is not None and claim.owner == owner.name and claim.expires > 0:
                self._set_claim(flow_uuid, claim._replace(expires=expires), transaction)

    def _stage_flow(
        self,
        changes: _Changes,
        detail: models.FlowDetail,
        *,
        insert: bool,
        parent: _Parent | None = None,
        index: float = _LAST,
    ) -> models.FlowDetail:
        """Add what is to be written of a flow and its atoms; returns what is stored of them then.

        The arguments are those of `_stage`.
        """
        path = self._place_of(self._flow_path, detail.uuid)
        stored = self._stage(changes, path, detail, codec.load_flow, insert=insert, parent=parent, index=index)
        this = self._parent_at(self._flow_path, path)
        atoms = [
            self._stage(
                changes,
                self._place_of(self._atom_path, atom_detail.uuid),
                atom_detail,
                codec.load_atom,
                insert=True,
                parent=this,
                index=place,
            )
            for place, atom_detail in enumerate(detail)
        ]
        if stored is not detail:
            for atom_detail in atoms:
                stored.add(atom_detail)
        return stored

    def _stage(
        self,
        changes: _Changes,
        path: str,
        detail: _D,
        load: Callable[[dict[str, Any]], _D],
        *,
        insert: bool = False,
        parent: _Parent | None = None,
        index: float = _LAST,
    ) -> _D:
        """Add a detail, merged into what is stored of it, to what is to be written; returns what is stored then.

        :param insert: whether it is stored if it is not yet
        :param parent: what has to have a link to it
        :param index: its place among its siblings, if it has none yet
        :raises NotFound: when it is not stored and is not to be inserted
        :raises Duplicate: when it has another parent
        """
        link = None if parent is None or detail.uuid in parent.links else self._join_path(parent.path, detail.uuid)
        if link and path in changes:
            raise _duplicate(detail)
        try:
            kept = self._get_item(path)
        except exceptions.NotFound:
            if not insert:
                raise
            changes[path] = _Change(link, self._pack(detail, index))
            return detail
        if parent and link and self._has_parent(detail.uuid, parent):
            raise _duplicate(detail)
        stored, packed = detail, kept
        is_kept_itself = kept is detail  # in memory
        if not is_kept_itself:
            stored, place = self._unpack(kept, load)
            stored.merge(detail)
            packed = self._pack(stored, index if place == _LAST else place)
        if link or packed != kept:
            changes[path] = _Change(link, packed)
        return stored

    def _parent_at(self, shelf: str, path: str) -> _Parent:
        return _Parent(shelf, path, frozenset(self._names(path)))

    def _has_parent(self, uuid: str, other_than: _Parent) -> bool:
        """Tell whether a stored record, to which this parent has no link, has another parent.

        All of them are asked, so it is only asked of a record that is there without a link: one with another parent,
        or one that was stored alone, without its book.
        """
        shelf = other_than.shelf
        return any(uuid in self._names(self._join_path(shelf, name)) for name in self._names(shelf))

    def _write_turn(self, flow_path: str, changes: _Changes, transaction: Any) -> None:
        """Write what belongs to one step of a run; a driver that can writes all or nothing."""
        self._write(changes, transaction)

    def _write(self, changes: _Changes, transaction: Any) -> None:
        for path, change in changes.items():
            if change.link is not None:
                self._create_link(path, change.link, transaction)
            self._set_item(path, change.kept, transaction)
            if failpoints.on:
                failpoints.hit("in commit")

    # -- the whole store ---------------------------------------------------------------------------

    def destroy_logbook(self, book_uuid: str) -> None:
        """Remove a book with all that is in it."""
        path = self._place_of(self._book_path, book_uuid)
        with self._transaction(path) as transaction:
            # From below: a book that is removed by half can be removed again.
            for flow_uuid in self._get_children(path):
                flow_path = self._join_path(self._flow_path, flow_uuid)
                for atom_uuid in self._names(flow_path):
                    self._del_tree(self._join_path(self._atom_path, atom_uuid), transaction)
                self._del_tree(flow_path, transaction)
                self._del_tree(self._join_path(self._run_path, flow_uuid), transaction)
            self._del_tree(path, transaction)

    def clear_all(self) -> None:
        """Remove everything that is stored."""
        with self._transaction(self._backend.path) as transaction:
            for path in (self._book_path, self._flow_path, self._atom_path, self._run_path):
                self._del_tree(path, transaction)
        self.upgrade()

    def upgrade(self) -> None:
        """Make the paths under which records lie."""
        for path in (self._book_path, self._flow_path, self._atom_path):
            self._ensure_path(path)

    def close(self) -> None:
        """End this connection; drivers that hold something open let go of it."""


def _duplicate(detail: Any) -> exceptions.Duplicate:
    return exceptions.Duplicate(f"'{detail.name}' with uuid '{detail.uuid}' is stored already, in another book or flow")
