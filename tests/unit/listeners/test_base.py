"""What all listeners have in common."""

import logging

import pytest

from taskflowx import states
from taskflowx.listeners import base
from tests.unit.listeners import sample


class Note(base.Listener):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.seen = []

    def _flow_receiver(self, state, details):
        self.seen.append((details["flow_name"], state, details["old_state"]))

    def _task_receiver(self, state, details):
        self.seen.append((details["task_name"], state, details["old_state"]))

    def _retry_receiver(self, state, details):
        self.seen.append((details["retry_name"], state, details["old_state"]))


def seen_in(flow, **kwargs):
    engine = sample.load(flow)
    with Note(engine, **kwargs) as listener:
        sample.run(engine)
    return [f"{name} {state}" for name, state, _ in listener.seen]


def test_a_listener_is_told_of_everything_in_order():
    assert seen_in(sample.retried()) == [
        *("flow RUNNING", "a RUNNING", "a SUCCESS", "r RUNNING", "r SUCCESS"),
        *("b RUNNING", "b SUCCESS", "c RUNNING", "c FAILURE"),
        *("c REVERTING", "c REVERTED", "b REVERTING", "b REVERTED"),
        *("r RETRYING", "b PENDING", "c PENDING", "r RUNNING", "r SUCCESS"),
        *("b RUNNING", "b SUCCESS", "c RUNNING", "c SUCCESS", "flow SUCCESS"),
    ]


def test_a_listener_is_told_of_what_is_left_out():
    assert "b IGNORE" in seen_in(sample.left_out())


def test_a_listener_is_told_of_a_suspension_and_of_going_on():
    engine = sample.suspended_after("a")
    with Note(engine, task_listen_for=()) as listener:
        sample.run_on(engine)
    assert listener.seen == [
        ("flow", "RUNNING", "PENDING"),
        ("flow", "SUSPENDING", "RUNNING"),
        ("flow", "SUSPENDED", "SUSPENDING"),
        ("flow", "RUNNING", "SUSPENDED"),
        ("flow", "SUCCESS", "RUNNING"),
    ]


@pytest.mark.parametrize(
    ("chosen", "want"),
    [
        ({"task_listen_for": [states.FAILURE], "flow_listen_for": (), "retry_listen_for": None}, ["c FAILURE"]),
        ({"task_listen_for": (), "flow_listen_for": states.SUCCESS, "retry_listen_for": ()}, ["flow SUCCESS"]),
        (
            {"task_listen_for": (), "flow_listen_for": (), "retry_listen_for": ["RETRYING", "RETRYING"]},
            ["r RETRYING"],
        ),
    ],
)
def test_states_can_be_chosen(chosen, want):
    assert seen_in(sample.retried(), **chosen) == want


def test_progress_can_be_listened_for():
    class Report(sample.Give):
        def execute(self):
            self.update_progress(0.5)

    class Far(base.Listener):
        far = None

        def _task_receiver(self, state, details):
            self.far = (details["task_name"], details["progress"])

    engine = sample.load(sample.row(Report("a")))
    with Far(engine, task_listen_for=["update_progress"]) as listener:
        engine.run()
    assert listener.far == ("a", 0.5)


def test_registering_twice_is_registering_once():
    engine = sample.load()
    listener = Note(engine)
    listener.register()
    listener.register()
    assert (len(engine.notifier), len(engine.atom_notifier)) == (1, 2)
    listener.deregister()
    listener.deregister()
    assert (len(engine.notifier), len(engine.atom_notifier)) == (0, 0)


def test_nothing_is_registered_before_and_after_the_block():
    engine = sample.load()
    listener = Note(engine)
    assert engine.atom_notifier._tfx_topics == {}
    with listener:
        assert engine.atom_notifier._tfx_topics
        assert engine.notifier._tfx_topics
    assert engine.atom_notifier._tfx_topics == engine.notifier._tfx_topics == {}


def test_a_listener_can_be_registered_again():
    engine = sample.load()
    listener = Note(engine, task_listen_for=())
    with listener:
        pass
    with listener:
        sample.run(engine)
    assert [state for _, state, _ in listener.seen] == ["RUNNING", "SUCCESS"]


def test_receivers_are_registered_all_or_none(monkeypatch):
    engine = sample.load()

    def refuse(*args, **kwargs):
        raise ValueError("no more")

    monkeypatch.setattr(engine.atom_notifier, "register", refuse)
    listener = Note(engine)
    with pytest.raises(ValueError, match="no more"):
        listener.register()
    assert len(engine.notifier) == 0
    assert listener._tfx_registered == []


def test_two_listeners_of_one_engine_do_not_know_each_other():
    engine = sample.load()
    with Note(engine) as first:
        with Note(engine):
            pass
        sample.run(engine)
    assert len(first.seen) == 6


def test_the_engine_is_at_hand():
    class Asks(base.Listener):
        def asked(self):
            return self._engine

    engine = sample.load()
    assert Asks(engine).asked() is engine


