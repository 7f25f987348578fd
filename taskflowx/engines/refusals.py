"""Whom the refusals of deciders leave out, and who is let in again when a region begins anew.

The record has, of an atom that was refused, how far that reaches; what it leaves out follows from the flow. What must
stay true: each edge is followed once for each reach, however many deciders refuse what comes before it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import deciders, states

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskflowx.engines.plan import Plan

#: in the metadata of an atom that was refused: how far that reaches
META_REFUSED = "refused"
#: in records of earlier versions: the names of the refused atoms that leave this one out
_META_LEFT_OUT_BY = "left_out_by"
METAS = (META_REFUSED, _META_LEFT_OUT_BY)


def is_known(detail: Any) -> bool:
    """Tell whether the record of an ignored atom says whose refusal that was."""
    return any(key in detail.meta for key in METAS)


class Refusals:
    """The refusals in one run.

    :param plan: what must happen
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._passed: dict[int, set[int]] = {}  # end of a reach -> the nodes of which all that follows is left out

    def left_out(self, i: int, depth: deciders.Depth) -> tuple[list[int], set[int]]:
        """Return the atoms that a refusal leaves out and no earlier one has, the refused one first, and what it passes.

        What it passes is given to `note` when all of these are on record.
        """
        plan = self._plan
        home = plan.flow_of
        if depth == deciders.Depth.ATOM:
            return [i], set()
        if depth == deciders.Depth.NEIGHBORS:
            return [i, *(s for s in plan.succ[i] if home[s] == home[i] and plan.atoms[s] is not None)], set()
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

    def _reach(self, i: int, depth: deciders.Depth) -> tuple[int, int]:
        if depth == deciders.Depth.FLOW:
            flow = self._plan.flow_of[i]
            return flow, self._plan.ranges[flow].hi
        return -1, len(self._plan)

    def note(self, i: int, depth: deciders.Depth, passed: set[int]) -> None:
        """Note that what a refusal leaves out is on record."""
        if passed:
            self._passed.setdefault(self._reach(i, depth)[0], set()).update(passed)

    def _all_left_out(self, refused: Iterable[tuple[int, deciders.Depth]]) -> set[int]:
        anew = Refusals(self._plan)
        found: set[int] = set()
        for i, depth in refused:
            atoms, passed = anew.left_out(i, depth)
            found.update(atoms)
            anew.note(i, depth, passed)
        return found

    def let_in(self, lo: int, hi: int, details: list[Any]) -> list[int]:
        """Forget the refusals in a region; returns the atoms after it that nothing else leaves out."""
        plan = self._plan
        self._passed.clear()
        ignored = [(i, details[i]) for i in plan.votes if details[i].state == states.IGNORE]
        within = [(i, _depth_of(plan, i, one) or _widest(plan, i)) for i, one in ignored if lo <= i < hi]
        after = [s for s in self._all_left_out(within) if s >= hi and details[s].state == states.IGNORE]
        if not after:
            return []
        others = ((i, _depth_of(plan, i, one)) for i, one in ignored if not lo <= i < hi)
        return sorted(set(after) - self._all_left_out((i, depth) for i, depth in others if depth is not None))


def _depth_of(plan: Plan, i: int, detail: Any) -> deciders.Depth | None:
    """Return how far the refusal of an ignored atom reaches, None if it is not known to have been refused itself."""
    kept = detail.meta.get(META_REFUSED)
    if kept in deciders.Depth.__members__.values():
        return deciders.Depth(kept)
    return _widest(plan, i) if detail.name in detail.meta.get(_META_LEFT_OUT_BY, ()) else None


def _widest(plan: Plan, i: int) -> deciders.Depth:
    return deciders.pick_widest([vote.depth for vote in plan.votes[i]])
