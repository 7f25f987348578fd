"""What an engine says for a report."""

import re
import threading

import pytest

import taskflowx
from taskflowx import engines, exceptions, retry, states
from taskflowx.engines import reporting
from taskflowx.patterns import graph_flow, linear_flow
from taskflowx.persistence import backends
from taskflowx.record import metadata
from taskflowx.reports import writing
from taskflowx.runs import result
from tests.support.reports import Step, engine_of, failing, layered


def facts_of(engine, **kwargs):
    engine.compile()
    return reporting.facts_of(engine, engine.storage.record.flow_detail, **kwargs)


def test_a_run_that_failed_has_all_of_its_facts():
    engine = failing(ValueError("lost"))
    got = facts_of(engine)
    assert (got.flow, got.state, got.run_id) == ("orders", states.FAILURE, None)
    assert got.not_undone == engine.not_undone() == ["fetch", "read"]
    assert got.entries == engine.history()
    atoms = {one.name: one for one in got.atoms}
    assert list(atoms) == ["controller", "fetch", "read", "pack 0", "pack 1", "pack 2", "ship"]
    assert atoms["read"].flow == "parse"
    assert (atoms["ship"].state, atoms["ship"].failure.exception_str) == (states.REVERTED, "lost")
    assert (atoms["read"].state, atoms["read"].failure.exception_str) == (states.REVERT_FAILURE, "still open")
    assert atoms["controller"].kind == "retry"
    assert sorted(got.links.before("ship")) == ["pack 0", "pack 1", "pack 2"]
    assert list(got.links.before("fetch")) == ["controller"]


def test_results_are_told_by_type_and_size_and_shown_when_asked_for(tmp_path):
    engine = engine_of(linear_flow.Flow("f").add(Step("a", "hunter2", provides="x"), Step("b", {"y": "hunter2"})))
    engine.report(tmp_path / "told.html")
    told = (tmp_path / "told.html").read_text()
    assert "hunter2" not in told
    assert "str, 7 characters" in told
    assert "Results are not shown" in told
    engine.report(tmp_path / "shown.html", values=True)
    shown = (tmp_path / "shown.html").read_text()
    assert shown.count("hunter2") == 2
    assert "Results are shown" in shown


@pytest.mark.parametrize("values", [True, False])
def test_a_sensitive_result_is_masked(tmp_path, values):
    engine = engine_of(linear_flow.Flow("f").add(Step("a", "hunter2"), Step("b", "shown")))
    detail = engine.storage.record.rows[0]
    assert detail.name == "a"
    detail.meta[metadata.SENSITIVE] = ["a"]
    engine.report(tmp_path / "run.html", values=values)
    said = (tmp_path / "run.html").read_text()
    assert "<td>***" in said
    assert "hunter2" not in said
    assert "7 characters" not in said
    assert ("&#x27;shown&#x27;" in said) == values


def test_a_run_without_a_history_has_a_report(tmp_path):
    engine = engine_of(linear_flow.Flow("f").add(Step("a")), history=None)
    engine.report(tmp_path / "run.html")
    assert "No history of this run was kept" in (tmp_path / "run.html").read_text()
    assert facts_of(engine).entries is None


def test_an_engine_that_has_not_run_has_a_report(tmp_path):
    engine = engines.load(linear_flow.Flow("f").add(Step("a"), Step("b")))
    engine.report(tmp_path / "run.html")
    said = (tmp_path / "run.html").read_text()
    assert "0 of 2 atoms have succeeded, 2 have not run." in said


def test_a_report_leaves_a_reverted_run_as_it_is(tmp_path):
    flow = linear_flow.Flow("f").add(Step("a"), Step("b", error=ValueError("no")))
    engine = engine_of(flow)
    again = engines.load(flow, flow_detail=engine.storage.record.flow_detail)
    again.report(tmp_path / "run.html")
    assert again.storage.get_flow_state() == states.REVERTED
    assert "All that had run was undone." in (tmp_path / "run.html").read_text()


def test_a_task_that_is_empty_is_an_atom():
    class Bag(Step):
        def __len__(self):
            return 0

    got = facts_of(engine_of(linear_flow.Flow("f").add(Bag("a"), Step("b"))))
    assert [atom.name for atom in got.atoms] == ["a", "b"]


