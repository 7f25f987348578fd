"""Engines made from a flow, from what makes a flow, and from a record."""

from __future__ import annotations

import sys
import threading
import types

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.engines import engine as classes, factories, helpers
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import backends, models


class Add(task.Task):
    default_provides = "total"

    def execute(self, a, b):
        return a + b


class Boom(task.Task):
    def execute(self):
        raise RuntimeError("Woot!")


class Counted(task.Task):
    runs = 0

    def execute(self):
        Counted.runs += 1


def make_flow(name="made", *, b=2):
    return linear_flow.Flow(name).add(Counted("counted"), Add("add", inject={"b": b}))


class Factories:
    @staticmethod
    def make():
        return make_flow("static")


@pytest.fixture(autouse=True)
def _importable(monkeypatch):
    """Let this file be imported by its name, whatever pytest calls it and whether or not its folders are packages."""
    name = make_flow.__module__
    here = types.ModuleType(name)
    vars(here).update(globals())
    monkeypatch.setitem(sys.modules, name, here)


# -- load and run ----------------------------------------------------------------------------------


def test_run_returns_everything_that_was_provided():
    assert engines.run(make_flow(), store={"a": 1}) == {"a": 1, "total": 3}


def test_run_raises_what_the_flow_failed_with():
    with pytest.raises(RuntimeError, match="Woot!"):
        engines.run(linear_flow.Flow("f").add(Boom("boom")))


@pytest.mark.parametrize("engine", ["default", "serial", "parallel"])
def test_a_single_task_runs_as_a_flow_of_itself(engine):
    assert engines.run(Add("add"), store={"a": 1, "b": 2}, engine=engine)["total"] == 3


def test_a_single_task_that_fails_is_reverted():
    made = engines.load(Boom("boom"))
    with pytest.raises(RuntimeError):
        made.run()
    assert made.storage.get_flow_state() == states.REVERTED
    assert made.storage.flow_name == "boom"


def test_engines_are_picked_by_name():
    made = {name: type(engines.load(make_flow(), engine=name)) for name in ("default", "serial", "parallel")}
    assert made == {
        "default": classes.SerialActionEngine,
        "serial": classes.SerialActionEngine,
        "parallel": classes.ParallelActionEngine,
    }


@pytest.mark.parametrize("options", [{"executor": "threads"}, {"executor": "threads", "engine": "default"}])
def test_the_default_engine_uses_the_executor_that_it_is_given(options):
    threads = []
    flow = unordered_flow.Flow("f").add(
        *(task.FunctorTask(lambda: threads.append(threading.current_thread()), name=name) for name in "ab")
    )
    made = engines.load(flow, **options)
    assert not isinstance(made, classes.SerialActionEngine)
    made.run()
    assert threading.current_thread() not in threads
    assert isinstance(engines.load(flow, executor=None, max_workers=2), classes.SerialActionEngine)


def test_an_unknown_engine_is_refused_and_the_known_ones_are_listed():
    with pytest.raises(exceptions.NotFound, match=r"engine 'nope', .*\['default', 'parallel', 'serial'\]"):
        engines.load(make_flow(), engine="nope")
    with pytest.raises(exceptions.NotFound, match=r"Could not find engine 'default', the known ones are \[\]"):
        engines.load(make_flow(), namespace="nobody.registers.this")


@pytest.mark.parametrize(
    ("engine", "given", "cls", "options"),
    [
        ("parallel:", {}, classes.ParallelActionEngine, {}),
        (None, {}, classes.SerialActionEngine, {}),
        ("parallel://", {}, classes.ParallelActionEngine, {}),
        ("Serial://?never_resolve=true", {}, classes.SerialActionEngine, {"never_resolve": True}),
        ("parallel://?max_workers=2", {}, classes.ParallelActionEngine, {"max_workers": 2}),
        ("parallel://?max_workers=2", {"max_workers": 4}, classes.ParallelActionEngine, {"max_workers": 4}),
        ("parallel:?executor=thr%65ads", {}, classes.ParallelActionEngine, {"executor": "threads"}),
    ],
)
def test_an_engine_may_be_an_address_with_its_options(engine, given, cls, options):
    made = engines.load(make_flow(), store={"a": 1}, engine=engine, **given)
    assert type(made) is cls
    assert made.options == options
    made.run()
    assert made.storage.fetch("total") == 3


