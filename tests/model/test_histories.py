"""Histories of random runs: replayed, they give the states on record, whatever has stopped the run in between."""

from __future__ import annotations

import contextlib
import random

import pytest

from taskflowx import engines, states
from taskflowx.persistence import history, models
from tests.model import build, drive, specs, test_durable
from tests.model.test_interrupts import SPECS, run_interrupted
from tests.model.test_random_flows import examples
from tests.support import histories


class Logged(test_durable.Store):
    """Holds the history of a flow too, as it was written."""

    keeps_history = True

    def __init__(self):
        super().__init__()
        self.documents: dict[int, str] = {}

    def get_connection(self):
        return Connection(self)

    def read(self):
        detail = super().read()
        detail.revision = self.commits
        return detail


class Connection(test_durable.Connection):
    """Writes to a `Logged`."""

    def save_changes(self, flow_detail, atom_details, owner=None, entries=()):
        store = self._store
        dying = store.kill and store.commits + 1 >= store.kill
        if not dying or (store.late and store.commits + 1 == store.kill):
            store.documents.update(history.chunks(entries))
        super().save_changes(flow_detail, atom_details, owner)
        flow_detail.revision = store.commits

    def get_history(self, flow_uuid, after=0, limit=None):
        return history.after(sorted(self._store.documents.items()), after, limit)


def wrong_with(engine):
    record = engine.storage.record.flow_detail
    return histories.complaints(engine.history(), record)


class Noting(drive.Driver):
    """Looks at the history whenever the run has stopped."""

    def _gather(self):
        super()._gather()
        self.wrong += wrong_with(self.engine)


@pytest.mark.parametrize("executor", [None, "serial", "threads"])
def test_the_history_of_any_run_leads_to_its_record(executor):
    @examples(100)
    def check(spec, order):
        watch, suspend = order.random() < 0.5, order.choice((0.0, 0.2))
        driver = Noting(specs.Shape(spec), order, executor, watch=watch, suspend=suspend, history=True)
        driver.run()
        assert driver.wrong == []
        storage = driver.engine.storage
        if executor is not None and storage.get_flow_state() in (states.SUCCESS, states.FAILURE):
            with contextlib.suppress(Exception):
                driver.engine.rollback()
            assert wrong_with(driver.engine) == []
        if not driver.engine.not_undone() and storage.get_flow_state() in (states.SUCCESS, states.REVERTED):
            driver.engine.reset()
            assert wrong_with(driver.engine) == []
            assert {*histories.replayed(driver.engine.history()).values()} == {states.PENDING}

    check()


def test_a_listener_that_is_interrupted_adds_nothing_to_the_history():
    @examples(60)
    def check(spec, order):
        trip = order.randint(1, 6 * len(list(specs.atoms_in(spec.root))) + 2)
        driver = Noting(specs.Shape(spec), order, trip=trip, history=True)
        driver.run()
        assert driver.wrong == []

    check()


@pytest.mark.parametrize("executor", ["serial", "threads"])
def test_a_run_that_is_killed_at_any_commit_leaves_a_history_without_gaps(executor):
    @examples(25)
    def check(spec, order):
        shape = specs.Shape(spec)
        store, world = Logged(), build.World()
        world.crashed = True
        stuck = sum(atom.stuck for atom in shape.atoms.values())
        for _ in range(500):
            store.live(order.choice((1, 2, 3, 5, 8, 1000)), late=order.random() < 0.5)
            record = models.FlowDetail("flow", "1") if store.flow is None else store.read()
            with contextlib.suppress(test_durable.Killed, KeyboardInterrupt):
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
                    history=True,
                )
                with contextlib.suppress(Exception):
                    engine.run()
                stuck -= 1
            if store.flow is not None:
                entries = list(Connection(store).get_history("1"))
                assert histories.complaints(entries, store.read()) == []
            if stuck < 0 and store.commits < store.kill:
                return
        raise AssertionError("the run does not come to an end")

    check()


@pytest.mark.parametrize(
    ("executor", "durable", "stride"),
    [("serial", False, 43), ("serial", True, 301), ("threads", False, 151), ("threads", True, 701)],
)
@pytest.mark.parametrize("name", SPECS)
def test_an_interrupt_at_any_line_loses_and_repeats_nothing(name, executor, durable, stride):
    shape = specs.Shape(SPECS[name])
    at = random.Random(name).randint(1, stride)
    while True:
        world = build.World()
        world.crashed = True
        store = Logged() if durable else None
        kept = {"flow_detail": models.FlowDetail("flow", "1"), "backend": store} if durable else {}
        engine = engines.load(
            build.make_flow(shape, world),
            build.make_store(shape),
            engine="parallel",
            executor=executor,
            inline=False,
            history=True,
            **kept,
        )
        wrong = []

        def look(engine=engine, wrong=wrong):
            wrong += wrong_with(engine)

        where = run_interrupted(engine, [at], look)
        look()
        if store is not None:
            wrong += histories.complaints(list(Connection(store).get_history("1")), store.read())
        assert (where, wrong) == (where, [])
        if not where:
            break
        at += stride
    assert at > 300
