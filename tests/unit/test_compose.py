"""Flows in one expression: which members they have, in which order these run, and what is refused."""

import functools

import pytest

import taskflowx
from taskflowx import as_task, engines, exceptions, graph, linear, retry, run, task, unordered
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow


def step(name, **keywords):
    return task.FunctorTask(lambda: RAN.append(name), name=name, **keywords)


RAN = []


@pytest.fixture(autouse=True)
def _anew():
    RAN.clear()


def names(flow):
    """Return the names of the members, those of nested flows in a tuple behind their pattern."""
    shape = {linear_flow.Flow: "linear", unordered_flow.Flow: "unordered", graph_flow.Flow: "graph"}
    return [one.name if isinstance(one, task.Task) else (shape[one._tfx_pattern], *names(one)) for one in flow]


def test_each_function_makes_a_flow_of_its_pattern():
    for make, pattern in ((linear, linear_flow), (unordered, unordered_flow), (graph, graph_flow)):
        flow = make("f", step("a"), step("b"), retry=retry.Times(2))
        assert type(flow) is pattern.Flow
        assert (flow.name, names(flow), flow.retry.name) == ("f", ["a", "b"], "f_retry")


def test_functions_tasks_and_flows_mix():
    def plain(size):
        return size

    flow = linear("f", plain, step("a"), unordered_flow.Flow("u").add(step("b")), (step("c"), step("d")))
    assert names(flow) == ["plain", "a", ("unordered", "b"), ("unordered", "c", "d")]


def test_a_chain_is_flat_and_a_tuple_in_it_is_unordered():
    a, b, c, d, e = map(step, "abcde")
    chain = a >> b >> (c, d) >> e
    assert names(chain) == ["a", "b", ("unordered", "c", "d"), "e"]
    assert names(linear("f", chain)) == names(chain)
    assert chain.name == "a >> b >> (c, d) >> e"
    run(linear("f", chain))
    assert RAN[:2] == ["a", "b"]
    assert set(RAN[2:4]) == {"c", "d"}
    assert RAN[4:] == ["e"]


def test_a_chain_may_begin_with_a_tuple_or_a_function():
    a, b, c = map(step, "abc")

    def first():
        RAN.append("first")

    assert names((a, b) >> c) == [("unordered", "a", "b"), "c"]
    run(first >> a)
    assert RAN == ["first", "a"]


def test_a_longer_chain_leaves_the_shorter_one_as_it_is():
    a, b, c, d = map(step, "abcd")
    chain = a >> b
    assert names(chain >> c) == ["a", "b", "c"]
    assert names(chain >> d) == ["a", "b", "d"]
    assert names(chain) == ["a", "b"]


def test_a_flow_under_a_retry_is_repeated():
    tries = []

    @as_task
    def flaky():
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("no")
        return 7

    assert run(flaky | retry.Times(3)) == {"flaky": 7}
    assert len(tries) == 3


def test_retries_around_each_other_have_names_of_their_own():
    tries = []

    def fail():
        tries.append(1)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        run(linear("f", fail) | retry.Times(2) | retry.Times(3))
    assert len(tries) == 6


@pytest.mark.parametrize("wrong", [3, None, retry.Times])
def test_what_is_no_retry_is_refused(wrong):
    with pytest.raises(TypeError, match=r"must be a retry controller such as taskflowx.retry.Times\(3\)"):
        step("a") | wrong


@pytest.mark.parametrize(("wrong", "way_out"), [(step, None), (task.Task, "called"), ("a", "as_task"), (3, "as_task")])
def test_what_is_no_member_is_refused(wrong, way_out):
    if way_out is None:
        assert names(linear("f", wrong)) == ["step"]
    else:
        with pytest.raises(TypeError, match=way_out):
            linear("f", wrong)


class Grower:
    """Can be called, and has a method."""

    def __init__(self, by):
        self.by = by

    def __call__(self, size: int) -> int:
        return size + self.by

    def double(self, size):
        return 2 * size


def shrink(size):
    return size - 2


def grow(size, by, factor=1):
    return (size + by) * factor


@pytest.mark.parametrize(
    ("member", "name", "value"),
    [
        (functools.partial(grow, by=2), "grow", 5),
        (functools.partial(functools.partial(grow, factor=2), by=2), "grow", 10),
        (Grower(3).double, "double", 6),
        (Grower(3), "Grower", 6),
        (functools.lru_cache(shrink), "shrink", 1),
    ],
    ids=["partial", "partial of one", "method", "object", "wrapped"],
)
@pytest.mark.parametrize("make", [linear, unordered, graph])
def test_whatever_can_be_called_becomes_a_task(make, member, name, value):
    flow = make("f", member)
    assert names(flow) == [name]
    found = run(flow, store={"size": 3, "by": 100})
    assert found[name] == value


def test_they_stand_in_a_chain_too():
    start = as_task(lambda: 1, name="start", provides="size")
    assert names(start >> functools.partial(grow, by=1) >> Grower(1)) == ["start", "grow", "Grower"]
    assert names(Grower(1) >> start) == ["Grower", "start"]


def test_two_of_one_name_are_told_what_to_do():
    with pytest.raises(exceptions.Duplicate, match="named 'grow': give one of them a name"):
        run(linear("f", functools.partial(grow, by=1), functools.partial(grow, by=2)), store={"size": 1})
    named = as_task(functools.partial(grow, by=2), name="more", provides="more", rebind={"size": "grow"})
    assert run(linear("f", functools.partial(grow, by=1), named), store={"size": 1})["more"] == 4


