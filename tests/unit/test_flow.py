"""What is true of flows of each pattern."""

from __future__ import annotations

import concurrent.futures
import copy
import functools
import itertools
import pickle
import random
from unittest import mock

import pytest

from taskflowx import exceptions, flow, retry, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from tests.support.counting import calls_of
from tests.support.flows import Open as Work, names, work


@pytest.fixture(params=[linear_flow, unordered_flow, graph_flow], ids=lambda module: module.__name__.split(".")[-1])
def pattern(request):
    return request.param


@pytest.fixture
def new(pattern):
    """Makes a flow of the pattern."""
    return pattern.Flow


def test_names_of_link_attributes_that_callers_use():
    assert (flow.LINK_INVARIANT, flow.LINK_MANUAL, flow.LINK_RETRY) == ("invariant", "manual", "retry")
    assert (flow.LINK_REASONS, flow.LINK_DECIDER, flow.LINK_DECIDER_DEPTH) == ("reasons", "decider", "decider_depth")


# -- members ---------------------------------------------------------------------------------------------------------


def test_members_are_added_and_counted(new):
    a, b = work("a"), work("b")
    made = new("f")
    assert len(made) == 0
    assert made.add() is made
    assert made.add(a).add(b) is made
    assert (len(made), names(made)) == (2, ["a", "b"])
    assert [(member.name, attributes) for member, attributes in made.iter_nodes()] == [("a", {}), ("b", {})]
    assert a in made
    assert work("a") not in made


def test_an_object_is_added_once(new, pattern):
    a, b = work("a"), work("b")
    made = new("f").add(a, b)
    if pattern is graph_flow:  # its members are a set, as in TaskFlow, and their links say the order
        assert names(made.add(a, b, b)) == ["a", "b"]
        return
    for again in ((a,), (work("c"), b), (work("d"), work("d"), made.add)):
        with pytest.raises((exceptions.Duplicate, TypeError)):
            made.add(*again)
        assert names(made) == ["a", "b"]
    with pytest.raises(exceptions.Duplicate, match=r"^'c' cannot be added to flow 'f' twice, .* make a second one"):
        made.add(*[work("c")] * 2)
    inner = new("inner")
    with pytest.raises(exceptions.Duplicate, match="'inner' cannot be added"):
        made.add(inner, inner)


def test_text_names_the_pattern_the_flow_and_its_size(new, pattern):
    made = new("my flow; x").add(work("a"))
    assert str(made) == f'"{pattern.__name__.split(".")[-1]}.Flow: my flow; x(len=1)"'


def test_a_name_is_made_text(new):
    assert (new(5).name, new(None).name) == ("5", "None")


@pytest.mark.parametrize(
    "wrong", [3, "text", None, print, lambda: 1, Work, task.Task, retry.Times, linear_flow.Flow, object()]
)
def test_what_is_no_atom_and_no_flow_is_refused_and_nothing_is_added(new, wrong):
    made = new("f")
    with pytest.raises(TypeError, match=r"Only atoms .* can be added to "):
        made.add(work("a"), wrong)
    assert len(made) == 0


def test_a_mistake_in_adding_comes_with_a_hint(new):
    with pytest.raises(TypeError, match="as_task"):
        new("f").add(print)
    with pytest.raises(TypeError, match="a class has to be called"):
        new("f").add(Work)


def test_a_flow_cannot_be_added_to_itself(new):
    made = new("f")
    with pytest.raises(ValueError, match="cannot be added to itself"):
        made.add(made)
    assert len(made) == 0


def test_anything_with_what_an_atom_has_is_taken(new):
    made = new("f").add(mock.MagicMock(requires={"x"}, provides={"y"}), mock.MagicMock())
    assert len(made) == 2
    assert "y" in made.provides


