"""What is measured: each row compares one thing, shape after shape, and says which bound it is held against.

The command line picks rows and shapes. Sides are prepared outside the clock unless the title says otherwise.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import io
import os
import subprocess
import sys
import tempfile
from typing import TYPE_CHECKING, Any

import networkx as nx

from benchmarks import (
    beside,
    clusters,
    durable,
    growth,
    limited,
    loops,
    metg,
    peers,
    places,
    reports,
    stops,
    stored,
    work,
    workloads,
)
from benchmarks.encoding import blobs_beside_files, codec_beside_json
from benchmarks.harness import EXECUTORS, FULL, ROOT, Figure, Sizes, an_atom, clock, compared, fresh, in_turn
from benchmarks.workloads import ready
from taskflowx import engines, states
from taskflowx.types import notifier

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from taskflowx.flow import Flow


MAIN = ("linear", "unordered", "layers")
WORKERS = places.WORKERS


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison.

    :param title: what is divided by what
    :param shapes: the shapes of flows that it is made for; one empty name if it has nothing to do with flows
    :param measure: takes the sizes and one shape, and yields figures
    :param sides: what is divided, and by what, in a word each
    :param executors: where tasks run
    :param further: shapes that it is made for as well when they are asked for
    """

    title: str
    shapes: tuple[str, ...]
    measure: Callable[[Sizes, str], Iterator[Figure]]
    sides: tuple[str, str] = ("taskflowx", "other")
    executors: tuple[str, ...] = ("serial",)
    further: tuple[str, ...] = ()


