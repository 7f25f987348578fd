"""Values that are sensitive: what of a record is not shown, and what is not stored.

Names say which values these are. Where a value is shown under such a name, or as the result of its provider, it is
masked; in texts, such as those of failures, it is masked wherever it occurs. A store gets it through a transform only,
or not at all.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from taskflowx import exceptions, retry
from taskflowx._util import arguments, masking
from taskflowx.persistence import models
from taskflowx.record import metadata
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.record.lookup import Lookup
    from taskflowx.record.writes import Writes

_T = TypeVar("_T")

#: where a sensitive value is kept: in the store, through a transform; or in the memory of this process alone
STORED, MEMORY = "stored", "memory"
_WANTED = "True, 'memory', a list of names, or a dict of name -> True or 'memory'"


def to_names(what: str, given: Any, provided: Iterable[str] = ()) -> dict[str, str]:
    """Return name -> STORED or MEMORY.

    :param what: names the setting in errors
    :param provided: the names that are meant where none is given
    :raises TypeError, ValueError: when it says something else
    """
    if given is True or given == MEMORY:
        return dict.fromkeys(provided, STORED if given is True else MEMORY)
    if isinstance(given, (str, bytes)) or not isinstance(given, Iterable):
        arguments.refuse(what, given, _WANTED, ValueError if isinstance(given, (str, bool)) else TypeError)
    pairs = dict(given) if isinstance(given, Mapping) else dict.fromkeys(given, True)
    for name, how in pairs.items():
        if not isinstance(name, str):
            arguments.refuse(f"Each name in {what}", name, "the name of a value (str)")
        if how is not True and how != MEMORY:
            arguments.refuse(f"What {what} says of '{name}'", how, "True or 'memory'", ValueError)
    return {name: STORED if how is True else MEMORY for name, how in pairs.items()}


class Secrets:
    """The sensitive values of one run.

    :param names: name -> STORED or MEMORY
    :param lookup: finds values by name
    :param writes: the way to the store
    """

    def __init__(self, names: Mapping[str, str], lookup: Lookup, writes: Writes) -> None:
        self.names = dict(names)
        self._lookup, self._writes = lookup, writes
        self._atoms: dict[str, Any] = {}
        #: names of the atoms whose results are in memory alone
        self.withheld: set[str] = set()
        #: the texts of all values that were seen: one that is let go of, or is replaced, stays a secret
        self._texts: set[str] = set()

    def take(self, atoms: Iterable[Any], details: Iterable[Any]) -> None:
        """Find what of a flow is sensitive, and mark it in its record.

        :raises Unstorable: when something would be stored without a transform
        :raises ValueError: when a retry is to provide what is kept in memory alone
        """
        for atom, detail in zip(atoms, details, strict=True):
            if atom is None:
                continue
            own = getattr(atom, "_tfx_controls", None)
            if own is not None and own.sensitive is not None:
                self.names.update(to_names("sensitive", own.sensitive, atom.provides))
            hidden = {name for name in atom.provides if name in self.names}
            if hidden:
                self._atoms[atom.name] = atom
                if MEMORY in {self.names[name] for name in hidden}:
                    if isinstance(atom, retry.Retry):
                        raise ValueError(
                            f"Retry '{atom.name}' cannot keep {sorted(hidden)} in memory: it has a history"
                        )
                    self.withheld.add(atom.name)
                else:
                    self.check(hidden)
                detail.meta[metadata.SENSITIVE] = self.marks(hidden)

    def marks(self, names: Iterable[str]) -> dict[str, Any]:
        """Return what the record says of sensitive values, in the form that `to_names` reads."""
        return {name: True if self.names[name] == STORED else MEMORY for name in sorted(names)}

    def check(self, names: Iterable[str]) -> None:
        """Refuse to store sensitive values as they are.

        :raises Unstorable: when the store has no transform
        """
        if self._writes.stores_openly:
            named = ", ".join(f"'{name}'" for name in sorted(names))
            raise exceptions.Unstorable(
                f"Cannot store {named}: it is sensitive, and the store keeps documents as they are\n"
                "Make the store with backends.fetch(..., transform=...), which encrypts them, or keep the value in "
                "memory alone with sensitive='memory'"
            )

    def split(self, given: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return what may be stored of the values given to a flow, and what stays in memory.

        :raises Unstorable: when something would be stored without a transform
        """
        stored = [name for name in given if self.names.get(name) == STORED]
        if stored:
            self.check(stored)
        kept = {name: value for name, value in given.items() if self.names.get(name) != MEMORY}
        return kept, {name: value for name, value in given.items() if name not in kept}

    def to_store(self, detail: models.AtomDetail) -> models.AtomDetail:
        """Return what the store gets in place of a detail: one without the results that are in memory alone."""
        if detail.name not in self.withheld or (detail.results is None and detail.revert_results is None):
            return detail
        other = detail.copy()
        if other.results is not None:
            other.meta[models.META_LET_GO] = True
        other.results = other.revert_results = None
        return other

    # -- what is shown ---------------------------------------------------------------------------------------------

    def texts(self) -> tuple[str, ...]:
        """Return the texts that give away a sensitive value, as far as this process has seen it."""
        values = [value for name, value in self._writes.unstored.items() if name in self._atoms]
        for name in self.names:
            values += self._lookup.given_to_atoms(name)
            for source, key in self._lookup.sources(name):
                values += _taken(source.results, key)
        self._texts |= masking.texts_of(values)
        return masking.longest_first(self._texts)

    def remember(self, atom: Any, result: Any) -> None:
        """Note what of the result of an atom is a secret, also when the record has it no more."""
        if atom.name in self._atoms:
            for name, key in atom._tfx_signature.outputs:  # noqa: SLF001 - of the same house
                if name in self.names:
                    self._texts |= masking.texts_of(_taken(result, key))

    def outcome(self, atom: Any, outcome: Any) -> Any:
        """Return the outcome of a call as it is published."""
        if isinstance(outcome, Failure) or atom.name not in self._atoms:
            return outcome
        return masking.mask_outputs(atom, outcome, self.names)

    def masked(self, details: _T) -> _T:
        """Return facts that are published or stored, without any sensitive value in them."""
        return masking.mask_value(details, self.texts())  # type: ignore[no-any-return]

    @contextlib.contextmanager
    def refusing(self, given: Mapping[str, Any]) -> Iterator[None]:
        """Have an error of the block, about values that are given, show none of those that are sensitive."""
        try:
            yield
        except exceptions.Unstorable as error:
            texts = masking.texts_of(value for name, value in given.items() if name in self.names)
            masking.scrub(error, masking.longest_first(texts))
            raise

    def failure(self, failure: Failure) -> Failure:
        """Return a failure whose texts and arguments have no sensitive value in them; mostly the same one.

        The exception is changed in place. One that does not let its text be changed is replaced by its description.
        """
        texts = self.texts()
        if not texts or not _shows(failure, texts):
            return failure
        exception = failure.exception
        if exception is not None:
            masking.scrub(exception, texts)
            made = Failure.from_exception(exception)
            if not _shows(made, texts):
                return made
            failure = made
        return Failure.from_dict(masking.mask_value(failure.to_dict(), texts))


def _taken(results: Any, key: Any) -> list[Any]:
    """Return what a result has under a key, in a list: None for all of it; nothing when it has no such part."""
    try:
        return [results if key is None else results[key]]
    except Exception:  # noqa: BLE001 - a result may be of any kind
        return []


def _shows(failure: Failure, texts: Iterable[str]) -> bool:
    shown = repr(failure.to_dict()) + failure.pformat(traceback=True)
    return any(text in shown for text in texts)
