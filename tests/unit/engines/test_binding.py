"""Where the arguments of a call come from, first of all and when the first source has nothing."""

from __future__ import annotations

import functools

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.engines import binding as bindings, calling
from taskflowx.engines.compile import compile_flow
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import models
from taskflowx.record.lookup import Lookup
from taskflowx.storage import Storage
from taskflowx.types.failure import Failure


class Gives(task.Task):
    def execute(self):
        return None


class Takes(task.Task):
    def execute(self, x):
        return x


class MayTake(task.Task):
    def execute(self, x="default"):
        return x


class Undoes(task.Task):
    def execute(self):
        return None

    def revert(self, y, result, flow_failures):
        return None


class Bound:
    """A flow with its record and a binder that is prepared."""

    def __init__(self, *members, store=None, controller=None, kind=linear_flow):
        self.plan = compile_flow(kind.Flow("f", controller).add(*members))
        self.storage = Storage(models.FlowDetail("f", "an id"))
        self.details = self.storage.ensure_plan(self.plan.atoms, self.plan.names)
        self.binder = bindings.Binder(self.plan, self.details, self.storage)
        if store:
            self.storage.inject(store)
        self.binder.prepare()

    def at(self, name):
        return self.plan.names[name]

    def gave(self, name, result):
        self.storage.save(name, result)

    def arguments(self, name):
        return self.binder.execute_arguments(self.at(name))

    def undo_arguments(self, name, failures=None):
        return self.binder.revert_arguments(self.at(name), lambda: failures or {})

    def binding(self, name):
        """Return, for each argument, its name, what has the value, and the index or key there."""
        caller, sources = self.binder.callers[self.at(name)], self.binder.sources[self.at(name)]
        return () if caller is None else tuple(zip(caller.args, sources, caller.keys, strict=True))


# -- the order of the lookup -----------------------------------------------------------------------


def test_the_nearest_provider_that_has_run_gives_the_argument():
    bound = Bound(Gives("a", provides="x"), Gives("b", provides="x"), Takes("c"))
    bound.gave("a", 1)
    bound.gave("b", 2)
    assert bound.arguments("c") == {"x": 2}


def test_an_injected_value_comes_before_any_provider():
    bound = Bound(Gives("a", provides="x"), Takes("c"), store={"x": "injected"})
    bound.gave("a", "provided")
    assert bound.arguments("c") == {"x": "injected"}


def test_transient_atom_then_atom_then_transient_flow_then_flow_then_provider():
    bound = Bound(Gives("a", provides="x"), Takes("c"))
    storage = bound.storage
    bound.gave("a", "provider")
    found = [bound.arguments("c")["x"]]
    storage.inject({"x": "flow"})
    found.append(bound.arguments("c")["x"])
    storage.inject({"x": "transient flow"}, transient=True)
    found.append(bound.arguments("c")["x"])
    storage.inject_atom_args("c", {"x": "atom"}, transient=False)
    found.append(bound.arguments("c")["x"])
    storage.inject_atom_args("c", {"x": "transient atom"})
    found.append(bound.arguments("c")["x"])
    assert found == ["provider", "flow", "transient flow", "atom", "transient atom"]
    bound.binder.prepare()  # the same when it is known before the run
    assert bound.arguments("c") == {"x": "transient atom"}
    assert bound.binding("c")[0][0] == "x"


def test_what_is_injected_into_one_atom_is_not_seen_by_another():
    bound = Bound(MayTake("a"), MayTake("b"))
    bound.storage.inject_atom_args("a", {"x": 1})
    assert (bound.arguments("a"), bound.arguments("b")) == ({"x": 1}, {})


def test_a_binding_holds_what_has_the_value_so_that_no_name_is_looked_up(monkeypatch):
    bound = Bound(Gives("a", provides=("x", "y")), Takes("c"))
    assert bound.binding("c") == (("x", bound.details[0], 0),)
    bound.gave("a", (5, 6))
    monkeypatch.setattr(Lookup, "find", None)
    assert bound.arguments("c") == {"x": 5}


