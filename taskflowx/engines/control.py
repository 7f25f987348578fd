"""What people who run a flow do to it besides `run`.

They suspend or cancel a run. Between two runs they have what failed made again, roll back, answer and skip: each of
these is refused while a run is under way, is on record with who and when, and works in another process
than the run, by an engine that was loaded from the record.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Generator
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx._util import arguments, clock as clocks
from taskflowx.engines import base, life, shared

if TYPE_CHECKING:
    import os
    import signal
    from collections.abc import Iterator

    from taskflowx.engines import aio, undoing
    from taskflowx.engines.by_hand import ByHand, Entry, OpenCall, Sign
    from taskflowx.engines.options import OnTimeout, Options
    from taskflowx.engines.preparation import Preparation
    from taskflowx.engines.resetting import Resetting
    from taskflowx.persistence.figures import Metrics
    from taskflowx.types.failure import Failure


class Controlled(base.Engine):
    """An engine with the verbs of operators; `ActionEngine` is the only one."""

    preparation: Preparation
    _resetting: Resetting
    _settings: Options

    @property
    def _clock(self) -> clocks.Clock:
        """The time by which it waits."""
        return self._settings.clock or clocks.SYSTEM

    # -- a run -------------------------------------------------------------------------------------

    def run_to_rest(self, timeout: float | None = None, *, on_timeout: OnTimeout = "suspend") -> str:
        """As `run`, but return the state in which the flow is left, whatever it is: a failed run raises nothing.

        :param timeout: as that of `run`
        :param on_timeout: as that of `run`
        :raises Exception: when the run could not come to its end, as its store has failed or an argument is missing
        """
        final = ""
        work = self._new_run(on_timeout)
        with contextlib.closing(self._iterate(timeout, work, stepwise=False)) as steps:
            for final in steps:  # noqa: B007 - the last one is the state of the flow
                pass
        return final

    async def arun_to_rest(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - it suspends, as that of `run`
        *,
        on_timeout: OnTimeout = "suspend",
    ) -> str:
        """As `run_to_rest`, awaited in an event loop, as `arun`."""
        return await self._awaited(timeout, stepwise=False, on_timeout=on_timeout).to_the_end()

    @property
    def metrics(self) -> Metrics:
        """The figures of the run so far, as far as its history has them; may be asked for in any thread."""
        from taskflowx.persistence import figures, owners  # who asks for no figures does without it

        storage, plan, log = self.storage, self.preparation.plan, self.storage.writes.log
        return figures.metrics(
            storage.history(),
            [detail.state for detail in storage.record.rows if detail is not None],
            commits=owners.count_of(self._flow_detail.revision),
            bytes_written=None if log is None else log.bytes_written,
            links=None if plan is None else figures.Links([atom and atom.name for atom in plan.atoms], plan.pred),
        )

    # -- a run that is to end ----------------------------------------------------------------------

    def suspend(self) -> None:
        """Let what runs finish, start nothing new, and leave the flow SUSPENDED; may be called from anywhere.

        It counts from the moment at which a run has begun to get ready. Without a run it does nothing.

        :raises InvalidState: when the flow has not been compiled, and no run is about to do that
        """
        work = life.current(self._flow_detail)
        if work is not None and work.engine is self:
            work.stop()
        else:
            self.preparation.compiled("suspend")

    def cancel(self, reason: str = "it was cancelled", rollback: bool = True) -> None:
        """Start nothing new, stop what runs, and roll everything back; may be called from anywhere.

        It may be called from any thread, coroutine or signal handler, and counts from the moment at which a run has
        begun to get ready. `run` raises `Cancelled` with the reason. Reverts that are under way go on. How a running
        call is stopped depends on the executor (`Executor.stops`). Without a run it does nothing.

        :param reason: the text of the `Cancelled`; kept in the record
        :param rollback: False to leave the flow SUSPENDED, to be run on
        :raises TypeError: when the reason is no str, or `rollback` no bool
        :raises InvalidState: when the flow has not been compiled, and no run is about to do that
        """
        arguments.check_type("reason", reason, str, "a str")
        arguments.check_type("rollback", rollback, bool, "True or False")
        work = life.current(self._flow_detail)
        if work is not None and work.engine is self:
            work.cancel(shared.Cancel(exceptions.Cancelled(reason), rollback))
        else:
            self.preparation.compiled("cancel")

    def not_undone(self) -> list[str]:
        """Return the names of the atoms whose effects still stand: those that ran and have not been reverted.

        The last ones are tasks that are on record and that the flow does not have any more.
        """
        return self.preparation.not_undone()

    # -- what is not known -------------------------------------------------------------------------

    def unknown(self) -> list[OpenCall]:
        """Return the calls of which somebody has to give the outcome: see `on_unknown` of a task.

        May be called at any time; also by an engine that was loaded from the record of a process that was killed.
        """
        self._find_record()
        if self.storage.get_flow_state() == states.REVERTED:
            return []
        return self._by_hand().open_calls(at_rest=life.current(self._flow_detail) is None)

    def resolve(self, name: str, result: object = None, *, by: str | None = None, reason: str | None = None) -> None:
        """Say that a call whose outcome is not known has had its effect, and what it has returned.

        The next run goes on from there.

        :param name: the task
        :param result: what its `execute` would have returned
        :param by: who says so; user, machine and process by default
        :param reason: for the record
        :raises NotFound: when the flow has no such task
        :raises InvalidState: when the call is not open, the flow is REVERTED, or a run is under way
        :raises ResultMismatch: when the result lacks a part that the task provides
        """
        sign = self._sign(by, reason)
        self._do("resolve", lambda: self._by_hand().resolve(name, result, sign))

    def resolve_failed(
        self, name: str, error: Exception | Failure, *, by: str | None = None, reason: str | None = None
    ) -> None:
        """Say that a call whose outcome is not known has failed.

        The next run asks the retries around it, and rolls back, as for any failure.

        :param name: the task
        :param error: the exception that it has failed with
        :param by: who says so; user, machine and process by default
        :param reason: for the record
        :raises NotFound: when the flow has no such task
        :raises InvalidState: when the call is not open, the flow is REVERTED, or a run is under way
        """
        sign = self._sign(by, reason)
        self._do("resolve", lambda: self._by_hand().resolve_failed(name, error, sign))

    # -- what is done by hand ----------------------------------------------------------------------

    def skip(self, name: str, result: object = None, *, by: str | None = None, reason: str | None = None) -> None:
        """Have an atom count as done, as somebody has done by hand what it was about to do.

        A task that has not run, was interrupted or has failed counts as one that has returned the result. An atom that
        is rolled back, or of which the revert has failed, counts as undone. What runs before a skipped task runs all
        the same; where its revert lacks a value of that in a rollback, it is to be undone by hand, and skipped again.

        :param name: the atom
        :param result: what its `execute` would have returned
        :param by: who has done it; user, machine and process by default
        :param reason: for the record
        :raises NotFound: when the flow has no such atom
        :raises InvalidState: when the atom has nothing to do, the flow is REVERTED, or a run is under way
        :raises ResultMismatch: when the result lacks a part that the task provides
        """
        sign = self._sign(by, reason)
        self._do("skip", lambda: self._by_hand().skip(name, result, sign))

    def by_hand(self) -> list[Entry]:
        """Return the manual actions on this run, in the order in which they were made."""
        from taskflowx.engines import by_hand

        return by_hand.entries_of(self._flow_detail)

    def reset_failed(self) -> list[str]:
        """Bring the atoms that have failed back to their beginning, so that the next run executes them again.

        What has succeeded stays, and what waits for them runs after them. It is meant for runs with `never_resolve`:
        what was rolled back is no failure any more. Returns the names of the atoms, none when nothing has failed.

        :raises InvalidState: when the engine is at work
        """
        names: list[str] = []
        self._do("reset", lambda: names.extend(self._resetting.reset_failed()))
        return names

    def retry_failed(
        self, timeout: float | None = None, *, by: str | None = None, reason: str | None = None
    ) -> list[str]:
        """Run again only what has failed, and what depends on it; returns the names of the atoms.

        After a run with `never_resolve` these execute again. After a rollback that stood still, the reverts that have
        failed are made again, and the rollback goes on. When nothing has failed, nothing runs.

        :param timeout: as that of `run`
        :param by: who wants it; user, machine and process by default
        :param reason: for the record
        :raises Exception: as `run`
        """
        names: list[str] = []
        final = ""
        for final in self._iterate(timeout, self._new_retry(names, by, reason), stepwise=False):  # noqa: B007 - the last
            pass
        if names:
            self._raise_for(final, timeout)
        return names

    async def aretry_failed(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - it suspends, as that of `run`
        *,
        by: str | None = None,
        reason: str | None = None,
    ) -> list[str]:
        """As `retry_failed`, awaited in an event loop, as `arun`."""
        names: list[str] = []
        final = await self._awaited(timeout, stepwise=False, work=self._new_retry(names, by, reason)).to_the_end()
        if names:
            self._raise_for(final, timeout)
        return names

    def _new_retry(self, names: list[str], by: str | None, reason: str | None) -> life.Work:
        """Return a run of what has failed.

        :param names: gets the names of the atoms
        """
        entry = self._sign(by, reason).entry("retry_failed")

        def first() -> bool:
            names.extend(self._resetting.reset_failed(entry))
            return bool(names)

        return life.Work(self, self._flow_detail, "run", first=first)

    # -- rollback ----------------------------------------------------------------------------------

    def rollback(
        self,
        timeout: float | None = None,
        *,
        to: str | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> None:
        """Undo all that stands: what ran and has not been reverted, also outside of a part that was reverted alone.

        A flow that is REVERTED, and of which nothing stands, is left as it is.

        :param timeout: seconds after which nothing new starts and the flow is left SUSPENDED, to be run on
        :param to: the name of an atom that has run, and stands: what ran after it is undone, and no more. The flow is
            then SUSPENDED, and `run` goes on after that atom
        :param by: who wants it; user, machine and process by default
        :param reason: for the record
        :raises NotFound: when the flow has no such atom
        :raises InvalidState: when the atom has not run, or is being undone itself, the flow is REVERTED, or what is
            undone could not run again, as a result that it takes was not kept
        :raises TimeoutError: when the time is up
        :raises Cancelled: when it was cancelled before that was done
        :raises Exception: the failure when something could not be undone; a `WrappedFailure` for several
        """
        final = ""
        for final in self._iterate(timeout, self._new_undo(to, by, reason), stepwise=False):  # noqa: B007 - the last
            pass
        if final != states.REVERTED or to is not None:  # that was cancelled
            self._raise_for(final, timeout)

    async def arollback(
        self,
        timeout: float | None = None,  # noqa: ASYNC109 - as above
        *,
        to: str | None = None,
        by: str | None = None,
        reason: str | None = None,
    ) -> None:
        """As `rollback`, awaited in an event loop, as `arun`."""
        final = await self._awaited(timeout, stepwise=False, work=self._new_undo(to, by, reason)).to_the_end()
        if final != states.REVERTED or to is not None:  # that was cancelled
            self._raise_for(final, timeout)

    def _new_undo(self, to: str | None, by: str | None, reason: str | None) -> life.Work:
        if to is not None:
            arguments.check_type("to", to, str, "the name of an atom")
        entry = self._sign(by, reason).entry("rollback")
        return life.Work(self, self._flow_detail, "run", first=lambda: self._undoing().begin(to, entry), undoes=True)

    # -- signals -----------------------------------------------------------------------------------

    @contextlib.contextmanager
    def suspend_on(self, *signals: signal.Signals) -> Iterator[None]:
        """Suspend the run when one of these signals comes while the block runs: `with engine.suspend_on(SIGTERM):`.

        What runs is let finish, nothing new starts, and the flow is left SUSPENDED. A second signal, and one that comes
        while nothing runs, does what it would have done without this.

        :param signals: one or more of `signal.Signals`
        :raises InvalidState: outside of the main thread, as Python sets handlers nowhere else
        :raises ValueError: for what is no signal, or one that cannot be handled
        """
        from taskflowx.engines import signals as handlers

        with handlers.suspending(self, signals):
            yield

    # -- what is shown -----------------------------------------------------------------------------

    def report(self, path: str | os.PathLike[str], *, values: bool = False, trace: bool = False) -> None:
        """Write a report of the run so far: one HTML file that needs nothing else. May be called from any thread.

        With `history=True` it has times, workers, the critical path and the order of a rollback.

        :param path: of the file
        :param values: whether results are shown; without it only their types and sizes are
        :param trace: whether a trace for Perfetto is written beside it, under the same name with the end
            `.perfetto-trace`
        :raises InvalidState: when a trace is wanted, and no history was kept
        :raises ImportError: when a trace is wanted, and the package `perfetto` is not installed
        """
        from taskflowx.engines import reporting  # who reports nothing does without it

        self.compile()
        reporting.write(path, self, self._flow_detail, values=values, trace=trace)

    # -- parts -------------------------------------------------------------------------------------

    def _find_record(self) -> None:
        """Have the flow compiled, and its record as it is: `prepare` begins again where the flow was reverted."""
        self.compile()
        if self.preparation.binder is None:
            self._alone("prepare", self.preparation.prepare)

    def _do(self, what: str, step: Callable[[], None]) -> None:
        """Do something by hand, while this engine owns the record."""
        self._find_record()

        def owned() -> None:
            writes = self.storage.writes
            with writes.owned(self._settings.lease, self._settings.commit_timeout, self._clock):
                writes.claim()  # before anything is changed: the run may be somebody else's
                step()

        self._alone(what, owned, in_a_run=False)

    def _sign(self, by: Any, reason: Any) -> Sign:
        from taskflowx.engines import by_hand  # who does nothing by hand does without sockets

        return by_hand.Sign.of(by, reason)

    def _by_hand(self) -> ByHand:
        from taskflowx.engines import by_hand

        return by_hand.ByHand(self.preparation, self.storage, self._resetting)

    def _undoing(self) -> undoing.Undoing:
        from taskflowx.engines import undoing

        return undoing.Undoing(self.preparation, self.storage, self._resetting)

    # -- what the engine has -----------------------------------------------------------------------

    def _alone(self, to: str, step: Callable[[], None], *, in_a_run: bool = True) -> None:
        raise NotImplementedError

    def _iterate(self, timeout: float | None, work: life.Work, *, stepwise: bool) -> Generator[str, Any, None]:
        raise NotImplementedError

    def _awaited(
        self,
        timeout: float | None,
        *,
        stepwise: bool,
        work: life.Work | None = None,
        on_timeout: OnTimeout = "suspend",
    ) -> aio.Awaited:
        raise NotImplementedError

    def _new_run(self, on_timeout: str = "suspend") -> life.Work:
        raise NotImplementedError

    def _raise_for(self, final: str, timeout: float | None) -> None:
        raise NotImplementedError

    def run(self, timeout: float | None = None) -> None:
        """Run the flow to its end, or go on where it was left."""
        raise NotImplementedError

    async def arun(self, timeout: float | None = None) -> None:  # noqa: ASYNC109 - as above
        """As `run`, awaited in an event loop."""
        raise NotImplementedError
