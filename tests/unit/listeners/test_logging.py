"""The listeners that log."""

import logging

import pytest

from taskflowx import formatters, retry
from taskflowx.listeners import logging as listeners
from taskflowx.types.failure import Failure
from tests.unit.listeners import sample


def logged_by(cls, flow=None, *, name="taskflowx.listeners", level=1, **kwargs):
    engine = sample.load(flow)
    with sample.logged(name, level) as records, cls(engine, **kwargs):
        sample.run(engine)
    return records


def short(record):
    """Return level and text of a record without engine and identities."""
    text = record.getMessage()
    for arg in record.args:
        if str(arg).count("-") == 4 and len(str(arg)) == 36:
            text = text.replace(f" ({arg})", "")
    return logging.getLevelName(record.levelno)[0], text.partition(" has moved ")[2] or text


FAILED = "Failure: ValueError: on purpose"
DESCRIBED = """\
Task 'b' transitioned into state 'FAILURE' from state 'RUNNING'
2 predecessors (most recent first):
  Atom 'a' {'intention': 'EXECUTE', 'state': 'SUCCESS', 'requires': {}, 'provides': 'a'}
  |__Flow 'flow'"""


class Unshown(sample.Give):
    def execute(self, **given):
        return 10**5000  # more digits than Python shows


@pytest.mark.parametrize("cls", [listeners.LoggingListener, listeners.DynamicLoggingListener])
def test_a_result_without_a_text_is_logged(cls):
    (line,) = [
        text
        for record in logged_by(cls, sample.row(Unshown("a")))
        if "state 'SUCCESS'" in (text := record.getMessage()) and "ask 'a'" in text
    ]
    assert "with result 'a value whose str raised ValueError'" in line


# -- LoggingListener -----------------------------------------------------------------------------


def test_each_transition_is_logged_at_one_level():
    records = logged_by(listeners.LoggingListener, sample.row(sample.Break("a")), level=logging.DEBUG)
    assert [short(record) for record in records] == [
        ("D", "flow 'flow' into state 'RUNNING' from state 'PENDING'"),
        ("D", "task 'a' into state 'RUNNING' from state 'PENDING'"),
        (
            "D",
            f"task 'a' into state 'FAILURE' from state 'RUNNING' with result '{FAILED}' (failure=True)",
        ),
        ("D", "task 'a' into state 'REVERTING' from state 'FAILURE'"),
        ("D", "task 'a' into state 'REVERTED' from state 'REVERTING' with result 'None' (failure=False)"),
        ("D", "flow 'flow' into state 'REVERTED' from state 'RUNNING'"),
    ]
    assert [record.exc_info[0] for record in records if record.exc_info] == [ValueError]
    assert {record.name for record in records} == {"taskflowx.listeners.logging"}


def test_the_level_can_be_chosen():
    records = logged_by(listeners.LoggingListener, level=logging.INFO)
    assert records == []
    engine = sample.load()
    with sample.logged(level=logging.INFO) as records, listeners.LoggingListener(engine, level=logging.ERROR):
        sample.run(engine)
    assert [record.levelname for record in records] == ["ERROR"] * 6


@pytest.mark.parametrize("cls", [listeners.LoggingListener, listeners.DynamicLoggingListener])
def test_the_logger_can_be_chosen_by_argument_or_by_class(cls):
    mine, other = logging.getLogger("tests.mine"), logging.getLogger("tests.other")
    own = type("Own", (cls,), {"_LOGGER": other})
    assert {r.name for r in logged_by(cls, log=mine, name="tests")} == {"tests.mine"}
    assert {r.name for r in logged_by(own, name="tests")} == {"tests.other"}
    assert {r.name for r in logged_by(own, log=mine, name="tests")} == {"tests.mine"}


# -- DynamicLoggingListener ----------------------------------------------------------------------


