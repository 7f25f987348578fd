"""Where the arguments of each call come from.

`Binder` works out once, before a run, which detail feeds which argument of each atom, so that a call costs one
attribute read an argument and no name is looked up. What it could not foresee (a provider that was ignored or has no
such part in its result, a value that was injected since) goes through the one search of storage.

Two required arguments need nobody who provides them: `attempt` and `idempotency_key` tell a call which one of its kind
it is. They are looked up like all others, and last of all, so a value of that name goes before them.

Invariant: a binding names, for each argument, the source that comes first in the lookup order; it is used only while no
name has been injected since it was made.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from taskflowx import atom as atom_module, exceptions, retry, states
from taskflowx.engines.scope import Scope
from taskflowx.storage import META_ATTEMPT, META_REVERT_ATTEMPT, META_ROUND

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator
    from typing import Self

    from taskflowx.engines.plan import Plan
    from taskflowx.storage import Source, Storage
    from taskflowx.types.failure import Failure

    #: for each argument: its name, what has the value, and the index or key there
    Binding = tuple[tuple[str, Any, Any], ...]


#: what a revert takes: the result, the failures of the flow, arguments that are bound
TAKES_RESULT, TAKES_FAILURES, BOUND = 1, 2, 4
TAKES_BOTH = TAKES_RESULT + TAKES_FAILURES


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
    def results(self) -> Any:
        return self._detail.last_results


class _Facts:
    """What a call can know about itself, in the shape of a detail that has succeeded.

    `attempt` is 1, and one more each time a run was cut off in this call. `idempotency_key` stays the same then, also
    from an execute to its revert, and is a new one in each round of a retry and after a reset.

    :param detail: the record of the atom
    :param counted: the key in its metadata under which attempts of this verb are counted
    """

    __slots__ = ("_counted", "_detail")
    state = states.SUCCESS
    NAMES = ("attempt", "idempotency_key")

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
        meta = self._detail._meta or {}
        if name == "attempt":
            return meta.get(self._counted, 1)
        return f"{self._detail.uuid}.{meta.get(META_ROUND, 0)}"


class Binder:
    """Gives the arguments of calls.

    :param plan: the compiled flow
    :param details: the record of each atom, by index
    :param storage: the record by name, with the injected values
    """

    def __init__(self, plan: Plan, details: list[Any], storage: Storage) -> None:
        self._plan = plan
        self._storage = storage
        self._details = details
        self._scope = Scope(plan)
        self._sources: list[Any] = [
            _LastResult(detail) if isinstance(atom, retry.Retry) else detail
            for atom, detail in zip(plan.atoms, details, strict=True)
        ]
        #: for each atom, where the arguments of its execute come from; empty when it takes none
        self.bindings: list[Binding] = []
        #: the same for its revert
        self.undo_bindings: list[Binding] = []
        #: for each atom, what its revert takes: a sum of TAKES_RESULT, TAKES_FAILURES and BOUND
        self.undo_shapes = b""
        #: the atoms that take facts about their calls, so that these are to be counted
        self.told: set[int] = set()
        #: the count of injected names that the bindings know of
        self.epoch = -1

    def prepare(self) -> None:
        """Work out all bindings."""
        bindings: list[Binding] = []
        undo_bindings: list[Binding] = []
        shapes = bytearray()
        injected = self._storage.injected_names()
        for i, atom in enumerate(self._plan.atoms):
            binding = undo = _NOTHING
            shape = 0
            if atom is not None:
                _, forward, backward, takes_result, takes_failures, _ = atom._signature
                if forward.args:
                    binding = self._bind(i, forward, injected)
                if backward.args:
                    if backward.names == forward.names and backward.args == forward.args and i not in self.told:
                        undo = binding
                    else:
                        undo = self._bind(i, backward, injected)
                    shape = BOUND
                shape += takes_result * TAKES_RESULT + takes_failures * TAKES_FAILURES
            bindings.append(binding)
            undo_bindings.append(undo)
            shapes.append(shape)
        self.bindings, self.undo_bindings, self.undo_shapes = bindings, undo_bindings, bytes(shapes)
        self.epoch = self._storage.injections

    def _bind(self, i: int, wiring: atom_module.Wiring, injected: Collection[str] | None) -> Binding:
        """Find the first source of each argument; an optional one that nobody provides is left out.

        A binding ends before a required argument that nobody provides: it is then shorter than `wiring.needed`.

        :param injected: the injected names, or None when some are injected into single atoms
        """
        atoms, sources, nearest = self._plan.atoms, self._sources, self._scope.nearest
        found: list[tuple[str, Any, Any]] = []
        for position, (arg, name) in enumerate(zip(wiring.args, wiring.names, strict=True)):
            if injected is None or name in injected:
                source = self._storage.injected_source(atoms[i].name, name)
                if source is not None:
                    found.append((arg, *source))
                    continue
            p = nearest(i, name)
            if p >= 0:
                found.append((arg, sources[p], _key(atoms[p], name)))
            elif position < wiring.needed:
                if name not in _Facts.NAMES:
                    break
                found.append((arg, self._facts(i, wiring), name))
                self.told.add(i)
        return tuple(found)

    def _facts(self, i: int, wiring: atom_module.Wiring) -> _Facts:
        """Return what a call of atom `i` can know about itself."""
        executes = wiring is self._plan.atoms[i]._signature.execute
        return _Facts(self._details[i], META_ATTEMPT if executes else META_REVERT_ATTEMPT)

    def incomplete(self) -> Iterator[int]:
        """Iterate over the atoms that may lack something: an argument of execute is not bound, or revert has some."""
        for i, atom in enumerate(self._plan.atoms):
            if atom is not None:
                signature = atom._signature
                if len(self.bindings[i]) < signature.execute.needed or signature.revert.needed:
                    yield i

    def missing(self, i: int) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return, for each method that lacks something, its name and (argument, stored name) pairs."""
        atom = self._plan.atoms[i]
        signature = atom._signature
        lacking = []
        for method, wiring in (("execute", signature.execute), ("revert", signature.revert)):
            pairs = [
                (arg, name)
                for arg, name in zip(wiring.args[: wiring.needed], wiring.required_names, strict=True)
                if name not in _Facts.NAMES and next(self._candidates(i, name), None) is None
            ]
            if pairs:
                lacking.append((method, pairs))
        return lacking

    def hint(self, i: int, arg: str, name: str) -> str:
        """Say what may help when atom `i` lacks a name, or nothing."""
        atoms = self._plan.atoms
        known = self._scope.providers.get(name)
        if known is not None:
            owner = atoms[known if isinstance(known, int) else known[0]].name
            return f"'{owner}' provides '{name}', but does not run before '{atoms[i].name}'"
        import difflib  # only an error needs it

        candidates = sorted({*self._scope.providers, *self._storage.fetch_all()})
        for match in difflib.get_close_matches(name, candidates, n=1):
            return f"'{atoms[i].name}' takes '{name}' for its argument '{arg}': did you mean '{match}'?"
        return "" if arg == name else f"'{atoms[i].name}' takes '{name}' for its argument '{arg}'"

    def seen_by(self, atom_name: str) -> Iterator[list[str]]:
        """Iterate over rows of names of the atoms that an atom sees, nearest first."""
        atoms = self._plan.atoms
        for level in self._scope.visible(self._plan.names[atom_name]):
            yield [atoms[p].name for p in level if atoms[p] is not None]

    def _candidates(self, i: int, name: str) -> Iterator[Source]:
        """Iterate over all that may feed a name to atom `i`, in the lookup order."""
        injected = self._storage.injected_source(self._plan.atoms[i].name, name)
        if injected is not None:
            yield injected
        for p in self._scope.candidates(i, name):
            yield self._sources[p], _key(self._plan.atoms[p], name)

    def _search(self, i: int, wiring: atom_module.Wiring) -> dict[str, Any]:
        arguments = {}
        for position, (arg, name) in enumerate(zip(wiring.args, wiring.names, strict=True)):
            sources = self._candidates(i, name)
            if name in _Facts.NAMES and position < wiring.needed:
                sources = itertools.chain(sources, [(self._facts(i, wiring), name)])
            try:
                arguments[arg] = self._storage.find(name, sources)
            except exceptions.NotFound as error:
                if position < wiring.needed:
                    msg = f"Atom '{self._plan.atoms[i].name}' has no value for its argument '{arg}': {error}"
                    raise exceptions.NotFound(msg) from None
        return arguments

    def execute_arguments(self, i: int) -> dict[str, Any]:
        """Return the arguments of `execute`.

        :raises NotFound: when a required one has no value
        """
        atom = self._plan.atoms[i]
        arguments = self._fill(i, self.bindings[i], atom._signature.execute)
        if isinstance(atom, retry.Retry):
            self._add_history(arguments, i, atom.execute)
        return arguments

    def _fill(self, i: int, binding: Binding, wiring: atom_module.Wiring) -> dict[str, Any]:
        """Return the arguments of one method, from its binding if all of that has values."""
        if self.epoch == self._storage.injections and len(binding) >= wiring.needed:
            arguments = {}
            try:
                for name, source, key in binding:
                    if source.state != states.SUCCESS:
                        break
                    arguments[name] = source.results if key is None else source.results[key]
                else:
                    return arguments
            except Exception:  # noqa: S110 - the search below looks further, or says what is missing
                pass
        return self._search(i, wiring)

    def revert_arguments(self, i: int, failures: Callable[[], dict[str, Failure]]) -> dict[str, Any]:
        """Return the arguments of `revert`.

        :param failures: gives atom name -> Failure, when it is wanted
        :raises NotFound: when a required one has no value
        """
        atom = self._plan.atoms[i]
        signature = atom._signature
        arguments = self._fill(i, self.undo_bindings[i], signature.revert) if signature.revert.args else {}
        if isinstance(atom, retry.Retry):
            self._add_history(arguments, i, atom.revert)
        elif signature.takes_result:
            detail = self._sources[i]
            arguments[atom_module.REVERT_RESULT] = detail.results if detail.failure is None else detail.failure
        if signature.takes_failures:
            arguments[atom_module.REVERT_FLOW_FAILURES] = failures()
        return arguments

    def on_failure_arguments(self, r: int) -> dict[str, Any]:
        """Return the arguments of a retry's `on_failure`: those of its execute that it takes, and the history."""
        controller = self._plan.atoms[r]
        takes = atom_module.inspect_parameters(controller.on_failure)
        arguments = self._search(r, controller._signature.execute)
        arguments = {name: value for name, value in arguments.items() if takes.accepts(name)}
        self._add_history(arguments, r, controller.on_failure)
        return arguments

    def _add_history(self, arguments: dict[str, Any], r: int, method: Callable[..., Any]) -> None:
        if atom_module.inspect_parameters(method).accepts(retry.EXECUTE_REVERT_HISTORY):
            arguments[retry.EXECUTE_REVERT_HISTORY] = self._storage.get_retry_history(self._plan.atoms[r].name)


_NOTHING: Binding = ()


def _key(atom: Any, name: str) -> Any:
    """Return the index or key under which an atom's result holds a provided name, or None for all of it."""
    outputs = atom._signature.outputs
    return outputs[0][1] if len(outputs) == 1 else dict(outputs)[name]
