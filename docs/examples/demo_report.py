"""Prints for a person who looks on, and keeps which checks failed.

On a terminal there are bold headings, colours and a progress bar that is drawn again in its place. What goes to a
file or a pipe is plain lines.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import Any

MIB = 1 << 20
BAR = 30
STYLES = {"bold": "1", "done": "32", "undone": "33", "FAILED": "31", "ok": "32", "WRONG": "31"}


def mebibytes(size: int) -> str:
    """Return a number of bytes as people write it: "64 MiB", or "7.3 MiB" when it is no whole number."""
    return f"{size // MIB} MiB" if size % MIB == 0 else f"{size / MIB:.1f} MiB"


def short(digest: str | None) -> str:
    """Return the beginning of a digest, which is enough to tell it from others."""
    return f"{digest[:12]}..." if digest else "-"


class Report:
    """What the program says. `passed` is whether all checks were right so far."""

    def __init__(self) -> None:
        self.passed = True
        self._live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._coloured = self._live and not os.environ.get("NO_COLOR")
        self._width = max(60, min(96, shutil.get_terminal_size().columns))
        self._quarter = 0

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._line()
        self._line(self._styled("bold", text))
        self._line("-" * len(text))

    def say(self, text: str) -> None:
        """Print a paragraph, with an empty line before and after it."""
        self._line()
        for line in textwrap.wrap(text, self._width):
            self._line(line)
        self._line()

    def step(self, mark: str, name: str, note: str) -> None:
        """Print how one task ended."""
        self._line(f"  {self._styled(mark, f'{mark:<6}')}  {name:<36}  {note}")

    def table(self, rows: list[list[str]]) -> None:
        """Print rows of cells, each column as wide as its widest cell."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = (f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True))
            self._line("  " + "   ".join(cells).rstrip())

    def check(self, claim: str, holds: bool) -> None:
        """Print whether a claim holds; one that does not makes the program fail."""
        self.passed = self.passed and holds
        mark = "ok" if holds else "WRONG"
        self._line()
        self._line(f"  {self._styled(mark, f'{mark:<6}')}  {claim}")

    def progress(self, _event: str, details: dict[str, Any]) -> None:
        """Show the progress of a task: a bar on a terminal, else a line for each quarter. A listener for notifiers."""
        fraction = details["progress"]
        if self._live:
            self.bar(fraction)
