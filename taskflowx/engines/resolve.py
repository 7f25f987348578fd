"""Pure decisions of a run: which region a failure rolls back, and whether deciders veto an atom.

Nothing here changes anything. The scheduler passes in how to ask a retry, and carries out what comes back.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from types import CoroutineType
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import deciders, retry, states
from taskflowx._util import arguments

if TYPE_CHECKING:
    from taskflowx.engines.plan import Plan

    #: the index of an atom, names without a default and with one -> the values that it sees under them
    Find = Callable[[int, tuple[str, ...], tuple[str, ...]], dict[str, Any]]


#: the answer of a retry that has failed instead of deciding
FAILED: Any = object()


class Resolution(NamedTuple):
    """The region `lo <= i < hi` that a failure rolls back; `restart` is the retry to run again after it, or -1."""

    lo: int
    hi: int
    restart: int = -1


def resolve(plan: Plan, failed: int, ask: Callable[[int, str], Any], *, defer_reverts: bool = False) -> Resolution:
    """Find the region that the failure of an atom rolls back, asking the retries around it from the inside out.

    :param ask: called with the index of a retry and the name under which the failure goes into its history; returns the
        decision, None when that retry is not to be asked, or FAILED when it is to be undone itself
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
        if decision is FAILED:
            found, name = None, plan.atoms[r].name
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


def veto(plan: Plan, i: int, details: Sequence[Any], find: Find | None = None) -> deciders.Depth | None:
    """Ask the deciders before an atom; returns how far their veto reaches, or None when all agree.

    A decider on the link from an atom that is ignored is not asked.

    :param find: returns the values that an atom sees under names, without a default and with one
    """
    refusing = []
    for depth, ask in _asked(plan, i, details, find):
        agrees = ask()
        if type(agrees) is CoroutineType:
            what = f"the decider before '{plan.atoms[i].name}'"
            raise arguments.unawaited(what, agrees)
        if not agrees:
            refusing.append(depth)
    return deciders.pick_widest(refusing) if refusing else None


async def awaited_veto(plan: Plan, i: int, details: Sequence[Any], find: Find) -> deciders.Depth | None:
    """As `veto`, where deciders may be coroutine functions."""
    refusing = []
    for depth, ask in _asked(plan, i, details, find):
        agrees = ask()
        if hasattr(agrees, "__await__"):
            agrees = await agrees
        if not agrees:
            refusing.append(depth)
    return deciders.pick_widest(refusing) if refusing else None


def _asked(
    plan: Plan, i: int, details: Sequence[Any], find: Find | None
) -> Iterator[tuple[deciders.Depth, Callable[[], Any]]]:
    """Iterate over the deciders that are asked: how far their veto reaches, and what asks them."""
    asked = [v for v in plan.votes[i] if v.source < 0 or details[v.source].state != states.IGNORE]
    history = {plan.atoms[v.source].name: details[v.source].results for v in asked if v.source >= 0}
    for v in asked:
        ask = functools.partial(v.decider, history=history)
        if find is not None and isinstance(v.decider, deciders.When) and (v.decider.required or v.decider.optional):
            ask = functools.partial(ask, values=find(i, v.decider.required, v.decider.optional))
        yield v.depth, ask
