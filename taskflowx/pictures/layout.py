"""Where boxes are: the members of one flow at a time, from the inside out.

A linear flow is a column or a row, or, when that would be long, several rows that are read as lines of text are. An
unordered flow is a grid. A graph flow is layered; see `layers`. All sizes are in pixels.
"""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING

from taskflowx.pictures import layers, model, routes, wording

if TYPE_CHECKING:
    from collections.abc import Iterator

# Fonts: of names, and of what stands below them.
NAME, SMALL = 13, 11
NAME_LINE, SMALL_LINE = 18, 15
#: the widest text in a box
TEXT = 210
#: the widest title of a flow
TITLE = 420
#: between the text and the frame of an atom
SIDE, ABOVE = 12, 7
#: between a flow's frame and its members
PAD = 16
#: the line with the name of a flow
HEADER = 30
#: around the picture
MARGIN = 10
#: between the name of a flow and its kind
APART = 10
#: between members, without and with a link between them
GAP, STEP = 14, 32
#: the longest column or row of a linear flow, and the widest content of a flow that can be wrapped
LONGEST, WIDEST = 1100, 860
#: so many members are in a column or a row, however long it is
FEWEST = 8
#: how much wider than high a grid is
ASPECT = 1.6


def lay_out(root: model.Box, *, down: bool) -> None:
    """Set the size and the place of each box, and the route of each link.

    :param down: whether links go down, and not to the right
    """
    boxes = model.outermost_first(root)
    for box in reversed(boxes):
        if box.kind in model.FLOWS:
            _compose(box, down=down)
        else:
            _measure(box)
    root.x = root.y = MARGIN
    for box in boxes:
        for inner in [*box.members, box.head] if box.head is not None else box.members:
            inner.x += box.x
            inner.y += box.y
        for link in box.links:
            routes.move(link, box.x, box.y)


def _measure(box: model.Box) -> None:
    """Set the size of a box by its text, which is cut where it is too long; the failure comes last."""
    name, *others = box.lines
    most = TITLE if box.kind == model.RETRY else TEXT
    lines = [wording.cut(line, SMALL, most) for line in others]
    if box.kind in (model.FOLDED, model.GAP):
        lines = wording.wrapped(lines, SMALL, TEXT)
    if box.why:
        lines.append(wording.shortened(box.why, SMALL, most))
    box.shown = [wording.cut(name, NAME, most), *lines]
    widest = max(wording.width(box.shown[0], NAME), *(wording.width(line, SMALL) for line in lines), 24)
    box.width = math.ceil(widest) + 2 * SIDE
    box.height = NAME_LINE + len(lines) * SMALL_LINE + 2 * ABOVE


def _compose(box: model.Box, *, down: bool) -> None:
    """Place the members of a flow, and set its size around them."""
    name, about = box.lines
    box.shown = [wording.cut(name, NAME, TITLE), about]
    title = wording.width(box.shown[0], NAME) * 1.06 + APART + wording.width(about, SMALL)  # it is bold
    top, least = float(HEADER), math.ceil(title)
    if box.head is not None:
        box.head.x, box.head.y = PAD, top
        top += box.head.height + GAP
        least = max(least, math.ceil(box.head.width))
    if not box.members:
        wide, high = 0.0, -GAP / 2
    elif box.kind == model.LINEAR:
        wide, high = _line(box, down=down)
    elif box.kind == model.UNORDERED:
        wide, high = _grid(box.members)
    else:
        wide, high = layers.arrange(box, down=down)
    box.width = max(wide, least) + 2 * PAD
    box.height = top + high + PAD
    aside = (box.width - wide) / 2
    for member in box.members:
        member.x += aside
        member.y += top
    for link in box.links:
        routes.move(link, aside, top)


# -- linear ----------------------------------------------------------------------------------------------------------


def _line(box: model.Box, *, down: bool) -> tuple[float, float]:
    """Place the members of a linear flow in a column or a row; returns the width and the height that they take."""
    members = box.members
    length = sum((member.height if down else member.width) + STEP for member in members)
    if length > LONGEST and len(members) > FEWEST:
        return _rows(box)
    leaves = [member for member in members if member.kind not in model.FLOWS]
    for leaf in leaves:  # they look like a column then
        if down:
            leaf.width = max(other.width for other in leaves)
        else:
            leaf.height = max(other.height for other in leaves)
    across = max(member.width if down else member.height for member in members)
    along = 0.0
    for member in members:
        if down:
            member.x, member.y = (across - member.width) / 2, along
        else:
            member.x, member.y = along, (across - member.height) / 2
        along += (member.height if down else member.width) + STEP
    for link in box.links:
        routes.straight(link, down=down)
    along -= STEP
    return (across, along) if down else (along, across)


def _rows(box: model.Box) -> tuple[float, float]:
    """Place the members of a long linear flow in rows; returns the width and the height that they take."""
    indent, y, widest = float(GAP), 0.0, 0.0
    _even(box.members)
    above: dict[int, float] = {}
    for row in _filled(box.members, STEP, WIDEST):
        above[id(row[0])] = y - STEP / 2
        x, high = indent, max(member.height for member in row)
        for member in row:
            member.x, member.y = x, y + (high - member.height) / 2
            x += member.width + STEP
        widest = max(widest, x - STEP + indent)
        y += high + STEP
    for link in box.links:
        between = above.get(id(link.target))
        if between is not None:
            routes.to_next_row(link, between)
        else:
            routes.straight(link, down=False)
    return widest, y - STEP


def _filled(members: list[model.Box], gap: float, most: float) -> Iterator[list[model.Box]]:
    """Iterate over members in rows, each as full as it may be."""
    row: list[model.Box] = []
    wide = 0.0
    for member in members:
        if row and wide + member.width > most:
            yield row
            row, wide = [], 0.0
        row.append(member)
        wide += member.width + gap
    yield row


def _even(members: list[model.Box]) -> bool:
    """Make members equally wide, so that they are in columns; only if none of them is a flow."""
    if any(member.kind in model.FLOWS for member in members):
        return False
    widest = max(member.width for member in members)
    for member in members:
        member.width = widest
    return True


# -- unordered -------------------------------------------------------------------------------------------------------


def _grid(members: list[model.Box]) -> tuple[float, float]:
    """Place members in rows of about the same length; returns the width and the height that they take."""
    area = sum((member.width + GAP) * (member.height + GAP) for member in members)
    most = min(WIDEST, math.sqrt(area * ASPECT))
    if _even(members):
        cell = members[0].width + GAP
        most = max(1, min(round(most / cell), WIDEST // cell)) * cell
    y, widest = 0.0, 0.0
    for row in _filled(members, GAP, most):
        high = max(member.height for member in row)
        places = itertools.accumulate((member.width + GAP for member in row), initial=0.0)
        for member, x in zip(row, places, strict=False):
            member.x, member.y = x, y
            if member.kind not in model.FLOWS:
                member.height = high
        widest = max(widest, row[-1].x + row[-1].width)
        y += high + GAP
    return widest, y - GAP
