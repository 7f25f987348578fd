"""Draws pictures into pages when these are built: of programs on the page, and of the tables of states.

    ```{picture} order.picture()
    ```

runs the program above it on the page, and shows what the expression gives.

    ```{states} flow
    ```

draws the transitions of flows, tasks, retries or jobs from the tables in `taskflowx.states`.
"""

from __future__ import annotations

import contextlib
import html
import io
import linecache
import logging
import math
import re
import tempfile
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.util.docutils import SphinxDirective

from taskflowx import states

PROGRAM = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"# (\w+\.py)\n")
DARK = re.compile(r"@media\(prefers-color-scheme:dark\)\{(.*?\})\}", re.DOTALL)

#: the file of a program, as tracebacks and pictures call it
ABOVE = "<program above the picture>"

COLUMN, ROW, WIDE, HIGH, EDGE = 176, 84, 132, 34, 12
#: the smallest share of its size that a diagram of states is shown at: its text can be read; below that it is scrolled
LEAST = 0.93
#: kind -> state -> column and row
PLACES: dict[str, dict[str, tuple[float, float]]] = {
    "flow": {
        "PENDING": (0, 0),
        "RUNNING": (1.4, 0),
        "SUCCESS": (2.8, 0),
        "FAILURE": (2.8, 1),
        "REVERTED": (2.8, 2),
        "SUSPENDING": (1.4, 2),
        "SUSPENDED": (0, 2),
        "RESUMING": (0.5, 3.2),
    },
    "task": {
        "IGNORE": (0, 0),
        "PENDING": (0, 1),
        "RUNNING": (1, 1),
        "SUCCESS": (2, 1),
        "FAILURE": (1, 2),
        "REVERTING": (2, 2),
        "REVERTED": (1, 3),
        "REVERT_FAILURE": (2, 3),
    },
    "job": {"UNCLAIMED": (0, 0), "CLAIMED": (1, 0), "COMPLETE": (2, 0)},
}
PLACES["retry"] = {**PLACES["task"], "RETRYING": (1.5, 0)}
TABLES = {"flow": "_FLOW_MOVES", "task": "_TASK_MOVES", "retry": "_RETRY_MOVES", "job": "_JOB_MOVES"}
#: links that bend, and by how much, to the left of their way
BENDS = {("SUCCESS", "PENDING"): -32}
STYLE = (
    ".st{font:13px sans-serif}.st rect{fill:#f5f7f9;stroke:#7a8699}.st text{fill:#1b2029;text-anchor:middle}"
    ".st path{fill:none;stroke:#7a8699;stroke-width:1.3}.st .st-head{fill:#7a8699;stroke:none}"
    "@media(prefers-color-scheme:dark){.st rect{fill:#1d2128}.st text{fill:#eceff3}}"
)


class PictureDirective(SphinxDirective):
    """A picture of the program above."""

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Run the program, and return its picture."""
        page = Path(self.env.doc2path(self.env.docname)).read_text(encoding="utf-8")
        above = PROGRAM.findall("".join(page.splitlines(keepends=True)[: self.lineno]))
        if not above:
            raise self.error(f"there is no program above the picture {self.arguments[0]}")
        return [part(drawn(above, self.arguments[0]), "Picture of the program above")]


class StatesDirective(SphinxDirective):
    """A diagram of the states of flows, tasks, retries or jobs."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Return the diagram."""
        kind = self.arguments[0]
        return [part(diagram(PLACES[kind], getattr(states, TABLES[kind])), f"The states of a {kind}")]


def part(svg: str, label: str) -> nodes.Node:
    """Return a picture as a part of a page, that is light and dark as the page is."""
    svg = DARK.sub(r"body[data-theme=dark]{\1}@media(prefers-color-scheme:dark){body:not([data-theme=light]){\1}}", svg)
    return nodes.raw("", f'<div class="drawn" role="img" aria-label="{label}">{svg}</div>', format="html")


def drawn(programs: list[str], expression: str) -> str:
    """Run the last program in a folder that has those before it which are files, and return its picture as SVG.

    It runs in this process: an interpreter for each picture would take longer than all pages.
    """
    names: dict[str, Any] = {"__name__": "__main__"}
    logging.disable(logging.INFO)  # it would be taken for that of the build
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder), contextlib.redirect_stdout(io.StringIO()):
        for program in programs:
            if named := FILE.match(program):
                Path(folder, named[1]).write_text(program, encoding="utf-8")
        linecache.cache[ABOVE] = (0, None, programs[-1].splitlines(keepends=True), ABOVE)  # pictures show lambdas
        exec(compile(programs[-1], ABOVE, "exec"), names)  # noqa: S102 - a program of a page
        svg = str(eval(expression, names).svg)  # noqa: S307 - as above
    logging.disable(logging.NOTSET)
    return svg


