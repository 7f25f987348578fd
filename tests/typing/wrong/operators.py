"""What can not stand in a chain."""

from __future__ import annotations

from taskflowx import Task


class Step(Task[int]):
    def execute(self) -> int:
        return 1


Step("a") >> 3  # wrong
"b" >> Step("a")  # wrong
Step("a") + Step("b")  # wrong
