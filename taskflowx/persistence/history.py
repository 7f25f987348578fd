"""The history of a run: one entry for each transition of its flow and its atoms, appended and never changed.

While a history is kept, the details of the atoms are of a class that notes each change of their state (see `Log`), so
every place that changes one is covered. Stores write what was noted together with the details.

What must stay true: an entry is written in the transaction of the state that it tells of. So each state on record is
the `new` of the last entry of its atom, no entry is there twice, and the numbers have no gaps.
"""

from __future__ import annotations

import itertools
import json
import operator
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from taskflowx import states
from taskflowx.persistence.details import AtomDetail, RetryDetail, TaskDetail

if TYPE_CHECKING:
    from taskflowx.persistence.models import FlowDetail
    from taskflowx.types.failure import Failure

#: how many entries a store keeps in one document at most
CHUNK = 500


class Entry(NamedTuple):
    """One transition."""

    #: its number within the run, from 1, without gaps
    number: int
    #: when it took place, in seconds since 1970; of RUNNING and REVERTING, when the call was handed to the executor
    at: float
    #: the name of the atom, None for the flow itself
    atom: str | None
    #: which call of `execute` it belongs to, from 1; 0 for the flow, and for an atom that has never been called
    attempt: int
    #: the state before
    old: str | None
    #: the state from then on
    new: str
    #: of an entry that ends a call: when the call began on its worker, in seconds since 1970; None when unknown
    began: float | None
    #: of such an entry, where the call was made: 'MainThread', 'taskflowx-worker-3', 'process 4711'
    worker: str | None
    #: of FAILURE and REVERT_FAILURE: the class of the exception
    failure: str | None


#: a transition that has no number yet: its serial number, the fields of an `Entry` but for its own, with times in
#: microseconds, and the entry as JSON text. The last one is empty where no store gets it, or the attempt is unknown
_Move: TypeAlias = tuple[int, int, str | None, int, str | None, str, int | None, str | None, str | None, str]
_SECOND = 1_000_000  # microseconds


class Due:
    """The entries of one write. A store takes their documents, and the entries are made when they are asked for.

    :param first: the number of the first one
    :param moves: the transitions that they tell of
    :param seen: how many of the transitions that were noted were looked at
    :param left: which of these are left for a later write
    """

    __slots__ = ("first", "left", "moves", "seen")

    def __init__(self, first: int, moves: list[_Move], seen: int, left: list[_Move]) -> None:
        self.first = first
        self.moves = moves
        self.seen = seen
        self.left = left

    def __len__(self) -> int:
        return len(self.moves)

    def __iter__(self) -> Iterator[Entry]:
        for number, move in enumerate(self.moves, self.first):
            _, at, atom, attempt, old, new, began, worker, failure, _ = move
            since = None if began is None else began / _SECOND
            yield Entry(number, at / _SECOND, atom, attempt, old, new, since, worker, failure)


