"""What happens in a run, in which order, and what is told of it."""

from __future__ import annotations

import asyncio
import copy
import logging
import threading

import pytest

from taskflowx import engines, exceptions, executors, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.types import notifier as notifiers
from taskflowx.types.failure import Failure


class Log(list):
    """What was called, in order."""


class Work(task.Task):
    def __init__(self, name, log=None, **kwargs):
        super().__init__(name, **kwargs)
        self.log = log if log is not None else Log()

    def execute(self):
        self.log.append(f"+{self.name}")
        return f"result of {self.name}"

    def revert(self, result, flow_failures):
        self.log.append(f"-{self.name}")
        return f"{self.name} undone"


class Boom(Work):
    def execute(self):
        self.log.append(f"!{self.name}")
        raise RuntimeError("Woot!")


class BadUndo(Work):
    broken = True

    def revert(self, result, flow_failures):
        self.log.append(f"-{self.name}")
        if self.broken:
            raise ValueError(f"cannot undo {self.name}")


def linear(*members, controller=None, name="f"):
    return linear_flow.Flow(name, controller).add(*members)


def events_of(engine):
    """Collect (event, name, details) of the atoms."""
    told = []

    def tell(event, details):
        told.append((event, details.get("task_name") or details.get("retry_name"), details))

    engine.atom_notifier.register(notifiers.Notifier.ANY, tell)
    return told


def short(told):
    return [f"{name} {event}" for event, name, _ in told]


def failing(engine, error=RuntimeError):
    with pytest.raises(error) as caught:
        engine.run()
    return caught.value


@pytest.fixture
def log():
    return Log()


@pytest.fixture(params=["serial", "parallel", "listened", "stepwise"])
def load(request):
    """Loads an engine that goes the short path, the path with a listener, step by step, or through threads."""

    def make(flow, **kwargs):
        if request.param == "parallel":
            kwargs |= {"engine": "parallel", "max_workers": 1, "inline": False}
        engine = engines.load(flow, **kwargs)
        if request.param == "listened":
            events_of(engine)
        if request.param == "stepwise":
            engine.run = lambda: list(engine.run_iter())
        return engine

    return make


# -- events ----------------------------------------------------------------------------------------


def test_events_of_success_come_in_order_with_their_details():
    engine = engines.load(linear(Work("a"), Work("b")))
    told = events_of(engine)
    engine.run()
    assert short(told) == ["a RUNNING", "a SUCCESS", "b RUNNING", "b SUCCESS"]
    uuid = engine.storage.get_atom_uuid("a")
    assert told[0][2] == {"task_name": "a", "task_uuid": uuid, "old_state": "PENDING"}
    assert told[1][2] == {"task_name": "a", "task_uuid": uuid, "old_state": "RUNNING", "result": "result of a"}


def test_events_of_a_rollback_come_in_order_with_failure_and_revert_result():
    engine = engines.load(linear(Work("a"), Boom("b")))
    told = events_of(engine)
    failing(engine)
    assert short(told)[2:] == ["b RUNNING", "b FAILURE", "b REVERTING", "b REVERTED", "a REVERTING", "a REVERTED"]
    by = {f"{name} {event}": details for event, name, details in told}
    assert isinstance(by["b FAILURE"]["result"], Failure)
    assert by["b FAILURE"]["result"].exception_str == "Woot!"
    assert by["b REVERTING"]["old_state"] == "FAILURE"
    assert "result" not in by["b REVERTING"]
    assert (by["a REVERTED"]["old_state"], by["a REVERTED"]["result"]) == ("REVERTING", "a undone")


def test_the_event_of_a_failed_revert_has_its_failure():
    engine = engines.load(linear(BadUndo("a"), Boom("b")))
    told = events_of(engine)
    failing(engine, exceptions.WrappedFailure)
    event, name, details = told[-1]
    assert (event, name, details["old_state"]) == ("REVERT_FAILURE", "a", "REVERTING")
    assert details["result"].exception_str == "cannot undo a"


def test_events_of_a_retry_have_its_names_and_its_region_is_reset_before_it_runs_again():
    engine = engines.load(linear(Work("a"), Boom("b"), controller=retry.Times(2, "r")))
    told = events_of(engine)
    failing(engine)
    texts = short(told)
    second = texts.index("r RETRYING")
    assert texts[:2] == ["r RUNNING", "r SUCCESS"]
    assert texts[second : second + 5] == ["r RETRYING", "a PENDING", "b PENDING", "r RUNNING", "r SUCCESS"]
    assert texts[-2:] == ["r REVERTING", "r REVERTED"]
    assert set(told[second][2]) == {"retry_name", "retry_uuid", "old_state"}
    assert told[second + 4][2]["result"] == 2


