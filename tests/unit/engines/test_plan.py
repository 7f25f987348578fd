"""A flow compiled to indices: order, ranges, gates, what vanishes and what is refused."""

from __future__ import annotations

import functools
import itertools
import random
from unittest import mock

import pytest

from taskflowx import deciders, exceptions, flow, retry, task
from taskflowx.engines import plan as plans
from taskflowx.engines.builders import add_member
from taskflowx.engines.compile import compile_flow
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from tests.support.flows import Plain as Work, graph, linear, plain, unordered


def names(plan):
    """The names by index; a gate is None."""
    return [atom and atom.name for atom in plan.atoms]


def edges(plan):
    return sum(map(len, plan.succ))


def before(plan, earlier, later):
    """Whether there is a way from the one atom to the other."""
    wanted, stack, seen = plan.names[later], [plan.names[earlier]], set()
    while stack:
        i = stack.pop()
        if i == wanted:
            return True
        if i not in seen:
            seen.add(i)
            stack.extend(plan.succ[i])
    return False


def check(plan):
    """What must be true of every plan."""
    assert len(plan) == len(plan.pred) == len(plan.succ) == len(plan.flow_of) == len(plan.plain)
    assert plan.degree == [len(p) for p in plan.pred]
    assert plan.fan_out == [len(s) for s in plan.succ]
    for i in range(len(plan)):
        assert all(p < i for p in plan.pred[i])
        assert len(set(plan.pred[i])) == len(plan.pred[i])
        assert list(plan.succ[i]) == sorted(set(plan.succ[i]))
        assert all(i in plan.pred[s] for s in plan.succ[i])
        if plan.atoms[i] is None:
            assert len(plan.pred[i]) > 1
        else:
            assert plan.names[plan.atoms[i].name] == i
    for span in plan.ranges:
        assert 0 <= span.lo <= span.hi <= len(plan)
        assert span.retry in (-1, span.lo)
        if span.parent >= 0:
            parent = plan.ranges[span.parent]
            assert parent.lo <= span.lo <= span.hi <= parent.hi
    for i, home in enumerate(plan.flow_of):
        assert plan.ranges[home].lo <= i < plan.ranges[home].hi


# -- order -----------------------------------------------------------------------------------------


def test_a_linear_flow_is_a_chain():
    plan = compile_flow(linear("f", *plain("a", "b", "c")))
    check(plan)
    assert names(plan) == ["a", "b", "c"]
    assert plan.pred == [(), (0,), (1,)]


def test_an_unordered_flow_has_no_edges():
    plan = compile_flow(unordered("f", *plain("a", "b", "c")))
    check(plan)
    assert edges(plan) == 0


def test_links_of_a_graph_flow_are_the_edges_whatever_the_order_of_adding():
    a, b, c = plain("a", "b", "c")
    plan = compile_flow(graph("f", c, b, a, links=[(a, b), (b, c)]))
    check(plan)
    assert names(plan) == ["a", "b", "c"]
    assert plan.pred == [(), (0,), (1,)]


def test_index_order_is_topological_in_random_nested_flows():
    rng = random.Random(5)
    counter = itertools.count()

    def make(depth):
        members = [
            make(depth - 1) if depth and rng.random() < 0.4 else Work(f"t{next(counter)}")
            for _ in range(rng.randrange(5))
        ]
        controller = retry.Times(1, f"r{next(counter)}") if rng.random() < 0.3 else None
        kind = rng.choice((linear, unordered, graph))
        made = kind(f"f{next(counter)}", *members, controller=controller)
        if kind is graph:
            for u, v in itertools.combinations(members, 2):
                if rng.random() < 0.4:
                    made.link(u, v)
        return made

    for _ in range(60):
        root = make(4)
        plan = compile_flow(root)
        check(plan)
        for nested in flow.nested_flows(root):
            for u, v, _ in nested.iter_links():
                for first in ends(u):
                    for second in ends(v):
                        assert before(plan, first, second)


def ends(member):
    """The names of all atoms in a member."""
    if not isinstance(member, flow.Flow):
        return [member.name]
    found = []
    for nested in flow.nested_flows(member):
        found += [m.name for m in nested if not isinstance(m, flow.Flow)]
        if nested.retry is not None:
            found.append(nested.retry.name)
    return found


