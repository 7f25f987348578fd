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


class Calls(task.Task):
    """Calls what it is given, and returns what that returns."""

    def __init__(self, name, does=lambda: None):
        super().__init__(name)
        self.does = does

    def execute(self):
        return self.does()


class Notes(task.Task):
    """Notes its name in a list, and then calls what it is given."""

    def __init__(self, name, log, act=lambda: None):
        super().__init__(name)
        self.log, self.act = log, act

    def execute(self):
        self.log.append(self.name)
        self.act()
        return self.name


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


def plain(*names):
    """Return tasks with these names."""
    return [Plain(name) for name in names]


def names(members):
    return [member.name for member in members]


def links(made):
    """The links by name, without their attributes."""
    return {(u.name, v.name) for u, v, _ in made.iter_links()}


def attributes_of(made, u, v):
    return next(attributes for u_, v_, attributes in made.iter_links() if (u_, v_) == (u, v))


def everything(made):
    """All that can be seen of a flow."""
    return (
        list(made),
        [(u, v, attributes) for u, v, attributes in made.iter_links()],
        len(made),
        graph_flow.positions(made),
    )
