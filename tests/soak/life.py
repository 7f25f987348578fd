"""A process that runs batches: `python -m tests.soak.life REPORT STACKS SECONDS FIRST STEP`, started by `tests.soak`.

Each batch has a number, from which all that it does follows, and takes place at one place. After it the process has to
be as before: its descriptors, its threads and the programs that it has started, and at the end of its life the memory.
"""

from __future__ import annotations

import json
import logging
import os
import random
import statistics
import sys
import time
import traceback
import warnings
from typing import Any

from tests.soak import around, places, runs

#: seconds that one run may take, and that what tasks have left behind may take to end
LIMIT, TO_SETTLE = 90, 15
#: the part of the batches in which tasks hit others
_SPILLING = 0.25
#: how many batches fill the caches of a process, before its memory is looked at
_WARM = 22
#: blocks of memory that Python may have more of in the last quarter of a life than in the second, and with each run.
#: Some 17 with each run are callers and lines of sources, of which both caches are bounded; a run that is kept is some
#: hundreds, so one in ten is noticed. What the system counts goes up and down by tens of MB with the values of tasks.
_SLACK, _A_RUN = 5_000, 40


class Life:
    """The batches of one process.

    :param path: of the file to which a line is added for each thing that has happened
    """

    def __init__(self, path: str) -> None:
        self._file = open(path, "a", buffering=1)  # noqa: PTH123, SIM115 - for as long as the process lives
        self._memory: list[tuple[int, int]] = []
        self._runs = 0
        self._before: around.Left | None = None
        self._batches = 0

    def tell(self, **facts: Any) -> None:
        """Add a line."""
        self._file.write(json.dumps(facts) + "\n")

    def batch(self, number: int, only: int | None = None) -> None:
        """Run a batch.

        :param only: the run of it that is to be run alone
        """
        place = places.PLACES[number % len(places.PLACES)]
        if not places.is_there(place):
            return
        rng = random.Random(number)
        count, tasks, started = rng.randint(8, 16), 0, time.monotonic()
        spills = rng.random() < _SPILLING and place.name not in ("futures in processes", "greenthreads")
        with place.make() as executor:
            for n in range(count):
                if only is not None and n != only:
                    continue
                run = self._run(f"{number}.{n}", place, executor, spills=spills)
                tasks += 0 if run is None else len(run.jobs)
                if run is not None and run.is_broken:
                    break
        executor = run = None  # the error of a broken pool holds its processes
        self._runs += count
        self._batches += 1
        left: list[str] = []
        if self._before is not None:
            left = around.settled(self._before, TO_SETTLE)
            for what in left:
                self.tell(fault=what, seed=str(number), place=place.name)
        if left or self._batches == len(places.PLACES):  # the first ones start what serves all later ones
            around.settled(around.Left(), 2.0)
            self._before = around.Left()
        memory = around.resident()
        self._memory.append((self._runs, sys.getallocatedblocks()))
        seconds = time.monotonic() - started
        self.tell(batch=number, place=place.name, runs=count, tasks=tasks, seconds=round(seconds, 2), memory=memory)

    def _run(self, seed: str, place: places.Place, executor: Any, *, spills: bool) -> runs.Run | None:
        self.tell(begin=seed, place=place.name)
        run = None
        try:
            run = runs.Run(seed, place, executor, spills=spills)
            wrong = run.go()
            if wrong:
                went, more = run.legs[:6], len(run.legs[6:])
                kind = "spills" if run.spills else "keeps to itself"
                wrong[0] += f"\n  went {went} and {more} times more, {kind}, cut {run.cuts}; plans: {run.plans}"
        except BaseException:  # noqa: BLE001 - whatever it is, it is told
            wrong = [traceback.format_exc(limit=-12)]
        for what in wrong:
            self.tell(fault=what[:6000], seed=seed, place=place.name)
        return run

    def judge_memory(self) -> None:
        """See that memory has not grown with the number of runs."""
        seen = self._memory[_WARM:]
        if len(seen) < _WARM:
            return
        quarter = len(seen) // 4
        early, late = seen[:quarter], seen[-quarter:]
        grown = statistics.median(m for _, m in late) - statistics.median(m for _, m in early)
        ran = statistics.median(r for r, _ in late) - statistics.median(r for r, _ in early)
        self.tell(grown=grown, over=ran)
        if grown > _SLACK + _A_RUN * ran:
            self.tell(fault=f"{grown} blocks of memory more after {ran} runs", seed=f"pid {os.getpid()}", place="all")


def main(path: str, stacks: str, seconds: float, first: int, step: int) -> None:
    """Live for so many seconds.

    :param stacks: path of the file that SIGABRT writes the stacks of all threads to; tasks print much, and close much
    :param first: the number of the first batch
    :param step: from one batch to the next
    """
    around.show_stacks_in(stacks)
    logging.basicConfig(level=logging.WARNING, stream=sys.stdout)
    warnings.simplefilter("ignore")
    life, until, number = Life(path), time.monotonic() + seconds, first
    while time.monotonic() < until:
        life.batch(number)
        number += step
    life.judge_memory()
    life.tell(end=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], float(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
