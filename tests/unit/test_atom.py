"""Atoms: what they need and provide is read off their methods and their declaration."""

from __future__ import annotations

import copy
import functools
import inspect
import itertools
import pickle
from unittest import mock

import pytest

from taskflowx import atom, signature as signatures
from taskflowx.types.sets import OrderedSet
from tests.support.counting import calls_of


class Plain(atom.Atom):
    def execute(self, a, b, c=1):
        return a, b, c


class Open(atom.Atom):
    def execute(self, a, **kwargs):
        return a


class Undone(atom.Atom):
    """Its revert takes an argument of execute, one of its own, an optional one, and more."""

    def execute(self, a, b):
        return a, b

    def revert(self, a, c, d=1, *, result, **kwargs):
        pass


class StrictlyUndone(atom.Atom):
    def execute(self, a, b):
        return a, b

    def revert(self, a, c, d=1):
        pass


class LooselyUndone(atom.Atom):
    def execute(self, a, b, c=1):
        return a, b, c

    def revert(self, *args, **kwargs):
        pass


def names_of(made):
    return list(made.requires), list(made.optional), made.rebind


# -- what is inferred ------------------------------------------------------------------------------------------------


def test_arguments_without_default_are_required_and_those_with_one_optional():
    assert names_of(Plain("p")) == (["a", "b"], ["c"], {"a": "a", "b": "b", "c": "c"})


def test_requires_and_the_like_are_ordered_sets():
    made = Plain("p", provides="x")
    assert all(isinstance(s, OrderedSet) for s in (made.requires, made.optional, made.provides, made.revert_optional))


def test_self_and_star_arguments_are_not_inferred():
    class Stars(atom.Atom):
        def execute(self, *args, **kwargs):
            pass

    assert names_of(Stars()) == ([], [], {})


def test_keyword_only_arguments_are_inferred():
    class KeywordOnly(atom.Atom):
        def execute(self, *, a, b=2):
            pass

    assert names_of(KeywordOnly()) == (["a"], ["b"], {"a": "a", "b": "b"})


def test_static_and_class_methods_are_inferred():
    class Static(atom.Atom):
        @staticmethod
        def execute(a, b=1):
            pass

    class OfClass(atom.Atom):
        @classmethod
        def execute(cls, a, b=1):
            pass

    assert names_of(Static()) == names_of(OfClass()) == (["a"], ["b"], {"a": "a", "b": "b"})


def test_a_decorated_method_is_inferred_from_what_it_wraps():
    def decorated(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    class Wrapped(atom.Atom):
        @decorated
        def execute(self, a, b=1):
            pass

    assert names_of(Wrapped()) == (["a"], ["b"], {"a": "a", "b": "b"})


def test_ignored_names_are_not_inferred():
    assert names_of(Plain("p", ignore_list=["c"])) == (["a", "b"], [], {"a": "a", "b": "b"})
    assert names_of(Plain("p", ignore_list=["a"]))[0] == ["b"]


def test_without_auto_extract_only_what_is_required_explicitly_counts():
    assert names_of(Plain("p", auto_extract=False, requires=["a", "b"])) == (["a", "b"], [], {"a": "a", "b": "b"})


def test_without_auto_extract_a_missing_argument_is_an_error_that_names_the_atom():
    with pytest.raises(ValueError, match=r"^Missing arguments for atom p: \['a', 'b'\]\n"):
        Plain("p", auto_extract=False)


# -- requires --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("requires", ["c", ["c"], ("c",), {"c"}, frozenset("c"), OrderedSet("c")])
def test_an_optional_argument_can_be_required(requires):
    assert names_of(Plain("p", requires=requires)) == (["a", "b", "c"], [], {"a": "a", "b": "b", "c": "c"})


def test_further_names_can_be_required_for_open_keywords():
    assert names_of(Open("o", requires=["m", "n", "m"])) == (["a", "m", "n"], [], {"a": "a", "m": "m", "n": "n"})


@pytest.mark.parametrize("requires", [None, "", [], (), {}])
def test_requiring_nothing_changes_nothing(requires):
    assert names_of(Plain("p", requires=requires)) == names_of(Plain("p"))


def test_requiring_what_execute_does_not_take_is_an_error_that_names_the_atom():
    with pytest.raises(ValueError, match=r"^Extra arguments given to atom p: \['abc'\]\n"):
        Plain("p", requires="abc")


def test_required_names_must_be_text():
    with pytest.raises(TypeError, match="requires should be a name"):
        Open("o", requires=[1])


def test_required_names_of_a_set_are_in_the_same_order_in_each_process():
    assert list(Open("o", requires={"d", "b", "c"}).requires) == ["a", "b", "c", "d"]


# -- rebind ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rebind", "expected"),
    [
        (None, {"a": "a", "b": "b", "c": "c"}),
        ({}, {"a": "a", "b": "b", "c": "c"}),
        ([], {"a": "a", "b": "b", "c": "c"}),
        ({"a": "x"}, {"a": "x", "b": "b", "c": "c"}),
        ({"a": "b", "b": "a"}, {"a": "b", "b": "a", "c": "c"}),
        (["x"], {"a": "x", "b": "b", "c": "c"}),
        (["x", "y"], {"a": "x", "b": "y", "c": "c"}),
        (("x", "y"), {"a": "x", "b": "y", "c": "c"}),
        (["x", "x"], {"a": "x", "b": "x", "c": "c"}),
        ({"c": "z"}, {"a": "a", "b": "b", "c": "z"}),
    ],
)
def test_arguments_are_rebound_by_name_or_by_place(rebind, expected):
    made = Plain("p", rebind=rebind)
    assert made.rebind == expected
    assert made.requires | made.optional == set(expected.values())


