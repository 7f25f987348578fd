"""One side of a comparison: runs graphs of calls on an engine, and prints how long that took.

`peers` runs this file with the interpreter of an environment that has the engine: the other one's, or ours. It is told
the engine, the graphs and how much each call works, and both sides are told the same. Each engine is used in the
plainest way that its own documentation shows. It is started once, outside of the clock, and so is made whatever serves
many runs of a graph; what is needed for each run again is counted. For each graph a line of JSON is printed.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import gc
import graphlib
import itertools
import json
import logging
import os
import sys
import tempfile
import time
import types
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))  # run with -I, which leaves it out

from benchmarks import efficiency, grain, graphs, loops

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Graph = list[list[int]]
    #: runs the graph, and returns how many calls were made
    Run = Callable[[], int]
    #: takes a graph and how many bytes each call hashes; returns what makes a run ready
    Prepare = Callable[[Graph, int], Callable[[], Run]]

ENOUGH = 0.5  # seconds after which a graph is not run again
WARM: set[str] = set()  # the shapes that have been run once, without work


def step(size: int, *_: int) -> int:
    """Work, and return 1; takes the results of other steps."""
    grain.work(size)
    return 1


def levels(graph: Graph) -> list[list[int]]:
    """Return the nodes in rows, each of which depends only on rows before."""
    depth: list[int] = []
    for before in graph:
        depth.append(1 + max((depth[other] for other in before), default=-1))
    rows: list[list[int]] = [[] for _ in range(max(depth) + 1)]
    for node, row in enumerate(depth):
        rows[row].append(node)
    return rows


def again(run: Run) -> Callable[[], Run]:
    """Return what makes a run ready that needs nothing before it."""
    return lambda: run


# -- by hand ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def graphlib_threads(workers: int) -> Iterator[Prepare]:
    """Run a loop of `graphlib` and `concurrent.futures.ThreadPoolExecutor`."""
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        yield functools.partial(_loop, pool)


@contextlib.contextmanager
def graphlib_processes(workers: int) -> Iterator[Prepare]:
    """Run a loop of `graphlib` and `concurrent.futures.ProcessPoolExecutor`."""
    import concurrent.futures

    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        yield functools.partial(_loop, pool)


def _loop(pool: Any, graph: Graph, size: int) -> Callable[[], Run]:
    call = types.SimpleNamespace(execute=functools.partial(step, size))
    known: Any = types.SimpleNamespace(tasks=[call] * len(graph), inputs=graph if any(graph) else None)

    def ready() -> Run:
        sorter = graphlib.TopologicalSorter(dict(enumerate(graph)))
        sorter.prepare()
        return lambda: sum(loops.on_pool(known, sorter, pool).values())

    return ready


# -- ours ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def taskflowx_serial(_: int) -> Iterator[Prepare]:
    """Run tasks one after another."""
    yield functools.partial(_ours, {})


@contextlib.contextmanager
def taskflowx_threads(workers: int) -> Iterator[Prepare]:
    """Run tasks on our threads."""
    yield functools.partial(_ours, {"executor": "threads", "max_workers": workers})


@contextlib.contextmanager
def taskflowx_processes(workers: int) -> Iterator[Prepare]:
    """Run tasks on our worker processes."""
    from taskflowx.executors.processes import ProcessPool

    with ProcessPool(workers) as pool:
        yield functools.partial(_ours, {"executor": pool})


@contextlib.contextmanager
def taskflowx_asyncio(_: int) -> Iterator[Prepare]:
    """Run coroutines."""
    yield functools.partial(_ours, {"executor": "asyncio"})


def _ours(options: dict[str, Any], graph: Graph, size: int) -> Callable[[], Run]:
    import taskflowx.task
    from taskflowx import engines
    from taskflowx.patterns import graph_flow

    awaited = options.get("executor") == "asyncio"
    flow = graph_flow.Flow("graph").add(*_tasks(taskflowx.task, graph, size, awaited=awaited))

    def ready() -> Run:
        engine = engines.load(flow, **options)
        engine.compile()
        engine.prepare()
        engine.validate()

        def run() -> int:
            if awaited:
                asyncio.run(engine.arun())
            else:
                engine.run()
            return _sum(engine, graph)

        return run

    return ready


def _sum(engine: Any, graph: Graph) -> int:
    """Return the sum of all results, of an engine of ours or of TaskFlow's."""
    get = engine.storage.get
    return sum(get(str(node)) for node in range(len(graph)))


