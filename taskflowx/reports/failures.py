"""Failures, each with what ran before it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from taskflowx import states
from taskflowx.reports import table, texts

if TYPE_CHECKING:
    from taskflowx.reports.calls import Call, Span
    from taskflowx.reports.facts import Atom, Facts
    from taskflowx.reports.table import Times
    from taskflowx.types.failure import Failure

#: so many failures are shown in full, and so many of the earlier attempts of one retry
MOST, MOST_EARLIER = 50, 20
#: of what ran before a failure so many atoms are named
MOST_BEFORE = 12
#: so many characters of a message and of a traceback are shown, from its end
_MESSAGE, _TRACEBACK = 4000, 12000
_DEEPEST = 10


def failures(facts: Facts, calls: Sequence[Call], span: Span | None, times: dict[str, Times]) -> str:
    """Return the failures of a run as HTML; "" when there are none."""
    failed = [(atom, atom.failure) for atom in facts.atoms if atom.failure is not None]
    retried = [atom for atom in facts.atoms if atom.earlier]
    known = {atom.name: atom for atom in facts.atoms}
    parts = [_one(atom, failure, facts, known, times) for atom, failure in failed[:MOST]]
    if len(failed) > MOST:
        parts.append(f"<p>{len(failed) - MOST:,} more have failed; the table of atoms names them.")
    parts += [_earlier(atom) for atom in retried[:MOST]]
    parts += [_calls(calls, span)] if span is not None else []
    return "\n".join(parts)


def _one(atom: Atom, failure: Failure, facts: Facts, known: dict[str, Atom], times: dict[str, Times]) -> str:
    return (
        f'<article class="failure"><h3>{texts.text(atom.name)} {table.state(atom.state)}</h3>'
        f"{_described(failure)}{_before(atom, facts, known, times)}</article>"
    )


def _described(failure: Failure) -> str:
    chain, cause = [], failure
    for _ in range(_DEEPEST):
        chain.append(_message(cause))
        following = cause.causes
        if not following:
            break
        cause = following[0]
    traceback = failure.traceback_str
    folded = (
        f"<details><summary>Traceback</summary><pre>{texts.text(traceback[-_TRACEBACK:])}</pre></details>"
        if traceback
        else ""
    )
    causes = "".join(f'<p class="cause">caused by {one}' for one in chain[1:])
    return f"<p>{chain[0]}{causes}{folded}"


def _message(failure: Failure) -> str:
    kind = next(iter(failure), "Failure").rpartition(".")[2]
    said = failure.exception_str
    said = said if len(said) <= _MESSAGE else f"{said[:_MESSAGE]}…"
    return f"<b>{texts.text(kind)}</b>{f': <span class=why>{texts.text(said)}</span>' if said else ''}"


def _before(atom: Atom, facts: Facts, known: dict[str, Atom], times: dict[str, Times]) -> str:
    """Return the atoms before one, nearest first."""
    if facts.links is None:
        return ""
    found: list[tuple[int, str]] = []
    seen, level, distance = {atom.name}, [atom.name], 0
    while level and len(found) <= MOST_BEFORE:
        distance += 1
        following = []
        for name in level:
            for earlier in facts.links.before(name):
                if earlier not in seen:
                    seen.add(earlier)
                    following.append(earlier)
                    found.append((distance, earlier))
                if len(found) > MOST_BEFORE:
                    break
        level = following
    if not found:
        return "<p>Nothing ran before it."
    items = []
    for far, name in found[:MOST_BEFORE]:
        other = known.get(name)
        took = f", {texts.duration(times[name].ran)}" if name in times else ""
        said = f" {table.state(other.state)}" if other is not None else ""
        items.append(f'<li value="{far}">{texts.name(name)}{said}{took}')
    more = "<p>Those further back are not shown." if len(found) > MOST_BEFORE else ""
    return f'<p>What ran before it, and how many steps back:<ol class="before">{"".join(items)}</ol>{more}'


def _earlier(atom: Atom) -> str:
    """Return the earlier attempts of a retry."""
    rows = [
        f"<li>attempt {number}: {texts.name(name)}: {_short(failure)}"
        for number, name, failure in atom.earlier[-MOST_EARLIER:]
    ]
    more = len(atom.earlier) - len(rows)
    note = f"<p>{more:,} before these are not shown." if more > 0 else ""
    return f"<article><h3>Attempts of {texts.text(atom.name)} that failed</h3>{note}<ul>{''.join(rows)}</ul></article>"


def _calls(calls: Sequence[Call], span: Span) -> str:
    """Return all calls that failed, where some of them were made again."""
    failed = [call for call in calls if call.failed]
    names = {(call.atom, call.reverts) for call in failed}
    if len(names) == len(failed):
        return ""
    rows = [
        f"<li>{'revert of ' if call.reverts else ''}{texts.name(call.atom)}, attempt {call.attempt}, after "
        f"{texts.duration(call.ended - span.start)}: {texts.text(call.failure or 'failure')}"
        for call in failed[:MOST]
    ]
    more = f"<p>And {len(failed) - MOST:,} more." if len(failed) > MOST else ""
    return f"<article><h3>Calls that failed, in their order</h3><ol>{''.join(rows)}</ol>{more}</article>"


def _short(failure: Failure) -> str:
    kind = next(iter(failure), "Failure").rpartition(".")[2]
    return f"<b>{texts.text(kind)}</b>: {texts.line(failure.exception_str)}"


def first_lines(atoms: Sequence[Atom]) -> str:
    """Return the first failure, and the first one of a revert, each as a sentence of HTML; "" when there is none."""
    said = []
    for reverts in (False, True):
        for atom in atoms:
            if atom.failure is not None and (atom.state == states.REVERT_FAILURE) == reverts:
                what = f"The revert of {texts.name(atom.name)}" if reverts else texts.name(atom.name)
                said.append(f"{what} failed: {_short(atom.failure)}.")
                break
    return " ".join(said)
