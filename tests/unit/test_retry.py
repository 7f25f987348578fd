"""Retry controllers: their history, and what they decide on it."""

from __future__ import annotations

import pytest

from taskflowx import exceptions, retry
from taskflowx.types.failure import Failure

VALUE = Failure.from_exception(ValueError("v"))
KEY = Failure.from_exception(KeyError("k"))


def attempts(*values):
    """A history of these results, each of which was followed by a failure."""
    return retry.History([(value, {"t": VALUE}) for value in values])


class Custom(retry.Retry):
    def execute(self, history, a, b=1):
        return a

    def revert(self, history, flow_failures, c, **kwargs):
        pass

    def on_failure(self, history, further):
        return retry.RETRY


# -- decisions and constants -----------------------------------------------------------------------------------------


def test_decisions_are_texts():
    assert [str(decision) for decision in retry.Decision] == ["REVERT", "REVERT_ALL", "RETRY"]
    assert retry.RETRY is retry.Decision.RETRY
    assert retry.REVERT == "REVERT"
    assert retry.Decision("REVERT_ALL") is retry.REVERT_ALL


def test_names_that_callers_use():
    assert (retry.EXECUTE_REVERT_HISTORY, retry.REVERT_FLOW_FAILURES) == ("history", "flow_failures")


# -- History ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def history():
    return retry.History([(1, {"a": VALUE}), (2, {"b": KEY, "c": VALUE}), (3, {})])


def test_history_lists_the_attempts_oldest_first(history):
    assert len(history) == 3
    assert list(history) == [(1, {"a": VALUE}), (2, {"b": KEY, "c": VALUE}), (3, {})]
    assert list(history.provided_iter()) == [1, 2, 3]


def test_history_is_indexed_like_a_list(history):
    assert history[-1] == (3, {})
    assert history[0][1]["a"] is VALUE
    assert [value for value, _ in history[1:]] == [2, 3]
    with pytest.raises(IndexError):
        history[3]


def test_history_lists_the_failures_of_all_attempts_or_of_one(history):
    assert list(history.outcomes_iter()) == [("a", VALUE), ("b", KEY), ("c", VALUE)]
    assert list(history.outcomes_iter(1)) == [("b", KEY), ("c", VALUE)]
    assert list(history.outcomes_iter(-1)) == []
    with pytest.raises(IndexError):
        list(history.outcomes_iter(9))


@pytest.mark.parametrize(
    ("asked", "caused"),
    [
        ((ValueError,), True),
        ((KeyError,), True),
        ((LookupError,), True),
        ((OSError,), False),
        ((KeyError, 0), False),
        ((KeyError, 1), True),
        ((ValueError, -1), False),
        (("builtins.KeyError",), False),
        (("KeyError",), True),
    ],
)
def test_history_tells_whether_a_type_of_failure_is_in_it(history, asked, caused):
    assert history.caused_by(*asked) is caused


def test_history_holds_the_failure_of_the_retry_itself_apart():
    own = retry.History([], KEY)
    assert own.failure is KEY
    assert not own.caused_by(KeyError)
    assert own.caused_by(KeyError, include_retry=True)
    assert not own.caused_by(OSError, include_retry=True)
    assert not list(own.outcomes_iter())
    assert retry.History([]).failure is None


def test_an_empty_history_is_false_and_its_attempts_cannot_be_asked_for():
    assert not retry.History([])
    with pytest.raises(IndexError):
        retry.History([]).caused_by(KeyError, index=0)


# -- Retry -----------------------------------------------------------------------------------------------------------


def test_a_retry_must_say_what_to_do_on_failure_and_when_executed():
    class NoDecision(retry.Retry):
        def execute(self, history):
            pass

    class NoExecute(retry.Retry):
        def on_failure(self, history):
            pass

    with pytest.raises(TypeError, match="NoDecision without an implementation of its 'on_failure' method"):
        NoDecision()
    with pytest.raises(TypeError, match="NoExecute without an implementation of its 'execute' method"):
        NoExecute()
    with pytest.raises(TypeError):
        retry.Retry()


def test_what_the_engine_fills_is_not_required():
    made = Custom()
    assert list(made.requires) == ["a", "c"]
    assert (list(made.optional), made.rebind, made.revert_rebind) == (["b"], {"a": "a", "b": "b"}, {"c": "c"})


