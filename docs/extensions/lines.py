"""Writes each line of a program as an element, so that a narrow page breaks it and goes on further in."""

from __future__ import annotations

import html
import re
from typing import TYPE_CHECKING, Any

from pygments.formatters import HtmlFormatter
from sphinx.highlighting import PygmentsBridge

if TYPE_CHECKING:
    from collections.abc import Iterator

TAG = re.compile("<[^>]*>")


class LinesFormatter(HtmlFormatter):  # type: ignore[type-arg]
    """Writes each line as an element that knows its indentation; `pages.css` has the rest."""

    def wrap(self, source: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        """Wrap the lines, and then the block."""
        return super().wrap(self._lines(source))

    def _lines(self, source: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
        for is_line, line in source:
            text = html.unescape(TAG.sub("", line)).rstrip()
            indent = len(text) - len(text.lstrip(" "))
            shown = line.removesuffix("\n")
            yield is_line, f'<span class="code-line" style="--indent:{indent}ch">{shown}</span>\n'


def setup(app: Any) -> dict[str, bool]:
    """Have Sphinx write programs so."""
    PygmentsBridge.html_formatter = LinesFormatter
    return {"parallel_read_safe": True}
