"""Several failures at once: they are raised together, and can be taken apart.

One failure is raised as it is. Several come as a `WrappedFailure`, which is iterable and also an exception group, so
that `except*` sorts them by their type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from taskflowx import engines, exceptions, task
from taskflowx.patterns import unordered_flow

if TYPE_CHECKING:
    from collections.abc import Callable


def fuel(level: int) -> None:
    if level < 90:
        raise ValueError(f"fuel is at {level}%")


def weather(wind: int) -> None:
    if wind > 30:
        raise OSError(f"wind of {wind} knots")


def crew() -> None:
    """All are on board."""


def checks() -> unordered_flow.Flow:
    functions: list[Callable[..., None]] = [fuel, weather, crew]
    return unordered_flow.Flow("checks").add(*(task.FunctorTask(check, name=check.__name__) for check in functions))


def main() -> None:
    try:
        engines.run(checks(), store={"level": 70, "wind": 45}, engine="parallel", executor="threads")
    except exceptions.WrappedFailure as several:
        print(len(several), "checks failed")
        for failure in sorted(several, key=lambda failure: failure.exception_str):
            print(" ", failure.check(ValueError, OSError), failure.exception_str)

    try:
        engines.run(checks(), store={"level": 70, "wind": 45}, engine="parallel", executor="threads")
    except* OSError as group:
        print("wait for better weather:", group.exceptions[0])
    except* ValueError as group:
        print("call the tanker:", group.exceptions[0])


if __name__ == "__main__":
    main()

# Output:
#   2 checks failed
#     <class 'ValueError'> fuel is at 70%
#     <class 'OSError'> wind of 45 knots
#   wait for better weather: wind of 45 knots
#   call the tanker: fuel is at 70%
