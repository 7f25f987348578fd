"""Our own threads: what they do by themselves, and when the scheduler looks at what they have delivered."""

import queue
import sys
import threading

import pytest

from taskflowx import engines, retry, states, task
from taskflowx.executors import base, threads
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.types.failure import Failure
from tests.support.chains import chained_calls


@pytest.fixture
def clock(monkeypatch):
    """A clock that goes on when somebody sleeps, or when the test says so; holds each of these."""
    passed = []
    monkeypatch.setattr(threads.time, "monotonic", lambda: 100.0 + sum(passed))
    monkeypatch.setattr(threads.time, "sleep", passed.append)
    return passed


class Idle:
    """Stands for a thread that is started and does nothing; has the queue from which it would take calls."""

    def __init__(self, args, **kwargs):
        _, _, self.calls, *_ = args

    def start(self):
        pass


class Crew:
    """An executor whose workers do nothing: they are said to take calls."""

    def __init__(self, clock, monkeypatch, workers=1):
        self.clock = clock
        self.executor = threads.ThreadsExecutor(workers)
        self.delivered = self.executor.make_queue()
        self.started = []
        monkeypatch.setattr(threads.threading, "Thread", self.start_thread)

    def start_thread(self, **kwargs):
        self.started.append(Idle(**kwargs))
        return self.started[-1]

    def submit(self, count):
        self.executor.submit([base.Call(0, None, states.EXECUTE, {})] * count)

    def take(self, count, seconds):
        """Have workers take some calls in so many seconds, of which one has been delivered; returns their chains."""
        chains = [self.started[0].calls.get_nowait()[1] for _ in range(count)]
        self.clock.append(seconds)
        self.delivered.put(("call", "outcome"))
        return chains

    def slept(self):
        """Wait for the next result; returns for how long it was slept before it was looked for."""
        before = len(self.clock)
        assert self.delivered.get() == ("call", "outcome")
        return self.clock[before:]


@pytest.fixture
def crew(clock, monkeypatch):
    return Crew(clock, monkeypatch)


@pytest.mark.parametrize(
    ("queued", "taken", "seconds", "expected"),
    [
        (40, 100, 0.01, [0.001]),  # 100 µs each, so 4 ms of work: a quarter of that
        (8_000, 100, 0.01, [0.002]),
        (80, 7, 0.01, []),  # too few to tell
        (3, 100, 0.01, []),  # to sleep would take longer than that
        (0, 100, 0.01, []),
    ],
)
def test_results_are_gathered_for_a_part_of_what_the_queued_work_takes(crew, queued, taken, seconds, expected):
    crew.submit(queued + taken)
    crew.take(taken, seconds)
    assert crew.slept() == pytest.approx(expected)


def test_how_fast_the_workers_are_is_judged_by_what_they_took_since_the_last_look(crew):
    crew.submit(1_110)
    crew.take(10, 1.0)
    assert crew.slept() == [0.002]
    crew.take(1_060, 0.002)
    assert crew.slept() == []
    crew.take(16, 0.004)
    assert crew.slept() == pytest.approx([24 * 0.00025 / 4])
    crew.take(4, 0.001)  # too few to tell otherwise
    assert crew.slept() == pytest.approx([20 * 0.00025 / 4])


def test_the_time_in_which_nothing_was_queued_does_not_count(crew, clock):
    crew.submit(10)
    crew.take(10, 5.0)
    assert crew.slept() == []
    clock.append(5.0)
    crew.submit(140)
    crew.take(100, 0.01)
    assert crew.slept() == pytest.approx([0.001])


def test_results_of_rows_are_gathered_until_the_first_of_them_is_near_its_end(clock, monkeypatch):
    crew = Crew(clock, monkeypatch, workers=2)
    executor = crew.executor
    executor.next_of = lambda call: base.Call(call.index + 1, None, "", {}, ()) if call.index % 100 < 20 else None
    executor.submit([base.Call(index, None, states.EXECUTE, {}) for index in (100, 200)])
    assert len(executor.chained) == 40
    executor._followed = [8]
    first, _ = crew.take(2, 0.005)
    for _ in range(16):
        first.popleft()
    # 10 calls in 5 ms, and 2 * 4 before a worker has nothing to do
    assert crew.slept() == pytest.approx([8 * 0.0005 / 4])
    for _ in range(4):
        first.popleft()
    crew.take(0, 0.001)
    assert crew.slept() == []


