"""Graph flows: links inferred from names and made by hand, the order kept while the flow grows, refusals."""

from __future__ import annotations

import copy
import functools
import itertools
import pickle
import sys
from unittest import mock

import pytest

from taskflowx import exceptions, flow, retry, task
from taskflowx.deciders import Depth
from taskflowx.patterns import graph_flow, linear_flow, members as keeping, order as ordering, unordered_flow
from tests.support.flows import Open as Work, attributes_of, everything, links, names, work

CYCLE = "No path through the node(s) in the graph produces an ordering that will allow for logical edge traversal"


def yes(history):
    return True


@pytest.fixture
def abc():
    """A chain of three: a provides for b and c, and b for c."""
    return work("a", provides="x"), work("b", "x", "y"), work("c", ("x", "y"))


# -- inferred links --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
@pytest.mark.parametrize("one_by_one", [True, False])
def test_links_and_order_do_not_depend_on_the_order_of_adding(abc, order, one_by_one):
    members = [abc[place] for place in order]
    made = graph_flow.Flow("g")
    if one_by_one:
        for member in members:
            made.add(member)
    else:
        made.add(*members)
    assert names(made) == ["a", "b", "c"]
    assert [(u.name, v.name, attributes) for u, v, attributes in made.iter_links()] == [
        ("a", "b", {flow.LINK_REASONS: {"x"}}),
        *sorted(
            [("a", "c", {flow.LINK_REASONS: {"x"}}), ("b", "c", {flow.LINK_REASONS: {"y"}})],
            key=lambda link: [u.name for u, v, _ in made.iter_links() if v.name == "c"].index(link[0]),
        ),
    ]
    assert (made.requires, made.provides) == (frozenset(), {"x", "y"})


def test_a_link_has_all_the_names_that_are_its_reason():
    a, b = work("a", provides=("x", "y", "z")), work("b", ("z", "x"))
    for members in ((a, b), (b, a)):
        made = graph_flow.Flow("g").add(*members)
        assert attributes_of(made, a, b) == {flow.LINK_REASONS: {"x", "z"}}


def test_adding_a_member_again_changes_nothing(abc):
    made = graph_flow.Flow("g").add(*abc)
    before = everything(made)
    made.add(*reversed(abc))
    assert everything(made) == before


def test_an_argument_with_a_default_makes_no_link():
    made = graph_flow.Flow("g").add(work("p", provides="o"), task.FunctorTask(lambda o=1: o, "s"))
    assert links(made) == set()


def test_what_a_revert_requires_makes_a_link():
    made = graph_flow.Flow("g").add(task.FunctorTask(lambda: 1, "s", revert=lambda o: o), work("p", provides="o"))
    assert links(made) == {("p", "s")}


@pytest.mark.parametrize("provider_first", [True, False])
def test_what_is_injected_makes_no_link_but_the_rest_does(provider_first):
    injected = Work("i", requires=["v", "w"], inject={"v": 1})
    others = [work("v", provides="v"), work("w", provides="w")]
    made = graph_flow.Flow("g").add(*([*others, injected] if provider_first else [injected, *others]))
    assert links(made) == {("w", "i")}


@pytest.mark.parametrize("provider_first", [True, False])
def test_two_arguments_fed_by_one_name_make_one_link(provider_first):
    both = task.FunctorTask(lambda p, q: (p, q), "both", rebind=["x", "x"])
    members = [work("a", provides="x"), both]
    made = graph_flow.Flow("g").add(*(members if provider_first else reversed(members)))
    assert [(u.name, v.name, attributes) for u, v, attributes in made.iter_links()] == [
        ("a", "both", {flow.LINK_REASONS: {"x"}})
    ]


def test_without_resolve_requires_new_members_are_not_linked_to_their_providers(abc):
    made = graph_flow.Flow("g").add(*abc, resolve_requires=False)
    assert links(made) == set()
    assert made.requires == {"x", "y"}


