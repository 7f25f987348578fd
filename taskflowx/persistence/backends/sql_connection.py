"""Reads and writes a SQL store: each method is one transaction.

A `Connection` holds no resources: each transaction takes a driver's connection from the pool and returns it, so any
thread may use it, and it costs nothing to make.

What must stay true: values become text before a transaction begins, so a value that cannot be stored leaves no partial
write. A method that writes is one transaction, which may be retried when the database was lost. It never overwrites a
run that has been written since it was read, or that is in progress.
"""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, TypeVar

from sqlalchemy import exc as sa_errors

from taskflowx import exceptions
from taskflowx._util import arguments, logs
from taskflowx.persistence import base, history
from taskflowx.persistence.backends import (
    sql,
    sql_books,
    sql_histories,
    sql_rows,
    sql_runs,
    sql_steps,
    sql_tails,
    sql_transactions,
)
from taskflowx.persistence.backends.sql_reader import not_found, readable, row_of
from taskflowx.persistence.owners import Claim, Owner

if TYPE_CHECKING:
    import sqlalchemy as sa

    from taskflowx.persistence import run_records
    from taskflowx.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend
    from taskflowx.persistence.backends.sql_transaction import StoreTransaction
    from taskflowx.persistence.history import Entry
    from taskflowx.persistence.models import AtomDetail, FlowDetail, LogBook

LOG = logs.calm(__name__)
T = TypeVar("T")


