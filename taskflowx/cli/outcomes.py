"""How a run has ended, or how it stands: as JSON, and as text for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import exceptions, states
from taskflowx.cli import exits, output, targets
from taskflowx.pictures import wording
from taskflowx.record import metadata

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from taskflowx.engines.by_hand import OpenCall
    from taskflowx.engines.engine import ActionEngine
    from taskflowx.persistence.models import FlowDetail
    from taskflowx.runs import RunResult
    from taskflowx.types.failure import Failure

#: what a state means
_MEANING = {
    states.SUCCESS: "is done",
    states.REVERTED: "has failed, and is undone",
    states.FAILURE: "has failed, and is not fully undone",
    states.SUSPENDED: "is suspended",
}


class Outcome(NamedTuple):
    """How a run has ended.

    `results` has name → value; `given` the names of these that are inputs. `errors` are failures with their traceback,
    as text. `rolls_back` tells whether a rollback to a task is not finished; `secret` has
    the names of sensitive values.
    """

    run_id: str | None
    flow: str
    state: str
    code: int
    results: dict[str, Any]
    given: frozenset[str]
    failures: list[dict[str, Any]]
    not_undone: list[str]
    open_calls: list[dict[str, Any]]
    errors: list[str]
    rolls_back: bool
    secret: frozenset[str]

    def as_json(self) -> dict[str, Any]:
        """Return the outcome as JSON has it."""
        return {
            "run": self.run_id,
            "flow": self.flow,
            "state": self.state,
            "exit_code": self.code,
            "results": {name: output.as_json(name, value, self.secret) for name, value in self.results.items()},
            "failures": self.failures,
            "not_undone": self.not_undone,
            "open_calls": self.open_calls,
        }

    def values(self) -> Iterator[str]:
        """Iterate over the lines of what the flow has provided."""
        for name, value in self.results.items():
            if name not in self.given:
                yield f"{wording.one_line(name)}: {output.as_text(name, value, self.secret)}"

    def story(self) -> Iterator[str]:
        """Iterate over the lines that say how it has ended."""
        yield from self.errors
        named = f"run {self.run_id}" if self.run_id else self.flow
        meaning = _MEANING.get(self.state, "has not ended")
        if self.state == states.REVERTED and self.not_undone:
            meaning = "has failed, and is undone in part"
        elif self.state == states.REVERTED and not self.failures:
            meaning = "is undone"
        yield f"{named} {meaning} ({self.state})"
        for failure in self.failures:
            yield from failure_lines(failure)
        if self.not_undone:
            yield f"  not undone: {', '.join(map(wording.one_line, self.not_undone))}"
        for call in self.open_calls:
            yield f"  nobody knows: {open_call_text(call)}"


def of_engine(
    engine: ActionEngine, run_id: str | None, error: BaseException | None, ended: RunResult | None = None
) -> Outcome:
    """Return how a run has ended.

    :param error: what the engine has raised
    :param ended: what the run has come to; None to ask the engine
    :raises Exception: that, when it is not what the run has failed with or was left by
    """
    from taskflowx.runs import result

    if ended is None:
        ended = result.of_engine(engine)
    if error is not None and not _is_of_the_run(error, ended):
        raise error
    has_failed = ended.state in (states.REVERTED, states.FAILURE)
    standing = ended.not_undone if has_failed else []
    calls = open_calls(engine) if ended.state == states.SUSPENDED else []
    record = engine.storage.record.flow_detail
    return Outcome(
        run_id,
        ended.flow,
        ended.state,
        exits.of_state(ended.state, standing, calls),
        dict(ended) if ended.state == states.SUCCESS else {},
        frozenset(engine.storage.lookup.injected_names() or ()),
        [failure_of(name, failure) for name, failure in ended.failures.items()] if has_failed else [],
        standing,
        calls,
        list(_tracebacks(error)),
        metadata.ROLLED_BACK_TO in (record.meta or ()),
        _secret_in(record),
    )


_SAID_BY_STATE = (exceptions.Cancelled, exceptions.TimeoutExceeded, KeyboardInterrupt)


def _tracebacks(error: BaseException | None) -> Iterator[str]:
    """Iterate over the tracebacks of what a run has failed with, as far as the exceptions are there."""
    for one in error.exceptions if isinstance(error, exceptions.WrappedFailure) else (error,):
        if one is not None and not isinstance(one, (exceptions.LostException, *_SAID_BY_STATE)):
            yield targets.folded(one).rstrip()


def _is_of_the_run(error: BaseException, ended: RunResult) -> bool:
    """Tell whether an error is what the run has ended with, or was left by; another one kept it from running."""
    if not isinstance(error, Exception):  # a second Ctrl-C, or a task that ends the program
        return True
    if ended.state not in (states.REVERTED, states.FAILURE):
        return False
    if isinstance(error, (exceptions.WrappedFailure, *_SAID_BY_STATE)) or type(error) is exceptions.ExecutionFailure:
        return True
    return any(one.exception is error for one in ended.failures.values()) or exits.of_error(error) is None


# -- parts -------------------------------------------------------------------------------------------------------------


def failure_of(name: str, failure: Failure) -> dict[str, Any]:
    """Return a failure as JSON has it.

    :param name: the atom
    """
    return {"atom": name, **_described(failure), "led_to_by": [_described(cause) for cause in failure.causes]}


def _described(failure: Failure) -> dict[str, str]:
    return {"type": next(iter(failure), "Exception"), "message": failure.exception_str}


def failure_lines(failure: dict[str, Any]) -> Iterator[str]:
    """Iterate over the lines of a failure, and of what led to it."""
    yield f"  {wording.one_line(failure['atom'])}: {failure_text(failure)}"
    for cause in failure["led_to_by"]:
        yield f"    led to by {failure_text(cause)}"


def failure_text(failure: dict[str, Any]) -> str:
    """Return type and message of a failure in one line."""
    return wording.one_line(f"{failure['type']}: {failure['message']}".removesuffix(": "))


def _secret_in(record: FlowDetail) -> frozenset[str]:
    """Return the names of the sensitive values of a run."""
    return frozenset(name for detail in record for name in (detail.own_meta or {}).get(metadata.SENSITIVE) or ())


def open_calls(engine: ActionEngine) -> list[dict[str, Any]]:
    """Return the calls of which somebody has to give the outcome, as JSON has them."""
    calls = engine.unknown()
    plan = engine.preparation.compiled()
    secret = _secret_in(engine.storage.record.flow_detail)
    found = []
    for call in calls:
        names = plan.atoms[plan.names[call.name]].rebind
        hidden = {argument for argument in call.arguments if names.get(argument, argument) in secret}
        found.append(_open_call(call, hidden))
    return found


def _open_call(call: OpenCall, hidden: Collection[str]) -> dict[str, Any]:
    return {
        "task": call.name,
        "idempotency_key": call.idempotency_key,
        "attempt": call.attempt,
        "arguments": {name: output.as_json(name, value, hidden) for name, value in call.arguments.items()},
        "since": call.since,
        "why": call.why,
    }


def open_call_text(call: dict[str, Any]) -> str:
    """Return an open call in one line."""
    given = ", ".join(f"{name}={value!r}" for name, value in call["arguments"].items())
    text = f"{call['task']}({given}), attempt {call['attempt']}, key {call['idempotency_key']}: {call['why']}"
    return wording.one_line(text)
