"""A wrong argument of a direct call."""

from __future__ import annotations

from taskflowx import as_task


@as_task
def area(width: int, height: int) -> int:
    return width * height


area("3", 4)  # wrong
area(3)  # wrong
area(3, 4, 5)  # wrong
area(3, hieght=4)  # wrong
text: str = area(3, 4)  # wrong
