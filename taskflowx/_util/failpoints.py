"""Fail points: named places in the code where a test can intervene, for example kill the process.

A place says `if failpoints.on: failpoints.hit("its name")`. Without a listener that costs one look-up in a module, and
there are no places on the fast paths of single atoms.
"""

from __future__ import annotations

from collections.abc import Callable

#: whether there is a listener
on = False
_listener: Callable[[str], None] | None = None


def listen(listener: Callable[[str], None] | None) -> None:
    """Call a function with the name of each fail point that is reached, in any thread; None ends that."""
    global on, _listener  # noqa: PLW0603 - the fail points look here, and nowhere else
    _listener = listener
    on = listener is not None


def hit(name: str) -> None:
    """Notify the listener that a fail point is reached."""
    if _listener is not None:
        _listener(name)
