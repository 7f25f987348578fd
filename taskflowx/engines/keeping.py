"""Which results are let go of while a run goes on, with the option `keep_results`.

A result is of no use any more once each task that takes it has ended, if no `revert` takes it, its own one included, no
decider sees it, and no retry can have one of those tasks run again, or run that a veto has skipped, without the task
that gave it. All of this is known before the run. What must stay true: what may still be taken is never let go of.
"""

from __future__ import annotations

import itertools
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any

from taskflowx import deciders, states, task
from taskflowx.atom import Atom
from taskflowx.engines.vetoes import Vetoes

if TYPE_CHECKING:
    from taskflowx.engines.plan import Plan


class Keeping:
    """The tasks that have still to take each result.

    :param plan: the compiled flow
    :param details: the record of each atom, by index
    :param kept: the names of values that are kept
    """

    def __init__(self, plan: Plan, details: list[Any], kept: Collection[str]) -> None:
        self._details = details
        #: task -> those that take its result
        self._takers = dict(_takers(plan, frozenset(kept)))
        #: the same, the other way round
        self._taken_by: dict[int, list[int]] = {}
        for i, takers in self._takers.items():
            for j in takers:
                self._taken_by.setdefault(j, []).append(i)
        #: task -> those that have still to take its result
        self._left: dict[int, set[int]] = {}
        self.recount()

    def recount(self) -> None:
        """Take in that atoms were reset."""
        details = self._details
        self._left = {
            i: {j for j in takers if details[j].state not in states.PASSED} for i, takers in self._takers.items()
        }

    def takers(self, i: int) -> frozenset[int]:
        """Return the tasks that take the result of a task which can be let go of."""
        return self._takers[i]

    def ended(self, j: int) -> list[int]:
        """Take in that an atom has ended; returns the tasks whose results nobody will take. May be called again."""
        left = self._left
        for i in self._taken_by.get(j, ()):
            left[i].discard(j)
        of_these = (j, *self._taken_by.get(j, ()))
        return [i for i in of_these if i in left and not left[i] and self._details[i].state == states.SUCCESS]


def _takers(plan: Plan, kept: frozenset[str]) -> Iterator[tuple[int, frozenset[int]]]:
    """Iterate over the tasks whose results can be let go of, each with those that take its result."""
    takers: dict[str, list[int]] = {}
    forever = set(kept)
    for j, atom in enumerate(plan.atoms):
        if atom is not None:
            signature = atom._tfx_signature
            forever.update(signature.revert.names)
            if isinstance(atom, task.Task):
                for name in signature.execute.names:
                    takers.setdefault(name, []).append(j)
            else:
                forever.update(signature.execute.names)  # a retry takes them each time that it is asked
    for vote in itertools.chain.from_iterable(plan.votes.values()):
        forever.update(*_taken_by(vote.decider))
    readmitting = _readmitting(plan)
    seen = {vote.source for votes in plan.votes.values() for vote in votes}
    for i, atom in enumerate(plan.atoms):
        if isinstance(atom, task.Task) and i not in seen and not _undone_by_result(atom):
            names = {name for name, _ in atom._tfx_signature.outputs}
            mine = frozenset(j for name in names for j in takers.get(name, ()) if j != i)
            if not names & forever and all(_runs_again_with(plan, j, i, readmitting) for j in mine):
                yield i, mine


def _taken_by(decider: Any) -> tuple[tuple[str, ...], ...]:
    """Return the names of values that a decider takes, other than those of the atom before its link."""
    return (decider.required, decider.optional) if isinstance(decider, deciders.When) else ()


def _undone_by_result(atom: task.Task) -> bool:
    """Tell whether the revert of a task takes what its execute has returned, and is not the one that does nothing."""
    is_empty = type(atom).revert is Atom.revert or getattr(atom, "_tfx_revert", Atom) is None
    return atom._tfx_signature.takes_result and not is_empty


def _readmitting(plan: Plan) -> dict[int, list[int]]:
    """Return atom -> the retries around deciders that may skip it, though it comes after what the retry controls.

    When such a retry runs again, the atom is readmitted. The innermost one around each decider stands for all.
    """
    decided: dict[int, list[int]] = {}
    for i in plan.votes:
        decided.setdefault(plan.controller(i), []).append(i)
    decided.pop(-1, None)
    found: dict[int, list[int]] = {}
    for r, atoms in decided.items():
        _, hi = plan.region(r)
        for j in Vetoes(plan).skippable(atoms):
            if j >= hi:
                found.setdefault(j, []).append(r)
    return found


def _runs_again_with(plan: Plan, j: int, i: int, readmitting: dict[int, list[int]]) -> bool:
    """Tell whether each retry that can have atom `j` run, or run again, has atom `i` run again, too."""
    retries = [*readmitting.get(j, ())]
    r = plan.controller(j)
    while r >= 0:
        retries.append(r)
        r = plan.controller(r)
    return all(lo <= i < hi for lo, hi in map(plan.region, retries))


def of(plan: Plan, details: list[Any], kept: bool | Collection[str]) -> Keeping | None:
    """Return which results are let go of in a run; None when all are kept.

    :param kept: the option `keep_results`: True, False, or the names of values that are kept
    :raises ValueError: names those that nothing provides
    """
    if kept is True:
        return None
    names = frozenset(kept or ())
    provided = {name for atom in plan.atoms if atom is not None for name, _ in atom._tfx_signature.outputs}
    if not names <= provided:
        raise ValueError(f"keep_results names {sorted(names - provided)}, which nothing in {plan.flow} provides")
    return Keeping(plan, details, names)
