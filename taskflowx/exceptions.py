"""The errors that the package raises.

    Exception
    ├── TaskFlowException              has a `cause`; its text shows the chain of causes
    │   ├── CompilationFailure         a flow cannot be compiled into a plan
    │   ├── ConductorFailure           a conductor cannot continue
    │   ├── DependencyFailure          the requirements of atoms cannot be met
    │   │   ├── AmbiguousDependency    several providers match
    │   │   ├── MissingDependencies    a required name has no provider
    │   │   └── TypeMismatch           a value is annotated as another type than an atom takes
    │   ├── DisallowedAccess           not allowed in the present state
    │   ├── Duplicate                  the item exists already
    │   ├── Empty                      there is no usable item
    │   ├── ExecutionFailure           a run has failed
    │   │   ├── Cancelled              a run was cancelled, and with it the calls that were under way
    │   │   ├── InvalidState           impossible in this state, or an invalid transition
    │   │   ├── LostException          stands for an exception of which only the description is left
    │   │   ├── OutcomeUnknown         nobody knows whether a call has had its effect
    │   │   ├── RequestTimeout         a request was not answered in time
    │   │   ├── ResultMismatch         a result lacks a part that its task provides
    │   │   ├── TimeoutExceeded        a call or a flow has exceeded its time limit; a TimeoutError, too
    │   │   └── WorkerLost             the process that ran a call has died
    │   ├── IncompatibleVersion        the versions of two parts are incompatible
    │   ├── InvalidFormat              data has an invalid format
    │   ├── JobFailure                 a job or its board cannot continue
    │   │   └── UnclaimableJob         another owner has claimed the job
    │   ├── MultipleChoices            several items match and none was chosen
    │   ├── NotFound                   the item does not exist
    │   ├── OwnershipFailure           another owner runs the flow, or has run it since
    │   ├── RunMismatch                a run has this id, and is one of another flow or with other values
    │   └── StorageFailure             a store cannot be read or written
    │       └── Unstorable             it can never hold the given value
    ├── RuntimeError
    │   └── NotImplementedError        also Python's own: this implementation cannot do it
    └── ExceptionGroup
        └── WrappedFailure             several failures at once

All layers raise these. What must stay true: each error survives pickling and deep copies with its cause and its
attributes, whatever the arguments of its constructor, because errors are sent between processes inside of results.

Failures (`taskflowx.types.failure`) are values made from exceptions, so that module imports this one. In the other
direction it is imported where it is needed.
"""

from __future__ import annotations

import builtins
import sys
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn, Self, TypeVar

from taskflowx._util import arguments

if TYPE_CHECKING:
    from taskflowx.types.failure import Failure

_E = TypeVar("_E", bound=BaseException)


class TaskFlowException(Exception):
    """Base of the package's errors.

    :param message: the message
    :param cause: the exception that led to it, if there is one
    """

    _cause: BaseException | None = None  # for subclasses that do not call this constructor

    def __init__(self, message: object, cause: BaseException | None = None) -> None:
        super().__init__(message)
        self._cause = cause

    @property
    def cause(self) -> BaseException | None:
        """The exception that led to this one, or None."""
        return self._cause

    def pformat(self, indent: int = 2, indent_text: str = " ", show_root_class: bool = False) -> str:
        """Return the message, followed by the causes, each indented more than the one before.

        :param indent: how many times `indent_text` precedes a cause for each level, zero or more
        :param indent_text: the text of one unit of indentation
        :param show_root_class: whether the first line names the class of this error as well
        """
        arguments.check_type("indent", indent, int, "a whole number, zero or more")
        arguments.check_type("indent_text", indent_text, str, "a str")
        if indent < 0:
            raise ValueError(f"Provided 'indent' must be greater than or equal to zero instead of {indent}")
        blocks = [self._headline() if show_root_class else self._message()]
        step = indent_text * indent
        margin = step
        cause = self._cause
        while cause is not None:
            import textwrap  # only an error needs it

            blocks.append(textwrap.indent(_headline_of(cause), margin))
            margin += step
            cause = cause.cause if isinstance(cause, TaskFlowException) else None
        return "\n".join(blocks)

    def _message(self) -> str:
        return str(self.args[0]) if self.args else ""

    def _headline(self) -> str:
        return f"{type(self).__name__}: {self._message()}"

    def __str__(self) -> str:
        return self.pformat()

    def __reduce__(self) -> tuple[Any, ...]:
        # By default an exception is rebuilt from `args`, which fails if its constructor takes anything else.
        return rebuild, (type(self), self.args), self.__dict__


