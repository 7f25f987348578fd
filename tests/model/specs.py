"""Descriptions of flows as plain data, and random ones.

A `Spec` says all there is about a flow under test: its nesting, what each atom needs and gives, which attempts fail.
Three readers take it: `build` makes taskflowx objects from it, `oracle` works out how the flow must end, and `Shape`
(below) knows who comes before whom. Nothing here imports the engine, so the three agree only if the engine is right.

Whether a task fails depends on the attempts of the retries around it alone, never on time or on how often it was
called. So the end of a run does not depend on the order in which calls complete.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import random
    from collections.abc import Iterator

ALWAYS = "always"
LINEAR, UNORDERED, GRAPH = "linear", "unordered", "graph"
TIMES, EACH, PARAMETER, REVERT, REVERT_ALL, CUSTOM = "times", "each", "parameter", "revert", "revert_all", "custom"


class Broken(Exception):
    """What atoms and deciders under test raise."""


@dataclass(frozen=True)
class Job:
    """A task.

    `gives` is the name of the whole result (a str), or a name for each of its parts; `short` leaves out the last
    part. `fails` is "always", or pairs (retry name, n): it fails while that retry is at attempt n or before. `stuck`
    is how many calls of `revert` fail before one succeeds, `interrupted` how many calls of `execute` end in a
    KeyboardInterrupt.
    """

    name: str
    needs: tuple[str, ...] = ()
    gives: str | tuple[str, ...] | None = None
    short: bool = False
    fails: str | tuple[tuple[str, int], ...] = ()
    stuck: int = 0
    interrupted: int = 0
    priority: int = 0
    may_revert_all = False


@dataclass(frozen=True)
class Again:
    """A retry; it gives the number of its attempt under its own name.

    `decisions` are those of a custom one, by attempt, the last one for all further ones; "RAISE" stands for an error.
    Its `execute` fails at the attempts in `fails`.
    """

    name: str
    kind: str = TIMES
    attempts: int = 1
    revert_all: bool = False
    decisions: tuple[str, ...] = ()
    fails: tuple[int, ...] = ()
    needs: tuple[str, ...] = ()
    stuck: int = 0
    priority: int = 0

    def decide(self, attempt: int) -> str:
        """Return what it must say when its flow fails at an attempt, the first being 1."""
        if self.kind == REVERT:
            return "REVERT"
        if self.kind == REVERT_ALL:
            return "REVERT_ALL"
        if self.kind == CUSTOM:
            return self.decisions[min(attempt, len(self.decisions)) - 1]
        if attempt < self.attempts:
            return "RETRY"
        return "REVERT_ALL" if self.revert_all else "REVERT"

    @property
    def may_revert_all(self) -> bool:
        """Whether it can say REVERT_ALL."""
        return self.revert_all or self.kind == REVERT_ALL or "REVERT_ALL" in self.decisions

    @property
    def limit(self) -> int:
        """How many attempts there may be."""
        if self.kind in (REVERT, REVERT_ALL):
            return 1
        if self.kind == CUSTOM:
            return len(self.decisions)
        return self.attempts


@dataclass(frozen=True)
class Link:
    """A link by hand between the members at two positions of a graph flow; `verdict` is what its decider says."""

    u: int
    v: int
    verdict: str | None = None
    depth: str | None = None


@dataclass(frozen=True)
class Group:
    """A flow.

    `order` says in which order the members of a graph flow are added, one by one or, if `together`, in one call, and
    `resolve` whether names link them with providers that are there, and with those that need what they provide.
    """

    kind: str
    name: str
    members: tuple[Any, ...] = ()
    retry: Again | None = None
    links: tuple[Link, ...] = ()
    order: tuple[int, ...] = ()
    together: bool = False
    resolve: tuple[bool, bool] = (True, True)


@dataclass(frozen=True)
class Spec:
    """A flow, the values given with it, and the options of the engine."""

    root: Group
    store: dict[str, int] = field(default_factory=dict)
    defer_reverts: bool = False
    never_resolve: bool = False
    go_on: bool = False


def number(what: Any) -> int:
    """Return a small number that stands for a value."""
    return zlib.crc32(repr(what).encode()) % 1000


def result_of(job: Job, given: dict[str, Any]) -> Any:
    """Return what a task returns for its arguments, or raise what it raises."""
    if job.fails == ALWAYS or any((given[retry] or 1) <= n for retry, n in job.fails):
        raise Broken(job.name)
    value = number((job.name, sorted(given.items())))
    if job.gives is None or isinstance(job.gives, str):
        return value
    return tuple(value + place for place in range(len(job.gives) - job.short))


def attempt_of(retry: Again, previous: int) -> int:
    """Return the number of a custom retry's next attempt, or raise what it raises."""
    if previous + 1 in retry.fails:
        raise Broken(retry.name)
    return previous + 1


