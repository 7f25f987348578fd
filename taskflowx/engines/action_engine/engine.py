"""Alias of `taskflowx.engines.engine`."""

from taskflowx.engines.engine import ActionEngine, ParallelActionEngine, SerialActionEngine

__all__ = ["ActionEngine", "ParallelActionEngine", "SerialActionEngine"]
