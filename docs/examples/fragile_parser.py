"""Worker processes: one that dies costs the call that it was running, which is a failure like any other.

The parser of the second page crashes its process, as a faulty library does. The others are parsed, and the page is
told from them.
"""

from __future__ import annotations

import os

from taskflowx import as_task, exceptions, load, unordered
from taskflowx.executors import processes

PAGES = ["cover", "broken", "index"]


@as_task
def parse(page: str) -> int:
    if page == "broken":
        os.abort()
    return len(page)


def main() -> None:
    flow = unordered("book", *(parse.named(f"parse {page}", provides=page, inject={"page": page}) for page in PAGES))
    with processes.ProcessPool(2) as pool:
        engine = load(flow, executor=pool, never_resolve=True)
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
