"""What is no flow."""

from __future__ import annotations

import taskflowx
from taskflowx import engines

taskflowx.run("flow")  # wrong
engines.load(print)  # wrong
engines.run([taskflowx.linear("f")])  # wrong
