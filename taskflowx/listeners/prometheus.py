"""The figures of a run as text for Prometheus, in its exposition format."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING

from taskflowx._util import arguments

if TYPE_CHECKING:
    from taskflowx.persistence.figures import Metrics, Times

#: the names of labels that figures have themselves, and one that has a meaning for Prometheus
_TAKEN = frozenset(("atom", "le", "quantile", "state", "worker"))
_QUANTILES = {"0": "least", "0.5": "median", "0.95": "p95", "1": "most"}
_Samples = Iterable[tuple[str, Mapping[str, str], float]]


def exposition(metrics: Metrics, labels: Mapping[str, str] | None = None) -> str:
    """Return the figures of a run as text that Prometheus reads.

    :param metrics: those of an engine or of a view of a stored run
    :param labels: name -> value, put on each line, such as {'run': 'invoice-17'}
    :raises ValueError: when a label has a name that Prometheus does not take, or that figures have themselves
    """
    arguments.check_like("metrics", metrics, ("states", "run_times"), "the figures of a run, such as engine.metrics")
    common = arguments.to_named_values("labels", labels or {})
    for name in common:
        if name in _TAKEN:
            raise ValueError(f"labels: {name!r} is a label that figures have themselves: give it another name")
        if not (name.isascii() and name.isidentifier() and not name.startswith("__")):
            raise ValueError(f"labels: {name!r} is no name of a label: letters, digits and '_', no digit first")
    parts = [
        _family("atoms", "gauge", "Atoms by state", [("", {"state": k}, v) for k, v in metrics.states.items()], common),
        _family("retries_total", "counter", "Calls after the first of an atom", [("", {}, metrics.retries)], common),
        _family("rollbacks_total", "counter", "Calls of revert", [("", {}, metrics.rollbacks)], common),
        _family("commits_total", "counter", "Writes of the record", [("", {}, metrics.commits)], common),
        _family("queue_seconds", "summary", "Waits of calls for a worker", _times(metrics.queue_times), common),
        _family("run_seconds", "summary", "Times for which calls ran", _times(metrics.run_times), common),
        _family(
            "worker_busy_ratio",
            "gauge",
            "Share of the time of the run in which a worker made calls",
            [("", {"worker": worker}, share) for worker, share in metrics.busy.items()],
            common,
        ),
        _family(
            "critical_path_seconds",
            "gauge",
            "Length of the critical path",
            [("", {}, metrics.critical_seconds)],
            common,
        ),
        _family("seconds", "gauge", "Time for which the flow was under way", [("", {}, metrics.seconds)], common),
    ]
    if metrics.bytes_written is not None:
        written: _Samples = [("", {}, metrics.bytes_written)]
        parts.append(_family("written_bytes_total", "counter", "Bytes of records and history", written, common))
    return "".join(parts)


def _times(by_atom: Mapping[str, Times]) -> _Samples:
    for atom, times in by_atom.items():
        for quantile, name in _QUANTILES.items():
            yield "", {"atom": atom, "quantile": quantile}, getattr(times, name)
        yield "_sum", {"atom": atom}, times.total
        yield "_count", {"atom": atom}, times.calls


def _family(name: str, kind: str, text: str, samples: _Samples, common: Mapping[str, str]) -> str:
    name = f"taskflowx_run_{name}"
    lines = [f"# HELP {name} {text}", f"# TYPE {name} {kind}"]
    for suffix, labels, value in samples:
        pairs = ",".join(f'{key}="{_escaped(given)}"' for key, given in {**common, **labels}.items())
        lines.append(f"{name}{suffix}{'{' + pairs + '}' if pairs else ''} {value!r}")
    return "\n".join(lines) + "\n"


def _escaped(value: str) -> str:
    text = str(value).encode(errors="replace").decode()  # a lone surrogate is no text
    return text.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')
