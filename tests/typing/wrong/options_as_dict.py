"""Options that are kept in a dict."""

from __future__ import annotations

from taskflowx import EngineOptions

options: EngineOptions = {"executor": "threads", "lesae": 3}  # wrong
others: EngineOptions = {"on_mismatch": "refuze"}  # wrong
