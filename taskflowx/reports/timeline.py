"""The calls of a run by worker: a lane for each, in which what runs is above, and what waits for it below.

Few calls are drawn one by one, with their names as tips; many are joined where they are closer than can be seen, so the
size of the drawing is bounded by the lanes.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from taskflowx import states
from taskflowx.reports import calls as histories, texts

if TYPE_CHECKING:
    from taskflowx.reports.calls import Call, Span

#: the width of a lane, in its own units
WIDE = 2000
#: a bar is at least so wide, and neighbours are so far apart
LEAST, APART = 3, 2
#: how high a row of a lane is, and the strip of what waits
ROW, STRIP, GAP = 16, 6, 3
#: so many calls are drawn one by one; so many lanes, and rows of one lane, are shown
ONE_BY_ONE, MOST_LANES, MOST_ROWS = 1500, 48, 12
_TICKS = 4
_KINDS = {
    states.FAILURE: "bad",
    states.REVERT_FAILURE: "bad",
    states.REVERTED: "undo",
    states.REVERTING: "undo",
    histories.OPEN: "open",
    histories.INTERRUPTED: "open",
}


def timeline(calls: Sequence[Call], span: Span) -> str:
    """Return the lanes, the axis and the legend as HTML."""
    lanes = histories.by_worker(calls)
    shown = dict(sorted(lanes.items(), key=lambda lane: -len(lane[1]))[:MOST_LANES])
    one_by_one = len(calls) <= ONE_BY_ONE
    whole = span.seconds or 1e-9
    parts = [_lane(worker, own, span.start, whole, one_by_one) for worker, own in lanes.items() if worker in shown]
    ticks = (texts.duration(whole * place / _TICKS) for place in range(1, _TICKS + 1))
    axis = "".join(f"<span>{tick}</span>" for tick in ("0", *ticks))
    more = len(lanes) - len(shown)
    note = f"<p>The {texts.counted(more, 'worker')} with the fewest calls {'is' if more == 1 else 'are'} not drawn."
    return (
        f'<div class="lanes">{"".join(parts)}</div><div class="axis" aria-hidden="true">{axis}</div>'
        f"{note if more > 0 else ''}{_legend(calls)}"
    )


def _legend(calls: Sequence[Call]) -> str:
    known = {_kind(call) for call in calls}
    words = {"ok": "ran", "bad": "failed", "undo": "reverted", "open": "not seen to end"}
    items = [f'<li><i class="{kind}"></i>{word}' for kind, word in words.items() if kind in known]
    items += ['<li><i class="wait"></i>waited for the worker'] if any(call.waited > 0 for call in calls) else []
    return f'<ul class="legend">{"".join(items)}</ul>'


def _kind(call: Call) -> str:
    return _KINDS.get(call.outcome, "ok")


def _lane(worker: str, own: Sequence[Call], start: float, whole: float, one_by_one: bool) -> str:
    def place(at: float) -> float:
        return (at - start) / whole * WIDE

    bars = sorted(((place(call.began), place(call.ended), call) for call in own), key=lambda bar: bar[:2])
    rows = [min(row, MOST_ROWS - 1) for row in histories.rows_of([(begin, max(end, begin)) for begin, end, _ in bars])]
    high = (max(rows) + 1) * ROW
    waits = [(place(call.queued), place(call.began)) for call in own if call.waited > 0]
    drawn = []
    if one_by_one:
        for (begin, end, call), row in zip(bars, rows, strict=True):
            width = end - begin - APART if end - begin > LEAST + APART else LEAST
            drawn.append(
                f'<rect class="{_kind(call)}" x="{begin:.0f}" y="{row * ROW}" width="{width:.0f}" '
                f'height="{ROW - 2}"><title>{_tip(call, start)}</title></rect>'
            )
    else:
        joined: dict[tuple[str, int], list[tuple[float, float]]] = defaultdict(list)
        for (begin, end, call), row in zip(bars, rows, strict=True):
            joined[_kind(call), row].append((begin, max(end, begin + LEAST)))
        for (kind, row), intervals in joined.items():
            drawn.append(f'<path class="{kind}" d="{_bars(intervals, row * ROW, ROW - 2)}"/>')
    if waits:
        drawn.append(f'<path class="wait" d="{_bars(waits, high + GAP, STRIP)}"/>')
    lower = high + (GAP + STRIP if waits else 0)
    busy = sum(stop - begin for begin, stop in histories.union((call.began, call.ended) for call in own))
    waited = sum(call.waited for call in own)
    about = [texts.counted(len(own), "call"), f"{busy / whole:.0%} busy"]
    about += [f"{texts.duration(waited)} waited"] if waited > 0 else []
    return (
        f'<div class="lane"><div class="who">{texts.text(worker) or "worker not known"}'
        f'<small>{" · ".join(about)}</small></div><svg viewBox="0 0 {WIDE} {lower}" preserveAspectRatio="none" '
        f'style="height:{lower}px" aria-hidden="true">{"".join(drawn)}</svg></div>'
    )


def _tip(call: Call, start: float) -> str:
    verb = "revert of " if call.reverts else ""
    parts = [
        f"{verb}{call.atom}: {call.outcome}",
        f"began after {texts.duration(call.began - start)}, ran {texts.duration(call.ran)}",
    ]
    parts += [f"waited {texts.duration(call.waited)}"] if call.waited > 0 else []
    parts += [f"attempt {call.attempt}"] if call.attempt > 1 else []
    return texts.text("\n".join([*parts, call.failure] if call.failure else parts))


def _bars(intervals: Iterable[tuple[float, float]], y: int, high: int) -> str:
    """Return the path of bars, those joined between which nothing could be seen."""
    path = []
    for begin, end in histories.union(intervals, apart=1.0):
        wide = max(round(end) - round(begin), 1)
        path.append(f"M{round(begin)} {y}h{wide}v{high}h-{wide}z")
    return "".join(path)
