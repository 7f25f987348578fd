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
from typing import TYPE_CHECKING, Any, ClassVar, Self, TypeAlias

from taskflowx import atom, controls, exceptions
from taskflowx._util import abstract, reprs, unmade
from taskflowx._util.joins import common, merged, union, without

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set as AbstractSet

    from taskflowx import compose, retry as retries
    from taskflowx.patterns import linear_flow
    from taskflowx.pictures.picture import Picture

    #: what a flow is made of
    Member: TypeAlias = "atom.Atom | Flow"
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
    :param timeout: seconds from the start of the first atom until all of the flow has run, or None for no limit
    :param strict_timeout: whether an engine that cannot stop a call at that limit refuses the flow
    :raises TypeError, ValueError: when one of these makes no sense; the message names the flow

    Names that begin with `_tfx_` are reserved for this package; subclasses may use all others that are not documented.
    """

    #: the class that defines the order of the members, unless a subclass of it does
    _tfx_pattern: ClassVar[type[Flow] | None] = None
    #: whether an enclosing flow has asked for the names of this one since it last changed
    _tfx_asked = False
    _tfx_name: str = unmade.Unmade()  # type: ignore[assignment]
    _tfx_members: Any = unmade.Unmade()
    #: seconds from its first start until all of it has run, and whether that is to be kept
    _tfx_timeout: float | None = None
    _tfx_strict_timeout = False
    #: that of a task, where members are asked for it
    _tfx_controls = None

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        abstract.settle(cls)

    def __init__(
        self,
        name: str,
        retry: retries.Retry | None = None,
        timeout: float | None = None,
        strict_timeout: bool = False,
    ) -> None:
        self._tfx_name = name = str(name)
        if timeout is not None:
            self._tfx_timeout = controls.to_limit(f"timeout= of flow '{name}'", timeout)
        if strict_timeout is not False:
            self._tfx_strict_timeout = controls.to_flag(f"strict_timeout= of flow '{name}'", strict_timeout)
            if self._tfx_strict_timeout and self._tfx_timeout is None:
                raise ValueError(f"strict_timeout= of flow '{name}' needs a limit that is to be kept: add timeout=")
        self._tfx_retry = retry
        self._tfx_members = {}
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
    def retry(self) -> retries.Retry | None:
        """The retry controller of this flow, or None."""
        return self._tfx_retry

    def add(self, *items: Member) -> Self:
        """Add atoms and flows, all of them or, on an error, none.

        :raises TypeError: when something is neither an atom nor a flow
        :raises Duplicate: when one is in the flow already, or is given twice: each object runs once
        """
        self._tfx_check_members(items)
        self._tfx_about_to_change()
        members = self._tfx_members
        before = len(members)
        members.update(dict.fromkeys(items))
        if len(members) != before + len(items):
            self._tfx_members = dict.fromkeys(itertools.islice(members, before))
            raise _added_twice(self, items)
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Return the state of a copy, which has a list of its own of its members."""
        return {name: {**value} if name == "_tfx_members" else value for name, value in self.__dict__.items()}

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
                if not is_flow(member) or _tells_itself(member, "provides"):
                    names.update(member.provides)
                    if getattr(member, "_tfx_controls", None) is not None:
                        names.update(_under_its_own(member, set(), set())[1])
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
            if issubclass(kind, atom.Atom) and not kind.__init__.__module__.startswith("taskflowx."):
                for item in items:
                    if type(item) is kind:
                        item._tfx_signature  # noqa: B018 - says so if its constructor is not that of an atom

    def _tfx_check_member(self, item: Any) -> None:
        """Raise an error for an object that is neither an atom nor a flow, and for this flow itself."""
        if item is self:
            msg = f"Flow {self} cannot be added to itself"
            raise ValueError(msg)
        if isinstance(item, (Flow, atom.Atom)):
            return
        if isinstance(item, type) or not (hasattr(item, "requires") and hasattr(item, "provides")):
            what = f"{reprs.of(item)} ({type(item)}); {atom.remedy(item)}"
            raise TypeError(f"Only atoms (tasks) and flows can be added to {self}, not {what}")

    def __rshift__(self, after: compose.Member) -> linear_flow.Flow:
        """Return a flow of this one and what runs after it; see `taskflowx.compose.chain`."""
        from taskflowx import compose

        return compose.chain(self, after)

    def __rrshift__(self, before: compose.Member) -> linear_flow.Flow:
        from taskflowx import compose

        return compose.chain(before, self)

    def __or__(self, controller: retries.Retry) -> Flow:
        """Return a flow of this one under a retry controller; see `taskflowx.compose.under`."""
        from taskflowx import compose

        return compose.under(self, controller)

    def picture(self, fold: int = 300, direction: str = "down") -> Picture:
        """Return a picture of this flow, as SVG, Mermaid, Graphviz and text.

        :param fold: the number of atoms beyond which nested flows are folded, each into one box
        :param direction: where links go: 'down' or 'right'
        :raises DependencyFailure: when a flow contains itself
        """
        from taskflowx.pictures import picture  # who draws nothing does without it

        return picture.draw(self, fold, direction)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        """Return what a notebook shows."""
        from taskflowx.pictures import picture

        return picture.draw(self)._repr_mimebundle_()

    def __str__(self) -> str:
        cls = type(self)
        return f'"{cls.__module__.rpartition(".")[2]}.{cls.__qualname__}: {self.name}(len={len(self)})"'

    @reprs.one_line
    def __repr__(self) -> str:
        cls, known = type(self), self._tfx_members
        members = reprs.number_of(len(known), "member")
        controlled = "" if self._tfx_retry is None else f", retry {self._tfx_retry.name!r}"
        return f"{cls.__module__.rpartition('.')[2]}.{cls.__qualname__} {self._tfx_name!r}: {members}{controlled}"


