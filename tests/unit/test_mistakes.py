"""Mistakes of a first day: a program, the error, and the words that a person needs to get on.

Each row is a fragment of a program, the class of its error, and words of which each is in its text or in a note: the
name of the atom, the argument, the way out. A choice of words is a tuple.
"""

from __future__ import annotations

import dataclasses

import pytest

import taskflowx
from taskflowx import as_task, engines, exceptions, retry, task
from taskflowx.executors import pickling
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow

RAN = []


class Fetch(task.Task):
    default_provides = "page"

    def execute(self, url, timeout=60):
        RAN.append(self.name)
        return f"text of {url}"


class Count(task.Task):
    default_provides = "size"

    def execute(self, page):
        RAN.append(self.name)
        return len(page)


class Step(task.Task):
    def execute(self):
        RAN.append(self.name)


class Undo(Step):
    def revert(self, token):
        RAN.append(self.name)


class Yields(task.Task):
    def execute(self):
        RAN.append(self.name)
        yield 1


class YieldsToUndo(Step):
    def revert(self):
        yield 1


class YieldsBefore(Step):
    def pre_execute(self):
        yield 1


class YieldsAfterUndoing(task.FunctorTask):
    def post_revert(self):
        yield 1


class YieldsBeforeAll(task.MapFunctorTask):
    async def pre_execute(self):
        yield 1


@dataclasses.dataclass(frozen=True)
class Frozen(task.Task):
    size: int

    def __post_init__(self):
        super().__init__("frozen")

    def execute(self):
        RAN.append(self.name)


class YieldsLater(task.Task):
    async def execute(self):
        yield 1


class YieldsARetry(retry.Times):
    def execute(self, history):
        yield 1


class YieldsADecision(retry.Times):
    def on_failure(self, history):
        yield retry.RETRY


class Forgets(task.Task):
    def __init__(self, exponent):
        self.exponent = exponent

    def execute(self):
        RAN.append(self.exponent)


class ForgetsWithName(Forgets):
    name = "named"


class ForgetsAsFunction(task.FunctorTask):
    def __init__(self):
        self.mine = 1


class ForgetsARetry(retry.Times):
    def __init__(self):
        self.mine = 1


class ForgetsAFlow(linear_flow.Flow):
    def __init__(self):
        self.mine = 1


class ForgetsAGraph(graph_flow.Flow):
    def __init__(self):
        self.mine = 1


@dataclasses.dataclass
class Power(task.Task):
    exponent: int

    def execute(self):
        RAN.append(self.exponent)


class Later(task.Task):
    async def execute(self):
        RAN.append(self.name)


class Fails(task.Task):
    def execute(self):
        raise ValueError("no such name")


async def later(state, details):
    pass


def positional(a, /):
    return a


def made_of_none() -> Power:
    return None


def number() -> int:
    return 4


def two():
    return as_task(name="a", provides="a")(number), Step("b")


def is_text(a: str) -> bool:
    return bool(a)


def when(condition):
    before, after = two()
    return graph(before, after).link(before, after, when=condition)


def decided(decider):
    before, after = two()
    return graph(before, after).link(before, after, decider)


class Methods:
    def of_object(self):
        return 1

    @classmethod
    def of_class(cls):
        return 2

    @staticmethod
    def of_none(x):
        return x


def generate():
    yield 1


def linear(*members, name="f", controller=None):
    return linear_flow.Flow(name, controller).add(*members)


def unordered(*members):
    return unordered_flow.Flow("u").add(*members)


def graph(*members):
    return graph_flow.Flow("g").add(*members)


def run(*members, **options):
    return engines.run(linear(*members), **options)


def loaded(*members, **options):
    return engines.load(linear(*members), **options)


def prepared(*members):
    engine = loaded(*members)
    engine.compile()
    engine.prepare()
    return engine


def decorated(function, **keywords):
    return as_task(function, **keywords)


def undone_by(revert):
    return as_task(number, revert=revert)


def twice(of=linear_flow):
    step = Step("the drum")
    return of.Flow("march").add(step, step)


NAMES = globals() | {"taskflowx": taskflowx}

MISSING, DUPLICATE, NOT_FOUND = exceptions.MissingDependencies, exceptions.Duplicate, exceptions.NotFound
CANNOT, WRONG_STATE = exceptions.CompilationFailure, exceptions.InvalidState
AND_PROVIDES = "add a task with provides="
MAKE_TWO = "make a second one"

