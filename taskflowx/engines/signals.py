"""A run that is suspended by a signal."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

from taskflowx import exceptions
from taskflowx._util import logs
from taskflowx.engines import life

LOG = logs.calm(__name__)


@contextlib.contextmanager
def suspending(engine: Any, signals: tuple[Any, ...]) -> Iterator[None]:
    """Suspend the run of an engine when a signal comes, and put the handlers before back at the end.

    :raises InvalidState: outside of the main thread
    :raises ValueError: for what is no signal, or one that cannot be handled
    """
    chosen = _checked(signals)
    if threading.current_thread() is not threading.main_thread():
        raise exceptions.InvalidState(
            "suspend_on() sets handlers of signals, which Python allows in the main thread alone; call it there, "
            "around what starts the thread of the run"
        )
    before: dict[int, Any] = {}
    suspended: list[life.Work] = []

    def give_back(number: int) -> None:
        if number in before:
            # None is a handler that was not set from Python, and that cannot be set from there
            signal.signal(number, signal.SIG_DFL if before[number] is None else before[number])
            del before[number]

    def handle(number: int, frame: FrameType | None) -> None:
        name, former = signal.Signals(number).name, before[number]
        work = life.current(engine.storage.record.flow_detail)
        if work is None or work.engine is not engine or work in suspended:
            if callable(former):  # it does what it would have done without us
                former(number, frame)
            else:
                give_back(number)
                os.kill(os.getpid(), number)
            return
        suspended.append(work)
        work.stop()
        msg = "%s: the run is suspended as soon as the calls under way have ended; a second %s %s"
        LOG.warning(msg, name, name, _done_by(former))

    try:
        for number in chosen:
            before[number] = signal.getsignal(number)
            signal.signal(number, handle)
        yield
    finally:
        for one in list(before):
            give_back(one)


def _done_by(handler: Any) -> str:
    """Say what a signal does that goes to a handler."""
    if handler is signal.default_int_handler:
        return "is a KeyboardInterrupt"
    if handler is signal.SIG_IGN:
        return "is ignored"
    return "goes to the handler that was there before" if callable(handler) else "does not wait"


def _checked(signals: tuple[Any, ...]) -> list[signal.Signals]:
    if not signals:
        raise ValueError("suspend_on() takes one signal or more, such as signal.SIGTERM")
    chosen = []
    for one in signals:
        try:
            number = signal.Signals(one)
        except ValueError:
            raise ValueError(f"suspend_on() takes signals, such as signal.SIGTERM, and not {one!r}") from None
        if number in {getattr(signal, name, None) for name in ("SIGKILL", "SIGSTOP")}:
            raise ValueError(f"suspend_on() cannot handle {number.name}: no process can")
        chosen.append(number)
    return list(dict.fromkeys(chosen))
