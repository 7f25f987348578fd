"""Flow factories: the record says how its flow is made, so that another program can go on without knowing the flow.

`load_from_factory` keeps the name of a function and its arguments; `load_from_detail` calls it again. The function has
to be one that can be imported, and the arguments have to be ones that can be stored.
"""

from __future__ import annotations

import contextlib
import tempfile

from taskflowx import engines, task
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models


class Write(task.Task):
    default_provides = "letter"

    def execute(self, greeting: str) -> str:
        return f"{greeting}, all is well here."


class Post(task.Task):
    def execute(self, letter: str, stamps: int) -> None:
        if not stamps:
            raise LookupError("there are no stamps left")
        print("posted:", letter)


def letter_flow(greeting: str, copies: int = 1) -> linear_flow.Flow:
    """Make the flow; this is the factory."""
    flow = linear_flow.Flow("letter").add(Write("write", inject={"greeting": greeting}))
    return flow.add(*(Post(f"post copy {number}") for number in range(1, copies + 1)))


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, backends.backend({"connection": "dir", "path": folder}) as backend:
        engine = engines.load_from_factory(
            "letter_factory.letter_flow",  # or the function itself, where it is not in the program that is run
            factory_args=["Dear aunt"],
            factory_kwargs={"copies": 2},
            store={"stamps": 0},
            book=models.LogBook("post"),
            backend=backend,
        )
        try:
            engine.run()
        except LookupError as error:
            print("failed:", error)

        with contextlib.closing(backend.get_connection()) as connection:
            [book] = connection.get_logbooks()
        [record] = book
        print("found:", record.name, record.state, "made by", record.meta["factory"]["name"])
        engine = engines.load_from_detail(record, store={"stamps": 10}, backend=backend)
        engine.run()
        print("now:", engine.storage.get_flow_state())


if __name__ == "__main__":
    main()

# Output:
#   failed: there are no stamps left
#   found: letter REVERTED made by letter_factory.letter_flow
#   posted: Dear aunt, all is well here.
#   posted: Dear aunt, all is well here.
#   now: SUCCESS
