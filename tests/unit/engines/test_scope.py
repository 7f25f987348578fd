"""Who sees whose results, and which provider is the nearest."""

from __future__ import annotations

import itertools
import random

import pytest

from taskflowx import retry
from taskflowx.engines import plan as plans, scope as scopes
from taskflowx.engines.compile import compile_flow
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from tests.support.flows import Open as Work, graph, linear, unordered


def gives(name, *provides):
    return Work(name, provides=provides)


class Seen:
    """Asks by name what a flow's scope says."""

    def __init__(self, flow):
        self.plan = compile_flow(flow)
        self.scope = scopes.Scope(self.plan)

    def candidates(self, atom, name="x"):
        return [self.plan.atoms[p].name for p in self.scope.candidates(self.plan.names[atom], name)]

    def nearest(self, atom, name="x"):
        found = self.scope.nearest(self.plan.names[atom], name)
        return None if found < 0 else self.plan.atoms[found].name

    def visible(self, atom):
        atoms = self.plan.atoms
        levels = self.scope.visible(self.plan.names[atom])
        return [[atoms[p].name for p in level if atoms[p] is not None] for level in levels]

    def check(self, atom, *expected, name="x"):
        assert self.candidates(atom, name) == list(expected)
        assert self.nearest(atom, name) == (expected[0] if expected else None)


# -- linear ----------------------------------------------------------------------------------------


def test_in_a_linear_flow_the_nearest_before_comes_first_and_nothing_after_is_seen():
    seen = Seen(linear("f", gives("a", "x"), gives("b", "x"), gives("c"), gives("d", "x"), gives("e")))
    seen.check("a")
    seen.check("b", "a")
    seen.check("c", "b", "a")
    seen.check("d", "b", "a")
    seen.check("e", "d", "b", "a")


def test_an_atom_does_not_see_itself():
    seen = Seen(linear("f", gives("a", "x")))
    seen.check("a")


def test_what_nobody_provides_has_no_candidates():
    seen = Seen(linear("f", gives("a", "x"), gives("b")))
    seen.check("b", name="y")


def test_atoms_of_a_flow_before_are_seen_after_it():
    seen = Seen(linear("f", unordered("u", gives("a", "x"), gives("b", "y")), gives("c")))
    seen.check("c", "a")
    seen.check("c", "b", name="y")


# -- nested ----------------------------------------------------------------------------------------


def test_the_inner_flow_is_nearer_than_what_is_around_it():
    inner = linear("inner", gives("b", "x"), gives("c"))
    seen = Seen(linear("outer", gives("a", "x"), inner, gives("d", "x")))
    seen.check("b", "a")
    seen.check("c", "b", "a")
    seen.check("d", "b", "a")


def test_levels_go_from_the_own_flow_outwards():
    inner = linear("inner", gives("c"), gives("d"))
    seen = Seen(linear("top", gives("a"), linear("middle", gives("b"), inner), gives("e")))
    assert seen.visible("d") == [["c"], ["b"], ["a"]]
    assert seen.visible("e") == [["d", "c", "b", "a"]]


def test_what_is_around_an_unordered_flow_is_seen_inside_it():
    seen = Seen(linear("f", gives("a", "x"), unordered("u", gives("b"), gives("c", "x"))))
    seen.check("b", "a")
    seen.check("c", "a")


# -- unordered -------------------------------------------------------------------------------------


def test_members_of_an_unordered_flow_do_not_see_each_other():
    seen = Seen(unordered("u", gives("a", "x"), gives("b"), gives("c", "x")))
    for name in "abc":
        seen.check(name)
        assert seen.visible(name) == [[]]


def test_flows_in_an_unordered_flow_do_not_see_each_other():
    left = linear("left", gives("a", "x"), gives("b"))
    right = linear("right", gives("c"), gives("d", "x"), gives("e"))
    seen = Seen(unordered("u", left, right))
    seen.check("b", "a")
    seen.check("c")
    seen.check("e", "d")


def test_members_of_an_unordered_flow_do_not_see_each_other_through_a_gate():
    first = unordered("first", gives("a", "x"), gives("b", "x"))
    second = unordered("second", gives("c", "x"), gives("d"))
    seen = Seen(linear("f", first, second))
    seen.check("d", "b", "a")


