"""Engines, and what they take."""

from __future__ import annotations

import concurrent.futures
import contextvars
import signal
from typing import Any, assert_type

import taskflowx
from taskflowx import EngineOptions, WrappedFailure, as_task, engines, linear
from taskflowx.engines.engine import ActionEngine
from taskflowx.executors import futures
from taskflowx.executors.processes import ProcessPool
from taskflowx.listeners import printing
from taskflowx.listeners.base import Listener
from taskflowx.patterns import linear_flow
from taskflowx.persistence import backends, models
from taskflowx.storage import Storage
from taskflowx.types.failure import Failure

REQUEST: contextvars.ContextVar[str] = contextvars.ContextVar("REQUEST")


@as_task
def step(size: int) -> int:
    return size


class Counts(Listener):
    """Counts tasks that have ended."""

    def __init__(self, engine: ActionEngine) -> None:
        super().__init__(engine, task_listen_for=("SUCCESS",))
        self.count = 0

    def _task_receiver(self, state: str, details: dict[str, Any]) -> None:
        self.count += 1


def heard(state: str, details: dict[str, Any]) -> None:
    print(state, details)


flow = linear("f", step)
store = {"size": 3}
assert_type(taskflowx.run(flow, store), taskflowx.RunResult)
taskflowx.run(step, store, executor="threads", max_workers=2, inline=False, timeout=3.0)
taskflowx.run(flow, store, executor="dask://host:8786")
taskflowx.run(flow, store, executor="an executor of a package")
with concurrent.futures.ThreadPoolExecutor(2) as threads:
    taskflowx.run(flow, store, executor=threads)
with ProcessPool(2) as pool:
    engines.run(flow, store, executor=pool)
engines.run(flow, store, executor=futures.FuturesExecutor(make=lambda: concurrent.futures.ThreadPoolExecutor(2)))
taskflowx.run(
    flow,
    store,
    backend="sqlite:///runs.db",
    durability="group",
    commit_interval=0.1,
    commit_timeout=3,
    keep_results=["step"],
    lease=30,
    on_mismatch="refuse",
    results="strict",
    types="strict",
    context=[REQUEST, "package.module:NAME"],
    on_revert_failure="continue",
    defer_reverts=True,
    never_resolve=False,
    inject_transient=True,
    limits={"db": 4, "host:*": None},
    rates={"api": "10/s", "host:*": (10, 1.0)},
    max_in_flight=20,
    revert_limits="shared",
    gather_statistics=False,
)
options: EngineOptions = {"executor": "processes", "max_workers": 2, "types": "warn"}
engine = taskflowx.load(flow, store, **options)
assert_type(engine, ActionEngine)
assert_type(engines.load(flow, store, engine="parallel", **options), ActionEngine)
engines.load(linear_flow.Flow("l"), store, None, None, {"connection": "memory"}, "taskflowx.engines", "serial")
engine.compile()
engine.prepare()
engine.validate()
engine.notifier.register("SUCCESS", heard)
engine.atom_notifier.register("*", heard)
with Counts(engine) as counts, printing.PrintingListener(engine):
    engine.run(timeout=10)
assert_type(counts, Counts)
for state in engine.run_iter():
    assert_type(state, str)
assert_type(engine.storage, Storage)
assert_type(engine.storage.fetch_all(), dict[str, Any])
assert_type(engine.storage.get_failures(), dict[str, Failure])
assert_type(engine.statistics, dict[str, Any])
assert_type(engine.not_undone(), list[str])
engine.reset()
engine.suspend()
taskflowx.checkpoint()
for call in engine.unknown():
    engine.resolve(call.name, {"any": "result"}, by="ann", reason=None)
    engine.resolve_failed(call.name, ValueError(call.idempotency_key))
assert_type(engine.retry_failed(3), list[str])
engine.rollback(to="a", reason="the wrong one")
engine.skip("a")
assert_type([entry.when for entry in engine.by_hand()], list[float])
with engine.suspend_on(signal.SIGTERM, signal.SIGINT):
    engine.run()
backend = backends.fetch("memory")
book = models.LogBook("book")
taskflowx.load(flow, store, backend=backend, book=book)
try:
    engine.run()
except WrappedFailure as group:
    for failure in group:
        assert_type(failure, Failure)


try:
    engine.run()
except* OSError as errors:
    print(errors.exceptions)


async def main() -> None:
    assert_type(await taskflowx.arun(flow, store, timeout=3), taskflowx.RunResult)
    await taskflowx.arun(flow, store, executor="threads")
    await engine.arun()
    async for state in engine.arun_iter(timeout=3):
        assert_type(state, str)
