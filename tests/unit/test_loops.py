"""Loops in a `try`: in CPython 3.13 the end of a turn of `while condition` is not in the `try` or `with` around it.

A signal handler may raise there, and no `except`, `finally` or `__exit__` would run. So such a loop is in a function of
its own, or is a `while True` with a `break`.
"""

import dis
import itertools
import pathlib
import sys
import types

import pytest

import taskflowx

#: where it does no harm, and why
HARMLESS = {
    "generators that hold nothing": {
        "Own._asking", "Scope._levels", "Scope.candidates", "Vetoes.readmitted", "_had_by", "nested_flows",
        "FailureFormatter._lines", "_expand", "_walk", "Node._walk", "Node.path_iter", "TimeLimits._flows_around",
        "Links._near", "_verdicts",
    },
    "comprehensions, which put back their variable alone": {
        "Timers.atoms_in", "TimeLimits._begun_in", "Walk.roll_back",
    },
    "coroutines, at what they await": {"Awaited.to_the_end", "Awaited.one_by_one", "Callbacks._work", "events"},
    "exceptions are suppressed there, and nothing else is done": {
        "ThreadsExecutor.recall", "ThreadsExecutor.unchain", "_drop",
    },
    "in threads of their own, where no signal handler runs": {"Pump._look_after", "Blobs._keep", "_Run._hear"},
    "in a `finally` already": {"end_all"},
    "of a test": {
        "_Driver._live",
        "Contract.test_stop_waits_for_calls_that_run", "Contract.test_a_coroutine_is_cancelled_or_given_up",
        "Contract.test_an_interrupt_of_a_call_that_has_ended_changes_nothing",
        "Contract.test_a_call_that_does_not_end_is_stopped_or_given_up",
    },
}  # fmt: skip


def codes(code):
    """Iterate over a code object and all in it."""
    yield code
    for part in code.co_consts:
        if isinstance(part, types.CodeType):
            yield from codes(part)


def outside(code):
    """Tell whether a turn of a loop ends outside of the `try` in which the loop is."""
    entries = dis.Bytecode(code).exception_entries

    def covered(offset):
        return any(one.start <= offset < one.end for one in entries)

    return any(
        later.opname == "JUMP_BACKWARD"
        and covered(before.offset)
        and not covered(later.offset)
        and covered(later.argval)
        for before, later in itertools.pairwise(dis.Bytecode(code))
    )


@pytest.mark.skipif(sys.version_info[:2] != (3, 13), reason="compiled differently before, and mended since")
def test_no_loop_in_a_try_has_an_end_outside_of_it():
    found = {
        code.co_qualname
        for path in pathlib.Path(taskflowx.__file__).parent.rglob("*.py")
        for code in codes(compile(path.read_text(encoding="utf-8"), str(path), "exec"))
        if outside(code)
    }
    assert found - set().union(*HARMLESS.values()) == set()