def test_an_optional_argument_that_is_rebound_is_required():
    assert list(Plain("p", rebind={"c": "z"}).requires) == ["a", "b", "z"]
    assert not Plain("p", rebind={"c": "z"}).optional


def test_two_arguments_can_be_fed_by_one_name():
    assert list(Plain("p", rebind=["x", "x"]).requires) == ["x"]
    assert atom.wanted_names(Plain("p", rebind=["x", "x"])) == ("x", "x")


def test_names_after_the_last_place_go_to_open_keywords():
    assert Open("o", rebind=["x", "y", "z"]).rebind == {"a": "x", "y": "y", "z": "z"}


def test_places_are_those_of_the_signature_whatever_else_is_required():
    made = Open("o", requires=["m"], rebind=["x", "y"])
    assert made.rebind == {"a": "x", "m": "m", "y": "y"}
    assert Plain("p", auto_extract=False, rebind=["x", "y"]).rebind == {"a": "x", "b": "y"}
    assert Plain("p", requires=["b", "a"], rebind=["x", "y"]).rebind == {"a": "x", "b": "y", "c": "c"}


@pytest.mark.parametrize("rebind", [["x", "y", "z"], ("x", "y", "z")])
def test_more_names_than_places_are_an_error_without_open_keywords(rebind):
    with pytest.raises(ValueError, match=r"^Extra arguments given to atom p: \['z'\]\n"):
        Plain("p", rebind=rebind)


def test_rebinding_what_execute_does_not_take_is_an_error():
    with pytest.raises(ValueError, match=r"^Extra arguments given to atom p: \['q'\]\n"):
        Plain("p", rebind={"q": "x"})
    assert Open("o", rebind={"q": "x"}).rebind == {"a": "a", "q": "x"}


def test_rebind_must_be_a_dict_list_or_tuple():
    with pytest.raises(TypeError, match=r"^Invalid rebind value 'x' \(<class 'str'>\)\nrebind= is a dict "):
        Plain("p", rebind="x")
    with pytest.raises(TypeError, match=r"^Invalid rebind value '{'x'}' \(<class 'set'>\)\nrebind= is a dict "):
        Plain("p", rebind={"x"})


def test_a_class_can_say_how_its_arguments_are_rebound():
    class ByAttribute(Plain):
        rebind = {"a": "x"}

    class ByProperty(Plain):
        @property
        def rebind(self):
            return {"a": self.name}

    assert list(ByAttribute("p").requires) == ["x", "b"]
    assert list(ByProperty("n").requires) == ["n", "b"]
    assert list(ByAttribute("p", rebind={"a": "own"}).requires) == ["own", "b"]


