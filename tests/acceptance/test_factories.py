"""A program posts a run by the name of its factory, and another one that has the store alone goes on with it."""

import os
import pathlib
import subprocess
import sys

import pytest

pytestmark = pytest.mark.usefixtures("nothing_is_left")

FLOWS = """
from taskflowx import task
from taskflowx.patterns import linear_flow
class Say(task.Task):
    def execute(self):
        print("ran")
def make(name):
    return linear_flow.Flow(name).add(Say("say"))
"""
POST = """
import sys
from taskflowx import engines
engines.load_from_factory(sys.argv[2], ["made"], backend="dir:///" + sys.argv[1])
"""
CONDUCT = """
import contextlib, sys
from taskflowx import engines
from taskflowx.persistence import backends
def main():
    backend = backends.fetch("dir:///" + sys.argv[1])
    with contextlib.closing(backend.get_connection()) as connection:
        [record] = [record for book in connection.get_logbooks() for record in book]
    engines.load_from_detail(record, backend=backend).run()
if __name__ == "__main__":
    main()
"""


@pytest.mark.parametrize(
    ("files", "factory", "command"),
    [
        ({"flows.py": FLOWS, "conduct.py": CONDUCT}, "flows.make", ["conduct.py"]),
        ({"conduct.py": FLOWS + CONDUCT}, "conduct.make", ["conduct.py"]),
        ({"flows.py": FLOWS, "conduct.py": CONDUCT}, "flows.make", ["-m", "conduct"]),
        ({"app/flows.py": FLOWS, "app/conduct.py": CONDUCT}, "app.flows.make", ["-m", "app.conduct"]),
        (
            {"app/__init__.py": "", "app/flows/__init__.py": "", "app/flows/one.py": FLOWS}
            | {"app/cmd/conduct.py": CONDUCT}
            | {"bin/run": "import sys\nsys.path.insert(0, '.')\nfrom app.cmd.conduct import main\nmain()\n"},
            "app.flows.one.make",
            ["bin/run"],
        ),
        ({"flows.py": FLOWS}, "flows.make", ["-c", CONDUCT]),
    ],
)  # fmt: skip
def test_a_process_that_has_the_store_alone_goes_on_with_factories_of_its_program(tmp_path, files, factory, command):
    for name, text in files.items():
        (tmp_path / "work" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "work" / name).write_text(text)
    (tmp_path / "work" / "post.py").write_text(POST)
    for arguments in (["post.py", tmp_path / "store", factory], [*command, tmp_path / "store"]):
        ran = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=tmp_path / "work", capture_output=True, text=True, timeout=50, check=False,
            env={**os.environ, "PYTHONPATH": str(pathlib.Path(__file__).resolve().parents[2])},
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
    assert ran.stdout == "ran\n"
