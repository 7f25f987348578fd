"""The graph of networkx that a flow is exported to."""

from __future__ import annotations

import networkx as nx
import pytest

from taskflowx import engines, retry
from taskflowx.engines import export
from taskflowx.engines.action_engine import compiler
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from tests.support.flows import Open as Work


def work(*names):
    return [Work(name) for name in names]


def edges(graph):
    return {(u.name, v.name) for u, v in graph.edges()}


def kinds(graph):
    return {node.name: data["kind"] for node, data in graph.nodes(data=True)}


def test_nodes_have_their_kinds():
    flow = linear_flow.Flow("f", retry.Times(1, "r")).add(*work("a"), unordered_flow.Flow("u").add(*work("b")))
    graph = export.to_digraph(flow)
    assert kinds(graph) == {
        "f": "flow",
        "f[$]": "flow_end",
        "r": "retry",
        "a": "task",
        "u": "flow",
        "u[$]": "flow_end",
        "b": "task",
    }
    assert export.ATOMS == ("task", "retry")


def test_the_atoms_and_flows_themselves_are_the_nodes():
    a = Work("a")
    flow = linear_flow.Flow("f").add(a)
    graph = export.to_digraph(flow)
    assert a in graph
    assert flow in graph
    assert graph.nodes[a]["kind"] == "task"
    assert graph.name == "f"


def test_a_linear_flow_is_a_chain_from_its_begin_to_its_end():
    graph = export.to_digraph(linear_flow.Flow("f").add(*work("a", "b")))
    assert edges(graph) == {("f", "a"), ("a", "b"), ("b", "f[$]")}


def test_an_unordered_flow_fans_out_after_its_retry_and_in_at_its_end():
    graph = export.to_digraph(unordered_flow.Flow("u", retry.Times(1, "r")).add(*work("a", "b")))
    assert edges(graph) == {("u", "r"), ("r", "a"), ("r", "b"), ("a", "u[$]"), ("b", "u[$]")}
    facts = {(u.name, v.name): data for u, v, data in graph.edges(data=True)}
    assert facts["u", "r"] == facts["a", "u[$]"] == {"invariant": True}
    assert facts["r", "a"] == {"invariant": True, "retry": True}


def test_nodes_know_the_nearest_retry_around_them():
    inner = unordered_flow.Flow("u", retry.Times(1, "near")).add(*work("b"))
    graph = export.to_digraph(linear_flow.Flow("f", retry.Times(1, "far")).add(*work("a"), inner))
    around = {node.name: data["retry"].name for node, data in graph.nodes(data=True) if "retry" in data}
    assert around == {"a": "far", "u": "far", "u[$]": "far", "near": "far", "b": "near"}


def test_the_hierarchy_is_the_tree_of_what_is_in_the_flow():
    inner = graph_flow.Flow("g", retry.Times(1, "r")).add(*work("b"), unordered_flow.Flow("empty"))
    engine = engines.load(linear_flow.Flow("f").add(*work("a"), inner, *work("c")))
    engine.compile()
    hierarchy = engine.compilation.hierarchy
    lines = hierarchy.pformat(lambda node: f"{node.item.name} {node.metadata['kind']}").splitlines()
    assert lines == [
        "f flow",
        "|__a task",
        "|__g flow",
        "|  |__r retry",
        "|  |__b task",
        "|  |__empty flow",
        "|__c task",
    ]
    assert hierarchy.frozen
    assert hierarchy is engine.compilation.hierarchy


def test_the_hierarchy_of_a_task_is_the_task():
    node = export.to_tree(Work("a"))
    assert (node.item.name, node.metadata, node.empty()) == ("a", {"kind": "task"}, True)


def test_what_follows_a_flow_follows_its_end():
    inner = unordered_flow.Flow("u").add(*work("b", "c"))
    graph = export.to_digraph(linear_flow.Flow("f").add(*work("a"), inner, *work("d")))
    assert {("a", "u"), ("u", "b"), ("c", "u[$]"), ("u[$]", "d"), ("d", "f[$]")} <= edges(graph)


def test_links_keep_their_attributes():
    def decider(history):
        return True

    a, b = work("a", "b")
    c = Work("c", provides="x")
    d = Work("d", requires=["x"])
    flow = graph_flow.Flow("g").add(a, b, c, d)
    flow.link(a, b, decider=decider, decider_depth="flow")
    graph = export.to_digraph(flow)
    assert graph.edges[a, b]["decider"] is decider
    assert graph.edges[a, b]["decider_depth"] == "FLOW"
    assert graph.edges[a, b]["manual"] is True
    assert graph.edges[c, d]["reasons"] == {"x"}


