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

import functools
import itertools
import pickle
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states, task
from taskflowx._util import logs
from taskflowx.executors import base, pickling
from taskflowx.executors.dask import cargo, fence, ledger
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

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
        run = self._run = _Run(client, deliver, self.make_queue(), self._max_workers, self._options)
        run.grows, run.variables = self._grows, self.carry()
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


class _Run:
    """One run: its calls, its pumps and the thread that receives outcomes.

    :param woken: a queue that gets an item whenever a call is delivered
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
        #: submitted calls that are not sent; after an interrupt some may be in `pending` too
        self._unsent: deque[base.Call] = deque()
        self._kinds: dict[Any, int] = {}
        self._packer = cargo.Packer()
        #: key -> the future of a pump
        self._pumps: dict[str, Any] = {}
        self._managing = threading.Lock()
        self._slots = 1
        self._failed_starts = 0
        self.grows = True
        #: carried context variables, as `carried.pack` returns them
        self.variables: dict[str, bytes] = {}
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
        try:
            self._hear_all()
        except exceptions.WorkerLost as error:
            self._lose(error)
        except Exception as error:
            LOG.exception("A run on a Dask cluster cannot continue")
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
        """Warn that calls wait for workers, or give up if none will arrive."""
        if self._slots or not self._pending:
            self._without = None
            return
        now = time.monotonic()
        if self._without is None:
            self._without = now
        elif now - self._without > _WITHOUT_WORKERS:
            if not self.grows:
                raise self._lost_error(
                    f"all its workers have ended, and no other has started in {_WITHOUT_WORKERS:g} seconds"
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
        call = self._pending.pop(number, None)
        if call is not None:
            self._packer.ended(number)
            self._deliver((call, outcome))
            self._woken.put(None)

    def _lose(self, error: exceptions.WorkerLost) -> None:
        """Abandon the run, as by an interrupt in one of its calls."""
        if self._ending or self._lost is not None:
            return
        self._lost = error
        for call in list(self._pending.values())[:1]:
            self._deliver((call, base.Interrupt(error)))
        self._woken.put(None)

    # -- both --------------------------------------------------------------------------------------

    def _man(self) -> None:
        """Start as many pumps as there is work for."""
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
        for number in self._ask("recall", numbers=list(self._pending)) or ():
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


def _work(run: str, name: str, variables: dict[str, bytes]) -> None:
    """Run a pump."""
    from taskflowx.executors.dask import pump

    pump.pump(run, name, variables)


# Functions of the main module are pickled by value. A worker that cannot import a function pickled by reference ends;
# this one fails there as a task does, and the run reports the reason.
_work.__module__ = "__main__"
