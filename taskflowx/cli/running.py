"""`taskflowx run`, `resume`, and what people do to a run by hand; each runs an engine, and says how that has ended."""

from __future__ import annotations

import contextlib
import signal
import sys
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import states
from taskflowx.cli import exits, given, outcomes, output, stores, targets
from taskflowx.cli.exits import Refused
from taskflowx.exceptions import NotFound

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from taskflowx.engines.engine import ActionEngine
    from taskflowx.runs import RunResult


class Settings(NamedTuple):
    """What the commands have in common that run an engine.

    :param target: 'module:flow'
    :param backend: the store; None keeps the record in memory
    :param run_id: the run
    :param executor: the name of the executor
    :param max_workers: how many calls may run at once
    :param progress: whether a bar is drawn
    :param json: whether the outcome is printed as JSON
    :param inputs: values for the inputs of the flow
    """

    target: str
    backend: str | None
    run_id: str | None
    executor: str | None = None
    max_workers: int | None = None
    progress: bool = False
    json: bool = False
    inputs: given.Inputs = given.Inputs((), ())

    def command(self, verb: str, *more: str, options: Sequence[str] = ()) -> str:
        """Return a command for this run, to be copied."""
        return stores.command(self.backend, verb, self.run_id or "RUN", self.target, *more, options=options)


def run(settings: Settings, sensitive: Sequence[str]) -> int:
    """Run a flow, new or on the record of its run; return the exit code.

    :param sensitive: the names of values that are shown nowhere and not stored
    """
    if settings.run_id is not None and not settings.backend:
        raise Refused("--run-id needs a store that keeps the run: give --backend, such as --backend runs.db")
    with output.reserved(for_json=settings.json):
        flow = targets.load(settings.target)
        if settings.backend and settings.run_id is None:
            settings = settings._replace(run_id=_new_id(str(flow.name)))
            output.note(f"run {settings.run_id}")
        store = settings.inputs.read(lambda: given.taken_as_text(flow))
        if unknown := set(sensitive).difference(store, given.names_in(flow)):
            raise Refused(f"--sensitive {min(unknown)} names no value that is given, taken or provided")
        with _engine(flow, settings, store or None, sensitive) as engine:
            ended = _carried_out(engine, settings, engine.run, unless_finished=True)
    return _told(ended, settings)


def resume(settings: Settings) -> int:
    """Go on with a run that is on record; return the exit code."""
    return _taken_up(settings, lambda engine: engine.run(), unless_finished=True)


def retry_failed(settings: Settings, sign: Mapping[str, Any]) -> int:
    """Run again what has failed; return the exit code.

    :param sign: who wants it, and why
    """
    return _taken_up(settings, lambda engine: engine.retry_failed(**sign))


def rollback(settings: Settings, to: str | None, sign: Mapping[str, Any]) -> int:
    """Undo what stands of a run; return the exit code, which is 0 when that was done.

    :param to: the task after which everything is undone; None for all
    :param sign: who wants it, and why
    """

    def is_done(ended: outcomes.Outcome) -> bool:
        return ended.code == exits.FAILED or (to is not None and ended.code == exits.WAITS and not ended.rolls_back)

    return _taken_up(settings, lambda engine: engine.rollback(to=to, **sign), is_done)


def skip(settings: Settings, task: str, result: Any, sign: Mapping[str, Any]) -> int:
    """Have a task count as done; return the exit code.

    :param result: what it would have returned
    :param sign: who has done it, and why
    """
    return _taken_up(settings, lambda engine: engine.skip(task, result, **sign), lambda _: True)


def resolve(settings: Settings, task: str, answer: Mapping[str, Any], sign: Mapping[str, Any]) -> int:
    """Give the outcome of an open call; return the exit code.

    :param answer: `result`, or `failed`: the text of the error
    :param sign: who says so, and why
    """

    def do(engine: ActionEngine) -> None:
        if "failed" in answer:
            engine.resolve_failed(task, RuntimeError(answer["failed"]), **sign)
        else:
            engine.resolve(task, answer["result"], **sign)

    return _taken_up(settings, do, lambda _: True)


def list_open(settings: Settings) -> int:
    """List the calls of which somebody has to give the outcome; return the exit code."""
    with output.reserved(for_json=settings.json):
        flow = targets.load(settings.target)
        with _engine_of_record(flow, settings) as engine:
            calls = outcomes.open_calls(engine)
    if settings.json:
        output.print_json({"run": settings.run_id, "open_calls": calls})
        return exits.DONE
    for call in calls:
        print(outcomes.open_call_text(call), flush=True)
    if not calls:
        output.note("no call is open")
    return exits.DONE


def _taken_up(
    settings: Settings,
    do: Callable[[ActionEngine], object],
    is_done: Callable[[outcomes.Outcome], bool] = lambda _: False,
    *,
    unless_finished: bool = False,
) -> int:
    """Do something to a run that is on record, and say how it stands; return the exit code.

    :param do: gets the engine
    :param is_done: whether it has done what was asked, whatever the state of the run is
    :param unless_finished: whether nothing is done to a run that has ended
    """
    with output.reserved(for_json=settings.json):
        flow = targets.load(settings.target)
        with _engine_of_record(flow, settings) as engine:
            ended = _carried_out(engine, settings, lambda: do(engine), unless_finished=unless_finished)
    return _told(ended, settings, is_done=is_done(ended))


