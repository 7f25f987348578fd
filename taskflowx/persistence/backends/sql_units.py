"""Units of work on a SQL database: one transaction each, on the driver's own connection, from SQLAlchemy's pool.

What must stay true: a unit is committed as a whole or leaves nothing; drivers' errors end here; a unit is run again
when the database was lost, or asks for it, unless it may have been committed and would not do the same once more.

SQLite has one writer. Units that write take turns in this process, and ask for the database's own lock when they
begin, so none fails half way because another one was faster. A database in memory has one connection, and all units
take turns.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from sqlalchemy import exc as sa_errors

from taskflowx import exceptions
from taskflowx._util import failpoints
from taskflowx.persistence.backends import sql

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    import sqlalchemy as sa

T = TypeVar("T")

# Deadlocks, conflicts of transactions, and waits for a lock that took too long: SQLSTATE, and MariaDB's numbers.
_PASSING = frozenset(("40001", "40P01", 1205, 1213))
_NO_TABLE = frozenset(("42P01", 1146))

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0  # seconds between tries
_AT_HAND = 1.0  # seconds for which a connection is used again without asking the pool, which would take its time
_STATEMENT = 4096  # bytes of a statement beside its values, and more
_ESCAPED = ("\\", '"', "'", "\0", "\n", "\r", "\x1a")


class _LostError(Exception):
    """The database went away, or asks to do the same once more.

    :param cause: the driver's error
    :param in_doubt: whether the unit may have been committed
    """

    def __init__(self, cause: BaseException, in_doubt: bool = False) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.in_doubt = in_doubt


class Unit:
    """One transaction.

    :param raw: the driver's connection
    :param limit: bytes that the database takes in one statement, 0 if there is no such limit
    """

    __slots__ = ("_limit", "_raw", "ending")

    def __init__(self, raw: Any, limit: int) -> None:
        self._raw = raw
        self._limit = limit
        self.ending = False  # whether COMMIT has been sent

    def run(self, statement: str, *given: Any) -> Any:
        """Run a statement that writes no more of a detail than its metadata; returns the driver's cursor."""
        if self._limit:
            self._check_size(given, "the metadata")
        cursor = self._raw.cursor()
        cursor.execute(statement, given)
        return cursor

    def rows(self, statement: str, *given: Any) -> list[Any]:
        """Return all rows of a query."""
        cursor = self._raw.cursor()
        cursor.execute(statement, given)
        found: list[Any] = cursor.fetchall()
        cursor.close()
        return found

    def many(self, statement: str, rows: Sequence[tuple[Any, ...]]) -> None:
        """Run a statement for each row, in as few round trips as the driver can."""
        if not rows:
            return
        cursor = self._raw.cursor()
        if self._limit:
            for row in rows:
                self._check_size(row, f"'{row[1]}'")
            # PyMySQL joins rows up to a length that does not ask what the server takes.
            room = self._limit - _STATEMENT
            cursor.max_stmt_length = min(getattr(cursor, "max_stmt_length", room), room)
        if len(rows) == 1:
            cursor.execute(statement, rows[0])
        else:
            cursor.executemany(statement, rows)
        cursor.close()

    def _check_size(self, values: Sequence[Any], what: str) -> None:
        texts = [value for value in values if isinstance(value, str)]
        if 2 * sum(map(len, texts)) + _STATEMENT < self._limit:
            return
        size = _STATEMENT + sum(len(text.encode()) + sum(map(text.count, _ESCAPED)) for text in texts)
        if size > self._limit:
            msg = (
                f"Cannot store {what}: with {size:,} bytes it does not fit into one statement, of which the server "
                f"takes {self._limit:,} (max_allowed_packet)\nRaise the server's limit, or keep large values elsewhere"
            )
            raise exceptions.Unstorable(msg)


