"""Pictures of runs: before, under way, ended and resumed."""

from __future__ import annotations

import contextlib
import threading

import pytest

from taskflowx import engines, retry, states, testing
from taskflowx.listeners import timing
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends
from taskflowx.pictures import model
from taskflowx.record import metadata
from tests.unit.pictures.sample import Drawing, Step


def lines_of(engine, **kwargs):
    """Name -> the text below it."""
    return {box.name: box.lines[1:] for box in Drawing(engine.picture(**kwargs)).boxes.values()}


def run(made, **kwargs):
    engine = engines.load(made, **kwargs)
    engine.run()
    return engine


def fail(engine):
    with pytest.raises(Exception, match=r"Woot!|Not undone"):
        engine.run()


def test_a_run_that_has_not_begun():
    engine = engines.load(linear_flow.Flow("f").add(Step("a")))
    assert Drawing(engine.picture()).by_name["a"].lines[0] == "a"
    engine.compile()
    engine.prepare()
    assert lines_of(engine)["a"] == ["○ PENDING"]


def test_a_run_that_has_ended_shows_state_by_colour_sign_and_word():
    drawing = Drawing(run(linear_flow.Flow("f").add(Step("a"))).picture())
    assert drawing.by_name["a"].lines == ["a", "✓ SUCCESS"]
    assert "tfx-SUCCESS" in drawing.by_name["a"].kinds
    assert drawing.by_name["f"].lines == ["flinear · ✓ SUCCESS"]


def test_each_state_of_an_atom_has_a_sign_and_a_colour():
    from taskflowx.pictures import svg

    assert set(states.ATOM_STATES) <= set(model.SIGNS)
    assert set(states.ATOM_STATES) == set(svg.COLOURS)
    assert len(set(model.SIGNS.values())) == len(model.SIGNS)


def test_a_rollback_shows_what_has_failed():
    made = linear_flow.Flow("f").add(Step("a"), Step("b", fails=1, error="Woot! & <b>\nmore"), Step("c"))
    engine = engines.load(made)
    fail(engine)
    drawing = Drawing(engine.picture())
    assert [drawing.by_name[name].lines[1:] for name in "abc"] == [
        ["↶ REVERTED"], ["↶ REVERTED", "RuntimeError: Woot! & <b>"], ["○ PENDING"],
    ]  # fmt: skip
    assert "RuntimeError: Woot! & <b>" in drawing.by_name["b"].tip


def test_a_revert_that_fails():
    class Stuck(Step):
        def revert(self, **kwargs):
            raise ValueError("Woot! It is stuck")

    engine = engines.load(linear_flow.Flow("f").add(Stuck("a"), Step("b", fails=1)))
    fail(engine)
    assert lines_of(engine)["a"] == ["⚠ REVERT_FAILURE", "ValueError: Woot! It is stuck"]


def test_attempts_of_a_retry():
    made = linear_flow.Flow("f", retry.Times(3)).add(Step("a", fails=2))
    assert lines_of(run(made))["f_retry"] == ["✓ SUCCESS · 3 attempts"]
    assert lines_of(run(linear_flow.Flow("f", retry.Times(3)).add(Step("a"))))["f_retry"] == ["✓ SUCCESS"]


@pytest.mark.parametrize("history", [False, True])
def test_attempts_of_a_retry_that_has_given_up(history):
    inner = linear_flow.Flow("inner").add(Step("a", fails=9))
    own = Step("own", retry=retry.Times(2), fails=9)
    engine = engines.load(
        unordered_flow.Flow("f").add(linear_flow.Flow("outer", retry.Times(3)).add(inner)), history=history
    )
    fail(engine)
    assert lines_of(engine)["outer_retry"] == ["↶ REVERTED · 3 attempts"]
    engine = engines.load(linear_flow.Flow("g").add(own), history=history)
    fail(engine)
    assert lines_of(engine)["own_retry"] == ["↶ REVERTED · 2 attempts"]


def test_attempts_of_a_task_that_was_interrupted():
    engine = run(linear_flow.Flow("f").add(Step("a"), Step("b")))
    engine.storage.update_atom_metadata("a", {metadata.ATTEMPT: 2})
    engine.storage.update_atom_metadata("b", {metadata.ATTEMPT: "odd"})
    assert lines_of(engine)["a"] == ["✓ SUCCESS · 2 attempts"]
    assert lines_of(engine)["b"] == ["✓ SUCCESS"]


