"""A keyword that `as_task` does not have, or of another type."""

from __future__ import annotations

from taskflowx import as_task


@as_task(provide="a")  # wrong, but for ty
def first() -> int:
    return 1


@as_task(provides=3)  # wrong
def second() -> int:
    return 1


@as_task(version="one")  # wrong
def third() -> int:
    return 1


@as_task(timeout="5")  # wrong
def fourth() -> int:
    return 1


@as_task(on_unknown="redo")  # wrong
def fifth() -> int:
    return 1


as_task(fifth.execute, provides=3)  # wrong
as_task(fifth.execute, nam="a")  # wrong, but for ty
