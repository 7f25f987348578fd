"""A transaction that a task shares with the record of its run: its rows and its success are committed together.

What must stay true: nothing but `save` commits it. The task gets a connection of SQLAlchemy that refuses to end the
transaction; a savepoint, which is released before the step is written, shows whether a statement of the task has ended
it all the same. No time limit holds for the statements of the task but those of the driver.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import sqlalchemy as sa
from sqlalchemy import event

from taskflowx import exceptions
from taskflowx._util import failpoints
from taskflowx.persistence import base
from taskflowx.persistence.backends import sql_deadlines, sql_transactions
from taskflowx.persistence.backends.sql_transaction import StoreTransaction
from taskflowx.persistence.owners import Claim

if TYPE_CHECKING:
    from taskflowx.persistence.backends.impl_sqlalchemy import SQLAlchemyBackend
    from taskflowx.persistence.history import Entry
    from taskflowx.persistence.models import AtomDetail, FlowDetail
    from taskflowx.persistence.owners import Owner

    #: returns a connection whose transactions are run by what it is given
    Within = Callable[[Any], base.Connection]

_SAVEPOINT = "taskflowx_task"


class _Step(StoreTransaction):
    """The step of a run, as a part of a transaction."""

    __slots__ = ()

    def at_once(self, statement: str, *given: Any) -> bool:
        """Do nothing: no statement here is a transaction by itself."""
        return False


class _Open:
    """Runs what would be a transaction as a part of one that is open.

    :param tx: the open one
    """

    def __init__(self, tx: StoreTransaction) -> None:
        self._tx = tx

    def run(self, _: str, work: Callable[[StoreTransaction], Any], **how: Any) -> Any:
        """Do the work in the open transaction; drivers' errors are raised as they are."""
        return work(self._tx)

    def is_conflict(self, _: Exception) -> bool:
        """Return False: what clashes here cannot be tried again."""
        return False


class Joint(base.JointTransaction):
    """A joint transaction on a SQL database.

    :param backend: the store
    :param pooled: a connection of the pool, on which the transaction has begun
    :param within: makes the connection that writes the step
    """

    def __init__(self, backend: SQLAlchemyBackend, pooled: Any, within: Within) -> None:
        self._backend, self._transactions = backend, backend.transactions
        self._driver: Any = backend.engine.dialect.loaded_dbapi
        self._pooled, self._raw, self._limit = pooled, pooled.dbapi_connection, pooled.info["taskflowx"]
        self._within = within
        self._claim: Claim | None = None
        self._may_end = False
        self.exclusive = backend.family == "sqlite"
        self.handle = sa.Connection(backend.engine, connection=pooled)
        self.handle.begin()
        event.listen(self.handle, "commit", self._refuse_to_end)
        event.listen(self.handle, "rollback", self._refuse_to_end)
        self._run(f"SAVEPOINT {_SAVEPOINT}")

    def _refuse_to_end(self, _: Any) -> None:
        if not self._may_end:
            raise exceptions.InvalidState(
                "A task cannot commit or roll back its `transaction`: that is done with its success or its failure\n"
                "Raise an exception to have it rolled back; begin_nested() makes a savepoint for a part of it"
            )

    def _run(self, statement: str) -> None:
        cursor = self._raw.cursor()
        cursor.execute(statement)
        cursor.close()

    def save(
        self, flow_detail: FlowDetail, atom_details: Iterable[AtomDetail], owner: Owner, entries: Iterable[Entry] = ()
    ) -> None:
        """Write the step and commit it, as the base class says."""
        failed = f"Failed saving the rows of a task with flow details '{flow_detail.uuid}'"
        watched = None
        if not self.exclusive:
            watched = sql_deadlines.Watched(self._raw, self._transactions.reading, None)
            sql_deadlines.watch.enter(watched)
        tx = _Step(self._raw, self._limit, watched=watched, seal=self._backend.seal)
        before = flow_detail.revision, owner.held, owner.expires
        saved = False
        try:
            self._check_open()
            self._within(_Open(tx)).save_changes(flow_detail, atom_details, owner, entries)
            self._claim = Claim(flow_detail.revision, owner.name, owner.expires)
            if failpoints.on:
                failpoints.hit("in commit")
            if self._transactions.file is not None:
                self._transactions.file.check()
            self.in_doubt = True  # also where an interrupt comes
            tx.commit()
            saved = True
        except self._driver.Error as error:
            failure = self._transactions.fault(failed, error, self._raw, ending=tx.ending)
            self.in_doubt = isinstance(failure, sql_transactions.InDoubt)
            raise failure from error
        finally:
            if watched is not None:
                sql_deadlines.watch.leave(watched)
            if not saved:
                flow_detail.revision, owner.held, owner.expires = before
                self._backend.written.pop(flow_detail.uuid, None)

    def _check_open(self) -> None:
        """Raise an error if the transaction is not open any more.

        :raises StorageFailure: when a statement of the task has ended it, or a failed one has spoiled it
        """
        try:
            self._run(f"RELEASE SAVEPOINT {_SAVEPOINT}")
        except self._driver.Error as error:
            msg = (
                "The transaction of the task is over, or spoiled, before the task has ended: no statement in it may "
                "commit, roll back or change a table's definition, and one that may fail belongs in begin_nested()"
            )
            raise exceptions.StorageFailure(msg, error, may_pass=False) from error

    def was_committed(self, flow_detail: FlowDetail, owner: Owner) -> bool:
        """Ask the database for the claim of the run, as the base class says."""
        failed = f"Failed asking for flow details with uuid '{flow_detail.uuid}'"
        query = self._backend.statements.run_at_rest
        rows = self._transactions.run(failed, lambda tx: tx.rows(query, flow_detail.uuid))
        stored = Claim(*rows[0]) if rows else Claim(0, None, 0.0)
        if self._claim is not None and stored[:2] == self._claim[:2]:
            owner.took(stored, flow_detail)
            return True
        if stored.version != flow_detail.revision:
            owner.checked(stored, flow_detail, owner.clock.time())
        return False

    def end(self) -> None:
        """Roll back what was not saved, and return the connection to the pool."""
        self._may_end = True
        try:
            self._raw.rollback()  # SQLAlchemy would not, where the task has tried to commit
        except BaseException as error:
            if self._pooled.is_valid:
                self._pooled.invalidate()  # that rolls back, too
            if not isinstance(error, self._driver.Error):
                raise
        finally:
            self.handle.close()


@contextlib.contextmanager
def begun(backend: SQLAlchemyBackend, failed: str, within: Within) -> Iterator[Joint]:
    """Begin a joint transaction, which is rolled back at the end of the block unless it was saved.

    :param failed: the message of a failure
    :param within: makes the connection that writes the step of the run
    :raises StorageFailure: when it cannot begin
    """
    transactions = backend.transactions
    driver: Any = backend.engine.dialect.loaded_dbapi
    with contextlib.ExitStack() as stack:
        stack.enter_context(transactions.turn(writes=True))
        pooled = transactions.lend(failed)
        ends = stack.enter_context(contextlib.ExitStack())
        ends.callback(pooled.close)
        try:
            if backend.family == "sqlite":
                pooled.dbapi_connection.execute("BEGIN IMMEDIATE").close()
            joint = Joint(backend, pooled, within)
        except driver.Error as error:
            pooled.invalidate(error)
            raise transactions.fault(failed, error, pooled.dbapi_connection, ending=False) from error
        except BaseException:
            pooled.invalidate()
            raise
        ends.pop_all()
        stack.callback(joint.end)
        yield joint
