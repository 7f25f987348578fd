"""`RunResult`: what a run has come to, as a dict of what its flow provides and with what the record says of it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx.engines import notes
from taskflowx.engines.compilation import quoted
from taskflowx.persistence import run_records
from taskflowx.record import metadata
from taskflowx.record.record import INJECTOR_NAME
from taskflowx.runs import times
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.engine import ActionEngine
    from taskflowx.persistence.history import Entry
    from taskflowx.persistence.models import AtomDetail, FlowDetail


#: name -> the atoms that provide it, each as (name, index or key in its result, None for all of it)
Provides = Mapping[str, Sequence[Sequence[Any]]]


class RunResult(dict[str, Any]):
    """What a run has come to: a dict of name -> value of all that its tasks provided and that was given to it.

    :param detail: the record of the run, which nobody changes any more
    :param values: name -> value
    :param not_undone: the names of atoms whose effects stand although the run has not succeeded
    :param history: reads the history of the run
    """

    def __init__(
        self,
        detail: FlowDetail,
        values: Mapping[str, Any],
        not_undone: Iterable[str] = (),
        history: Callable[[], list[Entry]] = list,
    ) -> None:
        super().__init__(values)
        #: the id of the run; None if it was given none
        self.run_id: str | None = run_records.id_of(detail)
        #: the name of the flow
        self.flow: str = detail.name
        #: the state of the flow, such as 'SUCCESS'
        self.state: str = detail.state or states.PENDING
        #: names of the atoms whose effects stand although the run has not succeeded
        self.not_undone: list[str] = list(not_undone)
        meta = detail.meta or {}
        self._cancelled: Any = meta.get(metadata.CANCELLED)
        self._rolled_back = _last_rollback(meta)
        self._detail = detail
        self._history = history

    @functools.cached_property
    def results(self) -> dict[str, Any]:
        """Name of a task -> what its `execute` has returned, of those that have succeeded and are not undone."""
        return {
            atom.name: atom.results
            for atom in self._atoms()
            if atom.KIND == "task" and atom.state == states.SUCCESS and not metadata.is_let_go(atom)
        }

    @functools.cached_property
    def failures(self) -> dict[str, Failure]:
        """Name of an atom -> its failure: that of its `revert` if there is one."""
        found = ((atom.name, atom.revert_failure or atom.failure) for atom in self._atoms())
        return {name: failure for name, failure in found if failure is not None}

    @functools.cached_property
    def _places(self) -> dict[str, str]:
        """Name of an atom that has failed -> where that was, as far as the record says it."""
        failures = self.failures
        failed = [(a, "the revert of " if a.revert_failure else "") for a in self._atoms() if a.name in failures]
        return {atom.name: f"in {verb}{atom.KIND} {atom.name!r} of flow {self.flow!r}" for atom, verb in failed}

    @functools.cached_property
    def durations(self) -> dict[str, float]:
        """Name of an atom -> the seconds that its last call took, as its history or a `DurationListener` has them."""
        found = {atom.name: (atom.own_meta or {}).get(metadata.DURATION) for atom in self._atoms()}
        found |= {name: called.seconds for name, called in times.of_history(self._history()).items()}
        return {name: float(seconds) for name, seconds in found.items() if isinstance(seconds, (int, float))}

    def _atoms(self) -> Iterator[AtomDetail]:
        return (atom for atom in self._detail if atom.name != INJECTOR_NAME)

    def raise_for_failure(self) -> None:
        """Raise what the run has failed with; do nothing when it has succeeded, or is not finished.

        :raises Cancelled: when it was cancelled
        :raises ExecutionFailure: when somebody has rolled it back
        :raises Exception: the failure when it has failed; a `WrappedFailure` for several, and where the exception is
            on record only
        """
        if self.state not in (states.FAILURE, states.REVERTED):
            return
        if self._cancelled:
            kind, text = self._cancelled
            raise (exceptions.TimeoutExceeded if kind == "TimeoutExceeded" else exceptions.Cancelled)(text)
        failures = self.failures
        try:
            Failure.reraise_if_any(failures.values())
        except Exception as error:
            notes.add_places(error, [(failure, self._places[name]) for name, failure in failures.items()], self.flow)
            if self.not_undone:
                notes.add(error, f"Not undone in flow '{self.flow}': {quoted(self.not_undone)}")
            raise
        named = f"run '{self.run_id}'" if self.run_id is not None else f"flow '{self.flow}'"
        raise exceptions.ExecutionFailure(
            f"{named} ended {self.state}: {self._rolled_back or 'no failure is on record'}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        facts = {name: getattr(self, name) for name in ("results", "failures", "durations", "_places")}
        return _remake, (dict(self), {**self.__dict__, **facts, "_detail": (), "_history": list})


def _last_rollback(meta: Mapping[str, Any]) -> str | None:
    """Return the sentence that says who has rolled a run back, and why; None if nobody has.

    :param meta: the metadata of the flow
    """
    deeds = [one for one in meta.get(metadata.BY_HAND) or () if isinstance(one, dict) and one.get("what") == "rollback"]
    if not deeds:
        return None
    reason = deeds[-1].get("reason")
    return f"it was rolled back by {deeds[-1].get('who')}{f' ({reason})' if reason else ''}"


def _remake(values: dict[str, Any], facts: dict[str, Any]) -> RunResult:
    made = RunResult.__new__(RunResult)
    made.update(values)
    made.__dict__.update(facts)
    return made


def of_engine(engine: ActionEngine, history: Callable[[], list[Entry]] | None = None) -> RunResult:
    """Return what the run of an engine has come to.

    :param history: reads the history of the run; by default it is that of the engine
    """
    engine.compile()
    engine.preparation.prepare()
    detail = engine.storage.record.flow_detail
    if history is None:
        history = engine.history if engine.options.get("history") else list
    if detail.state == states.SUCCESS:
        return RunResult(detail, engine.storage.fetch_all(), (), history)
    from taskflowx.runs import outline  # a run that has succeeded does without it

    provides = outline.Outline.of_plan(engine.preparation.compiled()).provides
    return RunResult(detail, _values(detail, provides), engine.not_undone(), history)


def of_record(detail: FlowDetail, provides: Provides | None, history: Callable[[], list[Entry]] = list) -> RunResult:
    """Make the result of a run from its record alone, without its flow.

    :param provides: None where that is not known: then the result has only the values given to the flow
    :param history: reads the history of the run
    """
    return RunResult(detail, _values(detail, provides or {}), standing(detail), history)


def _values(detail: FlowDetail, provides: Provides) -> dict[str, Any]:
    """Return name -> value of what was given to a run and of what those of its atoms provide that have succeeded."""
    atoms = {atom.name: atom for atom in detail}
    injector = atoms.pop(INJECTOR_NAME, None)
    given = injector.results if injector is not None and isinstance(injector.results, dict) else {}
    values = {}
    for name in dict.fromkeys((*given, *provides)):
        found = [given[name]] if name in given else []
        for atom_name, key in provides.get(name, ()):
            found += _values_of(atoms.get(atom_name), key)
        if found:
            values[name] = found[0] if len(found) == 1 else found
    return values


def standing(detail: FlowDetail) -> list[str]:
    """Return the names of the tasks on record whose effects stand although the run has not succeeded."""
    if detail.state == states.SUCCESS:
        return []
    return [
        atom.name for atom in detail if atom.KIND == "task" and atom.name != INJECTOR_NAME and metadata.stands(atom)
    ]


def _values_of(atom: AtomDetail | None, key: Any) -> list[Any]:
    """Return the value of an atom under a key as a list, which is empty if it has none."""
    if atom is None or atom.state != states.SUCCESS or metadata.is_let_go(atom):
        return []
    try:
        return [atom.last_results if key is None else atom.last_results[key]]
    except Exception:  # noqa: BLE001 - a result may be of any kind
        return []