# -- provides --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("provides", "expected"),
    [
        (None, []),
        ((), []),
        ([], []),
        ("x", [("x", None)]),
        (("x",), [("x", 0)]),
        (["x", "y"], [("x", 0), ("y", 1)]),
        (["x", "y", "x"], [("x", 2), ("y", 1)]),
        ({"z", "x", "y"}, [("x", "x"), ("y", "y"), ("z", "z")]),
        (frozenset("x"), [("x", "x")]),
        (OrderedSet(["y", "x"]), [("y", "y"), ("x", "x")]),
        ({"x": 1}.keys(), [("x", "x")]),
        ({"x": "key", "y": 7}, [("x", "key"), ("y", 7)]),
    ],
)
def test_names_stand_for_the_whole_result_its_items_or_its_keys(provides, expected):
    made = Plain("p", provides=provides)
    assert list(made.save_as.items()) == expected
    assert list(made.provides) == [name for name, _ in expected]


@pytest.mark.parametrize("provides", [3, b"x", iter("ab"), object()])
def test_provides_of_another_type_is_refused(provides):
    with pytest.raises(TypeError, match=r"^Atom provides parameter should be str, set or tuple/list, not "):
        Plain("p", provides=provides)


def test_provided_names_must_be_text():
    with pytest.raises(TypeError, match="should hold names"):
        Plain("p", provides=["x", 3])


def test_a_class_has_default_provides():
    class Whole(Plain):
        default_provides = "d"

    class Computed(Plain):
        @property
        def default_provides(self):
            return (self.name, "q")

    assert Whole("p").save_as == {"d": None}
    assert Whole("p", provides="own").save_as == {"own": None}
    assert Computed("n").save_as == {"n": 0, "q": 1}


@pytest.mark.parametrize("nothing", [(), []])
def test_providing_nothing_hides_the_default(nothing):
    class Whole(Plain):
        default_provides = "d"

    assert Whole("p", provides=nothing).save_as == {}


# -- inject ----------------------------------------------------------------------------------------------------------


def test_what_is_injected_is_not_required():
    made = Plain("p", inject={"a": 1, "c": 2})
    assert names_of(made) == (["b"], [], {"a": "a", "b": "b", "c": "c"})
    assert made.inject == {"a": 1, "c": 2}
    assert Plain("p").inject is None


def test_injected_values_are_looked_up_by_the_stored_name():
    assert list(Plain("p", rebind={"a": "x"}, inject={"x": 1}).requires) == ["b"]
    assert list(Plain("p", rebind={"a": "x"}, inject={"a": 1}).requires) == ["x", "b"]


def test_what_is_injected_is_not_required_for_revert():
    assert list(StrictlyUndone("s", inject={"c": 1, "a": 2}).requires) == ["b"]


def test_what_is_injected_later_is_not_required_any_more():
    made = Plain("p")
    made.inject = {"a": 1}
    assert list(made.requires) == ["b"]
    assert atom.wanted_names(made) == ("b",)


# -- revert ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "declared", "requires", "wiring"),
    [
        (Undone, {}, ["a", "b", "c"], {"a": "a", "c": "c", "d": "d"}),
        (Undone, {"rebind": {"a": "aa"}}, ["aa", "b", "c"], {"a": "aa", "c": "c", "d": "d"}),
        (Undone, {"rebind": {"b": "bb"}}, ["a", "bb", "c"], {"a": "a", "c": "c", "d": "d", "b": "bb"}),
        (Undone, {"revert_rebind": {"c": "cc"}}, ["a", "b", "cc"], {"a": "a", "c": "cc", "d": "d"}),
        (Undone, {"revert_rebind": ["p", "q"]}, ["a", "b", "p", "q"], {"a": "p", "c": "q", "d": "d"}),
        (Undone, {"revert_rebind": {"d": "dd"}}, ["a", "b", "c", "dd"], {"a": "a", "c": "c", "d": "dd"}),
        (Undone, {"revert_requires": ["z"]}, ["a", "b", "c", "z"], {"a": "a", "c": "c", "z": "z", "d": "d"}),
        (Undone, {"revert_requires": "d"}, ["a", "b", "c", "d"], {"a": "a", "c": "c", "d": "d"}),
        (StrictlyUndone, {}, ["a", "b", "c"], {"a": "a", "c": "c", "d": "d"}),
        (StrictlyUndone, {"rebind": ["x", "y"]}, ["x", "y"], {"a": "x", "c": "y", "d": "d"}),
        (Undone, {"rebind": ("x", "y")}, ["x", "y"], {"a": "x", "c": "y", "d": "d"}),
        (LooselyUndone, {}, ["a", "b"], {}),
        (LooselyUndone, {"requires": ["a"]}, ["a", "b"], {"a": "a"}),
        (LooselyUndone, {"rebind": {"a": "x"}}, ["x", "b"], {"a": "x"}),
        (LooselyUndone, {"requires": ["a"], "rebind": {"a": "x"}}, ["x", "b"], {"a": "x"}),
        (LooselyUndone, {"rebind": ["x", "y"]}, ["x", "y"], {"x": "x", "y": "y"}),
        (LooselyUndone, {"revert_requires": ["z"]}, ["a", "b", "z"], {"z": "z"}),
        (LooselyUndone, {"revert_rebind": {"z": "zz"}}, ["a", "b", "zz"], {"z": "zz"}),
        (Plain, {}, ["a", "b"], {}),
        (Plain, {"revert_requires": ["z"]}, ["a", "b", "z"], {"z": "z"}),
    ],
)
def test_arguments_of_revert_are_looked_up_like_those_of_execute(cls, declared, requires, wiring):
    made = cls("u", **declared)
    assert list(made.requires) == requires
    assert made.revert_rebind == wiring


