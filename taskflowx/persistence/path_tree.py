"""A tree of paths with the records of runs, in the layout of `path_based`: operations on one path, reading, histories.

Drivers implement operations on one path. What must stay true:

- Reading a damaged record raises an error with its path. Iterating over records skips a damaged one, and logs an error
  that names it. A flow or a book is never read without a damaged part: that part would look as if it had never run.
- Of a long history of a retry, finished attempts are written once, beside the record, which says how many these are and
  is written after them; so leftovers of a writer that has died are not read, and are overwritten. The cache of the last
  written record is used only if the store still has that very record.
"""

from __future__ import annotations

import abc
import contextlib
import itertools
import math
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, NamedTuple, TypeVar

from taskflowx import exceptions
from taskflowx._util import logs
from taskflowx.persistence import base, codec, history, models, owners
from taskflowx.persistence.tag_types import Blob

LOG = logs.calm(__name__)

Detail = models.LogBook | models.FlowDetail | models.AtomDetail
_D = TypeVar("_D", models.LogBook, models.FlowDetail, models.AtomDetail)

#: how many attempts of a retry are kept together beside its record
CHUNK = 32
_LONG_HISTORY = 8  # attempts
#: how many entries of a history are kept together
BLOCK = 100
_MOST_WRITTEN = 16  # the size of the cache: records of retries

#: the position of records without one: those that TaskFlow wrote
LAST = float("inf")


class Place(NamedTuple):
    """The store's own data in a record."""

    at: float = LAST  # its position among its siblings
    flow: str | None = None  # of an atom: the uuid of its flow, if known
    past: int = 0  # of a retry: how many of its attempts are beside the record


class Change(NamedTuple):
    """A record that is to be written."""

    link: str | None  # made before the record, when it is new in its parent
    kept: Any  # the stored form, of `_pack`
    is_new: bool  # whether nothing was stored at its path
    flow: str | None = None  # of an atom: the uuid of its flow, if known


Changes = dict[str, Change]  # by path, in the order of writing


class Written(NamedTuple):
    """The last written state of a retry with a history."""

    kept: Any
    place: Place
    last: Any  # the last of the attempts beside the record, which identifies the history


