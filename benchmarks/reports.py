"""How large the report of a run is, how long it takes to write, and how soon a browser shows it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks import workloads
from benchmarks.harness import Figure, Sizes, alone, clock
from benchmarks.workloads import ready

if TYPE_CHECKING:
    from collections.abc import Iterator

_KB = 1_000
#: atoms -> KB of the file at most
SMALL, LARGE = (100, 300), (10_000, 2_000)
#: seconds from the request to the first paint at most
FIRST_PAINT = 2.0
_PAINTED = """() => new Promise((resolve) => new PerformanceObserver((list) => {
  const found = list.getEntriesByName("first-contentful-paint")[0];
  if (found) resolve(found.startTime / 1000);
}).observe({ type: "paint", buffered: true }))"""


def report(sizes: Sizes, shape: str) -> Iterator[Figure]:
    """Measure the report of a run in threads whose history is kept."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run.html"
        for atoms, most in (SMALL, LARGE):
            engine = ready(workloads.SHAPES[shape](atoms), executor="threads", max_workers=4, history=True)
            engine.run()
            written = [clock(lambda engine=engine: engine.report(path)) for _ in range(sizes.few)]  # type: ignore[misc]
            yield alone(f"{shape}, written", written, "s", atoms=atoms)
            yield alone(f"{shape}, size", [path.stat().st_size / _KB], "KB", atoms=atoms, at_most=most)
        yield _first_paint(path, f"{shape}, first paint", sizes.turns, LARGE[0])


def _first_paint(path: Path, label: str, turns: int, atoms: int) -> Figure:
    program = os.environ.get("TASKFLOWX_CHROMIUM") or shutil.which("chromium")
    if program is None or importlib.util.find_spec("playwright") is None:
        return Figure(label, at_most=FIRST_PAINT, skipped="needs Chromium, and the package playwright")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox"] if os.getuid() == 0 else []  # root has no sandbox
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=program, args=flags)
        seconds = []
        for _ in range(turns):
            page = browser.new_page()
            page.goto(path.as_uri())
            seconds.append(page.evaluate(_PAINTED))
            page.close()
        browser.close()
    return alone(label, seconds, "s", atoms=atoms, at_most=FIRST_PAINT)