@pytest.mark.parametrize(
    "stand_in",
    [
        lambda: mock.Mock(spec=task.Task),
        lambda: mock.create_autospec(Work),
        lambda: mock.create_autospec(Work, instance=True),
        lambda: mock.MagicMock(spec=work("m")),
        lambda: mock.Mock(spec=linear_flow.Flow),
        lambda: mock.create_autospec(graph_flow.Flow, instance=True),
        lambda: mock.MagicMock(spec=unordered_flow.Flow("m")),
    ],
    ids=[
        "task class",
        "task autospec",
        "task autospec instance",
        "task",
        "flow class",
        "flow autospec instance",
        "flow",
    ],
)
def test_a_mock_of_a_task_or_flow_is_taken_with_the_names_that_it_is_given(new, stand_in):
    member = stand_in()
    member.configure_mock(name="m", requires={"x"}, provides={"y"})
    made = new("f").add(member)
    assert (made.requires, made.provides, names(made)) == ({"x"}, {"y"}, ["m"])
    outer = graph_flow.Flow("o").add(work("last", "y"), made)
    assert [(u, v.name) for u, v, _ in outer.iter_links()] == [(made, "last")]


def test_each_of_many_members_of_classes_of_their_own_is_looked_at_once(new, monkeypatch):
    looked_at = []
    check = flow.Flow._tfx_check_member
    monkeypatch.setattr(flow.Flow, "_tfx_check_member", lambda self, item: looked_at.append(item) or check(self, item))
    members = [mock.Mock(requires=(), provides=()) for _ in range(20)]
    new("f").add(*members)
    assert looked_at == members


def test_names_may_change_after_adding(new):
    a, b = work("a"), work("b")
    made = new("f").add(a, b)
    a.name = b.name = "same"
    assert names(made) == ["same", "same"]
    assert a in made


def test_atoms_and_flows_of_one_name_can_be_added(new):
    made = new("f").add(work("a"), work("a"), new("f"), new("f"))
    assert names(made) == ["a", "a", "f", "f"]


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_copy_has_the_same_members_links_and_retry(new, copied):
    made = new("f", retry.Times(3, "r")).add(work("a", provides="x"), work("b", "x"), linear_flow.Flow("in"))
    other = copied(made)
    assert names(other) == names(made)
    assert (other.name, other.retry.name) == ("f", "r")
    assert (other.requires, other.provides) == (made.requires, {"x"})
    assert [(u.name, v.name) for u, v, _ in other.iter_links()] == [(u.name, v.name) for u, v, _ in made.iter_links()]


# -- retry -----------------------------------------------------------------------------------------------------------


def test_a_flow_has_a_retry_or_none(new):
    controller = retry.Times(3, "r")
    assert new("f").retry is None
    assert new("f", controller).retry is controller
    assert new("f", retry=controller).retry is controller


def test_a_retry_without_a_name_is_named_after_its_first_flow(new):
    controller = retry.Times(3)
    new("first", controller)
    new("second", controller)
    assert controller.name == "first_retry"
    named = retry.Times(3, "own")
    new("f", named)
    assert named.name == "own"


@pytest.mark.parametrize("wrong", [3, "text", retry.RETRY, object()])
def test_what_is_no_retry_is_refused(new, wrong):
    with pytest.raises(TypeError, match=r"The retry of flow 'f' must be a taskflowx.retry.Retry, not "):
        new("f", wrong)


def test_a_retry_is_no_member_but_counts_for_requires_and_provides(new):
    made = new("f", retry.ForEach([1], provides="x", requires=["needed"])).add(work("a", "x", "y"))
    assert names(made) == names(member for member, _ in made.iter_nodes()) == ["a"]
    assert made.requires == {"needed"}
    assert made.provides == {"x", "y"}


def test_a_retry_may_require_what_it_provides(new):
    made = new("f", retry.ForEach([1], provides="x", requires=["x"])).add(work("a", "x"))
    assert (made.requires, made.provides) == ({"x"}, {"x"})


def test_a_retry_does_not_see_what_the_members_provide(new):
    made = new("f", retry.Times(1, requires=["x"])).add(work("a", provides="x"))
    assert made.requires == {"x"}


# -- requires and provides -------------------------------------------------------------------------------------------


def test_an_empty_flow_requires_and_provides_nothing(new):
    made = new("f")
    assert made.requires == made.provides == frozenset()
    assert isinstance(made.requires, frozenset)
    assert isinstance(made.provides, frozenset)


def test_what_nobody_provides_is_required(new):
    made = new("f").add(work("a", ("p", "q")), work("b", "q", "r"))
    assert (made.requires, made.provides) == ({"p", "q"}, {"r"})