def rebuild(cls: type[_E], args: tuple[Any, ...]) -> _E:
    """Make an exception without its constructor; its attributes are restored from the pickle."""
    made = cls.__new__(cls, *args)
    if not made.args:  # an OSError with a constructor of its own leaves them to that
        made.args = args
    return made


def _headline_of(cause: BaseException) -> str:
    """Return class and message of a cause, even if its `__str__` fails."""
    if isinstance(cause, TaskFlowException):
        return cause._headline()  # noqa: SLF001 - the same class
    return "".join(traceback.format_exception_only(cause)).rstrip("\n")


def raise_with_cause(exc_cls: type[TaskFlowException], message: object, *args: Any, **kwargs: Any) -> NoReturn:
    """Raise an error whose cause is the exception that is being handled.

    :param exc_cls: class of the error, one of the tree below `TaskFlowException`
    :param message: its message
    :param args: further arguments of its constructor
    :param kwargs: further keyword arguments of its constructor; a `cause` among them takes precedence
    :raises ValueError: if `exc_cls` is no such class
    """
    given: Any = exc_cls
    if not isinstance(given, type) or not issubclass(given, TaskFlowException):
        raise ValueError(f"Subclass of taskflow exception is required, not {given!r}")  # noqa: TRY004 - as in TaskFlow
    handled = sys.exception()
    if handled is not None:
        kwargs.setdefault("cause", handled)  # outside of a handler it may be among the positional arguments
    raise exc_cls(message, *args, **kwargs) from kwargs.get("cause")


class CompilationFailure(TaskFlowException):
    """A flow cannot be compiled into a plan."""


class ConductorFailure(TaskFlowException):
    """A conductor cannot continue."""


class DependencyFailure(TaskFlowException):
    """The requirements of the atoms of a flow cannot be met."""


class AmbiguousDependency(DependencyFailure):
    """Several atoms provide a required name, and the choice is ambiguous."""


class MissingDependencies(DependencyFailure):
    """A requirement of an atom or a flow has no provider.

    :param who: the name of the atom or flow in the message
    :param requirements: the required names without a provider; kept as `missing_requirements`
    :param cause: the exception that led to it, if there is one
    :param method: the method of the atom that requires them
    :param hint: text for the lines below the message, such as a close match
    """

    MESSAGE_TPL: ClassVar[str] = "'%(who)s' requires %(requirements)s but no other entity produces said requirements"
    METHOD_TPL: ClassVar[str] = "'%(method)s' method on "

    def __init__(
        self,
        who: object,
        requirements: Iterable[str],
        cause: BaseException | None = None,
        method: str | None = None,
        *,
        hint: str = "",
    ) -> None:
        message = self.MESSAGE_TPL % {"who": who, "requirements": requirements}
        if method:
            message = self.METHOD_TPL % {"method": method} + message
        if hint:
            message = f"{message}\n{hint}"
        super().__init__(message, cause=cause)
        self.missing_requirements = requirements


class TypeMismatch(DependencyFailure):
    """A value is annotated as another type than an atom takes."""


class DisallowedAccess(TaskFlowException):
    """An operation is not allowed in the present state of an object; `state` names that state.

    :param message: the message
    :param cause: the exception that led to it, if there is one
    :param state: the state
    """

    def __init__(self, message: object, cause: BaseException | None = None, state: str | None = None) -> None:
        super().__init__(message, cause=cause)
        self.state = state


