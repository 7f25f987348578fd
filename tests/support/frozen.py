"""Processes that are stopped, as a frozen machine is."""

import os
import pathlib
import signal
import time


def freeze(pid):
    """Stop a process, and return when it is: until then it may still do something."""
    os.kill(pid, signal.SIGSTOP)
    until = time.monotonic() + 30
    while pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < until, "it does not stop"
        time.sleep(0.001)  # noqa: TID251 - a process that is no child tells nobody that it has stopped
