"""Notifier: who is called, how and in which order; what is refused; copies and pickles; threads."""

from __future__ import annotations

import copy
import functools
import logging
import pickle
import sys
import threading
from unittest import mock

import pytest

from taskflowx.types import notifier as notifier_module
from taskflowx.types.notifier import Listener, Notifier, RestrictedNotifier, register_deregister

LOGGER = "taskflowx.types.notifier"


def module_callback(event_type, details):
    """Can be pickled, being found by its name."""


def module_filter(details):
    return True


class Recorder:
    """Has callbacks of many signatures, each of which notes what it was called with."""

    def __init__(self):
        self.calls = []

    def state_and_details(self, state, details):
        self.calls.append((state, details))

    def two_of_any_name(self, a, b):
        self.calls.append((a, b))

    def positional_only(self, a, b, /):
        self.calls.append((a, b))

    def details_positional_only(self, a, details, /):
        self.calls.append((a, details))

    def keyword_only(self, state, *, details):
        self.calls.append((state, details))

    def only_args(self, *args):
        self.calls.append(args)

    def args_and_kwargs(self, event_type, *args, **kwargs):
        assert not args
        assert kwargs.keys() == {"details"}
        self.calls.append((event_type, kwargs["details"]))

    def second_with_default(self, event_type, payload=None):
        self.calls.append((event_type, payload))

    def further_with_default(self, event_type, details, extra=None):
        assert extra is None
        self.calls.append((event_type, details))

    def __call__(self, event_type, details):
        self.calls.append((event_type, details))


FITTING = sorted(name for name in vars(Recorder) if not name.startswith("__"))


def collect(calls):
    """Return a callback that adds its arguments to a list."""
    return lambda event_type, details: calls.append((event_type, details))


def one_argument(event_type):
    raise AssertionError("never called")


def three_arguments(event_type, details, more):
    raise AssertionError("never called")


def no_argument():
    raise AssertionError("never called")


# ---------------------------------------------------------------------------------------------- who is called


def test_a_callback_is_called_with_event_and_details():
    calls, notifier = [], Notifier()
    notifier.register("a", collect(calls))
    notifier.notify("a", {"x": 1})
    notifier.notify("b", {"x": 2})
    assert calls == [("a", {"x": 1})]


def test_those_who_listen_to_any_event_are_called_first_then_the_others_in_order_of_registration():
    order, notifier = [], Notifier()
    for event, name in [("*", "any 1"), ("a", "a 1"), ("b", "b 1"), ("*", "any 2"), ("a", "a 2")]:
        notifier.register(event, lambda state, details, name=name: order.append(name))
    notifier.notify("a", {})
    assert order == ["any 1", "any 2", "a 1", "a 2"]


def test_who_is_registered_for_any_and_for_the_event_is_called_twice():
    calls, notifier = [], Notifier()
    callback = collect(calls)
    notifier.register(Notifier.ANY, callback)
    notifier.register("a", callback)
    notifier.notify("a", {})
    assert len(calls) == 2


def test_nobody_listening_is_no_error():
    assert Notifier().notify("a", {}) is None
    assert Notifier().notify("*", None) is None


def test_notify_only_leaves_out_those_who_listen_to_any_event():
    calls, notifier = [], Notifier()
    notifier.register("*", lambda event_type, details: calls.append("any"))
    notifier.register("a", collect(calls))
    notifier._tfx_notify_only("a", {"x": 1})
    notifier._tfx_notify_only("b", {"x": 1})
    assert calls == [("a", {"x": 1})]


def test_notify_only_logs_a_callback_that_raises_and_calls_the_next_one(caplog):
    calls, notifier = [], Notifier()
    notifier.register("a", lambda event_type, details: details["missing"])
    notifier.register("a", collect(calls))
    notifier._tfx_notify_only("a", None)
    assert calls == [("a", {})]
    assert caplog.records[0].exc_info[0] is KeyError


def test_any_is_no_event_that_can_be_notified(caplog):
    calls, notifier = [], Notifier()
    notifier.register(Notifier.ANY, collect(calls))
    with caplog.at_level(logging.DEBUG, LOGGER):
        notifier.notify("*", {})
    assert calls == []
    assert caplog.messages == ["Event type '*' is not allowed to trigger notifications"]
    assert not notifier.can_trigger_notification("*")
    assert notifier.can_trigger_notification("a")


