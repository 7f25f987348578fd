"""A run with an id is made once, taken up when it is unfinished, and not run again when it is finished."""

from __future__ import annotations

import asyncio
import threading

import pytest

import taskflowx
from taskflowx import exceptions, states, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import run_records
from taskflowx.testing import VirtualClock


def flow_of(calls, *, fails=(), name="bill", undo=None):
    """Return a flow of two tasks, that note their calls and raise what `fails` has for them, each once."""
    fails = dict(fails)

    def price(amount):
        calls.append("price")
        if "price" in fails:
            raise fails.pop("price")
        return 2 * amount

    def send(total):
        calls.append("send")
        if "send" in fails:
            raise fails.pop("send")

    def undo_price(**kwargs):
        calls.append("undo price")
        if undo is not None:
            raise undo

    return linear_flow.Flow(name).add(
        task.FunctorTask(price, name="price", provides="total", revert=undo_price),
        task.FunctorTask(send, name="send"),
    )


def arun(*args, **kwargs):
    return asyncio.run(taskflowx.arun(*args, **kwargs))


each_way = pytest.mark.parametrize("run", [taskflowx.run, arun])


def test_a_history_that_is_asked_for_has_each_transition_once(backend, known, run_id):
    engine = taskflowx.load(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id, history=True)
    engine.run()
    seen = known.get(run_id)
    assert [entry.number for entry in engine.history()] == list(range(1, 7))
    assert engine.history() == seen.history
    assert engine.metrics.seconds == seen.metrics.seconds
    finished = taskflowx.load(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id)
    assert finished.history() == seen.history
    assert finished.metrics.seconds == seen.metrics.seconds


@each_way
def test_a_finished_run_is_not_run_again(run, backend, run_id):
    calls = []
    results = [run(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id) for _ in range(3)]
    assert calls == ["price", "send"]
    for result in results:
        assert result == {"amount": 4, "total": 8}
        assert (result.run_id, result.state, result.flow) == (run_id, states.SUCCESS, "bill")
        assert result.results == {"price": 8, "send": None}
        assert (result.failures, result.not_undone) == ({}, [])


def test_another_process_sees_the_same_result(store, settings, backend, run_id):
    if not store.is_shared:
        pytest.skip("it lives as long as its back end")
    calls = []
    for _ in range(2):
        result = taskflowx.run(flow_of(calls), {"amount": 4}, backend=settings, run_id=run_id)
    assert (result, calls) == ({"amount": 4, "total": 8}, ["price", "send"])


def test_values_may_be_omitted_to_go_on_with_those_on_record(backend, run_id):
    calls = []
    taskflowx.run(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id)
    assert taskflowx.run(flow_of(calls), backend=backend, run_id=run_id) == {"amount": 4, "total": 8}


def test_a_finished_run_may_be_an_error(backend, run_id):
    taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id)
    for how in (taskflowx.run, taskflowx.load):
        with pytest.raises(exceptions.Duplicate, match=f"Run '{run_id}' is finished: SUCCESS"):
            how(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id, if_finished="error")


@each_way
def test_a_finished_run_may_run_again(run, backend, run_id):
    calls = []
    run(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id)
    again = run(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id, if_finished="again")
    assert (again.state, calls) == (states.SUCCESS, ["price", "send"] * 2)


@each_way
def test_a_failed_run_raises_again_what_it_has_failed_with(run, backend, run_id):
    calls = []
    flow = flow_of(calls, fails={"send": OSError("no line")})
    with pytest.raises(OSError, match="no line"):
        run(flow, {"amount": 4}, backend=backend, run_id=run_id)
    with pytest.raises((OSError, exceptions.WrappedFailure)) as caught:  # only memory has the exception itself
        run(flow, {"amount": 4}, backend=backend, run_id=run_id)
    assert "no line" in str(caught.value)
    assert calls == ["price", "send", "undo price"]
    result = run(flow, {"amount": 4}, backend=backend, run_id=run_id, raises=False)
    assert (result.state, list(result.failures), result.not_undone) == (states.REVERTED, ["send"], [])
    assert (result, result.results) == ({"amount": 4}, {})  # what is undone is no value, and no failure is one
    assert result.failures["send"].check(OSError)
    with pytest.raises((OSError, exceptions.WrappedFailure)):
        result.raise_for_failure()


