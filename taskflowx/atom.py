"""The atom: its inputs and outputs, derived from its methods.

`Atom` is the common base of tasks and retries. Its constructor turns a declaration (`requires`, `rebind`, `provides`,
...) and the signatures of `execute` and `revert` into one `Signature`. The inspection of a method is done once per
class, and a class that declares nothing per instance has one `Signature` that all of its instances share.

Invariant: a `Signature` never changes; engines may keep references to its tuples.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Set as AbstractSet
from typing import TYPE_CHECKING, Any

from taskflowx._util import abstract, arguments, reprs, unmade
from taskflowx.signature import (
    EXECUTES_ASYNC,
    HOOKS_ASYNC,
    HOOKS_WRAPPED,
    NOTHING,
    REVERTS_ASYNC,
    Methods,
    Names,
    Parameters,
    Signature,
    Wiring,
    check_names_in,
    inspect_parameters,
    names_in,
    names_of,
    outputs_of,
    rebinding_of,
    wire,
)
from taskflowx.types.sets import OrderedSet

if TYPE_CHECKING:
    from taskflowx.controls import Controls

#: what `provides=` takes: a name for all of a result; names by position, or by key
Provides = str | tuple[str, ...] | list[str] | AbstractSet[str] | dict[str, Any] | None
#: what `rebind=` takes: argument -> stored name, or stored names by position
Rebind = dict[str, str] | list[str] | tuple[str, ...] | None

REVERT_RESULT = "result"
REVERT_FLOW_FAILURES = "flow_failures"


class Atom:
    """The smallest unit that an engine runs: an object with `execute` and `revert`, and named inputs and outputs.

    :param name: unique name within a flow; the class's full name by default
    :param provides: names for the result: a str for the whole, a tuple or list by position, a set (or a dict of name ->
        key) by key; None takes `default_provides`, `()` provides nothing
    :param requires: names that `execute` needs in addition to its signature
    :param auto_extract: whether arguments are inferred from the signature of `execute`
    :param rebind: stored names for arguments: a dict argument -> name, or a list or tuple by position; a class may have
        it as an attribute or property instead
    :param inject: values for arguments, for this atom alone
    :param ignore_list: arguments of `execute` that are not inferred
    :param revert_rebind: as `rebind`, for `revert`
    :param revert_requires: as `requires`, for `revert`
    :raises TypeError, ValueError: when the declaration does not fit the methods; the message names the atom

    Names that begin with `_tfx_` are reserved for this package; subclasses may use all others that are not documented.
    """

    priority = 0
    default_provides: Any = None
    version: tuple[int, ...] = (1, 0)
    name: Any = None
    inject: dict[str, Any] | None = None

    #: the settings of calls: those of a task; see `taskflowx.controls`
    _tfx_controls: Controls | None = None
    #: arguments that the engine itself passes, for each of the two methods
    _tfx_engine_args: tuple[frozenset[str], frozenset[str]] = (
        frozenset(),
        frozenset((REVERT_RESULT, REVERT_FLOW_FAILURES)),
    )
    _tfx_shares_signature = True
    #: the class whose instances share a signature, its two methods, and the signature
    _tfx_shared: tuple[Any, Any, Any, Any] = (None,) * 4
    _tfx_methods: tuple[Any, Any, Methods] | None = None
    _tfx_signature: Signature = unmade.Unmade()  # type: ignore[assignment]  # each object has its own

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        abstract.settle(cls)

    def __init__(
        self,
        name: str | None = None,
        provides: Provides = None,
        requires: Iterable[str] | None = None,
        auto_extract: bool = True,
        rebind: Rebind = None,
        inject: dict[str, Any] | None = None,
        ignore_list: Iterable[str] | None = None,
        revert_rebind: Rebind = None,
        revert_requires: Iterable[str] | None = None,
    ) -> None:
        if name is not None:
            self.name = name
        if inject is not None:
            self.inject = inject
        cls = type(self)
        if provides is None:
            provides = self.default_provides
        if rebind is None and cls.rebind is not Atom.rebind:
            rebind = self.rebind
        if (
            rebind is inject is ignore_list is revert_rebind is revert_requires is None
            and auto_extract
            and self._tfx_shares_signature
        ):
            shared = cls._tfx_shared  # that of a base class, before the first one is made
            if shared[0] is not cls or shared[1] is not cls.execute or shared[2] is not cls.revert:
                # Renewed when a method of the class has been replaced, as tests do.
                shared = (cls, cls.execute, cls.revert, self._tfx_declare())
                if not self._tfx_has_own_methods():
                    cls._tfx_shared = shared
            signature: Signature | None = shared[3]
            if requires is not None:
                signature = self._tfx_requiring(shared[3], requires)
            if signature is not None:
                self._tfx_signature = signature if provides is None else Signature(outputs_of(provides), *signature[1:])
                return
        self._tfx_signature = self._tfx_declare(
            outputs_of(provides),
            names_of(requires, "requires"),
            auto_extract=auto_extract,
            rebind=rebind,
            ignored=frozenset(names_of(ignore_list, "ignore_list")),
            revert_rebind=revert_rebind,
            revert_requires=names_of(revert_requires, "revert_requires"),
        )

    def _tfx_requiring(self, shared: Signature, requires: Any) -> Signature | None:
        """Return the signature of the class with further names that `execute` requires; None where there is more to do.

        The short path of `_tfx_declare`, for methods that take these names as `**kwargs`.
        """
        takes = self._tfx_parameters()
        if not takes.execute.open_ended or self.inject is not None:
            return None
        outputs, forward, backward, takes_result, takes_failures, asynchronous = shared
        names = given = names_of(requires, "requires")
        if forward.args:
            if not set(names).isdisjoint(forward.args):
                return None
            names = (*forward.args[: forward.needed], *names, *forward.args[forward.needed :])
        forward = Wiring(names, names, len(given) + forward.needed)
        if takes.revert is not None and takes.revert.open_ended:  # it gets these names too, if they still have a value
            if backward.args:
                given = (*backward.args, *[name for name in given if name not in backward.args])
            backward = Wiring(given, given, backward.needed)
        return Signature(outputs, forward, backward, takes_result, takes_failures, asynchronous)

    def _tfx_inspected(self) -> tuple[Callable[..., Any], Callable[..., Any]]:
        """Return the two callables whose signatures determine the requirements of this atom."""
        return self.execute, self.revert

    def _tfx_declare(
        self,
        outputs: tuple[tuple[str, Any], ...] = (),
        requires: Names = (),
        *,
        auto_extract: bool = True,
        rebind: Any = None,
        ignored: frozenset[str] = frozenset(),
        revert_rebind: Any = None,
        revert_requires: Names = (),
    ) -> Signature:
        who = self.name or full_name(type(self))
        if rebind is not None:
            check_names_in("rebind", rebind)
        if revert_rebind is not None:
            check_names_in("revert_rebind", revert_rebind)
        if self.inject is not None:
            arguments.check_named_values("inject", self.inject)
        takes = self._tfx_parameters()
        execute, revert = takes.execute, takes.revert
        if ignored:
            execute = execute.without(ignored)
        injected = self.inject or ()
        if injected:
            self._tfx_check_injected(takes, {*requires, *names_in(rebind), *revert_requires, *names_in(revert_rebind)})
        forward = wire(who, execute, requires, rebind, auto_extract=auto_extract, injected=injected)
        backward = NOTHING
        if revert is not None or revert_requires or revert_rebind is not None:
            if revert is None:
                revert = Parameters((), (), open_ended=True)
            inherited = {} if revert_rebind else rebinding_of(rebind, revert.required)
            if not auto_extract and not revert_requires:
                named = {*revert.required, *revert.optional}
                revert_requires = tuple(arg for arg in (*requires, *inherited) if arg in named)
            backward = self._tfx_wire_revert(
                forward, revert, requires, inherited, revert_requires, revert_rebind, auto_extract=auto_extract
            )
        return Signature(outputs, forward, backward, takes.takes_result, takes.takes_failures, takes.asynchronous)

    def _tfx_check_injected(self, takes: Methods, named: set[str]) -> None:
        """Raise an error for an injected value that no method can take.

        :param named: the names in the declaration
        """
        methods = [takes.execute] if takes.revert is None else [takes.execute, takes.revert]
        if any(method.open_ended for method in methods):
            return
        taken = {name for method in methods for name in (*method.required, *method.optional)}
        known = taken.union(named, *self._tfx_engine_args)
        nobodys = [name for name in self.inject or () if name not in known]
        if nobodys:
            msg = f"Atom {self.name or full_name(type(self))} takes no argument {' and no '.join(map(repr, nobodys))}"
            raise ValueError(f"{msg}, which inject= has a value for; its arguments are {sorted(taken)}")

    def _tfx_wire_revert(
        self,
        forward: Wiring,
        revert: Parameters,
        requires: Names,
        inherited: dict[str, str],
        revert_requires: Names,
        revert_rebind: Any,
        *,
        auto_extract: bool,
    ) -> Wiring:
        """Join the declaration with `revert`.

        :param inherited: argument of revert -> stored name, where the rebinding of `execute` applies to revert too: by
            name for a dict, by position in revert's own signature for a list
        """
        plain = auto_extract and not revert_requires and revert_rebind is None
        backward = NOTHING
        if not plain or revert.required or revert.optional:
            backward = wire(
                f"{self.name or full_name(type(self))} (its revert method)",
                revert,
                revert_requires,
                revert_rebind,
                auto_extract=auto_extract,
                injected=self.inject or (),
                inherited=inherited,
            )
        if not revert.open_ended:
            return backward
        # Explicit arguments of execute are passed to **kwargs of revert too, if they still have a value and revert does
        # not declare its own instead.
        explicit = inherited if revert_requires else {**{name: name for name in requires}, **inherited}
        extra = {arg: name for arg, name in explicit.items() if arg not in backward.args}
        if not extra:
            return backward
        args, names = (*backward.args, *extra), (*backward.names, *extra.values())
        if (args, names) == (forward.args, forward.names):
            args, names = forward.args, forward.names  # one pair of tuples for both methods
        return Wiring(args, names, backward.needed)

    def _tfx_parameters(self) -> Methods:
        """Return the parameters of this atom's methods; inspected once per class, and after a method was replaced."""
        cls = type(self)
        if not self._tfx_shares_signature:
            return self._tfx_inspect()
        known = cls.__dict__.get("_tfx_methods")
        if known is None or known[0] is not cls.execute or known[1] is not cls.revert:
            known = (cls.execute, cls.revert, self._tfx_inspect())
            if not self._tfx_has_own_methods():
                cls._tfx_methods = known
        return known[2]

    def _tfx_has_own_methods(self) -> bool:
        """Tell whether this very instance has an `execute` or `revert` of its own, independent of its class."""
        own = vars(self)
        return "execute" in own or "revert" in own

    def _tfx_inspect(self) -> Methods:
        cls = type(self)
        if getattr(cls, "__hash__", None) is None:  # of a dataclass, or another class with an __eq__
            cls.__hash__ = object.__hash__  # type: ignore[method-assign]  # two atoms are two, whatever they have
        execute, revert = self._tfx_inspected()
        if is_method_of(Atom, "execute", execute):
            msg = f"Can't instantiate {full_name(type(self))} without an implementation of its 'execute' method"
            raise TypeError(msg)
        check_self(self, execute, revert)
        filled_execute, filled_revert = self._tfx_engine_args
        do, undo = inspect_parameters(execute), inspect_parameters(revert)
        if do.by_position or undo.by_position:
            method, takes = (execute, do) if do.by_position else (revert, undo)
            msg = (
                f"Atom {self.name or full_name(type(self))} cannot be run: {full_name(method)} takes "
                f"{list(takes.by_position)} by position only, and arguments are passed by name: remove the / from its "
                "parameters, or call it in a function of yours"
            )
            raise ValueError(msg)
        reverts = not is_method_of(Atom, "revert", revert)
        asynchronous = EXECUTES_ASYNC * _is_coroutine(execute)
        # A missing revert is a no-op that runs where the task runs.
        asynchronous += REVERTS_ASYNC * (_is_coroutine(revert) if reverts else asynchronous)
        return Methods(
            do.without(filled_execute),
            undo.without(filled_revert) if reverts else None,
            undo.accepts(REVERT_RESULT),
            undo.accepts(REVERT_FLOW_FAILURES),
            asynchronous | _async_hooks(cls),
        )

    @property
    def save_as(self) -> dict[str, Any]:
        """Provided name -> index or key in the result, or None for the whole result."""
        return dict(self._tfx_signature.outputs)

    @property
    def provides(self) -> OrderedSet[str]:
        """The names that the result is stored under."""
        return OrderedSet(name for name, _ in self._tfx_signature.outputs)

    @property
    def requires(self) -> OrderedSet[str]:
        """The stored names that `execute` and `revert` require, less the injected ones."""
        return OrderedSet(wanted_names(self))

    @property
    def optional(self) -> OrderedSet[str]:
        """The stored names that are passed to `execute` if they are provided."""
        return OrderedSet(self._tfx_not_injected(self._tfx_signature.execute.optional_names))

    @property
    def rebind(self) -> dict[str, str]:
        """Argument of `execute` -> stored name, in order."""
        return self._tfx_signature.execute.as_dict()

    @property
    def revert_rebind(self) -> dict[str, str]:
        """Argument of `revert` -> stored name, in order."""
        return self._tfx_signature.revert.as_dict()

    @property
    def revert_optional(self) -> OrderedSet[str]:
        """The stored names that are passed to `revert` if they are provided."""
        return OrderedSet(self._tfx_signature.revert.optional_names)

    def _tfx_not_injected(self, names: Names) -> Names:
        injected = self.inject
        return tuple(n for n in names if n not in injected) if injected else names

    def pre_execute(self) -> Awaitable[None] | None:
        """Run before `execute`, in the same place; a hook for subclasses."""

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        """Do the work; the return value is stored under the provided names."""
        raise NotImplementedError

    def post_execute(self) -> Awaitable[None] | None:
        """Run after a successful `execute`, in the same place; a hook for subclasses."""

    def pre_revert(self) -> Awaitable[None] | None:
        """Run before `revert`, in the same place; a hook for subclasses."""

    def revert(self, *args: Any, **kwargs: Any) -> Any:
        """Undo the effects of `execute`; `result` is its return value, or the `Failure` that it ended with."""

    def post_revert(self) -> Awaitable[None] | None:
        """Run after a successful `revert`, in the same place; a hook for subclasses."""

    def __str__(self) -> str:
        name = full_name(type(self)) if self.name is None else self.name  # a retry gets its name from its flow
        return f'"{name}=={version_text(self.version)}"'

    @reprs.one_line
    def __repr__(self) -> str:
        return f"{full_name(type(self))} {self}"


