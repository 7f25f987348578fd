"""Describes failures for logs: the exception, and a tree of the predecessors of the atom that failed.

`FailureFormatter` is used by `listeners.logging`, and by users with reports of their own.

    3 predecessors (most recent first):
      Atom 'resize' {'intention': 'EXECUTE', 'state': 'SUCCESS', 'requires': {'size': 4}, 'provides': 'vol-1'}
      |__Atom 'create' {'intention': 'EXECUTE', 'state': 'SUCCESS', 'requires': {}, 'provides': 'vol-1'}
         |__Flow 'volume'

What must stay true: a formatter never raises because of the values in a run; a masked or hidden value is in no text;
the cost is that of the text.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from taskflowx import exceptions, flow, retry, states
from taskflowx._util import arguments
from taskflowx._util.masking import MASK, mask, mask_outputs

if TYPE_CHECKING:
    from taskflowx.engines.base import Engine
    from taskflowx.engines.plan import FlowRange, Plan
    from taskflowx.types.failure import ExcInfo, Failure

    #: an atom is its index in the Plan, a flow the inverted index (~) of its range
    Node = int


class Candidate(NamedTuple):
    """The argument of an atom matcher: `item` is an atom or a flow."""

    item: Any


class AtomNamed:
    """The atom matcher for one name; the formatter can look it up without a search."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __call__(self, candidate: Any) -> bool:
        """Tell whether the candidate has that name."""
        return bool(getattr(candidate.item, "name", None) == self.name)


def names_of(given: Iterable[str] | None, argument: str) -> frozenset[str]:
    """Return the names in an argument as a set; a single str is one name."""
    names = (given,) if isinstance(given, str) else given or ()
    arguments.check_iterable(argument, names, "a name (str) or an iterable of names")
    return frozenset(names)


class FailureFormatter:
    """Describes failures of one engine's run.

    :param engine: the engine
    :param hide_inputs_outputs_of: names of atoms whose values are not shown
    :param mask_inputs_keys: names of arguments, and keys in their values, whose values are masked
    :param mask_outputs_keys: names that atoms provide, and keys in their results, whose values are masked
    :param limit: the maximum number of lines of predecessors; None for no limit
    """

    def __init__(
        self,
        engine: Engine,
        hide_inputs_outputs_of: Iterable[str] = (),
        mask_inputs_keys: Iterable[str] = (),
        mask_outputs_keys: Iterable[str] = (),
        *,
        limit: int | None = 1000,
    ) -> None:
        arguments.check_like("engine", engine, ("compilation", "storage"), "an engine")
        self._engine: Any = engine
        self._hide_inputs_outputs_of = names_of(hide_inputs_outputs_of, "hide_inputs_outputs_of")
        self._mask_inputs_keys = names_of(mask_inputs_keys, "mask_inputs_keys")
        self._mask_outputs_keys = names_of(mask_outputs_keys, "mask_outputs_keys")
        self._limit = limit

    def format(self, fail: Failure, atom_matcher: Callable[[Any], object]) -> tuple[ExcInfo | None, str]:
        """Describe a failure.

        The first part is the failure's exception in the form of `sys.exc_info`, or None if it no longer has one; then
        its description is the beginning of the text. The predecessors of the atom that failed in `execute` follow.

        :param atom_matcher: called with candidates, whose `item` is an atom or a flow, until it returns true: the
            predecessors of that one are shown
        """
        arguments.check_like("fail", fail, ("exc_info", "pformat"), "a Failure")
        arguments.check_callable("atom_matcher", atom_matcher)
        parts = [] if fail.exc_info else [fail.pformat(traceback=True)]
        compilation = self._engine.compilation
        if compilation is not None:
            plan = compilation.plan
            node = _find(plan, atom_matcher)
            if node is not None and self._was_executing(plan, node):
                parts.append(self._describe(plan, node))
        return fail.exc_info, "\n".join(parts)

    def _keys(self, given: frozenset[str]) -> frozenset[str]:
        """Return the names of what is masked: those given, and those of the sensitive values of the run."""
        secrets = self._engine.storage.writes.secrets
        return given if secrets is None else given | secrets.names.keys()

    def _was_executing(self, plan: Plan, node: Node) -> bool:
        """Tell whether predecessors of a node may be the reason of its failure: not after it was reverted."""
        if node < 0:
            return True
        name, storage = plan.atoms[node].name, self._engine.storage
        try:
            state, intention = storage.get_atom_state(name), storage.get_atom_intention(name)
        except exceptions.NotFound:  # not prepared yet
            return False
        return bool(state == states.FAILURE or intention == states.EXECUTE)

    def _describe(self, plan: Plan, node: Node) -> str:
        lines = self._lines(plan, node)
        shown = list(itertools.islice(lines, self._limit))
        if next(lines, None) is None:
            return "\n".join([f"{len(shown)} predecessors (most recent first):", *(shown or [""])])
        head = f"more than {len(shown)} predecessors (most recent first):"
        return "\n".join([head, *shown, "  (those further back are not shown)"])

    def _lines(self, plan: Plan, node: Node) -> Iterator[str]:
        """Iterate over the lines of the tree; a common predecessor is shown below the first of its successors."""
        shown: set[Node] = set()
        # Each entry: an iterator over siblings, their prefix, and the connector to the line above.
        stack = [(_siblings(plan, node), "  ", "")]
        while stack:
            siblings, margin, joint = stack[-1]
            following = next(siblings, None)
            if following is None:
                stack.pop()
                continue
            current, is_last = following
            if current in shown:
                yield f"{margin}{joint}{_title(plan, current)} (shown above)"
                continue
            shown.add(current)
            yield f"{margin}{joint}{_title(plan, current)}{self._facts(plan, current)}"
            further = "" if not joint else "   " if is_last else "|  "
            stack.append((_siblings(plan, current), margin + further, "|__"))

    def _facts(self, plan: Plan, node: Node) -> str:
        """Return the text of a node after its name: for an atom, state and values."""
        if node < 0:
            return ""
        atom, storage = plan.atoms[node], self._engine.storage
        name = atom.name
        facts = {"intention": storage.get_atom_intention(name), "state": storage.get_atom_state(name)}
        if name in self._hide_inputs_outputs_of:
            return f" {facts}"
        try:
            return f" {facts | self._values(node, atom)}"
        except Exception as error:  # noqa: BLE001 - values are the user's, and so is their `repr`
            return f" {facts} (its values cannot be shown: {type(error).__name__})"

    def _values(self, i: int, atom: Any) -> dict[str, Any]:
        """Return the arguments and the result of an atom, each only if it is known."""
        values: dict[str, Any] = {}
        keys = self._keys(self._mask_inputs_keys)
        try:
            arguments = self._engine.preparation.binder.execute_arguments(i)  # storage would search by name
        except exceptions.NotFound:
            pass
        else:
            if isinstance(atom, retry.Retry):
                arguments.pop(retry.EXECUTE_REVERT_HISTORY, None)
            if keys:
                secret = {arg for arg, name in atom.rebind.items() if name in keys}
                arguments = {
                    arg: MASK if arg in secret or arg in keys else mask(value, keys) for arg, value in arguments.items()
                }
            values["requires"] = arguments
        keys = self._keys(self._mask_outputs_keys)
        try:
            if isinstance(atom, retry.Retry):
                attempts = self._engine.storage.get_retry_history(atom.name)
                values["provides"] = [(mask_outputs(atom, value, keys), failures) for value, failures in attempts]
            else:
                values["provides"] = mask_outputs(atom, self._engine.storage.get_execute_result(atom.name), keys)
        except exceptions.NotFound:
            pass
        return values


