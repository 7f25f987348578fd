"""Outcomes of calls in worker processes; a lost or unreadable outcome becomes an error that names the atom."""

from __future__ import annotations

import contextlib
import signal
from typing import Any

from taskflowx import exceptions
from taskflowx.executors import base
from taskflowx.executors.processes import values
from taskflowx.types.failure import Failure
from taskflowx.types.failure_parts import text_of

#: the number of workers in a row that may fail to start
FAILED_STARTS = 3


def exit_of(value: Any) -> Any:
    """Return the outcome of a call that raised something other than an `Exception`."""
    return base.Interrupt(value) if isinstance(value, BaseException) else value


def recognized(value: Any) -> Any:
    """Return a value that a worker has sent; a failure of a class that was sent along becomes one of the class here.

    A task that removes modules of its process has it send classes along, which are others than those here.
    """
    if hasattr(type(value), "_tfx_derived") and not isinstance(value, Failure):
        return Failure.from_dict(value.to_dict())
    return value


def outcome(call: base.Call, body: bytes, file: values.Descriptor | None) -> Any:
    """Return the outcome of a call; a Failure if it cannot be read."""
    try:
        value = values.unpack(body, file)
        return value if type(value) in values.ATOMIC else recognized(value)
    except Exception as error:
        error.add_note(_unread(call))
        return Failure.from_exception(error)
    except BaseException as error:
        if file is not None or not _is_raised_by(body, type(error)):
            raise  # it is an interrupt
        return Failure.from_exception(TypeError(f"{_unread(call)}: {type(error).__name__}: {text_of(error)}"))


def _unread(call: base.Call) -> str:
    return f"The result of atom '{call.atom.name}' was sent by its process, and could not be read here"


def _is_raised_by(body: bytes, kind: type[BaseException]) -> bool:
    """Tell whether an exception came from unpickling, and not from a signal handler: then it is repeatable."""
    try:
        values.unpack(body, None)
    except BaseException as error:
        return type(error) is kind
    return False


def lost(pid: int | None, code: int | None, name: str | None = None) -> exceptions.WorkerLost:
    """Return the error for a worker that has died."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            killed_by = signal.Signals(-code).name
            hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
            return exceptions.WorkerLost(
                f"Worker process {pid} was killed by {killed_by}{hint}{_while(name)}", code, killed_by
            )
    return exceptions.WorkerLost(f"Worker process {pid} exited with code {code}{_while(name)}", code)


def _while(name: str | None) -> str:
    if name is not None:
        return f", while it ran atom '{name}'"
    return (
        f" before its first call, as {FAILED_STARTS - 1} others did before it. What it wrote to stderr says more; a "
        "main module that starts runs when it is imported must do so under `if __name__ == '__main__':`"
    )
