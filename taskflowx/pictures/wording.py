"""Names and numbers as short text, and how wide that is.

The widths are those of Arial, which Helvetica and Liberation Sans share; a reader without these gets another font, so
there is some room for it.
"""

from __future__ import annotations

import ast
import functools
import inspect
import linecache
import re
import types
import unicodedata
from typing import TYPE_CHECKING, Any

from taskflowx import states
from taskflowx.pictures import model

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from taskflowx.types.failure import Failure

FONT = "Arial, Helvetica, 'Liberation Sans', sans-serif"
#: characters by their width, in thousandths of the size of the font
_WIDTHS = (
    (240, "ijl'|"),
    (290, "ftI.,:;!/\\[] "),
    (350, 'r-()`"{}'),
    (500, "szckvxyJ"),
    (860, "mMW@%"),
    (740, "wCGOQDNRHU&"),
    (680, "ABEFKLPSTVXYZ"),
)
_USUAL, _WIDE = 570, 1000
_ROOM = 1.08
_KNOWN = {ord(sign): width for width, signs in _WIDTHS for sign in signs}

#: what XML forbids, what a terminal would act on, and what changes the direction of the text after it
_ILLEGAL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_MOST_NAMES = 2
#: the size of the font of labels, and the widest condition in one, in pixels
_LABEL, _CONDITION = 11, 210
_MOST_VALUES = 3
_SHORT_VALUE = 24
_MINUTE, _HOUR = 60, 3600
#: seconds from which a unit is used, how many of it are a second, its sign
_UNITS: tuple[tuple[float, float, str], ...] = ((0.1, 1, "s"), (1e-4, 1e3, "ms"), (0, 1e6, "µs"))


def legal(text: str) -> str:
    """Return text with a sign in the place of each character that a document cannot hold."""
    return _ILLEGAL.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str) -> str:
    """Return text as one line that a document can hold."""
    return legal(" ".join(text.split()))


@functools.lru_cache(maxsize=4096)
def _width_of(sign: str) -> int:
    known = _KNOWN.get(ord(sign))
    if known is not None:
        return known
    if unicodedata.combining(sign):
        return 0
    return _WIDE if unicodedata.east_asian_width(sign) in "WF" else _USUAL


def width(text: str, size: float) -> float:
    """Return about how wide a text is.

    :param size: the size of the font, in pixels
    """
    return sum(map(_width_of, text)) * size * _ROOM / 1000


def cut(text: str, size: float, most: float) -> str:
    """Return a text of at most a width, with an ellipsis in the middle if it had to be cut.

    :param size: the size of the font, in pixels
    :param most: the width, in pixels
    """
    if len(text) * size < most or width(text, size) <= most:
        return text
    room = (most - width("…", size)) / 2
    return f"{_fitting(text, size, room)}…{_fitting(text[::-1], size, room)[::-1]}"


def shortened(text: str, size: float, most: float) -> str:
    """Return a text of at most a width, with an ellipsis at its end if it had to be cut."""
    if width(text, size) <= most:
        return text
    return f"{_fitting(text, size, most - width('…', size)).rstrip()}…"


def wrapped(parts: list[str], size: float, most: float) -> list[str]:
    """Return the parts of an enumeration in lines of at most a width, where each part has room in a line."""
    lines = parts[:1]
    for part in parts[1:]:
        joined = f"{lines[-1]}, {part}"
        if len(lines) > 1 and width(joined, size) <= most:
            lines[-1] = joined
        else:
            lines.append(part)
    return lines


def _fitting(text: str, size: float, room: float) -> str:
    for end, sign in enumerate(text):
        room -= width(sign, size)
        if room < 0:
            return text[:end]
    return text


def names_of(names: Iterable[str]) -> str:
    """Return names in one line, the first of them when they are many."""
    several = [one_line(str(name)) for name in names]
    more = len(several) - _MOST_NAMES
    return ", ".join(several) if more <= 1 else f"{', '.join(several[:_MOST_NAMES])} +{more}"


def label_of(link: model.Link) -> str:
    """Return what is written at a link: the values, and who guards it."""
    parts = [names_of(link.names)] if link.names else []
    if link.deciders:
        parts.append(f"if {names_of(cut(text, _LABEL, _CONDITION) for text in link.deciders.values())}")
    return " · ".join(parts)