def test_events_of_a_reset_are_told():
    engine = engines.load(linear(Work("a"), Work("b")))
    engine.run()
    told = events_of(engine)
    engine.reset()
    assert short(told) == ["a PENDING", "b PENDING"]
    assert told[0][2]["old_state"] == "SUCCESS"


def test_the_event_of_what_a_decider_leaves_out_is_ignore():
    a, b, c = Work("a"), Work("b"), Work("c")
    flow = graph_flow.Flow("g").add(a, b, c)
    engine = engines.load(flow.link(a, b, decider=lambda history: False).link(b, c))
    told = events_of(engine)
    engine.run()
    assert short(told)[2:] == ["b IGNORE", "c IGNORE"]
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_a_listener_that_raises_is_logged_and_the_run_goes_on(caplog):
    engine = engines.load(linear(Work("a")))

    def bad(event, details):
        raise ValueError("bad listener")

    engine.atom_notifier.register("*", bad)
    with caplog.at_level(logging.WARNING):
        engine.run()
    assert "bad" in caplog.text
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_who_begins_to_listen_in_the_middle_of_a_call_hears_how_it_ends():
    told = []

    class Tells(Work):
        def execute(self):
            engine.atom_notifier.register("*", lambda event, details: told.append((event, details)))
            return 7

    engine = engines.load(linear(Tells("a"), Work("b")))
    engine.run()
    assert [(event, details["task_name"]) for event, details in told] == [
        ("SUCCESS", "a"),
        ("RUNNING", "b"),
        ("SUCCESS", "b"),
    ]
    assert told[0][1] == {
        "task_name": "a",
        "task_uuid": engine.storage.get_atom_uuid("a"),
        "old_state": states.RUNNING,
        "result": 7,
    }


def test_a_listener_that_is_interrupted_before_a_call_leaves_the_task_as_it_was():
    first = Work("a")
    engine, log = engines.load(linear(first, Work("b"))), first.log

    def interrupt(event, details):
        raise KeyboardInterrupt

    engine.atom_notifier.register(states.RUNNING, interrupt)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert engine.storage.get_atom_state("a") == states.PENDING
    assert log == []
    engine.atom_notifier.deregister(states.RUNNING, interrupt)
    engine.run()
    assert log == ["+a"]
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_what_is_on_record_when_a_listener_is_interrupted_is_not_told_again():
    """The results of a and b, and the progress of a, are taken together; the listener of b is interrupted."""
    go, done, told = threading.Event(), threading.Event(), []

    class Reports(task.Task):
        def execute(self):
            assert go.wait(30)
            self.update_progress(0.5)
            self.update_progress(0.7)

        def post_execute(self):
            done.set()

    def listen(event, details):
        if details["task_name"] == "z":
            go.set()
            while delivered[-1].qsize() < 4:
                threading.Event().wait(0.001)
        elif details["task_name"] == "b":
            raise KeyboardInterrupt

    late = task.FunctorTask(lambda: done.wait(30) and go.wait(30) and None, name="b")
    flow = unordered_flow.Flow("f").add(Work("z"), Reports("a"), late)
    executor, delivered = executors.fetch("threads", 3), []
    make_queue = executor.make_queue
    executor.make_queue = lambda: delivered.append(make_queue()) or delivered[-1]
    engine = engines.load(flow, engine="parallel", executor=executor)
    engine.atom_notifier.register(states.SUCCESS, listen)
    engine.atom_notifier.register(task.EVENT_UPDATE_PROGRESS, lambda event, details: told.append(details["progress"]))
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert told == [0.5, 0.7]
    assert {engine.storage.get_atom_state(name) for name in "zab"} == {states.SUCCESS}
    assert engine.storage.get_task_progress("a") == 1.0


def test_coroutines_under_way_are_let_finish_when_another_one_has_left_and_a_listener_too():
    class Leaves(task.Task):
        async def execute(self):
            raise SystemExit(3)

    class Yields(task.Task):
        async def execute(self):
            return 1

    class Stays(task.Task):
        async def execute(self):
            await asyncio.sleep(0.05)
            return 1

    def interrupt(event, details):
        raise KeyboardInterrupt

    engine = engines.load(unordered_flow.Flow("f").add(Leaves("a"), Yields("b"), Stays("c")), executor="asyncio")
    engine.atom_notifier.register(states.SUCCESS, interrupt)

    async def run():
        with pytest.raises(KeyboardInterrupt):
            await engine.arun()

    asyncio.run(run())
    assert [engine.storage.get_atom_state(name) for name in "abc"] == [states.RUNNING, states.SUCCESS, states.SUCCESS]


