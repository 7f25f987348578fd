"""A task with a retry controller of its own is a flow of it alone under that controller, in each pattern."""

from __future__ import annotations

import contextlib
import itertools

import pytest
from hypothesis import given, strategies

from taskflowx import deciders, engines, exceptions, retry, task
from taskflowx.engines.compile import compile_flow
from taskflowx.engines.scope import Scope
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends

PATTERNS = {"linear": linear_flow.Flow, "unordered": unordered_flow.Flow, "graph": graph_flow.Flow}


class Dial(task.Task):
    """Fails until the attempt that it is told; lists what it does."""

    default_provides = "line"

    def __init__(self, name, seen, succeeds=2, **keywords):
        super().__init__(name, **keywords)
        self.seen, self.succeeds = seen, succeeds

    def execute(self, number):
        self.seen.append((self.name, number))
        if number < self.succeeds:
            raise ConnectionError(self.name)
        return number

    def revert(self, **kwargs):
        self.seen.append(f"not {self.name}")


class Use(task.Task):
    def execute(self, line):
        return line


class Patient(task.Task):
    default_retry = retry.Times(2)

    def execute(self):
        pass


def controller(attempts=3, **keywords):
    return retry.Times(attempts, provides="number", **keywords)


def shape_of(flow):
    plan = compile_flow(flow)
    return list(plan.names), [tuple(one) for one in plan.pred], [tuple(one) for one in plan.succ]


# -- it is such a flow -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("outer", PATTERNS)
@pytest.mark.parametrize("succeeds", [1, 2, 3, 9])
@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_it_does_what_the_flow_does_that_it_stands_for(outer, succeeds, executor):
    told = []
    for explicit in (True, False):
        seen = []
        if explicit:
            inner = linear_flow.Flow("dial", controller()).add(Dial("dial", seen, succeeds))
        else:
            inner = Dial("dial", seen, succeeds, retry=controller())
        flow = PATTERNS[outer]("outer").add(inner)
        if outer != "unordered":
            flow.add(Use("use"))
        engine = engines.load(flow, executor=executor)
        error = None
        try:
            engine.run()
        except ConnectionError as caught:
            error = repr(caught)
        states = {name: engine.storage.get_atom_state(name) for name in compile_flow(flow).names}
        told.append(
            (seen, error, states, engine.storage.get_flow_state(), shape_of(flow), flow.requires, flow.provides)
        )
    assert told[0] == told[1]
    assert told[0][0][:2] == ([("dial", 1), "not dial"] if succeeds > 1 else [("dial", 1)])


@pytest.mark.parametrize("address", ["sqlite:///{}/runs.db", "dir://{}"])
def test_another_engine_goes_on_with_the_attempts_from_the_store(address, tmp_path):
    seen = []

    def flow():
        return linear_flow.Flow("f").add(Dial("dial", seen, 3, retry=controller(4)))

    with backends.backend(address.format(tmp_path)) as store:
        engine = engines.load(flow(), backend=store)
        for _ in engine.run_iter():
            if seen.count("not dial") == 1:
                engine.suspend()
        assert engine.storage.get_flow_state() == "SUSPENDED"
        with contextlib.closing(store.get_connection()) as connection:
            detail = connection.get_flow_details(engine.storage.flow_uuid)
        assert {one.name for one in detail} == {"dial_retry", "dial"}
        again = engines.load(flow(), flow_detail=detail, backend=store)
        again.run()
    assert seen == [("dial", 1), "not dial", ("dial", 2), "not dial", ("dial", 3)]
    assert [value for value, _ in again.storage.get_retry_history("dial_retry")] == [1, 2, 3]


#: a task: what it requires, and what its own controller requires and provides, if it has one
LEAVES = strategies.tuples(
    strategies.lists(strategies.sampled_from("pqrstn"), max_size=2, unique=True),
    strategies.one_of(
        strategies.none(),
        strategies.tuples(strategies.lists(strategies.sampled_from("pqrs"), max_size=1), strategies.booleans()),
    ),
)
SHAPES = strategies.recursive(
    LEAVES,
    lambda inner: strategies.tuples(strategies.sampled_from(sorted(PATTERNS)), strategies.lists(inner, max_size=4)),
    max_leaves=10,
)


class Any(task.Task):
    def execute(self, **kwargs):
        pass


