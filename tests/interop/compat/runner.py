"""Runs cases on one of the two packages, through its public API alone, and says what happened in plain values.

`python -m tests.interop.compat.runner taskflow` reads pickled cases from its input and writes a pickled outcome for each; the
package may be any that has TaskFlow's API. An outcome holds only what Python has built in.
"""

from __future__ import annotations

import concurrent.futures
import functools
import importlib
import logging
import os
import pickle
import sys
import threading
from collections import Counter
from typing import Any

from tests.interop.compat import flows
from tests.model.specs import number

#: how often a case that is still suspended after its legs is run on
LAST_RUNS = 3
#: the package that always gets an executor that is made once: its own takes a second to stop
REFERENCE = "taskflow"


class Broken(Exception):
    """What atoms and deciders raise."""


class Package:
    """The modules of one package, by the names that TaskFlow gives them."""

    def __init__(self, name: str) -> None:
        def module(path: str) -> Any:
            return importlib.import_module(f"{name}.{path}")

        self.name = name
        self.engines = module("engines")
        self.task = module("task")
        self.retry = module("retry")
        self.models = module("persistence.models")
        self.failure = module("types.failure").Failure
        self.exceptions = module("exceptions")
        states = module("states")
        self.allows = {"task": states.check_task_transition, "retry": states.check_retry_transition}
        self.flows = {
            flows.LINEAR: module("patterns.linear_flow").Flow,
            flows.UNORDERED: module("patterns.unordered_flow").Flow,
            flows.GRAPH: module("patterns.graph_flow").Flow,
        }
        self.version = getattr(importlib.import_module(name), "__version__", "")

    def plain(self, value: Any) -> Any:
        """Return a value that only has what Python has built in."""
        if isinstance(value, self.failure):
            return ("failure", self.type_name(next(iter(value), "?")), self.text(value.exception_str))
        if isinstance(value, self.retry.History):
            return ("history", [self.plain(attempt) for attempt in value], self.plain(value.failure))
        if isinstance(value, dict):
            return {key: self.plain(part) for key, part in value.items()}
        if isinstance(value, (list, tuple)):
            return type(value)(self.plain(part) for part in value)
        if isinstance(value, (str, int, float, type(None))):
            return value if type(value) in _BUILT_IN else str(value)
        return f"<{type(value).__name__}>"

    def type_name(self, name: str) -> str:
        return name.replace("taskflowx.", "taskflow.")

    def text(self, text: Any) -> str:
        return str(text).replace("taskflowx.", "taskflow.")

    def raised(self, error: BaseException) -> Any:
        """Return an error as (type, message); one that wraps several failures with these."""
        if isinstance(error, self.exceptions.WrappedFailure):
            return ("WrappedFailure", sorted(map(self.plain, error), key=repr))
        kind = type(error)
        return (self.type_name(f"{kind.__module__}.{kind.__qualname__}"), self.text(error))


_BUILT_IN = (str, int, float, bool, type(None))


class World:
    """What the calls of one case have got and done, over all its legs."""

    def __init__(self, package: Package) -> None:
        self.package = package
        self.calls: dict[str, list[Any]] = {}
        self.asked: dict[str, list[Any]] = {}
        self.order: list[tuple[str, str]] = []
        self._count: Counter[tuple[str, str]] = Counter()
        self._lock = threading.Lock()

    def call(self, verb: str, name: str, given: dict[str, Any]) -> int:
        """Note a call, and return how many of the kind there have been; reverts of what has not run do not count."""
        plain = self.package.plain(given)
        with self._lock:
            if verb != "revert" or self._count["execute", name]:
                self._count[verb, name] += 1
            self.calls.setdefault(name, []).append((verb, plain))
            self.order.append((verb, name))
            return self._count[verb, name]

    def count(self, verb: str, name: str) -> int:
        """Return how many calls of a kind there have been."""
        return self._count[verb, name]

    def ask(self, link: str, history: Any) -> None:
        """Note what a decider got."""
        self.asked.setdefault(link, []).append(self.package.plain(history))


def fails(calls: tuple[int, ...], count: int) -> bool:
    return count in calls or flows.EVER in calls


# -- atoms -----------------------------------------------------------------------------------------


