"""Limits in a run: who waits, who passes, and what becomes of what waits. Orders are scripted."""

import asyncio
import concurrent.futures
import sys
import threading
import time

import pytest

import taskflowx
from taskflowx import engines, exceptions, retry, states, task, testing
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from tests.support import flows

HERE = "taskflowx/engines"


class Notes(task.Task):
    """Notes when it begins and is undone, and fails if it is told to."""

    def __init__(self, name, log=None, fails=False, priority=0, **settings):
        super().__init__(name, **settings)
        self.log = [] if log is None else log
        self.fails, self.priority = fails, priority

    def execute(self):
        self.log.append(self.name)
        if self.fails:
            raise ValueError(self.name)

    def revert(self):
        self.log.append(f"undo {self.name}")


class ToHost(task.Task):
    def __init__(self, name, log, **settings):
        super().__init__(name, **settings)
        self.log = log

    def execute(self, host):
        self.log.append((self.name, host))


def held_at(steps, executor):
    """Go on to the next wait for calls, and return the names of those that are under way there."""
    for state in steps:
        if state == states.WAITING and executor.held:
            break
    return sorted(call.atom.name for call in executor.held)


def loaded(flow, executor=None, **options):
    executor = executor or testing.ScriptedExecutor(hold=True)
    return engines.load(flow, executor=executor, **options), executor


# -- capacities ------------------------------------------------------------------------------------


def test_no_more_begin_at_once_than_the_capacity():
    flow = flows.unordered("f", *(Notes(f"t{n}", limits=("db",)) for n in range(5)))
    engine, executor = loaded(flow, limits={"db": 2})
    steps = engine.run_iter()
    assert held_at(steps, executor) == ["t0", "t1"]
    executor.release_named("t1")
    assert held_at(steps, executor) == ["t0", "t2"]
    executor.release_named("t0")
    executor.release_named("t2")
    assert held_at(steps, executor) == ["t3", "t4"]
    executor.release(2)
    assert list(steps)[-1] == states.SUCCESS


def test_amounts_count():
    flow = flows.unordered(
        "f", Notes("large", limits={"db": 3}), Notes("b", limits={"db": 2}), Notes("c", limits=("db",))
    )
    engine, executor = loaded(flow, limits={"db": 3})
    steps = engine.run_iter()
    assert held_at(steps, executor) == ["large"]
    executor.release(1)
    assert held_at(steps, executor) == ["b", "c"]
    executor.release(2)
    assert list(steps)[-1] == states.SUCCESS


def test_priorities_decide_who_goes_first():
    tasks = [Notes(f"t{n}", priority=n, limits=("db",)) for n in range(4)]
    engine, executor = loaded(flows.unordered("f", *tasks), limits={"db": 1})
    order = []
    for state in engine.run_iter():
        if state == states.WAITING and executor.held:
            order += [call.atom.name for call in executor.held]
            executor.release(1)
    assert order == ["t3", "t2", "t1", "t0"]


def test_who_waits_is_passed_by_those_who_need_something_else():
    flow = flows.unordered(
        "f", Notes("a", limits=("db",)), Notes("b", limits=("db",)), Notes("c"), Notes("d", limits=("host",))
    )
    engine, executor = loaded(flow, limits={"db": 1, "host": 1})
    steps = engine.run_iter()
    assert held_at(steps, executor) == ["a", "c", "d"]
    executor.release(3)
    assert held_at(steps, executor) == ["b"]
    executor.release(1)
    assert list(steps)[-1] == states.SUCCESS


def test_a_class_has_limits():
    class Queries(Notes):
        default_limits = ("db",)

    engine, executor = loaded(flows.unordered("f", Queries("a"), Queries("b")), limits={"db": 1})
    steps = engine.run_iter()
    assert held_at(steps, executor) == ["a"]
    steps.close()


