"""Tasks that are made of functions: names, inputs, provided names, undoing, and what a direct call does."""

import asyncio
import copy
import dataclasses
import functools
import pickle
import sys
import time
import typing

import pytest

import taskflowx
from taskflowx import as_task, engines, exceptions, linear, load, run, task, unordered
from taskflowx.patterns import linear_flow

UNDONE = []


@dataclasses.dataclass
class Volume:
    path: str
    size: int


class Point(typing.NamedTuple):
    x: int
    y: int


class Facts(typing.TypedDict):
    width: int
    height: int


@as_task
def create(size: int) -> Volume:
    """Create a volume."""
    return Volume("/dev/vdb", size)


@create.revert
def delete(result, size):
    UNDONE.append((result, size))


@as_task
def locate(size) -> Point:
    return Point(size, size + 1)


@as_task
def measure(size) -> Facts:
    return {"width": size, "height": 2 * size}


@as_task
def count(path, size):
    return len(path) + size


@as_task
def note(count) -> None:
    pass


@as_task(name="look it up", provides="found", rebind={"key": "word"}, pure=True, version=(2, 1))
def look_up(key, default=None):
    return f"{key}?{default}"


@as_task
async def fetch(size) -> Volume:
    await asyncio.sleep(0)
    return Volume("far", size)


def test_names_inputs_and_provided_names_come_from_the_function():
    facts = {one.name: (list(one.requires), list(one.provides)) for one in (create, locate, measure, count, note)}
    assert facts == {
        "create": (["size"], ["path", "size"]),
        "locate": (["size"], ["x", "y"]),
        "measure": (["size"], ["width", "height"]),
        "count": (["path", "size"], ["count"]),
        "note": (["count"], []),
    }
    assert (create.__doc__, create.__module__) == ("Create a volume.", __name__)


def test_each_keyword_of_a_task_counts():
    assert (look_up.name, look_up.version, list(look_up.provides)) == ("look it up", (2, 1), ["found"])
    assert run(look_up, {"word": "a"})["found"] == "a?None"
    assert set(task.KEYWORDS) >= {"provides", "revert_requires", "ignore_list", "pure"}
    for keyword in task.KEYWORDS:
        as_task(**{keyword: None})(lambda: 1)


def test_an_unknown_keyword_is_refused_with_those_that_there_are():
    with pytest.raises(TypeError, match=r"no keywords \['provide'\]; it takes .*'provides'"):
        as_task(provide="x")


def test_a_direct_call_is_one_of_the_function():
    assert create(3) == Volume("/dev/vdb", 3)
    assert create(size=4) == Volume("/dev/vdb", 4)
    with pytest.raises(TypeError, match="unexpected keyword"):
        create(3, sise=4)


def test_a_call_with_a_keyword_of_a_task_makes_another_task():
    other = create("other", rebind={"size": "gb"})
    assert (other.name, list(other.requires)) == ("other", ["gb"])
    assert create.named("third").name == "third"
    assert create.name == "create"


@as_task
def nothing_given():
    return 1


@as_task
def anything_by_name(**values):
    return values


@as_task
def anything(*values):
    return values


def test_a_call_with_a_name_that_the_function_cannot_take_makes_another_task():
    assert nothing_given("other").name == "other"
    other = anything_by_name("other", provides="y")
    assert (other.name, list(other.provides)) == ("other", ["y"])
    assert anything_by_name(name="x", provides="y") == {"name": "x", "provides": "y"}
    assert anything("other") == ("other",)
    for args in ((1,), ("a", "b")):
        with pytest.raises(TypeError, match="positional argument"):
            nothing_given(*args)


def test_a_parameter_that_is_called_like_a_keyword_is_the_functions():
    named = as_task(lambda name: f"<{name}>")
    assert named(name="x") == "<x>"
    assert named.named("other").name == "other"


def test_what_a_task_has_done_is_undone_by_the_declared_function():
    def fail(path):
        raise ValueError(path)

    UNDONE.clear()
    with pytest.raises(ValueError, match="/dev/vdb"):
        run(taskflowx.linear("f", create, fail), {"gb": 3, "size": 3}, results="lenient")
    assert [(Volume("/dev/vdb", 3), 3)] == UNDONE


