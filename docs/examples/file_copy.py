"""Progress: a task says how far it has come, to listeners of the task and into the record of the run.

Listeners of the task are called in the thread that runs it, so they should be quick. The last details stay in storage,
where somebody else can read them.
"""

from __future__ import annotations

from typing import Any

from taskflowx import engines, task
from taskflowx.patterns import linear_flow

CONTENT = b"x" * 1000
PIECE = 300  # bytes


class Copy(task.Task):
    """Copy piece by piece; the keywords of `update_progress` are details of one's own."""

    def execute(self, content: bytes) -> None:
        copied = b""
        while len(copied) < len(content):
            copied += content[len(copied) : len(copied) + PIECE]
            self.update_progress(len(copied) / len(content), copied=len(copied))


def show(event: str, details: dict[str, Any]) -> None:
    if "copied" in details:
        print(f"{event}: {details['progress']:4.0%}, {details['copied']} bytes")


def main() -> None:
    copy = Copy("copy")
    copy.notifier.register(task.EVENT_UPDATE_PROGRESS, show)
    engine = engines.load(linear_flow.Flow("files").add(copy), store={"content": CONTENT})
    engine.run()
    print("in storage:", engine.storage.get_task_progress("copy"), engine.storage.get_task_progress_details("copy"))


if __name__ == "__main__":
    main()

# Output:
#   update_progress:  30%, 300 bytes
#   update_progress:  60%, 600 bytes
#   update_progress:  90%, 900 bytes
#   update_progress: 100%, 1000 bytes
#   in storage: 1.0 {'at_progress': 1.0, 'details': {'copied': 1000}}
