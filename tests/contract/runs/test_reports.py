"""Reports of runs on record, on each kind of store: what the engine's report says, without the flow."""

import contextlib
import dataclasses

import pytest

import taskflowx
from taskflowx import exceptions, retry, states
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import run_records
from taskflowx.record import metadata
from taskflowx.reports import writing
from taskflowx.runs import reporting
from tests.support.reports import Step


def flow_of(error=None):
    return graph_flow.Flow("orders").add(
        Step("fetch", "a secret", provides="raw"),
        unordered_flow.Flow("pack").add(*(Step(f"pack {i}", requires=["raw"], provides=f"p{i}") for i in range(2))),
        Step("ship", "x" * 5000, error=error, requires=["p0", "p1"], provides="letter"),
    )


def run(backend, run_id, flow, **options):
    with contextlib.suppress(ValueError):
        taskflowx.run(flow, backend=backend, run_id=run_id, **options)


def test_the_report_of_a_record_says_what_is_known(known, backend, run_id, tmp_path):
    run(backend, run_id, flow_of(ValueError("no <parcel>")))
    view = known.get(run_id)
    got = reporting.facts_of(view)
    assert (got.flow, got.run_id, got.state, got.not_undone) == ("orders", run_id, states.REVERTED, [])
    atoms = {atom.name: atom for atom in got.atoms}
    assert set(atoms) == {"fetch", "pack 0", "pack 1", "ship"}
    assert atoms["ship"].failure.exception_str == "no <parcel>"
    assert sorted(got.links.before("ship")) == ["pack 0", "pack 1"]
    assert sorted(got.links.after("fetch")) == ["pack 0", "pack 1"]
    assert got.entries == (view.history or None)
    assert bool(got.entries) == backend.keeps_history
    view.report(tmp_path / "run.html")
    said = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "no &lt;parcel&gt;" in said
    assert 'data-name="pack 1"' in said  # the graph
    assert "a secret" not in said


def test_results_are_told_by_type_and_size_and_shown_when_asked_for(known, backend, run_id, tmp_path):
    run(backend, run_id, flow_of())
    known.get(run_id).report(tmp_path / "told.html")
    told = (tmp_path / "told.html").read_text(encoding="utf-8")
    assert "str, 8 characters" in told
    assert "str, 5,000 characters (4.88 KB)" in told
    assert "a secret" not in told
    known.get(run_id).report(tmp_path / "shown.html", values=True)
    assert "a secret" in (tmp_path / "shown.html").read_text(encoding="utf-8")


def test_a_sensitive_result_is_masked(known, backend, run_id, tmp_path):
    run(backend, run_id, flow_of())
    with contextlib.closing(backend.get_connection()) as connection:
        detail = connection.get_flow_details(run_records.flow_uuid(run_id))
        atom = next(one for one in detail if one.name == "ship")
        atom.meta[metadata.SENSITIVE] = ["letter"]
        connection.update_atom_details(atom)
    for values in (True, False):
        known.get(run_id).report(tmp_path / "run.html", values=values)
        said = (tmp_path / "run.html").read_text(encoding="utf-8")
        assert "<td>***" in said
        assert "xxxxx" not in said
        assert "5,000" not in said


def test_the_history_of_a_record_is_in_its_report(known, backend, run_id, tmp_path):
    run(backend, run_id, flow_of(), history=True)
    view = known.get(run_id)
    if not backend.keeps_history:
        view.report(tmp_path / "run.html")
        assert "No history of this run was kept" in (tmp_path / "run.html").read_text(encoding="utf-8")
        with pytest.raises(exceptions.InvalidState, match="needs the history"):
            view.report(tmp_path / "run.html", trace=True)
        return
    pytest.importorskip("perfetto", reason="writes the trace")
    view.report(tmp_path / "run.html", trace=True)
    kept = writing.history_of(tmp_path / "run.html")
    assert [(one.number, one.atom, one.new, one.worker) for one in kept] == [
        (one.number, one.atom, one.new, one.worker) for one in view.history
    ]
    assert (tmp_path / "run.perfetto-trace").stat().st_size > 500


def test_what_was_done_by_hand_is_in_the_report(known, backend, run_id):
    flow = flow_of()
    engine = taskflowx.load(flow, backend=backend, run_id=run_id)
    engine.skip("fetch", "by hand", by="ann", reason="it was there")
    engine.run()
    engine.rollback(to="fetch", by="bob")
    engine.close()
    deeds = reporting.facts_of(known.get(run_id)).by_hand
    assert [(deed.what, deed.name, deed.who, deed.reason) for deed in deeds] == [
        ("skip", "fetch", "ann", "it was there"),
        ("rollback", "fetch", "bob", None),
    ]


def test_a_run_that_waits_says_until_when(known, backend, run_id):
    @dataclasses.dataclass
    class Stops:
        engine: object = None

        def __call__(self, *_):
            self.engine.suspend()

    flow = linear_flow.Flow("f", retry.Times(2, name="again", delay=3600)).add(Step("a", error=ValueError("later")))
    engine = taskflowx.load(flow, backend=backend, run_id=run_id)
    engine.atom_notifier.register("REVERTED", Stops(engine))
    engine.run()
    engine.close()
    got = reporting.facts_of(known.get(run_id))
    assert got.state == states.SUSPENDED
    assert [atom.note[:11] for atom in got.atoms if atom.note] == ["waits until"]


def test_a_run_without_an_id_has_a_report_without_a_graph(known, backend, tmp_path):
    taskflowx.run(linear_flow.Flow("nameless").add(Step("a")), backend=backend)
    [summary] = known.list(flow="nameless")
    known.get(summary.id).report(tmp_path / "run.html")
    said = (tmp_path / "run.html").read_text(encoding="utf-8")
    assert "Its only atom succeeded." in said
    assert "A report of its engine has the graph." in said


def test_a_wide_flow_has_its_links_and_is_not_drawn(known, backend, run_id, tmp_path):
    flow = linear_flow.Flow("f").add(
        *(unordered_flow.Flow(part).add(*(Step(f"{part} {i}") for i in range(80))) for part in "ab")
    )
    run(backend, run_id, flow)
    got = reporting.facts_of(known.get(run_id))
    assert got.picture is None
    assert sorted(got.links.before("b 7")) == sorted(f"a {i}" for i in range(80))
