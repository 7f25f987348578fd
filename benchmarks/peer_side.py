"""One side of a comparison: runs a graph of calls on an engine, and prints how long that took.

`peers` runs this file with the interpreter of an environment that has the engine: the other one's, or ours. It is told
the engine, the shape and size of the graph and how long each call works; both sides are told the same. Each engine is
used in the plainest way that its own documentation shows, and what can be prepared is prepared outside of the clock.
"""

from __future__ import annotations

import contextlib
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

sys.path.append(str(Path(__file__).resolve().parent))  # run with -I, which leaves it out

import grain
import graphs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Graph = list[list[int]]
    #: runs the graph once, and returns how many calls were made
    Run = Callable[[], int]


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


# -- by hand ---------------------------------------------------------------------------------------


@contextlib.contextmanager
def graphlib_threads(graph: Graph, size: int, workers: int) -> Iterator[Run]:
    """Run a loop of `graphlib` and `concurrent.futures.ThreadPoolExecutor`."""
    import concurrent.futures

    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        yield _loop(graph, size, pool)


@contextlib.contextmanager
def graphlib_processes(graph: Graph, size: int, workers: int) -> Iterator[Run]:
    """Run a loop of `graphlib` and `concurrent.futures.ProcessPoolExecutor`."""
    import concurrent.futures

    with concurrent.futures.ProcessPoolExecutor(workers) as pool:
        yield _loop(graph, size, pool)


def _loop(graph: Graph, size: int, pool: Any) -> Run:
    import loops

    call = types.SimpleNamespace(execute=functools.partial(step, size))
    known: Any = types.SimpleNamespace(tasks=[call] * len(graph), inputs=graph if any(graph) else None)

    def run() -> int:
        sorter = graphlib.TopologicalSorter(dict(enumerate(graph)))
        sorter.prepare()
        return sum(loops.on_pool(known, sorter, pool).values())

    return run


# -- ours ------------------------------------------------------------------------------------------


@contextlib.contextmanager
def taskflowx_threads(graph: Graph, size: int, workers: int) -> Iterator[Run]:
    """Run tasks on our threads."""
    yield _ours(graph, size, executor="threads", max_workers=workers)


@contextlib.contextmanager
def taskflowx_serial(graph: Graph, size: int, _: int) -> Iterator[Run]:
    """Run tasks one after another."""
    yield _ours(graph, size)


@contextlib.contextmanager
def taskflowx_processes(graph: Graph, size: int, workers: int) -> Iterator[Run]:
    """Run tasks on our worker processes."""
    from taskflowx.executors.processes import ProcessPool

    with ProcessPool(workers) as pool:
        yield _ours(graph, size, executor=pool)


def _ours(graph: Graph, size: int, **options: Any) -> Run:
    import taskflowx.task
    from taskflowx import engines
    from taskflowx.patterns import graph_flow

    flow = graph_flow.Flow("graph").add(*_tasks(taskflowx.task, graph, size))

    def run() -> int:
        engine = engines.load(flow, **options)
        engine.run()
        return sum(engine.storage.get(name) for name in engine.storage.get_atoms_states(map(str, range(len(graph)))))

    return run


@functools.cache
def _class_of(module: Any) -> Any:
    """Return a class of tasks, of ours or of TaskFlow's: they are written the same."""

    def execute(self: Any, **results: int) -> int:
        return step(self.size, *results.values())

    return type("Step", (module.Task,), {"execute": execute, "__module__": __name__})


def __getattr__(name: str) -> Any:
    """Give worker processes of ours the class of the tasks that they are sent."""
    if name != "Step":
        raise AttributeError(name)
    import taskflowx.task

    return _class_of(taskflowx.task)


def _tasks(module: Any, graph: Graph, size: int) -> list[Any]:
    cls = _class_of(module)
    tasks = []
    for node, before in enumerate(graph):
        made = cls(name=f"{node}", provides=f"n{node}", requires=[f"n{other}" for other in before])
        made.size = size
        tasks.append(made)
    return tasks


# -- others ----------------------------------------------------------------------------------------


