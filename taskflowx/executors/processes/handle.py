"""One worker process as the engine sees it: the lines to it, and the calls that it holds.

What must stay true: it is known which worker holds which calls, and by its numbers (see `worker`) which of them has
begun. Nothing here waits for a worker to take something in.
"""

from __future__ import annotations

import array
import contextlib
import logging
import os
import socket
import time
from typing import TYPE_CHECKING, Any

from taskflowx.executors import base
from taskflowx.executors.processes import wire, worker

if TYPE_CHECKING:
    import collections
    from collections.abc import Callable

    from taskflowx.executors.processes.policy import Kind

#: how many calls a worker is sent ahead at most, whatever they take
MOST_AHEAD = 1024
#: our ends of the lines to workers: of no use to a process that is forked from this one
lines: set[socket.socket] = set()


class Handle:
    """A worker process as the engine sees it."""

    __slots__ = ("_to_allow", "ahead", "channel", "heard_at", "known", "load", "process", "sent", "taken", "tokens")

    def __init__(self, context: Any, initializer: Callable[..., Any] | None, initargs: tuple[Any, ...]) -> None:
        ours, theirs = socket.socketpair()
        tokens_in, tokens = socket.socketpair()
        their_tokens = tokens.dup()
        pipe, their_pipe = context.Pipe(duplex=False)
        ends = {ours, tokens_in, tokens}
        lines.update(ends)
        setup = worker.Setup(initializer, initargs, _levels())
        try:
            self.process = context.Process(
                target=worker.main, args=(theirs, their_pipe, their_tokens, setup), name="taskflowx-worker"
            )
            self.process.start()
        except BaseException:
            lines.difference_update(ends)
            for line in (*ends, pipe):
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
        self.sent: dict[int, tuple[base.Call, Kind, float]] = {}
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

    def take_back(self, most: int = MOST_AHEAD) -> list[base.Call]:
        """Return calls that have not begun, and now will not; the first of them that would have."""
        calls = [self.drop(number) for number in self._take_numbers(most)]
        self.taken -= len(calls)
        return calls

    def take_back_followers(self) -> list[base.Call]:
        """Return the followers that have not begun, and now will not; other calls begin as they would have."""
        followers, others = [], array.array("I")
        for number in self._take_numbers(MOST_AHEAD):
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
        lines.difference_update((self.channel.socket, *self.tokens))
        self.channel.close()
        for line in self.tokens:
            line.close()


def _levels() -> dict[str, int]:
    root = logging.getLogger()
    loggers = [root, *(one for one in root.manager.loggerDict.values() if isinstance(one, logging.Logger))]
    return {one.name: one.level for one in loggers if one.level}


def end_all(workers: collections.deque[Handle] | list[Handle]) -> None:
    """Tell workers that there will be no more calls, and wait for them to end."""
    ending = []
    while workers:
        ending.append(workers.pop())
        ending[-1].tell_to_end()
    for one in ending:
        one.close()