def test_no_details_are_an_empty_dict():
    calls, notifier = [], Notifier()
    notifier.register("a", collect(calls))
    notifier.notify("a", None)
    assert calls == [("a", {})]


def test_each_listener_gets_a_shallow_copy_of_the_details_of_its_own():
    given, seen, notifier = {"x": [1]}, [], Notifier()

    def change(state, details):
        details["y"] = 2

    notifier.register("a", change)
    notifier.register("a", collect(seen))
    notifier.notify("a", given)
    assert given == {"x": [1]}
    assert seen == [("a", {"x": [1]})]
    assert seen[0][1]["x"] is given["x"]


def test_a_filter_that_says_no_skips_the_callback():
    calls, notifier = [], Notifier()
    notifier.register("a", collect(calls), details_filter=lambda details: details.get("wanted"))
    notifier.notify("a", {"wanted": True})
    notifier.notify("a", {"wanted": False})
    notifier.notify("a", None)
    assert calls == [("a", {"wanted": True})]


def test_a_callback_that_raises_is_logged_and_the_next_one_is_called(caplog):
    calls, notifier = [], Notifier()

    def fail(state, details):
        raise ValueError("callback")

    notifier.register("a", fail)
    notifier.register("a", collect(calls))
    notifier.notify("a", {"x": 1})
    assert calls == [("a", {"x": 1})]
    (record,) = caplog.records
    assert (record.name, record.levelname) == (LOGGER, "WARNING")
    assert record.getMessage().startswith("Failure calling listener <Listener object at 0x")
    assert record.getMessage().endswith("to notify about event a, details: {'x': 1}")
    assert str(record.exc_info[1]) == "callback"


def test_details_without_a_text_are_logged(caplog):
    notifier = Notifier()

    def fail(state, details):
        raise ValueError("callback")

    notifier.register("a", fail)
    notifier.notify("a", {"x": 10**5000})  # more digits than Python shows
    assert caplog.messages[0].endswith("details: a value whose str raised ValueError")


def test_a_filter_that_raises_is_logged_and_the_next_one_is_called(caplog):
    calls, notifier = [], Notifier()
    notifier.register("a", module_callback, details_filter=lambda details: details["missing"])
    notifier.register("a", collect(calls))
    notifier.notify("a", {})
    assert len(calls) == 1
    assert caplog.records[0].exc_info[0] is KeyError


def test_what_is_no_exception_goes_through_notify():
    notifier = Notifier()

    def stop(state, details):
        raise KeyboardInterrupt

    notifier.register("a", stop)
    with pytest.raises(KeyboardInterrupt):
        notifier.notify("a", {})


def test_who_registers_during_a_notification_is_called_from_the_next_one_on():
    calls, notifier = [], Notifier()
    late = collect(calls)

    def register_late(state, details):
        notifier.register("a", late)

    notifier.register("a", register_late)
    notifier.notify("a", {})
    assert calls == []
    notifier.deregister("a", register_late)
    notifier.notify("a", {})
    assert len(calls) == 1


def test_who_is_taken_back_during_a_notification_is_called_a_last_time():
    calls, notifier = [], Notifier()
    last = collect(calls)

    def take_back(state, details):
        notifier.deregister("a", last)

    notifier.register("a", take_back)
    notifier.register("a", last)
    notifier.notify("a", {})
    notifier.notify("a", {})
    assert len(calls) == 1


# --------------------------------------------------------------------------------------- ways of being called


@pytest.mark.parametrize("name", FITTING)
def test_a_callback_that_can_take_event_and_details_gets_them(name):
    recorder, notifier = Recorder(), Notifier()
    notifier.register("a", getattr(recorder, name))
    notifier.notify("a", {"x": 1})
    assert recorder.calls == [("a", {"x": 1})]


def test_a_callable_object_and_static_and_class_methods_are_called():
    calls = []

    class Holder:
        @staticmethod
        def static(event_type, details):
            calls.append("static")

        @classmethod
        def of_class(cls, event_type, details):
            calls.append("class")

        def __call__(self, event_type, payload):
            calls.append("object")

    notifier = Notifier()
    for callback in (Holder.static, Holder.of_class, Holder()):
        notifier.register("a", callback)
    notifier.notify("a", {})
    assert calls == ["static", "class", "object"]


