"""Checks callers' arguments, with messages that name the argument, the accepted values, and the given value.

Called where a name or an object is declared or requested, never for each atom of a run. A rejected value has the wrong
type (TypeError) or is not one of those accepted (ValueError). Duck typing is accepted where attributes suffice,
whatever the class: users' tests pass mocks.
"""

from __future__ import annotations

import math
import types as kinds
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NoReturn

from taskflowx._util import reprs

#: flags of code objects, as in `inspect`, whose import takes longer than most imports here
CO_VARARGS, CO_VARKEYWORDS, CO_GENERATOR, CO_COROUTINE, CO_ASYNC_GENERATOR = 0x4, 0x8, 0x20, 0x80, 0x200
_CENTURY = 3.2e9  # seconds
_ASYNC, _YIELDS = CO_COROUTINE | CO_ASYNC_GENERATOR, CO_GENERATOR | CO_ASYNC_GENERATOR
_WORDS = {"1": True, "t": True, "true": True, "on": True, "y": True, "yes": True}
_WORDS |= {"0": False, "f": False, "false": False, "off": False, "n": False, "no": False}


def refuse(name: str, value: Any, accepted: str, kind: type[Exception] = TypeError) -> NoReturn:
    """Raise the error for a value that is not accepted."""
    shown = repr(value) if isinstance(value, type) else reprs.of(value)
    raise kind(f"{name} must be {accepted}, not {shown} ({type(value)})")


def check_type(name: str, value: Any, types: type | tuple[type, ...], accepted: str) -> None:
    """Raise an error for a value that is not of one of the types."""
    if not isinstance(value, types):
        refuse(name, value, accepted)


def check_like(name: str, value: Any, attributes: Collection[str], accepted: str) -> None:
    """Raise an error for an object that lacks one of the attributes, and for a class in place of an object."""
    if isinstance(value, type) or not all(hasattr(value, attribute) for attribute in attributes):
        refuse(name, value, accepted)


def check_choice(name: str, value: Any, choices: tuple[Any, ...]) -> None:
    """Raise an error for a value that is none of the choices."""
    if value not in choices:
        refuse(name, value, f"one of {', '.join(map(repr, choices))}", ValueError)


def check_number(name: str, value: Any, accepted: str, least: float | None = None) -> None:
    """Raise an error for a value that is no number, or is less than the minimum; NaN is never large enough."""
    from numbers import Number

    is_number = isinstance(value, Number) and not isinstance(value, complex)
    if not is_number:
        refuse(name, value, accepted)
    if least is not None and not _as_float(value) >= least:
        refuse(name, value, accepted, ValueError)


