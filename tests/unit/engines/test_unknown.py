"""Calls whose outcome nobody knows: made again, undone, asked for, or looked for by `find_outcome`."""

from __future__ import annotations

import asyncio
import contextlib
import logging

import pytest

from taskflowx import engines, exceptions, retry, task, testing
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends
from taskflowx.types import failure
from tests.support import places

LOST = exceptions.WorkerLost("a worker was lost")


class World:
    """What calls have done: a list of what was called, and what is known outside of the run."""

    def __init__(self, *endings):
        self.calls = []
        self.keys = []
        #: how the calls of `Pay` end, one after the other; later ones return
        self.endings = list(endings)
        #: what `find_outcome` says
        self.found = retry.NOT_DONE


class Pay(task.Task):
    """Pays, and ends as the world says."""

    def __init__(self, world, name="pay", **keywords):
        super().__init__(name, provides="receipt", **keywords)
        self.world = world

    def execute(self, amount, idempotency_key, attempt):
        self.world.calls.append(f"{self.name} {amount} {attempt}")
        self.world.keys.append(idempotency_key)
        if self.world.endings:
            raise self.world.endings.pop(0)
        return "paid"

    def revert(self, result, **kwargs):
        known = type(result.exception) if isinstance(result, failure.Failure) else result
        self.world.calls.append(f"undo {getattr(known, '__name__', known)}")


class PayAndLook(Pay):
    """Can look whether it has paid."""

    def find_outcome(self, idempotency_key, amount):
        self.world.calls.append(f"look {amount}")
        assert idempotency_key == self.world.keys[-1]
        if isinstance(self.world.found, Exception):
            raise self.world.found
        return self.world.found


class PayAndWait(Pay):
    """Looks, in a coroutine, whether it has paid."""

    async def find_outcome(self, idempotency_key, amount):
        await asyncio.sleep(0)
        self.world.calls.append(f"look {amount}")
        if isinstance(self.world.found, Exception):
            raise self.world.found
        return self.world.found


class Note(task.Task):
    def __init__(self, name, world, requires=()):
        super().__init__(name, requires=list(requires))
        self.world = world

    def execute(self, **kwargs):
        self.world.calls.append(self.name)

    def revert(self, **kwargs):
        self.world.calls.append(f"undo {self.name}")


def shop(pay, world):
    """A payment between two steps."""
    return linear_flow.Flow("shop").add(Note("reserve", world), pay, Note("ship", world, ["receipt"]))


@pytest.fixture(params=places.KINDS)
def place(request, tmp_path):
    with contextlib.closing(places.Place(request.param, tmp_path)) as made:
        yield made


def load(place, flow, executor="serial", **options):
    return place.load(flow, {"amount": 5}, executor=executor, **options)


def interrupted(place, make, executor="serial", **options):
    """Run a flow until its payment is interrupted."""
    with pytest.raises(KeyboardInterrupt):
        load(place, make(), executor, **options).run()


def states_of(engine):
    return [engine.storage.get_atom_state(name) for name in ("reserve", "pay", "ship")]


# -- a run that was interrupted --------------------------------------------------------------------


@pytest.mark.parametrize("keywords", [{}, {"on_unknown": "repeat"}])
def test_by_default_the_call_is_made_again_as_a_further_attempt(place, keywords):
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(Pay(world, **keywords), world))
    engine = load(place, shop(Pay(world, **keywords), world))
    engine.run()
    assert world.calls == ["reserve", "pay 5 1", "pay 5 2", "ship"]
    assert len(set(world.keys)) == 1
    assert engine.unknown() == []


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_undo_calls_the_revert_with_a_failure_and_rolls_back(place, executor):
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(Pay(world, on_unknown="undo"), world), executor)
    engine = load(place, shop(Pay(world, on_unknown="undo"), world), executor)
    with pytest.raises(exceptions.OutcomeUnknown, match="'pay' with the idempotency key") as caught:
        engine.run()
    assert world.keys[0] in str(caught.value)
    assert world.calls == ["reserve", "pay 5 1", "undo OutcomeUnknown", "undo reserve"]
    assert engine.storage.get_flow_state() == "REVERTED"


