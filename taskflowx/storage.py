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
from collections import deque
from collections.abc import Container, Hashable, Iterable
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

from taskflowx import exceptions, retry, states
from taskflowx._util import arguments, logs
from taskflowx.atom import Atom, full_name, version_text
from taskflowx.persistence import models
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

LOG = logs.calm(__name__)

_P = ParamSpec("_P")
_R = TypeVar("_R")

#: outside of a run: how often a commit is tried, and for how many seconds, before its failure is raised
RETRY_ATTEMPTS = 3
RETRY_WAIT_TIMEOUT = 5
META_INJECTED = "injected"
META_PROGRESS = "progress"
META_PROGRESS_DETAILS = "progress_details"
#: of an atom that asks for them: which attempt its call is, within which round of the retries around it
META_ATTEMPT = "attempt"
META_REVERT_ATTEMPT = "revert_attempt"
META_ROUND = "round"
STATES_WITH_RESULTS = (
    states.FAILURE,
    states.REVERTED,
    states.REVERTING,
    states.REVERT_FAILURE,
    states.SUCCESS,
)
_EXECUTE_STATES = (states.SUCCESS, states.FAILURE, states.REVERTING)
_REVERT_STATES = (states.REVERTED, states.REVERT_FAILURE, states.REVERTING)


def _locked(method: Callable[Concatenate[Storage, _P], _R]) -> Callable[Concatenate[Storage, _P], _R]:
    """Have a method hold the lock of its storage, so that any thread may call it."""

    @functools.wraps(method)
    def locked(self: Storage, /, *args: _P.args, **kwargs: _P.kwargs) -> _R:
        with self._lock:
            return method(self, *args, **kwargs)

    return locked


class Values:
    """Injected values, in the shape of a detail that has succeeded: what a binding reads arguments from."""

    __slots__ = ("name", "results")
    state = states.SUCCESS

    def __init__(self, name: str, results: dict[str, Any]) -> None:
        self.name = name
        self.results = results

    def __repr__(self) -> str:
        return f"<Provider '{self.name}' of injected values>"


_D = TypeVar("_D", bound=models.AtomDetail)
#: where a value may be found: what has it, and the index or key there (None: all of it)
Source = tuple[Any, Any]


