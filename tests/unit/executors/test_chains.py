"""Chains, whose calls are sent to a worker together: when they begin, and what becomes of them."""

import collections
import contextlib
import os
import pathlib
import random
import signal
import sys
import threading

import pytest

from taskflowx import engines, exceptions, retry, states
from taskflowx.executors import base, processes
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import backends
from taskflowx.types.failure import Failure
from tests.contract.executor import process_tasks as tasks
from tests.support.chains import chained_calls


class Line:
    """An executor, and one chain of calls in place of a flow: what follows a call is the next one.

    :param pool: where its workers come from
    :param chain: the tasks; each takes the result of the one before as `before`, if its class has that argument
    """

    def __init__(self, pool, chain):
        self.chain, self.pool = chain, pool
        self.executor = executor = processes.ProcessesExecutor(pool)
        self.mailbox = executor.make_queue()
        executor.next_of = self.next_of
        executor.start(self.mailbox.put)
        # Nothing is sent ahead that may take long, for all that is known.
        for index in range(len(chain)):
            self.known(index).seconds = 1e-6

    @property
    def workers(self):
        """The workers that this run has."""
        return self.executor._workers

    def known(self, index):
        """Return what the executor knows of calls such as this one."""
        return self.executor._kinds.of(self.call(index))

    def next_of(self, call):
        following = call.index + 1
        if following >= len(self.chain):
            return None
        one = self.chain[following]
        return base.Call(
            following, one, states.EXECUTE, {}, ("before",) if isinstance(one, tasks.Follows | tasks.Adds) else ()
        )

    def begin(self):
        self.executor.submit([base.Call(0, self.chain[0], states.EXECUTE, {})])

    def call(self, index, **arguments):
        return base.Call(index, self.chain[index], states.EXECUTE, arguments)

    def hear(self):
        """Return the index and the outcome of the next call that is delivered."""
        call, outcome = self.mailbox.get(timeout=30)
        return call.index, outcome

    def hear_until(self, is_so):
        """Take in what the workers send, until something is so."""
        while not is_so():
            self.executor._manage(0.01)


@pytest.fixture
def line(warm):
    made = []

    def make(*chain):
        made.append(Line(warm, chain))
        return made[-1]

    yield make
    for one in made:
        for worker in one.workers:
            if worker.sent:  # the test has failed
                worker.kill()
        one.executor.stop()


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "notes")


@pytest.fixture
def gate(tmp_path):
    return tmp_path / "gate"


def read(path):
    """Return the first two words of each note."""
    noted = pathlib.Path(path)
    return [" ".join(row.split()[:2]) for row in noted.read_text().splitlines()] if noted.exists() else []


# -- in the executor -------------------------------------------------------------------------------


def test_the_calls_of_a_chain_begin_without_the_engine_and_are_delivered_in_their_order(line, path):
    one = line(tasks.Noted("a", path), tasks.Follows("b", path), tasks.Follows("c", path))
    one.begin()
    assert sorted(one.executor.chained) == [1, 2]
    one.hear_until(lambda: not any(worker.sent for worker in one.workers))
    assert read(path) == ["ran a", "got a", "got b"]
    assert [one.hear(), one.hear(), one.hear()] == [(0, "a"), (1, "b"), (2, "c")]
    assert sorted(one.executor.chained) == [1, 2]  # until the scheduler records what came before them


def test_progress_in_a_chain_is_delivered_in_its_order(line, path):
    one = line(tasks.Noted("a", path), tasks.Reports("b"))
    one.begin()
    assert one.hear() == (0, "a")
    reporting, details = one.mailbox.get(timeout=30)
    assert (reporting.name, details) == ("b", {"progress": 0.5})
    assert one.hear() == (1, None)


@pytest.mark.parametrize(
    ("result", "follows"),
    [
        ("x", True),
        (None, True),
        ([1, "x", None], True),
        ({"k": 1.5}, True),
        ((1, b"x", True), True),
        ([[1]], False),
        ({"k": (1,)}, False),
        ("x" * 100_000, False),
        (set(), False),
    ],
    ids=lambda value: repr(value)[:20],
)
def test_only_after_a_flat_result_does_another_call_begin_at_once(line, path, result, follows):
    one = line(tasks.Gives("a", "same", result), tasks.Follows("b", path), tasks.Follows("c", path))
    one.begin()
    index, outcome = one.hear()
    assert (index, outcome) == (0, result)
    assert sorted(one.executor.chained) == ([1, 2] if follows else [])
    if follows:
        assert one.hear() == (1, "b")
        assert pathlib.Path(path).read_text().startswith(f"got {outcome}\n")
    else:
        assert one.known(0).followed is False
        one.executor.submit([one.call(1, before=outcome)])  # as the scheduler does with what is not under way
        assert one.hear() == (1, "b")


