"""The output and log records of tasks in a worker process: sent to the engine, which passes them on.

A log record goes through the handlers of the worker first, except those of the root logger. Then it goes through those
of the engine, except those of loggers whose handlers in the worker had it. So each handler of a module that both have
imported gets it once.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import logging
import multiprocessing
import pickle
import sys
from typing import TYPE_CHECKING, Any

from taskflowx._util import logs
from taskflowx.executors import pickling
from taskflowx.executors.processes import values, wire
from taskflowx.types.failure_parts import text_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskflowx.executors.processes.worker import Worker

LOG = logs.calm(__name__)


def logger() -> logging.Logger:
    """Return the logger for the output of workers: that of the package, whatever its name is."""
    return logging.getLogger(__name__.rpartition(".")[0])


# -- in a worker -----------------------------------------------------------------------------------


def take_over(worker: Worker) -> list[Output]:
    """Redirect the output and log records of this process to the engine; returns the new streams."""
    # For the name of the process, logging swallows any exception, such as that of a task's time limit.
    logging.logMultiprocessing = False
    logging.getLogger().handlers[:] = [Records(worker)]
    outputs = [Output(worker, "stdout", sys.stdout), Output(worker, "stderr", sys.stderr)]
    sys.stdout, sys.stderr = outputs
    return outputs


def give_back(outputs: list[Output]) -> None:
    """In a process forked from the worker: restore the process's own streams, and log nothing."""
    for output in outputs:
        if getattr(sys, output.stream) is output:
            setattr(sys, output.stream, output.instead_of)
    root = logging.getLogger()
    root.handlers[:] = [one for one in root.handlers if not isinstance(one, Records)]


class Output(io.TextIOWrapper):
    """Replaces `sys.stdout` or `sys.stderr`: written text goes to the engine.

    Text is sent when a line ends or restarts, on a flush, and when there is much of it.

    :param stream: 'stdout' or 'stderr'
    :param instead_of: the stream that is replaced; its descriptor is returned by `fileno`
    """

    def __init__(self, worker: Worker, stream: str, instead_of: Any) -> None:
        self._bytes = _Bytes(worker, stream, instead_of)
        super().__init__(
            self._bytes,
            encoding="utf-8",
            errors="backslashreplace",
            newline="",
            line_buffering=True,
        )
        vars(self)["mode"] = "w"  # as the interpreter sets it
        self.stream = stream
        self.instead_of = instead_of
        self._worker = worker

    def write(self, text: str) -> int:
        """Write text."""
        self._worker.wrote = True
        return super().write(text)

    def end_line(self) -> None:
        """Send the rest of the output of a call that has ended."""
        with contextlib.suppress(ValueError):  # a task has closed or detached it
            self.flush()
        self._bytes.end()


class _Bytes(io.RawIOBase):
    """The bytes of an output."""

    def __init__(self, worker: Worker, stream: str, instead_of: Any) -> None:
        self._worker = worker
        self._instead_of = instead_of
        self.name = f"<{stream}>"
        self.mode = "wb"
        self._stream = stream
        #: the beginning of a character whose other bytes are still to be written
        self._rest = b""

    def writable(self) -> bool:
        """Return True."""
        return True

    def fileno(self) -> int:
        """Return the descriptor of the process's own stream."""
        return self._instead_of.fileno()  # type: ignore[no-any-return]

    def isatty(self) -> bool:
        """Return False."""
        return False

    def write(self, data: Any) -> int:
        """Send bytes, as far as they are whole characters."""
        whole = self._rest + bytes(data)
        text, length = codecs.utf_8_decode(whole, "backslashreplace", False)
        self._rest = whole[length:]
        if self._rest:
            self._worker.wrote = True
        if text:
            self._worker.send(wire.WROTE, (self._stream, text))
        return len(data)

    def end(self) -> None:
        """Send the beginning of a character that has no end."""
        if self._rest:
            text, self._rest = self._rest.decode("utf-8", "backslashreplace"), b""
            self._worker.send(wire.WROTE, (self._stream, text))


class Records(logging.Handler):
    """Sends log records to the engine."""

    def __init__(self, worker: Worker) -> None:
        super().__init__()
        self._worker = worker
        self._process_name = multiprocessing.current_process().name

    def handle(self, record: logging.LogRecord) -> Any:
        """Send a record that passes the filters; without the lock of a handler, as frames have one."""
        passed: Any = self.filter(record)
        if passed:
            self.emit(passed if isinstance(passed, logging.LogRecord) else record)
        return passed

    def emit(self, record: logging.LogRecord) -> None:
        """Send a record: plain values as they are, its message and traceback as text, others pickled if they can be."""
        try:
            facts, args = self._facts(record)
        except Exception as error:
            if not _is_raised_by(record, error):
                raise  # it came from a signal handler, and is the task's
            self.handleError(record)
            return
        pickled = {}
        if not values.ATOMIC.issuperset(map(type, facts.values())):
            others = [name for name, value in facts.items() if type(value) not in values.ATOMIC]
            pickled = {name: _pickled(facts.pop(name)) for name in others}
        self._worker.send(wire.LOGGED, (facts, args, list(_had_by(record)), pickled))

    def _facts(self, record: logging.LogRecord) -> tuple[dict[str, Any], Any]:
        """Return the attributes of a record, and its arguments: None if not all are plain, its message is text then."""
        facts, args = {**record.__dict__, "processName": self._process_name, "args": None}, record.args
        if type(record.msg) is not str or not values.is_flat(args):
            facts["msg"], args = record.getMessage(), None
        if record.exc_info:
            facts["exc_text"] = record.exc_text or _FORMATTER.formatException(record.exc_info)
            facts["exc_info"] = None
        return facts, args


