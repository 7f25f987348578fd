"""What `engine.compilation` is made of, under the names that callers know."""

from taskflowx.engines.compilation import Compilation
from taskflowx.engines.export import ATOMS, FLOW, FLOW_END, FLOWS, RETRY, TASK, FlowEnd as Terminator

__all__ = ["ATOMS", "FLOW", "FLOWS", "FLOW_END", "RETRY", "TASK", "Compilation", "Terminator"]