@pytest.mark.parametrize(
    ("make", "result"),
    [("plain_when_pickled", 5), ("set_when_pickled", {5}), ("list_when_pickled", [5])],
)
def test_the_worker_alone_decides_whether_a_call_follows_a_result_that_changes_when_it_is_pickled(
    line, path, make, result
):
    one = line(tasks.Gives("a", make, 5), tasks.Follows("b", path))
    one.begin()
    assert one.hear() == (0, result)
    assert not one.executor.chained
    assert not any(worker.sent for worker in one.workers)
    one.executor.submit([one.call(1, before=result)])
    assert one.hear() == (1, "b")
    assert read(path) == [f"got {result}"]


@pytest.mark.parametrize("kind", [list, dict])
def test_what_a_call_changes_in_the_result_before_it_stays_its_own(line, kind):
    one = line(tasks.Gives("a", "default", kind), tasks.Adds("b"), tasks.Gives("c", "default", kind), tasks.Adds("d"))
    one.begin()
    default, added = kind({"base": 1}), len(kind({"base": 1})) + 1
    assert [one.hear() for _ in range(4)] == [(0, default), (1, added), (2, default), (3, added)]
    assert sorted(one.executor.chained) == [1, 2, 3]


def test_nothing_follows_a_failure(line, path):
    one = line(tasks.Noted("a", path), tasks.Gives("b", "fails", "wrong"), tasks.Follows("c", path))
    one.begin()
    assert one.hear() == (0, "a")
    index, outcome = one.hear()
    assert (index, type(outcome)) == (1, Failure)
    assert sorted(one.executor.chained) == [1]
    assert read(path) == ["ran a"]
    assert one.known(0).followed is True  # it may succeed another time


def test_a_call_after_a_failure_that_cannot_be_read_is_no_matter(line, path):
    one = line(tasks.Gives("a", "fails", "wrong"), tasks.Unreadable("b"))
    one.begin()
    index, outcome = one.hear()
    assert (index, type(outcome)) == (0, Failure)
    assert not one.executor.chained
    other = base.Call(5, tasks.Noted("other", path), states.EXECUTE, {})
    one.executor.submit([other])
    assert one.hear() == (5, "other")


def test_what_has_not_begun_is_dropped_and_what_was_submitted_is_not(line, path, gate):
    one = line(tasks.Waits("a", path, gate), *(tasks.Follows(f"f{i}", path) for i in range(5)))
    one.begin()
    one.hear_until(lambda: read(path) == ["began a"])
    other = base.Call(7, tasks.Noted("other", path), states.EXECUTE, {})
    one.pool.max_workers, kept = 1, one.pool.max_workers
    one.known(0).seconds = 1e-6
    one.workers[0].load = 0.0
    one.executor.submit([other])
    one.pool.max_workers = kept
    one.executor.unchain()
    assert not one.executor.chained
    gate.touch()
    assert [one.hear(), one.hear()] == [(0, "a"), (7, "other")]
    assert read(path) == ["began a", "ran a", "ran other"]


def test_what_has_begun_is_known_when_the_rest_is_dropped(line, path, gate):
    one = line(tasks.Noted("a", path), tasks.Waits("b", path, gate), tasks.Follows("c", path))
    one.begin()
    while read(path) != ["ran a", "began b"]:  # the engine hears nothing meanwhile
        threading.Event().wait(0.01)
    one.executor.next_of = None
    one.executor.unchain()
    assert one.hear() == (0, "a")
    assert sorted(one.executor.chained) == [1]
    gate.touch()
    assert one.hear() == (1, "b")
    assert read(path) == ["ran a", "began b", "ran b"]


def test_a_call_in_which_the_worker_of_a_chain_dies_is_lost_and_no_other(line, path):
    one = line(tasks.Noted("a", path), tasks.Dies("b", path, "kill"), tasks.Follows("c", path))
    one.begin()
    assert one.hear() == (0, "a")
    index, outcome = one.hear()
    assert index == 1
    assert sorted(one.executor.chained) == [1]
    assert outcome.check(exceptions.WorkerLost)
    assert "atom 'b'" in str(outcome)
    assert read(path) == ["ran a", "dies b"]


