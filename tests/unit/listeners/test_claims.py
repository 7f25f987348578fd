"""The listener that stops the run of a job that was taken over; job and board are fakes of the two calls it makes."""

import logging

import pytest

from taskflowx import exceptions, states
from taskflowx.listeners import claims
from tests.unit.listeners import sample


class Answers:
    """Gives one answer after another, and the last one from then on; an exception is raised."""

    def __init__(self, *answers):
        self._left = list(answers)
        self.asked = 0

    def __call__(self):
        self.asked += 1
        answer = self._left.pop(0) if len(self._left) > 1 else self._left[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


class Job:
    def __init__(self, *answers):
        self.answers = Answers(*answers)

    @property
    def state(self):
        return self.answers()

    def __str__(self):
        return "JOB"


class Board:
    def __init__(self, *owners):
        self.answers = Answers(*owners)

    def find_owner(self, job):
        assert isinstance(job, Job)
        return self.answers()


def run(job, board, engine=None, **kwargs):
    engine = engine or sample.load()
    with claims.CheckingClaimListener(engine, job, board, "me", **kwargs):
        return sample.run(engine)


CLAIMED, UNCLAIMED = states.CLAIMED, states.UNCLAIMED


def test_as_long_as_the_claim_stands_nothing_happens():
    job, board = Job(CLAIMED), Board("me")
    with sample.logged() as records:
        assert run(job, board) == states.SUCCESS
    assert job.answers.asked == board.answers.asked == 6  # the flow and two tasks, each twice
    assert {(record.levelno, record.getMessage()) for record in records} == {
        (logging.DEBUG, "Job 'JOB' is still claimed (actively owned by 'me')")
    }


@pytest.mark.parametrize(
    ("job", "board"),
    [
        (Job(CLAIMED), Board("me", "other")),
        (Job(CLAIMED), Board("me", None)),
        (Job(CLAIMED, UNCLAIMED), Board("me")),
        (Job(CLAIMED), Board("me", exceptions.NotFound("gone"))),
        (Job(CLAIMED), Board("me", exceptions.JobFailure("no connection"), "me")),
        (Job(CLAIMED, exceptions.JobFailure("no connection"), CLAIMED), Board("me")),
        (Job(CLAIMED, exceptions.NotFound("gone")), Board("me")),
    ],
)
def test_a_lost_claim_suspends_the_run(job, board):
    with sample.logged(level=logging.WARNING) as records:
        assert run(job, board) == states.SUSPENDED
    assert {record.getMessage() for record in records} == {"Job 'JOB' has lost its claim (previously owned by 'me')"}
    assert records[0].name == "taskflowx.listeners.claims"


def test_a_job_that_is_complete_is_no_lost_one():
    assert run(Job(states.COMPLETE), Board("me")) == states.SUCCESS


def test_somebody_else_can_decide_what_a_loss_means():
    seen = []

    def note(engine, state, details):
        seen.append((engine, state, details.get("task_name") or details["flow_name"]))

    engine = sample.load()
    assert run(Job(CLAIMED), Board("me", "me", "me", "other"), engine, on_job_loss=note) == states.SUCCESS
    assert seen == [
        (engine, "RUNNING", "b"),
        (engine, "SUCCESS", "b"),
        (engine, "SUCCESS", "flow"),
    ]


def test_a_handler_that_raises_is_logged_and_the_run_goes_on():
    def fail(engine, state, details):
        raise KeyError("bad handler")

    with sample.logged("taskflowx.types.notifier") as records:
        assert run(Job(UNCLAIMED), Board("me"), on_job_loss=fail) == states.SUCCESS
    assert {record.exc_info[0] for record in records} == {KeyError}


def test_an_engine_that_cannot_be_suspended_is_logged(monkeypatch):
    engine = sample.load()

    def refuse():
        raise exceptions.InvalidState("not now")

    monkeypatch.setattr(engine, "suspend", refuse)
    with sample.logged(level=logging.WARNING) as records:
        assert run(Job(UNCLAIMED), Board("me"), engine) == states.SUCCESS
    assert records[1].getMessage().startswith(f"Failed suspending engine '{engine}', (previously owned by 'me'):\n")
    assert "not now" in records[1].getMessage()


def test_a_handler_must_be_callable():
    with pytest.raises(ValueError, match="Custom 'on_job_loss' handler must be callable"):
        claims.CheckingClaimListener(sample.load(), Job(CLAIMED), Board("me"), "me", on_job_loss="suspend")
