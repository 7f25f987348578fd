"""A flow as a graph and as a tree, for callers who look at it or analyse it.

Nothing in a run uses them; they are made when somebody asks for them, and networkx is imported then.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from taskflowx import controls, flow
from taskflowx.patterns import of_task
from taskflowx.types import graph as graphs, tree

if TYPE_CHECKING:
    from taskflowx.engines.plan import Plan

    Parts = frozenset[int]  # the ids of atoms and flows

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


def parts_of(plan: Plan) -> Parts:
    """Return what has been compiled: a flow may have been added to since."""
    return frozenset(map(id, (*plan.atoms, *(span.flow for span in plan.ranges))))


def to_digraph(root: Any, parts: Parts | None = None) -> graphs.DiGraph:
    """Return the execution graph of a flow, or of a single task.

    :param parts: the atoms and flows that are shown; None for all

    Atoms are nodes, and each flow is two: itself, and its `FlowEnd`. Nodes have `kind` ('task', 'retry', 'flow',
    'flow_end'), `noop` if they are no atoms, and `retry`, the nearest controller around them; edges have the attributes
    of the links that they come from. Nodes come depth first, the retry and the end of a flow after its members.
    """
    graph = graphs.DiGraph(name=str(getattr(root, "name", root)))
    ends: dict[Any, FlowEnd] = {}
    known: dict[Any, flow.Flow] = {}
    [root] = _inside([root], known)
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
            following = [(member, _kind_of(member), inside) for member in _members_of(item, known, parts)]
            if item.retry is not None:
                following.append((item.retry, RETRY, around))
            pending.append((ends[item], FLOW_END, around))
            pending.extend(reversed(following))
    for nested in ends:
        graph.add_edges_from(_edges(nested, ends, known, parts))
    return graph.freeze()


def _kind_of(member: Any) -> str:
    return FLOW if isinstance(member, flow.Flow) else TASK


def _inside(members: Iterable[Any], known: dict[Any, flow.Flow]) -> list[Any]:
    """Return members with the flow of each task under a controller of its own in its place.

    :param known: these flows, by their tasks
    """
    found = []
    for member in members:
        if member not in known and controls.retry_of(member) is not None:
            known[member] = of_task.around(member)
        found.append(known.get(member, member))
    return found


def _members_of(nested: flow.Flow, known: dict[Any, flow.Flow], parts: Parts | None) -> list[Any]:
    members = list(flow.members_of(nested))
    if type(nested) is of_task.Flow:
        return members
    return _inside(members if parts is None else [member for member in members if id(member) in parts], known)


def to_tree(root: Any, parts: Parts | None = None) -> tree.Node:
    """Return a flow, or a single task, as the tree of what is in it; a retry comes first in its flow.

    :param parts: the atoms and flows that are shown; None for all

    The metadata of each node has `kind` ('task', 'retry', 'flow'), and `noop` if it is no atom.
    """
    known: dict[Any, flow.Flow] = {}
    [root] = _inside([root], known)
    if not isinstance(root, flow.Flow):
        return tree.Node(root, kind=TASK)
    nodes = {root: tree.Node(root, kind=FLOW, noop=True)}
    for nested in [root] if type(root) is of_task.Flow else flow.nested_flows(root):
        if nested in nodes:
            _grow(nodes[nested], nested, nodes, known, parts)
    nodes[root].freeze()
    return nodes[root]


def _grow(
    node: tree.Node,
    nested: flow.Flow,
    nodes: dict[flow.Flow, tree.Node],
    known: dict[Any, flow.Flow],
    parts: Parts | None,
) -> None:
    """Add what is in a flow to its node."""
    if nested.retry is not None:
        node.add(tree.Node(nested.retry, kind=RETRY))
    for member in _members_of(nested, known, parts):
        if not isinstance(member, flow.Flow):
            node.add(tree.Node(member, kind=TASK))
            continue
        child = nodes[member] = tree.Node(member, kind=FLOW, noop=True)
        node.add(child)
        if type(member) is of_task.Flow:
            _grow(child, member, nodes, known, parts)


def _edges(
    nested: flow.Flow, ends: dict[Any, FlowEnd], known: dict[Any, flow.Flow], parts: Parts | None
) -> Iterator[tuple[Any, Any, dict[str, Any]]]:
    """Iterate over the edges of one flow, from its begin to its end."""
    begin: Any = nested
    from_begin = {flow.LINK_INVARIANT: True}
    if nested.retry is not None:
        yield nested, nested.retry, {flow.LINK_INVARIANT: True}
        begin, from_begin[flow.LINK_RETRY] = nested.retry, True
    members = dict.fromkeys(_members_of(nested, known, parts))
    first, last = members.copy(), members.copy()
    for source, target, attributes in nested.iter_links():
        u, v = known.get(source, source), known.get(target, target)
        if u not in members or v not in members:
            continue
        first.pop(v, None)
        last.pop(u, None)
        yield ends.get(u, u), v, attributes
    for member in first:
        yield begin, member, from_begin
    for member in last:
        yield ends.get(member, member), ends[nested], {flow.LINK_INVARIANT: True}
    if not members:
        yield begin, ends[nested], {flow.LINK_INVARIANT: True}
