"""Graphs of networkx with a text form, a dot form, and iterators over their ends.

A run does not use them: `engine.compilation` shows them, and callers compute with them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, Self, TypeVar

import networkx as nx

if TYPE_CHECKING:
    _Graph = nx.Graph[Any]
    _DiGraph = nx.DiGraph[Any]
else:
    _Graph, _DiGraph = nx.Graph, nx.DiGraph


class _Described(_Graph):
    """Common methods of all graphs here, beside those of networkx."""

    _CONNECTION = "<->"

    def __init__(self, incoming_graph_data: Any = None, name: str = "") -> None:
        super().__init__(incoming_graph_data)
        self.name = name
        self.frozen = False

    def freeze(self) -> Self:
        """Forbid further changes; returns this graph."""
        if not self.frozen:
            nx.freeze(self)
        return self

    def fresh_copy(self) -> Self:
        """Return an empty graph of the same class."""
        return type(self)()

    def add_node(  # type: ignore[override]
        self, n: Any, attr_dict: Mapping[str, Any] | None = None, **attr: Any
    ) -> None:
        """Add a node, or attributes to it.

        :param attr_dict: attributes, as a mapping; keywords take precedence
        """
        super().add_node(n, **{**(attr_dict or {}), **attr})

    def add_edge(  # type: ignore[override]
        self, u: Any, v: Any, attr_dict: Mapping[str, Any] | None = None, **attr: Any
    ) -> None:
        """Add an edge, or attributes to it.

        :param attr_dict: attributes, as a mapping; keywords take precedence
        """
        super().add_edge(u, v, **{**(attr_dict or {}), **attr})

    def _lines(self) -> Iterator[str]:
        yield f"Name: {self.name}"
        yield f"Type: {type(self).__name__}"
        yield f"Frozen: {nx.is_frozen(self)}"
        yield f"Density: {nx.density(self):0.3f}"
        yield f"Nodes: {self.number_of_nodes()}"
        for node, facts in self.nodes(data=True):
            yield f"  - {node}" + (f" ({facts})" if facts else "")
        yield f"Edges: {self.number_of_edges()}"
        for u, v, facts in self.edges(data=True):
            yield f"  {u} {self._CONNECTION} {v}" + (f" ({facts})" if facts else "")

    def pformat(self) -> str:
        """Describe the graph in human-readable lines."""
        return "\n".join(self._lines())

    def export_to_dot(self) -> str:
        """Return the graph in the language of Graphviz."""
        kind, connection = ("digraph", "->") if self.is_directed() else ("graph", "--")
        lines = [f"strict {kind} {_quoted(self.name)} {{" if self.name else f"strict {kind} {{"]
        lines += [f"{_dot(node)}{_facts(facts)};" for node, facts in self.nodes(data=True)]
        lines += [f"{_dot(u)} {connection} {_dot(v)}{_facts(facts)};" for u, v, facts in self.edges(data=True)]
        return "\n".join([*lines, "}", ""])


class Graph(_Described):
    """An undirected graph."""


class DiGraph(_Described, _DiGraph):
    """A directed graph."""

    _CONNECTION = "->"

    def get_edge_data(self, u: Any, v: Any, default: Any = None) -> Any:
        """Return a copy of the attributes of an edge, or the default when there is no such edge."""
        return dict(self.adj[u][v]) if self.has_edge(u, v) else default

    def topological_sort(self) -> Iterator[Any]:
        """Iterate over the nodes in topological order."""
        return nx.topological_sort(self)

    def is_directed_acyclic(self) -> bool:
        """Tell whether there is no cycle."""
        return nx.is_directed_acyclic_graph(self)

    def no_successors_iter(self) -> Iterator[Any]:
        """Iterate over the nodes without successors."""
        return (node for node in self.nodes if not self.out_degree(node))

    def no_predecessors_iter(self) -> Iterator[Any]:
        """Iterate over the nodes without predecessors."""
        return (node for node in self.nodes if not self.in_degree(node))

    def bfs_predecessors_iter(self, n: Any) -> Iterator[Any]:
        """Iterate over all predecessors of a node, the nearest first."""
        return (before for _, before in nx.bfs_edges(self, n, reverse=True))

    def _lines(self) -> Iterator[str]:
        yield from super()._lines()
        cycles = list(nx.simple_cycles(self))
        yield f"Cycles: {len(cycles)}"
        for cycle in cycles:
            yield "  " + " --> ".join(map(str, [*cycle, cycle[0]]))


class OrderedGraph(Graph):
    """An undirected graph that keeps the insertion order of nodes and edges, as all graphs here do."""


class OrderedDiGraph(DiGraph):
    """A directed graph that keeps the insertion order of nodes and edges, as all graphs here do."""


_G = TypeVar("_G", bound=_Described)


def merge_graphs(graph: _G, *graphs: _G, **kwargs: Any) -> _G:
    """Return a graph with the nodes and edges of several; a single graph is returned itself.

    :param allow_overlaps: whether a node may be in several of them
    :param overlap_detector: called with the merged graph and the next one, returns the number of common nodes
    :raises ValueError: when a node is in several and must not be, or the detector cannot be called
    :raises networkx.NetworkXError: when some are directed and some are not
    """
    detect = kwargs.get("overlap_detector") or (lambda one, other: sum(node in one for node in other.nodes))
    if not callable(detect):
        raise ValueError("Overlap detection callback expected to be callable")  # noqa: TRY004 - as TaskFlow does
    if not graphs:
        return graph
    merged = graph.copy()
    for other in graphs:
        if other.is_directed() != graph.is_directed():
            raise nx.NetworkXError("All graphs must be directed or undirected.")
        overlaps = 0 if kwargs.get("allow_overlaps") else detect(merged, other)
        if overlaps:
            raise ValueError(
                f"Can not merge graph {other} into {graph} since there are {overlaps} overlapping nodes "
                "(and we do not support merging nodes)"
            )
        merged.update(other)
    merged.name = graph.name
    return merged


_KEYWORDS = frozenset(("digraph", "edge", "graph", "node", "strict", "subgraph"))


def _quoted(value: Any) -> str:
    """Return a value in quotes, unless it is quoted already, as the texts of atoms and flows are."""
    text = str(value)
    if re.fullmatch(r'"(?:[^"\\]|\\.)*"', text, re.DOTALL):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


def _dot(value: Any) -> str:
    """Return a value as an identifier of dot, in quotes if it needs them."""
    text = str(value)
    is_plain = re.fullmatch(r"[A-Za-z_]\w*|-?\d+(\.\d+)?", text, re.ASCII) and text.lower() not in _KEYWORDS
    return text if is_plain else _quoted(text)


def _facts(facts: Mapping[str, Any]) -> str:
    return f" [{', '.join(f'{_dot(key)}={_dot(value)}' for key, value in facts.items())}]" if facts else ""
