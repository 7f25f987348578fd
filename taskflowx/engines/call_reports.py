"""What calls report beside their outcome: when and where they began, for the history, and where large results are kept.

Only runs that keep a history, or large values beside their record, have this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import states
from taskflowx.engines.questions import Question
from taskflowx.executors import noted

if TYPE_CHECKING:
    from collections.abc import Iterable

    from taskflowx.engines.shared import Run
    from taskflowx.executors import base


class CallReports:
    """The reports of the calls of one run.

    :param run: the run
    """

    def __init__(self, run: Run) -> None:
        self._log = run.log
        writes = run.storage.writes
        self._blobs = writes.blobs
        self._withheld = set() if writes.secrets is None else writes.secrets.withheld
        #: number of a verb -> the reference that its call has reported, of calls whose outcome is still to come
        self._references: dict[int, Any] = {}
        # A worker on another machine has other folders. Where calls are made in the thread of the engine, it keeps
        # their results itself. Where calls have time limits, it does so as well: these are about the task alone.
        by_workers = run.executor.is_remote is False and not run.executor.serial and not run.plan.times_calls
        self._keeper = self._blobs if by_workers else None

    def ask(self, calls: Iterable[base.Call]) -> None:
        """Have calls report that are made elsewhere."""
        now = None if self._log is None else self._log.time
        for call in calls:
            if type(call.verb) is not str or type(call.atom) is Question:
                continue
            keeper = self._keeper
            if call.verb != states.EXECUTE or call.atom.name in self._withheld:
                keeper = None
            if now is not None or keeper is not None:
                call.verb = noted.Noted(call.verb, now, keeper)

    def begin_in_place(self, call: base.Call) -> None:
        """Note that a call begins in the thread of the engine, which keeps its result itself, should that be large."""
        log = self._log
        if log is not None and type(call.verb) is str and type(call.atom) is not Question:
            log.note_call(call.atom.name, noted.worker())

    def take(self, atom: Any, details: Any) -> bool:
        """Take what an atom reports, if it is one of these reports; tells whether it is."""
        kind = type(details)
        if kind is noted.Begun and self._log is not None:
            self._log.note_call(atom.name, **details)
        elif kind is noted.Kept:
            self._references[details["number"]] = details["reference"]
        return kind is noted.Begun or kind is noted.Kept

    def conclude(self, name: str, verb: Any, outcome: Any) -> None:
        """Take in what the verb of a call has kept, before its outcome is recorded."""
        if type(verb) is not noted.Noted:
            return
        if self._log is not None and hasattr(verb, "worker"):
            self._log.note_call(name, verb.worker, verb.began)
        if self._blobs is not None:
            if hasattr(verb, "kept"):
                self._blobs.note(name, outcome, verb.kept)
            elif (reference := self._references.pop(verb.number, None)) is not None:
                self._blobs.note(name, outcome, reference)
