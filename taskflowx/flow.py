"""The base of all flows: a named container of atoms and other flows.

A pattern (`taskflowx.patterns`) says in which order its members run. Flows nest to any depth, so whatever
looks into nested flows here walks with a stack of its own and never recurses.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from taskflowx import atom, exceptions

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    Link = tuple[Any, Any, dict[str, Any]]

LINK_INVARIANT = "invariant"
LINK_MANUAL = "manual"
LINK_RETRY = "retry"
LINK_REASONS = "reasons"
LINK_DECIDER = "decider"
LINK_DECIDER_DEPTH = "decider_depth"


class Flow:
    """A container of atoms and flows; patterns subclass it.

    :param name: names need not be unique among flows
    :param retry: the controller that is asked when something in this flow fails
    """

    def __init__(self, name: str, retry: Any = None) -> None:
        self._name = str(name)
        self._retry = retry
        self._members: dict[Any, Any] = {}
        if retry is not None:
            if isinstance(retry, type) or not hasattr(retry, "name") or not hasattr(retry, "provides"):
                msg = f"The retry of flow {self._name!r} must be a taskflowx.retry.Retry, not {retry!r} ({type(retry)})"
                raise TypeError(msg)
            if retry.name is None:
                retry.name = f"{self._name}_retry"

    @property
    def name(self) -> str:
        """The name of this flow."""
        return self._name

    @property
    def retry(self) -> Any:
        """The retry controller of this flow, or None."""
        return self._retry

    def add(self, *items: Any) -> Self:
        """Add atoms and flows; what is in the flow already is left where it is.

        :raises TypeError: when something is neither an atom nor a flow
        """
        self._check_members(items)
        self._members.update(dict.fromkeys(items))
        return self

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._members)

    def iter_nodes(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Iterate over (member, its attributes), in an order in which they can run."""
        return ((member, {}) for member in self)

    def iter_links(self) -> Iterator[Link]:
        """Iterate over (member, member that comes after it, attributes of the link)."""
        raise NotImplementedError(f"{self} is of no pattern, which would say in which order its members run")

    @property
    def provides(self) -> frozenset[str]:
        """All names that something in this flow provides."""
        names: set[str] = set()
        for flow in nested_flows(self):
            if flow.retry is not None:
                names.update(flow.retry.provides)
            for member in flow:
                if not isinstance(member, Flow):
                    names.update(member.provides)
        return frozenset(names)

    @property
    def requires(self) -> frozenset[str]:
        """All names that something in this flow needs and nothing before it in this flow provides."""
        needs: dict[int, frozenset[str]] = {}
        gives: dict[int, frozenset[str]] = {}
        for flow in reversed(list(nested_flows(self))):  # inner ones first
            members = [
                (m, needs[id(m)], gives[id(m)])
                if isinstance(m, Flow)
                else (m, frozenset(m.requires), frozenset(m.provides))
                for m in flow
            ]
            retry = flow.retry
            own = frozenset(retry.provides) if retry is not None else frozenset()
            asked = frozenset(retry.requires) if retry is not None else frozenset()
            needs[id(flow)] = asked | (flow._unmet(members) - own)  # noqa: SLF001 - of the same family
            gives[id(flow)] = own.union(*(given for _, _, given in members))
        return needs[id(self)]

    def _unmet(self, members: list[tuple[Any, frozenset[str], frozenset[str]]]) -> frozenset[str]:
        """Return the names that members need and that no member that runs before them provides.

        :param members: (member, what it needs, what it provides), in iteration order
        """
        raise NotImplementedError

    def _check_members(self, items: Sequence[Any]) -> None:
        for kind in set(map(type, items)):
            if not issubclass(kind, (atom.Atom, Flow)) or (kind is type(self) and self in items):
                for item in items:
                    self._check_member(item)
                return

    def _check_member(self, item: Any) -> None:
        """Refuse what is neither an atom nor a flow, and this flow itself."""
        if item is self:
            msg = f"Flow {self} cannot be added to itself"
            raise ValueError(msg)
        if isinstance(item, (Flow, atom.Atom)):
            return
        if isinstance(item, type) or not (hasattr(item, "requires") and hasattr(item, "provides")):
            msg = f"Only atoms (tasks) and flows can be added to {self}, not {item!r} ({type(item)}); {remedy(item)}"
            raise TypeError(msg)

    def __str__(self) -> str:
        cls = type(self)
        return f'"{cls.__module__.rpartition(".")[2]}.{cls.__qualname__}: {self.name}(len={len(self)})"'


def remedy(item: Any) -> str:
    """Return what can be done about something that is neither a task nor a flow."""
    if isinstance(item, type):
        return "a class has to be called to make one of it"
    if isinstance(item, atom.Atom):
        return "a retry is given to the constructor of its flow"
    if isinstance(item, (list, tuple, set, frozenset)):
        return "tasks in a row are added one by one, as in flow.add(*tasks)"
    return "a plain function becomes a task by taskflowx.task.FunctorTask(function)"


def nested_flows(flow: Flow) -> Iterator[Flow]:
    """Iterate over a flow and all flows in it, each one before those inside of it.

    :raises DependencyFailure: when a flow contains itself
    """
    stack: list[Flow | None] = [flow]
    path: dict[int, Flow] = {}
    while stack:
        current = stack.pop()
        if current is None:
            path.popitem()
            continue
        if id(current) in path:
            names = " -> ".join([*(f.name for f in path.values()), current.name])
            msg = f"Flow {current} contains itself: {names}"
            raise exceptions.DependencyFailure(msg)
        yield current
        path[id(current)] = current
        stack.append(None)
        stack.extend(member for member in current if isinstance(member, Flow))
