"""Runs hostile tasks for hours: `python -m tests.soak [SECONDS]`, or `make soak ARGS="3600"`.

Processes of their own run batches of random flows, see `life`; this one watches them. A run that does not end is shown
with the stacks of all its threads. The end is a table of what was run, and each fault with the command that repeats it.
"""

from __future__ import annotations

import argparse
import collections
import contextlib
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from typing import Any

from tests.soak import around, life, places

#: seconds after which a process that runs batches is replaced by a new one
_LONGEST = 1800


class Lane:
    """One process that runs batches, and what it has reported.

    :param number: of the lane, from 0
    :param lanes: how many there are
    """

    def __init__(self, number: int, lanes: int, seed: int, folder: pathlib.Path) -> None:
        self.next = seed + number
        self._lanes = lanes
        self._number = number
        self._folder = folder
        self._lives = 0
        self._file: Any = None
        self._heard = 0.0
        self._has_ended = False
        self._at = ("?", "?")
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, seconds: float) -> None:
        """Start a process.

        :param seconds: how long it is to live
        """
        self._lives += 1
        report = self._folder / f"report-{self._number}-{self._lives}"
        report.touch()
        self._file = report.open()
        self._errors = (self._folder / f"errors-{self._number}-{self._lives}").open("wb+")
        self._stacks = report.with_name(f"stacks-{self._number}-{self._lives}")
        numbers = [str(self.next), str(self._lanes)]
        command = [sys.executable, "-m", "tests.soak.life", str(report), str(self._stacks), str(seconds), *numbers]
        self._mark = f"{os.getpid()}-{self._number}-{self._lives}"
        self.process = subprocess.Popen(
            command,
            env=self._environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            start_new_session=True,
        )
        self._heard = time.monotonic()
        self._has_ended = False

    def _environment(self) -> dict[str, str]:
        """Return the variables of the process: spawned workers would compile all modules, where no bytecode is kept."""
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        kept["PYTHONPYCACHEPREFIX"] = str(self._folder / "bytecode")
        return {**kept, around.MARK: self._mark, "PYTHONFAULTHANDLER": "1"}

    def look(self, totals: Totals) -> bool:
        """Take in what was reported; returns whether the process lives."""
        process = self.process
        assert process is not None
        ended = process.poll() is not None
        for line in self._file:
            self._heard = time.monotonic()
            facts = json.loads(line)
            if "begin" in facts:
                self._at = facts["begin"], facts["place"]
                self.next = int(facts["begin"].partition(".")[0]) + self._lanes
            self._has_ended |= "end" in facts
            totals.add(facts)
        if not ended and time.monotonic() - self._heard > life.LIMIT:
            programs = around.started(self._mark, set())
            # A worker dies with its engine, and would show nothing.
            for pid in [*sorted(programs.keys() - {process.pid}, reverse=True), process.pid]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGABRT)  # which shows all stacks
                time.sleep(0.3)  # one after the other
            self._die(process)
            what = f"does not end, {programs}\n{self._stacks.read_text()[-6000:]}\n{self._said()}"
            totals.add({"fault": what, "seed": self._at[0], "place": self._at[1]})
            return False
        if ended and not self._has_ended:
            what = f"the process has ended with {process.returncode}\n{self._said()}"
            totals.add({"fault": what, "seed": self._at[0], "place": self._at[1]})
        return not ended

    @staticmethod
    def _die(process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _said(self) -> str:
        self._errors.seek(0, os.SEEK_END)
        self._errors.seek(max(self._errors.tell() - 100_000, 0))
        text = str(self._errors.read().decode("utf-8", "backslashreplace"))
        return re.sub(r"(.)\1{30,}", r"\1...", text)[-12_000:]  # some tasks print long lines


class Totals:
    """What all processes have reported."""

    def __init__(self) -> None:
        self.by_place: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
        self.faults = 0
        self.grown: list[tuple[float, float]] = []

    def add(self, facts: dict[str, Any]) -> None:
        """Add one fact."""
        if "batch" in facts:
            place = self.by_place[facts["place"]]
            place.update({name: facts[name] for name in ("runs", "tasks", "seconds")})
            place["batches"] += 1
        elif "grown" in facts:
            self.grown.append((facts["grown"], facts["over"]))
        elif "fault" in facts:
            self.faults += 1
            self.by_place[facts["place"]]["faults"] += 1
            print(f"\nFAULT at '{facts['place']}': {facts['fault']}")
            print(f"  again: python -m tests.soak --again {facts['seed']}", flush=True)

    def show(self, seconds: float) -> None:
        """Print a table."""
        everything: collections.Counter[str] = collections.Counter()
        print(f"\n{'place':<26}{'batches':>9}{'runs':>9}{'tasks':>10}{'seconds':>10}{'faults':>8}")
        for counts in self.by_place.values():
            everything.update(counts)
        for name, counts in [*self.by_place.items(), ("all", everything)]:
            figures = counts["batches"], counts["runs"], counts["tasks"], round(counts["seconds"]), counts["faults"]
            print("{:<26}{:>9}{:>9}{:>10}{:>10}{:>8}".format(name, *figures))
        for grown, over in self.grown:
            print(f"memory grew by {grown:.0f} blocks in {over:.0f} runs")
        print(f"{seconds:.0f} s by the clock", flush=True)


def soak(seconds: float, seed: int, lanes: int) -> int:
    """Run batches for so many seconds; returns how many faults there were."""
    totals, started = Totals(), time.monotonic()
    folder = pathlib.Path(tempfile.mkdtemp(prefix="soak-"))
    all_lanes = [Lane(number, lanes, seed, folder) for number in range(lanes)]
    live = dict.fromkeys(all_lanes, False)
    while True:
        left = started + seconds - time.monotonic()
        for lane in all_lanes:
            if live[lane]:
                live[lane] = lane.look(totals)
            elif left > 0:
                lane.start(min(left, _LONGEST))
                live[lane] = True
        if left <= 0 and not any(live.values()):
            break
        time.sleep(0.2)
    if totals.faults:
        print(f"\nWhat the processes have said is in {folder}")
    else:
        shutil.rmtree(folder)
    totals.show(time.monotonic() - started)
    return totals.faults


def again(which: str, times: int) -> int:
    """Run a batch, or one run, here; returns how many faults there were.

    :param which: the number of the batch, or with a point and a number behind it that of the run
    """
    batch, _, run = which.partition(".")
    os.environ.setdefault(around.MARK, f"again-{os.getpid()}")
    with tempfile.TemporaryDirectory() as folder:
        report = pathlib.Path(folder) / "report"
        one, totals = life.Life(str(report)), Totals()
        for _ in range(times):
            one.batch(int(batch), int(run) if run else None)
        for line in report.read_text().splitlines():
            totals.add(json.loads(line))
    totals.show(0)
    return totals.faults


def main() -> int:
    """Read the arguments; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("seconds", nargs="?", type=float, default=3600.0)
    parser.add_argument("--seed", type=int, default=None, help="the number of the first batch; by default by the clock")
    parser.add_argument("--lanes", type=int, default=os.cpu_count() or 1, help="how many processes run batches")
    parser.add_argument("--again", metavar="SEED", help="run one batch, or one run, again")
    parser.add_argument("--times", type=int, default=1, help="how often")
    given = parser.parse_args()
    if given.again:
        return int(again(given.again, given.times) > 0)
    seed = int(time.time()) * 1000 if given.seed is None else given.seed
    missing = [place.name for place in places.PLACES if not places.is_there(place)]
    print(f"seed {seed}, {given.lanes} processes, {given.seconds:g} s; not there: {missing}", flush=True)
    return int(soak(given.seconds, seed, given.lanes) > 0)


if __name__ == "__main__":
    sys.exit(main())
