"""Waits between looks at a record, by the clock of an engine; in a thread, or awaited."""

from __future__ import annotations

import asyncio
import math
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskflowx._util.clock import Clock

_FIRST = 0.02
#: the seconds between two looks, at most
LONGEST = 1.0


class Pauses:
    """Waits between looks, which become longer up to a second.

    :param clock: the time
    :param wait: the seconds after which there is no further look; None for no end
    :param first: the seconds of the first wait
    """

    def __init__(self, clock: Clock, wait: float | None, first: float = _FIRST) -> None:
        self._clock = clock
        self._ends = math.inf if wait is None else clock.monotonic() + wait
        self._next = first

    def is_over(self) -> bool:
        """Tell whether the time to wait is up."""
        return self._clock.monotonic() >= self._ends

    def wait(self, changes: Any = None) -> None:
        """Wait.

        :param changes: has a method `wait(seconds)`, which may return early
        """
        seconds = self._seconds()
        if seconds:
            (changes or threading.Event()).wait(seconds)

    async def wait_async(self) -> None:
        """As `wait`, awaited."""
        await asyncio.sleep(self._seconds())

    def _seconds(self) -> float:
        """Return for how long to wait; where a test holds the clock, time has passed then."""
        due = min(self._clock.monotonic() + self._next, self._ends)
        self._next = min(2 * self._next, LONGEST)
        return self._clock.wait_for(due, idle=True) or 0.0
