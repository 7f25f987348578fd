"""Executors that a package brings: found by name, and held to the contract by one line of their own."""

import importlib.metadata
import pathlib
import subprocess
import sys

import pytest

from taskflowx import engines, task
from taskflowx.patterns import linear_flow

PACKAGE = pathlib.Path(__file__).with_name("plugin")

CONTRACT = """
from taskflowx.testing import executor_contract

TestTurnstile = executor_contract.case(lambda: "turnstile")
"""


def test_an_installed_package_brings_an_executor_that_keeps_to_the_contract(tmp_path):
    installed = tmp_path / "installed"
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-index"]
    subprocess.run([*install, "--target", installed, PACKAGE], check=True, timeout=50)
    (installed / "test_turnstile.py").write_text(CONTRACT, encoding="utf-8")
    command = [sys.executable, "-m", "unittest", "-v", "test_turnstile"]
    ran = subprocess.run(command, cwd=installed, capture_output=True, text=True, timeout=50, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "Ran 21 tests" in ran.stderr
    unknown = "from taskflowx import executors; executors.fetch('turnstyle')"
    ran = subprocess.run(
        [sys.executable, "-c", unknown], cwd=installed, capture_output=True, text=True, timeout=50, check=False
    )
    assert "'threads', 'turnstile'" in ran.stderr


class Brings:
    """Stands for an entry point."""

    name = "odd"
    value = "somewhere:odd"

    def load(self):
        return lambda max_workers: object()


def test_a_package_that_brings_something_else_is_named(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda **_: [Brings()])
    flow = linear_flow.Flow("f").add(task.FunctorTask(print))
    with pytest.raises(
        TypeError, match=r"'odd' \(somewhere:odd\) gave <object .*, expected a taskflowx.executors.base"
    ):
        engines.load(flow, executor="odd")