def test_a_nested_flow_is_a_range_with_its_retry_first():
    a, b, c, d, e = plain("a", "b", "c", "d", "e")
    inner = unordered("inner", b, c, controller=retry.Times(1, "r_in"))
    outer = linear("outer", inner, d, controller=retry.Times(1, "r_out"))
    plan = compile_flow(linear("top", a, outer, e))
    check(plan)
    r_out, r_in = plan.names["r_out"], plan.names["r_in"]
    assert plan.region(r_in) == (r_in, r_in + 3)
    assert {plan.atoms[i].name for i in range(*plan.region(r_in))} == {"r_in", "b", "c"}
    assert {plan.atoms[i].name for i in range(*plan.region(r_out))} >= {"r_out", "r_in", "b", "c", "d"}
    assert plan.names["e"] not in range(*plan.region(r_out))


def test_the_controller_of_a_retry_is_the_one_around_it():
    a, b, c = plain("a", "b", "c")
    inner = linear("inner", b, controller=retry.Times(1, "r_in"))
    plan = compile_flow(linear("top", a, linear("outer", inner, c, controller=retry.Times(1, "r_out"))))
    asked = {name: plan.controller(i) for name, i in plan.names.items()}
    r_in, r_out = plan.names["r_in"], plan.names["r_out"]
    assert asked == {"a": -1, "r_out": -1, "r_in": r_out, "b": r_in, "c": r_out}


def test_the_members_of_a_flow_follow_its_retry():
    plan = compile_flow(unordered("f", *plain("a", "b"), controller=retry.Times(1, "r")))
    check(plan)
    assert plan.pred == [(), (0,), (0,)]


def test_a_single_task_is_a_flow_of_itself():
    plan = compile_flow(Work("alone"))
    check(plan)
    assert names(plan) == ["alone"]


def test_a_flow_without_members_has_no_nodes():
    plan = compile_flow(linear("f"))
    check(plan)
    assert len(plan) == 0


# -- gates -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [2, 10, 200])
def test_wide_flows_after_each_other_are_joined_by_a_gate_so_edges_grow_with_the_width(width):
    first = unordered("u1", *(Work(f"a{i}") for i in range(width)))
    second = unordered("u2", *(Work(f"b{i}") for i in range(width)))
    plan = compile_flow(linear("f", first, second))
    check(plan)
    assert edges(plan) == 2 * width
    assert names(plan).count(None) == 1
    assert before(plan, "a0", f"b{width - 1}")


def test_wide_flows_that_are_linked_are_joined_by_gates_too():
    width = 50
    wide = [unordered(f"u{k}", *(Work(f"{k}.{i}") for i in range(width))) for k in range(4)]
    plan = compile_flow(graph("g", *wide, links=[(wide[0], w) for w in wide[1:]]))
    check(plan)
    assert edges(plan) <= 2 * width * len(wide)
    assert all(before(plan, "0.0", f"{k}.{width - 1}") for k in (1, 2, 3))


def test_no_gate_stands_where_one_node_precedes_many_or_many_precede_one():
    wide = unordered("u", *plain("b", "c", "d"))
    plan = compile_flow(linear("f", *plain("a"), wide, *plain("e")))
    check(plan)
    assert names(plan) == ["a", "b", "c", "d", "e"]


# -- empty flows -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [linear, unordered, graph])
@pytest.mark.parametrize("empty", [linear, unordered, graph])
def test_an_empty_flow_vanishes(make, empty):
    plan = compile_flow(make("f", empty("e1"), Work("a"), empty("e2", empty("e3"))))
    check(plan)
    assert names(plan) == ["a"]


def test_an_empty_flow_between_linked_members_keeps_their_order():
    a, b = plain("a", "b")
    empty = linear("empty", unordered("also empty"))
    plan = compile_flow(graph("g", a, empty, b, links=[(a, empty), (empty, b)]))
    check(plan)
    assert names(plan) == ["a", "b"]
    assert plan.pred[1] == (0,)


