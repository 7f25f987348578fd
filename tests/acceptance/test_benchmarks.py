"""That the benchmarks run, that both sides of a comparison do the same work, and that verdicts are right.

No test here says how fast anything is.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import hashlib
import json
import re
import subprocess
import sys

import pyperf
import pytest

from benchmarks import (
    __main__ as command_line,
    beside,
    efficiency,
    flames,
    grain,
    graphs,
    growth,
    harness,
    loops,
    metg,
    peers,
    pictures,
    record,
    rows,
    work,
    workloads,
)
from taskflowx import engines
from taskflowx.flow import Flow

#: rows that start no other program but a fresh interpreter
SMOKE = ["serial", "special", "work", "listeners", "threads", "rollback", "growth", "durable"]
#: sizes by which a row is at its end soon, whatever its figures are worth then
TINY = dataclasses.replace(
    harness.QUICK,
    **dict.fromkeys(("atoms", "crossing", "large", "many", "small", "together", "chain", "committed"), 50),
    **dict.fromkeys(("starting", "arrays", "burning", "fewest"), 4),
    payloads=(1_000,),
    a_run=0.01,
    patience=0.1,
)


def run_benchmarks(*arguments):
    command = [sys.executable, "-m", "benchmarks", *arguments]
    return subprocess.run(command, cwd=harness.ROOT, capture_output=True, text=True, check=False)


def test_a_quick_run_prints_a_ratio_and_a_verdict_for_each_figure_and_how_long_it_took():
    done = run_benchmarks("--quick", "--only", "rollback")
    assert done.returncode == 0, done.stderr
    lines = [line.split() for line in done.stdout.splitlines() if line.startswith("  ")]
    assert [line[0] for line in lines] == ["linear", "unordered", "layers"]
    for line in lines:
        assert line[2:4] == ["≤", "1.50"]
        assert ("holds" in line) != ("HOLD" in line)
    assert re.fullmatch(r"This took \d+ min \d+ s\.", done.stdout.splitlines()[-1])


@pytest.mark.timeout(240)  # a quarter of a minute by itself
def test_a_quick_run_of_many_rows_is_one_document_and_keeps_the_seconds_for_pyperf(tmp_path):
    kept = tmp_path / "pyperf.json"
    selected = ["--only", ",".join(SMOKE), "--shape", "linear,layers,storm"]
    done = run_benchmarks("--quick", "--json", "--pyperf", str(kept), *selected)
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    assert {"made", "machine", "quick", "seconds", "sizes", "rows", "curves", "growth"} == set(document)
    assert list(document["rows"]) == SMOKE
    for row in document["rows"].values():
        for figure in row["figures"]:
            assert figure["skipped"] is not None or figure["low"] <= figure["value"] <= figure["high"]
    labels = [figure["label"] for figure in document["rows"]["work"]["figures"]]
    assert len(labels) == len(set(labels)) == 2 * 4 * 2  # shapes, executors, kinds
    assert [point["atoms"] for point in document["growth"]["layers"]] == [1_000, 10_000]
    suite = pyperf.BenchmarkSuite.load(str(kept))
    assert "rollback, layers, 2,000 atoms: running" in suite.get_benchmark_names()
    assert "hostname" not in suite.get_metadata()


@pytest.mark.timeout(240)  # a quarter of a minute by itself
@pytest.mark.parametrize("name", [name for name in rows.ROWS if name not in SMOKE])
def test_each_further_row_comes_to_its_end(name):
    row = rows.ROWS[name]
    figures = list(row.measure(TINY, row.shapes[0]))
    assert figures
    for figure in figures:
        assert figure.skipped is not None or figure.low <= figure.value <= figure.high


def test_list_names_every_row_and_measures_nothing():
    done = run_benchmarks("--list")
    assert done.returncode == 0, done.stderr
    assert [line.split()[0] for line in done.stdout.splitlines()] == list(rows.ROWS)


@pytest.mark.parametrize("option", ["--only", "--shape", "--executor"])
def test_an_unknown_name_is_refused_with_the_known_ones(option, capsys):
    with pytest.raises(SystemExit):
        command_line.main([option, "nonsense"])
    assert "unknown: nonsense; the known ones are" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["99", "1_000_001", "a", "1e3", "", "100,,200"])
def test_what_is_no_size_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        command_line.main(["--atoms", text])
    assert "sizes are whole numbers from 100 to 1,000,000" in capsys.readouterr().err


def test_sizes_that_are_given_by_hand_hold_for_all_flows():
    few, many = command_line.how_much(command_line.parse(["--atoms", "100,1_000_000", "--executor", "threads"]))
    assert (few.atoms, few.large, few.crossing, few.tasks(0.1, 2, 4, 400)) == (100, 100, 100, 100)
    assert (few.short, many.short, many.turns) == (harness.FULL.short, 1, 1)
    assert many.executors == ("threads",)


def test_without_sizes_by_hand_a_run_has_as_many_tasks_as_take_some_time():
    assert harness.FULL.tasks(1e-2, 2, 4, 400) == 20
    assert harness.FULL.tasks(10.0, 2, 4, 400) == 4
    assert harness.FULL.tasks(1e-9, 2, 4, 400) == 400


@pytest.mark.parametrize(
    ("arguments", "found"),
    [
        (["--executor", "asyncio"], ["metg", "work", "asyncio", "stops", "waits"]),
        (["--executor", "threads", "--shape", "layers"], ["work", "threads", "report"]),
        (["--shape", "storm"], ["special", "growth", "durable"]),
        (["--only", "import,serial"], ["import", "serial"]),
    ],
)
def test_rows_are_chosen_by_name_shape_and_executor(arguments, found):
    assert [name for name, _ in command_line.chosen(command_line.parse(arguments))] == found


def test_each_shape_is_measured_by_some_row_and_each_row_knows_its_shapes():
    shapes = {shape for row in rows.ROWS.values() for shape in (*row.shapes, *row.further)}
    assert shapes - {""} == set(workloads.SHAPES)


@pytest.fixture
def one_row(monkeypatch, tmp_path):
    """Leave one row that measures nothing; returns what sets its value, and the folder that a full run writes into."""

    def with_value(value):
        figure = harness.Figure("linear", value=value, at_most=1.5, sides=((3.0, 4.0), (2.0, 2.0)))
        row = rows.Row("something ÷ something else", ("linear",), lambda sizes, shape: iter([figure]))
        monkeypatch.setattr(command_line, "ROWS", {"only": row})
        monkeypatch.setattr(record, "ROWS", {"only": row})

    folder = tmp_path / "results"
    monkeypatch.setattr(record, "FOLDER", folder)
    return with_value, folder


@pytest.mark.parametrize(("value", "code"), [(1.5, 0), (1.6, 1)])
def test_a_bound_that_does_not_hold_fails_a_strict_run_alone(one_row, value, code):
    one_row[0](value)
    assert command_line.main(["--strict"]) == code
    assert command_line.main([]) == 0


@pytest.mark.parametrize("option", ["--quick", "--only=only", "--shape=linear", "--executor=serial", "--atoms=100"])
def test_a_run_of_a_part_leaves_nothing_behind(one_row, option):
    with_value, folder = one_row
    with_value(1.0)
    command_line.main([option])
    assert not folder.exists()


def test_a_run_of_everything_leaves_figures_pictures_and_seconds_behind(one_row):
    with_value, folder = one_row
    with_value(1.0)
    command_line.main([])
    latest = json.loads((folder / "latest.json").read_text(encoding="utf-8"))
    assert latest["rows"]["only"]["figures"][0]["value"] == 1.0
    assert (folder / "bounds.svg").exists()
    suite = pyperf.BenchmarkSuite.load(str(folder / "pyperf.json"))
    assert suite.get_benchmark("only, linear: taskflowx").get_values() == (3.0, 4.0)
    assert suite.get_benchmark("only, linear: other").get_values() == (2.0, 2.0)


def test_where_nothing_took_a_time_there_is_nothing_for_pyperf():
    difference = harness.Figure("linear", value=1.0, sides=((-0.1,),))
    assert record.suite({"serial": [difference, harness.Figure("memory", value=2.0)]}) is None


@pytest.mark.parametrize("shape", workloads.PLAIN)
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


def test_in_a_storm_every_task_fails_once_under_a_retry_of_its_own():
    engine = engines.load(workloads.storm(20))
    engine.run()
    for part in range(10):
        assert engine.storage.get_atom_state(f"atom-{part}") == "SUCCESS"
        assert len(engine.storage.get_retry_history(f"again-{part}")) == 2  # rounds


@pytest.mark.parametrize("shape", list(workloads.SHAPES))
def test_a_run_of_each_shape_ends_as_it_should(shape):
    assert workloads.seconds(shape, 120) > 0


@pytest.mark.parametrize("shape", workloads.PLAIN)
def test_tasks_that_are_linked_run_in_the_order_of_the_graph(shape):
    graph, seen = workloads.graph_of(shape, 60), []

    class Seen(workloads.Step):
        def execute(self):
            seen.append(int(self.name))

    engines.run(workloads.linked([Seen(f"{node}") for node in range(60)], graph))
    assert sorted(seen) == list(range(60))
    assert all(seen.index(other) < seen.index(node) for node in range(60) for other in graph[node])


@pytest.mark.parametrize(
    ("shape", "workers", "least"), [("unordered", 2, 50), ("linear", 2, 100), ("layers", 2, 50), ("layers", 100, 2)]
)
def test_the_least_time_is_that_of_all_workers_or_of_the_longest_path(shape, workers, least):
    assert work.rounds(workloads.graph_of(shape, 100), workers) == least


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


@pytest.mark.parametrize(("sizes", "close"), [(harness.FULL, 0.01), (harness.QUICK, 0.5)])
@pytest.mark.parametrize(("overhead", "found"), [(100e-6, 50e-6), (20e-6, 10e-6)])
def test_metg_is_where_half_of_the_time_goes_into_the_work(monkeypatch, overhead, found, sizes, close):
    monkeypatch.setattr(grain, "size_of", lambda seconds: round(seconds * 1e9))
    monkeypatch.setattr(grain, "seconds_of", lambda size: size / 1e9)

    def run(count, size):
        return count * (size / 1e9 / 2 + overhead / 4)  # perfect but for the overhead

    points = efficiency.curve(run, 2, **metg.facts(sizes))
    assert points[0].efficiency > 0.95
    assert points[-1].efficiency < 0.2
    assert efficiency.metg(points) == pytest.approx(found, rel=close)


def test_a_run_that_something_else_made_slow_is_not_where_efficiency_ends():
    points = [
        efficiency.Point(1e-3, 0.9),
        efficiency.Point(1e-4, 0.3),
        efficiency.Point(1e-5, 0.75),
        efficiency.Point(1e-7, 0.25),
    ]
    assert efficiency.metg(points) == pytest.approx(1e-6)


def test_without_a_crossing_there_is_no_metg():
    assert efficiency.metg([efficiency.Point(1e-3, 0.9), efficiency.Point(5e-4, 0.8)]) is None
    assert efficiency.metg([efficiency.Point(1e-3, 0.4), efficiency.Point(5e-4, 0.3)]) is None


def test_where_even_the_shortest_tasks_are_efficient_metg_is_less_than_these():
    figure = metg.figure_of("serial", [efficiency.Point(1e-3, 0.9), efficiency.Point(2e-6, 0.8)])
    assert figure.line().split()[:4] == ["serial,", "less", "than", "2.00"]
    assert "not measured: the efficiency is 0.40 at best" in metg.figure_of("x", [efficiency.Point(1e-3, 0.4)]).line()


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
    figure = harness.compared("linear", [(2.0, 1.0), (3.0, 2.0), (9.0, 3.0)], "ms", factor=1e3, at_most=2.0)
    assert figure.value == 3.0 / 2.0
    assert (figure.low, figure.high, figure.turns) == (1.5, 3.0, 3)
    assert (figure.first, figure.second) == (3_000.0, 2_000.0)
    assert figure.sides == ((2.0, 3.0, 9.0), (1.0, 2.0, 3.0))


def test_a_figure_with_one_side_is_the_median_with_the_spread():
    figure = harness.alone("linear", [3.0, 1.0, 2.0], "µs an atom", seconds=True, at_most=2.0)
    assert (figure.value, figure.low, figure.high, figure.turns) == (2.0, 1.0, 3.0, 3)
    assert figure.sides == ((3e-6, 1e-6, 2e-6),)
    assert harness.alone("linear", [3.0], "KB an atom").sides == ()


def test_what_is_measured_of_a_million_atoms_is_measured_once_for_all_rows(monkeypatch):
    asked = []

    def fresh(command, **arguments):
        asked.append(command)
        return {"many": 2e-6, "few": 1e-6, "memory": 1024.0} if command == "scale" else (1e-6, 1024.0)

    monkeypatch.setattr(growth, "fresh", fresh)
    monkeypatch.setattr(growth, "_HUGE", {})
    monkeypatch.setattr(growth, "POINTS", {})
    sizes = dataclasses.replace(harness.FULL, growing=(100, 1_000))
    time, memory, frozen = growth.scale(sizes, "graph")
    assert (time.value, memory.value, frozen.value) == (2.0, 1.0, 2.0)
    time, memory = growth.growth(sizes, "graph")
    assert (time.value, memory.value) == (2.0, 1.0)
    assert asked == ["touch", "scale", "scale", "grow", "grow"]
    assert [point.atoms for point in growth.POINTS["graph"]] == [100, 1_000, 1_000_000]


def test_the_other_engine_is_measured_as_long_as_the_next_size_ends_in_time(monkeypatch):
    monkeypatch.setattr(growth.beside, "lacks", lambda peer, sizes: None)
    monkeypatch.setattr(growth, "answer", lambda command: [int(command[-1]) * 12e-6, 2048.0])  # quadratic
    monkeypatch.setattr(growth, "POINTS", {"linear": [growth.Point(1_000, 1e-6, 1024.0)]})
    time, memory = growth.upstream(harness.FULL)
    assert (time.value, memory.value) == (pytest.approx(12_000), 2.0)
    assert [point.atoms for point in growth.POINTS[f"OpenStack TaskFlow {peers.TASKFLOW.version}"]] == [100, 300, 1_000]


def test_an_engine_that_is_not_here_or_fails_is_shown_with_the_reason(monkeypatch):
    peer = peers.Peer("something", "1.0")
    figure = beside.figure(peer, harness.QUICK, "linear", (float, float), atoms=10, at_least=2.0, unit="s")
    assert "something 1.0 is not installed here; a full run installs it" in figure.line()
    assert figure.holds is None

    def fail():
        raise RuntimeError("python ended with 1:\nno such module")

    monkeypatch.setattr(peer, "install", lambda: None)
    figure = beside.figure(peer, harness.FULL, "linear", (fail, float), atoms=10, at_least=2.0, unit="s")
    assert "not measured: no such module" in figure.line()
    assert figure.holds is False


def test_letting_go_of_a_result_is_not_counted(monkeypatch):
    seen = []

    class Result:
        def __del__(self):
            seen.append("freed")

    def now():
        seen.append("time")
        return 0.0

    monkeypatch.setattr(harness.pyperf, "perf_counter", now)
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


def document_of(*figures, **further):
    made = [{**dataclasses.asdict(figure), "holds": figure.holds} for figure in figures]
    return {"rows": {"row": {"title": "something ÷ something else", "figures": made}}, **further}


def test_a_document_is_drawn_as_svg_and_png_and_the_same_each_time(tmp_path):
    document = document_of(
        harness.Figure("holds", value=0.5, at_most=1.0),
        harness.Figure("does not", value=0.5, at_least=1.0),
        harness.Figure("not measured", at_most=1.0, skipped="no such thing here"),
        harness.Figure("none is too many", value=3.0, at_most=0.0),
        curves={"threads": [{"seconds": 1e-3, "efficiency": 0.9}, {"seconds": 1e-5, "efficiency": 0.2}]},
        growth={"linear": [{"atoms": atoms, "seconds": 1e-5, "bytes": 600.0} for atoms in (100, 1_000)]},
    )
    files = pictures.draw(document, tmp_path / "first")
    names = [f"{name}.{kind}" for name in ("bounds", "efficiency", "growth") for kind in ("svg", "png")]
    assert [path.name for path in files] == names
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
