"""The details of the atoms of a flow: by index for the engine, by name for all others.

What must stay true: the detail of an atom is the only place of its state, its result and its failure. Here are names
and places of details, and nothing that a detail says.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Container, Iterable
from typing import Any, TypeVar

from taskflowx import exceptions, retry, states, task
from taskflowx._util import reprs
from taskflowx.atom import Atom, full_name, version_text
from taskflowx.persistence import models
from taskflowx.record import migrations

_D = TypeVar("_D", bound=models.AtomDetail)

#: the name of the detail that has the values given to the flow; TaskFlow's stores have the same one
INJECTOR_NAME = "_TaskFlow_INJECTOR"


class Record:
    """The details of the atoms of one flow.

    :param flow_detail: the detail of the flow, which has them all
    :param durable: whether a store has to get the details that are made
    """

    def __init__(self, flow_detail: models.FlowDetail, *, durable: bool) -> None:
        self.flow_detail = flow_detail
        self._durable = durable
        self._places: dict[str, int] = {}  # atom name -> where its detail is in `rows`
        #: the details by index of their atoms; None where there is no atom
        self.rows: list[Any] = []
        #: atom name -> its detail, of those that were on record before
        self.kept = {detail.name: detail for detail in flow_detail}
        #: the detail of the values given to the flow, if there are some
        self.injector = self.kept.pop(INJECTOR_NAME, None)
        #: details that the store has never had
        self.unsaved: list[models.AtomDetail] = []
        #: whether all details have just been made, and nobody has asked for one or done anything by hand
        self.untouched = False
        #: names of atoms on record that the flow does not have any more
        self._absent: set[str] = set()
        #: what the flow says of a name of which nothing is on record; an engine sets it
        self.told_by: Callable[[str], str] = lambda _: ""
        #: names of atoms that have failed, or may have: the failures are in their details, and nowhere else; and in
        #: which attempt of a retry, 0 where that is not known
        self.failed: dict[str, int] = {
            detail.name: 0
            for detail in self.kept.values()
            if detail.failure is not None or detail.revert_failure is not None
        }

    @reprs.one_line
    def __repr__(self) -> str:
        counted = reprs.counted(one.state for one in self.rows if one is not None)
        return f"Record of {self.flow_detail.name!r}: {counted}"

    def hint(self, name: str) -> str:
        """Return what the flow says of a name of which nothing is on record, in a line of its own; or nothing."""
        try:
            said = self.told_by(name)
        except Exception:  # noqa: BLE001 - it only helps with another error
            said = ""
        return f"\n{said}" if said else ""

    # -- details are made --------------------------------------------------------------------------

    def ensure(self, atom: Atom) -> tuple[models.AtomDetail, bool]:
        """Make sure that an atom has a detail; returns it, and whether the atom is seen for the first time.

        :raises Duplicate: when there is a detail of that name and of another kind
        """
        is_new = atom.name not in self._places
        if is_new:
            self._places[atom.name] = len(self.rows)
            self.rows.append(self._make_detail(atom))
        detail = self.detail(atom.name)
        _check_kind(atom, detail, self.flow_detail.name)
        return detail, is_new

    def ensure_plan(self, atoms: list[Any], places: dict[str, int]) -> list[Any]:
        """Make sure that each atom of a compiled flow has a detail; returns the details, None where there is no atom.

        :param atoms: the atoms by index, None for what is none
        :param places: atom name -> index; kept, and not changed by the caller any more
        """
        known = {name: self.rows[place] for name, place in self._places.items()}
        if not known:  # an attempt to prepare may have been interrupted
            self.kept = {detail.name: detail for detail in self.flow_detail if detail is not self.injector}
        if known or self.kept:
            make = self._make_detail
            rows = [None if atom is None else known.get(atom.name) or make(atom) for atom in atoms]
        else:
            rows = self._make_details(atoms, places)
        self.rows = rows
        self._places = places
        self._absent = {name for name in self.kept if name not in places}
        self.untouched = not (known or self.kept)
        return rows

    def _make_details(self, atoms: list[Any], places: Iterable[str]) -> list[Any]:
        """Return a new detail for each atom of a flow of which nothing is kept; None where there is no atom.

        :param places: the names of the atoms, in their order
        """
        rows: list[Any] = []
        just_tasks = all(issubclass(kind, task.Task) for kind in set(map(type, atoms)))
        if just_tasks and len(set(map(id, map(_version, atoms)))) == 1:
            text = version_text(atoms[0].version)
            rows = made = [models.TaskDetail(name, None, states.PENDING, text) for name in places]
        else:
            version, text = None, ""
            for atom in atoms:
                if atom is None:
                    rows.append(None)
                    continue
                if atom.version is not version:
                    version = atom.version
                    text = version_text(version)
                make = models.RetryDetail if isinstance(atom, retry.Retry) else models.TaskDetail
                rows.append(make(atom.name, None, states.PENDING, text))
            made = [detail for detail in rows if detail is not None]
        self.flow_detail.extend(made)
        if self._durable:
            self.unsaved.extend(made)
        return rows

    def _make_detail(self, atom: Atom) -> models.AtomDetail:
        """Return the kept detail of an atom, or a new one.

        :raises Duplicate: when the kept detail of that name is of another kind
        """
        name = atom.name
        detail: models.AtomDetail | None = self.kept.get(name) if self.kept else None
        if detail is None:
            version = atom.version
            text = _cached_version_text(version) if type(version) is tuple else version_text(version)
            make = models.RetryDetail if isinstance(atom, retry.Retry) else models.TaskDetail
            detail = make(name, None, states.PENDING, text)
            self._add(detail)
            return detail
        _check_kind(atom, detail, self.flow_detail.name)
        if migrations.fit(atom, detail) and self._durable:
            self.unsaved.append(detail)
        if detail.state is None:
            detail.state = states.PENDING
        return detail

    def _add(self, detail: models.AtomDetail) -> None:
        self.flow_detail.add(detail)
        if self._durable:
            self.unsaved.append(detail)

    def make_injector(self) -> models.TaskDetail:
        """Make the detail of the values given to the flow."""
        made = models.TaskDetail(INJECTOR_NAME)
        self.injector = made
        self.flow_detail.add(made)
        return made

    # -- details are found -------------------------------------------------------------------------

    def detail(self, atom_name: str) -> models.AtomDetail:
        """Return the detail of an atom.

        :raises NotFound: when there is no atom of that name
        """
        self.untouched = False
        try:
            return self.rows[self._places[atom_name]]  # type: ignore[no-any-return]
        except (KeyError, TypeError) as error:  # unknown, or what cannot be a key
            kept: models.AtomDetail | None = self.kept.get(atom_name) if isinstance(error, KeyError) else None
            if atom_name == INJECTOR_NAME:
                kept = self.injector
            if kept is not None:  # it is on record; the atom itself has not been shown yet
                return kept
            msg = f"Unknown atom name '{atom_name}'{self.hint(str(atom_name))}"
            raise exceptions.NotFound(msg, error) from None

    def detail_of(self, atom_name: str, kind: type[_D]) -> _D:
        """Return the detail of an atom of a kind.

        :raises NotFound: when there is no atom of that name
        :raises TypeError: when the atom is of the other kind
        """
        detail = self.detail(atom_name)
        if not isinstance(detail, kind):
            msg = f"Atom '{atom_name}' is not of the expected type: {full_name(kind)}"
            raise TypeError(msg)
        return detail

    def absent_from(self, names: Container[str]) -> list[models.AtomDetail]:
        """Return the details on record of atoms that have begun, and that are none of these names."""
        if not self.kept:
            return []
        return [one for name, one in self.kept.items() if name not in names and one.state not in states.NOT_BEGUN]

    # -- failures ----------------------------------------------------------------------------------

    def note_failed(self, atom_name: str, attempt: int = 0) -> None:
        """Note that the detail of an atom has a failure.

        :param attempt: the number of the attempt of the retry that repeats it, from 1
        """
        self.failed[atom_name] = attempt

    def with_failures(self) -> list[models.AtomDetail]:
        """Return the details of the flow's atoms that have a failure, in the order of the atoms.

        The failure of an atom that the flow has no more counts when there is no other: it is what rolls the flow back.
        """
        names = sorted(self.failed, key=lambda name: self._places.get(name, -1))
        failed = [one for one in map(self.detail, names) if one.failure is not None or one.revert_failure is not None]
        return [one for one in failed if one.name not in self._absent] or failed

    def retries(self) -> Iterable[models.RetryDetail]:
        """Iterate over the details of all retries on record."""
        return (detail for detail in self.flow_detail if isinstance(detail, models.RetryDetail))


def _check_kind(atom: Atom, detail: models.AtomDetail, flow_name: str) -> None:
    """Refuse a detail that was made for a task to be that of a retry, and the other way round."""
    kind = models.RetryDetail if isinstance(atom, retry.Retry) else models.TaskDetail
    if not isinstance(detail, kind):
        msg = (
            f"Atom detail '{atom.name}' already exists in flow detail '{flow_name}'\n"
            f"It is of a {detail.KIND} and not of a {kind.KIND}"
        )
        raise exceptions.Duplicate(msg)


_version = operator.attrgetter("version")
_cached_version_text = functools.lru_cache(maxsize=64)(version_text)  # an atom costs no call for it
