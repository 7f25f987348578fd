"""Values that are given on the command line and in files."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx.cli.exits import Refused

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence


class Inputs(NamedTuple):
    """Values for the inputs of a flow, as they are given.

    :param pairs: 'name=value' each, see `value_of`
    :param files: paths of files with a JSON object each; '-' is the standard input
    """

    pairs: Sequence[str]
    files: Sequence[str]

    def read(self, texts: Callable[[], Collection[str]]) -> dict[str, Any]:
        """Return the values by name; pairs take precedence over files.

        :param texts: returns the names whose values are the text as it stands
        :raises Refused: for what is none of these
        """
        return _read(self.pairs, self.files, texts() if self.pairs else ())


def _read(pairs: Sequence[str], files: Sequence[str], texts: Collection[str]) -> dict[str, Any]:
    store: dict[str, Any] = {}
    for file in files:
        if file == "-" and sys.stdin is None:
            raise Refused("--store-file - needs a standard input, and there is none")
        try:
            text = sys.stdin.read() if file == "-" else Path(file).read_text(encoding="utf-8")
            values = json.loads(text)
        except OSError as error:
            raise Refused(f"--store-file {file} cannot be read: {error.strerror}") from None
        except (ValueError, RecursionError) as error:  # also text that is not UTF-8, and lists in lists without end
            raise Refused(f"--store-file {file} is not JSON: {error}") from None
        if not isinstance(values, dict):
            raise Refused(f"--store-file {file} has no JSON object, but {type(values).__name__}")
        store |= values
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not equals or not name:
            raise Refused(f"--store {pair} is not of the form name=value")
        store[name] = text if name in texts else value_of(text)
    return store


def taken_as_text(flow: Any) -> Collection[str]:
    """Return the names that are taken as str, and as nothing else."""
    from taskflowx import flow as flows
    from taskflowx._util import annotations

    types: dict[str, set[Any]] = {}
    for atom in flows.atoms_of(flow):
        execute, _ = atom._tfx_inspected()  # noqa: SLF001 - the package's own name
        takes = annotations.read(getattr(execute, "__func__", execute)).takes
        for argument, name in atom.rebind.items():
            types.setdefault(name, set()).add(takes.get(argument))
    return [name for name, found in types.items() if found == {str}]


def names_in(flow: Any) -> Collection[str]:
    """Return the names of the values that its tasks take or provide."""
    from taskflowx import flow as flows

    return {name for atom in flows.atoms_of(flow) for name in (*atom.requires, *atom.optional, *atom.provides)}


def value_of(text: str) -> Any:
    """Return what a text means: the value if it is JSON, as 3, true or ["a"], and otherwise the text itself."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text


def run_id_of(text: str) -> str:
    """Return the id of a run.

    :raises Refused: for a text that no run can have as its id
    """
    from taskflowx.persistence import run_records

    try:
        return run_records.check_id(text)
    except ValueError as error:
        raise Refused(str(error)) from None


def seconds_of(text: str) -> float:
    """Return a number of seconds: '90', '90s', '15m', '2h', '7d' or '4w'.

    :raises Refused: for another text
    """
    unit = _UNITS.get(text[-1:].lower())
    try:
        seconds = float(text if unit is None else text[:-1]) * (unit or 1)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < _FOREVER:
        raise Refused(f"'{text}' is no span of time; write seconds, or 15m, 2h, 7d, 4w")
    return seconds


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_FOREVER = 1e10
