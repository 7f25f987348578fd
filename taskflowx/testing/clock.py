"""A clock that a test holds."""

from __future__ import annotations

import contextlib
import math
import threading
from collections.abc import Callable

from taskflowx._util import arguments, reprs
from taskflowx._util.clock import Clock


class VirtualClock(Clock):
    """The time of one engine, moved by a test and by the engine itself.

    It is given to an engine as `clock=`. When nothing is under way in the run, the clock jumps to the moment for which
    the run waits, so delays cost no time. While calls are under way, time stands still until somebody calls `advance`:
    the test, or the task itself. Leases of durable runs go by it, too: they are renewed in `advance`, and an engine
    whose own clock is further on takes over what another one has not renewed.

    :param start: the time of day at which it begins, in seconds since 1970
    :raises TypeError, ValueError: when that is no finite number
    """

    is_real = False

    def __init__(self, start: float = 1_000_000_000.0) -> None:
        self._start = arguments.to_finite("start", start, "a time of day in seconds since 1970", least=-math.inf)
        self._passed = 0.0
        self._lock = threading.Lock()
        self._wakes: list[Callable[[], None]] = []

    def monotonic(self) -> float:
        """Return how many seconds have passed since the clock was made."""
        return self._passed

    def time(self) -> float:
        """Return the time of day, in seconds since 1970."""
        return self._start + self._passed

    def advance(self, seconds: float) -> None:
        """Let time pass, and have the engine see what has become due; any thread may call it, a task too.

        :param seconds: how much, zero or more
        :raises TypeError, ValueError: when it is no finite number, or below zero
        """
        seconds = arguments.to_finite("seconds", seconds, "a number of seconds, zero or more")
        with self._lock:
            self._passed += seconds
        for wake in tuple(self._wakes):
            wake()

    def wait_for(self, due: float, *, idle: bool) -> float | None:
        """Jump to a moment where nothing can happen before it, and return 0; None where calls are under way.

        :param due: a time of `monotonic`; infinity for never
        :param idle: whether nothing is under way
        """
        with self._lock:
            if self._passed < due < math.inf and idle:
                self._passed = due
            return 0.0 if self._passed >= due else None

    def subscribe(self, wake: Callable[[], None]) -> None:
        """Have a function called whenever time is moved."""
        self._wakes.append(wake)

    def unsubscribe(self, wake: Callable[[], None]) -> None:
        """End what `subscribe` has begun; does nothing when it had not."""
        with contextlib.suppress(ValueError):
            self._wakes.remove(wake)

    @reprs.one_line
    def __repr__(self) -> str:
        return f"VirtualClock: {self._passed:g} s have passed"