def test_what_a_decider_has_skipped():
    a, b = Step("a"), Step("b")
    made = graph_flow.Flow("f").add(a, b)
    made.link(a, b, decider=lambda history: False)
    drawing = Drawing(run(made).picture())
    assert drawing.by_name["b"].lines[1:] == ["– IGNORE"]


def test_durations_of_a_history():
    clock = testing.VirtualClock()

    class Slow(Step):
        def execute(self, **kwargs):
            clock.advance(0.25)
            return super().execute(**kwargs)

    made = linear_flow.Flow("f", retry.Times(2)).add(Slow("a", fails=1), Step("b"))
    engine = run(made, history=True, clock=clock)
    assert lines_of(engine)["a"] == ["✓ SUCCESS · 0.25 s"]
    assert lines_of(engine)["f_retry"] == ["✓ SUCCESS · 2 attempts"]


def test_a_run_whose_store_is_closed_is_drawn(tmp_path):
    with backends.backend(f"dir://{tmp_path}") as store:
        engine = run(linear_flow.Flow("f").add(Step("a")), history=True, backend=store)
        assert lines_of(engine)["a"][0].startswith("✓ SUCCESS · ")
    assert lines_of(engine)["a"][0].startswith("✓ SUCCESS")


def test_durations_where_they_are_on_record():
    engine = engines.load(linear_flow.Flow("f").add(Step("a"), Step("b")))
    with timing.DurationListener(engine):
        engine.run()
    engine.storage.update_atom_metadata("a", {"duration": 0.25})
    engine.storage.update_atom_metadata("b", {"duration": "long"})
    assert lines_of(engine)["a"] == ["✓ SUCCESS · 0.25 s"]
    assert lines_of(engine)["b"] == ["✓ SUCCESS"]


def test_progress_of_a_task_under_way():
    shown = []

    class Half(Step):
        def execute(self):
            self.update_progress(0.5)
            shown.append(lines_of(engine)["a"])

    engine = engines.load(linear_flow.Flow("f").add(Half("a")))
    engine.run()
    assert shown == [["▶ RUNNING · 50%"]]


def test_another_thread_may_look_at_a_run():
    made = graph_flow.Flow("f").add(
        *(
            linear_flow.Flow(f"f{n}", retry.Times(3)).add(*(Step(f"{n}.{m}", fails=m % 2) for m in range(5)))
            for n in range(20)
        )
    )
    engine = engines.load(made, executor="threads", max_workers=2)
    pictures, ended = [], threading.Event()

    def look():
        while not ended.is_set():
            pictures.append(engine.picture())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        engine.run()
    finally:
        ended.set()
        looking.join()
    assert pictures
    for picture in pictures[:: max(1, len(pictures) // 10)]:
        Drawing(picture).check()
    assert {tuple(lines) for name, lines in lines_of(engine).items() if "." in name} == {("✓ SUCCESS",)}


@pytest.mark.parametrize("address", ["memory", "dir://{}", "sqlite:///{}/runs.db"])
def test_a_run_that_is_read_from_a_store(address, tmp_path):
    if address.startswith("sqlite"):
        pytest.importorskip("sqlalchemy")
    made = linear_flow.Flow("f").add(Step("a"), Step("b", fails=1))
    backend = backends.fetch(address.format(tmp_path))
    with contextlib.closing(backend.get_connection()) as connection:
        connection.upgrade()
    engine = engines.load(made, backend=backend)
    fail(engine)
    uuids = engine.storage.flow_uuid
    with contextlib.closing(backend.get_connection()) as connection:
        (book,) = connection.get_logbooks()
    again = engines.load(made, book=book, flow_detail=book.find(uuids), backend=backend)
    for _ in range(2):
        assert lines_of(again)["b"] == ["↶ REVERTED", "RuntimeError: Woot!"]
        again.compile()
    backend.close()


def test_a_large_run_is_folded():
    made = linear_flow.Flow("f").add(
        unordered_flow.Flow("u").add(*(Step(f"s{n}", fails=n == 7, error="no room") for n in range(40)))
    )
    engine = engines.load(made)
    with pytest.raises(RuntimeError, match="no room"):
        engine.run()
    assert lines_of(engine, fold=10)["u"][0] == "unordered · 40 tasks"
    assert lines_of(engine, fold=10)["u"][-1] == "s7: RuntimeError: no room"


def test_a_single_task_is_drawn():
    engine = run(Step("a"))
    assert [(box.name, box.lines) for box in Drawing(engine.picture()).boxes.values()] == [("a", ["a", "✓ SUCCESS"])]
    assert engine.picture().mermaid.splitlines()[1] == '    n0("a<br>✓ SUCCESS"):::SUCCESS'
