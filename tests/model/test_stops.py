"""Runs that are cancelled, and calls and flows that exceed their time limits, at random moments on each executor.

    TASKFLOWX_STOPS=10000 pytest tests/model/test_stops.py --timeout=0

A task has an effect as soon as it is called, and its revert takes it back. However a run ends, each effect is undone or
named by `not_undone`, and none is there twice, but for calls that a cancel without rollback has cut short, and that are
not to be asked about. Limits are kept at each moment. Flows have deciders, are suspended, and are taken up by another
engine; who has to give the outcome of a call looks at the effects.
"""

import asyncio
import collections
import os
import random
import threading

import pytest

import taskflowx
from taskflowx import exceptions, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.testing import VirtualClock
from tests.support.places import Place

RUNS = int(os.environ.get("TASKFLOWX_STOPS", "0"))
PATTERNS = linear_flow.Flow, unordered_flow.Flow, graph_flow.Flow
#: so often a run goes on that was suspended; each time fewer moments are left at which something happens
MOST = 60


#: what is done to a run at a moment
CANCEL, LEAVE, SUSPEND = ACTIONS = ("cancel", "leave", "suspend")
NAMES = ("a", "b", "host:1", "host:2", "rated")


class World:
    """What one run has done, and what happens to it when."""

    def __init__(self, seed, executor):
        self.chance = chance = random.Random(seed)
        self.executor = executor
        self.clock = VirtualClock()
        self.effects = {}
        self.wrong = []
        self.cut_short = set()
        self.moments = 0
        self.engine = None
        self.stop_at = {chance.randrange(40): chance.choice(ACTIONS) for _ in range(chance.randrange(4))}
        self.lock = threading.Lock()
        self.released = threading.Event()
        self.capacities = {"a": chance.randint(1, 2), "b": 2, "host:*": 1}
        self.at_once = chance.choice((None, None, 1, 2))
        self.held = collections.Counter()

    def options(self):
        """Return the options of the engine."""
        options = {"limits": self.capacities, "rates": {"rated": (2, 3.0)}, "max_in_flight": self.at_once}
        if self.executor != "serial":
            options["max_workers"] = self.chance.randrange(1, 4)
        if self.executor == "threads":
            options["inline"] = self.chance.random() < 0.3
        return {"executor": self.executor, "clock": self.clock, **options}

    def has(self, one):
        with self.lock:
            if self.effects.get(one.name) and (one.asks or one.name not in self.cut_short):
                self.wrong.append(f"{one.name} is there twice")
            self.effects[one.name] = True

    def was_cut_short(self, name):
        with self.lock:
            self.cut_short.add(name)

    def takes_back(self, name):
        with self.lock:
            self.effects[name] = False

    def holds(self, names, by, *, reverts):
        """Note what a call takes of the limits."""
        with self.lock:
            for name in names:
                self.held[name, reverts] += by
                most = self.capacities.get(name, self.capacities["host:*"])
                if name != "rated" and self.held[name, reverts] > most:
                    self.wrong.append(f"{self.held[name, reverts]} of {name}")
            self.held["all"] += by
            if self.at_once is not None and self.held["all"] > self.at_once:
                self.wrong.append(f"{self.held['all']} calls at once")

    def moment(self, passes):
        """Let time pass, and do to the run what is planned for this moment."""
        with self.lock:
            moment, self.moments = self.moments, self.moments + 1
            action = self.stop_at.pop(moment, None)
        if action == SUSPEND:
            self.engine.suspend()
        elif action is not None:
            self.engine.cancel(f"moment {moment}", rollback=action == CANCEL)
        if passes:
            self.clock.advance(passes)

    def answers(self):
        """Give the outcome of the calls of which the engine does not know."""
        for call in self.engine.unknown():
            if self.chance.random() < 0.1:
                continue
            if self.chance.random() < 0.1:
                self.effects[call.name] = self.effects.get(call.name, False)
                self.engine.skip(call.name)
            elif self.effects.get(call.name) and self.chance.random() < 0.8:
                self.engine.resolve(call.name)
            else:
                self.engine.resolve_failed(call.name, OSError(call.name))


class Work(task.Task):
    def __init__(self, name, world, steps, passes, fails, undo_fails, **settings):
        super().__init__(name, **settings)
        self.world, self.steps, self.passes = world, steps, passes
        self.fails, self.undo_fails = fails, undo_fails
        self.limits = settings["limits"]
        self.asks = settings["on_unknown"] in ("ask", "undo")

    def execute(self):
        self.world.holds(self.limits, 1, reverts=False)
        try:
            self.world.has(self)
            for _ in range(self.steps):
                self.world.moment(self.passes)
                try:
                    taskflowx.checkpoint()
                except exceptions.Cancelled:
                    self.world.was_cut_short(self.name)
                    raise
            self.ends()
        finally:
            self.world.holds(self.limits, -1, reverts=False)

    def ends(self):
        if self.fails:
            self.fails -= 1
            raise OSError(self.name)

    def revert(self, **kwargs):
        self.world.holds(self.limits, 1, reverts=True)
        try:
            self.world.moment(self.passes)
            if self.undo_fails:
                self.undo_fails -= 1
                raise ValueError(f"revert of {self.name}")
            self.world.takes_back(self.name)
        finally:
            self.world.holds(self.limits, -1, reverts=True)


