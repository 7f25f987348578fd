"""The builders of a `Plan`: each adds the members of one flow, in their order, with the edges between them.

A flow in which there are nothing but atoms, and deciders ask for none, is added at once: what such a flow costs is what
declaring and running it is compared with.
"""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, flow, task
from taskflowx._util import arguments, reprs
from taskflowx.atom import Atom, full_name, remedy
from taskflowx.patterns import of_task
from taskflowx.signature import HOOKS_ASYNC

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskflowx.engines.plan import Nodes, Plan, Vote

_WIDE, _DEEP = 32, 16  # from here on the ends of nested flows are drawn together at a barrier


def add(plan: Plan, atom: Any, preds: Nodes, home: int) -> int:
    """Add a node, None for a barrier; returns its index."""
    i = len(plan.atoms)
    plan.atoms.append(atom)
    plan.barriers += atom is None
    plan.pred.append(preds)
    plan.succ.append(())
    plan.flow_of.append(home)
    follow(plan, preds, (i,))
    return i


def follow(plan: Plan, preds: Nodes, nodes: Nodes) -> None:
    """Add nodes to the successors of others."""
    succ = plan.succ
    for p in preds:
        after = succ[p]
        if type(after) is list:
            after.extend(nodes)
        else:  # a tuple may be shared
            succ[p] = [*after, *nodes] if after else nodes


def add_atoms(plan: Plan, members: list[Any], home: int) -> int:
    """Add atoms without their edges; returns the index of the first."""
    first, count = len(plan.atoms), len(members)
    plan.atoms.extend(members)
    plan.flow_of.extend(itertools.repeat(home, count))
    plan.succ.extend(itertools.repeat((), count))
    return first


def add_member(plan: Plan, member: Any, preds: Nodes, home: int) -> int:
    """Add an atom that has been checked; returns its index."""
    if type(member) not in plan.looked_at:
        check_member(plan, member)
    return add(plan, member, preds, home)


def check_member(plan: Plan, member: Any) -> None:
    """Refuse what is no task, and a task that cannot be run."""
    if not isinstance(member, task.Task):
        cls: Any = type(member)
        shown = reprs.of(member) if cls.__str__ is object.__str__ else member
        msg = (
            f"Unknown object '{shown}' ({type(member)}) requested to compile\n"
            f"What can be run are tasks and flows of them; {remedy(member)}"
        )
        raise TypeError(msg)
    check_methods(plan, member, ("execute", "revert"))


def check_methods(plan: Plan, atom: Any, names: tuple[str, ...]) -> None:
    """Refuse methods of which a call runs nothing: looks at each class once, and at the functions of each task."""
    cls = type(atom)
    if not issubclass(cls, Atom):  # a mock that passes for one
        return
    functions = atom._tfx_functions() if issubclass(cls, task.Task) else ()
    methods = [*functions] or [getattr(cls, name) for name in names]
    if atom._tfx_signature.asynchronous & HOOKS_ASYNC:
        methods += [getattr(cls, hook) for hook in ("pre_execute", "post_execute", "pre_revert", "post_revert")]
    for method in methods:
        # What maps or folds its inputs may well make generators of them.
        if arguments.is_generator(method) and (method not in functions or isinstance(atom, task.FunctorTask)):
            msg = (
                f"Atom '{atom.name}' cannot be run: {full_name(method)} is a generator function, as it has a yield in "
                "it, so a call of it runs nothing; return the values, such as a list of them"
            )
            raise exceptions.CompilationFailure(msg)
        # A function for many inputs is called once for each of them, in the thread in which the task runs.
        awaited = plan.awaits and (not functions or isinstance(atom, task.FunctorTask) or method not in functions)
        if not awaited and arguments.is_async(method):
            raise not_awaited(f"Atom '{atom.name}' cannot be run: {full_name(method)}", plan)
    if not functions:
        (plan.looked_at if issubclass(cls, task.Task) else plan.looked_at_retries).add(cls)


def not_awaited(what: str, plan: Plan) -> exceptions.CompilationFailure:
    """Return the error for a coroutine function where nobody awaits it.

    :param what: names it
    """
    awaited = "nobody awaits here" if plan.awaits else "only executor='asyncio' awaits"
    return exceptions.CompilationFailure(
        f"{what} is a coroutine function, which {awaited}; make it a plain function, which may call asyncio.run(...)"
    )


