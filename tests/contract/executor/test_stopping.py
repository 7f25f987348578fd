"""Calls that are stopped while they run, on our own executors: whole families of processes, many at once, chains."""

import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from taskflowx import engines, exceptions, states
from taskflowx.executors import aio, base, processes, threads
from taskflowx.executors.processes import executor as executor_of_processes, policy
from taskflowx.patterns import unordered_flow
from taskflowx.testing import executor_contract
from taskflowx.types.failure import Failure
from tests.contract.executor import stopping_tasks as tasks

MANY = 1_000
needs_proc = pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="looks at processes through /proc")


def calls_of(make, count):
    return [base.Call(i, make(f"t{i}"), states.EXECUTE, {}) for i in range(count)]


def call_of(atom):
    return base.Call(0, atom, states.EXECUTE, {})


@pytest.fixture(scope="module")
def pool():
    with processes.ProcessPool(2) as kept:
        yield kept


@pytest.fixture
def driven(pool):
    """Give a function that drives an executor: it is started, and stopped when the test has ended."""
    started = []

    def drive(executor=None, next_of=None):
        executor = executor or pool.taskflowx_executor()
        executor.next_of = next_of
        started.append(executor_contract.Driven(executor))
        return started[-1]

    yield drive
    for one in started:
        one.stop()


def hear(one, count):
    """Wait until so many calls have been delivered."""
    while len(one.delivered) < count:
        one.wait(10)
    return one.delivered


def lines_of(path, one, count=1):
    """Wait until a file has so many lines, and return them."""
    while True:
        lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
        if len(lines) >= count:
            return lines
        one.wait(0.01)


def has_ended(pid):
    try:
        return ") Z " in pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")  # nobody has waited for it yet
    except (FileNotFoundError, ProcessLookupError):
        return True


@needs_proc
def test_a_process_that_refuses_to_end_is_killed_with_its_family_and_what_it_has_printed_arrives(
    driven, tmp_path, capsys
):
    one, path, error = driven(), tmp_path / "pids", exceptions.TimeoutExceeded("too long")
    call = call_of(tasks.Family("family", str(path)))
    one.executor.submit([call])
    pids = lines_of(path, one)[0].split()
    one.executor.interrupt(call, error)
    [(delivered, outcome)] = hear(one, 1)
    assert (delivered, outcome) == (call, Failure.from_exception(error))
    assert outcome.exception is error
    while not all(map(has_ended, pids)):
        one.wait(0.01)
    assert capsys.readouterr().out == "printed before\n"


@pytest.mark.parametrize(
    ("make", "task"),
    [
        (None, tasks.Sleeps),
        (lambda: threads.ThreadsExecutor(64), tasks.Asks),
        (aio.AsyncioExecutor, tasks.SleepsLater),
        (lambda: aio.AsyncioExecutor(16), tasks.SleepsLater),
    ],
    ids=["processes", "threads", "asyncio", "asyncio-limited"],
)
def test_many_calls_that_sleep_are_interrupted_at_once(driven, make, task):
    one = driven(make and make())
    calls = calls_of(task, MANY)
    one.executor.submit(calls)
    one.wait(0.05)
    errors = {call: exceptions.Cancelled(call.atom.name) for call in calls}
    for call in calls:
        one.executor.interrupt(call, errors[call])
    delivered = hear(one, MANY)
    assert {call for call, _ in delivered} == set(calls)
    assert one.stop() == delivered
    assert len(delivered) == MANY
    failures = [outcome.failure if type(outcome) is base.NotBegun else outcome for _, outcome in delivered]
    assert [failure.exception for failure in failures] == [errors[call] for call, _ in delivered]


def test_calls_that_were_sent_along_are_made_elsewhere_once(driven, tmp_path):
    path, one = tmp_path / "notes", driven()
    known = calls_of(lambda name: tasks.Notes(name, str(path)), 40)  # these are known to be short: many are sent ahead
    one.executor.submit(known)
    hear(one, 40)
    path.unlink()
    hanging = call_of(tasks.Notes("hangs", str(path)))
    further = calls_of(lambda name: tasks.Notes(name, str(path)), 60)
    one.executor.submit([*further[:10], hanging, *further[10:]])
    while "hangs" not in lines_of(path, one):
        one.wait(0.01)
    error = exceptions.TimeoutExceeded("too long")
    one.executor.interrupt(hanging, error)
    delivered = hear(one, 40 + 61)[40:]
    assert {call: outcome for call, outcome in delivered if call is not hanging} == {
        call: call.atom.name for call in further
    }
    assert dict(delivered)[hanging].exception is error
    assert sorted(lines_of(path, one)) == sorted([f"t{i}" for i in range(60)] + ["hangs"])


def test_a_call_that_runs_elsewhere_is_untouched_and_the_pool_is_used_again(driven, pool, tmp_path):
    for turn in range(2):
        path, one = tmp_path / f"notes{turn}", driven()
        first, second = calls = calls_of(lambda name, at=str(path): tasks.Notes(f"hangs-{name}", at), 2)
        one.executor.submit(calls)
        lines_of(path, one, 2)
        one.executor.interrupt(first, exceptions.Cancelled("first"))
        assert [call for call, _ in hear(one, 1)] == [first]
        one.executor.interrupt(second, exceptions.Cancelled("second"))
        one.executor.interrupt(second, exceptions.Cancelled("again"))
        call, outcome = hear(one, 2)[1]
        assert (call, outcome.exception_str) == (second, "second")
        assert len(one.stop()) == 2
        assert sorted(lines_of(path, one)) == ["hangs-t0", "hangs-t1"]


