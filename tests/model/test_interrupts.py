"""KeyboardInterrupt at any line of the engine: the run can be gone on with, and ends as it must.

An interrupt of the main thread comes wherever that thread is. Here it is raised, by a trace function, at the n-th line
that the engine executes, for many n; then the same engine is run again until it has ended.
"""

from __future__ import annotations

import dis
import linecache
import pathlib
import random
import sys
import sysconfig
import threading

import pytest

import taskflowx
from taskflowx import engines, exceptions, retry, states, task
from taskflowx.patterns import graph_flow, linear_flow
from taskflowx.persistence import models
from taskflowx.testing import VirtualClock
from tests.model import build, judge, oracle, specs
from tests.model.specs import ALWAYS, GRAPH, LINEAR, TIMES, UNORDERED, Again, Group, Job, Link, Spec
from tests.model.test_durable import Store

PACKAGE = str(pathlib.Path(taskflowx.__file__).parent)
UNSEEN = {dis.opmap.get("NOP"), dis.opmap.get("CLEANUP_THROW")}

_RETRIED = Group(LINEAR, "inner", (Job("a", gives="x"), Job("b", ("x",), fails=(("r", 1),))), Again("r", TIMES, 2))
_WIDE = Group(UNORDERED, "wide", (Job("c"), Job("d", ("y",)), Job("e", fails=ALWAYS)))
_EARLY = Group(UNORDERED, "early", (Job("f", fails=(("r", 1),)), Job("g"), Job("h")), Again("r", TIMES, 2))
SPECS = {
    "retried": Spec(Group(LINEAR, "flow", (Job("first"), _RETRIED, Job("last")))),
    "failing": Spec(Group(LINEAR, "flow", (Job("first", gives="y"), _RETRIED, _WIDE))),
    "failing before what ran": Spec(Group(LINEAR, "flow", (Job("first"), _EARLY, Job("last")))),
    "deciding": Spec(
        Group(GRAPH, "flow", (*map(Job, "uvw"), _RETRIED), None, (Link(0, 1, "no"), Link(1, 2)), (0, 1, 2, 3))
    ),
}


class Interrupt:
    """A trace function that raises KeyboardInterrupt at the n-th line of the package."""

    def __init__(self, at: int) -> None:
        self.left = at
        self.where: str | None = None

    def __call__(self, frame, event, arg):
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if event == "line" and not never_interrupted(frame):
            self.left -= 1
            if not self.left:
                self.where = f"{frame.f_code.co_filename}:{frame.f_lineno} {frame.f_code.co_name}"
                raise KeyboardInterrupt
        return self


def never_interrupted(frame) -> bool:
    """Tell whether a trace function can raise here, and a signal cannot: it waits for the end of a call or for a jump.

    - A bare `try:` is a no-op, for which the compiler keeps no handler.
    - A generator that is dropped in its `yield from` cleans up, in no line of its own before Python 3.13.
    - A `with` lets go in its own line, and nothing comes before that there.
    - What comes in the frame that the loop of asyncio calls is logged by asyncio, whatever is done there.
    - A call in place has ended when its outcome is in a variable, which is noted in the next line at the latest.
    """
    if frame.f_code.co_code[frame.f_lasti] in UNSEEN or frame.f_code.co_name == "_surely":
        return True
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
    return (
        line.startswith(("with ", "result, ended = (RAISED, error)", "outcome, ended = (RAISED, error)"))
        or line == "ended = i"
        or (line == "except Exception as error:" and frame.f_code.co_filename.endswith("inline.py"))
    )


def run_interrupted(engine, points, interrupted):
    """Run, interrupted at the n-th line for each n of `points`, until the run has ended; returns where it was so.

    :param interrupted: called after each interrupt
    """
    where = []
    for at in points:
        interrupt = Interrupt(at)
        kept = sys.gettrace()
        sys.settrace(interrupt)
        try:
            engine.run()
        except KeyboardInterrupt:
            sys.settrace(kept)
            ended = False
            interrupted()
        except Exception as error:  # noqa: BLE001 - the failure of a task
            ended = check(error)
        else:
            ended = True
        finally:
            sys.settrace(kept)
        if interrupt.where is not None:
            where.append(interrupt.where)
        if ended:
            return where
    try:
        engine.run()
    except Exception as error:  # noqa: BLE001 - the failure of a task
        check(error)
    return where


