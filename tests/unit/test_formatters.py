"""The text that is logged of a failure."""

import pytest

from taskflowx import engines, exceptions, formatters, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.types.failure import Failure


class Give(task.Task):
    """Returns its name."""

    def execute(self, **given):
        return self.name


class Return(task.Task):
    def __init__(self, name, value, **kwargs):
        super().__init__(name, **kwargs)
        self._value = value

    def execute(self):
        return self._value


class Break(task.Task):
    def execute(self, **given):
        raise ValueError("on purpose")


class Unspeakable:
    def __repr__(self):
        raise RuntimeError("no text")


def give(name, *needs, **kwargs):
    return Give(name, provides=name, requires=list(needs), **kwargs)


def run(flow, store=None, *, name="bad", event=states.FAILURE, formatter=None, options=None):
    """Run a flow and return what the formatter makes of the event of one atom: [(exc_info, text), ...]."""
    engine = engines.load(flow, store=store, **(options or {}))
    made = formatters.FailureFormatter(engine, **(formatter or {}))
    seen = []

    def note(_, details):
        if name in (details.get("task_name"), details.get("retry_name")):
            seen.append(made.format(details["result"], formatters.AtomNamed(name)))

    engine.atom_notifier.register(event, note)
    with pytest.raises((ValueError, RuntimeError, exceptions.NotFound, exceptions.WrappedFailure)):
        engine.run()
    return seen


def text_of(flow, store=None, **kwargs):
    ((_, text),) = run(flow, store, **kwargs)
    return text.splitlines()


def done(name, requires="{}", provides=None):
    return (
        f"Atom '{name}' {{'intention': 'EXECUTE', 'state': 'SUCCESS', 'requires': {requires}, "
        f"'provides': {provides or repr(name)}}}"
    )


def diamond(**kwargs):
    return graph_flow.Flow("g").add(give("a"), give("b", "a"), give("c", "a"), Break("bad", requires=["b", "c"]))


def test_a_row_of_predecessors_is_shown_from_the_last_to_the_flow():
    flow = linear_flow.Flow("row").add(give("a"), Give("b", provides="b", rebind={"x": "a"}), Break("bad"))
    assert text_of(flow) == [
        "3 predecessors (most recent first):",
        "  " + done("b", "{'x': 'a'}"),
        "  |__" + done("a"),
        "     |__Flow 'row'",
    ]


def test_the_exception_comes_beside_the_text():
    (((kind, error, trace), _),) = run(linear_flow.Flow("f").add(Break("bad")))
    assert kind is ValueError
    assert error.args == ("on purpose",)
    assert trace is not None


def test_what_is_followed_twice_is_shown_once():
    assert text_of(diamond()) == [
        "5 predecessors (most recent first):",
        "  " + done("b", "{'a': 'a'}"),
        "  |__" + done("a"),
        "     |__Flow 'g'",
        "  " + done("c", "{'a': 'a'}"),
        "  |__Atom 'a' (shown above)",
    ]


def test_atoms_of_flows_that_have_ended_are_shown_as_what_comes_before():
    flow = linear_flow.Flow("o").add(
        give("a"),
        linear_flow.Flow("inner").add(give("b", "a")),
        unordered_flow.Flow("wide").add(give("x"), give("y")),
        linear_flow.Flow("last").add(give("c"), Break("bad", requires=["b"])),
    )
    assert text_of(flow) == [
        "10 predecessors (most recent first):",
        "  " + done("c"),
        "  |__Flow 'last'",
        "     |__" + done("x"),
        "     |  |__Flow 'wide'",
        "     |     |__" + done("b", "{'a': 'a'}"),
        "     |        |__Flow 'inner'",
        "     |           |__" + done("a"),
        "     |              |__Flow 'o'",
        "     |__" + done("y"),
        "        |__Flow 'wide' (shown above)",
    ]


