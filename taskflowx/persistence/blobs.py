"""Large values beside a store: each is a file under the digest of its bytes, and the record has a reference to it.

    <folder>/<uuid of a flow>/<sha256 of the bytes>

A uuid may be any text; one that is no name of a folder, such as `..`, is quoted as in a URL. A run has a folder of
its own, so it is removed with the run, whatever others have. What must stay true: a file under the name of a digest
is whole, as it gets that name when its bytes are on the disk; what is read is checked all the same. A record refers
to a file only after that has been written. A run that is removed may be there again before its files are gone, with
the same id and folder: only those that were there before are removed. Bytes are written as they are, other values as
the text of the codec, both through the transform of the store.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import itertools
import os
import pickle
import re
import shutil
import threading
import time
import urllib.parse
from collections.abc import Container, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from taskflowx import exceptions
from taskflowx._util import arguments, failpoints
from taskflowx.persistence import codec, models
from taskflowx.persistence.tag_types import Blob

if TYPE_CHECKING:
    from taskflowx.persistence.seal import Seal

#: the size in bytes from which a value is kept beside its row
LARGE = 256 * 1024
#: seconds for which a folder without a record is kept: its run may be about to begin
YOUNG = 3600.0
_MANY = 1_000_000  # bytes whose digest takes longer than to start a thread
_UNFINISHED = (".part", ".removed")
_DIGEST = re.compile("[0-9a-f]{64}")
_NAMELESS = "%"  # the folder of a run whose uuid is empty: no other one is quoted so
_numbers = itertools.count()


class _Place(Protocol):
    """Where blobs are: `put` returns the digest, and `get` takes `<run>/<digest>`.

    `files` has the files of a run, each with what tells it from a later one of its name.
    """

    def put(self, run: str, content: bytes) -> str: ...
    def get(self, name: str) -> bytes: ...
    def files(self, run: str) -> dict[str, Any]: ...
    def remove(self, run: str, files: Mapping[str, Any] | None) -> None: ...
    def runs(self) -> list[tuple[str, float]]: ...


class _Digest:
    """The digest of some bytes; that of many is made in a thread, while they are written.

    :param content: the bytes
    """

    def __init__(self, content: bytes) -> None:
        self._made = ""
        self._content = content
        self._thread = threading.Thread(target=self._make, daemon=True) if len(content) >= _MANY else None
        if self._thread is not None:
            self._thread.start()

    def _make(self) -> None:
        self._made = hashlib.sha256(self._content).hexdigest()

    def get(self) -> str:
        """Return the digest, once it is made."""
        if self._thread is not None:
            self._thread.join()
        if not self._made:
            self._make()
        return self._made


class _Folder:
    """A folder of this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def put(self, run: str, content: bytes) -> str:
        folder = self._path / run
        unfinished = folder / f"{next(_numbers)}.{os.getpid()}.{threading.get_ident()}.part"
        digest = _Digest(content)
        try:
            number = self._open(unfinished)
            try:
                rest = memoryview(content)
                while True:
                    rest = rest[os.write(number, rest) :]
                    if not rest:
                        break
                if failpoints.on:
                    failpoints.hit("in a blob")
                os.fsync(number)
            finally:
                os.close(number)
            unfinished.replace(folder / digest.get())
        except BaseException:
            with contextlib.suppress(OSError):
                unfinished.unlink()
            raise
        _sync(folder)
        return digest.get()

    def _open(self, file: Path) -> int:
        while True:
            if not file.parent.is_dir():
                file.parent.mkdir(parents=True, exist_ok=True)
                _sync(self._path)
            with contextlib.suppress(FileNotFoundError):  # its folder was removed, as it was empty
                return os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)

    def get(self, name: str) -> bytes:
        return (self._path / name).read_bytes()

    def files(self, run: str) -> dict[str, Any]:
        try:
            return {each.name: _identity(each) for each in (self._path / run).iterdir()}
        except OSError:  # it has none
            return {}

    def remove(self, run: str, files: Mapping[str, Any] | None) -> None:
        folder = self._path / run
        if files is None:
            shutil.rmtree(folder, ignore_errors=True)
            return
        for name, identity in files.items():
            file, aside = folder / name, folder / f"{name}.{os.getpid()}.{threading.get_ident()}.removed"
            with contextlib.suppress(OSError):
                file.rename(aside)  # first: another one may take its place at any moment
                aside.unlink() if _identity(aside) == identity else aside.rename(file)
        with contextlib.suppress(OSError):  # it is not empty
            folder.rmdir()

    def runs(self) -> list[tuple[str, float]]:
        if not self._path.is_dir():
            return []
        return [(each.name, each.stat().st_mtime) for each in self._path.iterdir() if each.is_dir()]


