"""Runs in a store are listed in pages, read, waited for, watched, forked and removed, on each kind of store."""

from __future__ import annotations

import contextlib
import datetime as dt
import importlib
import itertools
import pickle
import random
import sys
import threading

import pytest

import taskflowx
from taskflowx import exceptions, retry, runs, states, task
from taskflowx._util import clock as clocks
from taskflowx.patterns import graph_flow, linear_flow
from taskflowx.persistence import codec, models, owners, run_records
from taskflowx.runs import start, takeover
from taskflowx.testing import VirtualClock

from .test_by_id import Held, flow_of


def stored(backend, run_id, state=states.SUCCESS, flow="bill"):
    """Store a run in a state, and return its id."""
    uuid = run_records.flow_uuid(run_id)
    book = models.LogBook(run_id, run_records.book_uuid(run_id))
    detail = models.FlowDetail(flow, uuid)
    detail.meta["run"], detail.state = {"id": run_id}, state
    book.add(detail)
    with contextlib.closing(backend.get_connection()) as connection:
        connection.add_flow_details(book, detail)
    return run_id


#: seconds by which the times of two writes differ on each store
RESOLUTION = 0.02


def ids(page):
    return [one.id for one in page]


# -- listing -----------------------------------------------------------------------------------------------------------


def test_runs_are_listed_newest_first_in_pages(empty):
    names = [stored(empty.backend, f"r{n}") for n in range(7)]
    assert ids(empty.list()) == names[::-1]
    first = empty.list(limit=3)
    second = empty.list(limit=3, after=first[-1])
    third = empty.list(limit=3, after=second[-1].cursor)
    assert [ids(page) for page in (first, second, third)] == [["r6", "r5", "r4"], ["r3", "r2", "r1"], ["r0"]]
    assert empty.list(after=third[-1]) == []


def test_runs_that_come_and_go_move_no_other_run_to_another_page(empty):
    for n in range(6):
        stored(empty.backend, f"r{n}")
    first = empty.list(limit=2)
    stored(empty.backend, "late")
    empty.delete("r4")
    assert ids(empty.list(limit=2, after=first[-1])) == ["r3", "r2"]


def test_each_page_is_that_of_all_runs_sorted_and_filtered(empty):
    rng = random.Random(7)
    everything = []
    for n in range(40):
        state, flow = rng.choice([None, *states.FLOW_STATES]), rng.choice("ab")
        everything.append((stored(empty.backend, f"r{n}", state, flow), state or states.PENDING, flow))
    everything.reverse()
    for _ in range(40):
        wanted = rng.choice([None, rng.choice(states.FLOW_STATES), rng.sample(states.FLOW_STATES, 3)])
        flow, limit = rng.choice([None, "a", "b", "c"]), rng.randint(1, 9)
        names = {wanted} if isinstance(wanted, str) else set(wanted or states.FLOW_STATES)
        expected = [run for run, state, of in everything if state in names and flow in (None, of)]
        found, after = [], None
        while page := empty.list(state=wanted, flow=flow, limit=limit, after=after):
            assert len(page) == limit or page == empty.list(state=wanted, flow=flow, after=after)
            found += ids(page)
            after = page[-1]
        assert found == expected, (wanted, flow, limit)


def test_a_summary_says_what_a_run_is(empty, run_id):
    before = dt.datetime.now(dt.UTC)
    taskflowx.run(flow_of([]), {"amount": 4}, backend=empty.backend, run_id=run_id)
    (summary,) = empty.list()
    assert (summary.id, summary.flow, summary.state) == (run_id, "bill", states.SUCCESS)
    assert before - dt.timedelta(seconds=1) < summary.created_at < dt.datetime.now(dt.UTC)
    assert summary.updated_at is None or summary.created_at <= summary.updated_at + dt.timedelta(seconds=1)


def test_a_page_may_have_any_number_of_runs_and_begin_with_time_itself(empty):
    stored(empty.backend, "a")
    assert ids(empty.list(limit=10**30)) == ["a"]
    least, most = dt.datetime(1, 1, 1), dt.datetime(9999, 12, 31, 23)  # noqa: DTZ001 - in local time, as users have it
    assert (ids(empty.list(since=least)), empty.list(since=most)) == (["a"], [])
    assert empty.prune(older_than=least) == 0
    assert empty.prune(older_than=most) == 1