def test_an_empty_flow_between_members_of_a_linear_flow_keeps_their_order():
    plan = compile_flow(linear("f", *plain("a"), graph("empty"), *plain("b")))
    check(plan)
    assert plan.pred == [(), (0,)]


def test_a_flow_with_nothing_but_a_retry_is_that_retry():
    a, b = plain("a", "b")
    plan = compile_flow(linear("f", a, linear("empty", controller=retry.Times(1, "r")), b))
    check(plan)
    assert names(plan) == ["a", "r", "b"]
    assert plan.region(1) == (1, 2)


# -- depth -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [linear, unordered, graph])
def test_five_thousand_nested_levels_compile(kind):
    root = level = kind("top")
    for i in range(5_000):  # from the outside in: a graph flow looks at all that is in what is added
        inner = kind(f"level{i}")
        level.add(Work(f"t{i}"), inner)
        level = inner
    level.add(Work("deepest"))
    plan = compile_flow(root)
    check(plan)
    assert len(plan.names) == 5_001


# -- what is refused -------------------------------------------------------------------------------


def test_atoms_of_one_name_are_refused_and_named():
    with pytest.raises(exceptions.Duplicate, match=r"Atoms with duplicate names found: \['a', 'b'\]"):
        compile_flow(linear("f", *plain("b", "a"), unordered("g", *plain("a", "b", "c"))))


def test_a_retry_of_the_name_of_a_task_is_refused():
    with pytest.raises(exceptions.Duplicate, match=r"\['a'\]"):
        compile_flow(linear("f", *plain("a"), controller=retry.Times(1, "a")))


def test_flows_may_share_a_name():
    plan = compile_flow(linear("f", linear("g", *plain("a")), linear("g", *plain("b")), linear("f", *plain("c"))))
    check(plan)
    assert names(plan) == ["a", "b", "c"]


class Duck:
    name = "duck"
    requires = provides = frozenset()

    def __str__(self):
        return "a duck"


@pytest.mark.parametrize("kind", [linear, unordered, graph])
def test_what_only_looks_like_an_atom_is_refused_by_name_when_compiled(kind):
    with pytest.raises(TypeError, match=r"Unknown object 'a duck' .* requested to compile"):
        compile_flow(kind("f", Duck()))


def test_what_is_no_flow_and_no_task_cannot_be_compiled():
    with pytest.raises(TypeError, match=r"Unknown object '17' .* requested to compile"):
        compile_flow(17)


@pytest.mark.parametrize("kind", [linear, unordered, graph])
def test_a_retry_as_a_member_of_a_flow_is_refused(kind):
    with pytest.raises(TypeError, match=r"Unknown object '\"stray==1\.0\"' "):
        compile_flow(kind("f", retry.Times(1, "stray")))
    with pytest.raises(TypeError, match=r"Unknown object '\"stray==1\.0\"' "):
        compile_flow(kind("f", retry.Times(1, "stray"), controller=retry.Times(1, "of its class")))


def test_a_task_in_the_place_of_a_retry_is_refused():
    with pytest.raises(TypeError, match=r"The retry of flow .* must be a taskflowx\.retry\.Retry"):
        compile_flow(linear("f", controller=Work("no retry")))


class AsyncWork(task.Task):
    async def execute(self):
        return None


class AsyncUndo(Work):
    async def revert(self, **kwargs):
        return None


class AsyncSteps(task.Task):
    async def execute(self):
        yield 1


class AsyncCall:
    async def __call__(self):
        return None


async def fetch():
    return None


@pytest.mark.parametrize(
    ("atom", "method"),
    [
        (AsyncWork("w"), "AsyncWork.execute"),
        (AsyncUndo("w"), "AsyncUndo.revert"),
        (AsyncSteps("w"), "AsyncSteps.execute"),
        (task.FunctorTask(fetch, name="w"), "fetch"),
        (task.FunctorTask(dict, name="w", revert=fetch), "fetch"),
        (task.FunctorTask(AsyncCall(), name="w"), "AsyncCall"),
        (task.FunctorTask(functools.partial(fetch), name="w"), "partial"),
    ],
    ids=str,
)
@pytest.mark.parametrize("kind", [linear, unordered, graph])
def test_a_coroutine_function_is_refused_with_its_atom(kind, atom, method):
    with pytest.raises(
        exceptions.CompilationFailure, match=rf"Atom 'w' cannot be run: .*{method} is a (coroutine|generator) function"
    ):
        compile_flow(kind("f", *plain("a"), atom))


