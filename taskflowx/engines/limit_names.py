"""The limits of an engine by name, and the names that tasks give: what is written, read and checked before a run.

An engine has capacities and rates by name. A name that ends in `*` stands for all that begin as it does, each of which
has a capacity of its own; of several that fit, the longest counts. A task may leave a part of a name open:
`host:{host}` is filled from the argument `host` of its call.
"""

from __future__ import annotations

import functools
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import controls, exceptions, retry
from taskflowx._util import arguments

if TYPE_CHECKING:
    from taskflowx.engines.options import Options
    from taskflowx.engines.plan import Plan
    from taskflowx.executors.base import Executor

_UNITS = {"s": 1.0, "min": 60.0, "h": 3600.0, "day": 86400.0}
_RATE = f"a text such as '10/s' (units {', '.join(_UNITS)}), or a pair such as (10, 1.0): so many in so many seconds"
_CAPACITY = "a whole number, at least 1, or None for no limit"
#: stands for a part of a name that cannot be known any more
_UNKNOWN = "?"


class Kind:
    """The limits that some tasks have.

    :param limits: pairs of a name, in which arguments may be open, and an amount
    """

    __slots__ = ("is_open", "limits")

    def __init__(self, limits: tuple[tuple[str, int], ...]) -> None:
        self.limits = limits
        self.is_open = any(fields(template) for template, _ in limits)