def built(shape, numbers, *, explicit):
    """A flow of a shape, with the controllers of tasks as their own, or around them."""
    number = next(numbers)
    if isinstance(shape[0], str):
        pattern, inner = shape
        flow = PATTERNS[pattern](f"flow {number}")
        for one in inner:
            flow.add(built(one, numbers, explicit=explicit))
        return flow
    requires, own = shape
    name = f"task {number}"
    provides = ("pqrstuvwxyz" * 9)[number] if number < 6 else None
    if own is None:
        return Any(name, provides=provides, requires=requires)
    made = retry.Times(2, requires=own[0], provides="n" if own[1] else None)
    if not explicit:
        return Any(name, provides=provides, requires=requires, retry=made)
    return linear_flow.Flow(name, made).add(Any(name, provides=provides, requires=requires))


def outcome_of(shape, *, explicit):
    try:
        flow = built(("linear", [shape]), itertools.count(), explicit=explicit)
    except exceptions.TaskFlowException as error:
        return type(error)
    plan = compile_flow(flow)
    scope = Scope(plan)
    nearest = {(i, name): scope.nearest(i, name) for i in range(len(plan)) for name in "pqrstn" if plan.atoms[i]}
    ranges = [(span.kind, span.lo, span.hi, span.controller) for span in plan.ranges]
    return shape_of(flow), ranges, nearest, flow.requires, flow.provides


@given(SHAPES)
def test_any_flow_is_wired_as_the_one_that_it_stands_for(shape):
    assert outcome_of(shape, explicit=False) == outcome_of(shape, explicit=True)


# -- names -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pattern", PATTERNS.values())
def test_what_the_controller_needs_and_gives_counts(pattern):
    each = retry.ParameterizedForEach(rebind={"values": "ports"}, provides="number")
    flow = pattern("f").add(Dial("dial", [], retry=each))
    assert flow.requires == {"ports"}
    assert flow.provides == {"line", "number"}
    outer = graph_flow.Flow("outer").add(flow)
    assert (outer.requires, outer.provides) == (flow.requires, flow.provides)
    assert engines.run(flow, {"ports": [1, 2]})["line"] == 2
    with pytest.raises(exceptions.MissingDependencies, match="ports"):
        engines.run(flow)


def test_a_graph_flow_links_by_what_the_controller_needs_and_gives():
    class Ports(task.Task):
        default_provides = "values"

        def execute(self):
            return [1, 2]

    class Log(task.Task):
        def execute(self, number, line):
            return number

    seen = []
    log, dial, ports = Log("log", provides="n"), Dial("dial", seen, retry=of_ports()), Ports("ports")
    flow = graph_flow.Flow("f").add(log, dial, ports)
    assert {(u.name, v.name) for u, v, _ in flow.iter_links()} == {("ports", "dial"), ("dial", "log")}
    assert {(u.name, v.name): attributes["reasons"] for u, v, attributes in flow.iter_links()} == {
        ("ports", "dial"): {"values"},
        ("dial", "log"): {"number", "line"},
    }
    engine = engines.load(flow)
    engine.run()
    assert engine.storage.fetch("n") == 2


def of_ports():
    return retry.ParameterizedForEach(provides="number")


def test_the_task_stays_the_member_of_its_flow():
    made = Dial("dial", [], retry=controller())
    flow = graph_flow.Flow("f").add(made)
    compile_flow(flow)
    assert list(flow) == [made]
    assert [member for member, _ in flow.iter_nodes()] == [made]
    assert (made.requires, made.provides) == ({"number"}, {"line"})


def test_each_task_has_a_controller_of_its_own():
    shared = retry.Times(2)
    made = [Patient("a"), Patient("b"), *(task.FunctorTask(print, name=name, retry=shared) for name in "cd")]
    plan = compile_flow(unordered_flow.Flow("f").add(*made))
    assert list(plan.names) == ["a_retry", "a", "b_retry", "b", "c_retry", "c", "d_retry", "d"]
    assert shared.name is Patient.default_retry.name is None
    assert len({id(plan.atoms[i]) for i in range(0, 8, 2)}) == 4
    again = compile_flow(unordered_flow.Flow("g").add(*made))
    assert all(one is other for one, other in zip(plan.atoms, again.atoms, strict=True))


def test_a_controller_may_have_a_name_of_its_own_which_is_told_when_two_have_it():
    named = retry.Times(2, "patience")
    flow = linear_flow.Flow("f").add(task.FunctorTask(print, name="a", retry=named))
    assert list(compile_flow(flow).names) == ["patience", "a"]
    flow.add(task.FunctorTask(print, name="b", retry=named))
    with pytest.raises(exceptions.Duplicate, match=r"two retries are named 'patience'.*Times\(name='other'\)"):
        compile_flow(flow)


def test_a_task_that_is_given_another_name_gives_it_to_its_controller():
    made = Patient("a")
    assert list(compile_flow(made).names) == ["a_retry", "a"]
    made.name = "b"
    assert list(compile_flow(made).names) == ["b_retry", "b"]


