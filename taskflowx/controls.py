"""The settings of a task that say how its calls are retried, limited in time and number, and resolved when unknown.

Each is a keyword of the constructor of a task, and an attribute of its class with `default_` in front, which is read
when the class is made. A value is checked where it is written. What must stay true: a task without any of them has no
attribute for them, and costs nothing for them.
"""

from __future__ import annotations

import copy
import types
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Self, TypedDict

from taskflowx._util import arguments
from taskflowx.signature import Parameters, inspect_parameters

if TYPE_CHECKING:
    from taskflowx.retry import Retry
    from taskflowx.task import Task

#: seconds that a call gets to end by itself, when it has exceeded its limit or was cancelled
GRACE = 5.0
REPEAT, UNDO, ASK = UNKNOWN = ("repeat", "undo", "ask")
#: the argument by which `find_outcome` gets the key of a call
KEY = "idempotency_key"
#: in front of the name of a setting that a class has
PREFIX = "default_"
FINDER = "find_outcome"


class TaskOptions(TypedDict, total=False):
    """The settings of a task, as its constructor takes them; None takes that of its class."""

    retry: Retry | None
    timeout: float | None
    revert_timeout: float | None
    revert_retry: Retry | None
    limits: Iterable[str] | Mapping[str, int] | None
    on_unknown: Literal["repeat", "undo", "ask"] | None
    grace: float | None
    strict_timeout: bool | None
    sensitive: bool | str | Iterable[str] | Mapping[str, Any] | None


NAMES = tuple(TaskOptions.__annotations__)


class LeftBehind(NamedTuple):
    """Stands for a controller that could not be pickled with its task: calls elsewhere need none, flows do."""

    why: str

    def missing(self, task: Task) -> ValueError:
        """Return the error for a task that is to run by it."""
        return ValueError(
            f"The controller of task '{task.name}' was left behind when the task was pickled, as it could not be: "
            f"{self.why}; define what retry_on= and give_up_on= name at the top level of a module"
        )


class Use:
    """Whether any task in this process has had settings: as long as none has, nobody looks for them."""

    ever = False


class _Settings(NamedTuple):
    retry: Retry | None = None
    timeout: float | None = None
    revert_timeout: float | None = None
    revert_retry: Any = None
    limits: tuple[tuple[str, int], ...] = ()
    on_unknown: str = REPEAT
    grace: float = GRACE
    strict_timeout: bool = False
    sensitive: Any = None
    finds: Parameters | None = None


class Controls(_Settings):
    """The settings of one task; times are in seconds, and None where there is no limit.

    `retry` is the task's own copy of a controller. `limits` pairs the name of each limit, or a template such as
    `host:{host}`, with what a call takes of it. `sensitive` says which of the values that the task provides are.
    `finds` are the parameters of the task's `find_outcome` beside the idempotency key; None where it has no such one.
    """

    __slots__ = ()

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        """Note that there are settings in this process, also where they are unpickled."""
        Use.ever = True
        return super().__new__(cls, *args, **kwargs)

    def __reduce__(self) -> tuple[Any, ...]:
        # Where a call of a task is made, its controllers are of no use: that of a lambda does not keep it here.
        parts = (
            _travelling(part) if name.endswith("retry") else part for name, part in zip(self._fields, self, strict=True)
        )
        return type(self), tuple(parts)

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return type(self)(*[copy.deepcopy(part, memo) for part in self])


def settle(cls: type[Task]) -> None:
    """Take the settings of a class of tasks from its attributes.

    :raises TypeError, ValueError: when one makes no sense; names the class and it
    """
    given = {name: value for name in NAMES if (value := getattr(cls, PREFIX + name)) is not None}
    finder = _looked_up(cls, FINDER)
    who = f"class {cls.__qualname__}"
    if given or finder is not None:
        found = None if finder is None else _parameters_of(f"{FINDER} of {who}", finder)
        settings = Controls(finds=found, **_checked(who, given, PREFIX))
        takes = inspect_parameters(_bound(_looked_up(cls, "execute")))
        if not takes.open_ended:
            _check_names(settings, who, (*takes.required, *takes.optional), PREFIX)
        cls._tfx_controls = settings
    elif cls._tfx_controls is not None:
        cls._tfx_controls = None  # that of a base class


def declare(task: Task, keywords: Mapping[str, Any]) -> None:
    """Take the settings of a task from the keywords of its constructor.

    :raises TypeError, ValueError: when one is unknown or makes no sense; names the task and it
    """
    who = f"task '{task.name}'"
    arguments.check_keywords(who, keywords, NAMES)
    given = _checked(who, {name: value for name, value in keywords.items() if value is not None})
    if given:
        known = task._tfx_controls
        controls = Controls(**given) if known is None else known._replace(**given)
        check_fit(task, controls)
        if not task._tfx_reverts_later:
            check_undoes(task, controls)
        task._tfx_controls = controls