class AsyncAnswer(retry.Times):
    async def on_failure(self, history, *args, **kwargs):
        return retry.RETRY


class AsyncStart(retry.Times):
    async def execute(self, history, *args, **kwargs):
        return 1


@pytest.mark.parametrize("kind", [AsyncAnswer, AsyncStart])
def test_a_retry_with_a_coroutine_function_is_refused(kind):
    with pytest.raises(exceptions.CompilationFailure, match=r"Atom 'f_retry' cannot be run: .* is a coroutine"):
        compile_flow(linear("f", *plain("a"), controller=kind(2)))


def test_a_class_is_looked_at_once_and_a_function_each_time():
    looked_at = []
    plan = plans.Plan(None)
    for atom in (*plain("a", "b"), task.FunctorTask(dict, name="c"), task.FunctorTask(list, name="d")):
        add_member(plan, atom, (), 0)
        looked_at.append(set(plan.looked_at))
    assert looked_at == [{Work}] * 4


@pytest.mark.parametrize("double", [mock.Mock, mock.MagicMock, mock.NonCallableMock])
def test_a_mock_that_passes_for_a_task_is_no_coroutine(double):
    made = double(spec=Work("w"), priority=0)
    made.name = "mocked"
    plan = plans.Plan(None)
    assert add_member(plan, made, (), 0) == 0
    assert plan.looked_at == set()


@pytest.mark.parametrize("kind", [linear, unordered])
def test_a_flow_within_itself_is_refused_and_named(kind):
    inner = kind("inner")
    outer = kind("outer", inner)
    inner._tfx_members[outer] = None
    with pytest.raises(exceptions.DependencyFailure, match=r"outer.* contains itself"):
        compile_flow(outer)


def test_one_flow_in_two_places_is_refused_for_the_atoms_in_it():
    shared = linear("shared", *plain("a"))
    with pytest.raises(exceptions.Duplicate, match="'a'"):
        compile_flow(linear("f", linear("x", shared), linear("y", shared)))


# -- deciders --------------------------------------------------------------------------------------


def no(history):
    return False


def votes(plan):
    return {plan.atoms[i].name: [(v.source, v.decider, v.depth) for v in asked] for i, asked in plan.votes.items()}


def decided(u, v, depth=None):
    made = graph_flow.Flow("g").add(u, v)
    return made.link(u, v, decider=no, decider_depth=depth)


def test_a_decider_is_recorded_at_the_atom_it_is_before_with_depth_all_by_default():
    plan = compile_flow(decided(*plain("a", "b")))
    assert votes(plan) == {"b": [(0, no, deciders.Depth.ALL)]}


def test_a_decider_before_a_flow_is_recorded_at_its_retry():
    target = unordered("t", *plain("b", "c"), controller=retry.Times(1, "r"))
    plan = compile_flow(decided(Work("a"), target, "flow"))
    assert votes(plan) == {"r": [(0, no, deciders.Depth.FLOW)]}


@pytest.mark.parametrize(
    ("target", "asked"),
    [
        (lambda: linear("t", *plain("b", "c")), {"b"}),
        (lambda: unordered("t", *plain("b", "c")), {"b", "c"}),
        (lambda: linear("t", unordered("u", *plain("b", "c")), *plain("d")), {"b", "c"}),
        (lambda: linear("t", linear("empty"), *plain("b", "c")), {"b"}),
        (lambda: unordered("t", linear("l", *plain("b", "c")), *plain("d")), {"b", "d"}),
        (lambda: graph("t", *(w := plain("b", "c", "d")), links=[(w[0], w[1])]), {"b", "d"}),
    ],
)
def test_a_decider_before_a_flow_is_recorded_at_the_atoms_that_nothing_in_it_precedes(target, asked):
    plan = compile_flow(decided(Work("a"), target()))
    assert set(votes(plan)) == asked


