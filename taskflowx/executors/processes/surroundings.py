"""The surroundings of a task in its process: as in the engine, when the run starts.

These are the environment variables, the working directory, the module search path, the levels of loggers, and the
carried context variables. A worker is started with the first four. When a run begins, it undoes what tasks have changed
of these, and gets the changes in the engine. What its initializer has changed is kept, and so is what tasks have added.
"""

from __future__ import annotations

import logging
import os
import sys
import threading
from pathlib import Path
from typing import Any, NamedTuple

from taskflowx._util import logs

LOG = logs.calm(__name__)

_starting = threading.Lock()


class Surroundings(NamedTuple):
    """The surroundings at one moment.

    :param environment: all variables
    :param folder: the working directory, None if it does not exist any more
    :param path: `sys.path`
    :param levels: level by the name of a logger, of those that have one
    :param variables: context variables, as `carried.pack` returns them
    """

    environment: dict[str, str]
    folder: str | None
    path: list[str]
    levels: dict[str, int]
    variables: dict[str, bytes]


def look(variables: dict[str, bytes]) -> Surroundings:
    """Return the current surroundings.

    :param variables: the carried context variables
    """
    try:
        folder = str(Path.cwd())
    except OSError:
        folder = None
    root = logging.getLogger()
    loggers = [root, *(one for one in list(root.manager.loggerDict.values()) if isinstance(one, logging.Logger))]
    levels = {one.name: one.level for one in loggers if one.level}
    return Surroundings(dict(os.environ), folder, list(sys.path), levels, variables)


def changes(before: Surroundings, now: Surroundings) -> dict[str, Any]:
    """Return the changes, but for context variables: the new value by field name; of a dict only what differs."""
    changed: dict[str, Any] = {}
    for field in ("environment", "levels"):
        old, new = getattr(before, field), getattr(now, field)
        if old != new:
            values = {name: value for name, value in new.items() if old.get(name) != value}
            changed[field] = values | dict.fromkeys(old.keys() - new.keys())
    if now.folder is not None and before.folder != now.folder:
        changed["folder"] = now.folder
    if before.path != now.path:
        changed["path"] = now.path
    return changed


def take_over(changed: dict[str, Any]) -> None:
    """Apply the surroundings of the engine to this process, except context variables.

    An error is logged.

    :param changed: the result of `changes`
    """
    for name, value in changed.get("environment", {}).items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
    if "path" in changed:
        sys.path[:] = changed["path"]
    for name, level in changed.get("levels", {}).items():
        logging.getLogger(name).setLevel(level or logging.NOTSET)
    if "folder" in changed:
        try:
            os.chdir(changed["folder"])
        except OSError as error:
            LOG.warning("A worker process cannot go to the working directory of the engine: %s", error)


class Own:
    """The surroundings of a worker: those of the engine, with what the initializer has changed.

    :param path: `sys.path` of the engine
    """

    def __init__(self, path: list[str]) -> None:
        self._path = path
        #: what they were when those of the engine were last applied
        self._applied = look({})

    def begin_run(self, changed: dict[str, Any]) -> None:
        """Undo what tasks have changed, and apply the changes in the engine.

        What tasks have added stays: modules that they have imported may rely on it.

        :param changed: the result of `changes`
        """
        now = look({})
        new = changes(now, self._applied)
        for field in new.keys() & {"environment", "levels"}:
            new[field] = {name: value for name, value in new[field].items() if value is not None}
        for field, value in changed.items():
            new[field] = new.get(field, {}) | value if isinstance(value, dict) else value
        path, added = self._applied.path, [entry for entry in now.path if entry not in self._applied.path]
        if "path" in changed:
            path = self._with_own(changed["path"])
            self._path = changed["path"]
        new["path"] = _with(path, added, now.path)
        take_over(new)
        if changed:
            self._applied = look({})

    def _with_own(self, path: list[str]) -> list[str]:
        """Return `sys.path` of the engine with what the initializer has put in and taken out."""
        own = self._applied.path
        dropped = [entry for entry in self._path if entry not in own]
        path = [entry for entry in path if entry not in dropped]
        return _with(path, [entry for entry in own if entry not in self._path], own)


def _with(path: list[str], added: list[str], places: list[str]) -> list[str]:
    """Return a search path with further entries, each at the place that it has in another one."""
    path = [*path]
    for place, entry in enumerate(places):
        if entry in added and entry not in path:
            path.insert(place, entry)
    return path


def start(process: Any) -> None:
    """Start a `multiprocessing` process, even when the main module is no file, but was typed or piped in.

    The process would look for the file.
    """
    main = sys.modules["__main__"]
    file = getattr(main, "__file__", None)
    if file is None or not (file.startswith("<") and file.endswith(">")):
        process.start()
        return
    with _starting:
        del main.__file__
        try:
            process.start()
        finally:
            main.__file__ = file
