"""Pickles values for another process, and unpickles them.

A value whose pickle, or a buffer in it, is large goes through memory that both sides map: the sender writes it to an
anonymous file and sends the file's descriptor. Such memory has no name, so it is freed when the last side releases it,
however that side ends. Small buffers stay in the stream; so do all buffers where the system has no more shared memory
or descriptors.

What must stay true: a descriptor belongs to a file object from the call of C that makes it. The object closes it when
it has been sent, mapped or dropped, and also when an interrupt has come before that.
"""

from __future__ import annotations

import contextlib
import copyreg
import errno
import io
import itertools
import mmap
import os
import pickle
import resource
import tempfile
import weakref
from collections import deque
from typing import TYPE_CHECKING, Any

from taskflowx.executors import pickling
from taskflowx.signature import Signature, Wiring

if TYPE_CHECKING:
    from collections.abc import Callable

#: the size in bytes from which a buffer or a pickle goes through shared memory
LARGE = 64 * 1024

_ALIGNED = 64  # bytes: the alignment of arrays
#: the maximum number of live mappings, and of files that are to be sent, also as a fraction of the process's descriptor
#: limit: each holds a descriptor
_MAPPINGS, _PART = 256, 8
_mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()
_leaving: weakref.WeakSet[Descriptor] = weakref.WeakSet()


class Descriptor(io.FileIO):
    """The owner of a descriptor, which is closed with it, by C alone: so no interrupt comes before that."""

    #: no warning of a file that nobody has closed: this is in place of what CPython has `close` warn by
    _finalizing = False


def owned(make: Callable[..., int], *arguments: Any, mode: str = "rb") -> Descriptor:
    """Return the owner of a descriptor that a function of C makes.

    It is one step of C: an interrupt between two calls would leave a descriptor that nothing knows.

    :param make: returns the descriptor
    """
    return next(map(Descriptor, itertools.starmap(make, (arguments,)), (mode,)))


def close_all(descriptors: list[int]) -> None:
    """Close descriptors and remove them from their list; may be repeated after an interrupt.

    It is one step of C: an interrupt between `pop` and `close` would leave a descriptor that nothing knows.
    """
    deque(map(os.close, map(list.pop, itertools.repeat(descriptors, len(descriptors)))), 0)


class _Spare:
    """A reserve descriptor of an engine's process, so that the next one can always be received."""

    def __init__(self) -> None:
        self._held: list[int] = []
        self._is_wanted = False

    def reserve(self) -> None:
        """Hold it from now on, whenever one is available."""
        self._is_wanted = True
        self.is_held()

    def release(self) -> None:
        """Close it until `is_held`, so that another one can be received."""
        close_all(self._held)

    def is_held(self) -> bool:
        """Open it if it is wanted and not open; returns False where no descriptor is left for that."""
        if self._is_wanted and not self._held:
            with contextlib.suppress(OSError):  # one step of C, see `close_all`
                self._held.extend(map(os.open, (os.devnull,), (os.O_RDONLY,)))
            return bool(self._held)
        return True


spare = _Spare()


def pack(value: Any) -> tuple[bytes, Descriptor | None]:
    """Return the body of a frame with a value, and the owner of the descriptor that is sent with it, or None."""
    if type(value) in ATOMIC:  # what a value says of its class may be another one
        return pack_plain(value)
    large = pickling.Apart(LARGE)
    stream = pickling.dumps(value, large)
    if not large and len(stream) < LARGE:
        return stream, None
    return _apart([memoryview(stream), *large]) or (pickling.dumps(value) if large else stream, None)


def pack_plain(value: Any) -> tuple[bytes, Descriptor | None]:
    """As `pack`, for values that consist of plain ones: they have no buffers."""
    if value is None:
        return b"", None
    stream = pickle.dumps(value, pickling.PROTOCOL)
    return (stream, None) if len(stream) < LARGE else _apart([memoryview(stream)]) or (stream, None)


def pack_exit(error: BaseException) -> tuple[bytes, Descriptor | None]:
    """As `pack`, for an exception that is no `Exception`; a SystemExit that names it when it cannot be unpickled."""
    body = pickle.dumps(pickling.exit_that_travels(error), pickling.PROTOCOL)
    return (body, None) if len(body) < LARGE else _apart([memoryview(body)]) or (body, None)


def _apart(parts: list[memoryview]) -> tuple[bytes, Descriptor] | None:
    """Write a pickle and its buffers to shared memory; None where the system has none, or no descriptor for it."""
    if len(_leaving) < _most() and spare.is_held():
        with contextlib.suppress(OSError):  # also by limits of memory and of the size of files
            return _write_out(parts)
    return None


