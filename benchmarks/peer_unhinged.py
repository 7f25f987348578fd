"""Runs a task of many steps on unhinged, in a SQLite file, and prints how many seconds of processor time it took."""

import sys
import time
from typing import Any

from unhinged import Unhinged  # type: ignore[import-not-found]


def run(steps: int, path: str) -> float:
    """Return how many seconds of processor time a chain of steps takes."""
    app = Unhinged(path)

    @app.register_task("chain")  # type: ignore[untyped-decorator]
    def chain(params: dict[str, int], ctx: Any) -> None:
        for number in range(params["steps"]):
            ctx.step(f"step {number}", lambda: 1)

    app.create_queue()
    app.spawn("chain", {"steps": 10})  # so that what is worked out once is not counted
    app.run_until_idle()
    app.spawn("chain", {"steps": steps})
    started = time.process_time()
    ran = app.run_until_idle()
    seconds = time.process_time() - started
    assert ran == 1, ran
    app.close()
    return seconds


if __name__ == "__main__":
    print(run(int(sys.argv[1]), sys.argv[2]))
