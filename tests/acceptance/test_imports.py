"""What is imported, and when: a program pays for what it uses, and needs nothing that it does not use.

Each test is a program of its own, as imports of this one are done.
"""

import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("nothing_is_left")


def test_a_plain_program_imports_nothing_that_it_does_not_use():
    code = (
        "import sys, traceback; given = set(sys.modules)\n"  # with which Python 3.14 imports more
        "from taskflowx import engines, retry, task; from taskflowx.patterns import graph_flow\n"
        "class A(task.Task):\n"
        "    def execute(self): return 1\n"
        "    def revert(self, result, **kwargs): return None\n"
        "engines.run(graph_flow.Flow('f', retry=retry.Times(2, 'r')).add(A('a', provides='x')), engine='parallel')\n"
        "unused = ('ast', 'asyncio', 'concurrent', 'dataclasses', 'inspect', 'json', 'multiprocessing', 'networkx',"
        " 'pickle', 'sqlalchemy', 'subprocess', 'taskflowx.engines.wiring')\n"
        "print([name for name in unused if name in sys.modules and name not in given])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_heavy_modules_are_imported_only_where_they_are_used():
    code = (
        "import sys; from taskflowx.persistence import backends; backends.fetch('memory');"
        "heavy = ('sqlalchemy', 'kazoo', 'importlib.metadata', 'networkx', 'uuid');"
        "print([name for name in heavy if name in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_nothing_but_networkx_is_needed():
    code = (
        "import sys; from taskflowx.types import graph; graph.DiGraph().export_to_dot(); print('pydot' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"False"


def test_a_tree_needs_no_networkx():
    code = "import sys; from taskflowx.types import tree; tree.Node(1).pformat(); print('networkx' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout.strip() == b"False"


def test_no_framework_of_tests_is_imported():
    code = "import sys, taskflowx.testing; print(sorted({'pytest', 'unittest', '_pytest'} & set(sys.modules)))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30, check=True)
    assert ran.stdout.strip() == "[]"


def test_nothing_of_it_is_imported_before_it_is_asked_for():
    program = (
        "import sys; from taskflowx import engines, task; from taskflowx.patterns import linear_flow\n"
        "flow = linear_flow.Flow('f').add(task.FunctorTask(print, name='a'))\n"
        "engines.run(flow)\n"
        "assert not [name for name in sys.modules if name.startswith('taskflowx.pictures')]\n"
        "flow.picture().svg\n"
        "print([name for name in ('networkx', 'html.parser', 'xml.etree') if name in sys.modules])"
    )
    ran = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (ran.stdout, ran.stderr) == ("\n[]\n", "")


def test_the_package_alone_imports_nothing():
    program = "import sys; before = set(sys.modules); import taskflowx; print(sorted(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() in ("['taskflowx']", "['__future__', 'taskflowx']")


def test_modules_are_attributes():
    program = "import taskflowx; print(taskflowx.retry.Times(2).name, taskflowx.task.Task.__name__)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "None Task\n"


def test_a_program_without_settings_of_tasks_never_looks_for_them():
    code = (
        "from taskflowx import controls, engines, retry, task; from taskflowx.patterns import linear_flow\n"
        "flow = linear_flow.Flow('f', retry.Times(2)).add(task.FunctorTask(dict, 'a'))\n"
        "engines.run(flow); print(controls.Use.ever)\n"
        "task.FunctorTask(dict, 'b', timeout=3); print(controls.Use.ever)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "False\nTrue\n"
