"""What has changed in the record since the last commit, and when the next one is due.

What must stay true: a detail is marked as dirty before it is changed, as an interrupt may come between the two. A store
in memory holds the details themselves, so that nothing is ever dirty there.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx._util import logs
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.shared import Run

LOG = logs.calm(__name__)

_WORD = 2**63  # what an int is below that is taken without a look
#: at least so long lies between commits that carry nothing but progress
_SECONDS_FOR_PROGRESS = 1.0


class Commits:
    """The commits of one run.

    :param run: the run
    :param interval: seconds that may pass between commits: 0 for one before each call or batch of calls, infinity for
        none but after a failure and at the end
    """

    def __init__(self, run: Run, interval: float) -> None:
        self._writes, self._details, self._clock = run.storage.writes, run.details, run.clock
        self.interval = interval
        #: indices of details that have changed since the last commit; None where the record lives in memory alone
        self.dirty: set[int] | None = self._writes.dirty if self._writes.durable else None
        #: those of which nothing but the progress has changed
        self.progressed: set[int] = set()
        #: (index, state before, state) of what is about to start: published after the commit
        self.unpublished: list[tuple[int, str | None, str]] = []
        #: the atom that has reported progress in place last, and how many others were dirty then
        self._reported: tuple[int, int] | None = None
        self._committed_at = self._clock.monotonic()

    def mark(self, i: int) -> None:
        """Mark the record of an atom as dirty."""
        if self.dirty is not None:
            self.dirty.add(i)

    def mark_all(self, atoms: Iterable[int]) -> None:
        """Mark the records of atoms as dirty."""
        if self.dirty is not None:
            self.dirty.update(atoms)

    def mark_region(self, lo: int, hi: int) -> None:
        """Mark the records of all atoms from `lo` to before `hi` as dirty."""
        if self.dirty is not None:
            self.dirty.update(i for i in range(lo, hi) if self._details[i] is not None)

    def mark_progress(self, i: int) -> None:
        """Note that an atom has reported progress."""
        if self.dirty is not None:
            self.progressed.add(i)

    def commit_if_due(self) -> None:
        """Put what is dirty into the store, if it is time to.

        :raises StorageFailure: when the store does not take it; it is then tried again with the next commit
        """
        if self.dirty:
            if not self.interval or self._has_passed(self.interval):
                self.commit()
        elif self.progressed and self._has_passed(max(self.interval, _SECONDS_FOR_PROGRESS)):
            self.commit()

    def commit_failure(self) -> None:
        """Put what is dirty into the store as something has failed, if nothing else but the end of the run does so."""
        if self.interval == math.inf:
            self.commit()

    def commit(self) -> None:
        """Put all that is dirty into the store, as one transaction.

        :raises StorageFailure: when the store does not take it; it is then tried again with the next commit
        """
        if self.dirty is None:
            return
        changed = sorted(self.dirty | self.progressed)
        if not changed:
            return
        try:
            self._writes.journal.commit(list(map(self._details.__getitem__, changed)))
        except exceptions.StorageFailure:
            self.dirty.update(self.progressed)
            self._writes.stop_retrying()
            raise
        self.dirty.clear()
        self.progressed.clear()
        self._reported = None
        self._committed_at = self._clock.monotonic()

    def due_at(self) -> float:
        """Return when the next commit is due, a time of the clock's `monotonic`; infinity for never."""
        due = math.inf
        if self.dirty and self.interval:
            due = self._committed_at + self.interval
        if self.progressed:
            due = min(due, self._due_for_progress())
        return due

    def report(self, i: int) -> None:
        """Have the progress of an atom stored by another thread, while the thread of the engine runs its task."""
        if i not in self.progressed or self.interval == math.inf:
            return
        # What is dirty besides goes with it, so that the store has nothing that did not follow from what it has.
        # Nothing of that changes while the task runs, so it is copied once.
        dirty = self.dirty or ()
        of_call = (i, len(dirty))
        others = () if of_call == self._reported else dirty
        self._reported = of_call
        copies = [self._details[one].copy() for one in {i, *others}]
        self._writes.journal.report(copies, self._due_for_progress() - self._clock.monotonic())

    def _due_for_progress(self) -> float:
        return self._committed_at + max(self.interval, _SECONDS_FOR_PROGRESS)

    def _has_passed(self, seconds: float) -> bool:
        """Tell whether the last commit is so long ago."""
        return self._clock.monotonic() >= self._committed_at + seconds

    def storable(self, i: int, verb: str, outcome: Any) -> Any:
        """Return the outcome of a call, or what takes its place when the store cannot hold it."""
        kind = type(outcome)
        if (outcome is None or kind is bool or (kind is int and -_WORD < outcome < _WORD)) and (
            not self._writes.limits_records
        ):
            return outcome  # every store takes it, and to ask takes longer than the rest
        name = self._details[i].name
        try:
            self._writes.check_result(name, verb, outcome)
            if verb == states.EXECUTE and self._writes.limits_records:
                whole = self._details[i].copy()
                whole.store(outcome)
                self._writes.check_record(whole)
        except exceptions.Unstorable as error:
            if verb == states.EXECUTE:
                self._writes.unstored[name] = outcome  # what it has done is to be undone by its revert
                return Failure.from_exception(error)
            said = self._writes.masked(str(error))
            LOG.warning("%s; it is left out of the record, as what was undone is undone", said)
            return None
        return outcome

    def storable_failure(self, i: int, failure: Failure) -> Failure:
        """Return a failure, or the same one with a shorter text when the store cannot hold it."""
        if self.dirty is None:
            return failure
        what = f"failure of atom '{self._details[i].name}'"
        try:
            self._writes.check_value(failure.to_dict(), what)
        except exceptions.Unstorable as error:
            LOG.warning("%s; it is kept in short", error)
            return failure._tfx_shortened()
        return failure
