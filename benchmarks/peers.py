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

    :param name: its name on PyPI; the script is `peer_<name>.py`
    """

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.version = version
        self._folder = ROOT / f".venv-{name}"
        #: its interpreter
        self.python = self._folder / "bin" / "python"

    @property
    def installed(self) -> bool:
        """Whether the environment is there and holds the right version."""
        if not self.python.exists():
            return False
        ask = f"import importlib.metadata as m; print(m.version({self.name!r}))"
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
        for command in (make, [*pip, f"{self.name}=={self.version}"]):
            try:
                done = _said(command, timeout=INSTALLING)
            except subprocess.TimeoutExpired:
                return f"installing {self.name} {self.version} took more than {INSTALLING} seconds"
            if done.returncode != 0:
                lines = (done.stderr or done.stdout).strip().splitlines() or ["no reason was given"]
                return f"{self.name} {self.version} cannot be installed: {lines[-1]}"
        return None

    def seconds(self, atoms: int) -> float:
        """Return how long it takes to build, compile and run a chain, in a fresh interpreter.

        :raises RuntimeError: when it does not run
        """
        script = ROOT / "benchmarks" / f"peer_{self.name}.py"
        return float(answer([str(self.python), "-I", str(script), str(atoms)]))


def _said(command: list[str], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


TASKFLOW = Peer("taskflow", "6.5.0")
