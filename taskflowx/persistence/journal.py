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
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions
from taskflowx._util import failpoints, logs
from taskflowx.persistence import owners

if TYPE_CHECKING:
    import tenacity

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
        self._lock = lock
        self._attempts, self._seconds = attempts, seconds
        self._owner = owners.Owner()
        #: the retry budget in seconds of a commit in a run; None outside of a run
        self.retry_seconds: float | None = None
        self._tried_once = False  # whether a commit gets a single attempt, however long that takes
        #: the failure of an attempt that got no answer, at the end of a run
        self._silent: exceptions.StorageFailure | None = None
        self._reports: dict[str, AtomDetail] = {}  # by uuid of the atom
        self._timer: threading.Timer | None = None
        self._reported_at = -math.inf

    # -- commits -----------------------------------------------------------------------------------

    def commit(self, details: Iterable[AtomDetail]) -> None:
        """Write details, and the state and metadata of the flow, as one transaction.

        :raises Unstorable: when the store cannot hold one of them
        :raises StorageFailure: when the store fails: in a run for `retry_seconds`, otherwise in each attempt
        :raises OwnershipFailure: when another owner runs the flow, or has done so since its record was read
        """
        details = list(details)
        with self._lock:
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

    def _write(self, details: list[AtomDetail], ends: float | None = None) -> None:
        """Write details once.

        :param ends: the deadline, in seconds of `time.monotonic`
        """
        if failpoints.on:
            failpoints.hit("before commit")
        owner = self._owner
        if not owner.held:
            owner.may_hold = owner.running
        connection = self._backend.get_connection()
        try:
            connection.deadline = ends
            connection.save_changes(self._flow_detail, details, owner)
        except exceptions.TaskFlowException:  # not an interrupt: the result of the write is known
            owner.may_hold = False
            raise
        else:
            owner.may_hold = False
        finally:
            connection.close()
        if failpoints.on:
            failpoints.hit("after commit")

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
    def owned(self, lease: float, retry_seconds: float) -> Iterator[None]:
        """Own the run while the block runs, from its first commit on: no other owner can write it.

        :param lease: seconds from a heartbeat to the end of the lease
        :param retry_seconds: the retry budget of a commit, in seconds
        """
        owner = self._owner
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
        self._forget_reports()
        owner.running, self.retry_seconds, self._tried_once = False, None, False
        heartbeat.stop()
        if owner.held or owner.may_hold:
            self._let_go(owner)
        self._silent = None

    def _renew(self, owner: owners.Owner, expires: float) -> None:
        with contextlib.closing(self._backend.get_connection()) as connection:
            connection.deadline = time.monotonic() + _LAST_TRY  # the end of a run waits for it
            connection.renew(self._flow_detail.uuid, owner, expires)

    def _let_go(self, owner: owners.Owner) -> None:
        """Release a run that has ended in an error; a completed run has released itself."""
        try:
            with self._lock:
                self._write_at_last([])
        except (exceptions.OwnershipFailure, exceptions.NotFound):
            owner.held = owner.may_hold = False
        except exceptions.StorageFailure as error:
            LOG.warning(
                "The store still has this process as the one that runs flow '%s': %s",
                self._flow_detail.name,
                error,
            )

    def claim(self) -> None:
        """Claim the run in the store.

        :raises OwnershipFailure: when another owner runs it, or has done so since its record was read
        """
        if not self._owner.held:
            self.commit([])

    # -- progress of running atoms -----------------------------------------------------------------

    def report(self, details: Iterable[AtomDetail], seconds: float) -> None:
        """Write copies of details within `seconds`, unless a commit writes newer ones before.

        The engine's thread is in the call that reports, and cannot write them itself.
        """
        with self._lock:
            self._reports.update((detail.uuid, detail) for detail in details)
            if self._timer is not None:
                return
            seconds = max(seconds, self._reported_at + _BETWEEN_REPORTS - time.monotonic(), 0.0)
            timer = threading.Timer(seconds, self._write_reports)
            timer.daemon = True
            with contextlib.suppress(RuntimeError):  # no thread can be started: the next commit writes it
                timer.start()
                self._timer = timer

    def _write_reports(self) -> None:
        with self._lock:
            details, self._timer, self._reported_at = list(self._reports.values()), None, time.monotonic()
            self._reports.clear()
            if not details or not self._owner.running:
                return
            try:
                self._write(details, time.monotonic() + _LAST_TRY)
            except (exceptions.StorageFailure, exceptions.OwnershipFailure, exceptions.NotFound) as error:
                LOG.debug("Progress in flow '%s' is not in its store yet: %s", self._flow_detail.name, error)

    def _forget_reports(self) -> None:
        with self._lock:
            self._reports.clear()
            timer, self._timer = self._timer, None
        if timer is not None:
            timer.cancel()


def _pause(seconds: float) -> None:
    threading.Event().wait(seconds)
