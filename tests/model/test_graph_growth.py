"""Graph flows that grow: their order is topological after each change, as networkx says, and a change costs no more."""

from __future__ import annotations

import copy
import functools
import itertools
import random

import networkx as nx
import pytest
from hypothesis import given, settings, strategies as st

from taskflowx import exceptions
from taskflowx.patterns import graph_flow, linear_flow
from tests.support.counting import calls_of
from tests.support.flows import everything, names, work

pytestmark = pytest.mark.usefixtures("nothing_is_left")


# -- random growth against networkx ----------------------------------------------------------------------------------

NAMES = "uvwxyz"


class Model:
    """What a graph flow must be, worked out from scratch with networkx after each change."""

    def __init__(self):
        self.graph = nx.DiGraph()

    def add(self, members, *, resolve_requires, resolve_existing):
        """Return the errors of which adding these must raise one, or none after having added them."""
        grown = self.graph.copy()
        errors = []
        for member in members:
            if member in grown:
                continue
            found = []
            if resolve_requires:
                for name in member.requires:
                    providers = [other for other in grown if name in other.provides]
                    if len(providers) > 1:
                        return [*errors, exceptions.AmbiguousDependency]
                    found += [(other, member, name) for other in providers]
            if resolve_existing:
                found += [
                    (member, other, name)
                    for other in (grown if resolve_requires else self.graph)
                    for name in member.provides
                    if name in other.requires and not any(name in u.provides for u in grown.predecessors(other))
                ]
            grown.add_node(member)
            for u, v, name in found:
                grown.add_edge(u, v)
                grown.edges[u, v].setdefault("reasons", set()).add(name)
            if not errors and not nx.is_directed_acyclic_graph(grown):
                errors.append(exceptions.DependencyFailure)
        if not errors:
            self.graph = grown
        return errors

    def link(self, u, v):
        """Return the errors of which this link must raise one, or none after having made it."""
        if u is v or nx.has_path(self.graph, v, u):
            return [exceptions.DependencyFailure]
        self.graph.add_edge(u, v, manual=True)
        return []

    def requires(self):
        unmet = set()
        for member in self.graph:
            given = {name for other in nx.ancestors(self.graph, member) for name in other.provides}
            unmet |= set(member.requires) - given
        return unmet


def assert_same(made, model):
    order = list(made)
    assert set(order) == set(model.graph)
    assert len(order) == len(made) == len(model.graph)
    place = {member: position for position, member in enumerate(order)}
    assert all(place[u] < place[v] for u, v in model.graph.edges)
    found = [(u, v) for u, v, _ in made.iter_links()]
    assert len(found) == len(set(found))
    assert {(u, v): attributes for u, v, attributes in made.iter_links()} == dict(model.graph.edges.items())
    before, _ = graph_flow.positions(made)
    assert {(order[u], order[v]) for v, earlier in enumerate(before) for u in earlier} == set(model.graph.edges)
    assert made.requires == model.requires()
    assert list(copy.copy(made)) == order


def assert_change(made, model, change, expected, *, look):
    """Make one change, which must be refused exactly if an error is expected, and then leave no trace.

    Looking at a flow puts its ranks in order, so some tests look only at the end.
    """
    before = everything(made) if look else None
    if not expected:
        change()
    else:
        with pytest.raises(exceptions.DependencyFailure) as error:
            change()
        assert error.type in expected
        assert not look or everything(made) == before
    if look:
        assert_same(made, model)


some_names = st.lists(st.sampled_from(NAMES), max_size=3, unique=True)
additions = st.tuples(
    st.lists(st.tuples(some_names, some_names, st.booleans()), min_size=1, max_size=4),
    st.booleans() | st.just(True),
    st.booleans() | st.just(True),
)
joins = st.tuples(st.integers(0, 30), st.integers(0, 30))


@pytest.mark.parametrize("look", [True, False])
@settings(max_examples=100)
@given(changes=st.lists(additions | joins, max_size=15))
def test_any_growth_keeps_a_topological_order_and_refuses_exactly_the_cycles(look, changes):
    assert_grows_as(changes, look=look)


