"""Runs in a store: find them, read them, remove them, and begin new ones from them.

`open(store)` gives a `Runs`; `taskflowx.run(..., run_id=...)` makes a run that has a name. Reading a run neither locks
nor claims it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from taskflowx._util.clock import Clock
    from taskflowx.persistence.base import Backend
    from taskflowx.runs.archive import Runs as Runs, RunSummary as RunSummary
    from taskflowx.runs.result import RunResult as RunResult
    from taskflowx.runs.stores import Address
    from taskflowx.runs.view import AtomView as AtomView, RunView as RunView

__all__ = ["AtomView", "RunResult", "RunSummary", "RunView", "Runs", "open"]

_PLACES = {
    "AtomView": "view",
    "RunResult": "result",
    "RunSummary": "archive",
    "RunView": "view",
    "Runs": "archive",
}


def open(backend: Address | Mapping[str, Any] | Backend, *, clock: Clock | None = None) -> Runs:  # noqa: A001 - as a file
    """Open the runs in a store; a file or folder that is not there yet is made.

    :param backend: a connection string such as 'sqlite:///path', the path of a file that ends in '.db', a dict of
        settings, or a `Backend`, which is left open
    :param clock: the time by which it waits and tells who is alive: that of the machine, or one that a test holds
    :raises NotFound: when there is no store of that kind
    :raises StorageFailure: when it cannot be used
    """
    from taskflowx.runs import archive

    return archive.Runs(backend, clock)


def __getattr__(name: str) -> Any:
    import importlib

    if name not in _PLACES:
        msg = f"module '{__name__}' has no attribute '{name}'"
        raise AttributeError(msg)
    found = globals()[name] = getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
    return found