_FORMATTER = logging.Formatter()


def _is_raised_by(record: logging.LogRecord, error: Exception) -> bool:
    """Tell whether an exception came from the message of a record, and not from a signal handler: it is repeatable."""
    try:
        record.getMessage()
    except BaseException as again:
        return type(again) is type(error)
    return False


def _pickled(value: Any) -> bytes | None:
    """Return a pickled value; None if it cannot be pickled."""
    try:
        return pickling.dumps(value)
    except BaseException as error:
        if not pickling.fails_with(value, error):
            raise  # it came from a signal handler, and is the task's
        return None


def _had_by(record: logging.LogRecord) -> Iterator[str]:
    """Iterate over the names of the loggers below the root whose handlers have had a record."""
    known = logging.Logger.manager.loggerDict.get(record.name)  # `getLogger` takes a lock
    logger: logging.Logger | None = known if isinstance(known, logging.Logger) else logging.getLogger(record.name)
    while logger is not None and logger.parent is not None:
        if any(record.levelno >= handler.level for handler in logger.handlers):
            yield logger.name
        logger = logger.parent


def warn_of_unsent(name: str, culprit: str, error: BaseException) -> None:
    """Warn that an event or progress of an atom is dropped, as it cannot be pickled."""
    LOG.warning(
        "A message of atom '%s' to its subscribers cannot leave its process, and is dropped: %s (%s)",
        name,
        culprit,
        text_of(error),
    )


# -- in the engine ---------------------------------------------------------------------------------


def show(kind: int, value: Any, atom: Any) -> None:
    """Pass on output or a log record of a worker; an item that cannot be shown is skipped, with a warning."""
    name = None if atom is None else atom.name
    try:
        if kind == wire.LOGGED:
            _log(value, name)
        else:
            stream, text = value
            _print(stream, text, name)
    except Exception as error:
        LOG.warning("Something that atom '%s' has printed or logged could not be shown: %r", name, error)


def _log(sent: tuple[dict[str, Any], Any, list[str], dict[str, bytes | None]], name: str | None) -> None:
    facts, facts["args"], had_by, pickled = sent
    own: logging.Logger | None = logging.getLogger(facts["name"])
    if own is None or not own.isEnabledFor(facts["levelno"]):
        return
    for attribute, data in pickled.items():
        if data is not None:  # else it could not be pickled
            with contextlib.suppress(Exception):  # it cannot be read here
                facts[attribute] = pickle.loads(data)  # noqa: S301 - from a process that we have started
    record = logging.makeLogRecord(facts)
    record.atom_name = name
    if not had_by:
        own.handle(record)
        return
    if not own.filter(record):
        return
    while own is not None:
        if own.name not in had_by or own.parent is None:
            for handler in own.handlers:
                if record.levelno >= handler.level:
                    handler.handle(record)
        own = own.parent if own.propagate else None


def _print(stream: str, text: str, name: str | None) -> None:
    level = logging.INFO if stream == "stdout" else logging.WARNING
    if logger().isEnabledFor(level) and logger().hasHandlers():
        for line in io.StringIO(text, newline=None):  # not `splitlines`: a line may have a form feed
            logger().log(level, "%s: %s", name, line.removesuffix("\n"), extra={"atom_name": name})
        return
    target = getattr(sys, stream)  # it would be lost otherwise
    if target is not None:
        encoding = getattr(target, "encoding", None) or "utf-8"
        target.write(text.encode(encoding, "backslashreplace").decode(encoding))
        target.flush()


def warn_of_unread(atom: Any, error: Exception) -> None:
    """Warn that a message of a worker is skipped."""
    name = None if atom is None else atom.name
    LOG.warning(
        "A message of atom '%s' from its process could not be read, and is skipped: %r",
        name,
        error,
    )


def warn_of_end(pid: int | None, error: str) -> None:
    """Warn that a worker ends between two calls."""
    LOG.warning(
        "Worker process %s ends, as this was raised in it between two calls (by a signal handler or a thread that a "
        "task has left behind): %s",
        pid,
        error,
    )


def warn_of_kill(pids: list[int | None], seconds: float) -> None:
    """Warn that workers are killed that have not ended by themselves."""
    LOG.warning(
        "Worker processes %s have not ended %g seconds after their last call, as a thread or an exit handler of a task "
        "keeps them; they are killed",
        ", ".join(map(str, pids)),
        seconds,
    )
