"""A flow, made ready to run: compiled, its record made or found, its arguments bound, its inputs checked."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any

from taskflowx import controls, exceptions, flow, retry, states
from taskflowx._util import logs, reprs
from taskflowx.engines import limit_names, notes, strict
from taskflowx.engines.binding import Binder
from taskflowx.engines.compilation import NAMED_IN_FULL, check_picklable, missing, quoted
from taskflowx.engines.compile import compile_flow
from taskflowx.engines.transitions import reset
from taskflowx.patterns import of_task
from taskflowx.persistence import run_records
from taskflowx.record import metadata

if TYPE_CHECKING:
    from taskflowx.engines.keeping import Keeping
    from taskflowx.engines.options import Options
    from taskflowx.engines.plan import Plan
    from taskflowx.executors.base import Executor
    from taskflowx.persistence.models import AtomDetail
    from taskflowx.storage import Storage
    from taskflowx.types.failure import Failure

LOG = logs.calm(__name__)

#: so many names are looked through for one that is close to a wrong one
_COMPARED = 500


class Preparation:
    """What an engine has made of its flow so far.

    Each step may be done again: an interrupt leaves it all to be done.

    :param root: the flow
    :param storage: the record by name
    :param executor: where calls run
    :param options: the options of the engine
    """

    def __init__(self, root: Any, storage: Storage, executor: Executor, options: Options) -> None:
        self._flow = root
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
        self._keep_secret()
        storage.record.told_by = self.tell_of

    def _keep_secret(self) -> None:
        """Have hidden what the options name, and what the record says was sensitive before."""
        names = dict(self._options.sensitive or {})
        for detail in self._storage.record.flow_detail:
            if detail.own_meta and metadata.SENSITIVE in detail.own_meta:
                from taskflowx.record import secrets  # who has no secrets does without it

                marks = detail.own_meta[metadata.SENSITIVE]
                names = {**secrets.to_names(f"The record of '{detail.name}'", marks), **names}
        if names:
            self._storage.keep_secret(names)

    def tell_of(self, name: str) -> str:
        """Say what the flow has of a name of which nothing is on record: an atom, or a value that one provides."""
        names: set[str] = set()
        for atom in self._atoms():
            if name in (atom.name, *atom.provides):
                what = f"Atom '{name}'" if atom.name == name else f"'{atom.name}', which provides '{name}',"
                return f"{what} has not run yet: run the engine first"
            names.update((atom.name, *atom.provides))
        if len(names) > _COMPARED:
            return ""
        import difflib  # only an error needs it

        close = difflib.get_close_matches(name, sorted(map(str, names)), n=1)
        return f"Did you mean '{close[0]}'?" if close else ""

    def _atoms(self) -> Iterator[Any]:
        for one in flow.nested_flows(self._flow) if isinstance(self._flow, flow.Flow) else ():
            if one.retry is not None:
                yield one.retry
        for member in flow.atoms_of(self._flow):
            if controls.retry_of(member) is not None:
                yield of_task.around(member).retry
            yield member

    def compiled(self, to: str = "prepare") -> Plan:
        """Return the compiled flow.

        :param to: what it is needed for
        :raises InvalidState: when there is none yet
        """
        if self.plan is None:
            raise exceptions.InvalidState(
                f"Can not {to} an engine which has not been compiled; call compile() first, or run()"
            )
        return self.plan

    def prepared(self, to: str) -> Binder:
        """Return what gives the arguments of calls.

        :param to: what it is needed for
        :raises InvalidState: when there is none yet
        """
        self.compiled(to)
        if self.binder is None:
            raise exceptions.InvalidState(
                f"Can not {to} an engine which has not had its storage populated; call prepare() first, or run()"
            )
        return self.binder

    @reprs.one_line
    def __repr__(self) -> str:
        return f"Preparation of {self.plan or self._flow}"

    def compile(self) -> None:
        """Turn the flow into lists; done once."""
        if self.plan is None:
            compiled = compile_flow(self._flow, awaits=self._executor.runs_async)
            if self._executor.pickles:
                check_picklable(compiled, self._executor.dumps)
            if compiled.controls:
                compiled.limited = limit_names.limited(compiled, self._options, self._executor)
            self.plan = compiled

    def prepare(self) -> None:
        """Make the record of each atom, or find it in what is kept already; done once."""
        compiled = self.compiled()
        if self.binder is not None:
            return
        self._compare(compiled)
        self.details = self._storage.ensure_plan(compiled.atoms, compiled.names)
        secrets = self._storage.writes.secrets
        if secrets is None and any(one.sensitive is not None for one in compiled.controls.values()):
            secrets = self._storage.keep_secret({})
        if secrets is not None:
            secrets.take(compiled.atoms, self.details)
        for atom in compiled.atoms:
            if atom is not None and atom.inject:
                self._storage.inject_atom_args(atom.name, atom.inject, transient=self._options.inject_transient)
        binder = Binder(compiled, self.details, self._storage)
        binder.prepare()
        self._storage.lookup.scope_fetcher = binder.seen_by
        self.binder = binder  # last: an interrupt leaves it all to be done again

    def _compare(self, compiled: Plan) -> None:
        """Report how the flow differs from its record, where that concerns atoms that have begun.

        :raises IncompatibleVersion: with on_mismatch='refuse'
        """
        record = self._storage.record
        self.absent = record.absent_from(compiled.names)
        run = (self._storage.flow_meta or {}).get(run_records.RUN)
        if not isinstance(run, dict):
            if self.absent:
                named = ", ".join(f"'{detail.name}' ({detail.state})" for detail in self.absent[:NAMED_IN_FULL])
                self._report(f"The record of {self._flow} has atoms that the flow does not have any more: {named}")
            return
        from taskflowx.engines import shape  # only runs with an id keep it

        old, new = run.get(shape.KEY), shape.shape_of(compiled)
        if record.kept and (self.absent or old not in (None, new)):
            found = shape.difference(compiled, record.kept.values(), old, new)
            if found.matters:
                self._report(f"{self._flow} is not as its record has it:\n{found}")
        self._storage.flow_meta[run_records.RUN] = {**run, shape.KEY: new}

    def _report(self, differs: str) -> None:
        """Warn of a record that the flow does not fit, or refuse it.

        :param differs: says how
        """
        on_mismatch = self._options.on_mismatch
        if on_mismatch == "ignore":
            return
        if self.absent:
            differs += (
                "\nThose that the flow does not have are neither run nor undone. Put them back into the flow, with the "
                "name that they had, to have them undone when it is rolled back"
            )
        if on_mismatch == "refuse":
            raise exceptions.IncompatibleVersion(f"{differs}\nOr load the engine with on_mismatch='warn' or 'ignore'")
        LOG.warning(differs)

    def keeping(self) -> Keeping | None:
        """Return which results are let go of in a new run; None when all are kept.

        :raises ValueError: when keep_results names what nothing provides
        """
        if self._options.keep_results is True:
            return None
        from taskflowx.engines import keeping  # who keeps all results does without

        return keeping.of(self.compiled(), self.details, self._options.keep_results)

    def is_bound(self) -> bool:
        """Tell whether the arguments of calls are bound to all that has been injected."""
        return self.prepared("validate").version == self._storage.lookup.bindings_version

    def validate(self) -> None:
        """Check that each input has a provider.

        :raises CompilationFailure: when a time limit is strict and cannot be kept, or a task takes a transaction where
            there is none
        :raises MissingDependencies: names the flow, and as its causes the atoms and what each of them lacks
        :raises AmbiguousDependency: with results='strict', when a name has several sources
        :raises TypeMismatch: with types='strict', when a value is annotated as another type than an atom takes
        """
        binder = self.prepared("validate")
        if self._validated == binder.version:
            return
        compiled = self.compiled()
        if compiled.controls or compiled.timeouts:
            from taskflowx.engines import kept_limits  # who has no limits does without it

            kept_limits.check(compiled, self._executor)
        if binder.joint:
            from taskflowx.engines import joint  # few tasks write to tables of their own

            joint.check(compiled, binder, self._storage.writes, self._executor)
        lacking = [(i, lack) for i in binder.incomplete if (lack := binder.missing(i))]
        if lacking:
            raise missing(self.compiled(), binder, lacking)
        if self._options.sensitive:
            self._look_for_strangers(binder, self._options.sensitive)
        if self._options.results == "strict" or binder.may_clash:
            self._look_for_clashes(binder)
        if self._options.types != "ignore":
            self._check_types(binder)
        self._validated = binder.version

    def _look_for_strangers(self, binder: Binder, sensitive: Iterable[str]) -> None:
        """Warn of sensitive names that nothing has: one that is misspelt leaves a value in the open."""
        lookup = self._storage.lookup
        known = {*binder.providers, *(lookup.injected_names() or ())}
        for atom in filter(None, self.compiled().atoms):
            known.update(atom.requires, atom.optional, atom.inject or ())
        strangers = [name for name in sensitive if name not in known and lookup.injected_source(None, name) is None]
        if strangers:
            import difflib  # only a mistake needs it

            close = [near for name in strangers for near in difflib.get_close_matches(name, map(str, known), n=1)]
            hint = f": did you mean {quoted(close)}?" if close else ""
            LOG.warning("sensitive= names %s, and %s has no such value%s", quoted(strangers), self._flow, hint)

    def _look_for_clashes(self, binder: Binder) -> None:
        """Refuse names that have several sources with results='strict', and warn of them otherwise.

        :raises AmbiguousDependency: names them
        """
        found = strict.clashes(self.compiled(), binder.providers, self._storage.lookup.injected_names() or ())
        if found and self._options.results == "strict":
            raise strict.refusal(self.compiled(), found)
        for sentence in found:
            LOG.warning("In %s, %s", self._flow, sentence)

    def _check_types(self, binder: Binder) -> None:
        """Refuse values that are annotated as another type than an atom takes with types='strict', else warn of them.

        :raises TypeMismatch: names the atoms and both annotations
        """
        from taskflowx.engines import wiring  # who does without it does without `typing`

        found = wiring.mismatches(self.compiled(), binder)
        if found and self._options.types == "strict":
            raise wiring.refusal(self.compiled(), found)
        for sentence in found:
            LOG.warning("In %s, %s", self._flow, sentence)

    def not_undone(self) -> list[str]:
        """Return the names of the atoms whose effects stand: those that ran and have not been reverted.

        The last ones are tasks that are on record and that the flow does not have any more.
        """
        return [
            detail.name
            for atom, detail in zip(self.compiled("look at").atoms, self.details, strict=False)
            if detail is not None
            and detail.state not in states.NOT_BEGUN  # as `metadata.stands`, without a call for each atom
            and not (detail.own_meta and metadata.NOT_CALLED in detail.own_meta)
            and not (isinstance(atom, retry.Retry) and type(atom).revert is retry.Retry.revert)
        ] + [detail.name for detail in self.absent if detail.KIND == "task" and metadata.stands(detail)]

    def failed_at(self) -> list[tuple[Failure, str]]:
        """Return the failures on record, each with where it has come from."""
        storage, compiled, executor = self._storage, self.compiled("look at"), self._executor
        attempts = storage.record.failed
        kind = executor.kind or type(executor).__name__
        return [
            (failure, notes.place_of(compiled, name, attempts[name], kind, reverts=reverts))
            for reverts, failures in ((False, storage.get_execute_failures()), (True, storage.get_revert_failures()))
            for name, failure in failures.items()
        ]

    def refuse_to_repeat(self, to: str) -> None:
        """Refuse to make effects again that stand, as an inner part of the flow alone was reverted.

        :param to: what would make them again
        :raises InvalidState: names the atoms
        """
        standing = self.not_undone() if self._storage.get_flow_state() == states.REVERTED else []
        if standing:
            raise exceptions.InvalidState(
                f"Can not {to} {self._flow}: it was reverted in part, and {quoted(standing)} would be repeated "
                "without having been undone\n"
                "rollback() undoes all that stands, then it can be run again; reset(force=True) forgets what stands"
            )

    def refuse_after_rollback(self, to: str) -> None:
        """Refuse to do by hand what only has a meaning in a run that goes on.

        :param to: what it is
        :raises InvalidState: when the flow is REVERTED
        """
        if self._storage.get_flow_state() != states.REVERTED:
            return
        standing = self.not_undone()
        raise exceptions.InvalidState(
            f"Can not {to}: {self._flow} is REVERTED, and nothing of it goes on\n"
            + (f"rollback() undoes {quoted(standing)}, which stand; then " if standing else "")
            + "run() begins again, and so does reset() without running"
        )

    def counts(self) -> dict[str, int]:
        """Return how many atoms have ended, are under way, and have not begun."""
        current = [detail.state for detail in self.details if detail is not None]
        awaiting = sum(state in states.FRESH for state in current)
        under_way = sum(state in states.UNDER_WAY for state in current)
        return {"completed": len(current) - awaiting - under_way, "incomplete": under_way, "awaiting": awaiting}

    def reset(self, moved: dict[int, str | None], only: list[int] | None = None) -> None:
        """Reset all atoms; may be done again.

        :param moved: gets the indices of the atoms that were not PENDING, and their states before
        :param only: the indices of the atoms that are reset; None for all, with those that are not in the flow any more
        """
        counted, unstored = self.prepared("reset").counted, self._storage.writes.unstored
        for i in range(len(self.details)) if only is None else only:
            detail = self.details[i]
            if detail is not None:
                if detail.state != states.PENDING:
                    moved.setdefault(i, detail.state)
                reset(detail, counted=i in counted)
                unstored.pop(detail.name, None)
        for detail in self.absent if only is None else ():
            reset(detail, counted=False)
        self.renew_limits(only or ())

    def renew_limits(self, atoms: Collection[int]) -> None:
        """Have the time limits of the flows around atoms begin again, with the next of their tasks.

        :param atoms: the indices of atoms that somebody has mended
        """
        for lo, hi, _, span in self.compiled().timeouts:
            since = (self.details[lo].own_meta or {}).get(metadata.FLOW_SINCE, {})
            if span.flow.name in since and any(lo <= i < hi for i in atoms):
                kept = {name: when for name, when in since.items() if name != span.flow.name}
                self.details[lo].meta[metadata.FLOW_SINCE] = kept
