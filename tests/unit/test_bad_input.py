"""Wrong arguments: what each call is refused with. One row is a call, the type of the error, and a part of its message.

A refusal names the argument, says what is accepted and shows what was given, and it comes before anything runs.
What TaskFlow accepts and services use is in the second table, and is never refused.
"""

# The calls are written as text, so that they can be read in the names of the tests.
# ruff: noqa: F401

from __future__ import annotations

import enum
import functools
import logging
import types
from unittest import mock

import pytest

from taskflowx import deciders, engines, exceptions, flow as flows, formatters, retry, storage, task
from taskflowx.exceptions import (
    CompilationFailure,
    DependencyFailure,
    Duplicate,
    InvalidFormat,
    InvalidState,
    MissingDependencies,
    NotFound,
)
from taskflowx.listeners import capturing, claims, logging as loggers, printing, timing
from taskflowx.patterns import graph_flow, linear_flow, unordered_flow
from taskflowx.persistence import backends, models
from taskflowx.persistence.backends import impl_dir, impl_memory
from taskflowx.types import latch, notifier, timing as timeouts, tree
from taskflowx.types.failure import Failure

RAN = []


class Work(task.Task):
    """Needs nothing; notes that it ran."""

    default_provides = "done"

    def execute(self, seed=1):
        RAN.append(self.name)
        return seed


class Need(task.Task):
    def execute(self, x, y=1):
        RAN.append(self.name)


class Open(task.Task):
    def execute(self, x, **rest):
        RAN.append(self.name)
        return rest


class Undo(Work):
    def revert(self, z, **rest):
        RAN.append(self.name)


class ByPosition(task.Task):
    def execute(self, x, /, y): ...


class Later(task.Task):
    async def execute(self): ...


class Hooked(Work):
    async def post_revert(self): ...


async def later(*args, **kwargs): ...


def double(x):
    return 2 * x


def add(x, y):
    return x + y


def yes(history):
    return True


def told(event_type, details): ...


def a_flow(*members, controller=None):
    return linear_flow.Flow("f", controller).add(*(members or (Work("w"),)))


def graph(*members):
    return graph_flow.Flow("g").add(*members)


def engine(*members, controller=None, **options):
    return engines.load(a_flow(*members, controller=controller), **options)


def record():
    """The storage of an engine that is ready to run."""
    made = engine(Work("w"), controller=retry.Times(2, "r"))
    made.compile()
    made.prepare()
    return made.storage


def stored():
    """A connection to a store."""
    return impl_memory.MemoryBackend().get_connection()


def stored_in_sql():
    """A connection to a database that is not asked for anything yet."""
    return backends.fetch("sqlite://").get_connection()


def a_failure():
    return Failure.from_exception(ValueError("v"))


def a_detail():
    return models.FlowDetail("f", "id")


def kind(name, base=Work, **attributes):
    return type(name, (base,), attributes)


A, B = Work("a", provides="of a"), Work("b", provides="of b")
NAMES = globals()

NAMES_WANTED = "should be a name (str) or an iterable of names, not"
ADDED = 'Only atoms (tasks) and flows can be added to "linear_flow.Flow: f(len=0)", not'

