"""The life of a run: what a caller of an engine sees from before it starts until after it has ended."""

from __future__ import annotations

import concurrent.futures
import threading
from unittest import mock

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.engines import engine as classes
from taskflowx.executors import pickling
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.types.failure import Failure

WAIT = 20  # seconds; only a test that fails waits so long


class Work(task.Task):
    def __init__(self, name, log=None, **kwargs):
        super().__init__(name, **kwargs)
        self.log = log if log is not None else []

    def execute(self):
        self.log.append(f"+{self.name}")
        return self.name

    def revert(self, result, flow_failures):
        self.log.append(f"-{self.name}")


class Boom(Work):
    error = RuntimeError

    def execute(self):
        self.log.append(f"!{self.name}")
        if self.error is not None:
            raise self.error("Woot!")


class BadUndo(Work):
    broken = True

    def revert(self, result, flow_failures):
        self.log.append(f"-{self.name}")
        if self.broken:
            raise ValueError(f"cannot undo {self.name}")


def linear(*members, controller=None, name="f"):
    return linear_flow.Flow(name, controller).add(*members)


def state(engine):
    return engine.storage.get_flow_state()


def atoms(engine):
    return {detail.name: detail.state for detail in engine.preparation.details if detail is not None}


def flow_events(engine):
    told = []
    engine.notifier.register("*", lambda event, details: told.append((details["old_state"], event)))
    return told


@pytest.fixture
def log():
    return []


KINDS = [{"engine": "serial"}, {"engine": "parallel", "inline": False}]


@pytest.fixture(params=KINDS, ids=["serial", "threads"])
def kind(request):
    return request.param


# -- before a run ----------------------------------------------------------------------------------


def test_the_steps_before_a_run_come_in_order():
    engine = engines.load(linear(Work("a")))
    with pytest.raises(exceptions.InvalidState, match="Can not prepare an engine which has not been compiled"):
        engine.prepare()
    with pytest.raises(exceptions.InvalidState, match="Can not validate an engine which has not been compiled"):
        engine.validate()
    with pytest.raises(exceptions.InvalidState, match="suspend an engine which has not been compiled"):
        engine.suspend()
    engine.compile()
    with pytest.raises(exceptions.InvalidState, match="has not had its storage populated"):
        engine.validate()
    engine.prepare()
    engine.validate()
    assert state(engine) == states.PENDING


def test_each_step_may_be_done_twice(log):
    engine = engines.load(linear(Work("a", log)))
    for _ in range(2):
        engine.compile()
        engine.prepare()
        engine.validate()
    engine.run()
    assert log == ["+a"]


class Needs(Work):
    def execute(self, x):
        return x


def test_missing_inputs_are_told_before_anything_runs(log):
    engine = engines.load(linear(Work("a", log), Needs("b", rebind={"x": "zz"})), store={"zy": 1})
    with pytest.raises(exceptions.MissingDependencies) as caught:
        engine.run()
    assert list(caught.value.missing_requirements) == ["zz"]
    text = str(caught.value)
    assert "\"linear_flow.Flow: f(len=2)\"' requires ['zz'] but no other entity produces" in text
    assert "'execute' method on '\"b==1.0\"' requires ['zz']" in text
    assert (log, state(engine)) == ([], states.PENDING)


def test_a_missing_input_that_is_injected_afterwards_lets_the_engine_run():
    engine = engines.load(linear(Needs("b", provides="y")))
    with pytest.raises(exceptions.MissingDependencies):
        engine.run()
    engine.storage.inject({"x": 3})
    engine.run()
    assert engine.storage.fetch("y") == 3


# -- options ---------------------------------------------------------------------------------------


def test_an_unknown_option_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ValueError, match=r"Unknown engine options \['nope'\].*'never_resolve'"):
        engines.load(linear(), nope=1)


def test_an_unknown_policy_for_failed_reverts_is_refused():
    with pytest.raises(ValueError, match="on_revert_failure must be one of 'halt', 'continue', not 'stop'"):
        engines.load(linear(), on_revert_failure="stop")


def test_an_unknown_executor_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(ValueError, match=r"Unknown executor string 'nope' expected one of .*'threads'"):
        engines.load(linear(), executor="nope")
    with pytest.raises(TypeError, match=r"Unknown executor '17'"):
        engines.load(linear(), executor=17)
    with pytest.raises(ValueError, match="max_workers must be a positive number"):
        engines.load(linear(), executor="threads", max_workers=0)


def test_options_are_kept_and_the_callers_dict_is_not():
    engine = engines.load(linear(), never_resolve=True)
    assert engine.options == {"never_resolve": True}


