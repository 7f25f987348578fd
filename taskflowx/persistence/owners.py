"""Ownership of the record of a run: one process at a time may write it, and only one that has read all of it.

A store that outlives a process keeps a `Claim` beside the record of each run. Every write of a run compares and swaps
the `version` of the claim: it is rejected unless the version is the one that the writer has read or written last. So
the version is a fencing token (the term is Martin Kleppmann's): an owner that was presumed dead, and wakes up, cannot
write, and a stale record cannot be run. The first version of a record begins with a random number, so one that is
stored again under the uuid of a removed one never comes to a version that the other had.

The claim also names the writer of that version. So a writer whose last write is in doubt, as its answer was lost or the
write failed half way, recognises its own write: the version is one ahead, and the name is its own.

While a run is in progress the claim is a lease: it says until when its owner counts as alive. Another process gets an
error instead of the run, unless the lease has expired, or the owner is known to be dead: it ran on this machine, and
its process does not exist any more. Clocks decide only this: a wrong clock costs a repeated call, never the record.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import exceptions, states
from taskflowx._util import clock as clocks, forks, logs

if TYPE_CHECKING:
    from taskflowx.persistence.models import FlowDetail

LOG = logs.calm(__name__)

#: the lease in seconds, from a heartbeat of the owner on
LEASE = 60.0
#: seconds for which a store waits for a lock or a server, unless the caller sets a limit
LONGEST_WAIT = 5.0

_MOST = 2**63  # the exclusive maximum of a version and a time
_COUNTED = 32  # bits of a version that count the writes; those above are random
_DEAD = ("Z", "X", "x")
_numbers = itertools.count(1)


class Claim(NamedTuple):
    """The stored claim of a run: how often it was written, by whom last, and the end of that owner's lease.

    `expires` is 0 when the run is not in progress. Claims that older versions wrote have no owner then.
    """

    version: int
    owner: str | None
    expires: float

    def to_json(self) -> str:
        """Return the claim as JSON text."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str | bytes) -> Claim:
        """Parse a claim.

        :raises ValueError: when the text is no claim
        """
        try:
            made = cls(**json.loads(text))
        except (TypeError, RecursionError) as error:
            raise ValueError(str(error)) from error
        if type(made.version) is not int or not 0 <= made.version < _MOST:
            raise ValueError(f"its version is {str(made.version)[:80]}")
        if made.owner is not None and not isinstance(made.owner, str):
            raise ValueError(f"its owner is {str(made.owner)[:80]}")
        if type(made.expires) not in (int, float) or not 0 <= made.expires < _MOST:
            raise ValueError(f"its lease ends at {str(made.expires)[:80]}")
        return made


class Owner:
    """A writer of runs: its name is that of this process, and a number.

    :param lease: seconds from a heartbeat to the end of the lease
    """

    def __init__(self, lease: float = LEASE) -> None:
        self.lease = lease
        #: the time by which its leases end
        self.clock = clocks.SYSTEM
        #: whether a run is in progress, and not only a value put into its record
        self.running = False
        #: whether the store records it as the owner of the run
        self.held = False
        #: whether the store may do so: a write was interrupted, and its result is unknown
        self.may_hold = False
        #: the end of its lease
        self.expires = 0.0
        self._number = next(_numbers)
        self._named: tuple[int, str] = -1, ""  # its name, and in which process

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.lease,)  # a copy is another owner

    @property
    def name(self) -> str:
        """The name in the store."""
        of, name = self._named
        if of != forks.count:
            name = f"{_this_process(os.getpid())}/{self._number}"
            self._named = forks.count, name
        return name

    def following(self, detail: FlowDetail, now: float) -> Claim:
        """Return the claim of the next write of a run, if the store still has the known version."""
        of, name = self._named
        if of != forks.count:
            name = self.name
        expires = now + self.lease if self.running and detail.state not in states.AT_REST else 0.0
        return _new_claim(Claim, (detail.revision + 1, name, expires))

    def checked(self, stored: Claim | None, detail: FlowDetail, now: float) -> Claim:
        """Return the claim of the next write of a run.

        :param stored: the claim in the store
        :raises OwnershipFailure: when another owner runs it, or it was written since it was read here
        """
        version, holder, _ = stored or _UNCLAIMED
        is_mine = holder == self.name
        if not is_mine:
            check_free(stored, f"Flow '{detail.name}' ({detail.uuid})", now)
        # A newer version under our own name comes from writes whose answers were lost: those are ours to overwrite, the
        # writes of another owner are not.
        if version != detail.revision and not (is_mine and version > detail.revision):
            since = (
                "was taken over by another engine while it ran here"
                if self.held
                else "has gone on since it was read here"
            )
            raise exceptions.OwnershipFailure(
                f"The run of flow '{detail.name}' ({detail.uuid}) {since}; nothing more is written of it\n"
                "Read its record again (get_flow_details), and load an engine from that"
            )
        first = 0 if stored is not None else version_of(int.from_bytes(os.urandom(4), "big"))
        return self.following(detail, now)._replace(version=first + version + 1)

    def took(self, claim: Claim, detail: FlowDetail) -> None:
        """Record that the store has accepted a claim of ours."""
        detail.revision = claim.version
        self.held = claim.expires > 0
        self.may_hold = False
        self.expires = claim.expires


