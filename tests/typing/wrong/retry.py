"""What is no retry controller."""

from __future__ import annotations

from taskflowx import Task, linear, retry
from taskflowx.patterns import linear_flow


class Step(Task[int]):
    def execute(self) -> int:
        return 1


linear("f", retry=3)  # wrong
linear_flow.Flow("f", retry.Times)  # wrong
linear_flow.Flow("f", Step("a"))  # wrong
Step("a") | 3  # wrong
retry.Times("three")  # wrong
retry.Times(3, delay="1")  # wrong
retry.Times(3, retry_on=404)  # wrong
retry.Times(3, dealy=1)  # wrong, but for ty
retry.again("1")  # wrong
linear("f", timeout="1")  # wrong