# -- the flow's states -----------------------------------------------------------------------------


def test_flow_events_have_the_engine_the_flow_and_the_state_before():
    engine = engines.load(linear(Work("a")))
    told = []
    engine.notifier.register("*", lambda event, details: told.append((event, details)))
    engine.run()
    facts = {"engine": engine, "flow_name": "f", "flow_uuid": engine.storage.flow_uuid}
    assert told == [
        ("RUNNING", {**facts, "old_state": "PENDING"}),
        ("SUCCESS", {**facts, "old_state": "RUNNING"}),
    ]


def test_a_flow_without_members_succeeds(kind):
    engine = engines.load(linear(), **kind)
    engine.run()
    assert state(engine) == states.SUCCESS


def test_a_run_after_success_runs_nothing_again(kind, log):
    engine = engines.load(linear(Work("a", log)), **kind)
    engine.run()
    engine.run()
    assert log == ["+a"]


def test_a_run_after_a_reset_runs_all_again(kind, log):
    engine = engines.load(linear(Work("a", log, provides="x")), **kind)
    engine.run()
    engine.reset()
    assert (state(engine), atoms(engine), engine.storage.fetch_all()) == ("PENDING", {"a": "PENDING"}, {})
    engine.run()
    assert log == ["+a", "+a"]


def test_a_reverted_flow_starts_anew_when_it_is_run(kind, log):
    boom = Boom("b", log)
    engine = engines.load(linear(Work("a", log), boom), **kind)
    with pytest.raises(RuntimeError):
        engine.run()
    assert state(engine) == states.REVERTED
    boom.error = None
    told = flow_events(engine)
    engine.run()
    assert told == [("REVERTED", "PENDING"), ("PENDING", "RUNNING"), ("RUNNING", "SUCCESS")]
    assert log == ["+a", "!b", "-b", "-a", "+a", "!b"]
    assert engine.storage.get_failures() == {}


def test_reset_of_a_flow_that_has_no_way_back_is_refused_and_forgets_nothing():
    engine = engines.load(linear(BadUndo("a"), Boom("b")))
    with pytest.raises(exceptions.WrappedFailure):
        engine.run()
    kept = atoms(engine)
    with pytest.raises(exceptions.InvalidState, match="from 'FAILURE' to 'PENDING'"):
        engine.reset()
    assert (atoms(engine), state(engine)) == (kept, states.FAILURE)
    assert set(engine.storage.get_failures()) == {"b"}


def test_an_engine_that_runs_cannot_be_run_again():
    inner = []

    class Again(task.Task):
        def execute(self):
            with pytest.raises(exceptions.InvalidState, match="is running already"):
                engine.run()
            inner.append(True)

    engine = engines.load(linear(Again("a")))
    engine.run()
    assert (inner, state(engine)) == ([True], states.SUCCESS)


# -- suspend, resume, step by step -----------------------------------------------------------------


def test_suspend_from_a_task_lets_it_finish_and_a_run_goes_on(kind, log):
    class Stops(Work):
        def execute(self):
            engine.suspend()
            return super().execute()

    engine = engines.load(linear(Stops("a", log), Work("b", log)), **kind)
    told = flow_events(engine)
    engine.run()
    assert (state(engine), log, atoms(engine)) == ("SUSPENDED", ["+a"], {"a": "SUCCESS", "b": "PENDING"})
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["+a", "+b"])
    assert [event for _, event in told] == ["RUNNING", "SUSPENDING", "SUSPENDED", "RUNNING", "SUCCESS"]


def test_suspend_in_a_rollback_is_gone_on_with(kind, log):
    class Stops(Work):
        def revert(self, result, flow_failures):
            super().revert(result, flow_failures)
            engine.suspend()

    engine = engines.load(linear(Work("a", log), Stops("b", log), Boom("c", log)), **kind)
    engine.run()
    assert (state(engine), log[-1]) == ("SUSPENDED", "-b")
    with pytest.raises(RuntimeError):
        engine.run()
    assert (state(engine), log[-1]) == ("REVERTED", "-a")
    assert log.count("-b") == 1


def test_suspend_of_an_engine_that_does_not_run_changes_nothing(log):
    engine = engines.load(linear(Work("a", log)))
    engine.compile()
    engine.suspend()
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["+a"])