REFUSED = {
    "what a task declares": [
        ("Need(requires=5)", TypeError, f"requires {NAMES_WANTED} 5"),
        ("Need(requires=[5])", TypeError, f"requires {NAMES_WANTED} [5]"),
        ("Need(requires=[['x']])", TypeError, f"requires {NAMES_WANTED} [['x']]"),
        ("Need(requires=b'x')", TypeError, f"requires {NAMES_WANTED} b'x'"),
        ("Need(requires=['q'])", ValueError, f"Extra arguments given to atom {__name__}.Need: ['q']"),
        ("Need(auto_extract=False)", ValueError, f"Missing arguments for atom {__name__}.Need: ['x']"),
        ("Need(rebind=5)", TypeError, "Invalid rebind value '5' (<class 'int'>)"),
        ("Need(rebind='x')", TypeError, "Invalid rebind value 'x' (<class 'str'>)"),
        ("Need(rebind={'x'})", TypeError, "Invalid rebind value '{'x'}' (<class 'set'>)"),
        ("Need(rebind={'x': 5})", TypeError, "Each stored name in rebind={'x': 5} must be a str, not 5"),
        ("Need(rebind={'x': None})", TypeError, "Each stored name in rebind={'x': None} must be a str, not None"),
        ("Need(rebind=[5])", TypeError, "Each stored name in rebind=[5] must be a str, not 5"),
        ("Open(rebind=['a', 5])", TypeError, "Each stored name in rebind=['a', 5] must be a str, not 5"),
        ("Need(rebind={'q': 'x'})", ValueError, f"Extra arguments given to atom {__name__}.Need: ['q']"),
        ("Need(rebind={5: 'x'})", ValueError, f"Extra arguments given to atom {__name__}.Need: [5]"),
        ("Need(rebind=['a', 'b'])", ValueError, f"Extra arguments given to atom {__name__}.Need: ['b']"),
        ("Need(revert_rebind=5)", TypeError, "Invalid rebind value '5' (<class 'int'>)"),
        ("Undo(revert_rebind={'z': 5})", TypeError, "Each stored name in revert_rebind={'z': 5} must be a str, not 5"),
        ("Need(revert_requires=5)", TypeError, f"revert_requires {NAMES_WANTED} 5"),
        ("Need(ignore_list=5)", TypeError, f"ignore_list {NAMES_WANTED} 5"),
        ("Need(ignore_list=[5])", TypeError, f"ignore_list {NAMES_WANTED} [5]"),
        ("Need(inject=5)", TypeError, "inject must be a dict of name -> value, not 5"),
        ("Need(inject=[('x', 1)])", TypeError, "inject must be a dict of name -> value, not [('x', 1)]"),
        ("Need(inject={5: 1})", TypeError, "Each name in inject must be a str, not 5"),
        ("kind('K', Need, inject='x')()", TypeError, "inject must be a dict of name -> value, not 'x'"),
        ("Work(provides=5)", TypeError, "Atom provides parameter should be str, set or tuple/list, not 5"),
        ("Work(provides=b'x')", TypeError, "Atom provides parameter should be str, set or tuple/list, not b'x'"),
        ("Work(provides=[5])", TypeError, "Atom provides parameter should hold names (str), not 5 in [5]"),
        ("Work(provides=[['a']])", TypeError, "Atom provides parameter should hold names (str), not ['a'] in [['a']]"),
        ("Work(provides={5: 'k'})", TypeError, "Atom provides parameter should hold names (str), not 5 in {5: 'k'}"),
        (
            "Work(provides={'a': (1, [2])})",
            TypeError,
            "The key of 'a' in provides={'a': (1, [2])} must be an index, or a key of a dict, not (1, [2])",
        ),
        (
            "kind('K', default_provides=5)()",
            TypeError,
            "Atom provides parameter should be str, set or tuple/list, not 5",
        ),
        (
            "ByPosition()",
            ValueError,
            "ByPosition.execute takes ['x'] by position only, and arguments are passed by name",
        ),
        ("Work(nope=1)", TypeError, "got an unexpected keyword argument 'nope'"),
        ("task.Task()", TypeError, "Can't instantiate taskflowx.task.Task without an implementation of its 'execute'"),
    ],
    "tasks made from functions": [
        ("task.FunctorTask(5)", ValueError, "Function to use for executing must be callable, not 5"),
        ("task.FunctorTask(None)", ValueError, "Function to use for executing must be callable, not None"),
        ("task.FunctorTask(double, revert=5)", ValueError, "Function to use for reverting must be callable, not 5"),
        ("task.FunctorTask(double, version=5)", TypeError, "version must be a tuple of numbers such as (1, 0), not 5"),
        (
            "task.FunctorTask(double, requires=['q'])",
            ValueError,
            f"Extra arguments given to atom {__name__}.double: ",
        ),
        ("task.FunctorTask(len)", ValueError, "builtins.len takes ['obj'] by position only"),
        ("task.MapFunctorTask(5, ['a'])", ValueError, "Function to use for map must be callable, not 5"),
        (
            "task.MapFunctorTask(double, 'a')",
            TypeError,
            "<class 'str'> type was provided for requires. Requires must be",
        ),
        ("task.MapFunctorTask(double, 5)", TypeError, "<class 'int'> type was provided for requires. Requires must be"),
        ("task.MapFunctorTask(double, [5])", TypeError, f"requires {NAMES_WANTED} [5]"),
        ("task.MapFunctorTask(add, ['a'])", ValueError, "2 arguments were provided. Map functor must take exactly 1"),
        ("task.MapFunctorTask(double, ['a'], rebind=5)", TypeError, "Invalid rebind value '5' (<class 'int'>)"),
        ("task.ReduceFunctorTask(5, ['a', 'b'])", ValueError, "Function to use for reduce must be callable, not 5"),
        (
            "task.ReduceFunctorTask(double, ['a', 'b'])",
            ValueError,
            "1 arguments were provided. Reduce functor must take",
        ),
        ("task.ReduceFunctorTask(add, ['a'])", ValueError, "1 elements were provided. Requires must have at least 2"),
        ("task.ReduceFunctorTask(add, 5)", TypeError, "<class 'int'> type was provided for requires. Requires must be"),
    ],
    "what a task is told and tells": [
        ("Work().update_progress('x')", TypeError, "progress must be a number from 0.0 to 1.0, not 'x'"),
        ("Work().update_progress(None)", TypeError, "progress must be a number from 0.0 to 1.0, not None"),
        ("Work().notifier.register('nope', told)", ValueError, "Disallowed event type 'nope' can not have a callback"),
        ("Work().notifier.register('update_progress', 5)", ValueError, "Event callback must be callable, not 5"),
    ],
    "retries": [
        (
            "retry.Retry()",
            TypeError,
            "Can't instantiate taskflowx.retry.Retry without an implementation of its 'on_fail",
        ),
        ("retry.Times('3')", TypeError, "attempts must be a number of attempts, not '3'"),
        ("retry.Times(-1)", ValueError, "attempts must be a number of attempts, not -1"),
        ("retry.Times(float('nan'))", ValueError, "attempts must be a number of attempts, not nan"),
        (
            "retry.Times(2, retry_on=lambda: True)",
            TypeError,
            "retry_on= of Times retry must be an exception class, its",
        ),
        ("retry.Times(2, give_up_on=[OSError, add])", TypeError, "give_up_on= of Times retry must be an exception cl"),
        ("retry.Times(None)", TypeError, "attempts must be a number of attempts, not None"),
        ("retry.Times(2, provides=5)", TypeError, "Atom provides parameter should be str, set or tuple/list, not 5"),
        ("retry.ForEach(5)", TypeError, "values must be an iterable of what is to be tried, not 5"),
        ("retry.ForEach(None)", TypeError, "values must be an iterable of what is to be tried, not None"),
        (
            "engines.run(a_flow(controller=retry.ParameterizedForEach()), store={'values': 5})",
            TypeError,
            "values must be an iterable of what is to be tried, not 5",
        ),
        ("retry.History([]).outcomes_iter('x')", TypeError, "index must be the number of an attempt, or None for all"),
        ("retry.History([]).caused_by(OSError, 'x')", TypeError, "index must be the number of an attempt, or None for"),
    ],
    "flows": [
        ("linear_flow.Flow('f', 5)", TypeError, "The retry of flow 'f' must be a taskflowx.retry.Retry, not 5"),
        (
            "linear_flow.Flow('f', retry.Times)",
            TypeError,
            "The retry of flow 'f' must be a taskflowx.retry.Retry, not <cla",
        ),
        ("a_flow(5)", TypeError, f"{ADDED} 5 (<class 'int'>)"),
        ("a_flow(None)", TypeError, f"{ADDED} None (<class 'NoneType'>)"),
        ("a_flow('w')", TypeError, f"{ADDED} 'w' (<class 'str'>)"),
        ("a_flow([A, B])", TypeError, "; tasks in a row are added one by one, as in flow.add(*tasks)"),
        ("a_flow(Work)", TypeError, "; a class has to be called to make one of it"),
        (
            "a_flow(double)",
            TypeError,
            "; a plain function becomes a task by @as_task, or by taskflowx.as_task(function)",
        ),
        ("unordered_flow.Flow('u').add(5)", TypeError, 'can be added to "unordered_flow.Flow: u(len=0)", not 5'),
        ("graph(5)", TypeError, 'can be added to "graph_flow.Flow: g(len=0)", not 5'),
        ("(lambda f: f.add(f))(a_flow())", ValueError, 'Flow "linear_flow.Flow: f(len=1)" cannot be added to itself'),
        ("graph(A).add(B, nope=1)", TypeError, "got an unexpected keyword argument 'nope'"),
    ],
    "links": [
        ("graph(A).link(A, B)", ValueError, "Node '\"b==1.0\"' not found to link to"),
        ("graph(B).link(A, B)", ValueError, "Node '\"a==1.0\"' not found to link from"),
        ("graph(A).link('a', A)", ValueError, "Node 'a' not found to link from"),
        ("graph(A).link([], A)", ValueError, "Node '[]' not found to link from"),
        ("graph(A).link(A, A)", DependencyFailure, "The cycle is: a -> a"),
        ("graph(A, B).link(A, B).link(B, A)", DependencyFailure, "The cycle is: b -> a -> b"),
        ("graph(A, B).link(A, B, decider=5)", ValueError, "Decider boolean callback must be callable, not 5"),
        (
            "engines.run(graph(A, B).link(A, B, decider=later))",
            CompilationFailure,
            f"The decider before 'b' cannot be asked: {__name__}.later is a coroutine function, which only exec",
        ),
        (
            "graph(A, B).link(A, B, decider=lambda: 1)",
            ValueError,
            "must be callable as decider(history=...): it takes no",
        ),
        ("graph(A, B).link(A, B, decider=add)", ValueError, "decider(history=...): it requires ['x', 'y'] too"),
        ("graph(A, B).link(A, B, decider_depth='all')", ValueError, "Decider depth requires a decider to be provided"),
        ("graph(A, B).link(A, B, yes, 'far')", ValueError, "Unexpected decider depth value, one of ['ALL', 'ATOM', "),
        (
            "graph(A, B).link(A, B, yes, 5)",
            TypeError,
            "Unexpected desired depth type, string type expected, not <class",
        ),
        ("graph_flow.TargetedFlow('t').set_target(A)", ValueError, "Node '\"a==1.0\"' not found"),
        ("graph_flow.TargetedFlow('t').set_target([])", ValueError, "Node '[]' not found"),
        (
            "deciders.Depth.translate('far')",
            ValueError,
            "Unexpected decider depth value, one of ['ALL', 'ATOM', 'FLOW'",
        ),
        ("deciders.pick_widest(5)", TypeError, "depths must be an iterable of depths or their names, not 5"),
        ("deciders.pick_widest([])", ValueError, "depths must not be empty"),
    ],
    "what cannot be compiled": [
        ("engines.load(5).compile()", TypeError, "Unknown object '5' (<class 'int'>) requested to compile"),
        (
            "engines.load(Work).compile()",
            TypeError,
            "What can be run are tasks and flows of them; a class has to be called",
        ),
        ("engines.run([A])", TypeError, "tasks and flows of them; tasks in a row are added one by one"),
        ("engines.run(a_flow(retry.Times(2, 't')))", TypeError, "a retry is given to its flow as retry="),
        (
            "engines.run(a_flow(controller=A))",
            TypeError,
            'The retry of flow "linear_flow.Flow: f(len=1)" must be a tas',
        ),
        ("engines.run(a_flow(Work('a'), Work('a')))", Duplicate, "Atoms with duplicate names found: ['a']"),
        (
            "engines.run(a_flow(Work(name=5)))",
            TypeError,
            '.Work "5==1.0"> must be a str, not 5',
        ),
        ("engines.run(a_flow(Work(name=['a'])))", TypeError, "must be a str, not ['a'] (<class 'list'>)"),
        (
            "engines.run(a_flow(kind('K', priority='high')('w')))",
            TypeError,
            'The priority of "w==1.0" must be a number',
        ),
        (
            "engines.run(a_flow(Later('w')))",
            CompilationFailure,
            f"Atom 'w' cannot be run: {__name__}.Later.execute is a",
        ),
        (
            "engines.run(a_flow(Hooked('w')), executor='threads')",
            CompilationFailure,
            "Hooked.post_revert is a coroutine function, which only executor='asyncio' awaits; make it",
        ),
        (
            "engines.load(a_flow()).atom_notifier.register('*', later)",
            ValueError,
            "Event callback must be a plain function and no coroutine function, which only executor='asyncio' awaits,",
        ),
        (
            "engines.run(a_flow(task.FunctorTask(later)))",
            CompilationFailure,
            "later is a coroutine function, which only executor='asyncio' awaits; make it",
        ),
        (
            "engines.run(a_flow(Need('n')))",
            MissingDependencies,
            "requires ['x'] but no other entity produces said requi",
        ),
        ("engines.run(flows.Flow('f'))", NotImplementedError, '"flow.Flow: f(len=0)" is of no pattern'),
    ],
    "engines.load": [
        (
            "engines.load(a_flow(), engine='nope')",
            NotFound,
            "Could not find engine 'nope', the known ones are ['default'",
        ),
        (
            "engines.load(a_flow(), engine=5)",
            NotFound,
            "Could not find engine '5', the known ones are ['default'",
        ),
        ("engines.load(a_flow(), namespace='nope')", NotFound, "Could not find engine 'default', the known ones are"),
        (
            "engines.load(a_flow(), namespace=5)",
            TypeError,
            "namespace must be the name of a group of entry points, not 5",
        ),
        ("engines.load(a_flow(), store=5)", TypeError, "store must be a dict of name -> value, not 5"),
        ("engines.load(a_flow(), store='ab')", TypeError, "store must be a dict of name -> value, not 'ab'"),
        ("engines.load(a_flow(), store={5: 1})", TypeError, "Each name in store must be a str, not 5"),
        ("engines.load(a_flow(), flow_detail=5)", TypeError, "flow_detail must be a FlowDetail, not 5"),
        ("engines.load(a_flow(), book=5)", TypeError, "book must be a LogBook, not 5"),
        (
            "engines.load(a_flow(), backend=5)",
            TypeError,
            "A store is described by a dict or by its connection string, not",
        ),
        ("engines.load(a_flow(), backend='nope')", NotFound, "Could not find backend nope"),
        (
            "engines.load(a_flow(), backend={})",
            ValueError,
            "The settings of a store need 'connection', a string such as",
        ),
    ],
    "options of engines": [
        (
            "engine(nope=1)",
            ValueError,
            "Unknown engine options ['nope'], the known ones are ['clock', 'commit_interval', ",
        ),
        ("engine(durability='x')", ValueError, "durability must be one of 'strict', 'group', 'exit', not 'x'"),
        ("engine(commit_interval=0)", ValueError, "commit_interval must be a number of seconds, at least 0.001, not 0"),
        ("engine(commit_timeout='x')", TypeError, "commit_timeout must be a number of seconds, at least 0, not 'x'"),
        ("engine(lease=0)", ValueError, "lease must be a number of seconds, at least 1, not 0"),
        ("engine(executor='nope')", ValueError, "Unknown executor string 'nope' expected one of ["),
        (
            "engine(executor=5)",
            TypeError,
            "Unknown executor '5' (<class 'int'>) expected an instance of concurrent.futures",
        ),
        ("engine(executor=Work)", TypeError, "expected an instance of concurrent.futures.Executor or one of ["),
        ("engine(max_workers=0)", ValueError, "max_workers must be a positive number of workers, not 0"),
        ("engine(max_workers='2')", ValueError, "max_workers must be a positive number of workers, not '2'"),
        ("engine(on_revert_failure='x')", ValueError, "on_revert_failure must be one of 'halt', 'continue', not 'x'"),
        ("engine(on_revert_failure=[])", ValueError, "on_revert_failure must be one of 'halt', 'continue', not []"),
        ("engine(never_resolve='perhaps')", ValueError, "never_resolve must be a bool, or one of ['0', '1', 'f', "),
        ("engine(never_resolve=[])", TypeError, "never_resolve must be a bool, or one of ['0', '1', 'f', "),
        ("engine(defer_reverts='x')", ValueError, "defer_reverts must be a bool, or one of"),
        ("engine(inject_transient=1.5)", TypeError, "inject_transient must be a bool, or one of"),
        ("engine(gather_statistics='x')", ValueError, "gather_statistics must be a bool, or one of"),
        ("engine(inline='x')", ValueError, "inline must be a bool, or one of"),
    ],
    "the life of an engine": [
        ("engine().run(timeout='x')", TypeError, "timeout must be a number of seconds, zero or more, or None, not 'x'"),
        ("engine().run(timeout=[1])", TypeError, "timeout must be a number of seconds, zero or more, or None, not [1]"),
        ("engine().run(timeout=-1)", ValueError, "timeout must be a number of seconds, zero or more, or None, not -1"),
        (
            "engine().run(timeout=float('nan'))",
            ValueError,
            "timeout must be a number of seconds, zero or more, or None",
        ),
        (
            "list(engine().run_iter(timeout='x'))",
            TypeError,
            "timeout must be a number of seconds, zero or more, or None",
        ),
        (
            "list(engine().run_iter(timeout=-1))",
            ValueError,
            "timeout must be a number of seconds, zero or more, or None",
        ),
        ("engine().prepare()", InvalidState, "Can not prepare an engine which has not been compiled"),
        ("engine().validate()", InvalidState, "Can not validate an engine which has not been compiled"),
        ("engine().reset()", InvalidState, "Can not reset an engine which has not been compiled"),
        ("engine().suspend()", InvalidState, "Can not suspend an engine which has not been compiled"),
    ],
    "factories of flows": [
        ("engines.load_from_factory(lambda: 1)", ValueError, f"is not reimportable by name {__name__}.<lambda>"),
        ("engines.load_from_factory('nope.nope')", ImportError, "Could not import 'nope.nope'"),
        ("engines.load_from_factory('os.getcwd').compile()", TypeError, "(<class 'str'>) requested to compile"),
        (
            "engines.load_from_factory('os.getcwd', 5)",
            TypeError,
            "factory_args must be an iterable of positional arguments",
        ),
        (
            "engines.load_from_factory('os.getcwd', 'ab')",
            TypeError,
            "factory_args must be an iterable of positional argum",
        ),
        (
            "engines.load_from_factory('os.getcwd', (), 5)",
            TypeError,
            "factory_kwargs must be a dict of name -> value, not 5",
        ),
        ("engines.save_factory_details(5, a_flow, (), {})", TypeError, "flow_detail must be a FlowDetail, not 5"),
        (
            "engines.save_factory_details(a_detail(), 5, (), {})",
            ValueError,
            "Flow factory 5 is not reimportable by name",
        ),
        ("engines.save_factory_details(a_detail(), 'os.getcwd', 5, {})", TypeError, "factory_args must be an iterable"),
        ("engines.flow_from_detail(5)", TypeError, "flow_detail must be a FlowDetail, not 5"),
        (
            "engines.flow_from_detail(a_detail())",
            ValueError,
            "Cannot reconstruct flow f id: no factory information saved.",
        ),
        ("engines.load_from_detail(None)", TypeError, "flow_detail must be a FlowDetail, not None"),
    ],
    "storage": [
        ("storage.Storage(5)", TypeError, "flow_detail must be a FlowDetail, not 5"),
        ("storage.Storage(models.FlowDetail)", TypeError, "flow_detail must be a FlowDetail, not <class"),
        ("record().ensure_atoms(5)", TypeError, "atoms must be an iterable of atoms, not 5"),
        ("record().ensure_atom(5)", TypeError, "Unknown atom '5' (<class 'int'>) requested to ensure"),
        ("record().get('nope')", NotFound, "Unknown atom name 'nope'"),
        ("record().get([])", NotFound, "Unknown atom name '[]'"),
        ("record().get_atom_state(5)", NotFound, "Unknown atom name '5'"),
        ("record().get_atoms_states(5)", TypeError, "atom_names must be an iterable of names of atoms, not 5"),
        ("record().get_atoms_states(['nope'])", NotFound, "Unknown atom name 'nope'"),
        ("record().set_atom_state('nope', 'RUNNING')", NotFound, "Unknown atom name 'nope'"),
        ("record().set_atom_state('w', 'NOPE')", ValueError, "state must be one of 'PENDING', 'RUNNING', 'SUCCESS', "),
        ("record().set_atom_state('w', [])", ValueError, "state must be one of 'PENDING', 'RUNNING', 'SUCCESS', "),
        (
            "record().set_atom_intention('w', 'NOPE')",
            ValueError,
            "intention must be one of 'EXECUTE', 'IGNORE', 'REVERT'",
        ),
        ("record().save('nope', 1)", NotFound, "Unknown atom name 'nope'"),
        ("record().save('w', 1, 'NOPE')", ValueError, "state must be one of 'PENDING', 'RUNNING', 'SUCCESS', "),
        (
            "record().save('w', 1, 'FAILURE')",
            TypeError,
            "The result of atom 'w' in state FAILURE must be a Failure, not 1",
        ),
        ("record().reset('w', 'NOPE')", ValueError, "state must be one of 'PENDING', 'RUNNING', 'SUCCESS', "),
        (
            "record().set_flow_state('NOPE')",
            ValueError,
            "state must be one of 'PENDING', 'RUNNING', 'SUCCESS', 'FAILURE', ",
        ),
        ("record().change_flow_state('NOPE')", InvalidState, "Flow transition from 'PENDING' to 'NOPE' is not allowed"),
        (
            "record().update_atom_metadata('w', 5)",
            TypeError,
            "update_with must be a dict, or pairs of key and value, not",
        ),
        ("record().update_flow_metadata(5)", TypeError, "update_with must be a dict, or pairs of key and value, not 5"),
        ("record().set_task_progress('w', 'x')", TypeError, "progress must be a number from 0.0 to 1.0, not 'x'"),
        ("record().set_task_progress('w', 0.5, 5)", TypeError, "details must be a dict, not 5"),
        ("record().set_task_progress('nope', 0.5)", NotFound, "Unknown atom name 'nope'"),
        (
            "record().save_retry_failure('w', 'w', a_failure())",
            TypeError,
            "Atom 'w' is not of the expected type: taskflow",
        ),
        (
            "record().cleanup_retry_history('w', 'PENDING')",
            TypeError,
            "Atom 'w' is not of the expected type: taskflowx.p",
        ),
        (
            "record().cleanup_retry_history('r', 'NOPE')",
            ValueError,
            "state must be one of 'PENDING', 'RUNNING', 'SUCCESS'",
        ),
        (
            "record().get_retry_history('w')",
            TypeError,
            "Atom 'w' is not of the expected type: taskflowx.persistence.mod",
        ),
        ("record().get_revert_result('w')", NotFound, "Result for atom 'w' revert is not known"),
        ("record().inject(5)", TypeError, "pairs must be a dict of name -> value, not 5"),
        ("record().inject({5: 1})", TypeError, "Each name in pairs must be a str, not 5"),
        ("record().inject_atom_args('w', 5)", TypeError, "pairs must be a dict of name -> value, not 5"),
        ("record().inject_atom_args('nope', {})", NotFound, "Unknown atom name 'nope'"),
        ("record().fetch('nope')", NotFound, "Name 'nope' is not mapped as a produced output by any providers"),
        ("record().fetch([])", TypeError, "name must be the name of a value (str), not []"),
        ("record().fetch('done', many_handler=5)", ValueError, "many_handler must be callable, not 5"),
        ("record().fetch_all(many_handler=5)", ValueError, "many_handler must be callable, not 5"),
        ("record().fetch_mapped_args(5)", TypeError, "args_mapping must be a dict of argument -> stored name, not 5"),
        (
            "record().fetch_mapped_args({'a': 'nope'})",
            NotFound,
            "Name 'nope' is not mapped as a produced output by any",
        ),
        ("record().fetch_mapped_args({}, 'nope')", NotFound, "Unknown atom name 'nope'"),
        (
            "record().fetch_unsatisfied_args('w', 5)",
            TypeError,
            "args_mapping must be a dict of argument -> stored name,",
        ),
    ],
    "the record": [
        ("a_detail().add(5)", TypeError, "A member must be a detail that a FlowDetail can hold, not 5"),
        ("a_detail().merge(5)", TypeError, "fd must be a FlowDetail, not 5"),
        ("a_detail().update(5)", TypeError, "fd must be a FlowDetail, not 5"),
        ("models.LogBook('b').add(5)", TypeError, "A member must be a detail that a LogBook can hold, not 5"),
        ("models.LogBook('b').merge(5)", TypeError, "lb must be a LogBook, not 5"),
        ("models.TaskDetail('w', 'id').update(5)", TypeError, "ad must be a detail of an atom, not 5"),
        (
            "models.TaskDetail('w', 'id').merge(5)",
            exceptions.NotImplementedError,
            "Can only merge with other task details",
        ),
        ("models.TaskDetail.from_dict(5)", TypeError, "data must be a dict that to_dict gave, not 5"),
        ("models.TaskDetail.from_dict({})", KeyError, "data must have the key 'name', and has []"),
        ("models.FlowDetail.from_dict({'name': 'f'})", KeyError, "data must have the key 'uuid', and has ['name']"),
        ("models.LogBook.from_dict(5)", TypeError, "data must be a dict that to_dict gave, not 5"),
        ("models.atom_detail_class('nope')", TypeError, "Unknown atom type 'nope'"),
        ("models.atom_detail_type(5)", TypeError, "Unknown atom '5' (<class 'int'>)"),
        ("backends.fetch(5)", TypeError, "A store is described by a dict or by its connection string, not by 5"),
        ("backends.fetch('nope://x')", NotFound, "Could not find backend nope"),
        ("impl_dir.DirBackend(5)", TypeError, "Configuration dictionary expected not '5' (<class 'int'>)"),
        ("impl_dir.DirBackend({})", ValueError, "Empty path is disallowed"),
        ("impl_dir.DirBackend({'path': 5})", TypeError, "The setting 'path' must be a path, not 5"),
        ("impl_memory.MemoryBackend({'path': 5})", TypeError, "The setting 'path' must be a path, not 5"),
        ("stored().save_logbook(5)", TypeError, "book must be a LogBook, not 5"),
        ("stored().update_flow_details(5)", TypeError, "flow_detail must be a FlowDetail, not 5"),
        (
            "stored().update_atom_details(a_detail())",
            TypeError,
            "atom_detail must be a TaskDetail or RetryDetail, not <",
        ),
        ("stored_in_sql().save_logbook(5)", TypeError, "book must be a LogBook, not 5"),
        ("stored_in_sql().update_flow_details(5)", TypeError, "flow_detail must be a FlowDetail, not 5"),
        ("stored_in_sql().update_atom_details(5)", TypeError, "atom_detail must be a TaskDetail or RetryDetail, not 5"),
        ("stored().get_logbook('nope')", NotFound, "'/books/nope' not found"),
        ("stored().destroy_logbook('nope')", NotFound, "'/books/nope' not found"),
        ("impl_memory.MemoryBackend(5)", TypeError, "Configuration dictionary expected not '5' (<class 'int'>)"),
    ],
    "notifiers": [
        ("notifier.Notifier().register('e', 5)", ValueError, "Event callback must be callable, not 5"),
        (
            "notifier.Notifier().register('e', later)",
            ValueError,
            "Event callback must be a plain function and no coroutine",
        ),
        ("notifier.Notifier().register('e', lambda: 1)", ValueError, "cannot be called with (event_type, details)"),
        (
            "notifier.Notifier().register('e', told, args=5)",
            TypeError,
            "args must be an iterable of further arguments for",
        ),
        (
            "notifier.Notifier().register('e', told, kwargs=5)",
            TypeError,
            "kwargs must be a dict of name -> value, not 5",
        ),
        (
            "notifier.Notifier().register('e', told, kwargs={5: 1})",
            TypeError,
            "Each name in kwargs must be a str, not 5",
        ),
        (
            "notifier.Notifier().register('e', told, kwargs={'details': 1})",
            KeyError,
            "Reserved key 'details' not allowed",
        ),
        (
            "notifier.Notifier().register('e', told, details_filter=5)",
            ValueError,
            "Details filter must be callable, not 5",
        ),
        (
            "notifier.Notifier().register('e', told, details_filter=later)",
            ValueError,
            "Details filter must be a plain func",
        ),
        ("notifier.Notifier().register([], told)", TypeError, "event_type must be hashable, such as a str, not []"),
        ("notifier.RestrictedNotifier(5)", TypeError, "watchable_events must be an iterable of events, not 5"),
        ("notifier.RestrictedNotifier('ab')", TypeError, "watchable_events must be an iterable of events, not 'ab'"),
        (
            "notifier.RestrictedNotifier(['a']).register('b', told)",
            ValueError,
            "Disallowed event type 'b' can not have a",
        ),
        ("notifier.Listener(5)", ValueError, "Event callback must be callable, not 5"),
        ("engine().notifier.register('*', lambda state: 1)", ValueError, "cannot be called with (event_type, details)"),
        ("engine().atom_notifier.register('*', 5)", ValueError, "Event callback must be callable, not 5"),
    ],
    "listeners": [
        ("capturing.CaptureListener(5)", TypeError, "engine must be an engine, not 5"),
        ("printing.PrintingListener(None)", TypeError, "engine must be an engine, not None"),
        (
            "capturing.CaptureListener(engine(), 5)",
            TypeError,
            "task_listen_for must be an iterable of states, or '*' for",
        ),
        (
            "capturing.CaptureListener(engine(), skip_tasks=5)",
            TypeError,
            "skip_tasks must be a name (str) or an iterable",
        ),
        ("capturing.CaptureListener(engine(), values=5)", TypeError, "values must be a list, or None, not 5"),
        (
            "claims.CheckingClaimListener(engine(), 1, 1, 'o', 5)",
            ValueError,
            "Custom 'on_job_loss' handler must be callable",
        ),
        ("loggers.LoggingListener(engine(), log=5)", TypeError, "log must be a logger, or None, not 5"),
        ("loggers.LoggingListener(engine(), level='DEBUG')", TypeError, "level must be the number of a level, such as"),
        (
            "loggers.DynamicLoggingListener(engine(), failure_level='x')",
            TypeError,
            "failure_level must be the number of a",
        ),
        (
            "loggers.DynamicLoggingListener(engine(), fail_formatter=5)",
            TypeError,
            "fail_formatter must be a FailureFormatt",
        ),
        (
            "loggers.DynamicLoggingListener(engine(), mask_inputs_keys=5)",
            TypeError,
            "mask_inputs_keys must be a name (str)",
        ),
        ("timing.PrintingDurationListener(engine(), printer=5)", ValueError, "printer must be callable, not 5"),
        (
            "formatters.FailureFormatter(engine(), 5)",
            TypeError,
            "hide_inputs_outputs_of must be a name (str) or an itera",
        ),
        ("formatters.FailureFormatter(5)", TypeError, "engine must be an engine, not 5"),
        ("formatters.FailureFormatter(engine()).format(5, yes)", TypeError, "fail must be a Failure, not 5"),
        (
            "formatters.FailureFormatter(engine()).format(a_failure(), 5)",
            ValueError,
            "atom_matcher must be callable, not 5",
        ),
    ],
    "failures": [
        ("Failure(5)", TypeError, "exc_info must be what sys.exc_info() gives, or None, not 5"),
        ("Failure((1, 2))", ValueError, "Provided 'exc_info' must contain three elements"),
        ("Failure()", TypeError, "Invalid exception type 'None' (<class 'NoneType'>)"),
        ("Failure(nope=1)", TypeError, "Failure.__init__ got unexpected keyword argument(s): nope"),
        ("Failure(exception_str=5)", TypeError, "exception_str must be the text of the exception, not 5"),
        (
            "Failure(exception_str='', traceback_str=5)",
            TypeError,
            "traceback_str must be the text of the traceback, or Non",
        ),
        (
            "Failure(exception_str='', exc_type_names=5)",
            TypeError,
            "exc_type_names must be an iterable of names of classes",
        ),
        (
            "Failure(exception_str='', exc_type_names='ab')",
            TypeError,
            "exc_type_names must be an iterable of names of cl",
        ),
        (
            "Failure(exception_str='', exc_args=5)",
            TypeError,
            "exc_args must be an iterable of the arguments of the excep",
        ),
        ("Failure(exception_str='', causes=5)", TypeError, "causes must be an iterable of failures, not 5"),
        ("Failure(exception_str='', causes=[5])", TypeError, "Each of causes must be a Failure, not 5"),
        ("Failure.from_exception(5)", TypeError, "Invalid exception type '<class 'int'>' (<class 'type'>)"),
        (
            "Failure.from_exception(KeyboardInterrupt())",
            TypeError,
            "Invalid exception type '<class 'KeyboardInterrupt'>'",
        ),
        ("Failure.from_dict(5)", TypeError, "data must be a dict that to_dict gave, not 5"),
        ("Failure.from_dict({})", ValueError, "Invalid dict version of failure object: None"),
        (
            "Failure.from_dict({**a_failure().to_dict(), 'causes': [5]})",
            TypeError,
            "Each of data['causes'] must be a dict",
        ),
        ("Failure.validate(5)", InvalidFormat, "Failure data not of the expected format: 5 is not of type 'object'"),
        ("Failure.reraise_if_any(5)", TypeError, "failures must be an iterable of Failure, not 5"),
        ("Failure.reraise_if_any([5])", TypeError, "Each of failures must be a Failure, not 5"),
        (
            "Failure.reraise_if_any(a_failure())",
            TypeError,
            "failures must be an iterable of Failure, not <Failure: Val",
        ),
        ("Failure.reraise_if_any({'w': a_failure()})", TypeError, "(of a dict of failures pass its values), not {'w'"),
        ("exceptions.WrappedFailure(5)", TypeError, "failures must be an iterable of Failure, not 5"),
        (
            "exceptions.WrappedFailure([ValueError()])",
            TypeError,
            "Each of failures must be a Failure, not ValueError()",
        ),
    ],
    "errors and small types": [
        (
            "NotFound('m').pformat(indent=-1)",
            ValueError,
            "Provided 'indent' must be greater than or equal to zero instead",
        ),
        ("NotFound('m').pformat(indent='x')", TypeError, "indent must be a whole number, zero or more, not 'x'"),
        ("NotFound('m').pformat(indent_text=5)", TypeError, "indent_text must be a str, not 5"),
        (
            "exceptions.raise_with_cause(ValueError, 'm')",
            ValueError,
            "Subclass of taskflow exception is required, not <class",
        ),
        ("exceptions.raise_with_cause(5, 'm')", ValueError, "Subclass of taskflow exception is required, not 5"),
        ("timeouts.Timeout(-1)", ValueError, "Timeout value must be greater or equal to zero and not '-1'"),
        ("timeouts.Timeout('x')", TypeError, "Timeout value must be a number of seconds, zero or more, not 'x'"),
        ("timeouts.convert_to_timeout('x')", ValueError, "Invalid timeout literal 'x'"),
        ("timeouts.convert_to_timeout([])", ValueError, "Invalid timeout literal '[]'"),
        ("latch.Latch(-1)", ValueError, "Count must be greater than zero"),
        ("tree.Node(5).add(5)", TypeError, "A child must be a Node, not 5"),
    ],
}

