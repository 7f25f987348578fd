"""A flow compiled to integer-indexed lists.

`compile_flow` walks a flow once, in O(V + E) and without recursion, and gives a `Plan`. It is called by the engine,
before anything runs; nothing changes a Plan afterwards.

What must stay true:

- Index order is a topological order.
- The atoms of a flow, nested ones included, have consecutive indices: a flow, and so the region that a retry controls,
  is a range. A retry is the first atom of its range.
- The successors of a node are in ascending order.
- A gate is a no-op node (its atom is None) that stands where many nodes precede many others, so that W x W edges
  are 2W, and where much ends in flows that are nested deeply. It has at least two predecessors.
"""

from __future__ import annotations

import heapq
import itertools
import operator
from bisect import bisect_right
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import deciders, exceptions, flow, retry, task
from taskflowx._util import arguments
from taskflowx.atom import Atom, full_name
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.patterns.order import CYCLE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    Nodes = tuple[int, ...]

LINEAR, UNORDERED, GRAPH = "linear", "unordered", "graph"


class Vote(NamedTuple):
    """One decider that is asked before an atom runs.

    `source` is the index of the atom whose result it is shown, or -1 for a flow, which contributes nothing.
    """

    source: int
    decider: Callable[..., Any]
    depth: deciders.Depth


class Span:
    """The range of indices `lo <= i < hi` that one flow takes, and how its members are ordered.

    `controller` is the index of the nearest retry that controls the members, -1 if there is none; `retry` is that of
    the flow's own one. Graph flows keep where each member begins (`starts`) and which members each one directly
    follows (`before`), by the position of the member. `jump` is a flow around this one, some `depth` further out: by
    these and the parents each flow around is reached in a number of steps that is logarithmic in the depth.
    """

    __slots__ = ("before", "controller", "depth", "flow", "hi", "jump", "kind", "lo", "parent", "retry", "starts")

    def __init__(self, spanned: flow.Flow, kind: str, parent: int, lo: int, controller: int) -> None:
        self.flow = spanned
        self.kind = kind
        self.parent = parent
        self.lo = lo
        self.hi = lo
        self.retry = -1
        self.controller = controller
        self.depth = 0
        self.jump = -1
        self.starts: list[int] = []
        self.before: list[tuple[int, ...]] = []

    def follows(self, later: int, earlier: int) -> bool:
        """Tell whether, in a graph flow, the member at index `later` comes after the one at index `earlier`."""
        wanted = bisect_right(self.starts, earlier) - 1
        last = bisect_right(self.starts, later) - 1
        seen = {last}
        stack = [last]
        while stack:
            before = self.before[stack.pop()]
            if wanted in before:
                return True
            further = [m for m in before if m > wanted and m not in seen]
            seen.update(further)
            stack.extend(further)
        return False


class Plan:
    """What must happen: the atoms of a flow in a topological order, and the edges between them.

    All lists are indexed by node. `plain[i]` is 1 for a task that has no decider before it and whose result is stored
    whole or not at all, which is what the scheduler's short path takes; `votes` has an entry only where deciders are.
    `rank` orders the nodes by priority and then by index; it is None when no atom has a priority.
    """

    __slots__ = (
        "atoms",
        "degree",
        "fan_out",
        "flow",
        "gates",
        "awaits",
        "home",
        "looked_at",
        "looked_at_retries",
        "names",
        "plain",
        "pred",
        "rank",
        "sources",
        "spans",
        "succ",
        "votes",
    )

    def __init__(self, root: Any) -> None:
        self.flow = root
        self.atoms: list[Any] = []
        self.pred: list[Nodes] = []
        self.succ: list[list[int] | Nodes] = []
        self.home: list[int] = []
        self.spans: list[Span] = []
        self.votes: dict[int, tuple[Vote, ...]] = {}
        self.names: dict[str, int] = {}
        self.gates = 0  # how many of the nodes are gates
        self.awaits = False  # whether it is to run where coroutines are awaited
        self.looked_at: set[type] = set()  # classes of tasks whose methods have been checked
        self.looked_at_retries: set[type] = set()
        self.degree: list[int] = []  # how many predecessors each node has
        self.fan_out: list[int] = []  # how many successors
        self.plain: list[int] = []
        self.sources: list[int] = []  # nodes without predecessors
        self.rank: list[tuple[int, int]] | None = None

    def __len__(self) -> int:
        return len(self.atoms)

    def controller(self, i: int) -> int:
        """Return the index of the retry that is asked when node `i` fails, or -1."""
        span = self.spans[self.home[i]]
        if span.retry != i:
            return span.controller
        return self.spans[span.parent].controller if span.parent >= 0 else -1

    def region(self, r: int) -> tuple[int, int]:
        """Return the range (lo, hi) that the retry at index `r` controls; itself is its first node."""
        span = self.spans[self.home[r]]
        return r, span.hi