def test_another_controller_around_it_gets_another_name():
    for inner in (Patient("a"), linear_flow.Flow("a").add(Patient("a"))):
        assert list(compile_flow(inner | retry.Times(2)).names) == ["a_retry_2", "a_retry", "a"]


def test_a_name_that_a_task_has_already_is_told():
    flow = linear_flow.Flow("f").add(Patient("a"), task.FunctorTask(print, name="a_retry"))
    with pytest.raises(exceptions.Duplicate, match=r"'a_retry'"):
        compile_flow(flow)


def test_one_task_alone_may_have_a_controller():
    seen = []
    engine = engines.load(Dial("dial", seen, retry=controller()))
    engine.run()
    assert seen == [("dial", 1), "not dial", ("dial", 2)]
    assert engine.storage.get_retry_history("dial_retry").outcomes_iter()


def test_an_outer_controller_is_asked_when_that_of_the_task_gives_up():
    seen = []
    flow = linear_flow.Flow("f", retry.Times(2, "outer")).add(Dial("dial", seen, 9, retry=controller(2)))
    with pytest.raises(ConnectionError) as caught:
        engines.run(flow)
    assert [one for one in seen if isinstance(one, tuple)] == [("dial", 1), ("dial", 2)] * 2
    assert caught.value.__notes__ == ["in task 'dial' of flow 'f' (attempt 2 of 2, serial)"]


# -- deciders --------------------------------------------------------------------------------------------------------


def vetoed(depth, which, *, vetoes=True):
    """The states of a flow in a flow, in which a decider is asked before one of a chain, and what it was shown."""
    shown = []

    def decide(history):
        shown.append(history)
        return not vetoes

    def made(name):
        own = {"retry": retry.Times(2)} if name in which else {}
        return task.FunctorTask(lambda: name, name=name, provides=f"of {name}", **own)

    tasks = {name: made(name) for name in "abcde"}
    inner = graph_flow.Flow("inner").add(*[tasks[name] for name in "abcd"])
    for u, v in itertools.pairwise("abcd"):
        inner.link(tasks[u], tasks[v], **({"decider": decide, "decider_depth": depth} if v == "b" else {}))
    engine = engines.load(linear_flow.Flow("outer").add(inner, tasks["e"]))
    engine.run()
    states = {name: engine.storage.get_atom_state(name) for name in "abcde"}
    for name in which:
        assert engine.storage.get_atom_state(f"{name}_retry") == states[name]
    return states, shown


@pytest.mark.parametrize("which", ["b", "c", "bc", "abcde"])
@pytest.mark.parametrize("depth", list(deciders.Depth))
def test_a_veto_reaches_as_far_as_without_a_controller(depth, which):
    states, shown = vetoed(depth, which)
    assert (states, shown) == vetoed(depth, "")
    assert shown == [{"a": "a"}]
    assert states["b"] == "IGNORE"


def test_who_is_admitted_runs():
    assert vetoed("ALL", "ab", vetoes=False) == (dict.fromkeys("abcde", "SUCCESS"), [{"a": "a"}])


# -- pictures, exports, values ---------------------------------------------------------------------------------------


def test_pictures_show_the_controller():
    flow = graph_flow.Flow("f").add(Dial("dial", [], retry=controller()), Use("use"))
    assert str(flow.picture()).split("\n")[:5] == [
        "f · graph",
        "  dial · linear",
        "    Times(attempts=3)",
        "    dial",
        "  use",
    ]
    engine = engines.load(flow)
    engine.run()
    assert "2 attempts" in str(engine.picture())
    assert "Times(attempts=2)" in str(engines.load(Patient("alone")).picture())


def test_exports_show_the_controller():
    flow = linear_flow.Flow("f").add(Patient("a"), task.FunctorTask(print, name="b"))
    engine = engines.load(flow)
    engine.compile()
    graph = engine.compilation.execution_graph
    assert [node.name for node in graph] == ["f", "a", "a", "a_retry", "a[$]", "b", "f[$]"]
    assert [(u.name, v.name) for u, v in graph.edges()] == [
        ("f", "a"), ("a", "a_retry"), ("a", "a[$]"), ("a_retry", "a"), ("a[$]", "b"), ("b", "f[$]"),
    ]  # fmt: skip
    assert engine.compilation.hierarchy.pformat().count("_retry") == 1


def test_a_value_of_the_controller_that_is_asked_for_too_early_is_told():
    engine = engines.load(linear_flow.Flow("f").add(Dial("dial", [], retry=controller())))
    with pytest.raises(exceptions.NotFound, match=r"'dial_retry', which provides 'number', has not run yet"):
        engine.storage.fetch("number")
