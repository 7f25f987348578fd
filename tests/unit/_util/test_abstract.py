"""Methods that users mark as abstract in tasks, retries and flows."""

from __future__ import annotations

import abc
import copy
import operator
import pickle
from unittest import mock

import pytest

from taskflowx import engines, retry, task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow


class Base(task.Task):
    """What a project derives its tasks from."""

    @abc.abstractmethod
    def execute(self, x):
        """Do the work."""

    @property
    @abc.abstractmethod
    def kind(self):
        """Name the work."""


class Half(Base):
    def execute(self, x):
        return f"{self.kind} {x}"


class Whole(Half):
    kind = "whole"


def test_a_task_with_abstract_methods_is_not_made():
    with pytest.raises(TypeError, match=r"abstract class Base .*abstract methods '?execute'?, '?kind'?"):
        Base("b")
    with pytest.raises(TypeError, match=r"abstract class Half .*abstract method '?kind'?"):
        Half("h")


def test_who_has_all_methods_is_a_task_like_any_other():
    made = Whole("w", provides="y")
    for each in (made, copy.copy(made), copy.deepcopy(made), pickle.loads(pickle.dumps(made)), made.copy()):
        assert engines.run(each, store={"x": 1})["y"] == "whole 1"


def test_what_is_abstract_again_is_refused_again():
    class Again(Whole):
        @abc.abstractmethod
        def revert(self, x):
            """Undo the work."""

    with pytest.raises(TypeError, match="Again"):
        Again("a")


@pytest.mark.parametrize("cls", [retry.Retry, retry.Times, retry.AlwaysRevert])
def test_so_is_a_retry(cls):
    class Polite(cls):
        @abc.abstractmethod
        def on_failure(self, history):
            """Decide."""

    with pytest.raises(TypeError, match="Polite"):
        Polite(name="p")

    class Decided(Polite):
        def on_failure(self, history):
            return retry.REVERT

        def execute(self, history):
            return 1

    assert Decided(name="d").name == "d"


@pytest.mark.parametrize("pattern", [linear_flow.Flow, unordered_flow.Flow, graph_flow.Flow])
def test_so_is_a_flow(pattern):
    class Named(pattern):
        @abc.abstractmethod
        def title(self):
            """Tell what it is for."""

    with pytest.raises(TypeError, match="Named"):
        operator.call(Named, "n")  # from C, as CPython 3.14 specializes calls in Python, and does not look then
    assert type("Titled", (Named,), {"title": str})("t").name == "t"


def test_a_metaclass_of_the_user_decides_by_itself():
    class Mixed(Half, metaclass=abc.ABCMeta):
        pass

    with pytest.raises(TypeError, match="Mixed"):
        Mixed("m")
    assert type(Mixed)("Done", (Mixed,), {"kind": "done"})("d").kind == "done"


def test_an_attribute_that_has_a_value_for_any_name_is_not_abstract():
    class Holds(Whole):
        expected = mock.call

    assert engines.run(Holds("h", provides="y"), store={"x": 1})["y"] == "whole 1"