def compile_flow(root: Any, *, awaits: bool = False) -> Plan:
    """Compile a flow, or a single task.

    :param awaits: whether it is to run where coroutines are awaited
    :raises TypeError: when something in it is neither a task nor a flow
    :raises CompilationFailure: when a method that is to be called is a coroutine function, and nobody would await it
    :raises Duplicate: when two atoms have the same name
    :raises DependencyFailure: when a flow contains itself
    """
    plan = Plan(root)
    plan.awaits = awaits
    if not isinstance(root, flow.Flow):
        _check_member(plan, root)
        single = linear_flow.Flow(getattr(root, "name", "?"))
        single._tfx_members[root] = None
        root = single
    frames = [_open(plan, root, (), (), -1)]
    path = {id(root)}
    while frames:
        frame = frames[-1]
        member = frame.advance(plan)
        if member is not None:
            if id(member) in path:
                msg = f"Flow {member} contains itself"
                raise exceptions.DependencyFailure(msg)
            path.add(id(member))
            frames.append(_open(plan, member, frame.preds, frame.votes_on_entry(), frame.home))
            continue
        frames.pop()
        path.discard(id(frame.flow))
        plan.spans[frame.home].hi = len(plan.atoms)
        if frames:
            frames[-1].closed(plan, frame.exits)
    _finish(plan)
    return plan


def _finish(plan: Plan) -> None:
    """Index the names, and work out what the scheduler asks of each atom over and over."""
    plan.degree = list(map(len, plan.pred))
    plan.fan_out = list(map(len, plan.succ))
    plan.sources = [i for i, degree in enumerate(plan.degree) if not degree and plan.atoms[i] is not None]
    atoms: list[Any] = plan.atoms
    plain = plan.plain = [0] * len(atoms)
    places: Sequence[int]
    if plan.gates:
        places = [i for i, atom in enumerate(atoms) if atom is not None]
        atoms = [atoms[i] for i in places]
    else:
        places = range(len(atoms))
    try:
        names = plan.names = dict(zip(map(_name, atoms), places, strict=True))
    except TypeError:
        _check_kinds_of_names(plan)  # one that cannot be a key
        raise
    if set(map(type, names)) - {str}:
        _check_kinds_of_names(plan)
    ranked = any(map(_priority, atoms))
    last, is_plain = None, False
    for i, atom in zip(places, atoms, strict=True):
        signature = atom._tfx_signature
        if signature is not last:
            outputs = signature.outputs
            last, is_plain = signature, not outputs or (len(outputs) == 1 and outputs[0][1] is None)
        if is_plain and isinstance(atom, task.Task):
            plain[i] = 1
    for i in plan.votes:
        plain[i] = 0
    if len(names) != len(atoms):
        _check_names(plan)
    if ranked:
        plan.rank = [(-_priority_of(atom) if atom is not None else 0, i) for i, atom in enumerate(plan.atoms)]


_WIDE, _DEEP = 32, 16  # from here on what ends in nested flows is drawn together at a gate

_name = operator.attrgetter("name")
_priority = operator.attrgetter("priority")


