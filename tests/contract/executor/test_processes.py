"""Worker processes: what they carry, what becomes of a call whose worker dies, and that nothing is left of them."""

import abc
import ast
import gc
import logging
import multiprocessing
import os
import pathlib
import pickle
import signal
import subprocess
import sys
import threading

import pytest

from taskflowx import engines, exceptions, retry, states, task
from taskflowx.executors import base, pickling, processes
from taskflowx.executors.processes import values
from taskflowx.patterns import linear_flow, unordered_flow
from tests.contract.executor import process_tasks as tasks
from tests.support.programs import environment

pytestmark = pytest.mark.usefixtures("nothing_is_left")

START_METHODS = multiprocessing.get_all_start_methods()


@pytest.fixture
def notes(tmp_path):
    path = tmp_path / "notes"
    return str(path), lambda: path.read_text(encoding="utf-8").splitlines() if path.exists() else []


def load(flow, pool="processes", **options):
    return engines.load(flow, engine="parallel", executor=pool, max_workers=2, **options)


def descriptors():
    """Return how many descriptors this process has open; 0 where nobody can tell."""
    gc.collect()  # noqa: TID251 - what is garbage may hold some
    folder = pathlib.Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.is_dir() else 0


# -- what a worker knows of an atom -----------------------------------------------------------------


@pytest.mark.parametrize(
    "declared",
    [
        {},
        {"provides": "p"},
        {"provides": ("p", "q")},
        {"provides": {"p": "k", "q": 3}},
        {"provides": {"p": ("no", "plain", "key")}},
        {"rebind": {"x": "given"}, "provides": "p"},
        {"requires": ["given"], "revert_rebind": {"y": "given"}},
    ],
    ids=str,
)
def test_an_atom_is_in_its_worker_what_it_is_here(declared, warm, monkeypatch):
    sent = []
    own = values.own_attributes
    monkeypatch.setattr(values, "own_attributes", lambda *args: sent.append(own(*args)) or sent[-1])
    for round_ in ("first", "second"):  # the second time, the worker knows the class
        here = tasks.Tells(f"{round_}", **declared)
        flow = unordered_flow.Flow("f").add(here)
        engine = load(flow, warm, store={"given": 5}, inline=False)
        engine.run()
        arguments = {"x": 5} if "rebind" in declared else {}
        assert engine.storage.record.detail(round_).results == here.execute(**arguments)
    assert [attributes is not None for attributes in sent] == [("no", "plain", "key") not in _keys(declared)] * 2
    if not declared:  # the signature is one of the data that the worker knows of the class
        assert [sorted(attributes) for attributes in sent] == [["name"], ["name"]]


def _keys(declared):
    provides = declared.get("provides")
    return provides.values() if isinstance(provides, dict) else ()


# -- a worker dies ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("how", "code", "by"), [("kill", -9, "SIGKILL"), ("exit", 3, None), ("segfault", -11, "SIGSEGV")]
)
def test_a_worker_that_dies_costs_only_the_call_it_held(how, code, by, warm, notes):
    path, read = notes
    flow = unordered_flow.Flow("f").add(
        *(tasks.Noted(f"t{i}", path) for i in range(10)),
        tasks.Dies("dies", path, how),
        *(tasks.Noted(f"t{i}", path) for i in range(10, 19)),
    )
    engine = load(flow, warm, never_resolve=True)
    with pytest.raises(exceptions.WorkerLost, match="while it ran atom 'dies'") as caught:
        engine.run()
    assert (caught.value.exit_code, caught.value.signal) == (code, by)
    assert [engine.storage.get(f"t{i}") for i in range(19)] == [f"t{i}" for i in range(19)]
    assert sorted(line.split()[1] for line in read()) == sorted(["dies", *(f"t{i}" for i in range(19))])


def test_the_rest_of_a_batch_is_sent_again_and_runs_once(warm, notes):
    path, read = notes
    load(unordered_flow.Flow("learn").add(*(tasks.DiesOnce(f"t{i}", path, "") for i in range(50))), warm).run()
    pathlib.Path(path).unlink()
    flow = unordered_flow.Flow("f").add(
        *(tasks.DiesOnce(f"t{i}", path, "kill" if i in {7, 30} else "") for i in range(200))
    )
    engine = load(flow, warm, never_resolve=True)
    with pytest.raises(exceptions.WrappedFailure) as caught:
        engine.run()
    assert [failure.check(exceptions.WorkerLost) for failure in caught.value] == [exceptions.WorkerLost] * 2
    assert sorted(engine.storage.get_execute_failures()) == ["t30", "t7"]
    assert sorted(set(read())) == sorted({f"dies t{i}" for i in range(200)})
    assert len(read()) == 200