def test_arguments_are_rebound_as_for_tasks():
    made = Custom(rebind=["aa"])
    assert made.rebind == {"a": "aa", "b": "b"}
    assert made.revert_rebind == {"c": "aa"}
    assert list(Custom(requires=["b"]).requires) == ["a", "b", "c"]


def test_a_retry_has_no_name_until_it_is_given_one():
    made = Custom()
    assert made.name is None
    made.name = "later"
    assert str(made) == '"later==1.0"'
    assert Custom("own").name == "own"


def test_a_retry_provides_what_it_says():
    class Providing(Custom):
        default_provides = "v"

    assert Providing().save_as == {"v": None}
    assert Custom("c", provides=("x", "y")).save_as == {"x": 0, "y": 1}


def test_revert_does_nothing_by_default():
    assert retry.Times().revert(history=attempts(1), flow_failures={}, other=1) is None


@pytest.mark.parametrize(
    "made",
    [retry.AlwaysRevert(), retry.AlwaysRevertAll(), retry.Times(3), retry.ForEach([1])],
    ids=lambda made: type(made).__name__,
)
def test_the_ready_made_ones_need_nothing(made):
    assert (list(made.requires), list(made.optional), made.save_as) == ([], [], {})


@pytest.mark.parametrize("cls", [retry.AlwaysRevert, retry.AlwaysRevertAll, retry.Times, retry.ParameterizedForEach])
def test_the_ready_made_ones_take_further_requirements(cls):
    made = cls(name="r", requires=["z"], rebind={"z": "zz"}, provides="p")
    assert "zz" in made.requires
    assert made.rebind["z"] == "zz"
    assert made.save_as == {"p": None}


# -- the ready-made ones ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cls", "decision"), [(retry.AlwaysRevert, retry.REVERT), (retry.AlwaysRevertAll, retry.REVERT_ALL)]
)
def test_always_decides_the_same_and_provides_nothing(cls, decision):
    made = cls()
    assert made.on_failure(history=attempts(), more=1) is decision
    assert made.on_failure(history=attempts(None, None)) is decision
    assert made.execute(history=attempts(), more=1) is None


@pytest.mark.parametrize(
    ("made", "decisions"),
    [
        (retry.Times(), "REVERT REVERT"),
        (retry.Times(1), "REVERT REVERT"),
        (retry.Times(3), "RETRY RETRY REVERT REVERT"),
        (retry.Times(2, revert_all=True), "RETRY REVERT_ALL REVERT_ALL"),
        (retry.Times(0), "REVERT"),
    ],
)
def test_times_retries_until_the_attempts_are_used_up(made, decisions):
    given = [made.on_failure(history=attempts(*range(n))) for n in range(1, len(decisions.split()) + 1)]
    assert given == decisions.split()


def test_times_provides_the_number_of_the_attempt():
    assert [retry.Times(3).execute(history=attempts(*range(n))) for n in range(3)] == [1, 2, 3]


def test_times_goes_by_position_and_shows_what_subclasses_use():
    class Shown(retry.Times):
        def shown(self):
            return self._attempts, self._revert_action

    made = Shown(4, "n", "p", ["q"], True, ["x"], True)
    assert (made.name, made.save_as, list(made.requires)) == ("n", {"p": None}, ["q", "x"])
    assert made.shown() == (4, retry.REVERT_ALL)
    assert Shown().shown()[1] is retry.REVERT


def each(made, method, tried, **arguments):
    return getattr(made, method)(history=attempts(*tried), **arguments)


@pytest.fixture(params=["given", "stored"])
def for_each(request):
    """Calls a method of ForEach, or of ParameterizedForEach with the same values."""

    def call(method, values, *tried, revert_all=False):
        if request.param == "given":
            return each(retry.ForEach(values, "r", revert_all=revert_all), method, tried)
        return each(retry.ParameterizedForEach("r", revert_all=revert_all), method, tried, values=values)

    return call


