"""`taskflow` as another name of this package. Each program runs in an interpreter of its own."""

import os
import pickle
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

pytestmark = pytest.mark.usefixtures("nothing_is_left")

ROOT = Path(__file__).resolve().parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONSAFEPATH": ""}

DIST = "example_plugin-1.0.dist-info"


def python(*arguments, cwd=ROOT, **environment):
    """Run Python, and return what it did, with its error output below its output."""
    return subprocess.run(
        [sys.executable, "-W", "error", *map(str, arguments)],
        cwd=cwd,
        env={**ENVIRONMENT, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )


def printed(program, **environment):
    """Return what a program prints that has called `install`."""
    ran = python("-c", "from taskflowx import compat\ncompat.install()\n" + textwrap.dedent(program), **environment)
    assert ran.returncode == 0, ran.stdout
    return ran.stdout.split()


@pytest.fixture
def program(tmp_path):
    """Return a function that writes a program into a folder of its own."""

    def write(text, name="program.py"):
        path = tmp_path / "programs" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def taskflow_itself(tmp_path):
    """Return a folder with a package called taskflow that is not ours."""
    package = tmp_path / "theirs" / "taskflow"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("")
    (package / "task.py").write_text("")
    return package.parent


@pytest.mark.parametrize(
    "statement",
    [
        "import taskflow.types.failure; found = taskflow.types.failure",
        "from taskflow.types import failure as found",
        "from taskflow import types; import taskflow.types.failure; found = types.failure",
        "import importlib; found = importlib.import_module('taskflow.types.failure')",
        "import taskflow; found = __import__('taskflow.types.failure').types.failure",
        "import importlib; found = importlib.import_module('.failure', 'taskflow.types')",
        "import taskflow.engines; import taskflow.types.failure as found",
    ],
)
def test_every_way_to_import_gives_the_same_module(statement):
    lines = f"{statement}\nimport taskflowx.types.failure as ours, sys\nprint(found is ours)\n"
    lines += "print(sys.modules['taskflow.types.failure'] is ours)" if "from taskflow.types" not in statement else ""
    assert set(printed(lines)) == {"True"}
    assert printed("import taskflowx.types.failure as ours\n" + statement + "\nprint(found is ours)") == ["True"]


def test_a_module_keeps_what_it_says_of_itself():
    assert printed("""
        import taskflow.storage
        m = taskflow.storage
        print(m.__name__, m.__spec__.name, m.__package__, taskflow.__name__, taskflow.storage.Storage.__module__)
    """) == ["taskflowx.storage", "taskflowx.storage", "taskflowx", "taskflowx", "taskflowx.storage"]


def test_a_module_that_is_missing_here_is_a_clear_import_error():
    assert printed("""
        for name in ("taskflow.nonsense", "taskflow.engines.nonsense"):
            try:
                __import__(name)
            except ImportError as error:
                print(type(error).__name__, "taskflow" in error.name, "taskflowx" in str(error))
        try:
            from taskflow import nonsense
        except ImportError as error:
            print("nonsense" in str(error))
    """) == ["ModuleNotFoundError", "True", "True"] * 2 + ["True"]


MODULES = """
import pkgutil, taskflowx
names = [m.name for m in pkgutil.walk_packages(taskflowx.__path__, "taskflow.", onerror=print)
         if not any(part in m.name for part in ("backends", "executors", "__main__", "testing"))]
"""


@pytest.mark.parametrize("seed", range(4))
def test_threads_import_modules_in_any_order(seed):
    """Each of eight threads imports all modules in an order of its own, in each of the ways to import."""
    assert printed(f"""
        import importlib, random, sys, threading
        sys.setswitchinterval(1e-6)
        {MODULES.replace(chr(10), chr(10) + " " * 8)}
        assert len(names) > 30, names
        said, start = [], threading.Barrier(8)
        def fetch(number):
            chance = random.Random({seed} * 8 + number)
            start.wait()
            try:
                for name in chance.sample(names, len(names)):
                    way, own = chance.randrange(3), {{}}
                    parent, _, last = name.rpartition(".")
                    if way == 0:
                        own[last] = importlib.import_module(name)
                    elif way == 1:
                        exec(f"from {{parent}} import {{last}}", own)
                    else:
                        exec(f"import {{name}} as {{last}}", own)
                        exec(f"from {{name}} import *", {{}})
                    assert own[last] is importlib.import_module("taskflowx" + name[len("taskflow"):])
            except BaseException as error:
                said.append(f"{{name}}, {{way}}: {{error!r}}")
        threads = [threading.Thread(target=fetch, args=(number,)) for number in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(*(said or ["fine"]))
    """) == ["fine"]


def test_what_a_thread_has_got_while_a_module_is_imported_gives_the_same_names():
    assert printed("""
        import importlib, sys, threading
        import taskflowx.compat as compat
        begun, go = threading.Event(), threading.Event()
        real = compat._Finder.exec_module
        def slow(self, module):
            begun.set()
            go.wait()
            real(self, module)
        compat._Finder.exec_module = slow
        first = threading.Thread(target=lambda: importlib.import_module("taskflow.patterns"))
        first.start()
        begun.wait()
        meanwhile = sys.modules["taskflow.patterns"]
        print(list(meanwhile.__path__) == list(importlib.import_module("taskflowx.patterns").__path__))
        go.set()
        first.join()
        importlib.import_module("taskflow.patterns.graph_flow")
        print(meanwhile is not sys.modules["taskflow.patterns"])
        print(meanwhile.graph_flow is sys.modules["taskflowx.patterns.graph_flow"], hasattr(meanwhile, "no_such"))
    """) == ["True", "True", "True", "False"]


def test_packages_are_walked_under_the_other_name():
    assert printed("""
        import pkgutil, sys
        import taskflow
        found = {module.name for module in pkgutil.walk_packages(taskflow.__path__, "taskflow.")}
        print({"taskflow.patterns.graph_flow", "taskflow.engines.action_engine.engine"} <= found)
        print(all(sys.modules[name] is sys.modules["taskflowx" + name[8:]] for name in found if name in sys.modules))
    """) == ["True", "True"]


def test_modules_are_found_and_loaded_again_under_the_other_name():
    assert printed("""
        import importlib, importlib.util, sys
        spec = importlib.util.find_spec("taskflow.patterns")
        print(spec.name, len(spec.submodule_search_locations), "taskflow.patterns" in sys.modules)
        from taskflow.utils import persistence_utils
        print(importlib.reload(persistence_utils) is persistence_utils)
        print(persistence_utils.__name__, persistence_utils.__spec__.name)
    """) == ["taskflow.patterns", "1", "False", "True", *["taskflowx.utils.persistence_utils"] * 2]


def test_install_in_many_threads_is_once():
    ran = python(
        "-c",
        textwrap.dedent("""
        import sys, threading
        import taskflowx.compat as compat
        threads = [threading.Thread(target=compat.install) for _ in range(8)]
        [thread.start() for thread in threads]
        [thread.join() for thread in threads]
        print(sum(isinstance(finder, compat._Finder) for finder in sys.meta_path))
    """),
    )
    assert ran.stdout == "1\n"


def test_nothing_happens_unless_it_is_asked_for():
    ran = python(
        "-c",
        "import sys; before = [*sys.meta_path]\n"
        "import taskflowx.compat, taskflowx.engines, logging\n"
        "print('taskflow' in sys.modules, sys.meta_path == before, taskflowx.storage.LOG.name)\n",
    )
    assert ran.stdout.split() == ["False", "True", "taskflowx.storage"]


def test_taskflow_itself_is_never_looked_at(taskflow_itself):
    assert printed("import taskflow.task; print(taskflow.task.__name__)", PYTHONPATH=f"{taskflow_itself}:{ROOT}") == [
        "taskflowx.task"
    ]


@pytest.mark.parametrize("module", ["taskflow", "taskflow.task"])
def test_it_refuses_when_taskflow_itself_is_there(taskflow_itself, module):
    ran = python(
        "-c",
        f"import {module}\nfrom taskflowx import compat\n"
        "try: compat.install()\nexcept RuntimeError as error: print(error)\nimport sys; print(compat._Finder.__name__, "
        "any(isinstance(f, compat._Finder) for f in sys.meta_path))",
        PYTHONPATH=f"{taskflow_itself}:{ROOT}",
    )
    assert "before the first import of taskflow" in ran.stdout
    assert str(taskflow_itself) in ran.stdout
    assert ran.stdout.split()[-1] == "False"


def test_twice_is_once():
    assert printed("""
        import sys
        compat.install()
        print(sum(type(finder).__name__ == "_Finder" for finder in sys.meta_path))
    """) == ["1"]


def test_uninstall_takes_back_everything():
    assert printed("""
        import logging, sys
        import taskflowx.storage
        import taskflow.engines
        compat.uninstall()
        compat.uninstall()
        print(sum(name.partition(".")[0] == "taskflow" for name in sys.modules))
        print(sum(type(finder).__name__ == "_Finder" for finder in sys.meta_path))
        print(taskflowx.storage.LOG.name, logging.getLogger("taskflowx.storage") is taskflowx.storage.LOG.logger)
        try:
            import taskflow.task
        except ImportError as error:
            print(error.name)
        compat.install()
        import taskflow.storage
        print(taskflow.storage is taskflowx.storage, taskflow.storage.LOG.name)
    """) == ["0", "0", "taskflowx.storage", "True", "taskflow", "True", "taskflow.storage"]


LOGS = """
    import logging
    import taskflow.storage, taskflow.engines

    class Kept(logging.Handler):
        def emit(self, record):
            print(record.name, record.getMessage())

    logging.getLogger("taskflow").addHandler(Kept())
    logging.getLogger("taskflow.storage").addFilter(lambda record: "secret" not in record.getMessage())
    logging.getLogger("taskflow").setLevel(logging.INFO)
    taskflow.storage.LOG.info("info")
    taskflow.storage.LOG.debug("debug")
    taskflow.storage.LOG.warning("secret")
    print(logging.getLogger("taskflow.storage").isEnabledFor(logging.DEBUG))
"""


@pytest.mark.parametrize("before", ["", "import taskflowx.storage; compat.uninstall(); compat.install()"])
def test_loggers_have_taskflow_s_names(before):
    assert printed(before + textwrap.dedent(LOGS)) == ["taskflow.storage", "info", "False"]


def test_a_configuration_made_before_the_module_is_loaded_holds_for_it():
    assert printed("""
        import logging, logging.config
        logging.config.dictConfig({"version": 1, "loggers": {"taskflow": {"level": "ERROR"}}})
        import taskflow.storage
        log = taskflow.storage.LOG.logger
        print(log.name, log.getEffectiveLevel(), log.disabled)
        logging.config.dictConfig({"version": 1, "loggers": {"taskflow": {"level": "INFO"}}})
        print(log.getEffectiveLevel(), log.disabled)
        import taskflow.logging
        print(taskflow.logging.getLogger().logger.name, taskflow.logging.getLogger("mine").logger.name)
    """) == ["taskflow.storage", "40", "False", "20", "False", "taskflow", "mine"]


def test_every_module_logs_under_taskflow_s_name():
    assert printed("""
        import importlib, logging, pkgutil, warnings
        warnings.simplefilter("ignore")  # libraries that are imported may warn of themselves
        import taskflow
        for module in pkgutil.walk_packages(taskflow.__path__, "taskflow."):
            if ".migrations." in module.name:
                continue  # scripts that Alembic runs
            try:
                found = importlib.import_module(module.name)
            except ImportError:
                continue  # its library is not installed
            for log in vars(found).values():
                if isinstance(log, (logging.Logger, logging.LoggerAdapter)):
                    name = getattr(log, "logger", log).name
                    assert name == module.name, (name, module.name)
        print([name for name in logging.Logger.manager.loggerDict if name.startswith("taskflowx")])
    """) == ["[]"]


def test_plug_ins_are_found_under_either_name_of_their_group(tmp_path):
    (tmp_path / DIST).mkdir()
    (tmp_path / DIST / "METADATA").write_text("Metadata-Version: 2.1\nName: example-plugin\nVersion: 1.0\n")
    (tmp_path / DIST / "entry_points.txt").write_text(
        "[taskflow.engines]\nours = example_plugin:Engine\nserial = example_plugin:Nothing\n"
        "alias = taskflow.engines.action_engine.engine:SerialActionEngine\n"
    )
    (tmp_path / "example_plugin.py").write_text(
        "from taskflow.engines.action_engine import engine\nclass Engine(engine.SerialActionEngine): pass\n"
    )
    assert printed(
        """
        import taskflow.engines
        from taskflow.patterns import linear_flow
        for kwargs in ({"engine": "ours"}, {"engine": "serial"}, {"engine": "alias"}, {"namespace": "taskflow.engines"},
                       {"namespace": "taskflow.engines", "engine": "ours"}):
            print(type(taskflow.engines.load(linear_flow.Flow("f"), **kwargs)).__name__)
        """,
        PYTHONPATH=f"{tmp_path}:{ROOT}",
    ) == ["Engine", "SerialActionEngine", "SerialActionEngine", "SerialActionEngine", "Engine"]
    # Without the alias they would bring TaskFlow's own classes.
    ran = python(
        "-c",
        "import taskflowx.engines\nfrom taskflowx.patterns import linear_flow\n"
        "try: taskflowx.engines.load(linear_flow.Flow('f'), engine='ours')\n"
        "except taskflowx.exceptions.NotFound as error: print(error)",
        PYTHONPATH=f"{tmp_path}:{ROOT}",
    )
    assert "Could not find engine 'ours'" in ran.stdout


def test_names_in_records_mean_ours():
    assert printed("""
        import importlib
        from taskflow import engines, exceptions
        from taskflow.persistence import models
        from taskflow.types import failure
        stored = {"exception_str": "gone", "traceback_str": None, "version": 1, "causes": [], "exc_args": [],
                  "exc_type_names": ["taskflow.exceptions.NotFound", "Exception"]}
        read = failure.Failure.from_dict(stored)
        print(read.check(exceptions.NotFound) is exceptions.NotFound, read.check("taskflow.exceptions.NotFound"))
        live = failure.Failure.from_exception(exceptions.NotFound("gone"))
        print(live.check("taskflow.exceptions.NotFound"), exceptions.WrappedFailure([live]).check(
            "taskflow.exceptions.TaskFlowException"))
        detail = models.FlowDetail("f", "0")
        detail.meta["factory"] = {"name": "taskflow.patterns.linear_flow.Flow", "args": ["made"], "kwargs": {}}
        print(engines.flow_from_detail(detail).name)
    """) == [
        "True",
        "taskflow.exceptions.NotFound",
        "taskflow.exceptions.NotFound",
        "taskflow.exceptions.TaskFlowException",
        "made",
    ]


def test_what_is_pickled_under_the_alias_loads_under_either_name():
    pickled = printed("""
        import pickle
        from taskflow import exceptions
        from taskflow.types import failure
        print(pickle.dumps(failure.Failure.from_exception(exceptions.NotFound("gone"))).hex())
    """)[0]
    assert pickle.loads(bytes.fromhex(pickled)).exception_str == "gone"
    load = f"import pickle; print(pickle.loads(bytes.fromhex('{pickled}')).exception_str)"
    assert printed(load) == ["gone"]


def test_a_pickle_that_names_taskflow_loads_under_the_alias():
    assert printed("""
        import pickle
        print(pickle.loads(b"ctaskflow.exceptions\\nNotFound\\n.").__module__)
    """) == ["taskflowx.exceptions"]


# ------------------------------------------------------------------------------------------------- as a command


def compat(*arguments, **options):
    return python("-m", "taskflowx.compat", *arguments, **options)


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",)])
def test_without_arguments_it_explains_itself(arguments):
    ran = compat(*arguments)
    assert ran.returncode == 0
    assert "python -m taskflowx.compat PROGRAM" in ran.stdout
    assert "-m MODULE" in ran.stdout


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(("-x", "y"), "unknown option -x"), (("-m",), "-m needs the name"), (("nowhere.py",), "no such file")],
)
def test_a_wrong_command_line_is_status_2(arguments, said):
    ran = compat(*arguments)
    assert (ran.returncode, "Traceback" in ran.stdout) == (2, False)
    assert said in ran.stdout