def test_run_iter_yields_the_steps_and_at_last_the_state():
    engine = engines.load(linear(Work("a"), Work("b")))
    steps = list(engine.run_iter())
    turn = ["SCHEDULING", "WAITING", "ANALYZING"]
    assert steps[0] == "RESUMING"
    assert steps[1:-1] == turn * (len(steps[1:-1]) // 3)
    assert steps.count("SCHEDULING") >= 2
    assert steps[-1] == "SUCCESS"


def test_a_true_value_sent_to_run_iter_suspends(kind, log):
    engine = engines.load(linear(Work("a", log), Work("b", log)), **kind)
    steps = engine.run_iter()
    while not log:
        next(steps)
    rest = [steps.send(True), *steps]
    assert (rest[-1], state(engine), log) == ("SUSPENDED", "SUSPENDED", ["+a"])
    engine.run()
    assert log == ["+a", "+b"]


def test_closing_run_iter_suspends_and_a_run_goes_on(kind, log):
    engine = engines.load(linear(Work("a", log), Work("b", log)), **kind)
    steps = engine.run_iter()
    while not log:
        next(steps)
    steps.close()
    assert state(engine) == states.SUSPENDED
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["+a", "+b"])


def test_run_iter_raises_the_failure_after_the_final_state():
    steps = engines.load(linear(Boom("a"))).run_iter()
    seen = []
    with pytest.raises(RuntimeError):
        seen.extend(seen.append(step) or step for step in steps)
    assert seen[-1] == "REVERTED"


def test_when_the_time_is_up_nothing_new_starts_and_the_run_can_go_on(kind, log):
    engine = engines.load(linear(Work("a", log)), **kind)
    with pytest.raises(TimeoutError, match="was not finished after 0 seconds"):
        engine.run(timeout=0)
    assert (state(engine), log) == ("SUSPENDED", [])
    engine.run(timeout=WAIT)
    assert (state(engine), log) == ("SUCCESS", ["+a"])


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_an_interrupt_in_a_task_suspends_and_the_task_runs_again(kind, log, error):
    boom = Boom("b", log)
    boom.error = error
    engine = engines.load(linear(Work("a", log), boom, Work("c", log)), **kind)
    before = threading.active_count()
    with pytest.raises(error):
        engine.run()
    assert state(engine) == states.SUSPENDED
    assert threading.active_count() == before
    boom.error = None
    engine.run()
    assert (state(engine), log) == ("SUCCESS", ["+a", "!b", "!b", "+c"])


def test_an_interrupt_in_a_revert_suspends_and_the_revert_is_called_again(kind, log):
    class Interrupted(Work):
        error = KeyboardInterrupt

        def revert(self, result, flow_failures):
            super().revert(result, flow_failures)
            if self.error:
                raise self.error

    a = Interrupted("a", log)
    engine = engines.load(linear(a, Boom("b", log)), **kind)
    with pytest.raises(KeyboardInterrupt):
        engine.run()
    assert state(engine) == states.SUSPENDED
    a.error = None
    with pytest.raises(RuntimeError):
        engine.run()
    assert (state(engine), log) == ("REVERTED", ["+a", "!b", "-b", "-a", "-a"])


# -- failures --------------------------------------------------------------------------------------


def test_one_failure_is_raised_as_the_exception_itself(kind):
    error = RuntimeError("the very one")
    boom = Boom("a")
    boom.error = lambda text: error
    with pytest.raises(RuntimeError) as caught:
        engines.run(linear(boom), **kind)
    assert caught.value is error


def test_several_failures_are_an_exception_group_with_the_original_first(kind):
    engine = engines.load(linear(BadUndo("a"), Boom("b")), **kind)
    seen = []
    try:
        engine.run()
    except* RuntimeError as group:
        seen.append([str(e) for e in group.exceptions])
    except* ValueError as group:
        seen.append([str(e) for e in group.exceptions])
    assert seen == [["Woot!"], ["cannot undo a"]]


def test_a_failed_revert_halts_its_chain_and_every_independent_branch_is_undone(kind, log):
    branch = linear(Work("a", log), BadUndo("b", log), name="branch")
    flow = linear(unordered_flow.Flow("u").add(branch, Work("c", log)), Boom("d", log))
    engine = engines.load(flow, **kind)
    with pytest.raises(exceptions.WrappedFailure) as caught:
        engine.run()
    assert [f.exception_str for f in caught.value] == ["Woot!", "cannot undo b"]
    assert state(engine) == states.FAILURE
    assert "-c" in log
    assert "-a" not in log
    assert engine.not_undone() == ["a", "b"]


def test_a_run_after_a_halted_rollback_calls_the_failed_revert_first_and_goes_on(kind, log):
    bad = BadUndo("b", log)
    engine = engines.load(linear(Work("a", log), bad, Boom("c", log)), **kind)
    with pytest.raises(exceptions.WrappedFailure):
        engine.run()
    bad.broken = False
    del log[:]
    with pytest.raises(RuntimeError, match="Woot!"):
        engine.run()
    assert (log, state(engine), engine.not_undone()) == (["-b", "-a"], "REVERTED", [])
    assert engine.storage.get_revert_failures() == {}