def _check_kinds_of_names(plan: Plan) -> None:
    for atom in plan.atoms:
        if atom is not None:
            arguments.check_type(f"The name of {atom!r}", atom.name, str, "a str")


def _priority_of(atom: Any) -> Any:
    if atom.priority is not None:
        arguments.check_number(f"The priority of {atom}", atom.priority, "a number")
    return atom.priority or 0


def _check_names(plan: Plan) -> None:
    seen: set[str] = set()
    twice: dict[str, None] = {}
    for atom in plan.atoms:
        if atom is not None:
            if atom.name in seen:
                twice[atom.name] = None
            seen.add(atom.name)
    if twice:
        msg = f"Atoms with duplicate names found: {sorted(twice)}"
        raise exceptions.Duplicate(msg)


def _emit(plan: Plan, atom: Any, preds: Nodes, home: int) -> int:
    i = len(plan.atoms)
    plan.atoms.append(atom)
    plan.gates += atom is None
    plan.pred.append(preds)
    plan.succ.append(())
    plan.home.append(home)
    _follow(plan, preds, (i,))
    return i


def _follow(plan: Plan, preds: Nodes, nodes: Nodes) -> None:
    """Add nodes to the successors of others."""
    succ = plan.succ
    for p in preds:
        after = succ[p]
        if type(after) is list:
            after.extend(nodes)
        else:  # a tuple may be shared
            succ[p] = [*after, *nodes] if after else nodes


def _emit_atoms(plan: Plan, members: list[Any], home: int) -> int:
    """Add atoms without their edges; returns the index of the first."""
    first, count = len(plan.atoms), len(members)
    plan.atoms.extend(members)
    plan.home.extend(itertools.repeat(home, count))
    plan.succ.extend(itertools.repeat((), count))
    return first


def _emit_member(plan: Plan, member: Any, preds: Nodes, home: int) -> int:
    if type(member) not in plan.looked_at:
        _check_member(plan, member)
    return _emit(plan, member, preds, home)


def _check_member(plan: Plan, member: Any) -> None:
    """Refuse what is no task, and a task that cannot be run."""
    if not isinstance(member, task.Task):
        msg = (
            f"Unknown object '{member}' ({type(member)}) requested to compile\n"
            f"What can be run are tasks and flows of them; {flow.remedy(member)}"
        )
        raise TypeError(msg)
    _check_methods(plan, member, ("execute", "revert"))


def _check_methods(plan: Plan, atom: Any, names: tuple[str, ...]) -> None:
    """Refuse coroutines that nobody would await: looks at each class once, and at the functions of each task."""
    cls = type(atom)
    if not issubclass(cls, Atom):  # a mock that passes for one
        return
    functions = (
        atom._tfx_functions() if issubclass(cls, task.Task) else None
    )  # a retry runs in the thread of the engine
    for method in functions or [getattr(cls, name) for name in names]:
        if arguments.is_async(method) and not (
            plan.awaits and functions is not None and atom._tfx_signature.asynchronous
        ):
            awaited = "nobody awaits here" if plan.awaits else "only executor='asyncio' awaits"
            msg = (
                f"Atom '{atom.name}' cannot be run: {full_name(method)} is a coroutine function, which {awaited}; "
                "make it a plain function, which may call asyncio.run(...)"
            )
            raise exceptions.CompilationFailure(msg)
    if not functions:
        (plan.looked_at if issubclass(cls, task.Task) else plan.looked_at_retries).add(cls)


