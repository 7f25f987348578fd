"""The base of all flows: a named container of atoms and other flows.

A pattern (`taskflowx.patterns`) defines the order of its members. A subclass may define it itself, by `__iter__`,
`iter_nodes` and `iter_links`; then these are used. Flows nest to any depth, so code here that visits nested flows uses
a stack of its own and never recurses.

An enclosing flow asks each nested flow for the names that it requires and provides. Graph flows cache these names, and
hand them over to the enclosing flow, so that each level costs only its new names. `_Age` tells whether a cache is still
valid.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any, ClassVar, Self

from taskflowx import atom, exceptions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set as AbstractSet

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
    :param retry: the retry controller, which decides what happens when an atom in this flow fails

    Names that begin with `_tfx_` are reserved for this package; subclasses may use all others that are not documented.
    """

    #: the class that defines the order of the members, unless a subclass of it does
    _tfx_pattern: ClassVar[type[Flow] | None] = None
    #: whether an enclosing flow has asked for the names of this one since it last changed
    _tfx_asked = False

    def __init__(self, name: str, retry: Any = None) -> None:
        self._tfx_name = name = str(name)
        self._tfx_retry = retry
        self._tfx_members: Any = {}
        if retry is not None:
            if isinstance(retry, type) or not hasattr(retry, "name") or not hasattr(retry, "provides"):
                msg = f"The retry of flow {name!r} must be a taskflowx.retry.Retry, not {retry!r} ({type(retry)})"
                raise TypeError(msg)
            if retry.name is None:
                retry.name = f"{name}_retry"

    @property
    def name(self) -> str:
        """The name of this flow."""
        return self._tfx_name

    @property
    def retry(self) -> Any:
        """The retry controller of this flow, or None."""
        return self._tfx_retry

    def add(self, *items: Any) -> Self:
        """Add atoms and flows; members that are in the flow already stay in place.

        :raises TypeError: when something is neither an atom nor a flow
        """
        self._tfx_check_members(items)
        self._tfx_about_to_change()
        self._tfx_members.update(dict.fromkeys(items))
        return self

    def __len__(self) -> int:
        return len(self._tfx_members)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._tfx_members)

    def iter_nodes(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        """Iterate over (member, its attributes), in a topological order."""
        return ((member, {}) for member in self)

    def iter_links(self) -> Iterator[Link]:
        """Iterate over (member, its successor, attributes of the link)."""
        raise NotImplementedError(f"{self} is of no pattern, which would say in which order its members run")

    @property
    def provides(self) -> frozenset[str]:
        """All names that the members of this flow provide."""
        names: set[str] = set()
        for flow in nested_flows(self):
            if flow.retry is not None:
                names.update(flow.retry.provides)
            for member in members_of(flow):
                if not isinstance(member, Flow) or _tells_itself(member, "provides"):
                    names.update(member.provides)
        return frozenset(names)

    @property
    def requires(self) -> frozenset[str]:
        """All names that a member of this flow requires and no predecessor in this flow provides."""
        return frozenset(_look_up(self, kept=False).requires)

    def _tfx_join(self, members: list[tuple[Any, Names]]) -> tuple[set[str], set[str]]:
        """Return the joint names that members require of others, and those that they provide.

        A pattern overrides this for flows whose order it alone defines; here the links are followed.

        :param members: each with its names, in iteration order; their sets are consumed
        """
        before: dict[int, list[Any]] = {}
        for u, v, _ in self.iter_links():
            before.setdefault(id(v), []).append(u)
        return join_by_links(members, lambda member: before.get(id(member), ()))

    def _tfx_kept_names(self, member: Any) -> Names | None:
        """Return the cached names of a nested flow, in sets for the caller; None when they must be collected."""
        return None

    def _tfx_about_to_change(self) -> None:
        """Invalidate the names that enclosing flows have cached, before members or links change."""
        if self._tfx_asked:
            self._tfx_asked = False
            _Age.now = next(_Age.numbers)

    def _tfx_check_members(self, items: Sequence[Any]) -> None:
        for kind in set(map(type, items)):
            if not issubclass(kind, (atom.Atom, Flow)) or (kind is type(self) and self in items):
                for item in items:
                    self._tfx_check_member(item)
                return

    def _tfx_check_member(self, item: Any) -> None:
        """Raise an error for an object that is neither an atom nor a flow, and for this flow itself."""
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
    """Return advice about an object that is neither a task nor a flow."""
    if isinstance(item, type):
        return "a class has to be called to make one of it"
    if isinstance(item, atom.Atom):
        return "a retry is given to the constructor of its flow"
    if isinstance(item, (list, tuple, set, frozenset)):
        return "tasks in a row are added one by one, as in flow.add(*tasks)"
    return "a plain function becomes a task by taskflowx.task.FunctorTask(function)"


def is_plain(flow: Flow) -> bool:
    """Tell whether the pattern of a flow alone defines its members and their order."""
    cls, pattern = type(flow), flow._tfx_pattern
    if pattern is None or not flow.__dict__.keys().isdisjoint(_TELLING):
        return False
    return cls is pattern or (
        cls.__iter__ is pattern.__iter__
        and cls.iter_nodes is pattern.iter_nodes
        and cls.iter_links is pattern.iter_links
    )


_TELLING = frozenset(("iter_links", "iter_nodes"))


def members_of(flow: Flow) -> Iterable[Any]:
    """Return the members of a flow, each once."""
    return flow if is_plain(flow) else dict.fromkeys([*(member for member, _ in flow.iter_nodes()), *flow])


def nested_flows(flow: Flow) -> Iterator[Flow]:
    """Iterate over a flow and all flows in it, each one before its nested flows.

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
            raise _contains_itself(current, path.values())
        yield current
        path[id(current)] = current
        stack.append(None)
        stack.extend(member for member in members_of(current) if isinstance(member, Flow))


def _contains_itself(flow: Flow, path: Iterable[Flow]) -> exceptions.DependencyFailure:
    names = " -> ".join([*(around.name for around in path), flow.name])
    return exceptions.DependencyFailure(f"Flow {flow} contains itself: {names}")


# -- the names of flows ----------------------------------------------------------------------------------------------


class Names:
    """The names that a member requires of others, and those that it provides.

    `lasting` tells whether the names stay valid until `_tfx_about_to_change` is called.
    """

    __slots__ = ("lasting", "provides", "requires")

    def __init__(self, requires: set[str], provides: set[str], *, lasting: bool) -> None:
        self.requires = requires
        self.provides = provides
        self.lasting = lasting

    def __len__(self) -> int:
        return len(self.requires) + len(self.provides)


class _Age:
    """Counts the changes of flows whose names an enclosing flow has asked for, in the whole process."""

    numbers = itertools.count(1)  # each is used once, so that threads cannot restore an old one
    now = 0


def age() -> int:
    """Return a number that changes when the names that a flow has cached of nested flows may be invalid."""
    return _Age.now


def names_of(flow: Flow) -> Names:
    """Return the names that a flow requires and provides, in sets that belong to the caller.

    For enclosing flows: it uses caches, and each visited flow records that it was asked.

    :raises DependencyFailure: when a flow contains itself
    """
    return _look_up(flow, kept=True)


class _LookUp:
    """A flow that is being visited, with the members whose names are known already."""

    __slots__ = ("flow", "found", "rest")

    def __init__(self, flow: Flow) -> None:
        self.flow = flow
        self.found: list[tuple[Any, Names]] = []
        self.rest = iter(members_of(flow))


def _look_up(root: Flow, *, kept: bool) -> Names:
    """Return the names of a flow.

    :param kept: whether to use the caches of flows, to record in them that they were asked, and to use properties that
        the class of the root overrides
    """
    path = {id(root): _LookUp(root)}
    while True:
        current = next(reversed(path.values()))
        for member in current.rest:
            if not isinstance(member, Flow):
                lasting = isinstance(member, atom.Atom)
                current.found.append((member, Names(set(member.requires), set(member.provides), lasting=lasting)))
                continue
            if id(member) in path:
                raise _contains_itself(member, (one.flow for one in path.values()))
            known = current.flow._tfx_kept_names(member) if kept else None
            if known is None:
                path[id(member)] = _LookUp(member)
                break
            current.found.append((member, known))
        else:
            path.popitem()
            names = _join(current.flow, current.found, by_property=kept or bool(path))
            if kept:
                current.flow._tfx_asked = True
            if not path:
                return names
            next(reversed(path.values())).found.append((current.flow, names))


def _join(flow: Flow, members: list[tuple[Any, Names]], *, by_property: bool) -> Names:
    """Return the names of a flow.

    :param members: each with its names, whose sets are consumed
    """
    plain = is_plain(flow)
    lasting = plain and all(names.lasting for _, names in members)
    own_requires = by_property and _tells_itself(flow, "requires")
    own_provides = by_property and _tells_itself(flow, "provides")
    if own_requires:
        requires, provides = set(flow.requires), union(names.provides for _, names in members)
    elif plain:
        requires, provides = flow._tfx_join(members)
    else:
        requires, provides = Flow._tfx_join(flow, members)
    if own_provides:
        provides = set(flow.provides)
    if flow.retry is not None:
        given = set(flow.retry.provides)
        requires = merged(without(requires, given), set(flow.retry.requires))
        provides = merged(provides, given)
    return Names(requires, provides, lasting=lasting and not (own_requires or own_provides))


def _tells_itself(flow: Flow, name: str) -> bool:
    """Tell whether the class of a flow overrides one of our properties."""
    return getattr(type(flow), name) is not getattr(Flow, name)


def join_by_links(
    members: list[tuple[Any, Names]], before: Callable[[Any], Iterable[Any]]
) -> tuple[set[str], set[str]]:
    """Return the joint names that members require of others, and those that they provide.

    :param members: each with its names, whose sets are consumed
    :param before: returns the direct predecessors of a member
    """
    gives = {id(member): names.provides for member, names in members}
    # One member may provide more than all others together: a flow with many levels. Its names are not copied.
    largest = max(gives.values(), key=len, default=set())
    others: set[str] = set().union(*(given for given in gives.values() if given is not largest))
    unmet: set[str] = set()
    known = _Ancestors(gives, before)
    for member, names in members:
        needs = names.requires
        direct = before(member) if needs else ()
        sought = common(needs, others) if direct else set()
        if direct and names.provides is not largest:
            sought |= common(needs, largest)
        unmet = merged(unmet, without(needs, sought))
        # Direct predecessors first: they are the reason for an inferred link.
        for ancestor in direct:
            sought = without(sought, gives.get(id(ancestor), frozenset()))
        unmet.update(name for name in sought if not known.gives(member, name))
    return unmet, union(gives.values())


_KEPT = 500_000  # up to so many members the answers are cached for their successors


class _Ancestors:
    """Tells whether a predecessor of a member provides a name."""

    def __init__(self, gives: Mapping[int, AbstractSet[str]], before: Callable[[Any], Iterable[Any]]) -> None:
        self._gives = gives
        self._before = before
        self._known: dict[str, dict[int, bool]] = {}
        self._kept = 0

    def gives(self, member: Any, name: str) -> bool:
        if self._kept > _KEPT:
            self._known.clear()
            self._kept = 0
        known, gives = self._known.setdefault(name, {}), self._gives
        stack = [member]
        while stack:
            last = stack[-1]
            if id(last) in known:
                stack.pop()
                continue
            found, unknown = False, []
            for earlier in self._before(last):
                if known.get(id(earlier)) or name in gives.get(id(earlier), ()):
                    found = True
                    break
                if id(earlier) not in known:
                    unknown.append(earlier)
            if found or not unknown:
                known[id(last)] = found
                self._kept += 1
            else:
                stack += unknown
        return known[id(member)]


def merged(one: set[str], other: set[str]) -> set[str]:
    """Return the union of two sets, which are consumed; costs the size of the smaller one."""
    if len(one) < len(other):
        one, other = other, one
    one |= other
    return one


def union(sets: Iterable[set[str]]) -> set[str]:
    """Return the union of sets, which are consumed; the largest one costs nothing."""
    found: set[str] = set()
    for names in sets:
        found = merged(found, names)
    return found


def without(names: set[str], others: AbstractSet[str]) -> set[str]:
    """Return a set less the names in another one; it is consumed, and costs the size of the smaller one."""
    if len(others) > len(names):
        return {name for name in names if name not in others}
    names -= others
    return names


def common(one: AbstractSet[str], other: AbstractSet[str]) -> set[str]:
    """Return the intersection of two sets; costs the size of the smaller one."""
    if len(one) > len(other):
        one, other = other, one
    return {name for name in one if name in other}
