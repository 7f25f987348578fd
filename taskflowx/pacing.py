"""How a retry controller waits between attempts, and when it gives up early: the keywords of `retry.Times` and others.

The engine asks for it after the controller has decided on RETRY. Nothing here reads a clock or draws a random number by
itself: both are passed in.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

from taskflowx._util import arguments

if TYPE_CHECKING:
    from typing import Protocol

    from taskflowx.types.failure import Failure

    class Random(Protocol):
        """What random numbers come from: the module `random`, or a `random.Random`."""

        def random(self) -> float:
            """Return a number from 0 to less than 1."""

    #: what a failure is compared with: a class, its name, or a function that takes the failure
    Cause = type[BaseException] | str | Callable[[Failure], object]

#: the name of the exception by which a task asks for a delay
ASKS = "taskflowx.retry.RetryAfter"
#: what stands where a controller may decide on further attempts at any time
_LONGEST = 3.2e9  # seconds: a century


class RetryOptions(TypedDict, total=False):
    """The keywords of retry controllers that say when the next attempt begins, and whether there is one."""

    delay: float | None
    backoff: float | None
    max_delay: float | None
    jitter: float | None
    retry_on: Cause | Iterable[Cause] | None
    give_up_on: Cause | Iterable[Cause] | None
    deadline: float | None


NAMES = tuple(RetryOptions.__annotations__)


class Pacing(NamedTuple):
    """The delays between the attempts of one controller, and the failures that end them; made by `Pacing.of`.

    Times are in seconds. `max_delay` and `deadline` are None where there is no bound, `retry_on` and `give_up_on` are
    empty where nothing was given.
    """

    delay: float = 0.0
    backoff: float = 1.0
    max_delay: float | None = None
    jitter: float = 0.0
    retry_on: tuple[Cause, ...] = ()
    give_up_on: tuple[Cause, ...] = ()
    deadline: float | None = None

    @classmethod
    def of(cls, who: str, keywords: Mapping[str, Any]) -> Pacing | None:
        """Return the checked settings of a controller, or None where none is given.

        :param who: the controller, as messages name it
        :param keywords: those of `RetryOptions`
        :raises TypeError, ValueError: when one is unknown, or its value makes no sense; names the controller and it
        """
        arguments.check_keywords(who, keywords, NAMES)
        given = {name: value for name, value in keywords.items() if value is not None}
        if not given:
            return None
        made: dict[str, Any] = {}
        for name, value in given.items():
            made[name] = _CHECKS[name](f"{name}= of {who}", value)
        if "delay" not in given:
            for name in ("backoff", "max_delay", "jitter"):
                if name in given:
                    raise ValueError(
                        f"{name}= of {who} changes the delay between attempts, and none is given: add delay="
                    )
        pacing = cls(**made)
        if pacing.max_delay is not None and pacing.max_delay < pacing.delay:
            raise ValueError(
                f"max_delay= of {who} is {pacing.max_delay:g}, less than its delay= of {pacing.delay:g}, which is the "
                "shortest one"
            )
        return pacing

    def gives_up(self, failure: Failure, seconds_since_first: float) -> bool:
        """Tell whether there is no further attempt after a failure, whatever the controller has decided.

        :param failure: that of the attempt; one that asks for another attempt by `retry.RetryAfter` need not be named
            by `retry_on`
        :param seconds_since_first: the time from the start of the first attempt to the earliest start of the next one
        :raises Exception: what a predicate of the user raises
        """
        if self.deadline is not None and seconds_since_first >= self.deadline:
            return True
        if self.give_up_on and _is_one_of(failure, self.give_up_on):
            return True
        return bool(self.retry_on) and not _is_one_of(failure, self.retry_on) and not failure.check(ASKS)

    def seconds(self, attempt: int, random: Random) -> float:
        """Return the delay after an attempt.

        :param attempt: its number, from 1
        :param random: where the jitter comes from
        """
        if not self.delay:
            return 0.0
        try:
            seconds = self.delay * self.backoff ** (attempt - 1)
        except OverflowError:
            seconds = _LONGEST
        longest = _LONGEST if self.max_delay is None else self.max_delay
        seconds = min(seconds, longest)
        if self.jitter:
            seconds = min(seconds * (1 + self.jitter * (2 * random.random() - 1)), longest)
        return seconds

    def settings(self) -> dict[str, Any]:
        """Return what was given, by the names of the keywords, to be shown."""
        given = {name: value for name, value in self._asdict().items() if value != getattr(_USUAL, name)}
        return {name: tuple(map(_shown, value)) if name.endswith("_on") else value for name, value in given.items()}


_USUAL = Pacing()


def seconds_asked_for(failure: Failure) -> float | None:
    """Return the seconds after which a task has asked to be tried again, by `retry.RetryAfter`; None if it has not."""
    first: Any
    if not failure.check(ASKS):
        return None
    first = next(iter(failure.exception_args), None)
    is_number = isinstance(first, (int, float)) and not isinstance(first, bool) and math.isfinite(first)
    return min(max(float(first), 0.0), _LONGEST) if is_number else None


def delay_of(decision: str, failure: Failure, pacing: Pacing | None, attempt: int, random: Random) -> float:
    """Return the seconds between an attempt that has failed and the next one.

    What the controller says by `retry.again` counts most, then what the task asks for by `retry.RetryAfter`.

    :param decision: the decision of the controller, which is RETRY
    :param failure: that of the attempt
    :param pacing: the settings of the controller, if it has any
    :param attempt: the number of the attempt, from 1
    :param random: where the jitter comes from
    """
    seconds: float | None = getattr(decision, "after", None)
    if seconds is None:
        seconds = seconds_asked_for(failure)
    if seconds is None:
        seconds = 0.0 if pacing is None else pacing.seconds(attempt, random)
    return seconds


def to_delay(name: str, value: Any) -> float:
    """Return a number of seconds to wait.

    :raises TypeError, ValueError: when it is none
    """
    return arguments.to_finite(name, value, "a number of seconds, 0 or more")


def _to_backoff(name: str, value: Any) -> float:
    return arguments.to_finite(name, value, "the factor from one delay to the next, 1 or more", least=1)


def _to_jitter(name: str, value: Any) -> float:
    accepted = "a fraction from 0 to 1: 0.1 changes each delay by up to 10 %"
    jitter = arguments.to_finite(name, value, accepted)
    if jitter > 1:
        arguments.refuse(name, value, accepted, ValueError)
    return jitter


def _to_deadline(name: str, value: Any) -> float:
    accepted = "a number of seconds over all attempts, more than 0; without a bound, leave it out"
    return arguments.to_finite(name, value, accepted, least=None)


_ACCEPTED = "an exception class, its name, or a function that takes the failure, or several of these in a tuple"


def _to_causes(name: str, value: Any) -> tuple[Cause, ...]:
    several = isinstance(value, Iterable) and not isinstance(value, (str, bytes, type, Mapping)) and not callable(value)
    causes = tuple(value) if several else (value,)
    if not causes:
        arguments.refuse(name, value, f"{_ACCEPTED}; an empty one names nothing", ValueError)
    for cause in causes:
        if isinstance(cause, type):
            if not issubclass(cause, BaseException):
                arguments.refuse(name, cause, _ACCEPTED)
        elif isinstance(cause, str):
            if not all(part.isidentifier() for part in cause.split(".")):
                arguments.refuse(name, cause, f"{_ACCEPTED}; a name is one such as 'requests.Timeout'", ValueError)
        elif not callable(cause):
            arguments.refuse(name, cause, _ACCEPTED)
        else:
            arguments.check_callback(name, cause)
            _check_takes_one(name, cause)
    return causes


def _check_takes_one(name: str, predicate: Any) -> None:
    """Refuse a function that cannot be called with a failure."""
    import inspect  # rarely needed

    try:
        inspect.signature(predicate).bind(None)
    except TypeError:
        arguments.refuse(name, predicate, f"{_ACCEPTED}; a function is called with the failure alone")
    except ValueError:  # a builtin that does not say what it takes
        pass


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "delay": to_delay,
    "backoff": _to_backoff,
    "max_delay": to_delay,
    "jitter": _to_jitter,
    "retry_on": _to_causes,
    "give_up_on": _to_causes,
    "deadline": _to_deadline,
}


def _is_one_of(failure: Failure, causes: tuple[Cause, ...]) -> bool:
    """Tell whether a failure is one of those that were named; a name without a module fits a class of any module."""
    for cause in causes:
        if isinstance(cause, type):
            if failure.check(cause):
                return True
        elif isinstance(cause, str):
            if failure.check(cause) or ("." not in cause and cause in (kind.rpartition(".")[2] for kind in failure)):
                return True
        elif cause(failure):
            return True
    return False


def _shown(cause: Cause) -> str:
    return cause if isinstance(cause, str) else str(getattr(cause, "__name__", type(cause).__name__))
