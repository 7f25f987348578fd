"""What people do to single atoms of a run that is at rest: answer for a call, skip an atom.

Each is checked, done, saved in one commit and then published; an interrupt is raised when it is done. The record says
who has done it and when: in the metadata of the atom, under `metadata.BY_HAND`, or in that of the flow.
"""

from __future__ import annotations

import getpass
import os
import socket
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import controls, exceptions, retry, states, task
from taskflowx._util import arguments
from taskflowx.engines import strict, unknown
from taskflowx.record import metadata
from taskflowx.types.failure import Failure

if TYPE_CHECKING:
    from taskflowx.engines.preparation import Preparation
    from taskflowx.engines.resetting import Resetting
    from taskflowx.persistence.models import AtomDetail, FlowDetail
    from taskflowx.storage import Storage


class OpenCall(NamedTuple):
    """A call of which somebody has to give the outcome.

    :param name: the task
    :param idempotency_key: the key that the call was given, or could have asked for
    :param attempt: the number of the attempt, from 1
    :param arguments: the arguments of the call, by name
    :param since: when the engine has found that, in seconds of the epoch; None before a run has taken the record up
    :param why: what is known about it
    """

    name: str
    idempotency_key: str
    attempt: int
    arguments: dict[str, Any]
    since: float | None
    why: str


class Entry(NamedTuple):
    """Something that was done by hand.

    :param what: 'resolve', 'resolve_failed', 'skip', 'retry_failed' or 'rollback'
    :param name: the atom; of a rollback the atom to which it goes, None for all of the flow
    :param who: user, machine and process, or what the caller has given as `by`
    :param when: seconds of the epoch
    :param reason: what the caller has given
    """

    what: str
    name: str | None
    who: str
    when: float
    reason: str | None


class Sign(NamedTuple):
    """Who does something by hand, and why.

    :param by: None for the user of this process
    :param reason: for the record
    """

    by: str | None = None
    reason: str | None = None

    @classmethod
    def of(cls, by: Any, reason: Any) -> Sign:
        """Return what a caller has given, checked."""
        for what, given in (("by", by), ("reason", reason)):
            if given is not None:
                arguments.check_type(what, given, str, "a str or None")
        return cls(by, reason)

    def entry(self, what: str) -> dict[str, Any]:
        """Return an entry for the record."""
        who = self.by if self.by is not None else f"{_user()}@{socket.gethostname()}:{os.getpid()}"
        return {"what": what, "who": who, "when": time.time(), "reason": self.reason}


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError, ImportError):  # a number without a name, as in containers
        return str(os.getuid()) if hasattr(os, "getuid") else "unknown"


def entries_of(flow_detail: FlowDetail) -> list[Entry]:
    """Return what was done by hand, in the order in which it was done."""
    found = [Entry(name=one.get("to"), **_parts(one)) for one in _noted(flow_detail.meta)]
    for detail in flow_detail:
        found += [Entry(name=detail.name, **_parts(one)) for one in _noted(detail.own_meta)]
    return sorted(found, key=lambda one: one.when)


def _noted(meta: dict[str, Any] | None) -> Iterator[dict[str, Any]]:
    return (one for one in (meta or {}).get(metadata.BY_HAND) or () if isinstance(one, dict))


def _parts(entry: dict[str, Any]) -> dict[str, Any]:
    return {key: entry.get(key) for key in ("what", "who", "when", "reason")}


