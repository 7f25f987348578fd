"""Limits hold on each executor: the calls themselves say when they began and ended, by the clock of the machine."""

import concurrent.futures
import random
import time

import pytest

from taskflowx import engines, retry, task
from taskflowx.patterns import linear_flow, unordered_flow

PLACES = {
    "serial": lambda: ("serial", None),
    "threads": lambda: ("threads", 4),
    "asyncio": lambda: ("asyncio", None),
    "processes": lambda: ("processes", 2),
    "futures": lambda: (concurrent.futures.ThreadPoolExecutor(4), None),
}


class Spans(task.Task):
    """Returns when its call began and ended; one that fails does so after its span."""

    def __init__(self, name, seconds, *, fails=False, **settings):
        super().__init__(name, **settings)
        self.seconds, self.fails = seconds, fails

    def execute(self):
        began = time.monotonic()
        time.sleep(self.seconds)  # noqa: TID251 - it holds what it has while others run
        if self.fails:
            raise ValueError(began, time.monotonic())
        return began, time.monotonic()

    def revert(self, result):
        return None if self.fails else self.execute()


@pytest.fixture(params=list(PLACES))
def place(request):
    executor, workers = PLACES[request.param]()
    yield {"executor": executor, **({} if workers is None else {"max_workers": workers})}
    if not isinstance(executor, str):
        executor.shutdown()


def most_at_once(spans):
    """Return the largest sum of amounts of spans that overlap.

    :param spans: (began, ended, amount)
    """
    moves = sorted(
        [(began, 1, amount) for began, _, amount in spans] + [(ended, 0, -amount) for _, ended, amount in spans]
    )
    most = now = 0
    for _, _, by in moves:
        now += by
        most = max(most, now)
    return most


def made_of(seed, count=24):
    rng = random.Random(seed)
    amounts = [rng.randint(1, 2) for _ in range(count)]
    tasks = [Spans(f"t{n}", rng.random() / 1000, limits={"db": amount}) for n, amount in enumerate(amounts)]
    for one in tasks:
        one.priority = rng.randint(-1, 1)
    return tasks, amounts


@pytest.mark.parametrize("seed", range(3))
def test_calls_hold_no_more_than_the_capacity(place, seed):
    tasks, amounts = made_of(seed)
    engine = engines.load(unordered_flow.Flow("f").add(*tasks), limits={"db": 3}, **place)
    engine.run()
    spans = [(*engine.storage.get(one.name), amount) for one, amount in zip(tasks, amounts, strict=True)]
    assert most_at_once(spans) <= 3


def test_no_more_calls_are_under_way_than_max_in_flight(place):
    tasks, _ = made_of(7)
    engine = engines.load(unordered_flow.Flow("f").add(*tasks), limits={"*": None}, max_in_flight=2, **place)
    engine.run()
    assert most_at_once([(*engine.storage.get(one.name), 1) for one in tasks]) <= 2


def test_reverts_hold_no_more_than_the_capacity(place):
    tasks, amounts = made_of(11)
    fails = Spans("fails", 0.0, fails=True)
    flow = linear_flow.Flow("f", retry.AlwaysRevert("r")).add(unordered_flow.Flow("g").add(*tasks), fails)
    engine = engines.load(flow, limits={"db": 2}, **place)
    with pytest.raises(ValueError, match=r"\d"):
        engine.run()
    spans = [(*engine.storage.get_revert_result(one.name), amount) for one, amount in zip(tasks, amounts, strict=True)]
    assert most_at_once(spans) <= 2


def test_a_rate_is_kept(place):
    tasks = [Spans(f"t{n}", 0.0, limits=("api",)) for n in range(12)]
    engine = engines.load(unordered_flow.Flow("f").add(*tasks), rates={"api": (2, 0.02)}, **place)
    asked = time.monotonic()
    engine.run()
    begun = sorted(engine.storage.get(one.name)[0] for one in tasks)
    assert all(at >= asked + (n - 1) * 0.01 for n, at in enumerate(begun))
