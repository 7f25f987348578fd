"""The time of an engine: that of the machine, or one that a test holds."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

#: so many seconds are waited at once at most: queues, selectors and locks differ in how many they bear
LONGEST_WAIT = 3600.0


class Clock:
    """The time of the machine."""

    #: whether time passes by itself, and is that of other threads, processes and stores
    is_real = True

    #: returns seconds that never go back; what asks for it costs no call of a Python function
    monotonic: Callable[[], float] = staticmethod(time.monotonic)
    #: returns the time of day, in seconds since 1970, at the same price
    time: Callable[[], float] = staticmethod(time.time)

    def wait_for(self, due: float, *, idle: bool) -> float | None:
        """Return for how many seconds to wait at most until a moment has come; None for as long as it takes.

        :param due: a time of `monotonic`; infinity for never
        :param idle: whether nothing is under way, so that nothing can happen before that moment
        """
        return None if due == math.inf else max(min(due - self.monotonic(), LONGEST_WAIT), 0.0)

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Have a function called whenever time is moved; nobody moves this one."""

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """End what `subscribe` has begun; does nothing when it had not."""


SYSTEM = Clock()