class ByHand:
    """Does by hand what an engine cannot know.

    :param preparation: the flow with its record
    :param storage: the record by name
    :param resetting: carries a step out, and publishes it
    """

    def __init__(self, preparation: Preparation, storage: Storage, resetting: Resetting) -> None:
        self._preparation, self._storage, self._resetting = preparation, storage, resetting

    # -- what is open ------------------------------------------------------------------------------

    def open_calls(self, *, at_rest: bool) -> list[OpenCall]:
        """Return the calls for which somebody has to answer, in the order of the flow.

        :param at_rest: whether no run is under way, so that what is RUNNING on record was interrupted
        """
        compiled, details = self._preparation.compiled("look at"), self._preparation.details
        found = []
        for i, policy in sorted(compiled.unknown.items()):
            detail = details[i]
            if unknown.is_asked(detail) or (at_rest and policy.mode == controls.ASK and _is_open(detail)):
                mark = (detail.own_meta or {}).get(metadata.UNKNOWN) or {}
                found.append(
                    OpenCall(
                        detail.name,
                        unknown.key_of(detail),
                        (detail.own_meta or {}).get(metadata.ATTEMPT, 1),
                        self._arguments(i),
                        mark.get("since"),
                        mark.get("why", unknown.LEFT),
                    )
                )
        return found

    def _arguments(self, i: int) -> dict[str, Any]:
        try:
            return self._preparation.prepared("look at").execute_arguments(i)
        except exceptions.NotFound:  # the flow has changed
            return {}

    # -- answers -----------------------------------------------------------------------------------

    def resolve(self, name: str, result: Any, sign: Sign) -> None:
        """Have an interrupted call count as one that has returned a result.

        :raises InvalidState: when the atom is not RUNNING on record
        :raises ResultMismatch, Unstorable: when the task could not have returned it
        """
        i, detail = self._find(name, "resolve")
        self._check_open(detail, "resolve")
        self._check_result(i, result)
        self._change(i, sign.entry("resolve"), lambda: _succeed(detail, result))

    def resolve_failed(self, name: str, error: Exception | Failure, sign: Sign) -> None:
        """Have an interrupted call count as one that has failed.

        :raises InvalidState: when the atom is not RUNNING on record
        """
        arguments.check_type("error", error, (Exception, Failure), "an exception or a Failure")
        i, detail = self._find(name, "resolve")
        self._check_open(detail, "resolve")
        failure = error if isinstance(error, Failure) else Failure.from_exception(error)
        secrets = self._storage.writes.secrets
        if secrets is not None:
            failure = secrets.failure(failure)
        self._storage.writes.check_value(failure.to_dict(), f"failure of atom '{name}'")

        def fail() -> None:
            detail.failure, detail.state = failure, states.FAILURE

        self._change(i, sign.entry("resolve_failed"), fail)
        self._storage.record.note_failed(name)

    def skip(self, name: str, result: Any, sign: Sign) -> None:
        """Have an atom count as done, as somebody has done by hand what it was about to do.

        :raises InvalidState: when it has nothing to do
        :raises ResultMismatch, Unstorable: when the task could not have returned the result
        :raises TypeError: for a retry that would be executed, which decides and is not to be skipped
        """
        i, detail = self._find(name, "skip")
        if detail.intention in states.ROLLING_BACK:
            self._skip_revert(i, detail, result, sign)
            return
        if detail.state not in _MAY_BE_SKIPPED:
            raise exceptions.InvalidState(
                f"Can not skip atom '{name}', which is {detail.state}: what can be skipped has not run yet, was "
                "interrupted, has failed, or could not be undone"
            )
        if isinstance(self._preparation.compiled().atoms[i], retry.Retry):
            raise TypeError(f"'{name}' is a retry, which cannot be skipped; skip the tasks that it controls")
        self._check_result(i, result)
        has_failed = detail.state == states.FAILURE

        def succeed() -> None:
            if has_failed:
                self._preparation.renew_limits([i])
            _succeed(detail, result)

        self._change(i, sign.entry("skip"), succeed)

    def _skip_revert(self, i: int, detail: AtomDetail, result: Any, sign: Sign) -> None:
        """Have an atom that is rolled back count as undone."""
        if detail.intention == states.RETRY or detail.state in states.NOT_BEGUN:
            controller = self._preparation.compiled().controller(i)
            again = controller >= 0 and self._preparation.details[controller].intention == states.RETRY
            way = "; its next attempt has not begun, and it can be skipped once that has" if again else ""
            raise exceptions.InvalidState(
                f"Can not skip atom '{detail.name}', which is {detail.state} and rolled back: there is nothing to undo"
                f"{way}"
            )
        if result is not None:
            raise ValueError(
                f"skip('{detail.name}', result=...) makes no sense: the atom is rolled back, so it counts as undone, "
                "and has no result; leave the result out"
            )

        def undo() -> None:
            detail.revert_failure = detail.revert_results = None
            if detail.KIND == "retry":
                detail.results = []
            detail.state = states.REVERTED

        self._change(i, sign.entry("skip"), undo)

    def _find(self, name: str, to: str) -> tuple[int, AtomDetail]:
        """Return the index and the record of an atom.

        :param to: what is to be done to it
        :raises NotFound: when the flow has no atom of that name
        :raises InvalidState: when the flow is REVERTED
        """
        arguments.check_type("name", name, str, "the name of an atom")
        detail = self._storage.record.detail(name)  # it says what is close to a wrong name
        i = self._preparation.compiled().names.get(name)
        if i is None:
            raise exceptions.NotFound(f"Atom '{name}' is on record, and the flow does not have it any more")
        self._preparation.refuse_after_rollback(f"{to} atom '{name}'")
        return i, detail

    def _check_open(self, detail: AtomDetail, to: str) -> None:
        if not _is_open(detail) or detail.KIND != "task":
            named = [one.name for one in self.open_calls(at_rest=True)]
            raise exceptions.InvalidState(
                f"Can not {to} atom '{detail.name}', which is {detail.state}: no call of it is open; "
                + (f"the open ones are {named}" if named else "no call of this run is")
            )

    def _check_result(self, i: int, result: Any) -> None:
        """Refuse what the task could not have returned, or the store cannot hold."""
        atom, writes, detail = self._preparation.compiled().atoms[i], self._storage.writes, self._preparation.details[i]
        if isinstance(result, Failure):
            raise TypeError(f"The result of '{atom.name}' is a Failure; resolve_failed() takes one")
        if result is retry.NOT_DONE:
            raise TypeError(
                f"The result of '{atom.name}' is NOT_DONE, which find_outcome returns: by hand, resolve_failed() says "
                "that a call has had no effect, and retry_failed() then makes it again"
            )
        if isinstance(atom, task.Task) and atom._tfx_signature.outputs:
            error = strict.mismatch(atom, result, hidden=metadata.is_sensitive(detail))
            if error is not None:
                raise error
        if writes.secrets is not None:
            writes.secrets.remember(atom, result)
        writes.check_result(atom.name, states.EXECUTE, result)
        if writes.limits_records:
            whole = detail.copy()
            whole.store(result)
            writes.check_record(whole)

    def _change(self, i: int, entry: dict[str, Any], change: Callable[[], None]) -> None:
        detail = self._preparation.details[i]
        old = detail.state

        def step(moved: dict[int, str | None]) -> None:
            moved.setdefault(i, old)
            detail.meta.pop(metadata.UNKNOWN, None)
            detail.meta.pop(metadata.NOT_CALLED, None)
            metadata.note_by_hand(detail.meta, entry, self._storage.writes.masked)
            change()
            self._storage.save_all()

        self._resetting.carry_out(step)


def _is_open(detail: Any) -> bool:
    """Tell whether a call of an atom had begun on record, and its end was not seen."""
    return (
        detail.state == states.RUNNING
        and detail.intention == states.EXECUTE
        and metadata.NOT_CALLED not in (detail.own_meta or ())
    )


def _succeed(detail: Any, result: Any) -> None:
    detail.store(result)
    detail.failure = None
    detail.state = states.SUCCESS


#: states of an atom that is executed, in which it may be skipped
_MAY_BE_SKIPPED = (*states.FRESH, states.RUNNING, states.FAILURE)