def _identity(file: Path) -> tuple[int, int]:
    found = file.stat()
    return found.st_ino, found.st_mtime_ns


def _sync(folder: Path) -> None:
    with contextlib.suppress(OSError):  # some systems open no folders
        number = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(number)
        finally:
            os.close(number)


class _FileSystem:
    """A file system of fsspec."""

    def __init__(self, url: str) -> None:
        try:
            import fsspec
        except ModuleNotFoundError as error:
            msg = f"blobs='{url}' needs fsspec\nInstall it with: pip install \"taskflowx[fsspec]\""
            raise exceptions.NotFound(msg, error) from error
        self._files, self._path = fsspec.core.url_to_fs(url)

    def put(self, run: str, content: bytes) -> str:
        digest = hashlib.sha256(content).hexdigest()
        path = f"{self._path}/{run}/{digest}"
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        unfinished = f"{path}.{os.getpid()}.{next(_numbers)}.part"
        self._files.pipe_file(unfinished, content)
        self._files.mv(unfinished, path)
        return digest

    def get(self, name: str) -> bytes:
        return bytes(self._files.cat_file(f"{self._path}/{name}"))

    def files(self, run: str) -> dict[str, Any]:
        with contextlib.suppress(FileNotFoundError):
            self._files.invalidate_cache()
            return {each["name"]: each for each in self._files.ls(f"{self._path}/{run}", detail=True)}
        return {}

    def remove(self, run: str, files: Mapping[str, Any] | None) -> None:
        folder = f"{self._path}/{run}"
        now = {} if files is None else self.files(run)
        if files is None or now == files:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm(folder, recursive=True)
            return
        for name in [name for name, told in now.items() if files.get(name) == told]:
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(name)

    def runs(self) -> list[tuple[str, float]]:
        with contextlib.suppress(FileNotFoundError):
            self._files.invalidate_cache()
            found = [
                each["name"].rstrip("/")
                for each in self._files.ls(self._path, detail=True)
                if each["type"] == "directory"
            ]
            return [(name.rpartition("/")[2], self._changed(name)) for name in found]
        return []

    def _changed(self, folder: str) -> float:
        """Return when a folder was changed, in seconds since 1970; the present where that is not known."""
        try:
            return float(max(self._files.modified(file).timestamp() for file in self._files.find(folder)))
        except Exception:  # noqa: BLE001 - of any file system
            return time.time()


def _folder_of(run: str) -> str:
    """Return the name of the folder of a run."""
    if run.replace("-", "").isalnum():
        return run
    return urllib.parse.quote(run, safe="").replace(".", "%2E") or _NAMELESS


def _run_of(folder: str) -> str:
    """Return the uuid of the flow whose folder this is."""
    return "" if folder == _NAMELESS else urllib.parse.unquote(folder)


