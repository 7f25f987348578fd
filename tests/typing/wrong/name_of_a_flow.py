"""A flow without a name of its own."""

from __future__ import annotations

from taskflowx import linear
from taskflowx.patterns import linear_flow

linear()  # wrong
linear(3)  # wrong
linear_flow.Flow()  # wrong
