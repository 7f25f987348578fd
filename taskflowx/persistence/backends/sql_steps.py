"""Writes the steps of runs to a SQL store: each is one transaction, which increments the version of the run.

What must stay true: values become text before the transaction begins, so a value that cannot be stored leaves no
partial write. What is cached of earlier steps is only a hint: the transaction finds out whether it still holds.
"""

from __future__ import annotations

import itertools
import operator
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx.persistence import history
from taskflowx.persistence.backends import sql, sql_books, sql_histories, sql_tails, sql_transactions
from taskflowx.persistence.backends.sql_reader import not_found
from taskflowx.persistence.owners import Claim

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from taskflowx.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend
    from taskflowx.persistence.backends.sql_histories import Part
    from taskflowx.persistence.backends.sql_transaction import StoreTransaction
    from taskflowx.persistence.history import Entry
    from taskflowx.persistence.models import AtomDetail, FlowDetail, RetryDetail
    from taskflowx.persistence.owners import Owner

MOST_WRITTEN = 1000  # flows whose state is remembered
_UNKNOWN = (-1, 0, "")  # the tail of a run that this process has not written
_TEXT = operator.itemgetter(1)  # of a document with its number


class _AbsentError(Exception):
    """A row that is to be updated is not there."""


class StepWriter:
    """Writes the steps of runs.

    :param backend: the store
    :param transactions: runs transactions
    """

    def __init__(self, backend: SQLAlchemyBackend, transactions: Any) -> None:
        self._backend = backend
        self._rows, self._reader, self._histories = backend.rows, backend.reader, backend.histories
        self._may_try = transactions is backend.transactions
        self._transactions = transactions
        self._sql = backend.statements

    def save(
        self,
        flow_detail: FlowDetail,
        atom_details: Iterable[AtomDetail],
        owner: Owner | None,
        entries: Iterable[Entry],
        deadline: float | None,
    ) -> int:
        """Write the changes of one step of a run; returns the bytes of its documents, if there are entries.

        :param deadline: that of the transaction
        """
        details = list(atom_details)
        chunks = [] if entries == () else history.chunks(entries)
        # The first write of a run often adds rows. In a transaction that goes on after it, nothing may be tried.
        if self._may_try and owner is not None and owner.held and not self._histories.known:
            simple = self._rows.of_simple(details)
            try:
                if simple is not None and simple[0]:
                    self._write(_Step(self._sql, flow_detail, owner, simple[0], chunks, simple=True), deadline)
                    return simple[1] + sum(map(len, map(_TEXT, chunks))) if chunks else 0
            except _AbsentError:
                pass  # it is new
        retries = self._histories.in_step(flow_detail, details)
        parts = self._parts(flow_detail, retries, owner, deadline) if retries else []
        atoms = sql_histories.rows(self._rows, flow_detail, details, parts)
        try:
            self._write(_Step(self._sql, flow_detail, owner, atoms, chunks, parts), deadline)
        except sql_histories.StaleError as stale:  # a writer outside of runs has put all attempts into the row
            self._histories.forget(*stale.args)
            return self.save(flow_detail, details, owner, entries, deadline)
        for part in parts:
            self._histories.wrote(part)
        if not chunks:
            return 0
        size = sum(map(len, map(_TEXT, chunks)))
        return size + sum(sum(map(len, filter(None, row[sql.FIRST_DOCUMENT :]))) for row in atoms)

    def _parts(
        self, flow: FlowDetail, retries: list[RetryDetail], owner: Owner | None, deadline: float | None
    ) -> list[Part]:
        """Return the parts of retries with long histories that are written to the table of attempts, if it exists."""
        histories = self._histories
        if histories.usable is None:
            failed = "Failed looking for the table of attempts"

            def look(tx: StoreTransaction) -> bool:
                return self._reader.has(tx, sql.ATTEMPTS.name)

            histories.usable = self._transactions.run(failed, look, writes=False, deadline=deadline)
        if not histories.usable:
            return []
        return histories.parts(self._rows, flow, retries, versioned=owner is not None, fits=self._backend.fits)

    def _write(self, step: _Step, deadline: float | None) -> None:
        """Write a step.

        :raises StaleError: when attempts are missing that must be stored
        :raises _AbsentError: when a row is missing that is to be updated
        """
        detail, owner, transactions = step.detail, step.owner, self._transactions
        uuid = detail.uuid
        written, now_written = self._backend.written, self._rows.of_changes(detail)
        is_written = written.pop(uuid, None) == now_written and bool(step.atoms) and self._backend.checks_parents
        if not is_written:
            step.flow = (self._rows.now(), *now_written, uuid)
        version, last, tail = self._backend.tails.pop(uuid, _UNKNOWN)
        if step.chunks:
            # One that is repeated, as an interrupt has come after it, has the number of the last one.
            is_next, last = step.chunks[0][0] > last, step.chunks[-1][0]
            step.go_on_from(tail if version == detail.revision and is_next else None)
        elif version == detail.revision:
            step.go_on_from(tail)
        failed = f"Failed saving flow details with uuid '{uuid}'"
        try:
            claim = transactions.run(failed, step.write, deadline=deadline, step=is_written)
        except exceptions.StorageFailure as failure:
            claim = self._write_again(step, failure, failed, deadline)
        if owner is not None and claim is not None:
            owner.took(claim, detail)
        if len(written) >= MOST_WRITTEN:
            written.clear()
            self._backend.tails.clear()
        written[uuid] = now_written
        if step.tail is not None:
            self._backend.tails[uuid] = detail.revision, last, step.tail

    def _write_again(
        self, step: _Step, failure: exceptions.StorageFailure, failed: str, deadline: float | None
    ) -> Claim | None:
        """Write a step again if another process may have been the first to write its run; else raise the failure."""
        transactions, owner = self._transactions, step.owner
        try:
            if owner is None or not transactions.is_conflict(failure):
                raise failure
            return transactions.run(failed, step.write, deadline=deadline)  # type: ignore[no-any-return]
        except exceptions.StorageFailure as last:
            if owner is not None and owner.running and isinstance(last, sql_transactions.InDoubt):
                owner.held = True  # the store may have recorded us as the owner: we must release the run
            if transactions.is_conflict(last):

                def look(tx: StoreTransaction) -> FlowDetail:
                    return self._reader.flow(tx, step.detail.uuid, lazy=True)  # raises if it does not exist

                transactions.run(failed, look, writes=False, deadline=deadline)
            raise