MISTAKES = [
    # values that nobody gives
    ("run(Fetch('get it'))", MISSING, ["task 'get it'", "store={'url': ...}", f"{AND_PROVIDES}'url'"]),
    ("run(Fetch('get it'), store={})", MISSING, ["task 'get it'", "store={'url': ...}", f"{AND_PROVIDES}'url'"]),
    ("run(Fetch('a', provides=()), Count('c'), store={'url': 1})", MISSING, ["task 'c'", "store={'page': ...}"]),
    ("engines.run(Fetch('alone'))", MISSING, ["task 'alone'", "store={'url': ...}"]),
    ("run(Fetch('a', rebind={'url': 'link'}))", MISSING, ["store={'link': ...}", "argument 'url'"]),
    ("run(Fetch('a'), store={'urls': 1})", MISSING, ["store={'url': ...}", "did you mean 'urls'?"]),
    ("run(Fetch('a', requires=['url']), Step('s'))", MISSING, ["store={'url': ...}", "task 'a'"]),
    ("run(Undo('u'))", MISSING, ["'revert' method", "store={'token': ...}", "task 'u'"]),
    ("run(Count('c'), Fetch('f'), store={'url': 1})", MISSING, ["'f' provides 'page'", "put it before task 'c'"]),
    (
        "engines.run(unordered(Count('c'), Fetch('f')), {'url': 1})",
        MISSING,
        ["'f' provides 'page'", "in a linear flow"],
    ),
    ("engines.run(graph(Count('c')))", MISSING, ["store={'page': ...}", "task 'c'", AND_PROVIDES]),
    (
        "engines.run(linear(controller=retry.ParameterizedForEach('r')))",
        MISSING,
        ["retry 'r'", "store={'values': ...}"],
    ),
    ("loaded(Fetch('a')).run()", MISSING, ["task 'a'", "store={'url': ...}"]),
    ("run(Fetch('a'), Fetch('b', rebind=['uri']))", MISSING, ["task 'a'", "task 'b'", "'url'", "'uri'"]),
    ("run(undone_by(lambda resutl: None))", MISSING, ["'revert' method", "did you mean 'result'?"]),
    ("run(undone_by(lambda flow_failure: None))", MISSING, ["did you mean 'flow_failures'?"]),
    (
        "run(undone_by(lambda number: None))",
        MISSING,
        ["'number' provides 'number' itself", "its revert gets", "'result'"],
    ),
    # names that two have
    ("run(Step(), Step())", DUPLICATE, [".Step'", "Step(name='other')"]),
    ("run(Step('A'), Step('A'))", DUPLICATE, ["two tasks are named 'A'", "Step(name='other')"]),
    ("run(Step('A'), Count('A'))", DUPLICATE, ["two tasks are named 'A'", "Count(name='other')"]),
    ("engines.run(unordered(Step('A'), Step('A')))", DUPLICATE, ["'A'", "name="]),
    ("engines.run(graph(Step('A'), Step('A')))", DUPLICATE, ["'A'", "name="]),
    ("run(Step('A'), unordered(Step('A')))", DUPLICATE, ["'A'", "name="]),
    ("engines.run(linear(Step('A'), controller=retry.Times(2, 'A')))", DUPLICATE, ["a retry and a task", "'A'"]),
    (
        "run(linear(Step('a'), controller=retry.Times(2, 'r')), linear(Step('b'), controller=retry.Times(2, 'r')))",
        DUPLICATE,
        ["two retries are named 'r'", "Times(name='other')"],
    ),
    ("(lambda s: run(s, unordered(s)))(Step('A'))", DUPLICATE, ["'A' is one object in two places", MAKE_TWO]),
    ("run(decorated(print), decorated(print))", DUPLICATE, ["two tasks are named 'print'", "print.named('other')"]),
    ("taskflowx.run(taskflowx.linear('x', lambda: 1, lambda: 2))", DUPLICATE, ["as_task(name='other')(function)"]),
    ("run(*[task.FunctorTask(print), task.FunctorTask(print)])", DUPLICATE, ["print'", "FunctorTask(name='other')"]),
    # one object added twice
    ("twice()", DUPLICATE, ["'the drum'", "'march'", MAKE_TWO]),
    ("twice(unordered_flow)", DUPLICATE, ["'the drum'", "'march'", MAKE_TWO]),
    ("(lambda s: linear(s).add(s))(Step('s'))", DUPLICATE, ["'s'", "'f'", MAKE_TWO]),
    ("(lambda s: linear(s).add(Step('n'), s))(Step('s'))", DUPLICATE, ["'s'", MAKE_TWO]),
    ("(lambda i: linear(i, i))(unordered(Step('s')))", DUPLICATE, ["'u'", MAKE_TWO]),
    # what is asked for before the run
    ("loaded(Count('c')).storage.fetch('size')", NOT_FOUND, ["'size'", "'c'", "has not run yet", "run the engine"]),
    ("prepared(Step('s', provides='x')).storage.fetch('x')", NOT_FOUND, ["'x'", "'s' has not run yet"]),
    ("loaded(unordered(Count('c'))).storage.fetch('size')", NOT_FOUND, ["'c'", "has not run yet"]),
    ("loaded(Count('c')).storage.fetch('sise')", NOT_FOUND, ["'sise'", "Did you mean 'size'?"]),
    ("loaded(Count('count')).storage.get('count')", NOT_FOUND, ["Atom 'count'", "has not run yet", "run the engine"]),
    ("prepared(Step('s')).storage.get('s')", NOT_FOUND, ["'s'", "has not run yet", "run the engine"]),
    ("loaded(Count('count')).storage.get('cuont')", NOT_FOUND, ["'cuont'", "Did you mean 'count'?"]),
    ("loaded(Count('c')).storage.get_atom_state('c')", NOT_FOUND, ["'c'", "has not run yet"]),
    ("engines.load(Step('s', provides='x')).storage.fetch('x')", NOT_FOUND, ["'s'", "has not run yet"]),
    ("loaded(Step('s')).prepare()", WRONG_STATE, ["not been compiled", "call compile() first, or run()"]),
    ("loaded(Step('s')).validate()", WRONG_STATE, ["not been compiled", "call compile() first, or run()"]),
    ("loaded(Step('s')).reset()", WRONG_STATE, ["not been compiled", "call compile() first, or run()"]),
    ("loaded(Step('s')).suspend()", WRONG_STATE, ["not been compiled", "call compile() first, or run()"]),
    ("(lambda s: loaded(s).rollback(to=s))(Step('s'))", TypeError, ["to must be the name of an atom"]),
    (
        "taskflowx.linear('x', as_task(provides='y'))",
        TypeError,
        ["cannot be what as_task returns without a function", "as_task(provides='size')(measure)"],
    ),
    ("taskflowx.linear('x', as_task(None))", TypeError, ["cannot be what as_task returns without a function"]),
    # links
    ("graph(Step('a')).link(Step('a'), Step('b'))", ValueError, ["'a' is not in flow 'g'", "add()"]),
    ("(lambda a: graph(a).link(a, Step('b')))(Step('a'))", ValueError, ["'b' is not in flow 'g'", "add it first"]),
    (
        "(lambda a, b: graph(a | retry.Times(2), b).link(a, b))(Step('a'), Step('b'))",
        ValueError,
        ["'a' is not in flow 'g'", "it is within 'a', which is a flow in it: pass that flow"],
    ),
    ("(lambda a: graph(a).link(Step('b'), a))(Step('a'))", ValueError, ["'b' is not in flow 'g'", "add it first"]),
    ("graph(Step('a')).link('a', 'b')", ValueError, ["'a' is not in flow 'g'", "pass the task or flow itself"]),
    ("taskflowx.graph('g', generate).link(generate, print)", ValueError, ["the function generate", "@as_task"]),
    (
        "(lambda a: graph(a, decorated(number)).link(a, number))(Step('a'))",
        ValueError,
        ["the function number", "make a task of it first, by @as_task"],
    ),
    ("when(True)", ValueError, ["when= of the link 'a' -> 'b'", "callable", "True"]),
    ("when(generate)", ValueError, ["when= of the link 'a' -> 'b'", "no generator function", "the function generate"]),
    ("when(Methods)", ValueError, ["when= of the link 'a' -> 'b'", "no class"]),
    ("when(bool)", ValueError, ["when= of the link 'a' -> 'b'", "no class"]),
    ("when(lambda a, /: a)", ValueError, ["when= of the link 'a' -> 'b'", "remove the /"]),
    ("engines.run(when(lambda: int('x')))", ValueError, ["in the decider of the link 'a' -> 'b' of flow 'g' (serial)"]),
    ("engines.run(decided(lambda history: int('x')))", ValueError, ["in the decider of the link 'a' -> 'b' of flow"]),
    (
        "engines.run(when(is_text), types='strict')",
        exceptions.TypeMismatch,
        ["'a' provides 'a' as int", "when= of the link 'a' -> 'b' takes it as str"],
    ),
    # two providers, and one's own value
    (
        "graph(Step('a', provides='page'), Step('b', provides='page'), Count('c'))",
        exceptions.AmbiguousDependency,
        ["in flow 'g'", "multiple providers ['a', 'b']", "another name, by provides=", "rebind="],
    ),
    (
        "engines.run(graph(Count('c', provides='page')))",
        MISSING,
        ["task 'c' provides 'page' itself", "rebind={'page': 'other'}", "store={'other': ...}"],
    ),
    # results of runs
    ("decorated(number).result(None)", TypeError, ["the result of 'number'", "what run() has returned", "None"]),
    ("decorated(number).result(taskflowx.run(decorated(print)))", KeyError, ["no 'number'", "there are ['print']"]),
    ("decorated(number).result({})", KeyError, ["no 'number'", "has not run"]),
    ("taskflowx.run(decorated(made_of_none))", exceptions.ResultMismatch, ["an object of Power", "returned None"]),
    # stores and options
    ("taskflowx.run(Step('a'), backend='runs.sqlite')", ValueError, ["'sqlite:///runs.sqlite'", "'.db'"]),
    ("taskflowx.run(Step('a'), backend='/srv/runs')", ValueError, ["'dir:////srv/runs'"]),
    ("taskflowx.run(Step('a'), executr='threads')", ValueError, ["'executr'", "did you mean 'executor'?"]),
    ("taskflowx.run(Fetch('a'), url=3)", ValueError, ["'url'", "store={name: value}"]),
    ("decorated(None, provide='x')", TypeError, ["'provide'", "did you mean 'provides'?"]),
    ("decorated(positional)", ValueError, ["by position only", "remove the / from its parameters"]),
    (
        "loaded(Step('a')).notifier.register('*', later)",
        ValueError,
        ["Event callback", "the function later", "no coroutine function"],
    ),
    ("loaded(Step('a')).notifier.register('*', generate)", ValueError, ["Event callback", "no generator function"]),
    ("graph(Step('a')).link(None, None)", ValueError, ["'None' is not in flow 'g'", "add it first"]),
    ("graph_flow.TargetedFlow('t').set_target(Step('a'))", ValueError, ["'a' is not in flow 't'", "add it first"]),
    # injected values that nobody takes
    ("Fetch('f', inject={'tiemout': 3})", ValueError, ["f takes no argument 'tiemout'", "['timeout', 'url']"]),
    ("Step('s', inject={'x': 1})", ValueError, ["s takes no argument 'x'", "inject="]),
    ("Step(inject={'x': 1})", ValueError, [".Step takes no argument 'x'"]),
    ("Undo('u', inject={'x': 1})", ValueError, ["u takes no argument 'x'", "['token']"]),
    ("Fetch('f', inject={'url': 1, 'x': 1, 'y': 2})", ValueError, ["'x' and no 'y'", "['timeout', 'url']"]),
    ("task.FunctorTask(lambda a: a, 'f', inject={'b': 1})", ValueError, ["f takes no argument 'b'", "['a']"]),
    ("type('K', (Step,), {'inject': {'b': 1}})('k')", ValueError, ["k takes no argument 'b'"]),
    # arguments
    ("Fetch('f', requires=['uri'])", ValueError, ["atom f: ['uri']", "takes ['url', 'timeout']", "**kwargs"]),
    ("Fetch('f', rebind={'uri': 'x'})", ValueError, ["atom f: ['uri']", "takes ['url', 'timeout']"]),
    ("Fetch('f', auto_extract=False)", ValueError, ["atom f: ['url']", "requires="]),
    ("task.Task()", TypeError, ["taskflowx.task.Task", "'execute'"]),
    ("Fetch('f', rebind='url')", TypeError, ["rebind value 'url'", "declaration of 'f'", "dict of argument -> name"]),
    ("Fetch('f', revert_rebind={'url'})", TypeError, ["declaration of 'f'", "or a list of such names"]),
    ("Fetch('f', rebind=[1])", TypeError, ["rebind=[1]", "declaration of 'f'"]),
    ("Fetch('f', requires=[1])", TypeError, ["requires", "declaration of 'f'"]),
    ("Fetch('f', provides=5)", TypeError, ["provides", "declaration of 'f'"]),
    ("Fetch('f', inject=['url'])", TypeError, ["inject must be a dict", "declaration of 'f'"]),
    ("Fetch('f', ignore_list=5)", TypeError, ["ignore_list", "declaration of 'f'"]),
    ("Fetch(inject=['url'])", TypeError, ["inject must be a dict", "test_mistakes.Fetch'"]),
    ("retry.Times(2, 'r', provides=5)", TypeError, ["provides", "declaration of 'r'"]),
    ("decorated(generate, rebind='a')", TypeError, ["rebind value 'a'", "declaration of 'generate'"]),
    # methods that take no object, and objects that cannot be changed
    ("type('K', (Step,), {'execute': lambda: 1})('k')", TypeError, ["k cannot be run", "takes no self", "(self, ...)"]),
    ("type('K', (Step,), {'revert': lambda **_: 1})('k')", TypeError, ["k cannot be run", "takes no self"]),
    ("type('K', (retry.Times,), {'on_failure': lambda: 1})(2, 'k')", TypeError, ["k cannot be run", "takes no self"]),
    ("decorated(type('K', (), {'m': lambda: 1})().m, name='k')", TypeError, ["k cannot be run", "takes no self"]),
    ("Frozen(3)", TypeError, [".Frozen is frozen", "leave frozen=True out"]),
    # constructors that do not call the one of their base class
    ("linear(Forgets(3))", TypeError, [".Forgets has an __init__", "super().__init__()"]),
    ("unordered(Forgets(3))", TypeError, [".Forgets has an __init__", "super().__init__()"]),
    ("graph(Forgets(3))", TypeError, [".Forgets has an __init__", "super().__init__()"]),
    ("linear(Step('s'), ForgetsWithName(3))", TypeError, [".ForgetsWithName has an __init__", "super().__init__()"]),
    ("linear(ForgetsAsFunction())", TypeError, [".ForgetsAsFunction has an __init__", "super().__init__()"]),
    ("engines.load(Forgets(3))", TypeError, [".Forgets has an __init__", "super().__init__()"]),
    ("linear(controller=ForgetsARetry())", TypeError, [".ForgetsARetry has an __init__", "super().__init__()"]),
    ("ForgetsAFlow().add(Step('s'))", TypeError, [".ForgetsAFlow has an __init__", "super().__init__()"]),
    ("ForgetsAGraph().add(Step('s'))", TypeError, [".ForgetsAGraph has an __init__", "super().__init__()"]),
    ("engines.load(ForgetsAFlow())", TypeError, [".ForgetsAFlow has an __init__", "super().__init__()"]),
    ("linear(Power(3))", TypeError, [".Power is a dataclass", "def __post_init__(self):", "super().__init__()"]),
    ("graph(Power(3))", TypeError, [".Power is a dataclass", "def __post_init__(self):", "super().__init__()"]),
    ("engines.load(Power(3))", TypeError, [".Power is a dataclass", "def __post_init__(self):"]),
    # generators and coroutines in place of functions
    ("run(Yields('copy all'))", CANNOT, ["'copy all'", "Yields.execute is a generator", "yield", "return the values"]),
    ("run(Yields('y'), executor='threads')", CANNOT, ["'y'", "generator", "return the values"]),
    ("run(Yields('y'), executor='asyncio')", CANNOT, ["'y'", "generator", "return the values"]),
    ("run(YieldsToUndo('y'))", CANNOT, ["'y'", "YieldsToUndo.revert is a generator"]),
    ("run(YieldsBefore('y'))", CANNOT, ["'y'", "YieldsBefore.pre_execute is a generator"]),
    ("run(YieldsBefore('y'), executor='asyncio')", CANNOT, ["'y'", "pre_execute is a generator"]),
    ("run(YieldsAfterUndoing(print, 'y'))", CANNOT, ["'y'", "post_revert is a generator"]),
    ("run(YieldsBeforeAll(abs, requires=['x'], name='y'), store={'x': 1})", CANNOT, ["'y'", "pre_execute is a gen"]),
    ("run(YieldsLater('y'))", CANNOT, ["'y'", "generator"]),
    ("run(YieldsLater('y'), executor='asyncio')", CANNOT, ["'y'", "generator"]),
    ("run(task.FunctorTask(generate, 'y'))", CANNOT, ["'y'", "generate is a generator"]),
    ("run(task.FunctorTask(dict, 'y', revert=generate))", CANNOT, ["'y'", "generate is a generator"]),
    ("engines.run(linear(controller=YieldsARetry(2, 'y')))", CANNOT, ["'y'", "generator"]),
    ("engines.run(linear(controller=YieldsADecision(2, 'y')))", CANNOT, ["'y'", "on_failure is a generator"]),
    ("run(Later('w'))", CANNOT, ["'w'", "coroutine", "executor='asyncio'"]),
    # what is no task
    ("linear(Step)", TypeError, ["a class has to be called"]),
    ("linear(print)", TypeError, ["not the function print", "taskflowx.as_task(function)"]),
    ("linear(lambda: 1)", TypeError, ["not the function <lambda>", "@as_task"]),
    ("linear([Step('a')])", TypeError, ["flow.add(*tasks)"]),
    ("linear({'a': Step('a')})", TypeError, ["flow.add(*tasks.values())"]),
    ("linear(None)", TypeError, ["has to return it"]),
    ("run(retry.Times(3))", TypeError, ["a retry is given", "retry="]),
    ("taskflowx.run(generate)", TypeError, ["the function generate", "taskflowx.as_task(function)"]),
    ("taskflowx.run(Step)", TypeError, ["the class Step", "Step()"]),
    ("taskflowx.linear('x', {'a': 1})", TypeError, ["flow 'x'", "tasks.values()"]),
    ("taskflowx.linear('x', None)", TypeError, ["flow 'x'", "None is neither a task nor a flow"]),
    ("taskflowx.linear('x', [Step('a'), Step])", TypeError, ["flow 'x'", "the class Step", "Step()"]),
    ("taskflowx.linear('x', Step('a'), retry.Times(2))", TypeError, ["flow 'x'", "Times(...)", "as retry="]),
    # a name that is missing
    ("taskflowx.linear(Step('a'), Step('b'))", TypeError, ["linear takes the name", "cannot be a", "linear('volume'"]),
    ("taskflowx.unordered(generate)", TypeError, ["unordered takes the name", "the function generate"]),
    ("taskflowx.graph([Step('a')])", TypeError, ["graph takes the name", "graph('volume'"]),
    ("taskflowx.linear(None, Step('a'))", TypeError, ["linear takes the name", "None"]),
    # sides of >>
    ("Step('a') | retry.Times(3) >> Step('b')", TypeError, ["Times(...) >> b", "(flow | Times(...)) >> b"]),
    ("Step('a') >> Step", TypeError, ["a >> the class Step", "Step()"]),
    ("Step >> Step('a')", TypeError, ["the class Step >> a", "Step()"]),
    ("Step('a') >> retry.Times(3)", TypeError, ["a >> Times(...)", "flow | retry.Times(3)"]),
    ("Step('a') >> None", TypeError, ["a >> None", "has to return it"]),
    ("Step('a') >> 3", TypeError, ["a >> 3", "taskflowx.as_task(function)"]),
    ("Step('a') >> {Step('b')}", TypeError, ["a >> {b}", "a set has no order", "a tuple or a list"]),
    ("[Step('a'), None] >> Step('b')", TypeError, ["(a, None) >> b", "None is neither"]),
    ("Step('a') >> Step('b') >> (Step('c'), 5)", TypeError, ["a >> b >> (c, 5)", "5 is neither"]),
    ("decorated(Step)", TypeError, ["cannot be a class, Step", "Step(...)"]),
    ("decorated(int)", TypeError, ["cannot be a class, int", "a function may call it"]),
    ("decorated(Step('a'))", TypeError, ["cannot be a task, 'a'", "as it is"]),
    ("decorated(decorated(generate))", TypeError, ["cannot be a task, 'generate'"]),
    ("decorated(Methods.__dict__['of_class'])", TypeError, ["classmethod", "as_task(cls.of_class)"]),
    ("decorated(Methods.of_object)", TypeError, ["'Methods.of_object' takes 'self' first", "as_task(thing.method)"]),
    ("decorated(print, revert=3)", ValueError, ["Function to use for reverting must be callable"]),
    ("decorated(print, provides=('q', 'r', 'q'))", ValueError, ["provides= of 'print'", "'q' twice"]),
    # settings of calls
    ("Fetch('f', timeout=0)", ValueError, ["timeout= of task 'f'", "more than 0", "leave it out"]),
    ("Fetch('f', timeout=float('nan'))", ValueError, ["timeout= of task 'f'", "nan"]),
    ("Fetch('f', revert_timeout='5')", TypeError, ["revert_timeout= of task 'f'", "a number of seconds"]),
    ("Fetch('f', tiemout=5)", TypeError, ["task 'f'", "'tiemout'", "did you mean 'timeout'?"]),
    ("decorated(None, timeuot=5)", TypeError, ["'timeuot'", "'timeout'"]),
    ("Fetch('f', retry=3)", TypeError, ["retry= of task 'f'", "taskflowx.retry.Times(3)"]),
    ("Fetch('f', retry=retry.Times)", TypeError, ["retry= of task 'f'", "taskflowx.retry.Times(3)"]),
    ("Fetch('f', revert_retry=retry.ForEach([1]))", TypeError, ["revert_retry= of task 'f'", "Times(3, delay=1)"]),
    ("Fetch('f', limits='db')", TypeError, ["limits= of task 'f'", "in a tuple such as ('db',)"]),
    ("Fetch('f', limits={'db': 0})", ValueError, ["task 'f'", "'db'", "a whole number from 1"]),
    ("Fetch('f', limits=['{uri}'])", ValueError, ["task 'f'", "'{uri}'", "'uri'", "['url', 'timeout']"]),
    ("Fetch('f', on_unknown='redo')", ValueError, ["on_unknown= of task 'f'", "'repeat', 'undo', 'ask'"]),
    ("Fetch('f', on_unknown='undo')", ValueError, ["task 'f'", "has none: write one", "'repeat' or 'ask'"]),
    ("Fetch('f', strict_timeout=True)", ValueError, ["strict_timeout= of task 'f'", "add timeout="]),
    ("run(decorated(print, name='p', on_unknown='undo'))", ValueError, ["task 'p'", "has none: write one"]),
    ("type('K', (Fetch,), {'default_timeout': -1})", ValueError, ["default_timeout of class K", "more than 0"]),
    (
        "type('K', (Fetch,), {'find_outcome': lambda self: 1})",
        ValueError,
        ["find_outcome of class K", "idempotency_key"],
    ),
    (
        "type('K', (Fetch,), {'find_outcome': lambda self, idempotency_key, uri: 1})",
        ValueError,
        ["find_outcome of class K", "'uri' that nobody gives", "['url', 'timeout']"],
    ),
    ("linear_flow.Flow('f', timeout=0)", ValueError, ["timeout= of flow 'f'", "more than 0"]),
    ("graph_flow.Flow('f', strict_timeout=True)", ValueError, ["strict_timeout= of flow 'f'", "add timeout="]),
    ("retry.Times(3, 'r', delay=-1)", ValueError, ["delay= of Times retry 'r'", "0 or more"]),
    ("retry.Times(3, backoff=2)", ValueError, ["backoff= of Times retry", "add delay="]),
    ("retry.Times(3, 'r', retry_on=404)", TypeError, ["retry_on= of Times retry 'r'", "exception class, its name"]),
    ("retry.Times(3, 'r', dleay=1)", TypeError, ["Times retry 'r'", "'dleay'", "did you mean 'delay'?"]),
    ("retry.again(after=-1)", ValueError, ["retry.again", "0 or more"]),
    (
        "run(Step('a', retry=retry.Times(2)), Step('a_retry'))",
        DUPLICATE,
        ["'a_retry'", ("a retry and a task", "a task and a retry"), "give one of them a name"],
    ),
    # failures say where
    ("run(Fails('bad one'))", ValueError, ["no such name", "task 'bad one'", "flow 'f'", "serial"]),
    (
        "engines.run(linear(Fails('bad'), controller=retry.Times(2, 'r')))",
        ValueError,
        ["task 'bad'", "attempt 2 of 2"],
    ),
]


