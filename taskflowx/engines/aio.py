"""A run that is awaited: steps of the engine, taken in an event loop or in a thread beside it.

What must stay true: the steps are taken to their end. Who cancels the coroutine, or closes it early, suspends the run;
it ends when nothing of the run is under way any more.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
from typing import TYPE_CHECKING, Any

from taskflowx import states

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator

    from taskflowx.engines.engine import ActionEngine

_END = object()


async def in_a_loop(engine: ActionEngine, steps: Generator[str, Any, None], executor: Any) -> AsyncGenerator[str, Any]:
    """Take the steps here; before one that would wait for a call, await that there is one.

    :param executor: the engine's, which runs calls in this loop
    """
    left_by: BaseException | None = None
    with executor.within(asyncio.get_running_loop()):
        sent = None
        while (state := _advance(steps, sent)) is not _END:
            sent = None
            try:
                if left_by is None:
                    sent = yield state
                if state == states.WAITING:
                    await executor.filled(engine.seconds_to_wait())
            except (GeneratorExit, asyncio.CancelledError) as error:
                left_by = left_by or error
                engine.suspend()  # which also fills the mailbox, so that the next step does not wait
                executor.cancel()
    if left_by is not None:
        raise left_by


async def in_a_thread(engine: ActionEngine, steps: Generator[str, Any, None]) -> AsyncGenerator[str, Any]:
    """Take the steps in a thread of their own."""
    left_by: BaseException | None = None
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="taskflowx-engine") as pool:
        sent = None
        while True:
            future = asyncio.get_running_loop().run_in_executor(pool, _advance, steps, sent)
            while not future.done():
                try:
                    await asyncio.wait([future])
                except asyncio.CancelledError as error:
                    left_by = left_by or error
                    engine.suspend()
            state = future.result()
            if state is _END:
                break
            sent = None
            if left_by is None:
                try:
                    sent = yield state
                except GeneratorExit as error:
                    left_by = error
                    engine.suspend()
    if left_by is not None:
        raise left_by


def _advance(steps: Generator[str, Any, None], sent: Any) -> Any:
    try:
        return steps.send(sent)
    except StopIteration:
        return _END
