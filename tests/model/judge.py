"""What must hold when a run has come to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx.record import metadata
from tests.model import specs

if TYPE_CHECKING:
    from tests.model.drive import Driver
    from tests.model.oracle import Ending

STANDING = frozenset((states.RUNNING, states.SUCCESS, states.FAILURE, states.REVERTING, states.REVERT_FAILURE))


def complaints(driver: Driver, want: Ending, state: str) -> list[str]:
    """Return all that is wrong with a finished run; `want` is what the oracle says."""
    return [*driver.wrong, *_of_end(driver, want, state), *_of_calls(driver)]


def _of_end(driver: Driver, want: Ending, state: str) -> list[str]:
    spec, storage = driver.shape.spec, driver.engine.storage
    details = {name: storage.record.detail(name) for name in driver.shape.atoms}
    now = {name: detail.state for name, detail in details.items()}
    standing = {name: details[name].last_results for name in now if now[name] == states.SUCCESS}
    stuck = any(atom.stuck for atom in driver.shape.atoms.values())
    wrong = [f"the flow is {state}, and {name} is {at}" for name, at in now.items() if not _fits(at, state)]
    # A retry does not run again over what could not be undone: with on_revert_failure="continue" all is undone instead.
    gave_up = stuck and spec.go_on and state == states.REVERTED and not standing
    if not (want.depends or gave_up):
        if state != want.state:
            wrong.append(f"the flow is {state}, not {want.state}; it raised {driver.error!r}")
        if standing != want.standing:
            wrong.append(f"what stands is {standing}, not {want.standing}")
        if state == states.SUCCESS:
            ignored = {name for name, at in now.items() if at == states.IGNORE}
            if ignored != want.ignored:
                wrong.append(f"what is left out is {ignored}, not {want.ignored}")
    undone = [
        name
        for name, at in now.items()
        if at in STANDING
        and metadata.NOT_CALLED not in details[name].meta
        and not _has_nothing_to_undo(driver.engine, driver.shape.atoms[name])
    ]
    if sorted(driver.engine.not_undone()) != sorted(undone):
        wrong.append(f"not_undone() says {driver.engine.not_undone()}, but {undone} stand")
    return wrong + _of_values(driver, standing, state) + _of_error(driver, state)


def _fits(atom_state: str, flow_state: str) -> bool:
    if flow_state == states.SUCCESS:
        return atom_state in (states.SUCCESS, states.IGNORE)
    if flow_state == states.REVERTED:
        return atom_state in (states.SUCCESS, states.IGNORE, states.PENDING, states.REVERTED)
    return atom_state not in (states.RUNNING, states.REVERTING, states.RETRYING)


def _has_nothing_to_undo(engine: Any, atom: Any) -> bool:
    return isinstance(atom, specs.Again) and atom.kind != specs.CUSTOM


def _of_values(driver: Driver, standing: dict[str, Any], state: str) -> list[str]:
    """Check `fetch_all` of a flow that has succeeded: every value once, a list for a name that has several."""
    if state != states.SUCCESS:
        return []
    want: dict[str, list[Any]] = {name: [value] for name, value in driver.shape.spec.store.items()}
    for name, result in standing.items():
        for given, place in specs.outputs(driver.shape.atoms[name]).items():
            if place is None or place < len(result):
                want.setdefault(given, []).append(result if place is None else result[place])
    found = driver.engine.storage.fetch_all()
    found.pop("values")
    several = {name: value if isinstance(value, list) else [value] for name, value in found.items()}
    if {n: sorted(map(str, v)) for n, v in several.items()} != {n: sorted(map(str, v)) for n, v in want.items()}:
        return [f"fetch_all() gives {found}, not {want}"]
    return []


def _of_error(driver: Driver, state: str) -> list[str]:
    error = driver.error
    if isinstance(error, KeyboardInterrupt):
        return []  # it came from a listener that was told of the end
    if state == states.SUCCESS:
        return [] if error is None else [f"the flow has succeeded and raised {error!r}"]
    if error is None:
        return [f"the flow is {state} and raised nothing"]
    known = {**driver.engine.storage.get_failures(), **driver.engine.storage.get_revert_failures()}
    if not known:
        return [f"the flow is {state}, and no failure is known"]
    if not isinstance(error, specs.Broken | exceptions.NotFound | exceptions.WrappedFailure):
        return [f"the flow is {state} and raised {error!r}"]
    return []


def _of_calls(driver: Driver) -> list[str]:
    """Check the calls themselves: nothing is called while something after it stands, and what stands not is undone."""
    last: dict[str, str] = {}
    wrong: list[str] = []
    if driver.world.crashed:
        return wrong  # some calls of a process that has died are in nobody's record
    for verb, name, _ in driver.world.log:
        wrong += [f"{verb} of {name} while {o} stands" for o in driver.shape.after[name] if last.get(o) == "execute"]
        last[name] = verb
    now = {name: driver.engine.storage.get_atom_state(name) for name in last}
    if not driver.shape.spec.never_resolve:
        wrong += [
            f"{name} was executed and not undone"
            for name, verb in last.items()
            if verb == "execute" and now[name] not in STANDING
        ]
    return wrong
