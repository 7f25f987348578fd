"""The signature of an atom: the parameters of its methods, joined with its declaration.

Invariant: a `Signature` never changes; engines may keep references to its tuples.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Mapping, Set as AbstractSet
from typing import Any, NamedTuple

from taskflowx import states
from taskflowx._util import arguments

Names = tuple[str, ...]


class Parameters(NamedTuple):
    """The named parameters of a callable: without a default, with one, and whether it takes `**kwargs`.

    `by_position` are those without a default that cannot be passed by name.
    """

    required: Names
    optional: Names
    open_ended: bool
    by_position: Names = ()

    def without(self, names: frozenset[str]) -> Parameters:
        """Return the parameters without those that the engine itself passes."""
        return Parameters(
            tuple(n for n in self.required if n not in names),
            tuple(n for n in self.optional if n not in names),
            self.open_ended,
            self.by_position,
        )

    def accepts(self, name: str) -> bool:
        """Tell whether the callable accepts an argument of this name."""
        return self.open_ended or name in self.required or name in self.optional


class Wiring(NamedTuple):
    """The stored names that are passed to the arguments of one method.

    `names[k]` is passed to `args[k]`; the first `needed` of them must have a value, the others are passed only if they
    have one.
    """

    args: Names
    names: Names
    needed: int

    @property
    def required_names(self) -> Names:
        """The stored names without which the method cannot be called."""
        return self.names[: self.needed]

    @property
    def optional_names(self) -> Names:
        """The stored names that are passed if they are provided."""
        return self.names[self.needed :]

    def as_dict(self) -> dict[str, str]:
        """Return argument -> stored name, in order."""
        return dict(zip(self.args, self.names, strict=True))


class Methods(NamedTuple):
    """The parameters of an atom's methods, without those that the engine passes; `revert` is None if not overridden."""

    execute: Parameters
    revert: Parameters | None
    takes_result: bool
    takes_failures: bool
    asynchronous: int


class Signature(NamedTuple):
    """The inputs and outputs of one atom.

    `outputs` pairs each provided name with the index or key of its part of the result (None: the whole result).
    `takes_result` and `takes_failures` tell whether `revert` takes the two arguments that the engine passes, and
    `asynchronous` is a sum: EXECUTES_ASYNC or REVERTS_ASYNC for a verb that is awaited, as its method or a hook around
    it is a coroutine function, HOOKS_ASYNC where a hook is one, and HOOKS_WRAPPED where a decorator stands around a
    hook, so that nobody knows what it returns.
    """

    outputs: tuple[tuple[str, Any], ...]
    execute: Wiring
    revert: Wiring
    takes_result: bool
    takes_failures: bool
    asynchronous: int = 0


EXECUTES_ASYNC, REVERTS_ASYNC, HOOKS_ASYNC, HOOKS_WRAPPED = 1, 2, 4, 8
#: verb -> its bit in `Signature.asynchronous`
ASYNC_BIT = {states.EXECUTE: EXECUTES_ASYNC, states.REVERT: REVERTS_ASYNC}
NOTHING = Wiring((), (), 0)