@contextlib.contextmanager
def taskflow(graph: Graph, size: int, workers: int) -> Iterator[Run]:
    """Run tasks on OpenStack TaskFlow's parallel engine, with threads."""
    from taskflow import engines, task  # type: ignore[import-not-found]
    from taskflow.patterns import graph_flow  # type: ignore[import-not-found]

    flow = graph_flow.Flow("graph").add(*_tasks(task, graph, size))

    def run() -> int:
        engine = engines.load(flow, engine="parallel", executor="threads", max_workers=workers)
        engine.run()
        return sum(engine.storage.get(str(node)) for node in range(len(graph)))

    yield run


@contextlib.contextmanager
def dask_threads(graph: Graph, size: int, workers: int) -> Iterator[Run]:
    """Run a graph of Dask's with its threaded scheduler."""
    from dask import threaded

    known = {f"n{node}": (step, size, *(f"n{other}" for other in before)) for node, before in enumerate(graph)}
    yield lambda: sum(threaded.get(known, list(known), num_workers=workers))


@contextlib.contextmanager
def dask_distributed(graph: Graph, size: int, workers: int) -> Iterator[Run]:
    """Submit calls to a local cluster of Dask's."""
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=None) as cluster,  # type: ignore[no-untyped-call]
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):

        def run() -> int:
            futures: list[Any] = []
            for before in graph:
                futures.append(client.submit(step, size, *(futures[other] for other in before), pure=False))
            return sum(client.gather(futures))

        yield run


@contextlib.contextmanager
def joblib(graph: Graph, size: int, workers: int) -> Iterator[Run]:
    """Run row after row with `joblib.Parallel`, which knows no dependencies."""
    from joblib import Parallel, delayed

    rows = levels(graph)
    with Parallel(workers) as parallel:
        yield lambda: sum(sum(parallel(delayed(step)(size) for _ in row)) for row in rows)


@contextlib.contextmanager
def parsl(graph: Graph, size: int, workers: int) -> Iterator[Run]:
    """Run apps of Parsl's on its threads."""
    import parsl  # type: ignore[import-not-found]

    pool = parsl.ThreadPoolExecutor(max_threads=workers)
    folder = tempfile.TemporaryDirectory()
    with folder as path, parsl.load(parsl.Config(executors=[pool], run_dir=path, usage_tracking=0)):
        app = parsl.python_app(step)

        def run() -> int:
            futures: list[Any] = []
            for before in graph:
                futures.append(app(size, *(futures[other] for other in before)))
            return sum(future.result() for future in futures)

        yield run


@contextlib.contextmanager
def ray(graph: Graph, size: int, workers: int) -> Iterator[Run]:
    """Run remote functions of Ray's on this machine."""
    import ray  # type: ignore[import-not-found]

    here = str(Path(__file__).resolve().parent)
    ray.init(
        num_cpus=workers,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="ERROR",
        runtime_env={"env_vars": {"PYTHONPATH": here}},
    )
    remote = ray.remote(step)

    def run() -> int:
        references: list[Any] = []
        for before in graph:
            references.append(remote.remote(size, *(references[other] for other in before)))
        return sum(ray.get(references))

    yield run
    ray.shutdown()


@contextlib.contextmanager
def hamilton(graph: Graph, size: int, _: int) -> Iterator[Run]:
    """Run functions of a module with Hamilton's driver, one after another."""
    from hamilton import driver  # type: ignore[import-not-found]

    lines = ["from peer_side import step"]
    for node, before in enumerate(graph):
        takes = ", ".join(f"n{other}: int" for other in before)
        gives = ", ".join([str(size), *(f"n{other}" for other in before)])
        lines.append(f"def n{node}({takes}) -> int:\n    return step({gives})")
    module = types.ModuleType("made")
    sys.modules["made"] = module
    exec("\n".join(lines), module.__dict__)  # noqa: S102 - Hamilton reads the names of functions and of their parameters
    built = driver.Builder().with_modules(module).build()
    wanted = [f"n{node}" for node in range(len(graph))]
    yield lambda: sum(built.execute(wanted).values())


@contextlib.contextmanager
def sayiir(graph: Graph, size: int, _: int) -> Iterator[Run]:
    """Run a chain, or branches that are joined, with Sayiir."""
    from sayiir import Flow, run_workflow  # type: ignore[import-not-found]

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
    yield lambda: int(run_workflow(built, 0))


