"""A run that is awaited: steps of the engine, taken in an event loop or in a thread beside it.

What must stay true: the steps are taken to their end. Who cancels the coroutine, or closes it early, suspends the run;
it ends when nothing of the run is under way any more.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
from typing import TYPE_CHECKING, Any

from taskflowx import states

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from taskflowx.engines.engine import ActionEngine
    from taskflowx.engines.life import Work

_END = object()


async def in_a_loop(
    engine: ActionEngine, work: Work, steps: Generator[str, Any, None], executor: Any
) -> AsyncGenerator[str, Any]:
    """Take the steps here; before one that would wait for a call, await that there is one.

    :param work: the run, which is stopped when the coroutine is left
    :param executor: the engine's, which runs calls in this loop
    """
    left_by: BaseException | None = None
    with executor.within(asyncio.get_running_loop()), contextlib.closing(steps):
        sent = None
        while (state := _advance(steps, sent, left_by)) is not _END:
            sent = None
            try:
                if left_by is None:
                    sent = yield state
                if state == states.WAITING:
                    await executor.filled(engine.seconds_to_wait())
            except BaseException as error:  # a cancellation, or an interrupt that has come while we are here
                left_by = left_by or error
                work.stop()  # which also fills the mailbox, so that the next step does not wait
                executor.cancel()
    if left_by is not None:
        raise left_by


async def in_a_thread(work: Work, steps: Generator[str, Any, None]) -> AsyncGenerator[str, Any]:
    """Take the steps in a thread of their own.

    :param work: the run, which is stopped when the coroutine is left
    """
    left_by: BaseException | None = None
    pool = concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="taskflowx-engine")
    try:
        sent = None
        while True:
            future = asyncio.get_running_loop().run_in_executor(pool, _advance, steps, sent)
            while not future.done():
                try:
                    await asyncio.wait([future])
                except BaseException as error:  # a cancellation, or an interrupt that has come while we are here
                    left_by = left_by or error
                    work.stop()  # and not what the engine may be at: this run may have been refused
            state = _outcome(future, left_by)
            if state is _END:
                break
            sent = None
            if left_by is None:
                try:
                    sent = yield state
                except BaseException as error:
                    left_by = error
                    work.stop()
    except BaseException:
        work.stop()  # nothing goes on when an interrupt has come just beside all that
        pool.submit(steps.close)
        raise
    finally:
        try:
            pool.shutdown()
        finally:
            pool.shutdown()  # an interrupt may have come while that waited
    if left_by is not None:
        raise left_by


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


def _outcome(future: asyncio.Future[Any], left_by: BaseException | None) -> Any:
    """Return what came of a step that a thread has taken."""
    try:
        return future.result()
    except BaseException as error:
        if left_by is None:
            raise
        raise left_by from error
