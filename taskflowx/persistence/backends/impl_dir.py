"""Runs kept in a folder, as JSON files.

    <path>/books/<uuid>/metadata           the record of a book; beside it a link to the folder of each of its flows
    <path>/flow_details/<uuid>/metadata    the record of a flow; beside it a link to the folder of each of its atoms
    <path>/atom_details/<uuid>/metadata    the record of an atom

TaskFlow can read these files, and its files can be read here. Links are relative, so the folder can be moved.

What must stay true:

- A record is replaced atomically: it is written to a temporary file, synced to the disk, and then renamed. So a reader
  finds the old one or the new one, whenever the writer dies; leftovers of a dead writer are never read.
- A step of a run is written atomically: if it has more than one record, all of them go to the file `journal` of the
  flow first. The next reader or writer of the flow completes the journal of a dead writer.
- When a method returns, its writes are on the disk. A failed sync of a folder is repeated before the next write.
- While a method writes a book, a flow or an atom, no other method writes the same one, and none reads it as a whole:
  the file `lock` beside its record is locked, which excludes other processes and other threads. That of a flow also
  holds the claim of its run. A forked process does not keep the lock.
- Only the owner may read these files: files are 0600, folders 0700.
"""

from __future__ import annotations

import collections
import contextlib
import itertools
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from taskflowx import exceptions
from taskflowx._util import arguments, failpoints
from taskflowx.persistence import codec, owners, path_based

if TYPE_CHECKING:
    from taskflowx.persistence import models

_RECORD = "metadata"
_LOCK = "lock"
_JOURNAL = "journal"
_ROOM = 512  # bytes for a `Claim`
_OURS = (_RECORD, _LOCK, _JOURNAL)
_UNFINISHED = tuple(f".{name}." for name in _OURS)
_LONGEST_NAME = 255  # bytes, on nearly all file systems
_FILE_MODE = 0o600
_FOLDER_MODE = 0o700
_BINARY = getattr(os, "O_BINARY", 0)  # Windows translates line ends without it


class DirBackend(path_based.PathBasedBackend):
    """Keeps runs in a folder.

    :param conf: `path` is the folder, made by the first write; it can be given in the `connection` too, as in
        `dir:///path`, `dir://~/path` or `dir://path`, which is relative to the working directory. `encoding` is that of
        the files, UTF-8 by default. With `sync` false, recent writes may be lost when the machine (not only the
        process) dies, and writing is much faster
    :raises ValueError: when there is no path, or it begins with an unknown home folder
    """

    # The last is TaskFlow's; nothing is cached here.
    SETTINGS: ClassVar[frozenset[str] | None] = frozenset({"path", "encoding", "sync", "max_cache_size"})
    DEFAULT_FILE_ENCODING: ClassVar[str] = "utf-8"

    def __init__(self, conf: dict[str, Any] | None) -> None:
        super().__init__(conf)
        path = os.path.expanduser(os.fsdecode(self._path))
        if path.startswith("~"):
            raise ValueError(f"The path '{path}' begins with a home folder that is not known; './~' is another folder")
        if "\0" in path:
            raise ValueError(f"No path has a NUL in it: {path!r}")
        self._path = os.path.abspath(path)
        self.encoding: str = self._conf.get("encoding") or self.DEFAULT_FILE_ENCODING
        try:
            "".encode(self.encoding)
        except LookupError as error:
            raise ValueError(f"There is no encoding {self.encoding!r}") from error
        #: folders that may not be synced
        self.unsynced: set[str] = set()
        self.sync: bool = arguments.to_bool("The setting 'sync'", self._conf.get("sync", True))

    def _usual_path(self) -> str:
        import urllib.parse

        scheme, _, address = str(self._conf.get("connection") or "").partition(":")
        path = urllib.parse.unquote(address.partition("?")[0]).removeprefix("//")
        is_local = scheme.strip().lower() == "file" and path.startswith("localhost/")
        return path.removeprefix("localhost") if is_local else path

    def get_connection(self) -> Connection:
        return Connection(self)

    def close(self) -> None:
        """Do nothing: connections share nothing."""