def test_a_rollback_may_go_on_past_a_failed_revert(kind, log):
    flow = linear(Work("a", log), BadUndo("b", log), Boom("c", log))
    engine = engines.load(flow, on_revert_failure="continue", **kind)
    with pytest.raises(exceptions.WrappedFailure):
        engine.run()
    assert (log[-2:], state(engine), engine.not_undone()) == (["-b", "-a"], "FAILURE", ["b"])


def test_not_undone_names_what_stands_outside_of_the_region_that_was_undone(kind, log):
    inner = linear(Boom("b", log), controller=retry.AlwaysRevert("r"), name="inner")
    engine = engines.load(linear(Work("a", log), inner), **kind)
    with pytest.raises(RuntimeError):
        engine.run()
    assert (state(engine), engine.not_undone(), log) == ("REVERTED", ["a"], ["+a", "!b", "-b"])


def test_deferred_reverts_undo_the_whole_flow_when_nobody_else_decides(kind, log):
    inner = linear(Boom("b", log), controller=retry.AlwaysRevert("r"), name="inner")
    engine = engines.load(linear(Work("a", log), inner), defer_reverts=True, **kind)
    with pytest.raises(RuntimeError):
        engine.run()
    assert (state(engine), engine.not_undone(), log) == ("REVERTED", [], ["+a", "!b", "-b", "-a"])


def test_failures_that_are_never_resolved_turn_nothing_round_and_the_rest_goes_on(kind, log):
    flow = unordered_flow.Flow("u").add(linear(Boom("a", log), Work("after", log)), linear(Work("b", log), name="g"))
    engine = engines.load(flow, never_resolve=True, **kind)
    with pytest.raises(RuntimeError):
        engine.run()
    assert sorted(log) == ["!a", "+b"]
    assert (state(engine), atoms(engine)) == ("FAILURE", {"a": "FAILURE", "after": "PENDING", "b": "SUCCESS"})


# -- values and atoms ------------------------------------------------------------------------------


def test_values_are_never_copied(kind):
    class Uncopied:
        def __copy__(self):
            raise AssertionError("copied")

        def __deepcopy__(self, memo):
            raise AssertionError("copied")

        def __reduce__(self):
            raise AssertionError("pickled")

    given, made, seen = Uncopied(), Uncopied(), []

    class Makes(task.Task):
        def execute(self, given):
            seen.append(given)
            return made

    class Takes(task.Task):
        def execute(self, made):
            seen.append(made)

    engine = engines.load(linear(Makes("m", provides="made"), Takes("t")), store={"given": given}, **kind)
    engine.run()
    assert seen[0] is given
    assert seen[1] is made
    assert engine.storage.fetch("made") is engine.storage.fetch_all()["made"] is made
    assert engine.storage.fetch("given") is given


def test_methods_that_are_patched_after_the_flow_was_built_are_the_ones_called(kind):
    engine = engines.load(linear(Work("a", provides="x"), Boom("b")), **kind)
    engine.compile()
    engine.prepare()
    with (
        mock.patch.object(Work, "execute", return_value="patched") as execute,
        mock.patch.object(Work, "revert") as revert,
        pytest.raises(RuntimeError),
    ):
        engine.run()
    execute.assert_called_once_with()
    assert revert.call_args_list[-1].kwargs["result"] == "patched"
    assert revert.call_count == 2


def test_a_method_that_is_patched_on_the_instance_is_called(kind):
    a = Work("a", provides="x")
    engine = engines.load(linear(a), **kind)
    engine.compile()
    with mock.patch.object(a, "execute", return_value=7):
        engine.run()
    assert engine.storage.fetch("x") == 7


def test_names_may_hold_spaces_and_punctuation_and_flows_may_share_one(kind, log):
    names = ["a task; with, punctuation:", "ünï ¢ode", "x.y;z=1,2"]
    flow = linear(*(linear(Work(name, log), name="same") for name in names), name="same")
    engine = engines.load(flow, **kind)
    engine.run()
    assert log == [f"+{name}" for name in names]
    assert all(engine.storage.get_atom_state(name) == states.SUCCESS for name in names)


def test_what_atoms_inject_is_kept_in_the_record_only_when_asked_for():
    for transient in (True, False):
        engine = engines.load(linear(Needs("a", inject={"x": 1}, provides="y")), inject_transient=transient)
        engine.run()
        kept = next(d for d in engine.storage.record.flow_detail if d.name == "a").meta.get("injected")
        assert (engine.storage.fetch("y"), kept) == (1, None if transient else {"x": 1})


