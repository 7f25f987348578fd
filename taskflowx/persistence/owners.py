"""Who may write the record of a run: one process at a time, and only one that knows all that has been written.

A store that outlives a process keeps a `Claim` beside the record of each run. Every write of a run moves its `version`
on by one, from the version that the writer has read or written last; a writer that knows another one is refused. So
the version is a fencing token (the term is Martin Kleppmann's): an owner that was thought dead, and wakes up, writes
nothing any more, and a record that was read before somebody else went on is not run from.

The claim also names the writer of that version. So a writer whose last write is in doubt, since its answer was lost or
the write failed half way, recognises its own: the version is one ahead, and the name is its own.

While a run is under way the claim says until when its owner counts as alive. Another process is told so instead of
taking the run over, unless that time is past, or the owner is seen to be gone: it ran on this very machine, and its
process is no more. Clocks decide only about that: a wrong one costs a call that is made twice, never the record.
"""

from __future__ import annotations

import functools
import itertools
import json
import os
import socket
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import exceptions, states
from taskflowx._util import logs

if TYPE_CHECKING:
    from collections.abc import Callable

    from taskflowx.persistence.models import FlowDetail

LOG = logs.calm(__name__)

#: seconds after its last sign of life for which an owner counts as alive
LEASE = 60.0
#: seconds for which a store waits for a lock or a server, where nobody says how long it may
PATIENCE = 5.0

_MOST = 2**63  # what a version and a time stay below
_DEAD = ("Z", "X", "x")
_numbers = itertools.count(1)


class Claim(NamedTuple):
    """What a store keeps: how often the run has been written, who wrote it last, and until when that one runs it.

    `expires` is 0 when the run is not under way. Stores that older versions wrote have no owner then.
    """

    version: int
    owner: str | None
    expires: float

    def to_json(self) -> str:
        """Return it as text."""
        return json.dumps(self._asdict())

    @classmethod
    def from_json(cls, text: str | bytes) -> Claim:
        """Make one of its text.

        :raises ValueError: when it is no such text
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
    """One that writes runs: its name is that of this process, and a number.

    :param lease: seconds after its last sign of life for which it counts as alive
    """

    def __init__(self, lease: float = LEASE) -> None:
        self.lease = lease
        #: whether a run is under way, and not only a value put into its record
        self.running = False
        #: whether the store has it as the one that runs the flow
        self.held = False
        #: whether the store may have it: a write was interrupted, and nobody knows whether it had arrived
        self.may_hold = False
        #: until when it counts as alive
        self.expires = 0.0
        self._number = next(_numbers)
        self._named: tuple[int, str] | None = None  # a process, and the name in it

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.lease,)  # a copy writes on its own account

    @property
    def name(self) -> str:
        """What the store is told."""
        pid, named = os.getpid(), self._named
        if named is None or named[0] != pid:
            self._named = named = pid, f"{_this_process(pid)}/{self._number}"
        return named[1]

    def following(self, detail: FlowDetail, now: float) -> Claim:
        """Return the claim that the next write of a run leaves, if the store has the one that is known here."""
        if self.running and detail.state not in states.AT_REST:
            return Claim(detail.revision + 1, self.name, now + self.lease)
        return Claim(detail.revision + 1, self.name, 0.0)

    def checked(self, stored: Claim | None, detail: FlowDetail, now: float) -> Claim:
        """Return the claim that the next write of a run leaves.

        :param stored: what the store has
        :raises OwnershipFailure: when somebody else runs it, or it was written since it was read here
        """
        version, holder, _ = stored or _UNCLAIMED
        is_mine = holder == self.name
        if not is_mine:
            check_free(stored, f"Flow '{detail.name}' ({detail.uuid})", now)
        # More, under our own name, is what writes of ours have left of which we were not told that they had arrived: we
        # do not write over what somebody else has written since.
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
        return self.following(detail, now)._replace(version=version + 1)

    def took(self, claim: Claim, detail: FlowDetail) -> None:
        """Note that the store has a claim of ours."""
        detail.revision = claim.version
        self.held = claim.expires > 0
        self.may_hold = False
        self.expires = claim.expires


_UNCLAIMED = Claim(0, None, 0.0)


def check_free(stored: Claim | None, what: str, now: float) -> None:
    """Refuse to write what an engine runs at this moment.

    :param stored: the claim that the store has
    :param what: names the flow
    :raises OwnershipFailure: when the one that runs it is alive
    """
    _, holder, expires = stored or _UNCLAIMED
    if holder and expires > now and not is_gone(holder):
        raise exceptions.OwnershipFailure(
            f"{what} is being run by another engine, {_describe(holder)}\n"
            f"If that one is stuck, end its process; else it counts as alive for another {expires - now:.0f} s"
        )


def writer_of(detail: FlowDetail) -> Owner:
    """Return who writes a copy of a record outside of runs: each copy has its own, or a stale one would pass for it."""
    writer: Owner | None = detail.writer
    if writer is None:
        writer = detail.writer = Owner()
    return writer


def is_gone(owner: str) -> bool:
    """Tell whether an owner was a process of this machine that is no more; False where that cannot be seen."""
    try:
        machine, pid, started, _ = owner.rsplit("/", 3)
        return machine == _machine() and _start_of(int(pid)) != started
    except ValueError:
        return False


def _describe(owner: str) -> str:
    machine, _, rest = owner.partition("/")
    pid = rest.split("/")[1:2]
    return f"process {pid[0]} of '{machine}'" if pid else f"'{owner}'"


@functools.lru_cache(maxsize=1)
def _this_process(pid: int) -> str:
    return f"{_machine()}/{pid}/{_start_of(pid)}"


@functools.lru_cache(maxsize=1)
def _machine() -> str:
    """Name what numbers of processes belong to: a boot of a machine, and a container on it."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        container = Path("/proc/self/ns/pid").stat().st_ino
    except OSError:
        boot, container = "", 0
    return f"{socket.gethostname().replace('/', '_')[:100]}/{boot}.{container}"


def _start_of(pid: int) -> str:
    """Return when a process was started, in a form of the system's; empty if none of that number is alive."""
    try:
        state, *rest = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    except FileNotFoundError:
        pass
    except ProcessLookupError:  # it ended while it was looked at
        return ""
    else:
        # A zombie has ended, and only its parent has not asked for its exit status; its other threads may live on.
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


class Pulse:
    """A thread that renews the lease of an owner whose run has not written for a while.

    :param renew: called in the thread, with the time until which the owner counts as alive
    """

    def __init__(self, owner: Owner, renew: Callable[[float], Any]) -> None:
        self._owner = owner
        self._renew = renew
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._work, name="taskflowx-lease", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """End the thread; a renewal that a store does not answer is not waited for, and changes nothing any more."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join(PATIENCE)

    def _work(self) -> None:
        owner = self._owner
        while not self._ended.wait(min(owner.lease / 6, 3600.0)):
            now = time.time()
            if owner.held and owner.expires - now < owner.lease * 2 / 3:
                try:
                    self._renew(now + owner.lease)
                except Exception as error:  # noqa: BLE001 - a store may fail in any way; the run itself will see it
                    LOG.warning("Cannot renew the lease of a run: %s", error)
                else:
                    owner.expires = now + owner.lease
