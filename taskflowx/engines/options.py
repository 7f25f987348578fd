"""The options of an engine: their defaults, and the checks of what callers give."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, Protocol, TypedDict

from taskflowx._util import arguments, clock as clocks
from taskflowx.engines import limit_names

if TYPE_CHECKING:
    from collections.abc import Iterable
    from contextvars import ContextVar

    from taskflowx.executors.processes import ProcessPool


def _to_clock(value: Any) -> clocks.Clock | None:
    if value is not None:
        arguments.check_type("clock", value, clocks.Clock, "a taskflowx.testing.VirtualClock, or None")
    return value  # type: ignore[no-any-return]


def _to_history(value: Any) -> bool | None:
    return None if value is None else arguments.to_bool("history", value)


_CHOICES = {
    "durability": ("strict", "group", "exit"),
    "on_mismatch": ("warn", "refuse", "ignore"),
    "on_revert_failure": ("halt", "continue"),
    "results": ("lenient", "strict"),
    "revert_limits": ("own", "shared"),
    "types": ("ignore", "warn", "strict"),
}


def _to_secrets(given: Any) -> dict[str, str]:
    from taskflowx.record import secrets  # who has none does without it

    if isinstance(given, (str, bool)):
        arguments.refuse("sensitive", given, "names of values, or a dict of name -> True or 'memory'")
    return secrets.to_names("sensitive", given)


_CONVERTED: dict[str, Callable[[Any], Any]] = {
    "limits": limit_names.to_capacities,
    "rates": limit_names.to_rates,
    "max_in_flight": limit_names.to_at_once,
    "clock": _to_clock,
    "sensitive": _to_secrets,
    "history": _to_history,
}
_LEAST_SECONDS = {"commit_interval": 0.001, "commit_timeout": 0, "lease": 1}


#: the executors that have names of their own; those that packages bring, and addresses of clusters, are any str
ExecutorName = Literal["serial", "threads", "processes", "asyncio", "greenthreads", "dask"]
#: what `run(timeout=)` does when the time is up
OnTimeout = Literal["suspend", "rollback"]


class Submits(Protocol):
    """What is an executor by what it can do: one of `concurrent.futures`, of this package, a client of Dask."""

    def submit(self, *args: Any, **kwargs: Any) -> Any:
        """Have a call made."""


class EngineOptions(TypedDict, total=False):
    """The options of an engine for type checkers; see `Options`."""

    executor: ExecutorName | str | Submits | ProcessPool | None
    max_workers: int | None
    context: Iterable[ContextVar[Any] | str]
    inline: bool
    on_revert_failure: Literal["halt", "continue"]
    defer_reverts: bool
    never_resolve: bool
    inject_transient: bool
    durability: Literal["strict", "group", "exit"]
    commit_interval: float
    commit_timeout: float
    keep_results: bool | Iterable[str]
    lease: float
    on_mismatch: Literal["warn", "refuse", "ignore"]
    results: Literal["lenient", "strict"]
    types: Literal["ignore", "warn", "strict"]
    limits: Mapping[str, int | None]
    rates: Mapping[str, str | tuple[int, float]]
    max_in_flight: int | None
    revert_limits: Literal["own", "shared"]
    sensitive: Iterable[str] | Mapping[str, Any]
    gather_statistics: bool
    history: bool | None
    clock: clocks.Clock | None


class Options(NamedTuple):
    """The options of an engine, by name.

    - `executor`: a name ('serial', 'threads', 'processes', 'asyncio') or an instance of
      `concurrent.futures.Executor`, which is left open after the run
    - `max_workers`: how many calls may run at once, for the executors that are picked by name and for a Dask client;
      alone it picks 'threads' in `taskflowx.run` and `load`. The serial executor, which is the default of
      `engines.load`, and any other one of the caller's own leave it aside, with a warning
    - `context`: context variables whose values go along to calls in other processes, or the paths of such, such as
      'package.module:NAME'; calls that share memory with the engine see the whole context of the caller
    - `inline`: whether a call that is the only one to run may run in the engine's own thread with
      executor='threads' (the default)
    - `on_revert_failure`: 'halt' (what precedes an atom whose revert failed waits, the default) or 'continue'
    - `defer_reverts`: whether a retry that says REVERT leaves it to the one around it how much is undone
    - `never_resolve`: whether failures trigger no rollback, and everything that can still run runs
    - `inject_transient`: whether values that atoms inject are kept out of the record (the default)
    - `durability`: with a store other than memory, when the record is written: 'strict' (the default: before a call
      that depends on it begins), 'group' (at most every `commit_interval` seconds) or 'exit' (when something has
      failed, and when the run is suspended or ends)
    - `commit_interval`: seconds between the commits of durability='group', 0.05 by default
    - `commit_timeout`: for how many seconds a commit is tried again when the store does not take it, 30 by default;
      then the run is stopped
    - `keep_results`: False to let go of the result of a task once each task that takes it has ended, and no
      `revert`, decider or retry needs it; or the names of values that are kept all the same
    - `lease`: after how many seconds without a heartbeat another process may take the run over, 60 by default
    - `on_mismatch`: what is done when the record has atoms that have begun, and that the flow does not have any
      more: 'warn' (the default), 'refuse' (IncompatibleVersion before anything runs) or 'ignore'
    - `results`: 'strict' to fail a task whose result lacks a part that it provides, and to refuse a name that is given
      twice before anything runs; 'lenient' to warn of both. By default it is 'lenient', but for the results of tasks
      that `as_task` makes
    - `types`: what is done before a run when a value is annotated as another type than the task that takes it says:
      'ignore' (the default: annotations are not read), 'warn' or 'strict' (TypeMismatch before anything runs)
    - `limits`: how much at once, by the names that tasks give in their `limits`: {'db': 4, 'host:*': 2}. A name that
      ends in '*' stands for all that begin so, each with a capacity of its own; None is no limit
    - `rates`: how much in a time, by the same names: {'api': '10/s'} or {'api': (10, 1.0)}, at most so many tokens that
      come back within so many seconds
    - `max_in_flight`: how many calls the executor has at once at most, reverts included
    - `revert_limits`: 'own' (the default: a revert has limits of the same size as its execute, apart from these) or
      'shared'
    - `sensitive`: names of values that are shown nowhere, and are stored through the `transform` of the store only; a
      dict of name -> 'memory' for those that are not stored at all
    - `gather_statistics`: whether the time spent in each step is measured (the default)
    - `history`: whether each transition is recorded, with the state that it leads to; by default, in runs with a
      `run_id` whose store keeps histories
    - `clock`: the time by which the engine waits: that of the machine (the default), or a
      `taskflowx.testing.VirtualClock`
    """

    executor: Any = None
    max_workers: Any = None
    context: Any = ()
    inline: bool = True
    on_revert_failure: str = "halt"
    defer_reverts: bool = False
    never_resolve: bool = False
    inject_transient: bool = True
    durability: str = "strict"
    commit_interval: float = 0.05
    commit_timeout: float = 30.0
    keep_results: bool | frozenset[str] = True
    lease: float = 60.0
    on_mismatch: str = "warn"
    results: str | None = None
    types: str = "ignore"
    limits: Mapping[str, int | None] | None = None
    rates: Mapping[str, tuple[int, float]] | None = None
    max_in_flight: int | None = None
    revert_limits: str = "own"
    sensitive: Mapping[str, str] | None = None
    gather_statistics: bool = True
    history: bool | None = None
    clock: clocks.Clock | None = None

    @classmethod
    def of(cls, given: Mapping[str, Any], known: frozenset[str]) -> Options:
        """Return the options that a caller gives by name.

        :param known: the names that are accepted: those here, and those that an engine adds for itself
        :raises ValueError, TypeError: when one is unknown or its value is not one of those accepted
        """
        if not given:
            return _DEFAULTS
        unknown = sorted(given.keys() - known)
        if unknown:
            hint = arguments.did_you_mean(unknown[0], known) or "values that tasks take go into store={name: value}"
            raise ValueError(f"Unknown engine options {unknown}, the known ones are {sorted(known)}; {hint}")
        checked = {name: value for name, value in given.items() if name in NAMES}
        for name, choices in _CHOICES.items():
            if name in checked:
                arguments.check_choice(name, checked[name], choices)
        for name, least in _LEAST_SECONDS.items():
            if name in checked:
                wanted = f"a number of seconds, at least {least}"
                checked[name] = arguments.to_seconds(name, checked[name], wanted, least=least)
        kept = checked.get("keep_results", True)
        if not isinstance(kept, bool):
            arguments.check_iterable("keep_results", kept, "True, False or a list of names of values")
            checked["keep_results"] = frozenset(kept)
        checked.update({name: to_value(checked[name]) for name, to_value in _CONVERTED.items() if name in checked})
        for name in _FLAGS & checked.keys():
            checked[name] = arguments.to_bool(name, checked[name])
        return cls(**checked)

    @property
    def goes_on(self) -> bool:
        """Whether a rollback goes on past an atom whose revert failed."""
        return self.on_revert_failure == "continue"

    @property
    def seconds_between_commits(self) -> float:
        """How many seconds may pass between commits: 0 for one before each call, infinity for none."""
        if self.durability == "group":
            return self.commit_interval
        return math.inf if self.durability == "exit" else 0.0


NAMES = frozenset(Options._fields)
_FLAGS = frozenset(name for name, value in Options._field_defaults.items() if value in (True, False)) - {"keep_results"}
_DEFAULTS = Options()