@contextlib.contextmanager
def dbos(graph: Graph, size: int, _: int) -> Iterator[Run]:
    """Run a workflow of DBOS that calls its steps one after another, with its record in SQLite."""
    from dbos import DBOS  # type: ignore[import-not-found]

    call = DBOS.step()(step)

    @DBOS.workflow()  # type: ignore[untyped-decorator]
    def workflow() -> int:
        results: list[int] = []
        for before in graph:
            results.append(call(size, *(results[other] for other in before)))
        return sum(results)

    with tempfile.TemporaryDirectory() as folder:
        url = f"sqlite:///{folder}/dbos.db"
        DBOS(config={"name": "bench", "system_database_url": url, "run_admin_server": False, "log_level": "ERROR"})
        DBOS.launch()
        yield workflow
        DBOS.destroy()


@contextlib.contextmanager
def prefect(graph: Graph, size: int, workers: int) -> Iterator[Run]:
    """Run a flow of Prefect's that submits its tasks to threads."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"PREFECT_HOME": folder, "PREFECT_LOGGING_LEVEL": "CRITICAL", "DO_NOT_TRACK": "1"}
        from prefect import flow, task  # type: ignore[import-not-found]
        from prefect.task_runners import ThreadPoolTaskRunner  # type: ignore[import-not-found]

        call = task(step)

        @flow(task_runner=ThreadPoolTaskRunner(max_workers=workers))  # type: ignore[untyped-decorator]
        def everything() -> int:
            futures: list[Any] = []
            for before in graph:
                futures.append(call.submit(size, *(futures[other] for other in before)))
            return sum(future.result() for future in futures)

        yield everything


@contextlib.contextmanager
def luigi(graph: Graph, size: int, _: int) -> Iterator[Run]:
    """Run tasks of Luigi's with its local scheduler and targets in memory; one process, as these cannot be shared."""
    import luigi  # type: ignore[import-not-found]
    from luigi.mock import MockTarget  # type: ignore[import-not-found]

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

    turns = itertools.count()

    def run() -> int:
        turn = next(turns)
        nodes = [Node(node=node, turn=turn) for node in range(len(graph))]
        luigi.build(nodes, local_scheduler=True, log_level="CRITICAL")
        return sum(node.output().exists() for node in nodes)

    yield run


SIDES: dict[str, Callable[..., contextlib.AbstractContextManager[Run]]] = {
    "taskflowx-serial": taskflowx_serial,
    "taskflowx-threads": taskflowx_threads,
    "taskflowx-processes": taskflowx_processes,
    "graphlib-threads": graphlib_threads,
    "graphlib-processes": graphlib_processes,
    "taskflow": taskflow,
    "dask-threads": dask_threads,
    "dask-distributed": dask_distributed,
    "joblib": joblib,
    "parsl": parsl,
    "ray": ray,
    "hamilton": hamilton,
    "sayiir": sayiir,
    "dbos": dbos,
    "prefect": prefect,
    "luigi": luigi,
}


def measure(side: str, shape: str, nodes: int, seconds: float, workers: int, repeats: int) -> dict[str, Any]:
    """Run a graph a few times; returns the seconds of each run, and how long one call works alone.

    :param seconds: about how long each call works; 0 for not at all
    """
    graph = graphs.GRAPHS[shape](nodes)
    size = grain.size_of(seconds) if seconds else 0
    taken = []
    with SIDES[side](graph, size, workers) as run:
        for turn in range(repeats + 1):
            gc.collect()
            started = time.perf_counter()
            made = run()
            if turn:  # the first one is to warm up
                taken.append(time.perf_counter() - started)
            if made != nodes:
                msg = f"{side} made {made} calls of {nodes}"
                raise RuntimeError(msg)
    return {"seconds": taken, "alone": grain.seconds_of(size) if size else 0.0}


if __name__ == "__main__":
    logging.disable(logging.CRITICAL)
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what engines print is no answer
    answers.write(json.dumps(measure(**json.loads(sys.argv[1]))))
    answers.close()