def test_what_goes_well_is_logged_at_the_low_level():
    records = logged_by(listeners.DynamicLoggingListener)
    assert [short(record) for record in records] == [
        ("D", "Flow 'flow' transitioned into state 'RUNNING' from state 'PENDING'"),
        ("D", "Task 'a' transitioned into state 'RUNNING' from state 'PENDING'"),
        ("D", "Task 'a' transitioned into state 'SUCCESS' from state 'RUNNING' with result 'a'"),
        ("D", "Task 'b' transitioned into state 'RUNNING' from state 'PENDING'"),
        ("D", "Task 'b' transitioned into state 'SUCCESS' from state 'RUNNING' with result 'b'"),
        ("D", "Flow 'flow' transitioned into state 'SUCCESS' from state 'RUNNING'"),
    ]


def test_failures_and_what_follows_from_them_are_logged_at_the_high_level():
    records = logged_by(listeners.DynamicLoggingListener, sample.row(sample.Give("a"), sample.Break("b")))
    assert [short(record) for record in records][4:] == [
        (
            "W",
            DESCRIBED,
        ),
        ("D", "Task 'b' transitioned into state 'REVERTING' from state 'FAILURE'"),
        ("W", "Task 'b' transitioned into state 'REVERTED' from state 'REVERTING' with result 'None'"),
        ("D", "Task 'a' transitioned into state 'REVERTING' from state 'SUCCESS'"),
        ("W", "Task 'a' transitioned into state 'REVERTED' from state 'REVERTING' with result 'None'"),
        ("W", "Flow 'flow' transitioned into state 'REVERTED' from state 'RUNNING'"),
    ]
    assert [record.exc_info and record.exc_info[0] for record in records][4] is ValueError


def test_a_failed_revert_is_logged_with_its_exception():
    records = logged_by(listeners.DynamicLoggingListener, sample.row(sample.Stuck("a"), sample.Break("b")))
    *_, stuck, flow = records
    assert short(stuck) == ("W", "Task 'a' transitioned into state 'REVERT_FAILURE' from state 'REVERTING'")
    assert stuck.exc_info[0] is RuntimeError
    assert short(flow) == ("W", "Flow 'flow' transitioned into state 'FAILURE' from state 'RUNNING'")


def test_retries_are_logged_too():
    records = logged_by(listeners.DynamicLoggingListener, sample.retried())
    assert [short(record) for record in records if record.msg.startswith("Retry")] == [
        ("D", "Retry 'r' transitioned into state 'RUNNING' from state 'PENDING'"),
        ("D", "Retry 'r' transitioned into state 'SUCCESS' from state 'RUNNING' with result '1'"),
        ("D", "Retry 'r' transitioned into state 'RETRYING' from state 'SUCCESS'"),
        ("D", "Retry 'r' transitioned into state 'RUNNING' from state 'RETRYING'"),
        ("D", "Retry 'r' transitioned into state 'SUCCESS' from state 'RUNNING' with result '2'"),
    ]


def test_a_retry_that_fails_itself_is_logged_as_a_failure():
    flow = sample.row(sample.Give("a"), control=retry.ForEach([], "r"))
    records = logged_by(listeners.DynamicLoggingListener, flow, level=logging.WARNING)
    level, text = short(records[0])
    assert (level, text.splitlines()) == (
        "W",
        [
            "Retry 'r' transitioned into state 'FAILURE' from state 'RUNNING'",
            "1 predecessors (most recent first):",
            "  Flow 'flow'",
        ],
    )


def test_levels_can_be_chosen():
    engine = sample.load(sample.row(sample.Break("a")))
    with (
        sample.logged() as records,
        listeners.DynamicLoggingListener(engine, level=logging.INFO, failure_level=logging.ERROR),
    ):
        sample.run(engine)
    assert [record.levelname[0] for record in records] == list("IIEIEE")


def test_results_are_told_only_where_what_goes_well_is_logged():
    class Undo(sample.Give):
        def revert(self, result):
            return "SECRET"

    for level, shown in ((logging.INFO, False), (logging.DEBUG, True)):
        engine = sample.load(sample.row(Undo("a"), sample.Break("b")))
        with sample.logged(level=level) as records, listeners.DynamicLoggingListener(engine):
            sample.run(engine)
        assert any(record.getMessage().endswith("with result 'SECRET'") for record in records) is shown


