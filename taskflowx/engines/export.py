"""A flow as a graph and as a tree, for callers who look at it or analyse it.

Nothing in a run uses them; they are made when somebody asks for them, and networkx is imported then.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from taskflowx import flow
from taskflowx.types import graph as graphs, tree

TASK, RETRY, FLOW, FLOW_END = "task", "retry", "flow", "flow_end"
ATOMS, FLOWS = (TASK, RETRY), (FLOW, FLOW_END)


class FlowEnd:
    """The node at which a flow has run."""

    __slots__ = ("flow",)

    def __init__(self, ended: flow.Flow) -> None:
        self.flow = ended

    @property
    def name(self) -> str:
        """The name of the flow, marked as its end."""
        return f"{self.flow.name}[$]"

    def __str__(self) -> str:
        return str(self.flow)[:-1] + '[$]"'  # within the quotes in which the text of a flow is


def to_digraph(root: Any) -> graphs.DiGraph:
    """Return the execution graph of a flow, or of a single task.

    Atoms are nodes, and each flow is two: itself, and its `FlowEnd`. Nodes have `kind` ('task', 'retry', 'flow',
    'flow_end'), `noop` if they are no atoms, and `retry`, the nearest controller around them; edges have the attributes
    of the links that they come from. Nodes come depth first, the retry and the end of a flow after its members.
    """
    graph = graphs.DiGraph(name=str(getattr(root, "name", root)))
    ends: dict[flow.Flow, FlowEnd] = {}
    pending: list[tuple[Any, str, dict[str, Any]]] = [(root, _kind_of(root), {})]
    while pending:
        item, kind, around = pending.pop()
        if kind in ATOMS:
            graph.add_node(item, kind=kind, **around)
            continue
        graph.add_node(item, kind=kind, noop=True, **around)
        if kind == FLOW:
            ends[item] = FlowEnd(item)
            inside = around if item.retry is None else {"retry": item.retry}
            following = [(member, _kind_of(member), inside) for member in flow.members_of(item)]
            if item.retry is not None:
                following.append((item.retry, RETRY, around))
            pending.append((ends[item], FLOW_END, around))
            pending.extend(reversed(following))
    for nested in ends:
        graph.add_edges_from(_edges(nested, ends))
    return graph.freeze()


def _kind_of(member: Any) -> str:
    return FLOW if isinstance(member, flow.Flow) else TASK


def to_tree(root: Any) -> tree.Node:
    """Return a flow, or a single task, as the tree of what is in it; a retry comes first in its flow.

    The metadata of each node has `kind` ('task', 'retry', 'flow'), and `noop` if it is no atom.
    """
    if not isinstance(root, flow.Flow):
        return tree.Node(root, kind=TASK)
    nodes = {root: tree.Node(root, kind=FLOW, noop=True)}
    for nested in flow.nested_flows(root):
        node = nodes[nested]
        if nested.retry is not None:
            node.add(tree.Node(nested.retry, kind=RETRY))
        for member in flow.members_of(nested):
            if isinstance(member, flow.Flow):
                child = nodes[member] = tree.Node(member, kind=FLOW, noop=True)
            else:
                child = tree.Node(member, kind=TASK)
            node.add(child)
    nodes[root].freeze()
    return nodes[root]


def _edges(nested: flow.Flow, ends: dict[flow.Flow, FlowEnd]) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Iterate over the edges of one flow, from its begin to its end."""
    begin: Any = nested
    if nested.retry is not None:
        yield nested, nested.retry, {flow.LINK_INVARIANT: True}
        begin = nested.retry
    from_begin = {flow.LINK_INVARIANT: True}
    if nested.retry is not None:
        from_begin[flow.LINK_RETRY] = True
    first = dict.fromkeys(flow.members_of(nested))
    last = first.copy()
    empty = not first
    for u, v, attributes in nested.iter_links():
        first.pop(v, None)
        last.pop(u, None)
        yield ends.get(u, u), v, attributes
    for member in first:
        yield begin, member, from_begin
    for member in last:
        yield ends.get(member, member), ends[nested], {flow.LINK_INVARIANT: True}
    if empty:
        yield begin, ends[nested], {flow.LINK_INVARIANT: True}
