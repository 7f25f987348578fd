"""Coroutines: `async def` tasks run in an event loop, all others in worker threads.

The loop belongs to one of two. `engine.run()` makes one for the run, and turns it whenever the scheduler waits, in the
thread of the engine. `await engine.arun()` runs in a loop that is there already: the scheduler then never waits in
here, as the engine awaits `filled` first.

What must stay true: no coroutine of a run outlives the run. Coroutines touch the mailbox and nothing else of the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import math
import threading
from collections import deque
from typing import TYPE_CHECKING, Any

from taskflowx import atom as atom_module, exceptions, states, task
from taskflowx.executors import base, threads
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class AsyncioExecutor(base.Executor):
    """Runs `async def` calls in an event loop, and others in threads.

    :param max_workers: how many coroutines may run at once, and how many threads; without it coroutines have no limit
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
        #: calls for which there is no room yet
        self._pending: deque[base.Call] = deque()
        #: the coroutines that run
        self._running: set[asyncio.Task[None]] = set()
        self._starting = False
        self._cancelled = False

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
        self._cancelled = False
        self._threads.check_progress = self.check_progress
        self._threads.start(deliver)
        self._thread = threading.get_ident()
        if self._loop is None:
            self._runner = asyncio.Runner(loop_factory=asyncio.new_event_loop)
            self._loop = self._runner.get_loop()

    def submit(self, calls: list[base.Call]) -> None:
        """Start coroutines, and hand other calls to the threads."""
        others = []
        for call in calls:
            if call.atom._tfx_signature.asynchronous & _BIT[call.verb]:
                self._pending.append(call)
            else:
                others.append(call)
        self._start_pending()
        if others:
            self._threads.submit(others)

    def _start_pending(self) -> None:
        pending, running, loop = self._pending, self._running, self._loop
        assert loop is not None, "calls come between start and stop"
        self._starting = True
        while pending and len(running) < self._most:
            one = loop.create_task(self._run(pending.popleft()))
            if not one.done():  # as it is with the loop's `eager_task_factory`, when it had nothing to wait for
                running.add(one)
        self._starting = False

    async def _run(self, call: base.Call) -> None:
        task.PROGRESS.set(self._report)  # in the context of this coroutine alone
        outcome: Any
        try:
            outcome = await _perform(call.atom, call.verb, call.kwargs)
        except asyncio.CancelledError as error:
            outcome = base.Interrupt(error)
            if not self._cancelled:  # so it was not cut off by us
                cancelled = f"The coroutine of atom '{call.atom.name}' was cancelled, and not by the run"
                outcome = Failure.from_exception(exceptions.ExecutionFailure(cancelled, error))
        except BaseException as error:
            outcome = base.Interrupt(error)
        self._deliver((call, outcome))
        self._running.discard(asyncio.current_task())
        if self._pending and not self._starting and not self._cancelled:
            self._start_pending()

    def _report(self, reporting: Any, details: dict[str, Any]) -> None:
        if self.check_progress is not None:
            self.check_progress(reporting, details)
        self._deliver((reporting, details))

    def recall(self) -> list[base.Call]:
        """Give back the calls that have not begun."""
        left = [*self._pending, *self._threads.recall()]
        self._pending.clear()
        return left

    def cancel(self) -> None:
        """Cut off the coroutines that run; each is still delivered."""
        self._cancelled = True
        assert self._loop is not None, "there is something to cancel"
        # Not at once: one that has not begun would end without a word.
        self._loop.call_soon(lambda: [one.cancel() for one in list(self._running)])

    def stop(self) -> None:
        """Wait until all calls have been delivered, and let go of threads and loop.

        When the wait is interrupted, coroutines are cut off.
        """
        runner, loop = self._runner, self._loop
        if runner is None or loop is None:
            if self._running:
                self.cancel()  # the loop is not ours to turn; who has left in a hurry finds them cut off
            self._threads.stop()
            return
        try:
            while self._running:
                loop.run_until_complete(asyncio.wait(list(self._running)))
            self._threads.stop()
        finally:
            self._cancelled = True
            runner.close()
            self._runner = self._loop = None

    def _turn(self, timeout: float | None) -> bool:
        """Turn the loop of the run while the scheduler waits."""
        runner, loop = self._runner, self._loop
        if runner is None or loop is None:
            return False  # the loop of the caller: it has been awaited
        timer = None if timeout is None else loop.call_later(timeout, loop.stop)
        self._mailbox.wake = self._stop_turning
        try:
            if not self._mailbox:
                loop.run_forever()
        finally:
            self._mailbox.wake = None
            if timer is not None:
                timer.cancel()
        return True

    def _stop_turning(self) -> None:
        loop = self._loop
        assert loop is not None, "who waits has a loop"
        if threading.get_ident() == self._thread:
            loop.stop()
        else:
            with contextlib.suppress(RuntimeError):  # it is closed: nobody waits
                loop.call_soon_threadsafe(loop.stop)

    # -- in the loop of the caller -----------------------------------------------------------------

    @contextlib.contextmanager
    def within(self, loop: asyncio.AbstractEventLoop) -> Iterator[None]:
        """Have a run that takes place in a loop which runs already."""
        if self._loop is not None:
            raise RuntimeError("This executor is in use by another run")
        try:
            try:
                self._loop = loop
                yield
            finally:
                self._loop = None
        finally:
            self._loop = None  # an interrupt may have come before that above

    @property
    def within_a_loop(self) -> bool:
        """Whether the loop is the caller's, so that the scheduler must not wait."""
        return self._runner is None and self._loop is not None

    async def filled(self, seconds: float | None) -> None:
        """Wait until there is something for the scheduler, or for so many seconds."""
        if self._mailbox or seconds == 0:
            await asyncio.sleep(0)  # others have their turn
            return
        loop = asyncio.get_running_loop()
        arrived = asyncio.Event()

        def wake() -> None:
            self._mailbox.wake = None
            if threading.get_ident() == self._thread:
                arrived.set()
            else:
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(arrived.set)

        timer = None if seconds is None else loop.call_later(seconds, arrived.set)
        self._mailbox.wake = wake
        try:
            if not self._mailbox:
                await arrived.wait()
        finally:
            self._mailbox.wake = None
            if timer is not None:
                timer.cancel()


_BIT = {states.EXECUTE: atom_module.EXECUTES_ASYNC, states.REVERT: atom_module.REVERTS_ASYNC}

_METHODS = {
    states.EXECUTE: ("pre_execute", "execute", "post_execute"),
    states.REVERT: ("pre_revert", "revert", "post_revert"),
}


async def _perform(atom: Any, verb: str, kwargs: dict[str, Any]) -> Any:
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
