"""The two packages that are compared, each in a process of its own."""

from __future__ import annotations

import os
import pickle
import queue
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[3]
#: seconds after which a case is given up, and its process ended
PATIENCE = 30.0


class Side:
    """A process that runs cases on one package.

    :param python: the interpreter that has the package
    :param package: its name
    """

    patience = PATIENCE

    def __init__(self, python: str, package: str) -> None:
        self.package = package
        self._command = [python, "-m", "tests.interop.compat.runner", package]
        self._process: subprocess.Popen[bytes] | None = None
        self._answers: queue.SimpleQueue[Any] = queue.SimpleQueue()

    def run(self, case: Any) -> Any:
        """Return the outcome of a case, or why there is none: {"lost": reason}."""
        process = self._started()
        assert process.stdin is not None
        try:
            pickle.dump(case, process.stdin)
            process.stdin.flush()
            answer = self._answers.get(timeout=self.patience)
        except queue.Empty:
            self.close()
            return {"lost": "it did not end"}
        except OSError:
            answer = None
        if answer is None:
            self.close()
            return {"lost": "the process ended"}
        return answer

    def _started(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            environment = {**os.environ, "PYTHONHASHSEED": "0"}
            self._process = subprocess.Popen(
                self._command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
            self._answers = queue.SimpleQueue()
            threading.Thread(target=_read, args=(self._process.stdout, self._answers), daemon=True).start()
        return self._process

    def close(self) -> None:
        """End the process; the next case starts another one."""
        process, self._process = self._process, None
        if process is not None:
            assert process.stdin is not None
            process.stdin.close()
            process.kill()
            process.wait()


def _read(source: Any, answers: queue.SimpleQueue[Any]) -> None:
    """Put what comes from a process into a queue, and None when it has ended."""
    with source:
        while True:
            try:
                answers.put(pickle.load(source))
            except (EOFError, OSError, ValueError, pickle.UnpicklingError):
                answers.put(None)
                return


def ours() -> Side:
    """Return the side of this package."""
    return Side(sys.executable, "taskflowx")