def _method(verb: str, takes: flows.Takes, told: tuple[str, ...] = ()) -> Any:
    """Make a method of a signature that hands on what it gets."""
    given = [*takes.needs, *told, *takes.may]
    parameters = ["self", *takes.needs, *told, *(f"{name}='default'" for name in takes.may)]
    if takes.more:
        parameters.append("**more")
    collected = ", ".join([*(f"{name!r}: {name}" for name in given), *(["**more"] if takes.more else [])])
    source = f"def {verb}({', '.join(parameters)}):\n    return self.did({verb!r}, {{{collected}}})\n"
    space: dict[str, Any] = {}
    exec(source, space)  # noqa: S102 - a signature is what it is about
    return space[verb]


def make_task(package: Package, step: flows.Step, world: World) -> Any:
    """Make the task of a step."""

    def did(self: Any, verb: str, given: dict[str, Any]) -> Any:
        count = world.call(verb, step.name, given)
        if verb == "revert":
            if fails(step.stuck, count):
                raise Broken(f"revert of {step.name}, call {count}")
            return f"undone-{step.name}-{world.count('execute', step.name)}"
        if fails(step.fails, count):
            raise Broken(f"{step.name}, call {count}")
        return result_of(step, count)

    body: dict[str, Any] = {"did": did, "execute": _method("execute", step.do)}
    if step.undo is not None:
        body["revert"] = _method("revert", step.undo, step.told)
    made = type(f"Task_{step.name}", (package.task.Task,), body)(
        step.name,
        provides=set(step.gives) if isinstance(step.gives, frozenset) else step.gives,
        requires=step.requires,
        auto_extract=step.extract,
        rebind=step.rebind,
        inject=dict(step.inject) or None,
        ignore_list=list(step.ignore) or None,
        revert_rebind=step.undo_rebind,
        revert_requires=step.undo_requires,
    )
    made.priority = step.priority
    return made


def result_of(step: flows.Step, count: int) -> Any:
    """Return what a call of execute returns."""
    value = f"{step.name}-{count}"
    if step.gives is None or isinstance(step.gives, str):
        return value
    if step.parts == -1:
        return count
    if isinstance(step.gives, frozenset):
        return {name: f"{value}-{name}" for name in sorted(step.gives)[: step.parts]}
    return tuple(f"{value}-{place}" for place in range(len(step.gives) if step.parts is None else step.parts))


def make_retry(package: Package, control: flows.Control, world: World) -> Any:
    """Make the retry of a control."""
    retry = package.retry
    common: dict[str, Any] = {"name": control.name, "provides": control.gives}
    if control.kind == flows.CUSTOM:
        made = _custom(package, control, world)(requires=list(control.needs), **common)
    else:
        kinds = {
            flows.TIMES: (retry.Times, (control.attempts,)),
            flows.EACH: (retry.ForEach, (list(control.values or ()),)),
            flows.PARAMETER: (retry.ParameterizedForEach, ()),
            flows.REVERT: (retry.AlwaysRevert, ()),
            flows.REVERT_ALL: (retry.AlwaysRevertAll, ()),
        }
        kind, arguments = kinds[control.kind]
        if control.watched:
            kind = _watched(kind, control, world)
        if control.kind in (flows.TIMES, flows.EACH, flows.PARAMETER):
            common["revert_all"] = control.revert_all
        if control.rebind is not None:
            common["rebind"] = control.rebind
        made = kind(*arguments, **common)
    made.priority = control.priority
    return made


def _watched(kind: Any, control: flows.Control, world: World) -> Any:
    """Return a subclass of one of the package's retries that notes what its methods get."""

    class Watched(kind):
        def on_failure(self, *args: Any, **kwargs: Any) -> Any:
            world.call("on_failure", control.name, {**kwargs, **dict(enumerate(args))})
            return super().on_failure(*args, **kwargs)

        def revert(self, *args: Any, **kwargs: Any) -> Any:
            world.call("revert", control.name, {**kwargs, **dict(enumerate(args))})
            return super().revert(*args, **kwargs)

    return Watched


def _custom(package: Package, control: flows.Control, world: World) -> Any:
    class Custom(package.retry.Retry):
        def execute(self, history: Any, **given: Any) -> Any:
            world.call("execute", control.name, {"history": history, **given})
            attempt = len(history) + 1
            if attempt in control.fails:
                raise Broken(f"{control.name}, attempt {attempt}")
            if isinstance(control.gives, tuple):
                return tuple(f"{control.name}-{attempt}-{place}" for place in range(len(control.gives)))
            return f"{control.name}-{attempt}"

        def revert(self, history: Any, flow_failures: Any, **given: Any) -> Any:
            count = world.call("revert", control.name, {"history": history, "flow_failures": flow_failures, **given})
            if fails(control.stuck, count):
                raise Broken(f"revert of {control.name}, call {count}")

        def on_failure(self, history: Any, **given: Any) -> Any:
            world.call("on_failure", control.name, {"history": history, **given})
            decision = control.decisions[min(len(history), len(control.decisions)) - 1]
            if decision == "RAISE":
                raise Broken(f"on_failure of {control.name}")
            return decision if decision == "NONSENSE" else package.retry.Decision(decision)

    return Custom


