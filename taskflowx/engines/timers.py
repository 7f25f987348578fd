"""What a run does at a given time: a heap of moments, and the atoms that wait for one.

A run that waits for time alone has nothing else: no thread, no worker, no turn of the loop.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskflowx._util.clock import Clock

#: what a moment is for: the kind, and a number within it, mostly the index of an atom
Key = tuple[str, int]
#: an atom goes on then: a retry, or a revert that is tried again
ATOM = "atom"
#: so many entries of the heap may be over at any time
_FEW = 64


class Timers:
    """The moments of one run. A key has one moment at most: the last one that was set.

    :param clock: the time of the engine
    """

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        #: the time of `monotonic` of each key
        self.moments: dict[Key, float] = {}
        #: the same as a heap, with entries that are over: those with which `moments` does not agree
        self._heap: list[tuple[float, Key]] = []
        #: the atoms that wait
        self.parked: set[int] = set()

    def set(self, key: Key, due: float) -> None:
        """Set a moment, in the place of the one before.

        :param due: a time of `monotonic`
        """
        import heapq  # a run without moments does without it

        self.moments[key] = due
        heapq.heappush(self._heap, (due, key))
        if key[0] == ATOM:
            self.parked.add(key[1])
        if len(self._heap) > _FEW + 2 * len(self.moments):  # calls end long before their limits
            self._heap = sorted((due, key) for key, due in self.moments.items())

    def drop(self, key: Key) -> None:
        """Forget a moment, if it is set."""
        self.moments.pop(key, None)
        if key[0] == ATOM:
            self.parked.discard(key[1])

    def atoms_in(self, lo: int, hi: int) -> list[int]:
        """Return the atoms from `lo` to before `hi` that wait."""
        parked = self.parked
        if hi - lo < len(parked):
            return [i for i in range(lo, hi) if i in parked]
        return [i for i in parked if lo <= i < hi]

    def drop_atoms(self, lo: int, hi: int) -> None:
        """Forget the atoms from `lo` to before `hi` that wait."""
        for i in self.atoms_in(lo, hi):
            self.drop((ATOM, i))

    def next_due(self) -> float:
        """Return the next moment, a time of `monotonic`; infinity when there is none."""
        heap, moments = self._heap, self.moments
        if not heap:
            return math.inf
        import heapq  # as above

        while heap and moments.get(heap[0][1]) != heap[0][0]:
            heapq.heappop(heap)
        return heap[0][0] if heap else math.inf

    def fire(self, act: Callable[[Key], None]) -> None:
        """Act on each moment that has come, in order; it is forgotten once that is done: an interrupt loses none."""
        now = self.clock.monotonic()
        while True:
            if self.next_due() > now:
                return
            due, key = self._heap[0]
            act(key)
            if self.moments.get(key) == due:  # else it has been set again, or dropped
                self.drop(key)
