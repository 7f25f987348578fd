"""The progress that tasks report: into the record, into the store, and to its subscribers.

A report comes from where the task runs: from the mailbox, as outcomes do; from the task itself, when it runs in the
thread of the engine; or from a thread that it has started.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states, task
from taskflowx._util import logs
from taskflowx.executors import base
from taskflowx.record import metadata

if TYPE_CHECKING:
    from taskflowx.engines.commits import Commits
    from taskflowx.engines.shared import Run

LOG = logs.calm(__name__)


class Progress:
    """The progress of the tasks of one run.

    :param run: the run
    :param commits: where it is noted that the record has changed
    """

    def __init__(self, run: Run, commits: Commits) -> None:
        self._run = run
        self._commits = commits
        self._details, self._storage, self._notifier = run.details, run.storage, run.notifier
        #: the atom that is called in the thread of the engine with all steps, or -1
        self.in_place = -1
        #: held while a thread of that atom has a report put on record, and while `in_place` is set back to -1
        self.lock = threading.Lock()
        #: whether there are such reports that were not published
        self.unpublished = False

    @property
    def check(self) -> Callable[[Any, dict[str, Any]], None] | None:
        """The check of progress in the task that reports it; None where the store holds any."""
        return None if self._commits.dirty is None else self._check

    def _check(self, reporting: Any, details: dict[str, Any]) -> None:
        """Refuse progress that the store cannot hold.

        :raises Unstorable: names the task
        """
        self._storage.writes.check_value(details, f"progress of atom '{reporting.name}'")

    def learn(self, reporting: Any, details: Any) -> None:
        """Record what a task has reported, and publish it."""
        i = self._index_of(reporting)
        if i is None:
            return  # a task that another one calls by itself is no part of the flow
        if self._run.reports is not None and self._run.reports.take(reporting, details):
            return
        if type(details) is base.Event:
            details = _publish_event(reporting, details)
            if details is None:
                return
        details = self._masked(details)
        if self._commits.dirty is not None:
            try:
                self._check(reporting, details)
            except exceptions.Unstorable as error:
                LOG.warning("%s; it is left out of the record", error)
                return
        late = self._details[i].state == states.SUCCESS  # of a thread that the task has left behind
        if type(details) is not _OnRecord and not late:
            self._note(i, details)
        if self._notifier._tfx_topics:
            self._notifier._tfx_notify_only(
                task.EVENT_UPDATE_PROGRESS,
                {**details, "task_name": reporting.name, "task_uuid": self._storage.get_atom_uuid(reporting.name)},
            )

    def _masked(self, details: Any) -> Any:
        secrets = self._storage.writes.secrets
        return details if secrets is None else secrets.masked(details)

    def _index_of(self, reporting: Any) -> int | None:
        i = self._run.plan.names.get(reporting.name)
        return i if i is not None and self._run.plan.atoms[i] is reporting else None

    def _note(self, i: int, details: dict[str, Any]) -> None:
        further = {key: value for key, value in details.items() if key != "progress"}
        facts = metadata.progress_facts(details["progress"], further or None)
        self._commits.mark_progress(i)
        detail = self._details[i]
        detail.meta = {**detail.meta, **facts}

    def report_in_place(self, reporting: Any, details: dict[str, Any]) -> None:
        """Take a report of a task that runs in the thread of the engine, which makes no commit before it has ended."""
        if self._commits.dirty is not None:
            self._check(reporting, details)
        self.learn(reporting, details)
        i = self._run.plan.names.get(reporting.name)
        if i is not None:
            self._commits.report(i)

    def reporter_of(self, reporting: Any) -> Callable[[Any, dict[str, Any]], None] | None:
        """Return the receiver of the progress that a thread of a task reports, if the task is at work in this run."""
        i = self._index_of(reporting)
        at_work = i is not None and self._details[i].state in states.CALLED
        return self._report_from_thread if at_work else None

    def _report_from_thread(self, reporting: Any, details: dict[str, Any]) -> None:
        """Take a report of a thread that a task has started.

        While a task runs in place its thread is the engine's, and takes nothing from the mailbox. So the report is put
        on record at once, and published when the task has ended.
        """
        run, commits = self._run, self._commits
        if commits.dirty is not None:
            self._check(reporting, details)
        if run.in_flight:
            run.mailbox.put((reporting, details))
            return
        i = run.plan.names[reporting.name]
        with self.lock:
            if commits.dirty is None:
                self._note(i, details)
            elif self.in_place == i:  # what is saved next has not been begun
                self._note(i, details)
                commits.report(i)
        run.mailbox.put((reporting, _OnRecord(details)))
        self.unpublished = True

    def complete(self, detail: Any) -> None:
        """Note that all of a task is done, where its progress is on record: stores are read by others, too."""
        if self.unpublished:  # by threads of the task
            self.unpublished = False
            self._run.take_delivered()
            delivered = self._run.delivered
            while delivered and type(delivered[0][0]) is not base.Call:
                reporting, details = delivered.popleft()
                if reporting is not None:
                    self.learn(reporting, details)
        if detail.own_meta and metadata.PROGRESS in detail.own_meta:
            detail.own_meta[metadata.PROGRESS] = 1.0


class _OnRecord(dict[str, Any]):
    """Details of progress that are on record."""


def _publish_event(reporting: task.Task, event: base.Event) -> dict[str, Any] | None:
    """Call the subscribers of a task that runs elsewhere; returns the progress in the event, if there is some."""
    listened = reporting._tfx_listened
    if listened is not None:
        listened.tell_of(event.event_type, event.details)
    progressed = not event.by_engine and event.event_type == task.EVENT_UPDATE_PROGRESS
    return event.details if progressed and event.details and "progress" in event.details else None
