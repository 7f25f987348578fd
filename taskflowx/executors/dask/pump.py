"""The pump: a Dask task on a worker that takes calls from the fence, one turn after another.

    fence ── calls ──→ pump: one call at a time ── progress, events, outcomes ──→ fence

A turn reports the outcomes of earlier calls and asks for further calls, in one request: so an outcome has reached the
scheduler before the next call starts, and a dead worker costs only the calls that it holds. It holds one call, or
several that are known to be short. If one of these takes long after all, the others are given back.

A pump ends when there are no calls for a while, and after `SLICE` seconds, so that other tasks get their turn. Dask may
run it again at any time: calls that it takes then have not started.
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import Any

import distributed
from distributed.core import Status
from distributed.utils import sync

from taskflowx import task
from taskflowx._util import logs
from taskflowx.executors import base, carried, noted, pickling
from taskflowx.executors.dask import cargo, fence, ledger
from taskflowx.types.failure import Failure

#: seconds after which a pump makes room for other tasks of the cluster
SLICE = 1.0
#: seconds after which a pump with a running call gives back the others that it holds
GIVE_BACK_AFTER = 2 * ledger.AT_ONCE
#: the timeout of a request in seconds, and the number of attempts
_LIMIT, _TRIES = 30.0, 3

LOG = logs.calm(__name__)

_blobs = cargo.Blobs()


def pump(run: str, name: str, variables: dict[str, bytes]) -> None:
    """Run calls of a run until there are no more for a while.

    :param name: the key of this Dask task
    :param variables: carried context variables
    """
    Pump(distributed.get_worker(), run, f"{name}/{uuid.uuid4().hex}", variables).work()


class Pump:
    """One pump.

    :param worker: the Dask worker
    :param run: the run
    :param name: the name of this pump, a new one each time that Dask runs it
    :param variables: carried context variables
    """

    def __init__(self, worker: Any, run: str, name: str, variables: dict[str, bytes]) -> None:
        self._worker = worker
        self._facts = {"run": run, "pump": name, "worker": worker.contact_address or worker.address}
        self._turn = 0
        self._items: list[ledger.Item] = []
        #: calls that were taken and have not started; the pump takes from the left, and gives back from the right
        self._ahead: deque[ledger.Sent] = deque()
        self._number, self._atom, self._at = 0, None, 0.0
        self._requests = asyncio.Lock()
        self._telling = self._making = False
        #: each call gets a copy of it
        self._context = contextvars.copy_context()
        self._context.run(task.PROGRESS.set, self._report)
        self._context.run(carried.put, variables)
        self._context.run(noted.WORKER.set, self._facts["worker"])

    def work(self) -> None:
        """Take calls and run them."""
        until = time.monotonic() + SLICE
        task.REPORTERS.append(self._reporter_of)
        try:
            while True:
                last = time.monotonic() >= until or self._worker.status is not Status.running
                calls = sync(self._worker.loop, self._take, last, callback_timeout=_LIMIT)
                if not calls:
                    return
                self._ahead.extend(calls)
                self._make_all()
        finally:
            task.REPORTERS.remove(self._reporter_of)

    def _make_all(self) -> None:
        """Run the calls that were taken."""
        self._at = time.monotonic()
        self._making = True
        if len(self._ahead) > 1:
            self._worker.loop.add_callback(self._look_after, self._turn)
        while self._ahead:
            try:
                call = self._ahead.popleft()
            except IndexError:  # the last one was given back just now
                break
            self._at = time.monotonic()
            self._make(call)
        self._making = False

    def _make(self, call: ledger.Sent) -> None:
        started = time.perf_counter_ns()
        number, _, _, body, digests = call
        self._number = number
        try:
            fetch = functools.partial(cargo.download, get=functools.partial(self._request, "get"))
            blobs = _blobs.get(digests, fetch) if digests else {}
            atom, verb, kwargs, listened = cargo.unpack(body, blobs.__getitem__)
        except Exception as error:
            error.add_note(
                "A worker of the cluster could not take the call: it must be able to import all that is in it"
            )
            self._put(ledger.NOT_BEGUN, pickling.dumps_afar(Failure.from_exception(error)))
            return
        self._atom = atom
        if listened:
            base.forward_events(atom, functools.partial(self._tell_now, ledger.EVENT))
        outcome: Any
        try:
            outcome = self._context.copy().run(base.perform, atom, verb, kwargs)
        except BaseException as error:
            self._put(ledger.EXITED, pickling.dumps_afar(pickling.exit_that_travels(error)))
        else:
            body = self._packed(atom, outcome)
            what = ledger.ENDED
            if len(body) > cargo.PIECE:
                what, key = ledger.APART, uuid.uuid4().bytes
                cargo.upload(key, body, functools.partial(self._request, "put"))
                body = key
            self._put(what, body, (time.perf_counter_ns() - started) // 1000)
        self._atom = None

    @staticmethod
    def _packed(atom: Any, outcome: Any) -> bytes:
        if outcome is None:
            return b""
        try:
            return pickling.dumps_afar(outcome)
        except Exception as error:
            return pickling.dumps_afar(Failure.from_exception(pickling.unsendable_result(atom.name, outcome, error)))

    # -- reports -----------------------------------------------------------------------------------

    def _put(self, what: int, body: bytes, microseconds: int = 0) -> None:
        self._items.append((self._number, what, body, microseconds))

    def _report(self, reporting: Any, details: dict[str, Any]) -> None:
        if reporting is self._atom:
            self._tell_now(ledger.PROGRESS, details)

    def _reporter_of(self, reporting: Any) -> Callable[[Any, dict[str, Any]], None] | None:
        return self._report if reporting is self._atom else None

    def _tell_now(self, what: int, value: Any) -> None:
        """Report at once while the call runs; reports that arrive meanwhile are sent along."""
        self._put(what, pickling.dumps_afar(value))
        if not self._telling:
            self._telling = True
            self._worker.loop.add_callback(self._tell)

    async def _tell(self) -> None:
        async with self._requests:
            self._telling = False
            if self._items:
                try:
                    await self._ask("tell")
                except Exception as error:  # the worker ends, or the next turn reports it
                    LOG.debug("A report of a call could not be sent: %r", error)

    async def _look_after(self, turn: int) -> None:
        """If one of several calls takes long, report the outcomes before it, and give back the calls behind it."""
        while self._turn == turn and self._making:
            left = self._at + GIVE_BACK_AFTER - time.monotonic()
            if left > 0:
                await asyncio.sleep(left)
                continue
            back = []
            while self._ahead:
                back.append((self._ahead.pop()[0], ledger.BACK, b"", 0))
            self._items.extend(reversed(back))
            await self._tell()
            return

    # -- requests ----------------------------------------------------------------------------------

    async def _take(self, last: bool) -> Any:
        async with self._requests:
            self._turn += 1
            return await self._ask("take", turn=self._turn, last=last)

    def _request(self, what: str, **message: Any) -> Any:
        """Make a request about a blob, in the pump's thread."""

        async def ask() -> Any:
            return await self._again(what, run=self._facts["run"], **message)

        return sync(self._worker.loop, ask, callback_timeout=_LIMIT)

    async def _ask(self, what: str, **message: Any) -> Any:
        """Make a request that carries all reports so far."""
        items = self._items[:]  # other threads may add more meanwhile
        answer = await self._again(what, **self._facts, items=items, **message)
        del self._items[: len(items)]
        return answer

    async def _again(self, what: str, **message: Any) -> Any:
        """Make a request, with retries after a lost connection: it is answered once."""
        request = getattr(self._worker.scheduler, f"{fence.NAME}-{what}")
        for left in reversed(range(_TRIES)):
            try:
                return await request(**message)
            except OSError:
                if not left:
                    raise
        return None


def begin(run: str, name: str, variables: dict[str, bytes]) -> None:
    """Run a pump: the function that Dask is given."""
    from taskflowx.executors.dask import pump  # noqa: PLW0406 - the function alone is sent

    pump.pump(run, name, variables)


# Functions of the main module are pickled by value. A worker that cannot import a function pickled by reference ends;
# this one fails there as a task does, and the run reports the reason.
begin.__module__ = "__main__"
