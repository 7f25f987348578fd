"""A flow, made ready to run: compiled, its record made or found, its arguments bound, its inputs checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, retry, states
from taskflowx._util import logs
from taskflowx.engines.binding import Binder
from taskflowx.engines.compilation import NAMED_IN_FULL, check_picklable, missing, quoted
from taskflowx.engines.compile import compile_flow
from taskflowx.engines.transitions import reset

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskflowx.engines.options import Options
    from taskflowx.engines.plan import Plan
    from taskflowx.executors.base import Executor
    from taskflowx.persistence.models import AtomDetail
    from taskflowx.storage import Storage

LOG = logs.calm(__name__)


class Preparation:
    """What an engine has made of its flow so far.

    Each step may be done again: an interrupt leaves it all to be done.

    :param flow: the flow
    :param storage: the record by name
    :param executor: where calls run
    :param options: the options of the engine
    """

    def __init__(self, flow: Any, storage: Storage, executor: Executor, options: Options) -> None:
        self._flow = flow
        self._storage = storage
        self._executor = executor
        self._options = options
        #: the compiled flow; None before `compile`
        self.plan: Plan | None = None
        #: the record of each atom, by index
        self.details: list[Any] = []
        #: atoms that have begun, and that the flow does not have any more
        self.absent: list[AtomDetail] = []
        #: gives the arguments of calls; None before `prepare`
        self.binder: Binder | None = None
        self._validated = -1

    def compiled(self, to: str = "prepare") -> Plan:
        """Return the compiled flow.

        :param to: what it is needed for
        :raises InvalidState: when there is none yet
        """
        if self.plan is None:
            msg = f"Can not {to} an engine which has not been compiled"
            raise exceptions.InvalidState(msg)
        return self.plan

    def prepared(self, to: str) -> Binder:
        """Return what gives the arguments of calls.

        :param to: what it is needed for
        :raises InvalidState: when there is none yet
        """
        self.compiled(to)
        if self.binder is None:
            msg = f"Can not {to} an engine which has not had its storage populated"
            raise exceptions.InvalidState(msg)
        return self.binder

    def compile(self) -> None:
        """Turn the flow into lists; done once."""
        if self.plan is None:
            compiled = compile_flow(self._flow, awaits=self._executor.runs_async)
            if self._executor.pickles:
                check_picklable(compiled, self._executor.dumps)
            self.plan = compiled

    def prepare(self) -> None:
        """Make the record of each atom, or find it in what is kept already; done once."""
        compiled = self.compiled()
        if self.binder is not None:
            return
        self._look_for_absent(compiled)
        self.details = self._storage.ensure_plan(compiled.atoms, compiled.names)
        for atom in compiled.atoms:
            if atom is not None and atom.inject:
                self._storage.inject_atom_args(atom.name, atom.inject, transient=self._options.inject_transient)
        binder = Binder(compiled, self.details, self._storage)
        binder.prepare()
        self.binder = binder  # last: an interrupt leaves it all to be done again

    def _look_for_absent(self, compiled: Plan) -> None:
        """Report the atoms on record that the flow does not have any more."""
        self.absent = self._storage.record.absent_from(compiled.names)
        if not self.absent or self._options.on_mismatch == "ignore":
            return
        named = ", ".join(f"'{detail.name}' ({detail.state})" for detail in self.absent[:NAMED_IN_FULL])
        msg = (
            f"The record of {self._flow} has atoms that the flow does not have any more: {named}\n"
            "They are neither run nor undone. Put them back into the flow, with the name that they had, to have them "
            "undone when it is rolled back"
        )
        if self._options.on_mismatch == "refuse":
            raise exceptions.IncompatibleVersion(f"{msg}; or load the engine with on_mismatch='warn' or 'ignore'")
        LOG.warning(msg)

    def is_bound(self) -> bool:
        """Tell whether the arguments of calls are bound to all that has been injected."""
        return self.prepared("validate").epoch == self._storage.lookup.injections

    def validate(self) -> None:
        """Check that each input has a provider.

        :raises MissingDependencies: names the flow, and as its causes the atoms and what each of them lacks
        """
        binder = self.prepared("validate")
        if self._validated == binder.epoch:
            return
        lacking = [(i, lack) for i in binder.incomplete if (lack := binder.missing(i))]
        if lacking:
            raise missing(self.compiled(), binder, lacking)
        self._validated = binder.epoch

    def seen_by(self, atom_name: str) -> Iterator[list[str]]:
        """Iterate over the rows of names of atoms that an atom sees, nearest first."""
        return iter(()) if self.binder is None else self.binder.seen_by(atom_name)

    def not_undone(self) -> list[str]:
        """Return the names of the atoms whose effects stand: those that ran and have not been reverted.

        The last ones are tasks that are on record and that the flow does not have any more.
        """
        return [
            detail.name
            for atom, detail in zip(self.compiled("look at").atoms, self.details, strict=False)
            if detail is not None
            and detail.state not in states.NOT_BEGUN
            and not (isinstance(atom, retry.Retry) and type(atom).revert is retry.Retry.revert)
        ] + [detail.name for detail in self.absent if detail.KIND == "task"]

    def refuse_to_repeat(self, to: str) -> None:
        """Refuse to make effects again that stand, as an inner part of the flow alone was reverted.

        :param to: what would make them again
        :raises InvalidState: names the atoms
        """
        standing = self.not_undone() if self._storage.get_flow_state() == states.REVERTED else []
        if standing:
            msg = (
                f"Can not {to} {self._flow}: it was reverted in part, and {quoted(standing)} would be repeated "
                "without having been undone\n"
                "rollback() undoes all that stands, then it can be run anew; reset(force=True) forgets what stands"
            )
            raise exceptions.InvalidState(msg)

    def counts(self) -> dict[str, int]:
        """Return how many atoms have ended, are under way, and have not begun."""
        current = [detail.state for detail in self.details if detail is not None]
        awaiting = sum(state in states.FRESH for state in current)
        under_way = sum(state in states.UNDER_WAY for state in current)
        return {
            "completed": len(current) - awaiting - under_way,
            "incomplete": under_way,
            "awaiting": awaiting,
        }

    def reset(self, moved: dict[int, str | None]) -> None:
        """Reset all atoms; may be done again.

        :param moved: gets the indices of the atoms that were not PENDING, and their states before
        """
        counted = self.prepared("reset").counted
        for i, detail in enumerate(self.details):
            if detail is not None:
                if detail.state != states.PENDING:
                    moved.setdefault(i, detail.state)
                reset(detail, counted=i in counted)
        for detail in self.absent:
            reset(detail, counted=False)
