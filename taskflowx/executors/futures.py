"""Runs calls on any `concurrent.futures.Executor`.

Each call is one `submit` of a `RemoteCall`, which can be pickled. One that arrives without having been pickled
shares memory with the engine, runs in the context of the run and reports progress at once; otherwise it collects
progress and returns it with the outcome.

A call that shares memory sees at `checkpoint` that it is to stop, as its `RemoteCall` is the token of it. Whatever does
not end is left to the pool. If that is the caller's, it has one worker fewer until then, and what the pool waits for at
the end of the interpreter, the interpreter waits for.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import dataclasses
import functools
import pickle
import uuid
from collections.abc import Callable, Mapping
from typing import Any

from taskflowx import states, task
from taskflowx._util import logs
from taskflowx.executors import base, carried, pickling, stopping
from taskflowx.types.failure import Failure

LOG = logs.calm(__name__)


@dataclasses.dataclass(slots=True, eq=False)
class RemoteOutcome:
    """The outcome of a call in another process, with the progress and events that were published on the way."""

    outcome: Any
    progress: list[Any]


#: the first event in the life of a remote call: it left for its worker, or it was revoked and never runs
_LEFT, _REVOKED = "left", "revoked"


@dataclasses.dataclass(slots=True, eq=False)
class RemoteCall:
    """A call on its way to its worker.

    An executor may keep a remote call and fail all the same. So the call records its own fate, which is decided once,
    by one `setdefault`: it is revoked, or it starts, or it is pickled, after which its fate is unknown here.
    """

    atom: Any
    verb: str
    kwargs: dict[str, Any]
    context: contextvars.Context | None = None  # that of the run; None in another process
    carried: Mapping[str, bytes] = dataclasses.field(default_factory=dict)  # context variables, for another process
    listened: bool = False  # whether the task has subscribers in the engine's process
    _fate: dict[str, Any] = dataclasses.field(default_factory=dict, init=False)

    def __reduce__(self) -> tuple[Any, ...]:
        if self._fate.setdefault("way", _LEFT) is _REVOKED:
            raise pickle.PicklingError(f"The call of {self.atom} was cancelled")
        listened = getattr(self.atom, "_tfx_listened", None) is not None
        return RemoteCall, (self.atom, self.verb, self.kwargs, None, self.carried, listened)

    def revoke(self) -> bool:
        """Prevent the call from ever starting; returns whether that succeeded."""
        return self._fate.setdefault("way", _REVOKED) is _REVOKED

    @property
    def begun(self) -> bool:
        """Whether this call has started, and not a pickled copy of it."""
        return "begun" in self._fate and self._fate.get("way") is not _REVOKED

    @property
    def sent(self) -> bool:
        """Whether a pickled copy exists, which may run even if its future counts as cancelled."""
        return "begun" not in self._fate and self._fate.get("way") is _LEFT

    def when_ended(self, take: Callable[[Any], None]) -> None:
        """Call `take` with the outcome of a call that has started here: in its thread, or at once if it has ended."""
        end = self._fate.setdefault("end", take)
        if end is not take:
            take(end[0])

    def interrupt(self, stop: stopping.Stop) -> None:
        """Have `checkpoint` raise in the call, if it runs here."""
        self._fate.setdefault("stop", stop)

    @property
    def given_up(self) -> bool:
        """Whether the call was given up."""
        return "stop" in self._fate and self._fate["stop"].given_up

    def check(self) -> None:
        """Raise the error by which the call was interrupted, if it was."""
        if "stop" in self._fate:
            raise self._fate["stop"].error

    def _begin(self) -> None:
        me = object()
        if self._fate.setdefault("begun", me) is not me:
            raise RuntimeError(f"The call of {self.atom} was to be made a second time")
        if self._fate.setdefault("way", _LEFT) is _REVOKED:
            raise RuntimeError(f"The call of {self.atom} was cancelled")

    def __dask_tokenize__(self) -> str:
        """Tell Dask that no two calls are equal: it would use the result of the first for both."""
        return uuid.uuid4().hex

    def __call__(self) -> Any:
        """Run the call.

        :raises RuntimeError: when it was revoked, or has run already
        """
        self._begin()
        progress: list[Any] = []
        context = contextvars.copy_context() if self.context is None else self.context.copy()
        outcome: Any
        try:
            if self.context is None:
                context.run(self._get_ready_apart, progress)
            else:
                context.run(stopping.TOKEN.set, self)
            outcome = context.run(base.perform, self.atom, self.verb, self.kwargs)
        except BaseException as error:  # not raised here: some executors end on it
            outcome = base.Interrupt(error)
        end = self._fate.setdefault("end", (outcome,))
        if type(end) is not tuple:
            end(outcome)
        if self.context is None and type(outcome) is base.Interrupt:
            outcome = base.Interrupt(pickling.exit_that_travels(outcome.exception))
        return RemoteOutcome(outcome, progress) if progress else outcome

    def _get_ready_apart(self, progress: list[Any]) -> None:
        """Collect the progress and events of a task, in another process."""
        atom = self.atom

        def bring(details: Any) -> None:
            pickle.dumps(details)  # an unpicklable value must fail here, and not the whole call
            progress.append(details)

        if self.listened:
            base.forward_events(atom, bring)
        task.PROGRESS.set(lambda reporting, details: bring(details) if reporting is atom else None)
        carried.put(self.carried)


def _refuse(item: tuple[Any, Any]) -> None:
    raise RuntimeError(f"{item[0]} was delivered to an executor that has not been started")


class FuturesExecutor(base.Executor):
    """Runs calls on an executor with the interface of `concurrent.futures`.

    :param executor: an executor that the caller made and that is left open; or None
    :param make: makes an executor for each run, which is shut down after it; used when `executor` is None
    :param pickles: whether atoms, arguments and results are known to be pickled for transport
    """

    stops = "abandons"

    def __init__(
        self,
        executor: concurrent.futures.Executor | None = None,
        make: Callable[[], concurrent.futures.Executor] | None = None,
        *,
        pickles: bool = False,
    ) -> None:
        self._make = make
        if executor is not None and not self.kind:
            self.kind = type(executor).__name__
        self.pickles = pickles
        # Of foreign executors only the standard library's thread pool is known to share memory.
        known = pickles or isinstance(executor, concurrent.futures.ThreadPoolExecutor)
        self.shares_memory = not pickles if known else None
        self.is_remote = False if known else None
        self._running = executor
        self._run = _Run(_refuse, None)
        self._context = contextvars.copy_context()
        self._carried: Mapping[str, bytes] = {}

    @property
    def width(self) -> int | None:
        """How many calls begin at once at most, as the executors of the standard library say; None for others."""
        width = getattr(self._running, "_max_workers", None)
        return width if isinstance(width, int) else None

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Make the executor, unless the caller gave one."""
        self.stop()  # discards a run whose end was interrupted
        self._run = _Run(deliver, self.make_queue())
        self._context = base.context_of_calls(self.reporter(deliver))
        self._carried = {} if self.shares_memory else self.carry()
        if self._make is not None:
            self._running = self._make()

    def submit(self, calls: list[base.Call]) -> None:
        """Submit each call by itself."""
        run, context, carried_along = self._run, self._context, self._carried
        remotes = [RemoteCall(call.atom, call.verb, call.kwargs, context, carried_along) for call in calls]
        # All of them first: what an interrupt keeps from being submitted can be recalled, and counts as not begun.
        run.pending.update((call, (None, remote)) for call, remote in zip(calls, remotes, strict=True))
        for call, remote in zip(calls, remotes, strict=True):
            try:
                future = self._submit(remote)
                if not all(callable(getattr(future, name, None)) for name in _OF_A_FUTURE):
                    raise TypeError(
                        f"{type(self._running).__name__}.submit returned {future!r} for atom '{call.atom.name}', "
                        "expected a future as those of concurrent.futures"
                    )
                run.pending[call] = future, remote
                future.add_done_callback(functools.partial(run.ended, call))
                run.expected += 1  # last: a call whose submission was interrupted is not waited for
            except Exception as error:  # a pool that is broken or shut down fails the call
                run.refused(call, remote, error)

    def _submit(self, remote: RemoteCall) -> concurrent.futures.Future[Any]:
        try:
            return self._running.submit(remote)  # type: ignore[union-attr]
        except concurrent.futures.BrokenExecutor:
            if self._make is None:
                raise
            # A worker has died. Its calls have failed; the others, above all a rollback, run in a new pool.
            self._running.shutdown(wait=True)  # type: ignore[union-attr]
            self._running = self._make()
            return self._running.submit(remote)

    def recall(self) -> list[base.Call]:
        """Cancel the calls that can still be cancelled and have not left this process, and return them."""
        return [call for call in list(self._run.pending) if self._run.cancel(call)]

    def under_way(self) -> list[base.Call]:
        """Return the calls that the pool holds."""
        return list(self._run.pending)

    def interrupt(self, call: base.Call, error: BaseException) -> None:
        """Cancel the future of a call that has not started, and have `checkpoint` raise in one that runs here.

        :param error: what it raises
        """
        run = self._run
        _, remote = run.pending.get(call, (None, None))
        if remote is None:
            return
        if not hasattr(call, "stop"):
            call.stop = stopping.Stop(error)
        remote.interrupt(call.stop)
        if run.cancel(call):
            run.expected += 1
            run.tell(*base.not_begun(call))

    def abandon(self, call: base.Call) -> bool:
        """Leave a call to its pool, and refuse what comes of it."""
        return hasattr(call, "stop") and (call.stop.given_up or self._run.give_up(call))

    def stop(self) -> None:
        """Wait until all calls have been delivered, and shut down the executor that was made for the run."""
        run = self._run
        while len(run.delivered) < run.expected:
            run.woken.get()
        if self._make is not None and self._running is not None:
            self._running.shutdown(wait=not run.left_behind)
            self._running = None


