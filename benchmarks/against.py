"""The same graphs on other engines: `make bench-peers`.

Each engine has a virtual environment of its own, with a pinned version from PyPI. Both sides of a comparison run in
fresh processes, in turn (A B A B); a figure is the ratio of their medians, with its spread. An engine that cannot be
installed, or does not run a graph, is shown with the reason.
"""

from __future__ import annotations

import argparse
import dataclasses
import datetime as dt
import json
import statistics
import subprocess
import sys
from typing import Any

from benchmarks.harness import ROOT, Figure, compared, machine
from benchmarks.peers import Peer

RESULTS = ROOT / "benchmarks" / "results" / "peers.json"
SCRIPT = ROOT / "benchmarks" / "peer_side.py"
WORKERS = 2
SHAPES = ("chain", "unordered", "layers")
LENGTHS = {"no-op": 0.0, "1 ms": 1e-3}
TURNS, REPEATS = 3, 3
PATIENCE = 180  # seconds for one side of one turn


@dataclasses.dataclass(frozen=True)
class Rival:
    """What is compared with us.

    :param side: its name in `peer_side`
    :param ours: what of ours it is compared with
    :param nodes: how many calls a graph has; fewer where each takes long
    :param peer: where it comes from; None for the standard library
    """

    side: str
    ours: str
    nodes: int
    peer: Peer | None = None


RIVALS = (
    Rival("graphlib-threads", "taskflowx-threads", 2_000),
    Rival("graphlib-processes", "taskflowx-processes", 2_000),
    Rival("taskflow", "taskflowx-threads", 500, Peer("taskflow", "6.5.0")),
    Rival("dask-threads", "taskflowx-threads", 2_000, Peer("dask", "2026.8.0")),
    Rival("dask-distributed", "taskflowx-processes", 1_000, Peer("distributed", "2026.8.0")),
    Rival("joblib", "taskflowx-processes", 1_000, Peer("joblib", "1.6.0")),
    Rival("parsl", "taskflowx-threads", 1_000, Peer("parsl", "2026.10.26")),
    Rival("ray", "taskflowx-processes", 1_000, Peer("ray", "2.60.0")),
    Rival("hamilton", "taskflowx-serial", 500, Peer("sf-hamilton", "1.90.0")),
    Rival("sayiir", "taskflowx-serial", 500, Peer("sayiir", "1.0.0")),
    Rival("dbos", "taskflowx-serial", 500, Peer("dbos", "3.4.0")),
    Rival("prefect", "taskflowx-threads", 50, Peer("prefect", "3.9.1")),
    Rival("luigi", "taskflowx-serial", 200, Peer("luigi", "3.8.1")),
)


class RefusedError(Exception):
    """A side did not run; says why."""


def side(python: str, name: str, shape: str, nodes: int, seconds: float) -> float:
    """Return how many seconds a graph takes on one side, in a fresh process.

    :raises RefusedError: when it does not run, or not in time
    """
    asked = {"side": name, "shape": shape, "nodes": nodes, "seconds": seconds, "workers": WORKERS, "repeats": REPEATS}
    command = [python, "-I", str(SCRIPT), json.dumps(asked)]
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        raise RefusedError(f"it took more than {PATIENCE} seconds") from None
    if done.returncode != 0:
        raise RefusedError((done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"])[-1][:200])
    return statistics.median(json.loads(done.stdout)["seconds"])


def against(rival: Rival, shape: str, length: str) -> Figure:
    """Compare another engine with us on one graph."""
    label = f"{shape}, {length}"
    python = sys.executable if rival.peer is None else str(rival.peer.python)
    seconds = LENGTHS[length]
    pairs = []
    try:
        for _ in range(TURNS):
            theirs = side(python, rival.side, shape, rival.nodes, seconds)
            pairs.append((theirs, side(sys.executable, rival.ours, shape, rival.nodes, seconds)))
    except RefusedError as error:
        return Figure(label, skipped=str(error))
    return compared(label, pairs, "µs an atom", factor=1e6 / rival.nodes, atoms=rival.nodes)


def measure(rivals: list[Rival], shapes: list[str]) -> dict[str, list[Figure]]:
    """Compare all rivals with us, and print each figure as soon as it is there."""
    figures: dict[str, list[Figure]] = {}
    for rival in rivals:
        version = "" if rival.peer is None else f" {rival.peer.name} {rival.peer.version}"
        print(f"\n{rival.side}{version} ÷ {rival.ours}", flush=True)
        reason = rival.peer.install() if rival.peer is not None else None
        taken = figures[rival.side] = []
        for shape in shapes:
            for length in LENGTHS:
                taken.append(Figure(f"{shape}, {length}", skipped=reason) if reason else against(rival, shape, length))
                print(taken[-1].line(), flush=True)
    return figures


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    parser = argparse.ArgumentParser("python -m benchmarks.against", description="Run the same on other engines.")
    parser.add_argument("rivals", nargs="*", metavar="ENGINE", help=f"of {', '.join(r.side for r in RIVALS)}; or all")
    parser.add_argument("--shape", choices=SHAPES, help="only this shape")
    options = parser.parse_args(arguments)
    unknown = sorted(set(options.rivals) - {rival.side for rival in RIVALS})
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}; the known ones are {', '.join(r.side for r in RIVALS)}")
    rivals = [rival for rival in RIVALS if not options.rivals or rival.side in options.rivals]
    print(", ".join(str(part) for part in machine().values()) + " processors")
    figures = measure(rivals, [options.shape] if options.shape else list(SHAPES))
    if not (options.rivals or options.shape):
        document: dict[str, Any] = {
            "made": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "workers": WORKERS,
            "rivals": {
                rival.side: {
                    "version": rival.peer.version if rival.peer else None,
                    "ours": rival.ours,
                    "figures": [dataclasses.asdict(figure) for figure in figures[rival.side]],
                }
                for rival in rivals
            },
        }
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