def verdict_of(verdict: str, history: dict[str, Any]) -> bool:
    """Return what a decider says to the results before it, or raise what it raises."""
    if verdict == "raise":
        raise Broken(verdict)
    return verdict == "yes" or (verdict == "odd" and number(sorted(history.items())) % 2 == 1)


def atoms_in(node: Any) -> Iterator[Job | Again]:
    """Iterate over the atoms of a node, each retry before what it controls."""
    if isinstance(node, Job):
        yield node
        return
    if node.retry is not None:
        yield node.retry
    for member in node.members:
        yield from atoms_in(member)


def outputs(atom: Job | Again) -> dict[str, int | None]:
    """Return provided name -> position in the result (None: all of it)."""
    if isinstance(atom, Again):
        return {atom.name: None}
    if atom.gives is None:
        return {}
    if isinstance(atom.gives, str):
        return {atom.gives: None}
    return {name: place for place, name in enumerate(atom.gives)}


class Shape:
    """Who comes before whom in a spec, who is controlled by whom, and who sees whom.

    All is by name of atom. `needs` is everything that an atom requires: what its spec says, and the retries around it.
    """

    def __init__(self, spec: Spec) -> None:
        self.spec = spec
        self.atoms = {atom.name: atom for atom in atoms_in(spec.root)}
        self.group: dict[str, Group] = {}  # the flow of which an atom is a member or the retry
        self.parent: dict[int, Group] = {}  # by id of the flow
        self.needs: dict[str, tuple[str, ...]] = {}
        self.direct: dict[str, frozenset[str]] = {}  # the atoms that an atom directly follows
        self.before: dict[str, frozenset[str]] = {}  # all that run before it
        self.after: dict[str, frozenset[str]] = {}
        self.votes: dict[str, list[tuple[Any, str, str]]] = {}  # (member it comes from, verdict, depth)
        self.members_before: dict[int, list[set[int]]] = {}  # for graph flows, by position
        self._place(spec.root, frozenset(), (), ())
        after: dict[str, set[str]] = {name: set() for name in self.atoms}
        for name, before in self.before.items():
            for earlier in before:
                after[earlier].add(name)
        self.after = {name: frozenset(later) for name, later in after.items()}

    def _put(self, atom: Any, preds: frozenset[str], votes: tuple[Any, ...], around: tuple[str, ...]) -> None:
        self.direct[atom.name] = preds
        self.before[atom.name] = preds.union(*(self.before[p] for p in preds))
        self.needs[atom.name] = (*atom.needs, *around) if isinstance(atom, Job) else atom.needs
        if votes:
            self.votes[atom.name] = list(votes)

    def _place(
        self, node: Any, preds: frozenset[str], votes: tuple[Any, ...], around: tuple[str, ...]
    ) -> frozenset[str]:
        """Put a node after others; returns what the next one follows."""
        if isinstance(node, Job):
            self._put(node, preds, votes, around)
            return frozenset((node.name,))
        for member in node.members:
            if isinstance(member, Job):
                self.group[member.name] = node
            else:
                self.parent[id(member)] = node
        if node.retry is not None:
            self.group[node.retry.name] = node
            self._put(node.retry, preds, votes, around)
            preds, votes, around = frozenset((node.retry.name,)), (), (*around, node.retry.name)
        if node.kind == GRAPH:
            return self._place_graph(node, preds, votes, around)
        if node.kind == LINEAR:
            for member in node.members:
                preds, votes = self._place(member, preds, votes, around), ()
            return preds
        ends = [self._place(member, preds, votes, around) for member in node.members]
        return frozenset().union(*(end for end in ends if end is not preds)) or preds

    def _place_graph(
        self, node: Group, preds: frozenset[str], votes: tuple[Any, ...], around: tuple[str, ...]
    ) -> frozenset[str]:
        before = graph_links(node)
        self.members_before[id(node)] = before
        asked: dict[int, dict[int, Link]] = {}
        for link in node.links:
            if link.verdict is not None:
                asked.setdefault(link.v, {})[link.u] = link
        ends: dict[int, frozenset[str]] = {}
        while len(ends) < len(node.members):
            for v, member in enumerate(node.members):
                if v in ends or not before[v] <= ends.keys():
                    continue
                entry, own = preds, votes
                if before[v]:
                    entry = frozenset().union(*(ends[u] for u in before[v]))
                    own = tuple(
                        (node.members[u], link.verdict, link.depth or "ALL") for u, link in asked.get(v, {}).items()
                    )
                ends[v] = self._place(member, entry, own, around)
        last = [ends[v] for v in ends if not any(v in b for b in before)]
        return frozenset().union(*(end for end in last if end is not preds)) or preds

    def controller(self, name: str) -> str | None:
        """Return the retry that is asked when an atom fails."""
        group: Group | None = self.group[name]
        if isinstance(self.atoms[name], Again):
            group = self.parent.get(id(group))
        while group is not None:
            if group.retry is not None:
                return group.retry.name
            group = self.parent.get(id(group))
        return None

    def region(self, retry: str | None) -> set[str]:
        """Return the atoms that a retry controls, itself included; all atoms for None."""
        return {atom.name for atom in atoms_in(self.spec.root if retry is None else self.group[retry])}

    def smallest_region(self, name: str) -> set[str]:
        """Return what is undone at least when an atom fails."""
        return self.region(self.controller(name))

    def levels(self, name: str) -> Iterator[list[str]]:
        """Iterate over what an atom sees, from its own flow outwards, each level the nearest atom first."""
        node: Any = self.atoms[name]
        group: Group | None = self.group[name]
        if isinstance(node, Again):
            node, group = group, self.parent.get(id(group))
        while group is not None:
            place = next(p for p, member in enumerate(group.members) if member is node)
            if group.kind == LINEAR:
                seen = group.members[:place]
            elif group.kind == UNORDERED:
                seen = ()
            else:
                wanted, stack = set(), [place]
                while stack:
                    for u in self.members_before[id(group)][stack.pop()] - wanted:
                        wanted.add(u)
                        stack.append(u)
                seen = tuple(group.members[u] for u in sorted(wanted))
            level = [atom.name for member in seen for atom in atoms_in(member)][::-1]
            yield level if group.retry is None else [*level, group.retry.name]
            node, group = group, self.parent.get(id(group))


