"""Runs the calls of one run in worker processes, and replaces those that die.

    scheduler ── submit ──→ pending ──→ worker: frames with calls, and their numbers ──→ (see `worker`)
        ↑                                                                                    │
        └── Mailbox.get ←── outcomes, progress, events ←── frames of what came of them ←─────┘

There is no thread: while the scheduler waits for its mailbox, it waits on the lines of all workers, and so manages
them. What must stay true:

- When a worker dies, the one call that it had begun is lost, and is a Failure; the others are sent to another worker.
- What follows a call for certain once that has succeeded is sent with it, where nothing else waits to be sent: a worker
  that is at a chain of short calls does not wait for the engine between them. What has begun so and what came of it is
  kept until the scheduler hands the call in; what has not begun can be taken back, as all calls can.
- Nothing here waits for a worker to take something in. A worker may wait for the engine, which always comes back.
"""

from __future__ import annotations

import array
import collections
import contextvars
import time
import weakref
from typing import TYPE_CHECKING, Any

from taskflowx.executors import base, pickling
from taskflowx.executors.processes import outcomes, output, policy, surroundings, values, wire
from taskflowx.executors.processes.handle import MOST_AHEAD, TO_END, Handle, end_all
from taskflowx.executors.processes.lookout import Lookout
from taskflowx.executors.processes.policy import AHEAD, Kind, Kinds
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskflowx.executors.processes.pool import ProcessPool

_NONE = array.array("I")
#: kinds of frames after which their call is over
_ENDS_CALL = (wire.NOT_BEGUN, wire.EXITED)
#: numbers of the calls of a worker come round again long after their calls have ended, and stay below that of no call
_NUMBERS = 1 << 31
#: those in which a run is under way
under_way: weakref.WeakSet[ProcessesExecutor] = weakref.WeakSet()


