"""A choice that an option does not have."""

from __future__ import annotations

import taskflowx

flow = taskflowx.linear("f")
taskflowx.run(flow, durability="never")  # wrong
taskflowx.run(flow, results="strikt")  # wrong
taskflowx.run(flow, types="error")  # wrong
taskflowx.run(flow, on_revert_failure="stop")  # wrong
taskflowx.run(flow, revert_limits="none")  # wrong
