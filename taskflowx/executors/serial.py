"""The serial executor: all calls one after another, in the engine's thread."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from taskflowx.executors import base


class SerialExecutor(base.Executor):
    """Runs nothing itself: the scheduler sees `serial` and performs the calls inline."""

    kind = "serial"
    serial = True
    inline = True

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Do nothing."""

    def submit(self, calls: list[base.Call]) -> None:
        """Raise NotImplementedError: the scheduler performs all calls itself."""
        raise NotImplementedError

    def recall(self) -> list[base.Call]:
        """Return an empty list: no call ever waits."""
        return []

    def stop(self) -> None:
        """Do nothing."""
