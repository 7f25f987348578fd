"""Deciders, retries and hooks that are coroutine functions: asked where a step cannot wait, and answered later."""

import asyncio
import functools
import threading

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends


def load(flow, **options):
    return engines.load(flow, executor="asyncio", **options)


def run(engine, **options):
    engine.run(**options)


def arun(engine, **options):
    asyncio.run(engine.arun(**options))


def run_iter(engine):
    for _ in engine.run_iter():
        pass


def arun_iter(engine):
    async def iterate():
        async for _ in engine.arun_iter():
            pass

    asyncio.run(iterate())


ways = pytest.mark.parametrize("way", [run, arun, run_iter, arun_iter])
both = pytest.mark.parametrize("way", [run, arun])


class Notes(task.Task):
    """Notes that it ran, and that it was undone; fails so often."""

    def __init__(self, name, notes, fails=0, **kwargs):
        super().__init__(name, **kwargs)
        self.notes, self.fails = notes, fails

    def execute(self):
        self.fails -= 1
        if self.fails >= 0:
            raise ValueError(f"{self.name} fails")
        self.notes.append(self.name)
        return self.name

    def revert(self, **_):
        self.notes.append(f"undo {self.name}")


class Asks(retry.Retry):
    """Answers what it is told to, one answer after another."""

    def __init__(self, name, notes, answers, before=None, **kwargs):
        super().__init__(name, **kwargs)
        self.notes, self.answers, self.before = notes, answers, before

    async def execute(self, history, **_):
        await asyncio.sleep(0)
        self.notes.append(f"{self.name} {len(history)}")
        return len(history)

    async def revert(self, history, **_):
        await asyncio.sleep(0)
        self.notes.append(f"undo {self.name}")

    async def on_failure(self, history, **_):
        if self.before is not None:
            await self.before(self)
        await asyncio.sleep(0)
        self.notes.append(f"{self.name} asked")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def states_of(engine):
    return {one.name: one.state for one in engine.storage.record.rows if one is not None}


def linked(notes, decider=None, depth=None, *, when=None, before=None):
    a, b, c = before or Notes("a", notes, provides="size"), Notes("b", notes), Notes("c", notes)
    return graph_flow.Flow("f").add(a, b, c).link(a, b, decider, depth, when=when).link(b, c)


# -- hooks -------------------------------------------------------------------------------------------------------------


class Hooked(Notes):
    async def pre_execute(self):
        await asyncio.sleep(0)
        self.notes.append("pre_execute")

    async def post_execute(self):
        await asyncio.sleep(0)
        self.notes.append("post_execute")

    async def pre_revert(self):
        await asyncio.sleep(0)
        self.notes.append("pre_revert")

    async def post_revert(self):
        await asyncio.sleep(0)
        self.notes.append("post_revert")


@ways
def test_hooks_are_awaited_around_plain_methods(way):
    notes = []
    engine = load(linear_flow.Flow("f").add(Hooked("a", notes), Notes("b", [], fails=1)))
    with pytest.raises(ValueError, match="b fails"):
        way(engine)
    assert notes == ["pre_execute", "a", "post_execute", "pre_revert", "undo a", "post_revert"]


@both
@pytest.mark.parametrize("hook", ["pre_execute", "post_execute"])
def test_an_error_in_a_hook_is_a_failure_of_its_task(way, hook):
    async def fails(self):
        await asyncio.sleep(0)
        raise KeyError(hook)

    kind = type("Kind", (Notes,), {hook: fails})
    with pytest.raises(KeyError, match=hook):
        way(load(kind("a", [])))


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
@pytest.mark.parametrize("hook", ["pre_execute", "post_execute", "pre_revert", "post_revert"])
def test_a_hook_that_nobody_awaits_is_refused(executor, hook):
    async def later(self):
        """Never begun."""

    notes = []
    flow = linear_flow.Flow("f").add(Notes("a", notes), type("Kind", (Notes,), {hook: later})("odd", notes))
    with pytest.raises(exceptions.CompilationFailure, match=r"Atom 'odd' .*later is a coroutine .*'asyncio' awaits"):
        engines.load(flow, executor=executor).run()
    assert notes == []


# -- deciders ----------------------------------------------------------------------------------------------------------


