"""Results that nobody takes any more are let go of, where an engine is told so, and no others."""

import contextlib
import gc
import weakref

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends, models

PLACES = ["serial", "threads", "asyncio", "processes"]


class Value:
    def __init__(self, content):
        self.content = content


MADE = weakref.WeakSet()


class Make(task.Task):
    def execute(self):
        value = Value("x")
        MADE.add(value)
        return value


class Take(task.Task):
    def execute(self, value):
        return value.content


class Look(task.Task):
    """Counts the values that are left in this process."""

    def execute(self):
        gc.collect()  # noqa: TID251 - frames of calls that have ended may be held by a thread until its next one
        return len(MADE)


class TakeAndUndo(Take):
    def revert(self, value, **kwargs):
        UNDONE.append(value.content)


class MakeAndUndo(Make):
    def revert(self, result, **kwargs):
        UNDONE.append(result.content)


UNDONE: list[str] = []


class Fail(task.Task):
    def execute(self):
        raise ValueError("on purpose")


class FailOnce(task.Task):
    def execute(self, value):
        TRIED.append(value.content)
        if len(TRIED) == 1:
            raise ValueError("on purpose")


TRIED: list[str] = []


@pytest.fixture(autouse=True)
def _anew():
    MADE.clear()
    UNDONE.clear()
    TRIED.clear()


def load(*members, kind=linear_flow, **options):
    flow = kind.Flow("f").add(*members)
    return engines.load(flow, **{"executor": "serial", "keep_results": False, **options})


def fetches(engine, name):
    try:
        engine.storage.fetch(name)
    except exceptions.NotFound:
        return False
    return True


@pytest.mark.parametrize("executor", PLACES[:3])
@pytest.mark.parametrize(("kept", "left"), [(True, 1), (["value"], 1), (["said"], 0), ([], 0)])
def test_a_value_goes_when_the_last_task_that_takes_it_has_ended(executor, kept, left):
    engine = load(
        Make("make", provides="value"),
        unordered_flow.Flow("both").add(Take("first"), Take("second", provides="said")),
        Look("look", provides="left"),
        engine="parallel",
        executor=executor,
        keep_results=kept if kept is True else ["left", *kept],
    )
    engine.run()
    assert fetches(engine, "value") == bool(left)
    assert fetches(engine, "said") == (kept in (True, ["said"]))
    assert engine.storage.fetch("left") == left


@pytest.mark.parametrize("executor", PLACES)
def test_what_is_gone_is_said_to_be_so(executor):
    engine = load(Make("make", provides="value"), Take("take", provides="said"), executor=executor)
    engine.run()
    for ask in (lambda: engine.storage.fetch("value"), lambda: engine.storage.get("make")):
        with pytest.raises(exceptions.NotFound) as caught:
            ask()
        text = f"{caught.value} {caught.value.pformat()}"
        assert "The result of atom 'make' was let go of" in text
        assert "keep_results" in text
    assert engine.storage.fetch_all() == {}
    assert engine.storage.get_atom_state("make") == states.SUCCESS


def test_what_a_revert_takes_is_kept():
    for members in (
        [MakeAndUndo("make", provides="value"), Take("take")],
        [Make("make", provides="value"), TakeAndUndo("take")],
    ):
        UNDONE.clear()
        engine = load(*members, Fail("fail"))
        with pytest.raises(ValueError, match="on purpose"):
            engine.run()
        assert UNDONE == ["x"]


def test_what_a_retry_has_taken_again_is_kept_and_what_it_has_made_again_is_not():
    inside = linear_flow.Flow("inside", retry.Times(3)).add(FailOnce("fails once"))
    engine = load(Make("make", provides="value"), inside)
    engine.run()
    assert TRIED == ["x", "x"]
    assert fetches(engine, "value")
    TRIED.clear()
    inside = linear_flow.Flow("inside", retry.Times(3)).add(
        Make("make", provides="value"), Take("take"), FailOnce("fails once")
    )
    engine = load(inside)
    engine.run()
    assert TRIED == ["x", "x"]
    assert not fetches(engine, "value")


def test_what_a_decider_or_a_retry_is_shown_is_kept():
    shown = []
    flow = graph_flow.Flow("g")
    make, after = Make("make", provides="value"), Take("take")
    flow.add(make, after)
    flow.link(make, after, decider=lambda history: shown.append(history["make"].content) or True)
    engine = load(flow)
    engine.run()
    assert shown == ["x"]
    assert fetches(engine, "value")

    class Takes(retry.Retry):
        def execute(self, value, history):
            return value.content

        def on_failure(self, value, history):
            shown.append(value.content)
            return retry.REVERT

    engine = load(Make("make", provides="value"), linear_flow.Flow("r", Takes("r")).add(Take("take"), Fail("fail")))
    with pytest.raises(ValueError, match="on purpose"):
        engine.run()
    assert shown == ["x", "x"]


def test_a_task_that_is_left_out_takes_nothing():
    flow = graph_flow.Flow("g")
    first, after = Take("first"), Take("after")
    flow.add(first, after)
    flow.link(first, after, decider=lambda history: False)
    engine = load(Make("make", provides="value"), flow)
    engine.run()
    assert engine.storage.get_atom_state("after") == states.IGNORE
    assert not fetches(engine, "value")
    assert not MADE


class BrokenOnce(task.Task):
    def execute(self):
        TRIED.append(self.name)
        if len(TRIED) == 1:
            raise ValueError("on purpose")


