"""Runs the calls of one run in worker processes, and replaces workers that die.

    scheduler ── submit ──→ pending ──→ worker: frames with calls, and their numbers ──→ (see `worker`)
        ↑                                                                                    │
        └── Mailbox.get ←── outcomes, progress, events ←── frames with outcomes ←────────────┘

There is no thread: waiting on the mailbox polls the sockets of all workers, and manages the workers. What must stay
true:

- When a worker dies, the one call that it had started is lost, and becomes a Failure; its other calls are requeued.
- To interrupt a call, its worker is killed, with its process group. It dies as any other: only the Failure differs.
- The calls of a chain are sent with its first, if nothing else waits to be sent: a worker runs a chain of short calls
  without waiting for the engine. They have consecutive numbers. When a call has succeeded, the next one is as if it had
  been submitted; when it has not, or its result is not flat, those after it are dropped. The worker decides that.
- Nothing here blocks on a worker. A worker may block on the engine, which always returns to its sockets.
"""

from __future__ import annotations

import array
import collections
import contextvars
import time
import weakref
from typing import TYPE_CHECKING, Any

from taskflowx.executors import base, pickling, stopping
from taskflowx.executors.processes import outcomes, output, policy, surroundings, values, wire
from taskflowx.executors.processes.handle import MOST_AHEAD, TO_END, Handle, end_all
from taskflowx.executors.processes.lookout import Lookout
from taskflowx.executors.processes.policy import AHEAD, Kinds
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskflowx.executors.processes.pool import ProcessPool

_NONE = array.array("I")
#: kinds of frames with an outcome of the atom, and those that end their call without one
_OUTCOMES, _ENDS_CALL = (wire.ENDED, wire.CONTINUES), (wire.NOT_BEGUN, wire.EXITED)
#: numbers wrap around long after their calls have ended, and stay below `STOP`
_NUMBERS = 1 << 31
#: the executors with a run in progress
under_way: weakref.WeakSet[ProcessesExecutor] = weakref.WeakSet()


