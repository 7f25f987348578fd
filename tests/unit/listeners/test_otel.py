"""Spans and metrics of runs, as the SDK's in-memory exporter gets them."""

from __future__ import annotations

import contextlib
import importlib
import os
import sys

import pytest

from taskflowx import engines, front, retry, runs, states, task
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import backends, models
from taskflowx.testing import VirtualClock

pytest.importorskip("opentelemetry.sdk", reason="the SDK of OpenTelemetry is not there")

from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import TraceIdRatioBased

from taskflowx.listeners import otel


class Step(task.Task):
    """Fails as often as it is told, and calls what it is given."""

    def __init__(self, name, fails=0, does=lambda: None):
        super().__init__(name)
        self.fails, self.does = fails, does

    def execute(self):
        self.does()
        if self.fails:
            self.fails -= 1
            raise OSError("no")


class Sink:
    """Keeps what is sent."""

    def __init__(self, **options):
        self.spans = InMemorySpanExporter()
        self.traces = TracerProvider(**options)
        self.traces.add_span_processor(SimpleSpanProcessor(self.spans))
        self.reader = InMemoryMetricReader()
        self.meters = MeterProvider([self.reader])

    def listen(self, engine):
        return otel.OpenTelemetryListener(engine, self.traces, self.meters)

    def named(self):
        """Return name -> spans, in the order in which they were sent."""
        found = {}
        for span in self.spans.get_finished_spans():
            found.setdefault(span.name, []).append(span)
        return found


def ids(span):
    return span.context.trace_id, span.context.span_id


def check_tree(spans, run, began):
    """Check that spans are one tree, and that none was sent twice."""
    assert {span.context.trace_id for span in spans} == {otel.trace_id(run, began)}
    known = [span.context.span_id for span in spans]
    assert len(known) == len(set(known))
    roots = [span for span in spans if span.parent is None]
    assert [ids(span) for span in roots] == [(otel.trace_id(run, began), otel.span_id(run, began, 1))]
    assert {span.parent.span_id for span in spans if span.parent} <= set(known)


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("backend", [None, "sqlite://"])
def test_a_run_is_one_tree(executor, backend):
    sink = Sink()
    flow = linear_flow.Flow("flow", retry.Times(3, "again")).add(
        unordered_flow.Flow("wide").add(Step("a"), Step("b")), Step("c", 1)
    )
    with contextlib.ExitStack() as stack:
        kept = {} if backend is None else {"backend": stack.enter_context(backends.backend(backend))}
        engine = engines.load(flow, executor=executor, history=True, **kept)
        with sink.listen(engine):
            engine.run()
        run, began = engine.storage.flow_uuid, engine.history()[0].at
    spans = sink.spans.get_finished_spans()
    check_tree(spans, run, began)
    named = sink.named()
    root = named["flow"][0]
    assert root.attributes["taskflowx.state"] == states.SUCCESS
    of_c = [
        (s.attributes["taskflowx.verb"], s.attributes["taskflowx.attempt"], s.attributes["taskflowx.state"])
        for s in named["c"]
    ]
    assert of_c == [("execute", 1, "FAILURE"), ("revert", 1, "REVERTED"), ("execute", 2, "SUCCESS")]
    failed, _, again = named["c"]
    assert failed.attributes["error.type"] == "OSError"
    assert not failed.status.is_ok
    assert [link.context.span_id for link in again.links] == [failed.context.span_id]
    for span in spans:
        assert root.start_time <= span.start_time <= span.end_time <= root.end_time
    metrics = {
        metric.name: metric.data.data_points
        for each in sink.reader.get_metrics_data().resource_metrics
        for scope in each.scope_metrics
        for metric in scope.metrics
    }
    assert sum(point.count for point in metrics["taskflowx.call.duration"]) == len(spans) - 1
    assert sum(point.value for point in metrics["taskflowx.call.retries"]) == 4  # the retry, and its three tasks
    assert [point.count for point in metrics["taskflowx.run.duration"]] == [1]


def test_a_resumed_run_goes_on_with_its_tree():
    first, second = Sink(), Sink()
    with backends.backend("sqlite://") as backend, contextlib.closing(backend.get_connection()) as connection:
        engine = engines.load(
            linear_flow.Flow("flow").add(
                Step("a", does=lambda: engine.suspend()),  # noqa: PLW0108 - it is not there yet
                Step("b"),
            ),
            backend=backend,
            history=True,
        )
        run = engine.storage.flow_uuid
        with first.listen(engine):
            engine.run()
        engine = engines.load(
            linear_flow.Flow("flow").add(Step("a"), Step("b")),
            flow_detail=connection.get_flow_details(run),
            backend=backend,
            history=True,
        )
        with second.listen(engine):
            engine.run()
            engine.run()  # nothing of it runs, and nothing is sent again
        began = engine.history()[0].at
    check_tree([*first.spans.get_finished_spans(), *second.spans.get_finished_spans()], run, began)
    assert list(first.named()) == ["a", "flow"]
    legs = second.named()["flow"]
    assert legs[0].attributes["taskflowx.leg"] == 2
    assert legs[0].parent.span_id == otel.span_id(run, began, 1)
    assert [link.context.span_id for link in legs[0].links] == [otel.span_id(run, began, 1)]
    assert second.named()["b"][0].parent.span_id == otel.span_id(run, began, 2)