class Units:
    """Runs units of work.

    :param engine: where connections come from
    :param max_retries: how often a unit is run again after the database was lost
    :param in_memory: whether all share one connection
    :param keeps: whether a connection may be kept for the next unit, which the pool then does not see in between
    :param prepare: what is done with a driver's connection before its first use; returns the limit of a statement
    """

    def __init__(
        self, engine: sa.Engine, max_retries: int, in_memory: bool, keeps: bool, prepare: Callable[[Any], int]
    ) -> None:
        self.engine = engine
        self._max_retries = max_retries
        self._in_memory = in_memory
        self._keeps = keeps
        self._at_hand: tuple[Any, float] | None = None  # a connection, and when it was used last
        self._waiting = 0  # units that ask the pool, and need what is put back
        self._hands = threading.Lock()
        self._free: AbstractContextManager[Any] = contextlib.nullcontext()
        self._prepare = prepare
        self._is_sqlite = sql.family_of(engine.dialect.name) == "sqlite"
        self._driver: Any = engine.dialect.loaded_dbapi
        self._process = os.getpid()
        self._inherited: list[Any] = []
        self._turns = threading.Lock()

    def run(
        self,
        failed: str,
        work: Callable[[Unit], T],
        *,
        writes: bool = True,
        repeatable: bool = True,
        max_retries: int | None = None,
    ) -> T:
        """Run a unit of work, and return what it returns.

        :param failed: what to say when it fails
        :param work: is given the unit; may be called several times
        :param writes: whether it changes anything
        :param repeatable: whether it does the same once more when it has been committed already
        :raises StorageFailure: when the database refuses it, or stays lost
        """
        tries = self._max_retries if max_retries is None else max_retries
        try:
            return self._once(failed, work, writes)
        except _LostError as lost:
            if not tries or (lost.in_doubt and not repeatable):
                _fail(failed, lost.cause)
        return self._again(failed, work, writes, repeatable, tries)

    def is_conflict(self, failure: exceptions.StorageFailure) -> bool:
        """Tell whether a unit failed since a row that it added is there already, or belongs to none that is there."""
        return isinstance(failure.cause, self._driver.IntegrityError)

    def turn(self, writes: bool) -> AbstractContextManager[Any]:
        """Return what a unit holds while it runs: a lock where units take turns."""
        return self._turns if self._in_memory or (writes and self._is_sqlite) else self._free

    def _again(self, failed: str, work: Callable[[Unit], T], writes: bool, repeatable: bool, tries: int) -> T:
        import tenacity

        again = tenacity.Retrying(
            stop=tenacity.stop_after_attempt(tries),
            wait=tenacity.wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, _LostError) and (repeatable or not error.in_doubt)
            ),
            reraise=True,
        )
        try:
            result: T = again(self._once, failed, work, writes)
        except _LostError as lost:
            _fail(failed, lost.cause)
        return result

    def _once(self, failed: str, work: Callable[[Unit], T], writes: bool) -> T:
        self._after_fork()
        with self.turn(writes):
            pooled = self._take(failed)
            try:
                result = self._transaction(failed, work, writes, pooled)
            except BaseException:
                pooled.close()
                raise
            self._put_back(pooled)
            return result

    def _take(self, failed: str) -> Any:
        """Return a connection: the one at hand, or one of the pool, which sees to those that have grown old."""
        with self._hands:
            taken, self._at_hand = self._at_hand, None
            if taken is not None and time.monotonic() - taken[1] < _AT_HAND:
                return taken[0]
            self._waiting += 1
        try:
            if taken is not None:
                taken[0].close()
            return self._connect(failed)
        finally:
            with self._hands:
                self._waiting -= 1

    def _put_back(self, pooled: Any) -> None:
        if self._keeps:
            with self._hands:
                if self._at_hand is None and not self._waiting:
                    self._at_hand = pooled, time.monotonic()
                    return
        pooled.close()

    def let_go(self) -> None:
        """Give the pool back what is kept of it."""
        with self._hands:
            taken, self._at_hand = self._at_hand, None
        if taken is not None:
            taken[0].close()

    def _transaction(self, failed: str, work: Callable[[Unit], T], writes: bool, pooled: Any) -> T:
        unit = Unit(pooled.dbapi_connection, pooled.info["taskflowx"])
        try:
            if self._is_sqlite:
                pooled.dbapi_connection.execute("BEGIN IMMEDIATE" if writes else "BEGIN")
            result = work(unit)
            if writes and failpoints.on:
                failpoints.hit("in commit")
            unit.ending = True
            pooled.dbapi_connection.commit()
        except self._driver.Error as error:
            self._undo(failed, error, unit, pooled)
        except Exception:
            self._roll_back(pooled)
            raise
        except BaseException:
            if self._is_sqlite:  # a closed file stays locked while somebody holds the traceback, and with it a cursor
                self._roll_back(pooled)
            pooled.invalidate()  # it may have been interrupted in the middle of an answer
            raise
        return result

    def _connect(self, failed: str) -> Any:
        try:
            pooled = self.engine.raw_connection()
        except self._driver.Error as error:
            raise _LostError(error) from error
        except sa_errors.SQLAlchemyError as error:
            _fail(failed, error)
        if "taskflowx" in pooled.info:
            return pooled
        try:
            pooled.info["taskflowx"] = self._prepare(pooled.dbapi_connection)
        except self._driver.Error as error:
            pooled.invalidate(error)
            raise _LostError(error) from error
        return pooled

    def _undo(self, failed: str, error: Any, unit: Unit, pooled: Any) -> NoReturn:
        if self.engine.dialect.is_disconnect(error, pooled.dbapi_connection, None):
            pooled.invalidate(error)
            self.let_go()
            self.engine.dispose()  # the other connections are as old as this one
            raise _LostError(error, in_doubt=unit.ending) from error
        self._roll_back(pooled)
        codes = {getattr(error, "sqlstate", None), getattr(error, "pgcode", None), *error.args[:1]}
        if not codes.isdisjoint(_PASSING):
            raise _LostError(error) from error
        if not codes.isdisjoint(_NO_TABLE) or "no such table" in str(error):
            failed += ": its tables are not there, Connection.upgrade() makes them"
        _fail(failed, error)

    def _roll_back(self, pooled: Any) -> None:
        try:
            pooled.dbapi_connection.rollback()
        except self._driver.Error as error:
            pooled.invalidate(error)

    def _after_fork(self) -> None:
        """Leave connections and locks to the process that made them."""
        if self._process != os.getpid():
            self._process = os.getpid()
            self._turns, self._hands, self._waiting = threading.Lock(), threading.Lock(), 0
            # Not even to be closed: the parent is at the other end.
            self._inherited += (self.engine.pool, self._at_hand)
            self._at_hand = None
            self.engine.dispose(close=False)


def _fail(failed: str, cause: BaseException) -> NoReturn:
    raise exceptions.StorageFailure(failed, cause) from cause
