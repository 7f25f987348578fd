"""The depth of a decider's veto."""

from __future__ import annotations

import enum
from collections.abc import Iterable
from typing import Any

from taskflowx._util import arguments


class Depth(enum.StrEnum):
    """What is ignored after the veto of a decider, the widest first."""

    ALL = "ALL"
    """The atom and everything after it."""
    FLOW = "FLOW"
    """The atom and its successors in its own flow, without nested flows."""
    NEIGHBORS = "NEIGHBORS"
    """The atom and its direct successors."""
    ATOM = "ATOM"
    """The atom alone."""

    @classmethod
    def translate(cls, desired_depth: Any) -> Depth:
        """Return the depth for its name, in upper or lower case.

        :raises TypeError, ValueError: when there is no such depth
        """
        if isinstance(desired_depth, cls):
            return desired_depth
        if not isinstance(desired_depth, str):
            msg = (
                f"Unexpected desired depth type, string type expected, not {type(desired_depth)}\nIt is one of {_NAMES}"
            )
            raise TypeError(msg)
        try:
            return cls(desired_depth.upper())
        except ValueError:
            msg = (
                f"Unexpected decider depth value, one of {_NAMES} (case-insensitive) "
                f"is expected and not '{desired_depth}'"
            )
            raise ValueError(msg) from None


_NAMES = sorted(depth.value for depth in Depth)
_WIDTH = {depth: place for place, depth in enumerate(Depth)}


def pick_widest(depths: Iterable[Depth]) -> Depth:
    """Return the depth that reaches furthest.

    :param depths: depths or their names, at least one
    :raises TypeError, ValueError: when there is no such depth, or none is given
    """
    arguments.check_iterable("depths", depths, "an iterable of depths or their names")
    widest = min(map(Depth.translate, depths), key=_WIDTH.__getitem__, default=None)
    if widest is None:
        raise ValueError("depths must not be empty: there is no widest one then")
    return widest
