"""Timeout: a wait that can be ended; and what can be made into one."""

from __future__ import annotations

import threading

import pytest

from taskflowx.types import timing


class RecordingEvent:
    """Stands in for an event and notes what is asked of it."""

    def __init__(self):
        self.calls = []

    def wait(self, timeout):
        self.calls.append(("wait", timeout))

    def set(self):
        self.calls.append("set")

    def clear(self):
        self.calls.append("clear")

    def is_set(self):
        self.calls.append("is_set")
        return "answer"


def recorded(value):
    event = RecordingEvent()
    return timing.Timeout(value, event_factory=lambda: event), event.calls


@pytest.mark.parametrize("value", [0, 1, 1.5])
def test_the_value_is_kept_as_it_was_given(value):
    assert timing.Timeout(value).value == value


def test_the_value_cannot_be_changed():
    with pytest.raises(AttributeError):
        timing.Timeout(1).value = 2


@pytest.mark.parametrize("value", [-1, -0.5, float("nan"), float("-inf")])
def test_a_value_below_zero_or_without_meaning_is_refused(value):
    with pytest.raises(ValueError, match=f"must be greater or equal to zero and not '{value}'"):
        timing.Timeout(value)


@pytest.mark.parametrize("value", ["2", None, []])
def test_what_is_no_number_is_refused(value):
    with pytest.raises(TypeError):
        timing.Timeout(value)


def test_it_waits_on_the_event_for_the_seconds():
    timeout, calls = recorded(2.5)
    assert timeout.wait() is None
    assert calls == [("wait", 2.5)]


def test_infinity_waits_as_long_as_can_be_waited():
    timeout, calls = recorded(float("inf"))
    timeout.wait()
    assert calls == [("wait", threading.TIMEOUT_MAX)]


def test_interrupt_reset_and_is_stopped_are_the_events():
    timeout, calls = recorded(1)
    timeout.interrupt()
    timeout.reset()
    assert timeout.is_stopped() == "answer"
    assert calls == ["set", "clear", "is_set"]


def test_zero_does_not_wait_and_running_out_is_no_interruption():
    timeout = timing.Timeout(0)
    timeout.wait()
    assert not timeout.is_stopped()


def test_an_interruption_ends_the_wait_of_another_thread_and_lasts_until_reset():
    timeout = timing.Timeout(float("inf"))
    waiter = threading.Thread(target=timeout.wait, daemon=True)
    waiter.start()
    timeout.interrupt()
    waiter.join(30)
    assert not waiter.is_alive()
    assert timeout.is_stopped()
    timeout.wait()
    timeout.reset()
    assert not timeout.is_stopped()


@pytest.mark.parametrize(
    ("value", "seconds"), [(0, 0.0), (1, 1.0), (1.5, 1.5), ("1.5", 1.5), (True, 1.0), (" 2 ", 2.0)]
)
def test_numbers_and_their_texts_are_converted(value, seconds):
    timeout = timing.convert_to_timeout(value)
    assert isinstance(timeout, timing.Timeout)
    assert timeout.value == seconds
    assert type(timeout.value) is float


def test_the_default_is_taken_for_none_only():
    assert timing.convert_to_timeout(None, 3).value == 3.0
    assert timing.convert_to_timeout(None, "2").value == 2.0
    assert timing.convert_to_timeout(0, 3).value == 0.0


def test_a_timeout_is_returned_as_it_is():
    timeout = timing.Timeout(4)
    assert timing.convert_to_timeout(timeout) is timeout
    assert timing.convert_to_timeout(None, timeout) is timeout


@pytest.mark.parametrize("value", [None, []])
def test_what_is_neither_number_nor_text_is_refused(value):
    with pytest.raises(ValueError, match="Invalid timeout literal"):
        timing.convert_to_timeout(value)


@pytest.mark.parametrize("value", ["a", "", -1, "-1", "nan"])
def test_a_text_that_is_no_number_and_a_number_below_zero_are_refused(value):
    with pytest.raises(ValueError, match=r"^Invalid timeout literal|greater or equal to zero"):
        timing.convert_to_timeout(value)


def test_the_event_factory_is_passed_on():
    event = RecordingEvent()
    timing.convert_to_timeout(5, event_factory=lambda: event).wait()
    assert event.calls == [("wait", 5.0)]
