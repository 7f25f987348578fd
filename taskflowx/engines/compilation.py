"""A compiled flow as callers see it, and what is refused of it before anything runs."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from taskflowx import exceptions, task
from taskflowx._util import reprs

if TYPE_CHECKING:
    from taskflowx.engines.binding import Binder
    from taskflowx.engines.plan import Plan
    from taskflowx.types.graph import DiGraph
    from taskflowx.types.tree import Node

#: how many names an error tells one by one
NAMED_IN_FULL = 30


class Compilation:
    """A compiled flow: the lists that the engine runs, and the views of it for callers."""

    def __init__(self, compiled: Plan) -> None:
        self.plan = compiled

    @reprs.one_line
    def __repr__(self) -> str:
        return f"{type(self).__name__} of {repr(self.plan)[1:-1]}"

    @functools.cached_property
    def execution_graph(self) -> DiGraph:
        """The flow as a graph of networkx; made when it is first asked for, and not used by the engine."""
        from taskflowx.engines import export

        return export.to_digraph(self.plan.flow, export.parts_of(self.plan))

    @functools.cached_property
    def hierarchy(self) -> Node:
        """The flow as a tree of what is in it; made when it is first asked for, and not used by the engine."""
        from taskflowx.engines import export

        return export.to_tree(self.plan.flow, export.parts_of(self.plan))


def check_picklable(compiled: Plan, dumps: Callable[[Any], bytes]) -> None:
    """Refuse atoms that cannot reach another process: looks at each class, and at each function of a task, once.

    :raises CompilationFailure: names the atom, and the part of it that cannot be pickled
    """
    checked: set[Any] = set()
    for atom in compiled.atoms:
        if atom is None:
            continue
        parts: list[Any] = [type(atom)]
        if isinstance(atom, task.Task):
            parts += atom._tfx_parts()
        for part in parts:
            if id(part) in checked:
                continue
            try:
                dumps(part)
            except Exception as error:
                msg = (
                    f"Atom '{atom.name}' cannot reach another process: {part!r} cannot be pickled ({error}); "
                    "define it at the top level of a module, install cloudpickle, or use executor='threads'"
                )
                raise exceptions.CompilationFailure(msg, error) from None
            checked.add(id(part))


def missing(compiled: Plan, binder: Binder, lacking: list[tuple[int, Any]]) -> exceptions.MissingDependencies:
    """Return the error for inputs that nobody provides, with one cause for each atom.

    :param lacking: the atoms, each with its methods and the arguments that these lack
    """
    cause: exceptions.MissingDependencies | None = None
    names: dict[str, None] = {}
    for i, lack in lacking:
        for method, pairs in lack:
            names.update(dict.fromkeys(name for _, name in pairs))
            if len(names) <= NAMED_IN_FULL or cause is None:
                hints = [line for arg, name in pairs for line in binder.help(i, arg, name, method)]
                cause = exceptions.MissingDependencies(
                    compiled.atoms[i], sorted(name for _, name in pairs), cause, method, hint="\n".join(hints)
                )
    return exceptions.MissingDependencies(compiled.flow, sorted(names), cause)


def quoted(names: list[str]) -> str:
    """Return names in one line, not all of them when they are many."""
    shown = ", ".join(f"'{name}'" for name in names[:NAMED_IN_FULL])
    return f"{shown} and {len(names) - NAMED_IN_FULL} more" if len(names) > NAMED_IN_FULL else shown
