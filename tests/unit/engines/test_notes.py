"""What leaves a run says where it has failed: the atom, its flow, the attempt, and where its calls ran."""

from __future__ import annotations

import asyncio
import concurrent.futures
import dataclasses
import pickle

import pytest

from taskflowx import engines, exceptions, retry, task
from taskflowx.executors import base, threads
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow


class Fails(task.Task):
    def execute(self):
        raise ValueError(self.name)


class FailsToUndo(task.Task):
    def execute(self):
        return 1

    def revert(self):
        raise OSError(self.name)


class Raises(task.Task):
    """Raises the same object each time."""

    def execute(self, error):
        raise error


class FailsLater(retry.Times):
    """Its own second execute fails."""

    def execute(self, history):
        if history:
            raise KeyError(self.name)
        return 1


class Undecided(retry.Times):
    def on_failure(self, history):
        raise LookupError(self.name)


class Elsewhere(base.Executor):
    """An executor of another package."""

    def __init__(self):
        self._threads = threads.ThreadsExecutor(1)

    def start(self, deliver):
        self._threads.start(deliver)

    def submit(self, calls):
        self._threads.submit(calls)

    def recall(self):
        return self._threads.recall()

    def stop(self):
        self._threads.stop()


Elsewhere.__module__ = "elsewhere"


def raised(flow, **options):
    with pytest.raises(Exception) as caught:  # noqa: PT011 - each case says which
        engines.run(flow, **options)
    return caught.value


def notes_of(flow, **options):
    return raised(flow, **options).__notes__


@pytest.mark.parametrize(
    ("executor", "kind"),
    [
        ("serial", "serial"),
        ("threads", "threads"),
        ("processes", "processes"),
        ("asyncio", "asyncio"),
        (lambda: concurrent.futures.ThreadPoolExecutor(1), "ThreadPoolExecutor"),
        (Elsewhere, "Elsewhere"),
    ],
    ids=lambda value: value if isinstance(value, str) else "made",
)
def test_a_note_names_task_flow_and_executor(executor, kind):
    options = {"executor": executor if isinstance(executor, str) else executor()}
    error = raised(linear_flow.Flow("loads").add(Fails("load many")), **options)
    assert isinstance(error, ValueError)
    assert error.__notes__[-1] == f"in task 'load many' of flow 'loads' ({kind})"


def test_step_by_step_and_awaited_runs_add_it_too():
    def flow():
        return linear_flow.Flow("f").add(Fails("a"))

    with pytest.raises(ValueError, match="in task 'a' of flow 'f'"):
        list(engines.load(flow()).run_iter())
    with pytest.raises(ValueError, match="in task 'a' of flow 'f'"):
        asyncio.run(engines.load(flow(), executor="asyncio").arun())


def test_the_flow_is_the_nearest_one():
    inner = unordered_flow.Flow("inner").add(Fails("a"))
    assert notes_of(graph_flow.Flow("outer").add(inner)) == ["in task 'a' of flow 'inner' (serial)"]


def test_a_single_task_is_its_own_flow():
    assert notes_of(Fails("a")) == ["in task 'a' of flow 'a' (serial)"]


@pytest.mark.parametrize(
    ("controller", "attempt"),
    [
        (retry.Times(3, "r"), "attempt 3 of 3, "),
        (retry.ForEach("ab", "r"), "attempt 2 of 2, "),
        (retry.AlwaysRevert("r"), ""),
        (retry.AlwaysRevertAll("r"), ""),
    ],
)
def test_the_attempt_is_told_where_a_retry_repeats(controller, attempt):
    flow = linear_flow.Flow("f", controller).add(Fails("a"))
    assert notes_of(flow) == [f"in task 'a' of flow 'f' ({attempt}serial)"]


def test_the_number_alone_is_told_when_the_retry_does_not_know_of_how_many():
    flow = linear_flow.Flow("f", retry.ParameterizedForEach("r")).add(Fails("a"))
    assert notes_of(flow, store={"values": [1, 2]}) == ["in task 'a' of flow 'f' (attempt 2, serial)"]


def test_the_retry_that_repeats_may_be_further_out():
    inner = linear_flow.Flow("inner", retry.AlwaysRevert("i")).add(Fails("a"))
    flow = linear_flow.Flow("outer", retry.Times(2, "o")).add(inner)
    assert notes_of(flow) == ["in task 'a' of flow 'inner' (attempt 2 of 2, serial)"]


def test_a_failure_of_a_retry_itself():
    flow = linear_flow.Flow("f", FailsLater(3, "r")).add(Fails("a"))
    assert notes_of(flow) == ["in retry 'r' of flow 'f' (attempt 2 of 3, serial)"]


def test_a_failure_of_its_decision():
    error = raised(linear_flow.Flow("f", Undecided(3, "r")).add(Fails("a")))
    assert "in retry 'r' of flow 'f' (attempt 1 of 3, serial)" in "".join(error.__notes__)


def test_a_revert_and_several_failures():
    error = raised(linear_flow.Flow("f").add(FailsToUndo("u"), Fails("a")))
    assert isinstance(error, exceptions.WrappedFailure)
    assert error.__notes__[0] == (
        "2 failed in the run of 'f':\n  in task 'a' of flow 'f' (serial)\n"
        "  in the revert of task 'u' of flow 'f' (serial)"
    )
    assert [one.__notes__ for one in error.exceptions] == [
        ["in task 'a' of flow 'f' (serial)"],
        ["in the revert of task 'u' of flow 'f' (serial)"],
    ]


