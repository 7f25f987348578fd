"""What `make demo` runs: a volume is created, another one is rolled back, and a tree of files is built.

The tasks and flows are in `demo_volume` and `demo_build`; read those first. This file runs them, shows what
happens and checks it: it exits with 0 only if every check was right. Whatever it makes is in one temporary
folder, which is removed at the end.

A worker process may import this file again; then it does nothing, as it is not the main program there.
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

from demo_build import ROOT, build_flow, make_tree
from demo_report import CopyProgress, Report, mebibytes, short
from demo_service import CloudService, SchedulerDownError, State
from demo_volume import volume_flow

from taskflowx import engines, states

if TYPE_CHECKING:
    from taskflowx.engines.base import Engine

IMAGE_SIZE = 64 << 20  # bytes
QUOTA = 200 << 20  # bytes
FILES_PER_FOLDER = 25


class StepPrinter:
    """Prints what becomes of each task of an engine, and keeps in which order they ran and were undone."""

    def __init__(self, report: Report, engine: Engine) -> None:
        self.ran: list[str] = []
        self.undone: list[str] = []
        self._report = report
        self._began = 0.0
        engine.atom_notifier.register("*", self._on_change)

    def _on_change(self, state: str, details: dict[str, Any]) -> None:
        name = details["task_name"]
        if state == states.RUNNING:
            self.ran.append(name)
            self._began = time.perf_counter()
        elif state == states.SUCCESS:
            self._report.step("done", name, f"{(time.perf_counter() - self._began) * 1000:6.1f} ms")
        elif state == states.FAILURE:
            self._report.step("FAILED", name, details["result"].exception_str)
        elif state == states.REVERTED:
            self.undone.append(name)
            self._report.step("undone", name, details["result"] or "nothing to undo")


def show_success(report: Report, service: CloudService) -> None:
    """Create a volume, and show what the service has then."""
    report.heading("1. A volume is created")
    report.say(
        "A cloud service makes a disk for a customer, from the image of a system. This takes six steps. Each"
        " is a task, and a linear flow puts them in order."
    )
    engine = engines.load(
        volume_flow(CopyProgress(report).on_progress),
        store={"service": service, "request": {"name": "mail-server", "image": "debian"}},
    )
    StepPrinter(report, engine)
    engine.run()

    state = service.state()
    row, file = state.rows[0], state.files[0]
    report.say("What the service has now, read from its files:")
    report.table(
        [
            ["quota", f"{mebibytes(state.used)} used, {mebibytes(state.reserved)} reserved"],
            ["row", f"{row.id} '{row.name}', {mebibytes(row.size)}, {row.status}"],
            ["file", f"{file.name}, {mebibytes(file.size)}, sha256 {short(file.checksum)}"],
            ["order", f"{state.orders[0]}, for the scheduler"],
        ]
    )
    report.check(
        "row and file have the checksum of the image",
        row.checksum == file.checksum == service.image_checksum("debian"),
    )


def show_rollback(report: Report, service: CloudService) -> None:
    """Let the last step of the same flow fail, and show that everything before it is undone."""
    report.heading("2. Another one fails in its last step, and is rolled back")
    report.say(
        "The same flow with another request, but now the scheduler is down. When a task fails, the engine has"
        " each task undo what it did, the last one first."
    )
    engine = engines.load(
        volume_flow(CopyProgress(report).on_progress),
        store={
            "service": dataclasses.replace(service, scheduler_is_up=False),
            "request": {"name": "web-server", "image": "debian"},
        },
    )
    steps = StepPrinter(report, engine)
    snapshots: list[State] = [service.state()]
    engine.atom_notifier.register(states.FAILURE, lambda _state, _details: snapshots.append(service.state()))
    try:
        engine.run()
    except SchedulerDownError as error:
        report.say(f"Then run() raised the task's own error, {type(error).__name__}: {error}.")
    snapshots.append(service.state())

    before, failed, after = snapshots
    report.table(
        [
            ["", "before", "at the failure", "after"],
            ["quota used", *(mebibytes(state.used) for state in snapshots)],
            ["rows", *(str(len(state.rows)) for state in snapshots)],
            ["volume files", *(str(len(state.files)) for state in snapshots)],
            ["fingerprint", *(short(state.fingerprint()) for state in snapshots)],
        ]
    )
    report.check("the steps were undone in reverse order", steps.undone == steps.ran[::-1])
    report.check("engine.not_undone() knows of nothing that is left", engine.not_undone() == [])
    report.check("quota, rows and files had changed, and are as before", failed != before == after)


def show_build(report: Report, folder: Path, files: int) -> None:
    """Build one tree of files with each executor, and compare times and results."""
    report.heading("3. A tree of files is built: in one thread, in threads, in processes")
    source = folder / "source"
    paths = make_tree(source, files, FILES_PER_FOLDER)
    size = sum((source / path).stat().st_size for path in paths)
    report.say(
        f"{len(paths)} files, {mebibytes(size)} together, are compressed and hashed. A manifest in each"
        " folder lists the hashes of its files, and a last one those of the folders. Nobody says what comes"
        " first: a graph flow works that out from the names that tasks require and provide. It runs three"
        " times; only the options of the engine differ. More workers help as far as processor cores are free."
    )
    workers = max(2, min(8, os.cpu_count() or 2))
    ways: dict[str, dict[str, Any]] = {
        "serial": {"engine": "serial"},
        "threads": {"engine": "parallel", "executor": "threads", "max_workers": workers},
        "processes": {"engine": "parallel", "executor": "processes", "max_workers": workers},
    }
    digests, seconds = {}, {}
    for way, options in ways.items():
        flow = build_flow(paths)
        engine = engines.load(flow, store={"source": source, "target": folder / way}, **options)
        show_bar(report, engine, way, total=len(flow))
        began = time.perf_counter()
        engine.run()
        seconds[way] = time.perf_counter() - began
        digests[way] = engine.storage.fetch(ROOT)

    rows = [["", "workers", "time", "speed", "hash of the last manifest"]]
    for way, options in ways.items():
        used = str(options.get("max_workers", 1))
        speed = f"{seconds['serial'] / seconds[way]:.1f} x"
        rows.append([way, used, f"{seconds[way]:.2f} s", speed, short(digests[way])])
    report.table(rows)
    report.check("all three made the same files: their hashes are equal", len(set(digests.values())) == 1)


def show_bar(report: Report, engine: Engine, label: str, total: int) -> None:
    """Show, on a terminal, how many of its tasks an engine has run so far."""
    ended = 0

    def on_success(_state: str, _details: dict[str, Any]) -> None:
        nonlocal ended
        ended += 1
        report.bar(label, ended / total)

    engine.atom_notifier.register(states.SUCCESS, on_success)


def main() -> int:
    """Show all three; returns the exit code."""
    parser = argparse.ArgumentParser(description="Show what taskflowx does.")
    parser.add_argument("--files", type=int, default=300, help="how many files the third part builds")
    arguments = parser.parse_args()

    report = Report()
    with tempfile.TemporaryDirectory(prefix="taskflowx-demo-") as folder:
        report.say(
            "taskflowx runs work that is made of steps, and undoes what was done when a step fails. Here it"
            f" does so with real files. They are in {folder}, which is removed at the end."
        )
        service = CloudService.founded(Path(folder, "cloud"), QUOTA)
        service.add_image("debian", IMAGE_SIZE)
        show_success(report, service)
        show_rollback(report, service)
        show_build(report, Path(folder, "build"), arguments.files)
    verdict = "All checks passed." if report.passed else "Not all is as it should be: look for WRONG above."
    report.say(f"{verdict} The tasks and flows are in docs/examples/demo_volume.py and demo_build.py.")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