def test_a_decider_after_a_flow_is_shown_no_result():
    plan = compile_flow(decided(linear("u", *plain("a")), Work("b")))
    assert votes(plan) == {"b": [(-1, no, deciders.Depth.ALL)]}


def test_all_deciders_before_one_atom_are_recorded():
    a, b, c = plain("a", "b", "c")
    made = graph_flow.Flow("g").add(a, b, c)
    made.link(a, c, decider=no, decider_depth="atom").link(b, c, decider=no, decider_depth="flow")
    plan = compile_flow(made)
    assert [(v.source, v.depth) for v in plan.votes[plan.names["c"]]] == [(0, "ATOM"), (1, "FLOW")]


# -- what the scheduler asks -----------------------------------------------------------------------


def test_an_atom_with_a_decider_or_with_parts_of_a_result_is_not_plain():
    a, b = plain("a", "b")
    whole, parts, keys = Work("whole", provides="x"), Work("parts", provides=("y", "z")), Work("keys", provides={"k"})
    made = graph_flow.Flow("g", retry.Times(1, "r")).add(a, b, whole, parts, keys)
    made.link(a, b, decider=no)
    plan = compile_flow(made)
    assert {name: plan.plain[i] for name, i in plan.names.items()} == {
        "r": 0,
        "a": 1,
        "b": 0,
        "whole": 1,
        "parts": 0,
        "keys": 0,
    }


def test_rank_orders_by_priority_and_then_by_index_and_is_not_made_without_priorities():
    a, b, c = plain("a", "b", "c")
    assert compile_flow(unordered("f", a, b, c)).rank is None
    c.priority = 5
    plan = compile_flow(unordered("f", a, b, c))
    assert sorted(range(3), key=plan.rank.__getitem__) == [2, 0, 1]


class Reversed(flow.Flow):
    """A pattern of somebody else's: the last member that was added runs first."""

    def __iter__(self):
        return reversed(self._tfx_members)

    def iter_links(self):
        members = list(self)
        for u, v in itertools.pairwise(members):
            yield u, v, {}


def test_a_pattern_of_somebody_else_is_compiled_by_its_links():
    plan = compile_flow(Reversed("mine").add(*plain("a", "b", "c")))
    check(plan)
    assert names(plan) == ["c", "b", "a"]
    assert plan.pred == [(), (0,), (1,)]


def test_a_subclass_of_a_pattern_is_compiled_as_that_pattern():
    class Mine(linear_flow.Flow):
        pass

    plan = compile_flow(Mine("mine").add(*plain("a", "b")))
    assert (plan.pred, plan.ranges[0].kind) == ([(), (0,)], plans.LINEAR)


# -- flows that say themselves in which order their members run --------------------------------------------------------


def reversing(pattern):
    """A pattern with all its links turned round."""

    class Mine(pattern):
        def iter_links(self):
            for u, v, attributes in super().iter_links():
                yield v, u, attributes

    return Mine


def linking(pattern, *pairs, **attributes):
    """A pattern with links between its members, by their names."""

    class Mine(pattern):
        def iter_links(self):
            found = {member.name: member for member in self}
            for u, v in pairs:
                yield found[u], found[v], attributes

    return Mine


def test_links_of_a_subclass_count_whatever_the_pattern():
    a, b, c = plain("a", "b", "c")
    for made in (
        reversing(linear_flow.Flow)("f").add(a, b, c),
        linking(unordered_flow.Flow, ("c", "b"), ("b", "a"))("f").add(a, b, c),
        linking(graph_flow.Flow, ("c", "b"), ("b", "a"), ("c", "b"))("f").add(a, b, c),
        reversing(graph_flow.Flow)("f").add(a, b, c).link(a, b).link(b, c),
        linking(graph_flow.TargetedFlow, ("c", "b"), ("b", "a"))("f").add(a, b, c),
    ):
        plan = compile_flow(made)
        check(plan)
        assert names(plan) == ["c", "b", "a"]
        assert plan.pred == [(), (0,), (1,)]


