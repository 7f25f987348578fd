"""Callbacks of subscribers that are `async def`: awaited in the loop of a run, one after another, as the events came.

Events are published in the middle of a step, where nothing can be awaited. What such a callback returns there is a
coroutine that has not begun. `Callbacks` keeps it, and has an asyncio task in the loop of the run await what it keeps.

What must stay true: a coroutine is begun once, and after the end of the one before; all have ended when the run is
over, or were dropped, which is logged; no step of the run waits for one. What is published between two runs is awaited
in the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections import deque
from collections.abc import Callable
from typing import Any

from taskflowx._util import logs

LOG = logs.calm(__name__)

#: seconds for which a run that is cancelled waits for callbacks
SECONDS = 5.0


class Callbacks:
    """The coroutines of the subscribers to one engine, or several that share an executor.

    :param interrupted: called with an exception that is no `Exception`, which is to end the run
    :param raise_interrupt: raises it, if nobody has done so
    """

    def __init__(self, interrupted: Callable[[BaseException], None], raise_interrupt: Callable[[], None]) -> None:
        self._interrupted, self._raise_interrupt = interrupted, raise_interrupt
        self._waiting: deque[tuple[Any, Callable[[], None]]] = deque()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pump: asyncio.Task[None] | None = None
        self._context = contextvars.copy_context()

    def bind(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Await coroutines in this loop from now on; in none when it is None."""
        self._loop = loop
        if loop is not None:
            self._context = contextvars.copy_context()
            self._wake()

    def take(self, coroutine: Any, log_error: Callable[[], None]) -> None:
        """Take a coroutine, from any thread.

        :param log_error: called while the exception that it has raised is handled
        """
        self._waiting.append((coroutine, log_error))
        self._wake()

    def _wake(self) -> None:
        loop = self._loop
        if loop is not None:
            with contextlib.suppress(RuntimeError):  # it is closed
                loop.call_soon_threadsafe(self._begin)

    def _begin(self) -> None:
        loop = self._loop
        if loop is not None and self._waiting and (self._pump is None or self._pump.done()):
            self._pump = self._context.copy().run(loop.create_task, self._work(), name="taskflowx callbacks")
            self._pump.add_done_callback(_retrieve)

    async def _work(self) -> None:
        waiting, this = self._waiting, asyncio.current_task()
        while waiting:
            coroutine, log_error = waiting.popleft()
            try:
                await coroutine
            except asyncio.CancelledError:
                if this is None or this.cancelling():
                    raise
                log_error()
            except Exception:
                log_error()
            except (KeyboardInterrupt, SystemExit):  # they leave the loop by themselves
                raise
            except BaseException as error:
                self._interrupted(error)

    async def ended(self, seconds: float | None = None) -> None:
        """Wait until all coroutines have ended.

        :param seconds: after so long the rest is dropped; None for never
        :raises BaseException: what one of them has raised and is no `Exception`
        """
        while True:
            self._begin()
            pump = self._pump
            if pump is None or pump.done():
                break
            _, late = await asyncio.wait([pump], timeout=seconds)
            if late:
                self.drop()
                await asyncio.wait([pump], timeout=seconds)
                break
        self._raise_interrupt()

    def drop(self) -> None:
        """Cancel the coroutine that is awaited, and have those that have not begun never begin."""
        pump, waiting = self._pump, self._waiting
        running = pump is not None and not pump.done()
        if running or waiting:
            LOG.warning(
                "The run has ended before its subscribers: %s, and %s had not begun",
                "one callback is cancelled" if running else "no callback was running",
                len(waiting),
            )
        if pump is not None and running:
            with contextlib.suppress(RuntimeError):  # its loop is closed
                pump.cancel()
        while waiting:
            waiting.popleft()[0].close()

    def drain(self, *, left: bool) -> None:
        """Run the loop, which is the run's own, until all coroutines have ended; an interrupt drops the rest.

        :param left: whether the run was interrupted, so that it does not wait for long
        """
        loop = self._loop
        try:
            if loop is not None and not loop.is_closed():
                loop.run_until_complete(self.ended(SECONDS if left else None))
        except BaseException:
            self.drop()
            raise
        finally:
            self._loop = None


def _retrieve(pump: asyncio.Task[None]) -> None:
    """Take the exception of a task, as asyncio logs one that nobody takes."""
    if not pump.cancelled():
        pump.exception()
