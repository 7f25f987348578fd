"""The forms of values of the program's own classes: enums, named tuples, dataclasses, attrs classes, Pydantic models.

A record has the name of the class, and the values of its fields by name. A value is made again without its
constructor, from those alone, so no code of the program runs, and the value is what it was.

What must stay true: only a class that the program has imported by itself is used, and only if it still is of its kind
and has all the fields that are stored. A new field gets its default; without one the value is refused. An instance of
which the fields are not all is refused when it is written.
"""

from __future__ import annotations

import copy
import functools
import sys
import types
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx.persistence import tag_types, tags

if TYPE_CHECKING:
    from taskflowx.persistence.tags import Part

_NONE: Any = object()
#: how many classes are remembered with what is found of them
_CLASSES = 1_000
#: what attrs keeps of a hash; it asks for it, so an instance has to have it
_HASH = "_attrs_cached_hash"
#: where Pydantic keeps what is no field
_OF_MODELS = ("__pydantic_fields_set__", "__pydantic_extra__", "__pydantic_private__")


@functools.lru_cache(_CLASSES)
def _find(cls: type) -> tags.Writer | None:
    """Return the writer of a class of the program."""
    enum: Any = sys.modules.get("enum")
    if issubclass(cls, enum.Enum):
        return _enum
    if issubclass(cls, tuple) and _is_named(cls):
        return _named
    kind = next((kind for kind, known in _KNOWN.items() if known(cls) is not None), None)
    if kind is None:
        return tag_types.look_at_bases(cls)
    if issubclass(cls, BaseException):  # its state is in its arguments as well
        return None
    return functools.partial(_fields_of, kind)


# -- enums -----------------------------------------------------------------------------------------------------------


def _enum(part: Part) -> Any:
    value, members = part.value, type(part.value).__members__
    name = tags.check_found_again(part)
    if members.get(value._name_) is value:  # the class may have a property `name`
        return tags.tagged(part, "enum", name, value._name_)
    if not _is_flag(type(value)):
        part.refuse(f"is of type {tags.type_name(type(value))}, and none of its members")
    return tags.tagged(part, "flag", name, part.form(value._value_, 2, ".{}", "value"))


def _class(name: str, asked: str, is_one: Callable[[type], bool]) -> Any:
    cls = tags.find_class(name, asked)
    if not is_one(cls):
        raise tags.changed(name, f"it is not {asked} any more")
    return cls


def _is_enum(cls: type) -> bool:
    enum: Any = sys.modules.get("enum")
    return issubclass(cls, enum.Enum)


def _is_flag(cls: type) -> bool:
    enum: Any = sys.modules.get("enum")
    return issubclass(cls, enum.Flag)


def _build_enum(name: str, member: str) -> Any:
    cls = _class(name, "an enum member", _is_enum)
    found = cls.__members__.get(member)
    if found is None:
        raise tags.changed(name, f"it has no member {member!r}")
    return found


def _build_flag(name: str, value: Any) -> Any:
    cls = _class(name, "a flag", _is_flag)
    try:
        return cls(value)
    except ValueError as error:
        raise tags.changed(name, str(error)) from error


# -- named tuples ----------------------------------------------------------------------------------------------------


def _is_named(cls: type) -> bool:
    fields = getattr(cls, "_fields", None)
    return issubclass(cls, tuple) and type(fields) is tuple and all(type(field) is str for field in fields)


def _named(part: Part) -> Any:
    name, value = tags.check_found_again(part), part.value
    fields = type(value)._fields
    if len(fields) != tuple.__len__(value):
        part.refuse(f"has {tuple.__len__(value)} items for the fields {', '.join(fields)}")
    _check_attributes(part, ())
    return tags.tagged(part, "namedtuple", name, part.fields(dict(zip(fields, tuple.__iter__(value), strict=True))))


def _build_named(name: str, stored: dict[str, Any]) -> Any:
    cls = _class(name, "a named tuple", _is_named)
    defaults = {field: _copies(cls._field_defaults[field]) for field in getattr(cls, "_field_defaults", {})}
    values = _filled(name, stored, {field: defaults.get(field) for field in cls._fields})
    return tuple.__new__(cls, [values[field] for field in cls._fields])


