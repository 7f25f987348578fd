"""Tasks: names, functions as tasks, progress."""

from __future__ import annotations

import concurrent.futures
import functools
import logging
import operator
import pickle
import threading

import pytest

from taskflowx import task
from taskflowx.types import notifier


class Work(task.Task):
    def execute(self, a):
        return a


class Outer:
    class Inner(task.Task):
        def execute(self):
            pass


def double(x, times=2):
    return x * times


def undouble(x, result, flow_failures):
    return x, result, flow_failures


class Methods:
    def work(self, a, b=1):
        return a, b

    def __call__(self, q, w=1):
        return q, w


# -- Task ------------------------------------------------------------------------------------------------------------


def test_the_name_is_that_of_the_class_by_default():
    assert Work().name == f"{__name__}.Work"
    assert Outer.Inner().name == f"{__name__}.Outer.Inner"
    assert Work("own").name == "own"


def test_a_name_set_before_the_constructor_is_kept():
    class Early(Work):
        def __init__(self):
            self.name = "early"
            super().__init__()

    assert Early().name == "early"


def test_a_name_set_by_the_class_is_kept():
    class Named(Work):
        name = "of the class"

    assert Named().name == "of the class"
    assert Named("own").name == "own"


def test_all_of_a_declaration_goes_by_position():
    made = Work("n", "p", ["a"], True, ["x"], {"x": 1}, ["z"], None, None)
    assert (made.name, made.save_as, made.rebind, made.inject) == ("n", {"p": None}, {"a": "x"}, {"x": 1})


def test_a_task_without_execute_cannot_be_made():
    with pytest.raises(TypeError, match="'execute'"):
        task.Task()


def test_names_that_callers_use():
    assert (task.REVERT_RESULT, task.REVERT_FLOW_FAILURES) == ("result", "flow_failures")
    assert task.Task.TASK_EVENTS == (task.EVENT_UPDATE_PROGRESS,) == ("update_progress",)


def test_a_task_is_pickled_with_its_wiring():
    made = pickle.loads(pickle.dumps(Work("w", provides="y", rebind=["x"])))
    assert (made.name, made.save_as, made.rebind) == ("w", {"y": None}, {"a": "x"})


# -- progress and notifier -------------------------------------------------------------------------------------------


def heard(one):
    events = []
    one.notifier.register(task.EVENT_UPDATE_PROGRESS, lambda event, details: events.append((event, details)))
    return events


@pytest.fixture
def reports():
    """What is reported to whoever runs the calls of this thread."""
    made = []
    kept = task.PROGRESS.set(lambda one, details: made.append((one, details)))
    yield made
    task.PROGRESS.reset(kept)


def test_progress_is_told_to_the_listeners_at_once():
    work = Work()
    events = heard(work)
    work.update_progress(0.5)
    assert events == [("update_progress", {"progress": 0.5})]


def test_progress_carries_details():
    work = Work()
    events = heard(work)
    work.update_progress(0.5, step="copy")
    assert events == [("update_progress", {"progress": 0.5, "step": "copy"})]


@pytest.mark.parametrize(("given", "told"), [(3, 1.0), (1.0001, 1.0), (-1, 0.0), (-0.001, 0.0)])
def test_progress_outside_of_its_range_is_clamped_with_a_warning(given, told, caplog):
    work = Work("w")
    events = heard(work)
    with caplog.at_level(logging.WARNING):
        work.update_progress(given)
    assert events == [("update_progress", {"progress": told})]
    [line] = caplog.messages
    assert line == (
        "Progress value must be greater or equal to 0.0 or less than or equal to 1.0 instead of being "
        f"'{given}'; \"w==1.0\" takes it as {told}"
    )


@pytest.mark.parametrize("given", [0, 0.0, 0.3, 1, 1.0])
def test_progress_within_its_range_is_told_without_a_warning(given, caplog):
    work = Work()
    events = heard(work)
    with caplog.at_level(logging.WARNING):
        work.update_progress(given)
    assert events == [("update_progress", {"progress": given})]
    assert not caplog.records


def test_progress_goes_to_whoever_runs_the_calls_of_the_thread(reports):
    work = Work()
    work.update_progress(0.25, step=1)
    assert reports == [(work, {"progress": 0.25, "step": 1})]


def test_progress_outside_of_a_run_without_listeners_goes_nowhere():
    work = Work()
    work.update_progress(0.5)
    assert work._tfx_listened is None  # and no notifier was made for it


def test_the_notifier_knows_its_events_only():
    with pytest.raises(ValueError, match="other"):
        Work().notifier.register("other", lambda event, details: None)
    work = Work()
    work.notifier.register(notifier.Notifier.ANY, lambda event, details: None)
    assert len(work.notifier) == 1


def test_each_task_has_one_notifier_of_its_own():
    class Asks(Work):
        def asked(self):
            return self._notifier  # as subclasses may

    one, two = Asks(), Asks()
    assert one.notifier is one.notifier
    assert one.notifier is one.asked()
    assert one.notifier is not two.notifier