def test_runs_are_listed_since_a_time(empty):
    stored(empty.backend, "old")
    (old,) = empty.list()
    stored(empty.backend, "new")
    for since in (old.created_at + dt.timedelta(microseconds=1), 0.0, dt.timedelta(0)):
        assert set(ids(empty.list(since=since))) <= {"new"}
    assert ids(empty.list(since=old.created_at + dt.timedelta(microseconds=1))) == ["new"]
    for since in (old.created_at, old.created_at.astimezone().replace(tzinfo=None), 3600, dt.timedelta(hours=1), 1e12):
        assert ids(empty.list(since=since)) == ["new", "old"]


def test_a_run_without_an_id_has_the_uuid_of_its_record(empty):
    taskflowx.run(flow_of([]), {"amount": 4}, backend=empty.backend)
    (summary,) = empty.list()
    seen = empty.get(summary.id)
    assert (seen.id, seen.uuid, seen.state) == (summary.id, summary.id, states.SUCCESS)
    assert [atom.name for atom in seen.atoms] == ["price", "send"]
    empty.delete(summary.id)
    assert empty.list() == []
    with contextlib.closing(empty.backend.get_connection()) as connection:
        assert list(connection.get_logbooks()) == []  # that was made for it alone


@pytest.mark.parametrize(
    ("given", "error"),
    [
        ({"limit": 0}, "limit must be a whole number"),
        ({"limit": "9"}, "limit must be a whole number"),
        ({"state": "DONE"}, "state must be one of"),
        ({"state": []}, "state must name a state"),
        ({"flow": 3}, "flow must be the name of a flow"),
        ({"since": "yesterday"}, "since must be a datetime, a timedelta or a number of seconds"),
        ({"since": float("nan")}, "since must be"),
        ({"after": "x"}, "after must be the cursor of a run"),
        ({"after": 3}, "after must be a RunSummary or its cursor"),
    ],
)
def test_what_is_no_page_is_refused(known, given, error):
    with pytest.raises((ValueError, TypeError), match=error):
        known.list(**given)


# -- reading -----------------------------------------------------------------------------------------------------------


def test_a_view_says_what_is_on_record(known, backend, run_id):
    flow = flow_of([], fails={"send": OSError("no line")}, undo=ValueError("stuck"))
    taskflowx.run(flow, {"amount": 4}, backend=backend, run_id=run_id, raises=False)
    seen = known.get(run_id)
    assert (seen.id, seen.flow, seen.state, seen.owner) == (run_id, "bill", states.FAILURE, None)
    price, send = seen.atoms
    assert (price.name, price.kind, price.state, price.intention) == ("price", "task", "REVERT_FAILURE", "REVERT")
    assert (price.attempts, price.result, price.result_size) == (1, 8, 1)
    assert price.failure.exception_str == "stuck"
    assert send.failure.exception_str == "no line"
    assert seen.atom("send").name == "send"
    assert (sorted(seen.failures), seen.not_undone) == (["price", "send"], ["price"])
    assert (seen.store, seen.cancelled, seen.by_hand) == ({"amount": 4}, None, ())
    assert seen.result().state == states.FAILURE
    with pytest.raises(exceptions.NotFound, match="no atom 'sent'"):
        seen.atom("sent")


def test_the_result_of_a_record_is_that_of_the_run(known, backend, run_id):
    flow = graph_flow.Flow("f", retry=retry.Times(2, "r", provides="attempt")).add(
        task.FunctorTask(lambda: (1, 2), name="a", provides=("x", "y")),
        task.FunctorTask(lambda: {"k": 3}, name="b", provides={"k"}),
        task.FunctorTask(lambda x, amount: x + amount, name="c", provides="z"),
    )
    ran = taskflowx.run(flow, {"amount": 4}, backend=backend, run_id=run_id)
    read = known.get(run_id).result()
    assert read == ran == {"amount": 4, "attempt": 1, "x": 1, "y": 2, "k": 3, "z": 5}
    assert read.results == ran.results == {"a": (1, 2), "b": {"k": 3}, "c": 5}
    assert known.wait(run_id, timeout=0) == ran
    copy = pickle.loads(pickle.dumps(read))
    assert (copy, copy.results, copy.state, copy.run_id) == (read, read.results, read.state, run_id)