def test_a_run_with_an_id_is_called_by_it():
    engine = taskflowx.load(linear_flow.Flow("f").add(Step("a")), backend=backends.fetch("memory"), run_id="invoice 17")
    engine.run()
    assert (facts_of(engine).run_id, facts_of(engine).title) == ("invoice 17", "invoice 17")


def test_a_report_of_a_run_under_way(tmp_path):
    entered, go_on = threading.Event(), threading.Event()

    class Waits(Step):
        def execute(self):
            self.update_progress(0.25)
            entered.set()
            go_on.wait(30)

    engine = engines.load(linear_flow.Flow("f").add(Waits("a"), Step("b")), history=True)
    thread = threading.Thread(target=engine.run)
    thread.start()
    assert entered.wait(30)
    engine.report(tmp_path / "run.html")
    go_on.set()
    thread.join()
    said = (tmp_path / "run.html").read_text()
    assert "It had not ended when this was written: 0 of 2 atoms have succeeded, 1 have not run." in said
    assert "25% done" in said
    assert '<rect class="open"' in said


def test_what_was_done_by_hand_and_why_it_was_cancelled():
    engine = engines.load(linear_flow.Flow("f").add(Step("a"), Step("b")))
    engine.skip("a", "made", by="ann", reason="it was there")
    [deed] = facts_of(engine).by_hand
    assert deed[:3] == ("skip", "a", "ann")
    assert deed.reason == "it was there"

    class Cancels(Step):
        def execute(self):
            stopping.cancel("no more")

    stopping = engines.load(linear_flow.Flow("f").add(Cancels("a"), Step("b")))
    with pytest.raises(Exception, match="no more"):
        stopping.run()
    assert facts_of(stopping).cancelled == "no more"


def test_attempts_of_a_retry_that_failed():
    class Twice(Step):
        def execute(self):
            self.value = self.value - 1
            if self.value:
                raise OSError(f"{self.value} left")

    flow = linear_flow.Flow("f", retry.Times(5, name="again")).add(Twice("a", 3))
    got = facts_of(engine_of(flow))
    again, task = got.atoms
    assert [(number, name, one.exception_str) for number, name, one in again.earlier] == [
        (1, "a", "2 left"),
        (2, "a", "1 left"),
    ]
    assert (again.result, task.result) == ("int", "None")


def test_a_report_of_10_000_atoms_is_small_and_one_of_100(tmp_path):
    for atoms, most in ((100, 300_000), (10_000, 2_000_000)):
        engine = engine_of(layered(atoms), executor="threads", max_workers=4)
        engine.report(tmp_path / "run.html")
        assert (tmp_path / "run.html").stat().st_size <= most
        assert len(writing.history_of(tmp_path / "run.html")) == len(engine.history())
        assert len(re.findall("<tr><th>", (tmp_path / "run.html").read_text())) == atoms


def test_a_flow_of_many_failures_is_bounded(tmp_path):
    flow = linear_flow.Flow("f", retry.Times(2000, name="again"))
    flow.add(Step("a", error=ValueError("x" * 50_000)))
    engine = engine_of(flow)
    engine.report(tmp_path / "run.html")
    assert (tmp_path / "run.html").stat().st_size <= 800_000


def test_what_was_never_called_does_not_stand():
    """An argument is missing, a decider has failed: there is nothing to undo, and nobody says that there is."""

    def refuses(history):
        raise ValueError("refuses")

    made, asked = Step("made", {}, provides={"part"}), Step("asked")
    flow = graph_flow.Flow("f").add(made, Step("lacks", requires=["part"]), asked)
    flow.link(made, asked, decider=refuses)
    engine = engines.load(flow, {"given": 1}, never_resolve=True)
    with pytest.raises(exceptions.WrappedFailure) as caught:
        engine.run()
    assert [engine.storage.get_atom_state(name) for name in ("made", "lacks", "asked")] == ["SUCCESS", *["FAILURE"] * 2]
    record = engine.storage.record.flow_detail
    assert engine.not_undone() == facts_of(engine).not_undone == result.of_record(record, None).not_undone == ["made"]
    assert caught.value.__notes__[-1].endswith("Not undone in \"graph_flow.Flow: f(len=3)\": 'made'")
