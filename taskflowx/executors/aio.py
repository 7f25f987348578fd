"""The asyncio executor: `async def` tasks run in an event loop, all others in worker threads.

The loop is one of two. `engine.run()` makes a loop for the run, and runs it in the engine's thread whenever the
scheduler waits. `await engine.arun()` uses the caller's loop, which runs already: the scheduler then never waits here,
as the engine awaits `filled` first.

What must stay true:

- No coroutine of a run outlives the run, but for one that was given up. Coroutines touch the mailbox and nothing else
  of the run.
- Each submitted call is delivered once or returned by `recall`, even if something is cancelled, stopped or closed: a
  coroutine is in `_running` until its call has been delivered.
- A coroutine that was cancelled from outside, as by a loop that ends, is interrupted; it has not failed.
- A signal handler may raise anywhere. asyncio logs an exception in a callback and continues, so each of our callbacks
  is a repeatable step that `_surely` repeats; the exception is raised where the run waits.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import functools
import math
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Any

from taskflowx import exceptions
from taskflowx.executors import base, callbacks, coroutines, loops, stopping, threads
from taskflowx.types.failure import Failure

#: the outcome of a call that would have started after the deadline
_LATE = object()


class AsyncioExecutor(base.Executor):
    """Runs `async def` calls in an event loop, and others in threads.

    :param max_workers: the maximum number of concurrent calls, coroutines and threads together; without it the number
        of coroutines has no limit
    """

    kind = "asyncio"
    runs_async = True
    stops = "cancels"

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
        #: calls that would have started after the deadline
        self._late: list[base.Call] = []
        #: the calls of the running coroutines, each with its task
        self._running: dict[base.Call, asyncio.Task[None]] = {}
        #: the calls in the threads, where their number is limited
        self._in_threads: set[base.Call] = set()
        #: the coroutines that were given up, and have not ended
        self._given_up = coroutines.GivenUp()
        #: an exception that a signal handler has raised in a callback
        self._interrupt: BaseException | None = None
        #: called when a coroutine has ended without delivering its call
        self._has_ended = functools.partial(self._surely, self._settle_ended)
        self._lookout: asyncio.TimerHandle | None = None
        self._starting = self._cancelled = False
        #: whether the run's own loop runs, and whether it runs only until no coroutine is left
        self._turning = self._ending = False

    def check_start(self) -> None:
        """Raise an error if the run would have to run a loop inside another one."""
        if self._loop is None and asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "engine.run() with executor='asyncio' turns an event loop, and one runs in this thread already: "
                "use `await engine.arun()` there"
            )

    @property
    def width(self) -> int | None:
        """How many calls begin at once; None when the number of coroutines has no limit."""
        return None if self._most == math.inf else int(self._most)

    def make_queue(self) -> base.Mailbox:
        """Return a mailbox; waiting on it runs the loop."""
        self._mailbox = base.Mailbox(self._turn, lambda: loops.rouse(self._loop))
        return self._mailbox

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Prepare to take calls, in the caller's loop if there is one."""
        self._deliver = deliver
        self._cancelled = self._ending = self._starting = False
        self._running, self._in_threads = {}, set()
        self._interrupt = None
        self._context = base.context_of_calls(self.reporter(deliver), coroutines.TOKEN)
        self._late = []
        self._threads.check_progress = self.check_progress
        self._threads.deadline = self.deadline
        self._threads.start(deliver if self._most == math.inf else self._deliver_from_thread)
        self._thread = threading.get_ident()
        if self._loop is None:
            self._runner = asyncio.Runner(loop_factory=loops.new_loop)
            self._loop = self._runner.get_loop()
            self._loop.set_exception_handler(loops.report)
        if self.subscribed is not None:
            self.subscribed.bind(self._loop)

    def submit(self, calls: list[base.Call]) -> None:
        """Start coroutines, and submit other calls to the threads."""
        if self._lookout is None:
            self._look_out()
        others: list[base.Call] = []
        if self._most != math.inf:
            self._pending += calls
        else:
            for call in calls:
                (self._pending if coroutines.is_coroutine(call) else others).append(call)
        self._start_pending()
        if self._cancelled and self._pending:
            self._deliver(base.WAKE)  # so that the scheduler cancels them
        if others:
            self._threads.submit(others)

    def _start_pending(self) -> None:
        if self._starting or self._cancelled or not self._pending or self._is_late():
            return
        pending, running, loop, deliver = self._pending, self._running, self._loop, self._deliver
        assert loop is not None, "calls come between start and stop"
        limited, as_told = self._most != math.inf, loop.get_task_factory() is not None
        try:
            self._starting = True
            while pending and not (limited and len(running) + len(self._in_threads) >= self._most):
                call = pending.popleft()
                if limited and not coroutines.is_coroutine(call):
                    self._in_threads.add(call)
                    self._threads.submit([call])
                elif as_told:
                    self._begin_as_told(loop, call)
                else:
                    one = coroutines.Coroutine(
                        self._run(call, deliver), loop=loop, name=call.atom.name, context=self._context.copy()
                    )
                    one.call, one.ended = call, self._has_ended
                    running[call] = one
        finally:
            self._starting = False

    def _is_late(self) -> bool:
        return self.deadline is not None and time.monotonic() >= self.deadline

    def _begin_as_told(self, loop: asyncio.AbstractEventLoop, call: base.Call) -> None:
        """Start a coroutine by the loop's task factory, which may run it at once, as `eager_task_factory` does."""
        one = self._context.copy().run(loop.create_task, self._run(call, self._deliver), name=call.atom.name)
        if not one.done() or not hasattr(call, "outcome"):
            self._running[call] = one
            one.add_done_callback(functools.partial(self._has_ended, call))

    async def _run(self, call: base.Call, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        try:
            if self.deadline is not None and self._is_late():
                call.outcome = _LATE
            else:
                coroutines.CALL.set(call)
                outcome = call.outcome = await coroutines.perform(call.atom, call.verb, call.kwargs)
                if type(outcome) is Failure:
                    call.outcome = coroutines.unless_interrupted(call, outcome)
        except asyncio.CancelledError as error:
            call.outcome = coroutines.outcome_of_cancel(call, error)
        except BaseException as error:
            if hasattr(call, "outcome"):
                self._note(error)
            else:
                call.outcome = base.Interrupt(error)
        try:
            self._settle(False, call, deliver)
        except BaseException as error:
            self._note(error)
            self._surely(self._settle, call, deliver, again=True)

    def _settle(self, again: bool, call: base.Call, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Deliver the outcome of a coroutine to its own run: after an abandoned run another one may have started.

        :param again: whether the outcome may have been delivered already
        """
        if hasattr(call, "stop") and call.stop.given_up:
            self._given_up.refuse(call)
            return
        if call.outcome is _LATE:
            deliver(base.WAKE)
            if call not in self._late:
                self._late.append(call)
        else:
            deliver(base.WAKE if again and self._mailbox.has(call) else (call, call.outcome))
        self._running.pop(call, None)
        if self._pending:
            self._start_pending()
        if self._ending and not self._running:
            self._stop_turning()

    def _settle_ended(self, _again: bool, call: base.Call, one: asyncio.Task[None]) -> None:
        """Deliver a coroutine that ended without doing so itself, such as one cancelled before its first step."""
        if call not in self._running:
            return
        if not (again := hasattr(call, "outcome")):
            interrupt: BaseException = asyncio.CancelledError()
            try:
                one.result()
            except BaseException as error:
                interrupt = error
            call.outcome = base.Interrupt(interrupt) if call.stopped_by is None else base.not_begun(call)[1]
        self._settle(again, call, self._deliver)

    def _deliver_from_thread(self, item: tuple[Any, Any]) -> None:
        """Deliver an item, and make room for another call first: the scheduler starts that when it waits again."""
        self._in_threads.discard(item[0])
        self._deliver(item)

    # -- interrupts --------------------------------------------------------------------------------

    def _surely(self, step: Callable[..., None], *of: Any, again: bool = False) -> None:
        """Repeat a repeatable step until it completes, and note exceptions that interrupt it."""
        for _ in range(loops.TIMES):
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

    def _interrupted(self, error: BaseException) -> None:
        """Have the run be left by an exception that a subscriber has raised."""
        self._note(error)
        self._deliver(base.WAKE)

    def _raise_interrupt(self) -> None:
        """Raise the exception that has interrupted a callback."""
        if self._interrupt is not None:
            try:
                raise self._interrupt
            finally:
                self._interrupt = None

    def _look_out(self, _again: bool = False) -> None:
        """Deliver, periodically, the coroutines that an interrupt has ended before their first line."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        self._end_lookout()
        self._lookout = loop.call_later(loops.SECONDS_LOST, self._surely, self._look_out)
        for call, one in list(self._running.items()):
            if one.done():
                self._settle_ended(True, call, one)
        if (wake := self._mailbox.wake) is not None and self._mailbox:
            wake()

    def _end_lookout(self) -> None:
        if self._lookout is not None:
            self._lookout.cancel()
            self._lookout = None

    def recall(self) -> list[base.Call]:
        """Cancel the calls that have not started, and return them."""
        queued = self._threads.recall()
        if self._most != math.inf:
            self._in_threads.difference_update(queued)
        left = [*self._pending, *queued, *self._late]
        self._pending.clear()
        self._late.clear()
        return left

    def interrupt(self, call: base.Call, error: BaseException) -> None:
        """Cancel the coroutine of a call, or interrupt its thread; one that waits is dropped.

        :param error: what it has then failed with, if it does not end otherwise
        """
        one = self._running.get(call)
        waits = self._pending if call in self._pending else self._late if call in self._late else None
        if one is None and waits is None:
            self._threads.interrupt(call, error)
            return
        if not hasattr(call, "stop"):
            call.stop = stopping.Stop(error)
        if waits is not None:
            waits.remove(call)
            self._deliver(base.not_begun(call))
        elif one is not None and not coroutines.is_cancelled(one):  # by itself it may have been, and have gone on
            one.cancel()

    def under_way(self) -> list[base.Call]:
        """Return the calls of the running coroutines, and those that threads are running."""
        return [*self._running, *self._threads.under_way()]

    def abandon(self, call: base.Call) -> bool:
        """Leave a coroutine that does not heed its cancellation, or a call in a thread."""
        one = self._running.get(call) if hasattr(call, "stop") else None
        if one is None or hasattr(call, "outcome"):
            given_up = self._threads.abandon(call)
            if given_up:
                self._in_threads.discard(call)
                self._start_pending()
            return given_up
        self._given_up.add(call, one)
        self._running.pop(call, None)
        self._start_pending()
        return True

    def cancel(self) -> None:
        """Cancel the running coroutines; each is still delivered."""
        self._cancelled = True
        for one in list(self._running.values()):
            with contextlib.suppress(RuntimeError):  # their loop is closed
                one.cancel()

    def rest(self) -> None:
        """End the worker threads, which have nothing to do, and look out for nothing."""
        self._threads.rest()
        self._end_lookout()

    def stop(self) -> None:
        """Wait until all calls have been delivered, and release threads and loop.

        If the wait is interrupted, coroutines are cancelled.
        """
        if self._runner is not None and self._loop is None:  # an interrupt came before the assignment
            self._loop = self._runner.get_loop()
        runner, loop = self._runner, self._loop
        if runner is None or loop is None:
            if self._running:
                self.cancel()  # the loop is the caller's: coroutines of an abandoned run are cancelled
            self._threads.stop()
        else:
            try:
                self._ending = True
                self._work_off(loop)
                self._threads.stop()
            finally:
                if self.subscribed is None:
                    self._close(runner, loop)
        self._end_lookout()
        if self._loop is not None and self._loop.is_closed():
            self._runner = self._loop = None
        self._raise_interrupt()

    def awaits_callbacks(self) -> Callable[[Any, Callable[[], None]], None]:
        """Return what takes the coroutines of subscribers."""
        if self.subscribed is None:
            self.subscribed = callbacks.Callbacks(self._interrupted, self._raise_interrupt)
            if self._loop is not None:
                self.subscribed.bind(self._loop)
        return self.subscribed.take  # type: ignore[no-any-return]

    def end_run(self, *, left: bool) -> None:
        """Return when the callbacks of subscribers have ended, in the run's own loop, and close that."""
        runner, loop = self._runner, self._loop
        if runner is not None and loop is not None:
            try:
                if self.subscribed is not None:
                    self.subscribed.drain(left=left)
            finally:
                self._close(runner, loop)
                self._runner = self._loop = None

    def _work_off(self, loop: asyncio.AbstractEventLoop) -> None:
        # A loop of its own: in CPython 3.12 and 3.13 the end of a turn of `while` does not belong to a `try` around it.
        while self._running and not loop.is_closed():
            self._turn_until_stopped(loop)  # repeated, as a task may have stopped the loop

    def _close(self, runner: asyncio.Runner, loop: asyncio.AbstractEventLoop) -> None:
        """Close the run's own loop; may be called again after an interrupt."""
        self._cancelled = True
        self._turning = False  # an interrupt may have skipped the assignment
        try:
            if not loop.is_closed():
                loop.call_soon(loop.stop)
                loop.run_forever()  # consumes a pending stop, which would keep the runner from closing the loop
                self._given_up.leave_behind(loop)
            runner.close()
        finally:
            # The loop no longer runs these: an interrupt came while they were cancelled.
            for call in list(self._running):
                if not hasattr(call, "outcome"):
                    call.outcome = base.Interrupt(asyncio.CancelledError("The loop has ended"))
                self._settle(True, call, self._deliver)

    def _turn(self, timeout: float | None) -> bool:
        """Run the run's own loop while the scheduler waits."""
        runner, loop = self._runner, self._loop
        if runner is None or loop is None:
            return False  # the caller's loop, which has been awaited
        self._start_pending()
        timer = None
        if timeout is not None:
            timer = loop.call_later(min(timeout, loops.LONGEST), self._surely, self._stop_turning)
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
        """Run the loop until it is stopped.

        :param unless: read when a stop already counts: if it is true, the loop need not run
        """
        self._turning = True
        try:
            if not unless:
                loop.run_forever()
        finally:
            self._turning = False

    def _wake(self) -> None:
        loop = self._loop
        assert loop is not None, "a waiter has a loop"
        if threading.get_ident() == self._thread:
            self._stop_turning()
            self._mailbox.wake = None  # last; the loop stops after this turn, whatever else arrives in it
        else:
            with contextlib.suppress(RuntimeError):  # it is closed: there is no waiter
                loop.call_soon_threadsafe(self._surely, self._stop_turning)

    def _stop_turning(self, _again: bool = False) -> None:
        """Stop the loop, if it still runs for the waiter."""
        if self._turning and self._loop is not None:
            self._loop.stop()

    # -- in the caller's loop -----------------------------------------------------------------------

    def check_free(self) -> None:
        """Raise an error if another run is in progress."""
        if self._loop is not None:
            raise exceptions.InvalidState("This executor is in use by another run, which has not ended yet")

    def use(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Set the running loop in which a run takes place; None at its end."""
        self._loop = loop
        if self.subscribed is not None:
            self.subscribed.bind(loop)

    @property
    def within_a_loop(self) -> bool:
        """Whether the loop is the caller's, so that the scheduler must not wait."""
        return self._runner is None and self._loop is not None

    async def filled(self, seconds: float | None) -> None:
        """Wait until the mailbox has an item, for at most the given number of seconds."""
        self._start_pending()
        if self._mailbox or seconds == 0:
            await asyncio.sleep(0)  # lets other tasks run
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
                self._mailbox.wake = None  # last, and only here: no other thread knows whether it is still this one
            elif not asked:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(self._surely, arrive)
                asked.append(True)  # last, as it may be interrupted

        timer = None if seconds is None else loop.call_later(min(seconds, loops.LONGEST), self._surely, arrive)
        self._mailbox.wake = wake
        try:
            if not self._mailbox:
                await arrived
        finally:
            self._mailbox.wake = None
            if timer is not None:
                timer.cancel()
        self._raise_interrupt()
