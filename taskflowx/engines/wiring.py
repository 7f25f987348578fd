"""The check of types='warn' and 'strict': values are annotated as what the atoms take that they go to.

It looks at what each argument is bound to, so it knows which provider a run would ask first. The annotation of a result
says what an atom provides: all of it for a name alone, and its items, fields or values for names by position or key.
Annotations that are missing or cannot be evaluated are not checked, nor is what the engine itself passes, but for the
`result` of a revert.

Invariant: what it costs is a few lookups an argument; annotations are evaluated once a function, and each pair of types
is compared once.
"""

from __future__ import annotations

import collections.abc
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from taskflowx import deciders, exceptions, retry
from taskflowx._util.annotations import part, parts, read, shown
from taskflowx._util.fitting import accepts, fits
from taskflowx.atom import REVERT_RESULT, Atom
from taskflowx.engines.calling import NO_CALLER
from taskflowx.record.lookup import Injected
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taskflowx.engines.binding import Binder, Sources
    from taskflowx.engines.calling import Caller
    from taskflowx.engines.plan import Plan

    #: what the annotations of an atom say: its result, and the parameters of `execute` and `revert`
    Types = tuple[Any, dict[str, Any], dict[str, Any]]

_SHOWN = 10
_CORRECT = "correct one of these annotations, convert the value in a task between them"


def mismatches(plan: Plan, binder: Binder) -> list[str]:
    """Return a sentence for each value that is annotated as another type than an atom takes.

    :param plan: the compiled flow
    :param binder: where the arguments of calls come from
    """
    found = list(_of_conditions(plan))
    classes: set[Any] = {*map(type, plan.atoms)} - {type(None)}
    known = {cls: _types_of(cls.execute, cls.revert) for cls in classes if cls._tfx_shares_signature}
    if all(cls in known and not (known[cls][1] or known[cls][2]) for cls in classes):
        return found
    types_of: list[Any] = [
        None if atom is None else known.get(type(atom)) or _types_of(*atom._tfx_inspected()) for atom in plan.atoms
    ]
    check = _Check(plan, types_of)
    calls = zip(binder.callers, binder.sources, binder.undo_callers, binder.undo_sources, strict=True)
    for atom, types, (caller, sources, undo_caller, undo_sources) in zip(plan.atoms, types_of, calls, strict=True):
        if atom is None:
            continue
        _, takes, undo_takes = types
        if takes and caller is not None:
            found += check.of_method(atom, "", takes, caller, sources)
        if undo_takes:
            if undo_caller is not None:
                found += check.of_method(atom, " (its revert)", undo_takes, undo_caller, undo_sources)
            if REVERT_RESULT in undo_takes:
                found += check.of_result(atom, types)
    return found


def _types_of(execute: Callable[..., Any], revert: Callable[..., Any]) -> Types:
    _, gives, takes = read(getattr(execute, "__func__", execute))
    undo = getattr(revert, "__func__", revert)
    return gives, takes, _NOTHING if undo is Atom.revert else read(undo).takes


_NOTHING: dict[str, Any] = {}


def _of_conditions(plan: Plan) -> Iterator[str]:
    """Return the sentences for the values that conditions take of the atoms before their links."""
    asked = [(vote.decider, vote.source) for votes in plan.votes.values() for vote in votes if vote.source >= 0]
    for when, before in ((one, plan.atoms[source]) for one, source in asked if isinstance(one, deciders.When)):
        takes = read(getattr(when.condition, "__func__", when.condition)).takes
        gives = _types_of(*before._tfx_inspected())[0]
        for name, key in when.keys.items():
            given, wanted = _provided(gives, key), takes.get(name, Any)
            if not fits(given, wanted):
                yield (
                    f"'{before.name}' provides '{name}' as {shown(given)}, and when= of the link {when.link} takes it "
                    f"as {shown(wanted)}: correct one of these annotations"
                )


