"""Random flows with random limits end as the oracle says, as if there were none, and keep each limit at every moment.

Each task counts for itself what is under way of each name; nothing here asks the engine.
"""

from __future__ import annotations

import collections
import random
import threading
import time
from typing import Any

from hypothesis import HealthCheck, given, settings, strategies

from taskflowx import states
from taskflowx.persistence import models
from tests.model import build, drive, specs
from tests.model.checks import assert_ends_as_predicted
from tests.model.test_durable import Store

NAMES = ("a", "b", "host:1", "host:2")


class Held:
    """What is under way of each name, and whether it ever was too much."""

    def __init__(self, rng: random.Random) -> None:
        self.capacities = {"a": rng.randint(1, 3), "b": rng.randint(2, 4), "host:*": rng.randint(1, 2)}
        self.most = rng.choice((None, None, 1, 2, 3))
        self.shared = rng.random() < 0.3
        self.rng = rng
        self.rated = False
        self.wrong: list[str] = []
        self._now: collections.Counter[Any] = collections.Counter()
        self._lock = threading.Lock()

    def capacity(self, name: str) -> int:
        return self.capacities.get(name) or self.capacities["host:*"]

    def limits_of(self, needs: tuple[str, ...]) -> dict[str, int] | None:
        rng = self.rng
        if rng.random() < 0.3:
            return None
        found = {name: rng.randint(1, self.capacity(name)) for name in rng.sample(NAMES, rng.randint(1, 2))}
        if needs and rng.random() < 0.3:
            found["host:{" + rng.choice(needs) + "}"] = rng.randint(1, self.capacities["host:*"])
        return found

    def options(self) -> dict[str, Any]:
        more: dict[str, Any] = {"rates": {"a": (20, 0.01), "host:*": (5, 0.005)}} if self.rated else {}
        if self.most is not None:
            more["max_in_flight"] = self.most
        return {"limits": self.capacities, "revert_limits": "shared" if self.shared else "own", **more}

    def change(self, names: dict[str, int], by: int, *, reverts: bool) -> None:
        with self._lock:
            self._now["calls"] += by
            if self.most is not None and self._now["calls"] > self.most:
                self.wrong.append(f"{self._now['calls']} calls at once, not {self.most}")
            for name, amount in names.items():
                which = name, reverts and not self.shared
                self._now[which] += by * amount
                if self._now[which] > self.capacity(name):
                    self.wrong.append(f"{self._now[which]} of {which}, not {self.capacity(name)}")


class Limited(build.Worker):
    """Takes part of what is limited for as long as a call of it lasts."""

    def __init__(self, job: specs.Job, needs: tuple[str, ...], world: build.World, held: Held, wait: float) -> None:
        self.templates = held.limits_of(needs)
        super().__init__(job, needs, world, limits=self.templates)
        self.held, self.wait = held, wait
        self.known: dict[str, Any] = {}

    def names(self, given: dict[str, Any]) -> dict[str, int]:
        """Return what a call takes. A revert may lack arguments that its execute had; without these it is '?'."""
        names: collections.Counter[str] = collections.Counter()
        known = collections.defaultdict(lambda: "?", {**self.known, **given})
        self.known = dict(known)
        for template, amount in (self.templates or {}).items():
            names[template.format_map(known)] += amount
        return {name: min(amount, self.held.capacity(name)) for name, amount in names.items()}

    def execute(self, **given):
        names = self.names(given)
        self.held.change(names, 1, reverts=False)
        try:
            time.sleep(self.wait)  # noqa: TID251 - it holds what it has while others run
            return super().execute(**given)
        finally:
            self.held.change(names, -1, reverts=False)

    def revert(self, result, flow_failures, **given):
        names = self.names(given)
        self.held.change(names, 1, reverts=True)
        try:
            time.sleep(self.wait)  # noqa: TID251 - as above
            return super().revert(result, flow_failures, **given)
        finally:
            self.held.change(names, -1, reverts=True)


