"""A store that is no mapping of names."""

from __future__ import annotations

import taskflowx

flow = taskflowx.linear("f")
taskflowx.run(flow, ["size"])  # wrong
taskflowx.run(flow, {3: "size"})  # wrong
