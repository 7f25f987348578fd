"""Annotations of functions and classes, as they mean it: evaluated, without wrappers, and taken apart.

Pure functions that raise nothing: what cannot be evaluated, or says nothing of a type, is Any or left away.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import functools
import sys
import types
import typing
import weakref
from typing import Any, NamedTuple

_WRAPPERS = ("Annotated", "ClassVar", "Final", "NotRequired", "ReadOnly", "Required")


class Annotated(NamedTuple):
    """The annotations of a function or class that can be evaluated, by name."""

    all: dict[str, Any]
    gives: Any
    """that of the result; Any without one"""
    takes: dict[str, Any]
    """those of the parameters, but for Any"""


_READ: weakref.WeakKeyDictionary[Any, Annotated] = weakref.WeakKeyDictionary()


def read(of: Any) -> Annotated:
    """Return the annotations of a function or class; evaluated once for each."""
    try:
        known = _READ.get(of)
    except Exception:  # noqa: BLE001 - it cannot be a key
        known = None
    if known is not None:
        return known
    hints = _evaluated(of)
    takes = {name: one for name, one in hints.items() if one is not Any and name != "return"}
    found = Annotated(hints, hints.get("return", Any), takes)
    try:
        _READ[of] = found
    except Exception:  # noqa: BLE001, S110 - as above
        pass
    return found


def hints(of: Any) -> dict[str, Any]:
    """Return the annotations of a class by name, without those that cannot be evaluated."""
    return read(of).all


def _evaluated(of: Any) -> dict[str, Any]:
    if type(of) is types.FunctionType and (found := _quickly(of)) is not None:
        return found
    try:
        return typing.get_type_hints(of)
    except Exception:  # noqa: BLE001 - names that are imported for type checkers alone
        return {name: one for name, written in raw(of).items() if (one := alone(of, written)) is not None}


def _quickly(function: types.FunctionType) -> dict[str, Any] | None:
    """Return the annotations of a function if all are classes, or types of these, and else None.

    It does what `typing.get_type_hints` does for them, which takes some ten times as long.
    """
    if "__wrapped__" in function.__dict__ or getattr(function, "__type_params__", False):
        return None
    found = {}
    try:
        for name, annotation in function.__annotations__.items():
            one = eval(_compiled(annotation), function.__globals__) if type(annotation) is str else annotation  # noqa: S307 - as typing does
            if one is None:
                one = types.NoneType
            elif type(one) is not type and not _is_evaluated(one):
                return None
            found[name] = one
    except Exception:  # noqa: BLE001 - a name that is not there
        return None
    return found


@functools.lru_cache(1024)
def _compiled(annotation: str) -> types.CodeType:
    return compile(annotation, "<annotation>", "eval")


def _is_evaluated(annotation: Any) -> bool:
    """Tell whether a type has no part that would have to be evaluated, or left away."""
    if isinstance(annotation, type) and not hasattr(annotation, "__args__"):
        return True
    origin = getattr(annotation, "__origin__", None)
    if type(annotation) in _ALIASES and (origin is typing.Union or origin is None or isinstance(origin, type)):
        return all(one is ... or _is_evaluated(one) for one in annotation.__args__)
    return annotation is Any


_ALIASES = {types.GenericAlias, types.UnionType, type(typing.List[int]), type(typing.Optional[int])}  # noqa: UP006, UP045


def _written(of: Any) -> Any:
    """Return the function that decorators stand for: names are those of the module in which it is written."""
    while hasattr(of, "__wrapped__"):
        of = of.__wrapped__
    return of


def alone(of: Any, annotation: Any) -> Any:
    """Return one annotation of a function or class, evaluated; None when it cannot be."""
    try:
        of = _written(of)
        known = getattr(of, "__globals__", None) or vars(sys.modules[of.__module__])
        if type_parameters := getattr(of, "__type_params__", ()):
            known = known | {one.__name__: one for one in type_parameters}
        return typing.get_type_hints(types.SimpleNamespace(__annotations__={"it": annotation}), known)["it"]
    except Exception:  # noqa: BLE001 - as above
        return None


def raw(of: Any) -> dict[str, Any]:
    """Return the annotations of a function, or those of a class itself, as they are written."""
    try:
        return dict(of.__annotations__)
    except NameError:  # since Python 3.14 they are evaluated when they are asked for
        import annotationlib  # type: ignore[import-not-found, unused-ignore]

        return dict(annotationlib.get_annotations(of, format=annotationlib.Format.FORWARDREF))
    except Exception:  # noqa: BLE001 - a callable of another kind
        return {}


def shown(annotation: Any) -> str:
    """Return a type as it is written in a program."""
    if annotation is type(None):
        return "None"
    if isinstance(annotation, type) and typing.get_origin(annotation) is None:
        return annotation.__qualname__
    return repr(annotation).replace("typing.", "").replace("collections.abc.", "").replace("NoneType", "None")


def plain(annotation: Any) -> Any:
    """Return an annotation without what says nothing of the type of the value; Any for what says nothing at all."""
    while True:
        origin = typing.get_origin(annotation)
        if annotation is None:
            return type(None)
        if isinstance(annotation, typing.TypeVar):
            allowed = annotation.__constraints__ or (annotation.__bound__,)
            annotation = Any if allowed == (None,) else typing.Union[allowed]  # noqa: UP007 - of a tuple
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        elif str(origin).rpartition(".")[2].strip("'<>") in _WRAPPERS:
            annotation = typing.get_args(annotation)[0]
        elif annotation is typing.LiteralString:
            return str
        elif origin is typing.TypeGuard or origin is getattr(typing, "TypeIs", typing.TypeGuard):
            return bool
        elif isinstance(annotation, type) or origin is not None or hasattr(annotation, "__supertype__"):
            return annotation
        else:  # Any, Never, Self, text that was not evaluated
            return Any


def members(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, and each of several literal values; nothing for other types."""
    origin = typing.get_origin(annotation)
    if origin is typing.Union or origin is types.UnionType:
        return typing.get_args(annotation)
    if origin is typing.Literal and len(typing.get_args(annotation)) > 1:
        return tuple(typing.Literal[value] for value in typing.get_args(annotation))
    return ()