def test_without_auto_extract_revert_is_given_what_is_declared_alone():
    class Shared(atom.Atom):
        def execute(self, a, b):
            pass

        def revert(self, a, d=1, *, result):
            pass

    assert Shared("s", auto_extract=False, requires=["a", "b"]).revert_rebind == {"a": "a"}
    assert Shared("s", auto_extract=False, rebind={"a": "x", "b": "y"}).revert_rebind == {"a": "x"}
    own = Shared("s", auto_extract=False, requires=["a", "b"], revert_requires=["a", "d"])
    assert own.revert_rebind == {"a": "a", "d": "d"}


def test_the_rebinding_of_execute_is_not_inherited_by_a_revert_that_has_its_own():
    made = Undone("u", rebind={"a": "aa"}, revert_rebind={"c": "cc"})
    assert list(made.requires) == ["aa", "b", "a", "cc"]
    assert made.revert_rebind == {"a": "a", "c": "cc", "d": "d"}
    assert Undone("u", rebind={"a": "aa"}, revert_rebind={}).revert_rebind["a"] == "aa"


def test_required_names_of_execute_are_not_inherited_by_a_revert_that_has_its_own():
    assert LooselyUndone("l", requires=["a"], revert_requires=["b"]).revert_rebind == {"b": "b"}
    assert LooselyUndone("l", requires=["a"], revert_requires=[]).revert_rebind == {"a": "a"}


def test_what_the_engine_fills_is_never_required():
    class Filled(atom.Atom):
        def execute(self):
            pass

        def revert(self, result, flow_failures):
            pass

    assert not Filled().requires
    assert Filled().revert_rebind == {}


@pytest.mark.parametrize(
    ("cls", "takes_result", "takes_failures"),
    [(Undone, True, True), (StrictlyUndone, False, False), (LooselyUndone, True, True)],
)
def test_result_and_failures_are_passed_only_where_revert_takes_them(cls, takes_result, takes_failures):
    signature = cls("u")._tfx_signature
    assert (signature.takes_result, signature.takes_failures) == (takes_result, takes_failures)


def test_a_long_rebind_list_does_not_break_a_short_revert():
    class Short(atom.Atom):
        def execute(self, a, b):
            pass

        def revert(self, result, flow_failures, a):
            pass

    assert Short(rebind=["aa", "bb"]).revert_rebind == {"a": "aa"}


@pytest.mark.parametrize("declared", [{"revert_requires": ["q"]}, {"revert_rebind": {"q": "x"}}])
def test_what_revert_does_not_take_is_an_error_that_names_atom_and_method(declared):
    with pytest.raises(ValueError, match=r"^Extra arguments given to atom s \(its revert method\): \['q'\]\n"):
        StrictlyUndone("s", **declared)


def test_optional_arguments_of_revert():
    assert list(Undone("u").revert_optional) == ["d"]
    assert list(StrictlyUndone("s", revert_requires="d").revert_optional) == []


# -- name, version, text ---------------------------------------------------------------------------------------------


def test_text_names_the_atom_and_its_version():
    made = Plain("my name; x:y, z")
    assert str(made) == '"my name; x:y, z==1.0"'
    assert repr(made) == f'<{__name__}.Plain "my name; x:y, z==1.0">'


def test_the_name_can_be_set_before_and_after_the_constructor():
    class Early(Plain):
        def __init__(self):
            self.name = "early"
            super().__init__()

    early = Early()
    assert early.name == "early"
    early.name = "late"
    assert str(early) == '"late==1.0"'