def test_names_are_filled_from_the_arguments_of_the_call():
    log = []
    flow = unordered_flow.Flow("f").add(
        *(ToHost(f"{host}{n}", log, inject={"host": host}, limits=("host:{host}",)) for host in "xy" for n in range(2))
    )
    engine, executor = loaded(flow, limits={"host:*": 1})
    steps = engine.run_iter()
    assert held_at(steps, executor) == ["x0", "y0"]
    executor.release_named("y0")
    assert held_at(steps, executor) == ["x0", "y1"]
    executor.release(2)
    assert held_at(steps, executor) == ["x1"]
    executor.release(1)
    assert list(steps)[-1] == states.SUCCESS


def test_a_name_is_filled_with_what_was_provided_before():
    log = []
    flow = linear_flow.Flow("f").add(
        task.FunctorTask(lambda: "far", name="finds", provides="host"),
        unordered_flow.Flow("g").add(*(ToHost(f"t{n}", log, limits=("host:{host}",)) for n in range(2))),
    )
    engine, executor = loaded(flow, limits={"host:*": 5, "host:far": 1})
    steps = engine.run_iter()
    assert held_at(steps, executor) == ["finds"]
    executor.release(1)
    assert held_at(steps, executor) == ["t0"]
    steps.close()


def test_two_names_that_become_one_take_no_more_than_there_is():
    class Copies(task.Task):
        def execute(self, a, b):
            return a, b

    engine, executor = loaded(
        flows.unordered("f", Copies("c", limits=("host:{a}", "host:{b}"))), limits={"host:*": 1}, store={"a": 1, "b": 1}
    )
    executor.run(engine)
    assert engine.storage.get("c") == (1, 1)


def test_a_limit_of_its_own_that_is_never_reached_does_not_give_way_to_that_of_a_pattern():
    tasks = [Notes(f"t{n}", limits=("host:far",)) for n in range(3)]
    engine, executor = loaded(flows.unordered("f", *tasks), limits={"host:*": 1, "host:far": 3})
    steps = engine.run_iter()
    assert held_at(steps, executor) == ["t0", "t1", "t2"]
    steps.close()


@pytest.mark.parametrize(
    "options",
    [
        {"executor": "threads", "max_workers": 2, "limits": {"db": 2}},
        {"executor": "threads", "limits": {"db": 50}, "rates": {"db": (50, 1.0)}},
        {"executor": "serial", "limits": {"db": 1}},
        {"executor": "threads", "limits": {"*": None}},
    ],
    ids=["no more begin at once", "no more are there", "one after another", "none"],
)
def test_limits_that_cannot_be_reached_are_none(options):
    engine = engines.load(flows.unordered("f", *(flows.Plain(f"t{n}", limits=("db",)) for n in range(50))), **options)
    engine.compile()
    assert engine.preparation.plan.limited.kinds == {}


def test_none_is_no_limit():
    flow = flows.unordered("f", *(Notes(f"t{n}", limits=("db",)) for n in range(5)))
    engine, executor = loaded(flow, limits={"*": None})
    steps = engine.run_iter()
    assert len(held_at(steps, executor)) == 5
    steps.close()


def test_max_in_flight_counts_all_calls():
    flow = flows.unordered("f", *(Notes(f"t{n}") for n in range(5)))
    engine, executor = loaded(flow, max_in_flight=2)
    steps = engine.run_iter()
    assert held_at(steps, executor) == ["t0", "t1"]
    executor.release(1)
    assert len(held_at(steps, executor)) == 2
    executor.release(2)
    assert len(held_at(steps, executor)) == 2
    executor.release(2)
    assert list(steps)[-1] == states.SUCCESS


def test_controllers_need_no_room():
    parts = [linear_flow.Flow(f"p{n}", retry.Times(2, f"r{n}")).add(Notes(f"t{n}")) for n in range(3)]
    engine, executor = loaded(flows.unordered("f", *parts), max_in_flight=1)
    steps = engine.run_iter()
    assert len(held_at(steps, executor)) == 1
    for _ in range(2):
        executor.release(1)
        assert len(held_at(steps, executor)) == 1
    executor.release(1)
    assert list(steps)[-1] == states.SUCCESS


