"""What the record says of atoms, by their names: states, intentions, metadata, progress, results and failures.

Each change is written to the store at once, if there is a durable one. A value that the store refuses is refused where
it is given, and changes nothing.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from taskflowx import exceptions, retry, states
from taskflowx._util import arguments
from taskflowx.persistence import models
from taskflowx.record import metadata
from taskflowx.record.lookup import HAS_EXECUTE_RESULT, HAS_REVERT_RESULT, Lookup, inaccessible, let_go
from taskflowx.record.record import Record
from taskflowx.record.writes import Writes

if TYPE_CHECKING:
    from taskflowx.types.failure import Failure

_S = TypeVar("_S", bound="AtomsByName")
_P = ParamSpec("_P")
_R = TypeVar("_R")


def locked(method: Callable[Concatenate[_S, _P], _R]) -> Callable[Concatenate[_S, _P], _R]:
    """Have a method hold the lock of its storage, so that any thread may call it."""

    @functools.wraps(method)
    def holding(self: _S, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self._lock:
            return method(self, *args, **kwargs)

    return holding


class AtomsByName:
    """The record of the atoms of one run, by name.

    :param flow_detail: where everything is kept
    :param backend: the store of the flow detail, or None when it lives in memory alone
    :param scope_fetcher: see `Storage`
    :param attempts: how often a commit is tried outside of a run
    :param seconds: for how long it is tried at most
    """

    def __init__(
        self,
        flow_detail: models.FlowDetail,
        backend: Any,
        scope_fetcher: Callable[[str], Iterable[Iterable[str]]] | None,
        attempts: int,
        seconds: float,
    ) -> None:
        self._lock = threading.RLock()
        #: for an engine: the way to the store
        self.writes = Writes(flow_detail, backend, self._lock, attempts, seconds)
        #: for an engine: the details of atoms, and the search from a name to a value
        self.record = Record(flow_detail, durable=self.writes.durable)
        self.lookup = Lookup(self.record, scope_fetcher)
        self.lookup.reread(self.record.injector)

    def _detail(self, atom_name: str) -> models.AtomDetail:
        return self.record.detail(atom_name)

    @locked
    def get_atom_uuid(self, atom_name: str) -> str:
        """Return the uuid of an atom's detail."""
        return self._detail(atom_name).uuid

    @locked
    def set_atom_state(self, atom_name: str, state: str) -> None:
        """Set the state of an atom.

        :raises ValueError: when there is no such state
        """
        arguments.check_choice("state", state, states.ATOM_STATES)
        detail = self._detail(atom_name)
        detail.state = state
        self.writes.save(detail)

    @locked
    def get_atom_state(self, atom_name: str) -> str | None:
        """Return the state of an atom."""
        return self._detail(atom_name).state

    @locked
    def set_atom_intention(self, atom_name: str, intention: str) -> None:
        """Set what is to be done with an atom next.

        :raises ValueError: when there is no such intention
        """
        arguments.check_choice("intention", intention, states.INTENTIONS)
        detail = self._detail(atom_name)
        detail.intention = intention
        self.writes.save(detail)

    @locked
    def get_atom_intention(self, atom_name: str) -> str:
        """Return what is to be done with an atom next."""
        return self._detail(atom_name).intention

    @locked
    def get_atoms_states(self, atom_names: Iterable[str]) -> dict[str, tuple[str | None, str]]:
        """Return atom name -> (state, intention)."""
        arguments.check_type("atom_names", atom_names, Iterable, "an iterable of names of atoms")
        details = {name: self._detail(name) for name in atom_names}
        return {name: (detail.state, detail.intention) for name, detail in details.items()}

    @locked
    def update_atom_metadata(
        self, atom_name: str, update_with: Mapping[str, Any] | Iterable[tuple[str, Any]] | None
    ) -> None:
        """Update the metadata of an atom's detail."""
        detail = self._detail(atom_name)
        if update_with:
            arguments.check_iterable("update_with", update_with, "a dict, or pairs of key and value")
            self._set_meta(detail, {**detail.meta, **dict(update_with)})

    @locked
    def set_task_progress(self, task_name: str, progress: float, details: dict[str, Any] | None = None) -> None:
        """Keep how far a task has come.

        :param progress: from 0.0 to 1.0
        :param details: facts about it
        """
        arguments.check_number("progress", progress, "a number from 0.0 to 1.0")
        if details:
            arguments.check_mapping("details", details, "a dict")
        detail = self.record.detail_of(task_name, models.TaskDetail)
        self._set_meta(detail, {**detail.meta, **metadata.progress_facts(progress, details)})

    def _set_meta(self, detail: models.AtomDetail, meta: dict[str, Any]) -> None:
        """Replace the metadata of an atom; what the store refuses changes nothing."""
        self.writes.check_value(meta, f"metadata of atom '{detail.name}'")
        before, detail.meta = detail.own_meta, meta
        try:
            self.writes.save(detail)
        except exceptions.Unstorable:  # the store limits whole records
            detail.own_meta = before
            raise

    @locked
    def get_task_progress(self, task_name: str) -> float:
        """Return how far a task has come: 1.0 after success, 0.0 when it has never reported."""
        detail = self.record.detail_of(task_name, models.TaskDetail)
        if detail.state == states.SUCCESS:
            return 1.0
        return detail.meta.get(metadata.PROGRESS) or 0.0

    @locked
    def get_task_progress_details(self, task_name: str) -> dict[str, Any] | None:
        """Return {'at_progress': ..., 'details': {...}} of the last progress that came with details, or None."""
        return self.record.detail_of(task_name, models.TaskDetail).meta.get(metadata.PROGRESS_DETAILS)

    # -- results -----------------------------------------------------------------------------------

    @locked
    def save_retry_failure(self, retry_name: str, failed_atom_name: str, failure: Failure) -> None:
        """Add a failure to the current attempt in a retry's history; the first of an atom stays.

        :raises StorageFailure: when there was no attempt
        """
        detail = self.record.detail_of(retry_name, models.RetryDetail)
        try:
            detail.note_failure({failed_atom_name: failure, **detail.last_failures})
        except exceptions.NotFound as error:
            msg = "Unable to fetch most recent retry failures so new retry failure can be inserted"
            raise exceptions.StorageFailure(msg, error) from error
        self.writes.save(detail)

    @locked
    def cleanup_retry_history(self, retry_name: str, state: str) -> None:
        """Forget the attempts of a retry and set its state."""
        arguments.check_choice("state", state, states.ATOM_STATES)
        detail = self.record.detail_of(retry_name, models.RetryDetail)
        detail.state = state
        detail.results = []
        self.writes.save(detail)

    @locked
    def get(self, atom_name: str) -> Any:
        """Return what an atom's `execute` returned, or the `Failure` that it ended with; of a retry, its attempts.

        :raises NotFound: when there is neither
        """
        detail = self._detail(atom_name)
        if detail.failure is not None:
            return detail.failure
        problem = inaccessible(detail, HAS_EXECUTE_RESULT)
        if problem is not None:
            raise exceptions.NotFound(f"Result for atom '{atom_name}' execution is not known{_why(detail)}", problem)
        if metadata.is_let_go(detail):
            raise let_go(detail)
        return detail.results

    get_execute_result = get

    @locked
    def get_revert_result(self, atom_name: str) -> Any:
        """Return what an atom's `revert` returned, or the `Failure` that it ended with.

        :raises NotFound: when there is neither
        """
        detail = self._detail(atom_name)
        problem = inaccessible(detail, HAS_REVERT_RESULT)
        if problem is not None:
            raise exceptions.NotFound(f"Result for atom '{atom_name}' revert is not known{_why(detail)}", problem)
        return detail.revert_failure if detail.revert_failure is not None else detail.revert_results

    @locked
    def get_execute_failures(self) -> dict[str, Failure]:
        """Return atom name -> `Failure` of its `execute`; one that a later attempt cured is in its retry's history."""
        return {one.name: one.failure for one in self.record.with_failures() if one.failure is not None}

    get_failures = get_execute_failures

    @locked
    def get_revert_failures(self) -> dict[str, Failure]:
        """Return atom name -> `Failure` of its `revert`."""
        return {one.name: one.revert_failure for one in self.record.with_failures() if one.revert_failure is not None}

    @locked
    def has_failures(self) -> bool:
        """Tell whether an atom has failed, and no later attempt has cured that."""
        return bool(self.get_execute_failures() or self.get_revert_failures())

    @locked
    def reset(self, atom_name: str, state: str = states.PENDING) -> None:
        """Forget what has happened to an atom and set its state; one that is in that state stays as it is."""
        arguments.check_choice("state", state, states.ATOM_STATES)
        detail = self._detail(atom_name)
        if detail.state == state or detail is self.record.injector:  # the values given to the flow stay
            return
        detail.reset(state)
        self.writes.unstored.pop(atom_name, None)
        self.writes.save(detail)

    @locked
    def get_retry_history(self, retry_name: str) -> retry.History:
        """Return the attempts of a retry."""
        detail = self.record.detail_of(retry_name, models.RetryDetail)
        return retry.History(detail.results, detail.failure)

    @locked
    def get_retry_histories(self) -> list[tuple[str, retry.History]]:
        """Return (retry name, attempts) of all retries."""
        return [(detail.name, retry.History(detail.results, detail.failure)) for detail in self.record.retries()]


def _why(detail: models.AtomDetail) -> str:
    if detail.state in states.FRESH:
        return " (it has not run yet: run the engine first)"
    return " (as it was ignored)" if detail.state == states.IGNORE else ""
