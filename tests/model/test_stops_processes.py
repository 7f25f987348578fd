"""Runs in worker processes that are cancelled, suspended and limited in time at random moments.

    TASKFLOWX_STOPS=1000 pytest tests/model/test_stops_processes.py --timeout=0

Tasks note what they do in a file to which each line is appended in one write: `+` has an effect, `e` the call has
ended, `-` the effect is undone. A worker may be killed between any two of them. However a run ends, each effect is
undone or named by `not_undone`, and none is there twice, but for calls that were cut short and are not to be asked
about.
"""

import os
import random
import threading
import time
from pathlib import Path

import pytest

from taskflowx import exceptions, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from tests.support.places import Place

RUNS = int(os.environ.get("TASKFLOWX_STOPS", "0"))
PATTERNS = linear_flow.Flow, unordered_flow.Flow, graph_flow.Flow
CANCEL, LEAVE, SUSPEND = ACTIONS = ("cancel", "leave", "suspend")
#: so often a run goes on that was suspended; nothing is done to the last ones
MOST = 40


class Ledger:
    """The file with what tasks have done.

    :param path: where it is
    """

    def __init__(self, path):
        self.path = str(path)

    def note(self, sign, name):
        """Append a line, in any process."""
        descriptor = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY)
        try:
            os.write(descriptor, f"{sign} {name}\n".encode())
        finally:
            os.close(descriptor)

    def lines(self):
        """Return (sign, name) of all lines."""
        try:
            with Path(self.path).open() as file:
                return [tuple(line.split()) for line in file]
        except FileNotFoundError:
            return []

    def count(self, sign, name):
        """Return how many lines there are of a kind."""
        return self.lines().count((sign, name))

    def stands(self, name):
        """Tell whether an effect is there."""
        signs = [sign for sign, of in self.lines() if of == name and sign in "+-"]
        return bool(signs) and signs[-1] == "+"


class Work(task.Task):
    """Fails so many times, in `execute` and in `revert`; takes its time, in seconds."""

    def __init__(self, name, ledger, seconds, fails, undo_fails, **settings):
        super().__init__(name, **settings)
        self.ledger, self.seconds, self.fails, self.undo_fails = ledger, seconds, fails, undo_fails

    def execute(self):
        self.ledger.note("+", self.name)
        time.sleep(self.seconds)  # noqa: TID251 - what it is killed in
        fails = self.ledger.count("+", self.name) <= self.fails
        self.ledger.note("e", self.name)
        if fails:
            raise OSError(self.name)

    def revert(self, **kwargs):
        self.ledger.note("r", self.name)
        time.sleep(self.seconds / 2)  # noqa: TID251 - as above
        if self.ledger.count("r", self.name) <= self.undo_fails:
            raise ValueError(self.name)
        self.ledger.note("-", self.name)


class Looks(Work):
    """Finds out whether its call has had its effect."""

    def find_outcome(self, idempotency_key):
        return None if self.ledger.stands(self.name) else retry.NOT_DONE


class World:
    def __init__(self, seed, path):
        self.chance = chance = random.Random(seed)
        self.ledger = Ledger(path)
        self.engine = None
        self.asking = set()
        self.events = 0
        self.at_events = {chance.randrange(60): chance.choice(ACTIONS) for _ in range(chance.randrange(4))}
        self.after = [(chance.uniform(0, 0.15), chance.choice(ACTIONS)) for _ in range(chance.randrange(3))]

    def act(self, action):
        if action == SUSPEND:
            self.engine.suspend()
        else:
            self.engine.cancel(action, rollback=action == CANCEL)

    def sees(self, state, details):
        self.events += 1
        action = self.at_events.pop(self.events, None)
        if action is not None:
            self.act(action)

    def answers(self):
        """Give the outcome of the calls of which the engine does not know."""
        for call in self.engine.unknown():
            if self.ledger.stands(call.name):
                self.engine.resolve(call.name)
            else:
                self.engine.resolve_failed(call.name, OSError(call.name))