def test_links_that_were_put_on_the_object_count():
    a, b = plain("a", "b")
    made = linear("f", a, b)
    made.iter_links = lambda: iter([(b, a, {})])
    assert names(compile_flow(linear("outer", made))) == ["b", "a"]


def test_members_that_a_subclass_leaves_unlinked_run_at_the_same_time():
    plan = compile_flow(linking(linear_flow.Flow, ("a", "c"))("f").add(*plain("a", "b", "c")))
    assert (names(plan), plan.pred) == (["a", "b", "c"], [(), (), (0,)])


def test_members_come_from_nodes_and_from_iteration():
    a, b, c = plain("a", "b", "c")

    class Mine(linear_flow.Flow):
        def iter_nodes(self):
            yield c, {}
            yield from super().iter_nodes()

        def iter_links(self):
            yield b, c, {}

    plan = compile_flow(Mine("f").add(a, b))
    check(plan)
    assert names(plan) == ["a", "b", "c"]
    assert before(plan, "b", "c")
    assert not before(plan, "a", "b")


def test_the_order_of_nodes_alone_changes_no_link():
    class Mine(linear_flow.Flow):
        def iter_nodes(self):
            return iter([*super().iter_nodes()][::-1])

    assert names(compile_flow(Mine("f").add(*plain("a", "b", "c")))) == ["a", "b", "c"]


def test_deciders_on_links_of_a_subclass_are_asked():
    made = linking(linear_flow.Flow, ("a", "b"), decider=bool, decider_depth="flow")("f").add(*plain("a", "b"))
    plan = compile_flow(made)
    assert plan.votes == {1: (plans.Vote(0, bool, deciders.Depth.FLOW),)}


def test_a_cycle_of_a_subclass_is_refused_and_named():
    made = linking(unordered_flow.Flow, ("a", "b"), ("b", "a"))("f").add(*plain("a", "b", "c"))
    with pytest.raises(exceptions.DependencyFailure, match=r"Mine makes a cycle in flow .*among \['a', 'b'\]"):
        compile_flow(made)


def test_a_link_of_a_subclass_to_a_stranger_is_refused_and_named():
    a, stranger = plain("a", "stranger")

    class Mine(unordered_flow.Flow):
        def iter_links(self):
            yield a, stranger, {}

    with pytest.raises(exceptions.CompilationFailure, match=r"links 'a' with 'stranger', and 'stranger' is no member"):
        compile_flow(Mine("f").add(a))


def test_nested_flows_of_subclasses_are_ranges_in_the_order_of_their_links():
    a, b, c, d = plain("a", "b", "c", "d")
    inner = reversing(linear_flow.Flow)("inner", retry.Times(1, "r")).add(a, unordered("both", b, c))
    plan = compile_flow(linear("f", inner, d))
    check(plan)
    assert names(plan) == ["r", "b", "c", "a", "d"]
    assert plan.region(0) == (0, 4)


def test_a_length_of_ones_own_changes_nothing():
    class Mine(unordered_flow.Flow):
        def __len__(self):
            return 0

    plan = compile_flow(linear("f", unordered("first", *plain("a", "b")), Mine("m").add(*plain("c", "d"))))
    check(plan)
    assert names(plan) == ["a", "b", None, "c", "d"]


def test_a_link_that_was_made_later_for_several_names_has_no_decider():
    needer = task.FunctorTask(lambda x, y: None, "n")
    first, second = task.FunctorTask(int, "p", provides="x"), task.FunctorTask(int, "q", provides=("x", "y"))
    plan = compile_flow(graph("f", needer, first, second))
    assert (names(plan), plan.votes) == (["p", "q", "n"], {})


@pytest.mark.parametrize("kind", [graph, unordered])
def test_what_ends_on_many_levels_is_drawn_together(kind):
    """Else each level would have all ends of those inside it."""
    depth = 500
    made = Work("innermost")
    for level in range(depth):
        made = kind(f"level {level}", made, Work(str(level)))
    plan = compile_flow(linear("f", made, *plain("end")))
    check(plan)
    assert len(plan.pred[plan.names["end"]]) < 100
    assert edges(plan) < 3 * depth
    assert all(before(plan, name, "end") for name in ("innermost", "0", "250", "499"))