@pytest.mark.parametrize("executor", PLACES[:3])
@pytest.mark.parametrize("made", ["before", "inside"])
@pytest.mark.parametrize("depth", ["all", "flow", "atom"])
def test_what_a_retry_lets_run_that_a_veto_has_skipped_finds_its_value(executor, made, depth):
    asked, events = [], []
    make, first, vetoed, broken = Make("make", provides="value"), Look("first"), Look("vetoed"), BrokenOnce("broken")
    inside = graph_flow.Flow("inside", retry.Times(3)).add(first, vetoed, broken)
    inside.link(first, vetoed, decider=lambda history: asked.append(1) or len(asked) > 1, decider_depth=depth)
    inside.link(first, broken)
    if made == "inside":
        inside.add(make).link(make, first)
    take = Take("take", provides="said")
    engine = load(*([make] if made == "before" else []), inside, take, executor=executor, keep_results=["said"])
    engine.atom_notifier.register("*", lambda state, facts: facts.get("task_name") == "take" and events.append(state))
    engine.run()
    assert (states.IGNORE in events) == (depth == "all")
    assert TRIED == ["broken", "broken"]
    assert engine.storage.fetch("said") == "x"
    assert fetches(engine, "value") == (depth == "all" and made == "before")


def test_a_value_that_was_let_go_of_is_an_error_and_neither_none_nor_a_default_nor_an_older_one():
    class Undone(Text):
        def revert(self, result):
            """Need the result, so that it is kept."""

    class Defaults(task.Task):
        def execute(self, text="default"):
            return text

    engine = load(
        Undone("older", provides="text"), Text("text", provides="text"), Length("length"), Defaults("default")
    )
    engine.run()
    assert engine.storage.get("older") == "text"
    binder, names = engine.preparation.binder, engine.preparation.plan.names
    for name in ("length", "default"):
        with pytest.raises(exceptions.NotFound) as caught:
            binder.execute_arguments(names[name])
        assert "The result of atom 'text' was let go of" in caught.value.pformat()


def test_a_run_that_goes_on_finds_what_is_still_to_be_taken():
    engine = load(Make("make", provides="value"), Take("first"), Take("second"), Take("third"))
    steps = engine.run_iter()
    for state in steps:
        if engine.storage.get_atom_state("second") == states.SUCCESS and state != states.SUSPENDED:
            engine.suspend()
    assert engine.storage.get_atom_state("third") == states.PENDING
    assert fetches(engine, "value")
    engine.run()
    assert engine.storage.get_atom_state("third") == states.SUCCESS
    assert not fetches(engine, "value")


@pytest.mark.parametrize("how", ["reset", "save", "engine"])
def test_a_result_that_is_there_again_is_taken(how):
    engine = load(Text("text", provides="text"), Length("length", provides="length"), keep_results=["length"])
    engine.run()
    if how == "engine":
        engine.reset()
    else:
        engine.storage.reset("length")
        engine.storage.reset("text") if how == "reset" else engine.storage.save("text", "other text")
        assert fetches(engine, "text") == (how == "save")
        engine.storage.set_flow_state(states.SUSPENDED)
    engine.run()
    assert engine.storage.fetch("length") == (10 if how == "save" else 4)


class Text(task.Task):
    def execute(self):
        return "text"


class Length(task.Task):
    def execute(self, text):
        return len(text)


def test_a_task_that_is_added_later_is_told_that_what_it_takes_is_gone(tmp_path):
    with backends.backend({"connection": f"sqlite:///{tmp_path}/runs.db"}) as backend:
        record = models.FlowDetail("flow", "1")
        book = models.LogBook("book")
        book.add(record)
        with contextlib.closing(backend.get_connection()) as connection:
            connection.save_logbook(book)
        store = {"backend": backend, "executor": "serial"}
        first = linear_flow.Flow("f").add(Text("text", provides="text"), Length("length", provides="length"))
        engines.load(first, flow_detail=record, keep_results=["length"], **store).run()
        with contextlib.closing(backend.get_connection()) as connection:
            stored = connection.get_flow_details("1")
        assert {detail.name: detail.results for detail in stored} == {"text": None, "length": 4}
        stored.state = states.SUSPENDED
        more = linear_flow.Flow("f").add(
            Text("text", provides="text"), Length("length", provides="length"), Length("again")
        )
        engine = engines.load(more, flow_detail=stored, **store)
        with pytest.raises(exceptions.NotFound) as caught:
            engine.run()
        assert "The result of atom 'text' was let go of" in caught.value.pformat()
        engine.reset(force=True)
        engine.run()
        assert engine.storage.get("again") == 4


@pytest.mark.parametrize(
    ("kept", "error", "text"),
    [
        ("value", TypeError, "keep_results must be True, False or a list of names of values, not 'value'"),
        (5, TypeError, "keep_results must be True, False or a list"),
    ],
)
def test_what_is_no_list_of_names_is_refused(kept, error, text):
    with pytest.raises(error, match=text):
        load(Make("make", provides="value"), keep_results=kept)


def test_a_name_that_nothing_provides_is_refused_before_anything_runs():
    engine = load(Make("make", provides="value"), keep_results=["value", "volume"])
    with pytest.raises(ValueError, match=r"keep_results names \['volume'\], which nothing in .* provides"):
        engine.run()
    assert not MADE
