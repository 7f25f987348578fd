"""Any number of seconds is a time limit: those that are longer than anybody lives are as none."""

import fractions
import math

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.patterns import unordered_flow
from taskflowx.persistence import backends

LONG = [30 * 86_400, 2**31, 1e12, 10**400, math.inf, fractions.Fraction(10**30, 3)]


def one():
    return 1


def flow():
    return unordered_flow.Flow("f").add(*(task.FunctorTask(one, name=name, provides=name) for name in "ab"))


@pytest.mark.parametrize("seconds", LONG, ids=[f"{i}" for i in range(len(LONG))])
@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_a_run_may_have_any_time_limit(executor, seconds):
    engine = engines.load(flow(), executor=executor, max_workers=1)
    engine.run(timeout=seconds)
    assert engine.storage.fetch_all() == {"a": 1, "b": 1}


def test_a_run_in_processes_may_have_any_time_limit():
    from taskflowx.executors import processes

    with processes.ProcessPool(max_workers=1) as pool:
        for seconds in LONG:
            engine = engines.load(flow(), executor=pool)
            engine.run(timeout=seconds)
            assert engine.storage.fetch_all() == {"a": 1, "b": 1}


@pytest.mark.parametrize("seconds", LONG, ids=[f"{i}" for i in range(len(LONG))])
@pytest.mark.parametrize("durability", ["strict", "group"])
def test_so_may_its_commits_and_its_lease(tmp_path, durability, seconds):
    for address in (f"sqlite:///{tmp_path / 'runs.db'}", f"dir://{tmp_path / 'runs'}"):
        with backends.backend(address) as backend:
            engine = engines.load(
                flow(),
                executor="threads",
                backend=backend,
                durability=durability,
                commit_interval=seconds,
                commit_timeout=seconds,
                lease=seconds,
            )
            engine.run(timeout=seconds)
            assert engine.storage.get_flow_state() == states.SUCCESS


@pytest.mark.parametrize("seconds", [-1, math.nan, -(10**400)])
def test_what_is_no_time_limit_is_refused(seconds):
    with pytest.raises(ValueError, match="timeout must be a number of seconds"):
        engines.load(flow()).run(timeout=seconds)


def test_a_thousand_failures_are_told_in_few_words():
    def fails():
        raise LookupError("no such host: " + "ü" * 20)

    tasks = (task.FunctorTask(fails, name=f"t{i}") for i in range(1000))
    engine = engines.load(unordered_flow.Flow("f").add(*tasks), never_resolve=True)
    with pytest.raises(exceptions.WrappedFailure) as caught:
        engine.run()
    for text in (str(caught.value), repr(caught.value)):
        assert len(text.encode()) <= 2048
        assert "1,000 failures: " in text
        assert "LookupError: no such host" in text
    assert len(list(caught.value)) == len(caught.value.exceptions) == 1000