class Connection(path_based.PathBasedConnection):
    """Reads and writes the files of a folder."""

    _backend: DirBackend

    def validate(self) -> None:
        for path in (self._backend.path, self.book_path, self.flow_path, self.atom_path):
            if not os.path.isdir(path):
                msg = f"Missing required directory: {path}\nupgrade() makes it"
                raise exceptions.StorageFailure(msg)

    def _join_path(self, *parts: str) -> str:
        return os.path.join(*parts)

    def _check_name(self, name: str) -> None:
        try:
            size = len(name.encode())
        except UnicodeError as error:
            msg = f"The uuid {name!r} cannot be the name of a folder, it has a lone surrogate in it"
            raise exceptions.Unstorable(msg, error) from error
        if size > _LONGEST_NAME:
            msg = f"The uuid '{name}' cannot be the name of a folder: it has {size} bytes, more than {_LONGEST_NAME}"
            raise exceptions.Unstorable(msg)
        if name in _OURS or name.startswith(_UNFINISHED):
            raise exceptions.Unstorable(
                f"The uuid '{name}' cannot be the name of a folder: it is that of a file of ours"
            )

    def _ensure_path(self, path: str) -> None:
        with _translated(path):
            self._make_folder(path)

    def _get_item(self, path: str) -> str:
        return self._text_of(f"{path}/{_RECORD}")

    def _text_of(self, path: str) -> str:
        with _translated(path), open(path, "rb", buffering=0) as file:
            return file.read().decode(self._backend.encoding)

    def _set_item(self, path: str, value: str, transaction: Any) -> None:
        with _translated(path):
            self._make_folder(path)
        self._replace(path, _RECORD, value)

    def _replace(self, path: str, name: str, value: str) -> None:
        """Replace a file atomically, and sync it to the disk."""
        # No other thread writes to this file, and a leftover of an earlier process with this id is overwritten.
        unfinished = f"{path}/.{name}.{os.getpid()}-{threading.get_ident()}"
        record = f"{path}/{name}"
        data = value.encode(self._backend.encoding)
        with _translated(record):
            try:
                self._write_file(unfinished, data)
                if failpoints.on:
                    failpoints.hit("in a file")
                os.replace(unfinished, record)
            except OSError:
                with contextlib.suppress(OSError):  # it may fill a disk that is full
                    os.unlink(unfinished)
                raise
            self._fsync_directory(path)

    def _write_file(self, path: str, data: bytes) -> None:
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _BINARY, _FILE_MODE)
        try:
            _make_private(number)
            while data:
                data = data[os.write(number, data) :]
            if self._backend.sync:
                os.fsync(number)
        finally:
            os.close(number)

    def _del_tree(self, path: str, transaction: Any) -> None:
        with _translated(path), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
            self._fsync_directory(os.path.dirname(path))

    def _get_children(self, path: str) -> list[str]:
        with _translated(path), os.scandir(path) as entries:
            is_shelf = path in (self.book_path, self.flow_path, self.atom_path, self._attempt_path)
            is_child = os.DirEntry.is_dir if is_shelf else os.DirEntry.is_symlink
            return sorted(entry.name for entry in entries if is_child(entry))

    def _create_link(self, src_path: str, dest_path: str, transaction: Any) -> None:
        folder = os.path.dirname(dest_path)
        with _translated(dest_path), contextlib.suppress(FileExistsError):
            self._make_folder(folder)
            os.symlink(os.path.relpath(src_path, folder), dest_path, target_is_directory=True)
            self._fsync_directory(folder)

    @contextlib.contextmanager
    def _transaction(self, path: str) -> Iterator[None]:
        with _locked(path, alone=True, seconds_left=self._seconds_left):
            for folder in list(self._backend.unsynced):
                with contextlib.suppress(exceptions.NotFound), _translated(folder):
                    self._backend.unsynced.discard(folder)
                    self._fsync_directory(folder)
            self._finish_turn(path)
            yield

    def _reading(self, path: str) -> contextlib.AbstractContextManager[None]:
        if os.path.exists(f"{path}/{_JOURNAL}"):
            with self._transaction(path):
                pass
        return _locked(path, alone=False, seconds_left=self._seconds_left)

    def save_logbook(self, book: models.LogBook) -> models.LogBook:
        arguments.check_like("book", book, ("uuid", "created_at"), "a LogBook")
        for detail in book:
            with self._reading(self._place_of(self.flow_path, detail.uuid)):
                pass
        return super().save_logbook(book)

    def _write_turn(self, flow_path: str, changes: Any, transaction: Any) -> None:
        if len(changes) <= 1:  # a single record is replaced atomically anyway
            self._write(changes, transaction)
            return
        base = self._backend.path
        turn = [
            (os.path.relpath(path, base), change.link and os.path.relpath(change.link, base), change.kept)
            for path, change in changes.items()
        ]
        self._replace(flow_path, _JOURNAL, json.dumps(turn))
        self._write(changes, transaction)
        self._end_turn(flow_path)

    def _finish_turn(self, path: str) -> None:
        """Complete the journal of a writer that has died.

        :raises Unreadable: when it is damaged; then nothing of it is written
        """
        journal = f"{path}/{_JOURNAL}"
        try:
            text = self._text_of(journal)
        except exceptions.NotFound:
            return
        try:
            turn = [self._checked_entry(*entry) for entry in codec.loads(text)]
        except (exceptions.StorageFailure, KeyError, TypeError, ValueError) as error:
            msg = (
                f"'{journal}' has what a writer has left to be written, and is damaged\nRemove it to go on without that"
            )
            raise codec.Unreadable(msg, error) from error
        for place, link, kept in turn:
            if link is not None:
                self._create_link(place, link, None)
            self._set_item(place, kept, None)
        self._end_turn(path)

    def _checked_entry(self, place: str, link: str | None, kept: str) -> tuple[str, str | None, str]:
        """Return an entry of a journal with absolute paths.

        :raises StorageFailure, KeyError, TypeError, ValueError: when it is no entry of a record in this store
        """
        base = self._backend.path
        for part in (place, kept) if link is None else (place, kept, link):
            arguments.check_type("Each part of an entry", part, str, "a str")
        collection, name, *rest = place.split("/")
        if collection == os.path.basename(self._attempt_path) and link is None:
            path = self._chunk_path(name, int(*rest))
            codec.loads(kept)
            if os.path.islink(os.path.dirname(path)) or os.path.islink(path):
                raise ValueError(f"'{path}' is behind a link, where a folder is to be")
            return path, None, kept
        if rest:
            raise ValueError(f"'{place}' is no place of a record")
        load: Any = {"books": codec.load_book, "flow_details": codec.load_flow, "atom_details": codec.load_atom}[
            collection
        ]
        self._place_of(base, name)
        path = os.path.join(base, place)
        self._understood(path, kept, load)
        parts = [] if link is None else link.split("/")
        if parts:
            above, parent, child = parts
            if above not in {"books", "flow_details"} or child != name:
                raise ValueError(f"a link at '{link}' leads to '{place}'")
            self._place_of(base, parent)
        for each in (path, os.path.join(base, *parts[:2])):
            if os.path.islink(each):
                raise ValueError(f"'{each}' is a link, where a folder is to be")
        return path, link and os.path.join(base, link), kept

    def _end_turn(self, path: str) -> None:
        with _translated(path):
            os.unlink(f"{path}/{_JOURNAL}")
            self._fsync_directory(path)  # it must not reappear after newer records have been written

    # A version is not synced to the disk: processes with an older one die with the machine, too.

    def _get_claim(self, flow_uuid: str) -> owners.Claim | None:
        path = f"{self.flow_path}/{flow_uuid}/{_LOCK}"
        with _translated(path), contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            kept = file.read()
            # A crash of the machine may leave zeros, as the file is not synced.
            return self._to_claim(kept, path) if kept.strip(b"\0 ") else None
        return None

    def _set_claim(self, flow_uuid: str, claim: owners.Claim, transaction: Any) -> None:
        path = f"{self.flow_path}/{flow_uuid}/{_LOCK}"
        # One write in place, of constant length: a crash leaves the old claim or the new one.
        text = claim.to_json().ljust(_ROOM).encode()
        with _translated(path):
            number = os.open(path, os.O_WRONLY | _BINARY)
            try:
                os.write(number, text)
            finally:
                os.close(number)

    def _make_folder(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self._make_folder(parent)
        with contextlib.suppress(FileExistsError):  # another process was faster
            os.mkdir(path, _FOLDER_MODE)
            os.chmod(path, _FOLDER_MODE)  # the umask may have removed bits
        self._fsync_directory(parent)

    def _fsync_directory(self, path: str) -> None:
        """Sync the names in a folder to the disk."""
        if not self._backend.sync or sys.platform == "win32":
            return
        try:
            number = os.open(path, os.O_RDONLY)
            try:
                os.fsync(number)
            finally:
                os.close(number)
        except FileNotFoundError:
            raise
        except OSError:
            self._backend.unsynced.add(path)
            raise


_locks: set[int] = set()  # descriptors of locked files
_waiting: dict[str, collections.deque[threading.Event]] = {}  # path -> the waiting threads of this process
_waiting_lock = threading.Lock()


def _forget_locks() -> None:
    """In a forked process, close the descriptors that hold the locks of its parent."""
    global _waiting, _waiting_lock
    _waiting, _waiting_lock = {}, threading.Lock()  # a thread of the parent may have changed or locked them
    while _locks:
        with contextlib.suppress(OSError):
            os.close(_locks.pop())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_locks)