def test_further_arguments_come_after_the_event_and_the_details_by_name():
    calls, notifier = [], Notifier()
    notifier.register("a", lambda *args, **kwargs: calls.append((args, kwargs)), args=(1, 2), kwargs={"k": 3})
    notifier.notify("a", {"x": 1})
    assert calls == [(("a", 1, 2), {"k": 3, "details": {"x": 1}})]


@pytest.mark.parametrize(
    "callback",
    [
        lambda calls, event, details, extra: calls.append((event, details, extra)),
        lambda calls, event, extra, details: calls.append((event, details, extra)),
        lambda calls, event, payload, extra: calls.append((event, payload, extra)),
        lambda calls, event, extra, *, details: calls.append((event, details, extra)),
    ],
    ids=["details second", "details last", "another name", "keyword only"],
)
def test_a_further_argument_finds_its_place_whatever_the_order(callback):
    calls, notifier = [], Notifier()
    notifier.register("a", functools.partial(callback, calls), args=[9])
    notifier.notify("a", {"x": 1})
    assert calls == [("a", {"x": 1}, 9)]


def test_a_further_argument_is_passed_by_name():
    calls, notifier = [], Notifier()
    callback = lambda event, details, extra: calls.append((event, details, extra))  # noqa: E731
    notifier.register("a", callback, kwargs={"extra": 9})
    notifier.notify("a", {})
    assert calls == [("a", {}, 9)]


def test_arguments_and_keywords_are_kept_as_they_were_when_registered():
    calls, notifier = [], Notifier()
    args, kwargs = [1], {"k": 2}
    notifier.register("a", lambda *args, **kwargs: calls.append((args, kwargs)), args=args, kwargs=kwargs)
    args.append(9)
    kwargs["other"] = 9
    notifier.notify("a", {})
    assert calls == [(("a", 1), {"k": 2, "details": {}})]


def test_mocks_are_called_as_they_always_were():
    notifier, callback = Notifier(), mock.Mock()
    notifier.register("a", callback)
    notifier.notify("a", {"x": 1})
    callback.assert_called_once_with("a", details={"x": 1})


def test_c_code_without_a_signature_is_accepted():
    notifier = Notifier()
    calls = {}
    notifier.register("a", calls.setdefault)
    notifier.register("b", dict)
    notifier.notify("a", {"x": 1})
    assert calls == {"a": {"x": 1}}


def test_a_decorated_callback_is_called_in_a_way_that_the_function_inside_understands():
    calls, notifier = [], Notifier()

    def inside(event, payload):
        calls.append((event, payload))

    @functools.wraps(inside)
    def decorated(*args, **kwargs):
        return inside(*args, **kwargs)

    notifier.register("a", decorated)
    notifier.notify("a", {"x": 1})
    assert calls == [("a", {"x": 1})]


def test_a_decorator_that_adapts_a_function_of_another_signature_is_accepted():
    calls, notifier = [], Notifier()

    def inside(details):
        calls.append(details)

    @functools.wraps(inside)
    def adapter(event, payload):
        inside(payload)

    notifier.register("a", adapter)
    notifier.notify("a", {"x": 1})
    assert calls == [{"x": 1}]


@pytest.mark.parametrize(
    ("callback", "signature"),
    [
        (no_argument, "no_argument()"),
        (one_argument, "one_argument(event_type)"),
        (three_arguments, "three_arguments(event_type, details, more)"),
        (Recorder.two_of_any_name, "Recorder.two_of_any_name(self, a, b)"),
        (len, "len(obj, /)"),
    ],
)
def test_a_callback_that_cannot_take_two_is_refused_with_its_name_and_signature(callback, signature):
    notifier = Notifier()
    with pytest.raises(ValueError, match="cannot be called with") as refused:
        notifier.register("a", callback)
    assert str(refused.value) == (f"Event callback {signature} cannot be called with (event_type, details)")
    assert len(notifier) == 0