class Storage:
    """The record of one run, by name.

    :param flow_detail: where everything is kept
    :param backend: the store of the flow detail, or None when it lives in memory alone
    :param scope_fetcher: called with an atom's name, gives the rows of names of atoms that it sees, nearest first;
        without it an atom sees all providers
    """

    injector_name = "_TaskFlow_INJECTOR"

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
        #: whether changes have to be written to the store; what is kept in memory is there already
        self.durable = backend is not None and getattr(backend, "durable", True)
        if backend is not None and not self.durable:
            backend.hold(flow_detail)
        self._unsaved: list[models.AtomDetail] = []  # details that the store has never had
        self._state_unsaved = False  # whether the last move of the flow was not saved
        #: for an engine: places of details that have changed since the last commit, also in a run that was cut off
        self.touched: set[int] = set()
        self._scope_fetcher = scope_fetcher
        self._places: dict[str, int] = {}  # atom name -> where its detail is in _rows
        self._rows: list[Any] = []
        #: whether all details have just been made, and nobody has asked for one
        self.untouched = False
        #: names of atoms that have failed, or may have: the failures are in their details, and nowhere else
        self._failed: dict[str, None] = {}
        self._absent: set[str] = set()  # names of atoms on record that the flow does not have any more
        #: atom name -> what its `execute` returned and the store cannot hold: its revert gets it in this process
        self.unstored: dict[str, Any] = {}
        self._transients = Values("transient flow arguments", {})
        self._atom_args: dict[str, tuple[Values, Values]] = {}  # by atom name: the transient ones, the kept ones
        self._providers: dict[str, list[Source]] = {}
        self._keyed: dict[str, list[tuple[models.AtomDetail, str, Any]]] = {}  # outputs that are parts of a result
        self._unindexed: deque[Atom] = deque()  # atoms whose outputs are not in _providers yet
        self._lock = threading.RLock()
        if self.durable:
            from taskflowx.persistence import journal  # only a durable run needs it

            self._journal = journal.Journal(flow_detail, backend, self._lock, RETRY_ATTEMPTS, RETRY_WAIT_TIMEOUT)
        #: goes up when a name is injected that prepared bindings do not know
        self.injections = 0
        known = {detail.name: detail for detail in flow_detail}
        self._kept = known
        injector = known.pop(self.injector_name, None)
        self._injected = Values(self.injector_name, {})
        self._injector = injector
        self._reread_injected()
        for name, detail in known.items():
            if META_INJECTED in detail.meta:
                self._atom_args[name] = (Values(name, {}), Values(name, detail.meta[META_INJECTED]))
            if detail.failure is not None or detail.revert_failure is not None:
                self.note_failed(name)

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
            if atom.name not in self._places:
                self._places[atom.name] = len(self._rows)
                self._rows.append(self._make_detail(atom))
                self._unindexed.append(atom)
            detail = self._detail(atom.name)
            _check_kind(atom, detail, self.flow_name)
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
        known = {name: self._rows[place] for name, place in self._places.items()}
        if not known:  # an attempt to prepare may have been interrupted
            self._kept = {detail.name: detail for detail in self._flowdetail if detail is not self._injector}
        if known or self._kept:
            make = self._make_detail
            rows = [None if atom is None else known.get(atom.name) or make(atom) for atom in atoms]
        else:
            rows = self._make_details(atoms)
        self._rows = rows
        self._places = places
        self._absent = {name for name in self._kept if name not in places}
        self._unindexed = deque([atom for atom in atoms if atom is not None])
        self._providers.clear()
        self._keyed.clear()
        self.untouched = not (known or self._kept)
        self._save_new()
        return self._rows

    @_locked
    def absent_from(self, names: Container[str]) -> list[models.AtomDetail]:
        """Return the details on record of atoms that have begun, and that are none of these names."""
        if not self._kept:
            return []
        return [one for name, one in self._kept.items() if name not in names and one.state not in states.NOT_BEGUN]

    def _make_details(self, atoms: list[Any]) -> list[Any]:
        """Return a new detail for each atom of a flow of which nothing is kept; None where there is no atom."""
        rows: list[Any] = []
        pending, version, text = states.PENDING, None, ""
        for atom in atoms:
            if atom is None:
                rows.append(None)
                continue
            detail = models.RetryDetail(atom.name) if isinstance(atom, retry.Retry) else models.TaskDetail(atom.name)
            detail.state = pending
            if atom.version is not version:
                version = atom.version
                text = version_text(version)
            detail.version = text
            rows.append(detail)
        made = [detail for detail in rows if detail is not None]
        self._flowdetail.extend(made)
        if self.durable:
            self._unsaved.extend(made)
        return rows

    def _make_detail(self, atom: Atom) -> models.AtomDetail:
        """Return the kept detail of an atom, or a new one.

        :raises Duplicate: when the kept detail of that name is of another kind
        """
        name = atom.name
        detail: models.AtomDetail | None = self._kept.get(name) if self._kept else None
        if detail is None:
            detail = models.RetryDetail(name) if isinstance(atom, retry.Retry) else models.TaskDetail(name)
            detail.state = states.PENDING
            detail.version = (
                _cached_version_text(atom.version) if type(atom.version) is tuple else version_text(atom.version)
            )
            self._flowdetail.add(detail)
            if self.durable:
                self._unsaved.append(detail)
            return detail
        _check_kind(atom, detail, self.flow_name)
        _check_version(atom, detail)
        if detail.state is None:
            detail.state = states.PENDING
        return detail

    def commit(self, details: Iterable[models.AtomDetail]) -> None:
        """Write details, and the state and metadata of the flow, to the store as one transaction.

        :raises StorageFailure: when the store does not take it; see `persistence.journal`
        :raises OwnershipFailure: when somebody else runs the flow, or has done so since its record was read
        """
        self._journal.commit(details)

    def owned(self, lease: float, patience: float) -> contextlib.AbstractContextManager[None]:
        """Keep others from writing the run while the block runs, from its first commit on.

        :param lease: seconds after our last sign of life for which we count as alive
        :param patience: seconds for which a commit is tried
        """
        return self._journal.owned(lease, patience) if self.durable else contextlib.nullcontext()

    def claim(self) -> None:
        """Make sure that the store knows who runs the flow.

        :raises OwnershipFailure: when somebody else does, or has done so since its record was read
        """
        if self.durable:
            self._journal.claim()

    def lose_patience(self) -> None:
        """Have each further commit of this run tried once, as the store has been waited for long enough."""
        self._journal.patience = 0

    def report(self, details: Iterable[models.AtomDetail], seconds: float) -> None:
        """Have copies of details written within so many seconds by another thread than the engine's."""
        self._journal.report(details, seconds)

    def _save(self, *details: models.AtomDetail) -> None:
        if self.durable:
            self.commit(details)

    @_locked
    def save_all(self, others: Iterable[models.AtomDetail] = ()) -> None:
        """Write the details of all atoms to the store, if there is a durable one.

        :param others: details on record of atoms that the flow does not have any more
        """
        self._save(*(detail for detail in self._rows if detail is not None), *others)

    def _save_new(self) -> None:
        if self._unsaved:
            self.commit(self._unsaved)
            self._unsaved = []

    def check_storable(self, atom_name: str, verb: str, result: Any) -> None:
        """Check that the store can hold what a method of an atom has returned.

        :raises StorageFailure: names the atom, the path inside the value, and the type of what is there
        """
        self.check_value(result, f"{'revert ' if verb == states.REVERT else ''}result of atom '{atom_name}'")

    def check_value(self, value: Any, what: str) -> None:
        """Check that the store can hold a value, if there is a durable one.

        :param what: names the value in errors
        :raises Unstorable: when it cannot; says where in the value, and why
        """
        if self.durable:
            check: Callable[[Any, str], Any] | None = getattr(self._backend, "check_value", None)
            if check is None:  # a store of somebody else's, with TaskFlow's interface alone
                from taskflowx.persistence import codec

                check = codec.dumps
            check(value, what)

    @functools.cached_property
    def limits_records(self) -> bool:
        """Whether `check_record` may refuse something."""
        return self.durable and bool(getattr(self._backend, "limits_records", False))

    def check_record(self, detail: models.AtomDetail) -> None:
        """Check that the store can hold the record of an atom as a whole.

        :raises Unstorable: when it cannot; names the atom
        """
        self._backend.check_record(detail)

    def _detail(self, atom_name: str) -> models.AtomDetail:
        self.untouched = False
        try:
            return self._rows[self._places[atom_name]]  # type: ignore[no-any-return]
        except (KeyError, TypeError) as error:  # unknown, or what cannot be a key
            kept: models.AtomDetail | None = self._kept.get(atom_name) if isinstance(error, KeyError) else None
            if atom_name == self.injector_name:
                kept = self._injector
            if kept is not None:  # it is on record; the atom itself has not been shown yet
                return kept
            msg = f"Unknown atom name '{atom_name}'"
            raise exceptions.NotFound(msg, error) from None

    def _detail_of(self, atom_name: str, kind: type[_D]) -> _D:
        """Return the detail of an atom of a kind.

        :raises TypeError: when the atom is of the other kind
        """
        detail = self._detail(atom_name)
        if not isinstance(detail, kind):
            msg = f"Atom '{atom_name}' is not of the expected type: {full_name(kind)}"
            raise TypeError(msg)
        return detail

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
        self._save(detail)

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
        self._save(detail)

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
        detail = self._detail_of(task_name, models.TaskDetail)
        self._set_meta(detail, {**detail.meta, **progress_facts(progress, details)})

    def _set_meta(self, detail: models.AtomDetail, meta: dict[str, Any]) -> None:
        """Replace the metadata of an atom; what the store refuses changes nothing."""
        self.check_value(meta, f"metadata of atom '{detail.name}'")
        detail.meta = meta
        self._save(detail)

    @_locked
    def get_task_progress(self, task_name: str) -> float:
        """Return how far a task has come: 1.0 after success, 0.0 when it has never told."""
        detail = self._detail_of(task_name, models.TaskDetail)
        if detail.state == states.SUCCESS:
            return 1.0
        return detail.meta.get(META_PROGRESS) or 0.0

    @_locked
    def get_task_progress_details(self, task_name: str) -> dict[str, Any] | None:
        """Return {'at_progress': ..., 'details': {...}} of the last progress that came with details, or None."""
        return self._detail_of(task_name, models.TaskDetail).meta.get(META_PROGRESS_DETAILS)

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
        if self.durable and not isinstance(result, Failure):
            reverted = state in (states.REVERTED, states.REVERT_FAILURE)
            self.check_storable(atom_name, states.REVERT if reverted else states.EXECUTE, result)
        if detail is self._injector:
            detail.put(state, result.copy() if isinstance(result, dict) else result)
            self._reread_injected()
        else:
            detail.put(state, result)
        if isinstance(result, Failure):
            self.note_failed(atom_name)
        elif state == states.SUCCESS:
            self.warn_of_missing(atom_name)
        self._save(detail)

    @_locked
    def warn_of_missing(self, atom_name: str) -> None:
        """Log the names that an atom should provide and that its result does not have."""
        self._index()
        for detail, name, key in self._keyed.get(atom_name, ()):
            try:
                detail.last_results[key]
            except Exception:  # noqa: BLE001 - a result may be of any kind
                LOG.warning("Atom '%s' did not supply result with index %r (name '%s')", atom_name, key, name)

    @_locked
    def save_retry_failure(self, retry_name: str, failed_atom_name: str, failure: Failure) -> None:
        """Add a failure to the current attempt in a retry's history; the first of an atom stays.

        :raises StorageFailure: when there was no attempt
        """
        detail = self._detail_of(retry_name, models.RetryDetail)
        try:
            detail.note_failure({failed_atom_name: failure, **detail.last_failures})
        except exceptions.NotFound as error:
            msg = "Unable to fetch most recent retry failures so new retry failure can be inserted"
            raise exceptions.StorageFailure(msg, error) from error
        self._save(detail)

    @_locked
    def cleanup_retry_history(self, retry_name: str, state: str) -> None:
        """Forget the attempts of a retry and set its state."""
        arguments.check_choice("state", state, states.ATOM_STATES)
        detail = self._detail_of(retry_name, models.RetryDetail)
        detail.state = state
        detail.results = []
        self._save(detail)

    @_locked
    def get(self, atom_name: str) -> Any:
        """Return what an atom's `execute` returned, or the `Failure` that it ended with; of a retry, its attempts.

        :raises NotFound: when there is neither
        """
        detail = self._detail(atom_name)
        if detail.failure is not None:
            return detail.failure
        try:
            _check_accessible(detail, _EXECUTE_STATES)
        except exceptions.DisallowedAccess as error:
            msg = f"Result for atom '{atom_name}' execution is not known{_why(detail)}"
            raise exceptions.NotFound(msg, error) from None
        if is_let_go(detail):
            raise _let_go(detail)
        return detail.results

    get_execute_result = get

    @_locked
    def get_revert_result(self, atom_name: str) -> Any:
        """Return what an atom's `revert` returned, or the `Failure` that it ended with.

        :raises NotFound: when there is neither
        """
        detail = self._detail(atom_name)
        try:
            _check_accessible(detail, _REVERT_STATES)
        except exceptions.DisallowedAccess as error:
            msg = f"Result for atom '{atom_name}' revert is not known{_why(detail)}"
            raise exceptions.NotFound(msg, error) from None
        return detail.revert_failure if detail.revert_failure is not None else detail.revert_results

    def note_failed(self, atom_name: str) -> None:
        """Note that the detail of an atom has a failure."""
        self._failed[atom_name] = None

    def _with_failures(self) -> list[models.AtomDetail]:
        """Return the details of the flow's atoms that have a failure, in the order of the atoms.

        The failure of an atom that the flow has no more counts when there is no other: it is what rolls the flow back.
        """
        names = sorted(self._failed, key=lambda name: self._places.get(name, -1))
        failed = [one for one in map(self._detail, names) if one.failure is not None or one.revert_failure is not None]
        return [one for one in failed if one.name not in self._absent] or failed

    @_locked
    def get_execute_failures(self) -> dict[str, Failure]:
        """Return atom name -> `Failure` of its `execute`; one that a later attempt cured is in its retry's history."""
        return {one.name: one.failure for one in self._with_failures() if one.failure is not None}

    get_failures = get_execute_failures

    @_locked
    def get_revert_failures(self) -> dict[str, Failure]:
        """Return atom name -> `Failure` of its `revert`."""
        return {one.name: one.revert_failure for one in self._with_failures() if one.revert_failure is not None}

    @_locked
    def has_failures(self) -> bool:
        """Tell whether an atom has failed, and no later attempt has cured that."""
        return bool(self.get_execute_failures() or self.get_revert_failures())

    @_locked
    def reset(self, atom_name: str, state: str = states.PENDING) -> None:
        """Forget what has happened to an atom and set its state; one that is in that state stays as it is."""
        arguments.check_choice("state", state, states.ATOM_STATES)
        detail = self._detail(atom_name)
        if detail.state == state or detail is self._injector:  # the values given to the flow stay
            return
        detail.reset(state)
        self.unstored.pop(atom_name, None)
        self._save(detail)

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
        given = self._atom_args.get(atom_name) or (Values(atom_name, {}), Values(atom_name, {}))
        if transient:
            given[0].results.update(pairs)
        else:
            kept = given[1].results | dict(pairs)
            self._set_meta(detail, {**detail.meta, META_INJECTED: kept})
            given[1].results = kept
        self._atom_args[atom_name] = given
        self.injections += 1

    @_locked
    def inject(self, pairs: Mapping[str, Any] | Iterable[tuple[str, Any]], transient: bool = False) -> None:
        """Give values to all atoms.

        :param pairs: name -> value, a dict or pairs
        :param transient: whether they are forgotten when the run is over rather than kept in the flow's detail
        :raises StorageFailure: when they are to be kept, and the store cannot hold one of them; none is taken then
        """
        pairs = arguments.to_named_values("pairs", pairs)
        if not transient:
            self.check_value(self._injected.results | dict(pairs), "the values given to the flow")
        values = self._transients if transient else self._injected
        if any(name not in values.results for name in pairs):
            self.injections += 1
        values.results.update(pairs)
        if not transient and self._injector is None and values.results:
            self._injector = models.TaskDetail(self.injector_name)
            self._flowdetail.add(self._injector)
        if not transient and self._injector is not None:
            self._injector.state, self._injector.results = states.SUCCESS, values.results
            self._save(self._injector)

    def _reread_injected(self) -> None:
        """Take over the values given to the flow from their detail, which may have been replaced by name."""
        detail = self._injector
        given = None if detail is None or detail.state != states.SUCCESS else detail.results
        self._injected.results = given if isinstance(given, dict) else {}
        self.injections += 1

    # -- arguments ---------------------------------------------------------------------------------

    def injected_source(self, atom_name: str, name: str) -> Source | None:
        """Return where an injected value of this name is that the atom sees before any provider, or None."""
        given = self._atom_args.get(atom_name)
        if given is not None:
            for values in given:
                if name in values.results:
                    return values, name
        for values in (self._transients, self._injected):
            if name in values.results:
                return values, name
        return None

    def injected_names(self) -> set[str] | None:
        """Return the names that have been injected, or None when some of them are for single atoms."""
        return None if self._atom_args else {*self._transients.results, *self._injected.results}

    def find(self, name: str, sources: Iterable[Source]) -> Any:
        """Return the first value among the sources, which come in the order of their precedence.

        :raises NotFound: when none of them has a value
        """
        looked_at: list[tuple[Any, Any, Exception | None]] = []
        ignored = 0
        for detail, key in sources:
            if detail.state == states.IGNORE:
                ignored += 1
                continue
            problem: Exception | None = None
            if is_let_go(detail):
                problem = _let_go(detail)
            elif detail.state == states.SUCCESS:
                results = detail.last_results if isinstance(detail, models.RetryDetail) else detail.results
                if key is None:
                    return results
                try:
                    return results[key]
                except Exception as error:  # noqa: BLE001 - a result may be of any kind
                    problem = error
            looked_at.append((detail, key, problem))
        if len(looked_at) == 1:
            raise _unavailable(name, *looked_at[0])
        if not looked_at and ignored:
            msg = f"Unable to find result '{name}', searched {ignored} providers, which were all ignored"
            raise exceptions.NotFound(msg)
        if not looked_at:
            msg = f"Name '{name}' is not mapped as a produced output by any providers"
            raise exceptions.NotFound(msg)
        owners = ", ".join(f"{_provider(detail, key)} ({detail.state})" for detail, key, _ in looked_at)
        msg = (
            f"Unable to find result '{name}', expected to be able to find it created by one of [{owners}] "
            "but was unable to perform successful extraction"
        )
        raise exceptions.NotFound(msg)

    def _index(self) -> None:
        """Bring the providers of each name up to date."""
        while self._unindexed:
            atom = self._unindexed[0]  # taken out when it is done: what an interrupt cuts off is done again
            detail = self._detail(atom.name)
            for name, key in atom._tfx_signature.outputs:  # noqa: SLF001 - of the same house
                found = self._providers.setdefault(name, [])
                if not found or found[-1][0] is not detail:
                    if key is not None:
                        self._keyed.setdefault(detail.name, []).append((detail, name, key))
                    found.append((detail, key))
            self._unindexed.popleft()

    def _sources(self, name: str) -> Iterator[Source]:
        """Iterate over all that may have a value of this name: injected ones first, then in the order of the atoms."""
        self._index()
        for values in (self._transients, self._injected):
            if name in values.results:
                yield values, name
        yield from self._providers.get(name, ())

    @_locked
    def fetch(self, name: str, many_handler: Callable[[list[Any]], Any] | None = None) -> Any:
        """Return the value that is stored under a name.

        :param many_handler: called with all values if there are several, picks one; the first by default
        :raises NotFound: when nobody provides the name, or nobody has done so yet
        """
        arguments.check_type("name", name, Hashable, "the name of a value (str)")
        if many_handler is not None:
            arguments.check_callable("many_handler", many_handler)
        found: list[Any] = []
        sources = list(self._sources(name))
        for detail, key in sources:
            with contextlib.suppress(exceptions.NotFound):
                found.append(self._offered(name, detail, key))
        if found:
            return found[0] if many_handler is None else many_handler(found)
        return self.find(name, sources)

    def _offered(self, name: str, detail: Any, key: Any) -> Any:
        """Return what a source has under a name; of an atom that failed its `Failure`, if it is not asked for a part.

        :raises NotFound: when it has nothing
        """
        if isinstance(detail, models.AtomDetail):
            if detail.failure is not None:
                if key is None:
                    return detail.failure
                raise _unavailable(name, detail, key, None)
            if detail.state == states.REVERTING:
                return _part(name, detail, key)
        return self.find(name, [(detail, key)])

    @_locked
    def fetch_all(self, many_handler: Callable[[list[Any]], Any] | None = None) -> dict[str, Any]:
        """Return name -> value of everything that there is.

        :param many_handler: called with the list of the values of each name; by default the value, or the list of
            several
        """
        if many_handler is not None:
            arguments.check_callable("many_handler", many_handler)
        self._index()

        def handle(values: list[Any]) -> Any:
            if many_handler is not None:
                return many_handler(values)
            return values[0] if len(values) == 1 else values

        everything = {}
        for name in dict.fromkeys([*self._transients.results, *self._injected.results, *self._providers]):
            with contextlib.suppress(exceptions.NotFound):
                everything[name] = self.fetch(name, handle)
        return everything

    def _seen(self, atom_name: str | None, scope_walker: Iterable[Iterable[str]] | None) -> list[str]:
        """Return the names of the atoms that an atom sees, nearest first."""
        if scope_walker is None and atom_name is not None and self._scope_fetcher is not None:
            scope_walker = self._scope_fetcher(atom_name)
        return [name for level in scope_walker or () for name in level]

    def _sources_for(self, atom_name: str | None, name: str, seen: list[str]) -> Iterator[Source]:
        given = self._atom_args.get(atom_name) if atom_name is not None else None
        for values in given or ():
            if name in values.results:
                yield values, name
        for values in (self._transients, self._injected):
            if name in values.results:
                yield values, name
        self._index()
        offered = {detail.name: (detail, key) for detail, key in self._providers.get(name, ())}
        for visible in seen:
            if visible in offered:
                yield offered[visible]

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
        seen = self._seen(atom_name, scope_walker)
        optional = set(optional_args or ())
        return {
            arg
            for arg, name in args_mapping.items()
            if arg not in optional and next(self._sources_for(atom_name, name, seen), None) is None
        }

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
        seen = self._seen(atom_name, scope_walker)
        optional = set(optional_args or ())
        values = {}
        for arg, name in args_mapping.items():
            sources = list(self._sources_for(atom_name, name, seen))
            if not sources:
                if arg in optional:
                    continue
                if next(self._sources(name), None) is None:
                    self.find(name, ())
                msg = (
                    f"Mapped argument '{arg}' <= '{name}' was not produced by any accessible provider "
                    f"({len(sources)} possible providers were scanned)"
                )
                raise exceptions.NotFound(msg)
            try:
                values[arg] = self.find(name, sources)
            except exceptions.NotFound:
                if arg not in optional:
                    raise
        return values

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
        self._save(*details)
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
        self.check_value(meta, f"metadata of flow '{self.flow_name}'")
        self._flowdetail.meta = meta
        self._save()

    @_locked
    def get_retry_history(self, retry_name: str) -> retry.History:
        """Return the attempts of a retry."""
        detail = self._detail_of(retry_name, models.RetryDetail)
        return retry.History(detail.results, detail.failure)

    @_locked
    def get_retry_histories(self) -> list[tuple[str, retry.History]]:
        """Return (retry name, attempts) of all retries."""
        return [
            (name, retry.History(detail.results, detail.failure))
            for name, detail in ((detail.name, detail) for detail in self._flowdetail)
            if isinstance(detail, models.RetryDetail)
        ]


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


