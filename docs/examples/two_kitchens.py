"""One executor for several engines: it limits how many calls run at once in all of them together.

An executor that the caller made is used as it is and left open. Any executor of `concurrent.futures` will do, or an
object with its interface.
"""

from __future__ import annotations

import threading
from concurrent import futures
from typing import TYPE_CHECKING

from taskflowx import Task, load, unordered

if TYPE_CHECKING:
    from taskflowx.patterns import unordered_flow

COOKS = 2


class Stove:
    """Counts how many dishes are on it at once."""

    def __init__(self) -> None:
        self.most = 0
        self._now = 0
        self._lock = threading.Lock()

    def __enter__(self) -> None:
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)

    def __exit__(self, *_: object) -> None:
        with self._lock:
            self._now -= 1


class Cook(Task):
    def execute(self, stove: Stove) -> str:
        with stove:
            return f"{self.name}, cooked by a {threading.current_thread().name.partition('_')[0]}"


def menu(name: str, *dishes: str) -> unordered_flow.Flow:
    return unordered(name, *(Cook(dish, provides=dish) for dish in dishes))


def main() -> None:
    stove = Stove()
    with futures.ThreadPoolExecutor(COOKS, thread_name_prefix="cook") as cooks, futures.ThreadPoolExecutor() as waiters:
        kitchens = [
            load(menu("lunch", "soup", "stew"), {"stove": stove}, executor=cooks),
            load(menu("dinner", "roast", "tart"), {"stove": stove}, executor=cooks),
        ]
        list(waiters.map(lambda kitchen: kitchen.run(), kitchens))  # both at the same time, each from its own thread
        print("the cooks are still there:", cooks.submit(str.upper, "yes").result())
    for kitchen, dishes in zip(kitchens, (["soup", "stew"], ["roast", "tart"]), strict=True):
        print([kitchen.storage.fetch(dish) for dish in dishes])
    print("never more at once than there are cooks:", stove.most <= COOKS)


if __name__ == "__main__":
    main()

# Output:
#   the cooks are still there: YES
#   ['soup, cooked by a cook', 'stew, cooked by a cook']
#   ['roast, cooked by a cook', 'tart, cooked by a cook']
#   never more at once than there are cooks: True
