"""The surroundings of a task in its process: as in the engine, when the run starts.

These are the environment variables, the working directory, the module search path, the levels of loggers, and the
carried context variables. A worker is started with the first four, and a kept worker gets the changes.
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
    """Return the changes: the new value by field name; of variables and levels only those that differ."""
    changed: dict[str, Any] = {}
    for field in ("environment", "levels"):
        old, new = getattr(before, field), getattr(now, field)
        if old != new:
            values = {name: value for name, value in new.items() if old.get(name) != value}
            changed[field] = values | dict.fromkeys(old.keys() - new.keys())
    if now.folder is not None and before.folder != now.folder:
        changed["folder"] = now.folder
    for field in ("path", "variables"):
        if getattr(before, field) != getattr(now, field):
            changed[field] = getattr(now, field)
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
