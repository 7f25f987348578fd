"""Any `concurrent.futures.Executor`: the standard interface is the plug.

Each call is one `submit` of a `Carrier`, which can be pickled: where it arrives without having been pickled it shares
memory with the engine, runs in the context of the run and reports progress at once; otherwise it collects progress and
brings it back with the outcome.
"""

from __future__ import annotations

import concurrent.futures
import contextvars
import functools
import pickle
import types
import uuid
from typing import TYPE_CHECKING, Any

from taskflowx import states, task
from taskflowx._util import logs
from taskflowx.executors import base, carried, pickling
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LOG = logs.calm(__name__)


class Brought:
    """What comes back from another process: the outcome, and the progress and events that were told on the way."""

    __slots__ = ("outcome", "progress")

    def __init__(self, outcome: Any, progress: list[Any]) -> None:
        self.outcome = outcome
        self.progress = progress

    def __reduce__(self) -> tuple[Any, ...]:
        return Brought, (self.outcome, self.progress)


_NOTHING: Mapping[str, bytes] = types.MappingProxyType({})

#: what became of a carrier first: it left for where it runs, or it was held back and never will run
_LEFT, _REVOKED = "left", "revoked"


class Carrier:
    """A call on its way to wherever it runs.

    An executor may keep a carrier and fail all the same, so the carrier knows its own fate, which is settled once, by
    one `setdefault`: it is held back, or it begins, or it is pickled, after which nobody here can tell.
    """

    __slots__ = ("_fate", "atom", "carried", "context", "kwargs", "listened", "verb")

    def __init__(
        self,
        atom: Any,
        verb: str,
        kwargs: dict[str, Any],
        context: contextvars.Context | None = None,
        carried_along: Mapping[str, bytes] = _NOTHING,
        listened: bool = False,
    ) -> None:
        self.atom = atom
        self.verb = verb
        self.kwargs = kwargs
        self.context = context  # of the run; None in another process
        self.carried = carried_along  # what context variables hold in another process
        self.listened = listened  # whether somebody listens to the task where this comes from
        self._fate: dict[str, Any] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        if self._fate.setdefault("way", _LEFT) is _REVOKED:
            raise pickle.PicklingError(f"The call of {self.atom} was taken back")
        listened = getattr(self.atom, "_tfx_listened", None) is not None
        return Carrier, (self.atom, self.verb, self.kwargs, None, self.carried, listened)

    def revoke(self) -> bool:
        """Have the call never begin; tells whether that is so."""
        return self._fate.setdefault("way", _REVOKED) is _REVOKED

    @property
    def begun(self) -> bool:
        """Whether this very carrier has begun, and not a copy of it that was pickled."""
        return "begun" in self._fate and self._fate.get("way") is not _REVOKED

    @property
    def sent(self) -> bool:
        """Whether a copy of it was pickled, which may run whatever its future says of being cancelled."""
        return "begun" not in self._fate and self._fate.get("way") is _LEFT

    def when_ended(self, take: Callable[[Any], None]) -> None:
        """Have what comes of a call that has begun here be taken, in its thread, or at once when it has ended."""
        end = self._fate.setdefault("end", take)
        if end is not take:
            take(end[0])

    def _begin(self) -> None:
        me = object()
        if self._fate.setdefault("begun", me) is not me:
            raise RuntimeError(f"The call of {self.atom} was to be made a second time")
        if self._fate.setdefault("way", _LEFT) is _REVOKED:
            raise RuntimeError(f"The call of {self.atom} was taken back")

    def __dask_tokenize__(self) -> str:
        """Tell Dask that no call is like another one: it would take the result of the first for both."""
        return uuid.uuid4().hex

    def __call__(self) -> Any:
        """Run the call.

        :raises RuntimeError: when it was taken back, or has been made
        """
        self._begin()
        progress: list[Any] = []
        context = contextvars.copy_context() if self.context is None else self.context.copy()
        outcome: Any
        try:
            if self.context is None:
                context.run(self._get_ready_apart, progress)
            outcome = context.run(base.perform, self.atom, self.verb, self.kwargs)
        except BaseException as error:  # not raised here: there are executors that it would end
            outcome = base.Interrupt(error)
        end = self._fate.setdefault("end", (outcome,))
        if type(end) is not tuple:
            end(outcome)
        if self.context is None and type(outcome) is base.Interrupt:
            outcome = base.Interrupt(pickling.exit_that_travels(outcome.exception))
        return Brought(outcome, progress) if progress else outcome

    def _get_ready_apart(self, progress: list[Any]) -> None:
        """Have progress and events of a task be collected, in another process."""
        atom = self.atom

        def bring(details: Any) -> None:
            pickle.dumps(details)  # what cannot come back fails where it is told, and not the whole call
            progress.append(details)

        if self.listened:
            base.forward_events(atom, bring)
        task.PROGRESS.set(lambda reporting, details: bring(details) if reporting is atom else None)
        carried.put(self.carried)


