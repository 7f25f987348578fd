"""Names that the package does not have."""

from __future__ import annotations

from taskflowx import Tusk  # wrong
import taskflowx

taskflowx.linaer("f")  # wrong
