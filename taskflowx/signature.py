"""What an atom takes and gives: the parameters of its methods, joined with its declaration.

Invariant: a `Signature` never changes; engines may keep references to its tuples.
"""

from __future__ import annotations

import functools
import types
from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx._util import arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

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
        """Leave out the parameters that the engine fills itself."""
        return Parameters(
            tuple(n for n in self.required if n not in names),
            tuple(n for n in self.optional if n not in names),
            self.open_ended,
            self.by_position,
        )

    def accepts(self, name: str) -> bool:
        """Tell whether the callable can be given an argument of this name."""
        return self.open_ended or name in self.required or name in self.optional


class Wiring(NamedTuple):
    """Which stored name feeds which argument of one method.

    `names[k]` feeds `args[k]`; the first `needed` of them must have a value, the rest are passed only if they
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
        """The stored names that are passed when somebody provides them."""
        return self.names[self.needed :]

    def as_dict(self) -> dict[str, str]:
        """Return argument -> stored name, in order."""
        return dict(zip(self.args, self.names, strict=True))


class Methods(NamedTuple):
    """What the methods of an atom take, less what the engine fills; `revert` is None where it is the base's."""

    execute: Parameters
    revert: Parameters | None
    takes_result: bool
    takes_failures: bool
    asynchronous: int


class Signature(NamedTuple):
    """What one atom takes and gives.

    `outputs` pairs each provided name with the index or key of the result that it stands for (None: the whole
    result). `takes_result` and `takes_failures` tell whether `revert` wants the two arguments that the engine
    fills, and `asynchronous` which methods are coroutine functions: a sum of EXECUTES_ASYNC and REVERTS_ASYNC.
    """

    outputs: tuple[tuple[str, Any], ...]
    execute: Wiring
    revert: Wiring
    takes_result: bool
    takes_failures: bool
    asynchronous: int = 0


EXECUTES_ASYNC, REVERTS_ASYNC = 1, 2
NOTHING = Wiring((), (), 0)


def inspect_parameters(function: Callable[..., Any]) -> Parameters:
    """Return the named parameters of a callable; what cannot be inspected is taken to accept anything."""
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
    import inspect  # few are no plain functions

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
    """Read the parameters off a code object, as `inspect.signature` would; cached, as closures share their code."""
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
        msg = f"Atom provides parameter should be str, set or tuple/list, not {provides!r}"
        raise TypeError(msg)
    for name in provides:
        if not isinstance(name, str):
            msg = f"Atom provides parameter should hold names (str), not {name!r} in {provides!r}"
            raise TypeError(msg)
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
    """Put the names of a set in an order that is the same in each process."""
    return sorted(names, key=str) if isinstance(names, (set, frozenset)) else names


def names_of(given: Any, what: str) -> Names:
    """Return a declaration of names (one str, or an iterable of them) as a tuple without repetitions."""
    if not given:
        return ()
    if isinstance(given, str):
        return (given,)
    try:
        names = tuple(dict.fromkeys(_in_order(given)))
    except TypeError:  # it is no iterable, or something in it cannot be a key
        names = (given,)
    for name in names:
        if not isinstance(name, str):
            msg = f"{what} should be a name (str) or an iterable of names, not {given!r}"
            raise TypeError(msg)
    return names


def _rebinding(given: Any, positional: Names) -> dict[str, str]:
    """Return argument -> stored name for a `rebind` declaration (dict, list or tuple)."""
    if given is None:
        return {}
    if isinstance(given, dict):
        return dict(given)
    if not isinstance(given, (list, tuple)):
        msg = f"Invalid rebind value '{given}' ({type(given)})"
        raise TypeError(msg)
    rest = {name: name for name in given[len(positional) :]}
    return dict(zip(positional, given, strict=False)) | rest


def check_names_in(what: str, rebind: Any) -> None:
    """Refuse a `rebind` that has anything but names in the place of stored names."""
    for name in rebind.values() if isinstance(rebind, dict) else rebind if isinstance(rebind, (list, tuple)) else ():
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
    """Join a declaration with the parameters of the method that it is for.

    Raises ValueError when the declaration names an argument that the method does not take, or leaves one out.
    """
    if auto_extract and not requires and not inherited:
        # The two everyday cases: nothing is rebound, or a list names all that is required.
        if rebind is None:
            args = (*parameters.required, *parameters.optional)
            return Wiring(args, args, len(parameters.required))
        if isinstance(rebind, (list, tuple)) and len(rebind) == len(parameters.required):
            args = (*parameters.required, *parameters.optional)
            return Wiring(args, (*rebind, *parameters.optional), len(parameters.required))
    required = dict.fromkeys(parameters.required if auto_extract else ())
    required.update(dict.fromkeys(requires))
    optional = parameters.optional if auto_extract else ()
    renamed = _rebinding(rebind, parameters.required)
    required.update(dict.fromkeys(renamed))
    extra = [arg for arg in required if not parameters.accepts(arg)]
    if extra:
        msg = f"Extra arguments given to atom {who}: {extra}"
        raise ValueError(msg)
    missing = [n for n in parameters.required if n not in required and n not in injected]
    if missing:
        msg = f"Missing arguments for atom {who}: {missing}"
        raise ValueError(msg)
    args = (*required, *(arg for arg in optional if arg not in required))
    stored = {**(inherited or {}), **renamed}
    return Wiring(args, tuple(stored.get(arg, arg) for arg in args) if stored else args, len(required))
