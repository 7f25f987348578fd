"""The built pages, in Chromium: no code is wider than its column, no page than the screen, and names are linked."""

from __future__ import annotations

import fcntl
import importlib.util
import os
import pathlib
import subprocess
import sys

import pytest

import taskflowx
from tests.support import browser

ROOT = next(folder for folder in pathlib.Path(__file__).parents if (folder / "pyproject.toml").exists())
#: a large desk, a desk, a tablet on its side and upright, a phone
WIDTHS = (1440, 1280, 1024, 768, 390)
#: what can be scrolled aside and is not meant to: code, and the page itself; pictures and wide tables are
TOO_WIDE = """() => [...document.querySelectorAll("pre, html")]
    .filter((e) => e.scrollWidth > e.clientWidth + 1)
    .map((e) => `${e.tagName} ${e.scrollWidth - e.clientWidth} px: ${e.innerText.trim().slice(0, 60)}`)"""
#: how far the second line of a broken line of code begins to the right of the first letter of the first one
FURTHER_IN = """() => [...document.querySelectorAll(".code-line")].map((line) => {
    const range = document.createRange(), walker = document.createTreeWalker(line, NodeFilter.SHOW_TEXT);
    const at = [];
    while (walker.nextNode())
        for (let i = 0; i < walker.currentNode.length; i++) {
            if (!walker.currentNode.data[i].trim()) continue;
            range.setStart(walker.currentNode, i);
            range.setEnd(walker.currentNode, i + 1);
            at.push(range.getBoundingClientRect());
        }
    const below = at.find((place) => place.top > at[0].bottom - 2);
    return below === undefined ? null : below.left - at[0].left;
}).filter((by) => by !== null)"""


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """Return the folder with the pages as `make docs` builds them; processes that share the tests share it."""
    if importlib.util.find_spec("furo") is None:
        pytest.skip("furo is not installed, which the pages are built with")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    built, trees, html = folder / "pages-are-built", folder / "trees", folder / "html"
    with (folder / "pages.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not built.exists():
            command = [sys.executable, "-m", "sphinx", "--quiet", "-d", trees, ROOT / "docs", html]
            subprocess.run(command, cwd=ROOT, check=True)
            built.touch()
    return html


@pytest.fixture(scope="module")
def chromium():
    with browser.chromium() as opened:
        yield opened


@pytest.mark.timeout(600)
def test_nothing_is_behind_the_edge_of_its_column(chromium, pages):
    page = chromium.new_page()
    files = sorted(file for file in pages.rglob("*.html") if "_" not in file.relative_to(pages).parts[0])
    assert len(files) > 100
    found = []
    for file in files:
        page.goto(file.as_uri())
        for width in WIDTHS:
            page.set_viewport_size({"width": width, "height": 800})
            found += [f"{file.relative_to(pages)} at {width}: {what}" for what in page.evaluate(TOO_WIDE)]
    assert found == []


@pytest.mark.timeout(600)
def test_a_broken_line_of_code_goes_on_further_in(chromium, pages):
    page = chromium.new_page(viewport={"width": 768, "height": 800})
    page.goto((pages / "guide.html").as_uri())
    steps = page.evaluate(FURTHER_IN)
    assert len(steps) > 10
    assert min(steps) > 5


@pytest.mark.timeout(600)
def test_what_is_copied_of_a_program_is_the_program(chromium, pages):
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    page.goto((pages / "how-to/decide.html").as_uri())
    program = (ROOT / "docs/how-to/decide.md").read_text(encoding="utf-8").partition("```python\n")[2]
    program = program.partition("```\n")[0]
    block = page.locator(".highlight-python pre").first
    assert block.text_content().strip() == block.inner_text().strip() == program.strip()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("width", [1280, 390])
def test_the_diagrams_of_states_can_be_read(chromium, pages, width):
    page = chromium.new_page(viewport={"width": width, "height": 844})
    page.goto((pages / "concepts.html").as_uri())
    scales = page.evaluate("[...document.querySelectorAll('svg.st')].map((svg) => svg.getScreenCTM().a)")
    assert scales
    assert 13 * min(scales) >= 12  # pixels


@pytest.mark.timeout(600)
def test_the_icons_of_a_narrow_page_are_apart(chromium, pages):
    page = chromium.new_page(viewport={"width": 390, "height": 844})
    page.goto((pages / "concepts.html").as_uri())
    scheme, contents = (page.locator(f".header-right {one}").bounding_box() for one in (".theme-toggle", ".icon"))
    assert contents["x"] - scheme["x"] - scheme["width"] >= 8


@pytest.mark.timeout(600)
def test_names_in_dark_code_are_not_underlined(chromium, pages):
    page = chromium.new_page(color_scheme="dark")
    page.goto((pages / "examples/create_volume.html").as_uri())
    lines = "[...document.querySelectorAll('.highlight span')].map((e) => getComputedStyle(e).textDecorationLine)"
    assert set(page.evaluate(lines)) == {"none"}


@pytest.mark.timeout(600)
def test_other_projects_find_each_name_of_the_package(pages):
    from sphinx.util.inventory import InventoryFile

    found = InventoryFile.loads((pages / "objects.inv").read_bytes(), uri="").data
    names = {name for kind, entries in found.items() if kind.startswith("py:") for name in entries}
    assert {"taskflowx", *(f"taskflowx.{name}" for name in taskflowx.__all__)} <= names
    assert "taskflowx.task.Task" in names
    heading = (pages / "reference/top.html").read_text(encoding="utf-8")
    assert "taskflowx.front" not in heading.partition("<article")[2].partition("</article>")[0]
