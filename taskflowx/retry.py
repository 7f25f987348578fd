"""Retry controllers: they decide what happens when an atom in their flow fails.

A retry runs before the other members of its flow. `on_failure` is called each time that one of them fails. Its
`history` holds one entry for each attempt: (the result of its `execute`, {name of a failed atom: its `Failure`}).
"""

from __future__ import annotations

import enum
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, Self, cast

from taskflowx import atom, exceptions, signature
from taskflowx._util import arguments, reprs
from taskflowx.pacing import Pacing, to_delay

if TYPE_CHECKING:
    from typing import Unpack

    from taskflowx import pacing as pacings
    from taskflowx.types.failure import Failure

    Attempt = tuple[Any, dict[str, Failure]]

EXECUTE_REVERT_HISTORY = "history"
REVERT_FLOW_FAILURES = atom.REVERT_FLOW_FAILURES


class Decision(enum.StrEnum):
    """The decision of a retry controller on a failure in its flow."""

    REVERT = "REVERT"
    """Roll back this flow alone, unless the enclosing controller decides on more."""
    REVERT_ALL = "REVERT_ALL"
    """Roll back the whole run."""
    RETRY = "RETRY"
    """Roll back this flow, then run it again."""


REVERT = Decision.REVERT
REVERT_ALL = Decision.REVERT_ALL
RETRY = Decision.RETRY


class _Again(str):
    """The decision RETRY, with the delay before the next attempt."""

    __slots__ = ("after",)

    def __new__(cls, after: float) -> Self:
        made = super().__new__(cls, RETRY.value)
        made.after = after
        return made

    after: float

    def __reduce__(self) -> tuple[Any, ...]:
        return again, (self.after,)

    def __repr__(self) -> str:
        return f"retry.again(after={self.after:g})"


def again(after: float) -> Decision:
    """Return the decision RETRY with a delay, for an `on_failure` of your own.

    :param after: seconds until the next attempt begins, 0 or more
    :raises TypeError, ValueError: when it is no such number
    """
    return cast("Decision", _Again(to_delay("after= of retry.again", after)))


class RetryAfter(exceptions.ExecutionFailure):
    """Raised by a task to be tried again after some seconds, if the controller around it decides on a further attempt.

    :param seconds: the delay before the next attempt, 0 or more: what an answer "429 Too Many Requests" asks for
    :param message: what has happened
    :param cause: the exception that led to this one, or None
    :raises TypeError, ValueError: when `seconds` is no such number
    """

    def __init__(self, seconds: float, message: str = "", cause: BaseException | None = None) -> None:
        self.seconds = to_delay("seconds= of RetryAfter", seconds)
        super().__init__(message, cause)
        self.args = (self.seconds, message)

    def _message(self) -> str:
        return str(self.args[1]) or f"to be tried again after {self.seconds:g} s"


class _NotDone:
    __slots__ = ()

    def __repr__(self) -> str:
        return "retry.NOT_DONE"

    def __reduce__(self) -> str:
        return "NOT_DONE"  # one object in each process


#: what `find_outcome` of a task returns for a call that has had no effect
NOT_DONE = _NotDone()


