"""Tagged values: their form, what is escaped, which classes are used, what is refused, what a program registers."""

from __future__ import annotations

import collections
import dataclasses
import datetime as dt
import decimal
import enum
import functools
import json
import sys
import threading
import types
import typing

import attrs
import pydantic
import pytest
from hypothesis import given, reject, settings, strategies as st

from taskflowx import exceptions
from taskflowx.persistence import codec, models, tags
from tests.support import values


def back(value):
    """Give a value as it is read again, after it went through JSON that any reader accepts."""
    text = codec.dumps(value, "it")
    json.loads(text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    return codec.loads(text)


@settings(max_examples=150, deadline=None)
@given(values.VALUES)
def test_a_value_comes_back_as_it_was(value):
    assert values.same(back(value), value)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ((1, "a"), '{"$tfx":["tuple",1,"a"]}'),
        ({7}, '{"$tfx":["set",7]}'),
        (b"ab", '{"$tfx":["bytes","YWI="]}'),
        (dt.date(2024, 2, 29), '{"$tfx":["date","2024-02-29"]}'),
        (float("nan"), '{"$tfx":["float","nan"]}'),
        ({1: 2, "a": 3}, '{"$tfx":["dict",[1,2],["a",3]]}'),
        ({"$tfx": ["set", 7]}, '{"$tfx":["dict",["$tfx",["set",7]]]}'),
        (values.Point(1, 2), '{"$tfx":["namedtuple","tests.support.values:Point",{"x":1,"y":2}]}'),
        (values.Colour.RED, '{"$tfx":["enum","tests.support.values:Colour","RED"]}'),
        (values.Box(1), '{"$tfx":["dataclass","tests.support.values:Box",{"content":1,"labels":[]}]}'),
        ("\ud83d\ude00", '{"$tfx":["str","\\ud83d","\\ude00"]}'),
        (["\U0001f600", "\ude00\ud83d"], '["\\ud83d\\ude00","\\ude00\\ud83d"]'),
        (
            {"\ud83d\ude00": 1, "\U0001f600": 2},
            '{"$tfx":["dict",[{"$tfx":["str","\\ud83d","\\ude00"]},1],["\\ud83d\\ude00",2]]}',
        ),
        ({"a": "$tfx", "b": ["$"]}, '{"a":"$tfx","b":["$"]}'),
    ],
)
def test_the_form_of_a_value(value, text):
    assert codec.dumps(value, "it") == text
    assert values.same(codec.loads(text), value)


@pytest.mark.parametrize("found", [{"$tfx": 1}, {"$tfx": []}, {"$tfx": [1]}, {"$tfx": ["set"], "b": 1}])
def test_a_dict_of_an_old_record_that_is_no_tag_is_read_as_it_was(found):
    assert codec.loads(json.dumps(found)) == found


def test_an_old_record_with_a_key_that_keeps_its_hash_is_read():
    text = '{"$tfx":["dict",[{"$tfx":["attrs","tests.support.values:Hashed",{"a":1}]},2]]}'
    assert codec.loads(text) == {values.Hashed(1): 2}


def test_numbers_that_are_none_in_an_old_record_are_read():
    assert repr(codec.loads("[NaN, -Infinity]")) == "[nan, -inf]"


@pytest.mark.parametrize(
    "content",
    [
        ["set", []],
        ["bytes", "?"],
        ["int", "x"],
        ["date", "29"],
        ["uuid"],
        ["dict", [1]],
        ["path", "Path", "a"],
        ["numpy", "O", "AAAA"],
        ["ndarray", "<i4", [2], "AAAA"],
        ["ndarray", "<i4", [10**15], "AAAA"],
        ["zoneinfo", "../../etc/passwd"],
        ["timedelta", "x"],
        ["dataclass", "tests.support.values:Box", 1],
        ["namedtuple", 3, {}],
    ],
    ids=str,
)
def test_what_is_damaged_is_refused(content):
    with pytest.raises(codec.Unreadable):
        codec.loads(json.dumps({"a": [{"$tfx": content}]}))


# -- classes ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def module(monkeypatch):
    """Give a module whose classes a test may change."""
    made = types.ModuleType("taskflowx_test_classes")
    monkeypatch.setitem(sys.modules, made.__name__, made)

    def define(name, *fields, maker=dataclasses.make_dataclass):
        cls = maker(name, list(fields))
        cls.__module__ = made.__name__
        setattr(made, name, cls)
        return cls

    made.define = define
    return made


