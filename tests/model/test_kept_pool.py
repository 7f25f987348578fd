"""Runs one after another on the same workers: a run sees nothing of those before it, however these have ended.

A run ends in each way in which a run can end: by itself, by a failure, by `suspend()` of a task or of a listener, at
its deadline, by what a task or a listener raises that is no Exception, by an iterator that is closed or dropped. Then
another flow runs on the same pool, and the first one goes on. Each result is told by the name of its task, of its run.

TASKFLOWX_KEPT_POOLS=10000 (with --timeout=0) looks at so many pairs of runs.
"""

import contextlib
import itertools
import os
import random

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.executors import processes
from taskflowx.patterns import linear_flow, unordered_flow

PAIRS = int(os.environ.get("TASKFLOWX_KEPT_POOLS", "300"))


class Leave(BaseException):
    """What nobody is to catch."""


class Named(task.Task):
    """Returns its own name."""

    def execute(self):
        return f"of {self.name}"


class Fails(task.Task):
    def execute(self):
        raise ValueError(self.name)


class Leaves(task.Task):
    """Ends in what is no Exception."""

    def execute(self):
        raise SystemExit(self.name)


@pytest.fixture(scope="module")
def pool():
    with processes.ProcessPool(2) as kept:
        yield kept


def members(run, count, kind=Named):
    return [kind(f"{run}/{n}", provides=f"{run}/{n}") for n in range(count)]


def flow_of(rng, run, extra=()):
    kind = rng.choice([linear_flow.Flow, unordered_flow.Flow])
    tasks = members(run, rng.randint(1, 12))
    for one in extra:
        tasks.insert(rng.randint(0, len(tasks)), one)
    return kind(run).add(*tasks)


def at_nth(rng, engine, does):
    """Do something when the N-th call has ended."""
    left = itertools.count(-rng.randint(0, 5))
    engine.atom_notifier.register(states.SUCCESS, lambda *_: does() if next(left) == 0 else None)


def leave():
    raise Leave


def by_itself(rng, engine):
    engine.run()


def at_its_deadline(rng, engine):
    with contextlib.suppress(TimeoutError):
        engine.run(timeout=rng.choice([0.0, 0.0005, 0.001, 0.002]))


def suspended(rng, engine):
    at_nth(rng, engine, engine.suspend)
    engine.run()


def left_by_a_listener(rng, engine):
    at_nth(rng, engine, leave)
    with contextlib.suppress(Leave):
        engine.run()


def iterator_closed(rng, engine):
    steps = engine.run_iter()
    for _ in range(rng.randint(1, 8)):
        next(steps, None)
    steps.close()


def iterator_dropped(rng, engine):
    steps = engine.run_iter()
    for _ in range(rng.randint(1, 8)):
        next(steps, None)
    del steps


WAYS = [by_itself, at_its_deadline, suspended, left_by_a_listener, iterator_closed, iterator_dropped]


def check(engine, run):
    """See that what is on record as done has the result of its own task."""
    for name, value in engine.storage.fetch_all().items():
        assert value == f"of {name}"
        assert name.startswith(f"{run}/")


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_a_run_sees_nothing_of_the_runs_before_it(way, pool):
    for seed in range(PAIRS // len(WAYS)):
        rng = random.Random(f"{way.__name__} {seed}")
        first = engines.load(flow_of(rng, f"a{seed}"), executor=pool, inline=False)
        way(rng, first)
        second = engines.load(flow_of(rng, f"b{seed}"), executor=pool, inline=False)
        second.run()
        assert second.storage.get_flow_state() == states.SUCCESS
        check(second, f"b{seed}")
        first.run()
        assert first.storage.get_flow_state() == states.SUCCESS, seed
        check(first, f"a{seed}")


@pytest.mark.parametrize("kind", [Fails, Leaves], ids=["failed", "left by a task"])
def test_a_run_sees_nothing_of_one_that_a_task_has_ended(kind, pool):
    for seed in range(PAIRS // len(WAYS)):
        rng = random.Random(f"{kind.__name__} {seed}")
        first = engines.load(flow_of(rng, f"a{seed}", [kind(f"end{seed}")]), executor=pool, inline=False)
        with pytest.raises((ValueError, SystemExit, exceptions.WrappedFailure)):
            first.run()
        assert first.storage.get_flow_state() in (states.REVERTED, states.SUSPENDED)
        second = engines.load(flow_of(rng, f"b{seed}"), executor=pool, inline=False)
        second.run()
        check(second, f"b{seed}")
