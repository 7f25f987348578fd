"""A task that is made of no function."""

from __future__ import annotations

from taskflowx import as_task, task

as_task(3)  # wrong
task.FunctorTask("name")  # wrong
task.FunctorTask(print, revert=3)  # wrong
