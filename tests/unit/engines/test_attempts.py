"""What a call is told about itself: which attempt it is, and a key that is the same in all attempts."""

from __future__ import annotations

import concurrent.futures
import contextlib
import threading

import pytest

from taskflowx import engines, exceptions, retry, task, testing
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import backends, models


class Create(task.Task):
    """Notes what it is told; is interrupted as often as is asked for, by verb."""

    def __init__(self, name, seen, **interrupted):
        super().__init__(name)
        self.seen = seen
        self.left = interrupted

    def execute(self, attempt, idempotency_key):
        self._note("execute", attempt, idempotency_key)

    def revert(self, idempotency_key, attempt, **kwargs):
        self._note("revert", attempt, idempotency_key)

    def _note(self, verb, attempt, key):
        self.seen.append((verb, attempt, key))
        if self.left.get(verb):
            self.left[verb] -= 1
            raise KeyboardInterrupt


class Break(task.Task):
    """Fails as often as is asked for."""

    def __init__(self, name, times):
        super().__init__(name)
        self.times = times

    def execute(self):
        self.times -= 1
        if self.times >= 0:
            raise OSError(self.name)


def run_on(flow, detail, executor):
    """Run a flow through its interrupts, each time in a new engine from what another process would read."""
    while True:
        engine = engines.load(flow, flow_detail=detail, executor=executor)
        try:
            engine.run()
        except KeyboardInterrupt:
            detail = testing.reloaded(detail)
        except OSError:
            return detail
        else:
            return detail


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_attempts_are_counted_and_share_a_key_that_each_round_has_anew(executor):
    seen = []
    flow = linear_flow.Flow("flow", retry=retry.Times(2))
    flow.add(Create("create", seen, execute=2, revert=1), Break("break", 1))
    detail = run_on(flow, models.FlowDetail("flow", "1"), executor)
    uuid = next(one.uuid for one in detail if one.name == "create")
    assert seen == [
        *(("execute", attempt, f"{uuid}.0") for attempt in (1, 2, 3)),
        ("revert", 1, f"{uuid}.0"),
        ("revert", 2, f"{uuid}.0"),
        ("execute", 1, f"{uuid}.1"),
    ]


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("verb", ["execute", "revert"])
def test_a_run_that_does_not_come_to_the_call_is_no_attempt(executor, verb):
    seen = []
    flow = linear_flow.Flow("flow").add(Create("create", seen, **{verb: 1}), Break("break", 1))
    detail = models.FlowDetail("flow", "1")
    with pytest.raises(KeyboardInterrupt):
        engines.load(flow, flow_detail=detail, executor=executor).run()
    for _ in range(2):
        detail = testing.reloaded(detail)
        with pytest.raises(TimeoutError, match="suspended"):
            engines.load(flow, flow_detail=detail, executor=executor).run(timeout=0)
    engines.load(flow, flow_detail=testing.reloaded(detail), executor=executor).run_to_rest()
    assert [attempt for called, attempt, _ in seen if called == verb] == [1, 2]


def test_a_flow_that_was_undone_and_runs_again_has_new_keys():
    seen = []
    engine = engines.load(linear_flow.Flow("flow").add(Create("create", seen), Break("break", 1)))
    with pytest.raises(OSError, match="break"):
        engine.run()
    engine.run()
    keys = [key for verb, _, key in seen if verb == "execute"]
    assert len(keys) == len(set(keys)) == 2


def test_a_retry_is_told_too():
    seen = []

    class Controller(retry.Times):
        def execute(self, history, idempotency_key, attempt):
            seen.append((len(history), attempt, idempotency_key[-2:]))

    engines.run(linear_flow.Flow("flow", retry=Controller(3)).add(Break("break", 2)))
    assert seen == [(0, 1, ".0"), (1, 1, ".1"), (2, 1, ".2")]


def test_what_somebody_provides_under_these_names_goes_first():
    class Take(task.Task):
        def execute(self, attempt, key):
            return attempt, key

        def revert(self, result, attempt, flow_failures):
            pass

    flow = linear_flow.Flow("flow").add(
        task.FunctorTask(lambda: 7, name="seven", provides="attempt"),
        Take("take", rebind={"key": "idempotency_key"}, inject={"idempotency_key": "mine"}, provides="taken"),
    )
    assert engines.run(flow)["taken"] == (7, "mine")


def test_an_argument_with_a_default_keeps_it():
    class Take(task.Task):
        def execute(self, attempt=0):
            return attempt

    assert engines.run(linear_flow.Flow("flow").add(Take("take", provides="taken")))["taken"] == 0


