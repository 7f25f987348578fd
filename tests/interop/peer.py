"""Runs flows on a store with one of the two packages, through its public API alone, and dies where it is told to.

`python -m tests.interop.peer taskflow` reads pickled orders from its input and answers each with a pickled dict. Each
order is carried out by a fork of the process, which has imported the package already. Nothing here imports the one or
the other by name, so both write and read the stores in the same way.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import importlib
import json
import logging
import os
import pickle
import select
import shutil
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.interop.compat.runner import Package
from tests.interop.shapes import Choosy
from tests.model import specs

#: seconds that one order may take
PATIENCE = 60.0
#: the methods of a connection that write
WRITES = (
    "add_flow_details",
    "save_changes",
    "save_logbook",
    "update_atom_details",
    "update_flow_details",
)


@dataclass(frozen=True)
class Order:
    """What is to be done.

    :param verb: "upgrade", "begin", "resume" or "read"
    :param settings: of the store, for `backends.fetch`
    :param uuid: of book and flow
    :param spec: the flow
    :param effects: the file in which each call of a task is noted
    :param die: the number of the write at which the process ends, 0 for never
    :param late: whether that write is made before it ends
    :param keep: a folder that gets a copy of the folder of `effects`, with the store in it, for each place at which the
        process could have ended: `N-early` is before the N-th write, where calls have been made since the one before,
        and `N-late` after it
    :param stop: after how many calls of tasks the run is suspended, 0 for never
    :param workers: how many threads, 0 for none
    """

    verb: str
    settings: dict[str, Any]
    uuid: str = ""
    spec: Any = None
    effects: str = ""
    die: int = 0
    late: bool = False
    keep: str = ""
    stop: int = 0
    workers: int = 0


class Life:
    """What is known of the process that carries out an order: its writes, and how many calls came before each."""

    def __init__(self, order: Order) -> None:
        self.writes: list[tuple[str, int]] = []
        self.calls = 0
        self._order = order
        self._kept = -1

    def write(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        """Write, unless the process ends here."""
        self.writes.append((method.__name__, self.calls))
        dies = len(self.writes) == self._order.die
        if dies and not self._order.late:
            os._exit(0)
        if self._order.keep and self._kept != self.calls:
            self._copy("early")
        answer = method(*args, **kwargs)
        if dies:
            os._exit(0)
        if self._order.keep:
            self._copy("late")
        return answer

    def _copy(self, moment: str) -> None:
        self._kept = self.calls
        folder = Path(self._order.keep) / f"{len(self.writes)}-{moment}"
        shutil.copytree(Path(self._order.effects).parent, folder, symlinks=True)


class Mortal:
    """A back end, or a connection, of which the writes are counted."""

    def __init__(self, target: Any, life: Life) -> None:
        self._target = target
        self._life = life

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._target, name)
        if name == "get_connection":
            return lambda: Mortal(found(), self._life)
        if name in WRITES:
            return lambda *args, **kwargs: self._life.write(found, *args, **kwargs)
        return found


class World:
    """Notes the calls of tasks, and suspends the run after some of them."""

    def __init__(self, package: Package, order: Order, life: Life) -> None:
        self.package = package
        self._life = life
        self.engine: Any = None
        self._left = order.stop
        self._file = os.open(order.effects, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._before = Path(order.effects).read_text(encoding="utf-8").split()

    def call(self, sign: str, name: str) -> int:
        """Note a call, and return how many of the kind there have been, in earlier lives as well."""
        note = sign + name
        os.write(self._file, f"{note}\n".encode())
        self._before.append(note)
        self._life.calls += 1
        self._left -= 1
        if not self._left:
            self.engine.suspend()
        return self._before.count(note)


# -- flows -----------------------------------------------------------------------------------------


def _task(job: specs.Job, needs: tuple[str, ...], world: World) -> Any:
    def do(self: Any, given: dict[str, Any]) -> Any:
        world.call("+", job.name)
        return specs.result_of(job, given)

    def undo(self: Any, *args: Any, **kwargs: Any) -> None:
        if world.call("-", job.name) <= job.stuck:
            raise specs.Broken(f"revert of {job.name}")

    may = job.may if isinstance(job, Choosy) else ()
    takes = ", ".join(["self", *needs, *(f"{name}=None" for name in may)])
    given = ", ".join(f"{name!r}: {name}" for name in (*needs, *may))
    space: dict[str, Any] = {}
    exec(f"def execute({takes}):\n    return self.do({{{given}}})\n", space)  # noqa: S102 - a signature of its own
    body = {"do": do, "execute": space["execute"], "revert": undo}
    made = type(f"Task_{job.name}", (world.package.task.Task,), body)(job.name, provides=job.gives)
    made.priority = job.priority
    return made


def _retry(again: specs.Again, world: World) -> Any:
    retry = world.package.retry
    common: dict[str, Any] = {"name": again.name, "provides": again.name, "requires": list(again.needs)}
    if again.kind in (specs.TIMES, specs.EACH, specs.PARAMETER):
        common["revert_all"] = again.revert_all
    if again.kind == specs.TIMES:
        made = retry.Times(again.attempts, **common)
    elif again.kind == specs.EACH:
        made = retry.ForEach(list(range(1, again.attempts + 1)), **common)
    elif again.kind == specs.PARAMETER:
        made = retry.ParameterizedForEach(**common)
    elif again.kind == specs.REVERT:
        made = retry.AlwaysRevert(**common)
    elif again.kind == specs.REVERT_ALL:
        made = retry.AlwaysRevertAll(**common)
    else:
        made = _custom(again, world)(**common)
    made.priority = again.priority
    return made


def _custom(again: specs.Again, world: World) -> Any:
    class Custom(world.package.retry.Retry):  # type: ignore[name-defined]
        def execute(self, history: Any, **kwargs: Any) -> int:
            world.call("+", again.name)
            return specs.attempt_of(again, len(history))

        def revert(self, history: Any, **kwargs: Any) -> None:
            world.call("-", again.name)

        def on_failure(self, history: Any, **kwargs: Any) -> Any:
            return world.package.retry.Decision(again.decide(len(history)))

    return Custom


def make_flow(node: Any, shape: specs.Shape, world: World) -> Any:
    """Make the flow, or the task, of a node."""
    if isinstance(node, specs.Job):
        return _task(node, shape.needs[node.name], world)
    members = [make_flow(member, shape, world) for member in node.members]
    made = world.package.flows[node.kind](node.name, None if node.retry is None else _retry(node.retry, world))
    if node.kind != specs.GRAPH:
        return made.add(*members)
    for place in node.order or range(len(members)):
        made.add(members[place])
    for link in node.links:
        if link.verdict is None:
            made.link(members[link.u], members[link.v])
        else:
            decider = lambda history, verdict=link.verdict: specs.verdict_of(verdict, history)  # noqa: E731
            made.link(members[link.u], members[link.v], decider=decider, decider_depth=link.depth)
    return made


# -- runs ------------------------------------------------------------------------------------------


def carry_out(package: Package, order: Order) -> dict[str, Any]:
    """Carry out an order, and return what came of it."""
    backends = importlib.import_module(f"{package.name}.persistence.backends")
    with contextlib.closing(backends.fetch(dict(order.settings))) as backend:
        with contextlib.closing(backend.get_connection()) as connection:
            if order.verb == "upgrade":
                connection.upgrade()
                return {}
            if order.verb == "begin":
                book = package.models.LogBook("book", order.uuid)
                book.add(package.models.FlowDetail("flow", f"{order.uuid}-flow"))
                connection.save_logbook(book)
            book = connection.get_logbook(order.uuid)
        (detail,) = book
        before = told(detail)
        if order.verb == "read":
            return before
        life = Life(order)
        raised = _run(package, order, book, detail, Mortal(backend, life), World(package, order, life))
        with contextlib.closing(backend.get_connection()) as connection:
            (detail,) = connection.get_logbook(order.uuid)
        return {**told(detail), "raised": raised, "before": before, "writes": life.writes}


def _run(package: Package, order: Order, book: Any, detail: Any, backend: Any, world: World) -> str | None:
    spec: specs.Spec = order.spec
    options: dict[str, Any] = {}
    if order.workers:
        options = {"engine": "parallel", "executor": concurrent.futures.ThreadPoolExecutor(order.workers)}
    try:
        world.engine = package.engines.load(
            make_flow(spec.root, specs.Shape(spec), world),
            store={**spec.store, "values": [1, 2, 3]},
            flow_detail=detail,
            book=book,
            backend=backend,
            defer_reverts=spec.defer_reverts,
            never_resolve=spec.never_resolve,
            **options,
        )
        world.engine.run()
    except Exception as error:  # noqa: BLE001 - it is told
        return f"{type(error).__name__}: {error}"
    return None


def told(detail: Any) -> dict[str, Any]:
    """Return what is on record of a flow, as plain values."""
    atoms = {}
    for atom in detail:
        attempts = len(atom.results or ()) if type(atom).__name__ == "RetryDetail" else -1
        value = _plain(atom.last_results) if attempts else None
        atoms[atom.name] = {"state": atom.state, "intention": atom.intention, "value": value, "attempts": attempts}
    return {"state": detail.state, "atoms": atoms}


def _plain(value: Any) -> Any:
    try:
        return json.loads(json.dumps(value))
    except TypeError:
        return repr(value)


# -- the process -----------------------------------------------------------------------------------


def _in_a_fork(package: Package, order: Order) -> dict[str, Any]:
    """Carry out an order in a child, and return its answer; {"died": True} when there is none."""
    source, target = os.pipe()
    child = os.fork()
    if not child:
        code = 1
        try:
            os.close(source)
            try:
                answer = carry_out(package, order)
            except Exception as error:  # noqa: BLE001 - it is told
                answer = {"error": f"{type(error).__name__}: {error}"}
            with os.fdopen(target, "wb") as pipe:
                pickle.dump(answer, pipe)
            code = 0
        finally:
            os._exit(code)
    os.close(target)
    text = b""
    with os.fdopen(source, "rb") as pipe:
        while select.select([pipe], [], [], PATIENCE)[0]:
            part = os.read(pipe.fileno(), 1 << 20)
            if not part:
                break
            text += part
        else:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"error": "it did not end"}
    _, status = os.waitpid(child, 0)
    if text:
        return pickle.loads(text)
    return {"died": True} if not status else {"error": f"it ended with status {status}"}


def main(name: str) -> None:
    """Answer every order on the input."""
    logging.disable(logging.CRITICAL)
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else writes there must not get between the answers
    package = Package(name)
    importlib.import_module(f"{name}.persistence.backends").fetch({"connection": "sqlite://"}).close()  # imports much
    while True:
        try:
            order = pickle.load(source)
        except EOFError:
            return
        pickle.dump(_in_a_fork(package, order), answers)
        answers.flush()


if __name__ == "__main__":
    from tests.interop import peer  # so that its classes have the name that they have elsewhere

    peer.main(sys.argv[1])
