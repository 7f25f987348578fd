"""Runs calls on a Dask cluster.

    scheduler ── submit ──→ fence, in the Dask scheduler ──→ pumps: Dask tasks on the workers
        ↑                                                               │
        └── queue ←── a thread ←── listen ←── fence ←── outcomes, progress ┘

Dask decides on which workers the pumps of a run are, and the fence decides which call starts in which pump. What must
stay true:

- A call is in `pending` from before it is sent until it was delivered or cancelled; whichever thread removes it decides
  its fate.
- When the cluster is lost, or the client was closed, the run ends as by an interrupt: the progress of its calls is
  unknown, and they are made again, as a further attempt, when the flow is resumed.
- A run leaves nothing on the cluster: neither keys nor a ledger.
"""

from __future__ import annotations

import dataclasses
import functools
import itertools
import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from taskflowx import exceptions, states, task
from taskflowx._util import logs
from taskflowx.executors import base, pickling, stopping
from taskflowx.executors.dask import cargo, fence, ledger, pump
from taskflowx.types.failure import Failure

LOG = logs.calm(__name__)

#: request timeout in seconds, and retry budget in seconds after a lost connection
LIMIT, RETRY_SECONDS = 7.0, 3.0
#: seconds between retries of a request
_PAUSE = 0.2
#: seconds without workers after which a warning is logged, or the run is given up
_WITHOUT_WORKERS = 10.0
#: the states of a closed client
_CLOSED = ("closed", "closing")
#: the number of pumps in a row that may fail before the run is given up
_FAILED_STARTS = 3