class History:
    """The attempts of one retry so far, oldest first, with the failure of the retry itself if it has one.

    :param contents: pairs of (provided value, {atom name: Failure}); not copied
    :param failure: the failure of the retry's own `execute`, if any
    """

    __slots__ = ("_contents", "failure")

    def __init__(self, contents: Sequence[Attempt], failure: Failure | None = None) -> None:
        self._contents = contents
        self.failure = failure

    def provided_iter(self) -> Iterator[Any]:
        """Iterate over the result of each attempt's `execute`."""
        return (provided for provided, _ in self._contents)

    def outcomes_iter(self, index: int | None = None) -> Iterator[tuple[str, Failure]]:
        """Iterate over (atom name, failure) of all attempts, or of the one at `index`."""
        if index is not None:
            arguments.check_type("index", index, int, "the number of an attempt, or None for all of them")
        attempts = self._contents if index is None else [self._contents[index]]
        return (outcome for _, outcomes in attempts for outcome in outcomes.items())

    def caused_by(
        self, exception_cls: type[Exception] | str, index: int | None = None, include_retry: bool = False
    ) -> bool:
        """Tell whether a failure in the history is of the given type.

        :param exception_cls: an exception class, or its dotted name
        :param index: check only this attempt
        :param include_retry: check the failure of the retry itself too
        """
        if any(failure.check(exception_cls) for _, failure in self.outcomes_iter(index)):
            return True
        return bool(include_retry and self.failure is not None and self.failure.check(exception_cls))

    def __len__(self) -> int:
        return len(self._contents)

    @reprs.one_line
    def __repr__(self) -> str:
        number = reprs.number_of(len(self._contents), "attempt")
        if self.failure is not None:
            return f"History: {number}; the retry has failed"
        failed = f"; failed in the last: {[*self._contents[-1][1]]}" if self._contents else ""
        return f"History: {number}{failed}"

    def __getitem__(self, index: Any) -> Any:
        return self._contents[index]

    def __iter__(self) -> Iterator[Attempt]:
        return iter(self._contents)


class Retry(atom.Atom):
    """A controller that decides how a failure in its flow is handled; to be subclassed.

    :param name: unique name; `<flow name>_retry` of the first flow that it is given to by default

    The other arguments are those of `taskflowx.atom.Atom`.
    """

    _tfx_engine_args = (frozenset((EXECUTE_REVERT_HISTORY,)), frozenset((EXECUTE_REVERT_HISTORY, REVERT_FLOW_FAILURES)))

    def __init__(
        self,
        name: str | None = None,
        provides: atom.Provides = None,
        requires: Iterable[str] | None = None,
        auto_extract: bool = True,
        rebind: atom.Rebind = None,
    ) -> None:
        if atom.is_method_of(Retry, "on_failure", self.on_failure):
            msg = f"Can't instantiate {atom.full_name(type(self))} without an implementation of its 'on_failure' method"
            raise TypeError(msg)
        try:
            super().__init__(name, provides, requires, auto_extract, rebind)
        except (TypeError, ValueError) as error:
            atom.tell_of(error, self)
            raise

    def _tfx_inspect(self) -> signature.Methods:
        atom.check_self(self, self.on_failure)
        return super()._tfx_inspect()

    #: how it waits between attempts and when it gives up early; None where nothing of that was given
    _tfx_pacing: Pacing | None = None

    #: whether its name is that of the task that it was given to, and not one that its user gave
    _tfx_named_by_task = False

    def _tfx_pace(self, keywords: Any) -> None:
        """Take the keywords of `taskflowx.pacing.RetryOptions`."""
        who = f"{type(self).__name__} retry" + ("" if self.name is None else f" '{self.name}'")
        pacing = Pacing.of(who, keywords)
        if pacing is not None:
            self._tfx_pacing = pacing

    def _tfx_paced(self) -> dict[str, Any]:
        return {} if self._tfx_pacing is None else self._tfx_pacing.settings()

    def _tfx_given_up(self) -> Decision:
        """Return the decision when a failure, or the time, ends the attempts early."""
        return REVERT

    def _tfx_limit(self) -> int | None:
        """Return how many attempts there are at most, or None if that is not known."""
        return None

    def on_failure(self, history: History, *args: Any, **kwargs: Any) -> Decision | Awaitable[Decision]:
        """Decide on a failure: RETRY, REVERT or REVERT_ALL.

        :param history: all attempts, including the one that just failed

        The arguments of `execute` are passed too, as far as it accepts them.
        """
        raise NotImplementedError

    def _tfx_settings(self) -> dict[str, Any]:
        """Return what this controller was made with, by the names of the arguments, to be shown."""
        return {}


