"""Stores that lay records out as a tree of paths: memory, a folder, ZooKeeper.

    <path>/books/<uuid of a book>                            the record of the book
    <path>/books/<uuid of a book>/<uuid of a flow>           a link to the flow
    <path>/flow_details/<uuid of a flow>                     the record of the flow
    <path>/flow_details/<uuid of a flow>/<uuid of an atom>   a link to the atom
    <path>/atom_details/<uuid of an atom>                    the record of the atom
    <path>/taskflowx_runs/<uuid of a flow>                   the claim of the run: its version and its owner
    <path>/taskflowx_attempts/<uuid of a retry>/<number>     some finished attempts of a retry
    <path>/taskflowx_history/<uuid of a flow>/<number>       some entries of the history of a run

This is TaskFlow's layout, but for the last three lines, and each library can read what the other has written. Two keys
are ours too: `index`, the position of a record among its siblings, since a listing of paths has no order; and `flow`,
the uuid of the flow that an atom is in.

A record of a retry has its whole history, as TaskFlow's has. But while a run with a long history is in progress,
finished attempts are written once, beside the record, and its key `past` is their number: otherwise each attempt would
write all attempts before it again. When the run comes to rest, all of them are in the record, if the store can hold it.

Writing is here; reading and the driver's methods are in `path_tree`, listings and removals of runs in `path_runs`.
What must stay true:

- Everything that is to be written is made and checked before the first write. So a value that cannot be stored, or a
  detail of the wrong kind, leaves the store as it was.
- The version of a run is incremented before anything else of it is written, so readers notice an incomplete write of a
  writer that has died.
- A link is written before the record that it leads to. So an incomplete write is reachable from its book: a link
  without its record reads as missing, and is completed or removed by the next writer.
"""

from __future__ import annotations

import abc
import collections
import os
import time
from collections.abc import Callable, Iterable, MutableMapping
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, TypeVar

from taskflowx import exceptions, states
from taskflowx._util import arguments, failpoints, logs, reprs
from taskflowx.persistence import base, codec, models, owners
from taskflowx.persistence.path_runs import PathRuns
from taskflowx.persistence.path_tree import CHUNK, LAST, Change, Changes, Place, Written

if TYPE_CHECKING:
    from taskflowx.persistence.history import Entry

LOG = logs.calm(__name__)


_D = TypeVar("_D", models.LogBook, models.FlowDetail, models.AtomDetail)


class PathBasedBackend(base.Backend, abc.ABC):
    """A store that lays its records out under one path.

    :param conf: `path` is where it keeps everything
    :raises ValueError: when there is no path
    """

    DEFAULT_PATH: ClassVar[str | None] = None
    keeps_history: ClassVar[bool] = True

    def __init__(self, conf: dict[str, Any] | None) -> None:
        super().__init__(conf)
        path = self._conf.get("path") or self._usual_path()
        if path is not None:
            arguments.check_type("The setting 'path'", path, (str, bytes, os.PathLike), "a path")
        if not path:
            raise ValueError("Empty path is disallowed")
        #: where it keeps everything
        self.path: str = path
        #: path -> record and place of retries with a history, as last written: a cache that saves reading them
        self.written: dict[str, Written] = {}

    @reprs.one_line
    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.path}"

    def _usual_path(self) -> str | None:
        """Return the default path."""
        return self.DEFAULT_PATH


class _Parent(NamedTuple):
    """A record with links to other records."""

    collection: str  # the path of its collection
    path: str
    links: frozenset[str]


