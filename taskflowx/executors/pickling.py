"""Pickles atoms, arguments and results for another process, and explains why a value cannot be pickled.

All executors that pickle use it. What must stay true: a value that another process cannot take is detected before it is
sent, and the error names the smallest part that cannot be pickled.
"""

from __future__ import annotations

import functools
import pickle
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskflowx.types.failure_parts import text_of

if TYPE_CHECKING:
    from taskflowx.executors import base

PROTOCOL = 5


def dumps(value: Any, apart: Apart | None = None) -> bytes:
    """Pickle a value; cloudpickle, if installed, takes what cannot be pickled by reference.

    :param apart: takes the buffers that do not stay in the stream
    """
    keep = None if apart is None else apart.keep
    try:
        data = pickle.dumps(value, PROTOCOL, buffer_callback=keep)
    except _NOT_BY_REFERENCE:
        if _cloudpickle() is None:
            raise
    else:
        if main_is_file() or _MAIN not in data:
            return data
        if _cloudpickle() is None:
            if getattr(value, "__module__", None) != "__main__":
                return data
            msg = f"{value!r} is defined in a program without a file, where no other process finds it; "
            raise pickle.PicklingError(msg + "install cloudpickle")
    if apart is not None:
        apart.clear()
    return _cloudpickle().dumps(value, PROTOCOL, buffer_callback=keep)  # type: ignore[no-any-return]


class Apart(list[memoryview]):
    """The buffers of one pickling that do not stay in its stream, in their order.

    :param least: the size in bytes of the smallest
    """

    def __init__(self, least: int) -> None:
        super().__init__()
        self._least = least

    def keep(self, buffer: pickle.PickleBuffer) -> bool:
        """Tell pickle whether a buffer stays in the stream; note it if not."""
        try:
            raw = buffer.raw()
        except BufferError:  # it is not contiguous
            return True
        if raw.nbytes < self._least:
            return True
        self.append(raw)
        return False


#: pickle's errors for a value that cannot be found by its name, or whose type it does not support
_NOT_BY_REFERENCE = (pickle.PicklingError, AttributeError, TypeError)


def main_is_file() -> bool:
    """Tell whether a worker can import the main module: false if it was typed in, or read from a pipe."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return file is not None and not (file.startswith("<") and file.endswith(">"))


def goes_by_name(cls: type) -> bool:
    """Tell whether `dumps` writes the name of a class alone: otherwise it writes its code, and what this uses."""
    try:
        data = pickle.dumps(cls, PROTOCOL)
    except _NOT_BY_REFERENCE:
        return False
    return main_is_file() or _MAIN not in data


@functools.cache
def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError:
        return None
    except RuntimeError as error:  # up to Python 3.11, in place of what a signal handler raises in a class's body
        raise error.__cause__ or error from None
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
    whole = path
    seen: set[int] = set()
    while True:
        seen.add(id(value))
        try:
            parts = _parts(value)
        except Exception:  # a key whose `repr` fails
            return f"{whole} has such a part"
        for step, part in parts:
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


def fails_with(value: Any, error: BaseException) -> bool:
    """Tell whether an exception came from pickling a value, and not from a signal handler: then it is repeatable."""
    try:
        dumps(value)
    except BaseException as again:
        return type(again) is type(error)
    return False


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
