"""Where the arguments of each call come from.

`Binder` works out once, before a run, which detail feeds which argument of each atom, and finds the caller for these
arguments (`calling`), so that a call costs one attribute read an argument and no name is looked up. What it could not
foresee (a provider that was ignored or has no such part in its result, a value that was injected since) goes through
the one search of storage.

Some required arguments need nobody who provides them: `attempt` and `idempotency_key` tell a call which one of its kind
it is. So does `transaction`, in which a task writes rows of its own, see `joint`. They are looked up like all others,
and last of all, so a value of that name goes before them.

Invariant: `sources` holds, for each argument, what comes first in the lookup order; it is used only while no name has
been injected since it was made.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import TYPE_CHECKING, Any, Self

from taskflowx import deciders, exceptions, retry, states
from taskflowx.atom import REVERT_FLOW_FAILURES, REVERT_RESULT
from taskflowx.engines import calling, plan as plans
from taskflowx.engines.calling import BOUND, EXECUTES, NO_CALLER, TAKES_FAILURES, TAKES_RESULT
from taskflowx.engines.scope import Scope
from taskflowx.persistence import models
from taskflowx.record import metadata
from taskflowx.record.lookup import let_go
from taskflowx.signature import Wiring, inspect_parameters

if TYPE_CHECKING:
    from taskflowx.engines.plan import Plan
    from taskflowx.record.lookup import Source
    from taskflowx.storage import Storage
    from taskflowx.types.failure import Failure

    #: for each argument, what has the value
    Sources = tuple[Any, ...]


#: the argument that takes the transaction in which the success of the call is recorded
TRANSACTION = "transaction"


def _had_value(source: Source) -> bool:
    """Tell whether a source has a value that was let go of: a default does not take its place."""
    return bool(source[0].state == states.SUCCESS and metadata.is_let_go(source[0]))


class _LastResult:
    """The detail of a retry in the shape of a task's: its result is that of its last attempt."""

    __slots__ = ("_detail",)

    def __init__(self, detail: Any) -> None:
        self._detail = detail

    @property
    def name(self) -> str:
        return self._detail.name  # type: ignore[no-any-return]

    @property
    def state(self) -> str | None:
        return self._detail.state  # type: ignore[no-any-return]

    @property
    def failure(self) -> Any:
        return self._detail.failure

    @property
    def results(self) -> Any:
        return self._detail.last_results


class _Undone:
    """A task that was undone, in the shape of one that has succeeded, for the revert of what has taken its result.

    Reverts come in the opposite order, so that is a revert which has failed before, and is tried again.

    :param detail: its record
    """

    __slots__ = ("results",)
    state = states.SUCCESS

    def __init__(self, detail: Any) -> None:
        self.results = detail.results


#: required arguments that the engine itself provides, where nobody else does
CALL_FACTS = ("attempt", "idempotency_key")


class _Facts:
    """What a call can know about itself, in the shape of a detail that has succeeded.

    `attempt` is 1, and one more each time that a run was interrupted in this call. `idempotency_key` stays the same
    then, and from an execute to its revert; it is a new one in each round of a retry and after a reset.

    :param detail: the record of the atom
    :param counted: the key in its metadata under which attempts of this verb are counted
    """

    __slots__ = ("_counted", "_detail")
    state = states.SUCCESS
    NAMES = (*CALL_FACTS, TRANSACTION)

    def __init__(self, detail: Any, counted: str) -> None:
        self._detail = detail
        self._counted = counted

    @property
    def name(self) -> str:
        return self._detail.name  # type: ignore[no-any-return]

    @property
    def results(self) -> Self:
        return self

    def __getitem__(self, name: str) -> Any:
        if name == TRANSACTION:
            return None  # it is given to the call when it is made
        meta = self._detail.own_meta or {}
        if name == "attempt":
            return meta.get(self._counted, 1)
        return f"{self._detail.uuid}.{meta.get(metadata.ROUND, 0)}"