def test_a_run_that_is_made_again_under_its_id_has_a_tree_of_its_own():
    sink, clock = Sink(), VirtualClock()
    with backends.backend("memory") as backend, runs.open(backend) as archive:
        for _ in range(2):
            engine = front.load(linear_flow.Flow("flow").add(Step("a")), run_id="r", backend=backend, clock=clock)
            with sink.listen(engine):
                engine.run()
            archive.delete("r")
            clock.advance(1)
    spans = sink.spans.get_finished_spans()
    assert len(spans) == 4
    assert len({span.context.trace_id for span in spans}) == 2
    assert len({span.context.span_id for span in spans}) == 4


@pytest.mark.parametrize("history", [None, True])
def test_of_a_run_that_is_finished_nothing_is_sent(history):
    sink = Sink()
    with backends.backend("memory") as backend:
        for _ in range(2):
            engine = front.load(linear_flow.Flow("flow").add(Step("a")), run_id="r", backend=backend, history=history)
            with sink.listen(engine):
                engine.run()
    assert list(sink.named()) == ["a", "flow"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.filterwarnings("ignore:Using fork:DeprecationWarning")  # of eventlet, once a test has imported it
@pytest.mark.parametrize("place", range(1, 4))
def test_a_run_that_was_killed_sends_no_span_twice(tmp_path, place):
    url, sent = f"sqlite:///{tmp_path / 'runs.db'}", tmp_path / "sent"

    def live(at):
        calls = []

        def does():
            calls.append(None)
            if len(calls) == at:
                os.kill(os.getpid(), 9)

        class ToDisk(InMemorySpanExporter):
            def export(self, spans):
                with sent.open("a") as file:
                    for span in spans:
                        parent = span.parent.span_id if span.parent else 0
                        file.write(f"{span.context.trace_id} {span.context.span_id} {parent} {span.name}\n")
                return super().export(spans)

        sink = Sink()
        sink.traces.add_span_processor(SimpleSpanProcessor(ToDisk()))
        with backends.backend(url) as backend, contextlib.closing(backend.get_connection()) as connection:
            try:
                record = connection.get_flow_details("run")
            except Exception:  # noqa: BLE001 - it is the first process
                record = models.FlowDetail("flow", "run")
                book = models.LogBook("book")
                book.add(record)
                connection.save_logbook(book)
            flow = linear_flow.Flow("flow").add(*(Step(name, does=does) for name in "abc"))
            engine = engines.load(flow, flow_detail=record, backend=backend, history=True)
            with sink.listen(engine):
                engine.run()

    pid = os.fork()
    if not pid:
        live(place)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -9
    live(0)
    with backends.backend(url) as backend, contextlib.closing(backend.get_connection()) as connection:
        began = next(iter(connection.get_history("run"))).at
    lines = [line.split() for line in sent.read_text().splitlines()]
    spans = [line[1] for line in lines]
    assert len(spans) == len(set(spans))
    assert {line[0] for line in lines} == {str(otel.trace_id("run", began))}
    names = [line[3] for line in lines]
    assert sorted(names) == sorted(
        ["flow", "a", "b", "c", "abc"[place - 1]]
    )  # the interrupted call, and its repetition
    assert {line[2] for line in lines} == {"0", str(otel.span_id("run", began, 1))}


def test_a_sampler_decides_once_for_the_whole_run():
    for number in range(20):
        sink = Sink(sampler=TraceIdRatioBased(0.5))
        engine = engines.load(
            linear_flow.Flow("flow").add(Step("a"), Step("b")),
            flow_detail=models.FlowDetail("flow", str(number)),
            history=True,
        )
        with sink.listen(engine):
            engine.run()
        assert len(sink.spans.get_finished_spans()) in (0, 3)


def test_every_name_can_be_sent():
    sink = Sink()
    with sink.listen(engine := engines.load(linear_flow.Flow("f\ud800").add(Step("a\udcff")), history=True)):
        engine.run()
    spans = sink.spans.get_finished_spans()
    assert [span.name for span in spans] == ["a?", "f?"]
    assert [span.attributes["taskflowx.flow.name"] for span in spans] == ["f?", "f?"]
    assert spans[0].attributes["taskflowx.atom.name"] == "a?"


def test_without_a_history_it_says_what_to_do():
    with pytest.raises(ValueError, match="history=True"):
        otel.OpenTelemetryListener(engines.load(linear_flow.Flow("flow")))


def test_without_the_sdk_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    monkeypatch.delitem(sys.modules, "taskflowx.listeners.otel")
    with pytest.raises(ModuleNotFoundError, match=r'pip install "taskflowx\[otel\]"'):
        importlib.import_module("taskflowx.listeners.otel")


@pytest.mark.parametrize(
    ("providers", "says"),
    [
        ({"tracer_provider": MeterProvider()}, "tracer_provider must be a TracerProvider, or None, not "),
        ({"tracer_provider": TracerProvider(), "meter_provider": TracerProvider()}, "meter_provider must be a Meter"),
    ],
)
def test_what_is_no_provider_is_refused_by_name(providers, says):
    with pytest.raises(TypeError, match=says):
        otel.OpenTelemetryListener(engines.load(linear_flow.Flow("flow"), history=True), **providers)


def test_a_provider_without_the_sdk_is_refused():
    from opentelemetry import trace

    with pytest.raises(TypeError, match=r"opentelemetry\.sdk\.trace.*\n.*set_tracer_provider"):
        otel.OpenTelemetryListener(engines.load(linear_flow.Flow("flow"), history=True), trace.NoOpTracerProvider())
