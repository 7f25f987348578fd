"""A store that is named wrongly."""

from __future__ import annotations

import taskflowx
from taskflowx import engines

flow = taskflowx.linear("f")
taskflowx.run(flow, backend=3)  # wrong
engines.run(flow, backend=["sqlite://"])  # wrong
taskflowx.load(flow, book="book")  # wrong
taskflowx.load(flow, flow_detail="detail")  # wrong