def check_fit(task: Task, controls: Controls) -> None:
    """Refuse settings that do not fit a task.

    :raises ValueError: names the task, the setting and what it lacks
    """
    _check_names(controls, f"task '{task.name}'", (*task._tfx_signature.execute.args, *(task.inject or ())))
    if isinstance(controls.revert_retry, LeftBehind):
        raise controls.revert_retry.missing(task)
    if isinstance(controls.sensitive, (tuple, dict)):
        unknown = [name for name in controls.sensitive if name not in task.provides]
        if unknown:
            raise ValueError(f"sensitive= of task '{task.name}' names {unknown}; it provides {sorted(task.provides)}")
    elif controls.sensitive is not None and not task.provides:
        raise ValueError(f"sensitive= of task '{task.name}' needs something that it provides: add provides=")
    if controls.strict_timeout and controls.timeout is None and controls.revert_timeout is None:
        raise ValueError(f"strict_timeout= of task '{task.name}' needs a limit that is to be kept: add timeout=")


def _check_names(controls: Controls, who: str, known: tuple[str, ...], prefix: str = "") -> None:
    """Refuse names of arguments that execute does not get.

    :param known: those that it gets
    """
    for name, _ in controls.limits:
        for argument in fields_of(name):
            if argument not in known:
                raise ValueError(
                    f"{prefix}limits{'' if prefix else '='} of {who} has '{name}', and its execute gets no argument "
                    f"'{argument}'; it gets {list(known)}"
                )
    finds = controls.finds
    for argument in () if finds is None else (*finds.required, *finds.optional):
        if argument not in known:
            raise ValueError(
                f"{FINDER} of {who} takes an argument '{argument}' that nobody gives: it gets {KEY} and the arguments "
                f"of execute, which are {list(known)}"
            )


def check_undoes(task: Task, controls: Controls) -> None:
    """Refuse a task that is to be undone, and has no way to do so.

    :raises ValueError: names the task, and the way out
    """
    if controls.on_unknown == UNDO and task._tfx_parameters().revert is None:
        raise ValueError(
            f"on_unknown='{UNDO}' of task '{task.name}' calls its revert, and it has none: write one, or choose "
            f"'{REPEAT}' or '{ASK}'"
        )


def retry_of(member: Any) -> Retry | None:
    """Return the controller that a member of a flow has by itself, if it is a task that has one.

    :raises ValueError: when it could not be pickled with the task
    """
    settings = getattr(member, "_tfx_controls", None)
    if not isinstance(settings, Controls):
        return None
    if isinstance(settings.retry, LeftBehind):
        raise settings.retry.missing(member)
    return settings.retry


def concerns_calls(settings: Controls) -> bool:
    """Tell whether anything but a controller is set: that is all in the flow that stands for the task."""
    return settings._replace(retry=None) != _Settings()


def own(task: Task) -> Controls | None:
    """Return the settings of a task, with a controller of its own, which is named after it."""
    controls = task._tfx_controls
    if controls is None or controls.retry is None:
        return controls
    retry, name = controls.retry, f"{task.name}_retry"
    is_named = retry.name is not None and not retry._tfx_named_by_task  # by the user
    if "_tfx_controls" in task.__dict__ and (is_named or retry.name == name):
        return controls
    retry = copy.copy(retry)
    if not is_named:
        retry.name, retry._tfx_named_by_task = name, True
    controls = task._tfx_controls = controls._replace(retry=retry)
    return controls


def keywords_of(controls: Controls) -> dict[str, Any]:
    """Return the keywords that make the settings of a task."""
    given: dict[str, Any] = {
        name: getattr(controls, name) for name in NAMES if getattr(controls, name) != _Settings._field_defaults[name]
    }
    if controls.limits:
        given["limits"] = dict(controls.limits)
    if controls.retry is not None and controls.retry._tfx_named_by_task:
        given["retry"] = copy.copy(controls.retry)
        given["retry"].name = None
        given["retry"]._tfx_named_by_task = False
    return given


def _travelling(controller: Any) -> Any:
    if controller is not None:
        import pickle  # who is pickled has imported it

        try:
            pickle.dumps(controller)
        except Exception as error:  # noqa: BLE001 - what users' objects raise
            return LeftBehind(f"{type(error).__name__}: {error}")
    return controller


