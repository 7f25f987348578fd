"""Runs a service's own flow with bodies of ours in its tasks: the wiring is the service's, what is done is written down.

What an atom is given, what it provides and how it is undone is worked out from the service's own `execute` and
`revert`; only then are these replaced on the atom. Retries keep their own methods. A flow is run to its end, then
again with each of its tasks failing in turn, and with the undoing of one failing, on one thread and on several.
"""

from __future__ import annotations

import concurrent.futures
from typing import TYPE_CHECKING, Any
from unittest import mock

from taskflow import engines, exceptions, task
from taskflow.patterns import linear_flow
from transcript import Transcript, plain, text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

#: as many of the tasks of a flow are made to fail, each in runs of its own
FAILURES = 6
EVER = 1000


class Boom(Exception):
    """What a task fails with."""


def _can_be_undone(atom: Any) -> bool:
    return isinstance(atom, task.Task) and type(atom).revert is not task.Task.revert


def _provided(atom: Any) -> Any:
    keys = atom.save_as.values()
    if any(isinstance(key, str) for key in keys):
        return {key: f"{key} of {atom.name}" for key in keys}
    if any(isinstance(key, int) for key in keys):
        return [f"{key} of {atom.name}" for key in keys]
    return f"result of {atom.name}"


class Bodies:
    """Bodies for the tasks of one run.

    :param failing: the name of the task that fails
    :param times: how often it does so before it succeeds
    :param stuck: the name of the task that cannot be undone
    """

    def __init__(
        self, transcript: Transcript, failing: str | None = None, times: int = EVER, stuck: str | None = None
    ) -> None:
        self._note = transcript.note
        self._failing = failing
        self._left = times
        self._stuck = stuck

    def put_into(self, atom: Any) -> None:
        """Replace what a task does."""

        def execute(**given: Any) -> Any:
            self._note(atom.name, "execute", plain(given))
            if atom.name == self._failing and self._left:
                self._left -= 1
                raise Boom(f"{atom.name} fails")
            return _provided(atom)

        def revert(**given: Any) -> str:
            self._note(atom.name, "revert", plain(given))
            if atom.name == self._stuck:
                raise Boom(f"{atom.name} is stuck")
            return f"{atom.name} undone"

        atom.execute = execute
        if _can_be_undone(atom):
            atom.revert = revert


def _atoms(flow: Any) -> list[Any]:
    """Return the atoms of a flow, those of nested flows too, in the order in which the flow gives them."""
    found = [flow.retry] if flow.retry is not None else []
    for node, _ in flow.iter_nodes():
        found += _atoms(node) if hasattr(node, "iter_nodes") else [node]
    return list({id(atom): atom for atom in found}.values())


def wiring(transcript: Transcript, flow: Any) -> None:
    """Say how the atoms of a flow are put together."""
    say = transcript.say
    say("   flow", text(flow), len(flow))
    say("   requires", sorted(flow.requires), "provides", sorted(flow.provides))
    for atom in _atoms(flow):
        say("   atom", text(atom), "requires", sorted(atom.requires), "optional", sorted(atom.optional))
        say("     rebind", plain(dict(atom.rebind)))
        if _can_be_undone(atom):
            say("     rebind for revert", plain(dict(atom.revert_rebind)))
        say("     saves", plain(dict(atom.save_as)), "injects", plain(atom.inject), "priority", atom.priority)
    for one, other, data in flow.iter_links():
        say("   link", text(one), "->", text(other), plain({key: bool(value) for key, value in data.items()}))


def flow_of(load: Callable[[], Any]) -> Any:
    """Return the flow for which a function loads an engine."""
    with mock.patch.object(engines, "load") as loading:
        load()
    return loading.call_args.args[0]


def _is_a_line(flow: Any) -> bool:
    """Tell whether no two parts of a flow are independent of each other."""
    return isinstance(flow, linear_flow.Flow) and all(
        _is_a_line(node) for node, _ in flow.iter_nodes() if hasattr(node, "iter_nodes")
    )


def _some(names: list[str]) -> Iterable[str]:
    step = max(1, len(names) // FAILURES)
    return dict.fromkeys([*names[::step], *names[-1:]])


def explore(transcript: Transcript, title: str, make: Callable[[], Any], store: dict[str, Any] | None = None) -> None:
    """Run a flow in all these ways.

    :param make: makes the flow, each time a new one
    :param store: values that stand-ins would not do for
    """
    flow = make()
    transcript.say("flow", title)
    wiring(transcript, flow)
    names = [atom.name for atom in _atoms(flow) if isinstance(atom, task.Task)]

    def run(how: str, bodies: Bodies, **options: Any) -> None:
        transcript.say("  ", how)
        flow = make()
        for atom in _atoms(flow):
            if isinstance(atom, task.Task):
                bodies.put_into(atom)
        given = {name: f"given {name}" for name in sorted(flow.requires)} | (store or {})
        try:
            engine = engines.load(flow, store=given, **options)
            engine.compile()
            engine.prepare()
            engine.validate()
            engine.run()
        except (Boom, exceptions.WrappedFailure):
            pass  # the transcript of the run says so
        except Exception as error:  # noqa: BLE001 - whatever it is, both packages must raise it
            transcript.say("   refused", type(error).__name__, text(error).splitlines()[0])

    with transcript.every_run(), concurrent.futures.ThreadPoolExecutor(4) as executor:
        transcript.in_order = _is_a_line(flow)
        run("all succeed", Bodies(transcript))
        for name in _some(names):
            run(f"{text(name)} fails once", Bodies(transcript, name, 1))
            run(f"{text(name)} fails", Bodies(transcript, name))
        last = names[-1]
        run(f"{text(names[0])} cannot be undone", Bodies(transcript, last, stuck=names[0]))
        run("with never_resolve", Bodies(transcript, last), never_resolve=True)
        run("with defer_reverts", Bodies(transcript, last), defer_reverts=True)
        transcript.in_order = False
        run("all succeed on threads", Bodies(transcript), engine="parallel", executor=executor)
        run("fails on threads", Bodies(transcript, last), engine="parallel", executor=executor)
