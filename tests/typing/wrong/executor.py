"""What is no executor."""

from __future__ import annotations

import taskflowx

flow = taskflowx.linear("f")
taskflowx.run(flow, executor=3)  # wrong
taskflowx.run(flow, executor=["threads"])  # wrong
taskflowx.run(flow, executor=print)  # wrong
