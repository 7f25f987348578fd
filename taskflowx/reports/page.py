"""The page of a report: all of its parts, in one HTML document that asks for nothing else.

A policy in its head lets the browser run the one script that is in it, and load nothing. Headings are links' targets.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import importlib.resources
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskflowx import states
from taskflowx.pictures import model, wording
from taskflowx.reports import calls as histories, facts as known, failures, table, texts, timeline

if TYPE_CHECKING:
    from taskflowx.persistence.history import Entry
    from taskflowx.reports.calls import Call, Span
    from taskflowx.reports.facts import Facts

#: what the history in a page is called, for programs that read it
HISTORY_FORMAT = "taskflowx-history-1"
#: a picture with more boxes is folded away, and longer lists of names and steps are shown in part
LARGE_PICTURE, MOST_NAMES, MOST_STEPS, MOST_UNDONE = 60, 200, 100, 1000
#: parts that a browser need not lay out before they are seen, where there are more atoms than this
LARGE_TABLE, _LONG = 500, frozenset(("atoms-table", "raw-history"))
_AT_REST = frozenset((states.SUCCESS, states.FAILURE, states.REVERTED, states.SUSPENDED))


@functools.cache
def _part(name: str) -> str:
    """Return a file of this package."""
    return importlib.resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


def page(facts: Facts) -> str:
    """Return the report of a run as HTML."""
    entries = facts.entries or ()
    span = histories.span_of(entries) if entries else None
    calls = histories.calls_of(entries)
    times = table.times_of(calls, span)
    sections = [
        ("not-undone", "Not undone", _not_undone(facts)),
        ("failures", "Failures", failures.failures(facts, calls, span, times)),
        ("by-hand", "Done by hand", _by_hand(facts)),
        ("timeline", "Timeline", _timeline(facts, calls, span)),
        ("critical-path", "Critical path", _critical_path(facts, calls, span)),
        ("rollback", "Rollback", _rollback(facts, calls, span)),
        ("graph", "Graph", _graph(facts)),
        ("atoms-table", "Atoms", _atoms(facts, calls, span)),
        ("raw-history", "History", _history(facts)),
    ]
    there = [(key, title, content) for key, title, content in sections if content]
    links = "".join(f'<li><a href="#{key}">{title}</a>' for key, title, _ in there)
    large = _LONG if len(facts.atoms) > LARGE_TABLE else frozenset[str]()
    body = "\n".join(_section(key, title, content, large) for key, title, content in there)
    script = _part("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'; "
        "form-action 'none'"
    )
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<meta name="robots" content="noindex">\n'
        f"<title>{texts.line(facts.title)}: {texts.text(facts.state)}</title>\n<style>\n{_part('page.css')}</style>\n"
        f'</head>\n<body>\n{_top(facts, calls, span)}\n<nav aria-label="Parts"><ul>{links}</ul></nav>\n'
        f"<main>\n{body}\n</main>\n{_foot(facts)}\n<script>{script}</script>\n</body>\n</html>\n"
    )


def _section(key: str, title: str, content: str, large: frozenset[str]) -> str:
    kind = ' class="large"' if key in large else ""
    return f'<section id="{key}"{kind} aria-labelledby="{key}-h"><h2 id="{key}-h">{title}</h2>\n{content}\n</section>'


# -- the outcome -----------------------------------------------------------------------------------


def _top(facts: Facts, calls: Sequence[Call], span: Span | None) -> str:
    named = f"<p>A run of the flow {texts.name(facts.flow)}." if facts.run_id is not None else ""
    rows = [(title, value) for title, value in _numbers(facts, calls, span) if value]
    listed = "".join(f"<div><dt>{title}<dd>{value}</div>" for title, value in rows)
    return (
        f'<header><p class="state s-{texts.text(facts.state)}">{texts.text(wording.state(facts.state))}</p>'
        f'<h1>{texts.text(facts.title)}</h1>{named}\n<p class="outcome">{_outcome(facts)}\n<dl>{listed}</dl></header>'
    )


def _outcome(facts: Facts) -> str:
    """Say how the run ended, and why."""
    by_state = Counter(atom.state for atom in facts.atoms)
    why = f"It was cancelled: {texts.line(facts.cancelled)}." if facts.cancelled is not None else ""
    why = why or failures.first_lines(facts.atoms)
    total = texts.counted(len(facts.atoms), "atom")
    if facts.state == states.SUCCESS:
        ran, skipped = by_state[states.SUCCESS], by_state[states.IGNORE]
        if not skipped:
            return f"All {total} succeeded." if len(facts.atoms) > 1 else "Its only atom succeeded."
        return f"{ran:,} of {total} succeeded; a decider skipped the other{'s' if skipped > 1 else ''}."
    if facts.state == states.REVERTED:
        undone = "All that had run was undone."
        if facts.not_undone:
            undone = f"It was undone, but for {texts.counted(len(facts.not_undone), 'atom')}, named below."
        return f"{why} {undone}".strip()
    if facts.state == states.FAILURE:
        standing = texts.counted(len(facts.not_undone), "atom still stands", "atoms still stand")
        return f"{why} It is not fully undone: {standing}.".strip()
    waiting = [atom for atom in facts.atoms if atom.note]
    notes = "".join(f" {texts.name(atom.name)} {texts.line(atom.note)}." for atom in waiting[:5])
    done = f"{by_state[states.SUCCESS]:,} of {total} have succeeded, {by_state[states.PENDING]:,} have not run."
    if facts.state == states.SUSPENDED:
        return f"{why} It is suspended, and can be run on: {done}{notes}".strip()
    owner = f" {texts.line(facts.owner)} runs it." if facts.owner else ""
    return f"{why} It had not ended when this was written: {done}{owner}{notes}".strip()


def _numbers(facts: Facts, calls: Sequence[Call], span: Span | None) -> list[tuple[str, str]]:
    by_state = Counter(atom.state for atom in facts.atoms)
    counts = ", ".join(f"{by_state[name]:,} {table.state(name)}" for name in model.SIGNS if by_state[name])
    rows = [("Atoms", counts)]
    if span is not None:
        ended = "Ended" if facts.state in _AT_REST else "Last entry"
        rows += [("Began", known.clock_time(span.start)), (ended, known.clock_time(span.end))]
        rows.append(("From begin to end", texts.duration(span.seconds)))
    if calls:
        repeated = sum(call.attempt > 1 and not call.reverts for call in calls)
        rows.append(("Calls", f"{len(calls):,}{f', of which {repeated:,} were further attempts' if repeated else ''}"))
        rows.append(("Time in calls", texts.duration(sum(call.ran for call in calls))))
        waited = sum(call.waited for call in calls)
        rows.append(("Time waited for workers", texts.duration(waited) if waited > 0 else ""))
    return rows


# -- lists -----------------------------------------------------------------------------------------


def _not_undone(facts: Facts) -> str:
    """Name the atoms whose effects stand although they should not."""
    if facts.state not in (states.FAILURE, states.REVERTED) or not facts.not_undone:
        return ""
    return f'<div class="alarm"><p>These have run, and were not reverted:{_names(facts.not_undone)}</div>'


def _names(names: Sequence[str]) -> str:
    items = "".join(f"<li>{texts.name(one)}" for one in names[:MOST_NAMES])
    more = f"<p>And {len(names) - MOST_NAMES:,} more." if len(names) > MOST_NAMES else ""
    return f'<ul class="names">{items}</ul>{more}'


def _by_hand(facts: Facts) -> str:
    if not facts.by_hand:
        return ""
    deeds = facts.by_hand
    columns = [
        ("when", "t", [known.clock_time(deed.when) for deed in deeds]),
        ("what", "t", [deed.what for deed in deeds]),
        ("atom", "name", [deed.name or "" for deed in deeds]),
        ("who", "t", [deed.who for deed in deeds]),
        ("reason", "name", [deed.reason or "" for deed in deeds]),
    ]
    return _grid("Done by hand", columns)


def _grid(label: str, columns: Sequence[tuple[str, str, Sequence[str]]]) -> str:
    """Return a small table. A column in which there is nothing, or nothing but zeros, is not there.

    :param columns: of each its heading, its class ('n' for numbers, 'name' for names, 't'), and its cells
    """
    shown = [one for one in columns if any(cell not in ("", "0") for cell in one[2])]
    head = "".join(f'<th scope="col" class="{kind}">{heading}' for heading, kind, _ in shown)
    cells = [[f'<td class="{kind}">{texts.text(cell)}' for cell in column] for _, kind, column in shown]
    body = "\n".join("<tr>" + "".join(row) for row in zip(*cells, strict=True))
    return (
        f'<div class="scroll" role="region" aria-label="{label}" tabindex="0"><table><thead><tr>{head}</thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


# -- times -----------------------------------------------------------------------------------------

_NO_HISTORY = (
    "<p>No history of this run was kept, so nothing is known about times and workers. "
    "An engine that is made with <code>history=True</code> keeps one."
)


def _timeline(facts: Facts, calls: Sequence[Call], span: Span | None) -> str:
    if span is None:
        return _NO_HISTORY if facts.entries is None else "<p>Nothing has run yet."
    if not calls:
        return "<p>No atom has been called."
    return timeline.timeline(calls, span)


def _critical_path(facts: Facts, calls: Sequence[Call], span: Span | None) -> str:
    if span is None or not calls:
        return ""
    if facts.links is None:
        return "<p>The links of the flow are not on record, so it is not known what waited for what."
    path = histories.critical_path(calls, facts.links)
    shown, about = path, ""
    if len(path) > MOST_STEPS:
        longest = sorted(range(len(path)), key=lambda i: path[i].ended - path[i].queued)[-MOST_STEPS:]
        shown = [path[i] for i in sorted(longest)]
        about = f"<p>It has {len(path):,} steps; the longest {MOST_STEPS} are shown."
    columns = [
        ("call", "name", [("revert of " if call.reverts else "") + call.atom for call in shown]),
        ("worker", "t", [call.worker for call in shown]),
        *_timed(shown, span),
        ("share", "n", [f"{call.ran / span.seconds:.0%}" if span.seconds else "" for call in shown]),
    ]
    ran = sum(call.ran for call in path)
    share = f", {ran / span.seconds:.0%} of the time from begin to end" if span.seconds else ""
    return (
        f"<p>The end of the run waited for these calls, one after another. They ran for {texts.duration(ran)}{share}."
        f"{about}{_grid('Critical path', columns)}"
    )


def _timed(calls: Sequence[Call], span: Span) -> list[tuple[str, str, list[str]]]:
    return [
        ("began, s", "n", [texts.seconds(call.began - span.start) for call in calls]),
        ("waited, s", "n", [texts.seconds(call.waited) for call in calls]),
        ("ran, s", "n", [texts.seconds(call.ran) for call in calls]),
    ]


def _rollback(facts: Facts, calls: Sequence[Call], span: Span | None) -> str:
    """Return what was reverted, in the order in which it was."""
    reverts = [call for call in calls if call.reverts]
    if reverts and span is not None:
        shown = reverts[:MOST_UNDONE]
        outcomes = (call.outcome for call in shown)
        columns = [
            ("order", "n", [f"{number:,}" for number in range(1, len(shown) + 1)]),
            ("atom", "name", [call.atom for call in shown]),
            ("outcome", "t", [wording.state(one) if one in model.SIGNS else one.lower() for one in outcomes]),
            ("failure", "name", [call.failure or "" for call in shown]),
            *_timed(shown, span),
        ]
        more = len(reverts) - len(shown)
        note = f"<p>{more:,} more are not shown." if more else ""
        return _grid("Rollback", columns) + note
    undone = [atom.name for atom in facts.atoms if atom.state in (states.REVERTED, states.REVERT_FAILURE)]
    if not undone:
        return ""
    return f"<p>The order is not on record. These were reverted:{_names(undone)}"


# -- the whole -------------------------------------------------------------------------------------


def _graph(facts: Facts) -> str:
    if facts.picture is None:
        return "<p>It is not known, or too large to be drawn without its flow. A report of its engine has the graph."
    drawn = facts.picture.svg
    boxes = drawn.count("data-id=")
    frame = f'<div class="scroll" role="region" aria-label="Graph" tabindex="0">{drawn}</div>'
    if boxes <= LARGE_PICTURE:
        return frame
    return f"<details><summary>{texts.counted(boxes, 'box', 'boxes')}</summary>{frame}</details>"


def _atoms(facts: Facts, calls: Sequence[Call], span: Span | None) -> str:
    if not facts.atoms:
        return ""
    about = ""
    if calls:
        about = (
            "<p>“began” is the last call of <code>execute</code>, in seconds after the run began; the other times are "
            "those of all calls."
        )
    options = "".join(f"<option>{texts.text(name)}" for name in sorted({atom.state for atom in facts.atoms}))
    tools = (
        '<form class="tools" hidden><label>Find <input type="search" id="find" autocomplete="off"></label>'
        f'<label>State <select id="in-state"><option value="">any{options}</select></label>'
        '<output id="count"></output></form>'
    )
    return f"{about}{tools}{table.table(facts, calls, span)}"


def _history(facts: Facts) -> str:
    if not facts.entries:
        return ""
    return (
        "<p>Each transition, as JSON: "
        "<code>[µs after start, atom, attempt, from, to, began (µs), worker, failure]</code>, where names are numbers "
        'of the lists before them.<button type="button" id="save" hidden>Save it in full</button>'
        f"<details><summary>{texts.counted(len(facts.entries), 'entry', 'entries')}</summary>"
        f'<pre id="history">{history_json(facts)}</pre></details>'
    )


def history_json(facts: Facts) -> str:
    """Return the history as compact JSON, one entry a line; `writing.history_of` reads it."""
    entries: Sequence[Entry] = facts.entries or ()
    lists: dict[str, dict[str, int]] = {"names": {}, "states": {}, "workers": {}, "failures": {}}

    def number(kind: str, value: str | None) -> int | None:
        return None if value is None else lists[kind].setdefault(value, len(lists[kind]))

    start = int(min(one.at for one in entries)) if entries else 0
    lines = []
    for one in entries:
        row = [
            round((one.at - start) * 1e6),
            number("names", one.atom),
            one.attempt,
            number("states", one.old),
            number("states", one.new),
            None if one.began is None else round((one.began - start) * 1e6),
            number("workers", one.worker),
            number("failures", one.failure),
        ]
        while row[-1] is None:
            row.pop()
        lines.append(texts.as_json(row))
    head: dict[str, Any] = {
        "format": HISTORY_FORMAT,
        "run": facts.run_id,
        "flow": facts.flow,
        "start": start,
        "first": entries[0].number if entries else 1,
        **{kind: list(values) for kind, values in lists.items()},
    }
    body = ",\n".join(lines)
    return f'{texts.as_json(head)[:-1]},\n"entries":[\n{body}\n]}}'


def _foot(facts: Facts) -> str:
    shown = "Results are shown, shortened." if facts.values else "Results are not shown, but their types and sizes."
    return (
        f"<footer><p>Written {known.clock_time(facts.made_at)} by taskflowx. {shown} "
        "Messages of exceptions are shown as they are.</footer>"
    )
