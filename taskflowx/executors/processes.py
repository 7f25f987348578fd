"""Our own worker processes, which are replaced when they die.

    scheduler ── submit ──→ pending ──→ worker: frames with calls, and their numbers ──→ (see `worker`)
        ↑                                                                                    │
        └── Mailbox.get ←── outcomes, progress, events ←── frames of what came of them ←─────┘

There is no thread: while the scheduler waits for its mailbox, it waits on the lines of all workers, and so manages
them. What must stay true:

- It is known which worker holds which calls, and by its numbers (see `worker`) which of them has begun. When a worker
  dies, that one call is lost, and is a Failure; the others are sent to another worker.
- Short calls are sent ahead, as many as take about `_AHEAD` seconds by what calls of their kind have taken so far;
  long ones, and those of a kind that has not been seen, one by one. So a worker has something to do while the engine
  is busy. What has been sent and has not begun can be taken back: for a worker that is idle, and when the run stops.
- What follows a call for certain once that has succeeded is sent with it, where nothing else waits to be sent: a worker
  that is at a chain of short calls does not wait for the engine between them. What has begun so and what came of it is
  kept until the scheduler hands the call in; what has not begun can be taken back, as all calls can.
- Nothing here waits for a worker to take something in. A worker may wait for the engine, which always comes back.
"""

from __future__ import annotations

import array
import collections
import contextlib
import logging
import math
import multiprocessing
import os
import pickle
import select
import signal
import socket
import sys
import time
import weakref
from multiprocessing import util
from typing import TYPE_CHECKING, Any, Self

from taskflowx import exceptions, states
from taskflowx.executors import base, wire, worker
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

LOG = logging.getLogger(__name__)

#: seconds of work that a worker is sent ahead
_AHEAD = 0.01
#: how many calls at most, whatever they take, and how many in one go
_MOST_AHEAD, _IN_ONE_GO = 1024, 256
#: while each worker has so many calls, what they send is gathered for so many seconds at least before it is read
_MANY, _GATHER = 16, 0.0003
#: seconds after which calls that wait behind another one are taken from a worker for one that is idle
_PATIENCE = 0.002
#: seconds that a worker has to end when it has closed its line
_TO_END = 5.0
#: so many workers in a row may die before they have done anything
_STILLBORN = 3
_NONE = array.array("I")
#: numbers of calls come round again long after their calls have ended, and stay below that of no call
_NUMBERS = 1 << 31
#: our ends of the lines to workers, and the pools: of no use to a process that is forked from this one
_lines: set[socket.socket] = set()
_pools: weakref.WeakSet[ProcessPool] = weakref.WeakSet()
_forked = False


def _begin_anew() -> None:
    """In a process that was forked: let go of what belongs to the one that it was forked from."""
    global _forked  # noqa: PLW0603 - it is about the process
    _forked = True
    while _lines:
        os.close(_lines.pop().detach())
    for pool in list(_pools):
        pool.forget()


os.register_at_fork(after_in_child=_begin_anew)