def test_a_callback_that_cannot_take_the_further_arguments_is_refused_and_they_are_named():
    with pytest.raises(ValueError, match=r"cannot be called with \(event_type, details, 1, other='x'\)"):
        Notifier().register("a", module_callback, args=[1], kwargs={"other": "x"})


def test_what_cannot_be_called_is_refused():
    with pytest.raises(ValueError, match="Event callback must be callable"):
        Notifier().register("a", 3)
    with pytest.raises(ValueError, match="Details filter must be callable"):
        Notifier().register("a", module_callback, details_filter=3)


def test_a_reserved_keyword_is_refused():
    assert Notifier.RESERVED_KEYS == ("details",)
    with pytest.raises(KeyError, match="Reserved key 'details' not allowed in kwargs"):
        Notifier().register("a", module_callback, kwargs={"details": {}})


# ----------------------------------------------------------------------------------------------- registration


def test_a_callback_is_registered_once_for_an_event_and_a_filter():
    notifier = Notifier()
    notifier.register("a", module_callback)
    with pytest.raises(ValueError, match="Event callback already registered with equivalent details filter"):
        notifier.register("a", module_callback)
    notifier.register("a", module_callback, details_filter=module_filter)
    notifier.register("b", module_callback)
    notifier.register("*", module_callback)
    assert len(notifier) == 4


def test_a_method_is_recognized_though_it_is_a_new_object_each_time():
    notifier, recorder = Notifier(), Recorder()
    notifier.register("a", recorder.state_and_details)
    assert notifier.is_registered("a", recorder.state_and_details)
    assert not notifier.is_registered("a", Recorder().state_and_details)
    with pytest.raises(ValueError, match="already registered"):
        notifier.register("a", recorder.state_and_details)
    assert notifier.deregister("a", recorder.state_and_details)


def test_is_registered_asks_for_just_that_event_callback_and_filter():
    notifier = Notifier()
    notifier.register("a", module_callback, details_filter=module_filter)
    assert notifier.is_registered("a", module_callback, details_filter=module_filter)
    assert not notifier.is_registered("a", module_callback)
    assert not notifier.is_registered("*", module_callback, details_filter=module_filter)
    notifier.register("*", one := collect([]))
    assert not notifier.is_registered("a", one)


def test_deregister_takes_back_the_one_with_that_filter_and_says_whether_there_was_one():
    notifier = Notifier()
    notifier.register("a", module_callback)
    notifier.register("a", module_callback, details_filter=module_filter)
    assert notifier.deregister("a", module_callback)
    assert not notifier.deregister("a", module_callback)
    assert not notifier.deregister("unknown", module_callback)
    assert len(notifier) == 1
    assert notifier.deregister("a", module_callback, details_filter=module_filter)
    assert len(notifier) == 0


def test_deregister_event_takes_back_all_of_an_event_and_says_how_many():
    notifier = Notifier()
    notifier.register("a", module_callback)
    notifier.register("a", collect([]))
    notifier.register("b", module_callback)
    assert notifier.deregister_event("a") == 2
    assert notifier.deregister_event("a") == 0
    assert len(notifier) == 1


def test_reset_forgets_everybody():
    notifier = Notifier()
    notifier.register("a", module_callback)
    notifier.reset()
    assert len(notifier) == 0
    assert not notifier.is_registered("a", module_callback)


def test_the_length_counts_listeners_and_says_whether_there_are_any():
    notifier = Notifier()
    assert not notifier
    notifier.register("a", module_callback)
    notifier.register("*", module_callback)
    assert len(notifier) == 2
    assert notifier


def test_the_listeners_of_each_event_can_be_looked_at():
    notifier = Notifier()
    notifier.register("a", module_callback, args=(), kwargs={})
    notifier.register("*", module_callback)
    listeners = dict(notifier.listeners_iter())
    assert list(listeners) == ["a", "*"]
    assert listeners["a"] == [Listener(module_callback)]
    listeners["a"].clear()
    assert len(notifier) == 2


def test_is_listened_to_tells_whether_anybody_would_be_called():
    notifier = Notifier()
    assert not notifier._tfx_listeners_of("a")
    notifier.register("a", module_callback)
    assert notifier._tfx_listeners_of("a")
    assert not notifier._tfx_listeners_of("b")
    notifier.register("*", module_callback)
    assert notifier._tfx_listeners_of("b")