class Blobs:
    """The large values of a store.

    :param url: where they are: `dir:///path`, or what fsspec knows
    :param large: the size in bytes from which a value is kept there
    :param seal: changes the bytes; None where they are kept as they are
    :raises ValueError, TypeError: when the address or the size makes no sense
    """

    def __init__(self, url: Any, large: Any = None, seal: Seal | None = None) -> None:
        arguments.check_type("blobs", url, str, "an address such as 'dir:///path'")
        scheme, colon, rest = url.partition("://")
        if not colon or not rest.strip("/"):
            raise ValueError(f"blobs must be an address such as 'dir:///path', not {url!r}")
        if large is not None and (type(large) is not int or large < 0):
            arguments.refuse("blob_size", large, "a whole number of bytes")
        self._large = LARGE if large is None else large
        self._seal = seal
        is_local = scheme in ("dir", "file")
        self._place: _Place = _Folder(Path(urllib.parse.unquote(rest)).absolute()) if is_local else _FileSystem(url)

    def put(self, run: str, value: Any, what: str) -> Blob | None:
        """Keep a value if it is large; returns the reference to it, None when it is not.

        :param run: the uuid of the flow
        :param what: names the value in errors
        :raises Unstorable: when the codec does not take it
        :raises StorageFailure: when it cannot be written
        """
        is_raw = type(value) is bytes
        if is_raw:
            content: bytes = value
        elif value is None or isinstance(value, (bool, int, float)):
            return None
        else:
            content = codec.dumps(value, what).encode()
        if len(content) < self._large:
            return None
        if self._seal is not None:
            content = self._seal.encode(content)
        try:
            digest = self._place.put(_folder_of(run), content)
        except Exception as error:
            raise exceptions.StorageFailure(f"Cannot store {what} in blobs", error, may_pass=True) from error
        return Blob(run, digest, len(content), is_raw)

    def get(self, blob: Blob) -> Any:
        """Return a value.

        :raises Unreadable: when it is missing or damaged
        """
        name = f"{blob.run}/{blob.digest}"
        try:
            if not blob.digest.isalnum():
                raise ValueError("it refers to no blob of ours")  # noqa: TRY301 - as what is damaged
            content = self._place.get(f"{_folder_of(blob.run)}/{blob.digest}")
        except Exception as error:
            may_pass = isinstance(error, OSError) and not isinstance(error, FileNotFoundError)
            raise codec.Unreadable(f"The value in blob '{name}' cannot be read", error, may_pass=may_pass) from error
        if len(content) != blob.size or hashlib.sha256(content).hexdigest() != blob.digest:
            raise codec.Unreadable(f"The value in blob '{name}' is damaged: its bytes are not those that were written")
        if self._seal is not None:
            content = self._seal.decode(content)
        return content if blob.is_raw else codec.loads(content.decode())

    def files(self, run: str) -> dict[str, Any]:
        """Return what is kept of a run at this moment, for `remove`."""
        return self._place.files(_folder_of(run))

    def remove(self, run: str, files: Mapping[str, Any] | None = None) -> None:
        """Remove what is kept of a run.

        :param files: only these; None for all
        """
        self._place.remove(_folder_of(run), files)

    def runs(self) -> list[str]:
        """Return the uuids of the flows of which something is kept."""
        return [_run_of(folder) for folder, _ in self._place.runs() if self._is_ours(folder)]

    def _is_ours(self, folder: str) -> bool:
        """Tell whether a folder has nothing in it but blobs, as another program may keep folders beside them."""
        names = (name.rpartition("/")[2] for name in self._place.files(folder))
        return all(name.endswith(_UNFINISHED) or _DIGEST.fullmatch(name) for name in names)

    def sweep(self, known: Container[str]) -> list[str]:
        """Remove what is kept of runs that have no record; returns their uuids.

        :param known: the uuids of the flows on record, read before
        """
        now = time.time()
        old = [folder for folder, changed in self._place.runs() if changed < now - YOUNG]
        orphans = [folder for folder in old if _run_of(folder) not in known and self._is_ours(folder)]
        for folder in orphans:
            self._place.remove(folder, None)
        return list(map(_run_of, orphans))


class OfRun:
    """The large values of one run: results of tasks, and what was given to the flow.

    :param blobs: where they are kept
    :param run: the uuid of the flow
    """

    def __init__(self, blobs: Blobs, run: str) -> None:
        self._blobs, self._run = blobs, run
        #: name of an atom -> the value that was looked at last, the reference to it if it is large, and whether it may
        #: have changed since
        self._known: dict[str, tuple[Any, Blob | None, bool]] = {}

    def keeps(self, name: str, value: Any, what: str, *, grows: bool = False) -> bool:
        """Keep a value if it is large, and tell whether it is.

        :param name: of the atom
        :param what: names the value in errors
        :param grows: whether it may change later
        :raises Unstorable: when the codec does not take it
        """
        known = self._known.get(name)
        if known is None or known[0] is not value or known[2]:
            grows = grows or (known is not None and known[2])
            known = self._known[name] = value, self._blobs.put(self._run, value, what), grows
        return known[1] is not None

    def keep(self, name: str, value: Any) -> Blob | None:
        """Keep the result of an atom if it is large; returns the reference to it, for `note`. Called in a worker."""
        return self._blobs.put(self._run, value, f"result of atom '{name}'")

    def note(self, name: str, value: Any, reference: Any) -> None:
        """Take in what `keep` has returned for a result.

        :param reference: the reference, or a tuple of its parts
        """
        self._known[name] = value, None if reference is None else Blob(*reference), False

    @functools.cached_property
    def packed(self) -> bytes | None:
        """This, pickled for worker processes, without what is known here; None when the transform cannot be pickled."""
        try:
            return pickle.dumps(OfRun(self._blobs, self._run))
        except Exception:  # noqa: BLE001 - as the transform is somebody else's
            return None

    def to_store(self, detail: models.AtomDetail) -> models.AtomDetail:
        """Return what the store gets in place of a detail: one with a reference in place of a large value."""
        if detail.results is None or not isinstance(detail, models.TaskDetail):
            return detail
        if not self.keeps(detail.name, detail.results, codec.what_of(detail, "results")):
            return detail
        other = detail.copy()
        other.results = self._known[detail.name][1]
        return other
