"""The commands, as Typer has them: names, arguments and help. What they do is imported when one is called."""

from __future__ import annotations

from typing import Annotated

import typer

from taskflowx.cli import exits

app = typer.Typer(
    name="taskflowx",
    help="Run flows, and look after their runs.",
    epilog="Exit codes: 0 done, 1 failed and undone, 2 usage, 3 not fully undone, 4 suspended or waiting, "
    "5 outcome unknown, 75 try again.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
db = typer.Typer(help="The layout of a store.", no_args_is_help=True, rich_markup_mode=None)
app.add_typer(db, name="db")

# fmt: off
Target = Annotated[str, typer.Argument(metavar="MODULE:FLOW", help="A flow, a task, or a function that makes one.")]
Run = Annotated[str, typer.Argument(metavar="RUN", help="The id of a run.")]
TaskName = Annotated[str, typer.Argument(metavar="TASK", help="The name of a task or retry.")]
Backend = Annotated[str | None, typer.Option(
    "--backend", "-b", envvar="TASKFLOWX_BACKEND", metavar="STORE",
    help="The store of the runs: an address, or a path that ends in .db.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on the standard output, and nothing else there.")]
Store = Annotated[list[str] | None, typer.Option(
    "--store", "-s", metavar="NAME=VALUE",
    help="An input: JSON, or text; always text where str is annotated. May be repeated.")]
StoreFile = Annotated[list[str] | None, typer.Option(
    "--store-file", metavar="FILE", help="Inputs as a JSON object; - is the standard input. May be repeated.")]
Sensitive = Annotated[list[str] | None, typer.Option(
    "--sensitive", metavar="NAME", help="A value that is shown nowhere and not stored. May be repeated.")]
Executor = Annotated[str | None, typer.Option(
    "--executor", "-e", metavar="NAME", help="serial, threads, processes, asyncio, dask …")]
Workers = Annotated[int | None, typer.Option("--max-workers", min=1, help="How many calls may run at once.")]
Progress = Annotated[bool, typer.Option("--progress", help="Draw a progress bar on the standard error.")]
By = Annotated[str | None, typer.Option("--by", metavar="NAME", help="Who does it; for the record.")]
Reason = Annotated[str | None, typer.Option("--reason", metavar="TEXT", help="Why; for the record.")]
State = Annotated[list[str] | None, typer.Option("--state", metavar="STATE", help="Only these. May be repeated.")]
# fmt: on


def run_command(given: list[str]) -> int:
    """Run a command; returns the exit code.

    :param given: the arguments
    """
    try:
        app(args=given, prog_name="taskflowx")
    except SystemExit as left:
        if left.code is not None:
            return left.code if isinstance(left.code, int) else exits.USAGE
    return exits.DONE


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.", is_eager=True)] = False,
) -> None:
    if version:
        from taskflowx import __version__

        typer.echo(f"taskflowx {__version__}")
        raise typer.Exit


@app.command()
def run(
    target: Target,
    store: Store = None,
    store_file: StoreFile = None,
    sensitive: Sensitive = None,
    executor: Executor = None,
    max_workers: Workers = None,
    backend: Backend = None,
    run_id: Annotated[str | None, typer.Option("--run-id", metavar="RUN", help="The name of the run.")] = None,
    progress: Progress = False,
    json: Json = False,
) -> None:
    """Run a flow.

    With a store, a run that was interrupted goes on, and the outcome of one that is finished is printed.
    """

    def work() -> int:
        from taskflowx.cli import given, running

        inputs = given.Inputs(store or (), store_file or ())
        settings = running.Settings(target, backend, run_id, executor, max_workers, progress, json, inputs)
        return running.run(settings, sensitive or ())

    raise typer.Exit(exits.guarded(work))


@app.command()
def check(
    target: Target,
    store: Store = None,
    store_file: StoreFile = None,
    executor: Executor = None,
    against: Annotated[
        str | None, typer.Option("--against", metavar="ADDRESS", help="A store: can its unfinished runs be taken up?")
    ] = None,
    json: Json = False,
) -> None:
    """Check a flow without running it: names, inputs, types, and whether it fits the unfinished runs of a store."""

    def work() -> int:
        from taskflowx.cli import checking, given

        return checking.check(target, given.Inputs(store or (), store_file or ()), executor, against, as_json=json)

    raise typer.Exit(exits.guarded(work))


