"""A run goes on in a flow that is not the one that it began with: what is done stays done, and is undone once.

A random flow is run on a store that dies at some commit, or is suspended. The flow is then changed at random
(`changes`), and the run goes on from what was stored, now and then through further deaths. Rules:

- What is on record as done is not executed again, unless it has been undone before.
- What is executed comes after all that precedes it in the flow as it is now.
- What stands is undone at most once, and only when nothing that comes after it stands any more.
- The end of the run agrees with what was called: SUCCESS stands, REVERTED and PENDING do not.
- What the flow does not hold any more is neither executed nor undone, and a rollback names it when its effect stands.
- The flow ends as `Resumed` works out from the record, where that does not depend on the order of calls.

TASKFLOWX_CHANGED_FLOWS=10000 (with --timeout=0) looks at so many cases, from the seed in TASKFLOWX_CHANGED_SEED on.
`python -m tests.model.test_changed_flows COUNT FIRST` prints the seeds that fail, by kind; `... show SEED` one case.
"""

from __future__ import annotations

import collections
import logging
import os
import random
import re
import sys
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from taskflowx import engines, exceptions, states, testing
from taskflowx.persistence import models
from tests.model import build, changes, oracle, specs
from tests.model.test_durable import Killed, Store

COUNT = int(os.environ.get("TASKFLOWX_CHANGED_FLOWS", "400"))
FIRST = int(os.environ.get("TASKFLOWX_CHANGED_SEED", "0"))
BATCHES = 4

NO, MAYBE, YES = "does not stand", "may stand", "stands"
#: what is known of the effect of a task from its state on record
KNOWN = {
    states.SUCCESS: YES,
    states.FAILURE: MAYBE,
    states.RUNNING: MAYBE,
    states.REVERTING: MAYBE,
    states.REVERT_FAILURE: MAYBE,
}
UNFINISHED = (states.PENDING, states.RUNNING, states.SUSPENDED)


@dataclass
class Case:
    """What one seed stands for, and all that is wrong with what came of it."""

    seed: int
    before: specs.Spec
    after: specs.Spec
    changed: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    log: list[str] = field(default_factory=list)


class Watch(build.World):
    """Looks at each call, knowing of which tasks the effects stand."""

    def __init__(self, shape: specs.Shape, record: models.FlowDetail, store: Store, case: Case) -> None:
        super().__init__()
        self.crashed = True
        self._shape = shape
        self._case = case
        self._store = store
        self.stands = {name: NO for name, atom in shape.atoms.items() if isinstance(atom, specs.Job)}
        for detail in record:
            if detail.name in self.stands:
                self.stands[detail.name] = KNOWN.get(detail.state, NO)

    def count(self, verb: str, name: str) -> int:
        self._case.log.append(("+" if verb == "execute" else "-") + name)
        if name in self.stands:
            getattr(self, "_" + verb)(name)
        return super().count(verb, name)

    def _execute(self, name: str) -> None:
        if self.stands[name] == YES:
            self.wrong.append(f"{name} is executed, though it is done")
        for earlier in self._shape.before[name]:
            if self._store.state_of(earlier) not in (states.SUCCESS, states.IGNORE):
                self.wrong.append(f"{name} is executed before {earlier}, which is {self._store.state_of(earlier)}")
        self.stands[name] = YES

    def _revert(self, name: str) -> None:
        if self.stands[name] == NO:
            self.wrong.append(f"{name} is undone, though it does not stand")
        after = [other for other in self._shape.after[name] if self.stands.get(other) == YES]
        if after:
            self.wrong.append(f"{name} is undone before {sorted(after)}, which stand")
        self.stands[name] = NO