def test_a_record_imports_no_module():
    name = "taskflowx_test_never_imported"
    text = json.dumps({"$tfx": ["dataclass", f"{name}:Box", {"a": 1}]})
    with pytest.raises(
        codec.NotBuildable, match=f"'{name}:Box', and this program has not imported '{name}'\nImport it"
    ):
        codec.loads(text)
    with pytest.raises(codec.NotBuildable, match="has not imported"):
        codec.loads('{"$tfx": ["enum", "antigravity:Word", "A"]}')
    assert "antigravity" not in sys.modules


@pytest.mark.parametrize(
    "content",
    [
        ["dataclass", "subprocess:Popen", {"args": "true"}],
        ["enum", "os:system", "true"],
        ["namedtuple", "builtins:list", {}],
        ["attrs", "builtins:eval", {}],
        ["pydantic", "tests.support.values:Box", {}, [], None, None],
        ["own", "builtins:eval", "1"],
        ["flag", "builtins:int", 1],
    ],
    ids=str,
)
def test_a_class_of_another_kind_is_not_used(content):
    with pytest.raises(codec.NotBuildable):
        codec.loads(json.dumps({"$tfx": content}))


def test_a_class_that_has_changed_is_refused_with_the_difference(module):
    old = module.define("Box", ("a", int), ("b", int))
    text = codec.dumps([old(1, 2)], "it")
    module.define("Box", ("a", int))
    with pytest.raises(codec.NotBuildable, match=r"classes:Box', which has changed .*: it has no field 'b'"):
        codec.loads(text)
    module.define("Box", ("a", int), ("b", int), ("c", int))
    with pytest.raises(codec.NotBuildable, match="it has a new field 'c' without a default"):
        codec.loads(text)
    new = module.define("Box", ("a", int), ("b", int), ("c", int, dataclasses.field(default=3)))
    assert codec.loads(text) == [new(1, 2, 3)]
    del module.Box
    with pytest.raises(codec.NotBuildable, match="'taskflowx_test_classes' has no such class"):
        codec.loads(text)
    module.define("Box", ("a", int), maker=typing.NamedTuple)
    with pytest.raises(codec.NotBuildable, match="it is not a dataclass any more"):
        codec.loads(text)


def test_an_enum_member_that_is_gone_is_refused():
    text = codec.dumps(values.Level.HIGH, "it").replace("HIGH", "TOP")
    with pytest.raises(codec.NotBuildable, match="it has no member 'TOP'"):
        codec.loads(text)


def test_no_code_of_a_class_runs_when_a_value_is_made():
    made = values.Frozen("abc", 1)
    object.__setattr__(made, "length", 5)
    assert codec.loads(codec.dumps(made, "it")).length == 5


def test_who_only_looks_gets_what_cannot_be_made_and_writes_it_as_it_was():
    text = '{"a":{"$tfx":["dataclass","not.imported:Box",{"a":{"$tfx":["tuple",1]}}]}}'
    with codec.tolerant():
        found = codec.loads(text)
    assert isinstance(found["a"], codec.Unbuilt)
    assert repr(found["a"]) == "<dataclass not.imported:Box: {'a': (1,)}>"
    assert "has not imported 'not.imported'" in found["a"].reason
    assert found["a"].kind == "dataclass not.imported:Box"
    assert codec.dumps(found, "it") == text
    with pytest.raises(codec.NotBuildable) as raised:
        codec.loads(text)
    assert not raised.value.may_pass


def test_who_only_looks_gets_the_reasons_of_what_cannot_be_made():
    text = '[{"$tfx":["enum","not.imported:Colour","RED"]},{"$tfx":["own","box",1]}]'
    with codec.tolerant() as reasons:
        assert reasons == []
        codec.loads(text)
    assert ["has not imported" in str(reasons[0]), "has not registered" in str(reasons[1])] == [True, True]
    with codec.tolerant(), pytest.raises(codec.NotBuildable, match="through a transform="):
        codec.loads('{"$tfx":["sealed","abc"]}')  # a whole document: nothing can stand for it


# -- classes of any make ---------------------------------------------------------------------------------------------