@pytest.mark.parametrize(
    ("version", "text"),
    [((1, 0), "1.0"), ((4,), "4"), ([1, 2, 3], "1.2.3"), ((1, "a"), "1.a"), ("2.5", "2.5"), (3, "3")],
)
def test_a_version_is_shown_with_dots(version, text):
    class Versioned(Plain):
        pass

    Versioned.version = version
    assert str(Versioned("v")) == f'"v=={text}"'
    assert Versioned("v").version == version


def test_atoms_have_no_priority_by_default():
    assert Plain("p").priority == 0


def test_an_atom_without_execute_cannot_be_made():
    class Idle(atom.Atom):
        def revert(self):
            pass

    with pytest.raises(TypeError, match=r"Can't instantiate .*Idle without an implementation of its 'execute' method"):
        Idle("i")
    with pytest.raises(TypeError, match="'execute'"):
        atom.Atom("a")


def test_hooks_do_nothing_and_return_nothing():
    made = Plain("p")
    hooks = (made.pre_execute, made.post_execute, made.pre_revert, made.post_revert)
    assert [hook() for hook in hooks] == [None] * 4
    assert made.revert(1, x=2) is None


# -- what is shared, what is copied ----------------------------------------------------------------------------------


def test_atoms_that_declare_nothing_share_one_signature():
    assert Plain("p")._tfx_signature is Plain("q")._tfx_signature


def test_atoms_that_only_provide_something_share_the_wiring():
    p, q = Plain("p", provides="x"), Plain("q", provides="y")
    assert p._tfx_signature.execute is q._tfx_signature.execute
    assert (list(p.provides), list(q.provides)) == (["x"], ["y"])


def test_a_subclass_has_a_signature_of_its_own():
    class Other(Plain):
        def execute(self, z):
            pass

    assert list(Plain("p").requires) == ["a", "b"]
    assert list(Other("o").requires) == ["z"]


def test_a_method_replaced_on_the_class_is_inspected_anew():
    class Patched(Plain):
        pass

    assert list(Patched("p").requires) == ["a", "b"]
    with mock.patch.object(Patched, "execute", lambda self, z: z):
        assert list(Patched("p").requires) == ["z"]
        assert list(Patched("p", rebind=["y"]).requires) == ["y"]
    with mock.patch.object(Patched, "execute"):
        assert not Patched("p").requires
    assert list(Patched("p").requires) == ["a", "b"]
    with mock.patch.object(Patched, "revert", lambda self, r: r):
        assert list(Patched("p").requires) == ["a", "b", "r"]


@pytest.mark.parametrize("declared", [{}, {"rebind": ["x"]}])
def test_a_method_of_one_object_says_nothing_about_its_class(declared):
    class Sometimes(atom.Atom):
        def __init__(self, function=None):
            if function is not None:
                self.execute = function
            super().__init__("s", **declared)

        def execute(self, a):
            pass

    name = declared.get("rebind", [None])[0]
    assert Sometimes(lambda z: z).rebind == {"z": name or "z"}
    assert Sometimes().rebind == {"a": name or "a"}


@pytest.mark.parametrize("declared", [{}, {"provides": "x", "rebind": ["p", "q"], "inject": {"c": [1]}}])
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda a: pickle.loads(pickle.dumps(a))])
def test_a_copy_has_the_same_name_and_wiring(copied, declared):
    one = Plain("p", **declared)
    two = copied(one)
    assert two is not one
    assert (two.name, names_of(two), two.save_as, two.inject) == (one.name, names_of(one), one.save_as, one.inject)


def test_an_atom_that_declares_nothing_costs_no_inspection():
    Plain("p")
    assert calls_of(lambda: Plain("q")) <= 5  # two of them are those of the count
    assert calls_of(lambda: Plain("q", provides="x")) <= 10


def test_a_declaration_costs_no_inspection_of_the_methods_again():
    Undone("u", rebind=["x", "y"])
    with mock.patch.object(atom, "inspect_parameters", side_effect=AssertionError):
        made = Undone("v", rebind=["p", "q"], provides="x", requires=["a"], inject={"a": 1})
    assert made.provides == {"x"}


# -- inspect_parameters ----------------------------------------------------------------------------------------------