@pytest.mark.parametrize("executor", ["serial", "threads", "processes", "asyncio"])
def test_the_result_of_each_shape_is_there_on_each_executor(executor):
    flow = unordered("f", create.named("c", rebind={"size": "gb"}), locate("l", rebind={"size": "gb"}), look_up)
    flow.add(measure("m", rebind=["gb"]))
    engine = load(flow, {"gb": 3, "word": "w"}, executor=executor)
    engine.run()
    results = engine.storage.fetch_all()
    assert {name: results[name] for name in ("path", "size", "x", "y", "width", "height", "found")} == {
        "path": "/dev/vdb", "size": 3, "x": 3, "y": 4, "width": 3, "height": 6, "found": "w?None",
    }  # fmt: skip
    made = create.named("c")
    assert made.result(engine) == made.result(results) == Volume("/dev/vdb", 3)
    assert locate.named("l").result(results) == Point(3, 4)
    assert look_up.result(engine) == "w?None"


def test_coroutines_are_awaited():
    flow = linear_flow.Flow("f").add(fetch("f", rebind=["gb"]), count)
    assert asyncio.run(taskflowx.arun(flow, {"gb": 2}))["count"] == 5


def test_a_task_of_a_module_is_pickled_by_its_name():
    for one in (create, create.named("other", inject={"size": 1}), look_up):
        copy = pickle.loads(pickle.dumps(one))
        assert (copy.name, copy.inject, copy.save_as, copy.version) == (one.name, one.inject, one.save_as, one.version)
        assert copy.rebind == one.rebind
    assert pickle.loads(pickle.dumps(create))(5) == Volume("/dev/vdb", 5)
    assert pickle.loads(pickle.dumps(create.named("x")))._tfx_declared is create


def test_one_that_its_module_does_not_have_elsewhere_says_so(monkeypatch):
    data = pickle.dumps(look_up)
    monkeypatch.delattr(sys.modules[__name__], "look_up")
    with pytest.raises(AttributeError, match=r"no task 'look_up' in this process: define it at the top level"):
        pickle.loads(data)


def test_a_local_one_is_refused_for_processes_by_its_name(monkeypatch):
    monkeypatch.setitem(sys.modules, "cloudpickle", None)

    @as_task
    def here():
        return 1

    with pytest.raises(exceptions.CompilationFailure, match="'here' cannot reach another process"):
        run(here, executor="processes")


def test_a_hint_that_cannot_be_evaluated_leaves_the_name_of_the_function():
    def made() -> "NoSuchName":  # noqa: F821
        return 1

    assert list(as_task(made).provides) == ["made"]


def test_a_result_without_a_part_fails_its_task_in_each_engine():
    @as_task(provides=("a", "b"))
    def split():
        return (1,)

    with pytest.raises(exceptions.ResultMismatch, match=r"task 'split' lacks 'b'.*tuple of 2.*\(1,\)"):
        engines.run(linear_flow.Flow("f").add(split))


def test_a_call_of_none_is_refused():
    with pytest.raises(ValueError, match="Function to use for executing"):
        as_task(5)


class Called:
    def __call__(self, size):
        return size


@pytest.mark.parametrize(
    ("function", "name", "provides"),
    [
        (lambda size: size, "<lambda>", []),
        (functools.partial(count, path="x"), "count", ["count"]),
        (functools.partial(max, 3), "max", ["max"]),
        (Called(), "Called", ["Called"]),
    ],
)
def test_the_name_of_what_stands_for_a_function(function, name, provides):
    made = as_task(function)
    assert (made.name, list(made.provides)) == (name, provides)


def test_methods_that_know_their_object_and_static_ones_are_functions():
    class Thing:
        def of_object(self, x):
            return x + 1

        @classmethod
        def of_class(cls, x):
            return x + 2

        @staticmethod
        def of_none(x):
            return x + 3

    for method, value in ((Thing().of_object, 2), (Thing.of_class, 3), (Thing.of_none, 4), (vars(Thing)["of_none"], 4)):
        one = as_task(method)
        assert (list(one.requires), run(one, {"x": 1})[one.name]) == (["x"], value)
    one = as_task(functools.partial(Thing.of_object, Thing()))
    assert run(one, {"x": 1})["of_object"] == 2


def test_an_engine_that_is_lenient_takes_a_result_without_a_part(caplog):
    split = as_task(lambda: (1,), name="split", provides=("a", "b"))
    assert run(split, results="lenient") == {"a": 1}
    assert engines.run(split, results="lenient") == {"a": 1}
    assert "Atom 'split' did not supply result with index 1" in caplog.text
    with pytest.raises(exceptions.ResultMismatch):
        engines.run(split)