@each_way
def test_the_first_run_may_return_its_failure(run, backend, run_id):
    flow = flow_of([], fails={"price": ValueError("odd")})
    result = run(flow, {"amount": 4}, backend=backend, run_id=run_id, raises=False)
    assert (result.state, result.failures["price"].exception_str) == (states.REVERTED, "odd")


def test_a_rollback_that_got_stuck_goes_on(backend, run_id):
    calls = []
    stuck = flow_of(calls, fails={"send": OSError("no line")}, undo=ValueError("stuck"))
    result = taskflowx.run(stuck, {"amount": 4}, backend=backend, run_id=run_id, raises=False)
    assert (result.state, result.not_undone) == (states.FAILURE, ["price"])
    result = taskflowx.run(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id, raises=False)
    assert (result.state, result.not_undone) == (states.REVERTED, [])
    assert calls == ["price", "send", "undo price", "undo price"]


def test_a_reverted_run_may_run_again(backend, run_id):
    calls = []
    flow = flow_of(calls, fails={"send": OSError("no line")})
    taskflowx.run(flow, {"amount": 4}, backend=backend, run_id=run_id, raises=False)
    assert taskflowx.run(flow, backend=backend, run_id=run_id, if_finished="again").state == states.SUCCESS
    assert calls == ["price", "send", "undo price", "price", "send"]


@pytest.mark.parametrize(
    "does",
    [
        lambda engine: engine.rollback(),
        lambda engine: engine.rollback(to="price"),
        lambda engine: engine.reset(),
        lambda engine: asyncio.run(engine.arollback()),
    ],
)
def test_an_engine_that_only_reads_a_finished_run_undoes_nothing_unrecorded(backend, known, run_id, does):
    calls = []
    taskflowx.run(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id)
    with taskflowx.load(flow_of(calls), backend=backend, run_id=run_id) as engine:
        engine.run()
        with pytest.raises(
            exceptions.InvalidState, match=r"is finished \(SUCCESS\), and this engine only reads its record"
        ):
            does(engine)
        assert engine.storage.get_flow_state() == known.get(run_id).state == states.SUCCESS
    assert calls == ["price", "send"]


def test_an_engine_that_only_reads_a_reverted_run_executes_nothing_unrecorded(backend, known, run_id):
    calls = []
    flow = flow_of(calls, fails={"send": OSError("no line")})
    taskflowx.run(flow, {"amount": 4}, backend=backend, run_id=run_id, raises=False)
    with taskflowx.load(flow, backend=backend, run_id=run_id) as engine:
        with pytest.raises(
            exceptions.InvalidState, match=r"finished \(REVERTED\)[^$]*if_finished='again' begins it again"
        ):
            engine.run()
        engine.rollback()  # nothing stands
        assert engine.storage.get_flow_state() == known.get(run_id).state == states.REVERTED
    assert calls == ["price", "send", "undo price"]


def test_a_cancelled_run_says_so_again(backend, run_id):
    flow = linear_flow.Flow("f").add(task.FunctorTask(lambda: engine.cancel("no money"), name="a"))
    engine = taskflowx.load(flow, backend=backend, run_id=run_id)
    with pytest.raises(exceptions.Cancelled, match="no money"):
        engine.run()
    with pytest.raises(exceptions.Cancelled, match="no money"):
        taskflowx.run(flow, backend=backend, run_id=run_id)


@each_way
def test_a_run_whose_time_was_up_goes_on(run, backend, run_id):
    calls = []
    with pytest.raises(TimeoutError):
        run(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id, timeout=0)
    result = run(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id, timeout=0, raises=False)
    assert (result.state, calls) == (states.SUSPENDED, [])
    assert result.raise_for_failure() is None
    assert run(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id) == {"amount": 4, "total": 8}


def test_what_was_done_is_not_repeated(backend, run_id):
    calls = []
    engine = taskflowx.load(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id)
    steps = engine.run_iter()
    while calls != ["price"]:
        next(steps)
    steps.close()
    assert taskflowx.run(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id)["total"] == 8
    assert calls == ["price", "send"]


# -- another flow, other values ----------------------------------------------------------------------------------------