def test_gates_between_many_and_many_are_not_shown():
    wide = unordered_flow.Flow("wide").add(*map(give, "ab"))
    flow = graph_flow.Flow("g").add(wide, give("c", "a", "b"), give("d", "a", "b"), Break("bad", requires=["c", "d"]))
    both = "{'a': 'a', 'b': 'b'}"
    assert text_of(flow) == [
        "9 predecessors (most recent first):",
        "  " + done("c", both),
        "  |__" + done("a"),
        "  |  |__Flow 'wide'",
        "  |     |__Flow 'g'",
        "  |__" + done("b"),
        "     |__Flow 'wide' (shown above)",
        "  " + done("d", both),
        "  |__Atom 'a' (shown above)",
        "  |__Atom 'b' (shown above)",
    ]


def test_an_empty_flow_before_an_atom_leaves_the_flow_around_it():
    empty, after = unordered_flow.Flow("empty"), Break("bad")
    flow = graph_flow.Flow("g").add(empty, after)
    flow.link(empty, after)
    assert text_of(flow) == ["1 predecessors (most recent first):", "  Flow 'g'"]


def test_a_task_that_is_run_alone_has_no_predecessors():
    ((_, text),) = run(Break("bad"))
    assert text == "0 predecessors (most recent first):\n"


def test_a_retry_is_shown_with_its_attempts_and_without_its_history_argument():
    flow = linear_flow.Flow("o").add(
        give("a"),
        linear_flow.Flow("i", retry.ParameterizedForEach("r", rebind={"values": "numbers"})).add(Break("bad")),
    )
    first, second = (text for _, text in run(flow, {"numbers": [1, 2]}))
    begin = "  Atom 'r' {'intention': 'EXECUTE', 'state': 'SUCCESS', 'requires': {'values': [1, 2]}, 'provides': "
    assert first.splitlines() == [
        "4 predecessors (most recent first):",
        begin + "[(1, {})]}",
        "  |__Flow 'i'",
        "     |__" + done("a"),
        "        |__Flow 'o'",
    ]
    assert begin + "[(1, {'bad': <Failure: ValueError: on purpose>}), (2, {})]}" in second


def test_a_retry_that_fails_itself_has_predecessors_too():
    retrying = retry.ParameterizedForEach("r", rebind={"values": "numbers"})
    flow = linear_flow.Flow("o").add(give("a"), linear_flow.Flow("i", retrying).add(give("b")))
    assert text_of(flow, {"numbers": []}, name="r") == [
        "3 predecessors (most recent first):",
        "  Flow 'i'",
        "  |__" + done("a"),
        "     |__Flow 'o'",
    ]


def test_a_flow_can_be_asked_for():
    engine = engines.load(linear_flow.Flow("o").add(give("a"), linear_flow.Flow("i").add(give("b"))))
    engine.run()
    made = formatters.FailureFormatter(engine)
    failure = Failure.from_exception(ValueError("x"))
    _, text = made.format(failure, lambda candidate: candidate.item.name == "i")
    assert text.splitlines() == ["2 predecessors (most recent first):", "  " + done("a"), "  |__Flow 'o'"]
    _, text = made.format(failure, lambda candidate: candidate.item.name == "o")
    assert text == "0 predecessors (most recent first):\n"


def test_any_matcher_is_shown_atoms_and_flows_until_it_says_yes():
    engine = engines.load(diamond())
    engine.compile()
    engine.prepare()
    asked = []
    made = formatters.FailureFormatter(engine)
    _, text = made.format(
        Failure.from_exception(ValueError("x")), lambda candidate: asked.append(candidate.item.name) or False
    )
    assert asked == ["a", "b", "c", "bad", "g"]
    assert text == ""


@pytest.mark.parametrize("step", ["load", "compile"])
def test_before_there_is_a_record_there_is_no_tree(step):
    engine = engines.load(diamond())
    if step == "compile":
        engine.compile()
    made = formatters.FailureFormatter(engine)
    failure = Failure.from_exception(ValueError("x"))
    assert made.format(failure, formatters.AtomNamed("bad")) == (failure.exc_info, "")


def test_what_has_no_value_is_left_out():
    engine = engines.load(diamond())
    engine.compile()
    engine.prepare()
    _, text = formatters.FailureFormatter(engine).format(
        Failure.from_exception(ValueError("x")), formatters.AtomNamed("bad")
    )
    assert text.splitlines()[1:3] == [
        "  Atom 'b' {'intention': 'EXECUTE', 'state': 'PENDING'}",
        "  |__Atom 'a' {'intention': 'EXECUTE', 'state': 'PENDING', 'requires': {}}",
    ]


