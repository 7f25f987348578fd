"""Questions to users' coroutine functions in the middle of a step: deciders, and `on_failure` of retries.

The scheduler asks both where it cannot wait. So a question without an answer becomes a call, which the executor awaits
as it does those of tasks, and what depends on the answer is put off: an atom with deciders stays ready and is held
back, and a failure stays unresolved, before which nothing new starts. When the answer has been delivered, the step is
taken again and finds it. `Run.questions` is None for a plan in which nobody has to be awaited.

What must stay true: a question changes nothing. It may be withdrawn, interrupted, or forgotten with the run, and is
asked again where its answer is needed then. An answer counts for the round in which it was asked: that of a decider
while its atom is ready without a break, and that of a retry until the failure that it was asked about is resolved.
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

from taskflowx import signature, states
from taskflowx.engines import resolve
from taskflowx.executors import base
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx import deciders
    from taskflowx.engines.shared import Run


class Unanswered(Exception):
    """What cannot be decided now, as a question has to be awaited first."""


class Question:
    """Takes the place of the atom in the call that asks a question about it.

    :param name: that of the atom
    :param execute: asks it
    """

    __slots__ = ("_tfx_signature", "answer", "execute", "name")

    #: unset until it has been delivered
    answer: Any

    def __init__(self, name: str, execute: Callable[[], Awaitable[Any]]) -> None:
        self.name = name
        self.execute = execute
        self._tfx_signature = _AWAITED


_AWAITED = signature.Signature((), signature.NOTHING, signature.NOTHING, False, False, signature.EXECUTES_ASYNC)


class Questions:
    """The questions of one run that have to be awaited.

    :param run: the run
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._plan, self._details = run.plan, run.details
        #: the call that asks, by the index of the atom, for deciders and for retries
        self._deciders: dict[int, base.Call] = {}
        self._retries: dict[int, base.Call] = {}
        #: what retries have decided about the failure that is being resolved, by their index
        self._decided: dict[int, Any] = {}
        #: questions that no executor has yet
        self._unasked: list[base.Call] = []

    def take(self) -> list[base.Call]:
        """Take the questions that are to be submitted."""
        unasked, self._unasked = self._unasked, []
        return unasked

    def hold_back(self) -> list[int]:
        """Remove from the Walk what waits for an answer, and return it; what was not asked yet is asked."""
        run, walk, asks = self._run, self._run.walk, self._plan.awaits_before
        ready = [i for i in walk.ready if i in asks and i not in run.repeated]
        if self._deciders:
            for i in self._deciders.keys() - set(ready):  # rolled back since
                del self._deciders[i]
        held = []
        for i in ready:
            call = self._deciders.get(i)
            if call is None:
                find = run.binder.seen_values
                ask = functools.partial(resolve.awaited_veto, self._plan, i, self._details, find)
                call = self._deciders[i] = self._ask(i, ask)
            elif hasattr(call.atom, "answer"):
                continue
            held.append(i)
        if held:
            waits = set(held)
            walk.ready = [i for i in walk.ready if i not in waits]
        return held

    def verdict(self, i: int) -> deciders.Depth | None:
        """Return what the deciders before an atom have answered; see `resolve.veto`.

        :raises Exception: what one of them has raised
        """
        depth: deciders.Depth | None = _result(self._deciders.pop(i))
        return depth

    def decision(self, r: int, ask: Callable[[], Awaitable[Any]]) -> Any:
        """Return what the `on_failure` of a retry has answered.

        :raises Unanswered: when it has not answered yet
        :raises Exception: what it has raised
        """
        call = self._retries.get(r)
        if call is None:
            self._retries[r] = self._ask(r, ask)
        elif hasattr(call.atom, "answer"):
            return _result(call)
        raise Unanswered

    def once(self, ask: Callable[[int, str], Any]) -> Callable[[int, str], Any]:
        """Return what asks each retry once about a failure, also when one around it has to be awaited first.

        :param ask: asks a retry, by its index
        """
        decided = self._decided

        def asked(r: int, name: str) -> Any:
            if r not in decided:
                decided[r] = ask(r, name)
            return decided[r]

        return asked

    def settle(self) -> None:
        """Forget what retries have answered: the failure that they were asked about is resolved."""
        self._retries.clear()
        self._decided.clear()

    def _ask(self, i: int, ask: Callable[[], Awaitable[Any]]) -> base.Call:
        call = base.Call(i, Question(self._plan.atoms[i].name, ask), states.EXECUTE, {})
        self._unasked.append(call)
        return call

    def answered(self, call: base.Call, outcome: Any) -> None:
        """Note an answer."""
        call.atom.answer = outcome

    def withdraw(self, call: base.Call) -> None:
        """Forget a question that was not asked, as its call was cancelled."""
        for asked in (self._deciders, self._retries):
            if asked.get(call.index) is call:
                del asked[call.index]


def _result(call: base.Call) -> Any:
    answer = call.atom.answer
    if isinstance(answer, Failure):
        answer.reraise()
    return answer
