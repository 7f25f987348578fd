"""What tasks print and log in a worker process: sent from there, and passed on by the engine."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, Any

from taskflowx.executors.processes import wire

if TYPE_CHECKING:
    from taskflowx.executors.processes.worker import Worker

LOG = logging.getLogger("taskflowx.executors.processes")


# -- in a worker -----------------------------------------------------------------------------------


def take_over(worker: Worker, levels: dict[str, int]) -> list[Output]:
    """Let what is printed and logged in this process go to the engine; returns the new streams.

    :param levels: levels of the engine's loggers, by name
    """
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)
    logging.getLogger().handlers[:] = [Records(worker)]
    outputs = [Output(worker, "stdout", sys.stdout), Output(worker, "stderr", sys.stderr)]
    sys.stdout, sys.stderr = outputs
    return outputs


class Output(io.TextIOBase):
    """Takes the place of `sys.stdout` or `sys.stderr`: what is written goes to the engine, line by line.

    :param name: 'stdout' or 'stderr'
    :param instead_of: the stream that was there; what asks for a descriptor or for bytes gets that one's
    """

    def __init__(self, worker: Worker, name: str, instead_of: Any) -> None:
        self._worker = worker
        self._name = name
        self._instead_of = instead_of
        #: what was written since the last end of a line
        self.line = ""

    encoding = "utf-8"

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the process's own stream."""
        return self._instead_of.fileno()  # type: ignore[no-any-return]

    @property
    def buffer(self) -> Any:
        """The process's own stream of bytes."""
        return self._instead_of.buffer

    def write(self, text: str) -> int:
        """Send the lines that are complete."""
        with self._worker.sending:
            *lines, self.line = (self.line + text).split("\n")
            for line in lines:
                self._worker.send(wire.WROTE, (self._name, line))
        return len(text)


class Records(logging.Handler):
    """Sends records of the log to the engine."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record, with its message and traceback as text: what they are made of may not travel."""
        try:
            known = record.__dict__
            facts = {name: known[name] for name in _PLAIN if name in known}
            facts["msg"] = record.getMessage()
            if record.exc_info:
                facts["exc_text"] = record.exc_text or _FORMATTER.formatException(record.exc_info)
            self._worker.send(wire.LOGGED, facts)
        except Exception:
            self.handleError(record)


_FORMATTER = logging.Formatter()
_PLAIN = (
    "name", "levelname", "levelno", "pathname", "filename", "module", "lineno", "funcName", "created", "msecs",
    "relativeCreated", "thread", "threadName", "process", "processName", "taskName", "exc_text", "stack_info",
)  # fmt: skip


# -- in the engine ---------------------------------------------------------------------------------


def show(kind: int, value: Any, atom: Any) -> None:
    """Pass on what was printed or logged in a worker."""
    name = None if atom is None else atom.name
    if kind == wire.LOGGED:
        logger = logging.getLogger(value["name"])
        if logger.isEnabledFor(value["levelno"]):
            record = logging.makeLogRecord(value)
            record.atom_name = name
            logger.handle(record)
        return
    stream, line = value
    level = logging.INFO if stream == "stdout" else logging.WARNING
    if LOG.isEnabledFor(level) and LOG.hasHandlers():
        LOG.log(level, "%s: %s", name, line, extra={"atom_name": name})
    else:
        print(line, file=getattr(sys, stream))  # nobody would see it otherwise
