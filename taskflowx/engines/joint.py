"""Calls whose task writes rows of its own in the transaction that records its success.

Such a call is made in the thread of the engine, whatever the executor, as the transaction belongs to that thread.

What must stay true: the record never says that a call has succeeded whose rows were not committed, nor the reverse. So
the success of such a call is committed before it is published, and an outcome that was not committed is dropped: its
call was interrupted, and is made again. When an answer is lost, nothing is written before the store has said what it
has.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, signature, states
from taskflowx.record import metadata
from taskflowx.task import Task
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.binding import Binder
    from taskflowx.engines.commits import Commits
    from taskflowx.engines.inline import Inline
    from taskflowx.engines.plan import Plan
    from taskflowx.engines.shared import Run
    from taskflowx.executors.base import Call, Executor
    from taskflowx.persistence.base import JointTransaction
    from taskflowx.persistence.models import AtomDetail
    from taskflowx.record.writes import Writes


def check(plan: Plan, binder: Binder, writes: Writes, executor: Executor) -> None:
    """Refuse tasks that take a transaction where there is none that records their success.

    :raises CompilationFailure: names the task, and says why and what helps
    """
    for i, taken in binder.joint.items():
        atom = plan.atoms[i]
        why = writes.why_not_joint()
        if why is not None:
            why = f"{why}: use a SQL store, such as backend='sqlite:///runs.db'"
        elif not isinstance(atom, Task):
            why = "it is no task"
        elif executor.shares_memory is not True:
            why = f"executor='{executor.kind}' makes calls in other processes: use 'serial', 'threads' or 'asyncio'"
        elif any(atom._tfx_signature.asynchronous & signature.ASYNC_BIT[verb] for verb in taken):
            why = "it is a coroutine function, and the connection waits for the database: use a plain function"
        if why is not None:
            name = next(iter(taken.values()))
            raise exceptions.CompilationFailure(
                f"'{atom.name}' takes '{name}', the transaction that records its success, and gets none: {why}"
            )


class Joint:
    """Makes the calls of one run that take a transaction.

    :param run: the run
    :param commits: what is dirty
    """

    def __init__(self, run: Run, commits: Commits) -> None:
        self._run, self._commits = run, commits
        self._taken = run.binder.joint
        self._journal = run.storage.writes.journal
        self._opened: JointTransaction | None = None
        self._ends = contextlib.ExitStack()
        self._recorded = False
        #: the record of the task, as it is when the transaction was committed
        self._after: Any = None

    def concerns(self, call: Call) -> bool:
        """Tell whether a call takes a transaction, and has none yet."""
        return self._opened is None and call.index in self._taken and call.verb in self._taken[call.index]

    def make(self, call: Call, inline: Inline) -> None:
        """Make a call within a transaction.

        :param inline: makes it, and has its outcome recorded
        :raises StorageFailure: when there is no transaction; the call is requeued at the end of the run
        """
        run = self._run
        got_ready, run.got_ready = run.got_ready, (*run.got_ready, [call])
        with contextlib.ExitStack() as self._ends:
            opened = self._ends.enter_context(self._journal.joint())
            call.kwargs[self._taken[call.index][call.verb]] = opened.handle
            run.got_ready = got_ready
            self._opened, self._recorded = opened, False
            try:
                inline.make(call)
            except BaseException:
                if not self._recorded:
                    inline.made = None  # its rows are rolled back, unless they were committed
                    if opened.in_doubt:
                        self._note_doubt(opened, call.index)
                raise
            finally:
                self._opened = None

    def conclude(self, i: int, verb: str, outcome: Any) -> Any:
        """End the transaction, if there is one: commit it with the success of the call, or roll it back.

        Returns the outcome, or the failure in its place: what the task has written cannot be committed.

        :raises StorageFailure: when the store has failed; what it has then is known before anything else is written
        """
        opened, self._opened = self._opened, None
        if opened is None:
            return outcome
        if not isinstance(outcome, Failure):
            outcome = self._saved(opened, i, verb, outcome)
        self._recorded = True
        self._ends.close()
        return outcome

    def _saved(self, opened: JointTransaction, i: int, verb: str, outcome: Any) -> Any:
        detail, commits = self._run.details[i], self._commits
        commits.mark(i)
        self._after = after = _after(detail, verb, outcome)
        others = [self._run.details[j] for j in sorted({*(commits.dirty or ()), *commits.progressed} - {i})]
        try:
            self._journal.commit_jointly(opened, after, others)
        except exceptions.StorageFailure as error:
            if opened.in_doubt:
                self._ends.close()
                self._note_doubt(opened, i)
                if self._journal.settle():
                    return outcome
                opened.in_doubt = False
            if error.may_pass:
                raise
            return Failure.from_exception(error)
        return outcome

    def _note_doubt(self, opened: JointTransaction, i: int) -> None:
        self._journal.note_doubt(opened, self._run.details[i], self._after)


def _after(detail: AtomDetail, verb: str, outcome: Any) -> AtomDetail:
    """Return a copy of the record of a task, as it is when a call of it has succeeded."""
    after = detail.copy()
    if verb == states.EXECUTE:
        after.store(outcome)
        after.state = states.SUCCESS
        if after.own_meta and metadata.PROGRESS in after.own_meta:
            after.own_meta[metadata.PROGRESS] = 1.0
        return after
    after.revert_failure, after.revert_results, after.state = None, outcome, states.REVERTED
    if after.own_meta:
        after.own_meta.pop(metadata.WAKE, None)
    return after