class Builder:
    """A flow that is being compiled.

    `preds` is what the next member follows, `entry` what the members follow that nothing in the flow precedes (deciders
    on the flow are asked before these), `exits` the nodes after which all of the flow has run.
    """

    __slots__ = ("all", "entry", "exits", "flow", "home", "members", "preds", "votes")

    def __init__(self, plan: Plan, opened: flow.Flow, preds: Nodes, votes: tuple[Vote, ...], home: int) -> None:
        self.flow = opened
        self.home = home
        self.votes = votes
        self.preds = self.entry = preds
        self.exits: Nodes = preds
        self.all = self.in_order()
        if plan.controlled and type(opened) is not of_task.Flow:
            self.all = of_task.expanded(self.all)
        self.members: Iterator[Any] = iter(self.all)

    def in_order(self) -> list[Any]:
        """Return the members in an order in which they can run."""
        return list(self.flow)

    def enter_by(self, preds: Nodes) -> None:
        """Have the members that nothing in the flow precedes follow these nodes."""
        self.preds = self.entry = self.exits = preds

    def starting(self) -> int:
        """Return how many members can start at once."""
        return 1

    def votes_on_entry(self) -> tuple[Vote, ...]:
        """Return the deciders that are asked before the next member."""
        return self.votes if self.preds is self.entry else ()

    def just_atoms(self, plan: Plan) -> list[Any] | None:
        """Return the members when all are atoms, of which none is asked for by a decider; None otherwise.

        :raises TypeError, CompilationFailure: as `compile_flow`
        """
        if self.votes:
            return None
        members = self.all
        kinds = set(map(type, members))
        if not kinds <= plan.looked_at:  # which has classes of tasks alone
            if any(issubclass(kind, flow.Flow) for kind in kinds):
                return None
            for member in members:
                if type(member) not in plan.looked_at:
                    check_member(plan, member)
        return members

    def is_heap(self, plan: Plan, exits: Nodes) -> bool:
        """Tell whether so much ends at the end of a nested flow, far inside, that all levels around would copy it."""
        return len(exits) > _WIDE and plan.ranges[self.home].depth > _DEEP

    def advance(self, plan: Plan) -> Any:
        """Compile members up to the next flow among them, and return that; None at the end."""
        raise NotImplementedError

    def closed(self, plan: Plan, exits: Nodes) -> None:
        """Take note that the flow that `advance` returned has been compiled."""
        raise NotImplementedError


class LinearBuilder(Builder):
    """A linear flow: each member follows the one before."""

    __slots__ = ()

    def advance(self, plan: Plan) -> Any:
        """Compile members up to the next flow among them, and return that; None at the end."""
        if self.preds is self.entry and (members := self.just_atoms(plan)):
            self._all_at_once(plan, members)
            return None
        home = self.home
        for member in self.members:
            if isinstance(member, flow.Flow):
                return member
            i = add_member(plan, member, self.preds, home)
            if self.votes and self.preds is self.entry:
                plan.votes[i] = self.votes
            self.preds = (i,)
        self.exits = self.preds
        return None

    def _all_at_once(self, plan: Plan, members: list[Any]) -> None:
        first = add_atoms(plan, members, self.home)
        last = len(plan.atoms) - 1
        single = list(zip(range(first, last + 1)))
        plan.pred.append(self.preds)
        plan.pred.extend(single[:-1])
        follow(plan, self.preds, single[0])
        plan.succ[first:last] = single[1:]
        self.exits = single[-1]

    def closed(self, plan: Plan, exits: Nodes) -> None:
        """Take note that the flow that `advance` returned has been compiled."""
        self.preds = exits


class UnorderedBuilder(Builder):
    """An unordered flow: all members follow what precedes the flow."""

    __slots__ = ("ends",)

    def __init__(self, plan: Plan, opened: flow.Flow, preds: Nodes, votes: tuple[Vote, ...], home: int) -> None:
        super().__init__(plan, opened, preds, votes, home)
        self.ends: list[int] = []

    def starting(self) -> int:
        """Return how many members can start at once: all."""
        return len(self.all)

    def advance(self, plan: Plan) -> Any:
        """Compile members up to the next flow among them, and return that; None at the end."""
        if not self.ends and (members := self.just_atoms(plan)):
            first = add_atoms(plan, members, self.home)
            plan.pred.extend(itertools.repeat(self.preds, len(members)))
            self.exits = tuple(range(first, len(plan.atoms)))
            follow(plan, self.preds, self.exits)
            return None
        home, preds = self.home, self.preds
        for member in self.members:
            if isinstance(member, flow.Flow):
                return member
            i = add_member(plan, member, preds, home)
            if self.votes:
                plan.votes[i] = self.votes
            self.ends.append(i)
        if self.ends:
            self.exits = tuple(self.ends)
        return None

    def closed(self, plan: Plan, exits: Nodes) -> None:
        """Take note that the flow that `advance` returned has been compiled."""
        if exits is not self.entry:
            self.ends.extend((add(plan, None, exits, self.home),) if self.is_heap(plan, exits) else exits)