def test_values_are_passed_as_they_are():
    value, given = object(), object()
    bound = Bound(Gives("a", provides="x"), Takes("c"), Takes("d", rebind={"x": "z"}), store={"z": given})
    bound.gave("a", value)
    assert bound.arguments("c")["x"] is value
    assert bound.arguments("d")["x"] is given


# -- when the first source has nothing -------------------------------------------------------------


def test_when_the_nearest_provider_is_ignored_the_next_one_is_taken():
    bound = Bound(Gives("a", provides="x"), Gives("b", provides="x"), Takes("c"))
    bound.gave("a", 1)
    bound.storage.set_atom_state("b", states.IGNORE)
    assert bound.arguments("c") == {"x": 1}


def test_when_the_result_of_the_nearest_lacks_the_part_the_next_one_is_taken():
    bound = Bound(Gives("a", provides="x"), Gives("b", provides=("y", "x")), Takes("c"))
    bound.gave("a", 1)
    bound.gave("b", ("only one",))
    assert bound.arguments("c") == {"x": 1}


@pytest.mark.parametrize("result", [(1,), None, 7, object()])
def test_a_result_that_lacks_the_part_is_not_found_and_atom_and_argument_are_named(result):
    bound = Bound(Gives("a", provides=("y", "x")), Takes("c"))
    bound.gave("a", result)
    with pytest.raises(
        exceptions.NotFound, match=r"Atom 'c' has no value for its argument 'x': .*<Provider 'a' @ index 1>"
    ):
        bound.arguments("c")


def test_a_result_without_the_key_is_not_found_and_the_stored_name_is_told():
    bound = Bound(Gives("a", provides={"k"}), Takes("c", rebind={"x": "k"}))
    bound.gave("a", {"other": 1})
    with pytest.raises(exceptions.NotFound, match=r"argument 'x': Unable to find result 'k'"):
        bound.arguments("c")


def test_a_provider_that_has_not_succeeded_has_no_value():
    bound = Bound(Gives("a", provides="x"), Takes("c"))
    bound.storage.set_atom_state("a", states.REVERTED)
    with pytest.raises(exceptions.NotFound, match="'a' is not known/accessible due to it being in REVERTED"):
        bound.arguments("c")


def test_a_name_that_is_injected_after_the_binding_was_made_is_seen():
    bound = Bound(Gives("a", provides="x"), Takes("c"))
    bound.gave("a", "provided")
    bound.storage.inject({"x": "late"})
    assert bound.arguments("c") == {"x": "late"}


def test_a_value_that_is_injected_again_is_seen():
    bound = Bound(Takes("c"), store={"x": 1})
    bound.storage.inject({"x": 2})
    assert bound.binder.version == bound.storage.lookup.bindings_version
    assert bound.arguments("c") == {"x": 2}


# -- optional arguments ----------------------------------------------------------------------------


def test_an_optional_argument_is_filled_when_somebody_provides_it():
    bound = Bound(Gives("a", provides="x"), MayTake("c"))
    bound.gave("a", 1)
    assert bound.arguments("c") == {"x": 1}


def test_an_optional_argument_is_left_out_when_nobody_has_it():
    bound = Bound(MayTake("c"))
    assert (bound.binding("c"), bound.arguments("c")) == ((), {})


def test_an_optional_argument_is_left_out_when_its_provider_was_ignored():
    bound = Bound(Gives("a", provides="x"), MayTake("c"))
    bound.storage.set_atom_state("a", states.IGNORE)
    assert bound.arguments("c") == {}


class Both(task.Task):
    def execute(self, x, y=None):
        return x, y


def test_an_optional_argument_does_not_stand_for_a_required_one_that_is_missing():
    bound = Bound(Both("c"), store={"y": 1})
    assert bound.binder.incomplete == [0]
    assert bound.binder.missing(0) == [("execute", [("x", "x")])]
    with pytest.raises(exceptions.NotFound, match="argument 'x'"):
        bound.arguments("c")


def test_a_missing_required_argument_is_told_before_the_run_whatever_optional_ones_are_there():
    engine = engines.load(linear_flow.Flow("f").add(Both("c")), store={"y": 1})
    with pytest.raises(exceptions.MissingDependencies, match=r"requires \['x'\]"):
        engine.run()


# -- revert ----------------------------------------------------------------------------------------


