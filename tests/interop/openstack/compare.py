"""Runs released services on TaskFlow and on taskflowx, and compares what they do, line by line.

`python compare.py [SERVICE…]`, in an environment with the packages of requirements.txt (`make openstack` makes one).
For each service there are three transcripts from each side: which of its modules can be imported, what its flows do
(`run_<service>.py`), and what happens in those of its own unit tests that concern flows (`units.py`).

Differences that are known are written down here with their reason; one that is new fails, and so does one that is gone.
All but those of one service stand in docs/coming-from-taskflow.md too.
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
ROOT = HERE.parents[2]
PACKAGES = sysconfig.get_path("purelib")
SHOWN = 20
WIDTH = 300
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


class Known(NamedTuple):
    """A difference that is meant to be.

    :param services: in which it occurs; in each of them it must
    :param pattern: matches what differs: a line with `-` is TaskFlow's, one with `+` is ours, both when one stands in
        the place of the other
    """

    services: tuple[str, ...]
    what: str
    pattern: str
    why: str


KNOWN = [
    Known(
        ("glance",),
        "flows",
        r"^\+     log \w+ Retry '",
        "listeners that log speak of retries too",
    ),
    Known(
        ("glance",),
        "flows",
        r"^-   (?:  log ERROR Failed to execute task <uuid>:|left with|raised) (.+)\n\+.+ WrappedFailure.+\1",
        "a revert that fails is raised together with the failure before it",
    ),
    Known(
        ("cinder",),
        "unit tests",
        r"(PASSED|ERROR) .*\.test_allow_read_write_task_revert$|\{'PASSED'",
        "a revert that fails is raised together with the failure before it, and this test asks for a type",
    ),
    Known(
        ("octavia",),
        "flows",
        r"^-   (get_(?:execute_)?failures) \{'[^']+': Failure\(standins\.Boom: [^,]+ fails\)\}\n\+   \1 \{\}$",
        "a failure that a retry has cured is in the history of that retry, and nowhere else",
    ),
    Known(
        ("octavia",),
        "imports",
        r"\.(base_taskflow|controller_worker|taskflow_jobboard_driver|cli|status|test_\w+) ",
        "job boards and conductors are not there yet",
    ),
    Known(
        ("octavia",),
        "unit tests",
        r"test_controller_worker|test_taskflow_jobboard_driver|\{'PASSED'|\{'ERROR'",
        "job boards and conductors are not there yet",
    ),
]


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
    runs_on, *lines = done.stdout.splitlines() or [""]
    if runs_on != ("on taskflowx" if alias else "on taskflow"):
        problem = f"has not said that it runs there, but {runs_on!r}. {problem}"
    return Ran(lines, time.monotonic() - started, problem)


def differences(theirs: list[str], ours: list[str]) -> list[str]:
    """Return what differs: lines of one side, and pairs of lines where one stands in the place of the other."""
    found = []
    for how, start, end, our_start, our_end in difflib.SequenceMatcher(
        None, theirs, ours, autojunk=False
    ).get_opcodes():
        if how == "equal":
            continue
        gone, come = [f"-{line}" for line in theirs[start:end]], [f"+{line}" for line in ours[our_start:our_end]]
        found += map("\n".join, zip(gone, come, strict=True)) if len(gone) == len(come) else gone + come
    return found


class Sides(NamedTuple):
    """A program that runs on both."""

    program: str
    arguments: list[str]
    theirs: concurrent.futures.Future[Ran]
    ours: concurrent.futures.Future[Ran]


def start(pool: concurrent.futures.Executor, program: str, arguments: list[str]) -> Sides:
    """Have a program run on both."""
    theirs = pool.submit(run, program, arguments, [])
    return Sides(program, arguments, theirs, pool.submit(run, program, arguments, ["-m", "taskflowx.compat"]))


def compare(pool: concurrent.futures.Executor, service: str, what: str, sides: Sides) -> bool:
    """Show in which lines the outcomes of a program differ; returns whether all is well.

    Unit tests of services run their tasks at the same time on one SQLite database in memory: a difference that does not
    come again is theirs.
    """
    if compare_once(service, what, sides):
        return True
    return sides.program == "units.py" and compare_once(
        service, f"{what} again", start(pool, sides.program, sides.arguments)
    )


def compare_once(service: str, what: str, sides: Sides) -> bool:
    """Compare what a program has said."""
    theirs, ours = sides.theirs.result(), sides.ours.result()
    new = differences(theirs.lines, ours.lines)
    reasons = []
    for known in KNOWN:
        if service not in known.services or what.removesuffix(" again") != known.what:
            continue
        kept = [difference for difference in new if not re.search(known.pattern, difference)]
        if len(kept) == len(new):
            new.append(f"  gone: {known.pattern}: {known.why}")
            continue
        reasons.append(f"; {len(new) - len(kept)} differ as is known: {known.why}")
        new = kept
    problems = [f"  {name} {ran.problem}" for name, ran in (("TaskFlow", theirs), ("taskflowx", ours)) if ran.problem]
    bad = problems + new
    print(
        f"{service:9} {what:16} {len(theirs.lines):6} lines  {theirs.seconds:5.0f} s, {ours.seconds:5.0f} s  "
        f"{f'{len(bad)} DIFFERENCES' if bad else 'same'}{''.join(reasons)}",
        *(line[:WIDTH] for difference in bad[:SHOWN] for line in difference.splitlines()),
        sep="\n",
        flush=True,
    )
    return not bad


def main(services: list[str]) -> int:
    """Compare these services, or all."""
    services = services or list(TESTS)
    well = True
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        # The longest ones first, so that no processor is without work at the end.
        flows = [start(pool, f"run_{service}.py", []) for service in services]
        units = [start(pool, "units.py", TESTS[service]) for service in services]
        imports = [start(pool, "run_imports.py", [service]) for service in services]
        for service, *programs in zip(services, imports, flows, units, strict=True):
            for what, sides in zip(("imports", "flows", "unit tests"), programs, strict=True):
                well &= compare(pool, service, what, sides)
    print("services: the same on both, but for what is known" if well else "services: NOT the same on both")
    return 0 if well else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
