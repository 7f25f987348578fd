"""A task is somebody else's code: whatever it does to its worker process, the run ends right, and nothing is left."""

import contextlib
import decimal
import io
import logging
import multiprocessing
import os
import pathlib
import select
import signal
import subprocess
import sys
import textwrap

import pytest

from taskflowx import engines, exceptions, states, task
from taskflowx.executors import processes
from taskflowx.executors.processes import handle
from taskflowx.patterns import linear_flow, unordered_flow
from tests.contract.executor import hostile_tasks as tasks
from tests.support.programs import environment

pytestmark = pytest.mark.usefixtures("nothing_is_left")

ALARMS = int(os.environ.get("TASKFLOWX_ALARMS", "200"))


def ran(member, pool, before=()):
    """Run a flow with one task, and perhaps others before it; returns the engine."""
    engine = engines.load(linear_flow.Flow("f").add(*before, member), executor=pool, inline=False)
    engine.run()
    return engine


def program(tmp_path, body, **more):
    """Run a program of its own; returns what it has printed."""
    script = tmp_path / "program.py"
    imports = "import os, signal, sys\nfrom taskflowx import engines\nfrom taskflowx.executors import processes\n"
    imports += "from taskflowx.patterns import linear_flow, unordered_flow\n"
    imports += "from tests.contract.executor import hostile_tasks as tasks\n"
    script.write_text(imports + textwrap.dedent(body), encoding="utf-8")
    return subprocess.run(
        [sys.executable, str(script)],
        capture_output=True,
        text=True,
        timeout=50,
        env={**environment(), **more},
        check=False,
    )


# -- a signal handler raises -----------------------------------------------------------------------


def test_no_time_limit_is_lost_while_a_task_prints_logs_and_reports_and_no_message_is_torn(warm, capsys):
    logging.getLogger("tests.hostile").setLevel(logging.INFO)
    engine = ran(tasks.Alarms("a", ALARMS, 1, provides="lost"), warm)
    assert engine.storage.fetch("lost") <= ALARMS // 200  # what is raised in a finalizer is Python's own to lose
    assert engine.storage.get_flow_state() == states.SUCCESS


@pytest.mark.parametrize("microseconds", range(0, 2000, 100))
def test_a_timer_that_a_task_leaves_behind_costs_no_call(warm, microseconds):
    flow = unordered_flow.Flow("f").add(
        *(tasks.LeavesAnAlarm(f"t{n}", 1e-6 + microseconds * 1e-6, provides=f"t{n}") for n in range(6))
    )
    engine = engines.load(flow, executor=warm)
    with contextlib.suppress(tasks.Late, exceptions.WrappedFailure):
        engine.run()  # a task in which the timer of another one goes off fails
    # A timer may also go off in a revert.
    assert engine.storage.get_flow_state() in (states.SUCCESS, states.REVERTED, states.FAILURE)
    if engine.storage.get_flow_state() == states.SUCCESS:
        assert {n: engine.storage.fetch(f"t{n}") for n in range(6)} == {n: f"t{n}" for n in range(6)}


# -- what a worker sends is data -------------------------------------------------------------------


@pytest.mark.parametrize("function", ["progress_that_cannot_be_read", "event_that_cannot_be_read"])
def test_a_message_that_cannot_be_read_costs_that_message_and_is_told(warm, caplog, function):
    member = tasks.Does("does", function, provides="result")
    member.notifier.register(task.EVENT_UPDATE_PROGRESS, lambda *_: None)
    engine = ran(member, warm)
    assert engine.storage.fetch("result") == "done"
    (told,) = [r.getMessage() for r in caplog.records if "could not be read" in r.getMessage()]
    assert "'does'" in told
    assert "not here" in told


