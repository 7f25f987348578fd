"""A pattern that has no links."""

from __future__ import annotations

from taskflowx import linear

flow = linear("f")
flow.link(flow, flow)  # wrong
