"""An option that is misspelt."""

from __future__ import annotations

import taskflowx

flow = taskflowx.linear("f")
taskflowx.run(flow, executer="threads")  # wrong, but for ty
taskflowx.load(flow, on_missmatch="warn")  # wrong, but for ty