@pytest.mark.parametrize("existing", [True, False])
def test_members_that_require_and_provide_one_name_are_linked_by_hand(existing):
    a, b, c = steps = [work(name, "total", "total") for name in "abc"]
    made = graph_flow.Flow("g").add(*steps, resolve_requires=False, resolve_existing=existing).link(a, b).link(b, c)
    assert list(made.iter_links()) == [(a, b, {flow.LINK_MANUAL: True}), (b, c, {flow.LINK_MANUAL: True})]
    assert made.requires == {"total"}


def test_flows_that_require_and_provide_one_name_are_linked_by_hand():
    first = linear_flow.Flow("first").add(work("a", "x", "x"), work("b", "x", "x"))
    second = linear_flow.Flow("second").add(work("c", "x", "x"))
    made = graph_flow.Flow("g").add(first, second, resolve_requires=False).link(second, first)
    assert links(made) == {("second", "first")}


def test_without_resolve_requires_names_link_new_members_with_providers_of_later_calls_alone():
    made = graph_flow.Flow("g").add(work("a", "x"), work("p", provides="x"), work("b", "x"), resolve_requires=False)
    assert links(made) == set()
    made.add(work("later", provides="x"), resolve_requires=False)
    assert links(made) == {("later", "a"), ("later", "b")}


def test_a_refused_call_without_resolve_requires_leaves_no_trace():
    made = graph_flow.Flow("g").add(work("a", "y", "x"))
    before = everything(made)
    with pytest.raises(exceptions.DependencyFailure):
        made.add(work("b", "z"), linear_flow.Flow("both").add(work("c", "x", "y")), resolve_requires=True)
    with pytest.raises(TypeError):
        made.add(work("d", "w"), object(), resolve_requires=False)
    assert everything(made) == before
    made.add(work("e", provides="w"))
    assert links(made) == set()


def test_without_resolve_existing_members_are_not_linked_to_new_providers(abc):
    made = graph_flow.Flow("g").add(abc[2]).add(abc[1]).add(abc[0], resolve_existing=False)
    assert links(made) == {("b", "c")}
    assert made.requires == {"x"}


def test_a_nested_flow_is_linked_as_a_whole(abc):
    inner = linear_flow.Flow("in").add(abc[1], abc[2])
    assert links(graph_flow.Flow("g").add(inner, abc[0])) == {("a", "in")}
    after = work("z", "y")
    assert links(graph_flow.Flow("g").add(after, abc[0], inner)) == {("a", "in"), ("in", "z")}


def test_what_the_retry_of_a_nested_flow_provides_makes_a_link():
    inner = linear_flow.Flow("in", retry.Times(1, provides="x")).add(work("a"))
    assert links(graph_flow.Flow("g").add(work("b", "x"), inner)) == {("in", "b")}


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_what_the_own_retry_provides_makes_no_link(abc, order):
    made = graph_flow.Flow("g", retry.Times(1, provides="x")).add(*(abc[place] for place in order))
    assert links(made) == {("b", "c")}
    assert attributes_of(made, abc[1], abc[2]) == {flow.LINK_REASONS: {"y"}}
    assert made.requires == frozenset()


def test_what_the_own_retry_provides_is_no_reason_of_a_link():
    a, b = work("a", provides=("x", "y")), work("b", ("x", "y"))
    made = graph_flow.Flow("g", retry.Times(1, provides="x")).add(a, b)
    assert attributes_of(made, a, b) == {flow.LINK_REASONS: {"y"}}


def test_what_the_own_retry_provides_is_neither_ambiguous_nor_a_loop():
    controller = retry.Times(1, provides="x")
    ambiguous = graph_flow.Flow("g", controller).add(work("a", provides="x"), work("b", provides="x"), work("c", "x"))
    assert links(ambiguous) == set()
    loop = graph_flow.Flow("g", controller).add(work("p", "x", "y"), work("q", "y", "x"))
    assert links(loop) == {("p", "q")}


def test_an_atom_that_needs_what_it_provides_is_linked_to_another_provider():
    update = work("u", "x", "x")
    assert links(graph_flow.Flow("g").add(update)) == set()
    for members in ((work("p", provides="x"), update), (update, work("p", provides="x"))):
        assert links(graph_flow.Flow("g").add(*members)) == {("p", "u")}


