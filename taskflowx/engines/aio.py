"""A run that is awaited: steps of the engine, taken in an event loop or in a thread beside it.

What must stay true: the steps are taken to their end. Who cancels the coroutine, or closes it early, suspends the run;
it ends when nothing of the run is under way any more, and raises what it was left by first. Only a loop that is closed
with the coroutine in it leaves nothing to be awaited: the run then ends at once, as it is.

`arun` does without asynchronous generators: one that is left at an `await` for good gets no notice.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import contextvars
import functools
import threading
from collections.abc import AsyncGenerator, Callable, Generator
from typing import TYPE_CHECKING, Any

from taskflowx import states
from taskflowx.executors import callbacks

if TYPE_CHECKING:
    from taskflowx.engines.life import Work
    from taskflowx.engines.scheduler import Scheduler

_END = object()


class Awaited:
    """The steps of a run that is awaited.

    :param work: the run, which is stopped when the coroutine is left
    :param steps: what it does
    """

    def __init__(self, work: Work, steps: Generator[str, Any, None]) -> None:
        self._work = work
        self._steps = steps
        #: what the coroutine was left by
        self.left_by: BaseException | None = None

    async def advance(self, sent: Any) -> Any:
        """Take a step, and return what is done next; _END behind the last one."""
        raise NotImplementedError

    def leave(self, error: BaseException) -> None:
        """Stop the run: a cancellation, or an interrupt, has come to who awaits it."""
        self.left_by = self.left_by or error
        self._work.stop()  # and not what the engine may be at: this run may have been refused

    def begin(self) -> None:
        """Get ready to take steps."""

    def end(self) -> None:
        """Have nothing of the run stay behind; may be called again."""
        self._steps.close()

    async def settle(self) -> None:
        """Wait for what the steps have left behind, when they have come to their end."""

    async def to_the_end(self) -> str:
        """Take all steps; returns the state of the flow."""
        final = ""
        try:
            try:
                self.begin()
                try:
                    while (state := await self.advance(None)) is not _END:
                        final = state
                finally:
                    await self.settle()
            finally:
                self.end()
        finally:
            self.end()  # an interrupt may have come before that above
        if self.left_by is not None:
            raise self.left_by
        return final

    async def one_by_one(self) -> AsyncGenerator[str, Any]:
        """Take step by step, as its iterator is asked."""
        try:
            try:
                self.begin()
                sent = None
                try:
                    while (state := await self.advance(sent)) is not _END:
                        sent = None
                        if self.left_by is None:
                            try:
                                sent = yield state
                            except BaseException as error:
                                self.leave(error)
                finally:
                    await self.settle()
            finally:
                self.end()
        finally:
            self.end()  # as that one says
        if self.left_by is not None:
            raise self.left_by


class InALoop(Awaited):
    """Takes the steps in the loop that runs; before one that would wait for a call, awaits that there is one.

    :param seconds_to_wait: tells after how many seconds without a completion the run has something to do
    :param executor: the engine's, which runs calls in this loop
    """

    def __init__(
        self, seconds_to_wait: Callable[[], float | None], work: Work, steps: Generator[str, Any, None], executor: Any
    ) -> None:
        super().__init__(work, steps)
        self._seconds_to_wait = seconds_to_wait
        self._executor = executor
        self._waits = self._begun = False
        #: whether nothing can be awaited any more, as the coroutine is closed
        self._closed = False

    def begin(self) -> None:
        """Have the executor use the loop of the caller."""
        self._executor.check_free()
        self._begun = True
        self._executor.use(asyncio.get_running_loop())

    def end(self) -> None:
        """Let go of the loop, with what runs in it."""
        try:
            super().end()
        finally:
            if self._begun:
                self._executor.use(None)
                if self._closed and self._executor.subscribed is not None:
                    self._executor.subscribed.drop()

    async def advance(self, sent: Any) -> Any:
        """Take a step."""
        if self._waits:
            self._waits = False
            try:
                await self._executor.filled(self._seconds_to_wait())
            except BaseException as error:
                self.leave(error)
                if isinstance(error, GeneratorExit):
                    self._closed = True
                    raise
        state = _advance(self._steps, sent, self.left_by)
        self._waits = state == states.WAITING
        return state

    async def settle(self) -> None:
        """Wait for the callbacks of subscribers; not for long when the run was left, or is left now."""
        subscribed = self._executor.subscribed
        if subscribed is None or self._closed:
            return
        try:
            await subscribed.ended(None if self.left_by is None else callbacks.SECONDS)
        except BaseException as error:
            self.left_by = self.left_by or error
            subscribed.drop()
            if isinstance(error, GeneratorExit):
                raise
            await subscribed.ended(callbacks.SECONDS)

    def leave(self, error: BaseException) -> None:
        """Stop the run, which also fills the mailbox, so that the next step does not wait."""
        super().leave(error)
        self._executor.cancel()


class InAThread(Awaited):
    """Takes the steps in a thread beside the loop, in the context of the caller; waits for a moment without one."""

    def __init__(self, work: Work, steps: Generator[str, Any, None]) -> None:
        super().__init__(work, steps)
        self._context = contextvars.copy_context()
        #: the thread; None until there is a step to take
        self._pool: concurrent.futures.ThreadPoolExecutor | None = None
        self._ended = self._waits = False

    def end(self) -> None:
        """Let the thread end, with the run."""
        pool = self._pool
        if not self._ended:  # nothing goes on when an interrupt has come beside all that
            self._work.stop()
            pool = self._thread()
            pool.submit(self._context.run, self._steps.close)
            self._ended = True
        if pool is not None:
            try:
                pool.shutdown()
            finally:
                pool.shutdown()  # an interrupt may have come while that waited

    def _thread(self) -> concurrent.futures.ThreadPoolExecutor:
        if self._pool is None:
            self._pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="taskflowx-engine")
        return self._pool

    def _end_thread(self) -> None:
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown()

    async def advance(self, sent: Any) -> Any:
        """Take a step."""
        if self._waits and (running := self._work.scheduler).rests:
            await self._rest(running)
        take = self._context.run
        future = asyncio.get_running_loop().run_in_executor(self._thread(), take, self._step, sent)
        while not future.done():
            try:
                await asyncio.wait([future])
            except BaseException as error:
                self.leave(error)
                if isinstance(error, GeneratorExit):
                    raise
        try:
            state = future.result()
            self._ended, self._waits = state is _END, state == states.WAITING
            return state
        except BaseException as error:
            if self.left_by is None:
                raise
            raise self.left_by from error

    def _step(self, sent: Any) -> Any:
        self._work.thread = threading.get_ident()  # it may be another one than that of the step before
        return _advance(self._steps, sent)

    async def _rest(self, running: Scheduler) -> None:
        """Wait here for a moment that is not near, and have no thread meanwhile."""
        loop = asyncio.get_running_loop()
        roused = loop.create_future()
        running.shared.rouse = functools.partial(_rouse, loop, roused)
        timer = None
        try:
            if running.rests and (seconds := running.seconds_to_wait()) != 0:  # it has not been stopped just now
                self._end_thread()
                if seconds is not None:
                    timer = loop.call_later(seconds, _settle, roused)
                await roused
        except BaseException as error:
            self.leave(error)
            if isinstance(error, GeneratorExit):
                raise
        finally:
            running.shared.rouse = None
            if timer is not None:
                timer.cancel()


def _rouse(loop: asyncio.AbstractEventLoop, roused: asyncio.Future[None]) -> None:
    with contextlib.suppress(RuntimeError):  # it is closed: nobody waits
        loop.call_soon_threadsafe(_settle, roused)


def _settle(roused: asyncio.Future[None]) -> None:
    if not roused.done():
        roused.set_result(None)


def _advance(steps: Generator[str, Any, None], sent: Any, left_by: BaseException | None = None) -> Any:
    """Take a step; returns _END behind the last one."""
    try:
        return steps.send(sent)
    except StopIteration:
        return _END
    except BaseException as error:
        if left_by is None:
            raise
        raise left_by from error  # what the coroutine was left by came first