class Log:
    """The transitions of one run: those that its store has not yet, or all of them where it lives in memory.

    A transition is noted in the same step of C as the state is changed, so an interrupt comes before both or after
    both.

    :param flow_detail: the record
    :param time: returns the time of day, in seconds since 1970
    :param in_memory: whether all entries are kept here, as there is no durable store
    """

    def __init__(self, flow_detail: FlowDetail, time: Callable[[], float], *, in_memory: bool) -> None:
        self._flow_detail = flow_detail
        #: returns the time of day
        self.time = time
        #: whether all entries are kept here
        self.in_memory = in_memory
        self._settling = threading.Lock()
        #: each gets the entries that are in the store, in their order
        self._followers: list[list[Entry]] = []
        self._moves: list[_Move] = []
        self._add_move = self._moves.append
        self._serials = itertools.count(1)
        #: how many entries come before those moves; None until it was looked up
        self.count: int | None = None if flow_detail.revision else 0
        self._to_text = self.count == 0 and not in_memory
        #: how many bytes of records and entries have gone to the store since this log was made
        self.bytes_written = 0
        #: entries before those moves, where the run lives in memory
        self._before: list[Entry] = []
        #: atom -> how often its execute was called, in those moves and, unless `count` is None, in the entries before
        self._attempts: dict[str | None, int] = {}
        #: what `due` gave last
        self._due: Due | None = None
        #: atom -> when and where its last call began
        self._calls: dict[str, tuple[int, str]] = {}
        #: atom and state of a transition that is in the store already, with what a task has written
        self._ahead: tuple[str, str] | None = None
        #: details of a write of which nobody knows whether it has come to the store: the next one has them, too
        self._sent: list[AtomDetail] = []
        self._kinds = {kind: _noting(kind, self) for kind in (TaskDetail, RetryDetail)}
        flow_detail.log = self

    # -- what happens ------------------------------------------------------------------------------

    def watch(self, details: Iterable[AtomDetail | None]) -> None:
        """Note the transitions of atoms from now on."""
        kinds = self._kinds
        for detail in details:
            if detail is not None:
                kind = kinds.get(type(detail))  # type: ignore[arg-type] # None for what is watched already
                if kind is not None:
                    detail.__class__ = kind

    def unwatch(self) -> None:
        """Note no more transitions."""
        for detail in self._flow_detail:
            if type(detail) in self._kinds.values():
                detail.__class__ = type(detail).__mro__[1]

    def move_flow(self, state: str) -> None:
        """Change the state of the flow, and note that."""
        flow = self._flow_detail
        at, old = round(self.time() * _SECOND), flow.state
        text = _document(at, None, 0, old, state, None, None, None) if self._to_text else ""
        move = (next(self._serials), at, None, 0, old, state, None, None, None, text)
        _together((self._add_move, move), (setattr, flow, "state", state))

    def move_atom(self, detail: AtomDetail, state: str) -> None:
        """Change the state of an atom, and note that."""
        old, name = _get_state(detail), detail.name
        if self._ahead is not None and self._ahead == (name, state):
            _together((setattr, self, "_ahead", None), (_put_state, detail, state))
            return
        attempt, began, worker, failure, text = self._attempts.get(name, 0), None, None, None, ""
        if state in _CALLED:
            self._calls.pop(name, None)
            if state == _RUNNING:
                attempt += 1
        elif state == old:
            _put_state(detail, state)
            return
        elif old in _CALLED:
            began, worker = self._calls.get(name, _UNKNOWN)
        if state in _FAILED:
            failure = _failure_in(detail, state)
        at = round(self.time() * _SECOND)
        if self._to_text:
            text = _document(at, name, attempt, old, state, began, worker, failure)
        move = (next(self._serials), at, name, attempt, old, state, began, worker, failure, text)
        attempted = (self._attempts.__setitem__, name, attempt)
        # As `_together` does, without its call: each step of a run comes here twice.
        any(_starmap(_call, ((self._add_move, move), attempted, (_put_state, detail, state))))

    def note_call(self, atom: str, worker: str, began: float | None = None) -> None:
        """Note when and where the call of an atom began that is about to end.

        :param began: in seconds since 1970; None for this moment
        """
        self._calls[atom] = round((self.time() if began is None else began) * _SECOND), worker

    # -- what was noted ----------------------------------------------------------------------------

    @property
    def last(self) -> int:
        """The serial number of the last transition that was noted."""
        return self._moves[-1][0] if self._moves else 0

    @property
    def unsaved(self) -> int:
        """How many transitions were noted that are not in the store; in memory, that nobody has read yet."""
        return len(self._moves)

    def entries(self) -> list[Entry]:
        """Return the entries of a run in memory, or those that a store does not have yet."""
        if not self.in_memory:
            return list(Due((self.count or 0) + 1, self._moves.copy(), 0, []))
        self.settle()
        return list(self._before)

    def settle(self) -> None:
        """Number what was noted of a run in memory, and hand it to the followers; may be called from any thread."""
        if self.in_memory:
            with self._settling:
                moves = self._moves.copy()
                if moves:
                    self._note_written(Due((self.count or 0) + 1, moves, len(moves), []))

    def follow(self, into: list[Entry]) -> None:
        """Add the entries to a list as they come into the store; those of a run in memory when it is settled."""
        self._followers = [*self._followers, into]

    def unfollow(self, into: list[Entry]) -> None:
        """End what `follow` has begun."""
        self._followers = [one for one in self._followers if one is not into]

    def go_on_from(self, before: Iterable[Entry]) -> None:
        """Take over what was recorded before this log was made."""
        entries = list(before)
        if self.in_memory:
            self._before[:] = entries
        moves, attempts = self._following(entries)
        self._moves[:] = moves
        self._attempts = attempts
        self.count, self._to_text = len(entries), not self.in_memory

    def entries_after(self, before: list[Entry]) -> list[Entry]:
        """Return the entries that a store does not have yet, where it has others of which this log does not know."""
        return list(Due(len(before) + 1, self._following(before)[0], 0, []))

    def _following(self, entries: list[Entry]) -> tuple[list[_Move], dict[str | None, int]]:
        """Return the transitions that were noted as they follow entries, and the attempts of atoms then."""
        attempts = {entry.atom: entry.attempt for entry in entries}
        moves = []
        for serial, at, atom, _, old, new, began, worker, failure, _ in self._moves:
            attempt = 0 if atom is None else attempts.get(atom, 0) + (new == _RUNNING)
            attempts[atom] = attempt
            text = "" if self.in_memory else _document(at, atom, attempt, old, new, began, worker, failure)
            moves.append((serial, at, atom, attempt, old, new, began, worker, failure, text))
        return moves, attempts

    def with_sent(self, details: list[AtomDetail]) -> list[AtomDetail]:
        """Return the details of a write, with those of the one before if that may have come to the store."""
        if self._sent:
            ours = set(map(id, details))
            details = details + [one for one in self._sent if id(one) not in ours]
        self._sent = details
        return details

    def due(self, details: list[AtomDetail], upto: int | None = None, ahead: AtomDetail | None = None) -> Due:
        """Return the entries of a write that has the current states of these details, and of the flow.

        :param upto: the serial number of the last transition that these states have; None for all
        :param ahead: a copy of the detail of an atom, with the state that it comes into by this write
        """
        moves = self._moves.copy()
        seen, left = len(moves), list[_Move]()
        names: set[str | None] = set(map(_NAME, details))
        names.add(None)  # the state of the flow that is written is the current one
        if upto is not None or not names.issuperset(map(_ATOM, moves)):
            taken = [one for one in moves if one[2] in names and (upto is None or one[2] is None or one[0] <= upto)]
            these = set(map(id, taken))
            moves, left = taken, [one for one in moves if id(one) not in these]
        if ahead is not None:
            name, state, at = ahead.name, str(ahead.state), round(self.time() * _SECOND)
            began, worker = self._calls.get(name, _UNKNOWN)
            old: str | None = self._flow_detail.find(ahead.uuid).state
            attempt = self._attempts.get(name, 0)
            text = _document(at, name, attempt, old, state, began, worker, None)
            moves.append((self.last + 1, at, name, attempt, old, state, began, worker, None, text))
        self._due = due = Due((self.count or 0) + 1, moves, seen, left)
        return due

    def wrote(self, *, copies: bool, ahead: AtomDetail | None = None) -> None:
        """Note that the entries that `due` gave last are in the store; this may be called again.

        :param copies: whether the details were copies
        :param ahead: as for `due`
        """
        due = self._due
        if due is not None:
            self._note_written(due, () if ahead is None else (setattr, self, "_ahead", (ahead.name, str(ahead.state))))
        if not copies:
            self._sent = []

    def _note_written(self, due: Due, further: tuple[Any, ...] = ()) -> None:
        """Note that entries are on record.

        :param further: a function of C that is called with that, and its arguments
        """
        steps: Any = (
            (setattr, self, "count", due.first - 1 + len(due.moves)),
            (self._moves.__setitem__, slice(0, due.seen), due.left),
            (setattr, self, "_due", None),
        )
        if further:
            steps += (further,)
        if self.in_memory:
            steps += ((self._before.extend, list(due)),)
        if self._followers:
            entries = list(due)
            steps += tuple((one.extend, entries) for one in self._followers)
        any(_starmap(_call, steps))  # as `move_atom` does

    def refused(self) -> None:
        """Note that the store has taken nothing of the last write."""
        self._sent = []