def serial(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare the engine with the bare loop."""
    claimed = shape in MAIN
    for atoms in dict.fromkeys((sizes.atoms, sizes.large) if claimed else (sizes.atoms,)):
        flow = workloads.SHAPES[shape](atoms)
        graph = loops.Graph(flow)

        def ours(flow: Flow = flow) -> float:
            engine = ready(flow)
            return clock(engine.run)

        def theirs(graph: loops.Graph = graph) -> float:
            sorter = graph.sorter()
            return clock(lambda: loops.serial(graph, sorter))

        turns = sizes.few if atoms == sizes.large else sizes.short if claimed else sizes.turns
        bound = 1.0 if claimed else None
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


def annotated(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Compare what comes before a run of annotated tasks with and without the check of their annotations."""
    flow = workloads.annotated(sizes.atoms)

    def prepared(types: str) -> Callable[[], float]:
        return lambda: clock(lambda: ready(flow, store={"0": {}}, types=types))

    turns = in_turn(sizes.short, prepared("strict"), prepared("ignore"))
    yield compared("compile, prepare and validate", turns, **an_atom(sizes.atoms), at_most=2.0)


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
    for label, atoms, listen, bound in (
        ("one listener, to all events", sizes.atoms, _to(notifier.Notifier.ANY), 1.5),
        ("one listener, to one event", sizes.atoms, _to(states.SUCCESS), None),
        ("progress bar", sizes.atoms, _progress_bar, 1.3),
        ("progress bar, long run", sizes.large, _progress_bar, 1.3),
    ):
        flow = workloads.linear(atoms)

        def run(listen: Any, flow: Flow = flow) -> float:
            engine = ready(flow)
            with listen(engine):
                return clock(engine.run)

        turns = sizes.turns if atoms == sizes.large else sizes.short
        measured = in_turn(turns, functools.partial(run, listen), functools.partial(run, contextlib.nullcontext))
        yield compared(label, measured, **an_atom(atoms), at_most=bound)

    def everything(listen: Any) -> float:
        def run() -> None:
            engine = engines.load(workloads.linear(sizes.atoms))
            with listen(engine):
                engine.run()

        return clock(run)

    listen = _to(notifier.Notifier.ANY)
    measured = in_turn(sizes.short, lambda: everything(listen), lambda: everything(contextlib.nullcontext))
    label = "one listener; declare, compile and run"
    yield compared(label, measured, **an_atom(sizes.atoms))


def _to(event: str) -> Callable[[Any], contextlib.AbstractContextManager[None]]:
    @contextlib.contextmanager
    def listen(engine: Any) -> Iterator[None]:
        engine.atom_notifier.register(event, workloads.hear)
        yield

    return listen


def _progress_bar(engine: Any) -> contextlib.AbstractContextManager[Any]:
    from rich.console import Console

    from taskflowx.listeners.progress import ProgressBarListener

    return ProgressBarListener(engine, console=Console(file=io.StringIO(), force_terminal=True))


def special(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare a flow that is more than tasks in some order with a linear one of as many atoms."""
    atoms = sizes.atoms
    turns = in_turn(sizes.rare, lambda: workloads.seconds(shape, atoms), lambda: workloads.seconds("linear", atoms))
    yield compared(shape, turns, **an_atom(atoms))


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
        return _loop_with_start_up(graph, "threads")

    yield compared(shape, in_turn(sizes.few, ours, theirs), **an_atom(sizes.atoms), at_most=0.5)


def _loop_with_start_up(graph: loops.Graph, kind: str) -> float:
    sorter = graph.sorter()

    def loop() -> None:
        with places.standard_pool(kind) as pool:
            loops.on_pool(graph, sorter, pool)

    return clock(loop)


def processes(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare the engine with the loop on one warm pool, and then with each making a pool of its own."""
    flow = workloads.SHAPES[shape](sizes.crossing)
    graph = loops.Graph(flow)
    with places.standard_pool("processes") as pool:

        def ours() -> float:
            engine = ready(flow, executor=pool)
            return clock(engine.run)

        def theirs() -> float:
            sorter = graph.sorter()
            return clock(lambda: loops.on_pool(graph, sorter, pool))

        yield compared(shape, in_turn(sizes.few, ours, theirs), **an_atom(sizes.crossing), at_most=1.3)

    small = workloads.SHAPES[shape](sizes.starting)
    small_graph = loops.Graph(small)

    def ours_by_name() -> float:
        engine = ready(small, executor="processes", max_workers=WORKERS)
        return clock(engine.run)

    def theirs_with_start_up() -> float:
        return _loop_with_start_up(small_graph, "processes")

    label = f"{shape}, with start-up"
    turns = in_turn(sizes.rare, ours_by_name, theirs_with_start_up, warm_up=not sizes.quick)
    yield compared(label, turns, **an_atom(sizes.starting))


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

        measured = in_turn(sizes.short, *map(starting, (OURS, "import networkx", "pass")))
    pairs = [(ours - bare, theirs - bare) for ours, theirs, bare in measured]
    yield compared("import", pairs, "ms", factor=1e3, at_most=0.3)


def taskflow(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Compare OpenStack TaskFlow with us."""
    atoms = sizes.chain
    sides = (
        lambda: peers.TASKFLOW.seconds(atoms),
        lambda: float(fresh("chain", atoms=atoms, repeats=50)),
    )
    yield beside.figure(peers.TASKFLOW, sizes, shape, sides, unit="ms", factor=1e3, atoms=atoms, at_least=1000.0)


ROWS = {
    "serial": Row(
        "engine.run() ÷ a bare graphlib loop that calls the same functions",
        workloads.PLAIN,
        serial,
        ("taskflowx", "loop"),
    ),
    "special": Row(
        "engine.run() of flows that nest, decide, retry all or undo all ÷ of a linear flow of as many atoms (serial)",
        tuple(workloads.SPECIAL),
        special,
        ("special", "linear"),
    ),
    "prepare": Row(
        "add tasks that are there to a flow, compile, prepare and validate ÷ networkx.DiGraph of the same tasks and "
        "edges, and topological_sort",
        MAIN,
        prepare,
        ("taskflowx", "networkx"),
    ),
    "types": Row(
        "what comes before a run of annotated tasks, with types='strict' ÷ with 'ignore'",
        ("",),
        annotated,
        ("strict", "ignore"),
    ),
    "metg": Row(
        "METG(50%): how long tasks must be so that half of the time goes into them",
        ("",),
        metg.measure,
        executors=EXECUTORS,
    ),
    "work": Row(
        "the least time that tasks of a length could take ÷ what they take, 2 workers; 1.00 is perfect",
        ("unordered",),
        work.efficiency,
        ("least", "taskflowx"),
        EXECUTORS,
        ("linear", "layers", "graph", "tree", "random", "diamonds"),
    ),
    "results": Row(
        "tasks with large results on our threads and processes ÷ the same calls on the standard pools, 2 workers",
        ("",),
        work.results,
        ("taskflowx", "standard"),
        ("threads", "processes"),
    ),
    "nested": Row("flows nested ten deep ÷ a flat flow (serial)", ("nested",), nested, ("nested", "flat")),
    "listeners": Row(
        "a run that somebody listens to ÷ one that nobody listens to (serial)",
        ("linear",),
        listeners,
        ("heard", "unheard"),
    ),
    "failures": Row("many failures under one retry ÷ one failure (serial)", ("",), failures, ("many", "one")),
    "threads": Row(
        "executor='threads' ÷ a loop of graphlib and ThreadPoolExecutor, 2 workers",
        MAIN,
        threads,
        ("taskflowx", "loop"),
        ("threads",),
    ),
    "limits": Row(
        "limits and rates that are set and never reached ÷ none, threads, independent no-ops; and how they are kept",
        ("",),
        limited.measure,
        ("limited", "free"),
        ("threads",),
    ),
    "processes": Row(
        "engine.run() ÷ a loop of graphlib, both on one warm ProcessPoolExecutor, 2 workers; "
        "and with start-up: executor='processes' ÷ a pool made for the loop",
        MAIN,
        processes,
        ("taskflowx", "loop"),
        ("processes",),
    ),
    "pool": Row("our worker processes ÷ others, both warm, 2 workers", ("",), places.pool, executors=("processes",)),
    "asyncio": Row(
        "executor='asyncio', engine.arun() ÷ bare coroutines; and many that sleep",
        ("",),
        places.coroutines,
        ("taskflowx", "bare"),
        ("asyncio",),
    ),
    "dask": Row(
        "executor='threads' ÷ dask.threaded.get, 2 workers",
        ("unordered",),
        places.dask_threads,
        ("taskflowx", "dask"),
        ("threads",),
    ),
    "dask-cluster": Row(
        "a run on a cluster of Dask, 2 workers ÷ calls of its client",
        ("",),
        clusters.cluster,
        ("taskflowx", "dask"),
        ("dask",),
    ),
    "stops": Row(
        "calls that sleep, stopped by a cancel or a time limit: seconds until control returns",
        ("",),
        stops.stopping,
        executors=("processes", "asyncio", "threads"),
    ),
    "waits": Row("retries and runs that wait", ("",), stops.waiting, executors=("threads", "asyncio")),
    "rollback": Row("undoing all atoms ÷ running them (serial)", MAIN, rollback, ("undoing", "running")),
    "scale": Row(
        f"time an atom of a large flow ÷ of one with {FULL.small:,}; declare, compile and run (serial); "
        "and peak memory an atom of the large one, tasks included",
        ("linear", "graph", "layers"),
        growth.scale,
        ("large", "small"),
    ),
    "growth": Row(
        "time and memory an atom of a large flow ÷ of one with 1,000; declare, compile and run (serial); "
        "what lies between is in the picture",
        growth.SHAPES,
        growth.growth,
        ("large", "small"),
        further=("tree", "random", "diamonds", *workloads.SPECIAL),
    ),
    "import": Row(
        "import of engines, task, retry and the three patterns ÷ import of networkx",
        ("",),
        imports,
        ("taskflowx", "networkx"),
        (),
    ),
    "taskflow": Row(
        f"OpenStack TaskFlow {peers.TASKFLOW.version} ÷ taskflowx; declare, compile and run (serial)",
        ("linear",),
        taskflow,
        ("taskflow", "taskflowx"),
    ),
    "commits": Row(
        "rows a second of the bare driver, synced, and atoms a second of a durable run; and its commits",
        ("",),
        durable.commits,
        ("driver", "taskflowx"),
    ),
    "processor": Row(
        "processor time of a durable chain in SQLite, and of the same statements on the bare driver, without a disk",
        ("",),
        durable.processor,
        ("taskflowx", "driver"),
    ),
    "history": Row(
        "a durable chain whose history is kept ÷ one without",
        ("",),
        durable.with_history,
        ("with", "without"),
    ),
    "unhinged": Row(
        f"unhinged {peers.UNHINGED.version} ÷ taskflowx; processor time of a durable chain in SQLite, without a disk",
        ("linear",),
        durable.processor_beside(peers.UNHINGED),
        ("unhinged", "taskflowx"),
    ),
    "durable": Row(
        "a run with each step kept in SQLite before the next one ÷ a run in memory (serial)",
        tuple(workloads.SHAPES),
        durable.against_memory,
        ("durable", "memory"),
    ),
    "dbos": Row(
        f"DBOS {peers.DBOS.version}, seconds a step ÷ taskflowx, seconds an atom; both on SQLite",
        ("linear",),
        durable.against(peers.DBOS, 5.0),
        ("dbos", "taskflowx"),
    ),
    "taskflow-sqlite": Row(
        f"OpenStack TaskFlow {peers.TASKFLOW.version} ÷ taskflowx, both on SQLite; run (serial)",
        ("linear",),
        durable.against(peers.TASKFLOW_ON_SQLITE, 50.0, 200),
        ("taskflow", "taskflowx"),
    ),
    "resume": Row(
        "read the record of a finished run from SQLite, load and open it; declaring the flow is not counted",
        ("",),
        durable.resume,
        ("large", "small"),
    ),
    "starts": Row(
        "starting a run by its id, in SQLite without a disk",
        ("",),
        stored.starts,
        (),
        (),
    ),
    "runs": Row(
        "calls on runs in a SQLite store that holds many, without a disk",
        ("",),
        stored.in_a_large_store,
        ("large", "small"),
        (),
    ),
    "codec": Row(
        "write and read a plain value by the codec of stores ÷ json.dumps and json.loads",
        ("",),
        codec_beside_json,
        ("codec", "json"),
        (),
    ),
    "blobs": Row(
        "keep 10 MB of bytes in a blob ÷ write and fsync of the same",
        ("",),
        blobs_beside_files,
        ("blob", "file"),
        (),
    ),
    "report": Row(
        "the HTML report of a run in threads: seconds to write it, KB, seconds until Chromium shows the first of it",
        ("layers",),
        reports.report,
        ("report", ""),
        ("threads",),
    ),
}
