"""A latch that opens after a number of countdowns; a type of TaskFlow's, which nothing in this package uses."""

from __future__ import annotations

import threading


class Latch:
    """Lets threads wait for a number of countdowns.

    :param count: the number of calls of `countdown` that open the latch
    :raises ValueError: when the count is less than 1
    """

    def __init__(self, count: int) -> None:
        #: the number of calls of `countdown` that are still missing
        self.needed = int(count)
        if self.needed < 1:
            raise ValueError("Count must be greater than zero")
        self._changed = threading.Condition()

    def countdown(self) -> None:
        """Count down by one."""
        with self._changed:
            if self.needed:
                self.needed -= 1
                if not self.needed:
                    self._changed.notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the latch opens; returns whether it has.

        :param timeout: the maximum wait in seconds, or None
        :raises ValueError: when the timeout is negative
        """
        if timeout is not None and timeout < 0:
            raise ValueError(f"Duration must be greater or equal to zero and not {timeout}")
        with self._changed:
            return self._changed.wait_for(lambda: not self.needed, timeout)
