"""Runs released services on TaskFlow and on taskflowx, and compares what they do, line by line.

`python compare.py [SERVICE…]`, in an environment with the packages of requirements.txt (`make openstack` makes one).
For each service there are three transcripts from each side: which of its modules can be imported, what its flows do
(`run_<service>.py`), and what happens in those of its own unit tests that concern flows (`units.py`).

Differences that are known are written down here with their reason; one that is new fails, and so does one that is gone.
"""

from __future__ import annotations

import concurrent.futures
import difflib
import os
import re
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PACKAGES = sysconfig.get_path("purelib")
SHOWN = 20
SECONDS = 1500

#: service -> its unit tests that concern flows: modules, or packages of them
TESTS = {
    "cinder": [
        "cinder.tests.unit.volume.flows",
        "cinder.tests.unit.volume.drivers.dell_emc.vnx.test_taskflows",
        "cinder.tests.unit.scheduler.test_scheduler",
        *(
            f"cinder.tests.unit.volume.test_{name}"
            for name in (
                "connection",
                "image",
                "init_host",
                "manage_volume",
                "snapshot",
                "volume",
                "volume_manager",
                "volume_migration",
                "volume_reimage",
                "volume_retype",
            )
        ),
    ],
    "glance": ["glance.tests.unit.async_"],
    "masakari": ["masakari.tests.unit.engine"],
    # Not those of common.base_taskflow: they are about job boards alone.
    "octavia": ["octavia.tests.unit.controller.worker.v2"],
    "watcher": ["watcher.tests.unit.applier"],
}

#: (service, what, a pattern of lines that differ) -> why
KNOWN = {
    (
        "cinder",
        "unit tests",
        r"(PASSED|ERROR) .*\.test_allow_read_write_task_revert$|\{'PASSED'",
    ): "a revert that fails is raised together with the failure before it, and this test asks for a type",
    (
        "octavia",
        "imports",
        r"\.(base_taskflow|controller_worker|taskflow_jobboard_driver|cli|status|test_\w+) ",
    ): "job boards and conductors are not there yet",
    (
        "octavia",
        "unit tests",
        r"test_controller_worker|test_taskflow_jobboard_driver|\{'PASSED'|\{'ERROR'",
    ): "job boards and conductors are not there yet",
}


class Ran(NamedTuple):
    """What a program has said, and how long it took."""

    lines: list[str]
    seconds: float
    problem: str


def run(program: str, arguments: list[str], alias: list[str]) -> Ran:
    """Run a program, on TaskFlow or with the alias."""
    environment = {**os.environ, "PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore"}
    environment.pop("PYTHONPATH", None)
    if alias:
        environment["PYTHONPATH"] = str(ROOT)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        done = subprocess.run(
            [sys.executable, *alias, str(HERE / program), *arguments],
            # Glance's tests read files by paths that begin where its packages are.
            cwd=PACKAGES if program == "units.py" and arguments[0].startswith("glance") else folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            timeout=SECONDS,
        )
    said = [line for line in done.stderr.splitlines() if line.strip()]
    problem = f"exit {done.returncode}: {said[-1] if said else ''}" if done.returncode else ""
    return Ran(done.stdout.splitlines(), time.monotonic() - started, problem)


def compare(service: str, what: str, program: str, arguments: list[str]) -> bool:
    """Run a program on both, say in one line what came of it, and show what differs; returns whether all is well."""
    with concurrent.futures.ThreadPoolExecutor(2) as both:
        theirs = both.submit(run, program, arguments, [])
        ours = both.submit(run, program, arguments, ["-m", "taskflowx.compat"])
    theirs, ours = theirs.result(), ours.result()
    differences = []
    if theirs.lines != ours.lines:
        found = difflib.unified_diff(theirs.lines, ours.lines, "TaskFlow", "taskflowx", n=0, lineterm="")
        differences = [line for line in found if not line.startswith(("---", "+++", "@@"))]
    new = list(differences)
    reasons = []
    for (known_service, known_what, pattern), reason in KNOWN.items():
        if (known_service, known_what) != (service, what):
            continue
        kept = [line for line in new if not re.search(pattern, line)]
        if len(kept) == len(new):
            new.append(f"  gone: {pattern}: {reason}")
            continue
        reasons.append(f"; {len(new) - len(kept)} lines differ as is known: {reason}")
        new = kept
    problems = [f"  {name} {ran.problem}" for name, ran in (("TaskFlow", theirs), ("taskflowx", ours)) if ran.problem]
    bad = problems + new
    print(
        f"{service:9} {what:11} {len(theirs.lines):6} lines  {theirs.seconds:5.0f} s, {ours.seconds:5.0f} s  "
        f"{f'{len(bad)} DIFFERENCES' if bad else 'same'}{''.join(reasons)}",
        *(line[:300] for line in bad[:SHOWN]),
        sep="\n",
        flush=True,
    )
    return not bad


def main(services: list[str]) -> int:
    """Compare these services, or all."""
    well = True
    for service in services or TESTS:
        well &= compare(service, "imports", "run_imports.py", [service])
        well &= compare(service, "flows", f"run_{service}.py", [])
        well &= compare(service, "unit tests", "units.py", TESTS[service])
    print("services: the same on both, but for what is known" if well else "services: NOT the same on both")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
