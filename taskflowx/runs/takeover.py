"""What a new version of a flow would do with the unfinished runs in a store; nothing is run or written."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import controls, engines, exceptions, states
from taskflowx.persistence import codec, run_records
from taskflowx.record import metadata
from taskflowx.runs import stores

if TYPE_CHECKING:
    from taskflowx.engines.policies import Policy
    from taskflowx.flow import Member
    from taskflowx.persistence.base import Backend, Connection
    from taskflowx.persistence.models import AtomDetail, FlowDetail

_UNFINISHED = frozenset(states.FLOW_STATES) - {states.SUCCESS, states.REVERTED}
_TO_UNDO = (states.FAILURE, states.REVERTING, states.REVERT_FAILURE)
_PAGE = 200


class Verdict(NamedTuple):
    """Whether a flow can take up one run, and what it would do."""

    run_id: str  #: the id of the run
    state: str  #: the state of its flow
    refused: str | None  #: why the flow cannot take it up; None if it can
    keeps: list[str]  #: tasks that have succeeded and stay as they are
    repeats: list[str]  #: tasks that were interrupted, and are executed again
    runs: list[str]  #: tasks that have not begun
    undoes: list[str]  #: tasks that are reverted first
    asks: list[str]  #: tasks of whose calls nobody knows the outcome: `find_outcome` has to answer, or somebody


def verify(flow: Member, backend: stores.Store | Backend, **options: Any) -> list[Verdict]:
    """Return, for each unfinished run of a flow in a store, whether the flow as it is now can take it up.

    The records are read, and held against the flow in memory: nothing is run, and nothing written.

    :param flow: the flow, with the name under which its runs are on record
    :param backend: the store: an address, a path that ends in '.db', a dict of settings, or a `Backend`
    :param options: those of the engine; `on_mismatch` is 'refuse' by default
    :raises NotFound: when there is no such store
    """
    options = {"results": "strict", "on_mismatch": "refuse", **options}
    opened, owned = stores.fetch(backend)
    try:
        with contextlib.closing(opened.get_connection()) as connection:
            return list(_verdicts(flow, connection, options))
    finally:
        if owned:
            opened.close()


def _verdicts(flow: Member, connection: Connection, options: Mapping[str, Any]) -> Iterator[Verdict]:
    query = run_records.Query(states=_UNFINISHED, flow=flow.name, limit=_PAGE)
    while True:
        with codec.tolerant():
            rows = connection.get_runs(query)
        if not rows:
            return
        for row in rows:
            try:
                detail = connection.get_flow_details(row.uuid)
            except exceptions.NotFound:  # it was removed meanwhile
                continue
            except codec.Unreadable as error:
                run_id = run_records.id_of(row) or row.uuid
                yield Verdict(run_id, row.state or states.PENDING, str(error), [], [], [], [], [])
                continue
            yield _verdict(flow, row, detail, options)
        query = query._replace(after=(rows[-1].created_at, rows[-1].uuid))


def _verdict(flow: Member, row: run_records.RunRow, detail: FlowDetail, options: Mapping[str, Any]) -> Verdict:
    run_id, state = run_records.id_of(detail) or row.uuid, detail.state or states.PENDING
    try:
        engine = engines.load(flow, None, detail, **options)
        engine.compile()
        engine.prepare()
        engine.validate()
    except (exceptions.TaskFlowException, TypeError, ValueError) as error:
        return Verdict(run_id, state, str(error), [], [], [], [], [])
    sorted_out: dict[str, list[str]] = {what: [] for what in Verdict._fields[3:]}
    plan = engine.preparation.compiled()
    for name, i in plan.names.items():
        what = _future_of(detail, engine.preparation.details[i], plan.unknown.get(i))
        if what is not None:
            sorted_out[what].append(name)
    return Verdict(run_id, state, None, **sorted_out)


def _future_of(flow_detail: FlowDetail, atom: AtomDetail, policy: Policy | None) -> str | None:
    """Return the field of a verdict that an atom belongs to; None for a retry, and what was skipped."""
    if atom.KIND != "task" or atom.state == states.IGNORE:
        return None
    if atom.state in states.NOT_BEGUN:
        return "runs"
    if atom.intention == states.REVERT or atom.state in _TO_UNDO or (flow_detail.meta or {}).get(metadata.CANCELLED):
        return "undoes"
    if atom.state == states.SUCCESS:
        return "keeps"
    if metadata.UNKNOWN in (atom.own_meta or ()):
        return "asks"
    if policy is None or (policy.mode == controls.REPEAT and not policy.finds):
        return "repeats"
    return "undoes" if policy.mode == controls.UNDO and not policy.finds else "asks"
