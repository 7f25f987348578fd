"""Helpers for tests of flows: record the states of a run, check its failures, and control the order of its calls.

    flow = make_flow()
    executor = testing.ScriptedExecutor()
    engine = engines.load(flow, executor=executor)
    with testing.Recorder(engine) as seen:
        executor.run(engine, order=["slow", "quick"])  # 'slow' ends first
    assert seen.states("quick") == ["RUNNING", "SUCCESS"]

Nothing here needs a test framework, starts a thread, or sleeps.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import exceptions, states
from taskflowx.executors import base
from taskflowx.listeners.base import UniformListener
from taskflowx.persistence import models
from taskflowx.runs.takeover import Verdict as Verdict, verify as verify
from taskflowx.testing.clock import VirtualClock as VirtualClock
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.engine import ActionEngine


class Transition(NamedTuple):
    """A transition to a state; `result` is a value or a `Failure`, or None in states that have none."""

    kind: str
    name: str
    state: str
    result: Any

    def __str__(self) -> str:
        return f"{self.name} {self.state}"


class Recorder(UniformListener):
    """Records the transitions of an engine's flow, tasks and retries, for the duration of a `with` block.

    The arguments are those of `taskflowx.listeners.base.Listener`; `transitions` has the records, in order.
    """

    transitions: list[Transition]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.transitions = []

    def states(self, name: str) -> list[str]:
        """Return the states of an atom, or of the flow, in order."""
        return [one.state for one in self.transitions if one.name == name]

    def names(self, state: str) -> list[str]:
        """Return the names of the atoms and flows that have entered a state."""
        return [one.name for one in self.transitions if one.state == state]

    def lines(self) -> list[str]:
        """Return the transitions as 'name STATE'."""
        return list(map(str, self.transitions))

    def _tfx_receive(self, kind: str, state: str, details: dict[str, Any]) -> None:
        self.transitions.append(Transition(kind, details[f"{kind}_name"], state, details.get("result")))


def assert_failures_regexp(
    exc_class: type[Exception] | str, pattern: str, callable_obj: Callable[..., Any], *args: Any, **kwargs: Any
) -> list[Failure]:
    """Call something, and check that it raises a failure of a class, with a text that matches a pattern.

    The failure may be raised itself or in a `WrappedFailure`. Returns all raised failures.

    :param exc_class: the class, or its dotted name
    :param pattern: a regular expression
    :param callable_obj: called with the further arguments
    :raises AssertionError: when there is no such failure
    """
    with failures_regexp(exc_class, pattern) as found:
        callable_obj(*args, **kwargs)
    return found


@contextlib.contextmanager
def failures_regexp(exc_class: type[Exception] | str, pattern: str) -> Iterator[list[Failure]]:
    """As `assert_failures_regexp`, for a `with` block; gives the list to which all failures are added."""
    found: list[Failure] = []
    wanted = f"a failure of {exc_class} with a text like {pattern!r}"
    try:
        yield found
    except exceptions.WrappedFailure as error:
        found.extend(error)
    except Exception as error:  # noqa: BLE001 - checked below
        found.append(Failure.from_exception(error))
    if not found:
        raise AssertionError(f"expected {wanted}, and nothing was raised")
    if not any(one.check(exc_class) and re.search(pattern, one.exception_str) for one in found):
        came = "\n".join(one.pformat(traceback=True) for one in found)
        raise AssertionError(f"expected {wanted}, got:\n{came}") from found[0].exception


class ScriptedExecutor(base.Executor):
    """Runs the calls of a run in the engine's thread, one after another, in a reproducible order.

    The seed decides the order of calls that are dispatched together. For more control, let calls be held: `run` then
    releases them in a given order, or the test itself steps through `engine.run_iter()` and releases calls whenever
    that yields WAITING.

    :param seed: a number, or a source of random numbers
    :param hold: whether calls wait until they are released; `engine.run()` would then wait forever
    """

    def __init__(self, seed: int | random.Random = 0, *, hold: bool = False) -> None:
        self._random = seed if isinstance(seed, random.Random) else random.Random(seed)
        self._hold = hold
        #: the calls that were dispatched and have not run; each has the attributes `atom`, `verb` and `kwargs`
        self.held: list[base.Call] = []
        self._deliver: Callable[[tuple[Any, Any]], None] | None = None

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Prepare to take calls."""
        self._deliver = deliver
        self.held = []

    def submit(self, calls: list[base.Call]) -> None:
        """Take calls."""
        self.held.extend(calls)
        if not self._hold:
            self.release(len(calls))

    def release(self, count: int = 1) -> None:
        """Run held calls, in an order that the seed decides."""
        for _ in range(min(count, len(self.held))):
            self._make(self.held.pop(self._random.randrange(len(self.held))))

    def release_named(self, name: str) -> None:
        """Run the call of one atom.

        :raises AssertionError: when no call of that atom is held
        """
        for place, call in enumerate(self.held):
            if call.atom.name == name:
                self._make(self.held.pop(place))
                return
        raise AssertionError(f"no call of '{name}' is held, only {self._names()}")

    def _names(self) -> list[str]:
        return [call.atom.name for call in self.held]

    def _make(self, call: base.Call) -> None:
        assert self._deliver is not None, "calls come after the start"
        try:
            outcome = base.perform(call.atom, call.verb, call.kwargs)
        except BaseException as error:  # noqa: BLE001 - as every executor does
            outcome = base.Interrupt(error)
        self._deliver((call, outcome))

    def run(self, engine: ActionEngine, order: Iterable[str] = ()) -> str:
        """Run an engine that has this executor, with calls ending in a given order; returns the state of the flow.

        :param order: names of atoms, each for the next call of its atom, `execute` or `revert`. A call that is not in
            it ends when the next listed call is not held yet, in an order that the seed decides.
        :raises AssertionError: when the calls cannot end in that order
        :raises Exception: as `engine.run()`
        """
        script, kept, self._hold = deque(order), self._hold, True
        state = ""
        try:
            with contextlib.closing(engine.run_iter()) as steps:
                for state in steps:
                    if state == states.WAITING and self.held:
                        self._release_next(script)
        finally:
            self._hold = kept
            if script:
                raise AssertionError(f"no call came for {list(script)}, which were to end in this order")
        return state

    def _release_next(self, script: deque[str]) -> None:
        held = self._names()
        if script and script[0] in held:
            self.release_named(script.popleft())
            return
        free = [name for name in held if name not in script]
        if not free:
            wanted = script[0]
            script.clear()  # this is the error, and not the calls that are missing as well
            raise AssertionError(f"'{wanted}' was to end next, but only calls of {held} have begun")
        self.release_named(self._random.choice(free))

    def recall(self) -> list[base.Call]:
        """Cancel all held calls, and return them: none of them has started."""
        left, self.held = self.held, []
        return left

    def stop(self) -> None:
        """Run the remaining calls."""
        self.release(len(self.held))


def reloaded(flow_detail: models.FlowDetail) -> models.FlowDetail:
    """Return a record as another process would read it; resuming it simulates a resume after a crash."""
    other = models.FlowDetail.from_dict(flow_detail.to_dict())
    other.revision = flow_detail.revision
    for detail in flow_detail:
        other.add(type(detail).from_dict(detail.to_dict()))
    return other
