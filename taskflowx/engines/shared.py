"""The state that the parts of one run share.

Each part keeps what it alone changes. Here is what several of them read and change; only the thread that runs the
engine does so, but for `stop`, `cancel` and `wake`, which any thread may call.
"""

from __future__ import annotations

import contextvars
import copy
import functools
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import states, task
from taskflowx._util import clock as clocks
from taskflowx.engines import life, vetoes
from taskflowx.engines.questions import Questions
from taskflowx.engines.timers import ATOM, Timers
from taskflowx.executors import base, stopping
from taskflowx.logging import RUN
from taskflowx.record import metadata

if TYPE_CHECKING:
    from taskflowx import exceptions
    from taskflowx.engines.binding import Binder
    from taskflowx.engines.call_reports import CallReports
    from taskflowx.engines.commits import Commits
    from taskflowx.engines.joint import Joint
    from taskflowx.engines.plan import Plan
    from taskflowx.engines.time_limits import TimeLimits
    from taskflowx.engines.unknown import Unknown
    from taskflowx.engines.walk import Walk
    from taskflowx.persistence.history import Log
    from taskflowx.storage import Storage
    from taskflowx.types.notifier import Notifier


#: our variables in the context of a run, and the name of that of the module `decimal`, which it alone sets: what a task
#: may set these to is never equal to another value
_OURS, _OF_DECIMAL = frozenset((RUN, task.PROGRESS, stopping.TOKEN)), "decimal_context"


class Cancel(NamedTuple):
    """What was asked of a run.

    :param error: what the caller of the run gets
    :param rolls_back: whether everything is rolled back; otherwise the flow is left SUSPENDED
    """

    error: exceptions.TimeoutExceeded | exceptions.Cancelled
    rolls_back: bool


