"""The worker process: it takes calls one after another, and sends their outcomes back.

    engine ── frames with calls ──→ channel ┐
    engine ── their numbers ──────→ tokens  ┴→ one call at a time ── result, progress, events, text, logs ──→ engine

Calls may be sent ahead. To start one, a worker takes its number from `tokens`, a queue in the kernel from which the
engine takes numbers, too: a number is taken by exactly one of them, and when a worker has died, the numbers that are
left are those of calls that have not started.

A call of a chain is sent together with its predecessor, whose number is one less, and starts when that has succeeded.
It takes a copy of the result of that call without pickling, so this must be flat. The frame with the result tells
the engine whether the next call starts.

A worker ends when the engine asks for it (`STOP`), and at once when the engine is dead: its work would be lost. It
leads a process group, that of the programs that its calls start: these are killed with it when a call is interrupted,
and when the engine is dead. A program that is to outlive that is started with `start_new_session=True`.

A task may leave a signal handler behind that raises, between any two lines here. While a task runs, the exception is
the task's. Between tasks the worker ends, once it has sent the outcome of its last call, or given back the call that it
was about to start. A process that a task has forked is no worker: it answers nothing, and ends with its task.
"""

from __future__ import annotations

import array
import contextlib
import contextvars
import fcntl
import functools
import itertools
import os
import resource
import select
import signal
import socket
import struct
import sys
import threading
import time
from collections import deque
from multiprocessing import resource_tracker
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import task
from taskflowx.executors import base, carried, pickling
from taskflowx.executors.processes import output, surroundings, values, wire
from taskflowx.types.failure import Failure
from taskflowx.types.failure_parts import text_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

TOKEN = struct.Struct("=I")
#: in place of the number of a call: there will be no more calls
STOP = 0xFFFFFFFF
#: the lengths of an entry that is still pickled, and of one that awaits no other call
_UNREAD, _CALL = 3, 6
#: below this number, or below this part of the limit, are the descriptors of tasks
_TASKS_OWN, _PART = 768, 3 / 4
#: the most attempts to end after an exception between calls, as others may follow
_TRIES = 5
#: in place of the outcome of a call
_NOT_MADE = object()
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
    with contextlib.suppress(OSError):  # it leads a group already
        os.setpgid(0, 0)
    engine_is_alive, line, tokens = map(_out_of_the_way, (engine_is_alive, line, tokens))
    _end_with(engine_is_alive)
    _keep_tracker()
    worker = Worker(wire.WorkerEnd(line, values.Descriptor(_high_copy(pipe.fileno()), "wb")), tokens)
    pipe.close()
    surroundings.take_over(surroundings.changes(surroundings.look({}), setup.surroundings))
    worker.outputs = output.take_over(worker)
    os.register_at_fork(after_in_child=worker.forget)
    os.register_at_fork(after_in_child=engine_is_alive.close)  # what outlives the worker is not killed later
    if setup.initializer is not None:
        try:
            setup.initializer(*setup.initargs)
        except Exception as error:
            worker.send(wire.UNFIT, Failure.from_exception(error))
            return
    worker.surroundings = surroundings.Own(setup.surroundings.path)
    worker.run()


def _out_of_the_way(line: socket.socket) -> socket.socket:
    """Return a socket with a high number in place of one.

    The lowest free number is given to the next descriptor that is opened. So where a task closes descriptors that are
    not its own, another one would soon have the number of the worker's: frames would go into a file of a task, or the
    worker wait for ever for what nobody sends. A high number stays unused, and the worker ends with an error.
    """
    with line:
        return socket.socket(line.family, line.type, line.proto, _high_copy(line.fileno()))


def _high_copy(descriptor: int) -> int:
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    lowest = _TASKS_OWN if most == resource.RLIM_INFINITY else min(_TASKS_OWN, int(most * _PART))
    try:
        return fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, lowest)
    except OSError:  # they are all in use
        return os.dup(descriptor)


def _keep_tracker() -> None:
    """Move the descriptor of multiprocessing's resource tracker out of the way, too.

    It is kept as a number, to which a probe is written, and which is closed without an answer: once a task has closed
    it, that hits whatever has got the number since, such as a socket of an engine in this process.
    """
    tracker: Any = getattr(resource_tracker, "_resource_tracker", None)
    number = getattr(tracker, "_fd", None)
    if isinstance(number, int):
        tracker._fd = _high_copy(number)
        os.close(number)


def _pass_over(number: int, frame: Any) -> None:
    """Ignore a signal."""