def _find(plan: Plan, matcher: Callable[[Any], object]) -> Node | None:
    """Return the atom, or else the flow, that a matcher accepts."""
    if isinstance(matcher, AtomNamed) and matcher.name in plan.names:
        return plan.names[matcher.name]
    for i, atom in enumerate(plan.atoms):
        if atom is not None and matcher(Candidate(atom)):
            return i
    for home, span in enumerate(plan.ranges):
        if matcher(Candidate(span.flow)):
            return ~home
    return None


def _title(plan: Plan, node: Node) -> str:
    return f"Atom '{plan.atoms[node].name}'" if node >= 0 else f"Flow '{plan.ranges[~node].flow.name}'"


def _siblings(plan: Plan, node: Node) -> Iterator[tuple[Node, bool]]:
    """Iterate over (predecessor of the node, whether it is the last one)."""
    before = list(_before(plan, node))
    return ((earlier, place == len(before)) for place, earlier in enumerate(before, 1))


def _before(plan: Plan, node: Node) -> Iterable[Node]:
    """Return the direct predecessors of a node: atoms, and the flow that begins with it.

    The end of a flow is no node: the successors of a flow follow its last atoms.
    """
    if node >= 0:
        home, preds = plan.flow_of[node], plan.pred[node]
    else:
        span = plan.ranges[~node]
        home, preds = span.parent, plan.pred[span.lo]
        if home < 0:
            return ()
    span = plan.ranges[home]
    return dict.fromkeys(_expand(plan, span, home, preds)) or _begin(plan, home)


def _expand(plan: Plan, span: FlowRange, home: int, preds: Iterable[int]) -> Iterator[Node]:
    """Iterate over predecessors; a barrier is replaced by its predecessors, and those before the flow by the flow."""
    pending = list(reversed(list(preds)))
    while pending:
        p = pending.pop()
        if p < span.lo:
            yield from _begin(plan, home)
        elif plan.atoms[p] is None:
            pending.extend(reversed(plan.pred[p]))
        else:
            yield p


def _begin(plan: Plan, home: int) -> tuple[Node, ...]:
    """Return the node of the flow, as its own beginning; a single task that is run without a flow has none."""
    return (~home,) if home or isinstance(plan.flow, flow.Flow) else ()