class AlwaysRevert(Retry):
    """On any failure, roll back its own flow only."""

    def on_failure(self, *args: Any, **kwargs: Any) -> Decision:
        """Decide on REVERT."""
        return REVERT

    def execute(self, *args: Any, **kwargs: Any) -> None:
        """Provide nothing."""


class AlwaysRevertAll(Retry):
    """On any failure, roll back the whole run."""

    def on_failure(self, **kwargs: Any) -> Decision:  # type: ignore[override]
        """Decide on REVERT_ALL."""
        return REVERT_ALL

    def execute(self, **kwargs: Any) -> None:
        """Provide nothing."""


class Times(Retry):
    """Run its flow for a limited number of attempts; provides the number of the attempt, from 1.

    :param attempts: the number of attempts in all
    :param revert_all: whether the whole run is rolled back after the last attempt, rather than its own flow alone
    :param pacing: see below

    The keywords of `pacing` are `delay` (seconds before the second attempt), `backoff` (the factor from one delay to
    the next), `max_delay` (seconds at most), `jitter` (0.1: each delay is up to 10 % shorter or longer), `retry_on`
    and `give_up_on` (exception classes, their names, or a function that takes the `Failure`: which failures are
    followed by another attempt, and which are not), and `deadline` (seconds from the first attempt on, after which no
    other one begins).

    :raises TypeError, ValueError: when one of these makes no sense
    """

    def __init__(
        self,
        attempts: int = 1,
        name: str | None = None,
        provides: atom.Provides = None,
        requires: Iterable[str] | None = None,
        auto_extract: bool = True,
        rebind: atom.Rebind = None,
        revert_all: bool = False,
        **pacing: Unpack[pacings.RetryOptions],
    ) -> None:
        super().__init__(name, provides, requires, auto_extract, rebind)
        if pacing:
            self._tfx_pace(pacing)
        if type(attempts) is not int or attempts < 0:
            arguments.check_number("attempts", attempts, "a number of attempts", least=0)
        self._attempts = attempts
        self._revert_action = REVERT_ALL if revert_all else REVERT

    def _tfx_limit(self) -> int | None:
        return getattr(self, "_attempts", None)  # which subclasses change

    def on_failure(self, history: History, *args: Any, **kwargs: Any) -> Decision:
        """Decide on RETRY while attempts are left."""
        return RETRY if len(history) < self._attempts else self._revert_action

    def execute(self, history: History, *args: Any, **kwargs: Any) -> int:
        """Return the number of this attempt."""
        return len(history) + 1

    def _tfx_settings(self) -> dict[str, Any]:
        return {"attempts": self._attempts} | _revert_all(self._revert_action) | self._tfx_paced()

    def _tfx_given_up(self) -> Decision:
        return self._revert_action


def _revert_all(action: Decision) -> dict[str, Any]:
    return {"revert_all": True} if action == REVERT_ALL else {}


def _values(given: Any) -> Iterable[Any]:
    """Return the values to try, if they are an iterable; text is one, as in TaskFlow."""
    if not isinstance(given, str):
        arguments.check_iterable("values", given, "an iterable of what is to be tried")
    return given  # type: ignore[no-any-return]


def _untried(values: Iterable[Any], history: History) -> Sequence[Any]:
    """Return the values that were not tried; of equal values, each attempt counts for one.

    Values that were read back from a store are identified by position: a tuple is a list then.
    """
    values = list(_values(values))
    tried = list(history.provided_iter())
    if len(tried) <= len(values) and all(map(_is_same, tried, values)):
        return values[len(tried) :]
    for value in tried:  # the values have changed since, or are tried in another order
        place = next((place for place, other in enumerate(values) if _is_same(value, other)), None)
        if place is not None:
            del values[place]
    return values


def _is_same(tried: Any, value: Any) -> bool:
    """Tell whether a value may be the tried one, which may have been read back from a store."""
    try:
        return tried is value or bool(tried == value) or bool(_read_back(tried) == _read_back(value))
    except Exception:  # noqa: BLE001 - arrays and similar types cannot tell: their position does
        return True