@pytest.mark.parametrize(
    ("engine", "error", "message"),
    [
        ("nope://?max_workers=2", exceptions.NotFound, "Could not find engine 'nope'"),
        ("://", exceptions.NotFound, "Could not find engine '://'"),
        (3, exceptions.NotFound, "Could not find engine '3'"),
        ("parallel://?max_worker=2", ValueError, r"Unknown engine options \['max_worker'\]"),
        ("parallel://host:80", ValueError, r"Unknown engine options \['hostname', 'port'\]"),
        ("parallel://?max_workers=0", ValueError, "max_workers must be a positive number of workers, not 0"),
    ],
)
def test_a_wrong_address_of_an_engine_is_refused(engine, error, message):
    with pytest.raises(error, match=message):
        engines.load(make_flow(), engine=engine)


@pytest.mark.parametrize(
    ("backend", "error", "message"),
    [
        ("no_such_store:///x", exceptions.NotFound, "Could not find backend no_such_store"),
        ({"connection": 3}, ValueError, "need 'connection', a string"),
        (17, TypeError, "described by a dict or by its connection string, not by 17"),
    ],
)
def test_a_backend_that_is_not_there_is_refused(backend, error, message):
    with pytest.raises(error, match=message):
        engines.load(make_flow(), backend=backend)


def test_a_store_that_is_named_and_new_is_made_ready(tmp_path):
    made = engines.load(make_flow(), store={"a": 1}, backend=f"dir://{tmp_path}/runs")
    made.run()
    with backends.backend(f"dir://{tmp_path}/runs") as store:
        detail = store.get_connection().get_flow_details(made.storage.flow_uuid)
    assert detail.state == states.SUCCESS
    again = engines.load(make_flow(), flow_detail=detail)
    again.compile()
    again.prepare()
    assert again.storage.fetch("total") == 3


@pytest.mark.parametrize("backend", [None, "memory", "memory://", {"connection": "memory"}])
def test_the_record_may_be_kept_in_memory(backend):
    assert engines.run(make_flow(), store={"a": 1}, backend=backend)["total"] == 3


def test_a_record_that_is_made_is_put_into_the_book_and_a_given_one_is_used():
    book = models.LogBook("book")
    made = engines.load(make_flow("f"), book=book)
    assert [(d.name, d.uuid) for d in book] == [("f", made.storage.flow_uuid)]
    given = models.FlowDetail("given", "its uuid")
    assert engines.load(make_flow(), flow_detail=given).storage.flow_uuid == "its uuid"


# -- factories -------------------------------------------------------------------------------------


def test_load_from_factory_runs_what_the_function_makes_and_keeps_how():
    made = engines.load_from_factory(make_flow, ["named"], {"b": 5}, store={"a": 1})
    made.run()
    assert made.storage.fetch("total") == 6
    assert made.storage.flow_name == "named"
    assert made.storage.flow_meta["factory"] == {
        "name": f"{make_flow.__module__}.make_flow",
        "args": ["named"],
        "kwargs": {"b": 5},
    }


def test_a_factory_may_be_given_by_its_name_and_may_stand_in_a_class():
    for factory in (f"{make_flow.__module__}.Factories.make", Factories.make):
        made = engines.load_from_factory(factory, store={"a": 1})
        assert made.storage.flow_name == "static"
        assert made.storage.flow_meta["factory"]["name"].endswith("Factories.make")


@pytest.mark.parametrize("factory", [lambda: make_flow("of a lambda"), Add("not importable").execute])
def test_what_cannot_be_imported_by_its_name_is_refused(factory):
    with pytest.raises(ValueError, match=r"Flow factory .* is not reimportable by name"):
        engines.load_from_factory(factory)
    with pytest.raises(ValueError, match=r"Flow factory .* is not reimportable by name"):
        engines.save_factory_details(models.FlowDetail("f", "u"), factory, None, None)


def test_a_function_within_a_function_is_refused():
    def inner():
        return make_flow()

    with pytest.raises(ValueError, match="is not reimportable"):
        engines.load_from_factory(inner)