@pytest.mark.parametrize("inline", [True, False], ids=["inline", "workers"])
@pytest.mark.parametrize("executor", ["threads", "asyncio"])
def test_calls_themselves_count_no_more_than_the_capacity(executor, inline):
    lock, now, most = threading.Lock(), [0], [0]

    def work():
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.0005)  # noqa: TID251 - it holds what it has while others run
        with lock:
            now[0] -= 1

    flow = unordered_flow.Flow("f").add(
        *(task.FunctorTask(work, name=f"t{n}", limits={"db": 1 + n % 2}) for n in range(60))
    )
    engines.run(flow, executor=executor, max_workers=6, inline=inline, limits={"db": 3})
    assert 1 <= most[0] <= 3


# -- rollback --------------------------------------------------------------------------------------


def test_what_waits_in_a_region_that_is_rolled_back_never_begins():
    log = []
    flow = unordered_flow.Flow("f").add(
        Notes("a", log, fails=True, limits=("db",)), *(Notes(f"t{n}", log, limits=("db",)) for n in range(3))
    )
    engine, executor = loaded(flow, limits={"db": 2})
    with pytest.raises(ValueError, match="a"):
        executor.run(engine, order=["a", "t0"])
    assert log[:2] == ["a", "t0"]
    assert sorted(log[2:]) == ["undo a", "undo t0"]
    assert engine.storage.get_flow_state() == states.REVERTED
    assert engine.not_undone() == []


def test_what_waits_elsewhere_goes_on():
    log = []
    part = linear_flow.Flow("p", retry.Times(2, "r")).add(Notes("fails", log, limits=("db",)))
    attempts = []

    def execute(self):
        log.append("fails")
        attempts.append(1)
        if len(attempts) < 2:
            raise ValueError("once")

    flow = unordered_flow.Flow("f").add(part, *(Notes(f"t{n}", log, limits=("db",)) for n in range(3)))
    next(iter(part)).execute = execute.__get__(next(iter(part)))
    engine, executor = loaded(flow, limits={"db": 1})
    executor.run(engine)
    assert sorted(log) == ["fails", "fails", "t0", "t1", "t2", "undo fails"]
    assert engine.storage.get_flow_state() == states.SUCCESS


@pytest.mark.parametrize(("shared", "under_way"), [("own", ["c", "undo a"]), ("shared", ["c"])])
def test_reverts_have_their_own_capacity_unless_it_is_shared(shared, under_way):
    reverted = linear_flow.Flow("p", retry.AlwaysRevert("r")).add(Notes("a", limits=("db",)), Notes("b", fails=True))
    other = linear_flow.Flow("q").add(Notes("x"), Notes("y"), Notes("c", limits=("db",)))
    engine, executor = loaded(flows.unordered("f", reverted, other), limits={"db": 1}, revert_limits=shared)
    steps = engine.run_iter()
    assert held_at(steps, executor) == ["x"]  # the controller was executed here
    executor.release_named("x")
    assert held_at(steps, executor) == ["a", "y"]
    executor.release_named("a")
    assert held_at(steps, executor) == ["b", "y"]
    executor.release_named("y")
    assert held_at(steps, executor) == ["b", "c"]
    executor.release_named("b")
    held_at(steps, executor)
    executor.release_named("b")  # it is undone, too
    held_at(steps, executor)
    verbs = {states.EXECUTE: "", states.REVERT: "undo "}
    assert sorted(verbs[call.verb] + call.atom.name for call in executor.held) == under_way
    executor.release_named("c")
    assert held_at(steps, executor) == ["a"]
    executor.release(1)
    with pytest.raises(ValueError, match="b"):
        list(steps)