def _decider(link: str, verdict: str, world: World) -> Any:
    def decide(history: Any) -> bool:
        world.ask(link, history)
        if verdict == "raise":
            raise Broken(f"decider of {link}")
        return verdict == "yes" or (verdict == "odd" and number(sorted(world.package.plain(history).items())) % 2 == 1)

    return decide


def make_flow(package: Package, node: Any, world: World) -> Any:
    """Make the flow, or the task, of a node."""
    if isinstance(node, flows.Step):
        return make_task(package, node, world)
    members = [make_flow(package, member, world) for member in node.members]
    made = package.flows[node.kind](node.name, None if node.retry is None else make_retry(package, node.retry, world))
    if node.kind != flows.GRAPH:
        return made.add(*members)
    resolve = dict(zip(("resolve_requires", "resolve_existing"), node.resolve, strict=True))
    ordered = [members[place] for place in node.order]
    for some in [ordered] if node.together else [[one] for one in ordered]:
        made.add(*some, **resolve)
    for link in node.links:
        if link.verdict is None:
            made.link(members[link.u], members[link.v])
        else:
            names = f"{node.members[link.u].name}->{node.members[link.v].name}"
            decider = _decider(names, link.verdict, world)
            made.link(members[link.u], members[link.v], decider=decider, decider_depth=link.depth)
    return made


# -- a run -----------------------------------------------------------------------------------------


@functools.cache
def _pool(workers: int) -> concurrent.futures.Executor:
    return concurrent.futures.ThreadPoolExecutor(workers)


