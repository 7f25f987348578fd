"""Values on their way to another process, and back.

A value whose pickle, or a buffer in it, is large goes through memory that both sides map: the sender writes it to an
anonymous file and sends the file's descriptor. Such memory has no name, so it is freed when the last of both sides lets
go of it, however that side ends. Small buffers stay in the stream, and so do all where no descriptor is left.

What must stay true: a descriptor is closed by whoever has it when it has been sent, mapped or dropped.
"""

from __future__ import annotations

import copyreg
import errno
import mmap
import os
import pickle
import resource
import tempfile
import weakref
from typing import Any

from taskflowx.executors import pickling
from taskflowx.signature import Signature, Wiring

#: bytes from which on a buffer or a pickle goes through shared memory
LARGE = 64 * 1024
#: in place of a descriptor: one that could not be received
LOST = -2

_ALIGNED = 64  # bytes: what arrays like to begin at
#: how many mappings may be alive at once, and as what part of the descriptors that a process may have: each holds one
_MAPPINGS, _PART = 256, 8
_NONE_LEFT = frozenset((errno.EMFILE, errno.ENFILE))
_mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


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

    stream = pickling.dumps(value, keep)
    if not large and len(stream) < LARGE:
        return stream, -1
    return _apart([memoryview(stream), *large.values()]) or (pickling.dumps(value) if large else stream, -1)


def pack_plain(value: Any) -> tuple[bytes, int]:
    """As `pack`, for values that are made of nothing but plain ones: there is no buffer to look for."""
    if value is None:
        return b"", -1
    stream = pickle.dumps(value, pickling.PROTOCOL)
    return (stream, -1) if len(stream) < LARGE else _apart([memoryview(stream)]) or (stream, -1)


def pack_exit(error: BaseException) -> tuple[bytes, int]:
    """As `pack`, for what is no `Exception`; a SystemExit that names it where it cannot be made again on the way."""
    body = pickle.dumps(pickling.exit_that_travels(error), pickling.PROTOCOL)
    return (body, -1) if len(body) < LARGE else _apart([memoryview(body)]) or (body, -1)


def _apart(parts: list[memoryview]) -> tuple[bytes, int] | None:
    """Write a pickle and its buffers to memory of their own; None where no descriptor is left for that."""
    try:
        return _write_out(parts)
    except OSError as error:
        if error.errno not in _NONE_LEFT:
            raise
        return None


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
    return pickle.dumps(places, pickling.PROTOCOL), descriptor


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("taskflowx", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def unpack(body: bytes, descriptor: int) -> Any:
    """Return what `pack` has packed; its large buffers are mapped, not copied. An empty body is None."""
    if descriptor == LOST:
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
        signature = Signature(outputs, Wiring(*execute), Wiring(*revert), *flags)
    attributes["_tfx_signature"], attributes["_tfx_listened"] = signature, None
    atom = cls.__new__(cls)
    atom.__dict__ = attributes
    return atom
