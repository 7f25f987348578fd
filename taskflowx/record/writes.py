"""The way of a record to its store: commits, and the check of what the store can hold.

Where the record lives in memory alone nothing is written, and all of it costs an attribute.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from taskflowx import states
from taskflowx._util import reprs

if TYPE_CHECKING:
    from taskflowx._util.clock import Clock
    from taskflowx.persistence import history, models
    from taskflowx.persistence.blobs import OfRun
    from taskflowx.record.secrets import Secrets


class Writes:
    """Writes the record of one flow.

    :param flow_detail: the record
    :param backend: its store, or None when it lives in memory alone
    :param lock: held while something is written
    :param attempts: how often a commit is tried outside of a run
    :param seconds: for how long it is tried at most
    """

    def __init__(self, flow_detail: models.FlowDetail, backend: Any, lock: Any, attempts: int, seconds: float) -> None:
        self._backend = backend
        self._later: Any = None
        #: whether changes have to be written to the store; what is kept in memory is there already
        self.durable = backend is not None and getattr(backend, "durable", True)
        #: indices of details that have changed since the last commit, also in a run that was interrupted
        self.dirty: set[int] = set()
        #: atom name -> the result of its last `execute`, if that was refused and its failure is on record in its place:
        #: its revert gets it in this process
        self.unstored: dict[str, Any] = {}
        #: the sensitive values of the run; None without any
        self.secrets: Secrets | None = None
        #: the large values of the run that are kept beside the record; None where that has them
        self.blobs: OfRun | None = None
        #: the id of a run that is finished, of which the record is only read; None for all others
        self.finished_run: str | None = None
        #: reads the history of such a run
        self.read_history: Callable[[], list[history.Entry]] | None = None
        self._flow_detail = flow_detail
        self._seen_turns: int | None = None  # of a run with an id in memory
        #: notes the transitions of the run; None where no history is kept
        self.log: history.Log | None = None
        if self.durable:
            from taskflowx.persistence import journal  # only a durable run needs it

            #: writes the record, where that is durable
            self.journal = journal.Journal(flow_detail, backend, lock, attempts, seconds)
            if getattr(backend, "blobs", None) is not None:
                from taskflowx.persistence.blobs import OfRun  # who keeps no large values does without it

                self.blobs = OfRun(backend.blobs, flow_detail.uuid)
                self.journal.to_store = self.to_store

    @reprs.one_line
    def __repr__(self) -> str:
        store = self._later or self._backend
        return f"Writes of {self._flow_detail.name!r} to {'no store' if store is None else store}"

    def draft_for(self, backend: Any) -> None:
        """Refuse what a store would, though the record is not in it yet.

        :param backend: the store
        """
        self._later = backend

    @property
    def stores_openly(self) -> bool:
        """Whether the record goes to a store, and through no transform."""
        store = self._later or self._backend
        return store is not None and getattr(store, "durable", True) and getattr(store, "seal", None) is None

    def keep_secret(self, secrets: Secrets) -> None:
        """Have sensitive values neither shown nor, without a transform, stored."""
        self.secrets = secrets
        if self.durable:
            self.journal.to_store = self.to_store

    def masked(self, text: str) -> str:
        """Return a text for the record or the log, without any sensitive value in it."""
        return text if self.secrets is None else self.secrets.masked(text)

    def refusing(self, given: Mapping[str, Any]) -> contextlib.AbstractContextManager[None]:
        """Have errors of the block, about values that are given and cannot be stored, show no sensitive one."""
        return contextlib.nullcontext() if self.secrets is None else self.secrets.refusing(given)

    def to_store(self, detail: models.AtomDetail) -> models.AtomDetail:
        """Return what the store gets in place of a detail."""
        if self.secrets is not None:
            detail = self.secrets.to_store(detail)
        return detail if self.blobs is None else self.blobs.to_store(detail)

    def keep_history(self, time: Callable[[], float]) -> None:
        """Note the transitions of the run from now on.

        :param time: returns the time of day, in seconds since 1970
        :raises ValueError: when the store keeps no history
        """
        from taskflowx.persistence.history import Log  # only a run with a history needs it

        backend, detail = self._backend, self._flow_detail
        if backend is not None and not getattr(backend, "keeps_history", False):
            raise ValueError(f"history=True: {backend!r} keeps no history; use history=None, or another store")
        log = detail.log
        if log is not None and log.in_memory == self.durable:  # of an engine that kept the record elsewhere
            log.unwatch()
            log = None
        if log is None:
            log = Log(detail, time, in_memory=not self.durable)
            if backend is not None and not self.durable:
                log.go_on_from(self._stored_history())
        self.log = log
        if self.durable:
            self.journal.log = log

    def _stored_history(self) -> Iterable[history.Entry]:
        with contextlib.closing(self._backend.get_connection()) as connection:
            return list(connection.get_history(self._flow_detail.uuid))

    def history(self) -> list[history.Entry]:
        """Return the history of the run as far as it was kept, with what is not in the store yet."""
        log, backend = self.log, self._backend
        if self.read_history is not None:
            return self.read_history()
        if not self.durable:
            if log is not None:
                return log.entries()
            return list(self._stored_history()) if getattr(backend, "keeps_history", False) else []
        if not getattr(backend, "keeps_history", False):
            return []
        with self.journal.lock:
            stored = list(self._stored_history())
            if log is None:
                return stored
            if log.count is None:
                return [*stored, *log.entries_after(stored)]
            return [*stored[: log.count], *log.entries()]

    def save(self, *details: models.AtomDetail) -> None:
        """Write details if there is a durable store, as `Journal.commit` does."""
        if self.durable:
            self.journal.commit(details)

    def owned(self, lease: float, retry_seconds: float, clock: Clock) -> contextlib.AbstractContextManager[None]:
        """Keep others from writing the run while the block runs, from its first commit on.

        :param lease: seconds after our last heartbeat for which we count as alive
        :param retry_seconds: seconds for which a commit is tried
        :param clock: the time of the engine
        :raises OwnershipFailure: in memory, when another engine runs it, or has done so since its record was read
        """
        if self.durable:
            return self.journal.owned(lease, retry_seconds, clock)
        if self._seen_turns is not None:
            return self._in_turn()
        running = getattr(self._backend, "running", None)  # None without a store
        return contextlib.nullcontext() if running is None else running(self._flow_detail)

    def take_turns(self) -> None:
        """Have one engine at a time run the flow, of those that have its record in the same memory."""
        turns_of = getattr(self._backend, "turns_of", None)
        self._seen_turns = None if turns_of is None else turns_of(self._flow_detail.uuid)

    @contextlib.contextmanager
    def _in_turn(self) -> Iterator[None]:
        with self._backend.turn(self._flow_detail, self._seen_turns) as self._seen_turns:
            yield

    def claim(self) -> None:
        """Make sure that the store knows who runs the flow.

        :raises OwnershipFailure: when somebody else does, or has done so since its record was read
        """
        if self.durable:
            self.journal.claim()

    def stop_retrying(self) -> None:
        """Have each further commit of this run tried once, as the store has been waited for long enough."""
        self.journal.retry_seconds = 0

    def why_not_joint(self) -> str | None:
        """Say why a task cannot write rows of its own in the transaction of its step; None where it can."""
        store = self._later or self._backend
        if store is None or not getattr(store, "durable", True):
            return "the record of the run lives in memory"
        why: Callable[[], str | None] | None = getattr(store, "why_not_joint", None)
        return f"{type(store).__name__} does not say that it can do that" if why is None else why()

    def check_result(self, atom_name: str, verb: str, result: Any) -> None:
        """Check that the store can hold what a method of an atom has returned, if it gets that.

        :raises Unstorable: names the atom, the path inside the value, and the type of what is there
        """
        if self.secrets is not None and atom_name in self.secrets.withheld:
            return
        what = f"{'revert ' if verb == states.REVERT else ''}result of atom '{atom_name}'"
        if self.blobs is None or verb == states.REVERT or not self.blobs.keeps(atom_name, result, what):
            self.check_value(result, what)

    def check_value(self, value: Any, what: str) -> None:
        """Check that the store can hold a value, if there is a durable one.

        :param what: names the value in errors
        :raises Unstorable: when it cannot; says where in the value, and why
        """
        if self.durable:
            check: Callable[[Any, str], Any] | None = getattr(self._backend, "check_value", None)
            if check is None:  # a store of somebody else's, with TaskFlow's interface alone
                from taskflowx.persistence import codec

                check = codec.dumps
            check(value, what)

    @functools.cached_property
    def limits_records(self) -> bool:
        """Whether `check_record` may refuse something."""
        return self.durable and bool(getattr(self._backend, "limits_records", False))

    def check_record(self, detail: models.AtomDetail) -> None:
        """Check that the store can hold the record of an atom as a whole.

        :raises Unstorable: when it cannot; names the atom
        """
        self._backend.check_record(self.to_store(detail))
