"""Work of a chosen length that uses a CPU and lets other threads run: what tasks of a workload do.

It hashes a block of memory, which Python does without its global lock. Imports only the standard library, as it is
read in the environments of other engines.
"""

import functools
import hashlib
import statistics
import time

_BLOCK = memoryview(bytes(1 << 22))


def work(size: int, *_: object) -> int:
    """Hash so many bytes; takes the results of other calls and does nothing with them."""
    done = 0
    while done < size:
        part = min(size - done, len(_BLOCK))
        hashlib.sha256(_BLOCK[:part]).digest()
        done += part
    return size


def size_of(seconds: float) -> int:
    """Return how many bytes are hashed in about so long; `seconds_of` tells how long exactly."""
    return round(seconds * _speed())


def seconds_of(size: int, repeats: int = 25) -> float:
    """Return how long it takes to hash so many bytes with a CPU for it alone: the median of a few times.

    Not the shortest: many machines are faster at times, and a run of many calls meets all of these.
    """
    taken = []
    for _ in range(repeats):
        started = time.perf_counter()
        work(size)
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


@functools.cache
def _speed() -> float:
    """Return how many bytes are hashed in a second."""
    size = 1 << 20
    return size / seconds_of(size)
