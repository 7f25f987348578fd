"""Runs calls on a cluster of Dask.

    scheduler ── submit ──→ fence, in the scheduler of the cluster ──→ pumps: Dask tasks on the workers
        ↑                                                                            │
        └── queue ←── hearing, a thread ←── listen ←── fence ←── outcomes, progress ─┘

Dask decides on which workers the pumps of a run are, and the fence which call begins in which pump. What must
stay true:

- A call is in `pending` from before it is sent until it was delivered or taken back; whoever takes it out decides.
- When the cluster is lost, or the client was closed, the run is left as by an interrupt: nobody can tell how far its
  calls have come, and they are made again, as a further attempt, when the flow goes on.
- A run leaves nothing on the cluster: neither keys nor a ledger.
"""

from __future__ import annotations

import functools
import itertools
import pickle
import threading
import time
import uuid
from collections import deque
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states, task
from taskflowx._util import logs
from taskflowx.executors import base, pickling
from taskflowx.executors.dask import cargo, fence, ledger
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager

LOG = logs.calm(__name__)

#: seconds that an answer may take, and for which a request is made again when the connection was lost
LIMIT, PATIENCE = 7.0, 3.0
#: seconds between such requests
_PAUSE = 0.2
#: seconds without workers after which that is said, or the run is given up
_WITHOUT_WORKERS = 10.0
#: what a client says of itself when it was closed
_CLOSED = ("closed", "closing")
#: so many pumps in a row may fail before the run is given up
_STILLBORN = 3


