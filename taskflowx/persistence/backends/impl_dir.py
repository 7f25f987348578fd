"""Runs kept in a folder, as JSON files.

    <path>/books/<uuid>/metadata           the record of a book; beside it a link to the folder of each of its flows
    <path>/flow_details/<uuid>/metadata    the record of a flow; beside it a link to the folder of each of its atoms
    <path>/atom_details/<uuid>/metadata    the record of an atom

TaskFlow can read these files, and its files can be read here. Links are relative, so the folder can be moved.

What must stay true:

- A record is replaced atomically: it is written to a temporary file, synced to the disk, and then renamed. So a reader
  finds the old one or the new one, whenever the writer dies; leftovers of a dead writer are never read.
- A step of a run is written atomically: if it has more than one record, all of them go to the file `journal` of the
  flow first. The next reader or writer of the flow completes the journal of a dead writer. The record of a flow that
  is removed becomes its journal, so a removal is completed, too.
- When a method returns, its writes are on the disk. A failed sync of a folder is repeated before the next write.
- While a method writes a book, a flow or an atom, no other method writes the same one, and none reads it as a whole:
  the file `lock` beside its record is locked, which excludes other processes and other threads. That of a flow also
  holds the claim of its run. A forked process does not keep the lock.
- Only the owner may read these files: files are 0600, folders 0700.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from taskflowx import exceptions
from taskflowx._util import arguments, failpoints
from taskflowx.persistence import codec, owners, path_based
from taskflowx.persistence.backends.dir_locks import BINARY, FILE_MODE, LOCK, locked, make_private, translated

if TYPE_CHECKING:
    from taskflowx.persistence import models

_RECORD = "metadata"
_JOURNAL = "journal"
_ROOM = 512  # bytes for a `Claim`
_OURS = (_RECORD, LOCK, _JOURNAL)
_UNFINISHED = tuple(f".{name}." for name in _OURS)
_LONGEST_NAME = 255  # bytes, on nearly all file systems
_FOLDER_MODE = 0o700


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
        path = os.path.expanduser(os.fsdecode(self.path))
        if path.startswith("~"):
            raise ValueError(f"The path '{path}' begins with a home folder that is not known; './~' is another folder")
        if "\0" in path:
            raise ValueError(f"No path has a NUL in it: {path!r}")
        self.path = os.path.abspath(path)
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


class Connection(path_based.PathBasedConnection):
    """Reads and writes the files of a folder."""

    _backend: DirBackend

    def validate(self) -> None:
        for path in (self._backend.path, self.book_path, self.flow_path, self.atom_path):
            if not os.path.isdir(path):
                raise exceptions.StorageFailure(f"Missing required directory: {path}\nupgrade() makes it")

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
        with translated(path):
            self._make_folder(path)

    def _get_item(self, path: str) -> str:
        return self._text_of(f"{path}/{_RECORD}")

    def _text_of(self, path: str) -> str:
        with translated(path), open(path, "rb", buffering=0) as file:
            return file.read().decode(self._backend.encoding)

    def _set_item(self, path: str, value: str, transaction: Any) -> None:
        with translated(path):
            self._make_folder(path)
        self._replace(path, _RECORD, value)

    def _replace(self, path: str, name: str, value: str) -> None:
        """Replace a file atomically, and sync it to the disk."""
        # No other thread writes to this file, and a leftover of an earlier process with this id is overwritten.
        unfinished = f"{path}/.{name}.{os.getpid()}-{threading.get_ident()}"
        record = f"{path}/{name}"
        data = value.encode(self._backend.encoding)
        with translated(record):
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
        number = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | BINARY, FILE_MODE)
        try:
            make_private(number)
            _write_all(number, data)
            if self._backend.sync:
                os.fsync(number)
        finally:
            os.close(number)

    def _del_tree(self, path: str, transaction: Any) -> None:
        with translated(path), contextlib.suppress(FileNotFoundError):
            for name in os.listdir(path):
                each = f"{path}/{name}"
                if name not in (_JOURNAL, LOCK):  # the last: who gets another one may store the record again
                    shutil.rmtree(each) if os.path.isdir(each) and not os.path.islink(each) else os.unlink(each)
            with contextlib.suppress(FileNotFoundError):
                os.stat(f"{path}/{_JOURNAL}")
                self._fsync_directory(path)
                os.unlink(f"{path}/{_JOURNAL}")
            with contextlib.suppress(FileNotFoundError):
                os.unlink(f"{path}/{LOCK}")
            with contextlib.suppress(OSError):  # another process has a lock in it already
                os.rmdir(path)
            self._fsync_directory(os.path.dirname(path))

    def _get_children(self, path: str) -> list[str]:
        with translated(path), os.scandir(path) as entries:
            is_shelf = os.path.dirname(path) in (self._backend.path, self._attempt_path, self._history_path)
            is_child = os.DirEntry.is_dir if is_shelf else os.DirEntry.is_symlink
            return sorted(entry.name for entry in entries if is_child(entry))

    def _run_items(self, names: list[str]) -> Iterator[tuple[str, Any, float | None]]:
        for name in names:
            path = f"{self.flow_path}/{name}"
            with self._going_on():
                text = self._get_item(path)
                with translated(path):
                    written = os.stat(f"{path}/{_RECORD}").st_mtime
                yield name, text, written

    def _del_link(self, path: str, transaction: Any) -> None:
        with translated(path), contextlib.suppress(FileNotFoundError):
            os.unlink(path)
            self._fsync_directory(os.path.dirname(path))

    def _create_link(self, src_path: str, dest_path: str, transaction: Any) -> None:
        folder = os.path.dirname(dest_path)
        with translated(dest_path), contextlib.suppress(FileExistsError):
            self._make_folder(folder)
            os.symlink(os.path.relpath(src_path, folder), dest_path, target_is_directory=True)
            self._fsync_directory(folder)

    @contextlib.contextmanager
    def _transaction(self, path: str) -> Iterator[None]:
        while True:
            with locked(path, alone=True, seconds_left=self._seconds_left):
                for folder in list(self._backend.unsynced):
                    with contextlib.suppress(exceptions.NotFound), translated(folder):
                        self._backend.unsynced.discard(folder)
                        self._fsync_directory(folder)
                if self._finish_turn(path):
                    yield
                    return

    def _reading(self, path: str) -> contextlib.AbstractContextManager[None]:
        if os.path.exists(f"{path}/{_JOURNAL}"):
            with self._transaction(path):
                pass
        return locked(path, alone=False, seconds_left=self._seconds_left)

    def get_flow_details(self, flow_uuid: str, lazy: bool = False) -> models.FlowDetail:
        lock = f"{self._place_of(self.flow_path, flow_uuid)}/{LOCK}"
        while True:
            before = _identity(lock)
            detail = super().get_flow_details(flow_uuid, lazy)
            if _identity(lock) == before:  # else it was stored during the read, and what is not there is not locked
                return detail

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

    def _remove_flow(self, uuid: str, parted: frozenset[str], transaction: Any) -> None:
        path = f"{self.flow_path}/{uuid}"
        with contextlib.suppress(exceptions.NotFound, exceptions.StorageFailure):  # a damaged one makes no journal
            self._read(path, codec.load_flow)
            with translated(path):
                os.replace(f"{path}/{_RECORD}", f"{path}/{_JOURNAL}")  # this needs no room on a disk that is full
                self._fsync_directory(path)
        super()._remove_flow(uuid, parted, transaction)

    def _write_new(self, flow_path: str, changes: Any, transaction: Any) -> None:
        with self._reading(flow_path):
            pass
        with translated(flow_path):
            self._make_folder(flow_path)
        with self._transaction(flow_path):
            if os.path.exists(f"{flow_path}/{_RECORD}"):  # a writer that has died had left it in a journal
                raise exceptions.Duplicate(f"The flow at '{flow_path}' is stored already")
            self._write_turn(flow_path, changes, transaction)

    def _finish_turn(self, path: str) -> bool:
        """Complete the journal of a writer that has died; returns False if that has removed the record with its lock.

        :raises Unreadable: when it is damaged; then nothing of it is written
        """
        journal = f"{path}/{_JOURNAL}"
        try:
            text = self._text_of(journal)
        except exceptions.NotFound:
            return True
        is_removal = not text.startswith("[")
        try:
            if is_removal:
                self._understood(path, text, codec.load_flow)
            turn = [] if is_removal else [self._checked_entry(*entry) for entry in codec.loads(text)]
        except (exceptions.StorageFailure, KeyError, TypeError, ValueError) as error:
            msg = (
                f"'{journal}' has what a writer has left to be written, and is damaged\nRemove it to go on without that"
            )
            raise codec.Unreadable(msg, error) from error
        if is_removal:
            self._remove_flow(os.path.basename(path), frozenset(self._names(self._attempt_path)), None)
            return False
        for place, link, kept in turn:
            if link is not None:
                self._create_link(place, link, None)
            self._set_item(place, kept, None)
        self._end_turn(path)
        return True

    def _checked_entry(self, place: str, link: str | None, kept: str) -> tuple[str, str | None, str]:
        """Return an entry of a journal with absolute paths.

        :raises StorageFailure, KeyError, TypeError, ValueError: when it is no entry of a record in this store
        """
        base = self._backend.path
        for part in (place, kept) if link is None else (place, kept, link):
            arguments.check_type("Each part of an entry", part, str, "a str")
        collection, name, *rest = place.split("/")
        if collection in ("taskflowx_attempts", "taskflowx_history") and link is None:
            self._loads(kept)
            path = self._join_path(self._place_of(os.path.join(base, collection), name), str(int(*rest)))
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
        with translated(path):
            os.unlink(f"{path}/{_JOURNAL}")
            self._fsync_directory(path)  # it must not reappear after newer records have been written

    # A version is not synced to the disk: processes with an older one die with the machine, too.

    def _get_claim(self, flow_uuid: str) -> owners.Claim | None:
        path = f"{self.flow_path}/{flow_uuid}/{LOCK}"
        with translated(path), contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            kept = file.read()
            # A crash of the machine may leave zeros, as the file is not synced.
            return self._to_claim(kept, path) if kept.strip(b"\0 ") else None
        return None

    def _set_claim(self, flow_uuid: str, claim: owners.Claim, transaction: Any) -> None:
        path = f"{self.flow_path}/{flow_uuid}/{LOCK}"
        # One write in place, of constant length: a crash leaves the old claim or the new one.
        text = claim.to_json().ljust(_ROOM).encode()
        with translated(path):
            number = os.open(path, os.O_WRONLY | BINARY)
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


def _identity(path: str) -> int | None:
    """Return what tells a file from one that was at its path before; None if there is none."""
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _write_all(number: int, data: bytes) -> None:
    while data:
        data = data[os.write(number, data) :]
