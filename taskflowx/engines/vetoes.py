"""The atoms that the vetoes of deciders skip, and that are readmitted when a region restarts.

The record of a vetoed atom says how far the veto reaches; the atoms that it skips follow from the flow. What must stay
true: each edge is followed once for each reach, however many deciders veto what comes before it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskflowx import deciders, states

if TYPE_CHECKING:
    from taskflowx.engines.plan import Plan

#: in the metadata of an atom that a decider has vetoed: how far that reaches
META_REFUSED = "refused"
#: in records of earlier versions: the names of the vetoed atoms that have skipped this one
_META_LEFT_OUT_BY = "left_out_by"
METAS = (META_REFUSED, _META_LEFT_OUT_BY)


def is_known(detail: Any) -> bool:
    """Tell whether the record of an ignored atom says which veto that was."""
    return any(key in detail.meta for key in METAS)


class Vetoes:
    """The vetoes in one run.

    :param plan: what must happen
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._homes = [*map(plan.home, range(len(plan)))] if plan.around else plan.flow_of
        self._passed: dict[int, set[int]] = {}  # end of a reach -> the nodes of which all successors are skipped

    def skipped_by(self, i: int, depth: deciders.Depth) -> tuple[list[int], set[int]]:
        """Return the atoms that a veto skips and no earlier one has, the vetoed one first, and the nodes passed.

        What it passes is given to `note` when all of these are on record.
        """
        plan = self._plan
        home = self._homes
        if depth == deciders.Depth.ATOM:
            return self._whole(i), set()
        if depth == deciders.Depth.NEIGHBORS:
            atoms = self._whole(i)
            for s in plan.succ[atoms[-1]]:
                if home[s] == home[i] and plan.atoms[s] is not None:
                    atoms += self._whole(s)
            return atoms, set()
        key, hi = self._reach(i, depth)
        before = self._passed.get(key, ())
        passed, stack = {i}, [i]
        while stack:
            for s in plan.succ[stack.pop()]:
                if s < hi and s not in passed and s not in before:
                    passed.add(s)
                    stack.append(s)
        own = depth == deciders.Depth.FLOW  # flows nested in this one are flows of their own
        atoms = [s for s in sorted(passed) if plan.atoms[s] is not None and not (own and home[s] != home[i])]
        return atoms, passed

    def _whole(self, i: int) -> list[int]:
        """Return an atom, and with the controller that a task has by itself that task: to a decider they are one."""
        task = self._plan.around.get(self._plan.flow_of[i], i)
        return [i] if task == i else [i, task]

    def _reach(self, i: int, depth: deciders.Depth) -> tuple[int, int]:
        if depth == deciders.Depth.FLOW:
            flow = self._homes[i]
            return flow, self._plan.ranges[flow].hi
        return -1, len(self._plan)

    def note(self, i: int, depth: deciders.Depth, passed: set[int]) -> None:
        """Note that the atoms which a veto skips are on record."""
        if passed:
            self._passed.setdefault(self._reach(i, depth)[0], set()).update(passed)

    def _all_skipped_by(self, refused: Iterable[tuple[int, deciders.Depth]]) -> set[int]:
        fresh = Vetoes(self._plan)
        found: set[int] = set()
        for i, depth in refused:
            atoms, passed = fresh.skipped_by(i, depth)
            found.update(atoms)
            fresh.note(i, depth, passed)
        return found

    def skippable(self, vetoed: Iterable[int]) -> set[int]:
        """Return the atoms that the deciders before some atoms can skip."""
        return self._all_skipped_by((i, _widest(self._plan, i)) for i in vetoed)

    def readmitted(self, lo: int, hi: int, details: list[Any]) -> list[int]:
        """Forget the vetoes in a region; returns the atoms after it that no other veto skips."""
        plan = self._plan
        self._passed.clear()
        ignored = [(i, details[i]) for i in plan.votes if details[i].state == states.IGNORE]
        within = [(i, _depth_of(plan, i, one) or _widest(plan, i)) for i, one in ignored if lo <= i < hi]
        after = [s for s in self._all_skipped_by(within) if s >= hi and details[s].state == states.IGNORE]
        if not after:
            return []
        others = ((i, _depth_of(plan, i, one)) for i, one in ignored if not lo <= i < hi)
        return sorted(set(after) - self._all_skipped_by((i, depth) for i, depth in others if depth is not None))


def _depth_of(plan: Plan, i: int, detail: Any) -> deciders.Depth | None:
    """Return how far the veto on an ignored atom reaches; None if it is not known to have been vetoed itself."""
    kept = detail.meta.get(META_REFUSED)
    if kept in deciders.Depth.__members__.values():
        return deciders.Depth(kept)
    return _widest(plan, i) if detail.name in detail.meta.get(_META_LEFT_OUT_BY, ()) else None


def _widest(plan: Plan, i: int) -> deciders.Depth:
    return deciders.pick_widest([vote.depth for vote in plan.votes[i]])