def inspect_parameters(function: Callable[..., Any]) -> Parameters:
    """Return the named parameters of a callable; one that cannot be inspected is assumed to accept anything."""
    target = getattr(function, "__func__", function)
    if (
        isinstance(target, types.FunctionType)
        and not hasattr(target, "__wrapped__")
        and not hasattr(target, "__signature__")
    ):
        code = target.__code__
        defaults = len(target.__defaults__ or ())
        by_keyword = frozenset(target.__kwdefaults__ or ())
        return _parameters_of_code(code, defaults, by_keyword, bound=target is not function)
    import inspect  # rarely needed: most are plain functions

    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return Parameters((), (), open_ended=True)
    everything = signature.parameters.values()
    named = [p for p in everything if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return Parameters(
        tuple(p.name for p in named if p.default is p.empty),
        tuple(p.name for p in named if p.default is not p.empty),
        any(p.kind is p.VAR_KEYWORD for p in everything),
        tuple(p.name for p in everything if p.kind is p.POSITIONAL_ONLY and p.default is p.empty),
    )


@functools.lru_cache(maxsize=2048)
def _parameters_of_code(code: Any, defaults: int, by_keyword: frozenset[str], *, bound: bool) -> Parameters:
    """Return the parameters of a code object, as `inspect.signature` would; cached, as closures share their code."""
    names = code.co_varnames
    positional = names[code.co_posonlyargcount : code.co_argcount]
    split = max(len(positional) - defaults, 0)
    required, optional = positional[:split], positional[split:]
    if bound and code.co_posonlyargcount == 0 and code.co_argcount:
        required, optional = (required[1:], optional) if required else (required, optional[1:])
    by_position = names[int(bound) : min(code.co_posonlyargcount, code.co_argcount - defaults)]
    keyword_only = names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    return Parameters(
        required + tuple(n for n in keyword_only if n not in by_keyword),
        optional + tuple(n for n in keyword_only if n in by_keyword),
        bool(code.co_flags & arguments.CO_VARKEYWORDS),
        by_position,
    )


def outputs_of(provides: Any) -> tuple[tuple[str, Any], ...]:
    """Turn a `provides` declaration into pairs of provided name and index or key in the result.

    Raises TypeError when it is no str, tuple, list, set or mapping (provided name -> key) of strings, or a key is none.
    """
    if provides is None:
        return ()
    if isinstance(provides, str):
        return ((provides, None),)
    if not isinstance(provides, (tuple, list, AbstractSet, dict)):
        raise TypeError(f"Atom provides parameter should be str, set or tuple/list, not {provides!r}")
    for name in provides:
        if not isinstance(name, str):
            raise TypeError(f"Atom provides parameter should hold names (str), not {name!r} in {provides!r}")
    if isinstance(provides, dict):
        for name, key in provides.items():
            try:
                hash(key)
            except TypeError:
                arguments.refuse(f"The key of '{name}' in provides={provides!r}", key, "an index, or a key of a dict")
        return tuple(provides.items())
    if isinstance(provides, AbstractSet):
        return tuple((name, name) for name in _in_order(provides))
    return tuple({name: index for index, name in enumerate(provides)}.items())


def _in_order(names: Iterable[Any]) -> Iterable[Any]:
    """Return the names of a set in an order that is the same in each process."""
    return sorted(names, key=str) if isinstance(names, (set, frozenset)) else names


_STR = {str}


def names_of(given: Any, what: str) -> Names:
    """Return a declaration of names (one str, or an iterable of them) as a tuple without duplicates."""
    if not given:
        return ()
    if isinstance(given, str):
        return (given,)
    if type(given) in (list, tuple) and set(map(type, given)) == _STR and len(set(given)) == len(given):
        return tuple(given)  # the everyday case
    try:
        names = tuple(dict.fromkeys(_in_order(given)))
    except TypeError:  # it is not iterable, or has an unhashable element
        names = (given,)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"{what} should be a name (str) or an iterable of names, not {given!r}")
    return names


def rebinding_of(given: Any, positional: Names) -> dict[str, str]:
    """Return argument -> stored name for a `rebind` declaration (dict, list or tuple)."""
    if given is None:
        return {}
    if isinstance(given, dict):
        return dict(given)
    if not isinstance(given, (list, tuple)):
        error = TypeError(f"Invalid rebind value '{given}' ({type(given)})")
        error.add_note("rebind= is a dict of argument -> name of a value, or a list of such names")
        raise error
    rest = {name: name for name in given[len(positional) :]}
    return dict(zip(positional, given, strict=False)) | rest


def names_in(rebind: Any) -> Iterable[Any]:
    """Return the stored names of a `rebind` declaration."""
    return rebind.values() if isinstance(rebind, dict) else rebind if isinstance(rebind, (list, tuple)) else ()


def check_names_in(what: str, rebind: Any) -> None:
    """Raise an error for a `rebind` with anything but names in place of stored names."""
    for name in names_in(rebind):
        if not isinstance(name, str):
            arguments.refuse(f"Each stored name in {what}={rebind!r}", name, "a str")


def wire(
    who: str,
    parameters: Parameters,
    requires: Names,
    rebind: Any,
    *,
    auto_extract: bool = True,
    injected: Iterable[str] = (),
    inherited: Mapping[str, str] | None = None,
) -> Wiring:
    """Join a declaration with the parameters of its method.

    Raises ValueError when the declaration names an argument that the method does not take, or omits one.
    """
    if auto_extract and not requires and not inherited:
        # The two common cases: nothing is rebound, or a list names all required arguments.
        if rebind is None:
            args = (*parameters.required, *parameters.optional)
            return Wiring(args, args, len(parameters.required))
        if isinstance(rebind, (list, tuple)) and len(rebind) == len(parameters.required):
            args = (*parameters.required, *parameters.optional)
            return Wiring(args, (*rebind, *parameters.optional), len(parameters.required))
    required = dict.fromkeys(parameters.required if auto_extract else ())
    required.update(dict.fromkeys(requires))
    optional = parameters.optional if auto_extract else ()
    renamed = rebinding_of(rebind, parameters.required)
    required.update(dict.fromkeys(renamed))
    extra = [arg for arg in required if not parameters.accepts(arg)]
    if extra:
        takes = f"its method takes {[*parameters.required, *parameters.optional]}, and others only by **kwargs"
        raise ValueError(f"Extra arguments given to atom {who}: {extra}\n{takes}")
    missing = [n for n in parameters.required if n not in required and n not in injected]
    if missing:
        raise ValueError(f"Missing arguments for atom {who}: {missing}\nname them in requires=, rebind= or inject=")
    args = (*required, *(arg for arg in optional if arg not in required))
    stored = {**(inherited or {}), **renamed}
    return Wiring(args, tuple(stored.get(arg, arg) for arg in args) if stored else args, len(required))