def test_a_retry_runs_a_call_again_whose_worker_died(warm, notes):
    path, read = notes
    flow = linear_flow.Flow("f", retry=retry.Times(2)).add(
        tasks.Noted("a", path), tasks.DiesOnce("b", path, "kill", provides="b")
    )
    engine = load(flow, warm)
    engine.run()
    assert engine.storage.fetch("b") == "lived"
    assert [line.split()[:2] for line in read()] == [
        ["ran", "a"],
        ["dies", "b"],
        ["undid", "b"],
        ["undid", "a"],
        ["ran", "a"],
    ]


def test_a_worker_that_nobody_uses_may_die():
    with processes.ProcessPool(1) as pool:
        engine = load(linear_flow.Flow("f").add(tasks.Pid("pid")), pool)
        engine.run()
        first = engine.storage.get("pid")
        (process,) = [child for child in multiprocessing.active_children() if child.pid == first]
        os.kill(first, signal.SIGKILL)
        process.join()
        engine = load(linear_flow.Flow("f").add(tasks.Pid("pid")), pool)
        engine.run()
        assert engine.storage.get("pid") != first


# -- what is carried -------------------------------------------------------------------------------


def test_large_results_and_arguments_go_through_shared_memory(warm, monkeypatch):
    numpy = pytest.importorskip("numpy")
    mapped, unpack = [], values.unpack
    monkeypatch.setattr(values, "unpack", lambda body, file: (file and mapped.append(file)) or unpack(body, file))
    flow = linear_flow.Flow("f").add(
        tasks.Gives("numbers", "array", 100_000, provides="numbers"),
        tasks.Sums("sum", provides="sum"),
        tasks.Gives("bytes", "text_of_bytes", 200_000, provides="thing"),
        tasks.Takes("take", provides="length"),
    )
    engine = load(flow, warm)
    engine.run()
    numbers = engine.storage.fetch("numbers")
    assert numbers[0] == 0.0, "the other process has a copy of its own"
    numbers[0] = 5.0  # it can be written to
    assert numpy.array_equal(numbers[1:], numpy.arange(1, 100_000))
    assert engine.storage.fetch("sum") == 1000.0 + sum(range(100_000))
    assert engine.storage.fetch("thing") == b"x" * 200_000
    assert engine.storage.fetch("length") == 200_000
    assert len(mapped) == 2


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_what_a_forked_process_writes_to_a_large_value_stays_its_own():
    mapped = values.unpack(*values.pack(pickle.PickleBuffer(bytearray(values.LARGE))))
    child = os.fork()
    if not child:
        mapped[0] = 7
        os._exit(0 if mapped[0] == 7 else 1)
    _, status = os.waitpid(child, 0)
    assert (os.waitstatus_to_exitcode(status), mapped[0]) == (0, 0)


def test_many_large_results_can_be_kept(warm):
    pytest.importorskip("numpy")
    before = descriptors()
    flow = unordered_flow.Flow("f").add(*(tasks.Gives(f"a{i}", "array", 10_000) for i in range(600)))
    engine = load(flow, warm)
    engine.run()
    assert all(engine.storage.get(f"a{i}")[-1] == 9_999 for i in range(600))
    assert descriptors() <= before + values._MAPPINGS + 10
    del engine, flow
    assert descriptors() <= before + 10


@pytest.mark.parametrize(
    ("make", "store", "path"),
    [
        (
            lambda: tasks.Gives("t", "with_a_lock"),
            {},
            r"result of atom 't'.*result\['rows'\]\[1\]\['guard'\] is a _thread.lock",
        ),
        (
            lambda: tasks.HoldsALock("t"),
            {},
            r"Atom 't' cannot be sent.*atom 't'\.lock\.inner\['deep'\] is a _thread.lock",
        ),
        (
            lambda: tasks.Takes("t"),
            {"thing": [0, tasks.Lock()]},
            r"argument 'thing'\[1\]\.inner\['deep'\] is a _thread.lock",
        ),
    ],
)
def test_what_cannot_be_pickled_fails_its_own_atom_and_is_named(make, store, path, warm, notes):
    where, read = notes
    engine = load(linear_flow.Flow("f").add(tasks.Noted("a", where), make()), warm, store=store)
    with pytest.raises(TypeError, match=path):
        engine.run()
    assert [line.split()[0] for line in read()] == ["ran", "undid"]