class PathBasedConnection(PathRuns, abc.ABC):
    """A connection to a store that lays its records out under one path; drivers implement operations on one path.

    :param backend: the store
    """

    # -- an optional method of a driver ------------------------------------------------------------

    def _is_held(self, detail: models.FlowDetail) -> bool:
        """Tell whether the store keeps this very object, and not a copy."""
        return False

    # -- writing -----------------------------------------------------------------------------------

    def save_logbook(self, book: models.LogBook) -> models.LogBook:
        arguments.check_like("book", book, ("uuid", "created_at"), "a LogBook")
        path = self._place_of(self.book_path, book.uuid)
        for claim, detail in self._transact(path, lambda transaction: self._save_book(path, book, transaction)):
            owners.writer_of(detail).took(claim, detail)
        return book

    def _save_book(
        self, path: str, book: models.LogBook, transaction: Any
    ) -> list[tuple[owners.Claim, models.FlowDetail]]:
        """Write a book; returns the claims of the runs that were written."""
        all_changes: Changes = {}
        self._stage(all_changes, path, book, codec.load_book, insert=True)
        of_book = dict(all_changes)
        parent = self._parent_at(self.book_path, path)
        now = time.time()
        of_flows: list[tuple[models.FlowDetail, str, Changes]] = []
        for place, detail in enumerate(book):
            changes = collections.ChainMap({}, all_changes)
            self._stage_flow(changes, detail, insert=True, parent=parent, index=now + place / 1e6)
            if changes.maps[0]:
                of_flows.append((detail, self._join_path(self.flow_path, detail.uuid), dict(changes.maps[0])))
                all_changes.update(changes.maps[0])
        claims = []
        self._write(of_book, transaction)
        for detail, flow_path, mine in of_flows:
            if flow_path in mine and mine[flow_path].is_new:
                self._write(mine, transaction)
                continue
            with self._within(flow_path, transaction) as inner:
                try:
                    claim = self._write_flow(detail, flow_path, mine, inner)
                except exceptions.OwnershipFailure as error:
                    LOG.warning("In book '%s' a run is not overwritten: %s", book.name, error)
                    continue
                if claim is not None:
                    claims.append((claim, detail))
        return claims

    def add_flow_details(self, book: models.LogBook, flow_detail: models.FlowDetail) -> None:
        arguments.check_like("book", book, ("uuid", "created_at"), "a LogBook")
        arguments.check_like("flow_detail", flow_detail, ("uuid", "meta"), "a FlowDetail")
        path = self._place_of(self.book_path, book.uuid)

        def change(transaction: Any) -> None:
            changes: Changes = {}
            self._stage(changes, path, book, codec.load_book, insert=True)
            # Its siblings are not listed: the list would be as long as the book.
            parent = _Parent(self.book_path, path, frozenset())
            self._stage_flow(changes, flow_detail, insert=True, parent=parent, index=time.time(), only_new=True)
            self._write_new(self._join_path(self.flow_path, flow_detail.uuid), changes, transaction)

        self._transact(path, change)

    def update_flow_details(self, flow_detail: models.FlowDetail, ignore_missing: bool = False) -> models.FlowDetail:
        """Merge a flow's detail into the stored one, as the base class does.

        :param ignore_missing: whether a new detail is stored, in no book
        """
        arguments.check_like("flow_detail", flow_detail, ("uuid", "meta"), "a FlowDetail")
        path = self._place_of(self.flow_path, flow_detail.uuid)

        def change(transaction: Any) -> tuple[models.FlowDetail, owners.Claim | None]:
            changes: Changes = {}
            stored = self._stage_flow(changes, flow_detail, insert=ignore_missing)
            if path in changes and changes[path].is_new:
                self._write(changes, transaction)
                return stored, None
            return stored, self._write_flow(flow_detail, path, changes, transaction)

        stored, claim = self._transact(path, change)
        if claim is not None:
            owners.writer_of(flow_detail).took(claim, flow_detail)
            stored.revision = flow_detail.revision
        return stored

    def update_atom_details(self, atom_detail: models.AtomDetail, ignore_missing: bool = False) -> models.AtomDetail:
        """Merge an atom's detail into the stored one, as the base class does.

        :param ignore_missing: whether a new detail is stored, in no flow
        """
        arguments.check_like("atom_detail", atom_detail, ("uuid", "intention"), "a TaskDetail or RetryDetail")
        path = self._place_of(self.atom_path, atom_detail.uuid)

        def change(transaction: Any) -> models.AtomDetail:
            changes: Changes = {}
            stored = self._stage(changes, path, atom_detail, codec.load_atom, insert=ignore_missing)
            for flow in filter(None, [change.flow for change in changes.values()]):
                with self._within(self._place_of(self.flow_path, flow), transaction) as inner:
                    what = f"The flow '{flow}' of atom '{atom_detail.name}'"
                    owners.check_free(self._get_claim(flow), what, time.time())
                    self._pin_claim(flow, inner)
                    self._write(changes, inner)
                return stored
            self._write(changes, transaction)
            return stored

        return self._transact(path, change)

    def save_changes(
        self,
        flow_detail: models.FlowDetail,
        atom_details: Iterable[models.AtomDetail],
        owner: owners.Owner | None = None,
        entries: Iterable[Entry] = (),
    ) -> None:
        """Write the changes of one step of a run; the flow after its atoms, as it may say that they are done."""
        flow_path = self._place_of(self.flow_path, flow_detail.uuid)
        details, entries = list(atom_details), list(entries)

        def change(transaction: Any) -> owners.Claim | None:
            stored = None if owner is None else self._get_claim(flow_detail.uuid)
            of_flow: Changes = {}
            self._stage(of_flow, flow_path, flow_detail, codec.load_flow)
            claim = None if owner is None else owner.checked(stored, flow_detail, owner.clock.time())
            changes: Changes = {}
            missing = []
            at_rest = flow_detail.state in states.AT_REST
            retries = [each for each in flow_detail if at_rest and isinstance(each, models.RetryDetail)]
            parted = [each for each in retries if len(each.results) > 2 * CHUNK]  # they may be: all goes to the record
            for detail in (*details, *(each for each in parted if each not in details)):
                path = self._place_of(self.atom_path, detail.uuid)
                try:
                    if not self._stage_history(changes, path, detail, flow_detail.uuid, at_rest=at_rest):
                        self._stage(changes, path, detail, codec.load_atom, flow=flow_detail.uuid)
                except exceptions.NotFound:
                    missing.append((path, detail))
            places = {detail.uuid: index for index, detail in enumerate(flow_detail)} if missing else {}
            for path, detail in missing:
                kept = self._pack(detail, Place(places.get(detail.uuid, LAST), flow_detail.uuid))
                changes[path] = Change(self._join_path(flow_path, detail.uuid), kept, is_new=True)
            self._stage_entries(changes, flow_detail.uuid, entries)
            if claim is not None:
                self._set_claim(flow_detail.uuid, claim, transaction)
            self._write_turn(flow_path, changes | of_flow, transaction)
            self.bytes_written = sum(len(each.kept) for each in changes.values()) if entries else 0
            for detail in parted:
                if self._join_path(self.atom_path, detail.uuid) not in self._backend.written:
                    self._del_tree(self._join_path(self._attempt_path, detail.uuid), transaction)
            return claim

        claim = self._transact(flow_path, change)
        if owner is not None and claim is not None:
            owner.took(claim, flow_detail)

    def renew(self, flow_uuid: str, owner: owners.Owner, expires: float) -> None:
        def change(transaction: Any) -> None:
            claim = self._get_claim(flow_uuid)
            if claim is not None and claim.owner == owner.name and claim.expires > 0:
                self._set_claim(flow_uuid, claim._replace(expires=expires), transaction)

        self._transact(self._place_of(self.flow_path, flow_uuid), change)

    def _write_flow(
        self, detail: models.FlowDetail, path: str, changes: Changes, transaction: Any
    ) -> owners.Claim | None:
        """Write the record of a stored flow outside of a run.

        Returns the new claim; None where the store keeps this very object.

        :raises OwnershipFailure: when another owner runs it, or has done so since it was read
        """
        claim = None
        if not self._is_held(detail):
            claim = owners.writer_of(detail).checked(self._get_claim(detail.uuid), detail, time.time())
            self._set_claim(detail.uuid, claim, transaction)
        self._write_turn(path, changes, transaction)
        return claim

    def _stage_flow(
        self,
        changes: MutableMapping[str, Change],
        detail: models.FlowDetail,
        *,
        insert: bool,
        parent: _Parent | None = None,
        index: float = LAST,
        only_new: bool = False,
    ) -> models.FlowDetail:
        """Stage the changes of a flow and its atoms; returns the merged details.

        The arguments are those of `_stage`.
        """
        path = self._place_of(self.flow_path, detail.uuid)
        stored = self._stage(
            changes, path, detail, codec.load_flow, insert=insert, parent=parent, index=index, only_new=only_new
        )
        this = _Parent(self.flow_path, path, frozenset()) if only_new else self._parent_at(self.flow_path, path)
        atoms = [
            self._stage(
                changes,
                self._place_of(self.atom_path, atom_detail.uuid),
                atom_detail,
                codec.load_atom,
                insert=True,
                parent=this,
                index=place,
                flow=detail.uuid,
                only_new=only_new,
            )
            for place, atom_detail in enumerate(detail)
        ]
        if stored is not detail:
            for atom_detail in atoms:
                stored.add(atom_detail)
        return stored

    def _stage(
        self,
        changes: MutableMapping[str, Change],
        path: str,
        detail: _D,
        load: Callable[[dict[str, Any]], _D],
        *,
        insert: bool = False,
        parent: _Parent | None = None,
        index: float = LAST,
        flow: str | None = None,
        only_new: bool = False,
    ) -> _D:
        """Merge a detail into the stored one, and stage the result; returns it.

        :param insert: whether a new detail is stored
        :param parent: the record that must have a link to it
        :param index: its position among its siblings, if it has none yet
        :param flow: the uuid of its flow, if it is an atom and that is known
        :param only_new: whether it must not be stored yet
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
            changes[path] = Change(link, self._pack(detail, Place(index, flow)), is_new=True)
            return detail
        if only_new or (parent and link and self._has_parent(detail.uuid, parent)):
            raise _duplicate(detail)
        stored, packed, place = detail, kept, Place()
        is_kept_itself = kept is detail  # in memory
        if not is_kept_itself:
            stored, place = self._understood(path, kept, load)
            stored.merge(detail)
            packed = self._pack(stored, Place(index if place.at == LAST else place.at, flow or place.flow))
        if link or packed != kept:
            changes[path] = Change(link, packed, is_new=False, flow=flow or place.flow)
        return stored

    def _parent_at(self, collection: str, path: str) -> _Parent:
        return _Parent(collection, path, frozenset(self._names(path)))

    def _has_parent(self, uuid: str, other_than: _Parent) -> bool:
        """Tell whether a stored record, to which this parent has no link, has another parent.

        All possible parents are read, so this is called only for a record without a link: one with another parent, or
        one that was stored alone, without its book.
        """
        collection = other_than.collection
        return any(uuid in self._names(self._join_path(collection, name)) for name in self._names(collection))

    def _write_turn(self, flow_path: str, changes: Changes, transaction: Any) -> None:
        """Write the changes of one step of a run; a driver with transactions writes all or nothing."""
        self._write(changes, transaction)

    def _write_new(self, flow_path: str, changes: Changes, transaction: Any) -> None:
        """Write a new flow with its atoms, and its book; a driver writes all or nothing, if it can."""
        self._write(changes, transaction)

    def _write(self, changes: Changes, transaction: Any) -> None:
        """Write records one after the other."""
        for path, change in changes.items():
            if change.link is not None:
                self._create_link(path, change.link, transaction)
            self._set_item(path, change.kept, transaction)
            if failpoints.on:
                failpoints.hit("in commit")

    # -- the whole store ---------------------------------------------------------------------------

    def destroy_logbook(self, book_uuid: str) -> None:
        path = self._place_of(self.book_path, book_uuid)

        runs: list[str] = []

        def change(transaction: Any) -> None:
            # Bottom-up: a partly removed book can be removed again.
            parted = frozenset(self._names(self._attempt_path))
            for flow_uuid in self._get_children(path):
                runs.append(flow_uuid)
                with self._within(self._join_path(self.flow_path, flow_uuid), transaction) as inner:
                    self._remove_flow(flow_uuid, parted, inner)
            self._del_tree(path, transaction)

        self._transact(path, change)
        self.backend.forget(runs)

    def clear_all(self) -> None:
        with self._transaction(self._backend.path) as transaction:
            ours = (self._run_path, self._attempt_path, self._history_path)
            for path in (self.book_path, self.flow_path, self.atom_path, *ours):
                self._del_tree(path, transaction)
        self.backend.forget(None)
        self.upgrade()

    def upgrade(self) -> None:
        """Make the paths of the collections."""
        for path in (self.book_path, self.flow_path, self.atom_path):
            self._ensure_path(path)


def _duplicate(detail: Any) -> exceptions.Duplicate:
    return exceptions.Duplicate(f"'{detail.name}' with uuid '{detail.uuid}' is stored already, in another book or flow")