def test_members_of_any_kind_are_taken_in_the_same_order_in_each_process():
    needer = mock.MagicMock(requires={"x3", "x1", "x2"}, provides={"q"})
    providers = [work(f"p{n}", provides=f"x{n}") for n in (2, 3, 1)]
    made = graph_flow.Flow("g").add(*providers, needer)
    assert [u.name for u, _, _ in made.iter_links()] == ["p1", "p2", "p3"]


# -- ambiguity -------------------------------------------------------------------------------------------------------


def test_a_name_with_two_providers_is_ambiguous_for_who_comes_after_them():
    made = graph_flow.Flow("g")
    message = (
        r"^Resolution error detected when adding 'b', multiple providers \['a1', 'a2'\] found for required symbol 'x'\n"
    )
    with pytest.raises(exceptions.AmbiguousDependency, match=message):
        made.add(work("a2", provides="x"), work("a1", provides="x"), work("b", "x"))
    assert len(made) == 0


def test_flows_are_named_among_the_providers():
    inner = linear_flow.Flow("in").add(work("a", provides="x"))
    with pytest.raises(exceptions.AmbiguousDependency, match=r"\['a2', 'in'\]"):
        graph_flow.Flow("g").add(inner, work("a2", provides="x"), work("b", "x"))


def test_who_is_there_already_follows_the_first_provider_of_a_name():
    made = graph_flow.Flow("g").add(work("b", ("x", "y")), work("a1", provides="x"), work("a2", provides=("x", "y")))
    reasons = {(u.name, v.name): attributes["reasons"] for u, v, attributes in made.iter_links()}
    assert reasons == {("a1", "b"): {"x"}, ("a2", "b"): {"y"}}


def test_who_follows_a_provider_by_hand_is_not_linked_to_another_one():
    needer, given, other = work("b", "x"), work("a1", provides="x"), work("a2", provides="x")
    made = graph_flow.Flow("g").add(needer).add(given, resolve_existing=False).link(given, needer).add(other)
    assert links(made) == {("a1", "b")}


def test_a_name_with_two_providers_does_not_matter_without_resolving():
    members = [work("a1", provides="x"), work("a2", provides="x"), work("b", "x")]
    assert links(graph_flow.Flow("g").add(*members, resolve_requires=False)) == set()


# -- links by hand ---------------------------------------------------------------------------------------------------


@pytest.fixture
def pair():
    """Two members without a link, and the flow that holds them."""
    u, v = work("u"), work("v")
    return graph_flow.Flow("g").add(v, u), u, v


def test_a_link_by_hand_orders_its_ends(pair):
    made, u, v = pair
    assert names(made) == ["v", "u"]
    assert made.link(u, v) is made
    assert names(made) == ["u", "v"]
    assert attributes_of(made, u, v) == {flow.LINK_MANUAL: True}


def test_a_link_by_hand_joins_an_inferred_one(abc):
    made = graph_flow.Flow("g").add(*abc).link(abc[0], abc[1])
    assert attributes_of(made, *abc[:2]) == {flow.LINK_REASONS: {"x"}, flow.LINK_MANUAL: True}
    assert len(list(made.iter_links())) == 3
    made.link(abc[0], abc[1], decider=yes, decider_depth="atom")
    assert attributes_of(made, *abc[:2]) == {
        flow.LINK_REASONS: {"x"},
        flow.LINK_MANUAL: True,
        flow.LINK_DECIDER: yes,
        flow.LINK_DECIDER_DEPTH: Depth.ATOM,
    }


def test_a_link_has_a_decider_and_a_depth(pair):
    made, u, v = pair
    made.link(u, v, decider=yes)
    assert attributes_of(made, u, v) == {flow.LINK_MANUAL: True, flow.LINK_DECIDER: yes}
    made.link(u, v, decider=yes, decider_depth=Depth.FLOW)
    assert attributes_of(made, u, v)[flow.LINK_DECIDER_DEPTH] is Depth.FLOW