def member(name, requires, provides, nested):
    if not nested:
        return work(name, requires, provides)
    return linear_flow.Flow(name).add(work(f"{name}.a", requires), work(f"{name}.b", (), provides))


def assert_grows_as(changes, *, look):
    made, model, members = graph_flow.Flow("g"), Model(), []
    for change in changes:
        if len(change) == 3:
            wanted, resolve_requires, resolve_existing = change
            new = [member(f"{len(members)}.{n}", *one) for n, one in enumerate(wanted)]
            how = {"resolve_requires": resolve_requires, "resolve_existing": resolve_existing}
            expected = model.add(new, **how)
            assert_change(made, model, functools.partial(made.add, *new, **how), expected, look=look)
            members += [] if expected else new
        elif members:
            u, v = (members[end % len(members)] for end in change)
            assert_change(made, model, functools.partial(made.link, u, v), model.link(u, v), look=look)
    assert_same(made, model)


@pytest.mark.parametrize("look", [True, False])
@pytest.mark.parametrize("seed", range(4))
def test_a_large_random_graph_stays_in_order(look, seed):
    """Members in random order, most of whose links agree with one hidden order and some with none."""
    chance = random.Random(seed)
    size = 60
    hidden = [work(str(n), [f"x{m}" for m in range(n) if chance.random() < 0.05], f"x{n}") for n in range(size)]
    made, model, present = graph_flow.Flow("g"), Model(), []
    for member in chance.sample(hidden, size):
        expected = model.add([member], resolve_requires=True, resolve_existing=True)
        assert_change(made, model, functools.partial(made.add, member), expected, look=look)
        present += [] if expected else [member]
        u, v = chance.choice(present), chance.choice(present)
        if chance.random() < 0.8 and int(u.name) > int(v.name):
            u, v = v, u
        assert_change(made, model, functools.partial(made.link, u, v), model.link(u, v), look=look)
    assert_same(made, model)


# -- cost ------------------------------------------------------------------------------------------------------------


def chain(size):
    """Each member needs what the three before it provide."""
    return [work(str(n), [f"x{m}" for m in range(max(n - 3, 0), n)], f"x{n}") for n in range(size)]


def layers(size):
    """Layers of fifty; each member needs three of the layer before."""
    return [
        work(str(n), [f"x{(n // 50 - 1) * 50 + (n + k) % 50}" for k in range(3)] if n >= 50 else (), f"x{n}")
        for n in range(size)
    ]


def star(size):
    """One member provides for all others, and one needs them all."""
    hub = work("hub", provides="x")
    rays = [work(str(n), "x", f"y{n}") for n in range(size - 2)]
    return [hub, *rays, work("sink", [f"y{n}" for n in range(size - 2)])]


def inside_out(members):
    """Every second member first, then those between."""
    return [*members[::2], *members[1::2]]


def shuffled_in_blocks(members):
    """The members in order but for blocks of twenty."""
    chance = random.Random(7)
    blocks = (members[start : start + 20] for start in range(0, len(members), 20))
    return [member for block in blocks for member in chance.sample(block, len(block))]


def reverse(members):
    return members[::-1]


def shuffled(members):
    return random.Random(3).sample(members, len(members))


def cost_of_adding(size, shape, order, *, one_by_one):
    """How many calls one member costs."""
    members = order(shape(size))

    def build():
        made = graph_flow.Flow("g")
        if one_by_one:
            for member in members:
                made.add(member)
        else:
            made.add(*members)
        return list(made), graph_flow.positions(made)

    return calls_of(build) / size


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("order", [list, reverse, inside_out])
@pytest.mark.parametrize("shape", [chain, layers, star])
def test_the_cost_of_a_member_does_not_grow_with_the_flow(shape, order, one_by_one):
    small, large = (cost_of_adding(size, shape, order, one_by_one=one_by_one) for size in (1_000, 8_000))
    assert large <= 1.05 * small