@contextlib.contextmanager
def _locked(path: str, *, alone: bool, seconds_left: Callable[[], float]) -> Iterator[None]:
    """Lock a record for the block; a record that does not exist is not locked.

    :param alone: whether to exclude readers as well
    :param seconds_left: returns the maximum wait in seconds
    """
    path = f"{path}/{_LOCK}"
    number = _open_lock(path, alone=alone)
    try:
        # Not `lockf`: it does not exclude other threads, and any thread that closes the file releases the lock.
        while number is not None and sys.platform != "win32":
            _locks.add(number)
            with _translated(path):
                _lock(number, path, alone=alone, seconds_left=seconds_left)
                if os.fstat(number).st_nlink:
                    break
            _unlock(number, path)  # it was removed during the wait
            number = _open_lock(path, alone=alone)
        yield
    finally:
        if number is not None:
            _unlock(number, path)


def _lock(number: int, path: str, *, alone: bool, seconds_left: Callable[[], float]) -> None:
    import fcntl

    kind = (fcntl.LOCK_EX if alone else fcntl.LOCK_SH) | fcntl.LOCK_NB
    if not alone or path not in _waiting:  # a thread that writes repeatedly must not always be the first
        with contextlib.suppress(BlockingIOError):
            fcntl.flock(number, kind)
            return
    ends = time.monotonic() + seconds_left()
    turn = threading.Event()
    with _waiting_lock:
        queue = _waiting.setdefault(path, collections.deque())
        queue.append(turn)
    _call_next(path)
    try:
        # One thread of this process polls, as the system has no wait with a timeout; the others wait for their turn.
        turn.wait(max(ends - time.monotonic(), 0))
        while True:
            turn.clear()
            with contextlib.suppress(BlockingIOError):
                fcntl.flock(number, kind)
                return
            if time.monotonic() >= ends:
                msg = f"'{path}' is locked by {_holders(number)}, and stayed so\nEnd that process if it is stuck"
                raise exceptions.StorageFailure(msg)
            turn.wait(0.001)  # or until this process releases it
    finally:
        with _waiting_lock:
            queue.remove(turn)
            if not queue:
                del _waiting[path]
        _call_next(path)