class _Step:
    """One step of a run, as it is written; if its transaction is run again, `write` is called again.

    :param statements: those of the database
    :param detail: the record of the run
    :param owner: who writes it; None for somebody outside of runs
    :param atoms: rows of atoms
    :param chunks: documents of the history, each with the number of its first entry
    :param parts: the attempts that are written beside the rows of retries
    :param simple: whether the rows of atoms are those of `Rows.of_simple`
    """

    __slots__ = ("_rows", "_sql", "_then", "atoms", "chunks", "detail", "flow", "owner", "parts", "simple", "tail")

    def __init__(
        self,
        statements: sql.Statements,
        detail: FlowDetail,
        owner: Owner | None,
        atoms: list[tuple[Any, ...]],
        chunks: list[tuple[int, str]],
        parts: Sequence[Part] = (),
        *,
        simple: bool = False,
    ) -> None:
        self._sql = statements
        self.detail = detail
        self.owner = owner
        self.atoms = atoms
        self.chunks = chunks
        self.parts = parts
        self.simple = simple
        #: the parameters of `update_flow`, or nothing when they are stored already
        self.flow: tuple[Any, ...] = ()
        #: the tail of the history once `write` has been committed; None when it is unknown
        self.tail: str | None = None
        #: the tail by this step where the one before is known, and the rows that it adds to the table of entries
        self._then: str | None = None
        self._rows: list[tuple[Any, ...]] = []

    def go_on_from(self, tail: str | None) -> None:
        """Work out the tail of the history by this step.

        :param tail: the tail before; None when it is unknown
        """
        chunks = self.chunks
        if not chunks:
            self._then = tail
        elif tail is not None and len(chunks) == 1:
            ((number, text),) = chunks
            at_rest = self.detail.state in states.AT_REST
            self._then = then = sql_tails.joined(tail, number, text)
            if at_rest or len(then) > sql_tails.MOST:
                self._then = then = sql_tails.joined("", number, text)
                self._rows = sql_tails.rows(self.detail.uuid, tail)
                if at_rest or len(then) > sql_tails.MOST:
                    self._then = ""
                    self._rows.append((self.detail.uuid, number, text))

    def write(self, tx: StoreTransaction) -> Claim | None:
        """Write the step, and increment the version of its run; returns the new claim."""
        owner, detail, statements, then = self.owner, self.detail, self._sql, self._then
        claim = None
        if owner is not None:
            if owner.held:
                claim = owner.following(detail, owner.clock.time())
                if statements.put_and_move_on and self._write_at_once(tx, claim):
                    self.tail = then
                    return claim
                if self.chunks and then is not None:
                    moved = tx.run(
                        statements.move_on_with_tail, *claim, then or None, detail.uuid, detail.revision
                    ).rowcount
                else:
                    moved = tx.run(statements.move_on, *claim, detail.uuid, detail.revision).rowcount
                if not moved:
                    claim = None
            if claim is None:
                stored = tx.rows(statements.run, detail.uuid)
                claim = sql_books.move_on(tx, statements, detail, Claim(*stored[0]) if stored else None, owner)
                then = None
        self._put_atoms(tx)
        self.tail = then
        if self.chunks:
            rows = self._rows
            if then is None:
                before = sql_tails.put_away(tx, statements, detail.uuid, self.chunks[0][0])
                rows, self.tail = before + [(detail.uuid, *one) for one in self.chunks], ""
            tx.many(statements.put_entries, rows, "the history of a run")
        return claim

    def _write_at_once(self, tx: StoreTransaction, claim: Claim) -> bool:
        """Write the step in a single statement, if there is one for it; returns whether that was done."""
        detail, statements, then, atoms, rows = self.detail, self._sql, self._then, self.atoms, self._rows
        if self.flow or self.parts or len(rows) > 1 or (self.chunks and then is None):
            return False
        together, tail = statements.put_and_move_on, list[str | None]()
        if self.chunks and then is not None:
            together = statements.put_log_and_move_on if rows else statements.put_and_move_on_with_tail
            tail = [then or None]
        if len(atoms) > len(together):
            return False
        given = itertools.chain(*atoms, *rows, claim, tail, (detail.uuid, detail.revision))
        return tx.at_once(together[len(atoms) - 1], *given)

    def _put_atoms(self, tx: StoreTransaction) -> None:
        statements = self._sql
        if self.flow and not tx.run(statements.update_flow, *self.flow).rowcount:
            raise not_found("flow details", self.detail.uuid)
        if not self.simple:
            tx.many(statements.put_atom, self.atoms)
        elif tx.many(statements.update_simple, self.atoms) != len(self.atoms):
            raise _AbsentError
        for part in self.parts:
            part.write(tx, statements)
