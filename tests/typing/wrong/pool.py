"""A pool that is made wrongly."""

from __future__ import annotations

from taskflowx.executors.processes import ProcessPool

ProcessPool("two")  # wrong
ProcessPool(2, max_tasks=3)  # wrong
ProcessPool(2, initializer=3)  # wrong
