"""Tasks and flows for tests of what is made of them, in one line each."""

from taskflowx import task
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow


class Plain(task.Task):
    """Takes nothing and gives nothing."""

    def execute(self):
        return None


class Open(task.Task):
    """Takes whatever it is declared to require, and returns that."""

    def execute(self, **kwargs):
        return kwargs


def linear(name, *members, controller=None):
    return linear_flow.Flow(name, controller).add(*members)


def unordered(name, *members, controller=None):
    return unordered_flow.Flow(name, controller).add(*members)


def graph(name, *members, links=(), controller=None):
    made = graph_flow.Flow(name, controller).add(*members)
    for u, v in links:
        made.link(u, v)
    return made


def work(name, requires=(), provides=()):
    """Return a task that takes and gives values by these names."""
    return Open(name, requires=requires, provides=provides)