def test_an_atom_that_was_left_out_provides_nothing():
    a, b, bad = give("a"), give("b"), Break("bad")
    flow = graph_flow.Flow("g").add(a, b, bad)
    flow.link(a, b, decider=lambda history: False, decider_depth="atom")
    flow.link(b, bad)
    assert text_of(flow)[1] == "  Atom 'b' {'intention': 'IGNORE', 'state': 'IGNORE', 'requires': {}}"


def test_a_failed_revert_has_no_tree():
    class Stuck(Give):
        def revert(self, **given):
            raise RuntimeError("stuck")

    flow = linear_flow.Flow("f").add(give("a"), Stuck("stuck"), Break("bad"))
    (((kind, _, _), text),) = run(flow, name="stuck", event=states.REVERT_FAILURE)
    assert (kind, text) == (RuntimeError, "")


def test_a_failure_that_comes_while_its_region_turns_round_has_its_tree():
    flow = unordered_flow.Flow("f").add(Break("first"), Break("bad"))
    engine = engines.load(flow)
    made, texts = formatters.FailureFormatter(engine), []

    def note(_, details):
        if details["task_name"] == "bad":
            engine.storage.set_atom_intention("bad", states.REVERT)
            texts.append(made.format(details["result"], formatters.AtomNamed("bad"))[1])

    engine.atom_notifier.register(states.FAILURE, note)
    with pytest.raises(exceptions.WrappedFailure):
        engine.run()
    assert texts == ["1 predecessors (most recent first):\n  Flow 'f'"]


def test_a_failure_without_its_exception_is_described_first():
    engine = engines.load(linear_flow.Flow("o").add(give("a")))
    engine.run()
    made = formatters.FailureFormatter(engine)
    failure = Failure.from_dict(Failure.from_exception(ValueError("x")).to_dict())
    described = "Failure: ValueError: x\nTraceback not available."
    assert made.format(failure, formatters.AtomNamed("a")) == (
        None,
        f"{described}\n1 predecessors (most recent first):\n  Flow 'o'",
    )
    assert made.format(failure, formatters.AtomNamed("nobody")) == (None, described)


def test_values_that_cannot_be_shown_are_no_obstacle():
    flow = linear_flow.Flow("o").add(give("a", "it"), Break("bad"))
    assert text_of(flow, {"it": Unspeakable()})[1] == (
        "  Atom 'a' {'intention': 'EXECUTE', 'state': 'SUCCESS'} (its values cannot be shown: RuntimeError)"
    )
    endless = {}
    endless["self"] = endless
    (shown,) = (line for line in text_of(flow, {"it": endless}, formatter={"mask_inputs_keys": "x"}) if "'a'" in line)
    assert "RecursionError" in shown


def test_hidden_atoms_show_no_values():
    lines = text_of(diamond(), formatter={"hide_inputs_outputs_of": ("a", "b")})
    assert lines[1:3] == [
        "  Atom 'b' {'intention': 'EXECUTE', 'state': 'SUCCESS'}",
        "  |__Atom 'a' {'intention': 'EXECUTE', 'state': 'SUCCESS'}",
    ]
    assert lines[4] == "  " + done("c", "{'a': 'a'}")


@pytest.mark.parametrize("names", ["sec", ["sec"], {"sec": 1}])
def test_names_may_be_one_name_or_several(names):
    flow = linear_flow.Flow("o").add(Return("sec", "secret"), Break("bad"))
    assert "secret" not in "".join(text_of(flow, formatter={"hide_inputs_outputs_of": names}))


def test_masked_inputs_are_found_by_argument_by_stored_name_and_as_keys_at_any_depth():
    arguments = {"token": 1, "name": "x", "deep": [{"token": 2, "list": ({"token": 3},)}]}
    flow = linear_flow.Flow("o").add(
        Give("a", requires=["token", "name", "deep"]), Give("b", rebind={"argument": "token"}), Break("bad")
    )
    lines = text_of(flow, arguments, formatter={"mask_inputs_keys": ["token"]})
    assert lines[1] == "  " + done("b", "{'argument': '***'}")
    assert lines[2] == "  |__" + done(
        "a", "{'token': '***', 'name': 'x', 'deep': [{'token': '***', 'list': ({'token': '***'},)}]}"
    )
    assert arguments["deep"] == [{"token": 2, "list": ({"token": 3},)}]