def _tasks(module: Any, graph: Graph, size: int, *, awaited: bool = False) -> list[Any]:
    cls = class_of(module, awaited=awaited)
    tasks = []
    for node, before in enumerate(graph):
        made = cls(name=f"{node}", provides=f"n{node}", requires=[f"n{other}" for other in before])
        made.size = size
        tasks.append(made)
    return tasks


@functools.cache
def class_of(module: Any, *, awaited: bool) -> Any:
    """Return a class of tasks, of ours or of TaskFlow's: they are written the same."""

    def execute(self: Any, **results: int) -> int:
        return step(self.size, *results.values())

    async def aexecute(self: Any, **results: int) -> int:
        return step(self.size, *results.values())

    return type("Step", (module.Task,), {"execute": aexecute if awaited else execute, "__module__": __name__})


def __getattr__(name: str) -> Any:
    """Give worker processes of ours the class of the tasks that they are sent."""
    if name != "Step":
        raise AttributeError(name)
    import taskflowx.task

    return class_of(taskflowx.task, awaited=False)


# -- others ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def taskflow(workers: int) -> Iterator[Prepare]:
    """Run tasks on OpenStack TaskFlow's parallel engine, with threads."""
    from taskflow import engines, task  # type: ignore[import-not-found]
    from taskflow.patterns import graph_flow  # type: ignore[import-not-found]

    def prepare(graph: Graph, size: int) -> Callable[[], Run]:
        flow = graph_flow.Flow("graph").add(*_tasks(task, graph, size))

        def ready() -> Run:
            engine = engines.load(flow, engine="parallel", executor="threads", max_workers=workers)
            engine.compile()
            engine.prepare()
            engine.validate()

            def run() -> int:
                engine.run()
                return _sum(engine, graph)

            return run

        return ready

    yield prepare


@contextlib.contextmanager
def dask_threads(workers: int) -> Iterator[Prepare]:
    """Run a graph of Dask's with its threaded scheduler."""
    from dask import threaded

    def prepare(graph: Graph, size: int) -> Callable[[], Run]:
        known = {f"n{node}": (step, size, *(f"n{other}" for other in before)) for node, before in enumerate(graph)}
        return again(lambda: sum(threaded.get(known, list(known), num_workers=workers)))

    yield prepare


@contextlib.contextmanager
def dask_distributed(workers: int) -> Iterator[Prepare]:
    """Submit calls to a local cluster of Dask's."""
    from distributed import Client, LocalCluster

    def prepare(graph: Graph, size: int) -> Callable[[], Run]:
        def run() -> int:
            futures: list[Any] = []
            for before in graph:
                futures.append(client.submit(step, size, *(futures[other] for other in before), pure=False))
            return sum(client.gather(futures))

        return again(run)

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,  # type: ignore[no-untyped-call]
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        yield prepare


@contextlib.contextmanager
def joblib(workers: int) -> Iterator[Prepare]:
    """Run row after row with `joblib.Parallel`, which knows no dependencies."""
    from joblib import Parallel, delayed

    def prepare(graph: Graph, size: int) -> Callable[[], Run]:
        rows = levels(graph)
        return again(lambda: sum(sum(parallel(delayed(step)(size) for _ in row)) for row in rows))

    with Parallel(workers) as parallel:
        yield prepare


@contextlib.contextmanager
def parsl(workers: int) -> Iterator[Prepare]:
    """Run apps of Parsl's on its threads."""
    import parsl  # type: ignore[import-not-found]

    app = parsl.python_app(step)

    def prepare(graph: Graph, size: int) -> Callable[[], Run]:
        def run() -> int:
            futures: list[Any] = []
            for before in graph:
                futures.append(app(size, *(futures[other] for other in before)))
            return sum(future.result() for future in futures)

        return again(run)

    pool = parsl.ThreadPoolExecutor(max_threads=workers)
    folder = tempfile.TemporaryDirectory()
    with folder as path, parsl.load(parsl.Config(executors=[pool], run_dir=path, usage_tracking=0)):
        yield prepare


@contextlib.contextmanager
def ray(workers: int) -> Iterator[Prepare]:
    """Run remote functions of Ray's on this machine."""
    import ray  # type: ignore[import-not-found]

    remote = ray.remote(step)

    def prepare(graph: Graph, size: int) -> Callable[[], Run]:
        def run() -> int:
            references: list[Any] = []
            for before in graph:
                references.append(remote.remote(size, *(references[other] for other in before)))
            return sum(ray.get(references))

        return again(run)

    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": sys.path[0]}},
    )
    yield prepare
    ray.shutdown()


