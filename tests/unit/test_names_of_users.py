"""Names that users' subclasses may take: all but those of TaskFlow's classes, and those that begin with `_tfx_`.

A subclass has a property that raises for each name that is looked up anywhere in this package, and works as if it had
none: nothing here takes an attribute of a user's object for its own.
"""

from __future__ import annotations

import ast
import copy
import inspect
import pathlib
import pickle
import re
import typing

import pytest

import taskflowx
from taskflowx import controls, engines, flow, retry, task
from taskflowx.listeners import base, capturing, logging, printing, timing
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.types import failure, notifier

SURFACE = (pathlib.Path(__file__).parents[1] / "acceptance" / "surface.txt").read_text()
PREFIX = "_tfx_"
#: what instances have beside the listed names, and what subclasses override or read though it begins with _
OF_TASKFLOW = {
    "name", "version", "requires", "optional", "provides", "save_as", "rebind", "revert_rebind", "revert_optional",
    "inject", "priority", "default_provides", "retry",
    "_notifier", "_attempts", "_revert_action", "_values", "_get_next_value", "_on_failure",
    "_engine", "_flow_receiver", "_task_receiver", "_retry_receiver", "_dump", "_format_capture", "_record_ending",
    "values", "_exc_info", "_tfx_topics", "_lock", "_watchable_events", "_allow_any",
}  # fmt: skip

#: what subclasses of tasks may set here, and have no use for there; what flows have here, and nothing of ours looks up
OF_OURS = {
    "default_pure",
    "picture",
    "_repr_mimebundle_",
    "find_outcome",
    *(f"default_{one}" for one in controls.NAMES),
}