class ProcessesExecutor(base.Executor):
    """Runs the calls of one run at a time in the workers of a pool.

    :param pool: the pool from which workers are taken
    :param keep: whether workers are returned to the pool after a run; otherwise they end with it
    """

    kind = "processes"
    pickles = True
    shares_memory = False
    can_kill = True
    stops = "kills"

    def __init__(self, pool: ProcessPool, *, keep: bool = True) -> None:
        self._pool = pool
        self._keep = keep
        self._pending: collections.deque[base.Call] = collections.deque()
        self._workers: list[Handle] = []
        #: polls the sockets of the workers; None while no run is in progress
        self._lookout: Lookout | None = None
        self._mailbox = base.Mailbox(self._wait)
        self._deliver: Callable[[tuple[Any, Any]], None] = self._refuse
        #: how many workers in a row have died before their first call
        self._failed_starts = 0
        self._unfit: Failure | None = None
        self._kinds = Kinds()
        #: the context of the run, in which log handlers are called
        self._context = contextvars.copy_context()
        #: whether the state of the workers is consistent: false during a change, and after an interrupt in one
        self._sound = True
        self.chained: set[int] = set()

    @property
    def width(self) -> int | None:
        """How many calls begin at once."""
        return self._pool.max_workers

    @staticmethod
    def _refuse(item: tuple[Any, Any]) -> None:
        raise RuntimeError(f"{item[0]} was delivered to an executor that has not been started")

    def dumps(self, part: Any) -> bytes:
        """Pickle a part of an atom, with cloudpickle if it is installed and accepts it."""
        return pickling.dumps(part)

    def make_queue(self) -> base.Mailbox:
        """Return a mailbox; waiting on it manages the workers."""
        self._mailbox = base.Mailbox(self._wait)
        return self._mailbox

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Prepare to take calls; workers are started on demand."""
        self.stop()  # discards a run whose end was interrupted
        self._deliver = deliver
        self._failed_starts = 0
        self._unfit = None
        self._sound = True
        self.chained.clear()
        if self._pool.max_tasks_per_worker is not None:
            self.next_of = None
        self._lookout = Lookout()
        self._surroundings = surroundings.look(self.carry())
        self._context = contextvars.copy_context()
        under_way.add(self)

    def submit(self, calls: list[base.Call]) -> None:
        """Send calls to the workers, or queue them until there is room."""
        sound, self._sound = self._sound, False
        self._pending.extend(calls)
        self._dispatch()
        self._sound = sound
        if self._pending:  # more calls may come, and the workers need something to do until then
            self._manage(0.0)

    def recall(self) -> list[base.Call]:
        """Cancel the calls that no worker has started, and return them."""
        sound, self._sound = self._sound, False
        left = [call for one in self._workers for call in self._unchained(one.take_back())]
        left.extend(self._pending)
        self._pending.clear()
        self._sound = sound
        return left

    def under_way(self) -> list[base.Call]:
        """Return the calls that workers hold."""
        return [call for one in self._workers for call, _, _ in one.sent.values()]

    def interrupt(self, call: base.Call, error: BaseException) -> None:
        """Kill the worker of a call, and the programs that it has started; a call that has not started is dropped.

        :param error: what the call has then failed with
        """
        if hasattr(call, "stop"):
            return
        sound, self._sound = self._sound, False
        pending = self._pending
        for one in self._workers:
            if call not in pending and one.has(call):
                pending.extendleft(reversed(self._unchained(one.take_back())))
                self._hear(one, everything=True)
                if one.has(call):
                    call.stop = stopping.Stop(error)
                    one.kill(group=True)
        if call in pending:
            pending.remove(call)
            call.stop = stopping.Stop(error)
            self._deliver(base.not_begun(call))
        if pending:
            self._dispatch()
        self._sound = sound

    def unchain(self) -> None:
        """Drop the chained calls that have not started, and deliver the outcomes of the predecessors of the others."""
        if self.chained:
            sound, self._sound = self._sound, False
            for one in self._workers:
                self._unchained(one.take_back(of=self.chained))
                self._hear(one, everything=True)
            self._sound = sound

    def _unchained(self, calls: list[base.Call]) -> list[base.Call]:
        """Return the calls without the chained ones among them, which are dropped."""
        submitted = [call for call in calls if call.index not in self.chained]
        self.chained.difference_update([call.index for call in calls])
        return submitted

    def stop(self) -> None:
        """Wait until all calls have been delivered, and end the workers or return them to the pool.

        When the wait is interrupted, or the state of the workers is inconsistent, the workers are killed: their calls
        are in the state that a killed engine would leave.
        """
        if self._lookout is None:
            return
        try:
            self._work_off()
            if not self._sound:
                self._kill()
        except BaseException:
            self._kill()
            raise
        finally:
            self._lookout.close()
            self._lookout = None
            under_way.discard(self)
            workers, self._workers = self._workers, []
            self._pool.give_back(workers, keep=self._keep)

    def _work_off(self) -> None:
        # A loop of its own: in CPython 3.12 and 3.13 the end of a turn of `while` does not belong to a `try` around it.
        while self._sound and (self._pending or any(one.sent for one in self._workers)):
            self._manage(None)

    def leave(self) -> None:
        """Release a run that will not end: the interpreter ends, or this process was forked from the engine's."""
        if self._lookout is not None:
            self._lookout.close()
            self._lookout = None
            self._kill()

    def _kill(self) -> None:
        """Kill the workers, and deliver the frames that they have sent."""
        for one in self._workers:
            one.kill(group=True)
        while self._workers:
            one = self._workers.pop()
            one.is_dead(TO_END)
            self._hear(one, everything=True)  # a chained call may have started: deliver the outcome of the one before
            self._unchained(one.take_back())
            one.close()
        self._pending.clear()

    # -- the workers -------------------------------------------------------------------------------

    def _wait(self, timeout: float | None) -> bool:
        """Manage the workers while the scheduler waits."""
        self._mailbox.wake = None if self._lookout is None else self._lookout.wake
        if not self._mailbox:
            if self.chained and not self._pending:
                self._extend_chains()
            self._manage(timeout)
        self._mailbox.wake = None
        return True

    def _manage(self, timeout: float | None) -> None:
        """Wait for an event, for at most `timeout` seconds, and handle it."""
        lookout, workers = self._lookout, self._workers
        assert lookout is not None, "an executor that has not been started cannot wait"
        behind = not self._pending and policy.is_behind(workers)
        if behind:
            timeout = policy.REBALANCE_AFTER if timeout is None else min(timeout, policy.REBALANCE_AFTER)
        elif timeout != 0.0 and (seconds := policy.seconds_to_coalesce(workers)):
            time.sleep(seconds)  # noqa: TID251 - the workers run meanwhile, and none waits for the engine yet
        happened = lookout.wait(timeout)
        self._mailbox.wake = None
        sound, self._sound = self._sound, False
        for line, has_room in happened:
            one = lookout.worker_at(line)
            if one is None:  # it was reaped in this loop
                continue
            if has_room and one.channel.flush():
                lookout.leave(line)
            self._hear(one)
            if one.channel.closed or line == one.death:
                self._reap(one)
        if self._pending:
            self._dispatch()
        elif behind and policy.is_behind(workers):
            self._rebalance()
        self._sound = sound

    def _hear(self, one: Handle, *, everything: bool = False) -> None:
        """Handle the frames that a worker has sent.

        :param everything: whether to read until nothing is left
        """
        received = wire.CHUNK
        while received and (everything or received == wire.CHUNK):
            received = one.channel.receive()
            if one.channel.frames:
                one.heard_at = time.monotonic()
                self._read(one)
        if one.holds_back:
            one.allow(_NONE)

    def _read(self, one: Handle) -> None:
        frames, deliver = one.channel.frames, self._deliver
        while frames:
            kind, number, microseconds, body, file = frames.popleft()
            if file is wire.AWAITED:
                file = one.channel.receive_file()
            if kind in _OUTCOMES and number in one.sent:
                call, alike, _ = one.sent[number]
                one.drop(number)
                alike.learn(call, microseconds)
                outcome = outcomes.outcome(call, body, file) if body else None
                if one.ahead:
                    if kind == wire.CONTINUES:
                        one.follow(number + 1, outcome)
                    else:
                        self._drop_chain(one, number)
                        alike.followed = isinstance(outcome, Failure)
                deliver((call, outcome))
                continue
            self._read_other(one, kind, number, body, file)

    def _read_other(self, one: Handle, kind: int, number: int, body: bytes, file: values.Descriptor | None) -> None:
        """Handle a frame other than an outcome: it is data, and its loss costs at most a message or a call."""
        under_way = one.sent[number][0] if number in one.sent else None
        atom = None if under_way is None else under_way.atom
        try:
            value = outcomes.recognized(values.unpack(body, file))
        except Exception as error:
            if kind in _ENDS_CALL or kind == wire.UNFIT:
                value = Failure.from_exception(error)
            else:
                output.warn_of_unread(atom, error)
                return
        if kind == wire.UNFIT:
            self._unfit = value
        elif kind in (wire.WROTE, wire.LOGGED):
            self._context.run(output.show, kind, value, atom)
        elif kind == wire.ENDS:
            output.warn_of_end(one.process.pid, value)
        elif under_way is None:
            return  # an unreadable chained call that was dropped, or a thread that a task has left behind
        elif kind == wire.GIVEN_BACK:
            self._pending.extendleft(self._unchained([one.drop(number)]))
            self._drop_chain(one, number)
        elif kind in _ENDS_CALL:
            one.drop(number)
            self._drop_chain(one, number)
            outcome = base.NotBegun(value) if kind == wire.NOT_BEGUN else outcomes.exit_of(value)
            self._deliver((under_way, outcome))
        else:
            self._deliver((atom, value))

    def _drop_chain(self, one: Handle, number: int) -> None:
        """Drop the calls of a chain after one: they do not start, as it has failed or its result is not flat."""
        while one.awaits(number := number + 1):
            self._unchained([one.drop(number)])

    def _reap(self, one: Handle) -> None:
        """Reap a dead worker: its running call is lost, the calls that it had not started are requeued."""
        if not one.is_dead(TO_END):  # a call has closed its socket
            one.kill()
            one.is_dead(TO_END)
        self._hear(one, everything=True)
        self._forget(one)
        self._pending.extendleft(reversed(self._unchained(one.take_back())))
        code = one.exit_code()
        lost = [one.drop(number) for number in list(one.sent)]
        self._failed_starts = 0 if one.taken else self._failed_starts + 1
        pid = one.process.pid
        one.close()
        for call in lost:
            error = call.stopped_by or outcomes.lost(pid, code, call.atom.name)
            self._deliver((call, Failure.from_exception(error)))
        if self._unfit is not None or self._failed_starts >= outcomes.FAILED_STARTS:
            self._refuse_pending(self._unfit or Failure.from_exception(outcomes.lost(pid, code)))

    def _refuse_pending(self, failure: Failure) -> None:
        while self._pending:
            self._deliver((self._pending.popleft(), base.NotBegun(failure)))

    def _dispatch(self) -> None:
        """Dispatch pending calls to the workers that have room."""
        pending, workers, pool = self._pending, self._workers, self._pool
        if pool.max_tasks_per_worker is None and len(pending) == 1:  # the fast path for single calls
            for one in workers:
                if not one.sent:
                    self._send_alone(one, pending.popleft())
                    return
        self._dispatch_many()

    def _dispatch_many(self) -> None:
        pending, workers, pool = self._pending, self._workers, self._pool
        if pool.max_tasks_per_worker is not None:
            self._let_go([one for one in workers if not one.sent and pool.is_used_up(one)])
        busy = sum(len(one.sent) - one.ahead for one in workers)
        while len(workers) < min(pool.max_workers, busy + len(pending)):
            try:
                self._add()
            except Exception as error:
                if workers:
                    break  # the system has no more processes: the running workers do the work
                self._refuse_pending(Failure.from_exception(error))
                return
        if len(workers) > 1:
            workers.sort(key=policy.by_load)
        a_part = min(policy.IN_ONE_GO, -(-len(pending) // len(workers)))
        sent = True
        while pending and sent:
            sent = False
            for one in workers[:]:
                if self._send(one, a_part):
                    sent = True

    def _add(self) -> None:
        one = self._pool.take()
        one.adopt(self._surroundings)
        self._workers.append(one)
        if self._lookout is not None:
            self._lookout.watch(one)

    def _send(self, one: Handle, most: int) -> int:
        """Send a worker as many calls as it has room for, at most `most`; returns how many."""
        pending, sent = self._pending, one.sent
        limit = self._pool.max_tasks_per_worker
        if limit is not None:
            most = min(most, limit - one.taken)
        calls: list[base.Call] = []
        first, load, room = one.number % _NUMBERS, one.load, MOST_AHEAD - len(sent)
        while pending and len(calls) < most and len(calls) < room:
            call = pending[0]
            kind = self._kinds.of(call)
            seconds = kind.load
            if sent and load + seconds > AHEAD:
                break
            load += seconds
            pending.popleft()
            calls.append(call)
            sent[first + len(calls)] = call, kind, seconds
        if calls:
            one.number = first + len(calls)
            one.load = load
            if not pending:
                calls += self._continue_chain(one)
            self._flush(one, calls, first + 1)
        return len(calls)

    def _send_alone(self, one: Handle, call: base.Call) -> None:
        """Send a call to an idle worker: the fast path of `_send`."""
        number = one.number = one.number % _NUMBERS + 1
        kind = self._kinds.of(call)
        one.load = kind.load
        one.sent[number] = call, kind, one.load
        self._flush(one, [call, *self._continue_chain(one)], number)

    def _extend_chains(self) -> None:
        """Send more calls of the chains that workers run along."""
        sound, self._sound = self._sound, False
        for one in self._workers:
            if one.ahead and len(one.sent) <= policy.IN_ONE_GO // 2 and one.load <= AHEAD / 2:
                one.number %= _NUMBERS
                first = one.number + 1
                calls = self._continue_chain(one)
                if calls:
                    self._flush(one, calls, first)
        self._sound = sound

    def _continue_chain(self, one: Handle) -> list[base.Call]:
        """Record the next calls of the chain of a worker's last call as sent, as far as there is room; returns them."""
        calls: list[base.Call] = []
        next_of, sent, number = self.next_of, one.sent, one.number
        if next_of is None or number not in sent:
            return calls
        (call, kind, _), load = sent[number], one.load
        while len(sent) < policy.IN_ONE_GO and kind.followed:
            following = next_of(call)
            if following is None:
                break
            call, kind = following, self._kinds.of(following)
            if kind.seconds is None or load + kind.seconds > AHEAD:
                break
            load += kind.seconds
            number += 1
            sent[number] = call, kind, kind.seconds
            self.chained.add(call.index)
            calls.append(call)
        one.load = load
        one.ahead += len(calls)
        one.number = number
        return calls

    def _flush(self, one: Handle, calls: list[base.Call], first: int) -> None:
        """Send calls that are recorded as sent to a worker."""
        numbers = array.array("I", range(first, first + len(calls)))
        refused = one.send(calls, first)
        for number, call, error in refused:
            if number in one.sent:  # the calls before it in its chain can be sent
                one.drop(number)
                self._drop_chain(one, number)
                if self._unchained([call]):
                    self._deliver((call, base.NotBegun(Failure.from_exception(pickling.unsendable(call, error)))))
        if refused:
            numbers = array.array("I", [number for number in numbers if number in one.sent])
        if len(numbers) == len(one.sent):
            one.heard_at = time.monotonic()
        one.taken += len(numbers)
        if not one.channel.flush() and self._lookout is not None:
            self._lookout.watch_for_room(one)
        one.allow(numbers)

    def _let_go(self, used_up: list[Handle]) -> None:
        """End recycled workers."""
        for one in used_up:
            self._forget(one)
        end_all(used_up)

    def _forget(self, one: Handle) -> None:
        self._workers.remove(one)
        if self._lookout is not None:
            self._lookout.leave_all_of(one)

    def _rebalance(self) -> None:
        """Rebalance: requeue calls that wait behind a long call, for a worker that is idle."""
        for one in policy.burdened(self._workers):
            self._unchained(one.take_back(of=self.chained))
            # The first ones: the remaining calls take as long.
            self._pending.extend(one.take_back(len(one.sent) // 2))
        if self._pending:
            self._dispatch()