@contextlib.contextmanager
def hamilton(_: int) -> Iterator[Prepare]:
    """Run functions of a module with Hamilton's driver, one after another."""
    from hamilton import driver  # type: ignore[import-not-found]

    def prepare(graph: Graph, size: int) -> Callable[[], Run]:
        lines = ["from benchmarks.peer_side import step"]
        for node, before in enumerate(graph):
            takes = ", ".join(f"n{other}: int" for other in before)
            gives = ", ".join([str(size), *(f"n{other}" for other in before)])
            lines.append(f"def n{node}({takes}) -> int:\n    return step({gives})")
        module = types.ModuleType("made")
        sys.modules["made"] = module
        exec("\n".join(lines), module.__dict__)  # noqa: S102 - Hamilton reads names of functions and their parameters
        built = driver.Builder().with_modules(module).build()
        wanted = [f"n{node}" for node in range(len(graph))]
        return again(lambda: sum(built.execute(wanted).values()))

    yield prepare


@contextlib.contextmanager
def sayiir(_: int) -> Iterator[Prepare]:
    """Run a chain, or branches that are joined, with Sayiir."""
    from sayiir import Flow, run_workflow  # type: ignore[import-not-found]

    def prepare(graph: Graph, size: int) -> Callable[[], Run]:
        if graph == graphs.chain(len(graph)):
            flow = Flow("chain")
            for _node in graph:
                flow = flow.then(lambda count: count + step(size))
        elif graph == graphs.unordered(len(graph)):
            forked = Flow("branches").fork()
            for _node in graph:
                forked = forked.branch(lambda _: step(size))
            flow = forked.join(lambda results: sum(results.values()))
        else:
            raise NotImplementedError("it has chains, branches and joins, and no other graphs")
        built = flow.build()
        return again(lambda: int(run_workflow(built, 0)))

    yield prepare


@contextlib.contextmanager
def dbos(_: int) -> Iterator[Prepare]:
    """Run a workflow of DBOS that calls its steps one after another, with its record in SQLite."""
    from dbos import DBOS  # type: ignore[import-not-found]

    call = DBOS.step()(step)

    @DBOS.workflow()  # type: ignore[untyped-decorator]
    def workflow(graph: Graph, size: int) -> int:
        results: list[int] = []
        for before in graph:
            results.append(call(size, *(results[other] for other in before)))
        return sum(results)

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/dbos.db"
        DBOS(config={"name": "bench", "system_database_url": url, "run_admin_server": False, "log_level": "ERROR"})
        DBOS.launch()
        yield lambda graph, size: again(lambda: int(workflow(graph, size)))
        DBOS.destroy()


@contextlib.contextmanager
def prefect(workers: int) -> Iterator[Prepare]:
    """Run a flow of Prefect's that submits its tasks to threads."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"PREFECT_HOME": folder, "PREFECT_LOGGING_LEVEL": "CRITICAL"}
        from prefect import flow, task  # type: ignore[import-not-found]
        from prefect.task_runners import ThreadPoolTaskRunner  # type: ignore[import-not-found]

        call = task(step)

        def prepare(graph: Graph, size: int) -> Callable[[], Run]:
            @flow(task_runner=ThreadPoolTaskRunner(max_workers=workers))  # type: ignore[untyped-decorator]
            def everything() -> int:
                futures: list[Any] = []
                for before in graph:
                    futures.append(call.submit(size, *(futures[other] for other in before)))
                return sum(future.result() for future in futures)

            return again(everything)

        yield prepare


@contextlib.contextmanager
def luigi(_: int) -> Iterator[Prepare]:
    """Run tasks of Luigi's with its local scheduler and targets in memory; one process, as these cannot be shared."""
    import luigi  # type: ignore[import-not-found]
    from luigi.mock import MockTarget  # type: ignore[import-not-found]

    turns = itertools.count()

    def prepare(graph: Graph, size: int) -> Callable[[], Run]:
        class Node(luigi.Task):  # type: ignore[misc]
            node = luigi.IntParameter()
            turn = luigi.IntParameter()

            def requires(self) -> list[Any]:
                return [Node(node=other, turn=self.turn) for other in graph[self.node]]

            def output(self) -> Any:
                return MockTarget(f"{self.turn}.{self.node}")

            def run(self) -> None:
                with self.output().open("w") as out:
                    out.write(str(step(size)))

        def run() -> int:
            turn = next(turns)
            nodes = [Node(node=node, turn=turn) for node in range(len(graph))]
            luigi.build(nodes, local_scheduler=True, log_level="CRITICAL")
            return sum(node.output().exists() for node in nodes)

        return again(run)

    yield prepare