def test_reverts_keep_the_capacity():
    tasks = [Notes(f"t{n}", limits=("db",)) for n in range(4)]
    flow = linear_flow.Flow("f").add(unordered_flow.Flow("g").add(*tasks), Notes("last", fails=True))
    engine, executor = loaded(flow, limits={"db": 2})
    undone = []

    def run():
        for state in engine.run_iter():
            if state == states.WAITING:
                undone.append(sum(call.verb == states.REVERT for call in executor.held))
                executor.release(1)

    with pytest.raises(ValueError, match="last"):
        run()
    assert max(undone) == 2
    assert all(f"undo t{n}" in tasks[n].log for n in range(4))


# -- suspension and resume -------------------------------------------------------------------------


def test_what_waits_is_unfinished_and_queues_again_when_the_run_goes_on():
    log = []
    flow = flows.unordered("f", *(Notes(f"t{n}", log, limits=("db",)) for n in range(3)))
    engine, executor = loaded(flow, limits={"db": 1})
    steps = engine.run_iter()
    assert held_at(steps, executor) == ["t0"]
    engine.suspend()
    executor.release(1)
    assert list(steps)[-1] == states.SUSPENDED
    assert log == ["t0"]
    executor.run(engine)
    assert log == ["t0", "t1", "t2"]
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_a_run_whose_time_is_up_keeps_what_waits():
    log = []
    flow = flows.unordered("f", *(Notes(f"t{n}", log, limits=("api",)) for n in range(3)))
    engine = engines.load(flow, executor="threads", rates={"api": (1, 300)})
    with pytest.raises(TimeoutError):
        engine.run(timeout=0.05)
    assert log == ["t0"]
    assert engine.storage.get_flow_state() == states.SUSPENDED
    assert [engine.storage.get_atom_state(f"t{n}") for n in range(3)] == [
        states.SUCCESS,
        states.PENDING,
        states.PENDING,
    ]


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_a_run_that_waits_for_a_rate_can_be_suspended(executor):
    log = []
    flow = flows.unordered("f", *(Notes(f"t{n}", log, limits=("api",)) for n in range(3)))
    engine = engines.load(flow, executor=executor, rates={"api": (1, 300)})
    timer = threading.Timer(0.05, engine.suspend)
    timer.start()
    engine.run()
    timer.join()
    assert log == ["t0"]
    assert engine.storage.get_flow_state() == states.SUSPENDED


@pytest.mark.parametrize("place", ["sqlite:///{}/runs.db", "dir://{}/runs"], ids=["sqlite", "dir"])
def test_nothing_of_limits_is_in_the_record(place, tmp_path):
    class Counted(Notes):
        def execute(self, attempt):
            self.log.append((self.name, attempt))

    log = []
    flow = flows.unordered("f", *(Counted(f"t{n}", log, limits=("db",)) for n in range(6)))
    address = place.format(tmp_path)
    with engines.load(flow, executor="threads", max_workers=2, limits={"db": 1}, backend=address) as engine:
        engine.atom_notifier.register(states.SUCCESS, lambda *_: engine.suspend())
        engine.run()
        assert engine.storage.get_flow_state() == states.SUSPENDED
        engine.atom_notifier.reset()
        engine.run()
    assert log == [(f"t{n}", 1) for n in range(6)]


# -- rates -----------------------------------------------------------------------------------------


def arun(engine):
    asyncio.run(engine.arun())


@pytest.mark.parametrize(
    ("executor", "run"),
    [
        ("serial", engines.engine.ActionEngine.run),
        ("threads", engines.engine.ActionEngine.run),
        ("asyncio", engines.engine.ActionEngine.run),
        ("asyncio", arun),
        ("serial", arun),
        ("threads", arun),
    ],
    ids=["serial", "threads", "asyncio", "asyncio in a loop", "serial in a loop", "threads in a loop"],
)
def test_a_rate_delays(executor, run):
    times = []
    flow = unordered_flow.Flow("f").add(
        *(task.FunctorTask(lambda: times.append(time.monotonic()), name=f"t{n}", limits=("api",)) for n in range(6))
    )
    began = time.monotonic()
    run(engines.load(flow, executor=executor, rates={"api": (2, 0.02)}))
    assert len(times) == 6
    assert max(times) - began >= 0.04


