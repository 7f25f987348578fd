"""A run on record as what a report is made of: what `RunView.report` writes.

The flow itself is not on record. Its graph is drawn from the outline that is kept of a run with an id, and so without
the flows that its atoms are in.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from taskflowx import states, task
from taskflowx.patterns import graph_flow
from taskflowx.pictures import model, picture
from taskflowx.reports import facts, texts, writing

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from taskflowx.persistence.figures import Links
    from taskflowx.runs.view import AtomView, RunView

#: results from so many bytes on are shown with their size in the store
_LARGE = 1024
#: flows of more atoms, or more links, are not drawn
_MOST_DRAWN, _MOST_LINKS = 1000, 5000


def write(path: str | os.PathLike[str], view: RunView, *, values: bool, trace: bool) -> None:
    """Write a report of a run; see `RunView.report`."""
    writing.write(path, facts_of(view, values=values), trace=trace)


def facts_of(view: RunView, *, values: bool = False) -> facts.Facts:
    """Return what is known about a run.

    :param values: whether its results are shown
    """
    links = view.links
    return facts.Facts(
        flow=view.flow,
        run_id=view.id,
        state=view.state,
        atoms=[_atom(atom, values) for atom in view.atoms],
        made_at=time.time(),
        entries=view.history or None,
        links=links,
        not_undone=view.not_undone,
        by_hand=sorted(_deeds(view), key=lambda deed: deed.when),
        picture=None if links is None else _picture(view, links),
        cancelled=view.cancelled,
        owner=view.owner,
        values=values,
    )


def _atom(atom: AtomView, values: bool) -> facts.Atom:
    return facts.Atom(
        atom.name,
        atom.kind,
        atom.flows[-1] if atom.flows else "",
        atom.state,
        atom.attempts,
        atom.duration,
        _result(atom, values),
        atom.failure,
        note=_note(atom),
    )


def _result(atom: AtomView, values: bool) -> str:
    if atom.state != states.SUCCESS or (atom.result is None and atom.kind == "retry"):
        return ""
    said = texts.result(atom.result, sensitive=atom.is_sensitive, values=values)
    stored = 0 if atom.is_sensitive or values else atom.result_size
    return f"{said} ({texts.size(stored)})" if stored >= _LARGE else said


def _note(atom: AtomView) -> str:
    if atom.unknown is not None:
        return facts.UNKNOWN
    if atom.wake is not None:
        return facts.waits_until(atom.wake.timestamp())
    if atom.progress is not None and atom.state == states.RUNNING:
        return facts.done(atom.progress)
    return ""


def _deeds(view: RunView) -> Iterator[facts.Deed]:
    """Iterate over what was done by hand, to the flow and to its atoms."""
    for owner, entries in ((None, view.by_hand), *((atom.name, atom.by_hand) for atom in view.atoms)):
        for one in entries:
            name = one.get("to") if owner is None else owner
            yield facts.Deed(one.get("what", ""), name, one.get("who", ""), one.get("when", 0.0), one.get("reason"))


class _Step(task.Task):
    """Stands for an atom in a picture."""

    def execute(self) -> None:
        """Never called."""


def _picture(view: RunView, links: Links) -> picture.Picture | None:
    """Return a picture of the atoms and their links; None where these are too many."""
    if len(view.atoms) > _MOST_DRAWN:
        return None
    known = {atom.name: atom for atom in view.atoms}
    steps = {name: _Step(name) for name in known}
    pairs = ((earlier, name) for name in steps for earlier in links.before(name) if earlier in steps)
    drawn = graph_flow.Flow(view.flow).add(*steps.values())
    for number, (earlier, name) in enumerate(pairs):
        if number == _MOST_LINKS:
            return None
        drawn.link(steps[earlier], steps[name])

    def look(step: Any) -> model.Status:
        atom = known[step.name]
        return model.Status(atom.state, atom.duration, atom.progress, atom.attempts, atom.failure)

    return picture.draw(drawn, look=look, state=view.state)
