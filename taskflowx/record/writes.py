"""The way of a record to its store: commits, and the check of what the store can hold.

Where the record lives in memory alone nothing is written, and all of it costs an attribute.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

from taskflowx import states

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from taskflowx.persistence import models


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
        #: whether changes have to be written to the store; what is kept in memory is there already
        self.durable = backend is not None and getattr(backend, "durable", True)
        #: indices of details that have changed since the last commit, also in a run that was interrupted
        self.dirty: set[int] = set()
        #: atom name -> what its `execute` returned and the store cannot hold: its revert gets it in this process
        self.unstored: dict[str, Any] = {}
        if self.durable:
            from taskflowx.persistence import journal  # only a durable run needs it

            self._journal = journal.Journal(flow_detail, backend, lock, attempts, seconds)

    def commit(self, details: Iterable[models.AtomDetail]) -> None:
        """Write details, and the state and metadata of the flow, to the store as one transaction.

        :raises StorageFailure: when the store does not take it; see `persistence.journal`
        :raises OwnershipFailure: when somebody else runs the flow, or has done so since its record was read
        """
        self._journal.commit(details)

    def save(self, *details: models.AtomDetail) -> None:
        """Write details if there is a durable store; see `commit`."""
        if self.durable:
            self._journal.commit(details)

    def owned(self, lease: float, retry_seconds: float) -> contextlib.AbstractContextManager[None]:
        """Keep others from writing the run while the block runs, from its first commit on.

        :param lease: seconds after our last heartbeat for which we count as alive
        :param retry_seconds: seconds for which a commit is tried
        """
        return self._journal.owned(lease, retry_seconds) if self.durable else contextlib.nullcontext()

    def claim(self) -> None:
        """Make sure that the store knows who runs the flow.

        :raises OwnershipFailure: when somebody else does, or has done so since its record was read
        """
        if self.durable:
            self._journal.claim()

    def lose_patience(self) -> None:
        """Have each further commit of this run tried once, as the store has been waited for long enough."""
        self._journal.retry_seconds = 0

    def report(self, details: Iterable[models.AtomDetail], seconds: float) -> None:
        """Have copies of details written within so many seconds by another thread than the engine's."""
        self._journal.report(details, seconds)

    def check_result(self, atom_name: str, verb: str, result: Any) -> None:
        """Check that the store can hold what a method of an atom has returned.

        :raises Unstorable: names the atom, the path inside the value, and the type of what is there
        """
        self.check_value(result, f"{'revert ' if verb == states.REVERT else ''}result of atom '{atom_name}'")

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
        self._backend.check_record(detail)
