"""The notes on the exceptions that leave a run: which atom of which flow has failed, in which attempt, and where.

`Transitions` asks for the number of an attempt when a failure comes, as the history of a retry is empty once it has
been reverted. Everything else is worked out when a run has failed. What must stay true: nothing here raises, whatever
the class of an exception does with its notes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import deciders, exceptions, retry, states

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskflowx.engines.plan import Plan, Vote
    from taskflowx.engines.shared import Run
    from taskflowx.types.failure import Failure

#: how many notes of places an exception collects that is raised over and over; the oldest give way
_MOST = 16
#: in place of the number of an attempt: the atom has not begun, as a decider before it has raised
UNDECIDED = -1
_OURS = ("in task ", "in retry ", "in the revert of ", "in the decider of ", "in a decider of ")
#: how many characters the places of several failures take at most, and each of them
_ROOM, _ROOM_FOR_ONE = 600, 200


def attempt_of(plan: Plan, details: list[Any], i: int) -> int:
    """Return the number of the attempt in which atom `i` is under way; 0 where no retry repeats it."""
    r = _repeater(plan, i)
    if r < 0:
        return 0
    begins = r == i and details[r].state == states.RUNNING  # its own execute is not in the history yet
    return len(details[r].results or ()) + begins


def _repeater(plan: Plan, i: int) -> int:
    """Return the index of the nearest retry that may repeat atom `i`, which may be itself; -1 if there is none."""
    r = plan.ranges[plan.flow_of[i]].controller  # a retry is controlled by itself here
    while r >= 0 and isinstance(plan.atoms[r], (retry.AlwaysRevert, retry.AlwaysRevertAll)):
        r = plan.controller(r)
    return r


def place_of(plan: Plan, name: str, attempt: int, executor: str, *, reverts: bool) -> str:
    """Return where a failure has come from.

    :param name: the name of the atom; the flow is the nearest one around it
    :param attempt: the number that `attempt_of` gave when it failed
    :param executor: the kind of executor
    """
    i = plan.names.get(name, -1)  # -1: the flow does not have it any more
    flow = plan.flow if i < 0 else plan.ranges[plan.home(i)].flow
    if attempt == UNDECIDED and i >= 0:
        links = {_link_of(plan, i, vote) for vote in plan.votes.get(i, ())}
        which = f"the decider of the link {links.pop()}" if len(links) == 1 else f"a decider of the links to '{name}'"
        return f"in {which} of flow {flow.name!r} ({executor})"
    kind = "retry" if i >= 0 and isinstance(plan.atoms[i], retry.Retry) else "task"
    verb = "the revert of " if reverts else ""
    where = f"{_counted(plan, i, attempt)}, {executor}" if attempt > 0 and i >= 0 else executor
    return f"in {verb}{kind} {name!r} of flow {flow.name!r} ({where})"


def _link_of(plan: Plan, i: int, vote: Vote) -> str:
    if isinstance(vote.decider, deciders.When):
        return vote.decider.link
    before = plan.atoms[vote.source].name if vote.source >= 0 else "a flow"
    return f"'{before}' -> '{plan.atoms[i].name}'"


def _counted(plan: Plan, i: int, attempt: int) -> str:
    try:
        limit = plan.atoms[_repeater(plan, i)]._tfx_limit()
    except Exception:  # a subclass of ours has not called its constructor
        limit = None
    return f"attempt {attempt}" if limit is None else f"attempt {attempt} of {limit}"


def counted_attempt(plan: Plan, details: list[Any], i: int) -> str:
    """Return which attempt of atom `i` is under way, as text: 'attempt 2 of 3'; '' where no retry repeats it."""
    attempt = attempt_of(plan, details, i)
    return _counted(plan, i, attempt) if attempt else ""


def add_places(error: Exception, places: list[tuple[Failure, str]], flow: str) -> None:
    """Add to the exception of a run, and to those that it consists of, where they have come from.

    :param places: each failure, with what `place_of` has said of it
    :param flow: the name of the flow
    """
    several = isinstance(error, exceptions.WrappedFailure)
    for failure, place in places:
        raised = failure.exception
        if several and isinstance(raised, exceptions.WrappedFailure):  # a run in a task: these are its failures
            for part in raised.exceptions:
                add(part, place)
        elif raised is not None:
            add(raised, place)
    if several and all(failure.exception is not error for failure, _ in places):
        listed = "\n  ".join(_fitting([place for _, place in places]))
        add(error, f"{len(places):,} failed in the run of {flow!r}:\n  {listed}")


def _fitting(places: list[str]) -> Iterator[str]:
    """Iterate over the first places, as many as there is room for, and the number of the others."""
    left = _ROOM
    for number, place in enumerate(places):
        left -= min(len(place), _ROOM_FOR_ONE)
        if left < 0:
            yield f"and {len(places) - number:,} more"
            return
        yield place if len(place) <= _ROOM_FOR_ONE else f"{place[:_ROOM_FOR_ONE]}..."


def add_interrupted(error: BaseException, run: Run, i: int, verb: str) -> None:
    """Add to what is no `Exception` and has ended a call, such as an exit, which call that was."""
    attempt = attempt_of(run.plan, run.details, i)
    kind = run.executor.kind or type(run.executor).__name__
    add(error, place_of(run.plan, run.details[i].name, attempt, kind, reverts=verb == states.REVERT))


def add(error: BaseException, note: str) -> None:
    """Add a note to an exception, unless it has it, or its class takes none."""
    try:
        notes = getattr(error, "__notes__", None) or []
        if note in notes:
            return
        if len(notes) >= _MOST:
            ours = [one for one in notes if isinstance(one, str) and one.startswith(_OURS)]
            if len(ours) >= _MOST:
                notes.remove(ours[0])
        error.add_note(note)
    except Exception:  # a frozen class, or notes that are no list
        return