@app.command()
def runs(
    backend: Backend = None,
    state: State = None,
    flow: Annotated[str | None, typer.Option("--flow", metavar="NAME", help="Only runs of this flow.")] = None,
    since: Annotated[str | None, typer.Option("--since", metavar="SPAN", help="Only younger ones: 2h, 7d …")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 50,
    json: Json = False,
) -> None:
    """List runs, the newest first."""

    def work() -> int:
        from taskflowx.cli import looking

        return looking.list_runs(backend, state, flow, since, limit, as_json=json)

    raise typer.Exit(exits.guarded(work))


@app.command()
def show(
    run: Run,
    backend: Backend = None,
    watch: Annotated[bool, typer.Option("--watch", help="Again and again, until nobody runs it.")] = False,
    timeline: Annotated[bool, typer.Option("--timeline", help="Draw when each task ran.")] = False,
    json: Json = False,
) -> None:
    """Show a run: its tasks, what failed and why, what is not undone."""

    def work() -> int:
        from taskflowx.cli import looking

        return looking.show(backend, run, watch=watch, timeline=timeline, as_json=json)

    raise typer.Exit(exits.guarded(work))


@app.command()
def resume(
    run: Run,
    target: Target,
    store: Store = None,
    store_file: StoreFile = None,
    backend: Backend = None,
    executor: Executor = None,
    max_workers: Workers = None,
    progress: Progress = False,
    json: Json = False,
) -> None:
    """Go on with a run that was interrupted or suspended."""

    def work() -> int:
        from taskflowx.cli import given, running

        inputs = given.Inputs(store or (), store_file or ())
        settings = running.Settings(target, backend, run, executor, max_workers, progress, json, inputs)
        return running.resume(settings)

    raise typer.Exit(exits.guarded(work))


@app.command()
def rollback(
    run: Run,
    target: Target,
    to: Annotated[str | None, typer.Option("--to", metavar="TASK", help="Undo only what ran after this one.")] = None,
    store: Store = None,
    store_file: StoreFile = None,
    backend: Backend = None,
    executor: Executor = None,
    max_workers: Workers = None,
    by: By = None,
    reason: Reason = None,
    progress: Progress = False,
    json: Json = False,
) -> None:
    """Undo what stands of a run."""

    def work() -> int:
        from taskflowx.cli import given, running

        inputs = given.Inputs(store or (), store_file or ())
        settings = running.Settings(target, backend, run, executor, max_workers, progress, json, inputs)
        return running.rollback(settings, to, {"by": by, "reason": reason})

    raise typer.Exit(exits.guarded(work))


@app.command(name="retry-failed")
def retry_failed(
    run: Run,
    target: Target,
    store: Store = None,
    store_file: StoreFile = None,
    backend: Backend = None,
    executor: Executor = None,
    max_workers: Workers = None,
    by: By = None,
    reason: Reason = None,
    progress: Progress = False,
    json: Json = False,
) -> None:
    """Run again what has failed; go on with a rollback that stands still."""

    def work() -> int:
        from taskflowx.cli import given, running

        inputs = given.Inputs(store or (), store_file or ())
        settings = running.Settings(target, backend, run, executor, max_workers, progress, json, inputs)
        return running.retry_failed(settings, {"by": by, "reason": reason})

    raise typer.Exit(exits.guarded(work))


@app.command()
def skip(
    run: Run,
    target: Target,
    task: TaskName,
    result: Annotated[str | None, typer.Option("--result", metavar="VALUE", help="JSON, or else text.")] = None,
    backend: Backend = None,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Have a task count as done, as somebody has done it by hand."""

    def work() -> int:
        from taskflowx.cli import given, running

        settings = running.Settings(target, backend, run, json=json)
        value = None if result is None else given.value_of(result)
        return running.skip(settings, task, value, {"by": by, "reason": reason})

    raise typer.Exit(exits.guarded(work))


@app.command()
def resolve(
    run: Run,
    target: Target,
    task: Annotated[str | None, typer.Argument(metavar="TASK", help="Without it, the open calls are listed.")] = None,
    result: Annotated[str | None, typer.Option("--result", metavar="VALUE", help="It has returned this.")] = None,
    failed: Annotated[str | None, typer.Option("--failed", metavar="TEXT", help="It has failed with this.")] = None,
    backend: Backend = None,
    by: By = None,
    reason: Reason = None,
    json: Json = False,
) -> None:
    """Say how a call ended of which nobody knows whether it has had its effect."""

    def work() -> int:
        from taskflowx.cli import given, running

        settings = running.Settings(target, backend, run, json=json)
        if task is None:
            if result is not None or failed is not None:
                raise exits.Refused("Of which task? taskflowx resolve RUN MODULE:FLOW TASK --result VALUE")
            return running.list_open(settings)
        if (result is None) == (failed is None):
            raise exits.Refused("Say how the call has ended: --result VALUE (null for none), or --failed TEXT")
        answer = {"failed": failed} if result is None else {"result": given.value_of(result)}
        return running.resolve(settings, task, answer, {"by": by, "reason": reason})

    raise typer.Exit(exits.guarded(work))


@app.command()
def history(run: Run, backend: Backend = None, json: Json = False) -> None:
    """Print each transition of a run, in order."""

    def work() -> int:
        from taskflowx.cli import looking

        return looking.history(backend, run, as_json=json)

    raise typer.Exit(exits.guarded(work))


@app.command()
def fork(
    run: Run,
    from_task: Annotated[str, typer.Option("--from", metavar="TASK", help="The first task that runs again.")],
    store: Store = None,
    store_file: StoreFile = None,
    run_id: Annotated[str | None, typer.Option("--run-id", metavar="RUN", help="The name of the new run.")] = None,
    backend: Backend = None,
    json: Json = False,
) -> None:
    """Make a new run that keeps what was before a task; `resume` runs it."""

    def work() -> int:
        from taskflowx.cli import given, looking

        inputs = given.Inputs(store or (), store_file or ())
        return looking.fork(backend, run, from_task, inputs, run_id, as_json=json)

    raise typer.Exit(exits.guarded(work))


@app.command()
def prune(
    older_than: Annotated[str, typer.Option("--older-than", metavar="SPAN", help="90s, 15m, 2h, 7d, 4w.")],
    state: State = None,
    backend: Backend = None,
    json: Json = False,
) -> None:
    """Remove runs that have ended, with their history."""

    def work() -> int:
        from taskflowx.cli import looking

        return looking.prune(backend, older_than, state, as_json=json)

    raise typer.Exit(exits.guarded(work))


@app.command()
def report(
    run: Run,
    output: Annotated[str | None, typer.Option("--output", "-o", metavar="FILE", help="RUN.html by default.")] = None,
    values: Annotated[bool, typer.Option("--values", help="Show results, not only their types and sizes.")] = False,
    trace: Annotated[bool, typer.Option("--trace", help="Write a trace for Perfetto beside it.")] = False,
    backend: Backend = None,
    json: Json = False,
) -> None:
    """Write a run as one HTML file."""

    def work() -> int:
        from taskflowx.cli import looking

        return looking.report(backend, run, output, values=values, trace=trace, as_json=json)

    raise typer.Exit(exits.guarded(work))


@db.command()
def upgrade(
    backend: Backend = None,
    sql: Annotated[bool, typer.Option("--sql", help="Print the statements, and change nothing.")] = False,
    json: Json = False,
) -> None:
    """Upgrade a store to the layout of this version."""

    def work() -> int:
        from taskflowx.cli import layout

        return layout.upgrade(backend, as_sql=sql, as_json=json)

    raise typer.Exit(exits.guarded(work))


@db.command()
def verify(backend: Backend = None, json: Json = False) -> None:
    """Check the layout of a store, and read all of its runs."""

    def work() -> int:
        from taskflowx.cli import layout

        return layout.verify(backend, as_json=json)

    raise typer.Exit(exits.guarded(work))