class _Check:
    """The check of one flow.

    :param plan: the compiled flow
    :param types: what the annotations of each atom say, by index
    """

    def __init__(self, plan: Plan, types: list[Any]) -> None:
        self._atoms, self._names, self._types = plan.atoms, plan.names, types
        #: what was found to fit: what is given, the key in it, the annotations of the taker, and the argument
        self._fine: set[tuple[int, Any, int, str]] = set()

    def of_method(
        self, atom: Any, method: str, takes: dict[str, Any], caller: Caller, sources: Sources
    ) -> Iterable[str]:
        """Return the sentences for the arguments of one method.

        :param method: what is said of it after the name of the atom
        :param takes: its annotations
        """
        if caller is NO_CALLER:
            return ()
        found: list[str] = []
        for arg, key, source in zip(caller.args, caller.keys, sources, strict=True):
            if arg not in takes:
                continue
            if type(source) is Injected:
                found += self._of_value(atom, method, (arg, key, takes[arg]), source)
                continue
            p = self._names[source.name]
            mark = (id(self._types[p]), key, id(takes), arg)
            if mark in self._fine or self._atoms[p] is atom:  # the atom itself: a fact about the call, as `attempt`
                continue
            given, wanted = _provided(self._types[p][0], key), takes[arg]
            if fits(given, wanted):
                self._fine.add(mark)
                continue
            giver = self._atoms[p]
            name = next(name for name, at in giver._tfx_signature.outputs if at == key)
            found.append(
                f"'{giver.name}' provides '{name}' as {shown(given)}, and '{atom.name}'{method} takes it"
                f"{_for(arg, name)} as {shown(wanted)}: {_CORRECT}, or have '{atom.name}' take another one by rebind="
            )
        return found

    def _of_value(self, atom: Any, method: str, argument: tuple[str, str, Any], source: Injected) -> Iterator[str]:
        arg, name, wanted = argument
        value = source.results[name]
        if not accepts(wanted, value):
            giver = "inject= gives" if source.name == atom.name else "store= gives"
            yield (
                f"{giver} '{name}' as {shown(type(value))}, and '{atom.name}'{method} takes it{_for(arg, name)} as "
                f"{shown(wanted)}: give another value, or correct the annotation"
            )

    def of_result(self, atom: Any, types: Types) -> Iterable[str]:
        """Return the sentence for the result that a revert takes, or nothing."""
        given, _, takes = types
        mark = (id(types), None, id(takes), REVERT_RESULT)
        if mark in self._fine or not atom._tfx_signature.takes_result or isinstance(atom, retry.Retry):
            return ()
        wanted = takes[REVERT_RESULT]
        if fits(given, wanted) and fits(Failure, wanted):
            self._fine.add(mark)
            return ()
        return (
            (
                f"'{atom.name}' (its revert) takes '{REVERT_RESULT}' as {shown(wanted)}, and gets what its execute "
                f"returns, {shown(given)}, or the Failure of it: annotate '{REVERT_RESULT}' as {shown(given)} | Failure"
            ),
        )


def _provided(returned: Any, key: Any) -> Any:
    """Return the type of what a result has under a key; one that may be awaited stands for what comes of it."""
    if key is None and type(returned) is type and returned.__module__ == "builtins":  # most are such
        return returned
    cls, args = parts(returned)
    if isinstance(cls, type) and issubclass(cls, collections.abc.Awaitable):
        returned = args[-1] if args else Any
    return part(returned, key)


def _for(arg: str, name: str) -> str:
    return "" if arg == name else f" for its argument '{arg}'"


def refusal(plan: Plan, found: list[str]) -> exceptions.TypeMismatch:
    """Return the error for values that do not fit."""
    more = [f"and {len(found) - _SHOWN} more"] if len(found) > _SHOWN else []
    return exceptions.TypeMismatch(
        f"{plan.flow} has values of other types than their takers say, which types='strict' refuses:\n"
        + "\n".join([*found[:_SHOWN], *more])
    )