def _together(*steps: tuple[Any, ...]) -> None:
    """Call functions of C, each with its arguments, and run no step of Python in between."""
    any(_starmap(_call, steps))  # none of them returns anything


# Looked up once, as each step of a run needs them several times.
_starmap, _call = itertools.starmap, operator.call
# Of a detail, and of a transition.
_NAME, _ATOM, _TEXT = operator.attrgetter("name"), operator.itemgetter(2), operator.itemgetter(-1)
_UNKNOWN = (None, None)
_state: Any = vars(AtomDetail)["state"]
_get_state, _put_state = _state.__get__, _state.__set__


def _noting(kind: type[AtomDetail], log: Log) -> type[AtomDetail]:
    """Return a class of details that note in a log when their state changes."""

    def blank(detail: AtomDetail) -> AtomDetail:
        return kind(detail.name, detail.uuid)

    def reduced(detail: AtomDetail, _: Any) -> Any:
        return _itself, (detail.copy(),)

    parts = {"blank": blank, "__reduce_ex__": reduced, "state": property(_get_state, log.move_atom)}
    return type(kind.__name__, (kind,), {"__slots__": (), "__module__": kind.__module__, **parts})


def _itself(detail: AtomDetail) -> AtomDetail:
    """Return what a pickled detail is made of: one that nobody watches."""
    return detail