ROWS = [pytest.param(*row, id=row[0]) for rows in REFUSED.values() for row in rows]


def evaluate(call):
    """Make the call that a row names; the names are those of this file."""
    return eval(call, NAMES)  # noqa: S307 - the calls are written out above


@pytest.fixture(autouse=True)
def nothing_has_run():
    RAN.clear()
    yield
    RAN.clear()


@pytest.mark.parametrize(("call", "error", "message"), ROWS)
def test_it_is_refused_in_words_before_anything_runs(call, error, message):
    with pytest.raises(error) as refused:
        evaluate(call)
    assert type(refused.value) is error
    assert message in str(refused.value)
    assert RAN == []


def test_there_is_one_row_a_call():
    calls = [row.values[0] for row in ROWS]
    assert len(calls) == len(set(calls)) > 200


# ------------------------------------------------------------------------------------------ what is never refused


class Odd(str):
    """A text of another class, as translated texts are."""

    __slots__ = ()


class Names(enum.StrEnum):
    X = "x"


class SetsItsNameLate(Work):
    def __init__(self, **arguments):
        super().__init__(**arguments)
        self.name = "late"


class SetsItsNameEarly(Work):
    def __init__(self, **arguments):
        self.name = "early"
        super().__init__(**arguments)


ACCEPTED = [
    "engines.run(a_flow(Work('w')), store=[('x', 5)])",
    "record().inject(iter([('x', 5)]))",
    "record().inject_atom_args('w', [('x', 5)])",
    "Work('a b;c,d:e/f')",
    "engines.run(a_flow(Work(Odd('w')), Work(Names.X)))",
    "engines.run(a_flow(SetsItsNameLate(), SetsItsNameEarly()))",
    "Need(requires='x')",
    "Need(requires=('x',))",
    "Need(requires={'x'})",
    "Need(requires={'x': 'whatever'})",
    "Need(requires=(name for name in 'x'))",
    "Need(requires=[])",
    "Need(requires=[Names.X])",
    "Need(rebind={'x': 'a', 'y': 'b'})",
    "Need(rebind=['a'])",
    "Need(rebind=('a', ))",
    "Need(rebind={})",
    "Open(rebind=['a', 'b', 'c'])",
    "Need(rebind={'x': Odd('a')})",
    "Work(provides='a')",
    "Work(provides=('a', 'b'))",
    "Work(provides=['a', 'b'])",
    "Work(provides={'a', 'b'})",
    "Work(provides={'a': 0, 'b': 'key'})",
    "Work(provides=())",
    "Open(inject={'x': object(), 'more': 1})",
    "Need(inject=types.MappingProxyType({'x': 1}))",
    "Need(ignore_list=['x', 'nobody'])",
    "Need(ignore_list='x')",
    "engines.run(a_flow(kind('K', priority=None)('a'), kind('K', priority=True)('b'), kind('K', priority=1.5)('c')))",
    "task.FunctorTask(mock.Mock(), name='m')",
    "task.FunctorTask(functools.partial(add, 1), name='p')",
    "task.FunctorTask(print, version='2.0')",
    "task.MapFunctorTask(len, (name for name in 'ab'))",
    "task.MapFunctorTask(double, {'a', 'b'})",
    "retry.Times(0)",
    "retry.Times(1.5)",
    "retry.ForEach('abc')",
    "retry.ForEach({1, 2})",
    "linear_flow.Flow(5)",
    "a_flow(mock.Mock(), mock.MagicMock(), mock.NonCallableMock())",
    "linear_flow.Flow('f', mock.Mock())",
    "graph(A, B).link(A, B, decider=mock.Mock())",
    "graph(A, B).link(A, B, decider=lambda **anything: 1)",
    "engines.load(mock.MagicMock())",
    "engines.load(a_flow(), store=types.MappingProxyType({'a': 1}))",
    "engines.load(a_flow(), store={Names.X: 1, Odd('o'): 2})",
    "engines.load(a_flow(), store={})",
    "engines.load(a_flow(), flow_detail=a_detail(), book=models.LogBook('b'))",
    "engine(never_resolve='no', defer_reverts='TRUE', inline=0, gather_statistics=None)",
    "engine(executor=None, max_workers=None)",
    "engine().run(timeout=None)",
    "engine().run(timeout=10)",
    "engine().run(timeout=1e9)",
    "notifier.Notifier().register('e', mock.Mock())",
    "notifier.Notifier().register('e', told, args=[], kwargs=None, details_filter=mock.Mock())",
    "notifier.Notifier().register(5, told)",
    "record().update_atom_metadata('w', [('a', 1)])",
    "record().update_flow_metadata({'a': 1})",
    "record().set_task_progress('w', 1, {})",
    "record().fetch_all(many_handler=len)",
    "record().inject(types.MappingProxyType({'a': 1}))",
    "Failure.reraise_if_any({}.values())",
    "exceptions.WrappedFailure(failure for failure in [a_failure()])",
    "Failure(exception_str='v', exc_type_names=None, exc_args=None, causes=None)",
    "loggers.LoggingListener(mock.Mock(), log=logging.getLogger('x'), level=True)",
    "capturing.CaptureListener(engine(), 'SUCCESS', None, [], skip_tasks='w', values=[])",
]


@pytest.mark.parametrize("call", ACCEPTED)
def test_what_callers_of_taskflow_pass_is_accepted(call):
    try:
        evaluate(call)
    except Exception as error:  # noqa: BLE001 - whatever it is
        pytest.fail(f"{call} is refused: {error!r}")


@pytest.mark.parametrize(("word", "flag"), [("no", False), ("FALSE", False), ("0", False), (" yes ", True), (1, True)])
def test_a_flag_from_a_configuration_file_is_read(word, flag):
    made = engine(never_resolve=word)
    assert made.options["never_resolve"] is flag
