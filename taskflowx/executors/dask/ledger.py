"""The ledger of a run: the place of each call, so that each call starts once.

The Dask scheduler keeps a ledger for each run, as it outlives every worker. A call is waiting, or held by one pump, or
over. What must stay true:

- A call is dispatched to one pump. Only the pump that holds it reports its outcome; other reports are ignored.
- A call that is held by a pump whose worker is dead may have started. It is lost, and is not dispatched again, unless
  it is pure: a pure call is requeued, a few times at most.
- A call that was cancelled before it arrived here is rejected when it arrives: numbers only increase, and those up to
  `top` are settled.

There is no Dask and no clock here: each method is one transition from one state to the next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

#: number, kind, whether it is pure, body, digests of the blobs that it needs
Sent = tuple[int, int, bool, bytes, tuple[bytes, ...]]
#: a report of a call: its number, one of the words below, a body, microseconds
Item = tuple[int, int, bytes, int]

#: reports of a call: an outcome; an exception that is no `Exception`; that it did not start, and why
ENDED, EXITED, NOT_BEGUN = 1, 2, 3
#: progress; an event; that it is given back, as it has not started; that its worker is lost; that a pump has ended
PROGRESS, EVENT, BACK, LOST, LEFT = 4, 5, 6, 7, 8
#: an outcome that was put here as a blob; the body is its key
APART = 9
_LAST = frozenset((ENDED, APART, EXITED, NOT_BEGUN))

#: seconds of work that a pump is given at once, of calls that are known to be short, and their maximum number
AT_ONCE, MOST = 0.005, 128
#: the most repeats of a pure call whose worker is lost: the call itself may kill its workers
REPEATS = 3


class Ledger:
    """The calls of one run.

    :param most: the maximum number of concurrent calls; None for no limit
    """

    def __init__(self, most: int | None = None) -> None:
        self.most = most
        #: the highest number that was seen or settled
        self.top = 0
        #: number -> call, of those that are not over
        self.calls: dict[int, Sent] = {}
        self.waiting: deque[int] = deque()
        #: pump -> the numbers of the calls that it holds
        self.held: dict[str, dict[int, None]] = {}
        #: pump -> the address of its worker
        self.workers: dict[str, str] = {}
        #: kind -> estimated seconds of a call
        self.seconds: dict[int, float] = {}
        #: number -> how often its worker was lost
        self.losses: dict[int, int] = {}
        #: reports that the client has not confirmed, each with its position in the order
        self.told: deque[tuple[int, int, int, bytes]] = deque()
        self._place = 0
        #: the numbers of calls that are over, until the client has confirmed it
        self._ending: set[int] = set()
        #: key -> large parts of calls, and large results; some are still incomplete
        self.blobs: dict[bytes, bytearray] = {}
        self._partial: dict[bytes, bytearray] = {}

    # -- the client --------------------------------------------------------------------------------

    def add(self, calls: Iterable[Sent]) -> int:
        """Take calls; returns how many are new."""
        new = 0
        for call in calls:
            if call[0] > self.top:
                self.top = call[0]
                self.calls[call[0]] = call
                self.waiting.append(call[0])
                new += 1
        return new

    def recall(self, numbers: Iterable[int]) -> list[int]:
        """Settle that calls never start; returns the numbers of those that have not started."""
        held = {number for numbers_of_pump in self.held.values() for number in numbers_of_pump}
        back = [number for number in numbers if number not in held and number not in self._ending]
        for number in back:
            self.calls.pop(number, None)
            self.top = max(self.top, number)
        self.waiting = deque(number for number in self.waiting if number in self.calls)
        return back

    def give_up(self, number: int) -> str | None:
        """Settle that a call is over, whatever comes of it: its report is ignored, and it is not dispatched again.

        Returns the pump that holds it, an empty text if it waits for one, or None if it has ended.
        """
        for pump, held in self.held.items():
            if number in held:
                self._end(held, number)
                return pump
        return "" if self.recall([number]) else None

    def confirm(self, place: int) -> None:
        """Forget reports that the client has received, up to a position in the order."""
        told = self.told
        while told and told[0][0] <= place:
            _, number, what, body = told.popleft()
            self._ending.discard(number)
            if what == APART:
                self.blobs.pop(body, None)

    def put(self, key: bytes, at: int, piece: bytes, size: int) -> None:
        """Take a piece of a blob; a repeated piece is ignored.

        :param at: how many bytes precede it
        :param size: the size of the blob in bytes
        """
        if key in self.blobs:
            return
        partial = self._partial.setdefault(key, bytearray())
        if at == len(partial):
            partial += piece
        if len(partial) == size:
            self.blobs[key] = self._partial.pop(key)

    def first_told(self, size: int) -> list[tuple[int, int, int, bytes]]:
        """Return the first unconfirmed reports, up to about `size` bytes."""
        first = []
        for item in self.told:
            first.append(item)
            size -= len(item[3])
            if size <= 0:
                break
        return first

    # -- pumps -------------------------------------------------------------------------------------

    def meet(self, pump: str, worker: str) -> None:
        """Record that a pump runs."""
        if pump not in self.workers:
            self.workers[pump] = worker
            self.held[pump] = {}

    def hand_out(self, pump: str) -> list[Sent]:
        """Dispatch calls: one, or several that are known to be short."""
        held, waiting = self.held.get(pump), self.waiting
        given: list[Sent] = []
        if held is None or not waiting:
            return []
        if self.most is not None and not held and sum(map(bool, self.held.values())) >= self.most:
            return []
        share = min(MOST, -(-len(waiting) // (2 * len(self.held))))
        load = 0.0
        while waiting and len(given) < share:
            call = self.calls[waiting[0]]
            seconds = self.seconds.get(call[1], AT_ONCE)
            if given and load + seconds > AT_ONCE:
                break
            load += seconds
            held[waiting.popleft()] = None
            given.append(call)
        return given

    def settle(self, pump: str, items: Iterable[Item]) -> int:
        """Record a pump's reports of the calls that it holds; returns how many calls are requeued."""
        held = self.held.get(pump)
        back: list[int] = []
        if held is None:
            return 0
        for number, what, body, microseconds in items:
            if number not in held:
                continue
            if what == BACK:
                del held[number]
                back.append(number)
                self._learn(number, AT_ONCE)
                continue
            if what in _LAST:
                if what in (ENDED, APART):
                    self._learn(number, microseconds * 1e-6)
                self._end(held, number)
            self._tell(number, what, body)
        self.waiting.extendleft(reversed(back))
        return len(back)

    def leave(self, pump: str) -> int:
        """Record that a pump has ended: the calls that it holds are lost; returns how many calls are requeued."""
        worker, held = self.workers.pop(pump, ""), self.held.pop(pump, {})
        again = []
        for number in list(held):
            losses = self.losses[number] = self.losses.get(number, 0) + 1
            if self.calls[number][2] and losses <= REPEATS:
                again.append(number)
            else:
                self._end(held, number)
                self._tell(number, LOST, worker.encode())
        self.waiting.extendleft(reversed(again))
        self._tell(0, LEFT, pump.encode())
        return len(again)

    def pumps_of(self, worker: str) -> list[str]:
        """Return the pumps of a worker."""
        return [pump for pump, address in self.workers.items() if address == worker]

    def _end(self, held: dict[int, None], number: int) -> None:
        del held[number], self.calls[number]
        self._ending.add(number)

    def _learn(self, number: int, seconds: float) -> None:
        """Update the estimated duration of a kind: it rises to the slowest at once, and falls gradually."""
        call = self.calls.get(number)
        if call is not None:
            before = self.seconds.get(call[1], 0.0)
            self.seconds[call[1]] = seconds if seconds > before else before + (seconds - before) / 8

    def _tell(self, number: int, what: int, body: bytes) -> None:
        self._place += 1
        self.told.append((self._place, number, what, body))