def _read_back(value: Any) -> Any:
    """Return plain data as it reads back from a store, with a marker for NaN, which equals nothing."""
    if isinstance(value, (list, tuple)):
        return [_read_back(part) for part in value]
    if isinstance(value, dict):
        return {key: _read_back(part) for key, part in value.items()}
    return "NaN" if isinstance(value, float) and value != value else value  # noqa: PLR0124 - the definition of NaN


class ForEachBase(Retry):
    """Base class of the controllers that try one value after another; its keywords are those of `Times`."""

    def __init__(
        self,
        name: str | None = None,
        provides: atom.Provides = None,
        requires: Iterable[str] | None = None,
        auto_extract: bool = True,
        rebind: atom.Rebind = None,
        revert_all: bool = False,
        **pacing: Unpack[pacings.RetryOptions],
    ) -> None:
        super().__init__(name, provides, requires, auto_extract, rebind)
        if pacing:
            self._tfx_pace(pacing)
        self._revert_action = REVERT_ALL if revert_all else REVERT

    def _get_next_value(self, values: Iterable[Any], history: History) -> Any:
        left = _untried(values, history)
        if not left:
            raise exceptions.NotFound(f"No elements left in collection of iterable retry controller {self.name}")
        return left[0]

    def _on_failure(self, values: Iterable[Any], history: History) -> Decision:
        return RETRY if _untried(values, history) else self._revert_action

    def _tfx_settings(self) -> dict[str, Any]:
        return _revert_all(self._revert_action) | self._tfx_paced()

    def _tfx_given_up(self) -> Decision:
        return self._revert_action


class ForEach(ForEachBase):
    """Run its flow with each of the given values in turn, until it succeeds; provides the value.

    :param values: the values to try, in order
    :param revert_all: whether the whole run is rolled back when no value is left
    :param pacing: delays, and when to give up early: the keywords of `Times`
    """

    def __init__(
        self,
        values: Iterable[Any],
        name: str | None = None,
        provides: atom.Provides = None,
        requires: Iterable[str] | None = None,
        auto_extract: bool = True,
        rebind: atom.Rebind = None,
        revert_all: bool = False,
        **pacing: Unpack[pacings.RetryOptions],
    ) -> None:
        super().__init__(name, provides, requires, auto_extract, rebind, revert_all, **pacing)
        self._values = list(_values(values))

    def _tfx_limit(self) -> int | None:
        return len(self._values)

    def on_failure(self, history: History, *args: Any, **kwargs: Any) -> Decision:
        """Decide on RETRY while a value is left."""
        return self._on_failure(self._values, history)

    def execute(self, history: History, *args: Any, **kwargs: Any) -> Any:
        """Return the next value."""
        return self._get_next_value(self._values, history)

    def _tfx_settings(self) -> dict[str, Any]:
        return {"values": self._values} | super()._tfx_settings()


class ParameterizedForEach(ForEachBase):
    """As `ForEach`, with the values taken from the flow's own data under the name `values` (or its rebinding).

    An iterator raises TypeError: it yields its values once, and they are read before and after each attempt.
    """

    def on_failure(self, values: Iterable[Any], history: History, *args: Any, **kwargs: Any) -> Decision:  # type: ignore[override]
        """Decide on RETRY while a value is left."""
        return self._on_failure(_lasting(values, self), history)

    def execute(self, values: Iterable[Any], history: History, *args: Any, **kwargs: Any) -> Any:
        """Return the next value.

        :raises TypeError: when the values are an iterator, or cannot be iterated over
        """
        return self._get_next_value(_lasting(values, self), history)


def _lasting(values: Iterable[Any], controller: Retry) -> Iterable[Any]:
    """Return values that can be iterated over repeatedly.

    :raises TypeError: when they are an iterator, such as a generator
    """
    if isinstance(values, Iterator):
        raise TypeError(
            f"Retry '{controller.name}' cannot try the values of {values!r}: an iterator, such as a generator, gives "
            "its values once, and they are looked at with each attempt; make it a list"
        )
    return values