def _open(plan: Plan, opened: flow.Flow, preds: Nodes, votes: tuple[Vote, ...], parent: int) -> _Frame:
    """Begin a flow: its range, its retry, and the gate before members of which many can start at once."""
    controller = plan.spans[parent].controller if parent >= 0 else -1
    kind = _KINDS.get(opened._tfx_pattern, GRAPH) if flow.is_plain(opened) else GRAPH
    span = Span(opened, kind, parent, len(plan.atoms), controller)
    if parent >= 0:
        # After Myers ("An applicative random-access stack", 1983): a jump takes the two before it together, when these
        # are of one length, and otherwise leads to the parent.
        around = plan.spans[parent]
        span.depth, span.jump = around.depth + 1, parent
        if around.jump >= 0:
            further = plan.spans[around.jump]
            if further.jump >= 0 and around.depth - further.depth == further.depth - plan.spans[further.jump].depth:
                span.jump = further.jump
    home = len(plan.spans)
    plan.spans.append(span)
    if opened.retry is not None:
        if not isinstance(opened.retry, retry.Retry):
            msg = f"The retry of flow {opened} must be a taskflowx.retry.Retry, not {opened.retry!r}"
            raise TypeError(msg)
        if type(opened.retry) not in plan.looked_at_retries:
            _check_methods(plan, opened.retry, ("execute", "revert", "on_failure"))
        span.retry = span.controller = _emit(plan, opened.retry, preds, home)
        if votes:
            plan.votes[span.retry] = votes
        preds, votes = (span.retry,), ()
    frame = _FRAMES[kind](plan, opened, preds, votes, home)
    if len(preds) > 1 and frame.starting() > 1:
        frame.enter_by((_emit(plan, None, preds, home),))
    return frame


class _Frame:
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
        self.members: Iterator[Any] = iter(self.all)

    def in_order(self) -> list[Any]:
        """Return the members in an order in which they can run."""
        return list(self.flow)

    def enter_by(self, preds: Nodes) -> None:
        self.preds = self.entry = self.exits = preds

    def starting(self) -> int:
        """Return how many members can start at once."""
        return 1

    def votes_on_entry(self) -> tuple[Vote, ...]:
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
                    _check_member(plan, member)
        return members

    def is_heap(self, plan: Plan, exits: Nodes) -> bool:
        """Tell whether so much ends at the end of a nested flow, far inside, that all levels around would copy it."""
        return len(exits) > _WIDE and plan.spans[self.home].depth > _DEEP

    def advance(self, plan: Plan) -> Any:
        """Compile members up to the next flow among them, and return that; None at the end."""
        raise NotImplementedError

    def closed(self, plan: Plan, exits: Nodes) -> None:
        """Take note that the flow that `advance` returned has been compiled."""
        raise NotImplementedError


class _Row(_Frame):
    """A linear flow: each member follows the one before."""

    __slots__ = ()

    def advance(self, plan: Plan) -> Any:
        if self.preds is self.entry and (members := self.just_atoms(plan)):
            self.all_at_once(plan, members)
            return None
        home = self.home
        for member in self.members:
            if isinstance(member, flow.Flow):
                return member
            i = _emit_member(plan, member, self.preds, home)
            if self.votes and self.preds is self.entry:
                plan.votes[i] = self.votes
            self.preds = (i,)
        self.exits = self.preds
        return None

    def all_at_once(self, plan: Plan, members: list[Any]) -> None:
        first = _emit_atoms(plan, members, self.home)
        last = len(plan.atoms) - 1
        single = list(zip(range(first, last + 1)))
        plan.pred.append(self.preds)
        plan.pred.extend(single[:-1])
        _follow(plan, self.preds, single[0])
        plan.succ[first:last] = single[1:]
        self.exits = single[-1]

    def closed(self, plan: Plan, exits: Nodes) -> None:
        self.preds = exits


class _Fan(_Frame):
    """An unordered flow: all members follow what precedes the flow."""

    __slots__ = ("ends",)

    def __init__(self, plan: Plan, opened: flow.Flow, preds: Nodes, votes: tuple[Vote, ...], home: int) -> None:
        super().__init__(plan, opened, preds, votes, home)
        self.ends: list[int] = []

    def starting(self) -> int:
        return len(self.all)

    def advance(self, plan: Plan) -> Any:
        if not self.ends and (members := self.just_atoms(plan)):
            first = _emit_atoms(plan, members, self.home)
            plan.pred.extend(itertools.repeat(self.preds, len(members)))
            self.exits = tuple(range(first, len(plan.atoms)))
            _follow(plan, self.preds, self.exits)
            return None
        home, preds = self.home, self.preds
        for member in self.members:
            if isinstance(member, flow.Flow):
                return member
            i = _emit_member(plan, member, preds, home)
            if self.votes:
                plan.votes[i] = self.votes
            self.ends.append(i)
        if self.ends:
            self.exits = tuple(self.ends)
        return None

    def closed(self, plan: Plan, exits: Nodes) -> None:
        if exits is not self.entry:
            self.ends.extend((_emit(plan, None, exits, self.home),) if self.is_heap(plan, exits) else exits)