def _carried_out(
    engine: ActionEngine, settings: Settings, do: Callable[[], object], *, unless_finished: bool
) -> outcomes.Outcome:
    """Do something that may run the engine; a signal suspends it."""
    if unless_finished and engine.storage.get_flow_state() in (states.SUCCESS, states.REVERTED):
        output.note("This run has ended before: nothing was run")
        return outcomes.of_engine(engine, settings.run_id, None, _on_record(settings))
    error: BaseException | None = None
    with contextlib.ExitStack() as stack:
        if settings.progress:
            from taskflowx.listeners import progress

            stack.enter_context(progress.ProgressBarListener(engine, output.console(sys.stderr)))
        stack.enter_context(engine.suspend_on(signal.SIGINT, signal.SIGTERM))
        try:
            do()
        except BaseException as raised:  # noqa: BLE001 - the record shows it, or it is raised again
            error = raised
    return outcomes.of_engine(engine, settings.run_id, error)


def _on_record(settings: Settings) -> RunResult | None:
    """Return what a run has come to by its record alone, as its flow may have changed; None where that is not kept."""
    from taskflowx import runs

    if not settings.backend or settings.run_id is None:
        return None
    with stores.opened(settings.backend) as backend, runs.open(backend) as opened:
        view = opened.get(settings.run_id)
        return None if view.links is None else view.result()


def _told(ended: outcomes.Outcome, settings: Settings, *, is_done: bool = False) -> int:
    """Print how a run has ended, and what can be done now; return the exit code.

    :param is_done: whether what was asked is done, whatever the state of the run is
    """
    code = exits.DONE if is_done else ended.code
    if settings.json:
        output.print_json({**ended.as_json(), "exit_code": code})
    else:
        for line in ended.values():
            print(line, flush=True)
    for line in ended.story():
        output.note(line)
    for line in _ways_on(ended, settings, "resume" if is_done else "retry-failed"):
        output.note(line)
    return code


def _ways_on(ended: outcomes.Outcome, settings: Settings, goes_on: str) -> Iterator[str]:
    """Iterate over the commands with which somebody may go on.

    :param goes_on: the one that goes on with a rollback
    """
    if not settings.backend:
        if ended.code in (exits.WAITS, exits.UNKNOWN):
            yield "Its record was in memory and is gone; with --backend runs.db another command can go on with it"
        return
    if ended.code == exits.UNKNOWN:
        first = ended.open_calls[0]["task"]
        yield f"Answer: {settings.command('resolve', first, options=['--result', 'VALUE'])}, or --failed TEXT"
        yield f"Then:   {settings.command('resume')}"
    elif ended.code == exits.WAITS:
        yield f"Go on:  {settings.command('resume')}"
    elif ended.code == exits.NOT_UNDONE and ended.state == states.FAILURE:
        yield f"Go on with the rollback: {settings.command(goes_on)}"


# -- engines -----------------------------------------------------------------------------------------------------------


def _new_id(name: str) -> str:
    """Return an id for a run of a flow: one that can be typed, whatever the flow is called."""
    import datetime as dt
    import re
    import secrets

    typed = re.sub(r"[^\w.]+", "-", name)[:_LONGEST_NAME].strip("-") or "run"
    # many may begin in one second, and a run whose id is taken is not run
    return f"{typed}-{dt.datetime.now(dt.UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(5)}"


_LONGEST_NAME = 60


def _options(settings: Settings) -> dict[str, Any]:
    given = {"executor": settings.executor, "max_workers": settings.max_workers}
    return {name: value for name, value in given.items() if value is not None}


@contextlib.contextmanager
def _engine(
    flow: Any, settings: Settings, store: Mapping[str, Any] | None, sensitive: Sequence[str]
) -> Iterator[ActionEngine]:
    """Make an engine for a run, new or on record, and close it at the end of the block."""
    import taskflowx

    options = _options(settings)
    if settings.backend:
        options |= {"backend": settings.backend, "run_id": settings.run_id}
    if sensitive:
        options["sensitive"] = dict.fromkeys(sensitive, "memory")
    try:
        engine = taskflowx.load(flow, store, **options)
    except (ValueError, TypeError) as error:
        raise Refused(str(error)) from None
    with engine:
        yield engine


@contextlib.contextmanager
def _engine_of_record(flow: Any, settings: Settings) -> Iterator[ActionEngine]:
    """Make an engine for a run that is on record, and close it at the end of the block.

    :raises NotFound: when there is no such run
    """
    import taskflowx
    from taskflowx import runs

    assert settings.run_id is not None, "the command names it"
    with stores.opened(settings.backend) as backend, runs.open(backend) as opened:
        view = opened.get(given.run_id_of(settings.run_id))
        with contextlib.closing(backend.get_connection()) as connection:
            detail = connection.get_flow_details(view.uuid)
        options = _options(settings)
        if view.id != view.uuid:  # as with the id
            options |= {"on_mismatch": "refuse", "history": backend.keeps_history}
        try:
            # By its record and not by its id, with which a run that is finished cannot be changed any more.
            engine = taskflowx.load(flow, backend=backend, flow_detail=detail, **options)
        except (ValueError, TypeError) as error:
            raise Refused(str(error)) from None
        with engine:
            _give(engine, settings.inputs.read(lambda: given.taken_as_text(flow)))
            yield engine


def _give(engine: ActionEngine, store: Mapping[str, Any]) -> None:
    """Give a run the values that its record lacks.

    :raises Refused: for one that it has
    """
    for name in store:
        with contextlib.suppress(NotFound):
            engine.storage.fetch(name)
            raise Refused(f"The run has a value for '{name}'; for another one make a new run: taskflowx fork --store")
    if store:
        engine.storage.inject(store)