def check(error):
    assert isinstance(error, specs.Broken | exceptions.NotFound | exceptions.WrappedFailure)
    return True


def interrupted(shape, executor, points, store=None, make_worker=None, **options):
    """Run a flow with interrupts; returns where they came, and what is wrong with the end of the run.

    :param make_worker: see `build.make_flow`
    """
    world = build.World()
    world.crashed = True  # what was cut off may be undone without having begun
    spec = shape.spec
    durable = {} if store is None else {"flow_detail": models.FlowDetail("flow", "1"), "backend": store}
    engine = engines.load(
        build.make_flow(shape, world, make_worker),
        build.make_store(shape),
        engine="parallel",
        executor=executor,
        inline=False,
        defer_reverts=spec.defer_reverts,
        never_resolve=spec.never_resolve,
        on_revert_failure="continue" if spec.go_on else "halt",
        **durable,
        **options,
    )
    storage = engine.storage
    stood: list[tuple[int, set[str]]] = []  # after each interrupt, how long the log was and which tasks stood

    def note():
        if storage.get_flow_state() != states.REVERTED:  # it had ended, and is to run again
            details = {detail.name: detail for detail in storage.record.flow_detail}
            jobs = [name for name, atom in shape.atoms.items() if isinstance(atom, specs.Job) and name in details]
            stood.append((len(world.log), {name for name in jobs if details[name].state == states.SUCCESS}))

    where = run_interrupted(engine, points, note)
    want = oracle.predict(shape)
    now = {name: storage.get_atom_state(name) for name in shape.atoms}
    standing = {name: storage.record.detail(name).last_results for name in now if now[name] == states.SUCCESS}
    wrong = []
    for length, names in stood:
        again = {called: verb for verb, called, _ in reversed(world.log[length:]) if called in names}
        wrong += [f"{name} had succeeded, and was executed again" for name, verb in again.items() if verb == "execute"]
    if not want.depends:
        if (storage.get_flow_state(), standing) != (want.state, want.standing):
            wrong.append(f"it is {storage.get_flow_state()} with {standing}, not {want.state} with {want.standing}")
        if want.state == states.SUCCESS and {name for name in now if now[name] == states.IGNORE} != want.ignored:
            wrong.append(f"{now}, where {want.ignored} are to be left out")
    if not spec.never_resolve:
        last = {called: verb for verb, called, _ in world.log}
        left = [name for name, verb in last.items() if verb == "execute" and now[name] not in judge.STANDING]
        wrong += [f"{name} was executed and not undone" for name in left]
    kept = [detail.name for detail in storage.record.flow_detail if detail.name != storage.injector_name]
    if sorted(kept) != sorted(shape.atoms):
        wrong.append(f"the details are {kept}")
    cured = [
        n for n in standing if isinstance(shape.atoms[n], specs.Job) and storage.record.detail(n).failure is not None
    ]
    wrong += [f"{name} has succeeded, and has a failure" for name in cured]
    if store is not None:
        stored = {detail.name: detail.state for detail in store.read()}
        wrong += [f"{name} is stored as {stored[name]}, not {now[name]}" for name in now if stored[name] != now[name]]
    return where, wrong


#: without the GIL all threads stop whenever a trace function is set
_THREADED = 11 if not sysconfig.get_config_var("Py_GIL_DISABLED") else 53


@pytest.mark.parametrize(("executor", "stride"), [("serial", 3), ("threads", _THREADED)])
@pytest.mark.parametrize("name", SPECS)
def test_an_interrupt_at_any_line_is_survived(name, executor, stride):
    shape = specs.Shape(SPECS[name])
    before = set(threading.enumerate())
    at = 1
    while True:
        where, wrong = interrupted(shape, executor, [at])
        assert (where, wrong) == (where, [])
        if not where:
            break
        at += stride
    assert at > 300
    assert set(threading.enumerate()) <= before


