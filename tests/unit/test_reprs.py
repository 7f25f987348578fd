"""What objects are shown as: one line that tells one from another, never an address, whatever they are in."""

from __future__ import annotations

import concurrent.futures
import re
import threading

import pytest

from taskflowx import engines, executors, retry, storage, task, testing
from taskflowx._util import reprs
from taskflowx.engines.compile import compile_flow
from taskflowx.executors import base
from taskflowx.listeners import printing
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends, models
from taskflowx.types import notifier
from taskflowx.types.failure import Failure


class Step(task.Task):
    def execute(self):
        pass


class Fails(Step):
    def execute(self):
        raise ValueError("no")


def engine(*, ran=False, **options):
    made = engines.load(linear_flow.Flow("wash").add(Step("a"), Fails("b")), **options)
    if ran:
        with pytest.raises(ValueError, match="no"):
            made.run()
    return made


def when(condition):
    a, b = Step("a"), Step("b")
    [(_, _, facts)] = graph_flow.Flow("f").add(a, b).link(a, b, when=condition).iter_links()
    return facts["decider"]


SHOWN = [
    (lambda: linear_flow.Flow("wash").add(Step("a")), "<linear_flow.Flow 'wash': 1 member>"),
    (lambda: unordered_flow.Flow("wash"), "<unordered_flow.Flow 'wash': 0 members>"),
    (
        lambda: graph_flow.Flow("wash", retry.Times(2, "r")).add(Step("a"), Step("b")),
        "<graph_flow.Flow 'wash': 2 members, retry 'r'>",
    ),
    (lambda: graph_flow.TargetedFlow("wash"), "<graph_flow.TargetedFlow 'wash': 0 members>"),
    (lambda: Step("a"), f'<{__name__}.Step "a==1.0">'),
    (lambda: retry.Times(2, "r"), '<taskflowx.retry.Times "r==1.0">'),
    (engine, "<SerialActionEngine 'wash' PENDING: not compiled yet; serial>"),
    (lambda: engine().preparation, '<Preparation of "linear_flow.Flow: wash(len=2)">'),
    (lambda: engine(ran=True).preparation, "<Preparation of <Plan of 'wash': 2 atoms, 1 flow>>"),
    (lambda: engine(ran=True).storage.lookup, "<Lookup in the record of 'wash': 2 REVERTED>"),
    (lambda: engine(ran=True).storage.record, "<Record of 'wash': 2 REVERTED>"),
    (lambda: engine(ran=True).storage.writes, "<Writes of 'wash' to no store>"),
    (lambda: retry.Times(2), '<taskflowx.retry.Times "taskflowx.retry.Times==1.0">'),
    (testing.VirtualClock, "<VirtualClock: 0 s have passed>"),
    (testing.ScriptedExecutor, "<ScriptedExecutor>"),
    (lambda: when(lambda: True), "<When of the link 'a' -> 'b': the function <lambda>.<locals>.<lambda>>"),
    (
        lambda: engine(ran=True, executor="threads", max_workers=2),
        "<ActionEngine 'wash' REVERTED: 2 REVERTED; threads×2>",
    ),
    (lambda: engine(ran=True).storage, "<Storage 'wash' REVERTED: 2 REVERTED>"),
    (
        lambda: engine(ran=True, never_resolve=True, executor="asyncio").storage,
        "<Storage 'wash' FAILURE: 1 SUCCESS, 1 FAILURE>",
    ),
    (lambda: storage.Storage(models.FlowDetail("f", "id")), "<Storage 'f' PENDING: no atoms>"),
    (lambda: models.LogBook("b"), "<LogBook 'b': 0 flows>"),
    (lambda: models.FlowDetail("f", "id"), "<FlowDetail 'f' None: no atoms>"),
    (lambda: models.TaskDetail("a"), "<TaskDetail 'a' None, to EXECUTE>"),
    (lambda: models.RetryDetail("a"), "<RetryDetail 'a' None, to EXECUTE>"),
    (lambda: backends.fetch("memory"), "<MemoryBackend />"),
    (lambda: backends.fetch("memory").get_connection(), "<Connection to MemoryBackend />"),
    (lambda: backends.fetch("dir:///data/x"), "<DirBackend /data/x>"),
    (lambda: backends.fetch("dir:///data/x").get_connection(), "<Connection to DirBackend /data/x>"),
    (lambda: backends.fetch("sqlite://"), "<SQLAlchemyBackend sqlite://>"),
    (lambda: backends.fetch("sqlite://").get_connection(), "<Connection to SQLAlchemyBackend sqlite://>"),
    (lambda: executors.fetch("serial"), "<SerialExecutor serial>"),
    (lambda: executors.fetch("threads", 3), "<ThreadsExecutor threads×3>"),
    (lambda: executors.fetch("processes", 3), "<ProcessesExecutor processes×3>"),
    (lambda: executors.fetch("asyncio"), "<AsyncioExecutor asyncio>"),
    (lambda: executors.fetch(concurrent.futures.ThreadPoolExecutor(2)), "<FuturesExecutor ThreadPoolExecutor×2>"),
    (base.Executor, "<Executor>"),
    (lambda: retry.History([]), "<History: 0 attempts>"),
    (lambda: retry.History([(1, {}), (2, {"a": None})]), "<History: 2 attempts; failed in the last: ['a']>"),
    (lambda: compile_flow(linear_flow.Flow("f").add(Step("a"))), "<Plan of 'f': 1 atom, 1 flow>"),
    (lambda: compile_flow(Step("a")), "<Plan of 'a': 1 atom, 1 flow>"),
    (lambda: engine(ran=True).compilation, "<Compilation of Plan of 'wash': 2 atoms, 1 flow>"),
    (lambda: Failure.from_exception(ValueError("a\nb")), r"<Failure: ValueError: a\nb>"),
    (lambda: base.Call(0, Step("a"), "EXECUTE", {}), "<Call of EXECUTE of 'a'>"),
    (notifier.Notifier, "<Notifier: 0 listeners>"),
    (
        lambda: printing.PrintingListener(engine()),
        "<PrintingListener of SerialActionEngine 'wash' PENDING: not compiled yet; serial; not registered>",
    ),
]