class Connection(base.Connection):
    """Reads and writes the records in a SQL database, as `base.Connection` says; any number of threads may use it.

    :param backend: the store
    :param upgrade_lock: a lock that is held during an upgrade of the store
    :param transactions: runs transactions; that of the store by default
    """

    holds_nothing = True

    def __init__(self, backend: SQLAlchemyBackend, upgrade_lock: Any, transactions: Any = None) -> None:
        self._backend = backend
        self._upgrade_lock = upgrade_lock
        self._transactions = transactions or backend.transactions
        self._steps = backend.steps if transactions is None else sql_steps.StepWriter(backend, transactions)
        self._rows = backend.rows
        self._reader = backend.reader
        self._histories = backend.histories
        self._sql = backend.statements

    @property
    def backend(self) -> SQLAlchemyBackend:
        return self._backend

    # -- the store -------------------------------------------------------------------------------------------------

    def validate(self, max_retries: int = 0) -> None:
        """Check that the database can be reached and has the tables of this version.

        :param max_retries: how often to retry connecting
        """
        failed = "Failed validating the database"
        self._run(failed, lambda tx: tx.rows("SELECT 1"), writes=False, max_retries=max_retries)
        from taskflowx.persistence.backends import migrations

        with self._through_sqlalchemy(failed, writes=False) as connection:
            missing = migrations.missing(connection)
        if missing:
            msg = f"The database has no {', no '.join(missing)}\nConnection.upgrade() makes what is missing"
            raise exceptions.StorageFailure(msg)

    def is_ready(self) -> bool:
        """Tell whether the database says that it has the tables of this version."""

        def work(tx: StoreTransaction) -> bool:
            has = self._reader.has(tx, sql.VERSION_TABLE)
            return has and [row[0] for row in tx.rows(self._sql.layout)] == [sql.newest_layout()]

        return self._run("Failed looking for the layout of the database", work, writes=False)

    def upgrade(self) -> None:
        """Make the tables, or upgrade them to this version; tables that TaskFlow made are reused."""
        from taskflowx.persistence.backends import migrations

        failed = "Failed upgrading the database"
        with self._upgrade_lock:
            self._backend.forget_file()
            self._histories.usable = None
            self._run(failed, lambda tx: tx.rows("SELECT 1"), writes=False)
            try:
                with self._through_sqlalchemy(failed, writes=True) as connection:
                    migrations.upgrade(connection, self._backend.family)
            except sql_transactions.InDoubt:  # the answer to COMMIT was lost: the upgrade can be repeated
                with self._through_sqlalchemy(failed, writes=True) as connection:
                    migrations.upgrade(connection, self._backend.family)

    def upgrade_statements(self) -> list[str]:
        """Return the statements with which `upgrade` would change the database; nothing is changed.

        :raises NotImplementedError: for MariaDB and MySQL
        """
        from taskflowx.persistence.backends import migrations

        failed = "Failed finding the statements of an upgrade"
        with self._upgrade_lock:
            self._backend.forget_file()
            self._run(failed, lambda tx: tx.rows("SELECT 1"), writes=False)
            with self._through_sqlalchemy(failed, writes=True) as connection:
                return migrations.statements(connection, self._backend.family)

    def clear_all(self) -> None:
        def work(tx: StoreTransaction) -> None:
            if self._reader.has(tx, sql.ATTEMPTS.name):
                tx.run(self._sql.clear_attempts)
            if self._reader.has(tx, sql.HISTORY.name):
                tx.run(self._sql.clear_entries)
            for statement in self._sql.clear:
                tx.run(statement)

        self._run("Failed clearing all entries", work)
        self._backend.forget(None)

    # -- writing ---------------------------------------------------------------------------------------------------

    def save_changes(
        self,
        flow_detail: FlowDetail,
        atom_details: Iterable[AtomDetail],
        owner: Owner | None = None,
        entries: Iterable[Entry] = (),
    ) -> None:
        """Write the changes of one step of a run, in one transaction."""
        self.bytes_written = self._steps.save(flow_detail, atom_details, owner, entries, self.deadline)

    def joint(self, flow_detail: FlowDetail) -> AbstractContextManager[base.JointTransaction]:
        from taskflowx.persistence.backends import sql_joint  # few tasks write to tables of their own

        within = functools.partial(Connection, self._backend, self._upgrade_lock)
        return sql_joint.begun(self._backend, f"Failed beginning the transaction of a task of '{flow_detail}'", within)

    def renew(self, flow_uuid: str, owner: Owner, expires: float) -> None:
        failed = f"Failed renewing the lease of flow '{flow_uuid}'"
        self._run(failed, lambda tx: tx.run(self._sql.renew, expires, flow_uuid, owner.name), max_retries=0)

    def update_atom_details(self, atom_detail: AtomDetail) -> AtomDetail:
        arguments.check_like("atom_detail", atom_detail, ("uuid", "intention"), "a TaskDetail or RetryDetail")
        uuid, name, _, *changes = self._rows.of_atom(atom_detail, "")

        def work(tx: StoreTransaction) -> AtomDetail:
            row = row_of(tx, self._sql.atom, "atom details", uuid)
            self._check_at_rest(tx, row[2])
            stored = self._reader.atom(tx, row).merge(atom_detail)
            tx.many(self._sql.put_atom, [(uuid, name, row[2], *changes)])
            if sql_histories.is_parted(row):
                tx.run(self._sql.cut_attempts, uuid, 0)
            return stored

        return self._run(f"Failed updating atom details with uuid '{atom_detail.uuid}'", work)

    def _check_at_rest(self, tx: StoreTransaction, flow_uuid: str) -> None:
        """Raise an error if a run is in progress.

        :raises OwnershipFailure: when it is
        """
        claim = self._reader.claim(tx, flow_uuid)
        if claim is not None and claim.expires > time.time():
            for row in tx.rows(self._sql.flow, flow_uuid):
                detail = sql_rows.flow(row)
                detail.revision = claim.version
                Owner().checked(claim, detail, time.time())

    def update_flow_details(self, flow_detail: FlowDetail) -> FlowDetail:
        arguments.check_like("flow_detail", flow_detail, ("uuid", "meta"), "a FlowDetail")
        flow = self._flow_changes(flow_detail)
        atoms = list(flow_detail)
        rows = [self._rows.of_atom(atom, flow_detail.uuid) for atom in atoms]
        writer = Owner()

        def work(tx: StoreTransaction) -> tuple[FlowDetail, Claim | None]:
            stored = self._reader.flow(tx, flow_detail.uuid)
            claim = None
            if self._reader.has(tx, sql.RUNS.name):
                known = self._reader.claim(tx, flow_detail.uuid)
                claim = sql_books.move_on(tx, self._sql, flow_detail, known, writer)
            new, changed = sql_books.merge_flow(stored, flow_detail, atoms, rows)
            tx.run(self._sql.update_flow, *flow)
            self._backend.written.pop(stored.uuid, None)
            tx.many(self._sql.insert_atom, new)
            tx.many(self._sql.put_atom, changed)
            for atom in filter(self._histories.concerns, atoms):
                if self._reader.has(tx, sql.ATTEMPTS.name):
                    tx.run(self._sql.cut_attempts, atom.uuid, 0)
            return stored, claim

        failed = f"Failed updating flow details with uuid '{flow_detail.uuid}'"
        stored, claim = self._adding(failed, f"flow '{flow_detail.name}'", work)
        if claim is not None:
            writer.took(claim, flow_detail)
            writer.took(claim, stored)
        return stored

    def save_logbook(self, book: LogBook) -> LogBook:
        arguments.check_like("book", book, ("uuid", "created_at"), "a LogBook")
        row = self._rows.of_book(book)
        flows = [self._given(book, detail) for detail in list(book)]
        writer = Owner()

        def work(tx: StoreTransaction) -> sql_books.Outcome:
            return sql_books.save(tx, self._reader, self._sql, row, flows, writer)

        outcome = self._adding(f"Failed saving logbook '{book.uuid}'", f"book '{book.name}'", work)
        for detail, claim in outcome.claims:
            self._backend.written.pop(detail.uuid, None)
            writer.took(claim, detail)
        for detail, reason in outcome.left:
            LOG.warning(
                "Flow '%s' (%s) in book '%s' is not overwritten: %s", detail.name, detail.uuid, book.name, reason
            )
        return book

    def add_flow_details(self, book: LogBook, flow_detail: FlowDetail) -> None:
        row = self._rows.of_book(book)
        given = self._given(book, flow_detail)

        def work(tx: StoreTransaction) -> None:
            if tx.doubted and [one[:3] for one in tx.rows(self._sql.flow, flow_detail.uuid)] == [given.row[:3]]:
                return  # it was added by the attempt whose answer was lost
            tx.run(self._sql.put_book, *row)
            tx.many(self._sql.insert_flow, [given.row])
            tx.many(self._sql.insert_atom, given.atoms)

        failed = f"Failed adding flow details with uuid '{flow_detail.uuid}' to logbook '{book.uuid}'"
        self._adding(failed, f"book '{book.name}'", work)

    def destroy_logbook(self, book_uuid: str) -> None:
        def work(tx: StoreTransaction) -> list[str]:
            runs = [row[0] for row in tx.rows(self._sql.flows_of_book, book_uuid)]
            if self._reader.has(tx, sql.ATTEMPTS.name):
                tx.run(self._sql.destroy_attempts, book_uuid)
            if self._reader.has(tx, sql.HISTORY.name):
                tx.run(self._sql.destroy_entries, book_uuid)
            removed = [tx.run(statement, book_uuid).rowcount for statement in self._sql.destroy]
            if not removed[-1]:
                raise not_found("logbook", book_uuid)
            return runs

        self._backend.forget(self._run(f"Failed destroying logbook '{book_uuid}'", work, repeatable=False))

    def destroy_flows(self, flow_uuids: Iterable[str], only: run_records.Condition = None) -> list[str]:
        uuids = list(flow_uuids)
        beside = self._backend.beside(uuids)

        def work(tx: StoreTransaction) -> list[str]:
            return [uuid for uuid in uuids if sql_runs.destroy(tx, self._reader, self._sql, uuid, only)]

        failed = "Failed removing runs"
        try:
            removed = self._run(failed, work)
        except exceptions.StorageFailure as failure:
            if not self._transactions.is_conflict(failure):
                raise
            removed = self._run(failed, work)  # somebody was the first to write one of them, a moment ago
        self._backend.forget(removed, beside)
        return removed

    # -- reading ---------------------------------------------------------------------------------------------------

    def get_claim(self, flow_uuid: str) -> Claim | None:
        failed = f"Failed looking for the owner of flow '{flow_uuid}'"
        return self._run(failed, lambda tx: self._reader.claim(tx, flow_uuid), writes=False)

    def get_run(self, flow_uuid: str) -> run_records.RunRow:
        failed = f"Failed looking for the run '{flow_uuid}'"
        row = self._run(failed, lambda tx: row_of(tx, self._sql.flow, "flow details", flow_uuid), writes=False)
        return sql_runs.row_of_run(row)

    def get_runs(self, query: run_records.Query) -> list[run_records.RunRow]:
        statement, given = sql_runs.page(self._backend.family, query)
        rows = self._run("Failed listing runs", lambda tx: tx.rows(statement, *given), writes=False)
        return list(readable(sql_runs.row_of_run, rows))

    def listening(self, flow_uuid: str) -> AbstractContextManager[Any]:
        if self._backend.family != "postgresql":
            return contextlib.nullcontext()
        from taskflowx.persistence.backends import sql_listening

        return sql_listening.listening(self._backend.engine, flow_uuid)

    def get_logbook(self, book_uuid: str, lazy: bool = False) -> LogBook:
        def work(tx: StoreTransaction) -> LogBook:
            row = row_of(tx, self._sql.book, "logbook", book_uuid)
            return self._reader.book(tx, row, lazy=lazy, strict=True)

        return self._run(f"Failed getting logbook '{book_uuid}'", work, writes=False)

    def get_logbooks(self, lazy: bool = False) -> Iterator[LogBook]:
        """Iterate over all books, in the order of their creation; each book is read when its turn comes."""
        failed = "Failed getting logbooks"

        def made(row: Any) -> LogBook:
            work = functools.partial(self._reader.book, row=row, lazy=lazy, strict=False)
            return sql_rows.book(row) if lazy else self._run(failed, work, writes=False)

        rows = self._run(failed, lambda tx: tx.rows(self._sql.books), writes=False)
        yield from readable(made, rows)

    def get_flows_for_book(self, book_uuid: str, lazy: bool = False) -> Iterator[FlowDetail]:
        def work(tx: StoreTransaction) -> list[FlowDetail]:
            row_of(tx, self._sql.book, "logbook", book_uuid)
            return self._reader.flows(tx, book_uuid, lazy=lazy, strict=False)

        yield from self._run(f"Failed getting flow details in logbook '{book_uuid}'", work, writes=False)

    def get_flow_details(self, fd_uuid: str, lazy: bool = False) -> FlowDetail:
        failed = f"Failed getting flow details with uuid '{fd_uuid}'"
        return self._run(failed, lambda tx: self._reader.flow(tx, fd_uuid, lazy), writes=False)

    def get_atom_details(self, ad_uuid: str) -> AtomDetail:
        failed = f"Failed getting atom details with uuid '{ad_uuid}'"

        def work(tx: StoreTransaction) -> AtomDetail:
            return self._reader.atom(tx, row_of(tx, self._sql.atom, "atom details", ad_uuid))

        return self._run(failed, work, writes=False)

    def get_atoms_for_flow(self, fd_uuid: str) -> Iterator[AtomDetail]:
        yield from self.get_flow_details(fd_uuid)

    def get_history(self, flow_uuid: str, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        def work(tx: StoreTransaction) -> list[Any]:
            if not self._reader.has(tx, sql.HISTORY.name):
                return []
            # The tail first: what is put into the table meanwhile is there twice, and is taken once.
            tails = tx.rows(self._sql.tail, flow_uuid) if self._reader.has(tx, sql.TAIL) else []
            found = tx.rows(self._sql.entries, flow_uuid, after - history.CHUNK)
            return [*found, *(row[1:] for (tail,) in tails for row in sql_tails.rows(flow_uuid, tail))]

        rows = self._run(f"Failed getting the history of flow '{flow_uuid}'", work, writes=False)
        yield from history.after(rows, after, limit)

    # -- parts -----------------------------------------------------------------------------------------------------

    def _run(self, failed: str, work: Callable[[StoreTransaction], T], **how: Any) -> T:
        return self._transactions.run(failed, work, deadline=self.deadline, **how)

    def _flow_changes(self, detail: FlowDetail) -> tuple[Any, ...]:
        """Return the parameters of `update_flow` for a detail."""
        return self._rows.now(), *self._rows.of_changes(detail), detail.uuid

    def _given(self, book: LogBook, detail: FlowDetail) -> sql_books.Given:
        atoms = [self._rows.of_atom(atom, detail.uuid) for atom in list(detail)]
        return sql_books.Given(detail, self._rows.of_flow(detail, book.uuid), self._flow_changes(detail), atoms)

    def _adding(self, failed: str, what: str, work: Callable[[StoreTransaction], T]) -> T:
        """Run a transaction that adds rows; raises a `Duplicate` if one of them exists.

        :param what: what they are added to
        """
        for last in (False, True):
            try:
                return self._run(failed, work)
            except exceptions.StorageFailure as failure:
                if not self._transactions.is_conflict(failure):
                    raise
                if last:  # a concurrent transaction may have been faster; its rows are found by the second attempt
                    msg = f"A detail in {what} is stored already, in something else"
                    raise exceptions.Duplicate(msg, failure.cause) from failure
        raise AssertionError

    @contextlib.contextmanager
    def _through_sqlalchemy(self, failed: str, *, writes: bool) -> Iterator[sa.Connection]:
        """Return a SQLAlchemy connection, for operations on the tables themselves."""
        try:
            self._transactions.let_go()
            with self._transactions.turn(writes), self._backend.engine.connect() as connection:
                yield connection
        except sa_errors.SQLAlchemyError as error:
            cause = getattr(error, "orig", None) or error
            is_lost = getattr(error, "connection_invalidated", False)
            raise (sql_transactions.InDoubt if is_lost else exceptions.StorageFailure)(failed, cause) from error
