"""Exceptions without their frames: the places of frames, and copies of exceptions that have none.

`Failure` keeps these for finished attempts. What must stay true: nothing here changes the user's exception, and the
kept objects hold no frame, so that the variables of frames can be freed.
"""

from __future__ import annotations

import itertools
import linecache
import traceback
from types import CodeType, FrameType, TracebackType
from typing import Any

from taskflowx import exceptions

#: (code, instruction, line) of each frame
Places = tuple[tuple[CodeType, int, int], ...]

_ATOMIC = frozenset((str, int, float, bool, type(None)))


def places_of(trace: TracebackType | None) -> Places:
    """Return the places of the frames of a traceback; this is cheap, and holds only code objects."""
    places = []
    while trace is not None:
        frame = trace.tb_frame
        code = frame.f_code
        if code.co_filename not in linecache.cache:
            linecache.lazycache(code.co_filename, frame.f_globals)  # the source may be in an archive
        places.append((code, trace.tb_lasti, trace.tb_lineno))
        trace = trace.tb_next
    return tuple(places)


def trace_of(places: Places) -> str:
    """Format places as `traceback.format_tb` formats their frames."""
    frames = []
    for code, instruction, line in places:
        at, end, start_column, end_column = None, None, None, None
        if instruction >= 0:
            at, end, start_column, end_column = next(itertools.islice(code.co_positions(), instruction // 2, None))
        frames.append(
            traceback.FrameSummary(
                code.co_filename,
                line if at is None else at,
                code.co_name,
                lookup_line=False,
                end_lineno=end,
                colno=start_column,
                end_colno=end_column,
            )
        )
    linecache.checkcache()
    return "".join(traceback.StackSummary.from_list(frames).format())


def copy_of(exception: BaseException, deep: int = 10) -> BaseException | None:
    """Return a copy of this exception without frames, in its arguments and attributes too, or None if impossible.

    :param deep: the maximum nesting of exceptions in each other
    """
    if isinstance(exception, BaseExceptionGroup):
        return None
    kind = type(exception)
    try:
        args = exception.args
        if isinstance(exception, OSError):
            args = OSError.__reduce__(exception)[1]  # type: ignore[assignment]  # with its file names
        if args:
            args = tuple([arg if type(arg) in _ATOMIC else _part_of(arg, deep) for arg in args])
        copied = exceptions.rebuild(kind, args)
        attributes = exception.__dict__
        if attributes:
            copied.__dict__.update({name: _part_of(value, deep) for name, value in attributes.items()})
        says_its_args = kind.__str__ is BaseException.__str__
        return copied if says_its_args or str(copied) == str(exception) else None
    except Exception:  # noqa: BLE001 - a user's class may not be copyable
        return None


def _part_of(part: Any, deep: int) -> Any:
    """Return a copy of a part of an exception, without frames.

    :raises ValueError: when that is impossible
    """
    if isinstance(part, BaseException):
        part = copy_of(part, deep - 1) if deep else None
        if part is None:
            raise ValueError("it has frames")
    elif hasattr(type(part), "_tfx_past"):  # a failure
        return part._tfx_past()  # noqa: SLF001 - its other half
    elif isinstance(part, (TracebackType, FrameType)):
        raise ValueError("it is one")
    return part
