"""Runs on a durable store, killed at random commits: what the store holds is enough to end as the oracle says.

`Store` keeps JSON texts, and can die before or after any commit: then nothing that this "process" writes arrives any
more, and the run goes on in a new engine from what had been written.
"""

from __future__ import annotations

import contextlib
import json

import pytest

from taskflowx import engines, states, task
from taskflowx.executors import base as executors
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import base, codec, models
from tests.model import build, oracle, specs
from tests.model.test_random_flows import examples


class Killed(BaseException):
    """The process is gone."""


class Store(base.Backend):
    """Holds the record of one flow as text; `kill` is the number of commits after which the process dies."""

    def __init__(self):
        super().__init__({})
        self.flow = None
        self.atoms: dict[str, str] = {}
        self.commits = 0
        self.kill = 0
        self.lagging: list[set[str]] = []  # atoms that had changed and were left out of a commit
        self.late = False  # whether the last commit arrives

    def get_connection(self):
        return Connection(self)

    def close(self):
        pass

    def live(self, kill: int, *, late: bool) -> None:
        """Begin the life of a new process, which dies at the `kill`-th commit from now on."""
        self.kill, self.late = self.commits + kill, late

    def read(self) -> models.FlowDetail:
        """Return the record that is stored."""
        detail = codec.load_flow(json.loads(self.flow))
        for text in self.atoms.values():
            detail.add(codec.load_atom(json.loads(text)))
        return detail

    def state_of(self, name: str) -> str:
        """Return the stored state of an atom."""
        return json.loads(self.atoms[name])["atom"]["state"]


class Connection:
    """Writes to a `Store`."""

    def __init__(self, store):
        self._store = store

    def close(self):
        pass

    def save_changes(self, flow_detail, atom_details, owner=None):
        store = self._store
        store.commits += 1
        texts = {detail.name: codec.dump_atom(detail) for detail in atom_details}
        now = {detail.name: codec.dump_atom(detail) for detail in flow_detail}
        if texts and {**store.atoms, **texts} != now:
            store.lagging.append({name for name, text in now.items() if {**store.atoms, **texts}.get(name) != text})
        dying = store.kill and store.commits >= store.kill
        if not dying or (store.late and store.commits == store.kill):
            store.flow = codec.dump_flow(flow_detail)
            store.atoms.update(texts)
        if dying:
            raise Killed


class Plain(task.Task):
    """Does nothing."""

    def __init__(self, name):
        super().__init__(name)

    def execute(self):
        return self.name


class AtOnce(executors.Executor):
    """Runs what it is given while it takes it, so that the scheduler finds all of it done."""

    def start(self, deliver):
        self._deliver = deliver

    def submit(self, calls):
        for call in calls:
            self._deliver((call, executors.perform(call.atom, call.verb, call.kwargs)))

    def recall(self):
        return []

    def stop(self):
        pass


class Witness(build.World):
    """Looks at the store when a call begins."""

    def __init__(self, store, shape):
        super().__init__()
        self.crashed = True
        self._store = store
        self._shape = shape

    def count(self, verb, name):
        expected = states.RUNNING if verb == "execute" else states.REVERTING
        if self._store.state_of(name) != expected:
            self.wrong.append(f"{verb} of {name} began, the store says {self._store.state_of(name)}")
        if verb == "execute":
            for earlier in self._shape.before[name]:
                if self._store.state_of(earlier) not in (states.SUCCESS, states.IGNORE):
                    self.wrong.append(f"{name} began, {earlier} is stored as {self._store.state_of(earlier)}")
        return super().count(verb, name)


def run_killed(spec, rng, executor, **options):
    """Run a spec to its end through many deaths; returns the record that is left, the witness, and the store."""
    shape = specs.Shape(spec)
    store = Store()
    world = Witness(store, shape)
    stuck = sum(atom.stuck for atom in shape.atoms.values())
    for _ in range(500):
        store.live(rng.choice((1, 2, 3, 5, 8, 1000)), late=rng.random() < 0.5)
        record = models.FlowDetail("flow", "1") if store.flow is None else store.read()
        with contextlib.suppress(Killed, KeyboardInterrupt):
            engine = engines.load(
                build.make_flow(shape, world),
                build.make_store(shape),
                flow_detail=record,
                backend=store,
                engine="parallel",
                executor=executor,
                defer_reverts=spec.defer_reverts,
                never_resolve=spec.never_resolve,
                on_revert_failure="continue" if spec.go_on else "halt",
                **options,
            )
            with contextlib.suppress(Exception):
                engine.run()
            final = store.read()
            if final.state == states.FAILURE and stuck and not spec.never_resolve:
                stuck -= 1
                continue
            return final, world, store, shape
    raise AssertionError("the run does not come to an end")


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_chain_costs_one_commit_an_atom(executor):
    store = Store()
    flow = linear_flow.Flow("chain").add(*(Plain(f"t{n}") for n in range(100)))
    engine = engines.load(
        flow, backend=store, flow_detail=models.FlowDetail("chain", "1"), engine="parallel", executor=executor
    )
    engine.run()
    # besides one an atom: the details when they are made, the flow when it begins, the last result, the flow's end
    assert store.commits == 100 + 4


def test_a_wide_flow_in_threads_costs_few_commits():
    store = Store()
    flow = unordered_flow.Flow("wide").add(*(Plain(f"t{n}") for n in range(100)))
    engine = engines.load(flow, backend=store, flow_detail=models.FlowDetail("wide", "1"), executor=AtOnce())
    engine.run()
    assert store.commits == 1 + 4


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_what_was_killed_at_any_commit_ends_as_if_nothing_had_happened(executor):
    @examples(150)
    def check(spec, order):
        final, world, store, shape = run_killed(spec, order, executor)
        assert world.wrong == []
        assert store.lagging == []
        want = oracle.predict(shape)
        if want.depends or any(atom.stuck for atom in shape.atoms.values()):
            return
        assert final.state == want.state
        now = {detail.name: detail for detail in final if detail.name in shape.atoms}
        standing = {name: detail.last_results for name, detail in now.items() if detail.state == states.SUCCESS}
        assert standing == want.standing

    check()
