"""The figures of a run as text, read by the parser of Prometheus' own client."""

from __future__ import annotations

import pytest

from taskflowx import engines, task
from taskflowx.listeners import prometheus
from taskflowx.patterns import linear_flow

parser = pytest.importorskip("prometheus_client.parser", reason="the client of Prometheus is not there")


class Step(task.Task):
    def execute(self):
        pass


def samples(text):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in parser.text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_reads_all_figures():
    odd = 'say "a\\b"\n'
    engine = engines.load(linear_flow.Flow("flow").add(Step(odd), Step("b")), history=True)
    engine.run()
    metrics = engine.metrics
    found = samples(prometheus.exposition(metrics, {"run": "17"}))
    run = ("run", "17")
    assert found["taskflowx_run_atoms", run, ("state", "SUCCESS")] == 2
    assert found["taskflowx_run_retries_total", run] == 0
    assert found["taskflowx_run_run_seconds_count", ("atom", odd), run] == 1
    assert found["taskflowx_run_run_seconds_sum", ("atom", odd), run] == metrics.run_times[odd].total
    assert found["taskflowx_run_run_seconds", ("atom", "b"), ("quantile", "0.95"), run] == metrics.run_times["b"].p95
    assert found["taskflowx_run_worker_busy_ratio", run, ("worker", "MainThread")] == metrics.busy["MainThread"]
    assert found["taskflowx_run_critical_path_seconds", run] == metrics.critical_seconds
    assert found["taskflowx_run_written_bytes_total", run] == 0


@pytest.mark.parametrize("name", ["", "1a", "a-b", "__a", "ä"])
def test_a_label_that_prometheus_does_not_take_is_refused(name):
    with pytest.raises(ValueError, match=r"labels: .* is no name of a label"):
        prometheus.exposition(engines.load(linear_flow.Flow("flow"), history=True).metrics, {name: "x"})


@pytest.mark.parametrize("name", ["state", "atom", "worker", "quantile", "le"])
def test_a_label_that_figures_have_is_refused(name):
    with pytest.raises(ValueError, match=rf"labels: '{name}' is a label that figures have themselves"):
        prometheus.exposition(engines.load(linear_flow.Flow("flow"), history=True).metrics, {name: "x"})


def test_what_are_no_figures_and_no_labels_is_refused():
    engine = engines.load(linear_flow.Flow("flow"), history=True)
    with pytest.raises(TypeError, match=r"metrics must be the figures of a run, such as engine\.metrics, not "):
        prometheus.exposition(engine)
    with pytest.raises(TypeError, match="Each name in labels must be a str, not 1"):
        prometheus.exposition(engine.metrics, {1: "x"})


def test_what_is_no_text_is_replaced_in_labels():
    engine = engines.load(linear_flow.Flow("f").add(Step("a\ud800")), history=True)
    engine.run()
    said = prometheus.exposition(engine.metrics, {"run": "\udcff"})
    assert 'run="?",atom="a?"' in said
    assert said.encode()