def parts(annotation: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the class of a type, and its arguments."""
    origin = typing.get_origin(annotation)
    return (annotation, ()) if origin is None else (origin, typing.get_args(annotation))


def part(whole: Any, key: Any) -> Any:
    """Return the type of what a result holds under an index or key, None for all of it; Any when it is not known.

    :param whole: the annotated type of the result
    """
    if key is None:
        return whole
    try:
        return _part(plain(whole), key)
    except Exception:  # noqa: BLE001 - whatever a type of users does
        return Any


def _part(whole: Any, key: Any) -> Any:
    several = [one for one in members(whole) if one is not type(None)]
    if several:
        return typing.Union[tuple(part(one, key) for one in several)]  # noqa: UP007 - of a tuple
    cls, args = parts(whole)
    by_index = type(key) is int
    if by_index and hasattr(cls, "_fields"):
        return hints(cls).get(cls._fields[key], Any)
    if typing.is_typeddict(cls) or (dataclasses.is_dataclass(cls) and not by_index):
        return hints(cls).get(key, Any)
    if not isinstance(cls, type) or not args:
        return Any
    if cls is tuple and by_index:
        return args[0] if args[-1] is ... else args[key]
    if issubclass(cls, collections.abc.Mapping):
        return args[1] if len(args) > 1 else Any
    return args[0] if by_index and issubclass(cls, collections.abc.Sequence) else Any


def required(kind: Any) -> set[str]:
    """Return the keys that a TypedDict must have."""
    try:
        raw = typing.get_type_hints(kind, include_extras=True)
    except Exception:  # noqa: BLE001 - as above
        return set(kind.__required_keys__)
    return {key for key in kind.__required_keys__ if typing.get_origin(raw.get(key)) is not typing.NotRequired}
