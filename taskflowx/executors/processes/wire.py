"""The connection between an engine and a worker process: frames, and the descriptors sent with them.

A frame is a header and a body. A descriptor of memory with a large value goes through a socket beside it.

What must stay true: the owner of a descriptor closes it when it has been sent or dropped.
"""

from __future__ import annotations

import array
import contextlib
import itertools
import os
import socket
import struct
from collections import deque
from collections.abc import Iterator

from taskflowx.executors.processes import values

#: kinds of frames: to a worker, and from it
CALL, PLAIN_CALLS, KNOWN, FORGET, SURROUNDINGS = range(5)
ENDED, NOT_BEGUN, EXITED, GIVEN_BACK, PROGRESS, EVENT, WROTE, LOGGED, UNFIT, ENDS = range(5, 15)

_HEADER = struct.Struct("=BBIII")  # kind, whether a descriptor comes with it, number of the call, microseconds, length
#: the number of bytes that are received at once
CHUNK = 64 * 1024
_FOR_DESCRIPTORS = socket.CMSG_SPACE(16 * array.array("i").itemsize) if hasattr(socket, "CMSG_SPACE") else 0
_CLOSED_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
#: in place of a descriptor that is still to be received
AWAITED = -3

#: kind, number of the call, its duration in microseconds, body, and the descriptor that came with it or -1
Frame = tuple[int, int, int, bytes, int]


class _Spare:
    """A reserve descriptor, so that another one can always be received."""

    def __init__(self) -> None:
        self._held = -1

    @contextlib.contextmanager
    def free(self) -> Iterator[None]:
        """Release it for the block, so that a descriptor can be received."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
        try:
            yield
        finally:
            self.hold()

    def hold(self) -> None:
        """Open the reserve descriptor, if one is available."""
        with contextlib.suppress(OSError):
            self._held = os.open(os.devnull, os.O_RDONLY)


_spare = _Spare()


class _End:
    """One end of the connection between an engine and a worker.

    Frames go to the worker through a stream socket, and come back through a pipe, where small writes cost least;
    descriptors go through the socket in both directions.

    :param line: the socket
    :param pipe: the descriptor of the pipe
    """

    __slots__ = ("_held", "_rest", "closed", "frames", "pipe", "socket")

    def __init__(self, line: socket.socket, pipe: int) -> None:
        self.socket = line
        self.pipe = pipe
        #: the pipe, until it is closed
        self._held = [pipe]
        #: received frames that have not been taken
        self.frames: deque[Frame] = deque()
        #: whether the other end is closed
        self.closed = False
        self._rest = b""

    def _take_in(self, data: bytes) -> None:
        """Parse the frames in received data."""
        if self._rest:
            data = self._rest + data
        frames, unpack_from, size = self.frames, _HEADER.unpack_from, _HEADER.size
        start, end = 0, len(data)
        while end - start >= size:
            kind, accompanied, call, microseconds, length = unpack_from(data, start)
            body = start + size
            if body + length > end:
                break
            start = body + length
            descriptor = self._next_descriptor() if accompanied else -1
            frames.append((kind, call, microseconds, data[body:start], descriptor))
        self._rest = data[start:]

    def _next_descriptor(self) -> int:
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection, and the descriptors of frames that were not taken; may be repeated."""
        while self.frames:
            _close(self.frames.popleft()[4])
        self.socket.close()
        close_all(self._held)


class EngineEnd(_End):
    """The engine's end, which never blocks on the other one."""

    __slots__ = ("_unsent",)

    def __init__(self, line: socket.socket, pipe: int) -> None:
        super().__init__(line, pipe)
        os.set_blocking(pipe, False)
        self._unsent: deque[tuple[bytes, int]] = deque()

    def put(self, kind: int, call: int, body: bytes, descriptor: int = -1) -> None:
        """Add a frame to those that `flush` sends."""
        self._unsent.append((_HEADER.pack(kind, descriptor >= 0, call, 0, len(body)) + body, descriptor))

    def flush(self) -> bool:
        """Send as much as the worker has room for; returns whether that was everything."""
        unsent = self._unsent
        while unsent:
            data, descriptor = unsent.popleft()
            while descriptor < 0 and unsent and unsent[0][1] < 0 and len(data) < CHUNK:
                data += unsent.popleft()[0]
            try:
                sent = _send(self.socket, data, descriptor, socket.MSG_DONTWAIT)
            except BlockingIOError:
                unsent.appendleft((data, descriptor))
                return False
            except (BrokenPipeError, ConnectionResetError):
                _close(descriptor)
                self.closed = True
                self._drop_unsent()
                return True
            _close(descriptor)
            if sent < len(data):
                unsent.appendleft((data[sent:], -1))
        return True

    def receive(self) -> int:
        """Receive what has arrived; returns the number of bytes. At the end of the stream it is `closed`."""
        try:
            data = os.read(self.pipe, CHUNK)
        except BlockingIOError:
            return 0
        if data:
            self._take_in(data)
        else:
            self.closed = True
        return len(data)

    def _next_descriptor(self) -> int:
        return AWAITED  # many frames may bring more descriptors than a process can have

    def receive_descriptor(self) -> int:
        """Return the descriptor of a frame that was taken; descriptors are received in the order of the frames."""
        with _spare.free():
            received = _receive(self.socket, 1)[1]  # it was sent before the frame
        return received[0] if received else values.LOST

    def _drop_unsent(self) -> None:
        while self._unsent:
            _close(self._unsent.popleft()[1])

    def close(self) -> None:
        """Close the connection, and drop unsent frames."""
        self._drop_unsent()
        super().close()