class ProcessPool:
    """Worker processes that are kept from run to run: `engines.load(flow, executor=pool)`.

    Each run takes the workers that it needs, and starts those that are not there; after it as many as `max_workers` are
    kept. Several engines may use a pool at the same time, each with as many workers. `executor='processes'` uses a pool
    that is closed with the run.

    :param max_workers: how many calls of a run may run at once; as many as there are CPUs by default
    :param max_tasks_per_worker: after so many calls a worker is replaced by a new one
    :param initializer: is called in each worker before its first call, with `initargs`
    :param start_method: 'forkserver' (the default where there is one: it is safe with threads), 'spawn' or 'fork'
    :raises ValueError: when a number is not positive, or there is no such start method
    :raises TypeError: when the initializer cannot reach a worker
    :raises RuntimeError: where eventlet has monkey-patched sockets
    """

    def __init__(
        self,
        max_workers: int | None = None,
        *,
        max_tasks_per_worker: int | None = None,
        initializer: Callable[..., Any] | None = None,
        initargs: tuple[Any, ...] = (),
        start_method: str | None = None,
    ) -> None:
        patcher = sys.modules.get("eventlet.patcher")
        if patcher is not None and patcher.is_monkey_patched("socket"):
            raise RuntimeError(
                "Worker processes do not work in a process that eventlet has monkey-patched: its sockets do not reach "
                "other processes; use executor='threads' or 'greenthreads'"
            )
        counts: dict[str, Any] = {"max_workers": max_workers, "max_tasks_per_worker": max_tasks_per_worker}
        for name, value in counts.items():
            if value is not None and (not isinstance(value, int) or value < 1):
                raise ValueError(f"{name} must be a positive number or None, not {value!r}")
        known = multiprocessing.get_all_start_methods()
        if start_method is None:
            start_method = _default_start_method()
        elif start_method not in known:
            raise ValueError(f"start_method must be one of {known}, not {start_method!r}")
        if initializer is not None and start_method != "fork":
            try:
                pickle.dumps((initializer, initargs))
            except Exception as error:
                raise TypeError(f"The initializer or its arguments cannot reach a worker: {error}") from error
        self.max_workers = max_workers or os.cpu_count() or 1
        self.max_tasks_per_worker = max_tasks_per_worker
        self._initializer = initializer
        self._initargs = initargs
        self._context: Any = multiprocessing.get_context(start_method)
        #: workers that no run uses
        self._idle: collections.deque[_Worker] = collections.deque()
        # Python waits for processes when it ends, and these wait for calls.
        self._finalizer = util.Finalize(self, _end, (self._idle,), exitpriority=10)
        _pools.add(self)

    def taskflowx_executor(self) -> ProcessesExecutor:
        """Return what an engine hands its calls to."""
        return ProcessesExecutor(self)

    def take(self) -> _Worker:
        """Return a worker that nobody else uses."""
        with contextlib.suppress(IndexError):
            while True:
                kept = self._idle.popleft()
                if kept.process.is_alive():
                    return kept
                kept.close()
        return _Worker(self._context, self._initializer, self._initargs)

    def give_back(self, workers: Iterable[_Worker], *, keep: bool) -> None:
        """Take workers that have nothing to do.

        :param keep: whether they may be kept for another run
        """
        ended = []
        for one in workers:
            if keep and len(self._idle) < self.max_workers and not self.is_worn(one):
                self._idle.append(one)
            else:
                ended.append(one)
        _end(ended)

    def is_worn(self, one: _Worker) -> bool:
        """Tell whether a worker has had its share of calls."""
        return self.max_tasks_per_worker is not None and one.taken >= self.max_tasks_per_worker

    def forget(self) -> None:
        """Let go of workers that belong to the process that this one was forked from."""
        self._idle.clear()
        if self._context.get_start_method() == "forkserver":
            self._context = multiprocessing.get_context(_default_start_method())

    def close(self) -> None:
        """End the workers that no run uses."""
        _end(self._idle)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _default_start_method() -> str:
    """Return what is safe with threads: not 'fork'. A forked process cannot use the fork server of its parent."""
    return "forkserver" if "forkserver" in multiprocessing.get_all_start_methods() and not _forked else "spawn"


def _end(workers: collections.deque[_Worker] | list[_Worker]) -> None:
    """Tell workers that there will be no more calls, and wait for them to end."""
    ending = []
    while workers:
        ending.append(workers.pop())
        ending[-1].tell_to_end()
    for one in ending:
        one.close()


class _Kind:
    """What is known of calls that are thought to be alike."""

    __slots__ = ("followed", "seconds")

    def __init__(self) -> None:
        #: how many seconds one is thought to take; None while none has ended
        self.seconds: float | None = None
        #: whether what follows one is sent with it; not where results are not flat
        self.followed = True


