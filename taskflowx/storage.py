"""Names and the record: what callers ask about a run, and where its arguments come from.

`Storage` stands between names and the details of a `FlowDetail`. Engines have it make one detail an atom, write states
and results to these details themselves, and come here for arguments that their prepared bindings could not fill;
everybody else asks here by name.

The lookup order of an argument: transient atom arguments, atom arguments, transient flow arguments, flow arguments,
then the providers that the atom sees, nearest first. The first that has a value wins.

With a durable store each change that is made by name is written at once; an engine writes what its turn has changed
with `commit`. What the store refuses is refused where it is given, and changes nothing.

Any thread may call the public methods: they hold the lock that `lock` gives out. The thread that runs an engine writes
the details of atoms without it; metadata and histories are replaced, never changed in place, so that whoever writes
them to the store meanwhile has one or the other.

Invariant: values are held by reference; nothing here copies them.
"""

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from taskflowx import exceptions, retry, states
from taskflowx._util import arguments, logs
from taskflowx.atom import Atom
from taskflowx.persistence import models
from taskflowx.record import metadata
from taskflowx.record.lookup import HAS_EXECUTE_RESULT, HAS_REVERT_RESULT, Lookup, check_accessible, let_go
from taskflowx.record.record import INJECTOR_NAME, Record
from taskflowx.record.writes import Writes
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LOG = logs.calm(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: outside of a run: how often a commit is tried, and for how many seconds, before its failure is raised
RETRY_ATTEMPTS = 3
RETRY_WAIT_TIMEOUT = 5
# Names of TaskFlow's.
META_INJECTED, META_PROGRESS, META_PROGRESS_DETAILS = metadata.INJECTED, metadata.PROGRESS, metadata.PROGRESS_DETAILS
STATES_WITH_RESULTS = (
    states.FAILURE,
    states.REVERTED,
    states.REVERTING,
    states.REVERT_FAILURE,
    states.SUCCESS,
)


def _locked(method: Callable[Concatenate[Storage, _P], _R]) -> Callable[Concatenate[Storage, _P], _R]:
    """Have a method hold the lock of its storage, so that any thread may call it."""

    @functools.wraps(method)
    def locked(self: Storage, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


class Storage:
    """The record of one run, by name.

    :param flow_detail: where everything is kept
    :param backend: the store of the flow detail, or None when it lives in memory alone
    :param scope_fetcher: called with an atom's name, gives the rows of names of atoms that it sees, nearest first;
        without it an atom sees all providers
    """

    injector_name = INJECTOR_NAME

    def __init__(
        self,
        flow_detail: models.FlowDetail,
        backend: Any = None,
        scope_fetcher: Callable[[str], Iterable[Iterable[str]]] | None = None,
    ) -> None:
        if type(flow_detail) is not models.FlowDetail:
            arguments.check_like("flow_detail", flow_detail, ("name", "meta"), "a FlowDetail")
        self._flowdetail = flow_detail
        self._backend = backend
        self._state_unsaved = False  # whether the last move of the flow was not saved
        self._lock = threading.RLock()
        #: for an engine: the way to the store
        self.writes = Writes(flow_detail, backend, self._lock, RETRY_ATTEMPTS, RETRY_WAIT_TIMEOUT)
        if backend is not None and not self.writes.durable:
            backend.hold(flow_detail)
        #: for an engine: the details of atoms, and the search from a name to a value
        self.record = Record(flow_detail, durable=self.writes.durable)
        self.lookup = Lookup(self.record, scope_fetcher)
        self.lookup.reread(self.record.injector)

    # -- atoms -------------------------------------------------------------------------------------

    @_locked
    def ensure_atoms(self, atoms: Iterable[Any]) -> list[str]:
        """Make sure that each of the atoms has a detail; returns their uuids.

        :raises Duplicate: when there is a detail of that name and of another kind
        :raises TypeError: when something is no atom
        """
        arguments.check_iterable("atoms", atoms, "an iterable of atoms")
        uuids = []
        for atom in atoms:
            if not isinstance(atom, Atom):
                msg = f"Unknown atom '{atom}' ({type(atom)}) requested to ensure"
                raise TypeError(msg)
            detail, is_new = self.record.ensure(atom)
            if is_new:
                self.lookup.add(atom)
            uuids.append(detail.uuid)
        self._save_new()
        return uuids

    def ensure_atom(self, atom: Atom) -> str:
        """Make sure that an atom has a detail; returns its uuid."""
        return self.ensure_atoms([atom])[0]

    @_locked
    def ensure_plan(self, atoms: list[Any], places: dict[str, int]) -> list[Any]:
        """Make sure that each atom of a compiled flow has a detail; returns the details, None where there is no atom.

        :param atoms: the atoms by index, None for what is none
        :param places: atom name -> index; kept, and not changed by the caller any more
        """
        rows = self.record.ensure_plan(atoms, places)
        self.lookup.replace(atoms)
        self._save_new()
        return rows

    @_locked
    def save_all(self, others: Iterable[models.AtomDetail] = ()) -> None:
        """Write the details of all atoms to the store, if there is a durable one.

        :param others: details on record of atoms that the flow does not have any more
        """
        self.writes.save(*(detail for detail in self.record.rows if detail is not None), *others)

    def _save_new(self) -> None:
        if self.record.unsaved:
            self.writes.commit(self.record.unsaved)
            self.record.unsaved = []

    def _detail(self, atom_name: str) -> models.AtomDetail:
        return self.record.detail(atom_name)

    @property
    def lock(self) -> _Lock:
        """A lock around the storage, with `read_lock()` and `write_lock()` context managers."""
        return _Lock(self._lock)

    @property
    def backend(self) -> Any:
        """The store of the flow detail; when none was given, one in memory that is made when it is asked for."""
        if self._backend is None:
            from taskflowx.persistence.backends import impl_memory

            self._backend = impl_memory.MemoryBackend()
            self._backend.hold(self._flowdetail)
        return self._backend

    @property
    def flow_name(self) -> str:
        """The name of the flow."""
        return self._flowdetail.name

    @property
    def flow_uuid(self) -> str:
        """The uuid of the flow's detail."""
        return self._flowdetail.uuid

    @property
    def flow_meta(self) -> dict[str, Any]:
        """The metadata of the flow's detail."""
        return self._flowdetail.meta

    @_locked
    def get_atom_uuid(self, atom_name: str) -> str:
        """Return the uuid of an atom's detail."""
        return self._detail(atom_name).uuid

    @_locked
    def set_atom_state(self, atom_name: str, state: str) -> None:
        """Set the state of an atom.

        :raises ValueError: when there is no such state
        """
        arguments.check_choice("state", state, states.ATOM_STATES)
        detail = self._detail(atom_name)
        detail.state = state
        self.writes.save(detail)

    @_locked
    def get_atom_state(self, atom_name: str) -> str | None:
        """Return the state of an atom."""
        return self._detail(atom_name).state

    @_locked
    def set_atom_intention(self, atom_name: str, intention: str) -> None:
        """Set what is to be done with an atom next.

        :raises ValueError: when there is no such intention
        """
        arguments.check_choice("intention", intention, states.INTENTIONS)
        detail = self._detail(atom_name)
        detail.intention = intention
        self.writes.save(detail)

    @_locked
    def get_atom_intention(self, atom_name: str) -> str:
        """Return what is to be done with an atom next."""
        return self._detail(atom_name).intention

    @_locked
    def get_atoms_states(self, atom_names: Iterable[str]) -> dict[str, tuple[str | None, str]]:
        """Return atom name -> (state, intention)."""
        arguments.check_type("atom_names", atom_names, Iterable, "an iterable of names of atoms")
        details = {name: self._detail(name) for name in atom_names}
        return {name: (detail.state, detail.intention) for name, detail in details.items()}

    @_locked
    def update_atom_metadata(
        self, atom_name: str, update_with: Mapping[str, Any] | Iterable[tuple[str, Any]] | None
    ) -> None:
        """Update the metadata of an atom's detail."""
        detail = self._detail(atom_name)
        if update_with:
            arguments.check_iterable("update_with", update_with, "a dict, or pairs of key and value")
            self._set_meta(detail, {**detail.meta, **dict(update_with)})

    @_locked
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
        detail.meta = meta
        self.writes.save(detail)

    @_locked
    def get_task_progress(self, task_name: str) -> float:
        """Return how far a task has come: 1.0 after success, 0.0 when it has never told."""
        detail = self.record.detail_of(task_name, models.TaskDetail)
        if detail.state == states.SUCCESS:
            return 1.0
        return detail.meta.get(metadata.PROGRESS) or 0.0

    @_locked
    def get_task_progress_details(self, task_name: str) -> dict[str, Any] | None:
        """Return {'at_progress': ..., 'details': {...}} of the last progress that came with details, or None."""
        return self.record.detail_of(task_name, models.TaskDetail).meta.get(metadata.PROGRESS_DETAILS)

    # -- results -----------------------------------------------------------------------------------

    @_locked
    def save(self, atom_name: str, result: Any, state: str = states.SUCCESS) -> None:
        """Put the result of an atom, acquired in a state, into its detail.

        :param result: the value, or a `Failure` with state FAILURE or REVERT_FAILURE
        :raises TypeError: when it is no `Failure` in a state that asks for one
        :raises ValueError: when there is no such state
        """
        arguments.check_choice("state", state, states.ATOM_STATES)
        detail = self._detail(atom_name)
        if state in (states.FAILURE, states.REVERT_FAILURE) and not isinstance(result, Failure):
            msg = (
                f"The result of atom '{atom_name}' in state {state} must be a Failure, not {result!r} ({type(result)})"
            )
            raise TypeError(msg)
        if self.writes.durable and not isinstance(result, Failure):
            reverted = state in (states.REVERTED, states.REVERT_FAILURE)
            self.writes.check_result(atom_name, states.REVERT if reverted else states.EXECUTE, result)
        if detail is self.record.injector:
            detail.put(state, result.copy() if isinstance(result, dict) else result)
            self.lookup.reread(detail)
        else:
            detail.put(state, result)
        if isinstance(result, Failure):
            self.record.note_failed(atom_name)
        elif state == states.SUCCESS:
            self.warn_of_missing(atom_name)
        self.writes.save(detail)

    @_locked
    def warn_of_missing(self, atom_name: str) -> None:
        """Log the names that an atom should provide and that its result does not have."""
        for name, key in self.lookup.missing_from(atom_name):
            LOG.warning("Atom '%s' did not supply result with index %r (name '%s')", atom_name, key, name)

    @_locked
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

    @_locked
    def cleanup_retry_history(self, retry_name: str, state: str) -> None:
        """Forget the attempts of a retry and set its state."""
        arguments.check_choice("state", state, states.ATOM_STATES)
        detail = self.record.detail_of(retry_name, models.RetryDetail)
        detail.state = state
        detail.results = []
        self.writes.save(detail)

    @_locked
    def get(self, atom_name: str) -> Any:
        """Return what an atom's `execute` returned, or the `Failure` that it ended with; of a retry, its attempts.

        :raises NotFound: when there is neither
        """
        detail = self._detail(atom_name)
        if detail.failure is not None:
            return detail.failure
        try:
            check_accessible(detail, HAS_EXECUTE_RESULT)
        except exceptions.DisallowedAccess as error:
            msg = f"Result for atom '{atom_name}' execution is not known{_why(detail)}"
            raise exceptions.NotFound(msg, error) from None
        if metadata.is_let_go(detail):
            raise let_go(detail)
        return detail.results

    get_execute_result = get

    @_locked
    def get_revert_result(self, atom_name: str) -> Any:
        """Return what an atom's `revert` returned, or the `Failure` that it ended with.

        :raises NotFound: when there is neither
        """
        detail = self._detail(atom_name)
        try:
            check_accessible(detail, HAS_REVERT_RESULT)
        except exceptions.DisallowedAccess as error:
            msg = f"Result for atom '{atom_name}' revert is not known{_why(detail)}"
            raise exceptions.NotFound(msg, error) from None
        return detail.revert_failure if detail.revert_failure is not None else detail.revert_results

    @_locked
    def get_execute_failures(self) -> dict[str, Failure]:
        """Return atom name -> `Failure` of its `execute`; one that a later attempt cured is in its retry's history."""
        return {one.name: one.failure for one in self.record.with_failures() if one.failure is not None}

    get_failures = get_execute_failures

    @_locked
    def get_revert_failures(self) -> dict[str, Failure]:
        """Return atom name -> `Failure` of its `revert`."""
        return {one.name: one.revert_failure for one in self.record.with_failures() if one.revert_failure is not None}

    @_locked
    def has_failures(self) -> bool:
        """Tell whether an atom has failed, and no later attempt has cured that."""
        return bool(self.get_execute_failures() or self.get_revert_failures())

    @_locked
    def reset(self, atom_name: str, state: str = states.PENDING) -> None:
        """Forget what has happened to an atom and set its state; one that is in that state stays as it is."""
        arguments.check_choice("state", state, states.ATOM_STATES)
        detail = self._detail(atom_name)
        if detail.state == state or detail is self.record.injector:  # the values given to the flow stay
            return
        detail.reset(state)
        self.writes.unstored.pop(atom_name, None)
        self.writes.save(detail)

    # -- injected values ---------------------------------------------------------------------------

    @_locked
    def inject_atom_args(
        self, atom_name: str, pairs: Mapping[str, Any] | Iterable[tuple[str, Any]], transient: bool = True
    ) -> None:
        """Give values to one atom alone.

        :param pairs: name -> value, a dict or pairs
        :param transient: whether they are forgotten when the run is over rather than kept in the atom's metadata
        :raises NotFound: when there is no such atom
        """
        detail = self._detail(atom_name)
        pairs = arguments.to_named_values("pairs", pairs)
        given = self.lookup.of_atom(atom_name)
        if transient:
            given[0].results.update(pairs)
        else:
            kept = given[1].results | dict(pairs)
            self._set_meta(detail, {**detail.meta, metadata.INJECTED: kept})
            given[1].results = kept
        self.lookup.inject_into(atom_name, given)

    @_locked
    def inject(self, pairs: Mapping[str, Any] | Iterable[tuple[str, Any]], transient: bool = False) -> None:
        """Give values to all atoms.

        :param pairs: name -> value, a dict or pairs
        :param transient: whether they are forgotten when the run is over rather than kept in the flow's detail
        :raises StorageFailure: when they are to be kept, and the store cannot hold one of them; none is taken then
        """
        given: Mapping[str, Any] = arguments.to_named_values("pairs", pairs)
        lookup, record = self.lookup, self.record
        if not transient:
            self.writes.check_value(lookup.injected.results | dict(given), "the values given to the flow")
        lookup.inject(given, transient=transient)
        if transient:
            return
        injector = record.injector
        if injector is None and lookup.injected.results:
            injector = record.make_injector()
        if injector is not None:
            injector.state, injector.results = states.SUCCESS, lookup.injected.results
            self.writes.save(injector)

    # -- arguments ---------------------------------------------------------------------------------

    @_locked
    def fetch(self, name: str, many_handler: Callable[[list[Any]], Any] | None = None) -> Any:
        """Return the value that is stored under a name.

        :param many_handler: called with all values if there are several, picks one; the first by default
        :raises NotFound: when nobody provides the name, or nobody has done so yet
        """
        arguments.check_type("name", name, Hashable, "the name of a value (str)")
        if many_handler is not None:
            arguments.check_callable("many_handler", many_handler)
        return self.lookup.fetch(name, many_handler)

    @_locked
    def fetch_all(self, many_handler: Callable[[list[Any]], Any] | None = None) -> dict[str, Any]:
        """Return name -> value of everything that there is.

        :param many_handler: called with the list of the values of each name; by default the value, or the list of
            several
        """
        if many_handler is not None:
            arguments.check_callable("many_handler", many_handler)
        return self.lookup.fetch_all(many_handler)

    @_locked
    def fetch_unsatisfied_args(
        self,
        atom_name: str,
        args_mapping: Mapping[str, str],
        scope_walker: Iterable[Iterable[str]] | None = None,
        optional_args: Iterable[str] | None = None,
    ) -> set[str]:
        """Return the arguments for which nobody that the atom sees could have a value.

        :param args_mapping: argument -> stored name
        :param scope_walker: rows of names of atoms that are looked at instead of what the atom sees
        :param optional_args: arguments that need no value
        :raises NotFound: when there is no such atom
        """
        self._detail(atom_name)
        arguments.check_mapping("args_mapping", args_mapping, "a dict of argument -> stored name")
        return self.lookup.unsatisfied(atom_name, args_mapping, scope_walker, set(optional_args or ()))

    @_locked
    def fetch_mapped_args(
        self,
        args_mapping: Mapping[str, str],
        atom_name: str | None = None,
        scope_walker: Iterable[Iterable[str]] | None = None,
        optional_args: Iterable[str] | None = None,
    ) -> dict[str, Any]:
        """Return argument -> value.

        :param args_mapping: argument -> stored name
        :param atom_name: the atom that the arguments are for
        :param scope_walker: rows of names of atoms that are looked at instead of what the atom sees
        :param optional_args: arguments that are left out when there is no value
        :raises NotFound: when there is no value for another argument
        """
        arguments.check_mapping("args_mapping", args_mapping, "a dict of argument -> stored name")
        if atom_name is not None:
            self._detail(atom_name)
        return self.lookup.mapped(args_mapping, atom_name, scope_walker, set(optional_args or ()))

    # -- the flow ----------------------------------------------------------------------------------

    @_locked
    def set_flow_state(self, state: str) -> None:
        """Set the state of the flow.

        :raises ValueError: when there is no such state
        """
        arguments.check_choice("state", state, states.FLOW_STATES)
        self._set_flow_state(state, ())

    def _set_flow_state(self, state: str, details: Iterable[models.AtomDetail]) -> None:
        self._state_unsaved = True
        self._flowdetail.state = state
        self.writes.save(*details)
        self._state_unsaved = False

    def get_flow_state(self) -> str:
        """Return the state of the flow; PENDING when it has none yet."""
        return self._flowdetail.state or states.PENDING

    @_locked
    def change_flow_state(self, state: str, details: Iterable[models.AtomDetail] = ()) -> tuple[bool, str | None]:
        """Move the flow to a state, if the table of states lets it.

        Returns whether it has moved, and the state before. When the move before was not saved, it is saved now.

        :param details: what is saved with it
        :raises InvalidState: when the table has no such move
        """
        old = self.get_flow_state()
        moved = states.check_flow_transition(old, state)
        if moved or self._state_unsaved:
            self._set_flow_state(state if moved else old, details)
        return moved, old

    @_locked
    def update_flow_metadata(self, update_with: Mapping[str, Any]) -> None:
        """Update the metadata of the flow's detail."""
        arguments.check_iterable("update_with", update_with, "a dict, or pairs of key and value")
        meta = {**self._flowdetail.meta, **dict(update_with)}
        self.writes.check_value(meta, f"metadata of flow '{self.flow_name}'")
        self._flowdetail.meta = meta
        self.writes.save()

    @_locked
    def get_retry_history(self, retry_name: str) -> retry.History:
        """Return the attempts of a retry."""
        detail = self.record.detail_of(retry_name, models.RetryDetail)
        return retry.History(detail.results, detail.failure)

    @_locked
    def get_retry_histories(self) -> list[tuple[str, retry.History]]:
        """Return (retry name, attempts) of all retries."""
        return [(detail.name, retry.History(detail.results, detail.failure)) for detail in self.record.retries()]


class _Lock:
    """Read and write side of the one lock of a storage."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    @contextlib.contextmanager
    def read_lock(self) -> Iterator[None]:
        """Hold the lock for reading."""
        with self._lock:
            yield

    write_lock = read_lock


def _why(detail: models.AtomDetail) -> str:
    return " (as it was ignored)" if detail.state == states.IGNORE else ""