def test_many_failures_are_told_in_short():
    error = raised(unordered_flow.Flow("f").add(*(Fails(f"a{i}") for i in range(1_000))), never_resolve=True)
    note = error.__notes__[0]
    assert note.startswith("1,000 failed in the run of 'f':\n  in task 'a0' of flow 'f' (serial)\n")
    assert note.endswith(" more")
    assert len(note) < 1_000


def test_it_is_added_once():
    engine = engines.load(linear_flow.Flow("f").add(Fails("a")), never_resolve=True)
    for _ in range(3):
        with pytest.raises(ValueError, match=r"^a") as caught:
            engine.run()
        assert caught.value.__notes__.count("in task 'a' of flow 'f' (serial)") == 1


def test_one_exception_object_of_many_runs_has_a_bounded_number_of_notes():
    error = ValueError("mine")
    error.add_note("a note of my own")
    for number in range(40):
        flow = linear_flow.Flow("f").add(Raises(f"a{number}"))
        assert raised(flow, store={"error": error}) is error
        assert error.__notes__[-1] == f"in task 'a{number}' of flow 'f' (serial)"
    assert error.__notes__[0] == "a note of my own"
    assert len(error.__notes__) <= 17


def test_two_tasks_that_raise_one_object():
    error = ValueError("mine")
    flow = unordered_flow.Flow("f").add(Raises("a"), Raises("b"))
    group = raised(flow, store={"error": error}, executor="threads", max_workers=2)
    assert isinstance(group, exceptions.WrappedFailure)
    assert error.__notes__ == ["in task 'a' of flow 'f' (threads)", "in task 'b' of flow 'f' (threads)"]


def test_a_run_in_a_task_is_told_of_before_the_run_around_it():
    class Runs(task.Task):
        def execute(self):
            engines.run(linear_flow.Flow("inner").add(Fails("a")))

    assert notes_of(linear_flow.Flow("outer").add(Runs("b"))) == [
        "in task 'a' of flow 'inner' (serial)",
        "in task 'b' of flow 'outer' (serial)",
    ]


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    code: int


class TakesNone(ValueError):
    def add_note(self, note):
        raise RuntimeError(note)


class Without(ValueError):
    add_note = None


class NoList(ValueError):
    __notes__ = 7


@pytest.mark.parametrize(
    "error", [Frozen(1), TakesNone("x"), Without("x"), NoList("x")], ids=lambda e: type(e).__name__
)
def test_an_exception_that_takes_no_notes_is_raised_all_the_same(error):
    flow = linear_flow.Flow("f").add(FailsToUndo("u"), Raises("a"))
    assert error in raised(flow, store={"error": error}).exceptions
    assert raised(linear_flow.Flow("f").add(Raises("a")), store={"error": error}) is error


def test_a_failure_without_its_exception_is_told_of_by_the_group():
    engine = engines.load(linear_flow.Flow("f").add(Fails("a")), never_resolve=True)
    with pytest.raises(ValueError, match=r"^a"):
        engine.run()
    for detail in engine.preparation.details:  # a record that was read back has descriptions alone
        detail.failure = type(detail.failure).from_dict(detail.failure.to_dict())
    with pytest.raises(exceptions.WrappedFailure) as caught:
        engine.run()
    assert "in task 'a' of flow 'f' (serial)" in caught.value.__notes__[0]


def test_the_note_survives_a_pickle():
    error = raised(linear_flow.Flow("f").add(Fails("a")))
    assert pickle.loads(pickle.dumps(error)).__notes__ == error.__notes__


def test_odd_names_cost_nothing():
    assert notes_of(linear_flow.Flow("f\n'").add(Fails("a\nb"))) == ["""in task 'a\\nb' of flow "f\\n'" (serial)"""]


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_an_exit_of_a_task_says_which_it_was(kind, executor):
    flow = linear_flow.Flow("f").add(Fine("one"), Raises("exits", inject={"error": kind("out")}))
    with pytest.raises(kind) as caught:
        engines.run(flow, executor=executor)
    [note] = [one for one in caught.value.__notes__ if one.startswith("in task")]
    assert note == f"in task 'exits' of flow 'f' ({executor})"


def test_an_exit_of_a_revert_says_which_it_was():
    class Exits(task.Task):
        def execute(self):
            pass

        def revert(self):
            raise SystemExit(self.name)

    with pytest.raises(SystemExit) as caught:
        engines.run(linear_flow.Flow("f").add(Exits("exits"), Fails("fails")))
    assert caught.value.__notes__ == ["in the revert of task 'exits' of flow 'f' (serial)"]


def test_an_exit_of_a_listener_says_nothing_of_tasks():
    def leave(state, details):
        raise SystemExit(state)

    engine = engines.load(linear_flow.Flow("f").add(Fine("one")))
    engine.atom_notifier.register("RUNNING", leave)
    with pytest.raises(SystemExit) as caught:
        engine.run()
    assert not hasattr(caught.value, "__notes__")


class Fine(task.Task):
    def execute(self):
        return 1
