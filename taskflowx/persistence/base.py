"""The interface of a store of runs: a `Backend` makes `Connection`s, a connection reads and writes the records.

Engines write through `Connection.save_changes`; all other callers use the other methods, which are those of TaskFlow.

What must stay true of every connection: a change to a detail reaches the store only by a write, and a change to a
detail that was read never does; drivers' errors leave it as `StorageFailure`, `NotFound` or `Duplicate`, with the
driver's error as cause.
"""

from __future__ import annotations

import abc
import contextlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, ClassVar

from taskflowx import exceptions
from taskflowx._util import reprs
from taskflowx.persistence import run_records

if TYPE_CHECKING:
    from taskflowx.persistence.blobs import Blobs
    from taskflowx.persistence.history import Entry
    from taskflowx.persistence.models import AtomDetail, FlowDetail, LogBook
    from taskflowx.persistence.owners import Claim, Owner
    from taskflowx.persistence.seal import Seal
    from taskflowx.persistence.tag_types import Blob


class Backend(abc.ABC):
    """A store of runs.

    :param conf: its settings: `connection` selects the store, `transform` changes the bytes of each document that is
        stored, see `persistence.seal`; `blobs` is where values of more than `blob_size` bytes are kept, see
        `persistence.blobs`; other keys are specific to it
    :raises TypeError: when `conf` is no dict
    """

    #: the known settings beside `connection`; `backends.fetch` warns of others. None: unknown
    SETTINGS: ClassVar[frozenset[str] | None] = None
    #: whether an engine must write the record; a store that is not durable is given the record to `hold`, as memory is
    durable: ClassVar[bool] = True
    #: whether what is in it is gone when it is closed
    is_temporary: bool = False
    #: whether it keeps the history of runs: `Connection.save_changes` takes `entries`, and `get_history` returns them
    keeps_history: ClassVar[bool] = False

    def __init__(self, conf: Mapping[str, Any] | None) -> None:
        conf = conf or {}
        if not isinstance(conf, dict):
            raise TypeError(f"Configuration dictionary expected not '{conf}' ({type(conf)})")
        self._conf: dict[str, Any] = conf
        #: seals documents when they are written, and opens them; None without a transform
        self.seal: Seal | None = None
        if conf.get("transform") is not None:
            from taskflowx.persistence.seal import Seal  # who transforms nothing does without it

            self.seal = Seal(conf["transform"])
        #: keeps large values beside the records; None where these have them
        self.blobs: Blobs | None = None
        if conf.get("blobs") is not None:
            from taskflowx.persistence.blobs import Blobs  # who keeps no large values does without it

            self.blobs = Blobs(conf["blobs"], conf.get("blob_size"), self.seal)

    @reprs.one_line
    def __repr__(self) -> str:
        return type(self).__name__

    @abc.abstractmethod
    def get_connection(self) -> Connection:
        """Return a new connection; the caller closes it."""

    def close(self) -> None:
        """Release everything that connections of this store have shared; by default that is nothing."""

    def beside(self, runs: Iterable[str]) -> dict[str, dict[str, Any]]:
        """Return what is kept of runs beside their records, for `forget`.

        :param runs: the uuids of their flows
        """
        return {} if self.blobs is None else {run: self.blobs.files(run) for run in runs}

    def forget(self, runs: Iterable[str] | None, files: Mapping[str, Mapping[str, Any]] | None = None) -> None:
        """Remove what is kept of runs beside their records, which are removed.

        :param runs: the uuids of their flows; None for all there are
        :param files: what was there before the records were removed, as a run of the same id may be there again; None
            for all there is
        """
        if self.blobs is not None:
            for run in self.blobs.runs() if runs is None else runs:
                self.blobs.remove(run, None if files is None else files[run])

    @contextlib.contextmanager
    def values_beside(self, flow_detail: FlowDetail) -> Iterator[None]:
        """Keep the large values of a record beside it; the record refers to them while the block stores it.

        :raises Unstorable, StorageFailure: as `Blobs.put`
        """
        replaced: list[tuple[AtomDetail, Any]] = []
        try:
            if self.blobs is not None:
                from taskflowx.persistence.blobs import OfRun

                beside = OfRun(self.blobs, flow_detail.uuid)
                for atom in flow_detail:
                    stored = beside.to_store(atom)
                    if stored is not atom:
                        replaced.append((atom, atom.results))
                        atom.results = stored.results
            yield
        finally:
            for atom, results in replaced:
                atom.results = results

    def value_of(self, blob: Blob) -> Any:
        """Return the value that a record refers to; within `tolerant` the reference, where the store has no `blobs`.

        :raises NotBuildable: when the store was made without `blobs`
        :raises Unreadable: when it is missing or damaged
        """
        if self.blobs is None:
            from taskflowx.persistence import tags

            error = tags.NotBuildable("its value is in a blob: make the store with the same blobs= to read it")
            if tags.tolerates(error):
                return blob
            raise error
        return self.blobs.get(blob)

    def why_not_joint(self) -> str | None:
        """Say why a task cannot write rows of its own in the transaction of its step; None where it can."""
        return f"{type(self).__name__} has no transactions for tables of yours"

    def check_value(self, value: Any, what: str) -> None:
        """Check that this store can hold a value as a part of a record; the record itself is not checked.

        :param what: names the value in errors, such as "result of atom 'x'"
        :raises Unstorable: when it cannot, as far as this is known without asking the store; says what the value is and
            why
        """
        from taskflowx.persistence import codec  # imported only where it is needed

        codec.dumps(value, what)

    #: whether a record can be too large although each value in it can be stored; then `check_record` is called
    limits_records: bool = False

    def check_record(self, atom_detail: AtomDetail) -> None:
        """Check that this store can hold the record of an atom as a whole.

        :raises Unstorable: when it cannot; names the atom
        """


