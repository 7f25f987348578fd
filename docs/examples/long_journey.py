"""Suspending: a run is stopped on its way, and goes on later from where it was.

`engine.suspend()` may be called from anywhere: another thread, a signal handler, a listener, or a task as here. What
runs is let finish, nothing new starts, and `run` returns. Calling it again goes on; nothing is done twice.
"""

from __future__ import annotations

from typing import Any

from taskflowx import Task, linear, load


class Walk(Task):
    def execute(self) -> None:
        print("walk to", self.name)


def main() -> None:
    places = ["the mill", "the bridge", "the inn", "the castle"]
    engine = load(linear("journey", *map(Walk, places)))

    def rest_at_the_inn(state: str, details: dict[str, Any]) -> None:
        if details["task_name"] == "the inn":
            engine.suspend()

    engine.atom_notifier.register("SUCCESS", rest_at_the_inn)
    engine.run()
    print("the journey is", engine.storage.get_flow_state())
    print("not begun:", [place for place in places if engine.storage.get_atom_state(place) == "PENDING"])

    engine.run()
    print("the journey is", engine.storage.get_flow_state())


if __name__ == "__main__":
    main()

# Output:
#   walk to the mill
#   walk to the bridge
#   walk to the inn
#   the journey is SUSPENDED
#   not begun: ['the castle']
#   walk to the castle
#   the journey is SUCCESS