# -- what has fields -------------------------------------------------------------------------------------------------

_Known = dict[str, Callable[[], Any] | None]


def _copies(default: Any) -> Callable[[], Any]:
    return functools.partial(copy.copy, default)


def _of_dataclass(cls: type) -> _Known | None:
    """Return the fields of a dataclass, each with what makes its default; None for another class."""
    if not isinstance(getattr(cls, "__dataclass_fields__", None), dict):
        return None
    import dataclasses

    known: _Known = {}
    for field in dataclasses.fields(cls):
        made = None if field.default is dataclasses.MISSING else _copies(field.default)
        known[field.name] = made if field.default_factory is dataclasses.MISSING else field.default_factory
    return known


def _of_attrs(cls: type) -> _Known | None:
    """Return the fields of an attrs class, as `_of_dataclass` does."""
    attr: Any = sys.modules.get("attr")
    fields = getattr(cls, "__attrs_attrs__", None)
    if attr is None or not isinstance(fields, tuple):
        return None
    known: _Known = {}
    for field in fields:
        default = field.default
        if isinstance(default, attr.Factory):
            known[field.name] = None if default.takes_self else default.factory
        else:
            known[field.name] = None if default is attr.NOTHING else _copies(default)
    return known


def _of_model(cls: type) -> _Known | None:
    """Return the fields of a Pydantic model, as `_of_dataclass` does."""
    base = _base_model()
    if base is None or not issubclass(cls, base):
        return None
    fields: dict[str, Any] = cls.model_fields  # type: ignore[attr-defined]
    return {
        name: None if field.is_required() else functools.partial(field.get_default, call_default_factory=True)
        for name, field in fields.items()
    }


def _base_model() -> Any:
    return getattr(sys.modules.get("pydantic.main"), "BaseModel", None)


_KNOWN: dict[str, Callable[[type], _Known | None]] = {
    "pydantic": _of_model,
    "attrs": _of_attrs,
    "dataclass": _of_dataclass,
}
_NAMES = {"pydantic": "a Pydantic model", "attrs": "an instance of attrs", "dataclass": "a dataclass"}


def _fields_of(kind: str, part: Part) -> Any:
    name, value = tags.check_found_again(part), part.value
    known = _KNOWN[kind](type(value))
    assert known is not None, "the kind was chosen by its fields"
    cls: Any = type(value)
    holder, _, fixed = _layout(cls)
    if holder is not None:
        part.refuse(
            f"is of type {tags.type_name(cls)}, {_NAMES[kind]} that is derived from {tags.type_name(holder)}: "
            "what it has beside its fields would be lost"
        )
    if kind == "pydantic":
        return _model(part, name, known)
    values = {field: getattr(value, field, _NONE) for field in known}
    for field, each in values.items():
        if each is _NONE:
            part.refuse(f"has no value for its field '{field}'")
        if field in fixed:
            part.refuse(f"has a property without a setter for its field '{field}'")
    _check_attributes(part, known)
    return tags.tagged(part, kind, name, part.fields(values))


class _Layout(NamedTuple):
    """Where instances of a class keep what they have.

    :param holder: the class not written in Python that it is derived from, None for `object` alone: that keeps
        something of its own in each instance, and makes them by its `__new__` only
    :param slots: attribute -> the descriptor of its slot
    :param fixed: the properties that cannot be set
    """

    holder: type | None
    slots: dict[str, types.MemberDescriptorType]
    fixed: frozenset[str]


@functools.lru_cache(_CLASSES)
def _layout(cls: type) -> _Layout:
    made: dict[str, Any] = {name: each for base in cls.__mro__[::-1] for name, each in vars(base).items()}
    bases = (base for base in cls.__mro__ if isinstance(vars(base).get("__new__"), types.BuiltinFunctionType))
    return _Layout(
        next((base for base in bases if base is not object), None),
        {
            name: slot
            for base in cls.__mro__[::-1]
            if "__slots__" in vars(base)
            for name, slot in vars(base).items()
            if isinstance(slot, types.MemberDescriptorType)
        },
        frozenset(name for name, each in made.items() if isinstance(each, property) and each.fset is None),
    )