class Duplicate(TaskFlowException):
    """The item exists already."""


class Empty(TaskFlowException):
    """There is no usable item."""


class ExecutionFailure(TaskFlowException):
    """A run has failed."""


class InvalidState(ExecutionFailure):
    """An operation is impossible in this state, or a transition is invalid."""


class Cancelled(ExecutionFailure):
    """A run was cancelled, and with it the calls that were under way.

    :param reason: the reason that the caller of `cancel` gave
    """

    #: whether the call was ended from outside, or given up, so that nobody knows whether it has had its effect
    outcome_unknown = False

    @property
    def reason(self) -> str:
        """The reason that the caller of `cancel` gave."""
        return self._message()


class OutcomeUnknown(ExecutionFailure):
    """Nobody knows whether a call has had its effect: it had begun, and its end was not seen."""


class RequestTimeout(ExecutionFailure):
    """A request was not answered in time."""


class TimeoutExceeded(ExecutionFailure, TimeoutError):
    """A call or a flow has exceeded its time limit."""

    #: whether the call was ended from outside, or given up, so that nobody knows whether it has had its effect
    outcome_unknown = False


class ResultMismatch(ExecutionFailure):
    """The result of a task lacks a part that the task provides."""


class WorkerLost(ExecutionFailure):
    """The process that ran a call has died, so the progress of the call is unknown.

    :param message: the known facts
    :param exit_code: the exit code; the negative number of the signal if one has killed the process
    :param signal: the name of that signal, such as 'SIGKILL', or None
    """

    def __init__(self, message: object, exit_code: int | None = None, signal: str | None = None) -> None:
        super().__init__(message)
        self.exit_code = exit_code
        self.signal = signal


class LostException(ExecutionFailure):
    """Stands for an exception of which only the description is left, as a member of a `WrappedFailure`.

    :param message: the description
    """


class IncompatibleVersion(TaskFlowException):
    """The versions of two parts are incompatible."""


class InvalidFormat(TaskFlowException):
    """Data has an invalid format."""


class JobFailure(TaskFlowException):
    """A job or its board cannot continue."""


class UnclaimableJob(JobFailure):
    """Another owner has claimed the job."""


class MultipleChoices(TaskFlowException):
    """Several items match, and none was chosen."""


class NotFound(TaskFlowException):
    """The item does not exist."""


class NotImplementedError(builtins.NotImplementedError):
    """This implementation cannot do what the interface offers."""


class OwnershipFailure(TaskFlowException):
    """Another owner runs a flow, or has done so since its record was read here."""


class RunMismatch(TaskFlowException):
    """There is a run with this id, and it is one of another flow, or was given other values; nothing runs."""


class StorageFailure(TaskFlowException):
    """A store cannot be read or written; `may_pass` tells whether a retry may succeed."""

    may_pass: bool = True

    def __init__(self, message: object, cause: BaseException | None = None, *, may_pass: bool | None = None) -> None:
        super().__init__(message, cause)
        if may_pass is not None:
            self.may_pass = may_pass


class Unstorable(StorageFailure):
    """A store can never hold the given value."""

    may_pass = False


