"""The settings of a task: its keywords, those of its class, and what is refused."""

from __future__ import annotations

import copy
import math
import pickle

import pytest

from taskflowx import as_task, compose, controls, engines, retry, task
from taskflowx.engines.compile import compile_flow
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow


class Fetch(task.Task):
    default_provides = "page"

    def execute(self, host, path="/"):
        return f"{host}{path}"

    def revert(self, **kwargs):
        pass


class Patient(Fetch):
    default_retry = retry.Times(3)
    default_timeout = 30
    default_limits = ("net",)
    default_on_unknown = "ask"

    def find_outcome(self, idempotency_key, host):
        return retry.NOT_DONE


class Impatient(Patient):
    default_retry = None
    default_timeout = 1


def settings_of(made):
    """The settings as the engine sees them."""
    flow = linear_flow.Flow("f").add(made)
    plan = compile_flow(flow)
    return plan.controls.get(plan.names[made.name])


def is_last(failure):
    return "last" in failure.exception_str


# -- tasks without settings ------------------------------------------------------------------------------------------


def test_a_task_without_settings_has_no_attribute_for_them():
    for made in (Fetch("f"), task.FunctorTask(print, "p"), task.MapFunctorTask(abs, ["a"])):
        assert made._tfx_controls is None
        assert "_tfx_controls" not in vars(made)
    assert set(vars(Fetch("f"))) == {"_tfx_listened", "_tfx_signature", "name"}
    assert "_tfx_controls" not in vars(Patient("p"))  # they are those of its class
    assert settings_of(Fetch("f")) is None


def test_attributes_of_users_mean_nothing():
    class Own(Fetch):
        timeout, limits, retry, grace, on_unknown = -1, "db", 3, "much", "?"

        def __init__(self, name):
            self.revert_timeout = -1
            super().__init__(name)
            self.timeout = "never"

    assert settings_of(Own("own")) is None


def test_a_flow_without_settings_has_no_attribute_for_them():
    for pattern in (linear_flow, unordered_flow, graph_flow):
        assert not {name for name in vars(pattern.Flow("f")) if "timeout" in name}
        assert pattern.Flow("f")._tfx_timeout is None


# -- keywords and attributes of classes ------------------------------------------------------------------------------


def test_keywords_of_a_task():
    made = Fetch(
        "f",
        timeout=5,
        revert_timeout=6.5,
        revert_retry=retry.Times(2, delay=1),
        limits={"db": 2, "host:{host}": 1},
        on_unknown="undo",
        grace=0,
        strict_timeout=True,
    )
    found = settings_of(made)
    assert (found.retry, found.timeout, found.revert_timeout, found.grace) == (None, 5, 6.5, 0)
    assert found.revert_retry._tfx_limit() == 2
    assert found.limits == (("db", 2), ("host:{host}", 1))
    assert (found.on_unknown, found.strict_timeout, found.finds) == ("undo", True, None)


@pytest.mark.parametrize(
    "make",
    [
        lambda **keywords: task.FunctorTask(abs_of, "t", **keywords),
        lambda **keywords: task.MapFunctorTask(abs_of, ["a"], "t", **keywords),
        lambda **keywords: task.ReduceFunctorTask(sum_of, ["a", "b"], "t", **keywords),
        lambda **keywords: as_task(**keywords)(abs_of).named("t"),
        lambda **keywords: as_task(abs_of)("t", **keywords),
        lambda **keywords: as_task(abs_of).named("t", **keywords),
    ],
)
def test_tasks_of_functions_take_the_keywords(make):
    made = make(timeout=3, limits=["db"], retry=retry.Times(2))
    assert settings_of(made)[:2] == (made._tfx_controls.retry, 3)
    assert made._tfx_controls.retry.name == "t_retry"
    assert made._tfx_controls.limits == (("db", 1),)


def abs_of(a):
    return abs(a)


def sum_of(a, b):
    return a + b


def test_settings_of_a_class_are_those_of_its_tasks_and_a_keyword_counts_more():
    found = settings_of(Patient("p"))
    assert (found.timeout, found.limits, found.on_unknown) == (30, (("net", 1),), "ask")
    assert found.finds.required == ("host",)
    found = settings_of(Patient("p", timeout=5, on_unknown="repeat", limits=()))
    assert (found.timeout, found.limits, found.on_unknown) == (5, (), "repeat")
    assert found.finds.required == ("host",)
    assert found.retry._tfx_limit() == 3