def test_injected_and_optional_arguments_are_not_required(new):
    injected = Work("i", requires=["v", "w"], inject={"v": 1})
    optional = task.FunctorTask(lambda o=1: o, "o")
    assert new("f").add(injected, optional).requires == {"w"}


def test_what_reverts_require_is_required(new):
    made = new("f").add(task.FunctorTask(lambda: 1, "a", revert=lambda undo: undo))
    assert made.requires == {"undo"}


def test_nested_flows_count_as_a_whole(new):
    inner = linear_flow.Flow("in").add(work("a", provides="x"), work("b", "x", "y"))
    other = unordered_flow.Flow("other", retry.Times(2, provides="r")).add(work("c", ("r", "p")))
    made = new("f").add(inner, other)
    assert (made.requires, made.provides) == ({"p"}, {"x", "y", "r"})


def test_nested_retries_provide_for_what_is_inside(new):
    made = new("f").add(new("in", retry.Times(2, provides="x")).add(work("a", "x")))
    assert (made.requires, made.provides) == (frozenset(), {"x"})


def test_an_atom_that_needs_what_it_provides_needs_it_from_outside(new):
    made = new("f").add(work("a", "x", "x"))
    assert (made.requires, made.provides) == ({"x"}, {"x"})


def test_a_nested_flow_may_grow_after_it_was_added(new):
    inner = linear_flow.Flow("in")
    made = new("f").add(inner)
    inner.add(work("a", "p", "x"))
    assert (made.requires, made.provides) == ({"p"}, {"x"})


def test_a_flow_that_holds_itself_further_down_is_named(new):
    top, middle, bottom = new("top"), new("middle"), new("bottom")
    top.add(middle)
    middle.add(bottom)
    bottom.add(top)
    for asked in ("requires", "provides"):
        with pytest.raises(exceptions.DependencyFailure, match="contains itself: top -> middle -> bottom -> top"):
            getattr(top, asked)


def test_one_flow_in_two_places_is_no_loop(new):
    shared = linear_flow.Flow("shared").add(work("a", "p", "x"))
    made = new("f").add(linear_flow.Flow("one").add(shared), linear_flow.Flow("two").add(shared))
    assert (made.requires, made.provides) == ({"p"}, {"x"})


@pytest.mark.parametrize("outside_in", [True, False])
def test_flows_nested_very_deep_do_not_hit_the_limit_of_recursion(new, outside_in):
    depth = 5_000
    a = work("a", "p", "x")
    if outside_in:
        top = inner = new("0")
        for level in range(1, depth):
            inner.add(further := new(str(level)))
            inner = further
        inner.add(a)
    else:
        top = new("0").add(a)
        for level in range(1, depth):
            top = new(str(level)).add(top)
    assert (top.requires, top.provides) == ({"p"}, {"x"})


def kept(made):
    names = flow.names_of(made)
    return names.requires, names.provides


@pytest.mark.parametrize("seed", range(12))
def test_names_that_flows_keep_are_those_that_are_looked_up_anew(seed):
    """Flows of all patterns grow in random order, also after they have been nested and asked, and in several places."""
    chance = random.Random(seed)
    flows = [
        chance.choice((linear_flow, unordered_flow, graph_flow, graph_flow)).Flow(str(n), chance_of_retry(chance, n))
        for n in range(8)
    ]
    for step in range(60):
        at = chance.randrange(len(flows))
        some = [chance.sample("pqrstuvwxyz", chance.choice((0, 1, 1, 2))) for _ in range(2)]
        new = chance.choice(flows[:at]) if at and chance.random() < 0.3 else work(f"a{step}", *some)
        before = [(made.requires, made.provides) for made in flows]
        how = {"resolve_requires": chance.random() < 0.6} if isinstance(flows[at], graph_flow.Flow) else {}
        try:
            flows[at].add(new, **how)
        except (exceptions.DependencyFailure, exceptions.Duplicate):
            assert [(made.requires, made.provides) for made in flows] == before
        for made in chance.sample(flows, 3):
            assert kept(made) == (made.requires, made.provides)
    assert [kept(copy.deepcopy(made)) for made in flows] == [(made.requires, made.provides) for made in flows]