def test_the_path_of_a_culprit_ends_where_a_value_holds_itself():
    loop = [threading.Lock()]
    loop.insert(0, loop)
    assert pickling.culprit(loop, "it") == "it[1] is a _thread.lock"


def test_a_closure_goes_with_cloudpickle(warm):
    pytest.importorskip("cloudpickle")
    factor = 3
    flow = linear_flow.Flow("f").add(task.FunctorTask(lambda x: factor * x, name="times", provides="y", requires=["x"]))
    engine = load(flow, warm, store={"x": 14})
    engine.run()
    assert engine.storage.fetch("y") == 42


def test_a_class_in_a_function_may_implement_what_is_abstract_in_its_base_class(warm):
    pytest.importorskip("cloudpickle")

    class Base(task.Task):
        @abc.abstractmethod
        def execute(self):
            """Do the work."""

    class Named(Base):
        def execute(self):
            return type(self)(f"not {self.name}").name  # the class is whole there, too

    class Further(Named):
        pass

    flow = linear_flow.Flow("f").add(Named("a", provides="x"), Further("b", provides="y"))
    engine = load(flow, warm)
    engine.run()
    assert engine.storage.fetch_all() == {"x": "not a", "y": "not b"}


def test_a_run_has_the_code_of_a_class_in_a_function_as_it_is_when_the_run_begins():
    pytest.importorskip("cloudpickle")
    rates = {"eur": 2}

    class Converts(task.Task):
        fee = 0

        def execute(self, x):
            return x * rates["eur"] - self.fee

    def converted(pool):
        flow = linear_flow.Flow("f").add(*(Converts(name, provides=name) for name in "ab"))
        results = engines.run(flow, engine="parallel", executor=pool, store={"x": 10})
        return results["a"], results["b"]

    with processes.ProcessPool(1) as pool:
        assert converted(pool) == (20, 20)
        rates["eur"], Converts.fee = 5, 1
        assert converted(pool) == (49, 49)
        Converts.execute = lambda self, x: -x
        assert converted(pool) == (-10, -10)


def test_without_cloudpickle_a_closure_is_refused_before_anything_runs(warm, monkeypatch):
    monkeypatch.setattr(pickling, "_cloudpickle", lambda: None)
    with pytest.raises(exceptions.CompilationFailure, match=r"'times' cannot reach .* install cloudpickle"):
        load(linear_flow.Flow("f").add(task.FunctorTask(lambda x: x, name="times")), warm, store={"x": 1}).run()


def test_an_atom_whose_class_was_changed_is_what_it_was_declared_as(warm, monkeypatch):
    load(linear_flow.Flow("f").add(tasks.Pid("pid")), warm).run()
    monkeypatch.setattr(tasks.Pid, "execute", lambda self, wanted: wanted)
    changed = tasks.Pid("pid")
    monkeypatch.undo()
    engine = load(linear_flow.Flow("f").add(changed), warm, store={"wanted": 1})
    with pytest.raises(TypeError, match="unexpected keyword argument 'wanted'"):
        engine.run()


def test_progress_and_events_come_while_the_task_runs(warm, tmp_path):
    gate = tmp_path / "gate"
    waiting = tasks.WaitsForAFile("waits", str(gate))
    seen, stages, threads = [], [], set()

    def progressed(event, details):
        seen.append(details["progress"])
        threads.add(threading.current_thread())

    def staged(event, details):
        stages.append((details["number"], gate.exists()))
        if details["number"] == 1:
            gate.touch()  # only now can the task go on

    waiting.notifier.register(task.EVENT_UPDATE_PROGRESS, progressed)
    waiting.notifier.register("stage", staged)
    engine = load(linear_flow.Flow("f").add(waiting), warm)
    reported = []
    engine.atom_notifier.register(task.EVENT_UPDATE_PROGRESS, lambda _, details: reported.append(details["progress"]))
    engine.run()
    assert seen == [0.0, 0.25, 0.75, 1.0]
    assert reported == [0.25, 0.75]
    assert stages == [(1, False), (2, True)]
    assert threads == {threading.current_thread()}
    assert engine.storage.get_task_progress("waits") == 1.0


# -- what tasks print and log ----------------------------------------------------------------------


