"""What is done by hand is interrupted at each line: it is done, or nothing of it is, and the flow can be run on."""

from __future__ import annotations

import contextlib
import itertools
import sys

import pytest

from taskflowx import engines, exceptions, task
from taskflowx.patterns import linear_flow

OURS = ("by_hand.py", "control.py", "resetting.py", "undoing.py", "engine.py")


class Step(task.Task):
    def __init__(self, name, calls, interrupted=False):
        super().__init__(name, provides=name.upper(), on_unknown="ask")
        self.calls = calls
        self.interrupted = interrupted

    def execute(self):
        self.calls.append(self.name)
        if self.interrupted:
            raise KeyboardInterrupt
        return self.name

    def revert(self, **kwargs):
        self.calls.append(f"-{self.name}")


class Interrupts:
    """Raises at the N-th line of the modules of this subject."""

    def __init__(self, at):
        self.left = at
        self.raised = False

    def __call__(self, frame, event, _):
        if self.raised or not frame.f_code.co_filename.endswith(OURS):
            return None
        if event == "line":
            self.left -= 1
            if not self.left:
                self.raised = True
                raise KeyboardInterrupt
        return self


def interrupt(verb, at):
    """Call a verb, interrupted at a line; returns whether it was."""
    tracer, kept = Interrupts(at), sys.gettrace()
    sys.settrace(tracer)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            verb()
    finally:
        sys.settrace(kept)
    return tracer.raised


def interrupted_at_each_line(make, verb):
    """Yield engines in which a verb was interrupted, at one line after the other."""
    for at in itertools.count(1):
        calls, engine = make()
        raised = interrupt(lambda engine=engine: verb(engine), at)
        yield calls, engine
        if not raised:
            break
    assert at > 20


def with_an_open_call():
    calls = []
    flow = linear_flow.Flow("f").add(Step("a", calls), Step("b", calls, interrupted=True), Step("c", calls))
    engine = engines.load(flow)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    return calls, engine


def that_has_run():
    calls = []
    engine = engines.load(linear_flow.Flow("f").add(*(Step(name, calls) for name in "abc")))
    engine.run()
    return calls, engine


@pytest.mark.parametrize("verb", ["resolve", "skip"])
def test_an_answer_is_there_or_not(verb):
    for calls, engine in interrupted_at_each_line(with_an_open_call, lambda engine: getattr(engine, verb)("b", 7)):
        state = engine.storage.get_atom_state("b")
        assert [one.what for one in engine.by_hand()] == ([verb] if state == "SUCCESS" else [])
        if state == "RUNNING":
            engine.resolve("b", 7)
        engine.run()
        assert engine.storage.get_flow_state() == "SUCCESS"
        assert (calls, engine.storage.fetch("B")) == (["a", "b", "c"], 7)


def test_a_rollback_to_an_atom_is_made_or_not_and_can_be_completed():
    for calls, engine in interrupted_at_each_line(that_has_run, lambda engine: engine.rollback(to="a")):
        with contextlib.suppress(exceptions.InvalidState):
            engine.run()
        assert engine.storage.get_flow_state() == "SUCCESS"
        assert calls in (["a", "b", "c"], ["a", "b", "c", "-c", "-b", "b", "c"])
