"""Named places in the code at which a test can let something happen, such as the death of the process.

A place says `if failpoints.on: failpoints.hit("its name")`. While nobody listens that is one look at a module, and the
places are no part of what one atom costs on the short paths.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

#: whether somebody listens
on = False
_listener: Callable[[str], None] | None = None


def listen(listener: Callable[[str], None] | None) -> None:
    """Have a function called with the name of each place that is passed, in whatever thread; None ends that."""
    global on, _listener  # noqa: PLW0603 - the places look here, and nowhere else
    _listener = listener
    on = listener is not None


def hit(name: str) -> None:
    """Tell who listens that a place is passed."""
    if _listener is not None:
        _listener(name)
