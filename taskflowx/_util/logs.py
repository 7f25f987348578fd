"""Loggers for messages about a run, which cannot end it.

Handlers, filters and the streams behind them are the user's. Python's own handlers raise where `sys.stderr` is closed,
or is no stream, when they report an error in a message.
"""

from __future__ import annotations

import contextlib
import logging
from typing import Any


class _Calm(logging.LoggerAdapter[logging.Logger]):
    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        with contextlib.suppress(Exception):
            super().log(level, msg, *args, stacklevel=2, **kwargs)  # the record names the caller, not this line


def calm(name: str) -> logging.LoggerAdapter[logging.Logger]:
    """Return the logger of a name; an exception while it logs costs only the message."""
    return _Calm(logging.getLogger(name), {})