@pytest.mark.parametrize(
    ("function", "culprits"),
    [
        ("event_that_cannot_be_pickled", ["['what'] is a _thread.lock", "['what']._semlock is a _multiproc"]),
        ("progress_that_cannot_be_pickled", ["['what'] is a _thread.lock"]),
    ],
)
def test_a_message_that_cannot_be_pickled_costs_that_message_and_is_told(warm, caplog, function, culprits):
    member = tasks.Does("does", function, provides="result")
    member.notifier.register(task.EVENT_UPDATE_PROGRESS, lambda *_: None)
    engine = ran(member, warm)
    assert engine.storage.fetch("result") == "done"
    told = [r.getMessage().partition("dropped: details") for r in caplog.records if "is dropped" in r.getMessage()]
    assert {begin for begin, _, _ in told} == {
        "A message of atom 'does' to its subscribers cannot leave its process, and is "
    }
    assert [end[: len(culprit)] for (_, _, end), culprit in zip(told, culprits, strict=True)] == culprits


def test_what_a_thread_tells_after_its_task_is_no_message_of_the_next_task():
    told, members = [], []
    for name, function in (("first", "leave_a_thread_that_tells"), ("second", "await_the_thread_that_tells")):
        members.append(tasks.Does(name, function))
        members[-1].notifier.register("told", lambda _, details, name=name: told.append((name, details["by"])))
        members[-1].notifier.register("update_progress", lambda _, details, name=name: told.append((name, details)))
    with processes.ProcessPool(1) as pool:
        engine = ran(members[1], pool, before=members[:1])
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert [each for each in told if each[1] not in ({"progress": 0.0}, {"progress": 1.0})] == [("second", "second")]


def test_an_alarm_in_a_message_reaches_the_task(warm):
    member = tasks.Does("does", "alarm_in_a_message", provides="reached")
    member.notifier.register(task.EVENT_UPDATE_PROGRESS, lambda *_: None)
    assert ran(member, warm).storage.fetch("reached") == ["late"] * 4


def test_a_result_that_cannot_be_read_fails_its_call(warm):
    with pytest.raises(ValueError, match="not here"):
        ran(tasks.Does("does", "result_that_cannot_be_read"), warm)


def test_what_is_no_exception_and_cannot_be_made_again_comes_by_its_name(warm):
    engine = engines.load(
        linear_flow.Flow("f").add(tasks.Does("does", "exit_that_cannot_be_made_again")), executor=warm, inline=False
    )
    with pytest.raises(SystemExit, match=r"hostile_tasks\.Stop: enough 2"):
        engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED


def test_what_is_no_exception_and_cannot_be_shown_leaves_the_run(warm):
    engine = engines.load(
        linear_flow.Flow("f").add(tasks.Does("does", "exit_that_cannot_be_shown")), executor=warm, inline=False
    )
    with pytest.raises(SystemExit, match=r"hostile_tasks\.Shy: <exception str\(\) failed>"):
        engine.run()
    assert engine.storage.get_flow_state() == states.SUSPENDED


@pytest.mark.parametrize("function", ["result_that_leaves_when_it_is_read", "result_that_leaves_when_it_is_pickled"])
def test_a_result_that_leaves_on_its_way_fails_its_call(warm, function):
    with pytest.raises(TypeError, match=r"atom 'does'.*not"):
        ran(tasks.Does("does", function), warm)


def test_what_the_stream_of_the_engine_cannot_show_is_shown_another_way(warm, monkeypatch):
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="ascii"))
    monkeypatch.setattr(logging.getLogger("taskflowx.executors.processes"), "disabled", True)
    monkeypatch.setattr(logging.Logger, "hasHandlers", lambda self: False)
    assert ran(tasks.Does("does", "print_umlauts", provides="result"), warm).storage.fetch("result") == "done"
    assert written.getvalue() == b"gr\\xf6\\xdfer\n"


def test_a_filter_that_raises_costs_the_record(warm, caplog):
    def refuse(record):
        raise ZeroDivisionError

    logger = logging.getLogger("tests.hostile")
    logger.addFilter(refuse)
    try:
        engine = ran(tasks.Does("does", "log", "said"), warm)
    finally:
        logger.removeFilter(refuse)
    assert engine.storage.get_flow_state() == states.SUCCESS
    assert ["could not be shown" in record.getMessage() for record in caplog.records] == [True]


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_process_that_a_task_forks_is_no_worker(warm):
    for function in ("fork_and_return", "fork_and_print"):
        engine = ran(tasks.Does("does", function, provides="result"), warm)
        assert engine.storage.get_flow_state() == states.SUCCESS
        assert (engine.storage.fetch("result") > 0) is (function == "fork_and_return")