def test_another_flow_is_refused(backend, run_id):
    calls = []
    taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id)
    with pytest.raises(exceptions.RunMismatch, match="is a run of flow 'bill', and not of 'other'"):
        taskflowx.run(flow_of(calls, name="other"), {"amount": 4}, backend=backend, run_id=run_id)
    assert calls == []


def test_a_flow_whose_name_is_empty_is_taken_up(backend, run_id):
    calls = []
    for _ in range(2):
        taskflowx.run(flow_of(calls, name=""), {"amount": 4}, backend=backend, run_id=run_id)
    assert calls == ["price", "send"]


def test_other_values_are_refused_with_the_difference(backend, run_id):
    calls = []
    given = {"amount": 4, "when": (1, 2), "gone": None}
    taskflowx.run(flow_of([]), given, backend=backend, run_id=run_id)
    with pytest.raises(exceptions.RunMismatch) as caught:
        taskflowx.run(flow_of(calls), {"amount": 5, "when": [1, 2], "new": "x" * 999}, backend=backend, run_id=run_id)
    lines = str(caught.value).splitlines()
    assert lines[1:5] == [
        "  amount: 4 on record, 5 given",
        "  gone: None on record, none given",
        f"  new: none on record, '{'x' * 79}... given",
        "  when: (1, 2) on record, [1, 2] given",
    ]
    assert calls == []
    assert taskflowx.run(flow_of(calls), given, backend=backend, run_id=run_id)["total"] == 8


class Release(task.Task):
    """A task of some version, which provides a value under some name."""

    def __init__(self, name, number=1, provides=None):
        self.version = (number, 0)
        super().__init__(name, provides=provides)

    def execute(self):
        return f"{self.name} {self.version[0]}"


CHANGED = [
    ("renamed", [Release("a", 1, "x"), Release("c")]),
    ("longer", [Release("a", 1, "x"), Release("b"), Release("c")]),
    ("shorter", [Release("b")]),
    ("newer", [Release("a", 2, "x"), Release("b")]),
    ("provides", [Release("a", 1, "y"), Release("b")]),
]
changed = pytest.mark.parametrize(("what", "tasks"), CHANGED, ids=[what for what, _ in CHANGED])


@each_way
@changed
def test_a_finished_run_is_returned_though_its_flow_has_changed(run, backend, run_id, what, tasks):
    first = run(linear_flow.Flow("f").add(Release("a", 1, "x"), Release("b")), backend=backend, run_id=run_id)
    repeated = run(linear_flow.Flow("f").add(*tasks), backend=backend, run_id=run_id)
    assert repeated == first == {"x": "a 1"}
    assert (repeated.state, repeated.results) == (states.SUCCESS, first.results)
    with pytest.raises(exceptions.Duplicate):
        run(linear_flow.Flow("f").add(*tasks), backend=backend, run_id=run_id, if_finished="error")
    for given, name in (({"more": 1}, "f"), (None, "g")):
        with pytest.raises(exceptions.RunMismatch):
            run(linear_flow.Flow(name).add(*tasks), given, backend=backend, run_id=run_id)


@each_way
def test_a_failed_run_raises_its_failure_though_its_flow_has_changed(run, backend, run_id):
    calls = []
    flow = flow_of(calls, fails={"send": OSError("no line")})
    with pytest.raises(OSError, match="no line"):
        run(flow, {"amount": 4}, backend=backend, run_id=run_id)
    calls.clear()
    other = linear_flow.Flow("bill").add(Release("send", 2))
    result = run(other, {"amount": 4}, backend=backend, run_id=run_id, raises=False)
    assert (result, result.state, list(result.failures)) == ({"amount": 4}, states.REVERTED, ["send"])
    assert calls == []


@each_way
@changed
def test_a_finished_run_may_run_again_with_a_flow_that_has_changed(run, backend, known, run_id, what, tasks):
    run(linear_flow.Flow("f").add(Release("a", 1, "x"), Release("b")), backend=backend, run_id=run_id)
    again = run(linear_flow.Flow("f").add(*tasks), backend=backend, run_id=run_id, if_finished="again")
    assert again.results == {one.name: f"{one.name} {one.version[0]}" for one in tasks}
    assert {known.get(run_id).atom(one.name).version for one in tasks} == {f"{one.version[0]}.0" for one in tasks}
    assert run(linear_flow.Flow("f").add(*tasks), backend=backend, run_id=run_id).results == again.results


