"""For tests of flows: what a run did, how it failed, and in which order its calls end.

    flow = make_flow()
    executor = testing.ScriptedExecutor()
    engine = engines.load(flow, executor=executor)
    with testing.Recorder(engine) as seen:
        executor.run(engine, order=["slow", "quick"])  # 'slow' ends first
    assert seen.states("quick") == ["RUNNING", "SUCCESS"]

Nothing here needs a framework of tests, starts a thread, or sleeps.
"""

from __future__ import annotations

import contextlib
import random
import re
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import exceptions, states
from taskflowx.executors import base
from taskflowx.listeners.base import Listener
from taskflowx.persistence import models
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator


class Transition(NamedTuple):
    """What has moved to which state; `result` is a value or a `Failure`, or None in states that have none."""

    kind: str
    name: str
    state: str
    result: Any

    def __str__(self) -> str:
        return f"{self.name} {self.state}"


class Recorder(Listener):
    """Records the transitions of an engine's flow, tasks and retries, for as long as a `with` block runs.

    The arguments are those of `taskflowx.listeners.base.Listener`; `transitions` has what was recorded, in order.
    """

    transitions: list[Transition]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.transitions = []

    def states(self, name: str) -> list[str]:
        """Return the states that an atom, or the flow, has moved to."""
        return [one.state for one in self.transitions if one.name == name]

    def names(self, state: str) -> list[str]:
        """Return the names of those that have moved to a state."""
        return [one.name for one in self.transitions if one.state == state]

    def lines(self) -> list[str]:
        """Return the transitions as 'name STATE'."""
        return list(map(str, self.transitions))

    def _flow_receiver(self, state: str, details: dict[str, Any]) -> None:
        self._record("flow", state, details)

    def _task_receiver(self, state: str, details: dict[str, Any]) -> None:
        self._record("task", state, details)

    def _retry_receiver(self, state: str, details: dict[str, Any]) -> None:
        self._record("retry", state, details)

    def _record(self, kind: str, state: str, details: dict[str, Any]) -> None:
        self.transitions.append(Transition(kind, details[f"{kind}_name"], state, details.get("result")))


def assert_failures_regexp(
    exc_class: type[Exception] | str, pattern: str, callable_obj: Callable[..., Any], *args: Any, **kwargs: Any
) -> list[Failure]:
    """Call something, and check that a failure of a class, with a text in which a pattern is found, comes out of it.

    It may come as itself or in a `WrappedFailure`. Returns all failures that came.

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
    """As `assert_failures_regexp`, for what a `with` block does; gives the list that all failures are put in."""
    found: list[Failure] = []
    wanted = f"a failure of {exc_class} with a text like {pattern!r}"
    try:
        yield found
    except exceptions.WrappedFailure as error:
        found.extend(error)
    except Exception as error:  # noqa: BLE001 - looked at below
        found.append(Failure.from_exception(error))
    if not found:
        raise AssertionError(f"expected {wanted}, and nothing was raised")
    if not any(one.check(exc_class) and re.search(pattern, one.exception_str) for one in found):
        came = "\n".join(one.pformat(traceback=True) for one in found)
        raise AssertionError(f"expected {wanted}, got:\n{came}") from found[0].exception


class ScriptedExecutor(base.Executor):
    """Makes the calls of a run in the thread of the engine, one after another, in an order that can be repeated.

    Calls that are handed out together are made in an order that the seed decides. To decide more, let the calls be
    held: `run` then releases them in a given order, or the test itself steps through `engine.run_iter()` and releases
    calls whenever that yields WAITING.

    :param seed: a number, or a source of random numbers
    :param hold: whether calls wait until they are released; `engine.run()` would then wait forever
    """

    def __init__(self, seed: int | random.Random = 0, *, hold: bool = False) -> None:
        self._random = seed if isinstance(seed, random.Random) else random.Random(seed)
        self._hold = hold
        #: the calls that have been handed out and not made; each has the attributes `atom`, `verb` and `kwargs`
        self.held: list[base.Call] = []
        self._deliver: Callable[[tuple[Any, Any]], None] | None = None

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Get ready to take calls."""
        self._deliver = deliver
        self.held = []

    def submit(self, calls: list[base.Call]) -> None:
        """Take calls."""
        self.held.extend(calls)
        if not self._hold:
            self.release(len(calls))

    def release(self, count: int = 1) -> None:
        """Make some of the calls that are held, as the seed decides."""
        for _ in range(min(count, len(self.held))):
            self._make(self.held.pop(self._random.randrange(len(self.held))))

    def release_named(self, name: str) -> None:
        """Make the call of one atom.

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

    def run(self, engine: Any, order: Iterable[str] = ()) -> str:
        """Run an engine that has this executor, with calls ending in a given order; returns the state of the flow.

        :param order: names of atoms, each for the next call of its atom, `execute` or `revert`. A call that is not in
            it ends when there is none to wait for, as the seed decides.
        :raises AssertionError: when the calls cannot end in that order
        :raises Exception: what `engine.run()` would
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
            script.clear()  # this is what is wrong, not that the others did not come either
            raise AssertionError(f"'{wanted}' was to end next, but only calls of {held} have begun")
        self.release_named(self._random.choice(free))

    def recall(self) -> list[base.Call]:
        """Give back all calls that are held: none of them has begun."""
        left, self.held = self.held, []
        return left

    def stop(self) -> None:
        """Make the calls that are left."""
        self.release(len(self.held))


def reloaded(flow_detail: models.FlowDetail) -> models.FlowDetail:
    """Return a record as another process would read it back; going on from it is what happens after a crash."""
    other = models.FlowDetail.from_dict(flow_detail.to_dict())
    other.revision = flow_detail.revision
    for detail in flow_detail:
        other.add(type(detail).from_dict(detail.to_dict()))
    return other
