"""Five ways to give values to tasks, from the widest to the narrowest.

`store` and `inject` are for all tasks and part of the record of the run. What is injected as transient is used and
forgotten, which is right for connections, locks and secrets. `inject_atom_args` and a task's own `inject` are for one
task alone, and win over all others.
"""

from __future__ import annotations

from taskflowx import engines, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import models


class Outbox:
    """Stands for a connection to a mail server: nothing to be stored."""

    def send(self, text: str) -> None:
        print(text)


class Write(task.Task):
    def execute(self, outbox: Outbox, name: str, greeting: str, sender: str) -> None:
        outbox.send(f"{greeting} {name}, see you soon. {sender}")


def main() -> None:
    flow = linear_flow.Flow("letters").add(
        Write("to Ada", inject={"name": "Ada"}),
        Write("to Ben", inject={"name": "Ben", "greeting": "Hi"}),
        Write("to Cleo", inject={"name": "Cleo"}),
    )
    book = models.LogBook("letters")
    engine = engines.load(flow, store={"greeting": "Dear"}, book=book)
    engine.compile()
    engine.prepare()  # from here on storage knows the tasks by name
    engine.storage.inject({"sender": "Yours, Dan"})
    engine.storage.inject({"outbox": Outbox()}, transient=True)
    engine.storage.inject_atom_args("to Cleo", {"greeting": "Dearest"})
    engine.run()

    [record] = book
    [kept] = [detail for detail in record if detail.name == engine.storage.injector_name]
    print("kept in the record:", ", ".join(sorted(kept.results)))


if __name__ == "__main__":
    main()

# Output:
#   Dear Ada, see you soon. Yours, Dan
#   Hi Ben, see you soon. Yours, Dan
#   Dearest Cleo, see you soon. Yours, Dan
#   kept in the record: greeting, sender
