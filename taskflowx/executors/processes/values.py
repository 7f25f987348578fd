"""Pickles values for another process, and unpickles them.

A value whose pickle, or a buffer in it, is large goes through memory that both sides map: the sender writes it to an
anonymous file and sends the file's descriptor. Such memory has no name, so it is freed when the last side releases it,
however that side ends. Small buffers stay in the stream; so do all buffers where no descriptor is left.

What must stay true: the owner of a descriptor closes it when it has been sent, mapped or dropped.
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

#: the size in bytes from which a buffer or a pickle goes through shared memory
LARGE = 64 * 1024
#: in place of a descriptor that could not be received
LOST = -2

_ALIGNED = 64  # bytes: the alignment of arrays
#: the maximum number of live mappings, also as a fraction of the process's descriptor limit: each holds a descriptor
_MAPPINGS, _PART = 256, 8
_NONE_LEFT = frozenset((errno.EMFILE, errno.ENFILE))
_mapped: weakref.WeakSet[mmap.mmap] = weakref.WeakSet()


def pack(value: Any) -> tuple[bytes, int]:
    """Return the body of a frame with a value, and the descriptor that is sent with it or -1."""
    if value.__class__ in ATOMIC:
        return pack_plain(value)
    large: dict[int, memoryview] = {}  # by address: a failed pickling is repeated

    def keep(buffer: pickle.PickleBuffer) -> bool:
        try:
            raw = buffer.raw()
        except BufferError:  # it is not contiguous
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
    """As `pack`, for values that consist of plain ones: they have no buffers."""
    if value is None:
        return b"", -1
    stream = pickle.dumps(value, pickling.PROTOCOL)
    return (stream, -1) if len(stream) < LARGE else _apart([memoryview(stream)]) or (stream, -1)


def pack_exit(error: BaseException) -> tuple[bytes, int]:
    """As `pack`, for an exception that is no `Exception`; a SystemExit that names it when it cannot be unpickled."""
    body = pickle.dumps(pickling.exit_that_travels(error), pickling.PROTOCOL)
    return (body, -1) if len(body) < LARGE else _apart([memoryview(body)]) or (body, -1)


def _apart(parts: list[memoryview]) -> tuple[bytes, int] | None:
    """Write a pickle and its buffers to shared memory; None where no descriptor is left for it."""
    try:
        return _write_out(parts)
    except OSError as error:
        if error.errno not in _NONE_LEFT:
            raise
        return None


def _write_out(parts: list[memoryview]) -> tuple[bytes, int]:
    """Write a pickle and its buffers to an anonymous file; returns their positions, and the descriptor."""
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
    """Return the value that `pack` has packed; large buffers are mapped, not copied. An empty body is None."""
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
    """Map the memory behind a descriptor; a copy where no descriptor is left, as a mapping holds one."""
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

# Most atoms of a class differ in a few plain values. The data that they share, the class and its signature, is sent to
# a worker once; the rest is a tenth of the work for pickle.


def is_plain(cls: type) -> bool:
    """Tell whether an instance consists of its class and its attributes, for pickle as well."""
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
    cls = value.__class__
    if cls in ATOMIC:
        return True
    if cls is dict:
        return ATOMIC.issuperset(map(type, value)) and ATOMIC.issuperset(map(type, value.values()))
    return (cls is list or cls is tuple) and ATOMIC.issuperset(map(type, value))


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
