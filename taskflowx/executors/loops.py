"""Event loops of runs: how one is made, and what is done with an exception in one of its callbacks."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
from typing import Any

#: the most attempts at a step: an exception in each of them is no interrupt, but our own error
TIMES = 12

#: seconds between two searches for coroutines that an interrupt has ended before their first line
SECONDS_LOST = 0.5

#: the longest timer in seconds: loops differ in their maximum, and a waiter that wakes early waits again
LONGEST = 3600.0


def new_loop() -> asyncio.AbstractEventLoop:
    """Return a new loop; asyncio's log record of that is suppressed, as an exception in it would leave half a loop."""
    log, here = logging.getLogger("asyncio"), threading.get_ident()
    if not log.isEnabledFor(logging.DEBUG):
        return asyncio.new_event_loop()

    def silence(_: logging.LogRecord) -> bool:
        return threading.get_ident() != here

    try:
        log.filters.insert(0, silence)  # before filters that may raise
        return asyncio.new_event_loop()
    finally:
        log.removeFilter(silence)


def rouse(loop: asyncio.AbstractEventLoop | None) -> None:
    """Have a loop that sleeps look at what has come: a signal handler in its thread does not wake it by itself."""
    if loop is not None:
        with contextlib.suppress(RuntimeError):  # it is closed
            loop.call_soon_threadsafe(_nothing)


def _nothing() -> None:
    pass


def report(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Have asyncio log an exception in a callback; an exception in that handler would end the loop."""
    with contextlib.suppress(Exception):
        loop.default_exception_handler(context)
