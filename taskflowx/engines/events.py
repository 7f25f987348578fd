"""The events of a run as an asynchronous iterator: `async for event in engine.events()`."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx.types.notifier import Notifier

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping

    from taskflowx.engines.engine import ActionEngine


class Event(NamedTuple):
    """A transition of a flow, a task or a retry.

    :param kind: 'flow', 'task' or 'retry'
    :param name: its name
    :param state: the state that it has now
    :param old_state: the state that it had before
    :param result: the result or the Failure that came with it, where one has
    """

    kind: str
    name: str
    state: str
    old_state: str | None
    result: Any = None


async def events(engine: ActionEngine, timeout: float | None) -> AsyncGenerator[Event, None]:  # noqa: ASYNC109 - as `arun`
    """Run the flow of an engine, and yield what happens; see `ActionEngine.events`."""
    loop = asyncio.get_running_loop()
    happened: deque[Event] = deque()
    news = asyncio.Event()

    def note(state: str, details: Mapping[str, Any]) -> None:
        kind = next(one for one in ("task", "retry", "flow") if f"{one}_name" in details)
        happened.append(Event(kind, details[f"{kind}_name"], state, details["old_state"], details.get("result")))
        loop.call_soon_threadsafe(news.set)  # executors other than 'asyncio' run in a thread

    notifiers = (engine.notifier, engine.atom_notifier)
    run = None
    try:
        for notifier in notifiers:
            notifier.register(Notifier.ANY, note)
        run = asyncio.ensure_future(engine.arun(timeout=timeout))
        run.add_done_callback(lambda _: news.set())
        while not run.done() or happened:
            await news.wait()
            news.clear()
            while happened:
                yield happened.popleft()
            if run.done():
                news.set()
        run.result()
    finally:
        if run is not None and not run.done():
            run.cancel()  # the flow is left SUSPENDED
            await asyncio.wait((run,))
            if not run.cancelled():
                run.exception()  # what ended the iteration is raised, and not this
        for notifier in notifiers:
            notifier.deregister(Notifier.ANY, note)
