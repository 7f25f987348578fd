"""A keyword that `Task` does not have, or of another type."""

from __future__ import annotations

from taskflowx import Task


class Step(Task[int]):
    def execute(self) -> int:
        return 1


Step("a", provide="b")  # wrong, but for ty
Step("a", provides=3)  # wrong
Step("a", rebind="size")  # wrong
Step("a", inject=["size"])  # wrong
Step("a", pure="yes")  # wrong
Step(3)  # wrong
Step("a", timeout="5")  # wrong
Step("a", tiemout=5)  # wrong, but for ty
Step("a", retry=3)  # wrong
Step("a", limits=3)  # wrong
Step("a", on_unknown=3)  # wrong
