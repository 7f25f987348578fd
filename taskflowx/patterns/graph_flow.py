"""The graph flow: members run in the order of their dependencies.

The links of a graph flow are inferred from the names that its members require and provide, and added by hand.
`taskflowx.patterns.members` infers the links, and `taskflowx.patterns.order` keeps the topological order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self

from taskflowx import atom, exceptions, flow
from taskflowx._util import arguments, reprs
from taskflowx.deciders import Decider, Depth, When
from taskflowx.patterns import members
from taskflowx.signature import inspect_parameters

if TYPE_CHECKING:
    from taskflowx.retry import Retry


class Flow(flow.Flow):
    """A flow whose members run as soon as their dependencies have run."""

    _tfx_members: members.Members

    def __init__(
        self,
        name: str,
        retry: Retry | None = None,
        timeout: float | None = None,
        strict_timeout: bool = False,
    ) -> None:
        super().__init__(name, retry, timeout, strict_timeout)
        # The names that the flow's own retry provides need no links.
        self._tfx_members = members.Members(frozenset() if retry is None else frozenset(retry.provides))

    def add(self, *nodes: flow.Member, resolve_requires: bool = True, resolve_existing: bool = True) -> Self:
        """Add atoms and flows, and link them to the providers of their requirements; all of them or, on an error, none.

        :param resolve_requires: whether to link the new members to the providers of their requirements; without it they
            are not linked to each other, but a provider that a later call adds is linked to them
        :param resolve_existing: whether to link existing members that require a name that a new member provides, and
            that do not follow a provider of it
        :raises AmbiguousDependency: when a required name has several providers
        :raises DependencyFailure: when the links would make a cycle
        :raises TypeError: when something is neither an atom nor a flow
        """
        known = self._tfx_members
        self._tfx_check_members(nodes)
        new = [item for item in dict.fromkeys(nodes) if item not in known]
        self._tfx_about_to_change()
        try:
            known.add(new, resolve_requires=resolve_requires, resolve_existing=resolve_existing)
        except exceptions.AmbiguousDependency as error:
            error.add_note(f"in flow '{self.name}'")
            raise
        return self

    def link(
        self,
        u: flow.Member,
        v: flow.Member,
        decider: Decider | None = None,
        decider_depth: Depth | str | None = None,
        *,
        when: Callable[..., object] | None = None,
    ) -> Self:
        """Make `v` run after `u`.

        :param decider: called as `decider(history={name: result of an atom linked to v with a decider})` before `v`
            would run; a false value is a veto: `v` is skipped
        :param decider_depth: what else is skipped then, a `Depth` or its name; ALL by default
        :param when: a decider that takes values by their names: `when=lambda size: size > 3`. They are those that `u`
            provides, and others that `v` could take; that somebody provides them is checked when an engine validates
        :raises ValueError: when one of the two is not in this flow, or the decider cannot be called like that
        :raises DependencyFailure: when the link would close a cycle; it is not made then
        """
        attributes: dict[str, Any] = {}
        earlier, later = self._tfx_number(u, " to link from"), self._tfx_number(v, " to link to")
        if when is not None:
            if decider is not None:
                raise ValueError(f"The link from {u} to {v} takes a decider or when=, and not both")
            decider = When(u, when, v)
        if decider is not None:
            _check_decider(decider)
            attributes[flow.LINK_DECIDER] = decider
        if decider_depth is not None:
            if decider is None:
                raise ValueError("Decider depth requires a decider to be provided along with it")
            attributes[flow.LINK_DECIDER_DEPTH] = Depth.translate(decider_depth)
        self._tfx_about_to_change()
        self._tfx_members.link(earlier, later, attributes)
        return self

    def _tfx_number(self, item: Any, purpose: str = "") -> int:
        try:
            return self._tfx_members.number(item)
        except (KeyError, TypeError):  # TypeError: it cannot be a key
            if isinstance(item, str):
                remedy = "that is a name: pass the task or flow itself"
            elif callable(item) and not isinstance(item, (type, atom.Atom)):
                remedy = (
                    "a function is none of its members: make a task of it first, by @as_task, and add and link that"
                )
            elif (around := self._tfx_around(item)) is not None:
                remedy = f"it is within '{around.name}', which is a flow in it: pass that flow"
            else:
                remedy = "add it first, by add()"
            name = getattr(item, "name", None) or reprs.of(item).strip("'")
            node = item if isinstance(item, (atom.Atom, flow.Flow)) else name
            raise ValueError(
                f"Node '{node}' not found{purpose}\n'{name}' is not in flow '{self.name}': {remedy}"
            ) from None

    def _tfx_around(self, item: Any) -> Any:
        """Return the member, a flow, that an atom or a flow is within; None if there is none."""
        for member in filter(flow.is_flow, self):
            if any(item is one for inner in flow.nested_flows(member) for one in flow.members_of(inner)):
                return member
        return None

    def iter_links(self) -> Iterator[flow.Link]:
        """Iterate over (member, its successor, attributes of the link)."""
        known = self._tfx_members
        for v in self:
            later = known.number(v)
            links = known.before[later]
            for earlier in links:
                stored = links[earlier] if isinstance(links, dict) else None
                attributes = dict(stored or known.reasons(earlier, later))
                if flow.LINK_REASONS in attributes:
                    attributes[flow.LINK_REASONS] = set(attributes[flow.LINK_REASONS])
                yield known.items[earlier], v, attributes

    def _tfx_join(self, members: list[tuple[Any, flow.Names]]) -> tuple[set[str], set[str]]:
        return flow.join_by_links(members, self._tfx_members.items_before)

    def _tfx_kept_names(self, member: Any) -> flow.Names | None:
        return self._tfx_members.hand_out(member)

    def __getstate__(self) -> dict[str, Any]:
        """Return the state, including that of the members: nested flows are copied with less recursion."""
        return {**self.__dict__, "_tfx_members": self._tfx_members.__getstate__()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(state["_tfx_members"], dict):
            self._tfx_members = members.Members.__new__(members.Members)
            self._tfx_members.__dict__.update(state["_tfx_members"])


class TargetedFlow(Flow):
    """A graph flow that runs only its target and the dependencies of that; all of it when there is no target."""

    def __init__(
        self,
        name: str,
        retry: Retry | None = None,
        timeout: float | None = None,
        strict_timeout: bool = False,
    ) -> None:
        super().__init__(name, retry, timeout, strict_timeout)
        self._tfx_target_node: Any = None

    def set_target(self, target_node: flow.Member) -> None:
        """Run only this member and its direct and indirect dependencies.

        :raises ValueError: when it is not in this flow
        """
        self._tfx_number(target_node)  # raises an error if it is not there
        self._tfx_about_to_change()
        self._tfx_target_node = target_node

    def reset_target(self) -> None:
        """Run all members again."""
        self._tfx_about_to_change()
        self._tfx_target_node = None

    def _tfx_needed(self) -> set[Any]:
        needed = {self._tfx_target_node}
        stack = [self._tfx_target_node]
        while stack:
            for predecessor in self._tfx_members.items_before(stack.pop()):
                if predecessor not in needed:
                    needed.add(predecessor)
                    stack.append(predecessor)
        return needed

    def __len__(self) -> int:
        return super().__len__() if self._tfx_target_node is None else len(self._tfx_needed())

    def __iter__(self) -> Iterator[Any]:
        members = super().__iter__()
        if self._tfx_target_node is None:
            return members
        needed = self._tfx_needed()
        return (member for member in members if member in needed)


Flow._tfx_pattern = Flow
TargetedFlow._tfx_pattern = TargetedFlow


def positions(
    made: Flow, order: Sequence[Any] | None = None
) -> tuple[list[tuple[int, ...]], dict[tuple[int, int], dict[str, Any]]]:
    """Return the links of a flow by the positions of its members in iteration order; for engines.

    The first part has, for each member, the positions of its direct predecessors; the second the attributes of the
    links (earlier position, later position) that have a decider.

    :param order: the members in iteration order, if the caller has them
    """
    known, every = made._tfx_members.before, made._tfx_members.numbers()
    order = list(made) if order is None else order
    numbers = list(every.values()) if len(order) == len(every) else [every[item] for item in order]
    place: list[int] | dict[int, int] = numbers
    if numbers == list(range(len(known))):
        before = [*map(tuple, known)]
    else:
        place = dict(zip(numbers, range(len(numbers)), strict=True))
        before = [tuple([place[earlier] for earlier in known[number]]) for number in numbers]
    deciders = {
        (place[earlier], place[number]): attributes
        for number in numbers
        if isinstance(links := known[number], dict)
        for earlier, attributes in links.items()
        if attributes is not None and flow.LINK_DECIDER in attributes
    }
    return before, deciders


def _check_decider(decider: Any) -> None:
    """Raise an error for a decider that cannot be called as `decider(history=...)`."""
    arguments.check_callback("Decider boolean callback", decider, awaited=True)  # the compiler knows if it is
    parameters = inspect_parameters(decider)
    needed = [name for name in parameters.required if name != "history"]
    if needed or not parameters.accepts("history"):
        raise ValueError(
            f"Decider {atom.full_name(decider)} must be callable as decider(history=...): "
            f"{f'it requires {needed} too' if needed else 'it takes no argument of that name'}"
        )
