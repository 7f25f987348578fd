"""What goes between an engine and its worker processes: frames, and values with the memory of large ones.

A frame is a header and a body. A value whose pickle, or a buffer in it, is large goes through memory that both sides
map: the sender writes it to an anonymous file and sends the file's descriptor with the frame. Such memory has no name,
so it is freed when the last of both sides lets go of it, however that side ends. Small buffers stay in the stream.

What must stay true: a descriptor is closed by whoever has it when it has been sent, mapped or dropped.
"""

from __future__ import annotations

import array
import contextlib
import copyreg
import errno
import functools
import mmap
import os
import pickle
import resource
import socket
import struct
import sys
import tempfile
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from taskflowx import atom as atom_module

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

#: bytes from which on a buffer or a pickle goes through shared memory
LARGE = 64 * 1024

#: kinds of frames: to a worker, and what it answers
CALL, PLAIN_CALLS, KNOWN, FORGET, SURROUNDINGS = range(5)
ENDED, NOT_BEGUN, EXITED, GIVEN_BACK, PROGRESS, EVENT, WROTE, LOGGED, UNFIT, ENDS = range(5, 15)

_HEADER = struct.Struct("=BBIII")  # kind, whether a descriptor comes with it, number of the call, microseconds, length
#: bytes that are received at once
CHUNK = 64 * 1024
_ALIGNED = 64  # bytes: what arrays like to begin at
_FOR_DESCRIPTORS = socket.CMSG_SPACE(16 * array.array("i").itemsize) if hasattr(socket, "CMSG_SPACE") else 0
_CLOSED_ON_EXEC = getattr(socket, "MSG_CMSG_CLOEXEC", 0)

#: how many mappings may be alive at once, and as what part of the descriptors that a process may have: each holds one
_MAPPINGS, _PART = 256, 8
_NONE_LEFT = frozenset((errno.EMFILE, errno.ENFILE))
#: in place of a descriptor: one that could not be received, and one that is still to be received
_LOST, AWAITED = -2, -3
_mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()

PROTOCOL = 5


#: kind, number of the call, microseconds that it took, body, and the descriptor that came with it or -1
Frame = tuple[int, int, int, bytes, int]


# -- values ----------------------------------------------------------------------------------------


def dumps(value: Any, keep: Callable[[pickle.PickleBuffer], bool] | None = None) -> bytes:
    """Pickle a value; with cloudpickle, when it is installed, what cannot be pickled by reference.

    :param keep: tells whether a buffer stays in the stream
    """
    if main_is_file():
        try:
            return pickle.dumps(value, PROTOCOL, buffer_callback=keep)
        except _NOT_BY_REFERENCE:
            if _cloudpickle() is None:
                raise
    return (_cloudpickle() or pickle).dumps(value, PROTOCOL, buffer_callback=keep)  # type: ignore[no-any-return]


#: what pickle raises for a value that it cannot find by its name, or of which it does not know how
_NOT_BY_REFERENCE = (pickle.PicklingError, AttributeError, TypeError)


def main_is_file() -> bool:
    """Tell whether a worker can import the main module: not what was typed in, or read from a pipe."""
    file = getattr(sys.modules["__main__"], "__file__", None)
    return file is not None and not (file.startswith("<") and file.endswith(">"))


@functools.cache
def _cloudpickle() -> Any:
    try:
        import cloudpickle
    except ImportError:
        return None
    return cloudpickle


def pack(value: Any) -> tuple[bytes, int]:
    """Return the body of a frame that carries a value, and the descriptor that goes with it or -1."""
    if value.__class__ in ATOMIC:
        return pack_plain(value)
    large: dict[int, memoryview] = {}  # by address: a pickle that fails is made anew

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # it has gaps
            return True
        if raw.nbytes < LARGE:
            return True
        large[len(large)] = raw
        return False

    stream = dumps(value, keep)
    if not large and len(stream) < LARGE:
        return stream, -1
    try:
        return _write_out([memoryview(stream), *large.values()])
    except OSError as error:
        if error.errno not in _NONE_LEFT:
            raise
    return dumps(value) if large else stream, -1