def test_another_name_of_a_task_leaves_its_provided_name():
    assert list(as_task(name="x")(Called()).provides) == ["Called"]
    assert list(locate.named("y").provides) == ["x", "y"]
    assert list(count.named("z").provides) == ["count"]


# -- dataclasses, as they were ---------------------------------------------------------------------------------------


@dataclasses.dataclass
class Disk:
    name: str
    path: str = dataclasses.field(init=False)
    made: dataclasses.InitVar[int] = 0

    def __post_init__(self, made):
        self.path = f"/disk/{self.name}"
        self.name = self.name.upper()


@dataclasses.dataclass
class Raid(Disk):
    disks: int = 2


@dataclasses.dataclass(frozen=True, slots=True)
class Part:
    cents: int

    def __post_init__(self):
        object.__setattr__(self, "cents", self.cents * 100)


@dataclasses.dataclass
class Nothing:
    pass


class NoKeys(typing.TypedDict):
    pass


def make_disk() -> Disk:
    return Disk("a")


def make_raid() -> Disk:
    return Raid("b", disks=3)


def make_part() -> Part:
    return Part(5)


def make_nothing() -> Nothing:
    return Nothing()


def make_no_keys() -> NoKeys:
    return {}


async def make_later() -> Disk:
    return Disk("c")


@pytest.mark.parametrize("executor", ["serial", "asyncio"])
@pytest.mark.parametrize("made", [make_disk, make_part, make_nothing, make_no_keys, make_later])
def test_what_a_function_has_made_comes_to_its_revert_and_to_the_caller_as_it_was(made, executor):
    if made is make_later and executor == "serial":
        return
    expected = asyncio.run(made()) if made is make_later else made()
    one, undone = as_task(made), []

    @one.revert
    def undo(result):
        undone.append(result)

    engine = load(one, executor=executor)
    engine.run()
    assert one.result(engine) == one.result(run(one, executor=executor)) == expected
    assert one.result(dict(engine.storage.fetch_all())) == expected

    def fail():
        raise ValueError("later")

    with pytest.raises(ValueError, match="later"):
        run(taskflowx.linear("f", one, fail), executor=executor)
    assert undone == [expected]


def test_an_object_of_a_subclass_comes_as_one_of_the_annotated_class_with_all_that_it_has():
    one = as_task(make_raid)
    found = one.result(run(one))
    assert (type(found), vars(found)) == (Disk, {"name": "B", "path": "/disk/b", "disks": 3})


def test_a_dataclass_that_has_not_set_a_field_lacks_that_part():
    @dataclasses.dataclass
    class Half:
        left: int
        right: int = dataclasses.field(init=False)

    def make():
        return Half(1)

    make.__annotations__["return"] = Half
    with pytest.raises(exceptions.ResultMismatch, match="lacks 'right'"):
        run(as_task(make))


# -- annotations that are not there ----------------------------------------------------------------------------------


def test_a_task_has_the_annotations_of_its_function():
    @as_task
    def count(name: str) -> int: ...

    assert typing.get_type_hints(count) == {"name": str, "return": int}
    assert pickle.loads(pickle.dumps(create)).requires == create.requires


@pytest.mark.parametrize("function", [max, min])
def test_a_function_of_c_that_does_not_say_what_it_takes_is_refused_where_it_is_written(function):
    says = f"'{function.__name__}' does not say what it takes.* call it in a function of yours"
    for refused in (
        lambda: as_task(function),
        lambda: linear("f", function),
        lambda: as_task(lambda: 1, revert=function),
        lambda: as_task(lambda: 1).revert(function),
    ):
        with pytest.raises(TypeError, match=says):
            refused()
    assert as_task(requires=["x"])(function).requires == {"x"}


def test_a_function_of_c_that_takes_nothing_or_was_given_what_it_takes_is_one():
    flow = linear("f", as_task(requires=[])(time.monotonic), functools.partial(max, 1, 2))
    assert run(flow)["max"] == 2


def test_a_method_of_a_class_of_c_is_refused_by_name():
    with pytest.raises(ValueError, match=r"join cannot be run: builtins.str.join takes \['self', 'iterable'\]"):
        as_task(str.join)