def chance_of_retry(chance, n):
    provides = chance.choice([(), ("p",), ("q", "r")])
    return retry.Times(1, f"r{n}", provides=provides, requires=chance.choice([(), ("z",)])) if n % 3 == 0 else None


NESTS = {
    "graph": [graph_flow],
    "graph and linear": [graph_flow, linear_flow],
    "graph and unordered": [graph_flow, unordered_flow],
    "all": [graph_flow, linear_flow, unordered_flow, linear_flow],
}


def nest(patterns, depth, *, first, alone=False):
    """Flows around flows: each level takes a name of the one inside and of the store, and gives one."""
    made = work("innermost", provides="x0")
    for level in range(depth):
        step = [] if alone else [work(str(level), (f"x{level}", f"in{level}"), f"x{level + 1}")]
        around = patterns[level % len(patterns)].Flow(f"level {level}")
        made = around.add(*([made, *step] if first else [*step, made]))
    return made


@pytest.mark.parametrize("alone", [True, False])
@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize("patterns", NESTS.values(), ids=NESTS)
def test_the_cost_of_a_level_does_not_grow_with_the_depth(patterns, first, alone):
    small, large = (
        calls_of(lambda depth=depth: nest(patterns, depth, first=first, alone=alone)) / depth for depth in (200, 1_600)
    )
    assert large < 1.1 * small


@pytest.mark.parametrize("needs", [1, 12])
def test_what_a_row_requires_costs_the_same_in_a_row_of_any_size(needs):
    """The links are made by hand, and what the members need is given far before them."""

    def cost(size):
        names = [f"x{n}" for n in range(needs)]
        members = [work("p", (), names), *(work(str(n), names) for n in range(size))]
        made = graph_flow.Flow("f").add(*members, resolve_requires=False)
        for u, v in itertools.pairwise(members):
            made.link(u, v)
        asked = []
        assert calls_of(lambda: asked.append(made.requires)) > size
        assert asked == [frozenset()]
        return calls_of(lambda: made.requires) / size

    assert cost(1_600) <= 1.1 * cost(200)


def test_no_level_keeps_the_names_of_those_inside_it():
    """All names are in the sets of the outermost level alone: the memory of a level does not grow with the depth."""
    sizes = []
    for depth in (200, 1_600):
        made = nest([graph_flow], depth, first=True)
        sizes.append(len(pickle_of_levels(made)) / depth)
    assert sizes[1] < 1.2 * sizes[0]


def pickle_of_levels(made):
    """What each level of a nest keeps beside its members."""
    return pickle.dumps([vars(level._tfx_members) | {"items": (), "_numbers": ()} for level in flow.nested_flows(made)])


@pytest.mark.parametrize(
    ("copied", "depth"), [(copy.deepcopy, 95), (lambda made: pickle.loads(pickle.dumps(made)), 140)]
)
def test_nested_flows_are_copied_as_deep_as_the_limit_of_recursion_lets_them(copied, depth):
    script = functools.partial(copied, nest([graph_flow], depth, first=False))
    with concurrent.futures.ThreadPoolExecutor(1) as pool:  # where nothing has been called yet
        assert len(list(flow.nested_flows(pool.submit(script).result()))) == depth


def test_a_subclass_may_say_itself_what_is_copied():
    made = Sparse("f").add(work("a", provides="x"), work("b", "x"))
    for other in (copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made))):
        assert names(other) == ["a", "b"]
        assert len(list(other.iter_links())) == 1


class Sparse(graph_flow.Flow):
    def __getstate__(self):
        return dict(vars(self))


def test_the_base_of_flows_leaves_the_order_to_patterns():
    made = flow.Flow("f").add(work("a"))
    with pytest.raises(NotImplementedError):
        made.iter_links()
    with pytest.raises(NotImplementedError):
        _ = made.requires
    assert made.provides == frozenset()


@pytest.mark.parametrize("pattern", [linear_flow, unordered_flow, graph_flow])
def test_a_copy_has_members_of_its_own(pattern):
    flow = pattern.Flow("f").add(task.FunctorTask(print, "a"))
    for other in (copy.copy(flow), copy.deepcopy(flow), pickle.loads(pickle.dumps(flow))):
        other.add(task.FunctorTask(print, "b"))
        assert [member.name for member in other] == ["a", "b"]
        assert [member.name for member in flow] == ["a"]