class Table:
    """What an engine says of names, which may end in `*`.

    :param given: the values by name
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        self._exact = {name: value for name, value in given.items() if not name.endswith("*")}
        prefixes = sorted((name[:-1] for name in given if name.endswith("*")), key=len, reverse=True)
        self._by_prefix = [(prefix, given[f"{prefix}*"]) for prefix in prefixes]

    def value(self, name: str) -> Any:
        """Return the value of a full name; None when there is none."""
        if name in self._exact:
            return self._exact[name]
        return next((value for prefix, value in self._by_prefix if name.startswith(prefix)), None)

    def covers(self, template: str) -> bool:
        """Tell whether each name that a template may become has a value."""
        if not fields(template):
            return template in self._exact or any(template.startswith(prefix) for prefix, _ in self._by_prefix)
        return any(_before_fields(template).startswith(prefix) for prefix, _ in self._by_prefix)

    def possible(self, template: str) -> Iterator[tuple[str, Any]]:
        """Iterate over what may count for the names that a template may become: as it was given, with its value."""
        if not fields(template):
            found = (
                template
                if template in self._exact
                else next((f"{prefix}*" for prefix, _ in self._by_prefix if template.startswith(prefix)), None)
            )
            if found is not None:
                yield found, self.value(template)
            return
        begins = _before_fields(template)
        for name, value in self._exact.items():
            if name.startswith(begins):
                yield name, value
        for prefix, value in self._by_prefix:
            if prefix.startswith(begins) or begins.startswith(prefix):
                yield f"{prefix}*", value


class Limited(NamedTuple):
    """What limits a plan has on an executor; None stands for those that cannot be reached.

    :param kinds: the limits of each atom that has some
    :param capacities: how much at once, by name
    :param rates: how much in how many seconds, by name
    """

    kinds: dict[int, Kind]
    capacities: Mapping[str, int | None]
    rates: Mapping[str, tuple[int, float] | None]


# -- what is given to the engine ---------------------------------------------------------------------


def to_capacities(given: Any) -> dict[str, int | None]:
    """Return the option `limits`, checked.

    :raises TypeError, ValueError: when a name or a capacity is not one
    """
    return {name: _to_capacity(f"limits[{name!r}]", value) for name, value in _named("limits", given).items()}


def to_rates(given: Any) -> dict[str, tuple[int, float]]:
    """Return the option `rates`, checked: how many, in how many seconds, by name.

    :raises TypeError, ValueError: when a name or a rate is not one
    """
    return {name: _to_rate(f"rates[{name!r}]", value) for name, value in _named("rates", given).items()}


def to_at_once(given: Any) -> int | None:
    """Return the option `max_in_flight`, checked.

    :raises TypeError, ValueError: when it is no capacity
    """
    return _to_capacity("max_in_flight", given)


def _named(option: str, given: Any) -> dict[str, Any]:
    arguments.check_mapping(option, given, "a dict of name -> how much there is of it")
    values = dict(arguments.to_named_values(option, given))
    for name in values:
        if not name or "*" in name[:-1] or "{" in name or "}" in name:
            arguments.refuse(f"Each name in {option}", name, "a name, or the beginning of names and '*'", ValueError)
    return values


def _to_capacity(what: str, value: Any) -> int | None:
    if value is None:
        return None
    return _to_count(what, value, _CAPACITY)


def _to_count(what: str, value: Any, accepted: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        arguments.refuse(what, value, accepted, ValueError if isinstance(value, float) else TypeError)
    if value < 1:
        arguments.refuse(what, value, accepted, ValueError)
    return int(value)


def _to_rate(what: str, value: Any) -> tuple[int, float]:
    if isinstance(value, str):
        count, slash, unit = (part.strip() for part in value.partition("/"))
        if not slash or unit not in _UNITS or not (count.isascii() and count.isdigit()) or not int(count):
            arguments.refuse(what, value, _RATE, ValueError)
        return int(count), _UNITS[unit]
    try:
        tokens, seconds = value
    except (TypeError, ValueError):
        arguments.refuse(what, value, _RATE)
    if isinstance(seconds, bool) or not isinstance(seconds, (int, float)):
        arguments.refuse(what, value, _RATE)
    if not 0 < seconds <= sys.float_info.max:
        arguments.refuse(what, value, _RATE, ValueError)
    return _to_count(what, tokens, _RATE), float(seconds)


# -- what tasks give ---------------------------------------------------------------------------------


#: takes a name, and returns the names of the arguments in it
fields = functools.lru_cache(1024)(controls.fields_of)


def _before_fields(template: str) -> str:
    """Return what a name begins with, whatever its arguments are."""
    import string  # only who names limits needs it

    return next((literal for literal, *_ in string.Formatter().parse(template)), "")


def fill(template: str, given: Mapping[str, Any], execute: Any) -> str:
    """Return a name with its arguments filled in.

    :param given: the arguments of the call
    :param execute: the method, which has defaults for arguments that are not given
    """
    try:
        values = {name: given[name] if name in given else _default(execute, name) for name in fields(template)}
        return template.format(**values)
    except Exception:  # the value of a user has no text
        return template.format(**dict.fromkeys(fields(template), _UNKNOWN))


def _default(execute: Any, name: str) -> Any:
    import inspect  # rarely needed

    parameter = inspect.signature(execute).parameters.get(name)
    return _UNKNOWN if parameter is None or parameter.default is parameter.empty else parameter.default


def limited(plan: Plan, options: Options, executor: Executor) -> Limited:
    """Return the limits of the atoms of a plan.

    A limit that this plan cannot reach is none, and costs nothing: all atoms together, or as many as begin at once,
    need no more than there is.

    :raises CompilationFailure: when the engine has no limit of that name, or one that is never large enough; names the
        task, the limit, and what to write
    """
    capacities, rates = Table(options.limits or {}), Table(options.rates or {})
    known: dict[Any, Kind] = {}
    kinds: dict[int, Kind] = {}
    for i, settings in plan.controls.items():
        limits = settings.limits
        if limits:
            args = plan.atoms[i]._tfx_signature.execute.args
            if (limits, args) not in known:
                for template, amount in limits:
                    _check_one(plan.atoms[i], frozenset(args), template, amount, capacities, rates)
                known[limits, args] = Kind(limits)
            kinds[i] = known[limits, args]
    width = 1 if executor.serial else None if executor.is_remote is not False else executor.width
    counts = Counter(kinds.values())
    repeats = _repeats(plan) or options.revert_limits == "shared"
    wanted = _Demand(counts, capacities)
    reached = {
        name: None if n is None or wanted.fits(name, n, width) else n for name, n in (options.limits or {}).items()
    }
    wanted = _Demand(counts, rates)
    reached_rates = {
        name: rate if repeats or not wanted.fits(name, rate[0], None) else None
        for name, rate in (options.rates or {}).items()
    }
    return Limited(_with_some(kinds, Table(reached), Table(reached_rates)), reached, reached_rates)


def _with_some(kinds: dict[int, Kind], capacities: Table, rates: Table) -> dict[int, Kind]:
    """Return the limits of the atoms of which some may be reached."""
    some = {
        kind: any(
            value is not None
            for template, _ in kind.limits
            for table in (capacities, rates)
            for _, value in table.possible(template)
        )
        for kind in set(kinds.values())
    }
    return {i: kind for i, kind in kinds.items() if some[kind]}


def _repeats(plan: Plan) -> bool:
    """Tell whether an atom may be executed, or undone, more than once in a run."""
    return any(isinstance(atom, retry.Retry) for atom in plan.atoms) or any(
        controls.revert_retry is not None for controls in plan.controls.values()
    )


class _Demand:
    """How much the atoms of a plan take of each limit at most: all together, and one of them.

    :param counts: how many atoms have each kind of limits
    :param table: what the engine has
    """

    def __init__(self, counts: Mapping[Kind, int], table: Table) -> None:
        self._total: Counter[str] = Counter()
        self._most: dict[str, int] = {}
        for kind, count in counts.items():
            mine: Counter[str] = Counter()
            for template, amount in kind.limits:
                mine.update({name: amount for name, _ in table.possible(template)})
            for name, amount in mine.items():
                self._total[name] += amount * count
                self._most[name] = max(self._most.get(name, 0), amount)

    def fits(self, name: str, available: int, width: int | None) -> bool:
        """Tell whether so much is never exceeded.

        :param width: how many calls begin at once at most; None if that is not known
        """
        total = self._total[name]
        return (total if width is None else min(total, self._most.get(name, 0) * width)) <= available


def _check_one(
    atom: Any, arguments_of: frozenset[str], template: str, amount: int, capacities: Table, rates: Table
) -> None:
    try:
        wanted = fields(template)
    except ValueError as error:
        msg = f"Limit {template!r} of task '{atom.name}' is no name: {error}; write '{{host}}' to fill in argument host"
        raise exceptions.CompilationFailure(msg) from None
    unknown = [name for name in wanted if name not in arguments_of]
    if unknown:
        known = ", ".join(map(repr, sorted(arguments_of))) or "none"
        msg = (
            f"Limit {template!r} of task '{atom.name}' names the argument {unknown[0]!r}, which its execute does not "
            f"take; its arguments are: {known}"
        )
        raise exceptions.CompilationFailure(msg)
    if not (capacities.covers(template) or rates.covers(template)):
        pattern = f"{_before_fields(template)}*" if wanted else template
        msg = (
            f"Task '{atom.name}' has the limit {template!r}, and the engine has none of that name: pass "
            f"limits={{{pattern!r}: n}} or rates={{{pattern!r}: '10/s'}} to the engine, or None for no limit"
        )
        raise exceptions.CompilationFailure(msg)
    for name, capacity in capacities.possible(template):
        if capacity is not None and amount > capacity:
            msg = f"Task '{atom.name}' needs {amount} of the limit {template!r}, and limits[{name!r}] is {capacity}"
            raise exceptions.CompilationFailure(f"{msg}: raise that, or let the task take less")
    for name, (tokens, _) in rates.possible(template):
        if amount > tokens:
            msg = f"Task '{atom.name}' takes {amount} of the rate {template!r}, and rates[{name!r}] never has more "
            raise exceptions.CompilationFailure(f"{msg}than {tokens} at once: give it more, or let the task take less")