def test_reading_neither_locks_nor_claims(known, backend, run_id):
    with Held(backend, run_id) as held:
        for _ in range(3):
            seen = known.get(run_id)
            assert (seen.state, seen.atoms[0].state) == (states.RUNNING, states.RUNNING)
            assert "process" in seen.owner
        assert known.list(state="RUNNING")[0].id == run_id
    assert (held.results, known.get(run_id).owner) == ([{"x": 5}], None)


def test_what_is_not_there_is_not_found(known):
    for verb in (known.get, known.delete, known.wait, known.fork, lambda run_id: list(known.watch(run_id))):
        with pytest.raises(exceptions.NotFound, match="There is no run 'nobody'"):
            verb("nobody")
    with pytest.raises(ValueError, match="run_id must not be empty"):
        known.get("")


AWAY = """
import dataclasses, enum, typing

Colour = enum.Enum("Colour", {"RED": "red"})


@dataclasses.dataclass(frozen=True)
class Invoice:
    number: object
    colour: Colour


class Pair(typing.NamedTuple):
    one: object
    two: object
"""


@pytest.fixture
def away(monkeypatch, tmp_path):
    """Return a module with classes, and what makes the program one that has not imported it."""
    (tmp_path / "taskflowx_tests_away.py").write_text(AWAY, encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("taskflowx_tests_away")
    yield module, lambda: sys.modules.pop(module.__name__)
    sys.modules.pop(module.__name__, None)


def of_classes(module, calls):
    """Return a flow of values of the classes of a module, within others and as a whole."""

    def make(number):
        return module.Invoice(number, module.Colour.RED)

    def inside(invoice):
        return {invoice, module.Colour.RED}, {"pair": [module.Pair(invoice, 2)]}

    def last(parts):
        calls.append(parts)

    return linear_flow.Flow("classes", retry=retry.ForEach([module.Colour.RED], "r")).add(
        task.FunctorTask(make, name="make", provides="invoice"),
        task.FunctorTask(inside, name="inside", provides="parts"),
        task.FunctorTask(last, name="last"),
    )


def test_what_is_of_classes_that_are_not_imported_is_looked_at_and_forked_without_them(known, backend, away, run_id):
    if not backend.durable:
        pytest.skip("it has the values themselves")
    module, forget = away
    calls = []
    ran = taskflowx.run(of_classes(module, calls), {"number": module.Pair(1, 2)}, backend=backend, run_id=run_id)
    forget()
    seen = known.get(run_id)
    assert isinstance(seen.atom("make").result, codec.Unbuilt)
    assert isinstance(seen.store["number"], codec.Unbuilt)
    assert seen.atom("inside").result[1]["pair"][0].kind == "namedtuple taskflowx_tests_away:Pair"
    assert seen.atom("inside").result_size > 100
    assert [view.state for view in known.watch(run_id)] == ["SUCCESS"]
    for verb in (seen.result, lambda: known.wait(run_id, timeout=0)):
        with pytest.raises(codec.NotBuildable, match="has not imported 'taskflowx_tests_away'"):
            verb()
    forked = known.fork(run_id, from_task="last", store={"more": 1})
    assert known.get(forked).state == states.SUSPENDED
    sys.modules[module.__name__] = module
    again = taskflowx.run(of_classes(module, calls), backend=backend, run_id=forked)
    assert (again["invoice"], again["parts"], again["number"]) == (ran["invoice"], ran["parts"], ran["number"])
    assert calls == [ran["parts"]] * 2
    assert (known.get(run_id).result(), known.wait(run_id, timeout=0)) == (ran, ran)


def test_a_run_that_cannot_be_read_is_refused_beside_others(empty, away):
    if not empty.backend.durable:
        pytest.skip("it has the values themselves")
    module, forget = away
    for run_id in ("good", "odd"):
        given = {"number": module.Colour.RED if run_id == "odd" else 1}
        taskflowx.load(linear_flow.Flow("f").add(task.FunctorTask(lambda number: 1, name="a")), given,
                       backend=empty.backend, run_id=run_id).close()  # fmt: skip
    forget()
    new = linear_flow.Flow("f").add(task.FunctorTask(lambda number: 1, name="a"))
    verdicts = {verdict.run_id: verdict for verdict in takeover.verify(new, empty.backend)}
    assert (verdicts["good"].refused, verdicts["good"].runs) == (None, ["a"])
    assert "has not imported 'taskflowx_tests_away'" in verdicts["odd"].refused


# -- waiting and watching ----------------------------------------------------------------------------------------------


class Clock(VirtualClock):
    """At each wait of a reader, does the next thing of a script."""

    def __init__(self, *script):
        super().__init__()
        self._script = list(script)

    def wait_for(self, due, *, idle):
        if self._script:
            self._script.pop(0)()
        return super().wait_for(due, idle=idle)


def test_a_wait_ends_with_the_run(backend, run_id):
    with Held(backend, run_id) as held, runs.open(backend, clock=Clock(lambda: None, held.__exit__)) as opened:
        assert opened.wait(run_id) == {"x": 5}


def test_a_wait_may_be_limited(backend, run_id):
    clock = VirtualClock()
    with Held(backend, run_id), runs.open(backend, clock=clock) as opened:
        with pytest.raises(TimeoutError, match="has not come to rest within 3 seconds"):
            opened.wait(run_id, timeout=3)
        assert clock.monotonic() == 3


def test_each_change_is_watched(backend, run_id):
    calls = []
    engine = taskflowx.load(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id)
    steps = engine.run_iter()

    def further(called):
        def step():
            while called != calls:
                next(steps)

        return step

    def finish():
        for _ in steps:
            pass

    clock = Clock(further(["price"]), lambda: None, further(["price", "send"]), finish)
    with runs.open(backend, clock=clock) as opened:
        seen = [[view.state, *(atom.state for atom in view.atoms)] for view in opened.watch(run_id)]
    assert seen[0] == ["PENDING", "PENDING", "PENDING"]
    assert seen[-1] == ["SUCCESS", "SUCCESS", "SUCCESS"]
    assert ["RUNNING", "SUCCESS", "PENDING"] in seen or ["RUNNING", "RUNNING", "PENDING"] in seen
    assert all(one != other for one, other in itertools.pairwise(seen))


def test_a_run_that_begins_while_it_is_read_is_not_left_by_its_process(backend, run_id, monkeypatch):
    """Who runs it is read first, so that it may be seen RUNNING without anybody."""
    calls = []
    engine = taskflowx.load(flow_of(calls), {"amount": 4}, backend=backend, run_id=run_id)
    steps, read = engine.run_iter(), []
    kind = type(backend.get_connection())
    get_claim = kind.get_claim

    def begin_meanwhile(connection, uuid):
        found = get_claim(connection, uuid)
        if not read:
            read.append(uuid)
            while calls != ["price"]:
                next(steps)
        return found

    monkeypatch.setattr(kind, "get_claim", begin_meanwhile)
    with runs.open(backend) as opened:
        first, second = opened.get(run_id), opened.get(run_id)
    for _ in steps:
        pass
    assert (first.state, first.owner, second.is_left) == ("RUNNING", None, False)


# -- forking -----------------------------------------------------------------------------------------------------------


def net(calls, fails=()):
    """Return a flow in which `b` and `c` follow `a`, and `d` follows both."""

    def named(name, *needs):
        def work(**given):
            calls.append(name)
            if name in fails:
                raise ValueError(name)
            return f"{name}({','.join(map(str, given.values()))})"

        return task.FunctorTask(work, name=name, provides=f"v{name}", requires=needs)

    return graph_flow.Flow("net").add(
        named("a", "seed"), named("b", "va"), named("c", "va"), named("d", "vb", "vc"), named("e", "seed")
    )


@pytest.mark.parametrize(
    ("from_task", "again"),
    [("a", "abcd"), ("b", "bd"), ("c", "cd"), ("d", "d"), ("e", "e"), (None, "abcde")],
)
def test_a_fork_keeps_what_was_before_a_task(known, backend, run_id, from_task, again):
    calls = []
    first = taskflowx.run(net(calls), {"seed": 1}, backend=backend, run_id=run_id)
    forked = known.fork(run_id, from_task=from_task)
    assert forked == f"{run_id}-2"
    seen = known.get(forked)
    assert sorted(atom.name for atom in seen.atoms if atom.state == states.PENDING) == list(again)
    calls.clear()
    assert taskflowx.run(net(calls), backend=backend, run_id=forked) == first
    assert sorted(calls) == list(again)
    assert taskflowx.run(net(calls), backend=backend, run_id=run_id) == first  # as it was


def test_a_fork_may_have_other_values(known, backend, run_id):
    taskflowx.run(net([]), {"seed": 1}, backend=backend, run_id=run_id)
    forked = known.fork(run_id, from_task="e", store={"seed": 2, "more": 3}, run_id=f"{run_id} other")
    assert forked == f"{run_id} other"
    result = taskflowx.run(net([]), {"seed": 2, "more": 3}, backend=backend, run_id=forked)
    assert (result["va"], result["ve"]) == ("a(1)", "e(2)")
    assert known.get(forked).result() == result
    with pytest.raises(exceptions.Duplicate) as caught:
        known.fork(run_id, run_id=forked)
    assert str(caught.value) == f"There is a run '{forked}' already; give the new one another run_id"
    assert known.fork(run_id) == f"{run_id}-2"
    assert known.fork(run_id) == f"{run_id}-3"


def test_a_fork_that_could_not_run_as_a_result_was_not_kept_is_refused(known, backend, run_id):
    calls = []
    taskflowx.run(net(calls), {"seed": 1}, backend=backend, run_id=run_id, keep_results=["vb", "vc"])
    for from_task in "bc":  # each takes that of `a`
        with pytest.raises(
            exceptions.InvalidState, match=rf"'{from_task}' .*requires 'va' of 'a', .*\nFork it from 'a'"
        ):
            known.fork(run_id, from_task=from_task)
    assert [one.id for one in known.list() if one.id.startswith(f"{run_id}-")] == []
    assert known.fork(run_id, from_task="b", store={"va": "a(9)"}) == f"{run_id}-2"
    for from_task, again in (("d", "d"), ("a", "abcd")):
        calls.clear()
        forked = known.fork(run_id, from_task=from_task)
        assert taskflowx.run(net(calls), backend=backend, run_id=forked).state == states.SUCCESS
        assert sorted(calls) == list(again)


def test_a_fork_of_a_failed_run_starts_with_what_has_not_succeeded(known, backend, run_id):
    calls = []
    flow = net(calls, fails="c")
    taskflowx.run(flow, {"seed": 1}, backend=backend, run_id=run_id, raises=False, never_resolve=True)
    forked = known.fork(run_id, from_task="d")
    calls.clear()
    assert taskflowx.run(net(calls), backend=backend, run_id=forked).state == states.SUCCESS
    assert "c" in calls
    assert "a" not in calls
    with pytest.raises(exceptions.NotFound, match="no atom 'dd' on record"):
        known.fork(run_id, from_task="dd")


def test_a_fork_of_a_run_whose_rollback_has_begun_undoes_nothing_of_it(known, backend, run_id):
    calls, stuck = [], [OSError("stuck")]

    def named(name, fails=(), undo=()):
        def work(**given):
            calls.append(name)
            for error in fails:
                raise error

        def undo_work(**given):
            calls.append(f"undo {name}")
            for error in undo:
                raise error

        return task.FunctorTask(work, name=name, revert=undo_work)

    def flow(fails=()):
        return linear_flow.Flow("f", retry=retry.Times(1, "r")).add(
            named("a"), named("b", undo=stuck), named("c", fails=fails)
        )

    ran = taskflowx.run(flow([ValueError("c")]), backend=backend, run_id=run_id, raises=False)
    assert (ran.state, known.get(run_id).atom("a").intention) == (states.FAILURE, "REVERT")
    forked = known.fork(run_id, from_task="b")
    kept = [(atom.name, atom.state, atom.intention) for atom in known.get(forked).atoms if atom.name in "ra"]
    assert sorted(kept) == [("a", "SUCCESS", "EXECUTE"), ("r", "SUCCESS", "EXECUTE")]
    calls.clear()
    assert taskflowx.run(flow(), backend=backend, run_id=forked).state == states.SUCCESS
    assert calls == ["b", "c"]


def test_a_fork_keeps_what_was_skipped_though_a_rollback_has_begun(known, backend, run_id):
    def flow(*fails):
        def last():
            for error in fails:
                raise error

        def undo(**given):
            raise OSError("stuck")

        a, b = task.FunctorTask(lambda: 1, name="a"), task.FunctorTask(lambda: 2, name="b")
        c, d = task.FunctorTask(lambda: 3, name="c", revert=undo), task.FunctorTask(last, name="d")
        made = graph_flow.Flow("g").add(a, b, c, d)
        made.link(a, b, decider=lambda history: False, decider_depth="ATOM")
        made.link(b, c)
        made.link(c, d)
        return made

    ran = taskflowx.run(flow(ValueError("d")), backend=backend, run_id=run_id, raises=False)
    assert ran.state == states.FAILURE
    forked = known.fork(run_id, from_task="c")
    kept = {atom.name: (atom.state, atom.intention) for atom in known.get(forked).atoms}
    assert (kept["a"], kept["b"]) == (("SUCCESS", "EXECUTE"), ("IGNORE", "IGNORE"))
    assert taskflowx.run(flow(), backend=backend, run_id=forked).state == states.SUCCESS


def test_a_fork_of_a_run_without_an_id_repeats_all_that_comes_later_in_the_record(empty):
    calls = []
    taskflowx.run(linear_flow.Flow("l").add(net(calls)), {"seed": 1}, backend=empty.backend)
    (summary,) = empty.list()
    forked = empty.fork(summary.id, from_task="c", run_id="forked")
    names = [atom.name for atom in empty.get(forked).atoms]
    pending = [atom.name for atom in empty.get(forked).atoms if atom.state == states.PENDING]
    assert pending == names[names.index("c") :]


# -- removing ----------------------------------------------------------------------------------------------------------


def test_a_removed_run_is_gone_with_all_that_it_had(empty):
    kept = stored(empty.backend, "kept")
    taskflowx.run(flow_of([]), {"amount": 4}, backend=empty.backend, run_id="gone")
    uuids = [empty.get("gone").uuid]
    with contextlib.closing(empty.backend.get_connection()) as connection:
        uuids += [atom.uuid for atom in connection.get_flow_details(uuids[0])]
        empty.delete("gone")
        assert ids(empty.list()) == [kept]
        assert [book.name for book in connection.get_logbooks()] == [kept]
        with pytest.raises(exceptions.NotFound):
            connection.get_flow_details(uuids[0])
        for uuid in uuids[1:]:
            with pytest.raises(exceptions.NotFound):
                connection.get_atom_details(uuid)
    calls = []
    assert taskflowx.run(flow_of(calls), {"amount": 5}, backend=empty.backend, run_id="gone")["total"] == 10
    assert calls == ["price", "send"]


def test_a_run_is_not_removed_while_it_runs(known, backend, run_id):
    with Held(backend, run_id) as held:
        with pytest.raises(exceptions.OwnershipFailure, match="is being run by another engine"):
            known.delete(run_id)
        assert known.prune(older_than=0, states="RUNNING") == 0
        assert known.get(run_id).state == states.RUNNING
    assert held.results == [{"x": 5}]
    known.delete(run_id)


def test_a_run_among_others_leaves_their_book(empty):
    book = models.LogBook("mine")
    details = [models.FlowDetail(name, models.make_uuid()) for name in "ab"]
    for detail in details:
        book.add(detail)
    with contextlib.closing(empty.backend.get_connection()) as connection:
        connection.save_logbook(book)
        for detail in details:
            empty.delete(detail.uuid)
        assert [(one.name, len(one)) for one in connection.get_logbooks()] == [("mine", 0)]


def test_old_runs_are_pruned_by_their_state(empty):
    for n in range(6):
        stored(empty.backend, f"r{n}", [states.SUCCESS, states.REVERTED, states.SUSPENDED][n % 3])
    assert empty.prune(older_than=3600) == 0
    assert empty.prune(older_than=dt.timedelta(0), states="REVERTED") == 2
    assert empty.prune(older_than=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)) == 2
    assert ids(empty.list()) == ["r5", "r2"]
    with pytest.raises(ValueError, match="states must be one of"):
        empty.prune(older_than=0, states="OLD")
    with pytest.raises(ValueError, match="older_than must be"):
        empty.prune(older_than=-1)


