"""How methods are called: one `Caller` for all atoms that take the same arguments from the same kind of sources.

To collect arguments in a dict and to pass that on costs more than all else that the engine does for an atom. A caller
that is often used therefore has functions that are written out and compiled for it, as `dataclasses` writes an
`__init__`: they read each source, and call the method with its arguments by name, between its hooks. At first its
functions do the same in a loop, for to compile takes as long as a hundred calls.

Invariant: arguments are passed by name, and the method is looked up on the atom when it is called.
"""

from __future__ import annotations

import functools
import keyword
import math
from collections.abc import Callable
from typing import Any

from taskflowx import states
from taskflowx.atom import REVERT_FLOW_FAILURES, REVERT_RESULT
from taskflowx.types.failure import Failure

#: what a revert takes: the result, the failures of the flow, arguments that are bound
TAKES_RESULT, TAKES_FAILURES, BOUND = 1, 2, 4
TAKES_BOTH = TAKES_RESULT + TAKES_FAILURES
#: the `takes` of an execute
EXECUTES = -1

#: what a call gives when a source has no value, before anything of the atom is called; a Failure, so that one look at
#: the class of an outcome tells all that does not go on as it should
UNRESOLVED = Failure.from_exception(LookupError("a source of an argument has no value"))

_OFTEN = 64  # calls after which it pays to compile


class Caller:
    """Calls one method of atoms that take the same arguments.

    :param args: the names of the arguments
    :param keys: for each one, the index or key in the result of its source, or None for all of that
    :param takes: EXECUTES, or for a revert the sum of TAKES_RESULT and TAKES_FAILURES
    """

    __slots__ = ("_used", "args", "call", "fill", "keys", "takes")

    #: gives the arguments by name, from their sources; None when one has no value
    fill: Callable[[tuple[Any, ...]], dict[str, Any] | None]
    #: takes an atom and the sources, for a revert also the result and the failures; calls the method between its hooks
    call: Callable[..., Any]

    def __init__(self, args: tuple[str, ...], keys: tuple[Any, ...], takes: int) -> None:
        self.args = args
        self.keys = keys
        self.takes = takes
        self._used: float = 0

    def __getattr__(self, name: str) -> Any:
        """Return `fill` or `call` until they are written out.

        They are not stored: of a large flow with many names, most callers are used once.
        """
        if name == "fill":
            return self._fill
        if name == "call":
            return self._execute if self.takes == EXECUTES else self._revert
        raise AttributeError(name)

    def _fill(self, sources: tuple[Any, ...]) -> dict[str, Any] | None:
        self._used += 1
        if self._used >= _OFTEN:
            self._used = -math.inf
            if all(arg.isascii() and arg.isidentifier() and not keyword.iskeyword(arg) for arg in self.args):
                self.fill, self.call = _written(self.args, self.keys, self.takes)
        arguments = {}
        try:
            for arg, key, source in zip(self.args, self.keys, sources, strict=True):
                if source.state != states.SUCCESS:
                    return None
                arguments[arg] = source.results if key is None else source.results[key]
        except Exception:
            return None
        return arguments

    def _execute(self, atom: Any, sources: tuple[Any, ...]) -> Any:
        arguments = self._fill(sources)
        if arguments is None:
            return UNRESOLVED
        try:
            atom.pre_execute()
            return atom.execute(**arguments)
        finally:
            atom.post_execute()

    def _revert(self, atom: Any, sources: tuple[Any, ...], result: Any, failures: Any) -> Any:
        arguments = self._fill(sources)
        if arguments is None:
            return UNRESOLVED
        if self.takes & TAKES_RESULT:
            arguments[REVERT_RESULT] = result
        if self.takes & TAKES_FAILURES:
            arguments[REVERT_FLOW_FAILURES] = failures
        try:
            atom.pre_revert()
            return atom.revert(**arguments)
        finally:
            atom.post_revert()


@functools.lru_cache(maxsize=1024)
def caller(args: tuple[str, ...], keys: tuple[Any, ...], takes: int) -> Caller:
    """Return the caller for arguments and keys; the same one for all flows."""
    return Caller(args, keys, takes)


class _NoCaller:
    """Calls nothing: some argument has no source, and is to be looked for when the atom runs."""

    __slots__ = ()

    def fill(self, _sources: tuple[Any, ...]) -> None:
        """Give nothing."""

    def call(self, *_: Any) -> Any:
        """Return UNRESOLVED."""
        return UNRESOLVED


NO_CALLER: Any = _NoCaller()


_TEMPLATE = """
def fill(sources):
    {sources}, = sources
    try:
        if {unbound}:
            return None
        return {{{items}}}
    except Exception:
        return None

def call({parameters}):
    {sources}, = sources
    try:
        if {unbound}:
            return UNRESOLVED
        {values}
    except Exception:
        return UNRESOLVED
    try:
        atom.pre_{method}()
        return atom.{method}({arguments})
    finally:
        atom.post_{method}()
"""


def _written(args: tuple[str, ...], keys: tuple[Any, ...], takes: int) -> tuple[Any, Any]:
    """Return `fill` and `call` for some arguments, written out."""
    known: dict[str, Any] = {"UNRESOLVED": UNRESOLVED, "SUCCESS": states.SUCCESS}
    known.update((f"key{n}", key) for n, key in enumerate(keys))
    reads = [f"source{n}.results" + ("" if key is None else f"[key{n}]") for n, key in enumerate(keys)]
    given = {arg: f"value{n}" for n, arg in enumerate(args)}
    parameters = "atom, sources"
    if takes != EXECUTES:
        parameters += ", result, failures"
        if takes & TAKES_RESULT:
            given[REVERT_RESULT] = "result"
        if takes & TAKES_FAILURES:
            given[REVERT_FLOW_FAILURES] = "failures"
    method = states.EXECUTE if takes == EXECUTES else states.REVERT
    text = _TEMPLATE.format(
        sources=", ".join(f"source{n}" for n in range(len(args))),
        unbound=" or ".join(f"source{n}.state != SUCCESS" for n in range(len(args))),
        items=", ".join(f"{arg!r}: {read}" for arg, read in zip(args, reads, strict=True)),
        parameters=parameters,
        values="; ".join(f"value{n} = {read}" for n, read in enumerate(reads)),
        method=method.lower(),
        arguments=", ".join(f"{arg}={value}" for arg, value in given.items()),
    )
    exec(compile(text, f"<call of {method.lower()}({', '.join(args)})>", "exec"), known)  # noqa: S102 - names of arguments
    return known["fill"], known["call"]
