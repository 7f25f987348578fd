"""`run`, `arun` and `load` as `taskflowx` offers them: those of `taskflowx.engines`, with checks that TaskFlow has not.

Options that differ by default: results='strict', types='warn', and for `arun` executor='asyncio'; `max_workers` alone
means executor='threads'. With `run_id=` a run
has a name: it is made if it is new, taken up if it is unfinished, and not run again if it is finished.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from taskflowx import engines, exceptions
from taskflowx.runs import stores

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Unpack

    from taskflowx.engines.engine import ActionEngine
    from taskflowx.engines.options import EngineOptions, OnTimeout
    from taskflowx.flow import Member
    from taskflowx.persistence import base, models
    from taskflowx.runs.result import RunResult
    from taskflowx.runs.start import IfFinished, Start


def load(
    flow: Member,
    store: Mapping[str, Any] | None = None,
    *,
    run_id: str | None = None,
    if_finished: IfFinished = "return",
    wait: float = 0.0,
    backend: stores.Store | base.Backend | None = None,
    book: models.LogBook | None = None,
    flow_detail: models.FlowDetail | None = None,
    **options: Unpack[EngineOptions],
) -> ActionEngine:
    """Make an engine for a flow.

    :param flow: a flow, a task, or a function made a task by `as_task`
    :param store: values for the inputs of tasks, by name; with the `run_id` of a run that exists, None for those on
        record
    :param run_id: the id of the run, any text: the record in the store is made if there is none with this id, and
        gone on with otherwise
    :param if_finished: what is done with a run of that id which is finished: 'return' makes an engine with its record,
        which has nothing left to run, writes nothing, and refuses what would change the run; 'error' raises
        `Duplicate`; 'again' brings the record back to its beginning
    :param wait: the seconds to wait while another process runs it
    :param backend: the store of the record: None keeps it in memory; otherwise a connection string such as
        'sqlite:///path', the path of a file of SQLite that ends in '.db', a dict of settings, or a `Backend`
    :param book: the book that a new record is put into
    :param flow_detail: the record of a run to go on with
    :param options: see `taskflowx.engines.options.Options`; by default `results` is 'strict', `types` is 'warn', and
        with a `run_id` `on_mismatch` is 'refuse'
    :raises ValueError, TypeError: when an option is unknown, or its value is not one of those accepted
    :raises RunMismatch: when the run of that id is one of another flow, or was given other values
    :raises OwnershipFailure: when another process runs it, and the time to wait is up
    """
    _set_defaults(options)
    start = _start(flow, store, run_id, if_finished, wait, backend, book, flow_detail, options)
    if start is None:
        return engines.load(flow, store, flow_detail, book, stores.to_settings(backend), **options)
    with start:
        while True:
            engine = start.engine()
            if engine is not None:
                break
            start.pauses.wait()
        engine.owned_backend = start.give_up_store()
        return engine


def run(
    flow: Member,
    store: Mapping[str, Any] | None = None,
    *,
    run_id: str | None = None,
    if_finished: IfFinished = "return",
    wait: float = 0.0,
    raises: bool = True,
    timeout: float | None = None,
    on_timeout: OnTimeout = "suspend",
    backend: stores.Store | base.Backend | None = None,
    book: models.LogBook | None = None,
    flow_detail: models.FlowDetail | None = None,
    **options: Unpack[EngineOptions],
) -> RunResult:
    """Run a flow, and return what it has come to: a dict of all that its tasks provided and the store gave.

    The arguments are those of `load`, and three more. The result of a finished run with a `run_id` is that on record;
    one that failed raises again.

    :param raises: False to return the result of a run that has failed, or whose time is up, instead of raising
    :param timeout: seconds after which nothing new starts
    :param on_timeout: what happens then: 'suspend' lets what runs finish, and leaves the flow SUSPENDED; 'rollback'
        stops what runs, and rolls everything back
    :raises TimeoutError: when the time is up
    :raises Exception: the failure when the flow has failed; a `WrappedFailure` for several
    """
    _set_defaults(options)
    start = _start(flow, store, run_id, if_finished, wait, backend, book, flow_detail, options)
    if start is None:
        with engines.load(flow, store, flow_detail, book, stores.to_settings(backend), **options) as engine:
            (engine.run if raises else engine.run_to_rest)(timeout, on_timeout=on_timeout)
            return _result_of(engine)
    with start:
        while True:
            if (made := start.engine()) is None:
                start.pauses.wait()
                continue
            try:
                if not start.is_finished:
                    (made.run if raises else made.run_to_rest)(timeout, on_timeout=on_timeout)
            except (exceptions.OwnershipFailure, exceptions.NotFound) as error:
                if start.has_lost(error):
                    continue
                raise
            return _checked(start.result(made), raises)


async def arun(
    flow: Member,
    store: Mapping[str, Any] | None = None,
    *,
    run_id: str | None = None,
    if_finished: IfFinished = "return",
    wait: float = 0.0,
    raises: bool = True,
    timeout: float | None = None,  # noqa: ASYNC109 - it suspends, as that of `run`
    on_timeout: OnTimeout = "suspend",
    backend: stores.Store | base.Backend | None = None,
    book: models.LogBook | None = None,
    flow_detail: models.FlowDetail | None = None,
    **options: Unpack[EngineOptions],
) -> RunResult:
    """Run a flow in the running event loop, as `run` does; `executor` is 'asyncio' by default.

    With it `async def` tasks are awaited in that loop; with another one the run takes place in a thread.
    """
    options.setdefault("executor", "asyncio")
    _set_defaults(options)
    start = _start(flow, store, run_id, if_finished, wait, backend, book, flow_detail, options)
    if start is None:
        settings = stores.to_settings(backend)
        async with engines.load(flow, store, flow_detail, book, settings, **options) as engine:
            await (engine.arun if raises else engine.arun_to_rest)(timeout, on_timeout=on_timeout)
            return _result_of(engine)
    with start:
        while True:
            if (made := start.engine()) is None:
                await start.pauses.wait_async()
                continue
            try:
                if not start.is_finished:
                    await (made.arun if raises else made.arun_to_rest)(timeout, on_timeout=on_timeout)
            except (exceptions.OwnershipFailure, exceptions.NotFound) as error:
                if start.has_lost(error):
                    continue
                raise
            return _checked(start.result(made), raises)


def _set_defaults(options: EngineOptions) -> None:
    options.setdefault("results", "strict")
    options.setdefault("types", "warn")
    if options.get("max_workers") is not None and options.get("executor") is None and "engine" not in options:
        options["executor"] = "threads"  # the serial one would take no notice of it


def _start(
    flow: Member,
    store: Mapping[str, Any] | None,
    run_id: str | None,
    if_finished: str,
    wait: float,
    backend: Any,
    book: Any,
    flow_detail: Any,
    options: Mapping[str, Any],
) -> Start | None:
    """Return the start of a run with an id; None for a run without one."""
    if run_id is None:
        if if_finished != "return" or wait:
            name = "if_finished" if if_finished != "return" else "wait"
            raise ValueError(f"{name}= is about a run that exists, so it needs run_id=")
        return None
    if book is not None or flow_detail is not None:
        name = "book" if book is not None else "flow_detail"
        raise ValueError(f"run_id= names the record of the run, so it cannot be given together with {name}=")
    from taskflowx.runs import start  # a run without an id does without it

    return start.Start(flow, store, backend, run_id, if_finished, wait, options)


def _result_of(engine: ActionEngine) -> RunResult:
    from taskflowx.runs import result

    return result.of_engine(engine)


def _checked(result: RunResult, raises: bool) -> RunResult:
    if raises:
        result.raise_for_failure()
    return result