def test_they_reach_a_call_whose_arguments_have_to_be_searched():
    class Take(task.Task):
        def execute(self, late, attempt, idempotency_key):
            return late, attempt, idempotency_key

    engine = engines.load(linear_flow.Flow("flow").add(Take("take", provides="taken")), store={"late": 1})
    engine.compile()
    engine.prepare()
    engine.validate()
    engine.storage.inject_atom_args("take", {"late": 2})
    engine.run()
    assert engine.storage.fetch("taken") == (2, 1, engine.storage.get_atom_uuid("take") + ".0")


def test_another_argument_is_still_missed():
    class Take(task.Task):
        def execute(self, attempt, attempts):
            return attempt

    with pytest.raises(exceptions.MissingDependencies, match="attempts") as refused:
        engines.run(linear_flow.Flow("flow").add(Take("take")))
    assert "idempotency_key" not in str(refused.value)


# -- what waits has not begun --------------------------------------------------------------------------------------


class Look(task.Task):
    """Notes which atoms the store says are under way while it runs."""

    def __init__(self, name, backend, seen):
        super().__init__(name)
        self.backend = backend
        self.seen = seen

    def execute(self, attempt):
        self._look("+")

    def revert(self, attempt):
        self._look("-")

    def _look(self, verb):
        with contextlib.closing(self.backend.get_connection()) as connection:
            [book] = connection.get_logbooks()
        [record] = book
        under_way = [one.name for one in record if one.state in ("RUNNING", "REVERTING")]
        self.seen.append((verb + self.name, under_way))


class LookAsRetry(retry.AlwaysRevert):
    def __init__(self, name, backend, seen):
        super().__init__(name)
        self.look = Look(name, backend, seen)

    def execute(self, attempt):
        self.look.execute(attempt)


def looked_at(tmp_path, make, **options):
    seen = []
    with backends.backend(f"dir://{tmp_path}") as backend:
        flow = make(lambda name, kind=Look: kind(name, backend, seen))
        engine = engines.load(flow, book=models.LogBook("b"), backend=backend, **options)
        with contextlib.suppress(OSError):
            engine.run()
    return seen


@pytest.mark.parametrize(
    "executor",
    ["threads", "asyncio", "serial", lambda: concurrent.futures.ThreadPoolExecutor(1)],
    ids=["threads", "asyncio", "serial", "a pool"],
)
def test_a_call_that_waits_for_a_worker_has_not_begun(tmp_path, executor):
    def make(look):
        together = unordered_flow.Flow("all").add(*(look(f"{number}") for number in range(4)))
        return linear_flow.Flow("f").add(together, Break("break", 1))

    options = {"executor": executor, "max_workers": 1} if isinstance(executor, str) else {"executor": executor()}
    seen = looked_at(tmp_path, make, **options)
    assert len(seen) == 8
    assert all(under_way == [name[1:]] for name, under_way in seen)


def test_a_retry_that_waits_for_another_one_has_not_begun(tmp_path):
    def make(look):
        parts = (linear_flow.Flow(f"f{n}", look(f"r{n}", LookAsRetry)).add(look(f"t{n}")) for n in range(2))
        return unordered_flow.Flow("f").add(*parts, look("t2"))

    seen = dict(looked_at(tmp_path, make, executor="threads", max_workers=3))
    assert seen["+r0"] == ["r0"]
    assert seen["+r1"] == ["r1"]


def test_as_many_begin_as_there_are_workers(tmp_path):
    meet = threading.Barrier(2, timeout=20)

    class Meet(Look):
        def _look(self, verb):
            meet.wait()

    def make(look):
        return unordered_flow.Flow("f").add(*(look(f"{n}", Meet) for n in range(6)))

    looked_at(tmp_path, make, executor="threads", max_workers=2)
    assert not meet.broken


class Counts(task.Task):
    """Asks for its attempt; the first one fails."""

    def __init__(self, name, undone):
        super().__init__(name)
        self.undone = undone

    def execute(self, attempt):
        if self.name == "a":
            raise OSError(self.name)

    def revert(self, **kwargs):
        self.undone.append(self.name)


def test_a_call_that_a_crash_cut_off_and_that_waits_for_a_worker_is_undone_with_the_others(tmp_path):
    undone = []
    with backends.backend(f"dir://{tmp_path}") as store:
        crashed = engines.load(unordered_flow.Flow("f").add(Counts("a", []), Counts("b", [])), backend=store)
        crashed.compile()
        crashed.prepare()
        for detail in crashed.storage.record.flow_detail:
            detail.state = "RUNNING"
        crashed.storage.change_flow_state("RUNNING")
        crashed.storage.save_all()
        engine = engines.load(
            unordered_flow.Flow("f").add(Counts("a", undone), Counts("b", undone)),
            flow_detail=store.get_connection().get_flow_details(crashed.storage.flow_uuid),
            backend=store,
            executor="threads",
            max_workers=1,
        )
        with pytest.raises(OSError, match="a"):
            engine.run()
    assert undone == ["a", "b"]
    assert [engine.storage.get_atom_state(name) for name in "ab"] == ["REVERTED", "REVERTED"]
