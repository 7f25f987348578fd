"""Executors with a fault: the contract suite finds each, and no run hangs or stays RUNNING because of one."""

import logging
import pathlib
import subprocess
import sys

import pytest

from taskflowx import engines, states
from taskflowx.patterns import linear_flow, unordered_flow
from tests.contract.executor import contract_tasks as tasks, faulty_executors as faulty

#: runs the suite for an executor; threads that wait for what a faulty one never delivers end with the process
SUITE = """
import os, sys, unittest
from taskflowx.testing import executor_contract
from tests.contract.executor import faulty_executors

case = executor_contract.case(getattr(faulty_executors, sys.argv[1]), limit=float(sys.argv[2]))
case.limit_after_a_hang = 0.2
result = unittest.TextTestRunner().run(unittest.defaultTestLoader.loadTestsFromTestCase(case))
print(result.testsRun, len(result.failures) + len(result.errors), flush=True)
os._exit(0)  # threads of a faulty executor that are no daemons are not waited for
"""
ROOT = pathlib.Path(__file__).parents[3]

#: a run waits for what is never delivered, as nobody can tell it from a task that takes long
SILENT = {faulty.NeverDelivers, faulty.LosesExits}


def run_suite(executor, limit):
    """Run the suite for an executor, with so many seconds for each test.

    Returns how many ran, how many failed, and the report.
    """
    command = [sys.executable, "-W", "ignore", "-c", SUITE, executor.__name__, str(limit)]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=50, check=True)
    tests, failed = map(int, ran.stdout.split()[-2:])
    return tests, failed, ran.stderr


def test_the_suite_passes_an_executor_that_keeps_to_the_contract():
    tests, failed, report = run_suite(faulty.Sound, 20)
    assert tests > 20
    assert not failed, report


@pytest.mark.parametrize("executor", faulty.FAULTS)
def test_the_suite_ends_and_finds_the_fault(executor):
    _, failed, report = run_suite(executor, 3)
    assert failed, report


@pytest.mark.parametrize("executor", [one for one in faulty.FAULTS if one not in SILENT])
def test_a_run_ends_with_all_accounted_for(executor, tmp_path, caplog):
    path = tmp_path / "notes"
    flow = linear_flow.Flow("f").add(
        tasks.Note("a", str(path)),
        unordered_flow.Flow("u").add(*(tasks.Note(f"t{i}", str(path)) for i in range(6))),
        tasks.Note("b", str(path)),
    )
    engine = engines.load(flow, engine="parallel", executor=executor())
    with caplog.at_level(logging.ERROR):
        try:
            engine.run()
        except Exception as error:  # noqa: BLE001 - looked at below
            assert "no s" in str(error)  # noqa: PT017
    notes = path.read_text().splitlines() if path.exists() else []
    ran = {line.split()[1] for line in notes if line.startswith("ran")}
    undone = {line.split()[1] for line in notes if line.startswith("undid")}
    state = engine.storage.get_flow_state()
    if state == states.SUCCESS:
        assert len(ran) == 8
        assert not undone
    else:
        assert state in (states.REVERTED, states.FAILURE)
        assert ran <= undone | set(engine.not_undone())


@pytest.mark.parametrize("executor", [faulty.DeliversTwice, faulty.DeliversUnknownCalls, faulty.DeliversJunk])
def test_what_is_no_delivery_is_refused_with_one_warning_that_says_what_it_is(executor, caplog, tmp_path):
    flow = linear_flow.Flow("f").add(*(tasks.Note(name, str(tmp_path / "notes")) for name in "ab"))
    place = executor()
    engine = engines.load(flow, engine="parallel", executor=place)
    with caplog.at_level(logging.WARNING):
        engine.run()
    place.stop()  # the second delivery of the last call comes when the run has ended
    told = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert len(told) == len(set(told)) >= 2
    if executor is not faulty.DeliversJunk:
        assert [f"{executor.__name__} delivered atom '{name}'" in text for name, text in zip("ab", told, strict=True)]
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_what_submit_raises_counts_as_never_begun_for_what_is_given_back(tmp_path):
    path = tmp_path / "notes"

    class Refuses(faulty.Sound):
        def submit(self, calls):
            self.waiting.extend(calls)
            raise ValueError("no submit")

    engine = engines.load(linear_flow.Flow("f").add(tasks.Note("a", str(path))), engine="parallel", executor=Refuses())
    with pytest.raises(ValueError, match="no submit"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    assert not path.exists()


def test_an_executor_that_cannot_be_started_fails_what_is_handed_in_and_may_be_started_later(tmp_path):
    path = tmp_path / "notes"

    class Late(faulty.Sound):
        starts = 0

        def start(self, deliver):
            self.starts += 1
            if self.starts == 1:
                raise OSError("not yet")
            super().start(deliver)

    engine = engines.load(linear_flow.Flow("f").add(tasks.Note("a", str(path))), engine="parallel", executor=Late())
    with pytest.raises(OSError, match="not yet"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    engine.run()
    assert path.read_text() == "ran a\n"
