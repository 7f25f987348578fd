"""The outline of a flow: who provides what, and what follows what, so that a record is understood without its flow.

It is a part of the shape that a run with an id keeps; the book of the run has it where the flow is too large for that,
under the digest of the shape. A flow that has changed since its run was made has another digest, so an outline is never
taken for that of another flow, whichever of book and flow was written last.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions
from taskflowx.engines import shape
from taskflowx.persistence import run_records
from taskflowx.persistence.figures import Links

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from taskflowx.engines.plan import Plan
    from taskflowx.persistence.base import Connection
    from taskflowx.persistence.models import FlowDetail, LogBook

#: the key in what the book of a run says of it
_OUTLINES = "outlines"


class Outline:
    """The outline of a flow.

    :param provides: name -> the atoms that provide it, each as (name, index or key in its result, None for all of it)
    :param atoms: the names of the atoms, None for nodes that only join links
    :param links: the places of the nodes that follow each node directly
    :param flows: the flows within the flow, the outer before the inner, each as [name, first place, place after the
        last]
    """

    def __init__(
        self,
        provides: dict[str, list[list[Any]]],
        atoms: list[str | None],
        links: list[list[int]],
        flows: Sequence[Sequence[Any]] = (),
    ) -> None:
        self.provides = provides
        self._atoms = atoms
        self._links = links
        self._flows = flows

    @classmethod
    def of_meta(cls, kept: Mapping[str, Any]) -> Outline:
        """Return the outline that is kept in metadata."""
        return cls(kept["provides"], kept["atoms"], kept["links"], kept.get("flows") or ())

    @classmethod
    def of_plan(cls, plan: Plan) -> Outline:
        """Return the outline of a compiled flow."""
        return cls(**shape.outline_of(plan))

    def to_meta(self) -> dict[str, Any]:
        """Return the outline as it is kept in metadata."""
        return {"provides": self.provides, "atoms": self._atoms, "links": self._links, "flows": self._flows}

    def flows_around(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """Return the name of an atom -> the flows around it within the flow, the outer before the inner.

        Each is its name, which others may have as well, and its first place.
        """
        around: dict[str, tuple[tuple[str, int], ...]] = {}
        for name, first, end in self._flows:
            for atom in self._atoms[first:end]:
                if atom is not None:
                    around[atom] = (*around.get(atom, ()), (name, first))
        return around

    def links(self) -> Links:
        """Return what follows what."""
        return Links.of_after(self._atoms, self._links)

    def after(self, names: Iterable[str]) -> set[str]:
        """Return the names of the atoms that follow some atoms, directly or not, and of these themselves."""
        places = {name: place for place, name in enumerate(self._atoms) if name is not None}
        left = [places[name] for name in names if name in places]
        seen = set(left)
        while left:
            for after in self._links[left.pop()]:
                if after not in seen:
                    seen.add(after)
                    left.append(after)
        return {name for place in seen if (name := self._atoms[place]) is not None}


def read(connection: Connection, detail: FlowDetail) -> Outline | None:
    """Return the outline of the flow of a run; None for a run without an id, and where it cannot be understood."""
    run_id = run_records.id_of(detail)
    if run_id is None:
        return None
    with contextlib.suppress(exceptions.NotFound, AttributeError, KeyError, TypeError):
        kept = detail.meta[run_records.RUN].get(shape.KEY, ())
        if "atoms" in kept:
            return Outline.of_meta(kept)
        book = connection.get_logbook(run_records.book_uuid(run_id), lazy=True)
        return Outline.of_meta(_in_book(book)[kept["digest"]])
    return None


def put_into(book: LogBook, kept: Mapping[str, Any] | None, known: Outline) -> None:
    """Put an outline into the metadata of a book, where the shape of the flow is too large to have it.

    :param kept: the shape
    """
    digest = (kept or {}).get("digest")
    if digest is not None:
        book.meta[run_records.RUN] = {**book.meta[run_records.RUN], _OUTLINES: {digest: known.to_meta()}}


def keep(connection: Connection, detail: FlowDetail, plan: Plan) -> None:
    """Keep the outline of a flow in the book of a run that was made with another version of it.

    The one that the record is understood by stays beside it until the run goes on.
    """
    if shape.is_kept_whole(plan):
        return
    old, new = (detail.meta[run_records.RUN].get(shape.KEY) or {}).get("digest"), shape.shape_of(plan)
    with contextlib.suppress(exceptions.NotFound):  # it is being removed
        book = connection.get_logbook(run_records.book_uuid(str(run_records.id_of(detail))), lazy=True)
        before = _in_book(book)
        if new["digest"] not in before:
            put_into(book, new, Outline.of_plan(plan))
            if old in before:
                book.meta[run_records.RUN][_OUTLINES][old] = before[old]
            connection.save_logbook(book)


def _in_book(book: LogBook) -> dict[str, Any]:
    """Return the digest of a shape -> the outline in it."""
    found = (book.meta.get(run_records.RUN) or {}).get(_OUTLINES)
    return found if isinstance(found, dict) else {}