@ways
@pytest.mark.parametrize(
    ("agrees", "depth", "ran", "skipped"),
    [(True, None, ["a", "b", "c"], []), (False, None, ["a"], ["b", "c"]), (False, "ATOM", ["a", "c"], ["b"])],
)
def test_a_decider_is_awaited(way, agrees, depth, ran, skipped):
    notes, seen = [], []

    async def decide(history):
        await asyncio.sleep(0)
        seen.append(history)
        return agrees

    engine = load(linked(notes, decide, depth))
    way(engine)
    assert (notes, seen) == (ran, [{"a": "a"}])
    assert [name for name, state in states_of(engine).items() if state == states.IGNORE] == skipped


class Callable:
    async def __call__(self, size):
        await asyncio.sleep(0)
        return size == "b"


async def is_it(size, what):
    await asyncio.sleep(0)
    return size == what


@both
@pytest.mark.parametrize("when", [Callable(), functools.partial(is_it, what="b")], ids=["object", "partial"])
def test_a_condition_by_names_is_awaited(way, when):
    notes = []
    way(load(linked(notes, when=when)))
    assert notes == ["a"]


@both
def test_plain_and_awaited_deciders_before_one_atom_are_asked_together(way):
    notes, seen = [], []

    async def later(history):
        seen.append(("later", sorted(history)))
        return True

    a, b, c = (Notes(name, notes) for name in "abc")
    flow = graph_flow.Flow("f").add(a, b, c).link(a, c, later)
    flow.link(b, c, lambda history: seen.append(("now", sorted(history))), "ATOM")
    engine = load(flow)
    way(engine)
    assert sorted(seen) == [("later", ["a", "b"]), ("now", ["a", "b"])]
    assert states_of(engine)["c"] == states.IGNORE


@both
def test_an_error_in_a_decider_fails_the_atom_after_it_as_of_a_plain_one(way):
    notes = []

    async def decide(history):
        await asyncio.sleep(0)
        raise KeyError("undecided")

    with pytest.raises(KeyError, match="undecided"):
        way(load(linked(notes, decide)))
    assert notes == ["a", "undo a"]


@both
def test_what_does_not_depend_on_an_answer_goes_on_meanwhile(way):
    notes, told = [], []

    async def decide(history):
        while "far" not in notes:  # noqa: ASYNC110 - a plain list, which a thread writes to
            await asyncio.sleep(0)
        told.append("decided")
        return True

    flow = linked(notes, decide)
    way(load(unordered_flow.Flow("u").add(flow, linear_flow.Flow("l").add(Notes("near", notes), Notes("far", notes)))))
    assert told == ["decided"]
    assert notes.index("far") < notes.index("b")


@both
def test_a_decider_is_asked_again_in_each_round_of_a_retry(way):
    notes, asked = [], []

    async def decide(history):
        await asyncio.sleep(0)
        asked.append(len(asked))
        return len(asked) > 1

    flow = linked(notes, decide, "ATOM")
    flow.add(last := Notes("last", notes, fails=1)).link(next(one for one in flow if one.name == "c"), last)
    engine = load(linear_flow.Flow("f", retry=retry.Times(3, "r")).add(flow))
    way(engine)
    assert asked == [0, 1]
    assert notes == ["a", "c", "undo last", "undo c", "undo a", "a", "b", "c", "last"]


@both
def test_an_answer_for_what_was_rolled_back_meanwhile_does_not_count(way):
    """A failure beside the decided atom comes while its decider is awaited: the next round asks for itself."""
    notes, asked = [], []
    go, awaited = [], threading.Event()

    class Waits(Notes):
        def execute(self):
            assert awaited.wait(60)

    async def decide(history):
        asked.append(len(asked))
        awaited.set()
        if len(asked) == 1:
            while not go:  # noqa: ASYNC110 - a plain list, which a thread writes to
                await asyncio.sleep(0)
            return False
        return True

    class Again(retry.Times):
        def execute(self, history, **_):
            if history:
                go.append("the region runs again")

    flow = graph_flow.Flow("g").add(a := Notes("a", notes), b := Notes("b", notes)).link(a, b, decide)
    beside = linear_flow.Flow("l").add(Waits("x", []), Notes("fails", notes, fails=1))
    engine = load(linear_flow.Flow("f", retry=Again(2, "r")).add(unordered_flow.Flow("u").add(flow, beside)))
    way(engine)
    assert asked == [0, 1]
    assert states_of(engine)["b"] == states.SUCCESS


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
@pytest.mark.parametrize("how", ["decider", "when"])
def test_a_decider_that_nobody_awaits_is_refused(executor, how):
    async def decide(**_):
        """Never begun."""

    notes = []
    with pytest.raises(
        exceptions.CompilationFailure, match=r"decider before 'b' .*decide is a coroutine .*executor='asyncio' awaits"
    ):
        engines.load(linked(notes, **{how: decide}), executor=executor).run()
    assert notes == []


