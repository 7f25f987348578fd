"""A guard between the engine and third-party executors.

The scheduler relies on the contract of `base.Executor`: each call is delivered once, or cancelled by `recall`. Our own
executors keep the contract and are used as they are. A third-party executor is wrapped in a `Guarded`, which contains
its faults:

- The calls in flight are a set. A delivery removes its call from the set, in one step. A second delivery, one for a
  call that is not in flight, or a malformed one is rejected, and a warning names the atom once.
- An exception in `start` or `submit` fails the calls in question. Calls that are cancelled or were never submitted have
  not started; the others may have run, so they are rolled back.
- An exception in `recall` or `stop` is logged: every delivered outcome is recorded already. One in `interrupt` or
  `abandon` is logged as well: the call goes on.
- A call that the executor cannot abandon is abandoned here: a late delivery is refused. As `stop` may wait for such a
  call, it is then called in a thread of its own, and the run waits for the other calls alone.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskflowx import atom as atoms
from taskflowx._util import logs
from taskflowx.executors import base, stopping
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    _Deliver = Callable[[tuple[Any, Any]], None]

LOG = logs.calm(__name__)

#: the attributes that an executor declares
_FACTS = ("kind", "serial", "inline", "pickles", "shares_memory", "runs_async", "is_remote", "can_cancel", "can_kill")
#: seconds for `stop` of an executor that still runs calls that were given up
_TO_STOP = 1.0


def guarded(executor: base.Executor) -> base.Executor:
    """Return an executor that keeps the contract: the same one if it is ours."""
    ours = type(executor).__module__.partition(".")[0] == __name__.partition(".")[0]
    return executor if ours else Guarded(executor)


class _InFlight:
    """The calls of one run that were submitted, and neither delivered nor cancelled.

    :param kind: the name of the executor's class, for messages
    :param deliver: takes valid deliveries
    """

    def __init__(self, kind: str, deliver: _Deliver) -> None:
        self._kind = kind
        self._deliver = deliver
        self._calls: dict[int, base.Call] = {}
        self._told: set[str] = set()
        #: calls that were given up, and that the executor may deliver all the same
        self.left_behind: dict[int, base.Call] = {}
        #: set when a call has been taken, for `wait`
        self._taken = threading.Event()
        self._waits = False

    def add(self, calls: list[base.Call]) -> None:
        """Add calls that are about to be submitted."""
        self._calls.update((id(call), call) for call in calls)

    def all(self) -> list[base.Call]:
        """Return the calls that are in flight."""
        return list(self._calls.values())

    def take(self, call: Any) -> bool:
        """Remove a call; returns whether it was there: true in one of several concurrent threads."""
        taken = self._calls.pop(id(call), None) is not None
        if self._waits:
            self._taken.set()
        return taken

    def has(self, call: base.Call) -> bool:
        """Tell whether a call is in flight."""
        return id(call) in self._calls

    def wait(self) -> None:
        """Wait until no call is in flight; those that were given up are not."""
        self._waits = True
        while self._calls:
            self._taken.wait()
            self._taken.clear()

    def deliver(self, item: Any) -> None:
        """Pass on a valid delivery, from any thread."""
        if type(item) is not tuple or len(item) != 2:  # noqa: PLR2004 - call and outcome
            self.refuse(f"an object of {type(item)}", "which is no pair of a call and its outcome")
            return
        what: Any = item[0]
        outcome: Any = item[1]
        if isinstance(what, base.Call):
            if self.take(what):
                self._deliver((what, _sound(outcome)))
            elif self.left_behind.pop(id(what), None) is not None:
                base.refuse_late(what, outcome)
            else:
                name = getattr(what.atom, "name", None)
                self.refuse(f"atom '{name}'", "which is not in flight, or was delivered before")
        elif isinstance(what, atoms.Atom) and (
            isinstance(outcome, base.Event) or (isinstance(outcome, dict) and "progress" in outcome)
        ):
            self._deliver((what, outcome))
        else:
            self.refuse(f"an object of {type(what)}", "which is neither a call nor a task with its progress")

    def refuse(self, what: str, why: str) -> None:
        """Log that a delivery is ignored, once for each subject."""
        if what not in self._told:
            self._told.add(what)
            LOG.warning("%s delivered %s, %s; it is ignored", self._kind, what, why)

    def fail(self, calls: list[base.Call], error: Exception, *, begun: bool) -> None:
        """Deliver that calls have failed with their executor.

        :param begun: whether they may have started
        """
        for call in calls:
            if self.take(call):
                failure = Failure.from_exception(error)
                self._deliver((call, failure if begun else base.NotBegun(failure)))


def _sound(outcome: Any) -> Any:
    """Return an outcome as it is, or a failure when its content has the wrong type."""
    kind = type(outcome)
    if (kind is base.Interrupt and not isinstance(outcome.exception, BaseException)) or (
        kind is base.NotBegun and not isinstance(outcome.failure, Failure)
    ):
        return Failure.from_exception(TypeError(f"{kind.__name__} was delivered with a value that is no exception"))
    return outcome


class Guarded(base.Executor):
    """A third-party executor that keeps the contract.

    :param executor: the executor that is wrapped
    """

    def __init__(self, executor: base.Executor) -> None:
        self._executor = executor
        self._kind = type(executor).__name__
        self._in_flight = _InFlight(self._kind, lambda _: None)
        self._broken: Exception | None = None  # the exception of `start`
        for name in (*_FACTS, "dumps", "make_queue"):
            setattr(self, name, getattr(executor, name))
        self.kind = self.kind or self._kind

    def __getattr__(self, name: str) -> Any:
        return getattr(self._executor, name)  # attributes beyond the contract

    @property
    def unguarded(self) -> base.Executor:
        """The executor that is wrapped."""
        return self._executor

    @property
    def width(self) -> int | None:
        """How many calls begin at once at most; None when that is not known."""
        return self._executor.width

    @property
    def within_a_loop(self) -> bool:
        """Whether the run takes place in an event loop that already runs."""
        return self._executor.within_a_loop

    def check_start(self) -> None:
        """Raise an error when a run is impossible at present."""
        self._executor.context = self.context
        self._executor.check_start()

    def start(self, deliver: _Deliver) -> None:
        """Start the executor; an exception fails every call that is submitted."""
        self._in_flight = _InFlight(self._kind, deliver)
        self._broken = None
        self._executor.check_progress = self.check_progress
        self._executor.context = self.context
        try:
            self._executor.start(self._in_flight.deliver)
        except Exception as error:
            LOG.warning("%s could not be started", self._kind, exc_info=True)
            self._broken = error

    def submit(self, calls: list[base.Call]) -> None:
        """Submit calls; an exception fails them."""
        in_flight = self._in_flight
        in_flight.add(calls)
        if self._broken is not None:
            in_flight.fail(calls, self._broken, begun=False)
            return
        try:
            self._executor.submit(list(calls))
        except Exception as error:
            in_flight.fail(self._given_back(), error, begun=False)
            in_flight.fail(calls, error, begun=True)

    def recall(self) -> list[base.Call]:
        """Cancel the calls that have not started, and return them."""
        return [call for call in self._given_back() if self._in_flight.take(call)]

    @property
    def stops(self) -> str:  # type: ignore[override]
        """What it can do with a call that runs: at least, the call is left to itself."""
        return "abandons" if self._executor.stops == "asks" else self._executor.stops

    def under_way(self) -> list[base.Call]:
        """Return the calls that are in flight."""
        return self._in_flight.all()

    def interrupt(self, call: base.Call, error: BaseException) -> None:
        """Interrupt a call that is in flight; an exception is logged."""
        if self._broken is None and not hasattr(call, "stop") and self._in_flight.has(call):
            try:
                self._executor.interrupt(call, error)
            except Exception:
                LOG.warning("%s failed to interrupt atom '%s'", self._kind, call.atom.name, exc_info=True)
            if not hasattr(call, "stop"):
                call.stop = stopping.Stop(error)

    def abandon(self, call: base.Call) -> bool:
        """Abandon a call: by the executor, or, if it cannot do that, by refusing what it delivers."""
        in_flight = self._in_flight
        if not hasattr(call, "stop") or not in_flight.has(call):
            return call.given_up
        known = False
        try:
            known = self._executor.abandon(call)
        except Exception:
            LOG.warning("%s failed to abandon atom '%s'", self._kind, call.atom.name, exc_info=True)
        if not known:
            in_flight.left_behind[id(call)] = call
        if not in_flight.take(call):  # it has been delivered meanwhile
            in_flight.left_behind.pop(id(call), None)
            return False
        call.stop.given_up = True
        return True

    def _given_back(self) -> list[base.Call]:
        if self._broken is not None:
            return []
        try:
            return list(self._executor.recall())
        except Exception:
            LOG.warning("%s failed to cancel calls", self._kind, exc_info=True)
            return []

    def stop(self) -> None:
        """Stop the executor."""
        if self._broken is not None:
            return
        if self._in_flight.left_behind:
            stopping_it = threading.Thread(target=self._stop, name="taskflowx-stop", daemon=True)
            stopping_it.start()
            self._in_flight.wait()
            stopping_it.join(_TO_STOP)
        else:
            self._stop()

    def _stop(self) -> None:
        try:
            self._executor.stop()
        except Exception:
            LOG.warning("%s failed to stop", self._kind, exc_info=True)