#: what classes are derived from, each with what an instance of it has in it
CONTENT = dict(
    [
        *[(object, ()), (list, ([1],)), (dict, ({"k": 1},)), (set, ({1},)), (frozenset, ({1},)), (tuple, ((1,),))],
        *[(collections.deque, ([1],)), (bytes, (b"x",)), (bytearray, (b"x",)), (str, ("x",)), (int, (7,))],
        *[(float, (7.5,)), (complex, (1j,)), (dt.date, (2024, 2, 29)), (dt.timedelta, (3,)), (decimal.Decimal, (7,))],
    ]
)
DECORATORS = {
    "dataclass": dataclasses.dataclass,
    "frozen dataclass": dataclasses.dataclass(frozen=True),
    "slotted dataclass": dataclasses.dataclass(slots=True),
    "attrs": attrs.define,
    "attrs with a dict": attrs.define(slots=False),
    "attrs with a cached hash": attrs.frozen(cache_hash=True),
    "attrs with a dict and a cached hash": attrs.frozen(slots=False, cache_hash=True),
}
T = typing.TypeVar("T")


def make_class(base, decorator, *, around, generic):
    """Return a class with a field, by a decorator, that is derived from a base and from a class with a slot."""
    body = {"__module__": __name__, "__qualname__": "Made", "__annotations__": {"a": object}}
    body["twice"] = functools.cached_property(lambda self: 2 * self.a)
    body["twice"].__set_name__(None, "twice")
    bases = (base, typing.Generic[T]) if generic else (base,)
    if around:
        bases = (types.new_class("Around", bases, exec_body=lambda names: names.update(__slots__=("more",))),)
    made = types.new_class("Made", bases, exec_body=lambda names: names.update(body))
    return DECORATORS[decorator](made)


def make_instance(cls, base, *, generic, attribute, asked):
    """Return an instance, with an attribute that is no field and a property that was asked for, if these are wanted."""
    made = base.__new__(cls, *(() if base is object else CONTENT[base]))
    if base is not object:
        base.__init__(made, *(CONTENT[base] if base.__init__ is not object.__init__ else ()))
    if generic:
        filled = cls[int](a=3)
        for name, value in vars(filled).items() if hasattr(filled, "__dict__") else ():
            object.__setattr__(made, name, value)
    cls.__init__(made, a=3)
    if attribute:
        object.__setattr__(made, "more", 4)
    if asked:
        assert made.twice == 6
    return made


def facts_of(value, base):
    kept = {**getattr(value, "__dict__", {}), "a": value.a, "more": getattr(value, "more", None)}
    kept = {name: each for name, each in kept.items() if name not in ("twice", "__orig_class__")}
    return type(value), kept, "" if base is object else base.__repr__(value)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_an_instance_of_a_class_of_any_make_comes_back_whole_or_is_refused(data):
    base, decorator = data.draw(st.sampled_from([*CONTENT, *[object] * 15])), data.draw(st.sampled_from([*DECORATORS]))
    around, generic, attribute, asked = (data.draw(st.sampled_from([False, False, True])) for _ in range(4))
    with pytest.MonkeyPatch.context() as patch:
        try:
            cls = make_class(base, decorator, around=around, generic=generic)
            patch.setattr(sys.modules[__name__], "Made", cls, raising=False)
            value = make_instance(cls, base, generic=generic, attribute=attribute, asked=asked)
        except (TypeError, AttributeError, ValueError):
            reject()  # there can be no such class, or no such instance
        try:
            text = codec.dumps([value], "it")
        except exceptions.Unstorable:
            if base is object and not attribute:
                raise
            return
        (found,) = codec.loads(text)
        assert facts_of(found, base) == facts_of(value, base)
        if cls.__hash__ not in (None, object.__hash__):
            assert codec.loads(codec.dumps({value: 1}, "it")) == {value: 1}
            assert hash(found) == hash(value)


# -- what is refused -------------------------------------------------------------------------------------------------


class Texts(list):
    pass


@dataclasses.dataclass
class Cached:
    a: int

    @functools.cached_property
    def twice(self):
        return 2 * self.a


@dataclasses.dataclass
class Broken(Exception):
    a: int


class More(values.Box):
    __slots__ = ("more",)


@dataclasses.dataclass
class Names(set):
    a: int = 0


class SlottedModel(pydantic.BaseModel):
    __slots__ = ("more",)

    a: int = 0


@dataclasses.dataclass(init=False)
class Fixed:
    a: int

    @property
    def a(self):
        return 1


def with_slot(made):
    object.__setattr__(made, "more", 5)
    return made


def without_field(made):
    del made.__dict__["when"]
    return made


class Alike(str):
    """Is equal to nothing else, whatever its text is."""

    __slots__ = ()
    __eq__ = object.__eq__
    __hash__ = object.__hash__