# -- retries -----------------------------------------------------------------------------------------------------------


@ways
def test_a_retry_is_awaited_in_all_that_it_does(way):
    notes = []
    controller = Asks("r", notes, [retry.RETRY, retry.REVERT], provides="n")
    engine = load(linear_flow.Flow("f", retry=controller).add(Notes("a", notes), Notes("b", [], fails=9)))
    with pytest.raises(ValueError, match="b fails"):
        way(engine)
    assert notes == ["r 0", "a", "r asked", "undo a", "r 1", "a", "r asked", "undo a", "undo r"]


@both
def test_retries_are_asked_from_the_inside_out_each_once(way):
    notes = []
    inner = linear_flow.Flow("i", retry=Asks("inner", notes, [retry.REVERT, retry.REVERT])).add(
        Notes("a", notes, fails=1)
    )
    engine = load(linear_flow.Flow("o", retry=Asks("outer", notes, [retry.RETRY])).add(inner))
    way(engine)
    assert notes == [
        *("outer 0", "inner 0", "inner asked", "outer asked", "undo a", "undo inner"),
        *("outer 1", "inner 0", "a"),
    ]
    assert len(engine.storage.get_retry_history("outer")) == 2


class AsksAtOnce(Asks):
    """The same in plain methods."""

    def execute(self, history, **_):
        self.notes.append(f"{self.name} {len(history)}")
        return len(history)

    def revert(self, history, **_):
        self.notes.append(f"undo {self.name}")

    def on_failure(self, history, **_):
        self.notes.append(f"{self.name} asked")
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@both
@pytest.mark.parametrize("answer", [KeyError("lost"), "perhaps", retry.REVERT, retry.REVERT_ALL, retry.RETRY], ids=str)
@pytest.mark.parametrize("next_answer", [KeyError("gone"), retry.REVERT, retry.RETRY], ids=str)
def test_whatever_a_retry_answers_is_taken_as_from_a_plain_one(way, answer, next_answer):
    outcomes = []
    kinds = Asks, AsksAtOnce
    for kind, kind_around, run_it in (*((one, other, way) for one in kinds for other in kinds), (*kinds[1:] * 2, run)):
        notes = []
        inner = linear_flow.Flow("i", retry=kind("inner", notes, [answer, retry.REVERT_ALL])).add(
            Notes("a", notes), Notes("b", notes, fails=2)
        )
        engine = load(linear_flow.Flow("o", retry=kind_around("outer", notes, [next_answer, retry.REVERT])).add(inner))
        error = None
        try:
            run_it(engine)
        except Exception as raised:  # noqa: BLE001 - whatever it is, it is compared
            error = (type(raised), str(raised))
        outcomes.append((notes, states_of(engine), engine.storage.get_flow_state(), error))
    assert all(one == outcomes[0] for one in outcomes)


@both
@pytest.mark.parametrize("answer", [retry.REVERT, KeyError("lost")], ids=str)
def test_a_plain_retry_is_asked_once_whatever_is_delivered_while_the_one_around_it_is_awaited(way, answer):
    notes, beside, all_ended = [], [], asyncio.Event()

    async def wait_for_all(controller):
        await all_ended.wait()

    class Slow(Notes):
        async def execute(self):
            for _ in range(3 * int(self.name)):
                await asyncio.sleep(0)
            super().execute()
            if len(beside) == 5:
                all_ended.set()

    inner = linear_flow.Flow("i", retry=AsksAtOnce("inner", notes, [answer])).add(Notes("fails", notes, fails=9))
    outer = linear_flow.Flow("o", retry=Asks("outer", notes, [retry.REVERT], before=wait_for_all)).add(inner)
    engine = load(unordered_flow.Flow("u").add(outer, *(Slow(f"{n}", beside) for n in range(5))))
    with pytest.raises((ValueError, exceptions.WrappedFailure)):
        way(engine)
    asked = [note for note in notes if note.endswith("asked")]
    assert (asked, sorted(beside)[:5]) == (["inner asked", "outer asked"], list("01234"))