class Run:
    """One run of a plan.

    :param plan: what must happen
    :param walk: what can happen now
    :param details: the record of each atom, by index
    :param binder: gives the arguments of a call
    :param storage: the record by name
    :param executor: where calls run
    :param notifier: gets the transitions of atoms
    :param arrange: puts a list of ready atoms in the order in which they start, in place
    :param clock: the time of the engine
    """

    def __init__(
        self,
        plan: Plan,
        walk: Walk,
        details: list[Any],
        binder: Binder,
        storage: Storage,
        executor: base.Executor,
        notifier: Notifier,
        arrange: Callable[[list[int]], None] | None = None,
        clock: clocks.Clock = clocks.SYSTEM,
    ) -> None:
        self.plan = plan
        self.walk = walk
        self.details = details
        self.binder = binder
        self.storage = storage
        #: notes the transitions; None where no history is kept
        self.log: Log | None = storage.writes.log
        self.executor = executor
        self.notifier = notifier
        # By priority, the highest first, and then by index.
        by_rank = list.sort if plan.rank is None else functools.partial(list.sort, key=plan.rank.__getitem__)
        self.arrange = arrange or by_rank
        self.vetoes = vetoes.Vetoes(plan)
        #: the questions that are awaited; None where nobody has to be
        self.questions = Questions(self) if plan.awaits_before or plan.awaits_after else None
        #: the context variables of the caller of the run; each call in place finds a copy of them
        self.context = contextvars.copy_context()
        #: whether the caller has set variables of its own. Values of these may be equal and not the same, so that a
        #: comparison of contexts does not tell whether one was changed: each call gets a copy from the start
        self.apart = True
        #: what has left the run before its end
        self.interrupts = life.Interrupts()
        #: atoms whose failures are not resolved yet
        self.failed: list[int] = []
        #: calls whose outcome nobody knows; None when no task says what is to be done about them
        self.unknown: Unknown | None = None
        #: calls whose task writes rows in the transaction of its step; None when no task does
        self.joint: Joint | None = None
        #: what calls report beside their outcome; None where nobody asks for it
        self.reports: CallReports | None = None
        if self.log is not None or storage.writes.blobs is not None:
            from taskflowx.engines.call_reports import CallReports  # others do without it

            self.reports = CallReports(self)
        #: whether nothing is executed, as a part of the flow is rolled back
        self.only_undoes = False
        #: atoms that are executed again, because an earlier run was interrupted in them
        self.repeated: set[int] = set()
        #: atoms that count their attempts, of which an earlier run has left a call and this one has not made it again
        self.to_count: set[int] = set()
        #: calls that are got ready and have not begun: an interrupt requeues them
        self.got_ready: tuple[list[base.Call], ...] = ()
        #: how many calls the executor has
        self.in_flight = 0
        #: the mailbox of the executor, and what was taken from it, each item until it is on record
        self.mailbox: Any = executor.make_queue()
        #: by what the executor delivers
        self.deliver: Callable[[tuple[Any, Any]], None] = self.mailbox.put
        self.delivered: deque[tuple[Any, Any]] = deque()
        self._move_one, self._move_all = base.movers(self.mailbox)
        #: ends a wait elsewhere than at the mailbox, in any thread; None where nobody waits so
        self.rouse: Callable[[], None] | None = None
        #: atoms whose calls have ended, and atoms whose calls were requeued, for the limits of the run: the index
        #: after an execute, `~index` after a revert; None where there are no limits
        self.ended: list[int] | None = None
        self.requeued: list[int] | None = None
        self.clock = clock
        self._began = clock.time() - clock.monotonic()
        #: tells calls in the thread of the engine that they are to stop
        self.token = stopping.Token(clock)
        #: what is to be done at a given time
        self.timers = Timers(clock)
        #: the error with which everything is rolled back when the time of the run is up; None to suspend it
        self.late_error: exceptions.TimeoutExceeded | None = None
        #: when nothing new may start any more, a time of the clock's `monotonic`
        self.deadline: float | None = None
        #: time limits; None where there are none, and nothing has been cancelled
        self.time_limits: TimeLimits | None = None
        #: why the run is cancelled, if it is; once it is rolled back for that, `rolled_back` is true
        self.cancelled: Cancel | None = None
        self.rolled_back = False
        #: whether nothing new is to start, and whether that is so because time is up
        self.stopping = self.timed_out = False

    def use_context(self, report: Callable[[Any, dict[str, Any]], None]) -> None:
        """Make the context of the calls from that of the caller, which starts the run now.

        :param report: called with the progress of tasks in this context
        """
        self.context = base.context_of_calls(report, self.token)
        self.context.run(RUN.set, (self.storage.flow_name, self.storage.flow_uuid))
        self.apart = any(one not in _OURS and one.name != _OF_DECIMAL for one in self.context)

    def make_joint(self, commits: Commits) -> None:
        """Prepare for calls whose task writes rows in the transaction of its step, if there are such.

        :param commits: what is dirty
        """
        if self.binder.joint:
            from taskflowx.engines.joint import Joint  # few tasks write to tables of their own

            self.joint = Joint(self, commits)

    def stop(self) -> None:
        """Start nothing new; what runs is let finish. May be called from any thread."""
        self.stopping = True
        self.executor.next_of = None
        self.wake()

    def cancel(self, asked: Cancel) -> None:
        """Stop, and have what runs stopped. May be called from any thread.

        The first that is asked counts, and a rollback more than none.
        """
        before = self.cancelled
        if before is None or (asked.rolls_back and not (before.rolls_back or self.rolled_back)):
            self.cancelled = asked
            self.token.error = copy.copy(asked.error)
        elif self.stopping or self.rolled_back:  # looked at in this order: a further one does not stop the rollback
            return
        self.stop()

    def wake(self) -> None:
        """Have the scheduler look for work, if it waits. May be called from any thread, and a signal handler."""
        self.mailbox.put(base.WAKE)
        for rouse in (getattr(self.mailbox, "rouse", None), self.rouse):
            if rouse is not None:
                rouse()

    def now(self) -> float:
        """Return the time of day, counted on from the start of the run: a changed clock does not move it."""
        return self._began + self.clock.monotonic()

    def park(self, i: int) -> bool:
        """Have an atom wait until the time of day that is on record for it; returns whether it has not come yet."""
        wake, seconds = self.details[i].meta[metadata.WAKE]
        left = min(wake - self.clock.time(), seconds)  # the time of day may have been set back
        if left > 0:
            if self.details[i].intention == states.REVERT:  # it waits to be undone, should a region around it be
                self.walk.interrupted.add(i)
            self.timers.set((ATOM, i), self.clock.monotonic() + left)
        return bool(left > 0)

    def is_late(self) -> bool:
        """Tell whether the time of the run is up, and nobody has acted on it."""
        return self.deadline is not None and not self.timed_out and self.clock.monotonic() >= self.deadline

    def take_delivered(self) -> None:
        """Take all that the executor has delivered."""
        self._move_all(self.delivered)

    def take_next(self, seconds: float | None) -> None:
        """Take what is delivered next.

        :param seconds: how long is waited for it; None for as long as it takes
        :raises queue.Empty: when nothing came
        """
        self._move_one(self.delivered, seconds)

    def take_ready(self) -> list[int]:
        """Take the atoms that are ready, in the order in which they start."""
        batch, self.walk.ready = self.walk.ready, []
        if self.walk.interrupted:
            self.walk.interrupted.difference_update(batch)
        if len(batch) > 1:
            self.arrange(batch)
        return batch

    def take_undo(self) -> list[int]:
        """Take the atoms that can be undone, in the order in which that is done."""
        batch, self.walk.undo = self.walk.undo, []
        if self.walk.interrupted:
            self.walk.interrupted.difference_update(batch)
        if len(batch) > 1:
            self.arrange(batch)
            batch.reverse()
        return batch