Joined = enum.Enum("Joined", {"\ud83d\ude00": 1}, module=__name__)


class Zone(dt.tzinfo):
    def utcoffset(self, at):
        return dt.timedelta(0)


def local():
    class Here(enum.Enum):
        ONE = 1

    return Here.ONE


def with_attribute():
    box = values.Box(1)
    box.more = 2
    return box


@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ({"a": [1, values.Box(threading.Lock())]}, "the value at ['a'][1].content is of type _thread.lock"),
        ([(1, {"k": values.Point(1, object())})], "the value at [0][1]['k'].y is of type object"),
        ({1: [object()]}, "the value at [1][0] is of type object"),
        (collections.deque([1, object()]), "the value at [1] is of type object"),
        (values.Model(a=1, more=object()), "the value['more'] is of type object"),
        ([local()], f"the value at [0] is of the class {__name__}.local.<locals>.Here, which is not at the top level"),
        (
            with_attribute(),
            "the value is of type tests.support.values.Box, and has an attribute 'more' that is no field",
        ),
        (
            [with_slot(More(1))],
            f"the value at [0] is of type {__name__}.More, and has an attribute 'more' that is no field",
        ),
        (
            with_slot(SlottedModel()),
            f"the value is of type {__name__}.SlottedModel, and has an attribute 'more' that is no",
        ),
        (
            with_slot(values.Strict(a=1)),
            "the value is of type tests.support.values.Strict, and has an attribute 'more' that",
        ),
        (values.Strict.model_construct(), "the value has no value for its field 'a'"),
        (without_field(values.Model(a=1)), "the value has no value for its field 'when'"),
        (Fixed(), "the value has a property without a setter for its field 'a'"),
        ([Names()], f"the value at [0] is of type {__name__}.Names, a dataclass that is derived from set: what"),
        ([Broken(1)], f"the value at [0] is of type {__name__}.Broken"),
        (dt.datetime(2024, 1, 1, tzinfo=Zone()), f"the value at .tzinfo is of type {__name__}.Zone"),
        (values.np.array([None]), "the value is of NumPy's dtype dtype('O'), which is not storable"),
        (
            [values.np.zeros(200_000)],
            "the value at [0] is an array of 1,600,000 bytes, and one of 1,000,000 at most",
        ),
        ({"a": {Alike("b"): 1, "b": 2}}, "the value at ['a'] has two keys with the same text"),
        ([Joined(1)], "the value has two surrogates in a text, which JSON reads as one character"),
        (print, "the value is of type builtin_function_or_method"),
    ],
    ids=lambda each: each if isinstance(each, str) else "",
)
def test_what_is_refused_is_named_by_path_and_type(value, problem):
    with pytest.raises(exceptions.Unstorable) as caught:
        codec.dumps(value, "result of task 'x'")
    first, second, *_ = str(caught.value).splitlines()
    assert first.replace(" at ['more']", "['more']").startswith(f"Cannot store result of task 'x': {problem}")
    assert "codec.register(type, encode, decode)" in second


def test_what_a_cached_property_has_made_is_left_out():
    made = Cached(2)
    assert made.twice == 4
    assert vars(back(made)) == {"a": 2}


def test_a_subclass_of_list_comes_back_as_a_list():
    assert values.same(back(Texts([(1,)])), [(1,)])


