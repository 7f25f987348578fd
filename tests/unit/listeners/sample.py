"""Flows in which something happens, for listeners to tell of."""

from __future__ import annotations

import contextlib
import logging

from taskflowx import engines, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow


class Give(task.Task):
    def execute(self, **given):
        return self.name


class Break(task.Task):
    """Raises ValueError, as often as it is told to."""

    def __init__(self, name, times=1000, **kwargs):
        super().__init__(name, **kwargs)
        self._left = times

    def execute(self, **given):
        if self._left:
            self._left -= 1
            raise ValueError("on purpose")
        return "at last"


class Stuck(Give):
    def revert(self, **given):
        raise RuntimeError("stuck")


def row(*members, name="flow", control=None):
    return linear_flow.Flow(name, control).add(*members)


def retried():
    return row(Give("a", provides="a"), row(Give("b"), Break("c", times=1), name="i", control=retry.Times(3, "r")))


def left_out():
    first, second, third = map(Give, "abc")
    flow = graph_flow.Flow("flow").add(first, second, third)
    flow.link(first, second, decider=lambda history: False, decider_depth="atom")
    flow.link(second, third)
    return flow


def load(flow=None, **options):
    return engines.load(row(Give("a"), Give("b")) if flow is None else flow, **options)


def suspended_after(name, flow=None):
    """Return an engine that is suspended when the named task has succeeded."""
    engine = load(flow)
    engine.atom_notifier.register(
        states.SUCCESS, lambda _, details: engine.suspend() if details.get("task_name") == name else None
    )
    return engine


def run(engine):
    """Run an engine, whatever comes of it; returns the state of the flow."""
    with contextlib.suppress(Exception):
        engine.run()
    return engine.storage.get_flow_state()


def run_on(engine):
    """Run an engine, and go on as long as it is suspended."""
    while run(engine) == states.SUSPENDED:
        pass


class Records(logging.Handler):
    """Keeps what is logged."""

    def __init__(self):
        super().__init__()
        self.records = []

    def emit(self, record):
        self.records.append(record)


@contextlib.contextmanager
def logged(name="taskflowx.listeners", level=1):
    """Give the records of a logger."""
    logger, kept = logging.getLogger(name), Records()
    before = logger.level
    logger.setLevel(level)
    logger.addHandler(kept)
    try:
        yield kept.records
    finally:
        logger.removeHandler(kept)
        logger.setLevel(before)