def test_a_serial_run_that_waits_lets_others_pass():
    log = []
    flow = flows.unordered("f", *(Notes(f"t{n}", log, limits=("api",)) for n in range(2)), Notes("other", log))
    engines.run(flow, rates={"api": (1, 0.02)})
    assert log == ["t0", "other", "t1"]


def test_rates_count_each_attempt():
    class Third(task.Task):
        tries = 0

        def execute(self):
            self.tries += 1
            if self.tries < 3:
                raise ValueError("again")

    made = Third("t", limits=("api",))
    began = time.monotonic()
    engines.run(linear_flow.Flow("f", retry.Times(3, "r")).add(made), rates={"api": (1, 0.02)})
    assert made.tries == 3
    assert time.monotonic() - began >= 0.04


class OneThread:
    """An executor that does not say how many calls it runs at once."""

    def __init__(self, pool):
        self.submit = pool.submit


def test_a_call_that_is_withdrawn_before_it_begins_has_used_nothing_of_a_rate():
    class Slow(task.Task):
        tries = 0

        def execute(self):
            self.tries += 1
            while self.tries == 1:
                taskflowx.checkpoint()

    log = []
    flow = unordered_flow.Flow("f").add(
        linear_flow.Flow("l").add(Notes("before", log), Notes("once", log, limits=("api",))),
        Slow("slow", timeout=0.05, retry=retry.Times(2)),  # all that waits is withdrawn when that is over
    )
    with concurrent.futures.ThreadPoolExecutor(1) as pool:
        engines.load(flow, executor=OneThread(pool), rates={"api": (1, 3600)}).run(timeout=10)
    assert log == ["before", "once"]


def test_a_run_that_waits_uses_no_cpu():
    flow = flows.unordered("f", *(Notes(f"t{n}", limits=("api",)) for n in range(3)))
    engine = engines.load(flow, executor="threads", rates={"api": (1, 0.1)})
    looks = steps_of(engine.run)
    assert looks < 40_000  # a loop that asks for the time makes millions


def steps_of(function):
    """Return how many lines of Python are executed in the engine."""
    count = 0

    def trace(frame, event, _arg):
        nonlocal count
        if HERE not in frame.f_code.co_filename:
            return None
        count += event == "line"
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        function()
    finally:
        sys.settrace(before)
    return count


# -- what it costs ---------------------------------------------------------------------------------


def test_many_that_wait_cost_no_more_each_than_few():
    def measure(count):
        flow = unordered_flow.Flow("f").add(*(flows.Plain(f"t{n}", limits=("db",)) for n in range(count)))
        executor = testing.ScriptedExecutor()
        engine = engines.load(flow, executor=executor, limits={"db": 4})
        engine.compile()
        engine.prepare()
        engine.validate()
        return steps_of(engine.run) / count

    small, large = measure(100), measure(1_000)
    assert 0 < large <= small * 1.1


def test_regions_that_turn_round_while_others_wait_cost_each_their_own():
    def measure(count):
        parts = [
            linear_flow.Flow("p", retry.Times(2, f"r{n}")).add(flows.Calls(f"t{n}", fails_once())) for n in range(count)
        ]
        for part in parts:
            next(iter(part))._tfx_controls = flows.Plain("as", limits=("db",))._tfx_controls
        engine = engines.load(
            unordered_flow.Flow("f").add(*parts), executor=testing.ScriptedExecutor(), limits={"db": 4}
        )
        engine.compile()
        engine.prepare()
        engine.validate()
        return steps_of(engine.run) / count

    small, large = measure(50), measure(400)
    assert 0 < large <= small * 1.1