def test_what_a_link_has_stays_when_it_is_made_again(pair):
    made, u, v = pair
    made.link(u, v, decider=yes, decider_depth="flow").link(u, v)
    assert attributes_of(made, u, v) == {
        flow.LINK_MANUAL: True,
        flow.LINK_DECIDER: yes,
        flow.LINK_DECIDER_DEPTH: Depth.FLOW,
    }


def test_links_do_not_share_their_attributes(pair):
    made, u, v = pair
    w = work("w")
    made.add(w).link(u, v).link(u, w)
    attributes_of(made, u, v)["changed"] = True
    made.link(u, w, decider=yes)
    assert attributes_of(made, u, v) == {flow.LINK_MANUAL: True}


def test_flows_can_be_linked(pair):
    made, u, _ = pair
    inner = unordered_flow.Flow("in")
    made.add(inner).link(inner, u)
    assert links(made) == {("in", "u")}


def test_both_ends_must_be_members(pair):
    made, u, _ = pair
    stranger = work("s")
    with pytest.raises(
        ValueError, match=r"^Node '\"s==1.0\"' not found to link from\n's' is not in flow 'g': add it first"
    ):
        made.link(stranger, u)
    with pytest.raises(
        ValueError, match=r"^Node '\"s==1.0\"' not found to link to\n's' is not in flow 'g': add it first"
    ):
        made.link(u, stranger)
    with pytest.raises(ValueError, match=r"linear_flow.Flow: in.* not found to link from"):
        made.link(linear_flow.Flow("in"), stranger)


class Decide:
    def method(self, history):
        return True

    def __call__(self, *, history):
        return True


@pytest.mark.parametrize(
    "decider",
    [
        yes,
        lambda history, more=1: True,
        lambda **kwargs: True,
        Decide(),
        Decide().method,
        functools.partial(lambda first, history: True, 1),
        mock.Mock(),
        mock.MagicMock(return_value=True),
    ],
)
def test_what_can_be_called_with_the_history_is_a_decider(pair, decider):
    made, u, v = pair
    assert attributes_of(made.link(u, v, decider=decider), u, v)[flow.LINK_DECIDER] is decider


async def decide_by_and_by(history):
    yield False


@pytest.mark.parametrize(
    ("decider", "message"),
    [
        (3, "^Decider boolean callback must be callable, not 3"),
        (lambda: True, "it takes no argument of that name"),
        (lambda past: True, r"it requires \['past'\] too"),
        (lambda history, more: True, r"it requires \['more'\] too"),
        (lambda *history: True, "it takes no argument of that name"),
        (
            decide_by_and_by,
            "must be a plain function and no coroutine function, which nobody awaits, not the function d",
        ),
        (functools.partial(decide_by_and_by), "must be a plain function and no coroutine function"),
    ],
)
def test_what_cannot_be_called_with_the_history_is_refused(pair, decider, message):
    made, u, v = pair
    before = everything(made)
    with pytest.raises(ValueError, match=message):
        made.link(u, v, decider=decider)
    assert everything(made) == before


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"decider_depth": "ALL"}, ValueError, "^Decider depth requires a decider to be provided along with it$"),
        ({"decider": yes, "decider_depth": "XX"}, ValueError, "^Unexpected decider depth value, one of "),
        ({"decider": yes, "decider_depth": 3}, TypeError, "^Unexpected desired depth type, "),
    ],
)
def test_a_depth_must_be_known_and_belong_to_a_decider(pair, arguments, error, message):
    made, u, v = pair
    before = everything(made)
    with pytest.raises(error, match=message):
        made.link(u, v, **arguments)
    assert everything(made) == before


# -- cycles ----------------------------------------------------------------------------------------------------------


def cycle_of(error):
    """The names on the second line of the message, which starts and ends with the same one."""
    first, second = str(error.value).split("\n")
    assert first == CYCLE
    around = second.removeprefix("The cycle is: ").split(" -> ")
    assert around[0] == around[-1]
    return around