def test_a_listener_that_raises_is_logged_and_the_run_goes_on():
    class Bad(base.Listener):
        def _task_receiver(self, state, details):
            raise KeyError("bad listener")

    engine = sample.load()
    with Bad(engine), sample.logged("taskflowx.types.notifier") as records:
        assert sample.run(engine) == states.SUCCESS
    assert len(records) == 4
    assert records[0].levelno == logging.WARNING
    assert "to notify about event RUNNING" in records[0].getMessage()
    assert records[0].exc_info[0] is KeyError


def test_a_failing_deregister_is_logged_and_hides_nothing():
    class Bad(base.Listener):
        def deregister(self):
            raise KeyError("bad listener")

    engine = sample.load()
    with sample.logged() as records:
        with pytest.raises(ValueError, match="in the block"), Bad(engine):
            raise ValueError("in the block")
        with Bad(engine) as bad:
            base.Listener.deregister(bad)
    assert [record.getMessage() for record in records] == [f"Failed deregistering listeners from engine {engine}"] * 2
    assert records[0].name == "taskflowx.listeners.base"
    assert records[0].exc_info[0] is KeyError


def test_receivers_may_be_written_with_names_of_their_own():
    class Own(base.Listener):
        seen = 0

        def _task_receiver(self, what, facts):
            self.seen += 1

    engine = sample.load()
    with Own(engine) as listener:
        sample.run(engine)
    assert listener.seen == 4


def test_a_dumping_listener_needs_a_place_to_dump_to():
    with pytest.raises(TypeError, match=r"abstract class DumpingListener .*_dump"):
        base.DumpingListener(sample.load())


class Lines(base.DumpingListener):
    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.lines = []
        self.raised = []

    def _dump(self, message, *args, **kwargs):
        self.lines.append((message % args).replace(str(self._engine), "E"))
        if kwargs.get("exc_info"):
            self.raised.append(kwargs["exc_info"][1].args)


def lines_of(engine):
    with Lines(engine) as listener:
        sample.run_on(engine)
    fd = engine.storage.record.flow_detail
    uuids = [fd.uuid, *(detail.uuid for detail in fd)]
    lines = listener.lines
    for uuid in uuids:
        lines = [line.replace(f" ({uuid})", "") for line in lines]
    assert not any("-" in line for line in lines)
    return lines, listener.raised


FAILED = (
    "E has moved task 'b' into state 'FAILURE' from state 'RUNNING' "
    "with result 'Failure: ValueError: on purpose' (failure=True)"
)


def test_each_transition_is_a_line():
    lines, raised = lines_of(sample.load(sample.row(sample.Give("a"), sample.Break("b"))))
    assert lines == [
        "E has moved flow 'flow' into state 'RUNNING' from state 'PENDING'",
        "E has moved task 'a' into state 'RUNNING' from state 'PENDING'",
        "E has moved task 'a' into state 'SUCCESS' from state 'RUNNING' with result 'a' (failure=False)",
        "E has moved task 'b' into state 'RUNNING' from state 'PENDING'",
        FAILED,
        "E has moved task 'b' into state 'REVERTING' from state 'FAILURE'",
        "E has moved task 'b' into state 'REVERTED' from state 'REVERTING' with result 'None' (failure=False)",
        "E has moved task 'a' into state 'REVERTING' from state 'SUCCESS'",
        "E has moved task 'a' into state 'REVERTED' from state 'REVERTING' with result 'None' (failure=False)",
        "E has moved flow 'flow' into state 'REVERTED' from state 'RUNNING'",
    ]
    assert raised == [("on purpose",)]


def test_transitions_of_retries_are_lines_too():
    lines, _ = lines_of(sample.load(sample.retried()))
    assert [line for line in lines if "retry" in line] == [
        "E has moved retry 'r' into state 'RUNNING' from state 'PENDING'",
        "E has moved retry 'r' into state 'SUCCESS' from state 'RUNNING' with result '1' (failure=False)",
        "E has moved retry 'r' into state 'RETRYING' from state 'SUCCESS'",
        "E has moved retry 'r' into state 'RUNNING' from state 'RETRYING'",
        "E has moved retry 'r' into state 'SUCCESS' from state 'RUNNING' with result '2' (failure=False)",
    ]


def test_a_failed_revert_and_a_suspension_are_lines():
    lines, raised = lines_of(sample.load(sample.row(sample.Stuck("a"), sample.Break("b"))))
    assert (
        "E has moved task 'a' into state 'REVERT_FAILURE' from state 'REVERTING' "
        "with result 'Failure: RuntimeError: stuck' (failure=True)"
    ) in lines
    assert raised == [("on purpose",), ("stuck",)]
    lines, _ = lines_of(sample.suspended_after("a"))
    assert "E has moved flow 'flow' into state 'SUSPENDED' from state 'SUSPENDING'" in lines


def test_what_is_left_out_is_a_line():
    lines, _ = lines_of(sample.load(sample.left_out()))
    assert "E has moved task 'b' into state 'IGNORE' from state 'PENDING'" in lines
