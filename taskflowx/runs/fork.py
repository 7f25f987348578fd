"""A new run from the record of another one, which keeps what was done before a task.

What must stay true: an atom is kept if it has succeeded or was skipped, and follows no atom that starts afresh; so the
record is one that a run could have left. Nothing of a rollback that the other run has begun is kept, as its atoms have
effects of their own. The other run is only read.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx.engines import shape
from taskflowx.persistence import codec, models, run_records
from taskflowx.persistence.tag_types import Blob
from taskflowx.record import metadata
from taskflowx.record.record import INJECTOR_NAME
from taskflowx.runs import outline

if TYPE_CHECKING:
    from taskflowx.persistence.base import Connection

#: metadata of an atom that is about the run in which it was made
_OF_THE_RUN = (
    metadata.FLOW_SINCE,
    metadata.SINCE,
    metadata.REVERTS,
    metadata.WAKE,
    metadata.BY_HAND,
    metadata.UNKNOWN,
    metadata.REVERT_ATTEMPT,
)
#: metadata of a flow that is about its run
_OF_THE_FLOW = (metadata.CANCELLED, metadata.BY_HAND, metadata.ROLLED_BACK_TO, metadata.ROLLED_BACK)


def fork(connection: Connection, uuid: str, from_task: str | None, store: Mapping[str, Any], run_id: str | None) -> str:
    """Store a new run; returns its id.

    :param uuid: that of the flow's detail of the other run
    :param from_task: the atom that starts afresh, with all that follow it; None for all
    :param store: values that replace those given to the other run, by name
    :param run_id: the id of the new run; None for that of the other one with a number behind it
    :raises NotFound: when the other run has no such atom
    :raises Unstorable: when one of the values is to be kept in memory alone
    :raises InvalidState: when what starts afresh requires a result that was not kept
    :raises Duplicate: when there is a run with the new id
    """
    with codec.tolerant():  # what cannot be made here is written as it was
        detail = connection.get_flow_details(uuid)
        known = outline.read(connection, detail)
    _check_storable(detail, store)
    fresh = _fresh(detail, known, from_task)
    _check_kept(detail, known, fresh, store)
    old_id = run_records.id_of(detail) or detail.uuid
    origin = {"run": old_id, "task": from_task}
    for wanted in _numbered(old_id) if run_id is None else (run_id,):
        # Looked at first: large values would be put beside the record of the run that is there.
        if not _is_there(connection, wanted):
            with contextlib.suppress(exceptions.Duplicate):
                return _store(connection, detail, known, fresh, store, wanted, origin)
    raise exceptions.Duplicate(f"There is a run '{run_id}' already; give the new one another run_id")


def _numbered(run_id: str) -> Iterator[str]:
    for number in itertools.count(2):
        end = f"-{number}"
        yield f"{run_id[: run_records.LONGEST_ID - len(end)]}{end}"


def _is_there(connection: Connection, run_id: str) -> bool:
    try:
        connection.get_flow_details(run_records.flow_uuid(run_records.check_id(run_id)), lazy=True)
    except exceptions.NotFound:
        return False
    except codec.Unreadable:
        pass
    return True


def _check_storable(detail: models.FlowDetail, store: Mapping[str, Any]) -> None:
    # Those that a store may keep are in one with a transform, which the record was read through.
    marks = {name: how for atom in detail for name, how in (atom.meta.get(metadata.SENSITIVE) or {}).items()}
    in_memory = sorted(name for name in store if marks.get(name) == "memory")
    if in_memory:
        raise exceptions.Unstorable(
            f"Cannot store {in_memory}: they are to be kept in memory alone\n"
            "Fork the run without them, and give them when it is resumed: `taskflowx resume --store`"
        )


def _fresh(detail: models.FlowDetail, known: outline.Outline | None, from_task: str | None) -> set[str]:
    """Return the names of the atoms that start afresh."""
    atoms = [atom for atom in detail if atom.name != INJECTOR_NAME]
    names = [atom.name for atom in atoms]
    if from_task is None:
        return set(names)
    if from_task not in names:
        import difflib

        close = difflib.get_close_matches(str(from_task), names, n=1)
        hint = f"\nDid you mean '{close[0]}'?" if close else ""
        raise exceptions.NotFound(f"The run of flow '{detail.name}' has no atom '{from_task}' on record{hint}")
    first = {from_task, *(atom.name for atom in atoms if atom.state not in states.PASSED)}
    if known is not None:
        return first | known.after(first)
    return set(names[min(place for place, name in enumerate(names) if name in first) :])  # its order is one of the flow


def _check_kept(
    detail: models.FlowDetail, known: outline.Outline | None, fresh: set[str], store: Mapping[str, Any]
) -> None:
    """Check that what starts afresh can have the results that it requires; of a large flow these are not known."""
    # One that is in memory alone can be given to who goes on with the new run.
    let_go = {
        atom.name for atom in detail if metadata.is_let_go(atom) and not metadata.is_in_memory_alone(atom)
    } - fresh
    if known is None or not let_go:
        return
    given = {name for atom in detail if atom.name == INJECTOR_NAME for name in atom.results or ()}.union(store)
    required = shape.requires_in((detail.meta.get(run_records.RUN) or {}).get(shape.KEY) or {})
    for name in sorted(fresh.intersection(required)):
        for value in sorted({*required[name]} - given):
            providers = {provider for provider, _ in known.provides.get(value, ())}
            if providers and providers <= let_go:
                raise exceptions.InvalidState(
                    f"Can not fork the run so that '{name}' runs again: it requires '{value}' of '{min(providers)}', "
                    f"which was not kept\nFork it from '{min(providers)}'. In further runs keep_results= keeps it"
                )


def _store(
    connection: Connection,
    detail: models.FlowDetail,
    known: outline.Outline | None,
    fresh: set[str],
    store: Mapping[str, Any],
    run_id: str,
    origin: dict[str, Any],
) -> str:
    made = models.FlowDetail(detail.name, run_records.flow_uuid(run_id))
    made.meta = {key: value for key, value in detail.meta.items() if key not in _OF_THE_FLOW}
    kept = (detail.meta.get(run_records.RUN) or {}).get(shape.KEY)
    made.meta[run_records.RUN] = {"id": run_id, "forked": origin, **({} if kept is None else {shape.KEY: kept})}
    given, sensitive = dict(store), None
    for atom in detail:
        if atom.name == INJECTOR_NAME:
            given = {**(_own(connection, atom.results) or {}), **given}
            sensitive = atom.meta.get(metadata.SENSITIVE)
            continue
        copy = type(atom)(atom.name, None, states.PENDING, atom.version)
        if atom.name in fresh:
            copy.meta = {key: atom.meta[key] for key in (metadata.INJECTED, metadata.SENSITIVE) if key in atom.meta}
        else:
            _keep(copy, atom)
            copy.results = _own(connection, copy.results)
            made.state = states.SUSPENDED
        made.add(copy)
    if given or sensitive:  # the marks also of values that are in memory alone: who goes on gives them
        injector = models.TaskDetail(INJECTOR_NAME, None, states.SUCCESS)
        injector.results = given
        if sensitive:
            injector.meta[metadata.SENSITIVE] = sensitive
        made.add(injector)
    book = models.LogBook(run_records.book_name(run_id), run_records.book_uuid(run_id))
    book.meta[run_records.RUN] = {"id": run_id}
    if known is not None:
        outline.put_into(book, kept, known)
    book.add(made)
    with connection.backend.values_beside(made):
        connection.add_flow_details(book, made)
    return run_id


def _keep(copy: models.AtomDetail, atom: models.AtomDetail) -> None:
    """Copy the detail of an atom as it was before anything was to be undone."""
    copy.merge(atom)
    copy.intention = states.IGNORE if atom.state == states.IGNORE else states.EXECUTE
    copy.failure = copy.revert_results = copy.revert_failure = None
    copy.meta = {key: value for key, value in atom.meta.items() if key not in _OF_THE_RUN}
    if isinstance(copy, models.RetryDetail) and copy.results:
        copy.note_failure({})  # what has failed in its region starts afresh


def _own(connection: Connection, results: Any) -> Any:
    """Return results to be stored with the new run, which cannot refer to a value beside the other one.

    :raises NotBuildable: when they are beside it, and the store was made without `blobs`
    """
    return connection.backend.value_of(results) if type(results) is Blob else results
