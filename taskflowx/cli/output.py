"""What commands print: data to the standard output, everything else to the standard error.

With `--json` the standard output has JSON alone: what tasks and modules print goes to the standard error. Text is free
of what a terminal would act on. Colours are for terminals, and `NO_COLOR` switches them off.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

from taskflowx import exceptions
from taskflowx._util import reprs
from taskflowx.pictures import wording

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from rich.console import Console

MASK = "***"
#: how wide a line may be that nobody reads on a terminal: a program that reads it wants all of it
_UNLIMITED = 100_000
_USUAL = 80
_LONGEST = 2_000  # characters of a value that a person is shown


def visible(name: str, value: object, secret: Collection[str]) -> object:
    """Return a value as it may be shown: one that is secret is masked.

    :param name: the name under which it is provided or given
    :param secret: the names of sensitive values
    """
    return MASK if name in secret else value


def as_json(name: str, value: object, secret: Collection[str]) -> Any:
    """Return a value as JSON has it: in the form in which stores keep it, or its text where they keep none.

    :param name: the name under which it is provided or given
    :param secret: the names of sensitive values
    """
    from taskflowx.persistence import codec

    shown = visible(name, value, secret)
    try:
        return json.loads(codec.dumps(shown, name))
    except exceptions.StorageFailure:
        return reprs.whole(shown)


def as_text(name: str, value: object, secret: Collection[str]) -> str:
    """Return a value in one line for people.

    :param name: the name under which it is provided or given
    :param secret: the names of sensitive values
    """
    text = reprs.whole(visible(name, value, secret))
    return wording.one_line(text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…")


def note(text: str) -> None:
    """Print a line that is no data."""
    with contextlib.suppress(OSError, ValueError):  # the standard error is closed: there is nobody to tell
        print("\n".join(map(wording.legal, text.split("\n"))), file=sys.stderr, flush=True)


def print_json(data: Any) -> None:
    """Print a JSON document as one line."""
    text = json.dumps(data)
    if _kept:
        _kept[-1].write(text)
    else:
        print(text, flush=True)


def console(file: TextIO | None = None) -> Console:
    """Return a console of Rich.

    :param file: the standard output by default
    """
    from rich.console import Console

    made = Console(file=file or sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=False)
    if not made.is_terminal and "COLUMNS" not in os.environ:
        made.width = _UNLIMITED
    return made


def width() -> int:
    """Return how wide drawings are: as the terminal, or 80 columns."""
    target = console()
    return target.width if target.width < _UNLIMITED else _USUAL


def print_lines(renderable: Any) -> None:
    """Print what Rich renders on the standard output, without spaces at the ends of lines."""
    target = console()
    if target.is_terminal:
        target.print(renderable)
        return
    held = io.StringIO()
    rendered = console(held)
    rendered.width = target.width
    rendered.print(renderable)
    print("\n".join(line.rstrip() for line in held.getvalue().splitlines()), flush=True)


def tolerate_any_text() -> None:
    """Have the standard streams replace what their encoding lacks, instead of failing."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


class _Kept(NamedTuple):
    """The standard output while it is kept for JSON."""

    stream: TextIO
    number: int | None  # stands for the descriptor of the process; None where there is none

    def write(self, line: str) -> None:
        if self.number is not None and _descriptor_of(self.stream) == 1:
            with open(self.number, "wb", closefd=False) as file:
                file.write(f"{line}\n".encode())
        else:
            print(line, file=self.stream, flush=True)


def _descriptor_of(stream: TextIO) -> int | None:
    with contextlib.suppress(AttributeError, OSError, ValueError):
        return stream.fileno()
    return None


_kept: list[_Kept] = []


@contextlib.contextmanager
def reserved(*, for_json: bool) -> Iterator[None]:
    """Keep the standard output for JSON, which `print_json` writes: all else goes to the standard error, from here on.

    It is the file descriptor that is redirected, so it holds for worker processes and for programs that tasks start. It
    stays so after the block, for what threads, programs and functions of `atexit` print up to the end of the process,
    or until `release`.

    :param for_json: False to leave it as it is
    """
    if not for_json:
        yield
        return
    print(end="", flush=True)
    number = None
    with contextlib.suppress(OSError):  # there is none
        number = os.dup(1)
        os.dup2(2, 1)
    _kept.append(_Kept(sys.stdout, number))  # which need not be that of the process
    with contextlib.redirect_stdout(sys.stderr):
        yield


def release() -> None:
    """Give the standard output back to a process that goes on after a command."""
    while _kept:
        stream, number = _kept.pop()
        if number is not None:
            print(end="", file=stream, flush=True)
            os.dup2(number, 1)
            os.close(number)