def test_a_parameter_whose_annotation_cannot_be_evaluated_changes_nothing():
    def made(given: "NoSuchName" = None) -> "Volume":  # noqa: F821
        return Volume("x", 1)

    assert list(as_task(made).provides) == ["path", "size"]


def test_a_decorated_function_is_annotated_where_it_is_written():
    def made() -> "Volume":
        return Volume("x", 1)

    elsewhere = {"functools": functools, "made": made}
    exec("@functools.wraps(made)\ndef wrapper(): return made()", elsewhere)  # noqa: S102 - in another module
    assert list(as_task(elsewhere["wrapper"]).provides) == ["path", "size"]


def test_a_result_whose_annotation_cannot_be_evaluated_is_logged_once(caplog):
    caplog.set_level("INFO")

    def made_of_what() -> "NoSuchName":  # noqa: F821
        return 1

    as_task(made_of_what).named("other")
    as_task(provides="x")(made_of_what)
    [record] = caplog.records
    assert "what 'made_of_what' returns, NoSuchName, cannot be evaluated" in record.getMessage()
    assert "as_task(provides=...)" in record.getMessage()


class Partly(typing.TypedDict, total=False):
    always: typing.Required[int]
    seldom: int


class Mostly(typing.TypedDict):
    always: int
    seldom: typing.NotRequired[int]


@pytest.mark.parametrize("kind", [Partly, Mostly])
def test_a_key_that_a_dict_may_lack_is_not_demanded(kind, caplog):
    def look(full):
        return {"always": 1, "seldom": 2} if full else {"always": 1}

    look.__annotations__["return"] = kind
    one = as_task(look)
    assert list(one.provides) == ["always", "seldom"]
    for full, expected in ((True, {"always": 1, "seldom": 2}), (False, {"always": 1})):
        result = run(one, {"full": full})
        assert {**result} == {"full": full, **expected}
        assert one.result(result) == one.result(dict(result)) == expected
    assert not caplog.records
    with pytest.raises(exceptions.NotFound, match="'seldom'"):
        run(taskflowx.linear("f", one, lambda seldom: seldom), {"full": False})

    def lacks(full):
        return {"seldom": 2}

    lacks.__annotations__["return"] = kind
    with pytest.raises(exceptions.ResultMismatch, match="lacks 'always'"):
        run(as_task(lacks), {"full": 1})


# -- what a constructor makes besides fields ----------------------------------------------------------------------


@dataclasses.dataclass
class Indexed:
    path: str

    def __post_init__(self):
        self.index = {self.path: 1}


@dataclasses.dataclass
class Mapped(dict):
    x: int = 1


@dataclasses.dataclass
class Error(Exception):
    code: int = 0


@pytest.mark.parametrize("made", [Indexed("p"), Mapped(3), Error(7)], ids=repr)
def test_an_object_that_is_made_again_has_what_its_constructor_makes_besides_its_fields(made):
    def make():
        return made

    make.__annotations__["return"] = type(made)
    seen = []
    create = as_task(make)
    create.revert(lambda result: seen.append(result))  # noqa: PLW0108 - it takes it by name
    again = create.result(taskflowx.run(linear("f", create)))
    with pytest.raises(ZeroDivisionError):
        taskflowx.run(linear("f", create, as_task(lambda: 1 / 0, name="fails")))
    for one in (again, *seen):
        assert type(one) is type(made)
        assert vars(one) == vars(made)
    assert len(seen) == 1


@pytest.mark.parametrize("how", [{"rebind": {"cls": "kind"}}, {"inject": {"cls": "a"}}, {}])
def test_a_function_may_take_what_is_called_as_in_methods(how):
    def predict(cls, x):
        return f"{cls}{x}"

    values = taskflowx.run(
        as_task(predict, **how), {"kind": "a", "cls": "a", "x": 1} if "inject" not in how else {"x": 1}
    )
    assert values["predict"] == "a1"


R = typing.TypeVar("R")


def take_self(self, number):
    return self + number


def take_self_back(self, result):
    UNDONE_SELVES.append((self, result))