@pytest.mark.parametrize(
    "leave",
    [
        lambda n: n.deregister("a", module_callback),
        lambda n: n.deregister_event("a"),
        lambda n: n.reset(),
        lambda n: n.deregister("unknown", module_callback) or n.reset(),
    ],
)
def test_topics_are_empty_again_when_the_last_listener_has_gone(leave):
    notifier = Notifier()
    assert not notifier._tfx_topics
    notifier.register("a", module_callback)
    assert notifier._tfx_topics
    leave(notifier)
    assert not notifier._tfx_topics


def test_a_notifier_takes_any_event():
    assert Notifier().can_be_registered("a")
    assert Notifier().can_be_registered("*")


# -------------------------------------------------------------------------------------------------- listeners


def test_a_listener_shows_what_it_was_made_with():
    listener = Listener(Recorder().only_args, args=[1], kwargs=None, details_filter=module_filter)
    assert listener.args == (1,)
    assert listener.kwargs == {}
    assert listener.details_filter is module_filter
    assert "calling into '<bound method Recorder.only_args" in repr(listener)
    assert f"using details filter '{module_filter}'>" in repr(listener)
    assert "filter" not in repr(Listener(module_callback))


def test_the_keywords_of_a_listener_cannot_be_changed_from_outside():
    listener = Listener(lambda *args, **kwargs: None, kwargs={"k": 1})
    listener.kwargs["k"] = 2
    assert listener.kwargs == {"k": 1}


def test_a_listener_is_equivalent_by_callback_and_filter():
    listener = Listener(Recorder().only_args, args=[1])
    assert listener.is_equivalent(listener.callback)
    assert not listener.is_equivalent(listener.callback, details_filter=module_filter)
    assert not listener.is_equivalent(None)
    assert listener == Listener(listener.callback, args=[2])
    assert listener != Listener(module_callback)
    assert listener != listener.callback


def test_a_listener_cannot_be_hashed():
    with pytest.raises(TypeError, match="unhashable"):
        hash(Listener(module_callback))


# --------------------------------------------------------------------------------------- restricted notifiers


def test_a_restricted_notifier_takes_its_events_and_any():
    notifier = RestrictedNotifier(["b", "a", "b"])
    assert list(notifier.events_iter()) == ["b", "a"]
    assert notifier.can_be_registered("a")
    assert notifier.can_be_registered("*")
    assert not notifier.can_be_registered("c")
    refusal = r"Disallowed event type 'c' can not have a callback registered, expected one of \['b', 'a', '\*'\]"
    with pytest.raises(ValueError, match=refusal):
        notifier.register("c", module_callback)


def test_a_restricted_notifier_may_refuse_any():
    notifier = RestrictedNotifier(iter(["a"]), allow_any=False)
    assert not notifier.can_be_registered("*")
    with pytest.raises(ValueError, match=r"Disallowed event type '\*' .*, expected one of \['a'\]"):
        notifier.register("*", module_callback)


def test_a_restricted_notifier_may_notify_other_events_to_those_who_listen_to_any():
    calls, notifier = [], RestrictedNotifier(["a"])
    notifier.register("*", collect(calls))
    notifier.notify("c", {})
    assert calls == [("c", {})]


# ---------------------------------------------------------------------------------------- register_deregister


def test_a_callback_is_registered_for_as_long_as_the_block_runs():
    notifier = Notifier()
    with register_deregister(notifier, "a", module_callback, details_filter=module_filter) as nothing:
        assert nothing is None
        assert notifier.is_registered("a", module_callback, details_filter=module_filter)
    assert len(notifier) == 0


def test_a_callback_is_taken_back_when_the_block_raises():
    notifier = Notifier()
    with pytest.raises(ValueError, match="block"), register_deregister(notifier, "a", module_callback):
        raise ValueError("block")
    assert len(notifier) == 0


def test_without_a_callback_nothing_is_registered():
    notifier = RestrictedNotifier(["a"])
    with register_deregister(notifier, "not an event of it"):
        assert len(notifier) == 0


def test_who_was_registered_before_the_block_is_not_taken_back_by_it():
    notifier = Notifier()
    notifier.register("a", module_callback)
    with pytest.raises(ValueError, match="already registered"):
        register_deregister(notifier, "a", module_callback).__enter__()
    assert len(notifier) == 1