class Scripted(drive.Scripted):
    """Also holds what it has been given against the limits: a call counts from then on until it is delivered."""

    def __init__(self, rng: random.Random, held: Held) -> None:
        super().__init__(rng)
        self._held_back = held

    def submit(self, calls):
        super().submit(calls)
        held = self._held_back
        if held.most is not None and len(self.held) > held.most:
            self.wrong.append(f"{len(self.held)} calls at once, not {held.most}")
        now: collections.Counter[Any] = collections.Counter()
        for call in self.held:
            if isinstance(call.atom, Limited):
                reverts = call.verb == states.REVERT
                given = {name: value for name, value in call.kwargs.items() if name not in ("result", "flow_failures")}
                for name, amount in call.atom.names(given).items():
                    now[name, reverts and not held.shared] += amount
        self.wrong += [
            f"{n} of {which}, not {held.capacity(which[0])}" for which, n in now.items() if n > held.capacity(which[0])
        ]


class Driver(drive.Driver):
    """Runs a spec with limits."""

    def __init__(self, shape, rng, executor=None, *, held: Held, wait: float = 0.0, **options):
        self.limits = held
        made = {}

        def make_worker(job, needs, world):
            made[job.name] = Limited(job, needs, world, held, wait)
            return made[job.name]

        super().__init__(shape, rng, executor, make_worker=make_worker, **held.options(), **options)

    def scripted(self) -> drive.Scripted:
        return Scripted(self.rng, self.limits)

    def _gather(self) -> None:
        super()._gather()
        self.wrong += self.limits.wrong
        self.limits.wrong.clear()


def examples(count: int) -> Any:
    profile = settings(
        max_examples=count, derandomize=True, database=None, deadline=None, suppress_health_check=list(HealthCheck)
    )
    rngs = strategies.integers(0, 2**32).map(random.Random)
    return lambda test: profile(given(spec=rngs.map(specs.random_spec), order=rngs)(test))


def assert_keeps_its_limits(spec, order, executor=None, *, rated=False, **options):
    held = Held(order)
    held.rated = rated
    assert_ends_as_predicted(spec, order, executor, driver=Driver, held=held, **options)


@examples(300)
def test_a_run_with_limits_ends_as_one_without(spec, order):
    assert_keeps_its_limits(spec, order)


@examples(200)
def test_a_run_with_limits_that_is_suspended_and_dies_by_turns_ends_as_one_without(spec, order):
    assert_keeps_its_limits(spec, order, suspend=0.15, crash=0.05)


@examples(150)
def test_a_run_with_limits_goes_on_after_a_listener_was_interrupted(spec, order):
    assert_keeps_its_limits(spec, order, trip=order.randint(1, 6 * len(list(specs.atoms_in(spec.root))) + 2))


@examples(100)
def test_durable_runs_with_limits_end_the_same(spec, order):
    durable = {"backend": Store(), "flow_detail": models.FlowDetail("flow", "1")}
    assert_keeps_its_limits(spec, order, order.choice((None, "threads")), suspend=order.choice((0.0, 0.1)), **durable)


@examples(60)
def test_a_run_with_rates_ends_as_one_without(spec, order):
    assert_keeps_its_limits(spec, order, order.choice(("serial", "threads", "asyncio")), rated=True)


@examples(150)
def test_serial_runs_with_limits_end_the_same(spec, order):
    assert_keeps_its_limits(spec, order, "serial", watch=order.random() < 0.5, suspend=order.choice((0.0, 0.1)))


@examples(150)
def test_threads_keep_the_limits(spec, order):
    workers, inline = order.randint(1, 6), order.random() < 0.5
    options = {"max_workers": workers, "inline": inline, "watch": order.random() < 0.5}
    assert_keeps_its_limits(spec, order, "threads", wait=order.choice((0.0, 0.0005)), **options)
