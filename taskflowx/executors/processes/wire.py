"""The connection between an engine and a worker process: frames, and the descriptors sent with them.

A frame is a header and a body. A descriptor of memory with a large value goes through a socket beside it. The system
limits how many descriptors a user has on their way between processes; above the limit the contents go with the body.

What must stay true: a descriptor belongs to a file object from the call of C that makes it, see `values`; its owner
closes it when it has been sent or dropped.
"""

from __future__ import annotations

import array
import contextlib
import errno
import functools
import itertools
import operator
import os
import socket
import struct
import sys
from collections import deque
from collections.abc import Iterable
from typing import Any

from taskflowx.executors.processes import values

#: kinds of frames: to a worker, and from it; after CONTINUES, an outcome as ENDED is, the next call of the chain starts
CALL, PLAIN_CALLS, KNOWN, FORGET, SURROUNDINGS = range(5)
ENDED, CONTINUES, NOT_BEGUN, EXITED, GIVEN_BACK, PROGRESS, EVENT, WROTE, LOGGED, UNFIT, ENDS = range(5, 16)

_HEADER = struct.Struct("=BBIQQ")  # kind, company, number of the call, microseconds, length of the body
_NOTHING, _DESCRIPTOR, _CONTENTS = range(3)  # the company of a frame; contents are in its body
#: the number of bytes that are received at once
CHUNK = 64 * 1024
_FOR_DESCRIPTORS = socket.CMSG_SPACE(16 * array.array("i").itemsize) if hasattr(socket, "CMSG_SPACE") else 0
_CLOSED_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)
#: in place of a file that is still to be received, and of one that could not be received; both are closed
AWAITED, LOST = values.Descriptor.__new__(values.Descriptor), values.Descriptor.__new__(values.Descriptor)

#: kind, number of the call, its duration in microseconds, body, and what owns the descriptor that came with it or None
Frame = tuple[int, int, int, bytes, values.Descriptor | None]


class _End:
    """One end of the connection between an engine and a worker.

    Frames go to the worker through a stream socket, and come back through a pipe, where small writes cost least;
    descriptors go through the socket in both directions.

    :param line: the socket
    :param pipe: the pipe
    """

    __slots__ = ("_held", "_rest", "closed", "frames", "pipe", "socket")

    def __init__(self, line: socket.socket, pipe: values.Descriptor) -> None:
        self.socket = line
        #: the descriptor of the pipe, and its owner
        self.pipe = pipe.fileno()
        self._held = pipe
        #: received frames that have not been taken
        self.frames: deque[Frame] = deque()
        #: whether the other end is closed
        self.closed = False
        #: the beginning of a frame; it grows in place, so that a long one costs time in proportion to its length
        self._rest = bytearray()

    def _take_in(self, data: bytes) -> None:
        """Parse the frames in received data."""
        rest, frames, unpack_from, size = self._rest, self.frames, _HEADER.unpack_from, _HEADER.size
        if rest:
            rest += data
            if len(rest) < size or len(rest) < size + unpack_from(rest)[-1]:
                return
            data = bytes(rest)
            rest.clear()
        start, end = 0, len(data)
        while end - start >= size:
            kind, accompanied, call, microseconds, length = unpack_from(data, start)
            body = start + size
            if body + length > end:
                break
            start = body + length
            file = None
            if accompanied:
                file = self._next_file() if accompanied == _DESCRIPTOR else values.WITHIN
            frames.append((kind, call, microseconds, data[body:start], file))
        if start < end:
            rest += data[start:]

    def _next_file(self) -> values.Descriptor:
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection, and the descriptors of frames that were not taken; may be repeated."""
        self.frames.clear()  # the descriptors are closed with their owners
        self.socket.close()
        self._held.close()


class EngineEnd(_End):
    """The engine's end, which never blocks on the other one."""

    __slots__ = ("_unsent",)

    def __init__(self, line: socket.socket, pipe: values.Descriptor) -> None:
        super().__init__(line, pipe)
        os.set_blocking(self.pipe, False)
        values.spare.reserve()
        #: frames and their files; the first may be the rest of one, with a view only of what is too long for more
        self._unsent: deque[tuple[bytes | memoryview, values.Descriptor | None]] = deque()

    def put(self, kind: int, call: int, body: bytes, file: values.Descriptor | None = None) -> None:
        """Add a frame to those that `flush` sends."""
        self._unsent.append((_frame(kind, call, 0, body, file), file))

    def flush(self) -> bool:
        """Send as much as the worker has room for; returns whether that was everything."""
        unsent = self._unsent
        while unsent:
            data, file = unsent.popleft()
            while file is None and unsent and unsent[0][1] is None and len(data) < CHUNK:
                data += unsent.popleft()[0]  # type: ignore[operator]  # a view is longer
            try:
                sent = _send(self.socket, data, file)
            except BlockingIOError:
                unsent.appendleft((data, file))
                return False
            except (BrokenPipeError, ConnectionResetError):
                _close(file)
                self.closed = True
                self._drop_unsent()
                return True
            except OSError:
                if file is None or not _are_too_many():
                    raise
                unsent.appendleft((_with_contents(data, file), None))
                continue
            _close(file)
            if sent < len(data):
                left = memoryview(data)[sent:]  # a copy of it for each part would cost the square of a long one
                unsent.appendleft((left if len(left) >= CHUNK else bytes(left), None))
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

    def _next_file(self) -> values.Descriptor:
        return AWAITED  # many frames may bring more descriptors than a process can have

    def receive_file(self) -> values.Descriptor:
        """Return the file of a frame that was taken; files are received in the order of the frames."""
        values.spare.release()
        message = map(self.socket.recvmsg, (1,), (_FOR_DESCRIPTORS,), (_CLOSED_ON_EXEC,))
        received = _files_in(map(_ANCILLARY, message))  # in one step of C; it was sent before the frame
        values.spare.is_held()  # if this was the last one: when `unpack` has closed it
        return received[0] if received else LOST

    def _drop_unsent(self) -> None:
        self._unsent.clear()  # the descriptors are closed with their owners

    def close(self) -> None:
        """Close the connection, and drop unsent frames."""
        self._drop_unsent()
        super().close()


