"""The ways of links: the points through which their lines go."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskflowx.pictures import model

#: how far from a row a link to the next one goes
ASIDE = 8


def move(link: model.Link, x: float, y: float) -> None:
    """Move the line of a link and its label."""
    link.route = [(a + x, b + y) for a, b in link.route]
    if link.at is not None:
        link.at = (link.at[0] + x, link.at[1] + y)


def straight(link: model.Link, *, down: bool) -> None:
    """Draw a link from the middle of one side to the middle of the side that faces it."""
    u, v = link.source, link.target
    if down:
        middle = u.x + u.width / 2
        link.route = [(middle, u.y + u.height), (middle, v.y)]
    else:
        middle = u.y + u.height / 2
        link.route = [(u.x + u.width, middle), (v.x, middle)]


def to_next_row(link: model.Link, between: float) -> None:
    """Draw a link from the end of a row to the begin of the next one.

    :param between: where the gap between the rows is
    """
    u, v = link.source, link.target
    right, left = u.x + u.width + ASIDE, v.x - ASIDE
    end, begin = u.y + u.height / 2, v.y + v.height / 2
    link.curved = False
    link.route = [
        (u.x + u.width, end),
        (right, end),
        (right, between),
        (left, between),
        (left, begin),
        (v.x, begin),
    ]
