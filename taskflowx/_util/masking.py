"""What stands in place of secrets wherever values are shown: the one place that masks.

Values are masked by name where it is known which value is a secret, and in texts, such as those of exceptions, wherever
a secret occurs. A secret of fewer than `SHORTEST` characters is masked by name alone: in a text it would be found where
it is not meant.
"""

from __future__ import annotations

import contextlib
import json
import sys
import types
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any

MASK = "***"
#: the fewest characters of a secret that is searched for in texts
SHORTEST = 4
#: attributes of exceptions that Python keeps elsewhere than in `__dict__`, and that their texts are made of
_SLOTS = ("strerror", "filename", "filename2", "text", "msg", "object", "reason")
_DEEPEST = 20  # levels of values that are looked through
_BYTES = (bytes, bytearray, memoryview)
#: attributes that say something about the class of a value: of enum members, and of Pydantic models
_ABOUT = ("__objclass__", "__pydantic_fields_set__")


def mask(value: Any, keys: Collection[str]) -> Any:
    """Return a value with the values of the given keys masked, at any depth of dicts, lists and tuples."""
    if not keys:
        return value
    if isinstance(value, dict):
        return {key: MASK if key in keys else mask(inner, keys) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        kind = list if isinstance(value, list) else tuple
        return kind(mask(inner, keys) for inner in value)
    return value


def mask_outputs(atom: Any, result: Any, keys: Collection[str]) -> Any:
    """Return the result of an atom, with the values of the given provided names and keys masked."""
    places = {place for name, place in atom.save_as.items() if name in keys} if keys else set()
    if None in places:
        return MASK
    masked = mask(result, keys)
    if places and isinstance(masked, dict):
        return {key: MASK if key in places else value for key, value in masked.items()}
    if places and isinstance(masked, (list, tuple)):
        kind = list if isinstance(masked, list) else tuple
        return kind(MASK if place in places else value for place, value in enumerate(masked))
    return masked


def texts_of(values: Iterable[Any]) -> set[str]:
    """Return the texts that give values away: those of all that is in them."""
    texts: set[str] = set()
    for leaf in _leaves(values):
        try:
            texts.update(text for text in _forms(leaf) if len(text) >= SHORTEST)
        except Exception:  # noqa: BLE001, S112 - what users' objects raise: one that cannot be shown is in no text
            continue
    return texts


def _forms(leaf: Any) -> Iterator[str]:
    """Iterate over the ways in which a part of a value is shown."""
    if isinstance(leaf, _BYTES):
        content = bytes(leaf)
        yield from (repr(content)[2:-1], content.decode("utf-8", "replace"))
        return
    if isinstance(leaf, str):
        text = str.__str__(leaf)
        yield from (text, repr(text)[1:-1], json.dumps(text)[1:-1], ascii(text)[1:-1], repr(repr(text)[1:-1])[1:-1])
    for show in (repr, str):
        with contextlib.suppress(Exception):  # what users' objects raise: it shows nothing then
            yield show(leaf)
    if isinstance(leaf, getattr(sys.modules.get("uuid"), "UUID", ())):
        uuid: Any = leaf
        yield from (uuid.hex, str(uuid.int))


def _leaves(values: Iterable[Any]) -> Iterator[Any]:
    """Iterate over the parts of values that are no containers, each object once."""
    level, seen = list(values), {}
    for _ in range(_DEEPEST + 1):
        parts: list[Any] = []
        for value in level:
            if value is None or isinstance(value, bool) or id(value) in seen:
                continue
            seen[id(value)] = value  # it is kept, so that no other object gets its id
            is_container = isinstance(value, Collection) and not isinstance(value, (str, type, *_BYTES))
            try:
                parts += _parts(value) if is_container else _attributes(value)
            except Exception:  # noqa: BLE001 - what users' objects raise; an array of no dimension is none, too
                is_container = False
            if not is_container:
                yield value
        level = parts


def _parts(value: Collection[Any]) -> list[Any]:
    """Return what is in a container."""
    inside = [*value.keys(), *value.values()] if isinstance(value, Mapping) else [*value]
    return inside + _attributes(value)


def _attributes(value: Any) -> list[Any]:
    """Return the attributes of an object, those in slots too; classes of Python itself show what is in theirs."""
    if isinstance(value, type):
        return []
    found = [inner for name, inner in getattr(value, "__dict__", {}).items() if name not in _ABOUT]
    for cls in type(value).__mro__:
        if "__slots__" not in vars(cls) or cls.__module__.partition(".")[0] in sys.stdlib_module_names:
            continue
        for name, slot in vars(cls).items():
            if isinstance(slot, types.MemberDescriptorType) and name not in _ABOUT:
                with contextlib.suppress(AttributeError):  # it has no value
                    found.append(slot.__get__(value))
    reveal = getattr(type(value), "get_secret_value", None)  # of Pydantic's secrets
    return found if reveal is None else [*found, reveal(value)]


def longest_first(texts: Iterable[str]) -> tuple[str, ...]:
    """Return texts in the order in which they are masked, as one may have another one in it."""
    return tuple(sorted(texts, key=lambda text: (-len(text), text)))


def mask_text(text: str, texts: Iterable[str]) -> str:
    """Return a text without the given ones, the longest of which come first."""
    for secret in texts:
        if secret in text:
            text = text.replace(secret, MASK)
    return text


def mask_value(value: Any, texts: Collection[str]) -> Any:
    """Return a value in which nothing has one of the given texts: it is masked in strings, else the part is."""
    if isinstance(value, str):
        return mask_text(value, texts)
    if type(value) in (list, tuple):
        return type(value)(mask_value(part, texts) for part in value)
    if type(value) is dict:
        return {mask_value(key, texts): mask_value(part, texts) for key, part in value.items()}
    return MASK if has_any(value, texts) else value


def has_any(value: Any, texts: Iterable[str]) -> bool:
    """Tell whether one of the given texts is in what a value shows of itself."""
    try:
        shown = f"{value!r} {value}"
    except Exception:  # noqa: BLE001 - what users' objects raise: what cannot be shown is not trusted
        return True
    return any(text in shown for text in texts)


def scrub(exception: BaseException, texts: Collection[str], seen: set[int] | None = None) -> None:
    """Mask the given texts in an exception, and in those that it came from, as far as their attributes hold them."""
    seen = set() if seen is None else seen
    if id(exception) in seen:
        return
    seen.add(id(exception))
    try:
        exception.args = mask_value(exception.args, texts)
        kept = {name: getattr(exception, name, None) for name in _SLOTS}
        for name, value in (*kept.items(), *vars(exception).items()):
            masked = mask_value(value, texts)
            if masked is not value:
                setattr(exception, name, masked)
    except Exception:  # noqa: BLE001, S110 - its class does not let us: who shows it looks once more
        pass
    more = [exception.__cause__, exception.__context__, *getattr(exception, "exceptions", ())]
    for other in filter(None, more):
        scrub(other, texts, seen)