def test_undo_asks_the_retry_around_it_which_pays_under_another_key(place):
    world = World(KeyboardInterrupt())

    def make():
        return linear_flow.Flow("f", retry=retry.Times(2, name="again")).add(Pay(world, on_unknown="undo"))

    interrupted(place, make)
    load(place, make()).run()
    assert world.calls == ["pay 5 1", "undo OutcomeUnknown", "pay 5 1"]
    assert world.keys[0] != world.keys[1]


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_ask_leaves_the_flow_suspended_until_somebody_says_the_result(place, executor, caplog):
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(Pay(world, on_unknown="ask"), world), executor)
    for _ in range(2):
        engine = load(place, shop(Pay(world, on_unknown="ask"), world), executor)
        caplog.clear()
        engine.run()
        assert engine.storage.get_flow_state() == "SUSPENDED"
        assert states_of(engine) == ["SUCCESS", "RUNNING", "PENDING"]
        assert "engine.resolve(name, result=...)" in caplog.text
    [call] = load(place, shop(Pay(world, on_unknown="ask"), world), executor).unknown()
    assert (call.name, call.idempotency_key, call.attempt) == ("pay", world.keys[0], 1)
    assert call.arguments["amount"] == 5
    assert call.since is not None
    load(place, shop(Pay(world, on_unknown="ask"), world), executor).resolve("pay", result="r1", by="me")
    engine = load(place, shop(Pay(world, on_unknown="ask"), world), executor)
    engine.run()
    assert engine.storage.fetch("receipt") == "r1"
    assert world.calls == ["reserve", "pay 5 1", "ship"]
    [entry] = engine.by_hand()
    assert (entry.what, entry.name, entry.who, entry.reason) == ("resolve", "pay", "me", None)


def test_an_operator_may_answer_before_any_run_has_taken_the_record_up(place):
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(Pay(world, on_unknown="ask"), world))
    engine = load(place, shop(Pay(world, on_unknown="ask"), world))
    [call] = engine.unknown()
    assert (call.name, call.since) == ("pay", None)
    engine.resolve("pay", "r1")
    assert engine.unknown() == []
    engine.run()
    assert world.calls == ["reserve", "pay 5 1", "ship"]


def test_who_says_that_it_has_failed_has_the_flow_rolled_back(place):
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(Pay(world, on_unknown="ask"), world))
    engine = load(place, shop(Pay(world, on_unknown="ask"), world))
    engine.run()
    engine.resolve_failed("pay", ValueError("no money"))
    engine = load(place, shop(Pay(world, on_unknown="ask"), world))
    with pytest.raises((ValueError, exceptions.WrappedFailure)):
        engine.run()
    assert world.calls[:3] == ["reserve", "pay 5 1", "undo ValueError"] or world.calls[2].startswith("undo")
    assert world.calls[3:] == ["undo reserve"]
    assert engine.by_hand()[0].what == "resolve_failed"


@pytest.mark.parametrize("asked", [False, True])
def test_a_rollback_undoes_what_is_asked_for(place, asked):
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(Pay(world, on_unknown="ask"), world))
    engine = load(place, shop(Pay(world, on_unknown="ask"), world))
    if asked:
        engine.run()
    engine.rollback()
    assert world.calls == ["reserve", "pay 5 1", "undo OutcomeUnknown", "undo reserve"]
    assert engine.storage.get_flow_state() == "REVERTED"
    assert engine.unknown() == []


def test_a_revert_that_is_interrupted_gets_the_same_again(place):
    world = World(KeyboardInterrupt())

    class Undoes(Pay):
        def revert(self, result, **kwargs):
            super().revert(result)
            if len(world.calls) == 3:
                raise KeyboardInterrupt

    interrupted(place, lambda: shop(Undoes(world, on_unknown="ask"), world))
    with pytest.raises(KeyboardInterrupt):
        load(place, shop(Undoes(world, on_unknown="ask"), world)).rollback()
    load(place, shop(Undoes(world, on_unknown="ask"), world)).rollback()
    assert world.calls[2:] == ["undo OutcomeUnknown", "undo OutcomeUnknown", "undo reserve"]


