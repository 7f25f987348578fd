"""That the benchmarks run, that both sides of a comparison do the same work, and that verdicts are right.

No test here says how fast anything is.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import subprocess
import sys

import pytest

from benchmarks import (
    __main__ as command_line,
    against,
    flames,
    grain,
    graphs,
    harness,
    loops,
    metg,
    peers,
    pictures,
    rows,
    workloads,
)
from taskflowx import engines
from taskflowx.flow import Flow

ENGINE = ["prepare", "metg", "nested", "listeners", "failures"]
PLACES = ["pool", "asyncio", "dask"]
DURABLE = ["commits", "dbos", "taskflow-sqlite", "resume"]


def run_benchmarks(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True, check=False)


def test_a_quick_run_prints_a_ratio_and_a_verdict_for_each_shape():
    done = run_benchmarks("--quick", "--only", "serial")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [line[0] for line in lines] == [
        *("linear,", "linear,", "unordered,", "unordered,", "layers,", "layers,"),
        *("graph,", "tree,", "random,", "diamonds,"),
    ]
    for line in lines[:6]:
        assert float(line[2]) > 0
        assert line[3:5] == ["≤", "1.00"]
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
    assert named == [
        "serial",
        *ENGINE,
        "threads",
        "processes",
        *PLACES,
        "rollback",
        "scale",
        "import",
        "taskflow",
        *DURABLE,
    ]


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


@pytest.mark.parametrize("shape", [shape for shape in workloads.SHAPES if shape not in {"nested", "deciders"}])
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


@pytest.mark.parametrize("shape", ["nested", "deciders"])
def test_flows_of_flows_and_of_deciders_have_all_their_tasks_run(shape):
    engine = engines.load(workloads.SHAPES[shape](1_030))
    engine.run()
    assert {engine.storage.get_atom_state(f"atom-{i}") for i in range(1_030)} == {"SUCCESS"}


def test_flows_are_nested_ten_deep():
    flow, depth = workloads.nested(10_000), 0
    while isinstance(flow, Flow):
        flow, depth = next(iter(flow)), depth + 1
    assert depth == 10


def test_of_many_shaky_tasks_all_run_again_when_some_have_failed():
    engine = engines.load(workloads.shaky(50, 7))
    engine.run()
    assert {engine.storage.get_atom_state(f"atom-{i}") for i in range(50)} == {"SUCCESS"}
    assert len(engine.storage.get_retry_history("again")) == 2  # rounds


@pytest.mark.parametrize("shape", list(graphs.GRAPHS))
@pytest.mark.parametrize("nodes", [1, 2, 3, 49, 50, 51, 1_000])
def test_nodes_of_a_graph_take_earlier_ones(shape, nodes):
    graph = graphs.GRAPHS[shape](nodes)
    assert len(graph) == nodes
    for node, before in enumerate(graph):
        assert len(set(before)) == len(before)
        assert set(before) <= set(range(node))
    assert graph == graphs.GRAPHS[shape](nodes)


def test_a_tree_ends_in_one_node_that_takes_from_all_leaves():
    graph = graphs.tree(31)
    below = [{node} for node in range(31)]
    for node, before in enumerate(graph):
        below[node] |= set().union(*(below[other] for other in before))
    assert below[30] == set(range(31))


def test_work_takes_as_long_as_it_has_bytes(monkeypatch):
    hashed = []
    monkeypatch.setattr(grain.hashlib, "sha256", lambda block: hashed.append(len(block)) or hashlib.blake2b())
    assert grain.work(10_000_000, "what", "others returned") == 10_000_000
    assert hashed == [1 << 22, 1 << 22, 10_000_000 - (2 << 22)]


@pytest.mark.parametrize(("overhead", "found"), [(100e-6, 50e-6), (20e-6, 10e-6)])
def test_metg_is_where_half_of_the_time_goes_into_the_work(monkeypatch, overhead, found):
    monkeypatch.setattr(grain, "size_of", lambda seconds: round(seconds * 1e9))
    monkeypatch.setattr(grain, "seconds_of", lambda size: size / 1e9)
    points = metg.curve(lambda count, size: count * (size / 1e9 / 2 + overhead / 4), 2)  # perfect but for the overhead
    assert points[0].efficiency > 0.95
    assert points[-1].efficiency < 0.2
    assert metg.metg(points) == pytest.approx(found, rel=0.01)


def test_without_a_crossing_there_is_no_metg():
    assert metg.metg([metg.Point(1e-3, 0.9), metg.Point(5e-4, 0.8)]) is None
    assert metg.metg([metg.Point(1e-3, 0.4), metg.Point(5e-4, 0.3)]) is None


def test_where_even_the_shortest_tasks_are_efficient_metg_is_less_than_these():
    figure = metg._figure("serial", [metg.Point(1e-3, 0.9), metg.Point(2e-6, 0.8)])
    assert figure.line().split()[:4] == ["serial,", "less", "than", "2.00"]
    assert "not measured: the efficiency is 0.40 at best" in metg._figure("x", [metg.Point(1e-3, 0.4)]).line()


def test_layers_are_fifty_wide_with_three_inputs_from_the_layer_above():
    graph = loops.Graph(workloads.SHAPES["layers"](150))
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


def document_of(*figures, curves=None):
    made = [{**dataclasses.asdict(figure), "holds": figure.holds} for figure in figures]
    return {"rows": {"row": {"title": "something ÷ something else", "figures": made}}, "curves": curves or {}}


def test_a_document_is_drawn_as_svg_and_png_and_the_same_each_time(tmp_path):
    document = document_of(
        harness.Figure("holds", value=0.5, at_most=1.0),
        harness.Figure("does not", value=0.5, at_least=1.0),
        harness.Figure("not measured", at_most=1.0, skipped="no such thing here"),
        curves={"threads": [{"seconds": 1e-3, "efficiency": 0.9}, {"seconds": 1e-5, "efficiency": 0.2}]},
    )
    files = pictures.draw(document, tmp_path / "first")
    assert [path.name for path in files] == ["bounds.svg", "bounds.png", "efficiency.svg", "efficiency.png"]
    assert (tmp_path / "first" / "bounds.png").read_bytes().startswith(b"\x89PNG")
    again = pictures.draw(document, tmp_path / "second")
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in files]


def test_what_a_document_lacks_is_not_drawn(tmp_path):
    assert pictures.draw(document_of(harness.Figure("no bound", value=1.0)), tmp_path) == []


@pytest.mark.parametrize("name", ["prepare", "serial", "heard", "rollback", "threads", "asyncio", "durable"])
def test_a_hot_path_becomes_a_page(monkeypatch, tmp_path, capsys, name):
    monkeypatch.setattr(flames, "ATOMS", 500)
    monkeypatch.setattr(flames, "FEWER", 100)
    monkeypatch.setattr(flames, "FOLDER", tmp_path)
    assert flames.main([name]) == 0
    assert capsys.readouterr().out.startswith(name)
    assert "<html" in (tmp_path / f"{name}.html").read_text(encoding="utf-8").lower()


def test_an_unknown_path_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        flames.main(["nonsense"])
    assert "unknown: nonsense; the known ones are prepare, serial" in capsys.readouterr().err


def ask_side(**asked):
    asked = {"shape": "layers", "nodes": 120, "seconds": 0.0, "workers": 2, "repeats": 1} | asked
    command = [sys.executable, "-I", str(against.SCRIPT), json.dumps(asked)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("side", ["taskflowx-serial", "taskflowx-threads", "taskflowx-processes"])
@pytest.mark.parametrize("shape", ["chain", "layers"])
def test_a_side_runs_all_of_a_graph_and_answers_with_seconds(side, shape):
    done = ask_side(side=side, shape=shape, seconds=1e-5)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert len(answer["seconds"]) == 1
    assert answer["seconds"][0] > 0
    assert answer["alone"] > 0


@pytest.mark.parametrize("side", ["graphlib-threads", "graphlib-processes"])
def test_the_loops_by_hand_are_sides_too(side):
    done = ask_side(side=side)
    assert done.returncode == 0, done.stderr


def test_a_rival_that_does_not_run_a_graph_is_shown_with_its_reason(monkeypatch):
    def refuse(*_):
        raise against.RefusedError("no such graphs")

    monkeypatch.setattr(against, "side", refuse)
    figure = against.against(against.RIVALS[0], "layers", "no-op")
    assert "not measured: no such graphs" in figure.line()


def test_a_side_that_fails_says_why():
    with pytest.raises(against.RefusedError, match="KeyError: 'nonsense'"):
        against.side(sys.executable, "nonsense", "chain", 10, 0.0)


def test_sides_of_a_rival_are_measured_in_turn(monkeypatch):
    asked = []

    def measured(python, name, *_):
        asked.append(name)
        return 2.0 if name == "ray" else 1.0

    monkeypatch.setattr(against, "side", measured)
    rival = against.Rival("ray", "taskflowx-processes", 100, peers.Peer("ray", "1"))
    assert against.against(rival, "chain", "no-op").value == 2.0
    assert asked == ["ray", "taskflowx-processes"] * against.TURNS


def test_the_rows_of_a_graph_depend_on_rows_before(monkeypatch):
    monkeypatch.setattr(sys, "path", [*sys.path, str(against.SCRIPT.parent)])
    from benchmarks import peer_side

    assert peer_side.levels(graphs.diamonds(6)) == [[0], [1, 2], [3], [4, 5]]
    assert peer_side.levels(graphs.unordered(3)) == [[0, 1, 2]]