def test_a_link_to_itself_is_a_cycle(pair):
    made, u, _ = pair
    before = everything(made)
    with pytest.raises(exceptions.DependencyFailure) as error:
        made.link(u, u)
    assert cycle_of(error) == ["u", "u"]
    assert everything(made) == before


def test_a_link_that_closes_a_cycle_is_refused_and_the_cycle_named(abc):
    made = graph_flow.Flow("g").add(*abc)
    before = everything(made)
    with pytest.raises(exceptions.DependencyFailure) as error:
        made.link(abc[2], abc[0], decider=yes)
    assert cycle_of(error) == ["c", "a", "c"]
    assert everything(made) == before


def test_a_cycle_is_named_in_the_direction_of_its_links():
    members = [work(name) for name in "abcdef"]
    made = graph_flow.Flow("g").add(*members)
    for u, v in itertools.pairwise(members):
        made.link(u, v)
    with pytest.raises(exceptions.DependencyFailure) as error:
        made.link(members[4], members[1])
    assert cycle_of(error) == ["e", "b", "c", "d", "e"]


def test_a_cycle_is_found_from_its_shorter_side():
    """Going back from the end there are many to look at, of whom only the last leads round."""
    v, w, u = work("v"), work("w"), work("u")
    others = [work(f"p{n}") for n in range(10)]
    made = graph_flow.Flow("g").add(v, w, *others, u).link(v, w)
    for other in [*others, w]:
        made.link(other, u)
    with pytest.raises(exceptions.DependencyFailure) as error:
        made.link(u, v)
    assert cycle_of(error) == ["u", "v", "w", "u"]


@pytest.mark.parametrize("order", list(itertools.permutations(range(3))))
def test_names_that_go_in_a_circle_are_refused_and_nothing_is_added(order):
    ring = [work("p", "x", "y"), work("q", "y", "z"), work("r", "z", "x")]
    made = graph_flow.Flow("g").add(work("before", provides="q"))
    before = everything(made)
    with pytest.raises(exceptions.DependencyFailure) as error:
        made.add(work("more", "q"), *(ring[place] for place in order))
    around = cycle_of(error)
    assert "".join(around[:-1]) in ("pqr", "qrp", "rpq")
    assert everything(made) == before
    assert made.add(ring[0], ring[1]) is made  # what was refused has left nothing behind
    assert links(made) == {("p", "q")}


def test_positions_are_right_after_a_refusal():
    made = graph_flow.Flow("g").add(work("a1", provides="x"), work("a2", provides="x"))
    with pytest.raises(exceptions.AmbiguousDependency):
        made.add(work("fits"), work("b", "x"))
    made.add(work("c", provides="y"), work("d", "y"))
    assert graph_flow.positions(made) == ([(), (), (), (2,)], {})


def test_members_that_were_moved_to_the_end_are_before_those_that_come_later():
    a, b, c = work("a"), work("b", provides="x"), work("c")
    made = graph_flow.Flow("g").add(a, b, c).link(c, a).link(a, b)
    made.add(work("d", "x", "y"), work("e", "y"))
    assert names(made) == ["c", "a", "b", "d", "e"]


def test_a_refused_member_leaves_the_order_as_it_was():
    """The third of the new ones closes a cycle after the first has made members change places."""
    early, late = work("early"), work("late")
    made = graph_flow.Flow("g").add(early, late, work("other"), *(work(f"more {n}") for n in range(20)))
    before = everything(made)
    ends = linear_flow.Flow("ends").add(work("needs", "z"), work("gives", provides="x"))
    with pytest.raises(exceptions.DependencyFailure):
        made.add(work("m", "x", "y"), work("n", "y", "z"), ends)
    assert everything(made) == before
    made.link(late, early)
    assert names(made)[:2] != ["early", "late"]