def test_no_sleep_is_longer_than_the_time_that_is_left(crew, clock):
    crew.submit(1_000)
    crew.take(10, 1.0)
    crew.delivered.get_nowait()
    with pytest.raises(queue.Empty):
        crew.delivered.get(timeout=0.0005)
    assert clock[1:] == [0.0005]


# -- chains ----------------------------------------------------------------------------------------


class Step(task.Task):
    """Waits until it may end, if it has been told to, and returns its name, or fails."""

    def __init__(self, name, *, fails=False, waits=False):
        super().__init__(name)
        self.fails = fails
        self.began, self.may_end = threading.Event(), threading.Event()
        if not waits:
            self.may_end.set()

    def execute(self, before=None):
        self.began.set()
        assert self.may_end.wait(30)
        if self.fails:
            raise ValueError(self.name)
        return f"{before or ''}{self.name}"


class Line:
    """An executor, and one chain of calls in place of a flow: what follows a call is the next one, with its result."""

    def __init__(self, chain, max_workers=1):
        self.chain = chain
        self.executor = threads.ThreadsExecutor(max_workers)
        self.delivered = self.executor.make_queue()
        self.executor.next_of = self.next_of
        self.executor.start(self.delivered.put)

    def next_of(self, call):
        following = call.index + 1
        if following >= len(self.chain):
            return None
        return base.Call(following, self.chain[following], states.EXECUTE, {}, ("before",))

    def begin(self):
        self.executor.submit([self.call(0)])
        assert self.chain[0].began.wait(30)

    def call(self, index):
        return base.Call(index, self.chain[index], states.EXECUTE, {})

    def hear(self):
        """Return the index and the outcome of the next call that is delivered."""
        call, outcome = self.delivered.get(timeout=30)
        assert type(call) is base.Call
        return call.index, outcome

    def hears_no_more(self):
        self.executor.stop()
        with pytest.raises(queue.Empty):
            self.delivered.get_nowait()
        return True


@pytest.fixture
def line():
    made = []

    def make(*chain, **options):
        made.append(Line(chain, **options))
        return made[-1]

    yield make
    for one in made:
        for step in one.chain:
            step.may_end.set()
        one.executor.stop()


def test_a_worker_goes_along_a_chain_with_each_result(line):
    one = line(Step("a"), Step("b"), Step("c"))
    one.begin()
    assert [one.hear(), one.hear(), one.hear()] == [(0, "a"), (1, "ab"), (2, "abc")]
    assert sorted(one.executor.chained) == [1, 2]  # until the scheduler records what came before them


def test_nothing_follows_a_failure_and_that_is_known_when_it_is_delivered(line):
    one = line(Step("a"), Step("b", fails=True), Step("c"))
    one.begin()
    assert one.hear() == (0, "a")
    index, outcome = one.hear()
    assert (index, type(outcome)) == (1, Failure)
    assert sorted(one.executor.chained) == [1]
    assert one.hears_no_more()


def test_nothing_follows_what_is_no_exception(line, monkeypatch):
    one = line(Step("a"), Step("b"))
    monkeypatch.setattr(one.chain[0], "pre_execute", lambda: sys.exit(3))
    one.executor.submit([one.call(0)])
    _, outcome = one.hear()
    assert isinstance(outcome, base.Interrupt)
    assert not one.executor.chained
    assert one.hears_no_more()


def test_what_waits_for_a_worker_goes_before_what_follows(line):
    one = line(Step("a", waits=True), Step("b"), Step("other"))
    one.begin()
    one.executor.submit([base.Call(7, one.chain[2], states.EXECUTE, {})])
    one.chain[0].may_end.set()
    assert [one.hear(), one.hear()] == [(0, "a"), (7, "other")]
    assert not one.executor.chained
    assert one.hears_no_more()


