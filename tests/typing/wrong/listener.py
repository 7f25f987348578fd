"""A listener that is made wrongly."""

from __future__ import annotations

import taskflowx
from taskflowx.listeners.base import Listener

engine = taskflowx.load(taskflowx.linear("f"))
Listener(engine, task_listen_for=3)  # wrong
engine.notifier.register("SUCCESS", 3)  # wrong
engine.notifier.register(3, print)  # wrong