@pytest.mark.parametrize(
    ("values", "tried", "chosen"),
    [
        ([1, 2, 3], [], 1),
        ([1, 2, 3], [1], 2),
        ([1, 2, 3], [1, 2], 3),
        ([1, 2, 3], [2], 1),
        ([1, 2, 3], [9], 1),
        ([1, 1, 2], [1], 1),
        ([1, 1, 2], [1, 1], 2),
        ([[1], [2]], [[1]], [2]),
        ([None, 2], [], None),
        ([None, 2], [None], 2),
        ("ab", ["a"], "b"),
        ({"k": 1, "l": 2}, ["k"], "l"),
        (range(3), [0], 1),
        ((1, 2), [1], 2),
        # as they are read back from a store
        ([("a", 1), ("b", 2)], [["a", 1]], ("b", 2)),
        ([("a", 1), ["a", 1], "c"], [["a", 1]], ["a", 1]),
        ([("a", 1), ("a", 1), "c"], [["a", 1], ["a", 1]], "c"),
        ([{"at": ("a", (1,))}, 2], [{"at": ["a", [1]]}], 2),
        ([float("nan"), (float("nan"), 1), 2], [float("nan"), [float("nan"), 1]], 2),
        # the values are others than those that were tried, or came in another order
        ([("x", 1), ("a", 1)], [["a", 1]], ("x", 1)),
        ([("b", 2)], [["a", 1]], ("b", 2)),
        ([("b", 2), ("a", 1), ("c", 3)], [["a", 1], ["b", 2]], ("c", 3)),
        ([5, 6], [1, 2, 3], 5),
    ],
)
def test_for_each_chooses_the_first_value_that_was_not_tried(for_each, values, tried, chosen):
    assert for_each("execute", values, *tried) == chosen


@pytest.mark.parametrize(("values", "tried"), [([], []), ([1, 2], [1, 2]), ([1, 1], [1, 1])])
def test_for_each_fails_when_no_value_is_left(for_each, values, tried):
    with pytest.raises(exceptions.NotFound, match="No elements left in collection of iterable retry controller r"):
        for_each("execute", values, *tried)


def test_for_each_retries_while_a_value_is_left(for_each):
    assert [for_each("on_failure", [1, 2], *tried) for tried in ([], [1], [1, 2])] == ["RETRY", "RETRY", "REVERT"]
    assert for_each("on_failure", [1, 2], 1, 2, revert_all=True) == "REVERT_ALL"
    assert for_each("on_failure", []) == "REVERT"


def test_for_each_takes_any_iterable_once():
    made = retry.ForEach(iter([1, 2]))
    assert [each(made, "execute", tried) for tried in ([], [1], [])] == [1, 2, 1]


def test_for_each_does_not_follow_later_changes_of_its_values():
    values = [1, 2]
    made = retry.ForEach(values)
    values.clear()
    assert each(made, "execute", [1]) == 2


def test_parameterized_for_each_requires_the_values():
    assert list(retry.ParameterizedForEach().requires) == ["values"]
    assert list(retry.ParameterizedForEach(rebind=["vv"]).requires) == ["vv"]
    assert retry.ParameterizedForEach(rebind={"values": "vv"}, provides="q").rebind == {"values": "vv"}


class Array:
    """What does not say whether it equals another one, as arrays of numbers do not."""

    def __eq__(self, other):
        return self

    def __bool__(self):
        raise ValueError("ambiguous")

    __hash__ = None


def test_values_that_cannot_be_compared_are_told_by_their_place(for_each):
    values = [Array(), Array(), Array()]
    assert for_each("execute", values, Array()) is values[1]
    assert [for_each("on_failure", values, *[Array()] * tried) for tried in (2, 3)] == ["RETRY", "REVERT"]


class Backwards(retry.ForEach):
    """Tries the last value first."""

    def _get_next_value(self, values, history):
        return super()._get_next_value(list(reversed(values)), history)


def test_a_subclass_may_choose_another_value():
    made = Backwards([("a", 1), ("b", 2), ("c", 3)])
    tried = [(), (["c", 3],), (["c", 3], ["b", 2])]
    assert [each(made, "execute", values)[0] for values in tried] == ["c", "b", "a"]
    assert [each(made, "on_failure", values) for values in [*tried, [["c", 3], ["b", 2], ["a", 1]]]] == [
        *["RETRY"] * 3,
        "REVERT",
    ]


@pytest.mark.parametrize("values", [(value for value in "ab"), iter([1]), map(str, "ab"), zip("ab", "cd", strict=True)])
@pytest.mark.parametrize("method", ["execute", "on_failure"])
def test_parameterized_for_each_refuses_what_gives_its_values_once(values, method):
    with pytest.raises(TypeError, match=r"Retry 'r' cannot try the values of <.*: an iterator, such as a generator"):
        each(retry.ParameterizedForEach("r"), method, [], values=values)
