"""The search from a name to a value: injected values first, then providers in the order of their precedence.

A source is where a value may be found: the detail or the injected values that have it, and the index or key there. The
engine binds the first source of each argument before a run, and comes here when that has no value; all others ask here
by name.

The order for an argument: transient atom arguments, atom arguments, transient flow arguments, flow arguments, then the
providers that the atom sees, nearest first. The first that has a value wins.
"""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx._util import reprs
from taskflowx.persistence import models
from taskflowx.record import metadata
from taskflowx.record.record import INJECTOR_NAME

if TYPE_CHECKING:
    from taskflowx.atom import Atom
    from taskflowx.record.record import Record

#: where a value may be found: what has it, and the index or key there (None: all of it)
Source = tuple[Any, Any]

HAS_EXECUTE_RESULT = (states.SUCCESS, states.FAILURE, states.REVERTING)
HAS_REVERT_RESULT = (states.REVERTED, states.REVERT_FAILURE, states.REVERTING)


class Injected:
    """Injected values, in the shape of a detail that has succeeded: what a binding reads arguments from."""

    __slots__ = ("name", "results")
    state = states.SUCCESS

    def __init__(self, name: str, results: dict[str, Any]) -> None:
        self.name = name
        self.results = results

    def __repr__(self) -> str:
        return f"<Provider '{self.name}' of injected values>"