def test_what_does_not_depend_on_it_goes_on(place):
    world = World(KeyboardInterrupt())

    def make():
        flow = graph_flow.Flow("f")
        return flow.add(
            Pay(world, on_unknown="ask"),
            Note("after", world, ["receipt"]),
            linear_flow.Flow("beside").add(Note("a", world), Note("b", world)),
        )

    interrupted(place, make)
    engine = load(place, make())
    engine.run()
    assert world.calls[-2:] == ["a", "b"]
    assert "after" not in world.calls
    assert engine.storage.get_flow_state() == "SUSPENDED"
    engine.resolve("pay", "r")
    engine.run()
    assert world.calls[-1] == "after"
    assert engine.storage.get_flow_state() == "SUCCESS"


def test_a_failure_beside_it_rolls_it_back_with_the_rest(place):
    world = World(KeyboardInterrupt())

    class Fails(Note):
        def execute(self, **kwargs):
            raise ValueError(self.name)

    def make():
        return unordered_flow.Flow("f").add(Pay(world, on_unknown="ask"), Fails("b", world))

    interrupted(place, make)
    engine = load(place, make())
    with pytest.raises(ValueError, match="b"):
        engine.run()
    assert engine.storage.get_flow_state() == "REVERTED"
    assert [call for call in world.calls if "OutcomeUnknown" in call] == ["undo OutcomeUnknown"]


def test_openstack_taskflow_reads_a_task_that_runs(place):
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(Pay(world, on_unknown="ask"), world))
    engine = load(place, shop(Pay(world, on_unknown="ask"), world))
    engine.run()
    detail = engine.storage.record.detail("pay")
    assert (detail.state, detail.intention, detail.results, detail.failure) == ("RUNNING", "EXECUTE", None, None)
    assert set(detail.meta["unknown"]) == {"since", "why"}


@pytest.mark.parametrize("durability", ["strict", "group", "exit"])
def test_the_beginning_of_the_call_is_on_record_with_each_durability(durability, tmp_path):
    seen = []
    with backends.backend(f"sqlite:///{tmp_path}/runs.db") as backend:

        class Looks(task.Task):
            def execute(self):
                with contextlib.closing(backend.get_connection()) as connection:
                    record = connection.get_flow_details(engine.storage.flow_uuid)
                seen.append({one.name: one.state for one in record})

        flow = linear_flow.Flow("f").add(Looks("a"), Looks("b", on_unknown="ask"))
        engine = engines.load(flow, backend=backend, durability=durability, commit_interval=60)
        engine.run()
    assert seen[1] == {"a": "SUCCESS", "b": "RUNNING"}


# -- find_outcome ----------------------------------------------------------------------------------


LOOKS = [(PayAndLook, "serial"), (PayAndLook, "threads"), (PayAndLook, "asyncio"), (PayAndWait, "asyncio")]
each_way = pytest.mark.parametrize(("kind", "executor"), LOOKS)
each_mode = pytest.mark.parametrize("mode", ["repeat", "undo", "ask"])


@each_mode
@each_way
def test_what_is_found_is_the_result(place, kind, executor, mode):
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(kind(world, on_unknown=mode), world), executor)
    world.found = "r7"
    engine = load(place, shop(kind(world, on_unknown=mode), world), executor)
    engine.run()
    assert world.calls == ["reserve", "pay 5 1", "look 5", "ship"]
    assert engine.storage.fetch("receipt") == "r7"


@each_mode
@each_way
def test_what_is_not_done_is_done(place, kind, executor, mode):
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(kind(world, on_unknown=mode), world), executor)
    engine = load(place, shop(kind(world, on_unknown=mode), world), executor)
    engine.run()
    assert world.calls == ["reserve", "pay 5 1", "look 5", "pay 5 2", "ship"]
    assert len(set(world.keys)) == 1