def condition_of(decider: object) -> str:
    """Return what a decider asks: its name, or what a lambda returns."""
    if isinstance(decider, functools.partial):
        name = condition_of(decider.func)
        given = [*map(_value, decider.args), *(f"{key}={_value(value)}" for key, value in decider.keywords.items())]
        return f"{name}({', '.join(given)})" if given else name
    name = str(getattr(decider, "__name__", type(decider).__name__))
    if name != "<lambda>" or not isinstance(decider, types.FunctionType):
        return name
    return one_line(_source_of(decider) or f"lambda {', '.join(inspect.signature(decider).parameters)}: …")


#: so many instructions has a lambda that returns a constant in Python 3.12, which gives that no place; others have more
_OF_A_CONSTANT = 2


def _source_of(function: types.FunctionType) -> str:
    """Return the expression of a lambda as it is written, if that is one line; "" otherwise."""
    positions = list(function.__code__.co_positions())
    if len(positions) == _OF_A_CONSTANT:
        return repr(function.__code__.co_consts[-1])
    places = [place for place in positions if place[3]]
    lines = {number for place in places for number in place[:2]}
    if len(lines) != 1:
        return ""
    line = linecache.getline(function.__code__.co_filename, lines.pop() or 0, function.__globals__).encode()
    begin, end = min(place[2] or 0 for place in places), max(place[3] or 0 for place in places)
    while True:  # the code has no place for a parenthesis at either end
        source = line[begin:end].decode(errors="replace")
        try:
            ast.parse(source, mode="eval")
        except SyntaxError:
            if line[:begin].endswith(b"("):
                begin -= 1
            elif line[end:].startswith(b")"):
                end += 1
            else:
                return ""
        else:
            return source


def duration(seconds: float) -> str:
    """Return a duration with its unit, in three digits at most."""
    if not seconds > 0:  # NaN, too
        return "0 s"
    if seconds >= _HOUR:
        return f"{seconds // _HOUR:.0f} h {seconds % _HOUR // _MINUTE:.0f} min"
    if seconds >= _MINUTE:
        return f"{seconds // _MINUTE:.0f} min {seconds % _MINUTE:.0f} s"
    _, factor, unit = next(row for row in _UNITS if seconds >= row[0])
    return f"{seconds * factor:.3g} {unit}"


def status_line(status: model.Status) -> str:
    """Return what is known about an atom, without its failure; "" for nothing."""
    if status.state is None:
        return ""
    parts = [state(status.state)]
    if status.progress is not None and status.state == states.RUNNING:
        parts.append(f"{status.progress:.0%}")
    if status.seconds is not None:
        parts.append(duration(status.seconds))
    if status.attempts > 1:
        parts.append(f"{status.attempts} attempts")
    return " · ".join(parts)


def state(name: str) -> str:
    """Return the name of a state, with its sign."""
    return f"{model.SIGNS[name]} {name}" if name in model.SIGNS else name


def failure_line(failure: Failure) -> str:
    """Return the class and the first line of the text of a failure."""
    kind = next(iter(failure), "Failure").rpartition(".")[2]
    first = next(iter(failure.exception_str.strip().splitlines()), "")
    return one_line(f"{kind}: {first}" if first else kind)


def counts(tasks: int, by_state: Mapping[str, int]) -> list[str]:
    """Return how many tasks there are, and how many are in each state, as parts of a line."""
    told = [f"{by_state[name]:,} {name}" for name in model.SIGNS if by_state.get(name)]
    told += [f"{count:,} {name}" for name, count in by_state.items() if name not in model.SIGNS]
    return [f"{tasks:,} {'task' if tasks == 1 else 'tasks'}", *told]


def worst(by_state: Mapping[str, int]) -> str:
    """Return the state that stands for many: that which asks most for attention, "" when none is known."""
    return next((name for name in model.SIGNS if by_state.get(name)), "")


def title_of(retry: object, parameters: Mapping[str, Any]) -> str:
    """Return the class of a retry with its parameters, as it would be called."""
    given = ", ".join(f"{name}={_value(value)}" for name, value in parameters.items())
    return one_line(f"{type(retry).__qualname__}({given})" if given else type(retry).__qualname__)


def _value(value: Any) -> str:
    if isinstance(value, list):
        more = [f"+{len(value) - _MOST_VALUES}"] if len(value) > _MOST_VALUES else []
        return f"[{', '.join([*map(_value, value[:_MOST_VALUES]), *more])}]"
    try:
        text = repr(value)
    except Exception:  # noqa: BLE001 - the value is the user's, and so is its `repr`
        text = f"<{type(value).__name__}>"
    return text if len(text) <= _SHORT_VALUE else f"{text[: _SHORT_VALUE - 1]}…"
