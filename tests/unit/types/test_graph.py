"""Graphs: those of networkx, with a text form, a dot form and merging."""

from __future__ import annotations

import copy
import itertools
import pickle

import networkx as nx
import pytest

from taskflowx.types import graph as graphs

CLASSES = [graphs.DiGraph, graphs.Graph, graphs.OrderedDiGraph, graphs.OrderedGraph]
DIRECTED = [graphs.DiGraph, graphs.OrderedDiGraph]


def make(kind, name="g"):
    made = kind(name=name)
    made.add_node("a", {"x": 1})
    made.add_node("b", y=2)
    made.add_edge("a", "b")
    made.add_edge("b", "c", {"w": 3})
    return made


def chain(kind, *nodes, name=""):
    made = kind(name=name)
    for u, v in itertools.pairwise(nodes):
        made.add_edge(u, v)
    return made


@pytest.mark.parametrize("kind", CLASSES)
def test_they_are_graphs_of_networkx(kind):
    assert issubclass(kind, nx.DiGraph if kind in DIRECTED else nx.Graph)
    assert kind().name == ""
    assert list(kind([(1, 2)], "named").edges) == [(1, 2)]
    assert kind([(1, 2)], "named").name == "named"


@pytest.mark.parametrize("kind", CLASSES)
def test_facts_come_as_a_mapping_and_as_keywords(kind):
    made = kind()
    made.add_node(1, {"x": 1, "y": 1}, y=2)
    made.add_edge(1, 2, attr_dict={"x": 1}, y=2)
    assert dict(made.nodes(data=True)) == {1: {"x": 1, "y": 2}, 2: {}}
    assert list(made.edges(data=True)) == [(1, 2, {"x": 1, "y": 2})]


def test_a_directed_graph_in_lines():
    assert make(graphs.DiGraph).pformat().splitlines() == [
        "Name: g",
        "Type: DiGraph",
        "Frozen: False",
        "Density: 0.333",
        "Nodes: 3",
        "  - a ({'x': 1})",
        "  - b ({'y': 2})",
        "  - c",
        "Edges: 2",
        "  a -> b",
        "  b -> c ({'w': 3})",
        "Cycles: 0",
    ]


def test_an_undirected_graph_in_lines_tells_of_no_cycles():
    lines = make(graphs.OrderedGraph).pformat().splitlines()
    assert lines[1] == "Type: OrderedGraph"
    assert lines[-2:] == ["  a <-> b", "  b <-> c ({'w': 3})"]


def test_cycles_are_shown():
    lines = chain(graphs.DiGraph, 1, 2, 1).pformat().splitlines()
    assert lines[-2] == "Cycles: 1"
    assert lines[-1] in ("  1 --> 2 --> 1", "  2 --> 1 --> 2")


@pytest.mark.parametrize("kind", CLASSES)
def test_a_frozen_graph_refuses_changes_and_is_copied_unfrozen(kind):
    made = make(kind)
    assert made.freeze() is made.freeze() is made
    assert made.frozen
    assert "Frozen: True" in made.pformat()
    for change in (lambda: made.add_node("z"), lambda: made.add_edge("a", "z"), made.clear):
        with pytest.raises(nx.NetworkXError, match="Frozen graph can't be modified"):
            change()
    other = made.copy()
    other.add_node("z")
    assert (type(other), other.name, other.frozen) == (kind, "g", False)
    assert "z" not in made


@pytest.mark.parametrize("kind", CLASSES)
def test_a_fresh_copy_is_empty_and_of_the_same_class(kind):
    fresh = make(kind).fresh_copy()
    assert (type(fresh), fresh.name, list(fresh.nodes)) == (kind, "", [])


@pytest.mark.parametrize("kind", CLASSES)
@pytest.mark.parametrize("frozen", [False, True])
def test_pickles_and_deep_copies_are_as_the_graph(kind, frozen):
    made = make(kind)
    if frozen:
        made.freeze()
    for other in (pickle.loads(pickle.dumps(made)), copy.deepcopy(made)):
        assert (type(other), other.name, other.frozen, nx.is_frozen(other)) == (kind, "g", frozen, frozen)
        assert list(other.edges(data=True)) == list(made.edges(data=True))


