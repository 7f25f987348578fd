"""What a store of runs offers: a `Backend` makes `Connection`s, a connection reads and writes the records.

Engines write through `Connection.save_changes`, everybody else through the other methods, which are those of TaskFlow.

What must stay true of every connection: a change to a detail reaches the store only by being written, and a change of
what was read never does; drivers' errors leave it as `StorageFailure`, `NotFound` or `Duplicate`, with the driver's
error as cause.
"""

from __future__ import annotations

import abc
from typing import TYPE_CHECKING, Any, ClassVar

from taskflowx import exceptions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from taskflowx.persistence.models import AtomDetail, FlowDetail, LogBook
    from taskflowx.persistence.owners import Owner


class Backend(abc.ABC):
    """A store of runs.

    :param conf: how to reach it: `connection` names it, other keys are its own
    :raises TypeError: when `conf` is no dict
    """

    #: the settings that it knows beside `connection`, of which `backends.fetch` warns; None: nobody knows
    SETTINGS: ClassVar[frozenset[str] | None] = None
    #: whether an engine has to write what it records; one that is not is given the record to `hold`, as memory does
    durable: ClassVar[bool] = True

    def __init__(self, conf: Mapping[str, Any] | None) -> None:
        conf = conf or {}
        if not isinstance(conf, dict):
            msg = f"Configuration dictionary expected not '{conf}' ({type(conf)})"
            raise TypeError(msg)
        self._conf: dict[str, Any] = conf

    @abc.abstractmethod
    def get_connection(self) -> Connection:
        """Return a new connection; whoever asks for it closes it."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of everything that connections of this store have shared."""

    def check_value(self, value: Any, what: str) -> None:
        """Check that this store can hold a value as a part of a record; the record itself is not looked at.

        :param what: names the value in errors, such as "result of atom 'x'"
        :raises Unstorable: when it cannot; says what it was and why, for which the store is not asked
        """
        from taskflowx.persistence import codec  # only a durable run needs it

        codec.dumps(value, what)

    #: whether a record can be too large although each value in it can be stored; `check_record` is asked then
    limits_records: ClassVar[bool] = False

    def check_record(self, atom_detail: AtomDetail) -> None:
        """Check that this store can hold the record of an atom as a whole.

        :raises Unstorable: when it cannot; names the atom
        """


class Connection(abc.ABC):
    """A way to read and write the records of one store; used by one thread at a time."""

    #: when what is done next has to be over, a time of `time.monotonic`; a store that can keep it gives up then
    deadline: float | None = None

    @property
    @abc.abstractmethod
    def backend(self) -> Backend:
        """The store that this connection is to."""

    @abc.abstractmethod
    def close(self) -> None:
        """End this connection."""

    @abc.abstractmethod
    def upgrade(self) -> None:
        """Bring the store to the layout that this version writes; a new store is made ready by it."""

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
        """Merge an atom's detail into the stored one; returns what is stored then.

        Everything is taken over but name and uuid.

        :raises NotFound: when it is not stored yet
        :raises NotImplementedError: when the stored one is of another kind
        """

    @abc.abstractmethod
    def update_flow_details(self, flow_detail: FlowDetail) -> FlowDetail:
        """Merge a flow's detail into the stored one, and write the details of the atoms in it, new ones too.

        Returns what is stored then.

        :raises NotFound: when it is not stored yet
        :raises Duplicate: when a detail in it is stored in another flow
        """

    @abc.abstractmethod
    def save_logbook(self, book: LogBook) -> LogBook:
        """Store a book with all that is in it, merged into what is stored of it; returns the book.

        What is stored and is not in it stays.

        :raises Duplicate: when a detail in it is stored in another book or flow
        """

    def add_flow_details(self, book: LogBook, flow_detail: FlowDetail) -> None:
        """Store a new record of a flow in a book, and the book if it is not stored yet.

        Other records in the book are neither read nor written, so it costs the same in a book of any size.

        :param book: which holds the record already
        :raises Duplicate: when the record is stored already
        """
        self.save_logbook(book)  # what stores do that know no more than TaskFlow's interface

    @abc.abstractmethod
    def destroy_logbook(self, book_uuid: str) -> None:
        """Remove a book with all that is in it.

        :raises NotFound: when there is no such book
        """

    @abc.abstractmethod
    def get_logbook(self, book_uuid: str, lazy: bool = False) -> LogBook:
        """Return a book.

        :param lazy: whether the details of its flows are left out
        :raises NotFound: when there is no such book
        """

    @abc.abstractmethod
    def get_logbooks(self, lazy: bool = False) -> Iterator[LogBook]:
        """Iterate over all books.

        :param lazy: whether the details of their flows are left out
        """

    @abc.abstractmethod
    def get_flows_for_book(self, book_uuid: str, lazy: bool = False) -> Iterator[FlowDetail]:
        """Iterate over the details of the flows in a book.

        :param lazy: whether the details of their atoms are left out
        :raises NotFound: when there is no such book
        """

    @abc.abstractmethod
    def get_flow_details(self, fd_uuid: str, lazy: bool = False) -> FlowDetail:
        """Return the detail of a flow.

        :param lazy: whether the details of its atoms are left out
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
        """Write what has changed in one step of a run: all of it or, where the store can, nothing.

        :param flow_detail: of which state and metadata are written
        :param atom_details: the details in it that have changed; those that the store does not have are added
        :param owner: who writes, if the store is to see that nobody else does; see `persistence.owners`
        :raises NotFound: when the flow's detail is not stored
        :raises OwnershipFailure: when somebody else runs it, or has done so since it was read
        """
        # This one is for stores that know no more than TaskFlow's interface: each detail is a transaction of its own.
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
        """Note that the owner of a run is alive; one that owns it no more changes nothing.

        :param expires: until when it counts as alive, in seconds since 1970
        """