def test_a_copy_keeps_the_listeners_and_adds_its_own_apart():
    work = Work("w")
    events = heard(work)
    other = work.copy()
    mine = heard(other)
    other.update_progress(0.5)
    assert len(events) == len(mine) == 1
    work.update_progress(0.6)
    assert (len(events), len(mine)) == (2, 1)


def test_a_copy_can_leave_the_listeners():
    work = Work("w", provides="x")
    events = heard(work)
    other = work.copy(retain_listeners=False)
    other.update_progress(0.5)
    assert not events
    assert len(other.notifier) == 0
    assert (other.name, other.save_as) == ("w", {"x": None})


def test_a_copy_of_a_task_that_nobody_listens_to_has_no_notifier():
    assert Work().copy()._tfx_listened is None


# -- FunctorTask -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (double, f"{__name__}.double"),
        (Methods().work, f"{__name__}.Methods.work"),
        (Methods(), f"{__name__}.Methods"),
        (Methods, f"{__name__}.Methods"),
        (print, "builtins.print"),
    ],
)
def test_a_function_gives_its_name(function, name):
    assert task.FunctorTask(function).name == name
    assert task.FunctorTask(function, name="own").name == "own"


@pytest.mark.parametrize(
    ("function", "requires", "optional"),
    [
        (double, ["x"], ["times"]),
        (Methods().work, ["a"], ["b"]),
        (Methods(), ["q"], ["w"]),
        (lambda x: x, ["x"], []),
        (functools.partial(double, 1), [], ["times"]),
        (functools.partial(double, times=1), ["x"], ["times"]),
        (max, [], []),
    ],
)
def test_a_function_says_what_it_needs(function, requires, optional):
    made = task.FunctorTask(function)
    assert (list(made.requires), list(made.optional)) == (requires, optional)


def test_a_function_is_called():
    assert task.FunctorTask(double).execute(x=4) == 8
    assert task.FunctorTask(double).execute(x=4, times=3) == 12
    assert task.FunctorTask(double, revert=undouble).revert(x=4, result=8, flow_failures={}) == (4, 8, {})


def test_without_a_revert_function_nothing_is_undone():
    made = task.FunctorTask(double)
    assert made.revert(result=1, flow_failures={}) is None
    assert made.revert_rebind == {}
    assert list(made.requires) == ["x"]


def test_a_revert_function_needs_what_it_takes_but_not_what_the_engine_fills():
    made = task.FunctorTask(double, revert=lambda x, result, other, **rest: None)
    assert made.revert_rebind == {"x": "x", "other": "other"}
    assert list(made.requires) == ["x", "other"]
    assert made._tfx_signature.takes_result
    assert not task.FunctorTask(double, revert=lambda x: None)._tfx_signature.takes_result


def test_a_revert_function_inherits_the_rebinding():
    made = task.FunctorTask(double, rebind={"x": "value"}, revert=undouble)
    assert made.revert_rebind == {"x": "value"}


def test_an_open_revert_function_gets_what_was_declared():
    assert task.FunctorTask(double, requires=["x"], revert=lambda **rest: None).revert_rebind == {"x": "x"}


@pytest.mark.parametrize(
    ("arguments", "what"), [({"execute": 3}, "executing"), ({"execute": double, "revert": 3}, "reverting")]
)
def test_what_cannot_be_called_is_refused(arguments, what):
    with pytest.raises(ValueError, match=f"^Function to use for {what} must be callable, not 3 "):
        task.FunctorTask(**arguments)


def test_a_function_has_a_version():
    assert str(task.FunctorTask(double, "f", version=(3, 1))) == '"f==3.1"'
    assert task.FunctorTask(double).version == (1, 0)


def test_a_declaration_is_taken_as_for_any_task():
    made = task.FunctorTask(lambda **rest: 1, "f", ("p", "q"), ["m"], False, {"k": "kk"}, inject={"m": 1})
    assert made.save_as == {"p": 0, "q": 1}
    assert made.rebind == {"m": "m", "k": "kk"}
    assert list(made.requires) == ["kk"]


def test_functions_of_one_code_are_told_apart():
    first, second = (task.FunctorTask(lambda x, y=n: (x, y), f"f{n}") for n in (1, 2))
    assert (first.execute(x=0), second.execute(x=0)) == ((0, 1), (0, 2))


# -- MapFunctorTask and ReduceFunctorTask ----------------------------------------------------------------------------

MANY = [(task.MapFunctorTask, lambda x: x, "map"), (task.ReduceFunctorTask, lambda x, y: x + y, "reduce")]


def test_map_returns_the_value_for_each_input_in_order():
    made = task.MapFunctorTask(lambda x: x + 1, requires=["x1", "x2", "x3"], provides="all", name="m")
    assert made.execute(x3=30, x2=20, x1=10) == [11, 21, 31]
    assert (list(made.requires), made.save_as) == (["x1", "x2", "x3"], {"all": None})