@pytest.mark.parametrize("size", [0, 30])
def test_a_refused_member_that_made_others_move_leaves_them_where_they_were(size):
    """With many members the new ones are put in one by one, with few all get new ranks."""
    a, b = work("a", "x", "y"), work("b", "p", "w")
    made = graph_flow.Flow("g").add(a, b, *(work(f"more {n}") for n in range(size)))
    before = everything(made)
    with pytest.raises(exceptions.DependencyFailure) as error:
        made.add(work("c", ("w", "q"), "x"), work("d", "y", "q"))
    assert cycle_of(error)[:-1] in (["a", "d", "c"], ["d", "c", "a"], ["c", "a", "d"])
    assert everything(made) == before
    made.add(work("c", "w", "x"))
    assert links(made) == {("b", "c"), ("c", "a")}


# -- targets ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def targeted(abc):
    return graph_flow.TargetedFlow("t").add(*abc, work("d", "q", "z"))


def test_without_a_target_all_members_run(targeted):
    assert sorted(names(targeted)) == ["a", "b", "c", "d"]
    assert len(targeted) == 4


@pytest.mark.parametrize(
    ("target", "members", "found", "requires", "provides"),
    [
        ("a", ["a"], set(), set(), {"x"}),
        ("b", ["a", "b"], {("a", "b")}, set(), {"x", "y"}),
        ("c", ["a", "b", "c"], {("a", "b"), ("a", "c"), ("b", "c")}, set(), {"x", "y"}),
        ("d", ["d"], set(), {"q"}, {"z"}),
    ],
)
def test_only_what_the_target_needs_is_in_the_flow(targeted, target, members, found, requires, provides):
    targeted.set_target(next(member for member in targeted if member.name == target))
    assert names(targeted) == [member.name for member, _ in targeted.iter_nodes()] == members
    assert len(targeted) == len(members)
    assert links(targeted) == found
    assert (targeted.requires, targeted.provides) == (requires, provides)
    assert str(targeted) == f'"graph_flow.TargetedFlow: t(len={len(members)})"'
    before, _ = graph_flow.positions(targeted)
    assert {(members[u], members[v]) for v, earlier in enumerate(before) for u in earlier} == found


def test_a_target_can_be_changed_and_taken_back(targeted, abc):
    assert targeted.set_target(abc[0]) is None
    targeted.set_target(abc[1])
    assert names(targeted) == ["a", "b"]
    assert targeted.reset_target() is None
    assert len(targeted) == 4


def test_what_is_added_and_linked_later_is_looked_at(abc):
    d = work("d", "q")
    made = graph_flow.TargetedFlow("t").add(abc[1], d)
    made.set_target(abc[1])
    assert names(made) == ["b"]
    made.add(abc[0])
    assert names(made) == ["a", "b"]
    made.link(d, abc[1])
    assert sorted(names(made)) == ["a", "b", "d"]


def test_members_that_the_target_does_not_need_can_still_be_linked_and_refused(targeted, abc):
    targeted.set_target(abc[0])
    targeted.link(abc[0], abc[2])
    with pytest.raises(exceptions.DependencyFailure):
        targeted.link(abc[2], abc[0])
    assert names(targeted) == ["a"]


@pytest.mark.parametrize("stranger", [None, work("s")])
def test_a_target_must_be_a_member(targeted, stranger):
    with pytest.raises(ValueError, match=r"^Node '.*' not found\n.* is not in flow 't'"):
        targeted.set_target(stranger)
    assert len(targeted) == 4


def test_a_targeted_flow_has_a_retry_too():
    controller = retry.Times(1)
    assert graph_flow.TargetedFlow("t", retry=controller).retry is controller


# -- copies ----------------------------------------------------------------------------------------------------------


