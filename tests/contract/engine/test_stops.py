"""Time limits and cancels of calls in worker processes: the process is killed, and what it had done is undone."""

import os
import pathlib
import signal
import time

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.executors import processes
from taskflowx.patterns import linear_flow, unordered_flow


class Notes(task.Task):
    """Notes in a file what is done to it."""

    def __init__(self, name, path, seconds=0.0, **settings):
        super().__init__(name, **settings)
        self.path, self.seconds = str(path), seconds

    def note(self, what):
        with pathlib.Path(self.path).open("a") as file:
            file.write(f"{self.name} {what}\n")

    def execute(self):
        self.note("called")
        time.sleep(self.seconds)  # noqa: TID251 - it is to be killed in it
        return os.getpid()

    def revert(self, **kwargs):
        self.note("undone")


class Stubborn(Notes):
    """Takes long once, and heeds no signal that it can heed."""

    def execute(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        once = pathlib.Path(f"{self.path}.once")
        first = not once.exists()
        once.touch()
        self.note("called")
        if first:
            time.sleep(600)  # noqa: TID251 - as above
        return os.getpid()


def lines(path):
    return path.read_text().splitlines()


def test_a_worker_over_the_limit_of_its_call_is_killed_and_the_next_attempt_has_another_one(tmp_path):
    path = tmp_path / "log"
    stubborn = Stubborn("stubborn", path, timeout=4, retry=retry.Times(2))  # the start of a worker is part of it
    engine = engines.load(linear_flow.Flow("f").add(stubborn), executor="processes", max_workers=1)
    engine.run()
    assert lines(path) == ["stubborn called", "stubborn undone", "stubborn called"]
    assert engine.storage.get_flow_state() == states.SUCCESS


def test_calls_beside_one_that_is_killed_are_made(tmp_path):
    path = tmp_path / "log"
    slow = Notes("slow", path, seconds=600, timeout=4)
    others = [Notes(f"t{n}", path, seconds=0.05) for n in range(20)]
    flow = unordered_flow.Flow("f").add(slow, *others)
    engine = engines.load(flow, executor="processes", max_workers=2, never_resolve=True)
    with pytest.raises(exceptions.TimeoutExceeded, match="'slow'"):
        engine.run()
    assert sorted(lines(path)) == sorted(["slow called", *(f"t{n} called" for n in range(20))])
    assert {engine.storage.get_atom_state(one.name) for one in others} == {states.SUCCESS}


def test_a_cancelled_run_kills_its_workers_and_a_kept_pool_serves_the_next_run(tmp_path):
    path = tmp_path / "log"
    with processes.ProcessPool(2) as pool:
        flow = unordered_flow.Flow("f").add(*(Notes(f"t{n}", path, seconds=600) for n in range(5)))
        engine = engines.load(flow, executor=pool)
        begun = []

        def cancel(state, details):
            begun.append(details["task_name"])
            if len(begun) == 2:
                engine.cancel("enough")

        engine.atom_notifier.register(states.RUNNING, cancel)
        with pytest.raises(exceptions.Cancelled, match="enough"):
            engine.run()
        assert engine.storage.get_flow_state() == states.REVERTED
        written = lines(path) if path.exists() else []
        assert all(written.count(f"t{n} called") <= written.count(f"t{n} undone") for n in range(5))
        following = engines.load(linear_flow.Flow("g").add(Notes("next", path)), executor=pool)
        following.run()
    assert following.storage.get_flow_state() == states.SUCCESS