def _checked(who: str, given: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return the values of settings, as engines read them.

    :param who: the task or class that has them
    :param prefix: what stands in front of their names
    """
    sign = " of " if prefix else "= of "
    return {name: _CHECKS[name](f"{prefix}{name}{sign}{who}", value) for name, value in given.items()}


def _to_retry(name: str, value: Any) -> Retry:
    from taskflowx import retry

    if not isinstance(value, retry.Retry):
        arguments.refuse(name, value, "a retry controller such as taskflowx.retry.Times(3)")
    return copy.copy(value)  # another task that gets this object has a controller of its own


def _to_revert_retry(name: str, value: Any) -> Retry:
    from taskflowx import retry

    accepted = "a taskflowx.retry.Times such as Times(3, delay=1), as a revert has no other values to try"
    if not isinstance(value, retry.Times):
        arguments.refuse(name, value, accepted)
    if value.requires or value.provides:
        arguments.refuse(name, value, f"{accepted}; nobody gives it values, or takes its own", ValueError)
    return copy.copy(value)


def to_limit(name: str, value: Any) -> float:
    """Return a time limit in seconds.

    :raises TypeError, ValueError: when it is none
    """
    accepted = "a number of seconds, more than 0; without a limit, leave it out"
    return arguments.to_finite(name, value, accepted, least=None)


def _to_grace(name: str, value: Any) -> float:
    return arguments.to_finite(name, value, "a number of seconds, 0 or more")


def _to_unknown(name: str, value: Any) -> str:
    arguments.check_choice(name, value, UNKNOWN)
    return str(value)


def to_flag(name: str, value: Any) -> bool:
    """Return a bool.

    :raises TypeError: when it is none
    """
    arguments.check_type(name, value, bool, "True or False")
    return bool(value)


_SHAPE = "names in a tuple such as ('db',), or a dict of name -> how much of it a call takes, a whole number from 1"


def _to_limits(name: str, value: Any) -> tuple[tuple[str, int], ...]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        arguments.refuse(name, value, _SHAPE)
    pairs = list(value.items()) if isinstance(value, Mapping) else [(one, 1) for one in value]
    seen: set[str] = set()
    for limit, amount in pairs:
        if not isinstance(limit, str):
            arguments.refuse(f"Each name in {name}", limit, "a str")
        if not limit or limit in seen:
            raise ValueError(f"{name} has {'a name without a letter' if not limit else f'{limit!r} twice'}")
        seen.add(limit)
        fields_of(limit, name)
        if type(amount) is not int:
            arguments.refuse(f"What {name} says of '{limit}'", amount, "a whole number from 1")
        if amount < 1:
            arguments.refuse(f"What {name} says of '{limit}'", amount, "a whole number from 1", ValueError)
    return tuple(pairs)


def fields_of(template: str, name: str = "limits") -> tuple[str, ...]:
    """Return the names of the arguments that the name of a limit holds.

    :raises ValueError: when its braces hold something else
    """
    import string  # only templates need it

    try:
        parts = [part[1:] for part in string.Formatter().parse(template) if part[1] is not None]
    except ValueError:
        parts = [("", "", None)]
    for field, spec, conversion in parts:
        if not field or not field.isidentifier() or spec or conversion:
            raise ValueError(
                f"{name} has '{template}': braces in a name hold an argument of execute, as in 'host:{{host}}'"
            )
    return tuple(str(field) for field, _, _ in parts)


def _to_sensitive(name: str, value: Any) -> Any:
    if value is False:
        return None
    if value is True or value == "memory":
        return value
    if isinstance(value, (str, bytes)) or not isinstance(value, Iterable):
        arguments.refuse(name, value, "True, 'memory', names that the task provides, or a dict of name -> 'memory'")
    return dict(value) if isinstance(value, Mapping) else tuple(value)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "retry": _to_retry,
    "timeout": to_limit,
    "revert_timeout": to_limit,
    "revert_retry": _to_revert_retry,
    "limits": _to_limits,
    "on_unknown": _to_unknown,
    "grace": _to_grace,
    "strict_timeout": to_flag,
    "sensitive": _to_sensitive,
}


def _looked_up(cls: type, name: str) -> Any:
    """Return an attribute of a class as it is written there, or None."""
    return next((vars(base)[name] for base in cls.__mro__ if name in vars(base)), None)


def _bound(method: Any) -> Any:
    """Return a method of a class as a call on an object gets it."""
    if isinstance(method, types.FunctionType):
        return types.MethodType(method, object())
    return method.__get__(None, object) if isinstance(method, (classmethod, staticmethod)) else method


def _parameters_of(name: str, finder: Any) -> Parameters:
    """Return the parameters of a `find_outcome` beside the key."""
    finder = _bound(finder)
    arguments.check_callable(name, finder)
    parameters = inspect_parameters(finder)
    if not parameters.accepts(KEY):
        raise ValueError(f"{name} must take an argument {KEY}, by which it knows the call")
    if parameters.by_position:
        raise ValueError(
            f"{name} takes {list(parameters.by_position)} by position only, and arguments are passed by name: remove "
            "the / from its parameters"
        )
    return parameters.without(frozenset((KEY,)))