def fails_once():
    done = []

    def act():
        done.append(1)
        if len(done) == 1:
            raise ValueError("once")

    return act


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "options", "says"),
    [
        (("db",), {}, r"Task 't' has the limit 'db'.*limits=\{'db': n\}.*rates=\{'db': '10/s'\}"),
        (("db",), {"limits": {"dbb": 1}}, "'db', and the engine has none of that name"),
        (("host:{host}",), {"limits": {"host:far": 1}}, r"limits=\{'host:\*': n\}"),
        ({"db": 5}, {"limits": {"db": 4}}, r"Task 't' needs 5 of the limit 'db', and limits\['db'\] is 4"),
        ({"db": 5}, {"limits": {"*": 4}}, r"Task 't' needs 5 of the limit 'db'"),
        ({"host:{host}": 3}, {"limits": {"host:*": 4, "host:far": 2}}, r"limits\['host:far'\] is 2"),
        (
            {"api": 11},
            {"rates": {"api": "10/s"}},
            r"takes 11 of the rate 'api', and rates\['api'\] never has more than 10",
        ),
    ],
)
def test_limits_that_can_never_be_met_are_refused_by_name(limits, options, says):
    engine = engines.load(ToHost("t", [], limits=limits), store={"host": "far"}, **options)
    with pytest.raises(exceptions.CompilationFailure, match=says):
        engine.run()


@pytest.mark.parametrize("value", [0, -1, True, 1.5, float("nan"), "4", (1, 2)], ids=repr)
@pytest.mark.parametrize("option", ["limits", "max_in_flight"])
def test_what_is_no_capacity_is_refused(option, value):
    given = value if option == "max_in_flight" else {"db": value}
    with pytest.raises((ValueError, TypeError), match=option):
        engines.load(flows.Plain("t"), **{option: given})


@pytest.mark.parametrize(
    "value",
    [
        "10", "10/", "/s", "10/m", "0/s", "-1/s", "1.5/s", "nan/s", "10/s/s", 10, True, (10,), (10, 0), (10, -1.0),
        (10, float("nan")), (10, float("inf")), (0, 1.0), (True, 1.0), (10, True), (1.5, 1.0), ("10", 1.0), None,
        pytest.param((10, 10**400), id="(10, 10**400)"), pytest.param((10, 10**5000), id="(10, 10**5000)"),
    ],
    ids=repr,
)  # fmt: skip
def test_what_is_no_rate_is_refused(value):
    with pytest.raises((ValueError, TypeError), match=r"rates\['api'\] must be a text such as '10/s'"):
        engines.load(flows.Plain("t"), rates={"api": value})


@pytest.mark.parametrize("name", ["", "a*b", "*a", "host:{host}"], ids=repr)
@pytest.mark.parametrize(("option", "value"), [("limits", 1), ("rates", "1/s")])
def test_what_is_no_name_is_refused(option, value, name):
    with pytest.raises(ValueError, match=f"Each name in {option}"):
        engines.load(flows.Plain("t"), **{option: {name: value}})


@pytest.mark.parametrize("option", ["limits", "rates"])
def test_what_is_no_mapping_is_refused(option):
    with pytest.raises(TypeError, match=option):
        engines.load(flows.Plain("t"), **{option: 4})


def test_the_ways_to_write_a_rate_are_the_same():
    found = [
        engines.load(flows.Plain("t"), rates={"api": given}).options["rates"]["api"]
        for given in ("600/min", " 600 / min ", (600, 60), [600, 60.0])
    ]
    assert found == [(600, 60.0)] * 4


