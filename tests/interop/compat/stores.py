"""Random calls on a Storage without an engine: as plain data, and carried out on one package."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

from tests.interop.compat import flows
from tests.interop.compat.runner import Broken, Package, World, make_retry, make_task

STATES = ("SUCCESS", "FAILURE", "REVERTING", "REVERTED", "REVERT_FAILURE", "RUNNING", "PENDING", "IGNORE")
FLOW_STATES = ("PENDING", "RUNNING", "SUCCESS", "FAILURE", "REVERTED", "SUSPENDING", "SUSPENDED", "RESUMING")
#: what `fetch` and `fetch_all` are given to pick one of several values
HANDLERS = {"all": tuple, "first": lambda values: values[0], "last": lambda values: values[-1]}


@dataclass(frozen=True)
class Broke:
    """Stands for the Failure of an error with that message."""

    message: str


@dataclass(frozen=True)
class Calls:
    """Atoms, whether the storage knows what each of them sees, and calls: (method, positional, keyword arguments).

    Two of the methods are not the storage's: "reopen" makes a new storage over the same flow detail, "detail" reads
    that of an atom.
    """

    atoms: tuple[Any, ...]
    scope: tuple[tuple[str, tuple[tuple[str, ...], ...]], ...] | None
    calls: tuple[tuple[str, tuple[Any, ...], tuple[tuple[str, Any], ...]], ...]


class Maker:
    """Makes a random sequence of calls."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        names = [f"v{n}" for n in range(rng.randint(1, 4))]
        self.atoms: list[Any] = [self.atom(n, names) for n in range(rng.randint(1, 4))]
        self.tasks = [atom.name for atom in self.atoms if isinstance(atom, flows.Step)]
        self.retries = [atom.name for atom in self.atoms if isinstance(atom, flows.Control)]
        self.values = [*names, "s0", "s1"]
        self.count = 0

    def atom(self, n: int, names: list[str]) -> Any:
        rng = self.rng
        few = tuple(dict.fromkeys(rng.choice(names) for _ in range(rng.randint(1, 3))))
        gives = rng.choice((None, rng.choice(names), rng.choice(names), few, frozenset(few)))
        if rng.random() < 0.3:
            return flows.Control(f"r{n}", attempts=2, gives=gives)
        return flows.Step(f"t{n}", gives=gives)

    def name(self) -> str:
        """Return the name of an atom, of which there is none at times."""
        if self.rng.random() < 0.05:
            return "nobody"
        return self.rng.choice(self.atoms).name

    def task(self) -> str:
        return self.rng.choice(self.tasks) if self.tasks and self.rng.random() < 0.95 else self.name()

    def retry(self) -> str:
        return self.rng.choice(self.retries) if self.retries and self.rng.random() < 0.95 else self.name()

    def value(self) -> Any:
        rng = self.rng
        self.count += 1
        kind = rng.random()
        if kind < 0.3:
            return f"value-{self.count}"
        if kind < 0.55:
            return tuple(f"part-{self.count}-{n}" for n in range(rng.randint(0, 3)))
        if kind < 0.8:
            return {name: f"key-{self.count}-{name}" for name in self.values if rng.random() < 0.6}
        return rng.choice((None, self.count, [], "", {}))

    def pairs(self) -> dict[str, Any]:
        self.count += 1
        names = [name for name in self.values if self.rng.random() < 0.3]
        return {name: f"given-{self.count}-{name}" for name in names}

    def rows(self) -> tuple[tuple[str, ...], ...]:
        names = [atom.name for atom in self.atoms]
        return tuple(
            tuple(self.rng.sample(names, self.rng.randint(0, len(names)))) for _ in range(self.rng.randint(0, 2))
        )

    def mapping(self) -> dict[str, str]:
        return {f"arg{n}": self.rng.choice([*self.values, "absent"]) for n in range(self.rng.randint(0, 3))}

    def broke(self) -> Broke:
        self.count += 1
        return Broke(f"broke-{self.count}")

    def calls(self) -> Calls:
        rng = self.rng
        made: list[Any] = []
        if rng.random() < 0.9:
            made.append(("ensure_atoms", (tuple(range(len(self.atoms))),), ()))
        makers = [getattr(self, name) for name in dir(self) if name.startswith("on_")]
        weights = [_WEIGHTS.get(maker.__name__[3:], 2) for maker in makers]
        made += [rng.choices(makers, weights)[0]() for _ in range(rng.randint(1, 20))]
        scope = None
        if rng.random() < 0.4:
            scope = tuple((atom.name, self.rows()) for atom in self.atoms)
        return Calls(tuple(self.atoms), scope, (*made, *self.looks()))

    def looks(self) -> list[Any]:
        """Look at everything in the end."""
        looks: list[Any] = [
            (method, (atom.name,), ())
            for atom in self.atoms
            for method in ("get_atom_state", "get_atom_intention", "get", "get_revert_result", "detail")
        ]
        looks += [("get_retry_history", (name,), ()) for name in self.retries]
        looks += [("fetch", (name,), ()) for name in self.values]
        whole = ("fetch_all", "get_failures", "get_execute_failures", "get_revert_failures", "has_failures")
        return looks + [(method, (), ()) for method in (*whole, "get_retry_histories", "get_flow_state", "flow_meta")]

    # -- one call each -----------------------------------------------------------------------------

    def on_ensure_atom(self) -> Any:
        return "ensure_atom", (self.rng.randrange(len(self.atoms)),), ()

    def on_ensure_atoms(self) -> Any:
        return (
            "ensure_atoms",
            (tuple(self.rng.sample(range(len(self.atoms)), self.rng.randint(0, 2) % len(self.atoms))),),
            (),
        )

    def on_reopen(self) -> Any:
        return "reopen", (), ()

    def on_get_atom_uuid(self) -> Any:
        return "get_atom_uuid", (self.name(),), ()

    def on_set_atom_state(self) -> Any:
        return "set_atom_state", (self.name(), self.rng.choice(STATES)), ()

    def on_get_atom_state(self) -> Any:
        return "get_atom_state", (self.name(),), ()

    def on_set_atom_intention(self) -> Any:
        return "set_atom_intention", (self.name(), self.rng.choice(("EXECUTE", "REVERT", "RETRY", "IGNORE"))), ()

    def on_get_atom_intention(self) -> Any:
        return "get_atom_intention", (self.name(),), ()

    def on_get_atoms_states(self) -> Any:
        return "get_atoms_states", ([self.name() for _ in range(self.rng.randint(0, 3))],), ()

    def on_update_atom_metadata(self) -> Any:
        self.count += 1
        update: Any = {self.rng.choice("ab"): self.count}
        return "update_atom_metadata", (self.name(), self.rng.choice((update, tuple(update.items()), {}))), ()

    def on_set_task_progress(self) -> Any:
        details = self.rng.choice((None, {}, {"a": 1}, {"b": [2]}))
        arguments = (self.task(), self.rng.choice((0.0, 0.5, 1.0)))
        return "set_task_progress", arguments if details is None else (*arguments, details), ()

    def on_get_task_progress(self) -> Any:
        return "get_task_progress", (self.task(),), ()

    def on_get_task_progress_details(self) -> Any:
        return "get_task_progress_details", (self.task(),), ()

    def on_save(self) -> Any:
        rng = self.rng
        state = rng.choice(("SUCCESS", "SUCCESS", "SUCCESS", "FAILURE", "FAILURE", "REVERTED", "REVERT_FAILURE", None))
        result = self.value()
        if (
            state in ("FAILURE", "REVERT_FAILURE") or rng.random() < 0.05
        ):  # TaskFlow takes ten seconds to refuse anything else
            result = self.broke()
        return "save", (self.name(), result) if state is None else (self.name(), result, state), ()

    def on_save_retry_failure(self) -> Any:
        return "save_retry_failure", (self.retry(), self.task(), self.broke()), ()

    def on_cleanup_retry_history(self) -> Any:
        return "cleanup_retry_history", (self.retry(), self.rng.choice(("REVERTED", "PENDING"))), ()

    def on_get(self) -> Any:
        return self.rng.choice(("get", "get_execute_result")), (self.name(),), ()

    def on_get_revert_result(self) -> Any:
        return "get_revert_result", (self.name(),), ()

    def on_failures(self) -> Any:
        names = ("get_failures", "get_execute_failures", "get_revert_failures", "has_failures")
        return self.rng.choice(names), (), ()

    def on_reset(self) -> Any:
        if self.rng.random() < 0.5:
            return "reset", (self.name(),), ()
        return "reset", (self.name(), self.rng.choice(("PENDING", "IGNORE"))), ()

    def on_inject_atom_args(self) -> Any:
        keywords = self.rng.choice(((), (("transient", True),), (("transient", False),)))
        return "inject_atom_args", (self.name(), self.pairs()), keywords

    def on_inject(self) -> Any:
        return "inject", (self.pairs(),), self.rng.choice(((), (("transient", True),), (("transient", False),)))

    def on_fetch(self) -> Any:
        handler = self.rng.choice(((), (), (("many_handler", self.rng.choice(list(HANDLERS))),)))
        return "fetch", (self.rng.choice([*self.values, "absent"]),), handler

    def on_fetch_all(self) -> Any:
        return "fetch_all", (), self.rng.choice(((), (), (("many_handler", self.rng.choice(list(HANDLERS))),)))

    def arguments(self) -> tuple[tuple[str, Any], ...]:
        found: list[tuple[str, Any]] = []
        if self.rng.random() < 0.3:
            found.append(("scope_walker", self.rows()))
        if self.rng.random() < 0.3:
            found.append(("optional_args", ["arg0", "arg7"]))
        return tuple(found)

    def on_fetch_mapped_args(self) -> Any:
        name = () if self.rng.random() < 0.3 else (("atom_name", self.name()),)
        return "fetch_mapped_args", (self.mapping(),), (*name, *self.arguments())

    def on_fetch_unsatisfied_args(self) -> Any:
        return "fetch_unsatisfied_args", (self.name(), self.mapping()), self.arguments()

    def on_flow(self) -> Any:
        rng = self.rng
        state = rng.choice(FLOW_STATES)
        return rng.choice(
            (
                ("set_flow_state", (state,), ()),
                ("change_flow_state", (state,), ()),
                ("get_flow_state", (), ()),
                ("update_flow_metadata", ({"m": state},), ()),
                ("flow_meta", (), ()),
                ("flow_name", (), ()),
                ("flow_uuid", (), ()),
                ("backend", (), ()),
                ("injector_name", (), ()),
            )
        )

    def on_get_retry_history(self) -> Any:
        return self.rng.choice((("get_retry_history", (self.retry(),), ()), ("get_retry_histories", (), ())))


