"""Notifiers: callbacks that subscribe to events.

An engine has a notifier for its flow and one for its atoms, a task has one for its progress, a conductor and a board
have theirs. Users register callbacks on them.

What must stay true: a callback is checked, and the way to call it chosen, when it is registered, so that `notify` only
loops; a callback that raises is logged, and the others are called; `notify` takes no lock, and a registration during it
has no effect on it, since each change replaces the dict of tuples by a new one; without subscribers that dict is empty,
and an event costs only `if notifier._tfx_topics:`.
"""

# Private names are used freely between the notifiers and listeners of this one file.
# ruff: noqa: SLF001

from __future__ import annotations

import contextlib
import functools
import threading
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping
from types import FunctionType, MethodType
from typing import TYPE_CHECKING, Any, ClassVar, Self

from taskflowx._util import arguments, logs, reprs

if TYPE_CHECKING:
    import inspect

    Callback = Callable[..., object]
    DetailsFilter = Callable[[dict[str, Any]], object]
    #: takes a coroutine, and what logs an exception in it while that is handled
    Awaits = Callable[[Any, Callable[[], None]], None]

LOG = logs.calm(__name__)


class Listener:
    """One callback with its arguments and its filter.

    :param callback: called with the event's name and its details
    :param args: further positional arguments for it
    :param kwargs: further keyword arguments for it
    :param details_filter: called with the details; if it returns a false value, the callback is skipped
    :param awaits: takes the coroutine that an `async def` callback returns, and what logs an exception in it
    :raises ValueError: if the callback, or the filter, cannot be called like that
    """

    __slots__ = ("_awaits", "_by_name", "_directly", "_kwargs", "args", "callback", "details_filter")

    def __init__(
        self,
        callback: Callback,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        details_filter: DetailsFilter | None = None,
        awaits: Awaits | None = None,
    ) -> None:
        arguments.check_callback("Event callback", callback, awaited=awaits is not None)
        if details_filter is not None:
            arguments.check_callback("Details filter", details_filter)
        if args:
            arguments.check_iterable("args", args, "an iterable of further arguments for the callback")
        if kwargs:
            arguments.check_named_values("kwargs", kwargs)
        self.callback = callback
        self.args = tuple(args or ())
        self._kwargs = dict(kwargs or {})
        self.details_filter = details_filter
        self._by_name = _takes_details_by_name(callback, self.args, self._kwargs)
        self._awaits = awaits if awaits is not None and arguments.is_async(callback) else None
        bare = not (self.args or self._kwargs or details_filter is not None or self._awaits is not None)
        #: the callable that can replace this listener, as it takes event and details, or None
        self._directly = callback if bare and (not self._by_name or _takes_details_second(callback)) else None

    @property
    def kwargs(self) -> dict[str, Any]:
        """The further keyword arguments (a copy)."""
        return self._kwargs.copy()

    def __call__(self, event_type: str, details: dict[str, Any]) -> None:
        """Call the callback, unless the filter returns a false value."""
        if self._directly is not None:
            self._directly(event_type, details)
            return
        if self.details_filter is not None and not self.details_filter(details):
            return
        given: Any
        if self._by_name:
            given = self.callback(event_type, *self.args, details=details, **self._kwargs)
        else:
            given = self.callback(event_type, details, *self.args, **self._kwargs)
        if self._awaits is not None:
            self._awaits(given, functools.partial(Notifier._tfx_log_error, self, event_type, details))

    def is_equivalent(self, callback: Callback | None, details_filter: DetailsFilter | None = None) -> bool:
        """Tell whether this listener has that callback and that filter; its arguments are ignored."""
        return bool(self.callback == callback and self.details_filter == details_filter)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Listener):
            return NotImplemented
        return self.is_equivalent(other.callback, other.details_filter)

    # The callback may not be hashable.
    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        target = f"calling into '{self.callback}'"
        if self.details_filter is not None:
            target += f" using details filter '{self.details_filter}'"
        return f"<{type(self).__name__} object at {id(self):#x} {target}>"

    def _follow(self, copies: Mapping[int, Any]) -> Listener:
        """Return the listener for a deep copy: a bound method of a copied object becomes one of the copy."""
        callback = self.callback
        if not isinstance(callback, MethodType) or id(callback.__self__) not in copies:
            return self
        owner = copies[id(callback.__self__)]
        return Listener(
            MethodType(callback.__func__, owner), self.args, self._kwargs, self.details_filter, self._awaits
        )