class WorkerEnd(_End):
    """The worker's end, which blocks until the engine sends or receives.

    Whatever a signal handler raises meanwhile, a frame is sent completely or not at all: a partly sent frame is
    completed before the next one.
    """

    __slots__ = ("_descriptors", "_outgoing")

    def __init__(self, line: socket.socket, pipe: int) -> None:
        super().__init__(line, pipe)
        self._descriptors: deque[int] = deque()
        #: frame, descriptor, the numbers of bytes that were written, and the results of passing the descriptor on. Each
        #: step is done, and noted, by functions of C alone: after any step of Python in between a signal handler may
        #: raise, and it would be unknown how much of the frame has been sent
        self._outgoing: deque[tuple[bytes, int, list[int], list[int | None]]] = deque()

    def send(self, kind: int, call: int, body: bytes, descriptor: int = -1, microseconds: int = 0) -> None:
        """Send a frame; `microseconds` must fit in four bytes."""
        if self.pipe < 0:
            _close(descriptor)
            return
        frame = _HEADER.pack(kind, descriptor >= 0, call, microseconds, len(body)) + body
        outgoing = self._outgoing
        written: list[int] = []
        outgoing.append((frame, descriptor, written, []))  # from here on it will be sent
        if descriptor < 0 and len(outgoing) == 1:  # the short path of `flush`
            try:
                written.extend(itertools.starmap(os.write, ((self.pipe, frame),)))
                if written[0] == len(frame):
                    outgoing.popleft()
                    return
            except (BrokenPipeError, ConnectionResetError):
                self.closed = True
                return
        self.flush()

    def flush(self) -> None:
        """Complete the frames whose sending was interrupted."""
        outgoing = self._outgoing
        try:
            while outgoing:
                frame, descriptor, written, passed = outgoing[0]
                if descriptor >= 0:
                    self._pass_on(descriptor, passed)
                while (done := sum(written)) < len(frame):
                    written.extend(itertools.starmap(os.write, ((self.pipe, memoryview(frame)[done:]),)))
                outgoing.popleft()
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True

    def _pass_on(self, descriptor: int, passed: list[int | None]) -> None:
        """Send a descriptor, and close it."""
        if not passed:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))]
            passed.extend(map(self.socket.sendmsg, ([b"!"],), (rights,)))
        if len(passed) == 1:
            passed.extend(map(os.close, (descriptor,)))

    def abandon(self) -> None:
        """In a process forked from the worker: close the connection, and send nothing any more."""
        self._outgoing.clear()
        for descriptor in (self.socket.detach(), self.pipe):
            _close(descriptor)
        self.pipe = -1

    def receive(self) -> None:
        """Block until data arrives, and parse it. At the end of the stream it is `closed`."""
        try:
            data, descriptors = _receive(self.socket, CHUNK)
        except ConnectionResetError:
            data, descriptors = b"", array.array("i")
        self._descriptors.extend(descriptors)
        if data:
            self._take_in(data)
        else:
            self.closed = True

    def _next_descriptor(self) -> int:
        return self._descriptors.popleft()


def _send(line: socket.socket, data: bytes, descriptor: int, flags: int = 0) -> int:
    if descriptor < 0:
        return line.send(data, flags)
    return line.sendmsg([data], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [descriptor]))], flags)


def _receive(line: socket.socket, most: int) -> tuple[bytes, array.array[int]]:
    """Return bytes, and the descriptors that came with them."""
    data, ancillary, _, _ = line.recvmsg(most, _FOR_DESCRIPTORS, _CLOSED_ON_EXEC)
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            descriptors.frombytes(payload[: len(payload) - len(payload) % descriptors.itemsize])
    return data, descriptors


def close_all(descriptors: list[int]) -> None:
    """Close descriptors and remove them from their list; may be repeated after an interrupt.

    It is one step of C: an interrupt between `pop` and `close` would leave a descriptor that nothing knows.
    """
    deque(map(os.close, map(list.pop, itertools.repeat(descriptors, len(descriptors)))), 0)


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