def shares(job, needs, world):
    """Return a task that takes part of what is limited."""
    return build.Worker(job, needs, world, limits={"db": 1 + len(job.name) % 2, "api": 1})


@pytest.mark.parametrize(
    ("executor", "stride", "durable"),
    [("serial", 37, False), ("threads", _THREADED + 60, False), ("threads", 211, True)],
)
@pytest.mark.timeout(300)  # hundreds of runs, each line of which is traced
@pytest.mark.parametrize("name", SPECS)
def test_an_interrupt_at_any_line_loses_nothing_of_what_waits_for_a_limit(name, executor, stride, durable):
    shape = specs.Shape(SPECS[name])
    before = set(threading.enumerate())
    options = {"limits": {"db": 2}, "rates": {"api": (1, 60)}, "revert_limits": "shared"}
    at = 1
    while True:
        options["clock"] = VirtualClock()
        where, wrong = interrupted(shape, executor, [at], Store() if durable else None, shares, **options)
        assert (where, wrong) == (where, [])
        if not where:
            break
        at += stride
    assert at > 300
    assert set(threading.enumerate()) <= before


@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("part", range(4))
def test_a_task_that_its_decider_has_kept_from_being_called_is_not_called_after_an_interrupt(durable, part):
    shape = specs.Shape(Spec(Group(GRAPH, "flow", (Job("a"), Job("b")), None, (Link(0, 1, "raise"),), (0, 1))))
    at = part - 3
    while True:
        at += 4
        where, wrong = interrupted(shape, "serial", [at], Store() if durable else None)
        assert (where, wrong) == (where, [])
        if not where:
            break
    assert at > 100


class Tries(task.Task):
    """Fails in the first attempt of its retry."""

    def execute(self, number):
        if number == 1:
            raise specs.Broken(self.name)


class Gives(task.Task):
    def execute(self, number):
        return number


class Within(Interrupt):
    """As that one, at the n-th line of some functions."""

    def __init__(self, names: frozenset[str], at: int) -> None:
        super().__init__(at)
        self.names = names

    def __call__(self, frame, event, arg):
        return super().__call__(frame, event, arg) if frame.f_code.co_name in self.names else None


#: where atoms are left out, and start again
PARTS = frozenset(("skip", "move", "reset", "readmitted", "restart", "restarted"))


@pytest.mark.parametrize("durable", [False, True])
def test_what_a_refusal_has_left_out_in_part_is_let_in_when_the_refused_one_is(durable):
    at, interrupted = 0, True
    while interrupted:
        at += 1
        region = graph_flow.Flow("region", retry.Times(2, name="r", provides="number"))
        region.add(Gives("gives"), Tries("fails once"), Gives("refused"))
        gives, fails, refused = (node for node, _ in region.iter_nodes())
        region.link(gives, fails)
        region.link(gives, refused, decider=lambda history: history["gives"] == 2)
        after = [task.FunctorTask(lambda: "ran", name=f"after {n}") for n in range(3)]
        record = {"flow_detail": models.FlowDetail("flow", "1"), "backend": Store()} if durable else {}
        engine = engines.load(linear_flow.Flow("flow").add(region, *after), executor="serial", **record)
        interrupt, kept = Within(PARTS, at), sys.gettrace()
        sys.settrace(interrupt)
        try:
            engine.run()
        except KeyboardInterrupt:
            sys.settrace(kept)
            engine.run()
        finally:
            sys.settrace(kept)
        interrupted = interrupt.where is not None
        for one in after:
            assert engine.storage.get_atom_state(one.name) == states.SUCCESS, interrupt.where
    assert at > 100


@pytest.mark.parametrize("executor", ["serial", "threads"])
@pytest.mark.parametrize("durable", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_random_flows_survive_several_interrupts_anywhere(seed, durable, executor):
    rng = random.Random(seed)
    for _ in range(40):
        shape = specs.Shape(specs.calm(specs.random_spec(rng)))
        points = [int(2 ** rng.uniform(0, 13)) for _ in range(rng.randint(1, 4))]
        where, wrong = interrupted(shape, executor, points, Store() if durable else None)
        assert (where, wrong) == (where, []), shape.spec
