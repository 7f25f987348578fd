"""The units of work that users write: `Task`, and tasks made from plain functions.

A task has `execute` to do something and `revert` to undo it. Engines call these two by name on the object when the task
runs, so a method that a test replaces is the one that is called.
"""

from __future__ import annotations

import contextvars
import copy
import functools
import threading
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Generic, Self

from taskflowx import atom, controls as settings
from taskflowx._util import arguments, logs
from taskflowx.signature import rebinding_of
from taskflowx.types import notifier as notifiers

if TYPE_CHECKING:
    from typing import Unpack

    from typing_extensions import TypeVar

    from taskflowx import compose, flow
    from taskflowx.patterns import linear_flow
    from taskflowx.retry import Retry

    R = TypeVar("R", default=Any)
else:
    from typing import TypeVar

    R = TypeVar("R")

LOG = logs.calm(__name__)

REVERT_RESULT = atom.REVERT_RESULT
REVERT_FLOW_FAILURES = atom.REVERT_FLOW_FAILURES
EVENT_UPDATE_PROGRESS = "update_progress"


#: Takes (task, details) of progress, for the current thread, green thread or coroutine alone: set by the executor of a
#: call there, and None outside of a run.
PROGRESS: contextvars.ContextVar[Callable[[Task, dict[str, Any]], None] | None] = contextvars.ContextVar(
    "taskflowx.task.PROGRESS", default=None
)


#: For threads that a task has started, in which the variable above is not set: each run here has a function in this
#: list, which returns the receiver of a task's progress if the task runs there.
REPORTERS: list[Callable[[Task], Callable[[Task, dict[str, Any]], None] | None]] = []


def _reporter_of(reporting: Task) -> Callable[[Task, dict[str, Any]], None] | None:
    """Return the receiver of a task's progress here; None outside of a run."""
    report = PROGRESS.get()
    if report is None:
        for ask in tuple(REPORTERS):
            report = ask(reporting)
            if report is not None:
                break
    return report


#: held while a notifier is put into a task: two threads that ask at once get the same one; it is never held for long
_PUTTING = threading.Lock()


class TaskNotifier(notifiers.RestrictedNotifier):
    """The notifier of one task. Progress that is published here is reported to the run as well.

    :param of: the task
    """

    def __init__(self, events: Iterable[str], of: Task) -> None:
        super().__init__(events)
        self.of = of

    def notify(self, event_type: str, details: Mapping[str, Any] | None) -> None:
        """Notify the subscribers, and report progress to the executor of the task.

        Users' tasks publish their own progress here, as `update_progress` does.
        """
        super().notify(event_type, details)
        if event_type == EVENT_UPDATE_PROGRESS and details and "progress" in details:
            report = _reporter_of(self.of)
            if report is not None:
                report(self.of, dict(details))

    def tell(self, progress: float) -> None:
        """Notify only the subscribers of progress: the engine itself knows when a task begins and ends."""
        self.tell_of(EVENT_UPDATE_PROGRESS, {"progress": progress})

    def tell_of(self, event_type: str, details: Mapping[str, Any] | None) -> None:
        """Notify only the subscribers: of an event that the executor of the task knows already."""
        super().notify(event_type, details)

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        other = super().__deepcopy__(memo)
        other.of = memo.get(id(self.of), self.of)
        return other


