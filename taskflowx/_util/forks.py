"""How often this process was forked from another one: what is kept for a process is stale when the number has changed.

Comparing it costs an attribute, where `os.getpid` is a call of the system.
"""

from __future__ import annotations

import os

count = 0


def _add() -> None:
    global count  # noqa: PLW0603 - one for the process
    count += 1


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_add)
