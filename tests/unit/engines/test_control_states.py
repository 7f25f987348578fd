"""Each manual action on a flow in each state, by the engine that has run it and by one that reads its record."""

from __future__ import annotations

import contextlib
import math

import pytest

from taskflowx import exceptions, retry, task
from taskflowx.patterns import linear_flow
from tests.support import places


class World:
    def __init__(self):
        self.calls = []
        #: what a call raises, by its name; '-' in front of that of a revert
        self.broken = {}
        self.engine = None

    def call(self, name):
        self.calls.append(name)
        error = self.broken.get(name)
        if error is not None:
            raise error(name)

    def suspend(self, name):
        self.engine.suspend()


class Step(task.Task):
    def __init__(self, name, world):
        super().__init__(name)
        self.world = world

    def execute(self):
        self.world.call(self.name)

    def revert(self, **kwargs):
        self.world.call(f"-{self.name}")


def row(world):
    return linear_flow.Flow("row").add(*(Step(name, world) for name in "abc"))


def with_a_part(world):
    part = linear_flow.Flow("part", retry=retry.Times(1, name="again")).add(Step("b", world), Step("c", world))
    return linear_flow.Flow("row").add(Step("a", world), part)


# -- how a flow comes into a state: what is broken, and what is done, until one of it raises -------


def runs(engine):
    engine.run()


def rolls_back(engine):
    engine.rollback()


def stops_early(engine):
    steps = engine.run_iter()
    for _ in steps:
        if engine.storage.get_atom_state("a") == "SUCCESS":
            break
    steps.close()


#: name -> the flow, what is broken, what is done, the options of the engines, the state of the flow
SITUATIONS = {
    "new": (row, {}, (), {}, "PENDING"),
    "suspended": (row, {}, (stops_early,), {}, "SUSPENDED"),
    "interrupted": (row, {"b": KeyboardInterrupt}, (runs,), {}, "SUSPENDED"),
    "succeeded": (row, {}, (runs,), {}, "SUCCESS"),
    "failed": (row, {"b": ValueError}, (runs,), {"never_resolve": True}, "FAILURE"),
    "stuck": (row, {"c": ValueError, "-b": ValueError}, (runs,), {}, "FAILURE"),
    "reverted": (row, {"c": ValueError}, (runs,), {}, "REVERTED"),
    "reverted in part": (with_a_part, {"c": ValueError}, (runs,), {}, "REVERTED"),
    "undone": (row, {}, (runs, rolls_back), {}, "REVERTED"),
    "undone before it ran": (row, {}, (rolls_back,), {}, "REVERTED"),
    "to be undone": (row, {}, (runs, lambda engine: engine.rollback(timeout=0)), {}, "SUSPENDED"),
    "undone, but for b": (row, {"-b": ValueError}, (runs, rolls_back), {}, "FAILURE"),
    "to be undone to a": (row, {}, (runs, lambda engine: engine.rollback(timeout=0, to="a")), {}, "SUSPENDED"),
    "undone to a": (row, {}, (runs, lambda engine: engine.rollback(to="a")), {}, "SUSPENDED"),
    "undone to a, but for b": (row, {"-b": ValueError}, (runs, lambda engine: engine.rollback(to="a")), {}, "FAILURE"),
    "reset": (row, {"c": ValueError}, (runs, lambda engine: engine.reset()), {}, "PENDING"),
}
VERBS = {
    "retry_failed": lambda engine: engine.retry_failed(),
    "retry_failed, no time": lambda engine: engine.retry_failed(timeout=math.nan),
    "reset_failed": lambda engine: engine.reset_failed(),
    "skip": lambda engine: engine.skip("b"),
    "skip nobody": lambda engine: engine.skip("nobody"),
    "resolve": lambda engine: engine.resolve("b"),
    "resolve nobody": lambda engine: engine.resolve("nobody"),
    "resolve_failed": lambda engine: engine.resolve_failed("b", OSError("b")),
    "rollback": lambda engine: engine.rollback(),
    "rollback to a": lambda engine: engine.rollback(to="a"),
    "rollback to nobody": lambda engine: engine.rollback(to="nobody"),
    "unknown": lambda engine: engine.unknown(),
}
#: what each of them does in a state: the calls, and the state of the flow after it; all others change nothing
DOES = {
    "new": {"skip": ("", "PENDING"), "rollback": ("", "REVERTED")},
    "suspended": {
        "skip": ("", "SUSPENDED"),
        "rollback": ("-a", "REVERTED"),
        "rollback to a": ("", "SUSPENDED"),
    },
    "interrupted": {
        "skip": ("", "SUSPENDED"),
        "resolve": ("", "SUSPENDED"),
        "resolve_failed": ("", "SUSPENDED"),
        "rollback": ("-b -a", "REVERTED"),
        "rollback to a": ("-b", "SUSPENDED"),
    },
    "succeeded": {"rollback": ("-c -b -a", "REVERTED"), "rollback to a": ("-c -b", "SUSPENDED")},
    "failed": {
        "retry_failed": ("b c", "SUCCESS"),
        "reset_failed": ("", "FAILURE"),
        "skip": ("", "FAILURE"),
        "rollback": ("-b -a", "REVERTED"),
        "rollback to a": ("-b", "SUSPENDED"),
    },
    "stuck": {
        "retry_failed": ("-b -a", "REVERTED"),
        "skip": ("", "FAILURE"),
        "rollback": ("-b -a", "REVERTED"),
    },
    "reverted": {},
    "reverted in part": {"rollback": ("-a", "REVERTED")},
    "undone": {},
    "undone before it ran": {},
    "to be undone": {"skip": ("", "SUSPENDED"), "rollback": ("-c -b -a", "REVERTED")},
    "undone, but for b": {
        "retry_failed": ("-b -a", "REVERTED"),
        "skip": ("", "FAILURE"),
        "rollback": ("-b -a", "REVERTED"),
    },
    "to be undone to a": {
        "skip": ("", "SUSPENDED"),
        "rollback": ("-c -b -a", "REVERTED"),
        "rollback to a": ("-c -b", "SUSPENDED"),
    },
    "undone to a": {
        "skip": ("", "SUSPENDED"),
        "rollback": ("-a", "REVERTED"),
        "rollback to a": ("", "SUSPENDED"),
    },
    "undone to a, but for b": {
        "retry_failed": ("-b b c", "SUCCESS"),
        "skip": ("", "FAILURE"),
        "rollback": ("-b -a", "REVERTED"),
        "rollback to a": ("-b", "SUSPENDED"),
    },
    "reset": {"skip": ("", "PENDING"), "rollback": ("", "REVERTED")},
}