class Task(atom.Atom, Generic[R]):
    """A unit of work with an `execute` and, to undo it, a `revert` method; both are to be overridden.

    The arguments of the constructor are those of `taskflowx.atom.Atom`, and more. The name is the full name of the
    class by default.

    :param pure: whether `execute` may be repeated when its progress is unknown, as it has no effect but its result;
        None takes `default_pure`. A cluster that loses a worker repeats the calls of such tasks, and fails those of
        others
    :param controls: how calls are retried, limited, and resolved when nobody knows how they have ended; see below

    The keywords of `controls` are, with `default_` in front, attributes of a class too, which are read when the class
    is made:

    - `retry`: a controller such as `taskflowx.retry.Times(3)`. The task is then what a flow of it alone under that
      controller is: a failure reverts the task and runs it again. Each task has a copy of its own, by default with the
      name `<task>_retry`
    - `timeout`, `revert_timeout`: seconds that one call of `execute` and of `revert` may take
    - `revert_retry`: a `taskflowx.retry.Times` for `revert`
    - `limits`: names of what the task shares with others, such as `("db",)`, or a dict of name -> how much a call
      takes of it; a name may hold an argument, as `"host:{host}"` does
    - `on_unknown`: what becomes of a call that may have had its effect, when nobody knows: `"repeat"` by default,
      `"undo"` or `"ask"`
    - `grace`: seconds that a call gets to end when it has exceeded its limit or was cancelled, 5 by default
    - `strict_timeout`: whether an engine that cannot stop a call at its limit refuses the task
    - `sensitive`: which of the values that it provides are shown nowhere, and are stored through the `transform` of the
      store only: True for all of them, or names; 'memory', or a dict of name -> 'memory', for what is not stored at all

    A class may have a method `find_outcome(self, idempotency_key, **arguments)`, which looks up what a call has done
    that nobody knows about: it returns the result, or `taskflowx.retry.NOT_DONE`. Its arguments are some of `execute`.

    A class may have a method `migrate_record(self, record)`, which takes over what another version of the task has left
    when a run is resumed: `record` is a `taskflowx.record.migrations.OldRecord`, of which it may change the `result`.

    :raises TypeError, ValueError: when a setting makes no sense; the message names the task and the setting
    """

    TASK_EVENTS: tuple[str, ...] = (EVENT_UPDATE_PROGRESS,)
    default_pure = False
    default_retry: Retry | None = None
    default_timeout: float | None = None
    default_revert_timeout: float | None = None
    default_revert_retry: Retry | None = None
    default_limits: Iterable[str] | Mapping[str, int] | None = None
    default_on_unknown: str | None = None
    default_grace: float | None = None
    default_strict_timeout: bool | None = None
    default_sensitive: Any = None
    _tfx_pure: bool | None = None
    #: whether a result that lacks a part that the task provides is a failure where the engine does not say so
    _tfx_strict = False
    #: the names among those that it provides that a result may lack all the same
    _tfx_may_lack: frozenset[str] = frozenset()
    #: whether it may get its `revert` after it was made
    _tfx_reverts_later = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        settings.settle(cls)

    def __init__(
        self,
        name: str | None = None,
        provides: atom.Provides = None,
        requires: Iterable[str] | None = None,
        auto_extract: bool = True,
        rebind: atom.Rebind = None,
        inject: dict[str, Any] | None = None,
        ignore_list: Iterable[str] | None = None,
        revert_rebind: atom.Rebind = None,
        revert_requires: Iterable[str] | None = None,
        pure: bool | None = None,
        **controls: Unpack[settings.TaskOptions],
    ) -> None:
        try:
            # Set here and not on the class: engines read it with each call, and an instance attribute is fastest.
            self._tfx_listened = None
        except AttributeError as error:
            who = atom.full_name(type(self))
            raise TypeError(f"{who} is frozen, and a task has attributes that change: leave frozen=True out") from error
        if pure is not None:
            arguments.check_type("pure", pure, bool, "True, False or None")
            self._tfx_pure = pure
        if name is None and self.name is None:
            name = atom.full_name(type(self))
        try:
            super().__init__(
                name,
                provides,
                requires,
                auto_extract,
                rebind,
                inject,
                ignore_list,
                revert_rebind,
                revert_requires,
            )
        except (TypeError, ValueError) as error:
            atom.tell_of(error, self)
            raise
        if controls:
            settings.declare(self, controls)

    _tfx_listened: TaskNotifier | None  # made on demand

    @property
    def notifier(self) -> notifiers.RestrictedNotifier:
        """The task's own notifier: `update_progress` events go to it, in the thread that runs the task."""
        listened = self._tfx_listened
        if listened is None:
            made = TaskNotifier(self.TASK_EVENTS, self)
            with _PUTTING:
                listened = self._tfx_listened
                if listened is None:
                    listened = self._tfx_listened = made
        return listened

    _notifier = notifier  # the name that subclasses use

    def copy(self, retain_listeners: bool = True) -> Task:
        """Return a shallow copy with a notifier of its own.

        :param retain_listeners: whether the copy keeps the listeners of this task
        """
        other = copy.copy(self)
        if self._tfx_listened is not None:
            listened = self._tfx_listened.copy() if retain_listeners else None
            if listened is not None:
                listened.of = other
            vars(other)["_tfx_listened"] = listened
        return other

    def _tfx_functions(self) -> tuple[Callable[..., Any], ...]:
        """Return the functions that this task was made from."""
        return ()

    def _tfx_parts(self) -> tuple[Any, ...]:
        """Return what must be picklable besides the class, where this task is to run in another process."""
        return self._tfx_functions()

    def __rshift__(self, after: compose.Member) -> linear_flow.Flow:
        """Return a flow of this task and what runs after it; see `taskflowx.compose.chain`."""
        from taskflowx import compose

        return compose.chain(self, after)

    def __rrshift__(self, before: compose.Member) -> linear_flow.Flow:
        from taskflowx import compose

        return compose.chain(before, self)

    def __or__(self, controller: Retry) -> flow.Flow:
        """Return a flow of this task under a retry controller; see `taskflowx.compose.under`."""
        from taskflowx import compose

        return compose.under(self, controller)

    def update_progress(self, progress: float, **kwargs: Any) -> None:
        """Report the progress of this task; any thread of the task may do so.

        :param progress: from 0.0 to 1.0; a value outside is clamped, with a warning in the log
        :param kwargs: details for listeners; stored with the progress in the atom's metadata
        """
        try:
            clamped = min(1.0, max(0.0, progress))
        except TypeError:
            arguments.refuse("progress", progress, "a number from 0.0 to 1.0")
        if clamped != progress:
            LOG.warning(
                "Progress value must be greater or equal to 0.0 or less than or equal to 1.0 instead of being '%s'; "
                "%s takes it as %s",
                progress,
                self,
                clamped,
            )
        details = {**kwargs, "progress": clamped}
        if self._tfx_listened is not None:
            self._tfx_listened.notify(EVENT_UPDATE_PROGRESS, details)
            return
        report = _reporter_of(self)
        if report is not None:
            report(self, details)