def test_a_run_that_has_ended_after_a_time_is_not_older_than_it(empty):
    """On each store a run is as old as its last change, and not as its record."""
    for run_id in ("a", None):
        with contextlib.closing(
            taskflowx.load(flow_of([]), {"amount": 4}, backend=empty.backend, **({"run_id": run_id} if run_id else {}))
        ) as engine:
            (made,) = empty.list(state="PENDING")
            between = dt.datetime.now(dt.UTC)
            while dt.datetime.now(dt.UTC) - between < dt.timedelta(seconds=RESOLUTION):
                pass
            engine.run()
        (row,) = (one for one in empty.list() if one.id == made.id)
        assert row.created_at == made.created_at <= between
        assert row.updated_at > between
        assert empty.prune(older_than=between) == 0
        assert empty.prune(older_than=dt.datetime.now(dt.UTC) + dt.timedelta(seconds=5)) == 1


def test_a_fork_of_a_run_with_the_longest_id_has_an_id_of_that_length(known, backend, run_id):
    longest = run_id.ljust(run_records.LONGEST_ID, "x")
    taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id=longest)
    assert known.fork(longest) == f"{longest[:-2]}-2"
    assert known.fork(longest) == f"{longest[:-2]}-3"


@pytest.mark.parametrize("ends", [True, False], ids=["again", "begins again"])
def test_a_run_that_is_begun_again_after_it_was_listed_is_not_pruned(empty, run_id, monkeypatch, ends):
    first = taskflowx.run(flow_of([]), {"amount": 4}, backend=empty.backend, run_id=run_id)
    before = dt.datetime.now(dt.UTC)
    while dt.datetime.now(dt.UTC) - before < dt.timedelta(seconds=RESOLUTION):
        pass
    connect, begun = empty.backend.get_connection, []

    def again():
        options = {"backend": empty.backend, "run_id": run_id, "if_finished": "again"}
        if ends:
            taskflowx.run(flow_of([]), **options)
        else:
            begun.append(taskflowx.load(flow_of([]), **options).run_iter())
            assert next(begun[0]) == states.RESUMING

    def connected():
        made = connect()
        listed = made.get_runs

        def get_runs(query):
            rows = listed(query)
            if rows:
                monkeypatch.undo()
                again()
            return rows

        made.get_runs = get_runs
        return made

    monkeypatch.setattr(empty.backend, "get_connection", connected)
    assert empty.prune(older_than=before + dt.timedelta(seconds=RESOLUTION / 2)) == 0
    for run in begun:
        for _ in run:
            pass
    assert empty.get(run_id).result() == first


