"""An option that is misspelt, of TaskFlow's own function."""

from __future__ import annotations

from taskflowx import engines
from taskflowx.patterns import linear_flow

flow = linear_flow.Flow("f")
engines.run(flow, duribility="group")  # wrong, but for ty
engines.load(flow, maxworkers=3)  # wrong, but for ty
