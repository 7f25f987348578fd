"""A task class of one's own, for what all tasks of a project have in common.

`pre_execute`, `post_execute`, `pre_revert` and `post_revert` are called around the two methods. A base class that sets
them, a version and a naming scheme leaves only the work itself to its subclasses.
"""

from __future__ import annotations

from typing import Any, ClassVar

from taskflowx import engines, task
from taskflowx.patterns import linear_flow


class AuditedTask(task.Task):
    """Names itself after what it does, and keeps a trail of it."""

    trail: ClassVar[list[str]] = []
    version = (2, 1)  # a record made by tasks of another major version is not continued

    def __init__(self, subject: str, **kwargs: Any) -> None:
        super().__init__(name=f"{type(self).__name__.lower()} {subject}", **kwargs)

    def pre_execute(self) -> None:
        self.trail.append(f"begin: {self.name}")

    def post_execute(self) -> None:
        self.trail.append(f"done: {self.name}")

    def pre_revert(self) -> None:
        self.trail.append(f"undo: {self.name}")


class Open(AuditedTask):
    def execute(self) -> None:
        pass


class Sign(AuditedTask):
    def execute(self, signature: str) -> None:
        if not signature:
            raise ValueError("no signature")


def main() -> None:
    flow = linear_flow.Flow("contract").add(
        Open("lease"),
        Sign("lease", rebind={"signature": "tenant"}),
        Sign("copy of the lease", rebind={"signature": "landlord"}),
    )
    print(*(str(member) for member in flow), sep="\n")
    try:
        engines.run(flow, store={"tenant": "T. Dale", "landlord": ""})
    except ValueError as error:
        print("failed:", error)
    print(*AuditedTask.trail, sep="\n")


if __name__ == "__main__":
    main()

# Output:
#   "open lease==2.1"
#   "sign lease==2.1"
#   "sign copy of the lease==2.1"
#   failed: no signature
#   begin: open lease
#   done: open lease
#   begin: sign lease
#   done: sign lease
#   begin: sign copy of the lease
#   done: sign copy of the lease
#   undo: sign copy of the lease
#   undo: sign lease
#   undo: open lease
