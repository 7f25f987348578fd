"""What keeps the life of an engine whole: one piece of work at a time, and an end that no interrupt cuts short.

An interrupt (KeyboardInterrupt, SystemExit, an exception out of a signal handler, a closed iterator) may come between
any two lines, also while an earlier one is dealt with. So what ends a run is written as steps that may be done again:
`insist` repeats them until they are done, and the callers nest it, since an interrupt may come just outside of it.

What must stay true: who holds a record is decided by one `setdefault`, inside of the `try` whose `finally` lets it go.
"""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions

if TYPE_CHECKING:
    from collections.abc import Callable

#: so often a step is done again at most: what fails each time is no interrupt, but an error of ours
_TIMES = 30

#: (process, record) -> what is under way with it; of the process, since a child has nothing under way
_under_way: dict[tuple[int, int], Work] = {}


class Work:
    """Something that an engine does with a record, and nobody else meanwhile.

    :param engine: the engine
    :param record: the record, a FlowDetail
    :param to: what is done: 'run', or a step that must not take place during a run
    """

    def __init__(self, engine: Any, record: Any, to: str) -> None:
        self.engine = engine
        self.to = to
        #: the thread that does it, once it has begun
        self.thread = 0
        #: whether nothing is to start
        self.stopping = False
        #: the loop of the run, once there is one
        self.scheduler: Any = None
        #: whether nothing of a run is under way any more
        self.at_rest = False
        #: what is to be raised in the end
        self.left_by: BaseException | None = None
        #: what the store has answered to an attempt to write, the first time that it did not take it
        self.not_saved: BaseException | None = None
        self._record = record
        self._key = (os.getpid(), id(record))

    def claim(self, flow: Any) -> None:
        """Begin; to be called inside of a `try` whose `finally` calls `let_go`.

        :param flow: what the engine runs, for the message
        :raises InvalidState: when something else is under way
        """
        holder = _under_way.setdefault(self._key, self)
        if holder is self:
            self.thread = threading.get_ident()
        elif holder.engine is not self.engine:
            raise exceptions.InvalidState(
                f"Can not {self.to} the engine of {flow}: another engine of this process is at work on the same record"
            )
        elif holder.to == self.to == "run":
            raise exceptions.InvalidState(f"The engine of {flow} is running already")
        else:
            raise exceptions.InvalidState(f"Can not {self.to} the engine of {flow} during its {holder.to}")

    def let_go(self) -> None:
        """End; may be called again, and by one who was refused."""
        if _under_way.get(self._key) is self:
            del _under_way[self._key]

    def stop(self) -> None:
        """Start nothing new; may be called from any thread, at any moment."""
        self.stopping = True  # first: who makes the scheduler looks at this when others can find it
        if self.scheduler is not None:
            self.scheduler.stop()

    def note(self, error: BaseException | None) -> None:
        """Note what the work is interrupted by: the first is raised in the end."""
        if isinstance(error, exceptions.StorageFailure) and self.not_saved is None:
            self.not_saved = error
        self.left_by = first(self.left_by, error)


def current(record: Any) -> Work | None:
    """Return what is under way with a record."""
    return _under_way.get((os.getpid(), id(record)))


def first(before: BaseException | None, error: BaseException | None) -> BaseException | None:
    """Return which of two is raised: the first, unless somebody would miss the other one.

    KeyboardInterrupt and its like are never given up for an Exception, nor either for the end of an iterator.
    """
    return error if before is None or (error is not None and _rank(error) > _rank(before)) else before


def _rank(error: BaseException) -> int:
    return 0 if isinstance(error, GeneratorExit) else 1 if isinstance(error, Exception) else 2


def insist(step: Callable[[], Any], note: Callable[[BaseException], Any]) -> None:
    """Call something that may be called again until it has come to its end.

    :param note: called with each interrupt; also with an error of a store, which is no reason to call it again
    """
    for _ in range(_TIMES):
        try:
            step()
        except exceptions.TaskFlowException as error:
            note(error)
            return
        except BaseException as error:
            note(error)
        else:
            return
