"""The state that the parts of one run share.

Each part keeps what it alone changes. Here is what several of them read and change; only the thread that runs the
engine does so, but for `stop`, which any thread may call.
"""

from __future__ import annotations

import contextvars
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from taskflowx.engines import life, vetoes
from taskflowx.executors import base

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskflowx.engines.binding import Binder
    from taskflowx.engines.plan import Plan
    from taskflowx.engines.walk import Walk
    from taskflowx.storage import Storage
    from taskflowx.types.notifier import Notifier


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
    ) -> None:
        self.plan = plan
        self.walk = walk
        self.details = details
        self.binder = binder
        self.storage = storage
        self.executor = executor
        self.notifier = notifier
        self.arrange = arrange or _arranger(plan)
        self.vetoes = vetoes.Vetoes(plan)
        #: the context variables of the caller of the run; each call in place finds a copy of them
        self.context = contextvars.copy_context()
        #: what has left the run before its end
        self.interrupts = life.Interrupts()
        #: atoms whose failures are not resolved yet
        self.failed: list[int] = []
        #: atoms that are executed again, because an earlier run was interrupted in them
        self.repeated: set[int] = set()
        #: calls that are got ready and have not begun: an interrupt requeues them
        self.got_ready: tuple[list[base.Call], ...] = ()
        #: how many calls the executor has
        self.in_flight = 0
        #: the mailbox of the executor, and what was taken from it, each item until it is on record
        self.mailbox: Any = executor.make_queue()
        self.delivered: deque[tuple[Any, Any]] = deque()
        self._move_one, self._move_all = base.movers(self.mailbox)
        #: when nothing new may start any more, in seconds of `time.monotonic`
        self.deadline: float | None = None
        #: whether nothing new is to start, and whether that is so because time is up
        self.stopping = self.timed_out = False

    def stop(self) -> None:
        """Start nothing new; what runs is let finish. May be called from any thread."""
        self.stopping = True
        self.executor.next_of = None
        self.mailbox.put(base.WAKE)

    def is_late(self) -> bool:
        """Tell whether the time of the run is up, and nobody has acted on it."""
        return self.deadline is not None and not self.timed_out and time.monotonic() >= self.deadline

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


def _arranger(plan: Plan) -> Callable[[list[int]], None]:
    """Return a function that sorts ready atoms by priority, the highest first, and then by index."""
    rank = plan.rank
    if rank is None:
        return list.sort
    return lambda batch: batch.sort(key=rank.__getitem__)