def wanted_names(of: Atom) -> Names:
    """Return the names in the `requires` of an atom, without making a set of them."""
    _, forward, backward, _, _, _ = of._tfx_signature  # noqa: SLF001 - of this module
    names = forward.names if len(forward.names) == forward.needed else forward.required_names
    if backward.needed:
        names = tuple(dict.fromkeys((*names, *backward.required_names)))
    return of._tfx_not_injected(names) if of.inject else names  # noqa: SLF001


def _async_hooks(cls: type[Atom]) -> int:
    """Return the bits of `Signature.asynchronous` for the hooks of a class that are coroutine functions."""
    found = 0
    for bit, names in _HOOKS:
        for name in names:
            hook = getattr(cls, name)
            if hook is getattr(Atom, name):
                continue
            if arguments.is_async(hook):
                found |= bit | HOOKS_ASYNC
            elif arguments.is_generator(hook):
                found |= HOOKS_ASYNC  # the compiler refuses it
            while hasattr(hook, "__wrapped__"):
                hook = hook.__wrapped__
                found |= HOOKS_WRAPPED
    return found


_HOOKS = ((EXECUTES_ASYNC, ("pre_execute", "post_execute")), (REVERTS_ASYNC, ("pre_revert", "post_revert")))


def _is_coroutine(function: Callable[..., Any]) -> bool:
    if not arguments.is_async(function):
        return False
    import inspect

    return not inspect.isasyncgenfunction(function)


