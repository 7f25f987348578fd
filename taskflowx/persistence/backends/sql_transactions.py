"""Transactions on a SQL database, each on the driver's own connection, from SQLAlchemy's pool.

What must stay true: a transaction is committed as a whole or changes nothing; drivers' errors are translated here; a
transaction is retried when the database was lost, or requests it, unless it may have been committed and cannot be
repeated.

A transaction may have a deadline, a time of `time.monotonic`. It limits every wait: for a turn, a connection, the lock
of another process, and the answer of a server.

SQLite has one writer. Transactions that write take turns in this process, and acquire the database's own lock when they
begin, so none fails half way because another one was faster. A database in memory has one connection, and all
transactions take turns.
"""

from __future__ import annotations

import contextlib
import dataclasses
import operator
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Generic, NoReturn, TypeVar

from sqlalchemy import exc as sa_errors

from taskflowx import exceptions
from taskflowx._util import failpoints, forks
from taskflowx.persistence.backends import sql, sql_deadlines, sql_errors
from taskflowx.persistence.backends.sql_errors import Meaning
from taskflowx.persistence.backends.sql_transaction import StoreTransaction

if TYPE_CHECKING:
    import sqlalchemy as sa

    from taskflowx.persistence.backends.sql_files import DatabaseFile
    from taskflowx.persistence.seal import Seal

T = TypeVar("T")

_FIRST_WAIT, _LONGEST_WAIT = 0.05, 2.0  # seconds between retries
_CACHED_FOR = 1.0  # seconds for which a connection stays cached: it is reused without the cost of the pool
_PATIENT = 25.0  # seconds: a longer time limit is treated as none for the wait for a turn

_ANY = (0, 0)  # SQLite's wait in milliseconds, of a connection on which it was not set


class InDoubt(exceptions.StorageFailure):
    """A transaction may have been committed: its answer was lost."""


class _LostError(Exception):
    """The database was lost, or requests a retry; its argument is the cause, mostly the driver's error."""


@dataclasses.dataclass(slots=True)
class _Job(Generic[T]):
    """A transaction that is to be run: the arguments of `run`, and whether it may have been committed."""

    failed: str
    work: Callable[[StoreTransaction], T]
    writes: bool
    repeatable: bool
    deadline: float | None
    step: bool
    doubted: bool = False


