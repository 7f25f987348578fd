"""The text of a history is that of its attempts, each of which is encoded once."""

from __future__ import annotations

import json

import pytest

from taskflowx import exceptions
from taskflowx.persistence import codec, histories, models
from taskflowx.types.failure import Failure


def failure(number):
    try:
        raise ValueError(number)
    except ValueError:
        return Failure()


@pytest.fixture
def detail():
    return models.RetryDetail("again", "r")


def check(kept, detail):
    """Compare the text with that of the history as a whole."""
    text = kept.text(detail, "history")
    assert text == codec.dumps(detail.to_dict()["results"], "history")
    json.loads(text)


def test_the_text_is_that_of_the_whole_history_at_each_step(detail):
    kept = histories.Histories()
    check(kept, detail)
    for number in range(40):
        detail.put("SUCCESS", {"attempt": number})
        check(kept, detail)
        detail.last_failures["a"] = failure(number)
        check(kept, detail)
        detail.last_failures["b"] = failure(number)
        check(kept, detail)


def test_a_history_that_is_another_one_is_encoded_anew(detail):
    kept = histories.Histories()
    for number in range(20):
        detail.put("SUCCESS", number)
    check(kept, detail)
    detail.results = [(value + 1, failures) for value, failures in detail.results]
    check(kept, detail)
    del detail.results[15:]
    check(kept, detail)
    detail.results[-1] = ("changed", {})
    check(kept, detail)
    detail.reset("PENDING")
    check(kept, detail)


def test_an_attempt_is_encoded_once(detail, monkeypatch):
    kept, encoded = histories.Histories(), []
    dumps = codec.dumps
    monkeypatch.setattr(codec, "dumps", lambda value, what: encoded.append(value) or dumps(value, what))
    costs = []
    for number in range(200):
        detail.put("SUCCESS", number)
        for _ in range(3):
            encoded.clear()
            kept.text(detail, "history")
            costs.append(len(encoded))
    assert max(costs[60:]) <= 2


def test_a_value_that_cannot_be_stored_is_told_by_its_place(detail):
    kept = histories.Histories()
    for number in range(20):
        detail.put("SUCCESS", number)
    kept.text(detail, "history")
    detail.put("SUCCESS", {"x": object()})
    with pytest.raises(exceptions.Unstorable, match=r"^Cannot store history: the value at \[20\]\[0\]\['x'\]"):
        kept.text(detail, "history")
    detail.results[-1] = (1, {})
    check(kept, detail)


def test_what_is_remembered_is_bounded(monkeypatch):
    monkeypatch.setattr(histories, "_MOST", 3)
    kept = histories.Histories()
    for name in "abcdefg":
        detail = models.RetryDetail(name, name)
        for number in range(10):
            detail.put("SUCCESS", number)
        check(kept, detail)
    assert len(kept._past) <= 3
