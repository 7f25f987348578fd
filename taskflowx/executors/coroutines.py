"""The coroutine of a call: its asyncio task, how it is performed, and whether it was cancelled from outside."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from taskflowx import signature, states
from taskflowx._util import logs
from taskflowx.executors import base
from taskflowx.types.failure import Failure

LOG = logs.calm(__name__)

#: the current call; tasks and timers that a coroutine starts inherit it with their copy of the context
CALL: contextvars.ContextVar[base.Call | None] = contextvars.ContextVar(
    "taskflowx.executors.coroutines.CALL", default=None
)


class Coroutine(asyncio.Task[None]):
    """The coroutine of a call, which records whether it was cancelled from outside."""

    __slots__ = ("call", "ended")  # no dict is made for each

    call: base.Call
    #: called with the call and this when a cancelled coroutine has ended
    ended: Callable[[base.Call, asyncio.Task[None]], None]
    by_others = False

    def cancel(self, msg: Any = None) -> bool:
        """Request cancellation, as for any asyncio task."""
        # Before its first step it ends without running any of our code.
        self.add_done_callback(functools.partial(self.ended, self.call))
        if CALL.get() is not self.call:
            self.by_others = True
        return super().cancel(msg)


_BIT = {states.EXECUTE: signature.EXECUTES_ASYNC, states.REVERT: signature.REVERTS_ASYNC}


def is_coroutine(call: base.Call) -> bool:
    """Tell whether the verb of a call is a coroutine function."""
    return bool(call.atom._tfx_signature.asynchronous & _BIT[call.verb])


def current_task() -> asyncio.Task[Any] | None:
    """Return the current task of this thread, None where no loop runs."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs: the rest of a coroutine is discarded
        return None


def is_cut_off() -> bool:
    """Tell whether the running coroutine was cancelled from outside: not by itself, nor by its own tasks."""
    one = current_task()
    return one is None or (one.cancelling() > 0 and getattr(one, "by_others", True))


def unless_cut_off(call: base.Call, failure: Failure) -> Any:
    """Return the failure, or an interrupt if cancellation from outside caused it."""
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


async def perform(atom: Any, verb: str, kwargs: dict[str, Any]) -> Any:
    """Do as `base.perform` does, and await an awaitable value."""
    try:
        listened = atom._tfx_listened
        if listened is not None:
            listened.tell(0.0)
        if verb == states.EXECUTE:
            try:
                atom.pre_execute()
                value = atom.execute(**kwargs)
                if type(value) is types.CoroutineType or inspect.isawaitable(value):
                    value = await value
            finally:
                atom.post_execute()
        else:
            try:
                atom.pre_revert()
                value = atom.revert(**kwargs)
                if type(value) is types.CoroutineType or inspect.isawaitable(value):
                    value = await value
            finally:
                atom.post_revert()
        if listened is not None:
            listened.tell(1.0)
    except Exception as error:
        return Failure.from_exception(error)
    return value
