"""The calls of a run as TrackEvents, in the form that Perfetto's trace processor and ui.perfetto.dev read.

Each worker has one track, or as many as it has calls at once; below them are the waits for workers. Arrows go from each
call to those that came after it, counters say what ran and what waited. The messages are those of the package
`perfetto`, which is imported when a trace is written.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from taskflowx.reports import calls as histories

if TYPE_CHECKING:
    from taskflowx.reports.calls import Call
    from taskflowx.reports.facts import Facts

#: all packets are of one writer
_SEQUENCE = 1
_NS = 1_000_000_000
#: where all of many calls come after all of many others, the first arrows are drawn
_MOST_ARROWS = 50_000


def trace(facts: Facts) -> bytes:
    """Return the trace of a run with a history.

    :raises ImportError: when the package `perfetto` is not installed
    """
    try:
        from perfetto.protos.perfetto.trace import perfetto_trace_pb2 as protos
    except ImportError as error:
        msg = 'trace=True needs the package perfetto: pip install "taskflowx[perfetto]"'
        raise ImportError(msg, name=error.name) from error
    return _Writer(protos, facts).trace()


class _Writer:
    """Writes one trace.

    :param protos: the module of Perfetto's messages
    """

    def __init__(self, protos: Any, facts: Facts) -> None:
        self._event = protos.TrackEvent
        self._trace = protos.Trace()
        self._facts = facts
        self._tracks = itertools.count(2)
        self._links = itertools.count(1)
        #: the timed packets, each as (time, rank in that moment, number, event)
        self._timed: list[tuple[int, int, int, Any]] = []

    def trace(self) -> bytes:
        facts = self._facts
        calls = histories.calls_of(facts.entries or ())
        first = self._packet()
        first.sequence_flags = 1  # SEQ_INCREMENTAL_STATE_CLEARED
        first.track_descriptor.uuid = 1
        first.track_descriptor.process.pid = 1
        first.track_descriptor.process.process_name = _utf8(facts.title)
        first.track_descriptor.child_ordering = first.track_descriptor.EXPLICIT
        arrows = self._arrows(calls)
        for worker, own in histories.by_worker(calls).items():
            self._draw(worker or "worker not known", own, arrows)
        for worker, own in histories.by_worker(calls).items():
            self._draw_waits(worker or "a worker that is not known", own)
        self._count("running", [(call.began, call.ended) for call in calls])
        self._count("waiting for workers", [(call.queued, call.began) for call in calls if call.waited > 0])
        self._timed.sort(key=lambda one: one[:3])
        for at, _, _, event in self._timed:
            packet = self._packet()
            packet.timestamp = at
            packet.track_event.CopyFrom(event)
        return bytes(self._trace.SerializeToString())

    def _packet(self) -> Any:
        packet = self._trace.packet.add()
        packet.trusted_packet_sequence_id = _SEQUENCE
        return packet

    def _track(self, name: str) -> int:
        packet = self._packet()
        described = packet.track_descriptor
        described.uuid = next(self._tracks)
        described.parent_uuid = 1
        described.name = _utf8(name)
        described.sibling_order_rank = described.uuid
        return int(described.uuid)

    def _arrows(self, calls: Sequence[Call]) -> dict[int, tuple[list[int], list[int]]]:
        """Return for each call the numbers of the arrows that begin at it, and that end at it."""
        arrows: dict[int, tuple[list[int], list[int]]] = defaultdict(lambda: ([], []))
        links = self._facts.links
        if links is None:
            return arrows
        last: dict[str, Call] = {}
        for call in calls:
            if not call.reverts:
                for name in links.before(call.atom):
                    if name in last:
                        number = next(self._links)
                        if number > _MOST_ARROWS:
                            return arrows
                        arrows[id(last[name])][0].append(number)
                        arrows[id(call)][1].append(number)
                last[call.atom] = call
        return arrows

    def _draw(self, worker: str, own: Sequence[Call], arrows: dict[int, tuple[list[int], list[int]]]) -> None:
        own = sorted(own, key=lambda call: (call.began, call.ended))
        rows = histories.rows_of([(call.began, call.ended) for call in own])
        tracks = [self._track(worker) for _ in range(max(rows) + 1)]
        for call, row in zip(own, rows, strict=True):
            begin = self._slice(tracks[row], call.began, call.ended, self._name(call))
            begin.categories.append("revert" if call.reverts else "execute")
            out, into = arrows.get(id(call), ((), ()))
            begin.flow_ids.extend(out)
            begin.terminating_flow_ids.extend(into)
            facts = {"outcome": call.outcome, "failure": call.failure, "attempt": call.attempt}
            for name, value in {**facts, "waited_ms": call.waited * 1e3}.items():
                if value is None:
                    continue
                said = begin.debug_annotations.add()
                said.name = name
                if isinstance(value, str):
                    said.string_value = _utf8(value)
                elif isinstance(value, int):
                    said.int_value = value
                else:
                    said.double_value = value

    def _draw_waits(self, worker: str, own: Sequence[Call]) -> None:
        waiting = [call for call in own if call.waited > 0]
        if not waiting:
            return
        rows = histories.rows_of([(call.queued, call.began) for call in waiting])
        tracks = [self._track(f"waiting for {worker}") for _ in range(max(rows) + 1)]
        for call, row in zip(waiting, rows, strict=True):
            self._slice(tracks[row], call.queued, call.began, self._name(call)).categories.append("wait")

    def _name(self, call: Call) -> str:
        return _utf8(f"revert of {call.atom}" if call.reverts else call.atom)

    def _slice(self, track: int, start: float, stop: float, name: str) -> Any:
        begin, end = self._event(), self._event()
        begin.type, end.type = self._event.TYPE_SLICE_BEGIN, self._event.TYPE_SLICE_END
        begin.track_uuid = end.track_uuid = track
        begin.name = name
        begins, ends = round(start * _NS), round(stop * _NS)
        # In one moment what has begun before ends first, then come slices of no length, one after another.
        ranks = (1, 1) if begins == ends else (2, 0)
        for at, rank, event in zip((begins, ends), ranks, (begin, end), strict=True):
            self._timed.append((at, rank, len(self._timed), event))
        return begin

    def _count(self, name: str, intervals: Sequence[tuple[float, float]]) -> None:
        if not intervals:
            return
        packet = self._packet()
        described = packet.track_descriptor
        described.uuid = track = next(self._tracks)
        described.parent_uuid = 1
        described.name = name
        described.counter.SetInParent()
        changes: dict[int, int] = defaultdict(int)
        for start, stop in intervals:
            changes[round(start * _NS)] += 1
            changes[round(stop * _NS)] -= 1
        value = 0
        for at in sorted(changes):
            value += changes[at]
            event = self._event()
            event.type, event.track_uuid, event.counter_value = self._event.TYPE_COUNTER, track, value
            self._timed.append((at, 3, len(self._timed), event))


def _utf8(text: str) -> str:
    """Return text that UTF-8 can hold."""
    return text.encode("utf-8", "replace").decode("utf-8")
