"""Figures that are worked out from histories, each written out by hand."""

from __future__ import annotations

import random

import pytest

from taskflowx import engines, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import figures
from taskflowx.persistence.figures import Links
from taskflowx.persistence.history import Entry
from taskflowx.testing import VirtualClock
from tests.support import counting


def written(*rows):
    """Return a history; a row has the time, the atom, the attempt, both states, and what is known of a call."""
    return [Entry(n, *row, *(None,) * (8 - len(row))) for n, row in enumerate(rows, 1)]


HISTORY = written(
    (0.0, None, 0, None, "RUNNING"),
    (1.0, "a", 1, "PENDING", "RUNNING"),
    (1.0, "b", 1, "PENDING", "RUNNING"),
    (3.0, "a", 1, "RUNNING", "SUCCESS", 2.0, "w1"),
    (3.0, "c", 1, "PENDING", "RUNNING"),
    (4.0, "b", 1, "RUNNING", "SUCCESS", 2.5, "w2"),
    (7.0, "c", 1, "RUNNING", "FAILURE", 3.5, "w1", "OSError"),
    (7.0, "c", 1, "FAILURE", "REVERTING"),
    (8.0, "c", 1, "REVERTING", "REVERTED", 7.5, "w2"),
    (8.0, "c", 1, "REVERTED", "PENDING"),
    (8.0, "c", 2, "PENDING", "RUNNING"),
    (9.0, "c", 2, "RUNNING", "SUCCESS", 8.0, "w1"),
    (10.0, None, 0, "RUNNING", "SUCCESS"),
)


def test_the_figures_of_a_history():
    found = figures.metrics(
        HISTORY, ["SUCCESS"] * 3, commits=7, bytes_written=99, links=Links.of_pairs("abc", [("a", "c")])
    )
    assert found.states == {"SUCCESS": 3}
    assert (found.retries, found.rollbacks, found.commits, found.bytes_written) == (1, 1, 7, 99)
    assert found.seconds == 10.0
    assert found.queue_times["a"] == (1, 1.0, 1.0, 1.0, 1.0, 1.0)
    assert found.queue_times["c"] == (3, 1.0, 0.0, 0.5, 0.5, 0.5)
    assert found.run_times["c"] == (3, 5.0, 0.5, 1.0, 3.5, 3.5)
    assert found.busy == {"w1": pytest.approx((1.0 + 3.5 + 1.0) / 10), "w2": pytest.approx((1.5 + 0.5) / 10)}
    assert (found.critical_path, found.critical_seconds) == (("a", "c"), 8.0)


def test_without_links_an_atom_comes_after_the_one_whose_end_it_followed():
    assert figures.metrics(HISTORY, []).critical_path == ("b", "c")


def test_without_a_history_there_are_the_counts():
    found = figures.metrics([], ["PENDING", None, "SUCCESS"], commits=2)
    assert found.states == {"PENDING": 2, "SUCCESS": 1}
    assert (found.run_times, found.busy, found.critical_path, found.seconds) == ({}, {}, (), 0.0)


def test_a_call_that_is_made_again_after_a_crash_was_interrupted():
    entries = written(
        (1.0, "a", 1, "PENDING", "RUNNING"),
        (5.0, "a", 2, "RUNNING", "RUNNING"),
        (6.0, "a", 2, "RUNNING", "SUCCESS", 5.5, "w"),
    )
    interrupted, made = figures.calls_of(entries)
    assert (interrupted.attempt, interrupted.state, interrupted.ended) == (1, "RUNNING", 5.0)
    assert (made.attempt, made.queued, made.ran) == (2, 0.5, 0.5)
    assert figures.metrics(entries, []).run_times["a"].calls == 1


def test_calls_that_overlap_in_a_worker_count_once():
    entries = written(
        (0.0, None, 0, None, "RUNNING"),
        *((0.0, name, 1, "PENDING", "RUNNING") for name in "abc"),
        (6.0, "a", 1, "RUNNING", "SUCCESS", 2.0, "loop"),
        (4.0, "b", 1, "RUNNING", "SUCCESS", 3.0, "loop"),
        (8.0, "c", 1, "RUNNING", "SUCCESS", 7.0, "loop"),
        (10.0, None, 0, "RUNNING", "SUCCESS"),
    )
    assert figures.metrics(entries, []).busy == {"loop": 0.5}


def test_a_suspended_run_is_not_under_way():
    entries = written(
        (0.0, None, 0, None, "RUNNING"),
        (2.0, None, 0, "RUNNING", "SUSPENDING"),
        (3.0, None, 0, "SUSPENDING", "SUSPENDED"),
        (100.0, None, 0, "SUSPENDED", "RUNNING"),
        (101.0, None, 0, "RUNNING", "SUCCESS"),
    )
    assert figures.metrics(entries, []).seconds == 4.0


@pytest.mark.parametrize("seed", range(5))
def test_percentiles_are_those_of_sorted_values(seed):
    rng = random.Random(seed)
    values = [rng.random() for _ in range(rng.randint(1, 300))]
    found = figures.times(values)
    at_most = sum(value <= found.p95 for value in values)
    assert at_most >= 0.95 * len(values) > sum(value < found.p95 for value in values)
    assert (found.least, found.most, found.calls) == (min(values), max(values), len(values))


def test_nodes_without_an_atom_hand_on_what_comes_before_them():
    links = Links.of_after(["a", "b", None, "c", None, "d"], [[2], [2], [3, 4], [4], [5], []])
    assert {name: sorted(links.before(name)) for name in "abcd"} == {
        "a": [],
        "b": [],
        "c": ["a", "b"],
        "d": ["a", "b", "c"],
    }


def test_what_meets_in_a_node_costs_as_much_as_it_is_wide():
    def cost(wide):
        layers = [unordered_flow.Flow(f"l{n}").add(*(Gives(f"{n} {i}") for i in range(wide))) for n in range(3)]
        engine = engines.load(linear_flow.Flow("f").add(*layers), history=True)
        engine.run()
        assert len(engine.metrics.critical_path) == 3
        return counting.calls_of(lambda: engine.metrics)

    assert cost(200) < 2.5 * cost(100)


class Gives(task.Task):
    def execute(self):
        return 1


class Takes(task.Task):
    """Takes some seconds of the clock."""

    def __init__(self, name, clock, seconds, **kwargs):
        super().__init__(name, **kwargs)
        self.clock, self.seconds = clock, seconds

    def execute(self, **kwargs):
        self.clock.advance(self.seconds)
        return self.seconds


def test_the_figures_of_an_engine():
    clock = VirtualClock()
    flow = graph_flow.Flow("flow").add(
        Takes("long", clock, 5, provides="x"),
        Takes("short", clock, 1, provides="y"),
        Takes("end", clock, 2, requires=["x"]),
        Takes("other", clock, 1, requires=["y"]),
    )
    engine = engines.load(flow, history=True, clock=clock)
    engine.run()
    found = engine.metrics
    assert found.run_times["long"].total == pytest.approx(5)
    assert found.seconds == pytest.approx(9)
    assert found.busy == {"MainThread": pytest.approx(1.0)}
    assert found.critical_path in (("long", "end"), ("short", "other"))
    assert found.bytes_written == 0


def test_the_links_of_nested_flows_are_known():
    flow = linear_flow.Flow("flow").add(
        unordered_flow.Flow("wide").add(*(Takes(n, VirtualClock(), 0) for n in "abc")), Takes("d", VirtualClock(), 0)
    )
    engine = engines.load(flow, history=True)
    engine.run()
    assert len(engine.metrics.critical_path) == 2
    assert engine.metrics.critical_path[-1] == "d"
