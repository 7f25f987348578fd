"""What the thread of the engine waits on: the lines of all workers, their deaths, and a bell by which it is woken."""

from __future__ import annotations

import contextlib
import math
import select
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskflowx.executors.processes.handle import Handle

#: milliseconds: `poll` takes no more
_LONGEST = 2**31 - 1


class Lookout:
    """Waits on any number of descriptors; each belongs to a worker."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._workers: dict[int, Handle] = {}
        self._bell, self._cord = socket.socketpair()
        for end in (self._bell, self._cord):
            end.setblocking(False)
        self._poll.register(self._bell, select.POLLIN)

    def watch(self, one: Handle) -> None:
        """Wait for what a worker sends, and for its end."""
        for line in (one.channel.pipe, one.death):
            self._add(line, one, select.POLLIN)

    def watch_for_room(self, one: Handle) -> None:
        """Wait until there is room for what is to be sent to a worker."""
        self._add(one.channel.socket.fileno(), one, select.POLLOUT)

    def _add(self, line: int, one: Handle, events: int) -> None:
        self._workers[line] = one
        self._poll.register(line, events)

    def leave(self, *lines: int) -> None:
        """Wait for descriptors no more, where they were waited for."""
        for line in lines:
            if self._workers.pop(line, None) is not None:
                self._poll.unregister(line)

    def leave_all_of(self, one: Handle) -> None:
        """Wait for nothing of a worker any more."""
        self.leave(one.channel.pipe, one.death, one.channel.socket.fileno())

    def worker_at(self, line: int) -> Handle | None:
        """Return the worker of a descriptor that is waited for."""
        return self._workers.get(line)

    def wait(self, seconds: float | None) -> list[tuple[int, bool]]:
        """Wait until something happens; returns the descriptors of workers at which it has, and which have room.

        :param seconds: how long at most; None for any time
        """
        happened = self._poll.poll(None if seconds is None else min(math.ceil(seconds * 1000), _LONGEST))
        bell = self._bell.fileno()
        for line, _ in happened:
            if line == bell:
                self._bell.recv(4096)
        return [(line, bool(events & select.POLLOUT)) for line, events in happened if line != bell]

    def ring(self) -> None:
        """Wake who waits; may be called from any thread."""
        with contextlib.suppress(OSError):  # it is full, or gone: nobody needs to be woken
            self._cord.send(b"!")

    def close(self) -> None:
        """Let go of the bell."""
        self._bell.close()
        self._cord.close()