class Coroutine(Work):
    async def execute(self):
        self.world.holds(self.limits, 1, reverts=False)
        try:
            self.world.has(self)
            for _ in range(self.steps):
                self.world.moment(self.passes)
                try:
                    await asyncio.sleep(0)
                except asyncio.CancelledError:
                    self.world.was_cut_short(self.name)
                    raise
            self.ends()
        finally:
            self.world.holds(self.limits, -1, reverts=False)


class Deaf(Work):
    """Never looks, and waits until the test is over; it holds nothing once nobody waits for it."""

    def execute(self):
        self.world.has(self)
        self.world.was_cut_short(self.name)
        for _ in range(self.steps):
            self.world.moment(20)
        while not self.world.released.wait(0.001):
            self.world.moment(20)


def controller(chance, name):
    if chance.random() < 0.5:
        return None
    return retry.Times(
        chance.randrange(1, 4), name, delay=chance.choice((None, 0.5, 5)), revert_all=chance.random() < 0.2
    )


def made(world, names, depth=0):
    """Return a random flow."""
    chance = world.chance
    name = f"f{next(names)}"
    timeout = chance.choice((None, None, None, 3.5, 12.5))
    flow = chance.choice(PATTERNS)(name, controller(chance, f"{name}_retry"), timeout=timeout)
    members = []
    for _ in range(chance.randrange(1, 5)):
        if depth < 2 and chance.random() < 0.3:
            members.append(made(world, names, depth + 1))
        else:
            members.append(made_task(world, f"t{next(names)}"))
    flow.add(*members)
    if isinstance(flow, graph_flow.Flow):
        for n, after in enumerate(members[1:], 1):
            if chance.random() < 0.6:
                decides = decider(world) if chance.random() < 0.5 else None
                depth_of_it = chance.choice(("ALL", "FLOW", "NEIGHBORS", "ATOM")) if decides else None
                flow.link(chance.choice(members[:n]), after, decider=decides, decider_depth=depth_of_it)
    return flow


def decider(world):
    """Return a decider, which may be a coroutine function."""
    agrees, passes = world.chance.random() < 0.6, world.chance.choice((0, 0, 1))

    def decide(history):
        world.moment(passes)
        return agrees

    async def decides(history):
        world.moment(passes)
        await asyncio.sleep(0)
        return agrees

    return decides if world.executor == "asyncio" and world.chance.random() < 0.5 else decide


def made_task(world, name):
    chance, kind = world.chance, Work
    if world.executor == "asyncio" and chance.random() < 0.7:
        kind = Coroutine
    elif world.executor == "threads" and chance.random() < 0.1:
        kind = Deaf
    settings = {
        "timeout": 30.0 if kind is Deaf else chance.choice((None, 1.5, 4.5)),
        "revert_timeout": chance.choice((None, None, 8.0)),
        "revert_retry": chance.choice((None, retry.Times(2, delay=chance.choice((None, 1))))),
        "retry": controller(chance, None) if chance.random() < 0.3 else None,
        "grace": 2.0,
        "limits": chance.sample(NAMES, chance.choice((0, 0, 1, 2))),
        "on_unknown": chance.choice((None, "ask", "undo")),
    }
    fails, undo_fails = chance.choice((0, 0, 1, 2)), chance.choice((0, 0, 0, 0, 1))
    steps, passes = chance.randrange(4), chance.choice((0, 1, 1, 3))
    return kind(name, world, steps, passes, fails, undo_fails, **settings)


def ended(world, goes_on):
    """Run engines until the flow is not suspended any more; returns how it has ended."""
    for _ in range(MOST):
        try:
            goes_on()
        except exceptions.Cancelled:
            pass
        except (OSError, ValueError, exceptions.WrappedFailure, exceptions.OutcomeUnknown):
            pass  # TimeoutExceeded is an OSError
        state = world.engine.storage.get_flow_state()
        if state != states.SUSPENDED:
            return state
        world.answers()
    raise AssertionError("it is suspended over and over")


def assert_ends_well(seed, executor):
    world = World(seed, executor)
    flow = made(world, iter(range(10_000)))
    place, moves = Place("memory", None), world.chance.random() < 0.4
    in_a_loop = executor == "asyncio" and world.chance.random() < 0.5
    options = world.options()

    def goes_on():
        if world.engine is None or moves:
            world.engine = place.load(flow, **options)
        asyncio.run(world.engine.arun()) if in_a_loop else world.engine.run()

    try:
        state = ended(world, goes_on)
    finally:
        world.released.set()
    standing = {name for name, there in world.effects.items() if there}
    if state == states.SUCCESS:
        finished = {d.name for d in world.engine.preparation.details if d is not None and d.state == states.SUCCESS}
        assert standing <= finished
    else:
        assert standing <= set(world.engine.not_undone())
    assert world.wrong == []


def chunks(executor, few):
    count = RUNS or few
    return [(executor, first, min(first + 100, count)) for first in range(0, count, 100)]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(
    ("executor", "first", "last"), chunks("serial", 400) + chunks("threads", 200) + chunks("asyncio", 200)
)
def test_each_effect_is_undone_or_named_and_none_is_there_twice(executor, first, last):
    for seed in range(first, last):
        try:
            assert_ends_well(seed, executor)
        except BaseException as error:
            error.add_note(f"seed {seed} on {executor}")
            raise
    assert last > first