def _refuse(item: tuple[Any, Any]) -> None:
    msg = f"{item[0]} was delivered to an executor that has not been started"
    raise RuntimeError(msg)


class FuturesExecutor(base.Executor):
    """Runs calls on an executor with the interface of `concurrent.futures`.

    :param executor: an executor that the caller made and that is left open; or None
    :param make: makes an executor for each run, which is shut down after it; used when there is none
    :param pickles: whether atoms, arguments and results are known to be pickled on the way
    """

    def __init__(
        self,
        executor: concurrent.futures.Executor | None = None,
        make: Callable[[], concurrent.futures.Executor] | None = None,
        *,
        pickles: bool = False,
    ) -> None:
        self._make = make
        self.pickles = pickles
        # Of somebody else's we know only that those of the standard library with threads share memory.
        known = pickles or isinstance(executor, concurrent.futures.ThreadPoolExecutor)
        self.shares_memory = not pickles if known else None
        self.is_remote = False if known else None
        self._running = executor
        self._run = _Run(_refuse, None)
        self._context = contextvars.copy_context()
        self._carried: Mapping[str, bytes] = _NOTHING

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Make the executor, unless the caller gave one."""
        self.stop()  # what is left of a run whose end was interrupted
        self._run = _Run(deliver, self.make_queue())
        self._context = base.context_of_calls(self.reporter(deliver))
        self._carried = {} if self.shares_memory else self.carry()
        if self._make is not None:
            self._running = self._make()

    def submit(self, calls: list[base.Call]) -> None:
        """Submit each call by itself."""
        run, context, carried_along = self._run, self._context, self._carried
        for call in calls:
            carrier = Carrier(call.atom, call.verb, call.kwargs, context, carried_along)
            run.pending[call] = None, carrier
            try:
                future = self._submit(carrier)
                if not all(callable(getattr(future, name, None)) for name in _OF_A_FUTURE):
                    raise TypeError(
                        f"{type(self._running).__name__}.submit returned {future!r} for atom '{call.atom.name}', "
                        "expected a future as those of concurrent.futures"
                    )
                run.pending[call] = future, carrier
                future.add_done_callback(functools.partial(run.ended, call))
                run.expected += 1  # last: a call that an interrupt has kept from getting here is not waited for
            except Exception as error:  # a pool that is broken or shut down fails the call
                run.refused(call, carrier, error)

    def _submit(self, carrier: Carrier) -> concurrent.futures.Future[Any]:
        try:
            return self._running.submit(carrier)  # type: ignore[union-attr]
        except concurrent.futures.BrokenExecutor:
            if self._make is None:
                raise
            # A worker has died. What it held has failed; the rest, a rollback above all, goes on in a new pool.
            self._running.shutdown(wait=True)  # type: ignore[union-attr]
            self._running = self._make()
            return self._running.submit(carrier)

    def recall(self) -> list[base.Call]:
        """Give back the calls that can still be cancelled, and have not left this process."""
        run, left = self._run, []
        for call, (future, carrier) in list(run.pending.items()):
            # Taken out first: whoever takes a call out decides what becomes of it.
            if run.pending.pop(call, None) is None:
                continue
            if future is None:  # its `submit` was interrupted
                if carrier.revoke():
                    left.append(call)
                elif carrier.begun:
                    run.expected += 1
                    carrier.when_ended(functools.partial(run.tell, call))
            elif carrier.sent or not _cancelled(future, call):
                run.pending[call] = future, carrier
                if future.done():
                    run.ended(call, future)
            elif not carrier.revoke() and carrier.begun:  # so what `cancel` says is not true
                carrier.when_ended(functools.partial(run.tell, call))
            else:
                run.expected -= 1
                left.append(call)
        return left

    def stop(self) -> None:
        """Wait until all calls have been delivered, and shut down what was made for the run."""
        run = self._run
        while len(run.delivered) < run.expected:
            run.woken.get()
        if self._make is not None and self._running is not None:
            self._running.shutdown(wait=True)
            self._running = None


#: what is used of a future
_OF_A_FUTURE = ("add_done_callback", "cancel", "done", "result")


def _cancelled(future: Any, call: base.Call) -> bool:
    try:
        return bool(future.cancel())
    except Exception:
        LOG.warning("The future of atom '%s' could not be cancelled", call.atom.name, exc_info=True)
        return False


class _Run:
    """The calls of one run: a call that ends after its run was abandoned is delivered to nobody else's."""

    def __init__(self, deliver: Callable[[tuple[Any, Any]], None], woken: Any) -> None:
        self.deliver = deliver
        self.pending: dict[base.Call, tuple[Any, Carrier]] = {}  # each with its future, or None
        self.expected = 0  # how many were submitted, less those recalled
        self.delivered: list[None] = []  # as long as there were deliveries; whatever thread may append to it
        self.woken = woken  # a queue, as `make_queue` gives it: something is put in after each delivery

    def ended(self, call: base.Call, future: Any) -> None:
        """Deliver what came of a call, unless it has been recalled."""
        taken = self.pending.pop(call, None)
        if taken is None:
            return
        outcome: Any
        try:
            outcome = future.result()
            if isinstance(outcome, Brought):
                for details in outcome.progress:
                    self.deliver((call.atom, details))
                outcome = outcome.outcome
        except Exception as error:  # the executor's own: what the call itself raises is an outcome
            self._failed(call, taken[1], error, known=isinstance(error, _NEVER_BEGAN))
        except BaseException as error:
            self.tell(call, base.Interrupt(error))
        else:
            self.tell(call, outcome)

    def refused(self, call: base.Call, carrier: Carrier, error: Exception) -> None:
        """Deliver that a call was not taken, which its executor may have kept all the same."""
        if self.pending.pop(call, None) is None:
            return  # it has ended meanwhile
        self.expected += 1
        self._failed(call, carrier, error, known=True)

    def _failed(self, call: base.Call, carrier: Carrier, error: Exception, *, known: bool) -> None:
        """Deliver the failure of an executor, when nothing of the call goes on that we know of.

        :param known: whether the call has not begun where we have not seen it begin
        """
        failure = Failure.from_exception(error)
        if carrier.revoke():
            self.tell(call, base.NotBegun(failure) if known else failure)
        elif carrier.begun:
            carrier.when_ended(lambda outcome: self.tell(call, _after_all(call, outcome, failure)))
        else:
            self.tell(call, failure)

    def tell(self, call: base.Call, outcome: Any) -> None:
        """Deliver what came of a call."""
        self.deliver((call, outcome))
        self.delivered.append(None)
        self.woken.put(None)


_NEVER_BEGAN = (concurrent.futures.BrokenExecutor, concurrent.futures.CancelledError)


def _after_all(call: base.Call, outcome: Any, failure: Failure) -> Any:
    """Return what is delivered of a call that has run, although its executor failed: it is to be undone."""
    return outcome if call.verb == states.REVERT or isinstance(outcome, base.Interrupt) else failure