# -- retries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [linear, unordered, graph])
def test_the_value_of_a_retry_is_seen_by_all_inside_its_flow(kind):
    inner = linear("inner", gives("b"))
    seen = Seen(kind("f", gives("a"), inner, controller=retry.Times(1, "r", provides="x")))
    seen.check("a", "r")
    seen.check("b", "r")
    seen.check("r")


@pytest.mark.parametrize("kind", [linear, unordered, graph])
def test_the_value_of_a_retry_is_not_seen_beside_its_flow(kind):
    inside = kind("inside", gives("a"), controller=retry.Times(1, "r", provides="x"))
    seen = Seen(unordered("u", inside, gives("b")))
    seen.check("a", "r")
    seen.check("b")


def test_the_inner_retry_is_nearer_than_the_outer_one():
    inner = unordered("inner", gives("a"), controller=retry.Times(1, "r_in", provides="x"))
    seen = Seen(linear("outer", inner, controller=retry.Times(1, "r_out", provides="x")))
    seen.check("a", "r_in", "r_out")
    seen.check("r_in", "r_out")


# -- graph -----------------------------------------------------------------------------------------


def test_in_a_graph_flow_direct_and_indirect_predecessors_are_seen_and_nothing_else():
    a, b, c, d = gives("a", "x"), gives("b"), gives("c"), gives("d", "x")
    seen = Seen(graph("g", a, b, c, d, links=[(a, b), (b, c)]))
    seen.check("b", "a")
    seen.check("c", "a")
    seen.check("d")
    assert seen.visible("c") == [["b", "a"]]
    assert seen.visible("d") == [[]]


def test_in_a_graph_flow_the_nearest_ancestor_comes_first():
    a, b, c, d = gives("a", "x"), gives("b", "y"), gives("c", "x"), gives("d")
    seen = Seen(graph("g", a, b, links=[(a, b)]).add(d))
    seen.check("d")
    flow = graph_flow.Flow("g").add(a, b, c, d, resolve_requires=False)
    seen = Seen(flow.link(a, b).link(b, c).link(c, d))
    seen.check("d", "c", "a")


def test_inside_flows_of_a_graph_flow_the_predecessors_of_the_flow_are_seen():
    a, b, c = gives("a", "x"), gives("b"), gives("c")
    inner, beside = linear("inner", b), linear("beside", c)
    seen = Seen(graph("g", a, inner, beside, links=[(a, inner)]))
    seen.check("b", "a")
    seen.check("c")


def test_atoms_inside_a_predecessor_are_seen_by_those_inside_its_successor():
    first = unordered("first", gives("a", "x"), gives("b", "y"))
    second = linear("second", gives("c"), gives("d"))
    other = linear("other", gives("e", "x"))
    seen = Seen(graph("g", first, second, other, links=[(first, second)]))
    seen.check("d", "a")
    seen.check("d", "b", name="y")


def test_an_empty_flow_between_two_members_hides_nothing():
    a, b = gives("a", "x"), gives("b")
    empty = linear("empty")
    seen = Seen(graph("g", a, empty, b, links=[(a, empty), (empty, b)]))
    seen.check("b", "a")


def test_an_argument_makes_its_provider_a_predecessor():
    a, b = gives("a", "x"), Work("b", requires=["x"])
    seen = Seen(graph("g", b, a))
    seen.check("b", "a")


# -- cost ------------------------------------------------------------------------------------------


def test_a_name_rebound_by_thousands_in_a_row_costs_one_candidate_each(monkeypatch):
    count = 3_000
    tasks = [Work(f"t{i}", provides="x", requires=["x"] if i else []) for i in range(count)]
    tasks.append(Work("last", requires=["x"]))
    plan = compile_flow(linear("f", *tasks))
    scope = scopes.Scope(plan)
    consumed = 0
    original = scopes.Scope.candidates

    def counted(self, i, name):
        nonlocal consumed
        for p in original(self, i, name):
            consumed += 1
            yield p

    monkeypatch.setattr(scopes.Scope, "candidates", counted)
    assert [scope.nearest(i, "x") for i in range(1, count + 1)] == list(range(count))
    assert consumed <= count
    consumed = 0
    assert next(scope.candidates(count, "x")) == count - 1
    assert consumed == 1


def test_a_name_provided_once_far_away_is_found_without_looking_at_what_lies_between():
    count = 3_000
    plan = compile_flow(linear("f", gives("first", "x"), *(gives(f"t{i}", f"y{i}") for i in range(count))))
    scope = scopes.Scope(plan)
    assert scope.providers["x"] == 0
    assert list(scope.candidates(count, "x")) == [0]
    assert scope.nearest(count, "x") == 0


