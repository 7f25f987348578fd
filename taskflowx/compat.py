"""Runs programs written for TaskFlow, unchanged: `taskflow` becomes an alias of this package.

    python -m taskflowx.compat program.py arguments…
    python -m taskflowx.compat -m module arguments…

or `taskflowx.compat.install()` before the first import of `taskflow`. From then on, in this process:

    imports       `taskflow.x` is the module `taskflowx.x`, the same object, whichever is imported first
    loggers       our modules use TaskFlow's: a setting of `taskflow.storage` applies to `taskflowx.storage`
    entry points  plug-ins for `taskflow.engines`, `taskflow.persistence` … are found (see `_names`)

Classes keep our names, so pickles made here can be read with and without the alias.

What must stay true: nothing happens before `install()`, and `uninstall()` undoes all of it.
"""

from __future__ import annotations

import functools
import importlib
import importlib.abc
import importlib.machinery
import logging
import runpy
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from taskflowx._names import OURS, THEIRS, is_aliased, is_within, ours, theirs

HELP = f"""\
usage: python -m {OURS}.compat PROGRAM [ARGUMENT ...]
       python -m {OURS}.compat -m MODULE [ARGUMENT ...]

Run a program that is written for TaskFlow on taskflowx: wherever it imports taskflow, it gets taskflowx.
A program can also ask for this itself, before its first import of taskflow:

    import taskflowx.compat
    taskflowx.compat.install()

What it starts by multiprocessing runs on taskflowx too; what it starts as a command does not.
"""


def install() -> None:
    """Make `taskflow` an alias of this package, in the whole process.

    A second call changes nothing.

    :raises RuntimeError: when TaskFlow itself has been imported: its classes would mix with ours
    """
    with _CHANGING:
        if is_aliased():
            return
        loaded = [name for name in list(sys.modules) if is_within(name, THEIRS)]
        if loaded:
            where = getattr(sys.modules[loaded[0]], "__file__", None) or "an unknown file"
            raise RuntimeError(
                f"taskflowx.compat.install() must be called before the first import of taskflow: "
                f"{loaded[0]} has been imported, from {where}"
            )
        sys.modules[THEIRS] = sys.modules[OURS]
        sys.meta_path.insert(0, _Finder())


def uninstall() -> None:
    """Undo `install`; modules that have imported `taskflow` keep their references."""
    with _CHANGING:
        if not is_aliased():
            return
        for finder in [finder for finder in sys.meta_path if isinstance(finder, _Finder)]:
            sys.meta_path.remove(finder)
            finder.loggers.give_back()
        for name in [name for name in list(sys.modules) if is_within(name, THEIRS)]:
            del sys.modules[name]


_CHANGING = threading.Lock()


class _Loggers:
    """Merges our loggers with TaskFlow's: two objects with one state, so one name, level, filters and handlers.

    They are removed from the table of the logging module meanwhile, or a configuration that names `taskflow` and
    disables all other loggers would disable them.
    """

    def __init__(self) -> None:
        self._own: dict[str, tuple[logging.Logger, dict[str, Any]]] = {}
        self.take()

    def take(self) -> None:
        """Merge the loggers that were made since the last call."""
        table = logging.Logger.manager.loggerDict
        for name in [name for name in list(table) if is_within(name, OURS)]:
            logger = table.pop(name, None)  # another thread may have removed it
            if isinstance(logger, logging.Logger):  # not a placeholder
                self._own[name] = (logger, logger.__dict__)
                logger.__dict__ = logging.getLogger(theirs(name)).__dict__

    def give_back(self) -> None:
        """Separate the loggers again."""
        for name, (logger, state) in self._own.items():
            logger.__dict__ = state
            logging.Logger.manager.loggerDict[name] = logger