def test_tuples_count_as_two_levels():
    value = functools.reduce(lambda inner, _: (inner,), range(codec.DEEPEST // 2), 1)
    assert back(value) == value
    with pytest.raises(exceptions.Unstorable, match="is nested too deeply, more than 200 levels"):
        codec.dumps((value,), "it")


def test_a_tagged_value_that_contains_itself_is_refused():
    box = values.Box(None)
    box.content = {1: (box,)}
    with pytest.raises(exceptions.Unstorable, match=r"the value at \.content\[1\]\[0\] contains itself"):
        codec.dumps(box, "it")


# -- registered types ------------------------------------------------------------------------------------------------


class Money:
    def __init__(self, amount, currency):
        self.amount, self.currency = amount, currency

    def __eq__(self, other):
        return isinstance(other, Money) and vars(self) == vars(other)

    __hash__ = None


@pytest.fixture
def money():
    codec.register(Money, lambda money: (money.amount, money.currency), lambda pair: Money(*pair))
    yield
    codec.unregister(Money)


@pytest.mark.usefixtures("money")
def test_a_registered_type_comes_back():
    value = {"a": [Money(1, values.Colour.RED), {2: Money(2.5, None)}]}
    assert back(value) == value
    assert back(Money(1, "x")) == Money(1, "x")


@pytest.mark.usefixtures("money")
def test_only_the_exact_type_is_registered():
    class More(Money):
        pass

    with pytest.raises(exceptions.Unstorable, match=r"More"):
        codec.dumps(More(1, 2), "it")


@pytest.mark.usefixtures("money")
@pytest.mark.parametrize(
    ("given", "error", "match"),
    [
        ((Money, str, str), ValueError, "Money is registered already"),
        (("Money", str, str), TypeError, "type must be a type, and not 'Money'; pass the class itself"),
        ((Texts, "encode", str), TypeError, "encode of .*Texts must be a function, and not 'encode'"),
        ((Texts, str, None), TypeError, "decode of .*Texts must be a function"),
        ((list, str, str), ValueError, "list need not be registered"),
        ((dt.date, str, str), ValueError, "datetime.date need not be registered"),
        ((values.uuid.UUID, str, str), ValueError, "uuid.UUID need not be registered"),
    ],
    ids=str,
)
def test_what_cannot_be_registered(given, error, match):
    with pytest.raises(error, match=match):
        codec.register(*given)


@pytest.mark.usefixtures("money")
def test_a_name_is_registered_once():
    with pytest.raises(ValueError, match=r"Money is registered as '.*:Money' already; pass another name="):
        codec.register(Texts, list, Texts, name=f"{__name__}:Money")
    with pytest.raises(TypeError, match=r"name of .*Texts must be a str"):
        codec.register(Texts, list, Texts, name=3)


def test_a_type_with_a_name_of_its_own_outlives_a_move():
    codec.register(Texts, list, Texts, name="texts")
    try:
        text = codec.dumps(Texts("ab"), "it")
        assert type(codec.loads(text)) is Texts
    finally:
        codec.unregister(Texts)
    with pytest.raises(codec.NotBuildable, match="registered type 'texts', and this program has not registered it"):
        codec.loads(text)
    with pytest.raises(ValueError, match="not registered"):
        codec.unregister(Texts)


def test_registered_functions_that_raise_are_named():
    codec.register(Money, lambda money: 1 / money.amount, lambda _: 1 / 0)
    try:
        with pytest.raises(
            exceptions.Unstorable, match=r"at \['m'\] is of type .*Money, whose encode has raised ZeroDiv"
        ):
            codec.dumps({"m": Money(0, "x")}, "it")
        text = codec.dumps({"m": Money(1, "x")}, "it")
        with pytest.raises(codec.NotBuildable, match="Money', whose decode has raised ZeroDivisionError"):
            codec.loads(text)
    finally:
        codec.unregister(Money)


def test_an_encode_that_returns_the_value_is_refused():
    codec.register(Money, lambda money: money, lambda money: money)
    try:
        with pytest.raises(exceptions.Unstorable, match="whose encode returns the value itself"):
            codec.dumps(Money(1, 2), "it")
    finally:
        codec.unregister(Money)


# -- records ---------------------------------------------------------------------------------------------------------


def test_a_result_that_is_a_tuple_is_a_list_that_taskflow_can_read():
    made = models.TaskDetail("t", "u")
    made.put("SUCCESS", (1, (2,)))
    record = json.loads(codec.dump_atom(made))
    assert record["atom"]["results"] == [1, {"$tfx": ["tuple", 2]}]
    found = codec.load_atom(codec.loads(codec.dump_atom(made)))
    assert (found.results, found.meta, made.meta) == ((1, (2,)), {}, {})


def test_arguments_of_an_exception_stay_plain_lists():
    made = models.TaskDetail("t", "u", version=(1, 2))
    error = ValueError("v", {"$tfx": ["set", 1]})
    error.__cause__ = KeyError("k")
    made.put("FAILURE", exceptions_failure(error))
    record = json.loads(codec.dump_atom(made))["atom"]
    assert record["version"] == [1, 2]
    assert [each["exc_args"] for each in record["failure"]["causes"]] == [["k"]]
    found = codec.load_atom(codec.loads(codec.dump_atom(made)))
    assert (found.failure.exception_args, found.version) == (("v", {"$tfx": ["set", 1]}), (1, 2))


def exceptions_failure(error):
    from taskflowx.types.failure import Failure

    return Failure.from_exception(error)


def test_the_tag_is_in_the_module_of_tags():
    assert tags.TAG == "$tfx"
