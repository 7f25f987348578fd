"""Pacing: the delays between the attempts of a controller, and what ends them early. No clock: times are passed in."""

from __future__ import annotations

import copy
import math
import pickle
import random

import pytest
from hypothesis import given, strategies

from taskflowx import pacing, retry, task
from taskflowx.types.failure import Failure

REFUSED = Failure.from_exception(ConnectionRefusedError("port 80"))
VALUE = Failure.from_exception(ValueError("v"))
WAITS = Failure.from_exception(retry.RetryAfter(7, "429"))
NUMBERS = strategies.floats(0, 1e6)


class OddError(Exception):
    pass


ODD = Failure.from_exception(OddError())


def paced(**keywords):
    return pacing.Pacing.of("Times retry 'r'", keywords)


# -- delays ----------------------------------------------------------------------------------------------------------


def test_without_settings_there_is_no_pacing():
    assert paced() is None
    assert paced(delay=None, retry_on=None) is None
    assert retry.Times(3)._tfx_pacing is None
    assert "_tfx_pacing" not in vars(retry.Times(3))


def test_delays_grow_by_the_factor_up_to_the_longest():
    made = paced(delay=0.5, backoff=2, max_delay=3)
    assert [made.seconds(attempt, random) for attempt in range(1, 6)] == [0.5, 1, 2, 3, 3]


@given(
    NUMBERS, strategies.floats(1, 1e6), strategies.floats(0, 1), strategies.integers(1, 10**6), strategies.integers()
)
def test_each_delay_is_a_finite_number_near_that_without_jitter(delay, backoff, jitter, attempt, seed):
    plain = paced(delay=delay, backoff=backoff).seconds(attempt, random)
    made = paced(delay=delay, backoff=backoff, jitter=jitter)
    seconds = made.seconds(attempt, random.Random(seed))
    assert seconds == made.seconds(attempt, random.Random(seed))
    assert math.isfinite(seconds)
    assert plain * (1 - jitter) * 0.999999 <= seconds <= plain * (1 + jitter) * 1.000001
    assert delay <= plain


@given(NUMBERS, strategies.floats(1, 100), strategies.integers(1, 1000), NUMBERS)
def test_no_delay_without_jitter_is_longer_than_the_longest_nor_shorter_than_the_one_before(
    delay, backoff, attempt, more
):
    made = paced(delay=delay, backoff=backoff, max_delay=delay + more)
    seconds = made.seconds(attempt, random)
    assert seconds <= delay + more
    assert seconds <= made.seconds(attempt + 1, random)


@given(NUMBERS, strategies.floats(0, 1), NUMBERS, strategies.integers())
def test_no_delay_with_jitter_is_longer_than_the_longest(delay, jitter, more, seed):
    made = paced(delay=delay, jitter=jitter, max_delay=delay + more)
    assert made.seconds(1, random.Random(seed)) <= delay + more


# -- giving up -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("causes", "fits"),
    [
        (ConnectionError, True),
        (OSError, True),
        (KeyError, False),
        ("ConnectionError", True),
        ("KeyError", False),
        ((KeyError, ConnectionError), True),
        ([KeyError, "OSError"], True),
        ({KeyError}, False),
        (lambda failure: "80" in failure.exception_str, True),
        (lambda failure: "81" in failure.exception_str, False),
        ((KeyError, lambda failure: failure.check(OSError)), True),
    ],
    ids=[
        *("class", "base_class", "other_class", "name", "other_name", "several", "list", "set"),
        *("function", "other_function", "function_in_tuple"),
    ],
)
def test_causes_are_classes_names_and_functions(causes, fits):
    assert paced(give_up_on=causes).gives_up(REFUSED, 0) is fits
    assert paced(retry_on=causes).gives_up(REFUSED, 0) is not fits


def test_a_bare_name_fits_a_class_of_any_module_and_a_dotted_one_that_of_its_own():
    assert paced(give_up_on="OddError").gives_up(ODD, 0)
    assert paced(give_up_on=f"{__name__}.OddError").gives_up(ODD, 0)
    assert not paced(give_up_on="elsewhere.OddError").gives_up(ODD, 0)