def test_a_call_whose_predecessor_has_ended_goes_with_its_arguments_to_another_worker(line, path, gate):
    one = line(tasks.Waits("a", path, gate), tasks.Follows("b", path))
    one.begin()
    one.hear_until(lambda: read(path)[:1] == ["began a"])
    (busy,) = [worker for worker in one.workers if worker.sent]
    call, number = one.call(1), busy.number
    busy.follow(number, "given")  # as if the outcome before it had come
    one.executor.chained.discard(1)  # and were on record
    call = busy.sent[number][0]
    os.kill(busy.process.pid, signal.SIGKILL)
    lost, following = sorted([one.hear(), one.hear()])
    assert lost[1].check(exceptions.WorkerLost)
    assert call.kwargs == {"before": "given"}
    assert following == (1, "b")
    assert read(path) == ["began a", "got given"]


def test_it_is_known_that_a_chained_call_had_begun_when_the_workers_are_killed(line, path, gate, monkeypatch):
    one = line(tasks.Noted("a", path), tasks.Waits("b", path, gate), tasks.Follows("c", path))
    one.begin()
    while read(path) != ["ran a", "began b"]:
        threading.Event().wait(0.01)
    one.executor.next_of = None
    one.executor.recall()

    def interrupted(timeout):
        raise KeyboardInterrupt

    monkeypatch.setattr(one.executor, "_manage", interrupted)
    with pytest.raises(KeyboardInterrupt):
        one.executor.stop()
    assert one.hear() == (0, "a")
    assert sorted(one.executor.chained) == [1]


def test_a_chained_call_that_cannot_be_sent_is_left_to_the_scheduler(line, path):
    one = line(tasks.Noted("a", path), tasks.HoldsALock("b"), tasks.Follows("c", path))
    one.begin()
    assert not one.executor.chained
    assert one.hear() == (0, "a")
    one.executor.submit([one.call(1)])
    index, outcome = one.hear()
    assert (index, type(outcome)) == (1, base.NotBegun)


class UnsendableKey(str):
    __slots__ = ()

    def __reduce__(self):
        raise OSError("it cannot be sent")


def test_calls_that_cannot_be_sent_together_are_refused_and_no_other_one(line, path, monkeypatch):
    one = line(tasks.Noted("a", path))
    monkeypatch.setattr(one.pool, "max_workers", 1)
    bad, alone, after = (tasks.Noted(name, path) for name in ("bad", "alone", "after"))
    vars(bad)[UnsendableKey("k")] = 1
    alone.more = {1, 2}  # it is no plain value, so the call goes in a frame of its own
    one.executor.submit([base.Call(5 + i, atom, states.EXECUTE, {}) for i, atom in enumerate((bad, alone, after))])
    outcomes = dict(one.hear() for _ in range(3))
    assert (type(outcomes[5]), outcomes[6], outcomes[7]) == (base.NotBegun, "alone", "after")
    assert "Atom 'bad' cannot be sent" in str(outcomes[5].failure)
    assert read(path) == ["ran alone", "ran after"]


# -- in a run --------------------------------------------------------------------------------------


def chain_of(name, path, count, **options):
    """Return a linear flow of which every second task takes the result of the one before."""
    flow = linear_flow.Flow(name, **options)
    flow.add(tasks.Step(f"{name}.0", path, provides=f"{name}.0"))
    for i in range(1, count):
        cls = tasks.NextStep if i % 2 else tasks.Step
        further = {"rebind": [f"{name}.{i - 1}"]} if i % 2 else {}
        flow.add(cls(f"{name}.{i}", path, provides=f"{name}.{i}", **further))
    return flow


def test_most_of_a_chain_of_short_tasks_is_sent_ahead(warm, path, monkeypatch):
    ahead = chained_calls(monkeypatch)
    engine = engines.load(chain_of("c", path, 400), executor=warm)
    engine.run()
    assert [engine.storage.get(f"c.{i}") for i in range(400)] == [f"c.{i}" for i in range(400)]
    assert len(ahead) > 200


@pytest.mark.parametrize("reason", ["listener", "store", "worn"])
def test_nothing_is_sent_ahead_where_it_may_not_begin_unseen(reason, warm, path, tmp_path, monkeypatch):
    made = chained_calls(monkeypatch)
    pool = processes.ProcessPool(2, max_tasks_per_worker=500) if reason == "worn" else warm
    address = f"sqlite:///{tmp_path}/s.db" if reason == "store" else "memory"
    with contextlib.closing(backends.fetch({"connection": address})) as backend:
        with contextlib.closing(backend.get_connection()) as connection:
            connection.upgrade()
        engine = engines.load(chain_of("c", path, 50), executor=pool, backend=backend)
        if reason == "listener":
            engine.atom_notifier.register("*", lambda state, details: None)
        engine.run()
    pool.close()
    assert not made


