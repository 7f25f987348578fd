"""Writes and reads a store with OpenStack TaskFlow; its own interpreter runs this, and nothing here imports ours.

taskflow_peer.py write '{"connection": ...}'    run flows that end, or stop, in different ways; then as read
taskflow_peer.py upgrade '{"connection": ...}'  make the tables or folders; then as read
taskflow_peer.py read '{"connection": ...}'     print all that TaskFlow finds in the store, as JSON
"""

from __future__ import annotations

import contextlib
import json
import os
import sys

from taskflow import engines, retry, task
from taskflow.patterns import linear_flow
from taskflow.persistence import backends, models


class Give(task.Task):
    """Returns what JSON can hold."""

    default_provides = "given"

    def execute(self, size: int) -> dict[str, object]:
        """Return a dict."""
        return {"size": size, "text": "ü 🎈 \" ' \\ %s", "list": [1, 2.5, None, True, []]}


class Take(task.Task):
    """Needs what the other one gives."""

    def execute(self, given: dict[str, object]) -> list[str]:
        """Return a list."""
        self.update_progress(0.5)
        return sorted(given)


class Fail(task.Task):
    """Fails with a cause, and returns something when it is undone."""

    def execute(self, given: dict[str, object]) -> None:
        """Raise."""
        try:
            raise KeyError("inner")
        except KeyError as error:
            raise ValueError("outer", 3) from error

    def revert(self, **kwargs: object) -> list[str]:
        """Return something."""
        return ["undone"]


class Stick(task.Task):
    """Cannot be undone."""

    def execute(self) -> int:
        """Return a number."""
        return 1

    def revert(self, **kwargs: object) -> None:
        """Raise."""
        raise OSError(5, "stuck")


class Twice(task.Task):
    """Fails the first time."""

    tries = 0

    def execute(self) -> str:
        """Raise, or return a text."""
        self.tries += 1
        if self.tries == 1:
            raise RuntimeError("not yet")
        return "at last"


class DieBack(task.Task):
    """Ends the process when it is undone."""

    def execute(self) -> int:
        """Return a number."""
        return 1

    def revert(self, **kwargs: object) -> None:
        """End the process, with nothing said."""
        os._exit(0)


class Die(task.Task):
    """Ends the process."""

    def execute(self) -> None:
        """End the process, with nothing said."""
        os._exit(0)


def fetch(settings: dict[str, str]):
    """Return the store."""
    return backends.fetch(settings)


def run(backend, name: str, flow, *, stop: bool = False) -> None:
    """Run a flow, in a book of its name, to its end or only a little."""
    book = models.LogBook(name)
    detail = models.FlowDetail(name, f"flow-{name}")
    book.meta["why"] = name
    book.add(detail)
    with contextlib.closing(backend.get_connection()) as connection:
        connection.save_logbook(book)
    engine = engines.load(flow, flow_detail=detail, book=book, backend=backend, store={"size": 3})
    if stop:
        for _ in zip(range(12), engine.run_iter(), strict=False):
            pass
        engine.suspend()
        return
    with contextlib.suppress(Exception):
        engine.run()


def upgrade(settings: dict[str, str]) -> None:
    """Make the store ready."""
    backend = fetch(settings)
    with contextlib.closing(backend.get_connection()) as connection:
        connection.upgrade()
    backend.close()


def write(settings: dict[str, str]) -> None:
    """Run flows that end in different ways; the last two are in the middle of a task when the process is gone."""
    upgrade(settings)
    backend = fetch(settings)
    run(backend, "finished", linear_flow.Flow("f").add(Give("give"), Take("take")))
    run(backend, "reverted", linear_flow.Flow("f").add(Give("give"), Take("take"), Fail("fail")))
    run(backend, "failed", linear_flow.Flow("f").add(Give("give"), Stick("stick"), Fail("fail")))
    run(backend, "retried", linear_flow.Flow("f", retry=retry.Times(3, name="times")).add(Twice("twice")))
    run(backend, "given-up", linear_flow.Flow("f", retry=retry.Times(2, name="times")).add(Give("give"), Fail("fail")))
    run(
        backend,
        "stopped",
        linear_flow.Flow("f").add(*(Give(f"give-{n}", provides=f"n{n}") for n in range(5))),
        stop=True,
    )
    for name, *last in (("killed", Die("die")), ("killed-back", DieBack("die-back"), Fail("fail"))):
        if os.fork() == 0:
            run(fetch(settings), name, linear_flow.Flow("f").add(Give("give"), Take("take"), *last))
            os._exit(1)
        _, status = os.wait()
        assert status == 0
    backend.close()


def read(settings: dict[str, str]) -> list[dict[str, object]]:
    """Return all that is stored."""
    backend = fetch(settings)
    with contextlib.closing(backend.get_connection()) as connection:
        books = []
        for book in connection.get_logbooks():
            flows = [
                {
                    **flow.to_dict(),
                    "atoms": [{**atom.to_dict(), "kind": models.atom_detail_type(atom)} for atom in flow],
                }
                for flow in book
            ]
            books.append({"uuid": book.uuid, "name": book.name, "meta": book.meta, "flows": flows})
    backend.close()
    return books


if __name__ == "__main__":
    verb, given = sys.argv[1], json.loads(sys.argv[2])
    {"write": write, "upgrade": upgrade, "read": read}[verb](given)
    print(json.dumps(read(given)))