def pack_plain(value: Any) -> tuple[bytes, int]:
    """As `pack`, for values that are made of nothing but plain ones: there is no buffer to look for."""
    if value is None:
        return b"", -1
    stream = pickle.dumps(value, PROTOCOL)
    return (stream, -1) if len(stream) < LARGE else _write_out([memoryview(stream)])


def pack_exit(error: BaseException) -> tuple[bytes, int]:
    """As `pack`, for what is no `Exception`; a SystemExit that names it where it cannot be made again on the way."""
    try:
        body = pickle.dumps(error, PROTOCOL)
        pickle.loads(body)  # noqa: S301 - it was made the line before
    except Exception:
        cls = type(error)
        body = pickle.dumps(SystemExit(f"{cls.__module__}.{cls.__qualname__}: {error}"), PROTOCOL)
    return (body, -1) if len(body) < LARGE else _write_out([memoryview(body)])


def _write_out(parts: list[memoryview]) -> tuple[bytes, int]:
    """Write a pickle and its buffers to an anonymous file; returns where each of them is, and the descriptor."""
    descriptor = _anonymous_file()
    try:
        places = []
        end = 0
        for part in parts:
            start = -(-end // _ALIGNED) * _ALIGNED
            end = start
            left = part.cast("B")
            while left:
                written = os.pwrite(descriptor, left, end)
                end += written
                left = left[written:]
            places.append((start, end))
    except BaseException:
        os.close(descriptor)
        raise
    return pickle.dumps(places, PROTOCOL), descriptor


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("taskflowx", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def unpack(body: bytes, descriptor: int) -> Any:
    """Return what `pack` has packed; its large buffers are mapped, not copied. An empty body is None."""
    if descriptor == _LOST:
        raise OSError(errno.EMFILE, f"{os.strerror(errno.EMFILE)}: there is none left to receive a large value by")
    if descriptor < 0:
        if not body:
            return None
        return pickle.loads(body)  # noqa: S301 - from a process that we have started
    try:
        memory = _map(descriptor)
    finally:
        os.close(descriptor)
    with memoryview(memory) as whole:
        (start, end), *places = pickle.loads(body)  # noqa: S301
        buffers: list[Any] = [whole[first:last] for first, last in places]
        if places and isinstance(memory, mmap.mmap) and len(_mapped) < _most_mapped():
            _mapped.add(memory)
        else:
            buffers = list(map(bytearray, buffers))
        with whole[start:end] as stream:
            return pickle.loads(stream, buffers=buffers)  # noqa: S301


def _map(descriptor: int) -> mmap.mmap | bytes:
    """Return the memory behind a descriptor; a copy where none is left for a mapping, which has one of its own."""
    try:
        return mmap.mmap(descriptor, 0)
    except OSError as error:
        if error.errno not in _NONE_LEFT:
            raise
    with open(descriptor, "rb", closefd=False) as file:
        return file.read()


def _most_mapped() -> int:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MAPPINGS if limit == resource.RLIM_INFINITY else min(_MAPPINGS, limit // _PART)


class _Spare:
    """A descriptor that is kept, so that there is one left to receive another by."""

    def __init__(self) -> None:
        self._held = -1

    @contextlib.contextmanager
    def free(self) -> Iterator[None]:
        """Leave it to what is received in the block."""
        if self._held >= 0:
            os.close(self._held)
            self._held = -1
        try:
            yield
        finally:
            self.hold()

    def hold(self) -> None:
        """Take one, if there is one."""
        with contextlib.suppress(OSError):
            self._held = os.open(os.devnull, os.O_RDONLY)


_spare = _Spare()


def culprit(value: Any, path: str) -> str:
    """Return the path to the smallest part of a value that cannot be pickled, with its type."""
    seen: set[int] = set()
    while True:
        seen.add(id(value))
        for step, part in _parts(value):
            if id(part) not in seen and not _can_be_pickled(part):
                path, value = path + step, part
                break
        else:
            return f"{path} is a {type(value).__module__}.{type(value).__qualname__}"


def _parts(value: Any) -> list[tuple[str, Any]]:
    if isinstance(value, dict):
        return [(f"[{key!r}]", part) for key, part in value.items()] + [(f" (the key {key!r})", key) for key in value]
    if isinstance(value, (list, tuple)):
        return [(f"[{index}]", part) for index, part in enumerate(value)]
    if isinstance(value, (set, frozenset)):
        return [(f" (its element {part!r})", part) for part in value]
    return [(f".{name}", part) for name, part in getattr(value, "__dict__", {}).items()]


def _can_be_pickled(value: Any) -> bool:
    try:
        dumps(value)
    except Exception:
        return False
    return True


# -- atoms -----------------------------------------------------------------------------------------

# Most atoms of a class differ in a few plain values. What they share, the class and its signature, goes to a worker
# once; what is left is a tenth of the work for pickle.


def is_plain(cls: type) -> bool:
    """Tell whether an instance is its class and its attributes, for pickle as well."""
    return cls not in copyreg.dispatch_table and all(
        getattr(cls, name, None) is getattr(object, name, None) for name in _HOOKS
    )


_HOOKS = (
    "__reduce_ex__",
    "__reduce__",
    "__getstate__",
    "__setstate__",
    "__getnewargs__",
    "__getnewargs_ex__",
    "__slots__",
)


def own_attributes(atom: Any, shared: Any) -> dict[str, Any] | None:
    """Return what sets a plain atom apart from others of its class; None when it is more than plain values.

    :param shared: the signature of atoms that have none of their own
    """
    attributes: dict[str, Any] = atom.__dict__.copy()
    signature = attributes.pop("_tfx_signature")
    del attributes["_tfx_listened"]
    if not ATOMIC.issuperset(map(type, attributes.values())):
        return None
    if signature is not shared:
        outputs, execute, revert, *flags = signature
        if not ATOMIC.issuperset([type(key) for _, key in outputs]):
            return None
        # As tuples without names, which pickle knows by itself.
        attributes["_tfx_signature"] = (outputs, execute[:], revert[:], *flags)
    return attributes


#: classes of values of which it does not matter whether two have one object in common
ATOMIC = frozenset((str, int, float, bool, bytes, type(None)))


def is_flat(value: Any) -> bool:
    """Tell whether a value is plain, or a list, tuple or dict of plain ones, so that it is the same when unpickled."""
    cls = value.__class__
    if cls in ATOMIC:
        return True
    if cls is dict:
        return ATOMIC.issuperset(map(type, value)) and ATOMIC.issuperset(map(type, value.values()))
    return (cls is list or cls is tuple) and ATOMIC.issuperset(map(type, value))


def make_atom(shared: tuple[Any, Any], attributes: dict[str, Any]) -> Any:
    """Return an atom that was taken apart by `own_attributes`."""
    cls, signature = shared
    own = attributes.get("_tfx_signature")
    if own is not None:
        outputs, execute, revert, *flags = own
        signature = atom_module.Signature(outputs, atom_module.Wiring(*execute), atom_module.Wiring(*revert), *flags)
    attributes["_tfx_signature"], attributes["_tfx_listened"] = signature, None
    atom = cls.__new__(cls)
    atom.__dict__ = attributes
    return atom


# -- frames ----------------------------------------------------------------------------------------


class _End:
    """One end of the line between an engine and a worker.

    Frames go to the worker through a stream socket, and come back through a pipe, where small writes cost least;
    descriptors go through the socket both ways.

    :param line: the socket
    :param pipe: the descriptor of the pipe
    """

    __slots__ = ("_rest", "closed", "frames", "pipe", "socket")

    def __init__(self, line: socket.socket, pipe: int) -> None:
        self.socket = line
        self.pipe = pipe
        #: what was received and has not been taken
        self.frames: deque[Frame] = deque()
        #: whether the other end is gone
        self.closed = False
        self._rest = b""

    def _take_in(self, data: bytes) -> None:
        """Take the frames out of what was received."""
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
        """Let go of the line, and of what came with frames that nobody has taken."""
        while self.frames:
            _close(self.frames.popleft()[4])
        self.socket.close()
        os.close(self.pipe)


class EngineEnd(_End):
    """The end of the engine, which never waits for the other one."""

    __slots__ = ("_unsent",)

    def __init__(self, line: socket.socket, pipe: int) -> None:
        super().__init__(line, pipe)
        os.set_blocking(pipe, False)
        self._unsent: deque[tuple[bytes, int]] = deque()

    def put(self, kind: int, call: int, body: bytes, descriptor: int = -1) -> None:
        """Add a frame to those that `flush` sends."""
        self._unsent.append((_HEADER.pack(kind, descriptor >= 0, call, 0, len(body)) + body, descriptor))

    def flush(self) -> bool:
        """Send what the worker has room for; returns whether that was all."""
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
        """Take in what has come; returns how many bytes that were. At the end of the line it is `closed`."""
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
        return AWAITED  # of many frames at once there may be more than a process can have

    def receive_descriptor(self) -> int:
        """Return the descriptor that came with a frame that was taken; they are received in the order of the frames."""
        with _spare.free():
            received = _receive(self.socket, 1)[1]  # it was sent before the frame
        return received[0] if received else _LOST

    def _drop_unsent(self) -> None:
        while self._unsent:
            _close(self._unsent.popleft()[1])

    def close(self) -> None:
        """Let go of the line, and of what was to be sent."""
        self._drop_unsent()
        super().close()


class _Outgoing:
    """A frame on its way out, with what has been done of that.

    Each step is done, and noted, by functions of C alone: after any step of Python in between a signal handler may
    raise, and nobody would know then how much of the frame has gone out.
    """

    __slots__ = ("_closed", "_descriptor", "_frame", "_passed", "_written")

    def __init__(self, frame: bytes, descriptor: int) -> None:
        self._frame = frame
        self._descriptor = descriptor
        self._written: list[int] = []
        self._passed: list[int] = []
        self._closed: list[None] = []

    def go_on(self, line: socket.socket, pipe: int) -> None:
        """Do what is left to do; may be called again after an exception."""
        if self._descriptor >= 0:
            if not self._passed:
                rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [self._descriptor]))]
                self._passed.extend(map(line.sendmsg, ([b"!"],), (rights,)))
            self.drop()
        frame, written = self._frame, self._written
        while (done := sum(written)) < len(frame):
            written.extend(map(os.write, (pipe,), (memoryview(frame)[done:] if done else frame,)))

    def drop(self) -> None:
        """Let go of the descriptor."""
        if self._descriptor >= 0 and not self._closed:
            self._closed.extend(map(os.close, (self._descriptor,)))