class Resumed(oracle.Oracle):
    """Works out the end of a run that goes on from a record, with tasks in a given order."""

    def __init__(self, shape: specs.Shape, record: models.FlowDetail, order: random.Random) -> None:
        super().__init__(shape)
        self._order = order
        for detail in record:
            if detail.name not in shape.atoms:
                continue
            if detail.KIND == "retry":
                self.attempts[detail.name] = len(detail.results)
            if detail.state == states.SUCCESS:
                self.state[detail.name] = oracle.SUCCESS
                self.results[detail.name] = detail.last_results
            elif detail.KIND == "retry" and detail.results and not detail.results[-1][1]:
                self.attempts[detail.name] -= 1  # it was cut off, and begins this attempt once more

    def predict(self) -> oracle.Ending:
        ready = super().predict
        names = list(self.state)
        self._order.shuffle(names)
        self.state = {name: self.state[name] for name in names}
        return ready()

    def _clear(self, region, state, keep=None):
        later = {s for name in region if name != keep for s in self.shape.after[name]} - set(region)
        super()._clear({*region, *(s for s in later if self.state[s] == oracle.SUCCESS)}, state, keep)


def predicted(shape: specs.Shape, record: models.FlowDetail, rng: random.Random) -> oracle.Ending | None:
    """Return how a run must end that goes on from a record; None when that cannot be told."""
    known = {detail.name: detail for detail in record if detail.name in shape.atoms}
    plain = all(
        detail.intention == states.EXECUTE and detail.state in (None, states.PENDING, states.RUNNING, states.SUCCESS)
        for detail in known.values()
    )
    if not plain or shape.votes:
        return None
    ends = [Resumed(shape, record, rng).predict() for _ in range(6)]
    if any(end.depends or (end.state, end.standing.keys()) != (ends[0].state, ends[0].standing.keys()) for end in ends):
        return None
    return ends[0]


