"""Testing a flow: calls end in the order that the test says, without threads and without waiting.

`ScriptedExecutor` holds each call until it is released, so a test can try any order. `Recorder` keeps what happened,
and `failures_regexp` expects a run to fail.
"""

from __future__ import annotations

from taskflowx import engines, task, testing
from taskflowx.patterns import unordered_flow


class Enter(task.Task):
    def execute(self, stage: list[str]) -> None:
        if len(stage) == 1 and self.name == "ghost":
            raise RuntimeError("too early for a ghost")
        stage.append(self.name)

    def revert(self, stage: list[str]) -> None:
        if self.name in stage:
            stage.remove(self.name)


def play(order: list[str]) -> tuple[testing.Recorder, list[str]]:
    """Let the actors enter in an order; returns what was recorded, and who is on the stage in the end."""
    flow = unordered_flow.Flow("play").add(*(Enter(name) for name in ("king", "queen", "ghost")))
    stage: list[str] = []
    executor = testing.ScriptedExecutor()
    engine = engines.load(flow, store={"stage": stage}, executor=executor)
    with testing.Recorder(engine) as seen:
        executor.run(engine, order=order)
    return seen, stage


def main() -> None:
    seen, stage = play(["queen", "king", "ghost"])
    print("in this order:", stage)
    assert seen.names("SUCCESS") == ["queen", "king", "ghost", "play"]

    with testing.failures_regexp(RuntimeError, "too early"):
        play(["king", "ghost", "queen"])
    print("and in that one it fails, as it should")


if __name__ == "__main__":
    main()

# Output:
#   in this order: ['queen', 'king', 'ghost']
#   and in that one it fails, as it should
