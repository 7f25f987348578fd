"""Processes that start a run with the same id at once, one of which is killed: each call is made once, and one runs.

The tasks note on disk that they begin and that they have ended, so a call of a process that was killed is known. Who
waits takes the run over when its owner is dead, and goes on behind what is on record.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import os
import signal
import subprocess
import sys
import textwrap

import pytest

import taskflowx
from taskflowx import runs, states, task
from taskflowx._util import failpoints
from taskflowx.patterns import unordered_flow
from taskflowx.persistence import backends
from tests.contract.store.stores import STORES
from tests.support import programs

pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL on this system"),
    pytest.mark.timeout(120),
]
TASKS = 5
SHARED = [store for store in STORES if store.is_shared]

#: arguments: the settings of the store, the file of notes, and the place at which it waits to be killed, if any
PROGRAM = textwrap.dedent(
    """
    import json, os, sys, threading
    import taskflowx
    from taskflowx import exceptions, task
    from taskflowx.patterns import linear_flow

    settings, notes, place, wait = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3], float(sys.argv[4])

    def note(*what):
        number = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(number, (" ".join(map(str, what)) + "\\n").encode())
        os.close(number)

    class Step(task.Task):
        def execute(self):
            note(self.name, "begins")
            if self.name == place:
                print("ready", flush=True)
                threading.Event().wait(60)
            note(self.name, "ends")
            return self.name

    flow = linear_flow.Flow("f").add(*(Step(f"s{n}", provides=f"v{n}") for n in range(5)))
    print("starts", flush=True)
    sys.stdin.readline()
    try:
        result = taskflowx.run(flow, {"x": 1}, backend=settings, run_id="the same", wait=wait)
    except exceptions.OwnershipFailure as error:
        print("refused", str(error).splitlines()[0], flush=True)
    else:
        print("result", len(result), result.state, flush=True)
    """
)


class Program:
    """A process that starts the run once it is let go."""

    def __init__(self, settings, notes, *, place="", wait=0.0):
        import json

        self.process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, json.dumps(settings), str(notes), place, str(wait)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=programs.environment(),
        )
        assert self.said() == "starts"

    def said(self):
        return self.process.stdout.readline().strip()

    def start(self):
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def kill(self):
        os.kill(self.process.pid, signal.SIGKILL)
        self.process.wait(30)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.communicate(timeout=30)


@pytest.fixture(params=SHARED, ids=lambda store: store.name)
def settings(request, tmp_path):
    """Return the settings of a store that is ready."""
    lacks = request.param.lacks()
    if lacks:
        pytest.skip(lacks)
    found = request.param.settings(tmp_path)
    with backends.backend(found):
        pass
    return found


def noted(path):
    return collections.Counter(path.read_text(encoding="utf-8").splitlines())


@pytest.mark.parametrize("place", ["s0", "s2", "s4"])
def test_who_waits_goes_on_when_the_owner_is_killed(settings, tmp_path, place):
    notes = tmp_path / "notes"
    with Program(settings, notes, place=place) as first, Program(settings, notes, wait=60) as second:
        first.start()
        assert first.said() == "ready"
        with Program(settings, notes) as third:
            third.start()
            assert f"process {first.process.pid}" in third.said()  # who is told who runs it
        second.start()
        first.kill()
        assert second.said() == f"result {TASKS + 1} SUCCESS"
    found = noted(notes)
    assert {name: found[f"{name} ends"] for name in map("s{}".format, range(TASKS))} == {
        f"s{n}": 1 for n in range(TASKS)
    }
    assert {line: count for line, count in found.items() if count > 1} == {f"{place} begins": 2}


def test_of_processes_that_start_at_once_one_runs(settings, tmp_path):
    notes = tmp_path / "notes"
    several = [Program(settings, notes, wait=60) for _ in range(4)]
    for one in several:
        one.start()
    said = [one.said() for one in several]
    for one in several:
        one.__exit__()
    assert said == [f"result {TASKS + 1} SUCCESS"] * 4
    assert set(noted(notes).values()) == {1}
    with runs.open(settings) as known:
        assert [(one.id, one.state) for one in known.list()] == [("the same", states.SUCCESS)]


def killed_at(place, work):
    """Do work in a forked process that kills itself at the n-th fail point; tells whether it has come that far."""
    child = os.fork()
    if not child:
        count = iter(range(place))

        def kill(_):
            if next(count, None) is None:
                os.kill(os.getpid(), signal.SIGKILL)

        failpoints.listen(kill)
        with contextlib.suppress(BaseException):
            work()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return os.WIFSIGNALED(status)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("address", ["sqlite:///{}/runs.db", "dir://{}/runs"], ids=["sqlite", "dir"])
def test_a_start_that_is_killed_at_any_place_can_be_repeated(address, tmp_path):
    settings = {"connection": address.format(tmp_path), **({"sync": False} if "dir" in address else {})}
    with backends.backend(settings):
        pass
    notes = tmp_path / "notes"

    def flow():
        def work(name):
            with notes.open("a") as file:
                file.write(f"{name}\n")
            return name

        steps = (task.FunctorTask(functools.partial(work, name), name=name, provides=name) for name in "abc")
        return unordered_flow.Flow("f").add(*steps)

    place = 0
    while killed_at(place, lambda: taskflowx.run(flow(), {"x": 1}, backend=settings, run_id=f"r{place}")):  # noqa: B023
        result = taskflowx.run(flow(), {"x": 1}, backend=settings, run_id=f"r{place}")
        assert result == {"x": 1, "a": "a", "b": "b", "c": "c"}
        assert taskflowx.run(flow(), {"x": 1}, backend=settings, run_id=f"r{place}") == result
        with runs.open(settings) as known:
            assert sorted(atom.name for atom in known.get(f"r{place}").atoms) == ["a", "b", "c"]
            known.delete(f"r{place}")
            assert known.list() == []
        place += 1
    assert place > 5
