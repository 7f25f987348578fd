"""Finds the flow that `module:flow` names.

A module that cannot be imported gives the traceback of its own code: the lines of this package, and those of the import
system, are folded.
"""

from __future__ import annotations

import importlib
import inspect
import os
import traceback
from typing import Any

from taskflowx import atom, flow as flows
from taskflowx._util import reprs
from taskflowx.cli.exits import Refused

_OURS = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep  # noqa: PTH100, PTH120 - as in frames
_FOLDED = "(the frames of taskflowx are not shown)\n"
_IMPORTS = ("<frozen importlib", importlib.__file__)


def load(target: str) -> Any:
    """Return the flow or task that a target names.

    :param target: 'module:flow': the name of a module, and in it that of a flow, a task, or a function that makes one
    :raises Refused: when there is no such thing
    """
    module_name, colon, path = target.partition(":")
    if not colon or not module_name or not path or "/" in module_name or module_name.endswith(".py"):
        module = module_name.removesuffix(".py").replace(os.sep, ".").strip(".") or "module"
        raise Refused(f"'{target}' is not of the form module:flow, such as {module}:{path or 'flow'}")
    found: Any = _import(module_name, target)
    for name in path.split("."):
        try:
            found = getattr(found, name)
        except AttributeError:
            raise Refused(f"'{target}' names nothing: {_missing(found, name)}") from None
        except BaseException as error:  # noqa: BLE001 - whatever an attribute that is made on demand raises
            raise _refused(error, f"'{name}' of '{target}' cannot be had") from None
    return _made(found, target)


def _refused(error: BaseException, problem: str) -> BaseException:
    """Return what is raised for an error of the user's code: an interrupt stays one."""
    return error if isinstance(error, KeyboardInterrupt) else Refused(f"{folded(error)}{problem}: see above")


def _import(name: str, target: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            here = os.getcwd()  # noqa: PTH109 - shown as it is
            raise Refused(
                f"There is no module '{missing}', which '{target}' names\nModules are looked for in the current "
                f"folder, {here}, and where Python finds those that are installed"
            ) from None
        raise _refused(error, f"Module '{name}' cannot be imported") from None
    except SystemExit as error:
        raise Refused(
            f"Module '{name}' ends the program while it is imported (exit code {error.code})\n"
            'Put what is to happen only when it is a program under: if __name__ == "__main__":'
        ) from None
    except BaseException as error:  # noqa: BLE001 - whatever the module raises
        raise _refused(error, f"Module '{name}' cannot be imported") from None


def _missing(found: Any, name: str) -> str:
    from difflib import get_close_matches

    label = getattr(found, "__name__", None) or reprs.of(found)
    close = get_close_matches(name, [one for one in dir(found) if not one.startswith("_")], n=1)
    return f"'{label}' has no '{name}'" + (f", but '{close[0]}'" if close else "")


def _made(found: Any, target: str) -> Any:
    """Return a flow or a task, or what a function returns that makes one."""
    if isinstance(found, (flows.Flow, atom.Atom)):
        return found
    if not callable(found):
        raise Refused(f"'{target}' is {reprs.of(found)}, which is no flow, no task, and no function that makes one")
    try:
        inspect.signature(found).bind()
    except TypeError as error:
        raise Refused(f"'{target}' is called without arguments to make the flow, and cannot be: {error}") from None
    except ValueError:  # it has no signature
        pass
    try:
        made = found()
    except BaseException as error:  # noqa: BLE001 - whatever the function raises
        raise _refused(error, f"'{target}' cannot make its flow") from None
    if isinstance(made, (flows.Flow, atom.Atom)):
        return made
    raise Refused(
        f"'{target}' has returned {reprs.of(made)}, which is no flow and no task\n"
        "To run a function as a task, decorate it with @taskflowx.as_task"
    )


# -- tracebacks --------------------------------------------------------------------------------------------------------


def folded(error: BaseException) -> str:
    """Return the traceback of an error, and of what led to it, without the frames of this package."""
    described = traceback.TracebackException.from_exception(error)
    pending, is_folded = [described], False
    for one in pending:  # it grows meanwhile
        shown = [frame for frame in one.stack if not frame.filename.startswith((_OURS, *_IMPORTS))]
        is_folded |= any(frame.filename.startswith(_OURS) for frame in one.stack)
        one.stack = traceback.StackSummary.from_list(shown)
        pending += filter(None, (one.__cause__, one.__context__, *(one.exceptions or ())))
    return f"{''.join(described.format())}{_FOLDED if is_folded else ''}"
