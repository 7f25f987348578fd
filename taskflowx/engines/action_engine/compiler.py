"""The kinds of nodes in `engine.compilation.execution_graph`, under the names that callers know."""

from taskflowx.engines.export import ATOMS, FLOW, FLOW_END, FLOWS, RETRY, TASK

__all__ = ["ATOMS", "FLOW", "FLOWS", "FLOW_END", "RETRY", "TASK"]
