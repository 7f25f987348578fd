"""Calls that are stopped, and runs that wait: how long it takes until control returns, and what waiting costs."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
import tracemalloc
from typing import TYPE_CHECKING, Any

import taskflowx
from benchmarks.harness import Figure, Sizes, alone
from benchmarks.places import WORKERS
from taskflowx import engines, exceptions, retry, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.testing import VirtualClock

if TYPE_CHECKING:
    from collections.abc import Iterator

_CALLS, _RUNS, _RETRIES = 1_000, 10_000, 1_000
#: so many times fewer of each when it is to be quick
_FEWER = 10
_DAY = 86_400.0
#: seconds in which all of many runs have come so far that they wait
_SETTLES = 120.0
#: seconds until the calls are stopped: the workers are at them by then
_LIMIT = {"processes": 2.0, "asyncio": 1.0, "threads": 1.5}


class Sleeps(task.Task):
    """Sleeps for long."""

    def execute(self) -> None:
        """Sleep."""
        time.sleep(600)


class Looks(task.Task):
    """Asks every now and then whether it is to stop."""

    def execute(self) -> None:
        """Sleep, and look."""
        while True:
            time.sleep(0.01)
            taskflowx.checkpoint()


class Awaits(task.Task):
    """Awaits for long."""

    async def execute(self) -> None:
        """Sleep."""
        await asyncio.sleep(600)


class Fails(task.Task):
    """Fails the first time."""

    failed = False
    #: how many have failed
    failures = 0

    def execute(self) -> None:
        """Fail, or not."""
        if not self.failed:
            self.failed = True
            Fails.failures += 1
            raise ConnectionError


class AwaitsAndFails(Fails):
    """As a coroutine."""

    async def execute(self) -> None:  # type: ignore[override]
        """Fail, or not."""
        Fails.execute(self)


def stopping(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Measure the time from a cancel, or from the end of a time limit, until control returns."""
    calls = _CALLS // _FEWER if sizes.quick else _CALLS
    for executor, kind, width, bound in (
        ("processes", Sleeps, WORKERS, 1.0),
        ("asyncio", Awaits, None, 0.1),
        ("threads", Looks, calls, 0.2),
    ):
        if executor not in sizes.executors:
            continue
        for what, seconds in (("cancel", _cancelled), ("time limit", _limited)):
            taken = [seconds(executor, kind, width, calls) for _ in range(1 if sizes.quick else 3)]
            yield alone(f"{what}, {executor}, {calls:,} calls", taken, unit="s", at_most=bound)


def _flow(kind: type[task.Task], calls: int, **settings: Any) -> unordered_flow.Flow:
    return unordered_flow.Flow("f", **settings).add(*(kind(f"t{n}") for n in range(calls)))


def _cancelled(executor: str, kind: type[task.Task], width: int | None, calls: int) -> float:
    engine = engines.load(_flow(kind, calls), executor=executor, max_workers=width)
    asked = []

    def cancel() -> None:
        asked.append(time.perf_counter())
        engine.cancel("measured")

    timer = threading.Timer(_LIMIT[executor], cancel)
    timer.start()
    with contextlib.suppress(exceptions.Cancelled):
        engine.run()
    ended = time.perf_counter()
    timer.join()
    return ended - asked[0]


def _limited(executor: str, kind: type[task.Task], width: int | None, calls: int) -> float:
    engine = engines.load(_flow(kind, calls, timeout=_LIMIT[executor]), executor=executor, max_workers=width)
    began = []
    engine.atom_notifier.register("RUNNING", lambda *_: began.append(time.perf_counter()))
    with contextlib.suppress(exceptions.TimeoutExceeded, exceptions.WrappedFailure):
        engine.run()
    return time.perf_counter() - began[0] - _LIMIT[executor]


def waiting(sizes: Sizes, _: str) -> Iterator[Figure]:
    """Measure retries that wait, a month of delays by a clock that stands, and many runs that wait at once."""
    retries, runs = (_RETRIES // _FEWER, _RUNS // _FEWER) if sizes.quick else (_RETRIES, _RUNS)
    one_each = [linear_flow.Flow(f"f{n}", retry.Times(2, delay=1)).add(Fails(f"t{n}")) for n in range(retries)]
    engine = engines.load(unordered_flow.Flow("f").add(*one_each), executor="threads", max_workers=WORKERS)
    began, processor = time.perf_counter(), time.process_time()
    engine.run()
    taken = time.perf_counter() - began
    yield alone(f"{retries:,} retries after 1 s, 2 workers", [taken], unit="s", at_most=1.3)
    yield alone("processor time of that", [time.process_time() - processor], unit="s")
    month = linear_flow.Flow("f", retry.Times(2, delay=30 * _DAY)).add(Fails("t"))
    began = time.perf_counter()
    engines.load(month, clock=VirtualClock()).run()
    yield alone("30 days by a virtual clock", [(time.perf_counter() - began) * 1e3], unit="ms", at_most=50)
    for executor, kind in (("asyncio", AwaitsAndFails), ("serial", Fails)):
        yield from asyncio.run(_many_that_wait(runs, executor, kind))


async def _many_that_wait(count: int, executor: str, kind: type[Fails]) -> list[Figure]:
    """Measure runs in one loop of which each waits for the delay of a retry."""
    waiting = []
    for _ in range(count):
        flow = linear_flow.Flow("f", retry.Times(2, delay=_DAY)).add(kind("t"))
        engine = engines.load(flow, executor=executor)
        engine.compile()
        engine.prepare()
        engine.validate()
        waiting.append(engine)
    gc.collect()
    failures = Fails.failures
    threads = threading.active_count()
    tracemalloc.start()
    before, _ = tracemalloc.get_traced_memory()
    runs = [asyncio.ensure_future(engine.arun()) for engine in waiting]
    while Fails.failures < failures + count:  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0.1)
    await asyncio.sleep(1)  # until what has failed is undone
    ends = time.monotonic() + _SETTLES
    while threading.active_count() > threads and time.monotonic() < ends:  # noqa: ASYNC110 - as above
        await asyncio.sleep(0.1)
    gc.collect()
    now, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    more = threading.active_count() - threads
    for run in runs:
        run.cancel()
    await asyncio.gather(*runs, return_exceptions=True)
    return [
        alone(f"{count:,} runs that wait, {executor}: threads", [more], unit="threads", at_most=0),
        alone(f"{count:,} runs that wait, {executor}: memory", [(now - before) / count], unit="bytes a run"),
    ]
