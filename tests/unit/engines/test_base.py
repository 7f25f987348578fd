"""The notifiers of an engine: every event is accepted, and one that is never sent is warned of."""

import logging

import pytest

from taskflowx import engines, states, task
from taskflowx.patterns import linear_flow


def make():
    return engines.load(linear_flow.Flow("f").add(task.FunctorTask(lambda: 1, name="a")))


@pytest.mark.parametrize(
    ("event", "hint"),
    [
        ("SUCESS", "; did you mean 'SUCCESS'?"),
        ("success", "; did you mean 'SUCCESS'?"),
        ("REVERT", "; did you mean 'REVERTED'?"),
        ("finished", ", which sends ['FAILURE', "),
        (7, ", which sends ['FAILURE', "),
    ],
)
@pytest.mark.parametrize("name", ["notifier", "atom_notifier"])
def test_an_event_that_no_engine_sends_is_warned_of(name, event, hint, caplog):
    notifier = getattr(make(), name)
    notifier.register(event, print)
    assert notifier.is_registered(event, print)
    ((logger, level, text),) = caplog.record_tuples
    assert (logger, level) == ("taskflowx.engines.base", logging.WARNING)
    assert text.startswith(f"A callback was registered for '{event}', an event that no engine sends{hint}")


@pytest.mark.parametrize("name", ["notifier", "atom_notifier"])
def test_states_progress_and_any_are_no_surprise(name, caplog):
    notifier = getattr(make(), name)
    known = {
        *(states.PENDING, states.RUNNING, states.SUCCESS, states.FAILURE, states.IGNORE, states.RETRYING),
        *(states.REVERTING, states.REVERTED, states.REVERT_FAILURE, states.SUSPENDING, states.SUSPENDED),
        *(task.EVENT_UPDATE_PROGRESS, "*"),
    }
    for event in known:
        notifier.register(event, print)
    assert caplog.records == []


def test_what_is_refused_is_not_warned_of(caplog):
    with pytest.raises(ValueError, match="must be callable"):
        make().notifier.register("SUCESS", None)
    assert caplog.records == []


def test_an_event_of_ones_own_can_be_sent():
    seen, engine = [], make()
    engine.notifier.register("mine", lambda event, details: seen.append((event, details)))
    engine.notifier.notify("mine", {"x": 1})
    assert seen == [("mine", {"x": 1})]
