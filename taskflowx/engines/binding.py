"""Where the arguments of each call come from.

`Binder` works out once, before a run, which detail feeds which argument of each atom, so that a call costs one attribute read
an argument and no name is looked up. What it could not foresee (a provider that was ignored or has no such part in its result,
a value that was injected since) goes through the one search of storage.

Invariant: a binding names, for each argument, the source that comes first in the lookup order; it is used only while no
name has been injected since it was made.
"""

from __future__ import annotations

import difflib
from typing import TYPE_CHECKING, Any

from taskflowx import atom as atom_module
from taskflowx import exceptions, retry
from taskflowx.engines.scope import Scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taskflowx.engines.plan import Plan
    from taskflowx.storage import Source, Storage
    from taskflowx.types.failure import Failure

    #: for each argument: its name, what has the value, and the index or key there
    Binding = tuple[tuple[str, Any, Any], ...]


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


class Binder:
    """Gives the arguments of calls.

    :param plan: the compiled flow
    :param details: the record of each atom, by index
    :param storage: the record by name, with the injected values
    """

    def __init__(self, plan: Plan, details: list[Any], storage: Storage) -> None:
        self._plan = plan
        self._storage = storage
        self._scope = Scope(plan)
        self._sources = [
            _LastResult(detail) if isinstance(atom, retry.Retry) else detail
            for atom, detail in zip(plan.atoms, details, strict=True)
        ]
        #: for each atom, where the arguments of its execute come from; empty when it takes none
        self.bindings: list[Binding] = []
        #: the count of injected names that the bindings know of
        self.epoch = -1

    def prepare(self) -> None:
        """Work out all bindings."""
        storage, scope, outputs, sources = self._storage, self._scope, _outputs, self._sources
        nothing: Binding = ()
        bindings = self.bindings = []
        for i, atom in enumerate(self._plan.atoms):
            if atom is None:
                bindings.append(nothing)
                continue
            wiring = atom._signature.execute  # noqa: SLF001 - of the same house
            if not wiring.args:
                bindings.append(nothing)
                continue
            found = []
            for arg, name in zip(wiring.args, wiring.names, strict=True):
                source = storage.injected_source(atom.name, name)
                if source is None:
                    provider = scope.nearest(i, name)
                    if provider < 0:
                        continue  # optional; validation has seen to the others
                    source = sources[provider], outputs(self._plan.atoms[provider], name)
                found.append((arg, *source))
            bindings.append(tuple(found))
        self.epoch = storage.injections

    def incomplete(self) -> Iterator[int]:
        """Iterate over the atoms that may lack something: an argument of execute is not bound, or revert has some."""
        for i, atom in enumerate(self._plan.atoms):
            if atom is not None:
                signature = atom._signature  # noqa: SLF001
                if len(self.bindings[i]) < signature.execute.needed or signature.revert.needed:
                    yield i

    def missing(self, i: int) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return, for each method of an atom that lacks something, its name and (argument, stored name) of what nobody provides."""
        atom = self._plan.atoms[i]
        signature = atom._signature  # noqa: SLF001
        lacking = []
        for method, wiring in (("execute", signature.execute), ("revert", signature.revert)):
            pairs = [
                (arg, name)
                for arg, name in zip(wiring.args[: wiring.needed], wiring.required_names, strict=True)
                if next(self._candidates(i, name), None) is None
            ]
            if pairs:
                lacking.append((method, pairs))
        return lacking

    def close_match(self, i: int, name: str) -> str | None:
        """Return a name that atom `i` could have meant, if one is much alike."""
        known = {*self._scope.providers, *self._storage.fetch_all()}
        return next(iter(difflib.get_close_matches(name, sorted(known), n=1)), None)

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
            yield self._sources[p], _outputs(self._plan.atoms[p], name)

    def _arguments(self, i: int, wiring: atom_module.Wiring) -> dict[str, Any]:
        arguments = {}
        for position, (arg, name) in enumerate(zip(wiring.args, wiring.names, strict=True)):
            try:
                arguments[arg] = self._storage.find(name, self._candidates(i, name))
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
        binding = self.bindings[i]
        arguments: dict[str, Any] = {}
        try:
            if self.epoch != self._storage.injections or len(binding) < atom._signature.execute.needed:  # noqa: SLF001
                raise LookupError  # noqa: TRY301
            for name, source, key in binding:
                if source.state != _SUCCESS:
                    raise LookupError  # noqa: TRY301
                arguments[name] = source.results if key is None else source.results[key]
        except (LookupError, TypeError, exceptions.NotFound):
            arguments = self._arguments(i, atom._signature.execute)  # noqa: SLF001
        if isinstance(atom, retry.Retry):
            self._add_history(arguments, i, atom.execute)
        return arguments

    def revert_arguments(self, i: int, failures: Callable[[], dict[str, Failure]]) -> dict[str, Any]:
        """Return the arguments of `revert`.

        :param failures: gives atom name -> Failure, when it is wanted
        :raises NotFound: when a required one has no value
        """
        atom = self._plan.atoms[i]
        signature = atom._signature  # noqa: SLF001
        arguments = self._arguments(i, signature.revert) if signature.revert.args else {}
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
        arguments = self._arguments(r, controller._signature.execute)  # noqa: SLF001
        arguments = {name: value for name, value in arguments.items() if takes.accepts(name)}
        self._add_history(arguments, r, controller.on_failure)
        return arguments

    def _add_history(self, arguments: dict[str, Any], r: int, method: Callable[..., Any]) -> None:
        if atom_module.inspect_parameters(method).accepts(retry.EXECUTE_REVERT_HISTORY):
            arguments[retry.EXECUTE_REVERT_HISTORY] = self._storage.get_retry_history(self._plan.atoms[r].name)


_SUCCESS = "SUCCESS"


def _outputs(atom: Any, name: str) -> Any:
    """Return the index or key under which an atom's result holds a provided name, or None for all of it."""
    outputs = atom._signature.outputs  # noqa: SLF001
    return outputs[0][1] if len(outputs) == 1 else dict(outputs)[name]