#: the methods of a future that are used
_OF_A_FUTURE = ("add_done_callback", "cancel", "done", "result")


def _cancelled(future: Any, call: base.Call) -> bool:
    try:
        return bool(future.cancel())
    except Exception:
        LOG.warning("The future of atom '%s' could not be cancelled", call.atom.name, exc_info=True)
        return False


class _Run:
    """The calls of one run: a call that ends after its run was abandoned is delivered to no other run."""

    def __init__(self, deliver: Callable[[tuple[Any, Any]], None], woken: Any) -> None:
        self.deliver = deliver
        self.pending: dict[base.Call, tuple[Any, RemoteCall]] = {}  # each with its future, or None
        self.expected = 0  # how many were submitted, less those cancelled
        self.delivered: list[None] = []  # one element for each delivery; any thread may append
        self.woken = woken  # a queue of `make_queue`: gets an item after each delivery
        self.left_behind: set[Any] = set()  # the futures of calls that were given up, until they end

    def cancel(self, call: base.Call) -> bool:
        """Cancel a call, if that is possible and it has not left this process; returns whether it will never start."""
        # Removed first: whichever thread removes a call decides its fate.
        taken = self.pending.pop(call, None)
        if taken is None:
            return False
        future, remote = taken
        if future is None:  # its `submit` was interrupted
            if remote.revoke():
                return True
            if remote.begun:
                self.expected += 1
                remote.when_ended(functools.partial(self.tell, call))
        elif remote.sent or not _cancelled(future, call):
            self.pending[call] = taken
            if future.done():
                self.ended(call, future)
        elif not remote.revoke() and remote.begun:  # so the result of `cancel` is wrong
            remote.when_ended(functools.partial(self.tell, call))
        else:
            self.expected -= 1
            return True
        return False

    def give_up(self, call: base.Call) -> bool:
        """Give up a call; returns whether it was still expected."""
        call.stop.given_up = True  # first: it may end meanwhile
        taken = self.pending.pop(call, None)
        if taken is None or taken[0] is None:
            call.stop.given_up = False
            return False
        self.left_behind.add(taken[0])
        self.expected -= 1
        self.woken.put(None)
        if taken[0].done():
            self._refuse_late(call, taken[0])
        return True

    def _refuse_late(self, call: base.Call, future: Any) -> None:
        """Log that a call has ended that was given up."""
        if future in self.left_behind:
            self.left_behind.discard(future)
            outcome: Any
            try:
                outcome = future.result()
            except BaseException as error:
                outcome = base.Interrupt(error)
            base.refuse_late(call, outcome.outcome if isinstance(outcome, RemoteOutcome) else outcome)

    def ended(self, call: base.Call, future: Any) -> None:
        """Deliver the outcome of a call, unless it has been cancelled."""
        taken = self.pending.pop(call, None)
        if taken is None:
            if call.given_up:
                self._refuse_late(call, future)
            return
        outcome: Any
        try:
            outcome = future.result()
            if isinstance(outcome, RemoteOutcome):
                for details in outcome.progress:
                    self.deliver((call.atom, details))
                outcome = outcome.outcome
        except Exception as error:  # the executor's own error: an error of the call is an outcome
            self._failed(call, taken[1], error, known=isinstance(error, _NEVER_BEGAN))
        except BaseException as error:
            self.tell(call, base.Interrupt(error))
        else:
            self.tell(call, outcome)

    def refused(self, call: base.Call, remote: RemoteCall, error: Exception) -> None:
        """Deliver that `submit` failed; the executor may have kept the call all the same."""
        if self.pending.pop(call, None) is None:
            return  # it has ended meanwhile
        self.expected += 1
        self._failed(call, remote, error, known=True)

    def _failed(self, call: base.Call, remote: RemoteCall, error: Exception, *, known: bool) -> None:
        """Deliver an executor's failure, once no part of the call is known to run.

        :param known: whether a call that did not start here has not started at all
        """
        failure = Failure.from_exception(error)
        if remote.revoke():
            self.tell(call, base.NotBegun(failure) if known else failure)
        elif remote.begun:
            remote.when_ended(lambda outcome: self.tell(call, _after_all(call, outcome, failure)))
        else:
            self.tell(call, failure)

    def tell(self, call: base.Call, outcome: Any) -> None:
        """Deliver the outcome of a call."""
        self.deliver((call, outcome))
        self.delivered.append(None)
        self.woken.put(None)


_NEVER_BEGAN = (concurrent.futures.BrokenExecutor, concurrent.futures.CancelledError)


def _after_all(call: base.Call, outcome: Any, failure: Failure) -> Any:
    """Return the outcome of a call that has run although its executor failed: it is rolled back."""
    return outcome if call.verb == states.REVERT or isinstance(outcome, base.Interrupt) else failure
