"""The worker process: it takes calls one after another, and sends their outcomes back.

    engine ── frames with calls ──→ channel ┐
    engine ── their numbers ──────→ tokens  ┴→ one call at a time ── result, progress, events, text, logs ──→ engine

Calls may be sent ahead. To start one, a worker takes its number from `tokens`, a queue in the kernel from which the
engine takes numbers, too: a number is taken by exactly one of them, and when a worker has died, the numbers that are
left are those of calls that have not started.

A call of a chain is sent together with its predecessor, whose number is one less, and starts when that has succeeded.
It takes the result of that call, as it was before it was pickled, so this must be flat. If it does not start, the
engine concludes that by the same rule, and nothing is sent.

A worker ends when the engine asks for it (`STOP`), and at once when the engine is dead: its work would be lost.

A task may leave a signal handler behind that raises, between any two lines here. While a task runs, the exception is
the task's. Between tasks the worker ends, once it has sent the outcome of its last call, or given back the call that it
was about to start. A process that a task has forked is no worker: it answers nothing, and ends with its task.
"""

from __future__ import annotations

import contextlib
import contextvars
import fcntl
import itertools
import os
import select
import signal
import struct
import sys
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import task
from taskflowx.executors import base, carried, pickling
from taskflowx.executors.processes import output, surroundings, values, wire
from taskflowx.types.failure import Failure
from taskflowx.types.failure_parts import text_of

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from multiprocessing.connection import Connection

TOKEN = struct.Struct("=I")
#: in place of the number of a call: there will be no more calls
STOP = 0xFFFFFFFF
_LONGEST = 0xFFFFFFFF  # microseconds
#: the lengths of an entry that is still pickled, and of one that awaits no other call
_UNREAD, _CALL = 3, 6
#: the most attempts to end after an exception between calls, as others may follow
_TRIES = 5
#: in place of the last call: nothing may follow it
_NO_CALL = (STOP, None)


class Setup(NamedTuple):
    """The setup of a worker before its first call.

    :param initializer: is called with `initargs`, if there is one
    :param surroundings: the surroundings of the engine
    """

    initializer: Callable[..., Any] | None
    initargs: tuple[Any, ...]
    surroundings: surroundings.Surroundings


def main(
    line: socket.socket, pipe: Connection, tokens: socket.socket, engine_is_alive: socket.socket, setup: Setup
) -> None:
    """Run calls until there are no more.

    :param engine_is_alive: nothing is ever sent on it, and it is closed when the engine is dead
    """
    # A terminal sends SIGINT to all processes, and the engine decides about them. A function, as programs that tasks
    # start would inherit SIG_IGN.
    signal.signal(signal.SIGINT, _pass_over)
    _end_with(engine_is_alive)
    worker = Worker(wire.WorkerEnd(line, pipe.fileno()), tokens)
    surroundings.take_over(surroundings.changes(surroundings.look({}), setup.surroundings))
    worker.outputs = output.take_over(worker)
    os.register_at_fork(after_in_child=worker.forget)
    if setup.initializer is not None:
        try:
            setup.initializer(*setup.initargs)
        except Exception as error:
            worker.send(wire.UNFIT, Failure.from_exception(error))
            return
    worker.run()


def _pass_over(number: int, frame: Any) -> None:
    """Ignore a signal."""