@both
def test_nothing_new_starts_before_a_failure_is_resolved(way):
    notes, beside = [], []

    async def look(controller):
        for _ in range(20):
            await asyncio.sleep(0)
        beside.extend(notes)

    class Quick(Notes):
        async def execute(self):
            return super().execute()

    class Slow(Notes):
        async def execute(self):
            for _ in range(5):
                await asyncio.sleep(0)
            return super().execute()

    flow = unordered_flow.Flow("u", retry=Asks("r", [], [retry.REVERT], before=look)).add(
        Quick("fails", notes, fails=1), linear_flow.Flow("l").add(Slow("slow", notes), Quick("next", notes))
    )
    with pytest.raises(ValueError, match="fails fails"):
        way(load(flow))
    assert (beside, "next" in notes) == (["slow"], False)


@both
def test_failures_that_come_while_one_is_asked_about_are_resolved_after_it(way):
    notes = []

    async def wait(controller):
        for _ in range(10):
            await asyncio.sleep(0)

    class Fails(Notes):
        async def execute(self):
            for _ in range(3 * (self.name == "second")):
                await asyncio.sleep(0)
            return super().execute()

    controller = Asks("r", notes, [retry.RETRY, retry.RETRY], before=wait)
    flow = unordered_flow.Flow("u", retry=controller).add(
        Fails("first", notes, fails=1), Fails("second", notes, fails=1)
    )
    engine = load(flow)
    way(engine)
    assert set(engine.storage.get_retry_history("r")[0][1]) == {"first", "second"}
    assert states_of(engine) == dict.fromkeys(("r", "first", "second"), states.SUCCESS)


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
@pytest.mark.parametrize("method", ["execute", "revert", "on_failure"])
def test_a_retry_that_nobody_awaits_is_refused(executor, method):
    async def later(self, *_, **__):
        """Never begun."""

    notes = []
    controller = type("Kind", (retry.Times,), {method: later})(2, "r")
    with pytest.raises(exceptions.CompilationFailure, match=r"Atom 'r' .*later is a coroutine .*'asyncio' awaits"):
        engines.load(linear_flow.Flow("f", retry=controller).add(Notes("a", notes)), executor=executor).run()
    assert notes == []


# -- runs that are left ------------------------------------------------------------------------------------------------


@pytest.fixture(params=["memory", "dir", "sqlite"])
def store(request, tmp_path):
    address = {"memory": "memory", "dir": f"dir://{tmp_path}/d", "sqlite": f"sqlite:///{tmp_path}/s.sqlite"}
    with backends.backend(address[request.param]) as opened:
        yield opened


async def _cancelled_in(engine, reached):
    running = asyncio.ensure_future(engine.arun())
    while not reached:  # noqa: ASYNC110 - a plain list, which is kept from run to run
        await asyncio.sleep(0)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


def _hangs_once(reached):
    async def wait(*_, **__):
        reached.append("here")
        if len(reached) == 1:
            await asyncio.Event().wait()

    return wait


def test_a_run_that_is_cancelled_in_a_decider_is_suspended_and_asks_it_again(store):
    notes, reached = [], []
    wait = _hangs_once(reached)

    async def decide(history):
        await wait()
        return True

    engine = load(linked(notes, decide), backend=store)
    asyncio.run(_cancelled_in(engine, reached))
    assert (engine.storage.get_flow_state(), notes) == (states.SUSPENDED, ["a"])
    again = load(linked(notes, decide), backend=store, flow_detail=engine.storage.record.flow_detail)
    again.run()
    assert (len(reached), notes) == (2, ["a", "b", "c"])


def test_a_run_that_is_cancelled_in_on_failure_is_suspended_and_asks_it_again(store):
    notes, reached = [], []

    def make(fails):
        controller = Asks("r", notes, [retry.RETRY], before=_hang)
        return linear_flow.Flow("f", retry=controller).add(Notes("a", notes), Notes("b", notes, fails=fails))

    _hang = _hangs_once(reached)
    engine = load(make(1), backend=store)
    asyncio.run(_cancelled_in(engine, reached))
    assert (engine.storage.get_flow_state(), notes) == (states.SUSPENDED, ["r 0", "a"])
    arun(load(make(0), backend=store, flow_detail=engine.storage.record.flow_detail))
    assert (len(reached), notes) == (2, ["r 0", "a", "r asked", "undo b", "undo a", "r 1", "a", "b"])


