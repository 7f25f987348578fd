"""`RunView`: what is on record of a run at one moment; reading it neither locks nor claims the run."""

from __future__ import annotations

import contextlib
import functools
import math
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx.persistence import codec, figures, owners, run_records
from taskflowx.record import metadata
from taskflowx.record.record import INJECTOR_NAME
from taskflowx.runs import outline, result, times

if TYPE_CHECKING:
    import datetime as dt
    import os
    from collections.abc import Callable, Sequence

    from taskflowx._util.clock import Clock
    from taskflowx.persistence.base import Backend, Connection
    from taskflowx.persistence.figures import Links
    from taskflowx.persistence.history import Entry
    from taskflowx.persistence.models import AtomDetail, FlowDetail
    from taskflowx.runs.result import RunResult
    from taskflowx.types.failure import Failure


class AtomView:
    """What is on record of one atom.

    :param detail: its record, which nobody changes any more
    :param run: the run
    """

    __slots__ = ("_detail", "_meta", "_run")

    def __init__(self, detail: AtomDetail, run: RunView) -> None:
        self._detail = detail
        self._meta = detail.own_meta or {}
        self._run = run

    def __repr__(self) -> str:
        return f"<AtomView {self.name!r} {self.state}>"

    @property
    def name(self) -> str:
        """Its name."""
        return self._detail.name

    @property
    def kind(self) -> str:
        """What it is: 'task' or 'retry'."""
        return self._detail.KIND

    @property
    def state(self) -> str:
        """Its state, such as 'SUCCESS'."""
        return self._detail.state or states.PENDING

    @property
    def intention(self) -> str:
        """What is to be done with it next: 'EXECUTE', 'REVERT', 'RETRY' or 'IGNORE'."""
        return self._detail.intention

    @property
    def version(self) -> str | None:
        """The version of the atom that made this record."""
        return self._detail.version  # type: ignore[no-any-return]

    @property
    def attempts(self) -> int:
        """How often it has begun: of a retry the number of its attempts; of a task 1, unless more are on record."""
        if self.kind == "retry":
            return len(self._detail.results or ())
        called = self._last_call
        if called is not None and called.attempt:
            return called.attempt
        counted = self._meta.get(metadata.ATTEMPT)
        if isinstance(counted, int) and not isinstance(counted, bool):
            return counted
        return 0 if self.state in states.FRESH or self.state == states.IGNORE else 1

    @property
    def result(self) -> Any:
        """What its last `execute` has returned; None when there is nothing.

        A value in it of a class that this program has not imported is a `taskflowx.persistence.codec.Unbuilt`.
        """
        if metadata.is_let_go(self._detail) or (self.kind == "retry" and not self._detail.results):
            return None
        return self._detail.last_results

    @property
    def is_sensitive(self) -> bool:
        """Whether its result is not to be shown."""
        return metadata.SENSITIVE in self._meta

    @property
    def result_size(self) -> int:
        """How many bytes its result has as JSON; 0 when there is none."""
        if self.result is None:
            return 0
        try:
            return len(codec.dumps(self.result, "a result"))
        except exceptions.StorageFailure:  # in memory it may be anything
            return 0

    @property
    def failure(self) -> Failure | None:
        """Its failure: that of its `revert` if there is one."""
        return self._detail.revert_failure or self._detail.failure

    @property
    def progress(self) -> float | None:
        """The progress that it has reported, from 0.0 to 1.0; None when it has reported none."""
        return _number(self._meta.get(metadata.PROGRESS))

    @property
    def flows(self) -> tuple[str, ...]:
        """The names of the flows around it within the flow of the run, the outer before the inner."""
        return self._run.flows_around.get(self.name, ())

    @property
    def _last_call(self) -> times.Times | None:
        return self._run.last_calls.get(self.name)

    @property
    def queued(self) -> dt.datetime | None:
        """When its last call was handed to the executor; None where there is no history of it."""
        called = self._last_call
        return None if called is None else run_records.from_seconds(called.queued)

    @property
    def started(self) -> dt.datetime | None:
        """When its last call began on its worker; None until it has ended, and where there is no history of it."""
        called = self._last_call
        return None if called is None or called.started is None else run_records.from_seconds(called.started)

    @property
    def ended(self) -> dt.datetime | None:
        """When its last call ended; None while it runs, and where there is no history of it."""
        called = self._last_call
        return None if called is None or called.ended is None else run_records.from_seconds(called.ended)

    @property
    def worker(self) -> str | None:
        """Where its last call was made, such as 'MainThread'; None until it has ended, and where that is not known."""
        called = self._last_call
        return None if called is None else called.worker

    @property
    def duration(self) -> float | None:
        """The seconds that its last call took; None where they are not known."""
        called = self._last_call
        seconds = None if called is None else called.seconds
        return _number(self._meta.get(metadata.DURATION)) if seconds is None else seconds

    @property
    def wake(self) -> dt.datetime | None:
        """When it goes on, of an atom that waits for its next attempt."""
        kept = self._meta.get(metadata.WAKE)
        at = _number(kept[0]) if isinstance(kept, (list, tuple)) and kept else None
        return None if at is None else run_records.from_seconds(at)

    @property
    def unknown(self) -> str | None:
        """Why nobody knows whether its call has had its effect; None when that is known."""
        kept = self._meta.get(metadata.UNKNOWN)
        return None if kept is None else str(kept)

    @property
    def by_hand(self) -> tuple[dict[str, Any], ...]:
        """What people have done to it by hand."""
        return tuple(self._meta.get(metadata.BY_HAND) or ())


