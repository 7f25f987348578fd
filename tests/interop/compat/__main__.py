"""Runs random flows, and random calls on storages, on OpenStack TaskFlow and on this package, and compares.

`make compat` starts it. It prints how many agree, how many differ in each way that is known, and each difference that is
not known, cut down, with its seed; it ends with 1 if there is one, or if a known difference is more frequent than its
reason accounts for.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import functools
import math
import os
import queue
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from benchmarks.peers import TASKFLOW
from tests.interop.compat import classes, flows, judge, shrink, sides, store_classes, stores

if TYPE_CHECKING:
    from collections.abc import Iterator

#: how many of the unexplained are cut down and printed
SHOWN = 5


@dataclass
class Tally:
    """What has been found in one kind of cases."""

    what: str
    cases: int = 0
    agree: int = 0
    illegal: int = 0
    crashes: Counter[str] = field(default_factory=Counter)
    names: Counter[str] = field(default_factory=Counter)
    unexplained: list[int] = field(default_factory=list)  # seeds

    def add(self, seed: int, verdict: judge.Verdict) -> None:
        self.cases += 1
        self.illegal += verdict.illegal
        if verdict.crash:
            self.crashes[verdict.crash] += 1
        elif verdict.unexplained:
            self.unexplained.append(seed)
        elif verdict.names:
            self.names.update(verdict.names)
        else:
            self.agree += 1

    def too_many(self, known: Any) -> list[str]:
        """Return the names of the classes that are more frequent than they may be."""
        # Few cases scatter: four standard deviations of a count, so that chance alone exceeds a limit once in a lifetime.
        usual = {k.name: k.at_most / 100 * self.cases for k in known}
        return [name for name, count in usual.items() if self.names[name] > count + 4 * math.sqrt(count) + 1]

    def lines(self, known: Any) -> Iterator[str]:
        """Iterate over the lines of a table."""
        yield f"{self.what}: {self.cases:,} on both"
        yield _row("agree", self.agree, self.cases)
        differ = self.cases - self.agree - sum(self.crashes.values()) - len(self.unexplained)
        yield _row("differ as is known", differ, self.cases, "one or more of:")
        for one in known:
            if self.names[one.name]:
                yield _row(f"  {one.name}", self.names[one.name], self.cases, one.reason)
        if self.crashes:
            yield _row("TaskFlow crashes", sum(self.crashes.values()), self.cases, _kinds(self.crashes))
        if self.illegal:
            yield _row("TaskFlow breaks its tables of states", self.illegal, self.cases, "counted above too")
        yield _row("unexplained", len(self.unexplained), self.cases, _seeds(self.unexplained))


def _row(label: str, count: int, of: int, note: str = "") -> str:
    return f"  {label:<38} {count:>7,} {100 * count / max(of, 1):>5.1f} %   {note}".rstrip()


def _kinds(crashes: Counter[str]) -> str:
    return ", ".join(f"{name.rpartition('.')[2]} {count}" for name, count in crashes.most_common())


def _seeds(seeds: list[int]) -> str:
    return "seeds " + ", ".join(map(str, seeds[:20])) if seeds else ""


class Pair:
    """Both packages, each in a process; what one thread works with."""

    def __init__(self) -> None:
        self.theirs = sides.Side(str(TASKFLOW.python), "taskflow")
        self.ours = sides.ours()

    def flow(self, seed: int) -> judge.Verdict:
        """Judge the flow of a seed."""
        return judge.judge(flows.make(seed), self.theirs, self.ours)

    def calls(self, seed: int) -> judge.Verdict:
        """Judge the calls on storages of a seed."""
        case = stores.make(seed)
        names, unexplained = store_classes.classify(case, self.theirs.run(case), self.ours.run(case))
        return judge.Verdict(names, unexplained)

    def close(self) -> None:
        self.theirs.close()
        self.ours.close()


def run(count: int, calls: int, first: int) -> tuple[Tally, Tally]:
    """Judge a number of flows, and of sequences of calls on storages, on all processors."""
    workers = os.cpu_count() or 1
    pairs: queue.SimpleQueue[Pair] = queue.SimpleQueue()
    every = [Pair() for _ in range(workers)]
    for pair in every:
        pairs.put(pair)

    def one(kind: str, seed: int) -> judge.Verdict:
        pair = pairs.get()
        try:
            return getattr(pair, kind)(seed)  # type: ignore[no-any-return]
        finally:
            pairs.put(pair)

    tallies = (Tally("flows"), Tally("calls on storages"))
    try:
        with concurrent.futures.ThreadPoolExecutor(workers) as pool:
            for tally, kind, number in zip(tallies, ("flow", "calls"), (count, calls), strict=True):
                seeds = range(first, first + number)
                for seed, verdict in zip(seeds, pool.map(functools.partial(one, kind), seeds), strict=True):
                    tally.add(seed, verdict)
    finally:
        for pair in every:
            pair.close()
    return tallies


def show(seed: int, pair: Pair) -> None:
    """Print a flow that differs for no known reason, cut down, and how it differs."""
    case = flows.make(seed)
    left = bool(pair.flow(seed).unexplained)
    if left:
        case = shrink.shrink(case, lambda other: bool(judge.judge(other, pair.theirs, pair.ours).unexplained))
    verdict = judge.judge(case, pair.theirs, pair.ours)
    print(f"\nflow {seed}{'' if left else ' (not again when it was run once more)'}:\n{shrink.source(case)}")
    for difference in verdict.unexplained[:10]:
        print(difference)


def show_calls(seed: int, pair: Pair) -> None:
    """Print calls on storages that are answered differently for no known reason."""
    case = stores.make(seed)
    print(f"\ncalls {seed}, atoms {[(atom.name, atom.gives) for atom in case.atoms]}:")
    for difference in pair.calls(seed).unexplained[:3]:
        place = difference.path[0]
        print("\n".join(f"  {call}" for call in case.calls[:place]))
        print(difference)


def parse(arguments: list[str] | None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser("python -m tests.interop.compat", description=__doc__)
    parser.add_argument("count", nargs="?", type=int, default=5000, help="how many flows (default: 5000)")
    parser.add_argument("first", nargs="?", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--calls", type=int, help="how many sequences of calls on storages (default: 2 in 5 flows)")
    parser.add_argument("--seed", type=int, help="look at one flow alone: print it cut down, and how it differs")
    parser.add_argument("--calls-seed", type=int, help="the same for one sequence of calls")
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Do what the command line says; returns the exit code."""
    options = parse(arguments)
    reason = TASKFLOW.install()
    if reason is not None:
        print(reason, file=sys.stderr)
        return 2
    pair = Pair()
    try:
        if options.seed is not None or options.calls_seed is not None:
            show(options.seed, pair) if options.seed is not None else show_calls(options.calls_seed, pair)
            return 0
        started = time.monotonic()
        calls = options.count * 2 // 5 if options.calls is None else options.calls
        found = run(options.count, calls, options.first)
        known = (classes.KNOWN, store_classes.CLASSES)
        for tally, its_classes in zip(found, known, strict=True):
            print(*tally.lines(its_classes), sep="\n", end="\n\n")
        print(f"seeds from {options.first}, {time.monotonic() - started:.0f} seconds")
        for seed in found[0].unexplained[:SHOWN]:
            show(seed, pair)
        for seed in found[1].unexplained[:SHOWN]:
            show_calls(seed, pair)
    finally:
        pair.close()
    over = [name for tally, its_classes in zip(found, known, strict=True) for name in tally.too_many(its_classes)]
    if over:
        print(f"\nmore frequent than their reasons account for: {over}")
    return int(bool(over) or any(tally.unexplained for tally in found))


if __name__ == "__main__":
    sys.exit(main())