def test_it_does_not_matter_if_the_block_takes_the_callback_back_itself():
    notifier = Notifier()
    with register_deregister(notifier, "a", module_callback):
        notifier.deregister("a", module_callback)
    assert len(notifier) == 0


# ----------------------------------------------------------------------------------------- copies and pickles


class Owner:
    """Like a task: has a notifier, and listens to it with a method of its own."""

    def __init__(self):
        self.notifier = RestrictedNotifier(["a"])
        self.notifier.register("a", self.on_event)
        self.seen = []

    def on_event(self, event_type, details):
        self.seen.append(event_type)


def through_pickle(thing):
    return pickle.loads(pickle.dumps(thing))


@pytest.mark.parametrize("duplicate", [Notifier.copy, copy.copy, copy.deepcopy, through_pickle])
def test_a_copy_has_the_same_listeners_and_registrations_of_its_own(duplicate):
    notifier = RestrictedNotifier(["a", "b"], allow_any=False)
    notifier.register("a", module_callback)
    other = duplicate(notifier)
    assert type(other) is RestrictedNotifier
    assert list(other.events_iter()) == ["a", "b"]
    assert not other.can_be_registered("*")
    assert other.is_registered("a", module_callback)
    other.register("b", module_callback)
    notifier.deregister("a", module_callback)
    assert len(notifier) == 0
    assert len(other) == 2


@pytest.mark.parametrize("duplicate", [Notifier.copy, copy.copy, copy.deepcopy])
def test_a_copy_shares_callbacks_that_cannot_be_copied(duplicate):
    notifier, lock = Notifier(), threading.Lock()
    callback = functools.partial(lambda lock, event, details: None, lock)
    notifier.register("a", callback)
    assert duplicate(notifier).is_registered("a", callback)


def test_a_deep_copy_keeps_the_object_that_a_callback_belongs_to():
    notifier, recorder = Notifier(), Recorder()
    notifier.register("a", recorder.state_and_details)
    copy.deepcopy(notifier).notify("a", {})
    assert recorder.calls == [("a", {})]


@pytest.mark.parametrize("duplicate", [copy.deepcopy, through_pickle])
def test_an_owner_that_is_duplicated_with_its_notifier_listens_to_the_duplicate(duplicate):
    owner = Owner()
    other = duplicate(owner)
    other.notifier.notify("a", {})
    assert other.seen == ["a"]
    assert owner.seen == []


def test_a_pickle_leaves_those_behind_who_cannot_be_pickled(caplog):
    notifier = Notifier()
    notifier.register("a", collect([]))
    notifier.register("a", module_callback)
    notifier.register("b", module_callback, details_filter=lambda details: True)
    with caplog.at_level(logging.DEBUG, LOGGER):
        other = through_pickle(notifier)
    assert [event for event, _ in other.listeners_iter()] == ["a"]
    assert len(other) == 1
    assert other.is_registered("a", module_callback)
    assert len(notifier) == 3
    assert "cannot be pickled and is left behind" in caplog.text


def test_a_notifier_whose_listeners_all_stay_behind_is_one_without_listeners():
    notifier = Notifier()
    notifier.register("a", collect([]))
    assert not through_pickle(notifier)._tfx_topics


def test_an_owner_with_a_listener_that_cannot_be_pickled_keeps_its_own():
    owner = Owner()
    owner.notifier.register("*", collect([]))
    other = through_pickle(owner)
    assert other.notifier.is_registered("a", other.on_event)
    assert len(other.notifier) == 1


def test_an_owner_that_listens_to_itself_is_pickled_once_to_ask_and_once_in_earnest():
    pickled = []

    class Counted(Owner):
        def __getstate__(self):
            pickled.append(self)
            return self.__dict__

    Counted.__qualname__, Counted.__name__ = "Owner", "Owner"
    owner = Counted()
    with mock.patch.object(sys.modules[__name__], "Owner", Counted):
        pickle.dumps(owner)
    assert pickled == [owner, owner]


def test_asking_whether_a_listener_can_be_pickled_ends_even_after_an_error():
    notifier = Notifier()
    notifier.register("a", collect([]))
    through_pickle(notifier)
    assert not notifier_module._PROBE.is_on


