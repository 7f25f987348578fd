"""What a worker process does: it takes calls one after another, and sends back what comes of them.

    engine ── frames with calls ──→ channel ┐
    engine ── their numbers ──────→ tokens  ┴→ one call at a time ── result, progress, events, text, logs ──→ engine

Calls may be sent ahead. To begin one, a worker takes its number from `tokens`, a queue in the kernel from which the
engine takes numbers, too: so whoever has taken a number knows that the other one has not, and when a worker has died,
the numbers that are left are those of calls that have not begun.

A follower is sent together with the call before it, and begins when that has succeeded: it takes the result of that
call, as it was before it was pickled, so this must be flat. Where it does not begin, the engine knows that by the same
rule, and nothing is sent.

A worker ends when it is told to, and at once when the engine is gone: nobody would hear of what it does.
"""

from __future__ import annotations

import os
import select
import signal
import struct
import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import task
from taskflowx.executors import base
from taskflowx.executors.processes import output, wire
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable
    from multiprocessing.connection import Connection

TOKEN = struct.Struct("=I")
#: in place of the number of a call: there will be no more
STOP = 0xFFFFFFFF
_LONGEST = 0xFFFFFFFF  # microseconds
#: as long is what was sent of a call that has not been unpickled, and of one that follows no other
_UNREAD, _CALL = 3, 6
#: in place of the last call: nothing may follow it
_NOBODY = (STOP, None)


class Setup(NamedTuple):
    """What a worker does before its first call.

    :param initializer: is called with `initargs`, if there is one
    :param levels: levels of the engine's loggers, by name
    """

    initializer: Callable[..., Any] | None
    initargs: tuple[Any, ...]
    levels: dict[str, int]


