"""The poller of the engine's thread: the sockets of all workers, their deaths, and a wake-up socket."""

from __future__ import annotations

import contextlib
import math
import select
import socket
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from taskflowx.executors.processes.handle import Handle

#: milliseconds: the maximum of `poll`
_LONGEST = 2**31 - 1


class Lookout:
    """Polls any number of descriptors; each belongs to a worker."""

    def __init__(self) -> None:
        self._poll = select.poll()
        self._workers: dict[int, Handle] = {}
        self._woken, self._waker = socket.socketpair()
        for end in (self._woken, self._waker):
            end.setblocking(False)
        self._poll.register(self._woken, select.POLLIN)

    def watch(self, one: Handle) -> None:
        """Poll the frames of a worker, and its death."""
        for line in (one.channel.pipe, one.death):
            self._add(line, one, select.POLLIN)

    def watch_for_room(self, one: Handle) -> None:
        """Poll for room in the socket to a worker."""
        self._add(one.channel.socket.fileno(), one, select.POLLOUT)

    def _add(self, line: int, one: Handle, events: int) -> None:
        self._workers[line] = one
        self._poll.register(line, events)

    def leave(self, *lines: int) -> None:
        """Stop polling descriptors; unknown ones are ignored."""
        for line in lines:
            if self._workers.pop(line, None) is not None:
                self._poll.unregister(line)

    def leave_all_of(self, one: Handle) -> None:
        """Stop polling a worker."""
        self.leave(one.channel.pipe, one.death, one.channel.socket.fileno())

    def worker_at(self, line: int) -> Handle | None:
        """Return the worker of a descriptor that is polled, or None."""
        return self._workers.get(line)

    def wait(self, seconds: float | None) -> list[tuple[int, bool]]:
        """Wait for an event; returns the descriptors of workers that are ready, each with whether it has room.

        :param seconds: the time limit; None for no limit
        """
        happened = self._poll.poll(None if seconds is None else min(math.ceil(seconds * 1000), _LONGEST))
        own = self._woken.fileno()
        for line, _ in happened:
            if line == own:
                self._woken.recv(4096)
        return [(line, bool(events & select.POLLOUT)) for line, events in happened if line != own]

    def wake(self) -> None:
        """Wake the waiting thread; may be called from any thread."""
        with contextlib.suppress(OSError):  # it is full or closed: no wake-up is needed
            self._waker.send(b"!")

    def close(self) -> None:
        """Close the wake-up sockets."""
        self._woken.close()
        self._waker.close()