def _end_with(line: socket.socket) -> None:
    """End the process when the other end of a socket is closed, even while a call holds the interpreter's lock."""
    if hasattr(fcntl, "F_SETSIG"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(line, fcntl.F_SETOWN, os.getpid())
            fcntl.fcntl(line, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(line, fcntl.F_SETFL, fcntl.fcntl(line, fcntl.F_GETFL) | os.O_ASYNC)
    # For systems without such signals, and for an engine that died before.
    threading.Thread(target=_wait_for_end, args=(line,), name="taskflowx-lifeline", daemon=True).start()


def _wait_for_end(line: socket.socket) -> None:
    poll = select.poll()
    poll.register(line, 0)  # a hang-up is always reported
    poll.poll()
    os._exit(1)


class Worker:
    """Runs calls.

    :param channel: the connection to the engine
    :param tokens: numbers of calls that may start
    """

    def __init__(self, channel: wire.WorkerEnd, tokens: socket.socket) -> None:
        self._channel = channel
        self._tokens = tokens
        #: held while a frame is sent: tasks print and log from threads of their own
        self.sending = threading.RLock()
        self.outputs: list[Any] = []
        self._process = os.getpid()
        self._call = STOP
        self._atom: Any = None
        #: the raw number that was taken last, until its call is completed
        self._taken: list[bytes] = []
        #: the outcome of that call, and its start in nanoseconds of the performance counter
        self._made: list[Any] = []
        self._begun = 0
        #: calls that were sent and have not started: plain ones unpickled, others as number, body and descriptor
        self._ahead: deque[tuple[Any, ...]] = deque()
        #: number -> data that atoms of a class share: pickled, and unpickled once it was needed
        self._known: dict[int, tuple[bytes, Any]] = {}
        #: the context that each call gets a copy of, and the same without the variables of the run
        self._context = self._untouched = contextvars.copy_context()
        #: number and result of the last call, if the next of its chain may start
        self._last: tuple[int, Any] = _NO_CALL

    def run(self) -> None:
        """Take calls and run them, until there are no more, or an exception comes between them."""
        task.PROGRESS.set(self._report)
        task.REPORTERS.append(lambda _: self._report)  # for threads that tasks start
        self._untouched = self._context = contextvars.copy_context()
        try:
            self._work()
        except BaseException as error:  # from a signal handler that a task has left behind
            for _ in range(_TRIES):
                with contextlib.suppress(BaseException):  # another exception
                    self._end_early(error)
            os._exit(1)

    def _work(self) -> None:
        take, size, ahead, taken = self._tokens.recv, TOKEN.size, self._ahead, self._taken
        while True:
            taken.extend(map(take, (size,)))  # by functions of C alone: after any step of Python it might be lost
            if len(taken[0]) < size:
                return
            (number,) = TOKEN.unpack(taken[0])
            if number == STOP:
                return
            self._run_one(number, ahead.popleft() if ahead and ahead[0][0] == number else self._sent_as(number))
            self._begun = 0
            taken.clear()

    def _end_early(self, error: BaseException) -> None:
        """Answer for the call that was taken, and end the process: its state may be inconsistent."""
        sys.settrace(None)
        sys.setprofile(None)
        with self.sending:
            self._channel.flush()
            if self._taken and len(self._taken[0]) == TOKEN.size:
                (number,) = TOKEN.unpack(self._taken[0])
                self._call = number
                if number != STOP and not self._begun:
                    self.send(wire.GIVEN_BACK, None)
                elif number != STOP:
                    outcome = self._made[0] if self._made else Failure.from_exception(error)
                    self._deliver(number, self._atom, outcome)
            self.send(wire.ENDS, f"{type(error).__name__}: {text_of(error)}")
        os._exit(1)

    def _sent_as(self, number: int) -> tuple[Any, ...]:
        """Return the entry of a call, and drop the entries before it: the engine has cancelled those calls."""
        ahead, channel = self._ahead, self._channel
        while True:
            while ahead:
                sent = ahead.popleft()
                if sent[0] == number:
                    return sent
                if len(sent) == _UNREAD and sent[2] >= 0:
                    os.close(sent[2])
            channel.receive()
            if channel.closed:
                os._exit(1)
            while channel.frames:
                self._take_in(*channel.frames.popleft())

    def _take_in(self, kind: int, number: int, _: int, body: bytes, descriptor: int) -> None:
        """Handle a frame."""
        if kind == wire.PLAIN_CALLS:
            self._ahead.extend(values.unpack(body, descriptor))
        elif kind == wire.CALL:
            self._ahead.append((number, body, descriptor))
        elif kind == wire.KNOWN:
            self._known[number] = (body, None)
        elif kind == wire.FORGET:
            self._known.pop(number, None)
        else:
            changed = values.unpack(body, descriptor)
            surroundings.take_over(changed)
            if "variables" in changed:
                self._context = self._untouched.copy()
                self._context.run(carried.put, changed["variables"])

    def _shared_by(self, number: int) -> Any:
        """Return the data that atoms of a class share; unpickled for the first of them, as that may fail."""
        body, shared = self._known[number]
        if shared is None:
            shared = values.unpack(body, -1)
            self._known[number] = b"", shared
        return shared

    def _run_one(self, number: int, sent: tuple[Any, ...]) -> None:
        started = time.perf_counter_ns()
        self._call = number
        made = self._made
        made.clear()
        try:
            call = self._opened(sent)
        except Exception as error:
            error.add_note("A worker process could not take the call: it must be able to import all that is in it")
            self.send(wire.NOT_BEGUN, Failure.from_exception(error))
            return
        if call is None:
            return
        atom, verb, kwargs = call
        self._atom = atom
        self._begun = started
        try:
            made.extend(itertools.starmap(self._context.copy().run, ((base.perform, atom, verb, kwargs),)))  # in C, too
        except BaseException as error:
            if not made:  # otherwise it came from a signal handler, after the call
                made.append(Failure.from_exception(error) if isinstance(error, Exception) else base.Interrupt(error))
        if os.getpid() != self._process:
            _leave()
        for stream in self.outputs:
            if stream.wrote:
                stream.end_line()
        self._deliver(number, atom, made[0])
        self._atom = None

    def _opened(self, sent: tuple[Any, ...]) -> tuple[Any, str, dict[str, Any]] | None:
        """Return the atom, the verb and the arguments of an entry; None for a chained call that does not start."""
        if len(sent) == _UNREAD:
            sent = values.unpack(sent[1], sent[2])
        if len(sent) > _CALL:
            if not self._follow(sent):
                return None
            sent = sent[:_CALL]
        _, atom, known, verb, kwargs, listened = sent
        if known:
            atom = values.make_atom(self._shared_by(known), atom)
        if listened:
            base.forward_events(atom, self._forward)
        return atom, verb, kwargs

    def _deliver(self, number: int, atom: Any, outcome: Any) -> None:
        """Send the outcome of a call."""
        self._last = _NO_CALL
        if type(outcome) is base.Interrupt:
            kind, (body, descriptor) = wire.EXITED, values.pack_exit(outcome.exception)
        else:
            kind, (body, descriptor) = wire.ENDED, self._packed(number, atom, outcome)
        took = (time.perf_counter_ns() - self._begun) // 1000
        self._send_frame(kind, number, body, descriptor, min(took, _LONGEST))

    def _follow(self, sent: tuple[Any, ...]) -> bool:
        """Give a call the result of the one before in its chain; returns whether that was the last, and succeeded."""
        number, result = self._last
        sent[4].update(dict.fromkeys(sent[_CALL], result))
        return bool(sent[0] == number + 1)

    def _packed(self, number: int, atom: Any, outcome: Any) -> tuple[bytes, int]:
        """Return the body of a frame with an outcome, or with an error if it cannot be sent; notes a flat result."""
        try:
            body, descriptor = values.pack(outcome)
        except BaseException:  # it may have come from a signal handler
            try:
                body, descriptor = values.pack(outcome)
            except BaseException as error:
                return values.pack(Failure.from_exception(pickling.unsendable_result(atom.name, outcome, error)))
        if descriptor < 0 and values.is_flat(outcome):
            self._last = number, outcome
        return body, descriptor

    def _forward(self, event: base.Event) -> None:
        self.send(wire.EVENT, event)

    def _report(self, reporting: Any, details: dict[str, Any]) -> None:
        if reporting is self._atom:
            self.send(wire.PROGRESS, details)

    def send(self, kind: int, value: Any) -> None:
        """Send a value that belongs to the running call."""
        body, descriptor = values.pack(value)
        self._send_frame(kind, self._call, body, descriptor, 0)

    def _send_frame(self, kind: int, number: int, body: bytes, descriptor: int, microseconds: int) -> None:
        """Send a frame.

        No trace function of a task runs meanwhile. An exception that comes while one runs, such as that of an alarm,
        leaves a `with` statement where it would stay locked.
        """
        trace, profile = sys.gettrace(), sys.getprofile()
        if trace is not None:
            sys.settrace(None)
        if profile is not None:
            sys.setprofile(None)
        try:
            with self.sending:
                self._channel.send(kind, number, body, descriptor, microseconds)
        finally:
            if trace is not None:
                sys.settrace(trace)
            if profile is not None:
                sys.setprofile(profile)
        if self._channel.closed:
            os._exit(1)

    def forget(self) -> None:
        """In a process that a task has forked: it is no worker, and sends nothing."""
        self.sending = threading.RLock()  # another thread may have held it
        self._channel.abandon()
        output.give_back(self.outputs)


def _leave() -> None:
    """End a process that a task has forked, and that has returned from the task."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)
