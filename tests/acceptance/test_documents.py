"""The programs in the documents are run as they stand, and their output compared."""

import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[2]
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "docs/guide.md", "docs/coming-from-taskflow.md", "tests/README.md")
PROGRAMS = [
    pytest.param(*match.groups(), id=f"{name}-{number}")
    for name in DOCUMENTS
    for number, match in enumerate(
        re.finditer(r"```python\n(.*?)```\n\n```text\n(.*?)```", (ROOT / name).read_text(encoding="utf-8"), re.DOTALL)
    )
]


@pytest.mark.parametrize(("program", "output"), PROGRAMS)
def test_a_program_in_a_document_prints_what_stands_below_it(program, output):
    command = [sys.executable, "-c", program]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False, cwd=ROOT)
    assert (ran.stdout, ran.stderr) == (output, "")


def test_each_document_has_programs():
    assert {program.id.rpartition("-")[0] for program in PROGRAMS} == set(DOCUMENTS)


def test_links_between_documents_lead_somewhere():
    for name in (
        *DOCUMENTS,
        "docs/index.md",
        "docs/examples.md",
        "docs/architecture.md",
        "docs/glossary.md",
        "docs/how-to/cluster.md",
    ):
        page = ROOT / name
        for target in re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{name} links to {target}"