class WrappedFailure(ExceptionGroup[Exception]):
    """Several failures at once, to be handled one by one or with `except*`.

    Iterating yields the failures. As an exception group its members are their exceptions, in the same order; a failure
    that has lost its exception (it came from a store or another process) becomes a `LostException`. A group cannot be
    empty, so with no failures at all one `LostException` is its only member.

    :param causes: the failures; one that itself holds a `WrappedFailure` is replaced by the failures in there
    """

    #: Python stores the members there, too. Its `repr` relies on them, so they are hidden here and not removed.
    args = ()

    _failures: tuple[Failure, ...]

    def __new__(cls, causes: Iterable[Failure]) -> Self:
        """Make the group, which receives its members here and not in `__init__`."""
        failures = tuple(_flatten(causes))
        members = [LostException(str(f)) if f.exception is None else f.exception for f in failures]
        return cls._made_of(failures, members or [LostException("No failures are known")])

    def __init__(self, causes: Iterable[Failure]) -> None:
        pass  # `__new__` has done everything

    @classmethod
    def _made_of(cls, failures: Iterable[Failure], members: Sequence[Exception]) -> Self:
        self = super().__new__(cls, cls.__name__, members)
        self._failures = tuple(failures)
        return self

    def __iter__(self) -> Iterator[Failure]:
        return iter(self._failures)

    def __len__(self) -> int:
        return len(self._failures)

    def check(self, *exc_classes: type | str) -> type | str | None:
        """Return the first of the given classes or names that a failure is an instance of, or None.

        The failures are checked in their order.
        """
        found = (failure.check(*exc_classes) for failure in self._failures)
        return next((one for one in found if one is not None), None)

    def derive(self, excs: Sequence[Exception], /) -> Self:  # type: ignore[override]  # members are Exceptions
        """Return a group of the failures whose exceptions are given.

        Python calls it in `split` and `except*`. The members are the given objects, since `except*` determines by
        identity what is left to raise.
        """
        from taskflowx.types.failure import Failure

        # Without failures there is still one member, which has no failure.
        known = dict(zip(map(id, self.exceptions), self._failures or (None,), strict=True))
        # An unknown member is a part of a member that is a group itself.
        found = [known[id(e)] if id(e) in known else Failure.from_exception(e) for e in excs]
        return self._made_of([failure for failure in found if failure is not None], excs)

    def __str__(self) -> str:
        return f"{type(self).__name__}: [{_listed(self._failures, str)}]"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: [{_listed(self._failures, lambda one: str(one).removeprefix('Failure: '))}]>"

    def __reduce__(self) -> tuple[Any, ...]:
        # Not the exceptions: some cannot be pickled, and the failures handle that.
        attributes = {name: value for name, value in self.__dict__.items() if name != "_failures"}
        return type(self), (self._failures,), attributes


#: the maximum text of a `WrappedFailure` in bytes, with room for its name
_ROOM, _ROOM_FOR_ONE = 1900, 300


def _listed(failures: tuple[Failure, ...], text_of: Callable[[Failure], str]) -> str:
    """Return the texts of failures; if they are long, their number and the first of them, shortened."""
    texts = _fitting(map(text_of, failures), _ROOM)
    if len(texts) == len(failures):
        return ", ".join(texts)
    if len(failures) == 1:
        return _cut(text_of(failures[0]), _ROOM)
    room = max(_ROOM_FOR_ONE, _ROOM // len(failures) - 60)
    texts = _fitting((_cut(text_of(failure), room) for failure in failures), _ROOM - 50)
    more = f" and {len(failures) - len(texts):,} more" if len(texts) < len(failures) else ""
    return f"{len(failures):,} failures: {', '.join(texts)}{more}"


def _fitting(texts: Iterable[str], room: int) -> list[str]:
    """Return the first texts, as many as fit in so many bytes with commas between them."""
    found = []
    for text in texts:
        room -= _size(text) + 2
        if room < 0:
            break
        found.append(text)
    return found


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))


def _cut(text: str, room: int) -> str:
    """Return the part of a text that fits in so many bytes."""
    if _size(text) <= room:
        return text
    text = text[: room - 3]
    while _size(text) > room - 3:
        text = text[: len(text) * 3 // 4]
    return f"{text}..."


def _flatten(causes: Iterable[Failure]) -> Iterator[Failure]:
    """Iterate over the failures, with those of an inner `WrappedFailure` in its place."""
    from taskflowx.types.failure import checked

    for failure in checked(causes):
        if isinstance(failure.exception, WrappedFailure):
            yield from failure.exception
        else:
            yield failure
