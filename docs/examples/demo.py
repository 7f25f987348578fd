"""What `make demo` runs: a volume is created, another one fails and is rolled back, and a tree of files is built.

The tasks and flows are in `demo_volume` and `demo_build`. This file runs them, shows what happens and checks it; it
exits with 0 only if every check passed. Whatever it makes is in one temporary folder, which is removed at the end.

Worker processes may import this file again, so it does nothing unless it is the main program.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from demo_build import build_flow, make_tree
from demo_report import Report, mebibytes, short
from demo_service import CloudService, SchedulerDownError, State
from demo_volume import volume_flow

from taskflowx import engines, states

if TYPE_CHECKING:
    from taskflowx.engines.base import Engine

MIB = 1 << 20
IMAGE_SIZE = 64 * MIB
QUOTA = 200 * MIB
FILES_PER_FOLDER = 25


class StepPrinter:
    """Prints a line for each task of an engine that ends, and keeps the names in the order of these lines."""

    def __init__(self, report: Report, engine: Engine) -> None:
        self.ran: list[str] = []
        self.undone: list[str] = []
        self._report = report
        self._began = 0.0
        engine.atom_notifier.register("*", self._on_change)

    def _on_change(self, state: str, details: dict[str, Any]) -> None:
        name = details["task_name"]
        if state == states.RUNNING:
            self._began = time.perf_counter()
            self.ran.append(name)
        elif state == states.SUCCESS:
            self._report.step("done", name, f"{(time.perf_counter() - self._began) * 1000:.1f} ms")
        elif state == states.FAILURE:
            self._report.step("FAILED", name, details["result"].exception_str)
        elif state == states.REVERTED:
            self.undone.append(name)
            self._report.step("undone", name, details["result"] or "nothing to undo")


def show_success(report: Report, service: CloudService) -> None:
    """Create a volume, and show what the service has then."""
    report.heading("1. A volume is created")
    report.say(
        "A cloud service makes a disk for a customer, from the image of a system. That takes six steps. Each is a task,"
        " and a linear flow puts them in order."
    )
    engine = engines.load(
        volume_flow(report.progress),
        store={"service": service, "request": {"name": "mail-server", "image": "debian"}},
    )
    StepPrinter(report, engine)
    engine.run()

    state = service.state()
    volume, file = state.volumes[0], state.files[0]
    report.say("What the service has now:")
    report.table(
        [
            ["quota", f"{mebibytes(state.used)} of {mebibytes(QUOTA)} used, {mebibytes(state.reserved)} reserved"],
            ["row", f"{volume.id}, {volume.name!r}, {mebibytes(volume.size)}, {volume.status}"],
            ["file", f"{file.name}, {mebibytes(file.size)}, sha256 {short(file.checksum)}"],
            ["order", f"{state.orders[0]}, waiting for the scheduler"],
        ]
    )
    report.check(
        "the checksum in the row is that of the file, and that of the image",
        volume.checksum == file.checksum == service.checksum_of_image("debian"),
    )


def show_rollback(report: Report, service: CloudService) -> None:
    """Let the last step of the same flow fail, and show that everything is undone."""
    report.heading("2. Another volume fails in the last step, and is rolled back")
    report.say(
        "The same flow again, but the scheduler is down. When a task fails, the engine undoes what was done, the last"
        " step first. Each task says how it is undone."
    )
    broken = dataclasses.replace(service, scheduler_is_up=False)
    engine = engines.load(
        volume_flow(report.progress),
        store={"service": broken, "request": {"name": "web-server", "image": "debian"}},
    )
    steps = StepPrinter(report, engine)
    at_failure: list[State] = []
    engine.atom_notifier.register(states.FAILURE, lambda _state, _details: at_failure.append(service.state()))

    before = service.state()
    try:
        engine.run()
    except SchedulerDownError as error:
        report.say(f"run() raised what the task had raised: {type(error).__name__}: {error}")
    after = service.state()

    report.say("The state of the service, read from its files:")
    columns = [before, *at_failure, after]
    report.table(
        [
            ["", "before", "at the failure", "after"],
            ["quota used", *(mebibytes(state.used) for state in columns)],
            ["rows", *(str(len(state.volumes)) for state in columns)],
            ["volume files", *(str(len(state.files)) for state in columns)],
            ["fingerprint", *(short(state.fingerprint()) for state in columns)],
        ]
    )
    report.check("each step was undone, the last one first", steps.undone == steps.ran[::-1])
    report.check("quota, row and file are as before", before == after and [after] != at_failure)


def show_build(report: Report, place: Path, files: int) -> None:
    """Build one tree of files in three ways, and compare times and results."""
    workers = max(2, min(8, os.cpu_count() or 2))
    report.heading("3. A tree of files is built: in one thread, in threads, in processes")
    source = place / "source"
    paths = make_tree(source, files, FILES_PER_FOLDER)
    report.say(
        f"{len(paths)} files ({mebibytes(sum((source / path).stat().st_size for path in paths))}) are compressed and"
        " hashed. Each folder gets a manifest of its hashes, and one manifest stands for all folders. Nobody says what"
        " comes first: tasks name what they need and provide, and a graph flow works out the order."
    )
    ways: dict[str, dict[str, Any]] = {
        "serial": {"engine": "serial"},
        "threads": {"engine": "parallel", "executor": "threads", "max_workers": workers},
        "processes": {"engine": "parallel", "executor": "processes", "max_workers": workers},
    }
    seconds, digests = {}, {}
    for way, options in ways.items():
        flow = build_flow(paths)
        began = time.perf_counter()
        engine = engines.load(flow, store={"source": source, "target": place / way}, **options)
        count_files(report, engine, way, len(paths))
        engine.run()
        digests[way] = engine.storage.fetch("digest of everything")
        seconds[way] = time.perf_counter() - began
    report.table(
        [
            ["executor", "workers", "time", "speed", "digest of everything"],
            *(
                [way, str(ways[way].get("max_workers", 1)), f"{seconds[way]:.2f} s"]
                + [f"{seconds['serial'] / seconds[way]:.1f} x", short(digests[way])]
                for way in ways
            ),
        ]
    )
    report.check("the digest is the same each time", len(set(digests.values())) == 1)


def count_files(report: Report, engine: Engine, way: str, total: int) -> None:
    """Show, while the engine runs, how many tasks have ended."""
    ended = 0

    def on_success(_state: str, _details: dict[str, Any]) -> None:
        nonlocal ended
        ended += 1
        report.bar(f"{way}: ", ended / total)

    engine.atom_notifier.register(states.SUCCESS, on_success)
