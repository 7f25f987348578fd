"""An option of another type."""

from __future__ import annotations

import taskflowx

flow = taskflowx.linear("f")
taskflowx.run(flow, max_workers="two")  # wrong
taskflowx.run(flow, lease="a minute")  # wrong
taskflowx.run(flow, timeout="10")  # wrong
taskflowx.run(flow, keep_results=3)  # wrong