@each_way
def test_many_that_run_it_again_at_once_wait_for_each_other(run, backend, run_id):
    calls = []
    run(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id)
    calls.clear()

    others, results = iter(range(2)), []

    class Overtaken(linear_flow.Flow):
        """A flow that others run again while it is taken up for that."""

        def __iter__(self):
            if next(others, None) is not None and backend.durable:
                results.append(taskflowx.run(flow_of(calls), backend=backend, run_id=run_id, if_finished="again").state)
            return super().__iter__()

    flow = Overtaken("bill").add(*flow_of(calls))
    result = run(flow, backend=backend, run_id=run_id, if_finished="again", wait=60)
    assert (result.state, calls) == (states.SUCCESS, ["price", "send"] * (1 + len(results)))
    assert len(results) == (2 if backend.durable else 0)


def test_a_flow_that_lost_a_task_which_has_run_is_refused(backend, run_id):
    engine = taskflowx.load(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id)
    steps = engine.run_iter()
    while engine.storage.get_atom_state("price") != states.SUCCESS:
        next(steps)
    steps.close()
    other = linear_flow.Flow("bill").add(task.FunctorTask(lambda: None, name="send"))
    with pytest.raises(exceptions.IncompatibleVersion, match="price"):
        taskflowx.run(other, {"amount": 4}, backend=backend, run_id=run_id)


def test_a_flow_that_cannot_run_makes_no_run(backend, known, run_id):
    with pytest.raises(exceptions.MissingDependencies, match="amount"):
        taskflowx.run(flow_of([]), backend=backend, run_id=run_id)
    with pytest.raises(exceptions.NotFound, match=f"There is no run '{run_id}'"):
        known.get(run_id)
    assert taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id).state == states.SUCCESS


# -- ids ---------------------------------------------------------------------------------------------------------------

IDS = ["a/b/../c", "..", ".", "lock", "metadata", "x" * run_records.LONGEST_ID, "é" * 300, "\U0001f40d", " ", "a\nb"]


@pytest.mark.parametrize("odd", IDS, ids=lambda odd: ascii(odd)[:12])
def test_any_text_is_an_id(odd, backend, known):
    calls = []
    for _ in range(2):
        assert taskflowx.run(flow_of(calls), {"amount": 4}, backend=backend, run_id=odd).run_id == odd
    assert calls == ["price", "send"]
    assert known.get(odd).id == odd
    known.delete(odd)


def test_ids_that_look_alike_are_different(backend):
    alike = ["a", "A", "a ", "a\u0301", "\u00e1"]
    for n, one in enumerate(alike):
        taskflowx.run(flow_of([]), {"amount": n}, backend=backend, run_id=one)
    found = [taskflowx.run(flow_of([]), backend=backend, run_id=one)["total"] for one in alike]
    assert found == [0, 2, 4, 6, 8]


# -- several at once ---------------------------------------------------------------------------------------------------


class Held:
    """A flow whose only task waits, in a thread that runs it under an id."""

    def __init__(self, backend, run_id, **options):
        self.begun, self.go_on, self.calls = threading.Event(), threading.Event(), []
        self.results = []
        self._thread = threading.Thread(
            target=lambda: self.results.append(taskflowx.run(self.flow(), backend=backend, run_id=run_id, **options))
        )

    def flow(self):
        def work():
            self.calls.append(threading.get_ident())
            self.begun.set()
            assert self.go_on.wait(30)
            return 5

        return linear_flow.Flow("held").add(task.FunctorTask(work, name="a", provides="x"))

    def __enter__(self):
        self._thread.start()
        assert self.begun.wait(30)
        return self

    def __exit__(self, *_):
        self.go_on.set()
        self._thread.join(30)


def test_who_comes_second_is_refused_and_told_who_runs_it(backend, run_id):
    with Held(backend, run_id) as held:
        for how in (taskflowx.run, arun, taskflowx.load):
            with pytest.raises(exceptions.OwnershipFailure, match=f"Run '{run_id}' is being run by another engine"):
                how(held.flow(), backend=backend, run_id=run_id)
    assert ([one["x"] for one in held.results], len(held.calls)) == ([5], 1)


