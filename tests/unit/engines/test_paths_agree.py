"""The short paths of a run and the long ones leave the same record, listened to or not, wherever that is kept."""

import itertools

import pytest

from taskflowx import engines, exceptions, retry, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import models
from taskflowx.types import failure

EXECUTORS = {
    "serial": {"executor": "serial"},
    "threads": {"executor": "threads"},
    "threads, none in place": {"executor": "threads", "inline": False, "max_workers": 2},
}
WAYS = list(itertools.product(EXECUTORS, ("memory", "folder"), (False, True)))


class Marked(failure.Failure):
    """A failure with a mark of its own."""


class Remarked(Marked):
    """A failure that is derived twice."""


KINDS = (failure.Failure, Marked, Remarked)


class Half(task.Task):
    def execute(self):
        self.update_progress(0.5)
        return "half"


class Gives(task.Task):
    """Returns a failure of a class in its first calls."""

    def __init__(self, name, kind, fails):
        super().__init__(name)
        self.kind = kind
        self.left = fails

    def execute(self):
        self.update_progress(0.25)
        self.left -= 1
        return made(self.kind) if self.left >= 0 else "cured"


class StuckWith(task.Task):
    def __init__(self, name, kind):
        super().__init__(name)
        self.kind = kind

    def execute(self):
        pass

    def revert(self):
        return made(self.kind)


class Raises(task.Task):
    def execute(self):
        raise ValueError("no data")


def made(kind):
    try:
        raise ValueError("no data")
    except ValueError:
        return kind()


def record(folder, flow, executor, store, listens):
    book = models.LogBook("book")
    engine = engines.load(
        flow, book=book, backend=f"dir://{folder}" if store == "folder" else None, **EXECUTORS[executor]
    )
    if listens:
        engine.atom_notifier.register("*", lambda state, details: None)
    raised = None
    try:
        engine.run()
    except (ValueError, exceptions.WrappedFailure) as error:
        raised = type(error).__name__
    [detail] = book
    atoms = {
        atom.name: (
            atom.state,
            atom.intention,
            repr(atom.results),
            type(atom.failure).__name__,
            type(atom.revert_failure).__name__,
            (atom.meta or {}).get("progress"),
        )
        for atom in detail
    }
    return raised, detail.state, atoms


def a_chain_that_reports():
    return linear_flow.Flow("chain").add(*(Half(f"h{n}") for n in range(4)))


def a_row_that_reports():
    return unordered_flow.Flow("row").add(*(Half(f"h{n}") for n in range(4)))


def a_failure_of(kind):
    return lambda: linear_flow.Flow("f").add(Half("before"), Gives("gives", kind, fails=1), Half("after"))


def a_cured_failure_of(kind):
    return lambda: linear_flow.Flow("f", retry=retry.Times(2, "times")).add(
        Half("before"), Gives("gives", kind, fails=1)
    )


def a_revert_with(kind):
    return lambda: linear_flow.Flow("f").add(StuckWith("stuck", kind), Raises("raises"))


FLOWS = {
    "progress in a chain": a_chain_that_reports,
    "progress in a row": a_row_that_reports,
    **{
        f"{name} {kind.__name__}": make(kind)
        for name, make in {"gives": a_failure_of, "cured": a_cured_failure_of, "stuck": a_revert_with}.items()
        for kind in KINDS
    },
}


@pytest.mark.parametrize("name", FLOWS)
def test_the_record_does_not_depend_on_the_way_of_a_run(name, tmp_path):
    first = record(tmp_path, FLOWS[name](), *WAYS[0])
    assert {way: record(tmp_path, FLOWS[name](), *way) for way in WAYS[1:]} == dict.fromkeys(WAYS[1:], first)


@pytest.mark.parametrize("kind", KINDS)
def test_a_failure_of_any_class_fails_its_task(kind, tmp_path):
    raised, state, atoms = record(tmp_path, a_failure_of(kind)(), *WAYS[0])
    assert (raised, state) == ("ValueError", "REVERTED")
    assert atoms["gives"][:4] == ("REVERTED", "REVERT", "None", kind.__name__)
    assert atoms["after"][0] == "PENDING"


@pytest.mark.parametrize("kind", KINDS)
def test_a_revert_that_returns_a_failure_of_any_class_has_failed(kind, tmp_path):
    _, state, atoms = record(tmp_path, a_revert_with(kind)(), *WAYS[0])
    assert (state, atoms["stuck"][0], atoms["stuck"][4]) == ("FAILURE", "REVERT_FAILURE", kind.__name__)


@pytest.mark.parametrize("make", [a_chain_that_reports, a_row_that_reports])
def test_the_progress_on_record_of_what_has_succeeded_is_one(make, tmp_path):
    assert {atom[-1] for atom in record(tmp_path, make(), *WAYS[0])[2].values()} == {1.0}