@pytest.mark.parametrize("make", [None, lambda: threads.ThreadsExecutor(2)], ids=["processes", "threads"])
def test_a_chain_ends_with_the_call_in_it_that_is_stopped(driven, tmp_path, monkeypatch, make):
    for module in (policy, executor_of_processes):
        monkeypatch.setattr(module, "AHEAD", 60.0)  # however busy the machine is, the calls count as short
    path, made = tmp_path / "notes", {}
    atoms = [tasks.Notes(name, str(path)) for name in ("t0", "t1", "hangs", "never")]

    def next_of(call):
        i = call.index + 1
        if call.atom not in atoms or i == len(atoms):
            return None
        made[i] = base.Call(i, atoms[i], states.EXECUTE, {}, ("before",))
        return made[i]

    one = driven(make and make(), next_of)
    executor = one.executor
    executor.submit(calls_of(lambda name: tasks.Notes(name, str(path)), 8))  # so it is known how long they take
    hear(one, 8)
    executor.submit([base.Call(0, atoms[0], states.EXECUTE, {})])
    assert executor.chained == {1, 2, 3}
    assert [outcome for _, outcome in hear(one, 10)[8:]] == ["t0", "t0t1"]
    executor.chained.difference_update({1, 2})  # the scheduler has recorded the success of those before
    while "hangs" not in lines_of(path, one):
        one.wait(0.01)
    executor.interrupt(made[2], exceptions.TimeoutExceeded("too long"))
    if executor.stops == "kills":
        assert hear(one, 11)[10][1].exception_str == "too long"
    else:
        assert executor.abandon(made[2])
    assert executor.chained == set()
    assert len(one.stop()) == (11 if executor.stops == "kills" else 10)
    assert "never" not in lines_of(path, one)


def test_random_interrupts_of_calls_in_threads_and_coroutines_end_each_call_once(driven):
    for seed in range(20):
        rng = random.Random(seed)
        makers = [tasks.Asks, tasks.SleepsLater]
        one = driven(aio.AsyncioExecutor(rng.choice((None, 3, 8))))
        calls = [base.Call(i, rng.choice(makers)(f"t{i}"), states.EXECUTE, {}) for i in range(40)]
        left = calls[:]
        rng.shuffle(left)
        for start in range(0, 40, 8):
            one.executor.submit(calls[start : start + 8])
            for call in rng.sample(calls[: start + 8], 4):
                one.executor.interrupt(call, exceptions.Cancelled(call.atom.name))
            one.wait(rng.choice((0, 0.001)))
        for call in left:
            one.executor.interrupt(call, exceptions.Cancelled(call.atom.name))
        delivered = one.stop()
        assert sorted(call.index for call, _ in delivered) == list(range(40)), f"seed {seed}"


HANGS = """
import sys
from taskflowx import engines
from taskflowx.patterns import linear_flow
from tests.contract.executor import stopping_tasks as tasks

if __name__ == "__main__":
    flow = linear_flow.Flow("f").add(tasks.Family("family", sys.argv[1]))
    engines.run(flow, engine="parallel", executor="processes", max_workers=1)
"""


@needs_proc
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_the_family_of_a_worker_dies_with_an_engine_that_is_killed_or_interrupted_twice(tmp_path, how):
    path, script = tmp_path / "pids", tmp_path / "script.py"
    script.write_text(HANGS, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).parents[3])}
    with subprocess.Popen(
        [sys.executable, str(script), str(path)], env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    ) as program:
        while not path.exists() or not path.read_text(encoding="utf-8").endswith("\n"):
            assert program.poll() is None, program.stdout.read()
            threading.Event().wait(0.01)
        while program.poll() is None:
            program.send_signal(how)
            threading.Event().wait(0.2)
        pids = path.read_text(encoding="utf-8").split()
        while not all(map(has_ended, pids)):
            threading.Event().wait(0.01)
    assert len(pids) == 4


def test_a_call_that_its_worker_has_ended_in_time_has_succeeded_when_the_engine_reads_late(pool, tmp_path):
    path, limit = tmp_path / "notes", 0.5
    flow = unordered_flow.Flow("f").add(tasks.Notes("first", os.devnull), tasks.Notes("limited", path, timeout=limit))
    engine = engines.load(flow, executor=pool)

    def reads_late(*_):
        while not path.exists():
            threading.Event().wait(0.01)
        threading.Event().wait(2 * limit)

    engine.atom_notifier.register(states.SUCCESS, reads_late)
    engine.run()
    assert path.read_text(encoding="utf-8") == "limited\n"


LEAVES = """
import sys, time
from taskflowx import exceptions, states, task
from taskflowx.executors import aio, base, threads
from taskflowx.testing import executor_contract

class Deaf(task.Task):
    def execute(self):
        time.sleep(3600)

executor = {"threads": lambda: threads.ThreadsExecutor(1), "asyncio": aio.AsyncioExecutor}[sys.argv[1]]()
driven = executor_contract.Driven(executor)
call = base.Call(0, Deaf("deaf"), states.EXECUTE, {})
executor.submit([call])
driven.wait(0.1)
executor.interrupt(call, exceptions.Cancelled("enough"))
assert executor.abandon(call)
assert driven.stop() == []
print("left")
"""


@pytest.mark.parametrize("name", ["threads", "asyncio"])
def test_the_interpreter_does_not_wait_for_a_call_that_was_given_up(tmp_path, name):
    script = tmp_path / "script.py"
    script.write_text(LEAVES, encoding="utf-8")
    began = time.monotonic()
    ran = subprocess.run([sys.executable, str(script), name], capture_output=True, text=True, timeout=50, check=False)
    assert (ran.stdout, ran.stderr, ran.returncode) == ("left\n", "", 0)
    assert time.monotonic() - began < 50