class PathTree(base.Connection, abc.ABC):
    """Reads records that lie under one path.

    :param backend: the store, which has a `path`
    """

    def __init__(self, backend: Any) -> None:
        self._backend = backend
        #: the paths of the books, and of the details of flows and atoms
        self.book_path: str = self._join_path(backend.path, "books")
        self.flow_path: str = self._join_path(backend.path, "flow_details")
        self.atom_path: str = self._join_path(backend.path, "atom_details")
        self._run_path = self._join_path(backend.path, "taskflowx_runs")
        self._attempt_path = self._join_path(backend.path, "taskflowx_attempts")
        self._history_path = self._join_path(backend.path, "taskflowx_history")

    @property
    def backend(self) -> Any:
        return self._backend

    # -- methods of a driver -----------------------------------------------------------------------

    @abc.abstractmethod
    def _join_path(self, *parts: str) -> str:
        """Join parts to a path."""

    @abc.abstractmethod
    def _get_item(self, path: str) -> Any:
        """Return the item that `_set_item` has put at a path.

        :raises NotFound: when there is none
        """

    @abc.abstractmethod
    def _set_item(self, path: str, value: Any, transaction: Any) -> None:
        """Put a record packed by `_pack` at a path; missing parents are made."""

    @abc.abstractmethod
    def _del_tree(self, path: str, transaction: Any) -> None:
        """Remove a path with everything below it, if it exists: links, but not their targets."""

    @abc.abstractmethod
    def _get_children(self, path: str) -> list[str]:
        """Return the names right below a path.

        :raises NotFound: when there is no such path
        """

    @abc.abstractmethod
    def _ensure_path(self, path: str) -> None:
        """Make a path, and its missing parents."""

    @abc.abstractmethod
    def _create_link(self, src_path: str, dest_path: str, transaction: Any) -> None:
        """Make `dest_path` a link to `src_path`, which need not exist; an existing link stays."""

    def _check_name(self, name: str) -> None:
        """Raise an error for a uuid that cannot be the name of a record.

        :raises Unstorable: says why
        """

    def _transaction(self, path: str) -> AbstractContextManager[Any]:
        """Return a context for writing at and below a path; its value is passed to the writing methods.

        It may exclude other writers and readers, and may be atomic.
        """
        return contextlib.nullcontext()

    def _reading(self, path: str) -> AbstractContextManager[Any]:
        """Return a context for reading at and below a path; it may exclude writers."""
        return contextlib.nullcontext()

    def _pack(self, detail: Detail, place: Place) -> Any:
        """Return the stored form of a detail: JSON text, unless the driver keeps something else.

        :raises StorageFailure: when a value in it cannot be stored
        """
        extras: dict[str, Any] = {} if place.at == LAST else {"index": place.at}
        if isinstance(detail, models.AtomDetail):
            if place.flow is not None:
                extras["flow"] = place.flow
            if place.past:
                extras["past"] = place.past
            text = codec.dump_atom(detail, place.past, **extras)
        elif isinstance(detail, models.FlowDetail):
            text = codec.dump_flow(detail, **extras)
        else:
            text = codec.dump_book(detail, **extras)
        return text if self.backend.seal is None else self.backend.seal.close(text)

    def _loads(self, kept: Any) -> Any:
        """Return the value of a document, as `codec.loads` does."""
        return codec.loads(kept if self.backend.seal is None else self.backend.seal.open(kept))

    def _unpack(self, kept: Any, load: Callable[[dict[str, Any]], _D]) -> tuple[_D, Place]:
        """Return the detail, and its place, from the stored form that `_pack` has made.

        :param load: makes the detail from its record
        :raises Unreadable: when it cannot be read
        """
        record = self._loads(kept)
        past = record.get("past", 0) if isinstance(record, dict) else 0
        if past:
            self._put_together(record, past)
        detail = load(record)
        made: Any = detail
        if isinstance(made, models.TaskDetail) and type(made.results) is Blob:
            made.results = self.backend.value_of(made.results)
        index, flow = record.get("index", LAST), record.get("flow")
        if type(index) not in (int, float) or math.isnan(index) or not isinstance(flow, str | None):
            raise codec.Unreadable(f"It has no place among its siblings: {str(index)[:80]}, {str(flow)[:80]}")
        return detail, Place(index, flow, past)

    def _put_together(self, record: Any, past: Any) -> None:
        """Put the attempts of a retry that are kept beside its record into it.

        :param past: their number
        :raises Unreadable: when one is missing, or is damaged
        """
        atom = record.get("atom")
        if type(past) is not int or past < 0 or not isinstance(atom, dict) or not isinstance(atom.get("results"), list):
            raise codec.Unreadable(f"It has no history, of which {str(past)[:80]} attempts are elsewhere")
        attempts: list[Any] = []
        for begin in range(0, past, CHUNK):
            path = self._chunk_path(atom.get("uuid"), begin)
            try:
                found = self._loads(self._get_item(path))
            except exceptions.NotFound as error:
                raise codec.Unreadable(f"The attempts at '{path}' are missing", error) from error
            if not isinstance(found, list) or len(found) != CHUNK:
                raise codec.Unreadable(f"The attempts at '{path}' are damaged")
            attempts += found
        atom["results"] = attempts + atom["results"]

    def _chunk_path(self, uuid: Any, begin: int) -> str:
        """Return the path of the attempts of a retry from number `begin` on."""
        return self._join_path(self._place_of(self._attempt_path, uuid), str(begin))

    def _get_claim(self, flow_uuid: str) -> owners.Claim | None:
        """Return the claim of a run; None if it was never written.

        :raises Unreadable: when it is damaged
        """
        path = self._join_path(self._run_path, flow_uuid)
        try:
            return self._to_claim(self._get_item(path), path)
        except exceptions.NotFound:
            return None

    def _set_claim(self, flow_uuid: str, claim: owners.Claim, transaction: Any) -> None:
        """Store a claim; nothing is written if another writer has changed it since `_get_claim`."""
        self._set_item(self._join_path(self._run_path, flow_uuid), claim.to_json(), transaction)

    @staticmethod
    def _to_claim(kept: str | bytes, path: str) -> owners.Claim:
        try:
            return owners.Claim.from_json(kept)
        except ValueError as error:
            msg = (
                f"'{path}' is the claim of a run, and is damaged: {kept[:80]!r}\n"
                "Remove it if that flow is not running; the records are stored separately"
            )
            raise codec.Unreadable(msg, error) from error

    # -- reading -----------------------------------------------------------------------------------

    def get_logbooks(self, lazy: bool = False) -> Iterator[models.LogBook]:
        for book_uuid in self._names(self.book_path):
            with self._going_on():
                yield self.get_logbook(book_uuid, lazy)

    def get_logbook(self, book_uuid: str, lazy: bool = False) -> models.LogBook:
        path = self._place_of(self.book_path, book_uuid)
        with self._reading(path):
            book, _ = self._read(path, codec.load_book)
            if lazy:
                return book
            updated_at = book.updated_at
            for detail in self._children(path, self.flow_path, codec.load_flow):
                with contextlib.suppress(exceptions.NotFound):  # removed meanwhile
                    book.add(self.get_flow_details(detail.uuid))
        book.updated_at = updated_at  # reading is no update
        return book

    def get_flows_for_book(self, book_uuid: str, lazy: bool = False) -> Iterator[models.FlowDetail]:
        path = self._place_of(self.book_path, book_uuid)
        with self._reading(path):
            details = self._children(path, self.flow_path, codec.load_flow, going_on=True)
        for detail in details:
            with self._going_on():
                if lazy:
                    detail.revision = self._version_of(detail.uuid)
                yield detail if lazy else self.get_flow_details(detail.uuid)

    def get_flow_details(self, flow_uuid: str, lazy: bool = False) -> models.FlowDetail:
        path = self._place_of(self.flow_path, flow_uuid)
        with self._reading(path):
            version = self._version_of(flow_uuid)  # first: what is read after it may be newer, never older
            detail, _ = self._read(path, codec.load_flow)
            detail.revision = version
            if not lazy:
                for atom_detail in self._children(path, self.atom_path, codec.load_atom):
                    detail.add(atom_detail)
        return detail

    def _version_of(self, flow_uuid: str) -> int:
        claim = self._get_claim(flow_uuid)
        return 0 if claim is None else claim.version

    def get_atoms_for_flow(self, flow_uuid: str) -> Iterator[models.AtomDetail]:
        """Iterate over the details of the atoms in a flow as the base class does; an unreadable one is skipped."""
        path = self._place_of(self.flow_path, flow_uuid)
        with self._reading(path):
            details = self._children(path, self.atom_path, codec.load_atom, going_on=True)
        yield from details

    def get_history(self, flow_uuid: str, after: int = 0, limit: int | None = None) -> Iterator[history.Entry]:
        path = self._place_of(self._history_path, flow_uuid)
        with self._reading(self._place_of(self.flow_path, flow_uuid)):
            numbers = sorted(int(name) for name in self._names(path) if name.isdecimal())
            blocks = [(one, self._get_item(self._join_path(path, str(one)))) for one in numbers if one > after - BLOCK]
        yield from history.after(blocks, after, limit)

    def _stage_entries(self, changes: Changes, flow_uuid: str, entries: Iterable[history.Entry]) -> None:
        """Stage entries of a history for writing, each with those that are kept together with it.

        :raises Unreadable: when those are missing or damaged
        """
        for number, group in itertools.groupby(entries, lambda entry: (entry.number - 1) // BLOCK * BLOCK + 1):
            path = self._join_path(self._place_of(self._history_path, flow_uuid), str(number))
            new, before = list(group), []
            if new[0].number > number:
                try:
                    before = history.read(number, self._get_item(path))[: new[0].number - number]
                except exceptions.NotFound as error:
                    raise codec.Unreadable(f"The history at '{path}' is missing", error) from error
            changes[path] = Change(None, history.document([*before, *new]), is_new=not before)

    def get_atom_details(self, atom_uuid: str) -> models.AtomDetail:
        return self._read(self._place_of(self.atom_path, atom_uuid), codec.load_atom)[0]

    def _read(self, path: str, load: Callable[[dict[str, Any]], _D]) -> tuple[_D, Place]:
        """Return the detail at a path, and its place.

        :raises NotFound: when there is none
        :raises Unreadable: when it is damaged
        """
        return self._understood(path, self._get_item(path), load)

    def _understood(self, path: str, kept: Any, load: Callable[[dict[str, Any]], _D]) -> tuple[_D, Place]:
        """Unpack an item as `_unpack` does; an error names the path."""
        try:
            detail, place = self._unpack(kept, load)
            if not path.endswith((f"/{detail.uuid}", f"\\{detail.uuid}")):
                raise codec.Unreadable(f"It is the record of '{detail.name}' with uuid '{detail.uuid}'")  # noqa: TRY301
        except codec.Unreadable as problem:
            msg = f"The record at '{path}' {(codec.because(problem) and 'cannot be read') or 'is damaged'}"
            raise codec.like(problem)(f"{msg}{codec.because(problem)}", problem) from problem
        return detail, place

    def _children(
        self, path: str, target: str, load: Callable[[dict[str, Any]], _D], *, going_on: bool = False
    ) -> list[_D]:
        """Return the details that links below a path lead to, in the order of their positions.

        :param target: the path of the details
        :param going_on: whether a damaged detail is skipped and logged
        """
        found: list[tuple[_D, float]] = []
        missing = 0
        for name in self._get_children(path):
            with self._going_on() if going_on else contextlib.nullcontext():
                try:
                    detail, place = self._read(self._join_path(target, name), load)
                except exceptions.NotFound:  # the record of a link may not be written
                    missing += 1
                else:
                    found.append((detail, place.at))
        if missing and not going_on:
            self._get_item(path)  # raises if all of it was removed meanwhile
        found.sort(key=lambda pair: pair[1])
        return [detail for detail, _ in found]

    @contextlib.contextmanager
    def _going_on(self) -> Iterator[None]:
        """Skip a record that does not exist any more, or is damaged."""
        try:
            yield
        except exceptions.NotFound:
            pass
        except codec.Unreadable as error:
            LOG.error("A record is skipped: %s", error)  # noqa: TRY400 - the error says it all

    def _names(self, path: str) -> list[str]:
        """Return the names right below a path, none if it does not exist."""
        try:
            return self._get_children(path)
        except exceptions.NotFound:
            return []

    def _place_of(self, path: str, uuid: Any) -> str:
        """Return the path of a record.

        :raises Unstorable: when the uuid would lead elsewhere, or cannot be a name
        """
        if not isinstance(uuid, str) or not uuid or "/" in uuid or "\0" in uuid or uuid in {".", ".."}:
            msg = f"A uuid is a name in the store and cannot be {uuid!r}: it is empty, '.' or '..', or has '/' in it"
            raise exceptions.Unstorable(msg)
        self._check_name(uuid)
        return self._join_path(path, uuid)

    def _seconds_left(self) -> float:
        """Return the seconds for which the current operation may wait."""
        return owners.LONGEST_WAIT if self.deadline is None else max(self.deadline - time.monotonic(), 0.0)

    # -- long histories of retries; the back end caches their last `written` states --------------------

    def _fits(self, path: str, packed: Any) -> bool:
        """Tell whether a record can be written as a whole."""
        return True

    def _stage_history(
        self, changes: Changes, path: str, detail: models.AtomDetail, flow: str, *, at_rest: bool
    ) -> bool:
        """Stage a retry with a history; returns whether the detail is one.

        A cached record is not parsed, which takes the longer the more attempts there are.

        :param flow: the uuid of its flow
        :param at_rest: whether all attempts must be in the record
        :raises NotFound: when it is not stored
        """
        if not isinstance(detail, models.RetryDetail) or len(detail.results) < _LONG_HISTORY:
            return False
        kept, place, _ = self._last_written(path, detail) or (None, None, None)
        if place is None:
            stored, place = self._read(path, codec.load_atom)
            if stored.KIND != detail.KIND:
                return False
            place = Place(place.at, flow)  # everything beside the record is written again
        if at_rest:
            packed = self._pack(detail, place._replace(past=0))
            if self._fits(path, packed):
                if packed != kept:
                    changes[path] = Change(None, packed, is_new=False, flow=flow)
                return True
        place = place._replace(past=self._stage_attempts(changes, detail, place.past))
        packed = self._pack(detail, place)
        if packed != kept:
            changes[path] = Change(None, packed, is_new=False, flow=flow)
        known = self._backend.written
        while len(known) >= _MOST_WRITTEN:
            known.pop(next(iter(known)), None)
        known[path] = Written(packed, place, detail.results[place.past - 1] if place.past else None)
        return True

    def _stage_attempts(self, changes: Changes, detail: models.RetryDetail, past: int) -> int:
        """Stage finished attempts for writing beside the record, when there are many.

        :param past: how many are there; returns the new number
        """
        count = len(detail.results)
        if count - past <= 2 * CHUNK:
            return past
        for begin in range(past, count - CHUNK, CHUNK):
            text = codec.dump_attempts(detail, begin, begin + CHUNK)
            text = text if self.backend.seal is None else self.backend.seal.close(text)
            changes[self._chunk_path(detail.uuid, begin)] = Change(None, text, is_new=True)
            past = begin + CHUNK
        return past

    def _last_written(self, path: str, detail: models.RetryDetail) -> Written | None:
        """Return the last written state, if the store still has it, and the history has only grown since."""
        written: Written | None = self._backend.written.pop(path, None)
        if written is None:
            return None
        past = written.place.past
        if past and (len(detail.results) <= past or detail.results[past - 1] is not written.last):
            return None
        return written if self._get_item(path) == written.kept else None