class WorkerEnd(_End):
    """The end of a worker, which waits for the engine to send and to take.

    Whatever a signal handler raises meanwhile, a frame goes out whole, or not at all: what was begun is ended before
    the next one goes out.
    """

    __slots__ = ("_descriptors", "_outgoing")

    def __init__(self, line: socket.socket, pipe: int) -> None:
        super().__init__(line, pipe)
        self._descriptors: deque[int] = deque()
        self._outgoing: deque[_Outgoing] = deque()

    def send(self, kind: int, call: int, body: bytes, descriptor: int = -1, microseconds: int = 0) -> None:
        """Send a frame; `microseconds` are at most as many as four bytes hold."""
        if self.pipe < 0:
            _close(descriptor)
            return
        frame = _HEADER.pack(kind, descriptor >= 0, call, microseconds, len(body)) + body
        self._outgoing.append(_Outgoing(frame, descriptor))  # from here on it will go out
        self.flush()

    def flush(self) -> None:
        """Send what is left of frames whose sending was interrupted."""
        outgoing = self._outgoing
        try:
            while outgoing:
                outgoing[0].go_on(self.socket, self.pipe)
                outgoing.popleft()
        except (BrokenPipeError, ConnectionResetError):
            self.closed = True

    def abandon(self) -> None:
        """In a process that was forked from the worker: let go of the line, and send nothing any more."""
        self._outgoing.clear()
        for descriptor in (self.socket.detach(), self.pipe):
            _close(descriptor)
        self.pipe = -1

    def receive(self) -> None:
        """Wait for something to come, and take it in. At the end of the line it is `closed`."""
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


def _close(descriptor: int) -> None:
    if descriptor >= 0:
        os.close(descriptor)
