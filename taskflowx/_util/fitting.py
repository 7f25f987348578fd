"""Whether values of one annotated type may be given where another one is annotated; pure functions that raise nothing.

The rules are those of type checkers (PEP 484), read leniently: what cannot be said at run time fits, and the arguments
of generic types are compared covariantly, so `list[bool]` fits `list[int]`. `engines.wiring` asks.
"""

from __future__ import annotations

import collections.abc
import enum
import functools
import types
import typing
from typing import Any

from taskflowx._util.annotations import hints, members, parts, plain, raw, required

#: the classes that PEP 484 lets stand for another one
_PROMOTED: dict[Any, tuple[type, ...]] = {float: (int,), complex: (int, float)}
#: what iterating over these classes gives, as their annotations do not say it
_ITEMS: dict[Any, type] = {str: str, bytes: int, bytearray: int, memoryview: int, range: int}


def fits(given: Any, wanted: Any) -> bool:
    """Tell whether a value of an annotated type may be given where another one is annotated; True if nobody can say."""
    if given is wanted or wanted is Any or given is Any:
        return True
    try:
        return _known(given, wanted)
    except Exception:  # noqa: BLE001 - unhashable, such as Literal[[]]
        return _known.__wrapped__(given, wanted)


@functools.lru_cache(maxsize=1024)
def _known(given: Any, wanted: Any) -> bool:
    try:
        return _fits(given, wanted)
    except Exception:  # noqa: BLE001 - metaclasses of users, and types without an end
        return True


def _fits(given: Any, wanted: Any) -> bool:
    given, wanted = plain(given), plain(wanted)
    if given is wanted or given is Any or wanted is Any or wanted is object:
        return True
    several = members(given)
    if several:
        return all(_fits(one, wanted) for one in several)
    several = () if typing.get_origin(wanted) is typing.Literal else members(wanted)
    if several:
        return any(_fits(given, one) for one in several)
    if hasattr(given, "__supertype__"):
        return _fits(given.__supertype__, wanted)
    if hasattr(wanted, "__supertype__"):
        return False
    if typing.get_origin(wanted) is typing.Literal:
        allowed = {(type(value), value) for value in typing.get_args(wanted)}
        return all((type(value), value) in allowed for value in _values(given) or (NotImplemented,))
    if typing.get_origin(given) is typing.Literal:
        given = type(typing.get_args(given)[0])
    return _class_fits(given, wanted)


def _values(annotation: Any) -> tuple[Any, ...]:
    """Return the values of a type that has few."""
    if typing.get_origin(annotation) is typing.Literal:
        return typing.get_args(annotation)
    if annotation is bool:
        return (True, False)
    if annotation is type(None):
        return (None,)
    return tuple(annotation) if isinstance(annotation, enum.EnumMeta) else ()


def _class_fits(given: Any, wanted: Any) -> bool:
    (cls, args), (kind, wants) = parts(given), parts(wanted)
    if not (isinstance(cls, type) and isinstance(kind, type)):
        return True
    callables: Any = collections.abc.Callable
    if typing.is_typeddict(kind):
        return _keys_fit(cls, kind) if typing.is_typeddict(cls) else issubclass(cls, collections.abc.Mapping)
    if cls is callables and kind is callables and args and wants:
        return _calls_fit(args, wants)
    if cls is callables or issubclass(cls, type):
        if kind is type and wants and args:
            return fits(args[0], wants[0])
        return _is_protocol(kind) or issubclass(cls, kind) or (issubclass(kind, callables) and kind is not type)
    if _is_protocol(kind):
        return all(_has(cls, name, kind) for name in _protocol_members(kind))
    if not issubclass(cls, (kind, *_PROMOTED.get(kind, ()))):
        return Any in cls.__mro__
    if not wants or kind is callables:
        return True
    if cls is tuple and args:
        return _items_fit(args, wants, of_tuple=kind is tuple)
    return all(map(fits, _seen_as(cls, args, kind, len(wants)), wants))


def _calls_fit(args: tuple[Any, ...], wants: tuple[Any, ...]) -> bool:
    """Tell whether a callable may be called as another one, as far as the parameters of both are known."""
    takes, given = args[0], wants[0]
    if type(takes) is list and type(given) is list and (len(takes) != len(given) or not all(map(fits, given, takes))):
        return False
    return fits(args[-1], wants[-1])


