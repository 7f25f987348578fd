"""TaskFlow's facade over the record of a run: what callers ask about it, by name, from any thread.

`Storage` stands between names and the details of a `FlowDetail`. An engine has it make one detail an atom, and works on
`record`, `lookup` and `writes` itself, in its own thread and without the lock that all public methods hold. Metadata
and histories are replaced, never changed in place, so that another thread which writes them to the store meanwhile has
one or the other.

Each change by name is written at once, if there is a durable store. A value that the store refuses is refused where it
is given, and changes nothing. A change that a store which is away does not take stays in force, and goes with the next
commit.

Invariant: values are held by reference; nothing here copies them.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx._util import arguments, logs, reprs
from taskflowx.atom import Atom
from taskflowx.persistence import models, run_records
from taskflowx.record import metadata
from taskflowx.record.by_name import AtomsByName, locked
from taskflowx.record.record import INJECTOR_NAME
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx._util.clock import Clock
    from taskflowx.persistence.base import Backend
    from taskflowx.persistence.history import Entry
    from taskflowx.record.secrets import Secrets

LOG = logs.calm(__name__)

#: outside of a run: how often a commit is tried, and for how many seconds, before its failure is raised
RETRY_ATTEMPTS = 3
RETRY_WAIT_TIMEOUT = 5
# Names of TaskFlow's.
META_INJECTED, META_PROGRESS, META_PROGRESS_DETAILS = metadata.INJECTED, metadata.PROGRESS, metadata.PROGRESS_DETAILS
STATES_WITH_RESULTS = (states.FAILURE, states.REVERTED, states.REVERTING, states.REVERT_FAILURE, states.SUCCESS)


class Storage(AtomsByName):
    """The record of one run, by name.

    :param flow_detail: where everything is kept
    :param backend: the store of the flow detail, or None when it lives in memory alone
    :param scope_fetcher: called with an atom's name, gives the rows of names of atoms that it sees, nearest first;
        without it an atom sees all providers
    :param clock: the time of the transitions, if a history is kept; None to keep none
    """

    injector_name = INJECTOR_NAME

    def __init__(
        self,
        flow_detail: models.FlowDetail,
        backend: Backend | None = None,
        scope_fetcher: Callable[[str], Iterable[Iterable[str]]] | None = None,
        clock: Clock | None = None,
    ) -> None:
        if type(flow_detail) is not models.FlowDetail:
            arguments.check_like("flow_detail", flow_detail, ("name", "meta"), "a FlowDetail")
        self._flowdetail = flow_detail
        self._backend: Any = backend
        store: Any = backend
        self._state_unsaved = False  # whether the last move of the flow was not saved
        super().__init__(flow_detail, backend, scope_fetcher, RETRY_ATTEMPTS, RETRY_WAIT_TIMEOUT)
        if clock is not None:
            self.writes.keep_history(time.time if clock.is_real else clock.time)
            self._watch(flow_detail)
        elif getattr(flow_detail, "log", None) is not None:  # of an engine before
            flow_detail.log.unwatch()
        if backend is not None and not self.writes.durable:
            store.hold(flow_detail)  # as only one in memory does
            if run_records.RUN in (flow_detail.meta or ()):
                self.writes.take_turns()

    # -- atoms -------------------------------------------------------------------------------------

    @locked
    def ensure_atoms(self, atoms: Iterable[Any]) -> list[str]:
        """Make sure that each of the atoms has a detail; returns their uuids.

        :raises Duplicate: when there is a detail of that name and of another kind
        :raises TypeError: when something is no atom
        """
        arguments.check_iterable("atoms", atoms, "an iterable of atoms")
        uuids = []
        for atom in atoms:
            if not isinstance(atom, Atom):
                raise TypeError(f"Unknown atom '{atom}' ({type(atom)}) requested to ensure")
            detail, is_new = self.record.ensure(atom)
            if is_new:
                self.lookup.add(atom)
            uuids.append(detail.uuid)
        self._watch(self.record.rows)
        self._save_new()
        return uuids

    def ensure_atom(self, atom: Atom) -> str:
        """Make sure that an atom has a detail; returns its uuid."""
        return self.ensure_atoms([atom])[0]

    @locked
    def ensure_plan(self, atoms: list[Any], places: dict[str, int]) -> list[Any]:
        """Make sure that each atom of a compiled flow has a detail; returns the details, None where there is no atom.

        :param atoms: the atoms by index, None for what is none
        :param places: atom name -> index; kept, and not changed by the caller any more
        """
        rows = self.record.ensure_plan(atoms, places)
        self.lookup.replace(atoms)
        self._watch(rows)
        self._save_new()
        return rows

    def keep_secret(self, names: Mapping[str, str]) -> Secrets:
        """Have the values of some names neither shown nor, without a transform, stored; returns what knows of them.

        :param names: name -> how it is kept, see `record.secrets`
        """
        from taskflowx.record.secrets import Secrets  # who has no secrets does without it

        made = Secrets(names, self.lookup, self.writes)
        self.writes.keep_secret(made)
        return made

    @locked
    def save_all(self, others: Iterable[models.AtomDetail] = ()) -> None:
        """Write the details of all atoms to the store, if there is a durable one.

        :param others: details on record of atoms that the flow does not have any more
        """
        self.writes.save(*(detail for detail in self.record.rows if detail is not None), *others)

    def _watch(self, details: Iterable[models.AtomDetail | None]) -> None:
        """Note the transitions of atoms, where a history is kept; the values given to the flow are no atom of it."""
        log, injector = self.writes.log, self.record.injector
        if log is not None:
            log.watch(one for one in details if one is not injector)

    def history(self) -> list[Entry]:
        """Return all transitions of the flow and its atoms, in their order, as far as they were noted."""
        return self.writes.history()

    def _save_new(self) -> None:
        if self.record.unsaved:
            self.writes.save(*self.record.unsaved)
            self.record.unsaved = []

    @property
    def lock(self) -> _Lock:
        """A lock around the storage, with `read_lock()` and `write_lock()` context managers."""
        return _Lock(self._lock)

    @property
    def backend(self) -> Backend:
        """The store of the flow detail; when none was given, one in memory that is made when it is asked for."""
        if self._backend is None:
            from taskflowx.persistence.backends import impl_memory

            self._backend = impl_memory.MemoryBackend()
            self._backend.hold(self._flowdetail)
        found: Backend = self._backend
        return found

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

    @reprs.one_line
    def __repr__(self) -> str:
        states_of_atoms = reprs.counted(one.state for one in self.record.rows if one is not None)
        return f"{type(self).__name__} {self.flow_name!r} {self.get_flow_state()}: {states_of_atoms}"

    # -- results -----------------------------------------------------------------------------------

    @locked
    def save(self, atom_name: str, result: Any, state: str = states.SUCCESS) -> None:
        """Put the result of an atom, acquired in a state, into its detail.

        :param result: the value, or a `Failure` with state FAILURE or REVERT_FAILURE
        :raises TypeError: when it is no `Failure` in a state that asks for one
        :raises ValueError: when there is no such state
        """
        arguments.check_choice("state", state, states.ATOM_STATES)
        detail = self._detail(atom_name)
        if state in (states.FAILURE, states.REVERT_FAILURE) and not isinstance(result, Failure):
            raise TypeError(
                f"The result of atom '{atom_name}' in state {state} must be a Failure, not {result!r} ({type(result)})"
            )
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

    @locked
    def warn_of_missing(self, atom_name: str) -> None:
        """Log the names that an atom should provide and that its result does not have."""
        for name, key in self.lookup.missing_from(atom_name):
            LOG.warning("Atom '%s' did not supply result with index %r (name '%s')", atom_name, key, name)

    # -- injected values ---------------------------------------------------------------------------

    @locked
    def inject_atom_args(
        self, atom_name: str, pairs: Mapping[str, Any] | Iterable[tuple[str, Any]], transient: bool = True
    ) -> None:
        """Give values to one atom alone.

        :param pairs: name -> value, a dict or pairs
        :param transient: whether they are forgotten when the run is over rather than kept in the atom's metadata
        :raises NotFound: when there is no such atom
        :raises Unstorable: when a sensitive value would be stored as it is
        """
        detail = self._detail(atom_name)
        named: Mapping[str, Any] = arguments.to_named_values("pairs", pairs)
        given = self.lookup.of_atom(atom_name)
        if transient:
            given[0].results.update(named)
        else:
            secrets = self.writes.secrets
            kept, in_memory = (dict(named), {}) if secrets is None else secrets.split(named)
            given[0].results.update(in_memory)
            kept = given[1].results | kept
            with self.writes.refusing(kept):
                self._set_meta(detail, {**detail.meta, metadata.INJECTED: kept})
            given[1].results = kept
        self.lookup.inject_into(atom_name, given)

    @locked
    def inject(self, pairs: Mapping[str, Any] | Iterable[tuple[str, Any]], transient: bool = False) -> None:
        """Give values to all atoms.

        :param pairs: name -> value, a dict or pairs
        :param transient: whether they are forgotten when the run is over rather than kept in the flow's detail
        :raises StorageFailure: when they are to be kept, and the store cannot hold one of them; none is taken then
        """
        given: Mapping[str, Any] = arguments.to_named_values("pairs", pairs)
        lookup, record = self.lookup, self.record
        secrets = self.writes.secrets
        in_memory: Mapping[str, Any] = {}
        if secrets is not None:
            secrets.texts()  # what a value takes the place of stays a secret
        if secrets is not None and not transient:
            given, in_memory = secrets.split(given)
            lookup.inject(in_memory, transient=True)
        if not transient:
            values, what = lookup.injected.results | dict(given), "the values given to the flow"
            with self.writes.refusing(values):
                if self.writes.blobs is None or not self.writes.blobs.keeps(INJECTOR_NAME, values, what, grows=True):
                    self.writes.check_value(values, what)
        lookup.inject(given, transient=transient)
        if transient:
            return
        injector = record.injector
        if injector is None and (lookup.injected.results or in_memory):
            injector = record.make_injector()
        if injector is not None:
            injector.state, injector.results = states.SUCCESS, lookup.injected.results
            if secrets is not None and (hidden := secrets.names.keys() & {*injector.results, *in_memory}):
                injector.meta[metadata.SENSITIVE] = secrets.marks(hidden)
            self.writes.save(injector)

    # -- arguments ---------------------------------------------------------------------------------

    @locked
    def fetch(self, name: str, many_handler: Callable[[list[Any]], Any] | None = None) -> Any:
        """Return the value that is stored under a name.

        :param many_handler: called with all values if there are several, picks one; the first by default
        :raises NotFound: when nobody provides the name, or nobody has done so yet
        """
        arguments.check_type("name", name, Hashable, "the name of a value (str)")
        if many_handler is not None:
            arguments.check_callable("many_handler", many_handler)
        return self.lookup.fetch(name, many_handler)

    @locked
    def fetch_all(self, many_handler: Callable[[list[Any]], Any] | None = None) -> dict[str, Any]:
        """Return name -> value of everything that there is.

        :param many_handler: called with the list of the values of each name; by default the value, or the list of
            several
        """
        if many_handler is not None:
            arguments.check_callable("many_handler", many_handler)
        return self.lookup.fetch_all(many_handler)

    @locked
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
        seen, optional = self.lookup.seen_by(atom_name, scope_walker), set(optional_args or ())
        return {
            arg
            for arg, name in args_mapping.items()
            if arg not in optional and next(self.lookup.sources_for(atom_name, name, seen), None) is None
        }

    @locked
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
        :param optional_args: arguments that are omitted when there is no value
        :raises NotFound: when there is no value for another argument
        """
        arguments.check_mapping("args_mapping", args_mapping, "a dict of argument -> stored name")
        if atom_name is not None:
            self._detail(atom_name)
        lookup, optional = self.lookup, set(optional_args or ())
        seen = lookup.seen_by(atom_name, scope_walker)
        values = {}
        for arg, name in args_mapping.items():
            sources = list(lookup.sources_for(atom_name, name, seen))
            if not sources:
                if arg in optional:
                    continue
                if next(lookup.sources(name), None) is None:
                    lookup.find(name, ())
                raise exceptions.NotFound(
                    f"Mapped argument '{arg}' <= '{name}' was not produced by any accessible provider "
                    "(0 possible providers were scanned)"
                )
            try:
                values[arg] = lookup.find(name, sources)
            except exceptions.NotFound:
                if arg not in optional:
                    raise
        return values

    # -- the flow ----------------------------------------------------------------------------------

    @locked
    def set_flow_state(self, state: str) -> None:
        """Set the state of the flow.

        :raises ValueError: when there is no such state
        """
        arguments.check_choice("state", state, states.FLOW_STATES)
        self._set_flow_state(state, ())

    def _set_flow_state(self, state: str, details: Iterable[models.AtomDetail]) -> None:
        self._state_unsaved = True
        if self.writes.log is None:
            self._flowdetail.state = state
        elif state != self._flowdetail.state:
            self.writes.log.move_flow(state)
        self.writes.save(*details)
        self._state_unsaved = False

    def get_flow_state(self) -> str:
        """Return the state of the flow; PENDING when it has none yet."""
        return self._flowdetail.state or states.PENDING

    @locked
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

    @locked
    def update_flow_metadata(self, update_with: Mapping[str, Any]) -> None:
        """Update the metadata of the flow's detail."""
        arguments.check_iterable("update_with", update_with, "a dict, or pairs of key and value")
        meta = {**self._flowdetail.meta, **dict(update_with)}
        self.writes.check_value(meta, f"metadata of flow '{self.flow_name}'")
        self._flowdetail.meta = meta
        self.writes.save()


class _Lock:
    """Read and write side of the one lock of a storage."""

    def __init__(self, lock: Any) -> None:
        self._lock = lock

    def read_lock(self) -> Any:
        """Return the lock, to be held for reading."""
        return self._lock

    write_lock = read_lock
