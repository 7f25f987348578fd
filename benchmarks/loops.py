"""What a person would write by hand, with `graphlib` and `concurrent.futures`, to run the tasks of a flow.

Rows run a loop on the very tasks that the engine runs. The loops are as lean as such a loop can be: nodes are
numbers, results are held in a dict, and nothing else is recorded.
"""

from __future__ import annotations

import graphlib
import queue
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import concurrent.futures

    from taskflowx.flow import Flow

Sorter = graphlib.TopologicalSorter[int]


class Graph:
    """The tasks of a flow without nested flows, by number, and how they depend on each other.

    `inputs` says for each task whose results it takes, in the order of its arguments; None if none takes any.
    """

    def __init__(self, flow: Flow) -> None:
        self.tasks: list[Any] = list(flow)
        number = {task.name: node for node, task in enumerate(self.tasks)}
        self.before: dict[int, list[int]] = {node: [] for node in number.values()}
        for u, v, _ in flow.iter_links():
            self.before[number[v.name]].append(number[u.name])
        inputs = [[number[name] for name in task.rebind.values()] for task in self.tasks]
        self.inputs = inputs if any(inputs) else None

    def sorter(self) -> Sorter:
        """Return a sorter that is ready to be iterated; each serves one loop."""
        sorter = graphlib.TopologicalSorter(self.before)
        sorter.prepare()
        return sorter


def serial(graph: Graph, sorter: Sorter) -> dict[int, Any]:
    """Run all tasks one after another; returns the results by number."""
    tasks, inputs = graph.tasks, graph.inputs
    results: dict[int, Any] = {}
    if inputs is None:
        while sorter.is_active():
            for node in sorter.get_ready():
                results[node] = tasks[node].execute()
                sorter.done(node)
    else:
        while sorter.is_active():
            for node in sorter.get_ready():
                results[node] = tasks[node].execute(*[results[other] for other in inputs[node]])
                sorter.done(node)
    return results


def on_pool(graph: Graph, sorter: Sorter, pool: concurrent.futures.Executor) -> dict[int, Any]:
    """Run all tasks on a pool; returns the results by number.

    Futures put themselves on a queue when they are done. The other obvious way, to `wait` for the first of
    all that run, is as fast on a chain, slower on layers, and takes quadratic time when many run at once.
    """
    tasks, inputs = graph.tasks, graph.inputs
    results: dict[int, Any] = {}
    running: dict[concurrent.futures.Future[Any], int] = {}
    finished: queue.SimpleQueue[concurrent.futures.Future[Any]] = queue.SimpleQueue()
    while sorter.is_active():
        for node in sorter.get_ready():
            values = [results[other] for other in inputs[node]] if inputs is not None else ()
            future = pool.submit(tasks[node].execute, *values)
            running[future] = node
            future.add_done_callback(finished.put)
        future = finished.get()
        node = running.pop(future)
        results[node] = future.result()
        sorter.done(node)
    return results
