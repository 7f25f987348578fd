"""Makes a page of each program in `docs/examples`: a heading, what the program shows, its code and its output.

The programs are sources of pages themselves, so links to `examples/pancakes.py` lead to the file in a checkout, and to
the page here.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

from myst_parser.parsers.sphinx_ import MystParser

MARK = "\n# Output:\n"


class ExampleParser(MystParser):
    """Reads a program as a page."""

    supported = ("example",)

    def parse(self, inputstring: str, document: Any) -> None:
        """Parse the page of a program."""
        super().parse(page_of(inputstring, Path(document["source"]).stem), document)


def page_of(source: str, name: str) -> str:
    """Return the page of a program as Markdown.

    :raises ValueError: when it does not begin with its docstring
    """
    about = ast.get_docstring(ast.parse(source)) or ""
    code, _, comment = source.partition(MARK)
    output = re.sub(r"^#(?:   )?", "", comment, flags=re.MULTILINE)
    if not code.startswith('"""'):
        raise ValueError(f"{name}.py does not begin with its docstring")
    code = code.partition('"""')[2].partition('"""\n')[2].lstrip("\n")
    title, about = heading_of(about)
    parts = [f"# {title}", about, f"`docs/examples/{name}.py`:", f"````python\n{code.rstrip()}\n````"]
    if output:
        parts += ["Its output:", f"````text\n{output.rstrip()}\n````"]
    return "\n\n".join(parts) + "\n"


def heading_of(about: str) -> tuple[str, str]:
    """Return the heading of a page and its text: the first sentence of a docstring, up to its colon or comma."""
    title, colon, rest = about.partition(": ")
    if colon and "." not in title:
        return title, rest[:1].upper() + rest[1:]
    return about.partition(".\n")[0].partition(",")[0], about


def setup(app: Any) -> dict[str, bool]:
    """Register the parser with Sphinx."""
    app.add_source_suffix(".py", "example")
    app.add_source_parser(ExampleParser)
    return {"parallel_read_safe": True}
