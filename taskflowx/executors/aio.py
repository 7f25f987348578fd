"""Coroutines: `async def` tasks run in an event loop, all others in worker threads.

The loop belongs to one of two. `engine.run()` makes one for the run, and turns it whenever the scheduler waits, in the
thread of the engine. `await engine.arun()` runs in a loop that is there already: the scheduler then never waits in
here, as the engine awaits `filled` first.

What must stay true:

- No coroutine of a run outlives the run. Coroutines touch the mailbox and nothing else of the run.
- Each call that was handed in is delivered once or given back, whatever is cancelled, stopped or closed: a coroutine
  is in `_running` until its call has been delivered.
- A coroutine that others have cancelled, as a loop does when it ends, was interrupted and has not failed.
- A signal handler may raise anywhere. asyncio logs what is raised in a callback and goes on, so each callback of ours
  is a step that is taken again, by `_surely`, and what came in between is raised where the run waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import logging
import math
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions
from taskflowx.executors import base, coroutines, threads
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

#: the outcome of a call for which it was too late when its turn came
_LATE = object()

#: so often a step is taken again at most: what fails each time is no interrupt, but an error of ours
_TIMES = 12

#: seconds after which a coroutine is found that an interrupt has ended before its first line
_SECONDS_LOST = 0.5

#: seconds for which a timer is set at most: loops differ in how many they bear, and who wakes early waits again
_LONGEST = 3600.0


class AsyncioExecutor(base.Executor):
    """Runs `async def` calls in an event loop, and others in threads.

    :param max_workers: how many calls may run at once, coroutines and threads together; without it coroutines have no
        limit
    """

    runs_async = True

    def __init__(self, max_workers: int | None = None) -> None:
        self._most = math.inf if max_workers is None else max_workers
        self._threads = threads.ThreadsExecutor(max_workers)
        self._mailbox = base.Mailbox(self._turn)
        self._deliver: Callable[[tuple[Any, Any]], None] = self._mailbox.put
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._runner: asyncio.Runner | None = None
        self._context = contextvars.copy_context()
        #: calls for which there is no room yet
        self._pending: deque[base.Call] = deque()
        #: calls for which it was too late when their turn came
        self._late: list[base.Call] = []
        #: the coroutines that run
        self._running: dict[asyncio.Task[None], base.Call] = {}
        #: the calls that are with the threads, where their number is limited
        self._in_threads: set[base.Call] = set()
        #: what a signal handler has raised in a callback
        self._interrupt: BaseException | None = None
        #: called when a coroutine has ended that has not delivered that itself
        self._has_ended = functools.partial(self._surely, self._settle_ended)
        self._lookout: asyncio.TimerHandle | None = None
        self._starting = False
        self._cancelled = False
        #: whether the loop of the run is turned, and whether that is only until no coroutine runs any more
        self._turning = self._ending = False

    def check_start(self) -> None:
        """Refuse a run that would have to turn a loop inside of another one."""
        if self._loop is None and asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "engine.run() with executor='asyncio' turns an event loop, and one runs in this thread already: "
                "use `await engine.arun()` there"
            )

    def make_queue(self) -> base.Mailbox:
        """Return a mailbox: who waits on it turns the loop."""
        self._mailbox = base.Mailbox(self._turn)
        return self._mailbox

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Get ready to take calls, in the loop of the caller if there is one."""
        self._deliver = deliver
        self._cancelled = self._ending = self._starting = False
        self._running = {}
        self._in_threads = set()
        self._interrupt = None
        self._context = base.context_of_calls(self.reporter(deliver))
        self._late = []
        self._threads.check_progress = self.check_progress
        self._threads.deadline = self.deadline
        self._threads.start(deliver if self._most == math.inf else self._deliver_from_thread)
        self._thread = threading.get_ident()
        if self._loop is None:
            self._runner = asyncio.Runner(loop_factory=_new_loop)
            self._loop = self._runner.get_loop()
            self._loop.set_exception_handler(_report)
        self._look_out()

    def submit(self, calls: list[base.Call]) -> None:
        """Start coroutines, and hand other calls to the threads."""
        others = []
        limited = self._most != math.inf
        for call in calls:
            if limited or coroutines.is_coroutine(call):
                self._pending.append(call)
            else:
                others.append(call)
        self._start_pending()
        if self._cancelled and self._pending:
            self._deliver(base.WAKE)  # for them to be taken back
        if others:
            self._threads.submit(others)

    def _start_pending(self) -> None:
        if self._starting or self._cancelled or not self._pending or self._is_late():
            return
        pending, running, loop, most = self._pending, self._running, self._loop, self._most
        assert loop is not None, "calls come between start and stop"
        begin = self._begin if loop.get_task_factory() is None else self._begin_as_told
        try:
            self._starting = True
            while pending and len(running) + len(self._in_threads) < most:
                call = pending.popleft()
                if coroutines.is_coroutine(call):
                    begin(loop, call)
                else:
                    self._in_threads.add(call)
                    self._threads.submit([call])
        finally:
            self._starting = False

    def _is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _begin(self, loop: asyncio.AbstractEventLoop, call: base.Call) -> None:
        one = coroutines.Coroutine(self._run(call, self._deliver), loop=loop, context=self._context.copy())
        one.call, one.ended = call, self._has_ended
        self._running[one] = call

    def _begin_as_told(self, loop: asyncio.AbstractEventLoop, call: base.Call) -> None:
        """Have the loop's task factory make the task: it may run at once, as with `eager_task_factory`."""
        one = self._context.copy().run(loop.create_task, self._run(call, self._deliver))
        if not one.done() or not hasattr(call, "outcome"):
            self._running[one] = call
            one.add_done_callback(self._has_ended)

    async def _run(self, call: base.Call, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        try:
            if self._is_late():
                call.outcome = _LATE
            else:
                coroutines.CALL.set(call)
                outcome = call.outcome = await coroutines.perform(call.atom, call.verb, call.kwargs)
                if type(outcome) is Failure:
                    call.outcome = coroutines.unless_cut_off(call, outcome)
        except asyncio.CancelledError as error:
            call.outcome = base.Interrupt(error)
            if not coroutines.is_cut_off():
                cancelled = f"The coroutine of atom '{call.atom.name}' was cancelled, and not by the run"
                call.outcome = Failure.from_exception(exceptions.ExecutionFailure(cancelled, error))
        except BaseException as error:
            if hasattr(call, "outcome"):
                self._note(error)
            else:
                call.outcome = base.Interrupt(error)
        self._surely(self._settle, coroutines.current_task(), call, deliver)

    def _settle(
        self, again: bool, one: asyncio.Task[None] | None, call: base.Call, deliver: Callable[[tuple[Any, Any]], None]
    ) -> None:
        """Deliver what came of a coroutine, to the run that it is of: another one may have begun, if this was left.

        :param again: whether that may have been done
        """
        if call.outcome is _LATE:
            deliver(base.WAKE)
            if call not in self._late:
                self._late.append(call)
        elif not (again and self._mailbox.has(call)):
            deliver((call, call.outcome))
        else:
            deliver(base.WAKE)
        self._running.pop(one, None)  # type: ignore[arg-type]
        if self._pending:
            self._start_pending()
        if self._ending and not self._running:
            self._stop_turning()

    def _settle_ended(self, _again: bool, one: asyncio.Task[None]) -> None:
        """Deliver a coroutine that has ended and has not done that itself, as one cancelled before its first turn."""
        call = self._running.get(one)
        if call is None:
            return
        again = hasattr(call, "outcome")
        if not again:
            interrupt: BaseException = asyncio.CancelledError()
            try:
                one.result()
            except BaseException as error:
                interrupt = error
            call.outcome = base.Interrupt(interrupt)
        self._settle(again, one, call, self._deliver)

    def _deliver_from_thread(self, item: tuple[Any, Any]) -> None:
        """Deliver, and make room for another call first: who takes what is delivered waits again, and starts that."""
        self._in_threads.discard(item[0])
        self._deliver(item)

    # -- interrupts --------------------------------------------------------------------------------

    def _surely(self, step: Callable[..., None], *of: Any) -> None:
        """Take a step that may be taken again until it has come to its end, and note what comes in between."""
        again = False
        for _ in range(_TIMES):
            try:
                step(again, *of)
            except BaseException as error:
                self._note(error)
                again = True
            else:
                return

    def _note(self, error: BaseException) -> None:
        if self._interrupt is None:
            self._interrupt = error

    def _raise_interrupt(self) -> None:
        """Raise what has interrupted a callback."""
        if self._interrupt is not None:
            try:
                raise self._interrupt
            finally:
                self._interrupt = None

    def _look_out(self, _again: bool = False) -> None:
        """Deliver, now and then, what a coroutine that an interrupt has ended before its first line cannot deliver."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        if self._lookout is not None:
            self._lookout.cancel()
        self._lookout = loop.call_later(_SECONDS_LOST, self._surely, self._look_out)
        for one in [one for one in self._running if one.done()]:
            self._settle_ended(True, one)
        wake = self._mailbox.wake
        if wake is not None and self._mailbox:
            wake()

    def recall(self) -> list[base.Call]:
        """Give back the calls that have not begun."""
        queued = self._threads.recall()
        if self._most != math.inf:
            self._in_threads.difference_update(queued)
        left = [*self._pending, *queued, *self._late]
        self._pending.clear()
        self._late.clear()
        return left

    def cancel(self) -> None:
        """Cut off the coroutines that run; each is still delivered."""
        self._cancelled = True
        for one in list(self._running):
            with contextlib.suppress(RuntimeError):  # their loop is closed
                one.cancel()

    def stop(self) -> None:
        """Wait until all calls have been delivered, and let go of threads and loop.

        When the wait is interrupted, coroutines are cut off.
        """
        if self._runner is not None and self._loop is None:  # an interrupt has come before that was noted
            self._loop = self._runner.get_loop()
        runner, loop = self._runner, self._loop
        if runner is None or loop is None:
            if self._running:
                self.cancel()  # the loop is not ours to turn; who has left in a hurry finds them cut off
            self._threads.stop()
        else:
            try:
                self._ending = True
                while self._running and not loop.is_closed():
                    self._turn_until_stopped(loop)  # a task may have stopped it, so more than once
                self._threads.stop()
            finally:
                self._close(runner, loop)
        if self._lookout is not None:
            self._lookout.cancel()
            self._lookout = None
        if self._loop is not None and self._loop.is_closed():
            self._runner = self._loop = None
        self._raise_interrupt()

    def _close(self, runner: asyncio.Runner, loop: asyncio.AbstractEventLoop) -> None:
        """Close the loop of the run; may be called again after an interrupt."""
        self._cancelled = True
        self._turning = False  # an interrupt may have come before that was said
        try:
            if not loop.is_closed():
                loop.call_soon(loop.stop)
                loop.run_forever()  # a stop that is left from before would keep the runner from closing it
            runner.close()
        finally:
            # Nothing turns these any more: an interrupt has come while they were cut off.
            for one, call in list(self._running.items()):
                if not hasattr(call, "outcome"):
                    call.outcome = base.Interrupt(asyncio.CancelledError("The loop has ended"))
                self._settle(True, one, call, self._deliver)

    def _turn(self, timeout: float | None) -> bool:
        """Turn the loop of the run while the scheduler waits."""
        runner, loop = self._runner, self._loop
        if runner is None or loop is None:
            return False  # the loop of the caller: it has been awaited
        self._start_pending()
        timer = None
        if timeout is not None:
            timer = loop.call_later(min(timeout, _LONGEST), self._surely, self._stop_turning)
        self._mailbox.wake = self._wake
        try:
            self._turn_until_stopped(loop, unless=self._mailbox)
        finally:
            self._mailbox.wake = None
            if timer is not None:
                timer.cancel()
        self._raise_interrupt()
        return True

    def _turn_until_stopped(self, loop: asyncio.AbstractEventLoop, *, unless: Any = None) -> None:
        """Turn the loop.

        :param unless: what is looked at when a stop counts already: nothing is to be done if it is true
        """
        self._turning = True
        try:
            if not unless:
                loop.run_forever()
        finally:
            self._turning = False

    def _wake(self) -> None:
        loop = self._loop
        assert loop is not None, "who waits has a loop"
        if threading.get_ident() == self._thread:
            self._stop_turning()
        else:
            with contextlib.suppress(RuntimeError):  # it is closed: nobody waits
                loop.call_soon_threadsafe(self._surely, self._stop_turning)

    def _stop_turning(self, _again: bool = False) -> None:
        """Stop the loop, if it is still turned for whoever asked for that."""
        if self._turning and self._loop is not None:
            self._loop.stop()

    # -- in the loop of the caller -----------------------------------------------------------------

    def check_free(self) -> None:
        """Refuse a second run at the same time."""
        if self._loop is not None:
            raise RuntimeError("This executor is in use by another run")

    def use(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Have a run take place in a loop which runs already; None when it has ended."""
        self._loop = loop

    @property
    def within_a_loop(self) -> bool:
        """Whether the loop is the caller's, so that the scheduler must not wait."""
        return self._runner is None and self._loop is not None

    async def filled(self, seconds: float | None) -> None:
        """Wait until there is something for the scheduler, or for so many seconds."""
        self._start_pending()
        if self._mailbox or seconds == 0:
            await asyncio.sleep(0)  # others have their turn
            return
        loop = asyncio.get_running_loop()
        arrived = loop.create_future()
        asked: list[bool] = []

        def arrive(_again: bool) -> None:
            if not arrived.done():
                arrived.set_result(None)

        def wake() -> None:
            if threading.get_ident() == self._thread:
                arrive(False)
            elif not asked:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._surely, arrive)
                asked.append(True)  # last, as it may be interrupted

        timer = None if seconds is None else loop.call_later(min(seconds, _LONGEST), self._surely, arrive)
        self._mailbox.wake = wake
        try:
            if not self._mailbox:
                await arrived
        finally:
            self._mailbox.wake = None
            if timer is not None:
                timer.cancel()
        self._raise_interrupt()


def _new_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop, of which asyncio does not log that it makes it: what raised there would leave half a loop."""
    log, here = logging.getLogger("asyncio"), threading.get_ident()
    if not log.isEnabledFor(logging.DEBUG):
        return asyncio.new_event_loop()

    def silence(_: logging.LogRecord) -> bool:
        return threading.get_ident() != here

    try:
        log.filters.insert(0, silence)  # before those that may raise
        return asyncio.new_event_loop()
    finally:
        log.removeFilter(silence)


def _report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Have asyncio log what a callback has raised; what is raised by that would come out of the loop."""
    with contextlib.suppress(Exception):
        loop.default_exception_handler(context)