def _call_next(path: str) -> None:
    """Let the first thread that waits for a lock in this process poll it."""
    if path in _waiting:
        with _waiting_lock:
            for turn in itertools.islice(_waiting.get(path, ()), 1):
                turn.set()


def _holders(number: int) -> str:
    """Name the processes that hold a file lock, where the system tells."""
    inode = str(os.fstat(number).st_ino)
    found = set()
    with contextlib.suppress(OSError), open("/proc/locks", encoding="ascii", errors="replace") as file:
        for line in file:
            if " FLOCK " in line and f":{inode} " in line:
                found.add(line.split()[4])
    return f"process {' and '.join(sorted(found))}" if found else "another process"


def _unlock(number: int, path: str) -> None:
    if number not in _locks and sys.platform != "win32":
        return  # this is a fork of the process that holds it
    _locks.discard(number)
    try:
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(number, fcntl.LOCK_UN)  # closing is not enough where a fork holds it, too
    finally:
        os.close(number)
    _call_next(path)


def _open_lock(path: str, *, alone: bool) -> int | None:
    """Open the lock file, and make it for a write; None when there is nothing to lock."""
    with _translated(path):
        for flags in (0, os.O_CREAT | os.O_EXCL, 0) if alone else (0,):
            try:
                number = os.open(path, (os.O_RDWR if alone else os.O_RDONLY) | flags | _BINARY, _FILE_MODE)
            except FileNotFoundError:
                continue
            except FileExistsError:  # another process was faster
                continue
            if flags:
                _make_private(number)
            return number
    return None


def _make_private(number: int) -> None:
    """Set the mode of a new file, whatever the umask has removed."""
    if hasattr(os, "fchmod"):
        os.fchmod(number, _FILE_MODE)


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """Translate errors of files into our own.

    :param path: the file in question
    """
    try:
        yield
    except FileNotFoundError as error:
        msg = f"Item not found: {path}"
        raise exceptions.NotFound(msg, error) from error
    except (UnicodeError, IsADirectoryError, NotADirectoryError) as error:
        what = "it is no text in its encoding" if isinstance(error, UnicodeError) else "it should be a file in a folder"
        msg = f"The file '{path}' is damaged, {what}"
        raise codec.Unreadable(msg, error) from error
    except OSError as error:
        msg = f"Storage backend internal error at '{path}'"
        raise exceptions.StorageFailure(msg, error) from error
