"""Processes: computing in Python on all cores, by an option of the run.

Tasks, arguments and results travel to worker processes, so they have to be ones that can be pickled, and classes and
functions stand at the top of a module.
"""

from __future__ import annotations

import os

from taskflowx import as_task, linear, run, unordered

RANGES = [(2, 2_000), (2_000, 4_000), (4_000, 6_000)]
NAMES = [f"from {begin}" for begin, _ in RANGES]


@as_task
def count_primes(begin: int, end: int) -> tuple[int, int]:
    """Return how many primes there are, and the identifier of the process that has counted them."""
    return sum(all(n % d for d in range(2, int(n**0.5) + 1)) for n in range(begin, end)), os.getpid()


@as_task(requires=NAMES, provides="primes")
def total(**counts: tuple[int, int]) -> int:
    return sum(count for count, _ in counts.values())


def main() -> None:
    counting = [
        count_primes.named(name, provides=name, inject={"begin": begin, "end": end})
        for name, (begin, end) in zip(NAMES, RANGES, strict=True)
    ]
    results = run(linear("primes", unordered("count", *counting), total), executor="processes", max_workers=2)
    for name in NAMES:
        count, process = results[name]
        print(f"{name}: {count}, counted", "here" if process == os.getpid() else "in another process")
    print("primes:", results["primes"])


if __name__ == "__main__":  # without this, a worker that imports this file would run it again
    main()

# Output:
#   from 2: 303, counted in another process
#   from 2000: 247, counted in another process
#   from 4000: 233, counted in another process
#   primes: 783