@pytest.mark.parametrize("kind", DIRECTED)
def test_the_facts_of_an_edge_are_a_copy(kind):
    made = make(kind)
    facts = made.get_edge_data("b", "c")
    facts["w"] = 4
    assert made.get_edge_data("b", "c") == {"w": 3}
    assert made.get_edge_data("a", "c") is None
    assert made.get_edge_data("nobody", "c", default=7) == 7


@pytest.mark.parametrize("kind", DIRECTED)
def test_ends_order_and_predecessors(kind):
    made = kind([("a", "e"), ("b", "e"), ("c", "a"), ("d", "b"), ("x", "c"), ("c", "b"), ("x", "e")])
    assert list(made.no_predecessors_iter()) == ["d", "x"]
    assert list(made.no_successors_iter()) == ["e"]
    assert list(made.bfs_predecessors_iter("e")) == ["a", "b", "x", "c", "d"]
    order = list(made.topological_sort())
    assert all(order.index(u) < order.index(v) for u, v in made.edges)
    assert made.is_directed_acyclic()
    made.add_edge("e", "x")
    assert not made.is_directed_acyclic()
    assert "e" not in made.bfs_predecessors_iter("e")


def test_dot_of_a_directed_graph():
    assert make(graphs.DiGraph).export_to_dot() == (
        'strict digraph "g" {\na [x=1];\nb [y=2];\nc;\na -> b;\nb -> c [w=3];\n}\n'
    )


def test_dot_of_an_undirected_graph_without_a_name():
    assert chain(graphs.Graph, 1, 2).export_to_dot() == "strict graph {\n1;\n2;\n1 -- 2;\n}\n"


@pytest.mark.parametrize(
    ("node", "text"),
    [
        ("plain_1", "plain_1"),
        (2.5, "2.5"),
        ("a b", '"a b"'),
        ("x:y", '"x:y"'),
        ("1a", '"1a"'),
        ("", '""'),
        ('say "no"', r'"say \"no\""'),
        ('"in quotes already"', '"in quotes already"'),
        ('"two" "pieces"', r'"\"two\" \"pieces\""'),
        ("back\\slash", r'"back\\slash"'),
        ("Node", '"Node"'),
        ("subgraph", '"subgraph"'),
    ],
)
def test_what_dot_would_take_for_something_else_is_in_quotes(node, text):
    made = graphs.DiGraph()
    made.add_node(node, fact=node)
    assert made.export_to_dot() == f"strict digraph {{\n{text} [fact={text}];\n}}\n"


@pytest.mark.parametrize("kind", CLASSES)
def test_merging_makes_a_new_graph_with_everything(kind):
    first, second = make(kind, "first"), chain(kind, 1, 2, name="second")
    merged = graphs.merge_graphs(first.freeze(), second)
    assert (type(merged), merged.name, merged.frozen) == (kind, "first", False)
    assert list(merged.nodes) == ["a", "b", "c", 1, 2]
    assert list(merged.edges(data=True)) == [*first.edges(data=True), (1, 2, {})]
    assert graphs.merge_graphs(first) is first


def test_overlaps_are_refused_unless_they_are_allowed():
    first, second = chain(graphs.DiGraph, 1, 2, name="A"), chain(graphs.DiGraph, 2, 3, name="B")
    with pytest.raises(
        ValueError,
        match=r"Can not merge graph DiGraph named 'B' with 2 nodes and 1 edges into DiGraph named 'A' with 2 nodes and "
        r"1 edges since there are 1 overlapping nodes \(and we do not support merging nodes\)",
    ):
        graphs.merge_graphs(first, second)
    assert list(graphs.merge_graphs(first, second, allow_overlaps=True).edges) == [(1, 2), (2, 3)]


def test_the_callers_detector_decides_what_overlaps():
    first, second = chain(graphs.DiGraph, 1, 2), chain(graphs.DiGraph, 2, 3)
    assert 3 in graphs.merge_graphs(first, second, overlap_detector=lambda _merged, _other: 0)
    with pytest.raises(ValueError, match="there are 5 overlapping"):
        graphs.merge_graphs(first, second, overlap_detector=lambda _merged, _other: 5)
    with pytest.raises(ValueError, match="Overlap detection callback expected to be callable"):
        graphs.merge_graphs(first, second, overlap_detector=7)


def test_directed_and_undirected_graphs_do_not_mix():
    with pytest.raises(nx.NetworkXError, match="All graphs must be directed or undirected"):
        graphs.merge_graphs(graphs.Graph(), graphs.DiGraph())