def _write_out(parts: list[memoryview]) -> tuple[bytes, Descriptor]:
    """Write a pickle and its buffers to an anonymous file; returns their positions, and the file."""
    file = _anonymous_file()
    try:
        _leaving.add(file)
        places = []
        end = 0
        for part in parts:
            start = -(-end // _ALIGNED) * _ALIGNED
            end = _write_part(file.fileno(), part.cast("B"), start)
            places.append((start, end))
    except BaseException:
        file.close()
        raise
    return pickle.dumps(places, pickling.PROTOCOL), file


def _write_part(descriptor: int, left: memoryview, at: int) -> int:
    """Write all of a part at a position; returns its end."""
    while left:
        written = os.pwrite(descriptor, left, at)
        at += written
        left = left[written:]
    return at


def contents(file: Descriptor) -> bytes:
    """Return what a file contains that `pack` has returned, to be sent behind the body."""
    file.seek(0)
    return file.readall()


#: in place of a file whose contents are behind the body; it is closed
WITHIN = Descriptor.__new__(Descriptor)


def _anonymous_file() -> Descriptor:
    if hasattr(os, "memfd_create"):
        return owned(os.memfd_create, "taskflowx", os.MFD_CLOEXEC, mode="r+b")
    with tempfile.TemporaryFile() as file:
        return owned(os.dup, file.fileno(), mode="r+b")


def unpack(body: bytes, file: Descriptor | None) -> Any:
    """Return the value that `pack` has packed; large buffers are mapped, not copied. An empty body is None.

    :param file: what came with it, which is closed; one that is closed already could not be received, or is `WITHIN`
    """
    if file is None:
        if not body:
            return None
        return pickle.loads(body)  # noqa: S301 - from a process that we have started
    if file is WITHIN:
        stream = io.BytesIO(body)
        return _unpacked(pickle.load(stream), body[stream.tell() :])  # noqa: S301
    if file.closed:
        raise OSError(errno.EMFILE, f"{os.strerror(errno.EMFILE)}: there is none left to receive a large value by")
    try:
        memory = _map(file.fileno())
    finally:
        file.close()
        spare.is_held()
    return _unpacked(pickle.loads(body), memory)  # noqa: S301


def _unpacked(parts: list[tuple[int, int]], memory: mmap.mmap | bytes) -> Any:
    """Return the value whose pickle and buffers are at these positions."""
    (start, end), *places = parts
    with memoryview(memory) as whole:
        buffers: list[Any] = [whole[first:last] for first, last in places]
        if places and isinstance(memory, mmap.mmap) and len(_mapped) < _most():
            _mapped.add(memory)
        else:
            buffers = list(map(bytearray, buffers))
        with whole[start:end] as stream:
            return pickle.loads(stream, buffers=buffers)  # noqa: S301


def _map(descriptor: int) -> mmap.mmap | bytes:
    """Map the memory behind a descriptor; a copy where no descriptor is left for it, or the system refuses."""
    with contextlib.suppress(OSError):
        return mmap.mmap(descriptor, 0, access=mmap.ACCESS_COPY)  # a process forked from this one has its own copy
    with open(descriptor, "rb", closefd=False) as file:
        return file.read()


def _most() -> int:
    """Return the maximum number of mappings, and of files that are to be sent."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return _MAPPINGS if limit == resource.RLIM_INFINITY else min(_MAPPINGS, limit // _PART)


# -- atoms -----------------------------------------------------------------------------------------

# Most atoms of a class differ in a few plain values. The data that they share, the class and its signature, is sent to
# a worker once; the rest is a tenth of the work for pickle.


def is_plain(cls: type) -> bool:
    """Tell whether an instance consists of its class and its attributes, for pickle as well."""
    return (
        cls not in copyreg.dispatch_table
        and all(getattr(cls, name, None) is getattr(object, name, None) for name in _HOOKS)
        and not any(vars(base).get("__slots__") for base in cls.__mro__)
    )


_HOOKS = (
    "__reduce_ex__",
    "__reduce__",
    "__getstate__",
    "__setstate__",
    "__getnewargs__",
    "__getnewargs_ex__",
)


def own_attributes(atom: Any, shared: Any) -> dict[str, Any] | None:
    """Return the attributes in which a plain atom differs from others of its class; None if some are not plain.

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
        # As plain tuples, which pickle supports natively.
        attributes["_tfx_signature"] = (outputs, execute[:], revert[:], *flags)
    return attributes


#: classes of values whose identity does not matter
ATOMIC = frozenset((str, int, float, bool, bytes, type(None)))


def is_flat(value: Any) -> bool:
    """Tell whether a value is plain, or a list, tuple or dict of plain ones: its unpickled copy is identical."""
    cls = type(value)
    if cls in ATOMIC:
        return True
    if cls is dict:
        return ATOMIC.issuperset(map(type, value)) and ATOMIC.issuperset(map(type, value.values()))
    return (cls is list or cls is tuple) and ATOMIC.issuperset(map(type, value))


def own_copy(value: Any) -> Any:
    """Return a flat value that shares nothing that can change with another one, as an unpickled copy would."""
    return value.copy() if type(value) in _CHANGEABLE else value


_CHANGEABLE = frozenset((list, dict))


def make_atom(shared: tuple[Any, Any], attributes: dict[str, Any]) -> Any:
    """Return the atom from the result of `own_attributes`."""
    cls, signature = shared
    own = attributes.get("_tfx_signature")
    if own is not None:
        outputs, execute, revert, *flags = own
        signature = Signature(outputs, Wiring(*execute), Wiring(*revert), *flags)
    attributes["_tfx_signature"], attributes["_tfx_listened"] = signature, None
    atom = cls.__new__(cls)
    atom.__dict__ = attributes
    return atom