# -- the end of a worker ---------------------------------------------------------------------------


@pytest.mark.parametrize("function", ["leave_a_thread", "leave_a_thread_that_prints"])
def test_a_worker_that_does_not_end_is_killed_and_its_results_count(monkeypatch, caplog, function):
    monkeypatch.setattr(handle.end_all, "__kwdefaults__", {"seconds": 0.3})
    engine = ran(tasks.Does("does", function, provides="result"), "processes")
    assert engine.storage.fetch("result") == "done"
    assert ["they are killed" in r.getMessage() for r in caplog.records if "ended" in r.getMessage()] == [True]


def test_the_interpreter_ends_while_a_run_is_left_half_way(tmp_path):
    body = """
        if __name__ == "__main__":
            flow = linear_flow.Flow("f").add(*(tasks.Does(str(n), "print_umlauts") for n in range(4)))
            steps = engines.load(flow, executor="processes", inline=False).run_iter()
            for state in steps:
                if state == "WAITING":
                    break
            print("has ended")
    """
    assert program(tmp_path, body).stdout.splitlines()[-1] == "has ended"


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_death_is_noticed_whoever_holds_the_pipes_of_the_dead(method):
    with processes.ProcessPool(1, start_method=method) as pool:
        engine = engines.load(
            linear_flow.Flow("f").add(tasks.Does("does", "die_with_a_grandchild", 15)), executor=pool, inline=False
        )
        with pytest.raises(exceptions.WorkerLost, match="SIGKILL"):
            engine.run()


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_who_ignores_the_deaths_of_children_has_results_and_losses_as_ever(tmp_path, method):
    body = f"""
        if __name__ == "__main__":
            signal.signal(signal.SIGCHLD, signal.SIG_IGN)
            with processes.ProcessPool(1, start_method={method!r}) as pool:
                flow = linear_flow.Flow("f").add(tasks.Does("does", "print_umlauts", provides="r"))
                print(engines.run(flow, executor=pool)["r"])
                flow = linear_flow.Flow("f").add(tasks.Does("does", "die_with_a_grandchild", 0))
                try:
                    engines.run(flow, executor=pool)
                except Exception as error:
                    print(type(error).__name__)
            print("closed")
    """
    assert program(tmp_path, body).stdout.splitlines()[-3:] == ["done", "WorkerLost", "closed"]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="nothing forks here")
def test_a_process_that_was_forked_after_a_pool_was_made_has_workers_of_its_own_and_ends(tmp_path):
    body = """
        if __name__ == "__main__":
            pool = processes.ProcessPool(1)
            flow = linear_flow.Flow("f").add(tasks.Does("does", "print_umlauts", provides="r"))
            engines.run(flow, executor=pool)
            child = os.fork()
            print("here" if child else "there", engines.run(flow, executor=pool)["r"], flush=True)
            if child:
                print(os.waitpid(child, 0)[1])
    """
    out = program(tmp_path, body).stdout.splitlines()
    assert sorted(line for line in out if line.endswith("re done")) == ["here done", "there done"]
    assert out[-1] == "0"


def test_programs_that_tasks_start_can_be_interrupted(warm):
    assert ran(tasks.Does("does", "interruptible", provides="r"), warm).storage.fetch("r") == "True"


# -- descriptors -------------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("method", sorted(multiprocessing.get_all_start_methods()))
def test_a_worker_goes_on_or_ends_where_a_task_has_closed_a_low_descriptor_and_opened_another_one(method):
    with processes.ProcessPool(1, start_method=method) as pool:
        for number in range(3, 24):
            with contextlib.suppress(exceptions.WorkerLost):
                ran(tasks.Takes("takes", number, provides="r"), pool)
            assert ran(tasks.Does("does", "print_umlauts", provides="r"), pool).storage.fetch("r") == "done"


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("standard", [(), (0,), (1, 2), (0, 1, 2)], ids=str)
@pytest.mark.parametrize("method", sorted(multiprocessing.get_all_start_methods()))
def test_where_a_task_has_closed_all_descriptors_the_next_one_runs_an_engine_in_processes(method, standard):
    with processes.ProcessPool(1, start_method=method) as pool:
        engine = ran(tasks.RunsInProcesses("runs", provides="r"), pool, [tasks.ClosesAll("closes", standard)])
        assert engine.storage.fetch("r") == b"xxx"