def test_many_runs_are_pruned_in_parts(empty):
    for n in range(450):
        stored(empty.backend, f"r{n}")
    stored(empty.backend, "kept", states.SUSPENDED)
    assert empty.prune(older_than=0) == 450
    assert ids(empty.list()) == ["kept"]


def test_two_that_remove_the_same_run_and_one_that_starts_it_agree(known, backend, run_id):
    together, errors = threading.Barrier(3), []

    def attempt(what):
        together.wait(30)
        try:
            what()
        except (exceptions.NotFound, exceptions.OwnershipFailure) as error:
            errors.append(error)

    def start():
        taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id)

    start()
    for _ in range(10):
        work = (start, lambda: known.delete(run_id), lambda: known.delete(run_id))
        threads = [threading.Thread(target=attempt, args=(what,)) for what in work]
        for each in threads:
            each.start()
        for each in threads:
            each.join(60)
        result = taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id)
        assert result == {"amount": 4, "total": 8}


@pytest.mark.parametrize("before", ["nothing", "finished"])
@pytest.mark.parametrize("removed_before", ["it is begun", "it is reset"])
def test_a_run_that_is_removed_before_it_begins_is_made_again(
    known, backend, run_id, monkeypatch, before, removed_before
):
    options = {"backend": backend, "run_id": run_id}
    if before == "finished":
        taskflowx.run(flow_of([]), {"amount": 4}, **options)
    name = "engine" if removed_before == "it is begun" else "_compare"
    step, calls = getattr(start.Start, name), []

    def then_gone(self, *given):
        made = step(self, *given)
        if not calls:
            calls.append("removed")
            known.delete(run_id)
        return made

    monkeypatch.setattr(start.Start, name, then_gone)
    if before == "nothing" and name == "_compare":
        calls.append("removed")  # nothing is compared with what is not there
    assert taskflowx.run(flow_of(calls), {"amount": 4}, if_finished="again", **options)["total"] == 8
    assert calls == ["removed", "price", "send"]
    assert known.get(run_id).state == states.SUCCESS