def progress_facts(progress: float, details: dict[str, Any] | None) -> dict[str, Any]:
    """Return what the metadata of an atom says of how far it has come.

    :param details: facts about it; None leaves the ones there as they are
    """
    facts: dict[str, Any] = {META_PROGRESS: progress}
    if details is not None:
        facts[META_PROGRESS_DETAILS] = {"at_progress": progress, "details": details} if details else None
    return facts


def _check_accessible(detail: models.AtomDetail, allowed: tuple[str, ...]) -> None:
    """Refuse the result of an atom whose state says that there is none.

    :raises DisallowedAccess: says which state it is in
    """
    if detail.state not in allowed:
        msg = (
            f"Result for atom '{detail.name}' is not known/accessible due to it being in {detail.state} state "
            f"when result access is restricted to {allowed} states"
        )
        raise exceptions.DisallowedAccess(msg, state=detail.state)


def _why(detail: models.AtomDetail) -> str:
    return " (as it was ignored)" if detail.state == states.IGNORE else ""


def _provider(detail: Any, key: Any) -> str:
    return f"<Provider '{detail.name}'>" if key is None else f"<Provider '{detail.name}' @ index {key!r}>"


def _part(name: str, detail: Any, key: Any) -> Any:
    """Return the part of a result that is asked for.

    :raises NotFound: when there is no such part
    """
    try:
        return detail.last_results if key is None else detail.last_results[key]
    except Exception as error:  # noqa: BLE001 - a result may be of any kind
        raise _unavailable(name, detail, key, error) from None


