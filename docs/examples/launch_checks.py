"""Several failures at once: they are raised together, and can be taken apart.

One failure is raised as it is. Several come as a `WrappedFailure`, which is iterable and also an exception group, so
that `except*` sorts them by their type.
"""

from __future__ import annotations

from taskflowx import as_task, exceptions, run, unordered


@as_task
def fuel(level: int) -> None:
    if level < 90:
        raise ValueError(f"fuel is at {level}%")


@as_task
def weather(wind: int) -> None:
    if wind > 30:
        raise OSError(f"wind of {wind} knots")


@as_task
def crew() -> None:
    """All are on board."""


def main() -> None:
    checks = unordered("checks", fuel, weather, crew)
    try:
        run(checks, {"level": 70, "wind": 45}, executor="threads")
    except exceptions.WrappedFailure as several:
        print(len(several), "checks failed")
        for failure in sorted(several, key=lambda failure: failure.exception_str):
            print(" ", failure.check(ValueError, OSError), failure.exception_str)

    try:
        run(checks, {"level": 70, "wind": 45}, executor="threads")
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
