"""Reads records out of a SQL store, within a unit of work of whoever asks.

A record that cannot be read raises an error that names it. Where several are listed, it is left out, with an error in
the log, so that it does not hide the others.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from taskflowx import exceptions
from taskflowx._util import logs
from taskflowx.persistence import codec
from taskflowx.persistence.backends import sql, sql_histories, sql_rows
from taskflowx.persistence.owners import Claim

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from taskflowx.persistence.backends.sql_unit import Unit
    from taskflowx.persistence.models import AtomDetail, FlowDetail, LogBook

LOG = logs.calm(__name__)
T = TypeVar("T")


class Reader:
    """Reads records of one kind of database.

    :param family: which of `sql.FAMILIES`
    :param histories: is told of long ones that are read
    """

    def __init__(self, family: str, histories: sql_histories.Histories) -> None:
        self._family = family
        self._sql = sql.statements(family)
        self._histories = histories
        self._has_runs = False
        self._has_attempts = False

    def has_runs(self, unit: Unit) -> bool:
        """Tell whether versions are kept, which they are not in a database that only TaskFlow has written."""
        if not self._has_runs:
            self._has_runs = bool(unit.rows(sql.has_table(self._family, sql.RUNS)))
        return self._has_runs

    def has_attempts(self, unit: Unit) -> bool:
        """Tell whether attempts may be elsewhere than in the rows of their retries; not so in an older layout."""
        if not self._has_attempts:
            self._has_attempts = bool(unit.rows(sql.has_table(self._family, sql.ATTEMPTS)))
        return self._has_attempts

    def atom(self, unit: Unit, row: Any) -> AtomDetail:
        """Return the detail of an atom, with the attempts that are elsewhere than in its row.

        :raises NotFound: when it is not there any more
        :raises Unreadable: when it is damaged
        """
        try:
            while sql_histories.is_parted(row):
                past = sql_histories.past_of(row)
                if past == 0:
                    break
                chunks = dict(unit.rows(self._sql.attempts, row[0])) if self.has_attempts(unit) else {}
                lacks = sql_histories.missing(past, chunks)
                if lacks is None:
                    detail = sql_rows.atom(row, sql_histories.joined(past, chunks))
                    self._histories.has_read(detail, past)
                    return detail
                found = unit.rows(self._sql.atom, row[0])
                if not found:
                    raise no_atom(row[0])
                if tuple(found[0]) == tuple(row):
                    raise codec.Unreadable(lacks)  # noqa: TRY301 - as those below may say
                row = found[0]  # the run has come to rest in between, and the row has all of them
        except codec.Unreadable as error:
            msg = f"Cannot read what is stored of atom '{row[1]}' ({row[0]})"
            raise codec.Unreadable(msg, error) from error
        return sql_rows.atom(row)

    def claim(self, unit: Unit, uuid: str) -> Claim | None:
        """Return who has written a run last; None when nobody has."""
        rows = unit.rows(self._sql.run, uuid) if self.has_runs(unit) else ()
        return Claim(*rows[0]) if rows else None

    def claims(self, unit: Unit, book_uuid: str) -> dict[str, Claim]:
        """Return flow's uuid -> who has written it last, for the flows in a book that have been written at all."""
        rows = unit.rows(self._sql.runs_of_book, book_uuid) if self.has_runs(unit) else ()
        return {uuid: Claim(*claim) for uuid, *claim in rows}

    def flow(self, unit: Unit, uuid: str, lazy: bool = False) -> FlowDetail:
        """Return the detail of a flow.

        :param lazy: whether the details of its atoms are left out
        :raises NotFound: when it is not there
        """
        claim = self.claim(unit, uuid)  # first: what is read after it may be newer, never older
        for row in unit.rows(self._sql.flow, uuid):
            detail = sql_rows.flow(row)
            detail.revision = claim.version if claim else 0
            for atom_row in () if lazy else unit.rows(self._sql.atoms_of_flow, uuid):
                detail.add(self.atom(unit, atom_row))
            return detail
        raise no_flow(uuid)

    def flows(self, unit: Unit, book_uuid: str, *, lazy: bool, strict: bool) -> list[FlowDetail]:
        """Return the details of the flows in a book.

        :param lazy: whether the details of their atoms are left out
        :param strict: whether one that cannot be read is an error; else it is left out
        """
        claims = self.claims(unit, book_uuid)
        atoms: dict[str, list[Any]] = {}
        rows = unit.rows(self._sql.flows_of_book, book_uuid)
        for atom_row in () if lazy else unit.rows(self._sql.atoms_of_book, book_uuid):
            atoms.setdefault(atom_row[2], []).append(atom_row)

        def made(row: Any) -> FlowDetail:
            detail = sql_rows.flow(row)
            detail.revision = claims[detail.uuid].version if detail.uuid in claims else 0
            for atom_row in atoms.get(detail.uuid, ()):
                detail.add(self.atom(unit, atom_row))
            return detail

        return list(map(made, rows)) if strict else list(readable(made, rows))

    def book(self, unit: Unit, row: Any, *, lazy: bool, strict: bool) -> LogBook:
        """Return the book of a row.

        :param lazy: whether the details of its flows are left out
        :param strict: whether a flow that cannot be read is an error; else it is left out
        """
        book = sql_rows.book(row)
        updated_at = book.updated_at
        for detail in () if lazy else self.flows(unit, book.uuid, lazy=False, strict=strict):
            book.add(detail)
        book.updated_at = updated_at  # to be read is no update
        return book


def readable(make: Callable[[Any], T], rows: Iterable[Any]) -> Iterator[T]:
    """Iterate over what is made of rows; what cannot be read is left out, and an error is logged that names it."""
    for row in rows:
        try:
            yield make(row)
        except exceptions.StorageFailure as error:
            LOG.error("A record is left out of what is listed: %s", error)  # noqa: TRY400 - the error says it all


def no_book(uuid: str) -> exceptions.NotFound:
    """Return the error for a book that is not there."""
    return exceptions.NotFound(f"No logbook found with uuid '{uuid}'")


def no_flow(uuid: str) -> exceptions.NotFound:
    """Return the error for the detail of a flow that is not there."""
    return exceptions.NotFound(f"No flow details found with uuid '{uuid}'")


def no_atom(uuid: str) -> exceptions.NotFound:
    """Return the error for the detail of an atom that is not there."""
    return exceptions.NotFound(f"No atom details found with uuid '{uuid}'")
