"""Other engines, each in a virtual environment of its own, with a pinned version from PyPI.

Nothing of theirs is imported here: a small script, run by the interpreter of that environment, measures one
and prints seconds.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.harness import ROOT, answer

INSTALLING = 300  # seconds
TIDYING = 5.0  # seconds that what a program has started may take to end after it
#: a measurement is nobody's use, and no engine is to report it to its makers
SILENT = {"DO_NOT_TRACK": "1", "HAMILTON_TELEMETRY_ENABLED": "false", "RAY_USAGE_STATS_ENABLED": "0"}


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


def ask(command: list[str], patience: float) -> tuple[list[Any], str | None]:
    """Run a program that prints lines of JSON, in the folder of the project; nothing that it starts outlives it.

    Returns what it has printed, and why it did not end well; None if it did.

    :param patience: seconds after which it is ended
    """
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        out, err = Path(folder, "out"), Path(folder, "err")
        with out.open("wb") as stdout, err.open("wb") as stderr:
            process = subprocess.Popen(
                command,
                cwd=ROOT,
                env={**os.environ, **SILENT, "TMPDIR": folder},
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                start_new_session=True,
            )
        try:
            code: int | None = process.wait(patience)
        except subprocess.TimeoutExpired:
            code = None
        finally:
            process.kill()
            process.wait()
            _end(process.pid)
        whole = out.read_text(encoding="utf-8").splitlines(keepends=True)
        answers = [json.loads(line) for line in whole if line.endswith("\n")]
        said = err.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if code is None:
        return answers, f"it took more than {patience:g} seconds"
    if code != 0:
        return answers, (said or [f"it ended with {code}"])[-1][:200]
    return answers, None


def _end(leader: int) -> None:
    """End all processes that one has left behind; those that see that it is gone and tidy up get a moment for it."""
    if not Path("/proc/self").exists():
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(leader, signal.SIGKILL)
    started = time.monotonic()
    while (left := _running(leader)) and time.monotonic() < started + 2 * TIDYING:
        if time.monotonic() > started + TIDYING:
            for pid in left:  # daemons of an engine may have a group of their own
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        time.sleep(0.02)


def _running(leader: int) -> list[int]:
    """Return the processes that descend from one and have not left it; none where there is no /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has just ended
            state, _, _, of = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()[:4]
            if of == str(leader) and state != "Z":
                found.append(int(stat.parent.name))
    return found


def _said(command: list[str], timeout: float | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=timeout)


TASKFLOW = Peer("taskflow", "6.5.0")
TASKFLOW_ON_SQLITE = Peer("taskflow", "6.5.0", "peer_taskflow_sqlite", ("sqlalchemy", "alembic"))
DBOS = Peer("dbos", "3.4.0")
UNHINGED = Peer("unhinged", "0.2.0")
