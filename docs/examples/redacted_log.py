"""Logging without secrets: a failure is logged with what led to it, less the values that nobody should read.

When a task fails, `DynamicLoggingListener` logs what the tasks before it were given and gave. `mask_inputs_keys` stars
out single arguments, `hide_inputs_outputs_of` leaves out all values of a task. Of what goes well it logs the results
too, at the level `DEBUG`.
"""

from __future__ import annotations

import logging
import re
import sys

from taskflowx import engines, task
from taskflowx.listeners import logging as listeners
from taskflowx.patterns import linear_flow


class LogIn(task.Task):
    default_provides = "token"

    def execute(self, user: str, password: str) -> str:
        return f"token of {user}: 8c1f"


class Open(task.Task):
    def execute(self, pin: int) -> None:
        pass


class Count(task.Task):
    def execute(self, token: str) -> None:
        raise OSError("the vault is empty")


class ShortFormatter(logging.Formatter):
    """Leaves out the traceback, and identifiers that are others each time."""

    def formatException(self, ei: object) -> str:  # noqa: N802 - the standard library's name
        return "(traceback)"

    def format(self, record: logging.LogRecord) -> str:
        return re.sub(r" \([0-9a-f-]{36}\)", "", super().format(record))


def main() -> None:
    log = logging.getLogger("bank")
    log.setLevel(logging.INFO)
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(ShortFormatter("%(levelname)s: %(message)s"))
    log.addHandler(handler)

    flow = linear_flow.Flow("audit").add(LogIn("log in"), Open("open"), Count("count"))
    engine = engines.load(flow, store={"user": "eve", "password": "hunter2", "pin": 1234})
    with listeners.DynamicLoggingListener(engine, log=log, mask_inputs_keys=["pin"], hide_inputs_outputs_of=["log in"]):
        try:
            engine.run()
        except OSError as error:
            print("failed:", error)


if __name__ == "__main__":
    main()

# Output:
#   WARNING: Task 'count' transitioned into state 'FAILURE' from state 'RUNNING'
#   3 predecessors (most recent first):
#     Atom 'open' {'intention': 'EXECUTE', 'state': 'SUCCESS', 'requires': {'pin': '***'}, 'provides': None}
#     |__Atom 'log in' {'intention': 'EXECUTE', 'state': 'SUCCESS'}
#        |__Flow 'audit'
#   (traceback)
#   WARNING: Task 'count' transitioned into state 'REVERTED' from state 'REVERTING'
#   WARNING: Task 'open' transitioned into state 'REVERTED' from state 'REVERTING'
#   WARNING: Task 'log in' transitioned into state 'REVERTED' from state 'REVERTING'
#   WARNING: Flow 'audit' transitioned into state 'REVERTED' from state 'RUNNING'
#   failed: the vault is empty