@pytest.mark.parametrize(
    ("value", "provides", "shown"),
    [
        ({"user": "me", "token": "t"}, {"user", "token"}, "{'user': 'me', 'token': '***'}"),
        ({"inner": [{"token": "t"}]}, "whole", "{'inner': [{'token': '***'}]}"),
        ("t", "token", "'***'"),
        (("me", "t"), ("user", "token"), "('me', '***')"),
        (["me", "t", "further"], ("user", "token"), "['me', '***', 'further']"),
        ({"user": "me", "key": "t"}, {"token": "key"}, "{'user': 'me', 'key': '***'}"),
        ("t", ("user",), "'t'"),
        (None, None, "None"),
    ],
)
def test_masked_outputs_are_found_by_provided_name_and_as_keys(value, provides, shown):
    flow = linear_flow.Flow("o").add(Return("a", value, provides=provides), Break("bad"))
    lines = text_of(flow, formatter={"mask_outputs_keys": ("token",)})
    assert lines[1] == "  " + done("a", provides=shown)


def test_the_result_of_a_retry_is_masked_in_each_attempt():
    flow = linear_flow.Flow("i", retry.ForEach([{"token": 1}], "r")).add(Break("bad"))
    assert "'provides': [({'token': '***'}, {})]" in text_of(flow, formatter={"mask_outputs_keys": ("token",)})[1]


def test_a_long_row_is_cut_off():
    flow = linear_flow.Flow("row").add(*(give(f"t{n}") for n in range(5)), Break("bad"))
    lines = text_of(flow, formatter={"limit": 2})
    assert lines == [
        "more than 2 predecessors (most recent first):",
        "  " + done("t4"),
        "  |__" + done("t3"),
        "  (those further back are not shown)",
    ]
    assert len(text_of(flow, formatter={"limit": 6})) == 7
    assert len(text_of(flow, formatter={"limit": None})) == 7


def test_a_chain_of_diamonds_costs_its_edges(monkeypatch):
    depth, flow = 200, graph_flow.Flow("g")
    flow.add(give("d0"))
    for n in range(depth):
        left, right = give(f"l{n}", f"d{n}"), give(f"r{n}", f"d{n}")
        flow.add(left, right, give(f"d{n + 1}", f"l{n}", f"r{n}"))
    flow.add(Break("bad", requires=[f"d{depth}"]))
    engine = engines.load(flow)
    made, asked, texts = formatters.FailureFormatter(engine), [], []
    get_atom_intention = engine.storage.get_atom_intention
    monkeypatch.setattr(
        engine.storage, "get_atom_intention", lambda name: asked.append(name) or get_atom_intention(name)
    )
    engine.atom_notifier.register(
        states.FAILURE,
        lambda _, details: texts.append(made.format(details["result"], formatters.AtomNamed("bad"))[1]),
    )
    with pytest.raises(ValueError, match="on purpose"):
        engine.run()
    # Each atom, the flow, and the second mention of the atom at the top of each diamond.
    assert len(texts[0].splitlines()) == 1 + (3 * depth + 1) + 1 + depth
    assert len(asked) == 3 * depth + 2


def test_what_comes_after_or_beside_costs_nothing(monkeypatch):
    flow = linear_flow.Flow("row").add(give("a"), Break("bad"), *(give(f"t{n}") for n in range(500)))
    engine = engines.load(flow)
    made, asked = formatters.FailureFormatter(engine), []
    get_atom_intention = engine.storage.get_atom_intention
    monkeypatch.setattr(
        engine.storage, "get_atom_intention", lambda name: asked.append(name) or get_atom_intention(name)
    )
    engine.atom_notifier.register(
        states.FAILURE, lambda _, details: made.format(details["result"], formatters.AtomNamed("bad"))
    )
    with pytest.raises(ValueError, match="on purpose"):
        engine.run()
    assert asked == ["bad", "a"]
