"""Pickles atoms, arguments and results for another process, and explains why a value cannot be pickled.

All executors that pickle use it. What must stay true: a value that another process cannot take is detected before it is
sent, and the error names the smallest part that cannot be pickled.
"""

from __future__ import annotations

import functools
import pickle
import sys
from typing import TYPE_CHECKING, Any

from taskflowx.types.failure_parts import text_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskflowx.executors import base

PROTOCOL = 5


def dumps(value: Any, keep: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    """Pickle a value; cloudpickle, if installed, takes what cannot be pickled by reference.

    :param keep: tells whether a buffer stays in the stream
    """
    if main_is_file():
        try:
            return pickle.dumps(value, PROTOCOL, buffer_callback=keep)
        except _NOT_BY_REFERENCE:
            if _cloudpickle() is None:
                raise
    return (_cloudpickle() or pickle).dumps(value, PROTOCOL, buffer_callback=keep)  # type: ignore[no-any-return]


#: pickle's errors for a value that cannot be found by its name, or whose type it does not support
_NOT_BY_REFERENCE = (pickle.PicklingError, AttributeError, TypeError)


def main_is_file() -> bool:
    """Tell whether a worker can import the main module: false if it was typed in, or read from a pipe."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return file is not None and not (file.startswith("<") and file.endswith(">"))


@functools.cache
def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError:
        return None
    return cloudpickle


def dumps_afar(value: Any) -> bytes:
    """Pickle a value for a process that has not imported the main module; definitions of that are included.

    :raises Exception: when it cannot be pickled
    """
    try:
        data = pickle.dumps(value, PROTOCOL)
    except _NOT_BY_REFERENCE:
        if _cloudpickle() is None:
            raise
    else:
        if _MAIN not in data or _cloudpickle() is None:
            return data
    return _cloudpickle().dumps(value, PROTOCOL)  # type: ignore[no-any-return]


_MAIN = b"__main__"


def culprit(value: Any, path: str) -> str:
    """Return the path to the smallest part of a value that cannot be pickled, with its type."""
    try:
        return _path_to_culprit(value, path)
    except Exception:  # a key whose `repr` fails
        return f"{path} has such a part"


def _path_to_culprit(value: Any, path: str) -> str:
    seen: set[int] = set()
    while True:
        seen.add(id(value))
        for step, part in _parts(value):
            if id(part) not in seen and not _can_be_pickled(part):
                path, value = path + step, part
                break
        else:
            return f"{path} is a {type(value).__module__}.{type(value).__qualname__}"


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()] + [(f" (the key {key!r})", key) for key in value]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [(f" (its element {part!r})", part) for part in value]
    return [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]


def _can_be_pickled(value: Any) -> bool:
    try:
        dumps(value)
    except BaseException:
        return False
    return True


def unsendable(call: base.Call, error: Exception, dumps: Callable[[Any], bytes] = dumps) -> TypeError:
    """Return the error that names the part of a call that cannot be pickled.

    :param dumps: pickles a part as for transport
    """
    for value, path in (
        (call.atom, f"atom '{call.atom.name}'"),
        *((v, f"argument '{k}'") for k, v in call.kwargs.items()),
    ):
        try:
            dumps(value)
        except Exception:
            what = culprit(value, path)
            break
    else:
        what = text_of(error)
    error_of_ours = TypeError(
        f"Atom '{call.atom.name}' cannot be sent to another process, as not all of it can be pickled: {what} "
        f"({text_of(error)})"
    )
    error_of_ours.__cause__ = error
    return error_of_ours


def unsendable_result(name: str, outcome: Any, error: BaseException | None) -> TypeError:
    """Return the error that names the part of a result that cannot be pickled.

    :param name: the name of the atom
    """
    unsendable = TypeError(
        f"The result of atom '{name}' cannot be pickled, as it must be to leave its process: "
        f"{culprit(outcome, 'result')} ({'' if error is None else text_of(error)})"
    )
    unsendable.__cause__ = error
    return unsendable


def exit_that_travels(error: BaseException) -> BaseException:
    """Return an exception that is no `Exception`, or a SystemExit that names it when it cannot be unpickled."""
    try:
        pickle.loads(pickle.dumps(error, PROTOCOL))  # noqa: S301 - made just now
    except BaseException:
        cls = type(error)
        return SystemExit(f"{cls.__module__}.{cls.__qualname__}: {text_of(error)}")
    return error
