"""Flows of payments that are killed: a world that does twice what it is told twice, whatever the key.

What a killed call has done is known to the world alone. `verify` counts each beginning: a call that begins a second
time under one key, and nobody has said that it has done nothing, is a silent repeat.
"""

from __future__ import annotations

import collections
import os
from typing import TYPE_CHECKING

from taskflowx import exceptions, retry, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.testing import crash
from taskflowx.types import failure
from tests.crash.flows import World

if TYPE_CHECKING:
    from pathlib import Path

#: beside the folders of the runs: how many calls were interrupted in each
INTERRUPTED = "interrupted"


class Pay(task.Task):
    """Pays; a process may be killed before, between and after."""

    def __init__(self, name, folder, **keywords):
        super().__init__(name, provides=name, **keywords)
        self.world = World(folder)

    def execute(self, idempotency_key):
        self.world.note("begin", self.name, idempotency_key)
        crash.point("before the payment")
        self.world.note("paid", self.name, idempotency_key)
        crash.point("after the payment")
        return "receipt"

    def revert(self, idempotency_key, result, **kwargs):
        if isinstance(result, failure.Failure) and result.check(exceptions.OutcomeUnknown):
            self.world.note("interrupted", self.name, idempotency_key)
        self.world.note("undo", self.name, idempotency_key)
        crash.point("in revert")


class PayAndLook(Pay):
    """Asks the world whether it has paid."""

    def find_outcome(self, idempotency_key):
        self.world.note("interrupted", self.name, idempotency_key)
        crash.point("in find_outcome")
        if is_paid(self.world, idempotency_key):
            return "receipt"
        self.world.note("not done", self.name, idempotency_key)
        return retry.NOT_DONE


def is_paid(world, key):
    return any(fact[0] == "paid" and fact[2] == key for fact in world.read())


def _flow(kind, folder, mode, count):
    keywords = {} if mode == "find" else {"on_unknown": mode}
    wide = unordered_flow.Flow("wide").add(*(kind(f"p{n:02}", folder, **keywords) for n in range(count)))
    # What is undone is paid again by the retry, under another key.
    return linear_flow.Flow("payments", retry=retry.Times(1000, name="again")).add(
        kind("first", folder, **keywords), wide, kind("last", folder, **keywords)
    )


def asked(folder, count=4):
    """Payments for which an operator answers."""
    return _flow(Pay, folder, "ask", count)


def undone(folder, count=4):
    """Payments that are undone, and made again under another key."""
    return _flow(Pay, folder, "undo", count)


def found(folder, count=4):
    """Payments that look for themselves."""
    return _flow(PayAndLook, folder, "find", count)


def answer(engine, folder):
    """Look in the world, pay by hand what is not paid, and say so."""
    world = World(folder)
    for call in engine.unknown():
        world.note("interrupted", call.name, call.idempotency_key)
        if not is_paid(world, call.idempotency_key):
            world.note("paid", call.name, call.idempotency_key)
        engine.resolve(call.name, "receipt", by="the operator")


def verify(folder: Path) -> None:
    """Check that no call was repeated in silence, and that each task is paid once in the end."""
    may_begin = collections.defaultdict(lambda: 1)
    paid = collections.Counter()
    stands, interrupted = {}, set()
    for what, name, key in World(folder).read():
        if what == "begin":
            may_begin[key] -= 1
            assert may_begin[key] >= 0, f"the call of {name} under {key} was repeated in silence"
        elif what == "not done":
            may_begin[key] = 1
        elif what == "paid":
            paid[key] += 1
            assert paid[key] == 1, f"{name} was paid twice under {key}"
            stands[key] = name
        elif what == "interrupted":
            interrupted.add(key)
        else:
            stands.pop(key, None)
    names = sorted(stands.values())
    assert len(names) == len(set(names)), f"paid, and not undone: {names}"
    number = os.open(folder.parent / INTERRUPTED, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(number, f"{len(interrupted)}\n".encode())
    finally:
        os.close(number)
