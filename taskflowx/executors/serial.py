"""All calls one after another, in the thread that runs the engine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx.executors import base

if TYPE_CHECKING:
    from collections.abc import Callable


class SerialExecutor(base.Executor):
    """Runs nothing itself: the scheduler sees `serial` and makes the calls in place."""

    serial = True
    inline = True

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Do nothing."""

    def submit(self, calls: list[base.Call]) -> None:
        """Refuse: there is nobody to run them."""
        raise NotImplementedError

    def recall(self) -> list[base.Call]:
        """Give back nothing: there is never a call that waits."""
        return []

    def stop(self) -> None:
        """Do nothing."""
