"""The flow that builds a tree of files: compress and hash each, then list the hashes, folder by folder.

Nobody says what comes first. Each task provides a hash under the name of what it made, and requires the names
of what it lists; a graph flow works out the order from that, as `make` does from a makefile. The classes are
at the top of a module, and all values can be pickled: so the same flow runs in this process or in others.
"""

from __future__ import annotations

import hashlib
import lzma
import random
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from taskflowx.patterns import graph_flow
from taskflowx.task import Task

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

ROOT = "."
MANIFEST = "MANIFEST"
LEVEL = 2  # of compression: higher is slower
SIZES = (20_000, 80_000)  # bytes of a file of the tree, from and to


class CompressFile(Task):
    """Compress the file at `path` below `source` into `target`; the hash of that is the result."""

    def execute(self, source: Path, target: Path, path: str) -> str:
        packed = lzma.compress((source / path).read_bytes(), preset=LEVEL)
        return write(target / path, packed)

    def revert(self, target: Path, path: str) -> None:
        (target / path).unlink(missing_ok=True)


class WriteManifest(Task):
    """List the hashes of what is in `folder`, in a file there; the hash of that is the result."""

    def execute(self, target: Path, folder: str, **hashes: str) -> str:
        lines = "".join(f"{digest}  {name}\n" for name, digest in sorted(hashes.items()))
        return write(target / folder / MANIFEST, lines.encode())

    def revert(self, target: Path, folder: str) -> None:
        (target / folder / MANIFEST).unlink(missing_ok=True)


def write(path: Path, content: bytes) -> str:
    """Write a file, and its folder if it is not there; returns the hash of the content."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return hashlib.sha256(content).hexdigest()


def build_flow(paths: Iterable[str]) -> graph_flow.Flow:
    """Return the flow that builds the files. It needs `source` and `target`; the last hash is called `ROOT`.

    :param paths: the files, relative to `source`, each in a folder there
    """
    folders: dict[str, list[str]] = {}
    for path in paths:
        folders.setdefault(str(PurePosixPath(path).parent), []).append(path)

    flow = graph_flow.Flow("build a tree")
    flow.add(_manifest(ROOT, list(folders)))
    for folder, members in folders.items():
        flow.add(_manifest(folder, members))
        for path in members:
            flow.add(CompressFile(f"compress {path}", provides=path, inject={"path": path}))
    return flow


def _manifest(folder: str, members: list[str]) -> WriteManifest:
    return WriteManifest(f"list {folder}", requires=members, provides=folder, inject={"folder": folder})


def make_tree(source: Path, files: int, per_folder: int) -> list[str]:
    """Write files of made-up text, always the same; returns their paths relative to `source`."""
    chance = random.Random(2024)
    words = ["".join(chance.choices("aeioulmnrst", k=chance.randint(2, 9))) for _ in range(2000)]
    book = " ".join(chance.choices(words, k=150_000)).encode()
    paths = [f"chapter-{n // per_folder + 1:02}/page-{n % per_folder + 1:02}.txt" for n in range(files)]
    for path in paths:
        size = chance.randint(*SIZES)
        begin = chance.randrange(len(book) - size)
        write(source / path, book[begin : begin + size])
    return paths