def is_let_go(detail: Any) -> bool:
    """Tell whether an atom has a result that was not kept."""
    return models.META_LET_GO in (getattr(detail, "_meta", None) or ())


def _let_go(detail: Any) -> exceptions.NotFound:
    return exceptions.NotFound(
        f"The result of atom '{detail.name}' was let go of, as no task takes it any more; to keep it, name it in "
        "the engine's option keep_results"
    )


def _unavailable(name: str, detail: Any, key: Any, problem: Exception | None) -> exceptions.NotFound:
    """Return the error for a name of which the only provider has no value.

    :param problem: what came of looking into its result; None when there is none to look into
    """
    provider = _provider(detail, key)
    if problem is None and detail.state in _EXECUTE_STATES and detail.failure is not None:
        problem = TypeError(f"it failed with {detail.failure.exception_str!r}")
    if problem is not None:
        msg = f"Unable to find result '{name}', expected to be able to find it created by {provider} but was unable to "
        return exceptions.NotFound(msg + "perform successful extraction", problem)
    cause = None
    try:
        _check_accessible(detail, _EXECUTE_STATES)
    except exceptions.DisallowedAccess as error:
        cause = error
    msg = f"Expected to be able to find output '{name}' produced by {provider} but was unable to get at that "
    return exceptions.NotFound(msg + "providers results", cause)


def _check_kind(atom: Atom, detail: models.AtomDetail, flow_name: str) -> None:
    """Refuse a detail that was made for a task to be that of a retry, and the other way round."""
    kind = models.RetryDetail if isinstance(atom, retry.Retry) else models.TaskDetail
    if type(detail) is not kind:
        msg = (
            f"Atom detail '{atom.name}' already exists in flow detail '{flow_name}'\n"
            f"It is of a {detail.KIND} and not of a {kind.KIND}"
        )
        raise exceptions.Duplicate(msg)


_cached_version_text = functools.lru_cache(maxsize=64)(version_text)  # an atom costs no call for it


def _check_version(atom: Atom, detail: models.AtomDetail) -> None:
    """Refuse to go on with a record that another major version of the atom made."""
    recorded = detail.version
    if recorded is None or atom.version is None:
        return
    major = str(recorded[0] if isinstance(recorded, tuple) else str(recorded).split(".", 1)[0])
    if major != str(atom.version[0]):
        msg = (
            f"Atom '{atom.name}' is of version {'.'.join(map(str, atom.version))}, "
            f"which does not fit version {recorded} that the record was made with"
        )
        raise exceptions.IncompatibleVersion(msg)