def test_with_few_descriptors_left_large_results_come_another_way(tmp_path):
    pytest.importorskip("numpy")
    body = """
        import resource, socket
        from tests.contract.executor import process_tasks
        if __name__ == "__main__":
            resource.setrlimit(resource.RLIMIT_NOFILE, (256, 256))
            used = [socket.socket() for _ in range(170)]
            flow = unordered_flow.Flow("f").add(
                *(process_tasks.Gives(f"t{n}", "array", 10_000 + n, provides=f"t{n}") for n in range(150))
            )
            results = engines.run(flow, executor="processes", max_workers=2)
            print(all(len(results[f"t{n}"]) == 10_000 + n for n in range(150)))
    """
    ended = program(tmp_path, body)
    assert ended.stdout.splitlines() == ["True"], ended.stderr[-2000:]


def test_with_few_descriptors_large_arguments_leave_some_for_the_results(tmp_path):
    body = """
        import resource
        from tests.contract.executor import process_tasks
        if __name__ == "__main__":
            resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
            flow = unordered_flow.Flow("f")
            for n in range(1500):
                flow.add(process_tasks.Same(f"t{n}", provides=f"t{n}", inject={"value": bytearray(70_000)}))
            results = engines.run(flow, executor="processes", max_workers=2)
            print(all(len(results[f"t{n}"]) == 70_000 for n in range(1500)))
    """
    ended = program(tmp_path, body)
    assert ended.stdout.splitlines() == ["True"], ended.stderr[-2000:]


# -- the surroundings of a task --------------------------------------------------------------------


@pytest.mark.parametrize("kept", [True, False])
def test_a_run_has_the_surroundings_that_the_engine_has_when_it_begins(kept, tmp_path, monkeypatch):
    def seen(pool):
        return ran(tasks.Does("does", "surroundings", provides="seen"), pool).storage.fetch("seen")

    level = logging.getLogger("tests.hostile.level")
    with processes.ProcessPool(1) if kept else contextlib.nullcontext("processes") as pool:
        before = seen(pool)
        assert before == {
            "variable": None, "folder": str(pathlib.Path.cwd()), "path": sys.path[0], "level": 0
        }  # fmt: skip
        with monkeypatch.context() as patch:
            patch.setenv("HOSTILE", "on")
            patch.chdir(tmp_path)
            patch.syspath_prepend(str(tmp_path))
            patch.setattr(level, "level", logging.ERROR)
            assert seen(pool) == {
                "variable": "on", "folder": str(tmp_path), "path": str(tmp_path), "level": logging.ERROR
            }  # fmt: skip
        assert seen(pool) == before


def test_what_a_task_changes_of_its_surroundings_is_undone_for_the_next_run_and_what_is_added_to_them_is_kept(
    tmp_path, monkeypatch
):
    def result_of(function, pool):
        flow = linear_flow.Flow("f").add(tasks.Does("does", function, provides="seen"))
        token = tasks.CARRIED.set([])
        try:
            return engines.run(flow, executor=pool, inline=False, context=[tasks.CARRIED])["seen"]
        finally:
            tasks.CARRIED.reset(token)

    with processes.ProcessPool(1, initializer=tasks.initialise) as pool:
        before = result_of("all_surroundings", pool)
        assert before == {
            "variable": None,
            "folder": str(pathlib.Path.cwd()),
            "path": "/initializer",
            "level": 0,
            "initialised": "yes",
            "commands": os.environ["PATH"],
            "found": ["/initializer"],
            "carried": [],
        }
        result_of("change_surroundings", pool)
        # Modules that a task has imported may rely on what they have added, and are not imported again.
        before |= {"variable": "left", "path": "/left", "found": ["/left", "/initializer"], "level": logging.ERROR}
        assert result_of("all_surroundings", pool) == before
        result_of("change_surroundings", pool)
        monkeypatch.setenv("ANOTHER", "on")
        monkeypatch.chdir(tmp_path)
        monkeypatch.setattr(sys, "path", [*sys.path, str(tmp_path)])
        assert result_of("all_surroundings", pool) == {**before, "folder": str(tmp_path)}


