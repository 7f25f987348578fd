"""Writes a book, with all its content, merged into the stored one.

What must stay true: a run is overwritten only by a copy of its latest version, and while it is not in progress. Other
runs stay as they are stored, which is no error: a caller that saves a book to add to it does not mean those.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import exceptions
from taskflowx.persistence.backends import sql, sql_histories
from taskflowx.persistence.owners import Claim

if TYPE_CHECKING:
    from taskflowx.persistence.backends.sql_reader import Reader
    from taskflowx.persistence.backends.sql_transaction import StoreTransaction
    from taskflowx.persistence.models import AtomDetail, FlowDetail
    from taskflowx.persistence.owners import Owner

_PARENT, _KIND = map(sql.names(sql.ATOMS).index, ("parent_uuid", "atom_type"))
_ATOM_CHANGES = slice(sql.names(sql.ATOMS).index("version"), None)
_FLOW_CHANGES = slice(sql.names(sql.FLOWS).index("state"), None)


class Given(NamedTuple):
    """The detail of a flow to save."""

    detail: FlowDetail
    row: tuple[Any, ...]
    changes: tuple[Any, ...]  # the parameters of `update_flow`
    atoms: list[tuple[Any, ...]]  # the rows of its atoms


class Outcome(NamedTuple):
    """The result: the details that have a new version, and those that stay as they are stored, with the reasons."""

    claims: list[tuple[FlowDetail, Claim]]
    left: list[tuple[FlowDetail, str]]


def save(
    tx: StoreTransaction,
    reader: Reader,
    statements: sql.Statements,
    row: tuple[Any, ...],
    flows: list[Given],
    writer: Owner,
) -> Outcome:
    """Write the row of a book, and its flows.

    :param writer: the owner that is named as the writer of the runs
    """
    tx.run(statements.put_book, *row)
    outcome = Outcome([], [])
    if not flows:
        return outcome
    uuid = row[0]
    claims = reader.claims(tx, uuid)
    has_runs = reader.has(tx, sql.RUNS.name)
    stored = {found[0]: found for found in tx.rows(statements.flows_of_book, uuid)}
    stored_atoms = {found[0]: found for found in tx.rows(statements.atoms_of_book, uuid)} if stored else {}
    inserts, new_atoms, changed_atoms = [], [], []
    for given in flows:
        detail, known = given.detail, stored.get(given.detail.uuid)
        if known is None:
            inserts.append(given.row)
            new_atoms += given.atoms
            continue
        new, changed = _compare(given.atoms, stored_atoms)
        claim = claims.get(detail.uuid)
        if not new and not changed and given.row[_FLOW_CHANGES] == tuple(known[_FLOW_CHANGES]):
            if claim is not None and claim.owner == writer.name:  # by an attempt whose answer was lost
                outcome.claims.append((detail, claim))
            continue
        if has_runs:
            try:
                outcome.claims.append((detail, move_on(tx, statements, detail, claim, writer)))
            except exceptions.OwnershipFailure as refusal:
                outcome.left.append((detail, str(refusal)))
                continue
        tx.run(statements.update_flow, *given.changes)
        new_atoms += new
        changed_atoms += changed
    tx.many(statements.insert_flow, inserts)
    tx.many(statements.insert_atom, new_atoms)
    tx.many(statements.put_atom, changed_atoms)
    for atom in changed_atoms:
        if sql_histories.is_parted(stored_atoms[atom[0]]) and reader.has(tx, sql.ATTEMPTS.name):
            tx.run(statements.cut_attempts, atom[0], 0)
    return outcome


def move_on(
    tx: StoreTransaction, statements: sql.Statements, detail: FlowDetail, stored: Claim | None, owner: Owner
) -> Claim:
    """Compare and swap the version of a run, and lock it until the end of the transaction; returns the new claim.

    :param stored: the claim in the store
    :raises OwnershipFailure: when it has another version than the known one, or another owner
    """
    now, uuid = owner.clock.time(), detail.uuid
    claim = owner.checked(stored, detail, now)
    if stored is None:
        tx.run(statements.insert_run, uuid, *claim)
    elif not tx.run(statements.move_on, *claim, uuid, stored.version).rowcount:
        rows = tx.rows(statements.run, uuid)  # it was incremented, or removed, a moment ago
        claim = owner.checked(Claim(*rows[0]) if rows else None, detail, now)
    return claim


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
        if known is None or known[_PARENT] != row[_PARENT]:
            new.append(row)
        elif known[_KIND] != row[_KIND]:
            kind = str(known[_KIND]).partition("_")[0].lower()
            raise exceptions.NotImplementedError(f"Can only merge with other {kind} details")
        elif tuple(known[_ATOM_CHANGES]) != row[_ATOM_CHANGES]:
            changed.append(row)
    return new, changed