def test_suspension_is_no_failure():
    engine = sample.suspended_after("a")
    with sample.logged(level=logging.DEBUG) as records, listeners.DynamicLoggingListener(engine):
        sample.run_on(engine)
    assert {record.levelname for record in records} == {"DEBUG"}
    assert [short(r)[1].partition(" transitioned into ")[2] for r in records if r.msg.startswith("Flow")][1:4] == [
        "state 'SUSPENDING' from state 'RUNNING'",
        "state 'SUSPENDED' from state 'SUSPENDING'",
        "state 'RUNNING' from state 'SUSPENDED'",
    ]


class Describe:
    """A formatter that gives what it was made with."""

    def __init__(self, exc_info, text):
        self.given = exc_info, text
        self.asked = []

    def format(self, fail, atom_matcher):
        self.asked.append((fail, atom_matcher))
        return self.given


@pytest.mark.parametrize(("text", "end"), [("in short", "'RUNNING'\nin short"), ("", "'RUNNING'")])
def test_failures_can_be_described_by_somebody_else(text, end):
    mine = Describe(None, text)
    records = logged_by(listeners.DynamicLoggingListener, sample.row(sample.Break("a")), fail_formatter=mine)
    assert records[2].getMessage().endswith(end)
    assert records[2].exc_info is None
    ((fail, matcher),) = mine.asked
    assert isinstance(fail, Failure)
    assert [matcher(formatters.Candidate(sample.Give(name))) for name in "ab"] == [True, False]


def test_nothing_is_described_that_is_not_logged():
    mine = Describe(None, "")
    logged_by(listeners.DynamicLoggingListener, sample.row(sample.Break("a")), level=logging.ERROR, fail_formatter=mine)
    assert mine.asked == []


def test_a_failure_without_its_exception_is_described_in_the_text():
    class Elsewhere(sample.Give):
        def execute(self):
            return Failure.from_dict(Failure.from_exception(ValueError("far away")).to_dict())

    records = logged_by(listeners.DynamicLoggingListener, sample.row(Elsewhere("a")))
    _, text = short(records[2])
    assert text.splitlines() == [
        "Task 'a' transitioned into state 'FAILURE' from state 'RUNNING'",
        "Failure: ValueError: far away",
        "Traceback not available.",
        "1 predecessors (most recent first):",
        "  Flow 'flow'",
    ]


def test_hidden_and_masked_values_are_in_no_record():
    class Login(sample.Give):
        def execute(self, password):
            return {"user": "me", "token": "SECRET"}

    flow = sample.row(
        sample.Give("SECRET", provides="whole"), Login("login", provides={"user", "token"}), sample.Break("c")
    )
    engine = sample.load(flow, store={"password": "SECRET"})
    with (
        sample.logged() as records,
        listeners.DynamicLoggingListener(
            engine,
            hide_inputs_outputs_of=["nobody"],
            mask_inputs_keys=["password"],
            mask_outputs_keys=["token", "whole"],
        ),
    ):
        sample.run(engine)
    texts = [record.getMessage().replace("'SECRET' (", "").replace("Atom 'SECRET'", "") for record in records]
    assert not [text for text in texts if "SECRET" in text]
    assert sum("'token': '***'" in text for text in texts) == 2
    assert any(text.endswith("with result '***'") for text in texts)
    engine = sample.load(flow, store={"password": "SECRET"})
    with (
        sample.logged() as records,
        listeners.DynamicLoggingListener(engine, hide_inputs_outputs_of=["SECRET", "login"]),
    ):
        sample.run(engine)
    texts = [record.getMessage().replace("'SECRET' (", "").replace("Atom 'SECRET'", "") for record in records]
    assert not [text for text in texts if "SECRET" in text]