def words_of(source):
    """All names that a module looks up on something."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute):
            yield node.attr
        elif isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


def names_of_classes():
    """Class -> the names of it that TaskFlow has too."""
    found, module, cls = {}, "", ""
    for line in filter(str.strip, SURFACE.splitlines()):
        if not line.startswith(" "):
            module = line.strip()
        elif match := re.match(r" +class (\w+)", line):
            cls = f"{module}.{match[1]}"
            found[cls] = set()
        elif cls and (match := re.match(r" +(?:@\w+ )?\.?(\w+)", line)):
            found[cls].add(match[1])
    return found


WORDS = {word for path in pathlib.Path(taskflowx.__file__).parent.rglob("*.py") for word in words_of(path.read_text())}
KNOWN = names_of_classes()


def known_of(cls):
    """The names that an object of a class has for its users."""
    listed = set().union(*(KNOWN.get(f"{c.__module__}.{c.__name__}", set()) for c in cls.__mro__))
    return listed | OF_TASKFLOW | OF_OURS


def taken(cls, *, private=True):
    """A subclass that has a property of its own under each name that is not known to be taken.

    :param private: whether also under those that begin with _
    """

    def of(name):
        def look_up(self):
            raise AssertionError(f"{name} of {cls.__name__} is its user's")

        return property(look_up)

    names = {name for name in WORDS - known_of(cls) if not name.startswith((PREFIX, "__") if private else "_")}
    return type(cls.__name__, (cls,), {name: of(name) for name in names} | {"__module__": __name__})


@pytest.mark.parametrize(
    "cls",
    [
        *(one for one in vars(task).values() if inspect.isclass(one) and issubclass(one, task.Task)),
        *(one for one in vars(retry).values() if inspect.isclass(one) and issubclass(one, retry.Retry)),
        flow.Flow, linear_flow.Flow, unordered_flow.Flow, graph_flow.Flow, graph_flow.TargetedFlow,
        base.Listener, base.DumpingListener,
    ],
)  # fmt: skip
def test_all_names_of_ours_begin_alike(cls):
    ours = (
        {name for name in dir(cls) if not name.startswith((PREFIX, "__"))}
        - known_of(cls)
        - {"_abc_impl", *dir(typing.Generic)}
    )
    assert ours == set()


class Step(taken(task.Task)):
    default_provides = "x"

    def execute(self, y=1):
        self.update_progress(0.5)
        return y

    def revert(self, result, flow_failures):
        return result


class Fail(taken(task.Task)):
    def execute(self, x):
        raise RuntimeError("Woot!")


def add(one, other):
    return one + other


def one():
    return 1


def flows(pattern):
    """Flows of subclasses of a pattern, with tasks and retries that are subclasses, too."""
    inner = taken(linear_flow.Flow)("inner", taken(retry.Times)(2, "again")).add(Step("a", provides="a"))
    functor = taken(task.FunctorTask)(one, "functor", provides="b")
    reduced = taken(task.ReduceFunctorTask)(add, ["a", "b"], "reduced", provides="c")
    mapped = taken(task.MapFunctorTask)(abs, ["c"], "mapped", provides="d")
    return taken(pattern)("outer", taken(retry.ForEach)([1], "each")).add(functor, inner).add(reduced, mapped)


@pytest.mark.parametrize("executor", ["serial", "threads", "asyncio"])
@pytest.mark.parametrize("pattern", [linear_flow.Flow, graph_flow.Flow, graph_flow.TargetedFlow])
def test_subclasses_may_use_any_other_name(pattern, executor, tmp_path):
    made = flows(pattern)
    engine = engines.load(made, executor=executor, backend=f"sqlite:///{tmp_path}/runs.db")
    with taken(capturing.CaptureListener, private=False)(engine) as seen:
        engine.run()
    assert seen.values
    assert engine.storage.fetch("d") == [2]
    assert made.requires == frozenset()
    assert len(engine.compilation.execution_graph)
    assert engine.compilation.hierarchy
    assert made.picture().svg
    assert engine.picture(direction="right").svg
    assert list(made.iter_links())
    assert copy.copy(made).provides == made.provides


def test_subclasses_that_fail_may_use_any_other_name(tmp_path):
    made = graph_flow.Flow("f", taken(retry.AlwaysRevertAll)("all")).add(
        taken(unordered_flow.Flow)("u", taken(retry.ParameterizedForEach)("each", rebind={"values": "many"})).add(
            Step("s")
        ),
        Fail("f"),
    )
    engine = engines.load(made, store={"many": [1, 2]}, backend=f"dir:///{tmp_path}")
    with (
        taken(printing.PrintingListener, private=False)(engine, stderr=True),
        taken(logging.LoggingListener, private=False)(engine),
        taken(timing.DurationListener, private=False)(engine),
        pytest.raises(RuntimeError, match="Woot!"),
    ):
        engine.run()
    assert engine.storage.get_atom_state("s") == "REVERTED"


def test_a_task_with_other_names_is_sent_to_a_process():
    engine = engines.load(linear_flow.Flow("f").add(Step("s"), Step("t", provides="z")), executor="processes")
    engine.run()
    assert engine.storage.fetch("x") == 1


def test_notifiers_may_use_any_other_name():
    for cls, arguments in ((notifier.Notifier, ()), (notifier.RestrictedNotifier, (["a"],))):
        made = taken(cls)(*arguments)
        heard: list[object] = []
        made.register("a", lambda state, details, heard=heard: heard.append((state, details)))
        for other in (made, made.copy()):
            other.notify("a", {"x": 1})
        assert heard == [("a", {"x": 1})] * 2
        assert made.deregister_event("a") == 1


def test_flows_of_subclasses_are_pickled():
    made = linear_flow.Flow("f").add(Step("a", provides="a"), Step("b", rebind={"y": "a"}))
    assert pickle.loads(pickle.dumps(made)).provides == {"a", "x"}


def test_failures_may_use_any_other_name():
    kind = taken(failure.Failure, private=False)
    made = kind.from_exception(RuntimeError("Woot!"))
    assert made.matches(kind.from_dict(made.to_dict()))
    assert "Woot!" in made.pformat()