@dataclasses.dataclass(eq=False)
class TransactionRunner:
    """Runs transactions.

    :param engine: the source of connections
    :param max_retries: how often a transaction is retried after the database was lost
    :param in_memory: whether all share one connection
    :param keeps: whether a connection may stay cached for the next transaction, hidden from the pool in between
    :param prepare: sets up a connection of the pool before its first use; returns the limit of a statement
    :param reading: the timeout of a statement in seconds, 0 for none
    :param pings: whether a connection of the pool is pinged before it is used
    :param file: that of the database, if its path is to be checked
    :param seal: opens the documents in rows
    """

    engine: sa.Engine
    max_retries: int
    in_memory: bool
    keeps: bool
    prepare: Callable[[Any], int]
    reading: float = 0.0
    pings: bool = False
    file: DatabaseFile | None = None
    seal: Seal | None = None

    def __post_init__(self) -> None:
        #: the database's maximum size of a statement in bytes, as of the last connection; None before the first one
        self.limit: int | None = None
        self._cached_connection: tuple[Any, float] | None = None  # the cached connection, and when it was used last
        self._waiting = 0  # transactions that wait for the pool, and need returned connections
        self._caching = threading.Lock()
        self._free: AbstractContextManager[Any] = contextlib.nullcontext()
        self._is_sqlite = sql.family_of(self.engine.dialect.name) == "sqlite"
        self._driver: Any = self.engine.dialect.loaded_dbapi
        self._forks = forks.count
        self._inherited: list[Any] = []
        self._make_turns()

    def _make_turns(self) -> None:
        #: a wait with a timeout knows by the lock's owner whether it must release the turn
        self._turns = threading.RLock()
        self._to_read: AbstractContextManager[Any] = self._turns if self.in_memory else self._free
        self._to_write: AbstractContextManager[Any] = self._turns if self._is_sqlite else self._to_read

    def run(
        self,
        failed: str,
        work: Callable[[StoreTransaction], T],
        *,
        writes: bool = True,
        repeatable: bool = True,
        max_retries: int | None = None,
        deadline: float | None = None,
        step: bool = False,
    ) -> T:
        """Run a transaction, and return the result of `work`.

        :param failed: the message of a failure
        :param work: is called with the transaction; may be called several times
        :param writes: whether it changes anything
        :param repeatable: whether it has the same effect when it has been committed already
        :param deadline: its deadline
        :param step: whether it is a step of a run, which others follow
        :raises Unstorable: when the database can never hold the data
        :raises StorageFailure: when the database rejects it, or stays lost
        """
        job = _Job(failed, work, writes, repeatable, deadline, step)
        tries = self.max_retries if max_retries is None else max_retries
        try:
            return self._once(job)
        except _LostError as lost:
            if not tries or (job.doubted and not repeatable) or (deadline and time.monotonic() >= deadline):
                _fail(failed, lost.args[0], job.doubted)
            return self._again(job, tries)

    def is_conflict(self, failure: exceptions.StorageFailure) -> bool:
        """Tell whether a transaction failed since a row that it added exists already, or has no parent."""
        return sql_errors.meaning_of(failure.cause) is Meaning.CLASH if failure.cause else False

    def turn(self, writes: bool) -> AbstractContextManager[Any]:
        """Return the turn that a transaction holds while it runs: a lock where transactions take turns."""
        return self._to_write if writes else self._to_read

    def lend(self, failed: str) -> Any:
        """Return a connection of the pool, ready for a transaction of its own; the caller closes it.

        :param failed: the message of a failure
        :raises StorageFailure: when there is none
        """
        self._after_fork()
        self.let_go()
        left = self.max_retries
        while True:
            try:
                pooled = self._connect(failed, None)
            except _LostError as lost:
                if not left:
                    _fail(failed, lost.args[0])
                left -= 1
                continue
            allowed, now = pooled.info.get("busy", _ANY)
            if allowed != now:
                self._set_busy(pooled, None)
            return pooled

    def fault(self, failed: str, error: Any, raw: Any, *, ending: bool) -> exceptions.StorageFailure:
        """Return the failure for a driver's error in a transaction that runs once.

        :param failed: its message
        :param raw: the driver's connection
        :param ending: whether COMMIT was sent: then it is `InDoubt` if the answer does not tell
        """
        meaning = sql_errors.meaning_of(error)
        is_lost = meaning is Meaning.LOST or self.engine.dialect.is_disconnect(error, raw, None)
        if is_lost:
            self.engine.dispose()  # the other connections are as old as this one
        try:
            _fail(failed, error, in_doubt=ending and (is_lost or meaning is Meaning.PASSING))
        except exceptions.StorageFailure as failure:
            return failure

    def _again(self, job: _Job[T], tries: int) -> T:
        import tenacity

        job.step = False
        stop: Any = tenacity.stop_after_attempt(tries)
        if job.deadline is not None:
            stop |= tenacity.stop_before_delay(max(0.0, job.deadline - time.monotonic()))
        again = tenacity.Retrying(
            stop=stop,
            wait=tenacity.wait_random_exponential(multiplier=_FIRST_WAIT, max=_LONGEST_WAIT),
            retry=tenacity.retry_if_exception(
                lambda error: isinstance(error, _LostError) and (job.repeatable or not job.doubted)
            ),
            reraise=True,
        )
        try:
            result: T = again(self._once, job)
        except _LostError as lost:
            _fail(job.failed, lost.args[0], job.doubted)
        return result

    def _once(self, job: _Job[T]) -> T:
        if self._forks != forks.count:
            self._after_fork()
        turn, deadline = self._to_write if job.writes else self._to_read, job.deadline
        if deadline is None or turn is self._free or deadline - time.monotonic() > _PATIENT:
            with turn:
                return self._in_turn(job)
        given_back: list[None] = []
        try:
            if self._turns.acquire(timeout=max(0.0, deadline - time.monotonic())):
                with turn:  # no interrupt comes between a lock and its `with`
                    given_back.extend(map(operator.call, (self._turns.release,)))  # nor between these: a step of C
                    return self._in_turn(job)
        except BaseException:
            if not given_back:  # this thread may hold it around this, too, for the transaction of a task
                with contextlib.suppress(RuntimeError):  # it has it only if an interrupt came right after `acquire`
                    self._turns.release()
            raise
        raise exceptions.StorageFailure(f"{job.failed}: other threads of this process have kept the database busy")

    def _in_turn(self, job: _Job[T]) -> T:
        pooled = self._take(job)
        try:
            result = self._transaction(job, pooled)
        except BaseException:
            pooled.close()
            raise
        self._release(pooled)
        return result

    def _take(self, job: _Job[T]) -> Any:
        """Return a connection: the cached one, or one of the pool, which replaces old ones."""
        with self._caching:
            taken, self._cached_connection = self._cached_connection, None
            if taken is not None and time.monotonic() - taken[1] < _CACHED_FOR:
                return taken[0]
            self._waiting += 1
        try:
            if taken is not None:
                taken[0].close()
            return self._connect(job.failed, job.deadline)
        finally:
            with self._caching:
                self._waiting -= 1

    def _release(self, pooled: Any) -> None:
        if self.keeps:
            with self._caching:
                if self._cached_connection is None and not self._waiting:
                    self._cached_connection = pooled, time.monotonic()
                    return
        pooled.close()

    def let_go(self) -> None:
        """Return the cached connection to the pool."""
        with self._caching:
            taken, self._cached_connection = self._cached_connection, None
        if taken is not None:
            taken[0].close()

    def _transaction(self, job: _Job[T], pooled: Any) -> T:  # noqa: C901 - from its beginning to each of its ends
        deadline = job.deadline
        raw, info = pooled.dbapi_connection, pooled.info
        watched = None
        if not self._is_sqlite and (self.reading or deadline is not None):
            watched = sql_deadlines.Watched(raw, self.reading, deadline)
            sql_deadlines.watch.enter(watched)
        tx = StoreTransaction(raw, info["taskflowx"], job.doubted, watched, self.seal)
        try:
            if self._is_sqlite:
                allowed, now = info.get("busy", _ANY)
                if now != allowed or (deadline is not None and deadline - time.monotonic() < _PATIENT):
                    self._set_busy(pooled, deadline)
                raw.execute("BEGIN IMMEDIATE" if job.writes else "BEGIN")
            result = job.work(tx)
            if job.writes and failpoints.on:
                failpoints.hit("in commit")
            if self.file is not None:
                self.file.glance() if job.step else self.file.check()
            tx.commit()
            if watched is not None and not sql_deadlines.watch.leave(watched):
                pooled.invalidate()  # it was closed a moment after it had answered
        except self._driver.Error as error:
            is_cut = watched is not None and not sql_deadlines.watch.leave(watched)
            self._undo(job, error, tx, pooled, is_cut)
        except Exception as error:
            self._roll_back(tx, pooled)
            if watched is not None and not sql_deadlines.watch.leave(watched):
                pooled.invalidate()
            if isinstance(error, (UnicodeError, OverflowError)):  # a value that a driver cannot put into a statement
                raise exceptions.Unstorable(job.failed, error) from error
            raise
        except BaseException:
            if self._is_sqlite:  # a closed file stays locked while a traceback refers to a cursor
                self._roll_back(tx, pooled)
            pooled.invalidate()  # an interrupt may have come in the middle of an answer
            if watched is not None:
                sql_deadlines.watch.leave(watched)
            raise
        else:
            return result

    def _set_busy(self, pooled: Any, deadline: float | None) -> None:
        """Let SQLite wait for other processes no longer than until the deadline.

        `pooled.info["busy"]` has the milliseconds that the settings allow, and those that are set now; the engine of a
        caller has none.
        """
        allowed, now = pooled.info.get("busy", _ANY)
        wanted = allowed
        if deadline is not None:
            tenths = max(1, round((deadline - time.monotonic()) * 10))  # rounded, so that equal waits are set once
            wanted = min(allowed, 100 * tenths)
        if wanted != now:
            pooled.dbapi_connection.execute(f"PRAGMA busy_timeout = {wanted}").close()
            pooled.info["busy"] = allowed, wanted

    def _connect(self, failed: str, deadline: float | None) -> Any:
        try:
            with sql_deadlines.asking_until(deadline):
                if self.file is not None:
                    self.file.open()
                pooled = self._from_pool()
        except self._driver.Error as error:
            raise _LostError(error) from error
        except sa_errors.SQLAlchemyError as error:
            _fail(failed, error)
        except exceptions.StorageFailure as error:
            raise exceptions.StorageFailure(failed, error, may_pass=error.may_pass) from error
        if "taskflowx" in pooled.info:
            return pooled
        try:
            with self._watching(pooled.dbapi_connection, deadline):
                self.limit = pooled.info["taskflowx"] = self.prepare(pooled)
        except self._driver.Error as error:
            pooled.invalidate(error)
            raise _LostError(error) from error
        return pooled

    def _from_pool(self) -> Any:
        while True:
            pooled: Any = self.engine.raw_connection()
            if not self.pings or "taskflowx" not in pooled.info:
                return pooled
            try:
                with self._watching(pooled.dbapi_connection, sql_deadlines.asking.at):
                    if self.engine.dialect.do_ping(pooled.dbapi_connection):
                        return pooled
            except self._driver.Error:
                pass
            pooled.invalidate()
            pooled.close()

    @contextlib.contextmanager
    def _watching(self, raw: Any, deadline: float | None) -> Iterator[None]:
        if self._is_sqlite:
            yield
            return
        watched = sql_deadlines.Watched(raw, self.reading, deadline)
        sql_deadlines.watch.enter(watched)
        try:
            yield
        finally:
            sql_deadlines.watch.leave(watched)

    def _undo(self, job: _Job[T], error: Any, tx: StoreTransaction, pooled: Any, is_cut: bool) -> NoReturn:
        meaning = sql_errors.meaning_of(error)
        is_lost = meaning is Meaning.LOST or self.engine.dialect.is_disconnect(error, pooled.dbapi_connection, None)
        if is_cut or is_lost:
            pooled.invalidate(error)
            self.let_go()
            self.engine.dispose()  # the other connections are as old as this one
            cause = TimeoutError("The server has not answered in time") if is_cut else error
            job.doubted = job.doubted or tx.ending
            raise _LostError(cause) from error
        self._roll_back(tx, pooled)
        if meaning is Meaning.CONFLICT:
            raise _LostError(error) from error
        if tx.ending and meaning is Meaning.PASSING:  # SQLite may fail to sync its writes: the result is unknown then
            job.doubted = True
            raise _LostError(error) from error
        hint = (
            ": it has no tables of this version, Connection.upgrade() makes them" if meaning is Meaning.MISSING else ""
        )
        _fail(job.failed + hint, error)

    def _roll_back(self, tx: StoreTransaction, pooled: Any) -> None:
        try:
            tx.roll_back()
        except self._driver.Error as error:
            pooled.invalidate(error)

    def _after_fork(self) -> None:
        """In a forked process: leave connections and locks to the parent."""
        if self._forks != forks.count:
            self._forks = forks.count
            self._make_turns()
            self._caching, self._waiting = threading.Lock(), 0
            # They must not even be closed: the parent still uses them.
            self._inherited += (self.engine.pool, self._cached_connection)
            self._cached_connection = None
            self.engine.dispose(close=False)


def _fail(failed: str, cause: BaseException, in_doubt: bool = False) -> NoReturn:
    meaning = sql_errors.meaning_of(cause)
    kind = exceptions.Unstorable if meaning in sql_errors.OF_THE_DATA else exceptions.StorageFailure
    if in_doubt:
        raise InDoubt(failed, cause) from cause
    raise kind(failed, cause, may_pass=meaning not in sql_errors.LASTING) from cause