def text_of(error):
    return "\n".join([str(error), *getattr(error, "__notes__", ())])


@pytest.mark.parametrize(("program", "kind", "words"), MISTAKES, ids=[row[0] for row in MISTAKES])
def test_a_mistake_is_told_with_the_way_out(program, kind, words):
    RAN.clear()
    with pytest.raises(kind) as caught:
        eval(program, NAMES)  # noqa: S307 - written above
    text = text_of(caught.value)
    for word in words:
        choices = word if isinstance(word, tuple) else (word,)
        assert any(one in text for one in choices), text
    assert not RAN or kind is ValueError


def test_there_are_many_rows():
    assert len(MISTAKES) >= 80


# -- what is right all the same ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Good(task.Task):
    default_provides = "power"
    exponent: int = 2
    name: str = None

    def __post_init__(self):
        super().__init__()

    def execute(self, exponent=5):
        return self.exponent**exponent


@pytest.mark.parametrize("executor", ["serial", "threads", "processes"])
@pytest.mark.parametrize("pattern", [linear_flow, unordered_flow, graph_flow])
def test_a_dataclass_is_a_task(executor, pattern):
    same = Good(3, "a"), Good(3, "a")
    assert same[0] == same[1]
    assert hash(same[0]) == object.__hash__(same[0])
    flow = pattern.Flow("f").add(
        Good(
            3,
            "a",
        ),
        Good(3, "b"),
        Good(4),
    )
    engine = engines.load(flow, executor=executor)
    engine.run()
    assert [engine.storage.get(name) for name in ("a", "b", f"{__name__}.Good")] == [243, 243, 1024]


