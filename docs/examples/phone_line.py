"""`Times`: a retry that undoes its flow when something in it fails, and runs it again, up to a number of times.

The retry provides the number of the attempt. Only its own flow is run again; what is outside of it stands.
"""

from __future__ import annotations

from taskflowx import as_task, linear, retry, run


@as_task(provides="number")
def look_up() -> str:
    print("look the number up")
    return "555-0147"


@as_task
def pick_up() -> None:
    print("  pick up")


@pick_up.revert
def hang_up() -> None:
    print("  hang up")


@as_task
def dial(number: str, tries: int) -> None:
    print(f"  dial {number}")
    if tries < 3:
        raise ConnectionError("engaged")
    print("  hello?")


def main() -> None:
    calling = linear("calling", pick_up, dial, retry=retry.Times(3, provides="tries"))
    results = run(linear("phone", look_up, calling))
    print("it took", results["tries"], "attempts")


if __name__ == "__main__":
    main()

# Output:
#   look the number up
#     pick up
#     dial 555-0147
#     hang up
#     pick up
#     dial 555-0147
#     hang up
#     pick up
#     dial 555-0147
#     hello?
#   it took 3 attempts
