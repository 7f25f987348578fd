"""What the codec of stores adds to JSON, on values that are plain JSON, and blobs to a file that is synced."""

from __future__ import annotations

import json
import os
import random
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.harness import Figure, Sizes, compared, in_turn
from taskflowx.persistence import blobs, codec

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_SMALL = 2_000  # times that a small value is written and read in a turn


def values() -> dict[str, tuple[Any, int]]:
    """Return what results look like, by name, and how often it is written in a turn."""
    chance = random.Random(1)
    rows = [
        {"id": n, "name": f"name {n}", "price": chance.random(), "tags": ["a", "b"], "more": {"x": None, "ok": True}}
        for n in range(8_000)
    ]
    return {
        "None": (None, _SMALL),
        "int": (12_345, _SMALL),
        "str": ("a result", _SMALL),
        "small dict": ({"a": 1, "b": "two", "c": None}, _SMALL),
        "1 MB, lists of floats": ([[chance.random() for _ in range(20)] for _ in range(2_500)], 1),
        "1 MB, lists of ints": ([[chance.randrange(1_000) for _ in range(100)] for _ in range(2_000)], 1),
        "1 MB, rows": (rows, 1),
        "1 MB, text": ("x" * 1_000_000, 1),
    }


def _busy(function: Callable[[Any], object], value: Any, times: int) -> float:
    """Return the processor time of some calls, the best of several."""
    found = []
    for _ in range(7):
        started = time.process_time()
        for _ in range(times):
            function(value)
        found.append(time.process_time() - started)
    return min(found)


def codec_beside_json(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare writing and reading by the codec with `json.dumps` and `json.loads`, in processor time."""
    for label, (value, times) in values().items():

        def ours(value: Any = value, times: int = times) -> float:
            return _busy(lambda given: codec.loads(codec.dumps(given, "")), value, times)

        def theirs(value: Any = value, times: int = times) -> float:
            return _busy(lambda given: json.loads(json.dumps(given)), value, times)

        yield compared(label, in_turn(sizes.short, ours, theirs), "ms", factor=1e3, at_most=1.2)


_LARGE = 10_000_000


def _timed(write: Callable[[bytes, str], object], folder: str) -> float:
    """Return the seconds in which bytes that are new each time are written; the best of several."""
    found = []
    for number in range(7):
        content = os.urandom(_LARGE)
        started = time.perf_counter()
        write(content, f"{folder}/{number}")
        found.append(time.perf_counter() - started)
    return min(found)


def _written(content: bytes, path: str) -> None:
    number = os.open(path, os.O_WRONLY | os.O_CREAT)
    try:
        os.write(number, content)
        os.fsync(number)
    finally:
        os.close(number)


def blobs_beside_files(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare keeping 10 MB of bytes in a blob with `write` and `fsync` of the same, in a folder on the disk."""

    def ours() -> float:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            kept = blobs.Blobs(f"dir://{folder}")
            return _timed(lambda content, _: kept.put("run", content, "a result"), folder)

    def theirs() -> float:
        with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
            return _timed(_written, folder)

    yield compared("10 MB", in_turn(sizes.short, ours, theirs), "ms", factor=1e3, at_most=1.3)
