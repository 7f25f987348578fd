"""What is measured: each row compares one thing, shape after shape, and says which bound it is held against.

The command line picks rows and shapes. Sides are prepared outside the clock unless the title says otherwise.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import networkx as nx

from benchmarks import durable, loops, metg, peers, places, workloads
from benchmarks.harness import QUICK, ROOT, Figure, Sizes, an_atom, clock, compared, fresh, in_turn
from benchmarks.workloads import ready
from taskflowx import states
from taskflowx.types import notifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taskflowx.flow import Flow


MAIN = ("linear", "unordered", "layers")
WORKERS = 2
SMALL = 10_000  # what a large flow is compared with
CHAIN = 1_000  # atoms of the chain that TaskFlow runs too


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison.

    :param title: what is divided by what
    :param shapes: the shapes of flows that it is made for; one empty name if it has nothing to do with flows
    :param measure: takes the sizes and one shape, and yields figures
    """

    title: str
    shapes: tuple[str, ...]
    measure: Callable[[Sizes, str], Iterator[Figure]]


def serial(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare the engine with the bare loop."""
    for atoms in (sizes.atoms, sizes.large) if shape in MAIN else (sizes.atoms,):
        flow = workloads.SHAPES[shape](atoms)
        graph = loops.Graph(flow)

        def ours(flow: Flow = flow) -> float:
            engine = ready(flow)
            return clock(engine.run)

        def theirs(graph: loops.Graph = graph) -> float:
            sorter = graph.sorter()
            return clock(lambda: loops.serial(graph, sorter))

        turns = sizes.short if atoms == sizes.atoms else sizes.turns
        bound = 1.0 if shape in MAIN else None
        yield compared(f"{shape}, {atoms:,}", in_turn(turns, ours, theirs), **an_atom(atoms), at_most=bound)


def prepare(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare all that comes before a run with what networkx does for a graph of the same nodes and edges."""
    atoms = sizes.atoms
    tasks, before = workloads.tasks_of(shape, atoms), loops.Graph(workloads.SHAPES[shape](atoms)).before
    edges = [(tasks[other], tasks[node]) for node, others in before.items() for other in others]

    def ours() -> float:
        return clock(lambda: ready(workloads.flow_of(shape, tasks)))

    def theirs() -> float:
        def build() -> Any:
            made: nx.DiGraph[Any] = nx.DiGraph()
            made.add_nodes_from(tasks)
            made.add_edges_from(edges)
            return list(nx.topological_sort(made))

        return clock(build)

    yield compared(shape, in_turn(sizes.short, ours, theirs), **an_atom(atoms), at_most=1.5)


def nested(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare flows nested ten deep with a flat one of the same tasks: to run them, and all of it."""
    deep, flat = (workloads.SHAPES[shape](sizes.atoms) for shape in ("nested", "linear"))

    def run(flow: Flow) -> Callable[[], float]:
        return lambda: clock(ready(flow).run)

    def everything(shape: str) -> Callable[[], float]:
        return lambda: clock(lambda: ready(workloads.SHAPES[shape](sizes.atoms)).run())

    facts = an_atom(sizes.atoms)
    yield compared("run", in_turn(sizes.short, run(deep), run(flat)), **facts, at_most=1.3)
    turns = in_turn(sizes.short, everything("nested"), everything("linear"))
    yield compared("declare, compile and run", turns, **facts, at_most=1.3)


def listeners(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare a run that somebody listens to with one that nobody listens to."""
    flow = workloads.linear(sizes.atoms)

    def alone() -> float:
        return clock(ready(flow).run)

    def heard() -> float:
        engine = ready(flow)
        engine.atom_notifier.register(notifier.Notifier.ANY, workloads.hear)
        return clock(engine.run)

    yield compared("one listener", in_turn(sizes.short, heard, alone), **an_atom(sizes.atoms), at_most=1.5)


def failures(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare a flow of which many tasks fail at once with one of which one fails; a retry runs all of it again."""

    def failing(count: int) -> Callable[[], float]:
        def run() -> float:
            engine = ready(workloads.shaky(sizes.atoms, count))
            return clock(engine.run)

        return run

    turns = in_turn(sizes.turns, failing(sizes.atoms // 10), failing(1))
    label = f"{sizes.atoms // 10:,} failures ÷ 1"
    yield compared(label, turns, **an_atom(sizes.atoms), at_most=3.0)


def threads(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare our threads with those of `ThreadPoolExecutor`; both start and end within the clock."""
    flow = workloads.SHAPES[shape](sizes.atoms)
    graph = loops.Graph(flow)

    def ours() -> float:
        engine = ready(flow, executor="threads", max_workers=WORKERS)
        return clock(engine.run)

    def theirs() -> float:
        return _loop_with_start_up(graph, lambda: concurrent.futures.ThreadPoolExecutor(WORKERS))

    yield compared(shape, in_turn(sizes.turns, ours, theirs), **an_atom(sizes.atoms), at_most=0.5)


def _loop_with_start_up(graph: loops.Graph, make: Callable[[], concurrent.futures.Executor]) -> float:
    sorter = graph.sorter()

    def loop() -> None:
        with make() as pool:
            loops.on_pool(graph, sorter, pool)

    return clock(loop)


def _process_pool() -> concurrent.futures.Executor:
    """Return a pool whose processes start as those of our engine do."""
    known = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in known else "spawn")
    return concurrent.futures.ProcessPoolExecutor(WORKERS, mp_context=context)


def processes(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare the engine with the loop on one warm pool, and then with each making a pool of its own."""
    flow = workloads.SHAPES[shape](sizes.crossing)
    graph = loops.Graph(flow)
    with _process_pool() as pool:

        def ours() -> float:
            engine = ready(flow, executor=pool)
            return clock(engine.run)

        def theirs() -> float:
            sorter = graph.sorter()
            return clock(lambda: loops.on_pool(graph, sorter, pool))

        yield compared(shape, in_turn(sizes.short, ours, theirs), **an_atom(sizes.crossing), at_most=1.3)

    small = workloads.SHAPES[shape](sizes.starting)
    small_graph = loops.Graph(small)

    def ours_by_name() -> float:
        engine = ready(small, executor="processes", max_workers=WORKERS)
        return clock(engine.run)

    def theirs_with_start_up() -> float:
        return _loop_with_start_up(small_graph, _process_pool)

    label = f"{shape}, with start-up"
    yield compared(label, in_turn(sizes.few, ours_by_name, theirs_with_start_up), **an_atom(sizes.starting))


def rollback(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare undoing with doing: what a run takes longer when its last task fails, with what it takes."""
    flow = workloads.SHAPES[shape](sizes.atoms)
    succeeding, failing = (workloads.with_end(flow, fails=fails) for fails in (False, True))

    def forward() -> float:
        engine = ready(succeeding)
        return clock(engine.run)

    def there_and_back() -> float:
        engine = ready(failing)

        def run() -> None:
            with contextlib.suppress(RuntimeError):
                engine.run()

        seconds = clock(run)
        assert engine.storage.get_flow_state() == states.REVERTED
        assert engine.not_undone() == []
        return seconds

    measured = in_turn(sizes.short, there_and_back, forward)
    pairs = [(both - one, one) for both, one in measured]
    yield compared(shape, pairs, **an_atom(sizes.atoms), at_most=1.5)


def scale(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare the time an atom of a large flow with that of a small one, and see how much memory an atom takes."""
    claimed = shape != "layers"
    arguments = {"shape": shape, "many": sizes.many, "few": SMALL, "repeats": sizes.repeats}
    for collector, bound in ((True, 2.0), (False, 1.3)) if claimed else ((True, 0.0),):
        taken = [fresh("scale", collector=collector, **arguments) for _ in range(sizes.few if claimed else 1)]
        yield compared(
            f"{shape}, {'default gc' if collector else 'gc.disable()'}",
            [(answer["many"], answer["few"]) for answer in taken],
            "µs an atom",
            factor=1e6,
            atoms=sizes.many,
            at_most=bound if claimed else None,
        )
        if collector:
            kilobytes = [answer["memory"] / 1024 for answer in taken]
            yield Figure(
                f"{shape}, peak memory",
                value=statistics.median(kilobytes),
                low=min(kilobytes),
                high=max(kilobytes),
                turns=len(kilobytes),
                atoms=sizes.many,
                unit="KB an atom",
                at_most=2.0 if claimed else None,
            )


OURS = (
    "import taskflowx.engines, taskflowx.task, taskflowx.retry, taskflowx.patterns.linear_flow, "
    "taskflowx.patterns.unordered_flow, taskflowx.patterns.graph_flow"
)


def imports(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare what two imports add to the time that an interpreter takes to start and end.

    Both find byte code that the round before wrote, also where the environment forbids to write any.
    """
    with tempfile.TemporaryDirectory() as cache:
        environment = os.environ | {"PYTHONPYCACHEPREFIX": cache, "PYTHONDONTWRITEBYTECODE": ""}

        def starting(code: str) -> Callable[[], float]:
            command = [sys.executable, "-c", code]
            return lambda: clock(lambda: subprocess.run(command, cwd=ROOT, env=environment, check=True))

        measured = in_turn(sizes.short, starting(OURS), starting("import networkx"), starting("pass"))
    pairs = [(ours - bare, theirs - bare) for ours, theirs, bare in measured]
    yield compared("import", pairs, "ms", factor=1e3, at_most=0.3)


def taskflow(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare OpenStack TaskFlow with us; a quick run does not install it."""
    peer, bound = peers.TASKFLOW, 1000.0
    if sizes is QUICK and not peer.installed:
        reason: str | None = f"{peer.name} {peer.version} is not installed here; a full run installs it"
    else:
        reason = peer.install()
    if reason is not None:
        yield Figure(shape, at_least=bound, skipped=reason)
        return

    def theirs() -> float:
        return peer.seconds(CHAIN)

    def ours() -> float:
        return float(fresh("chain", atoms=CHAIN, repeats=50))

    try:
        measured = in_turn(sizes.few, theirs, ours, warm_up=False)
    except RuntimeError as error:
        yield Figure(shape, at_least=bound, skipped=str(error).splitlines()[-1])
        return
    yield compared(shape, measured, "ms", factor=1e3, atoms=CHAIN, at_least=bound)


ROWS = {
    "serial": Row(
        "engine.run() ÷ a bare graphlib loop that calls the same functions",
        (*MAIN, "graph", "tree", "random", "diamonds"),
        serial,
    ),
    "prepare": Row(
        "add tasks that are there to a flow, compile, prepare and validate ÷ networkx.DiGraph of the same tasks and "
        "edges, and topological_sort",
        MAIN,
        prepare,
    ),
    "metg": Row("METG(50%): how long tasks must be so that half of the time goes into them", ("",), metg.measure),
    "nested": Row("flows nested ten deep ÷ a flat flow (serial)", ("",), nested),
    "listeners": Row("a run that somebody listens to ÷ one that nobody listens to (serial)", ("",), listeners),
    "failures": Row("many failures under one retry ÷ one failure (serial)", ("",), failures),
    "threads": Row("executor='threads' ÷ a loop of graphlib and ThreadPoolExecutor, 2 workers", MAIN, threads),
    "processes": Row(
        "engine.run() ÷ a loop of graphlib, both on one warm ProcessPoolExecutor, 2 workers; "
        "and with start-up: executor='processes' ÷ a pool made for the loop",
        MAIN,
        processes,
    ),
    "pool": Row("our worker processes ÷ others, both warm, 2 workers", ("",), places.pool),
    "asyncio": Row(
        "executor='asyncio', engine.arun() ÷ bare coroutines; and many that sleep", ("",), places.coroutines
    ),
    "dask": Row("executor='threads' ÷ dask.threaded.get, 2 workers", ("unordered",), places.dask_threads),
    "rollback": Row("undoing all atoms ÷ running them (serial)", MAIN, rollback),
    "scale": Row(
        f"time an atom of a large flow ÷ of one with {SMALL:,}; declare, compile and run (serial); "
        "and peak memory an atom of the large one, tasks included",
        ("linear", "graph", "layers"),
        scale,
    ),
    "import": Row("import of engines, task, retry and the three patterns ÷ import of networkx", ("",), imports),
    "taskflow": Row(
        f"OpenStack TaskFlow {peers.TASKFLOW.version} ÷ taskflowx; declare, compile and run (serial)",
        ("linear",),
        taskflow,
    ),
    "commits": Row(
        "rows a second of the bare driver, synced, and atoms a second of a durable run; and its commits",
        ("",),
        durable.commits,
    ),
    "dbos": Row(
        f"DBOS {peers.DBOS.version}, seconds a step ÷ taskflowx, seconds an atom; both on SQLite",
        ("linear",),
        durable.against(peers.DBOS, 5.0, 1_000),
    ),
    "taskflow-sqlite": Row(
        f"OpenStack TaskFlow {peers.TASKFLOW.version} ÷ taskflowx, both on SQLite; run (serial)",
        ("linear",),
        durable.against(peers.TASKFLOW_ON_SQLITE, 50.0, 200),
    ),
    "resume": Row(
        "read the record of a finished run from SQLite, load and open it; declaring the flow is not counted",
        ("",),
        durable.resume,
    ),
}