class Lookup:
    """Finds values by name.

    :param record: the details of the atoms
    :param scope_fetcher: called with an atom's name, gives the rows of names of atoms that it sees, nearest first;
        without it an atom sees all providers
    """

    def __init__(self, record: Record, scope_fetcher: Callable[[str], Iterable[Iterable[str]]] | None) -> None:
        self._record = record
        self.scope_fetcher = scope_fetcher
        self._transient = Injected("transient flow arguments", {})
        self.injected = Injected(INJECTOR_NAME, {})
        self._of_atoms: dict[str, tuple[Injected, Injected]] = {}  # by atom name: the transient ones, the kept ones
        self._providers: dict[str, list[Source]] = {}
        self._keyed: dict[str, list[tuple[models.AtomDetail, str, Any]]] = {}  # outputs that are parts of a result
        self._unindexed: deque[Atom] = deque()  # atoms whose outputs are not in _providers yet
        #: the version of the bindings: goes up when a name is injected that prepared ones do not know
        self.bindings_version = 0
        for name, detail in record.kept.items():
            if metadata.INJECTED in detail.meta:
                self._of_atoms[name] = (Injected(name, {}), Injected(name, detail.meta[metadata.INJECTED]))

    # -- providers ---------------------------------------------------------------------------------

    def add(self, atom: Atom) -> None:
        """Add an atom to the providers."""
        self._unindexed.append(atom)

    def replace(self, atoms: Iterable[Atom | None]) -> None:
        """Have these atoms, and no others, as providers."""
        self._unindexed = deque([atom for atom in atoms if atom is not None])
        self._providers.clear()
        self._keyed.clear()

    def _index(self) -> None:
        """Bring the providers of each name up to date."""
        while self._unindexed:
            atom = self._unindexed[0]  # taken out when it is done: what an interrupt cuts short is done again
            detail = self._record.detail(atom.name)
            for name, key in atom._tfx_signature.outputs:  # noqa: SLF001 - of the same house
                found = self._providers.setdefault(name, [])
                if not found or found[-1][0] is not detail:
                    if key is not None:
                        self._keyed.setdefault(detail.name, []).append((detail, name, key))
                    found.append((detail, key))
            self._unindexed.popleft()

    @reprs.one_line
    def __repr__(self) -> str:
        return f"Lookup in the {str(self._record)[1:-1].replace('Record', 'record', 1)}"

    def missing_from(self, atom_name: str) -> Iterator[tuple[str, Any]]:
        """Iterate over the names that an atom should provide and that its result does not have, each with its key."""
        self._index()
        for detail, name, key in self._keyed.get(atom_name, ()):
            try:
                detail.last_results[key]
            except Exception:  # noqa: BLE001 - a result may be of any kind
                yield name, key

    # -- injected values ---------------------------------------------------------------------------

    def inject(self, pairs: Mapping[str, Any], *, transient: bool) -> None:
        """Give values to all atoms.

        :param transient: whether they are forgotten when the run is over
        """
        values = self._transient if transient else self.injected
        if any(name not in values.results for name in pairs):
            self.bindings_version += 1
        values.results.update(pairs)

    def reread(self, injector: models.AtomDetail | None) -> None:
        """Take over the values given to the flow from their detail, which may have been replaced by name."""
        given = None if injector is None or injector.state != states.SUCCESS else injector.results
        self.injected.results = given if isinstance(given, dict) else {}
        self.bindings_version += 1

    def of_atom(self, atom_name: str) -> tuple[Injected, Injected]:
        """Return the values that were injected into an atom: the transient ones, and those that are kept."""
        return self._of_atoms.get(atom_name) or (Injected(atom_name, {}), Injected(atom_name, {}))

    def inject_into(self, atom_name: str, given: tuple[Injected, Injected]) -> None:
        """Give values to one atom alone."""
        self._of_atoms[atom_name] = given
        self.bindings_version += 1

    def injected_source(self, atom_name: str | None, name: str) -> Source | None:
        """Return where an injected value of this name is that the atom sees before any provider, or None."""
        return next(self._injected_sources(atom_name, name), None)

    def _injected_sources(self, atom_name: str | None, name: str) -> Iterator[Source]:
        of_atom = self._of_atoms.get(atom_name, ()) if atom_name is not None else ()
        for values in (*of_atom, self._transient, self.injected):
            if name in values.results:
                yield values, name

    def given_to_atoms(self, name: str) -> list[Any]:
        """Return all values of this name that single atoms were given."""
        return [kept.results[name] for pair in self._of_atoms.values() for kept in pair if name in kept.results]

    def injected_names(self) -> set[str] | None:
        """Return the names that have been injected, or None when some of them are for single atoms."""
        return None if self._of_atoms else {*self._transient.results, *self.injected.results}

    # -- sources -----------------------------------------------------------------------------------

    def sources(self, name: str) -> Iterator[Source]:
        """Iterate over all that may have a value of this name: injected ones first, then in the order of the atoms."""
        self._index()
        yield from self._injected_sources(None, name)
        yield from self._providers.get(name, ())

    def seen_by(self, atom_name: str | None, scope_walker: Iterable[Iterable[str]] | None) -> list[str]:
        """Return the names of the atoms that an atom sees, nearest first."""
        if scope_walker is None and atom_name is not None and self.scope_fetcher is not None:
            scope_walker = self.scope_fetcher(atom_name)
        return [name for level in scope_walker or () for name in level]

    def sources_for(self, atom_name: str | None, name: str, seen: list[str]) -> Iterator[Source]:
        """Iterate over all that may have a value of this name for an atom, in the order of their precedence."""
        yield from self._injected_sources(atom_name, name)
        self._index()
        offered = {detail.name: (detail, key) for detail, key in self._providers.get(name, ())}
        for visible in seen:
            if visible in offered:
                yield offered[visible]

    # -- values ------------------------------------------------------------------------------------

    def find(self, name: str, sources: Iterable[Source]) -> Any:
        """Return the first value among the sources, which come in the order of their precedence.

        :raises NotFound: when none of them has a value, or the first that had one was let go of
        """
        looked_at: list[tuple[Any, Any, Exception | None]] = []
        ignored = 0
        for detail, key in sources:
            if detail.state == states.IGNORE:
                ignored += 1
                continue
            problem: Exception | None = None
            if detail.state == states.SUCCESS:
                if metadata.is_let_go(detail):  # what comes after it has another value
                    raise _unavailable(name, detail, key, let_go(detail))
                results = detail.last_results if isinstance(detail, models.RetryDetail) else detail.results
                if key is None:
                    return results
                try:
                    return results[key]
                except Exception as error:  # noqa: BLE001 - a result may be of any kind
                    problem = error
            looked_at.append((detail, key, problem))
        if not (looked_at or ignored):
            msg = f"Name '{name}' is not mapped as a produced output by any providers{self._record.hint(name)}"
            raise exceptions.NotFound(msg)
        raise _no_value(name, looked_at, ignored)

    def fetch(self, name: str, many_handler: Callable[[list[Any]], Any] | None = None) -> Any:
        """Return the value under a name; see `Storage.fetch`."""
        found: list[Any] = []
        sources = list(self.sources(name))
        for detail, key in sources:
            with contextlib.suppress(exceptions.NotFound):
                found.append(self._offered(name, detail, key))
        if found:
            return found[0] if many_handler is None else many_handler(found)
        return self.find(name, sources)

    def _offered(self, name: str, detail: Any, key: Any) -> Any:
        """Return what a source has under a name; of an atom that failed its `Failure`, if it is not asked for a part.

        :raises NotFound: when it has nothing
        """
        if isinstance(detail, models.AtomDetail):
            if detail.failure is not None:
                if key is None:
                    return detail.failure
                raise _unavailable(name, detail, key, None)
            if detail.state == states.REVERTING:
                try:
                    return detail.last_results if key is None else detail.last_results[key]
                except Exception as error:  # noqa: BLE001 - a result may be of any kind
                    raise _unavailable(name, detail, key, error) from None
        return self.find(name, [(detail, key)])

    def fetch_all(self, many_handler: Callable[[list[Any]], Any] | None) -> dict[str, Any]:
        """Return name -> value of everything that there is; see `Storage.fetch_all`."""
        self._index()
        handle = many_handler or (lambda values: values[0] if len(values) == 1 else values)
        everything = {}
        for name in dict.fromkeys([*self._transient.results, *self.injected.results, *self._providers]):
            with contextlib.suppress(exceptions.NotFound):
                everything[name] = self.fetch(name, handle)
        return everything