def _added_twice(flow: Flow, items: Sequence[Any]) -> exceptions.Duplicate:
    seen: set[Any] = set(flow._tfx_members)
    for item in items:
        if item in seen:
            break
        seen.add(item)
    who = f"'{getattr(item, 'name', item)}' cannot be added to flow '{flow.name}' twice"
    return exceptions.Duplicate(f"{who}, as one object runs once: make a second one, with another name")


def is_flow(member: object) -> bool:
    """Tell whether a member is a flow, and no mock of one, which has names alone."""
    return issubclass(type(member), Flow)


def is_plain(flow: Flow) -> bool:
    """Tell whether the pattern of a flow alone defines its members and their order."""
    cls, pattern = type(flow), flow._tfx_pattern
    if pattern is None or not flow.__dict__.keys().isdisjoint(_TELLING):
        return False
    return cls is pattern or all(getattr(cls, name) is getattr(pattern, name) for name in ("__iter__", *_TELLING))


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
        stack.extend(member for member in members_of(current) if is_flow(member))


def atoms_of(root: Member) -> Iterator[Any]:
    """Iterate over the tasks in a flow and in all flows in it, or over a single task."""
    if not isinstance(root, Flow):
        yield root
        return
    for flow in nested_flows(root):
        yield from (member for member in members_of(flow) if not is_flow(member))


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


def _under_its_own(member: Any, requires: set[str], provides: set[str]) -> tuple[set[str], set[str]]:
    """Return the names of a task with settings, which may have a controller; the sets are consumed."""
    own = controls.retry_of(member)
    return (requires, provides) if own is None else under(own, requires, provides)


def under(controller: retries.Retry, requires: set[str], provides: set[str]) -> tuple[set[str], set[str]]:
    """Return the names of what runs under a controller, which runs first; the sets are consumed."""
    given = set(controller.provides)
    return merged(without(requires, given), set(controller.requires)), merged(provides, given)


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
            if not is_flow(member):
                requires, provides = set(member.requires), set(member.provides)
                if getattr(member, "_tfx_controls", None) is not None:
                    requires, provides = _under_its_own(member, requires, provides)
                lasting = isinstance(member, atom.Atom)
                current.found.append((member, Names(requires, provides, lasting=lasting)))
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
        requires, provides = under(flow.retry, requires, provides)
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