class Run:
    """One case, from its flow to its end."""

    def __init__(self, package: Package, case: flows.Case) -> None:
        self.package = package
        self.case = case
        self.world = World(package)
        self.detail = package.models.FlowDetail("detail", "detail-uuid")
        self.engine: Any = None
        self.stop: Any = None
        self.seen: Counter[tuple[str, str]] = Counter()
        self.atoms: dict[str, list[Any]] = {}
        self.illegal: list[Any] = []
        self.legs: list[dict[str, Any]] = []
        self.stage = "declare"

    def outcome(self) -> dict[str, Any]:
        """Run it, and return all that can be seen of it."""
        try:
            self._load()
        except Exception as error:  # noqa: BLE001 - what is compared
            return {"refused": (self.stage, *self.package.raised(error))}
        self._legs()
        return {
            "legs": self.legs,
            "atoms": self.atoms,
            "illegal": self.illegal,
            "calls": self.world.calls,
            "asked": self.world.asked,
            "order": self.world.order,
            "final": self._final(),
        }

    def _load(self) -> None:
        case, first = self.case, self.engine is None
        flow = make_flow(self.package, case.root, self.world)
        options: dict[str, Any] = dict(case.options)
        if case.workers and (case.pool or self.package.name == REFERENCE):
            options.update(engine="parallel", executor=_pool(case.workers))
        elif case.workers:
            options.update(engine="parallel", max_workers=case.workers)
        self.stage = "load"
        self.engine = self.package.engines.load(
            flow, store=dict(case.store) if first else None, flow_detail=self.detail, **options
        )
        self.stage = "inject"
        late = case.removed is not None and case.removed[1]
        self._remove(first and not late)
        self.engine.compile()
        self.engine.prepare()
        self._remove(first and late)
        for name, value, transient in case.later:
            if first or transient:
                self.engine.storage.inject({name: value}, transient=transient)
        for atom, name, value, transient in case.atom_args:
            if first or transient:
                self.engine.storage.inject_atom_args(atom, {name: value}, transient=transient)
        self.engine.notifier.register("*", self._note_flow)
        self.engine.atom_notifier.register("*", self._note_atom)

    def _remove(self, now: bool) -> None:
        """Replace the injected values, if the case says so."""
        if now and self.case.removed is not None:
            storage = self.engine.storage
            storage.save(storage.injector_name, dict(self.case.removed[0]), "SUCCESS")

    def _note_flow(self, state: str, details: dict[str, Any]) -> None:
        self.legs[-1]["flow"].append((details["old_state"], state))

    def _note_atom(self, state: str, details: dict[str, Any]) -> None:
        kind = "task" if "task_name" in details else "retry"
        name = details[f"{kind}_name"]
        old = details["old_state"]
        if not (self.package.allows[kind](old, state) or state == "PENDING"):  # anything may be reset
            self.illegal.append((name, old, state))
        note = (state, old, self.package.plain(details.get("result", "none")))
        self.atoms.setdefault(name, []).append(note)
        self.seen[name, state] += 1
        stop = self.stop
        if stop and stop[0] == "atom" and stop[1:] == (name, state, self.seen[name, state]):
            self.engine.suspend()

    def _legs(self) -> None:
        case = self.case
        for leg in case.legs:
            if self.legs and self._state() != "SUSPENDED":
                break
            self._leg(leg.how, leg.stop, fresh=leg.fresh)
        left = LAST_RUNS
        while not self.legs or (self._state() == "SUSPENDED" and left):
            self._leg(case.how, None, fresh=case.fresh)
            left -= 1
        if case.again and self._state() != "SUSPENDED":
            self._leg(case.how, None, fresh=case.again == "fresh", reset=case.again == "reset")

    def _state(self) -> str:
        return self.engine.storage.get_flow_state()

    def _leg(self, how: str, stop: Any, *, fresh: bool = False, reset: bool = False) -> None:
        self.stop = stop
        self.seen.clear()
        leg: dict[str, Any] = {"raised": None, "flow": [], "calls": None}
        self.legs.append(leg)
        try:
            if fresh and len(self.legs) > 1:
                self._load()
            if reset:
                self.engine.reset()
            if how == flows.ITERATED:
                self._iterate()
            else:
                self.engine.run()
        except Exception as error:  # noqa: BLE001 - what is compared
            leg["raised"] = self.package.raised(error)
        leg["state"] = self._state()
        leg["calls"] = len(self.world.order)

    def _iterate(self) -> None:
        steps = self.engine.run_iter()
        count = 0
        send = False
        while True:
            try:
                steps.send(send) if count else next(steps)
            except StopIteration:
                return
            count += 1
            send = self.stop == ("step", count)

    # -- what is there in the end ------------------------------------------------------------------

    def _final(self) -> dict[str, Any]:
        storage, plain = self.engine.storage, self.package.plain

        def ask(question: Any, *arguments: Any) -> Any:
            try:
                return plain(question(*arguments))
            except Exception as error:  # noqa: BLE001 - what is compared
                return ("raised", *self.package.raised(error))

        atoms = flows.atoms_of(self.case.root)
        details = {detail.name: detail for detail in self.detail}
        return {
            "flow": ask(storage.get_flow_state),
            "fetch_all": ask(storage.fetch_all),
            "failures": ask(storage.get_failures),
            "execute_failures": ask(storage.get_execute_failures),
            "revert_failures": ask(storage.get_revert_failures),
            "has_failures": ask(storage.has_failures),
            "histories": ask(storage.get_retry_histories),
            "fetch": {
                name: ask(storage.fetch, name) for name in sorted({n for a in atoms for n in flows.names_of(a.gives)})
            },
            "atoms": {
                atom.name: {
                    "state": ask(storage.get_atom_state, atom.name),
                    "intention": ask(storage.get_atom_intention, atom.name),
                    "get": ask(storage.get, atom.name),
                    "revert": ask(storage.get_revert_result, atom.name),
                    **self._of_detail(details.get(atom.name)),
                }
                for atom in atoms
            },
        }

    def _of_detail(self, detail: Any) -> dict[str, Any]:
        if detail is None:
            return {"detail": None}
        fields = ("state", "intention", "results", "failure", "revert_results", "revert_failure", "version")
        return {f"detail.{field}": self.package.plain(getattr(detail, field)) for field in fields}


def run(package: Package, case: flows.Case) -> dict[str, Any]:
    """Run a case, and return what happened."""
    return Run(package, case).outcome()


def main(name: str) -> None:
    """Answer every case on the input with its outcome."""
    from tests.interop.compat import stores

    logging.disable(logging.CRITICAL)
    source, answers = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # whatever else writes there must not get between the answers
    package = Package(name)
    while True:
        try:
            case = pickle.load(source)
        except EOFError:
            return
        perform = run if isinstance(case, flows.Case) else stores.run
        pickle.dump(perform(package, case), answers)
        answers.flush()


if __name__ == "__main__":
    from tests.interop.compat import runner  # so that its classes have the name that they have elsewhere

    runner.main(sys.argv[1])
