"""What people do to a run by hand: skip an atom, have the rest run again, roll back to an atom."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re

import pytest

from taskflowx import engines, exceptions, retry, task, testing
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends
from taskflowx.types import failure
from tests.support import places


class World:
    def __init__(self, *broken):
        self.calls = []
        #: names whose execute fails, with - in front whose revert does, with ! in front whose execute is interrupted
        self.broken = set(broken)


class Step(task.Task):
    def __init__(self, name, world, requires=()):
        super().__init__(name, provides=name.upper(), requires=list(requires))
        self.world = world

    def execute(self, **kwargs):
        self._call(self.name)
        return self.name

    def revert(self, **kwargs):
        self._call(f"-{self.name}")

    def _call(self, what):
        self.world.calls.append(what)
        if what in self.world.broken:
            raise ValueError(what)
        if f"!{what}" in self.world.broken:
            raise KeyboardInterrupt


def row(world, names="abcd"):
    return linear_flow.Flow("row").add(*(Step(name, world) for name in names))


@pytest.fixture(params=places.KINDS)
def place(request, tmp_path):
    with contextlib.closing(places.Place(request.param, tmp_path)) as made:
        yield made


def ran(place, make, world, error=ValueError, **options):
    """Run a flow to its failure, mend the world, and return an engine that goes on from the record."""
    with pytest.raises((error, exceptions.WrappedFailure)):
        place.load(make(world), **options).run()
    world.calls.clear()
    world.broken.clear()
    return place.load(make(world), **options)


def state(engine, *names):
    return [engine.storage.get_atom_state(name) for name in names]


# -- skip ------------------------------------------------------------------------------------------


def test_what_has_not_run_yet_is_skipped(place):
    world = World()
    engine = place.load(row(world))
    engine.skip("b", "by me", by="ann", reason="the machine was broken")
    engine = place.load(row(world))
    engine.run()
    assert world.calls == ["a", "c", "d"]
    assert engine.storage.fetch("B") == "by me"
    [entry] = engine.by_hand()
    assert entry[:3] == ("skip", "b", "ann")
    assert entry.reason == "the machine was broken"
    assert entry.when > 0


class Takes(Step):
    def __init__(self, name, world, argument):
        super().__init__(name, world, [argument])

    def revert(self, A, **kwargs):  # noqa: N803 - what another one provides
        self._call(f"-{self.name}")


@pytest.mark.parametrize(("broken", "calls"), [("a", ["a", "-a"]), ("b", ["a", "b", "-c", "-b", "-a"])])
def test_a_skipped_task_of_which_the_revert_lacks_an_argument_is_undone_by_hand(place, broken, calls):
    def make():
        return linear_flow.Flow("row").add(Step("a", world), Step("b", world), Takes("c", world, "A"), Step("d", world))

    world = World(broken)
    place.load(make()).skip("c", "by me")
    engine = place.load(make())
    if broken == "b":
        with pytest.raises(ValueError, match="b"):
            engine.run()
    else:
        says = r"'c' has no value for its argument 'A', so its revert .*: 'a', .*, is FAILURE\n.*engine.skip\('c'\)"
        with pytest.raises(exceptions.WrappedFailure) as caught:
            engine.run()
        assert re.search(says, str(caught.value.exceptions[1]))
        assert engine.not_undone() == ["a", "c"]
        engine = place.load(make())
        engine.skip("c")
        assert engine.run_to_rest() == "REVERTED"
    assert (world.calls, engine.not_undone()) == (calls, [])


def test_a_reset_before_the_first_run_forgets_what_was_skipped(place):
    world = World()
    engine = place.load(row(world))
    engine.skip("a")
    engine.reset()
    place.load(row(world)).run()
    assert world.calls == ["a", "b", "c", "d"]


def test_what_has_failed_is_skipped(place):
    engine = ran(place, row, world := World("b"), never_resolve=True)
    engine.skip("b", 2)
    place.load(row(world), never_resolve=True).run()
    assert world.calls == ["c", "d"]


def test_what_was_interrupted_is_skipped(place):
    engine = ran(place, row, world := World("!b"), KeyboardInterrupt)
    assert state(engine, "b") == ["RUNNING"]
    engine.skip("b", 2)
    place.load(row(world)).run()
    assert world.calls == ["c", "d"]


def test_what_could_not_be_undone_counts_as_undone(place):
    engine = ran(place, row, world := World("d", "-b"))
    assert state(engine, "a", "b") == ["SUCCESS", "REVERT_FAILURE"]
    engine.skip("b")
    engine = place.load(row(world))
    assert state(engine, "b") == ["REVERTED"]
    with contextlib.suppress(ValueError, exceptions.WrappedFailure):
        engine.run()
    assert world.calls == ["-a"]
    assert engine.storage.get_flow_state() == "REVERTED"


@pytest.mark.parametrize("broken", ["!-b", "!-c"])
def test_what_a_rollback_has_not_undone_yet_counts_as_undone(place, broken):
    engine = ran(place, row, world := World("d", broken), KeyboardInterrupt)
    engine.skip("b")
    engine = place.load(row(world))
    with contextlib.suppress(ValueError, exceptions.WrappedFailure):
        engine.run()
    assert world.calls == {"!-b": ["-a"], "!-c": ["-c", "-a"]}[broken]
    assert engine.storage.get_flow_state() == "REVERTED"


def test_its_event_is_published_once(place):
    engine, seen = place.load(row(World())), []
    engine.atom_notifier.register(
        "*", lambda name, details: seen.append((name, details["task_name"], details["result"]))
    )
    engine.skip("b", 7)
    assert seen == [("SUCCESS", "b", 7)]


@pytest.mark.parametrize(
    ("broken", "name", "says"),
    [
        ([], "a", "SUCCESS"),
        (["d", "!-b"], "d", "REVERTED"),
        (["c", "!-b"], "d", "there is nothing to undo"),
    ],
)
def test_what_has_nothing_to_do_is_not_skipped(place, broken, name, says):
    world = World(*broken)
    with contextlib.suppress(KeyboardInterrupt):
        place.load(row(world)).run()
    engine = place.load(row(world))
    with pytest.raises(exceptions.InvalidState, match=rf"Can not skip atom '{name}'.*{says}"):
        engine.skip(name)


def test_what_waits_for_its_next_attempt_is_not_skipped_before_that():
    flow = linear_flow.Flow("f", retry=retry.Times(2, name="again", delay=3600)).add(Step("a", world := World("a")))
    engine = engines.load(flow)
    for _ in engine.run_iter():
        if "-a" in world.calls:
            engine.suspend()
    assert engine.storage.get_flow_state() == "SUSPENDED"
    with pytest.raises(exceptions.InvalidState, match=r"REVERTED .*; its next attempt has not begun, and it can be"):
        engine.skip("a", 1)


def test_what_is_wrong_is_refused_by_name(place):
    flow = linear_flow.Flow("f", retry=retry.Times(2, name="again")).add(Step("a", World()))
    engine = place.load(flow)
    with pytest.raises(exceptions.NotFound, match="Did you mean 'a'"):
        engine.skip("aa")
    with pytest.raises(TypeError, match="'again' is a retry"):
        engine.skip("again")
    with pytest.raises(TypeError, match="name"):
        engine.skip(3)
    with pytest.raises(TypeError, match="reason"):
        engine.skip("a", reason=3)
    assert engine.by_hand() == []


def test_an_atom_that_is_undone_has_no_result(place):
    engine = ran(place, row, World("d", "-b"))
    with pytest.raises(ValueError, match="leave the result out"):
        engine.skip("b", 2)
    assert state(engine, "b") == ["REVERT_FAILURE"]


def test_a_run_of_somebody_else_is_left_alone(tmp_path):
    refused = []
    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:

        class Looks(Step):
            def execute(self):
                with contextlib.closing(backend.get_connection()) as connection:
                    detail = connection.get_flow_details(engine.storage.flow_uuid)
                other = engines.load(flow, flow_detail=detail, backend=backend)
                for verb in (lambda: other.skip("b"), lambda: other.rollback(to="a")):
                    try:
                        verb()
                    except exceptions.TaskFlowException as error:
                        refused.append(type(error).__name__)

        flow = linear_flow.Flow("f").add(Looks("a", World()), Step("b", World()))
        engine = engines.load(flow, backend=backend)
        engine.run()
        assert engine.storage.get_flow_state() == "SUCCESS"
    assert refused[0] == "OwnershipFailure"
    assert len(refused) == 2


@pytest.mark.parametrize(
    "verb",
    [
        lambda engine: engine.retry_failed(),
        lambda engine: asyncio.run(engine.aretry_failed()),
        lambda engine: engine.reset_failed(),
        lambda engine: engine.rollback(),
    ],
    ids=["retry_failed", "aretry_failed", "reset_failed", "rollback"],
)
def test_who_does_not_own_a_run_changes_nothing_of_what_he_has_read(verb, tmp_path):
    seen = []
    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:

        class Looks(Step):
            def execute(self):
                with contextlib.closing(backend.get_connection()) as connection:
                    detail = connection.get_flow_details(engine.storage.flow_uuid)
                other = engines.load(flow, flow_detail=detail, backend=backend)
                with pytest.raises(exceptions.OwnershipFailure):
                    verb(other)
                seen.append((*state(other, "a"), other.storage.get_atom_intention("a"), other.by_hand()))

        world = World("a")
        flow = unordered_flow.Flow("f").add(Step("a", world), Looks("b", world))
        engine = engines.load(flow, backend=backend, never_resolve=True)
        with pytest.raises(ValueError, match="a"):
            engine.run()
    assert seen == [("FAILURE", "EXECUTE", [])]


# -- each verb, each state -------------------------------------------------------------------------

VERBS = {
    "skip": lambda engine: engine.skip("b"),
    "resolve": lambda engine: engine.resolve("b", 1),
    "resolve_failed": lambda engine: engine.resolve_failed("b", ValueError("b")),
    "retry_failed": lambda engine: engine.retry_failed(),
    "rollback": lambda engine: engine.rollback(to="b"),
}
#: (state, intention) of the atom before -> what each verb makes of it; others refuse, or find nothing to do
MOVES = {
    ("PENDING", "EXECUTE"): {"skip": "SUCCESS"},
    ("RUNNING", "EXECUTE"): {"skip": "SUCCESS", "resolve": "SUCCESS", "resolve_failed": "FAILURE"},
    ("FAILURE", "EXECUTE"): {"skip": "SUCCESS", "retry_failed": "SUCCESS"},
    ("SUCCESS", "EXECUTE"): {"rollback": "SUCCESS"},
    ("IGNORE", "IGNORE"): {},
    ("PENDING", "REVERT"): {},
    ("REVERTED", "REVERT"): {},
    ("SUCCESS", "REVERT"): {"skip": "REVERTED"},
    ("FAILURE", "REVERT"): {"skip": "REVERTED"},
    ("RUNNING", "REVERT"): {"skip": "REVERTED"},
    ("REVERTING", "REVERT"): {"skip": "REVERTED"},
    ("REVERT_FAILURE", "REVERT"): {"skip": "REVERTED", "retry_failed": "REVERTED"},
}


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize(("before", "intention"), MOVES)
def test_a_verb_moves_what_it_is_for_and_nothing_else(place, verb, before, intention):
    world = World()
    engine = place.load(row(world, "ab"))
    engine.compile()
    engine.prepare()
    for name in "ab":
        detail = engine.storage.record.detail(name)
        detail.state, detail.intention = "SUCCESS", "EXECUTE" if intention == "IGNORE" else intention
    detail.state, detail.intention = before, intention
    if before == "FAILURE":
        detail.failure = failure.Failure.from_exception(ValueError("b"))
    engine.storage.set_flow_state("SUSPENDED")
    engine.storage.save_all()
    engine = place.load(row(world, "ab"))
    with contextlib.suppress(exceptions.TaskFlowException, ValueError):
        VERBS[verb](engine)
    assert engine.storage.get_atom_state("b") == MOVES[before, intention].get(verb, before)
    done = [one.what for one in engine.by_hand()]
    assert done == ([verb] if verb in MOVES[before, intention] else [])


# -- retry_failed ----------------------------------------------------------------------------------


def rows(world):
    return unordered_flow.Flow("rows").add(
        *(linear_flow.Flow(a).add(Step(a, world), Step(a + "2", world)) for a in "abc")
    )


def test_what_has_failed_runs_again_with_what_waits_for_it(place):
    engine = ran(place, rows, world := World("b"), never_resolve=True)
    assert engine.retry_failed(by="ann") == ["b"]
    assert world.calls == ["b", "b2"]
    assert engine.storage.get_flow_state() == "SUCCESS"
    assert [(one.what, one.name, one.who) for one in place.load(rows(world)).by_hand()] == [
        ("retry_failed", "b", "ann")
    ]


def test_a_revert_that_has_failed_is_made_again(place):
    engine = ran(place, row, world := World("d", "-b"))
    with pytest.raises((ValueError, exceptions.WrappedFailure)):
        engine.retry_failed()
    assert world.calls == ["-b", "-a"]
    assert engine.storage.get_flow_state() == "REVERTED"
    assert [one.name for one in engine.by_hand()] == ["b"]


def test_nothing_runs_where_nothing_has_failed(place):
    world = World()
    engine = place.load(row(world))
    assert engine.retry_failed() == []
    assert world.calls == []
    assert engine.by_hand() == []


def test_it_can_be_awaited(place):
    engine = ran(place, rows, world := World("b"), never_resolve=True)
    assert asyncio.run(engine.aretry_failed()) == ["b"]
    assert world.calls == ["b", "b2"]


# -- rollback --------------------------------------------------------------------------------------


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_what_ran_after_an_atom_is_undone_and_run_again(place, executor):
    world = World()
    place.load(row(world), executor=executor).run()
    world.calls.clear()
    engine = place.load(row(world), executor=executor)
    engine.rollback(to="b", by="ann")
    assert world.calls == ["-d", "-c"]
    assert engine.storage.get_flow_state() == "SUSPENDED"
    engine = place.load(row(world), executor=executor)
    assert state(engine, *"abcd") == ["SUCCESS", "SUCCESS", "PENDING", "PENDING"]
    engine.run()
    assert world.calls[2:] == ["c", "d"]
    assert [one[:3] for one in engine.by_hand()] == [("rollback", "b", "ann")]


def test_what_does_not_come_after_it_stands(place):
    world = World()

    def make():
        flow = graph_flow.Flow("g")
        return flow.add(
            Step("a", world), Step("b", world, ["A"]), Step("c", world, ["A"]), Step("d", world, ["B", "C"])
        )

    place.load(make()).run()
    world.calls.clear()
    engine = place.load(make())
    engine.rollback(to="b")
    assert world.calls == ["-d"]
    engine.run()
    assert world.calls == ["-d", "d"]


def test_nothing_is_executed_meanwhile(place):
    world = World()

    def make():
        return unordered_flow.Flow("u").add(row(world, "ab"), Step("x", world))

    engine = place.load(make())
    steps = engine.run_iter()
    for _ in steps:
        if world.calls == ["a"] or "b" in world.calls:
            break
    steps.close()
    before = list(world.calls)
    engine = place.load(make())
    engine.rollback(to="a")
    assert [call for call in world.calls[len(before) :] if not call.startswith("-")] == []
    engine.run()
    assert engine.storage.get_flow_state() == "SUCCESS"
    assert world.calls.count("x") == 1


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("delay", [0, 60])
def test_a_retry_elsewhere_that_is_to_run_again_waits_for_the_next_run(place, executor, delay):
    world, clock = World("y"), testing.VirtualClock()

    def make():
        again = linear_flow.Flow("again", retry=retry.Times(2, delay=delay)).add(*(Step(n, world) for n in "xyz"))
        return unordered_flow.Flow("u").add(row(world, "ab"), again)

    engine = place.load(make(), executor=executor, clock=clock)
    engine.atom_notifier.register(
        "REVERTED", lambda _, facts: engine.suspend(), details_filter=lambda facts: facts["task_name"] == "y"
    )
    engine.run()
    assert state(engine, *"abxyz") == ["SUCCESS"] * 3 + ["REVERTED", "PENDING"]
    world.broken.clear()
    world.calls.clear()
    engine = place.load(make(), executor=executor, clock=clock)
    engine.rollback(to="a")
    assert sorted(world.calls) == ["-b", "-x"]
    assert engine.storage.get_flow_state() == "SUSPENDED"
    world.calls.clear()
    place.load(make(), executor=executor, clock=clock).run()
    assert sorted(world.calls) == ["b", "x", "y", "z"]


def test_a_retry_after_the_atom_begins_anew(place):
    world = World()

    def make():
        inner = linear_flow.Flow("inner", retry=retry.Times(3, name="again")).add(Step("b", world), Step("c", world))
        return linear_flow.Flow("f").add(Step("a", world), inner)

    place.load(make()).run()
    world.calls.clear()
    engine = place.load(make())
    engine.rollback(to="a")
    assert state(engine, "again", "b", "c") == ["PENDING"] * 3
    engine.run()
    assert world.calls == ["-c", "-b", "b", "c"]
    engine.rollback(to="again")
    assert state(engine, "again", "b", "c") == ["SUCCESS", "PENDING", "PENDING"]


def test_deciders_after_it_are_asked_again(place):
    world, answers = World(), [False, True]

    def make():
        flow, atoms = graph_flow.Flow("g"), [Step(name, world) for name in "abcd"]
        flow.add(*atoms)
        flow.link(atoms[0], atoms[1])
        flow.link(atoms[1], atoms[2], decider=lambda history: answers[0])
        flow.link(atoms[2], atoms[3])
        return flow

    engine = place.load(make())
    engine.run()
    assert state(engine, "c", "d") == ["IGNORE"] * 2
    engine.rollback(to="a")
    answers.pop(0)
    engine.run()
    assert world.calls == ["a", "b", "-b", "b", "c", "d"]


def test_a_veto_from_elsewhere_stands(place):
    world = World()

    def make():
        flow, atoms = graph_flow.Flow("g"), [Step(name, world) for name in "axyz"]
        a, x, y, z = atoms
        flow.add(*atoms)
        flow.link(x, y, decider=lambda history: False)
        flow.link(y, z)
        flow.link(a, z)
        return flow

    engine = place.load(make())
    engine.run()
    assert state(engine, "y", "z") == ["IGNORE"] * 2
    engine.rollback(to="a")
    engine.run()
    assert state(engine, "y", "z") == ["IGNORE"] * 2
    assert sorted(world.calls) == ["a", "x"]


class NeedsNoResult(Step):
    """Its revert does not take its result, so it may be let go of."""

    def revert(self):
        self._call(f"-{self.name}")


@pytest.mark.parametrize("reloaded", [False, True])
@pytest.mark.parametrize("optional", [False, True])
def test_nothing_is_undone_that_could_not_run_again_without_a_result_that_was_not_kept(place, reloaded, optional):
    world = World()

    class Takes(NeedsNoResult):
        def execute(self, A):  # noqa: N803 - as the tasks provide it
            self._call(f"{self.name} with {A}")

    class May(NeedsNoResult):
        def execute(self, A="nothing"):  # noqa: N803
            self._call(f"{self.name} with {A}")

    def make():
        third = (May if optional else Takes)("c", world)
        first, second, last = (NeedsNoResult(name, world) for name in "abd")
        return linear_flow.Flow("f").add(first, second, third, last)

    engine = place.load(make(), keep_results=False)
    engine.run()
    world.calls.clear()
    if reloaded:
        engine = place.load(make(), keep_results=False)
    with pytest.raises(exceptions.InvalidState, match=r"takes results of 'a', which were not kept(.|\n)*keep_results"):
        engine.rollback(to="b")
    assert world.calls == []
    assert (engine.storage.get_flow_state(), engine.by_hand()) == ("SUCCESS", [])
    engine.rollback(to="c")  # what is undone takes nothing
    engine.rollback()
    assert world.calls == ["-d", "-c", "-b", "-a"]


def test_a_result_that_is_kept_or_made_again_is_taken_after_a_rollback(place):
    world = World()

    def make():
        last = NeedsNoResult("c", world, ["A", "X"])
        return linear_flow.Flow("f").add(*(NeedsNoResult(name, world) for name in "xab"), last)

    engine = place.load(make(), keep_results=["X"])
    engine.run()
    world.broken.add("!-b")
    with pytest.raises(KeyboardInterrupt):
        engine.rollback(to="x")
    world.broken.clear()
    engine.rollback(to="x")  # what is undone already runs again, too
    engine.run()
    assert engine.storage.get_flow_state() == "SUCCESS"


def test_what_could_not_be_undone_stands_until_it_can(place):
    world = World("-c")
    place.load(row(world)).run()
    engine = place.load(row(world))
    with pytest.raises(ValueError, match="-c"):
        engine.rollback(to="a")
    assert engine.storage.get_flow_state() == "FAILURE"
    world.broken.clear()
    world.calls.clear()
    engine = place.load(row(world))
    engine.run()  # completes the rollback, then goes on
    assert world.calls == ["-c", "-b", "b", "c", "d"]
    assert engine.storage.get_flow_state() == "SUCCESS"


def test_a_rollback_that_was_interrupted_is_completed_by_the_next_run(place):
    world = World("!-c")
    place.load(row(world)).run()
    with pytest.raises(KeyboardInterrupt):
        place.load(row(world)).rollback(to="a")
    world.broken.clear()
    world.calls.clear()
    engine = place.load(row(world))
    engine.run()
    assert world.calls == ["-c", "-b", "b", "c", "d"]


def test_a_rollback_of_all_may_follow_one_of_a_part(place):
    world = World("!-c")
    place.load(row(world)).run()
    with pytest.raises(KeyboardInterrupt):
        place.load(row(world)).rollback(to="a")
    world.broken.clear()
    world.calls.clear()
    engine = place.load(row(world))
    engine.rollback()
    assert world.calls == ["-c", "-b", "-a"]
    assert engine.storage.get_flow_state() == "REVERTED"
    assert [one.name for one in engine.by_hand()] == ["a", None]


def test_a_rollback_of_a_part_can_be_awaited(place):
    world = World()
    place.load(row(world)).run()
    engine = place.load(row(world), executor="asyncio")
    asyncio.run(engine.arollback(to="c"))
    assert world.calls[4:] == ["-d"]
    asyncio.run(engine.arollback())
    assert world.calls[5:] == ["-c", "-b", "-a"]


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_a_rollback_before_the_first_run_executes_nothing(place, executor):
    world = World()
    engine = place.load(row(world), executor=executor)
    if executor == "asyncio":
        asyncio.run(engine.arollback())
    else:
        engine.rollback()
    assert world.calls == []
    assert (engine.storage.get_flow_state(), engine.not_undone()) == ("REVERTED", [])
    engine.reset()
    assert state(engine, *"abcd") == ["PENDING"] * 4


@pytest.mark.parametrize("failed", [False, True])
@pytest.mark.parametrize("goes_on", ["run", "arun", "retry_failed", "skip"])
def test_who_completes_a_rollback_that_was_asked_for_gets_no_error(place, goes_on, failed):
    """As the caller of the rollback itself, whether or not something had failed before it."""
    world = World("-b", *(["c"] if failed else []))
    with contextlib.suppress(ValueError):
        place.load(row(world), never_resolve=True).run()
    with pytest.raises((ValueError, exceptions.WrappedFailure)):
        place.load(row(world)).rollback()
    world.broken.clear()
    engine = place.load(row(world))
    if goes_on == "arun":
        asyncio.run(engine.arun())
    elif goes_on == "skip":
        engine.skip("b")
        engine.run()
    else:
        getattr(engine, goes_on)()
    assert (engine.storage.get_flow_state(), engine.not_undone()) == ("REVERTED", [])
    world.broken.add("c")
    with pytest.raises(ValueError, match="c"):  # of the next round
        engine.run()


def test_who_completes_a_rollback_that_a_failure_has_begun_gets_that_failure(place):
    engine = ran(place, row, World("d", "!-b"), KeyboardInterrupt)
    with pytest.raises((ValueError, exceptions.WrappedFailure)):
        engine.run()
    assert engine.storage.get_flow_state() == "REVERTED"


def test_nobody_rolls_back_to_what_does_not_stand(place):
    engine = place.load(row(World()))
    with pytest.raises(exceptions.InvalidState, match="'b', which is PENDING: name one that has run"):
        engine.rollback(to="b")
    with pytest.raises(exceptions.NotFound, match="Did you mean 'b'"):
        engine.rollback(to="bb")
    assert engine.storage.get_flow_state() in ("PENDING", "SUSPENDED")
    engine.run()
    assert engine.storage.get_flow_state() == "SUCCESS"


def test_a_rollback_under_way_is_completed_first(place):
    engine = ran(place, row, World("d", "-b"))
    with pytest.raises(exceptions.InvalidState, match="it is being undone"):
        engine.rollback(to="a")


# -- time limits of flows --------------------------------------------------------------------------


@pytest.mark.parametrize("broken", ["b", "c"])
@pytest.mark.parametrize("verb", ["retry_failed", "reset_failed", "skip", "rollback"])
def test_a_flow_with_a_time_limit_that_somebody_mends_has_all_of_it_again(place, verb, broken):
    """The limits of the flows around the atom; a flow beside them has what is left of its own."""
    world, clock = World(broken), testing.VirtualClock()

    def make(world):
        inner = linear_flow.Flow("inner", timeout=60).add(Step("b", world), Step("c", world), Step("d", world))
        beside = linear_flow.Flow("beside", timeout=7200).add(Step("x", world))
        outer = linear_flow.Flow("outer", timeout=90).add(inner, Step("e", world))
        return linear_flow.Flow("f").add(Step("a", world), beside, outer)

    engine = ran(place, make, world, never_resolve=True, clock=clock)
    clock.advance(3600)
    if verb == "skip":
        engine.skip(broken)
    elif verb == "rollback":
        engine.rollback(to={"b": "x", "c": "b"}[broken])
    else:
        assert getattr(engine, verb)() == [broken]
    place.load(make(world), never_resolve=True, clock=clock).run()
    engine = place.load(make(world))
    assert state(engine, *"abcde") == ["SUCCESS"] * 5
    since = {n: engine.storage.record.detail(n).meta.get("flow_since") for n in "bx"}
    assert since["x"]["beside"] + 3600 == since["b"]["inner"] == since["b"]["outer"]


def test_the_time_limit_of_a_flow_that_was_interrupted_counts_on(place):
    clock, world = testing.VirtualClock(), World("!b")

    def make(world):
        return linear_flow.Flow("f", timeout=60).add(*(Step(name, world) for name in "abc"))

    engine = ran(place, make, world, KeyboardInterrupt, clock=clock)
    clock.advance(3600)
    engine.resolve("b", 1)
    with pytest.raises(exceptions.TimeoutExceeded):
        place.load(make(world), clock=clock).run()


# -- who -------------------------------------------------------------------------------------------


def test_by_default_it_is_the_user_of_this_process():
    engine = engines.load(row(World()))
    engine.skip("a")
    assert re.fullmatch(rf".+@.+:{os.getpid()}", engine.by_hand()[0].who)


def test_a_long_list_keeps_its_end():
    world = World("a")
    engine = engines.load(row(world, "a"), never_resolve=True)
    with pytest.raises(ValueError, match="a"):
        engine.run()
    for n in range(120):
        with pytest.raises(ValueError, match="a"):
            engine.retry_failed(reason=str(n))
    assert [one.reason for one in engine.by_hand()] == [str(n) for n in range(20, 120)]
