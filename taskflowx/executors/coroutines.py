"""The coroutine of a call: its asyncio task, how it is performed, and whether it was cancelled from outside.

A coroutine that is interrupted (see `base.Executor.interrupt`) is cancelled from outside. What it was interrupted by is
its outcome, if it ends by that.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import types
from collections.abc import Callable
from typing import Any

from taskflowx import exceptions, signature, states, task
from taskflowx._util import logs
from taskflowx.executors import base, stopping
from taskflowx.types.failure import Failure

LOG = logs.calm(__name__)

#: the current call; tasks and timers that a coroutine starts inherit it with their copy of the context
CALL: contextvars.ContextVar[base.Call | None] = contextvars.ContextVar(
    "taskflowx.executors.coroutines.CALL", default=None
)


class _Token:
    """The token of all coroutines (see `stopping`): it looks at the call that the context says."""

    @property
    def given_up(self) -> bool:
        """Whether the call was given up."""
        call = CALL.get()
        return call is not None and call.given_up

    def check(self) -> None:
        """Raise the error by which the call was interrupted, if it was."""
        call = CALL.get()
        if call is not None and call.stopped_by is not None:
            raise call.stopped_by


TOKEN: stopping.Stopping = _Token()


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


class GivenUp:
    """The coroutines that an executor has given up, and that have not ended."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def add(self, call: base.Call, one: asyncio.Task[None]) -> None:
        """Give up the coroutine of a call; may be done again."""
        self._tasks.add(one)
        one.add_done_callback(self._tasks.discard)
        call.stop.given_up = True

    @staticmethod
    def refuse(call: base.Call) -> None:
        """Log that a coroutine has ended after all, unless its loop was closed under it."""
        outcome = call.outcome
        if not (type(outcome) is base.Interrupt and type(outcome.exception) is GeneratorExit):
            base.refuse_late(call, outcome)

    def leave_behind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Let a loop of our own be closed: it neither waits for these coroutines nor complains of them."""
        left = {one for one in self._tasks if one.get_loop() is loop}
        if left:
            for one in left:
                asyncio._unregister_task(one)
            loop.set_exception_handler(lambda _, context: None if context.get("task") in left else _report(context))
            self._tasks -= left


def _report(context: dict[str, Any]) -> None:
    LOG.warning("%s in the loop of a run that ends: %r", context.get("message"), context.get("exception"))


_BIT = signature.ASYNC_BIT


def is_coroutine(call: base.Call) -> bool:
    """Tell whether the verb of a call is awaited: its method, or a hook around it, is a coroutine function."""
    return bool(call.atom._tfx_signature.asynchronous & _BIT[call.verb])


def current_task() -> asyncio.Task[Any] | None:
    """Return the current task of this thread, None where no loop runs."""
    try:
        return asyncio.current_task()
    except RuntimeError:  # no loop runs: the rest of a coroutine is discarded
        return None


def is_interrupted() -> bool:
    """Tell whether the running coroutine was cancelled from outside: not by itself, nor by its own tasks."""
    one = current_task()
    return one is None or is_cancelled(one)


def is_cancelled(one: asyncio.Task[Any]) -> bool:
    """Tell whether the coroutine of a call was cancelled from outside, and has not ended."""
    return one.cancelling() > 0 and getattr(one, "by_others", True)


def outcome_of_cancel(call: base.Call, error: BaseException) -> Any:
    """Return the outcome of a coroutine that was cancelled.

    :param error: what it has ended with
    """
    if not is_interrupted():
        cancelled = f"The coroutine of atom '{call.atom.name}' was cancelled, and not by the run"
        return Failure.from_exception(exceptions.ExecutionFailure(cancelled, error))
    stopped_by = call.stopped_by
    return base.Interrupt(error) if stopped_by is None else Failure.from_exception(stopped_by)


def unless_interrupted(call: base.Call, failure: Failure) -> Any:
    """Return the failure, or what it counts as if cancellation from outside caused it."""
    error: BaseException | None = failure.exception
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, asyncio.CancelledError):
            if not is_interrupted():
                break
            LOG.warning("Atom '%s' raised %r as it was cancelled; it counts as interrupted", call.atom.name, failure)
            return outcome_of_cancel(call, error)
        seen.add(id(error))
        error = error.__context__
    return failure


async def perform(atom: Any, verb: str, kwargs: dict[str, Any]) -> Any:
    """Do as `base.perform` does, and await what the method and the hooks around it return."""
    try:
        if type(verb) is not str:
            verb.begin(atom)  # type: ignore[attr-defined] # see `noted`
        executes = verb == states.EXECUTE
        if not isinstance(atom, task.Task):  # of a retry, or a question: no hooks
            value = (atom.execute if executes else atom.revert)(**kwargs)
            return await value if inspect.isawaitable(value) else value
        listened = atom._tfx_listened
        if listened is not None:
            listened.tell(0.0)
        try:
            hook: Any = (atom.pre_execute if executes else atom.pre_revert)()
            if hook is not None and inspect.isawaitable(hook):
                await hook
            value = (atom.execute if executes else atom.revert)(**kwargs)
            if type(value) is types.CoroutineType or inspect.isawaitable(value):
                value = await value
        finally:
            hook = (atom.post_execute if executes else atom.post_revert)()
            if hook is not None and inspect.isawaitable(hook):
                await hook
        if listened is not None:
            listened.tell(1.0)
    except Exception as error:
        return Failure.from_exception(error)
    return value