def test_what_is_given_up_on_counts_more_than_what_is_retried_on():
    made = paced(retry_on=OSError, give_up_on=ConnectionError)
    assert made.gives_up(REFUSED, 0)
    assert not made.gives_up(Failure.from_exception(FileNotFoundError()), 0)
    assert made.gives_up(VALUE, 0)


def test_who_asks_for_another_attempt_gets_it_unless_it_is_given_up_on():
    assert not paced(retry_on=OSError).gives_up(WAITS, 0)
    assert paced(give_up_on="RetryAfter").gives_up(WAITS, 0)


@given(strategies.floats(0.001, 1e6), NUMBERS)
def test_the_deadline_is_for_the_start_of_the_next_attempt(deadline, seconds):
    assert paced(deadline=deadline).gives_up(VALUE, seconds) is (seconds >= deadline)


def test_an_error_of_a_function_leaves_gives_up():
    with pytest.raises(ZeroDivisionError):
        paced(retry_on=lambda _: 1 / 0).gives_up(VALUE, 0)


# -- what controllers take -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda **keywords: retry.Times(5, **keywords),
        lambda **keywords: retry.ForEach([1], **keywords),
        retry.ParameterizedForEach,
    ],
)
def test_controllers_take_the_keywords(make):
    made = make(delay=1, backoff=2, max_delay=60, jitter=0.1, retry_on=OSError, give_up_on="KeyError", deadline=600)
    assert made._tfx_pacing == pacing.Pacing(1, 2, 60, 0.1, (OSError,), ("KeyError",), 600)
    assert pickle.loads(pickle.dumps(made))._tfx_pacing == made._tfx_pacing
    assert made._tfx_given_up() == retry.REVERT


def test_a_controller_that_reverts_all_does_so_when_it_gives_up():
    assert retry.Times(2, revert_all=True, delay=1)._tfx_given_up() == retry.REVERT_ALL
    assert retry.ForEach([1], revert_all=True)._tfx_given_up() == retry.REVERT_ALL
    assert retry.AlwaysRevert()._tfx_given_up() == retry.REVERT


def test_settings_are_shown():
    flow = task.FunctorTask(print, name="a") | retry.Times(3, delay=0.5, retry_on=(OSError, "KeyError"))
    assert "delay=0.5" in flow.picture().svg
    assert flow.retry._tfx_settings() == {"attempts": 3, "delay": 0.5, "retry_on": ("OSError", "KeyError")}


@pytest.mark.parametrize(
    ("keywords", "kind", "words"),
    [
        ({"delay": -1}, ValueError, "delay= of Times retry 'r' must be a number of seconds, 0 or more, not -1"),
        ({"delay": math.nan}, ValueError, "delay="),
        ({"delay": math.inf}, ValueError, "delay="),
        ({"delay": 10**400}, ValueError, "delay="),
        ({"delay": True}, TypeError, "delay="),
        ({"delay": "1"}, TypeError, "delay="),
        ({"delay": 1, "backoff": 0.5}, ValueError, "backoff= .* 1 or more"),
        ({"delay": 1, "backoff": math.inf}, ValueError, "backoff="),
        ({"backoff": 2}, ValueError, "backoff= of Times retry 'r' .* add delay="),
        ({"jitter": 0.1}, ValueError, "add delay="),
        ({"max_delay": 1}, ValueError, "add delay="),
        ({"delay": 1, "jitter": 1.5}, ValueError, "jitter= .* from 0 to 1"),
        ({"delay": 1, "jitter": -0.1}, ValueError, "jitter="),
        ({"delay": 2, "max_delay": 1}, ValueError, "max_delay= .* is 1, less than its delay= of 2"),
        ({"deadline": 0}, ValueError, "deadline= .* more than 0"),
        ({"deadline": math.inf}, ValueError, "leave it out"),
        ({"deadline": math.nan}, ValueError, "deadline="),
        ({"retry_on": ()}, ValueError, "retry_on= .* names nothing"),
        ({"retry_on": 3}, TypeError, "retry_on= .* exception class, its name, or a function"),
        ({"retry_on": (OSError, 3)}, TypeError, "retry_on=.* not 3"),
        ({"retry_on": int}, TypeError, "retry_on="),
        ({"retry_on": ""}, ValueError, "retry_on="),
        ({"give_up_on": "not a name"}, ValueError, "give_up_on="),
        ({"give_up_on": {"KeyError": 1}}, TypeError, "give_up_on="),
        ({"delya": 1}, TypeError, "Times retry 'r' got an unexpected keyword argument 'delya'; did you mean 'delay'?"),
    ],
    ids=str,
)
def test_settings_that_make_no_sense_are_refused(keywords, kind, words):
    with pytest.raises(kind, match=words.replace("?", r"\?")):
        retry.Times(3, "r", **keywords)


