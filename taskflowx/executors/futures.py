"""Any `concurrent.futures.Executor`: the standard interface is the plug.

Each call is one `submit` of a `Carrier`, which can be pickled: where it arrives without having been pickled it shares
memory with the engine and reports progress at once; otherwise it collects progress and brings it back with the
outcome.
"""

from __future__ import annotations

import concurrent.futures
import functools
import uuid
from typing import TYPE_CHECKING, Any

from taskflowx import task
from taskflowx.executors import base
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable


class Brought:
    """What comes back from another process: the outcome, and the progress and events that were told on the way."""

    __slots__ = ("outcome", "progress")

    def __init__(self, outcome: Any, progress: list[Any]) -> None:
        self.outcome = outcome
        self.progress = progress

    def __reduce__(self) -> tuple[Any, ...]:
        return Brought, (self.outcome, self.progress)


class Carrier:
    """A call on its way to wherever it runs."""

    __slots__ = ("atom", "kwargs", "listened", "report", "verb")

    def __init__(
        self,
        atom: Any,
        verb: str,
        kwargs: dict[str, Any],
        report: Callable[[Any, dict[str, Any]], None] | None = None,
        listened: bool = False,
    ) -> None:
        self.atom = atom
        self.verb = verb
        self.kwargs = kwargs
        self.report = report  # takes progress; None in another process
        self.listened = listened  # whether somebody listens to the task where this comes from

    def __reduce__(self) -> tuple[Any, ...]:
        listened = getattr(self.atom, "_tfx_listened", None) is not None
        return Carrier, (self.atom, self.verb, self.kwargs, None, listened)

    def __dask_tokenize__(self) -> str:
        """Tell Dask that no call is like another one: it would take the result of the first for both."""
        return uuid.uuid4().hex

    def __call__(self) -> Any:
        """Run the call."""
        report, kept = self.report, task.PROGRESS.get()
        progress: list[Any] = []
        if report is not None:
            task.PROGRESS.set(report)
        else:
            atom = self.atom
            if self.listened:
                base.forward_events(atom, progress.append)
            task.PROGRESS.set(lambda reporting, details: progress.append(details) if reporting is atom else None)
        outcome: Any
        try:
            outcome = base.perform(self.atom, self.verb, self.kwargs)
        except BaseException as error:  # not raised here: there are executors that it would end
            outcome = base.Interrupt(error)
        finally:
            task.PROGRESS.set(kept)
        if report is not None:
            return outcome
        return Brought(outcome, progress) if progress else outcome


def _refuse(item: tuple[Any, Any]) -> None:
    msg = f"{item[0]} was delivered to an executor that has not been started"
    raise RuntimeError(msg)


class FuturesExecutor(base.Executor):
    """Runs calls on an executor with the interface of `concurrent.futures`.

    :param executor: an executor that the caller made and that is left open; or None
    :param make: makes an executor for each run, which is shut down after it; used when there is none
    :param pickles: whether atoms, arguments and results are known to be pickled on the way
    """

    def __init__(
        self,
        executor: concurrent.futures.Executor | None = None,
        make: Callable[[], concurrent.futures.Executor] | None = None,
        *,
        pickles: bool = False,
    ) -> None:
        self._make = make
        self.pickles = pickles
        # Of somebody else's we know only that those of the standard library with threads share memory.
        known = pickles or isinstance(executor, concurrent.futures.ThreadPoolExecutor)
        self.shares_memory = not pickles if known else None
        self.is_remote = False if known else None
        self._running = executor
        self._run = _Run(_refuse, None)
        self._report = self.reporter(_refuse)

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Make the executor, unless the caller gave one."""
        self.stop()  # what is left of a run whose end was interrupted
        self._run = _Run(deliver, self.make_queue())
        self._report = self.reporter(deliver)
        if self._make is not None:
            self._running = self._make()

    def submit(self, calls: list[base.Call]) -> None:
        """Submit each call by itself."""
        run, report = self._run, self._report
        for call in calls:
            carrier = Carrier(call.atom, call.verb, call.kwargs, report)
            try:
                future = self._submit(carrier)
            except Exception as error:  # a pool that is broken or shut down fails the call
                run.deliver((call, base.NotBegun(Failure.from_exception(error))))
                continue
            run.pending[future] = call
            future.add_done_callback(functools.partial(run.ended, call))
            run.expected += 1  # last: a call that an interrupt has kept from getting here is not waited for

    def _submit(self, carrier: Carrier) -> concurrent.futures.Future[Any]:
        try:
            return self._running.submit(carrier)  # type: ignore[union-attr]
        except concurrent.futures.BrokenExecutor:
            if self._make is None:
                raise
            # A worker has died. What it held has failed; the rest, a rollback above all, goes on in a new pool.
            self._running.shutdown(wait=True)  # type: ignore[union-attr]
            self._running = self._make()
            return self._running.submit(carrier)

    def recall(self) -> list[base.Call]:
        """Give back the calls that can still be cancelled."""
        run, left = self._run, []
        for future, call in list(run.pending.items()):
            # Taken out first: whoever takes a future out decides what becomes of its call.
            if run.pending.pop(future, None) is not None:
                if future.cancel():
                    run.expected -= 1
                    left.append(call)
                else:
                    run.pending[future] = call
                    if future.done():
                        run.ended(call, future)
        return left

    def stop(self) -> None:
        """Wait until all calls have been delivered, and shut down what was made for the run."""
        run = self._run
        while len(run.delivered) < run.expected:
            run.woken.get()
        if self._make is not None and self._running is not None:
            self._running.shutdown(wait=True)
            self._running = None


class _Run:
    """The calls of one run: a call that ends after its run was abandoned is delivered to nobody else's."""

    def __init__(self, deliver: Callable[[tuple[Any, Any]], None], woken: Any) -> None:
        self.deliver = deliver
        self.pending: dict[concurrent.futures.Future[Any], base.Call] = {}
        self.expected = 0  # how many were submitted, less those recalled
        self.delivered: list[None] = []  # as long as there were deliveries; whatever thread may append to it
        self.woken = woken  # a queue, as `make_queue` gives it: something is put in after each delivery

    def ended(self, call: base.Call, future: concurrent.futures.Future[Any]) -> None:
        """Deliver what came of a call, unless it has been recalled."""
        if self.pending.pop(future, None) is None:
            return
        outcome: Any
        try:
            outcome = future.result()
            if isinstance(outcome, Brought):
                for details in outcome.progress:
                    self.deliver((call.atom, details))
                outcome = outcome.outcome
        except concurrent.futures.CancelledError as error:  # somebody else did that, as when the executor is shut down
            outcome = base.NotBegun(Failure.from_exception(error))
        except Exception as error:
            outcome = Failure.from_exception(error)
        except BaseException as error:
            outcome = base.Interrupt(error)
        self.deliver((call, outcome))
        self.delivered.append(None)
        self.woken.put(None)