def test_a_class_with_an_equality_of_its_own_is_a_task():
    class Equal(Step):  # noqa: PLW1641 - that is what it is about
        def __eq__(self, other):
            return True

    RAN.clear()
    run(Equal("a"), Equal("b"))
    assert RAN == ["a", "b"]


def test_injected_values_that_may_be_taken_are_accepted():
    class Open(task.Task):
        def execute(self, **kwargs):
            return kwargs

    class OpenToUndo(Step):
        def revert(self, **kwargs):
            pass

    for made in (
        Open("o", inject={"anything": 1}),
        OpenToUndo("o", inject={"anything": 1}),
        Undo("u", inject={"token": 1}),
        Fetch("f", inject={"link": 1}, rebind={"url": "link"}),
        Fetch("f", inject={"timeout": 1}, ignore_list=["timeout"]),
        task.MapFunctorTask(abs, ["a", "b"], inject={"a": 1}),
    ):
        assert made.inject


def test_a_map_over_a_function_that_makes_generators_stays():
    def up_to(number):
        yield from range(number)

    flow = linear(task.MapFunctorTask(up_to, ["a", "b"], provides="all"))
    assert [list(one) for one in engines.run(flow, store={"a": 1, "b": 2})["all"]] == [[0], [0, 1]]


@pytest.mark.parametrize("options", [{"executor": "threads"}, {"executor": "processes"}])
def test_the_serial_engine_says_that_it_leaves_an_executor_aside(options, caplog):
    engines.load(linear(Step("s")), engine="serial", **options)
    [record] = caplog.records
    assert "engine='serial'" in record.getMessage()
    assert f"executor={options['executor']!r}" in record.getMessage()


@pytest.mark.parametrize("options", [{}, {"executor": "serial"}, {"max_workers": 1}])
def test_the_serial_engine_says_nothing_where_nothing_is_left_aside(options, caplog):
    engines.load(linear(Step("s")), engine="serial", **options)
    assert not caplog.records


def test_a_class_that_was_typed_in_needs_cloudpickle(monkeypatch):
    monkeypatch.setattr(pickling, "main_is_file", lambda: False)
    monkeypatch.setattr(pickling, "_cloudpickle", lambda: None)
    typed = type("Typed", (Step,), {"__module__": "__main__"})
    with pytest.raises(exceptions.CompilationFailure, match=r"Atom 'typed' .* install cloudpickle"):
        run(typed("typed"), executor="processes")