# -- logs and output -------------------------------------------------------------------------------


def test_a_record_arrives_as_it_was_without_what_does_not_travel(warm, caplog):
    ran(tasks.Does("does", "log_extra"), warm)
    (record,) = [one for one in caplog.records if one.name == "tests.hostile"]
    assert (record.msg, record.args, record.getMessage()) == ("paid %d", (5,), "paid 5")
    assert (record.request, record.atom_name, hasattr(record, "lock")) == ("r-17", "does", False)


def test_a_record_of_what_does_not_travel_has_its_message(warm, caplog):
    ran(tasks.Does("does", "log_odd_arguments"), warm)
    said = [one.getMessage() for one in caplog.records if one.name == "tests.hostile"]
    begins = [
        "the lock is <unlocked _thread.lock",
        "the lock is <Lock(",
        "<tests.contract.executor.hostile_tasks.Unread",
    ]
    assert [one.startswith(begin) for one, begin in zip(said, [*begins, begins[-1]], strict=True)] == [True] * 4
    assert said[2].endswith(" cannot be read")


def test_a_record_comes_without_extra_that_does_not_travel(warm, caplog):
    ran(tasks.Does("does", "log_odd_extra"), warm)
    (record,) = [one for one in caplog.records if one.name == "tests.hostile"]
    assert (record.msg, record.args, record.getMessage()) == ("paid %(sum)s", {"sum": 5}, "paid 5")
    assert (record.sum, record.ids) == (decimal.Decimal("1.5"), [[1], [2]])
    assert [name for name in ("lock", "unread") if hasattr(record, name)] == []


def test_a_record_that_has_no_text_is_reported_as_logging_does(warm, caplog):
    engine = ran(tasks.Does("does", "log_what_has_no_text", provides="result"), warm)
    assert engine.storage.fetch("result") == "done"
    said = [one.getMessage() for one in caplog.records if one.name == "taskflowx.executors.processes"]
    assert "does: --- Logging error ---" in said
    assert "does: Message: 'no place for a lock'" in said


def test_a_handler_that_both_processes_have_made_handles_a_record_once(tmp_path):
    (tmp_path / "with_handler.py").write_text(
        "import logging, os\n"
        "from tests.contract.executor.hostile_tasks import Does\n"
        "class Own(Does): pass\n"
        "logging.getLogger('tests').addHandler(logging.FileHandler(os.environ['LOG_FILE']))\n",
        encoding="utf-8",
    )
    body = """
        import with_handler
        if __name__ == "__main__":
            flow = linear_flow.Flow("f").add(with_handler.Own("does", "log", "said"))
            engines.run(flow, executor="processes", inline=False)
    """
    log = tmp_path / "log"
    program(tmp_path, body, LOG_FILE=str(log))
    assert log.read_text(encoding="utf-8") == "said\n"


def test_standard_output_is_a_text_stream(warm):
    engine = ran(tasks.Does("does", "stream_of", provides="facts"), warm)
    assert engine.storage.fetch("facts") == ("backslashreplace", "w", "utf-8", False, 1)


def test_what_is_written_in_pieces_comes_in_whole_characters_and_lines(warm, caplog):
    caplog.set_level(logging.INFO)
    ran(tasks.Does("does", "print_in_pieces"), warm)
    said = [(one.levelname, one.getMessage()) for one in caplog.records if one.name == "taskflowx.executors.processes"]
    assert "".join(message.removeprefix("does: ") for _, message in said[:-5]) == "größer €"
    assert said[-5:] == [
        ("INFO", "does: \\xe2\\x82\x0c one \u2028 line"),
        ("INFO", "does: and"),
        ("INFO", "does: another"),
        ("WARNING", "does: no end "),
        ("WARNING", "does: \\xf0\\x9f"),
    ]


