"""A latch that opens when it has been counted down."""

from __future__ import annotations

import threading


class Latch:
    """Lets threads wait until something has happened a number of times.

    :param count: how often `countdown` must be called
    :raises ValueError: when the count is less than 1
    """

    def __init__(self, count: int) -> None:
        self._count = int(count)
        if self._count < 1:
            msg = "Count must be greater than zero"
            raise ValueError(msg)
        self._changed = threading.Condition()

    @property
    def needed(self) -> int:
        """How many calls of `countdown` are still missing."""
        return self._count

    def countdown(self) -> None:
        """Note that it has happened once more."""
        with self._changed:
            if self._count:
                self._count -= 1
                if not self._count:
                    self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has happened often enough; returns whether it has.

        :param timeout: seconds to wait at most, or None
        :raises ValueError: when the timeout is negative
        """
        if timeout is not None and timeout < 0:
            msg = f"Duration must be greater or equal to zero and not {timeout}"
            raise ValueError(msg)
        with self._changed:
            return self._changed.wait_for(lambda: not self._count, timeout)
