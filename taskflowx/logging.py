"""Loggers with one level below DEBUG, for what is only looked at in a hunt for a bug.

`getLogger` gives an adapter of the standard library with two further methods, `blather` and `trace`, which log at
that level.
"""

from __future__ import annotations

import logging
from logging import CRITICAL, DEBUG, ERROR, FATAL, INFO, NOTSET, WARN, WARNING
from typing import TYPE_CHECKING, Any

from taskflowx import _names

if TYPE_CHECKING:
    from collections.abc import Mapping, MutableMapping

    _Adapter = logging.LoggerAdapter[logging.Logger]
else:
    _Adapter = logging.LoggerAdapter

#: the level below DEBUG
BLATHER = 5
TRACE = BLATHER


class TraceLoggerAdapter(_Adapter):
    """A logger that can log below DEBUG, and that adds its `extra` to every record."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Put the adapter's `extra` over that of the call."""
        if self.extra:
            kwargs["extra"] = {**(kwargs.get("extra") or {}), **self.extra}
        return msg, kwargs

    def trace(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a message at level TRACE."""
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # the record names the caller, not this line
        self.log(TRACE, msg, *args, **kwargs)

    blather = trace


def getLogger(name: str = "taskflowx", extra: Mapping[str, object] | None = None) -> TraceLoggerAdapter:
    """Return an adapter around the logger of that name.

    :param extra: attributes of every record that goes through the adapter
    """
    return TraceLoggerAdapter(logging.getLogger(_names.spoken(name)), extra=extra)


__all__ = [
    "BLATHER",
    "CRITICAL",
    "DEBUG",
    "ERROR",
    "FATAL",
    "INFO",
    "NOTSET",
    "TRACE",
    "WARN",
    "WARNING",
    "TraceLoggerAdapter",
    "getLogger",
]