def test_what_is_printed_and_logged_comes_with_the_name_of_the_atom(caplog):
    caplog.set_level(logging.INFO)
    load(linear_flow.Flow("f").add(tasks.Talks("talks"))).run()
    got = [(r.name, r.levelname, r.getMessage(), r.atom_name) for r in caplog.records if hasattr(r, "atom_name")]
    name = "taskflowx.executors.processes"
    assert got == [
        (name, "INFO", "talks: one", "talks"),
        (name, "WARNING", "talks: oh", "talks"),
        ("tests.talks", "INFO", "said this", "talks"),
        ("tests.talks", "ERROR", "it went", "talks"),
        (name, "INFO", "talks: two", "talks"),
    ]
    assert "ValueError: wrong" in caplog.text


def test_what_is_printed_is_seen_where_no_logging_is_set_up(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "from taskflowx import engines\n"
        "from taskflowx.patterns import linear_flow\n"
        "from tests.contract.executor import process_tasks as tasks\n"
        "if __name__ == '__main__':\n"
        "    engines.run(linear_flow.Flow('f').add(tasks.Talks('talks')), engine='parallel', executor='processes')\n",
        encoding="utf-8",
    )
    ran = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, timeout=50, check=True, env=environment()
    )
    assert ran.stdout.splitlines() == ["one", "two"]
    assert ran.stderr.splitlines()[:2] == ["oh", "it went"]


# -- a pool and its workers ------------------------------------------------------------------------


def test_workers_are_kept_by_a_pool_and_end_with_it():
    with processes.ProcessPool(2) as pool:
        pids = []
        for _ in range(3):
            engine = load(linear_flow.Flow("f").add(tasks.Pid("pid")), pool)
            engine.run()
            pids.append(engine.storage.get("pid"))
        assert len(set(pids)) == 1
        assert pids[0] in {child.pid for child in multiprocessing.active_children()}
    assert pids[0] not in {child.pid for child in multiprocessing.active_children()}


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # eventlet's, and Python's where there are threads
@pytest.mark.parametrize("method", START_METHODS)
def test_every_start_method_works(method):
    with processes.ProcessPool(2, start_method=method) as pool:
        engine = load(unordered_flow.Flow("f").add(*(tasks.Pid(f"p{i}") for i in range(4))), pool)
        engine.run()
        assert os.getpid() not in {engine.storage.get(f"p{i}") for i in range(4)}


def test_a_worker_is_replaced_after_so_many_calls():
    with processes.ProcessPool(1, max_tasks_per_worker=3) as pool:
        flow = linear_flow.Flow("f").add(*(tasks.Pid(f"p{i}") for i in range(8)))
        engine = load(flow, pool)
        engine.run()
        pids = [engine.storage.get(f"p{i}") for i in range(8)]
    assert [pids.count(pid) for pid in dict.fromkeys(pids)] == [3, 3, 2]


def test_an_initializer_is_called_in_each_worker():
    with processes.ProcessPool(1, initializer=tasks.initialise, initargs=("yes",)) as pool:
        engine = load(linear_flow.Flow("f").add(tasks.Initialised("t")), pool)
        engine.run()
        assert engine.storage.get("t") == "yes"


def test_an_initializer_that_fails_fails_the_call_and_says_why(notes):
    path, read = notes
    with processes.ProcessPool(2, initializer=tasks.initialise_badly) as pool:
        engine = load(linear_flow.Flow("f").add(tasks.Noted("t", path)), pool)
        with pytest.raises(LookupError, match="no such thing"):
            engine.run()
    assert read() == []


@pytest.mark.parametrize(("initializer", "arguments"), [(tasks.end, ("exit",)), (tasks.print_and_end, ())])
def test_workers_that_die_before_their_first_call_are_not_replaced_for_ever(initializer, arguments, notes):
    path, read = notes
    with processes.ProcessPool(2, initializer=initializer, initargs=arguments) as pool:
        engine = load(linear_flow.Flow("f").add(tasks.Noted("t", path)), pool)
        with pytest.raises(exceptions.WorkerLost, match="before its first call"):
            engine.run()
    assert read() == []


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"max_workers": 0}, ValueError, "max_workers must be a positive number"),
        ({"max_tasks_per_worker": "many"}, ValueError, "max_tasks_per_worker must be a positive number"),
        ({"start_method": "teleport"}, ValueError, "start_method must be one of"),
        ({"initializer": lambda: None}, TypeError, "cannot reach a worker"),
    ],
)
def test_bad_options_of_a_pool_are_refused(options, error, message):
    with pytest.raises(error, match=message):
        processes.ProcessPool(**options)


