"""Every public name that callers of TaskFlow know is here, and takes its arguments in the order that they rely on.

surface.txt lists modules, names and signatures; what lies behind each is the matter of other tests.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pathlib
import re
from typing import Any, NamedTuple

import pytest

LISTED = pathlib.Path(__file__).with_name("surface.txt").read_text()
#: not there yet: they come with job boards
OPTIONAL = {"taskflowx.persistence.backends.impl_zookeeper": "kazoo"}


class Name(NamedTuple):
    """A line of the list: where the name is, and what is said of it."""

    module: str
    path: tuple[str, ...]
    arguments: str | None  # as written, None for what is not called
    value: str | None


def names() -> list[Name]:
    """Return all names that are listed."""
    found = []
    module, cls = "", ""
    for line in filter(str.strip, LISTED.splitlines()):
        text = line.strip()
        if not line.startswith(" "):
            module = text
        elif match := re.fullmatch(r"class (\w+)(?:\([^)]*\))?(\(.*\))?", text):
            cls = match[1]
            found.append(Name(module, (cls,), match[2], None))
        elif match := re.fullmatch(r"def (\w+)(\(.*\))", text):
            found.append(Name(module, (match[1],), match[2], None))
        elif match := re.fullmatch(r"\.(\w+)(?: \(settable\))?(?: = (.*))?", text):
            found.append(Name(module, (cls, match[1]), None, match[2]))
        elif match := re.fullmatch(r"(?:@\w+ )?(\w+)(\(.*\))", text):
            found.append(Name(module, (cls, match[1]), match[2], None))
        else:
            name, _, value = text.partition(" = ")
            found.append(Name(module, (name,), None, value))
    return found


def parameters(arguments: str) -> list[tuple[str, str | None]]:
    """Return (name, default as written) of each positional parameter of a written signature."""
    plain = re.sub(r"<[^>]*>", "None", arguments)
    try:
        made = ast.parse(f"def f{plain}: ...").body[0].args
    except SyntaxError:
        return []
    defaults = [None] * (len(made.args) - len(made.defaults)) + [ast.unparse(default) for default in made.defaults]
    return list(zip([arg.arg for arg in made.args], defaults, strict=True))


def literal(text: str) -> Any:
    """Return the value that is written, or Ellipsis if it is no literal."""
    try:
        return ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return ...


def check_arguments(found: Any, arguments: str) -> None:
    """Check that what is called takes by position what is written."""
    listed = parameters(arguments)
    ours = [p for p in inspect.signature(found).parameters.values() if p.name not in ("self", "cls")]
    by_position = [p for p in ours if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    takes_more = {p.kind for p in ours} >= {inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD}
    assert takes_more or len(by_position) >= len(listed)
    for (name, default), parameter in zip(listed, by_position, strict=False):
        assert parameter.name == name
        value = ... if default is None or "<" in arguments else literal(default)
        assert value is ... or parameter.default == value
    for extra in by_position[len(listed) :]:
        assert "*args" in arguments or extra.default is not extra.empty, f"{extra.name} is required here"


NAMES = names()


@pytest.mark.parametrize("listed", NAMES, ids=lambda listed: ".".join((listed.module, *listed.path)))
def test_the_name_is_there_and_takes_what_callers_give(listed):
    if listed.module in OPTIONAL:
        pytest.importorskip(OPTIONAL[listed.module])
    found = importlib.import_module(listed.module)
    for part in listed.path:
        found = inspect.getattr_static(found, part, None) if inspect.isclass(found) else getattr(found, part)
        if isinstance(found, (classmethod, staticmethod)):
            found = found.__func__
    if found is None and listed.value != "None":
        owner = getattr(importlib.import_module(listed.module), listed.path[0])
        # an attribute that instances have from the start is set in __init__, or is a slot
        assert len(listed.path) == 2
        assert any(f"self.{listed.path[1]}" in inspect.getsource(cls) for cls in owner.__mro__[:-1])
        return
    if listed.value is not None:
        value = literal(listed.value)
        assert value is ... or found == value
    if listed.arguments is not None and "…" not in listed.arguments:
        check_arguments(found, listed.arguments)


def test_the_list_has_been_read_whole():
    assert len({listed.module for listed in NAMES}) > 35
    assert len(NAMES) > 450
