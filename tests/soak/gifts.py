"""Odd values that tasks return, and how they are known again where they arrive."""

from __future__ import annotations

import os
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Gift(NamedTuple):
    """One kind of values.

    :param make: makes one of a number
    :param number: returns the number of one
    :param travels: whether it can be sent to another process
    """

    make: Callable[[int], Any]
    number: Callable[[Any], int]
    travels: bool


class Quarrelsome:
    """Cannot be compared, hashed, shown, counted, iterated over, called or asked for what it has not."""

    def __init__(self, number):
        self.number = number

    def _refuse(self, *_):
        raise RuntimeError("leave me alone")

    __eq__ = __hash__ = __repr__ = __str__ = __bool__ = __len__ = __iter__ = __contains__ = __call__ = _refuse
    __getitem__ = __lt__ = __int__ = __index__ = __format__ = __enter__ = __await__ = __copy__ = __deepcopy__ = _refuse


class Unsendable(Quarrelsome):
    """Cannot be pickled either."""

    def __init__(self, number):
        super().__init__(number)
        self.lock = threading.Lock()


class Elsewhere(Quarrelsome):
    """Can be pickled, and not be read in another process."""

    def __reduce__(self):
        return _elsewhere, (os.getpid(), self.number, ValueError("not here"))


class LeavesElsewhere(Quarrelsome):
    """Raises what is no `Exception` when it is read in another process."""

    def __reduce__(self):
        return _elsewhere, (os.getpid(), self.number, SystemExit("not here"))


class LeavesWhenSent(Quarrelsome):
    """Raises what is no `Exception` when it is pickled."""

    def __reduce__(self):
        raise SystemExit("not me")


class Noisy:
    """Raises when it goes."""

    def __init__(self, number):
        self.number = number

    def __del__(self):
        raise RuntimeError("not yet")


class Number(int):
    """A number that is not equal to itself."""

    __eq__ = lambda self, other: False  # noqa: E731
    __hash__ = int.__hash__


def _elsewhere(pid, number, error):
    if os.getpid() != pid:
        raise error
    return Quarrelsome(number)


def _circle(number):
    made: list[Any] = [number]
    made.append({"back": made})
    return made


def _deep(number):
    made: Any = [number]
    for _ in range(150):
        made = [made]
    return made


def _depth(value):
    while isinstance(value[0], list):
        value = value[0]
    return value[0]


def _of(value):
    return value.number


GIFTS = {
    "huge bytes": Gift(lambda n: n.to_bytes(2, "big") + bytes(3_000_000), lambda v: int.from_bytes(v[:2], "big"), True),
    "huge text": Gift(lambda n: f"{n} " + "\udc80" * 200_000, lambda v: int(v.partition(" ")[0]), True),
    "circle": Gift(_circle, lambda v: v[1]["back"][0], True),
    "deep": Gift(_deep, _depth, True),
    "quarrelsome": Gift(Quarrelsome, _of, True),
    "noisy": Gift(Noisy, _of, True),
    "unlike itself": Gift(Number, int, True),
    "exception": Gift(KeyError, lambda v: v.args[0], True),
    "many": Gift(lambda n: {n + i: [i] for i in range(20_000)}, lambda v: next(iter(v)), True),
    "unsendable": Gift(Unsendable, _of, False),
    "elsewhere": Gift(Elsewhere, _of, False),
    "leaves elsewhere": Gift(LeavesElsewhere, _of, False),
    "leaves when sent": Gift(LeavesWhenSent, _of, False),
    "generator": Gift(lambda n: (i for i in (n,)), next, False),
}