def test_a_coroutine_function_is_no_predicate():
    async def later(failure):
        return True

    with pytest.raises(ValueError, match=r"retry_on= of Times retry .* nobody awaits"):
        retry.Times(3, retry_on=later)


# -- what tasks and controllers say ----------------------------------------------------------------------------------


def test_again_is_the_decision_retry_with_a_delay():
    made = retry.again(after=3)
    assert made == retry.RETRY
    assert made in [decision.value for decision in retry.Decision]
    assert hash(made) == hash(retry.RETRY)
    assert (made.after, pickle.loads(pickle.dumps(made)).after, copy.deepcopy(made).after) == (3, 3, 3)
    assert repr(made) == "retry.again(after=3)"


def test_retry_after_carries_the_seconds():
    error = retry.RetryAfter(2.5, "too many requests")
    assert (error.seconds, str(error)) == (2.5, "too many requests")
    assert str(retry.RetryAfter(3)) == "to be tried again after 3 s"
    for made in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert (type(made), made.seconds, str(made), made.args) == (retry.RetryAfter, 2.5, str(error), error.args)
    assert Failure.from_exception(error).exception_args[0] == 2.5


class Busy(retry.RetryAfter):
    def __init__(self, server):
        super().__init__(30, f"{server} is busy")


@pytest.mark.parametrize("read_back", [False, True])
def test_the_seconds_are_read_from_the_failure(read_back):
    for error, seconds in ((retry.RetryAfter(4), 4), (Busy("a"), 30), (ValueError(3), None)):
        failure = Failure.from_exception(error)
        if read_back:
            failure = Failure.from_dict(failure.to_dict())
        assert pacing.seconds_asked_for(failure) == seconds


def test_seconds_of_a_damaged_failure_are_not_believed():
    for args in ((), ("3",), (math.nan,), (True,)):
        names = [pacing.ASKS, "Exception"]
        failure = Failure(exception_str="x", exc_type_names=names, traceback_str=None, exc_args=args)
        assert pacing.seconds_asked_for(failure) is None


def test_the_controller_says_the_delay_or_else_the_task_or_else_the_settings():
    made = paced(delay=2, backoff=3)
    assert pacing.delay_of(retry.again(after=0), WAITS, made, 1, random) == 0
    assert pacing.delay_of(retry.RETRY, WAITS, made, 1, random) == 7
    assert pacing.delay_of(retry.RETRY, WAITS, None, 1, random) == 7
    assert pacing.delay_of(retry.RETRY, VALUE, made, 2, random) == 6
    assert pacing.delay_of(retry.RETRY, VALUE, None, 2, random) == 0


@pytest.mark.parametrize("make", [retry.again, retry.RetryAfter])
@pytest.mark.parametrize("value", [-1, math.nan, math.inf, True, "1", None])
def test_seconds_that_make_no_sense_are_refused(make, value):
    with pytest.raises((TypeError, ValueError), match="0 or more"):
        make(value)


def test_not_done_is_one_object():
    assert pickle.loads(pickle.dumps(retry.NOT_DONE)) is retry.NOT_DONE
    assert copy.deepcopy([retry.NOT_DONE])[0] is copy.copy(retry.NOT_DONE) is retry.NOT_DONE
    assert repr(retry.NOT_DONE) == "retry.NOT_DONE"
