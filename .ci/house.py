"""Checks of the house that no other tool makes; called by `make check`.

- A file has at most 500 lines.
- No module reads private names of another one, but for those that are listed with their reason. Names that begin with
  `_tfx_` are the package's own, on objects of users.
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
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "tests" / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
LONGEST = 500  # lines

#: names that look private, and that Python documents, or has no other one for
OF_PYTHON = frozenset(
    ("_current_frames", "_exit", "_fields", "_field_defaults", "_get_running_loop", "_getframe", "_replace")
)
#: file -> how many private names of other modules it reads, and why
PRIVATE: dict[str, tuple[int, str]] = {
    "taskflowx/executors/dask/places.py": (2, "what `Client.get_executor` returns has no other way to its client"),
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
    """Find modules that read private names of others."""
    for path in CODE:
        name = str(path.relative_to(ROOT))
        found = crossings(path)
        allowed, _ = PRIVATE.get(name, (0, ""))
        if len(found) > allowed:
            shown = ", ".join(f"{what} in line {line}" for line, what in found)
            yield f"{name} reads private names of others: {shown}"
        elif len(found) < allowed:
            yield f"{name} reads {len(found)} private names of others: PRIVATE may be lower"


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
    problems = [*too_long(), *private(), *retired(), *old_map()]
    for problem in problems:
        sys.stdout.write(f"{problem}\n")
    sys.stdout.write(f"{len(CODE)} files of code, {len(PAGES)} pages: {len(problems) or 'no'} problems\n")
    return int(bool(problems))


if __name__ == "__main__":
    sys.exit(main())