@pytest.mark.parametrize("pattern", [linear_flow, unordered_flow, graph_flow])
def test_an_empty_flow_is_its_begin_and_its_end(pattern):
    graph = export.to_digraph(pattern.Flow("e"))
    assert edges(graph) == {("e", "e[$]")}
    graph = export.to_digraph(pattern.Flow("e", retry.Times(1, "r")))
    assert edges(graph) == {("e", "r"), ("r", "e[$]")}
    assert all(data == {"invariant": True} for _, _, data in graph.edges(data=True))


def test_a_single_task_is_one_node():
    a = Work("a")
    graph = export.to_digraph(a)
    assert list(graph.nodes(data=True)) == [(a, {"kind": "task"})]


def test_the_end_of_a_flow_knows_its_flow_and_says_so():
    flow = linear_flow.Flow("f")
    end = export.FlowEnd(flow)
    assert (end.flow, end.name, str(end)) == (flow, "f[$]", '"linear_flow.Flow: f(len=0)[$]"')


def test_it_is_a_directed_graph_without_cycles_in_the_order_of_the_plan():
    wide = [unordered_flow.Flow(f"u{k}").add(*work(f"{k}a", f"{k}b")) for k in range(2)]
    engine = engines.load(linear_flow.Flow("f", retry.Times(1, "r")).add(*wide, *work("last")))
    engine.compile()
    graph = engine.compilation.execution_graph
    assert isinstance(graph, nx.DiGraph)
    assert nx.is_directed_acyclic_graph(graph)
    index = engine.compilation.plan.names
    atoms = [node for node, data in graph.nodes(data=True) if data["kind"] in export.ATOMS]
    assert {atom.name for atom in atoms} == set(index)
    for atom in atoms:
        later = {node.name for node in nx.descendants(graph, atom)} & index.keys()
        assert all(index[atom.name] < index[name] for name in later)


def test_the_graph_is_made_once_and_not_before_it_is_asked_for():
    engine = engines.load(linear_flow.Flow("f").add(*work("a")))
    assert engine.compilation is None
    engine.compile()
    assert "execution_graph" not in vars(engine.compilation)
    assert engine.compilation.execution_graph is engine.compilation.execution_graph


def test_flows_of_one_name_are_nodes_of_their_own():
    inner = [linear_flow.Flow("same").add(*work(name)) for name in ("a", "b")]
    graph = export.to_digraph(linear_flow.Flow("same").add(*inner))
    assert sum(data["kind"] == "flow" for _, data in graph.nodes(data=True)) == 3


def test_nodes_come_depth_first_and_the_retry_and_the_end_of_a_flow_after_its_members():
    inner = unordered_flow.Flow("u", retry.Times(1, "r2")).add(*work("b", "c"), linear_flow.Flow("e"))
    flow = linear_flow.Flow("f", retry.Times(1, "r")).add(*work("a"), inner, *work("d"))
    assert " ".join(node.name for node in export.to_digraph(flow)) == "f a u b c e e[$] r2 u[$] d r f[$]"


def test_callers_find_the_kinds_of_nodes_where_they_know_them():
    graph = export.to_digraph(linear_flow.Flow("f", retry.Times(1, "r")).add(*work("a")))
    assert {node.name for node, data in graph.nodes(data=True) if data["kind"] in compiler.ATOMS} == {"a", "r"}
    assert {node.name for node, data in graph.nodes(data=True) if data["kind"] in compiler.FLOWS} == {"f", "f[$]"}
    assert sum(isinstance(node, compiler.Terminator) for node in graph) == 1


@pytest.mark.parametrize("pattern", [linear_flow.Flow, unordered_flow.Flow, graph_flow.Flow])
def test_what_is_added_after_a_flow_was_compiled_is_not_shown(pattern):
    inner = pattern("inner", retry.Times(2, "r")).add(*work("b"))
    flow = pattern("f").add(Work("a", provides="x"), inner, linear_flow.Flow("empty"))
    engine, before = engines.load(flow), engines.load(flow)
    for each in (engine, before):
        each.compile()
    shown = nx.to_dict_of_dicts(before.compilation.execution_graph), before.compilation.hierarchy.pformat()
    inner.add(*work("c"))
    flow.add(Work("d", requires=["x"]), linear_flow.Flow("late", retry.Times(1, "of late")).add(*work("e")))
    graph = engine.compilation.execution_graph
    assert {node.name for node in graph} == {"f", "a", "inner", "r", "b", "inner[$]", "empty", "empty[$]", "f[$]"}
    assert edges(graph) == {(u.name, v.name) for u, beyond in shown[0].items() for v in beyond}
    assert engine.compilation.hierarchy.pformat() == shown[1].replace("(len=1)", "(len=2)").replace(
        "(len=3)", "(len=5)"
    )
    engine.run()
    assert set(engine.storage.get_atoms_states(kinds(graph).keys() & {"a", "b", "r"})) == {"a", "b", "r"}
