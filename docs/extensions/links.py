"""Leads names of the standard library to Python's own pages, without asking the network for their list.

A name is taken for what it is if it can be imported here, so a link to a name that Python does not have is a warning.
"""

from __future__ import annotations

import ast
import builtins
import collections.abc
import importlib
import itertools
import re
import sys
import textwrap
import typing
from typing import Any

from docutils import nodes
from sphinx.util.nodes import make_refnode

import taskflowx
from taskflowx import atom

PYTHON = "https://docs.python.org/3/library/"
EXCEPTIONS, TYPES, FUNCTIONS = "exceptions", "stdtypes", "functions"


#: names in signatures that have no page, and why
PLAIN = frozenset(
    (
        *("P", "R", "F"),  # type variables
        *("Attempt", "Awaits", "Callback", "DetailsFilter", "ExcInfo", "Link", "Look"),  # aliases of types
        *("Address", "Provides", "Rebind"),  # as above; the pages of what takes them say what they are
        "Ran",  # an engine, as far as a result is read from it
        *(
            "AtomsByName",
            "Binder",
            "Blob",
            "Box",
            "Handle",
            "Names",
            "Outline",
            "PathRuns",
            "PathTree",
            "Plan",
            "Preparation",
            "Query",
            "Resetting",
            "RunRow",
            "Secrets",
            "Times",
            "Written",
        ),  # parts of the engine
        *(
            "Connection",
            "Console",
            "DiGraph",
            "Engine",
            "KazooClient",
            "MeterProvider",
            "NetworkXError",
            "TracerProvider",
        ),  # of libraries that are adapted
    )
)
SPAN = re.compile(r"(`[^`]+`)(\w?)")  # a letter after it, as in `Flow`s, has to be set off
#: names that their annotation does not spell in full
MODULES = {
    "AbstractContextManager": "contextlib.AbstractContextManager",
    "Path": "pathlib.Path",
    "dt.datetime": "datetime.datetime",
    "dt.timedelta": "datetime.timedelta",
}


def address_of(name: str) -> str | None:
    """Return the address of the page about a name of the standard library, or None for another name."""
    name = MODULES.get(name, name)
    if "." not in name and not hasattr(builtins, name):  # annotations do not spell these in full
        module = next((one for one in (typing, collections.abc) if hasattr(one, name)), None)
        return f"{PYTHON}{module.__name__}.html#{module.__name__}.{name}" if module is not None else None
    if "." not in name:
        found = getattr(builtins, name, None)
        if isinstance(found, type) and issubclass(found, BaseException):
            return f"{PYTHON}{EXCEPTIONS}.html#{name}"
        if name == "None":
            return f"{PYTHON}constants.html#None"
        return f"{PYTHON}{TYPES if isinstance(found, type) else FUNCTIONS}.html#{name}"
    if name.partition(".")[0] not in sys.stdlib_module_names:
        return None
    module, _, rest = name.rpartition(".")
    try:
        getattr(importlib.import_module(module), rest)
    except (ImportError, AttributeError):
        return None
    return f"{PYTHON}{module}.html#{name}"


def named(env: Any, name: str) -> str | None:
    """Return the full name of the only object that a docstring can mean by a short name, or None."""
    kinds = (
        {"class", "exception", "function", "module", "type"} if "." not in name else {"method", "attribute", "property"}
    )
    ending = f".{name}"
    objects = env.domains["py"].objects.items()
    found = [full for full, one in objects if full.endswith(ending) and one.objtype in kinds and not one.aliased]
    return found[0] if len(found) == 1 else None


def resolve(app: Any, env: Any, node: Any, content: Any) -> Any:
    """Resolve a reference that Sphinx does not know; one in a docstring that is no name at all stays code."""
    if node.get("refdomain") != "py":
        return None
    address = address_of(node["reftarget"])
    if address is not None:
        return nodes.reference("", "", content, internal=False, refuri=address)
    last = node["reftarget"].rpartition(".")[2]
    # Annotations may have a name that their module alone gives to another one: `retries.Retry`.
    ours = named(env, node["reftarget"] if node["reftype"] == "obj" else last)
    if ours is not None:
        found = env.domains["py"].objects[ours]
        return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, content, ours)
    if node["reftype"] == "obj" or last in PLAIN or last.startswith("_"):  # `obj`: single backticks in docstrings
        return content
    return None


def set_off(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Show indented parts of a docstring, programs and drawings, as they are written."""
    lifted: list[str] = []
    before = ""
    for number, line in enumerate(lines):
        blank = number == 0 or not lines[number - 1].strip()
        if line.startswith("    ") and blank and not before.startswith((" ", ":", "-", "..")):
            part = itertools.takewhile(lambda one: not one.strip() or one.startswith("    "), lines[number:])
            lifted += [f".. code-block:: {language_of(list(part))}", ""]
        lifted.append(SPAN.sub(lambda span: span[1] + ("\\ " + span[2] if span[2] else ""), line))
        if line.strip():
            before = line
    lines[:] = lifted


def language_of(part: list[str]) -> str:
    """Return the language of a part of a docstring."""
    try:
        ast.parse(textwrap.dedent("\n".join(part)))
    except SyntaxError:
        return "text"
    return "python"


def add_names(app: Any, env: Any) -> None:
    """Have the names of the package lead to what they are, and the other way round, from other projects too."""
    objects = env.domains["py"].objects
    for name in taskflowx.__all__:
        value = getattr(taskflowx, name)
        short, full = f"taskflowx.{name}", f"{value.__module__}.{value.__qualname__}"
        for absent, there in ((short, full), (full, short)):
            if absent not in objects and there in objects:
                objects[absent] = objects[there]._replace(aliased=True)


def setup(app: Any) -> dict[str, bool]:
    """Register the resolver with Sphinx."""
    for name in ("Provides", "Rebind"):  # type checkers alone see these, and the signatures of overloads are evaluated
        vars(atom).setdefault(name, typing.TypeVar(name))
    app.connect("env-updated", add_names)
    app.connect("missing-reference", resolve)
    app.connect("autodoc-process-docstring", set_off)
    return {"parallel_read_safe": True}
