"""A run as what a report is made of, handed to `reports`, which knows no engine.

A run may be under way in another thread: see `looks`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from taskflowx import retry, states
from taskflowx.engines import by_hand, looks
from taskflowx.persistence import run_records
from taskflowx.persistence.figures import Links
from taskflowx.record import metadata
from taskflowx.record.record import INJECTOR_NAME
from taskflowx.reports import facts, texts, writing

if TYPE_CHECKING:
    import os

    from taskflowx.engines.control import Controlled
    from taskflowx.engines.plan import Plan
    from taskflowx.persistence.models import AtomDetail, FlowDetail
    from taskflowx.types.failure import Failure


def write(
    path: str | os.PathLike[str], engine: Controlled, flow_detail: FlowDetail, *, values: bool, trace: bool
) -> None:
    """Write a report of an engine whose flow is compiled; see `Controlled.report`."""
    writing.write(path, facts_of(engine, flow_detail, values=values), trace=trace)


def facts_of(engine: Controlled, flow_detail: FlowDetail, *, values: bool = False) -> facts.Facts:
    """Return what is known about a run.

    :param values: whether its results are shown
    """
    plan = engine.preparation.compiled("report")
    meta = flow_detail.meta or {}
    details = {detail.name: detail for detail in flow_detail}
    cancelled = meta.get(metadata.CANCELLED)
    return facts.Facts(
        flow=plan.flow.name,
        run_id=run_records.id_of(flow_detail),
        state=flow_detail.state or states.PENDING,
        atoms=[
            _atom(plan, i, atom, details.get(atom.name), values)
            for i, atom in enumerate(plan.atoms)
            if atom is not None
        ],
        made_at=time.time(),
        entries=engine.history() or None,
        links=Links([None if atom is None else atom.name for atom in plan.atoms], plan.pred),
        not_undone=list(_not_undone(plan, details)),
        by_hand=[facts.Deed(*one) for one in by_hand.entries_of(flow_detail)],
        picture=engine.picture(),
        cancelled=str(cancelled[1]) if isinstance(cancelled, (list, tuple)) and len(cancelled) > 1 else None,
        values=values,
    )


def _not_undone(plan: Plan, details: dict[str, AtomDetail]) -> Iterator[str]:
    """Iterate over what `Preparation.not_undone` returns, which needs a flow that is prepared."""
    for atom in plan.atoms:
        detail = None if atom is None else details.get(atom.name)
        if detail is None or not metadata.stands(detail):
            continue
        if not isinstance(atom, retry.Retry) or type(atom).revert is not retry.Retry.revert:
            yield detail.name
    for name, detail in details.items():
        if name not in plan.names and name != INJECTOR_NAME and detail.KIND == "task" and metadata.stands(detail):
            yield name


def _atom(plan: Plan, i: int, atom: Any, detail: AtomDetail | None, values: bool) -> facts.Atom:
    kind = "retry" if isinstance(atom, retry.Retry) else "task"
    flow = plan.ranges[plan.home(i)].flow.name if plan.ranges else ""
    if detail is None:
        return facts.Atom(atom.name, kind, flow, states.PENDING)
    status = looks.status_of(detail)
    return facts.Atom(
        atom.name,
        kind,
        flow,
        status.state or states.PENDING,
        status.attempts,
        status.seconds,
        _result(detail, values),
        status.failure,
        list(_earlier(detail)),
        _note(detail, status.progress),
    )


def _result(detail: AtomDetail, values: bool) -> str:
    if detail.state != states.SUCCESS or metadata.is_let_go(detail):
        return ""
    return texts.result(detail.last_results, sensitive=metadata.is_sensitive(detail), values=values)


def _earlier(detail: AtomDetail) -> Iterator[tuple[int, str, Failure]]:
    """Iterate over the failures of the attempts of a retry."""
    if detail.KIND == "retry":
        for number, (_, failures) in enumerate(list(detail.results or ()), 1):
            for name, failure in list(failures.items()):
                yield number, name, failure


def _note(detail: AtomDetail, progress: float | None) -> str:
    meta = detail.own_meta or {}
    unknown, wake = meta.get(metadata.UNKNOWN), meta.get(metadata.WAKE)
    if unknown is not None:
        return facts.UNKNOWN
    if isinstance(wake, (list, tuple)) and wake and isinstance(wake[0], (int, float)):
        return facts.waits_until(wake[0])
    if progress is not None and detail.state == states.RUNNING:
        return facts.done(progress)
    return ""
