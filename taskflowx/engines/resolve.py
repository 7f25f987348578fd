"""Pure decisions of a run: what a failure turns round, and what deciders leave out.

Nothing here changes anything. The scheduler passes in how to ask a retry, and carries out what comes back.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import deciders, retry, states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from taskflowx.engines.plan import Plan


class Resolution(NamedTuple):
    """The region `lo <= i < hi` that a failure turns round; `restart` is the retry to run again after it, or -1."""

    lo: int
    hi: int
    restart: int = -1


def resolve(plan: Plan, failed: int, ask: Callable[[int, str], Any], *, defer_reverts: bool = False) -> Resolution:
    """Find what the failure of an atom turns round, asking the retries around it from the inside out.

    :param ask: called with the index of a retry and the name under which the failure goes into its history; returns the
        decision, or None when that retry is not to be asked
    :param defer_reverts: whether a controller that says REVERT leaves the size of the region to the one around it
    :raises TypeError: when a retry answers with what is no decision
    """
    everything = Resolution(0, len(plan))
    found: Resolution | None = None
    name = plan.atoms[failed].name
    r = plan.controller(failed)
    while r >= 0:
        decision = ask(r, name)
        if decision is None:
            r = plan.controller(r)
            continue
        region = Resolution(*plan.region(r))
        if decision == retry.RETRY:
            return region._replace(restart=r)
        if decision == retry.REVERT_ALL:
            return everything
        if decision != retry.REVERT:
            options = [option.value for option in retry.Decision]
            msg = f"Retry '{plan.atoms[r].name}' decided on {decision!r}, expected one of {options} from its on_failure"
            raise TypeError(msg)
        if found is None:
            found = region
        name = plan.atoms[r].name
        r = plan.controller(r)
    return everything if found is None or defer_reverts else found


def refusal(plan: Plan, i: int, details: Sequence[Any]) -> deciders.Depth | None:
    """Ask the deciders before an atom; returns how far their refusal reaches, or None when all agree.

    A decider on the link from an atom that is ignored is not asked.
    """
    asked = [v for v in plan.votes[i] if v.source < 0 or details[v.source].state != states.IGNORE]
    history = {plan.atoms[v.source].name: details[v.source].results for v in asked if v.source >= 0}
    refusing = [v.depth for v in asked if not v.decider(history=history)]
    return deciders.pick_widest(refusing) if refusing else None


def ignored(plan: Plan, i: int, depth: deciders.Depth, is_closed: Callable[[int], bool] | None = None) -> list[int]:
    """Return the atoms that a refusal before atom `i` leaves out, `i` itself first, in the order of their indices.

    :param is_closed: tells of an atom whether it has been left out before together with all that this depth reaches
        from it; such atoms, and what lies behind them alone, are not looked at again
    """
    if depth == deciders.Depth.ATOM:
        return [i]
    home = plan.home
    if depth == deciders.Depth.NEIGHBORS:
        return [i, *(s for s in plan.succ[i] if home[s] == home[i] and plan.atoms[s] is not None)]
    hi = plan.spans[home[i]].hi if depth == deciders.Depth.FLOW else len(plan)
    reached = _reached(plan, (i,), hi, is_closed)
    own = depth == deciders.Depth.FLOW  # flows nested in this one are flows of their own
    return [s for s in sorted(reached) if plan.atoms[s] is not None and not (own and home[s] != home[i])]


def following(plan: Plan, atoms: Iterable[int]) -> set[int]:
    """Return some atoms and all that comes after any of them, in one walk."""
    return {s for s in _reached(plan, atoms, len(plan), None) if plan.atoms[s] is not None}


def _reached(plan: Plan, starts: Iterable[int], hi: int, is_closed: Callable[[int], bool] | None) -> set[int]:
    """Return nodes and what comes after them, before an index."""
    reached = set(starts)
    stack = list(reached)
    while stack:
        for s in plan.succ[stack.pop()]:
            if s < hi and s not in reached and (is_closed is None or not is_closed(s)):
                reached.add(s)
                stack.append(s)
    return reached
