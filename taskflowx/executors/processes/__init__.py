"""Our own worker processes, which are replaced when they die.

`ProcessPool` keeps them from run to run. An engine has a `ProcessesExecutor`, which sends the calls of one run to the
workers of a pool.
"""

from taskflowx.executors.processes.executor import ProcessesExecutor
from taskflowx.executors.processes.pool import ProcessPool

__all__ = ["ProcessPool", "ProcessesExecutor"]