@pytest.mark.parametrize("how", ["unchain", "recall"])
def test_what_no_worker_has_taken_is_dropped(line, how):
    one = line(Step("a", waits=True), Step("b"), Step("c"))
    one.begin()
    assert sorted(one.executor.chained) == [1, 2]
    assert not getattr(one.executor, how)()
    assert not one.executor.chained
    one.chain[0].may_end.set()
    assert one.hear() == (0, "a")
    assert one.hears_no_more()


def test_what_has_begun_is_known_when_the_rest_is_dropped(line):
    one = line(Step("a"), Step("b", waits=True), Step("c"))
    one.begin()
    assert one.chain[1].began.wait(30)
    one.executor.unchain()
    assert one.delivered.get_nowait()[1] == "a"
    assert sorted(one.executor.chained) == [1]
    one.chain[1].may_end.set()
    assert one.hear() == (1, "ab")
    assert one.hears_no_more()


def test_what_counts_as_begun_before_a_worker_has_taken_it_is_not_dropped(line):
    one = line(Step("a"), Step("b"), Step("c"))
    may_take = threading.Event()
    one.executor.start(lambda item: one.delivered.put(item) or may_take.wait(30))
    one.begin()
    assert one.hear() == (0, "a")
    one.executor.chained.discard(1)  # as the scheduler does
    one.executor.unchain()
    assert not one.executor.chained
    may_take.set()
    assert one.hear() == (1, "ab")
    assert one.hears_no_more()


def test_no_chain_is_made_where_no_worker_would_go_along_it(line):
    one = line(Step("a", waits=True), Step("b"), max_workers=2)
    one.executor.submit([one.call(0), one.call(0), one.call(0)])
    assert not one.executor.chained
    one.executor.submit([one.call(0)])
    assert not one.executor.chained
    one.chain[0].may_end.set()
    assert [one.hear() for _ in range(4)] == [(0, "a")] * 4
    while one.executor._lacks_workers():
        threading.Event().wait(0.001)  # until the last one has been counted
    one.executor.submit([one.call(0), one.call(0)])
    assert sorted(one.executor.chained) == [1]


def test_chains_side_by_side_go_along_by_themselves(monkeypatch):
    ahead = chained_calls(monkeypatch)
    flow = unordered_flow.Flow("f")
    for chain in "ab":
        flow.add(linear_flow.Flow(chain).add(*(Step(f"{chain}{number}") for number in range(200))))
    engine = engines.load(flow, executor="threads", max_workers=2)
    engine.run()
    assert len(engine.storage.fetch_all()) == 0
    assert engine.statistics["completed"] == 400
    assert len(ahead) > 200


def test_what_has_a_priority_does_not_wait_for_the_next_of_a_chain(monkeypatch):
    made = chained_calls(monkeypatch)
    flow = unordered_flow.Flow("f")
    for chain in "ab":
        steps = [Step(f"{chain}{number}") for number in range(20)]
        steps[10].priority = 5
        flow.add(linear_flow.Flow(chain).add(*steps))
    engine = engines.load(flow, executor="threads", max_workers=2)
    engine.run()
    assert engine.statistics["completed"] == 40
    assert not made


def test_a_run_may_be_suspended_while_chains_are_made(line):
    one = line(Step("a"), Step("b"), Step("c"), max_workers=2)
    next_of = one.executor.next_of

    def suspends(call):
        one.executor.next_of = None  # as `Run.stop` does, from any thread
        return next_of(call)

    one.executor.next_of = suspends
    one.executor.submit([one.call(0), one.call(0)])
    assert [one.hear(), one.hear()] == [(0, "a"), (0, "a")]
    assert not one.executor.chained
    assert one.hears_no_more()