def _end_with(line: socket.socket) -> None:
    """End the process, with its group, when the other end of a socket is closed.

    It does so even while a call holds the interpreter's lock.
    """
    if hasattr(fcntl, "F_SETSIG"):
        with contextlib.suppress(OSError):
            fcntl.fcntl(line, fcntl.F_SETOWN, -os.getpid() if os.getpgrp() == os.getpid() else os.getpid())
            fcntl.fcntl(line, fcntl.F_SETSIG, signal.SIGKILL)
            fcntl.fcntl(line, fcntl.F_SETFL, fcntl.fcntl(line, fcntl.F_GETFL) | os.O_ASYNC)
    # For systems without such signals, and for an engine that died before.
    threading.Thread(target=_wait_for_end, args=(line,), name="taskflowx-lifeline", daemon=True).start()


def _wait_for_end(line: socket.socket) -> None:
    poll = select.poll()
    poll.register(line, 0)  # a hang-up is always reported
    poll.poll()
    if os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)


class Worker:
    """Runs calls.

    :param channel: the connection to the engine
    :param tokens: numbers of calls that may start
    """

    #: set before the first call
    surroundings: surroundings.Own

    def __init__(self, channel: wire.WorkerEnd, tokens: socket.socket) -> None:
        self._channel = channel
        self._tokens = tokens
        #: held while a frame is sent: tasks print and log from threads of their own
        self.sending = threading.RLock()
        self.outputs: list[Any] = []
        #: whether something may be left that the running call has written
        self.wrote = False
        self._is_forked = False
        self._call = STOP
        self._atom: Any = None
        #: the number that was taken last, until its call is completed; STOP for none
        self._taken = array.array("I", [STOP])
        #: the call, and an iterator that runs it: a step, and the note of the outcome, are one instruction, as after a
        #: call a signal handler may raise
        self._running: list[Any] = [None]
        self._outcomes = itertools.starmap(contextvars.Context.run, map(self._running.__getitem__, itertools.repeat(0)))
        #: the outcome of that call, and its start in nanoseconds of the performance counter
        self._made: Any = _NOT_MADE
        self._begun = 0
        #: calls that were sent and have not started: plain ones unpickled, others as number, body and file
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
        take, taken, ahead = self._tokens.recv_into, self._taken, self._ahead
        while take(taken) == TOKEN.size:  # one function of C: a number is in `taken` once it is out of the queue
            number = taken[0]
            if number == STOP:
                return
            self._run_one(number, ahead.popleft() if ahead and ahead[0][0] == number else self._sent_as(number))
            taken[0] = STOP
            self._begun, self._made = 0, _NOT_MADE  # an idle worker holds no large result

    def _end_early(self, error: BaseException) -> None:
        """Answer for the call that was taken, and end the process: its state may be inconsistent."""
        sys.settrace(None)
        sys.setprofile(None)
        with self.sending:
            self._channel.flush()
            number = self._taken[0]
            if number != STOP:
                self._call = number
                if self._begun:
                    outcome = Failure.from_exception(error) if self._made is _NOT_MADE else self._made
                    self._deliver(number, self._atom, outcome)
                else:
                    self.send(wire.GIVEN_BACK, None)
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
                if len(sent) == _UNREAD and sent[2] is not None:
                    sent[2].close()
            channel.receive()
            if channel.closed:
                os._exit(1)
            while channel.frames:
                self._take_in(*channel.frames.popleft())

    def _take_in(self, kind: int, number: int, _: int, body: bytes, file: values.Descriptor | None) -> None:
        """Handle a frame."""
        if kind == wire.PLAIN_CALLS:
            self._ahead.extend(values.unpack(body, file))
        elif kind == wire.CALL:
            self._ahead.append((number, body, file))
        elif kind == wire.KNOWN:
            self._known[number] = (body, None)
        elif kind == wire.FORGET:
            self._known.pop(number, None)
        else:
            changed = values.unpack(body, file)
            variables = changed.pop("variables")
            self.surroundings.begin_run(changed)
            self._context = self._untouched.copy()
            self._context.run(carried.put, variables)

    def _shared_by(self, number: int) -> Any:
        """Return the data that atoms of a class share; unpickled for the first of them, as that may fail."""
        body, shared = self._known[number]
        if shared is None:
            shared = values.unpack(body, None)
            self._known[number] = b"", shared
        return shared

    def _run_one(self, number: int, sent: tuple[Any, ...]) -> None:
        started = time.perf_counter_ns()
        self._call = number
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
            self._running[0] = (self._context.copy(), base.perform, atom, verb, kwargs)
            for self._made in self._outcomes:  # noqa: B020 - one step
                break
            else:
                raise RuntimeError("a signal handler has raised StopIteration")
        except BaseException as error:
            if self._made is _NOT_MADE:  # otherwise it came from a signal handler, after the call
                self._made = Failure.from_exception(error) if isinstance(error, Exception) else base.Interrupt(error)
        self._running[0] = None
        if self._is_forked:
            _leave()
        if self.wrote:
            self.wrote = False
            for stream in self.outputs:
                stream.end_line()
        self._deliver(number, atom, self._made)
        self._atom = None

    def _opened(self, sent: tuple[Any, ...]) -> tuple[Any, str, dict[str, Any]] | None:
        """Return the atom, the verb and the arguments of an entry; None for a chained call that does not start."""
        if len(sent) == _UNREAD:
            sent = values.unpack(sent[1], sent[2])
        if len(sent) > _CALL:
            if not self._follow(sent):
                return None
            sent = sent[:_CALL]
        number, atom, known, verb, kwargs, listened = sent
        if known:
            atom = values.make_atom(self._shared_by(known), atom)
        if listened:
            base.forward_events(atom, functools.partial(self._tell, wire.EVENT, number, atom.name))
        return atom, verb, kwargs

    def _deliver(self, number: int, atom: Any, outcome: Any) -> None:
        """Send the outcome of a call."""
        self._last = _NO_CALL
        if type(outcome) is base.Interrupt:
            kind, (body, file) = wire.EXITED, values.pack_exit(outcome.exception)
        else:
            body, file = self._packed(number, atom, outcome)
            kind = wire.ENDED if self._last is _NO_CALL else wire.CONTINUES
        took = (time.perf_counter_ns() - self._begun) // 1000
        self._send_frame(kind, number, body, file, took)

    def _follow(self, sent: tuple[Any, ...]) -> bool:
        """Give a call the result of the one before in its chain; returns whether that was the last, and succeeded."""
        number, result = self._last
        if sent[0] != number + 1:
            return False
        if sent[_CALL]:
            sent[4].update(dict.fromkeys(sent[_CALL], values.own_copy(result)))
        return True

    def _packed(self, number: int, atom: Any, outcome: Any) -> tuple[bytes, values.Descriptor | None]:
        """Return the body of a frame with an outcome, or with an error if it cannot be sent; notes a flat result."""
        if outcome is None:
            self._last = number, None
            return b"", None
        try:
            body, file = values.pack(outcome)
        except BaseException:  # it may have come from a signal handler
            try:
                body, file = values.pack(outcome)
            except BaseException as error:
                return values.pack(Failure.from_exception(pickling.unsendable_result(atom.name, outcome, error)))
        if file is None and values.is_flat(outcome):
            self._last = number, outcome
        return body, file

    def _report(self, reporting: Any, details: dict[str, Any]) -> None:
        number = self._call  # before the atom, which another thread may change: it belongs to that, or is not sent
        if reporting is self._atom:
            self._tell(wire.PROGRESS, number, reporting.name, details)

    def _tell(self, kind: int, number: int, name: str, message: Any) -> None:
        """Send an event or progress of a call, which may have ended; what cannot be pickled is dropped.

        :param name: the name of the atom
        """
        try:
            body, file = values.pack(message)
        except BaseException as error:
            if not pickling.fails_with(message, error):
                raise  # it came from a signal handler, and is the task's
            details = message.details if kind == wire.EVENT else message
            output.warn_of_unsent(name, pickling.culprit(details, "details"), error)
        else:
            self._send_frame(kind, number, body, file, 0)

    def send(self, kind: int, value: Any) -> None:
        """Send a value that belongs to the running call."""
        body, file = values.pack(value)
        self._send_frame(kind, self._call, body, file, 0)

    def _send_frame(
        self, kind: int, number: int, body: bytes, file: values.Descriptor | None, microseconds: int
    ) -> None:
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
                self._channel.send(kind, number, body, file, microseconds)
        finally:
            if trace is not None:
                sys.settrace(trace)
            if profile is not None:
                sys.setprofile(profile)
        if self._channel.closed:
            os._exit(1)

    def forget(self) -> None:
        """In a process that a task has forked: it is no worker, and sends nothing."""
        self._is_forked = True
        self.sending = threading.RLock()  # another thread may have held it
        self._channel.abandon()
        output.give_back(self.outputs)


def _leave() -> None:
    """End a process that a task has forked, and that has returned from the task."""
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(0)