def test_a_run_that_is_cancelled_in_the_execute_of_a_retry_executes_it_again(store):
    notes, reached = [], []
    wait = _hangs_once(reached)

    class Waits(Asks):
        async def execute(self, history, **_):
            await wait()
            return await super().execute(history)

    def make():
        return linear_flow.Flow("f", retry=Waits("r", notes, [])).add(Notes("a", notes))

    engine = load(make(), backend=store)
    asyncio.run(_cancelled_in(engine, reached))
    assert (engine.storage.get_flow_state(), notes) == (states.SUSPENDED, [])
    load(make(), backend=store, flow_detail=engine.storage.record.flow_detail).run()
    assert notes == ["r 0", "a"]


@both
@pytest.mark.parametrize("asked", ["decider", "on_failure"])
def test_a_run_that_is_suspended_while_it_asks_lets_the_answer_come_and_starts_nothing(way, asked):
    notes, calls = [], []

    async def suspend(*_, **__):
        calls.append("asked")
        if len(calls) == 1:
            engine.suspend()
            for _ in range(5):
                await asyncio.sleep(0)
        return True

    if asked == "decider":
        engine = load(linked(notes, suspend))
    else:
        controller = Asks("r", [], [retry.RETRY], before=suspend)
        engine = load(linear_flow.Flow("f", retry=controller).add(Notes("a", notes, fails=1)))
    way(engine)
    assert engine.storage.get_flow_state() == states.SUSPENDED
    assert "b" not in notes
    way(engine)
    assert engine.storage.get_flow_state() == states.SUCCESS


@both
def test_a_failure_of_a_run_that_is_to_stop_is_asked_about_when_it_goes_on(way):
    notes = []

    class Fails(Notes):
        def execute(self):
            if self.fails:
                engine.suspend()
            return super().execute()

    controller = Asks("r", notes, [retry.RETRY])
    engine = load(linear_flow.Flow("f", retry=controller).add(Fails("a", notes, fails=1)))
    way(engine)
    assert (engine.storage.get_flow_state(), notes) == (states.SUSPENDED, ["r 0"])
    way(engine)
    assert notes == ["r 0", "r asked", "undo a", "r 1", "a"]


@both
@pytest.mark.parametrize("asked", ["decider", "on_failure"])
def test_the_time_of_a_run_may_be_up_while_it_asks(way, asked):
    notes, slow = [], [True]

    async def wait(*_, **__):
        if slow:
            slow.pop()
            await asyncio.sleep(0.02)
        return True

    if asked == "decider":
        engine = load(linked(notes, wait))
    else:
        controller = Asks("r", [], [retry.RETRY], before=wait)
        engine = load(linear_flow.Flow("f", retry=controller).add(Notes("a", notes, fails=1)))
    with pytest.raises(TimeoutError):
        way(engine, timeout=0.01)
    assert engine.storage.get_flow_state() == states.SUSPENDED
    way(engine)
    assert engine.storage.get_flow_state() == states.SUCCESS


@both
@pytest.mark.parametrize("most", [1, 2])
def test_a_limit_of_workers_holds_for_questions_too(way, most):
    notes = []

    async def decide(history):
        await asyncio.sleep(0)
        return True

    flow = unordered_flow.Flow("u")
    for n in range(4):
        a, b = Notes(f"a{n}", notes), Notes(f"b{n}", notes)
        flow.add(graph_flow.Flow(f"g{n}").add(a, b).link(a, b, decide))
    engine = load(flow, max_workers=most)
    way(engine)
    assert len(notes) == 8


@both
def test_what_is_ready_while_a_failure_is_asked_about_takes_nothing_of_a_limit(way):
    notes = []

    class Slow(Notes):
        async def execute(self):
            await asking.wait()
            ended.set()
            return super().execute()

    async def wait_for_slow(controller):
        asking.set()
        await ended.wait()
        for _ in range(5):  # turns in which what follows it is ready
            await asyncio.sleep(0)

    asking, ended = asyncio.Event(), asyncio.Event()
    controller = Asks("r", [], [retry.RETRY], before=wait_for_slow)
    flow = unordered_flow.Flow("u").add(
        linear_flow.Flow("fails", retry=controller).add(Notes("first", notes, fails=1)),
        linear_flow.Flow("l").add(Slow("slow", notes), *(Notes(name, notes, limits=("db",)) for name in "ab")),
    )
    way(load(flow, limits={"db": 1}))
    assert sorted(notes) == ["a", "b", "first", "slow", "undo first"]


def test_without_coroutine_functions_a_run_has_no_questions():
    engine = load(linked([], lambda history: True))
    engine.compile()
    plan = engine.compilation.plan
    assert (plan.awaits_before, plan.awaits_after) == (set(), set())