def test_revert_gets_its_own_arguments_the_result_and_the_failures():
    bound = Bound(Gives("a", provides="y"), Undoes("b"))
    bound.gave("a", 1)
    bound.gave("b", "result")
    failure = Failure.from_exception(ValueError("no"))
    assert bound.undo_arguments("b", {"z": failure}) == {"y": 1, "result": "result", "flow_failures": {"z": failure}}


def test_revert_gets_the_failure_of_the_atom_as_its_result():
    bound = Bound(Gives("a", provides="y"), Undoes("b"))
    bound.gave("a", 1)
    failure = Failure.from_exception(ValueError("no"))
    bound.storage.save("b", failure, states.FAILURE)
    assert bound.undo_arguments("b")["result"] is failure


def test_a_missing_argument_of_revert_is_told_with_the_method():
    bound = Bound(Undoes("b"))
    assert bound.binder.incomplete == [0]
    assert bound.binder.missing(0) == [("revert", [("y", "y")])]
    with pytest.raises(exceptions.NotFound, match="'b' has no value for its argument 'y'"):
        bound.undo_arguments("b")


def test_revert_that_takes_what_execute_takes_shares_its_binding():
    class Same(task.Task):
        def execute(self, x):
            return None

        def revert(self, x, **kwargs):
            return None

    bound = Bound(Same("b"), store={"x": 1})
    assert bound.binder.undo_sources[0] is bound.binder.sources[0]


def test_what_revert_takes_is_known_beforehand():
    class Nothing(task.Task):
        def execute(self):
            return None

        def revert(self):
            return None

    bound = Bound(Undoes("a"), Nothing("b"), store={"y": 1})
    assert list(bound.binder.undo_takes) == [calling.BOUND + calling.TAKES_BOTH, 0]


# -- retries ---------------------------------------------------------------------------------------


class Asks(retry.Retry):
    def execute(self, x, history, z=0):
        return x

    def on_failure(self, history, x):
        return retry.REVERT

    def revert(self, x, history, flow_failures):
        return None


def test_a_retry_gets_its_history_with_its_arguments():
    bound = Bound(Gives("a"), controller=Asks("r", provides="v"), store={"x": 1})
    arguments = bound.arguments("r")
    assert (arguments.pop("x"), len(arguments.pop("history")), arguments) == (1, 0, {})
    bound.gave("r", "first")
    assert list(bound.undo_arguments("r")["history"]) == [("first", {})]
    assert set(bound.undo_arguments("r")) == {"x", "history", "flow_failures"}


def test_on_failure_gets_only_what_it_takes_of_the_arguments_of_execute():
    bound = Bound(Gives("a"), controller=Asks("r"), store={"x": 1, "z": 2})
    assert set(bound.binder.on_failure_arguments(bound.at("r"))) == {"x", "history"}


def test_the_value_of_a_retry_is_that_of_its_last_attempt():
    bound = Bound(Takes("a"), controller=retry.Times(3, "r", provides="x"))
    bound.gave("r", 1)
    bound.gave("r", 2)
    assert bound.arguments("a") == {"x": 2}


def test_a_retry_without_an_attempt_gives_nothing():
    bound = Bound(Takes("a"), controller=retry.Times(3, "r", provides="x"))
    with pytest.raises(exceptions.NotFound, match="'a' has no value for its argument 'x'"):
        bound.arguments("a")


# -- hints -----------------------------------------------------------------------------------------


def hint(bound, atom, name):
    return bound.binder.hint(bound.at(atom), name, name)


def test_a_hint_tells_of_a_provider_that_does_not_run_before():
    bound = Bound(Takes("c"), Gives("late", provides="x"))
    assert hint(bound, "c", "x") == "'late' provides 'x', but does not run before 'c'"


def test_a_hint_tells_of_a_name_that_is_close():
    bound = Bound(Gives("a", provides="volume_id"), Takes("c", rebind={"x": "volume_ids"}))
    assert bound.binder.hint(1, "x", "volume_ids").endswith("did you mean 'volume_id'?")
    bound = Bound(Takes("c", rebind={"x": "volume_ids"}), store={"volume_id": 1})
    assert bound.binder.hint(0, "x", "volume_ids").endswith("did you mean 'volume_id'?")