class WorkerEnd(_End):
    """The worker's end, which blocks until the engine sends or receives.

    Whatever a signal handler raises or sends meanwhile, a frame is sent completely or not at all, and once: a partly
    sent frame is completed before the next one, and the frame of a handler follows the one that it interrupts.
    """

    __slots__ = ("_files", "_flushing", "_outgoing", "_passed", "_writes")

    def __init__(self, line: socket.socket, pipe: values.Descriptor) -> None:
        super().__init__(line, pipe)
        self._files: deque[values.Descriptor] = deque()
        #: what is to be sent: frames, each of them alone or with the file that goes before it
        self._outgoing: deque[Any] = deque()
        #: writes the first frame with each step, and gives the number of bytes
        self._writes = map(os.write, itertools.repeat(self.pipe), map(self._outgoing.__getitem__, itertools.repeat(0)))
        #: how many bytes were sent with the file of the first item, if it has been passed on
        self._passed: list[int] = []
        self._flushing = False

    def send(
        self, kind: int, call: int, body: bytes, file: values.Descriptor | None = None, microseconds: int = 0
    ) -> None:
        """Send a frame."""
        if self.pipe < 0:
            _close(file)
            return
        frame = _frame(kind, call, microseconds, body, file)
        self._outgoing.append(frame if file is None else (frame, file))  # from here on it will be sent
        self.flush()

    def flush(self) -> None:
        """Send what is left, unless this interrupts a call of it, which then sends it.

        Signal handlers run after calls, and at the end of a loop's turn. So none runs between a step of `_writes`,
        which is no call, and the removal of the bytes that it has written. There is no loop within the `try`: the end
        of its turn would not belong to it.
        """
        outgoing = self._outgoing
        while outgoing and not self._flushing:
            self._flushing = True
            try:
                first = outgoing[0] if outgoing else None
                if first is None:
                    pass
                elif first.__class__ is tuple:
                    outgoing[0] = self._pass_on(*first)
                    del self._passed[:]
                else:
                    length = len(first)
                    if length > CHUNK and first.__class__ is bytes:
                        outgoing[0] = first = memoryview(first)  # parts of it are not copied
                    for written in self._writes:  # noqa: B007 - one step
                        break
                    else:
                        raise RuntimeError("a signal handler has raised StopIteration")
                    if written == length:
                        del outgoing[0]
                    else:
                        outgoing[0] = first[written:]
            except (BrokenPipeError, ConnectionResetError):
                self.closed = True
                return
            finally:
                self._flushing = False

    def _pass_on(self, frame: bytes, file: values.Descriptor) -> bytes:
        """Send the descriptor of a frame, and close it; returns the frame to send after it, or in place of both."""
        if not self._passed:
            try:
                self._passed.extend(map(self.socket.sendmsg, ([b"!"],), (_rights(file),)))
            except OSError:
                if not _are_too_many():
                    raise
                return _with_contents(frame, file)
        file.close()
        return frame

    def abandon(self) -> None:
        """In a process forked from the worker: close the connection, and send nothing any more."""
        self._outgoing.clear()
        for owner in (self.socket, self._held):  # not by number: they would close it again, whosever it is then
            with contextlib.suppress(OSError):  # the task has closed it
                owner.close()
        self.pipe = -1

    def receive(self) -> None:
        """Block until data arrives, and parse it. At the end of the stream it is `closed`.

        After an interrupt in it the worker ends, and with it what has been received.
        """
        try:
            data, ancillary, flags, _ = self.socket.recvmsg(CHUNK, _FOR_DESCRIPTORS, _CLOSED_ON_EXEC)
        except ConnectionResetError:
            data, ancillary, flags = b"", [], 0
        if flags & socket.MSG_CTRUNC:  # the next descriptor would be that of another frame
            raise OSError(errno.EMFILE, f"{os.strerror(errno.EMFILE)}: there is none left to receive a large value by")
        if ancillary:
            self._files.extend(_files_in((ancillary,)))
        if data:
            self._take_in(data)
        else:
            self.closed = True

    def _next_file(self) -> values.Descriptor:
        return self._files.popleft()

    def close(self) -> None:
        """Close the connection, and drop what is to be sent; may be repeated."""
        self._files.clear()  # what these own is closed with them
        self._outgoing.clear()
        super().close()