@each_mode
@each_way
def test_a_look_that_fails_leaves_the_question_open(place, kind, executor, mode, caplog):
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(kind(world, on_unknown=mode), world), executor)
    world.found = OSError("the bank is away")
    engine = load(place, shop(kind(world, on_unknown=mode), world), executor)
    engine.run()
    assert engine.storage.get_flow_state() == "SUSPENDED"
    assert "the bank is away" in engine.unknown()[0].why
    assert "find_outcome of task 'pay' has failed" in caplog.text
    world.found = "r7"  # the next run looks again
    load(place, shop(kind(world, on_unknown=mode), world), executor).run()
    assert world.calls == ["reserve", "pay 5 1", "look 5", "look 5", "ship"]


async def look_later():
    return retry.NOT_DONE


@pytest.mark.parametrize("made", [look_later, lambda: iter_of(retry.NOT_DONE)])
def test_a_look_of_which_nothing_has_run_leaves_the_question_open(place, made, caplog):
    class Looks(Pay):
        def find_outcome(self, idempotency_key):
            return made()

    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(Looks(world, on_unknown="ask"), world), "serial")
    engine = load(place, shop(Looks(world, on_unknown="ask"), world), "serial")
    engine.run()
    assert engine.storage.get_flow_state() == "SUSPENDED"
    assert "of which nothing has run" in engine.unknown()[0].why
    assert world.calls == ["reserve", "pay 5 1"]


def iter_of(value):
    yield value


@pytest.mark.parametrize(("found", "undone"), [("r7", "undo r7"), (retry.NOT_DONE, "undo OutcomeUnknown")])
def test_a_look_that_ends_in_a_rollback_says_what_is_undone(place, found, undone):
    world = World(KeyboardInterrupt())

    class Slow(PayAndWait):
        async def find_outcome(self, idempotency_key):
            for _ in range(50):  # until the rollback has begun
                await asyncio.sleep(0)
            return found

    class Fails(task.Task):
        async def execute(self, attempt):
            world.calls.append("b")
            raise ValueError("b")

    def make():
        return unordered_flow.Flow("f").add(Slow(world, on_unknown="ask"), Fails("b"))

    flow = linear_flow.Flow("g").add(Slow(world, on_unknown="ask"))
    with pytest.raises(KeyboardInterrupt):
        load(place, flow, "asyncio").run()
    engine = load(place, make(), "asyncio")
    with pytest.raises((ValueError, exceptions.WrappedFailure)):
        engine.run()
    assert world.calls == ["pay 5 1", "b", undone]
    assert engine.storage.get_flow_state() == "REVERTED"


def test_a_coroutine_that_looks_needs_a_loop():
    world = World()
    engine = engines.load(shop(PayAndWait(world), world), {"amount": 5})
    with pytest.raises(exceptions.CompilationFailure, match="only executor='asyncio' awaits"):
        engine.compile()


# -- a call that is lost in a run ------------------------------------------------------------------


def lost(made):
    """Return errors of calls that were lost: with an attribute that executors set, and without."""
    error = exceptions.TimeoutExceeded("it was abandoned")
    error.outcome_unknown = True
    return [exceptions.WorkerLost("a worker was lost"), error][made]


each_loss = pytest.mark.parametrize("loss", [0, 1])
each_executor = pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])


@each_loss
@each_executor
def test_a_lost_call_is_a_failure_by_default(place, executor, loss):
    world = World(lost(loss))
    engine = load(place, shop(Pay(world), world), executor)
    with pytest.raises(type(lost(loss))):
        engine.run()
    assert world.calls == ["reserve", "pay 5 1", f"undo {type(lost(loss)).__name__}", "undo reserve"]


@each_loss
@each_executor
def test_a_lost_call_is_undone(place, executor, loss):
    world = World(lost(loss))
    engine = load(place, shop(Pay(world, on_unknown="undo"), world), executor)
    with pytest.raises(exceptions.OutcomeUnknown) as caught:
        engine.run()
    assert isinstance(caught.value.__cause__, type(lost(loss)))
    assert world.calls == ["reserve", "pay 5 1", "undo OutcomeUnknown", "undo reserve"]