def test_map_of_nothing_is_empty():
    assert task.MapFunctorTask(lambda x: x, requires=[]).execute() == []


@pytest.mark.parametrize(
    ("cls", "functor", "what"), [(task.MapFunctorTask, abs, ""), (task.ReduceFunctorTask, max, "")]
)
def test_an_input_that_is_missing_is_not_passed_over(cls, functor, what):
    with pytest.raises(KeyError, match="b"):
        cls(functor, ["a", "b"]).execute(a=1)


def test_reduce_folds_from_the_left_in_order():
    made = task.ReduceFunctorTask(lambda so_far, x: so_far - x, requires=("a", "b", "c"), name="r")
    assert made.execute(c=1, b=2, a=10) == 7
    assert task.ReduceFunctorTask(operator.add, requires=["a", "b"]).execute(a="x", b="y") == "xy"


@pytest.mark.parametrize(("cls", "functor", "what"), MANY)
def test_inputs_can_be_rebound_by_name_and_by_place(cls, functor, what):
    assert cls(functor, ["a", "b"], rebind={"a": "c"}).rebind == {"a": "c", "b": "b"}
    by_place = cls(functor, ["a", "b"], rebind=["c", "d"])
    assert by_place.rebind == {"a": "c", "b": "d"}
    assert list(by_place.requires) == ["c", "d"]


def test_rebound_inputs_keep_their_order():
    made = task.ReduceFunctorTask(lambda x, y: x + y, ["a", "b"], rebind={"a": "zz", "more": "m"})
    assert made.execute(more="3", b="2", a="1") == "123"
    assert task.MapFunctorTask(lambda x: x, ["a"], rebind=["p", "q"]).execute(q=2, a=1) == [1, 2]


def test_inputs_can_be_injected():
    made = task.ReduceFunctorTask(lambda x, y: x + y, ["a", "b"], inject={"a": 1})
    assert list(made.requires) == ["b"]


@pytest.mark.parametrize(("cls", "functor", "what"), MANY)
def test_the_name_is_that_of_the_function(cls, functor, what):
    assert cls(functor, ["a", "b"]).name.endswith("<lambda>")
    assert cls(functor, ["a", "b"], "own", "p").name == "own"


@pytest.mark.parametrize(("cls", "functor", "what"), MANY)
def test_a_functor_that_cannot_be_called_is_refused(cls, functor, what):
    with pytest.raises(ValueError, match=f"^Function to use for {what} must be callable, not 3 "):
        cls(3, ["a", "b"])


@pytest.mark.parametrize(("cls", "functor", "what"), MANY)
def test_one_text_is_no_row_of_inputs(cls, functor, what):
    with pytest.raises(TypeError, match=r"was provided for requires. Requires must be an iterable"):
        cls(functor, "ab")


@pytest.mark.parametrize(
    ("cls", "functor", "message"),
    [
        (task.MapFunctorTask, lambda x, y: x, "2 arguments were provided. Map functor must take exactly 1 argument."),
        (task.MapFunctorTask, lambda: 1, "0 arguments were provided. Map functor must take exactly 1 argument."),
        (task.MapFunctorTask, lambda *x: x, "0 arguments were provided. Map functor must take exactly 1 argument."),
        (task.MapFunctorTask, lambda x, y=1: x, "2 arguments were provided. Map functor must"),
        (
            task.ReduceFunctorTask,
            lambda x: x,
            "1 arguments were provided. Reduce functor must take exactly 2 arguments.",
        ),
    ],
)
def test_a_functor_of_another_number_of_arguments_is_refused(cls, functor, message):
    with pytest.raises(ValueError, match=message):
        cls(functor, ["a", "b"])


@pytest.mark.parametrize("functor", [len, "x".join, abs])
def test_built_in_functions_can_be_mapped(functor):
    assert list(task.MapFunctorTask(functor, ["a"]).requires) == ["a"]


def test_too_few_inputs_cannot_be_reduced():
    with pytest.raises(ValueError, match=r"^1 elements were provided. Requires must have at least 2 elements.$"):
        task.ReduceFunctorTask(lambda x, y: x, ["a"])


def test_threads_that_ask_for_the_notifier_at_once_get_the_same_one(monkeypatch):
    """Each of two has found none when it makes one."""
    both = threading.Barrier(2)

    class Slow(task.TaskNotifier):
        def __init__(self, *args):
            both.wait(10)
            super().__init__(*args)

    monkeypatch.setattr(task, "TaskNotifier", Slow)
    work = Work()
    heard = []
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        made = list(pool.map(lambda _: work.notifier, range(2)))
    assert made == [work.notifier] * 2
    made[0].register(task.EVENT_UPDATE_PROGRESS, lambda event, details: heard.append("first"))
    made[1].register(task.EVENT_UPDATE_PROGRESS, lambda event, details: heard.append("second"))
    work.update_progress(0.5)
    assert heard == ["first", "second"]