# -- the words of what is missing ------------------------------------------------------------------


def inaccessible(detail: models.AtomDetail, allowed: tuple[str, ...]) -> exceptions.DisallowedAccess | None:
    """Return the error for the result of an atom whose state says that there is none; None if there is one."""
    if detail.state in allowed:
        return None
    msg = (
        f"Result for atom '{detail.name}' is not known/accessible due to it being in {detail.state} state "
        f"when result access is restricted to {allowed} states"
    )
    return exceptions.DisallowedAccess(msg, state=detail.state)


def let_go(detail: Any) -> exceptions.NotFound:
    """Return the error for a result that was not kept."""
    if metadata.is_in_memory_alone(detail):
        return exceptions.NotFound(
            f"The result of atom '{detail.name}' is sensitive, and was kept in memory only, by the process that made "
            "it; give its values again to go on, or have the atom run again"
        )
    return exceptions.NotFound(
        f"The result of atom '{detail.name}' was let go of, as no task takes it any more; to keep it, name it in "
        "the engine's option keep_results"
    )


def _provider(detail: Any, key: Any) -> str:
    return f"<Provider '{detail.name}'>" if key is None else f"<Provider '{detail.name}' @ index {key!r}>"


def _no_value(name: str, looked_at: list[tuple[Any, Any, Exception | None]], ignored: int) -> exceptions.NotFound:
    """Return the error for a name of which no provider has a value."""
    if len(looked_at) == 1:
        return _unavailable(name, *looked_at[0])
    if not looked_at:
        msg = f"Unable to find result '{name}', searched {ignored} providers, which were all ignored"
        return exceptions.NotFound(msg)
    owners = ", ".join(f"{_provider(detail, key)} ({detail.state})" for detail, key, _ in looked_at)
    return exceptions.NotFound(
        f"Unable to find result '{name}', expected to be able to find it created by one of [{owners}] "
        "but was unable to perform successful extraction"
    )


def _unavailable(name: str, detail: Any, key: Any, problem: Exception | None) -> exceptions.NotFound:
    """Return the error for a name of which the only provider has no value.

    :param problem: the error of looking into its result; None when there is none to look into
    """
    provider = _provider(detail, key)
    if problem is None and detail.state in HAS_EXECUTE_RESULT and detail.failure is not None:
        problem = TypeError(f"it failed with {detail.failure.exception_str!r}")
    if problem is not None:
        msg = f"Unable to find result '{name}', expected to be able to find it created by {provider} but was unable to "
        return exceptions.NotFound(msg + "perform successful extraction", problem)
    msg = f"Expected to be able to find output '{name}' produced by {provider} but was unable to get at that "
    waits = f"\n'{detail.name}' has not run yet: run the engine first" if detail.state in states.FRESH else ""
    return exceptions.NotFound(f"{msg}providers results{waits}", inaccessible(detail, HAS_EXECUTE_RESULT))
