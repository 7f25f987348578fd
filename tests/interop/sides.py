"""The two packages, each in a process of its own, and the stores on which they meet."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from benchmarks.peers import TASKFLOW
from tests.interop.compat.sides import Side
from tests.interop.peer import Order
from tests.services import addresses

if TYPE_CHECKING:
    from collections.abc import Iterator

FILES = ("sqlite", "dir")
SERVERS = ("postgresql", "mariadb", "zookeeper")


class Peer(Side):
    """A process that carries out orders with one package."""

    patience = 120.0

    def __init__(self, python: str, package: str) -> None:
        super().__init__(python, package)
        self._command = [python, "-m", "tests.interop.peer", package]

    def do(self, verb: str, settings: dict[str, Any], **order: Any) -> dict[str, Any]:
        """Carry out an order; see `peer.Order`."""
        answer = self.run(Order(verb, settings, **order))
        assert "lost" not in answer, answer
        return answer


@dataclass(frozen=True)
class Place:
    """Where the record of one run is, and the file with the calls of its tasks."""

    settings: dict[str, Any]
    uuid: str
    effects: str

    def calls(self) -> list[str]:
        """Return the calls that have been noted."""
        path = Path(self.effects)
        return path.read_text(encoding="utf-8").split() if path.exists() else []


class Stores:
    """Gives places for runs in one kind of store, all of them made ready by both packages."""

    def __init__(self, kind: str, folder: Path, theirs: Peer, ours: Peer) -> None:
        self.kind = kind
        self._folder = folder
        self._numbers = itertools.count(1)
        self._settings = self._first_settings()
        for side in (theirs, ours):
            answer = side.do("upgrade", self._settings)
            assert answer == {}, answer

    def _first_settings(self) -> dict[str, Any]:
        if self.kind in FILES:
            return self._in_folder(self._folder / "template")
        if self.kind == "zookeeper":
            hosts, path = f"{addresses.ZOOKEEPER.host}:{addresses.ZOOKEEPER.port}", addresses.new_path()
            return {"connection": "zookeeper", "hosts": hosts, "path": "/" + path.split("/", 3)[3]}
        service = {each.name: each for each in addresses.SERVICES}[self.kind]
        return {"connection": addresses.new_database(service)}

    def _in_folder(self, folder: Path) -> dict[str, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        if self.kind == "dir":
            return {"connection": "dir", "path": str(folder / "runs")}
        return {"connection": f"sqlite:///{folder / 'runs.db'}"}

    def new(self) -> Place:
        """Return a place for a new run."""
        number = next(self._numbers)
        folder = self._folder / str(number)
        settings = self._settings
        if self.kind in FILES:
            shutil.copytree(self._folder / "template", folder, symlinks=True)
            settings = self._in_folder(folder)
        else:
            folder.mkdir(parents=True)
        return Place(settings, f"run-{os.getpid()}-{number}", str(folder / "effects"))

    def kept(self, place: Place) -> Path:
        """Return a copy of the folder of a place."""
        folder = Path(place.effects).parent
        copy = folder.with_name(f"{folder.name}-kept")
        shutil.copytree(folder, copy, symlinks=True)
        return copy

    def put_back(self, place: Place, kept: Path) -> Place:
        """Bring the folder of a place back to what it was; there are absolute links in it."""
        folder = Path(place.effects).parent
        shutil.rmtree(folder)
        shutil.copytree(kept, folder, symlinks=True)
        return place

    def remove(self, place: Place, keep: Path) -> None:
        """Remove a place and the copies of it."""
        for folder in (Path(place.effects).parent, keep):
            shutil.rmtree(folder)


def require_taskflow() -> None:
    """Skip a test, or fail it where everything has to be there, when OpenStack TaskFlow is not installed."""
    if not TASKFLOW.installed:
        reason = "no .venv-taskflow with OpenStack TaskFlow: `make taskflow` makes it"
        if os.environ.get("TASKFLOWX_REQUIRE_SERVICES") == "1":
            pytest.fail(reason)
        pytest.skip(reason)


@contextlib.contextmanager
def quick_folder() -> Iterator[Path]:
    """Give a new folder that is in memory, where there is one: all is written to it as if it were on disk."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="interop-", dir=memory if os.access(memory, os.W_OK) else None) as folder:
        yield Path(folder)


def theirs() -> Peer:
    """Return the side of OpenStack TaskFlow."""
    return Peer(str(TASKFLOW.python), "taskflow")


def ours() -> Peer:
    """Return the side of this package."""
    return Peer(sys.executable, "taskflowx")
