"""Random changes of a spec, as a new version of a program makes them between a crash and the resume.

Atoms keep their names, so what is on record of them counts in the changed flow. `tidy` then takes out of the changed
spec what it cannot have any more: a need that nobody provides, a second provider of a name, a failure that depends on a
retry that is gone.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tests.model import specs
from tests.model.specs import GRAPH, LINEAR, UNORDERED, Again, Group, Job, Link, Spec

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


def groups_in(node: Any) -> list[Group]:
    """Return the flows of a spec, each before those nested in it."""
    if isinstance(node, Job):
        return []
    return [node, *(group for member in node.members for group in groups_in(member))]


def rewritten(node: Any, name: str, change: Callable[[Any], Any]) -> Any:
    """Return a tree in which the atom or flow of a name is another one."""
    if node.name == name:
        return change(node)
    if isinstance(node, Job):
        return node
    return replace(node, members=tuple(rewritten(member, name, change) for member in node.members))


def failing(spec: Spec, name: str) -> Spec:
    """Return the spec with a task that fails whenever it is executed."""
    return replace(spec, root=rewritten(spec.root, name, lambda job: replace(job, fails=specs.ALWAYS)))


def without_failures(spec: Spec, *, curable: bool) -> Spec:
    """Return the spec without tasks that always fail; `curable` says whether those that retries can cure stay."""

    def well(node: Any) -> Any:
        if isinstance(node, Job):
            return replace(node, fails=node.fails if curable and node.fails != specs.ALWAYS else ())
        retry = node.retry if curable or node.retry is None else replace(node.retry, fails=())
        return replace(node, members=tuple(map(well, node.members)), retry=retry)

    return replace(spec, root=well(spec.root))


class Changer:
    """Makes random changes of one spec."""

    def __init__(self, rng: random.Random, spec: Spec, kinds: tuple[str, ...] = ()) -> None:
        self.rng = rng
        self.spec = spec
        self.kinds = kinds or KINDS
        self.made: list[str] = []
        self.count = 0

    def change(self, times: int) -> Spec:
        """Make so many changes; `made` tells which."""
        for _ in range(times * 4):
            kind = self.rng.choice(self.kinds)
            root = getattr(self, "_" + kind)()
            if root is not None:
                self.spec = tidy(replace(self.spec, root=root))
                self.made.append(kind)
            if len(self.made) == times:
                break
        return self.spec

    def _name(self, kind: str) -> str:
        self.count += 1
        return f"{kind}{self.count}"

    def _groups(self, least: int = 0, kind: str | None = None) -> list[Group]:
        found = groups_in(self.spec.root)
        return [g for g in found if len(g.members) >= least and (kind is None or g.kind == kind)]

    def _pick(self, found: list[Any]) -> Any:
        return self.rng.choice(found) if found else None

    def _put(self, group: Group | None, change: Callable[[Group], Any]) -> Any:
        return None if group is None else rewritten(self.spec.root, group.name, change)

    def _job(self) -> Job:
        """Make a new task, which needs any names that there are; `tidy` leaves those that it can have."""
        names = [*self.spec.store, *(n for a in specs.atoms_in(self.spec.root) for n in specs.outputs(a))]
        needs = tuple(self.rng.sample(names, min(len(names), self.rng.randrange(4))))
        return Job(self._name("n"), needs, self._name("w") if self.rng.random() < 0.5 else None)

    # -- what is added ---------------------------------------------------------------------------------

    def _add_first(self) -> Any:
        return self._put(self._pick(self._groups()), lambda g: self._inserted(g, 0, self._job()))

    def _add_between(self) -> Any:
        return self._put(
            self._pick(self._groups(2)),
            lambda g: self._inserted(g, self.rng.randint(1, len(g.members) - 1), self._job()),
        )

    def _add_last(self) -> Any:
        return self._put(self._pick(self._groups()), lambda g: self._inserted(g, len(g.members), self._job()))

    def _add_flow(self) -> Any:
        jobs = tuple(self._job() for _ in range(self.rng.randint(1, 3)))
        retry = Again(self._name("q"), specs.TIMES, 2) if self.rng.random() < 0.3 else None
        nested = Group(self.rng.choice((LINEAR, UNORDERED)), self._name("g"), jobs, retry)
        return self._put(
            self._pick(self._groups()), lambda g: self._inserted(g, self.rng.randint(0, len(g.members)), nested)
        )

    def _inserted(self, group: Group, place: int, member: Any) -> Group:
        members = (*group.members[:place], member, *group.members[place:])
        if group.kind != GRAPH:
            return replace(group, members=members)

        def moved(position: int) -> int:
            return position + (position >= place)

        links = [replace(link, u=moved(link.u), v=moved(link.v)) for link in group.links]
        links += [Link(u, place) for u in range(place) if self.rng.random() < 0.4]
        links += [Link(place, v) for v in range(place + 1, len(members)) if self.rng.random() < 0.4]
        order = [moved(position) for position in group.order]
        order.insert(self.rng.randint(0, len(order)), place)
        return replace(group, members=members, links=tuple(links), order=tuple(order))

    # -- what is taken away, or is another one ------------------------------------------------------------

    def _remove(self) -> Any:
        group = self._pick(self._groups(2))
        return self._put(group, lambda g: _removed(g, self.rng.randrange(len(g.members))))

    def _rename(self) -> Any:
        job = self._pick([atom for atom in specs.atoms_in(self.spec.root) if isinstance(atom, Job)])
        name = self._name("n")
        return None if job is None else rewritten(self.spec.root, job.name, lambda old: replace(old, name=name))

    def _reorder(self) -> Any:
        def swapped(group: Group) -> Group:
            place = self.rng.randrange(len(group.members) - 1)
            members = list(group.members)
            members[place : place + 2] = members[place + 1], members[place]
            return replace(group, members=tuple(members))

        return self._put(self._pick([g for g in self._groups(2) if g.kind != UNORDERED]), swapped)

    def _move(self) -> Any:
        """Move a task from one flow to another one."""
        source = self._pick([g for g in self._groups(2) if any(isinstance(m, Job) for m in g.members)])
        if source is None:
            return None
        place = self._pick([n for n, m in enumerate(source.members) if isinstance(m, Job)])
        job = source.members[place]
        root = rewritten(self.spec.root, source.name, lambda g: _removed(g, place))
        target = self._pick(groups_in(root))
        return rewritten(root, target.name, lambda g: self._inserted(g, self.rng.randint(0, len(g.members)), job))

    # -- how it hangs together -------------------------------------------------------------------------------

    def _link(self) -> Any:
        return self._put(self._pick(self._groups(2, GRAPH)), lambda g: self._linked(g, None))

    def _decide(self) -> Any:
        verdict = self.rng.choice(("yes", "no", "odd"))
        return self._put(self._pick(self._groups(2, GRAPH)), lambda g: self._linked(g, verdict))

    def _linked(self, group: Group, verdict: str | None) -> Group:
        u, v = sorted(self.rng.sample(range(len(group.members)), 2))
        depth = None if verdict is None else self.rng.choice((None, "ALL", "FLOW", "NEIGHBORS", "ATOM"))
        links = [link for link in group.links if (link.u, link.v) != (u, v)]
        return replace(group, links=(*links, Link(u, v, verdict, depth)))

    def _unlink(self) -> Any:
        group = self._pick([g for g in self._groups(2, GRAPH) if g.links])
        return self._put(
            group, lambda g: replace(g, links=tuple(x for x in g.links if x is not self._pick(list(g.links))))
        )

    def _need(self) -> Any:
        job = self._pick([atom for atom in specs.atoms_in(self.spec.root) if isinstance(atom, Job)])
        names = [*self.spec.store, *(n for a in specs.atoms_in(self.spec.root) for n in specs.outputs(a))]
        if job is None or not names:
            return None
        needs = tuple(dict.fromkeys((*job.needs, self.rng.choice(names))))
        return rewritten(self.spec.root, job.name, lambda old: replace(old, needs=needs))

    def _give(self) -> Any:
        found = [atom for atom in specs.atoms_in(self.spec.root) if isinstance(atom, Job) and atom.gives is None]
        job, name = self._pick(found), self._name("w")
        return None if job is None else rewritten(self.spec.root, job.name, lambda old: replace(old, gives=name))

    def _take_away(self) -> Any:
        """Have a task provide nothing any more."""
        jobs = [atom for atom in specs.atoms_in(self.spec.root) if isinstance(atom, Job) and atom.gives is not None]
        job = self._pick(jobs)
        return None if job is None else rewritten(self.spec.root, job.name, lambda old: replace(old, gives=None))

    def _take_nothing(self) -> Any:
        """Have a task need nothing any more."""
        jobs = [atom for atom in specs.atoms_in(self.spec.root) if isinstance(atom, Job) and atom.needs]
        job = self._pick(jobs)
        return None if job is None else rewritten(self.spec.root, job.name, lambda old: replace(old, needs=()))

    def _retype(self) -> Any:
        def retyped(group: Group) -> Group:
            kind = self.rng.choice([k for k in (LINEAR, UNORDERED, GRAPH) if k != group.kind])
            count = len(group.members)
            links: tuple[Link, ...] = ()
            if kind == GRAPH:
                links = tuple(Link(v - 1, v) for v in range(1, count) if self.rng.random() < 0.7)
            return replace(group, kind=kind, links=links, order=tuple(range(count)))

        return self._put(self._pick(self._groups(1)), retyped)

    def _nest(self) -> Any:
        """Put neighbours into a flow of their own."""

        def nested(group: Group) -> Group:
            count = len(group.members)
            low = self.rng.randrange(count)
            high = self.rng.randint(low + 1, count)
            inner = Group(
                group.kind if group.kind != GRAPH else LINEAR, self._name("g"), group.members[low:high], self._retry()
            )
            return replace(group, members=(*group.members[:low], inner, *group.members[high:]))

        return self._put(self._pick([g for g in self._groups(1) if g.kind != GRAPH]), nested)

    def _retry(self, likely: float = 0.4) -> Again | None:
        if self.rng.random() >= likely:
            return None
        kind = self.rng.choice((specs.TIMES, specs.EACH, specs.REVERT, specs.CUSTOM))
        return Again(self._name("q"), kind, 2, decisions=("RETRY", "REVERT") if kind == specs.CUSTOM else ())

    def _add_retry(self) -> Any:
        group = self._pick([g for g in self._groups(1) if g.retry is None])
        return self._put(group, lambda g: replace(g, retry=self._retry(1)))

    def _remove_retry(self) -> Any:
        group = self._pick([g for g in self._groups() if g.retry is not None])
        return self._put(group, lambda g: replace(g, retry=None))


KINDS = tuple(
    name.removeprefix("_")
    for name in (
        "_add_first",
        "_add_first",
        "_add_between",
        "_add_last",
        "_add_flow",
        "_remove",
        "_rename",
        "_reorder",
        "_move",
        "_link",
        "_unlink",
        "_decide",
        "_need",
        "_give",
        "_take_away",
        "_take_nothing",
        "_retype",
        "_nest",
        "_add_retry",
        "_remove_retry",
    )
)


def _removed(group: Group, place: int) -> Group:
    members = (*group.members[:place], *group.members[place + 1 :])
    if group.kind != GRAPH:
        return replace(group, members=members)

    def moved(position: int) -> int:
        return position - (position > place)

    links = tuple(
        replace(link, u=moved(link.u), v=moved(link.v)) for link in group.links if place not in (link.u, link.v)
    )
    order = tuple(moved(position) for position in group.order if position != place)
    return replace(group, members=members, links=links, order=order)


class _Tidier:
    """Goes through a spec once, knowing which names are provided so far."""

    def __init__(self, names: Any) -> None:
        self._taken = set(names)

    def _own(self, name: str) -> str:
        while name in self._taken:
            name += "x"
        self._taken.add(name)
        return name

    def job(self, job: Job, seen: list[str], around: tuple[str, ...]) -> Job:
        gives, fails = job.gives, job.fails
        if isinstance(gives, str):
            gives = self._own(gives)
        elif gives is not None:
            gives = tuple(map(self._own, gives))
        if fails != specs.ALWAYS:
            fails = tuple((retry, n) for retry, n in fails if retry in around)
        return replace(job, needs=tuple(n for n in job.needs if n in seen), gives=gives, fails=fails)

    def group(self, group: Group, seen: list[str], around: tuple[str, ...]) -> Group:
        retry = group.retry
        if retry is not None:
            self._taken.add(retry.name)
            retry = replace(retry, needs=tuple(n for n in retry.needs if n in seen))
            around = (*around, retry.name)
        members: list[Any] = []
        inside = list(seen)
        for member in group.members:
            make: Any = self.job if isinstance(member, Job) else self.group
            members.append(make(member, inside, around))
            if group.kind != UNORDERED:
                inside.extend(name for atom in specs.atoms_in(members[-1]) for name in specs.outputs(atom))
        return replace(group, retry=retry, members=tuple(members))


def tidy(spec: Spec) -> Spec:
    """Return the spec without what it cannot have: needs that nobody provides, names that are provided twice."""
    return replace(spec, root=_Tidier(spec.store).group(spec.root, list(spec.store), ()))
