"""Loggers with a level below DEBUG, for detailed tracing, and a filter that adds the names of atom and run.

`getLogger` returns an adapter of the standard library with two further methods, `blather` and `trace`, which log at
that level. `AtomNames` is a filter for handlers.
"""

from __future__ import annotations

import contextvars
import logging
import sys
import types
from collections.abc import Mapping, MutableMapping
from logging import CRITICAL, DEBUG, ERROR, FATAL, INFO, NOTSET, WARN, WARNING
from typing import Any

from taskflowx import _names

#: the level below DEBUG
BLATHER = 5
TRACE = BLATHER


class TraceLoggerAdapter(logging.LoggerAdapter[logging.Logger]):
    """A logger that can log below DEBUG, and that adds its `extra` to every record."""

    def process(self, msg: Any, kwargs: MutableMapping[str, Any]) -> tuple[Any, MutableMapping[str, Any]]:
        """Merge the adapter's `extra` over that of the call."""
        if self.extra:
            kwargs["extra"] = {**(kwargs.get("extra") or {}), **self.extra}
        return msg, kwargs

    def trace(self, msg: object, *args: object, **kwargs: Any) -> None:
        """Log a message at level TRACE."""
        kwargs["stacklevel"] = kwargs.get("stacklevel", 1) + 1  # the record names the caller, not this line
        self.log(TRACE, msg, *args, **kwargs)

    blather = trace


def getLogger(name: str = "taskflowx", extra: Mapping[str, object] | None = None) -> TraceLoggerAdapter:
    """Return an adapter of the logger of that name.

    :param extra: attributes of every record that goes through the adapter
    """
    return TraceLoggerAdapter(logging.getLogger(_names.spoken(name)), extra=extra)


#: methods of an atom that the engine calls
_CALLED = frozenset(
    ("execute", "revert", "on_failure", "pre_execute", "post_execute", "pre_revert", "post_revert", "__call__")
)


#: the name of the running flow and the uuid of its record, in the context in which its atoms and listeners are called
RUN: contextvars.ContextVar[tuple[str | None, str | None]] = contextvars.ContextVar(
    "taskflowx.logging.RUN", default=(None, None)
)


class AtomNames(logging.Filter):
    """Gives each record the names of the atom, the flow and the run that have logged it: None outside of them.

    Add it to a handler, whose format may then have `%(atom_name)s`, `%(flow_name)s` and `%(run)s` (the uuid of the
    record of the run), whatever the executor. It searches for the atom among the frames of running functions, so it
    costs nothing where it is not used. A thread that an atom has started is not attributed to the atom, unless it runs
    in a copy of the atom's context: then flow and run are known.
    """

    def filter(self, record: logging.LogRecord) -> bool:
        """Add the names, and pass the record."""
        if getattr(record, "atom_name", None) is None:  # worker processes have added it
            record.atom_name = _calling_atom(sys._getframe(1))  # noqa: SLF001 - as `inspect` does
        if getattr(record, "run", None) is None:
            record.flow_name, record.run = RUN.get()
        return True


def _calling_atom(frame: types.FrameType | None) -> str | None:
    """Return the name of the innermost atom with a running method."""
    atoms = sys.modules.get("taskflowx.atom")  # this module is in a lower layer; if it is not imported there is no atom
    if atoms is None:
        return None
    while frame is not None:
        code = frame.f_code
        if code.co_name in _CALLED and code.co_argcount:
            own = frame.f_locals.get(code.co_varnames[0])
            if isinstance(own, atoms.Atom):
                return str(own.name)
        frame = frame.f_back
    return None


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
    "AtomNames",
    "TraceLoggerAdapter",
    "getLogger",
]