def _items_fit(args: tuple[Any, ...], wants: tuple[Any, ...], *, of_tuple: bool) -> bool:
    """Tell whether the items of a tuple fit those of another one, or of a sequence."""
    items = [one for one in args if one is not ...]
    if not of_tuple or wants[-1] is ...:
        return all(fits(one, wants[0]) for one in items)
    if args[-1] is ...:
        return all(fits(items[0], one) for one in wants)
    return len(items) == len(wants) and all(map(fits, items, wants))


def _seen_as(cls: Any, args: tuple[Any, ...], kind: type, count: int) -> tuple[Any, ...]:
    """Return the arguments that a generic class has as one that it is derived from; nothing when they are not known.

    :param count: how many arguments that one has
    """
    if cls is kind or not isinstance(cls, type):
        return args
    bases = cls.__dict__.get("__orig_bases__")
    if bases is None and args:  # one of Python's own: those that are derived keep the arguments, or the first one
        if len(args) == count:
            return args
        if count > 1 or issubclass(cls, collections.abc.ItemsView):
            return ()
        return args[-1:] if kind is collections.abc.Awaitable else args[:1]
    if cls in _ITEMS:
        return (_ITEMS[cls],)
    known = dict(zip(getattr(cls, "__parameters__", ()), args, strict=False))
    for base in bases or cls.__bases__:
        origin, inner = parts(base)
        if isinstance(origin, type) and origin is not typing.Generic and issubclass(origin, kind):
            return _seen_as(origin, tuple(known.get(one, one) for one in inner), kind, count)
    return ()


def _is_protocol(kind: type) -> bool:
    return bool(kind.__dict__.get("_is_protocol")) and kind is not typing.Protocol


def _protocol_members(kind: type) -> set[str]:
    """Return the names that a Protocol asks for."""
    names: set[str] = set()
    for base in kind.__mro__:
        if _is_protocol(base):
            names.update(base.__dict__, raw(base))
    return {name for name in names if name not in _OF_EACH_CLASS and not name.startswith(("_abc_", "_is_"))}


class _Empty(typing.Protocol):
    """Has the names that Python gives to each class and each Protocol."""


_OF_EACH_CLASS = {*_Empty.__dict__, "__annotations__", "__annotate__", "__annotate_func__", "__annotations_cache__"}
_OF_EACH_CLASS |= {"__class_getitem__", "__slots__", "__orig_bases__", "__type_params__", "__static_attributes__"}
_OF_EACH_CLASS |= {"__firstlineno__", "__match_args__", "__non_callable_proto_members__", "__protocol_attrs__"}


def _has(cls: type, name: str, protocol: type) -> bool:
    """Tell whether objects of a class have an attribute; one that only an `__init__` may set is taken to be there."""
    if hasattr(cls, name):
        return getattr(cls, name) is not None or name != "__hash__"
    if any(name in raw(base) for base in cls.__mro__) or hasattr(cls, "__getattr__"):
        return True
    is_data = not hasattr(protocol, name) or isinstance(getattr(protocol, name), property)
    return is_data and isinstance(vars(cls).get("__init__"), types.FunctionType)


def _keys_fit(cls: type, kind: type) -> bool:
    """Tell whether a TypedDict has all keys of another one, each of a type that fits."""
    has, wants = hints(cls), hints(kind)
    return all(fits(has[key], wants[key]) if key in has else key not in required(kind) for key in wants)


def accepts(wanted: Any, value: Any) -> bool:
    """Tell whether a value is of an annotated type, as far as `isinstance` can say; True if nobody can say."""
    try:
        return _accepts(plain(wanted), value)
    except Exception:  # noqa: BLE001 - metaclasses and comparisons of users
        return True


def _accepts(wanted: Any, value: Any) -> bool:
    while hasattr(wanted, "__supertype__"):
        wanted = plain(wanted.__supertype__)
    if wanted is Any:
        return True
    if typing.get_origin(wanted) is typing.Literal:
        return any(type(one) is type(value) and one == value for one in typing.get_args(wanted))
    several = members(wanted)
    if several:
        return any(_accepts(plain(one), value) for one in several)
    kind, wants = parts(wanted)
    if not isinstance(kind, type) or hasattr(type(value), "__getattr__"):  # a proxy or a mock stands for anything
        return True
    if typing.is_typeddict(kind):
        return isinstance(value, collections.abc.Mapping) and all(key in value for key in required(kind))
    if _is_protocol(kind):
        own = getattr(value, "__dict__", ())
        return isinstance(value, type) or all(
            name in own or _has(type(value), name, kind) for name in _protocol_members(kind)
        )
    if kind is type and wants and isinstance(value, type):
        return _accepts(wants[0], value) if wants[0] is Any else fits(value, wants[0])
    return isinstance(value, (kind, *_PROMOTED.get(kind, ())))