class _Net(_Frame):
    """A graph flow, or one that says itself what is linked: each member follows those that are linked to it."""

    __slots__ = ("asked", "before", "ends", "fan_out", "links", "position")

    def __init__(self, plan: Plan, opened: flow.Flow, preds: Nodes, votes: tuple[Vote, ...], home: int) -> None:
        super().__init__(plan, opened, preds, votes, home)
        # position -> (position of the source or -1 for a flow, decider, depth)
        self.asked: dict[int, list[tuple[int, Any, deciders.Depth]]] = {}
        if isinstance(opened, graph_flow.Flow) and flow.is_plain(opened):
            self.before, decided = graph_flow.positions(opened, self.all)
        else:
            self.before, decided = _positions(len(self.all), self.links)
        if decided:
            kinds = [isinstance(member, flow.Flow) for member in self.all]
            for (source, target), attributes in decided.items():
                depth = deciders.Depth.translate(attributes.get(flow.LINK_DECIDER_DEPTH) or deciders.Depth.ALL)
                shown = -1 if kinds[source] else source
                self.asked.setdefault(target, []).append((shown, attributes[flow.LINK_DECIDER], depth))
        self.fan_out: list[int] = []  # by position, how many members follow; for flows that have flows in them
        self.position = -1
        self.ends: list[Nodes] = []  # by position, what is to have run when the member has
        plan.spans[home].before = self.before

    def in_order(self) -> list[Any]:
        if isinstance(self.flow, graph_flow.Flow) and flow.is_plain(self.flow):
            return list(self.flow)
        members, self.links = _told_by(self.flow)  # by the positions of their ends
        return members

    def starting(self) -> int:
        return sum(not before for before in self.before)

    def votes_on_entry(self) -> tuple[Vote, ...]:
        """Return the deciders on the links to the current member, or those on the flow if nothing precedes it."""
        asked = self.asked.get(self.position)
        if asked is None:
            return self.votes if not self.before[self.position] else ()
        return tuple(
            Vote(self.ends[source][0] if source >= 0 else -1, decider, depth) for source, decider, depth in asked
        )

    def advance(self, plan: Plan) -> Any:
        if self.position < 0 and not self.asked and (members := self.just_atoms(plan)):
            self.all_at_once(plan, members)
            return None
        if not self.fan_out:
            self.count_followers()
        starts, before, ends = plan.spans[self.home].starts, self.before, self.ends
        for member in self.members:
            self.position += 1
            starts.append(len(plan.atoms))
            previous = before[self.position]
            if not previous:
                self.preds = self.entry
            elif len(previous) == 1:
                self.preds = ends[previous[0]]
            else:
                self.preds = tuple(dict.fromkeys(itertools.chain.from_iterable(ends[p] for p in previous)))
            if self.preds == previous:
                before[self.position] = self.preds  # one tuple for both lists: most graph flows are all atoms
            if isinstance(member, flow.Flow):
                return member
            i = _emit_member(plan, member, self.preds, self.home)
            if (self.votes or self.asked) and (votes := self.votes_on_entry()):
                plan.votes[i] = votes
            ends.append((i,))
        last = [end for end, after in zip(ends, self.fan_out, strict=True) if not after]
        if last:
            self.exits = last[0] if len(last) == 1 else tuple(dict.fromkeys(itertools.chain.from_iterable(last)))
        return None

    def count_followers(self) -> None:
        self.fan_out = [0] * len(self.before)
        for source in itertools.chain.from_iterable(self.before):
            self.fan_out[source] += 1

    def all_at_once(self, plan: Plan, members: list[Any]) -> None:
        before, pred, succ = self.before, plan.pred, plan.succ
        first = _emit_atoms(plan, members, self.home)
        plan.spans[self.home].starts.extend(range(first, first + len(members)))
        for i, positions in enumerate(before, first):
            if not positions:
                pred.append(self.entry)
                _follow(plan, self.entry, (i,))
                continue
            previous = tuple([first + position for position in positions]) if first else positions
            pred.append(previous)
            for p in previous:
                after = succ[p]
                if type(after) is list:
                    after.append(i)
                else:
                    succ[p] = [i]
        self.exits = tuple([i for i in range(first, len(succ)) if not succ[i]])

    def closed(self, plan: Plan, exits: Nodes) -> None:
        if len(exits) > 1 and (self.fan_out[self.position] > 1 or self.is_heap(plan, exits)):
            exits = (_emit(plan, None, exits, self.home),)
        self.ends.append(exits)


