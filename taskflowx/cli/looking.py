"""The commands that read runs, copy them or remove them, without their code."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, states
from taskflowx.cli import drawing, exits, facts, given, output, stores
from taskflowx.cli.exits import Refused
from taskflowx.pictures import wording

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from taskflowx.runs import Runs, RunView


@contextlib.contextmanager
def runs_of(address: str | None, run: str | None = None) -> Iterator[Runs]:
    """Open the runs of a store for the block.

    :param run: the id of the one that is looked for
    :raises Refused: when there is no such store, or no run can have that id
    """
    from taskflowx import runs

    if run is not None:
        given.run_id_of(run)

    with stores.opened(address) as backend, runs.open(backend) as opened:
        yield opened


def list_runs(
    address: str | None,
    state: Sequence[str] | None,
    flow: str | None,
    since: str | None,
    limit: int,
    *,
    as_json: bool,
) -> int:
    """List runs, the newest first; return the exit code.

    :param address: the store
    :param since: a span of time, such as '2h'
    """
    wanted = states_of(state)
    ago = None if since is None else given.seconds_of(since)
    with runs_of(address) as runs:
        found = [facts.of_summary(one) for one in runs.list(state=wanted, flow=flow, since=ago, limit=limit)]
    if as_json:
        output.print_json(found)
    elif found:
        heads = ("RUN", "FLOW", "STATE", "CREATED", "UPDATED")
        rows = (
            (one["run"], one["flow"], drawing.state_text(one["state"]), *map(drawing.clock_text, _times(one)))
            for one in found
        )
        output.print_lines(drawing.table(heads, rows, output.console().width))
    if not found:
        output.note("no run was found")
    elif len(found) == limit:
        output.note(f"the newest {limit:,}; --limit shows more")
    return exits.DONE


def states_of(given_states: Sequence[str] | None) -> list[str] | None:
    """Return the states that are named, in any case, also several with commas between them; None for all.

    :raises Refused: when there is no such state
    """
    names = [one.strip().upper() for text in given_states or () for one in text.split(",") if one.strip()]
    for name in names:
        if name not in states.FLOW_STATES:
            raise Refused(f"--state {name}: there is no such state; there are {', '.join(states.FLOW_STATES)}")
    return names or None


def _times(found: Mapping[str, Any]) -> tuple[str | None, str | None]:
    return found["created_at"], found["updated_at"]


def show(address: str | None, run: str, *, watch: bool, timeline: bool, as_json: bool) -> int:
    """Show a run; return the exit code, that of the state in which a run ends that is watched."""
    with runs_of(address, run) as runs:
        if not watch:
            view = runs.get(run)
            _show(view, timeline=timeline, as_json=as_json)
            _tell_of(address, view, timeline=timeline)
            return exits.DONE
        for view in _watched(runs.watch(run), timeline=timeline, as_json=as_json):
            if view.state in states.AT_REST or (view.is_left and runs.get(run).is_left):  # who runs it is read first
                break
        _tell_of(address, view, timeline=timeline)
        calls = [atom for atom in view.atoms if atom.unknown is not None]
        return exits.of_state(view.state, view.not_undone, calls)


def _watched(views: Iterable[RunView], *, timeline: bool, as_json: bool) -> Iterator[RunView]:
    """Show each view of a run, in a terminal in the place of the one before; iterate over them."""
    console = output.console()
    if as_json or not console.is_terminal:
        for view in views:
            _show(view, timeline=timeline, as_json=as_json)
            yield view
        return
    with drawing.live(console) as live:
        for view in views:
            live.update(_drawn(facts.of_view(view), view, timeline=timeline), refresh=True)
            yield view


def _show(view: RunView, *, timeline: bool, as_json: bool) -> None:
    found = facts.of_view(view)
    if as_json:
        output.print_json(found)
    else:
        output.print_lines(_drawn(found, view, timeline=timeline))


def _drawn(found: Mapping[str, Any], view: RunView, *, timeline: bool) -> drawing.Group:
    parts: list[Any] = [drawing.tree(found, view.branches)]
    if found["not_undone"]:
        parts.append(drawing.Text(f"not undone: {', '.join(map(wording.one_line, found['not_undone']))}"))
    parts += [drawing.Text(_by_hand(entry)) for entry in found["by_hand"]]
    spans = facts.spans_of(view.history) if timeline else []
    if spans:
        parts += [drawing.Text(), drawing.bars(spans, output.width())]
    return drawing.Group(*parts)


def _tell_of(address: str | None, view: RunView, *, timeline: bool) -> None:
    """Say what else somebody may want to know of a run."""
    if view.is_left:
        way = stores.command(address, "resume", view.id, "MODULE:FLOW")
        output.note(f"Nobody runs it: its process has ended. Go on with: {way}")
    if timeline and not view.history:
        output.note("There is no history of this run to draw a timeline from")


def _by_hand(entry: Mapping[str, Any]) -> str:
    words = [f"by hand: {entry['what']}", entry["name"] or "", f"by {entry['who']}", drawing.clock_text(entry["when"])]
    return wording.one_line(" ".join([*words, f"({entry['reason']})" if entry["reason"] else ""]))


def history(address: str | None, run: str, *, as_json: bool) -> int:
    """Print each transition of a run, in order; return the exit code."""
    with runs_of(address, run) as runs:
        entries = [facts.of_entry(entry) for entry in runs.get(run).history]
    if as_json:
        output.print_json(entries)
    elif entries:
        output.print_lines(drawing.Group(*drawing.history_lines(entries)))
    if not entries:
        output.note("This run has no history: it is kept for runs that were started with a run id")
    return exits.DONE


def fork(
    address: str | None, run: str, from_task: str, inputs: given.Inputs, run_id: str | None, *, as_json: bool
) -> int:
    """Make a new run that keeps what was before a task; return the exit code.

    :param inputs: values that take the place of those on record; those that are text there are text here
    """
    with runs_of(address, run) as runs:
        on_record = runs.get(run).store
        store = inputs.read(lambda: [name for name, value in on_record.items() if isinstance(value, str)])
        try:
            made = runs.fork(run, from_task=from_task, store=store, run_id=run_id)
        except exceptions.Duplicate:
            raise Refused(f"There is a run '{run_id}' already; give another --run-id") from None
        except ValueError as error:
            raise Refused(str(error)) from None
    if as_json:
        output.print_json({"run": made})
    else:
        print(wording.one_line(made), flush=True)
    output.note(f"Run it:  {stores.command(address, 'resume', made, 'MODULE:FLOW')}")
    return exits.DONE


def prune(address: str | None, older_than: str, state: Sequence[str] | None, *, as_json: bool) -> int:
    """Remove runs that have ended; return the exit code."""
    seconds, wanted = given.seconds_of(older_than), states_of(state)
    with runs_of(address) as runs:
        try:
            count = runs.prune(older_than=seconds, **({} if wanted is None else {"states": wanted}))
        except ValueError as error:
            raise Refused(str(error)) from None
    if as_json:
        output.print_json({"removed": count})
    else:
        print(f"{count:,} run{'' if count == 1 else 's'} removed", flush=True)
    return exits.DONE


def report(address: str | None, run: str, path: str | None, *, values: bool, trace: bool, as_json: bool) -> int:
    """Write a run as one HTML file, and print its path; return the exit code.

    :param values: whether results are shown
    :param trace: whether a trace for Perfetto is written beside it
    """
    at = Path(path) if path else Path(f"{run.replace('/', '_')}.html")
    with runs_of(address, run) as runs:
        view = runs.get(run)
        try:
            view.report(at, values=values, trace=trace)
        except OSError as error:
            raise Refused(f"{at} cannot be written: {error.strerror}") from None
        except (ImportError, ValueError) as error:
            raise Refused(str(error)) from None
    files = [at, *([at.with_suffix(".perfetto-trace")] if trace else [])]
    if as_json:
        output.print_json({"files": [str(one) for one in files]})
    else:
        print("\n".join(map(str, files)), flush=True)
    return exits.DONE
