"""What type checkers say of users' programs: nothing of those in `ok/`, and something of each wrong line in `wrong/`.

A line in `wrong/` that ends with `# wrong` must be reported, and no other one; `# wrong, but for ty` is not reported by
that one yet. A checker that is not installed is skipped, and so is pyright where it has no Node.js and cannot get one.
"""

from __future__ import annotations

import functools
import json
import pathlib
import re
import shutil
import subprocess
import sys

import pytest

from tests.support.assignable import PRELUDE, TABLE

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
BIN = pathlib.Path(sys.executable).parent
FOUND = re.compile(r"(?P<folder>ok|wrong)/(?P<file>\w+\.py):(?P<line>\d+):(?:\d+:)? *(?:error|warning)")

pytestmark = pytest.mark.timeout(300)  # a checker reads all of the package


def run(*command, cwd=ROOT):
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, timeout=250)
    return done.stdout


def mypy():
    return run(
        BIN / "mypy", "--strict", "--config-file=", "--python-version=3.11", "tests/typing/ok", "tests/typing/wrong"
    )


def ty():
    return run(BIN / "ty", "check", "--output-format=concise", "--python", BIN.parent, HERE / "ok", HERE / "wrong")


def pyright():
    said = run(BIN / "pyright", "--outputjson", "--pythonpath", sys.executable, "-p", HERE)
    if not said.startswith("{"):
        pytest.skip("pyright could not be fetched")
    found = json.loads(said)
    return "\n".join(
        f"{one['file']}:{one['range']['start']['line'] + 1}: error {one['message']}"
        for one in found["generalDiagnostics"]
    )


CHECKERS = {checker.__name__: checker for checker in (mypy, ty, pyright)}


@functools.cache
def reported(checker):
    """Return the reported lines: (folder, file, number) -> what is said."""
    if not (BIN / checker).exists():
        pytest.skip(f"{checker} is not installed")
    if checker == "pyright" and shutil.which("node") is None:
        pytest.skip("pyright needs Node.js")
    said = {}
    for line in CHECKERS[checker]().splitlines():
        found = FOUND.search(line)
        if found is not None:
            said.setdefault((found["folder"], found["file"], int(found["line"])), line)
    return said


def wrong_lines(checker=""):
    """Return the marked lines that a checker must report; those that any may report without one."""
    return {
        ("wrong", path.name, number)
        for path in (HERE / "wrong").glob("*.py")
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if "# wrong" in line and not (checker and f"but for {checker}" in line)
    }


@pytest.mark.parametrize("checker", CHECKERS)
def test_nothing_is_said_of_programs_as_users_write_them(checker):
    assert [line for (folder, *_), line in reported(checker).items() if folder == "ok"] == []


@pytest.mark.parametrize("checker", CHECKERS)
def test_each_mistake_is_reported_where_it_is_made(checker):
    said = {place for place in reported(checker) if place[0] == "wrong"}
    assert sorted(wrong_lines(checker) - said) == []
    assert [reported(checker)[place] for place in sorted(said - wrong_lines())] == []


def test_there_are_enough_of_them():
    assert len(list((HERE / "wrong").glob("*.py"))) >= 20
    assert sum(path.read_text(encoding="utf-8").count("assert_type(") for path in (HERE / "ok").glob("*.py")) >= 30


def test_mypy_says_the_same_of_types_but_where_the_table_has_a_reason(tmp_path):
    if not (BIN / "mypy").exists():
        pytest.skip("mypy is not installed")
    lines = PRELUDE.splitlines()
    first = len(lines) + 1
    lines += [f"def row_{n}(value: {given}) -> {wanted}: return value" for n, (given, wanted, *_) in enumerate(TABLE)]
    (tmp_path / "rows.py").write_text("\n".join(lines))
    said = run(BIN / "mypy", "--cache-dir", tmp_path / "cache", "--config-file=", "rows.py", cwd=tmp_path)
    wrong = {int(line) - first for line in re.findall(r"rows\.py:(\d+): error", said)}
    assert min(wrong) >= 0, said
    assert [row for n, row in enumerate(TABLE) if ((n in wrong) is row[2]) != bool(row[3])] == []
