"""What a report is made of. An engine or a store says it once, and the parts of the report read it."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from taskflowx.persistence.figures import Links
    from taskflowx.persistence.history import Entry
    from taskflowx.pictures.picture import Picture
    from taskflowx.types.failure import Failure


#: the note of an atom whose call nobody knows the outcome of
UNKNOWN = "waits for an answer, as the outcome of its call is not known"


class Atom(NamedTuple):
    """What is on record about one atom.

    :param flow: the name of the nearest flow around it; "" when it is not known
    :param attempts: how often it was called; 0 when it is not known
    :param seconds: how long its last call took, where something else than the history has it
    :param result: the type and the size of its result, or with `values=True` the result; "" when there is none
    :param failure: that of its execute, or of its revert
    :param earlier: of a retry: the failures of its earlier attempts, as (attempt, name of the atom, failure)
    :param note: what it waits for
    """

    name: str
    kind: str
    flow: str
    state: str
    attempts: int = 0
    seconds: float | None = None
    result: str = ""
    failure: Failure | None = None
    earlier: Sequence[tuple[int, str, Failure]] = ()
    note: str = ""


class Deed(NamedTuple):
    """What somebody did by hand; `when` is seconds since 1970."""

    what: str
    name: str | None
    who: str
    when: float
    reason: str | None


class Facts(NamedTuple):
    """What is known about a run.

    :param flow: the name of the flow
    :param run_id: the id of the run, None when it has no name
    :param state: the state of the flow
    :param atoms: in the order of the flow
    :param made_at: the time of the report, in seconds since 1970
    :param entries: the history; None when none was kept
    :param links: None when they are not known
    :param not_undone: the names of the atoms whose effects still stand
    :param by_hand: in the order in which it was done
    :param picture: None when the flow is not known
    :param cancelled: why the run was cancelled, None if it was not
    :param owner: who runs it, as far as that is known
    :param values: whether results are shown
    """

    flow: str
    run_id: str | None
    state: str
    atoms: Sequence[Atom]
    made_at: float
    entries: Sequence[Entry] | None = None
    links: Links | None = None
    not_undone: Sequence[str] = ()
    by_hand: Sequence[Deed] = ()
    picture: Picture | None = None
    cancelled: str | None = None
    owner: str | None = None
    values: bool = False

    @property
    def title(self) -> str:
        """What the run is called."""
        return self.run_id if self.run_id is not None else self.flow


def clock_time(at: float) -> str:
    """Return a moment as a date and a time of day in UTC; "" for what is none."""
    try:
        return dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    except (OverflowError, OSError, ValueError):
        return ""


def waits_until(at: float) -> str:
    """Return the note of an atom that waits until a moment."""
    return f"waits until {clock_time(at)}"


def done(progress: float) -> str:
    """Return the note of an atom that has reported how far it is, from 0.0 to 1.0."""
    return f"{progress:.0%} done"
