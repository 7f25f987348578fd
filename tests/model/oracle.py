"""How a flow must end, worked out in the simplest way: one atom at a time, by searching for what can run next.

It knows nothing of indices, counters, queues or reverts. As failures depend on the attempts of retries alone, every
order of completions has to lead to what is worked out here: the state of the flow, which atoms stand, and what their
results are.

There is one exception, and the oracle says so (`Ending.depends`): a retry that can say REVERT_ALL inside the region
of another one. If something else in that region fails first, the retry is never asked.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from tests.model import specs

SUCCESS, IGNORE, PENDING, DEAD = "SUCCESS", "IGNORE", "PENDING", "DEAD"


@dataclass
class Ending:
    """The state of the flow, atom name -> result of what stands, and what was left out by deciders."""

    state: str
    standing: dict[str, Any]
    ignored: set[str] = field(default_factory=set)
    failed: bool = False
    depends: bool = False  # on the order of completions


class _Absent(Exception):
    """A required name has no value."""


class Oracle:
    """Works out the end of one spec."""

    def __init__(self, shape: specs.Shape) -> None:
        self.shape = shape
        self.spec = shape.spec
        self.state = dict.fromkeys(shape.atoms, PENDING)
        self.results: dict[str, Any] = {}
        self.attempts = dict.fromkeys(shape.atoms, 0)
        self.left_out_by: dict[str, set[str]] = {name: set() for name in shape.atoms}
        self.failed = False
        self.depends = False

    def predict(self) -> Ending:
        """Run it."""
        state, before = self.state, self.shape.before
        while True:
            can = [
                name
                for name, now in state.items()
                if now == PENDING and all(state[b] in (SUCCESS, IGNORE) for b in before[name])
            ]
            if not can:
                break
            self._attempt(can[0])
        ended = "SUCCESS" if not self.failed_for_good() else "FAILURE" if self.spec.never_resolve else "REVERTED"
        ignored = {name for name, now in state.items() if now == IGNORE}
        return Ending(ended, dict(self.results), ignored, self.failed, self.depends)

    def failed_for_good(self) -> bool:
        return DEAD in self.state.values()

    def _attempt(self, name: str) -> None:
        atom = self.shape.atoms[name]
        try:
            depth = self._refused(name)
            if depth is not None:
                for other in self._reach(name, depth):
                    self.state[other] = IGNORE
                    self.left_out_by[other].add(name)
                return
            given = {need: self._find(name, need) for need in self.shape.needs[name]}
            if isinstance(atom, specs.Job):
                self.results[name] = specs.result_of(atom, given)
            else:
                self.results[name] = self._begin(atom)
            self.state[name] = SUCCESS
        except (specs.Broken, _Absent):
            self._fail(name)

    def _begin(self, retry: specs.Again) -> int | None:
        previous = self.attempts[retry.name]
        if retry.kind in (specs.REVERT, specs.REVERT_ALL):
            value = None
        elif retry.kind == specs.CUSTOM:
            value = specs.attempt_of(retry, previous)
        else:
            value = previous + 1
        self.attempts[retry.name] = previous + 1
        return value

    def _refused(self, name: str) -> str | None:
        votes = [
            (source, verdict, depth)
            for source, verdict, depth in self.shape.votes.get(name, ())
            if not isinstance(source, specs.Job) or self.state[source.name] != IGNORE
        ]
        history = {s.name: self.results[s.name] for s, _, _ in votes if isinstance(s, specs.Job)}
        refusing = [depth for _, verdict, depth in votes if not specs.verdict_of(verdict, history)]
        return min(refusing, key=("ALL", "FLOW", "NEIGHBORS", "ATOM").index) if refusing else None

    def _reach(self, name: str, depth: str) -> set[str]:
        shape = self.shape
        if depth == "ATOM":
            return {name}
        if depth == "ALL":
            return {name} | shape.after[name]
        # The other two stay within the flow, and members of flows nested in it are not its own.
        reached = shape.after[name] if depth == "FLOW" else {o for o, preds in shape.direct.items() if name in preds}
        return {name} | {other for other in reached if shape.group[other] is shape.group[name]}

    def _find(self, name: str, need: str) -> Any:
        if need in self.spec.store:
            return self.spec.store[need]
        for level in self.shape.levels(name):
            for provider in level:
                outputs = specs.outputs(self.shape.atoms[provider])
                if need in outputs and self.state[provider] == SUCCESS:
                    value, place = self.results[provider], outputs[need]
                    if place is None:
                        return value
                    if place < len(value):
                        return value[place]
        raise _Absent(need)

    def _fail(self, name: str) -> None:
        self.failed = True
        if self.spec.never_resolve:
            self.state[name] = DEAD
            return
        undone: set[str] | None = None
        retry = self.shape.controller(name)
        while retry is not None:
            region = self.shape.region(retry)
            outer = self.shape.controller(retry)
            if self.state[retry] != SUCCESS:  # left out by a decider: it has not begun, and is not asked
                retry = outer
                continue
            decision = self.shape.atoms[retry].decide(self.attempts[retry])
            if decision == "REVERT_ALL":
                self.depends |= outer is not None
                undone = None
                break
            self.depends |= any(self.shape.atoms[other].may_revert_all for other in region - {retry})
            if decision == "RETRY":
                self._clear(region, PENDING, keep=retry)
                return
            if decision == "RAISE":  # the retry has failed itself: it is to be undone as well
                undone = None
            elif undone is None and not self.spec.defer_reverts:
                undone = region
            retry = outer
        self._clear(self.shape.region(None) if undone is None else undone, DEAD)

    def _clear(self, region: set[str], state: str, keep: str | None = None) -> None:
        for name in region:
            self.state[name] = state
            self.results.pop(name, None)
            self.left_out_by[name].clear()
            if name != keep:
                self.attempts[name] = 0
        if (
            state == PENDING
        ):  # what was refused in there is asked again, so what it left out after it is not left out now
            for name, refused in self.left_out_by.items():
                refused.difference_update(region)
                if self.state[name] == IGNORE and not refused:
                    self.state[name] = PENDING


def predict(shape: specs.Shape) -> Ending:
    """Work out how a spec must end."""
    return Oracle(shape).predict()