@dataclasses.dataclass(frozen=True)
class Side:
    """An engine.

    :param open: takes how many workers there are; starts it, and ends it
    :param parallel: whether it makes calls at once that work in Python
    """

    open: Callable[[int], contextlib.AbstractContextManager[Prepare]]
    parallel: bool = True


SIDES = {
    "taskflowx-serial": Side(taskflowx_serial, parallel=False),
    "taskflowx-threads": Side(taskflowx_threads),
    "taskflowx-processes": Side(taskflowx_processes),
    "taskflowx-asyncio": Side(taskflowx_asyncio, parallel=False),
    "graphlib-threads": Side(graphlib_threads),
    "graphlib-processes": Side(graphlib_processes),
    "taskflow": Side(taskflow),
    "dask-threads": Side(dask_threads),
    "dask-distributed": Side(dask_distributed),
    "joblib": Side(joblib),
    "parsl": Side(parsl),
    "ray": Side(ray),
    "hamilton": Side(hamilton, parallel=False),
    "sayiir": Side(sayiir, parallel=False),
    "dbos": Side(dbos, parallel=False),
    "prefect": Side(prefect),
    "luigi": Side(luigi, parallel=False),
}


# -- what is measured ------------------------------------------------------------------------------


def timed(run: Run, nodes: int) -> float:
    """Return how many seconds a run takes.

    :raises RuntimeError: when it has not made all calls
    """
    gc.collect()
    started = time.perf_counter()
    made = run()
    seconds = time.perf_counter() - started
    if made != nodes:
        msg = f"{made} calls of {nodes} were made"
        raise RuntimeError(msg)
    return seconds


def graph_of(prepare: Prepare, _: int, *, shape: str, nodes: int, size: int, repeats: int) -> dict[str, Any]:
    """Run a graph a few times; returns the seconds of each run."""
    graph = graphs.GRAPHS[shape](nodes)
    if shape not in WARM:
        timed(prepare(graph, 0)(), nodes)
        WARM.add(shape)
    ready = prepare(graph, size)

    def run() -> int:
        return ready()()

    taken: list[float] = []
    while len(taken) < repeats and sum(taken) < ENOUGH:
        taken.append(timed(run, nodes))
    return {"seconds": taken}


def curve_of(prepare: Prepare, workers: int, *, repeats: int, patience: float) -> dict[str, Any]:
    """Run tasks that do not depend on each other, long ones and then shorter ones; returns the curve of efficiency."""
    kept = functools.lru_cache(maxsize=1)(lambda count, size: prepare(graphs.unordered(count), size))

    def run(count: int, size: int) -> float:
        return timed(kept(count, size)(), count)

    start = efficiency.start_of(run, workers)
    points = efficiency.curve(run, workers, start=start, repeats=repeats, patience=patience)
    return {"points": [dataclasses.asdict(point) for point in points]}


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {"graph": graph_of, "curve": curve_of}


def reason(error: Exception) -> str:
    """Say in one line why something failed."""
    lines = str(error).strip().splitlines() or [""]
    return lines[0] if isinstance(error, NotImplementedError) else f"{type(error).__name__}: {lines[0]}"


def measure(side: str, workers: int, asked: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Start an engine and measure all that is asked; iterates over the answers.

    :param asked: for each answer the name of a measure and its parameters
    """
    left = list(asked)
    try:
        with SIDES[side].open(workers) as prepare:
            at_once = workers if SIDES[side].parallel else 1
            while left:
                what = left[0].pop("measure")
                try:
                    answer = MEASURES[what](prepare, at_once, **left[0])
                except Exception as error:  # noqa: BLE001 - one graph may be too much for an engine that runs others
                    answer = {"refused": reason(error)}
                del left[0]
                yield answer
    except Exception as error:  # noqa: BLE001 - whatever keeps an engine from starting is a reason to be shown
        for _ in left:
            yield {"refused": reason(error)}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what engines print is no answer
    for given in measure(**json.loads(sys.argv[1])):
        answers.write(json.dumps(given) + "\n")
        answers.flush()
