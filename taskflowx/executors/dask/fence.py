"""The fence: a plug-in of the Dask scheduler that keeps a ledger for each run.

    engine ── add, recall ──→ fence ←── take, tell ── pump, a task on a worker
    engine ←── listen ────── fence ── calls ──→ pump

All of these are requests with answers, which a client or a worker may repeat when an answer was lost: each carries its
position, and gets the same answer again. Everything here runs in the scheduler's event loop, so no locks are needed.

A run ends with its client. A worker that the scheduler gives up gets no more calls, though it may continue its running
call: the outcome of that is ignored, as the call counts as lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from distributed import SchedulerPlugin

from taskflowx.executors.dask import cargo
from taskflowx.executors.dask.ledger import Item, Ledger, Sent

#: the name of the plug-in, and the prefix of its requests; it changes with the format of messages
NAME = "taskflowx-1"
#: seconds after which a listening client gets an answer even without news
BEAT = 2.0
#: seconds that a pump waits for calls before it gives up its slot
LINGER = 0.1
_UNANSWERED: tuple[int, list[Sent]] = (0, [])  # turns are counted from 1


class _Run:
    """One run.

    :param client: the client that it ends with
    :param most: the maximum number of concurrent calls
    """

    def __init__(self, client: str, most: int | None) -> None:
        self.client = client
        self.ledger = Ledger(most)
        self.heard = asyncio.Event()
        #: pumps that wait for calls
        self.waiting: deque[asyncio.Event] = deque()
        #: pump -> its last turn and the answer to it
        self.answers: dict[str, tuple[int, list[Sent]]] = {}
        self.is_over = False

    def wake(self, count: int) -> None:
        """Let `count` pumps look for calls."""
        while self.waiting and count > 0:
            self.waiting.popleft().set()
            count -= 1

    def leave(self, pump: str) -> None:
        """Record that a pump has ended, so that another one may take its slot."""
        self.ledger.leave(pump)
        self.answers.pop(pump, None)
        self.wake(len(self.waiting))
        self.heard.set()


class Fence(SchedulerPlugin):
    """The ledgers of the runs in progress."""

    name = NAME
    idempotent = True

    def __init__(self) -> None:
        self.runs: dict[str, _Run] = {}
        self._scheduler: Any = None

    async def start(self, scheduler: Any) -> None:
        """Register the handlers of requests."""
        self._scheduler = scheduler
        scheduler.handlers |= {f"{NAME}-open": self.open, f"{NAME}-close_run": self.close_run}
        for name in ("add", "recall", "give_up", "listen", "take", "tell", "over", "put", "get"):
            scheduler.handlers[f"{NAME}-{name}"] = self._of_run(getattr(self, name))

    def _of_run(self, handler: Callable[..., Any]) -> Callable[..., Any]:
        """Return a handler of requests about a run; it answers None when that is over, or unknown."""

        @functools.wraps(handler)
        async def answer(run: str, **message: Any) -> Any:
            return await handler(self.runs[run], **message) if run in self.runs else None

        return answer

    def remove_worker(self, scheduler: Any, worker: str, **_: Any) -> None:
        """Give up the calls of a dead worker."""
        for run in self.runs.values():
            for pump in run.ledger.pumps_of(worker):
                run.leave(pump)

    def remove_client(self, scheduler: Any, client: str) -> None:
        """End the runs of a client that has left."""
        for name in [name for name, run in self.runs.items() if run.client == client]:
            self._end(name)

    # -- the client --------------------------------------------------------------------------------

    async def open(self, run: str, client: str, most: int | None) -> int:
        """Open a run; returns how many calls the cluster can run at once."""
        if run not in self.runs:
            self.runs[run] = _Run(client, most)
        return self._slots()

    async def add(self, run: _Run, calls: Iterable[Sent], forget: Iterable[bytes]) -> bool:
        """Take calls, and forget blobs; returns True, as the run is known."""
        for digest in forget:
            run.ledger.blobs.pop(digest, None)
        run.wake(run.ledger.add(calls))
        return True

    async def recall(self, run: _Run, numbers: Iterable[int]) -> list[int]:
        """Cancel calls; returns the numbers of those that never start."""
        return run.ledger.recall(numbers)

    async def give_up(self, run: _Run, number: int) -> str | None:
        """Settle that a call is over; returns the pump that holds it, or what `Ledger.give_up` says."""
        pump = run.ledger.give_up(number)
        if pump is not None:
            run.wake(len(run.ledger.waiting))  # where the number of calls is limited, there is room for another one
        return pump

    async def listen(self, run: _Run, confirmed: int) -> tuple[list[Any], int] | None:
        """Return reports of calls, and how many the cluster can run at once; None when the run is over."""
        run.ledger.confirm(confirmed)
        run.heard.clear()
        if not run.ledger.told:
            await _happens(run.heard, BEAT)
        return None if run.is_over else (run.ledger.first_told(cargo.PIECE), self._slots())

    async def close_run(self, run: str) -> None:
        """Close a run."""
        self._end(run)

    def _end(self, run: str) -> None:
        one = self.runs.pop(run, None)
        if one is not None:
            one.is_over = True
            one.wake(len(one.waiting))
            one.heard.set()

    def _slots(self) -> int:
        return int(self._scheduler.total_nthreads)

    # -- pumps -------------------------------------------------------------------------------------

    async def take(
        self, run: _Run, pump: str, worker: str, turn: int, items: Iterable[Item], last: bool
    ) -> list[Sent] | None:
        """Record the outcomes of earlier calls, and start further ones; None when there are none for this pump.

        :param last: whether the pump takes no more
        """
        if not self._meets(run, pump, worker):
            return None
        if run.answers.get(pump, _UNANSWERED)[0] != turn:
            run.wake(run.ledger.settle(pump, items))
            if run.ledger.told:
                run.heard.set()
            if last:
                run.leave(pump)
                return None
        until = asyncio.get_running_loop().time() + LINGER
        while not run.is_over and pump in run.ledger.workers:
            answered, again = run.answers.get(pump, _UNANSWERED)
            if answered == turn:
                return again
            calls = run.ledger.hand_out(pump)
            left = until - asyncio.get_running_loop().time()
            if calls:
                run.answers[pump] = turn, calls
                return calls
            if left <= 0:
                run.leave(pump)
                return None
            event = asyncio.Event()
            run.waiting.append(event)
            await _happens(event, left)
            with contextlib.suppress(ValueError):
                run.waiting.remove(event)
        return None

    async def tell(self, run: _Run, pump: str, worker: str, items: Iterable[Item]) -> None:
        """Record what a pump reports while a call runs."""
        if self._meets(run, pump, worker):
            run.wake(run.ledger.settle(pump, items))
            run.heard.set()

    async def over(self, run: _Run, pump: str) -> None:
        """Give up the calls of pumps that have ended without a report.

        :param pump: the prefix of their names
        """
        for name in list(run.ledger.workers):
            if name.startswith(pump):
                run.leave(name)

    def _meets(self, run: _Run, pump: str, worker: str) -> bool:
        """Record that a pump runs, unless its worker was given up; returns whether it does."""
        is_there = worker in self._scheduler.workers
        if is_there:
            run.ledger.meet(pump, worker)
        return is_there

    # -- both --------------------------------------------------------------------------------------

    async def put(self, run: _Run, key: bytes, at: int, piece: bytes, size: int) -> None:
        """Take a piece of a blob; pieces are small, so that each is answered soon on a slow network."""
        run.ledger.put(key, at, piece, size)

    async def get(self, run: _Run, key: bytes, at: int) -> tuple[bytes, int] | None:
        """Return a piece of a blob, and the size of the blob in bytes; None when it is not here."""
        blob = run.ledger.blobs.get(key)
        return None if blob is None else (bytes(memoryview(blob)[at : at + cargo.PIECE]), len(blob))


async def _happens(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, for at most `seconds`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