def remedy(item: object) -> str:
    """Return advice about an object that is neither a task nor a flow."""
    if isinstance(item, type):
        return f"a class has to be called to make one of it: {item.__name__}()"
    if isinstance(item, Atom):
        return "a retry is given to its flow as retry=, or stands behind it: flow | retry.Times(3)"
    if isinstance(item, dict):
        return "tasks in a dict are its values, as in flow.add(*tasks.values())"
    if isinstance(item, (set, frozenset)):
        return "a set has no order that is always the same: make it a tuple or a list, or add them by flow.add(*tasks)"
    if isinstance(item, Iterable) and not isinstance(item, (str, bytes)):
        return "tasks in a row are added one by one, as in flow.add(*tasks)"
    if item is None:
        return "what makes a task or a flow has to return it"
    if callable(item):
        return "a plain function becomes a task by @as_task, or by taskflowx.as_task(function)"
    return "a task is made of a function by taskflowx.as_task(function), or is an object of a class of tasks"


def tell_of(error: Exception, declared: Atom) -> None:
    """Add to an error of a declaration which atom it is about."""
    error.add_note(f"in the declaration of {declared.name or full_name(type(declared))!r}")


def check_self(of: Atom, *methods: Callable[..., Any]) -> None:
    """Raise an error for a method that has no parameter for the object that it is called on."""
    for method in methods:
        code = getattr(getattr(method, "__func__", None), "__code__", None)
        if code is not None and not code.co_argcount and not code.co_flags & arguments.CO_VARARGS:
            raise TypeError(
                f"Atom {of.name or full_name(type(of))} cannot be run: {full_name(method)} takes no self, and a method "
                f"gets its object first: write def {method.__name__}(self, ...)"
            )


def is_method_of(base: type, name: str, method: Callable[..., Any]) -> bool:
    """Tell whether a bound method is the one that `base` itself defines, so it is not overridden."""
    return getattr(method, "__func__", method) is getattr(base, name)


def version_text(version: Any) -> str:
    """Return a version as text: the parts of a tuple or list joined by dots, anything else as it is."""
    return ".".join(str(part) for part in version) if isinstance(version, (tuple, list)) else str(version)


def full_name(thing: Any) -> str:
    """Return the dotted name of a class or callable, as atoms are named by default."""
    if not hasattr(thing, "__qualname__"):
        thing = type(thing)
    home = thing if hasattr(thing, "__module__") else thing.__objclass__  # of a method of a class of C
    return f"{home.__module__}.{thing.__qualname__}"