class _Worker:
    """A worker process as the engine sees it."""

    __slots__ = ("_to_allow", "ahead", "channel", "heard_at", "known", "load", "process", "sent", "taken", "tokens")

    def __init__(self, context: Any, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        ours, theirs = socket.socketpair()
        tokens_in, tokens = socket.socketpair()
        their_tokens = tokens.dup()
        pipe, their_pipe = context.Pipe(duplex=False)
        lines = {ours, tokens_in, tokens}
        _lines.update(lines)
        setup = worker.Setup(initializer, initargs, _levels())
        try:
            self.process = context.Process(
                target=worker.main, args=(theirs, their_pipe, their_tokens, setup), name="taskflowx-worker"
            )
            self.process.start()
        except BaseException:
            _lines.difference_update(lines)
            for line in (*lines, pipe):
                line.close()
            raise
        finally:
            for line in (theirs, their_pipe, their_tokens):
                line.close()
        self.channel = wire.EngineEnd(ours, os.dup(pipe.fileno()))
        pipe.close()
        #: what numbers go into, and can be taken out of
        self.tokens = (tokens_in, tokens)
        #: number -> call, its kind and the seconds that it is thought to take, in the order in which they were sent
        self.sent: dict[int, tuple[base.Call, _Kind, float]] = {}
        #: how many of these are followers that have not been handed in
        self.ahead = 0
        #: class -> the number under which the worker has what its atoms share, 0 for nothing, and their signature
        self.known: dict[type, tuple[int, Any]] = {}
        #: the sum of the seconds in `sent`
        self.load = 0.0
        #: how many calls it has been given, less those that were taken back
        self.taken = 0
        #: when it has last sent something
        self.heard_at = time.monotonic()
        #: numbers for which there was no room yet
        self._to_allow = b""

    @property
    def holds_back(self) -> bool:
        """Whether there was no room for the numbers of calls that may begin."""
        return bool(self._to_allow)

    def allow(self, numbers: array.array[int]) -> None:
        """Let calls begin that have been sent, as soon as there is room for their numbers."""
        self._to_allow += numbers.tobytes()
        try:
            sent = self.tokens[0].send(self._to_allow, socket.MSG_DONTWAIT)
        except (
            BlockingIOError
        ):  # it is at one call for long, and many small lots wait: it is tried again when it answers
            return
        except OSError:  # it has died, and will be buried
            return
        self._to_allow = self._to_allow[sent:]

    def send(self, calls: list[base.Call], first: int) -> list[tuple[int, base.Call, Exception]]:
        """Have calls sent, with consecutive numbers; they begin when these are allowed.

        Returns those that cannot be, with the reason.
        """
        refused = []
        plain: list[tuple[Any, ...]] = []
        for number, call in enumerate(calls, first):
            try:
                self._send_one(number, call, plain)
            except Exception as error:
                refused.append((number, call, error))
        self._send_plain(plain)
        return refused

    def _send_one(self, number: int, call: base.Call, plain: list[tuple[Any, ...]]) -> None:
        """Have a call sent, or add it to those of which nothing in one can be part of another."""
        atom, kwargs = call.atom, call.kwargs
        known, signature = self.known.get(atom.__class__) or self._get_to_know(atom)
        attributes = wire.own_attributes(atom, signature) if known else None
        listened = atom._tfx_listened is not None
        entry: tuple[Any, ...]
        if attributes is None:
            entry = (number, atom, 0, call.verb, kwargs, listened)
        else:
            entry = (number, attributes, known, call.verb, kwargs, listened)
        if isinstance(call, base.Follower):
            entry += (call.before, call.awaited)
        if attributes is not None and (not kwargs or wire.ATOMIC.issuperset(map(type, kwargs.values()))):
            plain.append(entry)
            return
        body, descriptor = wire.pack(entry)
        self._send_plain(plain)  # calls arrive in the order in which they may begin
        self.channel.put(wire.CALL, number, body, descriptor)

    def _get_to_know(self, atom: Any) -> tuple[int, Any]:
        """Send what plain atoms of a class share; returns its number, 0 if they are none, and the signature of most."""
        cls = atom.__class__
        known = (0, None)
        if wire.is_plain(cls):
            shared = cls.__dict__.get("_shared")
            known = (len(self.known) + 1, None if shared is None else shared[2])
            self.channel.put(wire.KNOWN, known[0], wire.dumps((cls, known[1])))
        self.known[cls] = known
        return known

    def _send_plain(self, plain: list[tuple[Any, ...]]) -> None:
        if plain:
            self.channel.put(wire.PLAIN_CALLS, 0, *wire.pack_plain(plain))
            plain.clear()

    def take_back(self, most: int = _MOST_AHEAD) -> list[base.Call]:
        """Return calls that have not begun, and now will not; the first of them that would have."""
        calls = [self.drop(number) for number in self._take_numbers(most)]
        self.taken -= len(calls)
        return calls

    def take_back_followers(self) -> list[base.Call]:
        """Return the followers that have not begun, and now will not; other calls begin as they would have."""
        followers, others = [], array.array("I")
        for number in self._take_numbers(_MOST_AHEAD):
            if isinstance(self.sent[number][0], base.Follower):
                followers.append(self.drop(number))
            else:
                others.append(number)
        self.taken -= len(followers)
        if others:
            self.allow(others)
        return followers

    def _take_numbers(self, most: int) -> list[int]:
        """Take out the numbers of calls that have not begun."""
        size, taken = worker.TOKEN.size * most, b""
        with contextlib.suppress(BlockingIOError):
            taken = self.tokens[1].recv(size, socket.MSG_DONTWAIT)
        if len(taken) < size:
            taken, self._to_allow = taken + self._to_allow, b""
        # That of a follower which was dropped is passed over, as the worker would.
        return [number for (number,) in worker.TOKEN.iter_unpack(taken) if number in self.sent]

    def drop(self, number: int) -> base.Call:
        """Return a call that this worker holds no more."""
        call, _, seconds = self.sent.pop(number)
        self.load = self.load - seconds if self.sent else 0.0
        if self.ahead and isinstance(call, base.Follower):
            self.ahead -= 1
        return call

    def tell_to_end(self) -> None:
        """Let the process end when it has done what it was sent."""
        self.allow(array.array("I", [worker.STOP]))

    def kill(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()

    def close(self) -> None:
        """Wait for the process to end, and let go of all that belongs to it."""
        self.process.join()
        self.process.close()
        _lines.difference_update((self.channel.socket, *self.tokens))
        self.channel.close()
        for line in self.tokens:
            line.close()


def _levels() -> dict[str, int]:
    root = logging.getLogger()
    loggers = [root, *(one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    return {one.name: one.level for one in loggers if one.level}


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
        self._workers: list[_Worker] = []
        #: waits for what the workers send; None while no run is under way
        self._poll: Any = None
        #: descriptor -> the worker at its other end, None for the bell
        self._lines: dict[int, _Worker | None] = {}
        self._bell: tuple[socket.socket, socket.socket] | None = None
        self._mailbox = base.Mailbox(self._wait)
        self._deliver: Callable[[tuple[Any, Any]], None] = self._refuse
        self._number = 0
        #: how many workers have died in a row that had not begun a call
        self._stillborn = 0
        self._unfit: Failure | None = None
        #: verb -> the class of an atom, or the function that it calls -> what is known of such calls
        self._kinds: dict[str, dict[Any, _Kind]] = {states.EXECUTE: {}, states.REVERT: {}}
        #: whether what is known of the workers is so: not while that changes, nor after an interrupt has come meanwhile
        self._sound = True
        #: index of the atom -> a follower that has not been handed in, its worker and its number
        self.followers: dict[int, tuple[base.Follower, _Worker, int]] = {}

    @staticmethod
    def _refuse(item: tuple[Any, Any]) -> None:
        raise RuntimeError(f"{item[0]} was delivered to an executor that has not been started")

    def dumps(self, part: Any) -> bytes:
        """Pickle a part of an atom, with cloudpickle if it is installed and takes that."""
        return wire.dumps(part)

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
        self._poll, self._lines = select.poll(), {}
        self._bell = socket.socketpair()
        for end in self._bell:
            end.setblocking(False)
        self._listen(self._bell[0].fileno(), None)

    def _ring(self) -> None:
        """Wake the thread of the engine, when it waits."""
        if self._bell is not None:
            with contextlib.suppress(OSError):  # it is full, or gone: nobody needs to be woken
                self._bell[1].send(b"!")

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
            if not self._pending and len(one.sent) <= _IN_ONE_GO // 2 and one.load <= _AHEAD / 2:
                self._number %= _NUMBERS
                first = self._number + 1
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
        if self._poll is None:
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
            self._poll = None
            for end in self._bell or ():
                end.close()
            self._bell = None
            workers, self._workers = self._workers, []
            self._pool.give_back(workers, keep=self._keep)

    def _kill(self) -> None:
        """Kill the workers, and deliver what they have said until then."""
        for one in self._workers:
            one.kill()
        while self._workers:
            one = self._workers.pop()
            one.process.join()
            self._hear(one, everything=True)  # a follower may have begun: what came of the call before it is recorded
            self._handed_in(one.take_back())
            one.close()
        self._pending.clear()

    # -- the workers -------------------------------------------------------------------------------

    def _wait(self, timeout: float | None) -> bool:
        """Manage the workers while the scheduler waits."""
        self._mailbox.wake = self._ring
        if not self._mailbox:
            self._manage(timeout)
        self._mailbox.wake = None
        return True

    def _manage(self, timeout: float | None) -> None:
        """Wait until something happens, or for so many seconds, and deal with it."""
        poll, lines, workers = self._poll, self._lines, self._workers
        assert poll is not None, "somebody waits for an executor that has not been started"
        behind = self._is_behind()
        if behind:
            timeout = _PATIENCE if timeout is None else min(timeout, _PATIENCE)
        elif timeout != 0.0 and workers and all(len(one.sent) >= _MANY for one in workers):
            # No worker waits for us for long yet, and the more has come, the less each costs.
            time.sleep(max(_GATHER, min(map(_load, workers)) / 8))  # noqa: TID251
        happened = poll.poll(None if timeout is None else math.ceil(timeout * 1000))
        self._mailbox.wake = None
        sound, self._sound = self._sound, False
        for line, events in happened:
            one = lines.get(line)
            if one is None:
                if line in lines:
                    self._bell[0].recv(4096)  # type: ignore[index]
                continue
            if events & select.POLLOUT and one.channel.flush():
                self._leave(line)
            self._hear(one)
            if one.channel.closed or line == one.process.sentinel:
                self._bury(one)
        if self._pending:
            self._share_out()
        elif behind and self._is_behind():
            self._even_out()
        self._sound = sound

    def _listen(self, line: int, one: _Worker | None, events: int = select.POLLIN) -> None:
        """Wait for something on a line, too."""
        self._lines[line] = one
        self._poll.register(line, events)

    def _leave(self, line: int) -> None:
        """Wait for a line no more, if it was waited for."""
        if line in self._lines:
            del self._lines[line]
            self._poll.unregister(line)

    def _hear(self, one: _Worker, *, everything: bool = False) -> None:
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

    def _read(self, one: _Worker) -> None:
        frames, deliver = one.channel.frames, self._deliver
        while frames:
            kind, number, microseconds, body, descriptor = frames.popleft()
            if kind == wire.ENDED:
                call, alike, _ = one.sent[number]
                ahead, seconds, before = one.ahead, microseconds * 1e-6, alike.seconds or 0.0
                one.drop(number)
                # One is thought to take as long as the slowest, and soon less again.
                alike.seconds = seconds if seconds > before else before + (seconds - before) / 8
                outcome = _outcome(call, body, descriptor) if body else None
                if ahead:
                    self._learn_ahead(one, number, call, alike, outcome, flat=descriptor < 0)
                else:
                    deliver((call, outcome))
                continue
            value = wire.unpack(body, descriptor)
            if kind == wire.UNFIT:
                self._unfit = value
            elif kind in (wire.NOT_BEGUN, wire.EXITED):
                if number not in one.sent:
                    continue  # a follower that was dropped, and could not be read either
                call = one.drop(number)
                self._drop_followers(one, number)
                self._tell(call, None, base.NotBegun(value) if kind == wire.NOT_BEGUN else base.Interrupt(value))
            else:
                under_way = one.sent[number][0] if number in one.sent else None
                atom = None if under_way is None else under_way.atom
                if kind in (wire.WROTE, wire.LOGGED):
                    _show(kind, value, atom)
                elif under_way is not None:
                    self._tell(under_way, atom, value)

    def _learn_ahead(
        self, one: _Worker, number: int, call: base.Call, kind: _Kind, outcome: Any, *, flat: bool
    ) -> None:
        """Deal with the outcome of a call in a worker that has followers."""
        if not (flat and wire.is_flat(outcome)):
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

    def _drop_followers(self, one: _Worker, number: int) -> None:
        """Forget what was sent with a call and does not begin, as this has failed or its result is not flat."""
        for following, (follower, *_) in list(one.sent.items()):
            if isinstance(follower, base.Follower) and follower.before == number:
                number = following
                self._handed_in([one.drop(number)])

    def _kind_of(self, call: base.Call) -> _Kind:
        """Return what is known of calls like this one."""
        kinds, atom = self._kinds[call.verb], call.atom
        alike = atom.__dict__.get("_execute") or atom.__class__  # tasks of functions differ by these
        kind = kinds.get(alike)
        if kind is None:
            kind = kinds[alike] = _Kind()
        return kind

    def _bury(self, one: _Worker) -> None:
        """Deal with the death of a worker: what it was at is lost, what it had not begun is not."""
        one.process.join(_TO_END)
        if one.process.is_alive():  # a call has closed its line
            one.kill()
            one.process.join()
        self._hear(one, everything=True)
        self._forget(one)
        self._pending.extendleft(reversed(self._handed_in(one.take_back())))
        code = one.process.exitcode
        lost = [one.drop(number) for number in list(one.sent)]
        self._stillborn = 0 if one.taken else self._stillborn + 1
        pid = one.process.pid
        one.close()
        for call in lost:
            self._tell(call, None, Failure.from_exception(_lost(pid, code, call.atom.name)))
        if self._unfit is not None or self._stillborn >= _STILLBORN:
            self._refuse_pending(self._unfit or Failure.from_exception(_lost(pid, code)))

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
            workers.sort(key=_load)
        a_part = min(_IN_ONE_GO, -(-len(pending) // len(workers)))
        sent = True
        while pending and sent:
            sent = False
            for one in workers[:]:
                if self._send(one, a_part):
                    sent = True

    def _add(self) -> None:
        one = self._pool.take()
        self._listen(one.channel.pipe, one)
        self._listen(one.process.sentinel, one)
        self._workers.append(one)

    def _send(self, one: _Worker, most: int) -> int:
        """Send a worker as many calls as it has room for, at most that many; returns how many."""
        pending, sent = self._pending, one.sent
        limit = self._pool.max_tasks_per_worker
        if limit is not None:
            most = min(most, limit - one.taken)
        calls: list[base.Call] = []
        first, load, room = self._number % _NUMBERS, one.load, _MOST_AHEAD - len(sent)
        while pending and len(calls) < most and len(calls) < room:
            call = pending[0]
            kind = self._kind_of(call)
            seconds = kind.seconds
            if seconds is None or seconds > _AHEAD:
                seconds = _AHEAD
            if sent and load + seconds > _AHEAD:
                break
            load += seconds
            pending.popleft()
            calls.append(call)
            sent[first + len(calls)] = call, kind, seconds
        if calls:
            self._number = first + len(calls)
            one.load = load
            if not pending:
                calls += self._add_followers(one)
            self._send_off(one, calls, first + 1)
        return len(calls)

    def _send_alone(self, one: _Worker, call: base.Call) -> None:
        """Send a call to a worker that has none: the short path of `_send`."""
        number = self._number = self._number % _NUMBERS + 1
        kind = self._kind_of(call)
        one.load = _AHEAD if kind.seconds is None else min(kind.seconds, _AHEAD)
        one.sent[number] = call, kind, one.load
        self._send_off(one, [call, *self._add_followers(one)], number)

    def _add_followers(self, one: _Worker) -> list[base.Call]:
        """Note that a worker is sent what follows the last of its calls, as much as it has room for; returns that."""
        followers: list[base.Call] = []
        follower_of, sent, ahead = self.follower_of, one.sent, self.followers
        if follower_of is None or not sent:
            return followers
        number, before = self._number, next(reversed(sent))
        call, kind, _ = sent[before]
        load = one.load
        while len(sent) < _IN_ONE_GO and kind.followed:
            follower = follower_of(call)
            if follower is None:
                break
            kind = self._kind_of(follower)
            if kind.seconds is None or load + kind.seconds > _AHEAD:
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
        self._number = number
        return followers

    def _send_off(self, one: _Worker, calls: list[base.Call], first: int) -> None:
        """Send calls that a worker has been given."""
        numbers = array.array("I", range(first, first + len(calls)))
        refused = one.send(calls, first)
        for number, call, error in refused:
            if number in one.sent:  # it does not follow another one that cannot be sent
                one.drop(number)
                self._drop_followers(one, number)
                if self._handed_in([call]):
                    self._deliver((call, base.NotBegun(Failure.from_exception(_unsendable(call, error)))))
        if refused:
            numbers = array.array("I", [number for number in numbers if number in one.sent])
        if len(numbers) == len(one.sent):
            one.heard_at = time.monotonic()
        one.taken += len(numbers)
        if not one.channel.flush():
            self._listen(one.channel.socket.fileno(), one, select.POLLOUT)
        one.allow(numbers)

    def _let_go(self, worn: list[_Worker]) -> None:
        """End workers that have done their share."""
        for one in worn:
            self._forget(one)
        _end(worn)

    def _forget(self, one: _Worker) -> None:
        self._workers.remove(one)
        for line in (one.channel.pipe, one.process.sentinel, one.channel.socket.fileno()):
            self._leave(line)

    def _is_behind(self) -> bool:
        """Tell whether calls wait in a worker while another one is idle."""
        workers = self._workers
        if self._pending or len(workers) < 2:  # noqa: PLR2004
            return False
        idle = waits = False
        for one in workers:
            count = len(one.sent) - one.ahead  # a follower waits for the call before it
            idle |= not count
            waits |= count > 1
        return idle and waits

    def _even_out(self) -> None:
        """Take calls that have not begun from a worker that has been at one for long, for one that is idle."""
        now = time.monotonic()
        for one in self._workers:
            if len(one.sent) - one.ahead > 1 and (one.load > _PATIENCE or now - one.heard_at > _PATIENCE):
                self._handed_in(one.take_back_followers())
                # Those that would begin first: what is left behind is as long.
                self._pending.extend(one.take_back(len(one.sent) // 2))
        if self._pending:
            self._share_out()


def _load(one: _Worker) -> float:
    return one.load


def _outcome(call: base.Call, body: bytes, descriptor: int) -> Any:
    try:
        return wire.unpack(body, descriptor)
    except Exception as error:
        error.add_note(f"The result of atom '{call.atom.name}' was sent by its process, and could not be read here")
        return Failure.from_exception(error)


def _unsendable(call: base.Call, error: Exception) -> TypeError:
    """Return the error that says which part of a call cannot be pickled."""
    for value, path in (
        (call.atom, f"atom '{call.atom.name}'"),
        *((v, f"argument '{k}'") for k, v in call.kwargs.items()),
    ):
        try:
            wire.dumps(value)
        except Exception:
            what = wire.culprit(value, path)
            break
    else:
        what = str(error)
    unsendable = TypeError(
        f"Atom '{call.atom.name}' cannot be sent to another process, as not all of it can be pickled: {what} ({error})"
    )
    unsendable.__cause__ = error
    return unsendable


def _lost(pid: int | None, code: int | None, name: str | None = None) -> exceptions.WorkerLost:
    """Return the error for a worker that has ended by itself."""
    if code is not None and code < 0:
        with contextlib.suppress(ValueError):
            killed_by = signal.Signals(-code).name
            hint = ", as the system does when memory runs out" if -code == signal.SIGKILL else ""
            return exceptions.WorkerLost(
                f"Worker process {pid} was killed by {killed_by}{hint}{_while(name)}", code, killed_by
            )
    return exceptions.WorkerLost(f"Worker process {pid} exited with code {code}{_while(name)}", code)


def _while(name: str | None) -> str:
    if name is not None:
        return f", while it ran atom '{name}'"
    return (
        f" before its first call, as {_STILLBORN - 1} others did before it. What it wrote to stderr says more; a main "
        "module that starts runs when it is imported must do so under `if __name__ == '__main__':`"
    )


def _show(kind: int, value: Any, atom: Any) -> None:
    """Pass on what was printed or logged in a worker."""
    name = None if atom is None else atom.name
    if kind == wire.LOGGED:
        logger = logging.getLogger(value["name"])
        if logger.isEnabledFor(value["levelno"]):
            record = logging.makeLogRecord(value)
            record.atom_name = name
            logger.handle(record)
        return
    stream, line = value
    level = logging.INFO if stream == "stdout" else logging.WARNING
    if LOG.isEnabledFor(level) and LOG.hasHandlers():
        LOG.log(level, "%s: %s", name, line, extra={"atom_name": name})
    else:
        print(line, file=getattr(sys, stream))  # nobody would see it otherwise
