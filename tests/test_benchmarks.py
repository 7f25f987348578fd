"""That the benchmarks run, that both sides of a comparison do the same work, and that verdicts are right.

No test here says how fast anything is.
"""

from __future__ import annotations

import concurrent.futures
import json
import subprocess
import sys

import pytest

from benchmarks import __main__ as command_line, harness, loops, peers, rows, workloads
from taskflowx import engines

PLACES = ["pool", "asyncio", "dask"]
DURABLE = ["commits", "dbos", "taskflow-sqlite", "resume"]


def run_benchmarks(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True, check=False)


def test_a_quick_run_prints_a_ratio_and_a_verdict_for_each_shape():
    done = run_benchmarks("--quick", "--only", "serial")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [line[0] for line in lines] == ["linear", "unordered", "layers"]
    for line in lines:
        assert float(line[1]) > 0
        assert line[2:4] == ["≤", "1.50"]
        assert ("holds" in line) != ("HOLD" in line)


def test_json_output_is_one_document_with_the_chosen_row_and_shape():
    done = run_benchmarks("--quick", "--only", "rollback", "--shape", "layers", "--json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert list(document["rows"]) == ["rollback"]
    (figure,) = document["rows"]["rollback"]["figures"]
    assert figure["label"] == "layers"
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert figure["holds"] is (figure["value"] <= 1.5)


def test_list_names_every_row_and_measures_nothing():
    done = run_benchmarks("--list")
    assert done.returncode == 0, done.stderr
    named = [line.split()[0] for line in done.stdout.splitlines()]
    assert named == ["serial", "threads", "processes", *PLACES, "rollback", "scale", "import", "taskflow", *DURABLE]


@pytest.mark.parametrize("option", ["--only", "--shape"])
def test_an_unknown_name_is_refused_with_the_known_ones(option):
    done = run_benchmarks(option, "nonsense")
    assert done.returncode == 2
    assert "unknown: nonsense; the known ones are" in done.stderr


@pytest.fixture
def one_row(monkeypatch, tmp_path):
    """Leave one row that measures nothing; returns what sets its value, and where a full run leaves its figures."""

    def with_value(value):
        figure = harness.Figure("linear", value=value, at_most=1.5)
        row = rows.Row("something ÷ something else", ("linear",), lambda sizes, shape: iter([figure]))
        monkeypatch.setattr(command_line, "ROWS", {"only": row})

    latest = tmp_path / "results" / "latest.json"
    monkeypatch.setattr(command_line, "LATEST", latest)
    return with_value, latest


@pytest.mark.parametrize(("value", "code"), [(1.5, 0), (1.6, 1)])
def test_a_bound_that_does_not_hold_fails_a_strict_run_alone(one_row, value, code):
    one_row[0](value)
    assert command_line.main(["--strict"]) == code
    assert command_line.main([]) == 0


@pytest.mark.parametrize("option", ["--quick", "--only=only", "--shape=linear"])
def test_only_a_run_of_everything_leaves_its_figures_behind(one_row, option):
    with_value, latest = one_row
    with_value(1.0)
    command_line.main([option])
    assert not latest.exists()
    command_line.main([])
    assert json.loads(latest.read_text(encoding="utf-8"))["rows"]["only"]["figures"][0]["value"] == 1.0


@pytest.mark.parametrize("shape", list(workloads.SHAPES))
def test_engine_and_loops_run_the_same_tasks_to_the_same_results(shape):
    flow = workloads.SHAPES[shape](120)
    graph = loops.Graph(flow)
    engine = engines.load(flow)
    engine.run()
    recorded = {node: engine.storage.get(task.name) for node, task in enumerate(graph.tasks)}
    assert len(recorded) == 120
    assert loops.serial(graph, graph.sorter()) == recorded
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert loops.on_pool(graph, graph.sorter(), pool) == recorded


def test_layers_are_fifty_wide_with_three_inputs_from_the_layer_above():
    graph = loops.Graph(workloads.layers(150))
    assert [len(inputs) for inputs in graph.inputs] == [0] * 50 + [3] * 100
    for node, inputs in enumerate(graph.inputs):
        assert {other // 50 for other in inputs} <= {node // 50 - 1}
        assert sorted(inputs) == sorted(graph.before[node])


@pytest.mark.parametrize(
    ("bound", "verdict"),
    [
        ({}, None),
        ({"at_most": 1.5}, True),
        ({"at_most": 1.4}, False),
        ({"at_least": 1.5}, True),
        ({"at_least": 1.6}, False),
        ({"at_most": 1.5, "skipped": "no such thing here"}, False),
    ],
)
def test_verdict(bound, verdict):
    figure = harness.Figure("linear", value=1.5, **bound)
    assert figure.holds is verdict
    assert ("no such thing here" in figure.line()) == ("skipped" in bound)


def test_a_figure_is_the_ratio_of_medians_with_the_spread_of_the_turns():
    figure = harness.compared("linear", [(2.0, 1.0), (3.0, 2.0), (9.0, 3.0)], "s", at_most=2.0)
    assert figure.value == 3.0 / 2.0
    assert (figure.low, figure.high, figure.turns) == (1.5, 3.0, 3)


def test_letting_go_of_a_result_is_not_counted(monkeypatch):
    seen = []

    class Result:
        def __del__(self):
            seen.append("freed")

    def now():
        seen.append("time")
        return 0.0

    monkeypatch.setattr(harness.time, "perf_counter", now)
    harness.clock(Result)
    assert seen == ["time", "time", "freed"]


def test_sides_are_measured_in_turn():
    seen = []

    def side(name):
        def measure():
            seen.append(name)
            return float(len(seen))

        return measure

    assert harness.in_turn(2, side("a"), side("b")) == [(3.0, 4.0), (5.0, 6.0)]
    assert seen == ["a", "b"] * 3


def test_a_peer_that_cannot_be_installed_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "ROOT", tmp_path)
    monkeypatch.setattr(
        peers, "_said", lambda command, timeout=None: subprocess.CompletedProcess(command, 1, "", "a\nno space left\n")
    )
    peer = peers.Peer("something", "1.0")
    assert not peer.installed
    assert peer.install() == "something 1.0 cannot be installed: no space left"
