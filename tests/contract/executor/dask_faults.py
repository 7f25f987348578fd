"""A run on a cluster, of which the N-th request or its answer is lost, for every N.

The cluster is a fence, two pumps and an event loop in this process; `test_dask` runs this program. Each effect is to
happen once, and the flow is to succeed, whichever request it is.
"""

import concurrent.futures
import contextlib
import itertools
import types

from distributed.core import Status
from distributed.utils import LoopRunner, sync

from taskflowx import engines, states
from taskflowx.executors.dask import cargo, executor, fence, pump
from taskflowx.patterns import graph_flow, unordered_flow
from tests.contract.executor.dask_tasks import EFFECTS, Effect


class Requests:
    """Calls the handlers of the fence, less the N-th request.

    :param lost: its number
    :param answered: whether it is its answer that is lost
    """

    def __init__(self, handlers, lost, *, answered):
        self.handlers, self.lost, self.answered = handlers, lost, answered
        self.numbers = itertools.count(1)
        self.made = 0

    def __getattr__(self, name):
        async def request(**message):
            self.made = number = next(self.numbers)
            if number == self.lost and not self.answered:
                raise OSError("the request was lost")
            answer = await self.handlers[name](**message)
            if number == self.lost:
                raise OSError("the answer was lost")
            return answer

        return request


class Future:
    def __init__(self, future):
        self.future = future

    @property
    def status(self):
        return "pending" if not self.future.done() else "error" if self.future.exception() else "finished"

    def exception(self, timeout):
        return self.future.exception(timeout)


class Cluster:
    """What an executor uses of a client: the workers are two threads."""

    status, id = "running", "client"

    def __init__(self, loop, lost, *, answered):
        self.loop = loop
        self.machine = types.SimpleNamespace(handlers={}, workers=("w",), total_nthreads=2)
        self.scheduler = Requests(self.machine.handlers, lost, answered=answered)
        self.worker = types.SimpleNamespace(
            loop=loop, status=Status.running, contact_address=None, address="w", scheduler=self.scheduler
        )
        self.threads = concurrent.futures.ThreadPoolExecutor(2)

    def sync(self, function, *args, callback_timeout):
        return sync(self.loop, function, *args, callback_timeout=callback_timeout)

    async def register_plugin(self, plugin):
        self.fence = plugin
        await plugin.start(self.machine)

    def submit(self, function, run, name, variables, *, key, pure):
        return Future(self.threads.submit(pump.Pump(self.worker, run, f"{name}/1", variables).work))

    def cancel(self, futures):
        pass


def flow():
    chain = graph_flow.Flow("chain").add(
        Effect("a", inject={"value": "x" * 5000}, provides="a"),
        Effect("b", rebind={"value": "a"}, provides="b"),
        Effect("c", rebind={"value": "b"}),
    )
    return unordered_flow.Flow("f").add(chain, *(Effect(f"t{n}", requires=()) for n in range(8)))


def run(loop, lost, *, answered):
    """Run the flow; returns how many requests were made."""
    EFFECTS.clear()
    cluster = Cluster(loop, lost, answered=answered)
    place = executor.DaskExecutor(lambda: contextlib.nullcontext(cluster))
    engine = engines.load(flow(), engine="parallel", executor=place)
    engine.run()
    where = f"request {lost}, {'answered' if answered else 'lost'}"
    assert engine.storage.get_flow_state() == states.SUCCESS, where
    assert set(EFFECTS.values()) == {1} and len(EFFECTS) == 11, (where, EFFECTS)  # noqa: PT018 - one thing
    assert engine.storage.fetch("b") == "x" * 5000, where
    assert cluster.fence.runs == {}, where
    cluster.threads.shutdown()
    return cluster.scheduler.made


def main():
    executor._PAUSE = 0.001
    fence.LINGER = 0.02
    cargo.LARGE, cargo.PIECE = 1000, 2000  # bytes: the value goes in pieces, and so does the result
    runner = LoopRunner()
    runner.start()
    made = run(runner.loop, 0, answered=False)
    assert made > 15, made
    for lost in range(1, made + 5):
        for answered in (False, True):
            run(runner.loop, lost, answered=answered)
    runner.stop()


if __name__ == "__main__":
    main()