@each_way
def test_who_waits_gets_the_result_of_the_other_one(run, backend, run_id):
    with Held(backend, run_id) as held:

        class Scripted(VirtualClock):
            """Lets the other run end at the first wait, and has ended it at the second."""

            def wait_for(self, due, *, idle):
                held.__exit__()
                return super().wait_for(due, idle=idle)

        result = run(held.flow(), backend=backend, run_id=run_id, wait=60, clock=Scripted())
    assert (result, len(held.calls)) == ({"x": 5}, 1)


def test_of_two_engines_of_one_run_the_second_is_refused(backend, known, run_id):
    calls, refused = [], []

    def second_one():
        with pytest.raises(exceptions.OwnershipFailure) as caught:
            second.run()
        refused.append(str(caught.value))

    def flow():
        return linear_flow.Flow("f").add(task.FunctorTask(lambda: calls.append("a"), name="a"),
                                         task.FunctorTask(second_one, name="b"))  # fmt: skip

    first, second = (taskflowx.load(flow(), backend=backend, run_id=run_id) for _ in range(2))
    first.run()
    second_one()
    assert (calls, len(refused)) == (["a"], 2)
    assert "is being run by another engine" in refused[0]
    assert "has gone on since it was read here" in refused[1]
    assert known.get(run_id).state == states.SUCCESS
    first.reset()
    steps = first.run_iter()
    while calls == ["a"]:
        next(steps)
    steps.close()
    second_one()
    taskflowx.load(flow(), backend=backend, run_id=run_id).run()
    assert (calls, known.get(run_id).state) == (["a", "a"], states.SUCCESS)
    with pytest.raises(exceptions.OwnershipFailure):
        first.run()


def test_a_wait_has_an_end(backend, run_id):
    clock = VirtualClock()
    with Held(backend, run_id) as held:
        with pytest.raises(exceptions.OwnershipFailure):
            taskflowx.run(held.flow(), backend=backend, run_id=run_id, wait=7, clock=clock)
        assert clock.monotonic() == 7


def test_of_many_that_start_at_once_one_runs(backend, run_id):
    calls, results, errors = [], [], []
    together = threading.Barrier(6)
    flows = [unordered_flow.Flow("f").add(task.FunctorTask(lambda: calls.append(1), name="a")) for _ in range(6)]

    def start(flow):
        together.wait(30)
        try:
            results.append(taskflowx.run(flow, backend=backend, run_id=run_id, wait=30))
        except BaseException as error:  # noqa: BLE001 - the test says what is allowed
            errors.append(error)

    threads = [threading.Thread(target=start, args=(flow,)) for flow in flows]
    for each in threads:
        each.start()
    for each in threads:
        each.join(60)
    assert (errors, [one.state for one in results], calls) == ([], [states.SUCCESS] * 6, [1])


# -- sensitive values --------------------------------------------------------------------------------------------------


def test_a_sensitive_value_of_a_run_is_refused_by_a_store_without_a_transform(backend, known, run_id):
    if not backend.durable:
        pytest.skip("it stores nothing")
    with pytest.raises(exceptions.Unstorable, match="Cannot store 'amount': it is sensitive"):
        taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id, sensitive={"amount"})
    with pytest.raises(exceptions.NotFound):
        known.get(run_id)


def test_a_value_that_stays_in_memory_is_given_again(backend, known, run_id):
    if not backend.durable:
        pytest.skip("it stores nothing")
    calls, options = [], {"backend": backend, "run_id": run_id, "sensitive": {"amount": "memory"}}
    taskflowx.run(flow_of(calls), {"amount": 4, "who": 1}, timeout=0, raises=False, **options)
    assert known.get(run_id).store == {"who": 1}
    assert taskflowx.run(flow_of(calls), {"amount": 5, "who": 1}, **options)["total"] == 10
    assert calls == ["price", "send"]


def test_a_difference_does_not_show_a_sensitive_value(backend, run_id):
    taskflowx.run(flow_of([]), {"amount": 4, "key": "old secret"}, backend=backend, run_id=run_id)
    given = {"amount": 4, "key": "new secret"}
    with pytest.raises(exceptions.RunMismatch) as caught:
        taskflowx.run(flow_of([]), given, backend=backend, run_id=run_id, sensitive={"key": "memory"})
    assert "key: *** on record, none given" in str(caught.value)
    assert "secret" not in str(caught.value)
