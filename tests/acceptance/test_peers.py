"""Other engines are measured beside ours; one that fails or hangs says so, and nothing of it stays behind."""

import contextlib
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

import taskflowx.task
from benchmarks import against, efficiency, grain, graphs, peer_pictures, peer_side, peers


def ask_side(side, *asked):
    request = {"side": side, "workers": 2, "asked": asked}
    command = [sys.executable, "-I", str(against.SCRIPT), json.dumps(request)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def graph(shape, nodes=120, size=1_000):
    return {"measure": "graph", "shape": shape, "nodes": nodes, "size": size, "repeats": 1}


@pytest.fixture(autouse=True)
def results(monkeypatch, tmp_path):
    monkeypatch.setattr(against, "RESULTS", tmp_path / "results" / "peers.json")
    return against.RESULTS


@pytest.fixture
def fake(monkeypatch, tmp_path):
    """Return what puts a script in the place of the one that runs an engine."""

    def put(text):
        script = tmp_path / "engine.py"
        script.write_text(text, encoding="utf-8")
        monkeypatch.setattr(against, "SCRIPT", script)

    return put


def rival(**facts):
    return against.Rival(**{"side": "graphlib-threads", "ours": "taskflowx-threads", "nodes": 60, "turns": 1} | facts)


@pytest.mark.parametrize("side", ["taskflowx-serial", "taskflowx-threads", "taskflowx-processes", "taskflowx-asyncio"])
def test_a_side_runs_all_of_its_graphs_and_answers_each_with_seconds(side):
    chain, layers = ask_side(side, graph("chain"), graph("layers"))
    assert len(chain["seconds"]) == len(layers["seconds"]) == 1
    assert chain["seconds"][0] > 0


@pytest.mark.parametrize("side", ["graphlib-threads", "graphlib-processes"])
def test_the_loops_by_hand_are_sides_too(side):
    answers = ask_side(side, *[graph(shape, 30) for shape in graphs.GRAPHS])
    assert all("seconds" in answer for answer in answers)


def test_a_graph_that_an_engine_refuses_does_not_keep_it_from_others():
    refused, taken = ask_side("graphlib-threads", graph("nonsense"), graph("chain"))
    assert refused == {"refused": "KeyError: 'nonsense'"}
    assert "seconds" in taken


def test_the_class_of_our_tasks_goes_to_worker_processes_by_its_name():
    assert peer_side.Step is peer_side.class_of(taskflowx.task, awaited=False)


def test_the_rows_of_a_graph_depend_on_rows_before():
    assert peer_side.levels(graphs.diamonds(6)) == [[0], [1, 2], [3], [4, 5]]
    assert peer_side.levels(graphs.unordered(3)) == [[0, 1, 2]]


def test_calls_that_are_not_made_are_noticed():
    with pytest.raises(RuntimeError, match="2 calls of 3 were made"):
        peer_side.timed(lambda: 2, 3)


def test_an_engine_that_does_not_start_says_why():
    wanted = against.works(10, ["chain", "layers"])
    assert against.side(sys.executable, "nonsense", wanted) == ["KeyError: 'nonsense'"] * len(wanted)
    assert against.curve(sys.executable, "nonsense") == ([], "KeyError: 'nonsense'")


def test_a_graph_that_is_refused_is_shown_with_its_reason(monkeypatch):
    asked = []

    def side(python, name, wanted):
        asked.append((name, len(wanted)))
        return [1.0 if work.shape == "chain" else "no such graphs" for work in wanted]

    monkeypatch.setattr(against, "side", side)
    figures = against.against(rival(turns=2), ["chain", "layers"])
    assert [figure.skipped for figure in figures] == [None] * 3 + ["no such graphs"] * 3
    assert "not measured: no such graphs" in figures[-1].line()
    assert [count for _, count in asked] == [6, 6, 3, 3]  # it is not tried again


def test_sides_of_a_rival_are_measured_in_turn(monkeypatch):
    asked = []

    def side(python, name, wanted):
        asked.append(name)
        return [2.0 if name == "ray" else 1.0 for _ in wanted]

    monkeypatch.setattr(against, "side", side)
    ray = rival(side="ray", ours="taskflowx-processes", turns=3, peer=peers.Peer("ray", "1"))
    assert [figure.value for figure in against.against(ray, ["chain"])] == [2.0] * 3
    assert asked == ["ray", "taskflowx-processes"] * 3


def test_after_a_crash_the_other_graphs_go_on(fake):
    fake(
        "import json, os, sys\n"
        "for asked in json.loads(sys.argv[1])['asked']:\n"
        "    if asked['shape'] == 'layers' and asked['nodes'] == 100:\n"
        "        print('out of memory', file=sys.stderr)\n"
        "        os._exit(3)\n"
        "    print(json.dumps({'seconds': [1.0]}), flush=True)\n"
    )
    answers = against.side(sys.executable, "some", against.works(200, ["chain", "layers"]))
    assert answers == [1.0, 1.0, 1.0, 1.0, "out of memory", 1.0]


def test_what_crashes_at_once_is_not_started_for_each_graph(fake, tmp_path):
    fake(f"open({str(tmp_path / 'starts')!r}, 'a').write('x')\nraise SystemExit('no such library')\n")
    assert against.side(sys.executable, "some", against.works(10, ["chain"])) == ["no such library"] * 3
    assert (tmp_path / "starts").read_text(encoding="utf-8") == "x"


HANGS = """
import os, subprocess, sys, time
forks = "import os, time; os.setpgid(0, 0); time.sleep(60)"
print(*[subprocess.Popen([sys.executable, "-c", code]).pid for code in ("import time; time.sleep(60)", forks)],
      sep="\\n", file=open(sys.argv[-1] + ".pids", "w"), flush=True)
print("1", flush=True)
time.sleep(60)
"""


def gone(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] == "Z"
    return True


@pytest.mark.skipif(not Path("/proc").exists(), reason="groups of their own are found in /proc")
def test_a_hang_is_cut_off_and_nothing_of_it_stays_behind(monkeypatch, tmp_path):
    monkeypatch.setattr(peers, "TIDYING", 0.5)
    marker = str(tmp_path / "hang")
    started = time.monotonic()
    answers, reason = peers.ask([sys.executable, "-c", HANGS, marker], 3)
    assert time.monotonic() - started < 20
    assert (answers, reason) == ([1], "it took more than 3 seconds")
    pids = [int(line) for line in Path(f"{marker}.pids").read_text(encoding="utf-8").splitlines()]
    assert len(pids) == 2
    assert all(gone(pid) for pid in pids)


def test_what_ends_well_leaves_no_folder_behind():
    code = "import json, os, tempfile; print(json.dumps(tempfile.mkdtemp()))"
    [folder], reason = peers.ask([sys.executable, "-c", code], 30)
    assert reason is None
    assert not os.path.exists(folder)  # noqa: PTH110 - it is text


@pytest.mark.parametrize(
    ("code", "reason"),
    [("raise SystemExit('a reason')", "a reason"), ("import os; os.abort()", "it ended with -6")],
)
def test_a_program_that_fails_says_why(code, reason):
    assert peers.ask([sys.executable, "-c", code], 30) == ([], reason)


def test_half_a_line_is_no_answer():
    assert peers.ask([sys.executable, "-c", "print(1); print('{\"seconds\": [', end='')"], 30) == ([1], None)


def test_the_curve_of_a_side_falls_towards_short_tasks(monkeypatch):
    monkeypatch.setattr(against, "A_CURVE", 2)
    monkeypatch.setattr(against, "REPEATS", 1)
    points, reason = against.curve(sys.executable, "graphlib-threads")
    assert reason is None
    assert len(points) > 1
    assert points[0].seconds > points[-1].seconds
    assert all(0 < point.efficiency < 1.5 for point in points)


@pytest.mark.parametrize(("overhead", "at_first"), [(1e-5, 2e-3), (1e-3, 1.6e-2), (3e-2, 2.56e-1)])
def test_the_curve_of_a_slow_engine_begins_at_long_tasks(monkeypatch, overhead, at_first):
    monkeypatch.setattr(grain, "size_of", lambda seconds: round(seconds * 1e9))
    monkeypatch.setattr(grain, "seconds_of", lambda size: size / 1e9)
    counts = []

    def run(count, size):
        counts.append(count)
        return 1e-3 + count * (size / 1e9 / 2 + overhead)

    start = efficiency.start_of(run, 2)
    assert start.longest == pytest.approx(at_first)
    counts.clear()
    points = efficiency.curve(run, 2, start=start)
    assert efficiency.metg(points) == pytest.approx(2 * overhead, rel=0.1)
    assert counts[0] * (at_first / 2 + overhead) <= 1.05 * efficiency.A_SLOW_RUN
    assert counts[0] >= efficiency.A_FEW


def test_longer_tasks_are_tried_where_the_first_are_not_efficient(monkeypatch):
    monkeypatch.setattr(grain, "size_of", lambda seconds: round(seconds * 1e9))
    monkeypatch.setattr(grain, "seconds_of", lambda size: size / 1e9)
    start = efficiency.Start(longest=1e-3, doublings=3)
    points = efficiency.curve(lambda count, size: count * (size / 1e9 / 2 + 2e-3), 2, start=start)
    assert [point.seconds for point in points[:3]] == pytest.approx([4e-3, 2e-3, 1e-3])
    assert points[0].efficiency >= 0.5


def test_metg_is_a_figure_or_a_reason():
    half, less = efficiency.Point(1e-3, 0.5), efficiency.Point(5e-4, 0.3)
    assert against.metg_of([half, less], None).value == pytest.approx(1_000)
    assert against.metg_of([half], None).label == "METG(50%), less than"
    assert against.metg_of([less], None).skipped == "the efficiency is 0.30 at best"
    assert against.metg_of([], "it took too long").skipped == "it took too long"


@pytest.fixture
def measured(monkeypatch):
    """Measure nothing: each side gives the same answers."""
    monkeypatch.setattr(against, "side", lambda python, name, wanted: [1.0] * len(wanted))
    points = [efficiency.Point(1e-3, 0.9), efficiency.Point(1e-4, 0.2)]
    monkeypatch.setattr(against, "curve", lambda python, name: (points, None))
    monkeypatch.setattr(peers.Peer, "install", lambda self: "no space left" if self.name == "luigi" else None)


def test_a_partial_run_keeps_what_is_known_of_others(measured, results, capsys):
    assert against.main(["dask-threads", "luigi", "taskflowx-threads"]) == 0
    said = capsys.readouterr().out
    assert said.count("not measured: no space left") == 11  # nine graphs and METG, and that once more in the table
    assert "All of it took 0 min" in said
    first = json.loads(results.read_text(encoding="utf-8"))["sides"]
    assert list(first) == ["taskflowx-threads", "dask-threads", "luigi"]
    assert against.main(["--shape", "tree", "dask-threads"]) == 0
    second = json.loads(results.read_text(encoding="utf-8"))["sides"]
    assert second["luigi"] == first["luigi"]
    assert second["dask-threads"]["curve"] == first["dask-threads"]["curve"]
    assert len(second["dask-threads"]["figures"]) == 12
    assert sorted(path.name for path in results.parent.iterdir()) == [
        "peers-efficiency.png",
        "peers-efficiency.svg",
        "peers-metg.png",
        "peers-metg.svg",
        "peers.json",
    ]


def test_figures_of_an_earlier_version_are_not_kept(results):
    against.keep("ray", {"version": "1", "figures": {"chain, no-op": {}}})
    against.keep("ray", {"version": "2", "figures": {"layers, no-op": {}}})
    assert list(json.loads(results.read_text(encoding="utf-8"))["sides"]["ray"]["figures"]) == ["layers, no-op"]


def test_an_unknown_engine_is_refused_with_the_known_ones(capsys):
    with pytest.raises(SystemExit):
        against.main(["nonsense"])
    assert "unknown: nonsense; the known ones are taskflowx-serial" in capsys.readouterr().err


def test_pictures_are_the_same_each_time(measured, results):
    against.main(["hamilton", "luigi", "taskflowx-serial"])
    document = json.loads(results.read_text(encoding="utf-8"))
    files = peer_pictures.draw(document, results.parent / "again")
    assert [path.read_bytes() for path in files] == [(results.parent / path.name).read_bytes() for path in files]
    assert peer_pictures.draw({"sides": {}}, results.parent / "none") == []


@pytest.mark.parametrize(
    ("micros", "words"), [(0.5, "0.5 µs"), (12.3, "12 µs"), (999.9, "1 ms"), (2_500, "2.5 ms"), (3e6, "3 s")]
)
def test_lengths_are_words_that_people_know(micros, words):
    assert peer_pictures.length(micros) == words