@pytest.mark.parametrize(("make", "text"), SHOWN, ids=[text for _, text in SHOWN])
def test_one_line_tells_what_it_is(make, text):
    assert repr(make()) == text


@pytest.mark.parametrize("make", [make for make, _ in SHOWN], ids=[text for _, text in SHOWN])
def test_what_is_not_fully_made_is_shown_too(make):
    kind = type(make())
    text = repr(kind.__new__(kind))
    assert re.fullmatch(r"<[^\n]*>", text)
    assert " at 0x" not in text


NAMES = ["a\nb", "x" * 10_000, "\x1b[31m", "\ud800", "'\"", "", "é×…"]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_odd_names_give_one_short_line(name):
    flow = linear_flow.Flow(name).add(Step(name))
    made = engines.load(flow)
    made.run()
    for one in (
        flow,
        Step(name),
        made,
        made.storage,
        made.compilation,
        *made.storage.record.flow_detail,
        models.LogBook(name),
    ):
        text = repr(one)
        assert len(text) <= 200
        assert text.isprintable()


def test_a_password_is_not_shown():
    pytest.importorskip("psycopg")
    made = backends.fetch("postgresql://me:secret@nowhere/runs?connect_timeout=3")
    assert "secret" not in repr(made)
    assert "nowhere/runs" in repr(made)


def test_what_raises_is_shown_all_the_same():
    class Broken(Step):
        @property
        def version(self):
            raise KeyError("version")

    class BrokenFlow(linear_flow.Flow):
        name = property(lambda self: 1 / 0)

    assert repr(Broken.__new__(Broken)) == "<Broken, not fully made>"
    assert repr(BrokenFlow("f")).endswith("BrokenFlow 'f': 0 members>")


def test_no_lock_is_waited_for():
    made = engine()
    made.compile()
    shown = []
    with made.storage.lock.write_lock():
        thread = threading.Thread(target=lambda: shown.extend(map(repr, (made, made.storage))))
        thread.start()
        thread.join(20)
    assert len(shown) == 2


def test_what_cannot_be_asked_for_its_name_is_shown_all_the_same():
    class Proxy:
        def __getattr__(self, name):
            raise RuntimeError("outside of its context")

    assert reprs.of(Proxy()) == "a value whose repr raised RuntimeError"
