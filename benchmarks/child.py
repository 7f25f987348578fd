"""What is measured in an interpreter of its own; `harness.fresh` starts it, and it prints its answer as JSON.

So a million atoms burden nothing else, and nothing else burdens them.
"""

from __future__ import annotations

import contextlib
import gc
import json
import statistics
import sys
from typing import TYPE_CHECKING, Any

from benchmarks import clusters, harness, held, workloads
from taskflowx import engines
from taskflowx.persistence import backends, models

if TYPE_CHECKING:
    from collections.abc import Callable


def build_and_run(shape: str, atoms: int) -> Any:
    """Declare a flow, compile and run it; returns what holds all that was made."""
    flow = workloads.SHAPES[shape](atoms)
    engine = engines.load(flow)
    workloads.finish(engine)
    return engine


def seconds_an_atom(shape: str, atoms: int) -> float:
    """Return how long it takes to declare, compile and run one atom of a flow."""
    return harness.clock(lambda: build_and_run(shape, atoms)) / atoms


def scale(shape: str, many: int, few: int, repeats: int, *, collector: bool) -> dict[str, float]:
    """Return seconds an atom with many atoms, and with few, before and after; and the bytes an atom of the former.

    The bytes are those by which the process has grown at its peak, from before the first flow.

    :param repeats: how often few atoms are measured before, and again after; their median counts
    :param collector: whether Python's garbage collector is on, as it is by default
    """
    if not collector:
        gc.disable()
    resident = held.now()
    seconds_an_atom(shape, few)
    small = [seconds_an_atom(shape, few) for _ in range(repeats)]
    large = seconds_an_atom(shape, many)
    small += [seconds_an_atom(shape, few) for _ in range(repeats)]
    return {"many": large, "few": statistics.median(small), "memory": (held.at_peak() - resident) / many}


def touch(size: int) -> int:
    """Write to so many bytes of memory: of a virtual machine, what it has not used yet is slow for whoever is first."""
    return len(bytearray(b"x") * size)


def grow(shape: str, atoms: int, together: int) -> tuple[float, float]:
    """Return the seconds and the bytes that an atom takes; the latter are those by which the process has grown.

    :param together: so many atoms are made at least, in several flows if these are small; all of them are kept
    """
    build_and_run(shape, 10)  # what is imported and worked out once is not counted
    resident = held.now()
    kept: list[Any] = []
    seconds = [
        harness.clock(lambda: kept.append(build_and_run(shape, atoms)), collect=False) / atoms
        for _ in range(max(1, together // atoms))
    ]
    return statistics.median(seconds), (held.at_peak() - resident) / (atoms * len(kept))


def chain(atoms: int, repeats: int) -> float:
    """Return the median of the seconds that it takes to declare, compile and run a chain."""
    return statistics.median(seconds_an_atom("linear", atoms) * atoms for _ in range(repeats))


def finish(connection: str, atoms: int) -> int:
    """Run a chain with its record in a store; returns its size."""
    with backends.backend(connection) as backend:
        detail = models.FlowDetail("flow", "the-flow")
        book = models.LogBook("book")
        book.add(detail)
        with contextlib.closing(backend.get_connection()) as opened:
            opened.save_logbook(book)
        flow = workloads.SHAPES["linear"](atoms)
        engines.load(flow, flow_detail=detail, backend=backend, durability="exit").run()
    return atoms


def resume(connection: str, atoms: int) -> float:
    """Return how many seconds it takes to read the record of a finished run, and to get it ready to go on."""
    flow = workloads.SHAPES["linear"](atoms)
    backend = backends.fetch(connection)
    with contextlib.closing(backend.get_connection()) as opened:
        opened.validate()  # what is imported and worked out once is not counted

        def go_on() -> Any:
            engine = engines.load(flow, flow_detail=opened.get_flow_details("the-flow"), backend=backend)
            engine.run()
            return engine

        return harness.clock(go_on)


_COMMANDS: dict[str, Callable[..., Any]] = {
    "scale": scale,
    "touch": touch,
    "grow": grow,
    "chain": chain,
    "finish": finish,
    "resume": resume,
    "cluster": clusters.measure,
}

if __name__ == "__main__":
    print(json.dumps(_COMMANDS[sys.argv[1]](**json.loads(sys.argv[2]))))