class Told(logging.Handler):
    """Keeps what is logged."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.texts: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


class Leg:
    """One life of the process that runs a flow."""

    def __init__(self, case: Case, spec: specs.Spec, store: Store, rng: random.Random, stop: int) -> None:
        self.shape = specs.Shape(spec)
        self.record = models.FlowDetail("flow", "1") if store.flow is None else store.read()
        self.world = Watch(self.shape, self.record, store, case)
        self.told = Told()
        self.error: BaseException | None = None
        self.engine: Any = None
        self._case = case
        self._store = store
        self._stop = stop
        self._rng = rng

    def run(self) -> bool:
        """Run; returns whether the process has lived."""
        logger = logging.getLogger("taskflowx")
        level, disabled = logger.level, logger.disabled
        logger.addHandler(self.told)
        try:
            self._run()
        except Killed:
            self._case.log.append("killed")
            return False
        except (Exception, KeyboardInterrupt) as error:  # noqa: BLE001 - looked at below
            self.error = error
        finally:
            logger.removeHandler(self.told)
            logger.level, logger.disabled = level, disabled
            self._case.wrong += self.world.wrong
        return True

    def _run(self) -> None:
        shape, spec = self.shape, self.shape.spec
        self.engine = engines.load(
            build.make_flow(shape, self.world),
            build.make_store(shape),
            flow_detail=self.record,
            backend=self._store,
            engine="parallel",
            executor=testing.ScriptedExecutor(self._rng) if self._rng.random() < 0.5 else "serial",
            defer_reverts=spec.defer_reverts,
        )
        if self._stop:
            self.engine.atom_notifier.register("*", self._suspend)
        self.engine.run()

    def _suspend(self, event: str, details: Any) -> None:
        self._stop -= 1
        if not self._stop:
            self.engine.suspend()

    def ended(self, removed: dict[str, Any], want: oracle.Ending | None) -> list[str]:
        """Return what is wrong with the end."""
        final = self._store.read()
        wrong: list[str] = []
        if final.state not in (states.SUCCESS, states.REVERTED):
            wrong.append(f"the flow ended {final.state} with {type(self.error).__name__}: {self.error}"[:300])
        elif self.error is not None and not isinstance(
            self.error, specs.Broken | exceptions.NotFound | exceptions.WrappedFailure
        ):
            wrong.append(f"the flow is {final.state} and raised {self.error!r}")
        now = {detail.name: detail for detail in final}
        for name in self.shape.atoms:
            state = now[name].state
            if not _fits(state, final.state):
                wrong.append(f"the flow is {final.state} and {name} is {state}")
            stands = self.world.stands.get(name)
            if stands is not None and stands != MAYBE and (state == states.SUCCESS) != (stands == YES):
                wrong.append(f"{name} is {state} in the end, and its effect {stands}")
        if want is not None:
            standing = {name for name in self.shape.atoms if now[name].state == states.SUCCESS}
            if (final.state, standing) != (want.state, set(want.standing)):
                more, less = standing - set(want.standing), set(want.standing) - standing
                wrong.append(
                    f"the flow is {final.state}, not {want.state}; "
                    f"stands and should not: {sorted(more)}; should and does not: {sorted(less)}"
                )
        self._case.log.append(f"ended {final.state} {self.error!r}"[:200])
        return wrong + self._of_removed(removed, now, final.state)

    def _of_removed(self, removed: dict[str, Any], now: dict[str, Any], state: str | None) -> list[str]:
        wrong = []
        said = " ".join([*self.told.texts, *self.engine.not_undone(), *getattr(self.error, "__notes__", ())])
        words = set(re.findall(r"\w+", said))
        for name, was in removed.items():
            if name not in now or (now[name].state, now[name].results) != (was.state, was.results):
                wrong.append(f"what is on record of {name}, which is not in the flow, has changed")
            if state == states.REVERTED and name not in words:
                wrong.append(f"{name} is not in the flow, its effect stands, and nothing says so")
        return wrong


def _fits(state: str, flow: str | None) -> bool:
    if flow == states.SUCCESS:
        return state in (states.SUCCESS, states.IGNORE)
    if flow == states.REVERTED:
        return state in (states.SUCCESS, states.IGNORE, states.PENDING, states.REVERTED)
    return True


def first_spec(rng: random.Random) -> specs.Spec:
    """Make the flow with which a run begins."""
    spec = specs.calm(specs.random_spec(rng, rng.randint(2, 12)))
    spec = changes.tidy(replace(spec, never_resolve=False, go_on=False))
    doom = rng.random()
    return spec if doom < 0.2 else changes.without_failures(spec, curable=doom < 0.6)


def run_case(seed: int, kinds: tuple[str, ...] = ()) -> Case:
    """Run the case of a seed."""
    rng = random.Random(seed)
    spec = first_spec(rng)
    case = Case(seed, spec, spec)
    store = begun(case, rng)
    if store is None:
        return case
    changer = changes.Changer(rng, spec, kinds)
    spec = changer.change(rng.randint(1, 3))
    case.changed = changer.made
    record = {detail.name: detail for detail in store.read()}
    jobs = [atom.name for atom in specs.atoms_in(spec.root) if isinstance(atom, specs.Job)]
    waiting = [n for n in jobs if n not in record or record[n].state in (None, states.PENDING)]
    if waiting and rng.random() < 0.5:
        spec = changes.failing(spec, rng.choice(waiting))
    elif rng.random() < 0.5:
        spec = changes.without_failures(spec, curable=False)
    case.after = spec
    names = {atom.name for atom in specs.atoms_in(spec.root)}
    was = {atom.name: atom for atom in specs.atoms_in(case.before.root)}
    removed = {
        name: detail
        for name, detail in record.items()
        if name not in names and detail.state == states.SUCCESS and isinstance(was.get(name), specs.Job)
    }
    finish(case, store, rng, removed)
    return case


def begun(case: Case, rng: random.Random) -> Store | None:
    """Run the first flow until it dies or is suspended; None when it has come to an end that is of no use here."""
    store = Store()
    size = len(specs.Shape(case.before).atoms)
    dies = rng.random() < 0.6
    store.live(rng.randint(3, 2 * size + 4) if dies else 10**6, late=rng.random() < 0.5)
    leg = Leg(case, case.before, store, rng, 0 if dies else rng.randint(1, 2 * size + 2))
    leg.run()
    if case.wrong:
        case.wrong = [f"before the change: {text}" for text in case.wrong]
        return None
    state = store.read().state if store.flow is not None else None
    case.log.append(f"left {state}")
    return None if state not in (*UNFINISHED, states.SUCCESS) else store


def finish(case: Case, store: Store, rng: random.Random, removed: dict[str, Any]) -> None:
    """Run the changed flow to its end, through some deaths."""
    deaths = rng.choice((0, 0, 0, 1, 2))
    for n in range(10):
        if store.read().state in (states.REVERTED, states.FAILURE):
            return  # it died after that was on record
        store.live(rng.randint(1, 12) if n < deaths else 10**6, late=rng.random() < 0.5)
        leg = Leg(case, case.after, store, rng, 0)
        want = predicted(leg.shape, leg.record, rng)
        if leg.run() or case.wrong:
            case.wrong += leg.ended(removed, want) if not case.wrong else []
            return


def show(case: Case) -> str:
    """Return a case as text."""
    return "\n".join(
        [
            f"seed {case.seed}, changed: {case.changed}",
            *drawn(case.before, case.after),
            "calls: " + " ".join(case.log),
            *case.wrong,
        ]
    )


def drawn(before: specs.Spec, after: specs.Spec) -> list[str]:
    """Return both flows as lines of text."""
    return ["before:", *_lines(before.root, 1), "after:", *_lines(after.root, 1)]


def _lines(node: Any, depth: int) -> list[str]:
    indent = "  " * depth
    if isinstance(node, specs.Job):
        parts = [f"needs {node.needs}" if node.needs else "", f"gives {node.gives}" if node.gives else ""]
        parts.append(f"fails {node.fails}" if node.fails else "")
        return [indent + " ".join(part for part in (node.name, *parts) if part)]
    links = ", ".join(f"{x.u}->{x.v}{f' {x.verdict} {x.depth}' if x.verdict else ''}" for x in node.links)
    retry = ""
    if node.retry is not None:
        r = node.retry
        retry = f" retry {r.name} {r.kind} {r.attempts} {r.decisions or ''}{' revert_all' if r.revert_all else ''}"
    head = f"{indent}{node.kind} {node.name}{retry}{f' links {links}' if links else ''}"
    return [head, *(line for member in node.members for line in _lines(member, depth + 1))]


def kind_of(text: str) -> str:
    """Return what is wrong without names."""
    return re.sub(r"\b[tnrqfg]\d+\b", "X", text).split(": [")[0][:110]


@pytest.mark.parametrize("batch", range(BATCHES))
def test_a_run_goes_on_in_a_changed_flow(batch):
    failed = []
    for seed in range(FIRST + batch, FIRST + COUNT, BATCHES):
        case = run_case(seed)
        if case.wrong:
            failed.append(case)
    assert not failed, f"{len(failed)} of {COUNT // BATCHES} cases:\n" + "\n\n".join(map(show, failed[:3]))


def main(arguments: list[str]) -> None:
    """Print the cases that fail, by kind; or one of them."""
    logging.getLogger("taskflowx").addHandler(logging.NullHandler())
    logging.getLogger("taskflowx").propagate = False
    if arguments[:1] == ["show"]:
        sys.stdout.write(show(run_case(int(arguments[1]))) + "\n")
        return
    count, first = (int(arguments[n]) if len(arguments) > n else preset for n, preset in ((0, COUNT), (1, FIRST)))
    kinds: dict[str, list[int]] = collections.defaultdict(list)
    failed = 0
    for seed in range(first, first + count):
        case = run_case(seed)
        failed += bool(case.wrong)
        for kind in {kind_of(text) for text in case.wrong}:
            kinds[kind].append(seed)
    sys.stdout.write(f"{failed} of {count} fail\n")
    for kind, seeds in sorted(kinds.items(), key=lambda pair: -len(pair[1])):
        sys.stdout.write(f"{len(seeds):5d}  {kind}   {seeds[:8]}\n")


if __name__ == "__main__":
    main(sys.argv[1:])