def long_chain(size):
    members = [work(str(n)) for n in range(size)]
    made = graph_flow.Flow("g").add(*reversed(members))
    for u, v in itertools.pairwise(members):
        made.link(u, v)
    return made


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_copy_is_the_same_and_grows_alone(abc, copied):
    d = work("d")
    made = graph_flow.TargetedFlow("g").add(*reversed(abc), d)
    made.link(abc[0], d).link(abc[0], abc[1], decider=yes, decider_depth="flow")
    made.set_target(abc[2])
    other = copied(made)
    assert names(other) == names(made)
    assert [(u.name, v.name, has) for u, v, has in other.iter_links()] == [
        (u.name, v.name, has) for u, v, has in made.iter_links()
    ]
    assert graph_flow.positions(other) == graph_flow.positions(made)
    other.reset_target()
    made.reset_target()
    assert graph_flow.positions(other) == graph_flow.positions(made)
    before = everything(made)
    b = next(member for member in other if member.name == "b")
    other.add(work("e", "y", "w")).add(work("f", "w"), work("g", provides="q"))
    assert {("b", "e"), ("e", "f"), ("a", "d")} < links(other)
    with pytest.raises(exceptions.DependencyFailure):
        other.link(next(member for member in other if member.name == "f"), b)
    assert everything(made) == before


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda made: pickle.loads(pickle.dumps(made))])
def test_a_long_chain_can_be_copied(copied):
    made = long_chain(3_000)
    assert names(copied(made)) == names(made) == [str(n) for n in range(3_000)]


# -- interrupts ------------------------------------------------------------------------------------------------------


def change_interrupted(change, at):
    """Make a change, interrupted at its n-th line in the module; returns whether it has so many."""
    lines = 0

    def interrupt(frame, event, argument):
        nonlocal lines
        if frame.f_code.co_filename not in (keeping.__file__, ordering.__file__):
            return None
        lines += event == "line"
        if event == "line" and lines == at:
            raise KeyboardInterrupt
        return interrupt

    kept = sys.gettrace()
    sys.settrace(interrupt)
    try:
        change()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(kept)
    return False


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("linked", [False, True])
def test_an_add_that_is_interrupted_anywhere_adds_all_or_nothing(linked, nested):
    """A chain of which the ends are there, in the wrong order, gets what lies between; then the same again.

    Nested flows have ever more names, so that each is the largest for a while.
    """
    ends = [work("e", "d"), work("a", (), "a")]
    rest = [work("c", "b", "c"), work("b", "a", "b"), work("d", "c", "d")]
    if nested:
        ends[0] = linear_flow.Flow("e").add(work("e", ("d", "p")))
        rest = [
            linear_flow.Flow(one.name).add(work(f"x{n}", (), [f"{n}.{m}" for m in range(n + 2)]), one)
            for n, one in enumerate(rest)
        ]

    def grown():
        made = graph_flow.Flow("g").add(*ends)
        return made.link(ends[1], ends[0]) if linked else made

    before, whole = everything(grown()), everything(grown().add(*rest))
    for at in itertools.count(1):
        made = grown()
        came = change_interrupted(lambda made=made: made.add(*rest), at)
        assert everything(made) in ((before, whole) if came else (whole,))
        assert everything(made.add(*rest)) == whole
        with pytest.raises(exceptions.DependencyFailure, match="The cycle is"):
            made.link(ends[0], ends[1])
        if not came:
            break
    assert at > 100


def test_a_link_that_is_interrupted_anywhere_is_made_or_not():
    """Two chains, the second of which is to precede the first, so that several members move."""
    first, second = ([work(f"{chain}{n}") for n in range(4)] for chain in "ab")

    def grown():
        made = graph_flow.Flow("g").add(*first, *second)
        for u, v in (*itertools.pairwise(first), *itertools.pairwise(second)):
            made.link(u, v)
        return made

    without, linked = links(grown()), links(grown().link(second[-1], first[0]))
    for at in itertools.count(1):
        made = grown()
        came = change_interrupted(lambda made=made: made.link(second[-1], first[0]), at)
        place = {member: position for position, member in enumerate(made)}
        assert all(place[u] < place[v] for u, v, _ in made.iter_links())
        assert links(made) in ((without, linked) if came else (linked,))
        if links(made) == without:
            assert names(made.link(first[-1], second[0])) == names([*first, *second])
        else:
            with pytest.raises(exceptions.DependencyFailure, match="The cycle is"):
                made.link(first[-1], second[0])
        if not came:
            break
    assert at > 60