def test_a_thousand_runs_leave_nothing_behind():
    others = set(multiprocessing.active_children())
    with processes.ProcessPool(2) as pool:
        flow = unordered_flow.Flow("f").add(*(tasks.Pid(f"p{i}") for i in range(2)))
        load(flow, pool).run()
        before, threads = descriptors(), threading.active_count()
        for _ in range(1000):
            load(flow, pool).run()
        assert descriptors() <= before
        assert threading.active_count() == threads
        assert len(set(multiprocessing.active_children()) - others) <= 2
    assert set(multiprocessing.active_children()) <= others


def test_two_engines_may_use_a_pool_at_the_same_time(notes, tmp_path):
    path, read = notes
    gate, others = tmp_path / "gate", set(multiprocessing.active_children())
    with processes.ProcessPool(1) as pool:
        waiting = threading.Thread(target=load(linear_flow.Flow("f").add(tasks.Waits("w", path, str(gate))), pool).run)
        waiting.start()
        load(linear_flow.Flow("g").add(tasks.Noted("n", path)), pool).run()
        gate.touch()
        waiting.join(30)
        while len(left := set(multiprocessing.active_children()) - others) > 1:
            threading.Event().wait(0.01)  # until the worker that is one too many has ended
        assert len(left) == 1
    assert [line.split()[:2] for line in read() if line.startswith("ran")] == [["ran", "n"], ["ran", "w"]]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_process_uses_neither_the_workers_nor_the_fork_server_of_its_parent(tmp_path):
    answer = tmp_path / "answer"
    with processes.ProcessPool(1) as pool:
        engine = load(linear_flow.Flow("f").add(tasks.Pid("pid")), pool)
        engine.run()
        first = engine.storage.get("pid")
        child = os.fork()
        if not child:
            try:
                answer.write_text(repr(_pids_in_a_forked_process(pool)), encoding="utf-8")
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        pids = ast.literal_eval(answer.read_text(encoding="utf-8"))
        assert len(pids) == len({*pids, first}) - 1
        engine = load(linear_flow.Flow("f").add(tasks.Pid("pid")), pool)
        engine.run()
        assert engine.storage.get("pid") == first


def _pids_in_a_forked_process(pool):
    pids = []
    for place in (pool, "processes"):
        engine = load(linear_flow.Flow("f").add(tasks.Pid("pid")), place)
        engine.run()
        pids.append(engine.storage.get("pid"))
    pool.close()
    return pids


def test_a_process_that_cannot_be_started_fails_the_call(monkeypatch, notes):
    path, read = notes
    engine = load(linear_flow.Flow("f").add(tasks.Noted("t", path)))

    def fail(*_):
        raise OSError("no more processes")

    monkeypatch.setattr("taskflowx.executors.processes.pool.Handle", fail)
    with pytest.raises(OSError, match="no more processes"):
        engine.run()
    assert engine.storage.get_flow_state() == states.REVERTED
    assert read() == []


# -- batches ---------------------------------------------------------------------------------------


def test_short_calls_travel_together_and_those_behind_a_long_one_move_on(warm, notes, tmp_path):
    path, _ = notes
    gate = tmp_path / "gate"
    load(unordered_flow.Flow("learn").add(*(tasks.Sometimes(f"t{i}", path) for i in range(50))), warm).run()
    flow = unordered_flow.Flow("f").add(
        *(tasks.Sometimes(f"t{i}", path, str(gate) if i == 20 else None) for i in range(100))
    )
    engine = load(flow, warm)
    ended = []

    def open_the_gate(state, details):
        ended.append(details["task_name"])
        if len(ended) == 99:
            gate.touch()

    engine.atom_notifier.register(states.SUCCESS, open_the_gate)
    engine.run()
    assert ended[-1] == "t20"
    assert sorted(ended) == sorted(f"t{i}" for i in range(100))


def test_what_was_sent_and_has_not_begun_is_taken_back_when_the_run_is_suspended(warm, notes, tmp_path):
    path, read = notes
    gate = tmp_path / "gate"
    load(unordered_flow.Flow("learn").add(*(tasks.Sometimes(f"t{i}", path) for i in range(50))), warm).run()
    pathlib.Path(path).unlink()
    flow = unordered_flow.Flow("f").add(
        *(tasks.Sometimes(f"w{i}", path, str(gate)) for i in range(2)),
        *(tasks.Sometimes(f"t{i}", path) for i in range(500)),
    )
    engine = load(flow, warm)

    def stop():
        while sum(line.startswith("began") for line in read()) < 2:
            threading.Event().wait(0.01)
        engine.suspend()
        while not engine._scheduler.shared.stopping:
            threading.Event().wait(0.01)
        gate.touch()

    stopping = threading.Thread(target=stop)
    stopping.start()
    engine.run()
    stopping.join(30)
    assert engine.storage.get_flow_state() == states.SUSPENDED
    ran = [line.split()[1] for line in read() if line.startswith("ran")]
    assert len(ran) < 502
    engine.run()
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert sorted(line.split()[1] for line in read() if line.startswith("ran")) == sorted(
        ["w0", "w1", *(f"t{i}" for i in range(500))]
    )


