"""Runs to report, and histories that are written out."""

from __future__ import annotations

import contextlib
import itertools

from taskflowx import engines, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence.figures import Links
from taskflowx.persistence.history import Entry
from taskflowx.reports import facts

START = 1_700_000_000.0


class Step(task.Task):
    """Returns a value, or raises an error; its revert raises another one, if there is one."""

    def __init__(self, name, value="done", *, error=None, stuck=None, **kwargs):
        super().__init__(name, **kwargs)
        self.value, self.error, self.stuck = value, error, stuck

    def execute(self, **kwargs):
        if self.error is not None:
            raise self.error
        return self.value

    def revert(self, **kwargs):
        if self.stuck is not None:
            raise self.stuck


def engine_of(flow, **options):
    """Return an engine that keeps a history and has run its flow, however that ended."""
    engine = engines.load(flow, **{"history": True, **options})
    with contextlib.suppress(Exception):  # it is in the record, and a report tells of it
        engine.run()
    return engine


def failing(error, **options):
    """Return an engine of a flow that has failed, and was undone but for one task, whose revert has failed as well."""
    flow = graph_flow.Flow("orders", retry.AlwaysRevert("controller")).add(
        Step("fetch", provides="raw"),
        linear_flow.Flow("parse").add(Step("read", requires=["raw"], provides="text", stuck=OSError("still open"))),
        unordered_flow.Flow("pack").add(*(Step(f"pack {i}", requires=["text"], provides=f"p{i}") for i in range(3))),
        Step("ship", error=error, requires=["p0", "p1", "p2"]),
    )
    return engine_of(flow, **options)


def layered(atoms, layers=20):
    """Return a flow of so many tasks, each of which follows one of the layer before it."""
    wide = atoms // layers
    flow = graph_flow.Flow("many")
    return flow.add(
        *(
            Step(
                f"resize image {layer * wide + i}",
                provides=f"v{layer}_{i}",
                requires=[f"v{layer - 1}_{i}"] if layer else (),
            )
            for layer, i in itertools.product(range(layers), range(wide))
        )
    )


def history(*moves):
    """Return the entries of moves, each as (seconds after START, atom, old, new) and what else differs from a default.

    :param moves: further parts are a dict of `attempt`, `began` (seconds after START), `worker`, `failure`
    """
    entries = []
    for number, (at, atom, old, new, *more) in enumerate(moves, 1):
        extra = more[0] if more else {}
        began = extra.get("began")
        entries.append(
            Entry(
                number,
                START + at,
                atom,
                extra.get("attempt", 0 if atom is None else 1),
                old,
                new,
                None if began is None else START + began,
                extra.get("worker"),
                extra.get("failure"),
            )
        )
    return entries


def called(atom, queued, began, ended, worker="w", *, reverts=False, failure=None, attempt=1):
    """Return the two moves of a call, for `history`, which wants them sorted by time."""
    doing = states.REVERTING if reverts else states.RUNNING
    done = (states.REVERTED, states.REVERT_FAILURE) if reverts else (states.SUCCESS, states.FAILURE)
    extra = {"attempt": attempt, "began": began, "worker": worker, "failure": failure}
    return [
        (queued, atom, states.SUCCESS if reverts else states.PENDING, doing, {"attempt": attempt}),
        (ended, atom, doing, done[failure is not None], extra),
    ]


def history_of_calls(*calls):
    """Return the history of calls, which `called` has made."""
    return history(*sorted(itertools.chain.from_iterable(calls), key=lambda move: move[0]))


def facts_of(entries=None, names=("a", "b", "c"), **kwargs):
    """Return the facts of a run with so many atoms, in a row."""
    given = {
        "flow": "flow",
        "run_id": None,
        "state": states.SUCCESS,
        "atoms": [facts.Atom(name, "task", "flow", states.SUCCESS) for name in names],
        "made_at": START + 100,
        "entries": entries,
        "links": Links.of_pairs(names, list(itertools.pairwise(names))),
    }
    return facts.Facts(**{**given, **kwargs})
