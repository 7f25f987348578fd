"""The table of atoms. A column in which nothing is known is not there."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from taskflowx import states
from taskflowx.pictures import model, wording
from taskflowx.reports import texts

if TYPE_CHECKING:
    from taskflowx.reports.calls import Call, Span
    from taskflowx.reports.facts import Atom, Facts

#: the most characters of a failure in its cell; the section of failures has it in full
_WHY = 120
#: the attribute of a cell in each state; the usual one needs none
_CLASSES = {name: f' class="s-{name}"' for name in model.SIGNS if name != states.SUCCESS}
#: what the names of our own workers begin with
_OURS = "taskflowx-"


class Times(NamedTuple):
    """What the history says of one atom.

    When its last execute began, in seconds after the run did, as which attempt and where; and how long all of its calls
    waited and ran.
    """

    began: float
    attempt: int
    worker: str
    waited: float
    ran: float


class Column(NamedTuple):
    """A column: its heading, its kind ('t' for text, 'n' for a number), and what is in it."""

    heading: str
    kind: str
    cell: Callable[[Atom], str]


def times_of(calls: Sequence[Call], span: Span | None) -> dict[str, Times]:
    """Return what a history says of each atom that was called."""
    each: dict[str, list[Call]] = defaultdict(list)
    for call in calls:
        each[call.atom].append(call)
    start = span.start if span is not None else 0.0
    found = {}
    for atom, own in each.items():
        last = next((call for call in reversed(own) if not call.reverts), own[-1])
        found[atom] = Times(
            last.began - start,
            last.attempt,
            last.worker,
            sum(call.waited for call in own),
            sum(call.ran for call in own),
        )
    return found


def columns_of(facts: Facts, times: dict[str, Times]) -> list[Column]:
    """Return the columns, each of which says something."""

    def timed(part: Callable[[Times], str]) -> Callable[[Atom], str]:
        return lambda atom: part(times[atom.name]) if atom.name in times else ""

    def took(atom: Atom) -> str:
        if atom.name in times:
            return texts.seconds(times[atom.name].ran)
        return "" if atom.seconds is None else texts.seconds(atom.seconds)

    def attempts(atom: Atom) -> str:
        number = max(atom.attempts, times[atom.name].attempt if atom.name in times else 0)
        return str(number) if number else ""

    several = len({atom.flow for atom in facts.atoms}) > 1
    possible = [
        Column("flow", "t", lambda atom: texts.text(atom.flow) if several else ""),
        Column("attempts", "n", attempts),
        Column("began, s", "n", timed(lambda row: texts.seconds(row.began))),
        Column("waited, s", "n", timed(lambda row: texts.seconds(row.waited))),
        Column("ran, s", "n", took),
        Column("worker", "t", timed(lambda row: texts.text(row.worker.removeprefix(_OURS)))),
        Column("result", "t", lambda atom: texts.text(atom.result)),
        Column("note", "t", why),
    ]
    usual = {"attempts": ("", "1"), "waited, s": ("", "0")}
    return [
        column
        for column in possible
        if any(column.cell(atom) not in usual.get(column.heading, ("",)) for atom in facts.atoms)
    ]


def why(atom: Atom) -> str:
    """Return the failure of an atom, or what it waits for."""
    parts = [atom.note] if atom.note else []
    if atom.failure is not None:
        parts.append(wording.failure_line(atom.failure))
    return texts.line("; ".join(parts), _WHY) if parts else ""


def table(facts: Facts, calls: Sequence[Call], span: Span | None) -> str:
    """Return the table as HTML.

    What HTML does not need is not written, as a large table is most of a report: ends of rows and cells, what kind of
    heading begins a row, and the class of each number.
    """
    columns = columns_of(facts, times_of(calls, span))
    heads = [Column("name", "t", lambda _: ""), Column("state", "t", lambda _: ""), *columns]
    head = "".join(f'<th scope="col" class="{column.kind}">{column.heading}' for column in heads)
    numbers = ",".join(f"#atoms td:nth-child({place})" for place, one in enumerate(heads, 1) if one.kind == "n")
    style = f"<style>{numbers}{{text-align:right;font-variant-numeric:tabular-nums}}</style>" if numbers else ""
    body = "\n".join(
        f"<tr><th>{texts.text(atom.name)}<td{_CLASSES.get(atom.state, '')}>{texts.text(atom.state)}"
        f"{''.join([f'<td>{column.cell(atom)}' for column in columns])}"
        for atom in facts.atoms
    )
    return (
        f"{style}"
        '<div class="scroll" role="region" aria-label="Atoms" tabindex="0"><table id="atoms">'
        f"<thead><tr>{head}</thead>\n<tbody>\n{body}\n</tbody></table></div>"
    )


def state(value: str) -> str:
    """Return a state with its sign, as HTML."""
    kind = f' class="s-{value}"' if value in model.SIGNS else ""
    return f"<span{kind}>{texts.text(wording.state(value))}</span>"