def test_a_hint_names_the_argument_when_it_is_called_otherwise():
    bound = Bound(Takes("c", rebind={"x": "zzz"}))
    assert bound.binder.hint(0, "x", "zzz") == "'c' takes 'zzz' for its argument 'x'"
    assert hint(bound, "c", "x") == ""


def test_the_rows_of_what_an_atom_sees_are_told_by_name():
    inner = unordered_flow.Flow("u").add(Takes("b", rebind={"x": "y"}))
    bound = Bound(Gives("a"), inner, kind=linear_flow, store={"y": 1})
    assert list(bound.binder.seen_by("b")) == [[], ["a"]]


def test_a_gate_has_no_bindings():
    first = unordered_flow.Flow("u").add(Gives("a"), Gives("b"))
    second = unordered_flow.Flow("v").add(Takes("c"), Takes("d"))
    bound = Bound(first, second, store={"x": 1})
    assert [len(sources) for sources in bound.binder.sources] == [0, 0, 0, 1, 1]


def test_in_a_graph_flow_an_argument_comes_from_the_linked_provider():
    bound = Bound(Takes("c"), Gives("a", provides="x"), kind=graph_flow)
    bound.gave("a", 1)
    assert bound.arguments("c") == {"x": 1}


class Filled(task.Task):
    """Its revert takes what its execute has taken, and fails once."""

    def __init__(self, name, taken):
        super().__init__(name)
        self.taken = taken

    def execute(self, v, extra=None):
        pass

    def revert(self, v, extra=None, **_):
        self.taken.append((v, extra))
        if len(self.taken) == 1:
            raise OSError("it is in use")


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("again", [False, True])
def test_a_revert_that_is_called_again_gets_what_was_undone_meanwhile(again, executor):
    def fail():
        raise ValueError("no")

    taken = []

    def new():
        return linear_flow.Flow("f").add(
            task.FunctorTask(lambda: (7, 8), name="a", provides=("v", "extra")),
            Filled("b", taken),
            task.FunctorTask(fail, name="c"),
        )

    engine = engines.load(new(), executor=executor, on_revert_failure="continue")
    with pytest.raises(exceptions.WrappedFailure):
        engine.run()
    assert engine.not_undone() == ["b"]
    if again:
        detail = engine.storage.record.flow_detail
        engine = engines.load(new(), executor=executor, on_revert_failure="continue", flow_detail=detail)
    with pytest.raises(ValueError, match="no"):
        engine.run()
    assert (taken, engine.not_undone()) == ([(7, 8), (7, 8)], [])


# -- atoms of one class, which are looked at together ----------------------------------------------


class UndoesItself(Gives):
    def revert(self, result):
        return None


class GivesTwo(Gives):
    default_provides = ("x", "y")


class UndoesMuch(Gives):
    def revert(self, result, flow_failures):
        return None


class WithAHook(Gives):
    @functools.wraps(Gives.pre_execute)
    def pre_execute(self):
        return None


@pytest.mark.parametrize("kind", [Gives, UndoesItself, UndoesMuch, GivesTwo, WithAHook, MayTake])
@pytest.mark.parametrize("pattern", [linear_flow, unordered_flow])
def test_atoms_that_share_a_signature_are_taken_as_others_are(kind, pattern):
    class Another(task.Task):
        def execute(self):
            return None

    alike = Bound(*map(kind, "abc"), kind=pattern)
    mixed = Bound(Another("z"), *map(kind, "abc"), kind=pattern)
    assert (alike.plan.signature is None, mixed.plan.signature) == (kind is GivesTwo, None)
    for name in "abc":
        assert alike.plan.plain[alike.at(name)] == mixed.plan.plain[mixed.at(name)]
        assert alike.binder.undo_takes[alike.at(name)] == mixed.binder.undo_takes[mixed.at(name)]
        assert alike.binding(name) == mixed.binding(name)
    assert (len(alike.plan.plain), len(alike.binder.undo_takes)) == (3, 3)


def test_a_flow_of_nothing_but_a_controller_is_not_plain():
    bound = Bound(controller=retry.AlwaysRevert("r"))
    assert (bound.plan.plain, len(bound.binder.undo_takes)) == ([0], 1)