def led_to(situation, place):
    """Lead a flow into a state, and mend what was broken; returns the engine that has done it."""
    make, broken, steps, options, state = SITUATIONS[situation]
    world = World()
    world.broken = broken
    engine = place.load(make(world), **options)
    for step in steps:
        with contextlib.suppress(ValueError, KeyboardInterrupt, TimeoutError, exceptions.WrappedFailure):
            step(engine)
    assert engine.storage.get_flow_state() == state
    world.broken = {}
    world.calls.clear()
    return world, engine


def on_record(place, situation):
    """Return what the store has of the run."""
    record = place.load(SITUATIONS[situation][0](World())).storage.record.flow_detail
    atoms = {
        one.name: (one.state, one.intention, one.results, str(one.failure), str(one.revert_failure), one.own_meta)
        for one in record
        if one.state not in (None, "PENDING")  # who looks at a new run may store its atoms
    }
    return record.state or "PENDING", record.meta, atoms


#: with a store where it matters that nothing is written, and by which engine
CASES = [(situation, "memory", loaded) for situation in SITUATIONS for loaded in (False, True)]
CASES += [(situation, "sqlite", True) for situation in ("failed", "reverted", "reverted in part")]


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("situation", "kind", "loaded"), CASES)
def test_a_verb_does_what_it_is_for_or_changes_nothing(situation, verb, kind, loaded, tmp_path):
    with contextlib.closing(places.Place(kind, tmp_path)) as place:
        check_verb(situation, verb, place, loaded=loaded)


def check_verb(situation, verb, place, *, loaded):
    world, engine = led_to(situation, place)
    before = on_record(place, situation)
    if loaded:
        make, _, _, options, _ = SITUATIONS[situation]
        engine = place.load(make(world), **options)
    outcome = None
    try:
        outcome = VERBS[verb](engine)
    except (ValueError, exceptions.TaskFlowException, exceptions.WrappedFailure, exceptions.LostException) as error:
        outcome = error
    calls, state = DOES[situation].get(verb, ("", before[0]))
    assert (" ".join(world.calls), engine.storage.get_flow_state()) == (calls, state)
    if verb in DOES[situation]:
        assert [one.what for one in engine.by_hand()][-1:] == ([verb.split()[0]] if verb != "reset_failed" else [])
        # a rollback that a failure has begun ends with that failure, whoever has it go on
        assert isinstance(outcome, Exception) == ((situation, verb) == ("stuck", "retry_failed"))
        return
    assert on_record(place, situation) == before
    if outcome is None:
        assert (verb, state) == ("rollback", "REVERTED")
    elif outcome != []:
        assert isinstance(outcome, (exceptions.NotFound, exceptions.InvalidState, ValueError))


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("situation", SITUATIONS)
def test_a_flow_can_be_run_on_after_each_verb(situation, verb):
    _, engine = led_to(situation, places.Place("memory", None))
    with contextlib.suppress(exceptions.TaskFlowException, ValueError):
        VERBS[verb](engine)
    if situation == "reverted in part" and verb != "rollback":
        with pytest.raises(exceptions.InvalidState, match="would be repeated"):
            engine.run()
        return
    if situation == "failed" and verb not in DOES[situation]:
        assert engine.run_to_rest() == "FAILURE"  # it resolves nothing by itself
        return
    reverted = engine.storage.get_flow_state() == "REVERTED"
    assert engine.run_to_rest() in (("SUCCESS",) if reverted else ("SUCCESS", "REVERTED"))
    assert engine.storage.get_flow_state() == "SUCCESS" or engine.not_undone() == []
