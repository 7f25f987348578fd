"""A wait with a timeout that another thread can end; a type of TaskFlow's, which nothing in this package uses.

Job boards and conductors wait with a `Timeout`; `convert_to_timeout` makes one from a user's configuration.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from taskflowx._util import arguments


class Timeout:
    """A number of seconds to wait; the wait can be ended early.

    :param value: seconds, zero or more; infinity waits until interrupted
    :param event_factory: makes the event that is waited on (green threads, for example, need events of their own)
    """

    def __init__(self, value: float, event_factory: Callable[[], threading.Event] = threading.Event) -> None:
        arguments.check_number("Timeout value", value, "a number of seconds, zero or more")
        if not value >= 0:  # written so that it rejects NaN too
            raise ValueError(f"Timeout value must be greater or equal to zero and not '{value}'")
        self._value = value
        self._event = event_factory()

    @property
    def value(self) -> float:
        """The number of seconds."""
        return self._value

    def interrupt(self) -> None:
        """End the wait of every waiting thread, and each later one at once, until `reset`."""
        self._event.set()

    def is_stopped(self) -> bool:
        """Tell whether it was interrupted (and not reset since)."""
        return self._event.is_set()

    def wait(self) -> None:
        """Wait until the seconds have passed or `interrupt` is called."""
        self._event.wait(min(self._value, threading.TIMEOUT_MAX))

    def reset(self) -> None:
        """Clear an interruption, so that `wait` waits again."""
        self._event.clear()


def convert_to_timeout(
    value: float | str | Timeout | None = None,
    default_value: float | str | Timeout | None = None,
    event_factory: Callable[[], threading.Event] = threading.Event,
) -> Timeout:
    """Make a `Timeout` from a number or its text; a `Timeout` is returned as it is.

    :param value: seconds
    :param default_value: used when `value` is None
    :param event_factory: passed to a new `Timeout`
    :raises ValueError: for a value that is no number, and for a negative one
    """
    if value is None:
        value = default_value
    if isinstance(value, Timeout):
        return value
    try:
        seconds = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        raise ValueError(f"Invalid timeout literal '{value}'") from None
    return Timeout(seconds, event_factory)