SELF_PORTRAIT = """
    import sys
    import taskflow.task
    import beside
    print(__name__, sys.modules["__main__"].__dict__ is globals(), __package__ or None, __spec__ and __spec__.name)
    print(sys.argv, sys.path[0], __file__, taskflow.task.__name__)
"""


def test_a_program_runs_as_if_it_had_been_started_itself(program):
    path = program(SELF_PORTRAIT)
    program("", "beside.py")
    ran = compat(path, "-m", "x", "--help")
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines() == [
        "__main__ True None None",
        f"{[str(path), '-m', 'x', '--help']} {path.parent} {path} taskflowx.task",
    ]


def test_a_module_runs_as_if_it_had_been_started_itself(program):
    path = program(SELF_PORTRAIT, "package/__main__.py")
    program("", "package/__init__.py")
    program("", "beside.py")
    folder = path.parent.parent
    ran = compat("-m", "package", "-m", "x", cwd=folder)
    assert ran.returncode == 0, ran.stdout
    assert ran.stdout.splitlines() == [
        "__main__ True package package.__main__",
        f"{[str(path), '-m', 'x']} {folder} {path} taskflowx.task",
    ]


def test_the_exit_status_is_the_program_s(program):
    assert compat(program("import sys; sys.exit(7)")).returncode == 7
    assert compat(program("")).returncode == 0
    failed = compat(program("raise LookupError('oh')"))
    assert failed.returncode == 1
    assert failed.stdout.endswith("LookupError: oh\n")


