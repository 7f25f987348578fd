"""Functions that make flows, by the names under which records keep them.

A record is data, and who can write to a store can write any name into it. So a factory is looked up only where the
caller, or this process, has said that there are some; a name that is allowed by nobody is refused before anything is
imported. What is found must be defined there: a module that was allowed does not lend the ones that it imports.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from types import FrameType, ModuleType
from typing import Any, NoReturn

from taskflowx import _names, exceptions
from taskflowx._util import arguments
from taskflowx.atom import full_name

META = "factory"  # the key in the metadata of a flow's detail

_registered: set[str] = set()  # names of the factories that this process has put into records


def register(name: str) -> None:
    """Allow records to name a factory, in this process."""
    _registered.add(name)


def import_by_name(name: str) -> Any:
    """Import what a dotted name stands for.

    :raises ImportError: when there is nothing of that name
    """
    parts = name.split(".")
    for cut in range(len(parts) - 1, 0, -1):
        try:
            found: Any = importlib.import_module(".".join(parts[:cut]))
        except ModuleNotFoundError:
            continue
        try:
            for part in parts[cut:]:
                found = getattr(found, part)
        except AttributeError:
            continue
        return found
    raise ImportError(f"Could not import '{name}'")


def name_of(factory: Any) -> str:
    """Return the name under which a factory can be imported again.

    :raises ValueError: when it cannot
    """
    if isinstance(factory, str):
        return factory
    name = full_name(factory)
    try:
        found = import_by_name(name)
    except ImportError:
        found = None
    if found != factory:
        raise ValueError(f"Flow factory {factory!r} is not reimportable by name {name}")
    return name


def checked_arguments(args: Iterable[Any] | None, kwargs: Mapping[str, Any] | None) -> tuple[list[Any], dict[str, Any]]:
    """Return the arguments of a factory in lists of their own.

    :raises TypeError: when they are none
    """
    if args:
        arguments.check_iterable("factory_args", args, "an iterable of positional arguments for the factory")
    if kwargs:
        arguments.check_named_values("factory_kwargs", kwargs)
    return list(args or []), dict(kwargs or {})


def read(kept: Any, record: str) -> tuple[str, list[Any], dict[str, Any]]:
    """Return name and arguments of the factory that a record keeps.

    :param record: names the record in errors
    :raises ValueError: when it keeps none
    :raises InvalidFormat: when it keeps something else
    """
    if not kept:
        raise ValueError(f"Cannot reconstruct {record}: no factory information saved.")
    if not isinstance(kept, dict):
        _refuse(record, "factory information", kept, "a dict with the keys name, args and kwargs")
    name, args, kwargs = kept.get("name"), kept.get("args"), kept.get("kwargs")
    if not isinstance(name, str) or not all(map(_is_part_of_name, name.split("."))):
        _refuse(record, "the name of its factory", name, "a dotted name")
    if args is not None and not isinstance(args, (list, tuple)):
        _refuse(record, f"args of its factory '{name}'", args, "a list")
    if kwargs is not None and not (isinstance(kwargs, dict) and all(isinstance(key, str) for key in kwargs)):
        _refuse(record, f"kwargs of its factory '{name}'", kwargs, "a dict whose keys are str")
    return name, list(args or []), dict(kwargs or {})


def _is_part_of_name(part: str) -> bool:
    return part.isidentifier() and (not part.startswith("__") or part == "__main__")


def _refuse(record: str, what: str, found: Any, wanted: str) -> NoReturn:
    msg = f"Cannot reconstruct {record}: its record has {found!r} as {what}, and that must be {wanted}"
    raise exceptions.InvalidFormat(msg)


class Listed:
    """Allows the factories that a caller lists.

    :param allowed: functions, or dotted names of functions, modules and packages; a single str is one name
    :raises TypeError: when something is neither
    """

    def __init__(self, allowed: Iterable[str | Callable[..., Any]]) -> None:
        self._names: list[str] = []
        self._functions: dict[str, Any] = {}
        if isinstance(allowed, str):
            allowed = (allowed,)
        arguments.check_iterable("allowed_factories", allowed, "an iterable of functions, and of dotted names")
        for one in allowed:
            if isinstance(one, str):
                self._names.append(_names.ours(one))
            elif callable(one):
                self._functions[_names.ours(full_name(one))] = one
            else:
                arguments.refuse("Each of allowed_factories", one, "a function, or a dotted name")

    def allows(self, name: str) -> bool:
        """Tell whether a factory of that name may be looked up."""
        return name in self._functions or any(_names.is_within(name, one) for one in self._names)

    def allows_found(self, name: str, found: Any) -> bool:
        """Tell whether what was found under an allowed name may be called."""
        if name in self._functions:
            return bool(self._functions[name] == found)
        return name in self._names or any(_names.is_within(_home_of(found), one) for one in self._names)


class Own:
    """Allows what this process has put into records itself, and what belongs to the program.

    That is the package of the code that asks and of the program that was started, or the modules beside its file. The
    standard library is no part of it, and of this package only the patterns are.

    :param caller: the frame that asks
    """

    def __init__(self, caller: FrameType) -> None:
        self._caller = caller

    def allows(self, name: str) -> bool:
        """Tell whether a factory of that name may be looked up."""
        return name in _registered or self._belongs(name)

    def allows_found(self, name: str, found: Any) -> bool:
        """Tell whether what was found under an allowed name may be called."""
        return name in _registered or self._belongs(f"{_home_of(found)}.{name.rpartition('.')[2]}")

    def _belongs(self, name: str) -> bool:
        if _names.is_within(name, f"{_names.OURS}.patterns"):
            return True
        top = _top_of(name)
        if top == "__main__":
            return True
        if _is_foreign(top):
            return False
        return any(_is_beside(top, asking) for asking in self._asking())

    def _asking(self) -> Iterator[Mapping[str, Any]]:
        """Iterate over what the code that asks, and the program, know of themselves."""
        frame: FrameType | None = self._caller
        while frame is not None and _is_foreign(_top_of(str(frame.f_globals.get("__name__")))):
            frame = frame.f_back
        if frame is not None:
            yield frame.f_globals
        yield vars(sys.modules["__main__"])


def _is_foreign(top: str) -> bool:
    """Tell whether a module at the top is ours or of the standard library, and so part of no program."""
    return top == _names.OURS or (top in sys.stdlib_module_names and top != "__main__")


def _is_beside(top: str, asking: Mapping[str, Any]) -> bool:
    """Tell whether a module or package at the top belongs to the same program as some code.

    :param asking: the names in the module of that code
    """
    name = str(asking.get("__name__"))
    package = asking.get("__package__") or getattr(asking.get("__spec__"), "parent", "") or ""
    if top == _top_of(package if name == "__main__" else name):
        return True
    if package:
        return False
    import importlib.machinery  # only a record that names a factory needs these
    import sysconfig
    from pathlib import Path

    # A program, or a module, that is in no package: those in its folder belong to it.
    file = asking.get("__file__")
    folder = Path(file).resolve().parent if file else Path.cwd() if sys.path[:1] == [""] else None
    libraries = {Path(path).resolve() for path in sysconfig.get_paths().values()}
    if folder is None or folder in libraries:
        return False
    return importlib.machinery.PathFinder.find_spec(top, [str(folder)]) is not None


def _top_of(name: str) -> str:
    return name.partition(".")[0]


def _home_of(found: Any) -> str:
    """Return the name of the module in which a function or class is defined; empty when it does not say."""
    home = getattr(found, "__module__", None)
    return _names.ours(home) if isinstance(home, str) and not isinstance(found, ModuleType) else ""


def find(name: str, record: str, allowed: Listed | Own) -> Callable[..., Any]:
    """Import the factory that a record names.

    :param record: names the record in errors
    :raises ValueError: when it is not allowed; nothing has been imported then
    :raises ImportError: when it cannot be imported
    """
    spelled = _names.ours(name)
    if not allowed.allows(spelled):
        _forbid(name, record, "")
    try:
        found = import_by_name(spelled)
    except ImportError as error:
        raise ImportError(f"Could not import factory for {record}: {error}") from error
    if not callable(found) or not allowed.allows_found(spelled, found):
        _forbid(name, record, f", which is {found!r}")
    return found  # type: ignore[no-any-return]


def _forbid(name: str, record: str, what: str) -> NoReturn:
    raise ValueError(
        f"Cannot reconstruct {record}: its record names the factory '{name}'{what}, and none is allowed there\n"
        f"If it is one of yours, pass allowed_factories=['{name}'], or the module or package in which your factories "
        "are, to load_from_detail or flow_from_detail"
    )
