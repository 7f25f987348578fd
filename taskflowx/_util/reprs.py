"""What objects are shown as: one line that tells one from another, in a debugger or a log.

What must stay true: it never raises, also for an object that is half made or has a name that cannot be shown; it takes
no lock, waits for nothing, and reads no store.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

_LONGEST = 200


def one_line(describe: Callable[[Any], str]) -> Callable[[Any], str]:
    """Have a `__repr__` return one line of at most 200 characters in angle brackets, whatever it meets.

    :param describe: returns what stands between the brackets
    """

    @functools.wraps(describe)
    def shown(self: Any) -> str:
        try:
            text = _printable(describe(self))
        except Exception:  # noqa: BLE001 - attributes of users may raise anything
            text = f"{type(self).__name__}, not fully made"
        return f"<{text}>" if len(text) <= _LONGEST - 2 else f"<{text[: _LONGEST - 5]}...>"

    return shown


def _printable(text: str) -> str:
    if text.isprintable():
        return text
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode() for one in text[:_LONGEST])


def of(thing: Any) -> str:
    """Return what a value of a user is shown as in a message: no address, and not much of a long one."""
    try:
        name = getattr(thing, "__qualname__", None)
        if isinstance(name, str) and callable(thing):
            return f"the {'class' if isinstance(thing, type) else 'function'} {name}"
        text = _ADDRESS.sub("", repr(thing))
    except Exception as error:  # noqa: BLE001 - it is the value of a user; an int may have too many digits
        text = f"a value whose repr raised {type(error).__name__}"
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 3]}..."


def whole(value: Any, form: Callable[[Any], str] = repr) -> str:
    """Return the text of a value of a user, or what it has raised: an int may have too many digits, a list be too deep.

    :param form: `repr` or `str`
    """
    try:
        return form(value)
    except Exception as error:  # noqa: BLE001 - the value is the user's, and so is its text
        return f"a value whose {form.__name__} raised {type(error).__name__}"


class Text:
    """A value of a user in the arguments of a message: its text is made where the message is, and raises nothing."""

    __slots__ = ("_value",)

    def __init__(self, value: Any) -> None:
        self._value = value

    def __str__(self) -> str:
        return whole(self._value, str)

    __repr__ = __str__


_ADDRESS = re.compile(r" at 0x[0-9a-fA-F]+")


def number_of(count: int, what: str) -> str:
    """Return a number of things: '1 atom', '3 atoms'."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def counted(states: Iterable[str | None]) -> str:
    """Return how many atoms are in which state, such as '5 SUCCESS, 1 FAILURE'."""
    return ", ".join(f"{count:,} {state}" for state, count in Counter(states).most_common()) or "no atoms"
