"""Random flows as plain data, for two packages to run.

Nothing here imports an engine: the two processes that run a case each make it from its seed, or get it as a value. The
nesting (`Group`, `Link`) is that of the model tests; tasks and retries say more than theirs, since here there is
something to compare with for all of it: signatures, rebinding, injection, calls that fail by number.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any

from tests.model.specs import (
    CUSTOM,
    EACH,
    GRAPH,
    LINEAR,
    PARAMETER,
    REVERT,
    REVERT_ALL,
    TIMES,
    UNORDERED,
    Group,
    Link,
)

#: as the number of a call: it and all after it fail
EVER = 1000
ITERATED, PLAIN = "iterated", "plain"


@dataclass(frozen=True)
class Takes:
    """The signature of a method: arguments without default, with one, and whether it has `**more`."""

    needs: tuple[str, ...] = ()
    may: tuple[str, ...] = ()
    more: bool = False


@dataclass(frozen=True)
class Step:
    """A task.

    `undo` is the signature of its revert less `told`, which of `result` and `flow_failures` that takes; None when it
    has no revert of its own. `gives` is what `provides` is given: a tuple by position, a frozenset by key, a str whole;
    `parts` is how many of a tuple or set it returns (None: all of them; -1: something that has no parts). `fails` and
    `stuck` are the numbers of the calls of execute and revert that raise, from 1; EVER for all.
    """

    name: str
    do: Takes = Takes()
    undo: Takes | None = Takes()
    told: tuple[str, ...] = ("result", "flow_failures")
    gives: Any = None
    parts: int | None = None
    rebind: Any = None
    requires: tuple[str, ...] | None = None
    undo_rebind: Any = None
    undo_requires: tuple[str, ...] | None = None
    inject: tuple[tuple[str, Any], ...] = ()
    ignore: tuple[str, ...] = ()
    extract: bool = True
    fails: tuple[int, ...] = ()
    stuck: tuple[int, ...] = ()
    priority: int = 0


@dataclass(frozen=True)
class Control:
    """A retry.

    `watched`: a subclass that notes what its methods get. `values` are those of ForEach, or the name under which
    those of ParameterizedForEach are found. `decisions` are those of a custom one by attempt, the last one for all
    further ones, "RAISE" for an error and "NONSENSE" for what is no decision; its execute fails at the attempts in
    `fails`, its revert at the calls in `stuck`.
    """

    name: str
    kind: str = TIMES
    attempts: int = 1
    values: Any = None
    revert_all: bool = False
    decisions: tuple[str, ...] = ()
    gives: Any = None
    needs: tuple[str, ...] = ()
    rebind: Any = None
    fails: tuple[int, ...] = ()
    stuck: tuple[int, ...] = ()
    priority: int = 0
    watched: bool = False


@dataclass(frozen=True)
class Leg:
    """A run that is to be suspended.

    `stop` is ("step", n) to send True at the n-th step of `run_iter`, or ("atom", name, state, n) to call
    `engine.suspend()` from a listener when that atom enters the state for the n-th time. `fresh`: the leg is run by a
    new engine over the same flow detail.
    """

    stop: Any
    how: str = PLAIN
    fresh: bool = False


@dataclass(frozen=True)
class Case:
    """A flow, what is given with it, and how it is run.

    `removed`: what the injected values are replaced by, and whether that happens only once the flow has been prepared.

    After the legs, as long as the flow is suspended, it is run to its end, on a new engine if `fresh`; then, if `again`
    says so, once more: "run" as it is, "reset" after a reset, "fresh" on a new engine.
    """

    root: Group
    store: tuple[tuple[str, Any], ...] = ()
    later: tuple[tuple[str, Any, bool], ...] = ()  # storage.inject: name, value, whether transient
    atom_args: tuple[tuple[str, str, Any, bool], ...] = ()  # storage.inject_atom_args: atom, name, value, transient
    workers: int = 0  # of the parallel engine; 0 for the serial one
    pool: bool = False  # whether the caller brings the executor
    options: tuple[tuple[str, Any], ...] = ()
    legs: tuple[Leg, ...] = ()
    how: str = PLAIN
    fresh: bool = False
    again: str | None = None
    removed: tuple[tuple[tuple[str, Any], ...], bool] | None = None

    def option(self, name: str) -> Any:
        return dict(self.options).get(name)


def atoms_of(node: Any) -> list[Step | Control]:
    """Return the atoms of a node, each retry before what it controls."""
    if not isinstance(node, Group):
        return [node]
    found: list[Step | Control] = [] if node.retry is None else [node.retry]
    for member in node.members:
        found += atoms_of(member)
    return found


def names_of(gives: Any) -> tuple[str, ...]:
    """Return the names that something provides."""
    if gives is None:
        return ()
    return (gives,) if isinstance(gives, str) else tuple(sorted(gives) if isinstance(gives, frozenset) else gives)


@dataclass
class Mood:
    """How likely each thing is in one case."""

    retry: float = 0.25
    decider: float = 0.0
    wiring: float = 0.15
    trouble: float = 0.15  # that an execute fails
    stuck: float = 0.0  # that a revert fails
    odd: float = 0.0  # that a retry or decider does what it must not
    shadow: float = 0.1
    hollow: float = 0.03
    short: float = 0.0
    lacking: float = 0.0
    options: dict[str, float] = field(default_factory=lambda: {"defer_reverts": 0.08, "inject_transient": 0.1})


MOODS = {
    "plain": (25, Mood()),
    "retries": (25, Mood(retry=0.6, trouble=0.3, wiring=0.1)),
    "deciders": (20, Mood(decider=0.6, retry=0.2, trouble=0.12)),
    "wiring": (15, Mood(wiring=0.8, shadow=0.3, lacking=0.02, trouble=0.1, short=0.06)),
    "trouble": (10, Mood(retry=0.4, decider=0.2, trouble=0.25, stuck=0.15, odd=0.2)),
    "never": (5, Mood(retry=0.3, decider=0.2, trouble=0.15, options={"never_resolve": 1.0})),
}


class Maker:
    """Makes one random case."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        weights = [weight for weight, _ in MOODS.values()]
        self.mood_name = rng.choices(list(MOODS), weights)[0]
        self.mood = MOODS[self.mood_name][1]
        self.left = rng.randint(1, rng.choice((4, 8, 8, 14)))
        self.counts = {"t": 0, "r": 0, "f": 0, "v": 0, "x": 0}
        self.store: dict[str, Any] = {f"s{n}": f"s{n}" for n in range(rng.randrange(3))}
        self.extra: list[str] = []

    def name(self, kind: str) -> str:
        self.counts[kind] += 1
        return f"{kind}{self.counts[kind]}"

    def chance(self, p: float) -> bool:
        return p > 0 and self.rng.random() < p

    # -- the whole ---------------------------------------------------------------------------------

    def case(self) -> Case:
        root = self.group(0, list(self.store), ())
        rng = self.rng
        atoms = atoms_of(root)
        later = []
        atom_args = []
        for name in list(self.store):
            if self.chance(0.15):
                later.append((name, self.store.pop(name), self.chance(0.5)))
            elif self.chance(0.05):
                later.append((name, f"{name}'", self.chance(0.5)))
        for atom in atoms:
            if isinstance(atom, Step) and atom.do.needs and self.chance(0.08 * self.mood.wiring):
                needed = rng.choice(atom.do.needs)
                if atom.rebind is None:
                    atom_args.append((atom.name, needed, f"for-{atom.name}", self.chance(0.5)))
        workers = rng.choice((1, 2, 2, 3, 4)) if self.chance(0.25) else 0
        if workers:
            root = steadied(root)
        suspensions = rng.choice((1, 1, 2, 3)) if self.chance(0.25) else 0
        options = tuple((name, name != "inject_transient") for name, p in self.mood.options.items() if self.chance(p))
        return Case(
            root,
            tuple(self.store.items()),
            tuple(later),
            tuple(atom_args),
            workers,
            self.chance(0.5),
            options,
            tuple(self.leg(atoms, fresh=n > 0 and self.chance(0.5)) for n in range(suspensions)),
            rng.choice((PLAIN, PLAIN, ITERATED)),
            fresh=suspensions > 0 and self.chance(0.5),
            again=rng.choice(("run", "reset", "fresh")) if self.chance(0.05) else None,
        )

    def leg(self, atoms: list[Any], *, fresh: bool) -> Leg:
        rng = self.rng
        if self.chance(0.4) or not atoms:
            return Leg(("step", rng.randint(1, 4 * len(atoms) + 4)), ITERATED, fresh)
        state = rng.choice(("RUNNING", "RUNNING", "SUCCESS", "SUCCESS", "FAILURE", "REVERTING", "REVERTED", "RETRYING"))
        return Leg(("atom", rng.choice(atoms).name, state, rng.choice((1, 1, 2))), rng.choice((PLAIN, ITERATED)), fresh)

    # -- flows -------------------------------------------------------------------------------------

    def group(self, depth: int, seen: list[str], around: tuple[Control, ...]) -> Group:
        """Make a flow; `seen` are the names that it may need, to which what it gives is not added."""
        rng = self.rng
        kind = rng.choice((LINEAR, UNORDERED, GRAPH, GRAPH if self.mood.decider else LINEAR))
        retry = self.retry(seen) if self.chance(self.mood.retry) else None
        inside = list(seen)
        if retry is not None:
            around = (*around, retry)
            inside += names_of(retry.gives)
        width = rng.choice((1, 2, 2, 3, 3, 4)) if depth else rng.randint(1, max(4, self.left // 3))
        if self.chance(self.mood.hollow):
            width = 0
        members: list[Any] = []
        for _ in range(width):
            if self.left <= 0 and members:
                break
            if depth < 4 and self.chance(0.35):
                member: Any = self.group(depth + 1, inside, around)
            else:
                member = self.step(inside, around, shadow=kind != GRAPH)
            members.append(member)
            if kind != UNORDERED:
                inside.extend(name for atom in atoms_of(member) for name in names_of(atom.gives))
        links: list[Link] = []
        order = list(range(len(members)))
        if kind == GRAPH:
            links = [self.link(u, v) for v in range(1, len(members)) for u in range(v) if self.chance(0.35)]
            if self.chance(0.5):
                rng.shuffle(order)
        return Group(kind, self.name("f"), tuple(members), retry, tuple(links), tuple(order))

    def link(self, u: int, v: int) -> Link:
        if not self.chance(self.mood.decider):
            return Link(u, v)
        verdict = self.rng.choice(("yes", "no", "no", "odd", "odd"))
        if self.chance(self.mood.odd * 0.5):
            verdict = "raise"
        return Link(u, v, verdict, self.rng.choice((None, "ALL", "FLOW", "NEIGHBORS", "ATOM")))

    # -- atoms -------------------------------------------------------------------------------------

    def needs(self, seen: list[str], most: int = 3) -> tuple[str, ...]:
        if self.chance(self.mood.lacking):
            return ("missing",)
        if not seen or self.chance(0.4):
            return ()
        near = seen[-4:] if self.chance(0.6) else seen
        return tuple(dict.fromkeys(self.rng.choice(near) for _ in range(self.rng.randint(1, most))))

    def gives(self, seen: list[str], *, shadow: bool) -> Any:
        rng = self.rng
        if not self.chance(0.7):
            return None
        first = rng.choice(seen) if shadow and seen and self.chance(self.mood.shadow) else self.name("v")
        kind = rng.random()
        if kind < 0.7:
            return first
        names = (first, *(self.name("v") for _ in range(rng.randint(0, 2))))
        return names if kind < 0.9 else frozenset(names)

    def calls(self, p: float) -> tuple[int, ...]:
        """Return the numbers of calls that fail."""
        if not self.chance(p):
            return ()
        return self.rng.choice(((1,), (1,), (1,), (2,), (1, 2), (1, 3), (EVER,), (EVER,)))

    def step(self, seen: list[str], around: tuple[Control, ...], *, shadow: bool) -> Step:
        rng, mood = self.rng, self.mood
        self.left -= 1
        needs = self.needs(seen)
        gives = self.gives(seen, shadow=shadow)
        parts = None
        if gives is not None and not isinstance(gives, str) and self.chance(mood.short):
            parts = rng.choice((-1, 0, len(gives) - 1, len(gives) + 1))
        facts: dict[str, Any] = {
            "gives": gives,
            "parts": parts,
            "fails": self.calls(mood.trouble * (1.3 if around else 0.6)),
            "stuck": self.calls(mood.stuck),
            "priority": rng.randint(-1, 2) if self.chance(0.1) else 0,
        }
        if self.chance(mood.wiring):
            return self.wired(needs, seen, facts)
        do = Takes(needs)
        undo: Takes | None = do if self.chance(0.5) else Takes(more=True)
        if self.chance(0.08):
            undo = None
        return Step(self.name("t"), do, undo, **facts)

    def wired(self, needs: tuple[str, ...], seen: list[str], facts: dict[str, Any]) -> Step:
        """Make a task that gets its arguments in some uncommon way."""
        rng = self.rng
        args = tuple(self.name("x") if self.chance(0.5) else need for need in needs)
        renamed = {arg: need for arg, need in zip(args, needs, strict=True) if arg != need}
        do = Takes(args)
        rebind: Any = renamed or None
        requires = None
        if needs and self.chance(0.3):
            args, rebind = tuple(self.name("x") for _ in needs), rng.choice((list, tuple))(needs)
            do, renamed = Takes(args), dict(zip(args, needs, strict=True))
            if self.chance(0.3) and seen:
                rebind = type(rebind)([*needs, rng.choice([*seen, "s0"])])
                do = Takes(args, (), more=self.chance(0.9))
        elif needs and not renamed and self.chance(0.3):
            requires, do = needs, Takes((), (), more=True)
        may = ()
        if self.chance(0.3):
            may = (rng.choice([*seen, "absent"]),)
            may = tuple(name for name in may if name not in do.needs and name not in renamed.values())
        do = Takes(do.needs, may, do.more)
        inject: tuple[tuple[str, Any], ...] = ()
        if do.needs and self.chance(0.25):
            arg = rng.choice(do.needs)
            inject = ((renamed.get(arg, arg), f"in-{arg}"),)
        elif self.chance(0.05):
            inject = (("unused", 1),) if do.more else ()  # refused here where no method takes it
        told = rng.choice(((("result", "flow_failures"),) * 6) + (("result",), ("flow_failures",), ()))
        undo_rebind: Any = None
        undo_requires = None
        kind = rng.random()
        if kind < 0.4:
            undo = Takes(do.needs, (), more=self.chance(0.5))
        elif kind < 0.6:
            undo = Takes(more=True)
        elif kind < 0.8 and seen:
            other = self.name("x")
            undo, undo_rebind = Takes((other,), (), more=self.chance(0.3)), {other: rng.choice(seen)}
            if rebind is None and not renamed and self.chance(0.2):
                undo_rebind = list(undo_rebind.values())
        elif kind < 0.9 and seen:
            undo, undo_requires = Takes(more=True), (rng.choice(seen),)
        else:
            undo = Takes((), (rng.choice([*seen, "absent"]),), more=self.chance(0.3))
            if set(undo.may) & {*told}:
                undo = Takes(more=True)
        if (requires or isinstance(rebind, (list, tuple))) and not self.chance(0.05):
            undo = Takes(undo.needs, undo.may, more=True)  # TaskFlow asks it to take what execute is given by these
        ignore = (rng.choice(args),) if args and self.chance(0.03) and not isinstance(rebind, (list, tuple)) else ()
        return Step(
            self.name("t"),
            do,
            undo,
            told,
            rebind=rebind,
            requires=requires,
            undo_rebind=undo_rebind,
            undo_requires=undo_requires,
            inject=inject,
            ignore=ignore,
            extract=not self.chance(0.03),
            **facts,
        )

    def retry(self, seen: list[str]) -> Control:
        rng, mood = self.rng, self.mood
        kind = rng.choice((TIMES, TIMES, TIMES, EACH, PARAMETER, REVERT, REVERT_ALL, CUSTOM, CUSTOM, CUSTOM))
        attempts = rng.choice((1, 2, 2, 3))
        name = self.name("r")
        facts: dict[str, Any] = {"gives": None if self.chance(0.3) else self.name("v"), "watched": self.chance(0.6)}
        if kind == EACH:
            facts["values"] = tuple(rng.choice(("a", "b", "c", "c")) for _ in range(attempts))
        elif kind == PARAMETER:
            given = f"values_{name}"
            self.store[given] = tuple(rng.choice(("a", "b", "c")) for _ in range(attempts))
            facts["rebind"] = {"values": given}
        elif kind == CUSTOM:
            last = rng.choice(("REVERT", "REVERT", "REVERT_ALL"))
            if self.chance(mood.odd):
                last = rng.choice(("RAISE", "RAISE", "NONSENSE"))
            facts["decisions"] = (*("RETRY" for _ in range(attempts - 1)), last)
            if self.chance(0.12):
                facts["fails"] = (rng.randint(1, 2),)
            if self.chance(mood.stuck):
                facts["stuck"] = (1,)
            facts["needs"] = self.needs(seen, 2) if self.chance(0.3) else ()
            if isinstance(facts["gives"], str) and self.chance(0.15):
                facts["gives"] = (facts["gives"], self.name("v"))
            facts["watched"] = True
        return Control(
            name,
            kind,
            attempts,
            revert_all=kind in (TIMES, EACH, PARAMETER) and self.chance(0.2),
            priority=rng.randint(-1, 1) if self.chance(0.05) else 0,
            **facts,
        )


def steadied(node: Any) -> Any:
    """Return a flow that ends in one way in threads too: what fails does so while nothing but single calls runs.

    A flow with such a member, and others that are more than a task, becomes a linear one.
    """
    if not isinstance(node, Group):
        return node
    members = tuple(map(steadied, node.members))
    single = sum(isinstance(member, Step) for member in members)
    if node.kind == LINEAR or not any(map(_may_fail, members)) or (node.kind == UNORDERED and single == len(members)):
        return replace(node, members=members)
    return Group(LINEAR, node.name, members, node.retry, (), tuple(range(len(members))))


def _may_fail(node: Any) -> bool:
    for atom in atoms_of(node):
        if atom.fails or atom.stuck:
            return True
        if isinstance(atom, Step) and (atom.parts is not None or len(atom.told) < 2):
            return True
    return isinstance(node, Group) and "raise" in repr(node)


def linked_by_hand(node: Any, rng: random.Random) -> Any:
    """Return a flow in which some graph flows do without links by names, and are linked by hand instead."""
    if not isinstance(node, Group):
        return node
    node = replace(node, members=tuple(linked_by_hand(member, rng) for member in node.members))
    if node.kind != GRAPH or rng.random() < 0.6:
        return node
    resolve = rng.choice(((False, True), (False, True), (True, False), (False, False)))
    links = node.links
    if rng.random() < 0.6:  # a row of all members, less what is linked already
        known = {(link.u, link.v) for link in links}
        links += tuple(Link(v - 1, v) for v in range(1, len(node.members)) if (v - 1, v) not in known)
    return replace(node, resolve=resolve, together=rng.random() < 0.6, links=links)


def altered(case: Case, rng: random.Random) -> Case:
    """Return a case with links by hand and removed values; drawn apart, so that the rest of a seed stays as it is."""
    case = replace(case, root=linked_by_hand(case.root, rng))
    if not case.store or rng.random() < 0.9 or any(transient for _, _, transient in case.later):
        return case  # TaskFlow does not find a transient value any more once the kept ones have been replaced
    kept = tuple((name, f"{value}, again") for name, value in case.store if rng.random() < 0.4)
    return replace(case, removed=(kept, rng.random() < 0.5))


def make(seed: int) -> Case:
    """Make the case of a seed."""
    return altered(Maker(random.Random(seed)).case(), random.Random(f"links {seed}"))


__all__ = [
    "CUSTOM",
    "EACH",
    "EVER",
    "GRAPH",
    "ITERATED",
    "LINEAR",
    "PARAMETER",
    "PLAIN",
    "REVERT",
    "REVERT_ALL",
    "TIMES",
    "UNORDERED",
    "Case",
    "Control",
    "Group",
    "Leg",
    "Link",
    "Step",
    "Takes",
    "atoms_of",
    "make",
    "names_of",
]