def _as_float(value: Any) -> float:
    """Return a number as a float, even if it is too large for one."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def to_seconds(name: str, value: Any, accepted: str, least: float) -> float:
    """Return a number of seconds that can be added to any clock: longer times are limited to a century.

    :raises TypeError, ValueError: when it is no number, or less than the minimum
    """
    check_number(name, value, accepted, least)
    return min(_as_float(value), _CENTURY)


def to_finite(name: str, value: Any, accepted: str, least: float | None = 0) -> float:
    """Return a number as a float: no bool, NaN or infinity.

    :param least: the smallest one; None for any that is more than 0
    :raises TypeError, ValueError: when it is no such number
    """
    if isinstance(value, bool):
        refuse(name, value, accepted)
    check_number(name, value, accepted)
    number = _as_float(value)
    if not math.isfinite(number) or not (number > 0 if least is None else number >= least):
        refuse(name, value, accepted, ValueError)
    return number


def check_keywords(name: str, given: Iterable[str], known: Collection[str]) -> None:
    """Raise an error for a keyword that nobody knows, as Python does for a function."""
    for keyword in given:
        if keyword not in known:
            hint = did_you_mean(keyword, known) or f"it takes {sorted(known)} too"
            raise TypeError(f"{name} got an unexpected keyword argument '{keyword}'; {hint}")


def did_you_mean(name: str, known: Collection[str]) -> str:
    """Return a question about the name that was likely meant; '' when there is none."""
    import difflib  # only an error needs it

    close = difflib.get_close_matches(name, known, n=1)
    return f"did you mean '{close[0]}'?" if close else ""


def check_iterable(name: str, value: Any, accepted: str) -> None:
    """Raise an error for a value that is not iterable, and for text, whose letters are never meant."""
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        refuse(name, value, accepted)


def check_mapping(name: str, value: Any, accepted: str) -> None:
    """Raise an error for a value that is no mapping."""
    if not isinstance(value, Mapping) and not (hasattr(value, "keys") and hasattr(value, "__getitem__")):
        refuse(name, value, accepted)


def check_named_values(name: str, value: Any) -> None:
    """Raise an error for a value that is no mapping of names (str) to values."""
    if type(value) is not dict:
        check_mapping(name, value, "a dict of name -> value")
    for key in value:
        if not isinstance(key, str):
            refuse(f"Each name in {name}", key, "a str")


def to_named_values(name: str, value: Any) -> Any:
    """Return a mapping of names (str) to values as it is, and pairs of them as a dict; other values raise an error."""
    if type(value) is not dict and not hasattr(value, "keys"):
        try:
            value = dict(value)
        except (TypeError, ValueError):
            refuse(name, value, "a dict of name -> value")
    check_named_values(name, value)
    return value


def check_callable(name: str, value: Any) -> None:
    """Raise an error for a value that cannot be called."""
    if not callable(value):
        refuse(name, value, "callable", ValueError)


def check_callback(name: str, value: Any, *, awaited: bool = False) -> None:
    """Raise an error for an invalid callback, such as a coroutine function that would never be awaited.

    :param awaited: whether what it returns is awaited, so that it may be a coroutine function
    """
    check_callable(name, value)
    yields = is_generator(value)
    if yields and not is_async(value):
        refuse(name, value, "a plain function and no generator function, of which a call runs nothing", ValueError)
    if awaited and not yields:
        return
    if is_async(value):
        refuse(name, value, "a plain function and no coroutine function, which nobody awaits", ValueError)


def unawaited(what: str, coroutine: Any) -> TypeError:
    """Return the error for a coroutine that a plain function has returned, and close it: nothing of it has run.

    :param what: names the function
    """
    coroutine.close()
    return TypeError(
        f"{what} returned a coroutine: write it as an `async def`, also where it only calls one, and run it with arun "
        "or executor='asyncio'"
    )


def check_hook(atom: Any, name: str, value: Any) -> None:
    """Raise an error for a hook that has returned a coroutine where nobody awaits it."""
    if type(value) is kinds.CoroutineType:
        raise unawaited(f"{name} of task '{atom.name}'", value)


def is_async(function: Any) -> bool:
    """Tell whether a call of it only returns a coroutine or an asynchronous generator, which has not started."""
    code = getattr(function, "__code__", None)
    if code is not None:
        return bool(code.co_flags & _ASYNC)
    import inspect  # rarely needed: most callables are functions or methods

    parts = (function, getattr(type(function), "__call__", None))  # noqa: B004 - it runs on a call of an object
    return any(inspect.iscoroutinefunction(part) or inspect.isasyncgenfunction(part) for part in parts)


def is_generator(function: Any) -> bool:
    """Tell whether a call of it only returns a generator, an asynchronous one too, which has not started."""
    code = getattr(function, "__code__", None)
    if code is not None:
        return bool(code.co_flags & _YIELDS)
    import inspect  # as above

    parts = (function, getattr(type(function), "__call__", None))  # noqa: B004 - it runs on a call of an object
    return any(inspect.isgeneratorfunction(part) or inspect.isasyncgenfunction(part) for part in parts)


def to_bool(name: str, value: Any) -> bool:
    """Return a boolean, which in configuration files is a word or a digit.

    :raises TypeError, ValueError: when it is none
    """
    if value is None or isinstance(value, int):  # bool is a subclass of int
        return bool(value)
    accepted = f"a bool, or one of {sorted(_WORDS)} (in any case)"
    if not isinstance(value, str):
        refuse(name, value, accepted)
    word = value.strip().lower()
    if word not in _WORDS:
        refuse(name, value, accepted, ValueError)
    return _WORDS[word]