_UNCLAIMED = Claim(0, None, 0.0)
_new_claim: Callable[..., Claim] = tuple.__new__  # `Claim` itself is a function of Python, and each step makes one


def count_of(version: int) -> int:
    """Return how often a run was written, by its version."""
    return version & ((1 << _COUNTED) - 1)


def version_of(content: int) -> int:
    """Return the version of a record that no write is counted of, by a number for what is in it."""
    return content << _COUNTED & (_MOST - 1)


def check_free(stored: Claim | None, what: str, now: float) -> None:
    """Raise an error if an engine runs the flow at this moment.

    :param stored: the claim in the store
    :param what: names the flow
    :raises OwnershipFailure: when its owner is alive
    """
    if stored is not None and is_alive(stored, now):
        raise exceptions.OwnershipFailure(
            f"{what} is being run by another engine, {described(stored.owner)}\n"
            f"If that one is stuck, end its process; else it counts as alive for another {stored.expires - now:.0f} s"
        )


def is_alive(stored: Claim, now: float) -> bool:
    """Tell whether an engine runs the flow of a claim at this moment, as far as this is known."""
    return bool(stored.owner) and stored.expires > now and not is_gone(stored.owner or "")


def writer_of(detail: FlowDetail) -> Owner:
    """Return the writer of a copy of a record outside of runs: each copy has its own, to detect stale copies."""
    writer: Owner | None = detail.writer
    if writer is None:
        writer = detail.writer = Owner()
    return writer


def is_gone(owner: str) -> bool:
    """Tell whether an owner was a process of this machine that is dead; False when unknown."""
    try:
        machine, pid, started, _ = owner.rsplit("/", 3)
        return machine == _machine() and _start_of(int(pid)) != started
    except ValueError:
        return False


def described(owner: str | None) -> str:
    """Return who an owner is, in words."""
    if owner is None:
        return "nobody"
    machine, _, rest = owner.partition("/")
    pid = rest.split("/")[1:2]
    return f"process {pid[0]} of '{machine}'" if pid else f"'{owner}'"


@functools.lru_cache(maxsize=1)
def _this_process(pid: int) -> str:
    return f"{_machine()}/{pid}/{_start_of(pid)}"


@functools.lru_cache(maxsize=1)
def _machine() -> str:
    """Name the scope of process ids: a boot of a machine, and a container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        container = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        boot, container = "", 0
    return f"{socket.gethostname().replace('/', '_')[:100]}/{boot}.{container}"


def _start_of(pid: int) -> str:
    """Return the start time of a process, in the system's format; empty if there is no such process."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except FileNotFoundError:
        pass
    except ProcessLookupError:  # it ended during the check
        return ""
    else:
        # A zombie whose parent has not read its exit status has ended, unless other threads of it live on.
        threads, started = rest[16], rest[18]
        return "" if state in _DEAD and int(threads) <= 1 else started
    if Path("/proc/self").exists():
        return ""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return ""
    except PermissionError:
        pass
    return "alive"


class Heartbeat:
    """The lease heartbeat: a thread that renews the lease of an owner whose run has not written for a while.

    Where a test holds the clock there is no thread: it is renewed when time is moved.

    :param renew: called in the thread, with the new end of the lease
    """

    def __init__(self, owner: Owner, renew: Callable[[float], Any]) -> None:
        self._owner = owner
        self._renew = renew
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="taskflowx-lease", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        clock = self._owner.clock
        if clock.is_real:
            self._thread.start()
        else:
            clock.subscribe(self._beat)

    def stop(self) -> None:
        """End the thread without waiting for an unanswered renewal, which has no effect any more."""
        self._ended.set()
        self._owner.clock.unsubscribe(self._beat)
        if self._thread.is_alive():
            self._thread.join(LONGEST_WAIT)

    def _work(self) -> None:
        while not self._ended.wait(min(self._owner.lease / 6, 3600.0)):
            self._beat()

    def _beat(self) -> None:
        owner = self._owner
        now = owner.clock.time()
        if owner.held and owner.expires - now < owner.lease * 2 / 3:
            try:
                self._renew(now + owner.lease)
            except Exception as error:  # noqa: BLE001 - a store may fail in any way; the run itself will see it
                LOG.warning("Cannot renew the lease of a run: %s", error)
            else:
                owner.expires = now + owner.lease