def test_what_a_task_raises_as_its_own_is_not_taken_for_a_run_that_is_gone(backend, run_id):
    calls = []

    def work():
        calls.append("work")
        raise exceptions.NotFound("no such file")

    flow = linear_flow.Flow("f").add(task.FunctorTask(work, name="a"))
    with pytest.raises(exceptions.NotFound, match="no such file"):
        taskflowx.run(flow, backend=backend, run_id=run_id)
    assert calls == ["work"]


def test_an_engine_of_a_run_that_was_removed_and_made_again_runs_nothing(known, backend, run_id):
    calls, options = [], {"backend": backend, "run_id": run_id}
    taskflowx.run(flow_of([]), {"amount": 4}, **options)
    with taskflowx.load(flow_of(calls), {"amount": 4}, if_finished="again", **options) as old:
        known.delete(run_id)
        taskflowx.run(flow_of(calls), {"amount": 4}, **options)
        with pytest.raises(exceptions.OwnershipFailure, match="has gone on since it was read"):
            old.run()
    assert calls == ["price", "send"]


def test_a_copy_of_a_removed_run_is_stale_for_one_of_its_id_that_was_written_as_often(known, backend, run_id):
    options = {"backend": backend, "run_id": run_id}
    taskflowx.run(flow_of([]), {"amount": 4}, **options)
    with contextlib.closing(backend.get_connection()) as connection:
        old = connection.get_flow_details(known.get(run_id).uuid)
        commits = known.get(run_id).metrics.commits
        known.delete(run_id)
        taskflowx.run(flow_of([]), {"amount": 4}, **options)
        assert known.get(run_id).metrics.commits == commits < 20
        old.meta["more"] = 1
        with pytest.raises(exceptions.OwnershipFailure, match="has gone on since it was read"):
            connection.update_flow_details(old)
    assert [atom.name for atom in known.get(run_id).atoms] == ["price", "send"]


