"""The short path of a step: a plain task is executed in the thread of the engine, and its record is stored.

A step is one commit. It carries the success of the task before, and that this one begins.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from taskflowx import states
from taskflowx._util import failpoints
from taskflowx.engines.transitions import ODD
from taskflowx.executors import base

if TYPE_CHECKING:
    from taskflowx.engines.commits import Commits
    from taskflowx.engines.inline import Inline
    from taskflowx.engines.progress import Progress
    from taskflowx.engines.shared import Run
    from taskflowx.engines.transitions import Transitions


class Steps:
    """Takes the steps of one run.

    It does what `Prepare.execute`, `Inline.make` and `Transitions.end` do, with their calls unfolded, and leaves to
    these what has more to it: arguments that are looked for, subscribers, limits, progress, failures.

    :param run: the run
    :param commits: what is dirty
    :param transitions: changes the states of atoms
    :param progress: takes the progress of tasks
    :param inline: keeps the call that is made
    :param otherwise: executes an atom with all that there is to it
    """

    def __init__(
        self,
        run: Run,
        commits: Commits,
        transitions: Transitions,
        progress: Progress,
        inline: Inline,
        otherwise: Callable[[int], None],
    ) -> None:
        self._run = run
        self._walk, self._details, self._atoms = run.walk, run.details, run.plan.atoms
        self._binder, self._lookup, self._notifier = run.binder, run.storage.lookup, run.notifier
        self._unstored = run.storage.writes.unstored
        self._commits = commits
        self._transitions = transitions
        self._progress = progress
        self._inline = inline
        self._otherwise = otherwise
        if run.log is not None:
            from taskflowx.executors import noted  # who keeps no history does without it

            self._worker = noted.worker

    def execute(self, i: int) -> None:
        """Execute an atom whose turn it is."""
        run, commits, progress, binder = self._run, self._commits, self._progress, self._binder
        detail, atom, caller = self._details[i], self._atoms[i], binder.callers[i]
        if (
            not self._walk.plain[i]
            or detail.state != states.PENDING
            or detail.failure is not None
            or atom._tfx_listened is not None
            or self._notifier._tfx_topics
            or self._unstored
            or run.to_count
            or run.deadline is not None
            or run.time_limits is not None
            or binder.version != self._lookup.bindings_version
            or (arguments := {} if caller is None else caller.fill(binder.sources[i])) is None
        ):
            self._otherwise(i)
            return
        call = base.Call(i, atom, states.EXECUTE, arguments)
        run.got_ready = ([call],)
        commits.dirty.add(i)  # type: ignore[union-attr] # the record is stored
        detail.state = states.RUNNING
        if commits.interval:
            commits.commit_if_due()
        else:
            commits.commit()
        run.got_ready = ()
        if run.log is not None:
            run.log.note_call(detail.name, self._worker())
        progress.in_place = i
        self._inline.made = made = call, run.context.copy().run(base.perform, atom, states.EXECUTE, arguments)
        with progress.lock:
            progress.in_place = -1
        outcome = made[1]
        if (
            type(outcome) in ODD
            or detail.own_meta
            or progress.unpublished
            or self._notifier._tfx_topics  # the task itself may have subscribed somebody
            or run.cancelled is not None
            or commits.storable(i, states.EXECUTE, outcome) is not outcome
        ):
            self._transitions.end(i, states.EXECUTE, outcome)
        else:
            if failpoints.on:
                failpoints.hit("after completion")
            detail.results = outcome
            commits.dirty.add(i)  # type: ignore[union-attr]
            detail.state = states.SUCCESS
            self._walk.ran(i)
        self._inline.made = None
