"""Deciders: the depth of a veto, and a decider that takes values by their names."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

from taskflowx import atom
from taskflowx._util import arguments, reprs
from taskflowx.signature import inspect_parameters

if TYPE_CHECKING:
    from taskflowx import flow


class Decider(Protocol):
    """A function on a link, which tells whether what comes after it runs."""

    def __call__(self, *, history: dict[str, Any]) -> object:
        """Return a false value for a veto; with executor='asyncio' it may be one that is awaited.

        :param history: name -> result of each atom that is linked with a decider
        """


class Depth(enum.StrEnum):
    """What is ignored after the veto of a decider, the widest first."""

    ALL = "ALL"
    """The atom and everything after it."""
    FLOW = "FLOW"
    """The atom and its successors in its own flow, without nested flows."""
    NEIGHBORS = "NEIGHBORS"
    """The atom and its direct successors."""
    ATOM = "ATOM"
    """The atom alone."""

    @classmethod
    def translate(cls, desired_depth: Any) -> Depth:
        """Return the depth for its name, in upper or lower case.

        :raises TypeError, ValueError: when there is no such depth
        """
        if isinstance(desired_depth, cls):
            return desired_depth
        if not isinstance(desired_depth, str):
            raise TypeError(
                f"Unexpected desired depth type, string type expected, not {type(desired_depth)}\nIt is one of {_NAMES}"
            )
        try:
            return cls(desired_depth.upper())
        except ValueError:
            raise ValueError(
                f"Unexpected decider depth value, one of {_NAMES} (case-insensitive) "
                f"is expected and not '{desired_depth}'"
            ) from None


class When:
    """A decider that takes values by their names: those of the atom before the link, and others that are visible there.

    :param before: the member before the link; what it provides itself, if it is an atom, goes before others
    :param condition: a function of the values, plain or `async def`; a false value is a veto
    :param after: the member after the link
    :raises ValueError: when the condition takes a parameter by position, or is always true, as a generator function is
    """

    def __init__(self, before: flow.Member, condition: Callable[..., object], after: flow.Member) -> None:
        #: the link, as messages call it
        self.link = f"'{before.name}' -> '{after.name}'"
        what = f"when= of the link {self.link}"
        if isinstance(condition, type):
            arguments.refuse(what, condition, "a function of values, and no class", ValueError)
        arguments.check_callback(what, condition, awaited=True)
        takes = inspect_parameters(condition)
        if takes.by_position:
            raise ValueError(
                f"{what} takes {list(takes.by_position)} by position only, and values are passed by name: remove the / "
                "from its parameters"
            )
        provided = before.save_as if isinstance(before, atom.Atom) else {}
        self.condition = condition
        self._before = before.name
        #: name -> index or key, for the values of the member before the link
        self.keys = {name: provided[name] for name in (*takes.required, *takes.optional) if name in provided}
        #: the names of other values, without a default and with one; they are looked for as those of the atom after
        #: the link are
        self.required = tuple(name for name in takes.required if name not in provided)
        self.optional = tuple(name for name in takes.optional if name not in provided)

    @reprs.one_line
    def __repr__(self) -> str:
        return f"When of the link {self.link}: {reprs.of(self.condition)}"

    def __call__(self, history: Mapping[str, Any], values: Mapping[str, Any] | None = None) -> object:
        """Tell whether the atom after the link may run.

        :param history: name -> result of each atom that is linked with a decider
        :param values: those of the other names
        """
        own = {}
        if self.keys:
            result = history[self._before]
            own = {name: result if key is None else result[key] for name, key in self.keys.items()}
        return self.condition(**own, **(values or {}))


_NAMES = sorted(depth.value for depth in Depth)
_WIDTH = {depth: place for place, depth in enumerate(Depth)}


def pick_widest(depths: Iterable[Depth]) -> Depth:
    """Return the depth that reaches furthest.

    :param depths: depths or their names, at least one
    :raises TypeError, ValueError: when there is no such depth, or none is given
    """
    arguments.check_iterable("depths", depths, "an iterable of depths or their names")
    widest = min(map(Depth.translate, depths), key=_WIDTH.__getitem__, default=None)
    if widest is None:
        raise ValueError("depths must not be empty: there is no widest one then")
    return widest
