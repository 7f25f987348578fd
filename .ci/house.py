"""Checks of the house that no other tool makes; called by `make check`.

- A file has at most 500 lines.
- No module reads private names of another one, and no test those of a module, but for those that are listed with their
  reason. Names that begin with `_tfx_` are the package's own, on objects of users.
- Each test has an `assert`, or calls what is named after one: `assert_…`, `check_…`, `pytest.raises`.
- Unit tests start no program and talk to no server.
- Pages name tests that are there.
- The functions that users call say what they take and return: a bare `Any` there is listed with its reason.
- Words that the glossary has replaced do not come back.
- The map of the code, `docs/house.svg`, is that of today.

Numbers in the lists of exceptions may only fall: one that is too high is a fault, too.
"""

from __future__ import annotations

import ast
import importlib.util
import pathlib
import re
import sys
from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = pathlib.Path(__file__).resolve().parent.parent
CODE = sorted((ROOT / "taskflowx").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "tests" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LONGEST = 500  # lines

#: names that look private, and that Python documents, or has no other one for
OF_PYTHON = frozenset(
    {
        *("_", "_current_frames", "_exit", "_fields", "_field_defaults", "_get_running_loop", "_getframe", "_replace"),
        "_unregister_task",  # of asyncio
        "_repr_mimebundle_",  # of notebooks
        *("_name_", "_value_"),  # of enum members
    }
)
#: file -> how many private names of other modules it reads, and why
PRIVATE: dict[str, tuple[int, str]] = {
    "taskflowx/executors/dask/places.py": (2, "what `Client.get_executor` returns has no other way to its client"),
    "tests/contract/engine/test_progress_in_store.py": (2, "a timer that fires too late is called by hand"),
    "tests/contract/executor/dask_faults.py": (1, "a pause is shortened"),
    "tests/contract/executor/dask_pumps.py": (7, "two steps of a run coincide, as no cluster can be made to"),
    "tests/contract/executor/test_executors.py": (1, "a wait is interrupted"),
    "tests/contract/executor/test_processes.py": (4, "a worker that is full, a stop that has arrived, a bound"),
    "tests/contract/store/test_damaged.py": (1, "a write stops before its end"),
    "tests/contract/store/test_histories.py": (8, "parts of a history are damaged where they are; a limit is lowered"),
    "tests/contract/store/test_impl_dir.py": (2, "locks are held and waited for"),
    "tests/contract/store/test_impl_sqlalchemy.py": (4, "SQLAlchemy's pool; somebody who waits for a connection"),
    "tests/contract/store/test_zookeeper_limits.py": (1, "how many bytes we reckon for an operation"),
    "tests/interop/openstack/run_glance.py": (1, "a flow that Glance makes has no other name"),
    "tests/model/drive.py": (2, "counters of a run that is under way are compared with new ones at every step"),
    "tests/support/drivers.py": (1, "what stands behind a store, in one place for all tests"),
    "tests/support/leftovers.py": (2, "servers of Python's multiprocessing"),
    "tests/unit/executors/test_aio.py": (2, "asyncio complains of a loop that is closed with tasks in it"),
    "tests/unit/executors/test_chains.py": (2, "what is known of calls and workers decides what is sent ahead"),
    "tests/unit/executors/test_threads.py": (2, "how far workers are is said, not waited for"),
    "tests/unit/persistence/backends/test_backends.py": (1, "the table of our stores, against the entry points"),
    "tests/unit/persistence/backends/test_impl_zookeeper.py": (2, "one request is made by hand, with a fault"),
    "tests/unit/persistence/test_models.py": (1, "a series of identities that is new"),
    "tests/unit/types/test_failure.py": (2, "TaskFlow's users read it"),
    "tests/unit/types/test_notifier.py": (2, "a lock is held, and a mark is taken back"),
}
#: the modules that users import from
FRONT = [
    *(ROOT / "taskflowx").glob("[a-z]*.py"),
    *(ROOT / "taskflowx" / "patterns").glob("*_flow.py"),
    *(ROOT / "taskflowx" / "engines" / f"{name}.py" for name in ("base", "engine", "helpers", "options")),
    *(ROOT / "taskflowx" / "listeners").glob("*.py"),
    ROOT / "taskflowx" / "executors" / "__init__.py",
    ROOT / "taskflowx" / "testing" / "__init__.py",
]
#: file of these -> how many parameters and results of public functions are annotated as a bare Any, and why
ANY: dict[str, tuple[int, str]] = {
    "taskflowx/atom.py": (
        4,
        "what execute and revert return is the users' own; names and versions of anything are shown",
    ),
    "taskflowx/controls.py": (3, "checks what users write"),
    "taskflowx/deciders.py": (1, "a depth is checked when it is given"),
    "taskflowx/engines/options.py": (1, "each executor gives a handle of its own"),
    "taskflowx/executors/__init__.py": (2, "takes executors of packages that need not be installed, and checks them"),
    "taskflowx/formatters.py": (1, "values of users are masked"),
    "taskflowx/functions.py": (5, "the overloads say more; execute and revert are called by engines"),
    "taskflowx/listeners/capturing.py": (1, "users' lists, and what stands for one"),
    "taskflowx/listeners/claims.py": (3, "boards and jobs come from TaskFlow, and from users"),
    "taskflowx/listeners/logging.py": (3, "loggers of other packages"),
    "taskflowx/logging.py": (1, "as in the standard library"),
    "taskflowx/pacing.py": (1, "checks what users write"),
    "taskflowx/retry.py": (2, "values of users"),
    "taskflowx/signature.py": (6, "checks what declarations are"),
    "taskflowx/storage.py": (2, "values of users"),
    "taskflowx/task.py": (3, "values of users"),
}
#: phrases with the words that have taken their place
RETIRED = {
    r"turn(s|ed|ing)? (it |them |nothing |a region |the region )?round": "roll back",
    r"beg[aiu]ns? anew|beginning anew": "reset, restart",
    r"cut off": "interrupted",
    r"(left|leaves?|leaving) out (after|by|with|whom)": "skipped",
    r"those who listen|who listens?\b": "subscribers",
    r"stillborn": "failed to start",
    r"sign of life": "heartbeat",
    r"takes? back the calls|taken back": "cancel",
    r"hand(s|ed)? over to the executor": "dispatch",
}
#: file -> how many of them are left there
LEFT: dict[str, int] = {}


def too_long() -> Iterator[str]:
    """Find files that are too long."""
    for path in CODE:
        count = len(path.read_text(encoding="utf-8").splitlines())
        if count > LONGEST:
            yield f"{path.relative_to(ROOT)} has {count} lines, and may have {LONGEST}"


def crossings(path: pathlib.Path) -> list[tuple[int, str]]:
    """Return the lines of a file that read private names of other modules, with these names."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    own: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            own.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            own.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store) and is_self(node.value):
            own.add(node.attr)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            own.add(node.value)  # a name in __slots__
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("taskflowx"):
            found += [(node.lineno, one.name) for one in node.names if is_private(one.name)]
        if (
            isinstance(node, ast.Attribute)
            and is_private(node.attr)
            and not is_self(node.value)
            and node.attr not in own
        ):
            found.append((node.lineno, node.attr))
    return found


def is_self(node: ast.expr) -> bool:
    """Tell whether an expression is the object of the method, or its class."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in {"super", "type"}
    return isinstance(node, ast.Name) and node.id in {"self", "cls"}


def is_private(name: str) -> bool:
    """Tell whether a name is private to its module; some modules are so to the package."""
    return name.startswith("_") and not name.startswith(("__", "_tfx_")) and name not in OF_PYTHON | {"_names", "_util"}


def private() -> Iterator[str]:
    """Find modules and tests that read private names of modules."""
    for path in [*CODE, *TESTS]:
        name = str(path.relative_to(ROOT))
        found = crossings(path)
        allowed, _ = PRIVATE.get(name, (0, ""))
        if len(found) > allowed:
            shown = ", ".join(f"{what} in line {line}" for line, what in found)
            yield f"{name} reads private names of others: {shown}"
        elif len(found) < allowed:
            yield f"{name} reads {len(found)} private names of others: PRIVATE may be lower"
    for name in PRIVATE:
        if not (ROOT / name).exists():
            yield f"PRIVATE names {name}, which is not there"


def too_much_for_a_unit() -> Iterator[str]:
    """Find unit tests that start programs or talk to servers; `contract` and `acceptance` are the places of these."""
    for path in sorted((ROOT / "tests" / "unit").rglob("*.py")):
        for name in re.findall(
            r"^\s*(?:import|from) (subprocess|tests\.services)\b", path.read_text(encoding="utf-8"), re.MULTILINE
        ):
            yield f"{path.relative_to(ROOT)} imports {name}"


#: what a test calls that can fail it
CHECKS = re.compile(r"(assert|check)(_|$)|raises$|warns$|fail$|failures_regexp$")


def vain() -> Iterator[str]:
    """Find tests that check nothing, as far as a reader of them sees."""
    for path in TESTS:
        for test in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(test, (ast.FunctionDef, ast.AsyncFunctionDef)) and test.name.startswith("test_"):
                called = (node.func for node in ast.walk(test) if isinstance(node, ast.Call))
                names = (getattr(one, "attr", getattr(one, "id", "")) for one in called)
                if not (any(isinstance(node, ast.Assert) for node in ast.walk(test)) or any(map(CHECKS.match, names))):
                    yield f"{path.relative_to(ROOT)}: {test.name} has no `assert`, and calls nothing that is named so"


def lost() -> Iterator[str]:
    """Find names of tests in pages that are not there."""
    for page in PAGES:
        for name in re.findall(r"tests/[\w/]+(?:\.py|/)", page.read_text(encoding="utf-8")):
            if not (ROOT / name).exists():
                yield f"{page.relative_to(ROOT)} names {name}, which is not there"


def bare_any(path: pathlib.Path) -> list[str]:
    """Return the parameters and results of public functions of a file that are annotated as Any alone."""
    found = []
    inside: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while inside:
        for node in getattr(inside.pop(), "body", ()):
            if isinstance(node, (ast.If, ast.ClassDef)) and not is_private(getattr(node, "name", "")):
                inside.append(node)
            elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and not node.name.startswith("_"):
                args = node.args
                said = {one.arg: one.annotation for one in (*args.posonlyargs, *args.args, *args.kwonlyargs)}
                said["->"] = node.returns
                found += [f"{node.name} {name}" for name, one in said.items() if is_any(one)]
            elif isinstance(node, ast.FunctionDef) and node.name in {"__init__", "__call__"}:
                found += [f"{node.name} {one.arg}" for one in node.args.args if is_any(one.annotation)]
    return found


def is_any(annotation: ast.expr | None) -> bool:
    """Tell whether an annotation is Any and nothing else."""
    return isinstance(annotation, ast.Name) and annotation.id == "Any"


def untyped() -> Iterator[str]:
    """Find functions that users call and that do not say what they take or return."""
    for path in sorted(FRONT):
        name = str(path.relative_to(ROOT))
        found = bare_any(path)
        allowed, _ = ANY.get(name, (0, ""))
        if len(found) > allowed:
            yield f"{name} has {len(found)} times Any, and may have {allowed}: {', '.join(found)}"
        elif len(found) < allowed:
            yield f"{name} has {len(found)} times Any: ANY may be lower"


def retired() -> Iterator[str]:
    """Find words that are retired."""
    words = re.compile("|".join(f"(?:{phrase})" for phrase in RETIRED), re.IGNORECASE)
    for path in [*CODE, *PAGES]:
        name = str(path.relative_to(ROOT))
        text = path.read_text(encoding="utf-8")
        found = Counter(match.group(0).lower() for match in words.finditer(text))
        count, allowed = sum(found.values()), LEFT.get(name, 0)
        if count > allowed:
            yield f"{name} has {count} retired phrases, and may have {allowed}: {dict(found)}"
        elif count < allowed:
            yield f"{name} has {count} retired phrases: LEFT may be lower"


def old_map() -> Iterator[str]:
    """Find out whether the map is another one than that of today."""
    spec = importlib.util.spec_from_file_location("map", ROOT / ".ci" / "map.py")
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    if not drawing.MAP.exists() or drawing.MAP.read_text(encoding="utf-8") != drawing.draw():
        yield "docs/house.svg is not the map of today's code: `make format` draws it"


def main() -> int:
    """Run the checks; returns 1 when one has found something."""
    problems = [*too_long(), *untyped(), *private(), *too_much_for_a_unit(), *vain(), *lost(), *retired(), *old_map()]
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    sys.stdout.write(f"{len(CODE)} files of code, {len(PAGES)} pages: {len(problems) or 'no'} problems\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
