"""Draws runs in a terminal, with Rich: lists, trees, bars along the time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.console import Console, Group
from rich.live import Live
from rich.table import Table
from rich.text import Text
from rich.tree import Tree

from taskflowx import states
from taskflowx.pictures import model, wording

__all__ = ["Group", "Text", "bars", "clock_text", "history_lines", "live", "state_text", "table", "tree"]

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from taskflowx.cli.facts import Span

_STYLES = {
    states.SUCCESS: "green",
    states.FAILURE: "bold red",
    states.REVERT_FAILURE: "bold red",
    states.REVERTED: "yellow",
    states.REVERTING: "yellow",
    states.RUNNING: "cyan",
    states.RETRYING: "cyan",
    states.SUSPENDED: "magenta",
}
#: the flows around an atom, the outer before the inner: name, and a number that tells those of one name apart
Branches = tuple[tuple[str, int], ...]

_ENGINES_THREAD = "MainThread"
_LEAST_COLUMNS = 3
_LEAST_BAR, _MOST_BAR = 8, 100


def live(console: Console) -> Live:
    """Return a display on a terminal that is drawn again in its place on request."""
    return Live(console=console, auto_refresh=False)


def state_text(state: str) -> Text:
    """Return a state with its sign, in its colour."""
    return Text(f"{model.SIGNS.get(state, '?')} {wording.one_line(state)}", _STYLES.get(state, ""))


def table(heads: Sequence[str], rows: Iterable[Sequence[str | Text]], width: int) -> Table:
    """Return rows below their heads, without lines between them.

    In a narrow terminal the last columns are not shown, and the first one, which is to be copied, is folded.

    :param width: that of the terminal
    """
    cells = [[Text(wording.one_line(one)) if isinstance(one, str) else one for one in row] for row in rows]
    widths = [max(len(head), *(row[place].cell_len for row in cells)) for place, head in enumerate(heads)]
    shown = len(heads)
    while shown > _LEAST_COLUMNS and sum(widths[:shown]) + 2 * (shown - 1) > width:
        shown -= 1
    made = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for place, head in enumerate(heads[:shown]):
        made.add_column(head, overflow="fold", no_wrap=place > 0)
    for row in cells:
        made.add_row(*row[:shown])
    return made


def tree(facts: Mapping[str, Any], branches_of: Mapping[str, Branches]) -> Tree:
    """Return a run as a tree: its flows and atoms, what has failed in them, and what led to that.

    :param facts: the run as `facts.of_view` gives it
    :param branches_of: name of an atom -> the flows around it
    """
    title = Text(wording.one_line(facts["run"]), "bold")
    title.append(f"  {wording.one_line(facts['flow'])}  ", "not bold")
    title.append_text(state_text(facts["state"]))
    if facts["owner"]:
        title.append(f"  run by {wording.one_line(facts['owner'])}", "not bold")
    root = Tree(title, guide_style="dim")
    failures = {one["atom"]: one for one in facts["failures"]}
    branches: dict[Branches, Tree] = {(): root}
    for atom in facts["atoms"]:
        around = branches_of.get(atom["name"], ())
        for depth, (name, _) in enumerate(around):
            if around[: depth + 1] not in branches:
                branches[around[: depth + 1]] = branches[around[:depth]].add(Text(wording.one_line(name), "bold"))
        label = Text(f"{model.SIGNS.get(atom['state'], '?')} ", _STYLES.get(atom["state"], ""))
        label.append(wording.one_line(atom["name"]), "bold")
        label.append(f"  {atom['state']}", _STYLES.get(atom["state"], "dim"))
        for word in _words(atom):
            label.append(f"  {word}", "dim")
        branch = branches[around].add(label)
        failure = failures.get(atom["name"])
        if failure is not None:
            below = branch.add(Text(_failure(failure), "red"))
            for cause in failure["led_to_by"]:
                below = below.add(Text(f"led to by {_failure(cause)}"))
    return root


def _failure(failure: dict[str, Any]) -> str:
    return wording.one_line(f"{failure['type']}: {failure['message']}".removesuffix(": "))


def _words(atom: dict[str, Any]) -> Iterable[str]:
    """Iterate over what is said of an atom after its state."""
    if atom["seconds"] is not None:
        yield wording.duration(atom["seconds"])
    if (atom["attempts"] or 0) > 1:
        yield f"{atom['attempts']} attempts"
    if atom["progress"] is not None and atom["state"] == states.RUNNING:
        yield f"{100 * atom['progress']:.0f} %"
    if atom["wake"] is not None:
        yield f"waits until {clock_text(atom['wake'])}"
    if atom["unknown"]:
        yield "nobody knows whether it has had its effect"
    if atom["worker"] not in (None, _ENGINES_THREAD):
        yield wording.one_line(atom["worker"])


def bars(spans: Sequence[Span], width: int) -> Table:
    """Return when each call was made, as bars: waiting is dotted, running is solid.

    :param spans: the calls, in order
    :param width: that of the terminal
    """
    made = Table(box=None, pad_edge=False, show_header=False, show_edge=False)
    room = max(_LEAST_BAR, min(_MOST_BAR, width // 2))
    made.add_column(no_wrap=True, overflow="ellipsis", max_width=max(_LEAST_BAR, width - room - 12))
    made.add_column(no_wrap=True, min_width=room, max_width=room)
    made.add_column(no_wrap=True, justify="right")
    begin = min(span.queued for span in spans)
    whole = max(max(span.ended for span in spans) - begin, 1e-9)
    for span in spans:
        at, start, end = ((moment - begin) / whole * room for moment in (span.queued, span.began, span.ended))
        first, last = min(int(start), room - 1), min(room, max(int(start) + 1, round(end)))
        bar = Text(" " * min(int(at), first))
        bar.append("·" * (first - min(int(at), first)), "dim")
        bar.append("█" * (last - first), _STYLES.get(span.state, ""))
        name = wording.one_line(span.name)
        made.add_row(f"↶ {name}" if span.reverts else name, bar, wording.duration(span.ended - span.began))
    return made


def clock_text(moment: str | None) -> str:
    """Return a time for people, in UTC.

    :param moment: as ISO 8601 has it
    """
    return "" if moment is None else moment[:19].replace("T", " ")


def history_lines(entries: Iterable[dict[str, Any]]) -> Iterator[Text]:
    """Iterate over the lines of a history, with a line for each day.

    :param entries: as `facts.of_entry` gives them
    """
    day = ""
    for entry in entries:
        today, time = entry["at"][:10], entry["at"][11:23]
        if today != day:
            yield Text(today, "bold")
            day = today
        line = Text(f"{time}  ", "dim")
        line.append("(the flow)" if entry["atom"] is None else wording.one_line(entry["atom"]), "bold")
        line.append(f"  {entry['old']} → " if entry["old"] else "  → ").append_text(state_text(entry["new"]))
        more = [f"attempt {entry['attempt']}"] if entry["attempt"] > 1 else []
        more += [wording.one_line(one) for one in (entry["failure"], entry["worker"]) if one and one != _ENGINES_THREAD]
        yield line.append("".join(f"  {one}" for one in more), "dim")