class RunView:
    """What is on record of a run at one moment.

    :param detail: the record of its flow, with its atoms
    :param claim: who runs it, or has run it last
    :param now: the time, in seconds since 1970
    :param row: when it was made and changed
    :param known: the outline of its flow
    :param history: reads its history
    :param unbuilt: why some of its values cannot be made here
    """

    def __init__(
        self,
        detail: FlowDetail,
        claim: owners.Claim | None,
        now: float,
        row: run_records.RunRow,
        known: outline.Outline | None,
        history: Callable[[], list[Entry]] = list,
        unbuilt: Sequence[codec.NotBuildable] = (),
    ) -> None:
        self._detail = detail
        self._unbuilt = unbuilt
        self._history = history
        self._outline = known
        #: its id; the uuid of its flow's detail if it was given none
        self.id: str = run_records.id_of(detail) or detail.uuid
        #: the uuid of its flow's detail
        self.uuid: str = detail.uuid
        #: the name of its flow
        self.flow: str = detail.name
        #: the state of its flow, such as 'SUCCESS'
        self.state: str = detail.state or states.PENDING
        #: when its record was made
        self.created_at: dt.datetime = row.created_at
        #: when its flow last changed its state; None where the store does not know
        self.updated_at: dt.datetime | None = row.updated_at
        #: who runs it at this moment, in words, such as "process 17 of 'host'"; None if nobody does
        self.owner: str | None = None
        if claim is not None and owners.is_alive(claim, now):
            self.owner = owners.described(claim.owner)
        #: whether its process has ended, and nobody goes on with it; None where its store does not know who runs it
        self.is_left: bool | None = None
        if claim is not None:
            self.is_left = self.owner is None and self.state not in (*states.AT_REST, states.PENDING)
        #: its atoms, in the order of the flow
        self.atoms: tuple[AtomView, ...] = tuple(AtomView(atom, self) for atom in detail if atom.name != INJECTOR_NAME)
        #: changes whenever something in the record has changed
        self.version: Any = (None if claim is None else claim.version, self.state, self.owner)
        if claim is None:  # of a run that this package has never written
            self.version += tuple((atom.name, atom.state, atom.intention) for atom in self.atoms)

    def __repr__(self) -> str:
        return f"<RunView {self.id!r} of {self.flow!r} {self.state}: {len(self.atoms)} atoms>"

    def atom(self, name: str) -> AtomView:
        """Return an atom by its name.

        :raises NotFound: when there is none on record
        """
        for each in self.atoms:
            if each.name == name:
                return each
        raise exceptions.NotFound(f"Run '{self.id}' has no atom '{name}' on record")

    @functools.cached_property
    def store(self) -> dict[str, Any]:
        """The values that were given to the run, by name."""
        for atom in self._detail:
            if atom.name == INJECTOR_NAME and isinstance(atom.results, dict):
                return dict(atom.results)
        return {}

    @functools.cached_property
    def history(self) -> list[Entry]:
        """All transitions of its flow and its atoms, in their order; read when it is asked for first.

        It is empty where none was kept, and may go on beyond the states here, of a run in progress.
        """
        return self._history()

    @functools.cached_property
    def last_calls(self) -> dict[str, times.Times]:
        """Name of an atom -> when and where its last call was made, as far as its history has it."""
        return times.of_history(self.history)

    @functools.cached_property
    def metrics(self) -> figures.Metrics:
        """Its figures, as far as its history has them."""
        return figures.metrics(
            self.history,
            [atom.state for atom in self.atoms],
            commits=owners.count_of(self._detail.revision),
            links=self.links,
        )

    @property
    def failures(self) -> dict[str, Failure]:
        """Name of an atom -> its failure."""
        return {atom.name: atom.failure for atom in self.atoms if atom.failure is not None}

    @property
    def not_undone(self) -> list[str]:
        """The names of tasks whose effects stand although the run has not succeeded."""
        return result.standing(self._detail)

    @property
    def cancelled(self) -> str | None:
        """Why it was cancelled; None if it was not."""
        kept = (self._detail.meta or {}).get(metadata.CANCELLED)
        return str(kept[1]) if kept else None

    @property
    def by_hand(self) -> tuple[dict[str, Any], ...]:
        """What people have done to the flow as a whole by hand."""
        return tuple((self._detail.meta or {}).get(metadata.BY_HAND) or ())

    @functools.cached_property
    def flows_around(self) -> dict[str, tuple[str, ...]]:
        """Name of an atom -> those of the flows around it within the flow of the run, the outer before the inner.

        Empty where that is not kept, as of a run without an id.
        """
        return {atom: tuple(name for name, _ in around) for atom, around in self.branches.items()}

    @functools.cached_property
    def branches(self) -> dict[str, tuple[tuple[str, int], ...]]:
        """As `flows_around`, with a number behind each name: flows of one name have different ones."""
        return {} if self._outline is None else self._outline.flows_around()

    @property
    def links(self) -> Links | None:
        """What follows what in its flow; None where that is not kept, as of a run without an id."""
        return None if self._outline is None else self._outline.links()

    def report(self, path: str | os.PathLike[str], *, values: bool = False, trace: bool = False) -> None:
        """Write a report of the run: one HTML file that needs nothing else.

        :param path: of the file
        :param values: whether results are shown; without it only their types and sizes are
        :param trace: whether a trace for Perfetto is written beside it, under the same name with the end
            `.perfetto-trace`
        :raises InvalidState: when a trace is wanted, and no history was kept
        :raises ImportError: when a trace is wanted, and the package `perfetto` is not installed
        """
        from taskflowx.runs import reporting  # who reports nothing does without it

        reporting.write(path, self, values=values, trace=trace)

    def result(self) -> RunResult:
        """Return what the run has come to: also a dict of what its flow provides, for a run with an id.

        :raises StorageFailure: when one of its values is of a class that this program has not imported
        """
        for error in self._unbuilt:
            raise error
        provides = None if self._outline is None else self._outline.provides
        return result.of_record(self._detail, provides, lambda: self.history)


def read(connection: Connection, uuid: str, clock: Clock) -> RunView:
    """Return what is on record of a run; values that this program cannot make are `codec.Unbuilt` in it.

    :raises NotFound: when there is none with this uuid
    """
    with codec.tolerant() as unbuilt:
        claim = connection.get_claim(uuid)  # first: what is read after it may be newer, never older
        try:
            detail = connection.get_flow_details(uuid)
        except codec.Unreadable:  # its large values are gone: it may be that it is being removed
            detail = connection.get_flow_details(uuid)
        row, known = connection.get_run(uuid), outline.read(connection, detail)
    history = functools.partial(_read_history, connection.backend, uuid)
    return RunView(detail, claim, clock.time(), row, known, history, unbuilt)


def _read_history(backend: Backend, uuid: str) -> list[Entry]:
    with contextlib.closing(backend.get_connection()) as connection:
        return list(connection.get_history(uuid))


def _number(value: Any) -> float | None:
    """Return a fact of the metadata, where users may put anything, if it is a number."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value)
    return float(value) if is_number else None