def _told_by(opened: flow.Flow) -> tuple[list[Any], dict[tuple[int, int], dict[str, Any]]]:
    """Return the members of a flow that says itself in which order they run, in that order, and its links.

    The links are by the positions of their ends, with their attributes.

    :raises CompilationFailure: when a link leads to something that is no member
    :raises DependencyFailure: when the links make a cycle
    """
    members = list(flow.members_of(opened))
    place = {id(member): position for position, member in enumerate(members)}
    links: dict[tuple[int, int], dict[str, Any]] = {}
    for u, v, attributes in opened.iter_links():
        for end in (u, v):
            if id(end) not in place:
                msg = (
                    f"iter_links() of {full_name(type(opened))} links '{u.name}' with '{v.name}', and '{end.name}' is "
                    f"no member of flow {opened}: neither iter_nodes() nor iterating over it gives it"
                )
                raise exceptions.CompilationFailure(msg)
        link = place[id(u)], place[id(v)]
        links[link] = {**links.get(link, {}), **(attributes or {})}
    order = _topological(len(members), links)
    if len(order) < len(members):
        stuck = [str(members[position].name) for position in sorted(set(range(len(members))).difference(order))]
        msg = f"{CYCLE}\niter_links() of {full_name(type(opened))} makes a cycle in flow {opened}, among {stuck}"
        raise exceptions.DependencyFailure(msg)
    if all(map(operator.eq, order, itertools.count())):
        return members, links
    rank = {position: place for place, position in enumerate(order)}
    return [members[position] for position in order], {(rank[u], rank[v]): has for (u, v), has in links.items()}


def _topological(count: int, links: Iterable[tuple[int, int]]) -> list[int]:
    """Return positions so that each link leads on, else as they were; those in and behind a cycle are left out."""
    unmet = [0] * count
    after: list[list[int]] = [[] for _ in range(count)]
    for u, v in links:
        unmet[v] += 1
        after[u].append(v)
    ready = [position for position in range(count) if not unmet[position]]  # ascending, so it is a heap
    order = []
    while ready:
        position = heapq.heappop(ready)
        order.append(position)
        for later in after[position]:
            unmet[later] -= 1
            if not unmet[later]:
                heapq.heappush(ready, later)
    return order


def _positions(
    count: int, links: dict[tuple[int, int], dict[str, Any]]
) -> tuple[list[tuple[int, ...]], dict[tuple[int, int], dict[str, Any]]]:
    """Return links as `graph_flow.positions` does."""
    before: list[list[int]] = [[] for _ in range(count)]
    for source, target in links:
        before[target].append(source)
    decided = {link: attributes for link, attributes in links.items() if attributes.get(flow.LINK_DECIDER) is not None}
    return [tuple(sources) for sources in before], decided


_KINDS: dict[type | None, str] = {linear_flow.Flow: LINEAR, unordered_flow.Flow: UNORDERED}
_FRAMES: dict[str, Callable[..., _Frame]] = {LINEAR: _Row, UNORDERED: _Fan, GRAPH: _Net}
