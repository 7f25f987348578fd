"""What keeps the life of an engine whole: one piece of work at a time, and an end that no interrupt cuts short.

An interrupt (KeyboardInterrupt, SystemExit, an exception out of a signal handler, a closed iterator) may come between
any two lines, also while an earlier one is dealt with. So what ends a run is written as steps that may be done again:
`Interrupts.defy` repeats them until they are done, and its callers nest, as an interrupt may come just outside of it.

What must stay true: who holds a record, or an executor, is decided by one `setdefault`, inside of the `try` whose
`finally` lets it go.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions

if TYPE_CHECKING:
    from taskflowx.executors.base import Executor

#: so often the steps of an end are done again at most: what fails each time is no interrupt, but an error of ours
_TIMES = 12
_LOCK_IS_FREE = "release unlocked lock"

#: (process, record or executor) -> what is under way with it; of the process, since a child has nothing under way
_under_way: dict[tuple[int, int], Work] = {}


class Interrupts:
    """What has interrupted something that is to come to its end all the same."""

    def __init__(self) -> None:
        #: what is to be raised in the end
        self.left_by: BaseException | None = None
        #: what the store has answered to an attempt to write, the first time that it did not take it
        self.not_saved: BaseException | None = None
        self._left = _TIMES

    def note(self, error: BaseException | None) -> None:
        """Note an interrupt: the first is raised in the end, unless somebody would miss another one.

        KeyboardInterrupt and its like are never given up for an Exception, nor either for the end of an iterator.
        """
        if isinstance(error, RuntimeError) and str(error) == _LOCK_IS_FREE and error.__context__ is not None:
            error = error.__context__  # an interrupt in a lock of `threading`, which hides it by an error of its own
        if isinstance(error, exceptions.StorageFailure) and self.not_saved is None:
            self.not_saved = error
        before = self.left_by
        if error is not None and (before is None or _rank(error) > _rank(before)):
            self.left_by = error

    def defy(self, step: Callable[[], Any]) -> None:
        """Call something that may be called again until it has come to its end, and note what comes in between.

        An error of a store is noted, too, and is no reason to call it again.
        """
        while self._left > 0:
            try:
                step()
            except exceptions.TaskFlowException as error:
                self.note(error)
                return
            except BaseException as error:
                self._left -= 1
                self.note(error)
            else:
                return


def _rank(error: BaseException) -> int:
    return 0 if isinstance(error, GeneratorExit) else 1 if isinstance(error, Exception) else 2


class Work(Interrupts):
    """Something that an engine does with a record, and nobody else meanwhile.

    :param engine: the engine
    :param record: the record, a FlowDetail
    :param to: what is done: 'run', or a step that must not take place during a run
    :param first: what somebody does by hand before a run; returns whether there is something to run then
    :param undoes: whether the run only undoes
    """

    def __init__(
        self, engine: Any, record: Any, to: str, *, first: Callable[[], bool] | None = None, undoes: bool = False
    ) -> None:
        super().__init__()
        self.first = first
        self.undoes = undoes
        self.engine = engine
        self.to = to
        #: whether everything is rolled back when the time of the run is up
        self.rolls_back_late = False
        #: the thread that does it, once it has begun
        self.thread = 0
        #: whether nothing is to start
        self.stopping = False
        #: the loop of the run, once there is one
        self.scheduler: Any = None
        #: what was asked of the run; None as long as nobody cancels it
        self.cancelled: Any = None
        #: whether nothing of a run is under way any more
        self.at_rest = False
        self._record = record
        self._key = (os.getpid(), id(record))
        self._executor_key = self._key  # until that is claimed, too

    def claim(self, flow: Any, executor: Executor | None = None) -> None:
        """Begin; to be called inside of a `try` whose `finally` calls `let_go`.

        :param flow: what the engine runs, for the message
        :param executor: that of a run
        :raises InvalidState: when something else is under way with the record, or another run with the executor
        """
        holder = _under_way.setdefault(self._key, self)
        if holder is not self:
            self.refuse_another(flow)
        if executor is not None and not executor.serial:  # that one has no state
            self._executor_key = os.getpid(), id(executor.unguarded)
            if _under_way.setdefault(self._executor_key, self) is not self:
                raise exceptions.InvalidState(
                    f"Can not run the engine of {flow}: its executor is in use by the run of another engine\n"
                    "Give each engine an executor of its own, by name; what engines that run at once may share is a "
                    "pool: one of concurrent.futures, or a taskflowx ProcessPool"
                )
        self.thread = threading.get_ident()

    def refuse_another(self, flow: Any) -> None:
        """Refuse what would have to wait for something else to end; nothing is begun here.

        :param flow: what the engine runs, for the message
        :raises InvalidState: when something else is under way
        """
        holder = _under_way.get(self._key, self)
        if holder is self:
            return
        if holder.engine is not self.engine:
            raise exceptions.InvalidState(
                f"Can not {self.to} the engine of {flow}: another engine of this process is at work on the same record"
            )
        if holder.to == self.to == "run":
            raise exceptions.InvalidState(f"The engine of {flow} is running already")
        raise exceptions.InvalidState(f"Can not {self.to} the engine of {flow} during its {holder.to}")

    def let_go(self) -> None:
        """End; may be called again, and by one who was refused."""
        for key in (self._executor_key, self._key):
            if _under_way.get(key) is self:
                del _under_way[key]

    def stop(self) -> None:
        """Start nothing new; may be called from any thread, at any moment."""
        self.stopping = True  # first: who makes the scheduler looks at this when others can find it
        if self.scheduler is not None:
            self.scheduler.stop()

    def cancel(self, asked: Any) -> None:
        """Cancel the run; may be called from any thread, at any moment."""
        if self.cancelled is None or (asked.rolls_back and not self.cancelled.rolls_back):
            self.cancelled = asked
        if self.scheduler is not None:
            self.scheduler.cancel(asked)


def current(record: Any) -> Work | None:
    """Return what is under way with a record."""
    return _under_way.get((os.getpid(), id(record)))
