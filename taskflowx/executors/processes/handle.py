"""The engine's handle of one worker process: the sockets to it, and the calls that it holds.

A handle that is garbage collected closes its sockets, so that its worker ends, wherever an interrupt has come.

What must stay true: the handle knows the calls of its worker, and by their numbers (see `worker`) which of them have
started. Nothing here blocks on a worker.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import os
import select
import signal
import socket
import time
import weakref
from typing import TYPE_CHECKING, Any

from taskflowx.executors import base, pickling
from taskflowx.executors.processes import output, surroundings, values, wire, worker

if TYPE_CHECKING:
    import collections
    from collections.abc import Callable, Container

    from taskflowx.executors.processes.policy import Kind

#: seconds for workers to end by themselves, and to be dead after a kill
TO_END, _TO_DIE = 5.0, 5.0
#: seconds after the end of a worker within which its exit code must be known
_FOR_CODE = 1.0
#: the maximum number of calls that a worker is sent ahead, however short
MOST_AHEAD = 1024
#: our ends of the sockets to workers, which a forked process must close
lines: weakref.WeakSet[socket.socket] = weakref.WeakSet()


class Handle:
    """The engine's handle of a worker process."""

    __slots__ = (
        "_alive",
        "_allowing",
        "_by_value",
        "_deaths",
        "_gone",
        "_known",
        "_numbers_of_classes",
        "_surroundings",
        "ahead",
        "channel",
        "heard_at",
        "load",
        "number",
        "process",
        "sent",
        "taken",
        "tokens",
    )

    def __del__(self) -> None:
        # An interrupt has come before the handle was stored, or while it was closed.
        if hasattr(self, "channel"):
            self._let_go()

    def __init__(self, context: Any, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        #: a descriptor that becomes readable when the process has ended, where the system has one
        self._deaths: list[int] = []
        ours, theirs = socket.socketpair()
        self._alive, their_end = socket.socketpair()
        tokens_in, tokens = socket.socketpair()
        #: the two ends of the queue of numbers: one to put them in, one to take them out
        self.tokens = (tokens_in, tokens)
        their_tokens = tokens.dup()
        pipe, their_pipe = context.Pipe(duplex=False)
        ends = {ours, tokens_in, tokens, self._alive}
        lines.update(ends)
        self._surroundings = surroundings.look({})
        setup = worker.Setup(initializer, initargs, self._surroundings)
        try:
            self.process = context.Process(
                target=worker.main, args=(theirs, their_pipe, their_tokens, their_end, setup), name="taskflowx-worker"
            )
            surroundings.start(self.process)
        except BaseException:
            lines.difference_update(ends)
            for line in (*ends, pipe):
                line.close()
            raise
        finally:
            for line in (theirs, their_pipe, their_tokens, their_end):
                line.close()
        self.channel = wire.EngineEnd(ours, values.owned(os.dup, pipe.fileno()))
        pipe.close()
        # The sentinel may stay open while a process lives that was forked from this one.
        with contextlib.suppress(OSError, AttributeError):  # it has ended already, or the system has none
            self._deaths.extend(map(os.pidfd_open, (self.process.pid,)))
        #: the number of the last call that was sent; not reused while the worker lives
        self.number = 0
        #: number -> call, its kind and its estimated seconds, in the order of sending
        self.sent: dict[int, tuple[base.Call, Kind, float]] = {}
        #: how many of these await another one
        self.ahead = 0
        #: id of a class -> the number under which the worker has the data that its atoms share (0 for none), their
        #: signature, and a weak reference to the class; when the class is collected, the worker forgets the data
        self._known: dict[int, tuple[int, Any, weakref.ref[type]]] = {}
        self._numbers_of_classes = itertools.count(1)
        #: the keys in `_known` of classes that are sent with their code, and with what this uses: it may have changed
        #: when the next run begins
        self._by_value: list[int] = []
        self._gone: list[int] = []
        #: the sum of the seconds in `sent`
        self.load = 0.0
        #: how many calls it was sent, less those that were cancelled
        self.taken = 0
        #: when it last sent something
        self.heard_at = time.monotonic()
        #: numbers of calls that may start, and how many bytes of them were sent, as far as there was room. Functions of
        #: C alone note that: after a step of Python an interrupt might come, and a call that has begun be cancelled
        self._allowing: tuple[bytes, list[int]] = b"", []

    @property
    def holds_back(self) -> bool:
        """Whether there was no room for the numbers of calls that may start."""
        return bool(self._not_allowed())

    def _not_allowed(self) -> bytes:
        numbers, sent = self._allowing
        return numbers[sum(sent) :]

    def allow(self, numbers: array.array[int]) -> None:
        """Allow calls that have been sent to start, as soon as there is room for their numbers."""
        data, sent = self._allowing = self._not_allowed() + numbers.tobytes(), []
        try:
            sent.extend(map(self.tokens[0].send, (data,), (socket.MSG_DONTWAIT,)))
        except OSError:
            # There is no room while it is busy with a long call, and many small batches wait: it is tried again when
            # the worker answers. Any other error means that it has died, and will be reaped.
            return

    @property
    def death(self) -> int:
        """A descriptor that becomes readable when the process has ended."""
        return self._deaths[0] if self._deaths else self.process.sentinel

    def adopt(self, now: surroundings.Surroundings) -> None:
        """Begin a run: apply the surroundings of the engine to its calls from now on, and forget what may be stale.

        :param now: the current surroundings
        """
        while self._by_value:
            known = self._known.pop(self._by_value.pop(), None)  # None if the class has been collected
            if known is not None:
                self._gone.append(known[0])
        # Without changes as well: what tasks have changed in the worker is undone when this arrives.
        changes = {**surroundings.changes(self._surroundings, now), "variables": now.variables}
        self.channel.put(wire.SURROUNDINGS, 0, *values.pack_plain(changes))
        self._surroundings = now

    def send(self, calls: list[base.Call], first: int) -> list[tuple[int, base.Call, Exception]]:
        """Queue calls for sending, with consecutive numbers; they start when `allow` gets these.

        Returns the calls that cannot be sent, each with its number and the error.
        """
        refused: list[tuple[int, base.Call, Exception]] = []
        while self._gone:
            self.channel.put(wire.FORGET, self._gone.pop(), b"")
        plain: list[tuple[Any, ...]] = []
        for number, call in enumerate(calls, first):
            try:
                self._send_one(number, call, plain, refused)
            except Exception as error:
                refused.append((number, call, error))
        self._send_plain(plain, refused)
        return refused

    def _send_one(
        self,
        number: int,
        call: base.Call,
        plain: list[tuple[Any, ...]],
        refused: list[tuple[int, base.Call, Exception]],
    ) -> None:
        """Queue a call for sending, or add it to `plain` if its values share no object with another call."""
        atom, kwargs = call.atom, call.kwargs
        known, signature, _ = self._known.get(id(atom.__class__)) or self._get_to_know(atom)
        attributes = values.own_attributes(atom, signature) if known else None
        listened = atom._tfx_listened is not None
        entry: tuple[Any, ...]
        if attributes is None:
            entry = (number, atom, 0, call.verb, kwargs, listened)
        else:
            entry = (number, attributes, known, call.verb, kwargs, listened)
        if call.awaited is not None:
            entry += (call.awaited,)
        if attributes is not None and (not kwargs or values.ATOMIC.issuperset(map(type, kwargs.values()))):
            plain.append(entry)
            return
        body, file = values.pack(entry)
        self._send_plain(plain, refused)  # calls must arrive in the order in which they may start
        self.channel.put(wire.CALL, number, body, file)

    def _get_to_know(self, atom: Any) -> tuple[int, Any, weakref.ref[type]]:
        """Send the data shared by plain atoms of a class; returns its number (0 for none) and their usual signature."""
        cls, known, gone, key = atom.__class__, self._known, self._gone, id(atom.__class__)
        number, signature = 0, None
        if values.is_plain(cls):
            of, _, _, shared = cls._tfx_shared
            number, signature = next(self._numbers_of_classes), shared if of is cls else None
            self.channel.put(wire.KNOWN, number, pickling.dumps((cls, signature)))
            if not pickling.goes_by_name(cls):
                self._by_value.append(key)

        def forget(_: object) -> None:
            del known[key]
            if number:
                gone.append(number)

        known[key] = number, signature, weakref.ref(cls, forget)
        return known[key]

    def _send_plain(self, plain: list[tuple[Any, ...]], refused: list[tuple[int, base.Call, Exception]]) -> None:
        """Queue plain calls for sending together; where that fails, they are all refused, and no other call."""
        if plain:
            try:
                packed = values.pack_plain(plain)
            except Exception as error:
                refused += [(number, self.sent[number][0], error) for number, *_ in plain]
            else:
                self.channel.put(wire.PLAIN_CALLS, 0, *packed)
            plain.clear()

    def take_back(self, most: int = MOST_AHEAD, *, of: Container[int] | None = None) -> list[base.Call]:
        """Cancel the next calls that have not started, at most `most`, and return them.

        :param of: the indices of the calls that may be cancelled; other calls stay queued
        """
        calls, others = [], array.array("I")
        for number in self._take_numbers(most):
            if of is None or self.sent[number][0].index in of:
                calls.append(self.drop(number))
            else:
                others.append(number)
        self.taken -= len(calls)
        if others:
            self.allow(others)
        return calls

    def _take_numbers(self, most: int) -> list[int]:
        """Take out the numbers of calls that have not started."""
        size, taken = worker.TOKEN.size * most, b""
        with contextlib.suppress(BlockingIOError):
            taken = self.tokens[1].recv(size, socket.MSG_DONTWAIT)
        if len(taken) < size:
            taken += self._not_allowed()
            self._allowing = b"", []
        # The number of a dropped call is skipped, as the worker would do.
        return [number for (number,) in worker.TOKEN.iter_unpack(taken) if number in self.sent]

    def drop(self, number: int) -> base.Call:
        """Forget a call of this worker, and return it."""
        call, _, seconds = self.sent.pop(number)
        self.load = self.load - seconds if self.sent else 0.0
        if self.ahead and call.awaited is not None:
            self.ahead -= 1
        return call

    def awaits(self, number: int) -> bool:
        """Tell whether a call was sent and awaits the one before it."""
        return number in self.sent and self.sent[number][0].awaited is not None

    def follow(self, number: int, result: Any) -> None:
        """Note that the call before one of a chain has succeeded."""
        if self.awaits(number):
            self.sent[number][0].follow(result)
            self.ahead -= 1

    def tell_to_end(self) -> None:
        """Let the process end when it has run the calls that it was sent."""
        self.allow(array.array("I", [worker.STOP]))

    def is_dead(self, seconds: float = 0.0) -> bool:
        """Wait for the end of the process, for at most `seconds`; returns whether it has ended."""
        poll = select.poll()
        poll.register(self.death, select.POLLIN)
        return bool(poll.poll(seconds * 1000))

    def exit_code(self) -> int | None:
        """Return the exit code of a process that has ended; None if it is unknown."""
        if self.process.exitcode is None:
            self.process.join(_FOR_CODE)  # the fork server reports it a moment later
        code: int | None = self.process.exitcode
        return code

    def has(self, call: base.Call) -> bool:
        """Tell whether a call was sent, and has not ended as far as is known."""
        return any(sent is call for sent, _, _ in self.sent.values())

    def kill(self, *, group: bool = False) -> None:
        """Kill the process.

        :param group: whether the programs that its calls have started are killed as well
        """
        pid = self.process.pid
        if group and pid and not self.is_dead():
            with contextlib.suppress(OSError):  # it has ended just now
                if os.getpgid(pid) == pid:
                    os.killpg(pid, signal.SIGKILL)
        with contextlib.suppress(ProcessLookupError):
            self.process.kill()

    def close(self) -> None:
        """Release all resources of a process that has ended or was killed."""
        self.is_dead(_TO_DIE)
        self.exit_code()
        with contextlib.suppress(ValueError):  # if SIGCHLD is ignored, the end of the process is never reported
            self.process.close()
        self._let_go()

    def _let_go(self) -> None:
        """Close the sockets and descriptors that are still open."""
        for line in (*self.tokens, self._alive):
            lines.discard(line)
            line.close()
        lines.discard(self.channel.socket)
        self.channel.close()
        values.close_all(self._deaths)


def end_all(workers: collections.deque[Handle] | list[Handle], *, seconds: float = TO_END) -> None:
    """End workers: let them finish, wait, and kill those that are left after `seconds`.

    Their output meanwhile is shown.

    :param seconds: the time limit for all of them together
    """
    ending: list[Handle] = []
    try:
        _let_end(workers, ending, seconds)
        if ending:
            output.warn_of_kill([one.process.pid for one in ending], seconds)
    finally:
        for one in ending:
            one.kill()
        while ending:
            ending.pop().close()


def _let_end(workers: collections.deque[Handle] | list[Handle], ending: list[Handle], seconds: float) -> None:
    """Have workers end, and wait for it; those that have not are left in `ending`.

    Its loops are not in the `try` of the caller: in CPython 3.12 and 3.13 the end of a turn of `while` would not belong
    to that.
    """
    while workers:
        ending.append(workers.pop())
        ending[-1].tell_to_end()
    deadline = time.monotonic() + seconds
    while ending and (left := deadline - time.monotonic()) > 0:
        poll = select.poll()
        for one in ending:
            poll.register(one.channel.pipe, select.POLLIN)
            poll.register(one.death, select.POLLIN)
        happened = {line for line, _ in poll.poll(left * 1000)}
        for one in ending[:]:
            if one.channel.pipe in happened:
                _show_what_comes(one)
            if one.death in happened:
                _show_what_comes(one)
                ending.remove(one)
                one.close()


def _show_what_comes(one: Handle) -> None:
    """Show the output of a worker that has no call any more."""
    received = wire.CHUNK
    while received == wire.CHUNK:
        received = one.channel.receive()
        while one.channel.frames:
            kind, _, _, body, file = one.channel.frames.popleft()
            with contextlib.suppress(Exception):
                if file is wire.AWAITED:
                    file = one.channel.receive_file()
                value = values.unpack(body, file)
                if kind in (wire.WROTE, wire.LOGGED):
                    output.show(kind, value, None)
