"""Programs that run flows on a cluster of Dask, each a function; `test_dask` runs them with the address of a scheduler.

They are programs of their own, as `distributed` changes how exceptions are pickled when it is imported.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
import uuid

import distributed
import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.executors import base
from taskflowx.executors.dask import places
from taskflowx.patterns import linear_flow, unordered_flow
from taskflowx.persistence import backends, models
from taskflowx.testing import executor_contract
from tests.contract.executor.dask_tasks import (
    DASK_REQUEST,
    FOLDER,
    LIMIT,
    Attempts,
    Counted,
    Dies,
    DiesInTheFifth,
    DiesLater,
    Held,
    Looks,
    MostlyShort,
    Noted,
    Reports,
    Together,
    notes,
    until,
)  # fmt: skip

ADDRESS = sys.argv[2]


class Sum(task.Task):
    def execute(self, box):
        return sum(box)


class Fresh(task.Task):
    def execute(self):
        return uuid.uuid4().hex


class Length(task.Task):
    def execute(self, blob):
        return len(blob)


@contextlib.contextmanager
def connected():
    with distributed.Client(ADDRESS, timeout="20s") as client:
        client.wait_for_workers(2, timeout=LIMIT)
        yield client


def engine_of(flow, executor, **options):
    return engines.load(flow, engine="parallel", executor=executor, **options)


def ended(engine, names):
    """Return the names of the tasks that succeeded, and the failures of the others."""
    failures = engine.storage.get_execute_failures()
    return [name for name in names if engine.storage.get_atom_state(name) == states.SUCCESS], failures


def leftovers(client):
    """Return what is left of runs in the scheduler."""

    def look(dask_scheduler):
        runs = dask_scheduler.plugins["taskflowx-1"].runs
        return list(runs), [key for key in dask_scheduler.tasks if "taskflowx" in str(key)]

    return client.run_on_scheduler(look)


def nothing_is_left(client):
    until(lambda: leftovers(client) == ([], []), 5)


def once(names):
    found = notes()
    assert sorted(found) == sorted(names), sorted(set(names) ^ set(found))
    assert [name for name, lines in found.items() if len(lines) != 1] == []


def variables_and_names_go_along():
    with connected() as client:
        DASK_REQUEST.set("r-17")
        flow = linear_flow.Flow("f").add(Looks("a", provides="a"), Looks("b", provides="b"))
        engine = engine_of(flow, client, context=["tests.contract.executor.dask_tasks:DASK_REQUEST"])
        engine.run()
        found = [tuple(engine.storage.fetch(name)) for name in "ab"]
        assert found == [("r-17", name, "f", engine.storage.flow_uuid) for name in "ab"]


def worker_dies(how):
    names = [f"t{n}" for n in range(20)]
    with connected() as client:
        address = f"dask://{ADDRESS[6:]}"
        executor = {"client": client, "executor": client.get_executor(), "dask": "dask", "address": address}[how]
        engine = engine_of(unordered_flow.Flow("f").add(*map(DiesInTheFifth, names)), executor, never_resolve=True)
        with pytest.raises(exceptions.WorkerLost, match="'t5'"):
            engine.run()
        succeeded, failures = ended(engine, names)
        assert (len(succeeded), list(failures)) == (19, ["t5"])
        assert [engine.storage.get(name) for name in succeeded] == succeeded
        once(names)
        nothing_is_left(client)


def worker_dies_client():
    worker_dies("client")


def worker_dies_executor():
    worker_dies("executor")


def worker_dies_dask():
    worker_dies("dask")


def worker_dies_address():
    worker_dies("address")


def a_short_call_that_lasts_is_lost_alone():
    names = [f"t{n}" for n in range(200)]
    with connected() as client:
        engine = engine_of(unordered_flow.Flow("f").add(*map(MostlyShort, names)), client, never_resolve=True)
        with contextlib.suppress(exceptions.WorkerLost):
            engine.run()
        succeeded, failures = ended(engine, names)
        assert (len(succeeded), list(failures)) == (199, ["t190"])
        once(names)


def pure_calls_are_repeated():
    with connected() as client:
        flow = unordered_flow.Flow("f").add(
            Dies("dies", pure=True, provides="dies"), *(Noted(f"t{n}") for n in range(5))
        )
        engine = engine_of(flow, client)
        engine.run()
        assert engine.storage.get_flow_state() == states.SUCCESS
        assert engine.storage.fetch("dies") == "dies"
        found = notes()
        assert found.pop("dies") == ["ran"] * 2
        assert all(lines == ["ran"] for lines in found.values())
        assert len(found) == 5


def a_retry_counts_its_attempts():
    with connected() as client:
        flow = linear_flow.Flow("f", retry=retry.Times(3, "again", provides="round_")).add(Counted("c", provides="c"))
        engine = engine_of(flow, client)
        engine.run()
        assert engine.storage.get_flow_state() == states.SUCCESS
        assert notes() == {"c": ["round 1 attempt 1", "round 2 attempt 1"]}, notes()
        ((_, failures), (_, none)) = engine.storage.get_retry_history("again")
        assert failures["c"].check(exceptions.WorkerLost)
        assert not none


def stored():
    return backends.fetch({"connection": f"sqlite:///{FOLDER}/record.sqlite"})


def held_flow():
    return linear_flow.Flow("f").add(Held("held"), Noted("after"))


def run_in_thread(engine):
    """Run an engine; returns the thread and what was raised."""
    raised = []

    def run():
        try:
            engine.run()
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            raised.append(error)
        raised.append(time.monotonic())

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    until(lambda: "held" in notes())
    return thread, raised


def resumes(book, detail):
    """Have another engine go on, in threads."""
    pathlib.Path(FOLDER, "go").touch()
    engine = engines.load(
        held_flow(), engine="parallel", executor="threads", backend=stored(), book=book, flow_detail=detail
    )
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert notes() == {"held": ["attempt 1", "attempt 2"], "after": ["ran"]}, notes()


def is_left_in_time(thread, raised, since):
    thread.join(15)
    assert not thread.is_alive(), "the run goes on"
    error, at = raised
    assert isinstance(error, exceptions.WorkerLost), repr(error)
    assert at - since <= 10, at - since


def load_stored(executor):
    backend = stored()
    with contextlib.closing(backend.get_connection()) as connection:
        connection.upgrade()
        book = models.LogBook("book")
        detail = models.FlowDetail("f", uuid.uuid4().hex)
        book.add(detail)
        connection.save_logbook(book)
    return engine_of(held_flow(), executor, backend=backend, book=book, flow_detail=detail), book, detail


def scheduler_is_killed(how=signal.SIGKILL):
    """Here the cluster is made, as the scheduler ends."""
    with contextlib.ExitStack() as stack:
        started, address = own_cluster(stack)
        client = stack.enter_context(distributed.Client(address, timeout="20s"))
        client.wait_for_workers(2, timeout=LIMIT)
        by_address = how == signal.SIGSTOP
        engine, book, detail = load_stored(f"dask://{address[6:]}" if by_address else client)
        thread, raised = run_in_thread(engine)
        since = time.monotonic()
        started[0].send_signal(how)
        is_left_in_time(thread, raised, since)
        assert engine.storage.get_flow_state() == states.SUSPENDED
        resumes(book, detail)
        for each in started:
            each.kill()
            each.wait()
        os._exit(0)  # a client of Dask's waits long for a scheduler that is gone


def scheduler_hangs():
    scheduler_is_killed(signal.SIGSTOP)


def own_cluster(stack):
    """Start a scheduler and two workers; returns these processes and the address."""
    file = f"{FOLDER}/scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    commands = [[*dask, "scheduler", "--port", "0", "--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", file]]
    commands += [[*dask, "worker", "--no-nanny", "--nthreads", "1", "--no-dashboard", "--scheduler-file", file]] * 2
    started = []
    for command in commands:
        started.append(subprocess.Popen(command, cwd=FOLDER, **quiet))
        stack.callback(started[-1].kill)
        until(pathlib.Path(file).exists)
    until(lambda: pathlib.Path(file).read_text(encoding="utf-8").endswith("}"))
    return started, json.loads(pathlib.Path(file).read_text(encoding="utf-8"))["address"]


def a_worker_that_was_given_up_goes_on():
    """It is thought dead, as when it cannot be reached; what its call does is not done again."""
    with contextlib.ExitStack() as stack:
        _, address = own_cluster(stack)
        client = stack.enter_context(distributed.Client(address, timeout="20s"))
        client.wait_for_workers(2, timeout=LIMIT)
        engine = engine_of(unordered_flow.Flow("f").add(Held("held"), Noted("other")), client, never_resolve=True)
        raised = []

        def run():
            try:
                engine.run()
            except Exception as error:  # noqa: BLE001 - as above
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        until(lambda: "held" in notes() and "other" in notes())

        async def give_up(dask_scheduler):
            (run,) = dask_scheduler.plugins["taskflowx-1"].runs.values()
            holding = [run.ledger.workers[pump] for pump, held in run.ledger.held.items() if held]
            if len(holding) == 1:  # what came of the other call is there
                await dask_scheduler.remove_worker(holding[0], stimulus_id="test", close=False)
            return len(holding) == 1

        until(lambda: client.run_on_scheduler(give_up))
        thread.join(LIMIT)
        assert not thread.is_alive()
        assert [type(error) for error in raised] == [exceptions.WorkerLost], raised
        pathlib.Path(FOLDER, "go").touch()
        assert notes() == {"held": ["attempt 1"], "other": ["ran"]}, notes()
        nothing_is_left(client)


def client_is_closed():
    with connected() as client:
        engine, book, detail = load_stored(client)
        thread, raised = run_in_thread(engine)
        since = time.monotonic()
        client.close()
        is_left_in_time(thread, raised, since)
        with pytest.raises(RuntimeError, match="was closed"):
            engine.run()
        assert engine.storage.get_flow_state() == states.SUSPENDED
    with connected() as client:
        nothing_is_left(client)
    resumes(book, detail)


def engine_is_killed():
    """Nothing that waited begins after the engine has gone."""
    if os.environ.get("CHILD"):
        with connected() as client:
            engine_of(
                unordered_flow.Flow("f").add(Held("a"), Held("b"), *(Noted(f"t{n}") for n in range(9))), client
            ).run()
        return
    with connected() as client:
        child = subprocess.Popen([sys.executable, *sys.argv], env={**os.environ, "CHILD": "1"})
        until(lambda: {"a", "b"} <= set(notes()))
        child.kill()
        child.wait()
        until(lambda: not leftovers(client)[0])
        pathlib.Path(FOLDER, "go").touch()
        nothing_is_left(client)
        assert sorted(notes()) == ["a", "b"], notes()


def nothing_begins_after_the_end():
    """Of a run that is suspended, whose time is up, or that is interrupted."""

    def flow():
        return unordered_flow.Flow("f").add(*(Held(f"t{n}") for n in range(10)))

    def two_begin():
        until(lambda: len(notes()) == 2)

    with connected() as client:
        for end in ("suspend", "deadline", "interrupt"):
            for file in pathlib.Path(FOLDER).iterdir():
                file.unlink()
            engine = engine_of(flow(), client)

            def end_it(engine=engine, end=end):
                two_begin()
                if end == "suspend":
                    engine.suspend()
                elif end == "interrupt":
                    os.kill(os.getpid(), signal.SIGINT)
                until(lambda: not waiting(client))
                pathlib.Path(FOLDER, "go").touch()

            helper = threading.Thread(target=end_it)
            helper.start()
            with {
                "suspend": contextlib.nullcontext(),
                "deadline": pytest.raises(TimeoutError),
                "interrupt": pytest.raises(KeyboardInterrupt),
            }[end]:
                engine.run(timeout=1.0 if end == "deadline" else None)
            helper.join(LIMIT)
            assert len(notes()) == 2, (end, notes())
            assert engine.storage.get_flow_state() == states.SUSPENDED
            engine.run()
            assert engine.storage.get_flow_state() == states.SUCCESS
            assert list(notes().values()) == [["attempt 1"]] * 10, (end, notes())
        nothing_is_left(client)


def interrupts_repeat_nothing():
    """A signal comes at any moment: what is done again is told so by its attempt."""
    chance = random.Random(7)

    def interrupt(number, frame):
        raise KeyboardInterrupt

    signal.signal(signal.SIGALRM, interrupt)
    with connected() as client:
        for pattern in (unordered_flow, linear_flow) * 3:
            for file in pathlib.Path(FOLDER).iterdir():
                file.unlink()
            engine = engine_of(pattern.Flow("f").add(*(Attempts(f"t{n}") for n in range(40))), client)
            while engine.storage.get_flow_state() != states.SUCCESS:
                signal.setitimer(signal.ITIMER_REAL, 0.001 + 0.1 * chance.random())
                with contextlib.suppress(KeyboardInterrupt):
                    engine.run()
                signal.setitimer(signal.ITIMER_REAL, 0)
            found = notes()
            assert len(found) == 40
            assert [lines for lines in found.values() if len(set(lines)) != len(lines)] == []
        nothing_is_left(client)


def waiting(client):
    def look(dask_scheduler):
        return sum(len(run.ledger.waiting) for run in dask_scheduler.plugins["taskflowx-1"].runs.values())

    return client.run_on_scheduler(look)


def max_workers_bounds_what_is_in_flight():
    with connected() as client:
        for most, expected in ((1, 1), (None, 2)):
            for file in pathlib.Path(FOLDER).iterdir():
                file.unlink()
            engine_of(
                unordered_flow.Flow("f").add(*(Together(f"t{n}") for n in range(8))), client, max_workers=most
            ).run()
            times = [tuple(map(float, lines[0].split())) for lines in notes().values()]
            together = max(sum(a <= begun < b for a, b in times) for begun, _ in times)
            assert together == expected, (most, together)


def what_is_given_up_is_not_waited_for_and_not_repeated():
    held = [DiesLater(f"held{n}", FOLDER, pure=n == 0) for n in range(2)]
    calls = [base.Call(n, one, states.EXECUTE, {}) for n, one in enumerate((*held, Noted("waiting"), Noted("last")))]
    with connected() as client:
        driven = executor_contract.Driven(places.given(client, 2))
        driven.executor.submit(calls)
        until(lambda: len(notes()) == 2)
        for call in calls[:3]:
            driven.executor.interrupt(call, exceptions.TimeoutExceeded(call.atom.name))
        driven.wait(LIMIT)
        [(call, outcome)] = driven.delivered
        assert (call, type(outcome)) == (calls[2], base.NotBegun)
        assert [driven.executor.abandon(call) for call in calls] == [True, True, False, False]
        pathlib.Path(FOLDER, "go").touch()
        delivered = driven.stop()
        assert delivered[1:] == [(calls[3], "last")], delivered
        once(["held0", "held1", "last"])
        nothing_is_left(client)


def progress_is_live():
    with connected() as client:
        heard = []

        def hear(_, details):
            heard.append(time.time() - details["at"])
            pathlib.Path(FOLDER, "heard").touch()

        engine = engine_of(linear_flow.Flow("f").add(Reports("r", FOLDER)), client)
        engine.atom_notifier.register(task.EVENT_UPDATE_PROGRESS, hear)
        engine.run()
        (seconds,) = heard
        assert seconds <= 0.5


def what_cannot_travel_is_refused():
    lock = threading.Lock()
    with connected() as client:
        flow = linear_flow.Flow("f").add(Noted("a"), task.FunctorTask(lambda: lock, name="locked"))
        with pytest.raises(exceptions.CompilationFailure, match="'locked' cannot reach another process"):
            engine_of(flow, client).compile()
        engine = engine_of(linear_flow.Flow("f").add(Sum("sum")), client, store={"box": lock})
        with pytest.raises(TypeError, match=r"argument 'box' is a _thread\.lock"):
            engine.run()
        assert notes() == {}
        asyncio.run(an_asynchronous_client_is_refused(flow))


async def an_asynchronous_client_is_refused(flow):
    async with distributed.Client(ADDRESS, asynchronous=True) as client:
        with pytest.raises(TypeError, match="asynchronous"):
            engine_of(flow, client)


def runs_keep_apart():
    """Two at once on one client, and one after the other: each has results of its own."""

    def flow():
        return unordered_flow.Flow("f").add(*(Fresh(f"t{n}", provides=f"t{n}") for n in range(30)))

    with connected() as client:
        made = [engine_of(flow(), client) for _ in range(2)]
        threads = [threading.Thread(target=engine.run) for engine in made]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LIMIT)
        made.append(engine_of(flow(), client))
        made[-1].run()
        results = [engine.storage.fetch(f"t{n}") for engine in made for n in range(30)]
        assert len(set(results)) == 90
        nothing_is_left(client)


def large_values_are_sent_once():
    with connected() as client:
        blob = b"x" * 3_000_000
        flow = unordered_flow.Flow("f").add(*(Length(f"t{n}", provides=f"t{n}") for n in range(20)))
        engine = engine_of(flow, client, store={"blob": blob})
        sent, sync = [], client.sync

        @functools.wraps(sync)
        def counted(function, *args, **kwargs):
            if args[:1] == ("put",):
                sent.append(len(args[1]["piece"]))
            return sync(function, *args, **kwargs)

        client.sync = counted
        engine.run()
        assert [engine.storage.fetch(f"t{n}") for n in range(20)] == [3_000_000] * 20
        assert 3_000_000 < sum(sent) < 3_100_000, sent
        nothing_is_left(client)


def a_cluster_of_its_own():
    """'dask' where there is no client: a cluster is made for the run, and ends with it."""
    engine = engine_of(unordered_flow.Flow("f").add(*(Noted(f"t{n}") for n in range(4))), "dask", max_workers=2)
    engine.run()
    once([f"t{n}" for n in range(4)])


if __name__ == "__main__":
    globals()[sys.argv[1]]()