class DaskExecutor(base.Executor):
    """Runs the calls of one run at a time on a cluster.

    :param connect: returns a context manager that gives a client of `distributed` for the time of a run
    :param max_workers: the maximum number of concurrent calls; None for the number of threads of the cluster
    :param options: arguments of `Client.submit` for the Dask tasks that run the calls, such as `resources`
    :param client: the client that `connect` will give, where that is known
    :param grows: whether workers may still arrive when there are none; otherwise the cluster is lost then
    """

    kind = "dask"
    pickles = True
    shares_memory = False
    is_remote = True
    stops = "abandons"

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

    @property
    def width(self) -> int | None:
        """How many calls begin at once at most; None for the number of threads of the cluster."""
        return self._max_workers

    def dumps(self, part: Any) -> bytes:
        """Pickle a part of an atom as for a worker: what its process cannot import is pickled by cloudpickle."""
        return pickling.dumps_afar(part)

    def check_start(self) -> None:
        """Raise an error if the client was closed.

        :raises RuntimeError: when it was
        """
        super().check_start()
        if self._client is not None and self._client.status in _CLOSED:
            raise RuntimeError(f"{self._client!r} was closed: a run needs one that is connected")

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Connect to the cluster."""
        self.stop()  # discards a run whose end was interrupted
        self._connection = self._connect()
        client = self._connection.__enter__()
        woken, variables = self.make_queue(), self.carry()
        run = self._run = _Run(client, deliver, woken, self._max_workers, self._options, self._grows, variables)
        run.begin()

    def submit(self, calls: list[base.Call]) -> None:
        """Send calls to the fence, which dispatches them.

        :raises WorkerLost: when the cluster was lost
        """
        assert self._run is not None, "calls were submitted to an executor that has not been started"
        self._run.submit(calls)

    def recall(self) -> list[base.Call]:
        """Cancel the calls that no pump holds, and return them."""
        return [] if self._run is None else self._run.recall()

    def interrupt(self, call: base.Call, error: BaseException) -> None:
        """Cancel a call that no pump holds; another one goes on, as Dask cannot interrupt what runs."""
        if self._run is not None and not hasattr(call, "stop"):
            self._run.interrupt(call, error)

    def under_way(self) -> list[base.Call]:
        """Return the calls that the cluster holds."""
        return [] if self._run is None else list(self._run.pending.values())

    def abandon(self, call: base.Call) -> bool:
        """Leave a call to its pump: it holds a thread of the cluster until it ends, and is not repeated."""
        return call.given_up or (self._run is not None and hasattr(call, "stop") and self._run.give_up(call))

    def stop(self) -> None:
        """Wait until all calls have been delivered, and remove the run from the cluster."""
        run = self._run
        if run is not None:
            run.wait()
            run.end()
            self._run = None
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.__exit__(None, None, None)


@dataclasses.dataclass(eq=False)
class _Run:
    """One run: its calls, its pumps and the thread that receives outcomes."""

    _client: Any
    _deliver: Callable[[tuple[Any, Any]], None]
    _woken: Any  # a queue that gets an item whenever a call is delivered
    _most: int | None
    _options: dict[str, Any]
    _grows: bool = True
    _variables: dict[str, bytes] = dataclasses.field(
        default_factory=dict
    )  # carried context variables, as `carried.pack` returns them

    def __post_init__(self) -> None:
        self._name = f"taskflowx-{uuid.uuid4().hex}"
        self._numbers = itertools.count(1)
        self.pending: dict[int, base.Call] = {}
        #: submitted calls that are not sent; after an interrupt some may be in `pending` too
        self._unsent: deque[base.Call] = deque()
        self._kinds: dict[Any, int] = {}
        self._packer = cargo.Packer()
        #: key -> the future of a pump
        self._pumps: dict[str, Any] = {}
        self._managing = threading.Lock()
        self._slots = 1
        self._failed_starts = 0
        #: since when the cluster has no workers, and whether a warning was logged
        self._without: float | None = None
        self._warned = False
        self._lost: exceptions.WorkerLost | None = None
        self._ending = False
        self._hearing = threading.Thread(target=self._hear, name="taskflowx-dask", daemon=True)

    def begin(self) -> None:
        """Have the Dask scheduler open a ledger.

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
        await self._client.register_plugin(fence.Fence())  # awaitable, so it runs in the client's loop

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
            self.pending[number] = call
            self._unsent.popleft()
            pure = call.verb == states.EXECUTE and cargo.is_pure(call.atom)
            sent.append((number, self._kind(call), pure, body, digests))
            size += len(body)
            if size > cargo.PIECE or packer.fresh:
                self._send(sent)
                size = 0
        self._send(sent)

    def _send(self, sent: list[ledger.Sent]) -> None:
        """Send packed calls."""
        if sent:
            fresh = self._packer.fresh
            for digest, body in fresh.items():
                cargo.upload(digest, body, functools.partial(self._ask, "put"))
            if not self._ask("add", calls=sent, forget=self._packer.surplus()):
                raise self._lost_error("its scheduler has ended the run")
            fresh.clear()
            sent.clear()

    def recall(self) -> list[base.Call]:
        """Cancel the calls that have not started, and return them."""
        sent = set(map(id, self.pending.values()))
        back = [call for call in self._unsent if id(call) not in sent]
        back += self._take_back(list(self.pending))
        self._unsent.clear()
        self._woken.put(None)
        return back

    def _take_back(self, numbers: list[int]) -> list[base.Call]:
        """Cancel calls that were sent and have not started, and return them."""
        settled: list[int] | None = None
        if numbers and self._lost is None:
            try:
                settled = self._ask("recall", numbers=numbers)
            except exceptions.WorkerLost as error:
                self._lose(error)
        back = []
        for number in settled or ():
            call = self.pending.pop(number, None)
            if call is not None:
                self._packer.ended(number)
                back.append(call)
        return back

    def interrupt(self, call: base.Call, error: BaseException) -> None:
        """Cancel a call, if it has not started."""
        number = self._number_of(call)
        if number is not None:
            call.stop = stopping.Stop(error)
            for one in self._take_back([number]):
                self._deliver(base.not_begun(one))
                self._woken.put(None)

    def give_up(self, call: base.Call) -> bool:
        """Give up a call that a pump holds; returns whether it had not ended."""
        number = self._number_of(call)
        if number is None or self._lost is not None:
            return False
        try:
            holder = self._ask("give_up", number=number)
        except exceptions.WorkerLost as lost:
            self._lose(lost)
            return False
        if holder is None or self.pending.pop(number, None) is None:
            return False
        call.stop.given_up = True
        self._packer.ended(number)
        with self._managing:
            self._pumps.pop(holder.partition("/")[0], None)  # another one may take its place
        self._man()
        self._woken.put(None)
        return True

    def _number_of(self, call: base.Call) -> int | None:
        return next((number for number, one in list(self.pending.items()) if one is call), None)

    def wait(self) -> None:
        """Wait until all calls have been delivered or the cluster is lost."""
        while self.pending and self._lost is None:
            self._woken.get()

    def end(self) -> None:
        """Remove the run from the cluster."""
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
        """Return the number of the kind of a call; calls of a kind share an estimate of their duration."""
        atom = call.atom
        functions = atom._tfx_functions() if isinstance(atom, task.Task) else ()
        key = (type(atom), call.verb, *map(id, functions))
        return self._kinds.setdefault(key, len(self._kinds))

    # -- the receiving thread ----------------------------------------------------------------------

    def _hear(self) -> None:
        """Deliver reports of calls, until the run has ended or the cluster is lost."""
        confirmed = 0
        try:
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
        except exceptions.WorkerLost as error:
            self._lose(error)
        except Exception as error:
            LOG.exception("A run on a Dask cluster cannot continue")
            self._lose(self._lost_error(repr(error)))

    def _look_at_workers(self) -> None:
        """Warn that calls wait for workers, or give up if none will arrive."""
        if self._slots or not self.pending:
            self._without = None
            return
        now = time.monotonic()
        if self._without is None:
            self._without = now
        elif now - self._without > _WITHOUT_WORKERS:
            if not self._grows:
                raise self._lost_error(
                    f"all its workers have ended, and no other has started in {_WITHOUT_WORKERS:g} seconds"
                )
            if not self._warned:
                self._warned = True
                LOG.warning("The Dask cluster of a run has no workers: %d calls wait for one", len(self.pending))

    def _take_in(self, number: int, what: int, body: bytes) -> None:
        if what == ledger.LEFT:
            self._pumps.pop(body.decode().partition("/")[0], None)
            return
        call = self.pending.get(number)
        if call is None:
            return
        self._failed_starts = 0
        if what == ledger.APART:
            body = cargo.download(body, functools.partial(self._ask, "get"))
        try:
            value = pickle.loads(body) if body and what != ledger.LOST else None  # noqa: S301 - from a worker of ours
        except Exception as error:
            error.add_note(f"It was sent by a worker of the cluster for atom '{call.atom.name}', and could not be read")
            if what in (ledger.PROGRESS, ledger.EVENT):
                LOG.warning("A report of atom '%s' could not be read", call.atom.name, exc_info=True)
                return
            value = Failure.from_exception(error)
        if what in (ledger.PROGRESS, ledger.EVENT):
            self._deliver((call.atom, value))
            return
        if what == ledger.LOST:
            which = f"Worker {body.decode()} of the Dask cluster"
            lost = exceptions.WorkerLost(f"{which} was lost, while it held the call of atom '{call.atom.name}'")
            value = Failure.from_exception(lost)
        elif what == ledger.NOT_BEGUN:
            value = base.NotBegun(value)  # type: ignore[arg-type]
        elif what == ledger.EXITED and isinstance(value, BaseException):
            value = base.Interrupt(value)
        self._deliver_once(number, value)

    def _deliver_once(self, number: int, outcome: Any) -> None:
        """Deliver the outcome of a call, unless it was cancelled."""
        call = self.pending.pop(number, None)
        if call is not None:
            self._packer.ended(number)
            self._deliver((call, outcome))
            self._woken.put(None)

    def _lose(self, error: exceptions.WorkerLost) -> None:
        """Abandon the run, as by an interrupt in one of its calls."""
        if self._ending or self._lost is not None:
            return
        self._lost = error
        for call in list(self.pending.values())[:1]:
            self._deliver((call, base.Interrupt(error)))
        self._woken.put(None)

    # -- both --------------------------------------------------------------------------------------

    def _man(self) -> None:
        """Start as many pumps as there is work for."""
        with self._managing:
            self._look_at_pumps()
            most = 2 * self._slots if self._most is None else self._most
            lacking = min(len(self.pending), max(most, 1)) - len(self._pumps)
            if self._ending or self._lost is not None:
                return
            for _ in range(lacking):
                key = f"{self._name}-{uuid.uuid4().hex}"
                try:
                    future = self._client.submit(
                        pump.begin, self._name, key, self._variables, key=key, pure=False, **self._options
                    )
                except Exception as error:  # the client has just been closed
                    raise self._lost_error(repr(error)) from error
                self._pumps[key] = future

    def _look_at_pumps(self) -> None:
        """Give up pumps that have ended without a report."""
        for key, future in list(self._pumps.items()):
            status = future.status
            if status == "pending" or self._pumps.pop(key, None) is None:  # its report has come just now
                continue
            if status == "error":
                self._failed_starts += 1
                error = future.exception(timeout=LIMIT)
                if self._failed_starts >= _FAILED_STARTS:
                    self._refuse_pending(error)
            if status in ("error", "finished"):
                self._ask("over", pump=key)

    def _refuse_pending(self, error: BaseException | None) -> None:
        """Fail the pending calls, as no pump can run them."""
        lost = exceptions.WorkerLost(
            f"{_FAILED_STARTS} Dask tasks in a row that were to make calls have failed before the first one, the last "
            f"with {error!r}. The workers of the cluster must be able to import the same version of taskflowx"
        )
        self._failed_starts = 0
        for number in self._ask("recall", numbers=list(self.pending)) or ():
            self._deliver_once(number, base.NotBegun(Failure.from_exception(lost)))

    def _ask(self, what: str, **message: Any) -> Any:
        """Make a request, with retries after a lost connection.

        :raises WorkerLost: when there is no answer
        """
        until = time.monotonic() + RETRY_SECONDS
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
                limit = RETRY_SECONDS
                if (self._ending and what != "close_run") or time.monotonic() + _PAUSE >= until:
                    raise self._lost_error(repr(error)) from error
                threading.Event().wait(_PAUSE)
            except Exception as error:
                raise self._lost_error(repr(error)) from error

    async def _request(self, what: str, message: dict[str, Any]) -> Any:
        return await getattr(self._client.scheduler, f"{fence.NAME}-{what}")(run=self._name, **message)

    def _lost_error(self, why: str) -> exceptions.WorkerLost:
        return exceptions.WorkerLost(
            f"The Dask cluster of the run was lost: {why}. The progress of its running calls is unknown; they are "
            "made again, as a further attempt, when the flow is resumed"
        )
