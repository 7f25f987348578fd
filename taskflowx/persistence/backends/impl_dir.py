"""Runs kept in a folder, as files of JSON.

    <path>/books/<uuid>/metadata           the record of a book; beside it a link to the folder of each of its flows
    <path>/flow_details/<uuid>/metadata    the record of a flow; beside it a link to the folder of each of its atoms
    <path>/atom_details/<uuid>/metadata    the record of an atom

TaskFlow reads what is written here, and the other way round. Links are relative, so the folder can be moved.

What must stay true:

- A record is replaced as a whole: it is written to a file of its own, brought to the disk, and then renamed. So a
  reader finds the old one or the new one, whenever the writer dies; what a dead writer leaves behind is never read.
- What one step of a run writes is written as a whole: where it is more than one record, all of them go to the file
  `journal` of the flow first. Whoever reads or writes the flow next finishes what a dead writer has left there.
- What a method has written is on the disk when it returns.
- While a method writes a book, a flow or an atom, no other method writes the same one, and none reads it as a whole:
  the file `lock` beside its record is locked, which keeps out other processes and other threads. That of a flow says
  how often its run was written, and who runs it now.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
from typing import TYPE_CHECKING, Any, ClassVar

from taskflowx import exceptions
from taskflowx._util import arguments, failpoints
from taskflowx.persistence import owners, path_based

if TYPE_CHECKING:
    from collections.abc import Iterator

    from taskflowx.persistence import models

_RECORD = "metadata"
_LOCK = "lock"
_JOURNAL = "journal"
_ROOM = 512  # bytes for a `Claim`


class DirBackend(path_based.PathBasedBackend):
    """Keeps runs in a folder.

    :param conf: `path` is the folder, made when it is first written to; it can stand in the `connection` too, as in
        `dir:///path`. `encoding` is that of the files, UTF-8 by default. With `sync` false, what has been written may
        be lost when the machine (not only the process) dies, and writing is much faster
    :raises ValueError: when there is no path
    """

    DEFAULT_FILE_ENCODING: ClassVar[str] = "utf-8"

    def __init__(self, conf: dict[str, Any] | None) -> None:
        super().__init__(conf)
        self._path = os.path.abspath(self._path)
        self.encoding: str = self._conf.get("encoding") or self.DEFAULT_FILE_ENCODING
        self.sync: bool = self._conf.get("sync", True) not in (False, "false", "False", "0", 0)

    def _usual_path(self) -> str:
        import urllib.parse

        _, _, address = str(self._conf.get("connection") or "").partition(":")
        return urllib.parse.unquote(urllib.parse.urlsplit(address).path)

    def get_connection(self) -> Connection:
        """Return a new connection."""
        return Connection(self)

    def close(self) -> None:
        """Nothing is shared by connections, so there is nothing to let go of."""


class Connection(path_based.PathBasedConnection):
    """Reads and writes the files of a folder."""

    _backend: DirBackend

    def validate(self) -> None:
        """Check that the folders are there.

        :raises StorageFailure: when one is not
        """
        for path in (self._backend.path, self.book_path, self.flow_path, self.atom_path):
            if not os.path.isdir(path):
                msg = f"Missing required directory: {path}\nupgrade() makes it"
                raise exceptions.StorageFailure(msg)

    def _join_path(self, *parts: str) -> str:
        return os.path.join(*parts)

    def _ensure_path(self, path: str) -> None:
        with _translated(path):
            self._make_folder(path)

    def _get_item(self, path: str) -> str:
        path = f"{path}/{_RECORD}"
        with _translated(path), open(path, encoding=self._backend.encoding) as file:
            return file.read()

    def _set_item(self, path: str, value: str, transaction: Any) -> None:
        self._make_folder(path)
        self._replace(path, _RECORD, value)

    def _replace(self, path: str, name: str, value: str) -> None:
        """Put text into a file, as a whole and on the disk."""
        # Nobody else writes to this file, and what an earlier process of this number has left in it is of no use.
        unfinished = f"{path}/.{name}.{os.getpid()}-{threading.get_ident()}"
        record = f"{path}/{name}"
        with _translated(record):
            with open(unfinished, "w", encoding=self._backend.encoding) as file:
                file.write(value)
                file.flush()
                if self._backend.sync:
                    os.fsync(file.fileno())
            if failpoints.on:
                failpoints.hit("in a file")
            os.replace(unfinished, record)
            self._bring_to_disk(path)

    def _del_tree(self, path: str, transaction: Any) -> None:
        with _translated(path), contextlib.suppress(FileNotFoundError):
            shutil.rmtree(path)
            self._bring_to_disk(os.path.dirname(path))

    def _get_children(self, path: str) -> list[str]:
        with _translated(path), os.scandir(path) as entries:
            is_shelf = path in (self.book_path, self.flow_path, self.atom_path)
            is_child = os.DirEntry.is_dir if is_shelf else os.DirEntry.is_symlink
            return sorted(entry.name for entry in entries if is_child(entry))

    def _create_link(self, src_path: str, dest_path: str, transaction: Any) -> None:
        folder = os.path.dirname(dest_path)
        with _translated(dest_path), contextlib.suppress(FileExistsError):
            self._make_folder(folder)
            os.symlink(os.path.relpath(src_path, folder), dest_path, target_is_directory=True)
            self._bring_to_disk(folder)

    @contextlib.contextmanager
    def _transaction(self, path: str) -> Iterator[None]:
        with _locked(path, alone=True):
            self._finish_turn(path)
            yield

    def _reading(self, path: str) -> contextlib.AbstractContextManager[None]:
        if os.path.exists(f"{path}/{_JOURNAL}"):
            with self._transaction(path):
                pass
        return _locked(path, alone=False)

    def save_logbook(self, book: models.LogBook) -> models.LogBook:
        """Store a book with all that is in it, merged into what is stored of it."""
        arguments.check_like("book", book, ("uuid", "created_at"), "a LogBook")
        for detail in book:
            with self._reading(self._place_of(self.flow_path, detail.uuid)):
                pass
        return super().save_logbook(book)

    def _write_turn(self, flow_path: str, changes: Any, transaction: Any) -> None:
        if len(changes) <= 1:  # a record is replaced as a whole anyway
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
        """Write what a writer that died half way has left to be written."""
        try:
            with open(f"{path}/{_JOURNAL}", encoding=self._backend.encoding) as file:
                turn = json.loads(file.read())
        except FileNotFoundError:
            return
        base = self._backend.path
        for place, link, kept in turn:
            if link is not None:
                self._create_link(os.path.join(base, place), os.path.join(base, link), None)
            self._set_item(os.path.join(base, place), kept, None)
        self._end_turn(path)

    def _end_turn(self, path: str) -> None:
        with _translated(path):
            os.unlink(f"{path}/{_JOURNAL}")
            self._bring_to_disk(path)  # it must not come back when newer records have been written

    # A version is not brought to the disk: who knows an older one dies with the machine, too.

    def _get_claim(self, flow_uuid: str) -> owners.Claim | None:
        path = f"{self.flow_path}/{flow_uuid}/{_LOCK}"
        with _translated(path), contextlib.suppress(FileNotFoundError), open(path, "rb") as file:
            kept = file.read()
            return owners.Claim.from_json(kept) if kept else None
        return None

    def _set_claim(self, flow_uuid: str, claim: owners.Claim, transaction: Any) -> None:
        path = f"{self.flow_path}/{flow_uuid}/{_LOCK}"
        # One write in place, of a length that stays: whoever dies here leaves the old one or the new one.
        text = claim.to_json().ljust(_ROOM).encode()
        with _translated(path), open(path, "r+b", buffering=0) as file:
            file.write(text)

    def _make_folder(self, path: str) -> None:
        if os.path.isdir(path):
            return
        parent = os.path.dirname(path)
        self._make_folder(parent)
        with contextlib.suppress(FileExistsError):  # by somebody else, just now
            os.mkdir(path)
        self._bring_to_disk(parent)

    def _bring_to_disk(self, path: str) -> None:
        """Make sure that the names in a folder survive the machine."""
        if not self._backend.sync or sys.platform == "win32":
            return
        number = os.open(path, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


@contextlib.contextmanager
def _locked(path: str, *, alone: bool) -> Iterator[None]:
    """Lock a record for the time of the block; one that is not there yet has nothing to be locked.

    :param alone: whether to keep out readers as well
    """
    number = _open_lock(f"{path}/{_LOCK}", os.O_RDWR | os.O_CREAT if alone else os.O_RDONLY)
    if number is None:
        yield
        return
    try:
        # Not `lockf`: it does not keep out other threads, and any thread that closes the file gives the lock up.
        if sys.platform != "win32":
            import fcntl

            fcntl.flock(number, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        yield
    finally:
        os.close(number)


def _open_lock(path: str, flags: int) -> int | None:
    with _translated(path):
        try:
            return os.open(path, flags, 0o644)
        except FileNotFoundError:
            return None


@contextlib.contextmanager
def _translated(path: str) -> Iterator[None]:
    """Raise what goes wrong with files as errors of ours.

    :param path: what is looked for
    """
    try:
        yield
    except FileNotFoundError as error:
        msg = f"Item not found: {path}"
        raise exceptions.NotFound(msg, error) from error
    except (OSError, UnicodeError) as error:
        msg = "Storage backend internal error"
        raise exceptions.StorageFailure(msg, error) from error
