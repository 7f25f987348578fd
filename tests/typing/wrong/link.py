"""A link that is made wrongly."""

from __future__ import annotations

from taskflowx import graph
from taskflowx.patterns import graph_flow


def decides(count: int) -> bool:
    return count > 3


flow = graph("f")
flow.link("a", "b")  # wrong
inner = graph_flow.Flow("g")
flow.link(inner, flow, decider=3)  # wrong
flow.link(inner, flow, when=True)  # wrong
flow.link(inner, flow, decider=decides)  # wrong
flow.link(inner, flow, decider_depth=3)  # wrong