_RUNNING, _CALLED, _FAILED = states.RUNNING, states.CALLED, (states.FAILURE, states.REVERT_FAILURE)


def _failure_in(detail: AtomDetail, state: str) -> str | None:
    failure: Failure | None = detail.failure if state == states.FAILURE else detail.revert_failure
    return None if failure is None else next(iter(failure), None)


# -- documents -------------------------------------------------------------------------------------

_quoted = json.encoder.encode_basestring_ascii


def chunks(entries: Iterable[Entry]) -> list[tuple[int, str]]:
    """Return documents of entries, each with the number of its first."""
    if type(entries) is Due:
        first, texts = entries.first, list(map(_TEXT, entries.moves))
    else:
        known = list(entries)
        first, texts = known[0].number if known else 0, list(map(_text_of, known))
    if len(texts) <= CHUNK:
        return [(first, f"[{','.join(texts)}]")] if texts else []
    return [(first + n, f"[{','.join(texts[n : n + CHUNK])}]") for n in range(0, len(texts), CHUNK)]


def document(entries: Iterable[Entry]) -> str:
    """Return consecutive entries as JSON text, without their numbers."""
    return f"[{','.join(map(_text_of, entries))}]"


def _text_of(entry: Entry) -> str:
    _, at, atom, attempt, old, new, began, worker, failure = entry
    since = None if began is None else round(began * _SECOND)
    return _document(round(at * _SECOND), atom, attempt, old, new, since, worker, failure)


def _document(
    at: int,
    atom: str | None,
    attempt: int,
    old: str | None,
    new: str,
    began: int | None,
    worker: str | None,
    failure: str | None,
) -> str:
    """Return the fields of an entry as JSON text: a general encoder takes four times as long."""
    of_atom = "null" if atom is None else _quoted(atom)
    before = "null" if old is None else f'"{old}"'
    if began is None and worker is None and failure is None:
        return f'[{at},{of_atom},{attempt},{before},"{new}"]'
    last = "null" if failure is None else _quoted(failure)
    where = "null" if worker is None else _quoted(worker)
    return f'[{at},{of_atom},{attempt},{before},"{new}",{"null" if began is None else began},{where},{last}]'


def read(number: int, text: str) -> list[Entry]:
    """Return the entries of a document.

    :param number: that of its first entry
    :raises Unreadable: when it is damaged
    """
    from taskflowx.persistence import codec  # who writes no values does without it

    found = codec.loads(text)
    if not isinstance(found, list):
        raise codec.Unreadable(f"The history from entry {number} on is damaged: it is no list")
    try:
        return [_checked(at, one) for at, one in enumerate(found, number)]
    except (TypeError, ValueError) as error:
        raise codec.Unreadable(f"The history from entry {number} on is damaged: {error}", error) from error


def _checked(number: int, fields: Any) -> Entry:
    if len(fields) == _SHORT:
        fields = [*fields, None, None, None]
    at, atom, attempt, old, new, began, worker, failure = fields
    if type(at) is int:
        at = at / _SECOND
    if type(began) is int:
        began = began / _SECOND
    if type(at) is not float or type(attempt) is not int or not isinstance(new, str):
        raise ValueError(f"entry {number} is {str(fields)[:80]}")
    return Entry(number, at, atom, attempt, old, new, began, worker, failure)


_SHORT = 5  # what an entry has that ends no call


def after(documents: Iterable[tuple[int, str]], last: int, limit: int | None) -> Iterator[Entry]:
    """Iterate over the entries of documents, in their order; one that is there twice is taken once.

    :param last: the number after which they begin
    :param limit: how many there are at most; None for all
    """

    def each() -> Iterator[Entry]:
        seen = last
        for number, text in documents:
            for entry in read(number, text):
                if entry.number > seen:
                    seen = entry.number
                    yield entry

    return itertools.islice(each(), limit)