class Methods:
    def plain(self, a, b=1, *args, c, d=2, **kwargs): ...
    def positional_only(self, a, /, b): ...
    def all_positional_only(self, a, b=1, /): ...
    def with_defaults_only(self, a=1, b=2): ...
    def only_stars(*args, **kwargs): ...
    def self_with_default(self=None, a=1): ...

    @staticmethod
    def static(a, b=1): ...

    @classmethod
    def of_class(cls, a, b=1): ...

    def __call__(self, a, b=1): ...


def expected_parameters(function):
    signature = inspect.signature(function).parameters.values()
    named = [p for p in signature if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    return signatures.Parameters(
        tuple(p.name for p in named if p.default is p.empty),
        tuple(p.name for p in named if p.default is not p.empty),
        any(p.kind is p.VAR_KEYWORD for p in signature),
        tuple(p.name for p in signature if p.kind is p.POSITIONAL_ONLY and p.default is p.empty),
    )


@pytest.mark.parametrize("name", [n for n in vars(Methods) if not n.startswith("__")])
@pytest.mark.parametrize("owner", [Methods, Methods()])
def test_parameters_are_those_that_the_standard_library_sees(owner, name):
    function = getattr(owner, name)
    assert signatures.inspect_parameters(function) == expected_parameters(function)


@pytest.mark.parametrize(
    "function",
    [
        lambda: 1,
        lambda a, b=1, *, c=2: a,
        functools.partial(Methods.static, 1),
        functools.partial(Methods.static, b=3),
        functools.partial(Methods().plain, c=3),
        Methods,
        Methods(),
        print,
        mock.create_autospec(Methods.static),
    ],
)
def test_parameters_of_any_callable_are_those_that_the_standard_library_sees(function):
    assert signatures.inspect_parameters(function) == expected_parameters(function)


@pytest.mark.parametrize("function", [max, mock.Mock(), mock.MagicMock()])
def test_what_cannot_be_inspected_accepts_anything(function):
    assert signatures.inspect_parameters(function) == ((), (), True, ())
    assert signatures.inspect_parameters(function).accepts("anything")


def test_functions_that_share_their_code_can_have_other_defaults():
    def made(default):
        def function(a, b=default, *, c=default): ...

        return function

    with_defaults, without = made(1), made(2)
    without.__defaults__ = None
    without.__kwdefaults__ = None
    assert signatures.inspect_parameters(with_defaults) == (("a",), ("b", "c"), False, ())
    assert signatures.inspect_parameters(without) == (("a", "b", "c"), (), False, ())


def test_full_name_is_dotted_for_classes_functions_and_objects():
    class Local:
        pass

    here = f"{__name__}.test_full_name_is_dotted_for_classes_functions_and_objects.<locals>.Local"
    assert atom.full_name(Local) == here
    assert atom.full_name(Local()) == here
    assert atom.full_name(Methods().plain) == f"{__name__}.Methods.plain"
    assert atom.full_name(len) == "builtins.len"
    assert atom.full_name(functools.partial(len)) == "functools.partial"


EXECUTES = ["", ", a", ", a, b=1", ", **k", ", a, **k", ", a, b=1, **k", ", a=1, **k", ", *, c, **k"]
REVERTS = [None, "", ", result", ", result, **k", ", **k", ", a, **k", ", b=2, **k", ", result, flow_failures, q, **k"]
REQUIRES = [[], ["x"], ["a"], ["x", "y", "x"], ("z", "a"), "x", {"m", "n"}, ["b", "w"], ["q"], ["result"], [3], 5]


@pytest.mark.parametrize("revert", REVERTS)
@pytest.mark.parametrize("execute", EXECUTES)
def test_names_that_are_required_in_addition_have_one_meaning_on_the_short_and_the_long_way(
    execute, revert, monkeypatch
):
    made = {}
    source = f"class Made(atom.Atom):\n    def execute(self{execute}): pass\n"
    if revert is not None:
        source += f"    def revert(self{revert}): pass\n"
    exec(source, {"atom": atom}, made)  # noqa: S102 - it is written above

    def declared(requires, provides):
        try:
            return made["Made"]("n", provides=provides, requires=requires)._tfx_signature
        except (TypeError, ValueError) as error:
            return type(error), str(error)

    cases = list(itertools.product(REQUIRES, (None, "p", ("p", "q"))))
    short = [declared(*case) for case in cases]
    monkeypatch.setattr(atom.Atom, "_tfx_requiring", lambda *_: None)
    assert [declared(*case) for case in cases] == short
