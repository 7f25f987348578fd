"""Worker processes: one that dies costs the call that it was running, which is a failure like any other.

The parser of the second page crashes its process, as a faulty library does. The others are parsed, and the page is
told from them.
"""

from __future__ import annotations

import os

from taskflowx import engines, exceptions, task
from taskflowx.executors import processes
from taskflowx.patterns import unordered_flow

PAGES = ["cover", "broken", "index"]


class Parse(task.Task):
    def execute(self, page: str) -> int:
        if page == "broken":
            os.abort()
        return len(page)


def main() -> None:
    flow = unordered_flow.Flow("book").add(*(Parse(f"parse {page}", inject={"page": page}) for page in PAGES))
    with processes.ProcessPool(2) as pool:
        engine = engines.load(flow, engine="parallel", executor=pool, never_resolve=True)
        try:
            engine.run()
        except exceptions.WorkerLost as error:
            print(f"a process was lost to {error.signal}")
        for page in PAGES:
            print(f"{page}: {engine.storage.get_atom_state(f'parse {page}')}")


if __name__ == "__main__":
    main()

# Output:
#   a process was lost to SIGABRT
#   cover: SUCCESS
#   broken: FAILURE
#   index: SUCCESS
