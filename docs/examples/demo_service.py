"""The cloud service of the demo: a database, images, volumes, and orders for a scheduler, all in real files.

It knows nothing of tasks. Each change that it offers comes with one that takes it back, and each either
happens as a whole or raises.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, Self

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

MIB = 1 << 20
TABLES = """
CREATE TABLE quota (total INTEGER, reserved INTEGER, used INTEGER);
CREATE TABLE volumes (id TEXT PRIMARY KEY, name TEXT, size INTEGER, status TEXT, checksum TEXT);
"""


class QuotaExceededError(Exception):
    """The customer may not have that much."""


class SchedulerDownError(Exception):
    """The scheduler takes no orders."""


class Row(NamedTuple):
    """What the database knows of one volume."""

    id: str
    name: str
    size: int
    status: str
    checksum: str


class File(NamedTuple):
    """What there is of one volume on the disk."""

    name: str
    size: int
    checksum: str


class State(NamedTuple):
    """All that a service has at one moment: two states are equal when nothing has changed."""

    reserved: int
    used: int
    rows: list[Row]
    files: list[File]
    orders: list[str]

    def fingerprint(self) -> str:
        """Return one digest of everything."""
        return hashlib.sha256(repr(self).encode()).hexdigest()


@dataclass(frozen=True)
class CloudService:
    """A service that keeps everything below one folder; sizes are in bytes.

    :param root: the folder
    :param scheduler_is_up: whether `order` works
    """

    root: Path
    scheduler_is_up: bool = True

    @classmethod
    def founded(cls, root: Path, quota: int) -> Self:
        """Return a new service without volumes, for one customer with that quota."""
        service = cls(root)
        for folder in (service.images, service.volumes, service.orders):
            folder.mkdir(parents=True)
        with service._transaction() as database:
            database.executescript(TABLES)
            database.execute("INSERT INTO quota VALUES (?, 0, 0)", [quota])
        return service

    @property
    def images(self) -> Path:
        """The folder of the images that volumes are made from."""
        return self.root / "images"

    def volume_file(self, volume_id: str) -> Path:
        """Return where the content of a volume is, or will be."""
        return self.volumes / f"{volume_id}.img"

    @property
    def volumes(self) -> Path:
        """The folder of the volumes."""
        return self.root / "volumes"

    @property
    def orders(self) -> Path:
        """The folder of the orders that the scheduler has not looked at yet."""
        return self.root / "orders"

    def add_image(self, name: str, size: int) -> None:
        """Make an image of some content or other."""
        content = os.urandom(MIB)
        with (self.images / name).open("wb") as file:
            for _ in range(size // MIB):
                file.write(content)

    def image_checksum(self, name: str) -> str:
        """Return the SHA-256 of an image."""
        return sha256_of(self.images / name)

    def reserve(self, size: int) -> None:
        """Set a part of the quota aside.

        :raises QuotaExceededError: if so much is not left
        """
        with self._transaction() as database:
            found = database.execute(
                "UPDATE quota SET reserved = reserved + ? WHERE reserved + used + ? <= total", [size, size]
            )
            if not found.rowcount:
                raise QuotaExceededError(f"{size} bytes are more than what is left of the quota")

    def release(self, size: int) -> None:
        """Give back what was set aside."""
        with self._transaction() as database:
            database.execute("UPDATE quota SET reserved = reserved - ?", [size])

    def commit(self, size: int) -> None:
        """Count as used what was set aside."""
        with self._transaction() as database:
            database.execute("UPDATE quota SET reserved = reserved - ?, used = used + ?", [size, size])

    def uncommit(self, size: int) -> None:
        """Count as only set aside what was used."""
        with self._transaction() as database:
            database.execute("UPDATE quota SET reserved = reserved + ?, used = used - ?", [size, size])

    def add_row(self, row: Row) -> None:
        """Enter a volume in the database."""
        with self._transaction() as database:
            database.execute("INSERT INTO volumes VALUES (?, ?, ?, ?, ?)", row)

    def update_row(self, volume_id: str, status: str, checksum: str) -> None:
        """Change what the database knows of a volume."""
        with self._transaction() as database:
            database.execute("UPDATE volumes SET status = ?, checksum = ? WHERE id = ?", [status, checksum, volume_id])

    def remove_row(self, volume_id: str) -> None:
        """Take a volume out of the database."""
        with self._transaction() as database:
            database.execute("DELETE FROM volumes WHERE id = ?", [volume_id])

    def order(self, volume_id: str, checksum: str) -> None:
        """Leave an order for the scheduler: to find a host for a volume.

        :raises SchedulerDownError: if it takes none
        """
        if not self.scheduler_is_up:
            raise SchedulerDownError("the scheduler does not answer")
        order = {"volume": volume_id, "sha256": checksum}
        (self.orders / f"{volume_id}.json").write_text(json.dumps(order))

    def cancel(self, volume_id: str) -> None:
        """Take an order back."""
        (self.orders / f"{volume_id}.json").unlink()

    def state(self) -> State:
        """Read everything there is, from the files."""
        with self._transaction() as database:
            [(reserved, used)] = database.execute("SELECT reserved, used FROM quota")
            rows = [Row(*row) for row in database.execute("SELECT * FROM volumes ORDER BY id")]
        files = [File(path.name, path.stat().st_size, sha256_of(path)) for path in listed(self.volumes)]
        return State(reserved, used, rows, files, orders=[path.name for path in listed(self.orders)])

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        """Open the database for one transaction, which is committed unless there is an error."""
        with contextlib.closing(sqlite3.connect(self.root / "service.db")) as database, database:
            yield database


def listed(folder: Path) -> list[Path]:
    """Return what is in a folder, by name."""
    return sorted(folder.iterdir())


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