_WEIGHTS = {"save": 10, "set_atom_state": 4, "inject": 4, "inject_atom_args": 3, "fetch": 4, "fetch_mapped_args": 4}


def make(seed: int) -> Calls:
    """Make the calls of a seed."""
    return Maker(random.Random(seed)).calls()


class Opened:
    """A storage that is called, over a flow detail that stays."""

    def __init__(self, package: Package, case: Calls) -> None:
        import importlib

        self.package = package
        self.case = case
        world = World(package)
        self.atoms = [
            (make_task if isinstance(atom, flows.Step) else make_retry)(package, atom, world) for atom in case.atoms
        ]
        self.detail = package.models.FlowDetail("flow", "uuid")
        self.make = importlib.import_module(f"{package.name}.storage").Storage
        self.storage: Any = None
        self.reopen()

    def reopen(self) -> None:
        scope = None
        if self.case.scope is not None:
            seen = dict(self.case.scope)

            def scope(name: str) -> Any:
                return seen[name]

        self.storage = self.make(self.detail, scope_fetcher=scope)

    def call(self, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Make a call, and return what came of it as a plain value."""
        if method == "reopen":
            return self.reopen()
        if method == "detail":
            return self.of_detail(*arguments)
        if method == "ensure_atom":
            return type(self.storage.ensure_atom(self.atoms[arguments[0]])).__name__
        if method == "ensure_atoms":
            return len(self.storage.ensure_atoms([self.atoms[n] for n in arguments[0]]))
        if method == "get_atom_uuid":
            return type(self.storage.get_atom_uuid(*arguments)).__name__
        asked = getattr(self.storage, method)
        if not callable(asked):
            return self.package.plain(asked)
        if "many_handler" in keywords:
            keywords["many_handler"] = HANDLERS[keywords["many_handler"]]
        made = [self.failure(argument.message) if isinstance(argument, Broke) else argument for argument in arguments]
        answer = asked(*made, **keywords)
        return sorted(answer) if isinstance(answer, (set, frozenset)) else self.package.plain(answer)

    def failure(self, message: str) -> Any:
        try:
            raise Broken(message)
        except Broken:
            return self.package.failure()

    def of_detail(self, name: str) -> Any:
        detail = next((detail for detail in self.detail if detail.name == name), None)
        if detail is None:
            return None
        fields = ["state", "intention", "results", "failure", "revert_results", "revert_failure", "meta"]
        if type(detail).__name__ == "RetryDetail":
            fields += ["last_failures"]
        return {field: self.package.plain(_read(detail, field)) for field in [*fields, "last_results"]}


def _read(detail: Any, field: str) -> Any:
    try:
        return getattr(detail, field)
    except Exception as error:  # noqa: BLE001 - what is compared
        return f"{type(error).__name__}: {error}"


def run(package: Package, case: Calls) -> list[Any]:
    """Make the calls, and return what each of them answered or raised."""
    opened = Opened(package, case)
    answers = []
    for method, arguments, keywords in case.calls:
        try:
            answers.append(opened.call(method, arguments, dict(keywords)))
        except Exception as error:  # noqa: BLE001 - what is compared
            answers.append(("raised", *package.raised(error)))
    return answers