@pytest.mark.parametrize("name", ["no_such_module_here.make", "os.no_such_thing", "alone"])
def test_a_name_that_stands_for_nothing_cannot_be_imported(name):
    with pytest.raises(ImportError, match=f"Could not import '{name}'"):
        engines.load_from_factory(name)


def test_an_error_within_the_factory_is_raised_as_it_is():
    with pytest.raises(TypeError, match="unexpected keyword"):
        engines.load_from_factory(make_flow, factory_kwargs={"nope": 1})


def test_flow_from_detail_makes_the_flow_again():
    detail = models.FlowDetail("f", "u")
    engines.save_factory_details(detail, make_flow, ("again",), {"b": 3})
    flow = engines.flow_from_detail(detail)
    assert (flow.name, [member.name for member in flow]) == ("again", ["counted", "add"])


def test_a_record_that_does_not_say_how_its_flow_is_made_is_refused():
    detail = models.FlowDetail("f", "u")
    message = r"Cannot reconstruct flow f u: no factory information saved\."
    with pytest.raises(ValueError, match=message):
        engines.flow_from_detail(detail)
    with pytest.raises(ValueError, match=message):
        engines.load_from_detail(detail)


def test_a_record_whose_factory_is_gone_is_refused():
    detail = models.FlowDetail("f", "u")
    engines.save_factory_details(detail, "no_such_module_here.make", None, None)
    with pytest.raises(ImportError, match="Could not import factory for flow f u: Could not import 'no_such"):
        engines.flow_from_detail(detail)


# -- which factories a record may name ---------------------------------------------------------------


def recorded(name, args=(), kwargs=None):
    """A record that names a factory, and that this process has not made."""
    detail = models.FlowDetail("f", "u")
    detail.meta["factory"] = {"name": name, "args": list(args), "kwargs": kwargs or {}}
    return detail


HERE = make_flow.__module__


@pytest.mark.parametrize(
    "name",
    [
        "os.system",
        "posix.system",
        "subprocess.run",
        "builtins.eval",
        "taskflowx.compat.main",
        "taskflowx.engines.factories.import_by_name",
        "pytest.main",
        "xmlrpc.client.dumps",
        f"{HERE}.sys.exit",
        f"{HERE}.pytest.main",
        f"{HERE}.engines.run",
        f"{HERE}.models.FlowDetail",
    ],
)
@pytest.mark.parametrize("load", [engines.load_from_detail, engines.flow_from_detail])
def test_a_factory_that_is_not_the_program_s_own_is_refused_before_it_is_called(load, name, monkeypatch):
    monkeypatch.setattr(factories, "_registered", set())
    with pytest.raises(ValueError, match=rf"flow f u: .* factory '{name}'.*\n.*allowed_factories=\['{name}'\]"):
        load(recorded(name, ["x"]))


def test_nothing_is_imported_for_a_factory_that_is_refused(monkeypatch):
    monkeypatch.delitem(sys.modules, "this", raising=False)
    monkeypatch.setattr(factories.importlib, "import_module", None)
    for name in ("this.c", "antigravity.geohash", "some_package.make"):
        with pytest.raises(ValueError, match="is allowed there"):
            engines.load_from_detail(recorded(name))
    with pytest.raises(ValueError, match="is allowed there"):
        engines.load_from_detail(recorded("other.make"), allowed_factories=["others", make_flow])


@pytest.mark.parametrize(
    "allowed",
    [[HERE], [HERE.partition(".")[0]], HERE, [f"{HERE}.make_flow"], [make_flow], ("nothing", make_flow), {make_flow}],
)
def test_allowed_factories_are_called(allowed, monkeypatch):
    monkeypatch.setattr(factories, "_registered", set())
    detail = recorded(f"{HERE}.make_flow", ["again"])
    assert engines.flow_from_detail(detail, allowed_factories=allowed).name == "again"
    assert engines.load_from_detail(detail, {"a": 1}, allowed_factories=allowed).storage.flow_name == "f"


