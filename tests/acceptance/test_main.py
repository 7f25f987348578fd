"""The command line itself: help, versions, what it imports, and what it says without its extra."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import pytest

from tests.support import commands


@pytest.mark.parametrize("start", [[sys.executable, "-m", "taskflowx"], [commands.SCRIPT]])
def test_as_a_program(start):
    done = subprocess.run([*start, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"taskflowx {importlib.metadata.version('taskflowx')}\n"


def test_without_a_command_it_helps(shop):
    ended = shop()
    assert ended.code in (0, 2)  # by the version of Typer
    assert "Usage: taskflowx" in ended.out + ended.err


def test_help_names_all_commands_and_exit_codes(shop):
    text = " ".join(shop("--help").out.split())
    for name in (
        *("run", "check", "runs", "show", "resume", "rollback", "retry-failed", "skip", "resolve", "history", "fork"),
        *("prune", "report", "db"),
    ):
        assert f" {name} " in text
    assert "0 done, 1 failed and undone, 2 usage, 3 not fully undone, 4 suspended or waiting" in text


def test_help_imports_neither_engines_nor_stores_nor_rich():
    code = (
        "import sys; from taskflowx import cli; cli.main(['--help'])\n"
        "heavy = ('rich.console', 'rich.text', 'sqlalchemy', 'alembic', 'networkx', 'asyncio', 'taskflowx.engines',"
        " 'taskflowx.persistence', 'taskflowx.task', 'taskflowx.cli.running', 'taskflowx.cli.output')\n"
        "print('loaded:', [name for name in heavy if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize("missing", ["typer", "rich"])
def test_without_its_extra_it_says_how_to_install_it(missing):
    code = f"import sys; sys.modules[{missing!r}] = None; from taskflowx import cli; sys.exit(cli.main(['--help']))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        f'The command line of taskflowx needs {missing}\nInstall it with: pip install "taskflowx[cli]"\n'
    )


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["nope"], "No such command 'nope'"),
        (["run"], "Missing argument"),
        (["run", "shop:order", "--jsn"], "--json"),
        (["runs", "--limit", "0"], "--limit"),
    ],
)
def test_what_there_is_not_is_refused(shop, given, says):
    ended = shop(*given)
    assert (ended.code, ended.out) == (2, "")
    assert says in ended.err
