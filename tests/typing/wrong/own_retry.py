"""A retry controller of one's own that decides on something else."""

from __future__ import annotations

from taskflowx import Retry
from taskflowx.retry import History


class Odd(Retry):
    def on_failure(self, history: History, *args: object, **kwargs: object) -> bool:  # wrong
        return True

    def execute(self, history: History, *args: object, **kwargs: object) -> int:
        return history.attempts  # wrong
