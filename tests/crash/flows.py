"""Flows that are killed, and the world in which they act: a file to which each effect is appended and synced.

An effect is made under the key that the call was given, as with a service that takes idempotency keys: to make the
same once more changes nothing, and an undo takes away what was made under its key, if anything was.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

from taskflowx import retry, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.testing import crash

if TYPE_CHECKING:
    from pathlib import Path


class World:
    """Where effects are written down.

    :param folder: of one run
    """

    def __init__(self, folder: Path) -> None:
        self._path = folder / "world.jsonl"

    def note(self, *facts) -> None:
        """Append facts, and bring them to the disk."""
        number = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(number, (json.dumps(facts) + "\n").encode())
            os.fsync(number)
        finally:
            os.close(number)

    def read(self) -> list[list]:
        """Return all facts, in order."""
        if not self._path.exists():
            return []
        return [json.loads(line) for line in self._path.read_text(encoding="utf-8").splitlines()]


class Make(task.Task):
    """Makes something, and takes it away again; fails while it was made in fewer rounds than `fails`."""

    def __init__(self, name, folder, fails=0, needs=()):
        super().__init__(name, provides=name, requires=list(needs))
        self.world = World(folder)
        self.fails = fails

    def execute(self, attempt, idempotency_key, **given):
        self.world.note("begin", self.name, idempotency_key, attempt)
        crash.point("in execute")
        if int(idempotency_key.rpartition(".")[2]) < self.fails:
            raise OSError(self.name)
        self.world.note("made", self.name, idempotency_key, attempt)
        return [self.name, sorted(given)]

    def revert(self, attempt, idempotency_key, result, flow_failures, **kwargs):
        self.world.note("undo", self.name, idempotency_key, attempt)
        crash.point("in revert")
        self.world.note("undone", self.name, idempotency_key, attempt)


ALWAYS = 10**9


def linear(folder):
    """Three tasks, one after another."""
    return linear_flow.Flow("linear").add(*(Make(name, folder) for name in "abc"))


def wide(folder):
    """Tasks that run at the same time."""
    return unordered_flow.Flow("wide").add(*(Make(name, folder) for name in "abcd"))


def layered(folder):
    """Two layers, each task of the second needs all of the first."""
    flow = graph_flow.Flow("layered")
    return flow.add(*(Make(name, folder) for name in "ab"), *(Make(name, folder, needs="ab") for name in "cd"))


def retried(folder):
    """A region that is undone and run again twice."""
    flow = linear_flow.Flow("retried", retry=retry.Times(4))
    return flow.add(Make("a", folder), Make("b", folder, fails=2), Make("c", folder))


def retried_often(folder):
    """More attempts than a record of a retry keeps."""
    return linear_flow.Flow("retried often", retry=retry.Times(100)).add(Make("a", folder, fails=66))


def decided(folder):
    """A branch that is left out by a decider, and one that is not."""
    a, b, c, d = (Make(name, folder) for name in "abcd")
    flow = graph_flow.Flow("decided").add(a, b, c, d)
    flow.link(a, b, decider=lambda history: False)
    flow.link(a, c, decider=lambda history: True)
    flow.link(b, d)
    return flow


def undone(folder):
    """A rollback of all."""
    return linear_flow.Flow("undone").add(Make("a", folder), Make("b", folder), Make("c", folder, fails=ALWAYS))


def undone_wide(folder):
    """A rollback across branches."""
    inner = unordered_flow.Flow("inner").add(Make("b", folder), Make("c", folder))
    return linear_flow.Flow("undone wide").add(Make("a", folder), inner, Make("d", folder, fails=ALWAYS))


def nested(folder):
    """A retry that gives up within one that does not, beside a task that stays."""
    inner = linear_flow.Flow("inner", retry=retry.Times(2)).add(Make("b", folder), Make("c", folder, fails=2))
    outer = linear_flow.Flow("outer", retry=retry.Times(3)).add(Make("a", folder), inner)
    return linear_flow.Flow("nested").add(Make("stays", folder), outer)


FLOWS = (linear, wide, layered, retried, decided, undone, undone_wide, nested)


def verify(folder):
    """Check that what stands in the world is what stands on record, and that calls were told the truth."""
    begun = {}
    stands = {}
    for what, name, key, attempt in World(folder).read():
        if what in ("begin", "undo"):
            earlier = begun.get((what, key), 0)
            assert attempt > earlier, f"{what} of {name} ({key}) is told attempt {attempt} after {earlier}"
            begun[what, key] = attempt
        if what == "made":
            assert ("undo", key) not in begun, f"{name} was made again under {key}, which was undone"
            stands[key] = name
        elif what == "undone":
            stands.pop(key, None)
    standing = json.loads((folder / crash.STANDING).read_text(encoding="utf-8"))
    ended = [name for name in standing if not name.endswith("_retry")]
    assert sorted(stands.values()) == ended, f"{sorted(stands.values())} stands, on record is {ended}"
