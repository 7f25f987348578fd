"""Every public name is on a page of the reference.

A new module is put on a page in `docs/reference`, or into `PARTS` if users do not import it.
"""

from __future__ import annotations

import fnmatch
import importlib
import inspect
import pathlib
import pkgutil
import re

import pytest

import taskflowx

ROOT = next(folder for folder in pathlib.Path(__file__).parents if (folder / "pyproject.toml").exists())
TEXT = "".join(page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs/reference").glob("*.md")))
DIRECTIVES = {
    module: dict(re.findall(r"^   :([\w-]+):(.*)$", options, re.MULTILINE))
    for module, options in re.findall(r"^\.\. automodule:: ([\w.]+)\n((?:   .*\n)*)", TEXT, re.MULTILINE)
}
#: modules that users do not import: parts of the engine, and packages without names of their own
PARTS = (
    *(
        "taskflowx.cli*",
        "taskflowx._*",
        "taskflowx.signature",
        "taskflowx.record*",
        "taskflowx.types",
        "taskflowx.types.failure_parts",
    ),
    *(
        "taskflowx.types.frameless",
        "taskflowx.utils",
        "taskflowx.listeners",
        "taskflowx.patterns",
        "taskflowx.persistence",
    ),
    *("taskflowx.patterns.members", "taskflowx.patterns.of_task", "taskflowx.patterns.order"),
    *("taskflowx.controls", "taskflowx.pacing", "taskflowx.testing.contract_tasks"),
    *("taskflowx.front", "taskflowx.functions", "taskflowx.compose"),  # their names are those of the package
    *("taskflowx.pictures", "taskflowx.pictures.*", "taskflowx.reports", "taskflowx.reports.*"),
    "taskflowx.runs.reporting",
    *("taskflowx.engines.*", "taskflowx.executors.*"),
    *(
        "taskflowx.persistence.codec",
        "taskflowx.persistence.tag*",
        "taskflowx.persistence.journal",
        "taskflowx.persistence.path_runs",
        "taskflowx.persistence.path_tree",
        "taskflowx.persistence.run_records",
    ),
    *(f"taskflowx.runs.{name}" for name in ("fork", "outline", "pauses", "start", "stores", "times")),
    *("taskflowx.persistence.backends.dir_locks", "taskflowx.persistence.backends.migrations*"),
    *("taskflowx.persistence.backends.sql*"),
)
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages(taskflowx.__path__, "taskflowx.")
    if module.name in DIRECTIVES or not any(fnmatch.fnmatch(module.name, part) for part in PARTS)
)


@pytest.mark.parametrize("module", MODULES)
def test_each_module_is_on_a_page_with_all_of_its_names(module):
    assert module in DIRECTIVES, f"{module} is on no page in docs/reference, and is not in PARTS"
    found = importlib.import_module(module)
    public = getattr(found, "__all__", None) or [
        name
        for name, value in vars(found).items()
        if not name.startswith("_")
        and (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__ == module
    ]
    options = DIRECTIVES[module]
    for name in public:
        value = getattr(found, name)
        if inspect.isclass(value) or inspect.isfunction(value):
            assert value.__doc__, f"without a docstring, {name} is not on its page"
            assert value.__module__ == module or value.__module__ in DIRECTIVES or "imported-members" in options
        elif hasattr(found, "__all__"):
            assert "undoc-members" in options, f"{name} is not on its page"


@pytest.mark.parametrize("name", taskflowx.__all__)
def test_each_name_of_the_package_is_on_a_page(name):
    here = re.search(rf"^\.\. auto(class|function):: taskflowx\.{name}$", TEXT, re.MULTILINE)
    assert here or getattr(taskflowx, name).__module__ in DIRECTIVES


def test_pages_name_modules_that_there_are():
    assert set(DIRECTIVES) <= {"taskflowx", *MODULES}