@pytest.mark.parametrize("end", ["", "\n", "\r"], ids=["flushed", "line", "again"])
def test_what_is_printed_is_seen_while_the_task_goes_on(end, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    gate = tmp_path / "gate"

    class Opens(logging.Handler):
        def emit(self, record):
            if record.getMessage().rstrip("\r") == "does: begun":
                gate.touch()

    opens, logger = Opens(), logging.getLogger("taskflowx.executors.processes")
    logger.addHandler(opens)
    try:
        engine = ran(tasks.Does("does", "print_and_wait", end, str(gate)), "processes")  # it waits until it is seen
    finally:
        logger.removeHandler(opens)
    assert engine.storage.get_flow_state() == states.SUCCESS


# -- how it starts ---------------------------------------------------------------------------------


def test_a_program_that_is_no_file_runs_what_can_be_imported():
    body = (
        "from taskflowx import engines\n"
        "from taskflowx.patterns import linear_flow\n"
        "from tests.contract.executor import hostile_tasks as tasks\n"
        "flow = linear_flow.Flow('f').add(tasks.Does('does', 'print_umlauts', provides='r'))\n"
        "print(engines.run(flow, executor='processes')['r'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-"], input=body, capture_output=True, text=True, timeout=50, env=environment(), check=False
    )
    assert ended.stdout.splitlines()[-1:] == ["done"], ended.stderr[-2000:]


def test_a_program_that_is_no_file_has_today_s_values_in_workers_that_are_kept():
    pytest.importorskip("cloudpickle")
    body = (
        "from taskflowx import engines, task\n"
        "from taskflowx.executors.processes import ProcessPool\n"
        "from taskflowx.patterns import linear_flow\n"
        "FACTOR = 2\n"
        "class Times(task.Task):\n"
        "    def execute(self):\n"
        "        return FACTOR\n"
        "\n"
        "with ProcessPool(1) as pool:\n"
        "    for FACTOR in (2, 3):\n"
        "        print(engines.run(linear_flow.Flow('f').add(Times('t', provides='r')), executor=pool)['r'])\n"
    )
    ended = subprocess.run(
        [sys.executable, "-"], input=body, capture_output=True, text=True, timeout=50, env=environment(), check=False
    )
    assert ended.stdout.splitlines() == ["2", "3"], ended.stderr[-2000:]


@pytest.mark.skipif("forkserver" not in multiprocessing.get_all_start_methods(), reason="there is no fork server")
def test_the_fork_server_has_imported_what_workers_need(tmp_path):
    body = """
        if __name__ == "__main__":
            pool = processes.ProcessPool(1)
            from multiprocessing import forkserver
            print(*forkserver._forkserver._preload_modules)
    """
    modules = program(tmp_path, body).stdout.split()
    assert {"__main__", "taskflowx.executors.processes.worker", "taskflowx.engines"} <= set(modules)


@pytest.mark.parametrize("library", ["eventlet", "gevent"])
def test_a_process_with_other_sockets_is_refused(library, monkeypatch):
    class Patched:
        is_monkey_patched = is_module_patched = staticmethod(lambda name: name == "socket")

    monkeypatch.setitem(sys.modules, "eventlet.patcher" if library == "eventlet" else "gevent.monkey", Patched)
    with pytest.raises(RuntimeError, match=library):
        processes.ProcessPool(1)


def test_an_engine_that_is_killed_takes_workers_along_that_keep_the_interpreter_to_themselves(tmp_path):
    body = """
        import re, threading
        from taskflowx import task
        class Holds(task.Task):
            def execute(self):
                print(os.getpid(), flush=True)
                re.match(r"(a+)+$", "a" * 34 + "b")
        if __name__ == "__main__":
            engines.run(linear_flow.Flow("f").add(Holds("t")), executor="processes", inline=False)
    """
    script = tmp_path / "program.py"
    imports = "import os\nfrom taskflowx import engines\nfrom taskflowx.patterns import linear_flow\n"
    script.write_text(imports + textwrap.dedent(body), encoding="utf-8")
    engine = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True, env=environment())
    with engine.stdout as out:
        pid = int(out.readline())
    watched = os.pidfd_open(pid) if hasattr(os, "pidfd_open") else pytest.skip("nobody tells of its end here")
    engine.kill()
    engine.wait()
    poll = select.poll()
    poll.register(watched, select.POLLIN)
    ended = bool(poll.poll(20_000))
    os.close(watched)
    if not ended:
        os.kill(pid, signal.SIGKILL)
    assert ended
