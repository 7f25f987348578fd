"""A task whose result is another one."""

from __future__ import annotations

from taskflowx import Task


class Step(Task[int, str]):  # wrong
    pass


def takes(step: Task[str]) -> None:
    pass


class Number(Task[int]):
    pass


takes(Number())  # wrong
