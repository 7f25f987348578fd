"""The file of a SQLite database: its mode, and whether it is still the one that was opened.

SQLite gives the files that it makes beside a database (`-wal`, `-shm`, `-journal`) the mode of the database itself, so
it is enough to set that. An existing file keeps its mode.

What must stay true: a run is reported as ended only if it has ended in the file that the path names. A database that
was moved, deleted or replaced still exists for processes that have it open, and their writes would be lost.
"""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from taskflowx import exceptions

if TYPE_CHECKING:
    import sqlalchemy as sa

_MODE = 0o600
_GLANCE = 0.02  # seconds between two checks of the path during consecutive steps of a run


class DatabaseFile:
    """The file of one database.

    :param path: its path
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._known: tuple[int, int] | None = None
        self._looks_at = 0.0  # the time of the next check of the path

    def open(self) -> None:
        """Make the file if there is none, before SQLite does; a file that existed before must still exist.

        :raises StorageFailure: when it was replaced, or there is no folder for it
        """
        if self._known is not None:
            self.check()
            return
        try:
            made = os.open(self.path, os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_CLOEXEC", 0), _MODE)
        except FileExistsError:
            pass
        except FileNotFoundError as error:
            folder = Path(self.path).parent
            msg = f"unable to open the database '{self.path}': there is no folder '{folder}'\nMake the folder first"
            raise exceptions.StorageFailure(msg, error, may_pass=False) from error
        except OSError:
            return  # SQLite reports the error
        else:
            with contextlib.suppress(OSError, AttributeError):
                os.fchmod(made, _MODE)  # whatever the umask has removed
            os.close(made)
        with contextlib.suppress(OSError):
            found = Path(self.path).stat()
            self._known = found.st_dev, found.st_ino

    def check(self) -> None:
        """Check that the path still names the file that was opened.

        :raises StorageFailure: when it does not
        """
        problem, cause = "has been replaced by another file", None
        try:
            found = os.stat(self.path)  # noqa: PTH116 - many commits call it, and a Path would cost more than the call
            if self._known is None or self._known == (found.st_dev, found.st_ino):
                return
        except OSError as error:
            problem, cause = "is not there any more", error
        msg = (
            f"The database '{self.path}' {problem}; nothing is written to the one that was opened\n"
            "Put the file back, or reopen the store (backends.fetch)"
        )
        raise exceptions.StorageFailure(msg, cause, may_pass=False) from cause

    def glance(self) -> None:
        """Do as `check` does, at limited frequency: a check costs as much as a small transaction.

        :raises StorageFailure: as `check` does
        """
        now = time.monotonic()
        if now >= self._looks_at:
            self._looks_at = now + _GLANCE
            self.check()

    def forget(self) -> None:
        """Accept the next file at the path."""
        self._known = None


def file_of(url: sa.URL) -> DatabaseFile | None:
    """Return the file of a database; None for one in memory, and where only SQLite can tell the path."""
    path = url.database
    if url.get_backend_name() != "sqlite" or not path or path == ":memory:" or path.startswith("file:"):
        return None
    return DatabaseFile(path)