#: the keywords of the constructor of a task
KEYWORDS = (*Task.__init__.__code__.co_varnames[1 : Task.__init__.__code__.co_argcount], *settings.NAMES)


class FunctorTask(Task[R]):
    """A task made from a function, and from another one to undo it.

    :param execute: the function; its signature determines the requirements of the task
    :param revert: the function for rollback, or None when there is nothing to undo
    :param version: a tuple of numbers, (1, 0) by default
    :raises ValueError: when `execute` or `revert` cannot be called
    """

    _tfx_shares_signature = False

    def __init__(
        self,
        execute: Callable[..., Any],
        name: str | None = None,
        provides: atom.Provides = None,
        requires: Iterable[str] | None = None,
        auto_extract: bool = True,
        rebind: atom.Rebind = None,
        revert: Callable[..., Any] | None = None,
        version: tuple[int, ...] | None = None,
        inject: dict[str, Any] | None = None,
        pure: bool | None = None,
        **controls: Unpack[settings.TaskOptions],
    ) -> None:
        arguments.check_callable("Function to use for executing", execute)
        if revert is not None:
            arguments.check_callable("Function to use for reverting", revert)
        self._tfx_execute = execute
        self._tfx_revert = revert
        if version is not None:
            arguments.check_type("version", version, (tuple, list, str), "a tuple of numbers such as (1, 0)")
            self.version = version
        super().__init__(
            atom.full_name(execute) if name is None else name,
            provides,
            requires,
            auto_extract,
            rebind,
            inject,
            pure=pure,
            **controls,
        )

    def _tfx_functions(self) -> tuple[Callable[..., Any], ...]:
        """Return the function of `execute`, and that of `revert` if there is one."""
        return (self._tfx_execute,) if self._tfx_revert is None else (self._tfx_execute, self._tfx_revert)

    def _tfx_inspected(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        return self._tfx_execute, super().revert if self._tfx_revert is None else self._tfx_revert

    def execute(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function of `execute`."""
        return self._tfx_execute(*args, **kwargs)

    def revert(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function of `revert`, if there is one."""
        return None if self._tfx_revert is None else self._tfx_revert(*args, **kwargs)


class _ManyInputs(Task):
    """Base class of tasks that pass a sequence of inputs to one function."""

    _tfx_shares_signature = False
    _tfx_what: str  # the purpose of the function, in messages
    _tfx_arity: int  # the number of its arguments
    _tfx_fewest = 0  # the smallest number of inputs

    def __init__(
        self,
        functor: Callable[..., Any],
        requires: Iterable[str],
        name: str | None = None,
        provides: atom.Provides = None,
        auto_extract: bool = True,
        rebind: atom.Rebind = None,
        inject: dict[str, Any] | None = None,
        pure: bool | None = None,
        **controls: Unpack[settings.TaskOptions],
    ) -> None:
        arguments.check_callable(f"Function to use for {self._tfx_what}", functor)
        if isinstance(requires, str) or not isinstance(requires, Iterable):
            msg = f"{type(requires)} type was provided for requires. Requires must be an iterable."
            raise TypeError(msg)
        given = list(requires)
        if isinstance(rebind, (list, tuple)):
            # These take any names: the positions of a list are those of the inputs, not of a signature.
            rebind = rebinding_of(rebind, tuple(given))
        self._tfx_functor = functor
        super().__init__(
            atom.full_name(functor) if name is None else name,
            provides,
            given,
            auto_extract,
            rebind,
            inject,
            pure=pure,
            **controls,
        )
        self._tfx_inputs = [*given, *(a for a in self._tfx_signature.execute.args if a not in given)]
        count, wanted = _arity(functor), self._tfx_arity
        if count not in (wanted, None):
            demand = f"must take exactly {wanted} argument{'' if wanted == 1 else 's'}"
            msg = f"{count} arguments were provided. {self._tfx_what.capitalize()} functor {demand}."
            raise ValueError(msg)
        count, wanted = len(self._tfx_inputs), self._tfx_fewest
        if count < wanted:
            msg = f"{count} elements were provided. Requires must have at least {wanted} elements."
            raise ValueError(msg)

    def _tfx_functions(self) -> tuple[Callable[..., Any], ...]:
        """Return the function for the inputs."""
        return (self._tfx_functor,)

    def _tfx_in_order(self, values: dict[str, Any]) -> list[Any]:
        return [values[name] for name in self._tfx_inputs]


def _arity(function: Callable[..., Any]) -> int | None:
    """Return the number of positional arguments of a function; None if it is not known."""
    import inspect  # imported only where it is needed

    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        return None
    return sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)


class MapFunctorTask(_ManyInputs):
    """A task that applies a function of one argument to each of its inputs and returns the list of results.

    :param functor: a function of exactly one argument
    :param requires: names of the inputs, in the order of the results
    :raises TypeError, ValueError: when the function takes another number of arguments, or `requires` is a single str
    """

    _tfx_what = "map"
    _tfx_arity = 1

    def execute(self, /, *args: Any, **kwargs: Any) -> list[Any]:
        """Return the function's value for each input, in the order of `requires`."""
        functor = self._tfx_functor
        return [functor(value) for value in self._tfx_in_order(kwargs)]


class ReduceFunctorTask(_ManyInputs):
    """A task that folds its inputs, from the left, with a function of two arguments.

    :param functor: a function of exactly two arguments: the value so far and the next input
    :param requires: names of the inputs, at least two, in order
    :raises TypeError, ValueError: when the function takes another number of arguments, there are too few inputs, or
        `requires` is a single str
    """

    _tfx_what = "reduce"
    _tfx_arity = _tfx_fewest = 2

    def execute(self, /, *args: Any, **kwargs: Any) -> Any:
        """Return the fold of the inputs."""
        return functools.reduce(self._tfx_functor, self._tfx_in_order(kwargs))


__all__ = [
    "EVENT_UPDATE_PROGRESS",
    "KEYWORDS",
    "PROGRESS",
    "REVERT_FLOW_FAILURES",
    "REVERT_RESULT",
    "FunctorTask",
    "MapFunctorTask",
    "ReduceFunctorTask",
    "Task",
]