# ---------------------------------------------------------------------------------------------------- threads


def test_notify_takes_no_lock():
    class Held(Notifier):
        def hold_the_lock(self):
            with self._lock:
                held.set()
                done.wait(30)

    calls, notifier = [], Held()
    notifier.register("a", collect(calls))
    held, done = threading.Event(), threading.Event()
    holder = threading.Thread(target=notifier.hold_the_lock, daemon=True)
    holder.start()
    assert held.wait(30)
    notifying = threading.Thread(target=notifier.notify, args=("a", {}), daemon=True)
    notifying.start()
    notifying.join(10)
    waited = notifying.is_alive()
    done.set()
    holder.join(30)
    assert not waited
    assert calls == [("a", {})]


def test_topics_are_replaced_under_the_lock_only():
    replaced = []

    class Watched(Notifier):
        def _tfx_replace(self, event_type, listeners):
            assert self._lock._is_owned()
            replaced.append(event_type)
            super()._tfx_replace(event_type, listeners)

    notifier = Watched()
    notifier.register("a", module_callback)
    notifier.deregister("a", module_callback)
    notifier.deregister_event("b")
    assert replaced == ["a", "a", "b"]


def test_no_registration_of_another_thread_is_lost():
    notifier = Notifier()
    start = threading.Barrier(4)

    def register_many(event):
        start.wait(30)
        for _ in range(200):
            callback = collect([])
            notifier.register(event, callback)
            notifier.register("shared", callback)
            notifier.deregister(event, callback)

    threads = [threading.Thread(target=register_many, args=(str(n),), daemon=True) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(notifier) == 800
    assert [event for event, _ in notifier.listeners_iter()] == ["shared"]


def test_topics_that_somebody_looks_at_never_change():
    notifier = Notifier()
    notifier.register("a", module_callback)
    topics = notifier._tfx_topics
    before = dict(topics)
    notifier.register("a", collect([]))
    notifier.register("b", module_callback)
    notifier.deregister_event("a")
    assert topics == before


def test_a_callback_that_is_compared_during_registration_may_register_itself():
    notifier = Notifier()

    class Eager:
        def __call__(self, event_type, details):
            """Do nothing."""

        def __eq__(self, other):
            if not notifier._tfx_listeners_of("b"):
                notifier.register("b", module_callback)
            return self is other

        __hash__ = None

    notifier.register("a", Eager())
    notifier.register("a", Eager())
    assert len(notifier) == 3


class Compared:
    """A callback that counts how often it is compared with another one."""

    compared = 0

    def __call__(self, event_type, details):
        """Do nothing."""

    def __eq__(self, other):
        Compared.compared += 1
        return self is other

    def __hash__(self):
        return id(self)


def test_a_callback_is_not_compared_with_all_that_are_registered():
    Compared.compared = 0
    notifier = Notifier()
    for _ in range(500):
        notifier.register("event", Compared())
    assert Compared.compared < 10 * 500  # to compare all of them takes 125,000
    assert len(notifier) == 500


@pytest.mark.parametrize("change", ["deregister", "deregister_event", "reset", "copy", "pickle", "none"])
def test_what_is_registered_is_known_after_each_change(change):
    notifier = Notifier()
    notifier.register("event", print)
    notifier.register("event", repr_of)
    stays = change in ("copy", "pickle", "none")
    if change == "deregister":
        notifier.deregister("event", repr_of)
    elif change == "deregister_event":
        notifier.deregister_event("event")
    elif change == "reset":
        notifier.reset()
    elif change == "copy":
        notifier = notifier.copy()
    elif change == "pickle":
        notifier = through_pickle(notifier)
    if stays:
        with pytest.raises(ValueError, match="already registered"):
            notifier.register("event", repr_of)
    else:
        notifier.register("event", repr_of)
        with pytest.raises(ValueError, match="already registered"):
            notifier.register("event", repr_of)


def test_copies_do_not_share_what_they_know():
    notifier = Notifier()
    notifier.register("event", print)
    other = notifier.copy()
    other.register("event", repr_of)
    notifier.register("event", repr_of)
    assert len(notifier) == len(other) == 2


def repr_of(event_type, details):
    """Do nothing."""
