"""Traces, read back by Perfetto's own definitions of their messages."""

import collections
import sys

import pytest

from taskflowx import engines
from taskflowx.persistence.figures import Links
from taskflowx.reports import facts, trace, writing
from tests.support.reports import START, called, facts_of, failing, history_of_calls

protos = pytest.importorskip("perfetto.protos.perfetto.trace.perfetto_trace_pb2", reason="needs the package perfetto")
BEGIN, END, COUNTER = (getattr(protos.TrackEvent, f"TYPE_{name}") for name in ("SLICE_BEGIN", "SLICE_END", "COUNTER"))


class Read:
    """A trace, replayed as the trace processor does: each slice ends the innermost one of its track."""

    def __init__(self, content):
        parsed = protos.Trace()
        parsed.ParseFromString(content)
        self.names, self.parents = {}, {}
        self.slices = collections.defaultdict(list)
        self.counters = collections.defaultdict(list)
        self.flows = collections.defaultdict(lambda: ([], []))
        last = None
        open_ones = collections.defaultdict(list)
        for packet in parsed.packet:
            assert packet.trusted_packet_sequence_id
            if packet.HasField("track_descriptor"):
                told = packet.track_descriptor
                assert told.uuid not in self.names
                self.names[told.uuid] = told.name or told.process.process_name
                self.parents[told.uuid] = told.parent_uuid
                continue
            assert last is None or packet.timestamp >= last
            last, event = packet.timestamp, packet.track_event
            name = self.names[event.track_uuid]
            at = round(packet.timestamp / 1e9 - START, 6)
            if event.type == BEGIN:
                open_ones[event.track_uuid].append((at, event))
                for number in event.flow_ids:
                    self.flows[number][0].append(event.name)
                for number in event.terminating_flow_ids:
                    self.flows[number][1].append(event.name)
            elif event.type == END:
                begun, opened = open_ones[event.track_uuid].pop()
                assert not open_ones[event.track_uuid]  # no slice is within another one
                self.slices[name].append((begun, at, opened.name, list(opened.categories)))
            else:
                assert event.type == COUNTER
                self.counters[name].append((at, event.counter_value))
        assert not any(open_ones.values())
        assert {parent for parent in self.parents.values() if parent} <= set(self.names)


def read(*rows, **kwargs):
    return Read(trace.trace(facts_of(history_of_calls(*rows), **kwargs)))


def test_slices_are_by_worker_and_waits_apart():
    got = read(called("a", 0, 0, 2, "w1"), called("b", 0, 2, 3, "w1"), called("c", 0, 1, 2, "w2"))
    assert got.slices == {
        "w1": [(0, 2, "a", ["execute"]), (2, 3, "b", ["execute"])],
        "w2": [(1, 2, "c", ["execute"])],
        "waiting for w1": [(0, 2, "b", ["wait"])],
        "waiting for w2": [(0, 1, "c", ["wait"])],
    }
    assert got.counters == {
        "running": [(0, 1), (1, 2), (2, 1), (3, 0)],
        "waiting for workers": [(0, 2), (1, 1), (2, 0)],
    }


def test_calls_at_the_same_time_have_tracks_of_their_own():
    got = read(called("a", 0, 0, 5, "loop"), called("b", 0, 1, 9, "loop"), called("c", 5, 5, 6, "loop"))
    assert sorted(got.slices["loop"]) == [
        (0, 5, "a", ["execute"]),
        (1, 9, "b", ["execute"]),
        (5, 6, "c", ["execute"]),
    ]
    assert list(got.names.values()).count("loop") == 2


def test_calls_without_a_length_begin_before_they_end():
    got = read(called("a", 1, 1, 1), called("b", 1, 1, 1))
    assert sorted(slice_[2] for slice_ in got.slices["w"]) == ["a", "b"]


def test_arrows_go_along_the_links():
    got = read(called("a", 0, 0, 1), called("b", 1, 1, 2), called("c", 2, 2, 3), called("c", 3, 3, 4, reverts=True))
    assert sorted(got.flows.values()) == [(["a"], ["b"]), (["b"], ["c"])]
    assert got.slices["w"][-1] == (3, 4, "revert of c", ["revert"])
    assert not read(called("a", 0, 0, 1), called("b", 1, 1, 2), links=None).flows


def test_arrows_are_bounded():
    wide = 300
    names = [f"{side}{i}" for side in "ab" for i in range(wide)]
    links = Links([*names, None], [*[()] * wide, *[(2 * wide,)] * wide, range(wide)])
    rows = [called(name, name[0] == "b", 1, 2, name) for name in names]
    got = read(*rows, names=names, links=links)
    assert len(got.flows) == 50_000  # of 90,000
    assert all(out and into for out, into in got.flows.values())


def test_a_slice_has_its_facts():
    parsed = protos.Trace()
    parsed.ParseFromString(trace.trace(facts_of(history_of_calls(called("a", 0, 0.5, 1, failure="OSError")))))
    [begin] = [one.track_event for one in parsed.packet if one.track_event.categories == ["execute"]]
    told = {one.name: one.string_value or one.int_value or one.double_value for one in begin.debug_annotations}
    assert told == {"outcome": "FAILURE", "failure": "OSError", "attempt": 1, "waited_ms": 500}


def test_any_name_is_held():
    odd = "half \ud800 of a pair \0 </script>"
    got = Read(
        trace.trace(
            facts_of(
                history_of_calls(called(odd, 0, 1, 2, odd, failure=odd)),
                names=(odd,),
                run_id=odd,
                atoms=[facts.Atom(odd, "task", odd, "FAILURE")],
            )
        )
    )
    [[(_, _, name, _)], _] = got.slices.values()
    assert name == "half ? of a pair \0 </script>"


def test_the_trace_of_a_run_has_each_of_its_calls(tmp_path):
    engine = failing(ValueError("lost"), engine="parallel", executor="threads", max_workers=2)
    engine.report(tmp_path / "run.html", trace=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run.html", "run.perfetto-trace"]
    got = Read((tmp_path / "run.perfetto-trace").read_bytes())
    begun = [entry for entry in writing.history_of(tmp_path / "run.html") if entry.new in ("RUNNING", "REVERTING")]
    calls = [one for slices in got.slices.values() for one in slices if one[3] != ["wait"]]
    assert sorted(name.removeprefix("revert of ") for _, _, name, _ in calls) == sorted(
        entry.atom for entry in begun if entry.atom
    )
    assert len(calls) > 8


def test_without_the_package_the_error_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "perfetto.protos.perfetto.trace", None)
    engine = failing(ValueError("lost"))
    with pytest.raises(ImportError, match=r'pip install "taskflowx\[perfetto\]"'):
        engine.report(tmp_path / "run.html", trace=True)
    assert not list(tmp_path.iterdir())
    assert isinstance(engine, engines.base.Engine)