def diagram(places: dict[str, tuple[float, float]], moves: dict[str, frozenset[str]]) -> str:
    """Return the transitions between states as SVG.

    :raises KeyError: when a state has no place
    """
    top = min(row for _, row in places.values())
    at = {state: (EDGE + WIDE / 2 + c * COLUMN, EDGE + HIGH / 2 + (r - top) * ROW) for state, (c, r) in places.items()}
    pairs = [(one, other) for one, others in moves.items() for other in sorted(others)]
    rise = EDGE + 40 if ("SUCCESS", "PENDING") in pairs else 0
    at = {state: (x, y + rise) for state, (x, y) in at.items()}
    wide = max(x for x, _ in at.values()) + WIDE / 2 + EDGE
    high = max(y for _, y in at.values()) + HIGH / 2 + EDGE
    links = [
        link(at[one], at[other], BENDS.get((one, other), 8 if (other, one) in pairs else 0)) for one, other in pairs
    ]
    boxes = [
        f'<g><rect x="{x - WIDE / 2:.1f}" y="{y - HIGH / 2:.1f}" width="{WIDE}" height="{HIGH}" rx="6"/>'
        f'<text x="{x:.1f}" y="{y + 4.5:.1f}">{html.escape(state)}</text></g>'
        for state, (x, y) in at.items()
    ]
    size = f'viewBox="0 0 {wide:.0f} {high:.0f}" width="{wide:.0f}" height="{high:.0f}"'
    style = f"style='max-width:100%;height:auto;min-width:{LEAST * wide:.0f}px'"
    body = "".join((*links, *boxes))
    return f'<svg xmlns="http://www.w3.org/2000/svg" class="st" {size} {style}><style>{STYLE}</style>{body}</svg>'


def link(start: tuple[float, float], end: tuple[float, float], bend: float) -> str:
    """Return an arrow from box to box, which bends to the left of its way."""
    (x1, y1), (x2, y2) = start, end
    length = math.hypot(x2 - x1, y2 - y1)
    left = ((y2 - y1) / length, -(x2 - x1) / length)
    middle = ((x1 + x2) / 2 + left[0] * bend * 2, (y1 + y2) / 2 + left[1] * bend * 2)
    shift = (left[0] * bend, left[1] * bend) if abs(bend) < EDGE else (0, 0)  # two ways side by side
    start = outside(start, (x1 + shift[0], y1 + shift[1]), middle)
    end = outside(end, (x2 + shift[0], y2 + shift[1]), middle)
    along = math.atan2(end[1] - middle[1], end[0] - middle[0]) if bend else math.atan2(y2 - y1, x2 - x1)
    wings = [(end[0] - 9 * math.cos(along + turn), end[1] - 9 * math.sin(along + turn)) for turn in (0.42, -0.42)]
    head = " ".join(f"{x:.1f},{y:.1f}" for x, y in (end, *wings))
    way = f"M{start[0]:.1f} {start[1]:.1f}Q{middle[0]:.1f} {middle[1]:.1f} {end[0]:.1f} {end[1]:.1f}"
    return f'<path d="{way}"/><polygon class="st-head" points="{head}"/>'


def outside(box: tuple[float, float], begin: tuple[float, float], toward: tuple[float, float]) -> tuple[float, float]:
    """Return the point where a way that begins within a box leaves it."""
    dx, dy = toward[0] - begin[0], toward[1] - begin[1]
    shares = [
        (center + math.copysign(half, way) - at) / way
        for center, at, way, half in ((box[0], begin[0], dx, WIDE / 2), (box[1], begin[1], dy, HIGH / 2))
        if way
    ]
    share = min(shares)
    return begin[0] + dx * share, begin[1] + dy * share


def setup(app: Any) -> dict[str, bool]:
    """Register the directives with Sphinx."""
    app.add_directive("picture", PictureDirective)
    app.add_directive("states", StatesDirective)
    return {"parallel_read_safe": True}
