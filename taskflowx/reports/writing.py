"""A report as files: the page, and a trace beside it; and the history, read back from a page."""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import stat
import threading
from typing import TYPE_CHECKING

from taskflowx import exceptions
from taskflowx._util import arguments
from taskflowx.reports import page

if TYPE_CHECKING:
    from taskflowx.persistence.history import Entry
    from taskflowx.reports.facts import Facts

#: the end of the name of a trace
TRACE = ".perfetto-trace"
_BEGIN, _END = '<pre id="history">', "</pre>"


def write(path: str | os.PathLike[str], facts: Facts, *, trace: bool = False) -> pathlib.Path:
    """Write a report; a file that was there is replaced when the new one is complete, a link, pipe or device never.

    :param path: of the page
    :param trace: whether a trace for Perfetto is written beside it, under the same name with the end `.perfetto-trace`
    :raises InvalidState: when a trace is wanted, and no history was kept
    :raises ImportError: when a trace is wanted, and the package `perfetto` is not installed
    :raises ValueError: when a trace is wanted, and the page would have its name
    """
    arguments.check_type("path", path, (str, os.PathLike), "that of a page, such as 'run.html'")
    target = pathlib.Path(path)
    if trace and (not target.name or target.suffix == TRACE):
        raise ValueError(f"path must be that of a page, as the trace beside it ends in '{TRACE}', not {str(target)!r}")
    made = _trace(facts) if trace else None
    _replace(target, page.page(facts).encode())
    if made is not None:
        _replace(target.with_suffix(TRACE), made)
    return target


def _trace(facts: Facts) -> bytes:
    if facts.entries is None:
        msg = "trace=True needs the history of the run, and none was kept: make the engine with history=True"
        raise exceptions.InvalidState(msg)
    from taskflowx.reports import trace  # who writes none does without its library

    return trace.trace(facts)


def _replace(target: pathlib.Path, content: bytes) -> None:
    if target.exists() and not stat.S_ISREG(target.stat().st_mode):  # nothing takes the place of a pipe or a device
        target.write_bytes(content)
        return
    real = pathlib.Path(os.path.realpath(target))  # nor of a link
    made = real.with_name(f".{real.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        made.write_bytes(content)
        made.replace(real)
    except BaseException as error:
        if isinstance(error, OSError):  # nobody knows the other file
            error.filename, error.filename2 = os.fspath(target), None
        with contextlib.suppress(OSError):
            made.unlink()
        raise


def history_of(path: str | os.PathLike[str]) -> list[Entry]:
    """Return the history that is in a report; times are exact to a microsecond.

    :param path: of the page
    :raises ValueError: when it is no report, or has no history
    """
    from taskflowx.persistence.history import Entry

    said = pathlib.Path(path).read_text(encoding="utf-8")
    begin = said.find(_BEGIN)
    if begin < 0:
        raise ValueError(f"{os.fspath(path)!r} is no report with a history in it")
    kept = json.loads(said[begin + len(_BEGIN) : said.index(_END, begin)])
    if kept.get("format") != page.HISTORY_FORMAT:
        raise ValueError(f"{os.fspath(path)!r} has a history of another format: {kept.get('format')!r}")
    start = kept["start"]

    def named(kind: str, row: list[int | None], place: int) -> str | None:
        number = row[place] if place < len(row) else None
        return None if number is None else kept[kind][number]

    return [
        Entry(
            kept["first"] + place,
            start + row[0] / 1e6,
            named("names", row, 1),
            row[2],
            named("states", row, 3),
            named("states", row, 4) or "",
            start + row[5] / 1e6 if len(row) > 5 and row[5] is not None else None,  # noqa: PLR2004 - as `history_json`
            named("workers", row, 6),
            named("failures", row, 7),
        )
        for place, row in enumerate(kept["entries"])
    ]
