"""One run: a random flow of hostile tasks, driven to its end in random ways, and held against the oracle."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import itertools
import logging
import os
import random
import signal
import socket
import subprocess
import tempfile
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from taskflowx import engines, states
from tests.model import build, oracle, specs
from tests.soak import deeds, gifts, harm, tasks
from tests.soak.around import Around

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.soak.places import Place

ENDED = (states.SUCCESS, states.REVERTED, states.FAILURE)
#: so often a run is taken up again at most, and so often of these it may be cut short
_LEGS, _CUTS = 60, 3


class Cut(KeyboardInterrupt):
    """What a signal handler or a listener of the program raises."""


def _with_jobs(node: Any, change: Any) -> Any:
    if isinstance(node, specs.Job):
        return change(node)
    return replace(node, members=tuple(_with_jobs(member, change) for member in node.members))


class Run:
    """One run.

    :param seed: what it is made of, a text
    :param executor: what the place gives
    :param spills: whether tasks may do what hits the calls of others, also in later runs on the same workers
    """

    def __init__(self, seed: str, place: Place, executor: Any, *, spills: bool) -> None:
        self.rng = random.Random(seed)
        self.place = place
        self.executor = executor
        self.plans: dict[str, tasks.Plan] = {}
        spec = specs.random_spec(self.rng, self.rng.randint(1, 14))
        self.meant = spec
        self.spills = spills
        asked = specs.Shape(spec).votes.values()  # of what these return deciders make numbers
        self._asked = {source.name for votes in asked for source, *_ in votes}
        self.jobs = {atom.name: atom for atom in specs.atoms_in(self.meant.root) if isinstance(atom, specs.Job)}
        for job in self.jobs.values():
            self.plans[job.name] = self._plan(job)
        self.spec = replace(self.meant, root=_with_jobs(self.meant.root, self._as_it_ends))
        self.want = oracle.predict(specs.Shape(self.spec))
        self.is_broken = False
        self.cuts = 0
        self.legs: list[str] = []
        self.error: BaseException | None = None
        self.engine: Any = None

    def _plan(self, job: specs.Job) -> tasks.Plan:
        """Choose what a task does."""
        rng, place = self.rng, self.place
        plan = tasks.Plan(rng.getrandbits(32))
        quiet = [name for name, deed in deeds.QUIET.items() if place.own or not deed.own]
        if place.name == "greenthreads":
            quiet = [name for name in quiet if name not in deeds.ALARMS]
        plan.deeds = rng.sample(quiet, rng.choice((0, 1, 1, 2, 3)))
        if rng.random() < 0.3:
            plan.undoes = rng.sample(quiet, 1)
        if self.spills and rng.random() < 0.4:
            spilling = [name for name, deed in harm.SPILLS.items() if place.own or not deed.own]
            (plan.deeds if rng.random() < 0.8 else plan.undoes).append(rng.choice(spilling))
        plan.fails = rng.choice(list(harm.FAILS))
        if place.own and rng.random() < 0.5:
            plan.fails = rng.choice(list(harm.DIES))
        # A coroutine that cancels itself has failed.
        stops = [name for name in harm.STOPS if not (place.name == "asyncio" and name == "leave_as_cancelled")]
        plan.leaves = rng.choice(stops)
        if job.gives is None and job.name not in self._asked and rng.random() < 0.3:
            fit = [n for n, gift in gifts.GIFTS.items() if gift.travels or place.name != "futures in processes"]
            plan.gift = rng.choice(fit)
        return plan

    def _as_it_ends(self, job: specs.Job) -> specs.Job:
        """Return a job that fails where the value that it returns cannot be sent."""
        gift = self.plans[job.name].gift
        if gift is not None and self.place.pickles and not gifts.GIFTS[gift].travels:
            return replace(job, fails=specs.ALWAYS)
        return job

    # -- how it goes -------------------------------------------------------------------------------

    def go(self) -> list[str]:
        """Run it to its end; returns what is wrong."""
        with tempfile.TemporaryDirectory() as folder:
            self.notes = tasks.Notes(os.path.join(folder, "notes"))  # noqa: PTH118 - it is sent as text
            around = Around()
            try:
                self._load()
                state = self._legs()
                return self._wrong(state)
            finally:
                _calmly(around.restore)
                self.engine = None

    def _load(self) -> None:
        shape = specs.Shape(self.meant)
        world = build.World(go_on=True)
        world.crashed = True
        in_a_loop = self.place.name == "asyncio"

        def make(job, needs, _):
            kind = tasks.HostileCoroutine if in_a_loop and len(job.name) % 2 else tasks.Hostile
            return kind(job, needs, self.plans[job.name], self.notes)

        options: dict[str, Any] = {}
        if isinstance(self.executor, str) and self.executor != "serial":
            options["max_workers"] = self.rng.randint(1, 3)
        self.engine = engines.load(
            build.make_flow(shape, world, make),
            store=build.make_store(shape),
            executor=self.executor,
            defer_reverts=self.spec.defer_reverts,
            never_resolve=self.spec.never_resolve,
            on_revert_failure="continue" if self.spec.go_on else "halt",
            inline=self.rng.random() < 0.5,
            **options,
        )
        if self.rng.random() < 0.4:
            self.engine.atom_notifier.register("*", _refuse)
        if self.rng.random() < 0.2:
            self.engine.notifier.register("*", _refuse)
        if self.rng.random() < 0.3:
            self.engine.atom_notifier.register("*", lambda *_: None)

    def _legs(self) -> str:
        stuck = sum(atom.stuck for atom in specs.Shape(self.spec).atoms.values())
        reruns = 0
        for leg in range(_LEGS):
            # A pool of processes has locks of its own, and what eventlet waits for is lost when its hub is interrupted.
            ways = _WAYS[1:] if self.place.name in ("futures in processes", "greenthreads") else _WAYS
            way = self.rng.choice(ways) if leg < _CUTS and self.rng.random() < 0.6 else _by_itself
            self.legs.append(way.__name__)
            self.cuts += way is not _by_itself
            self.error = self._leg(way)
            self.cuts += self.error is not None and not isinstance(self.error, Exception)
            state: str = self.engine.storage.get_flow_state()
            again = state == states.FAILURE and not self.spec.never_resolve
            if again and way is not _by_itself:
                continue  # it may have been cut before anything was undone
            if again and reruns < stuck:
                reruns += 1
            elif state in ENDED:
                return state
            elif self.spills:
                self.cuts += 1
        return state

    def _leg(self, way: Any) -> BaseException | None:
        """Go one part of the way; returns what was raised, also by what tasks have left behind."""
        found: BaseException | None = None
        while True:
            try:
                try:
                    if way is not None:
                        go, way = way, None
                        go(self)
                finally:
                    signal.setitimer(signal.ITIMER_REAL, 0)
                    # Another thread may still have the signal, and be waiting for a processor.
                    signal.signal(signal.SIGALRM, signal.SIG_IGN)
            except BaseException as error:  # noqa: BLE001
                found = error
            else:
                break
        return found

    # -- how it has ended --------------------------------------------------------------------------

    def _wrong(self, state: str) -> list[str]:
        storage = self.engine.storage
        details = {name: storage.record.detail(name) for name in specs.Shape(self.spec).atoms}
        now = {name: detail.state for name, detail in details.items()}
        if state not in ENDED:
            return [f"the flow is {state}, and raised {_shown(self.error)}; {now}"]
        failures = storage.get_failures().values()
        if any(failure.check(concurrent.futures.BrokenExecutor) for failure in failures):
            self.is_broken = self.spills = True  # what a task has done to the pool fails the calls of others
        standing = {
            name: self._known(name, details[name].last_results) for name, at in now.items() if at == states.SUCCESS
        }
        wrong = [f"the flow is {state}, and {name} is {at}" for name, at in now.items() if not _fits(at, state)]
        certain = self._is_certain(state, standing)
        if certain and state != self.want.state:
            wrong.append(f"the flow is {state}, not {self.want.state}; it raised {_shown(self.error)}; {now}")
        certain |= state == self.want.state == states.SUCCESS and not self._has_retries()
        if certain and standing != self.want.standing:
            wrong.append(f"what stands is {standing}, not {self.want.standing}")
        wrong += self._of_effects(now)
        if wrong:
            wrong[0] += "".join(map(_traceback_of, failures))
        return wrong

    def _known(self, name: str, result: Any) -> Any:
        """Return the result of an atom as the oracle has it."""
        gift = self.plans[name].gift if name in self.plans else None
        return result if gift is None else gifts.GIFTS[gift].number(result)

    def _is_certain(self, state: str, standing: dict[str, Any]) -> bool:
        """Whether there is one end that the run can have."""
        stuck = any(atom.stuck for atom in specs.Shape(self.spec).atoms.values())
        gave_up = stuck and self.spec.go_on and state == states.REVERTED and not standing
        return not (self.spills or self.want.depends or gave_up)

    def _has_retries(self) -> bool:
        """Whether results depend on how often something has failed."""
        return any(isinstance(atom, specs.Again) for atom in specs.atoms_in(self.spec.root))

    def _of_effects(self, now: dict[str, str | None]) -> list[str]:
        """See that each effect was made once, and is undone where the task does not stand."""
        done: dict[str, list[str]] = {name: [] for name in self.jobs}
        wrong: list[str] = []
        for verb, name in tasks.effects_of(self.notes.path):
            if verb == "wrong":
                wrong.append(f"a deed saw something wrong: {name}")
            else:
                done[name].append(verb)
        for name, verbs in done.items():
            job, at = self.jobs[name], now[name]
            again = sum(a == b for a, b in itertools.pairwise(verbs))
            allowed = self.cuts + job.stuck + job.interrupted + (100 if self.spills else 0)
            if again > allowed:
                wrong.append(f"{name} was called again: {verbs}, and may be {allowed} times")
            last = verbs[-1] if verbs else "nothing"
            if at == states.SUCCESS and last != "execute":
                wrong.append(f"{name} is {at}, and was called: {verbs}")
            if at in (states.REVERTED, states.PENDING) and last == "execute" and not self.spills:
                wrong.append(f"{name} is {at}, and was called: {verbs}")
            if at == states.IGNORE and last == "execute":
                wrong.append(f"{name} is {at}, and was called: {verbs}")
        return wrong


def _fits(atom_state: str | None, flow_state: str) -> bool:
    if flow_state == states.SUCCESS:
        return atom_state in (states.SUCCESS, states.IGNORE)
    if flow_state == states.REVERTED:
        return atom_state in (states.SUCCESS, states.IGNORE, states.PENDING, states.REVERTED)
    return atom_state not in (states.RUNNING, states.REVERTING, states.RETRYING)


def _shown(error: Any) -> str:
    try:
        return f"{error!r:.300}"
    except Exception as why:  # noqa: BLE001 - some refuse
        return f"{type(error)} that cannot be shown: {type(why)}"


def _traceback_of(failure: Any) -> str:
    return f"\n  of a failure: ...{(failure.traceback_str or '')[-700:]}"


def _refuse(*_: Any) -> None:
    raise RuntimeError("a listener")


# -- ways to go a part of a run --------------------------------------------------------------------


def _by_itself(run: Run) -> None:
    run.engine.run()


def _run_until(run: Run, act: Callable[[], Any]) -> None:
    """Run, and have something done at one of the events of the atoms."""
    left = [run.rng.randint(0, 12)]

    def count(*_: Any) -> None:
        left[0] -= 1
        if left[0] == 0:
            act()

    run.engine.atom_notifier.register("*", count)
    try:
        run.engine.run()
    finally:
        run.engine.atom_notifier.deregister("*", count)


def _until_suspended(run: Run) -> None:
    _run_until(run, run.engine.suspend)


def _until_a_listener_leaves(run: Run) -> None:
    def leave() -> None:
        raise Cut("a listener")

    _run_until(run, leave)


def _with_a_deadline(run: Run) -> None:
    with contextlib.suppress(TimeoutError):
        run.engine.run(timeout=run.rng.choice([0, 0.001, 0.005, 0.02, 0.1, 30]))


def _cut(number: int, frame: Any) -> None:
    """Raise, unless Python's own modules would lose something then.

    A process is being started, and what has been opened for it would stay behind; the loop of asyncio has taken out
    what it is about to call; or logging has just taken a lock, which it would not give back.
    """
    if frame is not None and frame.f_code.co_filename in _LOOP:
        return
    while frame is not None:
        if "/multiprocessing/" in frame.f_code.co_filename or frame.f_code.co_filename in _WITH_LOCKS:
            return
        frame = frame.f_back
    raise Cut("a signal")


_WITH_LOCKS = frozenset((logging.__file__, socket.__file__, subprocess.__file__))
_LOOP = frozenset((asyncio.base_events.__file__, asyncio.events.__file__))


def _until_a_signal(run: Run) -> None:
    kept = signal.signal(signal.SIGUSR2, _cut)
    timer = threading.Timer(
        run.rng.choice([0.0, 0.002, 0.01, 0.05, 0.2]),
        signal.pthread_kill,
        (threading.main_thread().ident, signal.SIGUSR2),
    )
    timer.start()
    try:
        run.engine.run()
    finally:
        _calmly(timer.cancel, timer.join, lambda: signal.signal(signal.SIGUSR2, kept))


def _calmly(*steps: Any) -> None:
    """Do steps, and those that a signal handler has interrupted once more."""
    for step in steps:
        for _ in range(20):
            try:
                step()
                break
            except BaseException:  # noqa: BLE001, S112 - whatever it is that a task has left behind
                continue


def _until_an_iterator_is_closed(run: Run) -> None:
    steps = run.engine.run_iter()
    for _ in range(run.rng.randint(1, 12)):
        next(steps, None)
    steps.close()


def _until_an_iterator_is_dropped(run: Run) -> None:
    steps = run.engine.run_iter()
    for _ in range(run.rng.randint(1, 12)):
        next(steps, None)
    del steps


def _in_a_loop(run: Run) -> None:
    asyncio.run(run.engine.arun())


def _in_a_loop_until_it_is_cancelled(run: Run) -> None:
    async def work() -> None:
        one = asyncio.ensure_future(run.engine.arun())
        await asyncio.wait([one], timeout=run.rng.choice([0, 0.001, 0.01, 0.05]))
        one.cancel()
        await one

    asyncio.run(work())


_WAYS = (
    _until_a_signal,
    _until_suspended,
    _until_a_listener_leaves,
    _with_a_deadline,
    _until_an_iterator_is_closed,
    _until_an_iterator_is_dropped,
    _in_a_loop,
    _in_a_loop_until_it_is_cancelled,
)