class Timed(Notes):
    """Notes at which time of a clock it is executed and undone."""

    def __init__(self, name, clock, log, **settings):
        super().__init__(name, log, **settings)
        self.clock = clock

    def execute(self):
        self.log.append((self.clock.monotonic(), self.name))

    def revert(self):
        self.log.append((self.clock.monotonic(), f"undo {self.name}"))


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
def test_what_waits_for_a_rate_when_its_flow_is_over_fails_at_once(executor):
    clock, log = testing.VirtualClock(), []
    begin = clock.monotonic()
    first, *rest = (Timed(name, clock, log, limits=("api",)) for name in "abc")
    flow = linear_flow.Flow("f", timeout=4).add(first, unordered_flow.Flow("u").add(*rest))
    engine = engines.load(flow, executor=executor, rates={"api": (1, 10)}, clock=clock)
    assert engine.run_to_rest() == states.REVERTED
    assert log == [(begin, "a"), (begin + 4, "undo a")]
    assert {one.exception_str for one in engine.storage.get_execute_failures().values()} == {
        "Flow 'f' has exceeded its time limit of 4 seconds"
    }


@pytest.mark.parametrize("executor", ["threads", "asyncio"])
def test_what_waits_for_a_place_when_its_flow_is_over_fails_though_the_place_is_taken(executor):
    clock, log, begun, undone = testing.VirtualClock(), [], threading.Event(), threading.Event()

    class Holds(task.Task):
        def execute(self):
            assert begun.wait(30)
            clock.advance(5)
            log.append(undone.wait(30))

    class First(task.Task):
        def execute(self):
            begun.set()

        def revert(self):
            undone.set()

    inner = linear_flow.Flow("inner", retry.AlwaysRevert("r"), timeout=4)
    inner.add(First("first"), Notes("second", log, limits=("db",)))
    flow = unordered_flow.Flow("f").add(Holds("holds", limits=("db",)), inner)
    engine = engines.load(flow, executor=executor, max_workers=4, limits={"db": 1}, clock=clock)
    assert engine.run_to_rest() == states.REVERTED
    assert log == [True]


def test_a_flow_that_runs_again_after_its_time_limit_keeps_to_its_limits():
    clock, log = testing.VirtualClock(), []
    begin = clock.monotonic()
    tasks = (Timed(name, clock, log, limits=("api",)) for name in "ab")
    inner = linear_flow.Flow("inner", timeout=8).add(*tasks)
    flow = linear_flow.Flow("f", retry.Times(2, "r")).add(inner)
    engine = engines.load(flow, rates={"api": (1, 10)}, clock=clock)
    assert engine.run_to_rest() == states.REVERTED
    assert log == [(begin + at, what) for at, what in ((0, "a"), (8, "undo a"), (10, "a"), (18, "undo a"))]


def test_what_was_never_called_takes_no_token_when_it_is_passed_by_a_rollback():
    clock, log = testing.VirtualClock(), []
    begin = clock.monotonic()
    first, second = (Timed(name, clock, log, limits=("api",)) for name in "ab")
    flow = graph_flow.Flow("f").add(first, second)
    flow.link(first, second, decider=lambda history: 1 // 0)
    engine = engines.load(flow, rates={"api": (1, 10)}, clock=clock)
    assert engine.run_to_rest() == states.REVERTED
    assert log == [(begin, "a"), (begin + 10, "undo a")]


def test_a_limit_that_no_task_has_is_no_mistake():
    engine, executor = loaded(flows.Plain("t"), limits={"db": 1}, rates={"api": "1/day"})
    assert executor.run(engine) == states.SUCCESS


def test_a_graph_with_deciders_goes_on_when_what_was_admitted_is_skipped():
    log = []
    flow = graph_flow.Flow("f")
    first, *rest = Notes("first", log), *(Notes(f"t{n}", log, limits=("db",)) for n in range(3))
    flow.add(first, *rest)
    for n, one in enumerate(rest):
        flow.link(first, one, decider=lambda history, n=n: n == 2)
    engine, executor = loaded(flow, limits={"db": 1})
    executor.run(engine)
    assert log == ["first", "t2"]
