"""A parallel execution engine with pluggable executors: tasks, flows, retries and ordered rollback."""

__version__ = "0.1.0"
