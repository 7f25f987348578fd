"""A run as OpenTelemetry sees it: one tree of spans for each run, and metrics of its calls.

The ids of trace and spans are hashes of the id of the run, of the time of the first entry of its history and of what a
span is about. So every process that takes a run up goes on with the same tree, and a run that is made again under the
id of one that was deleted has a tree of its own. What must stay true: a span is made once its end is in the store, and
of no entry that was there when the listener was registered; so no span is sent twice, also when a run was killed and
goes on elsewhere. What a killed process has not sent is lost.
"""

from __future__ import annotations

import copy
import hashlib
from typing import TYPE_CHECKING, Any

try:
    from opentelemetry import metrics, trace
    from opentelemetry.sdk.trace.id_generator import IdGenerator
except ModuleNotFoundError as missing:
    if (missing.name or "").partition(".")[0] != "opentelemetry":
        raise
    missing.msg = 'OpenTelemetryListener needs opentelemetry-sdk\nInstall it with: pip install "taskflowx[otel]"'
    raise

from taskflowx import states
from taskflowx._util import arguments
from taskflowx.listeners import base
from taskflowx.persistence import figures

if TYPE_CHECKING:
    from opentelemetry.metrics import MeterProvider
    from opentelemetry.trace import TracerProvider

    from taskflowx.engines.base import Engine
    from taskflowx.persistence.history import Entry

_NAME = "taskflowx"
#: the attributes of spans that metrics have as well
_MEASURED = ("taskflowx.flow.name", "taskflowx.atom.name", "taskflowx.verb", "taskflowx.state", "error.type")
_ENDS = frozenset((*states.WITH_OUTCOME, *states.AT_REST, *states.CALLED))


def trace_id(run_id: str, began: float) -> int:
    """Return the id of the trace of a run.

    :param began: when the run began, in seconds since 1970: `at` of the first entry of its history
    """
    return _hash("trace", run_id, began)


def span_id(run_id: str, began: float, leg: int) -> int:
    """Return the id of the span of a leg: the part of a run from RUNNING to a state at rest, the first being 1."""
    return _hash("leg", run_id, began, leg) >> 64 or 1


def call_span_id(run_id: str, began: float, call: figures.Call) -> int:
    """Return the id of the span of a call."""
    return _hash("call", run_id, began, call.atom, call.verb, call.attempt, call.repeated) >> 64 or 1


def _hash(kind: str, run_id: str, began: float, *parts: Any) -> int:
    text = "\0".join(map(str, (kind, run_id, float(began), *parts)))
    return int.from_bytes(hashlib.sha256(text.encode(errors="replace")).digest()[:16]) or 1


class _Ids(IdGenerator):
    """Gives the ids that were put here."""

    trace_id = span_id = 1

    def generate_trace_id(self) -> int:
        return self.trace_id

    def generate_span_id(self) -> int:
        return self.span_id


