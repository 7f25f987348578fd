"""Records that another version of an atom has made: refused, or taken over by `migrate_record` of a task."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states, task
from taskflowx.atom import version_text

if TYPE_CHECKING:
    from taskflowx.atom import Atom
    from taskflowx.persistence.models import AtomDetail
    from taskflowx.types.failure import Failure

#: the method of a task that takes over an older record, if its class has one
METHOD = "migrate_record"


_text_of = functools.lru_cache(maxsize=64)(version_text)  # an atom costs no call for it


class OldRecord:
    """What an older version of a task has left, as `migrate_record` gets it.

    `result` is changed in place, or set: it is what `execute` counts as having returned.
    """

    def __init__(self, detail: AtomDetail) -> None:
        #: the name of the task
        self.name: str = detail.name
        #: the version that made the record, as text
        self.version: str = version_text(detail.version)
        #: the state of the task, such as 'SUCCESS' or 'RUNNING'
        self.state: str | None = detail.state
        #: what its `execute` has returned; None if it has not
        self.result: Any = detail.results
        #: what it has failed with, or None
        self.failure: Failure | None = detail.failure


def migrates(atom: Any) -> bool:
    """Tell whether an atom takes over the records of its other versions."""
    return isinstance(atom, task.Task) and callable(getattr(type(atom), METHOD, None))


def fit(atom: Atom, detail: AtomDetail) -> bool:
    """Make the record of an atom fit the version that it has now; returns whether it was changed.

    :raises IncompatibleVersion: when another major version made it, and the atom does not take it over
    """
    recorded = detail.version
    if recorded is None or atom.version is None:
        return False
    now = _text_of(atom.version) if type(atom.version) is tuple else version_text(atom.version)
    if recorded == now:
        return False
    had = version_text(recorded)
    if had == now:
        return False
    if migrates(atom):
        if detail.state in states.NOT_BEGUN:
            detail.version = now
        else:
            _migrate(atom, detail, now)
        return True
    if had.split(".", 1)[0] != now.split(".", 1)[0]:
        raise exceptions.IncompatibleVersion(
            f"Atom '{atom.name}' is of version {now}, which does not fit version {had} that the record was made with\n"
            "Its method migrate_record() may take the record over"
        )
    return False


def _migrate(atom: Any, detail: AtomDetail, now: str) -> None:
    record = OldRecord(detail)
    try:
        atom.migrate_record(record)
    except Exception as error:
        versions = f"Task '{atom.name}' of version {now} cannot take over the record of its version {record.version}"
        msg = f"{versions}: {error!r}"
        raise exceptions.IncompatibleVersion(msg, error) from error
    detail.results, detail.version = record.result, now  # one line: it is done once
