"""Writes down what engines do, in words that are the same from run to run and from package to package.

A program of this folder imports `taskflow` and nothing of ours, so the package under it is the one that it is started
with: TaskFlow itself, or taskflowx by `python -m taskflowx.compat`.
"""

from __future__ import annotations

import contextlib
import enum
import re
import sys
import tempfile
from typing import TYPE_CHECKING, Any
from unittest import mock

from taskflow.engines.action_engine import engine as engines
from taskflow.types import failure

if TYPE_CHECKING:
    from collections.abc import Iterator

_CHANGING = (
    (re.compile(r"\btaskflowx\b"), "taskflow"),
    (re.compile(r"\b[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}\b"), "<uuid>"),
    (re.compile(r"\b0x[0-9a-f]+\b"), "<address>"),
    (re.compile(r"\bid='\d+'"), "id=<number>"),
    (re.compile(r"\b\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00)?"), "<time>"),
    (re.compile(r"-1\d{9}\b"), "-<seconds>"),
    (re.compile(rf"{re.escape(tempfile.gettempdir())}/[\w./-]+"), "<path>"),
)
_PLAIN = (bool, int, type(None))
_DEEP = 4


def text(value: object) -> str:
    """Return a text without what changes from run to run."""
    said = str(value)
    for pattern, stands_for in _CHANGING:
        said = pattern.sub(stands_for, said)
    return said


def plain(value: Any, deep: int = 0) -> str:
    """Describe a value: containers by their members, a failure by what it says, other objects by their class."""
    if isinstance(value, enum.Enum):
        return text(value.value)
    if isinstance(value, (str, bytes)):
        return "<frame>" if str(value).startswith("  File ") else repr(text(value))
    if isinstance(value, _PLAIN):
        return repr(value)
    if isinstance(value, float):
        return "<float>"
    if isinstance(value, failure.Failure):
        return f"Failure({text(next(iter(value)))}: {text(value.exception_str)})"
    if deep == _DEEP:
        return "…"
    if isinstance(value, dict):
        members = sorted(f"{plain(key)}: {plain(member, deep + 1)}" for key, member in value.items())
        return "{" + ", ".join(members) + "}"
    if isinstance(value, (list, tuple)):
        return type(value).__name__ + "[" + ", ".join(plain(member, deep + 1) for member in value) + "]"
    if isinstance(value, (set, frozenset)):
        return "set{" + ", ".join(sorted(plain(member, deep + 1) for member in value)) + "}"
    if isinstance(value, mock.NonCallableMock):
        return "<mock>"
    return f"<{type(value).__module__}.{type(value).__qualname__}>"


def raised(error: BaseException) -> str:
    """Describe an error."""
    if hasattr(error, "__iter__"):  # several failures
        return f"{type(error).__name__} of {sorted(map(plain, error))}"
    module = "" if type(error).__module__ == "builtins" else f"{type(error).__module__}."
    return text(f"{module}{type(error).__qualname__}: {error}")


