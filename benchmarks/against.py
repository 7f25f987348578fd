"""The same graphs on other engines: `make bench-peers`.

Each engine has a virtual environment of its own, with a pinned version from PyPI. Both sides of a comparison run in
fresh processes, in turn (A B A B); a figure is the ratio of their medians, with its spread. Then each engine, and each
executor of ours, shows how efficient it is at shorter and shorter tasks, and that is where METG(50%) comes from. An
engine that cannot be installed, or does not run a graph, is shown with the reason.

What was found is kept in `results/peers.json`, also of the engines that a later run does not measure.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import signal
import statistics
import sys
import time
from typing import Any

from benchmarks import peers
from benchmarks.__main__ import names_of
from benchmarks.efficiency import HALF, Point, metg
from benchmarks.grain import size_of
from benchmarks.graphs import GRAPHS
from benchmarks.harness import ROOT, Figure, compared, machine
from benchmarks.peers import Peer

RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
SCRIPT = ROOT / "benchmarks" / "peer_side.py"
WORKERS = 2
SHAPES = ("chain", "unordered", "layers")
TURNS, REPEATS = 3, 3
PATIENCE = 180  # seconds for all graphs of one side in one turn, and again for its curve
A_CURVE = 30  # seconds after which a curve goes no further


@dataclasses.dataclass(frozen=True)
class Length:
    """How long each call works.

    :param seconds: 0 for not at all
    :param most: nodes of a graph at most
    """

    seconds: float
    most: int


LENGTHS = {"no-op": Length(0.0, 2_000), "1 ms": Length(1e-3, 100), "10 ms": Length(1e-2, 60)}


@dataclasses.dataclass(frozen=True)
class Rival:
    """What is compared with us.

    :param side: its name in `peer_side`
    :param ours: what of ours it is compared with
    :param nodes: how many calls a graph has; fewer where each takes long
    :param peer: where it comes from; None for the standard library
    :param turns: how often both sides are measured
    """

    side: str
    ours: str
    nodes: int
    peer: Peer | None = None
    turns: int = TURNS

    @property
    def python(self) -> str:
        """Its interpreter."""
        return sys.executable if self.peer is None else str(self.peer.python)


RIVALS = (
    Rival("graphlib-threads", "taskflowx-threads", 2_000),
    Rival("graphlib-processes", "taskflowx-processes", 1_000),
    Rival("taskflow", "taskflowx-threads", 200, Peer("taskflow", "6.5.0")),
    Rival("dask-threads", "taskflowx-threads", 2_000, Peer("dask", "2026.8.0")),
    Rival("dask-distributed", "taskflowx-processes", 100, Peer("distributed", "2026.8.0")),
    Rival("joblib", "taskflowx-processes", 100, Peer("joblib", "1.6.0")),
    Rival("parsl", "taskflowx-threads", 1_000, Peer("parsl", "2026.10.26")),
    Rival("ray", "taskflowx-processes", 200, Peer("ray", "2.60.0")),
    Rival("hamilton", "taskflowx-serial", 500, Peer("sf-hamilton", "1.90.0")),
    Rival("sayiir", "taskflowx-serial", 500, Peer("sayiir", "1.0.0")),
    Rival("dbos", "taskflowx-serial", 100, Peer("dbos", "3.4.0")),
    Rival("prefect", "taskflowx-threads", 60, Peer("prefect", "3.9.1"), turns=2),
    Rival("luigi", "taskflowx-serial", 60, Peer("luigi", "3.8.1")),
)
#: executors of ours that show their own curve
OURS = ("taskflowx-serial", "taskflowx-threads", "taskflowx-processes", "taskflowx-asyncio")
SIDES = (*OURS, *(rival.side for rival in RIVALS))


@dataclasses.dataclass(frozen=True)
class Work:
    """A graph that both sides run.

    :param size: how many bytes each call hashes
    """

    shape: str
    length: str
    nodes: int
    size: int

    @property
    def label(self) -> str:
        """What sets it apart from others."""
        return f"{self.shape}, {self.length}"


def works(nodes: int, shapes: list[str]) -> list[Work]:
    """Return all graphs that are run on an engine, of at most so many nodes."""
    return [
        Work(shape, name, min(nodes, length.most), size_of(length.seconds) if length.seconds else 0)
        for shape in shapes
        for name, length in LENGTHS.items()
    ]


def side(python: str, name: str, wanted: list[Work]) -> list[float | str]:
    """Return how many seconds each graph takes on one side, all in a fresh process; or why it does not run.

    A graph at which the process ends is not tried again, and the others go on in another process; if that does not
    come to its first answer, there are none.
    """
    answers: list[float | str] = []
    while len(answers) < len(wanted):
        left = wanted[len(answers) :]
        asked = [
            {"measure": "graph", "shape": work.shape, "nodes": work.nodes, "size": work.size, "repeats": REPEATS}
            for work in left
        ]
        given, reason = _ask(python, name, asked)
        answers += [one.get("refused") or statistics.median(one["seconds"]) for one in given]
        if len(given) < len(left):
            answers += [reason or "it gave no answer"] * (1 if given else len(left))
    return answers


def curve(python: str, name: str) -> tuple[list[Point], str | None]:
    """Return the curve of efficiency of one side, in a fresh process; without points, says why."""
    given, reason = _ask(python, name, [{"measure": "curve", "repeats": REPEATS, "patience": A_CURVE}])
    answer = given[0] if given else {"refused": reason or "it gave no answer"}
    return [Point(**point) for point in answer.get("points", [])], answer.get("refused")


def _ask(python: str, name: str, asked: list[dict[str, Any]]) -> tuple[list[Any], str | None]:
    request = {"side": name, "workers": WORKERS, "asked": asked}
    return peers.ask([python, "-I", str(SCRIPT), json.dumps(request)], PATIENCE)


def against(rival: Rival, shapes: list[str]) -> list[Figure]:
    """Compare another engine with us; what does not run in a turn is not tried in the next one."""
    wanted = works(rival.nodes, shapes)
    pairs: dict[Work, list[tuple[float, float]]] = {work: [] for work in wanted}
    refused: dict[Work, str] = {}
    for _ in range(rival.turns):
        left = [work for work in wanted if work not in refused]
        theirs = side(rival.python, rival.side, left)
        ours = side(sys.executable, rival.ours, left)
        for work, first, second in zip(left, theirs, ours, strict=True):
            if isinstance(first, str):
                refused[work] = first
            elif isinstance(second, str):
                refused[work] = f"{rival.ours}: {second}"
            else:
                pairs[work].append((first, second))
    return [
        Figure(work.label, skipped=refused[work])
        if work in refused
        else compared(work.label, pairs[work], "µs an atom", factor=1e6 / work.nodes, atoms=work.nodes)
        for work in wanted
    ]


def metg_of(points: list[Point], reason: str | None) -> Figure:
    """Make a figure of a curve of efficiency."""
    if not points:
        return Figure("METG(50%)", skipped=reason)
    found, label = metg(points), "METG(50%)"
    if found is None and points[-1].efficiency >= HALF:
        found, label = points[-1].seconds, "METG(50%), less than"
    if found is None:
        return Figure(label, skipped=f"the efficiency is {max(point.efficiency for point in points):.2f} at best")
    micros = found * 1e6
    return Figure(label, micros, micros, micros, 1, unit="µs a task")


def curve_facts(python: str, name: str, reason: str | None = None) -> dict[str, Any]:
    """Take the curve of one side, unless there is a reason not to, and print its METG(50%)."""
    points, reason = curve(python, name) if reason is None else ([], reason)
    found = metg_of(points, reason)
    print(found.line(), flush=True)
    return {"metg": dataclasses.asdict(found), "curve": [dataclasses.asdict(point) for point in points]}


def measure(rival: Rival, shapes: list[str], *, curves: bool) -> dict[str, Any]:
    """Compare a rival with us, and print its figures; returns what is to be kept of them."""
    version = "" if rival.peer is None else f" {rival.peer.name} {rival.peer.version}"
    print(f"\n{rival.side}{version} ÷ {rival.ours}", flush=True)
    reason = rival.peer.install() if rival.peer is not None else None
    if reason is None:
        figures = against(rival, shapes)
    else:
        figures = [Figure(work.label, skipped=reason) for work in works(rival.nodes, shapes)]
    for figure in figures:
        print(figure.line(), flush=True)
    facts: dict[str, Any] = {
        "version": rival.peer.version if rival.peer else None,
        "ours": rival.ours,
        "figures": {figure.label: dataclasses.asdict(figure) for figure in figures},
    }
    if curves:
        facts |= curve_facts(rival.python, rival.side, reason)
    return facts


def keep(name: str, facts: dict[str, Any]) -> None:
    """Write down what was found of one side, beside what is known of others and of its other graphs."""
    document: dict[str, Any] = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    known = document.setdefault("sides", {})
    before = known.get(name, {})
    if before.get("version") != facts.get("version"):
        before = {}
    figures = {**before.get("figures", {}), **facts.get("figures", {})}
    taken = {"made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"), "machine": machine(), "workers": WORKERS}
    known[name] = {**before, **taken, **facts, "figures": figures}
    document["sides"] = {side: known[side] for side in SIDES if side in known}
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def table(document: dict[str, Any]) -> list[str]:
    """Return METG(50%) of all that is known as lines, the shortest first."""
    found = [(name, facts["metg"]) for name, facts in document["sides"].items() if "metg" in facts]
    found.sort(key=lambda pair: pair[1]["value"] if pair[1]["skipped"] is None else float("inf"))
    return [Figure(**{**metg, "label": metg["label"].replace("METG(50%)", name)}).line() for name, metg in found]


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m benchmarks.against", description="Run the same on other engines.")
    known = ", ".join(SIDES)
    parser.add_argument("sides", nargs="*", metavar="ENGINE", help=f"of {known}; or all")
    shapes = f"only these shapes, and no METG, of {', '.join(GRAPHS)}; {','.join(SHAPES)} by default"
    parser.add_argument("--shape", type=names_of(GRAPHS), metavar="SHAPE,...", help=shapes)
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.sides) - set(SIDES))
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; the known ones are {known}")
    return options


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    options = parse(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that what runs is ended too
    started = time.monotonic()
    wanted = options.sides or SIDES
    print(", ".join(str(part) for part in machine().values()) + " processors")
    for rival in RIVALS:
        if rival.side in wanted:
            keep(rival.side, measure(rival, options.shape or list(SHAPES), curves=not options.shape))
    if not options.shape:
        for name in OURS:
            if name in wanted:
                print(f"\n{name}", flush=True)
                keep(name, curve_facts(sys.executable, name))
    document = json.loads(RESULTS.read_text(encoding="utf-8"))
    print("\nMETG(50%), shortest first")
    print("\n".join(table(document)))
    from benchmarks import peer_pictures  # matplotlib takes its time

    for path in peer_pictures.draw(document, RESULTS.parent):
        print(path.relative_to(ROOT) if path.is_relative_to(ROOT) else path)
    minutes, seconds = divmod(round(time.monotonic() - started), 60)
    print(f"\nAll of it took {minutes} min {seconds} s.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