@pytest.mark.parametrize("allowed", [[], [f"{HERE}.make"], [f"{HERE}.Factories"], [lambda: None], [make_flow]])
def test_with_a_list_others_are_refused(allowed):
    engines.save_factory_details(models.FlowDetail("f", "u"), Factories.make, None, None)
    name = f"{HERE}.make_flow" if allowed != [make_flow] else f"{HERE}.Factories.make"
    with pytest.raises(ValueError, match="is allowed there"):
        engines.flow_from_detail(recorded(name), allowed_factories=allowed)


def test_a_name_that_a_module_imports_has_to_be_listed_in_full():
    name = f"{HERE}.linear_flow.Flow"
    with pytest.raises(
        ValueError, match=r"which is <class 'taskflowx\.patterns\.linear_flow\.Flow'>, and none is allowed"
    ):
        engines.flow_from_detail(recorded(name, ["made"]), allowed_factories=[HERE])
    assert engines.flow_from_detail(recorded(name, ["made"]), allowed_factories=[name]).name == "made"


def test_another_function_of_the_same_name_is_not_the_one_that_was_allowed(monkeypatch):
    allowed = [make_flow]
    monkeypatch.setattr(sys.modules[HERE], "make_flow", lambda: None)
    with pytest.raises(ValueError, match="is allowed there"):
        engines.flow_from_detail(recorded(f"{HERE}.make_flow"), allowed_factories=allowed)


@pytest.mark.parametrize(("allowed", "error"), [(5, "allowed_factories must be"), ([5], "Each of allowed_factories")])
def test_what_is_allowed_must_be_names_or_functions(allowed, error):
    with pytest.raises(TypeError, match=error):
        engines.flow_from_detail(recorded("a.b"), allowed_factories=allowed)


@pytest.mark.parametrize(
    ("factory", "what"),
    [
        ({"name": 5, "args": [], "kwargs": {}}, "5 as the name"),
        ({"name": "a b.c", "args": [], "kwargs": {}}, "'a b.c' as the name"),
        ({"name": "a.__class__.b", "args": [], "kwargs": {}}, "as the name"),
        ({"args": [], "kwargs": {}}, "None as the name"),
        ({"name": "a.b", "args": "text", "kwargs": {}}, "'text' as args of its factory 'a.b'"),
        ({"name": "a.b", "args": {"x": 1}, "kwargs": {}}, "as args"),
        ({"name": "a.b", "args": [], "kwargs": [1]}, "as kwargs"),
        ({"name": "a.b", "args": [], "kwargs": {1: 2}}, "as kwargs"),
        (["a.b"], "as factory information"),
        ("a.b", "as factory information"),
    ],
)
def test_what_a_record_says_of_a_factory_must_have_its_shape(factory, what):
    detail = models.FlowDetail("f", "u")
    detail.meta["factory"] = factory
    with pytest.raises(exceptions.InvalidFormat, match=f"Cannot reconstruct flow f u: its record has .*{what}"):
        engines.flow_from_detail(detail, allowed_factories=["a"])


def test_load_from_detail_goes_on_where_the_record_ends(monkeypatch):
    monkeypatch.setattr(Counted, "runs", 0)
    made = engines.load_from_factory(make_flow, store={"a": 1})
    steps = made.run_iter()
    for _ in steps:
        if made.storage.fetch_all().keys() & {"total"} or Counted.runs:
            steps.close()
            break
    assert made.storage.get_flow_state() == states.SUSPENDED
    again = engines.load_from_detail(made.storage.record.flow_detail)
    again.run()
    assert again.storage.fetch("total") == 3
    assert Counted.runs == 1


def test_factory_details_are_written_to_the_store(tmp_path):
    with backends.backend(f"dir://{tmp_path}") as store:
        made = engines.load_from_factory(make_flow, store={"a": 1}, backend=store)
        connection = store.get_connection()
        kept = connection.get_flow_details(made.storage.flow_uuid)
        assert kept.meta["factory"]["name"].endswith(".make_flow")
        with pytest.raises(exceptions.NotFound):
            engines.save_factory_details(models.FlowDetail("f", "u"), make_flow, None, None, backend=store)


def test_the_package_offers_the_helpers():
    assert all(getattr(engines, name) is getattr(helpers, name) for name in engines.__all__)