def test_a_flow_of_many_has_a_short_name():
    steps = [step(f"step {number}") for number in range(200)]
    chain = functools.reduce(lambda before, after: before >> after, steps)
    assert len(chain.name) < 150
    assert chain.name.startswith("step 0 >> step 1 >> ")
    assert chain.name.endswith(" >> … >> step 199")
    assert len(chain) == 200
    beside = list(chain >> tuple(step(f"more {number}") for number in range(200)))[-1]
    assert len(beside.name) < 150
    assert beside.name.startswith("(more 0, more 1, ")


def test_a_controller_that_stands_behind_two_flows_has_a_name_in_each():
    controller = retry.Times(2)
    flows = step("a") | controller, step("b") | controller
    assert [flow.retry.name for flow in flows] == ["a_retry", "b_retry"]
    run(linear("f", *flows))
    assert RAN == ["a", "b"]
    named = retry.Times(2, "mine")
    assert (step("a") | named).retry is named


# -- deciders by named values ------------------------------------------------------------------------------------------


def _sized(size, **keywords):
    flow = graph("f", make := as_task(lambda: size, name="make", provides="size"), after := step("after"))
    return flow.link(make, after, **keywords)


@pytest.mark.parametrize(("size", "ran"), [(2, []), (4, ["after"])])
def test_a_link_is_followed_when_its_condition_holds(size, ran):
    run(_sized(size, when=lambda size: size > 3))
    assert ran == RAN


def test_a_condition_takes_parts_of_a_result():
    make = as_task(lambda: (1, 5), name="make", provides=("low", "high"))
    run(graph("f", make, after := step("after")).link(make, after, when=lambda high, low=0, other=1: high - low == 4))
    assert RAN == ["after"]


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (lambda size, /: True, "by name"),
        (5, "when"),
    ],
)
def test_a_condition_that_cannot_be_asked_is_refused(when, words):
    with pytest.raises(ValueError, match=words):
        _sized(3, when=when)


@pytest.mark.parametrize(("limit", "ran"), [(3, ["after"]), (9, [])])
def test_a_condition_takes_what_the_task_after_the_link_could_take(limit, ran):
    run(_sized(5, when=lambda size, limit: size > limit), store={"limit": limit})
    assert ran == RAN


def test_a_condition_on_the_link_from_a_flow_takes_what_is_visible_after_it():
    seen = []
    inner = linear("inner", *(as_task(lambda: 3, name=one, provides=one) for one in ("depth", "width")))
    flow = graph("f", as_task(lambda: 0, name="far", provides="far"), inner, after := step("after"))
    flow.link(inner, after, when=lambda depth, width, far=None: seen.append((depth, width, far)) or True)
    run(flow)
    assert (seen, RAN) == ([(3, 3, None)], ["after"])


def test_a_value_of_the_task_before_the_link_goes_before_others_of_its_name():
    run(_sized(5, when=lambda size: size == 5), store={"size": 1}, results="lenient")
    assert RAN == ["after"]


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_condition_for_which_nobody_provides_a_value_is_refused_before_anything_runs(executor):
    flow = _sized(5, when=lambda size, sise: True)
    with pytest.raises(exceptions.MissingDependencies, match=r"when= of a link before it.*(.|\n)*did you mean 'size'"):
        run(flow, executor=executor)
    assert RAN == []


def test_a_condition_on_a_value_that_comes_later_is_refused():
    flow = _sized(5, when=lambda late: True).add(as_task(lambda: 1, name="late", provides="late"))
    with pytest.raises(exceptions.MissingDependencies, match="'late' provides 'late', but does not run before 'after'"):
        run(flow)


def test_what_a_condition_takes_is_kept():
    first, make, after = as_task(lambda: 2, name="first", provides="limit"), step("make"), step("after")
    middle = as_task(lambda limit: limit, name="middle", provides="other")
    flow = graph("f", first, make, middle, after).link(middle, make).link(make, after, when=lambda limit: limit == 2)
    run(flow, keep_results=False)
    assert RAN == ["make", "after"]


def test_a_link_has_a_decider_or_a_condition():
    with pytest.raises(ValueError, match="not both"):
        _sized(3, decider=lambda history: True, when=lambda size: True)


# -- strict names ------------------------------------------------------------------------------------------------------


def _provider(name, value=1):
    return as_task(lambda: value, name=name, provides="x")


def test_two_providers_of_a_name_are_refused_before_anything_runs():
    with pytest.raises(exceptions.AmbiguousDependency, match=r"'x' is provided by 'a', 'b'.*provides="):
        run(unordered("f", _provider("a"), _provider("b"), step("c")))
    assert RAN == []


def test_a_name_in_the_store_and_of_a_provider_is_refused():
    with pytest.raises(exceptions.AmbiguousDependency, match="'x' is given in store= and provided by 'a'"):
        run(_provider("a"), {"x": 1})


def test_the_lenient_engine_warns_of_both(caplog):
    user = task.FunctorTask(lambda x: x, name="user", provides="y")
    flow = linear("f", _provider("a", 1), _provider("b", 2), user)
    assert taskflowx.engines.run(flow)["y"] == 2
    assert "'x' is provided by 'a', 'b'" in caplog.text
    caplog.clear()
    assert taskflowx.engines.run(linear("f", _provider("a"), user), {"x": 5})["y"] == 5
    assert "'x' is given in store= and provided by 'a'" in caplog.text


def test_a_controller_has_its_name_as_soon_as_it_stands_behind_a_flow_and_each_flow_one_of_its_own():
    controller = retry.ForEach([1, 2], provides="v")
    first = linear("first", task.FunctorTask(lambda v: v, name="a")) | controller
    second = linear("second", task.FunctorTask(lambda v: v, name="b")) | controller
    engine = engines.load(first)
    engine.run()
    assert engine.storage.get(controller.name) == [(1, {})]
    assert (controller.name, first.retry.name, second.retry.name) == ("first_retry", "first_retry", "second_retry")
