"""Texts of users as HTML, data as JSON within HTML, and what is said of a value without showing it."""

from __future__ import annotations

import collections
import html
import json
import math
import re
from typing import Any

from taskflowx.persistence import codec
from taskflowx.pictures import wording

#: what HTML forbids or drops, and what changes the direction of the text after it
_ODD = re.compile(
    "[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
_UNITS = ((1 << 30, "GB"), (1 << 20, "MB"), (1 << 10, "KB"))
_COUNTED = (dict, list, tuple, set, frozenset, collections.deque)
#: how many characters of a value are shown, and of the message of an exception where it is in a line
MOST_OF_VALUE, MOST_OF_LINE = 300, 400
MASK = "***"


def text(value: str) -> str:
    """Return text as HTML, in which it means itself; characters that nobody sees are named: ⟨U+202E⟩."""
    return html.escape(_ODD.sub(lambda found: f"⟨U+{ord(found[0]):04X}⟩", value))


def name(value: str) -> str:
    """Return a name of users as HTML within a sentence; its direction is its own."""
    return f'<bdi class="n">{text(value)}</bdi>'


def line(value: str, most: int = MOST_OF_LINE) -> str:
    """Return text as HTML in one line of at most so many characters."""
    joined = " ".join(value.split())
    return text(joined if len(joined) <= most else f"{joined[: most - 1]}…")


def as_json(value: Any) -> str:
    """Return data as JSON that stands in a page as it is: neither markup nor a character reference is in it."""
    dumped = json.dumps(value, separators=(",", ":"))
    return dumped.replace("&", "\\u0026").replace("<", "\\u003c").replace(">", "\\u003e").replace("\x7f", "\\u007f")


def seconds(value: float) -> str:
    """Return seconds for a column of numbers: to the millisecond, or three digits that count, and no exponent."""
    if value <= 0:
        return "0"
    decimals = 3 if value >= 1 else 2 - math.floor(math.log10(value))
    return f"{value:.{min(decimals, 7)}f}".rstrip("0").rstrip(".") or "0"


duration = wording.duration


def counted(number: int, what: str, several: str | None = None) -> str:
    """Return a number with its noun."""
    return f"{number:,} {what if number == 1 else several or what + 's'}"


def size(count: int) -> str:
    """Return a number of bytes with its unit."""
    for least, unit in _UNITS:
        if count >= least:
            return f"{count / least:.3g} {unit}"
    return counted(count, "byte")


def told(value: object) -> str:
    """Return the type and the size of a value; nothing else of it is looked at."""
    kind = type(value)
    if value is None:
        return "None"
    if isinstance(value, codec.Unbuilt):
        return value.kind
    if isinstance(value, str):
        return f"{kind.__name__}, {counted(len(value), 'character')}"
    if isinstance(value, (bytes, bytearray)):
        return f"{kind.__name__}, {size(len(value))}"
    if kind in _COUNTED:
        return f"{kind.__name__}, {counted(len(value), 'item')}"  # type: ignore[arg-type]
    if kind.__module__ == "numpy" and kind.__name__ == "ndarray":
        return f"ndarray, {size(int(value.nbytes))}"  # type: ignore[attr-defined]
    return kind.__name__


def shown(value: object) -> str:
    """Return a value as short text; nothing that its class does is an error."""
    try:
        said = repr(value)
    except Exception as error:  # noqa: BLE001 - the value is the user's, and so is its `repr`
        return f"{type(value).__name__} (its repr raised {type(error).__name__})"
    return said if len(said) <= MOST_OF_VALUE else f"{said[: MOST_OF_VALUE - 1]}…"


def result(value: object, *, sensitive: bool, values: bool) -> str:
    """Return what a report says of a result; the one place that decides whether a value is shown.

    :param sensitive: whether the record says that it is not to be shown
    :param values: whether the reader wants values
    """
    if sensitive:
        return MASK
    return shown(value) if values else told(value)
