"""Other engines, each in a virtual environment of its own, with a pinned version from PyPI.

Nothing of theirs is imported here: a small script, run by the interpreter of that environment, measures one
and prints seconds.
"""

from __future__ import annotations

import subprocess
import sys

from benchmarks.harness import ROOT, answer

INSTALLING = 300  # seconds


class Peer:
    """Another engine.

    :param name: its name on PyPI
    :param script: the name of the script; `peer_<name>` by default
    :param needs: what is installed with it, as modules are named
    """

    def __init__(self, name: str, version: str, script: str | None = None, needs: tuple[str, ...] = ()) -> None:
        self.name = name
        self.version = version
        self._script = ROOT / "benchmarks" / f"{script or f'peer_{name}'}.py"
        self._needs = needs
        self._folder = ROOT / f".venv-{name}"
        #: its interpreter
        self.python = self._folder / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether the environment is there and holds the right version."""
        if not self.python.exists():
            return False
        modules = "".join(f"import {need}; " for need in self._needs)
        ask = f"{modules}import importlib.metadata as m; print(m.version({self.name!r}))"
        return _said([str(self.python), "-c", ask]).stdout.strip() == self.version

    def install(self) -> str | None:
        """Make the environment if it is not there; returns why that cannot be done, or None."""
        if self.installed:
            return None
        make = [sys.executable, "-m", "venv", "--clear", str(self._folder)]
        pip = [
            str(self.python),
            "-m",
            "pip",
            "--disable-pip-version-check",
            "--no-input",
            "install",
            "--quiet",
        ]
        commands = [[*pip, f"{self.name}=={self.version}", *self._needs]]
        if not self.python.exists():
            commands.insert(0, make)
        for command in commands:
            try:
                done = _said(command, timeout=INSTALLING)
            except subprocess.TimeoutExpired:
                return f"installing {self.name} {self.version} took more than {INSTALLING} seconds"
            if done.returncode != 0:
                lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason was given"]
                return f"{self.name} {self.version} cannot be installed: {lines[-1]}"
        return None

    def seconds(self, atoms: int, *further: str) -> float:
        """Return how long it takes to run a chain, in a fresh interpreter; what is counted, the script says.

        :param further: arguments for the script
        :raises RuntimeError: when it does not run
        """
        return float(answer([str(self.python), "-I", str(self._script), str(atoms), *further]))


def _said(command: list[str], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


TASKFLOW = Peer("taskflow", "6.5.0")
TASKFLOW_ON_SQLITE = Peer("taskflow", "6.5.0", "peer_taskflow_sqlite", ("sqlalchemy", "alembic"))
DBOS = Peer("dbos", "3.4.0")
