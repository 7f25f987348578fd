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
from collections import deque
from typing import TYPE_CHECKING, Any

from distributed import SchedulerPlugin

from taskflowx.executors.dask import cargo
from taskflowx.executors.dask.ledger import Item, Ledger, Sent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: the name of the plug-in, and the prefix of its requests; it changes with the format of messages
NAME = "taskflowx-1"
#: seconds after which a listening client gets an answer even without news
BEAT = 2.0
#: seconds that a pump waits for calls before it gives up its slot
LINGER = 0.1


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
        self.answers: dict[str, tuple[int, Any]] = {}

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
        handlers: tuple[Callable[..., Any], ...] = (
            self.open, self.add, self.recall, self.listen, self.close_run,
            self.take, self.tell, self.over, self.put, self.get,
        )  # fmt: skip
        for handler in handlers:
            scheduler.handlers[f"{NAME}-{handler.__name__}"] = handler

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

    async def add(self, run: str, calls: Iterable[Sent], forget: Iterable[bytes]) -> bool:
        """Take calls, and forget blobs; returns whether the run is known."""
        one = self.runs.get(run)
        if one is None:
            return False
        for digest in forget:
            one.ledger.blobs.pop(digest, None)
        one.wake(one.ledger.add(calls))
        return True

    async def recall(self, run: str, numbers: Iterable[int]) -> list[int] | None:
        """Cancel calls; returns the numbers of those that never start."""
        one = self.runs.get(run)
        return None if one is None else one.ledger.recall(numbers)

    async def listen(self, run: str, confirmed: int) -> tuple[list[Any], int] | None:
        """Return reports of calls, and how many the cluster can run at once; None when the run is over."""
        one = self.runs.get(run)
        if one is None:
            return None
        one.ledger.confirm(confirmed)
        one.heard.clear()
        if not one.ledger.told:
            await _happens(one.heard, BEAT)
        return None if run not in self.runs else (one.ledger.first_told(cargo.PIECE), self._slots())

    async def close_run(self, run: str) -> None:
        """Close a run."""
        self._end(run)

    def _end(self, run: str) -> None:
        one = self.runs.pop(run, None)
        if one is not None:
            one.wake(len(one.waiting))
            one.heard.set()

    def _slots(self) -> int:
        return int(self._scheduler.total_nthreads)

    # -- pumps -------------------------------------------------------------------------------------

    async def take(
        self, run: str, pump: str, worker: str, turn: int, items: Iterable[Item], last: bool
    ) -> list[Sent] | None:
        """Record the outcomes of earlier calls, and start further ones; None when there are none for this pump.

        :param last: whether the pump takes no more
        """
        one = self._met(run, pump, worker)
        if one is None:
            return None
        if turn not in self._answer(one, pump):
            one.wake(one.ledger.settle(pump, items))
            if one.ledger.told:
                one.heard.set()
            if last:
                one.leave(pump)
                return None
        until = asyncio.get_running_loop().time() + LINGER
        while self.runs.get(run) is one and pump in one.ledger.workers:
            answer = self._answer(one, pump)
            if turn in answer:
                again: list[Sent] = answer[turn]
                return again
            calls = one.ledger.hand_out(pump)
            left = until - asyncio.get_running_loop().time()
            if calls:
                one.answers[pump] = turn, calls
                return calls
            if left <= 0:
                one.leave(pump)
                return None
            event = asyncio.Event()
            one.waiting.append(event)
            await _happens(event, left)
            with contextlib.suppress(ValueError):
                one.waiting.remove(event)
        return None

    async def tell(self, run: str, pump: str, worker: str, items: Iterable[Item]) -> None:
        """Record what a pump reports while a call runs."""
        one = self._met(run, pump, worker)
        if one is not None:
            one.wake(one.ledger.settle(pump, items))
            one.heard.set()

    async def over(self, run: str, pump: str) -> None:
        """Give up the calls of pumps that have ended without a report.

        :param pump: the prefix of their names
        """
        one = self.runs.get(run)
        for name in [] if one is None else list(one.ledger.workers):
            if one is not None and name.startswith(pump):
                one.leave(name)

    # -- both --------------------------------------------------------------------------------------

    async def put(self, run: str, key: bytes, at: int, piece: bytes, size: int) -> None:
        """Take a piece of a blob; pieces are small, so that each is answered soon on a slow network."""
        one = self.runs.get(run)
        if one is not None:
            one.ledger.put(key, at, piece, size)

    async def get(self, run: str, key: bytes, at: int) -> tuple[bytes, int] | None:
        """Return a piece of a blob, and the size of the blob in bytes; None when it is not here."""
        one = self.runs.get(run)
        blob = None if one is None else one.ledger.blobs.get(key)
        return None if blob is None else (bytes(memoryview(blob)[at : at + cargo.PIECE]), len(blob))

    def _met(self, run: str, pump: str, worker: str) -> _Run | None:
        """Return a run for one of its pumps; None where the run is over or the worker was given up."""
        one = self.runs.get(run)
        if one is None or worker not in self._scheduler.workers:
            return None
        one.ledger.meet(pump, worker)
        return one

    @staticmethod
    def _answer(one: _Run, pump: str) -> dict[int, Any]:
        return dict([one.answers[pump]]) if pump in one.answers else {}


async def _happens(event: asyncio.Event, seconds: float) -> None:
    """Wait for an event, for at most `seconds`."""
    with contextlib.suppress(TimeoutError):
        await asyncio.wait_for(event.wait(), seconds)