class OpenTelemetryListener(base.UniformListener):
    """Sends a span for each call of an atom and each leg of a run, and measures durations.

    The spans of calls are children of that of their leg, and those of later legs are children of the first, with a link
    to the leg before. A call that is made again has a link to the call before.

    :param engine: an engine that keeps a history; of one that `load` has made for a finished run nothing is sent
    :param tracer_provider: one of the SDK; by default that of the program
    :param meter_provider: by default that of the program
    :raises ValueError: when the engine keeps no history
    :raises TypeError: when the provider of traces is not one of the SDK: with another one no span can have an id
    """

    def __init__(
        self,
        engine: Engine,
        tracer_provider: TracerProvider | None = None,
        meter_provider: MeterProvider | None = None,
    ) -> None:
        super().__init__(engine)
        storage = engine.storage
        is_finished = storage.writes.finished_run is not None
        log = None if is_finished else storage.writes.log  # nothing of it runs, and its spans were sent
        if log is None and not is_finished:
            raise ValueError("OpenTelemetryListener needs the history of the run: make the engine with history=True")
        provider = trace.get_tracer_provider() if tracer_provider is None else tracer_provider
        arguments.check_like("tracer_provider", provider, ("get_tracer",), "a TracerProvider, or None")
        meters = metrics.get_meter_provider() if meter_provider is None else meter_provider
        arguments.check_like("meter_provider", meters, ("get_meter",), "a MeterProvider, or None")
        tracer = provider.get_tracer(_NAME)
        if not hasattr(tracer, "id_generator"):
            raise TypeError(
                f"tracer_provider must be a TracerProvider of opentelemetry.sdk.trace, and not {provider!r}: "
                "only those take ids for spans\n"
                "Give one, or set it for the program by opentelemetry.trace.set_tracer_provider"
            )
        self._ids = _Ids()
        self._tracer: Any = copy.copy(tracer)  # one tracer serves all who ask for its name
        self._tracer.id_generator = self._ids
        meter = meters.get_meter(_NAME)
        self._ran = meter.create_histogram("taskflowx.call.duration", "s", "The time for which a call runs")
        self._queued = meter.create_histogram("taskflowx.call.queue.duration", "s", "The wait of a call for a worker")
        self._retries = meter.create_counter("taskflowx.call.retries", "{call}", "Calls after the first of a task")
        self._legs = meter.create_histogram("taskflowx.run.duration", "s", "The time from a start of a run to its rest")
        self._log = log
        kept = storage.flow_meta.get("run")
        self._run_id = str(kept["id"]) if isinstance(kept, dict) and "id" in kept else storage.flow_uuid
        self._common = {"taskflowx.run.id": self._run_id, "taskflowx.flow.name": _text(storage.flow_name)}
        self._entries: list[Entry] = []
        self._seen = 0
        self._forget()

    def _forget(self) -> None:
        self._run: tuple[str, float] = self._run_id, 0.0  # of what its ids are made: all of a run have its first entry
        self._calls = figures.Calls()
        self._before: dict[tuple[str, str], int] = {}  # the span of the last call of a verb of an atom
        self._leg, self._since = 0, 0.0

    def register(self) -> None:
        """Register the receivers, from the present end of the history on."""
        if self._tfx_registered or self._log is None:
            return
        self._forget()
        self._entries = []
        self._log.follow(self._entries)
        past = self._engine.history()
        self._seen = 0
        for entry in past[: len(past) - self._log.unsaved]:
            self._seen = entry.number
            self._take(entry, sends=False)
        super().register()

    def deregister(self) -> None:
        """Send what has ended, and deregister the receivers."""
        if self._tfx_registered and self._log is not None:
            self._send()
            self._log.unfollow(self._entries)
        super().deregister()

    def _tfx_receive(self, kind: str, state: str, details: dict[str, Any]) -> None:
        if state in _ENDS:
            self._send()

    def _send(self) -> None:
        """Send the spans of what has ended, as far as it is in the store."""
        if self._log is not None:
            self._log.settle()
        while self._entries:
            entry = self._entries.pop(0)
            if entry.number > self._seen:  # others were there when this was registered
                self._seen = entry.number
                self._take(entry, sends=True)

    def _take(self, entry: Entry, *, sends: bool) -> None:
        if entry.number == 1:
            self._run = self._run_id, entry.at
        if entry.atom is None:
            self._take_leg(entry, sends=sends)
            return
        call = self._calls.take(entry)
        if call is None:
            return
        key = call.atom, call.verb
        before, this = self._before.get(key), call_span_id(*self._run, call)
        self._before[key] = this
        if not sends:
            return
        about: dict[str, Any] = {
            **self._common,
            "taskflowx.atom.name": _text(call.atom),
            "taskflowx.verb": call.verb.lower(),
            "taskflowx.attempt": call.attempt,
            "taskflowx.state": "INTERRUPTED" if call.state in states.CALLED else call.state,
        }
        if call.worker is not None:
            about["taskflowx.worker"] = call.worker
        if call.queued is not None:
            about["taskflowx.queue.duration"] = call.queued
        if call.failure is not None:
            about["error.type"] = call.failure
        begin = call.handed if call.began is None else call.began
        parent = span_id(*self._run, max(self._leg, 1))
        self._span(about["taskflowx.atom.name"], this, parent, begin, call.ended, about, before, call.failure)
        self._measure(call, {name: about[name] for name in _MEASURED if name in about})

    def _measure(self, call: figures.Call, measured: dict[str, Any]) -> None:
        if call.state not in states.CALLED:
            self._ran.record(call.ran, measured)
        if call.queued is not None:
            self._queued.record(call.queued, measured)
        if call.attempt > 1 and call.verb == states.EXECUTE:
            self._retries.add(1, measured)

    def _take_leg(self, entry: Entry, *, sends: bool) -> None:
        if entry.new == states.RUNNING:
            self._leg, self._since = self._leg + 1, entry.at
        if entry.new not in states.AT_REST or not self._leg or not sends:
            return
        first = span_id(*self._run, 1)
        this, before = span_id(*self._run, self._leg), None
        if self._leg > 1:
            before = span_id(*self._run, self._leg - 1)
        about = {**self._common, "taskflowx.leg": self._leg, "taskflowx.state": entry.new}
        failure = entry.new if entry.new in (states.FAILURE, states.REVERTED) else None
        parent = None if self._leg == 1 else first
        self._span(self._common["taskflowx.flow.name"], this, parent, self._since, entry.at, about, before, failure)
        measured = {"taskflowx.flow.name": self._common["taskflowx.flow.name"], "taskflowx.state": entry.new}
        self._legs.record(max(entry.at - self._since, 0.0), measured)

    def _span(
        self,
        name: str,
        this: int,
        parent: int | None,
        begin: float,
        end: float,
        about: dict[str, Any],
        before: int | None,
        failure: str | None,
    ) -> None:
        """Send a span.

        :param this: its id
        :param parent: that of its parent, if it has one
        :param begin: in seconds since 1970, as is `end`
        :param before: the id of the span that it has a link to
        """
        self._ids.trace_id, self._ids.span_id = trace_id(*self._run), this
        above = (
            None if parent is None else trace.set_span_in_context(trace.NonRecordingSpan(self._context(parent)), _NONE)
        )
        links = [] if before is None else [trace.Link(self._context(before))]
        span = self._tracer.start_span(
            name,
            context=_NONE if above is None else above,
            attributes=about,
            links=links,
            start_time=_nanoseconds(begin),
        )
        if failure is not None:
            span.set_status(trace.Status(trace.StatusCode.ERROR, failure))
        span.end(end_time=_nanoseconds(max(begin, end)))

    def _context(self, span: int) -> trace.SpanContext:
        sampled = self._tracer.sampler.should_sample(None, trace_id(*self._run), self._common["taskflowx.flow.name"])
        flags = trace.TraceFlags.SAMPLED if sampled.decision.is_sampled() else trace.TraceFlags.DEFAULT
        return trace.SpanContext(trace_id(*self._run), span, is_remote=True, trace_flags=trace.TraceFlags(flags))


#: no span of the program around is the parent of ours
_NONE = trace.set_span_in_context(trace.INVALID_SPAN)


def _text(name: Any) -> str:
    """Return a name as text that can be sent: one with a lone surrogate would take all spans with it."""
    return str(name).encode(errors="replace").decode()


def _nanoseconds(seconds: float) -> int:
    return int(seconds * 1e9)