@pytest.mark.parametrize("one_by_one", [True, False])
@pytest.mark.parametrize("order", [shuffled_in_blocks, shuffled])
@pytest.mark.parametrize("shape", [chain, layers, star])
def test_the_cost_of_a_member_hardly_grows_when_they_come_in_disorder(shape, order, one_by_one):
    small, large = (cost_of_adding(size, shape, order, one_by_one=one_by_one) for size in (1_000, 8_000))
    assert large <= 2 * small


@pytest.mark.parametrize("order", [list, reverse])
def test_twenty_thousand_members_are_in_order(order):
    made = graph_flow.Flow("g").add(*order(chain(20_000)))
    assert names(made) == [str(n) for n in range(20_000)]


@pytest.mark.parametrize("members_in", [list, reverse, shuffled])
@pytest.mark.parametrize("links_in", [list, reverse, shuffled])
def test_the_cost_of_a_link_hardly_grows_with_the_flow(members_in, links_in):
    def cost(size):
        members = [work(str(n)) for n in range(size)]
        made = graph_flow.Flow("g").add(*members_in(members))
        pairs = links_in(list(itertools.pairwise(members)))
        calls = calls_of(lambda: [made.link(u, v) for u, v in pairs])
        assert list(made) == members
        return calls / size

    assert cost(8_000) <= 2 * cost(1_000)


@pytest.mark.parametrize("members_in", [list, reverse])
def test_members_put_at_one_place_again_and_again_find_room(members_in):
    """Each next member goes between the first and the one before it, which halves the room between the two."""
    inner = [work(str(n), ("first", f"x{n + 1}"), f"x{n}") for n in range(500)]
    made = graph_flow.Flow("g").add(work("first", provides="first"), work("last", "x0"))
    for member in members_in(inner):
        made.add(member)
    assert names(made) == ["first", *(str(n) for n in reversed(range(500))), "last"]


@pytest.mark.parametrize("look", [False, True])
@pytest.mark.parametrize("size", [53, 70])
def test_members_moved_to_ever_closer_places_find_room(size, look):
    """Each is linked to go between two of a chain whose members went to one place: as many as fit there, and more."""
    ends = [work("a"), work("first", provides="first")]
    inner = [work(str(n), ("first", f"x{n + 1}", f"y{n}"), f"x{n}") for n in range(size)]
    made, model = graph_flow.Flow("g"), Model()
    for member in [*ends, *inner]:
        assert_change(made, model, functools.partial(made.add, member), model.add([member], **RESOLVED), look=False)
    for before, after in zip(inner[1:], inner, strict=False):
        moved = work(f"before {after.name}", "first", f"y{after.name}")
        assert_change(made, model, functools.partial(made.add, moved), model.add([moved], **RESOLVED), look=look)
        assert_change(made, model, functools.partial(made.link, before, moved), model.link(before, moved), look=look)
        assert_change(made, model, functools.partial(made.link, moved, before), model.link(moved, before), look=look)
    assert_same(made, model)


RESOLVED = {"resolve_requires": True, "resolve_existing": True}


@pytest.mark.parametrize("shape", [chain, star])
def test_the_cost_of_a_refusal_does_not_grow_with_the_square_of_what_is_refused(shape):
    def cost(size):
        members = [*shape(size), work("p", "u", "v"), work("q", "v", "u")]
        made = graph_flow.Flow("g")

        def refused():
            with pytest.raises(exceptions.DependencyFailure):
                made.add(*members)

        calls = calls_of(refused)
        assert len(made) == 0
        return calls / size

    assert cost(8_000) <= 1.05 * cost(1_000)


@pytest.mark.parametrize("shape", [chain, star])
def test_the_cost_of_requires_does_not_grow_with_the_flow(shape):
    def cost(size):
        made = graph_flow.Flow("g").add(*shape(size))
        return calls_of(lambda: made.requires) / size

    assert cost(8_000) <= 1.05 * cost(1_000)
