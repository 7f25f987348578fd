"""A listener of one's own: a class that subscribes to one engine, and counts.

`_flow_receiver`, `_task_receiver` and `_retry_receiver` are to be overridden. The states to be told of are given to
the constructor.
"""

from __future__ import annotations

from collections import Counter
from typing import Any

from taskflowx import engines, retry, states, task
from taskflowx.listeners import base
from taskflowx.patterns import linear_flow


class Scoreboard(base.Listener):
    """Counts how often each task succeeded and failed."""

    def __init__(self, engine: Any) -> None:
        super().__init__(engine, task_listen_for=[states.SUCCESS, states.FAILURE], flow_listen_for=[states.SUCCESS])
        self.score: dict[str, Counter[str]] = {}

    def _task_receiver(self, state: str, details: dict[str, Any]) -> None:
        self.score.setdefault(details["task_name"], Counter())[state] += 1

    def _flow_receiver(self, state: str, details: dict[str, Any]) -> None:
        print("over:", details["flow_name"])

    def _retry_receiver(self, state: str, details: dict[str, Any]) -> None:
        if state == states.RETRYING:
            print("once more, says", details["retry_name"])


class Aim(task.Task):
    def execute(self) -> None:
        pass


class Throw(task.Task):
    def execute(self, attempt: int) -> None:
        if attempt < 3:
            raise ValueError("missed")


def main() -> None:
    flow = linear_flow.Flow("darts", retry=retry.Times(3, name="player", provides="attempt"))
    engine = engines.load(flow.add(Aim("aim"), Throw("throw")))
    with Scoreboard(engine) as board:
        engine.run()
    for name, score in board.score.items():
        print(name, dict(score))


if __name__ == "__main__":
    main()

# Output:
#   once more, says player
#   once more, says player
#   over: darts
#   aim {'SUCCESS': 3}
#   throw {'FAILURE': 2, 'SUCCESS': 1}