def controller(chance, name=None):
    if chance.random() < 0.5:
        return None
    return retry.Times(chance.randrange(1, 4), name, delay=chance.choice((None, 0.01)))


def made(world, names, depth=0):
    """Return a random flow."""
    chance = world.chance
    name = f"f{next(names)}"
    timeout = chance.choice((None, None, None, 0.05, 0.2))
    flow = chance.choice(PATTERNS)(name, controller(chance, f"{name}_retry"), timeout=timeout)
    for _ in range(chance.randrange(1, 4)):
        if depth < 2 and chance.random() < 0.3:
            flow.add(made(world, names, depth + 1))
            continue
        kind = chance.choice((Work, Work, Work, Looks))
        settings = {
            "timeout": chance.choice((None, None, 0.03, 0.1)),
            "revert_timeout": chance.choice((None, None, 0.03)),
            "revert_retry": chance.choice((None, retry.Times(2, delay=chance.choice((None, 0.01))))),
            "retry": controller(chance) if chance.random() < 0.3 else None,
            "limits": chance.choice((None, None, ("a",), ("rated",))),
            "on_unknown": chance.choice((None, "ask", "undo")),
        }
        fails, undo_fails = chance.choice((0, 0, 1, 2)), chance.choice((0, 0, 0, 0, 1))
        name = f"t{next(names)}"
        if kind is Looks or settings["on_unknown"]:
            world.asking.add(name)
        flow.add(kind(name, world.ledger, chance.choice((0, 0.002, 0.02, 0.06)), fails, undo_fails, **settings))
    return flow


def ended(world, load):
    """Run engines until the flow is not suspended any more; returns how it has ended."""
    for _ in range(MOST):
        load()
        timers = [threading.Timer(seconds, world.act, (action,)) for seconds, action in world.after]
        world.after = []
        for timer in timers:
            timer.start()
        try:
            world.engine.run()
        except (exceptions.Cancelled, OSError, ValueError, exceptions.WrappedFailure, exceptions.OutcomeUnknown):
            pass  # TimeoutExceeded is an OSError
        finally:
            for timer in timers:
                timer.join()
        state = world.engine.storage.get_flow_state()
        if state != states.SUSPENDED:
            return state
        world.answers()
    raise AssertionError("it is suspended over and over")


def twice(world):
    """Return the names of the effects that were there twice, but for calls that were cut short."""
    there, over, found = {}, {}, []
    for sign, name in world.ledger.lines():
        if sign == "+":
            if there.get(name) and (over[name] or name in world.asking):
                found.append(name)
            there[name], over[name] = True, False
        elif sign == "e":
            over[name] = True
        elif sign == "-":
            there[name] = False
    return found


def assert_ends_well(seed, path):
    world = World(seed, path)
    flow = made(world, iter(range(10_000)))
    place, moves = Place("memory", None), world.chance.random() < 0.4
    options = {
        "executor": "processes",
        "max_workers": world.chance.randrange(1, 3),
        "limits": {"a": 1},
        "rates": {"rated": (2, 0.05)},
        "max_in_flight": world.chance.choice((None, None, 1)),
    }

    def load():
        if world.engine is None or moves:
            world.engine = place.load(flow, **options)
            world.engine.compile()  # else nobody can cancel it before its run has begun
            world.engine.atom_notifier.register("*", world.sees)

    state = ended(world, load)
    standing = {name for _, name in world.ledger.lines() if world.ledger.stands(name)}
    if state == states.SUCCESS:
        finished = {d.name for d in world.engine.preparation.details if d is not None and d.state == states.SUCCESS}
        assert standing <= finished
    else:
        assert standing <= set(world.engine.not_undone())
    assert twice(world) == []


@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", range(0, RUNS or 20, 10))
def test_in_worker_processes_each_effect_is_undone_or_named_and_none_is_there_twice(first, tmp_path):
    for seed in range(first, min(first + 10, RUNS or 20)):
        try:
            assert_ends_well(seed, tmp_path / str(seed))
        except BaseException as error:
            error.add_note(f"seed {seed} in worker processes")
            raise
    assert first < (RUNS or 20)