def test_more_lots_of_calls_may_wait_in_a_worker_than_its_queue_has_room_for(notes, tmp_path):
    path, read = notes
    gate = tmp_path / "gate"
    held = tasks.Sometimes("held", path, str(gate))
    with processes.ProcessPool(1) as pool:
        executor = processes.ProcessesExecutor(pool)
        mailbox = executor.make_queue()
        executor.start(mailbox.put)
        executor._kinds.of(base.Call(0, held, states.EXECUTE, {})).seconds = 0.0
        executor.submit([base.Call(0, held, states.EXECUTE, {})])
        while not read():
            threading.Event().wait(0.01)
        for i in range(1, 900):  # each lot by itself
            executor.submit([base.Call(i, tasks.Sometimes(f"t{i}", path), states.EXECUTE, {})])
        assert executor._workers[0].holds_back
        recalled = executor.recall()
        executor.submit(recalled[:100])
        for call in recalled[100:]:
            executor.submit([call])
        gate.touch()
        ended = [mailbox.get(timeout=30)[0].index for _ in range(900)]
        executor.stop()
    assert sorted(ended) == list(range(900))
    assert len([line for line in read() if line.startswith("ran")]) == 900


# -- the end of an engine --------------------------------------------------------------------------

SCRIPT = """
import sys
from taskflowx import engines
from taskflowx.patterns import unordered_flow
from tests.contract.executor import process_tasks as tasks
if __name__ == "__main__":
    path, gate = sys.argv[1:]
    flow = unordered_flow.Flow("f").add(*(tasks.Waits(f"w{i}", path, gate) for i in range(2)))
    engine = engines.load(flow, engine="parallel", executor="processes", max_workers=2)
    try:
        engine.run()
    except KeyboardInterrupt:
        print("interrupted", engine.storage.get_flow_state(), flush=True)
"""


@pytest.fixture
def running(tmp_path, notes):
    """Start a program whose two calls wait; gives it, the pids of its workers, and the gate that they wait for."""
    path, read = notes
    gate = tmp_path / "gate"
    script = tmp_path / "script.py"
    script.write_text(SCRIPT, encoding="utf-8")
    program = subprocess.Popen(
        [sys.executable, str(script), path, str(gate)],
        stdout=subprocess.PIPE,
        text=True,
        env=environment(),
        start_new_session=True,
    )
    try:
        while sum(line.startswith("began") for line in read()) < 2:
            assert program.poll() is None
            threading.Event().wait(0.01)
        yield program, [int(line.split()[2]) for line in read()], gate
    finally:
        program.kill()
        program.wait()
        program.stdout.close()


def has_ended(pid):
    try:
        return ") Z " in pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")  # nobody has waited for it yet
    except (FileNotFoundError, ProcessLookupError):
        return True


def assert_all_end(pids):
    """Wait until processes have ended; the time limit of the test is that of the wait."""
    while not all(map(has_ended, pids)):
        threading.Event().wait(0.01)


needs_proc = pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="looks at processes through /proc")


@needs_proc
def test_workers_die_with_an_engine_that_is_killed(running):
    program, pids, _ = running
    program.kill()
    assert_all_end(pids)


@needs_proc
def test_an_interrupt_lets_calls_finish_and_leaves_no_process(running):
    program, pids, gate = running
    os.killpg(program.pid, signal.SIGINT)
    gate.touch()
    out, _ = program.communicate(timeout=50)
    assert out == "interrupted SUSPENDED\n"
    assert_all_end(pids)


@needs_proc
def test_a_second_interrupt_kills_the_workers(running):
    program, pids, _ = running
    while program.poll() is None:
        os.killpg(program.pid, signal.SIGINT)
        threading.Event().wait(0.2)
    assert program.stdout.read() in {"interrupted SUSPENDED\n", "interrupted SUSPENDING\n", ""}
    assert_all_end(pids)
