"""Context variables that are carried to calls in other processes.

Calls that share memory with the engine run in a copy of the context in which the run was started. A context cannot be
pickled, so for other processes the engine option `context=` lists the variables to carry. The names of the run are
carried as well, for log records there.
"""

from __future__ import annotations

import contextvars
import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from taskflowx._util import logs

LOG = logs.calm(__name__)


def by_path(variables: Iterable[Any]) -> dict[str, contextvars.ContextVar[Any]]:
    """Return context variables by the path under which another process finds them, such as 'package.module:NAME'.

    :param variables: context variables, or such paths
    :raises TypeError: when one of them is neither
    :raises ValueError: when a variable or a path cannot be found
    """
    if isinstance(variables, str | contextvars.ContextVar):
        raise TypeError(f"context must be a list of context variables, not {variables!r} alone: context=[...]")
    found = {}
    for one in variables:
        if isinstance(one, contextvars.ContextVar):
            found[_path_of(one)] = one
        elif isinstance(one, str):
            found[one] = _at(one)
        else:
            raise TypeError(f"context must have context variables, or paths such as 'package.module:NAME', not {one!r}")
    return found


def _path_of(variable: contextvars.ContextVar[Any]) -> str:
    for name, module in list(sys.modules.items()):
        for attribute, value in list(getattr(module, "__dict__", {}).items()):
            if value is variable:
                return f"{name}:{attribute}"
    raise ValueError(
        f"context has a variable '{variable.name}' that is at the top level of no module, where another process would "
        "look for it: assign it there, or name the place as 'package.module:NAME'"
    )


def _at(path: str) -> contextvars.ContextVar[Any]:
    import pkgutil  # imported only where it is needed

    try:
        variable = pkgutil.resolve_name(path)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"context names '{path}', which cannot be found: {error}") from error
    if not isinstance(variable, contextvars.ContextVar):
        raise TypeError(f"context names '{path}', which is no context variable but of type {type(variable).__name__}")
    return variable


def pack(variables: Mapping[str, contextvars.ContextVar[Any]], dumps: Callable[[Any], bytes]) -> dict[str, bytes]:
    """Pickle the values of variables in this context, by path; variables without a value are skipped.

    :param dumps: pickles a value
    :raises TypeError: when one of them cannot be pickled
    """
    packed = {}
    for path, variable in variables.items():
        try:
            value = variable.get()
        except LookupError:
            continue
        try:
            packed[path] = dumps(value)
        except Exception as error:
            raise TypeError(
                f"Context variable '{path}' cannot go along to another process, as its value cannot be pickled "
                f"({error}): give it one that can be, or leave it out of context="
            ) from error
    return packed


def put(packed: Mapping[str, bytes]) -> None:
    """Set variables to packed values, in this context; an unreadable value is skipped, with a warning."""
    import pickle  # imported only where it is needed

    for path, value in packed.items():
        try:
            _at(path).set(pickle.loads(value))  # noqa: S301 - it comes from the engine
        except Exception as error:
            LOG.warning("Context variable '%s' has no value in this process: %s", path, error)