class ProcessesExecutor(base.Executor):
    """Runs the calls of one run at a time in the workers of a pool.

    :param pool: where workers come from
    :param keep: whether workers are given back to the pool after a run, or else end with it
    """

    pickles = True
    shares_memory = False
    can_kill = True

    def __init__(self, pool: ProcessPool, *, keep: bool = True) -> None:
        self._pool = pool
        self._keep = keep
        self._pending: collections.deque[base.Call] = collections.deque()
        self._workers: list[Handle] = []
        #: waits for what the workers send; None while no run is under way
        self._lookout: Lookout | None = None
        self._mailbox = base.Mailbox(self._wait)
        self._deliver: Callable[[tuple[Any, Any]], None] = self._refuse
        #: how many workers have died in a row that had not begun a call
        self._stillborn = 0
        self._unfit: Failure | None = None
        self._kinds = Kinds()
        #: that of the run, in which handlers of logs are called
        self._context = contextvars.copy_context()
        #: whether what is known of the workers is so: not while that changes, nor after an interrupt has come meanwhile
        self._sound = True
        #: index of the atom -> a follower that has not been handed in, its worker and its number
        self.followers: dict[int, tuple[base.Follower, Handle, int]] = {}

    @staticmethod
    def _refuse(item: tuple[Any, Any]) -> None:
        raise RuntimeError(f"{item[0]} was delivered to an executor that has not been started")

    def dumps(self, part: Any) -> bytes:
        """Pickle a part of an atom, with cloudpickle if it is installed and takes that."""
        return pickling.dumps(part)

    def make_queue(self) -> base.Mailbox:
        """Return a mailbox: who waits on it manages the workers."""
        self._mailbox = base.Mailbox(self._wait)
        return self._mailbox

    def start(self, deliver: Callable[[tuple[Any, Any]], None]) -> None:
        """Get ready to take calls; workers are started when they are needed."""
        self.stop()  # what is left of a run whose end was interrupted
        self._deliver = deliver
        self._stillborn = 0
        self._unfit = None
        self._sound = True
        self.followers.clear()
        if self._pool.max_tasks_per_worker is not None:
            self.follower_of = None
        self._lookout = Lookout()
        self._surroundings = surroundings.look(self.carry())
        self._context = contextvars.copy_context()
        under_way.add(self)

    def submit(self, calls: list[base.Call]) -> None:
        """Send calls to the workers, or keep them until these have room."""
        sound, self._sound = self._sound, False
        self._pending.extend(calls)
        self._share_out()
        self._sound = sound
        if self._pending:  # more may be to come, and the workers are to have something to do until it has
            self._manage(0.0)

    def hand_in(self, call: base.Call) -> list[tuple[Any, Any]]:
        """Have a call take the place of the follower that was sent for it; returns what was not delivered of that."""
        sound, self._sound = self._sound, False
        follower, one, number = self.followers.pop(call.index)
        if number in one.sent:
            one.sent[number] = call, *one.sent[number][1:]
            one.ahead -= 1
            if not self._pending and len(one.sent) <= policy.IN_ONE_GO // 2 and one.load <= AHEAD / 2:
                one.number %= _NUMBERS
                first = one.number + 1
                followers = self._add_followers(one)
                if followers:
                    self._send_off(one, followers, first)
        self._sound = sound
        return [(call if reporting is None else reporting, what) for reporting, what in follower.kept]

    def recall(self) -> list[base.Call]:
        """Give back the calls that no worker has begun."""
        sound, self._sound = self._sound, False
        left = [call for one in self._workers for call in self._handed_in(one.take_back())]
        left.extend(self._pending)
        self._pending.clear()
        self._sound = sound
        return left

    def withdraw(self) -> None:
        """Take back the followers that have not begun, and deliver what has come of the calls before the others."""
        sound, self._sound = self._sound, False
        for one in self._workers:
            if one.ahead:
                self._handed_in(one.take_back_followers())
                self._hear(one, everything=True)
        self._sound = sound

    def _handed_in(self, calls: list[base.Call]) -> list[base.Call]:
        """Return the calls without the followers among them, which are forgotten."""
        handed_in = []
        for call in calls:
            if isinstance(call, base.Follower):
                del self.followers[call.index]
            else:
                handed_in.append(call)
        return handed_in

    def stop(self) -> None:
        """Wait until all calls have been delivered, and end the workers or give them back.

        When the wait is interrupted, or it is not known for what to wait, the workers are killed: their calls are as if
        the engine had been.
        """
        if self._lookout is None:
            return
        try:
            while self._sound and (self._pending or any(one.sent for one in self._workers)):
                self._manage(None)
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

    def abandon(self) -> None:
        """Let go of a run that will not come to its end: the interpreter ends, or this process was forked from its."""
        if self._lookout is not None:
            self._lookout.close()
            self._lookout = None
            self._kill()

    def _kill(self) -> None:
        """Kill the workers, and deliver what they have said until then."""
        for one in self._workers:
            one.kill()
        while self._workers:
            one = self._workers.pop()
            one.is_dead(TO_END)
            self._hear(one, everything=True)  # a follower may have begun: what came of the call before it is recorded
            self._handed_in(one.take_back())
            one.close()
        self._pending.clear()

    # -- the workers -------------------------------------------------------------------------------

    def _wait(self, timeout: float | None) -> bool:
        """Manage the workers while the scheduler waits."""
        self._mailbox.wake = None if self._lookout is None else self._lookout.ring
        if not self._mailbox:
            self._manage(timeout)
        self._mailbox.wake = None
        return True

    def _manage(self, timeout: float | None) -> None:
        """Wait until something happens, or for so many seconds, and deal with it."""
        lookout, workers = self._lookout, self._workers
        assert lookout is not None, "somebody waits for an executor that has not been started"
        behind = not self._pending and policy.is_behind(workers)
        if behind:
            timeout = policy.PATIENCE if timeout is None else min(timeout, policy.PATIENCE)
        elif timeout != 0.0 and (seconds := policy.seconds_to_gather(workers)):
            time.sleep(seconds)  # noqa: TID251 - the workers go on meanwhile, and none waits for us yet
        happened = lookout.wait(timeout)
        self._mailbox.wake = None
        sound, self._sound = self._sound, False
        for line, has_room in happened:
            one = lookout.worker_at(line)
            if one is None:  # it was buried just now
                continue
            if has_room and one.channel.flush():
                lookout.leave(line)
            self._hear(one)
            if one.channel.closed or line == one.death:
                self._bury(one)
        if self._pending:
            self._share_out()
        elif behind and policy.is_behind(workers):
            self._even_out()
        self._sound = sound

    def _hear(self, one: Handle, *, everything: bool = False) -> None:
        """Deal with what a worker has sent.

        :param everything: whether nothing may be left for the next time
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
            kind, number, microseconds, body, descriptor = frames.popleft()
            if descriptor == wire.AWAITED:
                descriptor = one.channel.receive_descriptor()
            if kind == wire.ENDED and number in one.sent:
                call, alike, _ = one.sent[number]
                ahead = one.ahead
                one.drop(number)
                alike.learn(microseconds * 1e-6)
                outcome = outcomes.outcome(call, body, descriptor) if body else None
                if ahead:
                    self._learn_ahead(one, number, call, alike, outcome, flat=descriptor < 0)
                else:
                    deliver((call, outcome))
                continue
            self._read_other(one, kind, number, body, descriptor)

    def _read_other(self, one: Handle, kind: int, number: int, body: bytes, descriptor: int) -> None:
        """Deal with what is not the outcome of a call: all of it is data, and may cost a message or a call, no more."""
        under_way = one.sent[number][0] if number in one.sent else None
        atom = None if under_way is None else under_way.atom
        try:
            value = values.unpack(body, descriptor)
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
            return  # a follower that was dropped, and could not be read either; a thread that a task has left behind
        elif kind == wire.GIVEN_BACK:
            self._pending.extendleft(self._handed_in([one.drop(number)]))
            self._drop_followers(one, number)
        elif kind in _ENDS_CALL:
            call = one.drop(number)
            self._drop_followers(one, number)
            self._tell(call, None, base.NotBegun(value) if kind == wire.NOT_BEGUN else outcomes.exit_of(value))
        elif kind != wire.ENDED:
            self._tell(under_way, atom, value)

    def _learn_ahead(self, one: Handle, number: int, call: base.Call, kind: Kind, outcome: Any, *, flat: bool) -> None:
        """Deal with the outcome of a call in a worker that has followers."""
        if not (flat and values.is_flat(outcome)):
            self._drop_followers(one, number)
            kind.followed = isinstance(outcome, Failure)
        self._tell(call, None, outcome)

    def _tell(self, call: base.Call, reporting: Any, what: Any) -> None:
        """Deliver what came of a call, or of a follower when it is handed in.

        :param reporting: the task that reports progress, None for the outcome of the call
        """
        if isinstance(call, base.Follower):
            call.kept.append((reporting, what))
        else:
            self._deliver((call if reporting is None else reporting, what))

    def _drop_followers(self, one: Handle, number: int) -> None:
        """Forget what was sent with a call and does not begin, as this has failed or its result is not flat."""
        for following, (follower, *_) in list(one.sent.items()):
            if isinstance(follower, base.Follower) and follower.before == number:
                number = following
                self._handed_in([one.drop(number)])

    def _bury(self, one: Handle) -> None:
        """Deal with the death of a worker: what it was at is lost, what it had not begun is not."""
        if not one.is_dead(TO_END):  # a call has closed its line
            one.kill()
            one.is_dead(TO_END)
        self._hear(one, everything=True)
        self._forget(one)
        self._pending.extendleft(reversed(self._handed_in(one.take_back())))
        code = one.exit_code()
        lost = [one.drop(number) for number in list(one.sent)]
        self._stillborn = 0 if one.taken else self._stillborn + 1
        pid = one.process.pid
        one.close()
        for call in lost:
            self._tell(call, None, Failure.from_exception(outcomes.lost(pid, code, call.atom.name)))
        if self._unfit is not None or self._stillborn >= outcomes.STILLBORN:
            self._refuse_pending(self._unfit or Failure.from_exception(outcomes.lost(pid, code)))

    def _refuse_pending(self, failure: Failure) -> None:
        while self._pending:
            self._deliver((self._pending.popleft(), base.NotBegun(failure)))

    def _share_out(self) -> None:
        """Send calls to the workers that have room for them."""
        pending, workers, pool = self._pending, self._workers, self._pool
        if pool.max_tasks_per_worker is None and len(pending) == 1:  # the short way, of calls one by one
            for one in workers:
                if not one.sent:
                    self._send_alone(one, pending.popleft())
                    return
        self._share_out_many()

    def _share_out_many(self) -> None:
        pending, workers, pool = self._pending, self._workers, self._pool
        if pool.max_tasks_per_worker is not None:
            self._let_go([one for one in workers if not one.sent and pool.is_worn(one)])
        busy = sum(len(one.sent) - one.ahead for one in workers)
        while len(workers) < min(pool.max_workers, busy + len(pending)):
            try:
                self._add()
            except Exception as error:
                if workers:
                    break  # the system has no more processes: those that run do the work
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
        """Send a worker as many calls as it has room for, at most that many; returns how many."""
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
                calls += self._add_followers(one)
            self._send_off(one, calls, first + 1)
        return len(calls)

    def _send_alone(self, one: Handle, call: base.Call) -> None:
        """Send a call to a worker that has none: the short path of `_send`."""
        number = one.number = one.number % _NUMBERS + 1
        kind = self._kinds.of(call)
        one.load = kind.load
        one.sent[number] = call, kind, one.load
        self._send_off(one, [call, *self._add_followers(one)], number)

    def _add_followers(self, one: Handle) -> list[base.Call]:
        """Note that a worker is sent what follows the last of its calls, as much as it has room for; returns that."""
        followers: list[base.Call] = []
        follower_of, sent, ahead = self.follower_of, one.sent, self.followers
        if follower_of is None or not sent:
            return followers
        number, before = one.number, next(reversed(sent))
        call, kind, _ = sent[before]
        load = one.load
        while len(sent) < policy.IN_ONE_GO and kind.followed:
            follower = follower_of(call)
            if follower is None:
                break
            kind = self._kinds.of(follower)
            if kind.seconds is None or load + kind.seconds > AHEAD:
                break
            load += kind.seconds
            number += 1
            follower.before = before
            sent[number] = follower, kind, kind.seconds
            ahead[follower.index] = follower, one, number
            followers.append(follower)
            call, before = follower, number
        one.load = load
        one.ahead += len(followers)
        one.number = number
        return followers

    def _send_off(self, one: Handle, calls: list[base.Call], first: int) -> None:
        """Send calls that a worker has been given."""
        numbers = array.array("I", range(first, first + len(calls)))
        refused = one.send(calls, first)
        for number, call, error in refused:
            if number in one.sent:  # it does not follow another one that cannot be sent
                one.drop(number)
                self._drop_followers(one, number)
                if self._handed_in([call]):
                    self._deliver((call, base.NotBegun(Failure.from_exception(pickling.unsendable(call, error)))))
        if refused:
            numbers = array.array("I", [number for number in numbers if number in one.sent])
        if len(numbers) == len(one.sent):
            one.heard_at = time.monotonic()
        one.taken += len(numbers)
        if not one.channel.flush() and self._lookout is not None:
            self._lookout.watch_for_room(one)
        one.allow(numbers)

    def _let_go(self, worn: list[Handle]) -> None:
        """End workers that have done their share."""
        for one in worn:
            self._forget(one)
        end_all(worn)

    def _forget(self, one: Handle) -> None:
        self._workers.remove(one)
        if self._lookout is not None:
            self._lookout.leave_all_of(one)

    def _even_out(self) -> None:
        """Take calls that have not begun from a worker that has been at one for long, for one that is idle."""
        for one in policy.burdened(self._workers):
            self._handed_in(one.take_back_followers())
            # Those that would begin first: what is left behind is as long.
            self._pending.extend(one.take_back(len(one.sent) // 2))
        if self._pending:
            self._share_out()
