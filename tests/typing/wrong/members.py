"""What is no member of a flow."""

from __future__ import annotations

from taskflowx import graph, linear, unordered
from taskflowx.patterns import graph_flow, linear_flow

linear("f", "a")  # wrong
unordered("f", 3)  # wrong
graph("f", None)  # wrong
linear_flow.Flow("f").add("a")  # wrong
graph_flow.Flow("f").add(print)  # wrong