class DaskExecutor(base.Executor):
    """Runs the calls of one run at a time on a cluster.

    :param connect: gives a client of `distributed` for the time of a run
    :param max_workers: how many calls may be under way at once; None for as many as the cluster has threads
    :param options: what `Client.submit` is told of the Dask tasks in which calls are made, such as `resources`
    :param client: the client that `connect` will give, where that is known
    :param grows: whether workers may still come when there are none; otherwise the cluster is lost then
    """

    pickles = True
    shares_memory = False
    is_remote = True

    def __init__(
        self,
        connect: Callable[[], AbstractContextManager[Any]],
        max_workers: int | None = None,
        options: dict[str, Any] | None = None,
        *,
        client: Any = None,
        grows: bool = True,
    ) -> None:
        self._connect = connect
        self._client = client
        self._grows = grows
        self._max_workers = max_workers
        self._options = options or {}
        self._connection: AbstractContextManager[Any] | None = None
        self._run: _Run | None = None

    def dumps(self, part: Any) -> bytes:
        """Pickle a part of an atom as for a worker: with cloudpickle what its process cannot import."""
        return pickling.dumps_afar(part)

    def check_start(self) -> None:
        """Refuse to run on a client that was closed.

        :raises RuntimeError: when it is
        """
        super().check_start()
        if self._client is not None and self._client.status in _CLOSED:
            raise RuntimeError(f"{self._client!r} was closed: a run needs one that is connected")

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Connect to the cluster."""
        self.stop()  # what is left of a run whose end was interrupted
        self._connection = self._connect()
        client = self._connection.__enter__()
        run = self._run = _Run(client, deliver, self.make_queue(), self._max_workers, self._options)
        run.grows, run.variables = self._grows, self.carry()
        run.begin()

    def submit(self, calls: list[base.Call]) -> None:
        """Send calls to the fence, which hands them out.

        :raises WorkerLost: when the cluster was lost
        """
        assert self._run is not None, "somebody hands in calls to an executor that has not been started"
        self._run.submit(calls)

    def recall(self) -> list[base.Call]:
        """Give back the calls that no pump holds."""
        return [] if self._run is None else self._run.recall()

    def stop(self) -> None:
        """Wait until all calls have been delivered, and leave nothing on the cluster."""
        run = self._run
        if run is not None:
            run.wait()
            run.end()
            self._run = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.__exit__(None, None, None)


class _Run:
    """One run: its calls, its pumps and the thread that hears of them.

    :param woken: a queue: something is put in whenever a call is delivered
    """

    def __init__(
        self,
        client: Any,
        deliver: Callable[[tuple[Any, Any]], None],
        woken: Any,
        most: int | None,
        options: dict[str, Any],
    ) -> None:
        self._client = client
        self._deliver = deliver
        self._woken = woken
        self._most = most
        self._options = options
        self._name = f"taskflowx-{uuid.uuid4().hex}"
        self._numbers = itertools.count(1)
        self._pending: dict[int, base.Call] = {}
        #: calls that were handed in and have not been sent, or stand in `pending` too: an interrupt may have come
        self._unsent: deque[base.Call] = deque()
        self._kinds: dict[Any, int] = {}
        self._packer = cargo.Packer()
        #: key -> the future of a pump
        self._pumps: dict[str, Any] = {}
        self._managing = threading.Lock()
        self._slots = 1
        self._stillborn = 0
        self.grows = True
        #: context variables that go along, as `carried.pack` gives them
        self.variables: dict[str, bytes] = {}
        #: since when the cluster has no workers, and whether that was said
        self._without: float | None = None
        self._warned = False
        self._lost: exceptions.WorkerLost | None = None
        self._ending = False
        self._hearing = threading.Thread(target=self._hear, name="taskflowx-dask", daemon=True)

    def begin(self) -> None:
        """Have the scheduler of the cluster keep a ledger.

        :raises RuntimeError: when it cannot import this package
        :raises OSError: when it does not answer
        :raises WorkerLost: when the client was closed
        """
        if self._client.status in _CLOSED:
            raise self._lost_error("the client was closed")
        try:
            self._client.sync(self._register, callback_timeout=LIMIT)
        except OSError:
            raise
        except Exception as error:
            msg = f"The scheduler of the Dask cluster cannot run taskflowx: install the same version there ({error!r})"
            raise RuntimeError(msg) from error
        self._slots = self._ask("open", client=self._client.id, most=self._most)
        self._hearing.start()

    async def _register(self) -> None:
        await self._client.register_plugin(fence.Fence())  # in the loop of the client this is to be awaited

    # -- the engine's thread -----------------------------------------------------------------------

    def submit(self, calls: list[base.Call]) -> None:
        """Send calls."""
        self._unsent.extend(calls)
        if self._lost is not None:
            raise self._lost
        try:
            self._pack_and_send(calls)
            self._man()
        except exceptions.WorkerLost as error:
            self._lose(error)
            raise

    def _pack_and_send(self, calls: list[base.Call]) -> None:
        sent: list[ledger.Sent] = []
        packer, size = self._packer, 0
        packer.begin()
        for call in calls:
            number = next(self._numbers)
            try:
                body, digests = packer.pack(number, call)
            except Exception as error:
                failure = Failure.from_exception(pickling.unsendable(call, error, pickling.dumps_afar))
                self._unsent.popleft()
                self._deliver((call, base.NotBegun(failure)))
                continue
            self._pending[number] = call
            self._unsent.popleft()
            pure = call.verb == states.EXECUTE and cargo.is_pure(call.atom)
            sent.append((number, self._kind(call), pure, body, digests))
            size += len(body)
            if size > cargo.PIECE or packer.fresh:
                self._send(sent)
                size = 0
        self._send(sent)

    def _send(self, sent: list[ledger.Sent]) -> None:
        """Send what has been packed."""
        if sent:
            fresh = self._packer.fresh
            for digest, body in fresh.items():
                cargo.upload(digest, body, functools.partial(self._ask, "put"))
            if not self._ask("add", calls=sent, forget=self._packer.surplus()):
                raise self._lost_error("its scheduler has ended the run")
            fresh.clear()
            sent.clear()

    def recall(self) -> list[base.Call]:
        """Take back what has not begun."""
        pending = self._pending
        sent = set(map(id, pending.values()))
        back = [call for call in self._unsent if id(call) not in sent]
        numbers = list(pending)
        if numbers and self._lost is None:
            try:
                settled = self._ask("recall", numbers=numbers)
            except exceptions.WorkerLost as error:
                self._lose(error)
                settled = None
            for number in settled or ():
                call = pending.pop(number, None)
                if call is not None:
                    self._packer.ended(number)
                    back.append(call)
        self._unsent.clear()
        self._woken.put(None)
        return back

    def wait(self) -> None:
        """Wait until all calls have been delivered or the cluster is lost."""
        while self._pending and self._lost is None:
            self._woken.get()

    def end(self) -> None:
        """Leave nothing behind."""
        self._ending = True
        if self._lost is None:
            try:
                self._ask("close_run")
            except exceptions.WorkerLost as error:
                self._lost = error
        with self._managing:
            pumps, self._pumps = self._pumps, {}
        if self._lost is None and pumps:
            self._client.cancel(list(pumps.values()))
        if self._hearing.ident is not None:
            self._hearing.join(LIMIT)

    def _kind(self, call: base.Call) -> int:
        """Return the number of the calls that are thought to take as long as this one."""
        atom = call.atom
        functions = atom._tfx_functions() if isinstance(atom, task.Task) else ()
        key = (type(atom), call.verb, *map(id, functions))
        return self._kinds.setdefault(key, len(self._kinds))

    # -- the thread that hears ---------------------------------------------------------------------

    def _hear(self) -> None:
        """Deliver what is told of calls, until the run has ended or the cluster is lost."""
        try:
            self._hear_all()
        except exceptions.WorkerLost as error:
            self._lose(error)
        except Exception as error:
            LOG.exception("A run on a cluster of Dask cannot go on")
            self._lose(self._lost_error(repr(error)))

    def _hear_all(self) -> None:
        confirmed = 0
        while not self._ending:
            told = self._ask("listen", confirmed=confirmed)
            if told is None:
                raise self._lost_error("its scheduler has ended the run")
            items, self._slots = told
            for place, number, what, body in items:
                if place > confirmed:
                    confirmed = place
                    self._take_in(number, what, body)
            self._look_at_workers()
            self._man()

    def _look_at_workers(self) -> None:
        """Say that calls wait for workers, or give up where none will come."""
        if self._slots or not self._pending:
            self._without = None
            return
        now = time.monotonic()
        if self._without is None:
            self._without = now
        elif now - self._without > _WITHOUT_WORKERS:
            if not self.grows:
                raise self._lost_error(
                    f"all its workers have ended, and no other has begun in {_WITHOUT_WORKERS:g} seconds"
                )
            if not self._warned:
                self._warned = True
                LOG.warning("The Dask cluster of a run has no workers: %d calls wait for one", len(self._pending))

    def _take_in(self, number: int, what: int, body: bytes) -> None:
        if what == ledger.LEFT:
            self._pumps.pop(body.decode().partition("/")[0], None)
            return
        call = self._pending.get(number)
        if call is None:
            return
        self._stillborn = 0
        if what == ledger.APART:
            body = cargo.download(body, functools.partial(self._ask, "get"))
        try:
            value = pickle.loads(body) if body and what != ledger.LOST else None  # noqa: S301 - from a worker of ours
        except Exception as error:
            error.add_note(f"It was sent by a worker of the cluster for atom '{call.atom.name}', and could not be read")
            if what in (ledger.PROGRESS, ledger.EVENT):
                LOG.warning("What atom '%s' tells of itself could not be read", call.atom.name, exc_info=True)
                return
            value = Failure.from_exception(error)
        if what in (ledger.PROGRESS, ledger.EVENT):
            self._deliver((call.atom, value))
            return
        if what == ledger.LOST:
            value = Failure.from_exception(_lost_with(body.decode(), call.atom.name))
        elif what == ledger.NOT_BEGUN:
            value = base.NotBegun(value)  # type: ignore[arg-type]
        elif what == ledger.EXITED and isinstance(value, BaseException):
            value = base.Interrupt(value)
        self._deliver_once(number, value)

    def _deliver_once(self, number: int, outcome: Any) -> None:
        """Deliver what came of a call, unless it was taken back."""
        call = self._pending.pop(number, None)
        if call is not None:
            self._packer.ended(number)
            self._deliver((call, outcome))
            self._woken.put(None)

    def _lose(self, error: exceptions.WorkerLost) -> None:
        """Leave the run: as by an interrupt in one of its calls."""
        if self._ending or self._lost is not None:
            return
        self._lost = error
        for call in list(self._pending.values())[:1]:
            self._deliver((call, base.Interrupt(error)))
        self._woken.put(None)

    # -- both --------------------------------------------------------------------------------------

    def _man(self) -> None:
        """Have as many pumps as there is work for."""
        with self._managing:
            self._look_at_pumps()
            most = 2 * self._slots if self._most is None else self._most
            lacking = min(len(self._pending), max(most, 1)) - len(self._pumps)
            if self._ending or self._lost is not None:
                return
            for _ in range(lacking):
                key = f"{self._name}-{uuid.uuid4().hex}"
                try:
                    future = self._client.submit(
                        _work, self._name, key, self.variables, key=key, pure=False, **self._options
                    )
                except Exception as error:  # the client has just been closed
                    raise self._lost_error(repr(error)) from error
                self._pumps[key] = future

    def _look_at_pumps(self) -> None:
        """Give up pumps that have ended without a word."""
        for key, future in list(self._pumps.items()):
            status = future.status
            if status == "pending":
                continue
            if status == "error":
                self._stillborn += 1
                error = future.exception(timeout=LIMIT)
                if self._stillborn >= _STILLBORN:
                    self._refuse_pending(error)
            del self._pumps[key]
            if status in ("error", "finished"):
                self._ask("over", pump=key)

    def _refuse_pending(self, error: BaseException | None) -> None:
        """Fail the calls that wait, as nobody can make them."""
        lost = exceptions.WorkerLost(
            f"{_STILLBORN} Dask tasks in a row that were to make calls have failed before the first one, the last with "
            f"{error!r}. The workers of the cluster must be able to import the same version of taskflowx"
        )
        self._stillborn = 0
        for number in self._ask("recall", numbers=list(self._pending)) or ():
            self._deliver_once(number, base.NotBegun(Failure.from_exception(lost)))

    def _ask(self, what: str, **message: Any) -> Any:
        """Make a request, again for a while when the connection was lost.

        :raises WorkerLost: when there is no answer
        """
        until = time.monotonic() + PATIENCE
        limit = LIMIT
        while True:
            try:
                if self._client.status in _CLOSED:
                    raise self._lost_error("the client was closed")
                return self._client.sync(self._request, what, message, callback_timeout=limit)
            except exceptions.WorkerLost:
                raise
            except TimeoutError as error:
                raise self._lost_error(f"its scheduler has not answered for {limit:g} seconds") from error
            except OSError as error:
                limit = PATIENCE
                if (self._ending and what != "close_run") or time.monotonic() + _PAUSE >= until:
                    raise self._lost_error(repr(error)) from error
                threading.Event().wait(_PAUSE)
            except Exception as error:
                raise self._lost_error(repr(error)) from error

    async def _request(self, what: str, message: dict[str, Any]) -> Any:
        return await getattr(self._client.scheduler, f"{fence.NAME}-{what}")(run=self._name, **message)

    def _lost_error(self, why: str) -> exceptions.WorkerLost:
        return exceptions.WorkerLost(
            f"The Dask cluster of the run was lost: {why}. Nobody knows how far the calls under way have come; they "
            "are made again, as a further attempt, when the flow goes on"
        )


def _work(run: str, name: str, variables: dict[str, bytes]) -> None:
    """Be a pump."""
    from taskflowx.executors.dask import pump

    pump.pump(run, name, variables)


# Functions of the main module are sent by value. A worker that cannot import what it is sent by reference ends; this
# one fails there as a task does, and the run says why.
_work.__module__ = "__main__"


def _lost_with(worker: str, name: str) -> exceptions.WorkerLost:
    return exceptions.WorkerLost(
        f"Worker {worker} of the Dask cluster was lost, while it held the call of atom '{name}'"
    )
