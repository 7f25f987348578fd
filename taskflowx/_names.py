"""Dotted names in two spellings: `taskflowx.x` is ours, `taskflow.x` is that of stores and services.

Names are accepted in either spelling. Plug-ins for TaskFlow are used only in a process where `taskflow` is an alias of
this package (`taskflowx.compat`): only there do they get our classes when they import TaskFlow's.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

OURS = "taskflowx"
THEIRS = "taskflow"


def is_within(name: str, package: str) -> bool:
    """Tell whether a dotted name is that of a package or of a member of it."""
    return name == package or name.startswith(f"{package}.")


def ours(name: str) -> str:
    """Return our spelling of a name that may be TaskFlow's."""
    return OURS + name[len(THEIRS) :] if is_within(name, THEIRS) else name


def theirs(name: str) -> str:
    """Return TaskFlow's spelling of a name that may be ours."""
    return THEIRS + name[len(OURS) :] if is_within(name, OURS) else name


def is_aliased() -> bool:
    """Tell whether `taskflow` is an alias of this package in this process."""
    return sys.modules.get(THEIRS) is sys.modules[OURS]


def spoken(name: str) -> str:
    """Return the name of a logger in this process, if it is one of ours."""
    return theirs(name) if is_aliased() else name


def plugins(group: str) -> dict[str, EntryPoint]:
    """Return the entry points of a group by name, and under the alias those of its other spelling after them."""
    import importlib.metadata

    found: dict[str, EntryPoint] = {}
    for spelling in dict.fromkeys((group, ours(group), theirs(group)) if is_aliased() else (group,)):
        for point in importlib.metadata.entry_points(group=spelling):
            found.setdefault(point.name, point)
    return found