def _frame(kind: int, call: int, microseconds: int, body: bytes, file: values.Descriptor | None) -> bytes:
    accompanied = _NOTHING if file is None else _DESCRIPTOR
    return _HEADER.pack(kind, accompanied, call, microseconds, len(body)) + body


def _with_contents(frame: bytes | memoryview, file: values.Descriptor) -> bytes:
    """Return a frame that needs no descriptor, in place of one whose descriptor cannot be sent.

    The file is still open, as this is repeated after an interrupt; it is closed with its owner.
    """
    kind, _, call, microseconds, _ = _HEADER.unpack_from(frame)
    contents = values.contents(file)
    length = len(frame) - _HEADER.size + len(contents)
    return b"".join((_HEADER.pack(kind, _CONTENTS, call, microseconds, length), frame[_HEADER.size :], contents))


def _are_too_many() -> bool:
    """Tell whether the error that is handled says that no more descriptors may be on their way.

    Where a file is, nothing holds the error: an interrupt would leave both in a cycle, and the descriptor open.
    """
    return getattr(sys.exception(), "errno", None) == errno.ETOOMANYREFS


def _send(line: socket.socket, data: bytes | memoryview, file: values.Descriptor | None) -> int:
    if file is None:
        return line.send(data, socket.MSG_DONTWAIT)
    return line.sendmsg([data], _rights(file), socket.MSG_DONTWAIT)


def _rights(file: values.Descriptor) -> list[tuple[int, int, array.array[int]]]:
    return [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [file.fileno()]))]


_ANCILLARY, _PAYLOAD = operator.itemgetter(1), operator.itemgetter(2)
_numbers = functools.partial(array.array, "i")


def _files_in(ancillary: Iterable[list[tuple[int, int, bytes]]]) -> list[values.Descriptor]:
    """Return the owners of received descriptors; nothing else is ever sent beside the data of these sockets.

    It is one step of C, in which also the descriptors are received, if `ancillary` comes from such a step.
    """
    payloads = map(_PAYLOAD, itertools.chain.from_iterable(ancillary))
    return list(map(values.Descriptor, itertools.chain.from_iterable(map(_numbers, payloads))))


def _close(file: values.Descriptor | None) -> None:
    if file is not None:
        file.close()