class Transcript:
    """Lines of what engines do.

    While an engine runs, lines are kept, each with the name of what it is about: in the order in which they came, or
    together by name where the order is open, since branches and threads may come in any.
    """

    def __init__(self, write: Any = sys.stdout.write) -> None:
        #: whether what happens comes in one order; None: it does if the engine is serial
        self.in_order: bool | None = None
        self._write = write
        self._kept: list[tuple[str, str]] | None = None
        self.say("on", engines.__name__.partition(".")[0])

    def say(self, *words: object) -> None:
        """Add a line."""
        self._write(" ".join(map(str, words)).replace("\n", "\\n") + "\n")

    def note(self, name: str, *words: object) -> None:
        """Keep a line of the run that goes on, or say it if there is none."""
        if self._kept is None:
            self.say("    ", text(name), *words)
        else:
            self._kept.append((text(name), " ".join(map(str, words))))

    @contextlib.contextmanager
    def every_run(self) -> Iterator[None]:
        """Write down all runs of all engines meanwhile."""
        run = engines.ActionEngine.run

        def watched(engine: Any, *args: Any, **kwargs: Any) -> Any:
            outer, self._kept = self._kept, []
            self._watch(engine)
            error = None
            try:
                return run(engine, *args, **kwargs)
            except BaseException as caught:
                error = caught
                raise
            finally:
                kept, self._kept = self._kept, outer
                self._tell(engine, kept, error)

        with mock.patch.object(engines.ActionEngine, "run", watched):
            yield

    def _watch(self, engine: Any) -> None:
        def flow(state: str, details: dict[str, Any]) -> None:
            self.note(details["flow_name"], "flow:", details["old_state"], "->", state)

        def atom(state: str, details: dict[str, Any]) -> None:
            name = details.get("task_name") or details["retry_name"]
            result = (f"= {plain(details['result'])}",) if "result" in details else ()
            self.note(name, f"{details['old_state']} -> {state}", *result)

        engine.notifier.register("*", flow)
        engine.atom_notifier.register("*", atom)

    def _tell(self, engine: Any, kept: list[tuple[str, str]], error: BaseException | None) -> None:
        """Say what a run did, in the words of taskflowx where the two differ on purpose.

        TaskFlow also undoes what never ran, if it stood in line when something else failed; here that stays PENDING.
        What could not be undone is raised alone there, and here together with what failed at first.
        """
        kept, never_ran = _without_idle_undoing(kept)
        in_order = self.in_order
        if in_order is None:
            in_order = not isinstance(engine, engines.ParallelActionEngine)
        self.say("   run", text(engine.storage.flow_name))
        for name, line in kept if in_order else sorted(kept):
            self.say("    ", name, line)
        stuck = {
            name: failure
            for name, failure in engine.storage.get_revert_failures().items()
            if engine.storage.get_atom_state(name) == "REVERT_FAILURE"  # others are of failures that came together
        }
        if stuck and error:
            self.say("   raised, and not undone are", plain(stuck))
        else:
            self.say("   raised", raised(error) if error else None)
        try:
            self._tell_outcome(engine, never_ran, in_order)
        except Exception as caught:  # noqa: BLE001 - says what could not be said
            self.say("   no outcome:", raised(caught))

    def _tell_outcome(self, engine: Any, never_ran: set[str], in_order: bool) -> None:
        storage = engine.storage
        nodes = engine.compilation.execution_graph.nodes(data=True)
        names = sorted(node.name for node, data in nodes if data["kind"] in ("task", "retry"))
        states = storage.get_atoms_states(names)
        for name in names:
            state, intention = ("PENDING", "") if text(name) in never_ran else states[name]
            # What an atom that waits was meant to do matters to nobody once the run is over.
            self.say("   atom", text(name), state, "" if state == "PENDING" else intention)
        self.say("   flow", storage.get_flow_state())
        if storage.get_flow_state() == "SUCCESS":
            self.say("   values", plain(storage.fetch_all()))
        # Several failures at the same time: TaskFlow takes some for failures to revert, depending on who comes first.
        for kind in () if not in_order else ("get_failures", "get_execute_failures", "get_revert_failures"):
            self.say(f"   {kind}", plain(getattr(storage, kind)()))
        for name in names:
            if text(name) not in never_ran:
                with contextlib.suppress(Exception):
                    self.say("   reverted", text(name), plain(storage.get_revert_result(name)))


def _without_idle_undoing(kept: list[tuple[str, str]]) -> tuple[list[tuple[str, str]], set[str]]:
    """Return the lines of a run without those of undoing what never ran, and the names of what they are about."""
    left, idle, last = [], set(), set()
    for name, line in kept:
        idle |= {name} if line == "PENDING -> REVERTING" else set()
        idle -= {name} if line == "PENDING -> RUNNING" else set()
        last |= {name} & idle
        last -= {name} - idle
        if name not in idle and line != "REVERTED -> PENDING":
            left.append((name, line))
    return left, last
