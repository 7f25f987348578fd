"""Writes a book, with all its content, merged into the stored one.

What must stay true: a run is overwritten only by a copy of its latest version, and while it is not in progress. Other
runs stay as they are stored, which is no error: a caller that saves a book to add to it does not mean those.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions
from taskflowx.persistence.backends import sql, sql_histories

if TYPE_CHECKING:
    from taskflowx.persistence.backends.sql_reader import Reader
    from taskflowx.persistence.backends.sql_unit import Unit
    from taskflowx.persistence.models import AtomDetail, FlowDetail
    from taskflowx.persistence.owners import Claim, Owner

_KIND = sql.names(sql.ATOMS).index("atom_type")
_ATOM_CHANGES = slice(sql.names(sql.ATOMS).index("version"), None)
_FLOW_CHANGES = slice(sql.names(sql.FLOWS).index("state"), None)


@dataclasses.dataclass(frozen=True)
class Given:
    """The detail of a flow to save.

    :param detail: the detail
    :param row: its row
    :param changes: the parameters of `update_flow`
    :param atoms: the rows of its atoms
    """

    detail: FlowDetail
    row: tuple[Any, ...]
    changes: tuple[Any, ...]
    atoms: list[tuple[Any, ...]]


@dataclasses.dataclass
class Outcome:
    """The result: the details that have a new version, and those that stay as they are stored, with the reasons."""

    claims: list[tuple[FlowDetail, Claim]] = dataclasses.field(default_factory=list)
    left: list[tuple[FlowDetail, str]] = dataclasses.field(default_factory=list)


def save(
    unit: Unit, reader: Reader, statements: sql.Statements, row: tuple[Any, ...], flows: list[Given], writer: Owner
) -> Outcome:
    """Write the row of a book, and its flows.

    :param writer: the owner that is named as the writer of the runs
    """
    unit.run(statements.put_book, *row)
    outcome = Outcome()
    if not flows:
        return outcome
    uuid = row[0]
    claims = reader.claims(unit, uuid)
    has_runs = reader.has(unit, sql.RUNS.name)
    stored = {found[0]: found for found in unit.rows(statements.flows_of_book, uuid)}
    stored_atoms: dict[str, dict[str, Any]] = {}
    for found in unit.rows(statements.atoms_of_book, uuid) if stored else ():
        stored_atoms.setdefault(found[2], {})[found[0]] = found
    inserts, new_atoms, changed_atoms = [], [], []
    for given in flows:
        detail, known = given.detail, stored.get(given.detail.uuid)
        if known is None:
            inserts.append(given.row)
            new_atoms += given.atoms
            continue
        new, changed = _compare(given.atoms, stored_atoms.get(detail.uuid, {}))
        claim = claims.get(detail.uuid)
        if not new and not changed and given.row[_FLOW_CHANGES] == tuple(known[_FLOW_CHANGES]):
            if claim is not None and claim.owner == writer.name:  # by an attempt whose answer was lost
                outcome.claims.append((detail, claim))
            continue
        if has_runs and not _move_on(unit, statements, given, claim, writer, outcome):
            continue
        unit.run(statements.update_flow, *given.changes)
        new_atoms += new
        changed_atoms += changed
    unit.many(statements.insert_flow, inserts)
    unit.many(statements.insert_atom, new_atoms)
    unit.many(statements.put_atom, changed_atoms)
    for atom in changed_atoms:
        if sql_histories.is_parted(stored_atoms[atom[2]][atom[0]]) and reader.has(unit, sql.ATTEMPTS.name):
            unit.run(statements.cut_attempts, atom[0], 0)
    return outcome


def _move_on(
    unit: Unit, statements: sql.Statements, given: Given, claim: Claim | None, writer: Owner, outcome: Outcome
) -> bool:
    """Increment the version of a run; returns whether it may be overwritten."""
    detail = given.detail
    try:
        following = writer.checked(claim, detail, time.time())
    except exceptions.OwnershipFailure as refusal:
        outcome.left.append((detail, str(refusal)))
        return False
    if claim is None:
        unit.run(statements.insert_run, detail.uuid, *following)
    elif not unit.run(statements.move_on, *following, detail.uuid, claim.version).rowcount:
        outcome.left.append((detail, "it was written while it was read"))
        return False
    outcome.claims.append((detail, following))
    return True


def merge_flow(
    stored: FlowDetail, given: FlowDetail, atoms: Iterable[AtomDetail], rows: Iterable[Any]
) -> tuple[list[Any], list[Any]]:
    """Merge a flow's detail, with those of its atoms, into the stored one.

    :param atoms: the details of its atoms
    :param rows: a row for each atom
    :return: the rows of new atoms, and those of the others
    """
    new, changed = [], []
    for detail, row in zip(atoms, rows, strict=True):
        known = stored.find(detail.uuid)
        if known is None:
            stored.add(detail)
            new.append(row)
        else:
            known.merge(detail)
            changed.append(row)
    stored.merge(given)
    return new, changed


def _compare(rows: Iterable[Any], stored: dict[str, Any]) -> tuple[list[Any], list[Any]]:
    """Return the rows of new atoms, and those that differ from the stored ones.

    :raises NotImplementedError: when an atom is stored as one of another kind
    """
    new, changed = [], []
    for row in rows:
        known = stored.get(row[0])
        if known is None:
            new.append(row)
        elif known[_KIND] != row[_KIND]:
            kind = str(known[_KIND]).partition("_")[0].lower()
            msg = f"Can only merge with other {kind} details"
            raise exceptions.NotImplementedError(msg)
        elif tuple(known[_ATOM_CHANGES]) != row[_ATOM_CHANGES]:
            changed.append(row)
    return new, changed
