"""A tree of nodes that each hold an item: TaskFlow's type of `compilation.hierarchy`; the memory store is one, too."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from taskflowx.types.graph import OrderedDiGraph


class FrozenNode(Exception):
    """A frozen tree was to be changed."""

    def __init__(self) -> None:
        super().__init__("Frozen node(s) can't be modified")


class Node:
    """A node, and with it the tree below it.

    Depth does not matter: nothing here recurses.

    :param item: the item of the node
    :param kwargs: the `metadata` of the node
    """

    STARTING_PREFIX = ""
    EMPTY_SPACE_SEP = " "
    HORIZONTAL_CONN = "__"
    VERTICAL_CONN = "|"
    LINE_SEP = "\n"

    def __init__(self, item: Any, **kwargs: Any) -> None:
        self.item = item
        self.parent: Node | None = None
        self.metadata = dict(kwargs)
        self.frozen = False
        self._children: list[Node] = []

    def freeze(self) -> None:
        """Forbid further changes of this tree."""
        for node in self.dfs_iter(include_self=True):
            node.frozen = True

    def _check_not_frozen(self) -> None:
        if self.frozen:
            raise FrozenNode

    def add(self, child: Any) -> None:
        """Add a child after the others.

        :raises FrozenNode: when the tree is frozen
        :raises TypeError: when it is no node
        """
        self._check_not_frozen()
        if not isinstance(child, Node):
            raise TypeError(f"A child must be a Node, not {child!r} ({type(child)})")
        child.parent = self
        self._children.append(child)

    def empty(self) -> bool:
        """Tell whether this node has no children."""
        return not self._children

    def path_iter(self, include_self: bool = True) -> Iterator[Node]:
        """Iterate over the nodes from here to the root."""
        node = self if include_self else self.parent
        while node is not None:
            yield node
            node = node.parent

    def find_first_match(
        self, matcher: Callable[[Node], Any], only_direct: bool = False, include_self: bool = True
    ) -> Node | None:
        """Return the first node, depth first, for which a function is true, or None.

        :param only_direct: whether to search only the children, the last one first
        :param include_self: whether to include this node
        """
        if include_self and matcher(self):
            return self
        return next((node for node in (self.reverse_iter() if only_direct else self.dfs_iter()) if matcher(node)), None)

    def find(self, item: Any, only_direct: bool = False, include_self: bool = True) -> Node | None:
        """Return the first node, depth first, that holds an item, or None.

        :param only_direct: whether to search only the children, the last one first
        :param include_self: whether to include this node
        """
        return self.find_first_match(lambda node: bool(node.item == item), only_direct, include_self)

    def disassociate(self) -> int:
        """Remove this node from its parent; returns how often it was a child of it.

        :raises FrozenNode: when the tree is frozen
        """
        self._check_not_frozen()
        parent, self.parent = self.parent, None
        if parent is None:
            return 0
        before = len(parent._children)
        parent._children = [child for child in parent._children if child is not self]
        return before - len(parent._children)

    def remove(self, item: Any, only_direct: bool = False, include_self: bool = True) -> Node:
        """Remove the first node that holds an item from the tree; returns it.

        :raises FrozenNode: when the tree is frozen
        :raises ValueError: when no node holds the item
        """
        self._check_not_frozen()
        node = self.find(item, only_direct, include_self)
        if node is None:
            raise ValueError(f"Item '{item}' not found to remove")
        node.disassociate()
        return node

    def __contains__(self, item: Any) -> bool:
        return self.find(item) is not None

    def __getitem__(self, index: int) -> Node:
        return self._children[index]

    def pformat(
        self,
        stringify_node: Callable[[Node], str] | None = None,
        linesep: str = LINE_SEP,
        vertical_conn: str = VERTICAL_CONN,
        horizontal_conn: str = HORIZONTAL_CONN,
        empty_space: str = EMPTY_SPACE_SEP,
        starting_prefix: str = STARTING_PREFIX,
    ) -> str:
        """Draw the tree in lines.

        :param stringify_node: returns the text of a node; that of its item by default
        """
        text = stringify_node or (lambda node: str(node.item))
        blank = empty_space * len(horizontal_conn)
        lines = []
        # each: a node, the prefix of its own line, and that of the lines of its children
        pending = [(self, starting_prefix, starting_prefix)]
        while pending:
            node, before, below = pending.pop()
            lines.append(before + text(node))
            last = True
            for child in node.reverse_iter():
                beside = empty_space * len(vertical_conn) if last else vertical_conn
                pending.append((child, f"{below}{vertical_conn}{horizontal_conn}", f"{below}{beside}{blank}"))
                last = False
        return linesep.join(lines)

    def child_count(self, only_direct: bool = True) -> int:
        """Return the number of children, or of all nodes below this one."""
        return len(self._children) if only_direct else sum(1 for _ in self.dfs_iter())

    def __iter__(self) -> Iterator[Node]:
        return iter(self._children)

    def reverse_iter(self) -> Iterator[Node]:
        """Iterate over the children, the last one first."""
        return reversed(self._children)

    def index(self, item: Any) -> int:
        """Return the index of the child that holds an item.

        :raises ValueError: when no child does
        """
        for place, child in enumerate(self._children):
            if child.item == item:
                return place
        raise ValueError(f"{item} is not contained in any child")

    def dfs_iter(self, include_self: bool = False, right_to_left: bool = True) -> Iterator[Node]:
        """Iterate over the tree, depth first.

        :param right_to_left: whether children are pushed from the right, so that the leftmost comes first
        """
        return self._walk(deque.pop, include_self, right_to_left)

    def bfs_iter(self, include_self: bool = False, right_to_left: bool = False) -> Iterator[Node]:
        """Iterate over the tree, level by level.

        :param right_to_left: as for `dfs_iter`: whether the leftmost comes first
        """
        return self._walk(deque.popleft, include_self, not right_to_left)

    def _walk(self, take: Callable[[deque[Node]], Node], include_self: bool, reverse: bool) -> Iterator[Node]:
        pending: deque[Node] = deque([self] if include_self else self._pushed(reverse))
        while pending:
            node = take(pending)
            yield node
            pending.extend(node._pushed(reverse))

    def _pushed(self, reverse: bool) -> Iterator[Node]:
        return reversed(self._children) if reverse else iter(self._children)

    def to_digraph(self) -> OrderedDiGraph:
        """Return a graph of the items, with an edge from each to those of its children."""
        from taskflowx.types import graph

        made = graph.OrderedDiGraph()
        for node in self.bfs_iter(include_self=True, right_to_left=True):
            made.add_node(node.item, **node.metadata)
            if node.parent is not None and node is not self:
                made.add_edge(node.parent.item, node.item)
        return made
