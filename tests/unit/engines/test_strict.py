"""results='strict': which results are refused, what becomes of the effects, and that the lenient engine warns alone."""

import typing

import pytest

import taskflowx
from taskflowx import as_task, engines, exceptions, task
from taskflowx.engines import strict
from taskflowx.patterns import linear_flow


class Gives(task.Task):
    def execute(self, value):
        return value

    def revert(self, result, **kwargs):
        UNDONE.append(result)


UNDONE = []


@pytest.mark.parametrize(
    ("provides", "result", "lack"),
    [
        (("a", "b"), 5, "'a', 'b'"),
        (("a", "b"), None, "'a', 'b'"),
        (("a", "b"), (1,), "'b'"),
        (("a", "b"), [], "'a', 'b'"),
        (("a", "b"), "xy", "'a', 'b'"),
        (("a", "b"), b"xy", "'a', 'b'"),
        (("a", "b"), (1, 2, 3), "has 3 values and not 2"),
        (("a",), (), "'a'"),
        ({"a", "b"}, {"a": 1}, "'b'"),
        ({"a", "b"}, (1, 2), "'a', 'b'"),
        ({"a": "k"}, {"a": 1}, "'a'"),
        ({"a": 3}, (1, 2), "'a'"),
        (("a", "b"), bytearray(b"xy"), "'a', 'b'"),
        ({"first": 0, "last": -1}, "xy", "'first', 'last'"),
        ({"first": 0, "last": -1}, [], "'first', 'last'"),
    ],
)
def test_a_result_that_lacks_a_part(provides, result, lack):
    error = strict.mismatch(Gives("g", provides=provides), result)
    assert lack in str(error)
    assert "'g'" in str(error)
    assert "must return" in str(error)


@pytest.mark.parametrize(
    ("provides", "result"),
    [
        ((), 5), ("a", None), (("a", "b"), (1, 2)), (("a", "b"), [1, 2]), (("a", "b"), {0: 1, 1: 2}),
        ({"a", "b"}, {"a": 1, "b": 2, "c": 3}), ({"a": "k"}, {"k": 1}), ({"a": 1}, (0, 1)),
        ({"first": 0, "last": -1}, (1, 2, 3)), ({"second": 1}, (1, 2, 3)), ({"b": 1, "a": 0}, [1, 2, 3]),
    ],
)  # fmt: skip
def test_a_result_that_has_all_parts(provides, result):
    assert strict.mismatch(Gives("g", provides=provides), result) is None


@pytest.mark.parametrize(
    ("provides", "result", "wanted"),
    [
        (("a", "b"), 5, "a tuple of 2,"),
        ({"name": "k"}, {"name": 1}, "a dict with the keys 'k',"),
        ({"first": 0, "last": -1}, [], "a list or tuple with the items 0, -1,"),
    ],
)
def test_the_error_says_what_the_result_must_have(provides, result, wanted):
    assert f"must return {wanted}" in str(strict.mismatch(Gives("g", provides=provides), result))


def test_the_parts_that_a_typed_dict_may_lack_are_not_asked_for():
    error = strict.mismatch(as_task(lambda: None, name="g", provides={"a", "b"}), None)
    assert "the keys 'a', 'b'," in str(error)
    assert "the keys 'a'," in str(strict.mismatch(sparse, {}))


class Sparse(typing.TypedDict):
    a: int
    b: typing.NotRequired[int]


@as_task
def sparse() -> Sparse:
    return {"a": 1}


def test_items_may_be_counted_from_the_end_of_a_result():
    flow = _flow((1, 2, 3), provides={"first": 0, "last": -1})
    assert dict(taskflowx.run(flow)) == {"first": 1, "last": 3}


def _flow(result, provides=("a", "b")):
    return linear_flow.Flow("f").add(Gives("g", provides=provides, inject={"value": result}))


@pytest.mark.parametrize("options", [{}, {"executor": "threads", "inline": False}, {"executor": "processes"}], ids=str)
def test_a_refused_result_is_a_failure_and_its_revert_gets_the_result(options):
    UNDONE.clear()
    engine = engines.load(_flow((1,)), results="strict", **options)
    with pytest.raises(exceptions.ResultMismatch):
        engine.run()
    assert engine.storage.get_atom_state("g") == "REVERTED"
    if options.get("executor") != "processes":
        assert UNDONE == [(1,)]


@pytest.mark.parametrize("result", [(1, 2), [1], (), "xy", {"a": 1}, None])
@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize("subscribed", [False, True])
def test_a_task_that_provides_nothing_may_return_anything(result, stored, subscribed, tmp_path):
    flow = linear_flow.Flow("f").add(Gives("gives", inject={"value": result}))
    options = {"backend": f"sqlite:///{tmp_path}/runs.db"} if stored else {}
    engine = engines.load(flow, results="strict", **options)
    if subscribed:  # so that it takes the long path
        engine.atom_notifier.register("*", lambda *_: None)
    engine.run()
    assert engine.storage.get_flow_state() == "SUCCESS"


def test_the_lenient_engine_warns(caplog):
    engine = engines.load(_flow((1,)))
    engine.run()
    assert engine.storage.get_atom_state("g") == "SUCCESS"
    assert "Atom 'g' did not supply result with index 1 (name 'b')" in caplog.text


def test_the_option_has_two_values():
    with pytest.raises(ValueError, match="results"):
        engines.load(_flow((1,)), results="strikt")
