"""What the demo prints, and whether its checks were right.

A terminal gets bold headings, colours, and a progress bar that is drawn over itself. A file or a pipe gets
plain lines.
"""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from typing import Any

MIB = 1 << 20
BAR_LENGTH = 30
STYLES = {"bold": "1", "done": "32", "undone": "33", "FAILED": "31", "ok": "32", "WRONG": "31"}


def mebibytes(size: int) -> str:
    """Write a number of bytes for people: "64 MiB", or "7.3 MiB" when it is no whole number."""
    return f"{size // MIB} MiB" if size % MIB == 0 else f"{size / MIB:.1f} MiB"


def short(digest: str) -> str:
    """Return the beginning of a digest: enough to tell it from others."""
    return digest[:12]


class Report:
    """Prints for a person who looks on. `passed` tells whether every check was right so far."""

    def __init__(self) -> None:
        self.passed = True
        self.is_live = sys.stdout.isatty() and os.environ.get("TERM") != "dumb"
        self._is_coloured = self.is_live and not os.environ.get("NO_COLOR")
        self._width = max(60, min(96, shutil.get_terminal_size().columns))
        self._after_gap = False

    def heading(self, text: str) -> None:
        """Begin a section."""
        self._gap()
        self.line(self._styled("bold", text))
        self.line(self._styled("bold", "-" * len(text)))

    def say(self, text: str) -> None:
        """Print a paragraph between empty lines."""
        self._gap()
        for line in textwrap.wrap(text, self._width, break_on_hyphens=False):
            self.line(line)
        self._gap()

    def step(self, mark: str, name: str, note: str) -> None:
        """Print what became of one task."""
        self.line(f"  {self._styled(mark, f'{mark:<6}')}  {name:<34}  {note}")

    def table(self, rows: list[list[str]]) -> None:
        """Print rows of cells, each column as wide as its widest cell."""
        widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
        for row in rows:
            cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
            self.line("  " + "   ".join(cells).rstrip())
        self._gap()

    def check(self, claim: str, holds: bool) -> None:
        """Print whether a claim holds."""
        self.passed = self.passed and holds
        mark = "ok" if holds else "WRONG"
        self.line(f"  {self._styled(mark, f'{mark:<6}')}  {claim}")

    def bar(self, label: str, fraction: float) -> None:
        """Draw how far something has come, if this is a terminal; the next line takes its place."""
        if self.is_live:
            filled = round(fraction * BAR_LENGTH)
            print(f"\r\033[K  {label:<9} [{'#' * filled:.<{BAR_LENGTH}}] {fraction:4.0%}", end="", flush=True)

    def line(self, text: str) -> None:
        """Print one line."""
        print("\r\033[K" + text if self.is_live else text, flush=True)
        self._after_gap = not text

    def _gap(self) -> None:
        if not self._after_gap:
            self.line("")

    def _styled(self, style: str, text: str) -> str:
        return f"\033[{STYLES[style]}m{text}\033[0m" if self._is_coloured else text


class CopyProgress:
    """Shows the progress of a task: with a bar on a terminal, elsewhere with a line for each quarter."""

    def __init__(self, report: Report) -> None:
        self._report = report
        self._quarters = 0

    def on_progress(self, _event: str, details: dict[str, Any]) -> None:
        """Show what a task reports; to be registered on its notifier."""
        fraction = details["progress"]
        self._report.bar("copying", fraction)
        quarters = int(fraction * 4)
        if quarters > self._quarters and not self._report.is_live:
            self._report.line(f"          copied {fraction:4.0%}")
        self._quarters = max(quarters, self._quarters)