class _Finder(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds each module of TaskFlow's name in this package, and merges the loggers of our modules on import."""

    def __init__(self) -> None:
        self.loggers = _Loggers()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if is_within(fullname, OURS):
            return self._spec_of_ours(fullname, path)
        if not is_within(fullname, THEIRS):
            return None
        # Finders are called with the import lock held: nothing may be imported here, not even a package of ours.
        found = importlib.machinery.PathFinder.find_spec(ours(fullname), path)
        if found is None:
            msg = f"No module named '{fullname}': taskflow is taskflowx here, which has no module '{ours(fullname)}'"
            raise ModuleNotFoundError(msg, name=fullname)
        spec = importlib.machinery.ModuleSpec(fullname, self, origin=found.origin)
        # While one thread imports a package, others may import its modules, and read attributes of the placeholder.
        spec.submodule_search_locations = found.submodule_search_locations
        return spec

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> None:
        """Return None: the import system makes a placeholder, which our module replaces."""

    def exec_module(self, module: ModuleType) -> None:
        # The import system uses the entry of `sys.modules` after this; `create_module` must not return our module, as
        # that would get another `__spec__`.
        found = importlib.import_module(ours(module.__name__))
        sys.modules[module.__name__] = found
        # A concurrent thread may hold the placeholder, and takes its names from that.
        vars(module).update((name, value) for name, value in list(vars(found).items()) if name not in _OWN)
        vars(module)["__getattr__"] = functools.partial(getattr, found)

    def _spec_of_ours(self, fullname: str, path: Sequence[str] | None) -> importlib.machinery.ModuleSpec | None:
        spec = importlib.machinery.PathFinder.find_spec(fullname, path)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module
        spec.loader.exec_module = functools.partial(self._execute, execute)  # type: ignore[method-assign]
        return spec

    def _execute(self, execute: Callable[[ModuleType], None], module: ModuleType) -> None:
        execute(module)
        self.loggers.take()


#: attributes of a module that stay as the import system has set them
_OWN = frozenset(
    ("__builtins__", "__cached__", "__file__", "__loader__", "__name__", "__package__", "__path__", "__spec__")
)


class _Arguments(list[str]):
    """`sys.argv` of a program that runs under the alias.

    multiprocessing pickles it for each new process, which unpickles it before it imports the program: at that moment
    the alias is installed in that process.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[Callable[[Iterable[str]], list[str]], tuple[list[str]]]:
        return _arguments, (list(self),)


def _arguments(arguments: Iterable[str]) -> list[str]:
    install()
    return _Arguments(arguments)


def _prepare(arguments: Iterable[str]) -> None:
    import multiprocessing

    sys.argv = _arguments(arguments)
    # By default the fork server itself imports the program, without the alias.
    multiprocessing.set_forkserver_preload([])


def main(arguments: Sequence[str]) -> int:
    """Run the program of a command line.

    :param arguments: the command line after `python -m taskflowx.compat`
    :return: the exit status, if the program does not exit by itself
    """
    if not arguments or arguments[0] in {"-h", "--help"}:
        sys.stdout.write(HELP)
        return 0
    if arguments[0] == "-m" and len(arguments) > 1:
        _prepare(arguments[1:])
        runpy.run_module(arguments[1], run_name="__main__", alter_sys=True)
        return 0
    program = arguments[0]
    if program.startswith("-"):
        problem = "-m needs the name of a module" if program == "-m" else f"unknown option {program}"
        sys.stderr.write(f"{problem}\n\n{HELP}")
        return 2
    if not Path(program).exists():
        sys.stderr.write(f"can't open file '{program}': there is no such file\n")
        return 2
    _prepare(arguments)
    if not sys.flags.safe_path:
        sys.path[0] = str(Path(program).resolve().parent)
    runpy.run_path(program, run_name="__main__")
    return 0


if __name__ == "__main__":
    # As `__main__` this file is loaded a second time: the imported module must run, not the copy.
    sys.exit(importlib.import_module(f"{OURS}.compat").main(sys.argv[1:]))