def test_a_subclass_takes_or_replaces_the_settings_of_its_base_class():
    found = settings_of(Impatient("i"))
    assert (found.retry, found.timeout, found.limits) == (None, 1, (("net", 1),))

    class Plain(Impatient):
        default_timeout = default_limits = default_on_unknown = find_outcome = None

    assert settings_of(Plain("p")) is None


def test_settings_may_come_from_a_class_that_is_no_task():
    class Slow:
        default_timeout = 7

    class SlowFetch(Slow, Fetch):
        pass

    assert settings_of(SlowFetch("s")).timeout == 7


def test_a_decorated_function_keeps_its_settings_when_its_revert_is_declared():
    @as_task(on_unknown="undo", timeout=3, retry=retry.Times(4))
    def charge(amount):
        return amount

    @charge.revert
    def refund(result):
        pass

    for made in (charge, charge.named("other"), charge(name="third")):
        found = settings_of(made)
        assert (found.on_unknown, found.timeout, found.retry.name) == ("undo", 3, f"{made.name}_retry")


def test_a_copy_of_a_task_has_its_settings():
    made = Fetch("f", timeout=3, retry=retry.Times(2))
    other = made.copy()
    other.name = "g"
    plan = compile_flow(linear_flow.Flow("f").add(made, other))
    assert list(plan.names) == ["f_retry", "f", "g_retry", "g"]
    assert [one.timeout for one in plan.controls.values()] == [3, 3]


def test_a_controller_alone_leaves_a_task_as_it_is_in_a_flow_under_that_controller():
    plan = compile_flow(linear_flow.Flow("f").add(Once("a", retry=retry.Times(2)), Once("b", grace=1), Once("c")))
    assert list(plan.names) == ["a_retry", "a", "b", "c"]
    assert [plan.plain[plan.names[name]] for name in "abc"] == [1, 0, 1]
    assert list(plan.controls) == [plan.names["b"]]


# -- pickles ---------------------------------------------------------------------------------------------------------


def test_settings_are_pickled_with_a_task():
    made = Patient("p", grace=1, retry=retry.Times(3, delay=1, retry_on=(OSError, "KeyError", is_last)))
    other = pickle.loads(pickle.dumps(made))
    assert other._tfx_controls[1:] == made._tfx_controls[1:]
    assert other._tfx_controls.retry._tfx_pacing == made._tfx_controls.retry._tfx_pacing


def test_a_controller_that_cannot_be_pickled_stays_behind_and_is_missed_where_a_flow_needs_it():
    flow = linear_flow.Flow("f").add(Fetch("a", timeout=3, retry=retry.Times(2, retry_on=lambda failure: True)))
    other = pickle.loads(pickle.dumps(flow))
    assert next(iter(other))._tfx_controls.timeout == 3
    for ask in (compile_flow, lambda flow: flow.requires, lambda flow: graph_flow.Flow("g").add(*flow)):
        with pytest.raises(ValueError, match=r"controller of task 'a' was left behind .* top level of a module"):
            ask(other)
    assert compile_flow(copy.deepcopy(flow)).names == {"a_retry": 0, "a": 1}  # of this process


def test_a_call_in_another_process_needs_no_controller():
    made = Fetch("a", retry=retry.Times(2, retry_on=lambda failure: True), inject={"host": "h"})
    assert engines.run(linear_flow.Flow("f").add(made), executor="processes")["page"] == "h/"


def test_a_function_in_another_process_needs_no_controller():
    made = length.named("l", retry=retry.Times(2, retry_on=lambda failure: True))
    assert engines.run(linear_flow.Flow("f").add(made), {"text": "abc"}, executor="processes")["length"] == 3


@as_task(timeout=60)
def length(text):
    return len(text)


# -- flows -----------------------------------------------------------------------------------------------------------


def test_flows_of_all_patterns_take_a_time_limit():
    for pattern in (linear_flow.Flow, unordered_flow.Flow, graph_flow.Flow, graph_flow.TargetedFlow):
        made = pattern("f", None, 5, strict_timeout=True)
        assert (made._tfx_timeout, made._tfx_strict_timeout) == (5, True)
    for make in (compose.linear, compose.unordered, compose.graph):
        made = make("f", Fetch("a"), timeout=0.5, retry=retry.Times(2))
        assert (made._tfx_timeout, made._tfx_strict_timeout, made.retry.name) == (0.5, False, "f_retry")


