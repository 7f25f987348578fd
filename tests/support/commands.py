"""The command line in a folder with the modules of a user: as a process of its own, or in this one, which is faster."""

from __future__ import annotations

import io
import json
import os
import pathlib
import subprocess
import sys
from typing import Any, NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
#: the script that is installed with the package
SCRIPT = str(pathlib.Path(sys.executable).parent / "taskflowx")

#: what is not in the environment of a command unless a test says so
UNSET = ("TASKFLOWX_BACKEND", "NO_COLOR", "FORCE_COLOR", "COLUMNS")

SHOP = """
import os, signal, sys
from pathlib import Path

from taskflowx import Task, as_task, linear, retry, unordered

HERE = Path(__file__).parent


def is_there(name):
    return (HERE / name).exists()


@as_task
def reserve(item: str) -> str:
    print("reserve", item, flush=True)
    return f"one {item}"


@reserve.revert
def give_back(result):
    print("give back", result, flush=True)
    if is_there("no-way-back"):
        raise OSError("the shelf is full")


@as_task
def charge(card: str) -> int:
    print("charge", card, flush=True)
    if is_there("die"):
        os.kill(os.getpid(), signal.SIGKILL)
    if is_there("signal"):
        os.kill(os.getpid(), getattr(signal, (HERE / "signal").read_text()))
    if card == "bad":
        try:
            raise ConnectionError("the bank is closed")
        except ConnectionError as error:
            raise PermissionError("the card is declined") from error
    return 5


@as_task
def send(reserve: str, charge: int) -> str:
    print("send", reserve, flush=True)
    return f"{reserve} for {charge}"


order = linear("order", reserve, charge, send)


def make_order():
    return linear("order", reserve, charge, send)


class Pay(Task):
    default_on_unknown = "ask"
    default_provides = "receipt"

    def execute(self, amount):
        if is_there("die"):
            os.kill(os.getpid(), signal.SIGKILL)
        return f"receipt for {amount}"


@as_task
def thank(receipt: str) -> str:
    return f"thanks, with a {receipt}"


payment = linear("payment", Pay("pay"), thank)
three = 3


def needs_arguments(one):
    return one


def makes_nothing():
    return None


def fails():
    raise LookupError("no plan for today")
"""


class Ended(NamedTuple):
    """How a command has ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Its standard output, which is one JSON document."""
        return json.loads(self.out)


class Folder:
    """A folder with modules of a user, in which commands are run.

    :param path: the folder
    """

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path
        self.write("shop.py", SHOP)

    def write(self, name: str, text: str = "") -> pathlib.Path:
        """Write a file."""
        (self.path / name).write_text(text, encoding="utf-8")
        return self.path / name

    def command(self, *given: str) -> list[str]:
        """Return the command as a process takes it."""
        return [sys.executable, "-m", "taskflowx", *given]

    def env(self, **more: str) -> dict[str, str]:
        """Return the environment of a command: neither a store nor colours nor a width are set in it."""
        kept = {name: value for name, value in os.environ.items() if name not in UNSET}
        return {**kept, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "TERM": "xterm", **more}

    def __call__(self, *given: str, stdin: str = "", **env: str) -> Ended:
        """Run a command to its end.

        :param stdin: the standard input
        :param env: variables of its environment
        """
        done = subprocess.run(
            self.command(*given),
            cwd=self.path,
            env=self.env(**env),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        return Ended(done.returncode, done.stdout, done.stderr)


class Inside(Folder):
    """As `Folder`, in this process: for what needs none of its own.

    :param path: the folder
    :param monkeypatch: pytest's
    :param capfd: pytest's
    """

    def __init__(self, path: pathlib.Path, monkeypatch: Any, capfd: Any) -> None:
        super().__init__(path)
        self._monkeypatch, self._capfd = monkeypatch, capfd

    def __call__(self, *given: str, stdin: str = "", **env: str) -> Ended:
        """Run a command to its end."""
        from taskflowx import cli

        before = set(sys.modules)
        with self._monkeypatch.context() as patched:
            patched.chdir(self.path)
            patched.syspath_prepend(str(self.path))
            patched.setattr(sys, "stdin", io.StringIO(stdin))
            for name in UNSET:
                patched.delenv(name, raising=False)
            for name, value in env.items():
                patched.setenv(name, value)
            self._capfd.readouterr()
            code = cli.main(list(given))
        for name in set(sys.modules) - before:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(self.path)):
                del sys.modules[name]
        return Ended(code, *self._capfd.readouterr())
