"""Reads records from a SQL store, within the caller's transaction.

An unreadable record raises an error that names it. In a listing it is skipped, and an error is logged, so that it does
not hide the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeVar

from taskflowx import exceptions
from taskflowx._util import logs
from taskflowx.persistence import codec
from taskflowx.persistence.backends import sql, sql_histories, sql_rows
from taskflowx.persistence.owners import Claim
from taskflowx.persistence.tag_types import Blob

if TYPE_CHECKING:
    from taskflowx.persistence.backends.sql_transaction import StoreTransaction
    from taskflowx.persistence.models import AtomDetail, FlowDetail, LogBook

LOG = logs.calm(__name__)
T = TypeVar("T")


class Reader:
    """Reads records of one kind of database.

    :param family: one of `sql.FAMILIES`
    :param histories: is notified of long histories that are read
    :param value_of: returns the value that a record refers to
    """

    def __init__(self, family: str, histories: sql_histories.Histories, value_of: Callable[[Blob], Any]) -> None:
        self._family = family
        self._value_of = value_of
        self._sql = sql.statements(family)
        self._histories = histories
        self._there: set[str] = set()  # what is known to be there

    def has(self, tx: StoreTransaction, what: str) -> bool:
        """Tell whether the database has one of our tables, or `sql.TAIL`: TaskFlow's, and older ones, lack some."""
        if what not in self._there and tx.rows(sql.has(self._family, what)):
            self._there.add(what)
        return what in self._there

    def atom(self, tx: StoreTransaction, row: Any) -> AtomDetail:
        """Return the detail of an atom, with its attempts in the table.

        :raises NotFound: when it does not exist any more
        :raises Unreadable: when it is damaged
        """
        detail = self._atom(tx, row)
        if type(detail.results) is Blob:
            try:
                detail.results = self._value_of(detail.results)
            except codec.Unreadable as error:
                raise codec.like(error)(f"Cannot read what is stored of atom '{row[1]}': {error}", error) from error
        return detail

    def _atom(self, tx: StoreTransaction, row: Any) -> AtomDetail:
        try:
            while sql_histories.is_parted(row):
                past = sql_histories.past_of(row)
                if past == 0:
                    break
                chunks = dict(tx.rows(self._sql.attempts, row[0])) if self.has(tx, sql.ATTEMPTS.name) else {}
                lacks = sql_histories.missing(past, chunks)
                if lacks is None:
                    detail = sql_rows.atom(row, sql_histories.joined(past, chunks))
                    self._histories.has_read(detail, past)
                    return detail
                found = row_of(tx, self._sql.atom, "atom details", row[0])
                if tuple(found) == tuple(row):
                    raise codec.Unreadable(lacks)  # noqa: TRY301 - as those below may say
                row = found  # the run has come to rest meanwhile, and the row has all of them
        except codec.Unreadable as error:
            msg = f"Cannot read what is stored of atom '{row[1]}' ({row[0]}){codec.because(error)}"
            raise codec.like(error)(msg, error) from error
        return sql_rows.atom(row)

    def claim(self, tx: StoreTransaction, uuid: str) -> Claim | None:
        """Return the claim of a run; None if it was never written."""
        rows = tx.rows(self._sql.run, uuid) if self.has(tx, sql.RUNS.name) else ()
        return Claim(*rows[0]) if rows else None

    def claims(self, tx: StoreTransaction, book_uuid: str) -> dict[str, Claim]:
        """Return flow's uuid -> claim, for the flows in a book that have one."""
        rows = tx.rows(self._sql.runs_of_book, book_uuid) if self.has(tx, sql.RUNS.name) else ()
        return {uuid: Claim(*claim) for uuid, *claim in rows}

    def flow(self, tx: StoreTransaction, uuid: str, lazy: bool = False) -> FlowDetail:
        """Return the detail of a flow.

        :param lazy: whether to omit the details of its atoms
        :raises NotFound: when it does not exist
        """
        claim = self.claim(tx, uuid)  # first: what is read after it may be newer, never older
        detail = sql_rows.flow(row_of(tx, self._sql.flow, "flow details", uuid))
        detail.revision = claim.version if claim else 0
        rows = () if lazy else tx.rows(self._sql.atoms_of_flow, uuid)
        detail.extend([sql_rows.plain_task(row) or self.atom(tx, row) for row in rows])
        if not (lazy or len(detail)):  # it may have been removed meanwhile, with all of them
            row_of(tx, self._sql.flow, "flow details", uuid)
        return detail

    def flows(self, tx: StoreTransaction, book_uuid: str, *, lazy: bool, strict: bool) -> list[FlowDetail]:
        """Return the details of the flows in a book.

        :param lazy: whether to omit the details of their atoms
        :param strict: whether an unreadable one is an error; otherwise it is skipped
        """
        claims = self.claims(tx, book_uuid)
        atoms: dict[str, list[Any]] = {}
        rows = tx.rows(self._sql.flows_of_book, book_uuid)
        for atom_row in () if lazy else tx.rows(self._sql.atoms_of_book, book_uuid):
            atoms.setdefault(atom_row[2], []).append(atom_row)

        def made(row: Any) -> FlowDetail:
            detail = sql_rows.flow(row)
            detail.revision = claims[detail.uuid].version if detail.uuid in claims else 0
            for atom_row in atoms.get(detail.uuid, ()):
                detail.add(self.atom(tx, atom_row))
            return detail

        return list(map(made, rows)) if strict else list(readable(made, rows))

    def book(self, tx: StoreTransaction, row: Any, *, lazy: bool, strict: bool) -> LogBook:
        """Return the book of a row.

        :param lazy: whether to omit the details of its flows
        :param strict: whether an unreadable flow is an error; otherwise it is skipped
        """
        book = sql_rows.book(row)
        updated_at = book.updated_at
        for detail in () if lazy else self.flows(tx, book.uuid, lazy=False, strict=strict):
            book.add(detail)
        book.updated_at = updated_at  # reading is no update
        return book


def readable(make: Callable[[Any], T], rows: Iterable[Any]) -> Iterator[T]:
    """Iterate over the objects made from rows; an unreadable row is skipped, and an error that names it is logged."""
    for row in rows:
        try:
            yield make(row)
        except exceptions.StorageFailure as error:
            LOG.error("A record is skipped in a listing: %s", error)  # noqa: TRY400 - the error says it all


def row_of(tx: StoreTransaction, query: str, what: str, uuid: str) -> Any:
    """Return the row with a uuid.

    :param what: names the kind of row in the error
    :raises NotFound: when there is none
    """
    for row in tx.rows(query, uuid):
        return row
    raise not_found(what, uuid)


def not_found(what: str, uuid: str) -> exceptions.NotFound:
    """Return the error for a missing row."""
    return exceptions.NotFound(f"No {what} found with uuid '{uuid}'")
