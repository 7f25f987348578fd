"""Each program in docs/examples is run as it stands, and what it prints is compared with the comment at its end.

`demo.py` and what belongs to it are tested in `test_demo.py`.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted(path for path in (ROOT / "docs/examples").glob("*.py") if not path.stem.startswith("demo"))
MARK = "\n# Output:\n"


def expected_output(source):
    """Return what a program says that it prints: the comment lines after the mark, less what makes them comments."""
    _, _, comment = source.partition(MARK)
    return re.sub(r"^#(?:   )?", "", comment, flags=re.MULTILINE)


@pytest.fixture(params=EXAMPLES, ids=lambda path: path.stem)
def example(request):
    return request.param


def test_it_prints_what_it_says(example, tmp_path):
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "TMPDIR": str(tmp_path)}
    ran = subprocess.run([sys.executable, example], env=env, capture_output=True, text=True, timeout=50, check=False)
    assert (ran.stderr, ran.stdout) == ("", expected_output(example.read_text(encoding="utf-8")))
    assert ran.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_it_is_short_and_begins_with_a_sentence(example):
    source = example.read_text(encoding="utf-8")
    first, _, rest = ast.get_docstring(ast.parse(source)).partition("\n")
    assert first.endswith(".")
    assert rest
    assert len(source.partition(MARK)[0].splitlines()) < 100


def test_the_list_says_what_each_example_shows():
    page = (ROOT / "docs/examples.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[`(\w+)\.py`\]\(examples/(\w+)\.py\) \| (.*) \|$", page, re.MULTILINE)
    shown = {
        path.stem: ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))).partition("\n")[0]
        for path in EXAMPLES
    }
    assert {name: sentence for name, _, sentence in listed} == shown
    assert all(name == target for name, target, _ in listed)


def test_the_heading_of_a_page_says_what_it_shows():
    pytest.importorskip("myst_parser")
    spec = importlib.util.spec_from_file_location("examples", ROOT / "docs/extensions/examples.py")
    extension = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(extension)
    headings = {}
    for path in EXAMPLES:
        page = extension.page_of(path.read_text(encoding="utf-8"), path.stem)
        headings[path.stem] = page.partition("\n")[0].removeprefix("# ")
    assert headings["pancakes"] == "A linear flow"
    assert headings["create_volume"] == "Creating a volume as a block storage service does"
    assert len(set(headings.values())) == len(headings)
    assert all(4 <= len(heading) <= 60 for heading in headings.values()), headings


def test_who_wants_threads_names_the_executor_alone():
    pages = [*EXAMPLES, ROOT / "README.md", *(ROOT / "docs").rglob("*.md")]
    for_users_of_taskflow = ("coming-from-taskflow.md", "taskflow.md")
    named = [
        page.name
        for page in pages
        if page.name not in for_users_of_taskflow and re.search(r"\bengine=[\"']", page.read_text(encoding="utf-8"))
    ]
    assert named == []
