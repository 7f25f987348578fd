"""The short paths of the engine do what the long ones do.

A plain task that runs in the thread of the engine takes one of the two hot loops, unless somebody subscribes to it, its
record is stored, or each turn is to be seen; where the record is stored and nobody subscribes to anything, it takes the
short path of a step. Each flow of the model ends with the same record and the same calls in the
same order whichever way it takes, and those who subscribe to the engine are told the same in the same order.
"""

from __future__ import annotations

import random
from typing import Any

from taskflowx import states
from taskflowx.persistence import models
from tests.model import drive, specs
from tests.model.test_durable import Store
from tests.model.test_random_flows import examples

#: each way with its options: whether somebody subscribes to each task, whether the record is stored, whether each turn
#: is seen, and whether somebody subscribes to the engine
WAYS = {
    "short": (False, False, False, False),
    "short, subscribed to": (False, False, False, True),
    "long": (True, False, False, False),
    "long, subscribed to": (True, False, False, True),
    "stored": (False, True, False, True),
    "stored in short steps": (False, True, False, False),
    "step by step": (False, False, True, True),
    "stored and long, step by step": (True, True, True, True),
}


class Way(drive.Driver):
    """Runs a spec on the serial executor, one way."""

    def __init__(self, shape: specs.Shape, way: tuple[bool, bool, bool, bool]) -> None:
        self.listened, self.stored, self.stepwise, self.subscribed = way
        self.events: list[Any] = []
        store = {"backend": Store(), "flow_detail": models.FlowDetail("flow", "1")} if self.stored else {}
        super().__init__(shape, random.Random(0), "serial", watch=False, **store)

    def _load(self, record: Any) -> None:
        super()._load(record)
        if self.subscribed:
            self.engine.atom_notifier.register("*", self._told)
        if self.listened:
            self.engine.compile()
            for atom in filter(None, self.engine.compilation.plan.atoms):
                if hasattr(atom, "notifier"):
                    atom.notifier.register("update_progress", _ignore)

    def _told(self, event: str, details: dict[str, Any]) -> None:
        facts = {key: value for key, value in details.items() if not key.endswith("_uuid")}
        self.events.append((event, _comparable(facts)))

    def run(self) -> str:
        if not self.stepwise:
            return super().run()
        self.suspend = 1e-9  # has each leg of the run be taken step by step
        return super().run()

    def record(self) -> dict[str, Any]:
        """Return what is on record of each atom."""
        storage = self.engine.storage
        return {name: _of_detail(storage.record.detail(name)) for name in self.shape.atoms}


def _ignore(event: str, details: Any) -> None:
    pass


def _of_detail(detail: Any) -> tuple[Any, ...]:
    results = detail.results if detail.KIND == "task" else [(value, sorted(failed)) for value, failed in detail.results]
    return (
        detail.state,
        detail.intention,
        _comparable(results),
        _comparable(detail.failure),
        _comparable(detail.revert_results),
        _comparable(detail.revert_failure),
        dict(detail.meta),
    )


def _comparable(value: Any) -> Any:
    """Return a value, or its text where equal ones are not equal, as failures with other traceback are."""
    return repr(value)


@examples(250)
def test_each_way_through_a_run_ends_with_the_same_record_calls_and_events(spec, order):
    del order
    shape = specs.Shape(spec)
    ends = {}
    for name, way in WAYS.items():
        driver = Way(shape, way)
        state = driver.run()
        assert state in states.FLOW_STATES
        ends[name] = state, driver.record(), driver.world.log, driver.events
    first = ends["short"]
    for name, (state, record, log, _) in ends.items():
        assert state == first[0], name
        assert record == first[1], name
        assert log == first[2], name
    told = {name: end[3] for name, end in ends.items() if WAYS[name][3]}
    for name, events in told.items():
        assert events == told["short, subscribed to"], name
    assert any(told.values()) or not shape.atoms
