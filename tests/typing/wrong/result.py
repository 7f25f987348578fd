"""A result that is used as another type."""

from __future__ import annotations

import taskflowx
from taskflowx import as_task


@as_task
def size() -> int:
    return 3


engine = taskflowx.load(size)
engine.run()
text: str = size.result(engine)  # wrong
size.result(engine).upper()  # wrong
size.result(size)  # wrong
