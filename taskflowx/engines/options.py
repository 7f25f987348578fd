"""The options of an engine: their defaults, and the checks of what callers give."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from taskflowx._util import arguments

_CHOICES = {
    "durability": ("strict", "group", "exit"),
    "on_mismatch": ("warn", "refuse", "ignore"),
    "on_revert_failure": ("halt", "continue"),
}
_LEAST_SECONDS = {"commit_interval": 0.001, "commit_timeout": 0, "lease": 1}


class Options(NamedTuple):
    """The options of an engine, by name.

    - `executor`: a name ('serial', 'threads', 'processes', 'asyncio') or an instance of
      `concurrent.futures.Executor`, which is left open after the run
    - `max_workers`: how many calls may run at once, for the executors that are picked by name
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
    - `gather_statistics`: whether the time spent in each step is measured (the default)
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
    gather_statistics: bool = True

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
            raise ValueError(f"Unknown engine options {unknown}, the known ones are {sorted(known)}")
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