def test_a_result_that_says_odd_things_of_itself_ends_no_worker(line, monkeypatch):
    class Odd:
        @property
        def __class__(self):
            raise RuntimeError("has none")

    odd = Odd()
    one = line(Step("a"), Step("b"))
    monkeypatch.setattr(one.chain[0], "execute", lambda: odd)
    one.executor.submit([one.call(0)])
    assert one.hear()[1] is odd


def test_nothing_goes_on_by_itself_into_a_region_that_turns_round_alone(monkeypatch):
    """What follows the region of a retry is undone before that turns round, so it has to be known to have begun."""
    made = chained_calls(monkeypatch)
    flow = unordered_flow.Flow("f")
    for chain in "ab":
        inner = linear_flow.Flow("inner", retry=retry.Times(2, f"{chain}-retry")).add(
            *map(Step, (f"{chain}1", f"{chain}2"))
        )
        further = linear_flow.Flow("further").add(Step(f"{chain}3"), Step(f"{chain}4"))
        flow.add(linear_flow.Flow(chain).add(inner, further))
    engine = engines.load(flow, executor="threads", max_workers=2, inline=False)
    engine.run()
    assert engine.statistics["completed"] == 10
    assert {engine.compilation.plan.atoms[i].name[1:] for i in made} == {"2", "4"}


def test_what_a_retry_runs_again_runs_at_once():
    """A retry that restarts is alone; what it makes ready is not."""
    barrier = threading.Barrier(3)

    class Meets(task.Task):
        def execute(self):
            barrier.wait(30)
            if self.name == "0" and not failed:
                failed.append(True)
                raise ValueError

    failed = []
    flow = unordered_flow.Flow("f", retry=retry.Times(2, "r")).add(*map(Meets, "012"))
    engines.load(flow, executor="threads", max_workers=3).run()
    assert failed


class Where(task.Task):
    """Notes the thread in which it runs, and may fail."""

    def __init__(self, name, notes, fails=False):
        super().__init__(name)
        self.notes, self.fails = notes, fails

    def note(self, verb):
        self.notes.append((verb, self.name, threading.current_thread()))

    def execute(self):
        self.note("ran")
        self.update_progress(0.5)
        if self.fails:
            raise ValueError("on purpose")

    def revert(self):
        self.note("undid")


@pytest.mark.parametrize("given", [0, 1])
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("name", ["threads", "asyncio"])
def test_a_run_goes_on_when_the_system_gives_no_more_threads(monkeypatch, caplog, given, fails, name):
    real, started, notes = threading.Thread.start, [], []

    def start(thread):
        if len(started) >= given:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        real(thread)

    tasks = [Where(f"t{i}", notes, fails=fails and i == 4) for i in range(6)]
    engine = engines.load(
        linear_flow.Flow("f").add(Where("a", notes), unordered_flow.Flow("u").add(*tasks)),
        engine="parallel",
        executor=name,
        max_workers=3,
    )
    monkeypatch.setattr(threading.Thread, "start", start)
    if fails:
        with pytest.raises(ValueError, match="on purpose"):
            engine.run()
    else:
        engine.run()
    assert engine.storage.get_flow_state() == (states.REVERTED if fails else states.SUCCESS)
    assert sorted(name for verb, name, _ in notes if verb == "ran") == ["a", *(f"t{i}" for i in range(6))]
    assert len([verb for verb, *_ in notes if verb == "undid"]) == (7 if fails else 0)
    where = {thread for *_, thread in notes} - {threading.current_thread()}
    assert len(where) == given
    (told,) = [record.getMessage() for record in caplog.records if "could not be started" in record.getMessage()]
    assert "can't start new thread" in told


def test_a_run_in_the_thread_of_the_engine_can_be_suspended(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    notes = []
    first = Where("a", notes)
    engine = engines.load(
        unordered_flow.Flow("f").add(first, *(Where(f"t{i}", notes) for i in range(3))),
        engine="parallel",
        executor="threads",
    )
    first.execute = engine.suspend
    monkeypatch.setattr(threading.Thread, "start", start)
    engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED
    assert notes == []
