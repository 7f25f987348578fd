"""When and where the last call of each atom was made, as the history of its run has it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from taskflowx import states

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskflowx.persistence.history import Entry


class Times(NamedTuple):
    """The last call of an atom; times are in seconds since 1970, None where the call has not come so far."""

    attempt: int
    queued: float
    started: float | None = None
    ended: float | None = None
    worker: str | None = None

    @property
    def seconds(self) -> float | None:
        """How long it took; None where that is not known."""
        return None if self.started is None or self.ended is None else max(self.ended - self.started, 0.0)


def of_history(entries: Iterable[Entry]) -> dict[str, Times]:
    """Return the name of an atom -> its last call, of the atoms that have been called."""
    found: dict[str, Times] = {}
    for entry in entries:
        if entry.atom is None:
            continue
        if entry.new in states.CALLED:
            found[entry.atom] = Times(entry.attempt, entry.at)
        elif entry.began is not None:
            before = found.get(entry.atom) or Times(entry.attempt, entry.began)
            found[entry.atom] = before._replace(started=entry.began, ended=entry.at, worker=entry.worker)
    return found
