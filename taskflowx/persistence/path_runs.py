"""Pages of runs in a store that lays records out as paths, and the removal of runs.

Such a store has no index: a page reads the record of each run, without its atoms. Runs that were stored by a version of
TaskFlow do not say when they were made; they count as made when their book was.
"""

from __future__ import annotations

import abc
import contextlib
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from taskflowx import exceptions
from taskflowx.persistence import codec, models, owners, run_records
from taskflowx.persistence.path_tree import LAST, PathTree

if TYPE_CHECKING:
    import datetime as dt

_R = TypeVar("_R")


class PathRuns(PathTree, abc.ABC):
    """Lists runs, and removes them.

    :param backend: the store
    """

    # -- optional methods of a driver --------------------------------------------------------------

    def _transact(self, path: str, change: Callable[[Any], _R]) -> _R:
        """Call a function with a transaction, and return its result; a driver may repeat the call after a conflict."""
        with self._transaction(path) as transaction:
            return change(transaction)

    def _within(self, path: str, transaction: Any) -> AbstractContextManager[Any]:
        """Return the context of a transaction on a flow as a part of another one."""
        return self._transaction(path)

    def _pin_claim(self, flow_uuid: str, transaction: Any) -> None:
        """Make the transaction fail if a claim that was read in it has changed."""

    def _run_items(self, names: list[str]) -> Iterator[tuple[str, Any, float | None]]:
        """Iterate over the records of flows: name, item, and when it was written, in seconds since 1970.

        A driver may read several at once. Those that do not exist any more are skipped.
        """
        for name in names:
            with self._going_on():
                yield name, self._get_item(self._join_path(self.flow_path, name)), None

    def _made_at(self, detail: models.FlowDetail, at: float) -> float:
        """Return when a run was made, in seconds since 1970; infinity where that is unknown.

        :param at: its position among its siblings
        """
        return at

    # -- reading -----------------------------------------------------------------------------------

    def get_claim(self, flow_uuid: str) -> owners.Claim | None:
        path = self._place_of(self.flow_path, flow_uuid)
        with self._reading(path):
            return self._live_claim(flow_uuid)

    def _live_claim(self, flow_uuid: str) -> owners.Claim | None:
        """Return the claim of a run, also where nothing else is to see it."""
        return self._get_claim(flow_uuid)

    def get_run(self, flow_uuid: str) -> run_records.RunRow:
        self._place_of(self.flow_path, flow_uuid)
        for row in self._runs([flow_uuid]):
            return row
        raise exceptions.NotFound(f"No flow details found with uuid '{flow_uuid}'")

    def _all_runs(self) -> Iterator[run_records.RunRow]:
        return self._runs(self._names(self.flow_path))

    def _runs(self, names: list[str], of_books: dict[str, dt.datetime] | None = None) -> Iterator[run_records.RunRow]:
        for name, item, written in self._run_items(names):
            with self._going_on():
                detail, place = self._understood(self._join_path(self.flow_path, name), item, codec.load_flow)
                at = self._made_at(detail, place.at)
                if at == LAST:
                    of_books = self._times_of_books() if of_books is None else of_books
                    made = of_books.get(name, run_records.from_seconds(0))
                else:
                    made = run_records.from_seconds(at)
                changed = None if written is None else run_records.from_seconds(written)
                yield run_records.RunRow(detail.uuid, detail.name, detail.state, detail.meta, made, changed)

    def _times_of_books(self) -> dict[str, dt.datetime]:
        """Return the uuid of a flow -> when its book was made."""
        return {
            name: run_records.in_utc(book.created_at)
            for book in self.get_logbooks(lazy=True)
            for name in self._names(self._join_path(self.book_path, book.uuid))
        }

    # -- removing ----------------------------------------------------------------------------------

    def destroy_flows(self, flow_uuids: Iterable[str], only: run_records.Condition = None) -> list[str]:
        removed = []
        of_books: dict[str, str] | None = None
        for uuid in flow_uuids:
            try:
                run_id = run_records.id_of(self.get_flow_details(uuid, lazy=True))
            except exceptions.NotFound:
                continue
            except codec.Unreadable:  # a damaged run can be removed
                run_id = None
            if run_id is None and of_books is None:
                of_books = self._books_of_flows()
            book = run_records.book_uuid(run_id) if run_id is not None else (of_books or {}).get(uuid)
            beside = self.backend.beside([uuid])
            if self._destroy_flow(uuid, only):
                self.backend.forget([uuid], beside)
                removed.append(uuid)
                if book is not None:
                    self._leave_book(book, uuid, is_made_for_it=run_id is not None)
        return removed

    def _books_of_flows(self) -> dict[str, str]:
        """Return the uuid of a flow -> that of its book."""
        return {
            name: book
            for book in self._names(self.book_path)
            for name in self._names(self._join_path(self.book_path, book))
        }

    def _destroy_flow(self, uuid: str, only: run_records.Condition) -> bool:
        """Remove a run unless it is in progress; tells whether it was removed.

        :param only: tells of the run whether it is to be removed; None if it is
        """
        path = self._place_of(self.flow_path, uuid)

        def change(transaction: Any) -> bool:
            claim = self._live_claim(uuid)
            if claim is not None and owners.is_alive(claim, time.time()):
                return False
            self._pin_claim(uuid, transaction)
            # No book is read for its time, as a writer of a book has its lock before that of a flow.
            if only is not None and not any(map(only, self._runs([uuid], {}))):
                return False
            self._remove_flow(uuid, frozenset(self._names(self._attempt_path)), transaction)
            return True

        return self._transact(path, change)

    def _remove_flow(self, uuid: str, parted: frozenset[str], transaction: Any) -> None:
        """Remove a flow with its atoms, from the bottom up: a partly removed one can be removed again.

        :param parted: the retries with attempts beside their record
        """
        path = self._join_path(self.flow_path, uuid)
        for atom_uuid in self._names(path):
            if atom_uuid in parted:
                self._del_tree(self._join_path(self._attempt_path, atom_uuid), transaction)
            self._del_tree(self._join_path(self.atom_path, atom_uuid), transaction)
        self._del_tree(path, transaction)
        self._del_tree(self._join_path(self._run_path, uuid), transaction)
        self._del_tree(self._join_path(self._history_path, uuid), transaction)

    def _leave_book(self, book_uuid: str, flow_uuid: str, *, is_made_for_it: bool) -> None:
        """Remove the link of a book to a run, and the book if it was made for such runs and holds nothing else.

        Nothing is removed of a run that is there again, with the same id.
        """
        path = self._place_of(self.book_path, book_uuid)

        def change(transaction: Any) -> None:
            try:
                book, _ = self._read(path, codec.load_book)
            except exceptions.NotFound:
                return
            with contextlib.suppress(exceptions.NotFound):
                self._get_item(self._join_path(self.flow_path, flow_uuid))
                return
            others = set(self._names(path)) - {flow_uuid}
            if not others and (is_made_for_it or book.name == run_records.TEMPORARY):
                self._del_tree(path, transaction)
            else:
                self._del_link(self._join_path(path, flow_uuid), transaction)

        self._transact(path, change)

    def _del_link(self, path: str, transaction: Any) -> None:
        """Remove a link, if it exists, but not its target."""
        self._del_tree(path, transaction)