class JointTransaction(abc.ABC):
    """A transaction in which a task writes its own rows, and its run records the success of the task."""

    #: what the task gets
    handle: Any
    #: whether nothing else can be written to the store until it has ended
    exclusive: bool = False
    #: whether it may have been committed, as far as is known here
    in_doubt: bool = False

    @abc.abstractmethod
    def save(
        self, flow_detail: FlowDetail, atom_details: Iterable[AtomDetail], owner: Owner, entries: Iterable[Entry] = ()
    ) -> None:
        """Write the changes of one step, as `Connection.save_changes` does, and commit them with the rows of the task.

        :raises StorageFailure: when it cannot be committed; with `in_doubt`, when that is not known
        :raises OwnershipFailure: when another owner runs the flow, or has done so since it was read
        """

    @abc.abstractmethod
    def was_committed(self, flow_detail: FlowDetail, owner: Owner) -> bool:
        """Ask the store for the outcome of a transaction in doubt; returns whether it was committed.

        :raises StorageFailure: when the store cannot be asked
        :raises OwnershipFailure: when another owner has written the run since
        """


class Connection(abc.ABC):
    """Reads and writes the records of one store; used by one thread at a time."""

    #: the deadline of the next operation, a time of `time.monotonic`; a store that supports it gives up then
    deadline: float | None = None
    #: whether it holds nothing, so that it may be used again when it was closed
    holds_nothing: ClassVar[bool] = False
    #: how many bytes the last `save_changes` with entries has given to the store, as far as that is known
    bytes_written: int = 0

    @reprs.one_line
    def __repr__(self) -> str:
        return f"{type(self).__name__} to {repr(self.backend)[1:-1]}"

    @property
    @abc.abstractmethod
    def backend(self) -> Backend:
        """The store of this connection."""

    def close(self) -> None:
        """End this connection, and release what it holds; by default that is nothing."""

    @abc.abstractmethod
    def upgrade(self) -> None:
        """Upgrade the store to the layout of this version; this also prepares a new store."""

    @abc.abstractmethod
    def clear_all(self) -> None:
        """Remove everything that is stored."""

    @abc.abstractmethod
    def validate(self) -> None:
        """Check that the store can be used.

        :raises StorageFailure: when it cannot, or has not been upgraded
        """

    def is_ready(self) -> bool:
        """Tell whether the store says that it has been upgraded to the layout of this version; cheaper than `validate`.

        :raises StorageFailure: when it cannot be reached
        """
        try:
            self.validate()
        except exceptions.StorageFailure:
            return False
        return True

    @abc.abstractmethod
    def update_atom_details(self, atom_detail: AtomDetail) -> AtomDetail:
        """Merge an atom's detail into the stored one; returns the stored detail.

        Everything but name and uuid is merged.

        :raises NotFound: when it is not stored yet
        :raises NotImplementedError: when the stored one is of another kind
        :raises OwnershipFailure: while its flow is running
        """

    @abc.abstractmethod
    def update_flow_details(self, flow_detail: FlowDetail) -> FlowDetail:
        """Merge a flow's detail into the stored one, and write the details of its atoms, new ones too.

        Returns the stored detail.

        :raises NotFound: when it is not stored yet
        :raises Duplicate: when a detail in it is stored in another flow
        :raises OwnershipFailure: when another owner runs it, or has written it since it was read
        """

    @abc.abstractmethod
    def save_logbook(self, book: LogBook) -> LogBook:
        """Store a book with all its content, merged into the stored one; returns the book.

        Stored content that is not in the book stays, and so does a run that has been written since it was read, or is
        in progress; the log names it.

        :raises Duplicate: when a detail in it is stored in another book or flow
        """

    def add_flow_details(self, book: LogBook, flow_detail: FlowDetail) -> None:
        """Store a new record of a flow in a book, and the book if it is not stored yet.

        Other records in the book are neither read nor written, so it costs the same in a book of any size.

        :param book: which holds the record already
        :raises Duplicate: when the record is stored already
        """
        self.save_logbook(book)  # for stores that implement only TaskFlow's interface

    @abc.abstractmethod
    def destroy_logbook(self, book_uuid: str) -> None:
        """Remove a book with all its content.

        :raises NotFound: when there is no such book
        """

    @abc.abstractmethod
    def get_logbook(self, book_uuid: str, lazy: bool = False) -> LogBook:
        """Return a book.

        :param lazy: whether to omit the details of its flows
        :raises NotFound: when there is no such book
        """

    @abc.abstractmethod
    def get_logbooks(self, lazy: bool = False) -> Iterator[LogBook]:
        """Iterate over all books; an unreadable one is skipped, and an error that names it is logged.

        :param lazy: whether to omit the details of their flows
        """

    @abc.abstractmethod
    def get_flows_for_book(self, book_uuid: str, lazy: bool = False) -> Iterator[FlowDetail]:
        """Iterate over the details of the flows in a book, in the order in which they were added.

        An unreadable one is skipped, and an error that names it is logged.

        :param lazy: whether to omit the details of their atoms
        :raises NotFound: when there is no such book
        """

    @abc.abstractmethod
    def get_flow_details(self, fd_uuid: str, lazy: bool = False) -> FlowDetail:
        """Return the detail of a flow.

        :param lazy: whether to omit the details of its atoms
        :raises NotFound: when there is no such detail
        """

    @abc.abstractmethod
    def get_atom_details(self, ad_uuid: str) -> AtomDetail:
        """Return the detail of an atom.

        :raises NotFound: when there is no such detail
        """

    @abc.abstractmethod
    def get_atoms_for_flow(self, fd_uuid: str) -> Iterator[AtomDetail]:
        """Iterate over the details of the atoms in a flow, in the order in which they were added.

        :raises NotFound: when there is no such flow
        """

    def save_changes(
        self,
        flow_detail: FlowDetail,
        atom_details: Iterable[AtomDetail],
        owner: Owner | None = None,
        entries: Iterable[Entry] = (),
    ) -> None:
        """Write the changes of one step of a run: all of them or, where the store can, none.

        :param flow_detail: whose state and metadata are written
        :param atom_details: the details in it that have changed; new ones are added
        :param owner: the writer, if the store is to check that there is no other one; see `persistence.owners`
        :param entries: what is added to the history, of a store that keeps it; they replace those with their numbers
        :raises NotFound: when the flow's detail is not stored
        :raises OwnershipFailure: when another owner runs it, or has done so since it was read
        """
        # This default is for stores that implement only TaskFlow's interface: each detail is a transaction of its own.
        missing = False
        for detail in atom_details:
            try:
                self.update_atom_details(detail)
            except exceptions.NotFound:
                missing = True
        written = flow_detail if missing else flow_detail.copy(retain_contents=False)
        self.update_flow_details(written)
        flow_detail.revision = written.revision

    def joint(self, flow_detail: FlowDetail) -> AbstractContextManager[JointTransaction]:
        """Return a transaction for a task and for the step of the run that records its success.

        Unless it was saved it is rolled back at the end of the block.

        :param flow_detail: the record of the run
        :raises NotImplementedError: when the store has none
        """
        raise exceptions.NotImplementedError(str(self.backend.why_not_joint()))

    def get_history(self, flow_uuid: str, after: int = 0, limit: int | None = None) -> Iterator[Entry]:
        """Iterate over the history of a run, from its beginning; there is none where none was kept.

        :param after: the number of an entry after which it begins
        :param limit: how many entries are returned at most; None for all
        :raises Unreadable: when it is damaged
        """
        return iter(())  # for stores that keep no history

    def renew(self, flow_uuid: str, owner: Owner, expires: float) -> None:
        """Extend the lease of a run's owner; does nothing for a former owner.

        :param expires: the end of the lease, in seconds since 1970
        """

    # -- runs ------------------------------------------------------------------------------------------------------

    def get_claim(self, flow_uuid: str) -> Claim | None:
        """Return who runs a flow, or has run it last; None if nobody has, or the store does not know."""
        return None

    def get_run(self, flow_uuid: str) -> run_records.RunRow:
        """Return a run as it is in listings.

        :raises NotFound: when there is no such run
        """
        found = next((row for row in self._all_runs() if row.uuid == flow_uuid), None)
        if found is None:
            raise exceptions.NotFound(f"No flow details found with uuid '{flow_uuid}'")
        return found

    def get_runs(self, query: run_records.Query) -> list[run_records.RunRow]:
        """Return a page of runs, newest first; an unreadable one is skipped, and an error that names it is logged."""
        return query.page(self._all_runs())

    def _all_runs(self) -> Iterator[run_records.RunRow]:
        # This default is for stores that implement only TaskFlow's interface: they know when books were made.
        for book in self.get_logbooks(lazy=True):
            for detail in self.get_flows_for_book(book.uuid, lazy=True):
                made = run_records.in_utc(book.created_at)
                yield run_records.RunRow(detail.uuid, detail.name, detail.state, detail.meta, made)

    def listening(self, flow_uuid: str) -> AbstractContextManager[Any]:
        """Return a context in which changes of a run can be waited for.

        Its value has a method `wait(seconds)`, which returns early when the run has changed; it is None where the store
        cannot tell of changes.
        """
        return contextlib.nullcontext()

    def destroy_flows(self, flow_uuids: Iterable[str], only: run_records.Condition = None) -> list[str]:
        """Remove the records of runs, and the books that were made for them alone; returns the uuids of those removed.

        A run that is in progress stays, and so does one that is not stored.

        :param only: asked about each run in the transaction that removes it, as the run may have gone on since it was
            listed; None to remove each
        """
        # This default is for stores that implement only TaskFlow's interface: they have no transaction for both.
        wanted, removed = set(flow_uuids), []
        for book in list(self.get_logbooks(lazy=True)):
            uuids = [detail.uuid for detail in self.get_flows_for_book(book.uuid, lazy=True)]
            if uuids and wanted.issuperset(uuids) and (only is None or all(only(self.get_run(uuid)) for uuid in uuids)):
                self.destroy_logbook(book.uuid)
                removed += uuids
        return removed
