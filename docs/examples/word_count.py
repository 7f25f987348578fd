"""Map and reduce: one function applied to many inputs, and another one that folds the results.

`MapFunctorTask` and `ReduceFunctorTask` make tasks of plain functions. The pages are given by name, and so are the
counts that lie between the two.
"""

from __future__ import annotations

from collections import Counter

from taskflowx import linear, run, task

PAGES = {
    "page_1": "the cat sat on the mat",
    "page_2": "the dog sat on the cat",
    "page_3": "the mat was on the dog",
}


def count(page: str) -> Counter[str]:
    return Counter(page.split())


def add_up(so_far: Counter[str], more: Counter[str]) -> Counter[str]:
    return so_far + more


def main() -> None:
    counts = [f"count of {name}" for name in PAGES]
    flow = linear(
        "words",
        task.MapFunctorTask(count, requires=PAGES, provides=counts),
        task.ReduceFunctorTask(add_up, requires=counts, provides="total"),
    )
    total = run(flow, PAGES)["total"]
    for word, times in sorted(total.items(), key=lambda pair: (-pair[1], pair[0])):
        print(times, word)


if __name__ == "__main__":
    main()

# Output:
#   6 the
#   3 on
#   2 cat
#   2 dog
#   2 mat
#   2 sat
#   1 was