def _takes_details_by_name(callback: Callback, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Choose how a callback gets the details: as keyword `details`, or else as second positional argument.

    A decorated callback has two signatures, that of the inner function and its own. A way of calling that fits both is
    chosen; if there is none, one that fits its own, as the decorator may adapt one to the other.
    """
    import inspect  # only callbacks need this import

    try:
        own, inner = inspect.signature(callback, follow_wrapped=False), inspect.signature(callback)
    except (TypeError, ValueError):  # C code without a signature: it may fit
        return False
    by_name: tuple[tuple[Any, ...], dict[str, Any]] = (("event", *args), {"details": {}, **kwargs})
    by_position: tuple[tuple[Any, ...], dict[str, Any]] = (("event", {}, *args), kwargs)
    for signatures in ((own, inner), (own,)):
        for form in (by_name, by_position):
            if all(_fits(signature, *form) for signature in signatures):
                return form is by_name
    further = [*map(repr, args), *(f"{name}={value!r}" for name, value in kwargs.items())]
    raise ValueError(
        f"Event callback {getattr(callback, '__qualname__', callback)}{own} cannot be called with"
        f" ({', '.join(['event_type', 'details', *further])})"
    )


def _takes_details_second(callback: Callback) -> bool:
    """Tell whether a callback with the keyword `details` has it as second parameter, which is faster."""
    function = getattr(callback, "__func__", callback)
    if not isinstance(function, FunctionType):
        return False
    code, place = function.__code__, 1 + (function is not callback)
    return code.co_argcount > place and code.co_varnames[place] == "details"


def _fits(signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    try:
        signature.bind(*args, **kwargs)
    except TypeError:
        return False
    return True


class _Probe(threading.local):
    """Whether this thread is testing if a listener can be pickled."""

    is_on = False


_PROBE = _Probe()


class Notifier:
    """Callbacks by event, called when the event is published.

    A copy shares the callbacks and has its own registrations. So does a deep copy, in which a method of an object that
    is copied along belongs to the copy of that object. A pickle includes the listeners that can be pickled.
    """

    RESERVED_KEYS: ClassVar[tuple[str, ...]] = ("details",)
    """Keyword arguments that no callback can be registered with."""

    ANY: ClassVar[str] = "*"
    """In place of an event: every event."""

    #: returns what awaits `async def` callbacks; None where nobody does, and such a callback is refused
    _tfx_awaits: Callable[[], Awaits | None] | None = None
    _tfx_topics: dict[str, tuple[Listener, ...]]
    _lock: threading.RLock
    #: event -> the registered keys, with the tuple of listeners for which they are valid
    _tfx_known: dict[str, tuple[tuple[Listener, ...], set[Any]]]

    def __init__(self) -> None:
        self._tfx_topics = {}
        self._tfx_known = {}
        # For registrations. Reentrant, because a signal handler or a finalizer may register at any moment.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        """Return the number of listeners of all events."""
        return sum(map(len, self._tfx_topics.values()))

    @reprs.one_line
    def __repr__(self) -> str:
        events = f" of {[*self._tfx_topics]}" if self._tfx_topics else ""
        return f"{type(self).__name__}: {reprs.number_of(len(self), 'listener')}{events}"

    def is_registered(self, event_type: str, callback: Callback, details_filter: DetailsFilter | None = None) -> bool:
        """Tell whether the callback is registered for exactly that event with that filter."""
        listeners = self._tfx_topics.get(event_type, ())
        return any(listener.is_equivalent(callback, details_filter) for listener in listeners)

    def reset(self) -> None:
        """Remove all listeners."""
        with self._lock:
            self._tfx_topics = {}

    def notify(self, event_type: str, details: Mapping[str, Any] | None) -> None:
        """Notify the subscribers of `ANY`, then those of this event.

        They are called in order of registration, each with a shallow copy of the details. An `Exception` in one is
        logged, and the next one is called.

        :param event_type: the event; `ANY` is none, and is ignored
        :param details: its details; None is taken as an empty dict
        """
        topics = self._tfx_topics
        if not topics:
            return
        if not self.can_trigger_notification(event_type):
            LOG.debug("Event type '%s' is not allowed to trigger notifications", event_type)
            return
        self._tfx_call_all(self._tfx_listeners_of(event_type), event_type, details)

    def _tfx_notify_only(self, event_type: str, details: Mapping[str, Any] | None) -> None:
        """Notify the subscribers of this event, as `notify` does, but not those of `ANY`.

        For events that `ANY` does not stand for.
        """
        self._tfx_call_all(self._tfx_topics.get(event_type, ()), event_type, details)

    def _tfx_listeners_of(self, event_type: str) -> tuple[Listener, ...]:
        """Return the subscribers of `ANY`, and then those of this event."""
        topics = self._tfx_topics
        return topics.get(self.ANY, ()) + topics.get(event_type, ())

    def _tfx_target_of(self, event_type: str) -> Callback | None:
        """Return a callable for an event and a dict of details of its own; None without subscribers."""
        listeners = self._tfx_listeners_of(event_type)
        if len(listeners) == 1:
            only = listeners[0]
            return only if only._directly is None else only._directly
        return functools.partial(self._tfx_call_all, listeners) if listeners else None

    @staticmethod
    def _tfx_call_all(listeners: Iterable[Listener], event_type: str, details: Mapping[str, Any] | None) -> None:
        """Call listeners, as `notify` does."""
        details = details or {}
        for listener in listeners:
            try:
                listener(event_type, dict(details))
            except Exception:  # noqa: BLE001 - what a listener does must not stop a run
                Notifier._tfx_log_error(listener, event_type, details)

    @staticmethod
    def _tfx_log_error(listener: Any, event_type: str, details: Mapping[str, Any]) -> None:
        """Log the exception of a listener that is being handled."""
        LOG.warning("Failure calling listener %s to notify about event %s, details: %s",
            listener, event_type, reprs.Text(details), exc_info=True,  # noqa: LOG014 - called while an exception is handled
        )  # fmt: skip

    def register(
        self,
        event_type: str,
        callback: Callback,
        args: Iterable[Any] | None = None,
        kwargs: Mapping[str, Any] | None = None,
        details_filter: DetailsFilter | None = None,
    ) -> None:
        """Register a callback for an event.

        It is called with the event and the details: the latter as keyword `details` if it has such a parameter, else as
        second positional argument, whatever its name.

        :param event_type: the event, or `ANY`
        :param callback: the callback
        :param args: further positional arguments for it, after event and details
        :param kwargs: further keyword arguments for it
        :param details_filter: called with the details; if it returns a false value, the callback is skipped
        :raises ValueError: if the callback cannot be called like that, or is registered already with an equal filter,
            or this notifier does not have the event
        :raises KeyError: if `kwargs` has a reserved key
        """
        arguments.check_type("event_type", event_type, Hashable, "hashable, such as a str")
        if not self.can_be_registered(event_type):
            raise ValueError(
                f"Disallowed event type '{event_type}' can not have a callback registered{self._tfx_accepted()}"
            )
        if kwargs:
            arguments.check_named_values("kwargs", kwargs)
            for key in self.RESERVED_KEYS:
                if key in kwargs:
                    raise KeyError(f"Reserved key '{key}' not allowed in kwargs")
        awaits = None
        if self._tfx_awaits is not None and arguments.is_async(callback):
            awaits = self._tfx_awaits()
            if awaits is None:
                accepted = "a plain function and no coroutine function, which only executor='asyncio' awaits"
                arguments.refuse("Event callback", callback, accepted, ValueError)
        listener = Listener(callback, args, kwargs, details_filter, awaits)
        with self._lock:
            known, key = self._tfx_known_of(event_type), _key(callback, details_filter)
            found = self.is_registered(event_type, callback, details_filter) if key is None else key in known
            if found:
                raise ValueError("Event callback already registered with equivalent details filter")
            after = (*self._tfx_topics.get(event_type, ()), listener)
            self._tfx_replace(event_type, after)
            if key is not None:
                known.add(key)
            self._tfx_known[event_type] = after, known

    def _tfx_known_of(self, event_type: str) -> set[Any]:
        """Return the keys of an event's callbacks with their filters, as far as they can be hashed.

        Many may be registered, so a new one is not compared with each of them. The keys are removed while they may
        change before the listeners do, and are valid again for the new tuple of listeners.
        """
        listeners = self._tfx_topics.get(event_type, ())
        of, known = self._tfx_known.pop(event_type, ((), set()))
        if of is listeners:
            return known
        return {key for one in listeners if (key := _key(one.callback, one.details_filter)) is not None}

    def deregister(self, event_type: str, callback: Callback, details_filter: DetailsFilter | None = None) -> bool:
        """Remove a callback with that filter from an event; returns whether it was registered."""
        with self._lock:
            before = self._tfx_topics.get(event_type, ())
            after = tuple(one for one in before if not one.is_equivalent(callback, details_filter))
            self._tfx_replace(event_type, after)
        return len(after) < len(before)

    def deregister_event(self, event_type: str) -> int:
        """Remove all callbacks of an event; returns their number."""
        with self._lock:
            before = self._tfx_topics.get(event_type, ())
            self._tfx_replace(event_type, ())
        return len(before)

    def _tfx_replace(self, event_type: str, listeners: tuple[Listener, ...]) -> None:
        """Replace the topics by new ones; an event without listeners is not in them."""
        topics = {**self._tfx_topics, event_type: listeners}
        if not listeners:
            del topics[event_type]
        self._tfx_topics = topics

    def copy(self) -> Self:
        """Return a notifier with the same listeners, and registrations of its own from now on."""
        other = self.__class__.__new__(self.__class__)
        other.__dict__.update(self.__dict__)
        other._tfx_known = {}
        other._lock = threading.RLock()
        return other

    __copy__ = copy

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = self.copy()
        other._tfx_topics = {
            event: tuple(one._follow(memo) for one in listeners) for event, listeners in self._tfx_topics.items()
        }
        return other

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_lock"]
        state.pop("_tfx_known", None)
        state.pop("_tfx_awaits", None)
        kept = {
            event: tuple(one for one in listeners if _can_be_pickled(one))
            for event, listeners in self._tfx_topics.items()
        }
        state["_tfx_topics"] = {event: listeners for event, listeners in kept.items() if listeners}
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._tfx_known = {}
        self._lock = threading.RLock()

    def listeners_iter(self) -> Iterator[tuple[str, list[Listener]]]:
        """Iterate over pairs of an event and its listeners."""
        for event_type, listeners in self._tfx_topics.items():
            yield event_type, list(listeners)

    def can_be_registered(self, event_type: str) -> bool:
        """Tell whether callbacks may be registered for that event."""
        return True

    def _tfx_accepted(self) -> str:
        """Describe the valid events, for an error message."""
        return ""

    def can_trigger_notification(self, event_type: str) -> bool:
        """Tell whether that event may be published: `ANY` may not."""
        return event_type != self.ANY


def _key(callback: Callback, details_filter: DetailsFilter | None) -> Any:
    """Return a key that is equal for equal callbacks and filters, or None when one of them cannot be hashed."""
    key = callback, details_filter
    try:
        hash(key)
    except TypeError:
        return None
    return key


def _can_be_pickled(listener: Listener) -> bool:
    """Tell whether a listener can be pickled, by pickling it.

    A listener may refer to the notifier that it is registered on: it is often a method of the task that has the
    notifier. So notifiers in its pickle count as if they had no listeners.
    """
    import pickle

    if _PROBE.is_on:
        return False
    _PROBE.is_on = True
    try:
        pickle.dumps(listener)
    except Exception:  # noqa: BLE001 - a user's object may raise anything when pickled
        LOG.debug("%s cannot be pickled and is left behind", listener)
        return False
    finally:
        _PROBE.is_on = False
    return True


class RestrictedNotifier(Notifier):
    """A notifier with a fixed set of events, which rejects callbacks for others.

    :param watchable_events: the events
    :param allow_any: whether callbacks may be registered for `ANY`
    """

    def __init__(self, watchable_events: Iterable[str], allow_any: bool = True) -> None:
        super().__init__()
        arguments.check_iterable("watchable_events", watchable_events, "an iterable of events")
        self._watchable_events = tuple(dict.fromkeys(watchable_events))
        self._allow_any = allow_any

    def events_iter(self) -> Iterator[str]:
        """Iterate over the events, in their given order."""
        return iter(self._watchable_events)

    def can_be_registered(self, event_type: str) -> bool:
        """Tell whether the event is one of this notifier's, or `ANY` and that is allowed."""
        return event_type in self._watchable_events or (event_type == self.ANY and self._allow_any)

    def _tfx_accepted(self) -> str:
        accepted = [*self._watchable_events, *((self.ANY,) if self._allow_any else ())]
        return f", expected one of {accepted}"


@contextlib.contextmanager
def register_deregister(
    notifier: Notifier,
    event_type: str,
    callback: Callback | None = None,
    args: Iterable[Any] | None = None,
    kwargs: Mapping[str, Any] | None = None,
    details_filter: DetailsFilter | None = None,
) -> Iterator[None]:
    """Register a callback for the `with` block; does nothing without a callback."""
    if callback is None:
        yield
        return
    notifier.register(event_type, callback, args=args, kwargs=kwargs, details_filter=details_filter)
    try:
        yield
    finally:
        notifier.deregister(event_type, callback, details_filter=details_filter)
