"""Tasks that are made of functions by the decorator `as_task`.

The decorated name stays the function for a direct call, and is a task for flows and engines.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import importlib
import sys
import types
import typing
import weakref
from collections.abc import Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Generic, ParamSpec, TypeVar, overload

from taskflowx import atom, controls as settings, task
from taskflowx._util import annotations as hints, arguments, logs

if TYPE_CHECKING:
    from collections.abc import Iterable
    from types import CoroutineType
    from typing import Protocol, Unpack

    class Ran(Protocol):
        """An engine, as far as a result is read from it."""

        @property
        def storage(self) -> Any:
            """The record of the run, by name."""


LOG = logs.calm(__name__)

P = ParamSpec("P")
R = TypeVar("R")
_Awaited = TypeVar("_Awaited")


class FunctionTask(task.FunctorTask, Generic[P, R]):
    """A task made of a function; a direct call of it is a call of the function.

    :param function: the function, plain or `async def`; its parameters are the inputs, less the keywords of a partial
    :param revert: the function that undoes it
    :param keywords: those of `taskflowx.task.Task`; the name is that of the function by default, and the provided names
        are the fields of the annotated TypedDict, NamedTuple or dataclass, none for None, and otherwise the name of the
        function
    """

    _tfx_strict = True
    _tfx_reverts_later = True

    def __init__(self, function: Callable[P, R], revert: Callable[..., Any] | None = None, **keywords: Any) -> None:
        function, revert = (
            _checked("executing", function),
            _checked("reverting", revert) if revert is not None else None,
        )
        if all(keywords.get(name) is None for name in ("requires", "rebind", "inject")):
            _check_readable(function, ", or name its arguments by requires=[...], which is [] when it takes none")
        _check_readable(revert)
        self._tfx_execute, self._tfx_revert = function, revert
        controls = {name: keywords.pop(name) for name in keywords.keys() & _SETTINGS}
        self._tfx_keywords = keywords
        #: the task that the function's name leads to, if this is another one of the same function
        self._tfx_declared: FunctionTask[P, R] | None = None
        self._tfx_record: type | None = None
        self._tfx_redeclare(**controls)
        functools.update_wrapper(self, function, updated=())

    def _tfx_redeclare(self, **controls: Any) -> None:
        keywords = {**self._tfx_keywords, **controls}
        version = keywords.pop("version", None)
        if version is not None:
            arguments.check_type("version", version, (tuple, list, str), "a tuple of numbers such as (1, 0)")
            self.version = version
        own_name = _name_of(self._tfx_execute)
        if isinstance(self._tfx_execute, functools.partial) and not keywords.get("ignore_list"):
            keywords["ignore_list"] = tuple(self._tfx_execute.keywords)  # what it has, no value of its name replaces
        _check_names(own_name, keywords.get("provides"))
        if keywords.get("provides") is None:
            keywords["provides"], self._tfx_record, may_lack = _provided_by(self._tfx_execute, own_name)
            if may_lack:
                self._tfx_may_lack = may_lack
        super(task.FunctorTask, self).__init__(keywords.pop("name", None) or own_name, **keywords)
        name = getattr(self._tfx_execute, "__qualname__", own_name)
        first = self._tfx_signature.execute.args[:1]
        if first in (("self",), ("cls",)) and "." in name and not name.rpartition(".")[0].endswith("<locals>"):
            raise TypeError(
                f"'{name}' takes '{first[0]}' first, as methods do, and "
                "nobody provides that: make a task of the method of an object, as_task(thing.method), or decorate a "
                "function"
            )

    @overload
    def __call__(self, /, *args: P.args, **kwargs: P.kwargs) -> R: ...

    @overload
    def __call__(
        self,
        name: str | None = None,
        /,
        *,
        provides: atom.Provides = ...,
        requires: Iterable[str] | None = ...,
        auto_extract: bool = ...,
        rebind: atom.Rebind = ...,
        inject: dict[str, Any] | None = ...,
        ignore_list: Iterable[str] | None = ...,
        revert_rebind: atom.Rebind = ...,
        revert_requires: Iterable[str] | None = ...,
        pure: bool | None = ...,
        version: tuple[int, ...] | None = ...,
        **controls: Unpack[settings.TaskOptions],
    ) -> FunctionTask[P, R]: ...

    def __call__(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function.

        A call with a keyword of `Task` that is no parameter of the function makes another task, as `named` does; so
        does one with a name alone, where the function cannot be called with it.
        """
        options = kwargs.keys() & _KEYWORDS
        if options:
            takes = self._tfx_parameters().execute
            named = not any(map(takes.accepts, options)) or (takes.open_ended and self._tfx_cannot_take(args, kwargs))
        else:  # a quick look first: most functions take something
            named = bool(args) and not self._tfx_signature.execute.args and self._tfx_cannot_take(args, kwargs)
        return self.named(*args, **kwargs) if named else self._tfx_execute(*args, **kwargs)

    def _tfx_cannot_take(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Tell whether a call cannot be one of the function, and can be one that names another task."""
        if len(args) != 1 or not isinstance(args[0], str) or not kwargs.keys() <= _KEYWORDS:
            return False
        import inspect  # rarely needed

        try:
            inspect.signature(self._tfx_execute).bind(*args, **kwargs)
        except TypeError:
            return True
        except ValueError:  # a function of C that does not say what it takes
            return False
        return False

    def named(self, name: str | None = None, **keywords: Any) -> FunctionTask[P, R]:
        """Return another task of the same function.

        :param name: its name
        :param keywords: those of `taskflowx.task.Task` that differ
        """
        known = self._tfx_keywords | ({} if self._tfx_controls is None else settings.keywords_of(self._tfx_controls))
        made = type(self)(self._tfx_execute, self._tfx_revert, **{**known, "name": name or self.name, **keywords})
        made._tfx_declared = self._tfx_declared or self
        _OTHERS.setdefault(self, weakref.WeakSet()).add(made)
        return made

    def revert(self, /, *args: Any, **kwargs: Any) -> Any:
        """Undo the effects of the function; as a decorator, declare the function that does.

        That function gets `result`, the result of the function or its `Failure`, and the values of its other parameters
        as the function got them.
        """
        if len(args) == 1 and not kwargs and callable(args[0]):
            _check_readable(_checked("reverting", args[0]))
            self._tfx_undo_by(_checked("reverting", args[0]))
            return args[0]
        if self._tfx_record is not None and isinstance(kwargs.get(task.REVERT_RESULT), dict):
            kwargs[task.REVERT_RESULT] = _remade(self._tfx_record, kwargs[task.REVERT_RESULT])
        return super().revert(*args, **kwargs)

    def _tfx_undo_by(self, revert: Callable[..., Any]) -> None:
        """Take another function for `revert`, for all tasks that were made of this one, too."""
        before, self._tfx_revert = self._tfx_revert, revert
        self._tfx_redeclare()
        for other in tuple(_OTHERS.get(self, ())):
            if other._tfx_revert is before:
                other._tfx_undo_by(revert)

    def execute(self, /, *args: Any, **kwargs: Any) -> Any:
        """Call the function; a dataclass is returned as a dict of its fields."""
        if self._tfx_record is None:
            return self._tfx_execute(*args, **kwargs)
        result = self._tfx_execute(*args, **kwargs)
        return _awaited_fields(result) if hasattr(result, "__await__") else _fields(result)

    @overload  # what type checkers say that an `async def` returns
    def result(self: FunctionTask[P, Coroutine[Any, Any, _Awaited]], of: Ran | Mapping[str, Any]) -> _Awaited: ...

    @overload  # the same, of others
    def result(self: FunctionTask[P, CoroutineType[Any, Any, _Awaited]], of: Ran | Mapping[str, Any]) -> _Awaited: ...

    @overload
    def result(self, of: Ran | Mapping[str, Any]) -> R: ...

    def result(self, of: Ran | Mapping[str, Any]) -> object:
        """Return what the function has returned in a run, an `async def` once it was awaited.

        :param of: the engine of the run, or the values that `taskflowx.run` returned
        :raises NotFound: when it has not run
        :raises KeyError: when a value is not there
        """
        if isinstance(of, Mapping):
            found = self._tfx_found(of)
        elif hasattr(of, "storage"):
            found = of.storage.get(self.name)
        else:
            arguments.refuse(
                f"What the result of '{self.name}' is read from", of, "what run() has returned, or an engine"
            )
        if self._tfx_record is not None and isinstance(found, dict):
            found = _remade(self._tfx_record, found)
        return found

    def _tfx_found(self, values: Mapping[str, Any]) -> Any:
        """Return the result of the function, put together of values by name."""
        results = getattr(values, "results", {})
        if self.name in results:
            return results[self.name]
        outputs = [(name, key) for name, key in self._tfx_signature.outputs if name not in self._tfx_may_lack]
        hint = _returned_by(self._tfx_execute)
        if not outputs and self._tfx_record is None and not typing.is_typeddict(hint):
            return None
        keys = [key for _, key in outputs]
        missing = [name for name, _ in outputs if name not in values]
        if missing:
            raise KeyError(
                f"no '{missing[0]}', which '{self.name}' provides: it is not part of that flow, has another name "
                f"there, or has not run; there are {sorted(results or values)}"
            )
        parts = [values[name] for name, _ in outputs]
        if keys == [None]:
            return parts[0]
        if keys and isinstance(keys[0], int):
            return hint._make(parts) if hasattr(hint, "_make") else tuple(parts)
        lacking = {name: values[name] for name in self._tfx_may_lack if name in values}
        return dict(zip(keys, parts, strict=True)) | lacking

    def _tfx_parts(self) -> tuple[Any, ...]:
        return (self,)

    def __reduce_ex__(self, protocol: Any) -> Any:
        declared = self._tfx_declared or self
        module, name = getattr(self, "__module__", None), getattr(self, "__qualname__", "")
        if module is not None and _find(module, name) is declared:
            state = {key: value for key, value in self.__dict__.items() if key not in _OF_FUNCTION}
            if self._tfx_revert is not declared._tfx_revert:
                state["_tfx_revert"] = self._tfx_revert
            return _restore, (module, name), state
        return super().__reduce_ex__(protocol)


#: the tasks that `named` has made of a task
_OTHERS: weakref.WeakKeyDictionary[FunctionTask[..., Any], weakref.WeakSet[FunctionTask[..., Any]]]
_OTHERS = weakref.WeakKeyDictionary()
#: where a function has its annotations depends on the Python
_ANNOTATIONS = ("__annotations__", "__annotate__", "__type_params__")
_OF_FUNCTION = frozenset(
    ("_tfx_execute", "_tfx_revert", "_tfx_declared", "_tfx_record", "__wrapped__", "_tfx_listened", *_ANNOTATIONS)
)
_SETTINGS = frozenset(settings.NAMES)
_KEYWORDS = frozenset((*task.KEYWORDS, "version"))


def _restore(module: str, name: str) -> FunctionTask[Any, Any]:
    """Return a task of the function that a decorated name leads to."""
    importlib.import_module(module)
    declared = _find(module, name)
    if not hasattr(declared, "_tfx_execute"):
        raise AttributeError(
            f"module '{module}' has no task '{name}' in this process: define it at the top level of the module, and "
            "not below `if __name__ == '__main__':`"
        )
    made: FunctionTask[Any, Any] = object.__new__(type(declared))  # it may be a subclass, with hooks
    made._tfx_listened = None
    made._tfx_execute, made._tfx_revert = declared._tfx_execute, declared._tfx_revert
    made._tfx_record, made._tfx_declared = declared._tfx_record, declared
    return made


def _find(module: str, name: str) -> Any:
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found


def _fields(result: Any) -> Any:
    """Return a dataclass as a dict of the fields that are set, and other results as they are."""
    if not dataclasses.is_dataclass(result) or isinstance(result, type):
        return result
    return {one.name: getattr(result, one.name) for one in dataclasses.fields(result) if hasattr(result, one.name)}


def _remade(record: Any, fields: dict[str, Any]) -> Any:
    """Return an object of a dataclass with the fields of another one, whatever its constructor makes of them.

    :param fields: those of a subclass may be more; one that an older version has not kept has its default
    """
    made: Any
    given = {one.name: fields[one.name] for one in dataclasses.fields(record) if one.init and one.name in fields}
    try:  # what it makes besides its fields is made again
        made = record(**given)
    except Exception:  # noqa: BLE001 - it may take more than fields, or refuse what they are by now
        made = record.__new__(record)
        for one in dataclasses.fields(record):
            if one.name not in fields and one.default_factory is not dataclasses.MISSING:
                object.__setattr__(made, one.name, one.default_factory())
            elif one.name not in fields and one.default is not dataclasses.MISSING:
                object.__setattr__(made, one.name, one.default)
    for name, value in fields.items():
        with contextlib.suppress(AttributeError):  # a field that only a subclass has, where there are slots
            object.__setattr__(made, name, value)
    return made


async def _awaited_fields(result: Any) -> Any:
    return _fields(await result)


def _checked(purpose: str, function: Any) -> Any:
    """Return the function of what can be one; what only looks like a function is refused."""
    if isinstance(function, staticmethod):
        return function.__func__
    what = f"Function to use for {purpose}"
    if isinstance(function, type):
        made = "an object of it is the task" if issubclass(function, atom.Atom) else "a function may call it"
        raise TypeError(f"{what} cannot be a class, {function.__qualname__}: {made}, {function.__name__}(...)")
    if isinstance(function, types.FunctionType) and "_tfx_decorates" in vars(function):
        raise TypeError(
            f"{what} cannot be what as_task returns without a function: call that with the function, "
            "as in as_task(provides='size')(measure)"
        )
    if isinstance(function, atom.Atom):
        raise TypeError(f"{what} cannot be a task, '{function.name}': it stands in flows as it is")
    if isinstance(function, classmethod):
        raise TypeError(f"{what} cannot be a classmethod that is not bound: use as_task(cls.{function.__name__})")
    arguments.check_callable(what, function)
    return function


def _check_readable(function: Any, otherwise: str = "") -> None:
    """Refuse a function of C that does not say what it takes: it would be called with nothing, or with everything.

    :param otherwise: what else helps than to call it in another function
    """
    if function is None or isinstance(function, (types.FunctionType, types.MethodType, functools.partial)):
        return
    import inspect  # rarely needed

    try:
        inspect.signature(function)
    except (TypeError, ValueError):
        raise TypeError(
            f"'{_name_of(function)}' does not say what it takes, as some functions of C do not: call it in a function "
            f"of yours{otherwise}"
        ) from None


def _check_names(function: str, provides: Any) -> None:
    """Refuse a name for two parts of a result."""
    if isinstance(provides, (tuple, list)):
        twice = [name for name in provides if provides.count(name) > 1]
        if twice:
            raise ValueError(
                f"provides= of '{function}' has {twice[0]!r} twice, and each part of the result needs a name of its own"
            )


def _name_of(function: Any) -> str:
    """Return the name of a function, or of what stands for one."""
    while isinstance(function, functools.partial):
        function = function.func
    return str(getattr(function, "__name__", type(function).__name__))


def _annotated(function: Any) -> Any:
    """Return what has the annotations of a function, or of what stands for one."""
    while isinstance(function, functools.partial):
        function = function.func
    return (
        function if hasattr(function, "__annotations__") and hasattr(function, "__name__") else type(function).__call__
    )


def _returned_by(function: Callable[..., Any]) -> Any:
    """Return the annotated class of the result; `Any` when there is none, None when it cannot be evaluated."""
    annotated = _annotated(function)
    written = hints.raw(annotated)
    if "return" not in written:
        return Any
    return hints.parts(hints.alone(annotated, written["return"]))[0]  # of Box[int] the class Box


def _provided_by(function: Callable[..., Any], name: str) -> tuple[Any, type | None, frozenset[str]]:
    """Return what a function provides by its annotation, the dataclass that it returns, and what a result may lack."""
    hint = _returned_by(function)
    if hint is type(None):
        return (), None, _NONE
    if typing.is_typeddict(hint):
        keys = hints.raw(hint)
        return {key: key for key in keys}, None, frozenset(keys) - hints.required(hint)
    if isinstance(hint, type) and dataclasses.is_dataclass(hint):
        return {one.name: one.name for one in dataclasses.fields(hint)}, hint, _NONE
    if isinstance(hint, type) and issubclass(hint, tuple) and hasattr(hint, "_fields"):
        return hint._fields, None, _NONE
    if hint is None:
        written = hints.raw(_annotated(function))["return"]
        _tell_of(name, str(getattr(written, "__forward_arg__", written)))
    return name if name.isidentifier() else (), None, _NONE  # a lambda has no name that a parameter could have


_NONE: frozenset[str] = frozenset()


@functools.lru_cache(256)  # once for each, however many tasks are made of it
def _tell_of(name: str, annotation: str) -> None:
    LOG.info(
        "The annotation of what '%s' returns, %s, cannot be evaluated where it becomes a task, which provides one "
        "value, '%s': define or import %s before it, or say by as_task(provides=...) what it provides",
        *(name, annotation, name, annotation),
    )


class _Keywords(settings.TaskOptions, total=False):
    """The keywords of `as_task`, for type checkers."""

    name: str | None
    provides: atom.Provides
    requires: Iterable[str] | None
    auto_extract: bool
    rebind: atom.Rebind
    inject: dict[str, Any] | None
    ignore_list: Iterable[str] | None
    revert_rebind: atom.Rebind
    revert_requires: Iterable[str] | None
    revert: Callable[..., Any] | None
    pure: bool | None
    version: tuple[int, ...] | None


@overload
def as_task(function: Callable[P, R], /, **keywords: Unpack[_Keywords]) -> FunctionTask[P, R]: ...


@overload
def as_task(**keywords: Unpack[_Keywords]) -> Callable[[Callable[P, R]], FunctionTask[P, R]]: ...


def as_task(function: Any = None, /, **keywords: Any) -> Any:
    """Make a task of a function, as a decorator with or without keywords.

    The inputs of the task are the parameters of the function, and its name is that of the function. It provides
    `provides`, or the fields of the TypedDict, NamedTuple or dataclass that the function's annotation says it returns,
    or else one value under the name of the function. `@name.revert` declares the function that undoes it.

    :param function: the function, plain or `async def`
    :param keywords: those of `taskflowx.task.Task`, and `revert` and `version`
    :raises TypeError: when a keyword is unknown
    """
    unknown = sorted(keywords.keys() - _KEYWORDS - {"revert"})
    if unknown:
        known = sorted(_KEYWORDS | {"revert"})
        hint = arguments.did_you_mean(unknown[0], known)
        raise TypeError(f"as_task takes no keywords {unknown}; it takes {known}{hint and f'; {hint}'}")
    if function is None:

        def decorate(given: Any) -> Any:
            return FunctionTask(given, **keywords)

        vars(decorate)["_tfx_decorates"] = True  # so that it is not taken for the function
        return decorate
    return FunctionTask(function, **keywords)
