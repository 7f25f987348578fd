"""Which calls of a run are alike for its worker processes."""

import dataclasses

from taskflowx import states, task
from taskflowx.executors import base
from taskflowx.executors.processes import policy


@dataclasses.dataclass
class Scale:
    """Can be called, and not hashed."""

    by: int

    def __call__(self, x):
        return x * self.by

    def again(self, x):
        return self(self(x))


class Own(task.Task):
    def __init__(self, name):
        super().__init__(name)
        self._execute = {"attributes": "of users"}

    def execute(self):
        pass


def call(atom, verb=states.EXECUTE):
    return base.Call(0, atom, verb, {})


def functor(function):
    return call(task.FunctorTask(function, name="f"))


def double(x):
    return 2 * x


def half(x):
    return x / 2


def test_tasks_of_one_class_are_alike_whatever_their_attributes():
    kinds = policy.Kinds()
    assert kinds.of(call(Own("a"))) is kinds.of(call(Own("b")))
    assert kinds.of(call(Own("a"))) is not kinds.of(call(Own("a"), states.REVERT))


def test_tasks_of_one_function_are_alike_and_those_of_others_are_not():
    kinds = policy.Kinds()
    assert kinds.of(functor(double)) is kinds.of(functor(double))
    assert kinds.of(functor(double)) is not kinds.of(functor(half))
    assert kinds.of(functor(Scale(2).again)) is kinds.of(functor(Scale(3).again))
    assert kinds.of(functor(Scale(2))) is kinds.of(functor(Scale(3)))
    assert kinds.of(functor(Scale(2))) is not kinds.of(functor(Scale(2).again))
