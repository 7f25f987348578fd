"""A retry of one's own: it looks at the failure, and decides whether and when another attempt makes sense.

`on_failure` decides, with the history of all attempts. `retry.again(after=...)` has the next one wait; nothing is held
meanwhile. Here the clock is one of tests, so that the program waits without taking time.
"""

from __future__ import annotations

from typing import Any

from taskflowx import engines, retry, task, testing
from taskflowx.patterns import linear_flow


class Patience(retry.Retry):
    """Try again when the server is busy, each time later; an answer that will not change is final."""

    def __init__(self, attempts: int, name: str | None = None) -> None:
        super().__init__(name)
        self._attempts = attempts

    def execute(self, *args: Any, **kwargs: Any) -> None:
        """Provide nothing."""

    def on_failure(self, history: retry.History, *args: Any, **kwargs: Any) -> retry.Decision:
        if history.caused_by(PermissionError, index=-1):  # -1: in the latest attempt
            return retry.REVERT
        return retry.again(after=2.0 ** len(history)) if len(history) < self._attempts else retry.REVERT


class Ask(task.Task):
    default_provides = "answer"

    def execute(self, clock: testing.VirtualClock, replies: list[Exception | str]) -> str:
        print(f"  ask after {clock.monotonic():g} s")
        reply = replies.pop(0)
        if isinstance(reply, Exception):
            raise reply
        return reply


def ask(replies: list[Exception | str]) -> None:
    flow = linear_flow.Flow("question", retry=Patience(attempts=4)).add(Ask())
    clock = testing.VirtualClock()
    try:
        print("  the answer is", engines.run(flow, store={"replies": replies, "clock": clock}, clock=clock)["answer"])
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
#     ask after 0 s
#     ask after 2 s
#     ask after 6 s
#     the answer is 42
#   a server that does not know us
#     ask after 0 s
#     ask after 2 s
#     given up: who are you?