def test_the_providers_of_a_name_are_listed_in_order():
    plan = compile_flow(unordered("u", *(gives(f"t{i}", "x") for i in range(400)), gives("one", "y")))
    scope = scopes.Scope(plan)
    assert scope.providers == {"x": list(range(400)), "y": 400}


def levels_of(plan, i):
    """The flows around an atom, each with the index where the member that holds the atom begins."""
    position, home = i, plan.flow_of[i]
    while home >= 0:
        yield plan.ranges[home], position
        position, home = plan.ranges[home].lo, plan.ranges[home].parent


def expected(seen, i, name):
    """The providers of a name by a walk over all levels."""
    provides = [p for p, one in enumerate(seen.plan.atoms) if one is not None and name in one.provides]
    for span, position in levels_of(seen.plan, i):
        for p in reversed([p for p in provides if span.lo <= p < position]):
            if p == span.retry or (
                span.kind != plans.UNORDERED and (span.kind == plans.LINEAR or span.follows(position, p))
            ):
                yield p


@pytest.mark.parametrize("seed", range(20))
def test_the_candidates_are_those_of_all_levels_from_the_inside_out(seed):
    chance = random.Random(seed)
    counter = itertools.count()

    def make(depth):
        members = []
        for _ in range(chance.randrange(1, 4)):
            provides = chance.sample("xyz", chance.randrange(3))
            one = chance.random() < 0.6 and depth
            members.append(make(depth - 1) if one else gives(f"t{next(counter)}", *provides))
        name = f"r{next(counter)}"
        controller = retry.Times(1, name, provides=chance.choice("xyz")) if chance.random() < 0.3 else None
        made = chance.choice((linear, unordered, graph))(name, *members, controller=controller)
        if isinstance(made, graph_flow.Flow):
            for u, v in itertools.combinations(members, 2):
                if chance.random() < 0.5:
                    made.link(u, v)
        return made

    seen = Seen(make(9))
    for i, one in enumerate(seen.plan.atoms):
        if one is not None:
            for name in "xyz":
                assert list(seen.scope.candidates(i, name)) == list(expected(seen, i, name))


def test_a_provider_is_found_in_few_steps_however_deep_the_atom_is():
    depth = 4_000
    inner = made = linear_flow.Flow("0").add(gives("a", "x"))
    for level in range(1, depth):
        further = (linear_flow, unordered_flow)[level % 2].Flow(str(level))
        inner.add(further)
        inner = further
    inner.add(gives("z"))
    seen = Seen(made)
    steps = 0

    class Counted(list):
        def __getitem__(self, index):
            nonlocal steps
            steps += 1
            return super().__getitem__(index)

    seen.plan.ranges = Counted(seen.plan.ranges)
    seen.scope = scopes.Scope(seen.plan)
    seen.check("z", "a")
    assert steps < 300


def row_by_hand(size):
    """Members that all need what the first one provides, linked by hand one after another."""
    members = [gives("p", "x"), *(Work(f"t{n}", requires=["x"]) for n in range(size))]
    return graph_flow.Flow("g").add(*members, resolve_requires=False), members


@pytest.mark.parametrize("linked", [True, False])
def test_a_member_costs_the_same_in_a_graph_flow_of_any_size(linked):
    """Also when nothing links the members with one another, so that none sees any of many providers."""

    def steps(size):
        made, members = row_by_hand(size)
        if linked:
            for u, v in itertools.pairwise(members):
                made.link(u, v)
        else:
            others = (Work(f"u{n}", requires=["x"], provides="x") for n in range(size))
            made.add(*others, resolve_requires=False, resolve_existing=False)
        seen = Seen(made)
        counted = 0

        class Counted(list):
            def __getitem__(self, index):
                nonlocal counted
                counted += 1
                return super().__getitem__(index)

        for span in seen.plan.ranges:
            span.before = Counted(span.before)
        seen.scope.providers["x"] = Counted([p for p, one in enumerate(seen.plan.atoms) if "x" in one.provides])
        found = [seen.nearest(name) for name in seen.plan.names]
        assert set(found) == ({"p", None} if linked else {None})
        return counted / size

    assert steps(2_000) <= 1.5 * steps(250) + 1
