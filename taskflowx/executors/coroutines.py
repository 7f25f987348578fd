"""The coroutine of a call: as a task of asyncio, how it is run, and who has cut it off."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from typing import TYPE_CHECKING, Any

from taskflowx import signature, states
from taskflowx._util import logs
from taskflowx.executors import base
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

LOG = logs.calm(__name__)

#: the call in which something happens; what a coroutine starts (tasks, timers) has it by its copy of the context
CALL: contextvars.ContextVar[base.Call | None] = contextvars.ContextVar(
    "taskflowx.executors.coroutines.CALL", default=None
)


class Coroutine(asyncio.Task[None]):
    """The coroutine of a call, which knows who has cancelled it."""

    call: base.Call
    #: called when it has ended, once somebody has cancelled it
    ended: Callable[[asyncio.Task[None]], None]
    by_others = False

    def cancel(self, msg: Any = None) -> bool:
        """Ask for its end, as that of any task of asyncio."""
        self.add_done_callback(self.ended)  # if it has not begun it ends without a word
        if CALL.get() is not self.call:
            self.by_others = True
        return super().cancel(msg)


_BIT = {states.EXECUTE: signature.EXECUTES_ASYNC, states.REVERT: signature.REVERTS_ASYNC}


def is_coroutine(call: base.Call) -> bool:
    """Tell whether a call is one of a coroutine function."""
    return bool(call.atom._tfx_signature.asynchronous & _BIT[call.verb])


def current_task() -> asyncio.Task[Any] | None:
    """Return the task that runs in this thread, None where there is no loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs: what is left of a coroutine is thrown away
        return None


def is_cut_off() -> bool:
    """Tell whether somebody else has cancelled the coroutine that runs: not itself, nor what it has started."""
    one = current_task()
    return one is None or (one.cancelling() > 0 and getattr(one, "by_others", True))


def unless_cut_off(call: base.Call, failure: Failure) -> Any:
    """Return a failure, or an interrupt where it came of what a coroutine does when it is cut off."""
    error: BaseException | None = failure.exception
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, asyncio.CancelledError):
            if not is_cut_off():
                break
            LOG.warning(
                "Atom '%s' raised %r as it was cancelled; it counts as interrupted",
                call.atom.name,
                failure,
            )
            return base.Interrupt(error)
        seen.add(id(error))
        error = error.__context__
    return failure


_METHODS = {
    states.EXECUTE: ("pre_execute", "execute", "post_execute"),
    states.REVERT: ("pre_revert", "revert", "post_revert"),
}


async def perform(atom: Any, verb: str, kwargs: dict[str, Any]) -> Any:
    """Do as `base.perform` does, and await what is to be awaited."""
    try:
        listened = atom._tfx_listened
        if listened is not None:
            listened.tell(0.0)
        before, method, after = _METHODS[verb]
        try:
            getattr(atom, before)()
            value = getattr(atom, method)(**kwargs)
            if inspect.isawaitable(value):
                value = await value
        finally:
            getattr(atom, after)()
        if listened is not None:
            listened.tell(1.0)
    except Exception as error:
        return Failure.from_exception(error)
    return value