def test_an_owner_whose_run_was_removed_and_made_again_writes_nothing_of_that(known, backend, run_id):
    if not backend.durable:
        pytest.skip("a run in memory is that of one process")

    def begun(clock):
        detail, owner = connection.get_flow_details(run_records.flow_uuid(run_id)), owners.Owner()
        owner.clock, owner.running, detail.state = clock, True, states.RUNNING
        return lambda: connection.save_changes(detail, (), owner)

    with contextlib.closing(backend.get_connection()) as connection:
        stored(backend, run_id, states.PENDING)
        late = begun(VirtualClock(start=1000.0))  # so its lease is over
        for _ in range(3):
            late()
        known.delete(run_id)
        stored(backend, run_id, states.PENDING)
        other = begun(clocks.SYSTEM)
        for _ in range(3):
            other()
            with pytest.raises(exceptions.OwnershipFailure):
                late()
        other()


def test_a_view_says_when_and_where_each_call_was_made(known, backend, run_id):
    if not backend.keeps_history:
        pytest.skip("it keeps no history")
    before = dt.datetime.now(dt.UTC) - dt.timedelta(seconds=1)
    ran = taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id, history=True)
    seen = known.get(run_id)
    for atom in seen.atoms:
        assert before < atom.queued <= atom.started <= atom.ended < dt.datetime.now(dt.UTC) + dt.timedelta(seconds=1)
        assert (atom.worker, atom.attempts) == ("MainThread", 1)
        assert atom.duration == ran.durations[atom.name] == seen.result().durations[atom.name] >= 0
    again = taskflowx.run(flow_of([]), {"amount": 4}, backend=backend, run_id=run_id)
    assert again.durations == ran.durations
    assert pickle.loads(pickle.dumps(ran)).durations == ran.durations
