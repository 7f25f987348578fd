"""How far a decider's no reaches: the four depths.

A train stops at its stations in a line; one of them is closed. The depth says which others are skipped with it.
"""

from __future__ import annotations

from typing import Any

from taskflowx import deciders, engines, task
from taskflowx.patterns import graph_flow, linear_flow

STATIONS = ("Alder", "Birch", "Cedar", "Elm")


class Stop(task.Task):
    def execute(self) -> None:
        pass


def is_open(history: dict[str, Any]) -> bool:
    """Decide on Birch, with the results of what is linked to it so far."""
    return False


def stops(depth: deciders.Depth) -> list[str]:
    """Run the line on which Birch is closed; returns where the train stopped."""
    alder, birch, cedar, elm = (Stop(name) for name in STATIONS)
    line = graph_flow.Flow("line").add(alder, birch, cedar, elm)
    line.link(alder, birch, decider=is_open, decider_depth=depth)
    line.link(birch, cedar)
    line.link(cedar, elm)
    engine = engines.load(linear_flow.Flow("night").add(line, Stop("depot")))
    engine.run()
    return [name for name in (*STATIONS, "depot") if engine.storage.get_atom_state(name) == "SUCCESS"]


def main() -> None:
    for depth in deciders.Depth:
        print(f"{depth.value:9}", ", ".join(stops(depth)))


if __name__ == "__main__":
    main()

# Output:
#   ALL       Alder
#   FLOW      Alder, depot
#   NEIGHBORS Alder, Elm, depot
#   ATOM      Alder, Cedar, Elm, depot
