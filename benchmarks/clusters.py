"""Runs on a cluster of Dask against Dask's own calls, on one local cluster with two workers.

Both sides are measured in an interpreter of its own, as `distributed` changes how exceptions are pickled.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from benchmarks import places, workloads
from benchmarks.harness import Figure, an_atom, clock, compared, fresh, in_turn
from benchmarks.workloads import ready
from taskflowx import task
from taskflowx.patterns import linear_flow, unordered_flow

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from benchmarks.harness import Sizes

ATOMS, CHAIN, READERS = 5_000, 100, 20


class Length(task.Task):
    """Looks at an array."""

    def execute(self, array: Any) -> int:
        """Return how long it is."""
        return len(array)


def cluster(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare flows on a cluster with what `Client.map`, `Client.submit` and `Client.scatter` do there."""
    atoms = min(ATOMS, sizes.atoms)
    chain = min(CHAIN, sizes.chain)
    labels = {
        "pure": ("pure ÷ Client.map", 1.2, an_atom(atoms)),
        "fenced": ("fenced ÷ Client.map", 1.6, an_atom(atoms)),
        "chain": ("chain ÷ Client.submit", None, an_atom(chain)),
        "array": ("20 read 10 MB ÷ scatter and map", None, {"unit": "ms", "factor": 1e3, "atoms": READERS}),
    }
    try:
        measured = fresh("cluster", atoms=atoms, chain=chain, turns=sizes.few)
    except RuntimeError as error:
        for label, bound, _facts in labels.values():
            yield Figure(label, at_most=bound, skipped=str(error).splitlines()[-1])
        return
    for name, (label, bound, facts) in labels.items():
        yield compared(label, measured[name], at_most=bound, **facts)


def _step(_: int) -> int:
    return 1


def _length(array: Any) -> int:
    return len(array)


def _flow(atoms: int, *, pure: bool) -> unordered_flow.Flow:
    return unordered_flow.Flow("f").add(*(workloads.Step(f"{number}", pure=pure) for number in range(atoms)))


def measure(atoms: int, chain: int, turns: int) -> dict[str, list[tuple[float, ...]]]:
    """Return what each turn has measured of ours and of Dask's, by name; on a cluster with two worker processes."""
    import distributed

    known: Any = distributed  # its functions have no types
    with (
        known.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None) as local,
        known.Client(local) as client,
    ):
        return _measured(client, atoms, chain, turns)


def _calm(client: Any) -> None:
    """Wait until the scheduler has forgotten the calls before: that is not counted."""
    while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
        time.sleep(0.05)


def _dasks(client: Any, work: Callable[[], Any]) -> Callable[[], float]:
    def run() -> float:
        _calm(client)
        return clock(work)

    return run


def _ours(client: Any, flow: Any, **options: Any) -> Callable[[], float]:
    def run() -> float:
        engine = ready(flow, executor=client, **options)
        _calm(client)
        return clock(engine.run)

    return run


def _measured(client: Any, atoms: int, chain: int, turns: int) -> dict[str, list[tuple[float, ...]]]:
    def submitted() -> Any:
        last: Any = 0
        for _ in range(chain):
            last = client.submit(_step, last, pure=False)
        return last.result()

    def scattered() -> Any:
        array = client.scatter(places.an_array(), hash=False)
        return client.gather([client.submit(_length, array, pure=False) for _ in range(READERS)])

    mapped = _dasks(client, lambda: client.gather(client.map(_step, range(atoms), pure=False)))
    pure, fenced = (_ours(client, _flow(atoms, pure=pure)) for pure in (True, False))
    three = in_turn(turns, pure, fenced, mapped)
    line = linear_flow.Flow("f").add(*(workloads.Step(f"{number}") for number in range(chain)))
    readers = unordered_flow.Flow("f").add(*(Length(f"{number}") for number in range(READERS)))
    array = {"array": places.an_array()}
    return {
        "pure": [(one, theirs) for one, _, theirs in three],
        "fenced": [(other, theirs) for _, other, theirs in three],
        "chain": in_turn(turns, _ours(client, line), _dasks(client, submitted)),
        "array": in_turn(turns, _ours(client, readers, store=array), _dasks(client, scattered)),
    }