@each_loss
@each_executor
def test_a_lost_call_is_asked_for(place, executor, loss):
    world = World(lost(loss))
    engine = load(place, shop(Pay(world, on_unknown="ask"), world), executor)
    engine.run()
    assert engine.storage.get_flow_state() == "SUSPENDED"
    [call] = engine.unknown()
    assert str(lost(loss)) in call.why
    engine.resolve("pay", "r1")
    engine.run()
    assert world.calls == ["reserve", "pay 5 1", "ship"]


@each_loss
@each_way
def test_a_lost_call_is_looked_for(place, kind, executor, loss):
    world = World(lost(loss))
    world.found = "r7"
    engine = load(place, shop(kind(world), world), executor)
    engine.run()
    assert world.calls == ["reserve", "pay 5 1", "look 5", "ship"]


@each_loss
@each_way
def test_a_lost_call_that_has_done_nothing_has_failed(place, kind, executor, loss):
    """A task that kills its worker each time is not called for ever."""
    world = World(lost(loss))
    engine = load(place, shop(kind(world, on_unknown="ask"), world), executor)
    with pytest.raises(type(lost(loss))):
        engine.run()
    assert world.calls == ["reserve", "pay 5 1", "look 5", f"undo {type(lost(loss)).__name__}", "undo reserve"]


def test_a_limit_that_the_task_itself_has_noticed_is_a_failure(place):
    world = World(exceptions.TimeoutExceeded("by checkpoint()"))
    engine = load(place, shop(Pay(world, on_unknown="ask"), world))
    with pytest.raises(exceptions.TimeoutExceeded):
        engine.run()
    assert engine.storage.get_flow_state() == "REVERTED"


def test_a_call_that_is_lost_while_its_flow_is_rolled_back_is_undone(place):
    world = World(LOST)

    class Fails(Note):
        def execute(self, attempt):  # as the other one: both begin together
            raise ValueError(self.name)

    flow = unordered_flow.Flow("f").add(Pay(world, on_unknown="ask"), Fails("b", world))
    executor = testing.ScriptedExecutor()
    engine = load(place, flow, executor)
    with pytest.raises(exceptions.WrappedFailure):
        executor.run(engine, order=["b", "pay"])
    assert [call for call in world.calls if call.startswith("undo O")] == ["undo OutcomeUnknown"]
    assert engine.storage.get_flow_state() == "REVERTED"


# -- bad input -------------------------------------------------------------------------------------


def test_what_is_wrong_is_refused_by_name():
    world = World()
    with pytest.raises(ValueError, match="on_unknown"):
        Pay(world, on_unknown="perhaps")
    with pytest.raises(ValueError, match="'merchant'"):

        class Merchant(Pay):
            def find_outcome(self, idempotency_key, merchant):
                """Take an argument that nobody gives."""


@pytest.mark.parametrize("name", ["reserve", "ship"])
def test_only_what_is_open_can_be_answered(place, name):
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(Pay(world, on_unknown="ask"), world))
    engine = load(place, shop(Pay(world, on_unknown="ask"), world))
    with pytest.raises(exceptions.InvalidState, match=f"'{name}'.*the open ones are \\['pay'\\]"):
        engine.resolve(name, 1)
    with pytest.raises(exceptions.InvalidState, match=f"'{name}'"):
        engine.resolve_failed(name, ValueError("1"))
    with pytest.raises(exceptions.NotFound, match="Did you mean 'pay'"):
        engine.resolve("pai", 1)
    with pytest.raises(TypeError, match="error"):
        engine.resolve_failed("pay", "no money")
    with pytest.raises(TypeError, match="by"):
        engine.resolve("pay", 1, by=7)