class Binder:
    """Gives the arguments of calls.

    :param plan: the compiled flow
    :param details: the record of each atom, by index
    :param storage: the record by name, with the injected values
    """

    def __init__(self, plan: Plan, details: list[Any], storage: Storage) -> None:
        self._plan = plan
        self._storage, self._lookup = storage, storage.lookup
        self._details = details
        self._scope = Scope(plan)
        #: each atom as a source: its detail, or what stands for that of a retry
        self._given: list[Any] = details.copy()
        for span in plan.ranges:
            if span.retry >= 0:
                self._given[span.retry] = _LastResult(details[span.retry])
        #: for each atom, how its execute is called; None when it takes no arguments
        self.callers: list[calling.Caller | None] = []
        #: for each atom, where the arguments of its execute come from
        self.sources: list[Sources] = []
        #: the same for its revert
        self.undo_callers: list[calling.Caller | None] = []
        self.undo_sources: list[Sources] = []
        #: for each atom, what its revert takes: a sum of TAKES_RESULT, TAKES_FAILURES and BOUND
        self.undo_takes: list[int] = []
        #: the atoms that may lack something: an argument of execute is not bound, or revert has some
        self.incomplete: list[int] = []
        #: the atoms that take facts about their calls, so that these are to be counted
        self.counted: set[int] = set()
        #: atom -> verb -> the argument that takes the transaction of its step
        self.joint: dict[int, dict[str, str]] = {}
        #: that of the injected names that the bindings know, as of `Lookup.bindings_version`
        self.version = -1
        #: whether a name may have several sources; known only where somebody takes arguments
        self.may_clash = False

    @property
    def providers(self) -> dict[str, int | list[int]]:
        """Name -> index of the only provider, or the sorted list of several."""
        return self._scope.providers

    def prepare(self) -> None:  # noqa: C901 - one pass over all atoms, and it counts what each of them costs
        """Work out all bindings."""
        count = len(self._plan)
        callers: list[Any] = [None] * count
        undo_callers = callers.copy()
        sources: list[Sources] = [_NOTHING] * count
        undo_sources = sources.copy()
        undo_takes = [0] * count
        incomplete: list[int] = []
        injected = self._lookup.injected_names()
        whole: dict[str, int] | None = None
        caller = calling.caller
        last_args: tuple[str, ...] = ()
        last_keys: tuple[Any, ...] = ()
        called = unfed = None
        takes = 0
        common = self._plan.signature
        alike = common is not None and not (common.execute.args or common.revert.args)
        for i, atom in enumerate(self._plan.atoms[:1] if alike else self._plan.atoms):
            if atom is None:
                continue
            signature = atom._tfx_signature
            if signature is unfed:  # takes no arguments, as the one before: most atoms of a class share a signature
                undo_takes[i] = takes
                continue
            _, forward, backward, takes_result, takes_failures, _ = signature
            takes = undo_takes[i] = takes_result * TAKES_RESULT + takes_failures * TAKES_FAILURES
            if not (forward.args or backward.args):
                unfed = signature
                continue
            unfed = None
            if whole is None:
                # The index of who provides a name as its whole result; -1 where there is another source of it, too.
                whole = {} if injected is None else self._scope.whole()
                self.may_clash = bool(whole) and (self._scope.several or not whole.keys().isdisjoint(injected or ()))
                whole.update(dict.fromkeys(injected or (), -1))
            args, keys, found = self._bind(i, forward, whole, injected)
            if args:
                if args != last_args or keys != last_keys:  # most are called as the one before
                    last_args, last_keys, called = args, keys, caller(args, keys, EXECUTES)
                callers[i], sources[i] = called, found
            if len(found) < forward.needed:
                callers[i] = NO_CALLER
                incomplete.append(i)
            elif backward.needed:
                incomplete.append(i)
            if backward.args:
                if (
                    backward.names != forward.names
                    or backward.args != forward.args
                    or i in self.counted
                    or i in self.joint
                ):
                    args, keys, found = self._bind(i, backward, whole, injected)
                if len(found) < backward.needed:
                    undo_callers[i] = NO_CALLER
                elif args:
                    undo_callers[i], undo_sources[i] = caller(args, keys, takes), found
                if undo_callers[i] is not None:
                    undo_takes[i] += BOUND
        if alike:
            undo_takes = [takes] * count
        self.callers, self.undo_callers = callers, undo_callers
        self.sources, self.undo_sources, self.undo_takes = sources, undo_sources, undo_takes
        self.incomplete = sorted({*incomplete, *self._plan.whens}) if self._plan.whens else incomplete
        self.counted.update(self._plan.unknown)
        self.version = self._lookup.bindings_version

    def look_again(self, atoms: Iterable[int]) -> None:
        """Have the arguments of these executes be looked for when they are needed."""
        for i in atoms:
            self.callers[i] = NO_CALLER

    def look_again_for(self, gone: Callable[[Any], bool]) -> None:
        """Have arguments be looked for when they are needed, where a source of theirs has nothing any more.

        :param gone: tells that of a source
        """
        for callers, sources in ((self.callers, self.sources), (self.undo_callers, self.undo_sources)):
            for i, found in enumerate(sources):
                if any(map(gone, found)):
                    callers[i] = NO_CALLER

    def _bind(
        self, i: int, wiring: Wiring, whole: dict[str, int], injected: Collection[str] | None
    ) -> tuple[tuple[str, ...], tuple[Any, ...], Sources]:
        """Find the first source of each argument; returns the arguments, the keys in their sources, and these.

        :param whole: see `prepare`
        :param injected: the injected names, or None when some are injected into single atoms
        """
        before, given = self._plan.pred[i], self._given
        found = []
        for name in wiring.names:
            p = whole.get(name, -1)
            # The only provider of the name is seen when it precedes the atom directly, or in the same linear flow.
            if p not in before and not self._is_in_row(p, i):
                return self._search_sources(i, wiring, injected)
            found.append(given[p])
        return wiring.args, (None,) * len(found), tuple(found)

    def _is_in_row(self, p: int, i: int) -> bool:
        home = self._plan.flow_of
        return 0 <= p < i and home[p] == home[i] and self._plan.ranges[home[i]].kind is plans.LINEAR

    def _search_sources(
        self, i: int, wiring: Wiring, injected: Collection[str] | None
    ) -> tuple[tuple[str, ...], tuple[Any, ...], Sources]:
        """As `_bind`; an optional argument without a provider is omitted.

        What is found ends before a required argument that nobody provides: it is then shorter than `wiring.needed`.
        """
        atoms, given, nearest = self._plan.atoms, self._given, self._scope.nearest
        found: list[tuple[str, Any, Any]] = []
        for position, (arg, name) in enumerate(zip(wiring.args, wiring.names, strict=True)):
            if injected is None or name in injected:
                source = self._lookup.injected_source(atoms[i].name, name)
                if source is not None:
                    found.append((arg, source[1], source[0]))
                    continue
            p = nearest(i, name)
            if p >= 0:
                found.append((arg, _key(atoms[p], name), given[p]))
            elif position < wiring.needed:
                if name not in _Facts.NAMES:
                    break
                found.append((arg, name, self._facts(i, wiring)))
                if name == TRANSACTION:
                    verb = states.EXECUTE if wiring is atoms[i]._tfx_signature.execute else states.REVERT
                    self.joint.setdefault(i, {})[verb] = arg
                else:
                    self.counted.add(i)
        args, keys, sources = zip(*found, strict=True) if found else (_NOTHING,) * 3
        return args, keys, sources

    def _facts(self, i: int, wiring: Wiring) -> _Facts:
        """Return what a call of atom `i` can know about itself."""
        executes = wiring is self._plan.atoms[i]._tfx_signature.execute
        return _Facts(self._details[i], metadata.ATTEMPT if executes else metadata.REVERT_ATTEMPT)

    def seen_values(self, i: int, required: tuple[str, ...], optional: tuple[str, ...]) -> dict[str, Any]:
        """Return the values that atom `i` sees under names; a decider before it takes them.

        :param optional: names that are left out where they have no value
        :raises NotFound: when another one has none
        """
        found = {}
        for name in (*required, *optional):
            try:
                found[name] = self._lookup.find(name, self._candidates(i, name))
            except exceptions.NotFound as error:
                if name in required:
                    msg = f"when= of a link to '{self._plan.atoms[i].name}' has no value for '{name}': {error}"
                    raise exceptions.NotFound(msg) from None
        return found

    def missing(self, i: int) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return, for each method that lacks something, its name and (argument, stored name) pairs."""
        atom = self._plan.atoms[i]
        signature = atom._tfx_signature
        lacking = []
        for method, wiring in (("execute", signature.execute), ("revert", signature.revert)):
            pairs = [
                (arg, name)
                for arg, name in zip(wiring.args[: wiring.needed], wiring.required_names, strict=True)
                if name not in _Facts.NAMES and next(self._candidates(i, name), None) is None
            ]
            if pairs:
                lacking.append((method, pairs))
        for vote in self._plan.votes.get(i, ()):
            wanted = vote.decider.required if isinstance(vote.decider, deciders.When) else ()
            pairs = [(name, name) for name in wanted if next(self._candidates(i, name), None) is None]
            if pairs:
                lacking.append(("when= of a link before it", pairs))
        return lacking

    def not_kept(self, i: int, again: Collection[str]) -> Iterator[str]:
        """Iterate over the names of the atoms of which atom `i` would take a result that was not kept.

        :param again: the names of the atoms that run again before it
        """
        for name in self._plan.atoms[i]._tfx_signature.execute.names:
            found = (detail for detail, _ in self._candidates(i, name) if detail.state != states.IGNORE)
            first = next(found, None)
            if first is not None and metadata.is_let_go(first) and first.name not in again:
                yield first.name

    def hint(self, i: int, arg: str, name: str, method: str = "execute") -> str:
        """Say what may help when atom `i` lacks a name, or nothing."""
        atoms = self._plan.atoms
        known = self._scope.providers.get(name)
        if known is not None:
            owner = atoms[known if isinstance(known, int) else known[0]].name
            return f"'{owner}' provides '{name}', but does not run before '{atoms[i].name}'"
        import difflib  # only an error needs it

        by_engine = atoms[i]._tfx_engine_args[method == "revert"]
        candidates = sorted({*self._scope.providers, *self._storage.fetch_all(), *by_engine})
        for match in difflib.get_close_matches(name, candidates, n=1):
            return f"'{atoms[i].name}' takes '{name}' for its argument '{arg}': did you mean '{match}'?"
        return "" if arg == name else f"'{atoms[i].name}' takes '{name}' for its argument '{arg}'"

    def help(self, i: int, arg: str, name: str, method: str) -> list[str]:
        """Return what to do when atom `i` lacks a name for a method, line by line."""
        atom, given = self._plan.atoms[i], f"pass store={{'{name}': ...}}"
        kind = "retry" if isinstance(atom, retry.Retry) else "task"
        hint = [line] if (line := self.hint(i, arg, name, method)) else []
        if self._scope.providers.get(name) == i:
            if method == "revert":
                return [f"{kind} '{atom.name}' provides '{name}' itself: its revert gets what it returned as 'result'"]
            remedy = f"have it take another name, by rebind={{'{arg}': 'other'}}, and pass store={{'other': ...}}"
            return [f"{kind} '{atom.name}' provides '{name}' itself, and nobody does before it: {remedy}"]
        if name in self._scope.providers:
            return [
                *hint,
                f"put it before {kind} '{atom.name}', in a linear flow or by a link in a graph flow; or {given}",
            ]
        remedy = f"{given}, or add a task with provides='{name}' before it"
        return [f"nobody provides '{name}' for {kind} '{atom.name}': {remedy}", *hint]

    def seen_by(self, atom_name: str) -> Iterator[list[str]]:
        """Iterate over rows of names of the atoms that an atom sees, nearest first."""
        atoms = self._plan.atoms
        for level in self._scope.visible(self._plan.names[atom_name]):
            yield [atoms[p].name for p in level if atoms[p] is not None]

    def _candidates(self, i: int, name: str) -> Iterator[Source]:
        """Iterate over all that may feed a name to atom `i`, in the lookup order."""
        injected = self._lookup.injected_source(self._plan.atoms[i].name, name)
        if injected is not None:
            yield injected
        for p in self._scope.candidates(i, name):
            yield self._given[p], _key(self._plan.atoms[p], name)

    def _search(self, i: int, wiring: Wiring, *, undoes: bool = False) -> dict[str, Any]:
        arguments = {}
        for position, (arg, name) in enumerate(zip(wiring.args, wiring.names, strict=True)):
            sources = self._candidates(i, name)
            if undoes:
                sources = ((_Undone(one) if _is_undone(one) else one, key) for one, key in sources)
            if name in _Facts.NAMES and position < wiring.needed:
                sources = itertools.chain(sources, [(self._facts(i, wiring), name)])
            try:
                arguments[arg] = self._lookup.find(name, sources)
            except exceptions.NotFound as error:
                if position < wiring.needed or any(map(_had_value, self._candidates(i, name))):
                    msg = f"Atom '{self._plan.atoms[i].name}' has no value for its argument '{arg}': {error}"
                    raise exceptions.NotFound(self._nobody_undoes(i, arg, name) if undoes else msg) from None
        return arguments

    def _nobody_undoes(self, i: int, arg: str, name: str) -> str:
        """Say what to do where a revert lacks an argument: its atom was skipped before what provides that had run."""
        atom, why = self._plan.atoms[i].name, ""
        source = next(self._candidates(i, name), None)
        if source is not None:
            one = source[0]
            why = f": {let_go(one)}" if _had_value(source) else f": '{one.name}', which provides it, is {one.state}"
        return (
            f"Atom '{atom}' has no value for its argument '{arg}', so its revert cannot be called{why}\n"
            f"Undo it by hand, and say so by engine.skip('{atom}'): the next run() goes on with the rollback"
        )

    def execute_arguments(self, i: int) -> dict[str, Any]:
        """Return the arguments of `execute`.

        :raises NotFound: when a required one has no value
        """
        atom = self._plan.atoms[i]
        arguments = self._fill(i, self.callers[i], self.sources[i], atom._tfx_signature.execute)
        if isinstance(atom, retry.Retry):
            self._add_history(arguments, i, atom.execute)
        return arguments

    def _fill(
        self, i: int, caller: calling.Caller | None, sources: Sources, wiring: Wiring, *, undoes: bool = False
    ) -> dict[str, Any]:
        """Return the arguments of one method, from its binding if all of that has values."""
        if self.version == self._lookup.bindings_version:
            arguments = {} if caller is None else caller.fill(sources)
            if arguments is not None:
                return arguments
        return self._search(i, wiring, undoes=undoes)

    def revert_arguments(self, i: int, failures: Callable[[], dict[str, Failure]]) -> dict[str, Any]:
        """Return the arguments of `revert`.

        :param failures: gives atom name -> Failure, when it is wanted
        :raises NotFound: when a required one has no value
        """
        atom = self._plan.atoms[i]
        signature = atom._tfx_signature
        arguments: dict[str, Any] = {}
        if signature.revert.args:
            arguments = self._fill(i, self.undo_callers[i], self.undo_sources[i], signature.revert, undoes=True)
        if isinstance(atom, retry.Retry):
            self._add_history(arguments, i, atom.revert)
        elif signature.takes_result:
            detail = self._given[i]
            arguments[REVERT_RESULT] = detail.results if detail.failure is None else detail.failure
        if signature.takes_failures:
            arguments[REVERT_FLOW_FAILURES] = failures()
        return arguments

    def on_failure_arguments(self, r: int) -> dict[str, Any]:
        """Return the arguments of a retry's `on_failure`: those of its execute that it takes, and the history."""
        controller = self._plan.atoms[r]
        takes = inspect_parameters(controller.on_failure)
        arguments = self._search(r, controller._tfx_signature.execute)
        arguments = {name: value for name, value in arguments.items() if takes.accepts(name)}
        self._add_history(arguments, r, controller.on_failure)
        return arguments

    def _add_history(self, arguments: dict[str, Any], r: int, method: Callable[..., Any]) -> None:
        if inspect_parameters(method).accepts(retry.EXECUTE_REVERT_HISTORY):
            arguments[retry.EXECUTE_REVERT_HISTORY] = self._storage.get_retry_history(self._plan.atoms[r].name)


_NOTHING: tuple[()] = ()


def _is_undone(source: Any) -> bool:
    return source.state == states.REVERTED and isinstance(source, models.TaskDetail) and not metadata.is_let_go(source)


def _key(atom: Any, name: str) -> Any:
    """Return the index or key under which an atom's result holds a provided name, or None for all of it."""
    outputs = atom._tfx_signature.outputs
    return outputs[0][1] if len(outputs) == 1 else dict(outputs)[name]
