"""The programs on the pages for users are run as they stand, page by page, and their output compared.

The programs of one page run one after another in one empty folder. A block of Python that begins with a comment such as
`# shop.py` is also kept there as a file of that name, for later programs and commands. What is run, and compared with
what stands below it:

- a block `python` that is followed by a block `text`;
- each line `$ python ...` or `$ taskflowx ...` in a block `console`, with standard output and errors in one. Times
  and durations that `taskflowx` prints may be any.

A block of Python that is neither run nor a file is a fault of the page, but for the pages in `ELSEWHERE`.
"""

from __future__ import annotations

import os
import pathlib
import re
import shlex
import subprocess
import sys
from typing import NamedTuple

import pytest

ROOT = next(folder for folder in pathlib.Path(__file__).parents if (folder / "pyproject.toml").exists())
DOCS = ROOT / "docs"
#: pages whose programs need a service, or are run by another test
ELSEWHERE = {
    "how-to/cluster.md": "needs a cluster",
    "guide.md": "test_documents.py",
    "coming-from-taskflow.md": "test_documents.py",
}
PAGES = sorted(
    page.relative_to(DOCS).as_posix()
    for page in DOCS.rglob("*.md")
    if page.relative_to(DOCS).as_posix() not in ELSEWHERE and "```python\n" in page.read_text(encoding="utf-8")
)
BLOCK = re.compile(r"^```(python|text|console)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
#: what is never twice the same in the output of commands
VARYING = (
    re.compile(r"\d{4}-\d\d-\d\d( \d\d:\d\d:\d\d)?"),
    re.compile(r"\d\d:\d\d:\d\d\.\d{3}"),
    re.compile(r"\b\d+(\.\d+)? (s|ms|µs)\b"),
)
FILE = re.compile(r"# (\w+\.py)\n")


class Step(NamedTuple):
    """A program of a page, or a command, with its output; a file that is only kept has the output None."""

    command: list[str]
    file: str
    source: str
    output: str | None


def steps_of(text):
    """Return what a page runs, in order."""
    blocks = list(BLOCK.finditer(text))
    steps = []
    for block, after in zip(blocks, [*blocks[1:], None], strict=False):
        kind, content = block.groups()
        if kind == "python":
            named = FILE.match(content)
            file = named[1] if named else "program.py"
            is_run = after is not None and after[1] == "text" and not text[block.end() : after.start()].strip()
            steps.append(Step(["python", file], file, content, after[2] if is_run else None))
        elif kind == "console":
            for command, output in re.findall(
                r"^\$ ((?:python|taskflowx) .*)\n((?:(?!\$ ).*\n)*)", content, re.MULTILINE
            ):
                steps.append(Step(shlex.split(command), "", "", output))
    return steps


def run(step, folder):
    """Run a step in a folder, and return what it has printed."""
    if step.file:
        (folder / step.file).write_text(step.source, encoding="utf-8")
    if step.output is None:
        return None
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "TERM": "dumb", "NO_COLOR": "1"}
    is_ours = step.command[0] == "taskflowx"
    command = [sys.executable, *(["-m", "taskflowx"] if is_ours else []), *step.command[1:]]
    ran = subprocess.run(
        command,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=90,
        check=False,
    )
    return ran.stdout.replace(f"{folder}{os.sep}", "")


def comparable(step, text):
    """Return what is compared of the output of a step."""
    if step.output is not None and step.command[0] == "taskflowx":
        for varying in VARYING:
            text = varying.sub("#", text)
    return text


@pytest.mark.timeout(300)
@pytest.mark.parametrize("page", PAGES)
def test_the_programs_of_a_page_print_what_stands_below_them(page, tmp_path):
    for step in steps_of((DOCS / page).read_text(encoding="utf-8")):
        assert comparable(step, run(step, tmp_path)) == comparable(step, step.output), step.command


@pytest.mark.parametrize("page", PAGES)
def test_each_program_of_a_page_is_run_or_is_a_file_that_is_used(page):
    steps = steps_of((DOCS / page).read_text(encoding="utf-8"))
    for number, step in enumerate(steps):
        if step.output is None:
            name = step.file.removesuffix(".py")
            later = steps[number + 1 :]
            assert any(
                step.file in one.command
                or any(word.startswith(f"{name}:") for word in one.command)
                or re.search(rf"import {name}|from {name}", one.source)
                for one in later
            ), f"{page}: a program that is not run:\n{step.source}"


def test_links_of_pages_lead_somewhere():
    broken = [
        f"{page.relative_to(ROOT)}: {target}"
        for page in [ROOT / "README.md", *DOCS.rglob("*.md")]
        for target in re.findall(r"\]\((?!https?:)([^)#\s]+)", page.read_text(encoding="utf-8"))
        if not (page.parent / target).exists()
    ]
    assert broken == []


def test_the_readme_has_no_link_that_is_dead_outside_of_a_checkout():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert re.findall(r"\]\((?!https?:)[^)]*\)", text) == []


def test_each_term_is_in_the_glossary_once_and_in_order():
    text = (DOCS / "glossary.md").read_text(encoding="utf-8")
    _, *terms = re.findall(r"^\| ([^|]+) \|", text, re.MULTILINE)
    assert len(terms) > 50
    assert terms == sorted(set(terms), key=str.casefold)


def test_the_page_for_language_models_says_each_thing_once():
    text = (DOCS / "llms.txt").read_text(encoding="utf-8")
    programs = re.findall(r"^- `(\w+\(.*?run_id=)", text, re.MULTILINE)
    assert programs
    assert len(programs) == len({program.partition("(")[0] for program in programs})


def test_links_to_how_to_pages_lead_to_their_list():
    targets = {
        target
        for page in DOCS.rglob("*.md")
        for target in re.findall(r"\[How-to pages\]\((?:\.\./)*(?:\./)?([^)]*)\)", page.read_text(encoding="utf-8"))
    }
    assert targets == {"how-to/index.md"}


def test_what_is_installed_is_the_package_that_pypi_has():
    for page in (ROOT / "README.md", DOCS / "index.md"):
        assert re.findall(r"pip install \S+", page.read_text(encoding="utf-8"))
        assert 'pip install ".[' not in page.read_text(encoding="utf-8"), page


def test_extras_that_are_installed_are_quoted():
    files = [*DOCS.rglob("*.md"), *DOCS.rglob("*.py"), *(ROOT / "taskflowx").rglob("*.py"), ROOT / "README.md"]
    bare = [file for file in files if re.search(r"pip install \w+\[", file.read_text(encoding="utf-8"))]
    assert bare == []  # zsh refuses them
