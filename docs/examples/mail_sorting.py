"""A switch: deciders on the links of a graph flow say which branch is taken.

A decider is asked before its task would run, with the results of the linked tasks before it as `history`. When it says
no, the task and all that comes after it is ignored.
"""

from __future__ import annotations

from typing import Any

from taskflowx import engines, task
from taskflowx.patterns import graph_flow


class Read(task.Task):
    default_provides = "kind"

    def execute(self, letter: str) -> str:
        return "bill" if "owe" in letter else "advert" if "buy" in letter else "personal"


class Do(task.Task):
    def execute(self, letter: str) -> None:
        print(f"  {self.name}: {letter}")


def sorting_flow() -> graph_flow.Flow:
    read = Read("read")
    branches = {"bill": Do("pay"), "advert": Do("throw away"), "personal": Do("answer")}
    flow = graph_flow.Flow("mail").add(read, *branches.values())
    for kind, branch in branches.items():

        def is_of_kind(history: dict[str, Any], kind: str = kind) -> bool:
            return bool(history["read"] == kind)

        flow.link(read, branch, decider=is_of_kind)
    file = Do("file the receipt")
    flow.add(file)
    flow.link(branches["bill"], file)
    return flow


def main() -> None:
    for letter in ("you owe us 30", "buy two, pay one", "happy birthday"):
        engine = engines.load(sorting_flow(), store={"letter": letter})
        engine.run()
        ignored = [
            name
            for name in ("pay", "throw away", "answer", "file the receipt")
            if engine.storage.get_atom_state(name) == "IGNORE"
        ]
        print("  ignored:", ", ".join(ignored))


if __name__ == "__main__":
    main()

# Output:
#     pay: you owe us 30
#     file the receipt: you owe us 30
#     ignored: throw away, answer
#     throw away: buy two, pay one
#     ignored: pay, answer, file the receipt
#     answer: happy birthday
#     ignored: pay, throw away, file the receipt
