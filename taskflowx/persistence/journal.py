"""The writes of one run to its store: ownership, retries of commits, and the progress of running atoms.

`Storage` has a `Journal` when its store is durable. All writes go through its lock, which is that of the storage: a
commit is atomic, whichever thread makes it. What must stay true: a commit carries the current record; a report of
progress, which is a copy, is never written after a commit of the same atom.
"""

from __future__ import annotations

import contextlib
import functools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions
from taskflowx._util import failpoints, logs
from taskflowx.persistence import owners

if TYPE_CHECKING:
    import tenacity

    from taskflowx._util.clock import Clock
    from taskflowx.persistence.base import JointTransaction
    from taskflowx.persistence.history import Entry, Log
    from taskflowx.persistence.models import AtomDetail, FlowDetail

LOG = logs.calm(__name__)

#: the minimum interval in seconds between two writes of progress
_BETWEEN_REPORTS = 1.0
_FIRST_PAUSE, _LONGEST_PAUSE = 0.1, 5.0
#: seconds for a single attempt, when the retry budget is spent or a caller waits
_LAST_TRY = 0.5


class Journal:
    """Writes the record of one run.

    :param flow_detail: the record
    :param backend: its store
    :param lock: held during a write; a thread that changes the record from outside of the run holds it, too
    :param attempts: the number of attempts at a commit outside of a run
    :param seconds: its retry budget in seconds
    """

    def __init__(self, flow_detail: FlowDetail, backend: Any, lock: Any, attempts: int, seconds: float) -> None:
        self._flow_detail = flow_detail
        self._backend = backend
        #: held during a write
        self.lock = lock
        self._attempts, self._seconds = attempts, seconds
        self._owner = owners.Owner()
        self._connection: Any = None  # the last one, if it can be used again
        #: the retry budget in seconds of a commit in a run; None outside of a run
        self.retry_seconds: float | None = None
        self._tried_once = False  # whether a commit gets a single attempt, however long that takes
        #: the failure of an attempt that got no answer, at the end of a run
        self._silent: exceptions.StorageFailure | None = None
        self._reports: dict[str, AtomDetail] = {}  # by uuid of the atom
        self._reported_upto = 0  # the last transition that these have
        #: notes the transitions of the run; None where no history is kept
        self.log: Log | None = None
        self._timer: threading.Timer | None = None
        self._reported_at = -math.inf
        #: the transaction of a task that is open, the thread that has opened it, and what tells of its end
        self._joint: JointTransaction | None = None
        self._joined_by = 0
        self._joint_ended = threading.Condition(lock)
        #: gives what the store gets in place of a detail, where values are sensitive, or may be large; None for itself
        self.to_store: Callable[[AtomDetail], AtomDetail] | None = None
        #: a joint transaction of which nobody knows whether it was committed, the detail of its task, and as it is then
        self._doubt: tuple[JointTransaction, AtomDetail, AtomDetail] | None = None

    # -- commits -----------------------------------------------------------------------------------

    def commit(self, details: Iterable[AtomDetail]) -> None:
        """Write details, and the state and metadata of the flow, as one transaction.

        What earlier commits of this record have failed to write, also those of another engine, goes with it.

        :raises Unstorable: when the store cannot hold one of them
        :raises StorageFailure: when the store fails: in a run for `retry_seconds`, otherwise in each attempt
        :raises OwnershipFailure: when another owner runs the flow, or has done so since its record was read
        """
        details, flow = list(details), self._flow_detail
        with self.lock:
            try:
                if self._joint is not None:
                    self._await_joint()
                if flow.unsaved:
                    details = list(dict.fromkeys((*flow.unsaved, *details)))
                self._commit(details)
            except exceptions.Unstorable:
                raise  # with no commit will it be taken, and the next ones are to be
            except BaseException:
                flow.unsaved = tuple(dict.fromkeys((*flow.unsaved, *details)))
                raise
            flow.unsaved = ()

    def _commit(self, details: list[AtomDetail]) -> None:
        if self.log is not None:
            details = self.log.with_sent(details)
        if self._reports:
            for detail in details:
                self._reports.pop(detail.uuid, None)
        if self.retry_seconds == 0 and not self._tried_once:
            self._write_at_last(details)
            return
        ends = time.monotonic() + (self._seconds if self.retry_seconds is None else self.retry_seconds)
        try:
            self._write(details, None if self._tried_once else ends)
        except exceptions.StorageFailure as error:
            if self.retry_seconds == 0 or not error.may_pass:
                raise
            self._write_again(details, error, ends)

    def _write_at_last(self, details: list[AtomDetail]) -> None:
        """Write details in a single short attempt, after the retry budget; an unresponsive store is asked once."""
        if self._silent is not None:
            raise self._silent
        began = time.monotonic()
        try:
            self._write(details, began + _LAST_TRY)
        except exceptions.StorageFailure as error:
            if time.monotonic() - began > _LAST_TRY / 2:
                self._silent = error
            raise

    def _write(self, details: list[AtomDetail], ends: float | None = None, upto: int | None = None) -> None:
        """Write details once, and what the history has to say of them.

        :param ends: the deadline, in seconds of `time.monotonic`
        :param upto: the last transition that they have, if they are copies
        """
        if self._doubt is not None or self.to_store is not None:
            details = self._as_stored(details)
        if failpoints.on:
            failpoints.hit("before commit")
        owner, log = self._owner, self.log
        if not owner.held:
            owner.may_hold = owner.running
        connection = self._connection or self._backend.get_connection()
        try:
            connection.deadline = ends
            if log is None:
                connection.save_changes(self._flow_detail, details, owner)
                owner.may_hold = False
            else:
                self._save_with_history(connection, details, log, upto)
        except exceptions.TaskFlowException as error:  # not an interrupt: the result of the write is known
            owner.may_hold = False
            if log is not None and not (isinstance(error, exceptions.StorageFailure) and error.may_pass):
                log.refused()
            raise
        finally:
            if connection is not self._connection:
                connection.close()
                self._connection = connection if getattr(connection, "holds_nothing", False) else None
        if failpoints.on:
            failpoints.hit("after commit")

    def _save_with_history(self, connection: Any, details: list[AtomDetail], log: Log, upto: int | None) -> None:
        if log.count is None:
            log.go_on_from(connection.get_history(self._flow_detail.uuid))
        entries = log.due(details, upto)
        connection.save_changes(self._flow_detail, details, self._owner, entries)
        log.bytes_written += getattr(connection, "bytes_written", 0)
        self._owner.may_hold = False
        log.wrote(copies=upto is not None)

    def _as_stored(self, details: list[AtomDetail]) -> list[AtomDetail]:
        """Return what the store gets in place of details, once it is known what it has."""
        if self._doubt is not None:
            self.settle()
        return details if self.to_store is None else list(map(self.to_store, details))

    def _write_again(self, details: list[AtomDetail], first: exceptions.StorageFailure, ends: float) -> None:
        import tenacity  # imported only where it is needed

        stop: Any = tenacity.stop_before_delay(max(0.0, ends - time.monotonic()))
        if self.retry_seconds is None:
            stop |= tenacity.stop_after_attempt(self._attempts)

        failures = [first]

        def write() -> None:
            if failures:  # the attempt that was made already is the first of these
                raise failures.pop()
            self._write(details, ends)

        def warn(state: tenacity.RetryCallState) -> None:
            LOG.warning(
                "The store has not taken the record of flow '%s', again in %.1f s: %s",
                self._flow_detail.name,
                state.upcoming_sleep,
                state.outcome and state.outcome.exception(),
            )

        tenacity.Retrying(
            retry=tenacity.retry_if_exception(lambda e: isinstance(e, exceptions.StorageFailure) and e.may_pass),
            wait=tenacity.wait_random_exponential(multiplier=_FIRST_PAUSE, max=_LONGEST_PAUSE),
            stop=stop,
            before_sleep=warn,
            sleep=_pause,
            reraise=True,
        )(write)

    # -- ownership ---------------------------------------------------------------------------------

    @contextlib.contextmanager
    def owned(self, lease: float, retry_seconds: float, clock: Clock) -> Iterator[None]:
        """Own the run while the block runs, from its first commit on: no other owner can write it.

        :param lease: seconds from a heartbeat to the end of the lease
        :param retry_seconds: the retry budget of a commit, in seconds
        :param clock: the time by which leases end
        """
        if self._doubt is not None:
            self.settle()
        owner = self._owner
        owner.clock = clock
        heartbeat = owners.Heartbeat(owner, functools.partial(self._renew, owner))
        ended = False
        try:
            try:
                owner.lease, owner.running, self.retry_seconds = lease, True, retry_seconds
                self._tried_once = retry_seconds == 0
                heartbeat.start()
                yield
            finally:
                self._disown(owner, heartbeat)
                ended = True
        finally:
            if not ended:  # an interrupt came before the assignment, or in it
                self._disown(owner, heartbeat)

    def _disown(self, owner: owners.Owner, heartbeat: owners.Heartbeat) -> None:
        """Undo what `owned` has set up; may be repeated."""
        with self.lock:
            self._reports.clear()
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()
        owner.running, self.retry_seconds, self._tried_once = False, None, False
        heartbeat.stop()
        if owner.held or owner.may_hold:
            self._let_go(owner)
        self._silent = None

    def _renew(self, owner: owners.Owner, expires: float) -> None:
        if self._joint is not None and self._joint.exclusive:
            return  # nobody else can write before its end, which renews it
        with contextlib.closing(self._backend.get_connection()) as connection:
            connection.deadline = time.monotonic() + _LAST_TRY  # the end of a run waits for it
            connection.renew(self._flow_detail.uuid, owner, expires)

    def _let_go(self, owner: owners.Owner) -> None:
        """Release a run that has ended in an error; a completed run has released itself."""
        try:
            with self.lock:
                self._write_at_last([])
        except (exceptions.OwnershipFailure, exceptions.NotFound):
            owner.held = owner.may_hold = False
        except exceptions.StorageFailure as error:
            LOG.warning(
                "The store still has this process as the one that runs flow '%s': %s", self._flow_detail.name, error
            )

    def claim(self) -> None:
        """Claim the run in the store.

        :raises OwnershipFailure: when another owner runs it, or has done so since its record was read
        """
        if not self._owner.held:
            self.commit([])

    # -- joint transactions ------------------------------------------------------------------------

    @contextlib.contextmanager
    def joint(self) -> Iterator[JointTransaction]:
        """Open a transaction for a task and the step that records its success; see `base.Connection.joint`.

        :raises StorageFailure: when the store has no connection for it
        """
        with contextlib.ExitStack() as stack:
            with self.lock:  # so nobody waits for the store and holds the lock
                self.claim()
                connection = stack.enter_context(contextlib.closing(self._backend.get_connection()))
                stack.callback(self._end_joint)
                opened = stack.enter_context(connection.joint(self._flow_detail))
                self._joint, self._joined_by = opened, threading.get_ident()
            yield opened

    def _end_joint(self) -> None:
        with self.lock:
            self._joint = None
            self._joint_ended.notify_all()

    def _await_joint(self) -> None:
        """Wait until the store takes commits beside the transaction of a task; the lock is released meanwhile.

        :raises StorageFailure: in the thread that has it open, which would wait for itself
        """
        while self._joint is not None and self._joint.exclusive:
            if self._joined_by == threading.get_ident():
                msg = "Cannot write to the record while the `transaction` of a task is open: the store has one writer"
                raise exceptions.StorageFailure(msg, may_pass=False)
            self._joint_ended.wait()

    def commit_jointly(self, opened: JointTransaction, after: AtomDetail, others: Iterable[AtomDetail]) -> None:
        """Write details as `commit` does, once, and commit them with the rows of a task.

        :param after: a copy of the detail of the task, as it is when this is committed
        :param others: the other details that have changed
        :raises StorageFailure: when it is not committed; with `in_doubt` of the transaction, when that is not known
        :raises OwnershipFailure: when another owner runs the flow, or has done so since its record was read
        """
        details, log = [after, *others], self.log
        with self.lock:
            for detail in details:
                self._reports.pop(detail.uuid, None)
            if log is not None and log.count is None:
                log.go_on_from(self._history())
            entries = () if log is None else log.due(details, ahead=after)
            if self.to_store is not None:
                details = list(map(self.to_store, details))
            if failpoints.on:
                failpoints.hit("before commit")
            opened.save(self._flow_detail, details, self._owner, entries)
            if log is not None:
                log.wrote(copies=False, ahead=after)
            if failpoints.on:
                failpoints.hit("after commit")

    def _history(self) -> list[Entry]:
        with contextlib.closing(self._backend.get_connection()) as connection:
            return list(connection.get_history(self._flow_detail.uuid))

    def note_doubt(self, opened: JointTransaction, detail: AtomDetail, after: AtomDetail) -> None:
        """Note that nobody knows whether a joint transaction was committed: nothing else is written before that.

        :param detail: that of its task
        :param after: a copy of it, as it is if it was
        """
        self._doubt = opened, detail, after

    def settle(self) -> bool:
        """Find out the outcome of a joint transaction in doubt; returns whether it was committed.

        :raises StorageFailure: when the store cannot be asked
        :raises OwnershipFailure: when another owner has written the run since
        """
        if self._doubt is None:
            return False
        opened, detail, after = self._doubt
        was_committed = opened.was_committed(self._flow_detail, self._owner)
        if was_committed:
            if self.log is not None:
                self.log.wrote(copies=False, ahead=after)
            detail.update(after)
        self._doubt = None
        return was_committed

    # -- progress of running atoms -----------------------------------------------------------------

    def report(self, details: Iterable[AtomDetail], seconds: float) -> None:
        """Write copies of details within `seconds`, unless a commit writes newer ones before.

        The engine's thread is in the call that reports, and cannot write them itself.
        """
        with self.lock:
            self._reports.update((detail.uuid, detail) for detail in details)
            if self.log is not None:
                self._reported_upto = self.log.last
            if self._timer is not None:
                return
            seconds = max(seconds, self._reported_at + _BETWEEN_REPORTS - time.monotonic(), 0.0)
            timer = threading.Timer(seconds, self._write_reports)
            timer.daemon = True
            with contextlib.suppress(RuntimeError):  # no thread can be started: the next commit writes it
                timer.start()
                self._timer = timer

    def _write_reports(self) -> None:
        with self.lock:
            details, self._timer, self._reported_at = list(self._reports.values()), None, time.monotonic()
            self._reports.clear()
            if not details or not self._owner.running or (self._joint is not None and self._joint.exclusive):
                return  # the next commit writes it
            try:
                self._write(details, time.monotonic() + _LAST_TRY, self._reported_upto)
            except (exceptions.StorageFailure, exceptions.OwnershipFailure, exceptions.NotFound) as error:
                LOG.debug("Progress in flow '%s' is not in its store yet: %s", self._flow_detail.name, error)


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
