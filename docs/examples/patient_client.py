"""A retry of one's own: it looks at what went wrong, and decides whether another attempt makes sense.

`on_failure` decides, with the history of all attempts. What `execute` returns is for the tasks of the flow: here how
many seconds to wait, longer each time.
"""

from __future__ import annotations

from typing import Any

from taskflowx import engines, retry, task
from taskflowx.patterns import linear_flow


class Patience(retry.Retry):
    """Try again when the server is busy; an answer that will not change is final."""

    default_provides = "wait"

    def __init__(self, attempts: int, name: str | None = None) -> None:
        super().__init__(name)
        self._attempts = attempts

    def execute(self, history: retry.History, *args: Any, **kwargs: Any) -> float:
        return 2.0 ** len(history) - 1

    def on_failure(self, history: retry.History, *args: Any, **kwargs: Any) -> retry.Decision:
        if history.caused_by(PermissionError, index=-1):  # -1: in the latest attempt
            return retry.REVERT
        return retry.RETRY if len(history) < self._attempts else retry.REVERT


class Ask(task.Task):
    default_provides = "answer"

    def execute(self, wait: float, replies: list[Exception | str]) -> str:
        print(f"  ask after {wait} s")
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def ask(replies: list[Exception | str]) -> None:
    flow = linear_flow.Flow("question", retry=Patience(attempts=4)).add(Ask())
    try:
        print("  the answer is", engines.run(flow, store={"replies": replies})["answer"])
    except OSError as error:
        print("  given up:", error)


def main() -> None:
    busy = ConnectionError("busy")
    print("a busy server")
    ask([busy, busy, "42"])
    print("a server that does not know us")
    ask([busy, PermissionError("who are you?"), "42"])


if __name__ == "__main__":
    main()

# Output:
#   a busy server
#     ask after 0.0 s
#     ask after 1.0 s
#     ask after 3.0 s
#     the answer is 42
#   a server that does not know us
#     ask after 0.0 s
#     ask after 1.0 s
#     given up: who are you?