def graph_links(node: Group) -> list[set[int]]:
    """Return, for each member of a graph flow by position, the members that it directly follows."""
    gives = [{name for atom in atoms_in(member) for name in outputs(atom)} for member in node.members]
    before: list[set[int]] = []
    for v, member in enumerate(node.members):
        needs = {name for atom in atoms_in(member) for name in atom.needs}
        before.append({u for u, given in enumerate(gives) if u != v and given & needs})
    for link in node.links:
        before[link.v].add(link.u)
    return before


# -- random ones -----------------------------------------------------------------------------------


class Maker:
    """Makes a random spec with about `size` tasks: with flows that have no members, or else with deciders.

    (What a decider before an empty flow means is nowhere said.) Names that are provided are unique, but in linear
    flows that are in no graph flow, where a later one hides an earlier one.
    """

    def __init__(self, rng: random.Random, size: int) -> None:
        self.rng = rng
        self.left = size
        self.counts = {"t": 0, "r": 0, "f": 0, "v": 0}
        self.trouble = rng.random()  # how much goes wrong in this one
        self.hollow = rng.random() < 0.15

    def name(self, kind: str) -> str:
        self.counts[kind] += 1
        return f"{kind}{self.counts[kind]}"

    def chance(self, p: float) -> bool:
        return self.rng.random() < p

    def spec(self) -> Spec:
        store = {f"s{n}": n for n in range(self.rng.randrange(3))}
        seen = list(store)
        root = self.group(0, seen, (), shadow=True)
        return Spec(
            root,
            store,
            defer_reverts=self.chance(0.15),
            never_resolve=self.chance(0.05),
            go_on=self.chance(0.25),
        )

    def needs(self, seen: list[str]) -> tuple[str, ...]:
        if not seen or self.chance(0.4):
            return ()
        near = seen[-4:] if self.chance(0.6) else seen
        return tuple(dict.fromkeys(self.rng.choice(near) for _ in range(self.rng.randint(1, 3))))

    def job(self, seen: list[str], around: tuple[Again, ...], *, shadow: bool) -> Job:
        rng = self.rng
        self.left -= 1
        gives: Any = None
        if self.chance(0.7):
            gives = rng.choice(seen) if shadow and seen and self.chance(0.1) else self.name("v")
            if self.chance(0.2):
                gives = (gives, self.name("v"))
        fails: Any = ()
        if around and self.chance(0.1 + 0.25 * self.trouble):
            curable = [r for r in around if r.limit > 1] if self.chance(0.8) else around
            fails = tuple((r.name, rng.randint(1, max(r.limit - 1, 1))) for r in curable if self.chance(0.6))
        elif self.chance(0.1 * self.trouble):
            fails = ALWAYS
        return Job(
            self.name("t"),
            self.needs(seen),
            gives,
            short=isinstance(gives, tuple) and self.chance(0.1),
            fails=fails,
            stuck=rng.randint(1, 2) if self.chance(0.1 * self.trouble) else 0,
            interrupted=1 if self.chance(0.05 * self.trouble) else 0,
            priority=rng.randint(-1, 2) if self.chance(0.15) else 0,
        )

    def retry(self, seen: list[str]) -> Again:
        rng = self.rng
        kind = rng.choice((TIMES, TIMES, TIMES, EACH, PARAMETER, REVERT, REVERT_ALL, CUSTOM, CUSTOM))
        attempts = 3 if kind == PARAMETER else rng.choice((1, 2, 2, 3))
        decisions: tuple[str, ...] = ()
        fails: tuple[int, ...] = ()
        if kind == CUSTOM:
            last = rng.choice(("REVERT", "REVERT", "REVERT_ALL", "RAISE"))
            decisions = (*("RETRY" for _ in range(attempts - 1)), last)
            if self.chance(0.2):
                fails = (rng.randint(1, 2),)
        return Again(
            self.name("r"),
            kind,
            attempts,
            revert_all=self.chance(0.2),
            decisions=decisions,
            fails=fails,
            needs=self.needs(seen) if self.chance(0.3) else (),
            stuck=1 if kind == CUSTOM and self.chance(0.1 * self.trouble) else 0,
            priority=rng.randint(-1, 1) if self.chance(0.1) else 0,
        )

    def group(self, depth: int, seen: list[str], around: tuple[Again, ...], *, shadow: bool) -> Group:
        """Make a flow; `seen` are the names that it may need, to which what it gives is not added."""
        rng = self.rng
        kind = rng.choice((LINEAR, UNORDERED, GRAPH, GRAPH))
        retry = self.retry(seen) if self.chance(0.4) else None
        if retry is not None:
            around = (*around, retry)
        shadow = shadow and kind != GRAPH
        width = rng.choice((0, 1, 2, 2, 3, 3, 4)) if depth else rng.randint(1, max(5, self.left // 5))
        members: list[Any] = []
        inside = list(seen)
        for _ in range(width if self.hollow else max(width, 1)):
            if self.left <= 0 and (members or self.hollow):
                break
            if depth < 4 and self.chance(0.35):
                member: Any = self.group(depth + 1, inside, around, shadow=shadow)
            else:
                member = self.job(inside, around, shadow=shadow)
            members.append(member)
            if kind != UNORDERED:
                inside.extend(name for atom in atoms_in(member) for name in outputs(atom))
        links, order = self.linked(len(members)) if kind == GRAPH else ([], list(range(len(members))))
        return Group(kind, self.name("f"), tuple(members), retry, tuple(links), tuple(order))

    def linked(self, count: int) -> tuple[list[Link], list[int]]:
        """Make the links of a graph flow, and the order in which its members are added."""
        links = [self.link(u, v) for v in range(1, count) for u in range(v) if self.chance(0.35)]
        order = list(range(count))
        if self.chance(0.5):
            self.rng.shuffle(order)
        return links, order

    def link(self, u: int, v: int) -> Link:
        if self.hollow or self.chance(0.4):
            return Link(u, v)
        verdict = self.rng.choice(("yes", "no", "no", "odd", "odd", "raise" if self.chance(self.trouble) else "yes"))
        return Link(u, v, verdict, self.rng.choice((None, "ALL", "FLOW", "NEIGHBORS", "ATOM")))


def random_spec(rng: random.Random, size: int | None = None) -> Spec:
    """Make a random spec."""
    return Maker(rng, rng.randint(1, 18) if size is None else size).spec()


def calm(spec: Spec) -> Spec:
    """Return the spec without interrupts and without reverts that fail."""

    def quiet(node: Any) -> Any:
        if isinstance(node, Job):
            return replace(node, stuck=0, interrupted=0)
        retry = None if node.retry is None else replace(node.retry, stuck=0)
        return replace(node, members=tuple(map(quiet, node.members)), retry=retry)

    return replace(spec, root=quiet(spec.root))
