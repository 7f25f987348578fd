"""Trees: nodes that hold items."""

from __future__ import annotations

import copy
import pickle

import pytest

from taskflowx.types import tree
from taskflowx.types.tree import Node


def make():
    root = Node("root", kind="k")
    for name in "abc":
        child = Node(name)
        root.add(child)
        child.add(Node(f"{name}1", leaf=True))
        child.add(Node(f"{name}2"))
    root.find("a1").add(Node("a11"))
    return root


def items(nodes):
    return " ".join(node.item for node in nodes)


def test_a_tree_in_lines():
    assert make().pformat().splitlines() == [
        "root",
        "|__a",
        "|  |__a1",
        "|  |  |__a11",
        "|  |__a2",
        "|__b",
        "|  |__b1",
        "|  |__b2",
        "|__c",
        "   |__c1",
        "   |__c2",
    ]


def test_the_lines_are_drawn_as_the_caller_says():
    root = Node("root")
    root.add(Node("a"))
    root.find("a").add(Node("b"))
    drawn = root.pformat(
        stringify_node=lambda node: f"<{node.item}>",
        linesep="\r\n",
        vertical_conn="!",
        horizontal_conn="--->",
        empty_space=".",
        starting_prefix=">>",
    )
    assert drawn == ">><root>\r\n>>!---><a>\r\n>>.....!---><b>"


def test_depth_first_the_leftmost_comes_first_unless_asked_otherwise():
    root = make()
    assert items(root.dfs_iter()) == "a a1 a11 a2 b b1 b2 c c1 c2"
    assert items(root.dfs_iter(include_self=True, right_to_left=False)) == "root c c2 c1 b b2 b1 a a2 a1 a11"


def test_level_by_level_the_rightmost_comes_first_unless_asked_otherwise():
    root = make()
    assert items(root.bfs_iter()) == "c b a c2 c1 b2 b1 a2 a1 a11"
    assert items(root.bfs_iter(include_self=True, right_to_left=True)) == "root a b c a1 a2 b1 b2 c1 c2 a11"


def test_children_are_iterated_over_in_both_directions():
    root = make()
    assert (items(root), items(root.reverse_iter())) == ("a b c", "c b a")
    assert (root.child_count(), root.child_count(only_direct=False)) == (3, 10)
    assert (root.empty(), Node("x").empty()) == (False, True)
    assert [root.index(name) for name in "abc"] == [0, 1, 2]
    assert [root[place].item for place in (0, 1, 2, -1)] == ["a", "b", "c", "c"]
    with pytest.raises(IndexError):
        root[3]
    with pytest.raises(ValueError, match="a11 is not contained in any child"):
        root.index("a11")


def test_the_path_leads_to_the_root():
    node = make().find("a11")
    assert items(node.path_iter()) == "a11 a1 a root"
    assert items(node.path_iter(include_self=False)) == "a1 a root"


def test_items_are_found_in_the_whole_tree_or_among_the_children():
    root = make()
    assert root.find("a11").item == "a11"
    assert root.find("root") is root
    assert root.find("root", include_self=False) is None
    assert root.find("a11", only_direct=True) is None
    assert "a11" in root
    assert "z" not in root


def test_of_equal_items_the_first_is_found_and_among_children_the_last():
    root = Node("root")
    root.add(Node("a", number=1))
    root.add(Node("a", number=2))
    assert root.find("a").metadata == {"number": 1}
    assert root.find("a", only_direct=True).metadata == {"number": 2}


def test_remove_takes_a_node_with_all_below_it():
    root = make()
    removed = root.remove("a")
    assert (removed.parent, items(root), "a11" in removed, "a11" in root) == (None, "b c", True, False)
    with pytest.raises(ValueError, match="Item 'a' not found to remove"):
        root.remove("a")
    with pytest.raises(ValueError, match="Item 'b1' not found to remove"):
        root.remove("b1", only_direct=True)
    assert root.remove("root") is root


def test_disassociate_tells_how_often_the_node_was_a_child():
    root, child = Node("root"), Node("child")
    root.add(child)
    root.add(child)
    assert (child.disassociate(), child.disassociate(), child.parent, root.empty()) == (2, 0, None, True)


def test_a_frozen_tree_refuses_changes():
    root = make()
    root.freeze()
    assert all(node.frozen for node in root.dfs_iter(include_self=True))
    for change in (
        lambda: root.add(Node("z")),
        lambda: root.find("a11").add(Node("z")),
        lambda: root.remove("a"),
        root.find("a").disassociate,
    ):
        with pytest.raises(tree.FrozenNode, match=r"Frozen node\(s\) can't be modified"):
            change()


def test_what_is_no_node_is_no_child():
    with pytest.raises(TypeError, match="A child must be a Node, not 'x'"):
        Node("root").add("x")


def test_as_a_graph_it_has_an_edge_from_each_item_to_those_below_it():
    graph = make().find("a").to_digraph()
    assert type(graph).__name__ == "OrderedDiGraph"
    assert list(graph.nodes(data=True)) == [("a", {}), ("a1", {"leaf": True}), ("a2", {}), ("a11", {})]
    assert list(graph.edges) == [("a", "a1"), ("a", "a2"), ("a1", "a11")]


@pytest.mark.parametrize("other_of", [copy.deepcopy, lambda root: pickle.loads(pickle.dumps(root))])
def test_copies_and_pickles_are_trees_of_their_own(other_of):
    root = make()
    other = other_of(root)
    assert (other.pformat(), other.metadata) == (root.pformat(), {"kind": "k"})
    other.remove("a")
    assert "a" in root


def test_a_deep_tree_needs_no_deep_stack():
    root = node = Node("0")
    for number in range(5_000):
        child = Node(str(number))
        node.add(child)
        node = child
    root.freeze()
    assert root.child_count(only_direct=False) == 5_000
    assert len(root.pformat().splitlines()) == 5_001
    assert root.find("4999") is node
