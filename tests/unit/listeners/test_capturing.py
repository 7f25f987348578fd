"""The listener that keeps what it is told."""

import pytest

from taskflowx.listeners import capturing
from tests.unit.listeners import sample


def captured(flow=None, cls=capturing.CaptureListener, **kwargs):
    engine = sample.load(flow)
    with cls(engine, **kwargs) as listener:
        sample.run(engine)
    return listener.values


def names(values):
    return [
        f"{kind} {details.get(f'{kind}_name')} {state}"
        for kind, state, details in values
    ]  # fmt: skip


def test_each_transition_is_kept_with_its_details():
    engine = sample.load(sample.row(sample.Give("a")))
    with capturing.CaptureListener(engine) as listener:
        engine.run()
    task, flow = engine.storage.get_atom_uuid("a"), engine.storage.flow_uuid
    assert listener.values == [
        ("flow", "RUNNING", {"engine": engine, "flow_name": "flow", "flow_uuid": flow, "old_state": "PENDING"}),
        ("task", "RUNNING", {"task_name": "a", "task_uuid": task, "old_state": "PENDING"}),
        ("task", "SUCCESS", {"task_name": "a", "task_uuid": task, "old_state": "RUNNING", "result": "a"}),
        ("flow", "SUCCESS", {"engine": engine, "flow_name": "flow", "flow_uuid": flow, "old_state": "RUNNING"}),
    ]


def test_retries_are_kept_as_such():
    values = captured(sample.retried(), capture_task=False, capture_flow=False)
    assert names(values) == [f"retry r {state}" for state in ("RUNNING", "SUCCESS", "RETRYING", "RUNNING", "SUCCESS")]
    assert [details.get("result") for _, state, details in values if state == "SUCCESS"] == [1, 2]


@pytest.mark.parametrize("kind", ["flow", "task", "retry"])
def test_each_kind_can_be_left_out(kind):
    kinds = {"flow", "task", "retry"}
    found = {value[0] for value in captured(sample.retried(), **{f"capture_{kind}": False})}
    assert found == kinds - {kind}


def test_single_ones_can_be_left_out():
    values = captured(sample.retried(), skip_tasks=["a", "c"], skip_retries="r", skip_flows={"flow"})
    assert set(names(values)) == {
        f"task b {state}" for state in ("RUNNING", "SUCCESS", "REVERTING", "REVERTED", "PENDING")
    }


def test_states_can_be_chosen():
    values = captured(sample.retried(), task_listen_for=["FAILURE"], flow_listen_for=["SUCCESS"], retry_listen_for=())
    assert names(values) == ["task c FAILURE", "flow flow SUCCESS"]


def test_values_can_be_given_and_are_new_otherwise():
    mine = []
    assert captured(values=mine) is mine
    assert len(mine) == 6
    engine = sample.load()
    assert capturing.CaptureListener(engine).values is not capturing.CaptureListener(engine).values


def test_a_subclass_says_what_is_kept():
    class Short(capturing.CaptureListener):
        @staticmethod
        def _format_capture(kind, state, details):
            return f"{details[kind + '_name']}.{kind[0]} {state}"

    assert captured(cls=Short) == [
        *("flow.f RUNNING", "a.t RUNNING", "a.t SUCCESS", "b.t RUNNING", "b.t SUCCESS", "flow.f SUCCESS")
    ]