@pytest.mark.parametrize("place", ["processes", "threads"])
def test_chains_that_fail_die_or_are_suspended_anywhere_leave_a_record_of_all_that_has_begun(place, warm, tmp_path):
    ended = collections.Counter()
    for seed in range(40):
        path = tmp_path / str(seed)
        path.touch()
        ended[run_chains(random.Random(seed), warm if place == "processes" else place, path, seed)] += 1
    assert min(ended[states.SUCCESS], ended[states.REVERTED]) > 3, ended


def run_chains(rng, executor, path, seed):
    """Run random chains to their end, and compare the record with what has happened; returns the state of the flow."""
    fails, dies, odd = rng.choice([0, 0, 0.005, 0.02]), rng.choice([0, 0, 0, 0.01]), rng.choice([0, 0, 0.05])
    if executor == "threads":
        dies = 0  # it would be the end of the tests
    flow = unordered_flow.Flow("f")
    for c in range(rng.randint(1, 4)):
        controller = retry.Times(3, name=f"retry {c}") if rng.random() < 0.2 else None
        chain = chain_of(f"{c}", str(path), rng.randint(5, 150), retry=controller)
        for atom in chain:
            atom.fails = rng.choice([1, 1, 5]) if rng.random() < fails else 0
            atom.how = "exit" if rng.random() < dies else ""
            atom.odd = rng.choice([[[1], [2]], "x" * 100_000]) if rng.random() < odd else None
        flow.add(chain)
    engine = engines.load(flow, executor=executor, max_workers=rng.randint(2, 5) if executor == "threads" else None)
    suspensions = rng.randint(1, 4) if rng.random() < 0.4 else 0
    interrupts = rng.randint(1, 3) if rng.random() < 0.4 else 0
    cut_off = set()
    engine.compile()
    engine.prepare()
    while True:
        stop_at = rng.randint(1, 150) if suspensions > 0 else None
        suspensions -= 1
        try:
            if interrupts and rng.random() < 0.5:
                interrupts -= 1
                run_interrupted(engine, int(2 ** rng.uniform(8, 15)))
            else:
                run_until(engine, path, stop_at)
        except KeyboardInterrupt:
            cut_off |= {
                name for name in engine.compilation.plan.names if engine.storage.get_atom_state(name) in UNDER_WAY
            }
        except (ValueError, exceptions.WorkerLost, exceptions.WrappedFailure) as error:
            if cut_off and "NotFound" in str(error):
                return "has lost a result"  # to which a task that followed is to be undone
            assert engine.storage.get_flow_state() in {states.REVERTED, states.SUSPENDED}
        check_record(engine, path, seed, cut_off)
        if engine.storage.get_flow_state() in {states.SUCCESS, states.REVERTED}:
            return engine.storage.get_flow_state()


UNDER_WAY = {states.RUNNING, states.REVERTING}
PACKAGE = str(pathlib.Path(engines.__file__).parents[1])


def run_interrupted(engine, at):
    """Run an engine, interrupted at the n-th line of the package in this thread, if it has so many."""
    left = at

    def interrupt(frame, event, argument):
        nonlocal left
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        left -= event == "line"
        if event == "line" and not left:
            raise KeyboardInterrupt
        return interrupt

    kept = sys.gettrace()
    sys.settrace(interrupt)
    try:
        engine.run()
    finally:
        sys.settrace(kept)


def run_until(engine, path, lines):
    """Run an engine, and suspend it when so many lines are written."""
    over = threading.Event()

    def watch():
        while not over.is_set():
            if path.read_text().count("\n") >= lines:
                engine.suspend()
                return

    watcher = threading.Thread(target=watch) if lines is not None else None
    if watcher is not None:
        watcher.start()
    try:
        engine.run()
    finally:
        over.set()
        if watcher is not None:
            watcher.join()


def check_record(engine, path, seed, cut_off):
    """Check the order of what has happened, and that what stands is on record, and nothing else.

    :param cut_off: what was under way when the run was interrupted: it may be done or undone once more
    """
    standing = set()
    for row in path.read_text().splitlines():
        verb, name = row.split()
        chain, step = name.split(".")
        before, after = f"{chain}.{int(step) - 1}", f"{chain}.{int(step) + 1}"
        if verb == "did":
            assert name not in standing or name in cut_off, (seed, f"{name} twice")
            assert step == "0" or before in standing, (seed, f"{name} before {before}")
            standing.add(name)
        else:
            assert name in standing or name in cut_off, (seed, f"{name} undone and never done")
            assert after not in standing, (seed, f"{name} undone before {after}")
            standing.discard(name)
    for name, state in (
        (name, engine.storage.get_atom_state(name)) for name in engine.compilation.plan.names if "." in name
    ):
        if state not in UNDER_WAY and not (cut_off and state == states.REVERT_FAILURE):
            assert (name in standing) == (state in {states.SUCCESS, states.FAILURE}), (seed, name, state)
