"""The counters of a `Walk` over a record that is not closed under predecessors.

In such a record something has begun although a predecessor of it has not run: the flow was changed between two runs,
one atom was reset by hand, or another program was killed between two of its writes. `Walk` finds that out and comes
here, when it is opened, and then each time that a region is rolled back: all counters are computed from the details,
which costs O(V + E). Records of flows that stay as they are never come here.

What must stay true:

- What is on record as done is passed when its predecessors have run, and is never executed again.
- A region is rolled back as a whole, with the atoms that are new in it.
- What has begun after a region that is rolled back is rolled back with it, and before it. UNDONE_WITH marks it: when a
  retry runs the region again, it is reset, too.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import states

if TYPE_CHECKING:
    from taskflowx.engines.plan import Plan
    from taskflowx.engines.walk import Walk

#: in `Walk.standing`, of a node that is not rolled back, or of which nothing stands any more
CLEAR = -1
#: in the metadata of an atom that is rolled back with a region before it: the name of the retry that runs that region
#: again, and this atom after it; empty when nothing runs again
UNDONE_WITH = "undone_with"


def is_region(plan: Plan, lo: int, end: int) -> bool:
    """Tell whether the range of atoms from `lo` to before `end` is all of the flow, or all that a retry controls.

    So is a retry alone: it was to run again, after all else had been reset.
    """
    if not lo and end == _last_atom(plan, len(plan)) + 1:
        return True
    return _controls(plan, lo) and end in (lo + 1, _last_atom(plan, plan.region(lo)[1]) + 1)


def _last_atom(plan: Plan, hi: int) -> int:
    return next(i for i in range(hi - 1, -1, -1) if plan.atoms[i] is not None)


def recount(walk: Walk, plan: Plan, details: list[Any], *, fresh: bool) -> None:
    """Compute all counters from the details.

    :param fresh: whether the record has just been opened, so that nothing of it is under way
    """
    if fresh:
        _complete_regions(walk, plan, details)
    unwinding = _unwinding(walk, plan, details)
    count_unmet(walk, plan, details, fresh=fresh)
    standing = walk.standing
    walk.undo = []
    for key in [key for key in walk.held if key < 0]:
        del walk.held[key]
    for i in range(len(details) - 1, -1, -1):
        standing[i] = CLEAR
        if unwinding[i]:
            standing[i] = sum(standing[s] != CLEAR for s in plan.succ[i])
            if not standing[i]:
                walk.settle(i, details[i])


def count_unmet(walk: Walk, plan: Plan, details: list[Any], *, fresh: bool) -> None:  # noqa: C901 - one sweep
    """Set `unmet` of all nodes, and what follows from it.

    :param fresh: see `recount`
    """
    unmet, plain = walk.unmet, walk.plain
    unmet[:], plain[:] = plan.degree, plan.plain
    walk.failed = []
    ready: list[int] = []
    for i, detail in enumerate(details):
        state = None if detail is None else detail.state
        if state == states.IGNORE:
            plain[i] = 0
        if detail is not None and detail.intention in states.ROLLING_BACK:
            unmet[i] = plan.degree[i]
            if fresh and state in states.INTERRUPTED:
                walk.interrupted.add(i)
        elif unmet[i]:
            if state == states.SUCCESS:
                plain[i] = 0
            elif state == states.RUNNING and fresh:
                walk.interrupted.add(i)
            elif state == states.FAILURE:
                walk.failed.append(i)
        elif detail is None or state in states.PASSED:
            for s in plan.succ[i]:
                unmet[s] -= 1
        else:
            (walk.failed if state == states.FAILURE else ready).append(i)
    if not fresh:  # what runs in this process is not ready, though it is in a state in which a crash would leave it so
        may_start = set(ready)
        ready = [i for i in walk.ready if i in may_start]
        for key in [key for key in walk.held if key >= 0 and key not in may_start]:
            del walk.held[key]
    walk.ready = ready


def undone_with(details: list[Any], name: str) -> list[int]:
    """Return the atoms that are rolled back with the region before them that a retry of this name runs again."""
    return [
        i for i, detail in enumerate(details) if detail is not None and (detail.own_meta or {}).get(UNDONE_WITH) == name
    ]


def _controls(plan: Plan, i: int) -> bool:
    return plan.ranges[plan.flow_of[i]].retry == i


def _is_marked(detail: Any) -> bool:
    return bool(detail.own_meta) and UNDONE_WITH in detail.own_meta


def _intend(walk: Walk, i: int, detail: Any, intention: str) -> None:
    if detail.intention != intention:
        detail.intention = intention
        walk.adjusted.append(i)


def _complete_regions(walk: Walk, plan: Plan, details: list[Any]) -> None:
    """Have all atoms of a region rolled back of which some are on record as rolled back.

    A failure that has rolled nothing back yet is left to be resolved, as what was interrupted may have meant more.
    """
    for i, detail in enumerate(details):
        if detail is not None and detail.state == states.RETRYING and detail.intention == states.EXECUTE:
            _intend(walk, i, detail, states.RETRY)  # a process was killed as it reset the region
    walk.rolling_back = _regions(plan, details)
    for lo, hi in walk.rolling_back:
        for i in range(lo, hi):
            detail = details[i]
            if detail is None or (i == lo and _runs_again(plan, details, lo)):
                continue
            if not _is_unresolved(detail):
                _intend(walk, i, detail, states.REVERT)
    within = {i for lo, hi in walk.rolling_back for i in range(lo, hi)}
    for i, detail in enumerate(details):  # OpenStack TaskFlow marks what comes after a region, though it has not begun
        if detail is not None and detail.state == states.PENDING and i not in within and not _is_marked(detail):
            _intend(walk, i, detail, states.EXECUTE)


def _is_unresolved(detail: Any) -> bool:
    """Tell whether an atom has failed, and that has rolled nothing back yet."""
    return detail is not None and detail.state == states.FAILURE and detail.intention == states.EXECUTE


def _runs_again(plan: Plan, details: list[Any], lo: int) -> bool:
    return _controls(plan, lo) and bool(details[lo].intention == states.RETRY)


def _regions(plan: Plan, details: list[Any]) -> list[tuple[int, int]]:
    """Return the regions that are on record, by one of their atoms, as rolled back; none is within another one."""
    found: list[tuple[int, int]] = []
    end = 0
    for i, detail in enumerate(details):
        if i < end or detail is None or detail.intention not in states.ROLLING_BACK or _is_marked(detail):
            continue
        outermost, r = -1, i if _controls(plan, i) else plan.controller(i)
        while r >= 0:
            if details[r].intention in states.ROLLING_BACK and not _is_marked(details[r]):
                outermost = r
            r = plan.controller(r)
        if outermost < 0 and detail.state == states.PENDING:
            continue
        if outermost < 0:
            return [(0, len(plan))]
        found.append(plan.region(outermost))
        end = found[-1][1]
    return found


def _unwinding(walk: Walk, plan: Plan, details: list[Any]) -> bytearray:
    """Return 1 for each node that is rolled back, or comes after one; what has begun there is rolled back, too."""
    unwinding = bytearray(len(details))
    origin: dict[int, str] = {}
    for lo, hi in walk.rolling_back:
        unwinding[lo:hi] = b"\1" * (hi - lo)
        origin.update(dict.fromkeys(range(lo, hi), details[lo].name if _runs_again(plan, details, lo) else ""))
    regions = dict(walk.rolling_back)
    for i, detail in enumerate(details):
        if unwinding[i]:
            if i in regions and _runs_again(plan, details, i):
                _join(walk, details, range(i, regions[i]), {origin[p] for p in plan.pred[i] if unwinding[p]}, origin)
            continue
        origins = {origin[p] for p in plan.pred[i] if unwinding[p]}
        marked = detail is not None and detail.intention in states.ROLLING_BACK
        if not (origins or marked) or _is_unresolved(detail):
            continue
        unwinding[i] = 1
        origin[i] = _origin(origins)
        if detail is None or not (marked or detail.state not in states.NOT_BEGUN):
            continue
        if not marked:
            detail.meta[UNDONE_WITH] = origin[i]
            _intend(walk, i, detail, states.REVERT)
        walk.note_rolling_back(i, i + 1)
    return unwinding


def _origin(origins: set[str]) -> str:
    return "" if "" in origins else min(origins, default="")


def _join(walk: Walk, details: list[Any], region: range, origins: set[str], origin: dict[int, str]) -> None:
    """Have a region that was to run again rolled back with the one before it, of which it got the origin."""
    if not origins:
        return
    walk.rolling_back.remove((region.start, region.stop))
    name = _origin(origins)
    for i in region:
        origin[i] = name
        detail = details[i]
        if detail is not None:
            detail.meta[UNDONE_WITH] = name
            detail.intention = states.REVERT
            walk.adjusted.append(i)
            walk.note_rolling_back(i, i + 1)
