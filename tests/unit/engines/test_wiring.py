"""types='warn' and 'strict': which annotations are compared before a run, and what is said of those that do not fit."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict

import pytest

import taskflowx
from taskflowx import engines, exceptions, retry, task
from taskflowx.patterns import graph_flow, linear_flow
from taskflowx.types import failure

if TYPE_CHECKING:
    from nowhere import Unknown


class Volume(TypedDict):
    size: int
    name: str


class Point(NamedTuple):
    x: int
    y: str


@dataclasses.dataclass
class Disk:
    size: int
    name: str


def provider(of, provides="value"):
    """Return a task whose execute is annotated to return something."""

    def execute(): ...

    execute.__annotations__ = {"return": of}
    return task.FunctorTask(execute, name="gives", provides=provides)


def taker(of, method="execute", **keywords):
    def takes(value): ...

    def nothing(**_): ...

    takes.__annotations__ = {"value": of}
    functions = {"execute": takes} if method == "execute" else {"execute": nothing, "revert": takes}
    return task.FunctorTask(name="takes", **functions, **keywords)


def found(*atoms, store=None, **options):
    """Return what validation says of a linear flow with types='strict'; '' when all fits."""
    engine = engines.load(linear_flow.Flow("wired").add(*atoms), store=store, types="strict", **options)
    engine.compile()
    engine.prepare()
    try:
        engine.validate()
    except exceptions.TypeMismatch as error:
        return str(error)
    return ""


def test_the_error_names_both_atoms_both_annotations_and_the_way_out():
    assert found(provider(str | None), taker(int)) == (
        "\"linear_flow.Flow: wired(len=2)\" has values of other types than their takers say, which types='strict' "
        "refuses:\n"
        "'gives' provides 'value' as str | None, and 'takes' takes it as int: correct one of these annotations, "
        "convert the value in a task between them, or have 'takes' take another one by rebind="
    )


def test_nothing_has_run_then():
    ran = []

    def size() -> str:
        ran.append("size")
        return "10"

    def attach(size: int):
        ran.append("attach")

    flow = linear_flow.Flow("f").add(task.FunctorTask(size, provides="size"), task.FunctorTask(attach))
    with pytest.raises(exceptions.TypeMismatch, match="'size' as str"):
        engines.run(flow, types="strict")
    assert ran == []


@pytest.mark.parametrize(
    ("provides", "of", "fits"),
    [
        ("value", int, True),
        ("value", bool, True),
        ("value", str, False),
        ("value", None, False),
        ("value", Any, True),
        ("value", Awaitable[int], True),
        ("value", Awaitable[str], False),
        (("other", "value"), tuple[str, int], True),
        (("other", "value"), tuple[int, str], False),
        (("other", "value"), tuple[int, ...], True),
        (("other", "value"), Sequence[str], False),
        (("other", "value"), Point, False),
        (("value", "other"), Point, True),
        ({"value"}, Mapping[str, int], True),
        ({"value"}, dict[str, str], False),
        ({"value": "size"}, Volume, True),
        ({"value": "name"}, Volume, False),
        ({"value": "nothing"}, Volume, True),
        ({"value": "name"}, Disk, False),
        (("value",), int, True),
        ("value", "Nowhere", True),
    ],
)
def test_a_provided_name_has_the_type_of_its_part_of_the_result(provides, of, fits):
    assert (found(provider(of, provides), taker(int)) == "") is fits


@pytest.mark.parametrize("method", ["execute", "revert"])
def test_parameters_of_both_methods_are_looked_at(method):
    text = found(provider(str), taker(int, method))
    assert ("'takes' (its revert) takes it as int" if method == "revert" else "'takes' takes it as int") in text


def test_a_rebound_argument_is_named():
    assert "it for its argument 'value' as int" in found(provider(str, "there"), taker(int, rebind={"value": "there"}))


def test_what_is_not_annotated_is_not_looked_at():
    class Bare(task.Task):
        default_provides = "value"

        def execute(self): ...

    def half(value: Unknown, other: Unknown): ...

    assert found(Bare(), taker(int)) == ""
    assert found(provider(str), task.FunctorTask(half, inject={"other": 1})) == ""


def test_methods_of_classes_and_async_functions():
    class Gives(task.Task):
        default_provides = "value"

        async def execute(self) -> str: ...

    class Takes(task.Task):
        def execute(self, value: int): ...

    text = found(Gives("gives"), Takes("a"), Takes("b"), executor="asyncio")
    assert text.count("'gives' provides 'value' as str") == 2


def test_functions_that_are_tasks():
    @taskflowx.as_task
    def disk() -> Disk: ...

    @taskflowx.as_task
    def attach(size: str, name: str): ...

    assert "'disk' provides 'size' as int, and 'attach' takes it as str" in found(disk, attach)


@pytest.mark.parametrize(
    ("of", "fits"), [(int, False), (failure.Failure, False), (int | failure.Failure, True), (object, True), (Any, True)]
)
def test_the_result_of_a_revert_is_the_own_one_or_a_failure(of, fits):
    def execute() -> int: ...

    def revert(result, flow_failures: int): ...

    revert.__annotations__["result"] = of
    text = found(task.FunctorTask(execute, name="it", revert=revert))
    assert text.endswith("" if fits else "or the Failure of it: annotate 'result' as int | Failure")
    assert (text == "") is fits


def test_facts_about_a_call_are_not_looked_at():
    def execute(attempt: str, idempotency_key: int): ...

    assert found(task.FunctorTask(execute)) == ""


def test_values_that_are_given():
    assert found(taker(int), store={"value": 3}) == ""
    assert "store= gives 'value' as str, and 'takes' takes it as int: give" in found(taker(int), store={"value": "3"})
    assert "inject= gives 'value' as None" in found(taker(int, inject={"value": None}))
    assert found(taker(int | None, inject={"value": None})) == ""


def test_the_provider_that_a_run_asks_first_is_looked_at():
    assert found(provider(str), taker(int), store={"value": 3}) == ""
    nearer = task.FunctorTask(lambda: 3, name="nearer", provides="value")
    assert found(provider(str), nearer, taker(int)) == ""


def test_a_retry_provides_and_takes():
    class Counts(retry.Times):
        default_provides = "value"

        def execute(self, history, limit: int, **_) -> str: ...

    flow = linear_flow.Flow("tried", retry=Counts(name="counts", requires=["limit"])).add(taker(int))
    with pytest.raises(exceptions.TypeMismatch) as raised:
        engines.run(flow, store={"limit": "3"}, types="strict")
    assert "store= gives 'limit' as str, and 'counts' takes it as int" in str(raised.value)
    assert "'counts' provides 'value' as str, and 'takes' takes it as int" in str(raised.value)


def test_members_of_graph_flows():
    flow = graph_flow.Flow("g").add(provider(str), taker(int))
    with pytest.raises(exceptions.TypeMismatch):
        engines.run(flow, types="strict")


def test_ten_are_shown_of_many():
    def takes(value: int): ...

    text = found(provider(str), *[task.FunctorTask(takes, name=f"t{n}") for n in range(13)])
    assert text.splitlines()[-1] == "and 3 more"
    assert len(text.splitlines()) == 12


def test_a_warning_names_the_flow_and_the_run_goes_on(caplog):
    def size() -> str:
        return "10"

    def attach(size: int): ...

    flow = linear_flow.Flow("f").add(task.FunctorTask(size, name="size", provides="size"), task.FunctorTask(attach))
    with caplog.at_level(logging.WARNING, "taskflowx"):
        assert taskflowx.run(flow) == {"size": "10"}
    (warning,) = caplog.records
    assert warning.getMessage().startswith("In \"linear_flow.Flow: f(len=2)\", 'size' provides 'size' as str, and '")


def test_engines_load_looks_at_nothing_by_default(caplog):
    with caplog.at_level(logging.WARNING, "taskflowx"):
        engines.run(linear_flow.Flow("f").add(provider(str), taker(int)))
    assert not caplog.records


def test_an_unknown_choice_is_refused():
    with pytest.raises(ValueError, match="types must be one of 'ignore', 'warn', 'strict'"):
        engines.load(linear_flow.Flow("f"), types="sloppy")


def test_a_name_that_is_given_later_is_looked_at():
    engine = engines.load(linear_flow.Flow("f").add(taker(int)), types="strict")
    engine.compile()
    engine.prepare()
    engine.storage.inject({"value": "3"})
    with pytest.raises(exceptions.TypeMismatch):
        engine.validate()


def test_arun_looks_too(caplog):
    with caplog.at_level(logging.WARNING, "taskflowx"):
        asyncio.run(taskflowx.arun(linear_flow.Flow("f").add(provider(str), taker(int))))
    assert len(caplog.records) == 1