def _check_attributes(part: Part, known: Collection[str]) -> None:
    """Refuse an instance with an attribute that is no field, as it would be lost."""
    cls: Any = type(part.value)
    names = [name for name in getattr(part.value, "__dict__", ()) if name not in known]
    names += [name for name, slot in _layout(cls).slots.items() if name not in known and _has(part.value, slot)]
    for name in names:
        if not _may_be_lost(cls, name):
            part.refuse(f"is of type {tags.type_name(cls)}, and has an attribute '{name}' that is no field")


def _has(value: Any, slot: types.MemberDescriptorType) -> bool:
    try:
        slot.__get__(value)
    except AttributeError:
        return False
    return True


def _may_be_lost(cls: type, name: str) -> bool:
    """Tell whether an attribute is made again when it is asked for, or says something of the class alone."""
    if name in (_HASH, "__orig_class__") or isinstance(getattr(cls, name, None), functools.cached_property):
        return True
    # attrs puts the cached properties of a class with slots into a default of its `__getattr__`
    finders = (vars(base).get("__getattr__") for base in cls.__mro__)
    defaults = [each for finder in finders for each in getattr(finder, "__defaults__", None) or ()]
    return any(isinstance(each, dict) and name in each for each in defaults)


def _model(part: Part, name: str, known: _Known) -> Any:
    """Return the form of a Pydantic model: what its own `__getstate__` gives, which pickles use."""
    state = _base_model().__getstate__(part.value)
    missing = next((field for field in known if field not in state["__dict__"]), None)
    if missing is not None:
        part.refuse(f"has no value for its field '{missing}'")
    _check_attributes(part, {*known, *_OF_MODELS})
    values = {field: state["__dict__"][field] for field in known}
    extra, private = state["__pydantic_extra__"], state["__pydantic_private__"]
    return tags.tagged(
        part,
        "pydantic",
        name,
        part.fields(values),
        sorted(state["__pydantic_fields_set__"]),
        part.form(extra, 2),
        part.form(private, 2),
    )


def _build_model(name: str, stored: dict[str, Any], given: list[str], extra: Any, private: Any) -> Any:
    cls = _class(name, _NAMES["pydantic"], lambda cls: _of_model(cls) is not None)
    values = _filled(name, stored, _of_model(cls) or {})
    state = {
        "__dict__": values,
        "__pydantic_fields_set__": set(given),
        "__pydantic_extra__": extra,
        "__pydantic_private__": private,
    }
    made = object.__new__(cls)
    _base_model().__setstate__(made, state)
    return made


def _build_fields(kind: str, name: str, stored: dict[str, Any]) -> Any:
    cls = _class(name, _NAMES[kind], lambda cls: _KNOWN[kind](cls) is not None)
    values = _filled(name, stored, _KNOWN[kind](cls) or {})
    made = object.__new__(cls)
    for field, value in values.items():
        object.__setattr__(made, field, value)  # also of a frozen one
    if kind == "attrs" and _HASH in getattr(getattr(cls.__hash__, "__code__", None), "co_names", ()):
        object.__setattr__(made, _HASH, None)
    return made


def _filled(name: str, stored: dict[str, Any], known: _Known) -> dict[str, Any]:
    """Return the values of all fields of a class: those that are stored, and defaults of new ones.

    :raises NotBuildable: when the fields do not fit
    """
    gone = [field for field in stored if field not in known]
    if gone:
        raise tags.changed(name, f"it has no field {gone[0]!r}")
    values = {}
    for field, make in known.items():
        if field in stored:
            values[field] = stored[field]
        elif make is None:
            raise tags.changed(name, f"it has a new field {field!r} without a default")
        else:
            values[field] = make()
    return values


tags.FINDERS.append(_find)
tags.BUILDERS |= {
    "enum": _build_enum,
    "flag": _build_flag,
    "namedtuple": _build_named,
    "pydantic": _build_model,
    "attrs": functools.partial(_build_fields, "attrs"),
    "dataclass": functools.partial(_build_fields, "dataclass"),
}