@pytest.mark.parametrize("how", ["spawn", "forkserver", "fork"])
@pytest.mark.parametrize("as_module", [False, True])
def test_processes_that_a_program_starts_run_on_taskflowx_too(program, how, as_module):
    path = program(f"""
        import multiprocessing
        import taskflow.task

        def work(queue):
            queue.put(taskflow.task.__name__)

        if __name__ == "__main__":
            context = multiprocessing.get_context("{how}")
            queue = context.SimpleQueue()
            process = context.Process(target=work, args=(queue,))
            process.start()
            process.join()
            print(process.exitcode, queue.get() if not queue.empty() else None)
    """)
    ran = compat("-m", path.stem, cwd=path.parent) if as_module else compat(path)
    assert ran.stdout == "0 taskflowx.task\n"


def test_the_processes_executor_runs_tasks_of_a_program(program):
    path = program("""
        import os
        import taskflow.engines
        from taskflow import task
        from taskflow.patterns import linear_flow

        class Elsewhere(task.Task):
            default_provides = "pid"
            def execute(self):
                return os.getpid(), task.__name__

        if __name__ == "__main__":
            flow = linear_flow.Flow("f").add(Elsewhere())
            pid, name = taskflow.engines.run(flow, engine="parallel", executor="processes", max_workers=1)["pid"]
            print(pid != os.getpid(), name)
    """)
    ran = compat(path)
    assert ran.stdout.split() == ["True", "taskflowx.task"], ran.stdout