def test_an_engine_may_run_inside_a_task_of_another(kind, log):
    class Nested(Work):
        def execute(self):
            engines.run(linear(Work("inner", log)), **kind)
            return super().execute()

    engine = engines.load(linear(Nested("outer", log), Work("last", log)), **kind)
    engine.run()
    assert log == ["+inner", "+outer", "+last"]


def test_a_failure_of_an_engine_inside_a_task_is_a_failure_of_the_task(kind, log):
    class Nested(Work):
        def execute(self):
            engines.run(linear(Work("inner", log), Boom("boom", log)), **kind)

    engine = engines.load(linear(Work("first", log), Nested("outer", log)), **kind)
    with pytest.raises(RuntimeError, match="Woot!"):
        engine.run()
    assert log == ["+first", "+inner", "!boom", "-boom", "-inner", "-outer", "-first"]


# -- executors and numbers -------------------------------------------------------------------------


def test_the_callers_executor_gets_one_submit_a_call_and_is_left_open(log):
    class Counting(concurrent.futures.ThreadPoolExecutor):
        count = 0

        def submit(self, *args, **kwargs):
            self.count += 1
            return super().submit(*args, **kwargs)

    with Counting(1) as executor:
        with pytest.raises(RuntimeError):
            engines.run(linear(Work("a", log), Boom("b", log)), executor=executor)
        assert executor.count == 4
        assert executor.submit(int, "7").result(WAIT) == 7


def test_no_thread_is_left_behind_by_our_own_executor():
    before = threading.active_count()
    engines.run(unordered_flow.Flow("u").add(*(Work(f"t{i}") for i in range(5))), engine="parallel", inline=False)
    assert threading.active_count() == before


def test_independent_tasks_run_at_the_same_time_in_threads():
    meet = threading.Barrier(2, timeout=WAIT)

    class Meets(task.Task):
        def execute(self):
            meet.wait()

    engines.run(unordered_flow.Flow("u").add(Meets("a"), Meets("b")), engine="parallel", max_workers=2)
    assert not meet.broken  # nobody has waited in vain


def test_a_single_call_runs_in_the_engines_own_thread_unless_told_otherwise():
    class Where(task.Task):
        default_provides = "where"

        def execute(self):
            return threading.get_ident()

    found = [engines.run(linear(Where("a")), engine="parallel", inline=i)["where"] for i in (True, False)]
    assert (found[0] == threading.get_ident(), found[1] == threading.get_ident()) == (True, False)


def test_what_cannot_reach_another_process_is_refused_before_anything_runs(monkeypatch):
    monkeypatch.setattr(pickling, "_cloudpickle", lambda: None)

    class Local(task.Task):
        def execute(self):
            return None

    for member in (Local("local"), task.FunctorTask(lambda: 1, name="a lambda")):
        engine = engines.load(linear(member), executor="processes")
        with pytest.raises(exceptions.CompilationFailure, match=f"'{member.name}' cannot reach another process"):
            engine.compile()


def test_statistics_count_the_atoms_and_measure_the_time():
    engine = engines.load(linear(Work("a"), Boom("b"), Work("c")))
    engine.compile()
    engine.prepare()
    assert (engine.statistics["awaiting"], engine.statistics["completed"]) == (3, 0)
    with pytest.raises(RuntimeError):
        engine.run()
    found = engine.statistics
    assert (found["completed"], found["incomplete"], found["awaiting"], found["discarded_failures"]) == (2, 0, 1, 0)
    assert found["active_for"] >= sum(found["seconds_per_state"].values()) > 0
    assert {"scheduling", "waiting", "analyzing"} <= found["seconds_per_state"].keys()


def test_statistics_of_time_are_not_gathered_when_not_wanted():
    engine = engines.load(linear(Work("a")), gather_statistics=False)
    engine.run()
    assert engine.statistics["seconds_per_state"] == {}


def test_a_class_of_engine_may_raise_nothing_for_reverted_flows():
    with mock.patch.object(classes.ActionEngine, "NO_RERAISING_STATES", frozenset(("SUCCESS", "REVERTED"))):
        engine = engines.load(linear(Boom("a")))
        engine.run()
    assert state(engine) == states.REVERTED
    assert isinstance(engine.storage.get("a"), Failure)


def test_run_can_be_patched_on_the_class_of_the_engine():
    with mock.patch.object(classes.ActionEngine, "run") as run:
        engines.load(graph_flow.Flow("g").add(Work("a"))).run()
    run.assert_called_once_with()
