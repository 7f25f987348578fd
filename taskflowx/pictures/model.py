"""What is drawn: boxes within boxes, and links between them.

`reading` makes them of a flow, `layout` sets their places, and `svg` and `texts` write them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import states

if TYPE_CHECKING:
    from taskflowx.types.failure import Failure

    Point = tuple[float, float]

# Kinds of boxes.
LINEAR, UNORDERED, GRAPH = "linear", "unordered", "graph"
TASK, RETRY = "task", "retry"
#: a nested flow as one box
FOLDED = "folded"
#: consecutive members of a flow as one box
GAP = "gap"

FLOWS = (LINEAR, UNORDERED, GRAPH)
ATOMS = (TASK, RETRY)

#: the sign of each state, for readers who do not see its colour, in the order in which counts are told
SIGNS = {
    states.FAILURE: "✗",
    states.REVERT_FAILURE: "⚠",
    states.RUNNING: "▶",
    states.REVERTING: "◀",
    states.RETRYING: "↻",
    states.SUSPENDED: "‖",
    states.SUCCESS: "✓",
    states.REVERTED: "↶",
    states.IGNORE: "–",
    states.PENDING: "○",
}


class Status(NamedTuple):
    """What is known about one atom in a run.

    `seconds` is the duration of its last call, `progress` a number from 0.0 to 1.0, `attempts` how often it was called,
    as far as these are on record.
    """

    state: str | None
    seconds: float | None = None
    progress: float | None = None
    attempts: int = 0
    failure: Failure | None = None


class Box:
    """An atom, a flow, or what stands for many of them.

    `lines` is its text, `why` the failure in it, and `tip` what is shown when the pointer is on it; `why` and `state`
    are "" when there is none. A flow has its `head`, the retry, and `members` with the `links` between them. The layout
    sets `shown`, the text as it is cut, and the place in pixels, from the corner of the picture.
    """

    # fmt: off
    __slots__ = (
        "kind", "name", "lines", "why", "tip", "state", "head", "members", "links",
        "shown", "x", "y", "width", "height",
    )
    # fmt: on

    def __init__(self, kind: str, name: str, lines: list[str], *, state: str = "", tip: str = "") -> None:
        self.kind = kind
        self.name = name
        self.lines = lines
        self.state = state
        self.tip = tip
        self.why = ""
        self.head: Box | None = None
        self.members: list[Box] = []
        self.links: list[Link] = []
        self.shown: list[str] = []
        self.x = self.y = self.width = self.height = 0.0

    @property
    def text(self) -> list[str]:
        """All lines, with the failure last."""
        return [*self.lines, self.why] if self.why else self.lines


class Link:
    """A link from one box to another one in the same flow.

    `names` are those of the values that flow along it, `deciders` the functions that guard it, by their identity and
    depth, as text. The layout sets its `route`, the points of its line, whether it is `curved` between them, and `at`,
    the middle of its label.
    """

    __slots__ = ("at", "curved", "deciders", "label", "names", "route", "source", "target")

    def __init__(self, source: Box, target: Box) -> None:
        self.source = source
        self.target = target
        self.names: dict[str, None] = {}
        self.deciders: dict[tuple[int, Any], str] = {}
        self.label = ""
        self.route: list[Point] = []
        self.curved = True
        self.at: Point | None = None


def outermost_first(root: Box) -> list[Box]:
    """Return all boxes, each before those in it, and those of one flow in their order."""
    found = [root]
    for box in found:  # it grows meanwhile
        if box.head is not None:
            found.append(box.head)
        found.extend(box.members)
    return found