def test_a_plan_has_the_limits_of_its_flows_the_inner_ones_first():
    def named(prefix):
        return [Fetch(f"{prefix}{number}") for number in range(2)]

    inner = graph_flow.Flow("inner", retry.Times(2, "r"), timeout=2).add(*(Fetch(n, provides=n) for n in "ab"))
    empty = unordered_flow.Flow("empty", timeout=1)
    plan = compile_flow(linear_flow.Flow("outer", timeout=9).add(*named("x"), inner, empty, *named("y")))
    assert [(lo, hi, seconds, span.flow.name) for lo, hi, seconds, span in plan.timeouts] == [
        (2, 5, 2, "inner"),
        (0, 7, 9, "outer"),
    ]


# -- what is refused -------------------------------------------------------------------------------------------------

AMOUNT = "a whole number from 1"


@pytest.mark.parametrize(
    ("keywords", "kind", "words"),
    [
        ({"timeout": 0}, ValueError, "timeout= of task 'f' must be a number of seconds, more than 0"),
        ({"timeout": -1}, ValueError, "timeout= of task 'f'"),
        ({"timeout": math.nan}, ValueError, "timeout= of task 'f'"),
        ({"timeout": math.inf}, ValueError, "without a limit, leave it out"),
        ({"timeout": True}, TypeError, "timeout= of task 'f'"),
        ({"timeout": "5"}, TypeError, "timeout= of task 'f'"),
        ({"revert_timeout": 0}, ValueError, "revert_timeout= of task 'f'"),
        ({"grace": -1}, ValueError, "grace= of task 'f' must be a number of seconds, 0 or more"),
        ({"grace": math.inf}, ValueError, "grace="),
        ({"retry": 3}, TypeError, "retry= of task 'f' must be a retry controller such as"),
        ({"retry": retry.Times}, TypeError, "retry= of task 'f'"),
        ({"revert_retry": retry.ForEach([1])}, TypeError, "revert_retry= of task 'f' must be a taskflowx.retry.Times"),
        ({"revert_retry": retry.Times(2, provides="n")}, ValueError, "nobody gives it values"),
        ({"on_unknown": "redo"}, ValueError, "on_unknown= of task 'f' must be one of 'repeat', 'undo', 'ask'"),
        ({"on_unknown": 1}, ValueError, "on_unknown="),
        ({"limits": "db"}, TypeError, r"limits= of task 'f' must be names in a tuple such as \('db',\)"),
        ({"limits": 3}, TypeError, "limits="),
        ({"limits": (3,)}, TypeError, "Each name in limits= of task 'f'"),
        ({"limits": ("",)}, ValueError, "limits= of task 'f' has a name without a letter"),
        ({"limits": ("db", "db")}, ValueError, "has 'db' twice"),
        ({"limits": {"db": 0}}, ValueError, f"'db' must be {AMOUNT}"),
        ({"limits": {"db": 1.5}}, TypeError, f"'db' must be {AMOUNT}"),
        ({"limits": {"db": True}}, TypeError, f"'db' must be {AMOUNT}"),
        ({"limits": ("host:{hots}",)}, ValueError, r"gets no argument 'hots'; it gets \['host', 'path'\]"),
        ({"limits": ("host:{}",)}, ValueError, "braces in a name hold an argument"),
        ({"limits": ("host:{host",)}, ValueError, "braces in a name hold an argument"),
        ({"limits": ("{host!r}",)}, ValueError, "braces in a name hold an argument"),
        ({"strict_timeout": 1, "timeout": 3}, TypeError, "strict_timeout= of task 'f' must be True or False"),
        ({"strict_timeout": True}, ValueError, "strict_timeout= of task 'f' needs a limit .* add timeout="),
        ({"tiemout": 3}, TypeError, "task 'f' got an unexpected keyword argument 'tiemout'; did you mean 'timeout'"),
        ({"zzz": 3}, TypeError, "unexpected keyword argument 'zzz'; it takes"),
    ],
    ids=str,
)
def test_a_keyword_that_makes_no_sense_is_refused(keywords, kind, words):
    with pytest.raises(kind, match=words):
        Fetch("f", **keywords)