UNDONE_SELVES = []


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_a_parameter_may_be_called_self(executor):
    made = as_task(take_self, revert=take_self_back)
    assert taskflowx.run(made, {"self": 1, "number": 2}, executor=executor)["take_self"] == 3
    assert made(1, 2) == made(self=1, number=2) == 3
    functor = task.FunctorTask(take_self, "f", provides="sum")
    assert taskflowx.run(functor, {"self": 1, "number": 2}, executor=executor)["sum"] == 3
    mapped = task.MapFunctorTask(abs, name="m", requires=["self"], provides="all")
    assert taskflowx.run(mapped, {"self": -1}, executor=executor)["all"] == [1]
    folded = task.ReduceFunctorTask(take_self, name="r", requires=["self", "number"], provides="all")
    assert taskflowx.run(folded, {"self": 1, "number": 2}, executor=executor)["all"] == 3


def test_a_revert_may_have_a_parameter_called_self():
    UNDONE_SELVES.clear()
    engine = taskflowx.load(as_task(take_self, revert=take_self_back), {"self": 1, "number": 2})
    engine.run()
    engine.rollback()
    assert UNDONE_SELVES == [(1, 3)]


class KeyedBox(typing.TypedDict, typing.Generic[R]):
    thing: R
    lid: typing.NotRequired[R]


class NamedBox(typing.NamedTuple, typing.Generic[R]):
    thing: R
    lid: R


@dataclasses.dataclass
class DataBox(typing.Generic[R]):
    thing: R
    lid: R


@as_task
def keyed() -> KeyedBox[int]:
    return {"thing": 1}


@as_task
def named() -> NamedBox[int]:
    return NamedBox(1, 2)


@as_task
def data() -> typing.Annotated[DataBox[int], "a box"]:
    return DataBox(1, 2)


@pytest.mark.parametrize(
    ("box", "result"), [(keyed, {"thing": 1}), (named, NamedBox(1, 2)), (data, DataBox(1, 2))], ids=lambda one: ""
)
def test_a_generic_class_of_a_result_provides_its_fields(box, result):
    assert list(box.provides) == ["thing", "lid"]
    values = run(box >> as_task(lambda thing: thing + 1, name="user"), types="strict")
    assert values["thing"] == 1
    assert box.result(values) == result


def test_a_generic_type_of_another_kind_is_one_value():
    def made() -> dict[str, int]:
        return {}

    assert list(as_task(made).provides) == ["made"]
    made.__annotations__["return"] = tuple[int, str]
    assert list(as_task(made).provides) == ["made"]
    made.__annotations__["return"] = DataBox[int] | None
    assert list(as_task(made).provides) == ["made"]


def test_a_revert_that_is_declared_late_is_that_of_all_tasks_of_the_function():
    undone = []

    @as_task
    def pack(item):
        return item

    @as_task
    def break_down():
        raise OSError("broken")

    lamp = pack.named("lamp", provides="lamp", inject={"item": "lamp"})
    shade = lamp.named("shade", provides="shade", inject={"item": "shade"})
    kept = pack.named("kept", provides="kept", inject={"item": "kept"})
    kept.revert(lambda result: undone.append(f"{result}, differently"))
    pack.revert(lambda result: undone.append(f"{result}, as all"))

    with pytest.raises(OSError, match="broken"):
        run(linear("parcel", lamp, shade, kept, break_down))
    assert undone == ["kept, differently", "shade, as all", "lamp, as all"]


@as_task
def wrap(item):
    return item


@wrap.revert
def unwrap(result):
    raise AssertionError("another task has its own")


wrapped_twice = wrap.named("wrapped twice", provides="parcel", inject={"item": "lamp"})


@wrapped_twice.revert
def unwrap_twice(result):
    raise KeyError(f"undone twice: {result}")


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_has_the_revert_that_its_task_has(copied):
    assert copied(wrapped_twice)._tfx_revert is unwrap_twice
    assert copied(wrap)._tfx_revert is unwrap


@pytest.mark.parametrize("executor", ["serial", "processes"])
def test_the_revert_of_one_task_of_a_function_is_called_on_each_executor(executor):
    engine = load(linear("f", wrapped_twice), executor=executor)
    engine.run()
    with pytest.raises(KeyError, match="undone twice: lamp"):
        engine.rollback()


class Hooked(taskflowx.FunctionTask):
    def pre_execute(self):
        raise LookupError("the hook was called")


def hooked():
    pass


hooked = Hooked(hooked)


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))])
def test_a_copy_is_of_the_class_of_its_task(copied):
    assert type(copied(hooked)) is Hooked


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
def test_the_hooks_of_a_class_of_function_tasks_are_called_on_each_executor(executor):
    with pytest.raises(LookupError, match="the hook was called"):
        run(hooked, executor=executor)
