"""The interface of a store of runs: a `Backend` makes `Connection`s, a connection reads and writes the records.

Engines write through `Connection.save_changes`; all other callers use the other methods, which are those of TaskFlow.

What must stay true of every connection: a change to a detail reaches the store only by a write, and a change to a
detail that was read never does; drivers' errors leave it as `StorageFailure`, `NotFound` or `Duplicate`, with the
driver's error as cause.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from taskflowx import exceptions

if TYPE_CHECKING:
    from taskflowx.persistence.models import AtomDetail, FlowDetail, LogBook
    from taskflowx.persistence.owners import Owner


class Backend(abc.ABC):
    """A store of runs.

    :param conf: its settings: `connection` selects the store, other keys are specific to it
    :raises TypeError: when `conf` is no dict
    """

    #: the known settings beside `connection`; `backends.fetch` warns of others. None: unknown
    SETTINGS: ClassVar[frozenset[str] | None] = None
    #: whether an engine must write the record; a store that is not durable is given the record to `hold`, as memory is
    durable: ClassVar[bool] = True

    def __init__(self, conf: Mapping[str, Any] | None) -> None:
        conf = conf or {}
        if not isinstance(conf, dict):
            msg = f"Configuration dictionary expected not '{conf}' ({type(conf)})"
            raise TypeError(msg)
        self._conf: dict[str, Any] = conf

    @abc.abstractmethod
    def get_connection(self) -> Connection:
        """Return a new connection; the caller closes it."""

    @abc.abstractmethod
    def close(self) -> None:
        """Release everything that connections of this store have shared."""

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


class Connection(abc.ABC):
    """Reads and writes the records of one store; used by one thread at a time."""

    #: the deadline of the next operation, a time of `time.monotonic`; a store that supports it gives up then
    deadline: float | None = None

    @property
    @abc.abstractmethod
    def backend(self) -> Backend:
        """The store of this connection."""

    @abc.abstractmethod
    def close(self) -> None:
        """End this connection."""

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
        self, flow_detail: FlowDetail, atom_details: Iterable[AtomDetail], owner: Owner | None = None
    ) -> None:
        """Write the changes of one step of a run: all of them or, where the store can, none.

        :param flow_detail: whose state and metadata are written
        :param atom_details: the details in it that have changed; new ones are added
        :param owner: the writer, if the store is to check that there is no other one; see `persistence.owners`
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

    def renew(self, flow_uuid: str, owner: Owner, expires: float) -> None:
        """Extend the lease of a run's owner; does nothing for a former owner.

        :param expires: the end of the lease, in seconds since 1970
        """