class Rounds(task.Task):
    """Runs in rounds, of which each ends as the test says."""

    def __init__(self, name, log, acts):
        super().__init__(name)
        self.log, self.acts = log, acts

    def execute(self):
        self.log.append(f"+{self.name}")
        act = self.acts.pop(self.name, None)
        if act is not None:
            act()

    def revert(self, **_):
        self.log.append(f"-{self.name}")


def two_chains(*lengths):
    """Return an engine for two chains under one retry, what its tasks do, and what they are to do once."""
    log, acts = [], {}
    chains = [
        linear_flow.Flow(chain).add(*(Rounds(f"{chain}{n}", log, acts) for n in range(length)))
        for chain, length in zip("ab", lengths, strict=True)
    ]
    flow = linear(unordered_flow.Flow("u").add(*chains), controller=retry.Times(4, "r"))
    engine = engines.load(flow, engine="parallel", max_workers=4)
    engine.compile()
    engine.prepare()
    return engine, log, acts


def fail():
    raise ValueError("on purpose")


def test_what_was_cut_off_and_has_run_again_is_not_undone_while_it_runs():
    """In a later round it is under way as everything else is, when another task fails."""
    engine, log, acts = two_chains(8, 2)
    acts["b1"] = engine.suspend
    engine.run()
    for detail in engine.preparation.details:  # as when what came of a0 was lost, and its worker had gone on to the end
        if detail is not None and detail.name.startswith("a"):
            detail.state, detail.results = states.RUNNING, None
    log.clear()
    began, undone = threading.Event(), threading.Event()

    def is_slow():
        began.set()
        assert not undone.wait(0.2)

    def fails_meanwhile():
        assert began.wait(30)
        fail()

    def fails_first():
        acts.update(a2=is_slow, b1=fails_meanwhile)
        fail()

    acts["a7"] = fails_first
    engine.compilation.plan.atoms[engine.compilation.plan.names["a2"]].pre_revert = lambda: (
        began.is_set() and undone.set()
    )
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert engine.storage.get_execute_failures() == {}
    histories = dict(engine.storage.get_retry_histories())
    assert {name for history in histories.values() for name, _ in history.outcomes_iter()} == {"a7", "b1"}
    for name in (f"a{n}" for n in range(8)):
        did = [what[0] for what in log if what[1:] == name]
        assert did == ["+", "-"] * (len(did) // 2) + ["+"]


# -- progress --------------------------------------------------------------------------------------


class Slow(task.Task):
    def execute(self):
        self.update_progress(0.25, at="quarter")
        self.update_progress(7)
        self.update_progress(-1)


@pytest.mark.parametrize("kwargs", [{}, {"engine": "parallel", "inline": False}])
def test_progress_reaches_the_task_the_engine_and_the_record(kwargs):
    slow = Slow("s")
    own, told = [], []
    slow.notifier.register("update_progress", lambda event, details: own.append(details["progress"]))
    engine = engines.load(linear(slow), **kwargs)
    engine.atom_notifier.register("update_progress", lambda event, details: told.append(details))
    engine.run()
    assert own == [0.0, 0.25, 1.0, 0.0, 1.0]
    assert [details["progress"] for details in told] == [0.25, 1.0, 0.0]
    assert (told[0]["task_name"], told[0]["at"]) == ("s", "quarter")
    assert engine.storage.get_task_progress("s") == 1.0
    assert engine.storage.get_task_progress_details("s") == {"at_progress": 0.25, "details": {"at": "quarter"}}


class Reporter(task.Task):
    def execute(self):
        self._notifier.notify("update_progress", {"progress": 0.25, "steps": ["one"]})
        self.notifier.notify("update_progress", {"progress": 0.75, "steps": ["one", "two"]})
        self.notifier.notify("update_progress", {"steps": "of no progress"})


@pytest.mark.parametrize(
    "kwargs", [{}, {"engine": "parallel", "inline": False}, {"engine": "parallel", "executor": "processes"}]
)
def test_progress_that_a_task_notifies_of_itself_is_recorded(kwargs):
    reporter = copy.deepcopy(Reporter("r")).copy()
    told = []
    engine = engines.load(linear(reporter), **kwargs)
    engine.atom_notifier.register("update_progress", lambda event, details: told.append(details["progress"]))
    engine.run()
    assert told == [0.25, 0.75]
    assert engine.storage.record.flow_detail.find(engine.storage.get_atom_uuid("r")).meta == {
        "progress": 1.0,
        "progress_details": {"at_progress": 0.75, "details": {"steps": ["one", "two"]}},
    }


def test_progress_out_of_bounds_is_clamped_with_a_warning(caplog):
    slow, told = Slow("s"), []
    slow.notifier.register(task.EVENT_UPDATE_PROGRESS, lambda event, details: told.append(details["progress"]))
    engine = engines.load(linear(slow, Boom("b")))
    with caplog.at_level(logging.WARNING):
        failing(engine)
    assert caplog.text.count("Progress value must be greater or equal to 0.0") == 2
    assert told[1:4] == [0.25, 1.0, 0.0]  # after that of its beginning
    assert engine.storage.get_task_progress("s") == 1.0  # it has succeeded, before it was undone


def test_progress_reads_one_after_success_though_nothing_was_reported():
    engine = engines.load(linear(Work("a")))
    engine.compile()
    engine.prepare()
    assert engine.storage.get_task_progress("a") == 0.0
    engine.run()
    assert engine.storage.get_task_progress("a") == 1.0


# -- what raises where the user's code decides -----------------------------------------------------


def test_a_decider_that_raises_is_a_failure_of_the_atom_it_is_before(load, log):
    def decide(history):
        raise KeyError("no such key")

    a, b = Work("a", log), Work("b", log)
    engine = load(graph_flow.Flow("g").add(a, b).link(a, b, decider=decide))
    failing(engine, KeyError)
    assert log == ["+a", "-a"]
    assert list(engine.storage.get_failures()) == ["b"]
    assert engine.storage.get_flow_state() == states.REVERTED


def test_a_decider_before_a_retry_is_asked_once_though_the_retry_runs_again(load, log):
    asked = []
    before = Work("before", log)
    inner = linear(Boom("b", log), controller=retry.Times(3, "r"))
    flow = graph_flow.Flow("g").add(before, inner)
    failing(load(flow.link(before, inner, decider=lambda history: asked.append(history) or True)))
    assert len(asked) == 1
    assert log.count("!b") == 3


class Unsure(retry.Retry):
    answer = None

    def execute(self, history):
        return None

    def on_failure(self, history):
        if self.answer is None:
            raise KeyError("unsure")
        return self.answer


@pytest.mark.parametrize(("answer", "error"), [(None, KeyError), ("MAYBE", TypeError)])
def test_an_on_failure_that_does_not_decide_is_a_failure_of_the_retry_and_rolls_back(load, log, answer, error):
    controller = Unsure("r")
    controller.answer = answer
    engine = load(linear(Work("a", log), Boom("b", log), controller=controller))
    caught = failing(engine, exceptions.WrappedFailure)
    assert caught.check(error) is error
    assert caught.check(RuntimeError) is RuntimeError
    assert set(engine.storage.get_failures()) == {"b", "r"}
    assert log == ["+a", "!b", "-b", "-a"]
    assert engine.storage.get_flow_state() == states.REVERTED


@pytest.mark.parametrize(("answer", "error"), [(None, KeyError), ("MAYBE", TypeError)])
def test_an_on_failure_that_does_not_decide_leaves_no_flow_half_undone(load, log, answer, error):
    controller = Unsure("r")
    controller.answer = answer
    flow = linear(Work("a", log), linear(Boom("b", log), controller=controller, name="inner"))
    engine = load(flow)
    assert failing(engine, exceptions.WrappedFailure).check(error) is error
    assert log == ["+a", "!b", "-b", "-a"]
    assert (engine.storage.get_flow_state(), engine.not_undone()) == (states.REVERTED, [])


def test_of_an_on_failure_that_raises_the_parent_is_asked(load, log):
    outer = linear(linear(Boom("b", log), controller=Unsure("r"), name="inner"), controller=retry.Times(2, "parent"))
    engine = load(outer)
    failing(engine, exceptions.WrappedFailure)
    assert log == ["!b", "-b", "!b", "-b"]
    assert engine.storage.get_flow_state() == states.REVERTED


class Shorter(Work):
    def execute(self):
        super().execute()
        return (1,)


class Needs(Work):
    def execute(self, x):
        return x


def test_a_value_missing_at_run_time_is_a_failure_of_the_consumer_which_is_not_reverted(load, log):
    engine = load(linear(Shorter("a", log, provides=("y", "x")), Needs("b", log)))
    failing(engine, exceptions.NotFound)
    assert log == ["+a", "-a"]
    assert list(engine.storage.get_failures()) == ["b"]
    assert "argument 'x'" in engine.storage.get_failures()["b"].exception_str
    assert engine.storage.get_atoms_states(["a", "b"]) == {"a": ("REVERTED", "REVERT"), "b": ("REVERTED", "REVERT")}


def test_a_longer_result_is_kept_for_revert_and_its_extra_values_are_not_provided():
    seen = []

    class Longer(task.Task):
        default_provides = ("x",)

        def execute(self):
            return 1, 2, 3

        def revert(self, result, **kwargs):
            seen.append(result)

    engine = engines.load(linear(Longer("a"), Boom("b")))
    failing(engine)
    assert seen == [(1, 2, 3)]


# -- order -----------------------------------------------------------------------------------------


def test_what_succeeded_is_reverted_in_reverse_and_what_never_ran_is_not(load, log):
    engine = load(linear(*(Work(name, log) for name in "ab"), Boom("c", log), Work("d", log)))
    failing(engine)
    assert log == ["+a", "+b", "!c", "-c", "-b", "-a"]
    assert engine.storage.get_atom_state("d") == states.PENDING


def test_the_highest_priority_starts_first_and_is_undone_last(load, log):
    tasks = [Work(name, log) for name in "abc"]
    tasks[2].priority, tasks[0].priority = 2, -1
    engine = load(linear(unordered_flow.Flow("u").add(*tasks), Boom("x", log)))
    failing(engine)
    assert log == ["+c", "+b", "+a", "!x", "-x", "-a", "-b", "-c"]


def test_revert_gets_result_and_failures_and_the_failed_atom_its_own_failure(load):
    seen = {}

    class Keeps(Work):
        def revert(self, result, flow_failures):
            seen[self.name] = (result, dict(flow_failures))

    class Fails(Keeps):
        def execute(self):
            raise RuntimeError("Woot!")

    engine = load(linear(Keeps("a"), Fails("b")))
    failing(engine)
    failure = engine.storage.get_failures()["b"]
    assert seen == {"a": ("result of a", {"b": failure}), "b": (failure, {"b": failure})}


def test_a_task_may_return_a_failure_instead_of_raising(load):
    class Returns(Work):
        def execute(self):
            return Failure.from_exception(RuntimeError("Woot!"))

    engine = load(linear(Work("a"), Returns("b")))
    failing(engine)
    assert engine.storage.get_flow_state() == states.REVERTED


def test_hooks_are_called_around_execute_and_revert_also_when_these_raise(load, log):
    class Hooked(Boom):
        def pre_execute(self):
            log.append("pre_execute")

        def post_execute(self):
            log.append("post_execute")

        def pre_revert(self):
            log.append("pre_revert")

        def post_revert(self):
            log.append("post_revert")

    failing(load(linear(Hooked("a", log))))
    assert log == ["pre_execute", "!a", "post_execute", "pre_revert", "-a", "post_revert"]


# -- retries ---------------------------------------------------------------------------------------


def test_each_attempt_undoes_the_region_and_runs_it_again_with_the_longer_history(load, log):
    lengths = []

    class Thrice(retry.Times):
        def execute(self, history, **kwargs):
            lengths.append([list(failures) for _, failures in history])
            return super().execute(history)

    engine = load(linear(Work("before", log), linear(Boom("b", log), controller=Thrice(3, "r"), name="inner")))
    failing(engine)
    assert log == ["+before"] + ["!b", "-b"] * 3
    assert lengths == [[], [["b"]], [["b"], ["b"]]]
    assert engine.not_undone() == ["before"]
    assert len(engine.storage.get_retry_history("r")) == 0


def test_a_failure_that_a_later_attempt_cured_is_in_the_history_of_its_retry_alone(load):
    class Second(Work):
        count = 0

        def execute(self):
            self.count += 1
            if self.count == 1:
                raise RuntimeError("Woot!")
            return self.count

    engine = load(linear(Second("a", provides="x"), controller=retry.Times(2, "r", provides="n")))
    engine.run()
    assert engine.storage.fetch_all() == {"x": 2, "n": 2}
    assert engine.storage.get_failures() == {}
    assert not engine.storage.has_failures()
    assert [len(failures) for _, failures in engine.storage.get_retry_history("r")] == [1, 0]