@pytest.mark.parametrize(
    ("attributes", "kind", "words"),
    [
        ({"default_timeout": -1}, ValueError, "default_timeout of class Made must be"),
        ({"default_retry": retry.Times}, TypeError, "default_retry of class Made"),
        ({"default_limits": "db"}, TypeError, "default_limits of class Made"),
        ({"default_limits": ("{user}",)}, ValueError, "default_limits of class Made has '{user}'.* no argument 'user'"),
        ({"default_on_unknown": "never"}, ValueError, "default_on_unknown of class Made"),
        ({"default_timeout": property(lambda self: 3)}, TypeError, "default_timeout of class Made"),
        ({"find_outcome": 3}, ValueError, "find_outcome of class Made must be callable"),
        ({"find_outcome": lambda self: None}, ValueError, "must take an argument idempotency_key"),
        (
            {"find_outcome": lambda self, idempotency_key, hots: None},
            ValueError,
            "find_outcome of class Made takes an argument 'hots' that nobody gives",
        ),
        ({"find_outcome": lambda self, idempotency_key, more=1: None}, ValueError, "'more' that nobody gives"),
        (
            {"find_outcome": lambda self, host, /, idempotency_key: None},
            ValueError,
            r"find_outcome of class Made takes \['host'\] by position only",
        ),
    ],
    ids=lambda value: str(value) if isinstance(value, str) else None,
)
def test_an_attribute_of_a_class_that_makes_no_sense_is_refused_with_the_class(attributes, kind, words):
    with pytest.raises(kind, match=words):
        type("Made", (Fetch,), attributes)


def test_find_outcome_may_take_all_or_some_of_what_execute_gets():
    class Open(task.Task):
        def execute(self, **kwargs):
            pass

        def find_outcome(self, idempotency_key, order, **kwargs):
            pass

    assert settings_of(Open("o", requires=["order"])).finds.open_ended
    with pytest.raises(ValueError, match="find_outcome of task 'o' takes an argument 'order' that nobody gives"):
        settings_of(Open("o", requires=["item"]))
    with pytest.raises(ValueError, match="'order' that nobody gives"):
        Open("o", requires=["item"], timeout=3)
    assert settings_of(Open("o", inject={"order": 3})).finds.required == ("order",)


def test_find_outcome_may_be_static_or_of_the_class():
    class Static(Fetch):
        @staticmethod
        def find_outcome(idempotency_key, host):
            pass

    class OfClass(Fetch):
        @classmethod
        def find_outcome(cls, idempotency_key, host):
            pass

    assert [settings_of(one("s")).finds.required for one in (Static, OfClass)] == [("host",), ("host",)]


class Once(task.Task):
    def execute(self):
        pass


def test_what_is_to_be_undone_needs_a_revert():
    words = r"on_unknown='undo' of task 'a' calls its revert, and it has none"
    with pytest.raises(ValueError, match=words):
        Once("a", on_unknown="undo")
    with pytest.raises(ValueError, match=words):
        task.FunctorTask(print, "a", on_unknown="undo")
    assert task.FunctorTask(print, "a", revert=print, on_unknown="undo")._tfx_controls.on_unknown == "undo"
    with pytest.raises(ValueError, match=words):
        compile_flow(linear_flow.Flow("f").add(as_task(print, name="a", on_unknown="undo")))
    of_class = type("OfClass", (Once,), {"default_on_unknown": "undo"})
    with pytest.raises(ValueError, match=words):
        compile_flow(linear_flow.Flow("f").add(of_class("a")))


@pytest.mark.parametrize(
    ("keywords", "kind", "words"),
    [
        ({"timeout": 0}, ValueError, "timeout= of flow 'f' must be a number of seconds, more than 0"),
        ({"timeout": math.nan}, ValueError, "timeout= of flow 'f'"),
        ({"timeout": math.inf}, ValueError, "leave it out"),
        ({"timeout": False}, TypeError, "timeout= of flow 'f'"),
        ({"timeout": "1"}, TypeError, "timeout= of flow 'f'"),
        ({"timeout": 1, "strict_timeout": 1}, TypeError, "strict_timeout= of flow 'f'"),
        ({"strict_timeout": True}, ValueError, "strict_timeout= of flow 'f' .* add timeout="),
    ],
    ids=str,
)
@pytest.mark.parametrize(
    "make",
    [linear_flow.Flow, unordered_flow.Flow, graph_flow.Flow, graph_flow.TargetedFlow, compose.linear, compose.graph],
)
def test_a_limit_of_a_flow_that_makes_no_sense_is_refused(make, keywords, kind, words):
    with pytest.raises(kind, match=words):
        make("f", **keywords)


def test_the_names_of_settings_are_keywords_of_tasks():
    assert set(controls.NAMES) < set(task.KEYWORDS)
    assert all(getattr(task.Task, f"default_{name}") is None for name in controls.NAMES)
