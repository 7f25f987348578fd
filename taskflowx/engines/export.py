"""A flow as a graph of networkx, for those who want to look at it or analyse it.

Nothing in a run uses it; it is made when somebody asks for it, and networkx is imported then.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import networkx as nx

from taskflowx import flow

if TYPE_CHECKING:
    from collections.abc import Iterator

    ExecutionGraph = nx.DiGraph[Any]

TASK, RETRY, FLOW, FLOW_END = "task", "retry", "flow", "flow_end"
ATOMS = (TASK, RETRY)


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
        return f'"{self.name}"'


def to_digraph(root: Any) -> ExecutionGraph:
    """Return the execution graph of a flow, or of a single task.

    Atoms are nodes, and each flow is two: itself, and its `FlowEnd`. Nodes have `kind` ('task', 'retry', 'flow',
    'flow_end'), edges the attributes of the links that they come from.
    """
    graph: ExecutionGraph = nx.DiGraph(name=str(getattr(root, "name", root)))
    if not isinstance(root, flow.Flow):
        graph.add_node(root, kind=TASK)
        return graph
    ends: dict[flow.Flow, FlowEnd] = {}
    for nested in flow.nested_flows(root):
        ends[nested] = FlowEnd(nested)
        graph.add_node(nested, kind=FLOW)
        graph.add_nodes_from((member for member in nested if not isinstance(member, flow.Flow)), kind=TASK)
        if nested.retry is not None:
            graph.add_node(nested.retry, kind=RETRY)
        graph.add_node(ends[nested], kind=FLOW_END, noop=True)
    for nested in ends:
        graph.add_edges_from(_edges(nested, ends))
    return graph


def _edges(nested: flow.Flow, ends: dict[flow.Flow, FlowEnd]) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Iterate over the edges of one flow, from its begin to its end."""
    begin: Any = nested
    if nested.retry is not None:
        yield nested, nested.retry, {flow.LINK_INVARIANT: True, flow.LINK_RETRY: True}
        begin = nested.retry
    first, last = dict.fromkeys(nested), dict.fromkeys(nested)
    for u, v, attributes in nested.iter_links():
        first.pop(v, None)
        last.pop(u, None)
        yield ends.get(u, u), v, attributes
    for member in first:
        yield begin, member, {flow.LINK_INVARIANT: True}
    for member in last:
        yield ends.get(member, member), ends[nested], {flow.LINK_INVARIANT: True}
    if not len(nested):
        yield begin, ends[nested], {flow.LINK_INVARIANT: True}