def main(line: socket.socket, pipe: Connection, tokens: socket.socket, setup: Setup) -> None:
    """Work until there is no more to do."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal sends it to all processes; the engine decides about them
    threading.Thread(target=_end_with, args=(line.fileno(),), name="taskflowx-lifeline", daemon=True).start()
    worker = Worker(wire.WorkerEnd(line, pipe.fileno()), tokens)
    worker.outputs = output.take_over(worker, setup.levels)
    if setup.initializer is not None:
        try:
            setup.initializer(*setup.initargs)
        except Exception as error:
            worker.send(wire.UNFIT, Failure.from_exception(error))
            return
    worker.run()


def _end_with(line: int) -> None:
    """End the process when the other end of a line is closed."""
    poll = select.poll()
    poll.register(line, 0)  # a hang-up is always told
    poll.poll()
    os._exit(1)


class Worker:
    """Runs calls.

    :param channel: the line to the engine
    :param tokens: numbers of calls that may begin
    """

    def __init__(self, channel: wire.WorkerEnd, tokens: socket.socket) -> None:
        self._channel = channel
        self._tokens = tokens
        #: held while something is sent: tasks print and log from threads of their own
        self.sending = threading.RLock()
        self._call = STOP
        self._atom: Any = None
        self.outputs: list[output.Output] = []
        #: calls that were sent and have not begun: plain ones as they are, others as number, body and descriptor
        self._ahead: deque[tuple[Any, ...]] = deque()
        #: number -> what atoms of a class share: pickled, and when that was needed
        self._known: dict[int, tuple[bytes, Any]] = {}
        #: number and result of the last call, if something may follow it
        self._last: tuple[int, Any] = _NOBODY

    def run(self) -> None:
        """Take calls and run them, until there are no more."""
        task.PROGRESS.set(self._report)
        take, size, ahead = self._tokens.recv, TOKEN.size, self._ahead
        while len(token := take(size)) == size:
            (number,) = TOKEN.unpack(token)
            if number == STOP:
                return
            if ahead and ahead[0][0] == number:
                self._run_one(number, ahead.popleft())
            else:
                self._run_one(number, self._sent_as(number))

    def _sent_as(self, number: int) -> tuple[Any, ...]:
        """Return what was sent of a call, and forget those before it: the engine has taken these back."""
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
                kind, call, _, body, descriptor = channel.frames.popleft()
                if kind == wire.PLAIN_CALLS:
                    ahead.extend(wire.unpack(body, descriptor))
                elif kind == wire.CALL:
                    ahead.append((call, body, descriptor))
                else:
                    self._known[call] = (body, None)

    def _shared_by(self, number: int) -> Any:
        """Return what atoms of a class share; unpickled when the first of them comes, as that may fail."""
        body, shared = self._known[number]
        if shared is None:
            shared = wire.unpack(body, -1)
            self._known[number] = body, shared
        return shared

    def _run_one(self, number: int, sent: tuple[Any, ...]) -> None:
        started = time.perf_counter_ns()
        self._call = number
        try:
            if len(sent) == _UNREAD:
                sent = wire.unpack(sent[1], sent[2])
            if len(sent) > _CALL:
                if not self._follow(sent):
                    return
                sent = sent[:_CALL]
            _, atom, known, verb, kwargs, listened = sent
            if known:
                atom = wire.make_atom(self._shared_by(known), atom)
            if listened:
                base.forward_events(atom, self._forward)
        except Exception as error:
            error.add_note("A worker process could not take the call: it must be able to import all that is in it")
            self.send(wire.NOT_BEGUN, Failure.from_exception(error))
            return
        self._atom = atom
        kind = wire.ENDED
        try:
            outcome = base.perform(atom, verb, kwargs)
        except BaseException as error:
            kind, outcome = wire.EXITED, error
        self._atom = None
        for stream in self.outputs:
            if stream.line:
                stream.write("\n")
        self._deliver(number, kind, atom, outcome, started)

    def _deliver(self, number: int, kind: int, atom: Any, outcome: Any, started: int) -> None:
        """Send what came of a call.

        :param started: nanoseconds of the clock when it began
        """
        self._last = _NOBODY
        body, descriptor = self._packed(number, atom, kind, outcome)
        took = (time.perf_counter_ns() - started) // 1000
        with self.sending:
            self._channel.send(kind, number, body, descriptor, min(took, _LONGEST))
        if self._channel.closed:
            os._exit(1)

    def _follow(self, sent: tuple[Any, ...]) -> bool:
        """Give a follower the result of the call before it; returns whether that was the last one, and succeeded."""
        kwargs, before, awaited = sent[4], sent[_CALL], sent[_CALL + 1]
        number, result = self._last
        kwargs.update(dict.fromkeys(awaited, result))
        return bool(before == number)

    def _packed(self, number: int, atom: Any, kind: int, outcome: Any) -> tuple[bytes, int]:
        """Return what came of a call as the body of a frame, or why it cannot be that; notes what may be followed."""
        try:
            body, descriptor = wire.pack(outcome)
            if descriptor < 0 and wire.is_flat(outcome):
                self._last = number, outcome
            return body, descriptor
        except Exception as error:
            if kind == wire.EXITED:
                return wire.pack(SystemExit(str(outcome)))
            unsendable = TypeError(
                f"The result of atom '{atom.name}' cannot be pickled, as it must be to leave its process: "
                f"{wire.culprit(outcome, 'result')} ({error})"
            )
            unsendable.__cause__ = error
            return wire.pack(Failure.from_exception(unsendable))

    def _forward(self, event: base.Event) -> None:
        self.send(wire.EVENT, event)

    def _report(self, reporting: Any, details: dict[str, Any]) -> None:
        if reporting is self._atom:
            self.send(wire.PROGRESS, details)

    def send(self, kind: int, value: Any) -> None:
        """Send a value that belongs to the call that runs."""
        with self.sending:
            self._channel.send(kind, self._call, *wire.pack(value))
        if self._channel.closed:
            os._exit(1)