def test_an_answer_has_the_shape_that_the_task_provides(place):
    world = World(KeyboardInterrupt())

    def make():
        pay = Pay(world, on_unknown="ask")
        return linear_flow.Flow("f").add(pay, Two(world))

    class Two(task.Task):
        default_provides = ("a", "b")

        def __init__(self, world):
            super().__init__("two", on_unknown="ask")
            self.world = world

        def execute(self):
            raise KeyboardInterrupt

    world.endings = []
    interrupted(place, make)
    engine = load(place, make())
    with pytest.raises(exceptions.ResultMismatch, match="'two'"):
        engine.resolve("two", (1,))
    with pytest.raises(TypeError, match=r"'two' is NOT_DONE, which find_outcome returns: .* resolve_failed\(\)"):
        engine.resolve("two", retry.NOT_DONE)
    engine.resolve("two", (1, 2))
    engine.run()
    assert engine.storage.fetch("b") == 2


def test_nothing_is_answered_during_a_run(place):
    world, said = World(), []

    class Answers(Note):
        def execute(self, **kwargs):
            try:
                engine.resolve("pay", 1)
            except exceptions.InvalidState as error:
                said.append(str(error))

    flow = linear_flow.Flow("f").add(Answers("a", world), Pay(world, on_unknown="ask"))
    engine = load(place, flow)
    engine.run()
    assert len(said) == 1
    assert "during its run" in said[0]


def test_an_answer_that_the_store_cannot_hold_is_refused(place, caplog):
    caplog.set_level(logging.ERROR)
    world = World(KeyboardInterrupt())
    interrupted(place, lambda: shop(Pay(world, on_unknown="ask"), world))
    engine = load(place, shop(Pay(world, on_unknown="ask"), world))
    if not place.options:
        engine.resolve("pay", object())
        assert engine.unknown() == []
        return
    with pytest.raises(exceptions.Unstorable, match="'pay'"):
        engine.resolve("pay", object())
    assert [call.name for call in engine.unknown()] == ["pay"]


def test_find_outcome_gets_what_execute_takes_for_arguments_that_nobody_gives(place):
    asked = []

    class Looks(task.Task):
        default_provides = "receipt"

        def execute(self, amount, currency="EUR"):
            raise KeyboardInterrupt

        def find_outcome(self, idempotency_key, currency, amount):
            asked.append((currency, amount))
            return "paid"

    interrupted(place, lambda: linear_flow.Flow("f").add(Looks("pay")))
    engine = load(place, linear_flow.Flow("f").add(Looks("pay")))
    engine.run()
    assert asked == [("EUR", 5)]
    assert engine.storage.fetch("receipt") == "paid"


def test_nobody_is_asked_about_a_call_that_could_not_begin_in_its_flow(place):
    world, clock = World(), testing.VirtualClock()

    class Long(Note):
        def execute(self, **kwargs):
            clock.advance(7)

    pay = Pay(world, on_unknown="ask")
    inner = linear_flow.Flow("inner", timeout=5).add(unordered_flow.Flow("both").add(Long("long", world)), pay)
    engine = load(place, inner, "asyncio", clock=clock)
    with pytest.raises(exceptions.TimeoutExceeded, match="'inner'"):
        engine.run()
    assert engine.unknown() == []
    assert world.calls == ["undo long"]


@pytest.mark.parametrize("mode", ["undo", "ask", "repeat"])
@pytest.mark.parametrize("executor", ["asyncio", "threads", "serial"])
def test_a_call_that_has_returned_after_its_time_limit_has_a_known_outcome(executor, mode):
    clock, undone = testing.VirtualClock(), []

    class Late(task.Task):
        def execute(self):
            clock.advance(30)
            return "done"

        def revert(self, result, **kwargs):
            undone.append(result)

    class LateCoroutine(Late):
        async def execute(self):
            return Late.execute(self)

    kind = LateCoroutine if executor == "asyncio" else Late
    flow = linear_flow.Flow("f").add(kind("late", timeout=10, on_unknown=mode))
    with pytest.raises(exceptions.TimeoutExceeded, match="time limit of 10 seconds"):
        engines.load(flow, executor=executor, clock=clock).run()
    assert undone == ["done"]
